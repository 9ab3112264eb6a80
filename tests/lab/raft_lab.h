/* raft_lab.h - what the Raft titles have in common: servers that are connected or not, and agreement on integers. */
#ifndef QFS_TESTS_LAB_RAFT_LAB_H
#define QFS_TESTS_LAB_RAFT_LAB_H

#include "tests/lab/lab.h"

struct lab {
    struct host *h;
    unsigned n;
    bool connected[LAB_SERVERS_MAX];
    struct prng rng;
};

void lab_begin(struct lab *l, const struct lab_test *t, uint64_t seed, unsigned n, bool unreliable);
void lab_end(struct lab *l);

void lab_connect(struct lab *l, unsigned i);
void lab_disconnect(struct lab *l, unsigned i);
void lab_crash(struct lab *l, unsigned i);
void lab_start_server(struct lab *l, unsigned i); /* crashes it first where it runs; it is not connected */
static inline bool lab_up(const struct lab *l, unsigned i) { return host_up(l->h, i); }

unsigned lab_check_one_leader(struct lab *l);
uint64_t lab_check_terms(struct lab *l);
void lab_check_no_leader(struct lab *l);
uint64_t lab_term(struct lab *l, unsigned i);
/* Until k servers have ever applied the index; false: some term went beyond `term` (0: never mind). */
bool lab_wait(struct lab *l, uint64_t index, unsigned k, uint64_t term, uint64_t *value);
/* Agreement on the command by at least k servers; its index. */
uint64_t lab_one(struct lab *l, uint64_t command, unsigned k);
static inline uint64_t lab_random(struct lab *l) { return prng_u64(&l->rng) >> 1; }

/* The same agreement, on its own: several may be under way. */
struct lab_one {
    struct host_task task;
    struct lab *lab;
    uint64_t command, index, begun, offered;
    unsigned k, cursor; /* the server asked last */
    bool waiting;
};
void lab_one_begin(struct lab_one *o, struct lab *l, uint64_t command, unsigned k);

#endif
