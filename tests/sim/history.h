/* history.h - what the clients of a run did and what they saw: one record an operation. */
#ifndef QFS_TESTS_SIM_HISTORY_H
#define QFS_TESTS_SIM_HISTORY_H

#include "kv/kv.h"

struct sim_record {
    unsigned client, life;
    enum kv_code code;
    bool change;
    bool known;                 /* it was answered, and the answer says what happened */
    uint64_t session, seq;      /* of a change, once it was sent; 0: never sent */
    uint64_t invoked, returned; /* true time; returned 0: never */
    int32_t status;
    uint64_t index;       /* the reply's: where it took effect */
    struct buf op, reply; /* wire forms */
};

struct sim_history {
    struct sim_record *v;
    size_t n, cap;
};

static inline struct sim_record *sim_history_add(struct sim_history *h)
{
    if (h->n == h->cap) {
        h->cap = h->cap ? h->cap * 2 : 1024;
        h->v = xrealloc(h->v, h->cap * sizeof *h->v);
    }
    struct sim_record *r = &h->v[h->n++];
    *r = (struct sim_record){0};
    return r;
}

#endif
