/* box.c - the machine of integers. A committed command is eight bytes, a number; the state is the list of them. */
#include "tests/sim/box.h"

#include <stdlib.h>

#include "raft/node_priv.h"

struct numbers {
    uint64_t *v;
    size_t n, cap;
};

struct sim_box {
    struct sim_server *server;
    struct node *node;
    struct numbers now, image;
    uint64_t raft_index; /* applied last */
};

static void add(struct numbers *l, uint64_t value)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 256;
        l->v = xrealloc(l->v, l->cap * sizeof *l->v);
    }
    l->v[l->n++] = value;
}

static void numbers_free(struct numbers *l)
{
    free(l->v);
    *l = (struct numbers){0};
}

/* ---- the state machine ---- */

static void sm_apply(void *arg, uint64_t index, uint64_t term, struct slice data)
{
    struct sim_box *b = arg;
    check(data.n == 8 && index > b->raft_index);
    add(&b->now, load_u64(data.p));
    b->raft_index = index;
}

static void sm_applied(void *arg, uint64_t index) {}

struct image {
    struct numbers l;
    size_t at;
};

static void *sm_snap_begin(void *arg)
{
    struct sim_box *b = arg;
    struct image *im = xcalloc(1, sizeof *im);
    for (size_t i = 0; i < b->now.n; i++) add(&im->l, b->now.v[i]);
    return im;
}

static int sm_snap_next(void *snap, struct buf *block)
{
    struct image *im = snap;
    if (im->at > im->l.n || (im->at == im->l.n && im->at)) return 0;
    size_t n = min_u64(im->l.n - im->at, 500);
    put_u32(block, (uint32_t)n);
    for (size_t i = 0; i < n; i++) put_u64(block, im->l.v[im->at + i]);
    im->at += n ? n : 1;
    return 1;
}

static void sm_snap_end(void *snap)
{
    struct image *im = snap;
    numbers_free(&im->l);
    free(im);
}

static void sm_restore_begin(void *arg) { numbers_free(&((struct sim_box *)arg)->image); }
static void sm_restore_cancel(void *arg) { numbers_free(&((struct sim_box *)arg)->image); }

static int sm_restore_block(void *arg, struct slice block)
{
    struct sim_box *b = arg;
    struct reader r = reader_of(block);
    for (uint32_t n = get_u32(&r); n && !r.bad; n--) add(&b->image, get_u64(&r));
    return reader_done(&r) ? 0 : QE_CORRUPT;
}

static int sm_restore_end(void *arg, uint64_t index)
{
    struct sim_box *b = arg;
    numbers_free(&b->now);
    b->now = b->image;
    b->image = (struct numbers){0};
    b->raft_index = index;
    return 0;
}

static void sm_restore_ranges(void *arg, void (*emit)(void *ctx, uint64_t index, uint32_t off, uint32_t len), void *ctx)
{
}
static void sm_live_ranges(void *arg, uint64_t index, void (*emit)(void *ctx, uint32_t off, uint32_t len), void *ctx) {}
static void sm_role(void *arg, enum raft_role role, uint64_t term, uint64_t leader) {}

static uint64_t sm_digest(void *arg)
{
    const struct sim_box *b = arg;
    return b->now.n ? hash64(b->now.n, b->now.v, b->now.n * sizeof *b->now.v) : 0;
}

static void sm_fatal(void *arg, int err, const char *text)
{
    struct sim_box *b = arg;
    sim_fail(b->server->cluster, "server %u ends itself: %s (%s)", b->server->at + 1, text, err_text(err));
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
    struct node_sm sm = {.arg = b,
                         .apply = sm_apply,
                         .applied = sm_applied,
                         .snap_begin = sm_snap_begin,
                         .snap_next = sm_snap_next,
                         .snap_end = sm_snap_end,
                         .restore_begin = sm_restore_begin,
                         .restore_block = sm_restore_block,
                         .restore_end = sm_restore_end,
                         .restore_cancel = sm_restore_cancel,
                         .restore_ranges = sm_restore_ranges,
                         .live_ranges = sm_live_ranges,
                         .role = sm_role,
                         .digest = sm_digest,
                         .fatal = sm_fatal};
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
    numbers_free(&b->now);
    numbers_free(&b->image);
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
    struct node_status st;
    struct blob *data = blob_new(8);
    store_u64(data->p, command);
    int64_t at = node_propose(b->node, data);
    node_status(b->node, &st);
    *term = st.raft.term;
    if (at < 0) return false;
    *index = b->now.n + commands_in(b->node, b->node->applied + 1, (uint64_t)at);
    return true;
}

uint64_t sim_box_applied(const struct sim_box *b) { return b->now.n; }

uint64_t sim_box_value(const struct sim_box *b, uint64_t index)
{
    check(index >= 1 && index <= b->now.n);
    return b->now.v[index - 1];
}
