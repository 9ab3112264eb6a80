/* watchers.h - each client of a workload also watches keys and writes down what it is told; at the end that must be
 * exactly what the log says, in order, without gap or repetition, whatever happened to leaders and connections. */
#ifndef QFS_TESTS_SIM_WATCHERS_H
#define QFS_TESTS_SIM_WATCHERS_H

#include "tests/sim/history.h"

struct kv__store;
struct sim_cluster;

/* One watch, from where it began to where it ended. Where history is gone a new one begins. */
struct sim_watch {
    struct sim_watch *next;
    struct sim_cluster *cluster;
    struct kv_client *kv;
    unsigned client;
    struct kv_watch watch;
    uint64_t begin, begun_at;   /* revision; true time. 0: it has not begun */
    bool gone, dead;            /* it ended by itself; with its client */
    struct sim_watch_event {
        uint64_t revision, key_hash;
        uint32_t position;
        enum kv_event_type type;
    } *v;
    size_t n, cap;
};

struct sim_watches {
    struct sim_watch *all;
};

/* The client's only one; `choice` picks what it watches. */
void sim_watch_start(struct sim_watches *ws, struct sim_cluster *c, struct kv_client *kv, unsigned client,
                     uint64_t choice);
void sim_watch_dead(struct sim_watches *ws, unsigned client);
/* `witness` has executed the whole log and remembers all events. */
void sim_check_watches(struct sim_cluster *c, const struct sim_watches *ws, const struct sim_history *h,
                       const struct kv__store *witness);
void sim_watches_free(struct sim_watches *ws);

#endif
