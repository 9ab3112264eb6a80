/* net.c - the simulated network.
 *
 * An `end` is one side of a connection. What travels to it waits in its inbox as packets: the connection itself (OPEN
 * to the dialler, ACCEPT to the listener), frames, and the peer's end (RESET). The head of the inbox is taken once its
 * time has come, the way is open, the process runs and the user has not paused; so a partition that heals in time is no
 * more than a delay, as with TCP.
 *
 * Silence: an end that cannot reach its peer, or be reached, breaks with ETIMEDOUT after `timeout` if it waits for an
 * answer, after twice that by keepalive. An end whose peer went without a word (an orphan) gets its reset when the two
 * can reach each other again.
 *
 * Every callback is an event of its own (work()), so whoever is called may do anything to any connection. */
#include "tests/sim/net.h"

#include <stdio.h>
#include <stdlib.h>

#define SYN_RETRY_NS (200 * NS_PER_MS)
#define HEALED_NS    (100 * NS_PER_MS) /* TCP's retransmission comes that much later, at most */

enum packet_kind { PACKET_ACCEPT, PACKET_OPEN, PACKET_FRAME, PACKET_RESET };

struct packet {
    struct list link;
    enum packet_kind kind;
    uint8_t type;
    bool corrupt;
    uint32_t n;
    uint64_t at; /* arrives not before */
    uint8_t p[];
};

/* A frame on its way past all others. */
struct straggler {
    struct list link;
    struct sim_event ev;
    struct end *to;
    struct packet *packet;
};

enum end_state { END_DIALLING, END_OPEN, END_CLOSING };

struct end {
    struct conn base;
    struct sim_net *net;
    struct list link;  /* in net->ends */
    unsigned proc, to; /* ours and the peer's process */
    struct end *peer;  /* NULL: not yet, or no more */
    enum end_state state;
    int err;     /* CLOSING: what closed() will say */
    bool zombie; /* its process is dead */
    bool paused;
    bool orphan;        /* the peer went without a word */
    bool owes, drain;   /* drained() is to come once the queue is low; now */
    size_t under_way;   /* bytes of ours in the peer's inbox */
    uint64_t line_free; /* when the direction from us has sent what it is sending */
    struct list inbox, stragglers;
    struct sim_event work, silence, dial;
    uint64_t dial_until;
    struct listener *listener; /* of an accepted end, until accept() */
    char addr[256];
};

struct listener {
    struct list link;
    unsigned proc;
    bool open; /* false: its process died; the address is still known as that process's */
    void (*accept)(void *arg, struct conn *c);
    void *arg;
    char addr[256];
};

struct door {
    struct net base;
    struct sim_net *net;
    unsigned proc;
};

struct sim_net {
    struct sim_world *world;
    struct sim_net_config cfg;
    struct prng prng;
    struct list ends, listeners;
    struct door doors[SIM_PROCS_MAX];
    bool cut[SIM_PROCS_MAX][SIM_PROCS_MAX];
    uint64_t slow[SIM_PROCS_MAX][SIM_PROCS_MAX]; /* ns more */
    struct sim_net_stats stats;
};

static const struct net_ops ops;
static struct end *of(struct conn *c) { return container_of(c, struct end, base); }
static uint64_t now(const struct sim_net *n) { return sim_now(n->world); }

#define each_end(e, n)                                                                                                 \
    for (struct list *i_ = (n)->ends.next, *t_ = i_->next; i_ != &(n)->ends; i_ = t_, t_ = i_->next)                   \
        for (struct end *e = container_of(i_, struct end, link); e; e = NULL)

/* ---- the way --------------------------------------------------------------------------------------------------------
 */

static bool is_open(const struct sim_net *n, unsigned from, unsigned to)
{
    return from == to || (!n->cut[from][to] && sim_powered(n->world, from) && sim_powered(n->world, to));
}

static bool reachable(const struct end *e)
{
    return is_open(e->net, e->proc, e->to) && is_open(e->net, e->to, e->proc);
}

static uint64_t delay(struct sim_net *n)
{
    uint64_t d = prng_between(&n->prng, n->cfg.delay_min, n->cfg.delay_max);
    if (!n->cfg.slow_percent || !prng_chance(&n->prng, n->cfg.slow_percent)) return d;
    n->stats.delayed++;
    return d * 10;
}

static bool happens(struct sim_net *n, uint32_t ppm) { return ppm && prng_below(&n->prng, 1000000) < ppm; }

/* ---- ends -----------------------------------------------------------------------------------------------------------
 */

static size_t queued(const struct end *e)
{
    size_t kernel = e->net->cfg.kernel_bytes;
    return e->under_way > kernel ? e->under_way - kernel : 0;
}

/* Sets work() for the next callback that this end can get. */
static void kick(struct end *e)
{
    struct sim_net *n = e->net;
    struct list *head = e->inbox.next;
    sim_cancel(n->world, &e->work);
    if (e->zombie || !sim_runs(n->world, e->proc)) return;
    if (e->state == END_CLOSING || e->drain) {
        sim_at(n->world, &e->work, now(n));
    } else if (head != &e->inbox) {
        struct packet *p = container_of(head, struct packet, link);
        bool waits = e->paused && p->kind >= PACKET_FRAME;
        if (!waits && is_open(n, e->to, e->proc)) sim_at(n->world, &e->work, p->at);
    }
}

static void drop_inbox(struct end *e)
{
    for (struct list *i; (i = list_pop_front(&e->inbox));) free(container_of(i, struct packet, link));
}

static void straggler_free(struct straggler *s)
{
    sim_cancel(s->to->net->world, &s->ev);
    list_remove(&s->link);
    free(s->packet);
    free(s);
}

static void end_free(struct end *e)
{
    sim_cancel(e->net->world, &e->work);
    sim_cancel(e->net->world, &e->silence);
    sim_cancel(e->net->world, &e->dial);
    drop_inbox(e);
    while (!list_empty(&e->stragglers)) straggler_free(container_of(e->stragglers.next, struct straggler, link));
    list_remove(&e->link);
    e->net->stats.connections--;
    free(e);
}

static struct packet *post(struct end *to, enum packet_kind kind, uint64_t at, size_t n)
{
    struct packet *p = xmalloc(sizeof(*p) + n);
    *p = (struct packet){.kind = kind, .n = (uint32_t)n, .at = at};
    list_push_back(&to->inbox, &p->link);
    kick(to);
    return p;
}

/* The peer will hear of our end, as soon as it can; after what is under way to it. */
static void post_reset(struct end *peer)
{
    peer->peer = NULL;
    peer->orphan = false;
    post(peer, PACKET_RESET, now(peer->net) + delay(peer->net), 0);
}

static uint64_t frames_in(const struct end *e)
{
    uint64_t frames = 0;
    list_for_each(i, &e->inbox) frames += container_of(i, struct packet, link)->kind == PACKET_FRAME;
    return frames;
}

/* Of what is under way to it, only the first frames arrive. */
static void cut_short(struct end *e, uint64_t keep)
{
    list_for_each_safe(i, next, &e->inbox)
    {
        struct packet *p = container_of(i, struct packet, link);
        if (p->kind < PACKET_FRAME || (p->kind == PACKET_FRAME && keep && keep--)) continue;
        list_remove(i);
        free(p);
    }
    kick(e);
}

static void cut_somewhere(struct end *e) { cut_short(e, prng_below(&e->net->prng, frames_in(e) + 1)); }

static void part(struct end *e, bool silently)
{
    struct end *peer = e->peer;
    e->peer = NULL;
    if (!peer) return;
    if (silently) {
        if (!is_open(e->net, e->proc, e->to)) cut_short(peer, 0); /* will not be sent again */
        peer->peer = NULL;
        peer->orphan = true;
    } else {
        post_reset(peer);
    }
}

static void end_fail(struct end *e, int err, bool silently)
{
    if (e->state == END_CLOSING || e->zombie) return;
    e->state = END_CLOSING;
    e->err = err;
    sim_cancel(e->net->world, &e->silence);
    sim_cancel(e->net->world, &e->dial);
    drop_inbox(e);
    part(e, silently);
    kick(e);
}

static void on_silence(struct sim_event *ev)
{
    struct end *e = ev->arg;
    e->net->stats.timeouts++;
    end_fail(e, -ETIMEDOUT, true);
}

/* Starts, hastens or ends the wait for a silent peer. */
static void watch_silence(struct end *e)
{
    struct sim_net *n = e->net;
    if (e->zombie || e->state != END_OPEN) return;
    if (reachable(e)) {
        sim_cancel(n->world, &e->silence);
        if (e->orphan) post_reset(e);
        return;
    }
    uint64_t at = now(n) + (e->under_way ? 1 : 2) * n->cfg.timeout;
    if (!heap_contains(&e->silence.node) || at < e->silence.node.key) sim_at(n->world, &e->silence, at);
}

/* ---- callbacks ------------------------------------------------------------------------------------------------------
 */

static void note(struct end *e, const char *what, uint64_t more)
{
    trace_debug(e->net->cfg.trace, "net: %llu: %u <-> %u: %s %llu", (unsigned long long)now(e->net), e->proc, e->to,
                what, (unsigned long long)more);
    sim_mix(e->net->world, hash64(e->proc * SIM_PROCS_MAX + e->to, what, strlen(what)) ^ more);
}

/* The bytes of ours are consumed: there is room again. */
static void consumed(struct end *sender, size_t bytes)
{
    if (!sender) return;
    sender->under_way -= bytes;
    if (!sender->owes || queued(sender) >= sender->net->cfg.queue_low) return;
    sender->owes = false;
    sender->drain = true;
    kick(sender);
}

/* Around each callback: whose it is. */
static void enter(const struct end *e) { sim_set_running(e->net->world, (int)e->proc); }
static void leave(const struct end *e) { sim_set_running(e->net->world, -1); }

static void do_accept(struct end *e)
{
    struct listener *l = e->listener;
    e->listener = NULL;
    note(e, "accept", 0);
    enter(e);
    l->accept(l->arg, &e->base);
    leave(e);
    if (e->state == END_OPEN && !e->base.cb) end_fail(e, 0, false);
}

/* The frame as it was on the wire, some bits of it changed: does the receiver notice? */
static int decode_damaged(struct sim_net *n, const struct packet *p)
{
    struct slice s = slice_of(p->p, p->n);
    struct frame f;
    uint8_t *wire = xmalloc(FRAME_HEADER_BYTES + p->n);
    check(frame_header(wire, p->type, 0, &s, 1) == 0);
    if (p->n) memcpy(wire + FRAME_HEADER_BYTES, p->p, p->n);
    uint64_t bits = (FRAME_HEADER_BYTES + p->n) * 8ull, at = prng_below(&n->prng, bits);
    for (uint64_t end = min_u64(bits, at + prng_between(&n->prng, 1, 24)); at < end; at++)
        wire[at / 8] ^= (uint8_t)(1u << at % 8);
    int err = frame_decode(slice_of(wire, FRAME_HEADER_BYTES + p->n), &f);
    free(wire);
    return err;
}

static void do_frame(struct end *e, struct packet *p)
{
    struct slice s = slice_of(p->p, p->n);
    if (p->corrupt) {
        e->net->stats.corrupted++;
        check(decode_damaged(e->net, p) < 0);
        consumed(e->peer, p->n + FRAME_HEADER_BYTES);
        end_fail(e, QE_FRAME, false);
        return;
    }
    e->net->stats.frames++;
    e->net->stats.bytes += p->n;
    consumed(e->peer, p->n + FRAME_HEADER_BYTES);
    note(e, "frame", hash64(p->type, s.p, s.n));
    enter(e);
    e->base.cb->frame(&e->base, p->type, s);
    leave(e);
}

static void do_packet(struct end *e)
{
    struct packet *p = container_of(list_pop_front(&e->inbox), struct packet, link);
    switch (p->kind) {
    case PACKET_ACCEPT:
        do_accept(e);
        break;
    case PACKET_OPEN:
        e->state = END_OPEN;
        watch_silence(e);
        note(e, "open", 0);
        enter(e);
        if (e->base.cb->open) e->base.cb->open(&e->base);
        leave(e);
        break;
    case PACKET_FRAME:
        do_frame(e, p);
        break;
    case PACKET_RESET:
        end_fail(e, e->state == END_DIALLING ? -ECONNREFUSED : -ECONNRESET, false);
        break;
    }
    free(p);
    kick(e);
}

static void work(struct sim_event *ev)
{
    struct end *e = ev->arg;
    if (e->state == END_CLOSING) {
        note(e, "closed", (uint64_t)-e->err);
        enter(e);
        if (e->base.cb && !e->listener) e->base.cb->closed(&e->base, e->err);
        leave(e);
        end_free(e);
    } else if (e->drain) {
        e->drain = false;
        note(e, "drained", 0);
        enter(e);
        if (e->base.cb->drained) e->base.cb->drained(&e->base);
        leave(e);
        kick(e);
    } else {
        do_packet(e);
    }
}

/* ---- listening and dialling -----------------------------------------------------------------------------------------
 */

static void on_straggler(struct sim_event *ev)
{
    struct straggler *s = ev->arg;
    struct end *e = s->to;
    struct packet *p = s->packet;
    if (e->state == END_OPEN && !e->zombie && !e->listener && sim_runs(e->net->world, e->proc)) {
        note(e, "late", p->n);
        e->net->stats.late++;
        e->base.cb->frame(&e->base, p->type, slice_of(p->p, p->n));
    }
    straggler_free(s);
}

static struct end *end_new(struct sim_net *n, unsigned proc, unsigned to)
{
    struct end *e = xcalloc(1, sizeof(*e));
    e->base.ops = &ops;
    e->net = n;
    e->proc = proc;
    e->to = to;
    e->work = (struct sim_event){.run = work, .arg = e};
    e->silence = (struct sim_event){.run = on_silence, .arg = e};
    list_init(&e->inbox);
    list_init(&e->stragglers);
    list_push_back(&n->ends, &e->link);
    n->stats.connections++;
    return e;
}

static struct listener *find(struct sim_net *n, const char *addr)
{
    list_for_each(i, &n->listeners)
    {
        struct listener *l = container_of(i, struct listener, link);
        if (strcmp(l->addr, addr) == 0) return l;
    }
    return NULL;
}

static int op_listen(struct net *base, const char *addr, void (*accept)(void *arg, struct conn *c), void *arg)
{
    struct door *d = container_of(base, struct door, base);
    struct listener *l = find(d->net, addr);
    if (!strchr(addr, ':') || strlen(addr) >= sizeof(l->addr)) return -EINVAL;
    if (!sim_alive(d->net->world, d->proc)) return -EADDRNOTAVAIL;
    if (l && l->open) return -EADDRINUSE;
    if (!l) {
        l = xcalloc(1, sizeof(*l));
        snprintf(l->addr, sizeof(l->addr), "%s", addr);
        list_push_back(&d->net->listeners, &l->link);
    }
    l->proc = d->proc;
    l->open = true;
    l->accept = accept;
    l->arg = arg;
    return 0;
}

static void refuse(struct end *e, int err)
{
    e->net->stats.refused++;
    end_fail(e, err, true);
}

/* Our wish to connect reaches the other machine, or what the network makes of it. */
static void on_dial(struct sim_event *ev)
{
    struct end *e = ev->arg;
    struct sim_net *n = e->net;
    struct listener *l = find(n, e->addr);
    if (!strchr(e->addr, ':')) {
        refuse(e, -EINVAL);
        return;
    }
    if (l) e->to = l->proc;
    if (l && !reachable(e)) {
        if (now(n) >= e->dial_until)
            refuse(e, -ETIMEDOUT);
        else
            sim_at(n->world, &e->dial, min_u64(e->dial_until, now(n) + SYN_RETRY_NS));
        return;
    }
    if (!l || !l->open) {
        refuse(e, -ECONNREFUSED);
        return;
    }
    struct end *other = end_new(n, l->proc, e->proc);
    other->state = END_OPEN;
    other->listener = l;
    snprintf(other->base.peer, sizeof(other->base.peer), "process %u", e->proc);
    other->peer = e;
    e->peer = other;
    post(other, PACKET_ACCEPT, now(n), 0);
    post(e, PACKET_OPEN, now(n) + delay(n), 0);
}

static struct conn *op_dial(struct net *base, const char *addr, const struct conn_cb *cb, void *arg)
{
    struct door *d = container_of(base, struct door, base);
    struct sim_net *n = d->net;
    struct end *e = end_new(n, d->proc, d->proc);
    e->base.cb = cb;
    e->base.arg = arg;
    e->dial = (struct sim_event){.run = on_dial, .arg = e};
    e->dial_until = now(n) + n->cfg.timeout;
    snprintf(e->addr, sizeof(e->addr), "%s", addr);
    snprintf(e->base.peer, sizeof(e->base.peer), "%s", addr);
    n->stats.dials++;
    if (sim_alive(n->world, d->proc))
        sim_at(n->world, &e->dial, now(n) + delay(n));
    else
        e->zombie = true;
    return &e->base;
}

/* ---- sending --------------------------------------------------------------------------------------------------------
 */

static bool lossy(const struct sim_net *n, uint8_t type)
{
    return n->cfg.lossy_last && type >= n->cfg.lossy_first && type <= n->cfg.lossy_last;
}

static void gather(struct packet *p, const struct slice *v, unsigned nv)
{
    for (size_t i = 0, at = 0; i < nv; at += v[i++].n) {
        if (v[i].n) memcpy(p->p + at, v[i].p, v[i].n);
    }
}

static void post_straggler(struct end *e, uint8_t type, const struct slice *v, unsigned nv, size_t bytes)
{
    struct straggler *s = xcalloc(1, sizeof *s);
    s->packet = xmalloc(sizeof *s->packet + bytes);
    *s->packet = (struct packet){.kind = PACKET_FRAME, .type = type, .n = (uint32_t)bytes};
    gather(s->packet, v, nv);
    s->to = e->peer;
    s->ev = (struct sim_event){.run = on_straggler, .arg = s};
    list_push_back(&e->peer->stragglers, &s->link);
    sim_at(e->net->world, &s->ev, now(e->net) + (200 + prng_below(&e->net->prng, 1 + prng_below(&e->net->prng, 2000))) * NS_PER_MS);
}

static void post_frame(struct end *e, uint8_t type, const struct slice *v, unsigned nv, size_t bytes)
{
    struct sim_net *n = e->net;
    struct list *before = e->peer->inbox.prev;
    uint64_t start = max_u64(now(n), e->line_free);
    e->line_free = start + (n->cfg.bytes_per_s ? bytes * NS_PER_S / n->cfg.bytes_per_s : 0);
    struct packet *p = post(e->peer, PACKET_FRAME, e->line_free + delay(n) + n->slow[e->proc][e->to], bytes);
    p->type = type;
    p->corrupt = happens(n, n->cfg.corrupt_ppm);
    gather(p, v, nv);
    e->under_way += bytes + FRAME_HEADER_BYTES;
    /* Overtakes the one before it, if that is another frame of the kind. */
    if (!lossy(n, type) || !prng_chance(&n->prng, n->cfg.reorder_percent) || before == &e->peer->inbox) return;
    struct packet *other = container_of(before, struct packet, link);
    if (other->kind != PACKET_FRAME || !lossy(n, other->type)) return;
    list_remove(&p->link);
    list_insert_after(other->link.prev, &p->link);
    n->stats.reordered++;
    kick(e->peer);
}

static void reset_both(struct end *e)
{
    struct end *peer = e->peer;
    e->net->stats.resets++;
    if (peer) cut_somewhere(peer);
    cut_somewhere(e);
    e->peer = NULL;
    post_reset(e);
    if (peer) post_reset(peer);
}

static size_t total(const struct slice *v, unsigned nv)
{
    size_t n = 0;
    for (unsigned i = 0; i < nv; i++) n += v[i].n;
    return n;
}

static bool breaks(struct sim_net *n, uint8_t type)
{
    bool meant = !n->cfg.reset_last || (type >= n->cfg.reset_first && type <= n->cfg.reset_last);
    return meant && happens(n, n->cfg.reset_ppm);
}

static int op_send(struct conn *c, uint8_t type, const struct slice *v, unsigned nv)
{
    struct end *e = of(c);
    struct sim_net *n = e->net;
    if (n->cfg.sending) n->cfg.sending(n->cfg.sending_arg, e->proc);
    if (e->state != END_OPEN || e->zombie) return -ENOTCONN;
    size_t bytes = total(v, nv);
    if (bytes > FRAME_PAYLOAD_MAX) return -EMSGSIZE;
    if (queued(e) + bytes + FRAME_HEADER_BYTES > n->cfg.queue_max) {
        e->owes = true;
        return -ENOBUFS;
    }
    if (!e->peer) return 0; /* the other side is gone; we have not heard of it yet */
    if (breaks(n, type)) {
        reset_both(e);
        return 0;
    }
    if (lossy(n, type) && prng_chance(&n->prng, n->cfg.loss_percent)) {
        n->stats.lost++;
        return 0;
    }
    if (n->cfg.late && nv && n->cfg.late(type, v[0]) && prng_chance(&n->prng, n->cfg.late_percent)) {
        post_straggler(e, type, v, nv, bytes);
        return 0;
    }
    post_frame(e, type, v, nv, bytes);
    if (lossy(n, type) && prng_chance(&n->prng, n->cfg.double_percent)) {
        n->stats.doubled++;
        post_frame(e, type, v, nv, bytes);
    }
    if (queued(e) >= n->cfg.queue_low) e->owes = true;
    if (!reachable(e)) watch_silence(e);
    return 0;
}

static size_t op_queued(struct conn *c) { return queued(of(c)); }

static void op_pause(struct conn *c, bool on)
{
    struct end *e = of(c);
    e->paused = on;
    kick(e);
}

static void op_close(struct conn *c) { end_fail(of(c), 0, false); }

static const struct net_ops ops = {
    .listen = op_listen, .dial = op_dial, .send = op_send, .queued = op_queued, .pause = op_pause, .close = op_close};

/* ---- weather --------------------------------------------------------------------------------------------------------
 */

/* What was held back comes with the sender's next retransmission. */
static void way_changed(struct sim_net *n)
{
    each_end(e, n)
    {
        struct list *head = e->inbox.next;
        if (head != &e->inbox && is_open(n, e->to, e->proc)) {
            struct packet *p = container_of(head, struct packet, link);
            if (p->at < now(n)) p->at = now(n) + prng_below(&n->prng, HEALED_NS);
        }
        watch_silence(e);
        kick(e);
    }
}

void sim_cut(struct sim_net *n, unsigned from, unsigned to, bool on)
{
    check(from < SIM_PROCS_MAX && to < SIM_PROCS_MAX);
    n->cut[from][to] = on;
    way_changed(n);
}

void sim_partition(struct sim_net *n, const uint8_t *side, unsigned procs)
{
    check(procs <= SIM_PROCS_MAX);
    for (unsigned i = 0; i < procs; i++) {
        for (unsigned j = 0; j < procs; j++) n->cut[i][j] = side[i] != side[j];
    }
    way_changed(n);
}

void sim_heal(struct sim_net *n)
{
    memset(n->cut, 0, sizeof(n->cut));
    memset(n->slow, 0, sizeof(n->slow));
    way_changed(n);
}

void sim_slow_way(struct sim_net *n, unsigned from, unsigned to, uint64_t ns)
{
    check(from < SIM_PROCS_MAX && to < SIM_PROCS_MAX);
    n->slow[from][to] = ns;
}

void sim_reset(struct sim_net *n, unsigned a, unsigned b)
{
    each_end(e, n)
    {
        if (e->peer && !e->zombie && e->state == END_OPEN && e->proc == a && (a == b || e->to == b)) reset_both(e);
    }
}

/* ---- processes ------------------------------------------------------------------------------------------------------
 */

static void end_dies(struct end *e, bool silently)
{
    struct end *peer = e->peer;
    sim_cancel(e->net->world, &e->work);
    sim_cancel(e->net->world, &e->silence);
    sim_cancel(e->net->world, &e->dial);
    drop_inbox(e);
    e->zombie = true;
    /* What the dead one had sent is with its kernel; that may lose it where it answers with a reset. */
    if (peer && !silently && prng_chance(&e->net->prng, 50)) cut_somewhere(peer);
    part(e, silently);
}

static void died(struct sim_net *n, unsigned proc)
{
    list_for_each(i, &n->listeners)
    {
        struct listener *l = container_of(i, struct listener, link);
        if (l->proc == proc) l->open = false;
    }
    each_end(e, n)
    {
        if (e->proc == proc && !e->zombie) end_dies(e, !sim_powered(n->world, proc));
    }
}

static void on_change(void *arg, unsigned proc)
{
    struct sim_net *n = arg;
    bool alive = sim_alive(n->world, proc);
    if (!alive) died(n, proc);
    each_end(e, n)
    {
        if (alive && e->proc == proc && e->zombie) end_free(e);
    }
    way_changed(n);
}

/* ---- the net --------------------------------------------------------------------------------------------------------
 */

struct sim_net *sim_net_new(struct sim_world *w, const struct sim_net_config *config)
{
    struct sim_net *n = xcalloc(1, sizeof(*n));
    n->world = w;
    n->cfg = *config;
    if (!n->cfg.delay_min && !n->cfg.delay_max) {
        n->cfg.delay_min = 20 * NS_PER_US;
        n->cfg.delay_max = 200 * NS_PER_US;
    }
    if (!n->cfg.kernel_bytes) n->cfg.kernel_bytes = 256 * KIB;
    if (!n->cfg.queue_max) n->cfg.queue_max = 64 * MIB;
    if (!n->cfg.queue_low) n->cfg.queue_low = MIB;
    if (!n->cfg.timeout) n->cfg.timeout = 5 * NS_PER_S;
    check(n->cfg.delay_min <= n->cfg.delay_max);
    prng_seed(&n->prng, config->seed);
    list_init(&n->ends);
    list_init(&n->listeners);
    for (unsigned i = 0; i < SIM_PROCS_MAX; i++) n->doors[i] = (struct door){.base.ops = &ops, .net = n, .proc = i};
    sim_on_change(w, on_change, n);
    return n;
}

void sim_net_free(struct sim_net *n)
{
    each_end(e, n) end_free(e);
    for (struct list *i; (i = list_pop_front(&n->listeners));) free(container_of(i, struct listener, link));
    sim_on_change(n->world, NULL, NULL);
    free(n);
}

struct net *sim_net_door(struct sim_net *n, unsigned proc)
{
    check(proc < SIM_PROCS_MAX);
    return &n->doors[proc].base;
}

struct sim_net_config *sim_net_config(struct sim_net *n) { return &n->cfg; }
void sim_net_stats(const struct sim_net *n, struct sim_net_stats *out) { *out = n->stats; }
