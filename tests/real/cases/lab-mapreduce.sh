#!/usr/bin/env bash
# limit: 900
# show: yes
# The lab's MapReduce suite by name on real processes, in the lab's mode: its files, its checks, its worker limits.
. "$TOP/tests/real/lib.sh"
cc -O2 -Wall -shared -fPIC -I "$TOP/mr" -o "$WORK/app.so" "$TOP/tests/real/lab_app.c"
seq 0 99999 > "$WORK/numbers"
sort "$WORK/numbers" > "$WORK/want"
lab() { q mr lab "$@"; }

# inputs M: the numbers, evenly and in order, in the files 824-mrinput-F.txt
inputs() {
    split -a 3 -d -n "r/1" "$WORK/numbers" x. && rm -f x.*          # an empty directory to begin with
    awk -v m="$1" '{ print > ("824-mrinput-" int((NR - 1) * m / 100000) ".txt") }' "$WORK/numbers"
    FILES=$(for f in $(seq 0 $(($1 - 1))); do echo "824-mrinput-$f.txt"; done)
}
# Line i begins with the i-th number in string order; exactly 100000 lines.
check_output() {
    [ "$(wc -l < mrtmp.test)" = 100000 ] || die "$1: mrtmp.test has $(wc -l < mrtmp.test) lines"
    sed 's/: $//' mrtmp.test | cmp - "$WORK/want" || die "$1: the output is wrong"
}
# No worker in the statistics has 0 tasks.
check_workers() { grep -q 'tasks [1-9]' stats && ! grep -q 'tasks 0$' stats || { cat stats; die "$1: a worker had nothing to do"; }; }
clean() { lab clean --job test --reducers "$2" $FILES || die "$1: a file is missing"; [ -z "$(ls | grep -v -e stats -e '\.sock$' -e '\.log$' -e gauge)" ] || { ls | head; die "$1: files are left"; }; }
start() { rm -rf "$WORK/t"; mkdir "$WORK/t"; cd "$WORK/t"; }
master() { "$QFS" mr lab master "unix:$WORK/t/m.sock" --app "$WORK/app.so" --job test --reducers "${1:-50}" $FILES > stats & master=$!; until_ok 120 test -S m.sock; }
worker() { "$QFS" mr lab worker "unix:$WORK/t/m.sock" "unix:$WORK/t/w$1.sock" --limit "$2" >> workers.log 2>&1 & }
passed=0
ok() { echo "$1 ... ok"; passed=$((passed + 1)); }

sequential() {      # TITLE M R
    start; inputs "$2"
    lab sequential --app "$WORK/app.so" --job test --reducers "$3" $FILES > stats
    check_output "$1"
    [ "$(cat stats)" = "tasks $(($2 + $3))" ] || die "$1: $(cat stats)"
    [ "$(ls mrtmp.test-*-* | grep -vc res)" = $(($2 * $3)) ] || die "$1: intermediate files"
    clean "$1" "$3"; ok "$1"
}
two_workers() {     # TITLE LIMIT-OF-WORKER-0 [M R]
    start; inputs "${3:-100}"; master "${4:-50}"; worker 0 "$2"; worker 1 -1
    wait $master || { cat workers.log; die "$1"; }
    check_output "$1"; check_workers "$1"; clean "$1" "${4:-50}"
}

sequential TestSequentialSingle 1 1
sequential TestSequentialMany 5 3
say "the files are the lab's"
start; inputs 2; printf 'a "b" \\ \303\244\nc' > 824-mrinput-0.txt
lab sequential --app "$WORK/app.so" --job test --reducers 2 $FILES > /dev/null
python3 - <<'P'
import json
def fnv(s):
    h = 2166136261
    for c in s.encode(): h = (h ^ c) * 16777619 & 0xffffffff
    return h & 0x7fffffff
assert fnv("") == 18652613 and fnv("a") == 1678518572
want = [{}, {}]
for m, f in enumerate(["824-mrinput-0.txt", "824-mrinput-1.txt"]):
    got = []
    for r in range(2):
        for line in open(f"mrtmp.test-{m}-{r}"):
            kv = json.loads(line)
            assert set(kv) == {"Key", "Value"} and fnv(kv["Key"]) % 2 == r, kv
            got.append(kv["Key"])
    assert sorted(got) == sorted(open(f).read().split()), f
for r in range(2):
    keys = [json.loads(l)["Key"] for l in open(f"mrtmp.test-res-{r}")]
    assert keys == sorted(keys, key=str.encode) and all(fnv(k) % 2 == r for k in keys)
P
c=0; rm mrtmp.test-1-1; lab clean --job test --reducers 2 $FILES > out 2>&1 || c=$?
[ $c = 1 ] && grep -q 'mrtmp.test-1-1' out || die "clean-up does not miss a file"

two_workers TestBasic -1; ok TestBasic
two_workers TestParallelBasic -1 20 10; ok TestParallelBasic        # with the M and R of the editions that call it so
export GAUGE=$WORK/t/gauge
two_workers TestParallelCheck -1
read -r running most < gauge; unset GAUGE
[ "$running" = 0 ] && [ "$most" -ge 2 ] || die "TestParallelCheck: $most tasks at once at most, $running still running"
ok TestParallelCheck
two_workers TestOneFailure 10; ok TestOneFailure

start; inputs 100; master; i=0
while kill -0 $master 2>/dev/null; do
    worker "a$i" 10; worker "b$i" 10; i=$((i + 1)); [ $i -lt 300 ] || die "TestManyFailures: no end"
    for _ in $(seq 10); do kill -0 $master 2>/dev/null || break; sleep 0.1; done
done
wait $master || { cat workers.log; die TestManyFailures; }
check_output TestManyFailures; clean TestManyFailures 50; ok TestManyFailures

say "a worker that is given two tasks at once ends the run"
export GAUGE=$WORK/t/gauge
start; inputs 4; master; worker 0 -1; w=$!                  # alone, its first task waits a second for another
until_ok 120 grep -q '^1 1' gauge
mkdir other; cp 824-* other/; cd other
"$QFS" mr lab master "unix:$WORK/t/m2.sock" --app "$WORK/app.so" --job test $FILES > ../m2.log 2>&1 & second=$!
until_ok 120 test -S ../m2.sock; cd ..
python3 - "$WORK/t/m2.sock" "unix:$WORK/t/w0.sock" <<'P'
import socket, struct, sys
def crc32c(data):
    c = 0xffffffff
    for b in data:
        c ^= b
        for _ in range(8): c = c >> 1 ^ (0x82f63b78 if c & 1 else 0)
    return c ^ 0xffffffff
addr = sys.argv[2].encode()
payload = struct.pack("<H", len(addr)) + addr
head = b"QFS1" + struct.pack("<BBHII", 160, 0, 0, len(payload), crc32c(payload))
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
s.sendall(head + struct.pack("<I", crc32c(head)) + payload)
assert s.recv(100)[4] == 161
P
c=0; wait $second || c=$?; [ $c = 1 ] && grep -q 'second task' m2.log || { cat m2.log workers.log; die "two tasks at once: exit $c"; }
c=0; wait $w || c=$?; [ $c = 1 ] || die "the worker with two tasks ended with $c"
worker 5 -1; wait $master || die "the first master's job"; check_output "two tasks"; unset GAUGE

say "a failing program is told"
start; printf 'x' > in; printf '#include "mr.h"\nstatic int map(struct mr_ctx *c, const struct mr_record *r) { c->fail(c, "no %%s", r->document); return 0; }\nstatic int red(struct mr_ctx *c, struct mr_bytes k, struct mr_values *v) { return 0; }\nconst struct mr_app mr_application = {.abi = MR_ABI, .unit = MR_FILE, .map = map, .reduce = red};\n' > bad.c
cc -shared -fPIC -I "$TOP/mr" -o bad.so bad.c
c=0; lab sequential --app ./bad.so --job test in > out 2>&1 || c=$?; [ $c = 1 ] && grep -q 'no in' out || { cat out; die "a failing map function: exit $c"; }

if [ -d "$BOOKS" ]; then
    start
    lab sequential --app wc "$BOOKS"/pg-*.txt > /dev/null
    [ "$(sort -n -k2 mrtmp.wcseq | tail -10 | tr '\n' ' ')" = "he: 34077 was: 37044 that: 37495 I: 44502 in: 46092 a: 60558 to: 74357 of: 79727 and: 93990 the: 154024 " ] || die "wc: $(sort -n -k2 mrtmp.wcseq | tail -10)"
    ok "wc"
    lab sequential --app ii "$BOOKS"/pg-*.txt > /dev/null
    all="pg-being_ernest.txt,pg-dorian_gray.txt,pg-dracula.txt,pg-emma.txt,pg-frankenstein.txt,pg-great_expectations.txt,pg-grimm.txt,pg-huckleberry_finn.txt,pg-les_miserables.txt,pg-metamorphosis.txt,pg-moby_dick.txt,pg-sherlock_holmes.txt,pg-tale_of_two_cities.txt,pg-tom_sawyer.txt,pg-ulysses.txt,pg-war_and_peace.txt"
    for x in women:grimm won:emma wonderful:metamorphosis words:being_ernest worked:being_ernest worse:metamorphosis wounded:metamorphosis yes:frankenstein younger:metamorphosis yours:metamorphosis; do
        echo "${x%%:*}: 15 $(echo "$all" | sed "s/pg-${x#*:}.txt,//")"
    done > "$WORK/want_ii"
    sort -k1,1 mrtmp.iiseq | sort -snk2,2 | grep -v '16' | tail -10 | diff - "$WORK/want_ii" || die "ii"
    ok "ii"
    say "the same with a master and three workers of 100 connections"
    "$QFS" mr lab master "unix:$WORK/t/m.sock" "$BOOKS"/pg-*.txt > stats & master=$!
    until_ok 120 test -S m.sock; cp mrtmp.iiseq "$WORK/"; cd "$WORK/t"; rm -f mrtmp.wcseq-res-*
    for i in 1 2 3; do worker $i 100; done
    wait $master || { cat workers.log; die "wc with workers"; }
    [ "$(sort -n -k2 mrtmp.wcseq | tail -1)" = "the: 154024" ] && [ "$(wc -l < mrtmp.wcseq)" = 65824 ] || die "wc with workers"
else
    for title in wc ii; do echo "skipped: $title: the books (../shared/data/books) are not here"; done
    start
    for i in 1 2 3; do python3 -c 'import random, sys; random.seed(int(sys.argv[1])); print(*(random.choice("alpha beta gamma Delta eps zeta") for _ in range(9999)))' $i > "d$i.txt"; done
    lab sequential --app wc d1.txt d2.txt d3.txt > /dev/null
    cat d?.txt | tr -cs A-Za-z '\n' | sed '/^$/d' | sort | uniq -c | awk '{ print $2 ": " $1 }' | diff - mrtmp.wcseq || die "wc on a generated corpus"
fi
wait
[ $passed = $([ -d "$BOOKS" ] && echo 9 || echo 7) ] || die "$passed titles passed"
echo "$passed titles passed"
