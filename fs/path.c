/* path.c - the key/value view: a key is the path of a regular file, without the leading slash.
 *
 * Symbolic links are not followed: one on the way is -ENOTDIR, one at the end -ELOOP. Directories that a put has to
 * make are marked implicit and go with the last file in them; one that somebody has made, renamed or changed stays. */
#include "fs/create.h"
#include "fs/data.h"
#include "fs/dirent.h"
#include "fs/payload.h"
#include "fs/remove.h"

#define FILE_MODE (S_IFREG | 0644u)
#define DIR_MODE (S_IFDIR | 0755u)

/* Takes the next name off a path; the path is empty afterwards if it was the last one. */
static struct slice take_name(struct slice *path)
{
    const uint8_t *slash = path->n ? memchr(path->p, '/', path->n) : NULL;
    struct slice name = slash ? slice_of(path->p, (size_t)(slash - path->p)) : *path;
    size_t used = slash ? name.n + 1 : name.n;
    *path = slice_sub(*path, used, path->n - used);
    return name;
}

static int key_check(struct slice key)
{
    if (key.n > FS_KEY_MAX) return -ENAMETOOLONG;
    if (key.n == 0 || key.p[key.n - 1] == '/') return -EINVAL;
    while (key.n) {
        struct slice name = take_name(&key);
        int err = fs__name_check(name);
        if (err) return err;
        if (fs__is_dot(name) || fs__is_dotdot(name)) return -EINVAL;
    }
    return 0;
}

/* How far a key leads: to `child`, named `name` in the directory `dir`; or, where that does not exist, to the directory
 * in which `name` is missing, with `rest` still behind it. The directories on the way are entries only: their inodes
 * are read by those who change them. */
struct spot {
    uint64_t dir;
    struct inode child;
    struct slice name, rest;
    bool exists;
};

static int locate(struct spot *s, const struct omap *map, struct slice key)
{
    int err = key_check(key);
    s->dir = FS_ROOT_INO;
    s->rest = key;
    while (!err) {
        struct dirent e;
        s->name = take_name(&s->rest);
        err = fs__dirent_get(map, s->dir, s->name, &e);
        s->exists = err == 0;
        if (err == -ENOENT) return 0;
        if (!err && s->rest.n == 0) return fs__dirent_inode(map, s->dir, &e, &s->child);
        if (!err && !S_ISDIR(e.type)) err = -ENOTDIR;
        s->dir = e.ino;
    }
    return err;
}

static int dir_of(const struct spot *s, const struct omap *map, struct inode *out)
{
    return fs__dir_get(map, s->dir, out) ? -EUCLEAN : 0;
}

static int must_be_file(const struct inode *n)
{
    if (fs__is_regular(n)) return 0;
    return fs__is_dir(n) ? -EISDIR : S_ISLNK(n->a.mode) ? -ELOOP : -EINVAL;
}

int fs_walk(const struct fs *fs, struct slice key, struct fs_attr *out)
{
    struct spot s;
    int err = locate(&s, fs->map, key);
    if (err) return err;
    if (!s.exists) return -ENOENT;
    fs__attr_out(&s.child, out);
    return 0;
}

/* Makes the directories that are missing below *dir, which becomes the last of them; fs__creation_init has agreed to the
 * first one. */
static void make_parents(struct fs *fs, const struct fs_ctx *ctx, struct spot *s, struct inode *dir)
{
    while (s->rest.n) {
        struct creation c;
        check(fs__creation_init(&c, fs, dir, DIR_MODE) == 0);
        fs__creation_apply(&c, fs, ctx, s->name, DIR_MODE, 0);
        c.child.implicit = true;
        fs__creation_store(&c, fs);
        *dir = c.child;
        s->name = take_name(&s->rest);
    }
}

static int put_new(struct fs *fs, const struct fs_ctx *ctx, struct spot *s, struct slice data, struct fs_loc loc,
                   struct fs_attr *out)
{
    struct inode dir;
    struct creation c;
    struct data d = {0};
    int err = dir_of(s, fs->map, &dir);
    if (!err) err = fs__creation_init(&c, fs, &dir, s->rest.n ? DIR_MODE : FILE_MODE);
    /* Room for all the directories of a key. */
    if (!err && (c.counters.next_ino | c.counters.dirs) >> 61) err = -EUCLEAN;
    if (!err && data.n > FS_INLINE_MAX) err = fs__payload_check(fs->map, loc, (uint32_t)data.n, false);
    if (err) return err;
    make_parents(fs, ctx, s, &dir);
    check(fs__creation_init(&c, fs, &dir, FILE_MODE) == 0);
    fs__creation_apply(&c, fs, ctx, s->name, FILE_MODE, 0);
    d.inode = c.child;
    d.counters = c.counters;
    check(fs__data_plan_replace(&d, fs, data, loc) == 0);
    fs__plan_apply(&d.plan, fs, &c.child, &c.counters);
    fs__plan_free(&d.plan);
    c.child.a.size = data.n;
    fs__creation_store(&c, fs);
    fs__attr_out(&c.child, out);
    return 0;
}

static int put_over(struct fs *fs, const struct fs_ctx *ctx, struct inode *n, struct slice data, struct fs_loc loc,
                    struct fs_attr *out)
{
    struct data d;
    if (fs__data_swap(fs, ctx, n, data)) {
        fs__attr_out(n, out);
        return 0;
    }
    int err = fs__data_init_at(&d, fs, n);
    if (!err) err = fs__data_plan_replace(&d, fs, data, loc);
    if (!err) {
        fs__data_apply(&d, fs, ctx, data.n);
        fs__data_store(&d, fs);
        fs__attr_out(&d.inode, out);
    }
    fs__plan_free(&d.plan);
    return err;
}

int fs_put(struct fs *fs, const struct fs_ctx *ctx, struct slice key, struct slice data, struct fs_loc loc,
           struct fs_attr *out)
{
    struct spot s;
    if (data.n > UINT32_MAX) return -EFBIG;
    int err = locate(&s, fs->map, key);
    if (err) return err;
    if (!s.exists) return put_new(fs, ctx, &s, data, loc, out);
    err = must_be_file(&s.child);
    return err ? err : put_over(fs, ctx, &s.child, data, loc, out);
}

int fs_append(struct fs *fs, const struct fs_ctx *ctx, struct slice key, struct slice data, struct fs_loc loc,
              struct fs_attr *out)
{
    struct spot s;
    if (data.n > UINT32_MAX) return -EFBIG;
    int err = locate(&s, fs->map, key);
    if (err) return err;
    if (!s.exists) return put_new(fs, ctx, &s, data, loc, out);
    err = must_be_file(&s.child);
    return err ? err : fs_write(fs, ctx, s.child.a.ino, 0, true, data, loc, out, NULL);
}

/* `key` names `dir`, which may have become empty. Damage further up ends it: what was asked for has been done. */
static void prune(struct fs *fs, const struct fs_ctx *ctx, struct slice key, struct inode *dir)
{
    while (dir->implicit && dir->a.size == 0 && dir->a.ino != FS_ROOT_INO) {
        const uint8_t *slash = memrchr(key.p, '/', key.n);
        size_t at = slash ? (size_t)(slash - key.p) + 1 : 0;
        struct inode parent;
        if (fs__dir_get(fs->map, dir->parent, &parent) != 0) return;
        if (fs__remove(fs, ctx, &parent, slice_sub(key, at, key.n - at), dir, false) != 0) return;
        key.n = at ? at - 1 : 0;
        *dir = parent;
    }
}

int fs_delete(struct fs *fs, const struct fs_ctx *ctx, struct slice key)
{
    struct spot s;
    struct inode dir;
    int err = locate(&s, fs->map, key);
    if (err) return err;
    if (!s.exists) return -ENOENT;
    err = must_be_file(&s.child);
    if (!err) err = dir_of(&s, fs->map, &dir);
    if (!err) err = fs__remove(fs, ctx, &dir, s.name, &s.child, false);
    if (err) return err;
    if (key.n > s.name.n) prune(fs, ctx, slice_of(key.p, key.n - s.name.n - 1), &dir);
    return 0;
}
