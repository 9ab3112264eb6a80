/* host.h - the world that the lab titles run in: a cluster, its network, and time. Two make it up: tests/lab/sim_host.c
 * in the simulator, and tests/labreal/ with processes, disks and sockets in real time. The titles (lab_raft.c,
 * lab_kv.c) are written once, against this.
 *
 * Servers are 0 .. n-1, their ids one more. Unless said otherwise, everything is called by the title's own flow of
 * control, which waits in host_sleep() and host_wait(); a task's step (host_task) may call it, too, but for these. */
#ifndef QFS_TESTS_LAB_HOST_H
#define QFS_TESTS_LAB_HOST_H

#include "kv/kv.h"

#define LAB_SERVERS_MAX 7u

struct host;

struct host_options {
    const char *title;
    uint64_t seed;
    unsigned n;
    bool integers;    /* the Raft suite: nodes under a machine of integers; else the key/value store */
    bool unreliable;  /* from the beginning */
    int maxraftstate; /* -1: no snapshots */
};

/* All servers have been started, all ways are open. */
struct host *host_new(const struct host_options *o);
/* Also checks that the test took no more than 120 s. */
void host_free(struct host *h);
uint64_t host_random(struct host *h);

/* ---- time and words ---- */

uint64_t host_now(struct host *h); /* ns */
void host_sleep(struct host *h, uint64_t ms);
/* Until done(arg) or the time is over; returns what done says. */
bool host_wait(struct host *h, bool (*done)(void *arg), void *arg, uint64_t ms);
/* Ends the program. */
__attribute__((noreturn, format(printf, 2, 3))) void host_fail(struct host *h, const char *fmt, ...);
__attribute__((format(printf, 2, 3))) void host_say(struct host *h, const char *fmt, ...);

/* Something that goes on beside the title's own flow, in steps: each returns the ns until the next, or HOST_DONE.
 * The struct is the caller's until `done`. */
#define HOST_DONE UINT64_MAX
struct host_task {
    uint64_t (*step)(struct host_task *t);
    void *arg;
    bool done;
};
void host_begin(struct host *h, struct host_task *t);

/* ---- network ---- */

void host_way(struct host *h, unsigned i, unsigned j, bool open); /* between two servers, both directions */
void host_reset(struct host *h, unsigned i, unsigned j);          /* what is under way between them is lost */
void host_unreliable(struct host *h, bool on);                    /* off: no reordering any more, either */
void host_reorder(struct host *h);                                /* the labs' long reordering of replies */

/* ---- servers ---- */

bool host_up(struct host *h, unsigned i);
/* SIGKILL, in the simulator a power cut by chance; a no-op where it is down. */
void host_kill(struct host *h, unsigned i);
void host_start(struct host *h, unsigned i); /* it is down */

/* ---- of the Raft suite ---- */

/* Offers a command. True: accepted, at the visible index *index of *term. False, also where it is down: *index is as
 * it was. */
bool host_offer(struct host *h, unsigned i, uint64_t command, uint64_t *index, uint64_t *term);
/* False where it is down (*term is 0 then) or does not lead. */
bool host_leads(struct host *h, unsigned i, uint64_t *term);
/* How many servers have ever applied the visible index, and what. */
unsigned host_committed(struct host *h, uint64_t index, uint64_t *value);
uint64_t host_rpcs(struct host *h); /* requests that reached servers, in their present lives */

/* ---- of the key/value suite ---- */

/* What clerk k's client is made of: its way to the servers and its clock. */
struct net *host_clerk_net(struct host *h, unsigned k);
struct clock *host_clerk_clock(struct host *h, unsigned k);
const char *host_addr(struct host *h, unsigned i); /* what clerks dial */
void host_clerk_way(struct host *h, unsigned k, unsigned i, bool open);
/* The client is about to be freed, and its number may be used again. */
void host_clerk_end(struct host *h, unsigned k);

struct host_figures {
    bool leads;
    uint64_t log_bytes;      /* of the live log, behind the newest checkpoint */
    uint64_t snapshot_bytes; /* of that checkpoint's blocks; 0: there is none */
    uint64_t installed;      /* snapshots it got from others, in its present life */
};
/* How long what goes on in the background may take once changes have been answered; 0 in virtual time. */
uint64_t host_settle_ms(struct host *h);
void host_figures(struct host *h, unsigned i, struct host_figures *out); /* zeros where it is down */

#endif
