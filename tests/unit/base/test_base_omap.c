/* The ordered map against a sorted array: random operations over several shapes of keys and values with many live
 * snapshots, each of which must still read as on the day it was taken; the tree's own invariants after every batch; and
 * the single promises of omap.h (sizes, aliasing, digest, memory). A failing run prints its seed. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/base.h"
#include "base/omap_map.h"

/* ---- the tree's invariants --------------------------------------------------------------------------------------- */

struct totals {
    uint64_t rows, leaves, bytes, digest;
};

static void validate_cells(const struct omap_page *p)
{
    uint8_t taken[OMAP_PAGE_MAX] = {0};
    size_t live = 0;
    for (unsigned i = 0; i < p->n; i++) {
        unsigned n = omap__cell_bytes(omap__klen(p, i), p->slot[i].vlen);
        size_t at = (size_t)p->cap - p->slot[i].at;
        assert_true(p->slot[i].at <= p->data);
        assert_true(at + n <= p->cap);
        for (size_t k = at; k < at + n; k++) assert_int_equal(taken[k]++, 0);
        live += n;
    }
    assert_int_equal(live + p->dead, p->data);
    assert_true(sizeof(*p) + p->n * sizeof(struct omap_slot) + p->data <= p->cap);
    assert_int_equal(omap__fit(p->cap), p->cap);
}

static void validate_keys(const struct omap_page *p, const struct slice *lower, const struct slice *upper)
{
    for (unsigned i = 0; i < p->n; i++) {
        struct slice key = omap__key(p, i);
        if (i) assert_true(slice_cmp(omap__key(p, i - 1), key) < 0);
        if (lower) assert_true(slice_cmp(*lower, key) <= 0);
        if (upper) assert_true(slice_cmp(key, *upper) < 0);
        assert_true(key.n >= p->prefix);
        assert_memory_equal(key.p, omap__cell(p, 0), p->prefix);
        uint8_t head[4] = {0};
        size_t n = key.n - p->prefix < 4 ? key.n - p->prefix : 4;
        memcpy(head, key.p + p->prefix, n);
        assert_int_equal(p->slot[i].head, load_be32(head));
    }
}

static void validate_page(const struct omap_page *p, const struct slice *lower, const struct slice *upper, bool root,
    struct totals *t)
{
    assert_true(p->refs > 0);
    t->bytes += p->cap;
    validate_cells(p);
    validate_keys(p, lower, upper);
    if (p->level == 0) {
        assert_true(root || p->n > 0);
        for (unsigned i = 0; i < p->n; i++) {
            struct slice k = omap__key(p, i), v = omap__value(p, i);
            assert_int_equal(v.n > OMAP_INLINE_MAX, p->slot[i].vlen == OMAP_LARGE);
            if (v.n > OMAP_INLINE_MAX) t->bytes += omap__blob_bytes(v.n);
            t->digest += hash64(hash64(0, k.p, k.n), v.p, v.n);
        }
        t->rows += p->n;
        t->leaves++;
        return;
    }
    assert_true(!root || p->n > 0);
    for (unsigned i = 0; i <= p->n; i++) {
        struct slice from, to;
        if (i > 0) from = omap__key(p, i - 1);
        if (i < p->n) to = omap__key(p, i);
        assert_int_equal(omap__child(p, i)->level + 1, p->level);
        validate_page(omap__child(p, i), i > 0 ? &from : lower, i < p->n ? &to : upper, false, t);
    }
}

/* Returns the number of leaves. */
static uint64_t validate(const struct omap *m)
{
    struct totals t = {0};
    validate_page(m->root, NULL, NULL, true, &t);
    assert_int_equal(t.rows, omap_count(m));
    assert_true(t.digest == omap_digest(m));
    assert_int_equal(t.bytes + sizeof(*m), omap_bytes(m));
    return t.leaves;
}

/* ---- the model: a sorted array of shared rows -------------------------------------------------------------------- */

enum { MODEL_MAX = 6000 };

struct model {
    struct {
        struct blob *key, *value;
    } row[MODEL_MAX];
    size_t n;
};

static struct blob *blob_of(struct slice s)
{
    struct blob *b = blob_new(s.n);
    if (s.n) memcpy(b->p, s.p, s.n);
    return b;
}

static bool model_find(const struct model *d, struct slice key, size_t *at)
{
    size_t lo = 0, hi = d->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int c = slice_cmp(blob_slice(d->row[mid].key), key);
        if (c == 0) {
            *at = mid;
            return true;
        }
        if (c < 0) lo = mid + 1;
        else hi = mid;
    }
    *at = lo;
    return false;
}

static void model_put(struct model *d, struct slice key, struct slice value)
{
    size_t at;
    struct blob *v = blob_of(value);
    if (model_find(d, key, &at)) {
        blob_unref(d->row[at].value);
        d->row[at].value = v;
        return;
    }
    assert_true(d->n < MODEL_MAX);
    memmove(&d->row[at + 1], &d->row[at], (d->n - at) * sizeof(d->row[0]));
    d->n++;
    d->row[at].key = blob_of(key);
    d->row[at].value = v;
}

static bool model_del(struct model *d, struct slice key)
{
    size_t at;
    if (!model_find(d, key, &at)) return false;
    blob_unref(d->row[at].key);
    blob_unref(d->row[at].value);
    d->n--;
    memmove(&d->row[at], &d->row[at + 1], (d->n - at) * sizeof(d->row[0]));
    return true;
}

static struct model *model_copy(const struct model *d)
{
    struct model *c = xmalloc(sizeof(*c));
    c->n = d->n;
    for (size_t i = 0; i < d->n; i++) {
        c->row[i].key = blob_ref(d->row[i].key);
        c->row[i].value = blob_ref(d->row[i].value);
    }
    return c;
}

static void model_free(struct model *d)
{
    for (size_t i = 0; i < d->n; i++) {
        blob_unref(d->row[i].key);
        blob_unref(d->row[i].value);
    }
    free(d);
}

/* Whether the iterator stands on row i (n: on none). */
static void expect_at(const struct omap_iter *it, const struct model *d, size_t i)
{
    assert_int_equal(it->valid, i < d->n);
    if (!it->valid) return;
    assert_true(slice_eq(omap_iter_key(it), blob_slice(d->row[i].key)));
    assert_true(slice_eq(omap_iter_value(it), blob_slice(d->row[i].value)));
}

static void expect_equal(const struct omap *m, const struct model *d)
{
    struct omap_iter it;
    size_t i = 0;
    validate(m);
    assert_int_equal(omap_count(m), d->n);
    for (bool ok = omap_seek(&it, m, slice_of(NULL, 0)); ok; ok = omap_next(&it)) expect_at(&it, d, i++);
    assert_int_equal(i, d->n);
    assert_false(omap_next(&it) || omap_prev(&it));
    uint8_t top[OMAP_KEY_MAX + 1];
    memset(top, 0xff, sizeof(top));
    for (bool ok = omap_seek_le(&it, m, slice_of(top, sizeof(top))); ok; ok = omap_prev(&it)) expect_at(&it, d, --i);
    assert_int_equal(i, 0);
    for (i = 0; i < d->n; i++) {
        struct slice v;
        assert_true(omap_get(m, blob_slice(d->row[i].key), &v));
        assert_true(slice_eq(v, blob_slice(d->row[i].value)));
    }
}

/* Seeks to key both ways and walks a few steps to and fro. */
static void expect_seek(const struct omap *m, const struct model *d, struct slice key, struct prng *r)
{
    struct omap_iter it;
    size_t at;
    bool found = model_find(d, key, &at);
    if (prng_chance(r, 50)) {
        assert_int_equal(omap_seek(&it, m, key), at < d->n);
    } else {
        at = found ? at : at - 1;    /* in front of the first row it wraps and so is none */
        assert_int_equal(omap_seek_le(&it, m, key), at < d->n);
    }
    expect_at(&it, d, at);
    for (int i = 0; i < 40 && it.valid; i++) {
        if (prng_chance(r, 50)) {
            at++;
            assert_int_equal(omap_next(&it), at < d->n);
        } else {
            at--;
            assert_int_equal(omap_prev(&it), at < d->n);
        }
        expect_at(&it, d, at);
    }
}

/* ---- shapes of keys and values ----------------------------------------------------------------------------------- */

enum shape { COUNTER, SHORT, LONG_PREFIX, NESTED, RANDOM, LAST_SHAPE = RANDOM };

/* Key number u; into room for OMAP_KEY_MAX bytes. */
static struct slice key_of(enum shape shape, uint64_t u, uint8_t *to)
{
    struct prng r;
    prng_seed(&r, u);
    size_t n = 0;
    switch (shape) {
    case COUNTER:    /* numbers in order behind a byte, as inode keys are */
        to[0] = (uint8_t)(u % 3);
        store_be64(to + 1, u / 3);
        return slice_of(to, 9);
    case SHORT:      /* dense: one to three bytes, zeros and 0xff among them */
        n = 1 + u % 3;
        for (size_t i = 0; i < n; i++) to[i] = (uint8_t)((u >> (3 + 3 * i) & 7) * 255 / 7);
        return slice_of(to, n);
    case LONG_PREFIX:    /* groups of keys which differ in the last bytes only, of all lengths */
        n = 1 + (u / 16 * 37) % (OMAP_KEY_MAX - 2);
        memset(to, (int)(u / 16 % 5), n);
        to[n] = to[n + 1] = (uint8_t)(u % 16);
        return slice_of(to, n + 1 + u % 2);
    case NESTED:     /* each is the beginning of the next: zeros all the way, some with an end of their own */
        n = 1 + u / 2 % OMAP_KEY_MAX;
        memset(to, 0, n);
        if (u % 2) to[n - 1] = (uint8_t)(1 + u / 2 / OMAP_KEY_MAX);
        return slice_of(to, n);
    case RANDOM:
        n = 1 + prng_below(&r, prng_chance(&r, 90) ? 40 : OMAP_KEY_MAX);
        for (size_t i = 0; i < n; i++) to[i] = (uint8_t)prng_u64(&r);
        break;
    }
    return slice_of(to, n);
}

static struct slice random_value(struct prng *r, uint8_t *to)
{
    size_t n;
    switch (prng_below(r, 16)) {
    case 0: n = 0; break;
    case 1: n = prng_between(r, OMAP_INLINE_MAX - 2, OMAP_INLINE_MAX + 2); break;
    case 2: n = prng_below(r, OMAP_INLINE_MAX); break;
    case 3: n = prng_below(r, 6000); break;
    case 4: n = prng_chance(r, 5) ? OMAP_VALUE_MAX - prng_below(r, 2) : 7; break;
    default: n = prng_below(r, 120); break;
    }
    /* A few bytes tell values apart; the rest is the same everywhere. */
    memset(to, 'v', n);
    for (size_t i = 0; i < 8 && i < n; i++) to[i] = to[n - 1 - i] = (uint8_t)prng_u64(r);
    return slice_of(to, n);
}

/* ---- random operations ------------------------------------------------------------------------------------------- */

enum { SNAPSHOTS = 12, SPOTS = 8 };

struct world {
    struct prng r;
    enum shape shape;
    uint64_t keys;               /* so many different keys */
    bool snapshots;
    struct omap *m;
    struct model *d;
    struct {
        struct omap *m;
        struct model *d;
    } snap[SNAPSHOTS];
    struct {
        struct omap_spot spot;
        struct slice key;
        uint8_t bytes[OMAP_KEY_MAX];
    } spot[SPOTS];
    uint64_t in_place;           /* puts that needed no search */
    uint8_t value[OMAP_VALUE_MAX];
};

static void end_snapshot(struct world *w, size_t i)
{
    if (!w->snap[i].m) return;
    expect_equal(w->snap[i].m, w->snap[i].d);
    omap_free(w->snap[i].m);
    model_free(w->snap[i].d);
    w->snap[i].m = NULL;
}

static void take_snapshot(struct world *w)
{
    size_t i = prng_below(&w->r, SNAPSHOTS);
    end_snapshot(w, i);
    /* Of a snapshot, too: that is as good as of the map. */
    struct omap *s = omap_snapshot(w->m);
    w->snap[i].m = omap_snapshot(s);
    omap_free(s);
    w->snap[i].d = model_copy(w->d);
}

/* Back to a snapshot; the others stay what they are. */
static void roll_back(struct world *w)
{
    size_t i = prng_below(&w->r, SNAPSHOTS);
    if (!w->snap[i].m) return;
    omap_rollback(w->m, w->snap[i].m);
    w->snap[i].m = NULL;
    model_free(w->d);
    w->d = w->snap[i].d;
    expect_equal(w->m, w->d);
}

/* A put whose key and value lie in the map itself; the rows may be the same. */
static void put_aliased(struct world *w)
{
    struct omap_iter from, to;
    uint8_t k[OMAP_KEY_MAX];
    if (!omap_seek(&from, w->m, key_of(w->shape, prng_below(&w->r, w->keys), k))) return;
    if (!omap_seek(&to, w->m, key_of(w->shape, prng_below(&w->r, w->keys), k))) return;
    struct slice value = omap_iter_value(&from), key = omap_iter_key(&to);
    if (prng_chance(&w->r, 30)) key = omap_iter_key(&from);
    if (prng_chance(&w->r, 30)) key = slice_sub(key, 0, 1 + prng_below(&w->r, key.n));
    if (prng_chance(&w->r, 30)) value = omap_iter_key(&from);
    if (prng_chance(&w->r, 30)) value = slice_sub(value, value.n / 3, value.n / 2);
    if (w->d->n == MODEL_MAX) return;
    model_put(w->d, key, value);
    omap_put(w->m, key, value);
}

/* Where a row is now, for a put some time later: whatever has happened in between, it is a put. */
static void remember_spot(struct world *w, size_t i, struct slice key)
{
    size_t at;
    struct slice value;
    memcpy(w->spot[i].bytes, key.p, key.n);
    w->spot[i].key = slice_of(w->spot[i].bytes, key.n);
    bool there = model_find(w->d, key, &at);
    assert_int_equal(omap_get_at(w->m, w->spot[i].key, &value, &w->spot[i].spot), there);
    if (there) assert_true(slice_eq(value, blob_slice(w->d->row[at].value)));
}

static void put_at_spot(struct world *w, size_t i)
{
    size_t at;
    struct slice key = w->spot[i].key, value = random_value(&w->r, w->value);
    if (key.n == 0 || w->d->n == MODEL_MAX) return;
    if (model_find(w->d, key, &at) && prng_chance(&w->r, 80)) {      /* of the same size */
        value = slice_of(w->value, blob_slice(w->d->row[at].value).n);
        for (size_t k = 0; k < value.n; k++) w->value[k] = (uint8_t)prng_u64(&w->r);
    }
    uint64_t shape = w->m->shape;
    bool held = w->spot[i].spot.page && w->spot[i].spot.shape == shape && w->m->root->refs == 1;
    omap_put_at(w->m, key, value, &w->spot[i].spot);
    model_put(w->d, key, value);
    w->in_place += held && w->m->shape == shape;
}

static void one_operation(struct world *w, uint32_t percent_put)
{
    uint8_t k[OMAP_KEY_MAX];
    struct slice key = key_of(w->shape, prng_below(&w->r, w->keys), k), got;
    size_t at;
    if (prng_chance(&w->r, 10)) put_at_spot(w, prng_below(&w->r, SPOTS));
    if (prng_chance(&w->r, 5)) {
        put_aliased(w);
    } else if (prng_chance(&w->r, percent_put) && w->d->n < MODEL_MAX) {
        struct slice value = random_value(&w->r, w->value);
        omap_put(w->m, key, value);
        model_put(w->d, key, value);
    } else {
        struct omap_iter it;
        if (prng_chance(&w->r, 50) && omap_seek(&it, w->m, key)) {
            /* One that is there, by the map's own bytes. */
            assert_true(model_del(w->d, omap_iter_key(&it)));
            assert_true(omap_del(w->m, omap_iter_key(&it)));
        } else {
            assert_int_equal(omap_del(w->m, key), model_del(w->d, key));
        }
    }
    bool there = model_find(w->d, key, &at);
    assert_int_equal(omap_get(w->m, key, &got), there);
    if (there) assert_true(slice_eq(got, blob_slice(w->d->row[at].value)));
    if (prng_chance(&w->r, 30)) {
        size_t i = prng_below(&w->r, SPOTS);
        remember_spot(w, i, key);
        if (w->snapshots && prng_chance(&w->r, 10)) take_snapshot(w);
        if (prng_chance(&w->r, 50)) put_at_spot(w, i);
    }
    if (prng_chance(&w->r, 10)) expect_seek(w->m, w->d, key, &w->r);
    assert_int_equal(omap_count(w->m), w->d->n);
}

static void run(uint64_t seed, enum shape shape, bool snapshots)
{
    static const uint32_t percent_put[] = {90, 50, 15, 75, 5};
    struct world *w = xcalloc(1, sizeof(*w));
    print_message("seed %lu shape %d snapshots %d\n", (unsigned long)seed, shape, snapshots);
    prng_seed(&w->r, seed);
    w->shape = shape;
    w->snapshots = snapshots;
    w->keys = prng_chance(&w->r, 30) ? 200 : 3000;
    w->m = omap_new();
    w->d = xcalloc(1, sizeof(*w->d));
    for (size_t phase = 0; phase < sizeof(percent_put) / sizeof(percent_put[0]); phase++) {
        for (int i = 0; i < 1200; i++) {
            if (snapshots && prng_chance(&w->r, 2)) take_snapshot(w);
            if (snapshots && prng_below(&w->r, 1000) < 3) roll_back(w);
            one_operation(w, percent_put[phase]);
            if (i % 200 == 0) validate(w->m);
        }
        expect_equal(w->m, w->d);
    }
    assert_true(w->in_place > 10);
    /* The snapshots outlive the map, and what is deleted from it to the last row. */
    while (w->d->n) {
        size_t at = prng_below(&w->r, w->d->n);
        struct blob *key = blob_ref(w->d->row[at].key);
        assert_true(omap_del(w->m, blob_slice(key)));
        assert_true(model_del(w->d, blob_slice(key)));
        blob_unref(key);
        if (w->d->n % 64 == 0) validate(w->m);
    }
    assert_true(omap_digest(w->m) == 0);
    assert_true(omap_bytes(w->m) < 2 * OMAP_PAGE_STEP);
    omap_free(w->m);
    for (size_t i = 0; i < SNAPSHOTS; i++) end_snapshot(w, i);
    model_free(w->d);
    free(w);
}

static void test_random_in_place(void **state)
{
    for (uint64_t seed = 0; seed < 10; seed++) run(seed, (enum shape)(seed % (LAST_SHAPE + 1)), false);
}

static void test_random_with_snapshots(void **state)
{
    for (uint64_t seed = 100; seed < 120; seed++) run(seed, (enum shape)(seed % (LAST_SHAPE + 1)), true);
}

/* ---- single promises --------------------------------------------------------------------------------------------- */

/* A place found behind a snapshot is none after going back to it, however much happens then. */
static void test_spot_after_rollback(void **state)
{
    (void)state;
    for (unsigned changes = 0; changes < 6; changes++) {
        struct omap *m = omap_new();
        struct omap_spot spot;
        struct slice got, key = slice_str("key");
        omap_put(m, key, slice_str("one"));
        struct omap *before = omap_snapshot(m);
        omap_put(m, key, slice_str("two"));
        assert_true(omap_get_at(m, key, &got, &spot));
        omap_rollback(m, before);
        for (unsigned i = 0; i < changes; i++) omap_put(m, slice_of("0123456789", i + 1), slice_str(""));
        omap_put_at(m, key, slice_str("six"), &spot);
        assert_true(omap_get(m, key, &got));
        assert_true(slice_eq(got, slice_str("six")));
        validate(m);
        omap_free(m);
    }
}

static void put_number(struct omap *m, uint64_t i, size_t vlen)
{
    uint8_t k[24], v[1024];
    store_be64(k, hash_mix(i));
    store_be64(k + 8, i);
    store_be64(k + 16, i);
    memset(v, (int)i, sizeof(v));
    omap_put(m, slice_of(k, sizeof(k)), slice_of(v, vlen));
}

static void test_empty(void **state)
{
    struct omap *m = omap_new();
    struct omap_iter it;
    struct slice v;
    assert_int_equal(omap_count(m), 0);
    assert_true(omap_digest(m) == 0);
    assert_false(omap_get(m, slice_str("a"), &v));
    assert_false(omap_get(m, slice_of(NULL, 0), &v));
    assert_false(omap_del(m, slice_str("a")));
    assert_false(omap_seek(&it, m, slice_of(NULL, 0)));
    assert_false(omap_seek(&it, m, slice_str("a")));
    assert_false(omap_seek_le(&it, m, slice_str("a")));
    assert_false(omap_next(&it));
    validate(m);
    omap_free(m);
    omap_free(NULL);
}

/* Every key length with values around each border, forth and back between the sizes. */
static void test_all_sizes(void **state)
{
    static const size_t vlen[] = {0, 1, 1023, 1024, 1025, 100, OMAP_VALUE_MAX, 1024, 0, 2047, 1, 5000};
    uint8_t *v = xmalloc(OMAP_VALUE_MAX), k[OMAP_KEY_MAX];
    struct omap *m = omap_new();
    for (size_t round = 0; round < sizeof(vlen) / sizeof(vlen[0]); round++) {
        for (size_t klen = 1; klen <= OMAP_KEY_MAX; klen++) {
            if (vlen[round] > 10000 && klen % 64) continue;
            memset(k, (int)(klen & 0xff), klen);
            memset(v, (int)(klen + round), vlen[round]);
            omap_put(m, slice_of(k, klen), slice_of(v, vlen[round]));
            struct slice got;
            assert_true(omap_get(m, slice_of(k, klen), &got));
            assert_true(slice_eq(got, slice_of(v, vlen[round])));
        }
        validate(m);
        assert_int_equal(omap_count(m), OMAP_KEY_MAX);
    }
    omap_free(m);
    free(v);
}

static void test_digest_knows_contents_only(void **state)
{
    enum { N = 2000 };
    struct prng r;
    prng_seed(&r, 4);
    struct omap *up = omap_new(), *mixed = omap_new();
    for (uint64_t i = 0; i < N; i++) put_number(up, i, i % 200);
    uint64_t order[N];
    for (uint64_t i = 0; i < N; i++) {
        uint64_t j = prng_below(&r, i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (uint64_t i = 0; i < N; i++) {
        put_number(mixed, order[i], 50);              /* first another value */
        put_number(mixed, N + i, 10);                 /* and rows that will go */
    }
    assert_true(omap_digest(mixed) != omap_digest(up));
    for (uint64_t i = 0; i < N; i++) {
        put_number(mixed, i, i % 200);
        uint8_t k[24];
        store_be64(k, hash_mix(N + i));
        store_be64(k + 8, N + i);
        store_be64(k + 16, N + i);
        assert_true(omap_del(mixed, slice_of(k, sizeof(k))));
    }
    assert_int_equal(omap_count(mixed), N);
    assert_true(omap_digest(mixed) == omap_digest(up));
    uint64_t before = omap_digest(up);
    put_number(up, 5, 6);
    assert_true(omap_digest(up) != before);
    put_number(up, 5, 5);
    assert_true(omap_digest(up) == before);
    omap_free(up);
    omap_free(mixed);
}

/* Moving a byte from the key to the value, or values between keys, changes the digest. */
static void test_digest_tells_rows_apart(void **state)
{
    const char *rows[][4] = {
        {"ab", "c", "d", "e"}, {"a", "bc", "d", "e"}, {"ab", "e", "d", "c"}, {"ab", "c", "de", ""}};
    uint64_t digest[4];
    for (int i = 0; i < 4; i++) {
        struct omap *m = omap_new();
        omap_put(m, slice_str(rows[i][0]), slice_str(rows[i][1]));
        omap_put(m, slice_str(rows[i][2]), slice_str(rows[i][3]));
        digest[i] = omap_digest(m);
        for (int j = 0; j < i; j++) assert_true(digest[i] != digest[j]);
        omap_free(m);
    }
}

static void test_changes_in_place_without_snapshot(void **state)
{
    struct omap *m = omap_new();
    for (uint64_t i = 0; i < 3000; i++) put_number(m, i, 100);
    struct omap_iter it;
    omap_seek(&it, m, slice_of(NULL, 0));
    const uint8_t *where = omap_iter_value(&it).p;
    uint8_t key[24], v[100] = {0};
    memcpy(key, omap_iter_key(&it).p, 24);
    uint64_t bytes = omap_bytes(m);
    omap_put(m, slice_of(key, 24), slice_of(v, sizeof(v)));
    struct slice got;
    assert_true(omap_get(m, slice_of(key, 24), &got));
    assert_ptr_equal(got.p, where);
    /* With one, the change happens elsewhere and the snapshot's memory is not touched. */
    struct omap *s = omap_snapshot(m);
    v[0] = 1;
    omap_put(m, slice_of(key, 24), slice_of(v, sizeof(v)));
    assert_true(omap_get(m, slice_of(key, 24), &got));
    assert_ptr_not_equal(got.p, where);
    assert_true(omap_get(s, slice_of(key, 24), &got));
    assert_ptr_equal(got.p, where);
    assert_int_equal(got.p[0], 0);
    assert_int_equal(omap_bytes(m), bytes);
    assert_int_equal(omap_bytes(s), bytes);
    /* A deletion that finds nothing copies nothing. */
    const void *root = s->root;
    omap_free(m);
    m = omap_snapshot(s);
    m->frozen = false;
    assert_false(omap_del(m, slice_str("none")));
    assert_ptr_equal(m->root, root);
    omap_free(m);
    omap_free(s);
}

/* Bytes of keys and values over the memory they take, in percent, after n rows of 124 bytes. */
static uint64_t fill(const struct omap *m) { return omap_count(m) * 124 * 100 / omap_bytes(m); }

static void put_ascending(struct omap *m, uint8_t group, uint64_t i)
{
    uint8_t k[24] = {0}, v[100] = {0};
    k[0] = group;
    store_be64(k + 16, i);
    omap_put(m, slice_of(k, sizeof(k)), slice_of(v, sizeof(v)));
}

static void test_memory_is_compact(void **state)
{
    struct omap *m = omap_new();
    for (uint64_t i = 0; i < 50000; i++) put_number(m, i, 100);
    print_message("random insertion fills %lu %%\n", (unsigned long)fill(m));
    assert_true(fill(m) >= 77);
    omap_free(m);
    m = omap_new();
    for (uint64_t i = 0; i < 50000; i++) put_ascending(m, 0, i);
    print_message("ascending insertion fills %lu %%\n", (unsigned long)fill(m));
    assert_true(fill(m) >= 88);
    /* Not only are the allocations full, they are the biggest. */
    assert_true(validate(m) <= 50000 / 29);
    omap_free(m);
    /* Interleaved runs, each in the middle of the keys: files that grow side by side. */
    m = omap_new();
    for (uint64_t i = 0; i < 2000; i++) {
        for (uint8_t group = 0; group < 25; group++) put_ascending(m, group, i);
    }
    print_message("ascending runs fill %lu %%\n", (unsigned long)fill(m));
    assert_true(fill(m) >= 80);
    /* One run between other rows keeps its pages full. */
    assert_true(validate(m) <= 50000 / 26);
    uint64_t bytes = omap_bytes(m), leaves = validate(m);
    for (uint64_t i = 2000; i < 50000; i++) put_ascending(m, 7, i);
    uint64_t run_fills = 48000ull * 124 * 100 / (omap_bytes(m) - bytes);
    print_message("a run in the middle fills %lu %%\n", (unsigned long)run_fills);
    assert_true(run_fills >= 88);
    assert_true(validate(m) - leaves <= 48000 / 29);
    omap_free(m);
    /* Three rows a page: a run is known for one from page to page. */
    m = omap_new();
    uint8_t k[300] = {0}, v[1000] = {0};
    for (uint64_t i = 0; i < 4000; i++) {
        store_be64(k, i);
        omap_put(m, slice_of(k, sizeof(k)), slice_of(v, sizeof(v)));
    }
    assert_true(validate(m) <= 4000 / 3 + 10);
    omap_free(m);
}

static void test_memory_shrinks(void **state)
{
    enum { N = 40000 };
    struct omap *m = omap_new();
    uint64_t small = omap_bytes(m);
    for (uint64_t i = 0; i < N; i++) put_number(m, i, 100);
    for (uint64_t left = N; left > 0; left--) {
        uint8_t k[24];
        uint64_t i = left - 1;
        store_be64(k, hash_mix(i));
        store_be64(k + 8, i);
        store_be64(k + 16, i);
        assert_true(omap_del(m, slice_of(k, sizeof(k))));
        if (left % (N / 8) == 1 && left > 1) {
            print_message("%lu rows left fill %lu %%\n", (unsigned long)(left - 1), (unsigned long)fill(m));
            assert_true(fill(m) >= 60);
            validate(m);
        }
    }
    assert_int_equal(omap_count(m), 0);
    assert_true(omap_bytes(m) <= 2 * small);
    /* So do values that become short. */
    for (uint64_t i = 0; i < 5000; i++) put_number(m, i, 1000);
    uint64_t bytes = omap_bytes(m);
    for (uint64_t i = 0; i < 5000; i++) put_number(m, i, 10);
    assert_true(omap_bytes(m) < bytes / 8);
    validate(m);
    omap_free(m);
}

static void test_nothing_leaks(void **state)
{
    size_t before = mallinfo2().uordblks;
    struct omap *snap[20], *m = omap_new();
    struct prng r;
    prng_seed(&r, 9);
    uint8_t *v = xcalloc(OMAP_VALUE_MAX, 1);
    for (int i = 0; i < 20; i++) {
        for (int j = 0; j < 300; j++) {
            uint8_t k[8];
            store_be64(k, prng_below(&r, 2000));
            if (prng_chance(&r, 60)) omap_put(m, slice_of(k, 8), slice_of(v, prng_below(&r, 3000)));
            else omap_del(m, slice_of(k, 8));
        }
        snap[i] = omap_snapshot(m);
    }
    omap_free(m);
    for (int i = 0; i < 20; i++) {
        validate(snap[(i * 7) % 20]);
        omap_free(snap[(i * 7) % 20]);
    }
    free(v);
    assert_int_equal(mallinfo2().uordblks, before);
}

/* Deep trees: the longest keys make the narrowest inner pages; a snapshot of each size of the tree. */
static void test_longest_keys(void **state)
{
    enum { N = 3000 };
    struct omap *m = omap_new(), *half = NULL;
    uint8_t k[OMAP_KEY_MAX] = {0}, v[OMAP_INLINE_MAX] = {0};
    struct prng r;
    prng_seed(&r, 3);
    for (uint64_t i = 0; i < N; i++) {
        store_be64(k + OMAP_KEY_MAX - 8, i * 7919 % N);
        omap_put(m, slice_of(k, sizeof(k)), slice_of(v, prng_chance(&r, 50) ? sizeof(v) : 0));
        if (i == N / 2) half = omap_snapshot(m);
    }
    validate(m);
    assert_true(m->root->level >= 4);
    for (uint64_t i = 0; i < N; i++) {
        store_be64(k + OMAP_KEY_MAX - 8, i * 31 % N);
        assert_true(omap_del(m, slice_of(k, sizeof(k))));
        if (i % 50 == 0) validate(m);
    }
    assert_int_equal(m->root->level, 0);
    validate(half);
    assert_int_equal(omap_count(half), N / 2 + 1);
    omap_free(m);
    omap_free(half);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_all_sizes),
        cmocka_unit_test(test_digest_knows_contents_only),
        cmocka_unit_test(test_digest_tells_rows_apart),
        cmocka_unit_test(test_changes_in_place_without_snapshot),
        cmocka_unit_test(test_memory_is_compact),
        cmocka_unit_test(test_memory_shrinks),
        cmocka_unit_test(test_nothing_leaks),
        cmocka_unit_test(test_longest_keys),
        cmocka_unit_test(test_random_in_place),
        cmocka_unit_test(test_random_with_snapshots),
        cmocka_unit_test(test_spot_after_rollback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
