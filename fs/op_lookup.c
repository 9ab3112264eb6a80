/* op_lookup.c - finding an object and reading its attributes, a link's target and a directory's entries.
 *
 * An inode that is asked for by number and does not exist is -ENOENT; one that an entry names and that does not exist
 * is damage, -EUCLEAN. */
#include "fs/dirent.h"

int fs_lookup(const struct fs *fs, uint64_t parent, struct slice name, struct fs_attr *out)
{
    struct inode dir, child;
    int err = fs__name_check(name);
    if (!err) err = fs__dir_get(fs->map, parent, &dir);
    if (err) return err;
    if (fs__is_dot(name)) {
        child = dir;
    } else if (fs__is_dotdot(name)) {
        err = fs__dir_get(fs->map, dir.parent, &child) == 0 ? 0 : -EUCLEAN;
    } else {
        err = fs__child_get(fs->map, parent, name, &child);
    }
    if (err) return err;
    fs__attr_out(&child, out);
    return 0;
}

int fs_getattr(const struct fs *fs, uint64_t ino, struct fs_attr *out)
{
    struct inode n;
    int err = fs__inode_get(fs->map, ino, &n);
    if (err) return err;
    fs__attr_out(&n, out);
    return 0;
}

int fs_readlink(const struct fs *fs, uint64_t ino, struct slice *target)
{
    struct inode n;
    int err = fs__inode_get(fs->map, ino, &n);
    if (err) return err;
    if (!S_ISLNK(n.a.mode)) return -EINVAL;
    struct key k;
    if (!omap_get(fs->map, fs__key_id(&k, ROW_TARGET, ino), target)) return -EUCLEAN;
    return target->n == n.a.size ? 0 : -EUCLEAN;
}

int fs_readdir(const struct fs *fs, uint64_t dir, struct slice after,
               bool (*emit)(void *ctx, struct slice name, const struct fs_attr *attr), void *ctx)
{
    struct inode d, child;
    struct dirent e;
    struct omap_iter it;
    struct key k;
    if (after.n > FS_NAME_MAX) return -ENAMETOOLONG;
    int err = fs__dir_get(fs->map, dir, &d);
    if (err) return err;
    bool ok = omap_seek(&it, fs->map, fs__key_name(&k, ROW_ENTRY, dir, after));
    for (; ok && fs__key_of(omap_iter_key(&it), ROW_ENTRY, dir); ok = omap_next(&it)) {
        struct slice name = fs__key_tail(omap_iter_key(&it));
        if (name.n == 0) return -EUCLEAN;
        if (slice_eq(name, after)) continue;
        err = fs__dirent_decode(omap_iter_value(&it), &e);
        if (!err) err = fs__dirent_inode(fs->map, dir, &e, &child);
        if (err) return err;
        if (!emit(ctx, name, &child.a)) return 0;
    }
    return 1;
}
