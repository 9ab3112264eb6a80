/* Clock door: timers in order, timers in the past, a loop that sleeps when there is nothing to do. */
#include "helper.h"

#include <sys/resource.h>
#include <time.h>

#define TIMERS 500

struct probe {
    struct timer t;
    struct io_loop *loop;
    uint64_t at;
    int id;
    bool armed;
};

static struct io_loop *loop;
static int order[TIMERS];
static int fired;

static void note(struct timer *t)
{
    struct probe *p = t->arg;
    assert_true(p->armed);
    p->armed = false;
    assert_true(clock_now(io_clock(loop)) >= p->at);
    order[fired++] = p->id;
    io_loop_stop(loop);
}

static void arm(struct probe *p, int id, uint64_t at)
{
    p->t.fire = note;
    p->t.arg = p;
    p->id = id;
    p->at = at;
    p->armed = true;
    clock_arm(io_clock(loop), &p->t, at);
}

static int setup(void **state)
{
    loop = io_loop_new();
    fired = 0;
    return 0;
}

static int teardown(void **state)
{
    io_loop_free(loop);
    return 0;
}

static void test_order(void **state)
{
    struct probe p[5] = {0};
    uint64_t now = clock_now(io_clock(loop));
    arm(&p[0], 0, now + 3 * NS_PER_MS);
    arm(&p[1], 1, now + 1 * NS_PER_MS);
    arm(&p[2], 2, now + 1 * NS_PER_MS);
    arm(&p[3], 3, 0);
    arm(&p[4], 4, 0);
    run_until(loop, fired == 5);
    int want[] = {3, 4, 1, 2, 0};
    assert_memory_equal(order, want, sizeof(want));
}

static void test_rearm_and_disarm(void **state)
{
    struct probe p[3] = {0};
    uint64_t now = clock_now(io_clock(loop));
    arm(&p[0], 0, now + 1 * NS_PER_MS);
    arm(&p[1], 1, now + 2 * NS_PER_MS);
    arm(&p[2], 2, now + 1 * NS_PER_MS);
    arm(&p[0], 0, now + 3 * NS_PER_MS); /* moves */
    clock_disarm(io_clock(loop), &p[2].t);
    clock_disarm(io_clock(loop), &p[2].t); /* and again: a no-op */
    run_until(loop, fired == 2);
    assert_int_equal(order[0], 1);
    assert_int_equal(order[1], 0);
}

/* An early deadline is armed while the timerfd already waits for a late one. */
static struct probe early;
static void nothing(void *arg) {}
static void arm_early(void *arg) { arm(&early, 7, clock_now(io_clock(loop)) + NS_PER_MS); }

static void test_earlier_deadline_while_waiting(void **state)
{
    struct probe late = {0};
    arm(&late, 1, clock_now(io_clock(loop)) + 3600 * NS_PER_S);
    io_work(loop, nothing, arm_early, NULL);
    run_until(loop, fired == 1);
    assert_int_equal(order[0], 7);
    clock_disarm(io_clock(loop), &late.t);
}

/* What a timer arms in the past goes behind all that was due already. */
static struct probe behind;
static void note_and_arm(struct timer *t)
{
    note(t);
    arm(&behind, 3, 0);
}

static void test_past_goes_behind_what_is_due(void **state)
{
    struct probe p[3] = {0};
    for (int i = 0; i < 3; i++) arm(&p[i], i, (uint64_t)i + 1);
    p[0].t.fire = note_and_arm;
    run_until(loop, fired == 4);
    int want[] = {0, 1, 2, 3};
    assert_memory_equal(order, want, sizeof(want));
}

static void test_random_timers(void **state)
{
    static struct probe p[TIMERS];
    struct prng r;
    prng_seed(&r, 42);
    memset(p, 0, sizeof(p));
    uint64_t now = clock_now(io_clock(loop));
    int armed = 0;
    for (int i = 0; i < 5 * TIMERS; i++) {
        int id = (int)prng_below(&r, TIMERS);
        if (prng_chance(&r, 30)) {
            clock_disarm(io_clock(loop), &p[id].t);
            p[id].armed = false;
        } else {
            arm(&p[id], id, now + prng_below(&r, 20 * NS_PER_MS));
        }
    }
    for (int i = 0; i < TIMERS; i++) armed += p[i].armed;
    assert_true(armed > TIMERS / 3);
    run_until(loop, fired == armed);
    for (int i = 1; i < fired; i++) assert_true(p[order[i - 1]].at <= p[order[i]].at);
}

static void hold(struct timer *t)
{
    uint64_t a = clock_now(io_clock(loop));
    struct timespec ts, start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    do clock_gettime(CLOCK_MONOTONIC, &ts);
    while (ts.tv_sec == start.tv_sec && ts.tv_nsec < start.tv_nsec + 1000000);
    assert_true(clock_now(io_clock(loop)) >= a + 1000000); /* the time is not the callback's, it is now */
    *(uint64_t *)t->arg = a;
    io_loop_stop(loop);
}

static void test_now_is_constant_within_a_callback(void **state)
{
    uint64_t a = 0, b = 0;
    struct timer t1 = {.fire = hold, .arg = &a}, t2 = {.fire = hold, .arg = &b};
    clock_arm(io_clock(loop), &t1, 0);
    clock_arm(io_clock(loop), &t2, 0);
    run_until(loop, a && b);
    assert_true(b >= a + NS_PER_MS);
    assert_true(clock_wall(io_clock(loop)) > 1700000000ll * (int64_t)NS_PER_S);
}

/* A timer that always re-arms itself in the past must not keep the loop from its descriptors. */
static int spins, readable;
static void spin(struct timer *t)
{
    spins++;
    clock_arm(io_clock(loop), t, 0);
}
static void on_readable(void *arg)
{
    readable++;
    io_loop_stop(loop);
}

static void test_past_timers_do_not_starve(void **state)
{
    int fds[2];
    struct timer t = {.fire = spin};
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    io_watch_readable(loop, fds[0], on_readable, NULL);
    spins = readable = 0;
    clock_arm(io_clock(loop), &t, 0);
    run_until(loop, readable >= 3);
    assert_in_range(spins, 3, 100);
    clock_disarm(io_clock(loop), &t);
    close(fds[1]);
    close(fds[0]);
}

/* What is armed at 0 from a descriptor's callback fires before the loop looks at descriptors again. */
static int chain[4], links;
static void second(struct timer *t) { chain[links++] = 2; }
static struct timer gather = {.fire = second};
static void first(void *arg)
{
    chain[links++] = 1;
    if (links == 1) clock_arm(io_clock(loop), &gather, 0);
    if (links >= 3) io_loop_stop(loop);
}

static void test_turn_end_comes_before_the_next_poll(void **state)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], "x", 1), 1);
    links = 0;
    io_watch_readable(loop, fds[0], first, NULL);
    run_until(loop, links >= 3);
    assert_int_equal(chain[0], 1);
    assert_int_equal(chain[1], 2);
    assert_int_equal(chain[2], 1);
    close(fds[1]);
    close(fds[0]);
}

static void test_idle_loop_sleeps(void **state)
{
    struct rusage a, b;
    struct probe p = {0};
    arm(&p, 0, clock_now(io_clock(loop)) + 100 * NS_PER_MS);
    getrusage(RUSAGE_THREAD, &a);
    run_until(loop, fired == 1);
    getrusage(RUSAGE_THREAD, &b);
    assert_in_range(b.ru_nvcsw - a.ru_nvcsw, 0, 5);
    uint64_t cpu_us =
        (uint64_t)(b.ru_utime.tv_sec - a.ru_utime.tv_sec + b.ru_stime.tv_sec - a.ru_stime.tv_sec) * 1000000;
    cpu_us += (uint64_t)(b.ru_utime.tv_usec - a.ru_utime.tv_usec + b.ru_stime.tv_usec - a.ru_stime.tv_usec);
    assert_in_range(cpu_us, 0, 20000); /* nor did it spin */
}

static void test_stop_before_run(void **state)
{
    io_loop_stop(loop);
    io_loop_run(loop); /* returns at once */
}

static void test_far_deadline(void **state)
{
    struct probe never = {0}, soon = {0};
    arm(&never, 1, UINT64_MAX);
    arm(&soon, 2, clock_now(io_clock(loop)) + NS_PER_MS);
    run_until(loop, fired == 1);
    assert_int_equal(order[0], 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rearm_and_disarm, setup, teardown),
        cmocka_unit_test_setup_teardown(test_earlier_deadline_while_waiting, setup, teardown),
        cmocka_unit_test_setup_teardown(test_past_goes_behind_what_is_due, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random_timers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_now_is_constant_within_a_callback, setup, teardown),
        cmocka_unit_test_setup_teardown(test_past_timers_do_not_starve, setup, teardown),
        cmocka_unit_test_setup_teardown(test_turn_end_comes_before_the_next_poll, setup, teardown),
        cmocka_unit_test_setup_teardown(test_idle_loop_sleeps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop_before_run, setup, teardown),
        cmocka_unit_test_setup_teardown(test_far_deadline, setup, teardown),
    };
    alarm(WATCHDOG_S);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
