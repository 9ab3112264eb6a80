/* lab.h - the lab tests by their titles: what each of them asks for is in the functions of lab_raft.c and lab_kv.c,
 * which run wherever there is a host (host.h). A test gets a seed, runs, and ends in host_fail() if something is wrong.
 *
 * Times are those of the original; ET is its idea of a generous election timeout. */
#ifndef QFS_TESTS_LAB_H
#define QFS_TESTS_LAB_H

#include "tests/lab/host.h"

#define ET 1000u /* ms */

struct lab_test {
    const char *title;
    const char *const *also; /* further titles of the same scenario, NULL at the end; or NULL */
    void (*run)(const struct lab_test *t, uint64_t seed);
    int servers, clients; /* of the generic key/value test: */
    bool unreliable, crash, partitions;
    int maxraftstate; /* -1: no snapshots */
};

extern const struct lab_test lab_raft_tests[], lab_kv_tests[]; /* up to one without a title */
extern const struct lab_test lab_more_tests[];                 /* beyond the labs, in the simulator only */

#endif
