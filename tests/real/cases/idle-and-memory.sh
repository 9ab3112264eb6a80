#!/usr/bin/env bash
# limit: 900
# long: yes
# alone: yes
# Idle nodes and mount burn no CPU; a node with 100,000 small files stays under 150 MB.
. "$TOP/tests/real/lib.sh"
up
cpu() { awk '{print $14 + $15}' "/proc/$1/stat"; }
say "100,000 small files"
python3 - "$M" <<'P'
import os, sys, threading
def make(t):
    for d in range(t, 100, 8):
        os.mkdir(f"{sys.argv[1]}/d{d:02}")
        for i in range(1000):
            fd = os.open(f"{sys.argv[1]}/d{d:02}/f{i:04}", os.O_WRONLY | os.O_CREAT); os.write(fd, b"x" * (i % 200)); os.close(fd)
ts = [threading.Thread(target=make, args=(t,)) for t in range(8)]
[t.start() for t in ts]; [t.join() for t in ts]
P
agree
for n in 1 2 3; do
    rss=$(awk '/VmRSS/ {print $2}' "/proc/$(pid_of $n)/status"); echo "node $n: $rss KiB"
    [ "$rss" -lt 150000 ] || die "node $n: $rss KiB"
done
say idle
sleep 5         # let checkpoints end
pids="$(pid_of 1) $(pid_of 2) $(pid_of 3) $(cat "$D/mnt.pid")"
for p in $pids; do cpu "$p" > "$WORK/cpu.$p"; done
sleep 20
for p in $pids; do
    used=$(($(cpu "$p") - $(cat "$WORK/cpu.$p")))
    echo "pid $p: $used ticks of 10 ms in 20 s"
    [ $used -lt 20 ] || die "process $p used $used ticks in 20 s idle: more than 1 % of a core"
done
say "restart with all of them"
down; up
[ "$(ls "$M" | wc -l)" = 100 ] && [ "$(ls "$M/d42" | wc -l)" = 1000 ] || die "files are missing"
agree; down
