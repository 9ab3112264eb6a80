/* proxy.c - the labs' network, for real: all connections between servers, and from clerks to servers, go through here,
 * frame by frame.
 *
 * The labs' network carries calls: a request and its reply, each lost, delayed or held back by itself. Ours carries
 * streams. So this is how the one is mapped to the other:
 * - Between servers a raft message (RAFT_FRAME_MSG) is a request or a reply, according to its type, and gets what the
 *   labs do to one: lost where the way is shut; in an unreliable network requests are delayed by 0..26 ms and 10 % of
 *   them lost, and 10 % of replies; long reordering holds two of three replies back for 200 + U{0 .. U{0..1999}} ms and
 *   delivers them even if the way has been shut since. Each by itself, so messages overtake each other.
 * - The other frames between servers (greetings, snapshot blocks, payload, digests) are a stream's: TCP would send them
 *   again. Where the way is shut they wait in order, and go on when it opens. So do dialling and the end of a
 *   connection: who is cut off hears of nobody's death.
 * - From a clerk, a CALL is a request, a REPLY a reply. The labs tell a caller of a lost call at once; here the
 *   connection breaks at once, before the lost request or reply was delivered. Requests are delayed, in their order.
 *   Where a clerk's way is shut, its connections break within 0..99 ms, as the labs' calls fail then.
 * A process that dies breaks its connections; the other side hears of it at once if the way is open. */
#include <stdio.h>
#include <unistd.h>

#include "kv/wire.h"
#include "tests/labreal/real.h"

#define PORT 20000u /* below the ports that the kernel gives to dialling sockets */

enum { NEAR, FAR }; /* the ends of a pipe: who dialled, and the server */

struct pipe {
    struct list link;
    struct host *host;
    struct conn *end[2]; /* NULL: not there yet, or gone */
    bool dialled, far_up;
    unsigned place[2];
    struct list waiting[2]; /* frames from that end, for the far end or for the way to open */
    struct list flying;     /* frames that are delayed */
    uint64_t last[2];       /* when the last one of a clerk's stream is due */
    struct timer hangup;
};

struct flight {
    struct list link;
    struct pipe *pipe;
    struct timer timer;
    unsigned from; /* end */
    bool lost;     /* a clerk's: instead of being delivered, it breaks the connection */
    uint8_t type;
    uint32_t n;
    uint8_t p[];
};

struct way {
    struct host *host;
    unsigned from, to;
};

/* ---- addresses ---- */

/* An address of the loopback network for this process alone, so that titles that run side by side cannot meet. */
void proxy_addr(unsigned from, unsigned to, char *out, size_t size)
{
    unsigned pid = (unsigned)getpid();
    snprintf(out, size, "127.%u.%u.%u:%u", 64 + (pid >> 16 & 63), pid >> 8 & 255, pid & 255, PORT + from * 8 + to);
}

static unsigned server_of(const char *addr)
{
    const char *colon = strrchr(addr, ':');
    return colon ? ((unsigned)strtoul(colon + 1, NULL, 10) - PORT) % 8 : 0;
}

/* ---- what is kept of frames ---- */

static struct flight *flight_new(struct pipe *p, unsigned from, uint8_t type, struct slice payload)
{
    struct flight *f = xmalloc(sizeof *f + payload.n);
    *f = (struct flight){.pipe = p, .from = from, .type = type, .n = (uint32_t)payload.n};
    if (payload.n) memcpy(f->p, payload.p, payload.n);
    list_init(&f->link);
    return f;
}

static void flight_free(struct flight *f)
{
    clock_disarm(f->pipe->host->clock, &f->timer);
    list_remove(&f->link);
    free(f);
}

static void drop_all(struct list *l)
{
    while (!list_empty(l)) flight_free(container_of(l->next, struct flight, link));
}

/* ---- pipes ---- */

static bool is_clerk(const struct pipe *p) { return p->place[NEAR] >= CLERK_PLACE; }

static bool shut(const struct pipe *p, unsigned from)
{
    if (p->place[NEAR] == NOBODY) return true;
    return p->host->shut[p->place[from]][p->place[!from]];
}

static void close_end(struct pipe *p, unsigned which)
{
    struct conn *c = p->end[which];
    if (!c) return;
    p->end[which] = NULL;
    c->arg = NULL;
    conn_close(c);
}

static void pipe_free(struct pipe *p)
{
    close_end(p, NEAR);
    close_end(p, FAR);
    clock_disarm(p->host->clock, &p->hangup);
    drop_all(&p->waiting[NEAR]);
    drop_all(&p->waiting[FAR]);
    drop_all(&p->flying);
    list_remove(&p->link);
    free(p);
}

static bool is_reply(struct slice payload)
{
    switch (payload.n ? payload.p[0] : 0) {
    case RAFT_MSG_PREVOTE_RESP:
    case RAFT_MSG_VOTE_RESP:
    case RAFT_MSG_APPEND_RESP:
    case RAFT_MSG_PROBE_RESP:
        return true;
    default:
        return false;
    }
}

static void deliver(struct pipe *p, unsigned from, uint8_t type, struct slice payload)
{
    struct host *h = p->host;
    struct conn *to = p->end[!from];
    if (!to) return;
    if (conn_send(to, type, &payload, 1) == -ENOBUFS)
        host_fail(h, "server %u does not read what it is sent", p->place[!from]);
    if (is_clerk(p)) return;
    h->peer_bytes += payload.n + FRAME_HEADER_BYTES;
    bool request =
        type == RAFT_FRAME_MSG ? !is_reply(payload) : type == RAFT_FRAME_SNAPSHOT || type == RAFT_FRAME_FETCH;
    if (request) h->servers[p->place[!from]].rpcs++;
}

/* ---- frames that come in ---- */

static void flight_lands(struct timer *t)
{
    struct flight *f = t->arg;
    struct pipe *p = f->pipe;
    if (f->lost) {
        p->host->lost++;
        pipe_free(p);
        return;
    }
    deliver(p, f->from, f->type, slice_of(f->p, f->n));
    flight_free(f);
}

static struct flight *fly(struct pipe *p, unsigned from, uint8_t type, struct slice payload, uint64_t at)
{
    struct flight *f = flight_new(p, from, type, payload);
    f->timer = (struct timer){.fire = flight_lands, .arg = f};
    list_push_back(&p->flying, &f->link);
    clock_arm(p->host->clock, &f->timer, at);
    return f;
}

static void message(struct pipe *p, unsigned from, struct slice payload)
{
    struct host *h = p->host;
    bool reply = is_reply(payload);
    uint64_t delay = 0;
    if (shut(p, from)) {
        h->cut++;
        return;
    }
    if (h->unreliable && prng_chance(&h->rng, 10)) {
        h->lost++;
        return;
    }
    if (h->unreliable && !reply) delay = prng_below(&h->rng, 27);
    h->delayed += delay > 0;
    if (h->reordering && reply && prng_below(&h->rng, 3) < 2) {
        delay = 200 + prng_below(&h->rng, 1 + prng_below(&h->rng, 2000));
        h->held++;
    }
    if (delay)
        fly(p, from, RAFT_FRAME_MSG, payload, host_now(h) + delay * NS_PER_MS);
    else
        deliver(p, from, RAFT_FRAME_MSG, payload);
}

static void of_stream(struct pipe *p, unsigned from, uint8_t type, struct slice payload)
{
    bool ready = p->far_up && !shut(p, from) && list_empty(&p->waiting[from]);
    if (ready)
        deliver(p, from, type, payload);
    else
        list_push_back(&p->waiting[from], &flight_new(p, from, type, payload)->link);
    p->host->cut += shut(p, from);
}

static void of_clerk(struct pipe *p, unsigned from, uint8_t type, struct slice payload)
{
    struct host *h = p->host;
    uint64_t now = host_now(h);
    bool call = type == KV_FRAME_CALL, lossy = h->unreliable && (call || type == KV_FRAME_REPLY);
    uint64_t at = lossy && call ? now + prng_below(&h->rng, 27) * NS_PER_MS : now;
    bool lost = lossy && prng_chance(&h->rng, 10);
    at = max_u64(at, p->last[from] + 1);
    if (at <= now && !lost) {
        of_stream(p, from, type, payload);
        return;
    }
    p->last[from] = at;
    fly(p, from, type, payload, at)->lost = lost;
}

static void far_dial(struct pipe *p);

/* Who dialled a server's common address says so in its first frame. */
static void identify(struct pipe *p, uint8_t type, struct slice payload)
{
    struct reader r = reader_of(payload);
    get_u32(&r);
    get_u64(&r);
    uint64_t id = get_u64(&r);
    if (type != RAFT_FRAME_HELLO || r.bad || id < 1 || id > p->host->opt.n)
        host_fail(p->host, "a stranger has dialled server %u: its first frame is of type %u", p->place[FAR], type);
    p->place[NEAR] = (unsigned)id - 1;
}

static void on_frame(struct conn *c, uint8_t type, struct slice payload)
{
    struct pipe *p = c->arg;
    if (!p) return;
    unsigned from = p->end[NEAR] == c ? NEAR : FAR;
    if (p->place[NEAR] == NOBODY) identify(p, type, payload);
    if (is_clerk(p))
        of_clerk(p, from, type, payload);
    else if (type == RAFT_FRAME_MSG)
        message(p, from, payload);
    else
        of_stream(p, from, type, payload);
    far_dial(p);
}

/* ---- the ends ---- */

/* The end of a connection travels the way, too. */
static void settle(struct pipe *p)
{
    bool near_gone = !p->end[NEAR], far_gone = p->dialled && !p->end[FAR];
    if (near_gone && far_gone)
        pipe_free(p);
    else if ((near_gone || far_gone) && (is_clerk(p) || (!shut(p, NEAR) && !shut(p, FAR)) || !p->dialled))
        pipe_free(p);
}

static void on_closed(struct conn *c, int err)
{
    struct pipe *p = c->arg;
    if (!p) return;
    p->end[p->end[NEAR] == c ? NEAR : FAR] = NULL;
    settle(p);
}

static void pump(struct pipe *p)
{
    for (unsigned from = NEAR; from <= FAR; from++) {
        while (p->far_up && !shut(p, from) && !list_empty(&p->waiting[from])) {
            struct flight *f = container_of(p->waiting[from].next, struct flight, link);
            deliver(p, from, f->type, slice_of(f->p, f->n));
            flight_free(f);
        }
    }
}

static void far_open(struct conn *c)
{
    struct pipe *p = c->arg;
    if (!p) return;
    p->far_up = true;
    pump(p);
}

static const struct conn_cb near_cb = {.frame = on_frame, .closed = on_closed};
static const struct conn_cb far_cb = {.open = far_open, .frame = on_frame, .closed = on_closed};

static void far_dial(struct pipe *p)
{
    if (p->dialled || shut(p, NEAR) || shut(p, FAR)) return;
    p->dialled = true;
    p->end[FAR] = net_dial(p->host->net, p->host->servers[p->place[FAR]].addr, &far_cb, p);
}

/* ---- dialling the proxy ---- */

static void hangup_fired(struct timer *t)
{
    struct pipe *p = t->arg;
    if (shut(p, NEAR)) pipe_free(p);
}

static void refuse_soon(struct pipe *p)
{
    struct host *h = p->host;
    clock_arm(h->clock, &p->hangup, host_now(h) + prng_below(&h->rng, 100) * NS_PER_MS);
}

static void accept_conn(void *arg, struct conn *c)
{
    struct way *w = arg;
    struct pipe *p = xcalloc(1, sizeof *p);
    *p = (struct pipe){.host = w->host, .end = {c, NULL}, .place = {w->from, w->to}};
    list_init(&p->waiting[NEAR]);
    list_init(&p->waiting[FAR]);
    list_init(&p->flying);
    p->hangup = (struct timer){.fire = hangup_fired, .arg = p};
    list_push_back(&w->host->pipes, &p->link);
    c->cb = &near_cb;
    c->arg = p;
    if (!is_clerk(p) || p->place[NEAR] == NOBODY) return;
    if (shut(p, NEAR))
        refuse_soon(p);
    else
        far_dial(p);
}

void proxy_listen(struct host *h, unsigned from, unsigned to)
{
    char addr[40];
    struct way *w = xcalloc(1, sizeof *w);
    bool common = from < CLERK_PLACE;
    *w = (struct way){.host = h, .from = common ? NOBODY : from, .to = to};
    proxy_addr(common ? 0 : from, to, addr, sizeof addr);
    int err = net_listen(h->net, addr, accept_conn, w);
    if (err) host_fail(h, "cannot listen at %s: %s", addr, err_text(err));
}

void proxy_init(struct host *h) { list_init(&h->pipes); }

/* ---- ways ---- */

static void ways_changed(struct host *h)
{
    list_for_each_safe(l, next, &h->pipes)
    {
        struct pipe *p = container_of(l, struct pipe, link);
        if (p->place[NEAR] == NOBODY) continue;
        if (is_clerk(p) && shut(p, NEAR)) {
            refuse_soon(p);
            continue;
        }
        far_dial(p);
        pump(p);
        settle(p);
    }
}

void host_way(struct host *h, unsigned i, unsigned j, bool open)
{
    if (h->shut[i][j] == !open) return;
    h->shut[i][j] = h->shut[j][i] = !open;
    if (!open && i < CLERK_PLACE) h->was_shut = true;
    ways_changed(h);
}

/* A raft message that meets a shut way is lost anyway, and nothing else is kept for long. */
void host_reset(struct host *h, unsigned i, unsigned j) {}

void host_unreliable(struct host *h, bool on)
{
    h->unreliable = on;
    h->was_unreliable |= on;
    if (!on) h->reordering = false;
}

void host_reorder(struct host *h) { h->reordering = h->was_reordering = true; }

/* ---- clerks ---- */

/* A clerk's door: whatever address of a server it dials, it comes out at its own listener for that server. */
static struct conn *clerk_dial(struct net *n, const char *addr, const struct conn_cb *cb, void *arg)
{
    struct clerk_net *c = container_of(n, struct clerk_net, base);
    char own[40];
    proxy_addr(CLERK_PLACE + c->at, server_of(addr), own, sizeof own);
    return net_dial(c->host->net, own, cb, arg);
}

static const struct net_ops clerk_ops = {.dial = clerk_dial};

struct net *host_clerk_net(struct host *h, unsigned k)
{
    unsigned place = CLERK_PLACE + k;
    check(k < CLERKS_MAX);
    struct clerk_net *c = &h->clerks[k];
    *c = (struct clerk_net){.base = {.ops = &clerk_ops}, .host = h, .at = k};
    for (unsigned i = 0; i < h->opt.n; i++) h->shut[place][i] = h->shut[i][place] = false;
    if (h->listening[place]) return &c->base;
    h->listening[place] = true;
    for (unsigned i = 0; i < h->opt.n; i++) proxy_listen(h, place, i);
    return &c->base;
}

struct clock *host_clerk_clock(struct host *h, unsigned k) { return h->clock; }
void host_clerk_way(struct host *h, unsigned k, unsigned i, bool open) { host_way(h, CLERK_PLACE + k, i, open); }
void host_clerk_end(struct host *h, unsigned k) {}
