/* flow.c - how much may be under way: what is not read yet costs the server nothing, so whoever has too much here is
 * not read from for a while.
 *
 * A connection is paused while it has too many calls, too many bytes of calls, or too many unsent answers; one that
 * brings a change is, too, while all changes together are too many bytes (the others go on reading). Should all calls
 * together become twice that many - each of thousands of connections may bring one before it is paused - all are
 * paused until half is gone: the flood.
 *
 * Unsent answers are counted over all connections, too: beyond KV_UNSENT_BYTES only small answers go out, one at a time
 * a connection, and large ones to those that have read much before and all of it (up to twice that). And no turn of the
 * loop makes more than KV_TURN_BYTES of large answers, so that a crowd of readers keeps a leader from neither its
 * heartbeats nor its small clients; the others go on in the next turns, each in its turn. */
#include "kv/server.h"

#define RECOUNT_NS (10 * NS_PER_MS)

static bool crowded(const struct kv__conn *c, unsigned share)
{
    const struct kv_server *s = c->server;
    return s->flooded || c->calls > KV_CONN_CALLS / share || c->bytes > KV_CONN_BYTES / share ||
           s->writes_bytes > s->writes_max / share || (c->conn && conn_queued(c->conn) > KV_CONN_SEND_HIGH / share);
}

static void hold_back(struct kv__conn *c)
{
    if (c->paused || !c->conn) return;
    c->paused = true;
    conn_pause(c->conn, true);
}

static void pause_if_crowded(struct kv__conn *c)
{
    struct kv_server *s = c->server;
    if (c->paused || !crowded(c, 1)) return;
    if (s->writes_bytes > s->writes_max) s->choked = true;
    hold_back(c);
}

void kv__flow_ease(struct kv__conn *c)
{
    if (!c->paused || !c->conn || crowded(c, 2)) return;
    c->paused = false;
    conn_pause(c->conn, false);
}

static void ease_all(struct kv_server *s)
{
    list_for_each(l, &s->conns) kv__flow_ease(container_of(l, struct kv__conn, link));
}

/* ---- calls ---- */

static uint64_t all_bytes(const struct kv_server *s) { return max_u64(s->calls_bytes, s->writes_bytes); }

void kv__conn_begin(struct kv__conn *c, size_t bytes)
{
    struct kv_server *s = c->server;
    c->refs++;
    c->calls++;
    c->bytes += bytes;
    s->calls_bytes += bytes;
    pause_if_crowded(c);
    if (s->flooded || all_bytes(s) <= 2 * s->writes_max) return;
    s->flooded = true;
    trace_warn(s->trace, "%llu MiB of calls are under way: no client is read from until half is done",
               (unsigned long long)(all_bytes(s) / MIB));
    list_for_each(l, &s->conns)
    {
        struct kv__conn *other = container_of(l, struct kv__conn, link);
        if (other->client) hold_back(other);
    }
}

void kv__conn_end(struct kv__conn *c, size_t bytes)
{
    struct kv_server *s = c->server;
    check(c->calls > 0 && c->bytes >= bytes && s->calls_bytes >= bytes);
    c->calls--;
    c->bytes -= bytes;
    s->calls_bytes -= bytes;
    kv__flow_ease(c);
    if (s->flooded && all_bytes(s) <= s->writes_max) clock_arm(s->clock, &s->turn, 0);
    kv__conn_unref(c);
}

void kv__flow_joined(struct kv__conn *c)
{
    if (c->server->flooded) hold_back(c);
}

void kv__flow_turn(struct kv_server *s)
{
    bool over = s->flooded && all_bytes(s) <= s->writes_max;
    if (over) s->flooded = false;
    if (!over && !(s->choked && s->writes_bytes <= s->writes_max / 2)) return;
    s->choked = false;
    ease_all(s);
}

/* ---- answers ---- */

static void count_unsent(struct kv__conn *c)
{
    struct kv_server *s = c->server;
    size_t now = c->conn ? conn_queued(c->conn) : 0;
    s->unsent_bytes += now - c->unsent;
    c->unsent = now;
}

void kv__flow_sent(struct kv__conn *c)
{
    count_unsent(c);
    pause_if_crowded(c);
}

void kv__flow_closed(struct kv__conn *c) { count_unsent(c); }

/* Connections whose queue the kernel has taken meanwhile are counted anew before that is believed, now and then. */
static bool much_unsent(struct kv_server *s, size_t max)
{
    uint64_t now = clock_now(s->clock);
    if (s->unsent_bytes <= max) return false;
    if (now < s->counted_at + RECOUNT_NS) return true;
    s->counted_at = now;
    list_for_each(l, &s->conns) count_unsent(container_of(l, struct kv__conn, link));
    return s->unsent_bytes > max;
}

/* Where all unsent answers together are many, less of them is enough to be closed for. */
bool kv__flow_unread(struct kv__conn *c, uint64_t now)
{
    struct kv_server *s = c->server;
    size_t queued = conn_queued(c->conn), much = KV_CONN_SEND_HIGH;
    if (c->nwatches) much = KV_WATCH_SEND_HIGH / 2;
    if (s->unsent_bytes > s->unsent_max / 2) much = min_u64(much, KV_SMALL_ANSWER);
    uint64_t taken = c->offered - min_u64(queued, c->offered);
    if (queued <= much || taken != c->taken) {
        c->taken = taken;
        c->taken_at = now;
    }
    return now - c->taken_at >= KV_UNREAD_NS;
}

bool kv__flow_may_answer(struct kv__conn *c, size_t bytes)
{
    struct kv_server *s = c->server;
    size_t queued = conn_queued(c->conn);
    if (queued > KV_CONN_SEND_HIGH) return false;
    if (bytes > KV_SMALL_ANSWER && s->turn_bytes > KV_TURN_BYTES) {
        s->starved = true;
        clock_arm(s->clock, &s->turn, 0);
        return false;
    }
    if (queued == 0 && bytes <= KV_SMALL_ANSWER) return true;
    bool reads = queued == 0 && c->offered > KV_PROVEN_BYTES;
    return !much_unsent(s, reads ? 2 * s->unsent_max : s->unsent_max);
}

/* Those that were left over go on where the last turn ended, so that each has its turn. */
void kv__flow_release(struct kv_server *s)
{
    s->turn_bytes = 0;
    if (!s->starved) return;
    s->starved = false;
    struct kv__conn *last = NULL;
    while (!s->starved && !list_empty(&s->conns)) {
        struct kv__conn *c = container_of(s->conns.next, struct kv__conn, link);
        if (c == last) break;
        if (!last) last = c;
        list_remove(&c->link);
        list_push_back(&s->conns, &c->link);
        c->refs++;
        kv__query_release_held(c);
        if (c == last && c->refs == 1) last = NULL;
        kv__conn_unref(c);
    }
}
