/* signal.c - signals as callbacks of the loop; several may listen to one signal. */
#include <stdlib.h>

#include "io/io_priv.h"

struct sig {
    struct io__owned owned;
    struct io_loop *loop;
    uv_signal_t handle;
    void (*fired)(void *arg, int signum);
    void *arg;
};

static void on_signal(uv_signal_t *h, int signum)
{
    struct sig *s = container_of(h, struct sig, handle);
    s->fired(s->arg, signum);
}

static void on_signal_closed(uv_handle_t *h) { free(container_of((uv_signal_t *)h, struct sig, handle)); }

static void close_signal(struct io__owned *o)
{
    uv_close((uv_handle_t *)&container_of(o, struct sig, owned)->handle, on_signal_closed);
}

void io_on_signal(struct io_loop *l, int signum, void (*fired)(void *arg, int signum), void *arg)
{
    struct sig *s = xcalloc(1, sizeof(*s));
    *s = (struct sig){.owned.close = close_signal, .loop = l, .fired = fired, .arg = arg};
    list_push_back(&l->owned, &s->owned.link);
    check(uv_signal_init(&l->uv, &s->handle) == 0);
    check(uv_signal_start(&s->handle, on_signal, signum) == 0);
}
