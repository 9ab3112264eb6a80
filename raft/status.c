/* status.c - what the core shows of itself, and the invariants it keeps between steps. */
#include "raft/core_priv.h"

const char *raft_role_name(enum raft_role role)
{
    switch (role) {
    case RAFT_FOLLOWER: return "follower";
    case RAFT_PRE_CANDIDATE: return "pre-candidate";
    case RAFT_CANDIDATE: return "candidate";
    case RAFT_LEADER: return "leader";
    }
    return "?";
}

void raft_status(const struct raft *r, struct raft_status *out)
{
    *out = (struct raft_status){
        .id = r->config.id,
        .term = r->hard.term,
        .vote = r->hard.vote,
        .leader = r->leader,
        .commit = r->commit,
        .applied = r->applied,
        .persisted = r->persisted,
        .first = r->terms.base + 1,
        .last = r->terms.last,
        .role = r->role,
        .standing = r->hard.standing,
        .voter = raft__voter(r),
        .joint = r->members.joint,
        .disk_late = raft__disk_late(r),
        .members_index = r->members.index,
        .transferee = r->role == RAFT_LEADER ? r->transferee : 0,
        .npeers = r->npeers,
        .dropped = r->dropped,
    };
    for (uint32_t i = 0; i < r->npeers; i++) {
        const struct raft_peer *p = &r->peers[i];
        bool self = raft__is_self(r, p), leads = r->role == RAFT_LEADER;
        int at = raft_members_find(&r->members, p->id);
        uint64_t heard = leads ? p->heard_at : r->heard && r->heard_from == p->id ? r->heard_at : 0;
        out->peers[i] = (struct raft_peer_status){
            .id = p->id,
            .match = self    ? r->persisted
                     : leads ? p->match
                             : 0,
            .next = self    ? r->terms.last + 1
                    : leads ? p->next
                            : 0,
            .state = raft__state_name(self ? RAFT__REPLICATE : p->state),
            .recent = self || (heard && r->now - heard < r->config.election_ns),
            .seat = at < 0 ? RAFT_NO_SEAT : (enum raft_seat)r->members.seat[at],
            .seat_next = at < 0 ? RAFT_NO_SEAT : (enum raft_seat)r->members.next[at],
            .fenced = self ? !raft__may_vote(r) : p->fenced,
        };
    }
}

static const char *terms_invariant(const struct raft *r)
{
    const struct raft_terms *t = &r->terms;
    if (t->base > t->last || (t->base == 0) != (t->base_term == 0)) return "the log's base";
    if ((t->n == 0) != (t->base == t->last)) return "runs for no entries, or none for some";
    if (t->n && (t->runs[0].first > t->base + 1 || t->runs[t->n - 1].first > t->last)) return "runs beyond the log";
    if (t->n > 1 && t->runs[1].first <= t->base + 1) return "a run that should have been trimmed";
    if (t->n && t->runs[0].term < t->base_term) return "terms fall behind the base";
    for (uint32_t i = 1; i < t->n; i++)
        if (t->runs[i].first <= t->runs[i - 1].first || t->runs[i].term <= t->runs[i - 1].term)
            return "runs out of order";
    if (raft__last_term(t) > r->hard.term) return "an entry of a later term";
    return NULL;
}

static const char *peer_invariant(const struct raft *r, const struct raft_peer *p)
{
    uint64_t bytes = 0, last = 0;
    if (raft__is_self(r, p)) return NULL;
    if (p->next <= p->match || p->next > r->terms.last + 1) return "next outside match+1 .. last+1";
    if (p->ninflight > RAFT__INFLIGHT_MAX || (p->state != RAFT__REPLICATE && p->ninflight)) return "messages in flight";
    for (uint32_t i = 0; i < p->ninflight; i++) {
        const struct raft__inflight *f = &p->inflight[(p->inflight_at + i) % RAFT__INFLIGHT_MAX];
        if (f->last <= last || f->last <= p->match || f->last >= p->next) return "messages in flight out of order";
        last = f->last;
        bytes += f->bytes;
    }
    if (bytes != p->inflight_bytes) return "bytes in flight";
    if (p->acked_round > r->round) return "an answer to a round never started";
    return NULL;
}

static const char *leader_invariant(const struct raft *r)
{
    if (!raft__may_vote(r) || r->hard.vote != r->config.id || r->leader != r->config.id)
        return "leader without its vote";
    if (r->durable.term != r->hard.term || r->durable.vote != r->hard.vote)
        return "leader of a term that is not durable";
    if (raft__term_at(&r->terms, r->term_start) != r->hard.term && r->term_start > r->terms.base) return "no no-op";
    if (raft__term_at(&r->terms, r->terms.last) != r->hard.term) return "a leader's last entry is of its term";
    if (r->installing) return "a leader installs a snapshot";
    for (uint32_t i = 0; i < r->npeers; i++) {
        const char *bad = peer_invariant(r, &r->peers[i]);
        if (bad) return bad;
    }
    for (uint32_t i = 1; i < r->nreads; i++)
        if (r->reads[i].round <= r->reads[i - 1].round || r->reads[i].id <= r->reads[i - 1].id) return "rounds repeat";
    return NULL;
}

static const char *members_invariant(const struct raft *r)
{
    const struct raft_members *ms = &r->members;
    if (ms->n && raft_members_nonsense(ms)) return "a configuration that makes no sense";
    if (ms->index > r->terms.last || r->before.index > ms->index) return "a configuration beyond the log";
    if (r->npeers > RAFT__PEERS || r->self >= r->npeers || r->peers[r->self].id != r->config.id) return "who is who";
    for (uint32_t i = 0; i < r->npeers; i++) {
        const struct raft_peer *p = &r->peers[i];
        int at = raft_members_find(ms, p->id);
        if (at < 0 && !raft__is_self(r, p) && !p->parting_until) return "a peer that is no member";
        if (at < 0 ? raft__votes(p) : p->votes[0] != (ms->seat[at] == RAFT_VOTING)) return "who votes";
        if (p->parting_until && r->role != RAFT_LEADER) return "a peer parts from no leader";
    }
    for (uint32_t i = 0; i < ms->n; i++) {
        uint32_t k = 0;
        while (k < r->npeers && r->peers[k].id != ms->m[i].id) k++;
        if (k == r->npeers) return "a member that is no peer";
    }
    return NULL;
}

const char *raft_invariant(const struct raft *r)
{
    const char *bad = terms_invariant(r);
    if (!bad) bad = members_invariant(r);
    if (bad) return bad;
    if (r->commit > r->terms.last || r->commit < r->terms.base) return "commit outside the log";
    if (r->applied > r->commit) return "applied beyond commit";
    if (r->persisted > r->terms.last) return "persisted beyond the log";
    if (r->matched > r->terms.last) return "matched beyond the log";
    if (r->durable.term > r->hard.term) return "the durable term is ahead";
    if (r->told.term != r->hard.term || r->told.vote != r->hard.vote || r->told.standing != r->hard.standing)
        return "the driver does not know the hard state";
    if (r->role != RAFT_LEADER && r->nreads) return "reads without a leader";
    if ((r->role == RAFT_CANDIDATE || r->role == RAFT_PRE_CANDIDATE) && (r->leader || !raft__may_vote(r)))
        return "a candidate that may not be one";
    return r->role == RAFT_LEADER ? leader_invariant(r) : NULL;
}
