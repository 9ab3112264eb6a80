/* real.h - the titles' world in real processes, real disks, real sockets and real time: what its files share.
 *
 * One process runs one title. It has an io/ loop of its own, on which everything happens: it spawns the servers, each
 * with a data directory; all connections between servers and from clerks to servers go through its proxy (proxy.c),
 * which is the labs' network; it talks to servers directly where the labs' harness does (control.c). The title's own
 * flow of control and each task are flows (flow.c), which wait in the loop. */
#ifndef QFS_TESTS_LABREAL_REAL_H
#define QFS_TESTS_LABREAL_REAL_H

#include <stdlib.h>

#include "io/io.h"
#include "tests/lab/lab.h"

#define CLERK_PLACE 8u /* places of the network: servers from 0, clerks from here */
#define CLERKS_MAX  24u
#define PLACES      (CLERK_PLACE + CLERKS_MAX)
#define NOBODY      PLACES /* its way to a server is the server's own address */

struct flow;
struct request;
struct host;

struct applied {
    uint64_t *v; /* command at visible index i: v[i - 1] */
    uint64_t n, cap;
};

struct server {
    struct host *host;
    unsigned at;
    struct io_child *child; /* NULL: it is down */
    bool killing;
    char data[4096], log[4096];
    char addr[40]; /* where it listens */
    struct conn *control;
    bool control_up;
    struct timer redial;
    uint64_t told; /* visible index applied last, in this life */
    uint64_t ever; /* in any life */
    uint64_t rpcs; /* requests that reached it in this life */
};

struct host {
    struct host_options opt;
    struct io_loop *loop;
    struct net *net;
    struct clock *clock;
    struct prng rng;
    uint64_t begun; /* when all servers were up */
    struct timer limit;
    struct server servers[LAB_SERVERS_MAX];
    struct applied applied;
    struct list requests;
    uint64_t request_id;
    uint32_t padding; /* of the commands that are offered */

    /* the proxy */
    bool shut[PLACES][PLACES];
    bool unreliable, reordering;
    struct list pipes;
    bool listening[PLACES];
    uint64_t peer_bytes; /* of the frames that servers got from each other */
    /* what was done to them: a test that meets no fault proves nothing */
    uint64_t kills, cut, lost, delayed, held;
    bool was_shut, was_unreliable, was_reordering;
    struct clerk_net {
        struct net base;
        struct host *host;
        unsigned at;
    } clerks[CLERKS_MAX];

    struct flow *current;
};

/* Where things are; set by main(). */
struct real_setup {
    const char *dir;                  /* of this title: data and logs go below it */
    const char *raft_node, *quorumfs; /* the programs */
};
extern struct real_setup real_setup;

/* ---- flow.c ---- */

void flow_init(struct host *h);
struct flow *flow_current(struct host *h);
/* Waits until somebody calls flow_wake(), or the time (ns, 0: none) is over. */
void flow_wait(struct host *h, uint64_t until);
void flow_wake(struct flow *f);

/* ---- proxy.c ---- */

void proxy_init(struct host *h);
/* The address of a server as it is seen from a place: of the proxy's listener, or the server's own for NOBODY. The
 * other servers share one listener; who dials it says so in its HELLO. */
void proxy_addr(unsigned from, unsigned to, char *out, size_t size);
void proxy_listen(struct host *h, unsigned from, unsigned to);

/* ---- process.c ---- */

void process_start(struct server *s);
void process_kill(struct server *s); /* returns when it is gone */
void process_show_logs(struct host *h);

/* ---- control.c ---- */

void control_begin(struct server *s); /* its process has been started: connects as soon as it listens */
void control_end(struct server *s);
void control_wait(struct server *s); /* until it listens */

/* Titles of the labs' later editions, here only (lab_later.c). */
extern const struct lab_test lab_later_tests[];

#endif
