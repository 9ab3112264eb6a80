/* The simulated clock: order, drift, pauses, death, and that a seed decides everything. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tests/sim/clock.h"

static struct sim_world *w;
static int order[2000], fired;

struct probe {
    struct timer t;
    struct sim_event e;
    unsigned proc;
    int id;
    uint64_t at, again;
};

static int setup(void **state)
{
    w = sim_world_new(1);
    fired = 0;
    return 0;
}

static int teardown(void **state)
{
    sim_world_free(w);
    return 0;
}

static void note_timer(struct timer *t)
{
    struct probe *p = t->arg;
    assert_true(clock_now(sim_clock(w, p->proc)) >= p->at);
    assert_true(sim_runs(w, p->proc));
    order[fired++] = p->id;
    if (p->again) {
        p->again--;
        clock_arm(sim_clock(w, p->proc), t, 0);
    }
}

static void note_event(struct sim_event *e)
{
    struct probe *p = e->arg;
    assert_true(sim_now(w) >= p->at && sim_now(w) < p->at + 1000);
    order[fired++] = p->id;
}

static struct clock *arm(struct probe *p, unsigned proc, int id, uint64_t after)
{
    struct clock *c = sim_clock(w, proc);
    p->t.fire = note_timer;
    p->t.arg = p;
    p->proc = proc;
    p->id = id;
    p->at = clock_now(c) + after;
    clock_arm(c, &p->t, p->at);
    return c;
}

static void at(struct probe *p, int id, uint64_t time)
{
    p->e.run = note_event;
    p->e.arg = p;
    p->id = id;
    p->at = time;
    sim_at(w, &p->e, time);
}

static void test_order_over_processes(void **state)
{
    struct probe p[6] = {0};
    arm(&p[0], 0, 0, 5 * NS_PER_MS);
    arm(&p[1], 1, 1, 3 * NS_PER_MS);
    arm(&p[2], 2, 2, 4 * NS_PER_MS);
    at(&p[3], 3, 2 * NS_PER_MS);
    at(&p[4], 4, 10 * NS_PER_MS);
    at(&p[5], 5, 1 * NS_PER_MS);
    sim_cancel(w, &p[4].e);
    sim_at(w, &p[3].e, p[3].at = 6 * NS_PER_MS); /* moves */
    while (sim_step(w)) continue;
    int want[] = {5, 1, 2, 0, 3};
    assert_int_equal(fired, 5);
    assert_memory_equal(order, want, sizeof(want));
    assert_int_equal(sim_now(w), 6 * NS_PER_MS);
}

static void test_run_until(void **state)
{
    struct probe p[2] = {0};
    arm(&p[0], 0, 0, 5 * NS_PER_MS);
    at(&p[1], 1, 7 * NS_PER_MS);
    sim_run_until(w, 5 * NS_PER_MS);
    assert_int_equal(fired, 1);
    sim_run_until(w, 6 * NS_PER_MS);
    assert_int_equal(fired, 1);
    assert_int_equal(sim_now(w), 6 * NS_PER_MS);
    sim_run_until(w, NS_PER_S);
    assert_int_equal(fired, 2);
    assert_int_equal(sim_now(w), NS_PER_S);
}

static void test_past_timers_come_at_once_in_order(void **state)
{
    struct probe p[3] = {0};
    sim_run_until(w, NS_PER_S);
    arm(&p[0], 0, 0, 0);
    p[1].again = 3;
    arm(&p[1], 0, 1, 0);
    arm(&p[2], 0, 2, 0);
    clock_arm(sim_clock(w, 0), &p[2].t, 0);
    while (sim_step(w)) continue;
    int want[] = {0, 1, 2, 1, 1, 1}; /* what re-arms itself goes behind */
    assert_int_equal(fired, 6);
    assert_memory_equal(order, want, sizeof(want));
    assert_int_equal(sim_now(w), NS_PER_S);
}

static void test_drift(void **state)
{
    struct probe fast = {0}, slow = {0}, right = {0};
    sim_drift(w, 0, 100000); /* 10 % fast */
    sim_drift(w, 1, -100000);
    arm(&fast, 0, 0, 110 * NS_PER_MS);
    arm(&slow, 1, 1, 90 * NS_PER_MS);
    arm(&right, 2, 2, 100 * NS_PER_MS);
    uint64_t from = clock_now(sim_clock(w, 0));
    sim_run_until(w, 99 * NS_PER_MS);
    assert_int_equal(fired, 0);
    sim_run_until(w, 101 * NS_PER_MS);
    assert_int_equal(fired, 3);
    assert_int_equal(clock_now(sim_clock(w, 0)) - from, 111100000);
    sim_drift(w, 0, 0); /* no jump at the change */
    assert_int_equal(clock_now(sim_clock(w, 0)) - from, 111100000);
    sim_run_until(w, 201 * NS_PER_MS);
    assert_int_equal(clock_now(sim_clock(w, 0)) - from, 211100000);
}

static void test_wall(void **state)
{
    int64_t a = clock_wall(sim_clock(w, 0));
    sim_wall_offset(w, 0, -3600 * (int64_t)NS_PER_S);
    assert_int_equal(clock_wall(sim_clock(w, 0)) - a, -3600 * (int64_t)NS_PER_S);
    assert_int_equal(clock_wall(sim_clock(w, 1)), a);
    sim_run_until(w, NS_PER_S);
    assert_int_equal(clock_wall(sim_clock(w, 1)) - a, (int64_t)NS_PER_S);
}

static void test_pause(void **state)
{
    struct probe a = {0}, b = {0};
    arm(&a, 0, 0, 10 * NS_PER_MS);
    arm(&b, 1, 1, 20 * NS_PER_MS);
    sim_pause(w, 0, true);
    sim_run_until(w, 50 * NS_PER_MS);
    assert_int_equal(fired, 1);
    assert_int_equal(order[0], 1);
    assert_false(sim_runs(w, 0));
    assert_true(sim_alive(w, 0));
    sim_pause(w, 0, false);
    assert_true(sim_step(w));
    assert_int_equal(order[1], 0);
    assert_int_equal(sim_now(w), 50 * NS_PER_MS);
}

static void test_kill_and_start(void **state)
{
    struct probe a = {0}, b = {0};
    struct clock *c = arm(&a, 0, 0, 10 * NS_PER_MS);
    uint64_t before = clock_now(c);
    sim_kill(w, 0);
    assert_true(sim_powered(w, 0));
    arm(&b, 0, 1, 10 * NS_PER_MS); /* does nothing */
    clock_disarm(c, &a.t);
    clock_disarm(c, &b.t);
    sim_run_until(w, NS_PER_S);
    assert_int_equal(fired, 0);
    sim_start(w, 0);
    assert_int_equal(clock_now(c), before + NS_PER_S);
    arm(&a, 0, 2, 10 * NS_PER_MS);
    sim_power_off(w, 0);
    assert_false(sim_powered(w, 0));
    assert_false(sim_step(w));
}

static bool two_fired(void *arg) { return fired >= 2; }

static void test_run_while_not(void **state)
{
    struct probe p[3] = {0};
    for (unsigned i = 0; i < 3; i++) at(&p[i], (int)i, (i + 1) * NS_PER_MS);
    assert_true(sim_run_while_not(w, two_fired, NULL, NS_PER_S));
    assert_int_equal(sim_now(w), 2 * NS_PER_MS);
    fired = 0;
    assert_false(sim_run_while_not(w, two_fired, NULL, NS_PER_S));
    assert_int_equal(sim_now(w), NS_PER_S);
}

/* Drift, pauses and timers at random: nothing is early, nothing is lost, and a seed gives one run. */
static uint64_t random_run(uint64_t seed)
{
    enum { N = 300 };
    static struct probe p[N];
    struct prng r;
    memset(p, 0, sizeof(p));
    prng_seed(&r, seed);
    sim_world_free(w);
    w = sim_world_new(seed);
    fired = 0;
    for (int i = 0; i < N; i++) arm(&p[i], (unsigned)prng_below(&r, 5), i, prng_below(&r, NS_PER_S));
    for (int i = 0; i < 100; i++) {
        unsigned proc = (unsigned)prng_below(&r, 5);
        if (prng_chance(&r, 50))
            sim_drift(w, proc, (int32_t)prng_below(&r, 400000) - 200000);
        else
            sim_pause(w, proc, prng_chance(&r, 50));
        sim_run_until(w, sim_now(w) + prng_below(&r, 30 * NS_PER_MS));
    }
    for (unsigned i = 0; i < 5; i++) sim_pause(w, i, false);
    while (sim_step(w)) continue;
    assert_int_equal(fired, N);
    return sim_digest(w);
}

static void test_random_and_deterministic(void **state)
{
    uint64_t last = 0;
    for (uint64_t seed = 1; seed < 30; seed++) {
        uint64_t d = random_run(seed);
        assert_true(d == random_run(seed));
        assert_true(d != last);
        last = d;
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_order_over_processes),
        T(test_run_until),
        T(test_past_timers_come_at_once_in_order),
        T(test_drift),
        T(test_wall),
        T(test_pause),
        T(test_kill_and_start),
        T(test_run_while_not),
        T(test_random_and_deterministic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
