/* op_read.c - where a file's bytes are: reading, and SEEK_DATA/SEEK_HOLE. Damage in the middle of a read is answered
 * with -EUCLEAN after the pieces before it; the caller then has no use for them. */
#include "fs/extent.h"

struct reading {
    uint64_t pos, end;
    void (*emit)(void *ctx, const struct fs_piece *piece);
    void *ctx;
};

static void emit_hole(struct reading *r, uint64_t to)
{
    if (to <= r->pos) return;
    struct fs_piece p = {.kind = FS_PIECE_HOLE, .file_off = r->pos, .len = (uint32_t)(to - r->pos)};
    r->emit(r->ctx, &p);
    r->pos = to;
}

static void emit_extent(struct reading *r, const struct extent *e)
{
    struct extent part = fs__extent_part(e, r->pos, r->end);
    struct fs_piece p = {.kind = FS_PIECE_LOG, .file_off = part.off, .len = part.len, .loc = part.loc};
    if (part.inlined) {
        p.kind = FS_PIECE_INLINE;
        p.loc = (struct fs_loc){0};
        p.bytes = slice_of(part.bytes, part.len);
    }
    r->emit(r->ctx, &p);
    r->pos = part.off + part.len;
}

int64_t fs_read(const struct fs *fs, uint64_t ino, uint64_t off, uint32_t len,
                void (*emit)(void *ctx, const struct fs_piece *piece), void *ctx)
{
    struct inode n;
    int err = fs__regular_get(fs->map, ino, &n);
    if (err) return err;
    if (off >= n.a.size || len == 0) return 0;
    struct reading r = {.pos = off, .end = off + min_u64(len, n.a.size - off), .emit = emit, .ctx = ctx};
    struct extent_iter i;
    struct extent e;
    int got = fs__extent_first(&i, fs->map, ino, off, &e);
    for (; got > 0 && e.off < r.end; got = fs__extent_next(&i, &e)) {
        emit_hole(&r, e.off);
        emit_extent(&r, &e);
        if (r.pos == r.end) break;
    }
    if (got < 0) return got;
    emit_hole(&r, r.end);
    return (int64_t)(r.end - off);
}

int64_t fs_seek(const struct fs *fs, uint64_t ino, uint64_t off, bool hole)
{
    struct inode n;
    int err = fs__regular_get(fs->map, ino, &n);
    if (err) return err;
    if (off >= n.a.size) return -ENXIO;
    struct extent_iter i;
    struct extent e;
    int got = fs__extent_first(&i, fs->map, ino, off, &e);
    if (got < 0) return got;
    if (!hole) return got == 0 || max_u64(off, e.off) >= n.a.size ? -ENXIO : (int64_t)max_u64(off, e.off);
    for (; got > 0 && e.off <= off; got = fs__extent_next(&i, &e)) off = fs__extent_end(&e);
    return got < 0 ? got : (int64_t)min_u64(off, n.a.size);
}
