/* loop.c - the loop and the steps of its turn.
 *
 * A turn: libuv polls and calls back for sockets, disk completions, signals and children; then handles that were closed
 * say so; then, before the loop waits again, on_turn(): completions that came meanwhile, due timers, owed callbacks,
 * until there is nothing of that left, and last the frames that all this has gathered are written, one system call a
 * connection. An idle loop sleeps in epoll without any periodic timer, soon after its last event (spin.c). */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "io/io_priv.h"

/* Work that makes itself anew (a timer that re-arms itself in the past) gets this many rounds before sockets are
 * looked at again. */
#define FILES_WANTED 65536u
#define ROUNDS_MAX 4

static void on_busy(uv_idle_t *h) {}

/* The one place that decides whether the next poll may wait. */
static bool may_block(struct io_loop *l)
{
    if (!io__net_idle(&l->net) || io__clock_due(&l->clock)) return false;
    if (l->alone || !io__spin(&l->spin, l->events, clock_now(&l->clock.base))) return true;
    sched_yield(); /* to whoever waits for this processor: it may be the thread or peer that our answer comes from */
    return false;
}

static void on_turn(uv_prepare_t *h)
{
    struct io_loop *l = container_of(h, struct io_loop, turn);
    for (int i = 0; i < ROUNDS_MAX; i++) {
        bool did = io__disk_drain(l);
        if (io__clock_fire(&l->clock)) {
            l->events++;
            did = true;
        }
        did |= io__net_later(&l->net);
        if (!did) break;
    }
    io__net_flush(&l->net);
    if (may_block(l)) {
        uv_idle_stop(&l->busy);
        io__clock_program(&l->clock);
    } else {
        uv_idle_start(&l->busy, on_busy);
    }
}

/* A writer learns of a closed pipe by EPIPE; and a parent that ignored SIGCHLD would lose its children's exit codes.
 * The limit of descriptors is raised as far as we are allowed: each client of a node is one. */
static void prepare_process(struct io_loop *l)
{
    struct sigaction sa;
    signal(SIGPIPE, SIG_IGN);
    if (sigaction(SIGCHLD, NULL, &sa) == 0 && sa.sa_handler == SIG_IGN) signal(SIGCHLD, SIG_DFL);
    check(getrlimit(RLIMIT_NOFILE, &l->files) == 0);
    struct rlimit most = {.rlim_cur = FILES_WANTED, .rlim_max = FILES_WANTED};
    struct rlimit more = {.rlim_cur = l->files.rlim_max, .rlim_max = l->files.rlim_max};
    if (l->files.rlim_max < FILES_WANTED && setrlimit(RLIMIT_NOFILE, &most) == 0) return;
    if (l->files.rlim_cur < more.rlim_cur) setrlimit(RLIMIT_NOFILE, &more);
}

uint64_t io_files_max(void)
{
    struct rlimit now;
    check(getrlimit(RLIMIT_NOFILE, &now) == 0);
    return now.rlim_cur;
}

struct io_loop *io_loop_new(void)
{
    struct io_loop *l = xcalloc(1, sizeof(*l));
    check(uv_loop_init(&l->uv) == 0);
    list_init(&l->owned);
    list_init(&l->disks);
    prepare_process(l);
    check(uv_prepare_init(&l->uv, &l->turn) == 0 && uv_prepare_start(&l->turn, on_turn) == 0);
    check(uv_idle_init(&l->uv, &l->busy) == 0);
    l->alone = uv_available_parallelism() == 1;
    io__clock_init(&l->clock, &l->uv);
    io__net_init(&l->net, l);
    return l;
}

void io_loop_run(struct io_loop *l)
{
    uv_run(&l->uv, UV_RUN_DEFAULT);
    io__net_flush(&l->net); /* stopped in the middle of a turn: what was sent shall leave */
}

void io_loop_stop(struct io_loop *l) { uv_stop(&l->uv); }

void io_loop_free(struct io_loop *l)
{
    check(list_empty(&l->disks));
    l->closing = true;
    for (struct list *i; (i = list_pop_front(&l->owned));) {
        struct io__owned *o = container_of(i, struct io__owned, link);
        o->close(o);
    }
    io__clock_close(&l->clock);
    uv_close((uv_handle_t *)&l->turn, NULL);
    uv_close((uv_handle_t *)&l->busy, NULL);
    /* Until work and closing handles are done; a callback may still call io_loop_stop(). */
    while (io__net_later(&l->net) || uv_loop_alive(&l->uv)) uv_run(&l->uv, UV_RUN_DEFAULT);
    check(uv_loop_close(&l->uv) == 0);
    heap_free(&l->clock.heap);
    free(l->net.scratch);
    free(l);
}

struct clock *io_clock(struct io_loop *l) { return &l->clock.base; }
struct net *io_net(struct io_loop *l) { return &l->net.base; }
void io_loop_trace(struct io_loop *l, const struct trace *trace) { l->trace = trace; }
