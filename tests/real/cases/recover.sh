#!/usr/bin/env bash
# limit: 300
# Two of three nodes are lost for good: the third becomes a cluster of its own, with all that it had; former members are
# refused; with two new ones it is three voters again, any of which may be lost, and all data is there.
. "$TOP/tests/real/lib.sh"
list="1=$(addr 1),2=$(addr 2),3=$(addr 3)"
all=$(addr 1),$(addr 2),$(addr 3)
for i in 1 2 3; do node $i --cluster "$list"; done
until_ok 30 q kv put first value -C "$all"
for i in $(seq 30); do q kv put "k$i" "v$i" -C "$all"; done
end 3           # node 3 misses the rest
head -c 700000 /dev/urandom > "$WORK/big"
q kv put big @"$WORK/big" -C "$all"
for i in $(seq 31 40); do q kv put "k$i" "v$i" -C "$all"; done
old=$(q status -C "$all" --json | sed -n 's/^ *"cluster": "\(.*\)",/\1/p' | head -1)

say "as long as the node runs, and of what is no node, nothing is recovered"
q recover --from-survivor "$D/n1" --address "$(addr 1)" --yes && die "of a running node"
q recover --from-survivor "$D/log" --address "$(addr 1)" --yes && die "of no node's directory"
end 1; end 2
mv "$D/n2" "$WORK/lost2"        # 2 is lost; 1 and 3 are left, and 3 is behind

say "without --yes nothing changes"
before=$(cd "$D/n1" && cat meta | sha256sum)
q recover --from-survivor "$D/n3" --from-survivor "$D/n1" --address "$(addr 1)" > "$WORK/out" 2> "$WORK/err" && die "not asked"
cat "$WORK/out"
grep -q "node 1 goes furthest" "$WORK/out" || die "the wrong copy"
grep -q "What may be lost" "$WORK/out" || die "it does not say what may be lost"
grep -q "nothing was changed" "$WORK/err" || die "it does not say that nothing was changed"
[ "$before" = "$(cd "$D/n1" && cat meta | sha256sum)" ] || die "something was changed"

say "with --yes node 1 goes on alone"
q recover --from-survivor "$D/n3" --from-survivor "$D/n1" --address "$(addr 1)" --yes
node 1
for i in 1 30 31 40; do [ "$(q kv get "k$i" -C "$(addr 1)" --timeout 20s)" = "v$i" ] || die "k$i is lost"; done
new=$(q status -C "$(addr 1)" --json | sed -n 's/^ *"cluster": "\(.*\)",/\1/p' | head -1)
[ -n "$new" ] && [ "$new" != "$old" ] || die "the cluster has no new name"

say "a former member is refused, with its data it cannot come back"
node 3 --cluster "$list"
until_ok 20 grep -q "refused a connection of node 3" "$D/log/n1"
q member add 3="$(addr 3)" -C "$(addr 1)" 2> "$WORK/err" && die "a member of the old cluster was added"
grep -q "belongs to another cluster" "$WORK/err" || die "$(cat "$WORK/err")"
[ "$(q status -C "$(addr 1)" --json | grep -c '"seat": "voter"')" = 1 ] || die "it is not alone"
end 3
rm -rf "$D/n3"

say "a learner first, which gets a vote later, and a new one at once: three vote again"
for n in 3 4; do node $n --join "$(addr 1)"; done
q member add 3="$(addr 3)" --learner -C "$(addr 1)"
q member list -C "$(addr 1)" | grep -q "^3 .*learner" || die "3 is no learner"
q member promote 3 -C "$(addr 1)"
q member add 4="$(addr 4)" -C "$(addr 1)"
all=$(addr 1),$(addr 3),$(addr 4)
three_vote() {
    q status -C "$all" --json | python3 -c 'import json, sys
sys.exit(sum(m["answered"] and m["seat"] == m["standing"] == "voter" for m in json.load(sys.stdin)["members"]) != 3)'
}
three_vote || die "not three voters"
whole() {       # everything that was ever acknowledged
    for i in $(seq 40); do [ "$(q kv get "k$i" -C "$all" --timeout 30s)" = "v$i" ] || die "k$i is lost"; done
    [ "$(q kv get first -C "$all" --timeout 30s)" = value ] || die "the first write is lost"
    q kv get big -C "$all" --timeout 30s | cmp - "$WORK/big" || die "the big value is lost"
    [ "$(q kv get after -C "$all" --timeout 30s)" = "$1" ] || die "writes after the recovery are lost"
}
q kv put after x -C "$all"

say "any one of them may die, the survivor too: nothing is lost, and writes go on"
x=x
for n in 1 3 4; do
    end $n
    whole $x
    x=$x$n
    q kv put after $x -C "$all" --timeout 30s
    node $n
    until_ok 30 three_vote
done

say "a machine is lost for good once more: its disk is emptied, and refilled"
end 1
rm -rf "$D/n1"
node 1 --join "$(addr 3)"
until_ok 30 three_vote

say "all restart from their directories"
for n in 1 3 4; do end $n; done
for n in 1 3 4; do node $n; done
whole $x
