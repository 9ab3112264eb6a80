/* client_status.c - asks one node for its status text, over a connection of its own. Whatever goes wrong - the node
 * cannot be reached, does not answer until the deadline, is no quorumfs node - comes as the error of done(). */
#include <stdlib.h>

#include "kv/wire.h"

struct asking {
    struct kv_status_call *call;
    struct clock *clock;
    struct conn *conn;
    struct timer deadline;
};

static void finish(struct asking *a, int err, struct slice text)
{
    struct kv_status_call *call = a->call;
    clock_disarm(a->clock, &a->deadline);
    if (a->conn) {
        a->conn->arg = NULL;
        conn_close(a->conn);
    }
    free(a);
    call->priv = NULL;
    call->done(call, err, text);
}

static void on_open(struct conn *conn)
{
    if (conn->arg) conn_send(conn, KV_FRAME_STATUS, NULL, 0);
}

static void on_frame(struct conn *conn, uint8_t type, struct slice payload)
{
    struct asking *a = conn->arg;
    int err;
    struct slice text;
    if (!a) return;
    if (type == KV_FRAME_STATUS_RESP) finish(a, 0, payload);
    else if (type == KV_FRAME_REFUSED && kv__refused_decode(payload, &err, &text) == 0) finish(a, err, text);
    else finish(a, QE_FRAME, (struct slice){0});
}

static void on_closed(struct conn *conn, int err)
{
    struct asking *a = conn->arg;
    if (!a) return;
    a->conn = NULL;
    finish(a, err ? err : -ECONNRESET, (struct slice){0});
}

static void deadline_fired(struct timer *t) { finish(t->arg, -ETIMEDOUT, (struct slice){0}); }

static const struct conn_cb status_cb = {.open = on_open, .frame = on_frame, .closed = on_closed};

void kv_status(struct net *net, struct clock *clock, struct kv_status_call *call)
{
    struct asking *a = xcalloc(1, sizeof *a);
    a->call = call;
    a->clock = clock;
    a->deadline = (struct timer){.fire = deadline_fired, .arg = a};
    call->priv = a;
    if (call->deadline) clock_arm(clock, &a->deadline, call->deadline);
    a->conn = net_dial(net, call->addr, &status_cb, a);
}
