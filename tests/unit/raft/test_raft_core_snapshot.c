/* Snapshots, one rule a test: when a leader starts a transfer, what a follower takes, installs and ignores. */
#include "core_rig.h"

static const struct raft_run runs_2[] = {{1, 1}, {4, 2}}; /* terms 1 1 1 2 2 */

static struct rig *follower(void)
{
    struct rig *g = rig_new(3, 2, runs_2, 2, 5);
    rig_start(g);
    rig_run(g, 299 * RIG_MS);
    rig_clear(g);
    return g;
}

/* Of term 3, its no-op at 6; the log begins at 5. Node 2 matches, 3 has nothing. */
static struct rig *trimmed_leader(void)
{
    struct rig *g = follower();
    rig_elect(g, 1);
    rig_ack(g, 2, 6, 0);
    rig_step(g, (struct raft_event){.kind = RAFT_EV_APPLIED, .index = 6});
    rig_step(g, (struct raft_event){.kind = RAFT_EV_LOG_TRIMMED, .index = 5});
    assert_int_equal(rig_status(g).first, 5);
    rig_clear(g);
    return g;
}

static void refuse(struct rig *g, uint64_t last)
{
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_APPEND_RESP, .from = 3, .term = 3, .reject = true, .last = last});
}

static void sent(struct rig *g, bool ok, uint64_t index)
{
    rig_step(g, (struct raft_event){.kind = RAFT_EV_SNAPSHOT_SENT, .peer = 3, .index = index, .ok = ok});
}

static const char *state_of_3(const struct rig *g) { return rig_status(g).peers[2].state; }

static void test_peer_behind_the_log_gets_a_snapshot(void **state)
{
    struct rig *g = trimmed_leader();
    (void)state;
    refuse(g, 5);
    assert_int_equal(g->nsnapshot_to, 1);
    assert_int_equal(g->snapshot_to[0], 3);
    assert_string_equal(state_of_3(g), "snapshot");
    assert_true(rig_propose(g, 2, 10));
    rig_clear(g);
    rig_run(g, 110 * RIG_MS);
    const struct raft_msg *m = rig_take(g, RAFT_MSG_APPEND, 3);
    assert_true(m && m->n == 0 && m->index == 0); /* heartbeats that claim nothing */
    rig_ack(g, 3, 0, m->round);
    assert_string_equal(state_of_3(g), "snapshot");
    assert_int_equal(g->nsnapshot_to, 0); /* once */
    sent(g, true, 6);
    m = rig_take(g, RAFT_MSG_APPEND, 3);
    assert_true(m && m->index == 6 && m->n == 2);
    assert_int_equal(rig_status(g).peers[2].match, 6);
    rig_free(g);
}

static void test_snapshot_ends_when_the_peer_has_caught_up_otherwise(void **state)
{
    struct rig *g = trimmed_leader();
    (void)state;
    refuse(g, 5);
    rig_ack(g, 3, 5, 0);
    assert_string_equal(state_of_3(g), "replicate");
    assert_int_equal(rig_take(g, RAFT_MSG_APPEND, 3)->index, 5);
    sent(g, false, 0); /* of the transfer that nobody needs any more */
    assert_string_equal(state_of_3(g), "replicate");
    rig_free(g);
}

static void test_failed_transfer_is_tried_later(void **state)
{
    struct rig *g = trimmed_leader();
    (void)state;
    refuse(g, 5);
    rig_clear(g);
    sent(g, false, 0);
    assert_int_equal(g->nsnapshot_to, 0);
    for (int i = 0; i < 3; i++) {
        rig_run(g, 99 * RIG_MS);
        rig_ack(g, 2, 6, 0);
    }
    assert_int_equal(g->nsnapshot_to, 0);
    rig_run(g, 10 * RIG_MS);
    assert_int_equal(g->nsnapshot_to, 1);
    sent(g, false, 0);
    rig_clear(g);
    rig_peer(g, 3, false);
    assert_int_equal(g->nsnapshot_to, 0);
    rig_peer(g, 3, true); /* connected anew: at once */
    assert_int_equal(g->nsnapshot_to, 1);
    rig_peer(g, 3, false);
    rig_clear(g);
    rig_peer(g, 3, true); /* the transfer went with the connection */
    assert_int_equal(g->nsnapshot_to, 1);
    rig_free(g);
}

static void test_pipeline_that_was_overtaken_by_the_trim(void **state)
{
    struct rig *g = trimmed_leader();
    (void)state;
    rig_ack(g, 3, 6, 0);
    assert_true(rig_propose(g, 60, 100)); /* the window towards 3 is full, all of it is lost */
    rig_ack(g, 2, 66, 0);
    for (uint64_t match = 46; RIG_COMMIT(g) < 66 && match <= 66; match += 10) rig_ack(g, 2, match, 0);
    assert_int_equal(RIG_COMMIT(g), 66);
    rig_step(g, (struct raft_event){.kind = RAFT_EV_APPLIED, .index = 66});
    rig_clear(g);
    rig_step(g, (struct raft_event){.kind = RAFT_EV_LOG_TRIMMED, .index = 61});
    assert_int_equal(g->nsnapshot_to, 1);
    rig_free(g);
}

/* ---- the follower ---------------------------------------------------------------------------------------- */

static void chunk(struct rig *g, uint64_t term, uint64_t index, uint64_t log_term)
{
    rig_clear(g);
    rig_msg(
        g, (struct raft_msg){.type = RAFT_MSG_SNAPSHOT, .from = 2, .term = term, .index = index, .log_term = log_term});
}

static void received(struct rig *g, uint64_t index, uint64_t term)
{
    rig_clear(g);
    rig_step(g, (struct raft_event){.kind = RAFT_EV_SNAPSHOT_RECEIVED, .index = index, .term = term});
}

static void installed(struct rig *g, uint64_t index, uint64_t term)
{
    rig_clear(g);
    if (index) {
        struct raft_status s = rig_status(g);
        bool keep = s.last >= index && g->log[index].term == term;
        g->log[index].term = term;
        g->last = keep ? g->last : index;
        g->persisted = max_u64(g->persisted, index) > g->last ? g->last : max_u64(g->persisted, index);
    }
    rig_step(g, (struct raft_event){.kind = RAFT_EV_SNAPSHOT_INSTALLED, .index = index, .term = term});
}

static void test_chunks_of_the_leader_only(void **state)
{
    struct rig *g = follower();
    (void)state;
    chunk(g, 1, 50, 1); /* of a former leader: it learns the term */
    assert_false(g->flags & RAFT_UP_SNAPSHOT_CHUNK);
    assert_true(rig_take(g, RAFT_MSG_APPEND_RESP, 2)->reject);
    chunk(g, 3, 50, 3);
    assert_true(g->flags & RAFT_UP_SNAPSHOT_CHUNK);
    assert_int_equal(rig_status(g).leader, 2);
    chunk(g, 3, 50, 9);
    chunk(g, 3, 0, 0);
    assert_int_equal(RIG_DROPPED(g), 2);
    rig_append(g, 2, 3, 5, 2, 0, 0, 5);
    chunk(g, 3, 5, 2); /* nothing we need: the leader is told what we have */
    assert_false(g->flags & RAFT_UP_SNAPSHOT_CHUNK);
    assert_int_equal(rig_take(g, RAFT_MSG_APPEND_RESP, 2)->index, 5);
    rig_free(g);
}

static void test_install_replaces_the_log(void **state)
{
    struct rig *g = follower();
    (void)state;
    chunk(g, 3, 50, 3);
    received(g, 50, 3);
    assert_true(g->flags & RAFT_UP_INSTALL);
    assert_false(g->up.keep_suffix);
    /* Meanwhile nothing is appended, and nobody stands for election. */
    rig_append(g, 2, 3, 5, 2, 3, 3, 5);
    assert_int_equal(g->last, 5);
    assert_int_equal(RIG_COMMIT(g), 0);
    const struct raft_msg *m = rig_take(g, RAFT_MSG_APPEND_RESP, 2);
    assert_true(m && !m->reject && m->index == 0 && m->round > 0);
    chunk(g, 3, 60, 3);
    assert_false(g->flags & RAFT_UP_SNAPSHOT_CHUNK);
    received(g, 60, 3);
    assert_true(g->flags & RAFT_UP_IGNORE_SNAPSHOT);
    rig_step(g, (struct raft_event){.kind = RAFT_EV_LOG_TRIMMED, .index = 51});
    rig_run(g, NS_PER_S);
    assert_int_equal(RIG_ROLE(g), RAFT_FOLLOWER);
    rig_append(g, 2, 3, 0, 0, 0, 0, 0);
    installed(g, 50, 3);
    struct raft_status s = rig_status(g);
    assert_true(s.first == 51 && s.last == 50 && s.commit == 50 && s.applied == 50 && s.persisted == 50);
    m = rig_take(g, RAFT_MSG_APPEND_RESP, 2);
    assert_true(m && m->index == 50 && m->last == 50);
    rig_step(g, (struct raft_event){.kind = RAFT_EV_LOG_TRIMMED, .index = 51});
    rig_append(g, 2, 3, 50, 3, 2, 3, 50);
    assert_int_equal(g->last, 52);
    rig_free(g);
}

static void test_install_keeps_a_suffix_that_fits(void **state)
{
    struct rig *g = follower();
    (void)state;
    received(g, 4, 2);
    assert_true(g->flags & RAFT_UP_INSTALL);
    assert_true(g->up.keep_suffix);
    installed(g, 4, 2);
    struct raft_status s = rig_status(g);
    assert_true(s.first == 5 && s.last == 5 && s.commit == 4 && s.persisted == 5);
    rig_free(g);
    g = follower();
    g->hold_log = true;
    rig_append(g, 2, 2, 5, 2, 2, 2, 0); /* 6 and 7 are not durable yet */
    received(g, 6, 2);
    assert_true(g->up.keep_suffix);
    installed(g, 6, 2);
    s = rig_status(g);
    assert_true(s.first == 7 && s.last == 7 && s.commit == 6 && s.persisted == 6);
    rig_free(g);
    g = follower();
    chunk(g, 3, 4, 3);
    received(g, 4, 3); /* another term there: all of the log is void */
    assert_true((g->flags & RAFT_UP_INSTALL) && !g->up.keep_suffix);
    installed(g, 4, 3);
    s = rig_status(g);
    assert_true(s.first == 5 && s.last == 4 && s.commit == 4 && s.persisted == 4);
    rig_free(g);
}

static void test_snapshot_that_is_behind_is_ignored(void **state)
{
    struct rig *g = follower();
    (void)state;
    rig_append(g, 2, 3, 5, 2, 0, 0, 5);
    received(g, 5, 2); /* [16] */
    assert_true(g->flags & RAFT_UP_IGNORE_SNAPSHOT);
    received(g, 3, 1);
    assert_true(g->flags & RAFT_UP_IGNORE_SNAPSHOT);
    rig_free(g);
    g = follower();
    rig_elect(g, 1);
    received(g, 50, 2); /* leader by now */
    assert_true(g->flags & RAFT_UP_IGNORE_SNAPSHOT);
    rig_free(g);
}

static void test_install_given_up(void **state)
{
    struct rig *g = follower();
    (void)state;
    chunk(g, 3, 50, 3);
    received(g, 50, 3);
    installed(g, 0, 0);
    assert_int_equal(rig_status(g).last, 5);
    rig_append(g, 2, 3, 5, 2, 3, 3, 5);
    assert_int_equal(g->last, 8);
    received(g, 60, 3);
    assert_true(g->flags & RAFT_UP_INSTALL);
    rig_free(g);
}

static void test_recovery_with_a_trail(void **state)
{
    /* Entries 3 .. 9 with the checkpoint at 7: 4 is the first whose predecessor's term is known. */
    static const struct raft_run runs[] = {{3, 1}, {6, 2}}, early[] = {{2, 1}, {6, 2}};
    struct raft_recovered from = {.hard = {2, 0, RAFT_VOTER},
                                  .snapshot_index = 7,
                                  .snapshot_term = 2,
                                  .first = 3,
                                  .last = 9,
                                  .runs = runs,
                                  .nruns = 2};
    struct rig *g = rig_new_from(3, &from);
    (void)state;
    rig_start(g);
    struct raft_status s = rig_status(g);
    assert_true(s.first == 4 && s.last == 9 && s.commit == 7 && s.applied == 7 && s.persisted == 9);
    rig_free(g);
    from.runs = early;
    g = rig_new_from(3, &from);
    rig_start(g);
    assert_int_equal(rig_status(g).first, 3);
    rig_free(g);
    from.last = 5; /* the log is behind its checkpoint */
    g = rig_new_from(3, &from);
    rig_start(g);
    s = rig_status(g);
    assert_true(s.first == 8 && s.last == 7 && s.commit == 7 && s.persisted == 7);
    rig_free(g);
}

/* A checkpoint next to entries of a history that it contradicts: they are dropped, and the log is told. */
static void test_recovery_of_a_void_log(void **state)
{
    static const struct raft_run runs[] = {{1, 1}, {6, 2}}, behind[] = {{8, 2}};
    struct raft_recovered from = {.hard = {3, 0, RAFT_VOTER},
                                  .snapshot_index = 7,
                                  .snapshot_term = 3,
                                  .first = 1,
                                  .last = 9,
                                  .runs = runs,
                                  .nruns = 2};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct rig *g = rig_new_from(3, &from);
        rig_start(g);
        assert_true(g->flags & RAFT_UP_TRUNCATE);
        assert_int_equal(g->last, 7);
        struct raft_status s = rig_status(g);
        assert_true(s.first == 8 && s.last == 7 && s.commit == 7 && s.persisted == 7);
        rig_free(g);
        from.first = 8;
        from.runs = behind;
        from.nruns = 1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_peer_behind_the_log_gets_a_snapshot),
        cmocka_unit_test(test_snapshot_ends_when_the_peer_has_caught_up_otherwise),
        cmocka_unit_test(test_failed_transfer_is_tried_later),
        cmocka_unit_test(test_pipeline_that_was_overtaken_by_the_trim),
        cmocka_unit_test(test_chunks_of_the_leader_only),
        cmocka_unit_test(test_install_replaces_the_log),
        cmocka_unit_test(test_install_keeps_a_suffix_that_fits),
        cmocka_unit_test(test_snapshot_that_is_behind_is_ignored),
        cmocka_unit_test(test_install_given_up),
        cmocka_unit_test(test_recovery_with_a_trail),
        cmocka_unit_test(test_recovery_of_a_void_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
