/* test_sim_cluster.c - the swarm: each seed draws a cluster, a workload of key/value and filesystem operations and a
 * set of faults; they run against each other for a while of virtual time, then all faults end and the cluster has to
 * come back: every operation answered, all servers alike and voting. check_log.h watches all the time, check_history.h
 * judges at the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/sim/check_history.h"
#include "tests/sim/nemesis.h"

#define SEEDS      150u
#define OPERATIONS 8000u
#define HEAL_MS    40000u
#define ALIKE_MS   30000u
#define TOLD_MS    10000u /* until watchers know the last of it: a ping, a new connection, a tick */

struct swarm {
    struct sim_options cluster;
    struct sim_load_options load;
    unsigned faults;
    uint64_t run_ms, pause_ms, quiet_ms; /* quiet: before the first fault */
};

/* ---- what a seed means ---- */

static uint64_t one_of(struct prng *r, const uint64_t *v, size_t n) { return v[prng_below(r, n)]; }
#define ONE_OF(r, ...)                                                                                                 \
    one_of(r, (const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static void draw_net(struct prng *r, struct sim_net_config *net)
{
    net->delay_max = ONE_OF(r, 100, 200, 1000, 5000, 30000) * NS_PER_US;
    net->delay_min = prng_below(r, net->delay_max / 2 + 1);
    net->slow_percent = (uint32_t)ONE_OF(r, 0, 0, 1, 5);
    net->reset_ppm = (uint32_t)ONE_OF(r, 0, 0, 100, 2000);
    net->timeout = ONE_OF(r, 1, 5, 20) * NS_PER_S;
    if (prng_chance(r, 50)) return;
    net->lossy_first = RAFT_FRAME_MSG;
    net->lossy_last = prng_chance(r, 50) ? RAFT_FRAME_MSG : RAFT_FRAME_DIGEST;
    net->loss_percent = (uint32_t)ONE_OF(r, 0, 1, 5, 20);
    net->double_percent = (uint32_t)ONE_OF(r, 0, 1, 10, 30);
    net->reorder_percent = (uint32_t)ONE_OF(r, 0, 1, 10, 30);
}

static void draw_disk(struct prng *r, struct sim_disk_config *disk, struct node_config *node)
{
    disk->op_ns_min = 10 * NS_PER_US;
    disk->op_ns_max = ONE_OF(r, 50, 200, 2000, 20000) * NS_PER_US;
    disk->mib_ns = ONE_OF(r, 0, 500, 5000) * NS_PER_US;
    disk->wait_percent = (uint32_t)ONE_OF(r, 0, 20, 100);
    node->log.segment_bytes = (uint32_t)ONE_OF(r, 32, 64, 256, 1024) * KIB;
    node->log.spare_segments = (uint32_t)ONE_OF(r, 1, 2);
    node->log.cache_bytes = ONE_OF(r, 8, 64, 1024) * KIB;
    node->log.trail_bytes = ONE_OF(r, 4, 32, 256) * KIB;
    node->log.compact_live_percent = (uint32_t)ONE_OF(r, 10, 50, 90);
    node->checkpoint_bytes = ONE_OF(r, 8, 32, 128, 1024) * KIB;
    node->lease_reads = prng_chance(r, 60);
    if (prng_chance(r, 30)) node->heartbeat_ms = 50, node->election_ms = 200;
}

static struct swarm draw(uint64_t seed)
{
    struct swarm w = {0};
    struct prng r;
    prng_seed(&r, seed * 2654435761u + 17);
    sim_options_default(&w.cluster, seed);
    w.cluster.n = (unsigned)ONE_OF(&r, 3, 3, 3, 3, 5, 5, 1, 2, 4);
    draw_net(&r, &w.cluster.net);
    draw_disk(&r, &w.cluster.disk, &w.cluster.node);
    w.load.clients = (unsigned)prng_between(&r, 1, 6);
    w.load.width = (unsigned)ONE_OF(&r, 1, 1, 2, 6);
    w.load.think_ms = ONE_OF(&r, 2, 10, 20);
    w.load.fs_percent = (uint32_t)ONE_OF(&r, 0, 40, 80);
    w.load.read_percent = (uint32_t)ONE_OF(&r, 20, 50);
    w.load.big_percent = (uint32_t)ONE_OF(&r, 0, 5, 30);
    w.load.ttl_ms = (uint32_t)ONE_OF(&r, 2000, 10000, 60000);
    w.load.mounts = prng_chance(&r, 30);
    for (unsigned k = 1; k < SIM_FAULT_ALL; k <<= 1)
        if (prng_chance(&r, 30)) w.faults |= k;
    if (prng_chance(&r, 5)) w.faults = 0;
    w.pause_ms = ONE_OF(&r, 200, 1000, 1000, 3000);
    w.run_ms = ONE_OF(&r, 5000, 10000, 20000);
    w.quiet_ms = prng_chance(&r, 80) ? 1500 : 0;
    char faults[200];
    sim_faults_text(w.faults, faults, sizeof faults);
    const struct sim_net_config *net = &w.cluster.net;
    const struct log_config *log = &w.cluster.node.log;
    snprintf(w.cluster.text, sizeof w.cluster.text,
             "%u servers; %u clients, %u at once, think %u ms, ttl %u ms%s; faults (%u ms): %s; net %u us, slow %u%%, "
             "reset %u ppm, loss %u%%, double %u%%, "
             "reorder %u%% of frames %u-%u; disk %u us; segments %u KiB, cache %u KiB, trail %u KiB, checkpoint %u "
             "KiB; %s reads",
             w.cluster.n, w.load.clients, w.load.width, (unsigned)w.load.think_ms, w.load.ttl_ms,
             w.load.mounts ? ", mounts" : "", (unsigned)w.pause_ms, faults, (unsigned)(net->delay_max / NS_PER_US),
             net->slow_percent, net->reset_ppm, net->loss_percent, net->double_percent, net->reorder_percent,
             net->lossy_first, net->lossy_last, (unsigned)(w.cluster.disk.op_ns_max / NS_PER_US),
             log->segment_bytes / KIB, (unsigned)(log->cache_bytes / KIB), (unsigned)(log->trail_bytes / KIB),
             (unsigned)(w.cluster.node.checkpoint_bytes / KIB), w.cluster.node.lease_reads ? "lease" : "round");
    return w;
}

/* ---- a run ---- */

static bool enough(void *arg) { return sim_load_history(arg)->n >= OPERATIONS; }
static bool idle(void *arg) { return sim_load_idle(arg); }

static bool alike(void *arg)
{
    const struct sim_cluster *c = arg;
    struct node_status a, b;
    sim_status(c, 0, &a);
    for (unsigned i = 0; i < c->opt.n; i++) {
        sim_status(c, i, &b);
        if (b.raft.applied != a.raft.applied || b.raft.last != a.raft.applied || b.raft.standing != RAFT_VOTER)
            return false;
    }
    return true;
}

__attribute__((noreturn)) static void not_alike(struct sim_cluster *c)
{
    for (unsigned i = 0; i < c->opt.n; i++) {
        struct node_status s;
        sim_status(c, i, &s);
        sim_say(c, "server %u: %s, %s, term %llu, first %llu, last %llu, commit %llu, applied %llu, checkpoint %llu",
                i + 1, raft_role_name(s.raft.role), raft_standing_name(s.raft.standing),
                (unsigned long long)s.raft.term, (unsigned long long)s.raft.first, (unsigned long long)s.raft.last,
                (unsigned long long)s.raft.commit, (unsigned long long)s.raft.applied,
                (unsigned long long)s.checkpoint_index);
        for (unsigned j = 0; s.raft.role == RAFT_LEADER && j < s.raft.npeers; j++)
            sim_say(c, "    its peer %llu: %s, match %llu, next %llu", (unsigned long long)s.raft.peers[j].id,
                    s.raft.peers[j].state, (unsigned long long)s.raft.peers[j].match,
                    (unsigned long long)s.raft.peers[j].next);
    }
    sim_fail(c, "the servers do not become alike within %u ms", ALIKE_MS);
}

static void check_states(struct sim_cluster *c)
{
    struct node_status a, b;
    sim_status(c, 0, &a);
    for (unsigned i = 0; i < c->opt.n; i++) {
        struct fs fs = {.map = kv_server_map(c->servers[i].kv)};
        struct buf why = {0};
        sim_status(c, i, &b);
        if (a.digest != b.digest) sim_fail(c, "servers 1 and %u differ", i + 1);
        if (fs_check(&fs, &why))
            sim_fail(c, "server %u: the filesystem contradicts itself: %.*s", i + 1, (int)why.n, (const char *)why.p);
        buf_free(&why);
    }
}

static void run(const struct swarm *drawn, uint64_t seed)
{
    struct swarm w = *drawn;
    struct sim_cluster *c = sim_cluster_new(&w.cluster);
    sim_start_all(c);
    struct sim_load *load = sim_load_new(c, &w.load);
    sim_sleep(c, w.quiet_ms);
    struct sim_nemesis *nemesis = sim_nemesis_new(c, load, w.faults, w.pause_ms);
    sim_wait(c, enough, load, w.run_ms);
    sim_nemesis_stop(nemesis);
    uint64_t before = sim_load_answered(load);
    sim_load_finish(load, 10);
    if (!sim_wait(c, idle, load, HEAL_MS))
        sim_fail(c, "no progress: operations are without an answer %u ms after the last fault", HEAL_MS);
    if (sim_load_answered(load) < before + w.load.clients * 10) sim_fail(c, "too few operations were answered");
    sim_sleep(c, TOLD_MS);
    if (!sim_wait(c, alike, c, ALIKE_MS)) not_alike(c);
    check_states(c);
    sim_check_history(c, sim_load_history(load), sim_load_watches(load));
    if (getenv("QFS_FIGURES")) {
        for (unsigned i = 0; i < c->opt.n; i++) {
            struct node_status st;
            sim_status(c, i, &st);
            c->snapshots += st.snapshots_installed;
        }
        fprintf(
            stderr,
            "seed %llu: %zu operations, index %llu, %llu terms, %llu crashes, %llu snapshots, %llu ms, %llu steps\n",
            (unsigned long long)seed, sim_load_history(load)->n, (unsigned long long)sim_applied_last(c->checks),
            (unsigned long long)sim_leaders_seen(c->checks), (unsigned long long)c->crashes,
            (unsigned long long)c->snapshots, (unsigned long long)sim_ms(c), (unsigned long long)sim_steps(c->world));
    }
    sim_nemesis_free(nemesis);
    sim_load_free(load);
    sim_cluster_free(c);
}

static void swarm(uint64_t seed)
{
    struct swarm w = draw(seed);
    run(&w, seed);
}

/* Followers that need a snapshot again and again, over connections that break: a transfer that was given up, or that
 * replication overtook, must not be the last. (Both once were: seeds 60 and 302 of the swarm of their day.) */
static void behind(uint64_t seed)
{
    struct swarm w = draw(seed);
    w.cluster.title = "behind";
    w.cluster.n = seed % 2 ? 3 : 5;
    w.cluster.net = (struct sim_net_config){.delay_min = NS_PER_MS,
                                            .delay_max = 30 * NS_PER_MS,
                                            .reset_ppm = seed % 3 ? 2000 : 0,
                                            .double_percent = 20,
                                            .reorder_percent = 10,
                                            .lossy_first = RAFT_FRAME_MSG,
                                            .lossy_last = RAFT_FRAME_MSG};
    w.cluster.disk.op_ns_max = 200 * NS_PER_US;
    w.cluster.node.checkpoint_bytes = 8 * KIB;
    w.cluster.node.log.trail_bytes = 4 * KIB;
    w.load = (struct sim_load_options){
        .clients = 3, .width = 6, .think_ms = 10, .read_percent = 20, .big_percent = 20, .ttl_ms = 60000};
    w.faults = seed % 4 ? SIM_FAULT_LOST_DISK : 0;
    w.pause_ms = 3000;
    w.run_ms = 6000;
    snprintf(w.cluster.text, sizeof w.cluster.text, "%u servers, lost disks, a short log", w.cluster.n);
    run(&w, seed);
}

/* Thousands of pieces of a few bytes each: the record that carries one is longer than itself. When nobody writes any
 * more, compaction comes to an end. */
static void tiny_pieces(uint64_t seed)
{
    struct sim_options o;
    sim_options_default(&o, seed);
    o.title = "tiny pieces";
    o.node.checkpoint_bytes = 8 * KIB;
    o.node.log.trail_bytes = 4 * KIB;
    o.node.log.segment_bytes = (seed % 2 ? 32 : 128) * KIB;
    struct sim_load_options lo = {.clients = 4, .width = 8, .think_ms = 4, .ttl_ms = 60000};
    struct sim_cluster *c = sim_cluster_new(&o);
    sim_start_all(c);
    struct sim_load *load = sim_load_new(c, &lo);
    sim_wait(c, enough, load, 20000);
    sim_load_finish(load, 10);
    if (!sim_wait(c, idle, load, HEAL_MS) || !sim_wait(c, alike, c, ALIKE_MS)) sim_fail(c, "no progress");
    struct node_status before[3], after;
    sim_sleep(c, 5000);
    for (unsigned i = 0; i < 3; i++) sim_status(c, i, &before[i]);
    sim_sleep(c, 5000);
    for (unsigned i = 0; i < 3; i++) {
        sim_status(c, i, &after);
        if (after.log.compactions != before[i].log.compactions ||
            after.log.bytes_written > before[i].log.bytes_written + 64 * KIB)
            sim_fail(c,
                     "server %u, idle, compacts on and on: %llu segments, %llu bytes moved, %llu live on %llu of disk",
                     i + 1, (unsigned long long)after.log.compactions, (unsigned long long)after.log.moved_bytes,
                     (unsigned long long)after.log.live_bytes, (unsigned long long)after.log.disk_bytes);
    }
    sim_check_history(c, sim_load_history(load), sim_load_watches(load));
    sim_load_free(load);
    sim_cluster_free(c);
}

static void test_tiny_pieces(void **state) { sim_seeds(1, 4, tiny_pieces); }
static void test_swarm(void **state) { sim_seeds(1, SEEDS, swarm); }
static void test_behind(void **state) { sim_seeds(1, 30, behind); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_behind),
        cmocka_unit_test(test_tiny_pieces),
        cmocka_unit_test(test_swarm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
