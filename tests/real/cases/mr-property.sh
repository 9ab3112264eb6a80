#!/usr/bin/env bash
# limit: 900
# Random jobs over random inputs against an oracle (tests/real/mr_property.py): every record once, in its place, --local the same.
. "$TOP/tests/real/lib.sh"
command -v zstd >/dev/null || skip "there is no zstd here"
mkdir "$WORK/p"; python3 "$TOP/tests/real/mr_property.py" "$QFS" "$WORK/p" "${SEEDS:-60}"
