/* propose.c - changes on their way: into the batch of this turn, through the log, back to whoever waits.
 *
 * All changes of a loop turn become one entry of the log (several where they are many bytes). When the node has
 * enough under way, batches wait and are tried again when something was applied. When an entry is applied, the store
 * reports the outcome of each record and the answer goes out. When leadership is lost, everybody who waits is sent to
 * the new leader and repeats under the same number; the store knows what has been done already.
 *
 * The batch's times are stamped when it is proposed: wall time never falls, cluster time is the log's plus the time
 * this node has led, so that an outage of the whole cluster ends no session. A leader looks at the clock every
 * KV_TICK_NS; where it has not, it stood still (a machine that slept), and nobody could have renewed anything with it. */
#include "kv/server.h"

#include <stdlib.h>

#define FREE_PENDING_WAITERS 4096u
#define STEP_MAX_NS          (2 * KV_TICK_NS) /* of cluster time, between two looks */

/* ---- time ---- */

uint64_t kv__cluster_now(struct kv_server *s)
{
    uint64_t now = clock_now(s->clock);
    s->cluster += min_u64(now - s->mono, STEP_MAX_NS);
    s->mono = now;
    s->cluster = max_u64(s->cluster, s->store->cluster);
    return s->cluster;
}

static void stamp(struct kv_server *s, struct kv__pending *p)
{
    int64_t last = s->wall > s->store->wall ? s->wall : s->store->wall, now = clock_wall(s->clock);
    s->wall = now > last ? now : last + 1;
    kv__batch_stamp(&p->batch, s->wall, kv__cluster_now(s));
}

/* ---- batches ---- */

static struct kv__pending *pending_new(struct kv_server *s)
{
    struct list *l = list_pop_front(&s->free_pending);
    struct kv__pending *p = l ? container_of(l, struct kv__pending, link) : xcalloc(1, sizeof *p);
    list_init(&p->link);
    return p;
}

static void pending_free(struct kv_server *s, struct kv__pending *p)
{
    if (p->batch.blob) s->writes_bytes -= p->batch.blob->n;
    kv__batch_free(&p->batch);
    p->n = 0;
    if (s->node && p->cap <= FREE_PENDING_WAITERS && list_empty(&s->free_pending)) {
        list_push_back(&s->free_pending, &p->link);
        return;
    }
    free(p->waiters);
    free(p);
}

/* The batch that takes the next change of `bytes` bytes. */
static struct kv__pending *filling(struct kv_server *s, size_t bytes)
{
    if (!list_empty(&s->queue)) {
        struct kv__pending *p = container_of(s->queue.prev, struct kv__pending, link);
        if (p->batch.blob->n + bytes <= KV_ENTRY_BYTES) return p;
    }
    struct kv__pending *p = pending_new(s);
    list_push_back(&s->queue, &p->link);
    return p;
}

static struct kv__waiter *add_waiter(struct kv__pending *p)
{
    if (p->n == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 16;
        p->waiters = xrealloc(p->waiters, p->cap * sizeof *p->waiters);
    }
    return &p->waiters[p->n++];
}

/* op empty: a refusal with `err`. */
static void enqueue(struct kv_server *s, const struct kv__record *rec, int err, const struct kv__waiter *w)
{
    struct kv__pending *p = filling(s, KV_RECORD_HEAD + rec->op.n);
    size_t before = p->batch.blob ? p->batch.blob->n : 0;
    if (rec->op.n) kv__batch_add(&p->batch, rec);
    else kv__batch_refuse(&p->batch, rec, err);
    s->writes_bytes += p->batch.blob->n - before;
    *add_waiter(p) = *w;
    check(p->n == p->batch.n);
    clock_arm(s->clock, &s->turn, 0);
}

void kv__propose(struct kv_server *s, struct kv__conn *c, const struct kv__call *call, enum kv_code code,
                 struct slice op, struct kv__query *cas)
{
    struct kv__record rec = {.session = call->session, .seq = call->seq, .floor = call->floor, .op = op};
    struct kv__waiter w = {.conn = c, .id = call->id, .code = code, .bytes = (uint32_t)op.n, .cas = cas};
    enqueue(s, &rec, 0, &w);
    if (!cas) kv__conn_begin(c, w.bytes);
}

void kv__propose_refusal(struct kv_server *s, struct kv__conn *c, const struct kv__call *call, enum kv_code code,
                         int err, struct kv__query *cas)
{
    struct kv__record rec = {.session = call->session, .seq = call->seq, .floor = call->floor};
    struct kv__waiter w = {.conn = c, .id = call->id, .code = code, .cas = cas};
    enqueue(s, &rec, err, &w);
    if (!cas) kv__conn_begin(c, 0);
}

/* Looks at all sessions, but only when the first of them is due, as far as the last look told: a sign of life since then
 * only makes it later, and a new session says when it is due itself. */
void kv__propose_expired(struct kv_server *s)
{
    if (!s->leading || !list_empty(&s->queue)) return;
    uint64_t now = kv__cluster_now(s), due = UINT64_MAX;
    struct kv__session ss = {0};
    unsigned found = 0;
    if (now <= s->store->due) return;
    struct buf bytes = {0};
    while (found < KV_EXPIRE_MAX && kv__session_next(s->store->map, ss.id, &ss)) {
        due = min_u64(due, kv__session_due(&ss));
        if (!kv__session_expired(&ss, now)) continue;
        struct kv_op op = {.code = KV_SESSION_EXPIRE, .ino = ss.id};
        buf_clear(&bytes);
        kv_op_encode(&op, &bytes, NULL);
        struct kv__record rec = {.op = buf_slice(&bytes)};
        struct kv__waiter nobody = {0};
        enqueue(s, &rec, 0, &nobody);
        found++;
    }
    s->store->due = found < KV_EXPIRE_MAX ? due : 0;
    buf_free(&bytes);
}

/* ---- waiters ---- */

static void release(struct kv__waiter *w)
{
    if (w->cas) kv__query_drop(w->cas);
    else if (w->conn) kv__conn_end(w->conn, w->bytes);
}

static void send_away(struct kv_server *s, struct kv__pending *p)
{
    for (uint32_t i = 0; i < p->n; i++) {
        struct kv__waiter *w = &p->waiters[i];
        if (w->conn) kv__send_redirect(w->conn, w->id);
        release(w);
    }
    pending_free(s, p);
}

static void send_all_away(struct kv_server *s, struct list *from)
{
    struct list lost;
    list_init(&lost);
    for (struct list *l; (l = list_pop_front(from));) list_push_back(&lost, l);
    for (struct list *l; (l = list_pop_front(&lost));) send_away(s, container_of(l, struct kv__pending, link));
}

void kv__propose_orphan(struct kv_server *s)
{
    send_all_away(s, &s->inflight);
    send_all_away(s, &s->queue);
}

/* ---- into the log ---- */

void kv__propose_flush(struct kv_server *s)
{
    for (struct list *l; (l = list_pop_front(&s->queue));) {
        struct kv__pending *p = container_of(l, struct kv__pending, link);
        if (!s->leading) {
            send_away(s, p);
            continue;
        }
        stamp(s, p);
        kv__batch_fit(&p->batch);
        p->term = s->term;
        int64_t index = node_propose(s->node, blob_ref(p->batch.blob));
        if (index == QE_BUSY) {
            list_push_front(&s->queue, &p->link);
            return;
        }
        if (index < 0 || !s->leading || s->term != p->term) {   /* the proposal itself may have ended the leadership */
            send_away(s, p);
            continue;
        }
        p->index = (uint64_t)index;
        list_push_back(&s->inflight, &p->link);
    }
}

/* ---- and out of it ---- */

void kv__propose_outcome(void *arg, uint32_t pos, enum kv__outcome what, enum kv_code code,
                         const struct kv_reply *reply)
{
    struct kv_server *s = arg;
    struct kv__pending *p = s->applying;
    if (!p) return;
    check(pos < p->n);
    struct kv__waiter *w = &p->waiters[pos];
    if (what == KV__UNDECIDED && w->cas) {
        struct kv__query *q = w->cas;
        *w = (struct kv__waiter){0};
        kv__query_start(q);
        return;
    }
    if (what == KV__ANSWER && w->cas && code == KV_TXN) {
        struct kv__query *q = w->cas;
        *w = (struct kv__waiter){0};
        kv__txn_answer(q, reply);
        return;
    }
    if (what == KV__ANSWER && w->conn) kv__send_reply(w->conn, w->id, code ? code : w->code, reply);
    release(w);
    *w = (struct kv__waiter){0};
}

void kv__propose_apply(struct kv_server *s, uint64_t index, uint64_t term, struct slice entry)
{
    struct list *l = s->inflight.next;
    struct kv__pending *p = l == &s->inflight ? NULL : container_of(l, struct kv__pending, link);
    if (p && p->index == index) {
        list_remove(l);
        if (p->term != term) {
            send_away(s, p);
            p = NULL;
        }
    } else {
        p = NULL;
    }
    s->applying = p;
    int err = kv__store_apply(s->store, index, entry);
    s->applying = NULL;
    if (p) pending_free(s, p);
    if (err)
        s->config.fatal(s->config.fatal_arg, err,
                        "an entry of the log cannot be understood: was it written by a newer version?");
}

void kv__propose_free(struct kv_server *s)
{
    struct list *lists[] = {&s->inflight, &s->queue, &s->free_pending};
    for (unsigned i = 0; i < 3; i++) {
        for (struct list *l; (l = list_pop_front(lists[i]));) {
            struct kv__pending *p = container_of(l, struct kv__pending, link);
            for (uint32_t k = 0; k < p->n; k++) release(&p->waiters[k]);
            pending_free(s, p);
        }
    }
}
