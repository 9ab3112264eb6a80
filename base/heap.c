/* heap.c - binary min-heap over pointers to intrusive nodes. Each node knows its place, so removal from the middle is
 * O(log n). Nodes are the caller's; only the pointer array is ours. */
#include "base/heap.h"

#include <stdlib.h>

#include "base/check.h"

#define HEAP_CAP_MIN 16u

static bool before(const struct heap_node *a, const struct heap_node *b)
{
    return a->key != b->key ? a->key < b->key : a->seq < b->seq;
}

static void place(struct heap *h, size_t i, struct heap_node *node)
{
    h->v[i] = node;
    node->pos = i + 1;
}

/* Finds the place of `node`, going up from the hole at i. */
static void sift_up(struct heap *h, size_t i, struct heap_node *node)
{
    for (; i > 0 && before(node, h->v[(i - 1) / 2]); i = (i - 1) / 2) place(h, i, h->v[(i - 1) / 2]);
    place(h, i, node);
}

static void sift_down(struct heap *h, size_t i, struct heap_node *node)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= h->n) break;
        if (child + 1 < h->n && before(h->v[child + 1], h->v[child])) child++;
        if (!before(h->v[child], node)) break;
        place(h, i, h->v[child]);
        i = child;
    }
    place(h, i, node);
}

/* The nodes that are still in it become free for another heap. */
void heap_free(struct heap *h)
{
    for (size_t i = 0; i < h->n; i++) h->v[i]->pos = 0;
    free(h->v);
    *h = (struct heap){0};
}

void heap_insert(struct heap *h, struct heap_node *node, uint64_t key)
{
    check(node->pos == 0);
    if (h->n == h->cap) {
        h->cap = h->cap ? h->cap * 2 : HEAP_CAP_MIN;
        h->v = xrealloc(h->v, h->cap * sizeof(struct heap_node *));
    }
    node->key = key;
    node->seq = h->seq++;
    sift_up(h, h->n++, node);
}

void heap_remove(struct heap *h, struct heap_node *node)
{
    if (node->pos == 0) return;
    size_t i = node->pos - 1;
    check(i < h->n && h->v[i] == node);
    node->pos = 0;
    struct heap_node *last = h->v[--h->n];
    if (last == node) return;
    if (i > 0 && before(last, h->v[(i - 1) / 2])) sift_up(h, i, last);
    else sift_down(h, i, last);
}
