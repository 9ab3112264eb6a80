/* raft_lab.h - the harness of the Raft titles: servers that are connected or not, and agreement on integers. */
#ifndef QFS_TESTS_LAB_RAFT_LAB_H
#define QFS_TESTS_LAB_RAFT_LAB_H

#include "tests/lab/lab.h"
#include "tests/sim/box.h"

struct lab {
    struct sim_cluster *c;
    unsigned n;
    bool connected[SIM_SERVERS_MAX];
    uint64_t ever[SIM_SERVERS_MAX]; /* visible index applied by any life of the server */
    unsigned cursor;
    struct prng rng;
};

void lab_begin(struct lab *l, const struct lab_test *t, uint64_t seed, unsigned n, bool unreliable);
void lab_end(struct lab *l);

void lab_connect(struct lab *l, unsigned i);
void lab_disconnect(struct lab *l, unsigned i);
void lab_crash(struct lab *l, unsigned i);
void lab_start_server(struct lab *l, unsigned i); /* crashes it first where it runs; it is not connected */
static inline bool lab_up(const struct lab *l, unsigned i) { return sim_server_up(l->c, i); }

unsigned lab_check_one_leader(struct lab *l);
uint64_t lab_check_terms(struct lab *l);
void lab_check_no_leader(struct lab *l);
uint64_t lab_term(struct lab *l, unsigned i);
/* How many servers have ever applied the visible index, and what. */
unsigned lab_committed(struct lab *l, uint64_t index, uint64_t *value);
/* Until k servers have; false: some term went beyond `term` (0: never mind). */
bool lab_wait(struct lab *l, uint64_t index, unsigned k, uint64_t term, uint64_t *value);
bool lab_start(struct lab *l, unsigned i, uint64_t command, uint64_t *index, uint64_t *term);
/* Agreement on the command by at least k servers; its index. */
uint64_t lab_one(struct lab *l, uint64_t command, unsigned k);
uint64_t lab_rpcs(struct lab *l);
static inline uint64_t lab_random(struct lab *l) { return prng_u64(&l->rng) >> 1; }

/* The same agreement, on its own: several may be under way. */
struct lab_one {
    struct lab *lab;
    struct sim_event ev;
    uint64_t command, index, begun, offered;
    unsigned k;
    bool waiting, done;
};
void lab_one_begin(struct lab_one *o, struct lab *l, uint64_t command, unsigned k);

#endif
