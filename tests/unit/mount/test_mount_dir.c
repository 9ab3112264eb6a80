/* The window of names of a directory stream, against an array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mount/dir.h"

static void name_of(uint64_t i, char out[32]) { snprintf(out, 32, "name-%llu", (unsigned long long)i * 7919); }

static void expect(const struct dir_window *w, uint64_t i)
{
    char want[32];
    const char *name;
    const struct dir_entry *e = dir__window_at(w, i, &name);
    name_of(i, want);
    assert_non_null(e);
    assert_string_equal(name, want);
    assert_int_equal(e->ino, i + 2);
    assert_int_equal(e->mode, i % 5);
}

static void add(struct dir_window *w, uint64_t i)
{
    char name[32];
    name_of(i, name);
    dir__window_add(w, slice_str(name), i + 2, (uint32_t)(i % 5));
}

static void test_window(void **state)
{
    struct dir_window w = {0};
    struct prng r;
    prng_seed(&r, 42);
    for (uint64_t n = 0; n < 60000; n++) {
        assert_int_equal(dir__window_end(&w), n);
        add(&w, n);
        uint64_t kept = min_u64(n + 1, DIR_KEEP);
        assert_true(w.n >= kept && w.n <= 2 * DIR_KEEP);
        expect(&w, n);
        expect(&w, n + 1 - kept);
        expect(&w, n + 1 - prng_between(&r, 1, kept));
        if (w.first) assert_null(dir__window_at(&w, w.first - 1, &(const char *){NULL}));
    }
    assert_null(dir__window_at(&w, 60000, &(const char *){NULL}));
    dir__window_free(&w);
}

static void test_reset(void **state)
{
    struct dir_window w = {0};
    for (uint64_t i = 0; i < 100; i++) add(&w, i);
    w.ended = true;
    dir__window_reset(&w);
    assert_false(w.ended);
    assert_int_equal(dir__window_end(&w), 0);
    assert_null(dir__window_at(&w, 0, &(const char *){NULL}));
    add(&w, 0);
    expect(&w, 0);
    dir__window_free(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_window), cmocka_unit_test(test_reset)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
