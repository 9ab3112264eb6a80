/* extent.c - extents: where the bytes of a regular file are.
 *
 * The extents of a file ascend without overlap; between them are holes, behind the last one, up to the size, too. Bytes
 * are in the log, or, where the whole file was small when they were written, in the extent row itself. Payload is
 * immutable: an overwrite cuts the old extents at its borders and puts a new one between.
 *
 * A file's blocks are the sum over its extents of their lengths, each rounded up to blocks. */
#include "fs/extent.h"

#include <stdlib.h>

#include "fs/payload.h"
#include "fs/varint.h"

enum { EXTENT_INLINE = 0, EXTENT_LOG = 1 };

#define EXTENT_ROW_MAX (1u + (FS_INLINE_MAX > 3 * VARINT_MAX ? FS_INLINE_MAX : 3 * VARINT_MAX))

static int extent_decode(struct slice key, struct slice row, struct extent *e)
{
    struct reader r = reader_of(row);
    *e = (struct extent){0};
    if (!fs__key_second(key, &e->off)) return -EUCLEAN;
    uint8_t kind = get_u8(&r);
    if (kind == EXTENT_INLINE) {
        e->inlined = true;
        e->bytes = r.p;
        e->len = (uint32_t)min_u64(reader_left(&r), UINT32_MAX);
        if (r.bad || e->len > FS_INLINE_MAX) return -EUCLEAN;
    } else {
        uint64_t len = varint_get(&r);
        e->loc.index = varint_get(&r);
        uint64_t off = varint_get(&r);
        if (!reader_done(&r) || kind != EXTENT_LOG || len > UINT32_MAX || off > UINT32_MAX - len) return -EUCLEAN;
        e->len = (uint32_t)len;
        e->loc.off = (uint32_t)off;
    }
    return e->len == 0 || e->off > FS_SIZE_MAX - e->len ? -EUCLEAN : 0;
}

static struct slice extent_encode(const struct extent *e, const uint8_t *bytes, uint8_t row[EXTENT_ROW_MAX])
{
    uint8_t *p = row + 1;
    row[0] = e->inlined ? EXTENT_INLINE : EXTENT_LOG;
    if (e->inlined) {
        check(e->len <= FS_INLINE_MAX);
        memcpy(p, bytes, e->len);
        p += e->len;
    } else {
        p = varint_put(p, e->len);
        p = varint_put(p, e->loc.index);
        p = varint_put(p, e->loc.off);
    }
    return slice_of(row, (size_t)(p - row));
}

static void extent_put(struct omap *map, uint64_t ino, const struct extent *e, const uint8_t *bytes)
{
    uint8_t row[EXTENT_ROW_MAX];
    struct key k;
    omap_put(map, fs__key_pair(&k, ROW_EXTENT, ino, e->off), extent_encode(e, bytes, row));
}

struct extent fs__extent_part(const struct extent *e, uint64_t lo, uint64_t hi)
{
    struct extent part = *e;
    uint64_t from = max_u64(lo, e->off), to = min_u64(hi, fs__extent_end(e));
    check(from < to);
    uint32_t skip = (uint32_t)(from - e->off);
    part.off = from;
    part.len = (uint32_t)(to - from);
    part.loc.off += skip;
    if (part.bytes) part.bytes += skip;
    return part;
}

static int extent_here(struct extent_iter *i, struct extent *out)
{
    if (!i->it.valid || !fs__key_of(omap_iter_key(&i->it), ROW_EXTENT, i->ino)) return 0;
    int err = extent_decode(omap_iter_key(&i->it), omap_iter_value(&i->it), out);
    if (err || out->off < i->end) return -EUCLEAN;
    i->end = fs__extent_end(out);
    return 1;
}

int fs__extent_first(struct extent_iter *i, const struct omap *map, uint64_t ino, uint64_t off, struct extent *out)
{
    struct key k;
    struct slice key = fs__key_pair(&k, ROW_EXTENT, ino, off);
    i->ino = ino;
    i->end = 0;
    if (omap_seek_le(&i->it, map, key)) {
        int got = extent_here(i, out);
        if (got < 0 || (got && i->end > off)) return got;
        omap_next(&i->it);
    } else {
        omap_seek(&i->it, map, key);
    }
    return extent_here(i, out);
}

int fs__extent_next(struct extent_iter *i, struct extent *out)
{
    omap_next(&i->it);
    return extent_here(i, out);
}

void fs_all_extents(const struct fs *fs,
                    void (*emit)(void *ctx, uint64_t ino, uint64_t off, struct fs_loc loc, uint32_t len), void *ctx)
{
    struct omap_iter it;
    struct extent e;
    const uint8_t first = ROW_EXTENT;
    for (bool ok = omap_seek(&it, fs->map, slice_of(&first, 1)); ok; ok = omap_next(&it)) {
        struct slice key = omap_iter_key(&it);
        if (key.p[0] != ROW_EXTENT) break;
        if (!fs__key_of_kind(key, ROW_EXTENT) || extent_decode(key, omap_iter_value(&it), &e) || e.inlined) continue;
        emit(ctx, fs__key_get_id(key), e.off, e.loc, e.len);
    }
}

/* An inode's blocks are the sum over its extents, and an inline one takes one: if there is one block, it is the only
 * extent. */
_Static_assert(FS_INLINE_MAX <= BLOCK_BYTES, "an inline extent is one block");

bool fs__extent_swap(struct omap *map, const struct inode *n, struct slice data)
{
    uint8_t row[EXTENT_ROW_MAX];
    struct key k;
    struct slice key = fs__key_pair(&k, ROW_EXTENT, n->a.ino, 0), old;
    struct omap_spot spot;
    struct extent e;
    check(data.n > 0 && data.n <= FS_INLINE_MAX);
    if (n->a.blocks != 1 || !omap_get_at(map, key, &old, &spot)) return false;
    if (extent_decode(key, old, &e) != 0 || !e.inlined) return false;
    e.len = (uint32_t)data.n;
    omap_put_at(map, key, extent_encode(&e, data.p, row), &spot);
    return true;
}

static void extents_push(struct extents *x, const struct extent *e)
{
    if (x->n == x->cap) {
        x->cap = x->cap ? 2 * x->cap : 4;
        x->v = xrealloc(x->v, x->cap * sizeof(*x->v));
    }
    x->v[x->n++] = *e;
}

/* Takes the bytes of an inlined extent into the plan. */
static struct extent planned(struct plan *p, const struct extent *e)
{
    struct extent own = *e;
    if (!e->inlined) return own;
    own.loc = (struct fs_loc){.off = (uint32_t)p->bytes.n};
    buf_append(&p->bytes, e->bytes, e->len);
    own.bytes = NULL;
    return own;
}

/* One extent that overlaps the range of the plan: it goes, its parts outside come. */
static int plan_old(struct plan *p, const struct omap *map, const struct extent *found)
{
    struct extent e = planned(p, found);
    if (!e.inlined) {
        struct extent cut = fs__extent_part(&e, p->lo, p->hi);
        if (fs__payload_check(map, cut.loc, cut.len, true) != 0) return -EUCLEAN;
    }
    extents_push(&p->old, &e);
    p->blocks_gone += fs__blocks(e.len);
    struct extent rest[2];
    size_t n = 0;
    if (e.off < p->lo) rest[n++] = fs__extent_part(&e, 0, p->lo);
    if (fs__extent_end(&e) > p->hi) rest[n++] = fs__extent_part(&e, p->hi, UINT64_MAX);
    for (size_t i = 0; i < n; i++) {
        extents_push(&p->rest, &rest[i]);
        p->blocks_come += fs__blocks(rest[i].len);
    }
    return 0;
}

int fs__plan_init(struct plan *p, const struct omap *map, uint64_t ino, uint64_t lo, uint64_t hi)
{
    check(lo <= hi && hi <= FS_SIZE_MAX);
    *p = fs__plan_blank(ino, lo, hi);
    struct extent_iter i;
    struct extent e;
    int got = lo < hi ? fs__extent_first(&i, map, ino, lo, &e) : 0;
    for (; got > 0 && e.off < hi; got = fs__extent_next(&i, &e)) {
        int err = plan_old(p, map, &e);
        if (err) return err;
    }
    return got < 0 ? got : 0;
}

int fs__plan_add(struct plan *p, const struct omap *map, const struct extent *e, bool live)
{
    check(e->off >= p->lo && fs__extent_end(e) <= p->hi && e->len > 0);
    if (!e->inlined) {
        int err = fs__payload_check(map, e->loc, e->len, live);
        if (err) return err;
    }
    struct extent own = planned(p, e);
    extents_push(&p->add, &own);
    p->blocks_come += fs__blocks(e->len);
    return 0;
}

void fs__plan_free(struct plan *p)
{
    free(p->old.v);
    free(p->rest.v);
    free(p->add.v);
    buf_free(&p->bytes);
    *p = (struct plan){0};
}

int fs__plan_check(const struct plan *p, const struct inode *n, const struct counters *c)
{
    return n->a.blocks < p->blocks_gone || c->blocks < n->a.blocks ? -EUCLEAN : 0;
}

/* Will a row at that place be put? `add` ascends, and so do the questions: *next is where the search goes on. */
static bool put_again(const struct plan *p, uint64_t off, size_t *next)
{
    while (*next < p->add.n && p->add.v[*next].off < off) ++*next;
    if (*next < p->add.n && p->add.v[*next].off == off) return true;
    for (size_t i = 0; i < p->rest.n; i++)
        if (p->rest.v[i].off == off) return true;
    return false;
}

void fs__plan_apply(struct plan *p, struct fs *fs, struct inode *n, struct counters *c)
{
    check(n->a.ino == p->ino && fs__plan_check(p, n, c) == 0);
    /* New references first: payload that is on both sides never dies in between. */
    for (size_t i = 0; i < p->add.n; i++)
        if (!p->add.v[i].inlined) fs__payload_adjust(fs, p->add.v[i].loc, p->add.v[i].len, 1);
    for (size_t i = 0, next = 0; i < p->old.n; i++) {
        struct key k;
        if (!put_again(p, p->old.v[i].off, &next))
            check(omap_del(fs->map, fs__key_pair(&k, ROW_EXTENT, p->ino, p->old.v[i].off)));
        if (p->old.v[i].inlined) continue;
        struct extent cut = fs__extent_part(&p->old.v[i], p->lo, p->hi);
        fs__payload_adjust(fs, cut.loc, cut.len, -1);
    }
    for (size_t i = 0; i < p->rest.n; i++) extent_put(fs->map, p->ino, &p->rest.v[i], fs__plan_bytes(p, &p->rest.v[i]));
    for (size_t i = 0; i < p->add.n; i++) extent_put(fs->map, p->ino, &p->add.v[i], fs__plan_bytes(p, &p->add.v[i]));
    n->a.blocks = n->a.blocks - p->blocks_gone + p->blocks_come;
    c->blocks = c->blocks - p->blocks_gone + p->blocks_come;
}
