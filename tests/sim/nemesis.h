/* nemesis.h - what goes wrong in a run: faults of the kinds that the seed chose (faults.h), at random moments, for
 * random whiles.
 *
 * A budget keeps it repairable: lost disks, and disks that may hold damage, are at most as many at a time as leave a
 * majority of voters without. A server that ends itself, or does not start, because of its disk is started again as a
 * supervisor would; where it says that its directory has to be emptied, that is done. */
#ifndef QFS_TESTS_SIM_NEMESIS_H
#define QFS_TESTS_SIM_NEMESIS_H

#include "tests/sim/faults.h"
#include "tests/sim/workload.h"

struct sim_nemesis;

struct sim_nemesis *sim_nemesis_new(struct sim_cluster *c, struct sim_load *l, sim_fault_set kinds, uint64_t pause_ms);
/* No more faults, and all that can be repaired is: servers run, ways are open, disks are quick and have space. What
 * damage there is on disks stays there. */
void sim_nemesis_stop(struct sim_nemesis *m);
/* How often each kind has happened so far; the weather's faults, too. Adds to *out. */
void sim_nemesis_count(const struct sim_nemesis *m, struct sim_fault_counts *out);
void sim_nemesis_free(struct sim_nemesis *m);

#endif
