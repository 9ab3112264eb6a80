/* test_mr.h - what the tests of mr/ share: a directory of their own, files in it, bytes by seed. */
#ifndef TEST_MR_H
#define TEST_MR_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "mr/util.h"

static char *test_dir;

static inline int test_begin(void **state)
{
    const char *base = getenv("TMPDIR");
    test_dir = mr__strf("%s/qfs-mr-test-XXXXXX", base ? base : "/tmp");
    return mkdtemp(test_dir) ? 0 : -1;
}

static inline int test_end(void **state)
{
    mr__rmtree(test_dir);
    free(test_dir);
    return 0;
}

/* A path in the test's directory; free() it, or leave it to the leaky pool below. */
static inline const char *in_dir(const char *name)
{
    static char pool[8][512];
    static int at;
    char *p = pool[at++ % 8];
    snprintf(p, sizeof pool[0], "%s/%s", test_dir, name);
    return p;
}

static inline const char *write_file(const char *name, struct slice s)
{
    const char *path = in_dir(name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    if (s.n) assert_int_equal(fwrite(s.p, 1, s.n, f), s.n);
    assert_int_equal(fclose(f), 0);
    return path;
}

static inline struct buf read_file(const char *path)
{
    struct buf b = {0};
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    for (;;) {
        buf_reserve(&b, 65536);
        size_t n = fread(b.p + b.n, 1, 65536, f);
        if (n == 0) break;
        b.n += n;
    }
    fclose(f);
    return b;
}

static inline bool has_text(const struct buf *b, const char *text)
{
    return b->p && b->n && memmem(b->p, b->n, text, strlen(text)) != NULL;
}

#endif
