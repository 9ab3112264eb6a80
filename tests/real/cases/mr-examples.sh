#!/usr/bin/env bash
# limit: 900
# The worked examples of docs/MAPREDUCE.md, extracted and run as written, in a mount and with --local: they print what it says.
. "$TOP/tests/real/lib.sh"
python3 - "$TOP/docs/MAPREDUCE.md" "$WORK" <<'P'
import re, sys
text = open(sys.argv[1]).read()
text = text[text.index("## Five worked examples"):]
text = text[:text.index("\n## ", 5)]
examples = re.findall(r"^### (\d)\. .*?^```sh\n(.*?)^```\n.*?^```text\n(.*?)^```$", text, re.M | re.S)
assert [e[0] for e in examples] == list("12345"), [e[0] for e in examples]
for n, script, want in examples:
    assert "quorumfs mr run" in script and want.strip()
    open(f"{sys.argv[2]}/{n}.sh", "w").write(script)
    open(f"{sys.argv[2]}/{n}.want", "w").write(want)
P
mkdir "$WORK/bin"; ln -s "$QFS" "$WORK/bin/quorumfs"; export PATH="$WORK/bin:$PATH" MR_H="$TOP/mr"
# run N DIR: what it prints ends with what the page says
run() {
    mkdir "$2"; cd "$2"
    bash -euo pipefail "$WORK/$1.sh" > "$WORK/out" 2> "$WORK/err" || { cat "$WORK/out" "$WORK/err"; die "example $1"; }
    tail -n "$(wc -l < "$WORK/$1.want")" "$WORK/out" | diff "$WORK/$1.want" - || die "example $1 prints something else"
    cd "$WORK"
}
up
for n in 1 2 3 4 5; do run $n "$M/$n"; echo "example $n ... ok"; done
agree; down
sed -i 's/^\(quorumfs mr run\) /\1 --local /' "$WORK"/?.sh
for n in 1 2 3 4 5; do grep -q 'mr run --local' "$WORK/$n.sh"; run $n "$WORK/local$n"; done
