/* fuzz_server.c - a server and what may come from clients: frames of any type and bytes in any order, well-formed
 * operations and changes of members among them, connections that close, stand still or do not read, a leader that is deposed, a full disk,
 * payload that comes late or not at all. Afterwards the filesystem must not contradict itself, and nothing is left
 * over. */
#include <stdio.h>

#include "kv/server.h"
#include "tests/fuzz/fuzz_ops.h"
#include "tests/unit/kv/fake_node.h"

#define CLIENTS 3u

enum {
    DO_CALL,
    DO_RAW,
    DO_HELLO,
    DO_PASS,
    DO_DIAL,
    DO_CLOSE,
    DO_CUT,
    DO_FREEZE,
    DO_LEAD,
    DO_DISK,
    DO_LATE,
    DO_WATCH,
    DO_STOP,
    DO_ADMIN,
    DOS
};

struct far {
    struct play *play;
    struct conn *conn;
    bool open;
    uint64_t calls, session, seq;
    uint64_t open_call; /* the call that opens its session */
};

struct play {
    struct fake f;
    struct fake_cluster *c;
    struct kv_server *server;
    struct reader r;
    struct far far[CLIENTS];
    bool fatal;
};

/* ---- the clients' ends ---- */

static void far_open(struct conn *c) { ((struct far *)c->arg)->open = true; }

static void check_events(struct slice payload)
{
    struct kv__watching w;
    struct reader r;
    struct kv_event ev;
    check(kv__events_decode(payload, &w, &r) == 0);
    while (kv_event_next(&r, &ev)) check(ev.key.n > 0);
    check(!r.bad);
}

static void check_admin(struct slice payload)
{
    int status;
    uint64_t leader;
    char addr[ADDR_MAX];
    struct slice text;
    check(kv__admin_resp_decode(payload, &status, &leader, addr, &text) == 0 && text.n > 0);
}

static void far_frame(struct conn *c, uint8_t type, struct slice payload)
{
    struct far *p = c->arg;
    struct reader r = reader_of(payload);
    struct kv_reply reply;
    if (type == KV_FRAME_EVENTS) check_events(payload);
    if (type == KV_FRAME_ADMIN_RESP) check_admin(payload);
    if (type != KV_FRAME_REPLY) return;
    uint64_t id = get_u64(&r);
    enum kv_code code = (enum kv_code)get_u8(&r);
    check(!r.bad && kv_reply_decode(code, get_bytes(&r, reader_left(&r)), &reply) == 0);
    if (id == p->open_call && code == KV_SESSION_OPEN && reply.status >= 0) p->session = reply.off;
}

static void far_closed(struct conn *c, int err)
{
    struct far *p = c->arg;
    p->conn = NULL;
    p->open = false;
}

static const struct conn_cb far_cb = {.open = far_open, .frame = far_frame, .closed = far_closed};

static void send(struct far *p, uint8_t type, struct slice a, struct slice b)
{
    struct slice v[2] = {a, b};
    if (p->conn && p->open) conn_send(p->conn, type, v, 2);
}

static void send_hello(struct far *p)
{
    struct kv__hello h = {.version = KV_VERSION, .cluster = 4711, .session = p->session};
    struct buf b = {0};
    kv__hello_encode(&h, &b);
    send(p, KV_FRAME_HELLO, buf_slice(&b), (struct slice){0});
    buf_free(&b);
}

static void dial(struct play *y, struct far *p)
{
    if (p->conn) return;
    p->conn = net_dial(&y->f.net, "n1", &far_cb, p);
    fake_run(&y->f, NS_PER_MS);
    send_hello(p);
}

static void send_call(struct play *y, struct far *p)
{
    struct kv_op op;
    uint8_t *owned, step = get_u8(&y->r), head[KV_CALL_HEAD];
    struct buf bytes = {0};
    if (!fuzz_op(&y->r, &op, &owned)) return;
    struct kv__call call = {.id = ++p->calls, .flags = step >> 7, .session = p->session};
    if (op.code == KV_SESSION_OPEN)
        p->open_call = call.id;
    else if (kv_is_change(op.code))
        call.seq = step % 8 ? ++p->seq : step % 16 ? p->seq : fuzz_number(&y->r);
    call.floor = call.seq > 4 ? call.seq - 4 : call.seq;
    kv__call_encode(&call, head);
    kv_op_encode(&op, &bytes, NULL);
    send(p, KV_FRAME_CALL, slice_of(head, sizeof head), buf_slice(&bytes));
    buf_free(&bytes);
    free(owned);
}

static void send_watch(struct play *y, struct far *p, bool stop)
{
    struct kv__watching w = {.id = get_u8(&y->r) % 4};
    struct buf b = {0};
    if (stop) {
        put_u64(&b, w.id);
    } else {
        w.revision = fuzz_number(&y->r);
        w.position = get_u8(&y->r);
        w.flags = get_u8(&y->r) & KV_WATCH_PREFIX;
        w.key = fuzz_name(&y->r);
        kv__watch_encode(&w, &b);
    }
    send(p, stop ? KV_FRAME_WATCH_STOP : KV_FRAME_WATCH, buf_slice(&b), (struct slice){0});
    buf_free(&b);
}

static void send_admin(struct play *y, struct far *p)
{
    struct kv__admin_ask ask = {.what = 1 + get_u8(&y->r) % 5, .id = fuzz_number(&y->r), .wait_ms = get_u16(&y->r)};
    struct slice addr = fuzz_bytes(&y->r);
    struct buf b = {0};
    if (addr.n) memcpy(ask.addr, addr.p, min_u64(addr.n, ADDR_MAX - 1));
    kv__admin_encode(&ask, &b);
    send(p, KV_FRAME_ADMIN, buf_slice(&b), (struct slice){0});
    buf_free(&b);
}

static void step(struct play *y)
{
    uint8_t k = get_u8(&y->r);
    struct far *p = &y->far[k / 16 % CLIENTS];
    switch (k % 16 % DOS) {
    case DO_CALL:
        send_call(y, p);
        break;
    case DO_RAW: {
        uint8_t type = get_u8(&y->r);
        send(p, type, fuzz_many(&y->r), (struct slice){0});
        break;
    }
    case DO_HELLO:
        send_hello(p);
        break;
    case DO_PASS:
        fake_run(&y->f, fuzz_number(&y->r) % 4000 * NS_PER_MS);
        break;
    case DO_DIAL:
        dial(y, p);
        break;
    case DO_CLOSE:
        if (p->conn) conn_close(p->conn);
        break;
    case DO_CUT:
        if (p->conn) fake_cut(p->conn);
        break;
    case DO_FREEZE:
        if (p->conn) fake_freeze(p->conn, get_u8(&y->r) & 1);
        break;
    case DO_LEAD:
        fake_lead(y->c, get_u8(&y->r) & 1, get_u8(&y->r), 0);
        break;
    case DO_DISK:
        y->c->disk_full = get_u8(&y->r) & 1;
        break;
    case DO_WATCH:
    case DO_STOP:
        send_watch(y, p, k % 16 % DOS == DO_STOP);
        break;
    case DO_ADMIN:
        send_admin(y, p);
        break;
    case DO_LATE:
        y->c->payload_late = get_u8(&y->r) % 101;
        y->c->payload_gone = get_u8(&y->r) % 101;
        y->c->lease = y->c->payload_late & 1;
        y->c->refuse_changes = y->c->payload_gone % 3 ? 0 : y->c->payload_gone & 1 ? QE_BUSY : -EPERM;
        break;
    }
}

/* ---- */

static void on_fatal(void *arg, int err, const char *text) { ((struct play *)arg)->fatal = true; }

static void begin(struct play *y)
{
    fake_init(&y->f, 1);
    y->c = fake_cluster_new(&y->f);
    struct kv_server_config cfg = {.listen = "n1", .fatal = on_fatal, .fatal_arg = y};
    struct buf why = {0};
    cfg.node.id = cfg.node.nmembers = 1;
    cfg.node.members[0] = (struct raft_member){.id = 1, .addr = "n1"};
    check(kv_server_new(NULL, &y->f.net, &y->f.clock, &cfg, &y->server, &why) == 0);
    fake_run(&y->f, 10 * NS_PER_MS);
    fake_lead(y->c, 1, 0, 0);
    fake_run(&y->f, 10 * NS_PER_MS);
    for (unsigned i = 0; i < CLIENTS; i++) y->far[i].play = y;
}

static void end(struct play *y)
{
    struct buf why = {0};
    fake_run(&y->f, NS_PER_S);
    struct fs fs = {.map = kv_server_map(y->server)};
    check(!y->fatal); /* no client can make an entry that the store does not understand */
    if (fs_check(&fs, &why)) {
        fprintf(stderr, "%.*s\n", (int)why.n, (const char *)why.p);
        check(false);
    }
    buf_free(&why);
    for (unsigned i = 0; i < CLIENTS; i++)
        if (y->far[i].conn) conn_close(y->far[i].conn);
    fake_run(&y->f, NS_PER_MS);
    kv_server_free(y->server);
    fake_run(&y->f, 5 * NS_PER_S);
    fake_free(&y->f);
    fake_cluster_free(y->c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct play *y = xcalloc(1, sizeof *y);
    y->r = reader_of(slice_of(data, size));
    begin(y);
    while (fuzz_more(&y->r)) step(y);
    end(y);
    free(y);
    return 0;
}

/* ---- seeds ---- */

static void put_pass(struct buf *b, uint8_t ms)
{
    put_u8(b, DO_PASS);
    put_u8(b, ms);
}

static void put_call(struct buf *b, const struct kv_op *op)
{
    put_u8(b, DO_CALL);
    put_u8(b, 1);
    put_fuzz_op(b, op);
}

void fuzz_seeds(void (*emit)(struct slice seed))
{
    struct kv_op open = {.code = KV_SESSION_OPEN, .flags = 1, .len = 100, .off2 = 5, .name = slice_str("a")};
    size_t n;
    const struct kv_op *life = fuzz_life(&n);
    for (unsigned late = 0; late < 2; late++) {
        struct buf b = {0};
        put_u8(&b, DO_DIAL);
        put_u8(&b, DO_LATE);
        put_u16(&b, late ? 0x3264 : 1);
        put_call(&b, &open);
        put_pass(&b, 5);
        for (uint8_t id = 0; id < 3; id++) {
            put_u8(&b, DO_WATCH);
            put_u8(&b, id);
            put_fuzz_number(&b, id == 2);
            put_u8(&b, 0);
            put_u8(&b, id > 0);
            put_fuzz_name(&b, slice_str(id == 2 ? "" : "a"));
        }
        for (size_t i = 0; i < n; i++) {
            put_call(&b, &life[i]);
            if (i % 3 == 0) put_pass(&b, 3);
        }
        for (unsigned code = 1; code < 65; code++) {
            struct kv_op q = {.code = (enum kv_code)code, .ino = 2, .len = 100, .name = slice_str("a")};
            if (!kv__op_info(code) || kv_is_change(q.code)) continue;
            put_call(&b, &q);
        }
        put_pass(&b, 50);
        put_u8(&b, DO_STOP);
        put_u8(&b, 1);
        for (uint8_t what = KV_ADMIN_ADD; what <= KV_ADMIN_TRANSFER; what++) {
            put_u8(&b, DO_ADMIN);
            put_u8(&b, (uint8_t)(what - 1));
            put_fuzz_number(&b, 4);
            put_u16(&b, 100);
            put_fuzz_bytes(&b, slice_str("n4:1"));
            put_pass(&b, 30);
        }
        put_u8(&b, DO_LEAD);
        put_u16(&b, 0);
        put_call(&b, &life[0]);
        put_pass(&b, 50);
        put_u8(&b, DO_LEAD);
        put_u16(&b, 1);
        put_u8(&b, DO_RAW);
        put_u8(&b, KV_FRAME_STATUS);
        put_u16(&b, 0);
        put_pass(&b, 50);
        emit(buf_slice(&b));
        buf_free(&b);
    }
}
