/* Linearizable reads and leadership transfer, one rule a test. Numbers in brackets name the known bug that the rule
 * excludes. */
#include "core_rig.h"

static struct rig *candidate_of(uint32_t n, bool lease)
{
    struct raft_recovered from = {.hard = {2, 0, RAFT_VOTER}, .first = 1};
    struct rig *g = rig_new_from(n, &from);
    raft_free(g->r);
    g->config.lease_reads = lease;
    g->r = raft_new(&g->config, &from);
    rig_start(g);
    return g;
}

/* Its no-op is at 1, nothing acknowledged. */
static struct rig *leader(uint32_t n, bool lease)
{
    struct rig *g = candidate_of(n, lease);
    rig_elect(g, n / 2);
    return g;
}

static struct rig *settled(uint32_t n, bool lease)
{
    struct rig *g = leader(n, lease);
    for (uint64_t p = 2; p <= n; p++) rig_ack(g, p, 1, rig_round(g, p));
    assert_int_equal(RIG_COMMIT(g), 1);
    rig_clear(g);
    return g;
}

/* ---- ReadIndex ------------------------------------------------------------------------------------------- */

static void test_read_needs_a_round(void **state)
{
    struct rig *g = settled(5, false);
    (void)state;
    rig_read(g, 1);
    assert_false(g->flags & RAFT_UP_READS);
    uint64_t round = rig_round(g, 2);
    for (uint64_t p = 2; p <= 5; p++) assert_int_equal(rig_count(g, RAFT_MSG_APPEND, p), 1);
    rig_ack(g, 2, 1, round);
    assert_false(g->flags & RAFT_UP_READS);
    rig_ack(g, 2, 1, round);
    assert_false(g->flags & RAFT_UP_READS);
    rig_ack(g, 5, 1, round);
    assert_true(g->flags & RAFT_UP_READS);
    assert_int_equal(g->reads_upto, 1);
    assert_int_equal(g->reads_index, 1);
    rig_free(g);
}

static void test_late_answers_confirm_nothing(void **state)
{
    struct rig *g = settled(3, false);
    uint64_t before = g->now;
    (void)state;
    rig_run(g, 100 * RIG_MS);
    uint64_t heartbeat = rig_round(g, 2);
    assert_true(heartbeat > before);
    rig_clear(g);
    rig_read(g, 1);
    uint64_t round = rig_round(g, 2);
    assert_true(round > heartbeat);
    rig_ack(g, 2, 1, heartbeat); /* [9] */
    rig_ack(g, 3, 1, round - 1);
    assert_false(g->flags & RAFT_UP_READS);
    rig_read(g, 2); /* at the same instant, in a later step: a round of its own */
    uint64_t second = rig_round(g, 2);
    assert_true(second > round);
    rig_ack(g, 3, 1, round);
    assert_int_equal(g->reads_upto, 1);
    rig_ack(g, 2, 1, round);
    assert_int_equal(g->reads_upto, 1);
    rig_ack(g, 2, 1, second);
    assert_int_equal(g->reads_upto, 2);
    rig_free(g);
}

static void test_any_later_message_confirms(void **state)
{
    struct rig *g = settled(3, false);
    (void)state;
    rig_read(g, 1); /* both of its messages are lost */
    rig_clear(g);
    rig_run(g, 100 * RIG_MS);
    assert_false(g->flags & RAFT_UP_READS);
    rig_ack(g, 3, 1, rig_round(g, 3));
    assert_true(g->flags & RAFT_UP_READS);
    rig_free(g);
}

static void test_no_read_before_a_commit_of_the_own_term(void **state)
{
    (void)state;
    for (int lease = 0; lease < 2; lease++) {
        struct rig *g = leader(3, lease);
        rig_clear(g);
        rig_read(g, 1);
        rig_ack(g, 2, 0, rig_round(g, 2));
        rig_ack(g, 3, 0, rig_round(g, 3));
        assert_false(g->flags & RAFT_UP_READS); /* [8] the round is confirmed, but not the index */
        assert_false(raft_lease_valid(g->r, g->now));
        rig_ack(g, 2, 1, 0);
        assert_true(g->flags & RAFT_UP_READS);
        assert_int_equal(g->reads_index, 1);
        rig_free(g);
    }
}

static void test_read_index_is_the_commit_index(void **state)
{
    struct rig *g = settled(3, false);
    (void)state;
    assert_true(rig_propose(g, 4, 10));
    rig_ack(g, 2, 5, 0);
    rig_clear(g);
    rig_read(g, 1);
    uint64_t round = rig_round(g, 3);
    assert_true(rig_propose(g, 4, 10)); /* what comes after the read does not delay it */
    rig_ack(g, 3, 9, round);
    assert_int_equal(g->reads_upto, 1);
    assert_int_equal(g->reads_index, 5); /* [12] to be applied before the read */
    rig_free(g);
}

static void test_many_reads(void **state)
{
    struct rig *g = settled(3, false);
    (void)state;
    for (uint64_t id = 1; id <= 500; id++) rig_read(g, id);
    assert_in_range(rig_count(g, RAFT_MSG_APPEND, 2), 1, 64); /* rounds under way are bounded */
    rig_ack(g, 2, 1, rig_round(g, 2));
    assert_in_range(g->reads_upto, 1, 499);
    rig_ack(g, 3, 1, rig_round(g, 3));
    assert_int_equal(g->reads_upto, 500);
    rig_free(g);
}

static void test_reads_fail_without_leadership(void **state)
{
    struct rig *g = candidate_of(3, false);
    (void)state;
    rig_read(g, 1);
    assert_true(g->flags & RAFT_UP_READS_FAILED);
    rig_elect(g, 1);
    rig_ack(g, 2, 1, 0);
    rig_clear(g);
    rig_read(g, 2);
    uint64_t round = rig_round(g, 2), term = RIG_TERM(g);
    rig_append(g, 3, term + 1, 0, 0, 0, 0, 0);
    assert_true(g->flags & RAFT_UP_READS_FAILED);
    rig_msg(g, (struct raft_msg){
                   .type = RAFT_MSG_APPEND_RESP, .from = 2, .term = term, .index = 1, .last = 1, .round = round});
    assert_false(g->flags & RAFT_UP_READS);
    rig_free(g);
}

/* ---- lease ----------------------------------------------------------------------------------------------- */

static void test_lease_counts_from_sending(void **state)
{
    struct rig *g = leader(5, true);
    uint64_t sent = g->now;
    (void)state;
    rig_tick(g, 50 * RIG_MS);
    uint64_t round = rig_round(g, 2);
    assert_int_equal(round, sent);
    rig_ack(g, 2, 1, round);
    assert_false(raft_lease_valid(g->r, g->now)); /* two of five */
    rig_ack(g, 3, 1, round);
    assert_true(raft_lease_valid(g->r, g->now));
    /* [10] half an election timeout from when it was sent, less drift and margin; and asked with the time of asking. */
    assert_true(raft_lease_valid(g->r, sent + 139 * RIG_MS));
    assert_false(raft_lease_valid(g->r, sent + 141 * RIG_MS));
    assert_false(raft_lease_valid(g->r, sent + 10 * NS_PER_S));
    rig_read(g, 1);
    assert_true(g->flags & RAFT_UP_READS);
    assert_int_equal(g->reads_upto, 1);
    rig_free(g);
}

static void test_lease_read_also_answers_waiting_ones(void **state)
{
    struct rig *g = settled(3, true);
    (void)state;
    rig_tick(g, 200 * RIG_MS);
    rig_clear(g);
    rig_read(g, 1); /* the lease is over: a round */
    assert_false(g->flags & RAFT_UP_READS);
    rig_ack(g, 2, 1, rig_round(g, 2));
    assert_int_equal(g->reads_upto, 1);
    rig_clear(g);
    rig_read(g, 2);
    assert_int_equal(g->reads_upto, 2);
    assert_int_equal(rig_count(g, RAFT_MSG_APPEND, 0), 0); /* for nothing */
    rig_free(g);
}

static void test_no_lease_when_off(void **state)
{
    struct rig *g = settled(3, false);
    (void)state;
    rig_ack(g, 2, 1, 0);
    assert_false(raft_lease_valid(g->r, g->now));
    rig_free(g);
}

static void test_lease_ends_with_leadership(void **state)
{
    struct rig *g = settled(3, true);
    (void)state;
    assert_true(raft_lease_valid(g->r, g->now));
    rig_append(g, 3, RIG_TERM(g) + 1, 0, 0, 0, 0, 0);
    assert_false(raft_lease_valid(g->r, g->now));
    rig_free(g);
}

/* ---- transfer -------------------------------------------------------------------------------------------- */

static void transfer(struct rig *g, uint64_t to)
{
    rig_step(g, (struct raft_event){.kind = RAFT_EV_TRANSFER, .peer = to});
}

static void test_transfer_waits_for_the_log(void **state)
{
    struct rig *g = settled(3, true);
    (void)state;
    assert_true(rig_propose(g, 3, 10));
    transfer(g, 3);
    assert_null(rig_take(g, RAFT_MSG_TIMEOUT_NOW, 3));
    assert_false(rig_propose(g, 1, 10));
    assert_false(raft_lease_valid(g->r, g->now)); /* [11] */
    rig_ack(g, 3, 4, rig_round(g, 3));
    const struct raft_msg *m = rig_take(g, RAFT_MSG_TIMEOUT_NOW, 3);
    assert_non_null(m);
    assert_int_equal(m->term, RIG_TERM(g));
    /* The target takes over: exempt from stickiness. */
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_VOTE,
                                 .from = 3,
                                 .term = RIG_TERM(g) + 1,
                                 .index = 4,
                                 .log_term = RIG_TERM(g),
                                 .transfer = true});
    assert_int_equal(RIG_ROLE(g), RAFT_FOLLOWER);
    m = rig_take(g, RAFT_MSG_VOTE_RESP, 3);
    assert_true(m && !m->reject);
    rig_free(g);
}

static void test_transfer_aborts(void **state)
{
    struct rig *g = settled(3, true);
    (void)state;
    transfer(g, 2);
    assert_non_null(rig_take(g, RAFT_MSG_TIMEOUT_NOW, 2)); /* it has everything */
    for (int i = 0; i < 5; i++) {
        assert_false(rig_propose(g, 1, 10));
        rig_run(g, 60 * RIG_MS);
        rig_ack(g, 3, 1, rig_round(g, 3));
    }
    assert_true(rig_propose(g, 1, 10));
    rig_ack(g, 3, 2, rig_round(g, 3));
    assert_int_equal(RIG_COMMIT(g), 2);
    /* TIMEOUT_NOW may still be on its way, so reads go by rounds until the term ends. */
    assert_false(raft_lease_valid(g->r, g->now));
    rig_clear(g);
    rig_read(g, 1);
    assert_false(g->flags & RAFT_UP_READS);
    rig_ack(g, 3, 2, rig_round(g, 3));
    assert_true(g->flags & RAFT_UP_READS);
    rig_free(g);

    g = settled(3, true); /* the target goes before it was told: at once */
    assert_true(rig_propose(g, 1, 10));
    transfer(g, 2);
    assert_false(rig_propose(g, 1, 10));
    rig_peer(g, 2, false);
    assert_true(rig_propose(g, 1, 10));
    assert_true(raft_lease_valid(g->r, g->now));
    rig_free(g);
}

static void test_transfer_chooses(void **state)
{
    struct rig *g = settled(5, true);
    (void)state;
    assert_true(rig_propose(g, 3, 10));
    rig_ack(g, 2, 2, 0);
    rig_ack(g, 3, 4, 0);
    rig_ack(g, 4, 4, 0);
    rig_peer(g, 3, false);
    transfer(g, 0);
    assert_non_null(rig_take(g, RAFT_MSG_TIMEOUT_NOW, 4)); /* the most caught-up one that is there */
    rig_free(g);

    static const uint64_t bad[] = {1, 7, 3};
    g = settled(3, true);
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_PROBE, .from = 3, .fenced = true});
    for (size_t i = 0; i < 3; i++) { /* itself, nobody, one that may not lead */
        transfer(g, bad[i]);
        assert_true(rig_propose(g, 1, 10));
    }
    rig_free(g);
    g = candidate_of(3, true);
    transfer(g, 2);
    assert_int_equal(g->nbox, 0);
    rig_free(g);
}

static void test_timeout_now(void **state)
{
    struct rig *g = candidate_of(3, true);
    (void)state;
    rig_append(g, 2, 3, 0, 0, 1, 3, 0);
    rig_clear(g);
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_TIMEOUT_NOW, .from = 3, .term = 3}); /* not the leader */
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_TIMEOUT_NOW, .from = 2, .term = 2}); /* not of this term */
    assert_int_equal(RIG_ROLE(g), RAFT_FOLLOWER);
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_TIMEOUT_NOW, .from = 2, .term = 3});
    assert_int_equal(RIG_ROLE(g), RAFT_CANDIDATE);
    assert_int_equal(RIG_TERM(g), 4);
    const struct raft_msg *m = rig_take(g, RAFT_MSG_VOTE, 2);
    assert_true(m && m->transfer);
    rig_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_needs_a_round),
        cmocka_unit_test(test_late_answers_confirm_nothing),
        cmocka_unit_test(test_any_later_message_confirms),
        cmocka_unit_test(test_no_read_before_a_commit_of_the_own_term),
        cmocka_unit_test(test_read_index_is_the_commit_index),
        cmocka_unit_test(test_many_reads),
        cmocka_unit_test(test_reads_fail_without_leadership),
        cmocka_unit_test(test_lease_counts_from_sending),
        cmocka_unit_test(test_lease_read_also_answers_waiting_ones),
        cmocka_unit_test(test_no_lease_when_off),
        cmocka_unit_test(test_lease_ends_with_leadership),
        cmocka_unit_test(test_transfer_waits_for_the_log),
        cmocka_unit_test(test_transfer_aborts),
        cmocka_unit_test(test_transfer_chooses),
        cmocka_unit_test(test_timeout_now),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
