/* fuzz_wire.c - decoders of single messages: frames, raft messages, operations, replies, greetings, batches, directory
 * entries. What decodes is encoded again, and must be the same bytes, or the same value where numbers may be longer
 * than need be. */
#include "kv/wire.h"
#include "raft/core_priv.h"
#include "tests/fuzz/fuzz.h"

enum {
    FRAMES,
    RAFT_MSG,
    OP,
    REPLY,
    HELLO,
    ACK,
    CALL,
    REDIRECT,
    REFUSED,
    BATCH,
    DIRENTS,
    STATFS,
    TXN,
    TXN_REPLY,
    WATCH,
    EVENTS,
    WATCH_END,
    ADMIN,
    ADMIN_RESP,
    KINDS
};

static void frames(struct slice in)
{
    for (;;) {
        struct frame f;
        int64_t n = frame_peek(in);
        if (n <= 0 || (uint64_t)n > in.n) return;
        int err = frame_decode(slice_sub(in, 0, (size_t)n), &f);
        check(err == 0 || err == QE_FRAME || err == QE_CORRUPT);
        in = slice_sub(in, (size_t)n, in.n - (size_t)n);
    }
}

/* As above, where the script gives type, group and payload only. */
static void good_frame(struct slice in)
{
    struct reader r = reader_of(in);
    uint8_t type = get_u8(&r), head[FRAME_HEADER_BYTES];
    uint16_t group = get_u16(&r);
    struct slice payload = get_bytes(&r, reader_left(&r));
    struct frame f;
    struct buf b = {0};
    check(frame_header(head, type, group, &payload, 1) == 0);
    put_bytes(&b, slice_of(head, sizeof head));
    put_bytes(&b, payload);
    check(frame_peek(buf_slice(&b)) == (int64_t)b.n && frame_decode(buf_slice(&b), &f) == 0);
    check(f.type == type && f.group == group && slice_eq(f.payload, payload));
    if (payload.n) {
        b.p[FRAME_HEADER_BYTES + payload.n / 2] ^= 1;
        check(frame_decode(buf_slice(&b), &f) == QE_CORRUPT);
    }
    buf_free(&b);
}

static void same(struct buf *b, struct slice in)
{
    check(slice_eq(buf_slice(b), in));
    buf_free(b);
}

static void raft_msg(struct slice in)
{
    struct raft_msg m;
    struct slice rest;
    struct buf b = {0};
    if (raft_msg_decode(in, &m, &rest)) return;
    raft_msg_encode(&m, &b);
    put_bytes(&b, rest);
    same(&b, in);
}

static void op(struct slice in)
{
    struct kv_op o;
    struct buf b = {0};
    int err;
    if (kv__refusal(in, &err)) check(err < 0);
    if (kv_op_decode(in, &o)) return;
    size_t at;
    kv_op_encode(&o, &b, &at);
    check(b.n == kv__op_size(&o) && at <= b.n);
    same(&b, in);
}

static void reply(struct slice in)
{
    if (in.n == 0) return;
    enum kv_code code = (enum kv_code)in.p[0];
    struct kv_reply a, b;
    struct buf once = {0}, twice = {0};
    if (kv_reply_decode(code, slice_sub(in, 1, in.n - 1), &a)) return;
    kv_reply_encode(code, &a, &once);
    check(kv_reply_decode(code, buf_slice(&once), &b) == 0);
    kv_reply_encode(code, &b, &twice);
    same(&twice, buf_slice(&once));
    buf_free(&once);
}

static void hello(struct slice in)
{
    struct kv__hello h;
    struct buf b = {0};
    if (kv__hello_decode(in, &h)) return;
    kv__hello_encode(&h, &b);
    same(&b, in);
}

static void ack(struct slice in)
{
    struct kv__ack a;
    struct buf b = {0};
    if (kv__ack_decode(in, &a)) return;
    kv__ack_encode(&a, &b);
    same(&b, in);
}

static void call(struct slice in)
{
    struct kv__call c;
    struct slice o;
    struct buf b = {0};
    if (kv__call_decode(in, &c, &o)) return;
    kv__call_encode(&c, buf_extend(&b, KV_CALL_HEAD));
    put_bytes(&b, o);
    same(&b, in);
    op(o);
}

static void redirect(struct slice in)
{
    uint64_t id, leader;
    struct slice addr;
    struct buf b = {0};
    if (kv__redirect_decode(in, &id, &leader, &addr)) return;
    kv__redirect_encode(id, leader, addr, &b);
    same(&b, in);
}

static void refused(struct slice in)
{
    int err;
    struct slice text;
    if (kv__refused_decode(in, &err, &text) == 0) check(err < 0 && text.n <= in.n);
}

static void batch(struct slice in)
{
    struct reader r;
    struct kv__record rec;
    int64_t wall;
    uint64_t cluster;
    uint32_t n;
    struct kv__batch b = {0};
    if (kv__batch_open(in, &wall, &cluster, &n, &r)) return;
    for (uint32_t i = 0; i < n; i++) {
        if (kv__batch_next(&r, &rec)) goto out;
        op(rec.op);
        if (rec.op.n == 0) goto out; /* no encoder writes that */
        kv__batch_add(&b, &rec);
    }
    if (!reader_done(&r) || n == 0) goto out;
    kv__batch_stamp(&b, wall, cluster);
    check(slice_eq(blob_slice(b.blob), in));
out:
    kv__batch_free(&b);
}

static void dirents(struct slice in)
{
    struct reader r = reader_of(in);
    struct slice name;
    struct fs_attr attr;
    while (kv_dirent_next(&r, &name, &attr)) check(name.n <= in.n);
}

static void statfs(struct slice in)
{
    struct kv_statfs s;
    struct buf b = {0};
    if (kv_statfs_decode(in, &s)) return;
    kv__statfs_encode(&s, &b);
    same(&b, in);
}

static void txn(struct slice in)
{
    static struct kv_txn t;
    struct buf b = {0};
    if (kv_txn_decode(in, &t)) return;
    check(kv_txn_encode(&t, &b) == 0);
    same(&b, in);
}

static void txn_reply(struct slice in)
{
    struct reader r = reader_of(in);
    struct kv_txn_result res;
    struct kv_txn_failure f;
    while (kv_txn_next(&r, &res)) check(res.value.n <= in.n);
    (void)!kv_txn_failure_decode(in, &f);
}

static void watch(struct slice in)
{
    struct kv__watching w;
    struct buf b = {0};
    if (kv__watch_decode(in, &w)) return;
    kv__watch_encode(&w, &b);
    same(&b, in);
}

static void events(struct slice in)
{
    struct kv__watching w;
    struct reader r;
    struct kv_event ev;
    if (kv__events_decode(in, &w, &r)) return;
    while (kv_event_next(&r, &ev)) check(ev.key.n <= in.n);
}

static void watch_end(struct slice in)
{
    uint64_t id, revision;
    int err;
    struct slice text;
    if (kv__watch_end_decode(in, &id, &err, &revision, &text) == 0) check(err < 0 && text.n <= in.n);
}

static void admin(struct slice in)
{
    struct kv__admin_ask a;
    struct buf b = {0};
    if (kv__admin_decode(in, &a)) return;
    kv__admin_encode(&a, &b);
    same(&b, in);
}

static void admin_resp(struct slice in)
{
    int status;
    uint64_t leader;
    char addr[ADDR_MAX];
    struct slice text;
    if (kv__admin_resp_decode(in, &status, &leader, addr, &text)) return;
    check(status <= 0 && strlen(addr) < ADDR_MAX && text.n <= in.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const kinds[KINDS])(struct slice in) = {
        [FRAMES] = frames, [RAFT_MSG] = raft_msg,   [OP] = op,
        [REPLY] = reply,   [HELLO] = hello,         [ACK] = ack,
        [CALL] = call,     [REDIRECT] = redirect,   [REFUSED] = refused,
        [BATCH] = batch,   [DIRENTS] = dirents,     [STATFS] = statfs,
        [TXN] = txn,       [TXN_REPLY] = txn_reply, [WATCH] = watch,
        [EVENTS] = events, [WATCH_END] = watch_end, [ADMIN] = admin,
        [ADMIN_RESP] = admin_resp};
    if (size == 0) return 0;
    struct slice in = slice_of(data + 1, size - 1);
    if (data[0] == KINDS)
        good_frame(in);
    else
        kinds[data[0] % KINDS](in);
    return 0;
}

/* ---- seeds ---- */

static const struct fs_attr some_attr = {.ino = 300,
                                         .mode = 0100644,
                                         .nlink = 1,
                                         .uid = 1000,
                                         .gid = 1000,
                                         .size = 70000,
                                         .blocks = 137,
                                         .atime = 1700000000000000000,
                                         .mtime = 1700000000000000001,
                                         .ctime = 1700000000000000002,
                                         .btime = -1,
                                         .version = 9,
                                         .has_xattr = true};

static void seed_ops(void (*emit)(struct slice seed), struct buf *b)
{
    for (unsigned code = 0; code < 256; code++) {
        if (!kv__op_info(code)) continue;
        struct kv_op o = {.code = (enum kv_code)code,
                          .ino = 1,
                          .ino2 = 2,
                          .off = 3,
                          .len = 4096,
                          .mode = 0644,
                          .flags = 1,
                          .name = slice_str("name"),
                          .name2 = slice_str("other"),
                          .data = slice_str("some bytes")};
        kv_op_encode(&o, b, NULL);
        fuzz_emit_buf(emit, OP, b);
        struct kv_reply r = {.index = 77, .off = 5, .attr = some_attr, .data = slice_str("data")};
        put_u8(b, (uint8_t)code);
        kv_reply_encode((enum kv_code)code, &r, b);
        fuzz_emit_buf(emit, REPLY, b);
    }
}

static void seed_frames(void (*emit)(struct slice seed), struct buf *b)
{
    uint8_t head[FRAME_HEADER_BYTES];
    struct slice v = slice_str("payload");
    for (uint8_t type = 1; type < 4; type++) {
        frame_header(head, type, 0, &v, 1);
        put_bytes(b, slice_of(head, sizeof head));
        put_bytes(b, v);
    }
    fuzz_emit_buf(emit, FRAMES, b);
    put_u8(b, 3);
    put_u16(b, 0);
    put_bytes(b, v);
    fuzz_emit_buf(emit, KINDS, b);
    for (uint8_t type = 1; type <= RAFT_MSG_TYPE_MAX; type++) {
        struct raft_msg m = {.type = type,
                             .from = 1,
                             .to = 2,
                             .term = 3,
                             .index = 4,
                             .log_term = 3,
                             .commit = 4,
                             .last = 9,
                             .round = 12345,
                             .n = type == RAFT_MSG_APPEND};
        raft_msg_encode(&m, b);
        if (m.n) put_bytes(b, slice_of("\3\0\0\0\0\0\0\0\2\1\0\0\0x", 14));
        fuzz_emit_buf(emit, RAFT_MSG, b);
    }
}

static void seed_client(void (*emit)(struct slice seed), struct buf *b)
{
    struct kv__hello h = {.version = KV_VERSION, .cluster = 7, .session = 1024};
    kv__hello_encode(&h, b);
    fuzz_emit_buf(emit, HELLO, b);
    struct kv__ack a = {.version = KV_VERSION, .cluster = 7, .node = 1, .leader = 1, .n = 2};
    for (unsigned i = 0; i < 2; i++) a.members[i] = (struct raft_member){.id = i + 1, .addr = "127.0.0.1:7000"};
    kv__ack_encode(&a, b);
    fuzz_emit_buf(emit, ACK, b);
    struct kv__call c = {.id = 1, .session = 1024, .seq = 3, .floor = 2, .flags = KV_CALL_RESENT};
    kv__call_encode(&c, buf_extend(b, KV_CALL_HEAD));
    struct kv_op o = {.code = KV_PUT, .name = slice_str("key"), .data = slice_str("value")};
    kv_op_encode(&o, b, NULL);
    fuzz_emit_buf(emit, CALL, b);
    kv__redirect_encode(1, 2, slice_str("host:1"), b);
    fuzz_emit_buf(emit, REDIRECT, b);
    kv__refused_encode(QE_BUSY, "too many", b);
    fuzz_emit_buf(emit, REFUSED, b);
    kv__dirent_encode(slice_str("file"), &some_attr, b);
    kv__dirent_encode(slice_str("other"), &some_attr, b);
    fuzz_emit_buf(emit, DIRENTS, b);
    struct kv_statfs s = {.total = 1u << 30, .avail = 1u << 20};
    kv__statfs_encode(&s, b);
    fuzz_emit_buf(emit, STATFS, b);
}

static void seed_watch(void (*emit)(struct slice seed), struct buf *b)
{
    struct kv__watching w = {
        .id = 1, .revision = 77, .position = 2, .flags = KV_WATCH_PREFIX, .key = slice_str("dir/")};
    static struct kv_txn t = {.nconds = 2, .nsteps = {1, 1}};
    t.conds[0] = (struct kv_cond){.kind = KV_IF_VERSION, .key = slice_str("a"), .ino = 2, .version = 3};
    t.conds[1] = (struct kv_cond){.kind = KV_IF_VALUE, .key = slice_str("b"), .value = slice_str("v")};
    for (unsigned i = 0; i < 2; i++)
        t.steps[i][0] = (struct kv_step){.code = i ? KV_PUT : KV_GET, .key = slice_str("c")};
    kv_txn_encode(&t, b);
    fuzz_emit_buf(emit, TXN, b);
    kv__watch_encode(&w, b);
    fuzz_emit_buf(emit, WATCH, b);
    kv__events_encode(&w, buf_extend(b, KV_EVENTS_HEAD));
    for (uint8_t type = KV_EVENT_PUT; type <= KV_EVENT_DELETE; type++) {
        put_u64(b, 76);
        put_u32(b, type);
        put_u8(b, type);
        put_slice16(b, w.key);
        for (unsigned i = 0; type == KV_EVENT_PUT && i < 3; i++) put_u64(b, i);
    }
    fuzz_emit_buf(emit, EVENTS, b);
    kv__watch_end_encode(1, QE_GONE, 80, "gone", b);
    fuzz_emit_buf(emit, WATCH_END, b);
}

static void seed_admin(void (*emit)(struct slice seed), struct buf *b)
{
    for (unsigned what = KV_ADMIN_ADD; what <= KV_ADMIN_TRANSFER; what++) {
        struct kv__admin_ask a = {.what = what, .id = 4, .wait_ms = 1000, .addr = "127.0.0.1:7004"};
        kv__admin_encode(&a, b);
        fuzz_emit_buf(emit, ADMIN, b);
    }
    kv__admin_resp_encode(QE_NOT_LEADER, 2, "127.0.0.1:7002", "this node does not lead", b);
    fuzz_emit_buf(emit, ADMIN_RESP, b);
}

void fuzz_seeds(void (*emit)(struct slice seed))
{
    struct buf b = {0}, o = {0};
    struct kv__batch batch = {0};
    seed_frames(emit, &b);
    seed_ops(emit, &b);
    seed_client(emit, &b);
    seed_watch(emit, &b);
    seed_admin(emit, &b);
    struct kv_op put = {.code = KV_PUT, .name = slice_str("k"), .data = slice_str("v")};
    kv_op_encode(&put, &o, NULL);
    struct kv__record rec = {.session = 1024, .seq = 1, .floor = 1, .op = buf_slice(&o)};
    kv__batch_add(&batch, &rec);
    kv__batch_refuse(&batch, &rec, -ENOSPC);
    kv__batch_stamp(&batch, 1700000000000000000, 5);
    put_bytes(&b, blob_slice(batch.blob));
    fuzz_emit_buf(emit, BATCH, &b);
    kv__batch_free(&batch);
    buf_free(&o);
    buf_free(&b);
}
