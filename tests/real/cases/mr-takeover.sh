#!/usr/bin/env bash
# limit: 300
# A job on a mount outlives its coordinator: killed, frozen and replaced from another mount, by hand and by a standby; workers join
# from another mount and leave; status, cancel, Ctrl-C; a failing task's command reruns just that task.
. "$TOP/tests/real/lib.sh"
up; second_mount
m2=$WORK/m2
mkdir "$M/in" "$WORK/w1" "$WORK/w2"
for f in 1 2 3 4; do seq $((f * 1000)) | awk '{ print "w" ($1 % 7), "x" ($1 % 11) }' > "$M/in/$f"; done
cat "$M"/in/* | tr -s ' ' '\n' | LC_ALL=C sort | uniq -c | awk '{ print $2 "\t" $1 }' > "$WORK/want"
right() { cat "$1"/part-* | LC_ALL=C sort | cmp - "$WORK/want" && [ -e "$1/_SUCCESS" ] && [ "$(ls "$1" | wc -l)" = 5 ] || { ls -la "$1"; die "the output $1"; }; }
# Slow where it is told to be: a map task waits while "hold" is there, and says that it runs.
cat > "$WORK/map" <<'P'
#!/bin/sh
echo "$MR_TASK $MR_ATTEMPT" >> "$RAN"
while [ -e "$HOLD" ] && [ "$MR_TASK" -ge "${FROM:-0}" ]; do sleep 0.05; done
tr -s ' ' '\n' | sed 's/$/\t1/'
P
chmod +x "$WORK/map"
export RAN="$WORK/ran" HOLD="$WORK/hold" FROM=0
# start NAME LOG OPTIONS...: a job in the background; its pid is $job
start() { name=$1 log=$2; shift 2
    "$QFS" mr run --map "$WORK/map" --reduce sum --input "$M/in" --output "$M/$name" --reducers 3 --workers 2 --split-size 4k \
        --worker-timeout 2 --workdir "$WORK/w1" "$@" > "$log" 2>&1 & job=$!; }
tasks_done() { [ "$(grep -c "^$2 [0-9]* done" "$M"/."$1".mr-*/now/tasks)" -ge "$3" ]; }
ended() { ! kill -0 "$1" 2>/dev/null; }

say "the coordinator is killed half-way: --resume repeats no finished task"
touch "$HOLD"; : > "$RAN"; FROM=4 start a "$WORK/a.log"
until_ok 60 tasks_done a map 4
kill -9 $job; wait $job && die "it was killed" || true
[ ! -e "$M/a" ] || die "an output after the kill"
q mr status "$M/a" > "$WORK/out"; grep -q interrupted "$WORK/out" || { cat "$WORK/out"; die "status of a killed job"; }
rm "$HOLD"
q mr run --resume "$m2/a" --workers 2 --workdir "$WORK/w1" > "$WORK/b.log" 2>&1 || { cat "$WORK/a.log" "$WORK/b.log"; die "resume"; }
grep -q "going on with the job" "$WORK/b.log" || die "it did not go on"
right "$M/a"; right "$m2/a"
for t in 0 1 2 3; do [ "$(grep -c "^$t " "$RAN")" = 1 ] || { cat "$RAN" "$WORK/b.log"; die "map task $t ran again"; }; done
q mr status --all "$M" --json | python3 -c 'import json, sys
j, = [json.loads(l) for l in sys.stdin]
assert j["state"] == "done" and j["output"].endswith("/a") and j["progress"]["reduces_done"] == 3, j'

say "killed, or frozen and replaced, at the steps of publishing, on this filesystem; every other one replaces an older output"
rm -f "$HOLD"
for k in 13 14 15 16 17 18 19 20 21 22 23; do
    r=; [ $((k % 2)) = 1 ] || { mkdir "$M/k$k"; echo old > "$M/k$k/old"; r=--replace; }
    f=; [ $((k % 3)) = 0 ] && f=:freeze
    (QFS_MR_STOP="coordinator:$k:$WORK/stopped$k$f" "$QFS" mr run --app wc --input "$M/in/1" --output "$M/k$k" $r --workers 1 --worker-timeout 1 \
        --workdir "$WORK/w1" > "$WORK/k$k.log" 2>&1; echo $? > "$WORK/k$k.code") & eval j$k=$!
done
stopped=0
for k in 13 14 15 16 17 18 19 20 21 22 23; do
    until_ok 60 sh -c "[ -e $WORK/stopped$k ] || [ -e $WORK/k$k.code ]"
    [ ! -e "$WORK/stopped$k" ] || stopped=$((stopped + 1))
    # As it was, or complete.
    [ -e "$M/k$k/_SUCCESS" ] && [ -e "$M/k$k/part-00000" ] || [ -e "$M/k$k/old" ] || [ ! -e "$M/k$k" ] || die "step $k: something in between"
    q mr run --resume "$m2/k$k" --workers 1 --workdir "$WORK/w2" > "$WORK/r$k.log" 2>&1 || { cat "$WORK/r$k.log"; die "resume after step $k"; }
    [ "$(cat "$M/k$k/part-00000" | wc -l)" = 2 ] && [ ! -e "$M/k$k/old" ] || die "the output after step $k"
    listing "$M/k$k" > "$WORK/before"; stat -c %i "$M"/k$k/* >> "$WORK/before"
    for p in $(pgrep -f "^$QFS mr run --app wc --input $M/in/1 --output $M/k$k " || true); do kill -CONT "$p"; done
    eval wait \$j$k || true
    listing "$M/k$k" > "$WORK/after"; stat -c %i "$M"/k$k/* >> "$WORK/after"
    cmp "$WORK/before" "$WORK/after" || die "step $k: the frozen one changed something"
done
[ $stopped -ge 8 ] || die "only $stopped were stopped"
rm -rf "$M"/k*

say "frozen: a standby on another mount takes over, and the old one changes nothing when it wakes up"
touch "$HOLD"; start b "$WORK/a.log"; until_ok 60 tasks_done b map 0
"$QFS" mr run --resume "$m2/b" --standby --workers 2 --workdir "$WORK/w2" > "$WORK/b.log" 2>&1 & standby=$!
c=0; q mr run --resume "$m2/b" > "$WORK/out" 2>&1 || c=$?; [ $c = 1 ] && grep -q "somebody works on" "$WORK/out" || { cat "$WORK/out"; die "a second coordinator: exit $c"; }
kill -STOP $job
until_ok 60 grep -q "going on with the job" "$WORK/b.log"
rm "$HOLD"; wait $standby || { cat "$WORK/b.log"; die "the standby"; }
right "$M/b"; before=$(listing "$M/b" | sha256sum; stat -c %i "$M"/b/*)
kill -CONT $job; c=0; wait $job || c=$?
[ $c = 1 ] && grep -q "taken this job over" "$WORK/a.log" || { cat "$WORK/a.log"; die "the old coordinator: exit $c"; }
[ "$before" = "$(listing "$M/b" | sha256sum; stat -c %i "$M"/b/*)" ] || die "the old coordinator changed the output"

say "workers of another mount join by the job's directory, one leaves, one hangs"
touch "$HOLD"
"$QFS" mr coordinator --listen "unix:$WORK/sock" --map "$WORK/map" --reduce sum --input "$M/in" --output "$M/c" --reducers 3 --split-size 4k \
    --worker-timeout 2 --workdir "$WORK/w1" > "$WORK/a.log" 2>&1 & job=$!
until_ok 30 sh -c "ls -d $M/.c.mr-*/out-0"
for i in 1 2 3; do "$QFS" mr worker "$m2/c" --workdir "$WORK/w2" > "$WORK/worker$i.log" 2>&1 & eval w$i=$!; done
until_ok 30 sh -c "grep -q ' 3 workers' $M/.c.mr-*/now/progress"
kill $w1; wait $w1 || true; kill -STOP $w2
rm "$HOLD"; wait $job || { cat "$WORK/a.log"; die "the job with guests"; }
right "$M/c"; wait $w3 || die "the guest that stayed"
kill -CONT $w2; wait $w2 || true

say "cancel, from another mount"
touch "$HOLD"; start d "$WORK/a.log"; until_ok 30 sh -c "grep -q ' 2 workers' $M/.d.mr-*/now/progress"
q mr status "$m2/d" | grep -q running || die "status of a running job"
q mr status "$m2/d" --json | python3 -c 'import json, sys; a = json.load(sys.stdin)["coordinator"]; assert a.startswith("unix:/") and a.endswith("/coordinator"), a' || die "the coordinator in JSON"
q mr cancel "$m2/d" > "$WORK/out" 2>&1 || { cat "$WORK/out"; die cancel; }
c=0; wait $job || c=$?; [ $c = 1 ] && grep -q "cancelled" "$WORK/a.log" || { cat "$WORK/a.log"; die "a cancelled job: exit $c"; }
[ ! -e "$M/d" ] && ! ls -d "$M"/.d.mr-* 2>/dev/null || die "a cancelled job left something"

say "Ctrl-C says how to go on, and that works"
start e "$WORK/a.log"; until_ok 30 sh -c "grep -q ' 2 workers' $M/.e.mr-*/now/progress"
kill -INT $job; wait $job && die "Ctrl-C" || true; rm "$HOLD"
cmd=$(sed -n 's/.*to go on: *//p' "$WORK/a.log"); [ -n "$cmd" ] || { cat "$WORK/a.log"; die "no command to go on"; }
bash -c "$cmd --workers 1 --workdir $WORK/w1" > "$WORK/b.log" 2>&1 || { cat "$WORK/b.log"; die "$cmd"; }
right "$M/e"

say "a chain whose coordinator is killed in the second job: the other mount goes on there"
touch "$HOLD"; : > "$RAN"; export FROM=4
"$QFS" mr run --map "tr -s ' ' '\n' | sed 's/\$/\t1/'" --reduce sum --input "$M/in" --reducers 5 --workers 2 --worker-timeout 2 --workdir "$WORK/w1" \
    --then --map "$WORK/map" --reduce cat --reducers 3 --output "$M/ch" > "$WORK/a.log" 2>&1 & job=$!
until_ok 60 sh -c "[ \$(grep -c '^map [0-9]* done' $M/.ch.mr-*/.stage-2.mr-*/now/tasks) -ge 4 ]"
q mr status "$m2/ch" > "$WORK/out"; grep -q 'running.*job 2 of 2' "$WORK/out" || { cat "$WORK/out"; die "status of a chain"; }
kill -9 $job; wait $job && die "it was killed" || true
[ ! -e "$M/ch" ] || die "an output after the kill"
rm "$HOLD"; q mr run --resume "$m2/ch" --workers 2 --workdir "$WORK/w1" > "$WORK/b.log" 2>&1 || { cat "$WORK/a.log" "$WORK/b.log"; die "resume of a chain"; }
grep -q "1 of 2 jobs are done" "$WORK/b.log" && ! grep -q "^job 1 of 2" "$WORK/b.log" || { cat "$WORK/b.log"; die "the first job ran again"; }
for t in 0 1 2 3; do [ "$(grep -c "^$t " "$RAN")" = 1 ] || { cat "$RAN" "$WORK/b.log"; die "map task $t of the second job ran again"; }; done
sed 's/$/\t1/' "$WORK/want" > "$WORK/want2"; cat "$M"/ch/part-* | sort | cmp - "$WORK/want2" && [ -e "$M/ch/_SUCCESS" ] || die "the chain's output"

say "a failing task prints its stderr, its split and a command that runs just it"
cat > "$WORK/bad" <<'P'
#!/bin/sh
grep -q 'w5 x9' && { echo "line 5-9 is beyond me" >&2; exit 7; }
exit 0
P
chmod +x "$WORK/bad"; printf 'w5 x9\n' > "$M/one"
c=0; q mr run --map "$WORK/bad" --reduce sum --input "$M/one" --output "$M/f" --attempts 2 --workdir "$WORK/w1" > "$WORK/a.log" 2>&1 || c=$?
[ $c = 1 ] && grep -q "beyond me" "$WORK/a.log" && grep -q "$M/one, 6 bytes from byte 0" "$WORK/a.log" && grep -q "failed 2 times" "$WORK/a.log" ||
    { cat "$WORK/a.log"; die "the report"; }
cmd=$(sed -n '/to run just this task/{n;p;}' "$WORK/a.log"); [ -n "$cmd" ] || { cat "$WORK/a.log"; die "no command"; }
c=0; bash -c "$cmd" > "$WORK/out" 2>&1 || c=$?; [ $c = 1 ] && grep -q "beyond me" "$WORK/out" && grep -q "status 7" "$WORK/out" || { cat "$WORK/out"; die "rerun: exit $c"; }
printf '#!/bin/sh\nsed "s/$/\\t1/"\n' > "$WORK/bad"; bash -c "$cmd" | grep -q "^w5 x9	1$" || die "rerun of the mended task"
cat "$M"/.f.mr-*/stderr/map-0-1 | grep -q "beyond me" || die "stderr in the job's directory"
q mr run --resume "$M/f" --workdir "$WORK/w1" > "$WORK/b.log" 2>&1 || { cat "$WORK/b.log"; die "the mended job"; }
[ "$(cat "$M"/f/part-*)" = "w5 x9	1" ] || die "the mended job's output"

say "--dry-run makes nothing"
q mr run --dry-run --app wc --input "$M/in" --output "$M/g" --split-size 4k > "$WORK/out"; grep -q "map tasks, 1 reduce tasks" "$WORK/out" || die "dry run"
[ ! -e "$M/g" ] && ! ls -d "$M"/.g.mr-* 2>/dev/null || die "a dry run made something"
# Workers that gave up waiting (a slow machine) keep what they have for ten minutes; whoever lives holds its lock, and is not swept.
swept() { touch -c -d '20 minutes ago' "$WORK"/w?/*/lock 2>/dev/null || true
    for w in w1 w2; do q mr task --only map:0 --app wc --input "$M/one" --workdir "$WORK/$w"; done
    [ -z "$(ls -d "$WORK"/w1/*/ "$WORK"/w2/*/ 2>/dev/null)" ]; }
until_ok 30 swept
umount "$m2"; agree; down
