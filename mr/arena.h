/* arena.h - memory for many small things that are freed together. */
#ifndef QFS_MR_ARENA_H
#define QFS_MR_ARENA_H

#include "base/base.h"

#define ARENA_BLOCK (MIB)

struct arena {
    uint8_t **blocks;
    size_t blocks_n;
    size_t at, left;                   /* in the newest block */
    uint64_t bytes;                    /* of all blocks */
};

/* Aligned to 8 bytes; lives until arena_clear(). */
static inline uint8_t *arena_take(struct arena *a, size_t n)
{
    n = (n + 7) & ~(size_t)7;
    if (n > a->left) {
        size_t size = n > ARENA_BLOCK / 4 ? n : ARENA_BLOCK;
        a->blocks = xrealloc(a->blocks, (a->blocks_n + 1) * sizeof *a->blocks);
        a->blocks[a->blocks_n++] = xmalloc(size);
        a->bytes += size;
        a->at = 0;
        a->left = size;
    }
    uint8_t *p = a->blocks[a->blocks_n - 1] + a->at;
    a->at += n;
    a->left -= n;
    return p;
}

void mr__arena_clear(struct arena *a);     /* frees all; an empty arena again */

#endif
