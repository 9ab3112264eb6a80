#!/usr/bin/env bash
# limit: 900
# 20,000 small files in one directory list, stat and delete correctly.
. "$TOP/tests/real/lib.sh"
up
python3 - "$M/d" <<'P'
import os, sys
d = sys.argv[1]; os.mkdir(d)
for i in range(20000):
    fd = os.open(f"{d}/file-{i:05}", os.O_WRONLY | os.O_CREAT | os.O_EXCL); os.write(fd, b"%d\n" % i); os.close(fd)
names = os.listdir(d)
assert len(names) == 20000 and set(names) == {f"file-{i:05}" for i in range(20000)}, len(names)
assert sum(e.stat().st_size for e in os.scandir(d)) == sum(len(str(i)) + 1 for i in range(20000))
for i in range(0, 20000, 97): assert open(f"{d}/file-{i:05}").read() == f"{i}\n"
n = 0
with os.scandir(d) as it:               # deleting while listing skips nothing
    for e in it: os.unlink(e.path); n += 1
assert n == 20000 and os.listdir(d) == [], (n, len(os.listdir(d)))
os.rmdir(d)
P
agree
[ "$(field "$(leader)" files)" = 0 ] || die "files are left: $(field "$(leader)" files)"
down
