/* transfer.c - handing leadership over without an election timeout (thesis 3.10).
 *
 * The leader refuses proposals, brings the target's log up to its own, then tells it to campaign at once; the votes
 * asked for are exempt from stickiness. If the target does not take over within an election timeout, or its connection
 * breaks before it was told, the leader goes on as before (its lease: read.c). */
#include "raft/core_priv.h"

static bool fit(const struct raft *r, const struct raft_peer *p)
{
    bool votes = p->votes[0] && p->votes[1];
    return votes && !raft__is_self(r, p) && !p->down && !p->fenced && p->heard_at + r->config.election_ns > r->now;
}

const struct raft_peer *raft__heir(const struct raft *r, uint64_t id)
{
    const struct raft_peer *best = NULL;
    for (uint32_t i = 0; i < r->npeers; i++) {
        const struct raft_peer *p = &r->peers[i];
        if (!fit(r, p) || (id && p->id != id)) continue;
        if (!best || p->match > best->match) best = p;
    }
    return best;
}

void raft__on_transfer(struct raft *r, uint64_t to)
{
    if (r->role != RAFT_LEADER || r->transferee) return;
    const struct raft_peer *best = raft__heir(r, to);
    if (!best) return;
    r->transferee = best->id;
    r->transfer_at = r->now + r->config.election_ns;
    r->timeout_sent = false;
}

void raft__transfer_advance(struct raft *r)
{
    if (!r->transferee) return;
    if (r->now >= r->transfer_at) {
        trace_info(r->config.trace, "raft %" PRIu64 ": transfer to %" PRIu64 " did not happen", r->config.id,
                   r->transferee);
        r->transferee = 0;
    } else if (!r->timeout_sent && raft__peer(r, r->transferee)->match == r->terms.last) {
        raft__emit(r, RAFT_MSG_TIMEOUT_NOW, r->transferee);
        r->timeout_sent = r->lease_off = true;
    }
}

void raft__on_timeout_now(struct raft *r, const struct raft_msg *m)
{
    if (m->term != r->hard.term || r->leader != m->from || r->role != RAFT_FOLLOWER) return;
    if (raft__may_vote(r) && raft__may_lead(r) && !r->installing && !raft__disk_late(r)) raft__campaign(r, true);
}
