#!/usr/bin/env bash
# `quorumfs mr` as people use it wrongly or in odd places: a clear error at once, nothing left behind; strange names, full disks,
# closed descriptors, two jobs at once, 10,000 files.
. "$TOP/tests/real/lib.sh"
chmod 755 "$WORK"; cd "$WORK"; mkdir work; seq 1000 | sed 's/.*/the w/' > in
run() { "$QFS" mr run "$@"; }
refuses() {     # EXIT TEXT COMMAND...; and no trace of a job
    want=$1; text=$2; shift 2; c=0
    timeout 60 "$@" > out.log 2>&1 || c=$?
    [ $c = "$want" ] || { cat out.log; die "exit $c, not $want: $*"; }
    grep -qF -- "$text" out.log || { cat out.log; die "no '$text' in the message of: $*"; }
    [ -z "$(ls -d .*.mr-* o 2>/dev/null)" ] || { ls -d .*.mr-* o; cat out.log; die "something is left of: $*"; }
}
ok() { "$@" > out.log 2>&1 || { c=$?; cat out.log; die "exit $c: $*"; }; }

say "wrong command lines"
mr="$QFS mr"; job="--app wc --input in --output o"
refuses 2 'no option' $mr run --frob
refuses 2 'wants a value' $mr run --app
refuses 2 '--input' $mr run --app wc --output o
refuses 2 '--output' $mr run --app wc --input in
refuses 2 '--map' $mr run --input in --output o
refuses 2 '--reduce' $mr run --map cat --input in --output o
refuses 2 "--reducers wants a number from 1 to 65536, not '0'" $mr run $job --reducers 0
refuses 2 '--workers wants' $mr run $job --workers x
refuses 2 "--skip-bad wants a number up to 1000000, not '-1'" $mr run $job --skip-bad -1
refuses 2 '--memory wants a size' $mr run $job --memory lots
refuses 1 'at least 8 MiB' $mr run $job --memory 1K
refuses 2 "--listen wants HOST:PORT, *:PORT or unix:PATH, not 'nonsense'" $mr run $job --listen nonsense
refuses 2 'without --workers' $mr run $job --local --workers 2
refuses 2 '--only' $mr task --app wc --input in
refuses 1 "so there is no 'map:7'" $mr task --app wc --input in --only map:7
refuses 2 'takes no --then' $mr run --resume o --then --app sort
refuses 2 'takes no --input' $mr run --app wc --input in --then --app sort --input in --output o
refuses 2 '--map' $mr run $job --then
refuses 2 'no --only' $mr run $job --only map:0
refuses 1 "no job 'o'" $mr run --resume o
refuses 1 "no job 'o'" $mr status o
refuses 1 "no job 'o'" $mr cancel o
refuses 1 "no job 'o'" $mr worker o
refuses 1 'cannot reach' $mr worker 127.0.0.1:1

say "programs, inputs and outputs that are not there"
refuses 1 "no program 'nosuch'" $mr run --app nosuch --input in --output o
refuses 1 './nosuch.so' $mr run --app ./nosuch.so --input in --output o
refuses 1 '/no/such' $mr run --map /no/such --reduce cat --input in --output o
refuses 1 "no program '/no/such' (for --reduce)" $mr run --app wc --input in --then --map cat --reduce /no/such --output o
refuses 1 'no input matches none*' $mr run --app wc --input 'none*' --output o
refuses 1 'neither a file nor a directory' $mr run --app wc --input /dev/null --output o
refuses 1 'its directory does not exist' $mr run --app wc --input in --output no/such/o
refuses 1 'in exists' $mr run --app wc --input in --output in
refuses 1 'no directory' $mr run --app wc --input in --output in --replace
refuses 1 'no name' $mr run --app wc --input in --output /
refuses 1 '/no/such' $mr run $job --workdir /no/such
refuses 1 "no program of this job has a parameter 'revese' (--set); sort has key, key-bytes," $mr run --app sort --set revese=1 --input in --output o
refuses 1 "no program of this job has a parameter 'pattern' (--set)" $mr run $job --set pattern=the
refuses 1 "parameter 'kye'" $mr run $job --then --app sort --set kye=2
refuses 1 "sort: --set numeric= wants 1 or 0, not 'maybe'" $mr run --app sort --set numeric=maybe --input in --output o
refuses 1 "sort: --set key= wants a number from 1, not '0'" $mr run --map sort --reduce cat --set key=0 --set mine=1 --input in --output o
refuses 1 'grep wants --set pattern=REGEX' $mr run --app grep --input in --output o
refuses 1 "the pattern 'a[' is no regular expression" $mr run --app grep --set 'pattern=a[' --input in --output o
mkdir locked perm; echo a > perm/a; echo b > perm/b; chmod 0 perm/b locked
as="setpriv --reuid 65534 --clear-groups"
if $as "$QFS" --version > /dev/null 2>&1; then
    refuses 1 'cannot read the input perm/b: Permission denied' $as $mr run --app wc --input perm --output o
    refuses 1 'cannot list the input directory locked' $as $mr run --app wc --input locked --output o
else
    echo "skipped: unreadable-inputs: $QFS cannot be run by another user here"
fi
chmod 755 locked perm

say "a failed job tells so, and its command reruns the task from anywhere"
mkdir 'a project'; printf '#!/bin/sh\n[ -e ok ] && exec cat\necho nothing is ok >&2\nexit 3\n' > 'a project/m.sh'; chmod +x 'a project/m.sh'
for how in --local "--workers 1"; do
    c=0; (cd 'a project' && run --map ./m.sh --reduce cat --input ../in --output failing --attempts 1 $how) > out.log 2>&1 || c=$?
    [ $c = 1 ] && ! grep -q ' mr task .*cd ' out.log || { cat out.log; die "exit $c of a job that fails"; }
    "$QFS" mr status 'a project/failing' > status.log; grep -q ' failed ' status.log && grep -q 'status 3' status.log || { cat status.log; die "status, $how"; }
    c=0; "$QFS" mr run --resume 'a project/failing' $how > out.log 2>&1 || c=$?
    cmd=$(sed -n '/to run just this task/{n;p;}' out.log); c2=0; bash -c "$cmd" > task.log 2>&1 || c2=$?
    [ $c = 1 ] && [ $c2 = 1 ] && grep -q 'nothing is ok' task.log && grep -q 'status 3' task.log || { cat out.log task.log; die "rerun from elsewhere: exit $c, $c2"; }
    touch 'a project/ok'; bash -c "$cmd" | sed 's/\t$//' | cmp - <(LC_ALL=C sort in) || die "rerun of the mended task, $how"
    rm 'a project/ok'; "$QFS" mr cancel 'a project/failing' > /dev/null 2>&1
done

say "who hangs is killed, also where there are no workers, and while the input is sampled"
for how in "--local --attempts 2" "--local --skip-bad 3 --attempts 1" "--workers 1 --reducers 2 --partition range"; do
    c=0; run --map 'exec sleep 1000' --reduce cat --input in --output hung --task-timeout 1 $how > out.log 2>&1 || c=$?
    [ $c = 1 ] && grep -q 'made no progress for 1 s' out.log && [ ! -e hung ] || { cat out.log; die "exit $c of one that hangs: $how"; }
    rm -rf .hung.mr-*
done
say "JSON also of what is refused, and of what would be done"
"$QFS" mr run --json --dry-run --app wc --input in --output o --skip-bad 0 > out.json 2> out.log && python3 -c 'import json; e = json.load(open("out.json")); assert e["event"] == "plan" and e["map_tasks"] == 1, e' ||
    { cat out.json out.log; die "JSON of a dry run"; }
for more in "" "--then --app sort" "--then --app sort --replace"; do
    c=0; "$QFS" mr run --json --app wc --input 'none*' --output work $more > out.json 2> out.log || c=$?
    [ $c = 1 ] && python3 -c 'import json; e, = [json.loads(l) for l in open("out.json")]; assert e["event"] == "failed" and ("none*" in e["why"] or "exists" in e["why"]), e' ||
        { cat out.json out.log; die "JSON of a refused job, exit $c: $more"; }
done

say "how a chain runs may be said behind its last job, too"
refuses 1 '/none*' $mr run --app wc --input 'none*' --then --app sort --output o
refuses 1 "/no/such" $mr run --app wc --input in --then --app sort --workdir /no/such --output o
run --map 'tr "\0" " " < /proc/$PPID/cmdline' --reduce cat --input in --then --map identity --reduce cat --json --local --memory 64M --output said > out.log 2>&1
python3 -c 'import json; e = [json.loads(l) for l in open("out.log")]; assert e[-1]["event"] == "done" and len(e) >= 5, e' || { cat out.log; die "--json at the end"; }
grep -q 'mr run' said/part-00000 || { cat said/part-00000; die "--local at the end: another process has run the first job"; }

say "nothing, one byte, odd names"
mkdir nojobs; said=$("$QFS" mr status --all nojobs 2>&1); [ "$said" = "quorumfs mr: there are no jobs" ] || die "status of no jobs: $said"; [ -z "$("$QFS" mr status --all nojobs --json)" ] || die "JSON of no jobs"
mkdir empty; ok run --app wc --input empty --output none --reducers 2
[ "$(ls none | tr '\n' ' ')" = "_SUCCESS _counters part-00000 part-00001 " ] && [ ! -s none/part-00000 ] || die "a job over nothing"
printf x > one; ok run --app wc --input one --output single; [ "$(cat single/part-00000)" = "x	1" ] || die "one byte"
d="$WORK/a b
c ä"; mkdir "$d"; for f in 'a b' 'new
line' 'ümläut' '[glob]*' "bad$(printf '\377')byte"; do echo alpha > "$d/$f"; done
e="$d out"; mkdir "$e"
for how in --local --workers=2; do
    ok run --app wc --input "$d" --output "$e/o $how
x" $how
    [ "$(cat "$e/o $how
x"/part-00000)" = "alpha	5" ] || die "odd names, $how"
done
"$QFS" mr status --all "$e" > out.log; [ "$(grep -c ' done ' out.log)" = 2 ] && [ "$(wc -l < out.log)" = 3 ] || { cat out.log; die "status of odd names"; }
"$QFS" mr status --all "$e" --json | python3 -c 'import json, sys; assert sorted(json.loads(l)["output"][-1] for l in sys.stdin) == ["x", "x"]' || die "JSON of odd names"
echo alpha > "$d/-dash"; (cd "$d" && ok run --app wc --input=-dash --output=-out && [ "$(cat ./-out/part-00000)" = "alpha	1" ]) || die "names that look like options"
deep=$WORK; for i in 1 2 3 4; do deep=$deep/$(printf "%0180d" $i); done; mkdir -p "$deep"
c=0; run --map 'exit 3' --reduce cat --attempts 1 --input in --output "$deep/o" > out.log 2>&1 || c=$?
[ $c = 1 ] || die "a failing job far below: exit $c"
ok run --app wc --input in --output "$deep/o" --workdir "$deep"; [ "$(cat "$deep/o/part-00000")" = "the	1000
w	1000" ] || die "a long path"

say "closed descriptors: nothing of ours is written into files"
for how in --local --workers=1; do
    run --app wc --input in --output "closed$how" $how <&- >&- 2>&- || die "closed descriptors"
    ! grep -rla "part, 2 lines" "closed$how" .closed"$how".mr-* || die "a message is in a file of the job"
    run --app wc --input in --output "full$how" $how > /dev/full 2>&1 || die "nowhere to write to"
    cmp "closed$how/part-00000" "full$how/part-00000" || die "what came out"
done

say "full disks: of the working directory, of the output; room is made, and it goes on"
mkdir small; mount -t tmpfs -o size=2M none small; seq 400000 > big
for how in --local --workers=2; do
    c=0; run --map cat --reduce cat --input big --output "d$how" --workdir small $how > out.log 2>&1 || c=$?
    [ $c = 1 ] && grep -q 'No space left' out.log && [ ! -e "d$how" ] && [ -z "$(ls -A small)" ] || { cat out.log; ls -A small; die "full working directory, $how: exit $c"; }
    c=0; run --map cat --reduce cat --input big --output small/o --workdir work $how > out.log 2>&1 || c=$?
    [ $c = 1 ] && grep -q 'No space left' out.log && [ ! -e small/o ] || { cat out.log; die "full output, $how: exit $c"; }
    mount -o remount,size=20M small
    ok run --resume small/o --workdir work $how; sed 's/$/\t/' big | LC_ALL=C sort | cmp - small/o/part-00000 || die "after there was room"
    rm -r small/o small/.o.mr-*; mount -o remount,size=2M small
done
umount small

say "two jobs at once: each its own output, one output once"
for o in p1 p2 same same; do
    run --map "until [ -e go ]; do sleep 0.02; done; cat" --reduce cat --input in --output $o --workers 1 --workdir work >> "$o.log" 2>&1 & jobs="${jobs:-} $!"
    until_ok 60 sh -c "ls -d .$o.mr-*/out-0"
done
until_ok 60 sh -c '[ "$(ls -d .same.mr-*/out-0 | wc -l)" = 2 ]'
touch go; failed=0; for j in $jobs; do wait $j || failed=$((failed + 1)); done
[ $failed = 1 ] || die "$failed of four failed"
grep -q 'another job makes the same output' same.log && ! grep 'another job' p?.log || { cat ./*.log; die "nobody says that two make one output"; }
for o in p1 p2 same; do sed 's/$/\t/' in | cmp - $o/part-00000 || die "$o"; done
for j in .same.mr-*; do "$QFS" mr cancel $j --workdir work > /dev/null 2>&1 || true; done     # what the one that failed has kept

say "10,000 files"
mkdir many; python3 -c 'for i in range(10000): open(f"many/{i}", "w").write(f"w{i % 7} x\n")'
ok run --app wc --input many --output lots --workers 2 --workdir work
[ "$(cat lots/part-00000)" = "w	10000
x	10000" ] || die "10,000 files"
until_ok 30 sh -c '[ -z "$(ls -A work)" ]'
