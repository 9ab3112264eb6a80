/* snapshot.c - peers that need entries which the log does not keep any more, and this node when it is such a peer.
 *
 * Leader: the peer is named in the update once (snapshot_to); the driver streams its newest checkpoint and reports
 * SNAPSHOT_SENT. Meanwhile the peer gets heartbeats only. A failed transfer is tried again an election timeout later,
 * or as soon as the peer is connected anew.
 *
 * Follower: chunks of the rightful leader are let through; a complete snapshot is installed unless our own log has
 * reached its index by then. During installation no entries are taken: the log is about to be replaced. The entries
 * behind the snapshot stay if our log has its last entry with the same term (paper, figure 13). */
#include "raft/core_priv.h"

void raft__snapshot_need(struct raft *r, struct raft_peer *p)
{
    raft__progress_reset(r, p, p->match + 1);
    if (r->now < p->snapshot_retry_at) return;
    p->state = RAFT__SNAPSHOT;
    r->up->snapshot_to[r->up->nsnapshot_to++] = p->id;
}

void raft__on_snapshot_sent(struct raft *r, const struct raft_event *ev)
{
    struct raft_peer *p = raft__peer(r, ev->peer);
    if (!p) return; /* removed meanwhile */
    check(!raft__is_self(r, p));
    if (r->role != RAFT_LEADER || p->state != RAFT__SNAPSHOT) return;
    if (ev->ok)
        p->match = max_u64(p->match, min_u64(ev->index, r->commit));
    else
        p->snapshot_retry_at = r->now + r->config.election_ns;
    raft__progress_reset(r, p, p->match + 1);
}

void raft__on_snapshot(struct raft *r, const struct raft_msg *m)
{
    if (m->index == 0 || m->log_term == 0 || m->log_term > m->term) {
        raft__drop(r, m, "a snapshot of nothing");
        return;
    }
    if (!raft__follow(r, m)) return;
    if (m->index > r->commit) {
        if (!r->installing) r->up->flags |= RAFT_UP_SNAPSHOT_CHUNK;
        return;
    }
    r->matched = max_u64(r->matched, r->commit);
    r->ack_now = true; /* the leader sees that we need it no more */
}

void raft__on_snapshot_received(struct raft *r, const struct raft_event *ev)
{
    check(ev->index > 0 && ev->term > 0 && ev->term <= r->hard.term);
    if (r->installing || r->role != RAFT_FOLLOWER || ev->index <= r->commit) {
        r->up->flags |= RAFT_UP_IGNORE_SNAPSHOT;
        return;
    }
    r->installing = true;
    r->install_index = ev->index;
    r->install_term = ev->term;
    r->up->flags |= RAFT_UP_INSTALL;
    r->up->keep_suffix = raft__term_at(&r->terms, ev->index) == ev->term;
}

void raft__on_snapshot_installed(struct raft *r, const struct raft_event *ev)
{
    check(r->installing);
    r->installing = false;
    if (ev->index == 0) return;
    check(ev->index == r->install_index && ev->term == r->install_term && ev->index > r->commit);
    if (raft__term_at(&r->terms, ev->index) == ev->term) {
        raft__terms_trim(&r->terms, ev->index);
        r->persisted = max_u64(r->persisted, ev->index);
    } else {
        raft__terms_reset(&r->terms, ev->index, ev->term);
        r->persisted = ev->index;
    }
    raft__members_installed(r, ev->index, ev->members);
    r->commit = r->applied = ev->index;
    if (r->leader) r->matched = max_u64(r->matched, r->commit);
    r->ack_now = true;
}

void raft__on_trimmed(struct raft *r, uint64_t first)
{
    check(first > 0);
    if (r->installing && first - 1 > r->commit) return; /* the snapshot's doing: see above */
    check(first - 1 <= r->commit);
    raft__terms_trim(&r->terms, first - 1);
}
