/* The simulated network: what connections promise, how they break, and a random mix under all kinds of weather. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/net.h"

static struct sim_world *w;
static struct sim_net *net;

struct end {
    struct conn *c;
    int opens, frames, drains, closes, err;
    uint32_t next; /* number expected next */
    int disorder, missing;
    bool echo, pause_in_frame, close_in_frame;
};

static void begin(struct sim_net_config config)
{
    w = sim_world_new(config.seed);
    net = sim_net_new(w, &config);
}

static int setup(void **state)
{
    begin((struct sim_net_config){.seed = 5});
    return 0;
}

static int teardown(void **state)
{
    sim_net_free(net);
    sim_world_free(w);
    return 0;
}

static void again(struct sim_net_config config)
{
    teardown(NULL);
    begin(config);
}

static void on_open(struct conn *c) { ((struct end *)c->arg)->opens++; }

static void on_frame(struct conn *c, uint8_t type, struct slice p)
{
    struct end *e = c->arg;
    assert_int_equal(e->closes, 0);
    e->frames++;
    if (p.n >= 4) {
        uint32_t k = load_u32(p.p);
        if (k < e->next) e->disorder++;
        if (k > e->next) e->missing += (int)(k - e->next);
        if (k >= e->next) e->next = k + 1;
    }
    if (e->echo) conn_send(c, type, &p, 1);
    if (e->pause_in_frame) conn_pause(c, true);
    if (e->close_in_frame) conn_close(c);
}

static void on_drained(struct conn *c) { ((struct end *)c->arg)->drains++; }

static void on_closed(struct conn *c, int err)
{
    struct end *e = c->arg;
    e->closes++;
    e->err = err;
    e->c = NULL;
}

static const struct conn_cb cb = {.open = on_open, .frame = on_frame, .drained = on_drained, .closed = on_closed};

static void on_accept(void *arg, struct conn *c)
{
    struct end *e = arg;
    assert_null(e->c);
    c->cb = &cb;
    c->arg = e;
    e->c = c;
}

static void dial(struct end *e, unsigned proc, const char *addr)
{
    e->c = net_dial(sim_net_door(net, proc), addr, &cb, e);
}

/* a in process 0 has dialled b in process 1. */
static void join(struct end *a, struct end *b)
{
    assert_int_equal(net_listen(sim_net_door(net, 1), "one:1", on_accept, b), 0);
    dial(a, 0, "one:1");
    assert_int_equal(a->opens, 0);
    sim_run_until(w, sim_now(w) + 10 * NS_PER_MS);
    assert_int_equal(a->opens, 1);
    assert_non_null(b->c);
}

static int send_number(struct end *e, uint32_t k, size_t n)
{
    uint8_t *p = calloc(1, n);
    store_u32(p, k);
    struct slice s = slice_of(p, n);
    int r = conn_send(e->c, 1, &s, 1);
    free(p);
    return r;
}

static void run_ms(uint64_t ms) { sim_run_until(w, sim_now(w) + ms * NS_PER_MS); }

static void test_frames_and_close(void **state)
{
    struct end a = {0}, b = {.echo = true};
    join(&a, &b);
    for (uint32_t i = 0; i < 1000; i++) assert_int_equal(send_number(&a, i, 4 + i), 0);
    assert_int_equal(b.frames, 0);
    run_ms(100);
    assert_int_equal(a.frames, 1000);
    assert_int_equal(a.disorder + a.missing + b.disorder + b.missing, 0);
    struct slice big = slice_of(calloc(1, FRAME_PAYLOAD_MAX), FRAME_PAYLOAD_MAX), v[2] = {big, slice_str("x")};
    assert_int_equal(conn_send(a.c, 1, v, 2), -EMSGSIZE);
    b.echo = false;
    assert_int_equal(conn_send(a.c, 1, v, 1), 0);
    conn_close(a.c);
    conn_close(a.c);
    assert_int_equal(send_number(&a, 0, 4), -ENOTCONN);
    assert_int_equal(a.closes, 0);
    run_ms(100);
    assert_int_equal(a.closes, 1);
    assert_int_equal(a.err, 0);
    assert_int_equal(b.frames, 1001); /* sent before the close: arrives */
    assert_int_equal(b.closes, 1);
    assert_int_equal(b.err, -ECONNRESET);
    free((void *)(uintptr_t)big.p);
}

static void test_addresses(void **state)
{
    struct end a = {0}, b = {0}, c = {0};
    assert_int_equal(net_listen(sim_net_door(net, 1), "nonsense", on_accept, &b), -EINVAL);
    dial(&a, 0, "nonsense");
    dial(&c, 0, "one:1");
    assert_int_equal(a.closes + c.closes, 0);
    run_ms(10);
    assert_int_equal(a.err, -EINVAL);
    assert_int_equal(c.err, -ECONNREFUSED);
    assert_int_equal(a.closes + c.closes, 2);
    memset(&a, 0, sizeof(a));
    join(&a, &b);
    assert_int_equal(net_listen(sim_net_door(net, 2), "one:1", on_accept, &b), -EADDRINUSE);
}

static void test_close_and_pause_in_frame(void **state)
{
    struct end a = {0}, b = {.pause_in_frame = true};
    join(&a, &b);
    for (uint32_t i = 0; i < 20; i++) send_number(&a, i, 10);
    for (int i = 1; i <= 10; i++) {
        run_ms(10);
        assert_int_equal(b.frames, i);
        conn_pause(b.c, false);
    }
    b.close_in_frame = true;
    run_ms(10);
    assert_int_equal(b.frames, 11);
    assert_int_equal(b.closes + a.closes, 2);
    assert_int_equal(b.err, 0);
}

static void test_back_pressure(void **state)
{
    struct end a = {0}, b = {0};
    again((struct sim_net_config){.seed = 6, .queue_max = 100000, .queue_low = 20000, .kernel_bytes = 30000});
    join(&a, &b);
    conn_pause(b.c, true);
    uint32_t sent = 0;
    while (send_number(&a, sent, 1000) == 0) sent++;
    assert_in_range(sent, 120, 130);
    assert_in_range(conn_queued(a.c), 98000, 100000);
    run_ms(1000);
    assert_int_equal(a.drains + b.frames, 0);
    conn_pause(b.c, false);
    run_ms(100);
    assert_int_equal(b.frames, sent);
    assert_int_equal(a.drains, 1);
    assert_int_equal(conn_queued(a.c), 0);
}

static void test_bandwidth(void **state)
{
    struct end a = {0}, b = {0};
    again((struct sim_net_config){.seed = 6, .bytes_per_s = 10000000});
    join(&a, &b);
    for (uint32_t i = 0; i < 100; i++) send_number(&a, i, 100000); /* a second's worth */
    run_ms(500);
    assert_in_range(b.frames, 45, 55);
    run_ms(510);
    assert_int_equal(b.frames, 100);
}

static void test_partition_that_heals(void **state)
{
    struct end a = {0}, b = {0};
    join(&a, &b);
    sim_cut(net, 0, 1, true);
    for (uint32_t i = 0; i < 10; i++) send_number(&a, i, 10);
    for (uint32_t i = 0; i < 10; i++) send_number(&b, i, 10); /* the other direction works */
    run_ms(3000);
    assert_int_equal(a.frames, 10);
    assert_int_equal(b.frames, 0);
    sim_heal(net);
    run_ms(1000);
    assert_int_equal(b.frames, 10);
    assert_int_equal(b.disorder + b.missing, 0);
    run_ms(60000);
    assert_int_equal(a.closes + b.closes, 0);
}

static void test_partition_that_stays(void **state)
{
    static const uint8_t side[2] = {0, 1};
    for (int waiting = 0; waiting < 2; waiting++) {
        struct end a = {0}, b = {0}, c = {0};
        again((struct sim_net_config){.seed = 7});
        join(&a, &b);
        sim_partition(net, side, 2);
        if (waiting) send_number(&a, 0, 10);
        dial(&c, 0, "one:1");
        run_ms(4900);
        assert_int_equal(a.closes + b.closes + c.closes, 0);
        run_ms(200);
        assert_int_equal(c.err, -ETIMEDOUT);
        assert_int_equal(a.closes, waiting); /* it waited for an answer */
        assert_int_equal(b.closes, 0);
        run_ms(5000);
        assert_int_equal(a.err, -ETIMEDOUT);
        assert_int_equal(b.err, -ETIMEDOUT);
        assert_int_equal(a.closes + b.closes, 2);
    }
}

/* One side has given up, the other has not: it hears of it when they meet again. */
static void test_half_open(void **state)
{
    struct end a = {0}, b = {0};
    join(&a, &b);
    sim_cut(net, 0, 1, true);
    send_number(&a, 0, 10);
    run_ms(6000);
    assert_int_equal(a.closes, 1);
    assert_int_equal(b.closes, 0);
    sim_heal(net);
    run_ms(200);
    assert_int_equal(b.err, -ECONNRESET);
    assert_int_equal(b.frames, 0);
}

static void test_kill(void **state)
{
    struct end a = {0}, b = {0}, c = {0};
    join(&a, &b);
    sim_kill(w, 1);
    assert_int_equal(send_number(&b, 0, 4), -ENOTCONN); /* what is left of it may still call */
    conn_pause(b.c, true);
    conn_close(b.c);
    assert_int_equal(net_listen(sim_net_door(net, 1), "one:1", on_accept, &b), -EADDRNOTAVAIL);
    run_ms(10);
    assert_int_equal(a.err, -ECONNRESET);
    assert_int_equal(b.closes, 0); /* and hears nothing more */
    dial(&c, 0, "one:1");
    run_ms(10);
    assert_int_equal(c.err, -ECONNREFUSED);
    sim_start(w, 1);
    memset(&a, 0, sizeof(a));
    memset(&b, 0, sizeof(b));
    join(&a, &b);
}

static void test_power_off(void **state)
{
    struct end a = {0}, b = {0}, c = {0};
    join(&a, &b);
    sim_power_off(w, 1);
    dial(&c, 0, "one:1");
    run_ms(4000);
    assert_int_equal(a.closes + c.closes, 0); /* silence */
    sim_start(w, 1);
    run_ms(1000);
    assert_int_equal(a.err, -ECONNRESET); /* its machine knows nothing of the connection */
    assert_int_equal(c.err, -ECONNREFUSED);
    memset(&a, 0, sizeof(a));
    memset(&b, 0, sizeof(b));
    join(&a, &b);
    sim_power_off(w, 1);
    run_ms(11000);
    assert_int_equal(a.err, -ETIMEDOUT);
}

static void test_paused_process(void **state)
{
    struct end a = {0}, b = {0}, c = {0}, d = {0};
    join(&a, &b);
    assert_int_equal(net_listen(sim_net_door(net, 1), "one:2", on_accept, &d), 0);
    sim_pause(w, 1, true);
    for (uint32_t i = 0; i < 10; i++) send_number(&a, i, 10);
    dial(&c, 0, "one:2");
    run_ms(60000);
    assert_int_equal(a.closes, 0); /* its kernel answers for it */
    assert_int_equal(c.opens, 1);
    assert_null(d.c);
    assert_int_equal(b.frames, 0);
    sim_pause(w, 1, false);
    run_ms(100);
    assert_int_equal(b.frames, 10);
    assert_non_null(d.c);
}

static void test_reset(void **state)
{
    struct end a = {0}, b = {0};
    join(&a, &b);
    send_number(&a, 0, 10);
    sim_reset(net, 0, 1);
    run_ms(10);
    assert_int_equal(a.err, -ECONNRESET);
    assert_int_equal(b.err, -ECONNRESET);
    assert_int_equal(a.closes + b.closes, 2);
}

static void test_lossy_types(void **state)
{
    struct end a = {0}, b = {0};
    struct sim_net_stats s;
    again((struct sim_net_config){
        .seed = 8, .lossy_first = 1, .lossy_last = 1, .loss_percent = 10, .double_percent = 10, .reorder_percent = 10});
    join(&a, &b);
    for (uint32_t i = 0; i < 2000; i++) send_number(&a, i, 8);
    run_ms(100);
    sim_net_stats(net, &s);
    assert_in_range(s.lost, 100, 300);
    assert_in_range(s.doubled, 100, 300);
    assert_in_range(s.reordered, 100, 300);
    assert_int_equal(b.frames, 2000 - (int)s.lost + (int)s.doubled);
    assert_true(b.disorder > 100 && b.missing > 100);
    sim_net_config(net)->lossy_first = 2; /* type 1 is spared */
    sim_net_config(net)->lossy_last = 9;
    a = b = (struct end){.c = NULL};
    again((struct sim_net_config){.seed = 8, .lossy_first = 2, .lossy_last = 9, .loss_percent = 50});
    join(&a, &b);
    for (uint32_t i = 0; i < 1000; i++) send_number(&a, i, 8);
    run_ms(100);
    assert_int_equal(b.frames, 1000);
    assert_int_equal(b.disorder + b.missing, 0);
}

/* ---- a random mix
 * ---------------------------------------------------------------------------------------------------- */

/* Processes dial each other, send numbered frames, pause, close, die, lose power, are cut off. A connection delivers a
 * prefix of what was sent, in order; all of it where nothing broke it; each end hears closed() exactly once unless its
 * process died. */
enum { PROCS = 5, ENDS = 400 };

struct mix {
    struct conn *c;
    unsigned proc, life; /* in which life of the process */
    uint32_t sent, got, id, from;
    bool greeted, closed;
};
static struct mix ends[ENDS];
static unsigned nends, ndials, lives[PROCS];
static struct prng rnd;
static uint64_t delivered;

static struct mix *mix_new(unsigned proc)
{
    check(nends < ENDS);
    struct mix *m = &ends[nends];
    *m = (struct mix){.proc = proc, .life = lives[proc], .id = nends++};
    return m;
}

static bool alive(const struct mix *m) { return m->c && m->life == lives[m->proc] && sim_alive(w, m->proc); }

static void mix_send(struct mix *m)
{
    uint8_t p[64] = {0};
    store_u32(p, m->id);
    store_u32(p + 4, m->sent);
    struct slice s = slice_of(p, 8 + prng_below(&rnd, 50));
    if (conn_send(m->c, 1, &s, 1) == 0) m->sent++;
}

static void mix_frame(struct conn *c, uint8_t type, struct slice p)
{
    struct mix *m = c->arg;
    assert_true(alive(m) && sim_runs(w, m->proc) && !m->closed);
    if (!m->greeted) m->from = load_u32(p.p);
    m->greeted = true;
    assert_int_equal(load_u32(p.p), m->from);
    assert_int_equal(load_u32(p.p + 4), m->got++);
    assert_true(m->got <= ends[m->from].sent);
    delivered++;
    if (prng_chance(&rnd, 20)) mix_send(m);
}

static void mix_closed(struct conn *c, int err)
{
    struct mix *m = c->arg;
    assert_true(alive(m) && !m->closed);
    m->closed = true;
    m->c = NULL;
}
static void mix_open(struct conn *c) { mix_send(c->arg); }
static const struct conn_cb mix_cb = {.open = mix_open, .frame = mix_frame, .closed = mix_closed};

static void mix_accept(void *arg, struct conn *c)
{
    struct mix *m = mix_new((unsigned)(uintptr_t)arg);
    assert_true(sim_runs(w, m->proc));
    c->cb = &mix_cb;
    c->arg = m;
    m->c = c;
}

static void mix_listen(unsigned proc)
{
    char addr[20];
    snprintf(addr, sizeof(addr), "p:%u", proc);
    assert_int_equal(net_listen(sim_net_door(net, proc), addr, mix_accept, (void *)(uintptr_t)proc), 0);
}

static void mix_act(void)
{
    unsigned p = (unsigned)prng_below(&rnd, PROCS), q = (unsigned)prng_below(&rnd, PROCS);
    struct mix *m = nends ? &ends[prng_below(&rnd, nends)] : NULL;
    char addr[20];
    uint64_t what = prng_below(&rnd, 200);
    if (what < 6 && ndials < ENDS / 2 && sim_alive(w, p)) {
        ndials++;
        struct mix *d = mix_new(p);
        snprintf(addr, sizeof(addr), "p:%u", q);
        d->c = net_dial(sim_net_door(net, p), addr, &mix_cb, d);
    } else if (what < 7) {
        sim_cut(net, p, q, prng_chance(&rnd, 60));
    } else if (what < 8) {
        sim_pause(w, p, prng_chance(&rnd, 50));
    } else if (what < 9) {
        if (!sim_alive(w, p)) {
            lives[p]++;
            sim_start(w, p);
            mix_listen(p);
        } else if (prng_chance(&rnd, 20)) {
            if (prng_chance(&rnd, 50))
                sim_kill(w, p);
            else
                sim_power_off(w, p);
        }
    } else if (what < 10) {
        sim_heal(net);
    } else if (what < 11) {
        sim_reset(net, p, q);
    } else if (m && alive(m) && sim_runs(w, m->proc)) {
        if (what < 13)
            conn_close(m->c);
        else if (what < 20)
            conn_pause(m->c, prng_chance(&rnd, 50));
        else
            for (uint64_t n = prng_below(&rnd, 8); n; n--) mix_send(m);
    }
}

static void settle(void)
{
    sim_heal(net);
    for (unsigned i = 0; i < PROCS; i++) {
        if (!sim_alive(w, i)) {
            lives[i]++;
            sim_start(w, i);
        }
        sim_pause(w, i, false);
    }
    for (unsigned i = 0; i < nends; i++) {
        if (alive(&ends[i])) conn_pause(ends[i].c, false);
    }
    run_ms(30000);
}

static uint64_t random_run(uint64_t seed)
{
    again((struct sim_net_config){.seed = seed, .reset_ppm = 200, .slow_percent = 3});
    prng_seed(&rnd, seed);
    memset(lives, 0, sizeof(lives));
    nends = ndials = 0;
    for (unsigned i = 0; i < PROCS; i++) mix_listen(i);
    for (int i = 0; i < 8000; i++) {
        mix_act();
        run_ms(prng_below(&rnd, 3));
        if (prng_below(&rnd, 500) == 0) run_ms(7000);
    }
    settle();
    for (unsigned i = 0; i < nends; i++) {
        struct mix *m = &ends[i];
        if (alive(m) && m->greeted && alive(&ends[m->from])) assert_int_equal(m->got, ends[m->from].sent);
        if (alive(m) && m->greeted) assert_true(alive(&ends[m->from])); /* no half-open connection is left */
        if (m->life == lives[m->proc]) assert_true(m->closed == (m->c == NULL));
    }
    for (unsigned i = 0; i < nends; i++) {
        if (alive(&ends[i])) conn_close(ends[i].c);
    }
    run_ms(1000);
    for (unsigned i = 0; i < nends; i++) assert_true(!alive(&ends[i]));
    struct sim_net_stats s;
    sim_net_stats(net, &s);
    assert_int_equal(s.connections, 0);
    return sim_digest(w);
}

static void test_random_mix(void **state)
{
    uint64_t last = 0;
    delivered = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        uint64_t d = random_run(seed);
        assert_true(d != last);
        if (seed % 8 == 0) assert_true(d == random_run(seed));
        last = d;
    }
    assert_true(delivered > 100000);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_frames_and_close),
        T(test_addresses),
        T(test_close_and_pause_in_frame),
        T(test_back_pressure),
        T(test_bandwidth),
        T(test_partition_that_heals),
        T(test_partition_that_stays),
        T(test_half_open),
        T(test_kill),
        T(test_power_off),
        T(test_paused_process),
        T(test_reset),
        T(test_lossy_types),
        T(test_random_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
