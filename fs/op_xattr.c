/* op_xattr.c - extended attributes. A flag in the inode says that there are some, so that objects without any pay
 * nothing. */
#include "fs/inode.h"

enum { XATTR_MUST_CREATE = 1, XATTR_MUST_REPLACE = 2 };      /* as in setxattr(2) */

static int check_name(struct slice name)
{
    if (name.n == 0 || name.n > FS_XATTR_NAME_MAX) return -ERANGE;
    return memchr(name.p, 0, name.n) ? -EINVAL : 0;
}

int fs_getxattr(const struct fs *fs, uint64_t ino, struct slice name, struct slice *value)
{
    struct inode n;
    struct key k;
    int err = check_name(name);
    if (!err) err = fs__inode_get(fs->map, ino, &n);
    if (err) return err;
    return n.a.has_xattr && omap_get(fs->map, fs__key_name(&k, ROW_XATTR, ino, name), value) ? 0 : -ENODATA;
}

int fs_listxattr(const struct fs *fs, uint64_t ino, struct buf *names)
{
    struct inode n;
    struct omap_iter it;
    int err = fs__inode_get(fs->map, ino, &n);
    if (err || !n.a.has_xattr) return err;
    for (bool ok = fs__seek_rows(&it, fs->map, ROW_XATTR, ino); ok; ok = fs__next_row(&it, ROW_XATTR, ino)) {
        struct slice name = fs__key_tail(omap_iter_key(&it));
        buf_append(names, name.p, name.n);
        buf_append(names, "", 1);
    }
    return 0;
}

int fs_setxattr(struct fs *fs, const struct fs_ctx *ctx, uint64_t ino, struct slice name, struct slice value,
                uint32_t flags)
{
    struct inode n;
    struct key k;
    struct slice old;
    if (flags & ~(uint32_t)(XATTR_MUST_CREATE | XATTR_MUST_REPLACE)) return -EINVAL;
    int err = check_name(name);
    if (!err && value.n > FS_XATTR_VALUE_MAX) err = -E2BIG;
    if (!err) err = fs__inode_get(fs->map, ino, &n);
    if (err) return err;
    bool exists = omap_get(fs->map, fs__key_name(&k, ROW_XATTR, ino, name), &old);
    if (exists && (flags & XATTR_MUST_CREATE)) return -EEXIST;
    if (!exists && (flags & XATTR_MUST_REPLACE)) return -ENODATA;
    omap_put(fs->map, fs__key_name(&k, ROW_XATTR, ino, name), value);
    n.a.has_xattr = true;
    n.implicit = false;
    fs__touch_attr(&n, ctx->now);
    fs__inode_put(fs->map, &n);
    return 0;
}

int fs_removexattr(struct fs *fs, const struct fs_ctx *ctx, uint64_t ino, struct slice name)
{
    struct inode n;
    struct key k;
    struct omap_iter it;
    int err = check_name(name);
    if (!err) err = fs__inode_get(fs->map, ino, &n);
    if (err) return err;
    if (!omap_del(fs->map, fs__key_name(&k, ROW_XATTR, ino, name))) return -ENODATA;
    n.a.has_xattr = fs__seek_rows(&it, fs->map, ROW_XATTR, ino);
    fs__touch_attr(&n, ctx->now);
    fs__inode_put(fs->map, &n);
    return 0;
}
