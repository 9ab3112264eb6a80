/* box.c - a node over the simulated doors, under the machine of integers. */
#include "tests/sim/box.h"

#include <stdlib.h>

#include "raft/node_priv.h"
#include "tests/sim/integers.h"

struct sim_box {
    struct sim_server *server;
    struct node *node;
    struct integers machine;
};

static void on_fatal(void *owner, int err, const char *text)
{
    sim_server_fatal(((struct sim_box *)owner)->server, err, text);
}

/* ---- connections: all of them are peers' ---- */

static void stranger_frame(struct conn *conn, uint8_t type, struct slice payload)
{
    struct sim_box *b = conn->arg;
    if (type == RAFT_FRAME_HELLO)
        node_accept(b->node, conn, payload);
    else
        conn_close(conn);
}

static void stranger_closed(struct conn *conn, int err) {}
static const struct conn_cb stranger_cb = {.frame = stranger_frame, .closed = stranger_closed};

static void accept_conn(void *arg, struct conn *conn)
{
    conn->cb = &stranger_cb;
    conn->arg = arg;
}

/* ---- life ---- */

int sim_box_new(struct sim_server *s, const struct node_config *config, struct sim_box **out, struct buf *why)
{
    struct sim_cluster *c = s->cluster;
    struct sim_box *b = xcalloc(1, sizeof *b);
    struct net *net = sim_net_door(c->net, s->at);
    b->machine = (struct integers){.fatal = on_fatal, .owner = b};
    struct node_sm sm = integers_sm(&b->machine);
    b->server = s;
    int err = node_new(&s->gate.door, net, sim_clock(c->world, s->at), config, &sm, &b->node, why);
    if (err) {
        free(b);
        return err;
    }
    check(net_listen(net, s->addr, accept_conn, b) == 0);
    *out = b;
    return 0;
}

void sim_box_free(struct sim_box *b)
{
    node_free(b->node);
    integers_free(&b->machine);
    free(b);
}

struct node *sim_box_node(struct sim_box *b) { return b->node; }

/* ---- use ---- */

static uint64_t commands_in(struct node *n, uint64_t first, uint64_t last)
{
    uint64_t count = 0;
    for (uint64_t i = first; i <= last; i++) {
        struct log_entry e;
        check(log_cached(n->log, i, &e));
        count += e.kind == RAFT_COMMAND;
    }
    return count;
}

bool sim_box_start(struct sim_box *b, uint64_t command, uint64_t *index, uint64_t *term)
{
    return sim_box_start_sized(b, command, 8, index, term);
}

bool sim_box_start_sized(struct sim_box *b, uint64_t command, uint32_t bytes, uint64_t *index, uint64_t *term)
{
    struct blob *data = blob_new(bytes);
    memset(data->p, 0, bytes);
    store_u64(data->p, command);
    int64_t at = node_propose(b->node, data);
    *term = b->node->term;
    if (at < 0) return false;
    *index = b->machine.now.n + commands_in(b->node, b->node->applied + 1, (uint64_t)at);
    return true;
}

uint64_t sim_box_applied(const struct sim_box *b) { return b->machine.now.n; }

uint64_t sim_box_value(const struct sim_box *b, uint64_t index) { return integers_value(&b->machine, index); }
