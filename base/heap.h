/* heap.h - binary min-heap of intrusive nodes, ordered by (key, insertion order): ties fire in the order they were
 * inserted, so timers are deterministic. */
#ifndef QFS_HEAP_H
#define QFS_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap_node {
    uint64_t key, seq;
    size_t pos;      /* 1-based place in the heap; 0: not in it */
};

struct heap {
    struct heap_node **v;
    size_t n, cap;
    uint64_t seq;
};

void heap_free(struct heap *h);
void heap_insert(struct heap *h, struct heap_node *node, uint64_t key);   /* not in a heap before */
void heap_remove(struct heap *h, struct heap_node *node);                 /* a no-op where it is in none */
static inline struct heap_node *heap_min(const struct heap *h) { return h->n ? h->v[0] : NULL; }
static inline bool heap_contains(const struct heap_node *node) { return node->pos != 0; }

#endif
