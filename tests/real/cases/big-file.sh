#!/usr/bin/env bash
# limit: 900
# long: yes
# alone: yes
# 1 GiB written, read back, truncated, deleted; its space comes back on the nodes' disks by itself.
. "$TOP/tests/real/lib.sh"
up
used() { du -s -k --apparent-size "$D"/n1 "$D"/n2 "$D"/n3 | awk '{s += $1} END {print int(s / 1024)}'; }
before=$(used)
head -c 1073741824 /dev/urandom > "$WORK/big"
cp "$WORK/big" "$M/big"; sync "$M/big"
echo "$(used) MiB on three disks with the file"
want=$(sha256sum < "$WORK/big"); rm "$WORK/big"
[ "$(sha256sum < "$M/big")" = "$want" ] || die "contents"
umount "$M"; q down --dir "$D"; up
[ "$(sha256sum < "$M/big")" = "$want" ] || die "contents after a restart"
truncate -s 100M "$M/big"; [ "$(stat -c %s "$M/big")" = 104857600 ]
head -c 104857600 "$M/big" | sha256sum > /dev/null
freed() { [ "$(used)" -lt $1 ]; }
say "truncated to 100 MiB: the space comes back"
until_ok 120 freed $((before + 3 * 100 + 900))
rm "$M/big"
say "deleted"
until_ok 120 freed $((before + 600))
echo "$before MiB before, $(used) MiB at the end"
agree; down
