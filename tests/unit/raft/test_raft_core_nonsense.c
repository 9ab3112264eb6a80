/* What peers send that makes no sense: a table of it, and random messages by the hundred thousand against cores in
 * every role. Nothing trips check(), the invariants hold, and what is refused changes nothing. QFS_SEED=n replays one
 * run. */
#include "core_rig.h"

static const struct raft_run runs_2[] = {{1, 1}, {4, 2}}; /* terms 1 1 1 2 2 */

static void test_table(void **state)
{
    static const struct raft_entry_meta ok[] = {{3, RAFT_COMMAND, 1}, {3, RAFT_COMMAND, 1}};
    static const struct raft_entry_meta falling[] = {{3, RAFT_COMMAND, 1}, {2, RAFT_COMMAND, 1}};
    static const struct raft_entry_meta future[] = {{4, RAFT_COMMAND, 1}};
    static const struct raft_entry_meta zero[] = {{0, RAFT_COMMAND, 1}};
    static const struct raft_entry_meta old[] = {{1, RAFT_COMMAND, 1}};
    static const struct raft_entry_meta odd[] = {{3, 77, 1}};
    const uint64_t max = UINT64_MAX;
#define APPEND(...)                                                                                                    \
    {                                                                                                                  \
        .type = RAFT_MSG_APPEND, .from = 2, .to = 1, .term = 3, .index = 5, .log_term = 2, .last = 9, __VA_ARGS__      \
    }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
    const struct raft_msg t[] = {
        APPEND(.from = 0),
        APPEND(.from = 1),
        {.type = RAFT_MSG_APPEND_RESP, .from = 9, .to = 1, .term = 2}, /* a stranger may ask, not answer */
        {.type = RAFT_MSG_VOTE_RESP, .from = 9, .to = 1, .term = 2},
        APPEND(.to = 2),
        APPEND(.type = 0),
        APPEND(.type = RAFT_MSG_TYPE_MAX + 1),
        APPEND(.type = 255),
        APPEND(.term = max),
        APPEND(.index = max),
        APPEND(.log_term = max),
        APPEND(.commit = max),
        APPEND(.last = max),
        APPEND(.index = 0),
        APPEND(.log_term = 0),
        APPEND(.log_term = 4),
        APPEND(.commit = 10),
        APPEND(.last = 4),
        APPEND(.n = 2, .entries = ok, .last = 6),
        APPEND(.n = 2),
        APPEND(.n = UINT32_MAX),
        APPEND(.n = 2, .entries = falling),
        APPEND(.n = 1, .entries = future),
        APPEND(.n = 1, .entries = zero),
        APPEND(.n = 1, .entries = old),
        APPEND(.n = 1, .entries = odd),
        APPEND(.type = RAFT_MSG_VOTE, .n = 1, .entries = ok),
        {.type = RAFT_MSG_VOTE, .from = 2, .to = 1, .term = 0},
        {.type = RAFT_MSG_VOTE, .from = 2, .to = 1, .term = 3, .index = 9, .log_term = 3},
        {.type = RAFT_MSG_VOTE, .from = 2, .to = 1, .term = 3, .index = 9},
        {.type = RAFT_MSG_VOTE, .from = 2, .to = 1, .term = 3, .index = 9, .log_term = 2, .fenced = true},
        {.type = RAFT_MSG_PREVOTE, .from = 2, .to = 1, .term = 3, .index = 0, .log_term = 2},
        {.type = RAFT_MSG_VOTE_RESP, .from = 2, .to = 1, .term = 9},
        {.type = RAFT_MSG_APPEND_RESP, .from = 2, .to = 1, .term = 9},
        {.type = RAFT_MSG_SNAPSHOT, .from = 2, .to = 1, .term = 3},
        {.type = RAFT_MSG_SNAPSHOT, .from = 2, .to = 1, .term = 3, .index = 4},
        {.type = RAFT_MSG_SNAPSHOT, .from = 2, .to = 1, .term = 3, .index = 4, .log_term = 4},
    };
#pragma GCC diagnostic pop
    (void)state;
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct rig *g = rig_new(3, 2, runs_2, 2, 5);
        rig_start(g);
        rig_run(g, 299 * RIG_MS);
        rig_clear(g);
        struct raft_status a = rig_status(g), b;
        rig_step(g, (struct raft_event){.kind = RAFT_EV_MSG, .msg = &t[i]});
        b = rig_status(g);
        if (b.dropped != 1) fail_msg("case %zu was not dropped", i);
        assert_true(a.term == b.term && a.last == b.last && a.commit == b.commit && a.role == b.role &&
                    a.leader == b.leader);
        assert_int_equal(g->nbox, 0);
        assert_int_equal(g->flags, 0);
        rig_free(g);
    }
}

static uint64_t number(struct prng *p, uint64_t near)
{
    uint64_t what = prng_below(p, 100);
    if (what < 50) return near + prng_below(p, 4);
    if (what < 90) return prng_below(p, near + 8);
    if (what < 97) return prng_u64(p) >> prng_below(p, 64);
    return UINT64_MAX - prng_below(p, 2);
}

static void random_message(struct rig *g, struct prng *p, struct raft_msg *m, struct raft_entry_meta *e)
{
    struct raft_status s = rig_status(g);
    *m = (struct raft_msg){
        .type = (uint8_t)prng_between(p, prng_chance(p, 1) ? 0 : 1, RAFT_MSG_TYPE_MAX + prng_chance(p, 1)),
        .reject = prng_chance(p, 30),
        .transfer = prng_chance(p, 10),
        .fenced = prng_chance(p, 10),
        .lease = prng_chance(p, 50),
        .from = prng_between(p, prng_chance(p, 2) ? 0 : 2, g->config.nvoters + prng_chance(p, 2)),
        .to = prng_chance(p, 98) ? 1 : prng_below(p, 5),
        .term = prng_chance(p, 70) ? s.term : number(p, s.term),
        .index = number(p, s.last > 2 ? s.last - 2 : 0),
        .commit = number(p, s.commit),
        .last = number(p, s.last),
        .round = prng_chance(p, 50) ? g->now - prng_below(p, NS_PER_S) : number(p, 0),
    };
    uint64_t term = m->index >= 1 && m->index <= g->last ? g->log[m->index].term : number(p, s.term);
    m->log_term = prng_chance(p, 80) ? term : number(p, s.term);
    if (m->type != RAFT_MSG_APPEND) return;
    m->n = (uint32_t)prng_below(p, 6);
    for (uint32_t i = 0; i < m->n; i++) {
        e[i] = (struct raft_entry_meta){prng_chance(p, 90) ? max_u64(term, 1) : number(p, term),
                                        (uint8_t)(prng_chance(p, 99) ? RAFT_COMMAND : prng_below(p, 256)), 10};
        term = e[i].term;
    }
    if (prng_chance(p, 80)) m->last = max_u64(m->last, m->index + m->n);
    m->entries = m->n ? e : NULL;
}

static void random_event(struct rig *g, struct prng *p)
{
    struct raft_entry_meta e[8];
    struct raft_msg m;
    uint64_t peer = prng_between(p, 2, g->config.nvoters);
    static uint64_t read_id;
    g->hold_hard = prng_chance(p, 10);
    g->hold_log = prng_chance(p, 10);
    switch (prng_below(p, 40)) {
    case 0: rig_tick(g, prng_below(p, 400 * RIG_MS)); break;
    case 1: rig_run(g, prng_below(p, 100 * RIG_MS)); break;
    case 2: rig_peer(g, peer, prng_chance(p, 70)); break;
    case 3: rig_step(g, (struct raft_event){.kind = RAFT_EV_TRANSFER, .peer = peer}); break;
    case 4: rig_read(g, ++read_id); break;
    case 5:
        if (g->last < RIG_LOG - 50) rig_propose(g, 3, 100);
        break;
    case 6:
        rig_step(
            g, (struct raft_event){
                   .kind = RAFT_EV_SNAPSHOT_SENT, .peer = peer, .index = prng_below(p, 50), .ok = prng_chance(p, 50)});
        break;
    case 7:
        rig_step(g, (struct raft_event){.kind = RAFT_EV_LOG_TRIMMED, .index = prng_between(p, 1, RIG_COMMIT(g) + 1)});
        break;
    case 8: rig_step(g, (struct raft_event){.kind = RAFT_EV_APPLIED, .index = prng_below(p, RIG_COMMIT(g) + 1)}); break;
    default:
        random_message(g, p, &m, e);
        if (g->last > RIG_LOG - 50) m.n = 0;
        rig_step(g, (struct raft_event){.kind = RAFT_EV_MSG, .msg = &m});
        break;
    }
    rig_clear(g);
}

static void test_random_messages(void **state)
{
    const char *env = getenv("QFS_SEED");
    uint64_t first = env ? strtoull(env, NULL, 0) : 1, n = env ? 1 : 400;
    uint64_t leads = 0, commits = 0, truncations = 0, dropped = 0;
    (void)state;
    for (uint64_t seed = first; seed < first + n; seed++) {
        struct prng p;
        prng_seed(&p, seed);
        static const enum raft_standing standings[] = {RAFT_VOTER, RAFT_VOTER, RAFT_VOTER, RAFT_FENCED, RAFT_UNFORMED};
        enum raft_standing standing = standings[prng_below(&p, 5)];
        struct raft_recovered from = {.hard = {2, 0, standing}, .first = 1, .last = 5, .runs = runs_2, .nruns = 2};
        struct rig *g = rig_new_from((uint32_t)prng_between(&p, 2, 5), &from);
        rig_start(g);
        rig_clear(g);
        if (prng_chance(&p, 50) && standing == RAFT_VOTER) rig_elect(g, g->config.nvoters / 2);
        for (int i = 0; i < 600; i++) {
            uint64_t last = g->last;
            random_event(g, &p);
            leads += RIG_ROLE(g) == RAFT_LEADER;
            truncations += g->last < last;
        }
        commits += RIG_COMMIT(g);
        dropped += RIG_DROPPED(g);
        rig_free(g);
    }
    print_message("%" PRIu64 " steps as leader, %" PRIu64 " committed, %" PRIu64 " truncations, %" PRIu64 " dropped\n",
                  leads, commits, truncations, dropped);
    if (!env) assert_true(leads > 1000 && commits > 100 && truncations > 20 && dropped > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_random_messages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
