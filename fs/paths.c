/* paths.c - from inodes back to keys: which names a file has, and where they are below the root.
 *
 * A directory has one name, a file as many as it has links; rows of kind `b` tell them (fs/key.c). The way up is built
 * from its end, in a buffer of a key's length: a loop among damaged rows ends there. */
#include "fs/dirent.h"

struct way {
    uint8_t path[FS_KEY_MAX];
    size_t at;                       /* the path begins here */
};

static int prepend(struct way *w, struct slice name)
{
    bool slash = w->at < sizeof(w->path);
    if (name.n + slash > w->at) return -ENAMETOOLONG;
    if (slash) w->path[--w->at] = '/';
    w->at -= name.n;
    memcpy(w->path + w->at, name.p, name.n);
    return 0;
}

/* The only name of a directory. */
static int name_of_dir(const struct omap *map, uint64_t ino, uint64_t *parent, struct slice *name, struct omap_iter *it)
{
    if (!fs__seek_rows(it, map, ROW_NAME, ino)) return -ENOENT;
    return fs__key_link_parts(omap_iter_key(it), parent, name) ? 0 : -EUCLEAN;
}

static int climb(struct way *w, const struct omap *map, uint64_t dir)
{
    int err = 0;
    while (!err && dir != FS_ROOT_INO) {
        struct omap_iter it;
        struct slice name;
        err = name_of_dir(map, dir, &dir, &name, &it);
        if (!err) err = prepend(w, name);
    }
    return err;
}

static struct slice path_of(const struct way *w) { return slice_of(w->path + w->at, sizeof(w->path) - w->at); }

int fs_path(const struct fs *fs, uint64_t dir, struct slice name, struct buf *out)
{
    struct way w = {.at = sizeof(w.path)};
    int err = prepend(&w, name);
    if (!err) err = climb(&w, fs->map, dir);
    if (err) return err;
    struct slice path = path_of(&w);
    buf_append(out, path.p, path.n);
    return 0;
}

int fs_keys(const struct fs *fs, uint64_t ino, bool (*emit)(void *ctx, struct slice key), void *ctx)
{
    struct omap_iter it;
    bool ok = fs__seek_rows(&it, fs->map, ROW_NAME, ino);
    for (; ok; ok = fs__next_row(&it, ROW_NAME, ino)) {
        struct way w = {.at = sizeof(w.path)};
        struct slice name;
        uint64_t dir;
        if (!fs__key_link_parts(omap_iter_key(&it), &dir, &name)) return -EUCLEAN;
        int err = prepend(&w, name);
        if (!err) err = climb(&w, fs->map, dir);
        if (err == -ENAMETOOLONG) continue;
        if (err) return err;
        if (!emit(ctx, path_of(&w))) return 0;
    }
    return 0;
}
