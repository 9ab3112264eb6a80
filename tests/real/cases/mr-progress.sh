#!/usr/bin/env bash
# What a job shows while it runs: a bar that fits any terminal and leaves nothing behind, plain lines in a pipe, JSON lines on request.
. "$TOP/tests/real/lib.sh"
cd "$WORK"
exec python3 "$TOP/tests/real/mr_progress.py" "$QFS"
