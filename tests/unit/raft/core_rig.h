/* core_rig.h - one consensus core with its driver's duties done by hand or automatically, for tests of single rules.
 *
 * The rig keeps the log that the updates describe, collects all messages in an outbox, and makes things durable at once
 * unless a test holds that back. Included by one test program each, so everything is static. */
#ifndef QFS_TESTS_CORE_RIG_H
#define QFS_TESTS_CORE_RIG_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "raft/raft.h"

#define RIG_LOG 4096
#define RIG_BOX 1024
#define RIG_MS  NS_PER_MS

struct rig {
    struct raft *r;
    struct raft_config config;
    struct raft_update up; /* of the last step */
    unsigned flags;        /* of all steps since rig_clear */
    uint64_t now;
    struct raft_entry_meta log[RIG_LOG];
    uint64_t last, persisted;
    struct raft_hard hard; /* told last */
    bool hard_pending;
    bool hold_hard, hold_log; /* the test reports durability itself */
    struct raft_msg box[RIG_BOX];
    uint32_t nbox;
    uint64_t reads_upto, reads_index;
    uint32_t nsnapshot_to;
    uint64_t snapshot_to[RAFT_PEERS_MAX];
};

static inline uint32_t rig_span(void *arg, uint64_t first, uint64_t last, uint64_t max, uint64_t *bytes)
{
    struct rig *g = arg;
    uint32_t n = 0;
    assert_true(first >= 1 && first <= last && last <= g->last);
    for (*bytes = 0; first + n <= last && (n == 0 || *bytes + g->log[first + n].len <= max); n++)
        *bytes += g->log[first + n].len;
    return n;
}

static inline void rig_durable(struct rig *g);

static inline void rig_absorb(struct rig *g, const struct raft_event *ev)
{
    const struct raft_update *up = &g->up;
    g->flags |= up->flags;
    if (up->flags & RAFT_UP_TRUNCATE) {
        assert_in_range(up->truncate_from, 1, g->last);
        g->last = up->truncate_from - 1;
        if (g->persisted > g->last) g->persisted = g->last;
    }
    if (up->flags & RAFT_UP_APPEND) {
        assert_int_equal(up->append_first, g->last + 1);
        assert_int_equal(up->append_skip + up->append_n, ev->msg->n);
        for (uint32_t i = 0; i < up->append_n; i++) g->log[++g->last] = ev->msg->entries[up->append_skip + i];
    }
    if (up->flags & RAFT_UP_NOOP) {
        assert_int_equal(up->noop_index, g->last + 1);
        g->log[++g->last] = (struct raft_entry_meta){up->term, RAFT_NOOP, 0};
    }
    if (up->flags & RAFT_UP_PROPOSED) {
        assert_int_equal(up->proposed_first, g->last + 1);
        for (uint32_t i = 0; i < ev->n; i++) {
            g->log[++g->last] = ev->metas[i];
            g->log[g->last].term = up->term;
        }
    }
    if (up->flags & RAFT_UP_CONFIG) {
        assert_int_equal(up->members->index, g->last + 1);
        g->log[++g->last] = (struct raft_entry_meta){up->term, RAFT_CONFIG, 50};
    }
    if (up->flags & RAFT_UP_HARD) {
        g->hard = up->hard;
        g->hard_pending = true;
    }
    assert_in_range(up->nmsgs, 0, RAFT_MSGS_MAX);
    for (uint32_t i = 0; i < up->nmsgs; i++) {
        assert_in_range(g->nbox, 0, RIG_BOX - 1);
        if (up->msgs[i].type == RAFT_MSG_APPEND) assert_in_range(up->msgs[i].index + up->msgs[i].n, 0, g->last);
        g->box[g->nbox++] = up->msgs[i];
    }
    if (up->flags & RAFT_UP_READS) {
        g->reads_upto = up->reads_upto;
        g->reads_index = up->reads_index;
    }
    for (uint32_t i = 0; i < up->nsnapshot_to; i++) g->snapshot_to[g->nsnapshot_to++] = up->snapshot_to[i];
    assert_true(up->deadline > g->now || up->deadline == g->now);
}

static inline void rig_step(struct rig *g, struct raft_event ev)
{
    ev.now = g->now;
    raft_step(g->r, &ev, &g->up);
    rig_absorb(g, &ev);
    const char *bad = raft_invariant(g->r);
    if (bad) fail_msg("invariant: %s", bad);
    rig_durable(g);
}

static inline void rig_hard_durable(struct rig *g)
{
    if (!g->hard_pending) return;
    g->hard_pending = false;
    rig_step(g, (struct raft_event){.kind = RAFT_EV_HARD_PERSISTED, .hard = g->hard});
}

static inline void rig_log_durable(struct rig *g)
{
    if (g->persisted == g->last) return;
    g->persisted = g->last;
    rig_step(g, (struct raft_event){.kind = RAFT_EV_PERSISTED, .index = g->last, .term = g->log[g->last].term});
}

static inline void rig_durable(struct rig *g)
{
    if (!g->hold_hard) rig_hard_durable(g);
    if (!g->hold_log) rig_log_durable(g);
}

/* A core of n voters, ids 1 .. n, this one is `id`, as recovered. */
static inline struct rig *rig_new_id(uint64_t id, uint32_t n, const struct raft_recovered *from)
{
    struct rig *g = calloc(1, sizeof *g);
    g->config = (struct raft_config){
        .id = id,
        .nvoters = n,
        .election_ns = 300 * RIG_MS,
        .heartbeat_ns = 100 * RIG_MS,
        .drift_ppm = 1000,
        .lease_reads = true,
        .append_bytes_max = 1000,
        .window_bytes = 4000,
        .seed = 41 + id,
        .span = rig_span,
        .span_arg = g,
    };
    for (uint32_t i = 0; i < n; i++) g->config.voters[i] = i + 1;
    g->now = 1000 * NS_PER_S;
    g->r = raft_new(&g->config, from);
    g->last = g->persisted = max_u64(from->last, from->snapshot_index);
    for (uint32_t i = 0; i < from->nruns; i++)
        for (uint64_t j = from->runs[i].first; j <= g->last; j++)
            g->log[j] = (struct raft_entry_meta){from->runs[i].term, RAFT_COMMAND, 10};
    g->hard = from->hard;
    return g;
}

static inline struct rig *rig_new_from(uint32_t n, const struct raft_recovered *from) { return rig_new_id(1, n, from); }

static inline struct rig *rig_new(uint32_t n, uint64_t term, const struct raft_run *runs, uint32_t nruns, uint64_t last)
{
    struct raft_recovered from = {
        .hard = {term, 0, RAFT_VOTER}, .first = 1, .last = last, .runs = runs, .nruns = nruns};
    return rig_new_from(n, &from);
}

static inline void rig_free(struct rig *g)
{
    raft_free(g->r);
    free(g);
}

static inline void rig_start(struct rig *g) { rig_step(g, (struct raft_event){.kind = RAFT_EV_START}); }
static inline void rig_clear(struct rig *g)
{
    g->nbox = 0;
    g->flags = 0;
    g->nsnapshot_to = 0;
}
static inline void rig_tick(struct rig *g, uint64_t ns)
{
    g->now += ns;
    rig_step(g, (struct raft_event){.kind = RAFT_EV_TICK});
}
/* Time goes on, with a tick at every deadline. */
static inline void rig_run(struct rig *g, uint64_t ns)
{
    uint64_t end = g->now + ns;
    while (g->up.deadline <= end) {
        if (g->up.deadline > g->now) g->now = g->up.deadline;
        rig_step(g, (struct raft_event){.kind = RAFT_EV_TICK});
    }
    g->now = end;
}
static inline void rig_msg(struct rig *g, struct raft_msg m)
{
    m.to = m.to ? m.to : g->config.id;
    rig_step(g, (struct raft_event){.kind = RAFT_EV_MSG, .msg = &m});
}
static inline void rig_peer(struct rig *g, uint64_t peer, bool up)
{
    rig_step(g, (struct raft_event){.kind = up ? RAFT_EV_PEER_UP : RAFT_EV_PEER_DOWN, .peer = peer});
}
static inline bool rig_propose(struct rig *g, uint32_t n, uint32_t len)
{
    struct raft_entry_meta metas[256];
    assert_in_range(n, 1, 256);
    for (uint32_t i = 0; i < n; i++) metas[i] = (struct raft_entry_meta){0, RAFT_COMMAND, len};
    unsigned before = g->flags;
    g->flags = 0;
    rig_step(g, (struct raft_event){.kind = RAFT_EV_PROPOSE, .metas = metas, .n = n});
    bool ok = g->flags & RAFT_UP_PROPOSED;
    g->flags |= before;
    return ok;
}
static inline void rig_read(struct rig *g, uint64_t id)
{
    rig_step(g, (struct raft_event){.kind = RAFT_EV_READ, .read_id = id});
}

/* The first message of a type to a peer (0: any) in the outbox, taken out of it; NULL: none. */
static inline const struct raft_msg *rig_take(struct rig *g, uint8_t type, uint64_t to)
{
    static struct raft_msg taken;
    for (uint32_t i = 0; i < g->nbox; i++) {
        if (g->box[i].type != type || (to && g->box[i].to != to)) continue;
        taken = g->box[i];
        memmove(g->box + i, g->box + i + 1, (--g->nbox - i) * sizeof g->box[0]);
        return &taken;
    }
    return NULL;
}
static inline uint32_t rig_count(const struct rig *g, uint8_t type, uint64_t to)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->nbox; i++) n += g->box[i].type == type && (to == 0 || g->box[i].to == to);
    return n;
}
static inline struct raft_status rig_status(const struct rig *g)
{
    struct raft_status s;
    raft_status(g->r, &s);
    return s;
}
#define RIG_ROLE(g)    (rig_status(g).role)
#define RIG_TERM(g)    (rig_status(g).term)
#define RIG_COMMIT(g)  (rig_status(g).commit)
#define RIG_DROPPED(g) (rig_status(g).dropped)

/* Peers answer a campaign until this node leads: those with ids 2 .. 1 + voters. */
static inline void rig_elect(struct rig *g, uint32_t voters)
{
    for (int i = 0; i < 100 && RIG_ROLE(g) != RAFT_PRE_CANDIDATE; i++) rig_run(g, 50 * RIG_MS);
    assert_int_equal(RIG_ROLE(g), RAFT_PRE_CANDIDATE);
    uint64_t term = RIG_TERM(g) + 1;
    for (uint64_t p = 2; p < 2 + voters; p++)
        rig_msg(g, (struct raft_msg){.type = RAFT_MSG_PREVOTE_RESP, .from = p, .term = term});
    assert_int_equal(RIG_ROLE(g), RAFT_CANDIDATE);
    for (uint64_t p = 2; p < 2 + voters; p++)
        rig_msg(g, (struct raft_msg){.type = RAFT_MSG_VOTE_RESP, .from = p, .term = term});
    assert_int_equal(RIG_ROLE(g), RAFT_LEADER);
}
/* A peer acknowledges everything up to index, and the newest round. */
static inline void rig_ack(struct rig *g, uint64_t peer, uint64_t index, uint64_t round)
{
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_APPEND_RESP,
                                 .from = peer,
                                 .term = RIG_TERM(g),
                                 .index = index,
                                 .last = index,
                                 .round = round});
}
/* The newest round in the outbox towards a peer; 0: none. */
static inline uint64_t rig_round(const struct rig *g, uint64_t to)
{
    uint64_t round = 0;
    for (uint32_t i = 0; i < g->nbox; i++)
        if (g->box[i].type == RAFT_MSG_APPEND && g->box[i].to == to) round = max_u64(round, g->box[i].round);
    return round;
}
/* An APPEND of leader `from`: entries of `eterm` behind (prev, prev_term). */
static inline void rig_append(struct rig *g, uint64_t from, uint64_t term, uint64_t prev, uint64_t prev_term,
                              uint32_t n, uint64_t eterm, uint64_t commit)
{
    struct raft_entry_meta e[64];
    assert_in_range(n, 0, 64);
    for (uint32_t i = 0; i < n; i++) e[i] = (struct raft_entry_meta){eterm, RAFT_COMMAND, 10};
    rig_msg(g, (struct raft_msg){.type = RAFT_MSG_APPEND,
                                 .from = from,
                                 .term = term,
                                 .index = prev,
                                 .log_term = prev_term,
                                 .n = n,
                                 .entries = n ? e : NULL,
                                 .commit = commit,
                                 .last = max_u64(prev + n, commit),
                                 .lease = g->config.lease_reads,
                                 .round = g->now});
}

#endif
