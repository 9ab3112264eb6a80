/* agree.h - a cluster of integers (box.h) elects, and agrees on values: what many tests wait for. */
#ifndef QFS_TESTS_SIM_AGREE_H
#define QFS_TESTS_SIM_AGREE_H

#include "tests/sim/box.h"

/* The server that leads, within so many virtual ms; else the run fails. */
unsigned sim_leader_within(struct sim_cluster *c, uint64_t ms);
/* Offers the value to whoever leads until k servers have applied it. Returns its (visible) index. */
uint64_t sim_agree(struct sim_cluster *c, uint64_t value, unsigned k, uint64_t ms);

#endif
