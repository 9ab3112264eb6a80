/* server.c - one node's server: creates the store and the node, joins them, and keeps their time.
 *
 * Happy path of a change: frame (serve.c) -> batch -> log (propose.c) -> apply (store.c) -> answer. Of a query: frame
 * -> permission of the node -> map (query.c) -> payload (answer.c) -> answer.
 *
 * Failures: what the disk or the state's digest makes impossible comes as fatal() and stops the process. A leader
 * that is deposed sends all who wait to the new one. Recovery that fails is reported by kv_server_new with a text for
 * the user. */
#include "kv/server.h"

#include <stdio.h>
#include <stdlib.h>

#define STOP_NS (1 * NS_PER_S)

/* ---- what the node calls ---- */

static void sm_apply(void *arg, uint64_t index, uint64_t term, struct slice data)
{
    kv__propose_apply(arg, index, term, data);
}

static void sm_applied(void *arg, uint64_t index)
{
    struct kv_server *s = arg;
    kv__admin_soon(s);
    kv__tell_members(s);
    if (!list_empty(&s->queue)) kv__propose_flush(s);
    if (!list_empty(&s->watching)) kv__watch_pump_all(s);
    kv__flow_turn(s);
}

static void *sm_snap_begin(void *arg) { return kv__snap_begin(((struct kv_server *)arg)->store); }
static void sm_restore_begin(void *arg) { kv__restore_begin(((struct kv_server *)arg)->store); }
static int sm_restore_block(void *arg, struct slice block)
{
    return kv__restore_block(((struct kv_server *)arg)->store, block);
}
static int sm_restore_end(void *arg, uint64_t index)
{
    return kv__restore_end(((struct kv_server *)arg)->store, index);
}
static void sm_restore_cancel(void *arg) { kv__restore_cancel(((struct kv_server *)arg)->store); }
static uint64_t sm_digest(void *arg) { return kv__store_digest(((struct kv_server *)arg)->store); }

static void sm_restore_ranges(void *arg, void (*emit)(void *ctx, uint64_t index, uint32_t off, uint32_t len), void *ctx)
{
    kv__restore_ranges(((struct kv_server *)arg)->store, emit, ctx);
}

static void sm_live_ranges(void *arg, uint64_t index, void (*emit)(void *ctx, uint32_t off, uint32_t len), void *ctx)
{
    fs_live_ranges(&((struct kv_server *)arg)->store->fs, index, emit, ctx);
}

static void sm_role(void *arg, enum raft_role role, uint64_t term, uint64_t leader)
{
    struct kv_server *s = arg;
    bool leads = role == RAFT_LEADER;
    bool lost = s->leading && (!leads || term != s->term);
    bool won = leads && (!s->leading || term != s->term);
    s->leading = leads;
    s->term = term;
    s->leader = leader;
    if (won) {
        s->mono = clock_now(s->clock);
        s->cluster = s->store->cluster;
        s->wall = s->store->wall;
    }
    if (lost) {
        kv__propose_orphan(s);
        kv__watch_orphan(s);
    }
    kv__admin_soon(s);
    if (!leads && s->stopping) clock_arm(s->clock, &s->stop_timer, 0);
}

static void sm_fatal(void *arg, int err, const char *text)
{
    struct kv_server *s = arg;
    s->config.fatal(s->config.fatal_arg, err, text);
}

static void store_live(void *arg, uint64_t index, int64_t delta)
{
    struct kv_server *s = arg;
    node_live_add(s->node, index, delta);
}

/* ---- time ---- */

static void turn_fired(struct timer *t)
{
    struct kv_server *s = t->arg;
    kv__propose_flush(s);
    kv__flow_turn(s);
    kv__flow_release(s);
}

static void tick_fired(struct timer *t)
{
    struct kv_server *s = t->arg;
    clock_arm(s->clock, t, clock_now(s->clock) + KV_TICK_NS);
    kv__serve_tick(s);
    kv__lost_tick(s);
    kv__propose_expired(s);
}

/* ---- life ---- */

static struct kv_server *create(struct disk *disk, struct net *net, struct clock *clock,
                                const struct kv_server_config *config)
{
    struct kv_server *s = xcalloc(1, sizeof *s);
    s->disk = disk;
    s->net = net;
    s->clock = clock;
    s->config = *config;
    s->writes_max = KV_WRITES_BYTES;
    s->unsent_max = KV_UNSENT_BYTES;
    if (!s->config.clients_max) s->config.clients_max = KV_CLIENTS_MAX;
    if (!s->config.strangers_max) s->config.strangers_max = KV_STRANGERS_MAX;
    snprintf(s->full_text, sizeof s->full_text, "this node serves %u clients, as many as it can: end some or try another one",
             s->config.clients_max);
    s->trace = config->trace;
    if (!s->config.node.addr[0] && strlen(config->listen) < ADDR_MAX)
        memcpy(s->config.node.addr, config->listen, strlen(config->listen) + 1);
    s->turn = (struct timer){.fire = turn_fired, .arg = s};
    s->tick = (struct timer){.fire = tick_fired, .arg = s};
    list_init(&s->conns);
    list_init(&s->queue);
    list_init(&s->inflight);
    list_init(&s->free_pending);
    list_init(&s->queries);
    list_init(&s->free_queries);
    kv__watch_init(s);
    kv__admin_init(s);
    struct kv__store_cb cb = {.arg = s, .live = store_live, .outcome = kv__propose_outcome};
    s->store = kv__store_new(&cb);
    return s;
}

static int start(struct kv_server *s, struct buf *why)
{
    struct node_sm sm = {
        .arg = s,
        .apply = sm_apply,
        .applied = sm_applied,
        .snap_begin = sm_snap_begin,
        .snap_next = kv__snap_next,
        .snap_end = kv__snap_end,
        .restore_begin = sm_restore_begin,
        .restore_block = sm_restore_block,
        .restore_end = sm_restore_end,
        .restore_cancel = sm_restore_cancel,
        .restore_ranges = sm_restore_ranges,
        .live_ranges = sm_live_ranges,
        .role = sm_role,
        .digest = sm_digest,
        .fatal = sm_fatal,
        .lost = kv__lost_ranges,
    };
    int err = node_new(s->disk, s->net, s->clock, &s->config.node, &sm, &s->node, why);
    if (err) {
        s->node = NULL;
        return err;
    }
    err = net_listen(s->net, s->config.listen, kv__serve_accept, s);
    if (!err) return 0;
    static const char text[] = "cannot listen on ";
    buf_append(why, text, sizeof text - 1);
    buf_append(why, s->config.listen, strlen(s->config.listen));
    buf_append(why, ": ", 2);
    buf_append(why, err_text(err), strlen(err_text(err)));
    return err;
}

int kv_server_new(struct disk *disk, struct net *net, struct clock *clock, const struct kv_server_config *config,
                  struct kv_server **out, struct buf *why)
{
    struct kv_server *s = create(disk, net, clock, config);
    int err = start(s, why);
    if (err) {
        kv_server_free(s);
        return err;
    }
    clock_arm(clock, &s->tick, clock_now(clock) + KV_TICK_NS);
    *out = s;
    return 0;
}

void kv_server_free(struct kv_server *s)
{
    if (!s) return;
    struct node *node = s->node;
    clock_disarm(s->clock, &s->tick);
    clock_disarm(s->clock, &s->stop_timer);
    kv__admin_free(s);
    kv__serve_free(s);
    s->leading = false;
    s->node = NULL;
    node_free(node);
    kv__propose_free(s);
    kv__query_free_all(s);
    kv__lost_free(s);
    check(list_empty(&s->conns));
    clock_disarm(s->clock, &s->turn);
    clock_disarm(s->clock, &s->watch_timer);
    kv__store_free(s->store);
    buf_free(&s->out);
    buf_free(&s->events);
    free(s);
}

static void stop_fired(struct timer *t)
{
    struct kv_server *s = t->arg;
    void (*done)(void *arg) = s->stopped;
    s->stopped = NULL;
    if (done) done(s->stopped_arg);
}

void kv_server_stop(struct kv_server *s, void (*done)(void *arg), void *arg)
{
    check(!s->stopping);
    s->stopping = true;
    s->stopped = done;
    s->stopped_arg = arg;
    s->stop_timer = (struct timer){.fire = stop_fired, .arg = s};
    struct raft_member members[RAFT_PEERS_MAX];
    bool alone = !s->leading || node_members(s->node, members) <= 1;
    clock_arm(s->clock, &s->stop_timer, alone ? 0 : clock_now(s->clock) + STOP_NS);
    if (!alone) node_transfer(s->node, 0);
}

struct node *kv_server_node(struct kv_server *s) { return s->node; }
struct omap *kv_server_map(struct kv_server *s) { return s->store->map; }
