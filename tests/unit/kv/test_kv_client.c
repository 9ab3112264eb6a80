/* The client against servers that follow a script: changing leaders, lost answers, silence, refusals, nonsense. The
 * servers execute each (session, seq) once and remember every change they saw, in order. */
#include "rig.h"

#include <stdio.h>

#include "fake.h"
#include "kv/client.h"

#define MS NS_PER_MS
#define S NS_PER_S
#define SEEN_MAX 20000

static const char *const ADDR[] = {"", "s1", "s2", "s3"};

struct server {
    struct world *w;
    uint64_t id;
    struct conn *conns[64];
    unsigned nconns, hellos, calls, queries;
    uint64_t hint;                      /* whom it names as leader; 0: unknown */
    bool mute;                          /* takes frames and says nothing */
    bool hold;                          /* answers greetings, but no calls */
    int refuse;                         /* greeting: this error */
    unsigned cut_before_reply;          /* that many changes are executed and then the connection breaks */
    unsigned busy;                      /* that many changes get QE_BUSY */
    uint64_t cluster;
    bool nonsense;
    struct { struct conn *conn; uint64_t id; enum kv_code code; int32_t status; uint64_t off; } held[4096];
    unsigned nheld;
};

struct world {
    struct fake f;
    struct server s[4];
    struct { uint64_t session, seq, floor; enum kv_code code; bool resent, done; } seen[SEEN_MAX];
    unsigned nseen, executed;
    uint64_t sessions, alive, nonce;    /* the only session that is accepted; the last one's nonce */
    unsigned opens, keeps, closes, max_unanswered, lost, owed;
    uint64_t owed_count;
};

/* ---- the servers ---- */

static void send_buf(struct conn *c, uint8_t type, struct buf *b)
{
    struct slice v = buf_slice(b);
    conn_send(c, type, &v, 1);
    buf_free(b);
}

static void send_ack(struct server *s, struct conn *c)
{
    struct kv__ack a = {.version = KV_VERSION, .cluster = s->cluster, .node = s->id, .leader = s->hint, .n = 3};
    for (uint64_t i = 1; i <= 3; i++) {
        a.members[i - 1].id = i;
        memcpy(a.members[i - 1].addr, ADDR[i], 3);
    }
    struct buf b = {0};
    kv__ack_encode(&a, &b);
    send_buf(c, KV_FRAME_HELLO_ACK, &b);
}

static void send_reply(struct conn *c, uint64_t id, enum kv_code code, int32_t status, uint64_t off)
{
    struct buf b = {0};
    struct kv_reply r = {.status = status, .off = off, .index = 7};
    put_u64(&b, id);
    put_u8(&b, (uint8_t)code);
    kv_reply_encode(code, &r, &b);
    send_buf(c, KV_FRAME_REPLY, &b);
}

static void redirect(struct server *s, struct conn *c, uint64_t id)
{
    struct buf b = {0};
    kv__redirect_encode(id, s->hint, slice_str(ADDR[s->hint]), &b);
    send_buf(c, KV_FRAME_REDIRECT, &b);
}

static int32_t execute(struct world *w, const struct kv__call *call, const struct kv_op *op, uint64_t *off)
{
    *off = 0;
    if (op->code == KV_SESSION_OPEN) {
        w->opens++;
        if (op->off2 != w->nonce || !w->alive) w->alive = ++w->sessions * 1000;
        w->nonce = op->off2;
        *off = w->alive;
        return 0;
    }
    if (call->session != w->alive) return QE_SESSION;
    bool again = false;
    for (unsigned i = w->nseen > 3000 ? w->nseen - 3000 : 0; i < w->nseen; i++)
        if (w->seen[i].session == call->session && w->seen[i].seq == call->seq && w->seen[i].done) again = true;
    assert_true(w->nseen < SEEN_MAX);
    w->seen[w->nseen].session = call->session;
    w->seen[w->nseen].seq = call->seq;
    w->seen[w->nseen].floor = call->floor;
    w->seen[w->nseen].code = op->code;
    w->seen[w->nseen].resent = call->flags & KV_CALL_RESENT;
    w->seen[w->nseen++].done = true;
    assert_true(call->floor >= 1 && call->seq < call->floor + KV_WINDOW);
    if (!again) w->executed++;
    if (op->code == KV_SESSION_KEEP) {
        w->keeps++;
        *off = w->owed_count;
    }
    if (op->code == KV_SESSION_CLOSE) w->closes++;
    return 0;
}

static void on_call(struct server *s, struct conn *c, struct slice payload)
{
    struct kv__call call;
    struct kv_op op;
    struct slice bytes;
    assert_int_equal(kv__call_decode(payload, &call, &bytes), 0);
    assert_int_equal(kv_op_decode(bytes, &op), 0);
    s->calls++;
    if (s->hint != s->id) {
        redirect(s, c, call.id);
        return;
    }
    if (!kv_is_change(op.code)) s->queries++;
    uint64_t off = 0;
    int32_t status = 0;
    if (kv_is_change(op.code) && s->busy && op.code != KV_SESSION_OPEN) {
        s->busy--;
        status = QE_BUSY;
    } else if (kv_is_change(op.code)) {
        status = execute(s->w, &call, &op, &off);
        if (s->cut_before_reply && op.code != KV_SESSION_OPEN) {
            s->cut_before_reply--;
            fake_cut(c);
            return;
        }
    }
    if (s->hold && op.code != KV_SESSION_OPEN) {
        assert_true(s->nheld < 4096);
        s->held[s->nheld].conn = c;
        s->held[s->nheld].id = call.id;
        s->held[s->nheld].code = op.code;
        s->held[s->nheld].off = off;
        s->held[s->nheld++].status = status;
        if (s->nheld > s->w->max_unanswered) s->w->max_unanswered = s->nheld;
    } else {
        send_reply(c, call.id, op.code, status, off);
    }
}

static void on_frame(struct conn *c, uint8_t type, struct slice payload)
{
    struct server *s = c->arg;
    struct buf b = {0};
    if (s->mute) return;
    if (s->nonsense && !prng_chance(&s->w->f.rng, 30)) {
        uint8_t junk[60];
        random_bytes(&s->w->f.rng, junk, sizeof junk);
        buf_append(&b, junk, prng_below(&s->w->f.rng, sizeof junk));
        send_buf(c, (uint8_t)prng_between(&s->w->f.rng, 60, 75), &b);
        return;
    }
    switch (type) {
    case KV_FRAME_HELLO:
        s->hellos++;
        if (s->refuse) {
            kv__refused_encode(s->refuse, "no", &b);
            send_buf(c, KV_FRAME_REFUSED, &b);
            conn_close(c);
        } else {
            send_ack(s, c);
        }
        break;
    case KV_FRAME_STATUS:
        buf_append(&b, "id 1\n", 5);
        send_buf(c, KV_FRAME_STATUS_RESP, &b);
        break;
    default: on_call(s, c, payload); break;
    }
}

static void on_closed(struct conn *c, int err)
{
    struct server *s = c->arg;
    for (unsigned i = 0; i < s->nconns; i++)
        if (s->conns[i] == c) s->conns[i] = s->conns[--s->nconns];
    for (unsigned i = 0; i < s->nheld;)
        if (s->held[i].conn == c) s->held[i] = s->held[--s->nheld];
        else i++;
}

static const struct conn_cb server_cb = {.frame = on_frame, .closed = on_closed};

static void on_accept(void *arg, struct conn *c)
{
    struct server *s = arg;
    c->cb = &server_cb;
    c->arg = s;
    assert_true(s->nconns < 64);
    s->conns[s->nconns++] = c;
}

/* Answers what is held, in any order. */
static void release(struct server *s)
{
    s->hold = false;
    while (s->nheld) {
        unsigned i = (unsigned)prng_below(&s->w->f.rng, s->nheld);
        send_reply(s->held[i].conn, s->held[i].id, s->held[i].code, s->held[i].status, s->held[i].off);
        s->held[i] = s->held[--s->nheld];
    }
}

static void lead(struct world *w, uint64_t id)
{
    for (uint64_t i = 1; i <= 3; i++) w->s[i].hint = id;
}

static struct world *world_new(uint64_t seed)
{
    struct world *w = xcalloc(1, sizeof *w);
    fake_init(&w->f, seed);
    for (uint64_t id = 1; id <= 3; id++) {
        w->s[id].w = w;
        w->s[id].id = id;
        w->s[id].cluster = 4711;
        net_listen(&w->f.net, ADDR[id], on_accept, &w->s[id]);
    }
    lead(w, 1);
    return w;
}

static void world_free(struct world *w)
{
    fake_run(&w->f, 10 * S);
    for (uint64_t id = 1; id <= 3; id++) assert_int_equal(w->s[id].nconns, 0);      /* the client left nothing open */
    fake_free(&w->f);
    free(w);
}

/* ---- the client and its calls ---- */

static void on_lost(void *arg) { ((struct world *)arg)->lost++; }
static void on_owed(void *arg) { ((struct world *)arg)->owed++; }

static struct kv_client *client_of(struct world *w, bool mount, uint32_t ttl_ms)
{
    struct kv_client_config cfg = {.addrs = ADDR + 1, .naddrs = 3, .name = "a test", .mount = mount, .ttl_ms = ttl_ms,
                                   .seed = prng_u64(&w->f.rng), .session_lost = on_lost, .owed = on_owed, .arg = w};
    return kv_client_new(&w->f.net, &w->f.clock, &cfg);
}

static struct kv_client *client(struct world *w) { return client_of(w, false, 0); }

struct one {
    struct kv_call call;
    struct world *w;
    unsigned done;
    int32_t status;
    uint64_t at;
};

static void one_done(struct kv_call *call, const struct kv_reply *reply)
{
    struct one *o = call->arg;
    o->done++;
    o->status = reply->status;
    o->at = o->w->f.now;
}

static const struct kv_op APPEND = {
    .code = KV_APPEND, .name = {(const uint8_t *)"k", 1}, .data = {(const uint8_t *)"x", 1}};
static const struct kv_op GET = {.code = KV_GETATTR, .ino = 1};

static void start(struct world *w, struct kv_client *c, struct one *o, struct kv_op op, uint64_t deadline)
{
    *o = (struct one){.w = w, .call = {.op = op, .deadline = deadline, .done = one_done, .arg = o}};
    kv_call(c, &o->call);
}

static bool is_done(void *arg) { return ((struct one *)arg)->done; }

static int32_t wait_for(struct world *w, struct one *o)
{
    assert_true(fake_until(&w->f, is_done, o, 30 * S));
    assert_int_equal(o->done, 1);
    return o->status;
}

static int32_t run(struct world *w, struct kv_client *c, struct kv_op op)
{
    struct one o;
    start(w, c, &o, op, 0);
    assert_int_equal(o.done, 0);
    return wait_for(w, &o);
}

/* ---- finding the leader ---- */

static void finds_the_leader(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world *w = world_new(seed);
        lead(w, 1 + seed % 3);
        struct kv_client *c = client(w);
        fake_run(&w->f, 1 * S);
        assert_int_equal(w->f.dials, 0);            /* nothing to do, nothing dialled */
        uint64_t before = w->f.now;
        assert_int_equal(run(w, c, GET), 0);
        assert_true(w->f.dials <= 2);
        assert_true(w->f.now - before < 2 * MS);
        assert_int_equal(w->opens, 0);
        assert_int_equal(run(w, c, APPEND), 0);
        assert_int_equal(w->opens, 1);
        assert_true(kv_client_session(c) == w->alive);
        kv_client_free(c);
        world_free(w);
    }
}

static void follows_the_leader(void **state)
{
    struct world *w = world_new(3);
    struct kv_client *c = client(w);
    for (unsigned i = 0; i < 60; i++) {
        lead(w, 1 + i % 3);
        uint64_t before = w->f.now;
        assert_int_equal(run(w, c, APPEND), 0);
        assert_true(w->f.now - before < 2 * MS);
    }
    assert_int_equal(w->executed, 60);
    assert_int_equal(w->opens, 1);
    kv_client_free(c);
    world_free(w);
}

/* Nobody leads for a while: asked for again and again, not like a storm; found soon after there is one. */
static void waits_for_a_leader(void **state)
{
    struct world *w = world_new(4);
    lead(w, 0);
    struct kv_client *c = client(w);
    struct one o;
    start(w, c, &o, APPEND, 0);
    fake_run(&w->f, 10 * S);
    assert_int_equal(o.done, 0);
    assert_true(w->f.dials > 15 && w->f.dials < 120);
    lead(w, 2);
    uint64_t before = w->f.now;
    assert_int_equal(wait_for(w, &o), 0);
    assert_true(w->f.now - before < 510 * MS);
    kv_client_free(c);
    world_free(w);
}

static void nodes_that_point_at_each_other(void **state)
{
    struct world *w = world_new(5);
    w->s[1].hint = 2;
    w->s[2].hint = 3;
    w->s[3].hint = 1;
    struct kv_client *c = client(w);
    struct one o;
    start(w, c, &o, GET, 0);
    fake_run(&w->f, 10 * S);
    assert_true(w->f.dials > 15 && w->f.dials < 120);
    lead(w, 3);
    assert_int_equal(wait_for(w, &o), 0);
    kv_client_free(c);
    world_free(w);
}

static void all_nodes_down(void **state)
{
    struct world *w = world_new(6);
    for (uint64_t id = 1; id <= 3; id++) fake_listener(&w->f, ADDR[id])->up = false;
    struct kv_client *c = client(w);
    struct one o;
    start(w, c, &o, GET, 0);
    fake_run(&w->f, 10 * S);
    assert_int_equal(o.done, 0);
    assert_true(w->f.dials > 15 && w->f.dials < 120);
    for (uint64_t id = 1; id <= 3; id++) fake_listener(&w->f, ADDR[id])->up = true;
    assert_int_equal(wait_for(w, &o), 0);
    kv_client_free(c);
    world_free(w);
}

/* Only one address is given: the others are learned from it. */
static void learns_the_members(void **state)
{
    struct world *w = world_new(7);
    const char *first = "s2";
    struct kv_client_config cfg = {.addrs = &first, .naddrs = 1, .seed = 1};
    struct kv_client *c = kv_client_new(&w->f.net, &w->f.clock, &cfg);
    lead(w, 2);
    assert_int_equal(run(w, c, GET), 0);
    fake_listener(&w->f, "s2")->up = false;
    fake_cut_addr(&w->f, "s2");
    lead(w, 3);
    assert_int_equal(run(w, c, APPEND), 0);
    kv_client_free(c);
    world_free(w);
}

static void refused(void **state)
{
    struct world *w = world_new(8);
    lead(w, 2);
    w->s[1].refuse = w->s[3].refuse = QE_BUSY;
    struct kv_client *c = client(w);
    assert_int_equal(run(w, c, APPEND), 0);
    w->s[2].refuse = QE_BUSY;
    fake_cut_addr(&w->f, "s2");
    struct one o;
    start(w, c, &o, APPEND, 0);
    fake_run(&w->f, 5 * S);
    assert_int_equal(o.done, 0);
    assert_true(w->f.dials < 60);
    w->s[2].refuse = 0;
    assert_int_equal(wait_for(w, &o), 0);
    kv_client_free(c);
    world_free(w);
}

static void another_cluster(void **state)
{
    struct world *w = world_new(9);
    struct kv_client *c = client(w);
    assert_int_equal(run(w, c, APPEND), 0);
    w->s[2].cluster = 999;
    lead(w, 2);
    struct one o;
    start(w, c, &o, APPEND, 0);
    fake_run(&w->f, 3 * S);
    assert_int_equal(o.done, 0);
    assert_int_equal(w->s[2].calls, 0);         /* nothing is asked of a foreign node */
    w->s[2].cluster = 4711;
    assert_int_equal(wait_for(w, &o), 0);
    kv_client_free(c);
    world_free(w);
}

/* ---- answers that get lost ---- */

static void lost_answers(void **state)
{
    struct world *w = world_new(10);
    struct kv_client *c = client(w);
    assert_int_equal(run(w, c, APPEND), 0);
    for (unsigned i = 0; i < 20; i++) {
        unsigned before = w->executed;
        w->s[1].cut_before_reply = 1 + i % 3;
        assert_int_equal(run(w, c, APPEND), 0);
        assert_int_equal(w->executed, before + 1);
        assert_true(w->seen[w->nseen - 1].resent);
        assert_int_equal(w->seen[w->nseen - 1].seq, w->seen[w->nseen - 2].seq);
    }
    kv_client_free(c);
    world_free(w);
}

static void lost_opening(void **state)
{
    struct world *w = world_new(11);
    struct kv_client *c = client(w);
    struct one o;
    w->s[1].mute = true;
    start(w, c, &o, APPEND, 0);
    fake_run(&w->f, 500 * MS);
    w->s[1].mute = false;
    fake_cut_addr(&w->f, "s1");
    assert_int_equal(wait_for(w, &o), 0);
    uint64_t nonce = w->nonce;
    assert_int_equal(w->sessions, 1);
    fake_cut_addr(&w->f, "s1");
    assert_int_equal(run(w, c, APPEND), 0);
    assert_int_equal(w->nonce, nonce);
    assert_int_equal(w->opens, 1);
    kv_client_free(c);
    world_free(w);
}

/* Many calls under way, connections break all the time: all are executed once, and first executed in order. */
static void order_and_once(void **state)
{
    struct world *w = world_new(12);
    struct kv_client *c = client(w);
    static struct one o[3000];
    for (unsigned i = 0; i < 3000; i++) start(w, c, &o[i], APPEND, 0);
    struct prng r;
    prng_seed(&r, 1);
    for (unsigned i = 0; i < 60; i++) {
        fake_run(&w->f, prng_below(&r, 3) * MS);
        if (prng_chance(&r, 30)) lead(w, prng_between(&r, 1, 3));
        if (prng_chance(&r, 30)) fake_cut_addr(&w->f, ADDR[prng_between(&r, 1, 3)]);
        if (prng_chance(&r, 30)) w->s[prng_between(&r, 1, 3)].cut_before_reply = 3;
        if (prng_chance(&r, 30)) w->s[prng_between(&r, 1, 3)].hold = true;
        if (prng_chance(&r, 50))
            for (uint64_t id = 1; id <= 3; id++) release(&w->s[id]);
    }
    for (uint64_t id = 1; id <= 3; id++) release(&w->s[id]);
    fake_run(&w->f, 5 * S);
    for (unsigned i = 0; i < 3000; i++) assert_true(o[i].done == 1 && o[i].status == 0);
    assert_int_equal(w->executed, 3000);
    uint64_t high = 0, floor = 0;
    for (unsigned i = 0; i < w->nseen; i++) {
        assert_true(w->seen[i].seq <= high + 1);        /* no number before its predecessor */
        if (w->seen[i].seq > high) high = w->seen[i].seq;
        assert_true(w->seen[i].floor >= floor && w->seen[i].floor <= w->seen[i].seq);
        floor = w->seen[i].floor;
    }
    kv_client_free(c);
    world_free(w);
}

static void window(void **state)
{
    struct world *w = world_new(13);
    struct kv_client *c = client(w);
    static struct one o[2500];
    w->s[1].hold = true;
    for (unsigned i = 0; i < 2500; i++) start(w, c, &o[i], APPEND, 0);
    fake_run(&w->f, 100 * MS);
    assert_int_equal(w->s[1].nheld, KV_WINDOW);
    struct one q;
    w->s[1].hold = false;
    start(w, c, &q, GET, 0);
    assert_int_equal(wait_for(w, &q), 0);               /* queries need not wait for the window */
    release(&w->s[1]);
    fake_run(&w->f, 1 * S);
    for (unsigned i = 0; i < 2500; i++) assert_int_equal(o[i].done, 1);
    assert_int_equal(w->executed, 2500);
    assert_int_equal(w->max_unanswered, KV_WINDOW);
    assert_int_equal(run(w, c, APPEND), 0);
    assert_int_equal(w->seen[w->nseen - 1].floor, w->seen[w->nseen - 1].seq);
    kv_client_free(c);
    world_free(w);
}

static void busy_server(void **state)
{
    struct world *w = world_new(14);
    struct kv_client *c = client(w);
    assert_int_equal(run(w, c, APPEND), 0);
    w->s[1].busy = 5;
    struct one o[10];
    for (unsigned i = 0; i < 10; i++) start(w, c, &o[i], APPEND, 0);
    fake_run(&w->f, 5 * S);
    for (unsigned i = 0; i < 10; i++) assert_true(o[i].done == 1 && o[i].status == 0);
    assert_int_equal(w->executed, 11);
    kv_client_free(c);
    world_free(w);
}

/* ---- silence ---- */

static void leaves_a_silent_leader(void **state)
{
    for (uint64_t seed = 20; seed < 30; seed++) {
        struct world *w = world_new(seed);
        struct kv_client *c = client(w);
        assert_int_equal(run(w, c, APPEND), 0);
        fake_run(&w->f, 15 * S);
        fake_freeze_addr(&w->f, "s1", true);            /* stands still, with its connections up */
        lead(w, 2);
        struct one o;
        uint64_t before = w->f.now;
        start(w, c, &o, APPEND, 0);
        assert_int_equal(wait_for(w, &o), 0);
        assert_true(w->f.now - before >= 2 * S && w->f.now - before < 3500 * MS);
        assert_int_equal(w->executed, 2);
        fake_freeze_addr(&w->f, "s1", false);
        kv_client_free(c);
        world_free(w);
    }
}

/* The others name a dead or standing leader until they have elected a new one: that is found fast all the same. */
static void finds_the_next_leader_fast(void **state)
{
    uint64_t worst = 0;
    for (uint64_t seed = 400; seed < 440; seed++) {
        struct world *w = world_new(seed);
        struct kv_client *c = client(w);
        assert_int_equal(run(w, c, APPEND), 0);
        bool stands = seed % 2;
        if (stands) fake_freeze_addr(&w->f, "s1", true);
        else fake_listener(&w->f, "s1")->up = false;
        if (!stands) fake_cut_addr(&w->f, "s1");
        struct one o;
        start(w, c, &o, APPEND, 0);
        fake_run(&w->f, 500 * MS);                          /* an election */
        assert_int_equal(o.done, 0);
        lead(w, 3);
        uint64_t before = w->f.now + (stands ? 1500 * MS : 0);      /* that it stands is seen after two seconds */
        assert_int_equal(wait_for(w, &o), 0);
        worst = max_u64(worst, w->f.now - before);
        if (stands) fake_freeze_addr(&w->f, "s1", false);
        kv_client_free(c);
        world_free(w);
    }
    assert_true(worst < 400 * MS);
}

static void stays_with_a_slow_leader(void **state)
{
    struct world *w = world_new(30);
    struct kv_client *c = client(w);
    assert_int_equal(run(w, c, APPEND), 0);
    uint64_t dials = w->f.dials;
    w->s[1].hold = true;
    struct one o;
    unsigned hellos = w->s[1].hellos;
    start(w, c, &o, APPEND, 0);
    fake_run(&w->f, 14 * S);
    assert_int_equal(w->f.dials, dials);                /* it answers the pings */
    assert_true(w->s[1].hellos - hellos > 5 && w->s[1].hellos - hellos < 15);
    fake_run(&w->f, 120 * S);                           /* patience has an end, and grows */
    assert_in_range(w->f.dials - dials, 3, 4);
    release(&w->s[1]);
    assert_int_equal(wait_for(w, &o), 0);
    fake_run(&w->f, 5 * S);
    hellos = w->s[1].hellos;
    fake_run(&w->f, 100 * S);                           /* idle: no pings */
    assert_int_equal(w->s[1].hellos, hellos);
    kv_client_free(c);
    world_free(w);
}

/* A ping finds out that the node no longer leads. */
static void ping_tells_of_another_leader(void **state)
{
    struct world *w = world_new(31);
    struct kv_client *c = client(w);
    assert_int_equal(run(w, c, APPEND), 0);
    w->s[1].hold = true;
    struct one o;
    start(w, c, &o, APPEND, 0);
    fake_run(&w->f, 100 * MS);
    lead(w, 3);
    assert_int_equal(wait_for(w, &o), 0);
    assert_int_equal(w->executed, 2);
    assert_true(w->s[3].calls > 0);
    kv_client_free(c);
    world_free(w);
}

static void dials_that_hang(void **state)
{
    for (uint64_t seed = 40; seed < 50; seed++) {
        struct world *w = world_new(seed);
        fake_listener(&w->f, "s1")->silent = fake_listener(&w->f, "s3")->silent = true;
        lead(w, 2);
        struct kv_client *c = client(w);
        uint64_t before = w->f.now;
        assert_int_equal(run(w, c, GET), 0);
        assert_true(w->f.now - before < 2500 * MS);
        kv_client_free(c);
        world_free(w);
    }
}

/* ---- deadlines and cancelling ---- */

static void deadlines(void **state)
{
    struct world *w = world_new(50);
    struct kv_client *c = client(w);
    assert_int_equal(run(w, c, APPEND), 0);
    w->s[1].hold = true;
    struct one a, b, q;
    uint64_t now = w->f.now;
    start(w, c, &a, APPEND, now + 50 * MS);
    start(w, c, &q, GET, now + 20 * MS);
    start(w, c, &b, APPEND, 0);
    fake_run(&w->f, 60 * MS);
    assert_true(a.done == 1 && a.status == -ETIMEDOUT && a.at == now + 50 * MS);
    assert_true(q.done == 1 && q.status == -ETIMEDOUT && q.at == now + 20 * MS);
    assert_int_equal(b.done, 0);
    release(&w->s[1]);                                  /* the late answers find nobody */
    assert_int_equal(wait_for(w, &b), 0);
    fake_run(&w->f, 1 * S);
    assert_int_equal(a.done, 1);
    assert_int_equal(run(w, c, APPEND), 0);
    assert_int_equal(w->seen[w->nseen - 1].floor, w->seen[w->nseen - 1].seq);     /* nothing is waited for any more */
    start(w, c, &a, GET, 1);                            /* long past, and still not from inside the call */
    assert_int_equal(a.done, 0);
    assert_int_equal(wait_for(w, &a), -ETIMEDOUT);
    lead(w, 0);
    start(w, c, &a, APPEND, w->f.now + 3 * S);          /* while no leader is found */
    assert_int_equal(wait_for(w, &a), -ETIMEDOUT);
    lead(w, 1);
    fake_run(&w->f, 5 * S);
    assert_int_equal(w->executed, 4);
    kv_client_free(c);
    world_free(w);
}

static void cancelling(void **state)
{
    struct world *w = world_new(51);
    struct kv_client *c = client(w);
    assert_int_equal(run(w, c, APPEND), 0);
    w->s[1].hold = true;
    static struct one o[1100];
    for (unsigned i = 0; i < 1100; i++) start(w, c, &o[i], APPEND, 0);
    fake_run(&w->f, 10 * MS);
    assert_int_equal(w->s[1].nheld, KV_WINDOW);
    kv_cancel(c, &o[1099].call);                        /* never sent */
    kv_cancel(c, &o[5].call);                           /* sent */
    assert_true(o[5].done == 1 && o[5].status == -EINTR && o[1099].done == 1 && o[1099].status == -EINTR);
    fake_run(&w->f, 10 * MS);
    assert_int_equal(w->s[1].nheld, KV_WINDOW);         /* the lowest one is still unanswered */
    kv_cancel(c, &o[0].call);
    fake_run(&w->f, 10 * MS);
    assert_int_equal(w->s[1].nheld, KV_WINDOW + 1);
    release(&w->s[1]);
    fake_run(&w->f, 1 * S);
    for (unsigned i = 0; i < 1100; i++) assert_int_equal(o[i].done, 1);
    assert_int_equal(w->executed, 1 + 1099);            /* of the cancelled ones two had been sent */
    kv_cancel(c, &o[0].call);                           /* of a call that is over: nothing */
    assert_int_equal(o[0].done, 1);
    kv_client_free(c);
    world_free(w);
}

/* ---- the session ---- */

static void loses_the_session(void **state)
{
    for (unsigned mount = 0; mount < 2; mount++) {
        struct world *w = world_new(60 + mount);
        struct kv_client *c = client_of(w, mount, 0);
        assert_int_equal(run(w, c, APPEND), 0);
        assert_int_equal(w->opens, 1);
        uint64_t old = kv_client_session(c);
        w->alive = 0;
        static struct one o[1500];
        struct one q;
        for (unsigned i = 0; i < 1500; i++) start(w, c, &o[i], APPEND, 0);
        start(w, c, &q, GET, 0);
        fake_run(&w->f, 1 * S);
        for (unsigned i = 0; i < 1500; i++) assert_true(o[i].done == 1 && o[i].status == QE_SESSION);
        assert_true(q.done == 1 && q.status == 0);
        assert_int_equal(w->lost, 1);
        assert_int_equal(w->executed, 1);
        assert_int_equal(w->opens, 1 + mount);          /* a mount opens the next one at once */
        assert_int_equal(run(w, c, APPEND), 0);
        assert_int_equal(w->opens, 2);
        assert_true(kv_client_session(c) != 0 && kv_client_session(c) != old);
        assert_int_equal(w->seen[w->nseen - 1].seq, 1);
        kv_client_free(c);
        world_free(w);
    }
}

static void keeps_the_session(void **state)
{
    struct world *w = world_new(62);
    struct kv_client *c = client_of(w, false, 9000);
    assert_int_equal(run(w, c, APPEND), 0);
    fake_run(&w->f, 91 * S);
    assert_in_range(w->keeps, 28, 31);
    unsigned keeps = w->keeps;
    for (unsigned i = 0; i < 60; i++) {                 /* changes are signs of life, too */
        assert_int_equal(run(w, c, APPEND), 0);
        fake_run(&w->f, 1 * S);
    }
    assert_in_range(w->keeps, keeps, keeps + 1);
    kv_client_free(c);
    world_free(w);
    w = world_new(63);
    c = client_of(w, true, 9000);
    fake_run(&w->f, 1 * S);
    assert_int_equal(w->opens, 1);
    w->owed_count = 3;
    for (unsigned i = 0; i < 60; i++) {
        assert_int_equal(run(w, c, APPEND), 0);
        fake_run(&w->f, 1 * S);
    }
    assert_in_range(w->keeps, 18, 21);                  /* a busy mount asks all the same */
    assert_int_equal(w->owed, w->keeps);
    kv_client_free(c);
    world_free(w);
}

/* ---- the end ---- */

static unsigned closed;
static void on_close_done(void *arg) { closed++; }

static void closes(void **state)
{
    struct world *w = world_new(70);
    struct kv_client *c = client(w);
    closed = 0;
    struct one a, b;
    w->s[1].hold = true;
    start(w, c, &a, APPEND, 0);
    fake_run(&w->f, 10 * MS);
    kv_client_close(c, w->f.now + 5 * S, on_close_done, NULL);
    start(w, c, &b, APPEND, 0);
    fake_run(&w->f, 1 * S);
    assert_true(b.done == 1 && b.status == QE_STOPPED);
    assert_true(closed == 0 && a.done == 0 && w->closes == 0);
    release(&w->s[1]);
    fake_run(&w->f, 1 * S);
    assert_true(closed == 1 && a.done == 1 && a.status == 0 && w->closes == 1);
    kv_client_free(c);
    world_free(w);

    w = world_new(71);                                  /* gives up in time */
    c = client(w);
    assert_int_equal(run(w, c, APPEND), 0);
    lead(w, 0);
    closed = 0;
    kv_client_close(c, w->f.now + 2 * S, on_close_done, NULL);
    fake_run(&w->f, 1900 * MS);
    assert_int_equal(closed, 0);
    fake_run(&w->f, 200 * MS);
    assert_int_equal(closed, 1);
    kv_client_free(c);
    world_free(w);

    w = world_new(72);                                  /* nothing was opened: nothing to close */
    c = client(w);
    closed = 0;
    kv_client_close(c, w->f.now + 2 * S, on_close_done, NULL);
    assert_int_equal(closed, 0);
    fake_run(&w->f, 1 * MS);
    assert_int_equal(closed, 1);
    assert_int_equal(w->f.dials, 0);
    kv_client_free(c);
    world_free(w);
}

struct rude {
    struct kv_call call;
    struct world *w;
    struct kv_client *c;
    struct one others[4];
    unsigned what, done;
};

static void rude_done(struct kv_call *call, const struct kv_reply *reply)
{
    struct rude *r = call->arg;
    r->done++;
    if (r->what == 0) {
        kv_client_free(r->c);
    } else if (r->what == 1) {
        for (unsigned i = 0; i < 4; i++) kv_cancel(r->c, &r->others[i].call);
    } else {
        for (unsigned i = 0; i < 4; i++) start(r->w, r->c, &r->others[i], APPEND, 0);
    }
}

/* Callbacks that free the client, cancel other calls or make new ones, in every situation a callback can come from. */
static void rude_callbacks(void **state)
{
    for (unsigned what = 0; what < 3; what++) {
        for (unsigned when = 0; when < 5; when++) {
            struct world *w = world_new(80 + what * 10 + when);
            struct kv_client *c = client(w);
            assert_int_equal(run(w, c, APPEND), 0);
            struct rude r = {.w = w, .c = c, .what = what};
            r.call = (struct kv_call){.op = APPEND, .done = rude_done, .arg = &r};
            w->s[1].hold = true;
            if (when == 1) w->alive = 0;                /* the session is lost */
            if (when == 2) r.call.deadline = w->f.now + 5 * MS;
            if (when == 4) r.call.op.data.n = KV_DATA_MAX + 1;      /* refused by the client itself */
            kv_call(c, &r.call);
            if (what < 2)
                for (unsigned i = 0; i < 4; i++) start(w, c, &r.others[i], i < 2 ? APPEND : GET, 0);
            fake_run(&w->f, 10 * MS);
            if (when == 3) kv_cancel(c, &r.call);
            release(&w->s[1]);
            fake_run(&w->f, 3 * S);
            assert_int_equal(r.done, 1);
            for (unsigned i = 0; i < 4; i++) assert_true(r.others[i].done == 1 || (what == 0 && r.others[i].done == 0));
            if (what) kv_client_free(c);
            world_free(w);
        }
    }
}

static void freed_at_any_time(void **state)
{
    struct prng r;
    prng_seed(&r, 8);
    for (unsigned i = 0; i < 60; i++) {
        struct world *w = world_new(100 + i);
        if (i % 3 == 0) lead(w, 0);
        if (i % 4 == 0) w->s[1].mute = true;
        struct kv_client *c = client_of(w, i % 2, 0);
        static struct one o[50];
        for (unsigned k = 0; k < 50; k++) start(w, c, &o[k], k % 2 ? APPEND : GET, 0);
        fake_run(&w->f, prng_below(&r, 400) * NS_PER_US);
        unsigned done = 0, later = 0;
        for (unsigned k = 0; k < 50; k++) done += o[k].done;
        kv_client_free(c);
        world_free(w);
        for (unsigned k = 0; k < 50; k++) later += o[k].done;
        assert_int_equal(done, later);
    }
}

static void refuses_what_is_too_large(void **state)
{
    struct world *w = world_new(90);
    struct kv_client *c = client(w);
    struct kv_op op = APPEND;
    op.data = slice_of("", KV_DATA_MAX + 1);
    assert_int_equal(run(w, c, op), -EFBIG);
    op = APPEND;
    op.name = slice_of("", 100000);
    assert_int_equal(run(w, c, op), -ENAMETOOLONG);
    op = (struct kv_op){.code = KV_CAS, .name2 = slice_of("", KV_DATA_MAX + 1)};
    assert_int_equal(run(w, c, op), -EFBIG);
    assert_int_equal(w->f.dials, 0);
    kv_client_free(c);
    world_free(w);
}

/* Large calls against a server that does not read: the client does not pile up the send queue without bound. */
static void bounded_send_queue(void **state)
{
    struct world *w = world_new(91);
    struct kv_client *c = client(w);
    assert_int_equal(run(w, c, APPEND), 0);
    static uint8_t big[1024 * 1024];
    static struct one o[40];
    struct kv_op op = APPEND;
    op.data = slice_of(big, sizeof big);
    conn_pause(w->s[1].conns[0], true);
    for (unsigned i = 0; i < 40; i++) start(w, c, &o[i], op, 0);
    fake_run(&w->f, 100 * MS);
    assert_true(conn_queued(c->conn) < KV_CLIENT_SEND_HIGH + 2 * MIB);
    conn_pause(w->s[1].conns[0], false);
    fake_run(&w->f, 1 * S);
    for (unsigned i = 0; i < 40; i++) assert_true(o[i].done == 1 && o[i].status == 0);
    assert_int_equal(w->executed, 41);
    kv_client_free(c);
    world_free(w);
}

static void nonsense(void **state)
{
    for (uint64_t seed = 200; seed < 230; seed++) {
        struct world *w = world_new(seed);
        struct kv_client *c = client(w);
        for (uint64_t id = 1; id <= 3; id++) w->s[id].nonsense = true;
        struct one o[20];
        for (unsigned i = 0; i < 20; i++) start(w, c, &o[i], i % 2 ? APPEND : GET, 0);
        fake_run(&w->f, 20 * S);
        for (uint64_t id = 1; id <= 3; id++) w->s[id].nonsense = false;
        fake_run(&w->f, 40 * S);            /* calls that were swallowed are repeated when patience ends */
        for (unsigned i = 0; i < 20; i++) assert_int_equal(o[i].done, 1);
        assert_true(w->executed >= 10 && w->executed <= 10 + w->keeps);
        kv_client_free(c);
        world_free(w);
    }
}

/* ---- status ---- */

struct asked {
    struct kv_status_call call;
    unsigned done;
    int err;
    char text[64];
};

static void asked_done(struct kv_status_call *call, int err, struct slice text)
{
    struct asked *a = call->arg;
    a->done++;
    a->err = err;
    memcpy(a->text, text.p ? text.p : (const uint8_t *)"", text.n);
}

static int ask(struct world *w, struct asked *a, const char *addr, uint64_t ns)
{
    *a = (struct asked){.call = {.deadline = ns ? w->f.now + ns : 0, .done = asked_done, .arg = a}};
    memcpy(a->call.addr, addr, strlen(addr) + 1);
    kv_status(&w->f.net, &w->f.clock, &a->call);
    assert_int_equal(a->done, 0);
    fake_run(&w->f, 10 * S);
    assert_int_equal(a->done, 1);
    return a->err;
}

static void status(void **state)
{
    struct world *w = world_new(92);
    struct asked a;
    lead(w, 0);
    assert_int_equal(ask(w, &a, "s2", 0), 0);
    assert_string_equal(a.text, "id 1\n");
    assert_int_equal(ask(w, &a, "nowhere", 0), -ECONNREFUSED);
    w->s[2].mute = true;
    assert_int_equal(ask(w, &a, "s2", 2 * S), -ETIMEDOUT);
    fake_listener(&w->f, "s3")->silent = true;
    assert_int_equal(ask(w, &a, "s3", 2 * S), -ETIMEDOUT);
    w->s[1].nonsense = true;
    ask(w, &a, "s1", 2 * S);
    assert_true(a.err == QE_FRAME || a.err == 0 || a.err == -ETIMEDOUT);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_leader),
        cmocka_unit_test(follows_the_leader),
        cmocka_unit_test(waits_for_a_leader),
        cmocka_unit_test(nodes_that_point_at_each_other),
        cmocka_unit_test(all_nodes_down),
        cmocka_unit_test(learns_the_members),
        cmocka_unit_test(refused),
        cmocka_unit_test(another_cluster),
        cmocka_unit_test(lost_answers),
        cmocka_unit_test(lost_opening),
        cmocka_unit_test(order_and_once),
        cmocka_unit_test(window),
        cmocka_unit_test(busy_server),
        cmocka_unit_test(leaves_a_silent_leader),
        cmocka_unit_test(finds_the_next_leader_fast),
        cmocka_unit_test(stays_with_a_slow_leader),
        cmocka_unit_test(ping_tells_of_another_leader),
        cmocka_unit_test(dials_that_hang),
        cmocka_unit_test(deadlines),
        cmocka_unit_test(cancelling),
        cmocka_unit_test(loses_the_session),
        cmocka_unit_test(keeps_the_session),
        cmocka_unit_test(closes),
        cmocka_unit_test(rude_callbacks),
        cmocka_unit_test(freed_at_any_time),
        cmocka_unit_test(refuses_what_is_too_large),
        cmocka_unit_test(bounded_send_queue),
        cmocka_unit_test(nonsense),
        cmocka_unit_test(status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
