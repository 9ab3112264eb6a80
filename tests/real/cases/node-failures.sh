#!/usr/bin/env bash
# limit: 900
# Nodes are killed and frozen while people work: no program sees an error, the result is byte-identical.
. "$TOP/tests/real/lib.sh"
up
src=$WORK/src; mkdir "$src"
for d in raft kv fs base mount io; do cp -r "$TOP/$d" "$src/"; done
head -c 20000000 /dev/urandom > "$src/big"
listing "$src" | sed 's/ [0-9.]*$//' > "$WORK/want"
round() {       # NAME, COMMAND: runs the copy, meanwhile the command
    say "$1"
    cp -r "$src" "$M/$1" > "$WORK/cp.log" 2>&1 & job=$!
    until_ok 30 test -e "$M/$1"
    eval "$2"
    wait $job || { cat "$WORK/cp.log"; die "cp failed while: $1"; }
    [ ! -s "$WORK/cp.log" ] || die "cp complained: $(cat "$WORK/cp.log")"
    diff -r "$src" "$M/$1" || die "the copy differs: $1"
    up >/dev/null; agree
}
round leader-killed 'kill -9 "$(pid_of "$(leader)")"'
round follower-killed 'kill -9 "$(pid_of "$(follower)")"'
round leader-frozen 'p=$(pid_of "$(leader)"); kill -STOP $p; (sleep 10; kill -CONT $p) & thaw=$!'; wait $thaw
round follower-frozen 'p=$(pid_of "$(follower)"); kill -STOP $p; (sleep 5; kill -CONT $p) & thaw=$!'; wait $thaw
round leaders-one-after-the-other 'for i in 1 2 3; do kill_node "$(leader)"; up >/dev/null; done'
say "reads go on, too, while the leader dies"
(for i in $(seq 300); do cmp "$src/big" "$M/leader-killed/big" && diff -r "$src/raft" "$M/leader-frozen/raft" || exit 1; [ -e "$WORK/stop" ] && exit 0; done) & reader=$!
for i in 1 2 3; do kill_node "$(leader)"; up > /dev/null; done
touch "$WORK/stop"; wait $reader || die "a read failed"
down
