/* Slices compare as byte strings; a buf equals a plain array under random growth; blobs die with the last reference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/base.h"

static void test_slice_order(void **state)
{
    const char *sorted[] = {"", "a", "a\x01", "aa", "ab", "b", "\x7f", "\x80", "\xff", "\xff\xff"};
    int n = (int)(sizeof(sorted) / sizeof(sorted[0]));
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) {
            int c = slice_cmp(slice_str(sorted[i]), slice_str(sorted[j]));
            assert_int_equal((c > 0) - (c < 0), (i > j) - (i < j));
            assert_int_equal(slice_eq(slice_str(sorted[i]), slice_str(sorted[j])), i == j);
        }
    }
    assert_int_equal(slice_cmp(slice_of(NULL, 0), slice_of("", 0)), 0);
    assert_true(slice_eq(slice_of(NULL, 0), slice_of("", 0)));
    assert_true(slice_cmp(slice_of("a\0b", 3), slice_of("a\0c", 3)) < 0);
    assert_true(slice_eq(slice_sub(slice_str("abcdef"), 2, 3), slice_str("cde")));
}

static void test_buf_model(void **state)
{
    static uint8_t model[1 << 20];
    size_t n = 0;
    struct prng r;
    prng_seed(&r, 7);
    struct buf b = {0};
    for (int i = 0; i < 2000; i++) {
        uint8_t chunk[700];
        size_t k = prng_below(&r, 100) < 5 ? 0 : prng_below(&r, prng_chance(&r, 10) ? sizeof(chunk) : 20);
        for (size_t j = 0; j < k; j++) chunk[j] = (uint8_t)prng_u64(&r);
        assert_true(n + k <= sizeof(model));
        if (k) memcpy(model + n, chunk, k);
        if (prng_chance(&r, 50)) {
            buf_append(&b, chunk, k);
        } else {
            uint8_t *to = buf_extend(&b, k);
            if (k) memcpy(to, chunk, k);
        }
        n += k;
        assert_int_equal(b.n, n);
        assert_true(b.cap >= b.n);
    }
    assert_memory_equal(b.p, model, n);
    size_t cap = b.cap;
    buf_clear(&b);
    buf_reserve(&b, cap);
    assert_int_equal(b.cap, cap);
    buf_reserve(&b, cap + 1);
    assert_true(b.cap > cap);
    buf_free(&b);
    assert_null(b.p);
    assert_int_equal(b.n + b.cap, 0);
    buf_free(&b);
}

static void test_buf_growth_is_amortised(void **state)
{
    struct buf b = {0};
    unsigned moves = 0;
    for (int i = 0; i < 1000000; i++) {
        size_t cap = b.cap;
        put_u8(&b, (uint8_t)i);
        moves += b.cap != cap;
    }
    assert_true(moves < 20);
    buf_free(&b);
}

static void test_blob(void **state)
{
    blob_unref(NULL);
    struct blob *b = blob_new(5);
    memcpy(b->p, "hello", 5);
    struct blob *c = blob_ref(b);
    assert_ptr_equal(b, c);
    assert_int_equal(b->refs, 2);
    blob_unref(b);
    assert_true(slice_eq(blob_slice(c), slice_str("hello")));
    blob_unref(c);
    blob_unref(blob_new(0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slice_order),
        cmocka_unit_test(test_buf_model),
        cmocka_unit_test(test_buf_growth_is_amortised),
        cmocka_unit_test(test_blob),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
