/* lab_more.c - titles beyond the labs: those of their later editions (bytes of RPCs, speed, linearizability) and what
 * production needs and the labs do not ask for: pre-vote, check-quorum, the no-op at a term's start, reads of deposed
 * and frozen leaders, leadership transfer. In the simulator only. */
#include <stdio.h>
#include <stdlib.h>

#include "raft/node_priv.h"
#include "tests/lab/lab.h"
#include "tests/sim/box.h"
#include "tests/sim/check_history.h"
#include "tests/sim/check_log.h"
#include "tests/sim/linear.h"
#include "tests/sim/nemesis.h"

/* ---- clusters ---- */

static struct sim_cluster *cluster(const struct lab_test *t, uint64_t seed, unsigned n, bool integers)
{
    struct sim_options o;
    sim_options_default(&o, seed);
    o.integers = integers;
    o.n = n;
    o.title = t->title;
    o.disk.op_ns_max += seed % 3 * 2 * NS_PER_MS;
    o.node.lease_reads = seed % 4 != 0;
    snprintf(o.text, sizeof o.text, "%u servers, reads by %s", n, o.node.lease_reads ? "lease" : "rounds");
    struct sim_cluster *c = sim_cluster_new(&o);
    sim_start_all(c);
    return c;
}

static bool has_leader(void *arg) { return sim_leader(arg) >= 0; }

static unsigned leader_of(struct sim_cluster *c)
{
    if (!sim_wait(c, has_leader, c, 5000)) sim_fail(c, "no leader within 5 s");
    return (unsigned)sim_leader(c);
}

/* The leader, once all follow it. */
static unsigned settled_leader(struct sim_cluster *c)
{
    leader_of(c);
    sim_sleep(c, 500);
    return leader_of(c);
}

static struct node_status status_of(struct sim_cluster *c, unsigned i)
{
    struct node_status st;
    sim_status(c, i, &st);
    return st;
}

struct goal {
    struct sim_cluster *c;
    uint64_t index;
    unsigned k;
};

static bool applied_by(void *arg)
{
    const struct goal *g = arg;
    unsigned n = 0;
    for (unsigned i = 0; i < g->c->opt.n; i++)
        n += sim_server_up(g->c, i) && sim_box_applied(g->c->servers[i].box) >= g->index;
    return n >= g->k;
}

/* One command, offered once: on a network without faults nobody may lose it. */
static uint64_t agree(struct sim_cluster *c, uint64_t command, uint32_t bytes, unsigned k)
{
    struct goal g = {.c = c, .k = k};
    uint64_t term;
    unsigned l = leader_of(c);
    if (!sim_box_start_sized(c->servers[l].box, command, bytes, &g.index, &term))
        sim_fail(c, "the leader rejects a command");
    if (!sim_wait(c, applied_by, &g, 2000)) sim_fail(c, "no agreement on %llu", (unsigned long long)command);
    if (sim_box_value(c->servers[l].box, g.index) != command) sim_fail(c, "another command took its place");
    return g.index;
}

/* ---- clients ---- */

struct asker {
    struct sim_cluster *c;
    struct kv_client *kv;
    unsigned proc;
    struct kv_call call;
    bool busy;
    int32_t status;
    struct buf value;
};

static void asker_open(struct asker *a, struct sim_cluster *c, unsigned at)
{
    const char *addrs[SIM_SERVERS_MAX];
    for (unsigned i = 0; i < c->opt.n; i++) addrs[i] = c->servers[i].addr;
    *a = (struct asker){.c = c, .proc = SIM_CLIENT_PROC + at};
    struct kv_client_config cfg = {.addrs = addrs, .naddrs = c->opt.n, .name = "asker", .seed = prng_u64(&c->rng)};
    a->kv = kv_client_new(sim_net_door(c->net, a->proc), sim_clock(c->world, a->proc), &cfg);
}

static void asker_close(struct asker *a)
{
    sim_kill(a->c->world, a->proc);
    kv_client_free(a->kv);
    buf_free(&a->value);
}

static void asker_reaches(struct asker *a, unsigned mask)
{
    for (unsigned i = 0; i < a->c->opt.n; i++) {
        sim_cut(a->c->net, a->proc, i, !(mask >> i & 1));
        sim_cut(a->c->net, i, a->proc, !(mask >> i & 1));
    }
}

static void on_answer(struct kv_call *call, const struct kv_reply *reply)
{
    struct asker *a = call->arg;
    a->busy = false;
    a->status = reply->status;
    buf_clear(&a->value);
    if (reply->status >= 0) buf_append(&a->value, reply->data.p, reply->data.n);
}

static void ask(struct asker *a, enum kv_code code, const char *key, const char *value)
{
    a->busy = true;
    a->call = (struct kv_call){.op = {.code = code, .name = slice_str(key), .data = slice_str(value)},
                               .done = on_answer,
                               .arg = a};
    kv_call(a->kv, &a->call);
}

static bool answered(void *arg) { return !((struct asker *)arg)->busy; }

static void finish(struct asker *a, uint64_t ms, const char *what)
{
    if (!sim_wait(a->c, answered, a, ms)) sim_fail(a->c, "%s: no answer within %llu ms", what, (unsigned long long)ms);
    if (a->status < 0) sim_fail(a->c, "%s: %s", what, err_text(a->status));
}

static void put(struct asker *a, const char *key, const char *value)
{
    ask(a, KV_PUT, key, value);
    finish(a, 10000, "put");
}

static void must_be(struct asker *a, const char *value)
{
    if (!slice_eq(buf_slice(&a->value), slice_str(value)))
        sim_fail(a->c, "a read gives \"%.*s\", not \"%s\"", (int)a->value.n, (const char *)a->value.p, value);
}

/* ---- of later editions ---- */

static void rpc_bytes(const struct lab_test *t, uint64_t seed)
{
    struct sim_cluster *c = cluster(t, seed, 3, true);
    struct sim_net_stats before, after;
    settled_leader(c);
    agree(c, 99, 8, 3);
    sim_net_stats(c->net, &before);
    for (uint64_t i = 0; i < 10; i++) agree(c, 100 + i, 5000, 3);
    sim_net_stats(c->net, &after);
    if (after.bytes - before.bytes > 3 * 50000 + 50000)
        sim_fail(c, "too many bytes for 50,000 of commands: %llu", (unsigned long long)(after.bytes - before.bytes));
    sim_cluster_free(c);
}

static void speed(const struct lab_test *t, uint64_t seed)
{
    struct sim_cluster *c = cluster(t, seed, 3, false);
    struct asker a;
    char value[32];
    asker_open(&a, c, 0);
    put(&a, "x", "");
    uint64_t began = sim_now(c->world);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(value, sizeof value, "x 0 %u y", i);
        ask(&a, KV_APPEND, "x", value);
        finish(&a, 5000, "append");
    }
    uint64_t each = (sim_now(c->world) - began) / 1000;
    if (each > 33300 * NS_PER_US)
        sim_fail(c, "an operation takes %llu us on average, more than 33,300", (unsigned long long)(each / NS_PER_US));
    asker_close(&a);
    sim_cluster_free(c);
}

static bool idle(void *arg) { return sim_load_idle(arg); }

static void linearizable(const struct lab_test *t, uint64_t seed)
{
    struct sim_options o;
    sim_options_default(&o, seed);
    o.n = 7;
    o.title = t->title;
    o.net.delay_max = 27 * NS_PER_MS;
    o.net.lossy_first = o.net.lossy_last = RAFT_FRAME_MSG;
    o.net.loss_percent = 10;
    o.net.reset_ppm = 10000;
    snprintf(o.text, sizeof o.text, "7 servers, 15 clients, all machines lose their power, camps");
    struct sim_load_options lo = {.clients = 15, .width = 1, .think_ms = 30, .read_percent = 40, .ttl_ms = 60000, .single_keys = true};
    struct sim_linear_sums sums = {0};
    struct sim_cluster *c = sim_cluster_new(&o);
    sim_start_all(c);
    struct sim_load *load = sim_load_new(c, &lo);
    sim_sleep(c, 1000);
    struct sim_nemesis *m = sim_nemesis_new(c, load, SIM_FAULT(POWER_ALL) | SIM_FAULT(SPLIT), 2000);
    sim_sleep(c, 10000);
    sim_nemesis_stop(m);
    sim_load_finish(load, 5);
    if (!sim_wait(c, idle, load, 30000)) sim_fail(c, "operations are without an answer 30 s after the last fault");
    sim_sleep(c, 10000); /* watchers are told the last of it */
    sim_check_linear(c, sim_load_history(load), "", &sums);
    sim_check_history(c, sim_load_history(load), sim_load_watches(load));
    if (sums.operations < 100) sim_fail(c, "only %llu operations", (unsigned long long)sums.operations);
    sim_nemesis_free(m);
    sim_load_free(load);
    sim_cluster_free(c);
}

/* ---- elections ---- */

static void prevote(const struct lab_test *t, uint64_t seed)
{
    struct sim_cluster *c = cluster(t, seed, seed % 2 ? 3 : 5, true);
    unsigned l = settled_leader(c), s = (l + 1) % c->opt.n;
    uint64_t term = status_of(c, l).raft.term;
    for (unsigned round = 0; round < 3; round++) {
        sim_isolate(c, s, true);
        sim_sleep(c, 2000 + prng_below(&c->rng, 2000));
        if (status_of(c, s).raft.term != term) sim_fail(c, "a server that is cut off raises its term");
        sim_isolate(c, s, false);
        agree(c, round, 8, c->opt.n);
        sim_sleep(c, 1000);
        struct node_status st = status_of(c, l);
        if (st.raft.role != RAFT_LEADER || st.raft.term != term) sim_fail(c, "a rejoining server deposed the leader");
    }
    sim_cluster_free(c);
}

struct deposed {
    struct sim_cluster *c;
    unsigned old;
};

static bool stepped_down(void *arg)
{
    const struct deposed *d = arg;
    return status_of(d->c, d->old).raft.role != RAFT_LEADER;
}

static bool other_leads(void *arg)
{
    const struct deposed *d = arg;
    int l = sim_leader(d->c);
    return l >= 0 && (unsigned)l != d->old;
}

enum cut { CUT_BOTH, CUT_HEARS_NOTHING, CUT_SAYS_NOTHING };

/* From the other servers, not from clients. */
static void cut_leader(struct sim_cluster *c, unsigned l, enum cut how)
{
    for (unsigned i = 0; i < c->opt.n; i++) {
        if (i == l) continue;
        if (how != CUT_SAYS_NOTHING) sim_cut(c->net, i, l, true);
        if (how != CUT_HEARS_NOTHING) sim_cut(c->net, l, i, true);
    }
}

/* It steps down within an election timeout of 300 ms (drawn up to 600), and whoever waited for it is answered by the
 * next leader, although the old one could still talk to him. */
static void check_quorum(const struct lab_test *t, uint64_t seed)
{
    struct sim_cluster *c = cluster(t, seed, seed % 2 ? 3 : 5, false);
    struct asker a;
    enum cut how = (enum cut)(seed % 3);
    asker_open(&a, c, 0);
    put(&a, "x", "1");
    struct deposed d = {.c = c, .old = settled_leader(c)};
    sim_say(c, "the leader is cut off: %s", how == CUT_BOTH            ? "both ways"
                                            : how == CUT_HEARS_NOTHING ? "it hears nothing"
                                                                       : "it is not heard");
    cut_leader(c, d.old, how);
    ask(&a, KV_PUT, "x", "2");
    if (!sim_wait(c, stepped_down, &d, 1000)) sim_fail(c, "a leader without a majority does not step down");
    if (!sim_wait(c, other_leads, &d, 3000)) sim_fail(c, "no other leader");
    finish(&a, 3000, "a put that waited for the old leader");
    ask(&a, KV_GET, "x", "");
    finish(&a, 3000, "get");
    must_be(&a, "2");
    asker_close(&a);
    sim_cluster_free(c);
}

/* What a majority has of the old term is committed by the new leader, though nobody asks it for anything. */
static void noop(const struct lab_test *t, uint64_t seed)
{
    struct sim_cluster *c = cluster(t, seed, 3, true);
    unsigned l = settled_leader(c);
    struct goal g = {.c = c, .k = 2};
    uint64_t first = agree(c, 1, 8, 3), term;
    for (unsigned i = 0; i < 3; i++)
        if (i != l) sim_cut(c->net, i, l, true); /* the acknowledgements do not reach it */
    if (!sim_box_start(c->servers[l].box, 2, &g.index, &term)) sim_fail(c, "the leader rejects a command");
    if (g.index != first + 1) sim_fail(c, "visible indexes have a hole");
    sim_sleep(c, 50);
    if (sim_box_applied(c->servers[l].box) >= g.index) sim_fail(c, "committed without a majority's word");
    sim_server_end(c, l, SIM_POWER_CUT);
    sim_join(c);
    if (!sim_wait(c, applied_by, &g, 3000)) sim_fail(c, "an entry of the old term is not committed in an idle cluster");
    for (unsigned i = 0; i < 3; i++)
        if (i != l && sim_box_value(c->servers[i].box, g.index) != 2) sim_fail(c, "server %u has another value", i + 1);
    sim_cluster_free(c);
}

/* ---- reads ---- */

/* Two clients, one of which will see only the old leader, and what both have seen: x is "old". */
static struct sim_cluster *near_and_far(const struct lab_test *t, uint64_t seed, struct asker *near, struct asker *far)
{
    struct sim_cluster *c = cluster(t, seed, 3, false);
    asker_open(near, c, 0);
    asker_open(far, c, 1);
    put(near, "x", "old");
    return c;
}

static void near_must_see_new(struct sim_cluster *c, struct asker *near, struct asker *far)
{
    sim_join(c);
    if (near->busy) finish(near, 5000, "the read after that");
    must_be(near, "new");
    asker_close(near);
    asker_close(far);
    sim_cluster_free(c);
}

/* Who was deposed without knowing it must not answer a read: its state is old. */
static void deposed_reads(const struct lab_test *t, uint64_t seed)
{
    struct asker near, far;
    struct sim_cluster *c = near_and_far(t, seed, &near, &far);
    ask(&far, KV_GET, "x", "");
    finish(&far, 3000, "get");
    struct deposed d = {.c = c, .old = settled_leader(c)};
    cut_leader(c, d.old, (enum cut)(seed % 3));
    asker_reaches(&near, 1u << d.old);
    asker_reaches(&far, 7u & ~(1u << d.old));
    put(&far, "x", "new");
    ask(&near, KV_GET, "x", "");
    sim_sleep(c, 1000);
    if (!near.busy && near.status >= 0) must_be(&near, "new");
    if (!near.busy && seed % 3 != CUT_SAYS_NOTHING) sim_fail(c, "a read is answered by a minority");
    near_must_see_new(c, &near, &far);
}

/* The same for one that stood still while the others went on: the read waits in its socket when it wakes up. */
static void frozen_lease(const struct lab_test *t, uint64_t seed)
{
    struct asker near, far;
    struct sim_cluster *c = near_and_far(t, seed, &near, &far);
    for (unsigned i = 0; i < 3; i++) sim_drift(c->world, i, (int32_t)prng_below(&c->rng, 1000) - 500);
    struct deposed d = {.c = c, .old = settled_leader(c)};
    asker_reaches(&near, 1u << d.old);
    ask(&near, KV_GET, "x", "");
    finish(&near, 3000, "get");
    must_be(&near, "old");
    sim_say(c, "the leader, server %u, stands still", d.old + 1);
    sim_pause(c->world, d.old, true);
    asker_reaches(&far, 7u & ~(1u << d.old));
    ask(&far, KV_PUT, "x", "new");
    ask(&near, KV_GET, "x", "");
    finish(&far, 5000, "a put while the old leader stands still");
    sim_sleep(c, prng_below(&c->rng, 300));
    sim_pause(c->world, d.old, false);
    sim_sleep(c, prng_below(&c->rng, 100));
    if (!near.busy) must_be(&near, "new");
    near_must_see_new(c, &near, &far);
}

/* ---- transfer ---- */

struct handover {
    struct sim_cluster *c;
    unsigned to;
};

static bool handed_over(void *arg)
{
    const struct handover *h = arg;
    return sim_leader(h->c) == (int)h->to;
}

/* Quicker than any election timeout; and where the other does not take over, the old leader goes on. */
static void transfer(const struct lab_test *t, uint64_t seed)
{
    struct sim_cluster *c = cluster(t, seed, seed % 2 ? 3 : 5, true);
    for (unsigned round = 0; round < 4; round++) {
        unsigned l = settled_leader(c);
        struct handover h = {.c = c, .to = (l + 1 + (unsigned)prng_below(&c->rng, c->opt.n - 1)) % c->opt.n};
        agree(c, round, 8, c->opt.n);
        sim_say(c, "server %u is asked to hand over to server %u", l + 1, h.to + 1);
        node_transfer(c->servers[l].node, h.to + 1);
        if (!sim_wait(c, handed_over, &h, 200)) sim_fail(c, "no hand-over within 200 ms");
        agree(c, 100 + round, 8, c->opt.n);
    }
    unsigned l = settled_leader(c), to = (l + 1) % c->opt.n;
    uint64_t term = status_of(c, l).raft.term;
    sim_isolate(c, to, true);
    node_transfer(c->servers[l].node, to + 1);
    sim_sleep(c, 1500);
    if (sim_leader(c) != (int)l || status_of(c, l).raft.term != term) sim_fail(c, "a transfer to nobody deposed the leader");
    agree(c, 1000, 8, c->opt.n - 1);
    sim_cluster_free(c);
}

const struct lab_test lab_more_tests[] = {
    {.title = "Test (2B): RPC byte count", .run = rpc_bytes},
    {.title = "Test: ops complete fast enough", .run = speed},
    {.title = "Test: restarts, partitions, many clients, linearizability checks", .run = linearizable},
    {.title = "Test: pre-vote, a rejoining server changes neither term nor leader", .run = prevote},
    {.title = "Test: check-quorum, a leader cut off one way or both steps down and releases its clients",
     .run = check_quorum},
    {.title = "Test: a new leader commits what the old term left in an idle cluster", .run = noop},
    {.title = "Test: a deposed leader answers no read", .run = deposed_reads},
    {.title = "Test: a leader that stood still answers no read by its old lease", .run = frozen_lease},
    {.title = "Test: leadership is handed over at once, or stays", .run = transfer},
    {0},
};
