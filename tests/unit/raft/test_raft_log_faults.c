/* I/O errors at every ordinal, lying disks, full disks. A failed durable operation stops the log and nothing is written any
 * more; what was reported durable is there after a restart. A full disk stops nothing: the log says so early, what frees space
 * still runs, and with space it goes on. */
#include "tests/unit/raft/log_life.h"

static void small_act(struct rig *r)
{
    uint64_t k = prng_below(&r->rng, 100);
    if (k < 45) append_some(r);
    else if (k < 50) truncate_some(r);
    else if (k < 65) apply_some(r);
    else if (k < 70) change_hard(r);
    else if (k < 80) checkpoint(r);
    else rig_run(r, prng_between(&r->rng, 0, 4 * NS_PER_MS));
}

static struct rig *start(uint64_t seed)
{
    struct rig *r = rig_new(seed);
    r->cfg.spare_segments = 1;
    r->cfg.trail_bytes = 60000;
    assert_int_equal(rig_open(r), 0);
    return r;
}

/* One life with one fault. Returns false once the fault has not come any more. */
static bool life_with(enum sim_disk_fault what, unsigned op, uint64_t nth, const char *prefix, bool fatal)
{
    struct rig *r = start(3);
    sim_disk_fault(r->disk, what, 1u << op, nth, -EIO);
    sim_disk_fault_only(r->disk, prefix);
    for (int i = 0; i < 120 && !r->failed; i++) small_act(r);
    for (int i = 0; i < 50 && !r->failed; i++) rig_run(r, 20 * NS_PER_MS);
    bool came = !sim_disk_fault_due(r->disk);
    if (fatal) assert_int_equal(came, r->failed != 0);
    if (r->failed) {
        uint64_t writes = sim_disk_ops(r->disk, DISK_WRITE), durable = r->durable;
        while (sim_disk_pending(r->disk)) rig_step(r);          /* what was under way */
        writes = sim_disk_ops(r->disk, DISK_WRITE);
        append_some(r);
        change_hard(r);
        rig_run(r, NS_PER_S);
        assert_int_equal(sim_disk_ops(r->disk, DISK_WRITE), writes);
        assert_int_equal(r->durable, durable);
    }
    sim_disk_fault(r->disk, what, 0, 0, 0);
    sim_disk_crash(r->disk);
    log_close(r->log);
    r->log = NULL;
    assert_int_equal(rig_open(r), 0);       /* strict */
    rig_check_refs(r);
    rig_settle(r);
    assert_int_equal(r->durable, r->last);
    rig_free(r);
    return came;
}

static void every_ordinal(enum sim_disk_fault what, unsigned op, const char *prefix, bool fatal)
{
    uint64_t n = 1;
    while (life_with(what, op, n, prefix, fatal)) n += n < 20 ? 1 : 3;
    print_message("%llu ordinals\n", (unsigned long long)n);
    assert_true(n > 1);
}

static void test_write_error(void **state) { every_ordinal(SIM_DISK_ERROR, DISK_WRITE, NULL, true); }
static void test_short_write(void **state) { every_ordinal(SIM_DISK_SHORT, DISK_WRITE, NULL, true); }
static void test_sync_error(void **state) { every_ordinal(SIM_DISK_ERROR, DISK_SYNC, NULL, true); }
static void test_rename_error(void **state) { every_ordinal(SIM_DISK_ERROR, DISK_RENAME, NULL, true); }
static void test_segment_error(void **state) { every_ordinal(SIM_DISK_ERROR, DISK_ALLOC, "seg-", true); }
static void test_spare_error(void **state) { every_ordinal(SIM_DISK_ERROR, DISK_ALLOC, "free-", false); }
static void test_remove_error(void **state) { every_ordinal(SIM_DISK_ERROR, DISK_REMOVE, NULL, false); }

/* A disk that says a log write is done though it is not, or did it elsewhere. */
static bool lied_to(enum sim_disk_fault what, uint64_t nth)
{
    struct rig *r = start(4);
    sim_disk_fault(r->disk, what, 1u << DISK_WRITE, nth, 0);
    sim_disk_fault_only(r->disk, "seg-");
    for (int i = 0; i < 100; i++) small_act(r);
    if (r->ckpt && !r->ckpt_committing) rig_ckpt_commit(r);
    rig_settle(r);
    bool came = !sim_disk_fault_due(r->disk);
    uint64_t durable = r->durable;
    sim_disk_kill(r->disk);
    log_close(r->log);
    r->log = NULL;
    r->strict = !came;
    assert_int_equal(rig_open(r), 0);
    if (!r->rec.damaged) RIG_CHECK(r, nth, r->rec.raft.last >= durable);
    rig_check_entries(r, r->log, &r->rec, true);
    rig_check_refs(r);
    rig_free(r);
    return came;
}

static void test_lost_write(void **state)
{
    for (uint64_t n = 1; lied_to(SIM_DISK_LOST, n);) n++;
}

static void test_misdirected_write(void **state)
{
    for (uint64_t n = 1; lied_to(SIM_DISK_MISDIRECT, n);) n++;
}

/* ---- full ---- */

static void forget_refs(struct rig *r, uint64_t upto)
{
    for (uint64_t i = 1; i <= upto; i++)
        for (int k = 0; k < RIG_REFS; k++)
            if (r->sm.refs[i][k].len) ref_set(r, &r->sm, i, k, (struct ref){0, 0});
}

static void checkpoint_now(struct rig *r)
{
    if (rig_ckpt_start(r)) rig_ckpt_commit(r);
    for (int i = 0; i < 200 && r->ckpt; i++) rig_run(r, NS_PER_MS);
}

static void test_disk_full(void **state)
{
    struct rig *r = rig_new(12);
    r->cfg.spare_segments = 2;
    r->cfg.trail_bytes = 50000;
    r->cfg.compact_live_percent = 60;
    r->no_kills = true;
    sim_disk_capacity(r->disk, 2 * MIB);
    assert_int_equal(rig_open(r), 0);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 1000 && !log_disk_full(r->log); i++) {
            rig_append_version(r, r->term, 20000, RAFT_COMMAND);
            rig_apply_to(r, r->last);
            rig_run(r, 5 * NS_PER_MS);
            if (i % 10 == 9) checkpoint_now(r);
        }
        assert_true(log_disk_full(r->log));
        int rounds = 0;
        for (uint64_t gone = 0; log_disk_full(r->log) && rounds < 500; rounds++) {
            gone = min_u64(gone + 5, r->sm.index);
            forget_refs(r, gone);               /* a deletion: a small entry */
            rig_append_version(r, r->term, 60, RAFT_COMMAND);
            rig_apply_to(r, r->last);
            rig_run(r, 10 * NS_PER_MS);
            if (rounds % 5 == 4) checkpoint_now(r);
            assert_int_equal(r->failed, 0);
        }
        assert_false(log_disk_full(r->log));
        assert_int_equal(r->durable, r->last);
        rig_check_refs(r);
    }
    rig_free(r);
}

/* Nothing is left, not even a reserve: entries wait, and go on when there is space. */
static void test_no_space_at_all(void **state)
{
    struct rig *r = rig_new(13);
    r->cfg.spare_segments = 1;
    assert_int_equal(rig_open(r), 0);
    rig_run(r, 50 * NS_PER_MS);
    sim_disk_capacity(r->disk, sim_disk_used(r->disk));
    for (int i = 0; i < 30; i++) rig_append_version(r, 1, 9000, RAFT_COMMAND);
    rig_run(r, 2 * NS_PER_S);
    assert_true(log_disk_full(r->log));
    assert_int_equal(r->failed, 0);
    assert_true(r->durable < r->last);
    uint64_t was = r->durable;
    change_hard(r);
    rig_run(r, 50 * NS_PER_MS);
    assert_int_equal(r->hard_durable.term, r->hard.term);           /* votes need no space */
    struct sim_disk *copy = sim_disk_clone(r->disk, &r->clock.c, 1);
    sim_disk_free(copy);
    sim_disk_capacity(r->disk, 0);
    rig_settle(r);
    assert_true(was < r->durable);
    assert_int_equal(r->durable, r->last);
    assert_false(log_disk_full(r->log));
    rig_free(r);
}

/* A checkpoint that does not fit fails alone. */
static void test_checkpoint_without_space(void **state)
{
    struct rig *r = rig_new(14);
    r->cfg.spare_segments = 1;
    assert_int_equal(rig_open(r), 0);
    for (int i = 0; i < 20; i++) append_some(r);
    rig_settle(r);
    rig_apply_to(r, r->last);
    sim_disk_capacity(r->disk, sim_disk_used(r->disk) + 2 * PAGE_BYTES);
    r->ckpt_failed = false;
    checkpoint_now(r);
    rig_settle(r);
    assert_true(r->ckpt_failed);
    assert_int_equal(r->ckpt_index, 0);
    assert_int_equal(r->failed, 0);
    sim_disk_capacity(r->disk, 0);
    checkpoint_now(r);
    assert_int_equal(r->ckpt_index, r->sm.index);
    sim_disk_crash(r->disk);
    log_close(r->log);
    assert_int_equal(rig_open(r), 0);
    rig_check_refs(r);
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_error),   cmocka_unit_test(test_short_write),       cmocka_unit_test(test_sync_error),
        cmocka_unit_test(test_rename_error),  cmocka_unit_test(test_segment_error),     cmocka_unit_test(test_spare_error),
        cmocka_unit_test(test_remove_error),  cmocka_unit_test(test_lost_write),        cmocka_unit_test(test_misdirected_write),
        cmocka_unit_test(test_disk_full),     cmocka_unit_test(test_no_space_at_all),   cmocka_unit_test(test_checkpoint_without_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
