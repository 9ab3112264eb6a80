/* cluster.h - a whole cluster in one process: n servers of production code over a simulated disk, network and clock
 * each, and the ways to hurt them. Everything follows from the seed.
 *
 * Servers are the processes 0 .. n-1 with the ids 1 .. n; clients take the processes behind them. A server is a
 * kv_server, or a node under a machine of integers (box.h), as the lab tests of Raft want it. Whatever goes wrong ends
 * in sim_fail(), which prints the seed, the options, the last trace lines and how to replay, and ends the program. */
#ifndef QFS_TESTS_SIM_CLUSTER_H
#define QFS_TESTS_SIM_CLUSTER_H

#include "kv/kv.h"
#include "tests/sim/disk.h"
#include "tests/sim/net.h"
#include "tests/sim/report.h"

#define SIM_SERVERS_MAX 7u
#define SIM_CLIENT_PROC 16u /* the first client's process */

struct sim_box;
struct sim_checks;

struct sim_options {
    uint64_t seed;
    const char *title; /* for messages */
    unsigned n;
    unsigned members; /* servers that form the cluster, 0: all; the others wait to be added */
    bool integers; /* nodes under a machine of integers instead of kv servers */
    struct sim_net_config net;
    struct sim_disk_config disk;
    struct node_config node; /* id, members, seed and trace are filled in */
    char text[1024];          /* the other options, for people */
};

enum sim_death {
    SIM_KILLED,    /* the process: its connections are reset, its disk keeps what was written */
    SIM_POWER_CUT, /* the machine: silence, and unsynced writes are lost in any subset */
};

/* The way to the disk of one life of a server: what a dying process still asks for is not heard. */
struct sim_gate {
    struct disk door;
    struct disk *disk;
    bool shut;
};

struct sim_server {
    struct sim_cluster *cluster;
    struct sim_gate gate;
    unsigned at; /* its process; its id is at + 1 */
    char addr[24];
    struct sim_disk *disk;
    struct kv_server *kv; /* one of the two, NULL while it is down */
    struct sim_box *box;
    struct node *node;
    struct trace trace;
    unsigned incarnation;
    bool lost;    /* its disk was wiped, and it is no voter again yet */
    bool may_end; /* its disk gives errors: then its end is no fault of ours */
    bool suspect; /* its disk may hold damage: it may find it, and end itself or come up fenced */
    bool astray;  /* its state was changed behind its back: it is to notice and end itself */
    char last_words[200]; /* why it ended itself, or did not start; "" with a new disk */
    struct sim_event ending;
    uint64_t crash_in; /* calls of the doors until it dies; 0: it does not */
    enum sim_death crash_how;
    uint64_t last_received; /* requests of peers that it got in this incarnation */
};

struct sim_cluster {
    struct sim_options opt;
    struct sim_world *world;
    struct sim_net *net;
    struct prng rng;
    struct sim_server servers[SIM_SERVERS_MAX];
    struct sim_checks *checks;
    struct trace trace; /* the cluster's own lines */
    uint64_t crashes, crashes_inside, fatal_ends, starts, snapshots, repairs;
};

/* All servers are down at first. */
struct sim_cluster *sim_cluster_new(const struct sim_options *opt);
void sim_cluster_free(struct sim_cluster *c);
/* Sensible options: 3 servers, small log files, fast disk and net. */
void sim_options_default(struct sim_options *opt, uint64_t seed);

void sim_server_start(struct sim_cluster *c, unsigned i);
/* Where its disk may be damaged a start may fail, with a reason in last_words: a negative error, and it is down. */
int sim_server_try_start(struct sim_cluster *c, unsigned i);
void sim_server_end(struct sim_cluster *c, unsigned i, enum sim_death how); /* a no-op where it is down */
void sim_server_wipe(struct sim_cluster *c, unsigned i);                    /* it must be down */
/* It dies before its `calls`-th write, send or other effect from now on, whatever it is in the middle of. */
void sim_server_crash_in(struct sim_cluster *c, unsigned i, uint64_t calls, enum sim_death how);
void sim_server_fatal(struct sim_server *s, int err, const char *text); /* it says of itself that it cannot go on */
static inline bool sim_server_up(const struct sim_cluster *c, unsigned i) { return c->servers[i].node != NULL; }
void sim_start_all(struct sim_cluster *c); /* those that are down */
void sim_end_all(struct sim_cluster *c, enum sim_death how);
/* Cuts a server off from everybody, or joins it to all servers and clients again. */
void sim_isolate(struct sim_cluster *c, unsigned i, bool on);
/* Between the servers only: side[i] is the side of server i. */
void sim_split(struct sim_cluster *c, const uint8_t *side);
void sim_join(struct sim_cluster *c); /* all ways are open */

void sim_status(const struct sim_cluster *c, unsigned i, struct node_status *out);
/* The running server that leads in the highest term, -1: none. */
int sim_leader(const struct sim_cluster *c);
unsigned sim_majority(const struct sim_cluster *c);

static inline uint64_t sim_ms(const struct sim_cluster *c) { return sim_now(c->world) / NS_PER_MS; }
void sim_sleep(struct sim_cluster *c, uint64_t ms);
/* Runs until done(arg) or the time is over; returns what done says. */
bool sim_wait(struct sim_cluster *c, bool (*done)(void *arg), void *arg, uint64_t ms);

#endif
