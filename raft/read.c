/* read.c - linearizable reads without the log: ReadIndex rounds (thesis 6.4) and the leader's lease (6.4.1).
 *
 * A read notes max(commit index, this term's no-op) and starts a round: an APPEND to everyone with this step's stamp,
 * which no earlier message carries. When a majority has answered that stamp or a later one, nobody else led when the
 * read came; when the noted index is committed, the state at it holds all that was committed before. All reads of a
 * step share its round. Answers to earlier rounds count for nothing.
 *
 * Lease: stamps are send times. A follower that acknowledges stamp s received it after s and will for hold_ns from
 * then refuse to vote (election.c), whatever becomes of its connection or its process. So nobody else can lead before
 * the stamp that a majority has acknowledged is older than hold_ns, less the drift of clock rates and a margin for the
 * granularity of `now`. The lease is void from the start of a leadership transfer, and for the rest of the term once
 * TIMEOUT_NOW is out: the target may act on it at any time. */
#include "raft/core_priv.h"

static uint64_t acked_round(const struct raft *r, const struct raft_peer *p)
{
    if (p->fenced) return 0; /* standing.c */
    return raft__is_self(r, p) ? UINT64_MAX : p->acked_round;
}

bool raft_lease_valid(const struct raft *r, uint64_t now)
{
    if (r->role != RAFT_LEADER || !r->config.lease_reads || r->transferee || r->lease_off) return false;
    if (r->commit < r->term_start) return false;
    uint64_t stamp = raft__quorum(r, acked_round);
    uint64_t slack = r->hold_ns / 16 + r->hold_ns / 1000 * r->config.drift_ppm / 1000 + 1;
    return stamp >= now || now - stamp + slack < r->hold_ns;
}

void raft__reads_fail(struct raft *r)
{
    r->nreads = 0;
    r->read_waiting = 0;
    r->up->flags |= RAFT_UP_READS_FAILED;
}

static void ready(struct raft *r, uint64_t id, uint64_t index)
{
    r->up->flags |= RAFT_UP_READS;
    r->up->reads_upto = id;
    r->up->reads_index = index;
}

static void start_round(struct raft *r, uint64_t id)
{
    uint64_t index = max_u64(r->commit, r->term_start), round = raft__stamp(r);
    struct raft__read *last = r->nreads ? &r->reads[r->nreads - 1] : NULL;
    r->read_waiting = 0;
    if (last && last->round == round) {
        last->id = id;
        last->index = index;
        return;
    }
    r->reads[r->nreads++] = (struct raft__read){round, id, index};
    for (uint32_t i = 0; i < r->npeers; i++) r->peers[i].beat = true;
}

void raft__on_read(struct raft *r, uint64_t id)
{
    check(id > r->read_last);
    r->read_last = id;
    if (r->role != RAFT_LEADER) {
        r->up->flags |= RAFT_UP_READS_FAILED;
    } else if (raft_lease_valid(r, r->now)) {
        ready(r, id, r->commit); /* and all that wait for a round */
        r->nreads = 0;
        r->read_waiting = 0;
    } else if (r->nreads == RAFT__READS_MAX) {
        r->read_waiting = id; /* shares the next round that can start */
    } else {
        start_round(r, id);
    }
}

void raft__reads_advance(struct raft *r)
{
    uint64_t round = raft__quorum(r, acked_round);
    uint32_t n = 0;
    while (n < r->nreads && r->reads[n].round <= round && r->reads[n].index <= r->commit) n++;
    if (n) {
        ready(r, r->reads[n - 1].id, r->reads[n - 1].index);
        r->nreads -= n;
        memmove(r->reads, r->reads + n, r->nreads * sizeof r->reads[0]);
    }
    if (r->read_waiting && r->nreads < RAFT__READS_MAX) start_round(r, r->read_waiting);
}
