/* buf.c - growing byte arrays and shared blobs. Running out of memory stops the process (base/check.h); a size that
 * cannot be represented is a caller's mistake. */
#include "base/buf.h"

#include <stdlib.h>

#include "base/check.h"

#define BUF_CAP_MIN 64u

int slice_cmp(struct slice a, struct slice b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

void buf_free(struct buf *b)
{
    free(b->p);
    *b = (struct buf){0};
}

void buf_grow(struct buf *b, size_t more)
{
    check(more <= SIZE_MAX / 2 - b->n);
    size_t cap = b->cap ? b->cap * 2 : BUF_CAP_MIN;
    if (cap < b->n + more) cap = b->n + more;
    b->p = xrealloc(b->p, cap);
    b->cap = cap;
}

void buf_append(struct buf *b, const void *p, size_t n)
{
    if (n == 0) return;
    check((uintptr_t)p - (uintptr_t)b->p >= b->cap);
    memcpy(buf_extend(b, n), p, n);
}

struct blob *blob_new(size_t n)
{
    check(n <= UINT32_MAX);
    struct blob *b = xmalloc(sizeof(*b) + n);
    b->refs = 1;
    b->n = (uint32_t)n;
    return b;
}

void blob_unref(struct blob *b)
{
    if (!b) return;
    check(b->refs > 0);
    if (--b->refs == 0) free(b);
}
