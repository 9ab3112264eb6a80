#!/usr/bin/env python3
"""mr_property.py QUORUMFS DIR SEEDS - random MapReduce jobs against an oracle of a few lines of Python: random inputs of every
format, compressed or not, every partitioner, order of values, split size and number of reducers. Each record must come out
exactly once, in exactly the right place, and --local must give the same bytes. A failing seed is printed; SEEDS may be one number
(so many from 1) or "N-M"."""
import gzip, os, random, shutil, subprocess, sys

QFS, DIR = sys.argv[1], sys.argv[2]
lo, _, hi = (sys.argv[3] if "-" in sys.argv[3] else "1-" + sys.argv[3]).partition("-")


def fnv(key):
    h = 2166136261
    for c in key:
        h = (h ^ c) * 16777619 & 0xffffffff
    return h & 0x7fffffff


def word(r, binary):
    alphabet = bytes(range(256)) if binary else b"abcAB \xc3\xa4\t,"
    return bytes(r.choice(alphabet) for _ in range(r.choice([0, 1, 2, 3, 9, 20])))


def pair(key, value):
    return len(key).to_bytes(4, "little") + len(value).to_bytes(4, "little") + key + value


def make_lines(r):
    """A text and its lines; what a text cannot tell apart (CRLF) is part of the line, as a command sees it."""
    lines = []
    for _ in range(r.choice([0, 1, 2, 30, 300])):
        line = word(r, False)
        if r.random() < 0.02:
            line = line * 40000         # far over a split
        lines.append(line + (b"\r" if r.random() < 0.1 else b""))
    text = b"".join(l + b"\n" for l in lines)
    if lines and lines[-1] and r.random() < 0.3:
        text = text[:-1]
    return text, lines


def make_file(r, kind, size):
    """(bytes, records as (key, value) of an identity map)"""
    if kind == "lines":
        text, lines = make_lines(r)
        return text, lines
    if kind == "records":
        v = [bytes(r.randrange(256) for _ in range(size)) for _ in range(r.choice([0, 1, 50]))]
        return b"".join(v), v
    if kind == "files":
        text = b"\n".join(word(r, True) for _ in range(r.choice([0, 1, 5])))
        return text, [text]
    pairs = [(word(r, True), word(r, True)) for _ in range(r.choice([0, 1, 100]))]
    return b"".join(pair(*p) for p in pairs), pairs


def pack(r, path, data):
    how = r.choice(["", "", ".gz", ".zst"])
    if how == "" or not data:
        open(path, "wb").write(data)
        return path
    cut = r.randrange(len(data) + 1)     # two streams one behind the other are one
    if how == ".gz":
        out = gzip.compress(data[:cut]) + gzip.compress(data[cut:])
    else:
        z = lambda b: subprocess.run(["zstd", "-qc"], input=b, stdout=subprocess.PIPE, check=True).stdout
        out = z(data[:cut]) + z(data[cut:])
    open(path + how, "wb").write(out)
    return path + how


def run(args, out, local):
    how = ["--local"] if local else ["--workers", "2"]
    p = subprocess.run([QFS, "mr", "run", *args, "--output", out, *how], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if p.returncode:
        sys.exit(f"{' '.join(args)}: exit {p.returncode}\n{p.stdout.decode(errors='replace')}")
    return [open(f"{out}/{f}", "rb").read() for f in sorted(os.listdir(out)) if f.startswith("part-")]


def job(r, seed):
    kind = r.choice(["lines", "lines", "records", "files", "pairs"])
    size, reducers, fields = r.randrange(1, 40), r.randrange(1, 6), r.randrange(1, 4)
    pipe = "lines" if kind == "lines" and r.random() < 0.6 else "pairs"
    partition = r.choice(["hash", "range", f"field:{fields}"])
    separator = r.choice(["\t", ","]) if partition.startswith("field") else "\t"
    sort_values, app = r.random() < 0.4, r.random() < 0.3
    top = f"{DIR}/{seed}"
    os.makedirs(top + "/in/sub")
    records, inputs = [], []
    for i in range(r.randrange(1, 5)):
        data, rec = make_file(r, kind, size)
        inputs.append(pack(r, f"{top}/in/{'sub/' if r.random() < 0.3 else ''}f{i}", data))
        records += rec
    key_fields = fields if pipe == "lines" and not app and r.random() < 0.5 else 1
    total = sum(os.path.getsize(f) for f in inputs)
    args = ["--split-size", str(max(r.choice([1, 7, 100, 5000]), total // 60)), "--reducers", str(reducers), "--partition", partition]
    args += ["--record-size", str(size)] if kind == "records" else ["--input-format", kind]
    for f in inputs:
        args += ["--input", f]
    args += ["--field-separator", separator] if separator != "\t" else []
    args += ["--sort-values"] if sort_values else []
    args += ["--key-fields", str(key_fields)] if key_fields > 1 else []
    # What an identity map makes of a record.
    def split(line, n):
        f = line.split(b"\t")
        return b"\t".join(f[:n]), b"\t".join(f[n:])
    if app:
        args += ["--map", "identity", "--reduce", "identity", "--output-format", "pairs"]
        if kind == "pairs":
            pairs = records
        else:
            strip = (lambda l: l[:-1] if l.endswith(b"\r") else l) if kind == "lines" else lambda l: l
            pairs = [split(strip(l), 1) for l in records]
    else:
        args += ["--map", "cat", "--reduce", "cat", "--pipe", pipe]
        args += ["--output-format", "pairs"] if pipe == "pairs" else []
        if pipe == "lines":
            pairs = [split(l, key_fields) for l in records]
        elif kind == "lines":
            pairs = [(b"", l[:-1] if l.endswith(b"\r") else l) for l in records]
        else:
            pairs = records if kind == "pairs" else [(b"", l) for l in records]
    show = (lambda p: p[0] + b"\t" + p[1] + b"\n") if pipe == "lines" and not app else lambda p: pair(*p)
    order = (lambda p: p) if sort_values else lambda p: p[0]
    return args, reducers, partition, separator.encode(), fields, pairs, show, order, top


def check(seed):
    r = random.Random(seed)
    args, reducers, partition, separator, fields, pairs, show, order, top = job(r, seed)
    parts = run(args, top + "/out", False)
    local = run(args, top + "/local", True)
    assert parts == local, "--local gives other bytes"
    assert len(parts) == reducers
    if partition == "range":
        want = b"".join(show(p) for p in sorted(pairs, key=order))
        assert b"".join(parts) == want, "the parts together are not the records in order"
        if reducers > 1 and len({p[0] for p in pairs}) > 50:
            assert sum(1 for p in parts if p) > 1, "everything went into one part"
    else:
        of = lambda k: k if partition == "hash" else separator.join(k.split(separator)[:fields])
        for i, part in enumerate(parts):
            mine = [p for p in pairs if fnv(of(p[0])) % reducers == i]
            assert part == b"".join(show(p) for p in sorted(mine, key=order)), f"part {i} is wrong"
    shutil.rmtree(top)


for seed in range(int(lo), int(hi) + 1):
    try:
        check(seed)
    except AssertionError as e:
        args = job(random.Random(seed), f"{seed}-again")[0]
        sys.exit(f"seed {seed}: {e}\n  {' '.join(args)}")
print(f"{int(hi) - int(lo) + 1} random jobs are right")
