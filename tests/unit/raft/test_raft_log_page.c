/* Pages, batches and records: what is written reads back; no change of a byte, no other place is accepted; random bytes are
 * refused and never read past their end. */
#include "tests/unit/raft/log_rig.h"

#define PAGES 16u

static void build(struct prng *p, struct pages *seg, uint32_t at, struct batch_head *h, uint64_t number)
{
    struct batch b = {0};
    raft__batch_begin(&b, false);
    uint32_t n = (uint32_t)prng_between(p, 1, 20);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t len = (uint32_t)prng_below(p, prng_chance(p, 20) ? 6000 : 200);
        if (raft__stream_pages((uint64_t)b.bytes + RECORD_HEAD + len) > PAGES - at) break;
        uint8_t *bytes = xmalloc(len + 1u);
        content(i + 1, number, 0, len, bytes);
        struct record r = {.index = i + 1, .term = number, .kind = RAFT_COMMAND, .len = len, .off = 0, .total = len};
        raft__batch_add(&b, &r, bytes);
        free(bytes);
    }
    *h = (struct batch_head){.seq = prng_between(p, 1, 1000), .base_index = 77, .base_term = 5, .prev_seg = 4};
    raft__batch_seal(&b, PAGE_LOG, number, at, h);
    raft__pages_reserve(seg, PAGES);
    memset(seg->p, 0, PAGES * PAGE_BYTES);
    memcpy(seg->p + (size_t)at * PAGE_BYTES, b.mem.p, (size_t)h->npages * PAGE_BYTES);
    raft__pages_free(&b.mem);
}

static void test_round_trip(void **state)
{
    struct prng p;
    prng_seed(&p, 1);
    for (int i = 0; i < 300; i++) {
        struct pages seg = {0};
        struct batch_head h, got;
        uint64_t number = prng_between(&p, 1, 1ull << 40);
        uint32_t at = (uint32_t)prng_between(&p, 1, 12), pos = BATCH_HEAD, data;
        build(&p, &seg, at, &h, number);
        assert_int_equal(raft__batch_get(seg.p, PAGES, PAGE_LOG, number, at, &got), 0);
        assert_memory_equal(&h, &got, sizeof h);
        for (uint32_t k = 0; k < h.records; k++) {
            struct record r;
            uint8_t bytes[6000];
            assert_int_equal(raft__record_get(seg.p + (size_t)at * PAGE_BYTES, &h, &pos, &r, &data), 0);
            assert_int_equal(r.index, k + 1);
            raft__stream_get(seg.p + (size_t)at * PAGE_BYTES, data, bytes, r.len);
            assert_true(content_is(k + 1, number, 0, r.len, bytes));
        }
        assert_int_equal(pos, h.bytes);
        assert_int_equal(raft__batch_get(seg.p, PAGES, PAGE_LOG, number + 1, at, &got), QE_CORRUPT);        /* another file */
        assert_int_equal(raft__batch_get(seg.p, PAGES, PAGE_PAYLOAD, number, at, &got), QE_CORRUPT);
        memmove(seg.p + (size_t)(at - 1) * PAGE_BYTES, seg.p + (size_t)at * PAGE_BYTES, (size_t)(PAGES - at) * PAGE_BYTES);
        assert_int_equal(raft__batch_get(seg.p, PAGES, PAGE_LOG, number, at - 1, &got), QE_CORRUPT);        /* another page */
        raft__pages_free(&seg);
    }
}

static void test_every_byte_counts(void **state)
{
    struct prng p;
    struct pages seg = {0};
    struct batch_head h, got;
    prng_seed(&p, 2);
    build(&p, &seg, 1, &h, 9);
    for (uint32_t i = PAGE_BYTES; i < (1 + h.npages) * PAGE_BYTES; i++) {
        seg.p[i] ^= (uint8_t)(1u << (i % 8));
        assert_int_equal(raft__batch_get(seg.p, PAGES, PAGE_LOG, 9, 1, &got), QE_CORRUPT);
        seg.p[i] ^= (uint8_t)(1u << (i % 8));
    }
    assert_int_equal(raft__batch_get(seg.p, PAGES, PAGE_LOG, 9, 1, &got), 0);
    raft__pages_free(&seg);
}

/* Nonsense under a right CRC, as a bug or an enemy would write it. */
static void test_nonsense(void **state)
{
    struct prng p;
    prng_seed(&p, 3);
    for (int i = 0; i < 20000; i++) {
        struct pages seg = {0};
        struct batch_head h;
        raft__pages_reserve(&seg, 3);
        memset(seg.p, 0, 3 * PAGE_BYTES);
        uint8_t *d = seg.p + PAGE_BYTES + 8;
        for (int k = 0; k < 200; k++) d[k] = (uint8_t)(prng_chance(&p, 50) ? 0 : prng_u64(&p));
        memcpy(d, "QBAT", 4);
        if (prng_chance(&p, 80)) store_u32(d + 4, (uint32_t)prng_below(&p, 4));
        if (prng_chance(&p, 80)) store_u32(d + 8, (uint32_t)prng_below(&p, 9000));
        uint8_t *r = d + BATCH_HEAD;
        if (prng_chance(&p, 80)) store_u32(r, crc32c(0, r + 4, RECORD_HEAD - 4));
        raft__page_seal(seg.p + PAGE_BYTES, (struct page_tag){.seq = 1, .kind = PAGE_LOG, .head = true}, 9, 1, PAGE_DATA);
        raft__page_seal(seg.p + 2 * PAGE_BYTES, (struct page_tag){.seq = 1, .kind = PAGE_LOG}, 9, 2, PAGE_DATA);
        if (raft__batch_get(seg.p, 3, PAGE_LOG, 9, 1, &h) == 0) {
            uint32_t pos = BATCH_HEAD, data;
            struct record rec;
            for (uint32_t k = 0; k < h.records; k++) {
                if (raft__record_get(seg.p + PAGE_BYTES, &h, &pos, &rec, &data)) break;
                assert_true(data + rec.len <= h.bytes && pos <= h.bytes);
            }
        }
        raft__pages_free(&seg);
    }
}

static void test_segment_head(void **state)
{
    struct pages pg = {0};
    struct seg_head h = {.cluster = 1, .node = 2, .number = 33, .first_seq = 4, .prev_seg = 5, .hint = 6}, got;
    h.kind = PAGE_LOG;
    h.pages = 7;
    raft__pages_reserve(&pg, 1);
    raft__seg_head_put(pg.p, &h);
    assert_int_equal(raft__seg_head_get(pg.p, PAGE_LOG, 33, &got), 0);
    assert_memory_equal(&h, &got, sizeof h);
    assert_int_equal(raft__seg_head_get(pg.p, PAGE_LOG, 34, &got), QE_CORRUPT);
    assert_int_equal(raft__seg_head_get(pg.p, PAGE_PAYLOAD, 33, &got), QE_CORRUPT);
    store_u16(pg.p + 8 + 4, LOG_FORMAT + 1);        /* a later program's file is not damage */
    raft__page_seal(pg.p, (struct page_tag){.kind = PAGE_LOG, .head = true}, 33, 0, 64);
    assert_int_equal(raft__seg_head_get(pg.p, PAGE_LOG, 33, &got), QE_VERSION);
    raft__pages_free(&pg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_every_byte_counts),
                                       cmocka_unit_test(test_nonsense), cmocka_unit_test(test_segment_head)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
