/* Elections, one rule a test: pre-vote, votes, stickiness, CheckQuorum, durability of votes, broken connections.
 * Numbers in brackets name the known bug that the rule excludes (museum of such bugs, docs/TESTING.md). */
#include "core_rig.h"

static const struct raft_run runs_2[] = {{1, 1}, {4, 2}}; /* terms 1 1 1 2 2 */

static struct rig *follower(uint32_t n)
{
    struct rig *g = rig_new(n, 2, runs_2, 2, 5);
    rig_start(g);
    rig_clear(g);
    return g;
}

static void ask(struct rig *g, uint8_t type, uint64_t from, uint64_t term, uint64_t index, uint64_t log_term)
{
    rig_msg(g, (struct raft_msg){.type = type, .from = from, .term = term, .index = index, .log_term = log_term});
}

/* The answer to a request: 1 granted, 0 refused (with the sender's term in *term), -1 none. */
static int answer(struct rig *g, uint8_t type, uint64_t to, uint64_t *term)
{
    const struct raft_msg *m = rig_take(g, type, to);
    if (!m) return -1;
    if (term) *term = m->term;
    return !m->reject;
}

static void past_stickiness(struct rig *g)
{
    rig_run(g, 299 * RIG_MS);
    rig_clear(g);
}

/* ---- asking ---------------------------------------------------------------------------------------------- */

static void test_prevote_changes_nothing(void **state)
{
    struct rig *g = follower(3);
    uint64_t start = g->now;
    (void)state;
    while (RIG_ROLE(g) == RAFT_FOLLOWER) {
        g->now = g->up.deadline;
        rig_step(g, (struct raft_event){.kind = RAFT_EV_TICK});
    }
    assert_in_range(g->now - start, 300 * RIG_MS, 600 * RIG_MS);
    assert_int_equal(RIG_ROLE(g), RAFT_PRE_CANDIDATE);
    assert_int_equal(RIG_TERM(g), 2);
    assert_false(g->flags & RAFT_UP_HARD);
    assert_int_equal(rig_count(g, RAFT_MSG_PREVOTE, 2), 1);
    const struct raft_msg *m = rig_take(g, RAFT_MSG_PREVOTE, 3);
    assert_non_null(m);
    assert_int_equal(m->term, 3);
    assert_int_equal(m->index, 5);
    assert_int_equal(m->log_term, 2);
    /* For ever alone: the term never rises, so that a leader is not disturbed on return. */
    rig_run(g, 20 * NS_PER_S);
    assert_int_equal(RIG_TERM(g), 2);
    rig_free(g);
}

static void test_election(void **state)
{
    struct rig *g = follower(5);
    (void)state;
    while (RIG_ROLE(g) == RAFT_FOLLOWER) rig_run(g, 10 * RIG_MS);
    g->hold_hard = g->hold_log = true;
    rig_clear(g);
    ask(g, RAFT_MSG_PREVOTE_RESP, 2, 3, 0, 0);
    ask(g, RAFT_MSG_PREVOTE_RESP, 2, 3, 0, 0);
    assert_int_equal(RIG_ROLE(g), RAFT_PRE_CANDIDATE); /* the same one twice is one */
    ask(g, RAFT_MSG_PREVOTE_RESP, 3, 3, 0, 0);
    assert_int_equal(RIG_ROLE(g), RAFT_CANDIDATE);
    assert_true(g->flags & RAFT_UP_HARD);
    assert_int_equal(g->hard.term, 3);
    assert_int_equal(g->hard.vote, 1);
    /* [19] nobody is asked before the own vote is durable */
    assert_int_equal(g->nbox, 0);
    rig_run(g, 5 * NS_PER_S); /* however slow the disk */
    assert_int_equal(RIG_ROLE(g), RAFT_CANDIDATE);
    assert_int_equal(g->nbox, 0);
    rig_hard_durable(g);
    for (uint64_t p = 2; p <= 5; p++) assert_int_equal(rig_count(g, RAFT_MSG_VOTE, p), 1);
    ask(g, RAFT_MSG_VOTE_RESP, 4, 3, 0, 0);
    assert_int_equal(RIG_ROLE(g), RAFT_CANDIDATE);
    rig_clear(g);
    ask(g, RAFT_MSG_VOTE_RESP, 5, 3, 0, 0);
    assert_int_equal(RIG_ROLE(g), RAFT_LEADER);
    assert_true((g->flags & RAFT_UP_NOOP) && (g->flags & RAFT_UP_ROLE));
    assert_int_equal(g->last, 6);
    for (uint64_t p = 2; p <= 5; p++) {
        const struct raft_msg *m = rig_take(g, RAFT_MSG_APPEND, p);
        assert_non_null(m);
        assert_int_equal(m->index, 5);
        assert_int_equal(m->log_term, 2);
        assert_int_equal(m->n, 1);
        assert_int_equal(m->last, 6);
    }
    rig_free(g);
}

static void test_requests_are_repeated(void **state)
{
    struct rig *g = follower(3);
    (void)state;
    while (RIG_ROLE(g) == RAFT_FOLLOWER) rig_run(g, 10 * RIG_MS);
    rig_clear(g);
    rig_run(g, 220 * RIG_MS);
    assert_in_range(rig_count(g, RAFT_MSG_PREVOTE, 2), 2, 3);
    rig_clear(g);
    rig_peer(g, 3, false);
    rig_peer(g, 3, true);
    assert_int_equal(rig_count(g, RAFT_MSG_PREVOTE, 3), 1);
    assert_int_equal(rig_count(g, RAFT_MSG_PREVOTE, 2), 0);
    ask(g, RAFT_MSG_PREVOTE_RESP, 2, 3, 0, 0);
    rig_clear(g);
    rig_run(g, 110 * RIG_MS);
    assert_int_equal(rig_count(g, RAFT_MSG_VOTE, 2), 1);
    assert_int_equal(rig_count(g, RAFT_MSG_VOTE, 3), 1);
    rig_free(g);
}

static void test_late_votes_count(void **state)
{
    struct rig *g = follower(3);
    (void)state;
    while (RIG_ROLE(g) == RAFT_FOLLOWER) rig_run(g, 10 * RIG_MS);
    ask(g, RAFT_MSG_PREVOTE_RESP, 2, 3, 0, 0);
    for (int i = 0; RIG_ROLE(g) == RAFT_CANDIDATE && i < 100; i++) rig_run(g, 10 * RIG_MS);
    assert_int_equal(RIG_ROLE(g), RAFT_PRE_CANDIDATE); /* it asks again, but is in term 3 still */
    assert_int_equal(RIG_TERM(g), 3);
    ask(g, RAFT_MSG_VOTE_RESP, 2, 3, 0, 0);
    assert_int_equal(RIG_ROLE(g), RAFT_LEADER);
    assert_int_equal(RIG_TERM(g), 3);
    rig_free(g);
}

static void test_votes_of_other_terms_count_for_nothing(void **state)
{
    struct rig *g = follower(3);
    (void)state;
    while (RIG_ROLE(g) == RAFT_FOLLOWER) rig_run(g, 10 * RIG_MS);
    ask(g, RAFT_MSG_PREVOTE_RESP, 2, 2, 0, 0);
    ask(g, RAFT_MSG_PREVOTE_RESP, 2, 4, 0, 0);
    assert_int_equal(RIG_ROLE(g), RAFT_PRE_CANDIDATE);
    ask(g, RAFT_MSG_PREVOTE_RESP, 2, 3, 0, 0);
    ask(g, RAFT_MSG_VOTE_RESP, 2, 2, 0, 0);
    ask(g, RAFT_MSG_VOTE_RESP, 2, 4, 0, 0);
    assert_int_equal(RIG_ROLE(g), RAFT_CANDIDATE);
    while (RIG_ROLE(g) == RAFT_CANDIDATE) rig_run(g, 10 * RIG_MS);
    ask(g, RAFT_MSG_PREVOTE_RESP, 2, 4, 0, 0);
    assert_int_equal(RIG_ROLE(g), RAFT_CANDIDATE);
    assert_int_equal(RIG_TERM(g), 4);
    ask(g, RAFT_MSG_VOTE_RESP, 2, 3, 0, 0); /* late */
    assert_int_equal(RIG_ROLE(g), RAFT_CANDIDATE);
    rig_free(g);
}

static void test_broken_connection_forgets_votes(void **state)
{
    struct rig *g = follower(5);
    (void)state;
    while (RIG_ROLE(g) == RAFT_FOLLOWER) rig_run(g, 10 * RIG_MS);
    ask(g, RAFT_MSG_PREVOTE_RESP, 2, 3, 0, 0);
    rig_peer(g, 2, false);
    ask(g, RAFT_MSG_PREVOTE_RESP, 3, 3, 0, 0);
    assert_int_equal(RIG_ROLE(g), RAFT_PRE_CANDIDATE);
    ask(g, RAFT_MSG_PREVOTE_RESP, 4, 3, 0, 0);
    assert_int_equal(RIG_ROLE(g), RAFT_CANDIDATE);
    ask(g, RAFT_MSG_VOTE_RESP, 2, 3, 0, 0);
    rig_peer(g, 2, false); /* it may come back without its disk */
    rig_clear(g);
    rig_peer(g, 2, true);
    assert_int_equal(rig_count(g, RAFT_MSG_VOTE, 2), 1);
    ask(g, RAFT_MSG_VOTE_RESP, 3, 3, 0, 0);
    assert_int_equal(RIG_ROLE(g), RAFT_CANDIDATE);
    ask(g, RAFT_MSG_VOTE_RESP, 4, 3, 0, 0);
    assert_int_equal(RIG_ROLE(g), RAFT_LEADER);
    rig_free(g);
}

static void test_of_two_pre_candidates_one_yields(void **state)
{
    struct rig *g = follower(3);
    (void)state;
    while (RIG_ROLE(g) == RAFT_FOLLOWER) rig_run(g, 10 * RIG_MS);
    rig_clear(g);
    ask(g, RAFT_MSG_PREVOTE, 2, 3, 5, 2); /* the same log, a higher id */
    assert_int_equal(answer(g, RAFT_MSG_PREVOTE_RESP, 2, NULL), 1);
    assert_int_equal(RIG_ROLE(g), RAFT_FOLLOWER);
    ask(g, RAFT_MSG_PREVOTE_RESP, 2, 3, 0, 0);
    assert_int_equal(RIG_ROLE(g), RAFT_FOLLOWER); /* it has yielded */
    rig_run(g, 700 * RIG_MS);
    assert_int_equal(RIG_ROLE(g), RAFT_PRE_CANDIDATE); /* but not for ever */
    rig_free(g);
}

static void test_single_member(void **state)
{
    struct rig *g = rig_new(1, 0, NULL, 0, 0);
    (void)state;
    g->hold_log = g->hold_hard = true;
    rig_start(g);
    assert_int_equal(RIG_ROLE(g), RAFT_CANDIDATE);
    rig_hard_durable(g);
    assert_int_equal(RIG_ROLE(g), RAFT_LEADER);
    assert_true(rig_propose(g, 2, 10));
    assert_int_equal(RIG_COMMIT(g), 0); /* [13] nothing counts before it is durable, alone or not */
    rig_log_durable(g);
    assert_int_equal(RIG_COMMIT(g), 3);
    rig_run(g, 5 * NS_PER_S);
    assert_int_equal(RIG_ROLE(g), RAFT_LEADER);
    assert_int_equal(g->nbox, 0);
    assert_true(raft_lease_valid(g->r, g->now));
    rig_read(g, 1);
    assert_int_equal(g->reads_upto, 1);
    assert_int_equal(g->reads_index, 3);
    rig_free(g);
}

/* ---- answering ------------------------------------------------------------------------------------------- */

static void test_prevote_answers(void **state)
{
    static const struct {
        uint64_t term, index, log_term;
        int granted;
    } t[] = {
        {3, 5, 2, 1}, {3, 6, 2, 1}, {9, 5, 2, 1}, {4, 1, 3, 1},
        {3, 4, 2, 0}, {3, 9, 1, 0}, {3, 0, 0, 0}, /* [7] an older log */
        {2, 5, 1, 0},                             /* not above our term */
    };
    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct rig *g = follower(3);
        uint64_t term = 0;
        past_stickiness(g);
        ask(g, RAFT_MSG_PREVOTE, 2, t[i].term, t[i].index, t[i].log_term);
        assert_int_equal(answer(g, RAFT_MSG_PREVOTE_RESP, 2, &term), t[i].granted);
        assert_int_equal(term, t[i].granted ? t[i].term : 2); /* [5] */
        assert_int_equal(RIG_TERM(g), 2);
        assert_false(g->flags & RAFT_UP_HARD);
        rig_free(g);
    }
}

static void test_prevote_and_vote_apply_the_same_test(void **state)
{
    (void)state;
    for (uint64_t index = 0; index <= 7; index++) {
        for (uint64_t log_term = index ? 1 : 0; log_term <= (index ? 3 : 0); log_term++) {
            struct rig *g = follower(3), *h = follower(3);
            past_stickiness(g);
            past_stickiness(h);
            ask(g, RAFT_MSG_PREVOTE, 2, 5, index, log_term);
            ask(h, RAFT_MSG_VOTE, 2, 5, index, log_term);
            assert_int_equal(answer(g, RAFT_MSG_PREVOTE_RESP, 2, NULL), answer(h, RAFT_MSG_VOTE_RESP, 2, NULL));
            rig_free(g);
            rig_free(h);
        }
    }
}

static void test_whoever_is_behind_learns_the_term(void **state)
{
    struct rig *g = follower(3);
    uint64_t term = 0;
    (void)state;
    past_stickiness(g);
    ask(g, RAFT_MSG_VOTE, 2, 1, 0, 0);
    assert_int_equal(answer(g, RAFT_MSG_VOTE_RESP, 2, &term), 0);
    assert_int_equal(term, 2);
    ask(g, RAFT_MSG_PREVOTE, 3, 1, 0, 0);
    assert_int_equal(answer(g, RAFT_MSG_PREVOTE_RESP, 3, &term), 0);
    assert_int_equal(term, 2);
    rig_append(g, 2, 1, 0, 0, 0, 0, 0); /* [6] a leader of a lower term */
    const struct raft_msg *m = rig_take(g, RAFT_MSG_APPEND_RESP, 2);
    assert_non_null(m);
    assert_true(m->reject && m->term == 2);
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_SNAPSHOT, .from = 3, .term = 1, .index = 7, .log_term = 1});
    m = rig_take(g, RAFT_MSG_APPEND_RESP, 3);
    assert_true(m && m->reject && m->term == 2);
    /* And each kind of refusal is taken to heart. */
    static const uint8_t kinds[] = {RAFT_MSG_PREVOTE_RESP, RAFT_MSG_VOTE_RESP, RAFT_MSG_APPEND_RESP};
    for (uint64_t i = 0; i < 3; i++) {
        while (RIG_ROLE(g) == RAFT_FOLLOWER) rig_run(g, 10 * RIG_MS);
        rig_msg(g, (struct raft_msg){.type = kinds[i], .from = 2, .term = 5 + i, .reject = true});
        assert_int_equal(RIG_TERM(g), 5 + i);
        assert_int_equal(RIG_ROLE(g), RAFT_FOLLOWER);
        assert_int_equal(g->hard.term, 5 + i);
    }
    rig_free(g);
}

static void test_one_durable_vote_a_term(void **state)
{
    struct rig *g = follower(3);
    (void)state;
    past_stickiness(g);
    g->hold_hard = true;
    ask(g, RAFT_MSG_VOTE, 2, 3, 5, 2);
    assert_int_equal(answer(g, RAFT_MSG_VOTE_RESP, 2, NULL), -1); /* [19] held back */
    assert_int_equal(g->hard.vote, 2);
    ask(g, RAFT_MSG_VOTE, 3, 3, 5, 2);
    assert_int_equal(answer(g, RAFT_MSG_VOTE_RESP, 3, NULL), 0);
    ask(g, RAFT_MSG_VOTE, 2, 3, 5, 2);
    assert_int_equal(answer(g, RAFT_MSG_VOTE_RESP, 2, NULL), -1);
    rig_hard_durable(g);
    assert_int_equal(answer(g, RAFT_MSG_VOTE_RESP, 2, NULL), 1);
    ask(g, RAFT_MSG_VOTE, 2, 3, 5, 2); /* asked again: answered again, at once */
    assert_int_equal(answer(g, RAFT_MSG_VOTE_RESP, 2, NULL), 1);
    assert_int_equal(rig_count(g, RAFT_MSG_VOTE_RESP, 0), 0);
    /* A vote overtaken by a newer term is never sent. */
    ask(g, RAFT_MSG_VOTE, 3, 4, 5, 2);
    struct raft_hard old = g->hard;
    ask(g, RAFT_MSG_VOTE, 2, 5, 5, 2);
    rig_step(g, (struct raft_event){.kind = RAFT_EV_HARD_PERSISTED, .hard = old});
    assert_int_equal(g->nbox, 0);
    rig_hard_durable(g);
    assert_int_equal(answer(g, RAFT_MSG_VOTE_RESP, 2, NULL), 1);
    assert_int_equal(g->nbox, 0);
    rig_free(g);
}

static void test_vote_survives_restart(void **state)
{
    struct raft_recovered from = {.hard = {7, 3, RAFT_VOTER}, .first = 1};
    struct rig *g = rig_new_from(3, &from);
    (void)state;
    rig_start(g);
    past_stickiness(g);
    ask(g, RAFT_MSG_VOTE, 2, 7, 0, 0);
    assert_int_equal(answer(g, RAFT_MSG_VOTE_RESP, 2, NULL), 0);
    ask(g, RAFT_MSG_VOTE, 3, 7, 0, 0);
    assert_int_equal(answer(g, RAFT_MSG_VOTE_RESP, 3, NULL), 1);
    rig_free(g);
}

static void test_term_of_the_log_counts_as_seen(void **state)
{
    struct rig *g = rig_new(3, 1, runs_2, 2, 5); /* entries of term 2 were durable before the term was */
    (void)state;
    rig_start(g);
    assert_int_equal(RIG_TERM(g), 2);
    assert_true(g->flags & RAFT_UP_HARD);
    rig_free(g);
}

/* ---- stickiness ------------------------------------------------------------------------------------------ */

static void expect_sticky(struct rig *g, bool sticky)
{
    uint64_t term = RIG_TERM(g);
    rig_clear(g);
    ask(g, RAFT_MSG_PREVOTE, 3, term + 5, 50, term);
    assert_int_equal(answer(g, RAFT_MSG_PREVOTE_RESP, 3, NULL), !sticky);
    ask(g, RAFT_MSG_VOTE, 3, term + 5, 50, term);
    assert_int_equal(answer(g, RAFT_MSG_VOTE_RESP, 3, NULL), !sticky);
    assert_int_equal(RIG_TERM(g), sticky ? term : term + 5);
}

static void test_heard_leader_protects(void **state)
{
    struct rig *g = follower(3);
    (void)state;
    past_stickiness(g);
    rig_append(g, 2, 3, 5, 2, 0, 0, 0);
    expect_sticky(g, true);
    rig_tick(g, 299 * RIG_MS);
    expect_sticky(g, true);
    rig_append(g, 2, 3, 5, 2, 0, 0, 0);
    rig_tick(g, 299 * RIG_MS);
    expect_sticky(g, true);
    rig_tick(g, 2 * RIG_MS);
    expect_sticky(g, false);
    rig_free(g);
}

static void test_transfer_is_exempt(void **state)
{
    struct rig *g = follower(3);
    (void)state;
    rig_append(g, 2, 3, 5, 2, 0, 0, 0);
    rig_msg(
        g, (struct raft_msg){.type = RAFT_MSG_VOTE, .from = 3, .term = 4, .index = 5, .log_term = 2, .transfer = true});
    assert_int_equal(answer(g, RAFT_MSG_VOTE_RESP, 3, NULL), 1);
    rig_free(g);
}

static void test_leader_is_sticky_itself(void **state)
{
    struct rig *g = follower(3);
    (void)state;
    rig_elect(g, 1);
    expect_sticky(g, true);
    assert_int_equal(RIG_ROLE(g), RAFT_LEADER);
    rig_free(g);
}

/* A lease may count on a node that has restarted since. */
static void test_restart_protects(void **state)
{
    struct rig *g = rig_new(3, 2, runs_2, 2, 5), *fresh = rig_new(3, 0, NULL, 0, 0);
    (void)state;
    rig_start(g);
    expect_sticky(g, true);
    rig_tick(g, 149 * RIG_MS);
    expect_sticky(g, true);
    rig_tick(g, 2 * RIG_MS);
    expect_sticky(g, false);
    rig_start(fresh);
    ask(fresh, RAFT_MSG_PREVOTE, 3, 1, 0, 0); /* there never was a leader */
    assert_int_equal(answer(fresh, RAFT_MSG_PREVOTE_RESP, 3, NULL), 1);
    rig_free(g);
    rig_free(fresh);
}

static struct rig *following(bool lease)
{
    struct rig *g = follower(3);
    g->config.lease_reads = lease; /* of the leader whose messages the rig makes */
    past_stickiness(g);
    rig_append(g, 2, 3, 5, 2, 0, 0, 0);
    rig_clear(g);
    return g;
}

static void test_broken_connection_to_leader(void **state)
{
    (void)state;
    struct rig *g = following(false);
    uint64_t down = g->now;
    rig_peer(g, 3, false); /* not the leader's */
    assert_true(g->up.deadline >= down + 300 * RIG_MS);
    rig_peer(g, 3, true);
    rig_peer(g, 2, false);
    while (RIG_ROLE(g) == RAFT_FOLLOWER) rig_run(g, RIG_MS);
    assert_in_range(g->now - down, 0, 20 * RIG_MS);
    rig_free(g);

    g = following(false);
    rig_peer(g, 2, false); /* others see it, too, and let go */
    expect_sticky(g, false);
    rig_free(g);

    g = following(true); /* with a lease out, only when it must be over */
    down = g->now;
    rig_peer(g, 2, false);
    expect_sticky(g, true);
    rig_tick(g, 149 * RIG_MS);
    expect_sticky(g, true);
    while (RIG_ROLE(g) == RAFT_FOLLOWER) rig_run(g, RIG_MS);
    assert_in_range(g->now - down, 150 * RIG_MS, 170 * RIG_MS);
    expect_sticky(g, false);
    rig_free(g);

    g = following(false);
    rig_peer(g, 2, false);
    rig_peer(g, 2, true); /* it was the connection only */
    expect_sticky(g, true);
    rig_tick(g, 250 * RIG_MS);
    assert_int_equal(RIG_ROLE(g), RAFT_FOLLOWER);
    rig_free(g);
}

/* ---- losing leadership ----------------------------------------------------------------------------------- */

static void test_check_quorum(void **state)
{
    struct rig *g = follower(5);
    (void)state;
    rig_elect(g, 2);
    for (int i = 0; i < 20; i++) { /* [4] two of four answer: enough */
        rig_run(g, 100 * RIG_MS);
        rig_ack(g, 2, 6, 0);
        rig_ack(g, 5, 6, 0);
    }
    assert_int_equal(RIG_ROLE(g), RAFT_LEADER);
    rig_clear(g);
    rig_read(g, 1);
    for (int i = 0; i < 3; i++) {
        rig_ack(g, 3, 6, 0); /* one is not */
        rig_run(g, 99 * RIG_MS);
    }
    assert_int_equal(RIG_ROLE(g), RAFT_LEADER);
    assert_false(g->flags & RAFT_UP_READS_FAILED);
    rig_run(g, 4 * RIG_MS);
    assert_int_equal(RIG_ROLE(g), RAFT_FOLLOWER);
    assert_int_equal(rig_status(g).leader, 0);
    assert_true(g->flags & RAFT_UP_READS_FAILED);
    assert_true(g->flags & RAFT_UP_ROLE);
    assert_false(rig_propose(g, 1, 10));
    rig_free(g);
}

static void test_deposed_by_higher_term(void **state)
{
    struct rig *g = follower(3);
    (void)state;
    rig_elect(g, 1);
    rig_clear(g);
    rig_append(g, 2, 9, 5, 2, 0, 0, 0);
    assert_int_equal(RIG_ROLE(g), RAFT_FOLLOWER);
    assert_int_equal(RIG_TERM(g), 9);
    assert_int_equal(rig_status(g).leader, 2);
    assert_int_equal(g->last, 6); /* [21] its own entry stays until there is a conflict */
    rig_append(g, 2, 9, 5, 2, 1, 9, 0);
    assert_int_equal(g->last, 6);
    assert_int_equal(g->log[6].term, 9);
    rig_free(g);
}

static void test_two_leaders_in_a_term_are_nonsense(void **state)
{
    struct rig *g = follower(3);
    (void)state;
    rig_append(g, 2, 3, 5, 2, 0, 0, 0);
    rig_append(g, 3, 3, 5, 2, 0, 0, 0);
    assert_int_equal(RIG_DROPPED(g), 1);
    assert_int_equal(rig_status(g).leader, 2);
    rig_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prevote_changes_nothing),
        cmocka_unit_test(test_election),
        cmocka_unit_test(test_requests_are_repeated),
        cmocka_unit_test(test_late_votes_count),
        cmocka_unit_test(test_votes_of_other_terms_count_for_nothing),
        cmocka_unit_test(test_broken_connection_forgets_votes),
        cmocka_unit_test(test_of_two_pre_candidates_one_yields),
        cmocka_unit_test(test_single_member),
        cmocka_unit_test(test_prevote_answers),
        cmocka_unit_test(test_prevote_and_vote_apply_the_same_test),
        cmocka_unit_test(test_whoever_is_behind_learns_the_term),
        cmocka_unit_test(test_one_durable_vote_a_term),
        cmocka_unit_test(test_vote_survives_restart),
        cmocka_unit_test(test_term_of_the_log_counts_as_seen),
        cmocka_unit_test(test_heard_leader_protects),
        cmocka_unit_test(test_transfer_is_exempt),
        cmocka_unit_test(test_leader_is_sticky_itself),
        cmocka_unit_test(test_restart_protects),
        cmocka_unit_test(test_broken_connection_to_leader),
        cmocka_unit_test(test_check_quorum),
        cmocka_unit_test(test_deposed_by_higher_term),
        cmocka_unit_test(test_two_leaders_in_a_term_are_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
