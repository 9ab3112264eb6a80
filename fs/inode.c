/* inode.c - the inode row, the counters row, and how a change marks an inode.
 *
 * Inode row: u8 flags, mode, nlink, uid, gid, size, blocks, version, u64 btime (little-endian), then as zigzag
 * differences atime - btime, mtime - btime, ctime - mtime; then rdev if FLAG_RDEV, parent if FLAG_PARENT. A fresh small
 * file takes about 30 bytes. Whatever does not decode to a sensible inode is -EUCLEAN. */
#include "fs/inode.h"

#include "fs/varint.h"

enum { FLAG_IMPLICIT = 1, FLAG_XATTR = 2, FLAG_RDEV = 4, FLAG_PARENT = 8, FLAGS_ALL = 15 };

#define INODE_ROW_MAX (1u + 8u + 12u * VARINT_MAX)

static bool known_type(uint32_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG: case S_IFDIR: case S_IFLNK: case S_IFIFO: case S_IFSOCK: case S_IFCHR: case S_IFBLK: return true;
    default: return false;
    }
}

/* Narrows a number of a row; what does not fit marks the row as bad. */
static uint32_t get_varint32(struct reader *r)
{
    uint64_t v = varint_get(r);
    if (v > UINT32_MAX) r->bad = true;
    return (uint32_t)v;
}

static int64_t plus(int64_t base, uint64_t diff) { return (int64_t)((uint64_t)base + (uint64_t)unzigzag(diff)); }
static uint64_t minus(int64_t a, int64_t base) { return zigzag((int64_t)((uint64_t)a - (uint64_t)base)); }

static bool sensible(const struct inode *n, uint8_t flags)
{
    if (!known_type(n->a.mode) || n->a.mode > 0177777 || n->a.size > FS_SIZE_MAX) return false;
    if (fs__is_dir(n) != (n->parent != 0) || (flags & ~FLAGS_ALL)) return false;
    return fs__is_dir(n) ? n->a.nlink >= 2 : !n->implicit;
}

static int inode_decode(struct slice row, uint64_t ino, struct inode *n)
{
    struct reader r = reader_of(row);
    *n = (struct inode){.a.ino = ino};
    uint8_t flags = get_u8(&r);
    n->a.mode = get_varint32(&r);
    n->a.nlink = get_varint32(&r);
    n->a.uid = get_varint32(&r);
    n->a.gid = get_varint32(&r);
    n->a.size = varint_get(&r);
    n->a.blocks = varint_get(&r);
    n->a.version = varint_get(&r);
    n->a.btime = get_i64(&r);
    n->a.atime = plus(n->a.btime, varint_get(&r));
    n->a.mtime = plus(n->a.btime, varint_get(&r));
    n->a.ctime = plus(n->a.mtime, varint_get(&r));
    if (flags & FLAG_RDEV) n->a.rdev = varint_get(&r);
    if (flags & FLAG_PARENT) n->parent = varint_get(&r);
    n->a.has_xattr = flags & FLAG_XATTR;
    n->implicit = flags & FLAG_IMPLICIT;
    return reader_done(&r) && sensible(n, flags) ? 0 : -EUCLEAN;
}

int fs__inode_get(const struct omap *map, uint64_t ino, struct inode *out)
{
    struct key k;
    struct slice row;
    struct omap_spot spot;
    if (!omap_get_at(map, fs__key_id(&k, ROW_INODE, ino), &row, &spot)) return -ENOENT;
    int err = inode_decode(row, ino, out);
    out->spot = spot;
    return err;
}

void fs__inode_put(struct omap *map, const struct inode *n)
{
    uint8_t row[INODE_ROW_MAX], *p = row + 1;
    row[0] = (uint8_t)((n->implicit ? FLAG_IMPLICIT : 0) | (n->a.has_xattr ? FLAG_XATTR : 0) |
                       (n->a.rdev ? FLAG_RDEV : 0) | (n->parent ? FLAG_PARENT : 0));
    check(sensible(n, row[0]));
    p = varint_put(p, n->a.mode);
    p = varint_put(p, n->a.nlink);
    p = varint_put(p, n->a.uid);
    p = varint_put(p, n->a.gid);
    p = varint_put(p, n->a.size);
    p = varint_put(p, n->a.blocks);
    p = varint_put(p, n->a.version);
    store_u64(p, (uint64_t)n->a.btime);
    p = varint_put(p + 8, minus(n->a.atime, n->a.btime));
    p = varint_put(p, minus(n->a.mtime, n->a.btime));
    p = varint_put(p, minus(n->a.ctime, n->a.mtime));
    if (n->a.rdev) p = varint_put(p, n->a.rdev);
    if (n->parent) p = varint_put(p, n->parent);
    struct key k;
    omap_put_at(map, fs__key_id(&k, ROW_INODE, n->a.ino), slice_of(row, (size_t)(p - row)), &n->spot);
}

int fs__counters_get(const struct omap *map, struct counters *out)
{
    struct key k;
    struct slice row;
    *out = (struct counters){0};
    if (!omap_get(map, fs__key_counters(&k), &row)) return -EUCLEAN;
    struct reader r = reader_of(row);
    struct counters c = {.next_ino = varint_get(&r)};
    c.files = varint_get(&r);
    c.dirs = varint_get(&r);
    c.blocks = varint_get(&r);
    /* Far from the end of the numbers: nothing that is counted up has to look for an overflow. */
    bool sane = c.next_ino > FS_ROOT_INO && c.dirs > 0 && (c.next_ino | c.files | c.dirs | c.blocks) >> 62 == 0;
    if (!reader_done(&r) || !sane) return -EUCLEAN;
    *out = c;
    return 0;
}

void fs__counters_put(struct omap *map, const struct counters *c)
{
    uint8_t row[4 * VARINT_MAX];
    uint8_t *p = varint_put(row, c->next_ino);
    p = varint_put(p, c->files);
    p = varint_put(p, c->dirs);
    p = varint_put(p, c->blocks);
    struct key k;
    omap_put(map, fs__key_counters(&k), slice_of(row, (size_t)(p - row)));
}

int fs__dir_get(const struct omap *map, uint64_t ino, struct inode *out)
{
    int err = fs__inode_get(map, ino, out);
    if (err) return err;
    return fs__is_dir(out) ? 0 : -ENOTDIR;
}

int fs__regular_get(const struct omap *map, uint64_t ino, struct inode *out)
{
    int err = fs__inode_get(map, ino, out);
    if (err) return err;
    if (fs__is_regular(out)) return 0;
    return fs__is_dir(out) ? -EISDIR : -EINVAL;
}

void fs__touch_attr(struct inode *n, int64_t now)
{
    if (now > n->a.ctime) {
        n->a.ctime = now;
    } else if (n->a.ctime < INT64_MAX) {
        n->a.ctime++;
    }
}

void fs__touch_data(struct inode *n, int64_t now)
{
    fs__touch_attr(n, now);
    if (n->a.ctime == n->a.mtime) fs__touch_attr(n, now);
    n->a.mtime = n->a.ctime;
    n->a.version++;
}

void fs__inode_init(struct inode *n, struct counters *c, const struct fs_ctx *ctx, const struct inode *parent,
                    uint32_t mode, uint64_t rdev)
{
    *n = (struct inode){.a = {.ino = c->next_ino++, .mode = mode, .nlink = 1, .uid = ctx->uid, .gid = ctx->gid,
                              .rdev = S_ISCHR(mode) || S_ISBLK(mode) ? rdev : 0, .atime = ctx->now, .mtime = ctx->now,
                              .ctime = ctx->now, .btime = ctx->now, .version = 1}};
    if (parent->a.mode & S_ISGID) n->a.gid = parent->a.gid;
    if (!S_ISDIR(mode)) {
        c->files++;
        return;
    }
    if (parent->a.mode & S_ISGID) n->a.mode |= S_ISGID;
    n->a.nlink = 2;
    n->parent = parent->a.ino;
    c->dirs++;
}

void fs_format(struct fs *fs, int64_t now)
{
    check(omap_count(fs->map) == 0);
    struct counters c = {.next_ino = FS_ROOT_INO};
    struct fs_ctx ctx = {.now = now};
    struct inode root, nowhere = {.a.ino = FS_ROOT_INO};
    fs__inode_init(&root, &c, &ctx, &nowhere, S_IFDIR | 0755, 0);
    fs__inode_put(fs->map, &root);
    fs__counters_put(fs->map, &c);
}

void fs_usage(const struct fs *fs, struct fs_usage *out)
{
    struct counters c;
    if (fs__counters_get(fs->map, &c) != 0) c = (struct counters){0};
    *out = (struct fs_usage){.files = c.files, .dirs = c.dirs, .bytes = c.blocks * BLOCK_BYTES};
}
