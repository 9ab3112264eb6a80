#!/usr/bin/env bash
# limit: 200
# A leader that is stopped hands over, and one that is killed is noticed by its broken connections: with an election
# timeout of 10 s the next one leads at once, or as soon as the dead one's word binds nobody any more (half of it).
. "$TOP/tests/real/lib.sh"
list="1=$(addr 1),2=$(addr 2),3=$(addr 3)"
C=$(addr 1),$(addr 2),$(addr 3)
start() { node "$1" --cluster "$list" --heartbeat 500ms --election 10s; }
all_follow() { [ "$(q status -C "$C" | grep -c ' voter ')" = 3 ]; }
for i in 1 2 3; do start $i; done
until_ok 60 q kv put key 0 -C "$C"
for i in 1 2 3 4; do
    until_ok 30 all_follow
    old=$(leader)
    p=$(pid_of "$old")
    if [ $((i % 2)) = 1 ]; then
        say "server $old leads and is stopped"
        kill -TERM "$p"
        wait "$p" || die "it ends with $?"
        limit=4s
    else
        say "server $old leads and is killed"
        kill -9 "$p"
        wait "$p" 2>/dev/null || true
        limit=9s
    fi
    [ "$(q kv get key -C "$C" --timeout $limit)" = $((i - 1)) ] || die "no other leader within $limit, or it knows less"
    [ "$(leader)" != "$old" ] || die "the dead leader leads"
    q kv put key $i -C "$C"
    start "$old"
done
