/* fake_io.c - see fake_io.h. What io/ itself promises is kept: callbacks come later, never from inside a call, and none
 * for what was released, stopped or closed. */
#include "tests/unit/mr/fake_io.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#define PID_NONE   0x3fff0000    /* above all that the kernel gives */
#define PIPE_BYTES (1024 * 1024) /* what a child is given within one event has to fit: nobody reads meanwhile */
#define SOON       (50 * NS_PER_US)

void (*fake_io_begin)(struct io_loop *l);
void (*fake_io_play)(struct io_loop *l);

/* ---- the loop ---- */

struct io_loop *io_loop_new(void)
{
    struct io_loop *l = xcalloc(1, sizeof *l);
    fake_init(&l->f, 1);
    list_init(&l->children);
    list_init(&l->watches);
    signal(SIGPIPE, SIG_IGN);
    if (fake_io_begin) fake_io_begin(l);
    return l;
}

struct clock *io_clock(struct io_loop *l) { return &l->f.clock; }
struct net *io_net(struct io_loop *l) { return &l->f.net; }
void io_loop_stop(struct io_loop *l) { l->stopped = true; }
void io_loop_run(struct io_loop *l) { fake_io_play(l); }
uint64_t io_random(void) { return 4711; }

void io_on_signal(struct io_loop *l, int signum, void (*fired)(void *arg, int signum), void *arg)
{
    unsigned i = l->signals[0].fired ? 1 : 0;
    check(!l->signals[i].fired);
    l->signals[i].signum = signum;
    l->signals[i].fired = fired;
    l->signals[i].arg = arg;
}

void fake_io_signal(struct io_loop *l, int signum)
{
    for (unsigned i = 0; i < 2; i++)
        if (l->signals[i].fired && l->signals[i].signum == signum) l->signals[i].fired(l->signals[i].arg, signum);
}

/* ---- descriptors ---- */

struct io_watch {
    struct list link;
    int fd;
    void (*ready)(void *arg);
    void *arg;
};

struct io_watch *io_watch_readable(struct io_loop *l, int fd, void (*ready)(void *arg), void *arg)
{
    struct io_watch *w = xcalloc(1, sizeof *w);
    *w = (struct io_watch){.fd = fd, .ready = ready, .arg = arg};
    fcntl(fd, F_SETFL, O_NONBLOCK);
    list_push_back(&l->watches, &w->link);
    return w;
}

void io_watch_stop(struct io_watch *w)
{
    list_remove(&w->link);
    free(w);
}

static struct io_watch *readable(struct io_loop *l)
{
    list_for_each(it, &l->watches)
    {
        struct io_watch *w = container_of(it, struct io_watch, link);
        struct pollfd p = {.fd = w->fd, .events = POLLIN};
        if (poll(&p, 1, 0) == 1) return w;
    }
    return NULL;
}

/* ---- work ---- */

struct work {
    struct io_loop *loop;
    void (*done)(void *arg);
    void *arg;
};

static void on_work_done(void *arg)
{
    struct work w = *(struct work *)arg;
    free(arg);
    w.loop->works--;
    w.done(w.arg);
}

void io_work(struct io_loop *l, void (*fn)(void *arg), void (*done)(void *arg), void *arg)
{
    struct work *w = xcalloc(1, sizeof *w);
    *w = (struct work){l, done, arg};
    l->works++;
    fn(arg);
    fake_later(&l->f, SOON, on_work_done, w);
}

/* ---- children ---- */

static void child_free(struct io_child *c)
{
    list_remove(&c->link);
    if (c->in >= 0) close(c->in);
    if (c->out >= 0) close(c->out);
    if (c->err >= 0) close(c->err);
    free(c);
}

int io_spawn(struct io_loop *l, const struct io_child_options *o, struct io_child **out)
{
    struct io_child *c = xcalloc(1, sizeof *c);
    *c = (struct io_child){.loop = l, .o = *o, .pid = PID_NONE + (pid_t)l->children_n++};
    c->in = o->stdin_fd > 2 ? fcntl(o->stdin_fd, F_DUPFD_CLOEXEC, 0) : -1;
    c->out = o->stdout_fd > 2 ? fcntl(o->stdout_fd, F_DUPFD_CLOEXEC, 0) : -1;
    c->err = o->stderr_fd > 2 ? fcntl(o->stderr_fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (c->in >= 0) fcntl(c->in, F_SETFL, O_NONBLOCK);
    if (c->in >= 0) fcntl(c->in, F_SETPIPE_SZ, PIPE_BYTES);
    list_push_back(&l->children, &c->link);
    *out = c;
    return 0;
}

pid_t io_child_pid(const struct io_child *c) { return c->pid; }

static void on_ended(void *arg)
{
    struct io_child *c = arg;
    if (!c->released) c->o.exited(c->o.arg, c->status, c->signum);
    child_free(c);
}

void fake_io_exit(struct io_child *c, int64_t status, int signum)
{
    if (c->ending) return;
    c->ending = true;
    c->status = status;
    c->signum = signum;
    fake_later(&c->loop->f, SOON, on_ended, c);
}

void io_child_kill(struct io_child *c, int signum) { fake_io_exit(c, 0, signum); }

void io_child_release(struct io_child *c)
{
    c->released = true;
    if (!c->ending) child_free(c);
}

struct io_child *fake_io_child(struct io_loop *l, unsigned n)
{
    unsigned all = 0;
    list_for_each(it, &l->children) all++;
    if (all == 0) return NULL;
    n %= all;
    list_for_each(it, &l->children) if (n-- == 0) return container_of(it, struct io_child, link);
    return NULL;
}

/* ---- time ---- */

/* A child takes what it is given; its pipe never fills. */
static void read_all(struct io_loop *l)
{
    char space[4096];
    list_for_each(it, &l->children)
    {
        int fd = container_of(it, struct io_child, link)->in;
        while (fd >= 0 && read(fd, space, sizeof space) > 0) continue;
    }
}

static bool one(struct io_loop *l, uint64_t end)
{
    read_all(l);
    struct io_watch *w = readable(l);
    if (w) {
        w->ready(w->arg);
        return true;
    }
    struct heap_node *t = heap_min(&l->f.timers), *e = heap_min(&l->f.events);
    if (min_u64(t ? t->key : UINT64_MAX, e ? e->key : UINT64_MAX) > end) return false;
    return fake_step(&l->f);
}

void fake_io_run(struct io_loop *l, uint64_t ns)
{
    uint64_t end = l->f.now + ns;
    while (!l->stopped && one(l, end)) continue;
    if (!l->stopped) l->f.now = end;
}

static void forget_timers(struct io_loop *l)
{
    for (struct heap_node *t; (t = heap_min(&l->f.timers));) heap_remove(&l->f.timers, t);
}

/* Both ends of each connection are closed; who has the far one frees it in its closed(). */
void io_loop_free(struct io_loop *l)
{
    while (!list_empty(&l->watches)) io_watch_stop(container_of(l->watches.next, struct io_watch, link));
    list_for_each(it, &l->children) container_of(it, struct io_child, link)->released = true;
    fake_close_all(&l->f, QE_STOPPED);
    do forget_timers(l);
    while (heap_min(&l->f.events) && fake_step(&l->f));
    while (!list_empty(&l->children)) child_free(container_of(l->children.next, struct io_child, link));
    check(l->works == 0);
    fake_free(&l->f);
    free(l);
}
