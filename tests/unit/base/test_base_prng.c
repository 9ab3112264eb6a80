/* The generator gives the published sequence, its ranges are exact and even. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/base.h"

static void test_published_sequence(void **state)
{
    /* xoshiro256** from the state 1, 2, 3, 4, as its authors' C code gives it. */
    struct prng r = {{1, 2, 3, 4}};
    const uint64_t want[] = {11520, 0, 1509978240, 1215971899390074240};
    for (int i = 0; i < 4; i++) assert_true(prng_u64(&r) == want[i]);
    /* splitmix64 from the state 0. */
    prng_seed(&r, 0);
    assert_true(r.s[0] == 0xe220a8397b1dcdafull);
    assert_true(r.s[1] == 0x6e789e6aa1b965f4ull);
    assert_true(r.s[2] == 0x06c45d188009454full);
}

static void test_seeds(void **state)
{
    struct prng a, b, c;
    prng_seed(&a, 5);
    prng_seed(&b, 5);
    prng_seed(&c, 6);
    int same = 0;
    for (int i = 0; i < 100; i++) {
        uint64_t v = prng_u64(&a);
        assert_true(v == prng_u64(&b));
        same += v == prng_u64(&c);
    }
    assert_int_equal(same, 0);
}

static void test_ranges(void **state)
{
    struct prng r;
    prng_seed(&r, 1);
    for (uint64_t n = 1; n < 40; n++) {
        unsigned hits[40] = {0};
        for (uint64_t i = 0; i < n * 1000; i++) hits[prng_below(&r, n)]++;
        for (uint64_t i = 0; i < n; i++) assert_in_range(hits[i], 800, 1200);
        for (uint64_t i = n; i < 40; i++) assert_int_equal(hits[i], 0);
    }
    bool lo = false, hi = false;
    for (int i = 0; i < 1000; i++) {
        uint64_t v = prng_between(&r, 10, 13);
        assert_in_range(v, 10, 13);
        lo |= v == 10;
        hi |= v == 13;
    }
    assert_true(lo && hi);
    assert_int_equal(prng_between(&r, 9, 9), 9);
    /* A range of about 3/4 of 2^64: plain scaling would favour some values twofold. */
    const uint64_t n = 3ull << 62;
    unsigned third[3] = {0};
    for (int i = 0; i < 30000; i++) third[prng_below(&r, n) % 3]++;
    for (int i = 0; i < 3; i++) assert_in_range(third[i], 9500, 10500);
    unsigned high = 0;
    for (int i = 0; i < 1000; i++) high += prng_between(&r, 0, UINT64_MAX) >> 63 != 0;
    assert_in_range(high, 400, 600);
    for (int i = 0; i < 100; i++) {
        assert_false(prng_chance(&r, 0));
        assert_true(prng_chance(&r, 100));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_sequence),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
