#!/usr/bin/env bash
# limit: 900
# Word count and inverted index over the 16 books, through the mount, with workers killed on the way and the leader, too.
. "$TOP/tests/real/lib.sh"
[ -d "$BOOKS" ] || skip "the books (../shared/data/books) are not here"
up
mkdir "$M/in"; cp "$BOOKS"/*.txt "$M/in/"
want_wc='he 34077 was 37044 that 37495 I 44502 in 46092 a 60558 to 74357 of 79727 and 93990 the 154024 '
top_wc() { cat "$1"/part-* | sort -t "$(printf '\t')" -k2n -k1 | tail -10 | tr '\t\n' '  '; }
say "word count with the C application"
q mr run --app wc --input "$M/in/*.txt" --output "$M/wc" --workers 2 --reducers 3 > "$WORK/mr.log" 2>&1 || { cat "$WORK/mr.log"; die wc; }
[ "$(top_wc "$M/wc")" = "$want_wc" ] || die "word count: $(top_wc "$M/wc")"
[ "$(cat "$M"/wc/part-* | wc -l)" = 65824 ] || die "distinct words: $(cat "$M"/wc/part-* | wc -l)"
[ -e "$M/wc/_SUCCESS" ] || die "_SUCCESS"
say "any executable, slow enough for this: workers are killed and frozen on the way, and the leader is killed"
cat > "$WORK/map" <<'P'
#!/bin/sh
sleep 0.2
tr -cs A-Za-z '\n' | sed '/^$/d; s/$/\t1/'
P
cat > "$WORK/reduce" <<'P'
#!/usr/bin/awk -f
BEGIN { FS = "\t" } $1 != k { if (NR > 1) print k "\t" n; k = $1; n = 0 } { n += $2 } END { if (NR) print k "\t" n }
P
chmod +x "$WORK/map" "$WORK/reduce"
"$QFS" mr run --map "$WORK/map" --reduce "$WORK/reduce" --combine "$WORK/reduce" --input "$M/in/*.txt" --output "$M/slow" --workers 4 --reducers 3 --split-size 512k > "$WORK/mr.log" 2>&1 & job=$!
for i in 1 2 3; do
    until_ok 20 pgrep -P $job; sleep 0.3
    kill -0 $job || die "the job ended before its workers could be killed"
    w=$(pgrep -P $job | head -1) && kill -9 "$w" && echo "killed worker $w"
    [ $i = 2 ] && kill -9 "$(pid_of "$(leader)")" && echo "killed the leader"
done
wait $job || { cat "$WORK/mr.log"; die "the job failed"; }
[ "$(top_wc "$M/slow")" = "$want_wc" ] || die "word count with deaths: $(top_wc "$M/slow")"
[ "$(cat "$M"/slow/part-* | wc -l)" = 65824 ] || die "distinct words with deaths"
[ "$(ls "$M" | tr '\n' ' ')" = "in slow wc " ] || die "the job left something behind: $(ls "$M")"
up
say "the same while a follower is killed, and while the leader is frozen for 10 s"
"$QFS" mr run --map "$WORK/map" --reduce "$WORK/reduce" --combine "$WORK/reduce" --input "$M/in/*.txt" --output "$M/slow2" --workers 4 --reducers 3 --split-size 512k > "$WORK/mr.log" 2>&1 & job=$!
until_ok 20 pgrep -P $job; kill_node "$(follower)"; up > /dev/null; agree
p=$(pid_of "$(leader)"); kill -STOP "$p"; (sleep 10; kill -CONT "$p") & thaw=$!
wait $job || { cat "$WORK/mr.log"; die "the job failed"; }
wait $thaw
diff -r -x '_*' "$M/slow" "$M/slow2" || die "the output differs after freezing and killing nodes"
up
say "inverted index, a worker killed"
"$QFS" mr run --app ii --input "$M/in/*.txt" --output "$M/ii" --workers 3 --reducers 3 > "$WORK/mr.log" 2>&1 & job=$!
w=; while kill -0 $job 2>/dev/null && [ -z "$w" ]; do w=$(pgrep -P $job | head -1 || true); done; [ -z "$w" ] || kill -9 "$w" || true
wait $job || { cat "$WORK/mr.log"; die "ii failed"; }
cat "$M"/ii/part-* | tr '\t' ' ' | sort -k1,1 | sort -snk2,2 | grep -v 16 | tail -10 | cut -d' ' -f1,2 | tr '\n' ' ' > "$WORK/ii"
[ "$(cat "$WORK/ii")" = "women 15 won 15 wonderful 15 words 15 worked 15 worse 15 wounded 15 yes 15 younger 15 yours 15 " ] || die "inverted index: $(cat "$WORK/ii")"
say "any executable: the same as tr | sort | uniq"
q mr run --map "$WORK/map" --reduce "$WORK/reduce" --input "$M/in/pg-emma.txt" "$M/in/pg-grimm.txt" --output "$M/st" --workers 2 --reducers 2 > "$WORK/mr.log" 2>&1 || { cat "$WORK/mr.log"; die streaming; }
cat "$M"/st/part-* | LC_ALL=C sort > "$WORK/got"
cat "$BOOKS/pg-emma.txt" "$BOOKS/pg-grimm.txt" | tr -cs A-Za-z '\n' | sed '/^$/d' | LC_ALL=C sort | uniq -c | awk '{print $2 "\t" $1}' | LC_ALL=C sort > "$WORK/want"
cmp "$WORK/got" "$WORK/want" || die "streaming word count differs"
say "--local gives the same bytes"
q mr run --local --app wc --input "$M/in/*.txt" --output "$WORK/wc-local" --reducers 3 > /dev/null
diff -r -x _counters -x '_counters*' "$M/wc" "$WORK/wc-local" || die "local and cluster output differ"
say "bad jobs say what is wrong"
c=0; q mr run --app wc --input "$M/in/*.txt" --output "$M/wc" > "$WORK/out" 2>&1 || c=$?; [ $c != 0 ] && grep -q "$M/wc" "$WORK/out" || die "existing output: exit $c"
c=0; q mr run --map /no/such/mapper --reduce "$WORK/reduce" --input "$M/in/pg-emma.txt" --output "$M/o1" > "$WORK/out" 2>&1 || c=$?
[ $c = 1 ] && grep -q /no/such/mapper "$WORK/out" || { cat "$WORK/out"; die "missing mapper: exit $c"; }
printf '#!/bin/sh\necho "I cannot go on" >&2; exit 1\n' > "$WORK/bad"; chmod +x "$WORK/bad"
c=0; q mr run --map "$WORK/bad" --reduce "$WORK/reduce" --input "$M/in/pg-emma.txt" --output "$M/o2" > "$WORK/out" 2>&1 || c=$?
[ $c = 1 ] && grep -q "I cannot go on" "$WORK/out" || { cat "$WORK/out"; die "failing mapper: exit $c"; }
printf '#!/bin/sh\nkill -SEGV $$\n' > "$WORK/bad"
c=0; q mr run --map "$WORK/bad" --reduce "$WORK/reduce" --input "$M/in/pg-emma.txt" --output "$M/o3" > "$WORK/out" 2>&1 || c=$?
[ $c = 1 ] && grep -qi "signal\|SEGV" "$WORK/out" || { cat "$WORK/out"; die "killed mapper: exit $c"; }
c=0; q mr run --app wc --input "$M/none/*" --output "$M/o4" > "$WORK/out" 2>&1 || c=$?; [ $c != 0 ] && grep -q none "$WORK/out" || die "no input: exit $c"
for o in o1 o2 o3 o4; do [ ! -e "$M/$o" ] || die "a failed job left output $o"; done
agree; down
