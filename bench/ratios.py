#!/usr/bin/env python3
"""ratios.py fs DIR PEER... | kv RESULTS.tsv - ours against each peer, from the raw rows of one run. Above 1 is better for us."""
import json, os, statistics, sys


def fs(directory, peers):
    rows = {}
    for p in peers + ["ours"]:
        path = os.path.join(directory, p + ".jsonl")
        for line in open(path) if os.path.exists(path) else []:
            o = json.loads(line)
            if "median" in o:
                rows.setdefault(o["workload"], {})[p] = (o["median"], o["unit"])
    print("\n| workload | ours | " + " | ".join(f"x {p}" for p in peers) + " |\n|---|---:|" + "---:|" * len(peers))
    for w, by in rows.items():
        if "ours" not in by:
            continue
        mine, unit = by["ours"]
        cells = []
        for p in peers:
            theirs = by.get(p, (0, ""))[0]
            x = 0 if not theirs or not mine else (theirs / mine if unit == "s" else mine / theirs)
            cells.append(f"{x:.2f}" if x else "-")
        print(f"| {w}, {unit} | {mine:,.2f} | " + " | ".join(cells) + " |")


def kv(path):
    cells = {}
    for line in open(path):
        f = line.rstrip("\n").split("\t")
        if f[0] != "peer" and f[1] != "fill":
            cells.setdefault((f[1], int(f[2]), int(f[3])), {}).setdefault(f[0], []).append(f)
    print("\n| cell | ours ops/s (p50 / p99 us) | x etcd | x libraft | ours: flushes/op, KiB written/op |\n|---|---:|---:|---:|---:|")
    for key in sorted(cells):
        by = cells[key]
        if "ours" not in by:
            continue
        med = {p: statistics.median(float(r[4]) for r in rs) for p, rs in by.items()}
        r = by["ours"][-1]
        ratio = lambda p: f"{med['ours'] / med[p]:.2f}" if med.get(p) else "-"
        print(f"| {key[0]} {key[1]} B, {key[2]} clients | {med['ours']:,.0f} ({r[5]} / {r[6]}) | {ratio('etcd')} | {ratio('raft')} | {r[9]}, {r[10]} |")


fs(sys.argv[2], sys.argv[3:]) if sys.argv[1] == "fs" else kv(sys.argv[2])
