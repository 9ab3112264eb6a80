/* net.h - a network in memory behind struct net (base/doors.h), for all the processes of a simulated world.
 *
 * What a connection promises, it keeps as TCP does: whole frames, in order, until closed() tells of a break; what it
 * cannot promise, it breaks: delay, back-pressure, resets, partitions (one-way, too), silence of a machine without
 * power until a timeout. Beyond that frames of chosen types can be lost, doubled and reordered, for protocols that
 * claim to stand it.
 *
 * A killed process's connections end without callbacks; their structs stay valid (all operations do nothing) until the
 * process is started again, so its parts can be freed in any order. The other ends get what was under way, or a part of
 * it, and then a reset. */
#ifndef QFS_TESTS_SIM_NET_H
#define QFS_TESTS_SIM_NET_H

#include "tests/sim/clock.h"

struct sim_net;

struct sim_net_config {
    uint64_t seed;
    uint64_t delay_min, delay_max; /* one way, ns; 0 and 0: 20 to 200 us */
    uint64_t bytes_per_s;          /* of a connection's one direction; 0: endless */
    size_t kernel_bytes;           /* under way before conn_queued() counts; 0: 256 KiB */
    size_t queue_max, queue_low;   /* 0: 64 MiB and 1 MiB */
    uint64_t timeout;              /* unanswered data, and dialling; 0: 5 s. An idle connection takes twice that */
    uint32_t slow_percent;         /* of frames: ten times the delay */
    uint32_t reset_ppm;            /* of frames: the connection breaks here */
    /* Frames of the types first .. last only (0, 0: none). */
    uint8_t lossy_first, lossy_last;
    uint32_t loss_percent, double_percent, reorder_percent;
    uint32_t corrupt_ppm; /* of frames of any type: bits change on the way, which breaks the connection */
    uint8_t reset_first, reset_last; /* reset_ppm concerns these types only (0, 0: all) */
    /* Frames that `late` chooses arrive 200 to 2200 ms late in late_percent of cases, past those behind them, also when
     * the way has been cut since. NULL: none. */
    bool (*late)(uint8_t type, struct slice payload);
    uint32_t late_percent;
    /* Before a process sends a frame; it may kill the process. */
    void (*sending)(void *arg, unsigned proc);
    void *sending_arg;
    const struct trace *trace;
};

/* One a world (it takes sim_on_change). */
struct sim_net *sim_net_new(struct sim_world *w, const struct sim_net_config *config);
void sim_net_free(struct sim_net *n);
struct net *sim_net_door(struct sim_net *n, unsigned proc);
/* May be changed while it runs: the weather. */
struct sim_net_config *sim_net_config(struct sim_net *n);

/* What `from` sends does not reach `to`. A process always reaches itself. */
void sim_cut(struct sim_net *n, unsigned from, unsigned to, bool on);
/* Both ways between every pair on different sides: side[i] is the side of process i. */
void sim_partition(struct sim_net *n, const uint8_t *side, unsigned procs);
void sim_heal(struct sim_net *n);
/* What `from` sends to `to` takes so much longer; 0: as always. sim_heal() ends it, too. */
void sim_slow_way(struct sim_net *n, unsigned from, unsigned to, uint64_t ns);
/* Breaks the connections between two processes (a == b: all of a), both ends are told. */
void sim_reset(struct sim_net *n, unsigned a, unsigned b);

struct sim_net_stats {
    uint64_t frames, bytes; /* delivered */
    uint64_t lost, doubled, reordered, corrupted, delayed, late, resets, timeouts, refused, dials;
    uint64_t connections; /* ends that are open now */
};
void sim_net_stats(const struct sim_net *n, struct sim_net_stats *out);

#endif
