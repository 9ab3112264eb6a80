/* node_peer.c - the connections between members. Each node dials every other one and sends on the connection it
 * dialled; what the other has to say arrives on the connection that the other dialled. Answers to snapshot blocks and
 * payload requests go back on the connection the question came on.
 *
 * A connection begins with HELLO (version, cluster id or 0 while unknown, from, to) and HELLO_ACK; a mismatch is
 * refused with a trace line. A broken connection is told to the core at once (PEER_DOWN): the kernel resets a dead
 * process's connections, which is the fastest sign of its death. Dialling again backs off from 20 ms to 1 s. */
#include "raft/node_priv.h"

#define BACKOFF_MIN_NS (20 * NS_PER_MS)
#define BACKOFF_MAX_NS (1 * NS_PER_S)

struct peer *node__peer(struct node *n, uint64_t id)
{
    for (uint32_t i = 0; i < n->npeers; i++)
        if (n->peers[i].used && n->peers[i].member.id == id) return &n->peers[i];
    return NULL;
}

static void tell_core(struct node *n, uint64_t id, enum raft_event_kind kind)
{
    struct raft_event ev = {.kind = kind, .now = clock_now(n->clock), .peer = id};
    if (n->core) node__step(n, &ev);
}

static void drop_deferred(struct peer *p)
{
    list_for_each_safe(l, next, &p->deferred)
    {
        struct deferred *d = container_of(l, struct deferred, link);
        if (d->fetching) {
            d->peer = NULL; /* fetched() frees it */
            list_remove(&d->link);
        } else {
            list_remove(&d->link);
            free(d);
        }
    }
    p->ndeferred = 0;
}

/* A greeting that does not get away would be waited for for ever: the connection is closed, and dialled again. */
static void send_hello(struct node *n, struct conn *c, uint8_t type, uint64_t to)
{
    struct buf b = {0};
    put_u32(&b, NODE_WIRE_VERSION);
    put_u64(&b, n->cluster_id);
    put_u64(&b, n->cfg.id);
    put_u64(&b, to);
    put_slice16(&b, slice_str(node__own_addr(n)));
    struct slice v = buf_slice(&b);
    if (conn_send(c, type, &v, 1)) conn_close(c);
    buf_free(&b);
}

struct hello {
    uint64_t cluster, from, to;
    char addr[ADDR_MAX];
};

static int read_hello(struct slice payload, struct hello *h)
{
    struct reader r = reader_of(payload);
    uint32_t version = get_u32(&r);
    h->cluster = get_u64(&r);
    h->from = get_u64(&r);
    h->to = get_u64(&r);
    h->addr[0] = 0;
    if (!r.bad && version != NODE_WIRE_VERSION) return QE_VERSION;
    struct slice addr = get_slice16(&r);
    if (!reader_done(&r) || addr.n >= ADDR_MAX || (addr.n && memchr(addr.p, 0, addr.n))) return QE_FRAME;
    if (addr.n) memcpy(h->addr, addr.p, addr.n);
    h->addr[addr.n] = 0;
    return 0;
}

/* ---- the connection we dial ---- */

static void out_open(struct conn *c)
{
    struct peer *p = c->arg;
    send_hello(p->node, c, RAFT_FRAME_HELLO, p->member.id);
}

static int hello_fits(struct node *n, const struct hello *h, uint64_t from)
{
    if (h->from != from || h->to != n->cfg.id) return QE_FRAME;
    if (h->cluster && n->cluster_id && h->cluster != n->cluster_id) return QE_CLUSTER;
    return 0;
}

static void out_acked(struct peer *p, struct slice payload)
{
    struct node *n = p->node;
    struct hello h;
    int err = read_hello(payload, &h);
    if (!err) err = hello_fits(n, &h, p->member.id);
    if (err) {
        trace_error(n->trace,
                    "node %llu: member %llu at %s answers wrongly (%s): check the addresses given to --cluster",
                    (unsigned long long)n->cfg.id, (unsigned long long)p->member.id, p->member.addr, err_text(err));
        conn_close(p->out);
        return;
    }
    p->up = true;
    p->backoff_ns = BACKOFF_MIN_NS;
    trace_info(n->trace, "node %llu: connected to member %llu", (unsigned long long)n->cfg.id,
               (unsigned long long)p->member.id);
    tell_core(n, p->member.id, RAFT_EV_PEER_UP);
    node__snap_peer_up(n);
}

static void out_frame(struct conn *c, uint8_t type, struct slice payload)
{
    struct peer *p = c->arg;
    struct node *n = p->node;
    if (n->dead) return;
    if (!p->up) {
        if (type == RAFT_FRAME_HELLO_ACK)
            out_acked(p, payload);
        else
            conn_close(c);
        return;
    }
    if (type == RAFT_FRAME_SNAPSHOT_ACK)
        node__snap_acked(n, p, payload);
    else if (type == RAFT_FRAME_FETCH_RESP)
        node__fetch_resp(n, p, payload);
    else
        conn_close(c);
}

static void out_closed(struct conn *c, int err)
{
    struct peer *p = c->arg;
    struct node *n = p->node;
    bool was_up = p->up;
    p->out = NULL;
    p->up = false;
    drop_deferred(p);
    if (n->dead) return;
    if (was_up)
        trace_info(n->trace, "node %llu: connection to member %llu broke (%s)", (unsigned long long)n->cfg.id,
                   (unsigned long long)p->member.id, err_text(err));
    if (p->is_member || p->in)
        clock_arm(n->clock, &p->redial, clock_now(n->clock) + p->backoff_ns / 2 + prng_below(&n->rng, p->backoff_ns));
    p->backoff_ns = min_u64(p->backoff_ns * 2, BACKOFF_MAX_NS);
    if (!was_up) return;
    node__snap_stop(n, p, true);
    node__fetch_peer_down(n, p->member.id);
    tell_core(n, p->member.id, RAFT_EV_PEER_DOWN);
}

static const struct conn_cb out_cb = {.open = out_open, .frame = out_frame, .closed = out_closed};

static void redial_fired(struct timer *t)
{
    struct peer *p = t->arg;
    if (p->node->dead || p->out || !p->used || !p->member.addr[0]) return;
    p->out = net_dial(p->node->net, p->member.addr, &out_cb, p);
}

/* ---- members and guests ---- */

static void refused_frame(struct conn *c, uint8_t type, struct slice payload) {}
static void refused_closed(struct conn *c, int err) {}
static const struct conn_cb refused_cb = {.frame = refused_frame, .closed = refused_closed};

static void hang_up(struct conn **c)
{
    struct conn *old = *c;
    *c = NULL;
    if (!old) return;
    old->cb = &refused_cb; /* its end concerns nobody, least of all a node that is gone by then */
    conn_close(old);
}

static struct peer *take_place(struct node *n, const struct raft_member *m)
{
    uint32_t i = 0;
    while (i < n->npeers && n->peers[i].used) i++;
    if (i == NODE_PEERS) return NULL;
    if (i == n->npeers) n->npeers++;
    struct peer *p = &n->peers[i];
    *p = (struct peer){.node = n, .used = true, .member = *m, .backoff_ns = BACKOFF_MIN_NS};
    p->redial = (struct timer){.fire = redial_fired, .arg = p};
    list_init(&p->deferred);
    return p;
}

/* Its connections end and its place is free. */
static void retire(struct peer *p)
{
    struct node *n = p->node;
    uint64_t id = p->member.id;
    clock_disarm(n->clock, &p->redial);
    drop_deferred(p);
    node__snap_stop(n, p, false);
    hang_up(&p->out);
    hang_up(&p->in);
    p->up = p->used = p->is_member = false;
    if (!n->dead) node__fetch_peer_down(n, id);
}

/* A member by the configuration in effect. */
void node__peer_join(struct node *n, const struct raft_member *m)
{
    struct peer *p = node__peer(n, m->id);
    for (uint32_t i = 0; !p && i < n->npeers; i++) /* a guest makes room */
        if (n->npeers == NODE_PEERS && n->peers[i].used && !n->peers[i].is_member) retire(&n->peers[i]);
    if (!p) p = take_place(n, m);
    check(p);
    bool moved = strcmp(p->member.addr, m->addr) != 0;
    if (p->is_member && !moved) return;
    p->is_member = true;
    p->member = *m;
    if (moved && p->out) conn_close(p->out); /* out_closed() dials the new address */
    p->backoff_ns = BACKOFF_MIN_NS;
    if (!p->out) clock_arm(n->clock, &p->redial, 0);
}

/* No member any more: it stays as a guest while it is connected, so that its questions are answered. */
void node__peer_leave(struct peer *p)
{
    p->is_member = false;
    if (!p->in) retire(p);
}

/* ---- the connection the peer dials ---- */

static void in_msg(struct peer *p, struct slice payload)
{
    struct node *n = p->node;
    struct raft_msg m;
    struct slice rest;
    if (raft_msg_decode(payload, &m, &rest) || m.from != p->member.id || m.to != n->cfg.id) {
        trace_warn(n->trace, "node %llu: a message from member %llu cannot be decoded: connection closed",
                   (unsigned long long)n->cfg.id, (unsigned long long)p->member.id);
        conn_close(p->in);
        return;
    }
    node__msg(n, &m, rest);
}

static void in_frame(struct conn *c, uint8_t type, struct slice payload)
{
    struct peer *p = c->arg;
    if (p->node->dead || p->in != c) return;
    switch (type) {
    case RAFT_FRAME_MSG:
        in_msg(p, payload);
        break;
    case RAFT_FRAME_SNAPSHOT:
        node__snap_frame(p->node, p, payload);
        break;
    case RAFT_FRAME_FETCH:
        node__fetch_frame(p->node, c, payload);
        break;
    case RAFT_FRAME_DIGEST:
        node__digest_told(p, payload);
        break;
    default:
        conn_close(c);
    }
}

static void in_closed(struct conn *c, int err)
{
    struct peer *p = c->arg;
    if (p->in != c) return; /* replaced by a newer one */
    p->in = NULL;
    struct node *n = p->node;
    uint64_t id = p->member.id;
    if (n->in.active && n->in.from == id && !n->in.installing) node__snap_in_abort(n);
    if (!n->dead) tell_core(n, id, RAFT_EV_PEER_DOWN);
    if (!n->dead && p->used && p->member.id == id && !p->in && !p->is_member) retire(p);
}

static const struct conn_cb in_cb = {.frame = in_frame, .closed = in_closed};

/* Of a cluster that both know to be the same, or that this node, empty, is to become part of. */
static struct peer *take_guest(struct node *n, const struct hello *h)
{
    struct raft_member m = {.id = h->from};
    memcpy(m.addr, h->addr, sizeof m.addr);
    struct raft_status st;
    raft_status(n->core, &st);
    bool may_join = !n->cluster_id && st.standing != RAFT_VOTER;
    bool same = h->cluster && (h->cluster == n->cluster_id || may_join);
    bool empty = !h->cluster && n->cluster_id; /* it lost its disk, or waits to be added */
    if (!h->from || h->from == n->cfg.id || (!same && !empty)) return NULL;
    struct peer *p = take_place(n, &m);
    if (p) trace_info(n->trace, "node %llu: node %llu at %s is no member as far as this node knows",
                      (unsigned long long)n->cfg.id, (unsigned long long)m.id, m.addr[0] ? m.addr : "?");
    return p;
}

void node_accept(struct node *n, struct conn *c, struct slice hello)
{
    struct hello h = {0};
    int err = read_hello(hello, &h);
    struct peer *p = err ? NULL : node__peer(n, h.from);
    if (!err) err = hello_fits(n, &h, h.from);
    if (!err && !p && !n->dead) p = take_guest(n, &h);
    if (!err && !p) err = QE_CLUSTER;
    if (err || n->dead) {
        trace_error(n->trace, "node %llu: refused a connection of node %llu from %s: %s", (unsigned long long)n->cfg.id,
                    (unsigned long long)h.from, c->peer, err_text(err));
        /* The answer names our cluster, so that the other side can say what is wrong, too. */
        c->cb = &refused_cb;
        if (err == QE_CLUSTER) send_hello(n, c, RAFT_FRAME_HELLO_ACK, h.from);
        conn_close(c);
        return;
    }
    struct conn *old = p->in;
    p->in = c;
    p->in_cluster = h.cluster;
    c->cb = &in_cb;
    c->arg = p;
    if (old) {
        hang_up(&old);
        tell_core(n, p->member.id, RAFT_EV_PEER_DOWN); /* it may have lost its disk in between */
        if (p->up) tell_core(n, p->member.id, RAFT_EV_PEER_UP);
    }
    send_hello(n, c, RAFT_FRAME_HELLO_ACK, h.from);
    if (!p->out) { /* it lives: no need to wait for the back-off */
        p->backoff_ns = BACKOFF_MIN_NS;
        clock_arm(n->clock, &p->redial, 0);
    }
}

/* ---- sending ---- */

/* The message's header into n->out, its entries as slices behind it. Returns the number of slices, 0 if an entry is not
 * in memory. The metas live in n->out, too, so its space is reserved first. */
static uint32_t gather(struct node *n, const struct raft_msg *m, size_t *bytes)
{
    buf_clear(&n->out);
    raft_msg_encode(m, &n->out);
    size_t head = n->out.n;
    buf_reserve(&n->out, (size_t)m->n * 13);
    if (n->iov_cap < 2 * m->n + 1) {
        n->iov_cap = 2 * m->n + 64;
        n->iov = xrealloc(n->iov, n->iov_cap * sizeof *n->iov);
    }
    uint32_t nv = 0;
    n->iov[nv++] = slice_of(n->out.p, head);
    *bytes = head;
    for (uint32_t i = 0; i < m->n; i++) {
        struct log_entry e;
        if (!log_cached(n->log, m->index + 1 + i, &e)) return 0;
        uint32_t len = e.data ? e.data->n : 0;
        size_t at = n->out.n;
        put_u64(&n->out, e.term);
        put_u8(&n->out, e.kind);
        put_u32(&n->out, len);
        n->iov[nv++] = slice_of(n->out.p + at, 13);
        if (len) n->iov[nv++] = blob_slice(e.data);
        *bytes += 13 + len;
    }
    return nv;
}

static bool transmit(struct peer *p, const struct raft_msg *m)
{
    size_t bytes;
    uint32_t nv = gather(p->node, m, &bytes);
    if (!nv) return false;
    if (conn_send(p->out, RAFT_FRAME_MSG, p->node->iov, nv))
        trace_debug(p->node->trace, "node %llu: message to %llu dropped, %zu bytes are queued",
                    (unsigned long long)p->node->cfg.id, (unsigned long long)p->member.id, conn_queued(p->out));
    return true;
}

static void pump_deferred(struct peer *p);

/* Entries that followers need cannot be read back: what has been applied goes to them as a snapshot from now on, a fresh
 * one; without an answer they would wait for ever. */
static void unreadable(struct node *n, uint64_t last, int err)
{
    if (last > n->applied) return; /* later */
    trace_warn(n->trace, "node %llu: entries up to %llu cannot be read back (%s): who needs them gets a snapshot",
               (unsigned long long)n->cfg.id, (unsigned long long)last, err_text(err));
    n->ckpt_wanted = true;
    node__wake(n);
    struct raft_event ev = {.kind = RAFT_EV_LOG_TRIMMED, .now = clock_now(n->clock), .index = last + 1};
    node__step(n, &ev);
}

static void fetched(struct log_fetch *f, int err)
{
    struct deferred *d = f->arg;
    d->fetching = false;
    if (!d->peer) {
        free(d);
        return;
    }
    struct peer *p = d->peer;
    d->ready = true;
    if (err) { /* QE_GONE: trimmed meanwhile, which the core learns from LOG_TRIMMED, and sends a snapshot */
        struct node *n = p->node;
        uint64_t last = f->last;
        drop_deferred(p);
        if (err != QE_GONE) unreadable(n, last, err);
        return;
    }
    pump_deferred(p);
}

/* Sends from the front what is in memory; brings the first that is not back from disk. */
static void pump_deferred(struct peer *p)
{
    struct node *n = p->node;
    while (!list_empty(&p->deferred)) {
        struct deferred *d = container_of(p->deferred.next, struct deferred, link);
        if (d->fetching) return;
        bool stale = d->msg.term != n->term || n->role != RAFT_LEADER || d->msg.index + d->msg.n > log_last(n->log);
        if (!stale && p->up && !transmit(p, &d->msg) && !d->ready) {
            d->fetching = true;
            d->fetch = (struct log_fetch){
                .first = d->msg.index + 1, .last = d->msg.index + d->msg.n, .done = fetched, .arg = d};
            log_fetch(n->log, &d->fetch);
            return;
        }
        list_remove(&d->link);
        p->ndeferred--;
        free(d);
    }
}

void node__send(struct node *n, const struct raft_msg *m)
{
    struct peer *p = node__peer(n, m->to);
    if (!p || !p->up) return;
    if (m->type != RAFT_MSG_APPEND || m->n == 0 || (list_empty(&p->deferred) && log_first(n->log) <= m->index + 1)) {
        if (transmit(p, m)) return;
    }
    if (p->ndeferred >= NODE_DEFERRED_MAX) return;
    struct deferred *d = xcalloc(1, sizeof *d);
    d->peer = p;
    d->msg = *m;
    d->msg.entries = NULL;
    list_push_back(&p->deferred, &d->link);
    p->ndeferred++;
    pump_deferred(p);
}

/* ---- life ---- */

void node__peers_stop(struct node *n)
{
    for (uint32_t i = 0; i < n->npeers; i++) {
        struct peer *p = &n->peers[i];
        if (!p->used) continue;
        clock_disarm(n->clock, &p->redial);
        drop_deferred(p);
        p->up = false;
        hang_up(&p->out);
        hang_up(&p->in);
    }
}
