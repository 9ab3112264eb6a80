/* work.c - blocking work on a thread of libuv's pool; its end comes back to the loop. */
#include <stdlib.h>

#include "io/io_priv.h"

struct work {
    uv_work_t req;
    struct io_loop *loop;
    void (*fn)(void *arg);
    void (*done)(void *arg);
    void *arg;
};

static void run_work(uv_work_t *req)
{
    struct work *w = container_of(req, struct work, req);
    w->fn(w->arg);
}

static void after_work(uv_work_t *req, int status)
{
    struct work *w = container_of(req, struct work, req);
    w->done(w->arg);
    free(w);
}

void io_work(struct io_loop *l, void (*fn)(void *arg), void (*done)(void *arg), void *arg)
{
    struct work *w = xcalloc(1, sizeof(*w));
    *w = (struct work){.loop = l, .fn = fn, .done = done, .arg = arg};
    check(uv_queue_work(&l->uv, &w->req, run_work, after_work) == 0);
}
