#!/usr/bin/env bash
# What a lost worker costs: its unfinished task, nothing else, and the time until it is noticed: a second where it dies, --worker-timeout
# and an eighth where it hangs. Another worker of the machine takes over what it had finished.
. "$TOP/tests/real/lib.sh"
cd "$WORK"; mkdir in work; for i in $(seq 40); do echo "w$i" > "in/$i"; done; for i in $(seq 40); do printf 'w%d\t1\n' "$i"; done | sort > want
cat > map <<'P'
#!/bin/sh
echo "map $MR_TASK $WORKER start" >> ran
sleep 0.2
sed 's/$/\t1/'
echo "map $MR_TASK $WORKER end" >> ran
P
cat > reduce <<'P'
#!/bin/sh
echo "reduce $MR_TASK $WORKER start" >> ran
cat
while [ -e hold ]; do sleep 0.05; done
echo "reduce $MR_TASK $WORKER end" >> ran
P
chmod +x map reduce
python3 - "$QFS" <<'P'
import json, os, signal, subprocess, sys, time
TIMEOUT = 2                                     # --worker-timeout
WHO = 'WORKER=$(cut -d" " -f4 "/proc/$PPID/stat") '      # the parent of the task's process
def ran():
    lines = [l.split() for l in open("ran").read().splitlines()]
    return [l for l in lines if len(l) == 4]    # a killed one may not know its worker any more
def wait(condition, what):
    end = time.monotonic() + 60
    while not condition(): 
        assert time.monotonic() < end, what
        time.sleep(0.01)
def run(phase, hit, notice, limit):
    for f in ("ran", "said"): open(f, "w").close()
    if phase == "reduce": open("hold", "w").close()
    out = f"out-{phase}-{hit}"
    p = subprocess.Popen([sys.argv[1], "mr", "run", "--json", "--map", WHO + "./map", "--reduce", WHO + "./reduce", "--input", "in", "--output", out, "--reducers", "4",
                          "--workers", "3", "--worker-timeout", str(TIMEOUT), "--workdir", "work"], stdout=open("said", "w"))
    if phase == "map": wait(lambda: sum(r[0] == "map" and r[3] == "end" for r in ran()) >= 20, "half of the map tasks")
    else: wait(lambda: len({r[2] for r in ran() if r[0] == "reduce"}) == 3, "reduce tasks on all workers")
    victim = max({int(r[2]) for r in ran()}, key=lambda w: sum(int(r[2]) == w for r in ran()))
    os.kill(victim, hit)
    at = time.monotonic()
    while not any(notice in json.loads(l).get("text", "") for l in open("said").read().split("\n")[:-1]):
        assert time.monotonic() < at + limit, f"not noticed within {limit} s: {open('said').read()}"
        time.sleep(0.01)
    noticed = time.monotonic() - at
    if phase == "reduce": os.unlink("hold")
    assert p.wait() == 0, open("said").read()
    if hit == signal.SIGSTOP:                   # it was killed when it was given up
        assert not os.path.exists(f"/proc/{victim}") or " Z " in open(f"/proc/{victim}/stat").read()
    starts = [(r[0], r[1]) for r in ran() if r[3] == "start"]
    again = {t for t in starts if starts.count(t) > 1}
    its = [(r[0], r[1]) for r in ran() if int(r[2]) == victim and r[3] == "start"]
    # Of all that it had, its last task again, and that once.
    assert len(its) >= 7 and again <= {its[-1]} and len(starts) == 40 + 4 + len(again), (again, its, ran())
    assert len(again) <= json.loads(open("said").read().splitlines()[-1])["lost_attempts"] <= 1, open("said").read()
    assert not os.listdir("work"), os.listdir("work")
    got = sorted(l for f in os.listdir(out) if f.startswith("part-") for l in open(f"{out}/{f}"))
    assert got == open("want").readlines(), got
    print(f"{phase} {hit.name} ... noticed after {noticed:.2f} s; {len(its)} tasks were its, {len(again)} ran again")
for phase in "map", "reduce":
    run(phase, signal.SIGKILL, "killed by signal 9", 1)
    run(phase, signal.SIGSTOP, "silent for too long", TIMEOUT * 9 / 8 + 1)
P
