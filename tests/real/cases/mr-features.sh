#!/usr/bin/env bash
# limit: 900
# What a job can do, each against an independent tool: sort, grep, uniq, awk. With workers and --local, the same bytes.
. "$TOP/tests/real/lib.sh"
cd "$WORK"; mkdir in
python3 - <<'P'
import random
r = random.Random(7)
words = ["".join(r.choice("abcdefghij") for _ in range(r.randrange(1, 6))) for _ in range(500)]
for f in range(4):
    with open(f"in/t{f}", "w") as o:
        for _ in range(4000):
            o.write(" ".join(r.choice(words) for _ in range(r.randrange(0, 8))) + "\n")
with open("table", "w") as o:
    for _ in range(20000):
        o.write(f"{r.choice(words)}\t{r.randrange(-5000, 5000) / 8}\t{r.randrange(100)}\n")
open("records", "wb").write(b"".join(bytes(r.randrange(256) for _ in range(10)) + b"x%089d" % i for i in range(20000)))
P
# both OUT ARGS...: with workers and alone; leaves the parts in OUT, one behind the other in OUT.all
both() {
    out=$1; shift
    q mr run --split-size 20k "$@" --output "$out" --workers 2 > "$out.log" 2>&1 || { cat "$out.log"; die "$out"; }
    q mr run --split-size 20k "$@" --output "$out.local" --local > "$out.log2" 2>&1 || { cat "$out.log2"; die "$out, local"; }
    diff -r "$out" "$out.local" || die "$out: --local gives other bytes"
    cat "$out"/part-* > "$out.all"
}
same() { cmp "$1" "$2" || die "$3"; }
fails() { c=0; "$@" > out 2>&1 || c=$?; [ $c = 1 ] || { cat out; die "exit $c instead of 1: $*"; }; }

say "sort: total order, by field, numbers, backwards, unique, records"
both s1 --app sort --input in --reducers 4; sort in/* > want; same s1.all want "sort"
[ "$(wc -c < s1/part-00001)" -gt 1000 ] && [ "$(wc -c < s1/part-00003)" -gt 1000 ] || die "the parts are not alike"
both s2 --app sort --set key=2 --set numeric=1 --input table --reducers 3; sort -s -t "$(printf '\t')" -k2,2n table > want; same s2.all want "sort by number"
python3 - <<'P'
import random
r = random.Random(3)
v = ["", "abc", "-", ".", "-.", "0", "-0", "000", "-0.00", "1", "01", "1.", "1.0", "1.05", "1.5", "-1", "-1.5", "-1.05", ".5", "-.5", "+3", "--4",
     "1e5", "1.2.3", "  12", "\t-12", " - 5", "9" * 70, "9" * 69 + "8", "1." + "0" * 70 + "1", "-1." + "0" * 70 + "1"]
for _ in range(1500):      # nanoseconds since 1970, more than a double tells apart; numbers of all lengths
    v.append(str(1700000000000000000 + r.randrange(10)))
    v.append(r.choice(["", "-"]) + str(r.randrange(10 ** r.randrange(1, 40))) + r.choice(["", "." + str(r.randrange(10 ** r.randrange(1, 25)))]))
r.shuffle(v)
open("numbers", "w").write("".join(n + "\n" for n in v))
P
both s6 --app sort --set numeric=1 --input numbers --reducers 3; sort -s -n numbers > want; same s6.all want "sort of long numbers"
both s7 --app sort --set numeric=1 --set reverse=1 --input numbers --reducers 3; sort -s -rn numbers > want; same s7.all want "the same backwards"
both s8 --app sort --set numeric=1 --set unique=1 --input numbers --reducers 3; sort -s -nu numbers > want; same s8.all want "sort -nu"
both s3 --app sort --set key=1 --set reverse=1 --input table --reducers 3; sort -s -t "$(printf '\t')" -k1,1r table > want; same s3.all want "sort backwards"
both s4 --app sort --set unique=1 --input in --reducers 3; sort -u in/* > want; same s4.all want "sort -u"
both s5 --app sort --record-size 100 --set key-bytes=10 --output-format raw --input records --reducers 3
python3 -c 'd = open("records", "rb").read(); v = [d[i:i + 100] for i in range(0, len(d), 100)]; v.sort(key=lambda x: x[:10]); open("want", "wb").write(b"".join(v))'
same s5.all want "sort of records"
say "grep: the lines, their files and offsets"
both g1 --app grep --set pattern='a.c[def]' --input "$WORK/in" --reducers 3; grep -bHE 'a.c[def]' "$WORK"/in/* > want; same g1.all want "grep"
both g2 --app grep --set pattern=ab --input "$WORK/in" --reducers 2; grep -bHF ab "$WORK"/in/* > want; same g2.all want "grep for a text"
both g3 --app grep --set pattern=AB --set ignore-case=1 --set invert=1 --input "$WORK/in"; grep -bHiv AB "$WORK"/in/* > want; same g3.all want "grep -iv"
printf 'ab\r\nbb\r\nb\r' > crlf
both g4 --app grep --set pattern='b$' --input "$WORK/crlf"; tr -d '\r' < crlf | grep -n 'b$' | cut -d: -f2 > want; cut -d: -f3 g4.all > got; same got want "grep: the end of a line with CRLF"
fails q mr run --app grep --set pattern='a[' --input in --output x --local; grep -q 'a\[' out || die "a bad pattern is not told"
say "sums that do not fit are told, by the combiner and by the reducer"
printf 'a\t9223372036854775807\na\t1\n' > large
for c in sum none; do
    fails q mr run --local --attempts 1 --map cat --combine $c --reduce sum --input large --output x
    grep -q "the sum for the key 'a' does not fit into 64 bits" out || { cat out; die "a sum that does not fit, combiner $c"; }
done
say "counters and status from stderr; other lines pass"
both c1 --map 'awk "{ print \$1; n++ } NR % 1000 == 0 { print \"reporter:status:line \" NR > \"/dev/stderr\" } END { print \"reporter:counter:My group,lines read,\" n > \"/dev/stderr\" }"' --reduce 'uniq -c' --input in
grep -q '"My_group:lines_read": 16000' c1/_counters || { cat c1/_counters; die counters; }
fails q mr run --local --attempts 1 --map 'echo reporter:status:half way >&2; echo my own words >&2; exit 3' --reduce cat --input in --output x
grep -q 'last status: half way' out && grep -q '^my own words' out && ! grep -q '^reporter' out || { cat out; die "status"; }
say "secondary sort: the values of a key in order; composite keys meet by their first field"
both v1 --split-size 100k --map 'cut -f1,3' --reduce cat --sort-values --input table --reducers 3
cut -f1,3 table | sort -t "$(printf '\t')" -k1,1 -k2,2 > want; sort -s -t "$(printf '\t')" -k1,1 v1.all > got; same got want "sorted values"
both v2 --split-size 100k --map 'awk -v OFS="\t" "{ print \$1, sprintf(\"%02d\", \$3), \$2 }"' --key-fields 2 --partition field:1 --reduce 'awk -F"\t" "\$1 != k { print \$1 \"\t\" \$2; k = \$1 }"' --input table --reducers 3
awk -v OFS='\t' '{ v = sprintf("%02d", $3); if (!($1 in m) || v < m[$1]) m[$1] = v } END { for (k in m) print k, m[k] }' table | sort > want
sort v2.all > got; same got want "the least of each by composite keys"
say "any bytes by --pipe pairs"
cat > pairs.py <<'P'
import sys
i, o = sys.stdin.buffer, sys.stdout.buffer
while h := i.read(8):
    k, v = int.from_bytes(h[:4], "little"), int.from_bytes(h[4:], "little")
    key, value = i.read(k), i.read(v)
    if sys.argv[1] == "map": key, value = value[:2], value[2:]
    o.write(len(key).to_bytes(4, "little") + len(value).to_bytes(4, "little") + key + value)
P
both p1 --map 'python3 pairs.py map' --reduce 'python3 pairs.py reduce' --split-size 800k --pipe pairs --record-size 100 --output-format raw --input records
python3 -c 'd = open("records", "rb").read(); v = [d[i:i + 100] for i in range(0, len(d), 100)]; v.sort(key=lambda x: x[:2]); open("want", "wb").write(b"".join(v))'
same p1.all want "binary pairs"
say "a chain: the most frequent words, in order"
both ch --app wc --input in --reducers 3 --then --app sort --set key=2 --set numeric=1 --set reverse=1
cat in/* | tr ' ' '\n' | sed '/^$/d' | sort | uniq -c | sort -s -k1,1nr | awk '{ print $1 }' > want; cut -f2 ch.all > got; same got want "a chain"
cut -f1 ch.all | sort > got; cat in/* | tr ' ' '\n' | sed '/^$/d' | sort -u > want; same got want "a chain's words"
fails q mr run --local --app wc --input in --output x --then --map 'exit 7' --reduce cat; grep -q 'job 2 of 2' out && [ ! -e x ] || { cat out; die "a failing chain"; }
ls -d .x.mr-*/stage-1 > out || die "the input of the job that failed is gone"
q mr run --local --app wc --input in --output x --then --app sort > out; [ "$(ls -d .x.mr-*)" = "$(ls -d .x.mr-*/result | sed 's,/result,,')" ] || die "a failed chain leaves its directory for ever"; rm -r x
q mr run --dry-run --app wc --input in --output x --then --app sort --reducers 7 > out; grep -q '^reduce: *sort, 7 reduce tasks' out && ! ls -d x .x.mr-*/out-0 2>/dev/null || { cat out; die "--dry-run of a chain"; }
say "gzip and zstd, several streams in a file; a damaged one is named"
mkdir packed; gzip -c in/t0 > packed/a.gz; gzip -c in/t1 >> packed/a.gz; zstd -qc in/t2 > packed/b.zst; cp in/t3 packed/c
both z1 --app wc --input packed; both z2 --app wc --input in; same z1.all z2.all "compressed input"
grep -q 'cannot be cut' z1.log && ! grep -q 'cannot be cut' z2.log || die "it is not said that compressed files cannot be cut"
head -c 5000 packed/a.gz > cut.gz; fails q mr run --local --attempts 1 --app wc --input cut.gz --output x; grep -q 'cut.gz is damaged' out || { cat out; die "a cut gzip file"; }
say "sampling reads the beginnings of what cannot be cut, not all of it"
mkdir long; for i in 1 2; do yes "line of $i" | head -c 50000000 | gzip -1 > long/$i.gz; done
q mr run --local --partition range --reducers 2 --map 'wc -c >> seen' --reduce cat --input long --output n1 > out 2>&1 || { cat out; die "a job over long compressed files"; }
[ "$(wc -l < seen)" = 4 ] && [ "$(tail -2 seen | sort -u)" = 50000000 ] && [ "$(head -2 seen | awk '{ n += $1 } END { print (n > 60e6 && n < 75e6) }')" = 1 ] ||
    { cat seen; die "what was sampled and mapped"; }
say "directories without what is below"
mkdir -p tree/sub; cp in/t0 tree/; cp in/t1 tree/sub/; both t1 --app sort --no-recursive --input tree; sort in/t0 > want; same t1.all want "--no-recursive"

say "--skip-bad: an application built out of tree crashes at some lines, a command fails at some"
cat > bad.c <<'C'
#include "mr.h"
#include <string.h>
static int map(struct mr_ctx *c, const struct mr_record *r)
{
    if (r->text.n == 5 && memcmp(r->text.p, "crash", 5) == 0) *(volatile int *)0 = 1;
    if (r->text.n == 4 && memcmp(r->text.p, "fail", 4) == 0) return 1;
    c->emit(c, r->text, (struct mr_bytes){"", 0});
    return 0;
}
const struct mr_app mr_application = {.abi = MR_ABI, .unit = MR_LINE, .map = map};
C
mkdir alone; cp "$TOP/mr/mr.h" alone/; cc -O2 -Wall -shared -fPIC -I alone -o bad.so bad.c
mkdir bad; { seq 3000; echo crash; seq 3000; echo fail; seq 500; } > bad/a; { seq 2000; echo crash; } > bad/b; { echo crash; seq 100; } > bad/c
both k1 --map ./bad.so --reduce 'cut -f1' --skip-bad 4 --input bad
cat bad/* | grep -v '[a-z]' | sort > want; same k1.all want "the good records"
grep -q '"skipped_records": 4' k1/_counters && grep -q '4 bad records left out' k1.log || { cat k1/_counters k1.log; die "the bad records are not counted"; }
for f in a b c; do grep -bH '[a-z]' "$WORK/bad/$f"; done | awk -F: -v OFS='\t' '{ print $1, $2, length($3) + 1 }' > want; cut -f1-3 k1/_skipped > got; same got want "the list of bad records"
fails q mr run --local --map ./bad.so --reduce cat --skip-bad 3 --input bad --output x; grep -q 'bad record' out || { cat out; die "more than N bad records"; }
fails q mr run --local --attempts 1 --map ./bad.so --reduce cat --skip-bad 1 --input bad/a --output x; grep -q "another at byte" out && [ ! -e x ] || die "output of a failed job"
printf '#!/bin/sh\nawk "/crash|fail/ { exit 4 } { print }"\n' > bad.sh; chmod +x bad.sh
both k2 --map ./bad.sh --reduce 'cut -f1' --skip-bad 9 --input bad; same k2.all k1.all "the good records, by a command"
cut -f1-3 k2/_skipped > got; same got want "the list of bad records, by a command"
grep -q "exited with status 4" k2/_skipped || die "why a record is bad"
fails q mr run --local --attempts 1 --map 'exit 5' --reduce cat --skip-bad 1000 --input bad --output x; grep -q 'status 5' out || { cat out; die "a command that always fails"; }

say "a sort of several times the memory: each task within its budget, the coordinator as large as with an eighth of the data"
python3 -c 'import random, sys; r = random.Random(1); w = sys.stdout.buffer.write; [w(r.randbytes(48).hex().encode() + b"abc\n") for _ in range(1500000)]' > big    # 150 MB
head -187500 big > eighth
python3 - "$QFS" <<'P'
import os, subprocess, sys, time
def children(pid):
    try: return [int(c) for t in os.listdir(f"/proc/{pid}/task") for c in open(f"/proc/{pid}/task/{t}/children").read().split()]
    except OSError: return []
def hwm(pid):
    try: return next(int(l.split()[1]) for l in open(f"/proc/{pid}/status") if l.startswith("VmHWM"))
    except (OSError, StopIteration): return 0
# The most that the coordinator, a worker and a task's process had, in KiB.
def measure(data, out):
    p = subprocess.Popen([sys.argv[1], "mr", "run", "--app", "sort", "--input", data, "--output", out, "--workers", "2", "--reducers", "1",
                          "--split-size", "1G", "--memory", "24M"], stdout=subprocess.DEVNULL)
    most = [0, 0, 0]
    while p.poll() is None:
        now = [p.pid]
        for level in range(3):
            for pid in now: most[level] = max(most[level], hwm(pid))
            now = [c for pid in now for c in children(pid)]
        time.sleep(0.01)
    if p.returncode: sys.exit(f"{data}: exit {p.returncode}")
    print(f"{data}: {most[0]} KiB of the coordinator, {most[1]} of a worker, {most[2]} of a task's process (budget 24 MiB for its data)")
    return most
large, small = measure("big", "mem"), measure("eighth", "mem8")
for most in large, small:
    if min(most) < 1000 or most[2] > 32 * 1024 or most[1] > 16 * 1024: sys.exit(f"not within the budget: {most}")
if large[0] > small[0] * 1.15: sys.exit(f"the coordinator grows with the data: {small[0]} KiB with an eighth, {large[0]} KiB with all of it")
P
sort big | cmp - mem/part-00000 || die "the big sort is wrong"
