/* Replication, one rule a test: what counts for commit, what is acknowledged when, truncation, backtracking, windows,
 * loss, how many messages. Numbers in brackets name the known bug that the rule excludes. */
#include "core_rig.h"

static const struct raft_run runs_2[] = {{1, 1}, {4, 2}}; /* terms 1 1 1 2 2 */

static struct rig *follower(uint32_t n)
{
    struct rig *g = rig_new(n, 2, runs_2, 2, 5);
    rig_start(g);
    rig_run(g, 299 * RIG_MS);
    rig_clear(g);
    return g;
}

/* Of term 3, its no-op at 6, nothing acknowledged. */
static struct rig *leader(uint32_t n)
{
    struct rig *g = follower(n);
    rig_elect(g, n / 2);
    assert_int_equal(RIG_TERM(g), 3);
    assert_int_equal(g->last, 6);
    return g;
}

/* Followers that match and are in the pipeline. */
static struct rig *settled(uint32_t n)
{
    struct rig *g = leader(n);
    for (uint64_t p = 2; p <= n; p++) rig_ack(g, p, 6, rig_round(g, p));
    rig_run(g, 50 * RIG_MS);
    assert_int_equal(RIG_COMMIT(g), 6);
    rig_clear(g);
    return g;
}

/* ---- the leader ------------------------------------------------------------------------------------------ */

static void test_leader_counts_itself_when_durable(void **state)
{
    struct rig *g = settled(3);
    (void)state;
    g->hold_log = true;
    assert_true(rig_propose(g, 3, 10));
    assert_int_equal(rig_count(g, RAFT_MSG_APPEND, 2), 1); /* sent while its own disk writes */
    assert_int_equal(rig_count(g, RAFT_MSG_APPEND, 3), 1);
    rig_ack(g, 2, 9, 0);
    assert_int_equal(RIG_COMMIT(g), 6); /* [13] */
    rig_log_durable(g);
    assert_int_equal(RIG_COMMIT(g), 9);
    assert_true(g->flags & RAFT_UP_COMMIT);
    /* And without it, where the others are a majority. */
    assert_true(rig_propose(g, 1, 10));
    rig_ack(g, 2, 10, 0);
    rig_ack(g, 3, 10, 0);
    assert_int_equal(RIG_COMMIT(g), 10);
    rig_free(g);
}

static void test_old_terms_are_not_counted(void **state)
{
    struct rig *g = leader(3);
    (void)state;
    rig_ack(g, 2, 5, 0); /* [20] a majority has 5, but it is of term 2 */
    assert_int_equal(RIG_COMMIT(g), 0);
    rig_ack(g, 2, 6, 0);
    assert_int_equal(RIG_COMMIT(g), 6); /* an idle cluster commits its old entries by the no-op */
    rig_free(g);
}

static void test_bad_acknowledgements(void **state)
{
    struct rig *g = settled(3);
    (void)state;
    assert_true(rig_propose(g, 1, 10));
    struct raft_msg ack = {.type = RAFT_MSG_APPEND_RESP, .from = 2, .term = 2, .index = 7, .last = 7};
    rig_msg(g, ack); /* [21] of a former term */
    assert_int_equal(RIG_COMMIT(g), 6);
    assert_int_equal(RIG_DROPPED(g), 0);
    ack.term = 3;
    ack.index = ack.last = 8; /* beyond the log */
    rig_msg(g, ack);
    ack.index = 7;
    ack.last = 6; /* durable, but not in memory */
    rig_msg(g, ack);
    ack.last = 7;
    ack.round = UINT64_MAX; /* a round never started */
    rig_msg(g, ack);
    ack.round = 0;
    ack.term = 4; /* nobody acknowledges a term that we do not lead */
    rig_msg(g, ack);
    assert_int_equal(RIG_COMMIT(g), 6);
    assert_int_equal(RIG_DROPPED(g), 4);
    ack.term = 3;
    rig_msg(g, ack);
    assert_int_equal(RIG_COMMIT(g), 7);
    rig_free(g);
}

static void test_window_and_batches(void **state)
{
    struct rig *g = settled(3);
    uint64_t next = 7, bytes = 0, sent = 0;
    (void)state;
    assert_true(rig_propose(g, 100, 100)); /* 10,000 bytes; 1,000 a message, 4,000 unacknowledged */
    for (const struct raft_msg *m; (m = rig_take(g, RAFT_MSG_APPEND, 2)); sent++) {
        assert_int_equal(m->index, next - 1);
        assert_int_equal(m->n, 10);
        next += m->n;
        bytes += 100 * m->n;
    }
    assert_int_equal(sent, 4);
    assert_int_equal(bytes, 4000);
    rig_clear(g);
    rig_ack(g, 2, 26, 0); /* two of them */
    assert_int_equal(rig_count(g, RAFT_MSG_APPEND, 2), 2);
    assert_int_equal(rig_take(g, RAFT_MSG_APPEND, 2)->index, 46);
    assert_int_equal(rig_count(g, RAFT_MSG_APPEND, 3), 0);
    rig_clear(g);
    rig_ack(g, 2, 26, 0); /* again: nothing new */
    assert_int_equal(rig_count(g, RAFT_MSG_APPEND, 2), 0);
    rig_free(g);
}

static void test_large_entry_goes_alone(void **state)
{
    struct rig *g = settled(3);
    struct raft_entry_meta metas[] = {{0, RAFT_COMMAND, 10}, {0, RAFT_COMMAND, 50000}, {0, RAFT_COMMAND, 10}};
    (void)state;
    rig_step(g, (struct raft_event){.kind = RAFT_EV_PROPOSE, .metas = metas, .n = 3});
    assert_int_equal(rig_take(g, RAFT_MSG_APPEND, 2)->n, 1);
    assert_int_equal(rig_take(g, RAFT_MSG_APPEND, 2)->n, 1);
    assert_null(rig_take(g, RAFT_MSG_APPEND, 2)); /* the window is full */
    rig_ack(g, 2, 8, 0);
    assert_int_equal(rig_take(g, RAFT_MSG_APPEND, 2)->index, 8);
    rig_free(g);
}

static void test_update_is_bounded(void **state)
{
    struct raft_recovered from = {.hard = {2, 0, RAFT_VOTER}, .first = 1, .last = 5, .runs = runs_2, .nruns = 2};
    struct rig *g = rig_new_from(9, &from);
    uint32_t steps = 0;
    (void)state;
    raft_free(g->r);
    g->config.append_bytes_max = 10; /* one entry a message */
    g->config.window_bytes = 1u << 20;
    g->r = raft_new(&g->config, &from);
    rig_start(g);
    rig_elect(g, 4);
    for (uint64_t p = 2; p <= 9; p++) rig_ack(g, p, 6, 0);
    rig_clear(g);
    assert_true(rig_propose(g, 100, 10));
    assert_in_range(g->nbox, 30, 2 * RAFT_MSGS_MAX);
    while (g->up.deadline == g->now && steps++ < 1000) rig_step(g, (struct raft_event){.kind = RAFT_EV_TICK});
    assert_int_equal(g->nbox, 800); /* all of it, in steps that are due at once */
    for (uint64_t p = 2; p <= 9; p++) assert_int_equal(rig_count(g, RAFT_MSG_APPEND, p), 100);
    rig_free(g);
}

static void test_in_flight_messages_are_bounded(void **state)
{
    struct rig *g = settled(3);
    (void)state;
    for (int i = 0; i < 200; i++) assert_true(rig_propose(g, 1, 0));
    assert_in_range(rig_count(g, RAFT_MSG_APPEND, 2), 100, 130);
    rig_clear(g);
    rig_ack(g, 2, 80, 0);
    assert_in_range(rig_count(g, RAFT_MSG_APPEND, 2), 1, 2); /* the rest in one */
    rig_free(g);
}

static void test_lost_append_shows_at_the_heartbeat(void **state)
{
    struct rig *g = settled(3);
    (void)state;
    assert_true(rig_propose(g, 2, 10)); /* 7, 8: lost on the way to 2 */
    rig_clear(g);
    rig_run(g, 100 * RIG_MS);
    const struct raft_msg *m = rig_take(g, RAFT_MSG_APPEND, 2);
    assert_int_equal(m->n, 0);
    assert_int_equal(m->index, 8);
    rig_msg(
        g,
        (struct raft_msg){
            .type = RAFT_MSG_APPEND_RESP, .from = 2, .term = 3, .reject = true, .last = 8, .index = 6, .log_term = 3});
    m = rig_take(g, RAFT_MSG_APPEND, 2);
    assert_int_equal(m->index, 6);
    assert_int_equal(m->n, 2);
    assert_string_equal(rig_status(g).peers[1].state, "probe");
    assert_true(rig_propose(g, 1, 10));
    assert_null(rig_take(g, RAFT_MSG_APPEND, 2)); /* one probe at a time */
    rig_ack(g, 2, 8, 0);
    assert_int_equal(rig_take(g, RAFT_MSG_APPEND, 2)->index, 8);
    assert_string_equal(rig_status(g).peers[1].state, "replicate");
    /* A late copy of the reject is stale by now. */
    rig_ack(g, 2, 9, 0);
    rig_msg(
        g,
        (struct raft_msg){
            .type = RAFT_MSG_APPEND_RESP, .from = 2, .term = 3, .reject = true, .last = 8, .index = 6, .log_term = 3});
    assert_string_equal(rig_status(g).peers[1].state, "replicate");
    assert_int_equal(rig_status(g).peers[1].match, 9);
    rig_free(g);
}

static void test_broken_connection_probes_again(void **state)
{
    struct rig *g = settled(3);
    (void)state;
    rig_peer(g, 2, false);
    assert_true(rig_propose(g, 2, 10));
    assert_int_equal(rig_count(g, RAFT_MSG_APPEND, 2), 0);
    rig_peer(g, 2, true);
    const struct raft_msg *m = rig_take(g, RAFT_MSG_APPEND, 2);
    assert_int_equal(m->index, 6);
    assert_int_equal(m->n, 2);
    assert_string_equal(rig_status(g).peers[1].state, "probe");
    rig_free(g);
}

static void test_commit_index_is_told_soon(void **state)
{
    struct rig *g = settled(3);
    (void)state;
    assert_true(rig_propose(g, 1, 10));
    rig_ack(g, 2, 7, 0);
    rig_ack(g, 3, 7, 0);
    assert_int_equal(RIG_COMMIT(g), 7);
    rig_clear(g);
    rig_run(g, 13 * RIG_MS);
    for (uint64_t p = 2; p <= 3; p++) {
        const struct raft_msg *m = rig_take(g, RAFT_MSG_APPEND, p);
        assert_true(m && m->n == 0 && m->commit == 7);
    }
    rig_run(g, 80 * RIG_MS);
    assert_int_equal(g->nbox, 0);
    assert_true(rig_propose(g, 1, 10)); /* with more to send it rides along */
    rig_ack(g, 2, 8, 0);
    assert_true(rig_propose(g, 1, 10));
    rig_clear(g);
    rig_run(g, 50 * RIG_MS);
    assert_int_equal(g->nbox, 0);
    rig_free(g);
}

static void test_proposals_only_to_the_leader(void **state)
{
    struct rig *g = follower(3);
    (void)state;
    assert_false(rig_propose(g, 1, 10));
    assert_int_equal(g->last, 5);
    rig_free(g);
}

/* ---- the follower ---------------------------------------------------------------------------------------- */

static const struct raft_msg *resp(struct rig *g) { return rig_take(g, RAFT_MSG_APPEND_RESP, 2); }

static void test_only_durable_entries_are_acknowledged(void **state)
{
    struct rig *g = follower(3);
    (void)state;
    g->hold_log = g->hold_hard = true;
    rig_append(g, 2, 3, 5, 2, 2, 3, 0);
    assert_int_equal(g->last, 7);
    assert_null(resp(g)); /* [13] neither the entries nor the term are durable */
    rig_hard_durable(g);
    const struct raft_msg *m = resp(g); /* what is durable already: it lets the leader's pipeline begin */
    assert_true(m && m->index == 5 && m->last == 7);
    assert_null(resp(g));
    rig_step(g, (struct raft_event){.kind = RAFT_EV_PERSISTED, .index = 6, .term = 3});
    m = resp(g);
    assert_true(m && !m->reject && m->index == 6 && m->last == 7 && m->round > 0);
    rig_log_durable(g);
    m = resp(g);
    assert_true(m && m->index == 7 && m->last == 7);
    assert_null(resp(g)); /* one is enough */
    /* A heartbeat is answered at once, with what is durable. */
    rig_append(g, 2, 3, 7, 3, 1, 3, 0);
    assert_null(resp(g));
    rig_append(g, 2, 3, 8, 3, 0, 0, 0);
    m = resp(g);
    assert_true(m && m->index == 7 && m->last == 8);
    rig_free(g);
}

static void test_term_is_durable_before_any_acknowledgement(void **state)
{
    struct rig *g = follower(3);
    (void)state;
    g->hold_hard = true;
    rig_append(g, 2, 3, 5, 2, 0, 0, 0);
    assert_null(resp(g));
    rig_hard_durable(g);
    assert_int_equal(resp(g)->index, 5);
    rig_free(g);
}

static void test_slow_disk_still_answers(void **state)
{
    struct rig *g = follower(3);
    (void)state;
    g->hold_log = true;
    rig_append(g, 2, 3, 5, 2, 0, 0, 0);
    assert_non_null(resp(g));
    rig_append(g, 2, 3, 5, 2, 3, 3, 0);
    uint64_t round = g->now;
    assert_null(resp(g));
    rig_run(g, 51 * RIG_MS);
    const struct raft_msg *m = resp(g);
    assert_true(m && m->index == 5 && m->last == 8 && m->round == round);
    rig_run(g, 52 * RIG_MS);
    assert_non_null(resp(g));
    rig_log_durable(g);
    assert_int_equal(resp(g)->index, 8);
    rig_run(g, 150 * RIG_MS);
    assert_null(resp(g));
    rig_free(g);
}

static void test_late_messages_do_not_truncate(void **state)
{
    struct rig *g = follower(3);
    (void)state;
    rig_append(g, 2, 3, 5, 2, 4, 3, 0); /* up to 9 */
    rig_clear(g);
    rig_append(g, 2, 3, 5, 2, 2, 3, 0); /* [21] an earlier, shorter one */
    assert_int_equal(g->last, 9);
    assert_false(g->flags & (RAFT_UP_TRUNCATE | RAFT_UP_APPEND));
    assert_int_equal(resp(g)->index, 9);
    rig_append(g, 2, 3, 3, 1, 0, 0, 0);
    assert_int_equal(g->last, 9);
    rig_append(g, 2, 3, 7, 3, 4, 3, 0); /* an overlap: only what is new is taken */
    assert_int_equal(g->last, 11);
    assert_int_equal(g->up.append_skip + g->up.append_n, 0); /* (the step after, of persistence) */
    rig_free(g);
}

static void test_conflict_truncates(void **state)
{
    struct rig *g = follower(3);
    (void)state;
    g->hold_log = true;
    rig_append(g, 2, 3, 3, 1, 1, 3, 0); /* entry 4 of term 3 instead of 2 */
    assert_true(g->flags & RAFT_UP_TRUNCATE);
    assert_int_equal(g->last, 4);
    assert_int_equal(rig_status(g).persisted, 3);
    assert_int_equal(resp(g)->index, 3);
    /* Reports of what is gone, or of another entry in its place, count for nothing. */
    rig_step(g, (struct raft_event){.kind = RAFT_EV_PERSISTED, .index = 5, .term = 2});
    rig_step(g, (struct raft_event){.kind = RAFT_EV_PERSISTED, .index = 4, .term = 2});
    assert_int_equal(rig_status(g).persisted, 3);
    assert_null(resp(g));
    rig_step(g, (struct raft_event){.kind = RAFT_EV_PERSISTED, .index = 4, .term = 3});
    assert_int_equal(resp(g)->index, 4);
    rig_free(g);
}

static void test_commit_is_bounded_by_what_matches(void **state)
{
    struct rig *g = follower(3);
    (void)state;
    rig_append(g, 2, 3, 3, 1, 0, 0, 5); /* 4 and 5 may not be the leader's */
    assert_int_equal(RIG_COMMIT(g), 3);
    rig_append(g, 2, 3, 5, 2, 0, 0, 5);
    assert_int_equal(RIG_COMMIT(g), 5);
    rig_append(g, 3, 4, 3, 1, 0, 0, 3); /* never back */
    assert_int_equal(RIG_COMMIT(g), 5);
    rig_free(g);
}

static void test_contradicting_what_is_committed_is_nonsense(void **state)
{
    struct rig *g = follower(3);
    (void)state;
    rig_append(g, 2, 3, 5, 2, 2, 3, 6); /* 6 is committed, 7 is not */
    rig_append(g, 2, 4, 5, 2, 1, 4, 0);
    rig_append(g, 2, 4, 5, 1, 0, 0, 0);
    assert_int_equal(RIG_DROPPED(g), 2);
    assert_int_equal(g->last, 7);
    assert_int_equal(RIG_TERM(g), 3); /* nor is its term believed */
    rig_append(g, 3, 4, 6, 3, 1, 4, 0);
    assert_int_equal(g->log[7].term, 4);
    rig_append(g, 3, 4, 6, 3, 1, 3, 0); /* against what this very leader sent before */
    assert_int_equal(g->log[7].term, 4);
    assert_int_equal(RIG_DROPPED(g), 3);
    rig_free(g);
}

/* ---- two sides ------------------------------------------------------------------------------------------- */

#define CORES 3

struct trio {
    struct rig *g[CORES + 1];
    uint32_t sent[RAFT_MSG_TYPE_MAX + 1];
    uint32_t rejects;
};

/* Hands over all messages until nobody has more to say. Node `cut` is cut off (0: nobody). */
static void exchange(struct trio *t, uint64_t cut)
{
    for (bool more = true; more;) {
        more = false;
        for (uint64_t i = 1; i <= CORES; i++) {
            while (t->g[i] && t->g[i]->nbox) {
                struct raft_entry_meta metas[512];
                struct raft_msg m = t->g[i]->box[0];
                memmove(t->g[i]->box, t->g[i]->box + 1, --t->g[i]->nbox * sizeof m);
                if (!t->g[m.to] || i == cut || m.to == cut) continue;
                assert_in_range(m.n, 0, 512);
                for (uint32_t k = 0; k < m.n; k++) metas[k] = t->g[i]->log[m.index + 1 + k];
                m.entries = m.n ? metas : NULL;
                t->sent[m.type]++;
                t->rejects += m.reject;
                rig_msg(t->g[m.to], m);
                more = true;
            }
        }
    }
}

static void pass_time(struct trio *t, uint64_t ns, uint64_t cut)
{
    uint64_t end = t->g[1]->now + ns;
    for (;;) {
        uint64_t at = end;
        for (uint64_t i = 1; i <= CORES; i++)
            if (t->g[i]) at = min_u64(at, max_u64(t->g[i]->up.deadline, t->g[i]->now));
        for (uint64_t i = 1; i <= CORES; i++) {
            if (!t->g[i]) continue;
            t->g[i]->now = at;
            if (t->g[i]->up.deadline <= at) rig_step(t->g[i], (struct raft_event){.kind = RAFT_EV_TICK});
        }
        exchange(t, cut);
        if (at == end) return;
    }
}

static struct rig *leader_of(struct trio *t)
{
    struct rig *found = NULL;
    for (uint64_t i = 1; i <= CORES; i++)
        if (t->g[i] && RIG_ROLE(t->g[i]) == RAFT_LEADER && (!found || RIG_TERM(t->g[i]) > RIG_TERM(found)))
            found = t->g[i];
    assert_non_null(found);
    return found;
}

static void trio_free(struct trio *t)
{
    for (uint64_t i = 1; i <= CORES; i++)
        if (t->g[i]) rig_free(t->g[i]);
}

static void trio_new(struct trio *t, const struct raft_recovered *from, bool third)
{
    *t = (struct trio){0};
    for (uint64_t i = 1; i <= CORES; i++) {
        if (i == 3 && !third) continue;
        t->g[i] = rig_new_id(i, CORES, &from[i - 1]);
        rig_start(t->g[i]);
    }
    pass_time(t, 2 * NS_PER_S, 0);
}

static const struct raft_recovered blank = {.hard = {0, 0, RAFT_VOTER}, .first = 1};

/* The bounds of "RPC counts aren't too high", and an idle cluster's. */
static void test_message_counts(void **state)
{
    struct raft_recovered from[CORES] = {blank, blank, blank};
    struct trio t;
    (void)state;
    trio_new(&t, from, true);
    struct rig *g = leader_of(&t);
    memset(t.sent, 0, sizeof t.sent);
    for (int i = 0; i < 12; i++) {
        assert_true(rig_propose(g, 1, 10));
        exchange(&t, 0);
    }
    pass_time(&t, 13 * RIG_MS, 0);
    for (uint64_t i = 1; i <= CORES; i++) assert_int_equal(RIG_COMMIT(t.g[i]), g->last);
    assert_in_range(t.sent[RAFT_MSG_APPEND], 24, 30);
    assert_in_range(t.sent[RAFT_MSG_APPEND_RESP], 24, 30);
    memset(t.sent, 0, sizeof t.sent);
    pass_time(&t, 10 * NS_PER_S, 0);
    assert_in_range(t.sent[RAFT_MSG_APPEND], 2 * 90, 2 * 100);
    assert_in_range(t.sent[RAFT_MSG_APPEND_RESP], 2 * 90, 2 * 100);
    uint32_t all = 0;
    for (uint32_t i = 0; i <= RAFT_MSG_TYPE_MAX; i++) all += t.sent[i];
    assert_int_equal(all, t.sent[RAFT_MSG_APPEND] + t.sent[RAFT_MSG_APPEND_RESP]);
    trio_free(&t);
}

/* Logs that differ in many terms meet in at most one round trip a term, however long the terms are. */
static void test_backtracking_by_terms(void **state)
{
    struct raft_run a[20], b[20];
    (void)state;
    for (uint32_t i = 0; i < 20; i++) {
        a[i] = (struct raft_run){1 + 100 * i, 2 * i + 1};     /* terms 1 3 5 .. */
        b[i] = (struct raft_run){1 + 100 * i, i ? 2 * i : 1}; /* terms 1 2 4 .. */
    }
    struct raft_recovered from[CORES] = {
        {.hard = {39, 0, RAFT_VOTER}, .first = 1, .last = 2000, .runs = a, .nruns = 20},
        {.hard = {39, 0, RAFT_VOTER}, .first = 1, .last = 2000, .runs = b, .nruns = 20},
    };
    struct trio t;
    trio_new(&t, from, false);
    assert_ptr_equal(leader_of(&t), t.g[1]);
    assert_int_equal(RIG_COMMIT(t.g[1]), t.g[1]->last);
    assert_int_equal(RIG_COMMIT(t.g[2]), t.g[1]->last);
    for (uint64_t i = 1; i <= t.g[1]->last; i++) assert_int_equal(t.g[1]->log[i].term, t.g[2]->log[i].term);
    /* Rejects are those of replication: pre-votes of 2 were refused, too. */
    assert_in_range(t.rejects, 1, 30);
    trio_free(&t);

    /* One long divergent term: one step. */
    struct raft_run c[] = {{1, 1}, {101, 2}}, d[] = {{1, 1}, {101, 3}};
    from[0] = (struct raft_recovered){.hard = {3, 0, RAFT_VOTER}, .first = 1, .last = 2000, .runs = d, .nruns = 2};
    from[1] = (struct raft_recovered){.hard = {3, 0, RAFT_VOTER}, .first = 1, .last = 2500, .runs = c, .nruns = 2};
    trio_new(&t, from, false);
    assert_int_equal(RIG_COMMIT(t.g[2]), t.g[1]->last);
    assert_in_range(t.rejects, 1, 4);
    trio_free(&t);
}

/* Whoever was cut off comes back without raising the term or deposing anyone [4]. */
static void test_rejoining_disturbs_nobody(void **state)
{
    struct raft_recovered from[CORES] = {blank, blank, blank};
    struct trio t;
    (void)state;
    trio_new(&t, from, true);
    struct rig *g = leader_of(&t);
    uint64_t term = RIG_TERM(g), out = g->config.id % CORES + 1;
    pass_time(&t, 5 * NS_PER_S, out);
    assert_int_equal(RIG_TERM(t.g[out]), term);
    assert_true(rig_propose(g, 5, 10));
    pass_time(&t, NS_PER_S, out);
    pass_time(&t, 3 * NS_PER_S, 0);
    assert_ptr_equal(leader_of(&t), g);
    assert_int_equal(RIG_TERM(g), term);
    assert_int_equal(RIG_COMMIT(t.g[out]), g->last);
    /* And a cut-off leader steps down, while the others choose a new one. */
    out = g->config.id;
    pass_time(&t, 2 * NS_PER_S, out);
    assert_int_equal(RIG_ROLE(t.g[out]) == RAFT_LEADER, false);
    assert_true(RIG_TERM(leader_of(&t)) > term);
    pass_time(&t, NS_PER_S, 0);
    assert_int_equal(RIG_COMMIT(t.g[out]), leader_of(&t)->last);
    trio_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leader_counts_itself_when_durable),
        cmocka_unit_test(test_old_terms_are_not_counted),
        cmocka_unit_test(test_bad_acknowledgements),
        cmocka_unit_test(test_window_and_batches),
        cmocka_unit_test(test_large_entry_goes_alone),
        cmocka_unit_test(test_update_is_bounded),
        cmocka_unit_test(test_in_flight_messages_are_bounded),
        cmocka_unit_test(test_lost_append_shows_at_the_heartbeat),
        cmocka_unit_test(test_broken_connection_probes_again),
        cmocka_unit_test(test_commit_index_is_told_soon),
        cmocka_unit_test(test_proposals_only_to_the_leader),
        cmocka_unit_test(test_only_durable_entries_are_acknowledged),
        cmocka_unit_test(test_term_is_durable_before_any_acknowledgement),
        cmocka_unit_test(test_slow_disk_still_answers),
        cmocka_unit_test(test_late_messages_do_not_truncate),
        cmocka_unit_test(test_conflict_truncates),
        cmocka_unit_test(test_commit_is_bounded_by_what_matches),
        cmocka_unit_test(test_contradicting_what_is_committed_is_nonsense),
        cmocka_unit_test(test_message_counts),
        cmocka_unit_test(test_backtracking_by_terms),
        cmocka_unit_test(test_rejoining_disturbs_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
