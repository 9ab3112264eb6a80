/* Frames come back as they were sent, byte by byte and whole; every flipped bit and every cut is found. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/base.h"

static struct buf make(uint8_t type, uint16_t group, const struct slice *v, unsigned nv)
{
    struct buf b = {0};
    assert_int_equal(frame_header(buf_extend(&b, FRAME_HEADER_BYTES), type, group, v, nv), 0);
    for (unsigned i = 0; i < nv; i++) put_bytes(&b, v[i]);
    return b;
}

static void test_layout(void **state)
{
    struct slice v[] = {slice_str("1234"), slice_of(NULL, 0), slice_str("56789")};
    struct buf b = make(0x42, 0x0102, v, 3);
    assert_memory_equal(b.p, "QFS1\x42\x00\x02\x01\x09\x00\x00\x00\x83\x92\x06\xe3", 16);
    assert_int_equal(load_u32(b.p + 16), crc32c(0, b.p, 16));
    struct frame f;
    assert_int_equal(frame_decode(buf_slice(&b), &f), 0);
    assert_int_equal(f.type, 0x42);
    assert_int_equal(f.group, 0x0102);
    assert_true(slice_eq(f.payload, slice_str("123456789")));
    assert_ptr_equal(f.payload.p, b.p + FRAME_HEADER_BYTES);
    buf_free(&b);
}

static void test_stream(void **state)
{
    struct slice one = slice_str("payload");
    struct buf b = make(1, 0, &one, 1);
    struct buf empty = make(2, 0, NULL, 0);
    put_bytes(&b, buf_slice(&empty));
    for (size_t n = 0; n < FRAME_HEADER_BYTES; n++) assert_int_equal(frame_peek(slice_of(b.p, n)), 0);
    for (size_t n = FRAME_HEADER_BYTES; n <= b.n; n++) assert_int_equal(frame_peek(slice_of(b.p, n)), 27);
    assert_int_equal(frame_peek(slice_of(b.p + 27, 20)), 20);
    struct frame f;
    assert_int_equal(frame_decode(slice_of(b.p + 27, 20), &f), 0);
    assert_int_equal(f.payload.n, 0);
    /* Too few and too many bytes are both no frame. */
    for (size_t n = 0; n <= b.n; n++) assert_int_equal(frame_decode(slice_of(b.p, n), &f), n == 27 ? 0 : QE_FRAME);
    buf_free(&b);
    buf_free(&empty);
}

static void test_every_flipped_bit(void **state)
{
    struct slice one = slice_str("some payload of a frame");
    struct buf b = make(7, 3, &one, 1);
    for (size_t bit = 0; bit < b.n * 8; bit++) {
        b.p[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct frame f;
        bool header = bit / 8 < FRAME_HEADER_BYTES;
        assert_int_equal(frame_peek(buf_slice(&b)), header ? QE_FRAME : (int64_t)b.n);
        assert_int_equal(frame_decode(buf_slice(&b), &f), header ? QE_FRAME : QE_CORRUPT);
        b.p[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    buf_free(&b);
}

/* Well-formed checksums do not make a well-formed header. */
static void test_bad_fields_with_good_crc(void **state)
{
    struct buf b = make(7, 3, NULL, 0);
    store_u32(b.p + 8, FRAME_PAYLOAD_MAX + 1);
    store_u32(b.p + 16, crc32c(0, b.p, 16));
    assert_int_equal(frame_peek(buf_slice(&b)), QE_FRAME);
    store_u32(b.p + 8, FRAME_PAYLOAD_MAX);
    store_u32(b.p + 16, crc32c(0, b.p, 16));
    assert_int_equal(frame_peek(buf_slice(&b)), FRAME_PAYLOAD_MAX + FRAME_HEADER_BYTES);
    b.p[5] = 1;
    store_u32(b.p + 16, crc32c(0, b.p, 16));
    assert_int_equal(frame_peek(buf_slice(&b)), QE_FRAME);
    buf_free(&b);
}

static void test_foreign_protocol(void **state)
{
    assert_int_equal(frame_peek(slice_str("G")), QE_FRAME);
    assert_int_equal(frame_peek(slice_str("QFS2")), QE_FRAME);
    assert_int_equal(frame_peek(slice_str("QF")), 0);
    assert_int_equal(frame_peek(slice_of(NULL, 0)), 0);
}

static void test_limit(void **state)
{
    uint8_t header[FRAME_HEADER_BYTES];
    uint8_t *p = xcalloc(FRAME_PAYLOAD_MAX + 1, 1);
    struct slice v[] = {{p, FRAME_PAYLOAD_MAX}, {p, 1}};
    assert_int_equal(frame_header(header, 1, 0, v, 1), 0);
    assert_int_equal(frame_header(header, 1, 0, v, 2), -EMSGSIZE);
    v[0].n = SIZE_MAX;
    assert_int_equal(frame_header(header, 1, 0, v, 2), -EMSGSIZE);
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_every_flipped_bit),
        cmocka_unit_test(test_bad_fields_with_good_crc),
        cmocka_unit_test(test_foreign_protocol),
        cmocka_unit_test(test_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
