/* client_status.c - one question to one node, over a connection of its own: its status text (kv_status), or a change of
 * the cluster (kv_admin). Whatever goes wrong - the node cannot be reached, does not answer until the deadline, is no
 * quorumfs node - comes as the error of done(). */
#include <stdlib.h>

#include "kv/wire.h"

struct asking {
    struct kv_status_call *status; /* one of the two */
    struct kv_admin_call *admin;
    struct clock *clock;
    struct conn *conn;
    struct timer deadline;
};

static void finish(struct asking *a, int err, struct slice text, uint64_t leader, const char *leader_addr)
{
    struct kv_status_call *status = a->status;
    struct kv_admin_call *admin = a->admin;
    clock_disarm(a->clock, &a->deadline);
    if (a->conn) {
        a->conn->arg = NULL;
        conn_close(a->conn);
    }
    free(a);
    if (status) {
        status->priv = NULL;
        status->done(status, err, text);
        return;
    }
    admin->priv = NULL;
    admin->leader = leader;
    memcpy(admin->leader_addr, leader_addr, strlen(leader_addr) + 1);
    admin->done(admin, err, text);
}

static void fail(struct asking *a, int err) { finish(a, err, (struct slice){0}, 0, ""); }

static void on_open(struct conn *conn)
{
    struct asking *a = conn->arg;
    if (!a) return;
    if (a->status) {
        conn_send(conn, KV_FRAME_STATUS, NULL, 0);
        return;
    }
    struct kv__admin_ask ask = {.what = a->admin->what, .id = a->admin->id, .wait_ms = a->admin->wait_ms};
    memcpy(ask.addr, a->admin->member_addr, sizeof ask.addr);
    struct buf b = {0};
    kv__admin_encode(&ask, &b);
    struct slice v = buf_slice(&b);
    conn_send(conn, KV_FRAME_ADMIN, &v, 1);
    buf_free(&b);
}

static void on_frame(struct conn *conn, uint8_t type, struct slice payload)
{
    struct asking *a = conn->arg;
    int err;
    struct slice text;
    uint64_t leader;
    char addr[ADDR_MAX];
    if (!a) return;
    if (type == KV_FRAME_STATUS_RESP && a->status)
        finish(a, 0, payload, 0, "");
    else if (type == KV_FRAME_ADMIN_RESP && a->admin && kv__admin_resp_decode(payload, &err, &leader, addr, &text) == 0)
        finish(a, err, text, leader, addr);
    else if (type == KV_FRAME_REFUSED && kv__refused_decode(payload, &err, &text) == 0)
        finish(a, err, text, 0, "");
    else
        fail(a, QE_FRAME);
}

static void on_closed(struct conn *conn, int err)
{
    struct asking *a = conn->arg;
    if (!a) return;
    a->conn = NULL;
    fail(a, err ? err : -ECONNRESET);
}

static void deadline_fired(struct timer *t) { fail(t->arg, -ETIMEDOUT); }

static const struct conn_cb ask_cb = {.open = on_open, .frame = on_frame, .closed = on_closed};

static struct asking *ask(struct net *net, struct clock *clock, const struct asking *what, const char *addr,
                          uint64_t deadline)
{
    struct asking *a = xcalloc(1, sizeof *a);
    *a = *what;
    a->clock = clock;
    a->deadline = (struct timer){.fire = deadline_fired, .arg = a};
    if (deadline) clock_arm(clock, &a->deadline, deadline);
    a->conn = net_dial(net, addr, &ask_cb, a);
    return a;
}

void kv_status(struct net *net, struct clock *clock, struct kv_status_call *call)
{
    call->priv = ask(net, clock, &(struct asking){.status = call}, call->addr, call->deadline);
}

void kv_admin(struct net *net, struct clock *clock, struct kv_admin_call *call)
{
    call->priv = ask(net, clock, &(struct asking){.admin = call}, call->addr, call->deadline);
}
