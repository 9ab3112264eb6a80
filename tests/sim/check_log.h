/* check_log.h - what must hold between the servers at every moment, checked after every step of every core and at each
 * entry that is appended or applied:
 * - election safety: one leader a term;
 * - log matching: an entry of one index and term is the same everywhere, and so is the term of the entry before it;
 * - leader completeness: a leader's log has every entry that was ever committed;
 * - state machine safety: one command at one index, on all servers, for ever; equal digests at equal indexes;
 * - terms, votes, commit and applied indexes never fall; durable terms and votes are not forgotten;
 * - the core's own invariants.
 *
 * It listens to the nodes through struct node_watch (raft/raft.h). */
#ifndef QFS_TESTS_SIM_CHECK_LOG_H
#define QFS_TESTS_SIM_CHECK_LOG_H

#include "tests/sim/cluster.h"

struct sim_applied {
    struct blob *data; /* NULL: no command was applied at this index (a no-op, as far as known) */
    uint64_t term;
    uint64_t digest;
    bool digested;
};

struct sim_checks *sim_checks_new(struct sim_cluster *c);
void sim_checks_free(struct sim_checks *k);
/* For the node of a server that is about to start. */
const struct node_watch *sim_checks_watch(struct sim_checks *k, struct sim_server *s);
/* What the log of a server that has just recovered holds for certain is what was committed. */
void sim_checks_recovered(struct sim_checks *k, const struct sim_server *s);
void sim_checks_ended(struct sim_checks *k, struct sim_server *s);
void sim_checks_wiped(struct sim_checks *k, struct sim_server *s);

/* The commands that were applied anywhere, by index from 1 to sim_applied_last(). */
uint64_t sim_applied_last(const struct sim_checks *k);
const struct sim_applied *sim_applied_at(const struct sim_checks *k, uint64_t index);
uint64_t sim_committed_last(const struct sim_checks *k); /* by any server */
/* Would its standing survive a crash now? */
bool sim_durable_voter(const struct sim_checks *k, unsigned server);
uint64_t sim_leaders_seen(const struct sim_checks *k); /* terms that had a leader */

#endif
