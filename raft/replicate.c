/* replicate.c - the leader: its no-op, proposals, APPENDs, acknowledgements, commit, CheckQuorum.
 *
 * Entries leave for the followers in the step in which they are proposed, while the leader's own disk writes; the
 * leader counts itself, as everyone else, only up to what is durable. Only entries of the own term are committed by
 * counting (paper 5.4.2). Who is fenced counts for nothing, neither here nor in reads (standing.c). Every APPEND carries
 * this step's stamp, and every answer brings one back: the same messages serve replication, heartbeat, ReadIndex, lease
 * and CheckQuorum. Followers learn a new commit index with the next entries or, if none follow, by one APPEND after an
 * eighth of a heartbeat interval.
 *
 * What is lost is found by rejects and heartbeats. If an update has no room for all messages, the rest goes with the
 * next step, which is then due at once. A leader that no majority answers for an election timeout steps down
 * (thesis 6.2). */
#include "raft/core_priv.h"

uint64_t raft__stamp(struct raft *r)
{
    if (!r->stamped) {
        r->round = max_u64(r->round + 1, r->now);
        r->stamped = true;
    }
    return r->round;
}

static void append_own(struct raft *r, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) raft__terms_append(&r->terms, r->hard.term);
}

uint64_t raft__append_noop(struct raft *r)
{
    append_own(r, 1);
    r->up->flags |= RAFT_UP_NOOP;
    r->up->noop_index = r->terms.last;
    return r->terms.last;
}

void raft__lead(struct raft *r)
{
    check(raft__may_vote(r) && raft__may_lead(r) && r->hard.vote == r->config.id && r->durable.term == r->hard.term && !r->installing);
    r->role = RAFT_LEADER;
    r->leader = r->config.id;
    r->heard = false;
    r->transferee = 0;
    r->timeout_sent = r->lease_off = false;
    r->nreads = 0;
    r->read_waiting = 0;
    r->commit_due = 0;
    for (uint32_t i = 0; i < r->npeers; i++) {
        struct raft_peer *p = &r->peers[i];
        p->match = 0;
        p->acked_round = p->since = p->commit_sent = p->snapshot_retry_at = 0;
        p->nonce = p->witness = 0;
        p->heard_at = r->now;
        raft__progress_reset(r, p, r->terms.last + 1);
        p->beat = true;
    }
    r->term_start = raft__append_noop(r);
    trace_info(r->config.trace, "raft %" PRIu64 ": leader of term %" PRIu64 " from index %" PRIu64, r->config.id,
               r->hard.term, r->term_start);
}

void raft__on_propose(struct raft *r, const struct raft_event *ev)
{
    check(ev->n > 0 && ev->metas);
    if (r->role != RAFT_LEADER || r->transferee) return;
    r->metas = ev->metas;
    r->nmetas = ev->n;
    r->up->flags |= RAFT_UP_PROPOSED;
    r->up->proposed_first = r->terms.last + 1;
    append_own(r, ev->n);
}

void raft__on_append_resp(struct raft *r, const struct raft_msg *m)
{
    struct raft_peer *p = raft__peer(r, m->from);
    if (m->term > r->hard.term) {
        if (m->reject)
            raft__become_follower(r, m->term, 0);
        else
            raft__drop(r, m, "an acknowledgement from the future");
        return;
    }
    if (m->term < r->hard.term || r->role != RAFT_LEADER) return;
    if (m->round > r->round) {
        raft__drop(r, m, "it answers a message never sent");
        return;
    }
    if (m->round < p->since) return;
    p->heard_at = r->now;
    p->acked_round = max_u64(p->acked_round, m->round);
    if (m->reject)
        raft__progress_reject(r, p, m);
    else
        raft__progress_accept(r, p, m);
}

uint64_t raft__durable_match(const struct raft *r, const struct raft_peer *p)
{
    if (p->fenced) return 0; /* standing.c */
    return raft__is_self(r, p) ? r->persisted : p->match;
}

void raft__commit_advance(struct raft *r)
{
    uint64_t index = raft__quorum(r, raft__durable_match);
    if (index <= r->commit || raft__term_at(&r->terms, index) != r->hard.term) return;
    r->commit = index;
    if (!r->commit_due && r->npeers > 1) r->commit_due = r->now + r->config.heartbeat_ns / 8;
}

static uint64_t heard_at(const struct raft *r, const struct raft_peer *p)
{
    return raft__is_self(r, p) ? UINT64_MAX : p->heard_at;
}

/* When the leader has been without a majority for too long. */
static uint64_t quorum_deadline(const struct raft *r)
{
    uint64_t at = raft__quorum(r, heard_at);
    return at == UINT64_MAX ? at : at + r->config.election_ns;
}

void raft__check_quorum(struct raft *r)
{
    if (r->now < quorum_deadline(r)) return;
    trace_info(r->config.trace, "raft %" PRIu64 ": no majority answers, stepping down", r->config.id);
    raft__become_follower(r, r->hard.term, 0);
}

void raft__leader_peer(struct raft *r, struct raft_peer *p)
{
    raft__progress_reset(r, p, p->next);
    p->snapshot_retry_at = 0;
    if (p->down && r->transferee == p->id && !r->timeout_sent) r->transferee = 0;
}

/* As config.span, also over the entries of this step, which the log does not have yet. */
static uint32_t span(const struct raft *r, uint64_t first, uint64_t last, uint64_t *bytes)
{
    uint64_t max = r->config.append_bytes_max, stored = min_u64(last, r->stored_last);
    uint32_t n = 0;
    *bytes = 0;
    last = min_u64(last, first + RAFT__ENTRIES_MAX - 1);
    stored = min_u64(stored, last);
    if (first <= stored) {
        n = r->config.span(r->config.span_arg, first, stored, max, bytes);
        check(n >= 1 && n <= stored - first + 1);
        if (first + n <= stored) return n;
    }
    for (uint64_t i = first + n; i <= last; i++, n++) {
        uint64_t at = i - r->stored_last - 1;
        uint32_t len = at < r->nmetas ? r->metas[at].len : 0; /* else the core's own: a no-op, a configuration */
        if (n && *bytes + len > max) break;
        *bytes += len;
    }
    return n;
}

static void send_append(struct raft *r, struct raft_peer *p, uint64_t prev, uint32_t n)
{
    struct raft_msg *m = raft__emit(r, RAFT_MSG_APPEND, p->id);
    m->index = prev;
    m->log_term = raft__term_at(&r->terms, prev);
    m->n = n;
    m->commit = r->commit;
    m->last = r->terms.last;
    m->lease = r->config.lease_reads;
    m->round = raft__stamp(r);
    check(prev == 0 || m->log_term > 0);
    p->sent_at = r->now;
    p->commit_sent = r->commit;
    p->beat = false;
}

/* Sends p its next entries if it may have some now. False: nothing was sent. */
static bool send_entries(struct raft *r, struct raft_peer *p)
{
    uint64_t bytes;
    if (p->down || p->state == RAFT__SNAPSHOT) return false;
    if (p->next <= r->terms.base) {
        raft__snapshot_need(r, p);
        return false;
    }
    if (p->state == RAFT__PROBE && p->probe_sent) return false;
    if (p->state == RAFT__REPLICATE && (p->next > r->terms.last || raft__progress_full(r, p))) return false;
    uint32_t n = p->next > r->terms.last ? 0 : span(r, p->next, r->terms.last, &bytes);
    send_append(r, p, p->next - 1, n);
    if (p->state == RAFT__PROBE)
        p->probe_sent = true;
    else
        raft__progress_sent(p, p->next + n - 1, bytes);
    return true;
}

/* An APPEND without entries. It claims no more than is known of p where p's log and ours may not meet yet. */
static void send_heartbeat(struct raft *r, struct raft_peer *p)
{
    uint64_t prev = p->next - 1;
    if (p->state == RAFT__SNAPSHOT || prev < r->terms.base) prev = 0;
    send_append(r, p, prev, 0);
}

static bool beat_due(const struct raft *r, const struct raft_peer *p)
{
    if (p->beat || r->now - p->sent_at >= r->config.heartbeat_ns) return true;
    return r->commit_due && r->now >= r->commit_due && p->commit_sent < r->commit && p->state == RAFT__REPLICATE &&
           !p->down;
}

/* Sends what can be sent, a message for each peer in turn, so that one cannot starve the others. */
void raft__pump(struct raft *r)
{
    bool more = true;
    for (uint32_t i = 0; i < r->npeers; i++) {
        struct raft_peer *p = &r->peers[i];
        if (!raft__is_self(r, p) && r->now - p->sent_at >= r->config.heartbeat_ns) p->probe_sent = false;
    }
    while (more) {
        more = false;
        for (uint32_t i = 0; i < r->npeers && r->up->nmsgs < RAFT__PUMP_MAX; i++)
            if (!raft__is_self(r, &r->peers[i])) more |= send_entries(r, &r->peers[i]);
    }
    r->pump_more = r->up->nmsgs >= RAFT__PUMP_MAX;
    for (uint32_t i = 0; i < r->npeers; i++)
        if (!raft__is_self(r, &r->peers[i]) && beat_due(r, &r->peers[i])) send_heartbeat(r, &r->peers[i]);
    if (r->commit_due && r->now >= r->commit_due) r->commit_due = 0;
}

uint64_t raft__leader_deadline(const struct raft *r)
{
    uint64_t at = quorum_deadline(r);
    bool told = true;
    if (r->pump_more) return r->now;
    if (r->transferee) at = min_u64(at, r->transfer_at);
    for (uint32_t i = 0; i < r->npeers; i++) {
        const struct raft_peer *p = &r->peers[i];
        if (raft__is_self(r, p)) continue;
        at = min_u64(at, p->sent_at + r->config.heartbeat_ns);
        if (p->snapshot_retry_at > r->now) at = min_u64(at, p->snapshot_retry_at);
        if (p->commit_sent < r->commit && p->state == RAFT__REPLICATE && !p->down) told = false;
    }
    return r->commit_due && !told ? min_u64(at, r->commit_due) : at;
}
