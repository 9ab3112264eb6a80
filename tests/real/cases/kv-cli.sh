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
say "the largest operation there is"
head -c 4194304 /dev/urandom > "$WORK/max1"; head -c 4194304 /dev/urandom > "$WORK/max2"
kv put max @"$WORK/max1"; kv cas max @"$WORK/max1" @"$WORK/max2"; kv get max | cmp - "$WORK/max2"
agree
down
