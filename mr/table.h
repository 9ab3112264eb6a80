/* table.h - the hash table that folds equal keys in the mapper: made for many short keys (words).
 *
 * Open addressing, 32 bytes a slot, keys of up to 16 bytes inside it. `tag` tells apart pairs of one key (the value's
 * number under MR_FOLD_DISTINCT; 1 under MR_FOLD_SUM); it is never 0. */
#ifndef QFS_MR_TABLE_H
#define QFS_MR_TABLE_H

#include "base/base.h"

struct table_slot {
    uint64_t a, b;                     /* the key's bytes, zeros behind them; or its address and its hash */
    uint32_t n, tag;                   /* tag 0: empty */
    int64_t sum;
};

/* Additions wait here until the slots that they go to have come into the cache: most of the time that a large table
 * takes is waiting for memory, and so dozens of waits become one. */
#define TABLE_WAITING 32u

struct table {
    struct table_slot *v;
    size_t cap, used;
    struct arena *keys;
    struct {
        struct table_slot slot;        /* its sum is what is to be added */
        uint64_t hash;
    } waiting[TABLE_WAITING];
    uint32_t waiting_n;
    struct table_slot overflowed;      /* the first key whose sum did not fit; tag 0: none */
};

struct table *mr__table_new(struct arena *keys);           /* long keys are kept in `keys` */
void mr__table_free(struct table *t);
void mr__table_clear(struct table *t);
/* The row of (key, tag), made with sum 0 if there was none; lives until the next call. */
struct table_slot *mr__table_get(struct table *t, struct slice key, uint32_t tag);
/* Adds n to the sum of (key, tag), soon: mr__table_settle() before the rows are looked at. */
void mr__table_add(struct table *t, struct slice key, uint32_t tag, int64_t n);
void mr__table_settle(struct table *t);
/* The key of a slot; short keys are put into `space`. */
struct slice mr__table_key(const struct table_slot *s, uint8_t space[16]);
static inline size_t mr__table_bytes(const struct table *t) { return t->cap * sizeof *t->v; }

#endif
