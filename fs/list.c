/* list.c - all keys in byte order of the whole key.
 *
 * The entries of a directory ascend by name, but a directory d stands for keys that begin with "d/", and a name that
 * goes on with a byte below '/' comes before those: "d", "d-x", "d.x" are before "d/x". So a directory waits until an
 * entry is read that does not go on in this way. Those that wait are each the beginning of the next one; they form a
 * stack, of which the last one comes first.
 *
 * A listing may start in the middle: what is before `from` is skipped by seeking, in each directory on the way. */
#include "fs/dirent.h"

#include <stdlib.h>

struct lister {
    const struct fs *fs;
    struct slice prefix;
    bool (*emit)(void *ctx, struct slice key, const struct fs_attr *attr);
    void *ctx;
    uint8_t path[FS_KEY_MAX];        /* of the directory at hand, with a slash at the end, or empty */
    size_t n;
    bool stop;
};

struct waiting {
    uint64_t ino;
    size_t n;                        /* its name: so many bytes of level.name */
};

/* A directory that is being listed. */
struct level {
    uint64_t dir;
    struct slice start;              /* keys before path + start are left out */
    struct omap_iter it;
    uint8_t name[FS_NAME_MAX];
    struct waiting wait[FS_NAME_MAX];
    size_t nwait;
};

static int list_dir(struct lister *l, uint64_t dir, struct slice start);

static bool starts_with(struct slice s, struct slice prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

/* Puts a name and, for a directory, a slash behind the path. False if that is longer than any key. */
static bool path_push(struct lister *l, struct slice name, bool slash)
{
    if (name.n + slash > sizeof(l->path) - l->n) return false;
    memcpy(l->path + l->n, name.p, name.n);
    l->n += name.n;
    if (slash) l->path[l->n++] = '/';
    return true;
}

static int list_file(struct lister *l, const struct level *v, struct slice name, const struct dirent *e)
{
    struct inode n;
    size_t base = l->n;
    if (slice_cmp(name, v->start) < 0 || !path_push(l, name, false)) return 0;
    struct slice key = slice_of(l->path, l->n);
    int err = 0;
    if (starts_with(key, l->prefix)) {
        err = fs__dirent_inode(l->fs->map, v->dir, e, &n);
        if (!err) l->stop = !l->emit(l->ctx, key, &n.a);
    } else if (slice_cmp(key, l->prefix) > 0) {
        l->stop = true;
    }
    l->n = base;
    return err;
}

/* Lists what is below the last directory that waits. */
static int list_waiting(struct lister *l, struct level *v)
{
    struct waiting w = v->wait[--v->nwait];
    size_t base = l->n;
    if (!path_push(l, slice_of(v->name, w.n), true)) return 0;
    struct slice own = slice_of(l->path + base, w.n + 1), key = slice_of(l->path, l->n), start = {0};
    int err = 0;
    if (starts_with(v->start, own)) {
        start = slice_sub(v->start, own.n, v->start.n - own.n);
    } else if (slice_cmp(own, v->start) < 0) {
        goto out;
    }
    if (starts_with(key, l->prefix) || starts_with(l->prefix, key)) {
        struct dirent e = {.ino = w.ino, .type = S_IFDIR};
        struct inode n;
        err = fs__dirent_inode(l->fs->map, v->dir, &e, &n);       /* and so no directory is met twice */
        if (!err) err = list_dir(l, w.ino, start);
    } else if (slice_cmp(key, l->prefix) > 0) {
        l->stop = true;
    }
out:
    l->n = base;
    return err;
}

/* Those that have waited long enough when `next` comes; all of them where it is empty. */
static int list_ready(struct lister *l, struct level *v, struct slice next)
{
    int err = 0;
    while (!err && !l->stop && v->nwait) {
        struct slice last = slice_of(v->name, v->wait[v->nwait - 1].n);
        if (next.n > last.n && starts_with(next, last) && next.p[last.n] < '/') break;
        err = list_waiting(l, v);
    }
    return err;
}

static void wait_for(struct level *v, struct slice name, uint64_t ino)
{
    check(v->nwait < FS_NAME_MAX && name.n <= FS_NAME_MAX);
    memcpy(v->name, name.p, name.n);
    v->wait[v->nwait++] = (struct waiting){.ino = ino, .n = name.n};
}

/* To where `start` says, with the directories waiting that are before that in the map, but not all in key order. */
static int level_begin(struct lister *l, struct level *v)
{
    const uint8_t *slash = v->start.n ? memchr(v->start.p, '/', v->start.n) : NULL;
    struct slice first = slash ? slice_of(v->start.p, (size_t)(slash - v->start.p)) : v->start;
    if (first.n > FS_NAME_MAX) first.n = FS_NAME_MAX;
    for (size_t n = 1; n < first.n; n++) {
        struct dirent e;
        if (first.p[n] >= '/') continue;
        int err = fs__dirent_get(l->fs->map, v->dir, slice_of(first.p, n), &e);
        if (err && err != -ENOENT) return err;
        if (!err && e.type == S_IFDIR) wait_for(v, slice_of(first.p, n), e.ino);
    }
    struct key k;
    omap_seek(&v->it, l->fs->map, fs__key_name(&k, ROW_ENTRY, v->dir, first));
    return 0;
}

static int list_level(struct lister *l, struct level *v)
{
    int err = level_begin(l, v);
    if (err) return err;
    for (bool ok = v->it.valid; ok && fs__key_of(omap_iter_key(&v->it), ROW_ENTRY, v->dir); ok = omap_next(&v->it)) {
        struct slice name = fs__key_tail(omap_iter_key(&v->it));
        struct dirent e;
        if (name.n == 0 || name.n > FS_NAME_MAX) return -EUCLEAN;
        err = list_ready(l, v, name);
        if (err || l->stop) return err;
        err = fs__dirent_decode(omap_iter_value(&v->it), &e);
        if (err) return err;
        if (e.type == S_IFDIR) wait_for(v, name, e.ino);
        if (e.type == S_IFREG) err = list_file(l, v, name, &e);
        if (err || l->stop) return err;
    }
    return list_ready(l, v, (struct slice){0});
}

static int list_dir(struct lister *l, uint64_t dir, struct slice start)
{
    struct level *v = xmalloc(sizeof(*v));
    v->dir = dir;
    v->start = start;
    v->nwait = 0;
    int err = list_level(l, v);
    free(v);
    return err;
}

int fs_list(const struct fs *fs, struct slice prefix, struct slice from,
            bool (*emit)(void *ctx, struct slice key, const struct fs_attr *attr), void *ctx)
{
    struct lister *l = xmalloc(sizeof(*l));
    l->fs = fs;
    l->prefix = prefix;
    l->emit = emit;
    l->ctx = ctx;
    l->n = 0;
    l->stop = false;
    int err = list_dir(l, FS_ROOT_INO, slice_cmp(from, prefix) > 0 ? from : prefix);
    free(l);
    return err;
}
