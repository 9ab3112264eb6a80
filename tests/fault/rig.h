/* rig.h - a small cluster of production servers, one client that writes down what was acknowledged, and ways to make
 * one single thing fail: the k-th allocation, disk operation or send of one server, one block of one file of one disk.
 *
 * A server ends when its disk fails (it says so itself), when memory cannot be had (a jump out of the callback: its
 * memory stays behind, as it would with a process), or when the test kills it. Nothing ever goes back: what was
 * acknowledged has to be there at the end, on a cluster that goes on. Failures are cmocka's. */
#ifndef QFS_TESTS_FAULT_RIG_H
#define QFS_TESTS_FAULT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kv/kv.h"
#include "tests/sim/disk.h"
#include "tests/sim/net.h"

#define SERVERS 3u
#define KEYS    20u
#define CLIENT  SERVERS /* its process */

struct cluster;

/* What a server sees of the network: sends may fail. */
struct gate {
    struct net base;
    struct net *real;
    struct cluster *cluster;
    void (*accept)(void *arg, struct conn *c);
    void *accept_arg;
};

/* Time as a server sees it, and its way to the disk. They tell its own code from the simulator's, and from its end on
 * what it still asks for is not heard. */
struct clock_gate {
    struct clock base, *real;
};
struct disk_gate {
    struct disk base;
    struct server *server;
    bool shut;
};

struct server {
    struct cluster *cluster;
    unsigned at;
    struct sim_disk *disk;
    struct gate gate;
    struct clock_gate clock;
    struct disk_gate door;
    struct kv_server *kv; /* NULL: down */
    bool ending;          /* it has said that it cannot go on */
    char why[400];        /* the last thing it said about that, or why it did not start */
    int err;
    unsigned ends; /* how often it ended itself */
};

enum countdown { COUNT_NONE, COUNT_ALLOC, COUNT_SEND, COUNT_LOAD };

struct cluster {
    struct sim_world *world;
    struct sim_net *net;
    struct server servers[SERVERS];
    struct kv_client *client;
    struct trace trace;
    uint32_t versions[KEYS]; /* acknowledged last; 0: none */
    uint32_t maybe[KEYS];    /* the newest that was ever asked for: it may be there, too */
    uint64_t asked;
    /* the failure to come */
    enum countdown what;
    unsigned victim;
    uint64_t left; /* 0: it has come, or there is none */
    jmp_buf death;
};

/* Over these disks (which become its own), or fresh ones. Nothing runs yet. */
struct cluster *cluster_new(uint64_t seed, struct sim_disk *const disks[SERVERS]);
void cluster_free(struct cluster *c);
/* 0 or the error with which it refuses; the text is in ->why. (0 and it is down all the same: no memory.) */
int server_start(struct cluster *c, unsigned i);
void server_kill(struct cluster *c, unsigned i);
void start_all(struct cluster *c); /* all that are down; none may refuse */
/* Time passes; servers that end themselves are taken down. */
void pass(struct cluster *c, uint64_t ms);
bool pass_until(struct cluster *c, bool (*done)(struct cluster *c), uint64_t ms);
bool alike(struct cluster *c);            /* all three vote, have applied the same, and have one digest */
int leader(struct cluster *c);            /* -1: none */
void lead(struct cluster *c, unsigned i); /* hands leadership to i and waits for it */

/* One operation through the client, waited for at most 30 s: its status (-ETIMEDOUT). */
int32_t put(struct cluster *c, unsigned key); /* the next version of the key */
/* Reads every key and compares with what was acknowledged. */
void check_all(struct cluster *c);
void put_all(struct cluster *c);

/* From now on the n-th (1: next) such thing of the server fails, once. */
void fail_nth(struct cluster *c, unsigned server, enum countdown what, uint64_t n);
bool failed_already(const struct cluster *c);

#endif
