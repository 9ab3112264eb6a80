/* client_conn.c - the client's one connection: to the leader, wherever it is.
 *
 * Addresses are tried in random order until one answers the greeting; the greeting tells the members and the leader.
 * A node that does not lead says so at once (REDIRECT), naming the leader if it knows it: that one is dialled without
 * delay, unless this goes round in a circle; unknown leaders are asked for again after 20-50 ms, rising to 500 ms.
 * When a connection ends, all that was unanswered is sent again, in order, on the next.
 *
 * A node that stands still is recognised by its silence: while answers are due and nothing has come for a second (or
 * for five, where only watches wait for events), it is pinged; after another second the next node is tried. The ping
 * makes sure that it was not this process that stood still. And should a call stay without an answer for very long
 * although pings are answered, a new connection repeats it. */
#include "kv/client.h"

#include <stdio.h>

#define WAIT_MIN_MS 20u
#define WAIT_MAX_MS 50u
#define WAIT_CAP_MS 500u
#define HOPS_MAX 2u                /* redirects followed at once */

static const struct conn_cb link_cb;

/* ---- addresses ---- */

static bool known(const struct kv_client *c, const char *addr)
{
    for (uint32_t i = 0; i < c->naddrs; i++)
        if (strcmp(c->addrs[i].addr, addr) == 0) return true;
    return false;
}

/* Makes room: one goes that the cluster does not name (any more). */
static void forget_stale(struct kv_client *c, const struct kv__ack *a)
{
    for (uint32_t i = 0; i < c->naddrs; i++) {
        bool named = false;
        for (uint32_t k = 0; k < a->n; k++) named |= strcmp(a->members[k].addr, c->addrs[i].addr) == 0;
        if (named) continue;
        memmove(&c->addrs[i], &c->addrs[i + 1], (--c->naddrs - i) * sizeof c->addrs[0]);
        c->at = 0;
        return;
    }
}

static void learn(struct kv_client *c, uint64_t id, const char *addr)
{
    if (known(c, addr) || c->naddrs == KV_ADDRS_MAX || strlen(addr) >= ADDR_MAX) return;
    struct raft_member *m = &c->addrs[c->naddrs++];
    m->id = id;
    memcpy(m->addr, addr, strlen(addr) + 1);
}

static void shuffle(struct kv_client *c)
{
    for (uint32_t i = c->naddrs; i > 1; i--) {
        uint32_t k = (uint32_t)prng_below(&c->rng, i);
        struct raft_member m = c->addrs[i - 1];
        c->addrs[i - 1] = c->addrs[k];
        c->addrs[k] = m;
    }
}

/* ---- dropping and dialling ---- */

static void drop(struct kv_client *c)
{
    struct conn *conn = c->conn;
    c->conn = NULL;
    c->node = 0;
    c->state = LINK_IDLE;
    clock_disarm(c->clock, &c->retry);
    clock_disarm(c->clock, &c->watch);
    c->watching = false;
    if (!conn) return;
    conn->arg = NULL;
    conn_close(conn);
    kv__client_unsent(c);
}

/* One that was not reached gets a turn only now and then: a node that stands still costs a second each time. */
static const char *next_address(struct kv_client *c)
{
    if (c->unreached[0] && c->waits % 4 == 3) return c->unreached;
    for (unsigned i = 0; i < 2; i++) {
        c->at = (c->at + 1) % c->naddrs;
        if (strcmp(c->addrs[c->at].addr, c->unreached) != 0) break;
    }
    return c->addrs[c->at].addr;
}

/* To where the leader is said to be, else to the next address. */
static void dial(struct kv_client *c)
{
    const char *to = c->hint[0] ? c->hint : next_address(c);
    memcpy(c->target, to, strlen(to) + 1);
    c->hint[0] = 0;
    c->state = LINK_DIAL;
    c->conn = net_dial(c->net, c->target, &link_cb, c);
    clock_arm(c->clock, &c->retry, clock_now(c->clock) + KV_DIAL_NS);
}

static void wait_and_dial(struct kv_client *c)
{
    uint64_t lo = WAIT_MIN_MS, hi = WAIT_MAX_MS;
    for (uint32_t i = 0; i < c->waits && hi < WAIT_CAP_MS; i++) {
        lo = lo * 3 / 2;
        hi = hi * 3 / 2;
    }
    c->waits++;
    c->hops = 0;
    uint64_t ms = prng_between(&c->rng, lo, min_u64(hi, WAIT_CAP_MS));
    c->state = LINK_WAIT;
    clock_arm(c->clock, &c->retry, clock_now(c->clock) + ms * NS_PER_MS);
}

/* The present connection, if any, is of no use. `soon`: there is reason to hope that the next is. */
static void next(struct kv_client *c, bool soon)
{
    drop(c);
    c->tries++;
    if (!kv__client_wants(c)) return;
    if (soon) dial(c);
    else wait_and_dial(c);
}

/* It cannot be reached or does not answer: each other address is tried at once, one time. */
static void unreachable(struct kv_client *c)
{
    memcpy(c->unreached, c->target, sizeof c->unreached);
    next(c, c->tries < c->naddrs);
}

void kv__link_retry_later(struct kv_client *c)
{
    memcpy(c->hint, c->target, sizeof c->hint);
    next(c, false);
}

/* A leader that could not be reached a moment ago is no leader: those who still name it will elect another. */
static void redirected(struct kv_client *c, uint64_t leader, const char *addr)
{
    trace_debug(c->trace, "client: %s says that node %llu leads (%s)", c->target, (unsigned long long)leader, addr);
    bool good = leader && addr[0] && strcmp(addr, c->unreached) != 0;
    bool soon = good && strcmp(addr, c->target) != 0 && c->hops < HOPS_MAX;
    c->hops++;
    c->hint[0] = 0;
    if (good) memcpy(c->hint, addr, strlen(addr) + 1);
    next(c, soon);
}

void kv__link_want(struct kv_client *c)
{
    if (c->state == LINK_IDLE && c->naddrs) dial(c);
}

/* ---- silence ---- */

static bool flying(const struct kv_client *c)
{
    return !list_empty(&c->lane.flight) || !list_empty(&c->free_lane.flight);
}

/* How long nothing may come before a ping. */
static uint64_t silence(struct kv_client *c)
{
    c->lazy = !flying(c);
    return c->lazy ? KV_IDLE_NS : KV_SILENCE_NS;
}

/* When the oldest call in flight was sent; flights are in the order of sending. */
static uint64_t oldest(const struct kv_client *c)
{
    const struct list *flights[] = {&c->lane.flight, &c->free_lane.flight};
    uint64_t at = UINT64_MAX;
    for (unsigned i = 0; i < 2; i++)
        if (!list_empty(flights[i])) at = min_u64(at, container_of(flights[i]->next, struct kv__ccall, link)->sent_at);
    return at;
}

static void greet(struct kv_client *c)
{
    struct kv__hello h = {.version = KV_VERSION, .cluster = c->cluster, .session = c->session};
    buf_clear(&c->out);
    kv__hello_encode(&h, &c->out);
    struct slice v = buf_slice(&c->out);
    conn_send(c->conn, KV_FRAME_HELLO, &v, 1);
}

void kv__link_sent(struct kv_client *c)
{
    if (c->watching && !c->lazy) return;
    c->watching = true;
    c->heard = clock_now(c->clock);
    c->pinged = 0;
    clock_arm(c->clock, &c->watch, c->heard + silence(c));
}

static void watch_fired(struct timer *t)
{
    struct kv_client *c = t->arg;
    uint64_t now = clock_now(c->clock);
    c->watching = c->state == LINK_READY && (flying(c) || !list_empty(&c->watches));
    if (!c->watching) {
        c->patience = KV_PATIENCE_NS;
        return;
    }
    kv__client_enter(c);
    uint64_t quiet = silence(c);
    if (flying(c) && now >= oldest(c) + c->patience) {
        trace_warn(c->trace, "client: %s leaves a call unanswered: connecting anew", c->target);
        c->patience = min_u64(c->patience * 2, KV_PATIENCE_MAX_NS);
        kv__link_retry_later(c);
    } else if (c->pinged && now >= c->pinged + KV_SILENCE_NS) {
        trace_info(c->trace, "client: %s does not answer: trying the next node", c->target);
        unreachable(c);
    } else if (!c->pinged && now >= c->heard + quiet) {
        c->pinged = now;
        greet(c);
        clock_arm(c->clock, t, now + KV_SILENCE_NS);
    } else {
        clock_arm(c->clock, t, c->pinged ? c->pinged + KV_SILENCE_NS : c->heard + quiet);
    }
    kv__client_leave(c);
}

static void retry_fired(struct timer *t)
{
    struct kv_client *c = t->arg;
    kv__client_enter(c);
    if (c->state == LINK_DIAL) {
        trace_info(c->trace, "client: %s does not answer", c->target);
        unreachable(c);
    } else if (c->state == LINK_WAIT) {
        c->state = LINK_IDLE;
        if (kv__client_wants(c)) dial(c);
    }
    kv__client_leave(c);
}

/* ---- frames ---- */

static void on_open(struct conn *conn)
{
    struct kv_client *c = conn->arg;
    if (c) greet(c);
}

static const char *leader_addr(const struct kv__ack *a)
{
    for (uint32_t i = 0; i < a->n; i++)
        if (a->members[i].id == a->leader) return a->members[i].addr;
    return "";
}

static void on_ack(struct kv_client *c, struct slice payload)
{
    struct kv__ack a;
    if (kv__ack_decode(payload, &a) || a.version != KV_VERSION ||
        (c->cluster && a.cluster && c->cluster != a.cluster)) {
        trace_warn(c->trace, "client: %s is not a node of this cluster, or of another version", c->target);
        next(c, false);
        return;
    }
    for (uint32_t i = 0; i < a.n; i++) {
        if (c->naddrs == KV_ADDRS_MAX && !known(c, a.members[i].addr)) forget_stale(c, &a);
        learn(c, a.members[i].id, a.members[i].addr);
    }
    c->node = a.node;
    if (a.leader != a.node || !a.leader) {
        redirected(c, a.leader, leader_addr(&a));
        return;
    }
    if (c->state != LINK_DIAL) return;
    /* Only a leader's word: a stray data directory among the members would else keep us from the cluster itself. */
    if (a.cluster) c->cluster = a.cluster;
    clock_disarm(c->clock, &c->retry);
    c->state = LINK_READY;
    trace_debug(c->trace, "client: connected to node %llu at %s", (unsigned long long)c->node, c->target);
    kv__client_pump(c);
}

static void on_redirect(struct kv_client *c, struct slice payload)
{
    uint64_t id, leader;
    struct slice addr;
    if (kv__redirect_decode(payload, &id, &leader, &addr)) {
        next(c, false);
        return;
    }
    char text[ADDR_MAX] = "";
    if (addr.n) memcpy(text, addr.p, addr.n);
    redirected(c, leader, text);
}

static void on_refused(struct kv_client *c, struct slice payload)
{
    int err;
    struct slice text;
    if (kv__refused_decode(payload, &err, &text) == 0) {
        trace_warn(c->trace, "client: %s refuses: %.*s (%s)", c->target, (int)text.n, (const char *)text.p,
                   err_text(err));
        snprintf(c->refusal, sizeof c->refusal, "%s: %.*s", c->target, (int)min_u64(text.n, 200), (const char *)text.p);
    }
    next(c, false);
}

static void on_frame(struct conn *conn, uint8_t type, struct slice payload)
{
    struct kv_client *c = conn->arg;
    if (!c) return;
    kv__client_enter(c);
    c->heard = clock_now(c->clock);
    c->pinged = 0;
    switch (type) {
    case KV_FRAME_HELLO_ACK: on_ack(c, payload); break;
    case KV_FRAME_REDIRECT: on_redirect(c, payload); break;
    case KV_FRAME_REFUSED: on_refused(c, payload); break;
    case KV_FRAME_REPLY: kv__client_reply(c, payload); break;
    case KV_FRAME_EVENTS: kv__watch_events(c, payload); break;
    case KV_FRAME_WATCH_END: kv__watch_ended(c, payload); break;
    default: break;
    }
    kv__client_leave(c);
}

static void on_drained(struct conn *conn)
{
    struct kv_client *c = conn->arg;
    if (!c) return;
    kv__client_enter(c);
    if (c->state == LINK_READY) kv__client_pump(c);
    kv__client_leave(c);
}

static void on_closed(struct conn *conn, int err)
{
    struct kv_client *c = conn->arg;
    if (!c) return;
    trace_debug(c->trace, "client: connection to %s: %s", c->target, err_text(err));
    kv__client_enter(c);
    bool was_up = c->state == LINK_READY;
    c->conn = NULL;
    kv__client_unsent(c);
    if (was_up) {       /* perhaps only the connection broke */
        memcpy(c->hint, c->target, sizeof c->hint);
        next(c, c->tries == 0);
    } else {
        unreachable(c);
    }
    kv__client_leave(c);
}

static const struct conn_cb link_cb = {.open = on_open, .frame = on_frame, .drained = on_drained, .closed = on_closed};

/* ---- life ---- */

void kv__link_init(struct kv_client *c)
{
    c->retry = (struct timer){.fire = retry_fired, .arg = c};
    c->watch = (struct timer){.fire = watch_fired, .arg = c};
    for (unsigned i = 0; i < c->config.naddrs; i++) learn(c, 0, c->config.addrs[i]);
    shuffle(c);
    c->patience = KV_PATIENCE_NS;
}

void kv__link_close(struct kv_client *c) { drop(c); }
