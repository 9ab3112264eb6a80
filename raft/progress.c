/* progress.c - what a leader knows of each peer, and the one rule of majorities.
 *
 * A peer is in PROBE until the leader knows where their logs meet: one APPEND at a time, moved back by rejects. It is
 * in REPLICATE while APPENDs flow ahead of their answers, within a window of bytes and messages. It is in SNAPSHOT
 * while it needs entries that the log does not keep any more. `match` counts what the peer has made durable; it falls
 * only if the peer says that it lost its disk. A lost APPEND shows as a reject of the one behind it (a heartbeat at the
 * latest). */
#include "raft/core_priv.h"

static uint64_t majority_value(const struct raft *r, uint64_t (*value)(const struct raft *r, const struct raft_peer *p),
                               int k)
{
    uint64_t v[RAFT__PEERS];
    uint32_t n = 0;
    for (uint32_t i = 0; i < r->npeers; i++) {
        if (!r->peers[i].votes[k]) continue;
        uint64_t x = value(r, &r->peers[i]);
        uint32_t at = n++;
        for (; at > 0 && v[at - 1] < x; at--) v[at] = v[at - 1];
        v[at] = x;
    }
    return n ? v[n / 2] : 0;
}

/* The largest value that a majority of the voters reaches; while two configurations are joint, a majority of each. All
 * counting goes through here. */
uint64_t raft__quorum(const struct raft *r, uint64_t (*value)(const struct raft *r, const struct raft_peer *p))
{
    uint64_t x = majority_value(r, value, 0);
    return r->members.joint ? min_u64(x, majority_value(r, value, 1)) : x;
}

static void clear_inflight(struct raft_peer *p)
{
    p->inflight_at = p->ninflight = 0;
    p->inflight_bytes = 0;
}

void raft__progress_reset(struct raft *r, struct raft_peer *p, uint64_t next)
{
    p->state = RAFT__PROBE;
    p->probe_sent = false;
    p->next = min_u64(max_u64(next, p->match + 1), r->terms.last + 1);
    clear_inflight(p);
}

void raft__progress_sent(struct raft_peer *p, uint64_t last, uint64_t bytes)
{
    uint32_t at = (p->inflight_at + p->ninflight) % RAFT__INFLIGHT_MAX;
    check(p->ninflight < RAFT__INFLIGHT_MAX && last >= p->next);
    p->inflight[at] = (struct raft__inflight){last, bytes};
    p->ninflight++;
    p->inflight_bytes += bytes;
    p->next = last + 1;
}

bool raft__progress_full(const struct raft *r, const struct raft_peer *p)
{
    return p->ninflight == RAFT__INFLIGHT_MAX || p->inflight_bytes >= r->config.window_bytes;
}

static void release_inflight(struct raft_peer *p)
{
    while (p->ninflight && p->inflight[p->inflight_at].last <= p->match) {
        p->inflight_bytes -= p->inflight[p->inflight_at].bytes;
        p->inflight_at = (p->inflight_at + 1) % RAFT__INFLIGHT_MAX;
        p->ninflight--;
    }
}

/* m->index is durable at p, m->last matches there in memory. */
void raft__progress_accept(struct raft *r, struct raft_peer *p, const struct raft_msg *m)
{
    if (m->index > r->terms.last || m->last > r->terms.last || m->last < m->index) {
        raft__drop(r, m, "it acknowledges what the log does not have");
        return;
    }
    p->match = max_u64(p->match, m->index);
    p->next = max_u64(p->next, p->match + 1);
    switch (p->state) {
    case RAFT__PROBE:
        raft__progress_reset(r, p, m->last + 1);
        p->state = RAFT__REPLICATE;
        break;
    case RAFT__REPLICATE: release_inflight(p); break;
    case RAFT__SNAPSHOT:
        if (p->match < r->terms.base) break;
        raft__progress_reset(r, p, p->match + 1);
        p->state = RAFT__REPLICATE;
        break;
    }
}

/* p does not have the entry m->last of our log; it has at most what comes before the hint. The hint is the last entry
 * in p's log that could be in ours, so that whole terms are skipped at once. */
void raft__progress_reject(struct raft *r, struct raft_peer *p, const struct raft_msg *m)
{
    if (m->last == 0 || m->index > m->last || (m->index == 0) != (m->log_term == 0)) {
        raft__drop(r, m, "a reject that makes no sense");
        return;
    }
    if (m->fenced && m->index < p->match) {
        p->match = 0;
        if (p->state == RAFT__REPLICATE) p->state = RAFT__PROBE;
    } else if (m->last <= p->match || m->last >= p->next) {
        return; /* stale */
    } else if (p->state == RAFT__PROBE && m->last != p->next - 1) {
        return; /* the answer to an earlier probe */
    }
    if (p->state == RAFT__SNAPSHOT) return;
    uint64_t meet = raft__terms_find(&r->terms, m->index, m->log_term);
    raft__progress_reset(r, p, min_u64(m->last, meet + 1));
}

const char *raft__state_name(enum raft__state state)
{
    static const char *const names[] = {"probe", "replicate", "snapshot"};
    return names[state];
}
