/* What is written is read back; a truncated input yields zeros and a sticky error and is never read past its end (each
 * prefix is copied into memory of exactly its size, so that a sanitizer sees a stray byte). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/base.h"

static void test_bytes_on_the_wire(void **state)
{
    struct buf b = {0};
    put_u8(&b, 0x01);
    put_u16(&b, 0x0302);
    put_u32(&b, 0x07060504);
    put_u64(&b, 0x0f0e0d0c0b0a0908);
    put_slice16(&b, slice_str("ab"));
    put_slice32(&b, slice_str("c"));
    put_i64(&b, -2);
    const uint8_t want[] = "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x02\x00"
                           "ab\x01\x00\x00\x00"
                           "c\xfe\xff\xff\xff\xff\xff\xff\xff";
    assert_int_equal(b.n, sizeof(want) - 1);
    assert_memory_equal(b.p, want, b.n);
    buf_free(&b);
}

static void decode(struct reader *r)
{
    get_u8(r);
    get_u16(r);
    get_slice16(r);
    get_u32(r);
    get_slice32(r);
    get_u64(r);
}

static void test_every_prefix_is_bad(void **state)
{
    struct buf b = {0};
    put_u8(&b, 9);
    put_u16(&b, 8);
    put_slice16(&b, slice_str("seven"));
    put_u32(&b, 6);
    put_slice32(&b, slice_str(""));
    put_u64(&b, 5);
    for (size_t n = 0; n <= b.n + 1; n++) {
        uint8_t *copy = xcalloc(n, 1);
        memcpy(copy, b.p, n < b.n ? n : b.n);
        struct reader r = reader_of(slice_of(copy, n));
        decode(&r);
        assert_int_equal(r.bad, n < b.n);
        assert_int_equal(reader_done(&r), n == b.n);
        free(copy);
    }
    buf_free(&b);
}

static void test_sticky_error(void **state)
{
    const uint8_t in[] = {1, 2, 3, 4, 5};
    struct reader r = reader_of(slice_of(in, sizeof(in)));
    assert_int_equal(get_u16(&r), 0x0201);
    assert_int_equal(get_u32(&r), 0);
    /* Three bytes are left, but the reader stays bad. */
    assert_int_equal(get_u8(&r), 0);
    assert_int_equal(get_u16(&r), 0);
    assert_int_equal(get_u64(&r), 0);
    assert_int_equal(get_bytes(&r, 1).n, 0);
    assert_int_equal(get_bytes(&r, 0).n, 0);
    assert_true(r.bad);
    assert_false(reader_done(&r));
}

static void test_lying_lengths(void **state)
{
    const uint8_t huge[] = {0xff, 0xff, 0xff, 0xff, 'x'};
    struct reader r = reader_of(slice_of(huge, sizeof(huge)));
    struct slice s = get_slice32(&r);
    assert_true(r.bad && s.n == 0);
    r = reader_of(slice_of(huge, sizeof(huge)));
    s = get_slice16(&r);
    assert_true(r.bad && s.n == 0);
    r = reader_of(slice_of(huge, sizeof(huge)));
    s = get_bytes(&r, SIZE_MAX);
    assert_true(r.bad && s.n == 0 && s.p == NULL);
}

static void test_empty(void **state)
{
    struct reader r = reader_of(slice_of(NULL, 0));
    assert_true(reader_done(&r));
    assert_int_equal(get_bytes(&r, 0).n, 0);
    assert_true(reader_done(&r));
    assert_int_equal(get_u8(&r), 0);
    assert_false(reader_done(&r));
}

static void test_random_round_trip(void **state)
{
    struct prng r;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct buf b = {0};
        uint8_t bytes[300] = {1, 2, 3};
        for (int pass = 0; pass < 2; pass++) {
            struct reader in = reader_of(buf_slice(&b));
            prng_seed(&r, seed);
            for (int i = 0; i < 30; i++) {
                uint64_t v = prng_u64(&r);
                struct slice s = slice_of(bytes, prng_below(&r, sizeof(bytes)));
                switch (prng_below(&r, 7)) {
                case 0: pass ? assert_int_equal(get_u8(&in), (uint8_t)v) : put_u8(&b, (uint8_t)v); break;
                case 1: pass ? assert_int_equal(get_u16(&in), (uint16_t)v) : put_u16(&b, (uint16_t)v); break;
                case 2: pass ? assert_int_equal(get_u32(&in), (uint32_t)v) : put_u32(&b, (uint32_t)v); break;
                case 3: pass ? assert_int_equal(get_u64(&in), v) : put_u64(&b, v); break;
                case 4: pass ? assert_true(get_i64(&in) == (int64_t)v) : put_i64(&b, (int64_t)v); break;
                case 5: pass ? assert_true(slice_eq(get_slice16(&in), s)) : put_slice16(&b, s); break;
                default: pass ? assert_true(slice_eq(get_slice32(&in), s)) : put_slice32(&b, s); break;
                }
            }
            if (pass) assert_true(reader_done(&in));
        }
        buf_free(&b);
    }
}

static void test_big_endian_keys_sort_as_numbers(void **state)
{
    struct prng r;
    prng_seed(&r, 3);
    for (int i = 0; i < 10000; i++) {
        uint64_t x = prng_u64(&r) >> prng_below(&r, 64), y = prng_u64(&r) >> prng_below(&r, 64);
        uint8_t a[8], b[8];
        store_be64(a, x);
        store_be64(b, y);
        int c = slice_cmp(slice_of(a, 8), slice_of(b, 8));
        assert_int_equal((c > 0) - (c < 0), (x > y) - (x < y));
        assert_int_equal(load_be64(a), x);
        store_be32(a, (uint32_t)x);
        assert_int_equal(load_be32(a), (uint32_t)x);
        assert_int_equal(a[3], (uint8_t)x);
    }
}

static void test_ordered_numbers_sort_as_numbers(void **state)
{
    struct prng r;
    prng_seed(&r, 4);
    for (int i = 0; i < 10000; i++) {
        uint64_t x = prng_u64(&r) >> prng_below(&r, 65) % 64, y = prng_u64(&r) >> prng_below(&r, 64), back;
        if (i < 8) x = (uint64_t)1 << 8 * i;
        if (i == 8) x = UINT64_MAX;
        if (i == 9) x = 0;
        uint8_t a[ORDERED_MAX + 1], b[ORDERED_MAX];
        unsigned na = store_ordered(a, x), nb = store_ordered(b, y);
        int c = slice_cmp(slice_of(a, na), slice_of(b, nb));
        assert_int_equal((c > 0) - (c < 0), (x > y) - (x < y));
        a[na] = 7;
        assert_int_equal(load_ordered(slice_of(a, na + 1), &back), na);
        assert_true(back == x);
        for (unsigned k = 0; k < na; k++) assert_int_equal(load_ordered(slice_of(a, k), &back), 0);
    }
}

static void test_ordered_numbers_have_one_form(void **state)
{
    uint64_t v;
    assert_int_equal(load_ordered(slice_of("\x01\x00", 2), &v), 0);
    assert_int_equal(load_ordered(slice_of("\x02\x00\x01", 3), &v), 0);
    assert_int_equal(load_ordered(slice_of("\x09\x01\x02\x03\x04\x05\x06\x07\x08\x09", 10), &v), 0);
    assert_int_equal(load_ordered(slice_of("\xff", 1), &v), 0);
    assert_int_equal(load_ordered(slice_of("\x00", 1), &v), 1);
    assert_true(v == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_on_the_wire),
        cmocka_unit_test(test_every_prefix_is_bad),
        cmocka_unit_test(test_sticky_error),
        cmocka_unit_test(test_lying_lengths),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_random_round_trip),
        cmocka_unit_test(test_big_endian_keys_sort_as_numbers),
        cmocka_unit_test(test_ordered_numbers_sort_as_numbers),
        cmocka_unit_test(test_ordered_numbers_have_one_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
