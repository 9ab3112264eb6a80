/* clock.c - virtual time. The world's events wait in one heap under true time; each process's timers wait in a heap of
 * their own under that process's own time, so that drift, pause and death are matters of one process only. A step takes
 * whichever is due first. Where a timer and an event are due at the same instant, chance decides: a real loop may see
 * both in one turn or in two.
 *
 * Times of events are rounded up to TICK_NS, so that such instants happen. */
#include "tests/sim/clock.h"

#include <stdlib.h>

#define TICK_NS    1000u
#define MILLION    1000000
#define STUCK      2000000u      /* steps at one instant: something re-arms itself for ever */
#define WALL_START 1700000000ull /* seconds */

struct proc {
    struct clock base;
    struct sim_world *world;
    struct heap timers; /* by local time */
    bool alive, powered, paused;
    uint64_t local_from, true_from; /* a pair of readings; from there on: */
    int32_t ppm;
    int64_t wall;
};

struct sim_world {
    struct heap events;
    uint64_t now, steps, at_once, digest;
    struct prng prng;
    void (*changed)(void *arg, unsigned proc);
    void *changed_arg;
    unsigned used; /* processes above have never had a clock */
    int running;
    struct proc procs[SIM_PROCS_MAX];
};

/* ---- a process's clock --- */

static uint64_t local_of(const struct proc *p, uint64_t at)
{
    uint64_t passed = at - p->true_from;
    if (p->ppm == 0) return p->local_from + passed; /* what the rest gives, too, but mostly it is so, and asked often */
    return p->local_from + (uint64_t)((unsigned __int128)passed * (unsigned)(MILLION + p->ppm) / MILLION);
}

/* The first true time at which the local clock shows `local` or later; UINT64_MAX: never. */
static uint64_t true_of(const struct proc *p, uint64_t local)
{
    if (local <= p->local_from) return p->true_from;
    unsigned rate = (unsigned)(MILLION + p->ppm);
    unsigned __int128 t = local - p->local_from;
    if (p->ppm) t = (t * MILLION + rate - 1) / rate;
    return t > UINT64_MAX / 4 ? UINT64_MAX : p->true_from + (uint64_t)t;
}

static struct proc *of(struct clock *c) { return container_of(c, struct proc, base); }
static uint64_t op_now(struct clock *c) { return local_of(of(c), of(c)->world->now); }
static int64_t op_wall(struct clock *c) { return (int64_t)(WALL_START * NS_PER_S + of(c)->world->now) + of(c)->wall; }

static void op_arm(struct clock *c, struct timer *t, uint64_t at)
{
    struct proc *p = of(c);
    check(t->fire);
    heap_remove(&p->timers, &t->node);
    if (p->alive) heap_insert(&p->timers, &t->node, max_u64(at, op_now(c)));
}

static void op_disarm(struct clock *c, struct timer *t) { heap_remove(&of(c)->timers, &t->node); }

static const struct clock_ops ops = {.now = op_now, .wall = op_wall, .arm = op_arm, .disarm = op_disarm};

struct clock *sim_clock(struct sim_world *w, unsigned proc)
{
    check(proc < SIM_PROCS_MAX);
    if (w->used <= proc) w->used = proc + 1;
    return &w->procs[proc].base;
}

/* ---- states --- */

static void set_state(struct sim_world *w, unsigned proc, bool alive, bool powered, bool paused)
{
    check(proc < SIM_PROCS_MAX);
    struct proc *p = &w->procs[proc];
    if (!alive) heap_free(&p->timers);
    p->alive = alive;
    p->powered = powered;
    p->paused = paused;
    sim_mix(w, proc * 8 + alive * 4u + powered * 2u + paused);
    if (w->changed) w->changed(w->changed_arg, proc);
}

void sim_kill(struct sim_world *w, unsigned proc) { set_state(w, proc, false, w->procs[proc].powered, false); }
void sim_power_off(struct sim_world *w, unsigned proc) { set_state(w, proc, false, false, false); }

void sim_start(struct sim_world *w, unsigned proc)
{
    check(!sim_alive(w, proc));
    set_state(w, proc, true, true, false);
}

void sim_pause(struct sim_world *w, unsigned proc, bool on)
{
    struct proc *p = &w->procs[proc];
    if (p->alive && p->paused != on) set_state(w, proc, true, true, on);
}

bool sim_alive(const struct sim_world *w, unsigned proc) { return w->procs[proc].alive; }
bool sim_runs(const struct sim_world *w, unsigned proc) { return w->procs[proc].alive && !w->procs[proc].paused; }
bool sim_powered(const struct sim_world *w, unsigned proc) { return w->procs[proc].powered; }

void sim_drift(struct sim_world *w, unsigned proc, int32_t ppm)
{
    struct proc *p = &w->procs[proc];
    check(ppm > -MILLION && ppm < MILLION);
    p->local_from = local_of(p, w->now);
    p->true_from = w->now;
    p->ppm = ppm;
}

void sim_wall_offset(struct sim_world *w, unsigned proc, int64_t ns) { w->procs[proc].wall = ns; }

int sim_running(const struct sim_world *w) { return w->running; }
void sim_set_running(struct sim_world *w, int proc) { w->running = proc; }

void sim_on_change(struct sim_world *w, void (*changed)(void *arg, unsigned proc), void *arg)
{
    w->changed = changed;
    w->changed_arg = arg;
}

/* ---- the world --- */

/* Each machine has been up for a different time: who compares two machines' clocks shall notice. */
struct sim_world *sim_world_new(uint64_t seed)
{
    struct sim_world *w = xcalloc(1, sizeof(*w));
    prng_seed(&w->prng, seed);
    w->running = -1;
    for (unsigned i = 0; i < SIM_PROCS_MAX; i++) {
        w->procs[i] = (struct proc){.base.ops = &ops, .world = w, .alive = true, .powered = true};
        w->procs[i].local_from = prng_between(&w->prng, NS_PER_S, 100000 * NS_PER_S);
    }
    return w;
}

void sim_world_free(struct sim_world *w)
{
    for (unsigned i = 0; i < SIM_PROCS_MAX; i++) heap_free(&w->procs[i].timers);
    heap_free(&w->events);
    free(w);
}

uint64_t sim_now(const struct sim_world *w) { return w->now; }
uint64_t sim_steps(const struct sim_world *w) { return w->steps; }
uint64_t sim_digest(const struct sim_world *w) { return w->digest; }
void sim_mix(struct sim_world *w, uint64_t what)
{
    w->digest = hash_mix(w->digest ^ w->now * 0x9e3779b97f4a7c15ull ^ what);
}

void sim_at(struct sim_world *w, struct sim_event *e, uint64_t at)
{
    check(e->run);
    heap_remove(&w->events, &e->node);
    at = max_u64(at, w->now);
    heap_insert(&w->events, &e->node, (at + TICK_NS - 1) / TICK_NS * TICK_NS);
}

void sim_cancel(struct sim_world *w, struct sim_event *e) { heap_remove(&w->events, &e->node); }

/* The process whose timer is due first, and when that is. */
static struct proc *next_timer(struct sim_world *w, uint64_t *at)
{
    struct proc *first = NULL;
    *at = UINT64_MAX;
    for (unsigned i = 0; i < w->used; i++) {
        struct proc *p = &w->procs[i];
        struct heap_node *n = heap_min(&p->timers);
        if (!n || p->paused) continue;
        uint64_t t = max_u64(true_of(p, n->key), w->now);
        if (t < *at) {
            *at = t;
            first = p;
        }
    }
    return first;
}

static void advance(struct sim_world *w, uint64_t at)
{
    w->at_once = at == w->now ? w->at_once + 1 : 0;
    check(w->at_once < STUCK);
    w->now = at;
    w->steps++;
}

static void run_timer(struct sim_world *w, struct proc *p)
{
    struct heap_node *n = heap_min(&p->timers);
    struct timer *t = container_of(n, struct timer, node);
    check(op_now(&p->base) >= n->key);
    heap_remove(&p->timers, n);
    sim_mix(w, (uint64_t)(p - w->procs) + 1000);
    w->running = (int)(p - w->procs);
    t->fire(t);
    w->running = -1;
}

static void run_event(struct sim_world *w)
{
    struct sim_event *e = container_of(heap_min(&w->events), struct sim_event, node);
    heap_remove(&w->events, &e->node);
    e->run(e);
}

/* False: nothing happens until `limit`. */
static bool step(struct sim_world *w, uint64_t limit)
{
    uint64_t timer_at;
    struct proc *p = next_timer(w, &timer_at);
    struct heap_node *n = heap_min(&w->events);
    uint64_t event_at = n ? max_u64(n->key, w->now) : UINT64_MAX;
    uint64_t at = min_u64(timer_at, event_at);
    if (at > limit || at == UINT64_MAX) return false;
    bool event = event_at < timer_at || (event_at == timer_at && prng_chance(&w->prng, 50));
    advance(w, at);
    if (event)
        run_event(w);
    else
        run_timer(w, p);
    return true;
}

static void pass_to(struct sim_world *w, uint64_t at)
{
    if (w->now < at) advance(w, at);
}

bool sim_step(struct sim_world *w) { return step(w, UINT64_MAX); }

void sim_run_until(struct sim_world *w, uint64_t at)
{
    while (step(w, at)) continue;
    pass_to(w, at);
}

bool sim_run_while_not(struct sim_world *w, bool (*done)(void *arg), void *arg, uint64_t at)
{
    while (!done(arg)) {
        if (step(w, at)) continue;
        pass_to(w, at);
        return done(arg);
    }
    return true;
}
