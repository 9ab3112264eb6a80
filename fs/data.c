/* data.c - what all changes of a file's contents have in common, and where written bytes go.
 *
 * Bytes go inline if the file will have at most FS_INLINE_MAX bytes and nothing of it will be left in the log: all of
 * it then is one inline extent from the start. In any other case the bytes stay where the log has them and an extent
 * points there. */
#include "fs/data.h"

int fs__data_init_at(struct data *d, const struct fs *fs, const struct inode *n)
{
    *d = (struct data){.inode = *n};
    int err = fs__counters_get(fs->map, &d->counters);
    d->blocks_before = d->counters.blocks;
    return err;
}

int fs__data_init(struct data *d, const struct fs *fs, uint64_t ino)
{
    struct inode n;
    *d = (struct data){0};
    int err = fs__regular_get(fs->map, ino, &n);
    return err ? err : fs__data_init_at(d, fs, &n);
}

/* Does the plan leave bytes in the log but for those in [lo, hi)? */
static bool keeps_log(const struct plan *p, uint64_t lo, uint64_t hi)
{
    for (size_t i = 0; i < p->old.n; i++) {
        const struct extent *e = &p->old.v[i];
        if (!e->inlined && (e->off < lo || fs__extent_end(e) > hi)) return true;
    }
    return false;
}

/* The plan clears a small file; adds its old bytes, with data over them, as one inline extent. */
static int add_inline(struct plan *p, const struct omap *map, uint64_t off, struct slice data)
{
    uint8_t bytes[FS_INLINE_MAX] = {0};
    struct extent e = {.inlined = true, .bytes = bytes, .len = (uint32_t)(off + data.n)};
    for (size_t i = 0; i < p->old.n; i++) {
        const struct extent *o = &p->old.v[i];
        if (!o->inlined) continue;
        memcpy(bytes + o->off, fs__plan_bytes(p, o), o->len);
        if (fs__extent_end(o) > e.len) e.len = (uint32_t)fs__extent_end(o);
    }
    memcpy(bytes + off, data.p, data.n);
    return fs__plan_add(p, map, &e, false);
}

/* Plans an inline extent: 1, or 0 if the file cannot have one. */
static int plan_inline(struct data *d, const struct fs *fs, uint64_t off, struct slice data)
{
    int err = fs__plan_init(&d->plan, fs->map, d->inode.a.ino, 0, FS_INLINE_MAX);
    if (err) return err;
    uint64_t end = 0;
    if (d->plan.old.n) end = fs__extent_end(&d->plan.old.v[d->plan.old.n - 1]);
    if (end > FS_INLINE_MAX) return -EUCLEAN;           /* longer than the file */
    if (keeps_log(&d->plan, off, off + data.n)) {
        fs__plan_free(&d->plan);
        return 0;
    }
    err = add_inline(&d->plan, fs->map, off, data);
    return err ? err : 1;
}

int fs__data_plan_write(struct data *d, const struct fs *fs, uint64_t off, struct slice data, struct fs_loc loc,
                        uint64_t size)
{
    check(data.n > 0 && off + data.n <= size);
    int got = size <= FS_INLINE_MAX ? plan_inline(d, fs, off, data) : 0;
    if (got < 0) return got;
    if (got == 0) {
        struct extent e = {.off = off, .len = (uint32_t)data.n, .loc = loc};
        int err = fs__plan_init(&d->plan, fs->map, d->inode.a.ino, off, off + data.n);
        if (!err) err = fs__plan_add(&d->plan, fs->map, &e, false);
        if (err) return err;
    }
    return fs__plan_check(&d->plan, &d->inode, &d->counters);
}

int fs__data_plan_replace(struct data *d, const struct fs *fs, struct slice data, struct fs_loc loc)
{
    struct extent e = {.len = (uint32_t)data.n, .loc = loc, .inlined = data.n <= FS_INLINE_MAX, .bytes = data.p};
    uint64_t ino = d->inode.a.ino;
    int err = 0;
    if (d->inode.a.size) {
        err = fs__plan_init(&d->plan, fs->map, ino, 0, FS_SIZE_MAX);
    } else {
        d->plan = fs__plan_blank(ino, 0, FS_SIZE_MAX);
    }
    if (!err && data.n) err = fs__plan_add(&d->plan, fs->map, &e, false);
    return err ? err : fs__plan_check(&d->plan, &d->inode, &d->counters);
}

bool fs__data_swap(struct fs *fs, const struct fs_ctx *ctx, struct inode *n, struct slice data)
{
    if (data.n == 0 || data.n > FS_INLINE_MAX || !fs__extent_swap(fs->map, n, data)) return false;
    n->a.size = data.n;
    fs__touch_data(n, ctx->now);
    fs__inode_put(fs->map, n);
    return true;
}

void fs__data_apply(struct data *d, struct fs *fs, const struct fs_ctx *ctx, uint64_t size)
{
    fs__plan_apply(&d->plan, fs, &d->inode, &d->counters);
    d->inode.a.size = size;
    fs__touch_data(&d->inode, ctx->now);
}

void fs__data_store(struct data *d, struct fs *fs)
{
    fs__inode_put(fs->map, &d->inode);
    if (d->counters.blocks != d->blocks_before) fs__counters_put(fs->map, &d->counters);
}
