/* The log under a random life: appends, truncations, checkpoints, installs, repairs, with crashes between any two steps. What
 * was reported durable is there afterwards, nothing is invented, and every byte the state refers to reads back. QFS_SEED runs
 * one seed, QFS_SEEDS says how many. */
#include "raft/core_priv.h"
#include "tests/unit/raft/log_life.h"

static void live(uint64_t seed, uint32_t steps, uint64_t *sum)
{
    struct rig *r = rig_new(seed);
    r->whatif_permille = 20;
    assert_int_equal(rig_open(r), 0);
    if (prng_chance(&r->rng, 70)) rig_run(r, 10 * NS_PER_MS);
    for (uint32_t i = 0; i < steps && r->last + 400 < RIG_INDEX_MAX; i++) {
        act(r);
        RIG_CHECK(r, 0, r->failed == 0);
    }
    if (r->ckpt && !r->ckpt_committing) rig_ckpt_commit(r);
    rig_settle(r);
    assert_int_equal(r->durable, r->last);
    rig_check_refs(r);
    crash(r);
    rig_check_entries(r, r->log, &r->rec, true);
    rig_check_refs(r);
    struct log_stats st;
    log_stats(r->log, &st);
    sum[0] += r->whatifs;
    sum[1] += r->reads;
    sum[2] += r->installs;
    sum[3] += r->last;
    sum[4] += r->sure;
    rig_free(r);
}

static void test_random_life(void **state)
{
    const char *one = getenv("QFS_SEED"), *many = getenv("QFS_SEEDS");
    uint64_t first = one ? strtoull(one, NULL, 10) : 1, n = one ? 1 : many ? strtoull(many, NULL, 10) : 40, sum[5] = {0};
    for (uint64_t seed = first; seed < first + n; seed++) live(seed, 600, sum);
    print_message("%llu seeds: %llu crashes tried, %llu ranges read, %llu installs, %llu entries\n", (unsigned long long)n,
                  (unsigned long long)sum[0], (unsigned long long)sum[1], (unsigned long long)sum[2], (unsigned long long)sum[3]);
    assert_true(sum[4] > 0);
}

/* The highest term that the core takes from a message comes back from the disk. (It did not: such a node could not be
 * started any more.) */
static void test_highest_term(void **state)
{
    struct rig *r = rig_new(5);
    assert_int_equal(rig_open(r), 0);
    r->hard = (struct raft_hard){.term = RAFT__NUMBER_MAX, .vote = 2, .standing = RAFT_VOTER};
    log_set_hard(r->log, &r->hard);
    rig_settle(r);
    sim_disk_crash(r->disk);
    log_close(r->log);
    r->log = NULL;
    assert_int_equal(rig_open(r), 0);
    assert_int_equal(r->rec.raft.hard.term, RAFT__NUMBER_MAX);
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_life), cmocka_unit_test(test_highest_term)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
