/* omap_page.c - slotted pages: search, insertion, removal, and the memory of pages. Nothing here can fail; whether a
 * row fits is the tree's question (omap__has_room), and insertion checks it. */
#include "base/omap_page.h"

#include <stdlib.h>

#include "base/check.h"

/* ---- search ------------------------------------------------------------------------------------------------------ */

/* The first four bytes as a number, zeros behind a short key: its order never contradicts that of the keys. */
static uint32_t head_of(const uint8_t *p, size_t n)
{
    if (n >= 4) return load_be32(p);
    uint32_t head = 0;
    for (size_t i = 0; i < n; i++) head |= (uint32_t)p[i] << (24 - 8 * i);
    return head;
}

static struct slice tail(struct slice key, unsigned prefix) { return slice_sub(key, prefix, key.n - prefix); }

static unsigned common_prefix(struct slice a, struct slice b)
{
    unsigned n = (unsigned)(a.n < b.n ? a.n : b.n), i = 0;
    while (i < n && a.p[i] == b.p[i]) i++;
    return i;
}

/* Of n > 0 slots, how many have a head below `head`; without branches that depend on the data. */
static unsigned heads_below(const struct omap_slot *slot, unsigned n, uint32_t head)
{
    unsigned base = 0;
    while (n > 1) {
        unsigned half = n / 2;
        base += half & (0u - (slot[base + half - 1].head < head));
        n -= half;
    }
    return base + (slot[base].head < head);
}

bool omap__find(const struct omap_page *p, struct slice key, unsigned *at)
{
    const unsigned n = p->n, prefix = p->prefix;
    *at = 0;
    if (n == 0 || key.n == 0) return false;
    struct slice rest = key.n > prefix ? tail(key, prefix) : slice_of(key.p, 0);
    uint32_t head = head_of(rest.p, rest.n);
    unsigned lo = heads_below(p->slot, n, head), hi = lo;
    /* Does it begin as all rows do? Any row can tell; this one will be read anyway if it is the one that is sought. */
    int order = memcmp(key.p, omap__cell(p, lo < n ? lo : n - 1), key.n < prefix ? key.n : prefix);
    if (order > 0) *at = n;
    if (order != 0 || key.n < prefix) return false;
    /* The rows with that head; most often there is one or none. */
    if (hi < n && p->slot[hi].head == head) hi++;
    if (hi > lo && hi < n && p->slot[hi].head == head) hi = head < UINT32_MAX ? heads_below(p->slot, n, head + 1) : n;
    while (lo < hi) {
        unsigned mid = lo + (hi - lo) / 2;
        int c = slice_cmp(tail(omap__key(p, mid), prefix), rest);
        if (c == 0) {
            *at = mid;
            return true;
        }
        if (c > 0) hi = mid;
        else lo = mid + 1;
    }
    *at = lo;
    return false;
}

unsigned omap__find_child(const struct omap_page *p, struct slice key)
{
    unsigned at;
    bool equal = omap__find(p, key, &at);
    return at + equal;
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

static void set_slot(struct omap_page *p, unsigned i, unsigned at, unsigned klen, unsigned vlen)
{
    p->slot[i].at = at & 0xfff;
    p->slot[i].klen_1 = (klen - 1) & 0x1ff;
    p->slot[i].vlen = vlen & 0x7ff;
}

static void set_head(struct omap_page *p, unsigned i)
{
    struct slice rest = tail(omap__key(p, i), p->prefix);
    p->slot[i].head = head_of(rest.p, rest.n);
}

/* Row i is new. Only a row at either end can narrow the prefix: what lies between two keys begins as both do. */
static void set_prefix(struct omap_page *p, unsigned i)
{
    unsigned last = p->n - 1u;
    if (i == 0 || i == last) {
        struct slice a = omap__key(p, 0), b = omap__key(p, last);
        bool kept = last > 0 && a.n >= p->prefix && b.n >= p->prefix && memcmp(a.p, b.p, p->prefix) == 0;
        if (!kept) {
            p->prefix = (uint16_t)common_prefix(a, b);
            for (unsigned k = 0; k <= last; k++) set_head(p, k);
            return;
        }
    }
    set_head(p, i);
}

bool omap__has_room(const struct omap_page *p, size_t bytes) { return omap__used(p) + p->dead + bytes <= p->cap; }

void omap__insert(struct omap_page *p, unsigned at, struct omap_row row)
{
    unsigned bytes = omap__cell_bytes(row.klen, row.vlen);
    check(at <= p->n && omap__has_room(p, omap__row_bytes(row)));
    memmove(&p->slot[at + 1], &p->slot[at], (p->n - at) * sizeof(struct omap_slot));
    p->n++;
    p->data = (uint16_t)(p->data + bytes);
    set_slot(p, at, p->data, row.klen, row.vlen);
    memcpy(omap__cell(p, at), row.cell, bytes);
    set_prefix(p, at);
}

void omap__append(struct omap_page *p, const struct omap_page *from, unsigned begin, unsigned end)
{
    for (unsigned i = begin; i < end; i++) omap__insert(p, p->n, omap__row(from, i));
}

void omap__remove(struct omap_page *p, unsigned at)
{
    check(at < p->n);
    unsigned bytes = omap__cell_bytes(omap__klen(p, at), p->slot[at].vlen);
    if (p->slot[at].at == p->data) p->data = (uint16_t)(p->data - bytes);
    else p->dead = (uint16_t)(p->dead + bytes);
    p->n--;
    memmove(&p->slot[at], &p->slot[at + 1], (p->n - at) * sizeof(struct omap_slot));
    if (p->n == 0) p->data = p->dead = p->prefix = 0;
}

void omap__set_value(struct omap_page *p, unsigned at, const uint8_t *bytes, unsigned vlen)
{
    unsigned klen = omap__klen(p, at);
    unsigned had = omap__cell_bytes(klen, p->slot[at].vlen), has = omap__cell_bytes(klen, vlen);
    check(has <= had);
    memcpy(omap__cell(p, at) + klen, bytes, has - klen);
    p->slot[at].vlen = vlen & 0x7ff;
    p->dead = (uint16_t)(p->dead + had - has);
}

void omap__set_child(struct omap_page *p, unsigned i, struct omap_page *child)
{
    if (i == 0) p->first = child;
    else memcpy(omap__cell(p, i - 1) + omap__klen(p, i - 1), &child, sizeof(child));
}

void omap__remove_child(struct omap_page *p, unsigned i)
{
    if (i == 0) p->first = p->n ? omap__child(p, 1) : NULL;
    if (p->n) omap__remove(p, i ? i - 1 : 0);
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

unsigned omap__fit(size_t used)
{
    check(used <= OMAP_PAGE_MAX);
    /* Small maps are many: they begin with half a step. */
    if (used + 8 <= OMAP_PAGE_STEP / 2) return OMAP_PAGE_STEP / 2 - 8;
    return (unsigned)(used + 8 + OMAP_PAGE_STEP - 1) / OMAP_PAGE_STEP * OMAP_PAGE_STEP - 8;
}

struct omap_page *omap__page_new(unsigned level, size_t used)
{
    unsigned cap = omap__fit(used);
    struct omap_page *p = xmalloc(cap);
    *p = (struct omap_page){.refs = 1, .level = (uint16_t)level, .cap = (uint16_t)cap};
    return p;
}

/* p's rows in fresh memory; what they point to now has two owners, one of which must let go or be counted. */
static struct omap_page *duplicate(const struct omap_page *p, size_t used)
{
    struct omap_page *q = omap__page_new(p->level, used);
    q->first = p->first;
    q->next = p->next;
    q->ascending = p->ascending;
    q->n = p->n;
    q->prefix = p->prefix;
    memcpy(q->slot, p->slot, p->n * sizeof(struct omap_slot));
    if (p->dead) {
        for (unsigned i = 0; i < p->n; i++) {
            unsigned bytes = omap__cell_bytes(omap__klen(p, i), p->slot[i].vlen);
            q->data = (uint16_t)(q->data + bytes);
            set_slot(q, i, q->data, omap__klen(p, i), p->slot[i].vlen);
            memcpy(omap__cell(q, i), omap__cell(p, i), bytes);
        }
        return q;
    }
    q->data = p->data;
    memcpy((uint8_t *)q + q->cap - q->data, (const uint8_t *)p + p->cap - p->data, p->data);
    return q;
}

struct omap_page *omap__page_resize(struct omap_page *p, size_t used)
{
    check(p->refs == 1);
    struct omap_page *q = duplicate(p, used);
    free(p);
    return q;
}

static void retain_contents(const struct omap_page *p)
{
    for (unsigned i = 0; p->level && i <= p->n; i++) omap__child(p, i)->refs++;
    for (unsigned i = 0; !p->level && i < p->n; i++) {
        if (p->slot[i].vlen == OMAP_LARGE) blob_ref(omap__pointer(p, i));
    }
}

struct omap_page *omap__page_copy(const struct omap_page *p)
{
    retain_contents(p);
    return duplicate(p, p->cap);
}

void omap__page_moved(struct omap_page *p)
{
    if (p->refs == 1) {
        free(p);
        return;
    }
    retain_contents(p);
    p->refs--;
}

void omap__page_unref(struct omap_page *p)
{
    check(p->refs > 0);
    if (--p->refs) return;
    for (unsigned i = 0; p->level && i <= p->n; i++) omap__page_unref(omap__child(p, i));
    for (unsigned i = 0; !p->level && i < p->n; i++) {
        if (p->slot[i].vlen == OMAP_LARGE) blob_unref(omap__pointer(p, i));
    }
    free(p);
}
