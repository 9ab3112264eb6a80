#!/usr/bin/env python3
"""run.py [--quick] [--seconds N] [NAME...] - the bug museum: builds mutants of the production code, each with one bug that
other systems really had, and shows which test catches it.

A mutant is tests/mutants/NAME.patch: a line that tells the bug, a line 'Caught by: PROGRAM [SEEDS][, ...]' (tests as meson
names them, in the order in which they are tried), perhaps 'Quick: yes', then a unified diff. It is applied to a copy of the
source tree in build-mutants/, which is built there as far as the programs need it, and taken back afterwards. A patch that
does not apply, a program that does not exist or a mutant that does not compile ends the run: the museum is out of date.

Caught is a mutant only if a program ends with the words of a check, an assertion or a checker, which are shown; it may use
--seconds (default 600) of one core. Afterwards the tree as it is must pass what caught them, with as many seeds.

--quick: only mutants marked so, and not the tree as it is. NAME: only mutants whose name contains one of the words. Exit code 0: all were caught, and
nothing else was."""
import json, os, re, resource, shutil, signal, subprocess, sys, time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = os.path.join(TOP, "tests", "mutants")
WORK = os.path.join(TOP, "build-mutants")
TREE, BUILD = os.path.join(WORK, "tree"), os.path.join(WORK, "tree", "build")
COPIED = ["base", "raft", "fs", "kv", "io", "mount", "mr", "cli", "bench", "tests", "meson.build", "meson_options.txt"]

# What says that a check, an assertion or a checker spoke, and what it said.
SPOKE = [r"^--- FAILED at .*", r"check failed.*", r"^VIOLATION.*", r"^seed \d+ at \d+ us: .*", r"^\[  ERROR   \] --- .*"]


def sync_file(source, target):
    with open(source, "rb") as f:
        new = f.read()
    if os.path.exists(target):
        with open(target, "rb") as f:
            if f.read() == new:
                return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb") as f:
        f.write(new)
    shutil.copymode(source, target)


def sync_tree():
    """Brings the copy up to date; files that are as they were keep their time, so that little is built again."""
    keep = set()
    for top in COPIED:
        source = os.path.join(TOP, top)
        names = [source] if os.path.isfile(source) else [os.path.join(d, n) for d, _, ns in os.walk(source) for n in ns]
        for path in names:
            rel = os.path.relpath(path, TOP)
            keep.add(rel)
            sync_file(path, os.path.join(TREE, rel))
    for top in COPIED:
        for d, _, names in os.walk(os.path.join(TREE, top)):
            for n in names:
                path = os.path.join(d, n)
                if os.path.relpath(path, TREE) not in keep:
                    os.remove(path)


def die(text):
    print(f"mutants: {text}", file=sys.stderr)
    sys.exit(2)


class Mutant:
    def __init__(self, path):
        self.path = path
        self.name = os.path.basename(path)[:-len(".patch")]
        with open(path) as f:
            head, _, self.diff = f.read().partition("\n--- ")
        lines = head.strip().splitlines()
        self.bug = lines[0] if lines else ""
        fields = dict(l.split(": ", 1) for l in lines[1:] if ": " in l)
        self.quick = fields.get("Quick") == "yes"
        self.programs = [(p.split() + [None])[:2] for p in re.split(r", *", fields.get("Caught by", "")) if p]
        self.files = sorted(set(re.findall(r"^\+\+\+ b/(\S+)", self.diff, re.M)))
        if not self.programs or not self.files:
            die(f"{path}: it names no program or changes no file")
        self.caught = self.seeds = self.words = None
        self.cpu = self.wall = 0.0

    def patch(self, *options):
        return subprocess.run(["patch", "-p1", "-F1", "--no-backup-if-mismatch", "-r-", *options, "-i", self.path], cwd=TREE,
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def apply(self):
        r = self.patch()
        if r.returncode:
            self.revert()
            die(f"{self.name}: the patch does not apply any more: the code it breaks has changed\n{r.stdout}")

    def revert(self):
        for f in self.files:
            if os.path.exists(os.path.join(TOP, f)):
                sync_file(os.path.join(TOP, f), os.path.join(TREE, f))


def programs():
    """name -> (command, ninja target)"""
    if not os.path.exists(f"{BUILD}/build.ninja"):
        r = subprocess.run(["meson", "setup", BUILD, TREE], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if r.returncode:
            die("meson setup failed\n" + r.stdout[-3000:])
    subprocess.run(["ninja", "-C", BUILD, "build.ninja"], check=True, stdout=subprocess.DEVNULL)
    tests = json.loads(subprocess.run(["meson", "introspect", "--tests", BUILD], check=True, stdout=subprocess.PIPE).stdout)
    return {t["name"]: (t["cmd"], os.path.relpath(t["cmd"][0], BUILD)) for t in tests}


def build(targets, what):
    r = subprocess.run(["ninja", "-C", BUILD, "-j2", *targets], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if r.returncode:
        die(f"{what} does not compile\n" + "\n".join(l for l in r.stdout.splitlines() if not l.startswith("["))[-3000:])


def run(cmd, seeds, cpu_limit, log):
    """(exit code, seconds of a core, seconds)"""
    env = dict(os.environ)
    for k in ("QFS_SEED", "QFS_SEEDS", "QFS_SLOW", "QFS_TRACE"):
        env.pop(k, None)
    if seeds:
        env["QFS_SEEDS"] = str(seeds)

    def limits():
        resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_limit) + 1, int(cpu_limit) + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    start = time.monotonic()
    with open(log, "wb") as f:
        p = subprocess.Popen(cmd, stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT, env=env, preexec_fn=limits,
                             cwd=WORK)
        try:
            _, status, used = os.wait4(p.pid, 0)
        except BaseException:
            p.kill()
            raise
    p.returncode = os.waitstatus_to_exitcode(status)
    return p.returncode, used.ru_utime + used.ru_stime, time.monotonic() - start


def words_of(log):
    with open(log, errors="replace") as f:
        lines = f.read().splitlines()
    for pattern in SPOKE:
        for l in lines:
            m = re.search(pattern, l)
            if m:
                return m.group(0).strip()
    return None


def seeds_of(log):
    """How many runs it took: '--- run 17' of the simulator, 'seed 17 at' of the cores (they count from 1)."""
    with open(log, errors="replace") as f:
        text = f.read()
    m = re.search(r"^--- run (\d+)", text, re.M) or re.search(r"^seed (\d+) at", text, re.M) or \
        re.search(r"QFS_SEED=(\d+)", text)
    return int(m.group(1)) if m else None


def try_mutant(m, known, limit):
    m.apply()
    try:
        build([known[p][1] for p, _ in m.programs], f"mutant {m.name}")
        for program, seeds in m.programs:
            log = os.path.join(WORK, f"{m.name}.{program}.log")
            code, cpu, wall = run(known[program][0], seeds, limit - m.cpu, log)
            m.cpu += cpu
            m.wall += wall
            if code and code != -signal.SIGXCPU:
                m.words = words_of(log)
                if m.words:
                    m.caught, m.seeds = program, seeds_of(log)
                    return
                m.words = f"{program} ended with {code} but without a word: see {log}"
                return
            if m.cpu >= limit:
                m.words = f"not within {limit} s of a core"
                return
        m.words = "nobody noticed"
    finally:
        m.revert()


def short(text, n):
    return text if len(text) <= n else text[:n - 3] + "..."


def show(m):
    print(f"{m.name:28} {m.caught or 'SURVIVED':20} {m.seeds if m.seeds else '-':>6} {m.cpu:7.1f} s  {short(m.words, 110)}", flush=True)


def sound(mutants, known, limit):
    """The unmutated tree passes what caught the mutants, with at least as many seeds."""
    need = {}
    for m in mutants:
        if m.caught:
            seeds = dict(m.programs)[m.caught]
            old = need.get(m.caught)
            need[m.caught] = max(int(old or 0), int(seeds)) if seeds else old
    build([known[p][1] for p in need], "the tree")
    bad = []
    for program, seeds in sorted(need.items()):
        log = os.path.join(WORK, f"sound.{program}.log")
        code, cpu, _ = run(known[program][0], seeds, max(limit, 3600), log)
        print(f"{'no mutant':28} {program:20} {seeds or 'usual':>6} {cpu:7.1f} s  {'passes' if code == 0 else f'FAILED, see {log}'}",
              flush=True)
        if code:
            bad.append(program)
    return bad


def main():
    args = sys.argv[1:]
    quick, limit = "--quick" in args, 600
    if "--help" in args:
        print(__doc__)
        return
    if "--seconds" in args:
        at = args.index("--seconds")
        limit = int(args[at + 1])
        del args[at:at + 2]
    wanted = [a for a in args if not a.startswith("--")]
    mutants = [Mutant(os.path.join(HERE, n)) for n in sorted(os.listdir(HERE)) if n.endswith(".patch")]
    every = mutants
    mutants = [m for m in mutants if (m.quick or not quick) and (not wanted or any(w in m.name for w in wanted))]
    if not mutants:
        die("no such mutant")
    start = time.monotonic()
    sync_tree()
    known = programs()
    for m in every:
        if m not in mutants and m.patch("--dry-run").returncode:
            print(f"{m.name}: the patch does not apply any more: make it anew", flush=True)
    for m in mutants:
        for p, _ in m.programs:
            if p not in known:
                die(f"{m.name}: there is no program {p}")
    print(f"{'mutant':28} {'caught by':20} {'seeds':>6} {'core':>9}  what it said", flush=True)
    for m in mutants:
        try_mutant(m, known, limit)
        show(m)
    bad = [] if quick else sound(mutants, known, limit)     # scripts/test runs these programs anyway
    survived = [m.name for m in mutants if not m.caught]
    print(f"{len(mutants) - len(survived)} of {len(mutants)} mutants were caught, in {time.monotonic() - start:.0f} s")
    for name in survived:
        print("SURVIVED:", name)
    for name in bad:
        print("FALSE ALARM:", name)
    sys.exit(1 if survived or bad else 0)


main()
