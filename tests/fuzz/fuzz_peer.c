/* fuzz_peer.c - a node (run loop, core and log, on a simulated disk) and what may come from the other two members:
 * frames of any type and bytes on either connection, raft messages and snapshot blocks of any contents, payload
 * requests and answers, connections that break; with a crash and a restart now and then. The node may find that it
 * cannot go on and say so; it never crashes. */
#include "raft/node_priv.h"
#include "tests/fuzz/fuzz.h"
#include "tests/sim/disk.h"
#include "tests/unit/kv/fake.h"

#define PEERS 2u

enum {
    DO_MSG,
    DO_SNAPSHOT,
    DO_RAW_IN,
    DO_RAW_OUT,
    DO_PASS,
    DO_ACK,
    DO_FETCH_RESP,
    DO_FETCH,
    DO_DIGEST,
    DO_DIAL,
    DO_CUT,
    DO_PROPOSE,
    DO_READ,
    DO_RESTART,
    DO_PAYLOAD,
    DOS
};

static const char *const addrs[] = {"n1", "n2", "n3"};

struct far {
    struct play *play;
    unsigned at;            /* member at + 2 */
    struct conn *to, *from; /* dialled by us; accepted from the node */
};

struct play {
    struct fake f;
    struct sim_disk *disk;
    struct node *node;
    struct reader r;
    struct far far[PEERS];
    struct conn *hello; /* accepted for the node, not yet its */
    uint64_t digest, restoring, fetch_id;
    bool dead;
    struct node_read read;
    struct log_read payload;
    bool reading, paying;
    uint8_t bytes[256];
};

/* ---- the state machine: a hash of what was applied; its payload is the first bytes of each entry ---- */

static void sm_apply(void *arg, uint64_t index, uint64_t term, struct slice data)
{
    struct play *y = arg;
    y->digest = hash64(y->digest + index, data.p, data.n);
    if (data.n > 8) node_live_add(y->node, index, 8);
}

static void sm_applied(void *arg, uint64_t index) {}

struct image {
    uint64_t digest;
    unsigned at;
};

static void *sm_snap_begin(void *arg)
{
    struct image *im = xcalloc(1, sizeof *im);
    im->digest = ((struct play *)arg)->digest;
    return im;
}

static int sm_snap_next(void *snap, struct buf *block)
{
    struct image *im = snap;
    if (im->at++ == 3) return 0;
    put_u64(block, im->digest);
    return 1;
}

static void sm_snap_end(void *snap) { free(snap); }
static void sm_restore_begin(void *arg) { ((struct play *)arg)->restoring = 1; }
static void sm_restore_cancel(void *arg) { ((struct play *)arg)->restoring = 0; }

static int sm_restore_block(void *arg, struct slice block)
{
    struct play *y = arg;
    if (block.n && block.p[0] == 0xee) return QE_CORRUPT;
    y->restoring = hash64(y->restoring, block.p, block.n);
    return 0;
}

static int sm_restore_end(void *arg, uint64_t index)
{
    struct play *y = arg;
    if (y->restoring % 16 == 15) return QE_CORRUPT;
    y->digest = y->restoring;
    return 0;
}

static void sm_restore_ranges(void *arg, void (*emit)(void *ctx, uint64_t index, uint32_t off, uint32_t len), void *ctx)
{
    struct play *y = arg;
    for (uint64_t i = 1; i <= y->restoring % 4; i++) emit(ctx, i, 0, 8);
}

static void sm_live_ranges(void *arg, uint64_t index, void (*emit)(void *ctx, uint32_t off, uint32_t len), void *ctx)
{
    emit(ctx, 0, 8);
}

static void sm_role(void *arg, enum raft_role role, uint64_t term, uint64_t leader) {}
static uint64_t sm_digest(void *arg) { return ((struct play *)arg)->digest; }
static void sm_fatal(void *arg, int err, const char *text) { ((struct play *)arg)->dead = true; }

/* ---- the other members' ends ---- */

static void send(struct conn *c, uint8_t type, const struct buf *b)
{
    struct slice v = buf_slice(b);
    if (c) conn_send(c, type, &v, 1);
}

static void send_hello(struct far *p, struct conn *c, uint8_t type)
{
    struct buf b = {0};
    put_u32(&b, NODE_WIRE_VERSION);
    put_u64(&b, 0);
    put_u64(&b, p->at + 2);
    put_u64(&b, 1);
    put_slice16(&b, slice_str(addrs[p->at + 1]));
    send(c, type, &b);
    buf_free(&b);
}

static void to_open(struct conn *c) { send_hello(c->arg, c, RAFT_FRAME_HELLO); }
static void to_frame(struct conn *c, uint8_t type, struct slice payload) {}

static void to_closed(struct conn *c, int err)
{
    struct far *p = c->arg;
    if (p->to == c) p->to = NULL;
}

static void from_frame(struct conn *c, uint8_t type, struct slice payload)
{
    struct far *p = c->arg;
    struct reader r = reader_of(payload);
    struct raft_msg m;
    struct slice rest;
    if (type == RAFT_FRAME_HELLO) send_hello(p, c, RAFT_FRAME_HELLO_ACK);
    if (type == RAFT_FRAME_FETCH) p->play->fetch_id = get_u64(&r);
    if (type == RAFT_FRAME_MSG) check(raft_msg_decode(payload, &m, &rest) == 0 && m.from == 1);
}

static void from_closed(struct conn *c, int err)
{
    struct far *p = c->arg;
    if (p->from == c) p->from = NULL;
}

static const struct conn_cb to_cb = {.open = to_open, .frame = to_frame, .closed = to_closed};
static const struct conn_cb from_cb = {.frame = from_frame, .closed = from_closed};

static void on_dialled(void *arg, struct conn *c)
{
    struct far *p = arg;
    p->from = c;
    c->cb = &from_cb;
    c->arg = p;
}

/* The node's own listener: a server's first look at a connection. */
static void stranger_frame(struct conn *c, uint8_t type, struct slice payload)
{
    struct play *y = c->arg;
    if (type == RAFT_FRAME_HELLO && y->node)
        node_accept(y->node, c, payload);
    else
        conn_close(c);
}

static void stranger_closed(struct conn *c, int err) {}
static const struct conn_cb stranger_cb = {.frame = stranger_frame, .closed = stranger_closed};

static void on_accept(void *arg, struct conn *c)
{
    c->cb = &stranger_cb;
    c->arg = arg;
}

static void dial(struct play *y, struct far *p)
{
    if (!p->to) p->to = net_dial(&y->f.net, "n1", &to_cb, p);
    fake_run(&y->f, NS_PER_MS);
}

/* ---- the node's life ---- */

static int start(struct play *y)
{
    struct node_config nc = {.id = 1, .nmembers = 3, .lease_reads = true, .checkpoint_bytes = 2000, .seed = 7};
    struct node_sm sm = {.arg = y,
                         .apply = sm_apply,
                         .applied = sm_applied,
                         .snap_begin = sm_snap_begin,
                         .snap_next = sm_snap_next,
                         .snap_end = sm_snap_end,
                         .restore_begin = sm_restore_begin,
                         .restore_block = sm_restore_block,
                         .restore_end = sm_restore_end,
                         .restore_cancel = sm_restore_cancel,
                         .restore_ranges = sm_restore_ranges,
                         .live_ranges = sm_live_ranges,
                         .role = sm_role,
                         .digest = sm_digest,
                         .fatal = sm_fatal};
    struct buf why = {0};
    for (unsigned i = 0; i < 3; i++) {
        nc.members[i].id = i + 1;
        memcpy(nc.members[i].addr, addrs[i], 3);
    }
    nc.log = (struct log_config){
        .segment_bytes = 8 * DISK_BLOCK, .spare_segments = 1, .cache_bytes = 1, .trail_bytes = 2000};
    y->digest = y->restoring = 0;
    y->dead = false;
    int err = node_new(sim_disk_door(y->disk), &y->f.net, &y->f.clock, &nc, &sm, &y->node, &why);
    check(!err || why.n > 10);
    buf_free(&why);
    return err;
}

static void stop(struct play *y, bool power)
{
    if (!y->node) return;
    if (power)
        sim_disk_crash(y->disk);
    else
        sim_disk_kill(y->disk);
    sim_disk_shut(y->disk, true);
    node_free(y->node);
    sim_disk_shut(y->disk, false);
    y->node = NULL;
    y->reading = y->paying = false;
    fake_run(&y->f, NS_PER_MS);
}

/* A restart may refuse: an image whose blocks the state machine does not accept. Then the disk is replaced. */
static void restart(struct play *y, bool power)
{
    stop(y, power);
    if (start(y) == 0) return;
    y->node = NULL;
    sim_disk_wipe(y->disk);
    check(start(y) == 0);
}

/* ---- what the script says ---- */

static struct raft_msg some_msg(struct play *y, struct far *p)
{
    struct reader *r = &y->r;
    uint8_t type = get_u8(r), bits = get_u8(r);
    struct raft_msg m = {.type = (uint8_t)(1 + type % RAFT_MSG_TYPE_MAX),
                         .reject = bits & 1,
                         .transfer = bits & 2,
                         .fenced = bits & 4,
                         .lease = bits & 8,
                         .from = p->at + 2,
                         .to = 1};
    m.term = fuzz_number(r);
    m.index = fuzz_number(r);
    m.log_term = fuzz_number(r);
    m.commit = fuzz_number(r);
    m.last = fuzz_number(r);
    m.round = fuzz_number(r);
    return m;
}

static void send_msg(struct play *y, struct far *p)
{
    struct raft_msg m = some_msg(y, p);
    struct buf b = {0};
    m.n = m.type == RAFT_MSG_APPEND ? get_u8(&y->r) % 8 : 0;
    raft_msg_encode(&m, &b);
    for (uint32_t i = 0; i < m.n; i++) {
        uint64_t term = fuzz_number(&y->r);
        uint8_t kind = get_u8(&y->r);
        uint32_t fill = kind & 64 ? get_u16(&y->r) : 0;
        struct slice body = fuzz_bytes(&y->r);
        put_u64(&b, term);
        put_u8(&b, kind % 4);
        put_u32(&b, (uint32_t)body.n + fill);
        put_bytes(&b, body);
        if (fill) memset(buf_extend(&b, fill), 'f', fill);
    }
    send(p->to, RAFT_FRAME_MSG, &b);
    buf_free(&b);
}

static void send_snapshot(struct play *y, struct far *p)
{
    struct raft_msg m = {.type = RAFT_MSG_SNAPSHOT, .from = p->at + 2, .to = 1};
    struct buf b = {0};
    m.term = fuzz_number(&y->r);
    m.index = fuzz_number(&y->r);
    m.log_term = fuzz_number(&y->r);
    raft_msg_encode(&m, &b);
    put_u64(&b, get_u8(&y->r));
    put_u32(&b, (uint32_t)fuzz_number(&y->r));
    put_u32(&b, (uint32_t)fuzz_number(&y->r));
    put_bytes(&b, fuzz_bytes(&y->r));
    send(p->to, RAFT_FRAME_SNAPSHOT, &b);
    buf_free(&b);
}

static void send_small(struct play *y, struct far *p, unsigned what)
{
    struct buf b = {0};
    uint64_t first = fuzz_number(&y->r);
    if (what == DO_ACK) {
        put_u64(&b, first);
        put_u32(&b, (uint32_t)fuzz_number(&y->r));
        put_u8(&b, get_u8(&y->r) & 1);
        send(p->from, RAFT_FRAME_SNAPSHOT_ACK, &b);
    } else if (what == DO_FETCH_RESP) {
        uint8_t err = get_u8(&y->r);
        put_u64(&b, first < 200 ? y->fetch_id : first);
        put_u32(&b, err & 1 ? (uint32_t)QE_GONE : 0);
        put_bytes(&b, fuzz_bytes(&y->r));
        send(p->from, RAFT_FRAME_FETCH_RESP, &b);
    } else if (what == DO_FETCH) {
        put_u64(&b, first);
        put_u64(&b, fuzz_number(&y->r));
        put_u32(&b, (uint32_t)fuzz_number(&y->r));
        put_u32(&b, (uint32_t)fuzz_number(&y->r));
        send(p->to, RAFT_FRAME_FETCH, &b);
    } else {
        put_u64(&b, first * NODE_DIGEST_EVERY);
        put_u64(&b, fuzz_number(&y->r));
        send(p->to, RAFT_FRAME_DIGEST, &b);
    }
    buf_free(&b);
}

static void on_read(struct node_read *r, int err, bool lease) { ((struct play *)r->arg)->reading = false; }
static void on_payload(struct log_read *r, int err) { ((struct play *)r->arg)->paying = false; }

static void ask(struct play *y, unsigned what)
{
    uint64_t index = fuzz_number(&y->r);
    if (what == DO_PROPOSE) {
        struct blob *b = blob_new(index % 40000);
        memset(b->p, 'p', b->n);
        (void)!node_propose(y->node, b);
    } else if (what == DO_READ && !y->reading) {
        y->reading = true;
        y->read = (struct node_read){.done = on_read, .arg = y};
        node_read(y->node, &y->read);
    } else if (what == DO_PAYLOAD && !y->paying) {
        y->paying = true;
        y->payload = (struct log_read){.index = index, .n = 8, .p = y->bytes, .done = on_payload, .arg = y};
        node_payload(y->node, &y->payload);
    }
}

static void step(struct play *y)
{
    uint8_t k = get_u8(&y->r);
    struct far *p = &y->far[k / 16 % PEERS];
    unsigned what = k % 16 % DOS;
    struct buf b = {0};
    switch (what) {
    case DO_MSG:
        send_msg(y, p);
        break;
    case DO_SNAPSHOT:
        send_snapshot(y, p);
        break;
    case DO_RAW_IN:
    case DO_RAW_OUT: {
        uint8_t type = get_u8(&y->r);
        put_bytes(&b, fuzz_bytes(&y->r));
        send(what == DO_RAW_IN ? p->to : p->from, type, &b);
        break;
    }
    case DO_PASS:
        fake_run(&y->f, fuzz_number(&y->r) % 1000 * NS_PER_MS);
        break;
    case DO_ACK:
    case DO_FETCH_RESP:
    case DO_FETCH:
    case DO_DIGEST:
        send_small(y, p, what);
        break;
    case DO_DIAL:
        dial(y, p);
        break;
    case DO_CUT:
        fake_cut_some(&y->f, addrs[k / 16 % 3], 100);
        break;
    case DO_PROPOSE:
    case DO_READ:
    case DO_PAYLOAD:
        ask(y, what);
        break;
    case DO_RESTART:
        restart(y, k & 16);
        break;
    }
    buf_free(&b);
    fake_run(&y->f, NS_PER_MS / 5);
    if (y->dead) restart(y, false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct play *y = xcalloc(1, sizeof *y);
    struct sim_disk_config dc = {.seed = 1, .op_ns_min = 10000, .op_ns_max = 10000, .wait_percent = 50};
    y->r = reader_of(slice_of(data, size));
    fake_init(&y->f, 1);
    y->disk = sim_disk_new(&y->f.clock, &dc);
    check(net_listen(&y->f.net, addrs[0], on_accept, y) == 0);
    for (unsigned i = 0; i < PEERS; i++) {
        y->far[i] = (struct far){.play = y, .at = i};
        check(net_listen(&y->f.net, addrs[i + 1], on_dialled, &y->far[i]) == 0);
    }
    check(start(y) == 0);
    for (unsigned i = 0; i < PEERS; i++) dial(y, &y->far[i]);
    fake_run(&y->f, 5 * NS_PER_MS);
    struct node_status st;
    node_status(y->node, &st);
    check(st.peers_connected == PEERS); /* else nothing that follows would get anywhere */
    while (fuzz_more(&y->r)) step(y);
    fake_run(&y->f, 3 * NS_PER_S);
    stop(y, false);
    for (unsigned i = 0; i < PEERS; i++) {
        if (y->far[i].to) conn_close(y->far[i].to);
        if (y->far[i].from) conn_close(y->far[i].from);
    }
    fake_run(&y->f, NS_PER_S);
    sim_disk_free(y->disk);
    fake_free(&y->f);
    free(y);
    return 0;
}

/* ---- seeds ---- */

static void put_msg(struct buf *b, unsigned peer, uint8_t type, uint8_t bits, const uint8_t numbers[6])
{
    put_u8(b, (uint8_t)(DO_MSG + 16 * peer));
    put_u8(b, (uint8_t)(type - 1));
    put_u8(b, bits);
    put_bytes(b, slice_of(numbers, 6));
}

/* n entries of term 1 behind `index`, all up to commit committed. */
static void put_append(struct buf *b, uint8_t index, uint8_t n, uint8_t commit)
{
    put_msg(b, 0, RAFT_MSG_APPEND, 0, (const uint8_t[]){1, index, index > 0, commit, (uint8_t)(index + n), 9});
    put_u8(b, n);
    for (uint8_t i = 0; i < n; i++) {
        put_u8(b, 1);
        put_u8(b, i % 2 ? RAFT_COMMAND | 64 : RAFT_COMMAND);
        if (i % 2) put_u16(b, 900);
        put_fuzz_bytes(b, slice_str("0123456789"));
    }
    put_u8(b, DO_PASS);
    put_u8(b, 3);
}

static void put_snapshot(struct buf *b, uint8_t index, uint8_t block, uint8_t blocks)
{
    put_u8(b, DO_SNAPSHOT);
    put_bytes(b, slice_of(((const uint8_t[]){1, index, 1, 7, block, blocks}), 6));
    put_fuzz_bytes(b, slice_str("a block"));
    put_u8(b, DO_PASS);
    put_u8(b, 2);
}

static void seed_follower(struct buf *b)
{
    for (unsigned peer = 0; peer < 2; peer++)
        put_msg(b, peer, RAFT_MSG_PROBE_RESP, 0, (const uint8_t[]){0, 0, 0, 0, 0, 0});
    put_msg(b, 0, RAFT_MSG_VOTE, 2, (const uint8_t[]){1, 0, 0, 0, 0, 0});
    for (uint8_t i = 0; i < 28; i += 4) put_append(b, i, 4, i);
    put_u8(b, DO_PAYLOAD);
    put_u8(b, 2);
    put_u8(b, DO_RESTART);
    put_u8(b, DO_DIAL);
    put_append(b, 28, 2, 28);
    put_snapshot(b, 40, 0, 2);
    put_snapshot(b, 40, 1, 2);
    for (unsigned i = 0; i < 3; i++) {
        put_u8(b, DO_FETCH_RESP);
        put_u8(b, 0);
        put_u8(b, 0);
        put_fuzz_bytes(b, slice_str("8 bytes."));
    }
    put_u8(b, DO_PASS);
    put_u8(b, 50);
    put_append(b, 40, 3, 42);
    put_u8(b, DO_DIGEST);
    put_u8(b, 0);
    put_u8(b, 0);
}

static void seed_leader(struct buf *b)
{
    put_u8(b, DO_PASS);
    put_bytes(b, slice_of("\xf0\x00\x02", 3));
    for (uint8_t term = 1; term < 4; term++) {
        for (uint8_t type = RAFT_MSG_PREVOTE_RESP; type <= RAFT_MSG_VOTE_RESP; type += 2)
            put_msg(b, 1, type, 0, (const uint8_t[]){term, 0, 0, 0, 0, 0});
    }
    for (uint8_t i = 0; i < 6; i++) {
        put_u8(b, DO_PROPOSE);
        put_u8(b, 200);
        put_u8(b, DO_READ);
        put_u8(b, 0);
        put_msg(b, 1, RAFT_MSG_APPEND_RESP, 0, (const uint8_t[]){1, i, 1, 0, i, 1});
        put_u8(b, DO_PASS);
        put_u8(b, 10);
    }
    put_u8(b, DO_ACK);
    put_bytes(b, slice_of("\4\1\0", 3));
    put_u8(b, DO_FETCH);
    put_bytes(b, slice_of("\1\2\0\x08", 4));
}

void fuzz_seeds(void (*emit)(struct slice seed))
{
    struct buf b = {0};
    seed_follower(&b);
    emit(buf_slice(&b));
    buf_clear(&b);
    seed_leader(&b);
    emit(buf_slice(&b));
    buf_free(&b);
}

/* What waits for the disk when a node is freed is left behind: a node is freed when its process ends. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:snap_pump\nleak:node__send\nleak:pull_more\nleak:range_push\nleak:node_payload\n";
}
