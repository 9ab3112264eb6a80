#!/usr/bin/env bash
# limit: 900
# long: yes
# All processes are killed at a random moment during writes, 20 times: what was fsynced, or answered to `kv put`, is there.
. "$TOP/tests/real/lib.sh"
up
cat > "$WORK/writer.py" <<'P'
"""writes numbered files with fsync, appends to one file with fsync, renames; notes what was acknowledged, outside the mount"""
import os, sys
mnt, notes, rnd = sys.argv[1], open(sys.argv[2], "ab", buffering=0), int(sys.argv[3])
d = f"{mnt}/r{rnd}"
os.makedirs(d, exist_ok=True)
fd = os.open(f"{d}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
i = 0
while True:
    body = (b"%d " % i) * (1 + (i * 7919) % 3000)
    f = os.open(f"{d}/t{i}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(f, body); os.fsync(f); os.close(f)
    os.rename(f"{d}/t{i}", f"{d}/f{i}")
    os.write(fd, b"%d\n" % i); os.fsync(fd)
    notes.write(b"%d %d\n" % (rnd, i))
    i += 1
P
cat > "$WORK/verify.py" <<'P'
import sys
mnt, last, n = sys.argv[1], {}, 0
for l in open(sys.argv[2]):
    r, i = map(int, l.split()); last[r] = i
for r, top in last.items():
    log = open(f"{mnt}/r{r}/log").read().split("\n")
    assert log[:top + 1] == [str(i) for i in range(top + 1)], (r, top, len(log))
    for i in range(top + 1):
        got = open(f"{mnt}/r{r}/f{i}", "rb").read()
        assert got == (b"%d " % i) * (1 + (i * 7919) % 3000), (r, i, len(got)); n += 1
print(n, "acknowledged files intact")
P
: > "$WORK/notes"; : > "$WORK/puts"
for r in $(seq 20); do
    python3 "$WORK/writer.py" "$M" "$WORK/notes" $r 2>/dev/null & w=$!
    (i=0; while kv --timeout 20s put "p$r/$i" "value $r $i" 2>/dev/null; do echo "p$r/$i value $r $i" >> "$WORK/puts"; i=$((i + 1)); done) & p=$!
    sleep "0.$((RANDOM % 9 + 1))"; sleep $((RANDOM % 2))
    kill -9 "$(pid_of 1)" "$(pid_of 2)" "$(pid_of 3)" "$(cat "$D/mnt.pid")"
    kill -9 $w $p 2>/dev/null; wait $w $p 2>/dev/null || true
    pkill -9 -f "kv -C $D" || true
    up >/dev/null
done
[ "$(wc -l < "$WORK/notes")" -gt 20 ] || die "hardly anything was written: $(wc -l < "$WORK/notes")"
python3 "$WORK/verify.py" "$M" "$WORK/notes"
while read -r k v; do [ "$(cat "$M/$k")" = "$v" ] || die "put $k is gone"; done < "$WORK/puts"
echo "$(wc -l < "$WORK/puts") acknowledged puts intact"
agree; down
