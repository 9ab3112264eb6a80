/* The scheduler: rules one by one, then whole jobs in a small model of workers that die, freeze, lose outputs and send
 * their messages late or twice. QFS_SEED replays one seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mr/sched.h"

#define S NS_PER_S

static const struct sched_config plain = {
    .maps = 2, .reduces = 1, .attempts = 3, .losses = 5, .silence_ns = 10 * S, .backup_ns = 0};

static struct sched *s;
static uint64_t now;

static size_t give(enum sched_event_kind kind, uint32_t worker, enum sched_phase phase, uint32_t task, uint32_t attempt)
{
    struct sched_event e = {kind, phase, worker, task, attempt};
    return sched_step(s, &e, now);
}

static void expect(size_t at, enum sched_effect_kind kind, uint32_t worker, enum sched_phase phase, uint32_t task,
                   uint32_t attempt)
{
    const struct sched_effect *e = &sched_effects(s)[at];
    assert_int_equal(e->kind, kind);
    if (kind != SCHED_FINISH) assert_int_equal(e->worker, worker);
    if (kind == SCHED_EVICT || kind == SCHED_FINISH) return;
    assert_int_equal(e->phase, phase);
    assert_int_equal(e->task, task);
    assert_int_equal(e->attempt, attempt);
}

static void begin(const struct sched_config *c)
{
    now = 1000 * S;
    s = sched_new(c, now);
}

static void happy_path(void **state)
{
    begin(&plain);
    assert_int_equal(give(SCHED_JOINED, 7, 0, 0, 0), 1);
    expect(0, SCHED_ASSIGN, 7, SCHED_MAP, 0, 0);
    assert_int_equal(give(SCHED_DONE, 7, SCHED_MAP, 0, 0), 2);
    expect(0, SCHED_COMMIT, 7, SCHED_MAP, 0, 0);
    expect(1, SCHED_ASSIGN, 7, SCHED_MAP, 1, 0);
    assert_int_equal(give(SCHED_DONE, 7, SCHED_MAP, 1, 0), 2);
    expect(1, SCHED_ASSIGN, 7, SCHED_REDUCE, 0, 0);
    assert_int_equal(give(SCHED_DONE, 7, SCHED_REDUCE, 0, 0), 2);
    expect(0, SCHED_COMMIT, 7, SCHED_REDUCE, 0, 0);
    expect(1, SCHED_FINISH, 0, 0, 0, 0);
    assert_int_equal(give(SCHED_DONE, 7, SCHED_REDUCE, 0, 0), 0);
    sched_free(s);
}

static void no_maps_at_all(void **state)
{
    struct sched_config c = plain;
    c.maps = 0;
    begin(&c);
    assert_int_equal(give(SCHED_JOINED, 1, 0, 0, 0), 1);
    expect(0, SCHED_ASSIGN, 1, SCHED_REDUCE, 0, 0);
    assert_int_equal(give(SCHED_DONE, 1, SCHED_REDUCE, 0, 0), 2);
    sched_free(s);
}

static void reduce_waits_for_the_last_map(void **state)
{
    begin(&plain);
    give(SCHED_JOINED, 1, 0, 0, 0);
    give(SCHED_JOINED, 2, 0, 0, 0);
    assert_int_equal(give(SCHED_DONE, 1, SCHED_MAP, 0, 0), 1); /* only the commit: worker 1 idles */
    assert_int_equal(sched_facts(s).busy, 1);
    assert_int_equal(give(SCHED_DONE, 2, SCHED_MAP, 1, 0), 2);
    expect(1, SCHED_ASSIGN, 1, SCHED_REDUCE, 0, 0);
    sched_free(s);
}

static void dead_worker(void **state)
{
    begin(&plain);
    give(SCHED_JOINED, 1, 0, 0, 0);
    give(SCHED_DONE, 1, SCHED_MAP, 0, 0); /* and begins map 1 */
    give(SCHED_JOINED, 2, 0, 0, 0);
    assert_int_equal(give(SCHED_LEFT, 1, 0, 0, 0), 2);
    expect(0, SCHED_REVOKE, 1, SCHED_MAP, 0, 0);
    expect(1, SCHED_ASSIGN, 2, SCHED_MAP, 0, 1);
    assert_int_equal(give(SCHED_DONE, 2, SCHED_MAP, 0, 0), 0); /* the old attempt's number: dropped */
    assert_int_equal(give(SCHED_DONE, 1, SCHED_MAP, 1, 0), 0); /* the dead worker's: dropped */
    assert_int_equal(sched_facts(s).dropped, 2);
    assert_int_equal(give(SCHED_DONE, 2, SCHED_MAP, 0, 1), 2);
    expect(1, SCHED_ASSIGN, 2, SCHED_MAP, 1, 1);
    assert_int_equal(give(SCHED_LEFT, 1, 0, 0, 0), 0);
    sched_free(s);
}

static void outputs_do_not_matter_after_the_last_reduce(void **state)
{
    begin(&plain);
    give(SCHED_JOINED, 1, 0, 0, 0);
    give(SCHED_DONE, 1, SCHED_MAP, 0, 0);
    give(SCHED_DONE, 1, SCHED_MAP, 1, 0);
    assert_int_equal(give(SCHED_DONE, 1, SCHED_REDUCE, 0, 0), 2);
    assert_true(sched_facts(s).over);
    assert_int_equal(give(SCHED_LEFT, 1, 0, 0, 0), 0);
    sched_free(s);
}

static void lost_output(void **state)
{
    begin(&plain);
    give(SCHED_JOINED, 1, 0, 0, 0);
    give(SCHED_DONE, 1, SCHED_MAP, 0, 0);
    give(SCHED_DONE, 1, SCHED_MAP, 1, 0);              /* and begins reduce 0 */
    assert_int_equal(give(SCHED_LOST, 0, 0, 1, 5), 0); /* not the attempt that counts */
    assert_int_equal(give(SCHED_LOST, 0, 0, 9, 0), 0); /* no such task */
    assert_int_equal(give(SCHED_LOST, 0, 0, 1, 0), 1);
    expect(0, SCHED_REVOKE, 1, SCHED_MAP, 1, 0);
    assert_int_equal(give(SCHED_STARVED, 1, SCHED_REDUCE, 0, 0), 1);
    expect(0, SCHED_ASSIGN, 1, SCHED_MAP, 1, 1);
    assert_int_equal(give(SCHED_DONE, 1, SCHED_MAP, 1, 1), 2);
    expect(1, SCHED_ASSIGN, 1, SCHED_REDUCE, 0, 1);
    sched_free(s);
}

static void gives_up_after_failures(void **state)
{
    begin(&plain);
    give(SCHED_JOINED, 1, 0, 0, 0);
    for (uint32_t i = 0; i < 2; i++) {
        assert_int_equal(give(SCHED_FAILED, 1, SCHED_MAP, 0, i), 1);
        expect(0, SCHED_ASSIGN, 1, SCHED_MAP, 0, i + 1);
    }
    assert_int_equal(give(SCHED_FAILED, 1, SCHED_MAP, 0, 2), 1);
    expect(0, SCHED_GIVE_UP, 1, SCHED_MAP, 0, 2);
    assert_true(sched_facts(s).over);
    assert_int_equal(give(SCHED_JOINED, 2, 0, 0, 0), 0);
    assert_true(sched_deadline(s) == UINT64_MAX);
    sched_free(s);
}

static void losses_are_no_failures_but_end_too(void **state)
{
    uint32_t id = 0;
    begin(&plain);
    for (uint32_t i = 0; i < plain.losses; i++) {
        give(SCHED_JOINED, ++id, 0, 0, 0);
        expect(0, SCHED_ASSIGN, id, SCHED_MAP, 0, i);
        give(SCHED_LEFT, id, 0, 0, 0);
        assert_int_equal(sched_facts(s).over, i + 1 == plain.losses);
    }
    sched_free(s);
}

static void silent_worker(void **state)
{
    begin(&plain);
    give(SCHED_JOINED, 1, 0, 0, 0);
    give(SCHED_JOINED, 2, 0, 0, 0);
    for (int i = 0; i < 9; i++) {
        now += S;
        assert_int_equal(give(SCHED_HEARD, 2, 0, 0, 0), 0);
    }
    assert_true(sched_deadline(s) <= now + S);
    now += S;
    assert_int_equal(give(SCHED_TICK, 0, 0, 0, 0), 1);
    expect(0, SCHED_EVICT, 1, 0, 0, 0);
    assert_int_equal(sched_facts(s).workers, 1);
    assert_int_equal(give(SCHED_DONE, 1, SCHED_MAP, 0, 0), 0); /* it has woken up: too late */
    assert_int_equal(give(SCHED_DONE, 2, SCHED_MAP, 1, 0), 2);
    expect(1, SCHED_ASSIGN, 2, SCHED_MAP, 0, 1);
    sched_free(s);
}

static void own_sleep_is_nobodys_silence(void **state)
{
    begin(&plain);
    give(SCHED_JOINED, 1, 0, 0, 0);
    now += 3600 * S;
    assert_int_equal(give(SCHED_TICK, 0, 0, 0, 0), 0);
    assert_int_equal(sched_facts(s).workers, 1);
    for (int i = 0; i < 9; i++) {
        now += S;
        assert_int_equal(give(SCHED_TICK, 0, 0, 0, 0), 0);
    }
    now += S;
    assert_int_equal(give(SCHED_TICK, 0, 0, 0, 0), 1);
    expect(0, SCHED_EVICT, 1, 0, 0, 0);
    sched_free(s);
}

static void beat_for(uint32_t seconds)
{
    for (uint32_t i = 0; i < seconds; i++) {
        now += S;
        give(SCHED_HEARD, 1, 0, 0, 0);
        give(SCHED_HEARD, 2, 0, 0, 0);
    }
}

static void backup_attempt(void **state)
{
    struct sched_config c = plain;
    c.backup_ns = 20 * S;
    begin(&c);
    give(SCHED_JOINED, 1, 0, 0, 0);
    give(SCHED_JOINED, 2, 0, 0, 0);
    beat_for(10);
    assert_int_equal(give(SCHED_DONE, 1, SCHED_MAP, 0, 0), 1); /* map tasks take 10 s, usually */
    beat_for(19);
    assert_int_equal(sched_facts(s).backups, 0);
    now += S;
    assert_int_equal(give(SCHED_HEARD, 1, 0, 0, 0), 1); /* 30 s: thrice the mean */
    expect(0, SCHED_ASSIGN, 1, SCHED_MAP, 1, 1);
    beat_for(100); /* never a third */
    assert_int_equal(sched_facts(s).backups, 1);
    assert_int_equal(give(SCHED_DONE, 1, SCHED_MAP, 1, 1), 3);
    expect(0, SCHED_COMMIT, 1, SCHED_MAP, 1, 1);
    expect(1, SCHED_CANCEL, 2, SCHED_MAP, 1, 0);
    expect(2, SCHED_ASSIGN, 1, SCHED_REDUCE, 0, 0);
    sched_free(s);
}

static void one_of_two_attempts_fails(void **state)
{
    struct sched_config c = plain;
    c.backup_ns = S;
    c.attempts = 1;
    begin(&c);
    give(SCHED_JOINED, 1, 0, 0, 0);
    give(SCHED_JOINED, 2, 0, 0, 0);
    give(SCHED_DONE, 1, SCHED_MAP, 0, 0);
    beat_for(2);
    assert_int_equal(sched_facts(s).backups, 1);
    assert_int_equal(give(SCHED_FAILED, 2, SCHED_MAP, 1, 0), 0); /* the other one may still do it */
    assert_false(sched_facts(s).over);
    assert_int_equal(give(SCHED_DONE, 1, SCHED_MAP, 1, 1), 2);
    sched_free(s);
}

/* ---- the model ---- */

#define WORKERS 8
#define MAPS    12
#define REDUCES 5
#define LETTERS 400

struct letter { /* a message on its way to the scheduler */
    uint64_t at;
    struct sched_event e;
};

struct model_worker {
    uint32_t id; /* 0: no worker */
    bool busy, frozen, evicted;
    struct sched_effect job;
    uint64_t ends;
    bool lacks_input; /* of the reduce attempt: found when it began */
    uint32_t lost_map, lost_attempt;
};

struct model {
    struct prng r;
    struct model_worker w[WORKERS];
    uint32_t next_id;
    struct letter letters[LETTERS];
    size_t letters_n;
    /* what the driver knows */
    uint32_t held_by[MAPS], held_attempt[MAPS];
    bool held[MAPS], reduced[REDUCES];
    uint32_t commits[REDUCES];
    /* the truth: outputs that can be read */
    bool exists[MAPS][200];
    uint32_t exists_at[MAPS][200];
    bool finished, gave_up, calm;
    uint32_t failures[2][MAPS + REDUCES];
};

static struct model_worker *worker_of(struct model *m, uint32_t id)
{
    for (int i = 0; i < WORKERS; i++)
        if (m->w[i].id == id) return &m->w[i];
    return NULL;
}

static void post(struct model *m, struct sched_event e)
{
    int copies = prng_chance(&m->r, 10) ? 2 : 1;
    /* A dead worker's letters come all the same; only its own order with LEFT is free, too. */
    for (int i = 0; i < copies; i++) {
        assert_true(m->letters_n < LETTERS);
        m->letters[m->letters_n++] = (struct letter){now + prng_below(&m->r, i ? 30 * S : S / 10), e};
    }
}

static void destroy_outputs(struct model *m, uint32_t id)
{
    for (int i = 0; i < MAPS; i++)
        for (int a = 0; a < 200; a++)
            if (m->exists[i][a] && m->exists_at[i][a] == id) m->exists[i][a] = false;
}

static void start_task(struct model *m, const struct sched_effect *e)
{
    struct model_worker *w = worker_of(m, e->worker);
    if (!w) return;                      /* it died, the scheduler will hear of it */
    assert_false(w->busy && !w->frozen); /* at most one task a worker */
    assert_false(w->evicted);
    w->busy = true;
    w->job = *e;
    w->lacks_input = false;
    w->ends = now + 1 + prng_below(&m->r, prng_chance(&m->r, 5) ? 60 * S : 3 * S);
    if (e->phase == SCHED_MAP) return;
    for (uint32_t i = 0; i < MAPS; i++) {
        assert_true(m->held[i]); /* every map task is done when a reduce begins */
        if (m->exists[i][m->held_attempt[i]]) continue;
        w->lacks_input = true;
        w->lost_map = i;
        w->lost_attempt = m->held_attempt[i];
    }
}

static void carry_out(struct model *m, const struct sched_effect *e, const struct sched_event *cause)
{
    struct model_worker *w;
    assert_false(m->finished || m->gave_up);
    switch (e->kind) {
    case SCHED_ASSIGN:
        start_task(m, e);
        break;
    case SCHED_CANCEL:
        w = worker_of(m, e->worker);
        if (w && w->busy && w->job.phase == e->phase && w->job.task == e->task && w->job.attempt == e->attempt)
            w->busy = false;
        break;
    case SCHED_EVICT:
        w = worker_of(m, e->worker);
        if (w) {
            w->evicted = true;
            post(m, (struct sched_event){.kind = SCHED_LEFT, .worker = w->id});
        }
        break;
    case SCHED_COMMIT:
        assert_int_equal(cause->kind, SCHED_DONE);
        assert_true(cause->worker == e->worker && cause->task == e->task && cause->attempt == e->attempt);
        if (e->phase == SCHED_MAP) {
            assert_false(m->held[e->task]);
            m->held[e->task] = true;
            m->held_by[e->task] = e->worker;
            m->held_attempt[e->task] = e->attempt;
        } else {
            assert_int_equal(m->commits[e->task]++, 0);
        }
        break;
    case SCHED_REVOKE:
        assert_true(m->held[e->task]);
        m->held[e->task] = false;
        break;
    case SCHED_FINISH:
        m->finished = true;
        break;
    case SCHED_GIVE_UP:
        m->gave_up = true;
        break;
    }
}

static void feed(struct model *m, struct sched_event e)
{
    size_t n = sched_step(s, &e, now);
    struct sched_effect v[256];
    assert_true(n <= 256);
    if (n) memcpy(v, sched_effects(s), n * sizeof *v);
    for (size_t i = 0; i < n; i++) carry_out(m, &v[i], &e);
}

static void finish_task(struct model *m, struct model_worker *w)
{
    struct sched_event e = {.worker = w->id, .phase = w->job.phase, .task = w->job.task, .attempt = w->job.attempt};
    bool fails = !m->calm && prng_chance(&m->r, 3) && m->failures[e.phase][e.task] < 2;

    w->busy = false;
    if (w->lacks_input) {
        post(m, (struct sched_event){.kind = SCHED_LOST, .task = w->lost_map, .attempt = w->lost_attempt});
        e.kind = SCHED_STARVED;
    } else if (fails) {
        m->failures[e.phase][e.task]++;
        e.kind = SCHED_FAILED;
    } else {
        e.kind = SCHED_DONE;
        if (e.phase == SCHED_MAP) {
            assert_true(e.attempt < 200);
            m->exists[e.task][e.attempt] = true;
            m->exists_at[e.task][e.attempt] = w->id;
        }
    }
    post(m, e);
}

static void mishap(struct model *m)
{
    struct model_worker *w = &m->w[prng_below(&m->r, WORKERS)];
    switch (prng_below(&m->r, 6)) {
    case 0:
    case 1: /* a new worker */
        if (w->id) return;
        *w = (struct model_worker){.id = ++m->next_id};
        feed(m, (struct sched_event){.kind = SCHED_JOINED, .worker = w->id});
        break;
    case 2: /* death */
        if (!w->id) return;
        destroy_outputs(m, w->id);
        post(m, (struct sched_event){.kind = SCHED_LEFT, .worker = w->id});
        *w = (struct model_worker){0};
        break;
    case 3:
        w->frozen = w->id && prng_chance(&m->r, 30);
        break;
    case 4: { /* somebody deletes a file */
        uint32_t i = (uint32_t)prng_below(&m->r, MAPS);
        if (m->held[i] && prng_chance(&m->r, 20)) m->exists[i][m->held_attempt[i]] = false;
        break;
    }
    default:
        feed(m, (struct sched_event){.kind = (enum sched_event_kind)prng_below(&m->r, SCHED_TICK + 1) == SCHED_JOINED
                                                 ? SCHED_TICK
                                                 : SCHED_LOST,
                                     .task = (uint32_t)prng_below(&m->r, MAPS + 2),
                                     .attempt = 10000});
    }
}

static void deliver(struct model *m)
{
    for (size_t i = 0; i < m->letters_n && !m->finished && !m->gave_up;) {
        if (m->letters[i].at > now) {
            i++;
            continue;
        }
        struct sched_event e = m->letters[i].e;
        m->letters[i] = m->letters[--m->letters_n];
        struct model_worker *w = worker_of(m, e.worker);
        if (e.kind == SCHED_LEFT && w && w->evicted) *w = (struct model_worker){0};
        feed(m, e);
        i = 0;
    }
}

static void turn(struct model *m)
{
    now += prng_below(&m->r, 300 * NS_PER_MS);
    if (!m->calm && prng_chance(&m->r, 15)) mishap(m);
    if (!m->calm && prng_chance(&m->r, 1)) now += 100 * S; /* the driver was frozen */
    deliver(m);
    for (int i = 0; i < WORKERS && !m->finished && !m->gave_up; i++) {
        struct model_worker *w = &m->w[i];
        if (!w->id || w->frozen || w->evicted) continue;
        if (w->busy && now >= w->ends) finish_task(m, w);
        feed(m, (struct sched_event){.kind = SCHED_HEARD, .worker = w->id});
    }
    if (!m->finished && !m->gave_up) feed(m, (struct sched_event){.kind = SCHED_TICK});
}

/* From here on nothing goes wrong: the job must end, and well. */
static void calm_down(struct model *m)
{
    m->calm = true;
    for (int i = 0; i < WORKERS; i++) m->w[i].frozen = false;
    for (int i = 0; i < WORKERS; i++) {
        struct model_worker *w = &m->w[i];
        if (w->id) continue;
        *w = (struct model_worker){.id = ++m->next_id};
        feed(m, (struct sched_event){.kind = SCHED_JOINED, .worker = w->id});
        return;
    }
}

static void run_seed(uint64_t seed)
{
    struct sched_config c = {
        .maps = MAPS, .reduces = REDUCES, .attempts = 3, .losses = 1000, .silence_ns = 10 * S, .backup_ns = 15 * S};
    struct model m = {0};
    uint32_t turns = 0;

    prng_seed(&m.r, seed);
    begin(&c);
    while (!m.finished && turns++ < 1500) turn(&m);
    if (!m.finished) calm_down(&m);
    while (!m.finished && turns++ < 20000) turn(&m);
    if (!m.finished || m.gave_up) {
        fprintf(stderr, "QFS_SEED=%llu\n", (unsigned long long)seed);
        assert_false(m.gave_up);
        assert_true(m.finished);
    }
    for (int i = 0; i < REDUCES; i++) assert_int_equal(m.commits[i], 1);
    assert_int_equal(sched_facts(s).reduces_done, REDUCES);
    sched_free(s);
}

static void random_jobs(void **state)
{
    const char *seed = getenv("QFS_SEED");
    if (seed) {
        run_seed(strtoull(seed, NULL, 10));
        return;
    }
    for (uint64_t i = 1; i <= 3000; i++) run_seed(i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(happy_path),
        cmocka_unit_test(no_maps_at_all),
        cmocka_unit_test(reduce_waits_for_the_last_map),
        cmocka_unit_test(dead_worker),
        cmocka_unit_test(outputs_do_not_matter_after_the_last_reduce),
        cmocka_unit_test(lost_output),
        cmocka_unit_test(gives_up_after_failures),
        cmocka_unit_test(losses_are_no_failures_but_end_too),
        cmocka_unit_test(silent_worker),
        cmocka_unit_test(own_sleep_is_nobodys_silence),
        cmocka_unit_test(backup_attempt),
        cmocka_unit_test(one_of_two_attempts_fails),
        cmocka_unit_test(random_jobs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
