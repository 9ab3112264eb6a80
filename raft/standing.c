/* standing.c - may this node vote? A node whose disk was lost or replaced must not: it would forget votes and entries
 * that it once promised to keep.
 *
 * UNFORMED (empty directory): asks all others whether they are empty. All are: a new cluster, it becomes a VOTER.
 * "Empty" still holds for a VOTER that has seen no term and no entry, so that members may form one after the other;
 * whoever has reached a term has done so with a majority of VOTERs. One is not, or a leader appears: FENCED.
 *
 * FENCED: asks the others, too, and takes over the highest term they know. With `enough` answers of VOTERs it has met a
 * member that remembers of every majority it may have been part of, so that term is at least that of any leader it
 * helped to elect and of any entry it helped to commit. A leader of that term or later has all of those; when all that
 * this leader had by then is durable here, the node is a VOTER again. For the term it is in, its vote counts as given
 * to that leader.
 *
 * Until then it is as good as down: not even what it acknowledges counts (replicate.c, read.c), as a vote that it has
 * forgotten may still elect somebody who has not got what it stores now.
 *
 * A majority may not be complete yet: a candidate that is cut off may hold a vote that this node gave before, and get the
 * others later. Whoever answers this node's questions forgets such a vote, so the answers of all voters do. With fewer
 * this node waits until no candidate counts the vote any more (RAFT__VOTE_TIMEOUTS; clocks may differ by a factor of
 * RAFT__PATIENCE_TIMEOUTS over that), and asks anew: then a majority that it was part of is complete, or never will be.
 *
 * Which majorities it may have been part of follows from the configuration in the log of the leader it catches up from.
 * If there was a newer one, a majority of this one has committed the change to it in a later term, and one of `enough`
 * voters of this one remembers that term. So a stale list of members at the start does no harm: the answers that count
 * are those of the configuration in effect when it has caught up. A node that never was a member takes the same way.
 *
 * A single damaged member has nobody to catch up from: it stays FENCED. */
#include "raft/core_priv.h"

bool raft__may_vote(const struct raft *r)
{
    return r->hard.standing == RAFT_VOTER && r->durable.standing == RAFT_VOTER;
}

/* Answers of voters of C_old (k 0) or C_new (1); *n: how many such voters there are. */
static uint32_t answers(const struct raft *r, int k, uint32_t *n)
{
    uint32_t got = 0;
    *n = 0;
    for (uint32_t i = 0; i < r->npeers; i++) {
        if (!r->peers[i].votes[k]) continue;
        (*n)++;
        got += r->peers[i].probed;
    }
    return got;
}

static bool enough(const struct raft *r)
{
    for (int k = 0; k < 2; k++) {
        uint32_t n, got = answers(r, k, &n), others = n - r->peers[r->self].votes[k];
        if (n == 0 || got == 0 || got < (r->patient ? n - (n / 2 + 1) + 1 : others)) return false;
    }
    return true;
}

static bool all_empty(const struct raft *r)
{
    for (uint32_t i = 0; i < r->npeers; i++)
        if (!raft__is_self(r, &r->peers[i]) && !r->peers[i].probed_empty) return false;
    return raft__voter(r) && r->members.index == 0;
}

void raft__standing_start(struct raft *r)
{
    r->nonce = prng_u64(&r->prng) ^ r->now;
    r->probe_at = r->now;
    r->patient_at = r->now + RAFT__PATIENCE_TIMEOUTS * r->config.election_ns;
    if (r->hard.standing == RAFT_UNFORMED && raft__alone(r)) r->hard.standing = RAFT_VOTER;
}

static void ask_anew(struct raft *r)
{
    r->patient = true;
    r->nonce = prng_u64(&r->prng) ^ r->now;
    r->probe_at = r->now;
    for (uint32_t i = 0; i < r->npeers; i++) r->peers[i].probed = false;
}

void raft__standing_tick(struct raft *r)
{
    bool unformed = r->hard.standing == RAFT_UNFORMED;
    if (r->hard.standing != RAFT_VOTER && !r->patient && r->now >= r->patient_at && !enough(r)) ask_anew(r);
    if (r->hard.standing == RAFT_VOTER || (!unformed && enough(r))) r->probe_at = UINT64_MAX;
    if (r->now < r->probe_at) return;
    r->probe_at = r->now + r->config.heartbeat_ns;
    for (uint32_t i = 0; i < r->npeers; i++) {
        const struct raft_peer *p = &r->peers[i];
        if (raft__is_self(r, p) || (unformed ? p->probed_empty : p->probed)) continue;
        raft__emit(r, RAFT_MSG_PROBE, p->id)->round = r->nonce;
    }
}

void raft__standing_peer(struct raft *r, const struct raft_peer *p)
{
    if (r->probe_at != UINT64_MAX && !p->down) r->probe_at = r->now;
}

void raft__standing_leader(struct raft *r, const struct raft_msg *m)
{
    if (r->hard.standing == RAFT_UNFORMED) r->hard.standing = RAFT_FENCED;
    if (r->hard.standing != RAFT_FENCED || r->fence_goal || m->type != RAFT_MSG_APPEND || !enough(r)) return;
    r->fence_goal = m->last;
}

void raft__standing_members(struct raft *r)
{
    if (r->started && r->hard.standing != RAFT_VOTER) r->probe_at = r->now;
}

void raft__standing_advance(struct raft *r)
{
    if (r->hard.standing != RAFT_FENCED || !r->fence_goal || !r->leader) return;
    if (min_u64(r->matched, r->persisted) < r->fence_goal || !enough(r)) return;
    trace_info(r->config.trace, "raft %" PRIu64 ": caught up to %" PRIu64 ", voting again", r->config.id,
               r->fence_goal);
    r->hard.standing = RAFT_VOTER;
    if (!r->hard.vote) r->hard.vote = r->leader;
    raft__arm_election(r);
}

void raft__on_probe(struct raft *r, const struct raft_msg *m)
{
    bool fresh = r->hard.standing == RAFT_VOTER && r->hard.term == 0 && r->terms.last == 0;
    struct raft_peer *p = raft__peer(r, m->from);
    if (p) p->pre_granted = p->granted = false; /* it may have forgotten that it did */
    struct raft_msg *resp = raft__emit(r, RAFT_MSG_PROBE_RESP, m->from);
    resp->round = m->round;
    resp->reject = r->hard.standing != RAFT_UNFORMED && !fresh;
}

void raft__on_probe_resp(struct raft *r, const struct raft_msg *m)
{
    struct raft_peer *p = raft__peer(r, m->from);
    if (m->round != r->nonce || r->hard.standing == RAFT_VOTER) return;
    p->probed = !m->fenced;
    p->probed_empty = !m->reject;
    if (m->term > r->hard.term) raft__become_follower(r, m->term, 0);
    if (r->hard.standing != RAFT_UNFORMED) return;
    if (m->reject)
        r->hard.standing = RAFT_FENCED;
    else if (all_empty(r))
        r->hard.standing = RAFT_VOTER;
    else
        return;
    trace_info(r->config.trace, "raft %" PRIu64 ": %s", r->config.id,
               m->reject ? "fenced, others have data that this node lost" : "a new cluster, voting");
    raft__arm_election(r);
}
