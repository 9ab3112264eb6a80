/* standing.c - may this node vote? A node whose disk was lost or replaced must not: it would forget votes and entries
 * that it once promised to keep.
 *
 * UNFORMED (empty directory): asks all others whether they are empty. All are: a new cluster, it becomes a VOTER.
 * "Empty" still holds for a VOTER that has seen no term and no entry, so that members may form one after the other;
 * whoever has reached a term has done so with a majority of VOTERs. One is not, or a leader appears: FENCED.
 *
 * FENCED: as good as down. It stores and acknowledges what a leader sends, but neither votes nor counts, not even by
 * what it acknowledges (replicate.c, read.c). It asks the leader that it follows, under a nonce of this life. The leader
 * appends a no-op for that, the witness, and tells its index once n - n/2 of n voters, without this node and without who
 * is fenced, have it on disk: so every majority has one of them. When this node has the log up to there on disk, it is a
 * VOTER again. For the term that it is in, its vote counts as given to that leader.
 *
 * Why this is enough, whatever clocks, pauses and delayed messages do. X is the node, T the leader's term, W those who
 * have acknowledged the witness, each of them in T; it was made after X had lost its disk.
 * 1. When X lost its disk nobody had been elected in a term t > T: its majority has one of W, who then was in t before
 *    it acknowledged the witness in T. So any candidate for whom X has voted in a t > T had a log that ends in a term
 *    <= T; and it has not got the witness, as it was in t before that was made and takes nothing more of T.
 * 2. Every later leader has the witness: its majority has one of W, with or without a vote that X has forgotten (the
 *    paper's leader completeness, 5.4.3, asks no more). So a candidate of 1 is never elected: no forgotten vote matters.
 * 3. In T nobody but this leader can be elected, whose majority X is part of or not: it voted once in T at most. In terms
 *    before T it does not vote any more.
 * 4. What X acknowledged was of leaders of terms <= T (by 1). What became committed with that, or still will, is in
 *    this leader's log (leader completeness again: up to now X is one that has stopped), and was made before the witness.
 *
 * The voters are those of the leader's configuration, or of both. A candidate that counts by an older one lacks the
 * entry that ended it; a majority of that one has it, without X (who is fenced does not count; and who acknowledged it
 * before, votes for nobody who lacks it): that entry is the witness there. One that counts by a newer one than the leader
 * has got it in an older term (by 1) and not committed, so it needs a majority of the one before, too. A node that never
 * was a member takes the same way.
 *
 * A single damaged member has nobody to catch up from: it stays FENCED. */
#include "raft/core_priv.h"

bool raft__may_vote(const struct raft *r)
{
    return r->hard.standing == RAFT_VOTER && r->durable.standing == RAFT_VOTER;
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
    if (r->hard.standing == RAFT_UNFORMED && raft__alone(r)) r->hard.standing = RAFT_VOTER;
}

void raft__standing_tick(struct raft *r)
{
    bool unformed = r->hard.standing == RAFT_UNFORMED;
    if (r->hard.standing == RAFT_VOTER || r->fence_goal) r->probe_at = UINT64_MAX;
    else if (r->probe_at == UINT64_MAX) r->probe_at = r->now; /* another leader: it is to be asked, too */
    if (r->now < r->probe_at) return;
    r->probe_at = r->now + r->config.heartbeat_ns;
    for (uint32_t i = 0; i < r->npeers; i++) {
        const struct raft_peer *p = &r->peers[i];
        if (raft__is_self(r, p) || (unformed ? p->probed_empty : p->id != r->leader)) continue;
        raft__emit(r, RAFT_MSG_PROBE, p->id)->round = r->nonce;
    }
}

void raft__standing_peer(struct raft *r, const struct raft_peer *p)
{
    if (r->probe_at != UINT64_MAX && !p->down) r->probe_at = r->now;
}

void raft__standing_leader(struct raft *r)
{
    if (r->hard.standing == RAFT_UNFORMED) r->hard.standing = RAFT_FENCED;
}

void raft__standing_members(struct raft *r)
{
    if (r->started && r->hard.standing != RAFT_VOTER) r->probe_at = r->now;
}

void raft__standing_advance(struct raft *r)
{
    if (r->hard.standing != RAFT_FENCED || !r->fence_goal || !r->leader) return;
    if (min_u64(r->matched, r->persisted) < r->fence_goal) return;
    trace_info(r->config.trace, "raft %" PRIu64 ": caught up to %" PRIu64 ", voting again", r->config.id,
               r->fence_goal);
    r->hard.standing = RAFT_VOTER;
    if (!r->hard.vote) r->hard.vote = r->leader;
    raft__arm_election(r);
}

/* ---- the leader's side ---- */

/* So many others have p's witness that each majority has one of them. Who is fenced may have forgotten a vote, too. */
static bool witnessed(const struct raft *r, const struct raft_peer *p)
{
    for (int k = 0; k < 2; k++) {
        uint32_t n = 0, got = 0;
        for (uint32_t i = 0; i < r->npeers; i++) {
            const struct raft_peer *q = &r->peers[i];
            n += q->votes[k];
            got += q->votes[k] && q != p && raft__durable_match(r, q) >= p->witness;
        }
        if (n == 0 || got < n - n / 2) return false;
    }
    return true;
}

/* What p has to have before it votes again; 0: not known yet. */
static uint64_t goal_of(struct raft *r, struct raft_peer *p, uint64_t nonce)
{
    if (p->nonce != nonce) {
        if (r->transferee) return 0;
        p->nonce = nonce;
        p->witness = raft__append_noop(r);
    }
    return witnessed(r, p) ? p->witness : 0;
}

/* ---- questions and answers ---- */

void raft__on_probe(struct raft *r, const struct raft_msg *m)
{
    bool fresh = r->hard.standing == RAFT_VOTER && r->hard.term == 0 && r->terms.last == 0;
    struct raft_peer *p = raft__peer(r, m->from);
    struct raft_msg *resp = raft__emit(r, RAFT_MSG_PROBE_RESP, m->from);
    resp->round = m->round;
    resp->reject = r->hard.standing != RAFT_UNFORMED && !fresh;
    if (p && r->role == RAFT_LEADER && m->fenced) resp->last = goal_of(r, p, m->round);
}

void raft__on_probe_resp(struct raft *r, const struct raft_msg *m)
{
    struct raft_peer *p = raft__peer(r, m->from);
    if (m->round != r->nonce || r->hard.standing == RAFT_VOTER) return;
    p->probed_empty = !m->reject;
    if (m->term > r->hard.term) raft__become_follower(r, m->term, 0);
    if (r->hard.standing == RAFT_FENCED) {
        if (m->term == r->hard.term && m->from == r->leader) r->fence_goal = m->last;
        return;
    }
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
