/* workload.h - clients that do random operations of all kinds and write down what they see. Each is a process of its
 * own with the production's client; several of its operations may be under way at once, changes in the order of their
 * calls. */
#ifndef QFS_TESTS_SIM_WORKLOAD_H
#define QFS_TESTS_SIM_WORKLOAD_H

#include "tests/sim/cluster.h"
#include "tests/sim/history.h"

struct sim_load_options {
    unsigned clients;
    unsigned width;    /* operations of one client under way at once */
    uint64_t think_ms; /* at most, between two of them */
    uint32_t fs_percent, read_percent, big_percent;
    uint32_t ttl_ms;
    bool mounts;      /* some sessions are mounts' */
    bool single_keys; /* no transactions */
};

struct sim_load;

struct sim_load *sim_load_new(struct sim_cluster *c, const struct sim_load_options *opt);
void sim_load_free(struct sim_load *l);
/* The client's process dies; what it had under way may or may not happen. A new one starts in its place. */
void sim_load_kill(struct sim_load *l, unsigned client);
/* From now on each client does so many more operations and stops. */
void sim_load_finish(struct sim_load *l, unsigned more);
bool sim_load_idle(const struct sim_load *l); /* finished, nothing is under way */
unsigned sim_load_clients(const struct sim_load *l);
uint64_t sim_load_asked(const struct sim_load *l);
uint64_t sim_load_answered(const struct sim_load *l);
const struct sim_history *sim_load_history(const struct sim_load *l);
struct sim_watches;
const struct sim_watches *sim_load_watches(const struct sim_load *l);

#endif
