#!/usr/bin/env bash
# limit: 200
# Two of three nodes are lost for good: the third becomes a cluster of its own, with all that it had; former members are
# refused; new ones are added.
. "$TOP/tests/real/lib.sh"
addr() { echo "unix:$D/n$1.sock"; }
mkdir -p "$D/log"
list="1=$(addr 1),2=$(addr 2),3=$(addr 3)"
all=$(addr 1),$(addr 2),$(addr 3)
node() {
    n=$1; shift
    "$QFS" node --id "$n" --data "$D/n$n" --listen "$(addr "$n")" "$@" 2>> "$D/log/n$n" &
    until_ok 20 sh -c "'$QFS' status -C '$(addr "$n")' | grep -Eq '^$n .* (unformed|fenced|voter) '"    # it listens
}
end() { p=$(pid_of "$1"); kill -9 "$p"; wait "$p" 2>/dev/null || true; }
for i in 1 2 3; do node $i --cluster "$list"; done
until_ok 30 q kv put first value -C "$all"
for i in $(seq 30); do q kv put "k$i" "v$i" -C "$all"; done
end 3           # node 3 misses the rest
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

say "new ones are added, and the cluster lives on without the survivor"
for n in 3 4; do node $n --join "$(addr 1)"; q member add $n="$(addr $n)" -C "$(addr 1)"; done
all=$(addr 1),$(addr 3),$(addr 4)
q kv put after recovery -C "$all"
end 1
[ "$(q kv get k40 -C "$all" --timeout 30s)" = v40 ] || die "k40 is lost"
[ "$(q kv get after -C "$all" --timeout 30s)" = recovery ] || die "the write after is lost"
end 3; end 4
for n in 3 4; do node $n; done
[ "$(q kv get after -C "$all" --timeout 30s)" = recovery ] || die "lost by a restart"
