/* check.c - does everything hold that must hold between the rows?
 *
 * One walk over all rows looks at each of them and at what it refers to, and gathers two lists: the inode of every
 * directory entry, and the borders of every extent's payload. Sorted, the first one gives the number of names of each
 * inode, and the second one the runs that the payload rows must be. Takes memory in proportion to the files. */
#include "fs/dirent.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "fs/extent.h"
#include "fs/payload.h"

/* At pos of the log entry, references begin (+1) or end (-1). */
struct border {
    uint64_t index, pos;
    int64_t step;
};

struct checker {
    const struct fs *fs;
    struct buf *why;
    struct counters found, stored;
    struct buf named;                /* uint64_t each */
    struct buf borders;              /* struct border each */
};

__attribute__((format(printf, 2, 3))) static int wrong(struct checker *c, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (c->why && n > 0) buf_append(c->why, text, min_u64((uint64_t)n, sizeof(text) - 1));
    return -EUCLEAN;
}

#define INO(n) ((unsigned long long)(n))        /* for %llu */

/* ---- one inode --------------------------------------------------------------------------------------------------- */

static int check_entries(struct checker *c, const struct inode *n)
{
    uint64_t entries = 0, subdirs = 0;
    struct omap_iter it;
    bool ok = fs__seek_rows(&it, c->fs->map, ROW_ENTRY, n->a.ino);
    for (; ok; ok = fs__next_row(&it, ROW_ENTRY, n->a.ino)) {
        struct slice name = fs__key_tail(omap_iter_key(&it));
        struct dirent e;
        struct inode child;
        if (fs__name_check(name) != 0 || fs__is_dot(name) || fs__is_dotdot(name))
            return wrong(c, "directory %llu has an entry with an impossible name", INO(n->a.ino));
        if (fs__dirent_decode(omap_iter_value(&it), &e) != 0 || fs__dirent_inode(c->fs->map, n->a.ino, &e, &child) != 0)
            return wrong(c, "entry %.*s of directory %llu has no inode that matches it", (int)name.n,
                         (const char *)name.p, INO(n->a.ino));
        struct key k;
        struct slice none;
        if (!omap_get(c->fs->map, fs__key_link(&k, e.ino, n->a.ino, name), &none))
            return wrong(c, "inode %llu does not know its name %.*s", INO(e.ino), (int)name.n, (const char *)name.p);
        buf_append(&c->named, &e.ino, sizeof(e.ino));
        entries++;
        if (fs__is_dir(&child)) subdirs++;
    }
    if (entries != n->a.size)
        return wrong(c, "directory %llu has %llu entries, not %llu", INO(n->a.ino), INO(entries), INO(n->a.size));
    if (subdirs + 2 != n->a.nlink)
        return wrong(c, "directory %llu has %llu subdirectories and link count %u", INO(n->a.ino), INO(subdirs),
                     n->a.nlink);
    return 0;
}

static int check_dir(struct checker *c, const struct inode *n)
{
    c->found.dirs++;
    if (n->a.blocks != 0) return wrong(c, "directory %llu holds blocks", INO(n->a.ino));
    if (n->a.ino == FS_ROOT_INO && n->parent != FS_ROOT_INO) return wrong(c, "the root has a parent");
    int err = check_entries(c, n);
    if (err) return err;
    return fs__is_above(c->fs->map, FS_ROOT_INO, n) == 1 ? 0 : wrong(c, "directory %llu is not below the root",
                                                                     INO(n->a.ino));
}

static int check_extents(struct checker *c, const struct inode *n)
{
    struct extent_iter i;
    struct extent e;
    uint64_t blocks = 0;
    int got = fs__extent_first(&i, c->fs->map, n->a.ino, 0, &e);
    for (; got > 0; got = fs__extent_next(&i, &e)) {
        if (fs__extent_end(&e) > n->a.size) return wrong(c, "file %llu has data behind its end", INO(n->a.ino));
        blocks += fs__blocks(e.len);
        if (e.inlined) continue;
        struct border b[2] = {{e.loc.index, e.loc.off, 1}, {e.loc.index, (uint64_t)e.loc.off + e.len, -1}};
        buf_append(&c->borders, b, sizeof(b));
    }
    if (got < 0) return wrong(c, "file %llu has an unsound extent", INO(n->a.ino));
    if (blocks != n->a.blocks)
        return wrong(c, "file %llu holds %llu blocks, not %llu", INO(n->a.ino), INO(blocks), INO(n->a.blocks));
    c->found.blocks += blocks;
    return 0;
}

static int check_nondir(struct checker *c, const struct inode *n)
{
    struct key k;
    struct slice target;
    struct omap_iter it;
    c->found.files++;
    bool owed = fs__seek_rows(&it, c->fs->map, ROW_OWED, n->a.ino);
    if (owed != (n->a.nlink == 0))
        return wrong(c, "file %llu has %u names and is %sowed for", INO(n->a.ino), n->a.nlink, owed ? "" : "not ");
    if (fs__is_regular(n)) return check_extents(c, n);
    if (n->a.blocks) return wrong(c, "inode %llu holds blocks", INO(n->a.ino));
    uint64_t size = 0;
    if (S_ISLNK(n->a.mode)) {
        if (!omap_get(c->fs->map, fs__key_id(&k, ROW_TARGET, n->a.ino), &target))
            return wrong(c, "symbolic link %llu has no target", INO(n->a.ino));
        size = target.n;
    }
    return size == n->a.size ? 0 : wrong(c, "inode %llu has a wrong size", INO(n->a.ino));
}

static int check_inode(struct checker *c, struct slice key)
{
    struct inode n;
    struct omap_iter it;
    uint64_t ino = fs__key_get_id(key);
    if (!fs__key_is_id(key) || fs__inode_get(c->fs->map, ino, &n) != 0) return wrong(c, "inode %llu is unreadable", INO(ino));
    if (ino >= c->found.next_ino) c->found.next_ino = ino + 1;
    if (fs__seek_rows(&it, c->fs->map, ROW_XATTR, ino) != n.a.has_xattr)
        return wrong(c, "inode %llu and its extended attributes differ", INO(ino));
    return fs__is_dir(&n) ? check_dir(c, &n) : check_nondir(c, &n);
}

/* ---- rows that belong to another one ----------------------------------------------------------------------------- */

/* The inode of a row must exist and be of the type (0: any). */
static int check_owner(struct checker *c, struct slice key, uint32_t type)
{
    struct inode n;
    uint64_t ino = fs__key_get_id(key);
    if (fs__inode_get(c->fs->map, ino, &n) != 0 || (type && (n.a.mode & S_IFMT) != type))
        return wrong(c, "a row of kind '%c' belongs to inode %llu, which is not there or of another type", key.p[0],
                     INO(ino));
    return 0;
}

/* A name that an inode knows must be the directory's, too. */
static int check_link(struct checker *c, struct slice key, struct slice value)
{
    struct dirent e;
    struct slice name;
    uint64_t ino = fs__key_get_id(key), dir;
    if (!fs__key_link_parts(key, &dir, &name) || value.n) return wrong(c, "a name of inode %llu is unreadable", INO(ino));
    if (fs__dirent_get(c->fs->map, dir, name, &e) != 0 || e.ino != ino)
        return wrong(c, "inode %llu has a name that its directory does not know", INO(ino));
    return 0;
}

static bool has_pair(struct checker *c, int kind, uint64_t a, uint64_t b)
{
    struct key k;
    struct slice value;
    return omap_get(c->fs->map, fs__key_pair(&k, kind, a, b), &value);
}

static int check_debt(struct checker *c, struct slice key)
{
    struct key k;
    struct slice value;
    uint64_t first = fs__key_get_id(key), second;
    if (!fs__key_second(key, &second)) return wrong(c, "a row of kind '%c' has a bad key", key.p[0]);
    bool owed = key.p[0] == ROW_OWED;
    uint64_t session = owed ? second : first, ino = owed ? first : second;
    if (!has_pair(c, owed ? ROW_OWING : ROW_OWED, second, first))
        return wrong(c, "session %llu and file %llu: one of two rows is missing", INO(session), INO(ino));
    if (!omap_get(c->fs->map, fs__key_id(&k, ROW_MOUNT, session), &value))
        return wrong(c, "session %llu owes for file %llu and is not registered", INO(session), INO(ino));
    return owed ? check_owner(c, key, S_IFREG) : 0;
}

static int check_row(struct checker *c, struct slice key, struct slice value)
{
    struct run x;
    uint8_t kind = key.p[0];
    if (!memchr("abegilmopqx", kind, 11)) return 0;
    if (kind == ROW_COUNTERS ? key.n != 1 : !fs__key_has_id(key)) return wrong(c, "a row of kind '%c' has a bad key", kind);
    switch (kind) {
    case ROW_COUNTERS: return 0;
    case ROW_INODE: return check_inode(c, key);
    case ROW_NAME: return check_link(c, key, value);
    case ROW_ENTRY: return check_owner(c, key, S_IFDIR);
    case ROW_EXTENT: return check_owner(c, key, S_IFREG);
    case ROW_TARGET: return fs__key_is_id(key) ? check_owner(c, key, S_IFLNK) : wrong(c, "a target has a bad key");
    case ROW_XATTR: return !fs__key_is_id(key) ? check_owner(c, key, 0) : wrong(c, "an extended attribute has no name");
    case ROW_MOUNT: return fs__key_is_id(key) && value.n == 0 ? 0 : wrong(c, "a mount session's row is unreadable");
    case ROW_PAYLOAD: return fs__run_decode(key, value, &x) == 0 ? 0 : wrong(c, "a payload row is unreadable");
    default: return check_debt(c, key);
    }
}

/* ---- what the lists say ------------------------------------------------------------------------------------------ */

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = load_u64(a), y = load_u64(b);
    return (x > y) - (x < y);
}

static int check_names(struct checker *c)
{
    struct omap_iter it;
    const uint8_t kind = ROW_INODE;
    size_t total = c->named.n / sizeof(uint64_t), at = 0;
    const uint64_t *v = (const uint64_t *)(const void *)c->named.p;
    if (total) qsort(c->named.p, total, sizeof(uint64_t), compare_u64);
    bool ok = omap_seek(&it, c->fs->map, slice_of(&kind, 1));
    for (; ok && fs__key_of_kind(omap_iter_key(&it), ROW_INODE); ok = omap_next(&it)) {
        struct inode n;
        uint64_t names = 0;
        if (fs__inode_get(c->fs->map, fs__key_get_id(omap_iter_key(&it)), &n) != 0) return wrong(c, "unreadable");
        for (; at < total && v[at] == n.a.ino; at++) names++;
        uint64_t must = fs__is_dir(&n) ? n.a.ino != FS_ROOT_INO : n.a.nlink;
        if (names != must)
            return wrong(c, "inode %llu has %llu names, not %llu", INO(n.a.ino), INO(names), INO(must));
    }
    return 0;
}

static int compare_borders(const void *a, const void *b)
{
    const struct border *x = a, *y = b;
    if (x->index != y->index) return x->index < y->index ? -1 : 1;
    return (x->pos > y->pos) - (x->pos < y->pos);
}

/* The payload rows must go on with exactly this run. */
static int expect_run(struct checker *c, struct omap_iter *it, uint64_t index, const struct run *must)
{
    struct run is;
    if (!it->valid || !fs__key_of(omap_iter_key(it), ROW_PAYLOAD, index) ||
        fs__run_decode(omap_iter_key(it), omap_iter_value(it), &is) != 0 || is.lo != must->lo || is.hi != must->hi ||
        is.refs != must->refs)
        return wrong(c, "files refer %llu times to bytes [%llu, %llu) of log entry %llu; the payload rows differ",
                     INO(must->refs), INO(must->lo), INO(must->hi), INO(index));
    omap_next(it);
    return 0;
}

static int check_payload(struct checker *c)
{
    struct omap_iter it;
    const uint8_t kind = ROW_PAYLOAD;
    size_t n = c->borders.n / sizeof(struct border), at = 0;
    const struct border *v = (const struct border *)(const void *)c->borders.p;
    struct run run = {0};
    if (n) qsort(c->borders.p, n, sizeof(*v), compare_borders);
    omap_seek(&it, c->fs->map, slice_of(&kind, 1));
    while (at < n) {
        const struct border *from = &v[at];
        int64_t step = 0;
        for (; at < n && compare_borders(&v[at], from) == 0; at++) step += v[at].step;
        if (step == 0) continue;
        run.hi = from->pos;
        int err = run.refs ? expect_run(c, &it, from->index, &run) : 0;
        if (err) return err;
        run.refs += (uint64_t)step;
        run.lo = from->pos;
    }
    if (it.valid && fs__key_of_kind(omap_iter_key(&it), ROW_PAYLOAD))
        return wrong(c, "no file refers to the payload of a row of log entry %llu",
                     INO(fs__key_get_id(omap_iter_key(&it))));
    return 0;
}

static int check_counters(struct checker *c)
{
    const struct counters *is = &c->stored, *must = &c->found;
    if (is->files != must->files || is->dirs != must->dirs || is->blocks != must->blocks)
        return wrong(c, "the counters say %llu files, %llu directories, %llu blocks; there are %llu, %llu, %llu",
                     INO(is->files), INO(is->dirs), INO(is->blocks), INO(must->files), INO(must->dirs),
                     INO(must->blocks));
    if (is->next_ino < must->next_ino) return wrong(c, "the next inode number is in use");
    return 0;
}

static int check_rows(struct checker *c)
{
    struct omap_iter it;
    const uint8_t first = 0;
    int err = 0;
    for (bool ok = omap_seek(&it, c->fs->map, slice_of(&first, 1)); ok && !err; ok = omap_next(&it))
        err = check_row(c, omap_iter_key(&it), omap_iter_value(&it));
    return err;
}

int fs_check(const struct fs *fs, struct buf *why)
{
    struct checker c = {.fs = fs, .why = why};
    int err = fs__counters_get(fs->map, &c.stored) == 0 ? 0 : wrong(&c, "there are no counters, or unreadable ones");
    if (!err) err = check_rows(&c);
    if (!err && c.found.dirs == 0) err = wrong(&c, "there is no root");
    if (!err) err = check_names(&c);
    if (!err) err = check_payload(&c);
    if (!err) err = check_counters(&c);
    buf_free(&c.named);
    buf_free(&c.borders);
    return err;
}
