/* follow.c - the follower's side of replication.
 *
 * An APPEND whose previous entry is in our log is taken: entries that we have already are skipped, a conflicting suffix
 * is dropped (only on a real conflict, so that a late or repeated message never cuts a longer log), the rest is
 * appended. Otherwise the leader gets a hint where the logs may meet. Entries up to our commit index are in every
 * rightful leader's log; a message that says otherwise is nonsense.
 *
 * An acknowledgement reports durable entries only, of a term that is durable, too. One goes out when more of what was
 * received is durable; at once for a heartbeat and for a new leader's first APPEND; and every half heartbeat interval
 * while the disk is slow, so that the leader still hears from us. */
#include "raft/core_priv.h"

static void reject(struct raft *r, const struct raft_msg *m, uint64_t hint)
{
    struct raft_msg *resp = raft__emit(r, RAFT_MSG_APPEND_RESP, m->from);
    resp->reject = true;
    resp->last = m->index;
    resp->index = hint;
    resp->log_term = raft__term_at(&r->terms, hint);
    if (m->term == r->hard.term && r->durable.term == r->hard.term) resp->round = r->ack_round;
}

/* The rightful leader of m's term sent m (APPEND or SNAPSHOT): false if it is none, and then it has got its answer. */
bool raft__follow(struct raft *r, const struct raft_msg *m)
{
    if (m->term < r->hard.term) {
        reject(r, m, 0); /* with our term: a peer behind must not be stuck for ever */
        return false;
    }
    if (m->term == r->hard.term && (r->role == RAFT_LEADER || (r->leader && r->leader != m->from))) {
        raft__drop(r, m, "a second leader in one term");
        return false;
    }
    if (m->term > r->hard.term || r->role != RAFT_FOLLOWER || r->leader != m->from)
        raft__become_follower(r, m->term, m->from);
    raft__heard(r, m);
    raft__standing_leader(r);
    return true;
}

static const char *append_nonsense(const struct raft_msg *m)
{
    uint64_t term = m->log_term;
    if ((m->index == 0) != (m->log_term == 0) || m->log_term > m->term) return "no such previous entry";
    if (m->last < m->index + m->n || m->commit > m->last) return "beyond the leader's log";
    if (m->n && !m->entries) return "entries are missing";
    for (uint32_t i = 0; i < m->n; i++) {
        const struct raft_entry_meta *e = &m->entries[i];
        if (e->term < term || e->term == 0 || e->term > m->term) return "terms out of order";
        if (e->kind < RAFT_NOOP || e->kind > RAFT_CONFIG) return "an entry of unknown kind";
        term = e->term;
    }
    return NULL;
}

/* How many of m's entries we have already; UINT32_MAX if they contradict those up to `sure`. */
static uint32_t count_known(const struct raft *r, const struct raft_msg *m, uint64_t sure)
{
    for (uint32_t i = 0; i < m->n; i++) {
        uint64_t index = m->index + 1 + i;
        if (index > r->terms.last) return i;
        if (index < r->terms.base || raft__term_at(&r->terms, index) == m->entries[i].term) continue;
        return index <= sure ? UINT32_MAX : i;
    }
    return m->n;
}

/* Configurations among the entries must be sound, rise, and lie where the message says. */
static const char *members_nonsense(const struct raft_msg *m)
{
    uint64_t before = m->index;
    for (uint32_t i = 0; i < m->nmembers; i++) {
        const struct raft_members *ms = &m->members[i];
        if (ms->index <= before || ms->index > m->index + m->n) return "a configuration out of place";
        if (m->entries[ms->index - m->index - 1].kind != RAFT_CONFIG) return "a configuration out of place";
        if (raft_members_nonsense(ms)) return "a configuration that makes no sense";
        before = ms->index;
    }
    return NULL;
}

static void take_entries(struct raft *r, const struct raft_msg *m, uint32_t skip)
{
    uint64_t first = m->index + 1 + skip;
    if (skip == m->n) return;
    if (first <= r->terms.last) {
        raft__terms_truncate(&r->terms, first);
        r->persisted = min_u64(r->persisted, first - 1);
        r->up->flags |= RAFT_UP_TRUNCATE;
        r->up->truncate_from = first;
        raft__members_truncate(r, first);
    }
    for (uint32_t i = skip; i < m->n; i++) raft__terms_append(&r->terms, m->entries[i].term);
    for (uint32_t i = 0; i < m->nmembers; i++)
        if (m->members[i].index >= first && m->members[i].index > r->members.index)
            raft__members_take(r, &m->members[i]);
    r->up->flags |= RAFT_UP_APPEND;
    r->up->append_first = first;
    r->up->append_skip = skip;
    r->up->append_n = m->n - skip;
}

static bool previous_matches(const struct raft *r, const struct raft_msg *m)
{
    return m->index < r->terms.base || (m->index <= r->terms.last && raft__term_at(&r->terms, m->index) == m->log_term);
}

void raft__on_append(struct raft *r, const struct raft_msg *m)
{
    const char *why = append_nonsense(m);
    if (!why) why = members_nonsense(m);
    bool meets = previous_matches(r, m);
    uint64_t sure = m->term == r->hard.term ? max_u64(r->commit, r->matched) : r->commit;
    sure = max_u64(sure, min_u64(r->before.index, r->terms.last)); /* committed, whether we know it or not: member.c */
    uint32_t skip = why || !meets ? 0 : count_known(r, m, sure);
    if (!why && m->term >= r->hard.term && ((!meets && m->index <= sure) || skip == UINT32_MAX))
        why = "it contradicts what is committed";
    if (why) {
        raft__drop(r, m, why);
        return;
    }
    if (!raft__follow(r, m)) return;
    r->ack_round = max_u64(r->ack_round, m->round);
    r->matched = max_u64(r->matched, r->commit);
    if (r->installing) {
        r->ack_now = true;
        return;
    }
    if (!meets) {
        uint64_t hint = raft__terms_find(&r->terms, m->index, m->log_term);
        reject(r, m, max_u64(hint, r->commit));
        return;
    }
    take_entries(r, m, skip);
    r->matched = max_u64(r->matched, m->index + m->n);
    r->commit = max_u64(r->commit, min_u64(m->commit, r->matched));
    if (m->n == 0 || r->matched <= r->persisted)
        r->ack_now = true;
    else if (!r->ack_at)
        r->ack_at = r->now + r->config.heartbeat_ns / 2;
}

/* One acknowledgement for all that this step brought. */
void raft__flush_ack(struct raft *r)
{
    uint64_t durable = min_u64(r->matched, r->persisted);
    if (r->role != RAFT_FOLLOWER || !r->leader) {
        r->ack_now = false;
        r->ack_at = 0;
        return;
    }
    if (r->ack_at && r->now >= r->ack_at) {
        r->ack_now = true;
        r->ack_at = 0;
    }
    if (!r->ack_now && durable <= r->acked) return;
    if (r->durable.term != r->hard.term) return;
    struct raft_msg *resp = raft__emit(r, RAFT_MSG_APPEND_RESP, r->leader);
    resp->index = r->acked = durable;
    resp->last = r->matched;
    resp->round = r->ack_round;
    r->ack_now = false;
    r->ack_at = durable < r->matched && !r->installing ? r->now + r->config.heartbeat_ns / 2 : 0;
}
