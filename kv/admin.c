/* admin.c - changes of the cluster itself that a user asks for: members, and who leads. Each is one frame to the
 * leader, answered when it is complete, refused or out of time; what it has to wait for - a learner that catches up,
 * another change - is looked at again after each turn that applied something, and by a timer. Nothing is lost if the
 * connection or the leader goes: the same request to the next leader goes on where it stands. */
#include "kv/server.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define LOOK_NS (20 * NS_PER_MS)

struct kv__admin {
    struct list link; /* server.admins */
    struct kv__conn *conn;
    struct kv__admin_ask ask;
    uint64_t deadline;
    int64_t index; /* of the change; 0: not taken yet */
    bool handing;  /* a transfer is under way */
};

static void drop(struct kv__admin *a)
{
    list_remove(&a->link);
    kv__conn_end(a->conn, sizeof *a);
    free(a);
}

static void answer(struct kv_server *s, struct kv__admin *a, int status, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

static void answer(struct kv_server *s, struct kv__admin *a, int status, const char *fmt, ...)
{
    char text[ADDR_MAX + 400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    struct raft_member m = {0};
    if (s->leader && !node_member(s->node, s->leader, &m)) m = (struct raft_member){0};
    kv__admin_resp_encode(status, s->leader, m.addr, text, kv__out(a->conn));
    kv__send_out(a->conn, KV_FRAME_ADMIN_RESP);
    drop(a);
}

static void look_at_transfer(struct kv_server *s, struct kv__admin *a)
{
    unsigned long long id = a->ask.id;
    struct node_status st;
    if (a->handing && !s->leading) {
        answer(s, a, 0, "handed over");
        return;
    }
    if (!s->leading) {
        answer(s, a, QE_NOT_LEADER, "this node does not lead");
        return;
    }
    if (!a->handing && id == s->config.node.id) {
        answer(s, a, -EALREADY, "node %llu leads already", id);
        return;
    }
    if (!a->handing) node_transfer(s->node, id);
    node_status(s->node, &st);
    if (a->handing && !st.raft.transferee)
        answer(s, a, -ETIMEDOUT, "the other node did not take over in time; this one goes on leading");
    else if (!st.raft.transferee && id)
        answer(s, a, -EPERM, "node %llu cannot take over: it has no vote, or does not answer, or is fenced", id);
    else if (!st.raft.transferee)
        answer(s, a, -EPERM, "there is no other voter that answers and could take over");
    else
        a->handing = true;
}

static void try_change(struct kv_server *s, struct kv__admin *a, uint64_t now)
{
    struct buf why = {0};
    struct node_change c = {.what = (enum node_change_what)a->ask.what, .id = a->ask.id};
    memcpy(c.addr, a->ask.addr, sizeof c.addr);
    int64_t r = node_change(s->node, &c, &why);
    bool later = (r == QE_BUSY || r == -EAGAIN) && now < a->deadline;
    if (r > 0) a->index = r;
    else if (!later) answer(s, a, (int)r, "%.*s", (int)why.n, (const char *)why.p);
    buf_free(&why);
}

static void look_at(struct kv_server *s, struct kv__admin *a, uint64_t now)
{
    if (!a->conn->conn) { /* nobody waits any more */
        drop(a);
    } else if (a->ask.what == KV_ADMIN_TRANSFER) {
        look_at_transfer(s, a);
    } else if (a->index && node_change_done(s->node, a->index)) {
        answer(s, a, 0, "done");
    } else if (!s->leading) {
        answer(s, a, QE_NOT_LEADER, "this node does not lead (any more)");
    } else if (!a->index) {
        try_change(s, a, now);
    } else if (now >= a->deadline) {
        answer(s, a, -ETIMEDOUT,
               "the change is under way, but not enough of the old and the new voters have confirmed it yet: it goes "
               "on by itself as soon as they are there");
    }
}

static void look(struct kv_server *s)
{
    uint64_t now = clock_now(s->clock);
    list_for_each_safe(l, next, &s->admins) look_at(s, container_of(l, struct kv__admin, link), now);
    if (!list_empty(&s->admins)) clock_arm(s->clock, &s->admin_timer, now + LOOK_NS);
}

static void look_fired(struct timer *t) { look(t->arg); }

void kv__admin_init(struct kv_server *s)
{
    list_init(&s->admins);
    s->admin_timer = (struct timer){.fire = look_fired, .arg = s};
}

void kv__admin_soon(struct kv_server *s)
{
    if (!list_empty(&s->admins)) clock_arm(s->clock, &s->admin_timer, 0);
}

void kv__admin(struct kv__conn *c, const struct kv__admin_ask *ask)
{
    struct kv_server *s = c->server;
    struct kv__admin *a = xcalloc(1, sizeof *a);
    *a = (struct kv__admin){.conn = c, .ask = *ask};
    a->deadline = clock_now(s->clock) + min_u64(ask->wait_ms, KV_ADMIN_WAIT_MAX_MS) * NS_PER_MS;
    kv__conn_begin(c, sizeof *a);
    list_push_back(&s->admins, &a->link);
    clock_arm(s->clock, &s->admin_timer, 0);
}

void kv__admin_free(struct kv_server *s)
{
    clock_disarm(s->clock, &s->admin_timer);
    list_for_each_safe(l, next, &s->admins) drop(container_of(l, struct kv__admin, link));
}
