/* check_log.h - what must hold between the servers at every moment: one leader a term, terms and commits that never
 * fall, the core's own invariants, one command at one index on all of them for ever, a leader that has all that was
 * ever applied, equal digests at equal indexes.
 *
 * It listens where the parts meet: the program is linked with --wrap=node_new and --wrap=raft_step, so that the state
 * machine's calls and every step of every core pass here first. */
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
/* The next node_new() belongs to this server; NULL: to nobody. */
void sim_checks_starting(struct sim_checks *k, struct sim_server *s);
void sim_checks_ended(struct sim_checks *k, struct sim_server *s);
void sim_checks_wiped(struct sim_checks *k, struct sim_server *s);

/* The commands that were applied anywhere, by index from 1 to sim_applied_last(). */
uint64_t sim_applied_last(const struct sim_checks *k);
const struct sim_applied *sim_applied_at(const struct sim_checks *k, uint64_t index);
/* Would its standing survive a crash now? */
bool sim_durable_voter(const struct sim_checks *k, unsigned server);
uint64_t sim_leaders_seen(const struct sim_checks *k); /* terms that had a leader */

#endif
