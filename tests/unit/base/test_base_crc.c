/* Known vectors (RFC 3720 B.4 and the usual check value), and the two paths against each other and against the bitwise
 * definition over every length up to several block triples and every alignment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/base.h"
#include "base/crc_paths.h"

static uint32_t by_definition(uint32_t crc, const uint8_t *p, size_t n)
{
    crc = ~crc;
    for (; n; n--, p++) {
        crc ^= *p;
        for (int k = 0; k < 8; k++) crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
    }
    return ~crc;
}

static void test_vectors(void **state)
{
    uint8_t zeros[32] = {0}, ones[32], up[32], down[32];
    memset(ones, 0xff, 32);
    for (uint8_t i = 0; i < 32; i++) {
        up[i] = i;
        down[i] = (uint8_t)(31 - i);
    }
    uint32_t (*paths[])(uint32_t, const void *, size_t) = {crc32c, crc__by_table, crc__by_sse};
    for (size_t i = 0; i < (crc__has_sse() ? 3 : 2); i++) {
        assert_int_equal(paths[i](0, "123456789", 9), 0xe3069283);
        assert_int_equal(paths[i](0, zeros, 32), 0x8a9136aa);
        assert_int_equal(paths[i](0, ones, 32), 0x62a8ab43);
        assert_int_equal(paths[i](0, up, 32), 0x46dd794e);
        assert_int_equal(paths[i](0, down, 32), 0x113fdb5c);
        assert_int_equal(paths[i](0, NULL, 0), 0);
        assert_int_equal(paths[i](0x12345678, NULL, 0), 0x12345678);
    }
}

static void test_paths_agree(void **state)
{
    enum { N = 8200 };
    uint8_t *p = xmalloc(N + 8);
    struct prng r;
    prng_seed(&r, 1);
    for (int i = 0; i < N + 8; i++) p[i] = (uint8_t)prng_u64(&r);
    for (size_t n = 0; n <= N; n += n < 1300 ? 1 : 1 + prng_below(&r, 60)) {
        size_t at = prng_below(&r, 8);
        uint32_t seed = (uint32_t)prng_u64(&r), want = by_definition(seed, p + at, n);
        assert_int_equal(crc__by_table(seed, p + at, n), want);
        if (crc__has_sse()) assert_int_equal(crc__by_sse(seed, p + at, n), want);
        assert_int_equal(crc32c(seed, p + at, n), want);
    }
    free(p);
}

static void test_in_pieces(void **state)
{
    static uint8_t p[100000];
    struct prng r;
    prng_seed(&r, 2);
    for (size_t i = 0; i < sizeof(p); i++) p[i] = (uint8_t)prng_u64(&r);
    uint32_t whole = crc32c(0, p, sizeof(p));
    for (int round = 0; round < 200; round++) {
        uint32_t crc = 0;
        for (size_t at = 0; at < sizeof(p);) {
            size_t n = prng_below(&r, 10000);
            if (n > sizeof(p) - at) n = sizeof(p) - at;
            crc = round & 1 ? crc__by_table(crc, p + at, n) : crc32c(crc, p + at, n);
            at += n;
        }
        assert_int_equal(crc, whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_paths_agree),
        cmocka_unit_test(test_in_pieces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
