/* hash64() keeps its values (they are part of the format), reads exactly its input, and spreads well. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/base.h"

/* Over lengths 0 .. 199 of fixed bytes, chained: any change of the function changes this number. */
static void test_stable(void **state)
{
    uint8_t p[200];
    for (size_t i = 0; i < sizeof(p); i++) p[i] = (uint8_t)(i * 7 + 1);
    uint64_t h = 0;
    for (size_t n = 0; n <= sizeof(p); n++) h = hash64(h, p, n);
    assert_true(h == 0xb2b112c4963af477ull);
    assert_true(hash64(0, NULL, 0) == hash64(0, "", 0));
}

/* The input lies in memory of exactly its size; what lies around it does not matter. */
static void test_reads_its_input_only(void **state)
{
    uint8_t around[140];
    for (size_t n = 0; n < 120; n++) {
        uint8_t *p = xmalloc(n);
        for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(i ^ n);
        memset(around, (int)n, sizeof(around));
        memcpy(around + n % 9, p, n);
        assert_true(hash64(1, p, n) == hash64(1, around + n % 9, n));
        free(p);
    }
}

/* Each flipped input bit flips each output bit about half of the time. */
static void test_avalanche(void **state)
{
    struct prng r;
    prng_seed(&r, 1);
    const size_t lengths[] = {1, 3, 4, 7, 8, 12, 16, 17, 24, 32, 33, 48, 49, 64, 96, 97, 150};
    for (size_t k = 0; k < sizeof(lengths) / sizeof(lengths[0]); k++) {
        size_t n = lengths[k];
        uint64_t flips[64] = {0}, trials = 0;
        for (int round = 0; round < 40; round++) {
            uint8_t p[150];
            for (size_t i = 0; i < n; i++) p[i] = (uint8_t)prng_u64(&r);
            uint64_t h = hash64((uint64_t)round, p, n);
            for (size_t bit = 0; bit < n * 8; bit++, trials++) {
                p[bit / 8] ^= (uint8_t)(1 << bit % 8);
                uint64_t d = h ^ hash64((uint64_t)round, p, n);
                p[bit / 8] ^= (uint8_t)(1 << bit % 8);
                assert_true(d != 0);
                for (int b = 0; b < 64; b++) flips[b] += d >> b & 1;
            }
        }
        for (int b = 0; b < 64; b++) assert_in_range(flips[b] * 100 / trials, 35, 65);
    }
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Counters, zero padding and seeds: inputs that differ little give no equal hashes, nor equal low 32 bits more often
 * than chance. */
static void test_no_collisions(void **state)
{
    enum { N = 200000 };
    uint64_t *v = xmalloc(3 * N * sizeof(*v));
    uint8_t zeros[64] = {0};
    size_t n = 0;
    for (uint64_t i = 0; i < N; i++) v[n++] = hash64(0, &i, 8);
    for (uint64_t i = 0; i < N; i++) v[n++] = hash64(i + 1, zeros, 24);
    for (uint64_t i = 0; i < N; i++) {
        store_be64(zeros, i);
        v[n++] = hash64(0, zeros, 9 + i % 50);
    }
    qsort(v, n, sizeof(*v), by_value);
    for (size_t i = 1; i < n; i++) assert_true(v[i] != v[i - 1]);
    for (size_t i = 0; i < n; i++) v[i] &= UINT32_MAX;
    qsort(v, n, sizeof(*v), by_value);
    size_t same = 0;
    for (size_t i = 1; i < n; i++) same += v[i] == v[i - 1];
    /* About 42 by chance. */
    assert_in_range(same, 10, 100);
    free(v);
}

static void test_mix_is_a_permutation_of_its_parts(void **state)
{
    assert_true(hash_mix(0) == 0);
    assert_true(hash_mix(1) != hash_mix(2));
    uint64_t seen = 0;
    for (uint64_t i = 1; i < 1000; i++) seen |= hash_mix(i);
    assert_true(seen == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stable),
        cmocka_unit_test(test_reads_its_input_only),
        cmocka_unit_test(test_avalanche),
        cmocka_unit_test(test_no_collisions),
        cmocka_unit_test(test_mix_is_a_permutation_of_its_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
