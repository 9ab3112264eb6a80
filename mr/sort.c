/* sort.c - quicksort over entries that carry the first eight bytes of their key, so that most compares touch no
 * record. No two entries are equal (seq), so the result does not depend on the algorithm. Where the pivots are
 * bad (hostile input), the rest is heap-sorted: n log n in any case, no extra memory. */
#include "mr/sort.h"

#define SMALL 24u

static int tail_cmp(const struct sort_entry *a, const struct sort_entry *b)
{
    uint32_t an = load_u32(a->record), bn = load_u32(b->record);
    if (an > 8 && bn > 8) {
        int c = memcmp(a->record + 16, b->record + 16, (an < bn ? an : bn) - 8);
        if (c) return c;
    }
    return an < bn ? -1 : an > bn;
}

static inline bool less(const struct sort_entry *a, const struct sort_entry *b)
{
    if (a->part != b->part) return a->part < b->part;
    if (a->prefix != b->prefix) return a->prefix < b->prefix;
    int c = tail_cmp(a, b);
    return c ? c < 0 : a->seq < b->seq;
}

static inline void swap(struct sort_entry *a, struct sort_entry *b)
{
    struct sort_entry t = *a;
    *a = *b;
    *b = t;
}

static void insertion_sort(struct sort_entry *v, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct sort_entry e = v[i];
        size_t at = i;
        for (; at > 0 && less(&e, &v[at - 1]); at--) v[at] = v[at - 1];
        v[at] = e;
    }
}

static void sift_down(struct sort_entry *v, size_t at, size_t n)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= n) return;
        if (child + 1 < n && less(&v[child], &v[child + 1])) child++;
        if (!less(&v[at], &v[child])) return;
        swap(&v[at], &v[child]);
        at = child;
    }
}

static void heap_sort(struct sort_entry *v, size_t n)
{
    for (size_t i = n / 2; i-- > 0;) sift_down(v, i, n);
    while (n-- > 1) {
        swap(&v[0], &v[n]);
        sift_down(v, 0, n);
    }
}

static size_t median(const struct sort_entry *v, size_t a, size_t b, size_t c)
{
    if (less(&v[a], &v[b])) return less(&v[b], &v[c]) ? b : less(&v[a], &v[c]) ? c : a;
    return less(&v[a], &v[c]) ? a : less(&v[b], &v[c]) ? c : b;
}

/* Partitions v around a pivot; returns where it ends up. */
static size_t partition(struct sort_entry *v, size_t n)
{
    size_t e = n / 8,
           p = median(v, median(v, 0, e, 2 * e), median(v, 3 * e, 4 * e, 5 * e), median(v, 6 * e, 7 * e, n - 1));
    size_t i = 0, j = n;

    swap(&v[0], &v[p]);
    struct sort_entry pivot = v[0];
    for (;;) {
        while (++i < n && less(&v[i], &pivot)) {
        }
        while (less(&pivot, &v[--j])) {
        }
        if (i >= j) break;
        swap(&v[i], &v[j]);
    }
    swap(&v[0], &v[j]);
    return j;
}

static void quick_sort(struct sort_entry *v, size_t n, unsigned depth)
{
    while (n > SMALL) {
        if (depth-- == 0) {
            heap_sort(v, n);
            return;
        }
        size_t p = partition(v, n);
        if (p < n - p) {
            quick_sort(v, p, depth);
            v += p + 1;
            n -= p + 1;
        } else {
            quick_sort(v + p + 1, n - p - 1, depth);
            n = p;
        }
    }
    insertion_sort(v, n);
}

void mr__sort(struct sort_entry *v, size_t n)
{
    if (n < 2) return;
    quick_sort(v, n, 2 * (64 - (unsigned)__builtin_clzll(n)));
}
