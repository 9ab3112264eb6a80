/* Standing, one rule a test: how a cluster forms, and how a node that lost its disk comes back without ever voting on
 * forgotten promises [18 of the known bugs]. */
#include "core_rig.h"

static struct rig *node(uint32_t n, enum raft_standing standing)
{
    struct raft_recovered from = {.hard = {0, 0, standing}, .first = 1};
    struct rig *g = rig_new_from(n, &from);
    rig_start(g);
    return g;
}

static uint64_t nonce(struct rig *g)
{
    uint64_t round = 0;
    for (uint32_t i = 0; i < g->nbox; i++)
        if (g->box[i].type == RAFT_MSG_PROBE) round = g->box[i].round;
    return round;
}

static void answer(struct rig *g, uint64_t from, bool empty, uint64_t term, uint64_t round)
{
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_PROBE_RESP,
                                 .from = from,
                                 .reject = !empty,
                                 .term = term,
                                 .round = round,
                                 .fenced = empty});
}

/* A leader of `term` whose log ends at `last` sends n entries behind prev. */
static void append(struct rig *g, uint64_t from, uint64_t term, uint64_t prev, uint32_t n, uint64_t last)
{
    struct raft_entry_meta e[64];
    for (uint32_t i = 0; i < n; i++) e[i] = (struct raft_entry_meta){term, RAFT_COMMAND, 10};
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_APPEND,
                                 .from = from,
                                 .term = term,
                                 .index = prev,
                                 .log_term = prev ? term : 0,
                                 .n = n,
                                 .entries = n ? e : NULL,
                                 .last = last,
                                 .round = g->now});
}

static void expect_no_vote(struct rig *g)
{
    uint64_t term = RIG_TERM(g);
    rig_tick(g, 700 * RIG_MS);
    assert_int_equal(RIG_ROLE(g), RAFT_FOLLOWER);
    rig_clear(g);
    rig_msg(g, (struct raft_msg){
                   .type = RAFT_MSG_PREVOTE, .from = 2, .term = term + 1, .index = term ? 90 : 0, .log_term = term});
    const struct raft_msg *m = rig_take(g, RAFT_MSG_PREVOTE_RESP, 2);
    assert_true(m && m->reject && m->fenced);
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_VOTE,
                                 .from = 2,
                                 .term = term + 1,
                                 .index = term ? 90 : 0,
                                 .log_term = term,
                                 .transfer = true});
    m = rig_take(g, RAFT_MSG_VOTE_RESP, 2);
    assert_true(m && m->reject && m->fenced);
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_TIMEOUT_NOW, .from = 2, .term = RIG_TERM(g)});
    assert_int_equal(RIG_ROLE(g), RAFT_FOLLOWER);
}

static void test_new_cluster_forms_when_all_are_empty(void **state)
{
    struct rig *g = node(3, RAFT_UNFORMED);
    (void)state;
    assert_int_equal(rig_count(g, RAFT_MSG_PROBE, 2), 1);
    assert_int_equal(rig_count(g, RAFT_MSG_PROBE, 3), 1);
    uint64_t round = nonce(g);
    answer(g, 2, true, 0, round + 1); /* to a probe of an earlier life */
    answer(g, 3, true, 0, round);
    assert_int_equal(rig_status(g).standing, RAFT_UNFORMED);
    expect_no_vote(g); /* (it asks again meanwhile, the silent one only) */
    rig_clear(g);
    rig_run(g, 110 * RIG_MS);
    assert_true(rig_count(g, RAFT_MSG_PROBE, 2) >= 1);
    assert_int_equal(rig_count(g, RAFT_MSG_PROBE, 3), 0);
    g->hold_hard = true;
    answer(g, 2, true, 0, round);
    assert_int_equal(g->hard.standing, RAFT_VOTER);
    rig_run(g, 2 * NS_PER_S);
    assert_int_equal(RIG_ROLE(g), RAFT_FOLLOWER); /* not before that is durable */
    rig_hard_durable(g);
    rig_run(g, 2 * NS_PER_S);
    assert_int_equal(RIG_ROLE(g), RAFT_PRE_CANDIDATE);
    rig_free(g);
}

static void test_probe_answers(void **state)
{
    static const struct {
        struct raft_hard hard;
        uint64_t last;
        bool empty;
    } t[] = {
        {{0, 0, RAFT_UNFORMED}, 0, true}, {{0, 0, RAFT_VOTER}, 0, true}, /* formed a moment before us */
        {{0, 0, RAFT_FENCED}, 0, false},  {{1, 0, RAFT_VOTER}, 0, false}, {{1, 0, RAFT_VOTER}, 3, false},
    };
    static const struct raft_run run = {1, 1};
    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct raft_recovered from = {
            .hard = t[i].hard, .first = 1, .last = t[i].last, .runs = &run, .nruns = t[i].last > 0};
        struct rig *g = rig_new_from(3, &from);
        rig_start(g);
        rig_msg(g, (struct raft_msg){.type = RAFT_MSG_PROBE, .from = 2, .round = 77, .fenced = true});
        const struct raft_msg *m = rig_take(g, RAFT_MSG_PROBE_RESP, 2);
        assert_true(m && m->round == 77 && m->reject == !t[i].empty && m->term == t[i].hard.term);
        rig_free(g);
    }
}

static void test_lost_disk_is_fenced(void **state)
{
    struct rig *g = node(3, RAFT_UNFORMED);
    (void)state;
    answer(g, 2, true, 0, nonce(g));
    answer(g, 3, false, 6, nonce(g));
    assert_int_equal(g->hard.standing, RAFT_FENCED);
    assert_int_equal(RIG_TERM(g), 6);
    expect_no_vote(g);
    rig_free(g);
    g = node(3, RAFT_UNFORMED); /* a leader says it, too */
    append(g, 2, 4, 0, 2, 9);
    assert_int_equal(g->hard.standing, RAFT_FENCED);
    assert_int_equal(g->last, 2);
    rig_free(g);
}

/* The leader says what is enough. */
static void goal(struct rig *g, uint64_t from, uint64_t term, uint64_t index, uint64_t round)
{
    rig_msg(g, (struct raft_msg){
                   .type = RAFT_MSG_PROBE_RESP, .from = from, .reject = true, .term = term, .last = index, .round = round});
}

static void test_fenced_node_catches_up_and_votes_again(void **state)
{
    struct rig *g = node(3, RAFT_FENCED);
    (void)state;
    rig_run(g, 300 * RIG_MS);
    assert_int_equal(rig_count(g, RAFT_MSG_PROBE, 0), 0); /* there is nobody to ask */
    append(g, 2, 4, 0, 9, 9);
    rig_run(g, 110 * RIG_MS);
    assert_true(rig_count(g, RAFT_MSG_PROBE, 2) > 0);
    assert_int_equal(rig_count(g, RAFT_MSG_PROBE, 3), 0);
    uint64_t round = nonce(g);
    goal(g, 2, 4, 0, round);     /* not yet */
    goal(g, 2, 4, 9, round + 1); /* to an earlier life of this node */
    goal(g, 3, 4, 9, round);     /* not by the leader */
    assert_int_equal(g->hard.standing, RAFT_FENCED);
    g->hold_log = true;
    append(g, 2, 4, 9, 3, 14);
    append(g, 2, 4, 12, 3, 20);
    goal(g, 2, 4, 14, round);
    rig_step(g, (struct raft_event){.kind = RAFT_EV_PERSISTED, .index = 13, .term = 4});
    assert_int_equal(g->hard.standing, RAFT_FENCED);
    /* What it has is acknowledged all the while. */
    const struct raft_msg *m = NULL, *next;
    while ((next = rig_take(g, RAFT_MSG_APPEND_RESP, 2))) m = next;
    assert_true(m && m->fenced && m->index == 13 && !m->reject);
    rig_step(g, (struct raft_event){.kind = RAFT_EV_PERSISTED, .index = 14, .term = 4});
    assert_int_equal(g->hard.standing, RAFT_VOTER);
    assert_int_equal(g->hard.vote, 2); /* its forgotten vote of this term cannot help anyone else */
    rig_log_durable(g);
    rig_run(g, NS_PER_S);
    assert_int_equal(RIG_ROLE(g), RAFT_PRE_CANDIDATE);
    rig_free(g);
}

static void test_goal_is_of_the_newest_leader(void **state)
{
    struct rig *g = node(3, RAFT_FENCED);
    (void)state;
    append(g, 2, 4, 0, 2, 2);
    rig_run(g, 110 * RIG_MS);
    uint64_t round = nonce(g);
    goal(g, 2, 4, 5, round);
    rig_clear(g);
    rig_run(g, 210 * RIG_MS);
    assert_int_equal(rig_count(g, RAFT_MSG_PROBE, 0), 0); /* it knows what it waits for */
    append(g, 3, 8, 2, 0, 3);
    rig_run(g, 110 * RIG_MS);
    assert_true(rig_count(g, RAFT_MSG_PROBE, 3) > 0); /* another leader, another goal */
    goal(g, 2, 4, 2, round);
    goal(g, 2, 8, 2, round);
    assert_int_equal(g->hard.standing, RAFT_FENCED);
    goal(g, 3, 8, 3, round);
    assert_int_equal(g->hard.standing, RAFT_FENCED);
    append(g, 3, 8, 2, 1, 3);
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_APPEND,
                                 .from = 3,
                                 .term = 8,
                                 .index = 2,
                                 .log_term = 4,
                                 .n = 1,
                                 .last = 3,
                                 .entries = (struct raft_entry_meta[]){{8, RAFT_NOOP, 0}}});
    assert_int_equal(g->hard.standing, RAFT_VOTER);
    rig_free(g);
}

/* ---- the leader says when ---- */

static uint64_t asked(struct rig *g, uint64_t from, uint64_t round)
{
    rig_clear(g);
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_PROBE, .from = from, .fenced = true, .round = round});
    const struct raft_msg *m = rig_take(g, RAFT_MSG_PROBE_RESP, from);
    assert_true(m && m->round == round);
    return m->last;
}

static struct rig *leader(uint32_t n)
{
    struct rig *g = node(n, RAFT_VOTER);
    rig_elect(g, n - 1);
    for (uint64_t p = 2; p <= n; p++) rig_ack(g, p, 1, rig_round(g, p));
    return g;
}

/* Three of five without the one that asks: whoever holds its old vote gets no majority any more, with whatever clocks. */
static void test_witness_is_on_enough_disks(void **state)
{
    struct rig *g = leader(5);
    (void)state;
    assert_int_equal(asked(g, 5, 77), 0);
    assert_int_equal(g->last, 2); /* an entry that is younger than the question */
    assert_int_equal(g->log[2].kind, RAFT_NOOP);
    assert_int_equal(asked(g, 5, 77), 0);
    assert_int_equal(g->last, 2);
    rig_ack(g, 5, 2, rig_round(g, 5)); /* its own word is none */
    rig_ack(g, 2, 2, rig_round(g, 2));
    assert_int_equal(asked(g, 5, 77), 0);
    rig_msg(g, (struct raft_msg){
                   .type = RAFT_MSG_APPEND_RESP, .from = 3, .term = 1, .index = 2, .last = 2, .fenced = true});
    assert_int_equal(asked(g, 5, 77), 0); /* nor is that of another one that forgot */
    rig_ack(g, 4, 2, rig_round(g, 4));
    assert_int_equal(asked(g, 5, 77), 2);
    assert_int_equal(asked(g, 5, 78), 0); /* its disk was lost once more */
    assert_int_equal(g->last, 3);
    rig_free(g);
}

static void test_two_of_four_are_enough(void **state)
{
    struct rig *g = leader(4);
    (void)state;
    assert_int_equal(asked(g, 4, 77), 0);
    rig_ack(g, 2, 2, rig_round(g, 2));
    assert_int_equal(asked(g, 4, 77), 2);
    rig_free(g);
}

static void test_single_member_forms_at_once(void **state)
{
    struct rig *g = node(1, RAFT_UNFORMED);
    (void)state;
    assert_int_equal(g->hard.standing, RAFT_VOTER);
    rig_run(g, RIG_MS);
    assert_int_equal(RIG_ROLE(g), RAFT_LEADER);
    assert_int_equal(RIG_COMMIT(g), 1);
    rig_free(g);
    g = node(1, RAFT_FENCED); /* damaged, and nobody to learn from */
    rig_run(g, 5 * NS_PER_S);
    assert_int_equal(RIG_ROLE(g), RAFT_FOLLOWER);
    rig_free(g);
}

/* ---- how others treat a node that lost its disk ---------------------------------------------------------- */

static void test_votes_of_a_fenced_node_count_for_nothing(void **state)
{
    struct rig *g = node(3, RAFT_VOTER);
    (void)state;
    while (RIG_ROLE(g) != RAFT_PRE_CANDIDATE) rig_run(g, 10 * RIG_MS);
    struct raft_msg m = {.type = RAFT_MSG_PREVOTE_RESP, .from = 2, .term = 1, .fenced = true};
    rig_msg(g, m);
    assert_int_equal(RIG_ROLE(g), RAFT_PRE_CANDIDATE);
    m.fenced = false;
    rig_msg(g, m);
    m.type = RAFT_MSG_VOTE_RESP;
    m.fenced = true;
    rig_msg(g, m);
    assert_int_equal(RIG_ROLE(g), RAFT_CANDIDATE);
    assert_int_equal(RIG_DROPPED(g), 2);
    m = (struct raft_msg){.type = RAFT_MSG_VOTE, .from = 2, .term = 9, .fenced = true};
    rig_msg(g, m);
    assert_int_equal(RIG_TERM(g), 1);
    assert_int_equal(RIG_DROPPED(g), 3);
    rig_free(g);
}

static void test_lost_disk_resets_its_match(void **state)
{
    struct rig *g = node(3, RAFT_VOTER);
    (void)state;
    rig_elect(g, 1);
    assert_true(rig_propose(g, 9, 10)); /* up to 10 */
    rig_ack(g, 2, 10, 0);
    assert_int_equal(RIG_COMMIT(g), 10);
    rig_clear(g);
    struct raft_msg m = {.type = RAFT_MSG_APPEND_RESP, .from = 2, .term = 1, .reject = true, .last = 10, .index = 0};
    rig_msg(g, m); /* from a node that claims to be whole: it cannot be */
    assert_int_equal(rig_status(g).peers[1].match, 10);
    assert_int_equal(rig_count(g, RAFT_MSG_APPEND, 2), 0);
    m.fenced = true;
    rig_msg(g, m);
    assert_int_equal(rig_status(g).peers[1].match, 0);
    const struct raft_msg *a = rig_take(g, RAFT_MSG_APPEND, 2);
    assert_true(a && a->index == 0 && a->n == 10);
    assert_int_equal(RIG_COMMIT(g), 10); /* what is committed stays so */
    /* A vote that it has forgotten may elect a leader that it has not told of this entry. */
    assert_true(rig_propose(g, 1, 10));
    m = (struct raft_msg){
        .type = RAFT_MSG_APPEND_RESP, .from = 2, .term = 1, .index = 11, .last = 11, .round = rig_round(g, 2), .fenced = true};
    rig_msg(g, m);
    assert_int_equal(rig_status(g).peers[1].match, 11);
    assert_int_equal(RIG_COMMIT(g), 10);
    rig_step(g, (struct raft_event){.kind = RAFT_EV_READ, .read_id = 1});
    m.round = rig_round(g, 2);
    rig_msg(g, m);
    assert_false(g->flags & RAFT_UP_READS);
    m.fenced = false;
    rig_msg(g, m);
    assert_int_equal(RIG_COMMIT(g), 11);
    assert_true(g->flags & RAFT_UP_READS);
    rig_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_new_cluster_forms_when_all_are_empty),
        cmocka_unit_test(test_probe_answers),
        cmocka_unit_test(test_lost_disk_is_fenced),
        cmocka_unit_test(test_fenced_node_catches_up_and_votes_again),
        cmocka_unit_test(test_goal_is_of_the_newest_leader),
        cmocka_unit_test(test_witness_is_on_enough_disks),
        cmocka_unit_test(test_two_of_four_are_enough),
        cmocka_unit_test(test_single_member_forms_at_once),
        cmocka_unit_test(test_votes_of_a_fenced_node_count_for_nothing),
        cmocka_unit_test(test_lost_disk_resets_its_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
