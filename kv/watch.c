/* watch.c - pushes events to clients that watch keys.
 *
 * A watch is a filter, a place (revision, position) up to which everything has been told, and a cursor into the
 * history (kv/history.h). It has no queue of its own: events go from the history into the connection while that has
 * room, and a watch whose connection is full waits for it. If the history has dropped what it has not told yet, the
 * watch ends with QE_GONE and the revision from which it may go on; so does one that asks for too old a revision.
 *
 * Every frame names the place behind it, also where no event was for this watch (at the start, and once a second after
 * others' events), so that a client that goes on elsewhere need not ask for what it was never interested in. Only a
 * leader serves watches: a deposed one sends its clients away, and they go on at the new one from where they are. A
 * watch "from now on" begins behind all that this node has applied, so every change that is asked for later is told;
 * some that were asked for shortly before may be, too.
 *
 * Bounds: watches of a connection and in all, unsent bytes of a connection, events looked at in one turn. A client
 * that takes nothing for KV_UNREAD_NS is closed (kv/serve.c). */
#include "kv/server.h"

#include <stdlib.h>

#define FRAME_BYTES (32u * 1024)
#define TURN_EVENTS 8192u                   /* looked at for one watch in one turn */
#define WAIT_MIN_NS (1 * NS_PER_MS)
#define WAIT_MAX_NS (64 * NS_PER_MS)

struct kv__watch {
    struct list link;                       /* conn.watches */
    struct kv__watching at;                 /* its key is the bytes below */
    uint64_t told;                          /* revision named by the last frame */
    struct kv__cursor cursor;
    uint8_t key[];
};

enum pumped { ALL_TOLD, MORE_TO_SEE, NO_ROOM, ENDED };

/* ---- life ---- */

static void drop(struct kv__conn *c, struct kv__watch *w)
{
    list_remove(&w->link);
    free(w);
    c->nwatches--;
    c->server->nwatches--;
    if (c->nwatches == 0) list_remove(&c->watch_link);
}

void kv__watch_drop_all(struct kv__conn *c)
{
    while (!list_empty(&c->watches)) drop(c, container_of(c->watches.next, struct kv__watch, link));
}

static struct kv__watch *find(struct kv__conn *c, uint64_t id)
{
    list_for_each(l, &c->watches)
    {
        struct kv__watch *w = container_of(l, struct kv__watch, link);
        if (w->at.id == id) return w;
    }
    return NULL;
}

static void send_end(struct kv__conn *c, uint64_t id, int err, uint64_t revision, const char *text)
{
    kv__watch_end_encode(id, err, revision, text, kv__out(c));
    kv__send_out(c, KV_FRAME_WATCH_END);
}

static void send_gone(struct kv__conn *c, uint64_t id)
{
    send_end(c, id, QE_GONE, c->server->store->history.begin + 1,
             "events of that revision are no longer kept: list the keys anew and watch from this revision on");
}

/* ---- telling ---- */

static void send_events(struct kv__conn *c, struct kv__watch *w, struct slice events)
{
    uint8_t head[KV_EVENTS_HEAD];
    w->told = w->at.revision;
    c->server->watch_wait = 0;
    kv__events_encode(&w->at, head);
    struct slice v[2] = {slice_of(head, sizeof head), events};
    kv__send_frame(c, KV_FRAME_EVENTS, v, events.n ? 2 : 1);
}

static bool wanted(const struct kv__watch *w, const struct kv_event *ev)
{
    const struct kv__watching *at = &w->at;
    if (ev->revision < at->revision || (ev->revision == at->revision && ev->position < at->position)) return false;
    bool longer = ev->key.n > at->key.n && at->flags & KV_WATCH_PREFIX;
    return (longer || ev->key.n == at->key.n) && memcmp(ev->key.p, at->key.p, at->key.n) == 0;
}

static void seen(struct kv__watch *w, uint64_t revision, uint32_t position)
{
    struct kv__watching *at = &w->at;
    if (revision < at->revision || (revision == at->revision && position <= at->position)) return;
    at->revision = revision;
    at->position = position;
}

/* The next event; a cursor that fell out of the history without having missed anything is set anew. */
static int next_event(const struct kv__history *h, struct kv__watch *w, struct kv_event *ev, struct slice *raw)
{
    int got = kv__history_next(h, &w->cursor, ev, raw);
    if (got != QE_GONE) return got;
    if (kv__history_seek(h, w->at.revision, w->at.position, &w->cursor)) return QE_GONE;
    return kv__history_next(h, &w->cursor, ev, raw);
}

/* Gathers a frame's events; 1: there may be more, 0: these are all, QE_GONE. */
static int gather(const struct kv__history *h, struct kv__watch *w, struct buf *out, unsigned *looks)
{
    struct kv_event ev;
    struct slice raw;
    for (int got = 1; out->n < FRAME_BYTES && *looks < TURN_EVENTS; ++*looks) {
        got = next_event(h, w, &ev, &raw);
        if (got == 0) seen(w, h->end + 1, 0);
        if (got <= 0) return got;
        if (wanted(w, &ev)) put_bytes(out, raw);
        seen(w, ev.revision, ev.position + 1);
    }
    return 1;
}

static enum pumped pump(struct kv__conn *c, struct kv__watch *w)
{
    struct kv_server *s = c->server;
    unsigned looks = 0;
    while (looks < TURN_EVENTS) {
        if (conn_queued(c->conn) > KV_WATCH_SEND_HIGH) return NO_ROOM;
        buf_clear(&s->events);
        int more = gather(&s->store->history, w, &s->events, &looks);
        uint64_t id = w->at.id;
        if (s->events.n) send_events(c, w, buf_slice(&s->events));
        if (!c->conn) return ENDED;
        if (more < 0) {
            drop(c, w);
            send_gone(c, id);
            return ENDED;
        }
        if (!more) return ALL_TOLD;
    }
    return MORE_TO_SEE;
}

static void again(struct kv_server *s, uint64_t wait)
{
    clock_arm(s->clock, &s->watch_timer, wait ? clock_now(s->clock) + wait : 0);
}

void kv__watch_pump(struct kv__conn *c)
{
    struct kv_server *s = c->server;
    c->refs++;
    list_for_each_safe(l, next, &c->watches)
    {
        enum pumped p = pump(c, container_of(l, struct kv__watch, link));
        if (!c->conn) break;
        if (p == MORE_TO_SEE) again(s, 0);
        if (p != NO_ROOM) continue;
        s->watch_wait = s->watch_wait ? min_u64(2 * s->watch_wait, WAIT_MAX_NS) : WAIT_MIN_NS;
        again(s, s->watch_wait);
        break;
    }
    kv__conn_unref(c);
}

void kv__watch_pump_all(struct kv_server *s)
{
    list_for_each_safe(l, next, &s->watching) kv__watch_pump(container_of(l, struct kv__conn, watch_link));
}

static void timer_fired(struct timer *t)
{
    struct kv_server *s = t->arg;
    kv__watch_pump_all(s);
}

void kv__watch_tick(struct kv__conn *c)
{
    list_for_each_safe(l, next, &c->watches)
    {
        struct kv__watch *w = container_of(l, struct kv__watch, link);
        if (w->at.revision == w->told || conn_queued(c->conn) > KV_WATCH_SEND_HIGH) continue;
        send_events(c, w, (struct slice){0});
        if (!c->conn) return;
    }
}

/* ---- frames ---- */

static void begin(struct kv__conn *c, const struct kv__watching *at)
{
    struct kv_server *s = c->server;
    struct kv__watch *w = xmalloc(sizeof *w + at->key.n);
    *w = (struct kv__watch){.at = *at};
    if (at->key.n) memcpy(w->key, at->key.p, at->key.n);
    w->at.key = slice_of(w->key, at->key.n);
    if (at->revision == 0) seen(w, s->store->history.end + 1, 0);
    if (kv__history_seek(&s->store->history, w->at.revision, w->at.position, &w->cursor)) {
        free(w);
        send_gone(c, at->id);
        return;
    }
    if (c->nwatches++ == 0) list_push_back(&s->watching, &c->watch_link);
    s->nwatches++;
    list_push_back(&c->watches, &w->link);
    send_events(c, w, (struct slice){0});
    if (c->conn) kv__watch_pump(c);
}

void kv__watch_open(struct kv__conn *c, struct slice payload)
{
    struct kv__watching at;
    struct kv_server *s = c->server;
    if (kv__watch_decode(payload, &at) || find(c, at.id))
        kv__conn_refuse(c, QE_FRAME, "it asked for a watch in a way that cannot be understood");
    else if (!s->leading || c->away)
        kv__send_redirect(c, at.id);
    else if (c->nwatches >= KV_CONN_WATCHES || s->nwatches >= KV_WATCHES_MAX)
        send_end(c, at.id, QE_BUSY, 0, "this node has as many watches as it can serve");
    else
        begin(c, &at);
}

void kv__watch_stop(struct kv__conn *c, struct slice payload)
{
    struct reader r = reader_of(payload);
    struct kv__watch *w = find(c, get_u64(&r));
    if (!reader_done(&r)) kv__conn_refuse(c, QE_FRAME, "it ended a watch in a way that cannot be understood");
    else if (w) drop(c, w);
}

void kv__watch_orphan(struct kv_server *s)
{
    while (!list_empty(&s->watching)) {
        struct kv__conn *c = container_of(s->watching.next, struct kv__conn, watch_link);
        kv__watch_drop_all(c);
        kv__send_redirect(c, 0);
    }
}

void kv__watch_init(struct kv_server *s)
{
    list_init(&s->watching);
    s->watch_timer = (struct timer){.fire = timer_fired, .arg = s};
}
