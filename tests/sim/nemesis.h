/* nemesis.h - what goes wrong in a run: faults of the kinds that the seed chose, at random moments, for random whiles.
 * A budget keeps it repairable: at most as many disks are lost at a time as leave a majority of voters. */
#ifndef QFS_TESTS_SIM_NEMESIS_H
#define QFS_TESTS_SIM_NEMESIS_H

#include "tests/sim/workload.h"

enum sim_fault {
    SIM_FAULT_KILL = 1 << 0,  /* a server's process */
    SIM_FAULT_POWER = 1 << 1, /* a server's machine: unsynced writes are lost */
    SIM_FAULT_POWER_ALL = 1 << 2,
    SIM_FAULT_PAUSE = 1 << 3,
    SIM_FAULT_ISOLATE = 1 << 4, /* from servers and clients */
    SIM_FAULT_SPLIT = 1 << 5,   /* servers into two camps */
    SIM_FAULT_ONE_WAY = 1 << 6, /* some ways between servers, in one direction */
    SIM_FAULT_RESET = 1 << 7,   /* connections break */
    SIM_FAULT_SLOW_DISK = 1 << 8,
    SIM_FAULT_LOST_DISK = 1 << 9, /* a minority's */
    SIM_FAULT_WALL = 1 << 10,     /* a wall clock jumps */
    SIM_FAULT_DRIFT = 1 << 11,    /* a clock goes wrong, within the bound that leases assume */
    SIM_FAULT_CLIENT = 1 << 12,   /* a client's process dies */
    SIM_FAULT_TRANSFER = 1 << 13, /* the leader is asked to hand over */
    SIM_FAULT_ALL = (1 << 14) - 1,
};

struct sim_nemesis;

struct sim_nemesis *sim_nemesis_new(struct sim_cluster *c, struct sim_load *l, unsigned kinds, uint64_t pause_ms);
/* No more faults, and all that can be repaired is: servers run, ways are open, disks are quick. */
void sim_nemesis_stop(struct sim_nemesis *m);
void sim_nemesis_free(struct sim_nemesis *m);
/* The kinds' names, for people. */
void sim_faults_text(unsigned kinds, char *out, size_t n);

#endif
