/* fuzz_client.c - a client and what may come from servers: frames of any type and bytes in any order, well-formed
 * answers with contents of any kind among them, redirects in circles, connections that break. Every call is answered
 * exactly once, at the latest by its deadline. */
#include "kv/client.h"
#include "tests/fuzz/fuzz_ops.h"
#include "tests/unit/kv/fake.h"

#define CALLS   24u
#define SERVERS 2u
#define WATCHES 4u

enum {
    DO_CALL,
    DO_REPLY,
    DO_ACK,
    DO_RAW,
    DO_PASS,
    DO_REDIRECT,
    DO_REFUSE,
    DO_CUT,
    DO_CANCEL,
    DO_STATUS,
    DO_CLOSE,
    DO_WATCH,
    DO_UNWATCH,
    DO_EVENTS,
    DO_WATCH_END,
    DO_ADMIN,
    DO_ADMIN_RESP,
    DOS
};

static const char *const addrs[SERVERS] = {"s1", "s2"};

struct far {
    struct play *play;
    struct conn *conn;
};

struct one {
    struct kv_call call;
    struct play *play;
    bool busy;
    unsigned answers;
};

struct looker {
    struct kv_watch watch;
    bool on;
    uint64_t revision; /* of the last event: never back */
    uint32_t position;
};

struct play {
    struct fake f;
    struct reader r;
    struct kv_client *client;
    struct far far[16]; /* accepted connections, the newest of each place */
    unsigned nfar;
    struct one calls[CALLS];
    unsigned ncalls;
    uint64_t ids[64]; /* of calls that arrived */
    enum kv_code codes[64];
    unsigned nids;
    struct looker lookers[WATCHES];
    uint64_t watch_ids[16]; /* of WATCH frames that arrived */
    unsigned nwatch_ids;
    struct kv_status_call status;
    struct kv_admin_call admin;
    bool asking, changing, closing, closed;
};

/* ---- the servers' ends ---- */

static void far_frame(struct conn *c, uint8_t type, struct slice payload)
{
    struct play *y = ((struct far *)c->arg)->play;
    struct kv__call call;
    struct slice op;
    struct kv__hello h;
    struct kv__watching w;
    if (type == KV_FRAME_WATCH) {
        check(kv__watch_decode(payload, &w) == 0);
        y->watch_ids[y->nwatch_ids++ % 16] = w.id;
    }
    if (type == KV_FRAME_HELLO) check(kv__hello_decode(payload, &h) == 0);
    if (type != KV_FRAME_CALL) return;
    check(kv__call_decode(payload, &call, &op) == 0);
    unsigned k = y->nids++ % 64;
    y->ids[k] = call.id;
    y->codes[k] = (enum kv_code)op.p[0];
}

static void far_closed(struct conn *c, int err) { ((struct far *)c->arg)->conn = NULL; }
static const struct conn_cb far_cb = {.frame = far_frame, .closed = far_closed};

static void on_accept(void *arg, struct conn *c)
{
    struct play *y = arg;
    struct far *p = NULL;
    for (unsigned i = 0; i < 16 && !p; i++)
        if (!y->far[i].conn) p = &y->far[i];
    static struct far spare;
    spare.play = y;
    if (p) *p = (struct far){y, c};
    c->cb = &far_cb;
    c->arg = p ? p : &spare;
    if (!p) conn_close(c);
}

static void send_all(struct play *y, uint8_t type, struct slice v)
{
    for (unsigned i = 0; i < 16; i++)
        if (y->far[i].conn) conn_send(y->far[i].conn, type, &v, 1);
}

/* ---- the client's side ---- */

static void on_done(struct kv_call *call, const struct kv_reply *reply)
{
    struct one *o = call->arg;
    check(o->busy && ++o->answers == 1);
    o->busy = false;
    struct reader r = reader_of(reply->data);
    struct slice name;
    struct fs_attr attr;
    struct kv_statfs st;
    if (reply->status < 0) return;
    if (call->op.code == KV_READDIR || call->op.code == KV_LIST)
        while (kv_dirent_next(&r, &name, &attr)) check(name.n <= reply->data.n);
    if (call->op.code == KV_STATFS) (void)!kv_statfs_decode(reply->data, &st);
}

static void begin_call(struct play *y)
{
    struct kv_op op;
    uint8_t *owned;
    if (!fuzz_op(&y->r, &op, &owned)) return;
    if (y->ncalls < CALLS && !y->closing && op.code != KV_SESSION_OPEN && op.code != KV_SESSION_CLOSE) {
        struct one *o = &y->calls[y->ncalls++];
        *o = (struct one){.play = y, .busy = true};
        o->call = (struct kv_call){.op = op, .done = on_done, .arg = o, .deadline = y->f.now + 20 * NS_PER_S};
        kv_call(y->client, &o->call);
    }
    free(owned);
}

/* An answer to one of the calls that came: of its code or another, with the script's contents. */
static void send_reply(struct play *y)
{
    uint8_t which = get_u8(&y->r), how = get_u8(&y->r);
    unsigned have = y->nids < 64 ? y->nids : 64, k = have ? which % have : 0;
    struct buf b = {0};
    struct kv_reply reply = {.index = fuzz_number(&y->r)};
    enum kv_code code = how & 1 ? (enum kv_code)get_u8(&y->r) : y->codes[k];
    reply.status = how & 2 ? (int32_t)get_u32(&y->r) : how & 4 ? -(int32_t)get_u8(&y->r) - 1 : 0;
    reply.off = fuzz_number(&y->r);
    reply.attr = (struct fs_attr){.ino = reply.off, .mode = 0100644, .nlink = 1};
    reply.data = fuzz_many(&y->r);
    put_u64(&b, have ? y->ids[k] : which);
    put_u8(&b, (uint8_t)code);
    if (kv__op_info(code))
        kv_reply_encode(code, &reply, &b);
    else
        put_bytes(&b, reply.data);
    if (how & 8 && b.n > 9) b.n -= how % b.n; /* cut short */
    send_all(y, KV_FRAME_REPLY, buf_slice(&b));
    buf_free(&b);
}

static void send_ack(struct play *y)
{
    uint8_t how = get_u8(&y->r);
    struct kv__ack a = {.version = KV_VERSION,
                        .cluster = how & 8 ? get_u8(&y->r) : 7,
                        .node = 1 + (how & 1),
                        .leader = how >> 1 & 3,
                        .n = 2};
    struct buf b = {0};
    for (unsigned i = 0; i < 2; i++) {
        a.members[i].id = i + 1;
        memcpy(a.members[i].addr, addrs[i], 3);
    }
    kv__ack_encode(&a, &b);
    send_all(y, KV_FRAME_HELLO_ACK, buf_slice(&b));
    buf_free(&b);
}

static void send_redirect(struct play *y)
{
    uint8_t who = get_u8(&y->r);
    struct buf b = {0};
    struct slice odd = who >= 128 ? fuzz_bytes(&y->r) : slice_str(who % 3 ? addrs[who % SERVERS] : "");
    kv__redirect_encode(y->nids ? y->ids[(y->nids - 1) % 64] : 0, who % 3, odd, &b);
    send_all(y, KV_FRAME_REDIRECT, buf_slice(&b));
    buf_free(&b);
}

static void on_status(struct kv_status_call *call, int err, struct slice text)
{
    struct play *y = call->arg;
    check(y->asking);
    y->asking = false;
}

static void ask_status(struct play *y)
{
    if (y->asking) return;
    y->asking = true;
    y->status = (struct kv_status_call){.deadline = y->f.now + NS_PER_S, .done = on_status, .arg = y, .addr = "s2"};
    kv_status(&y->f.net, &y->f.clock, &y->status);
}

static void on_admin(struct kv_admin_call *call, int err, struct slice text)
{
    struct play *y = call->arg;
    check(y->changing && err <= 0 && strlen(call->leader_addr) < ADDR_MAX);
    y->changing = false;
}

static void ask_change(struct play *y)
{
    uint8_t what = get_u8(&y->r) % 4;
    if (y->changing) return;
    y->changing = true;
    y->admin = (struct kv_admin_call){.addr = "s1",
                                      .deadline = y->f.now + NS_PER_S,
                                      .what = KV_ADMIN_ADD + what,
                                      .id = 3,
                                      .member_addr = "s3",
                                      .done = on_admin,
                                      .arg = y};
    kv_admin(&y->f.net, &y->f.clock, &y->admin);
}

static void send_admin_resp(struct play *y)
{
    uint8_t status = get_u8(&y->r);
    uint64_t leader = fuzz_number(&y->r);
    char addr[300] = {0};
    struct slice s = fuzz_bytes(&y->r);
    struct buf b = {0};
    if (s.n) memcpy(addr, s.p, s.n);
    kv__admin_resp_encode(status == 255 ? 1 : -(int)status, leader, addr, "text", &b);
    send_all(y, KV_FRAME_ADMIN_RESP, buf_slice(&b));
    buf_free(&b);
}

static void cancel_one(struct play *y)
{
    uint8_t k = get_u8(&y->r);
    struct one *o = y->ncalls ? &y->calls[k % y->ncalls] : NULL;
    if (o && o->busy) kv_cancel(y->client, &o->call);
}

static void on_event(struct kv_watch *w, const struct kv_event *ev)
{
    struct looker *l = w->arg;
    check(l->on && (ev->revision > l->revision || (ev->revision == l->revision && ev->position >= l->position)));
    l->revision = ev->revision;
    l->position = ev->position;
}

static void on_ended(struct kv_watch *w, int err, uint64_t from, struct slice why)
{
    struct looker *l = w->arg;
    check(l->on && err < 0);
    l->on = false;
}

static void watch(struct play *y, bool on)
{
    struct looker *l = &y->lookers[get_u8(&y->r) % WATCHES];
    if (l->on && !on) {
        kv_watch_cancel(y->client, &l->watch);
        l->on = false;
    } else if (!l->on && on && !y->closing) {
        *l = (struct looker){.on = true};
        l->watch = (struct kv_watch){
            .prefix = get_u8(&y->r) & 1, .key = fuzz_name(&y->r), .event = on_event, .ended = on_ended, .arg = l};
        kv_watch(y->client, &l->watch);
    }
}

static void send_events(struct play *y, bool end)
{
    uint8_t k = get_u8(&y->r), head[KV_EVENTS_HEAD];
    struct kv__watching w = {.id = y->nwatch_ids ? y->watch_ids[k % (y->nwatch_ids < 16 ? y->nwatch_ids : 16)] : k};
    struct buf b = {0};
    w.revision = fuzz_number(&y->r);
    w.position = get_u8(&y->r);
    if (end) {
        kv__watch_end_encode(w.id, k & 1 ? QE_GONE : -EIO, w.revision, "over", &b);
        send_all(y, KV_FRAME_WATCH_END, buf_slice(&b));
        buf_free(&b);
        return;
    }
    kv__events_encode(&w, head);
    put_bytes(&b, slice_of(head, sizeof head));
    for (unsigned i = 0; i < k % 4u; i++) {
        put_u64(&b, fuzz_number(&y->r));
        put_u32(&b, get_u8(&y->r));
        uint8_t type = get_u8(&y->r) % 3;
        put_u8(&b, type);
        put_slice16(&b, fuzz_name(&y->r));
        for (unsigned f = 0; type == KV_EVENT_PUT && f < 3; f++) put_u64(&b, f);
    }
    put_bytes(&b, fuzz_bytes(&y->r));
    send_all(y, KV_FRAME_EVENTS, buf_slice(&b));
    buf_free(&b);
}

static void on_closed(void *arg) { ((struct play *)arg)->closed = true; }

static void begin_close(struct play *y)
{
    if (y->closing) return;
    y->closing = true;
    kv_client_close(y->client, y->f.now + 10 * NS_PER_S, on_closed, y);
}

static void send_refused(struct play *y)
{
    struct buf b = {0};
    put_u32(&b, (uint32_t) - (int32_t)get_u8(&y->r));
    put_slice16(&b, fuzz_bytes(&y->r));
    send_all(y, KV_FRAME_REFUSED, buf_slice(&b));
    buf_free(&b);
}

static void step(struct play *y)
{
    switch (get_u8(&y->r) % DOS) {
    case DO_CALL:
        begin_call(y);
        break;
    case DO_REPLY:
        send_reply(y);
        break;
    case DO_ACK:
        send_ack(y);
        break;
    case DO_RAW: {
        uint8_t type = get_u8(&y->r);
        send_all(y, type, fuzz_many(&y->r));
        break;
    }
    case DO_PASS:
        fake_run(&y->f, fuzz_number(&y->r) % 3000 * NS_PER_MS);
        break;
    case DO_REDIRECT:
        send_redirect(y);
        break;
    case DO_REFUSE:
        send_refused(y);
        break;
    case DO_CUT:
        fake_cut_addr(&y->f, addrs[get_u8(&y->r) % SERVERS]);
        break;
    case DO_CANCEL:
        cancel_one(y);
        break;
    case DO_STATUS:
        ask_status(y);
        break;
    case DO_CLOSE:
        begin_close(y);
        break;
    case DO_WATCH:
        watch(y, true);
        break;
    case DO_UNWATCH:
        watch(y, false);
        break;
    case DO_EVENTS:
        send_events(y, false);
        break;
    case DO_WATCH_END:
        send_events(y, true);
        break;
    case DO_ADMIN:
        ask_change(y);
        break;
    case DO_ADMIN_RESP:
        send_admin_resp(y);
        break;
    }
    fake_run(&y->f, NS_PER_MS / 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct play *y = xcalloc(1, sizeof *y);
    struct kv_client_config cfg = {.addrs = addrs, .naddrs = SERVERS, .name = "fuzz", .seed = 1};
    y->r = reader_of(slice_of(data, size));
    fake_init(&y->f, 1);
    for (unsigned i = 0; i < SERVERS; i++) net_listen(&y->f.net, addrs[i], on_accept, y);
    cfg.mount = size & 1;
    y->client = kv_client_new(&y->f.net, &y->f.clock, &cfg);
    while (fuzz_more(&y->r)) step(y);
    fake_run(&y->f, 30 * NS_PER_S);
    for (unsigned i = 0; i < y->ncalls; i++) check(!y->calls[i].busy && y->calls[i].answers == 1);
    check(!y->asking && !y->changing && (!y->closing || y->closed));
    kv_client_free(y->client);
    for (unsigned i = 0; i < 16; i++)
        if (y->far[i].conn) conn_close(y->far[i].conn);
    fake_run(&y->f, NS_PER_S);
    fake_free(&y->f);
    free(y);
    return 0;
}

/* ---- seeds ---- */

static void put_answer(struct buf *b, uint8_t which, uint64_t off, struct slice data)
{
    put_u8(b, DO_REPLY);
    put_u8(b, which);
    put_u8(b, 0);
    put_fuzz_number(b, 9);
    put_fuzz_number(b, off);
    put_slice16(b, data);
}

void fuzz_seeds(void (*emit)(struct slice seed))
{
    struct buf b = {0}, dirents = {0};
    struct fs_attr attr = {.ino = 5, .mode = 0100644};
    kv__dirent_encode(slice_str("a"), &attr, &dirents);
    size_t n;
    const struct kv_op *life = fuzz_life(&n);
    struct kv_op list = {.code = KV_READDIR, .ino = 1, .len = 100};
    put_u8(&b, DO_CALL);
    put_fuzz_op(&b, &life[0]);
    put_u8(&b, DO_ACK);
    put_u8(&b, 2);                              /* node 1, which leads */
    put_answer(&b, 0, 1024, (struct slice){0}); /* the session */
    put_answer(&b, 1, 1, (struct slice){0});
    put_u8(&b, DO_CALL);
    put_fuzz_op(&b, &list);
    put_answer(&b, 2, 1, buf_slice(&dirents));
    put_u8(&b, DO_REDIRECT);
    put_u8(&b, 1);
    put_u8(&b, DO_PASS);
    put_u8(&b, 100);
    put_u8(&b, DO_CALL);
    put_fuzz_op(&b, &life[5]);
    put_u8(&b, DO_ACK);
    put_u8(&b, 2);
    for (uint8_t i = 0; i < 2; i++) {
        put_u8(&b, DO_WATCH);
        put_u8(&b, i);
        put_u8(&b, i);
        put_fuzz_name(&b, slice_str("a"));
        put_u8(&b, DO_EVENTS);
        put_u8(&b, i + 1);
        put_fuzz_number(&b, 10);
        put_u8(&b, 3);
        for (uint8_t k = 0; k <= i; k++) {
            put_fuzz_number(&b, 5 + k);
            put_u8(&b, 0);
            put_u8(&b, 1 + k);
            put_fuzz_name(&b, slice_str("a"));
        }
        put_u8(&b, 0);
    }
    put_u8(&b, DO_WATCH_END);
    put_u8(&b, 1);
    put_fuzz_number(&b, 12);
    put_u8(&b, 0);
    put_u8(&b, DO_UNWATCH);
    put_u8(&b, 0);
    put_u8(&b, DO_STATUS);
    put_u8(&b, DO_RAW);
    put_u8(&b, KV_FRAME_STATUS_RESP);
    put_slice16(&b, slice_str("role leader\n"));
    put_u8(&b, DO_ADMIN);
    put_u8(&b, 0);
    put_u8(&b, DO_ADMIN_RESP);
    put_u8(&b, 0);
    put_fuzz_number(&b, 2);
    put_fuzz_bytes(&b, slice_str("s2"));
    put_u8(&b, DO_REFUSE);
    put_u8(&b, 200);
    put_fuzz_bytes(&b, slice_str("no"));
    put_u8(&b, DO_CUT);
    put_u8(&b, 0);
    put_u8(&b, DO_CANCEL);
    put_u8(&b, 0);
    put_u8(&b, DO_CLOSE);
    emit(buf_slice(&b));
    buf_free(&b);
    buf_free(&dirents);
}
