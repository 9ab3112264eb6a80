/* heavy.c - see heavy.h. Keys come in order, so counting needs one key at a time. */
#include "mr/heavy.h"

#include <stdlib.h>

#include "mr/util.h"

void mr__heavy_offer(struct heavy *h, const struct heavy_key *k)
{
    uint32_t least = 0;
    if (h->n < MR_HEAVY_KEYS) {
        h->top[h->n++] = *k;
        return;
    }
    for (uint32_t i = 1; i < h->n; i++)
        if (h->top[i].values < h->top[least].values) least = i;
    if (k->values > h->top[least].values) h->top[least] = *k;
}

/* ---- counting ---- */

static void close_group(struct heavy_watch *w)
{
    if (w->values == 0) return;
    struct heavy_key k = {.n = (uint32_t)min_u64(w->key.n, MR_HEAVY_KEY),
                          .whole = (uint32_t)w->key.n,
                          .values = w->values,
                          .bytes = w->bytes};
    if (k.n) memcpy(k.key, w->key.p, k.n);
    mr__heavy_offer(w->out, &k);
    w->values = w->bytes = 0;
}

static bool watched_next(struct sorted *s, struct slice *key, struct slice *value)
{
    struct heavy_watch *w = container_of(s, struct heavy_watch, sorted);
    if (!w->in->next(w->in, key, value)) {
        s->err = w->in->err;
        return false;
    }
    if (!w->values || !slice_eq(buf_slice(&w->key), *key)) {
        close_group(w);
        buf_clear(&w->key);
        put_bytes(&w->key, *key);
    }
    w->values++;
    w->bytes += value->n;
    return true;
}

void mr__heavy_begin(struct heavy_watch *w, struct sorted *in, struct heavy *out)
{
    *w = (struct heavy_watch){.sorted = {.next = watched_next}, .in = in, .out = out};
}

void mr__heavy_end(struct heavy_watch *w)
{
    close_group(w);
    buf_free(&w->key);
}

/* ---- as bytes, as text ---- */

void mr__heavy_encode(struct buf *b, const struct heavy *h)
{
    put_u8(b, h ? (uint8_t)h->n : 0);
    for (uint32_t i = 0; h && i < h->n; i++) {
        const struct heavy_key *k = &h->top[i];
        put_slice16(b, slice_of(k->key, k->n));
        put_u32(b, k->whole);
        put_u64(b, k->values);
        put_u64(b, k->bytes);
    }
}

bool mr__heavy_decode(struct reader *r, struct heavy **out)
{
    uint8_t n = get_u8(r);
    *out = NULL;
    if (r->bad || n > MR_HEAVY_KEYS) return false;
    if (n) *out = xcalloc(1, sizeof **out);
    for (uint8_t i = 0; i < n; i++) {
        struct heavy_key *k = &(*out)->top[(*out)->n++];
        struct slice key = get_slice16(r);
        if (key.n > MR_HEAVY_KEY) r->bad = true;
        k->whole = get_u32(r);
        k->values = get_u64(r);
        k->bytes = get_u64(r);
        if (r->bad) break;
        k->n = (uint32_t)key.n;
        if (key.n) memcpy(k->key, key.p, key.n);
    }
    return !r->bad;
}

static int heavier(const void *a, const void *b)
{
    const struct heavy_key *x = a, *y = b;
    if (x->values != y->values) return x->values < y->values ? 1 : -1;
    return slice_cmp(slice_of(x->key, x->n), slice_of(y->key, y->n));
}

void mr__heavy_text(struct buf *b, const struct heavy *h)
{
    struct heavy sorted = *h;
    if (sorted.n) qsort(sorted.top, sorted.n, sizeof *sorted.top, heavier);
    for (uint32_t i = 0; i < sorted.n; i++) {
        const struct heavy_key *k = &sorted.top[i];
        mr__fmt(b, "%llu values, %llu bytes: ", (unsigned long long)k->values, (unsigned long long)k->bytes);
        mr__json_str(b, slice_of(k->key, k->n));
        mr__fmt(b, k->whole > k->n ? "...\n" : "\n");
    }
}
