/* election.c - roles, votes, and who may be disturbed.
 *
 * A follower that hears no leader for its election timeout asks for a pre-vote (thesis 9.6), changing nothing anywhere;
 * a majority of grants lets it campaign: the new term and its own vote become durable, then it asks for votes. Each
 * grant is held back until it is durable, too. Pre-vote and vote apply the same test of the logs.
 *
 * Only a voter campaigns (member.c: one being removed, too, while that may not be committed), and counts only the voters
 * of its own newest configuration; but any node grants a vote
 * to whoever asks with a log as good (thesis 4.2.1), for the configuration may be one it has not got yet.
 *
 * A node that heard a leader lately refuses both (thesis 4.2.3), so that nobody who is merely cut off can depose a
 * leader that works, and so that leases hold (read.c). Lately means within the election timeout; if the connection to
 * that leader has broken, or this process has only just started, within the shorter time for which a leader may trust
 * its lease (none if it serves no reads that way): then the election starts a random few milliseconds later. A vote
 * asked for in a leadership transfer is exempt.
 *
 * No request goes unanswered: grants of a pre-vote carry its term, rejects the rejecting node's term, so that whoever
 * is behind learns it. Requests are repeated each heartbeat interval. Votes that arrive late still count while this
 * node has not moved on from their term. A vote is forgotten when the connection to its sender breaks: the sender may come
 * back without its disk (should this node not hear of that, no harm is done: standing.c). */
#include "raft/core_priv.h"

void raft__arm_election(struct raft *r)
{
    r->election_at = r->now + r->config.election_ns + prng_below(&r->prng, r->config.election_ns);
}

/* How long the leader heard last binds this node. */
static uint64_t sticky_until(struct raft *r)
{
    const struct raft_peer *p = raft__peer(r, r->heard_from);
    if (r->role == RAFT_LEADER) return UINT64_MAX;
    if (!r->heard) return 0;
    if (p && !p->down) return r->heard_at + r->config.election_ns;
    return r->heard_lease ? r->heard_at + r->hold_ns : 0;
}

void raft__heard(struct raft *r, const struct raft_msg *m)
{
    r->heard = true;
    r->heard_at = r->now;
    r->heard_from = m->from;
    if (m->type == RAFT_MSG_APPEND) r->heard_lease = m->lease;
    raft__arm_election(r);
}

static void enter_term(struct raft *r, uint64_t term)
{
    r->hard.term = term;
    r->hard.vote = 0;
    r->vote_reply = 0;
    r->matched = r->acked = r->ack_round = 0;
    r->fence_goal = 0;
    for (uint32_t i = 0; i < r->npeers; i++) r->peers[i].granted = false;
}

void raft__become_follower(struct raft *r, uint64_t term, uint64_t leader)
{
    check(term >= r->hard.term);
    if (term > r->hard.term) enter_term(r, term);
    if (r->role == RAFT_LEADER) {
        raft__reads_fail(r);
        r->transferee = 0;
        raft__members_part(r);
    }
    if (r->role != RAFT_FOLLOWER) raft__arm_election(r);
    r->role = RAFT_FOLLOWER;
    r->leader = leader;
    r->asked = false;
}

/* ---- asking ---------------------------------------------------------------------------------------------- */

static uint64_t pre_granted(const struct raft *r, const struct raft_peer *p) { return p->pre_granted; }

static uint64_t granted(const struct raft *r, const struct raft_peer *p) { return p->granted; }

/* Asks p for what it has not granted yet. */
static void ask(struct raft *r, const struct raft_peer *p)
{
    bool pre = r->role == RAFT_PRE_CANDIDATE;
    struct raft_msg *m;
    if (raft__is_self(r, p) || !raft__votes(p) || (pre ? p->pre_granted : p->granted)) return;
    m = raft__emit(r, pre ? RAFT_MSG_PREVOTE : RAFT_MSG_VOTE, p->id);
    m->term = pre ? r->hard.term + 1 : r->hard.term;
    m->index = r->terms.last;
    m->log_term = raft__last_term(&r->terms);
    m->transfer = !pre && r->asked_transfer;
}

static void ask_all(struct raft *r)
{
    for (uint32_t i = 0; i < r->npeers; i++) ask(r, &r->peers[i]);
    r->resend_at = r->now + r->config.heartbeat_ns;
}

static bool asking(const struct raft *r)
{
    return r->role == RAFT_PRE_CANDIDATE || (r->role == RAFT_CANDIDATE && r->asked);
}

static void prevote(struct raft *r)
{
    r->role = RAFT_PRE_CANDIDATE;
    r->leader = 0;
    for (uint32_t i = 0; i < r->npeers; i++) r->peers[i].pre_granted = false;
    r->peers[r->self].pre_granted = true;
    raft__arm_election(r);
    if (raft__quorum(r, pre_granted))
        raft__campaign(r, false);
    else
        ask_all(r);
}

void raft__campaign(struct raft *r, bool transfer)
{
    check(raft__may_vote(r) && !r->installing);
    enter_term(r, r->hard.term + 1);
    r->hard.vote = r->config.id;
    r->role = RAFT_CANDIDATE;
    r->leader = 0;
    r->asked = false;
    r->asked_transfer = transfer;
    raft__arm_election(r);
    trace_info(r->config.trace, "raft %" PRIu64 ": candidate of term %" PRIu64, r->config.id, r->hard.term);
}

void raft__election_advance(struct raft *r)
{
    if (r->durable.term != r->hard.term || r->durable.vote != r->hard.vote) return;
    if (r->vote_reply) {
        raft__emit(r, RAFT_MSG_VOTE_RESP, r->vote_reply);
        r->vote_reply = 0;
    }
    if (r->role != RAFT_CANDIDATE || r->asked) return;
    r->asked = true;
    r->peers[r->self].granted = true;
    raft__arm_election(r);
    if (raft__quorum(r, granted))
        raft__lead(r);
    else
        ask_all(r);
}

void raft__on_prevote_resp(struct raft *r, const struct raft_msg *m)
{
    if (m->reject) {
        if (m->term > r->hard.term) raft__become_follower(r, m->term, 0);
        return;
    }
    if (m->fenced) {
        raft__drop(r, m, "a vote of a node that may not vote");
        return;
    }
    if (r->role != RAFT_PRE_CANDIDATE || m->term != r->hard.term + 1) return;
    raft__peer(r, m->from)->pre_granted = true;
    if (raft__quorum(r, pre_granted)) raft__campaign(r, false);
}

void raft__on_vote_resp(struct raft *r, const struct raft_msg *m)
{
    if (m->reject) {
        if (m->term > r->hard.term) raft__become_follower(r, m->term, 0);
        return;
    }
    if (m->fenced || m->term > r->hard.term) {
        raft__drop(r, m, "a vote that nobody could give");
        return;
    }
    bool open = (r->role == RAFT_CANDIDATE || r->role == RAFT_PRE_CANDIDATE) && r->asked;
    if (m->term < r->hard.term || !open) return;
    raft__peer(r, m->from)->granted = true;
    if (raft__quorum(r, granted)) raft__lead(r);
}

/* ---- answering ------------------------------------------------------------------------------------------- */

static bool request_nonsense(struct raft *r, const struct raft_msg *m)
{
    bool bad = m->term == 0 || m->log_term >= m->term || (m->index == 0) != (m->log_term == 0) || m->fenced;
    if (bad) raft__drop(r, m, "a request for votes that makes no sense");
    return bad;
}

/* <0, 0, >0: the requester's log is older, the same, newer than ours. */
static int compare_logs(const struct raft *r, const struct raft_msg *m)
{
    uint64_t term = raft__last_term(&r->terms);
    if (m->log_term != term) return m->log_term < term ? -1 : 1;
    if (m->index != r->terms.last) return m->index < r->terms.last ? -1 : 1;
    return 0;
}

static void refuse(struct raft *r, enum raft_msg_type type, uint64_t to) { raft__emit(r, type, to)->reject = true; }

void raft__on_prevote(struct raft *r, const struct raft_msg *m)
{
    int newer = compare_logs(r, m);
    if (request_nonsense(r, m)) return;
    if (!raft__may_vote(r) || m->term <= r->hard.term || r->now < sticky_until(r) || newer < 0) {
        refuse(r, RAFT_MSG_PREVOTE_RESP, m->from);
        return;
    }
    raft__emit(r, RAFT_MSG_PREVOTE_RESP, m->from)->term = m->term;
    /* Of two that ask each other at the same time one yields, else they would split the votes. */
    if (r->role == RAFT_PRE_CANDIDATE && (newer > 0 || m->from > r->config.id)) r->role = RAFT_FOLLOWER;
    r->election_at = max_u64(r->election_at, r->now + r->config.election_ns / 8);
}

void raft__on_vote(struct raft *r, const struct raft_msg *m)
{
    if (request_nonsense(r, m)) return;
    bool sticky = !m->transfer && r->now < sticky_until(r);
    if (m->term > r->hard.term && !sticky) raft__become_follower(r, m->term, 0);
    bool free_vote = r->hard.vote == 0 || r->hard.vote == m->from;
    if (!raft__may_vote(r) || m->term != r->hard.term || sticky || !free_vote || compare_logs(r, m) < 0) {
        refuse(r, RAFT_MSG_VOTE_RESP, m->from);
        return;
    }
    if (r->role != RAFT_FOLLOWER) raft__become_follower(r, r->hard.term, 0);
    r->hard.vote = r->vote_reply = m->from;
    raft__arm_election(r);
}

/* ---- time and connections -------------------------------------------------------------------------------- */

void raft__election_tick(struct raft *r)
{
    if (r->role == RAFT_LEADER) return;
    if (asking(r) && r->now >= r->resend_at) ask_all(r);
    if (r->now < r->election_at) return;
    if (!raft__may_vote(r) || r->installing || !raft__may_lead(r) || raft__disk_late(r)) {
        if (r->role != RAFT_FOLLOWER) raft__become_follower(r, r->hard.term, 0);
        r->leader = 0;
        raft__arm_election(r);
    } else if (r->role == RAFT_CANDIDATE && !r->asked) {
        raft__arm_election(r); /* a slow disk: what it would ask for next would not come sooner */
    } else {
        prevote(r);
    }
}

uint64_t raft__election_deadline(const struct raft *r)
{
    return asking(r) ? min_u64(r->election_at, r->resend_at) : r->election_at;
}

void raft__election_peer(struct raft *r, struct raft_peer *p)
{
    bool leads = r->role == RAFT_FOLLOWER && r->leader == p->id;
    if (p->down) {
        p->pre_granted = p->granted = false;
        uint64_t soon = max_u64(r->now, sticky_until(r)) + prng_below(&r->prng, r->config.election_ns / 16 + 1);
        if (leads) r->election_at = min_u64(r->election_at, soon);
    } else {
        if (leads) raft__arm_election(r);
        if (asking(r)) ask(r, p);
    }
}
