/* omap_map.h - the map itself, private to omap*.c and tests. */
#ifndef QFS_OMAP_MAP_H
#define QFS_OMAP_MAP_H

#include "base/omap_page.h"

struct omap {
    struct omap_page *root;     /* never NULL */
    uint64_t count, digest;
    uint64_t bytes;             /* allocations of pages and blobs that this map reaches */
    uint64_t shape;             /* rises with every change but that of a value in its place */
    bool frozen;                /* a snapshot */
};

/* The slots of a page are read next, all over: let their cache lines come at once instead of one after the other. The
 * page may be smaller; a prefetch reads nothing. */
static inline struct omap_page *omap__prefetch(struct omap_page *p)
{
    for (unsigned i = 0; i < 8; i++) __builtin_prefetch((const void *)((uintptr_t)p + 64 * i));
    return p;
}

#endif
