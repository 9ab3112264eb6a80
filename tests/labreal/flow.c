/* flow.c - flows of control: the title's own, which runs the loop while it waits, and tasks, each on a stack of its
 * own, which are entered from callbacks of the loop and leave again where they wait. So everything is on one thread,
 * and whatever a title does may wait for a server's answer. */
#include <ucontext.h>

#include "tests/labreal/real.h"

#define STACK_BYTES (128u * KIB)

struct flow {
    struct host *host;
    bool own; /* the title's */
    bool woken;
    struct timer timer;
    struct host_task *task;
    ucontext_t here, loop; /* of a task: where it waits; where the loop was when it was entered */
    char *stack;
};

static struct flow main_flow;

struct flow *flow_current(struct host *h) { return h->current; }

static void enter(struct flow *f)
{
    struct flow *from = f->host->current;
    f->host->current = f;
    check(swapcontext(&f->loop, &f->here) == 0);
    f->host->current = from;
    if (!f->task->done) return;
    free(f->stack);
    free(f);
    flow_wake(&main_flow); /* it may wait for just this */
}

void flow_wake(struct flow *f)
{
    if (f->woken) return;
    f->woken = true;
    clock_disarm(f->host->clock, &f->timer);
    if (f->own)
        io_loop_stop(f->host->loop);
    else
        enter(f);
}

static void timer_fired(struct timer *t) { flow_wake(t->arg); }

void flow_wait(struct host *h, uint64_t until)
{
    struct flow *f = h->current;
    f->woken = false;
    if (until) clock_arm(h->clock, &f->timer, until);
    while (!f->woken) {
        if (f->own)
            io_loop_run(h->loop);
        else
            check(swapcontext(&f->here, &f->loop) == 0);
    }
    f->woken = true;
}

void flow_init(struct host *h)
{
    main_flow = (struct flow){.host = h, .own = true, .woken = true};
    main_flow.timer = (struct timer){.fire = timer_fired, .arg = &main_flow};
    h->current = &main_flow;
}

/* ---- tasks ---- */

static struct flow *starting;

static void run_task(void)
{
    struct flow *f = starting;
    uint64_t pause;
    while ((pause = f->task->step(f->task)) != HOST_DONE) flow_wait(f->host, host_now(f->host) + pause);
    f->task->done = true;
}

static void begin_fired(struct timer *t)
{
    struct flow *f = t->arg;
    f->timer.fire = timer_fired;
    starting = f;
    enter(f);
}

void host_begin(struct host *h, struct host_task *task)
{
    struct flow *f = xcalloc(1, sizeof *f);
    *f = (struct flow){.host = h, .task = task, .woken = true, .stack = xmalloc(STACK_BYTES)};
    f->timer = (struct timer){.fire = begin_fired, .arg = f};
    task->done = false;
    check(getcontext(&f->here) == 0);
    f->here.uc_stack.ss_sp = f->stack;
    f->here.uc_stack.ss_size = STACK_BYTES;
    f->here.uc_link = &f->loop;
    makecontext(&f->here, run_task, 0);
    clock_arm(h->clock, &f->timer, host_now(h));
}

/* ---- the title's waiting ---- */

uint64_t host_now(struct host *h) { return clock_now(h->clock); }

void host_sleep(struct host *h, uint64_t ms)
{
    uint64_t until = host_now(h) + ms * NS_PER_MS;
    while (host_now(h) < until) flow_wait(h, until);
}

/* What done() looks at changes in callbacks that know nothing of us; so it is asked every millisecond. */
bool host_wait(struct host *h, bool (*done)(void *arg), void *arg, uint64_t ms)
{
    uint64_t until = host_now(h) + ms * NS_PER_MS;
    while (!done(arg)) {
        uint64_t now = host_now(h);
        if (now >= until) return false;
        flow_wait(h, min_u64(until, now + NS_PER_MS));
    }
    return true;
}
