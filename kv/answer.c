/* answer.c - queries: each waits until the node says that its state may be read, is executed on the map, and gets the
 * bytes that are in the log filled in. Under a valid leader lease, with the bytes in memory, all of it happens in the
 * loop turn in which the query came.
 *
 * The lease is looked at again after the map was read: the process may have stood still in between. What is read from
 * the log afterwards is immutable, so it needs no further check; but if compaction took the bytes away meanwhile (the
 * file was overwritten), the query starts again. Bytes that no node has any more are EIO.
 *
 * A query does not start while its connection has too many unsent or unfinished answers; it is held, in order. */
#include "kv/server.h"

#include <stdlib.h>

#define FREE_QUERIES_MAX 1024u

/* ---- life of a query ---- */

struct kv__query *kv__query_new(struct kv__conn *c, const struct kv__call *call, struct slice op)
{
    struct kv_server *s = c->server;
    struct list *l = op.n <= KV_QUERY_INLINE ? list_pop_front(&s->free_queries) : NULL;
    struct kv__query *q;
    if (l) {
        q = container_of(l, struct kv__query, link);
        s->nfree_queries--;
    } else {
        q = xmalloc(sizeof *q + max_u64(op.n, KV_QUERY_INLINE));
    }
    *q = (struct kv__query){.server = s, .conn = c, .call = *call, .nbytes = op.n};
    list_init(&q->link);
    list_init(&q->read.link);
    memcpy(q->bytes, op.p, op.n);
    check(kv_op_decode(slice_of(q->bytes, q->nbytes), &q->op) == 0);
    kv__conn_begin(c, q->nbytes);
    return q;
}

/* Bytes of the answer: an estimate, until it has turned out to be larger. */
static size_t cost_of(const struct kv__query *q)
{
    if (q->want) return q->want;
    if (q->op.code == KV_READ) return min_u64(q->op.len, KV_DATA_MAX) + 1;
    if (q->op.code == KV_CAS) return q->op.name2.n + 1;
    if (q->op.code == KV_TXN) return q->nbytes;
    return KV_SMALL_ANSWER;
}

void kv__query_pause(struct kv__query *q)
{
    struct kv_server *s = q->server;
    list_remove(&q->link);
    q->conn->busy -= q->cost;
    s->reads_bytes -= q->cost;
    q->cost = 0;
    if (s->starved && s->reads_bytes <= KV_READS_BYTES / 2) clock_arm(s->clock, &s->turn, 0);
}

static void destroy(struct kv__query *q)
{
    struct kv_server *s = q->server;
    kv__result_free(&q->res);
    free(q->reads);
    buf_free(&q->kept);
    if (q->nbytes > KV_QUERY_INLINE || s->nfree_queries >= FREE_QUERIES_MAX) {
        free(q);
        return;
    }
    list_push_back(&s->free_queries, &q->link);
    s->nfree_queries++;
}

void kv__query_drop(struct kv__query *q)
{
    struct kv__conn *c = q->conn;
    size_t nbytes = q->nbytes;
    check(q->reading == 0);
    kv__query_pause(q);
    destroy(q);
    c->refs++;
    kv__conn_end(c, nbytes);
    kv__query_release_held(c);
    kv__conn_unref(c);
}

void kv__query_answer(struct kv__query *q, const struct kv_reply *reply)
{
    kv__send_reply(q->conn, q->call.id, q->op.code, reply);
    kv__query_drop(q);
}

static void send_away(struct kv__query *q)
{
    kv__send_redirect(q->conn, q->call.id);
    kv__query_drop(q);
}

/* ---- holding ---- */

static bool has_room(struct kv__query *q, size_t cost)
{
    struct kv__conn *c = q->conn;
    struct kv_server *s = q->server;
    if (!kv__flow_may_answer(c, cost)) return false;
    if (c->busy && c->busy + cost > KV_CONN_BYTES) return false;
    if (s->reads_bytes && s->reads_bytes + cost > KV_READS_BYTES) {
        s->starved = true;
        return false;
    }
    return true;
}

static void hold(struct kv__query *q)
{
    kv__query_pause(q);
    list_push_back(&q->conn->held, &q->link);
}

void kv__query_drop_held(struct kv__conn *c)
{
    for (struct list *l; (l = list_pop_front(&c->held));) kv__query_drop(container_of(l, struct kv__query, link));
}

/* Its answer turns out to be of that size, and there is no room for it among the unsent ones. */
static bool must_wait(struct kv__query *q, size_t bytes)
{
    if (kv__flow_may_answer(q->conn, bytes)) {
        if (bytes > KV_SMALL_ANSWER) {
            q->server->turn_bytes += bytes;
            clock_arm(q->server->clock, &q->server->turn, 0);
        }
        return false;
    }
    q->want = max_u64(q->want, bytes);
    hold(q);
    return true;
}

/* ---- reading the state ---- */

static void execute(struct kv__query *q, bool lease)
{
    struct kv_server *s = q->server;
    struct kv_statfs disk = {0};
    if (q->op.code == KV_STATFS) {
        struct node_status st;
        node_status(s->node, &st);
        disk = (struct kv_statfs){.total = st.disk_total, .avail = st.disk_avail};
    }
    kv__query(s->store, &q->op, &disk, &s->res);
    if (lease && !node_read_valid(s->node)) {
        node_read(s->node, &q->read);
        return;
    }
    if (s->res.npieces) kv__query_payload(q, &s->res);
    else if (!must_wait(q, s->res.data.n)) kv__query_answer(q, &s->res.reply);
}

static void may_read(struct node_read *r, int err, bool lease)
{
    struct kv__query *q = r->arg;
    if (!q->conn->conn) kv__query_drop(q);
    else if (err) send_away(q);
    else if (!kv__flow_may_answer(q->conn, q->want)) hold(q);
    else if (q->op.code == KV_CAS) kv__cas_compare(q, lease);
    else if (q->op.code == KV_TXN && q->applied) kv__txn_fill(q);
    else if (q->op.code == KV_TXN) kv__txn_compare(q, lease);
    else execute(q, lease);
}

void kv__query_again(struct kv__query *q)
{
    q->read = (struct node_read){.done = may_read, .arg = q};
    list_init(&q->read.link);
    node_read(q->server->node, &q->read);
}

static void take_room(struct kv__query *q, size_t cost)
{
    q->conn->busy += cost;
    q->server->reads_bytes += cost;
    q->cost += cost;
}

static void begin(struct kv__query *q)
{
    struct kv_server *s = q->server;
    take_room(q, cost_of(q));
    list_push_back(&s->queries, &q->link);
    kv__query_again(q);
}

void kv__query_start(struct kv__query *q)
{
    struct kv_server *s = q->server;
    struct kv__conn *c = q->conn;
    check(q->cost == 0 && list_empty(&q->link));
    if (!c->conn) {
        kv__query_drop(q);
        return;
    }
    if (!s->leading) {
        send_away(q);
        return;
    }
    if (list_empty(&c->held) && has_room(q, cost_of(q))) begin(q);
    else list_push_back(&c->held, &q->link);
}

void kv__query_release_held(struct kv__conn *c)
{
    if (c->releasing) return;       /* dropping a query releases others, too: not one inside the other */
    c->releasing = true;
    while (c->conn && !list_empty(&c->held)) {
        struct kv__query *q = container_of(c->held.next, struct kv__query, link);
        if (!has_room(q, cost_of(q))) break;
        list_remove(&q->link);
        if (q->server->leading) begin(q);
        else send_away(q);
    }
    c->releasing = false;
}

/* ---- bytes out of the log ---- */

static void tell_unreadable(const struct kv__query *q, const struct kv__result *res, int err)
{
    trace_error(q->server->trace, "%s: file bytes cannot be read: %s", kv_code_name(q->op.code), err_text(err));
    if (err != QE_GONE || q->read_bad >= res->npieces) return;
    const struct kv__piece *p = &res->pieces[q->read_bad];
    if (q->op.code == KV_READ) kv__lost_read(q->server, q->op.ino, q->op.off + p->at, p);
    if (q->op.code == KV_GET) kv__lost_read(q->server, res->reply.attr.ino, p->at, p);
}

static void payload_done(struct kv__query *q, struct kv__result *res, int err)
{
    if (!q->conn->conn) {
        kv__query_drop(q);
        return;
    }
    if (err == -ENOTCONN) {         /* rotten or missing here, and no peer to ask: the tick tries again */
        hold(q);
        return;
    }
    if (err && ++q->tries < KV_READ_TRIES) {
        kv__query_again(q);
        return;
    }
    if (q->op.code == KV_CAS) {
        kv__cas_bytes(q, res, err);
        return;
    }
    if (q->op.code == KV_TXN && (err || !q->applied)) {
        kv__txn_bytes(q, res, err);
        return;
    }
    if (err) {
        tell_unreadable(q, res, err);
        res->reply = (struct kv_reply){.status = -EIO, .index = res->reply.index};
    }
    kv__query_answer(q, &res->reply);
}

static void piece_read(struct log_read *r, int err)
{
    struct kv__query *q = r->arg;
    if (err && !q->read_err) {
        q->read_err = err;
        q->read_bad = (uint32_t)(r - q->reads);
    }
    if (--q->reading > 0) return;
    free(q->reads);
    q->reads = NULL;
    payload_done(q, &q->res, q->read_err);
}

/* The pieces that would wait for the disk; the buffer goes over to the query until they are all there. */
static void read_later(struct kv__query *q, struct kv__result *res, uint32_t n)
{
    struct kv_server *s = q->server;
    if (res != &q->res) {
        kv__result_free(&q->res);
        q->res = *res;
        *res = (struct kv__result){0};
    }
    q->reads = xcalloc(n, sizeof *q->reads);
    q->reading = n;
    q->read_err = 0;
    struct log_read *reads = q->reads;
    for (uint32_t i = 0; i < n; i++) {
        const struct kv__piece *p = &q->res.pieces[i];
        reads[i] = (struct log_read){
            .index = p->index, .off = p->off, .n = p->len, .p = q->res.data.p + p->at, .done = piece_read, .arg = q};
    }
    for (uint32_t i = 0; i < n; i++) node_payload(s->node, &reads[i]);
}

/* The answer is of this size. False: there is no room for it now. */
static bool fits(struct kv__query *q, size_t bytes)
{
    if (bytes <= q->cost) return true;
    q->want = bytes;
    if (q->conn->busy > q->cost && q->conn->busy - q->cost + bytes > KV_CONN_BYTES) return false;
    take_room(q, bytes - q->cost);
    return true;
}

void kv__query_payload(struct kv__query *q, struct kv__result *res)
{
    uint32_t left = 0;
    if (must_wait(q, res->data.n)) return;
    for (uint32_t i = 0; i < res->npieces; i++) {
        const struct kv__piece p = res->pieces[i];
        if (node_try_payload(q->server->node, p.index, p.off, p.len, res->data.p + p.at)) res->pieces[left++] = p;
    }
    res->npieces = left;
    if (left == 0) payload_done(q, res, 0);
    else if (fits(q, res->data.n)) read_later(q, res, left);
    else hold(q);
}

void kv__query_free_all(struct kv_server *s)
{
    for (struct list *l; (l = list_pop_front(&s->queries));) {
        struct kv__query *q = container_of(l, struct kv__query, link);
        q->reading = 0;
        kv__query_drop(q);
    }
    for (struct list *l; (l = list_pop_front(&s->free_queries));) free(container_of(l, struct kv__query, link));
    kv__result_free(&s->res);
}
