/* op_write.c - writing, fallocate, and sharing extents between files. */
#include <fcntl.h>

#include "fs/data.h"

static int check_range(uint64_t off, uint64_t len)
{
    return off > FS_SIZE_MAX || len > FS_SIZE_MAX - off ? -EFBIG : 0;
}

int fs_write(struct fs *fs, const struct fs_ctx *ctx, uint64_t ino, uint64_t off, bool append, struct slice data,
             struct fs_loc loc, struct fs_attr *out, uint64_t *at)
{
    struct data d;
    int err = fs__data_init(&d, fs, ino);
    if (err) return err;
    if (append) off = d.inode.a.size;
    err = check_range(off, data.n);
    if (!err && data.n > UINT32_MAX) err = -EFBIG;
    if (err) return err;
    if (data.n) {
        uint64_t size = max_u64(d.inode.a.size, off + data.n);
        err = fs__data_plan_write(&d, fs, off, data, loc, size);
        if (!err) {
            fs__data_apply(&d, fs, ctx, size);
            fs__data_store(&d, fs);
        }
        fs__plan_free(&d.plan);
        if (err) return err;
    }
    fs__attr_out(&d.inode, out);
    if (at) *at = off;
    return 0;
}

int fs_fallocate(struct fs *fs, const struct fs_ctx *ctx, uint64_t ino, uint32_t mode, uint64_t off, uint64_t len,
                 struct fs_attr *out)
{
    struct data d;
    const uint32_t keep = FALLOC_FL_KEEP_SIZE, punch = FALLOC_FL_PUNCH_HOLE, zero = FALLOC_FL_ZERO_RANGE;
    if (len == 0) return -EINVAL;
    if (mode != 0 && mode != keep && mode != (punch | keep) && mode != zero && mode != (zero | keep))
        return -EOPNOTSUPP;
    int err = fs__data_init(&d, fs, ino);
    if (!err) err = check_range(off, len);
    if (err) return err;
    uint64_t size = mode & keep ? d.inode.a.size : max_u64(d.inode.a.size, off + len);
    if (mode & (punch | zero)) {
        err = fs__plan_init(&d.plan, fs->map, ino, off, off + len);
    } else {
        d.plan = fs__plan_blank(ino, 0, 0);
    }
    if (!err) err = fs__plan_check(&d.plan, &d.inode, &d.counters);
    if (!err && (mode & (punch | zero) || size != d.inode.a.size)) {
        fs__data_apply(&d, fs, ctx, size);
        fs__data_store(&d, fs);
    }
    if (!err) fs__attr_out(&d.inode, out);
    fs__plan_free(&d.plan);
    return err;
}

/* Adds the extents of [off, off + len) of the source to the plan, moved to `to_off`. */
static int plan_copy(struct data *d, const struct fs *fs, uint64_t source, uint64_t off, uint64_t to_off, uint64_t len)
{
    struct extent_iter i;
    struct extent e;
    int got = fs__extent_first(&i, fs->map, source, off, &e);
    for (; got > 0 && e.off < off + len; got = fs__extent_next(&i, &e)) {
        struct extent part = fs__extent_part(&e, off, off + len);
        part.off = part.off - off + to_off;
        int err = fs__plan_add(&d->plan, fs->map, &part, true);
        if (err) return -EUCLEAN;
    }
    return got < 0 ? got : fs__plan_check(&d->plan, &d->inode, &d->counters);
}

int64_t fs_copy_range(struct fs *fs, const struct fs_ctx *ctx, uint64_t ino, uint64_t off, uint64_t to_ino,
                      uint64_t to_off, uint64_t len, struct fs_attr *out)
{
    struct inode source;
    struct data d;
    int err = fs__regular_get(fs->map, ino, &source);
    if (!err) err = fs__data_init(&d, fs, to_ino);
    if (err) return err;
    len = off < source.a.size ? min_u64(len, source.a.size - off) : 0;
    err = check_range(to_off, len);
    if (err) return err;
    if (ino == to_ino && len && off < to_off + len && to_off < off + len) return -EINVAL;
    if (len) {
        err = fs__plan_init(&d.plan, fs->map, to_ino, to_off, to_off + len);
        if (!err) err = plan_copy(&d, fs, ino, off, to_off, len);
        if (!err) {
            fs__data_apply(&d, fs, ctx, max_u64(d.inode.a.size, to_off + len));
            fs__data_store(&d, fs);
        }
        fs__plan_free(&d.plan);
        if (err) return err;
    }
    fs__attr_out(&d.inode, out);
    return (int64_t)len;
}
