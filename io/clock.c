/* clock.c - the clock door: CLOCK_BOOTTIME, read anew each time (a process frozen in the middle of a callback must not
 * believe that its lease still holds), and timers.
 *
 * Happy path: timers wait in a heap; before the loop blocks it fires what is due (io__clock_fire) and programs a
 * timerfd for the next deadline. Moving a deadline later, as election timers do all the time, costs no system call: the
 * timerfd then wakes the loop once for nothing. A timer armed in the past, from within a round, belongs to the next
 * round, so timers that re-arm themselves cannot keep the loop from its sockets. */
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "io/io_priv.h"

static struct io__clock *of(struct clock *c) { return container_of(c, struct io__clock, base); }

static uint64_t read_clock(clockid_t id)
{
    struct timespec ts;
    check(clock_gettime(id, &ts) == 0);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static uint64_t op_now(struct clock *c)
{
    (void)c;
    return read_clock(CLOCK_BOOTTIME);
}

static int64_t op_wall(struct clock *c) { return (int64_t)read_clock(CLOCK_REALTIME); }

static void op_arm(struct clock *c, struct timer *t, uint64_t at)
{
    struct io__clock *k = of(c);
    check(t->fire);
    heap_remove(&k->heap, &t->node);
    heap_insert(&k->heap, &t->node, max_u64(at, k->floor));
}

static void op_disarm(struct clock *c, struct timer *t) { heap_remove(&of(c)->heap, &t->node); }

static const struct clock_ops ops = {.now = op_now, .wall = op_wall, .arm = op_arm, .disarm = op_disarm};

/* Firing is the turn's work; here only the descriptor is made quiet again. */
static void on_timerfd(uv_poll_t *p, int status, int events)
{
    struct io__clock *k = container_of(p, struct io__clock, poll);
    uint64_t expirations;
    if (read(k->fd, &expirations, sizeof(expirations)) > 0) k->programmed = 0;
}

void io__clock_init(struct io__clock *k, uv_loop_t *uv)
{
    k->base.ops = &ops;
    k->fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    check(k->fd >= 0);
    check(uv_poll_init(uv, &k->poll, k->fd) == 0);
    check(uv_poll_start(&k->poll, UV_READABLE, on_timerfd) == 0);
}

static void on_closed(uv_handle_t *h)
{
    struct io__clock *k = container_of((uv_poll_t *)h, struct io__clock, poll);
    close(k->fd);
}

void io__clock_close(struct io__clock *k) { uv_close((uv_handle_t *)&k->poll, on_closed); }

bool io__clock_fire(struct io__clock *k)
{
    bool any = false;
    uint64_t limit = k->heap.seq;
    uint64_t now = k->floor = op_now(&k->base);
    for (struct heap_node *n; (n = heap_min(&k->heap)) && n->key <= now && n->seq < limit; any = true) {
        struct timer *t = container_of(n, struct timer, node);
        heap_remove(&k->heap, n);
        t->fire(t);
    }
    return any;
}

bool io__clock_due(struct io__clock *k)
{
    struct heap_node *n = heap_min(&k->heap);
    if (!n) return false;
    return n->key <= op_now(&k->base);
}

void io__clock_program(struct io__clock *k)
{
    struct heap_node *n = heap_min(&k->heap);
    if (!n || (k->programmed && k->programmed <= n->key)) return;
    uint64_t s = n->key / NS_PER_S;
    if (s > INT32_MAX) return; /* decades away: "never" */
    struct itimerspec at = {.it_value = {.tv_sec = (time_t)s, .tv_nsec = (long)(n->key % NS_PER_S)}};
    check(timerfd_settime(k->fd, TFD_TIMER_ABSTIME, &at, NULL) == 0);
    k->programmed = n->key;
}
