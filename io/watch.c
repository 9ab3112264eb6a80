/* watch.c - descriptors to watch. Watching makes a descriptor non-blocking. */
#include <stdlib.h>

#include "io/io_priv.h"

struct io_watch {
    struct io__owned owned;
    struct io_loop *loop;
    uv_poll_t poll;
    void (*ready)(void *arg);
    void *arg;
};

/* libuv stops a handle whose descriptor reports an error; ready()'s read will find out what it is, and until the user
 * stops the watch it stays level-triggered. */
static void on_ready(uv_poll_t *p, int status, int events)
{
    struct io_watch *w = container_of(p, struct io_watch, poll);
    if (status < 0) uv_poll_start(&w->poll, UV_READABLE, on_ready);
    w->loop->events++;
    w->ready(w->arg);
}

static void on_watch_closed(uv_handle_t *h) { free(container_of((uv_poll_t *)h, struct io_watch, poll)); }

static void close_watch(struct io__owned *o)
{
    struct io_watch *w = container_of(o, struct io_watch, owned);
    uv_close((uv_handle_t *)&w->poll, on_watch_closed);
}

struct io_watch *io_watch_readable(struct io_loop *l, int fd, void (*ready)(void *arg), void *arg)
{
    struct io_watch *w = xcalloc(1, sizeof(*w));
    if (uv_poll_init(&l->uv, &w->poll, fd) < 0) {
        free(w);
        return NULL;
    }
    w->owned.close = close_watch;
    w->loop = l;
    w->ready = ready;
    w->arg = arg;
    list_push_back(&l->owned, &w->owned.link);
    check(uv_poll_start(&w->poll, UV_READABLE, on_ready) == 0);
    return w;
}

void io_watch_stop(struct io_watch *w)
{
    list_remove(&w->owned.link);
    close_watch(&w->owned);
}
