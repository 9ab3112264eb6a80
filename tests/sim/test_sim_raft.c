/* test_sim_raft.c - consensus from end to end: production node and log under a machine of integers, over simulated
 * disks, clocks and a network that may be bad. Elections, agreement, restarts, each over many seeds; the checks of
 * check_log.h watch every step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "raft/node_priv.h"
#include "tests/sim/agree.h"
#include "tests/sim/check_log.h"

#define SEEDS 120u

/* ---- helpers ---- */

static struct sim_cluster *make(uint64_t seed, unsigned n, const char *title)
{
    struct sim_options o;
    sim_options_default(&o, seed);
    o.integers = true;
    o.n = n;
    o.title = title;
    o.disk.op_ns_max += seed % 3 * 3 * NS_PER_MS;
    snprintf(o.text, sizeof o.text, "%u servers", n);
    struct sim_cluster *c = sim_cluster_new(&o);
    sim_start_all(c);
    return c;
}

static unsigned servers(uint64_t seed) { return seed % 2 ? 3 : 5; }

static bool no_leader(void *arg) { return sim_leader(arg) < 0; }

static void bad_weather(struct sim_cluster *c)
{
    struct sim_net_config *w = sim_net_config(c->net);
    w->delay_max = 25 * NS_PER_MS;
    w->slow_percent = 2;
    w->lossy_first = w->lossy_last = RAFT_FRAME_MSG;
    w->loss_percent = 10;
    w->double_percent = 10;
    w->reorder_percent = 10;
    w->reset_ppm = 500;
}

static void good_weather(struct sim_cluster *c)
{
    struct sim_net_config *w = sim_net_config(c->net);
    w->delay_max = 200 * NS_PER_US;
    w->slow_percent = w->loss_percent = w->double_percent = w->reorder_percent = w->reset_ppm = 0;
}

static bool all_alike(void *arg)
{
    const struct sim_cluster *c = arg;
    for (unsigned i = 0; i < c->opt.n; i++) {
        struct node_status a, b;
        sim_status(c, 0, &a);
        sim_status(c, i, &b);
        if (a.raft.applied != b.raft.applied || a.raft.applied != b.raft.last || a.digest != b.digest) return false;
    }
    return true;
}

/* ---- elections ---- */

static void elect(uint64_t seed)
{
    struct sim_cluster *c = make(seed, servers(seed), "election");
    struct node_status before, after;
    unsigned l = sim_leader_within(c, 3000);
    sim_status(c, l, &before);
    sim_sleep(c, 3000);
    if (sim_leader(c) != (int)l) sim_fail(c, "an idle cluster changed its leader");
    sim_status(c, l, &after);
    if (after.raft.term != before.raft.term) sim_fail(c, "an idle cluster changed its term");
    for (unsigned i = 0; i < c->opt.n; i++) {
        sim_status(c, i, &after);
        if (after.raft.leader != l + 1 || after.raft.standing != RAFT_VOTER)
            sim_fail(c, "server %u does not follow", i + 1);
    }
    sim_cluster_free(c);
}

/* A majority is cut off or dies: the leader steps down, nobody leads; then they come back. */
static void elect_without_majority(uint64_t seed)
{
    struct sim_cluster *c = make(seed, servers(seed), "no leader without a majority");
    sim_leader_within(c, 3000);
    sim_agree(c, 1, c->opt.n, 3000);
    unsigned first = (unsigned)prng_below(&c->rng, c->opt.n);
    bool die = prng_chance(&c->rng, 50);
    for (unsigned i = 0; i < sim_majority(c); i++) {
        unsigned s = (first + i) % c->opt.n;
        if (die)
            sim_server_end(c, s, prng_chance(&c->rng, 50) ? SIM_KILLED : SIM_POWER_CUT);
        else
            sim_isolate(c, s, true);
    }
    if (!sim_wait(c, no_leader, c, 2000)) sim_fail(c, "a leader without a majority does not step down");
    uint64_t leaders = sim_leaders_seen(c->checks);
    sim_sleep(c, 5000);
    if (sim_leaders_seen(c->checks) != leaders) sim_fail(c, "a leader was elected without a majority");
    sim_join(c);
    sim_start_all(c);
    sim_leader_within(c, 5000);
    sim_agree(c, 2, c->opt.n, 5000);
    sim_cluster_free(c);
}

/* A leader that dies is replaced soon: at once where its kernel resets its connections, else within the election
 * timeout. */
static void elect_after_crash(uint64_t seed)
{
    struct sim_cluster *c = make(seed, servers(seed), "a new leader after a crash");
    for (unsigned round = 0; round < 5; round++) {
        unsigned l = sim_leader_within(c, 5000);
        enum sim_death how = prng_chance(&c->rng, 50) ? SIM_KILLED : SIM_POWER_CUT;
        sim_agree(c, round + 1, c->opt.n, 5000);
        sim_sleep(c, prng_below(&c->rng, 400));
        if (sim_leader(c) != (int)l) continue;
        sim_server_end(c, l, how);
        sim_leader_within(c, how == SIM_KILLED ? 1000 : 2000);
        sim_agree(c, 100 + round, c->opt.n - 1, 1000);
        sim_server_start(c, l);
    }
    sim_cluster_free(c);
}

/* A server that was cut off comes back without disturbing the leader (PreVote). */
static void elect_undisturbed(uint64_t seed)
{
    struct sim_cluster *c = make(seed, servers(seed), "a rejoining server disturbs nobody");
    struct node_status before, after;
    unsigned l = sim_leader_within(c, 3000), s = (l + 1) % c->opt.n;
    sim_agree(c, 1, c->opt.n, 3000);
    sim_status(c, l, &before);
    sim_isolate(c, s, true);
    sim_sleep(c, 3000 + prng_below(&c->rng, 3000));
    sim_agree(c, 2, c->opt.n - 1, 1000);
    sim_isolate(c, s, false);
    sim_agree(c, 3, c->opt.n, 3000);
    sim_sleep(c, 2000);
    sim_status(c, l, &after);
    if (after.raft.role != RAFT_LEADER || after.raft.term != before.raft.term)
        sim_fail(c, "a rejoining server deposed the leader");
    sim_cluster_free(c);
}

/* ---- agreement ---- */

static void agree_in_bad_weather(uint64_t seed)
{
    struct sim_cluster *c = make(seed, servers(seed), "agreement in a lossy network");
    bad_weather(c);
    for (uint64_t v = 1; v <= 40; v++) {
        int l = sim_leader(c);
        uint64_t index, term;
        if (l >= 0 && prng_chance(&c->rng, 60))
            sim_box_start(c->servers[l].box, 1000 + v, &index, &term);
        else
            sim_agree(c, v, sim_majority(c), 20000);
        sim_sleep(c, prng_below(&c->rng, 30));
    }
    good_weather(c);
    sim_agree(c, 5000, c->opt.n, 5000);
    if (!sim_wait(c, all_alike, c, 3000)) sim_fail(c, "the servers do not come to agree");
    sim_cluster_free(c);
}

/* The leader writes into the void; what the majority wrote meanwhile replaces it. */
static void agree_after_conflict(uint64_t seed)
{
    struct sim_cluster *c = make(seed, 5, "conflicting logs");
    uint64_t index, term;
    for (unsigned round = 0; round < 4; round++) {
        unsigned l = sim_leader_within(c, 3000);
        sim_agree(c, round, 5, 5000);
        for (unsigned i = 0; i < 5; i++) sim_isolate(c, i, i == l || i == (l + 1) % 5);
        sim_cut(c->net, l, (l + 1) % 5, false);
        sim_cut(c->net, (l + 1) % 5, l, false);
        for (unsigned i = 0; i < 60; i++) sim_box_start(c->servers[l].box, 1000 + i, &index, &term);
        sim_sleep(c, prng_below(&c->rng, 2500));
        for (unsigned i = 0; i < 30; i++) sim_agree(c, 2000 + i, 3, 5000);
        sim_join(c);
        sim_agree(c, 3000 + round, 5, 5000);
    }
    sim_cluster_free(c);
}

/* ---- elections that the public record of bugs tells of (tests/mutants) ---- */

struct standing_for {
    struct sim_cluster *c;
    uint64_t term; /* in a later one than this */
    int who;
};

/* Somebody asks for votes, or will as soon as its own is durable. */
static bool somebody_stands(void *arg)
{
    struct standing_for *f = arg;
    struct node_status st;
    for (unsigned i = 0; i < f->c->opt.n; i++) {
        if (!sim_server_up(f->c, i)) continue;
        sim_status(f->c, i, &st);
        if (st.raft.role == RAFT_CANDIDATE && st.raft.term > f->term) f->who = (int)i;
    }
    return f->who >= 0;
}

/* The next candidate is cut off before anybody hears it: its term is higher than the others', its log is not. */
static unsigned cut_off_candidate(struct sim_cluster *c, uint64_t term)
{
    struct standing_for f = {.c = c, .term = term, .who = -1};
    if (!sim_wait(c, somebody_stands, &f, 20000)) sim_fail(c, "nobody stands for election");
    sim_isolate(c, (unsigned)f.who, true);
    sim_sleep(c, 100);
    return (unsigned)f.who;
}

/* Of the two servers that are left, one has the higher term and the other the longer log: each has to learn from the
 * other's answer (etcd 8243). */
static void elect_of_term_and_log(uint64_t seed)
{
    struct sim_cluster *c = make(seed, 3, "one has the term, the other the log");
    struct node_status st;
    uint64_t index, term;
    unsigned a = sim_leader_within(c, 3000);
    sim_agree(c, 1, 3, 3000);
    sim_isolate(c, a, true);
    for (unsigned i = 0; i < 10; i++) sim_box_start(c->servers[a].box, 100 + i, &index, &term);
    unsigned b = cut_off_candidate(c, term);
    for (unsigned i = 0; i < 3; i++) sim_server_end(c, i, SIM_KILLED); /* with all that is under way between them */
    sim_join(c);
    sim_server_start(c, a);
    sim_server_start(c, b);
    sim_leader_within(c, 5000);
    sim_status(c, a, &st);
    if (st.raft.role != RAFT_LEADER) sim_fail(c, "server %u leads, but server %u has the longer log", b + 1, a + 1);
    sim_start_all(c);
    sim_agree(c, 2, 3, 5000);
    sim_cluster_free(c);
}

static bool asks_again(void *arg)
{
    const struct standing_for *f = arg;
    struct node_status st;
    sim_status(f->c, (unsigned)f->who, &st);
    return st.raft.role == RAFT_PRE_CANDIDATE;
}

/* A server comes back with a term higher than that of a leader who works: it is not left alone for ever (etcd 5468). */
static void elect_with_higher_term(uint64_t seed)
{
    struct sim_cluster *c = make(seed, 3, "a server with a higher term than the leader");
    struct node_status st;
    unsigned a = sim_leader_within(c, 3000);
    sim_agree(c, 1, 3, 3000);
    sim_status(c, a, &st);
    sim_isolate(c, a, true);
    unsigned b = cut_off_candidate(c, st.raft.term);
    struct standing_for again = {.c = c, .who = (int)b};
    if (!sim_wait(c, asks_again, &again, 5000)) sim_fail(c, "server %u does not ask again", b + 1);
    sim_isolate(c, b, false); /* the others' terms are older: nobody got its first request */
    sim_isolate(c, a, true);
    if (cut_off_candidate(c, st.raft.term + 1) != b) sim_fail(c, "server %u should have stood again", b + 1);
    sim_isolate(c, a, false);
    sim_isolate(c, b, true);
    sim_leader_within(c, 5000);
    sim_agree(c, 2, 2, 5000);
    sim_join(c);
    sim_agree(c, 3, 3, 10000);
    if (!sim_wait(c, all_alike, c, 5000)) sim_fail(c, "the servers do not come to agree");
    sim_cluster_free(c);
}

struct old_log {
    struct sim_cluster *c;
    unsigned server;
    uint64_t term;
};

static bool led_or_stood(void *arg)
{
    const struct old_log *o = arg;
    struct node_status st;
    sim_status(o->c, o->server, &st);
    if (st.raft.term > o->term && st.raft.vote == o->server + 1)
        sim_fail(o->c, "server %u, whose log is old, stands for election", o->server + 1);
    return sim_leader(o->c) >= 0;
}

/* A server whose log is old gets no pre-vote, so it raises no term (ClickHouse NuRaft 134). */
static void elect_not_the_old_log(uint64_t seed)
{
    struct sim_cluster *c = make(seed, 3, "a server with an old log");
    struct node_status st;
    for (unsigned round = 0; round < 8; round++) {
        unsigned l = sim_leader_within(c, 5000), s = (l + 1 + (unsigned)prng_below(&c->rng, 2)) % 3;
        sim_agree(c, round, 3, 5000);
        sim_isolate(c, s, true);
        for (unsigned i = 0; i < 3; i++) sim_agree(c, 100 + i, 2, 3000);
        l = sim_leader_within(c, 3000);
        sim_status(c, l, &st);
        sim_isolate(c, l, true);
        sim_wait(c, no_leader, c, 3000);
        sim_isolate(c, s, false);
        sim_isolate(c, l, true);
        struct old_log o = {.c = c, .server = s, .term = st.raft.term};
        if (!sim_wait(c, led_or_stood, &o, 10000)) sim_fail(c, "no leader within 10 s");
        sim_join(c);
    }
    sim_cluster_free(c);
}

/* ---- restarts ---- */

/* All lose their power at a random moment while commands flow: what was applied anywhere is there again, in its place
 * (check_log.c compares), and the servers go on. */
static void restart_all(uint64_t seed)
{
    struct sim_cluster *c = make(seed, servers(seed), "restart of all, unsynced writes lost");
    for (unsigned round = 0; round < 8; round++) {
        uint64_t before = sim_agree(c, round, sim_majority(c), 10000), index, term;
        for (unsigned i = 0; i < 30; i++) {
            int l = sim_leader(c);
            if (l >= 0) sim_box_start(c->servers[l].box, 1000 * round + i, &index, &term);
            if (prng_chance(&c->rng, 50)) sim_run_until(c->world, sim_now(c->world) + prng_below(&c->rng, NS_PER_MS));
        }
        uint64_t applied = sim_applied_last(c->checks);
        for (unsigned i = 0; i < c->opt.n; i++)
            sim_server_end(c, i, prng_chance(&c->rng, 80) ? SIM_POWER_CUT : SIM_KILLED);
        unsigned late = (unsigned)prng_below(&c->rng, c->opt.n); /* any majority has it */
        for (unsigned i = 0; i < c->opt.n; i++)
            if (i != late) sim_server_start(c, i);
        sim_leader_within(c, 5000);
        sim_start_all(c);
        sim_leader_within(c, 5000);
        sim_agree(c, 500 + round, c->opt.n, 5000);
        if (sim_applied_last(c->checks) <= applied) sim_fail(c, "applied commands are gone");
        for (unsigned i = 0; i < c->opt.n; i++)
            if (sim_box_value(c->servers[i].box, before) != round) sim_fail(c, "server %u lost a value", i + 1);
    }
    sim_cluster_free(c);
}

/* Servers crash one after the other, never more than a minority at a time; also with an emptied disk. */
static void restart_in_turn(uint64_t seed)
{
    struct sim_cluster *c = make(seed, servers(seed), "rolling crashes and lost disks");
    for (unsigned round = 0; round < 8; round++) {
        unsigned s = (unsigned)prng_below(&c->rng, c->opt.n);
        bool lost = prng_chance(&c->rng, 30);
        sim_agree(c, round, c->opt.n, 10000);
        sim_server_end(c, s, prng_chance(&c->rng, 50) ? SIM_POWER_CUT : SIM_KILLED);
        if (lost) sim_server_wipe(c, s);
        for (unsigned i = 0; i < 10; i++) sim_agree(c, 100 * round + i, sim_majority(c), 10000);
        sim_server_start(c, s);
        sim_agree(c, 5000 + round, c->opt.n, 10000);
        sim_sleep(c, 500);
        if (c->servers[s].lost) sim_fail(c, "server %u has caught up and does not vote again", s + 1);
    }
    sim_cluster_free(c);
}

/* ---- checkpoints ---- */

static bool ckpt_under_way(void *arg)
{
    const struct sim_cluster *c = arg;
    for (unsigned i = 0; i < c->opt.n; i++)
        if (!c->servers[i].node->ckpt) return false;
    return true;
}

/* What is logged while a checkpoint is being written may be enough for the next one: that comes although nothing more
 * happens. */
static void checkpoint_after_burst(uint64_t seed)
{
    struct sim_options o;
    uint64_t index, term;
    sim_options_default(&o, seed);
    o.integers = true;
    o.title = "a checkpoint that is due is made";
    o.node.checkpoint_bytes = 1000;
    o.node.checkpoint_eager = true;
    o.disk.op_ns_min = 10 * NS_PER_MS;
    o.disk.op_ns_max = 20 * NS_PER_MS;
    struct sim_cluster *c = sim_cluster_new(&o);
    sim_start_all(c);
    unsigned l = sim_leader_within(c, 3000);
    sim_agree(c, 1, 3, 3000);
    for (unsigned i = 0; i < 20; i++) sim_box_start(c->servers[l].box, i, &index, &term);
    if (!sim_wait(c, ckpt_under_way, c, 1000)) sim_fail(c, "no checkpoints are being written");
    for (unsigned i = 0; i < 100; i++) sim_box_start(c->servers[l].box, i, &index, &term);
    sim_sleep(c, 3000);
    for (unsigned i = 0; i < 3; i++) {
        struct node_status st;
        sim_status(c, i, &st);
        if (st.log.log_bytes > 1000)
            sim_fail(c, "server %u has %llu bytes behind its checkpoint", i + 1, (unsigned long long)st.log.log_bytes);
    }
    sim_cluster_free(c);
}

/* ---- the simulator itself ---- */

static uint64_t digest_of(uint64_t seed)
{
    struct sim_cluster *c = make(seed, 3, "the same again");
    bad_weather(c);
    sim_agree(c, 1, 2, 10000);
    sim_end_all(c, SIM_POWER_CUT);
    sim_start_all(c);
    sim_agree(c, 2, 2, 10000);
    uint64_t d = sim_digest(c->world);
    sim_cluster_free(c);
    return d;
}

static void same_seed_same_run(uint64_t seed)
{
    assert_true(digest_of(seed) == digest_of(seed));
    assert_true(digest_of(seed) != digest_of(seed + 1));
}

#define SEEDED(name, seeds)                                                                                            \
    static void test_##name(void **state) { sim_seeds(1, seeds, name); }

SEEDED(elect, SEEDS)
SEEDED(elect_without_majority, SEEDS)
SEEDED(elect_after_crash, SEEDS)
SEEDED(elect_undisturbed, SEEDS)
SEEDED(agree_in_bad_weather, SEEDS)
SEEDED(agree_after_conflict, SEEDS)
SEEDED(elect_of_term_and_log, 20)
SEEDED(elect_with_higher_term, 20)
SEEDED(elect_not_the_old_log, 20)
SEEDED(restart_all, SEEDS)
SEEDED(restart_in_turn, SEEDS)
SEEDED(checkpoint_after_burst, 20)
SEEDED(same_seed_same_run, 3)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_elect),
        cmocka_unit_test(test_elect_without_majority),
        cmocka_unit_test(test_elect_after_crash),
        cmocka_unit_test(test_elect_undisturbed),
        cmocka_unit_test(test_agree_in_bad_weather),
        cmocka_unit_test(test_agree_after_conflict),
        cmocka_unit_test(test_elect_of_term_and_log),
        cmocka_unit_test(test_elect_with_higher_term),
        cmocka_unit_test(test_elect_not_the_old_log),
        cmocka_unit_test(test_restart_all),
        cmocka_unit_test(test_restart_in_turn),
        cmocka_unit_test(test_checkpoint_after_burst),
        cmocka_unit_test(test_same_seed_same_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
