#!/usr/bin/env bash
# limit: 600
# long: yes
# alone: yes
# Whatever clients do to a node - ten thousand of them, such as never read, such as send without end or never finish, a
# dead follower - its memory stays bounded, beyond its limits it says why it refuses, and normal clients go on.
. "$TOP/tests/real/lib.sh"
LOAD=$(dirname "$QFS")/tests/overload
ulimit -Hn 65536 2>/dev/null || true
[ "$(ulimit -Hn)" -ge 18500 ] || skip "a process may open $(ulimit -Hn) files here; 18,500 are needed"
ulimit -n "$(ulimit -Hn)"
# Elections that take longer than usual: this is about memory, not about how busy this machine is.
mkdir -p "$D/log"
members=$(for i in 1 2 3; do printf '%s%d=unix:%s/n%d.sock' "$([ $i = 1 ] || echo ,)" $i "$D" $i; done)
printf 'quorumfs cluster 1\n1 unix:n1.sock\n2 unix:n2.sock\n3 unix:n3.sock\n' > "$D/cluster"
start() { q node --id $1 --data "$D/n$1" --listen "unix:$D/n$1.sock" --cluster "$members" --election 3s --heartbeat 500ms >> "$D/log/n$1.log" 2>&1 & }
start 1; start 2; start 3
head -c 1048576 /dev/urandom > "$WORK/big"
here() { L=$(leader); pid=$(pid_of "$L"); addr=unix:$D/n$L.sock; }

# crowd MODE CONNECTIONS [CALLS [BYTES]]: starts one, until it is ready; gone ends it
crowd() {
    here
    rm -f "$WORK/hold"; mkfifo "$WORK/hold"; : > "$WORK/crowd.out"
    echo 5 > "/proc/$pid/clear_refs"                            # the peak is measured from here
    "$LOAD" "$1" "$addr" "${@:2}" < "$WORK/hold" > "$WORK/crowd.out" & crowd=$!
    exec 9> "$WORK/hold"
    until_ok 120 grep -q ready "$WORK/crowd.out"
}
gone() { exec 9>&-; wait "$crowd"; cat "$WORK/crowd.out"; }
peak() { awk '/VmHWM/ {print $2}' "/proc/$pid/status"; }
# below KIB WHAT: the node's memory, at its highest since the crowd came
below() { p=$(peak); echo "$2: at most $p KiB"; [ "$p" -lt "$1" ] || die "$2: $p KiB, more than $1"; }
# settled: the peak has not grown for three seconds
settled() {
    same=0; was=0
    while [ $same -lt 3 ]; do
        sleep 1; now=$(peak); [ "$now" -gt "$was" ] && same=0 || same=$((same + 1)); was=$now
        [ "$was" -lt 3000000 ] || die "it grows and grows: $was KiB"
    done
}
normal() {
    until_ok 60 kv put "normal/$1" "v$1"; [ "$(kv get "normal/$1")" = "v$1" ] || die "a normal client reads something else"
    kill -0 "$pid" || die "the node did not live through it"
}

say "ten thousand clients, each of which has got 50 KiB"
head -c 50000 "$WORK/big" > "$WORK/small"; kv put big @"$WORK/small"; here; below 200000 "to begin with"
crowd get 10000; normal 1; below 300000 "10,000 clients"
say "more of them than there may be"
mkfifo "$WORK/hold2"; : > "$WORK/crowd2.out"; 
"$LOAD" hello "$addr" 7000 < "$WORK/hold2" > "$WORK/crowd2.out" & more=$!
exec 8> "$WORK/hold2"; until_ok 120 grep -q ready "$WORK/crowd2.out"
c=0; kv get big --timeout 2s > /dev/null 2>"$WORK/err" || c=$?; [ $c = 3 ] && grep -q "serves 16384 clients" "$WORK/err" || die "exit $c: $(cat "$WORK/err")"
[ "$(field "$L" clients)" -eq 16384 ] || die "$(field "$L" clients) clients"
exec 8>&-; wait $more; cat "$WORK/crowd2.out"; grep -q "acks 638[0-9] .*refused 61[0-9] " "$WORK/crowd2.out" || die "not all of the rest were refused"
below 300000 "16,384 clients"; gone; grep -q "acks 10000 replies 10000 refused 0" "$WORK/crowd.out" || die "the first ten thousand"
until_ok 30 test "$(field "$L" clients)" -lt 100

kv put big @"$WORK/big"
say "five hundred that ask for 10 MiB each and never read"
crowd unread 500 10; normal 2; settled
[ "$(peak)" -gt 200000 ] || die "hardly anything was there to be read"
normal 2b; below 900000 "500 that never read"; gone

say "a thousand that each begin a call of 4 MiB and never finish it"
crowd partial 1000 1 4000000; normal 3; settled; below 400000 "1000 unfinished calls"; gone

say "two thousand large calls, pipelined, faster than they can be done"
crowd put 500 4 400000; normal 4; settled; below 900000 "2000 large calls"; gone
agree

say "a dead follower, while puts go on"
f=$(follower); kill_node "$f"
crowd put 20 10 1000000; normal 5; settled; below 500000 "a dead follower"; gone
start "$f"; agree
for n in 1 2 3; do kill "$(pid_of $n)"; done; wait
