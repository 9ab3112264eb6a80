/* The wire form of messages: round trips, every truncation, garbage. */
#include "core_rig.h"

static uint64_t random_number(struct prng *p) { return prng_u64(p) >> prng_below(p, 64); }

static void random_message(struct prng *p, struct raft_msg *m)
{
    *m = (struct raft_msg){
        .type = (uint8_t)prng_between(p, 1, RAFT_MSG_TYPE_MAX),
        .reject = prng_chance(p, 50),
        .transfer = prng_chance(p, 50),
        .fenced = prng_chance(p, 50),
        .lease = prng_chance(p, 50),
        .from = random_number(p),
        .to = random_number(p),
        .term = random_number(p),
        .index = random_number(p),
        .log_term = random_number(p),
        .commit = random_number(p),
        .last = random_number(p),
        .round = random_number(p),
    };
    if (m->type == RAFT_MSG_APPEND) m->n = (uint32_t)prng_below(p, 5);
}

static void same(const struct raft_msg *a, const struct raft_msg *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->reject, b->reject);
    assert_int_equal(a->transfer, b->transfer);
    assert_int_equal(a->fenced, b->fenced);
    assert_int_equal(a->lease, b->lease);
    assert_int_equal(a->from, b->from);
    assert_int_equal(a->to, b->to);
    assert_int_equal(a->term, b->term);
    assert_int_equal(a->index, b->index);
    assert_int_equal(a->log_term, b->log_term);
    assert_int_equal(a->commit, b->commit);
    assert_int_equal(a->last, b->last);
    assert_int_equal(a->round, b->round);
    assert_int_equal(a->n, b->n);
    assert_null(b->entries);
}

static void test_round_trip(void **state)
{
    struct prng p;
    (void)state;
    prng_seed(&p, 1);
    for (int i = 0; i < 20000; i++) {
        struct raft_msg m, back;
        struct slice rest;
        struct buf b = {0};
        size_t tail = 0;
        random_message(&p, &m);
        raft_msg_encode(&m, &b);
        if (m.type == RAFT_MSG_SNAPSHOT) tail = prng_below(&p, 50);
        if (m.n) tail = 13 * m.n + prng_below(&p, 50);
        size_t head = b.n;
        memset(buf_extend(&b, tail), 0x5a, tail);
        assert_int_equal(raft_msg_decode(buf_slice(&b), &back, &rest), 0);
        same(&m, &back);
        assert_ptr_equal(rest.p, b.p + head);
        assert_int_equal(rest.n, tail);
        for (size_t cut = 0; cut < head; cut++) {
            struct slice s = slice_of(b.p, cut);
            assert_int_equal(raft_msg_decode(s, &back, &rest), QE_FRAME);
        }
        buf_free(&b);
    }
}

static void test_refuses_what_no_encoder_writes(void **state)
{
    struct raft_msg m = {.type = RAFT_MSG_APPEND, .from = 1, .to = 2, .term = 3}, back;
    struct slice rest;
    struct buf b = {0};
    (void)state;
    raft_msg_encode(&m, &b);
    assert_int_equal(raft_msg_decode(buf_slice(&b), &back, &rest), 0);
    for (unsigned type = 0; type < 256; type++) {
        b.p[0] = (uint8_t)type;
        bool known = type >= 1 && type <= RAFT_MSG_TYPE_MAX;
        assert_int_equal(raft_msg_decode(buf_slice(&b), &back, &rest), known ? 0 : QE_FRAME);
    }
    b.p[0] = RAFT_MSG_APPEND;
    b.p[1] = 0x10;
    assert_int_equal(raft_msg_decode(buf_slice(&b), &back, &rest), QE_FRAME);
    b.p[1] = 0;
    put_u8(&b, 0); /* bytes behind an APPEND without entries */
    assert_int_equal(raft_msg_decode(buf_slice(&b), &back, &rest), QE_FRAME);
    b.n--;
    store_u32(b.p + 66, 2); /* more entries than the bytes could hold */
    memset(buf_extend(&b, 25), 0, 25);
    assert_int_equal(raft_msg_decode(buf_slice(&b), &back, &rest), QE_FRAME);
    put_u8(&b, 0);
    assert_int_equal(raft_msg_decode(buf_slice(&b), &back, &rest), 0);
    store_u32(b.p + 66, UINT32_MAX);
    assert_int_equal(raft_msg_decode(buf_slice(&b), &back, &rest), QE_FRAME);
    b.p[0] = RAFT_MSG_VOTE; /* entries of a vote */
    store_u32(b.p + 66, 1);
    assert_int_equal(raft_msg_decode(buf_slice(&b), &back, &rest), QE_FRAME);
    store_u32(b.p + 66, 0); /* bytes behind a vote */
    assert_int_equal(raft_msg_decode(buf_slice(&b), &back, &rest), QE_FRAME);
    buf_free(&b);
}

static void test_garbage(void **state)
{
    struct prng p;
    uint8_t bytes[128];
    uint32_t good = 0;
    (void)state;
    prng_seed(&p, 2);
    for (int i = 0; i < 200000; i++) {
        struct raft_msg m;
        struct slice rest;
        size_t n = prng_below(&p, sizeof bytes + 1);
        for (size_t k = 0; k < n; k++) bytes[k] = (uint8_t)prng_u64(&p);
        if (n > 2 && prng_chance(&p, 80)) bytes[0] = (uint8_t)prng_between(&p, 1, RAFT_MSG_TYPE_MAX);
        if (n > 2 && prng_chance(&p, 80)) bytes[1] &= 15;
        if (n >= 70 && prng_chance(&p, 80)) store_u32(bytes + 66, (uint32_t)prng_below(&p, 6));
        int err = raft_msg_decode(slice_of(bytes, n), &m, &rest);
        if (err) {
            assert_int_equal(err, QE_FRAME);
            continue;
        }
        good++;
        assert_true(rest.p >= bytes && rest.p + rest.n == bytes + n);
        assert_true(m.n * 13 <= rest.n);
        struct buf b = {0};
        raft_msg_encode(&m, &b);
        assert_memory_equal(b.p, bytes, b.n);
        buf_free(&b);
    }
    assert_true(good > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_refuses_what_no_encoder_writes),
        cmocka_unit_test(test_garbage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
