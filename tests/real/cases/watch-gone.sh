#!/usr/bin/env bash
# limit: 200
# A change of more keys than history can tell ends watches with exit code 6 and the revision from which they may go on;
# nothing else is lost.
. "$TOP/tests/real/lib.sh"
gone() {        # what a watch that has ended said: TEXT; prints the revision from which events are there
    grep -q "no longer kept" "$1" || die "it does not say why: $(cat "$1")"
    sed -n 's/.*watch --from \([0-9]*\)$/\1/p' "$1"
}
# watched NAME OPTIONS...: in the background, out to NAME.out and NAME.err, its pid in $!
watched() { n=$1; shift; "$QFS" kv -C "$D" watch "$@" > "$WORK/$n.out" 2> "$WORK/$n.err" & }
up
kv put before 1
r=$(kv list --json --limit 0 | python3 -c 'import json,sys; print(json.load(sys.stdin)["revision"])')
watched live; live=$!
until_ok 20 grep -q "watching from" "$WORK/live.err"

say "a directory of 4224 keys, and its rename"
for t in $(seq 33); do
    for i in $(seq 128); do echo "then put big/$t-$i x"; done > "$WORK/txn"
    kv txn "$WORK/txn" > /dev/null
done
until_ok 30 grep -q "put big/33-128$" "$WORK/live.out"
[ "$(kv watch --from "$r" --limit 2 | wc -l)" = 2 ] || die "the past is gone already"
mv "$M/big" "$M/moved"

say "a watch that had told all before ends with 6, and so does one that asks for the past"
wait $live && c=0 || c=$?
[ $c = 6 ] || die "the live watch: exit $c, $(cat "$WORK/live.err")"
[ "$(wc -l < "$WORK/live.out")" = 4224 ] || die "the live watch told $(wc -l < "$WORK/live.out") events"
c=0; kv watch --from "$r" 2> "$WORK/past.err" || c=$?
[ $c = 6 ] || die "a watch of the past: exit $c"
next=$(gone "$WORK/live.err")
[ "$next" -gt "$r" ] && [ "$(gone "$WORK/past.err")" = "$next" ] || die "the watches say other revisions"

say "the keys listed anew, and a watch from there, miss nothing; also behind another leader"
[ "$(kv list moved/ | wc -l)" = 4224 ] || die "keys are missing"
watched resumed --from "$next" --limit 2 moved/; resumed=$!
until_ok 20 grep -q "watching from" "$WORK/resumed.err"
kv put moved/1-1 again
until_ok 20 grep -q "put moved/1-1$" "$WORK/resumed.out"
kill_node "$(leader)"
until_ok 30 kv delete moved/1-2
wait $resumed && c=0 || c=$?
[ $c = 0 ] && [ "$(tail -1 "$WORK/resumed.out" | cut -d' ' -f2-)" = "delete moved/1-2" ] ||
    die "from $next on: exit $c, $(cat "$WORK/resumed.out" "$WORK/resumed.err")"
c=0; kv watch --from "$r" 2> "$WORK/past.err" || c=$?
[ $c = 6 ] && [ "$(gone "$WORK/past.err")" = "$next" ] || die "another leader's history: exit $c, $(cat "$WORK/past.err")"
down
