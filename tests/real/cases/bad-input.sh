#!/usr/bin/env bash
# limit: 300
# Bad command lines, wrong directories, ports in use, garbage on the wire: a clear error that names the thing; never a crash or a hang.
. "$TOP/tests/real/lib.sh"
refuses() {     # EXIT TEXT COMMAND...
    want=$1; text=$2; shift 2; c=0
    timeout 20 "$@" > "$WORK/out" 2>&1 || c=$?
    [ $c = "$want" ] || { cat "$WORK/out"; die "exit $c, not $want: $*"; }
    grep -q -- "$text" "$WORK/out" || { cat "$WORK/out"; die "no '$text' in the message of: $*"; }
}
refuses 2 frobnicate "$QFS" frobnicate
refuses 2 usage "$QFS"
for s in up down status node mount kv mr; do
    timeout 5 "$QFS" $s --help > "$WORK/out" || die "$s --help"; grep -q usage "$WORK/out" || die "$s --help says nothing"
    refuses 2 -- "$QFS" $s --no-such-option
done
refuses 2 dir "$QFS" up
refuses 2 nodes "$QFS" up --dir "$WORK/x" --nodes 77
refuses 2 nowhere "$QFS" status -C "$WORK/nowhere"
refuses 1 nowhere "$QFS" down --dir "$WORK/nowhere"
refuses 2 id "$QFS" node --id 0 --data "$WORK/x" --listen 127.0.0.1:1 --cluster 1=127.0.0.1:1
refuses 1 member "$QFS" node --id 7 --data "$WORK/x" --listen 127.0.0.1:17007 --cluster 1=127.0.0.1:17001
refuses 1 nosuch "$QFS" mount "unix:$WORK/no.sock" "$WORK/nosuch"
up
refuses 1 "mount point" "$QFS" mount "$D" "$WORK/not-there"
refuses 2 "no such option" "$QFS" mount -o frob "$D" "$M"
mkdir "$WORK/mp"
refuses 3 "no answer" "$QFS" mount -o wait=1 "unix:$WORK/no.sock" "$WORK/mp"
refuses 3 "no answer" "$QFS" kv -C "unix:$WORK/no.sock" --timeout 1s get x
say "a second node on the same data directory"
refuses 1 "$D/n1" "$QFS" node --id 1 --data "$D/n1" --listen "unix:$WORK/s.sock" --cluster "1=unix:$WORK/s.sock"
say "an address in use"
refuses 1 "n1.sock" "$QFS" node --id 1 --data "$WORK/y" --listen "unix:$D/n1.sock" --cluster "1=unix:$D/n1.sock"
python3 -c 'import socket, time
s = socket.socket(); s.bind(("127.0.0.1", 17011)); s.listen(); print("ok", flush=True); time.sleep(30)' > "$WORK/port" & holder=$!
until_ok 5 grep -q ok "$WORK/port"
refuses 1 17011 "$QFS" node --id 1 --data "$WORK/y" --listen 127.0.0.1:17011 --cluster 1=127.0.0.1:17011
kill $holder
say "a data directory of another node, of another cluster"
down
refuses 1 "n2" "$QFS" node --id 1 --data "$D/n2" --listen "unix:$WORK/s.sock" --cluster "1=unix:$WORK/s.sock,2=unix:$D/n2.sock"
q up --dir "$WORK/other" > /dev/null; echo x > "$WORK/other/mnt/x"; q down --dir "$WORK/other" > /dev/null
up > /dev/null; q down --dir "$D" > /dev/null
mv "$D/n3" "$WORK/n3"; cp -r "$WORK/other/n3" "$D/n3"
q up --dir "$D" --no-mount > /dev/null
until_ok 20 grep -q "another cluster" "$D/log/n3.log"
kill -9 "$(pid_of 3)"; rm -rf "$D/n3"; mv "$WORK/n3" "$D/n3"
up; echo fine > "$M/fine"
say "garbage and oversize frames on every node's socket"
python3 - "$D" <<'P'
import os, random, socket, struct, sys
r = random.Random(1)
for n in (1, 2, 3):
    for k in range(60):
        s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect(f"{sys.argv[1]}/n{n}.sock")
        data = [r.randbytes(r.randint(1, 5000)), b"QFS1" + r.randbytes(100), b"QFS1" + struct.pack("<BBHIII", 1, 0, 0, 0xffffffff, 0, 0),
                b"QFS1" + struct.pack("<BBHIII", 66, 0, 0, 16 << 20, 0, 0) + r.randbytes(5000), b"", b"GET / HTTP/1.1\r\n\r\n"][k % 6]
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            while s.recv(4096): pass
        except OSError: pass
        s.close()
P
for n in 1 2 3; do kill -0 "$(pid_of $n)" || die "node $n died of garbage"; done
[ "$(cat "$M/fine")" = fine ] && echo more > "$M/more" || die "the cluster does not work after garbage"
agree; down
