/* Changes of the configuration, one rule a test [1, 2, 3 of the known bugs], and a leader whose disk hangs. */
#include "core_rig.h"

/* A leader of term 1 among n voters, its no-op (index 1) committed. */
static struct rig *leader(uint32_t n)
{
    struct rig *g = rig_new(n, 0, NULL, 0, 0);
    rig_start(g);
    rig_elect(g, n - 1);
    for (uint64_t p = 2; p <= n; p++) rig_ack(g, p, 1, rig_round(g, p));
    assert_int_equal(RIG_COMMIT(g), 1);
    rig_clear(g);
    return g;
}

static struct raft_members now_of(const struct rig *g) { return *raft_members_now(g->r); }

static enum raft_verdict change(struct rig *g, const struct raft_members *want)
{
    uint64_t last = g->last;
    struct raft_event ev = {.kind = RAFT_EV_MEMBERS, .now = g->now, .members = want};
    raft_step(g->r, &ev, &g->up);
    enum raft_verdict v = g->up.verdict;
    rig_absorb(g, &ev);
    assert_int_equal(v == RAFT_CHANGE_TAKEN, g->last == last + 1);
    assert_null(raft_invariant(g->r));
    rig_durable(g);
    return v;
}

static void ack_all(struct rig *g, uint64_t first, uint64_t last)
{
    for (uint64_t p = first; p <= last; p++) rig_ack(g, p, g->last, rig_round(g, p));
}

static void add_learner_silently(struct rig *g, uint64_t id)
{
    struct raft_members want = now_of(g);
    raft_members_add(&want, id, "", RAFT_LEARNER);
    assert_int_equal(change(g, &want), RAFT_CHANGE_TAKEN);
}

/* Adds learner `id`, which has everything. */
static void add_learner(struct rig *g, uint64_t id)
{
    add_learner_silently(g, id);
    ack_all(g, 2, id);
    assert_int_equal(RIG_COMMIT(g), g->last);
}

static enum raft_verdict promote(struct rig *g, uint64_t id)
{
    struct raft_members want = now_of(g);
    int at = raft_members_find(&want, id);
    want.seat[at] = want.next[at] = RAFT_VOTING;
    return change(g, &want);
}

static enum raft_verdict drop(struct rig *g, uint64_t id)
{
    struct raft_members want = now_of(g);
    raft_members_drop(&want, id);
    return change(g, &want);
}

static void test_learner_counts_for_nothing(void **state)
{
    struct rig *g = leader(3);
    (void)state;
    struct raft_members want = now_of(g);
    raft_members_add(&want, 4, "", RAFT_LEARNER);
    assert_int_equal(change(g, &want), RAFT_CHANGE_TAKEN);
    assert_false(now_of(g).joint); /* no voter changes: one entry */
    assert_true(rig_count(g, RAFT_MSG_APPEND, 4) > 0);
    rig_ack(g, 4, g->last, rig_round(g, 4));
    assert_int_equal(RIG_COMMIT(g), 1); /* leader and learner are no majority */
    rig_ack(g, 2, g->last, rig_round(g, 2));
    assert_int_equal(RIG_COMMIT(g), 2);
    rig_clear(g);
    rig_run(g, 250 * RIG_MS); /* nor does a learner keep a leader in office */
    rig_ack(g, 4, g->last, rig_round(g, 4));
    rig_run(g, 100 * RIG_MS);
    assert_int_equal(RIG_ROLE(g), RAFT_FOLLOWER);
    rig_free(g);
}

static void test_learner_does_not_campaign_but_votes(void **state)
{
    struct raft_members ms[2] = {{.index = 1}, {.index = 2}};
    (void)state;
    for (int k = 0; k < 2; k++) {
        for (uint64_t id = 2; id <= 4; id++) raft_members_add(&ms[k], id, "", RAFT_VOTING);
        raft_members_add(&ms[k], 1, "", RAFT_LEARNER);
    }
    struct raft_run run = {1, 1};
    struct raft_recovered from = {
        .hard = {1, 0, RAFT_VOTER}, .first = 1, .last = 5, .runs = &run, .nruns = 1, .members = ms, .nmembers = 2};
    struct rig *g = rig_new_from(3, &from);
    rig_start(g);
    rig_run(g, 5 * NS_PER_S);
    assert_int_equal(RIG_ROLE(g), RAFT_FOLLOWER);
    assert_int_equal(rig_count(g, RAFT_MSG_PREVOTE, 0), 0);
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_VOTE, .from = 3, .term = 2, .index = 5, .log_term = 1});
    const struct raft_msg *m = rig_take(g, RAFT_MSG_VOTE_RESP, 3);
    assert_true(m && !m->reject); /* it may be a voter by a configuration that it has not got yet */
    rig_free(g);
}

static void test_joint_needs_both_majorities(void **state)
{
    struct rig *g = leader(3);
    (void)state;
    for (uint64_t id = 4; id <= 5; id++) add_learner(g, id);
    struct raft_members want = {0}; /* 1, 4, 5 in place of 1, 2, 3 */
    raft_members_add(&want, 1, "", RAFT_VOTING);
    for (uint64_t id = 4; id <= 5; id++) raft_members_add(&want, id, "", RAFT_VOTING);
    assert_int_equal(change(g, &want), RAFT_CHANGE_TAKEN);
    assert_true(now_of(g).joint);
    uint64_t joint = g->last, before = RIG_COMMIT(g);
    rig_ack(g, 4, joint, rig_round(g, 4));
    rig_ack(g, 5, joint, rig_round(g, 5));
    assert_int_equal(RIG_COMMIT(g), before); /* all of C_new, but not of C_old */
    rig_ack(g, 2, joint, rig_round(g, 2));
    assert_int_equal(RIG_COMMIT(g), joint);
    assert_false(now_of(g).joint); /* C_new follows by itself */
    assert_int_equal(g->last, joint + 1);
    rig_ack(g, 2, joint + 1, rig_round(g, 2));
    rig_ack(g, 3, joint + 1, rig_round(g, 3));
    assert_int_equal(RIG_COMMIT(g), joint); /* these count no more */
    rig_ack(g, 4, joint + 1, rig_round(g, 4));
    assert_int_equal(RIG_COMMIT(g), joint + 1);
    rig_free(g);

    g = leader(3);
    for (uint64_t id = 4; id <= 5; id++) add_learner(g, id);
    assert_int_equal(change(g, &want), RAFT_CHANGE_TAKEN);
    before = RIG_COMMIT(g);
    rig_ack(g, 2, g->last, rig_round(g, 2));
    rig_ack(g, 3, g->last, rig_round(g, 3));
    assert_int_equal(RIG_COMMIT(g), before); /* all of C_old, but not of C_new */
    rig_free(g);
}

/* The election counts as the commit does. Node 1 has the joint entry of {1,2,3} and {1,4,5} and lost its leader. */
static void test_joint_elections(void **state)
{
    struct raft_members ms = {.index = 3, .joint = true};
    (void)state;
    for (uint64_t id = 1; id <= 5; id++) {
        raft_members_add(&ms, id, "", id <= 3 ? RAFT_VOTING : RAFT_LEARNER);
        ms.next[id - 1] = id == 1 || id >= 4 ? RAFT_VOTING : RAFT_NO_SEAT;
    }
    struct raft_run run = {1, 1};
    struct raft_recovered from = {
        .hard = {1, 0, RAFT_VOTER}, .first = 1, .last = 3, .runs = &run, .nruns = 1, .members = &ms, .nmembers = 1};
    struct rig *g = rig_new_from(3, &from);
    rig_start(g);
    for (int i = 0; i < 100 && RIG_ROLE(g) != RAFT_PRE_CANDIDATE; i++) rig_run(g, 50 * RIG_MS);
    for (uint64_t p = 4; p <= 5; p++)
        rig_msg(g, (struct raft_msg){.type = RAFT_MSG_PREVOTE_RESP, .from = p, .term = 2});
    assert_int_equal(RIG_ROLE(g), RAFT_PRE_CANDIDATE); /* no majority of C_old */
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_PREVOTE_RESP, .from = 3, .term = 2});
    assert_int_equal(RIG_ROLE(g), RAFT_CANDIDATE);
    for (uint64_t p = 2; p <= 3; p++) rig_msg(g, (struct raft_msg){.type = RAFT_MSG_VOTE_RESP, .from = p, .term = 2});
    assert_int_equal(RIG_ROLE(g), RAFT_CANDIDATE); /* no majority of C_new */
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_VOTE_RESP, .from = 5, .term = 2});
    assert_int_equal(RIG_ROLE(g), RAFT_LEADER);
    /* The new leader ends the change once its own no-op is committed, not before. */
    assert_true(now_of(g).joint);
    for (uint64_t p = 2; p <= 5; p++) rig_ack(g, p, 3, rig_round(g, p));
    assert_true(now_of(g).joint);
    for (uint64_t p = 2; p <= 5; p++) rig_ack(g, p, 4, rig_round(g, p));
    assert_false(now_of(g).joint);
    rig_free(g);
}

static void test_one_change_at_a_time_after_the_noop(void **state)
{
    struct rig *g = rig_new(3, 0, NULL, 0, 0);
    (void)state;
    rig_start(g);
    struct raft_members want = now_of(g);
    raft_members_add(&want, 4, "", RAFT_LEARNER);
    assert_int_equal(change(g, &want), RAFT_CHANGE_NOT_LEADER);
    rig_elect(g, 2);
    assert_int_equal(change(g, &want), RAFT_CHANGE_TOO_EARLY); /* [1]: no entry of its own is committed */
    rig_ack(g, 2, 1, rig_round(g, 2));
    rig_ack(g, 3, 1, rig_round(g, 3));
    assert_int_equal(change(g, &want), RAFT_CHANGE_TAKEN);
    raft_members_add(&want, 5, "", RAFT_LEARNER);
    assert_int_equal(change(g, &want), RAFT_CHANGE_PENDING); /* the first is not committed */
    ack_all(g, 2, 4);
    assert_int_equal(promote(g, 4), RAFT_CHANGE_TAKEN);
    assert_int_equal(drop(g, 3), RAFT_CHANGE_PENDING);       /* joint */
    rig_free(g);
}

static void test_what_is_refused(void **state)
{
    struct rig *g = leader(3);
    struct raft_members want = {0};
    (void)state;
    assert_int_equal(change(g, &want), RAFT_CHANGE_NONSENSE); /* nobody votes */
    want = now_of(g);
    assert_int_equal(change(g, &want), RAFT_CHANGE_NOTHING);
    raft_members_add(&want, 4, "", RAFT_VOTING);
    assert_int_equal(change(g, &want), RAFT_CHANGE_STRANGER);
    assert_int_equal(g->up.verdict_id, 4);
    want = now_of(g);
    want.seat[1] = RAFT_LEARNER; /* `next` says otherwise */
    assert_int_equal(change(g, &want), RAFT_CHANGE_NONSENSE);
    want = now_of(g);
    while (want.n < RAFT_PEERS_MAX) raft_members_add(&want, 10 + want.n, "", RAFT_LEARNER);
    assert_int_equal(change(g, &want), RAFT_CHANGE_TAKEN);
    ack_all(g, 2, 3);
    want = now_of(g); /* all seats are taken, and a voter goes: the two together are too many */
    raft_members_drop(&want, 2);
    raft_members_add(&want, 30, "", RAFT_LEARNER);
    assert_int_equal(change(g, &want), RAFT_CHANGE_NONSENSE);
    rig_free(g);
}

static void test_promotion_wants_a_learner_that_has_caught_up(void **state)
{
    struct rig *g = leader(3);
    (void)state;
    struct raft_members want = now_of(g);
    raft_members_add(&want, 4, "", RAFT_LEARNER);
    assert_int_equal(change(g, &want), RAFT_CHANGE_TAKEN);
    ack_all(g, 2, 3);
    assert_int_equal(promote(g, 4), RAFT_CHANGE_LAGS); /* [2]: it never said what it has */
    rig_ack(g, 4, 1, rig_round(g, 4));
    rig_propose(g, 100, 100);                          /* 10,000 bytes; the window is 4,000 */
    ack_all(g, 2, 3);
    assert_int_equal(promote(g, 4), RAFT_CHANGE_LAGS);
    assert_int_equal(g->up.verdict_id, 4);
    rig_ack(g, 4, g->last - 41, rig_round(g, 4));
    assert_int_equal(promote(g, 4), RAFT_CHANGE_LAGS);
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_APPEND_RESP,
                                 .from = 4,
                                 .term = RIG_TERM(g),
                                 .index = g->last,
                                 .last = g->last,
                                 .round = rig_round(g, 4),
                                 .fenced = true});
    assert_int_equal(promote(g, 4), RAFT_CHANGE_LAGS); /* it may not vote: it would only be missing */
    rig_ack(g, 4, g->last - 40, rig_round(g, 4));
    assert_int_equal(promote(g, 4), RAFT_CHANGE_TAKEN);
    rig_free(g);
}

/* Removed, its directory emptied, added again under its number: what it had said before counts for nothing, also what
 * arrives late. (It was promoted with an empty disk, and nobody could be elected any more: seed 4394 of the swarm.) */
static void begins_anew(bool forgotten)
{
    struct rig *g = leader(3);
    ack_all(g, 2, 3);
    uint64_t before = rig_round(g, 3), had = g->last;
    assert_int_equal(drop(g, 3), RAFT_CHANGE_TAKEN);
    for (unsigned i = 0; i < 3; i++) { /* it has left, and is yet to learn that this is committed */
        rig_ack(g, 2, g->last, rig_round(g, 2));
        rig_durable(g);
    }
    if (forgotten) rig_peer(g, 3, false); /* nor need it be told any more */
    rig_tick(g, 1);
    assert_int_equal(rig_status(g).npeers, forgotten ? 2 : 3);
    add_learner_silently(g, 3);
    rig_ack(g, 2, g->last, rig_round(g, 2));
    assert_int_equal(promote(g, 3), RAFT_CHANGE_LAGS);
    rig_ack(g, 3, had, before);
    assert_int_equal(promote(g, 3), RAFT_CHANGE_LAGS);
    rig_ack(g, 3, g->last, rig_round(g, 3));
    assert_int_equal(promote(g, 3), RAFT_CHANGE_TAKEN);
    rig_free(g);
}

static void test_who_comes_back_begins_anew(void **state)
{
    begins_anew(false);
    begins_anew(true);
}

static void test_a_change_that_loses_quorum_is_refused(void **state)
{
    struct rig *g = leader(3);
    (void)state;
    rig_peer(g, 3, false);
    assert_int_equal(drop(g, 2), RAFT_CHANGE_NO_QUORUM); /* {1, 3}, and 3 is gone */
    assert_int_equal(g->up.verdict_id, 3);
    assert_int_equal(drop(g, 3), RAFT_CHANGE_TAKEN);     /* {1, 2} */
    rig_free(g);
    g = leader(3);
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_APPEND_RESP, .from = 3, .term = 1, .index = 1, .last = 1, .fenced = true});
    assert_int_equal(drop(g, 2), RAFT_CHANGE_NO_QUORUM); /* 3 answers, but may not vote */
    rig_free(g);
}

static void config_append(struct rig *g, uint64_t from, uint64_t term, uint64_t prev, uint64_t prev_term, uint64_t eterm,
                          struct raft_members ms, uint64_t commit)
{
    struct raft_entry_meta e = {eterm, RAFT_CONFIG, 50};
    ms.index = prev + 1;
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_APPEND,
                                 .from = from,
                                 .term = term,
                                 .index = prev,
                                 .log_term = prev_term,
                                 .n = 1,
                                 .entries = &e,
                                 .members = &ms,
                                 .nmembers = 1,
                                 .commit = commit,
                                 .last = prev + 1,
                                 .round = g->now});
}

/* [3] A follower takes a configuration when it is appended and gives it back when its entry goes, again and again. */
static void test_rollback(void **state)
{
    struct raft_run run = {1, 1};
    struct rig *g = rig_new(3, 1, &run, 1, 3);
    struct raft_members first = now_of(g), four = first;
    (void)state;
    raft_members_add(&four, 4, "", RAFT_LEARNER);
    rig_start(g);
    config_append(g, 2, 2, 3, 1, 2, four, 0);
    assert_int_equal(now_of(g).n, 4);
    assert_int_equal(now_of(g).index, 4);
    assert_true(g->flags & RAFT_UP_MEMBERS);
    rig_clear(g);
    rig_append(g, 3, 3, 3, 1, 1, 3, 0); /* another leader has another entry there */
    assert_int_equal(now_of(g).n, 3);
    assert_int_equal(now_of(g).index, 0);
    assert_true(g->flags & RAFT_UP_MEMBERS);
    config_append(g, 3, 3, 4, 3, 3, four, 0);
    assert_int_equal(now_of(g).index, 5);
    rig_append(g, 2, 4, 4, 3, 1, 4, 0);
    assert_int_equal(now_of(g).index, 0);
    /* Behind a second configuration the first is committed, though this node was not told: nobody may cut it off. */
    config_append(g, 2, 4, 5, 4, 4, four, 0);
    struct raft_members five = four;
    raft_members_add(&five, 5, "", RAFT_LEARNER);
    config_append(g, 2, 4, 6, 4, 4, five, 0);
    uint64_t dropped = RIG_DROPPED(g);
    rig_append(g, 3, 5, 5, 4, 1, 5, 0);
    assert_int_equal(RIG_DROPPED(g), dropped + 1);
    assert_int_equal(now_of(g).index, 7);
    rig_append(g, 3, 5, 6, 4, 1, 5, 0); /* the second one may go */
    assert_int_equal(now_of(g).index, 6);
    assert_int_equal(now_of(g).n, 4);
    rig_free(g);
}

static void test_recovery_and_snapshots(void **state)
{
    struct raft_members ms[3] = {0};
    struct raft_run run = {1, 1};
    (void)state;
    for (uint32_t k = 0; k < 3; k++) {
        for (uint64_t id = 1; id <= 3 + k; id++) raft_members_add(&ms[k], id, "", id <= 3 ? RAFT_VOTING : RAFT_LEARNER);
        ms[k].index = 10 * (k + 1);
    }
    struct raft_recovered from = {.hard = {1, 0, RAFT_VOTER}, .snapshot_index = 15, .snapshot_term = 1, .first = 16,
                                  .last = 35, .runs = &run, .nruns = 1, .members = ms, .nmembers = 3};
    struct rig *g = rig_new_from(2, &from); /* the list of the command line says two: the log's word counts */
    rig_start(g);
    assert_int_equal(now_of(g).index, 30);
    rig_append(g, 2, 2, 29, 1, 1, 2, 0);
    assert_int_equal(now_of(g).index, 20);
    /* A snapshot in place of the log brings its own. */
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_SNAPSHOT, .from = 2, .term = 2, .index = 50, .log_term = 2});
    rig_step(g, (struct raft_event){.kind = RAFT_EV_SNAPSHOT_RECEIVED, .index = 50, .term = 2});
    assert_true(g->flags & RAFT_UP_INSTALL);
    struct raft_members at50 = ms[0];
    at50.index = 44;
    g->last = g->persisted = 50;
    rig_step(g, (struct raft_event){.kind = RAFT_EV_SNAPSHOT_INSTALLED, .index = 50, .term = 2, .members = &at50});
    assert_int_equal(now_of(g).index, 44);
    assert_int_equal(now_of(g).n, 3);
    rig_free(g);
    from.last = 25; /* the tail with the third was torn off */
    g = rig_new_from(2, &from);
    assert_int_equal(now_of(g).index, 20);
    rig_free(g);
}

static void test_a_removed_leader_hands_over(void **state)
{
    struct rig *g = leader(3);
    (void)state;
    assert_int_equal(drop(g, 1), RAFT_CHANGE_TAKEN);
    ack_all(g, 2, 3);
    assert_false(now_of(g).joint);
    assert_int_equal(RIG_ROLE(g), RAFT_LEADER); /* [2] until C_new is committed */
    uint64_t cnew = g->last;
    rig_clear(g);
    rig_ack(g, 2, cnew, rig_round(g, 2));
    assert_int_equal(RIG_COMMIT(g), cnew - 1); /* it does not count itself */
    rig_ack(g, 3, cnew, rig_round(g, 3));
    assert_int_equal(RIG_COMMIT(g), cnew);
    assert_int_equal(RIG_ROLE(g), RAFT_FOLLOWER);
    assert_int_equal(rig_count(g, RAFT_MSG_TIMEOUT_NOW, 0), 1);
    assert_false(raft_lease_valid(g->r, g->now));
    rig_clear(g);
    rig_run(g, 5 * NS_PER_S);
    assert_int_equal(rig_count(g, RAFT_MSG_PREVOTE, 0), 0); /* and it keeps still */
    rig_free(g);
}

/* Thesis, figure 4.6: only the node that C_new removes has C_new, so only it can get it committed. */
static void test_a_removed_node_may_have_to_lead(void **state)
{
    struct raft_members ms[2] = {{.index = 2}, {.index = 3}};
    struct raft_run run = {1, 1};
    (void)state;
    for (uint64_t id = 1; id <= 2; id++) raft_members_add(&ms[0], id, "", RAFT_VOTING);
    ms[0].joint = true;
    ms[0].next[0] = RAFT_NO_SEAT;
    raft_members_add(&ms[1], 2, "", RAFT_VOTING);
    struct raft_recovered from = {
        .hard = {1, 1, RAFT_VOTER}, .first = 1, .last = 3, .runs = &run, .nruns = 1, .members = ms, .nmembers = 2};
    struct rig *g = rig_new_from(2, &from);
    rig_start(g);
    rig_elect(g, 1);
    rig_ack(g, 2, g->last, rig_round(g, 2));
    assert_int_equal(RIG_ROLE(g), RAFT_FOLLOWER); /* committed: its work is done */
    assert_int_equal(RIG_COMMIT(g), g->last);
    rig_free(g);
}

static void test_who_leaves_is_told(void **state)
{
    struct rig *g = leader(3);
    (void)state;
    assert_int_equal(drop(g, 3), RAFT_CHANGE_TAKEN);
    rig_ack(g, 2, g->last, rig_round(g, 2));
    rig_clear(g);
    rig_ack(g, 2, g->last, rig_round(g, 2)); /* C_new, committed */
    rig_ack(g, 3, g->last - 1, rig_round(g, 3));
    rig_run(g, 110 * RIG_MS);
    const struct raft_msg *m = rig_take(g, RAFT_MSG_APPEND, 3);
    assert_true(m && m->last == g->last); /* the entry that removes it, and that it is committed */
    rig_ack(g, 2, g->last, rig_round(g, 2));
    rig_ack(g, 3, g->last, rig_round(g, 3));
    rig_run(g, 110 * RIG_MS);
    rig_ack(g, 2, g->last, rig_round(g, 2));
    rig_clear(g);
    rig_run(g, 210 * RIG_MS);
    assert_int_equal(rig_count(g, RAFT_MSG_APPEND, 3), 0); /* it knows */
    rig_free(g);
}

/* A removed server that does not know it asks for votes for ever: nobody is disturbed. */
static void test_a_removed_server_does_not_disrupt(void **state)
{
    struct raft_run run = {1, 1};
    struct rig *g = rig_new(3, 1, &run, 1, 3);
    (void)state;
    rig_start(g);
    rig_append(g, 2, 1, 3, 1, 1, 1, 3); /* a leader is there */
    rig_clear(g);
    for (uint64_t term = 2; term < 8; term++) {
        rig_msg(g, (struct raft_msg){.type = RAFT_MSG_PREVOTE, .from = 9, .term = term, .index = 90, .log_term = 1});
        rig_msg(g, (struct raft_msg){.type = RAFT_MSG_VOTE, .from = 9, .term = term, .index = 90, .log_term = 1});
    }
    assert_int_equal(RIG_TERM(g), 1);
    assert_int_equal(rig_status(g).leader, 2);
    for (const struct raft_msg *m; (m = rig_take(g, RAFT_MSG_PREVOTE_RESP, 9));) assert_true(m->reject);
    for (const struct raft_msg *m; (m = rig_take(g, RAFT_MSG_VOTE_RESP, 9));) assert_true(m->reject);
    rig_free(g);
    g = leader(3);
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_VOTE, .from = 9, .term = 7, .index = 90, .log_term = 1});
    assert_int_equal(RIG_ROLE(g), RAFT_LEADER);
    rig_free(g);
}

static void test_a_joining_node_waits(void **state)
{
    struct raft_recovered from = {.hard = {0, 0, RAFT_UNFORMED}, .first = 1};
    struct raft_members ms = {0};
    (void)state;
    struct rig *g = rig_new_id(4, 0, &from);
    rig_start(g);
    rig_run(g, 10 * NS_PER_S);
    assert_int_equal(g->nbox, 0);
    assert_int_equal(rig_status(g).standing, RAFT_UNFORMED); /* alone, but it forms nothing */
    for (uint64_t id = 1; id <= 3; id++) raft_members_add(&ms, id, "", RAFT_VOTING);
    raft_members_add(&ms, 4, "", RAFT_LEARNER);
    config_append(g, 2, 5, 0, 0, 5, ms, 0); /* a leader it has never heard of */
    assert_int_equal(rig_status(g).standing, RAFT_FENCED);
    assert_int_equal(now_of(g).n, 4);
    const struct raft_msg *m = rig_take(g, RAFT_MSG_APPEND_RESP, 2);
    assert_true(m && !m->reject && m->index == 1 && m->fenced);
    rig_run(g, 110 * RIG_MS);
    m = rig_take(g, RAFT_MSG_PROBE, 2); /* it asks what it has to have */
    assert_non_null(m);
    rig_msg(g, (struct raft_msg){
                   .type = RAFT_MSG_PROBE_RESP, .from = 2, .reject = true, .term = 5, .last = 2, .round = m->round});
    assert_int_equal(rig_status(g).standing, RAFT_FENCED);
    rig_append(g, 2, 5, 1, 5, 1, 5, 0);
    assert_int_equal(rig_status(g).standing, RAFT_VOTER);
    assert_false(rig_status(g).voter); /* it may vote, and has no vote */
    rig_free(g);
}

/* A node that lost its disk and starts with an old list asks the leader of the configuration that it is told. */
static void test_fenced_with_a_stale_list(void **state)
{
    struct raft_recovered from = {.hard = {0, 0, RAFT_UNFORMED}, .first = 1};
    struct raft_members ms = {0};
    (void)state;
    struct rig *g = rig_new_from(3, &from); /* 1, 2, 3; today 1, 4, 5 */
    rig_start(g);
    const struct raft_msg *m = rig_take(g, RAFT_MSG_PROBE, 2);
    uint64_t nonce = m->round;
    for (uint64_t p = 2; p <= 3; p++)
        rig_msg(g, (struct raft_msg){.type = RAFT_MSG_PROBE_RESP, .from = p, .reject = true, .term = 5, .round = nonce});
    assert_int_equal(RIG_TERM(g), 5);
    raft_members_add(&ms, 1, "", RAFT_VOTING);
    for (uint64_t id = 4; id <= 5; id++) raft_members_add(&ms, id, "", RAFT_VOTING);
    config_append(g, 5, 8, 0, 0, 8, ms, 0); /* a leader of term 8; term 9 has begun elsewhere */
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_APPEND, .from = 5, .term = 8, .index = 1, .log_term = 8, .last = 1,
                                 .round = g->now + 1});
    rig_clear(g);
    rig_run(g, 110 * RIG_MS);
    assert_true(rig_count(g, RAFT_MSG_PROBE, 5) > 0);
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_PROBE_RESP, .from = 4, .reject = true, .term = 9, .round = nonce});
    assert_int_equal(RIG_TERM(g), 9); /* a late answer: it does not follow the old leader into voting */
    rig_msg(g, (struct raft_msg){
                   .type = RAFT_MSG_PROBE_RESP, .from = 5, .reject = true, .term = 8, .last = 1, .round = nonce});
    assert_int_equal(rig_status(g).standing, RAFT_FENCED);
    rig_free(g);
}

static void test_a_hanging_disk_makes_the_leader_step_down(void **state)
{
    struct rig *g = leader(3);
    (void)state;
    g->hold_log = g->hold_hard = true;
    rig_propose(g, 1, 10);
    rig_ack(g, 2, g->last, rig_round(g, 2));
    rig_ack(g, 3, g->last, rig_round(g, 3));
    assert_int_equal(RIG_COMMIT(g), g->last); /* without its own disk */
    for (int i = 0; i < 5; i++) {
        rig_run(g, 100 * RIG_MS);
        assert_int_equal(RIG_ROLE(g), RAFT_LEADER);
        for (uint64_t p = 2; p <= 3; p++) rig_ack(g, p, g->last, rig_round(g, p));
    }
    rig_clear(g);
    rig_run(g, 150 * RIG_MS); /* two election timeouts after the commit */
    assert_int_equal(RIG_ROLE(g), RAFT_FOLLOWER);
    assert_int_equal(rig_count(g, RAFT_MSG_TIMEOUT_NOW, 0), 1);
    rig_clear(g);
    rig_run(g, 10 * NS_PER_S);
    assert_int_equal(RIG_ROLE(g), RAFT_FOLLOWER); /* it does not even ask while the disk hangs */
    assert_int_equal(rig_count(g, RAFT_MSG_PREVOTE, 0), 0);
    g->hold_log = g->hold_hard = false;
    rig_durable(g);
    rig_run(g, 2 * NS_PER_S);
    assert_int_equal(RIG_ROLE(g), RAFT_PRE_CANDIDATE);
    rig_free(g);
}

static void test_a_slow_disk_of_all_is_no_reason(void **state)
{
    struct rig *g = leader(3);
    (void)state;
    g->hold_log = true;
    rig_propose(g, 1, 10);
    for (int i = 0; i < 30; i++) { /* nobody else has it either */
        rig_run(g, 100 * RIG_MS);
        for (uint64_t p = 2; p <= 3; p++) rig_ack(g, p, 1, rig_round(g, p));
    }
    assert_int_equal(RIG_ROLE(g), RAFT_LEADER);
    rig_free(g);
}

static void test_bytes(void **state)
{
    struct raft_members ms = {.joint = true}, back;
    struct buf b = {0};
    uint64_t cluster;
    (void)state;
    raft_members_add(&ms, 1, "unix:/a", RAFT_VOTING);
    raft_members_add(&ms, 7, "host:70", RAFT_LEARNER);
    ms.next[1] = RAFT_VOTING;
    ms.told[1] = true;
    raft_members_encode(&ms, 0x1235, &b);
    assert_int_equal(raft_members_decode(buf_slice(&b), &cluster, &back), 0);
    assert_int_equal(cluster, 0x1235);
    assert_true(back.joint && back.n == 2 && back.told[1] && !back.told[0] && back.next[1] == RAFT_VOTING);
    assert_string_equal(back.m[1].addr, "host:70");
    for (size_t n = 0; n < b.n; n++) /* 8 bytes are the first version's */
        assert_int_equal(raft_members_decode(slice_of(b.p, n), &cluster, &back), n == 8 ? 0 : QE_FRAME);
    for (size_t i = 8; i < b.n; i++) { /* whatever a byte is changed to: no crash, and nothing senseless comes out */
        for (unsigned v = 0; v < 256; v++) {
            uint8_t keep = b.p[i];
            b.p[i] = (uint8_t)v;
            if (raft_members_decode(buf_slice(&b), &cluster, &back) == 0) assert_null(raft_members_nonsense(&back));
            b.p[i] = keep;
        }
    }
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learner_counts_for_nothing),
        cmocka_unit_test(test_learner_does_not_campaign_but_votes),
        cmocka_unit_test(test_joint_needs_both_majorities),
        cmocka_unit_test(test_joint_elections),
        cmocka_unit_test(test_one_change_at_a_time_after_the_noop),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_promotion_wants_a_learner_that_has_caught_up),
        cmocka_unit_test(test_who_comes_back_begins_anew),
        cmocka_unit_test(test_a_change_that_loses_quorum_is_refused),
        cmocka_unit_test(test_rollback),
        cmocka_unit_test(test_recovery_and_snapshots),
        cmocka_unit_test(test_a_removed_leader_hands_over),
        cmocka_unit_test(test_a_removed_node_may_have_to_lead),
        cmocka_unit_test(test_who_leaves_is_told),
        cmocka_unit_test(test_a_removed_server_does_not_disrupt),
        cmocka_unit_test(test_a_joining_node_waits),
        cmocka_unit_test(test_fenced_with_a_stale_list),
        cmocka_unit_test(test_a_hanging_disk_makes_the_leader_step_down),
        cmocka_unit_test(test_a_slow_disk_of_all_is_no_reason),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
