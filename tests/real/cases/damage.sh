#!/usr/bin/env bash
# limit: 600
# Damaged files of one node - log segment, checkpoint, vote slots, truncated or with flipped bits: the node says so and is repaired
# or refuses to start; never a wrong byte, a crash, or a loss while the others are clean.
. "$TOP/tests/real/lib.sh"
up
mkdir "$M/d"
for i in $(seq 40); do head -c $((i * 5000)) /dev/urandom > "$M/d/$i"; done
(cd "$M/d" && sha256sum *) > "$WORK/sums"
verify() { (cd "$M/d" && sha256sum -c --quiet "$WORK/sums") || die "wrong contents: $1"; agree; }
damage() {      # FILE HOW
    python3 - "$1" "$2" <<'P'
import os, random, sys
p, how = sys.argv[1:]; size = os.path.getsize(p); r = random.Random(how + os.path.basename(p))
with open(p, "r+b") as f:
    if how == "truncate": f.truncate(size // 2 // 4096 * 4096)
    elif how == "empty": f.truncate(0)
    else:
        data = f.read(); used = max((i for i in range(0, size, 4096) if data[i:i + 4096].strip(b"\0")), default=0) + 4096
        for k in range({"flip": 1, "many": 20}[how]):
            at = r.randrange(used); f.seek(at); f.write(bytes([data[at] ^ 1 << r.randrange(8)]))
P
}
votes() { [ "$(field "$1" standing)" = voter ]; }
case_of() {     # NODE FILE HOW
    [ -e "$2" ] || return 0     # a spare that was taken into use meanwhile
    say "node $1: $(basename "$2"): $3"
    kill -9 "$(pid_of "$1")"; until_ok 5 sh -c "! kill -0 $(pid_of "$1") 2>/dev/null"
    cp -r "$D/n$1" "$WORK/save"
    damage "$2" "$3"
    if q up --dir "$D" > "$WORK/up.log" 2>&1; then
        verify "$2 $3"
        until_ok 30 votes "$1"      # what comes next takes another node away
        l=$(leader); [ "$l" = "$1" ] || { kill -9 "$(pid_of "$l")"; until_ok 20 kv put x y; up > /dev/null; }
        verify "$2 $3, after a change of leaders"
    else
        cat "$WORK/up.log"
        grep -qi "data directory\|damaged\|rebuilt\|checkpoint\|meta" "$WORK/up.log" || die "the refusal does not say why"
        say "it refuses; emptied, it is rebuilt from its peers"
        rm -rf "$D/n$1"; up; verify "rebuilt"
    fi
    rm -rf "$WORK/save"
}
for how in flip many truncate; do
    f=$(ls -S "$D"/n1/seg-* | head -1); case_of 1 "$f" $how
    for s in $(ls "$D"/n2/seg-* | head -3); do case_of 2 "$s" $how; done
done
case_of 3 "$D/n3/meta" flip
case_of 3 "$D/n3/meta" many
case_of 3 "$D/n3/meta" empty
say "checkpoints"
down; mkdir -p "$D/log"
# a small checkpoint interval makes some; the data directories are the same
members=$(for i in 1 2 3; do printf '%s%d=unix:%s/n%d.sock' "$([ $i = 1 ] || echo ,)" $i "$D" $i; done)
for i in 1 2 3; do q node --id $i --data "$D/n$i" --listen "unix:$D/n$i.sock" --cluster "$members" --checkpoint 64k >> "$D/log/n$i.log" 2>&1 & done
leader > /dev/null; for i in $(seq 30); do head -c 20000 /dev/urandom | kv put "ck/$i" -; done
until_ok 30 sh -c "ls $D/n1/ckpt-* && ls $D/n2/ckpt-* && ls $D/n3/ckpt-*"
for n in 1 2 3; do kill -9 "$(pid_of $n)"; done; wait 2>/dev/null || true
up; verify "before"
case_of 1 "$(ls "$D"/n1/ckpt-* | tail -1)" flip
case_of 2 "$(ls "$D"/n2/ckpt-* | tail -1)" truncate 2>/dev/null || true
verify end; down
