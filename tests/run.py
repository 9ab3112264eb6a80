#!/usr/bin/env python3
"""run.py - builds and runs every test: the unit and simulation programs (meson) and the cases on real processes
(tests/real/cases/*). Each case is an executable that gets its own directory, log and time limit; exit 77 means skipped, and
its last line says why. What passes but has left out a part says 'skipped: PART: WHY', which counts, too. Ends with one line 'N passed, N failed, N skipped' and exit code 0 only if nothing failed."""
import json, os, re, shutil, signal, subprocess, sys, tempfile, threading, time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CASES = os.path.join(TOP, "tests", "real", "cases")
FUZZ_SECONDS = 60                               # of each target
LIMIT = 600                                     # seconds, where a case does not say "# limit: N"


class Results:
    def __init__(self):
        self.passed, self.failed, self.skipped = [], [], []
        self.lock = threading.Lock()

    def add(self, kind, name, secs, note=""):
        with self.lock:
            getattr(self, kind).append(name)
            word = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}[kind]
            print(f"{word:8} {name}  ({secs:.1f} s){'  ' + note if note else ''}", flush=True)


def build(directory, *options):
    if not os.path.exists(f"{directory}/build.ninja"):
        subprocess.run(["meson", "setup", directory, *options], cwd=TOP, check=True, stdout=subprocess.DEVNULL)
    r = subprocess.run(["ninja", "-C", directory], cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if r.returncode:
        print("\n".join(l for l in r.stdout.splitlines() if not l.startswith("["))[-6000:])
        sys.exit(f"building {directory} failed")


def leaks(label, name):
    """A simulated crash abandons what waits for the disk, as a real one does: no leak check there."""
    crashes = name.startswith(("sim-", "lab-", "fault-"))
    return {"ASAN_OPTIONS": "detect_leaks=0"} if label == "asan" and crashes else {}


def meson_tests(directory, label, words, results, env=None):
    """Runs the programs that meson knows, two at a time, and reports each."""
    tests = json.loads(subprocess.run(["meson", "introspect", "--tests", directory], cwd=TOP, check=True,
                                      stdout=subprocess.PIPE, text=True).stdout)
    tests = [t for t in tests if not words or any(w in t["name"] for w in words)]
    if label == "asan":                             # it builds what it runs by itself
        tests = [t for t in tests if t["name"] != "mutants"]
    todo, alone = [t for t in tests if t["is_parallel"]], [t for t in tests if not t["is_parallel"]]
    lock = threading.Lock()

    def worker(todo):
        while True:
            with lock:
                if not todo:
                    return
                t = todo.pop(0)
            start = time.monotonic()
            log = os.path.join(directory, "test-" + t["name"] + ".log")
            with open(log, "wb") as f:
                try:
                    code = subprocess.run(t["cmd"], cwd=t["workdir"] or TOP, stdout=f, stderr=subprocess.STDOUT,
                                          stdin=subprocess.DEVNULL, timeout=max(t["timeout"], 60) * 2,
                                          env=dict(os.environ, **t["env"], **(env or {}), **leaks(label, t["name"]))).returncode
                except subprocess.TimeoutExpired:
                    code = "time limit"
            name = f"{label}/{t['name']}"
            secs = time.monotonic() - start
            if code == 0:
                add_passed(results, name, secs, log)
            elif code == 77:
                results.add("skipped", name, secs, last_line(log))
            else:
                results.add("failed", name, secs, f"exit {code}, log {log}")
                print(tail(log, 40), flush=True)

    threads = [threading.Thread(target=worker, args=(todo,)) for _ in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    worker(alone)


def fuzz(words, results):
    """Each fuzz target for a minute, from its seeds, two at a time."""
    script = os.path.join(TOP, "scripts", "fuzz")
    names = subprocess.run([script, "--list"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    names = [n for n in names if not words or any(w in "fuzz-" + n for w in words)]
    if not names:
        return
    if subprocess.run([script, *names, "0"]).returncode:
        sys.exit("building the fuzz targets failed")
    lock = threading.Lock()

    def worker():
        while True:
            with lock:
                if not names:
                    return
                n = names.pop(0)
            start = time.monotonic()
            r = subprocess.run([script, n, str(FUZZ_SECONDS)], env=dict(os.environ, FUZZ_FRESH="1"), stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
            log = os.path.join(TOP, "build-fuzz", f"fuzz-{n}.log")
            ran = re.search(r"number_of_executed_units: (\d+)", r.stdout)
            if r.returncode == 0 and ran and int(ran.group(1)) > 100:
                results.add("passed", "fuzz/" + n, time.monotonic() - start, f"{ran.group(1)} inputs")
            else:
                results.add("failed", "fuzz/" + n, time.monotonic() - start, f"exit {r.returncode}, log {log}")
                print(tail(log, 60), flush=True)

    threads = [threading.Thread(target=worker) for _ in range(2)]
    [t.start() for t in threads]
    [t.join() for t in threads]


def tail(path, lines):
    with open(path, errors="replace") as f:
        return "".join("    | " + l for l in f.readlines()[-lines:])


def last_line(path):
    with open(path, errors="replace") as f:
        lines = [l.strip() for l in f if l.strip()]
    return lines[-1] if lines else ""


def add_passed(results, name, secs, log):
    """A program or case that passed, and what it has left out."""
    results.add("passed", name, secs)
    with open(log, errors="replace") as f:
        for part, why in re.findall(r"^skipped: ([\w-]+): (.*)$", f.read(), re.M):
            results.add("skipped", f"{name}: {part}", 0, why)


def header(path, key, default):
    with open(path, errors="replace") as f:
        m = re.search(rf"^# {key}: (.*)$", f.read(4000), re.M)
    return m.group(1).strip() if m else default


def reap(work):
    """Ends whatever a case has left running in its directory, and unmounts what it has left mounted."""
    left = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                cmd = f.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if work in cmd and int(pid) != os.getpid():
            left.append(cmd.strip()[:120])
            try:
                os.kill(int(pid), signal.SIGKILL)
            except OSError:
                pass
    with open("/proc/mounts") as f:
        for mnt in [l.split()[1] for l in f if work in l.split()[1]]:
            subprocess.run(["umount", "-l", mnt], stderr=subprocess.DEVNULL)
    return left


def run_case(name, path, program, base, results):
    work = os.path.join(base, name)
    os.makedirs(work)
    log = os.path.join(base, name + ".log")
    limit = int(header(path, "limit", LIMIT))
    env = dict(os.environ, QFS=program, WORK=work, TOP=TOP, LC_ALL="C", TMPDIR=work, PATH="/usr/sbin:/sbin:" + os.environ["PATH"],
               BOOKS=os.path.join(os.path.dirname(TOP), "shared", "data", "books"))
    start = time.monotonic()
    with open(log, "wb") as f:
        p = subprocess.Popen([path], cwd=work, stdout=f, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env,
                             start_new_session=True)
        try:
            code = p.wait(limit)
        except subprocess.TimeoutExpired:
            code = f"time limit of {limit} s"
            os.killpg(p.pid, signal.SIGKILL)
            p.wait()
    secs = time.monotonic() - start
    left = reap(work)
    if code == 0 and left:
        code = f"left running: {left}"
    if code == 0:
        add_passed(results, "real/" + name, secs, log)
        if header(path, "show", "no") == "yes":
            with open(log, errors="replace") as f:
                print(f.read(), end="", flush=True)
        shutil.rmtree(work, ignore_errors=True)
    elif code == 77:
        results.add("skipped", "real/" + name, secs, last_line(log))
        shutil.rmtree(work, ignore_errors=True)
    else:
        results.add("failed", "real/" + name, secs, f"{code}, kept in {work}")
        print(tail(log, 60), flush=True)


def real_cases(program, words, quick, results):
    cases = []
    for f in sorted(os.listdir(CASES)) if os.path.isdir(CASES) else []:
        path = os.path.join(CASES, f)
        name = os.path.splitext(f)[0]
        if words and not any(w in name for w in words):
            continue
        if not os.access(path, os.X_OK):
            results.add("failed", "real/" + name, 0, "is not executable (chmod +x)")
            continue
        if quick and header(path, "long", "no") == "yes" and not words:
            continue
        cases.append((name, path, header(path, "alone", "no") == "yes"))
    base = tempfile.mkdtemp(prefix="quorumfs-test-", dir=os.environ.get("TMPDIR", "/var/tmp"))
    side = [c for c in cases if not c[2]]
    lock = threading.Lock()

    def worker():
        while True:
            with lock:
                if not side:
                    return
                name, path, _ = side.pop(0)
            run_case(name, path, program, base, results)

    threads = [threading.Thread(target=worker) for _ in range(3)]       # most of them mostly wait
    [t.start() for t in threads]
    [t.join() for t in threads]
    for name, path, alone in cases:
        if alone:
            run_case(name, path, program, base, results)
    if not results.failed:
        shutil.rmtree(base, ignore_errors=True)


def main():
    args = sys.argv[1:]
    quick = "--quick" in args
    words = [a for a in args if not a.startswith("--")]
    results = Results()
    start = time.monotonic()
    os.chdir(TOP)
    build("build-test", "-Dwerror=true")
    if "--real" not in args:
        meson_tests("build-test", "unit", words, results)
    if not quick and "--real" not in args:
        build("build-asan", "-Dwerror=true", "-Db_sanitize=address,undefined")
        meson_tests("build-asan", "asan", words, results,
                    {"UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1", "QFS_SLOW": "1"})
        fuzz(words, results)
    real_cases(os.path.join(TOP, "build-test", "quorumfs"), words, quick, results)
    print(f"\nall tests took {time.monotonic() - start:.0f} s")
    for name in results.skipped:
        print("skipped:", name)
    for name in results.failed:
        print("FAILED:", name)
    print(f"{len(results.passed)} passed, {len(results.failed)} failed, {len(results.skipped)} skipped")
    sys.exit(1 if results.failed or not results.passed else 0)


main()
