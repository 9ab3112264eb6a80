#!/usr/bin/env bash
# limit: 300
# Two mounts of one cluster: what a command finished on one, the next command sees on the other, with no sleep.
. "$TOP/tests/real/lib.sh"
up; second_mount
m2=$WORK/m2
say "one by one"
echo one > "$M/f"; [ "$(cat "$m2/f")" = one ]
echo two >> "$m2/f"; [ "$(cat "$M/f")" = "one
two" ]
mv "$M/f" "$M/g"; [ ! -e "$m2/f" ] && [ -e "$m2/g" ]
chmod 600 "$m2/g"; [ "$(stat -c %a "$M/g")" = 600 ]
truncate -s 3 "$M/g"; [ "$(cat "$m2/g")" = one ]
rm "$m2/g"; [ ! -e "$M/g" ]
say "random operations against a model"
python3 "$TOP/tests/real/model.py" "$M" "$m2" 1 2500
python3 "$TOP/tests/real/model.py" "$m2" "$M" 2 2500
say "both append to one file at once: no line is lost or torn"
for w in 1 2; do m=$M; [ $w = 1 ] || m=$m2
    python3 -c 'import os, sys
fd = os.open(sys.argv[1] + "/log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for i in range(500): os.write(fd, b"%s %d %s\n" % (sys.argv[2].encode(), i, b"x" * (i % 300)))' $m $w & done; wait
python3 - "$M/log" <<'P'
import sys
seen = {b"1": [], b"2": []}
for l in open(sys.argv[1], "rb"):
    w, i, *x = l[:-1].split(b" ")
    assert x == [b"x" * (int(i) % 300)], l
    seen[w].append(int(i))
assert seen == {b"1": list(range(500)), b"2": list(range(500))}
P
say "exclusive creation and rename: one winner"
for i in $(seq 50); do
    (set -C; : > "$M/x$i") 2>/dev/null & a=$!
    (set -C; : > "$m2/x$i") 2>/dev/null & b=$!
    won=0; wait $a && won=$((won + 1)); wait $b && won=$((won + 1))
    [ $won = 1 ] || die "x$i: $won winners"
done
say "unlinked on one mount, open on the other"
echo held > "$M/h"; exec 5<"$m2/h"; rm "$M/h"; [ "$(cat <&5)" = held ] || die "nameless across mounts"; exec 5<&-
say "a listing goes on while the other mount deletes"
mkdir "$M/many"; (cd "$M/many" && seq 2000 | xargs touch)
rm -rf "$m2/many"; [ ! -e "$M/many" ] || die "rm -rf left something"
say "contents replaced, size and mtime set back: the other mount must not show its old pages"
echo aaaa > "$M/s"; touch -d 2020-01-01 "$M/s"; exec 6<"$m2/s"; cat "$m2/s" >/dev/null
echo bbbb > "$M/s"; touch -d 2020-01-01 "$M/s"
[ "$(cat "$m2/s")" = bbbb ] || die "old pages after open"
[ "$(cat <&6)" = bbbb ] || die "old pages on an open descriptor"; exec 6<&-
umount "$m2"
agree; down
