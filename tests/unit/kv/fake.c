/* fake.c - see fake.h. A connection is two ends; each has an inbox of frames with the time they arrive. */
#include "fake.h"

#include <stdio.h>
#include <stdlib.h>

#define QUEUE_MAX (64u * MIB)
#define QUEUE_LOW (1u * MIB)

struct packet {
    struct list link;
    uint64_t at;
    uint8_t type;
    struct blob *payload;
};

struct end {
    struct conn base;
    struct list link;           /* fake.conns */
    struct fake *f;
    struct end *peer;           /* NULL: gone */
    char addr[64];              /* where it was accepted, or dialled to */
    bool dialled, open, closing, fin, gone, frozen, paused, high;
    int err;
    struct list inbox;
    size_t inbox_bytes;
    uint64_t last_at;
    struct list pokes;
    unsigned refs;              /* 1 until closed() was called, and 1 for each event under way */
};

struct poke {
    struct end *e;
    int what;
};
enum { POKE_OPEN, POKE_DELIVER, POKE_CLOSED, POKE_DRAINED };

/* ---- time ---- */

static struct fake *of_clock(struct clock *c) { return container_of(c, struct fake, clock); }
static uint64_t now(struct clock *c) { return of_clock(c)->now; }
static int64_t wall(struct clock *c) { return (int64_t)of_clock(c)->now + of_clock(c)->wall_skew; }
static void disarm(struct clock *c, struct timer *t) { heap_remove(&of_clock(c)->timers, &t->node); }

static void arm(struct clock *c, struct timer *t, uint64_t at)
{
    struct fake *f = of_clock(c);
    heap_remove(&f->timers, &t->node);
    heap_insert(&f->timers, &t->node, max_u64(at, f->now));
}

static const struct clock_ops clock_ops = {now, wall, arm, disarm};

void fake_later(struct fake *f, uint64_t delay, void (*fire)(void *arg), void *arg)
{
    struct fake_event *ev = xcalloc(1, sizeof *ev);
    ev->fire = fire;
    ev->arg = arg;
    heap_insert(&f->events, &ev->node, f->now + delay);
}

/* Timers at the present go before other events: "as soon as the events at hand are handled". */
bool fake_step(struct fake *f)
{
    struct heap_node *t = heap_min(&f->timers), *e = heap_min(&f->events);
    if (!t && !e) return false;
    if (t && (!e || t->key <= f->now || t->key < e->key)) {
        f->now = max_u64(f->now, t->key);
        struct timer *timer = container_of(t, struct timer, node);
        heap_remove(&f->timers, t);
        timer->fire(timer);
        return true;
    }
    f->now = max_u64(f->now, e->key);
    struct fake_event *ev = container_of(e, struct fake_event, node);
    heap_remove(&f->events, e);
    ev->fire(ev->arg);
    free(ev);
    return true;
}

static uint64_t next_at(struct fake *f)
{
    struct heap_node *t = heap_min(&f->timers), *e = heap_min(&f->events);
    return min_u64(t ? t->key : UINT64_MAX, e ? e->key : UINT64_MAX);
}

void fake_run(struct fake *f, uint64_t ns)
{
    uint64_t end = f->now + ns;
    while (next_at(f) <= end) fake_step(f);
    f->now = end;
}

bool fake_until(struct fake *f, bool (*cond)(void *arg), void *arg, uint64_t ns)
{
    uint64_t end = f->now + ns;
    while (!cond(arg)) {
        if (next_at(f) > end) return false;
        fake_step(f);
    }
    return true;
}

/* ---- ends ---- */

static struct end *of(struct conn *c) { return container_of(c, struct end, base); }

static void end_unref(struct end *e)
{
    if (--e->refs > 0) return;
    for (struct list *l; (l = list_pop_front(&e->inbox));) {
        struct packet *p = container_of(l, struct packet, link);
        blob_unref(p->payload);
        free(p);
    }
    list_remove(&e->link);
    free(e);
}

static void poke_fired(void *arg);

static void poke(struct end *e, int what, uint64_t delay)
{
    struct poke *p = xcalloc(1, sizeof *p);
    *p = (struct poke){e, what};
    e->refs++;
    fake_later(e->f, delay, poke_fired, p);
}

static void deliver(struct end *e)
{
    while (e->open && !e->closing && !e->frozen && !e->paused && !list_empty(&e->inbox)) {
        struct packet *p = container_of(e->inbox.next, struct packet, link);
        if (p->at > e->f->now) return;
        list_remove(&p->link);
        e->inbox_bytes -= p->payload->n;
        if (e->peer && e->peer->high && e->inbox_bytes < QUEUE_LOW) {
            e->peer->high = false;
            poke(e->peer, POKE_DRAINED, 0);
        }
        e->f->frames++;
        e->base.cb->frame(&e->base, p->type, blob_slice(p->payload));
        blob_unref(p->payload);
        free(p);
    }
}

static void closed(struct end *e)
{
    if (e->gone) return;
    e->gone = true;
    e->open = false;
    if (e->peer) {
        e->peer->peer = NULL;
        if (!e->peer->closing && !e->peer->fin) {
            uint64_t delay = prng_between(&e->f->rng, e->f->delay_min, e->f->delay_max), last = e->peer->last_at;
            e->peer->fin = true; /* what was sent before the close still arrives; not so when the connection broke */
            e->peer->closing = e->err != 0;
            e->peer->err = -ECONNRESET;
            poke(e->peer, POKE_CLOSED, last > e->f->now ? last - e->f->now + delay : delay);
        }
        e->peer = NULL;
    }
    if (e->base.cb) e->base.cb->closed(&e->base, e->err);
    end_unref(e);
}

static void poke_fired(void *arg)
{
    struct poke p = *(struct poke *)arg;
    free(arg);
    if (p.what == POKE_OPEN && !p.e->closing && !p.e->gone) {
        p.e->open = true;
        if (p.e->base.cb->open) p.e->base.cb->open(&p.e->base);
    } else if (p.what == POKE_DELIVER) {
        deliver(p.e);
    } else if (p.what == POKE_DRAINED && p.e->open && !p.e->closing) {
        if (p.e->base.cb->drained) p.e->base.cb->drained(&p.e->base);
    } else if (p.what == POKE_CLOSED) {
        if (p.e->fin && !p.e->closing) deliver(p.e);
        closed(p.e);
    }
    end_unref(p.e);
}

static struct end *end_new(struct fake *f, const char *addr);

static int op_listen(struct net *n, const char *addr, void (*accept)(void *arg, struct conn *c), void *arg)
{
    struct fake *f = container_of(n, struct fake, net);
    struct fake_listener *l = fake_listener(f, addr);
    if (l && l->up) return -EADDRINUSE;
    if (!l) l = &f->listeners[f->nlisteners++];
    check(f->nlisteners <= 8 && strlen(addr) < sizeof l->addr);
    *l = (struct fake_listener){.up = true, .accept = accept, .arg = arg};
    memcpy(l->addr, addr, strlen(addr) + 1);
    return 0;
}

static void begin_close(struct end *e, int err, uint64_t delay)
{
    if (e->closing) return;
    e->closing = true;
    if (!e->fin || err == 0) e->err = err;
    poke(e, POKE_CLOSED, delay);
}

static struct conn *op_dial(struct net *n, const char *addr, const struct conn_cb *cb, void *arg)
{
    struct fake *f = container_of(n, struct fake, net);
    struct end *e = end_new(f, addr);
    e->dialled = true;
    e->base.cb = cb;
    e->base.arg = arg;
    f->dials++;
    uint64_t delay = prng_between(&f->rng, f->delay_min, f->delay_max);
    struct fake_listener *l = fake_listener(f, addr);
    if (l && l->silent) return &e->base;
    if (!l || !l->up) {
        begin_close(e, -ECONNREFUSED, delay);
        return &e->base;
    }
    struct end *far = end_new(f, addr);
    far->open = true;
    far->peer = e;
    e->peer = far;
    poke(e, POKE_OPEN, delay);
    l->accept(l->arg, &far->base);
    return &e->base;
}

static int op_send(struct conn *c, uint8_t type, const struct slice *v, unsigned nv)
{
    struct end *e = of(c), *to = e->peer;
    if (!e->open || e->closing || !to) return -ENOTCONN;
    size_t n = 0;
    for (unsigned i = 0; i < nv; i++) n += v[i].n;
    check(n <= FRAME_PAYLOAD_MAX);
    if (to->inbox_bytes + n > QUEUE_MAX) return -ENOBUFS;
    struct packet *p = xcalloc(1, sizeof *p);
    p->type = type;
    p->payload = blob_new(n);
    n = 0;
    for (unsigned i = 0; i < nv; i++) {
        if (v[i].n) memcpy(p->payload->p + n, v[i].p, v[i].n);
        n += v[i].n;
    }
    uint64_t delay = prng_between(&e->f->rng, e->f->delay_min, e->f->delay_max);
    to->last_at = p->at = max_u64(to->last_at, e->f->now + delay);
    list_push_back(&to->inbox, &p->link);
    to->inbox_bytes += n;
    if (to->inbox_bytes >= QUEUE_LOW) e->high = true;
    poke(to, POKE_DELIVER, p->at - e->f->now);
    return 0;
}

static size_t op_queued(struct conn *c) { return of(c)->peer ? of(c)->peer->inbox_bytes : 0; }

static void op_pause(struct conn *c, bool on)
{
    of(c)->paused = on;
    if (!on) poke(of(c), POKE_DELIVER, 0);
}

static void op_close(struct conn *c) { begin_close(of(c), 0, 0); }

static const struct net_ops net_ops = {op_listen, op_dial, op_send, op_queued, op_pause, op_close};

static struct end *end_new(struct fake *f, const char *addr)
{
    struct end *e = xcalloc(1, sizeof *e);
    e->base.ops = &net_ops;
    e->f = f;
    e->refs = 1;
    snprintf(e->addr, sizeof e->addr, "%s", addr);
    snprintf(e->base.peer, sizeof e->base.peer, "%s", addr);
    list_init(&e->inbox);
    list_push_back(&f->conns, &e->link);
    return e;
}

/* ---- what tests do to it ---- */

void fake_init(struct fake *f, uint64_t seed)
{
    *f = (struct fake){
        .clock = {&clock_ops}, .net = {&net_ops}, .now = 1000 * NS_PER_S, .wall_skew = 1700000000000000000};
    f->delay_min = 20 * NS_PER_US;
    f->delay_max = 80 * NS_PER_US;
    prng_seed(&f->rng, seed);
    list_init(&f->conns);
}

void fake_free(struct fake *f)
{
    for (struct heap_node *e; (e = heap_min(&f->events));) {
        struct fake_event *ev = container_of(e, struct fake_event, node);
        heap_remove(&f->events, e);
        ev->fire(ev->arg);
        free(ev);
    }
    check(list_empty(&f->conns));
    check(heap_min(&f->timers) == NULL);
    heap_free(&f->events);
    heap_free(&f->timers);
}

struct fake_listener *fake_listener(struct fake *f, const char *addr)
{
    for (unsigned i = 0; i < f->nlisteners; i++)
        if (strcmp(f->listeners[i].addr, addr) == 0) return &f->listeners[i];
    return NULL;
}

void fake_freeze(struct conn *c, bool on)
{
    struct end *e = of(c)->peer;
    if (!e) return;
    e->frozen = on;
    if (!on) poke(e, POKE_DELIVER, 0);
}

void fake_freeze_addr(struct fake *f, const char *addr, bool on)
{
    fake_listener(f, addr)->silent = on;
    list_for_each(l, &f->conns)
    {
        struct end *e = container_of(l, struct end, link);
        if (e->dialled || strcmp(e->addr, addr) != 0) continue;
        e->frozen = on;
        if (!on) poke(e, POKE_DELIVER, 0);
    }
}

void fake_cut(struct conn *c) { begin_close(of(c), -ECONNRESET, 0); }

void fake_close_all(struct fake *f, int err)
{
    list_for_each(l, &f->conns) begin_close(container_of(l, struct end, link), err, 0);
}

void fake_cut_some(struct fake *f, const char *addr, unsigned percent)
{
    list_for_each(l, &f->conns)
    {
        struct end *e = container_of(l, struct end, link);
        if (strcmp(e->addr, addr) == 0 && e->open && prng_chance(&f->rng, percent)) begin_close(e, -ECONNRESET, 0);
    }
}

void fake_cut_addr(struct fake *f, const char *addr) { fake_cut_some(f, addr, 100); }

unsigned fake_conns_at(struct fake *f, const char *addr)
{
    unsigned n = 0;
    list_for_each(l, &f->conns)
    {
        struct end *e = container_of(l, struct end, link);
        n += !e->dialled && e->open && !e->closing && strcmp(e->addr, addr) == 0;
    }
    return n;
}
