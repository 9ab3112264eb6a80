/* linear.h - is there any order of these operations on one key that agrees with real time and explains every answer?
 * Needs no witness: it searches (Wing and Gong, "Testing and Verifying Concurrent Objects", JPDC 1993; Lowe, "Testing
 * for linearizability", CCPE 2017: configurations that were seen are not searched again). Keys are independent of each
 * other, so each is a search of its own. */
#ifndef QFS_TESTS_SIM_LINEAR_H
#define QFS_TESTS_SIM_LINEAR_H

#include "tests/sim/history.h"

struct sim_cluster;

enum sim_reg_kind { SIM_REG_GET, SIM_REG_PUT, SIM_REG_APPEND, SIM_REG_DELETE, SIM_REG_CAS };

struct sim_reg_op {
    enum sim_reg_kind kind;
    uint64_t invoked, returned; /* returned UINT64_MAX: never; it may have happened, at any time, or not */
    bool ok;                    /* it was done; GET: there was a value; DELETE, CAS: not refused */
    bool absent;                /* CAS: expects that there is no value */
    struct slice value;         /* GET: what it read; else what it writes */
    struct slice expected;      /* CAS */
};

enum sim_linear { SIM_LINEAR, SIM_NOT_LINEAR, SIM_LINEAR_UNDECIDED };
/* Undecided: more than steps_max configurations would have to be looked at. */
enum sim_linear sim_linear_search(const struct sim_reg_op *ops, size_t n, uint64_t steps_max);

struct sim_linear_sums {
    uint64_t keys, operations, undecided;
};
/* Searches for all keys of a history that begin with `prefix`; fails the run if there is no order. */
void sim_check_linear(struct sim_cluster *c, const struct sim_history *h, const char *prefix,
                      struct sim_linear_sums *sums);

#endif
