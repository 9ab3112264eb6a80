#!/usr/bin/env bash
# limit: 300
# up, down, status: starts what does not run, continues with all data, stops exactly what it started.
. "$TOP/tests/real/lib.sh"
up
echo hello > "$M/f"
q status -C "$D" | tee "$WORK/status"
grep -q leader "$WORK/status" || die "no leader in status"
[ "$(q status -C "$D" --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["quorum"])')" = True ] || die "no quorum"
grep -q "$M" "$WORK/status" || die "the mount is not in status"
say "up again: nothing to start"
up | grep -q "0 of them started now" || die "it started something"
say "another process named like ours is left alone"
cp "$(command -v sleep)" "$WORK/quorumfs"
"$WORK/quorumfs" 300 &
other=$!
down
kill -0 $other || die "down stopped a process that up did not start"
kill $other
[ -z "$(pgrep -f "quorumfs node.*$D/")" ] || die "a node is left"
mountpoint -q "$M" && die "still mounted"
q status -C "$D" && die "status of a stopped cluster must not succeed"
up
[ "$(cat "$M/f")" = hello ] || die "the file is gone after down and up"
say "a dead mount is repaired"
kill -9 "$(cat "$D/mnt.pid")"
until_ok 5 sh -c "! ls $M"
up
[ "$(cat "$M/f")" = hello ] || die "not repaired"
say "one dead node is started again by up"
n=$(leader); kill -9 "$(pid_of "$n")"
until_ok 20 kv put x y
up | grep -q "1 of them started now" || die "it did not start one"
agree
say "a mount whose process is frozen is told of"
kill -STOP "$(cat "$D/mnt.pid")"
c=0; up 2> "$WORK/err" || c=$?
kill -CONT "$(cat "$D/mnt.pid")"
[ $c = 1 ] && grep -q "does not answer" "$WORK/err" || die "up with a frozen mount: exit $c, $(cat "$WORK/err")"
[ "$(cat "$M/f")" = hello ] || die "the mount did not go on"
down
say "what still dies when up looks - it holds its lock until its last write is through - is started when it is dead"
hold() { flock "$1" sleep 3 & until_ok 5 sh -c "! flock -n $1 true"; }
hold "$D/n2/lock"; hold "$D/n3/lock"
up --wait 30s | grep -q "3 of them started now" || die "not all were started"
[ "$(cat "$M/f")" = hello ] || die "the file is gone"
kill -9 "$(cat "$D/mnt.pid")"
until_ok 5 sh -c "flock -n $D/mnt.pid true"
hold "$D/mnt.pid"
up
[ "$(cat "$M/f")" = hello ] || die "the mount that was dying was not replaced"
agree
down
