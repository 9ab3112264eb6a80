/* omap_iter.c - iterators: the stack of pages from the root to a row. `at` is the child's number in inner pages, the
 * row's in the leaf. Happy path: a step within the leaf. At its edge: up to the first page that has a further child,
 * and down again along its near side. No step reads a page that it does not need. */
#include "base/omap.h"

#include "base/check.h"
#include "base/omap_map.h"

static const struct omap_page *page_at(const struct omap_iter *it, unsigned d) { return it->path[d].node; }

/* Down from page p at depth d to its first or last row. */
static bool descend(struct omap_iter *it, unsigned d, const struct omap_page *p, bool last)
{
    for (;; d++) {
        it->path[d].node = p;
        it->path[d].at = last ? (p->level ? p->n : p->n - 1u) : 0;
        if (!p->level) break;
        p = omap__child(p, it->path[d].at);
    }
    it->depth = d;
    return it->valid = p->n > 0;
}

/* To the first row of the next leaf, or the last row of the one before. */
static bool leave_leaf(struct omap_iter *it, bool forward)
{
    for (unsigned d = it->depth; d-- > 0;) {
        const struct omap_page *p = page_at(it, d);
        unsigned at = it->path[d].at;
        if (forward ? at == p->n : at == 0) continue;
        it->path[d].at = forward ? at + 1 : at - 1;
        return descend(it, d + 1, omap__child(p, it->path[d].at), !forward);
    }
    return it->valid = false;
}

/* To where key is or belongs; true if it is there. The place may be behind the leaf's last row. */
static bool locate(struct omap_iter *it, const struct omap *m, struct slice key)
{
    const struct omap_page *p = m->root;
    unsigned d = 0;
    it->m = m;
    for (; p->level; d++) {
        unsigned at = omap__find_child(p, key);
        it->path[d].node = p;
        it->path[d].at = at;
        p = omap__prefetch(omap__child(p, at));
    }
    it->depth = d;
    it->path[d].node = p;
    return omap__find(p, key, &it->path[d].at);
}

bool omap_seek(struct omap_iter *it, const struct omap *m, struct slice key)
{
    locate(it, m, key);
    it->valid = it->path[it->depth].at < page_at(it, it->depth)->n;
    return it->valid || leave_leaf(it, true);
}

bool omap_seek_le(struct omap_iter *it, const struct omap *m, struct slice key)
{
    if (locate(it, m, key)) return it->valid = true;
    if (it->path[it->depth].at == 0) return leave_leaf(it, false);
    it->path[it->depth].at--;
    return it->valid = true;
}

bool omap_next(struct omap_iter *it)
{
    if (!it->valid) return false;
    if (++it->path[it->depth].at < page_at(it, it->depth)->n) return true;
    return leave_leaf(it, true);
}

bool omap_prev(struct omap_iter *it)
{
    if (!it->valid) return false;
    if (it->path[it->depth].at == 0) return leave_leaf(it, false);
    it->path[it->depth].at--;
    return true;
}

struct slice omap_iter_key(const struct omap_iter *it)
{
    check(it->valid);
    return omap__key(page_at(it, it->depth), it->path[it->depth].at);
}

struct slice omap_iter_value(const struct omap_iter *it)
{
    check(it->valid);
    return omap__value(page_at(it, it->depth), it->path[it->depth].at);
}
