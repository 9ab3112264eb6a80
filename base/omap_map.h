/* omap_map.h - the map itself, private to omap*.c and tests. */
#ifndef QFS_OMAP_MAP_H
#define QFS_OMAP_MAP_H

#include "base/omap_page.h"

struct omap {
    struct omap_page *root;     /* never NULL */
    uint64_t count, digest;
    uint64_t bytes;             /* allocations of pages and blobs that this map reaches */
    bool frozen;                /* a snapshot */
};

/* The slots of a page are read next, all over: let them come at once instead of one after the other. */
static inline struct omap_page *omap__prefetch(struct omap_page *p)
{
    for (unsigned i = 0; i < 5; i++) __builtin_prefetch((const uint8_t *)p + 64u * i);
    return p;
}

#endif
