# lib.sh - what the cases on real processes share. run.py gives each: QFS (the program), WORK (its own directory), TOP (the
# checkout), BOOKS (the books, if they are there). A case ends with 0, with 77 (skipped, its last line says why), or fails.
set -eu
D=$WORK/c                       # the cluster's directory
M=$D/mnt                        # its mount
C=$D                            # whom status asks: a case without `up` sets a list of addresses

q() { "$QFS" "$@"; }
say() { echo "--- $*"; }
die() { echo "FAILED: $*" >&2; exit 1; }
skip() { echo "skipped: $*"; exit 77; }
[ -e /dev/fuse ] || skip "there is no /dev/fuse here"
[ "$(id -u)" = 0 ] || skip "this case needs root"

# Whatever happens, nothing of this case is left running.
cleanup() {
    code=$?
    trap - EXIT
    set +e
    cd /
    for m in $(awk -v w="$WORK/" 'index($2, w) == 1 { print $2 }' /proc/mounts); do umount "$m" 2>/dev/null || umount -l "$m" || true; done
    for p in "$D"/n*/lock "$WORK"/*/n*/lock "$WORK"/*.pid "$D"/*.pid; do
        [ -s "$p" ] && kill -CONT "$(cat "$p")" 2>/dev/null && kill -9 "$(cat "$p")" 2>/dev/null
    done
    for j in $(jobs -p); do kill -9 "$j" 2>/dev/null; done
    [ $code = 0 ] || for f in "$D"/log/*; do [ -s "$f" ] && { echo "## the end of $f"; tail -15 "$f"; }; done
    exit $code
}
trap cleanup EXIT

up() { q up --dir "$D" "$@"; }
down() { q down --dir "$D"; }
pid_of() { cat "$D/n$1/lock"; }
kv() { q kv -C "$D" "$@"; }
# The leader's number; waits for one.
leader() {
    for _ in $(seq 300); do
        l=$(q status -C "$C" --json 2>/dev/null | sed -n 's/^  "leader": \([0-9]*\),/\1/p')
        [ -n "$l" ] && { echo "$l"; return; }
        sleep 0.1
    done
    die "no leader within 30 s"
}
follower() { l=$(leader); for n in 1 2 3; do [ $n = "$l" ] || { echo $n; return; }; done; }
# SIGKILL, and its process is gone when this returns
kill_node() { p=$(pid_of "$1"); kill -9 "$p"; until_ok 10 sh -c "! kill -0 $p"; }
# until_ok SECONDS COMMAND...: for what happens in other processes and gives no event to wait for
until_ok() {
    end=$(($(date +%s) + $1)); shift
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt $end ] || die "not within the time: $*"
        sleep 0.1
    done
}
# Nodes by hand, without `up`. node N OPTIONS...: starts node N, which listens when this returns; end N: by SIGKILL
addr() { echo "unix:$D/n$1.sock"; }
node() {
    n=$1; shift
    mkdir -p "$D/log"
    "$QFS" node --id "$n" --data "$D/n$n" --listen "$(addr "$n")" "$@" 2>> "$D/log/n$n" &
    until_ok 20 sh -c "'$QFS' status -C '$(addr "$n")' | grep -Eq '^$n .* (unformed|fenced|voter) '"    # it listens
}
end() { p=$(pid_of "$1"); kill -9 "$p"; wait "$p" 2>/dev/null || true; }
second_mount() { mkdir -p "$WORK/m2"; q mount --pidfile "$WORK/m2.pid" --log "$WORK/m2.log" "$D" "$WORK/m2"; }
# field NODE KEY: a value of the node's status
field() {
    q status -C "$D" --json | python3 -c 'import json, sys
m = [m for m in json.load(sys.stdin)["members"] if m["id"] == int(sys.argv[1])][0]
print(m.get(sys.argv[2], ""))' "$1" "$2"
}
# All nodes have applied the same and have the same digest.
agree() {
    for _ in $(seq 300); do
        x=$(q status -C "$D" --json 2>/dev/null | python3 -c 'import json, sys
ms = json.load(sys.stdin)["members"]
print(len(ms) == sum(m["answered"] for m in ms) and len({(m["digest_index"], m["digest"]) for m in ms}) == 1
      and len({m["commit"] for m in ms}) == 1)' 2>/dev/null || true)
        [ "$x" = True ] && return 0
        sleep 0.1
    done
    q status -C "$D" --json >&2
    die "the nodes do not agree within 30 s"
}
# A listing of a tree that two equal trees share: names, types, modes, link counts, sizes, mtimes, link targets, contents.
listing() {
    (cd "$1" && find . -mindepth 1 \( -type d -printf 'd %p %m %n %T@\n' -o -type l -printf 'l %p %l\n' -o -printf '%y %p %m %n %s %T@\n' \) | sort
     find . -type f -print0 | sort -z | xargs -0 -r sha256sum)
}
