/* fetch.h - map outputs between workers of different machines: a server of those on this one, a client for others'. */
#ifndef QFS_MR_FETCH_H
#define QFS_MR_FETCH_H

#include "io/io.h"

struct fetch_server {
    const char *job;                   /* its id */
    char **dirs;                       /* where map outputs are, the own ones and those taken over */
    size_t dirs_n;
};
/* The accept() of a listener whose arg is the server. Connections live as long as the other side wants. */
void mr__fetch_accept(void *server, struct conn *c);

struct fetch_output {
    uint32_t map, attempt;
};

enum fetch_fault {
    FETCH_OUTPUT,                      /* this one output is not to be had */
    FETCH_PEER,                        /* the other side cannot be reached: nor are those behind it */
    FETCH_OWN,                         /* our own disk */
};

struct fetch_options {
    const char *addr, *job;
    uint32_t parts, part;              /* of the map outputs */
    const struct fetch_output *v;      /* borrowed until done */
    uint32_t n;
    const char *path;                  /* a run file with n partitions: one for each output */
    uint64_t timeout_ns;               /* without any progress */
    /* err 0, or negative; then `at` is the output that was coming. The fetch is gone. */
    void (*done)(void *arg, int err, enum fetch_fault fault, uint32_t at);
    void *arg;
};
struct fetch;
struct fetch *mr__fetch_start(struct io_loop *l, const struct fetch_options *o);
void mr__fetch_cancel(struct fetch *f);            /* no done() any more */

#endif
