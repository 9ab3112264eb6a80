/* swarm.h - a run drawn from a seed: a cluster, a workload of key/value and filesystem operations, a set of faults. They
 * run against each other for a while of virtual time (safety: check_log.h watches), then all faults end and the cluster
 * has to come back within a bound (liveness): every operation answered, all servers alike and voting. check_history.h
 * judges at the end. */
#ifndef QFS_TESTS_SIM_SWARM_H
#define QFS_TESTS_SIM_SWARM_H

#include "tests/sim/linear.h"
#include "tests/sim/nemesis.h"

struct sim_swarm {
    struct sim_options cluster;
    struct sim_load_options load;
    sim_fault_set faults;
    uint64_t run_ms, pause_ms, quiet_ms; /* quiet: before the first fault */
};

/* What happened in some runs. */
struct sim_sums {
    uint64_t runs, operations, entries, terms, crashes, snapshots, repairs, virtual_ms, steps;
    struct sim_linear_sums linear;
    struct sim_fault_counts faults;
};

/* only: NULL, or the set of faults that the run has, all of them, instead of a drawn one. also: faults that it has in any
 * case. */
void sim_swarm_draw(uint64_t seed, const sim_fault_set *only, sim_fault_set also, struct sim_swarm *out);
/* Runs it, or ends in sim_fail(). Adds to *sums. */
void sim_swarm_run(const struct sim_swarm *w, struct sim_sums *sums);
/* The end of a run: no more faults, so all has to come back. */
void sim_swarm_heal(struct sim_cluster *c, struct sim_load *l);

/* Kinds of faults that never happened in all these runs. */
sim_fault_set sim_sums_missing(const struct sim_sums *s);

#endif
