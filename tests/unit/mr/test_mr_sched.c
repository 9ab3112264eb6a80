/* The scheduler: rules one by one, then whole jobs in a small model of workers that die, freeze, lose outputs and send
 * their messages late or twice, whose outputs others of their machine take over, and of coordinators that crash with
 * part of their journal unwritten, or freeze and wake up when another one has the job. Every third job is one in which
 * nothing happens but that processes die: no finished map task may run again. QFS_SEED replays one seed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mr/face.h"
#include "mr/sched.h"

#define S NS_PER_S

static const struct sched_config plain = {
    .maps = 2, .reduces = 1, .attempts = 3, .losses = 5, .silence_ns = 10 * S, .backup_ns = 0};

static struct sched *s;
static uint64_t now;

static size_t give(enum sched_event_kind kind, uint32_t worker, enum sched_phase phase, uint32_t task, uint32_t attempt)
{
    struct sched_event e = {.kind = kind, .phase = phase, .worker = worker, .task = task, .attempt = attempt};
    return sched_step(s, &e, now);
}

/* Attempt `attempt` of reduce 0 cannot read, or not reach, a map output. */
static size_t complain(enum sched_event_kind kind, uint32_t worker, uint32_t attempt, uint32_t map, uint32_t output)
{
    struct sched_event e = {
        .kind = kind, .phase = SCHED_REDUCE, .worker = worker, .attempt = attempt, .map = map, .output = output};
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
    give(SCHED_DONE, 1, SCHED_MAP, 1, 0);                  /* and begins reduce 0 */
    assert_int_equal(complain(SCHED_LOST, 1, 0, 1, 5), 0); /* not the attempt that counts */
    assert_int_equal(complain(SCHED_LOST, 1, 0, 9, 0), 0); /* no such task */
    assert_int_equal(complain(SCHED_LOST, 1, 1, 1, 0), 0); /* it is not running */
    assert_int_equal(complain(SCHED_LOST, 2, 0, 1, 0), 0); /* nor is it there */
    assert_int_equal(complain(SCHED_LOST, 1, 0, 1, 0), 1);
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

static void slow_for_its_weight(void **state)
{
    struct sched_config c = plain;
    c.backup_ns = 20 * S;
    begin(&c);
    sched_weigh(s, SCHED_MAP, 0, 10);
    sched_weigh(s, SCHED_MAP, 1, 100); /* ten times as heavy: 100 s are usual, 300 s are slow */
    give(SCHED_JOINED, 1, 0, 0, 0);
    give(SCHED_JOINED, 2, 0, 0, 0);
    beat_for(10);
    give(SCHED_DONE, 1, SCHED_MAP, 0, 0);
    beat_for(289);
    assert_int_equal(sched_facts(s).backups, 0);
    beat_for(2);
    assert_int_equal(sched_facts(s).backups, 1);
    sched_free(s);
}

/* A reduce task's weight is known when it runs. */
static void a_heavy_reduce_is_not_slow(void **state)
{
    struct sched_config c = plain;
    c.backup_ns = 20 * S;
    c.maps = 0;
    c.reduces = 2;
    for (int heavy = 0; heavy < 2; heavy++) {
        begin(&c);
        give(SCHED_JOINED, 1, 0, 0, 0);
        give(SCHED_JOINED, 2, 0, 0, 0);
        sched_weigh_running(s, 1, 10);
        sched_weigh_running(s, 2, heavy ? 100 : 10);
        sched_weigh_running(s, 3, 1); /* nobody */
        beat_for(10);
        give(SCHED_DONE, 1, SCHED_REDUCE, 0, 0);
        beat_for(100);
        assert_int_equal(sched_facts(s).backups, !heavy);
        sched_free(s);
    }
}

/* Another coordinator knows map 0, and the only reduce of another job. */
static void restored(void **state)
{
    struct sched_config c = plain;
    c.first_attempt = 1 << 16;
    c.grace_ns = 5 * S;
    begin(&c);
    sched_restore(s, SCHED_MAP, 0, 3);
    assert_int_equal(sched_facts(s).awaited, 1);
    assert_int_equal(give(SCHED_HELD, 9, 0, 0, 3), 0); /* nobody we know */
    assert_int_equal(give(SCHED_JOINED, 1, 0, 0, 0), 1);
    expect(0, SCHED_ASSIGN, 1, SCHED_MAP, 1, 1 << 16); /* not map 0, that is waited for */
    assert_int_equal(give(SCHED_HELD, 1, 0, 0, 3), 1);
    expect(0, SCHED_COMMIT, 1, SCHED_MAP, 0, 3);
    assert_int_equal(give(SCHED_HELD, 1, 0, 0, 3), 0); /* said twice */
    assert_int_equal(give(SCHED_HELD, 1, 0, 7, 0), 0); /* no such task */
    /* A worker brings what is being made again: the other attempt ends. */
    give(SCHED_JOINED, 2, 0, 0, 0);
    assert_int_equal(give(SCHED_HELD, 2, 0, 1, 2), 3);
    expect(0, SCHED_COMMIT, 2, SCHED_MAP, 1, 2);
    expect(1, SCHED_CANCEL, 1, SCHED_MAP, 1, 1 << 16);
    sched_free(s);
    /* Nobody brings it: when the grace is over it runs again. */
    begin(&c);
    sched_restore(s, SCHED_MAP, 0, 3);
    sched_restore(s, SCHED_MAP, 1, 0);
    assert_int_equal(give(SCHED_JOINED, 1, 0, 0, 0), 0);
    assert_true(sched_deadline(s) <= now + 5 * S);
    now += 5 * S;
    assert_int_equal(give(SCHED_TICK, 0, 0, 0, 0), 1);
    expect(0, SCHED_ASSIGN, 1, SCHED_MAP, 0, 1 << 16);
    assert_int_equal(sched_facts(s).awaited, 0);
    sched_free(s);
    /* All reduces are done: no map output is needed any more. */
    begin(&c);
    sched_restore(s, SCHED_MAP, 0, 0);
    sched_restore(s, SCHED_REDUCE, 0, 0);
    assert_int_equal(give(SCHED_TICK, 0, 0, 0, 0), 1);
    expect(0, SCHED_FINISH, 0, 0, 0, 0);
    sched_free(s);
}

static const struct sched_config patient = {
    .maps = 2, .reduces = 1, .attempts = 3, .losses = 5, .silence_ns = 10 * S, .grace_ns = 5 * S};

/* Both outputs are at worker 1, which dies; 2 takes one of them over, the other one is not to be had. */
static void outputs_are_taken_over(void **state)
{
    begin(&patient);
    give(SCHED_JOINED, 1, 0, 0, 0);
    give(SCHED_DONE, 1, SCHED_MAP, 0, 0);
    give(SCHED_DONE, 1, SCHED_MAP, 1, 0);
    assert_int_equal(give(SCHED_JOINED, 2, 0, 0, 0), 0);
    assert_int_equal(give(SCHED_UNCLAIMED, 0, 0, 1, 0), 0); /* it is where it was */
    assert_int_equal(give(SCHED_LEFT, 1, 0, 0, 0), 0);
    assert_int_equal(sched_facts(s).awaited, 2);
    assert_int_equal(give(SCHED_HELD, 2, 0, 0, 0), 1);
    expect(0, SCHED_COMMIT, 2, SCHED_MAP, 0, 0);
    assert_int_equal(give(SCHED_UNCLAIMED, 0, 0, 0, 0), 0); /* it has been found */
    assert_int_equal(give(SCHED_UNCLAIMED, 0, 0, 1, 7), 0); /* no such attempt */
    assert_int_equal(give(SCHED_UNCLAIMED, 0, 0, 1, 0), 2);
    expect(0, SCHED_REVOKE, 1, SCHED_MAP, 1, 0);
    expect(1, SCHED_ASSIGN, 2, SCHED_MAP, 1, 1);
    assert_int_equal(give(SCHED_DONE, 2, SCHED_MAP, 1, 1), 2);
    expect(1, SCHED_ASSIGN, 2, SCHED_REDUCE, 0, 1);
    sched_free(s);
    /* Nobody says a word: until the grace is over. */
    begin(&patient);
    give(SCHED_JOINED, 1, 0, 0, 0);
    give(SCHED_DONE, 1, SCHED_MAP, 0, 0);
    give(SCHED_JOINED, 2, 0, 0, 0);
    give(SCHED_DONE, 1, SCHED_MAP, 1, 0);
    give(SCHED_LEFT, 1, 0, 0, 0);
    assert_int_equal(sched_deadline(s), now + 10 * S / 4);
    now += 5 * S - 1;
    assert_int_equal(give(SCHED_HEARD, 2, 0, 0, 0), 0);
    assert_int_equal(sched_deadline(s), now + 1);
    now++;
    assert_int_equal(give(SCHED_TICK, 0, 0, 0, 0), 3);
    expect(0, SCHED_REVOKE, 1, SCHED_MAP, 1, 0);
    expect(1, SCHED_REVOKE, 1, SCHED_MAP, 0, 0);
    expect(2, SCHED_ASSIGN, 2, SCHED_MAP, 0, 1);
    sched_free(s);
}

/* A reduce attempt that began when the output had another holder says nothing about the new one. */
static void complaints_out_of_date(void **state)
{
    begin(&patient);
    give(SCHED_JOINED, 1, 0, 0, 0);
    give(SCHED_JOINED, 2, 0, 0, 0);
    give(SCHED_DONE, 1, SCHED_MAP, 0, 0);
    give(SCHED_DONE, 2, SCHED_MAP, 1, 0);
    give(SCHED_JOINED, 3, 0, 0, 0);
    assert_int_equal(sched_task(s, SCHED_REDUCE, 0).worker, 1);
    assert_int_equal(give(SCHED_HELD, 3, 0, 1, 0), 1); /* 2 is dead, but nobody has said so yet */
    expect(0, SCHED_COMMIT, 3, SCHED_MAP, 1, 0);
    assert_int_equal(give(SCHED_LEFT, 2, 0, 0, 0), 0);
    assert_int_equal(complain(SCHED_UNREACHED, 1, 0, 1, 0), 0);
    assert_int_equal(complain(SCHED_LOST, 1, 0, 1, 0), 0);
    assert_int_equal(give(SCHED_STARVED, 1, SCHED_REDUCE, 0, 0), 1);
    expect(0, SCHED_ASSIGN, 1, SCHED_REDUCE, 0, 1);
    /* And one that comes before the news of the death only makes it awaited. */
    assert_int_equal(complain(SCHED_UNREACHED, 1, 1, 1, 0), 0);
    assert_int_equal(complain(SCHED_LOST, 1, 1, 1, 0), 0);
    assert_int_equal(give(SCHED_STARVED, 1, SCHED_REDUCE, 0, 1), 0);
    assert_int_equal(sched_facts(s).awaited, 1);
    assert_int_equal(give(SCHED_LEFT, 3, 0, 0, 0), 0);
    assert_int_equal(give(SCHED_HELD, 1, 0, 1, 0), 2);
    expect(1, SCHED_ASSIGN, 1, SCHED_REDUCE, 0, 2);
    assert_int_equal(complain(SCHED_LOST, 1, 2, 1, 0), 1);
    expect(0, SCHED_REVOKE, 1, SCHED_MAP, 1, 0);
    sched_free(s);
}

/* ---- the model ---- */

#define WORKERS  8
#define MACHINES 3
#define MAPS     12
#define REDUCES  5
#define LETTERS  400
#define EPOCHS   10
#define TRIES    200 /* attempts of a task in an epoch */
#define RECORDS  2000
#define LIVES    1000

enum letter_kind { EVENT, ADOPT, ADOPTED };

struct letter { /* a message on its way to the scheduler, or to what is around it, or (ADOPT) to a worker */
    uint64_t at;
    enum letter_kind kind;
    struct sched_event e;
    uint32_t home; /* not EVENT; and with SCHED_HELD */
};

struct model_worker {
    uint32_t life;    /* 0: no worker; its directory ("home") has the same number */
    uint32_t machine; /* 1 ... MACHINES */
    uint32_t id;      /* 0: it has no coordinator */
    uint64_t joins;   /* then, when it finds one */
    bool busy, frozen, evicted;
    struct sched_effect job;
    uint64_t ends;
    bool reads_late; /* the reduce attempt: only when it ends, not when it begins */
    bool lacks_input, unreached;
    uint32_t lost_map, lost_attempt;
};

/* A worker's directory. */
struct model_home {
    uint32_t machine;   /* 0: that is gone */
    uint32_t keeper;    /* the life of who has its lock; 0: nobody lives who has */
    uint32_t id, asked; /* what the driver knows: who serves it, and who is asked to; 0: nobody */
    bool ask_again;
};

struct record { /* of the journal */
    enum sched_phase phase;
    uint32_t task, attempt;
    uint64_t durable_at;
};

struct model {
    uint64_t seed;
    struct prng r;
    struct model_worker w[WORKERS];
    struct model_home homes[LIVES];
    uint32_t host_of[LIVES]; /* by id, while it is joined */
    uint32_t next_id, next_life, epoch;
    struct letter letters[LETTERS];
    size_t letters_n;
    /* what the driver knows */
    uint32_t held_in[MAPS], held_attempt[MAPS];
    bool held[MAPS], reduced[REDUCES];
    uint32_t reduced_by[REDUCES];
    /* the truth: outputs that can be read, and in which home; parts that were written to the end */
    bool exists[MAPS][EPOCHS * TRIES], written[REDUCES][EPOCHS * TRIES];
    uint32_t exists_in[MAPS][EPOCHS * TRIES];
    struct record journal[RECORDS];
    size_t journal_n;
    struct sched *frozen; /* a coordinator that will wake up */
    uint32_t frozen_epoch;
    uint32_t published;
    bool finished, gave_up, calm;
    bool gentle, was_done[MAPS]; /* nothing but deaths of processes */
    uint32_t failures[2][MAPS + REDUCES];
};

static uint32_t crashes, restored_maps, restored_reduces, held_maps, fenced; /* over all seeds */
static uint32_t taken_over, taken_gently, unreached, in_vain, again;

/* Attempts of all epochs in one array. */
static uint32_t slot(uint32_t attempt)
{
    assert_true((attempt >> 16) < EPOCHS && (attempt & 0xffff) < TRIES);
    return (attempt >> 16) * TRIES + (attempt & 0xffff);
}

static struct model_worker *worker_of(struct model *m, uint32_t id)
{
    for (int i = 0; i < WORKERS && id; i++)
        if (m->w[i].id == id) return &m->w[i];
    return NULL;
}

static void post_at(struct model *m, uint64_t at, struct letter l)
{
    assert_true(m->letters_n < LETTERS);
    m->letters[m->letters_n] = l;
    m->letters[m->letters_n++].at = at;
}

static void post_of(struct model *m, struct sched_event e, uint32_t home)
{
    int copies = prng_chance(&m->r, 10) ? 2 : 1;
    /* A dead worker's letters come all the same; only its own order with LEFT is free, too. */
    for (int i = 0; i < copies; i++)
        post_at(m, now + prng_below(&m->r, i ? 30 * S : S / 10), (struct letter){.e = e, .home = home});
}

static void post(struct model *m, struct sched_event e) { post_of(m, e, 0); }

static void destroy_outputs(struct model *m, uint32_t home)
{
    for (int i = 0; i < MAPS; i++)
        for (int a = 0; a < EPOCHS * TRIES; a++)
            if (m->exists[i][a] && m->exists_in[i][a] == home) m->exists[i][a] = false;
}

/* ---- outputs of dead workers: what the driver does (coord.c), and what workers do ---- */

static void feed(struct model *m, struct sched_event e);

static void await_no_more(struct model *m, uint32_t home)
{
    in_vain++;
    for (uint32_t i = 0; i < MAPS && !m->finished && !m->gave_up; i++)
        if (m->held[i] && m->held_in[i] == home)
            feed(m, (struct sched_event){.kind = SCHED_UNCLAIMED, .task = i, .attempt = m->held_attempt[i]});
}

static void find_keeper(struct model *m, uint32_t home)
{
    struct model_home *h = &m->homes[home];
    bool needed = false;
    uint32_t n = 0, whom = 0;

    for (int i = 0; i < MAPS; i++) needed = needed || (m->held[i] && m->held_in[i] == home);
    if (h->id || h->asked || !needed) return;
    for (uint32_t id = 1; id <= m->next_id; id++)
        if (m->host_of[id] && m->host_of[id] == h->machine && prng_below(&m->r, ++n) == 0) whom = id;
    h->asked = whom;
    h->ask_again = false;
    if (whom)
        post_at(m, now + prng_below(&m->r, S / 10),
                (struct letter){.kind = ADOPT, .e = {.worker = whom}, .home = home});
    else if (!m->gentle && h->machine != 1) /* on that one it starts workers itself */
        await_no_more(m, home);
}

static void find_keepers(struct model *m)
{
    for (uint32_t h = 1; h <= m->next_life && !m->finished && !m->gave_up; h++) find_keeper(m, h);
}

static void left(struct model *m, struct sched_event e)
{
    for (uint32_t h = 1; h <= m->next_life; h++) {
        if (m->homes[h].asked == e.worker) m->homes[h].asked = 0;
        if (m->homes[h].id != e.worker) continue;
        m->homes[h].id = 0;
        m->homes[h].ask_again = m->homes[h].asked;
    }
    m->host_of[e.worker] = 0;
    feed(m, e);
    find_keepers(m);
}

static void say_what_is_in(struct model *m, const struct model_worker *w, uint32_t home)
{
    for (uint32_t i = 0; i < MAPS; i++)
        for (uint32_t a = 0; a < EPOCHS * TRIES; a++)
            if (m->exists[i][a] && m->exists_in[i][a] == home)
                post_of(m,
                        (struct sched_event){
                            .kind = SCHED_HELD, .worker = w->id, .task = i, .attempt = (a / TRIES) << 16 | a % TRIES},
                        home);
}

static bool adopt(struct model *m, const struct model_worker *w, uint32_t home)
{
    struct model_home *h = &m->homes[home];
    if (h->machine == w->machine && !h->keeper) h->keeper = w->life;
    return h->keeper == w->life;
}

static void asked_to_adopt(struct model *m, struct letter l)
{
    struct model_worker *w = worker_of(m, l.e.worker);
    if (!w || w->evicted) return; /* it died: who asks will hear of it */
    if (w->frozen) {
        post_at(m, now + S, l);
        return;
    }
    bool has = adopt(m, w, l.home);
    l.kind = ADOPTED;
    if (has) say_what_is_in(m, w, l.home);
    post_at(m, now + (has ? S / 10 : S), l); /* after the last of them */
}

static void begin_life(struct model *m, struct model_worker *w, uint32_t machine)
{
    *w = (struct model_worker){.life = ++m->next_life, .machine = machine};
    assert_true(m->next_life < LIVES);
    m->homes[w->life] = (struct model_home){.machine = machine, .keeper = w->life};
}

/* Its outputs stay, and those that it had taken over. */
static void end_life(struct model *m, struct model_worker *w)
{
    for (uint32_t h = 1; h <= m->next_life && w->life; h++)
        if (m->homes[h].keeper == w->life) m->homes[h].keeper = 0;
    *w = (struct model_worker){0};
}

/* ---- the scheduler's effects ---- */

/* Of a machine's own files all can be read, of another one's what a living worker there serves. */
static void look_for_input(struct model *m, struct model_worker *w)
{
    for (uint32_t i = 0; i < MAPS; i++) {
        struct model_home *h = &m->homes[m->held_in[i]];
        const struct model_worker *keeper = worker_of(m, h->id);
        bool here = h->machine == w->machine, there = m->exists[i][slot(m->held_attempt[i])];
        bool served = keeper && !keeper->frozen && keeper->life == h->keeper;
        if (there && (here || served)) continue;
        w->lacks_input = true;
        w->unreached = !here && !served;
        w->lost_map = i;
        w->lost_attempt = m->held_attempt[i];
    }
}

/* Only who has the token can; a reader finds every part, whole. */
static void publish(struct model *m, uint32_t epoch)
{
    if (epoch != m->epoch) {
        fenced++;
        return;
    }
    assert_int_equal(m->published++, 0);
    for (int i = 0; i < REDUCES; i++) {
        assert_true(m->reduced[i]);
        assert_true(m->written[i][slot(m->reduced_by[i])]);
    }
    m->finished = true;
}

static void write_down(struct model *m, const struct sched_effect *e)
{
    assert_true(m->journal_n < RECORDS);
    m->journal[m->journal_n++] = (struct record){
        .phase = e->phase, .task = e->task, .attempt = e->attempt, .durable_at = now + prng_below(&m->r, S)};
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
    /* Every map task is done when a reduce begins, and somebody serves its output. */
    for (uint32_t i = 0; i < MAPS; i++) assert_true(m->held[i] && m->homes[m->held_in[i]].id);
    w->reads_late = prng_chance(&m->r, 30);
    if (!w->reads_late) look_for_input(m, w);
}

static void carry_out(struct model *m, const struct sched_effect *e, const struct sched_event *cause, uint32_t home)
{
    struct model_worker *w;
    assert_false(m->finished || m->gave_up);
    switch (e->kind) {
    case SCHED_ASSIGN:
        if (e->phase == SCHED_MAP && m->was_done[e->task]) {
            again++;
            if (m->gentle) fail_msg("QFS_SEED=%llu: map task %u runs again", (unsigned long long)m->seed, e->task);
        }
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
        assert_true(cause->kind == SCHED_DONE || (cause->kind == SCHED_HELD && e->phase == SCHED_MAP));
        assert_true(cause->worker == e->worker && cause->task == e->task && cause->attempt == e->attempt);
        write_down(m, e);
        held_maps += cause->kind == SCHED_HELD;
        if (e->phase == SCHED_MAP) {
            assert_true(home && (cause->kind == SCHED_HELD || !m->held[e->task]));
            if (m->held[e->task] && m->held_in[e->task] == home) (m->gentle ? taken_gently++ : taken_over++);
            m->held[e->task] = m->was_done[e->task] = true;
            m->held_in[e->task] = home;
            m->held_attempt[e->task] = e->attempt;
        } else {
            assert_false(m->reduced[e->task]);
            m->reduced[e->task] = true;
            m->reduced_by[e->task] = e->attempt;
        }
        break;
    case SCHED_REVOKE:
        assert_true(m->held[e->task]);
        m->held[e->task] = false;
        break;
    case SCHED_FINISH:
        publish(m, m->epoch);
        break;
    case SCHED_GIVE_UP:
        m->gave_up = true;
        break;
    }
}

static void feed_of(struct model *m, struct sched_event e, uint32_t home)
{
    size_t n = sched_step(s, &e, now);
    struct sched_effect v[256];
    assert_true(n <= 256);
    if (n) memcpy(v, sched_effects(s), n * sizeof *v);
    for (size_t i = 0; i < n; i++) carry_out(m, &v[i], &e, home);
}

static void feed(struct model *m, struct sched_event e) { feed_of(m, e, 0); }

static void finish_task(struct model *m, struct model_worker *w)
{
    struct sched_event e = {.worker = w->id, .phase = w->job.phase, .task = w->job.task, .attempt = w->job.attempt};
    bool fails = !m->calm && prng_chance(&m->r, 3) && m->failures[e.phase][e.task] < 2;

    w->busy = false;
    if (e.phase == SCHED_REDUCE && w->reads_late) look_for_input(m, w);
    if (w->lacks_input) {
        e.kind = w->unreached ? SCHED_UNREACHED : SCHED_LOST;
        e.map = w->lost_map;
        e.output = w->lost_attempt;
        unreached += w->unreached;
        post(m, e);
        e.kind = SCHED_STARVED;
    } else if (fails) {
        m->failures[e.phase][e.task]++;
        e.kind = SCHED_FAILED;
    } else {
        e.kind = SCHED_DONE;
        if (e.phase == SCHED_MAP) {
            m->exists[e.task][slot(e.attempt)] = true;
            m->exists_in[e.task][slot(e.attempt)] = w->life;
        } else {
            m->written[e.task][slot(e.attempt)] = true;
        }
    }
    if (w->id) post_of(m, e, w->life); /* without a coordinator it only keeps what it has */
}

/* A worker finds its coordinator, and says what it has, and what lies beside it. */
static void join(struct model *m, struct model_worker *w)
{
    w->id = ++m->next_id;
    w->busy = false; /* nobody waits for what it does any more */
    assert_true(w->id < LIVES);
    m->host_of[w->id] = w->machine;
    m->homes[w->life].id = w->id;
    for (uint32_t h = 1; h <= m->next_life; h++)
        if (adopt(m, w, h)) say_what_is_in(m, w, h);
    feed(m, (struct sched_event){.kind = SCHED_JOINED, .worker = w->id});
    find_keepers(m);
}

static const struct sched_config swarm = {.maps = MAPS,
                                          .reduces = REDUCES,
                                          .attempts = 3,
                                          .losses = 1000,
                                          .silence_ns = 10 * S,
                                          .backup_ns = 15 * S,
                                          .grace_ns = 5 * S};

/* What a new coordinator knows: what of the journal has become durable. */
static void replay(struct model *m)
{
    bool known[2][MAPS + REDUCES] = {0};
    uint32_t by[2][MAPS + REDUCES];
    size_t kept = 0;
    while (kept < m->journal_n && m->journal[kept].durable_at <= now) kept++;
    m->journal_n = kept;
    for (size_t i = 0; i < kept; i++) {
        known[m->journal[i].phase][m->journal[i].task] = true;
        by[m->journal[i].phase][m->journal[i].task] = m->journal[i].attempt;
    }
    memset(m->held, 0, sizeof m->held);
    memset(m->host_of, 0, sizeof m->host_of);
    for (uint32_t h = 1; h <= m->next_life; h++) m->homes[h].id = m->homes[h].asked = 0;
    memset(m->reduced, 0, sizeof m->reduced);
    for (uint32_t i = 0; i < MAPS; i++) {
        if (!known[SCHED_MAP][i]) continue;
        sched_restore(s, SCHED_MAP, i, by[SCHED_MAP][i]);
        restored_maps++;
    }
    for (uint32_t i = 0; i < REDUCES; i++) {
        if (!known[SCHED_REDUCE][i]) continue;
        sched_restore(s, SCHED_REDUCE, i, by[SCHED_REDUCE][i]);
        m->reduced[i] = true;
        m->reduced_by[i] = by[SCHED_REDUCE][i];
        restored_reduces++;
    }
}

/* The coordinator is gone, for ever or until it wakes up; all its connections and what was on them are. */
static void crash(struct model *m)
{
    struct sched_config c = swarm;
    if (m->epoch + 1 == EPOCHS) return;
    crashes++;
    if (m->frozen || prng_chance(&m->r, 50)) {
        sched_free(s);
    } else {
        m->frozen = s;
        m->frozen_epoch = m->epoch;
    }
    m->epoch++;
    m->letters_n = 0;
    now += prng_below(&m->r, 20 * S);
    c.first_attempt = m->epoch << 16;
    s = sched_new(&c, now);
    replay(m);
    for (int i = 0; i < WORKERS; i++) {
        struct model_worker *w = &m->w[i];
        if (w->evicted) end_life(m, w);
        if (!w->life) continue;
        w->id = 0;
        w->joins = now + prng_below(&m->r, prng_chance(&m->r, 80) ? 4 * S : 20 * S);
        if (w->busy && w->job.phase == SCHED_REDUCE) w->busy = false;
    }
}

/* It wakes up, believes that all its tasks are done now, and publishes. */
static void wake_frozen(struct model *m)
{
    for (uint32_t i = 1; m->frozen && i <= m->next_id; i++) {
        struct sched_event left = {.kind = SCHED_LEFT, .worker = i}; /* its connections are dead */
        sched_step(m->frozen, &left, now);
    }
    struct sched_event e = {.kind = SCHED_JOINED, .worker = m->next_id + 1}; /* one worker does all that is left */
    while (m->frozen && e.kind != SCHED_TICK && !sched_facts(m->frozen).over) {
        size_t n = sched_step(m->frozen, &e, now + swarm.grace_ns);
        e.kind = SCHED_TICK;
        for (size_t i = 0; i < n; i++) {
            const struct sched_effect *t = &sched_effects(m->frozen)[i];
            if (t->kind == SCHED_ASSIGN)
                e = (struct sched_event){
                    .kind = SCHED_DONE, .phase = t->phase, .worker = t->worker, .task = t->task, .attempt = t->attempt};
            if (t->kind == SCHED_FINISH) publish(m, m->frozen_epoch);
        }
    }
    sched_free(m->frozen);
    m->frozen = NULL;
}

static void die(struct model *m, struct model_worker *w)
{
    uint32_t machine = w->machine;
    if (w->id) post(m, (struct sched_event){.kind = SCHED_LEFT, .worker = w->id});
    end_life(m, w);
    if (!m->gentle) return;
    begin_life(m, w, machine); /* it is replaced */
    w->joins = now + prng_below(&m->r, 2 * S);
}

/* With all that runs and lies there. */
static void lose_machine(struct model *m, uint32_t machine)
{
    for (int i = 0; i < WORKERS; i++)
        if (m->w[i].life && m->w[i].machine == machine) die(m, &m->w[i]);
    for (uint32_t h = 1; h <= m->next_life; h++) {
        if (m->homes[h].machine != machine) continue;
        destroy_outputs(m, h);
        m->homes[h].machine = 0;
    }
}

static void mishap(struct model *m)
{
    struct model_worker *w = &m->w[prng_below(&m->r, WORKERS)];
    switch (prng_below(&m->r, m->gentle ? 3 : 7)) {
    case 0:
    case 1: /* a new worker */
        if (w->life) return;
        begin_life(m, w, 1 + (uint32_t)prng_below(&m->r, MACHINES));
        join(m, w);
        break;
    case 2: /* death */
        if (!w->life) return;
        if (!m->gentle && prng_chance(&m->r, 30))
            lose_machine(m, w->machine);
        else
            die(m, w);
        break;
    case 6:
        if (prng_chance(&m->r, 40))
            crash(m);
        else if (prng_chance(&m->r, 20))
            wake_frozen(m);
        break;
    case 3:
        w->frozen = w->id && prng_chance(&m->r, 30);
        break;
    case 4: { /* somebody deletes a file */
        uint32_t i = (uint32_t)prng_below(&m->r, MAPS);
        if (m->held[i] && prng_chance(&m->r, 20)) m->exists[i][slot(m->held_attempt[i])] = false;
        break;
    }
    default:
        feed(m, (struct sched_event){.kind = prng_below(&m->r, SCHED_TICK + 1) == 0 ? SCHED_TICK : SCHED_LOST,
                                     .phase = SCHED_REDUCE,
                                     .worker = w->id,
                                     .task = w->job.task,
                                     .attempt = w->job.attempt,
                                     .map = (uint32_t)prng_below(&m->r, MAPS + 2),
                                     .output = 10000});
    }
}

static void take(struct model *m, struct letter l)
{
    struct model_worker *w = worker_of(m, l.e.worker);
    struct model_home *h = &m->homes[l.home];

    if (l.kind == ADOPT) {
        asked_to_adopt(m, l);
    } else if (l.kind == ADOPTED) {
        if (h->asked != l.e.worker || !w) return; /* as with SCHED_HELD */
        h->asked = 0;
        if (h->ask_again)
            find_keeper(m, l.home);
        else if (!h->id || h->id == l.e.worker)
            await_no_more(m, l.home);
    } else if (l.e.kind == SCHED_LEFT) {
        if (w && w->evicted) end_life(m, w);
        left(m, l.e);
    } else if (l.e.kind == SCHED_HELD) {
        /* On one connection: what a worker says before it dies comes in order, or, in this model, not at all. */
        if (!m->host_of[l.e.worker] || !w || w->life != h->keeper) return;
        h->id = l.e.worker;
        feed_of(m, l.e, l.home);
    } else {
        feed_of(m, l.e, l.home);
    }
}

static void deliver(struct model *m)
{
    while (!m->finished && !m->gave_up) {
        size_t first = 0;
        for (size_t i = 1; i < m->letters_n; i++)
            if (m->letters[i].at < m->letters[first].at) first = i;
        if (first == m->letters_n || m->letters[first].at > now) return;
        struct letter l = m->letters[first];
        m->letters[first] = m->letters[--m->letters_n];
        take(m, l);
    }
}

static void turn(struct model *m)
{
    now += prng_below(&m->r, 300 * NS_PER_MS);
    if (!m->calm && prng_chance(&m->r, 15)) mishap(m);
    if (!m->calm && !m->gentle && prng_chance(&m->r, 1)) now += 100 * S; /* the driver was frozen */
    deliver(m);
    for (int i = 0; i < WORKERS && !m->finished && !m->gave_up; i++) {
        struct model_worker *w = &m->w[i];
        if (!w->life || w->frozen || w->evicted) continue;
        if (w->busy && now >= w->ends) finish_task(m, w);
        if (!w->id && now >= w->joins) join(m, w);
        if (w->id && !m->finished && !m->gave_up) feed(m, (struct sched_event){.kind = SCHED_HEARD, .worker = w->id});
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
        if (w->life) continue;
        begin_life(m, w, 1);
        join(m, w);
        return;
    }
}

static void run_seed(uint64_t seed)
{
    static struct model m;
    uint32_t turns = 0;

    m = (struct model){0};

    prng_seed(&m.r, seed);
    m.seed = seed;
    m.gentle = seed % 3 == 0;
    begin(&swarm);
    while (!m.finished && turns++ < 1500) turn(&m);
    if (!m.finished) calm_down(&m);
    while (!m.finished && turns++ < 20000) turn(&m);
    if (!m.finished || m.gave_up) {
        fprintf(stderr, "QFS_SEED=%llu\n", (unsigned long long)seed);
        assert_false(m.gave_up);
        assert_true(m.finished);
    }
    wake_frozen(&m); /* the worst moment of all: everything is over */
    assert_int_equal(m.published, 1);
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
    for (uint64_t i = 1; i <= 9000; i++) run_seed(i);
    /* A test that never meets its faults proves nothing. */
    if (crashes < 4000 || restored_maps < 1000 || restored_reduces < 500 || held_maps < 1000 || fenced < 500)
        fail_msg("%u crashes, %u maps and %u reduces restored, %u outputs brought, %u fenced", crashes, restored_maps,
                 restored_reduces, held_maps, fenced);
    if (taken_over < 1000 || taken_gently < 1000 || unreached < 1000 || in_vain < 1000 || again < 1000)
        fail_msg("%u outputs taken over, %u in gentle jobs, %u unreached, %u sought in vain, %u made again", taken_over,
                 taken_gently, unreached, in_vain, again);
}

/* ---- what is shown of it ---- */

/* It is written with each heartbeat: as long as what runs, not as the job. */
static void many_tasks_are_a_short_text(void **state)
{
    struct sched_config many = plain;
    struct input_file file = {.path = "file"};
    struct run r = {.job = {.reducers = 1}, .plan = {.files = &file, .files_n = 1, .splits_n = 100000}};
    struct buf b = {0};
    many.maps = 100000;
    r.plan.splits = xcalloc(many.maps, sizeof *r.plan.splits);
    s = sched_new(&many, now = 1);
    give(SCHED_JOINED, 7, 0, 0, 0);
    give(SCHED_DONE, 7, SCHED_MAP, 0, 0);
    give(SCHED_FAILED, 7, SCHED_MAP, 1, 0);
    mr__face_tasks(&r, s, &b);
    put_u8(&b, 0);
    assert_string_equal(b.p, "map 1 running attempt=1 worker=7 seconds=0.0 failures=1 bytes=0 offset=0 file=file\n"
                             "map others idle=99998 done=1 awaited=0\nreduce 0 idle\n");
    sched_free(s);
    free(r.plan.splits);
    buf_free(&b);
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
        cmocka_unit_test(slow_for_its_weight),
        cmocka_unit_test(a_heavy_reduce_is_not_slow),
        cmocka_unit_test(restored),
        cmocka_unit_test(outputs_are_taken_over),
        cmocka_unit_test(complaints_out_of_date),
        cmocka_unit_test(random_jobs),
        cmocka_unit_test(many_tasks_are_a_short_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
