#!/usr/bin/env bash
# limit: 300
# Members change while writes run: a fourth is added and promoted, a dead one replaced, the leader removed; an emptied
# disk is refilled and votes again; what would lose quorum or makes no sense is refused, with the reason.
. "$TOP/tests/real/lib.sh"
list="1=$(addr 1),2=$(addr 2),3=$(addr 3)"
all=$(addr 1),$(addr 2),$(addr 3),$(addr 4),$(addr 5),$(addr 6)
C=$all
m() { q member "$@" -C "$all"; }
seats() { m list | awk '$2 ~ /voter|learner/ { printf "%s%s:%s", sep, $1, $2; sep = " " }'; }
expect() { [ "$(seats)" = "$1" ] || die "the members are '$(seats)', not '$1'"; }
refused() {     # TEXT COMMAND...: fails and says TEXT
    want=$1; shift
    if "$@" > "$WORK/out" 2> "$WORK/err"; then die "not refused: $*"; fi
    grep -q "$want" "$WORK/err" || die "refused for another reason: $* ($(cat "$WORK/err"))"
}
for i in 1 2 3; do node $i --cluster "$list"; done
until_ok 30 q kv put first value -C "$all"

say "a mount that knows the first three addresses, and somebody who writes all the time"
mkdir -p "$WORK/m"
q mount --pidfile "$WORK/m.pid" --log "$D/log/mount" "$(addr 1),$(addr 2),$(addr 3)" "$WORK/m"
echo before > "$WORK/m/through-the-mount"
writer() {
    i=0
    while [ ! -e "$WORK/stop" ]; do
        q kv put "w$((i % 50))" "$i" -C "$all" || exit 1
        q kv append trail "$i " -C "$all" || exit 1
        i=$((i + 1))
    done
    echo "$i" > "$WORK/written"
}
writer & writer=$!

say "a learner, then a voter"
refused "does not answer at" m add 4="$(addr 4)"
node 4 --join "$(addr 1)"
m add 4="$(addr 4)" --learner
expect "1:voter 2:voter 3:voter 4:learner"
m list --json | grep -q '"seat": "learner"' || die "the list does not show a learner"
m promote 4
expect "1:voter 2:voter 3:voter 4:voter"
m promote 4 | grep -q "so already" || die "promoting twice is not told"

say "nonsense is refused"
refused "is node 4, not node 7" m add 7="$(addr 4)"
refused "no node 9" m remove 9
refused "no node 9" m promote 9
refused "remove it first" m add 2=unix:/nowhere/else
refused "no node 8" m replace 8 9="$(addr 5)"
refused "another number" m replace 3 3="$(addr 5)"

say "a dead member is replaced, twice over"
victim=$(for n in 1 2 3; do [ "$n" = "$(leader)" ] || { echo "$n"; break; }; done)
end "$victim"
node 5 --join "$(addr 4)"
m replace "$victim" 5="$(addr 5)"
m replace "$victim" 5="$(addr 5)"
seats | grep -q "$victim:" && die "$victim is still a member"
seats | grep -q "5:voter" || die "5 does not vote"

say "the leader is removed"
for n in 1 2 3; do [ "$n" = "$victim" ] || old=$n; done
q transfer "$old" -C "$all"
m remove "$old"
seats | grep -q "$old:" && die "$old is still a member"
[ "$(leader)" != "$old" ] || die "the removed node leads"
now=$(seats)
say "now: $now; leadership is handed to and fro"
for n in $(echo "$now" | tr ' ' '\n' | cut -d: -f1); do
    q transfer "$n" -C "$all"
    [ "$(leader)" = "$n" ] || die "$n does not lead"
done
refused "has no vote" q transfer "$old" -C "$all"

say "what would lose quorum is refused, and the missing node named"
l=$(leader)
others=$(echo "$now" | tr ' ' '\n' | cut -d: -f1 | grep -v "^$l\$")
dead=$(echo "$others" | head -1) alive=$(echo "$others" | tail -1)
end "$dead"
until_ok 10 sh -c "'$QFS' status -C '$all' | grep -q '^$dead .*no answer'"
sleep 1         # the leader's patience with a silent member is an election timeout
refused "node $dead does not answer" m remove "$alive"

say "its disk is emptied: it is refilled and votes again"
rm -rf "$D/n$dead"
node "$dead" --join "$(addr "$l")"
until_ok 60 sh -c "'$QFS' status -C '$all' --json | python3 -c 'import json, sys
m = [m for m in json.load(sys.stdin)[\"members\"] if m[\"id\"] == $dead][0]
sys.exit(0 if m[\"standing\"] == \"voter\" and m[\"vote\"] == \"yes\" else 1)'"
q transfer "$dead" -C "$all"
[ "$(leader)" = "$dead" ] || die "the refilled node does not lead"

say "the last of the first three goes: the mount has followed"
last=$(echo "$now" | tr ' ' '\n' | cut -d: -f1 | grep '^[123]$')
node 6 --join "$(addr 4)"
m replace "$last" 6="$(addr 6)"
now=$(seats)
[ "$now" = "4:voter 5:voter 6:voter" ] || die "the members are $now"
end "$last"
[ "$(cat "$WORK/m/through-the-mount")" = before ] || die "the mount reads something else"
echo after > "$WORK/m/through-the-mount"
q transfer 6 -C "$all"
echo again >> "$WORK/m/through-the-mount"
[ "$(cat "$WORK/m/through-the-mount")" = "after
again" ] || die "the mount lost what was written"

say "restarted from their directories alone, all know the members"
expect "$now"
for n in $(echo "$now" | tr ' ' '\n' | cut -d: -f1); do
    end "$n"
    node "$n"
done
leader > /dev/null
expect "$now"

[ "$(wc -l < "$WORK/m/through-the-mount")" = 2 ] || die "the mount does not find the restarted nodes"
umount "$WORK/m"

say "the writer met no error, and nothing is lost"
touch "$WORK/stop"
wait $writer || die "a write failed"
n=$(cat "$WORK/written")
[ "$n" -gt 20 ] || die "only $n writes"
[ "$(q kv get trail -C "$all")" = "$(seq -s ' ' 0 $((n - 1))) " ] || die "the trail has a gap"
