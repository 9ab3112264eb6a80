#!/usr/bin/env python3
"""mr_progress.py QUORUMFS - runs jobs on a terminal of its own, in a pipe and with --json, in the current directory, and judges what
they show. The terminal is a screen of WIDTH columns that knows CR, LF, BS and "erase to the end of the line"."""
import fcntl, json, os, pty, re, select, signal, struct, subprocess, sys, termios, time

QFS = sys.argv[1]
BAR = re.compile(r"(?:\[([#.]+)\] )?(job \d of \d  )?map (\d+)/(\d+)  reduce (\d+)/(\d+)  (\d+) workers?  \d+ MB/s"
                 r"(?:, (\d+) (s|min) left of (map|reduce))?$")


class Screen:
    """Lines above, the line at hand, and every state that line had when it was complete (erased behind)."""

    def __init__(self, width):
        self.width, self.lines, self.line, self.at, self.frames, self.most = width, [], [], 0, [], 0
        self.rest = b""

    def feed(self, data):
        data = self.rest + data
        self.rest = b""
        i = 0
        while i < len(data):
            c = data[i:i + 1]
            if c == b"\033":
                if len(data) - i < 3:
                    self.rest = data[i:]        # the rest of it comes later
                    return
                assert data[i:i + 3] == b"\033[K", data[i:i + 20]
                del self.line[self.at:]
                self.frames.append((self.width, "".join(self.line)))
                i += 2
            elif c == b"\r":
                self.at = 0
            elif c == b"\n":
                self.lines.append("".join(self.line))
                self.line, self.at = [], 0
            else:
                self.line[self.at:self.at + 1] = [c.decode("latin-1")]
                self.at += 1
                self.most = max(self.most, self.at - self.width)
            i += 1


def on_terminal(args, width, then=None, term="xterm"):
    """The screen and the exit code; then(screen, process, resize) is called whenever something was shown."""
    master, slave = pty.openpty()
    screen = Screen(width)

    def resize(columns):
        screen.width = columns
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))

    resize(width)
    attr = termios.tcgetattr(slave)
    attr[3] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, attr)
    p = subprocess.Popen([QFS, "mr", "run", *args], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                         env=dict(os.environ, TERM=term))
    os.close(slave)
    deadline = time.monotonic() + 120
    while True:
        assert select.select([master], [], [], max(0, deadline - time.monotonic()))[0], "it does not end"
        try:
            data = os.read(master, 65536)
        except OSError:
            data = b""                          # Linux' way to say that nobody has the terminal open
        if not data:
            break
        screen.feed(data)
        if then:
            then(screen, p, resize)
    os.close(master)
    return screen, p.wait()


def slow(output, *more):
    """Eight map tasks and three reduce tasks that take a while, on two workers."""
    return ["--map", "sleep 0.3; cat", "--reduce", "sleep 0.5; cat", "--input", "in", "--split-size", "1000", "--reducers", "3",
            "--workers", "2", "--workdir", "work", "--output", output, *more]


def check_frames(frames):
    """Each frame is a bar or part of one; what they tell only grows. The phases of which time was left."""
    last, filled, phases, whole = (0, 0), 0.0, set(), 0
    for width, f in frames:
        if f == "":
            continue                            # the bar made room for a line
        assert len(f) < width, (width, f)
        m = BAR.match(f)
        if not m:
            assert len(f) == width - 1 and f.startswith(("map ", "job ")), (width, f)      # cut where the terminal ends
            continue
        whole += 1
        done, maps, reduces = (int(m[3]), int(m[5])), int(m[4]), int(m[6])
        assert done >= last and done[0] <= maps and done[1] <= reduces, (last, f)
        last = done
        if m[1]:
            now = m[1].count("#") / len(m[1])
            assert "#." in m[1] or set(m[1]) in ({"#"}, {"."}), f
            assert now >= filled - 0.3, f       # (of another length since the window changed)
            filled = now
        if m[10]:
            assert int(m[8]) < 60 and m[9] == "s", f
            phases.add(m[10])
    return phases, whole, last


def check_end(screen, output, what):
    text = screen.lines
    assert screen.line == [], f"{what}: the cursor stays behind {''.join(screen.line)!r}"
    assert re.match(rf"{output}: 3 parts, \d+ lines, [\d.]+ MB; [\d.]+ MB read in [\d.]+ s \([\d.]+ MB/s\)", text[-1]), (what, text)
    assert not [l for l in text if "#" in l or ".." in l or " worker" in l], (what, text)       # nothing of the bar stays


os.makedirs("work")
with open("in", "w") as f:
    f.write("".join(f"line {i:04}\n" for i in range(790)))

for width in (200, 80, 50, 20):
    s, code = on_terminal(slow(f"o{width}"), width)
    assert code == 0, (code, s.lines)
    phases, whole, last = check_frames(s.frames)
    assert len(s.frames) >= 8, s.frames
    if width >= 80:
        assert phases == {"map", "reduce"} and whole >= 8 and last[1] >= 1, (width, phases, s.frames)
        assert any("#." in f for _, f in s.frames), s.frames
    check_end(s, f"o{width}", width)
    print(f"{width} columns ... ok, {len(s.frames)} frames")

sizes = iter((60, 120, 15))
def change(screen, p, resize):
    if len(screen.frames) >= 5 * change.n:
        resize(next(sizes, 70))
        change.n += 1
change.n = 1
s, code = on_terminal(slow("resized"), 100, change)
assert code == 0 and len({w for w, _ in s.frames}) >= 3, s.frames
# A frame may still be of the window as it was the moment before.
assert all(len(f) < max(w, before) for (before, _), (w, f) in zip(s.frames, s.frames[1:])), s.frames
assert any(w == 15 and len(f) == 14 for w, f in s.frames) and any(w == 70 and BAR.match(f) for w, f in s.frames), s.frames
check_end(s, "resized", "a window that changes")
print("a window that changes ... ok")

# What is said meanwhile has a line of its own.
s, code = on_terminal(slow("noted", "--map", "sleep 0.3; test $MR_TASK != 3 || test $MR_ATTEMPT != 0 || exit 9; cat"), 80)
assert code == 0 and any(re.match(r"map task 3, attempt 1 at worker \d: .*exited with status 9$", l) for l in s.lines), s.lines
assert any(f == "" for _, f in s.frames)
assert re.match(r"noted: .*; 1 attempt failed, 0 were lost with workers$", s.lines[-1]) and s.line == [], s.lines
assert not [l for l in s.lines if re.search(" workers?  ", l)], s.lines
print("a note while the bar is shown ... ok")

for local in (False, True):
    def interrupt(screen, p, resize):
        if len(screen.frames) == 4:
            os.killpg(p.pid, signal.SIGINT)
    args = slow(f"stopped{local}")
    if local:
        at = args.index("--workers")
        args[at:at + 2] = ["--local"]
    s, code = on_terminal(args, 80, interrupt)
    assert code == 1 and s.line == [], (code, s.line)
    assert "quorumfs mr: stopped by Ctrl-C" in s.lines, s.lines
    assert not [l for l in s.lines if re.search(" workers?  ", l)] and s.frames[-1][1] == "", (s.lines, s.frames[-1])
    assert not os.path.exists(f"stopped{local}")
print("Ctrl-C ... ok")

for name, terminal in (("pipe", False), ("dumb", True)):
    if terminal:
        s, code = on_terminal(slow(name), 80, term="dumb")
        assert s.frames == [], s.frames
        lines = s.lines
    else:
        p = subprocess.run([QFS, "mr", "run", *slow(name)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        code, lines = p.returncode, p.stderr.splitlines()
        assert re.fullmatch(r"pipe: 3 parts, .*\n", p.stdout), p.stdout
        assert "\r" not in p.stderr and "\033" not in p.stderr, p.stderr
    assert code == 0
    shown = [l for l in lines if re.fullmatch(r"(map|reduce|publish): map \d/8, reduce \d/3, \d workers?, [\d.]+ MB/s, [\d.]+ s"
                                              r"(, \d+ s left of (map|reduce))?", l)]
    assert 1 <= len(shown) <= 4, lines          # one in two seconds
    print(f"plain lines ({name}) ... ok")

p = subprocess.run([QFS, "mr", "run", "--json", *slow("json", "--map", 'sleep 0.3; test $MR_TASK != 3 || test $MR_ATTEMPT != 0 || exit 9; cat')],
                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
events = [json.loads(l) for l in p.stdout.splitlines()]
assert p.returncode == 0 and p.stderr == "", (p.returncode, p.stderr)
kinds = [e["event"] for e in events]
assert kinds[0] == "start" and kinds[-1] == "done" and {"note", "progress"} <= set(kinds), kinds
assert [e["seconds"] for e in events] == sorted(e["seconds"] for e in events)
assert events[0]["map_tasks"] == 8 and events[0]["reduce_tasks"] == 3 and events[0]["bytes"] == 7900
for e in events:
    if e["event"] == "progress":
        assert e["phase"] in ("map", "reduce", "publish") and e["maps_done"] <= 8 and e["workers"] <= 2 and "seconds_left" in e, e
assert events[-1]["lines"] == 790 and events[-1]["failed_attempts"] == 1 and events[-1]["output"] == "json", events[-1]

# Names that want quoting, and a failure.
os.mkdir('a "b"\n\u00e4')
p = subprocess.run([QFS, "mr", "run", "--json", "--workdir", "work", "--attempts", "1", "--map", 'echo "no \\"way\\"\t\u00e4" >&2; exit 3', "--reduce", "cat",
                    "--input", "in", "--output", 'a "b"\n\u00e4/out'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
events = [json.loads(l) for l in p.stdout.splitlines()]
assert p.returncode == 1 and events[-1]["event"] == "failed" and 'no "way"\t\u00e4' in events[-1]["why"], events
assert 'a "b"\n\u00e4/.out.mr-' in events[-1]["directory"] and events[0]["directory"] == events[-1]["directory"], events

# A chain says which job it is at; "done" comes once, when all are.
p = subprocess.run([QFS, "mr", "run", "--json", *slow("chained"), "--then", "--map", "cat", "--reduce", "cat"],
                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
events = [json.loads(l) for l in p.stdout.splitlines()]
assert p.returncode == 0 and [(e["stage"], e["stages"]) for e in events if e["event"] == "stage_done"] == [(1, 2), (2, 2)], events
assert [e["event"] for e in events].count("done") == 1 and events[-1]["event"] == "done", events
assert events[-1]["output"] == os.path.abspath("chained") and events[-1]["stages"] == 2, events[-1]
print("JSON lines ... ok")
