/* raft_node.c --id N --data DIR --listen ADDR --cluster ID=ADDR,... - a member of the Raft suite's clusters as a
 * process of its own: the production node over the production doors, under the machine of integers, and a control
 * connection (control.h) on which the harness offers commands, asks for the state and hears what is applied. Ended by
 * SIGKILL. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "io/io.h"
#include "raft/node_priv.h"
#include "tests/labreal/control.h"
#include "tests/sim/integers.h"

struct member {
    struct io_loop *loop;
    struct node *node;
    struct integers machine;
    struct trace trace;
    struct conn *watcher;
    uint64_t told; /* visible index that the watcher knows */
};

/* An offer whose visible index has to be counted in entries that are not in memory. */
struct counting {
    struct member *m;
    struct log_fetch fetch;
    uint64_t request, at, term;
};

static void on_fatal(void *owner, int err, const char *text)
{
    fprintf(stderr, "this node stops: %s (%s)\n", text, err_text(err));
    _exit(1);
}

/* ---- what is applied ---- */

static void tell(void *owner, uint64_t upto)
{
    struct member *m = owner;
    if (!m->watcher || m->told == upto) return;
    struct buf b = {0};
    put_u64(&b, m->told + 1);
    while (m->told < upto) put_u64(&b, integers_value(&m->machine, ++m->told));
    struct slice v = buf_slice(&b);
    conn_send(m->watcher, CTL_APPLIED, &v, 1);
    buf_free(&b);
}

/* ---- offers ---- */

static void answer_offer(struct member *m, uint64_t request, bool accepted, uint64_t index, uint64_t term)
{
    struct buf b = {0};
    put_u64(&b, request);
    put_u8(&b, accepted);
    put_u64(&b, index);
    put_u64(&b, term);
    struct slice v = buf_slice(&b);
    if (m->watcher) conn_send(m->watcher, CTL_OFFER_RESP, &v, 1);
    buf_free(&b);
}

/* Commands in the log from what is applied to `at`; the first entry that is not in memory, 0: none. */
static uint64_t count(struct member *m, uint64_t at, uint64_t *visible)
{
    *visible = m->machine.now.n;
    for (uint64_t i = m->node->applied + 1; i <= at; i++) {
        struct log_entry e;
        if (!log_cached(m->node->log, i, &e)) return i;
        *visible += e.kind == RAFT_COMMAND;
    }
    return 0;
}

/* The leader of that term has the entries still, unless it was deposed meanwhile; then the offer came to nothing. */
static void fetched(struct log_fetch *f, int err)
{
    struct counting *c = f->arg;
    uint64_t visible;
    bool stale = err || c->m->node->term != c->term || c->m->node->applied >= c->at;
    if (!stale && count(c->m, c->at, &visible) == 0)
        answer_offer(c->m, c->request, true, visible, c->term);
    else
        answer_offer(c->m, c->request, false, 0, c->m->node->term);
    free(c);
}

static void on_offer(struct member *m, uint64_t request, uint64_t command, uint32_t padding)
{
    struct blob *data = blob_new(8 + padding);
    uint64_t visible;
    store_u64(data->p, command);
    memset(data->p + 8, 0, padding);
    int64_t at = node_propose(m->node, data);
    if (at < 0) {
        answer_offer(m, request, false, 0, m->node->term);
        return;
    }
    uint64_t missing = count(m, (uint64_t)at, &visible);
    if (!missing) {
        answer_offer(m, request, true, visible, m->node->term);
        return;
    }
    struct counting *c = xcalloc(1, sizeof *c);
    *c = (struct counting){.m = m, .request = request, .at = (uint64_t)at, .term = m->node->term};
    c->fetch = (struct log_fetch){.first = missing, .last = c->at, .done = fetched, .arg = c};
    log_fetch(m->node->log, &c->fetch);
}

static void on_state(struct member *m, uint64_t request)
{
    struct node_status st;
    struct buf b = {0};
    node_status(m->node, &st);
    put_u64(&b, request);
    put_u8(&b, st.raft.role == RAFT_LEADER);
    put_u64(&b, st.raft.term);
    struct slice v = buf_slice(&b);
    conn_send(m->watcher, CTL_STATE_RESP, &v, 1);
    buf_free(&b);
}

/* ---- connections ---- */

static void control_frame(struct conn *conn, uint8_t type, struct slice payload)
{
    struct member *m = conn->arg;
    struct reader r = reader_of(payload);
    uint64_t request = get_u64(&r);
    if (type == CTL_OFFER) {
        uint64_t command = get_u64(&r);
        on_offer(m, request, command, get_u32(&r));
    } else if (type == CTL_STATE) {
        on_state(m, request);
    }
}

/* The harness does not close it while it lives. */
static void control_closed(struct conn *conn, int err)
{
    struct member *m = conn->arg;
    if (m->watcher == conn) m->watcher = NULL;
}

static const struct conn_cb control_cb = {.frame = control_frame, .closed = control_closed};

static void stranger_frame(struct conn *conn, uint8_t type, struct slice payload)
{
    struct member *m = conn->arg;
    if (type == RAFT_FRAME_HELLO) {
        node_accept(m->node, conn, payload);
    } else if (type == CTL_WATCH) {
        conn->cb = &control_cb;
        m->watcher = conn;
        m->told = 0;
        tell(m, m->machine.now.n);
    } else {
        conn_close(conn);
    }
}

static void stranger_closed(struct conn *conn, int err) {}
static const struct conn_cb stranger_cb = {.frame = stranger_frame, .closed = stranger_closed};

static void accept_conn(void *arg, struct conn *conn)
{
    conn->cb = &stranger_cb;
    conn->arg = arg;
}

/* ---- life ---- */

static bool read_members(char *list, struct node_config *cfg)
{
    char *save = NULL;
    for (char *item = strtok_r(list, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
        struct raft_member *m = &cfg->members[cfg->nmembers];
        char *eq = strchr(item, '=');
        if (!eq || cfg->nmembers == RAFT_PEERS_MAX || strlen(eq + 1) >= sizeof m->addr) return false;
        m->id = strtoull(item, NULL, 10);
        memcpy(m->addr, eq + 1, strlen(eq + 1) + 1);
        cfg->nmembers++;
    }
    return cfg->nmembers > 0;
}

static int run(struct member *m, const char *data, const char *listen, struct node_config *cfg)
{
    struct disk *disk;
    struct buf why = {0};
    struct node_sm sm = integers_sm(&m->machine);
    cfg->trace = &m->trace;
    cfg->seed = io_random();
    m->loop = io_loop_new();
    int err = io_disk_open(m->loop, data, &disk, &why);
    if (!err) err = node_new(disk, io_net(m->loop), io_clock(m->loop), cfg, &sm, &m->node, &why);
    if (!err) err = net_listen(io_net(m->loop), listen, accept_conn, m);
    if (err) {
        fprintf(stderr, "cannot start: %s: %.*s\n", err_text(err), (int)why.n, (const char *)why.p);
        return 1;
    }
    io_loop_run(m->loop);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"id", 1, 0, 'i'}, {"data", 1, 0, 'd'}, {"listen", 1, 0, 'l'}, {"cluster", 1, 0, 'c'}, {0}};
    struct member m = {0};
    /* Small segments: many of these nodes share a disk, and each writes its spare ones out. */
    struct node_config cfg = {.lease_reads = true, .log = {.segment_bytes = 256 * KIB}};
    const char *data = NULL, *listen = NULL;
    bool ok = true;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'i')
            cfg.id = strtoull(optarg, NULL, 10);
        else if (c == 'd')
            data = optarg;
        else if (c == 'l')
            listen = optarg;
        else
            ok = ok && c == 'c' && read_members(optarg, &cfg);
    }
    if (!ok || !cfg.id || !data || !listen) {
        fprintf(stderr, "usage: %s --id N --data DIR --listen ADDR --cluster ID=ADDR,...\n", argv[0]);
        return 2;
    }
    m.machine = (struct integers){.applied = tell, .fatal = on_fatal, .owner = &m};
    io_trace_fd(&m.trace, STDERR_FILENO, TRACE_INFO);
    return run(&m, data, listen, &cfg);
}
