/* check.c - the end of a process that has found itself wrong, and allocation that ends it too.
 *
 * Happy path: none of this is reached. Failure: one line on stderr, then abort(), so that a core dump shows why. */
#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

void check_failed(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: check failed: %s\n", file, line, what);
    fflush(stderr);
    abort();
}

void *xmalloc(size_t n)
{
    void *p = malloc(n ? n : 1);
    if (!p) check_failed("out of memory", __FILE__, __LINE__);
    return p;
}

void *xcalloc(size_t count, size_t size)
{
    void *p = count && size ? calloc(count, size) : calloc(1, 1);
    if (!p) check_failed("out of memory", __FILE__, __LINE__);
    return p;
}

void *xrealloc(void *p, size_t n)
{
    /* realloc(p, 0) would free p. */
    void *q = realloc(p, n ? n : 1);
    if (!q) check_failed("out of memory", __FILE__, __LINE__);
    return q;
}
