/* Round trips of every operation, reply, frame and batch with random contents; then the same bytes cut and damaged:
 * decoders must answer with an error or something well-formed, and never read outside (the sanitizers watch). */
#include "rig.h"

#include <stdio.h>

#include "kv/wire.h"

static const enum kv_code CODES[] = {
#define X(name, num, kind, args, reply) KV_##name,
    KV_OPS(X)
#undef X
};
#define NCODES (sizeof CODES / sizeof *CODES)

static uint8_t pool[3][5000];

static struct slice random_slice(struct prng *r, unsigned which, size_t max)
{
    random_bytes(r, pool[which], max);
    return slice_of(pool[which], prng_below(r, max + 1));
}

static struct kv_op random_op(struct prng *r, enum kv_code code)
{
    unsigned a = kv__op_info(code)->args;
    struct kv_op op = {.code = code};
    if (a & A_INO) op.ino = random_number(r);
    if (a & A_INO2) op.ino2 = random_number(r);
    if (a & A_OFF) op.off = random_number(r);
    if (a & A_OFF2) op.off2 = random_number(r);
    if (a & A_LEN) op.len = random_number(r);
    if (a & A_RDEV) op.rdev = random_number(r);
    if (a & A_FLAGS) op.flags = (uint32_t)random_number(r);
    if (a & A_MODE) op.mode = (uint32_t)random_number(r);
    if (a & A_OWNER) {
        op.uid = (uint32_t)random_number(r);
        op.gid = (uint32_t)random_number(r);
    }
    if (a & A_TIMES) {
        op.atime = -(int64_t)(random_number(r) >> 1);
        op.mtime = (int64_t)random_number(r);
    }
    if (a & A_NAME) op.name = random_slice(r, 0, 300);
    if (a & A_NAME2) op.name2 = random_slice(r, 1, 300);
    if (a & A_DATA) op.data = random_slice(r, 2, 5000);
    return op;
}

static void assert_op_equal(const struct kv_op *a, const struct kv_op *b)
{
    assert_int_equal(a->code, b->code);
    assert_int_equal(a->ino, b->ino);
    assert_int_equal(a->ino2, b->ino2);
    assert_int_equal(a->off, b->off);
    assert_int_equal(a->off2, b->off2);
    assert_int_equal(a->len, b->len);
    assert_int_equal(a->rdev, b->rdev);
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->mode, b->mode);
    assert_int_equal(a->uid, b->uid);
    assert_int_equal(a->gid, b->gid);
    assert_true(a->atime == b->atime && a->mtime == b->mtime);
    assert_true(slice_eq(a->name, b->name) && slice_eq(a->name2, b->name2) && slice_eq(a->data, b->data));
}

static void ops_round_trip(void **state)
{
    struct prng r;
    prng_seed(&r, 11);
    for (unsigned n = 0; n < 200; n++) {
        for (unsigned i = 0; i < NCODES; i++) {
            struct kv_op op = random_op(&r, CODES[i]), back;
            struct buf b = {0};
            put_u8(&b, 7);          /* data_at counts from what is appended */
            size_t at = 0;
            kv_op_encode(&op, &b, &at);
            assert_int_equal(b.n - 1, kv__op_size(&op));
            assert_int_equal(kv_op_decode(slice_of(b.p + 1, b.n - 1), &back), 0);
            assert_op_equal(&op, &back);
            if (op.data.n) assert_ptr_equal(back.data.p, b.p + 1 + at);
            buf_free(&b);
        }
    }
}

static struct kv_reply random_reply(struct prng *r, enum kv_code code)
{
    unsigned f = kv__op_info(code)->reply;
    struct kv_reply reply = {.status =
                                 prng_chance(r, 30) ? -(int32_t)prng_between(r, 1, 3000) : (int32_t)prng_below(r, 5),
                             .index = random_number(r)};
    if (reply.status < 0) return reply;
    if (f & R_ATTR) reply.attr = random_attr(r);
    if (f & R_OFF) reply.off = random_number(r);
    if (f & R_DATA) reply.data = random_slice(r, 0, 2000);
    return reply;
}

static void replies_round_trip(void **state)
{
    struct prng r;
    prng_seed(&r, 12);
    for (unsigned n = 0; n < 300; n++) {
        for (unsigned i = 0; i < NCODES; i++) {
            struct kv_reply reply = random_reply(&r, CODES[i]), back;
            struct buf b = {0}, head = {0};
            kv_reply_encode(CODES[i], &reply, &b);
            assert_int_equal(kv_reply_decode(CODES[i], buf_slice(&b), &back), 0);
            assert_int_equal(back.status, reply.status);
            assert_int_equal(back.index, reply.index);
            assert_int_equal(back.off, reply.off);
            assert_attr_equal(&back.attr, &reply.attr);
            assert_true(slice_eq(back.data, reply.data));
            kv__reply_encode_head(CODES[i], &reply, &head);
            put_bytes(&head, reply.data);
            assert_true(slice_eq(buf_slice(&b), buf_slice(&head)));
            buf_free(&b);
            buf_free(&head);
        }
    }
}

/* Copies to a block of exactly that size, so that a read beyond it is seen. */
static void decode_exact(const uint8_t *p, size_t n)
{
    uint8_t *exact = malloc(n ? n : 1);
    assert_non_null(exact);
    if (n) memcpy(exact, p, n);
    struct slice in = slice_of(exact, n);
    struct kv_op op;
    struct kv_reply reply;
    if (kv_op_decode(in, &op) == 0) {
        struct buf b = {0};
        kv_op_encode(&op, &b, NULL);
        assert_true(slice_eq(buf_slice(&b), in));       /* one form only */
        buf_free(&b);
    }
    for (unsigned i = 0; i < NCODES; i++)
        if (kv_reply_decode(CODES[i], in, &reply) == 0) assert_true(reply.data.n <= n);
    struct kv__hello hello;
    struct kv__ack ack;
    struct kv__call call;
    uint64_t a, c;
    int64_t wall;
    int err;
    uint32_t count;
    struct slice s;
    struct reader r;
    struct kv_statfs statfs;
    kv__hello_decode(in, &hello);
    if (kv__ack_decode(in, &ack) == 0)
        for (uint32_t i = 0; i < ack.n; i++) assert_true(strnlen(ack.members[i].addr, ADDR_MAX) < ADDR_MAX);
    if (kv__call_decode(in, &call, &s) == 0) assert_true(call.floor <= call.seq);
    kv__redirect_decode(in, &a, &c, &s);
    if (kv__refused_decode(in, &err, &s) == 0) assert_true(err < 0);
    kv_statfs_decode(in, &statfs);
    if (kv__batch_open(in, &wall, &a, &count, &r) == 0) {
        struct kv__record rec;
        for (uint32_t i = 0; i < count && kv__batch_next(&r, &rec) == 0; i++) kv__refusal(rec.op, &err);
    }
    r = reader_of(in);
    struct fs_attr attr;
    while (kv_dirent_next(&r, &s, &attr)) assert_true(s.n <= n);
    free(exact);
}

static void damaged_bytes(void **state)
{
    struct prng r;
    prng_seed(&r, 13);
    for (unsigned n = 0; n < 4000; n++) {
        struct buf b = {0};
        struct kv_op op = random_op(&r, CODES[prng_below(&r, NCODES)]);
        if (op.data.n > 100) op.data.n = 100;
        if (prng_chance(&r, 50)) kv_op_encode(&op, &b, NULL);
        else buf_append(&b, pool[0], prng_below(&r, 400));
        if (b.n && prng_chance(&r, 50)) b.n = prng_below(&r, b.n);
        for (unsigned k = (unsigned)prng_below(&r, 4); k > 0 && b.n; k--)
            b.p[prng_below(&r, b.n)] ^= (uint8_t)prng_u64(&r);
        decode_exact(b.p, b.n);
        buf_free(&b);
    }
    struct buf b = {0};
    struct kv_op op = random_op(&r, KV_MKNOD);
    kv_op_encode(&op, &b, NULL);
    for (size_t n = 0; n < b.n; n++) {
        struct kv_op back;
        assert_int_equal(kv_op_decode(slice_of(b.p, n), &back), QE_FRAME);
        decode_exact(b.p, n);
    }
    put_u8(&b, 0);
    assert_int_equal(kv_op_decode(buf_slice(&b), &op), QE_FRAME);
    buf_free(&b);
}

static void entries_and_numbers(void **state)
{
    struct prng r;
    prng_seed(&r, 14);
    struct buf b = {0};
    struct fs_attr attrs[50], attr;
    char names[50][8];
    for (unsigned i = 0; i < 50; i++) {
        attrs[i] = random_attr(&r);
        snprintf(names[i], sizeof names[i], "n%u", i);
        kv__dirent_encode(slice_str(names[i]), &attrs[i], &b);
    }
    struct reader rd = reader_of(buf_slice(&b));
    struct slice name;
    for (unsigned i = 0; i < 50; i++) {
        assert_true(kv_dirent_next(&rd, &name, &attr));
        assert_true(slice_eq(name, slice_str(names[i])));
        assert_attr_equal(&attr, &attrs[i]);
    }
    assert_false(kv_dirent_next(&rd, &name, &attr));
    assert_false(rd.bad);
    rd = reader_of(slice_of(b.p, b.n - 1));
    while (kv_dirent_next(&rd, &name, &attr)) {}
    assert_true(rd.bad);
    buf_clear(&b);
    struct kv_statfs s = {1, 2, {3, 4, 5}}, back;
    kv__statfs_encode(&s, &b);
    assert_int_equal(kv_statfs_decode(buf_slice(&b), &back), 0);
    assert_true(back.total == 1 && back.avail == 2 && back.used.files == 3 && back.used.dirs == 4 &&
                back.used.bytes == 5);
    buf_free(&b);
}

/* An ordinary file's attributes stay small: they are stored with every remembered answer. */
static void attributes_are_small(void **state)
{
    int64_t now = 1700000000123456789;
    struct fs_attr a = {.ino = 1000000,
                        .mode = 0100644,
                        .nlink = 1,
                        .uid = 1000,
                        .gid = 1000,
                        .size = 4096,
                        .blocks = 8,
                        .atime = now,
                        .mtime = now,
                        .ctime = now,
                        .btime = now,
                        .version = 3};
    struct buf b = {0};
    kv__attr_encode(&a, &b);
    assert_true(b.n <= 32);
    buf_free(&b);
}

static void frames_round_trip(void **state)
{
    struct buf b = {0};
    struct kv__hello h = {1, 2, 3}, h2;
    kv__hello_encode(&h, &b);
    assert_int_equal(kv__hello_decode(buf_slice(&b), &h2), 0);
    assert_true(h2.version == 1 && h2.cluster == 2 && h2.session == 3);
    buf_clear(&b);
    struct kv__ack a = {.version = 1,
                        .cluster = 9,
                        .node = 2,
                        .leader = 3,
                        .n = 2,
                        .members = {{1, "a:1"}, {2, "unix:/x"}}},
                   a2;
    kv__ack_encode(&a, &b);
    assert_int_equal(kv__ack_decode(buf_slice(&b), &a2), 0);
    assert_true(a2.n == 2 && a2.members[1].id == 2 && a2.leader == 3);
    assert_string_equal(a2.members[1].addr, "unix:/x");
    buf_clear(&b);
    uint64_t id, leader;
    struct slice text;
    kv__redirect_encode(5, 6, slice_str("b:2"), &b);
    assert_int_equal(kv__redirect_decode(buf_slice(&b), &id, &leader, &text), 0);
    assert_true(id == 5 && leader == 6 && slice_eq(text, slice_str("b:2")));
    buf_clear(&b);
    int err;
    kv__refused_encode(QE_BUSY, "full", &b);
    assert_int_equal(kv__refused_decode(buf_slice(&b), &err, &text), 0);
    assert_true(err == QE_BUSY && slice_eq(text, slice_str("full")));
    struct kv__call c = {.id = 1, .session = 2, .seq = 4, .floor = 3, .flags = 1}, c2;
    uint8_t bytes[KV_CALL_HEAD + 1] = {0};
    kv__call_encode(&c, bytes);
    assert_int_equal(kv__call_decode(slice_of(bytes, sizeof bytes), &c2, &text), 0);
    assert_true(c2.id == 1 && c2.session == 2 && c2.seq == 4 && c2.floor == 3 && c2.flags == 1 && text.n == 1);
    assert_int_equal(kv__call_decode(slice_of(bytes, KV_CALL_HEAD), &c2, &text), QE_FRAME);
    c.floor = 5;
    kv__call_encode(&c, bytes);
    assert_int_equal(kv__call_decode(slice_of(bytes, sizeof bytes), &c2, &text), QE_FRAME);
    buf_free(&b);
}

static void watch_frames_round_trip(void **state)
{
    struct buf b = {0};
    struct kv__watching w = {.id = 1, .revision = 2, .position = 3, .flags = 1, .key = slice_str("a/b")}, w2;
    struct reader events;
    kv__watch_encode(&w, &b);
    for (size_t n = 0; n < b.n; n++) assert_int_equal(kv__watch_decode(slice_of(b.p, n), &w2), QE_FRAME);
    assert_int_equal(kv__watch_decode(buf_slice(&b), &w2), 0);
    assert_true(w2.id == 1 && w2.revision == 2 && w2.position == 3 && w2.flags == 1 && slice_eq(w2.key, w.key));
    static const uint8_t deep[FS_KEY_MAX + 1];
    w.key = slice_of(deep, sizeof deep);
    buf_clear(&b);
    kv__watch_encode(&w, &b);
    assert_int_equal(kv__watch_decode(buf_slice(&b), &w2), QE_FRAME);
    uint8_t head[KV_EVENTS_HEAD + 1] = {0};
    kv__events_encode(&w, head);
    assert_int_equal(kv__events_decode(slice_of(head, KV_EVENTS_HEAD - 1), &w2, &events), QE_FRAME);
    assert_int_equal(kv__events_decode(slice_of(head, sizeof head), &w2, &events), 0);
    assert_true(w2.id == 1 && w2.revision == 2 && w2.position == 3 && reader_left(&events) == 1);
    uint64_t id, revision;
    int err;
    struct slice text;
    buf_clear(&b);
    kv__watch_end_encode(7, QE_GONE, 9, "gone", &b);
    for (size_t n = 0; n < b.n; n++)
        assert_int_equal(kv__watch_end_decode(slice_of(b.p, n), &id, &err, &revision, &text), QE_FRAME);
    assert_int_equal(kv__watch_end_decode(buf_slice(&b), &id, &err, &revision, &text), 0);
    assert_true(id == 7 && err == QE_GONE && revision == 9 && slice_eq(text, slice_str("gone")));
    buf_free(&b);
}

static void admin_frames_round_trip(void **state)
{
    static const struct { struct kv__admin_ask ask; int err; } asks[] = {
        {{KV_ADMIN_ADD, 4, 5, "host:1"}, 0},
        {{KV_ADMIN_ADD, 4, 5, ""}, QE_FRAME},               /* where is it? */
        {{KV_ADMIN_PROMOTE, UINT64_MAX, UINT32_MAX, ""}, 0},
        {{KV_ADMIN_REMOVE, 4, 0, "host:1"}, 0},
        {{KV_ADMIN_REMOVE, 0, 0, ""}, QE_FRAME},            /* whom? */
        {{KV_ADMIN_TRANSFER, 0, 0, ""}, 0},                 /* to anyone */
        {{(enum kv_admin_what)0, 4, 0, "host:1"}, QE_FRAME},
        {{(enum kv_admin_what)(KV_ADMIN_TRANSFER + 1), 4, 0, "host:1"}, QE_FRAME},
    };
    struct buf b = {0};
    struct kv__admin_ask a;
    for (size_t i = 0; i < sizeof asks / sizeof *asks; i++) {
        buf_clear(&b);
        kv__admin_encode(&asks[i].ask, &b);
        for (size_t n = 0; n < b.n; n++) assert_int_equal(kv__admin_decode(slice_of(b.p, n), &a), QE_FRAME);
        assert_int_equal(kv__admin_decode(buf_slice(&b), &a), asks[i].err);
        assert_true(a.what == asks[i].ask.what && a.id == asks[i].ask.id && a.wait_ms == asks[i].ask.wait_ms);
        assert_string_equal(a.addr, asks[i].ask.addr);
        put_u8(&b, 0);
        assert_int_equal(kv__admin_decode(buf_slice(&b), &a), QE_FRAME);
    }

    int status;
    uint64_t leader;
    struct slice text;
    char addr[ADDR_MAX], longest[ADDR_MAX + 1] = "";
    buf_clear(&b);
    kv__admin_resp_encode(-EPERM, 2, "host:2", "no", &b);
    for (size_t n = 0; n < b.n; n++)
        assert_int_equal(kv__admin_resp_decode(slice_of(b.p, n), &status, &leader, addr, &text), QE_FRAME);
    assert_int_equal(kv__admin_resp_decode(buf_slice(&b), &status, &leader, addr, &text), 0);
    assert_true(status == -EPERM && leader == 2 && slice_eq(text, slice_str("no")));
    assert_string_equal(addr, "host:2");
    b.p[14] = 0;                                            /* a byte 0 in the address */
    assert_int_equal(kv__admin_resp_decode(buf_slice(&b), &status, &leader, addr, &text), QE_FRAME);
    buf_clear(&b);
    kv__admin_resp_encode(1, 0, "", "no error is positive", &b);
    assert_int_equal(kv__admin_resp_decode(buf_slice(&b), &status, &leader, addr, &text), QE_FRAME);
    memset(longest, 'x', ADDR_MAX);
    for (unsigned over = 0; over < 2; over++) {
        longest[ADDR_MAX - 1 + over] = 0;
        if (over) longest[ADDR_MAX - 1] = 'x';
        buf_clear(&b);
        kv__admin_resp_encode(0, 0, longest, "", &b);
        assert_int_equal(kv__admin_resp_decode(buf_slice(&b), &status, &leader, addr, &text), over ? QE_FRAME : 0);
    }
    buf_free(&b);
}

static void batches_round_trip(void **state)
{
    struct prng r;
    prng_seed(&r, 15);
    for (unsigned round = 0; round < 50; round++) {
        struct kv__batch b = {0};
        struct kv__record recs[40];
        uint8_t bytes[40][64];
        unsigned n = (unsigned)prng_between(&r, 1, 40);
        int errs[40];
        for (unsigned i = 0; i < n; i++) {
            random_bytes(&r, bytes[i], 64);
            bytes[i][0] = 1;
            recs[i] = (struct kv__record){random_number(&r), random_number(&r), random_number(&r),
                                          slice_of(bytes[i], prng_between(&r, 1, 64))};
            errs[i] = prng_chance(&r, 20) ? -(int)prng_between(&r, 1, 2000) : 0;
            if (errs[i]) kv__batch_refuse(&b, &recs[i], errs[i]);
            else kv__batch_add(&b, &recs[i]);
            if (prng_chance(&r, 10)) kv__batch_fit(&b);
        }
        kv__batch_stamp(&b, 123, 456);
        kv__batch_fit(&b);
        int64_t wall;
        uint64_t cluster;
        uint32_t count;
        struct reader rd;
        assert_int_equal(kv__batch_open(blob_slice(b.blob), &wall, &cluster, &count, &rd), 0);
        assert_true(wall == 123 && cluster == 456 && count == n);
        for (unsigned i = 0; i < n; i++) {
            struct kv__record rec;
            int err = 0;
            assert_int_equal(kv__batch_next(&rd, &rec), 0);
            assert_true(rec.session == recs[i].session && rec.seq == recs[i].seq && rec.floor == recs[i].floor);
            assert_int_equal(kv__refusal(rec.op, &err), errs[i] != 0);
            if (errs[i]) assert_int_equal(err, errs[i]);
            else assert_true(slice_eq(rec.op, recs[i].op));
        }
        assert_true(reader_done(&rd));
        b.blob->p[0]++;
        assert_int_equal(kv__batch_open(blob_slice(b.blob), &wall, &cluster, &count, &rd), QE_VERSION);
        kv__batch_free(&b);
    }
}

static void table(void **state)
{
    assert_string_equal(kv_code_name(KV_RENAME), "RENAME");
    assert_null(kv_code_name((enum kv_code)0));
    assert_null(kv_code_name((enum kv_code)200));
    assert_true(kv_is_change(KV_PUT));
    assert_false(kv_is_change(KV_GET));
    for (unsigned i = 0; i < NCODES; i++) {
        assert_true(CODES[i] > 0 && CODES[i] < 256);
        /* Answers to changes are stored: they must be small (a transaction's has a bound of its own). */
        if (kv_is_change(CODES[i]) && CODES[i] != KV_TXN) assert_false(kv__op_info(CODES[i])->reply & R_DATA);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table),
        cmocka_unit_test(ops_round_trip),
        cmocka_unit_test(replies_round_trip),
        cmocka_unit_test(damaged_bytes),
        cmocka_unit_test(entries_and_numbers),
        cmocka_unit_test(attributes_are_small),
        cmocka_unit_test(frames_round_trip),
        cmocka_unit_test(watch_frames_round_trip),
        cmocka_unit_test(admin_frames_round_trip),
        cmocka_unit_test(batches_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
