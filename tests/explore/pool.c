/* pool.c - byte strings that are kept once and named by a number. */
#include <stdlib.h>

#include "tests/explore/node.h"

static void grow_slots(struct ex_pool *p)
{
    uint32_t nslot = p->nslot ? p->nslot * 2 : 1024;
    free(p->slot);
    p->slot = xcalloc(nslot, sizeof *p->slot);
    p->nslot = nslot;
    for (uint32_t i = 0; i < p->n; i++) {
        uint64_t h = hash64(1, ex_pool_get(p, i), ex_pool_len(p, i));
        while (p->slot[h & (nslot - 1)]) h++;
        p->slot[h & (nslot - 1)] = i + 1;
    }
}

static uint32_t add(struct ex_pool *p, const void *bytes, size_t n)
{
    while (p->used + n > p->cap) {
        p->cap = p->cap ? p->cap * 2 : 1 << 16;
        p->bytes = xrealloc(p->bytes, p->cap);
    }
    if (p->n + 2 > p->room) {
        p->room = p->room ? p->room * 2 : 1024;
        p->at = xrealloc(p->at, p->room * sizeof *p->at);
        p->at[0] = 0;
    }
    if (n) memcpy(p->bytes + p->used, bytes, n);
    p->used += n;
    p->at[++p->n] = p->used;
    return p->n - 1;
}

uint32_t ex_pool_put(struct ex_pool *p, const void *bytes, size_t n, bool *added)
{
    check(n % 8 == 0);
    if ((p->n + 1) * 2 > p->nslot) grow_slots(p);
    uint64_t h = hash64(1, bytes, n);
    *added = false;
    for (;; h++) {
        uint32_t s = p->slot[h & (p->nslot - 1)];
        if (s == 0) break;
        if (ex_pool_len(p, s - 1) == n && (n == 0 || memcmp(ex_pool_get(p, s - 1), bytes, n) == 0)) return s - 1;
    }
    *added = true;
    uint32_t number = add(p, bytes, n);
    p->slot[h & (p->nslot - 1)] = number + 1;
    return number;
}

void ex_pool_free(struct ex_pool *p)
{
    free(p->bytes);
    free(p->at);
    free(p->slot);
    *p = (struct ex_pool){0};
}
