#!/usr/bin/env bash
# limit: 900
# long: yes
# A cluster that never stops taking small puts keeps its log, disk and memory bounded, and a node that was down meanwhile catches
# up, by snapshot. (Small segments and checkpoints, so that many rounds of compaction fit into the time.)
. "$TOP/tests/real/lib.sh"
mkdir -p "$D/log"
members=$(for i in 1 2 3; do printf '%s%d=unix:%s/n%d.sock' "$([ $i = 1 ] || echo ,)" $i "$D" $i; done)
printf 'quorumfs cluster 1\n1 unix:n1.sock\n2 unix:n2.sock\n3 unix:n3.sock\n' > "$D/cluster"
start() { q node --id $1 --data "$D/n$1" --listen "unix:$D/n$1.sock" --cluster "$members" --checkpoint 2M --segment 1M --trail 8M >> "$D/log/n$1.log" 2>&1 & }
start 1; start 2; start 3; leader > /dev/null
mkdir "$M"; q mount --pidfile "$D/mnt.pid" --log "$D/log/mnt.log" "$D" "$M"
mkdir "$M/keep"; for i in 1 2 3 4 5 6 7 8; do head -c 300000 /dev/urandom > "$M/keep/$i"; done; (cd "$M/keep" && sha256sum *) > "$WORK/sums"
cat > "$WORK/put.py" <<'P'
import os, sys, time
end, i = time.time() + float(sys.argv[2]), 0
while time.time() < end:
    k = f"{sys.argv[1]}/key{i % 500}"
    fd = os.open(k, os.O_WRONLY | os.O_CREAT | os.O_TRUNC); os.write(fd, b"%08d" % i * (40 + i % 100)); os.close(fd); i += 1
print(i, "puts")
P
mkdir "$M/p"
python3 "$WORK/put.py" "$M/p" 20
down_node=$(follower); at=$(field "$down_node" commit); kill -9 "$(pid_of "$down_node")"
first=$(du -sk --apparent-size "$D/n$(leader)" | cut -f1)
python3 "$WORK/put.py" "$M/p" 40
l=$(leader)
second=$(du -sk --apparent-size "$D/n$l" | cut -f1); rss=$(awk '/VmRSS/ {print $2}' "/proc/$(pid_of "$l")/status")
echo "disk of the leader: $first KiB, after 40 s more of puts: $second KiB; memory $rss KiB; checkpoint at $(field "$l" checkpoint)"
[ "$second" -lt $((first + 30000)) ] && [ "$second" -lt 80000 ] || die "the disk grows: $first -> $second KiB"
[ "$rss" -lt 200000 ] || die "memory: $rss KiB"
until [ "$(field "$(leader)" first)" -gt $((at + 100)) ]; do python3 "$WORK/put.py" "$M/p" 5; done  # a slow disk takes longer
say "the node that was down catches up by snapshot"
start "$down_node"; agree
[ "$(field "$down_node" snapshots_installed)" -ge 1 ] || die "no snapshot was installed"
(cd "$M/keep" && sha256sum -c --quiet "$WORK/sums") || die "kept files"
say "and can lead: every byte is there"
for n in 1 2 3; do [ $n = "$down_node" ] || { kill -9 "$(pid_of $n)"; sleep 0.2; start $n; }; done
agree; (cd "$M/keep" && sha256sum -c --quiet "$WORK/sums") || die "kept files after restarts"
say "an emptied disk comes back by itself"
e=$(follower); kill -9 "$(pid_of "$e")"; rm -rf "$D/n$e"; start "$e"; agree
[ "$(field "$e" standing)" = voter ] || until_ok 10 test "$(field "$e" standing)" = voter
kill -9 "$(pid_of "$(leader)")"; until_ok 20 kv put last one
(cd "$M/keep" && sha256sum -c --quiet "$WORK/sums") || die "kept files at the end"
for n in 1 2 3; do kill -0 "$(pid_of $n)" 2>/dev/null || start $n; done; agree
umount "$M"; until_ok 10 sh -c "! kill -0 $(cat "$D/mnt.pid") 2>/dev/null"
for n in 1 2 3; do kill "$(pid_of $n)"; done; wait
