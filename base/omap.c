/* omap.c - the tree over the pages: a B+tree without parent or sibling pointers, so that pages can be shared.
 *
 * Happy path of a change: walk down and remember the path; make the pages on it our own, from the root down, copying
 * those that a snapshot shares too (none, mostly); change the leaf in place; where it outgrows its allocation, a bigger
 * one replaces it, and where it outgrows the biggest, it splits and the parent gets a row. After a deletion a page that
 * has shrunk well below its allocation is merged with a neighbour or moved to a smaller one.
 *
 * Invariants: rows ascend strictly; leaves other than the root have rows; inner pages have one child at least (a root
 * two); m->bytes is the sum of the allocations that m reaches. There are no failure modes: keys and values out of
 * bounds and changes of a snapshot are mistakes of the caller and stop the process. */
#include "base/omap.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/omap_map.h"
#include "base/omap_page.h"

/* A page moves to a smaller allocation when it is at least so far below it, and merges up to so many bytes. */
#define SLACK     (OMAP_PAGE_STEP / 2)
#define MERGE_MAX (OMAP_PAGE_MAX / 4 * 3)
/* So many insertions one behind the other are a run. */
#define RUN_MIN 4u

/* A page that is too full can be cut where both halves fit, if no row takes more than half of a page. */
_Static_assert(sizeof(struct omap_slot) + OMAP_KEY_MAX + OMAP_INLINE_MAX <=
    (OMAP_PAGE_MAX - sizeof(struct omap_page)) / 2, "rows are too big to split pages");
_Static_assert(OMAP_PAGE_MAX < 1u << 12 && OMAP_KEY_MAX <= 1u << 9, "slots have room for their numbers");
_Static_assert(OMAP_INLINE_MAX < OMAP_LARGE && OMAP_LARGE < 1u << 11, "slots have room for their numbers");

/* From the root to a leaf: path[d].at is the child's number, in the leaf the row's. */
struct path {
    struct {
        struct omap_page *page;
        unsigned at;
    } v[OMAP_DEPTH_MAX];
    unsigned leaf;
};

/* ---- maps -------------------------------------------------------------------------------------------------------- */

struct omap *omap_new(void)
{
    struct omap *m = xcalloc(1, sizeof(*m));
    m->root = omap__page_new(0, 0);
    m->bytes = m->root->cap;
    return m;
}

void omap_free(struct omap *m)
{
    if (!m) return;
    omap__page_unref(m->root);
    free(m);
}

struct omap *omap_snapshot(const struct omap *m)
{
    struct omap *s = xmalloc(sizeof(*s));
    *s = *m;
    s->frozen = true;
    s->root->refs++;
    return s;
}

void omap_rollback(struct omap *m, struct omap *snapshot)
{
    check(snapshot->frozen && !m->frozen);
    omap__page_unref(m->root);
    snapshot->shape = m->shape + 1;
    *m = *snapshot;
    m->frozen = false;
    free(snapshot);
}

uint64_t omap_count(const struct omap *m) { return m->count; }
uint64_t omap_digest(const struct omap *m) { return m->digest; }
uint64_t omap_bytes(const struct omap *m) { return sizeof(*m) + m->bytes; }

static uint64_t row_hash(struct slice key, struct slice value)
{
    return hash64(hash64(0, key.p, key.n), value.p, value.n);
}

/* ---- the way down ------------------------------------------------------------------------------------------------ */

bool omap_get(const struct omap *m, struct slice key, struct slice *value)
{
    const struct omap_page *p = m->root;
    while (p->level) p = omap__prefetch(omap__child(p, omap__find_child(p, key)));
    unsigned at;
    if (!omap__find(p, key, &at)) return false;
    *value = omap__value(p, at);
    return true;
}

bool omap_get_at(const struct omap *m, struct slice key, struct slice *value, struct omap_spot *spot)
{
    struct omap_page *p = m->root;
    bool own = p->refs == 1;
    for (; p->level; own &= p->refs == 1) p = omap__prefetch(omap__child(p, omap__find_child(p, key)));
    *spot = (struct omap_spot){.page = own ? p : NULL, .shape = m->shape};
    if (!omap__find(p, key, &spot->at)) {
        spot->page = NULL;
        return false;
    }
    *value = omap__value(p, spot->at);
    return true;
}

/* The path to where key is (true) or belongs. */
static bool walk(const struct omap *m, struct slice key, struct path *path)
{
    struct omap_page *p = m->root;
    unsigned d = 0;
    for (; p->level; d++) {
        unsigned at = omap__find_child(p, key);
        path->v[d].page = p;
        path->v[d].at = at;
        p = omap__prefetch(omap__child(p, at));
    }
    path->leaf = d;
    path->v[d].page = p;
    return omap__find(p, key, &path->v[d].at);
}

/* Page d of the path is another one from now on. */
static void relink(struct omap *m, struct path *path, unsigned d, struct omap_page *p)
{
    path->v[d].page = p;
    if (d == 0) m->root = p;
    else omap__set_child(path->v[d - 1].page, path->v[d - 1].at, p);
}

/* From the root down: the copy of a shared page shares its children. */
static void own(struct omap *m, struct path *path)
{
    for (unsigned d = 0; d <= path->leaf; d++) {
        struct omap_page *p = path->v[d].page;
        if (p->refs == 1) continue;
        struct omap_page *q = omap__page_copy(p);
        p->refs--;
        m->bytes += q->cap;
        m->bytes -= p->cap;
        m->shape++;
        relink(m, path, d, q);
    }
}

static void resize(struct omap *m, struct path *path, unsigned d, size_t used)
{
    struct omap_page *p = path->v[d].page;
    m->bytes -= p->cap;
    p = omap__page_resize(p, used);
    m->bytes += p->cap;
    relink(m, path, d, p);
}

/* ---- shrinking --------------------------------------------------------------------------------------------------- */

/* Merges child i of page d with child i+1, if both together leave some room to grow. */
static bool merge(struct omap *m, struct path *path, unsigned d, unsigned i)
{
    struct omap_page *parent = path->v[d].page;
    if (i >= parent->n) return false;
    struct omap_page *a = omap__child(parent, i), *b = omap__child(parent, i + 1);
    struct omap_row between = omap__row(parent, i);
    size_t used = omap__used(a) + omap__used(b) - sizeof(struct omap_page);
    if (a->level) used += omap__row_bytes(between);
    if (used > MERGE_MAX) return false;
    struct omap_page *p = omap__page_new(a->level, used);
    p->first = a->first;
    omap__append(p, a, 0, a->n);
    if (a->level) {
        /* `between` leads to b; in the merged page that is b's first child. */
        omap__insert(p, p->n, between);
        omap__set_child(p, p->n, b->first);
    }
    omap__append(p, b, 0, b->n);
    m->bytes += p->cap;
    m->bytes -= a->cap + b->cap;
    omap__page_moved(a);
    omap__page_moved(b);
    omap__set_child(parent, i, p);
    omap__remove_child(parent, i + 1);
    return true;
}

/* Page d has lost rows. True if its parent has, too. */
static bool shrink(struct omap *m, struct path *path, unsigned d)
{
    struct omap_page *p = path->v[d].page;
    bool empty = p->level ? p->first == NULL : p->n == 0;
    if (d > 0 && empty) {
        m->bytes -= p->cap;
        omap__remove_child(path->v[d - 1].page, path->v[d - 1].at);
        free(p);
        return true;
    }
    size_t used = omap__used(p);
    if (omap__fit(used + SLACK < OMAP_PAGE_MAX ? used + SLACK : OMAP_PAGE_MAX) >= p->cap) return false;
    if (d > 0 && used < OMAP_PAGE_MAX / 2) {
        unsigned i = path->v[d - 1].at;
        if ((i > 0 && merge(m, path, d - 1, i - 1)) || merge(m, path, d - 1, i)) return true;
    }
    resize(m, path, d, used);
    return false;
}

/* A root of one child is not needed. */
static void lower_root(struct omap *m)
{
    while (m->root->level && m->root->n == 0) {
        struct omap_page *p = m->root;
        m->bytes -= p->cap;
        m->root = p->first;
        free(p);
        if (m->root) continue;
        m->root = omap__page_new(0, 0);
        m->bytes += m->root->cap;
    }
}

/* The path's leaf has fewer bytes than before. */
static void settle(struct omap *m, struct path *path)
{
    unsigned d = path->leaf;
    while (shrink(m, path, d) && d > 0) d--;
    lower_root(m);
}

/* ---- insertion --------------------------------------------------------------------------------------------------- */

/* A row with its cell, apart from any page. */
struct loose {
    struct omap_row row;
    uint8_t cell[OMAP_KEY_MAX + OMAP_INLINE_MAX];
};

/* vlen bytes of value, or a pointer where vlen is OMAP_LARGE. */
static void make_row(struct loose *l, struct slice key, const void *value, unsigned vlen)
{
    l->row = (struct omap_row){l->cell, (unsigned)key.n, vlen};
    unsigned bytes = omap__cell_bytes(l->row.klen, vlen);
    memcpy(l->cell, key.p, key.n);
    if (bytes > key.n) memcpy(l->cell + key.n, value, bytes - key.n);
}

/* A page that is too full, with the row that is to go to place `at`; seen as one sequence of rows. */
struct crowd {
    const struct omap_page *page;
    struct omap_row row;
    unsigned at, n;       /* n: with the row */
};

static struct omap_row crowd_row(const struct crowd *c, unsigned i)
{
    return i == c->at ? c->row : omap__row(c->page, i < c->at ? i : i - 1);
}

static size_t crowd_bytes(const struct crowd *c, unsigned begin, unsigned end)
{
    size_t sum = sizeof(struct omap_page);
    for (unsigned i = begin; i < end; i++) sum += omap__row_bytes(crowd_row(c, i));
    return sum;
}

static struct omap_page *crowd_page(const struct crowd *c, unsigned begin, unsigned end)
{
    struct omap_page *p = omap__page_new(c->page->level, crowd_bytes(c, begin, end));
    for (unsigned i = begin; i < end; i++) omap__insert(p, p->n, crowd_row(c, i));
    if (c->at >= begin && c->at < end) {
        p->next = (uint16_t)(c->at - begin + 1);
        p->ascending = c->page->ascending;
    }
    return p;
}

/* How many rows stay on the left. Behind an ascending run: all up to the new row, so that the run goes on in a page
 * that fills up; at the end of the page: all but the new row. Else half of the bytes. */
static unsigned choose_split(const struct crowd *c)
{
    if (c->page->ascending >= RUN_MIN) {
        unsigned k = c->at + 1 < c->n ? c->at + 1 : c->at;
        size_t left = crowd_bytes(c, 0, k);
        if (left >= OMAP_PAGE_MAX / 2 && left <= OMAP_PAGE_MAX) return k;
    }
    size_t total = crowd_bytes(c, 0, c->n), left = sizeof(struct omap_page);
    unsigned k = 0;
    for (; k + 1 < c->n; k++) {
        size_t next = omap__row_bytes(crowd_row(c, k));
        if (k > 0 && 2 * left + next > total) break;
        left += next;
    }
    return k;
}

static void insert_row(struct omap *m, struct path *path, unsigned d, unsigned at, struct omap_row row);

/* `left` has replaced page d; the parent, or a new root, learns of `right`, which holds the keys from `key` on. */
static void add_sibling(struct omap *m, struct path *path, unsigned d, struct slice key, struct omap_page *right)
{
    struct loose l;
    make_row(&l, key, &right, sizeof(right));
    m->bytes += right->cap;
    if (d > 0) {
        insert_row(m, path, d - 1, path->v[d - 1].at, l.row);
        return;
    }
    check(right->level + 2 <= OMAP_DEPTH_MAX);
    struct omap_page *root = omap__page_new(right->level + 1u, sizeof(struct omap_page) + omap__row_bytes(l.row));
    root->first = m->root;
    omap__insert(root, 0, l.row);
    m->root = root;
    m->bytes += root->cap;
}

/* The shortest key that is above every key up to `left` and not above `right`. */
static struct slice separator(struct slice left, struct slice right)
{
    size_t n = 0;
    while (n < left.n && left.p[n] == right.p[n]) n++;
    return slice_of(right.p, n + 1);
}

static void split(struct omap *m, struct path *path, unsigned d, unsigned at, struct omap_row row)
{
    struct omap_page *p = path->v[d].page, *left, *right;
    struct crowd c = {p, row, at, p->n + 1u};
    unsigned k = choose_split(&c);
    struct omap_row up = crowd_row(&c, k);
    struct slice key = slice_of(up.cell, up.klen);
    if (p->level) {
        /* The row between the halves goes up; its child opens the right half. */
        right = crowd_page(&c, k + 1, c.n);
        memcpy(&right->first, up.cell + up.klen, sizeof(right->first));
    } else {
        struct omap_row before = crowd_row(&c, k - 1);
        right = crowd_page(&c, k, c.n);
        key = separator(slice_of(before.cell, before.klen), key);
    }
    if (k == at && k == p->n) {
        add_sibling(m, path, d, key, right);
        return;
    }
    left = crowd_page(&c, 0, k);
    left->first = p->first;
    m->bytes += left->cap;
    m->bytes -= p->cap;
    relink(m, path, d, left);
    add_sibling(m, path, d, key, right);
    omap__page_moved(p);
}

/* Puts row to place `at` of page d, which is our own. The row's cell lies in none of the pages that change. */
static void insert_row(struct omap *m, struct path *path, unsigned d, unsigned at, struct omap_row row)
{
    struct omap_page *p = path->v[d].page;
    size_t bytes = omap__row_bytes(row);
    p->ascending = at != p->next ? 0 : (uint16_t)(p->ascending + (p->ascending < RUN_MIN));
    p->next = (uint16_t)(at + 1);
    if (omap__used(p) + bytes > OMAP_PAGE_MAX) {
        split(m, path, d, at, row);
        return;
    }
    if (!omap__has_room(p, bytes)) resize(m, path, d, omap__used(p) + bytes);
    omap__insert(path->v[d].page, at, row);
}

/* Lets go of row `at`'s blob, if it has one. */
static void drop_large(struct omap *m, const struct omap_page *p, unsigned at)
{
    if (p->slot[at].vlen != OMAP_LARGE) return;
    struct blob *b = omap__pointer(p, at);
    m->bytes -= omap__blob_bytes(b->n);
    blob_unref(b);
}

static void replace_row(struct omap *m, struct path *path, struct omap_row row)
{
    unsigned d = path->leaf, at = path->v[d].at;
    struct omap_page *p = path->v[d].page;
    drop_large(m, p, at);
    if (row.vlen == p->slot[at].vlen) {
        omap__set_value(p, at, row.cell + row.klen, row.vlen);
        return;
    }
    m->shape++;
    if (omap__row_bytes(row) <= omap__row_bytes(omap__row(p, at))) {
        omap__set_value(p, at, row.cell + row.klen, row.vlen);
        settle(m, path);
        return;
    }
    omap__remove(p, at);
    insert_row(m, path, d, at, row);
}

void omap_put(struct omap *m, struct slice key, struct slice value)
{
    check(!m->frozen);
    check(key.n > 0 && key.n <= OMAP_KEY_MAX && value.n <= OMAP_VALUE_MAX);
    struct path path;
    struct loose l;
    bool found = walk(m, key, &path);
    unsigned d = path.leaf, at = path.v[d].at;
    /* All that is read of key and value is read here: they may lie in the pages that change below. */
    if (found) m->digest -= row_hash(key, omap__value(path.v[d].page, at));
    m->digest += row_hash(key, value);
    if (value.n > OMAP_INLINE_MAX) {
        struct blob *b = blob_new(value.n);
        memcpy(b->p, value.p, value.n);
        m->bytes += omap__blob_bytes(value.n);
        make_row(&l, key, &b, OMAP_LARGE);
    } else {
        make_row(&l, key, value.p, (unsigned)value.n);
    }
    own(m, &path);
    if (found) {
        replace_row(m, &path, l.row);
        return;
    }
    m->count++;
    m->shape++;
    insert_row(m, &path, d, at, l.row);
}

/* The shape tells that the page is still part of the map, and its own path; a snapshot since then, that it is shared. */
void omap_put_at(struct omap *m, struct slice key, struct slice value, const struct omap_spot *spot)
{
    struct omap_page *p = spot->page;
    unsigned at = spot->at;
    bool there = p && spot->shape == m->shape && m->root->refs == 1 && p->slot[at].vlen == value.n &&
                 slice_eq(omap__key(p, at), key);
    if (!there || value.n > OMAP_INLINE_MAX) {
        omap_put(m, key, value);
        return;
    }
    check(!m->frozen);
    m->digest += row_hash(key, value) - row_hash(key, omap__value(p, at));
    memmove(omap__cell(p, at) + key.n, value.p, value.n);
}

/* ---- deletion ---------------------------------------------------------------------------------------------------- */

bool omap_del(struct omap *m, struct slice key)
{
    check(!m->frozen);
    struct path path;
    if (!walk(m, key, &path)) return false;
    unsigned d = path.leaf, at = path.v[d].at;
    m->digest -= row_hash(key, omap__value(path.v[d].page, at));
    m->count--;
    m->shape++;
    own(m, &path);
    drop_large(m, path.v[d].page, at);
    omap__remove(path.v[d].page, at);
    settle(m, &path);
    return true;
}
