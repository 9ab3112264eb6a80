#!/usr/bin/env python3
"""tidy.py BUILD_DIR - the repository checks itself: who includes whom, what the pure folders may call, line lengths, words that
must not land. Prints each slip as file:line: text."""
import os, re, subprocess, sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = sys.argv[1]
FOLDERS = ["base", "raft", "fs", "kv", "io", "mount", "mr", "cli"]

# Who may include whom (DESIGN section 1). A folder is entered only through the header named after it.
MAY = {
    "base": set(), "raft": {"base"}, "fs": {"base"}, "kv": {"base", "raft", "fs"}, "io": {"base"},
    "mount": {"base", "raft", "fs", "kv"}, "mr": {"base", "io"}, "cli": {"base", "raft", "fs", "kv", "io", "mount", "mr"},
}
# System headers that belong to one folder only.
ONLY = {"uv.h": "io", "fuse_lowlevel.h": "mount", "fuse.h": "mount", "fuse_opt.h": "mount", "jansson.h": "cli"}
# What the pure archives may leave undefined: no clock, no system call, no hidden state.
PURE = ["base", "raft", "fs", "kv"]
ALLOWED = set("""memcpy memmove memset memcmp memchr memrchr memmem strlen strcmp strncmp strchr strrchr strnlen strerror strerrordesc_np strerrorname_np
    malloc calloc realloc free abort qsort bsearch snprintf vsnprintf __snprintf_chk __vsnprintf_chk __memcpy_chk __memmove_chk __memset_chk
    __stack_chk_fail _GLOBAL_OFFSET_TABLE_ __cpu_model __cpu_indicator_init __assert_fail fprintf __fprintf_chk fputs fflush stderr fwrite
    strtoull __isoc23_strtoull strtoul __popcountdi2""".split())
ONLY_IN_CHECK = {"fprintf", "__fprintf_chk", "fputs", "fflush", "stderr", "fwrite", "abort"}

slips = []


def slip(path, line, text):
    slips.append(f"{os.path.relpath(path, TOP)}:{line}: {text}")


def sources():
    for top in FOLDERS + ["tests", "bench"]:
        for d, _, names in os.walk(os.path.join(TOP, top)):
            for n in sorted(names):
                if n.endswith((".c", ".h")):
                    yield top, os.path.join(d, n)


def check_file(top, path):
    for i, line in enumerate(open(path, encoding="utf-8"), 1):
        m = re.match(r'\s*#\s*include\s+([<"])([^>"]+)[>"]', line)
        if m:
            check_include(top, path, i, m.group(1), m.group(2))
        if len(line.rstrip("\n")) > 160:
            slip(path, i, "a line of more than 160 columns")
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line):
            slip(path, i, "unfinished by its own words")
        if "\t" in line:
            slip(path, i, "a tab")


def check_include(top, path, i, kind, target):
    if kind == "<":
        owner = ONLY.get(os.path.basename(target))
        if owner and top in FOLDERS and top != owner:
            slip(path, i, f"<{target}> belongs to {owner}/")
        return
    folder, _, name = target.partition("/")
    if folder not in FOLDERS or top not in FOLDERS or folder == top:
        return
    if folder not in MAY[top]:
        slip(path, i, f"{top}/ may not include {folder}/")
    elif name != f"{folder}.h":
        slip(path, i, f"{folder}/ has one door, {folder}/{folder}.h")


def undefined(folder):
    """(object, symbol) pairs that the archive needs from outside."""
    out = subprocess.run(["nm", "-A", "-u", f"{BUILD}/{folder}/libqfs_{folder}.a"], check=True, stdout=subprocess.PIPE, text=True).stdout
    for l in out.splitlines():
        where, _, sym = l.rpartition(" U ")
        if sym:
            yield os.path.basename(where.split(":")[1]), sym.strip()


def defined(folder):
    out = subprocess.run(["nm", "-g", "--defined-only", f"{BUILD}/{folder}/libqfs_{folder}.a"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return {l.split()[-1] for l in out.splitlines() if len(l.split()) == 3}


def writable(folder):
    """(object, name) of what lies in a writable section; .data.rel.ro is constant once the program runs."""
    if "asan" in BUILD:                 # the sanitizer keeps its own records there
        return
    out = subprocess.run(["nm", "-f", "sysv", "-A", f"{BUILD}/{folder}/libqfs_{folder}.a"], check=True, stdout=subprocess.PIPE, text=True).stdout
    for l in out.splitlines():
        f = [x.strip() for x in l.split("|")]
        if len(f) == 7 and f[2] in "BbDdCc" and f[6].startswith((".data", ".bss", "*COM*")) and not f[6].startswith(".data.rel.ro"):
            yield os.path.basename(f[0].split(":")[1]), f[0].split(":")[-1]


def check_pure():
    ours = set().union(*(defined(f) for f in PURE))
    seen = 0
    for f in PURE:
        for obj, sym in undefined(f):
            seen += 1
            if sym in ours or sym.startswith(("__asan", "__ubsan", "__tsan", "__sanitizer")):
                continue
            if sym not in ALLOWED or (sym in ONLY_IN_CHECK and not obj.startswith("check.c")):
                slips.append(f"{f}/{obj}: calls {sym}, which a pure folder may not")
        for obj, name in writable(f):
            slips.append(f"{f}/{obj}: {name} is writable global state")
    assert seen > 50, "nm found hardly any symbol: this check does not work"


n = 0
for top, path in sources():
    check_file(top, path)
    n += 1
assert n > 40, "hardly any source was found: this check does not work"
check_pure()
print("\n".join(slips))
print(f"{n} files, {len(slips)} slips")
sys.exit(1 if slips else 0)
