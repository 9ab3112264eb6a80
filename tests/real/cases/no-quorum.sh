#!/usr/bin/env bash
# limit: 300
# With two of three nodes dead, writes wait - killable - and go on when one returns; nothing is reported done that is not.
. "$TOP/tests/real/lib.sh"
up
echo before > "$M/f"
a=$(follower); l=$(leader)
kill -9 "$(pid_of "$a")" "$(pid_of "$l")"
until_ok 20 sh -c "! $QFS status -C $D"
sh -c "echo waiting > $M/w" & writer=$!
sh -c "echo int > $M/i" & int=$!
sh -c "exec dd if=/dev/zero of=$M/k bs=1 count=1" 2>/dev/null & killed=$!
c=0; q kv -C "$D" --timeout 2s put k v 2>"$WORK/err" || c=$?
[ $c = 3 ] || die "a put without a quorum: exit $c"
grep -q "may or may not" "$WORK/err" || die "the message does not say what is known: $(cat "$WORK/err")"
kill -0 $writer || die "a write ended without a quorum"
say "SIGKILL and SIGINT end the waiting"
kill -9 $killed; wait $killed 2>/dev/null || true
kill -TERM $int; wait $int 2>/dev/null || true
kill -0 $writer || die "the other writer ended"
c=0; timeout 5 q status -C "$D" > "$WORK/status" 2>&1 || c=$?
c=0; "$QFS" status -C "$D" > "$WORK/status" 2>&1 || c=$?; [ $c = 3 ] || die "status without a quorum: exit $c"
grep -q "1 of 3" "$WORK/status" || die "status does not say how many answer"
say "one returns: the write goes on"
q up --dir "$D" > "$WORK/up.log" & up=$!
wait $writer || die "the waiting write failed"
wait $up
[ "$(cat "$M/w")" = waiting ] && [ "$(cat "$M/f")" = before ] || die contents
agree
say "up says what each node says when nobody serves"
a=$(follower); l=$(leader)
kill -STOP "$(pid_of "$a")" "$(pid_of "$l")"
c=0; q up --dir "$D" --wait 3s 2> "$WORK/err" || c=$?
kill -CONT "$(pid_of "$a")" "$(pid_of "$l")"
[ $c = 3 ] || die "up without a quorum: exit $c"
grep -q "elected no leader within 3 s" "$WORK/err" && [ "$(grep -c "no answer" "$WORK/err")" = 2 ] || die "up says: $(cat "$WORK/err")"
agree; down
