"""model.py - random file operations through two mounts of one cluster, alternating, with no sleep, compared after each step with
a plain model in memory: what a call has finished on one mount, the next call sees on the other.

usage: model.py MOUNT1 MOUNT2 SEED STEPS"""
import errno, os, random, stat, sys


class Node:
    def __init__(self, mode, data=None):
        self.mode, self.data, self.kids, self.nlink = mode, data, ({} if data is None else None), 1


def err(fn, *a, **k):
    try:
        return None, fn(*a, **k)
    except OSError as e:
        return e.errno, None


def write_at(path, off, data):
    fd = os.open(path, os.O_WRONLY)
    try:
        assert os.pwrite(fd, data, off) == len(data)
    finally:
        os.close(fd)


def append(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        assert os.write(fd, data) == len(data)
    finally:
        os.close(fd)


def create(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        if data:
            assert os.write(fd, data) == len(data)
    finally:
        os.close(fd)


class Run:
    def __init__(self, mounts, seed):
        self.m, self.r, self.root = mounts, random.Random(seed), Node(0o755)
        self.held = []                          # (fd, node): long-open descriptors, read after changes elsewhere

    def nodes(self):
        out, todo = [], [("", self.root)]
        while todo:
            path, n = todo.pop()
            out.append((path, n))
            if n.kids is not None:
                todo += [(f"{path}/{k}", v) for k, v in n.kids.items()]
        return out

    def pick(self, want):
        c = [(p, n) for p, n in self.nodes() if want(n)]
        return self.r.choice(sorted(c, key=lambda x: x[0])) if c else (None, None)

    def parent(self, path):
        d, _, name = path.rpartition("/")
        n = self.root
        for part in filter(None, d.split("/")):
            n = n.kids[part]
        return n, name

    def check(self, path, n, mount):
        p = mount + path
        st = os.lstat(p)
        assert stat.S_IMODE(st.st_mode) == n.mode, (path, oct(st.st_mode), oct(n.mode))
        if n.kids is None:
            assert st.st_size == len(n.data), (path, st.st_size, len(n.data))
            assert st.st_nlink == n.nlink, (path, st.st_nlink, n.nlink)
            with open(p, "rb") as f:
                got = f.read()
            assert got == n.data, (path, "contents differ at", next((i for i in range(min(len(got), len(n.data))) if got[i] != n.data[i]), "end"))
        else:
            names = sorted(os.listdir(p))
            assert names == sorted(n.kids), (path, names, sorted(n.kids))
            assert st.st_nlink == 2 + sum(k.kids is not None for k in n.kids.values()), path

    def bytes(self, most):
        n = self.r.choice([0, 1, 3, 100, 255, 256, 257, 4095, 4096, 4097, 20000, most])
        return self.r.randbytes(self.r.randint(0, n))

    def step(self, a, b):
        r = self.r
        op = r.choice(["create", "create", "mkdir", "write", "write", "append", "truncate", "unlink", "rmdir", "rename", "rename", "chmod", "link",
                       "missing", "hold", "held"])
        name = r.choice("abcdefghij")
        if op in ("create", "mkdir"):
            dpath, d = self.pick(lambda n: n.kids is not None)
            path = f"{dpath}/{name}"
            if path.count("/") > 5:
                return op, None
            if op == "create":
                data = self.bytes(100000)
                e, _ = err(create, a + path, data)
                new = Node(0o644, data)
            else:
                e, _ = err(os.mkdir, a + path, 0o755)
                new = Node(0o755)
            assert e == (errno.EEXIST if name in d.kids else None), (op, path, e)
            if e is None:
                d.kids[name] = new
            self.check(dpath, d, b)
            self.check(path, d.kids[name], b)
        elif op in ("write", "append", "truncate", "chmod", "link"):
            path, n = self.pick(lambda n: n.kids is None)
            if path is None:
                return op, None
            if op == "write":
                off, data = r.randint(0, len(n.data) + 5000), self.bytes(200000)
                write_at(a + path, off, data)
                if data:
                    n.data = (n.data + b"\0" * max(0, off - len(n.data)))[:off] + data + n.data[off + len(data):]
            elif op == "append":
                data = self.bytes(5000)
                append(a + path, data)
                n.data += data
            elif op == "truncate":
                size = r.randint(0, len(n.data) * 2 + 10)
                os.truncate(a + path, size)
                n.data = n.data[:size] + b"\0" * (size - len(n.data))
            elif op == "chmod":
                n.mode = r.choice([0o644, 0o600, 0o755, 0o400, 0o4711])
                os.chmod(a + path, n.mode)
            else:
                dpath, d = self.pick(lambda n: n.kids is not None)
                e, _ = err(os.link, a + path, f"{a}{dpath}/{name}")
                assert e == (errno.EEXIST if name in d.kids else None), (op, path, e)
                if e is None:
                    d.kids[name] = n
                    n.nlink += 1
            self.check(path, n, b)
        elif op in ("unlink", "rmdir"):
            path, n = self.pick(lambda n: n is not self.root and (n.kids is None) == (op == "unlink"))
            if path is None:
                return op, None
            e, _ = err(os.unlink if op == "unlink" else os.rmdir, a + path)
            assert e == (errno.ENOTEMPTY if n.kids else None), (op, path, e)
            if e is None:
                d, last = self.parent(path)
                del d.kids[last]
                n.nlink -= 1
                assert err(os.lstat, b + path)[0] == errno.ENOENT, path
                self.check(path.rpartition("/")[0], d, b)
        elif op == "rename":
            path, n = self.pick(lambda n: n is not self.root)
            dpath, d = self.pick(lambda n: n.kids is not None)
            if path is None:
                return op, None
            to = f"{dpath}/{name}"
            old = d.kids.get(name)
            e, _ = err(os.rename, a + path, a + to)
            if n.kids is not None and (to + "/").startswith(path + "/") and to != path:
                want = errno.EINVAL
            elif old is None or old is n:
                want = None
            elif old.kids is not None and n.kids is None:
                want = errno.EISDIR
            elif old.kids is None and n.kids is not None:
                want = errno.ENOTDIR
            elif old.kids:
                want = errno.ENOTEMPTY
            else:
                want = None
            ancestor = (path + "/").startswith(to + "/") and to != path
            assert e == want or (ancestor and e == errno.ENOTEMPTY), (op, path, to, e, want)
            if e is None and old is not n:
                src, last = self.parent(path)
                del src.kids[last]
                d.kids[name] = n
                if old is not None:
                    old.nlink -= 1
                assert err(os.lstat, b + path)[0] == errno.ENOENT, path
                self.check(to, n, b)
        elif op == "missing":
            dpath, d = self.pick(lambda n: n.kids is not None)
            if name not in d.kids:
                assert err(os.lstat, f"{a}{dpath}/{name}")[0] == errno.ENOENT
        elif op == "hold":
            path, n = self.pick(lambda n: n.kids is None)
            if path is not None:
                self.held.append((os.open(b + path, os.O_RDONLY), n))
                if len(self.held) > 8:
                    os.close(self.held.pop(0)[0])
        elif op == "held" and self.held:        # reading on through an old descriptor sees what others wrote
            fd, n = r.choice(self.held)
            off = r.randint(0, len(n.data))
            got = os.pread(fd, 5000, off)
            assert got == n.data[off:off + 5000], ("held", off, len(got), len(n.data))
            assert os.fstat(fd).st_size == len(n.data)
        return op, None


def main():
    mounts, seed, steps = sys.argv[1:3], int(sys.argv[3]), int(sys.argv[4])
    base = f"/model-{seed}"
    os.mkdir(mounts[0] + base)
    run = Run([m + base for m in mounts], seed)
    for i in range(steps):
        a, b = (run.m if run.r.random() < .5 else run.m[::-1])
        try:
            run.step(a, b)
        except (AssertionError, OSError):
            print(f"seed {seed}, step {i}", file=sys.stderr)
            raise
    for fd, _ in run.held:
        os.close(fd)
    for m in run.m:
        for path, n in run.nodes():
            run.check(path, n, m)
    print(f"seed {seed}: {steps} steps, {len(run.nodes())} objects at the end, both mounts agree with the model")


main()
