/* test_sim_cluster.c - the swarm (swarm.h) over many seeds, and named cases: what it once found, and what it does not
 * draw often enough. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/sim/swarm.h"

#define SEEDS      150u
#define CHURNS     40u
#define CAMPAIGN   100u /* seeds from which on every kind of fault has to have happened */
#define OPERATIONS 8000u

static struct sim_sums sums;

static void run(uint64_t seed, sim_fault_set also)
{
    struct sim_swarm w;
    struct sim_sums before = sums;
    sim_swarm_draw(seed, NULL, also, &w);
    sim_swarm_run(&w, &sums);
    if (getenv("QFS_FIGURES"))
        fprintf(stderr, "seed %llu: %llu operations, %llu entries, %llu terms, %llu crashes, %llu ms, %llu steps\n",
                (unsigned long long)seed, (unsigned long long)(sums.operations - before.operations),
                (unsigned long long)(sums.entries - before.entries), (unsigned long long)(sums.terms - before.terms),
                (unsigned long long)(sums.crashes - before.crashes),
                (unsigned long long)(sums.virtual_ms - before.virtual_ms),
                (unsigned long long)(sums.steps - before.steps));
}

static void swarm(uint64_t seed) { run(seed, 0); }
static void churn(uint64_t seed) { run(seed, SIM_FAULT(CHURN)); }

/* ---- named cases: a scene each ---- */

static struct sim_options options(uint64_t seed, const char *title)
{
    struct sim_options o;
    sim_options_default(&o, seed);
    o.title = title;
    return o;
}

struct scene {
    struct sim_cluster *c;
    struct sim_load *load;
};

static struct scene begin(const struct sim_options *o, const struct sim_load_options *lo)
{
    struct scene sc = {.c = sim_cluster_new(o)};
    sim_start_all(sc.c);
    sc.load = sim_load_new(sc.c, lo);
    return sc;
}

static unsigned leader_after(struct sim_cluster *c, uint64_t ms)
{
    sim_sleep(c, ms);
    int l = sim_leader(c);
    if (l < 0) sim_fail(c, "no leader");
    return (unsigned)l;
}

static void end(struct scene *sc)
{
    sim_load_free(sc->load);
    sim_cluster_free(sc->c);
}

static bool enough(void *arg) { return sim_load_asked(arg) >= OPERATIONS; }

/* Followers that need a snapshot again and again, over connections that break: a transfer that was given up, or that
 * replication overtook, must not be the last. (Both once were: seeds 60 and 302 of the swarm of their day.) */
static void behind(uint64_t seed)
{
    struct sim_swarm w;
    sim_swarm_draw(seed, NULL, 0, &w);
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
    w.faults = seed % 4 ? SIM_FAULT(LOST_DISK) : 0;
    w.pause_ms = 3000;
    w.run_ms = 6000;
    snprintf(w.cluster.text, sizeof w.cluster.text, "%u servers, lost disks, a short log", w.cluster.n);
    sim_swarm_run(&w, &sums);
}

/* Thousands of pieces of a few bytes each: the record that carries one is longer than itself. When nobody writes any
 * more, compaction comes to an end. */
static void tiny_pieces(uint64_t seed)
{
    struct sim_options o = options(seed, "tiny pieces");
    o.node.checkpoint_bytes = 8 * KIB;
    o.node.log.trail_bytes = 4 * KIB;
    o.node.log.segment_bytes = (seed % 2 ? 32 : 128) * KIB;
    struct sim_load_options lo = {.clients = 4, .width = 8, .think_ms = 4, .ttl_ms = 60000};
    struct scene sc = begin(&o, &lo);
    struct sim_cluster *c = sc.c;
    sim_wait(c, enough, sc.load, 20000);
    sim_swarm_heal(c, sc.load);
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
    end(&sc);
}

/* The leader's disk has rotted where a follower's entries lie, and memory has let them go: the follower still catches
 * up, by a snapshot. (It once waited for ever: seed 151 of the swarm of that day.) */
static void rotten_entries(uint64_t seed)
{
    struct sim_options o = options(seed, "rotten entries");
    o.node.checkpoint_bytes = 16 * MIB;
    o.node.log.cache_bytes = 8 * KIB;
    struct sim_load_options lo = {.clients = 3, .width = 2, .think_ms = 4, .big_percent = 20, .ttl_ms = 60000};
    struct scene sc = begin(&o, &lo);
    struct sim_cluster *c = sc.c;
    unsigned l = leader_after(c, 1500);
    unsigned f = (l + 1 + (unsigned)(seed % 2)) % 3;
    sim_isolate(c, f, true);
    sim_sleep(c, 1000);
    struct sim_server *s = &c->servers[l];
    char name[DISK_NAME_MAX];
    s->suspect = true;
    for (uint64_t n = 4 * sim_disk_used(s->disk) / DISK_BLOCK, block; n; n--)
        if (sim_disk_any_block(s->disk, &c->rng, name, &block) && strncmp(name, "meta", 4) != 0)
            sim_disk_unreadable(s->disk, name, block);
    sim_isolate(c, f, false);
    sim_swarm_heal(c, sc.load);
    if (sim_leader(c) != (int)l) sim_say(c, "another server leads by now");
    end(&sc);
}

static bool leads(void *arg) { return sim_leader(((struct sim_server *)arg)->cluster) == (int)((struct sim_server *)arg)->at; }

/* A server that has lost bytes of files to damage, and nobody has asked for them since, leads. One with an emptied disk
 * gets a snapshot from it: what the leader lacks is asked from the third. (The leader's word that they are not there was
 * taken for their death.) */
static void lost_ranges(uint64_t seed)
{
    struct sim_options o = options(seed, "lost ranges");
    o.node.checkpoint_bytes = 8 * KIB;
    o.node.log.trail_bytes = 4 * KIB;
    o.node.log.cache_bytes = 8 * KIB;
    struct sim_load_options lo = {.clients = 3, .width = 2, .think_ms = 20, .big_percent = 40, .ttl_ms = 60000};
    struct scene sc = begin(&o, &lo);
    struct sim_cluster *c = sc.c;
    unsigned l = leader_after(c, 3000);
    struct sim_server *s = &c->servers[(l + 1 + (unsigned)(seed % 2)) % 3];
    unsigned wiped = seed % 3 ? l : 3 - l - s->at;
    sim_server_end(c, s->at, SIM_KILLED);
    s->suspect = true;
    char name[DISK_NAME_MAX];
    uint64_t block;
    for (uint64_t n = 4 * sim_disk_used(s->disk) / DISK_BLOCK; n; n--)
        if (sim_disk_any_block(s->disk, &c->rng, name, &block) && strncmp(name, "pay-", 4) == 0)
            sim_disk_unreadable(s->disk, name, block);
    sim_server_start(c, s->at);
    sim_sleep(c, 2000);
    for (unsigned i = 0; i < 50 && !leads(s); i++) {
        int now = sim_leader(c);
        if (now >= 0) node_transfer(c->servers[now].node, s->at + 1);
        sim_sleep(c, 100);
    }
    if (!leads(s)) sim_fail(c, "server %u does not become the leader", s->at + 1);
    sim_server_end(c, wiped, SIM_KILLED);
    sim_server_wipe(c, wiped);
    sim_server_start(c, wiped);
    sim_swarm_heal(c, sc.load);
    end(&sc);
}

static bool has_installed(void *arg)
{
    const struct sim_server *s = arg;
    struct node_status st;
    sim_status(s->cluster, s->at, &st);
    return st.snapshots_installed > 0;
}

/* The blocks of a snapshot come in the order in which they are wanted, and when they can be taken: none has to wait to be
 * sent again, which takes a second each time. (Blocks that were read side by side came in any order. The first one came
 * before a new directory had its identity on disk, and was dropped.) */
static void in_order(uint64_t seed)
{
    struct sim_options o = options(seed, "in order");
    if (seed % 2) o.disk.op_ns_max = 10 * NS_PER_MS;
    o.node.checkpoint_bytes = 64 * KIB;
    struct sim_load_options lo = {.clients = 3, .width = 8, .think_ms = 1, .ttl_ms = 60000};
    struct scene sc = begin(&o, &lo);
    struct sim_cluster *c = sc.c;
    unsigned l = leader_after(c, 1000);
    struct sim_server *s = &c->servers[(l + 1) % 3];
    sim_server_end(c, s->at, SIM_KILLED);
    sim_server_wipe(c, s->at);
    sim_server_start(c, s->at);
    if (!sim_wait(c, has_installed, s, 900)) sim_fail(c, "server %u has no snapshot after 900 ms", s->at + 1);
    sim_swarm_heal(c, sc.load);
    end(&sc);
}

static bool has_ended(void *arg) { return ((struct sim_server *)arg)->node == NULL; }

/* A bit of a server's memory changes, the leader's in every third seed: it notices by the digests that the others tell,
 * stops instead of serving what is wrong, and is rebuilt in an emptied directory. Of two, the follower stops. */
static void astray(uint64_t seed)
{
    struct sim_options o = options(seed, "astray");
    struct sim_load_options lo = {.clients = 3, .width = 4, .think_ms = 4, .fs_percent = 40, .ttl_ms = 60000};
    o.n = seed % 4 ? 3 : 2;
    struct scene sc = begin(&o, &lo);
    struct sim_cluster *c = sc.c;
    unsigned l = leader_after(c, 1500);
    struct sim_server *s = &c->servers[(l + (o.n == 2 ? 1 : (unsigned)(seed % 3))) % o.n];
    s->astray = true;
    omap_put(kv_server_map(s->kv), slice_str("\xff"), slice_str("?"));
    if (!sim_wait(c, has_ended, s, 30000)) sim_fail(c, "it does not notice that its state differs");
    if (!strstr(s->last_words, "this replica differs")) sim_fail(c, "it says: %s", s->last_words);
    sim_server_wipe(c, s->at);
    sim_server_start(c, s->at);
    sim_swarm_heal(c, sc.load);
    end(&sc);
}

static void test_astray(void **state) { sim_seeds(1, 9, astray); }
static void test_rotten_entries(void **state) { sim_seeds(1, 10, rotten_entries); }
static void test_lost_ranges(void **state) { sim_seeds(1, 12, lost_ranges); }
static void test_in_order(void **state) { sim_seeds(1, 6, in_order); }
static void test_tiny_pieces(void **state) { sim_seeds(1, 4, tiny_pieces); }

static void test_swarm(void **state)
{
    char text[400];
    sums = (struct sim_sums){0};
    sim_seeds(1, SEEDS, swarm);
    sim_faults_text(sim_sums_missing(&sums), text, sizeof text);
    if (sim_seed_count(SEEDS) >= CAMPAIGN && sim_sums_missing(&sums)) fail_msg("faults that never happened: %s", text);
}

/* Members come and go all the time, under all else that the seeds have drawn. */
static void test_churn(void **state)
{
    sums = (struct sim_sums){0};
    sim_seeds(1001, CHURNS, churn);
    if (sim_seed_count(CHURNS) == CHURNS && sums.faults.n[SIM_FAULT_CHURN] < 5 * CHURNS)
        fail_msg("only %llu changes", (unsigned long long)sums.faults.n[SIM_FAULT_CHURN]);
}

/* While a follower installs a snapshot, parts of what it has to pull die at the leader: it gets the other parts all the
 * same. (It once took the whole range for dead; seen where the leader was removed next. These are seeds in which it matters,
 * as the code is now: mutant L6 says so when they no longer are.) */
static void test_parts_die(void **state)
{
    static const uint64_t seeds[] = {36, 85, 2003, 2018, 2048};
    for (unsigned i = 0; i < sizeof seeds / sizeof *seeds; i++) sim_seeds(seeds[i], 1, churn);
}

static void test_behind(void **state) { sim_seeds(1, 30, behind); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_behind),
        cmocka_unit_test(test_rotten_entries),
        cmocka_unit_test(test_lost_ranges),
        cmocka_unit_test(test_in_order),
        cmocka_unit_test(test_astray),
        cmocka_unit_test(test_parts_die),
        cmocka_unit_test(test_tiny_pieces),
        cmocka_unit_test(test_churn),
        cmocka_unit_test(test_swarm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
