/* slow.c - a disk that hangs. The leader counts itself only up to what is durable here, so with a hanging disk its
 * cluster goes on through the others; but reads of payload, checkpoints and, in a smaller majority, every commit would
 * wait for it. An entry that the others have committed and that is not durable here LATE_TIMEOUTS election timeouts
 * later makes a leader hand over, and keeps any node from campaigning until it is durable. (A vote is durable before it
 * is asked for, so a node whose disk hangs altogether could not win anyway; it does not even ask.) */
#include "raft/core_priv.h"

#define LATE_TIMEOUTS 2

bool raft__disk_late(const struct raft *r) { return r->late_at && r->now >= raft__disk_late_at(r); }

uint64_t raft__disk_late_at(const struct raft *r)
{
    return r->late_at ? r->late_at + LATE_TIMEOUTS * r->config.election_ns : UINT64_MAX;
}

void raft__disk_watch(struct raft *r)
{
    if (r->late_at && r->persisted >= r->late_index) r->late_at = 0;
    if (!r->late_at && r->commit > r->persisted) {
        r->late_at = r->now;
        r->late_index = r->commit;
    }
    if (r->role != RAFT_LEADER || !raft__disk_late(r)) return;
    uint64_t ms = (r->now - r->late_at) / NS_PER_MS;
    trace_warn(r->config.trace,
               "raft %" PRIu64 ": entry %" PRIu64 " is committed by the others and not durable here after %" PRIu64
               " ms: the disk hangs, handing over",
               r->config.id, r->late_index, ms);
    raft__resign(r);
}
