/* integers.h - the state machine of the Raft titles: a committed command begins with eight bytes, a number; the state
 * is the list of them. Indexes that tests see ("visible" ones) count commands only, from 1, without holes, whatever else lies
 * in the log. */
#ifndef QFS_TESTS_SIM_INTEGERS_H
#define QFS_TESTS_SIM_INTEGERS_H

#include "raft/raft.h"

struct numbers {
    uint64_t *v;
    size_t n, cap;
};

struct integers {
    struct numbers now, image;
    uint64_t raft_index; /* applied last */
    uint64_t digest;     /* of the list */
    /* what is told, with `owner`; may be NULL */
    void (*applied)(void *owner, uint64_t upto); /* at a turn's end: the visible index applied last */
    void (*fatal)(void *owner, int err, const char *text);
    void *owner;
};

/* The callbacks for node_new(); m is zero but for what is told. */
struct node_sm integers_sm(struct integers *m);
void integers_free(struct integers *m);
static inline uint64_t integers_value(const struct integers *m, uint64_t visible)
{
    check(visible >= 1 && visible <= m->now.n);
    return m->now.v[visible - 1];
}

#endif
