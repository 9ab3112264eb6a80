/* member.c - changes of the configuration: joint consensus with learners (thesis ch. 4; paper section 6).
 *
 * A configuration takes effect where its entry is appended, here and on followers, committed or not. A change of voters
 * goes through C_old,new, which counts majorities of both; once that is committed the leader - or the next one, when its
 * no-op is committed - appends C_new. A change of learners alone is one entry. One change is under way at a time, and
 * none begins before the leader has committed an entry of its own term: so in any log at most the last configuration is
 * uncommitted. Hence two are kept, the effective one and the one before it; the latter comes back when a suffix is
 * truncated, and a message that would truncate further contradicts what is committed (follow.c).
 *
 * A leader that has no vote in a committed C_new hands over to the voter that has most, and steps down. Who leaves is
 * still sent the entry that removes it, so that it knows and keeps still; for ten election timeouts at most. Should it
 * miss that, PreVote and stickiness keep it from disturbing anyone (election.c).
 *
 * Voters come from learners that have caught up: at most a window of unacknowledged bytes behind, and not fenced. A
 * change after which too few voters answer and may vote is refused. */
#include "raft/core_priv.h"

#define PARTING_TIMEOUTS 10

static bool votes_in(const struct raft_members *ms, uint32_t i, bool next)
{
    return (next && ms->joint ? ms->next[i] : ms->seat[i]) == RAFT_VOTING;
}

bool raft__voter(const struct raft *r) { return raft__votes(&r->peers[r->self]); }

/* One that C_new removes may be the only one whose log can commit C_new (thesis, figure 4.6). */
bool raft__may_lead(const struct raft *r)
{
    int at = raft_members_find(&r->before, r->config.id);
    if (raft__voter(r)) return true;
    return r->commit < r->members.index && at >= 0 && (votes_in(&r->before, (uint32_t)at, false) ||
                                                       votes_in(&r->before, (uint32_t)at, true));
}

/* ---- who is a peer --------------------------------------------------------------------------------------- */

/* Leader: nothing is known of it yet. Under its number there may have been another directory a moment ago, whose answers
 * may still be under way: only those to what is sent from now on count. */
static void begin_peer(struct raft *r, struct raft_peer *p)
{
    p->parting_until = 0;
    p->since = raft__stamp(r);
    p->match = p->acked_round = 0;
    p->nonce = p->witness = 0;
    p->heard_at = r->now;
    raft__progress_reset(r, p, r->terms.last + 1);
    p->beat = true;
}

static struct raft_peer *add_peer(struct raft *r, uint64_t id)
{
    check(r->npeers < RAFT__PEERS);
    struct raft_peer *p = &r->peers[r->npeers++];
    *p = (struct raft_peer){.id = id};
    if (r->role == RAFT_LEADER) begin_peer(r, p);
    return p;
}

static void drop_peer(struct raft *r, uint32_t i)
{
    uint64_t id = r->peers[i].id;
    if (r->transferee == id) r->transferee = 0;
    memmove(&r->peers[i], &r->peers[i + 1], (--r->npeers - i) * sizeof r->peers[0]);
}

static void find_self(struct raft *r)
{
    for (uint32_t i = 0; i < r->npeers; i++)
        if (r->peers[i].id == r->config.id) r->self = i;
}

/* Fits the peers to the configuration in effect. This node is always one of them. */
static void seat_peers(struct raft *r)
{
    const struct raft_members *ms = &r->members;
    for (uint32_t i = r->npeers; i-- > 0;) {
        struct raft_peer *p = &r->peers[i];
        p->votes[0] = p->votes[1] = false;
        if (p->id == r->config.id || raft_members_find(ms, p->id) >= 0) {
            if (p->parting_until) begin_peer(r, p);
        } else if (r->role == RAFT_LEADER && !p->parting_until && !p->down) {
            p->parting_until = r->now + PARTING_TIMEOUTS * r->config.election_ns;
            if (r->transferee == p->id) r->transferee = 0;
        } else {
            drop_peer(r, i);
        }
    }
    for (uint32_t i = 0; i < ms->n; i++) {
        struct raft_peer *p = raft__peer(r, ms->m[i].id);
        for (uint32_t k = 0; !p && k < r->npeers && r->npeers == RAFT__PEERS; k++)
            if (r->peers[k].parting_until) drop_peer(r, k);
        if (!p) p = add_peer(r, ms->m[i].id);
        p->votes[0] = votes_in(ms, i, false);
        p->votes[1] = votes_in(ms, i, true);
    }
    if (!raft__peer(r, r->config.id)) add_peer(r, r->config.id);
    find_self(r);
}

void raft__members_part(struct raft *r)
{
    for (uint32_t i = r->npeers; i-- > 0;)
        if (r->peers[i].parting_until) drop_peer(r, i);
    find_self(r);
}

/* ---- which configuration is in effect -------------------------------------------------------------------- */

static void in_effect(struct raft *r)
{
    seat_peers(r);
    if (r->up) r->up->flags |= RAFT_UP_MEMBERS;
    raft__standing_members(r);
    trace_info(r->config.trace, "raft %" PRIu64 ": configuration of index %" PRIu64 "%s, %u members, %s",
               r->config.id, r->members.index, r->members.joint ? " (joint)" : "", r->members.n,
               raft__voter(r) ? "this node votes" : "this node has no vote");
}

void raft__members_init(struct raft *r, const struct raft_recovered *from)
{
    const struct raft_config *c = &r->config;
    if (c->members) {
        r->members = *c->members;
    } else {
        for (uint32_t i = 0; i < c->nvoters; i++) raft_members_add(&r->members, c->voters[i], "", RAFT_VOTING);
    }
    r->config.members = NULL;
    r->before = r->members;
    for (uint32_t i = 0; i < from->nmembers && from->members[i].index <= r->terms.last; i++) {
        check(!raft_members_nonsense(&from->members[i]));
        r->before = from->members[i].index > from->snapshot_index ? r->members : from->members[i];
        r->members = from->members[i];
    }
    seat_peers(r);
}

void raft__members_take(struct raft *r, const struct raft_members *ms)
{
    check(ms->index > r->members.index && !raft_members_nonsense(ms));
    r->before = r->members;
    r->members = *ms;
    in_effect(r);
}

void raft__members_truncate(struct raft *r, uint64_t from)
{
    if (r->members.index < from) return;
    check(r->before.index < from);
    r->members = r->before;
    in_effect(r);
}

void raft__members_installed(struct raft *r, uint64_t index, const struct raft_members *ms)
{
    bool newer = r->members.index > index && r->terms.last >= r->members.index;
    if (!ms || !ms->n) {
        raft__members_truncate(r, r->terms.last + 1);
        return;
    }
    if (newer) {
        if (r->before.index <= index) r->before = *ms;
        return;
    }
    r->members = r->before = *ms;
    in_effect(r);
}

const struct raft_members *raft_members_now(const struct raft *r) { return &r->members; }

/* ---- the leader changes it ------------------------------------------------------------------------------- */

static void append_config(struct raft *r, struct raft_members *ms)
{
    raft__terms_append(&r->terms, r->hard.term);
    ms->index = r->terms.last;
    r->up->flags |= RAFT_UP_CONFIG;
    raft__members_take(r, ms);
}

static bool caught_up(const struct raft *r, const struct raft_peer *p)
{
    uint64_t bytes, max = r->config.window_bytes;
    if (p->fenced || p->down || p->heard_at + r->config.election_ns <= r->now) return false;
    if (p->match >= r->terms.last) return true;
    if (p->state != RAFT__REPLICATE || p->match < r->terms.base) return false;
    uint32_t n = r->config.span(r->config.span_arg, p->match + 1, r->terms.last, max, &bytes);
    return p->match + n == r->terms.last && bytes <= max;
}

static bool answers(const struct raft *r, const struct raft_peer *p)
{
    return raft__is_self(r, p) || (!p->down && !p->fenced && p->heard_at + r->config.election_ns > r->now);
}

static bool same_members(const struct raft_members *a, const struct raft_members *b, bool voters)
{
    for (uint32_t i = 0; i < a->n; i++) {
        int k = raft_members_find(b, a->m[i].id);
        uint8_t other = k < 0 ? RAFT_NO_SEAT : b->seat[k];
        if (voters && (a->seat[i] == RAFT_VOTING) != (other == RAFT_VOTING)) return false;
        if (!voters && (a->seat[i] != other || strcmp(a->m[i].addr, b->m[k].addr) != 0)) return false;
    }
    return true;
}

static enum raft_verdict judge_voters(struct raft *r, const struct raft_members *want, uint64_t *who)
{
    uint32_t voters = 0, there = 0;
    uint64_t silent = 0;
    for (uint32_t i = 0; i < want->n; i++) {
        const struct raft_peer *p = raft__peer(r, want->m[i].id);
        if (want->seat[i] != RAFT_VOTING) continue;
        *who = want->m[i].id;
        if (!p || p->parting_until || raft_members_find(&r->members, p->id) < 0) return RAFT_CHANGE_STRANGER;
        if (!p->votes[0] && !caught_up(r, p)) return RAFT_CHANGE_LAGS;
        voters++;
        there += answers(r, p);
        if (!answers(r, p)) silent = p->id;
    }
    *who = silent;
    return there >= voters / 2 + 1 ? RAFT_CHANGE_TAKEN : RAFT_CHANGE_NO_QUORUM;
}

static enum raft_verdict judge(struct raft *r, const struct raft_members *want, bool even_same, uint64_t *who)
{
    const struct raft_members *now = &r->members;
    if (r->role != RAFT_LEADER) return RAFT_CHANGE_NOT_LEADER;
    if (r->commit < r->term_start) return RAFT_CHANGE_TOO_EARLY;
    if (now->joint || r->commit < now->index || r->transferee) return RAFT_CHANGE_PENDING;
    if (want->joint || raft_members_nonsense(want)) return RAFT_CHANGE_NONSENSE;
    bool same = same_members(want, now, false) && same_members(now, want, false);
    if (same) return even_same ? RAFT_CHANGE_TAKEN : RAFT_CHANGE_NOTHING;
    return judge_voters(r, want, who);
}

/* C_old,new. False: the two together are too many. */
static bool join(const struct raft_members *old, const struct raft_members *want, struct raft_members *out)
{
    *out = *want;
    out->joint = true;
    for (uint32_t i = 0; i < out->n; i++) {
        int k = raft_members_find(old, out->m[i].id);
        out->seat[i] = k < 0 ? RAFT_NO_SEAT : old->seat[k];
    }
    for (uint32_t i = 0; i < old->n; i++) {
        if (raft_members_find(out, old->m[i].id) >= 0) continue;
        if (out->n == RAFT_PEERS_MAX) return false;
        raft_members_add(out, old->m[i].id, old->m[i].addr, old->seat[i]);
        out->next[out->n - 1] = RAFT_NO_SEAT;
        out->told[out->n - 1] = old->told[i];
    }
    return true;
}

static struct raft_members leave(const struct raft_members *joint)
{
    struct raft_members out = {0};
    for (uint32_t i = 0; i < joint->n; i++) {
        if (joint->next[i] == RAFT_NO_SEAT) continue;
        raft_members_add(&out, joint->m[i].id, joint->m[i].addr, joint->next[i]);
        out.told[out.n - 1] = joint->told[i];
    }
    return out;
}

void raft__on_members(struct raft *r, const struct raft_event *ev)
{
    struct raft_members next;
    uint64_t who = 0;
    enum raft_verdict v = judge(r, ev->members, ev->ok, &who);
    if (v == RAFT_CHANGE_TAKEN) {
        bool voters = same_members(ev->members, &r->members, true) && same_members(&r->members, ev->members, true);
        next = *ev->members;
        if (!voters && !join(&r->members, ev->members, &next)) v = RAFT_CHANGE_NONSENSE;
    }
    r->up->verdict = v;
    r->up->verdict_id = v == RAFT_CHANGE_TAKEN ? 0 : who;
    if (v == RAFT_CHANGE_TAKEN) append_config(r, &next);
}

/* ---- what follows from a commit -------------------------------------------------------------------------- */

void raft__resign(struct raft *r)
{
    const struct raft_peer *best = raft__heir(r, 0);
    if (best && best->match >= r->members.index) raft__emit(r, RAFT_MSG_TIMEOUT_NOW, best->id);
    r->lease_off = true;
    raft__become_follower(r, r->hard.term, 0);
}

static void let_go(struct raft *r)
{
    for (uint32_t i = r->npeers; i-- > 0;) {
        const struct raft_peer *p = &r->peers[i];
        if (!p->parting_until) continue;
        bool knows = p->match >= r->members.index && p->commit_sent >= r->members.index;
        if (knows || p->down || r->now >= p->parting_until) drop_peer(r, i);
    }
    find_self(r);
}

void raft__members_advance(struct raft *r)
{
    struct raft_members *ms = &r->members;
    if (!ms->joint) let_go(r);
    if (r->commit < r->term_start || r->commit < ms->index) return;
    if (ms->joint) {
        struct raft_members next = leave(ms);
        append_config(r, &next);
    } else if (!raft__voter(r)) {
        trace_info(r->config.trace, "raft %" PRIu64 ": has no vote any more, steps down", r->config.id);
        raft__resign(r);
    }
}
