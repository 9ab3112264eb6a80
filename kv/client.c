/* client.c - calls and the session.
 *
 * A call is encoded once, into a record that lives until its answer: queries and the opening of the session go out as
 * they come, changes get the session's numbers in the order of the calls, at most KV_WINDOW of them unanswered; the
 * rest waits here. Answers free the numbers below the lowest unanswered one (the floor), which every change carries.
 * When the connection ends, all that was sent becomes unsent again, in order, under the same numbers.
 *
 * The session is opened by the first change (by a mount at once) and kept alive by changes or, when there are none,
 * by SESSION_KEEP. An answer QE_SESSION means that it is gone: every unanswered change gets that answer, because
 * whether it happened is not known any more.
 *
 * The user's callbacks run only from the loop (or inside kv_cancel) and may call everything, kv_client_free too: then
 * the struct stays until the outermost callback has returned. */
#include "kv/client.h"

#include <stdlib.h>

static void opened(struct kv_call *call, const struct kv_reply *reply);
static void kept(struct kv_call *call, const struct kv_reply *reply);
static void session_closed(struct kv_call *call, const struct kv_reply *reply);

/* ---- records ---- */

static void deadline_fired(struct timer *t);

static uint32_t take_slot(struct kv_client *c)
{
    if (c->free_slot_n == 0) {
        uint32_t more = c->nslots ? c->nslots : 64;
        c->slots = xrealloc(c->slots, (c->nslots + more) * sizeof(struct kv__ccall *));
        c->free_slots = xrealloc(c->free_slots, (c->nslots + more) * sizeof *c->free_slots);
        for (uint32_t i = c->nslots + more; i > c->nslots; i--) {
            c->slots[i - 1] = NULL;
            c->free_slots[c->free_slot_n++] = i - 1;
        }
        c->nslots += more;
    }
    return c->free_slots[--c->free_slot_n];
}

static struct kv__ccall *record_new(struct kv_client *c, struct kv_call *user)
{
    struct list *l = list_pop_front(&c->free);
    struct kv__ccall *q = l ? container_of(l, struct kv__ccall, link) : xcalloc(1, sizeof *q);
    if (l) c->nfree--;
    struct buf keep = q->op;
    uint32_t slot = take_slot(c);
    *q = (struct kv__ccall){
        .client = c, .user = user, .code = user->op.code, .change = kv_is_change(user->op.code), .op = keep};
    buf_clear(&q->op);
    list_init(&q->link);
    q->id = (uint64_t)++c->generation << 32 | slot;
    q->deadline = (struct timer){.fire = deadline_fired, .arg = q};
    c->slots[slot] = q;
    user->priv = q;
    user->session = user->seq = 0;
    return q;
}

static void record_free(struct kv__ccall *q)
{
    struct kv_client *c = q->client;
    uint32_t slot = (uint32_t)q->id;
    list_remove(&q->link);
    clock_disarm(c->clock, &q->deadline);
    q->user->priv = NULL;
    c->slots[slot] = NULL;
    c->free_slots[c->free_slot_n++] = slot;
    if (q->op.cap > KV_CLIENT_FREE_BYTES) buf_free(&q->op);
    if (c->nfree < KV_CLIENT_FREE_MAX) {
        list_push_back(&c->free, &q->link);
        c->nfree++;
        return;
    }
    buf_free(&q->op);
    free(q);
}

/* ---- the user's callbacks ---- */

static void destroy(struct kv_client *c);

void kv__client_enter(struct kv_client *c) { c->depth++; }

void kv__client_leave(struct kv_client *c)
{
    check(c->depth > 0);
    if (--c->depth == 0 && c->dead) destroy(c);
}

/* Takes the record off before the callback, which may do anything, even free the client. */
static void finish(struct kv__ccall *q, const struct kv_reply *reply)
{
    struct kv_client *c = q->client;
    struct kv_call *user = q->user;
    record_free(q);
    if (c->closing) clock_arm(c->clock, &c->turn, 0);
    user->done(user, reply);
}

static void finish_error(struct kv__ccall *q, int err)
{
    struct kv_reply reply = {.status = err};
    finish(q, &reply);
}

static void deadline_fired(struct timer *t)
{
    struct kv__ccall *q = t->arg;
    struct kv_client *c = q->client;
    kv__client_enter(c);
    finish_error(q, -ETIMEDOUT);
    if (!c->dead) kv__client_pump(c);
    kv__client_leave(c);
}

/* ---- sending ---- */

static struct kv__ccall *first_of(const struct list *l) { return container_of(l->next, struct kv__ccall, link); }

bool kv__client_wants(const struct kv_client *c)
{
    return !list_empty(&c->lane.flight) || !list_empty(&c->lane.queue) || !list_empty(&c->free_lane.flight) ||
           !list_empty(&c->free_lane.queue) || !list_empty(&c->watches);
}

uint64_t kv__client_floor(const struct kv_client *c)
{
    if (!list_empty(&c->lane.flight)) return first_of(&c->lane.flight)->seq;
    if (!list_empty(&c->lane.queue) && first_of(&c->lane.queue)->seq) return first_of(&c->lane.queue)->seq;
    return c->next_seq;
}

static void unsend(struct kv__lane *lane)
{
    while (!list_empty(&lane->flight)) {
        struct list *l = lane->flight.prev;
        list_remove(l);
        list_push_front(&lane->queue, l);
    }
}

void kv__client_unsent(struct kv_client *c)
{
    unsend(&c->free_lane);
    unsend(&c->lane);
    kv__watch_unsent(c);
}

static int send_call(struct kv_client *c, struct kv__ccall *q)
{
    struct kv__call head = {.id = q->id, .session = c->session, .flags = q->sent ? KV_CALL_RESENT : 0};
    if (q->seq) {
        head.seq = q->seq;
        head.floor = kv__client_floor(c);
    }
    uint8_t bytes[KV_CALL_HEAD];
    kv__call_encode(&head, bytes);
    struct slice v[2] = {slice_of(bytes, sizeof bytes), buf_slice(&q->op)};
    int err = conn_send(c->conn, KV_FRAME_CALL, v, 2);
    if (err) return err;
    q->sent = true;
    q->sent_at = clock_now(c->clock);
    return 0;
}

/* May the first of the queue go out now? Gives it its number. */
static bool number(struct kv_client *c, struct kv__ccall *q)
{
    if (q->seq) return true;
    if (!c->session || c->next_seq >= kv__client_floor(c) + KV_WINDOW) return false;
    q->seq = c->next_seq++;
    q->user->seq = q->seq;
    q->user->session = c->session;
    return true;
}

static void pump_lane(struct kv_client *c, struct kv__lane *lane)
{
    while (!list_empty(&lane->queue) && conn_queued(c->conn) <= KV_CLIENT_SEND_HIGH) {
        struct kv__ccall *q = first_of(&lane->queue);
        if (lane == &c->lane) {
            if (!number(c, q)) return;
            c->last_change = clock_now(c->clock);
        }
        if (send_call(c, q)) return;
        list_remove(&q->link);
        list_push_back(&lane->flight, &q->link);
        kv__link_sent(c);
    }
}

static void submit(struct kv_client *c, struct kv_call *call);

static void open_session(struct kv_client *c)
{
    c->opening = true;
    c->open_call = (struct kv_call){.done = opened, .arg = c};
    c->open_call.op = (struct kv_op){.code = KV_SESSION_OPEN,
                                     .name = slice_str(c->name),
                                     .flags = c->config.mount,
                                     .len = c->config.ttl_ms,
                                     .off2 = prng_u64(&c->rng)};
    submit(c, &c->open_call);
}

void kv__client_pump(struct kv_client *c)
{
    if (!list_empty(&c->lane.queue) && !c->session && !c->opening) open_session(c);
    if (c->state == LINK_READY) {
        kv__watch_send(c);
        pump_lane(c, &c->free_lane);
        pump_lane(c, &c->lane);
    } else if (kv__client_wants(c)) {
        kv__link_want(c);
    }
}

/* ---- calls ---- */

static bool is_numbered(const struct kv__ccall *q) { return q->change && q->code != KV_SESSION_OPEN; }

static int too_large(const struct kv_op *op)
{
    unsigned args = kv__op_info(op->code)->args;
    if (args & A_NAME && op->name.n > KV_WIRE_SLACK / 2) return -ENAMETOOLONG;
    if (args & A_NAME2 && op->name2.n > KV_DATA_MAX) return -EFBIG;
    return args & A_DATA && op->data.n > KV_DATA_MAX ? -EFBIG : 0;
}

static void submit(struct kv_client *c, struct kv_call *call)
{
    struct kv__ccall *q = record_new(c, call);
    kv_op_encode(&call->op, &q->op, NULL);
    list_push_back(is_numbered(q) ? &c->lane.queue : &c->free_lane.queue, &q->link);
    if (call->deadline) clock_arm(c->clock, &q->deadline, call->deadline);
    kv__client_pump(c);
}

void kv_call(struct kv_client *c, struct kv_call *call)
{
    check(!c->dead && kv__op_info(call->op.code) && call->done);
    int err = c->closing ? QE_STOPPED : too_large(&call->op);
    if (!err) {
        submit(c, call);
        return;
    }
    struct kv__ccall *q = record_new(c, call);
    q->err = err;
    list_push_back(&c->failed, &q->link);
    clock_arm(c->clock, &c->turn, 0);
}

void kv_cancel(struct kv_client *c, struct kv_call *call)
{
    struct kv__ccall *q = call->priv;
    if (!q) return;
    kv__client_enter(c);
    finish_error(q, -EINTR);
    if (!c->dead) kv__client_pump(c);
    kv__client_leave(c);
}

/* ---- answers ---- */

static void answer_all(struct kv_client *c, int err)
{
    struct list *lists[] = {&c->lane.flight, &c->lane.queue};
    for (unsigned i = 0; i < 2; i++)
        for (struct list *l; (l = list_pop_front(lists[i]));) list_push_back(&c->dying, l);
    while (!c->dead && !list_empty(&c->dying)) finish_error(first_of(&c->dying), err);
}

static void session_lost(struct kv_client *c)
{
    trace_warn(c->trace, "client: session %llx is lost", (unsigned long long)c->session);
    c->session = 0;
    clock_disarm(c->clock, &c->keep);
    answer_all(c, QE_SESSION);
    if (c->dead || c->closing) return;
    if (!c->opening && c->config.mount) open_session(c);
    if (c->config.session_lost) c->config.session_lost(c->config.arg);
}

static void answered(struct kv_client *c, struct kv__ccall *q, const struct kv_reply *reply)
{
    if (is_numbered(q) && reply->status == QE_SESSION) {
        session_lost(c);
    } else if (q->change && reply->status == QE_BUSY) {
        kv__link_retry_later(c);
        return;
    } else {
        finish(q, reply);
    }
    if (!c->dead) kv__client_pump(c);
}

void kv__client_reply(struct kv_client *c, struct slice payload)
{
    struct reader r = reader_of(payload);
    uint64_t id = get_u64(&r);
    unsigned code = get_u8(&r);
    uint32_t slot = (uint32_t)id;
    struct kv__ccall *q = slot < c->nslots ? c->slots[slot] : NULL;
    if (r.bad || c->state != LINK_READY) return;
    if (!q || q->id != id) return;      /* cancelled, or past its deadline */
    struct kv_reply reply;
    if (code != q->code || kv_reply_decode(q->code, get_bytes(&r, reader_left(&r)), &reply)) {
        trace_warn(c->trace, "client: an answer from %s cannot be decoded", c->target);
        kv__link_retry_later(c);
        return;
    }
    c->tries = c->waits = c->hops = 0;
    c->unreached[0] = c->refusal[0] = 0;
    answered(c, q, &reply);
}

/* ---- the session ---- */

static uint64_t keep_ns(const struct kv_client *c) { return c->config.ttl_ms * NS_PER_MS / 3; }

static void opened(struct kv_call *call, const struct kv_reply *reply)
{
    struct kv_client *c = call->arg;
    c->opening = false;
    if (reply->status < 0) {
        trace_warn(c->trace, "client: no session: %s", err_text(reply->status));
        answer_all(c, reply->status);
        return;
    }
    c->session = reply->off;
    c->next_seq = 1;
    c->last_change = clock_now(c->clock);
    clock_arm(c->clock, &c->keep, c->last_change + keep_ns(c));
}

/* A mount asks even when it is busy: the answer says whether other nodes' deletions wait for its word. */
static void keep_fired(struct timer *t)
{
    struct kv_client *c = t->arg;
    uint64_t now = clock_now(c->clock), due = c->last_change + keep_ns(c);
    if (!c->session || c->closing) return;
    if (c->keeping || (!c->config.mount && due > now)) {
        clock_arm(c->clock, t, due > now ? due : now + keep_ns(c));
        return;
    }
    kv__client_enter(c);
    clock_arm(c->clock, t, now + keep_ns(c));
    c->keeping = true;
    c->keep_call = (struct kv_call){.op = {.code = KV_SESSION_KEEP}, .done = kept, .arg = c};
    submit(c, &c->keep_call);
    kv__client_leave(c);
}

static void kept(struct kv_call *call, const struct kv_reply *reply)
{
    struct kv_client *c = call->arg;
    c->keeping = false;
    if (reply->status >= 0 && reply->off > 0 && c->config.owed && !c->closing) c->config.owed(c->config.arg);
}

uint64_t kv_client_session(const struct kv_client *c) { return c->session; }
const char *kv_client_refusal(const struct kv_client *c) { return c->refusal; }

/* ---- the end ---- */

static void session_closed(struct kv_call *call, const struct kv_reply *reply)
{
    struct kv_client *c = call->arg;
    c->session = 0;
}

static void close_finished(struct kv_client *c)
{
    if (c->closed) return;
    c->closed = true;
    clock_disarm(c->clock, &c->close_timer);
    c->close_done(c->close_arg);
}

static void closing_step(struct kv_client *c)
{
    if (kv__client_wants(c) || !list_empty(&c->failed) || !list_empty(&c->dying) || !list_empty(&c->ending)) return;
    if (!c->session || c->close_sent) {
        close_finished(c);
        return;
    }
    c->close_sent = true;
    c->close_call = (struct kv_call){.op = {.code = KV_SESSION_CLOSE}, .done = session_closed, .arg = c};
    submit(c, &c->close_call);
}

static void turn_fired(struct timer *t)
{
    struct kv_client *c = t->arg;
    kv__client_enter(c);
    while (!c->dead && !list_empty(&c->failed)) finish_error(first_of(&c->failed), first_of(&c->failed)->err);
    if (!c->dead) kv__watch_end_some(c);
    if (!c->dead && c->closing) closing_step(c);
    kv__client_leave(c);
}

static void close_fired(struct timer *t)
{
    struct kv_client *c = t->arg;
    kv__client_enter(c);
    close_finished(c);
    kv__client_leave(c);
}

void kv_client_close(struct kv_client *c, uint64_t deadline, void (*done)(void *arg), void *arg)
{
    check(!c->closing);
    c->closing = true;
    c->close_done = done;
    c->close_arg = arg;
    kv__watch_end_all(c, QE_STOPPED);
    clock_arm(c->clock, &c->close_timer, deadline);
    clock_arm(c->clock, &c->turn, 0);
}

/* ---- life ---- */

struct kv_client *kv_client_new(struct net *net, struct clock *clock, const struct kv_client_config *config)
{
    struct kv_client *c = xcalloc(1, sizeof *c);
    c->net = net;
    c->clock = clock;
    c->trace = config->trace;
    c->config = *config;
    if (!c->config.ttl_ms) c->config.ttl_ms = 60000;
    size_t n = config->name ? min_u64(strlen(config->name), sizeof c->name - 1) : 0;
    if (n) memcpy(c->name, config->name, n);
    prng_seed(&c->rng, config->seed);
    struct list *lists[] = {&c->lane.flight, &c->lane.queue, &c->free_lane.flight, &c->free_lane.queue, &c->dying,
                            &c->failed,      &c->free,       &c->watches,        &c->ending};
    for (unsigned i = 0; i < sizeof lists / sizeof *lists; i++) list_init(lists[i]);
    c->turn = (struct timer){.fire = turn_fired, .arg = c};
    c->keep = (struct timer){.fire = keep_fired, .arg = c};
    c->close_timer = (struct timer){.fire = close_fired, .arg = c};
    kv__link_init(c);
    c->config.addrs = NULL;     /* copied; the caller's may go */
    c->config.naddrs = 0;
    c->config.name = NULL;
    if (c->config.mount) open_session(c);
    return c;
}

static void drop_all(struct kv_client *c, struct list *l)
{
    while (!list_empty(l)) record_free(first_of(l));
}

static void destroy(struct kv_client *c)
{
    for (struct list *l; (l = list_pop_front(&c->free));) {
        struct kv__ccall *q = container_of(l, struct kv__ccall, link);
        buf_free(&q->op);
        free(q);
    }
    free(c->slots);
    free(c->free_slots);
    buf_free(&c->out);
    free(c);
}

void kv_client_free(struct kv_client *c)
{
    if (!c || c->dead) return;
    c->dead = true;
    kv__link_close(c);
    struct timer *timers[] = {&c->turn, &c->keep, &c->close_timer};
    for (unsigned i = 0; i < 3; i++) clock_disarm(c->clock, timers[i]);
    struct list *lists[] = {&c->lane.flight,     &c->lane.queue, &c->free_lane.flight,
                            &c->free_lane.queue, &c->dying,      &c->failed};
    for (unsigned i = 0; i < sizeof lists / sizeof *lists; i++) drop_all(c, lists[i]);
    kv__watch_free_all(c);
    if (c->depth == 0) destroy(c);
}
