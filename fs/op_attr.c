/* op_attr.c - setattr: mode, owner, times, size. */
#include "fs/data.h"

#define MASK_ALL                                                                                                       \
    (FS_SET_MODE | FS_SET_UID | FS_SET_GID | FS_SET_SIZE | FS_SET_ATIME | FS_SET_MTIME | FS_SET_ATIME_NOW |            \
     FS_SET_MTIME_NOW | FS_SET_CTIME)

/* All but the size, after it: truncation marks mtime, and an explicit time wins over that. */
static void set_plain(struct inode *n, int64_t now, uint32_t mask, const struct fs_attr *in)
{
    if (mask & FS_SET_MODE) n->a.mode = (n->a.mode & S_IFMT) | (in->mode & 07777);
    if (mask & FS_SET_UID) n->a.uid = in->uid;
    if (mask & FS_SET_GID) n->a.gid = in->gid;
    if (mask & FS_SET_CTIME && in->ctime > now) now = in->ctime;
    if (!(mask & FS_SET_SIZE)) fs__touch_attr(n, now);
    if (mask & FS_SET_ATIME_NOW) {
        n->a.atime = n->a.ctime;
    } else if (mask & FS_SET_ATIME) {
        n->a.atime = in->atime;
    }
    if (mask & FS_SET_MTIME_NOW) {
        n->a.mtime = n->a.ctime;
    } else if (mask & FS_SET_MTIME) {
        n->a.mtime = in->mtime;
    }
    n->implicit = false;             /* somebody cares about this directory */
}

static int set_with_size(struct fs *fs, const struct fs_ctx *ctx, uint64_t ino, uint32_t mask,
                         const struct fs_attr *in, struct fs_attr *out)
{
    struct data d;
    int err = fs__data_init(&d, fs, ino);
    if (err) return err;
    if (in->size > FS_SIZE_MAX) return -EFBIG;
    err = fs__plan_init(&d.plan, fs->map, ino, min_u64(in->size, d.inode.a.size), d.inode.a.size);
    if (!err) err = fs__plan_check(&d.plan, &d.inode, &d.counters);
    if (!err) {
        fs__data_apply(&d, fs, ctx, in->size);
        set_plain(&d.inode, ctx->now, mask, in);
        fs__data_store(&d, fs);
        fs__attr_out(&d.inode, out);
    }
    fs__plan_free(&d.plan);
    return err;
}

int fs_setattr(struct fs *fs, const struct fs_ctx *ctx, uint64_t ino, uint32_t mask, const struct fs_attr *in,
               struct fs_attr *out)
{
    struct inode n;
    if (mask & ~(uint32_t)MASK_ALL) return -EINVAL;
    if (mask & FS_SET_SIZE) return set_with_size(fs, ctx, ino, mask, in, out);
    int err = fs__inode_get(fs->map, ino, &n);
    if (err) return err;
    if (mask) {
        set_plain(&n, ctx->now, mask, in);
        fs__inode_put(fs->map, &n);
    }
    fs__attr_out(&n, out);
    return 0;
}
