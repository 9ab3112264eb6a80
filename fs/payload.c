/* payload.c - an exact interval map of the live payload bytes of the log, with reference counts.
 *
 * The `p` rows of one entry are ascending runs without overlap, none empty, none with zero references; what no row
 * covers is dead. A change loads the rows that its bytes overlap or touch, computes the new ones, neighbours with equal
 * counts joined, and writes the difference. Bytes that come to life or die are told to fs->on_live. */
#include "fs/payload.h"

#include <stdlib.h>

#include "fs/varint.h"

struct runs {
    struct run *v;
    size_t n, cap;
    struct run few[6];        /* room for the common case */
};

static void runs_init(struct runs *r)
{
    r->v = r->few;
    r->n = 0;
    r->cap = sizeof(r->few) / sizeof(r->few[0]);
}

static void runs_free(struct runs *r)
{
    if (r->v != r->few) free(r->v);
}

static void runs_push(struct runs *r, struct run x)
{
    if (r->n == r->cap) {
        struct run *grown = xmalloc(2 * r->cap * sizeof(*grown));
        memcpy(grown, r->v, r->n * sizeof(*grown));
        runs_free(r);
        r->v = grown;
        r->cap *= 2;
    }
    r->v[r->n++] = x;
}

int fs__run_decode(struct slice key, struct slice row, struct run *out)
{
    if (!fs__key_second(key, &out->lo) || out->lo > UINT32_MAX) return -EUCLEAN;
    struct reader r = reader_of(row);
    uint64_t len = varint_get(&r);
    out->refs = varint_get(&r);
    out->hi = out->lo + len;
    bool sane = len > 0 && len <= UINT32_MAX && out->hi <= UINT32_MAX && out->refs > 0 && out->refs >> 62 == 0;
    return reader_done(&r) && sane ? 0 : -EUCLEAN;
}

static void run_put(struct omap *map, uint64_t index, const struct run *x)
{
    uint8_t row[2 * VARINT_MAX];
    uint8_t *p = varint_put(row, x->hi - x->lo);
    p = varint_put(p, x->refs);
    struct key k;
    omap_put(map, fs__key_payload(&k, index, (uint32_t)x->lo), slice_of(row, (size_t)(p - row)));
}

/* The runs of entry `index` that overlap or touch [lo, hi). */
static int runs_load(const struct omap *map, uint64_t index, uint64_t lo, uint64_t hi, struct runs *out)
{
    struct omap_iter it;
    struct key k;
    struct slice from = fs__key_payload(&k, index, (uint32_t)(lo ? lo - 1 : 0));     /* one may end at lo */
    bool ok = omap_seek_le(&it, map, from);
    if (!ok) {
        ok = omap_seek(&it, map, from);
    } else if (!fs__key_of(omap_iter_key(&it), ROW_PAYLOAD, index)) {
        ok = omap_next(&it);
    }
    uint64_t end = 0;
    for (; ok && fs__key_of(omap_iter_key(&it), ROW_PAYLOAD, index); ok = omap_next(&it)) {
        struct run x;
        int err = fs__run_decode(omap_iter_key(&it), omap_iter_value(&it), &x);
        if (err || x.lo < end) return -EUCLEAN;
        if (x.lo > hi) break;
        end = x.hi;
        if (x.hi >= lo) runs_push(out, x);
    }
    return 0;
}

int fs__payload_check(const struct omap *map, struct fs_loc loc, uint32_t len, bool must_live)
{
    if (len == 0 || len > UINT32_MAX - loc.off) return -EINVAL;
    uint64_t pos = loc.off, hi = pos + len;
    struct runs rows;
    runs_init(&rows);
    int err = runs_load(map, loc.index, pos, hi, &rows);
    for (size_t i = 0; !err && i < rows.n && pos < hi; i++)
        if (rows.v[i].lo <= pos) pos = max_u64(pos, rows.v[i].hi);
    runs_free(&rows);
    if (err) return err;
    return must_live && pos < hi ? -EUCLEAN : 0;
}

/* What one change is about, while the new runs are computed. */
struct adjust {
    struct fs *fs;
    uint64_t index, lo, hi;
    int sign;
    struct runs out;
};

static void emit_run(struct adjust *a, uint64_t lo, uint64_t hi, uint64_t refs)
{
    if (lo >= hi || refs == 0) return;
    struct run *last = a->out.n ? &a->out.v[a->out.n - 1] : NULL;
    if (last && last->hi == lo && last->refs == refs) {
        last->hi = hi;
    } else {
        runs_push(&a->out, (struct run){lo, hi, refs});
    }
}

/* Bytes of the changed range, all with `refs` references before. */
static void emit_changed(struct adjust *a, uint64_t lo, uint64_t hi, uint64_t refs)
{
    if (lo >= hi || (refs == 0 && a->sign < 0)) return;
    uint64_t now = a->sign > 0 ? refs + 1 : refs - 1;
    if ((refs == 0 || now == 0) && a->fs->on_live) {
        struct fs_loc loc = {.index = a->index, .off = (uint32_t)lo};
        a->fs->on_live(a->fs->on_live_arg, loc, (uint32_t)(hi - lo), a->sign);
    }
    emit_run(a, lo, hi, now);
}

static void compute(struct adjust *a, const struct runs *rows)
{
    uint64_t pos = a->lo;
    for (size_t i = 0; i < rows->n; i++) {
        struct run x = rows->v[i];
        emit_changed(a, pos, min_u64(x.lo, a->hi), 0);
        emit_run(a, x.lo, min_u64(x.hi, a->lo), x.refs);
        emit_changed(a, max_u64(x.lo, a->lo), min_u64(x.hi, a->hi), x.refs);
        pos = max_u64(pos, min_u64(x.hi, a->hi));
        emit_run(a, max_u64(x.lo, a->hi), x.hi, x.refs);
    }
    emit_changed(a, pos, a->hi, 0);
}

static void store(struct omap *map, uint64_t index, const struct runs *was, const struct runs *is)
{
    size_t i = 0;
    for (size_t j = 0; j < was->n; j++) {
        while (i < is->n && is->v[i].lo < was->v[j].lo) i++;
        if (i < is->n && is->v[i].lo == was->v[j].lo) continue;
        struct key k;
        omap_del(map, fs__key_payload(&k, index, (uint32_t)was->v[j].lo));
    }
    size_t j = 0;
    for (i = 0; i < is->n; i++) {
        const struct run *x = &is->v[i];
        while (j < was->n && was->v[j].lo < x->lo) j++;
        bool same = j < was->n && was->v[j].lo == x->lo && was->v[j].hi == x->hi && was->v[j].refs == x->refs;
        if (!same) run_put(map, index, x);
    }
}

void fs__payload_adjust(struct fs *fs, struct fs_loc loc, uint32_t len, int sign)
{
    check(sign == 1 || sign == -1);
    struct adjust a = {.fs = fs, .index = loc.index, .lo = loc.off, .hi = (uint64_t)loc.off + len, .sign = sign};
    struct runs rows;
    runs_init(&rows);
    runs_init(&a.out);
    check(runs_load(fs->map, loc.index, a.lo, a.hi, &rows) == 0);
    compute(&a, &rows);
    store(fs->map, loc.index, &rows, &a.out);
    runs_free(&a.out);
    runs_free(&rows);
}

/* Joins runs that differ only in their counts, for those who ask what is live. */
struct joiner {
    uint64_t index, lo, hi;
    void (*emit)(void *ctx, uint64_t index, uint32_t off, uint32_t len);
    void *ctx;
};

static void join_flush(struct joiner *j)
{
    if (j->hi > j->lo) j->emit(j->ctx, j->index, (uint32_t)j->lo, (uint32_t)(j->hi - j->lo));
    j->lo = j->hi = 0;
}

static void join_run(struct joiner *j, uint64_t index, const struct run *x)
{
    if (j->index != index || j->hi != x->lo) {
        join_flush(j);
        j->index = index;
        j->lo = x->lo;
    }
    j->hi = x->hi;
}

void fs_all_ranges(const struct fs *fs, void (*emit)(void *ctx, uint64_t index, uint32_t off, uint32_t len), void *ctx)
{
    struct joiner j = {.emit = emit, .ctx = ctx};
    struct omap_iter it;
    const uint8_t first = ROW_PAYLOAD;
    for (bool ok = omap_seek(&it, fs->map, slice_of(&first, 1)); ok; ok = omap_next(&it)) {
        struct slice key = omap_iter_key(&it);
        struct run x;
        if (key.p[0] != ROW_PAYLOAD) break;
        if (fs__run_decode(key, omap_iter_value(&it), &x) == 0) join_run(&j, fs__key_get_id(key), &x);
    }
    join_flush(&j);
}

struct one_entry {
    void (*emit)(void *ctx, uint32_t off, uint32_t len);
    void *ctx;
};

static void emit_one(void *ctx, uint64_t index, uint32_t off, uint32_t len)
{
    (void)index;
    const struct one_entry *one = ctx;
    one->emit(one->ctx, off, len);
}

void fs_live_ranges(const struct fs *fs, uint64_t index, void (*emit)(void *ctx, uint32_t off, uint32_t len), void *ctx)
{
    struct one_entry one = {.emit = emit, .ctx = ctx};
    struct joiner j = {.emit = emit_one, .ctx = &one};
    struct omap_iter it;
    for (bool ok = fs__seek_rows(&it, fs->map, ROW_PAYLOAD, index); ok; ok = fs__next_row(&it, ROW_PAYLOAD, index)) {
        struct run x;
        if (fs__run_decode(omap_iter_key(&it), omap_iter_value(&it), &x) == 0) join_run(&j, index, &x);
    }
    join_flush(&j);
}
