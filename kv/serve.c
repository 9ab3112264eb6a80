/* serve.c - connections and frames: who is at the other end, what it asks, and how much of it may be under way.
 *
 * The first frame of an accepted connection says what it is: a peer's (the node takes it over), a client's (HELLO) or
 * somebody who wants the status text. A client's calls go to propose.c or answer.c at once; nothing waits here. A
 * node that does not lead sends every call away with what it knows of the leader. Once one call of a connection was
 * sent away, all later ones are, even if the node leads again: the client repeats all of them elsewhere, and none may
 * overtake an earlier one.
 *
 * Watches (watch.c) go with their connection.
 *
 * How much may be under way is kv/flow.c's matter; here: a connection that does not take its answers is closed after
 * a while, and more clients than there is room for are told so and closed. */
#include "kv/server.h"

#include <stdlib.h>

/* ---- life of a connection ---- */

void kv__conn_unref(struct kv__conn *c)
{
    check(c->refs > 0);
    if (--c->refs > 0) return;
    check(list_empty(&c->held));
    list_remove(&c->link);
    free(c);
}

static void forget(struct kv__conn *c)
{
    struct kv_server *s = c->server;
    if (!c->conn) return;
    c->conn = NULL;
    kv__flow_closed(c);
    if (c->client) s->nclients--;
    else s->nstrangers--;
    kv__query_drop_held(c);
    kv__watch_drop_all(c);
    kv__conn_unref(c);
}

/* From our side: nothing is sent any more; closed() has nothing left to do. */
static void hang_up(struct kv__conn *c)
{
    struct conn *conn = c->conn;
    if (!conn) return;
    conn->arg = NULL;
    conn_close(conn);
    forget(c);
}

void kv__conn_refuse(struct kv__conn *c, int err, const char *text)
{
    struct kv_server *s = c->server;
    uint64_t now = clock_now(s->clock);
    if (now >= s->refusal_said + NS_PER_S) {        /* a crowd of them must not fill the log */
        trace_warn(s->trace, "refused a client at %s: %s (%u others since the last such line)", c->conn->peer, text,
                   s->refusals_unsaid);
        s->refusal_said = now;
        s->refusals_unsaid = 0;
    } else {
        s->refusals_unsaid++;
    }
    kv__refused_encode(err, text, kv__out(c));
    struct slice v = buf_slice(&s->out);
    conn_send(c->conn, KV_FRAME_REFUSED, &v, 1);
    hang_up(c);
}

/* ---- answers ---- */

void kv__send_frame(struct kv__conn *c, uint8_t type, const struct slice *v, unsigned nv)
{
    if (!c->conn) return;
    int err = conn_send(c->conn, type, v, nv);
    if (!err) {
        for (unsigned i = 0; i < nv; i++) c->offered += v[i].n;
        c->offered += FRAME_HEADER_BYTES;
        kv__flow_sent(c);
        return;
    }
    trace_warn(c->server->trace, "client at %s: %s; closed", c->conn->peer, err_text(err));
    hang_up(c);
}

struct buf *kv__out(struct kv__conn *c)
{
    buf_clear(&c->server->out);
    return &c->server->out;
}

void kv__send_out(struct kv__conn *c, uint8_t type)
{
    struct slice v = buf_slice(&c->server->out);
    kv__send_frame(c, type, &v, 1);
}

void kv__send_reply(struct kv__conn *c, uint64_t id, enum kv_code code, const struct kv_reply *reply)
{
    struct buf *out = kv__out(c);
    put_u64(out, id);
    put_u8(out, (uint8_t)code);
    kv__reply_encode_head(code, reply, out);
    struct slice v[2] = {buf_slice(out), reply->data};
    bool data = reply->status >= 0 && kv__op_info(code)->reply & R_DATA && reply->data.n;
    kv__send_frame(c, KV_FRAME_REPLY, v, data ? 2 : 1);
}

void kv__send_redirect(struct kv__conn *c, uint64_t id)
{
    struct kv_server *s = c->server;
    c->away = true;
    struct raft_member m = {0};
    bool known = s->leader && s->node && node_member(s->node, s->leader, &m);
    kv__redirect_encode(id, known ? m.id : 0, slice_str(known ? m.addr : ""), kv__out(c));
    kv__send_out(c, KV_FRAME_REDIRECT);
}

static void send_ack(struct kv__conn *c, uint64_t cluster)
{
    struct kv_server *s = c->server;
    struct kv__ack a = {.version = KV_VERSION, .cluster = cluster, .node = s->config.node.id, .leader = s->leader};
    a.n = node_members(s->node, a.members);
    kv__ack_encode(&a, kv__out(c));
    kv__send_out(c, KV_FRAME_HELLO_ACK);
}

/* A client that stays connected would else know only who was a member when it came. */
void kv__tell_members(struct kv_server *s)
{
    struct node_status st;
    if (node_members_index(s->node) == s->members_index) return;
    s->members_index = node_members_index(s->node);
    node_status(s->node, &st);
    list_for_each_safe(l, next, &s->conns)
    {
        struct kv__conn *c = container_of(l, struct kv__conn, link);
        if (!c->greeted || !c->conn) continue;
        c->refs++;
        send_ack(c, st.cluster_id);
        kv__conn_unref(c);
    }
}

static void send_status(struct kv__conn *c)
{
    struct buf text = {0};
    kv_server_status(c->server, &text);
    struct slice v = buf_slice(&text);
    kv__send_frame(c, KV_FRAME_STATUS_RESP, &v, 1);
    buf_free(&text);
}

/* ---- frames ---- */

/* False: there are too many, and it was told so. */
static bool become_client(struct kv__conn *c)
{
    struct kv_server *s = c->server;
    if (c->client) return true;
    if (s->nclients >= s->config.clients_max) {
        kv__conn_refuse(c, QE_BUSY, s->full_text);
        return false;
    }
    c->client = true;
    s->nstrangers--;
    s->nclients++;
    kv__flow_joined(c);
    return true;
}

static void on_hello(struct kv__conn *c, struct slice payload)
{
    struct kv_server *s = c->server;
    struct kv__hello h;
    struct node_status st;
    if (kv__hello_decode(payload, &h)) {
        kv__conn_refuse(c, QE_FRAME, "its greeting cannot be decoded");
        return;
    }
    node_status(s->node, &st);
    if (h.version != KV_VERSION) kv__conn_refuse(c, QE_VERSION, "client and server speak different protocol versions");
    else if (h.cluster && st.cluster_id && h.cluster != st.cluster_id)
        kv__conn_refuse(c, QE_CLUSTER, "this node belongs to another cluster");
    if (!c->conn || !become_client(c)) return;
    c->session = h.session;
    c->greeted = true;
    send_ack(c, st.cluster_id);
}

/* A change that may have been sent before may have been answered before: then it need not go through the log again. */
static bool answered_before(struct kv__conn *c, const struct kv__call *call, enum kv_code code, struct slice bytes)
{
    struct slice stored;
    struct kv_reply reply;
    struct kv__session session;
    const struct omap *map = c->server->store->map;
    if (!(call->flags & KV_CALL_RESENT) || !kv__session_load(map, call->session, &session) ||
        !kv__answer_get(map, &session, call->seq, &stored))
        return false;
    if (stored.n < 1 || kv_reply_decode((enum kv_code)stored.p[0], slice_sub(stored, 1, stored.n - 1), &reply))
        return false;
    if (reply.status >= 0 && stored.p[0] != code) return false;
    if (code == KV_TXN) kv__txn_answer(kv__query_new(c, call, bytes), &reply);
    else kv__send_reply(c, call->id, code, &reply);
    return true;
}

static void on_change(struct kv__conn *c, const struct kv__call *call, const struct kv_op *op, struct slice bytes)
{
    struct kv_server *s = c->server;
    if (answered_before(c, call, op->code, bytes)) return;
    bool compares = op->code == KV_CAS || op->code == KV_TXN;
    int refusal = node_disk_full(s->node) ? kv__full_disk_error(s->store, op) : 0;
    struct kv__query *q = compares ? kv__query_new(c, call, bytes) : NULL;
    if (refusal) kv__propose_refusal(s, c, call, op->code, refusal, q);
    else kv__propose(s, c, call, op->code, bytes, q);
}

/* What a client may not ask: the leader's own operations, and fields that are the leader's. */
static bool forbidden(const struct kv_op *op)
{
    struct kv_txn t;
    if (op->code == KV_TXN) return kv_txn_decode(op->data, &t) || !kv__txn_plain(&t);
    return op->code == KV_SESSION_EXPIRE || (op->code == KV_CAS && op->flags > 1);
}

static void on_call(struct kv__conn *c, struct slice payload)
{
    struct kv_server *s = c->server;
    struct kv__call call;
    struct kv_op op;
    struct slice bytes;
    if (kv__call_decode(payload, &call, &bytes) || kv_op_decode(bytes, &op) || bytes.n > KV_OP_BYTES_MAX ||
        forbidden(&op)) {
        kv__conn_refuse(c, QE_FRAME, "it sent an operation that cannot be decoded");
        return;
    }
    if (!s->leading || c->away) kv__send_redirect(c, call.id);
    else if (kv_is_change(op.code)) on_change(c, &call, &op, bytes);
    else kv__query_start(kv__query_new(c, &call, bytes));
}

static void on_admin(struct kv__conn *c, struct slice payload)
{
    struct kv__admin_ask ask;
    if (kv__admin_decode(payload, &ask)) {
        kv__conn_refuse(c, QE_FRAME, "it sent a request that cannot be decoded");
        return;
    }
    if (!become_client(c)) return;
    kv__admin(c, &ask);
}

static void take_frame(struct kv__conn *c, uint8_t type, struct slice payload)
{
    if (type == KV_FRAME_HELLO) on_hello(c, payload);
    else if (type == KV_FRAME_STATUS) send_status(c);
    else if (type == KV_FRAME_ADMIN) on_admin(c, payload);
    else if (type == KV_FRAME_CALL && c->client) on_call(c, payload);
    else if (type == KV_FRAME_WATCH && c->client) kv__watch_open(c, payload);
    else if (type == KV_FRAME_WATCH_STOP && c->client) kv__watch_stop(c, payload);
    else kv__conn_refuse(c, QE_FRAME, "it sent a frame that is out of place");
}

static void on_frame(struct conn *conn, uint8_t type, struct slice payload)
{
    struct kv__conn *c = conn->arg;
    if (!c) return;
    c->refs++;
    if (type == RAFT_FRAME_HELLO && !c->client) {
        conn->arg = NULL;       /* the node's from now on */
        conn->guest = false;
        forget(c);
        node_accept(c->server->node, conn, payload);
    } else {
        take_frame(c, type, payload);
    }
    kv__conn_unref(c);
}

static void on_drained(struct conn *conn)
{
    struct kv__conn *c = conn->arg;
    if (!c) return;
    c->refs++;
    kv__flow_sent(c);
    kv__flow_ease(c);
    kv__query_release_held(c);
    kv__watch_pump(c);
    kv__conn_unref(c);
}

static void on_closed(struct conn *conn, int err)
{
    struct kv__conn *c = conn->arg;
    if (c) forget(c);
}

static const struct conn_cb serve_cb = {.frame = on_frame, .drained = on_drained, .closed = on_closed};

void kv__serve_accept(void *arg, struct conn *conn)
{
    struct kv_server *s = arg;
    struct kv__conn *c = xcalloc(1, sizeof *c);
    *c = (struct kv__conn){.server = s, .conn = conn, .refs = 1, .since = clock_now(s->clock)};
    list_init(&c->held);
    list_init(&c->watches);
    list_init(&c->watch_link);
    list_push_back(&s->conns, &c->link);
    s->nstrangers++;
    conn->cb = &serve_cb;
    conn->arg = c;
    conn->guest = true;
    if (s->nstrangers > s->config.strangers_max)
        kv__conn_refuse(c, QE_BUSY, "this node has too many connections that have not said yet who they are: try again");
}

/* ---- once a second ---- */

static void look_at(struct kv__conn *c, uint64_t now)
{
    if (!c->conn) return;
    if (kv__flow_unread(c, now)) {
        trace_warn(c->server->trace, "client at %s does not read its answers: closed", c->conn->peer);
        hang_up(c);
    } else if (!c->client && now - c->since >= KV_STRANGER_NS) {
        hang_up(c);
    }
}

void kv__serve_tick(struct kv_server *s)
{
    uint64_t now = clock_now(s->clock);
    list_for_each_safe(l, next, &s->conns)
    {
        struct kv__conn *c = container_of(l, struct kv__conn, link);
        c->refs++;
        look_at(c, now);
        if (c->conn) {
            kv__flow_ease(c);
            kv__query_release_held(c);
            kv__watch_tick(c);
        }
        kv__conn_unref(c);
    }
}

void kv__serve_free(struct kv_server *s)
{
    list_for_each_safe(l, next, &s->conns) hang_up(container_of(l, struct kv__conn, link));
}
