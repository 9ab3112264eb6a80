#!/usr/bin/env bash
# limit: 300
# kv on the command line and files in the mount are the same namespace, byte for byte.
. "$TOP/tests/real/lib.sh"
up
kv put a/b hello
[ "$(cat "$M/a/b")" = hello ] || die "put is not in the mount"
printf 'x\0y\n\xff\xfe' > "$WORK/bin"
kv put bin @"$WORK/bin"; cmp "$M/bin" "$WORK/bin"; kv get bin | cmp - "$WORK/bin"
kv put stdin - < "$WORK/bin"; cmp "$M/stdin" "$WORK/bin"
kv put empty ""; [ -f "$M/empty" ] && [ ! -s "$M/empty" ] || die "empty value"
[ "$(kv get empty | wc -c)" = 0 ] || die "empty get"
kv put at @@x; [ "$(kv get at)" = @x ] || die "@@"
head -c 1500000 /dev/urandom > "$WORK/big"
kv put d/e/f/big @"$WORK/big"; cmp "$M/d/e/f/big" "$WORK/big"
cp "$WORK/big" "$M/viamount"; kv get viamount | cmp - "$WORK/big"
kv append a/b " world"; [ "$(cat "$M/a/b")" = "hello world" ] || die append
kv append new/key first; [ "$(kv get new/key)" = first ] || die "append creates"
kv cas a/b "hello world" swapped && [ "$(cat "$M/a/b")" = swapped ] || die cas
c=0; kv cas a/b wrong x 2>/dev/null || c=$?; [ $c = 5 ] || die "cas conflict: exit $c"
c=0; kv cas --absent a/b x 2>/dev/null || c=$?; [ $c = 5 ] || die "cas --absent on a key: exit $c"
kv cas --absent fresh x && [ "$(kv get fresh)" = x ] || die "cas --absent"
c=0; kv get none 2>"$WORK/err" || c=$?; [ $c = 4 ] && grep -q none "$WORK/err" || die "absent key: exit $c"
c=0; kv delete none 2>/dev/null || c=$?; [ $c = 4 ] || die "delete of an absent key: exit $c"
kv delete a/b; [ ! -e "$M/a" ] || die "the directory that put made is left"
mkdir -p "$M/z"; touch "$M/z/2" "$M/z/1" "$M/z.a"
[ "$(kv list z | tr '\n' ' ')" = "z.a z/1 z/2 " ] || die "order of list: $(kv list z)"
[ "$(kv list --from z/2 z)" = z/2 ] || die "list --from"
[ "$(kv list --limit 1 z)" = z.a ] || die "list --limit"
for bad in a//b ../x ./y ""; do c=0; kv put "$bad" v 2>/dev/null || c=$?; [ $c = 1 ] || die "key '$bad': exit $c"; done
c=0; kv put z v 2>"$WORK/err" || c=$?; [ $c = 1 ] && grep -q directory "$WORK/err" || die "put on a directory"
head -c 4194305 /dev/zero > "$WORK/huge"
c=0; kv put huge @"$WORK/huge" 2>"$WORK/err" || c=$?; [ $c = 1 ] && grep -q 4 "$WORK/err" || die "too large a value"
say "limits say what they are and what there was"
deep=$(printf 'x/%.0s' $(seq 2048))y; c=0; kv put "$deep" v 2>"$WORK/err" || c=$?
[ $c = 1 ] && grep -q "4097 bytes.*at most 4095" "$WORK/err" || die "too long a key: exit $c, $(cat "$WORK/err")"
c=0; kv put "$(printf 'y%.0s' $(seq 256))" v 2>"$WORK/err" || c=$?
[ $c = 1 ] && grep -q "part 256.*255 a part" "$WORK/err" || die "too long a part: exit $c, $(cat "$WORK/err")"
say "ranges, JSON, bytes that are no text"
for k in r/a r/b r/b/../../r.c r/d; do case $k in *..*) kv put r.c "$k" ;; *) kv put "$k" "$k" ;; esac; done
[ "$(kv list --from r/a --to r/d r/ | tr '\n' ' ')" = "r/a r/b " ] || die "list --to: $(kv list --from r/a --to r/d r/)"
[ "$(kv list --to r/ r)" = r.c ] || die "list --to at a directory: $(kv list --to r/ r)"
[ "$(kv list -0 --limit 2 r/ | tr '\0' '|')" = "r/a|r/b|" ] || die "list -0"
odd=$(printf 'odd\xff\n\x01key'); kv put "$odd" "$(printf 'v\xfe')"
[ "$(kv list -0 odd | tr '\0' '|')" = "$odd|" ] || die "list -0 of odd bytes"

kv list --json r > "$WORK/list.json"; kv get --json r/a > "$WORK/get.json"; kv get --json "$odd" > "$WORK/odd.json"
kv list --json odd > "$WORK/oddlist.json"; kv list --json --limit 1 r/ > "$WORK/one.json"; kv list --json none > "$WORK/none.json"
python3 - "$WORK" <<'P'
import base64, json, sys
j = lambda n: json.load(open(f"{sys.argv[1]}/{n}.json"))
l = j("list"); assert [k["key"] for k in l["keys"]] == ["r.c", "r/a", "r/b", "r/d"] and not l["more"] and l["revision"] > 0, l
g = j("get"); assert g["key"] == "r/a" and g["value"] == "r/a" and g["size"] == 3 and g["version"] == l["keys"][1]["version"], g
o = j("odd"); assert base64.b64decode(o["key_base64"]) == b"odd\xff\n\x01key" and base64.b64decode(o["value_base64"]) == b"v\xfe", o
assert base64.b64decode(j("oddlist")["keys"][0]["key_base64"]) == b"odd\xff\n\x01key"
assert j("one")["more"] and len(j("one")["keys"]) == 1 and j("none")["keys"] == []
P
say "transactions"
txn() { kv txn "$@"; }
printf 'if absent t/a\nif value r/a "r/a"\nthen put t/a one\nthen append r/a "\\x21 more"\nthen delete r/b\nthen get r/a\nelse get t/a\n' > "$WORK/t1"
txn "$WORK/t1" > "$WORK/out" || die "txn: exit $?"
[ "$(head -1 "$WORK/out")" = then ] && grep -q '^get r/a .* "r/a! more"$' "$WORK/out" && grep -q '^delete r/b$' "$WORK/out" || die "txn: $(cat "$WORK/out")"
[ "$(cat "$M/t/a")" = one ] && [ "$(cat "$M/r/a")" = 'r/a! more' ] && [ ! -e "$M/r/b" ] || die "txn is not in the mount"
c=0; txn < "$WORK/t1" > "$WORK/out" || c=$?; [ $c = 5 ] && grep -q '^get t/a .* "one"$' "$WORK/out" || die "txn, else: exit $c"
c=0; txn "$WORK/t1" --json > "$WORK/txn.json" || c=$?
[ $c = 5 ] && python3 -c 'import json,sys; t=json.load(open(sys.argv[1])); assert not t["succeeded"] and t["results"][0]["value"]=="one"' "$WORK/txn.json" || die "txn --json"
v=$(kv get --json t/a | python3 -c 'import json,sys; print(json.load(sys.stdin)["version"])')
printf 'if version t/a %s\nthen put t/a two\n' "$v" | txn > /dev/null || die "txn by version: $?"
c=0; printf 'if version t/a %s\nthen put t/a three\n' "$v" | txn > /dev/null || c=$?; [ $c = 5 ] || die "txn by an old version: $c"
c=0; printf 'then put u/new x\nthen put t/a/below x\n' | txn 2>"$WORK/err" >/dev/null || c=$?
[ $c = 1 ] && grep -q 'step `then` 2' "$WORK/err" && grep -q "t/a/below" "$WORK/err" && [ ! -e "$M/u" ] || die "txn all or nothing: exit $c, $(cat "$WORK/err")"
c=0; printf 'then put a b\nwhen x\n' | txn 2>"$WORK/err" || c=$?; [ $c = 2 ] && grep -q "stdin:2:" "$WORK/err" || die "bad script: $(cat "$WORK/err")"
cp "$WORK/big" "$WORK/bigger"; echo >> "$WORK/bigger"; kv put big1 @"$WORK/big"
printf 'if value big1 @%s\nthen put big1 @%s\nthen get big1\n' "$WORK/big" "$WORK/bigger" | txn --json > "$WORK/txn.json" || die "txn with large values"
cmp "$M/big1" "$WORK/bigger"
for i in $(seq 129); do echo "then get x$i"; done > "$WORK/t2"; c=0; txn "$WORK/t2" 2>"$WORK/err" || c=$?; [ $c = 2 ] && grep -q 128 "$WORK/err" || die "too many steps"
printf 'then put x1 @%s\nthen put x2 @%s\nthen put x3 @%s\n' "$WORK/big" "$WORK/big" "$WORK/big" > "$WORK/t3"
c=0; txn "$WORK/t3" 2>"$WORK/err" || c=$?; [ $c = 1 ] && grep -q "4 MiB" "$WORK/err" || die "too large a txn: $(cat "$WORK/err")"
say "watching, through the mount and by kv, while leaders are killed"
r=$(kv list --json --limit 0 | python3 -c 'import json,sys; print(json.load(sys.stdin)["revision"])')
"$QFS" kv -C "$D" watch w/ --json > "$WORK/w.json" 2>"$WORK/w.err" & wpid=$!   # the process itself, to be killed
until_ok 20 grep -q '"begin"' "$WORK/w.json"
mkdir "$M/w"; echo 1 > "$M/w/1"; kv put w/2 two; mv "$M/w/1" "$M/w/3"; ln "$M/w/3" "$M/w/4"; echo more >> "$M/w/4"; truncate -s 1 "$M/w/2"
kill -9 "$(pid_of "$(leader)")"; until_ok 30 kv put w/5 five; up
mkdir "$M/out"; touch "$M/out/6"; mv "$M/out" "$M/w/in"; rm "$M/w/3"; printf 'then put w/7 x\nthen delete w/2\n' | txn > /dev/null
kv put w/last x; until_ok 30 grep -q w/last "$WORK/w.json"; kill "$wpid"; wait "$wpid" 2>/dev/null || true
python3 - "$WORK/w.json" "$(kv list w/ | tr '\n' ' ')" <<'P'
import json, sys
keys, last = set(), (0, -1)
for line in open(sys.argv[1]):
    e = json.loads(line)
    if e["event"] == "begin": continue
    assert (e["revision"], e["position"]) > last, e
    last = (e["revision"], e["position"])
    if e["event"] == "put": keys.add(e["key"])
    else: keys.remove(e["key"])
assert sorted(keys) == sys.argv[2].split() == ["w/4", "w/5", "w/7", "w/in/6", "w/last"], (sorted(keys), sys.argv[2])
P
[ "$(kv watch --from 1 --limit 1 w/ 2>"$WORK/err" | head -1 | cut -d' ' -f2-)" = "put w/1" ] || grep -q "no longer kept" "$WORK/err" || die "watch from a revision: $(cat "$WORK/err")"
for n in 1 2 3; do kill -9 "$(pid_of $n)"; done; up
for i in $(seq 3); do kv put w/again $i; done
c=0; kv watch --from 999999999 --limit 0 || c=$?; [ $c = 0 ] || die "watch --limit 0: $c"
say "the largest operation there is"
head -c 4194304 /dev/urandom > "$WORK/max1"; head -c 4194304 /dev/urandom > "$WORK/max2"
kv put max @"$WORK/max1"; kv cas max @"$WORK/max1" @"$WORK/max2"; kv get max | cmp - "$WORK/max2"
agree
down
