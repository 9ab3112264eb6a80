/* extent.h - the contents of regular files: extents, and plans that replace a range of them. */
#ifndef QFS_FS_EXTENT_H
#define QFS_FS_EXTENT_H

#include "fs/inode.h"

struct extent {
    uint64_t off;            /* in the file */
    uint32_t len;
    bool inlined;
    struct fs_loc loc;       /* where the log has it; not of an inlined one */
    const uint8_t *bytes;    /* of an inlined one */
};

static inline uint64_t fs__extent_end(const struct extent *e) { return e->off + e->len; }
/* The part of *e inside [lo, hi), which must overlap it. */
struct extent fs__extent_part(const struct extent *e, uint64_t lo, uint64_t hi);

/* In ascending order. first: the extent that holds `off` or else the next one behind it. 1, 0 at the end, or -EUCLEAN
 * for damage, extents that overlap among it. Valid until the next change of the map. */
struct extent_iter {
    struct omap_iter it;
    uint64_t ino, end;
};
int fs__extent_first(struct extent_iter *i, const struct omap *map, uint64_t ino, uint64_t off, struct extent *out);
int fs__extent_next(struct extent_iter *i, struct extent *out);

/* Where one inline extent is all that n has: puts one of data, 1 .. FS_INLINE_MAX bytes, in its place. */
bool fs__extent_swap(struct omap *map, const struct inode *n, struct slice data);

/* A plan says what the extents in [lo, hi) of a file are to become. It is made without touching the map, and finds all
 * damage there is; applying it then cannot fail. */
struct extents {
    struct extent *v;
    size_t n, cap;
};
struct plan {
    uint64_t ino, lo, hi;
    struct extents old;          /* those that overlap [lo, hi), whole */
    struct extents rest;         /* what stays of them outside */
    struct extents add;          /* new ones, inside */
    struct buf bytes;            /* of all inlined ones: `bytes` is NULL in a plan, loc.off the place in here */
    uint64_t blocks_gone, blocks_come;
};

/* A plan for a range that is known to be empty. */
static inline struct plan fs__plan_blank(uint64_t ino, uint64_t lo, uint64_t hi)
{
    return (struct plan){.ino = ino, .lo = lo, .hi = hi};
}
/* Plans to clear [lo, hi). fs__plan_free in any case. */
int fs__plan_init(struct plan *p, const struct omap *map, uint64_t ino, uint64_t lo, uint64_t hi);
/* Adds an extent inside [lo, hi), not overlapping another one added; inlined bytes are copied. live: its payload is
 * referred to already. -EINVAL, -EUCLEAN as fs__payload_check. */
int fs__plan_add(struct plan *p, const struct omap *map, const struct extent *e, bool live);
void fs__plan_free(struct plan *p);
static inline const uint8_t *fs__plan_bytes(const struct plan *p, const struct extent *e)
{
    return e->inlined ? p->bytes.p + e->loc.off : NULL;
}

/* Can the block counts follow the plan? 0 or -EUCLEAN. */
int fs__plan_check(const struct plan *p, const struct inode *n, const struct counters *c);
/* Changes the rows, and the block counts in memory. */
void fs__plan_apply(struct plan *p, struct fs *fs, struct inode *n, struct counters *c);

#endif
