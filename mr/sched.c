/* sched.c - the scheduler (sched.h): PURE, no clock, no system call.
 *
 * A task is idle (in its phase's queue), running (one attempt, or two where a backup was started), done, or awaited: a
 * map task that is done, but whose output is with nobody we know, until a worker says that it has it, or the grace is
 * over. Reduce tasks are assigned only while every map task is done. Each attempt has a number of its own within its
 * task, so whatever arrives late about an old one finds nothing and is dropped; the first attempt that is done wins.
 *
 * Failure modes: a worker leaves (its attempt counts as a loss, its map outputs are awaited), falls silent (evicted,
 * then as if it had left), fails a task (counted; too many: the job is given up), cannot read a map output (the map
 * task runs again, the reduce task waits), or not reach who has it (who may have died: the output is awaited). What a
 * reduce attempt says of an output that has found another holder since the attempt began is out of date. The driver
 * itself may have been frozen: time in which nobody could be heard does not count as silence. */
#include "mr/sched.h"

#include <stdlib.h>

#define TICK_NS (1 * NS_PER_S) /* while a backup may become due */
#define NOBODY  UINT32_MAX

enum task_state { IDLE, RUNNING, DONE, AWAITED };

struct attempt {
    uint32_t worker, no; /* worker NOBODY: none */
    uint64_t began, step;
};

struct task {
    struct list queued; /* while IDLE */
    enum task_state state;
    uint32_t next_attempt, failures, losses;
    uint32_t done_by, done_attempt; /* while DONE; while AWAITED, whose it was */
    uint64_t since, until;          /* DONE: the step in which that was said; AWAITED: so long */
    struct attempt run[2];
    uint64_t weight;
};

struct worker {
    uint32_t id;
    uint64_t heard;
    struct task *task; /* what it does; NULL: it is free */
};

struct sched {
    struct sched_config config;
    struct task *tasks[2]; /* by phase */
    struct list idle[2];
    uint32_t done[2];
    uint64_t spent_ns[2], spent_weight[2]; /* time and weight of the attempts that won: what is usual */
    uint32_t awaited;
    uint64_t grace_end; /* when the wait for one of those may be over */
    struct worker *workers;
    size_t workers_n, workers_cap;
    uint32_t running; /* tasks with an attempt */
    uint64_t now, steps;
    struct sched_facts facts;
    struct sched_effect *out;
    size_t out_n, out_cap;
};

static uint32_t phase_size(const struct sched *s, enum sched_phase p)
{
    return p == SCHED_MAP ? s->config.maps : s->config.reduces;
}

struct sched *sched_new(const struct sched_config *config, uint64_t now)
{
    struct sched *s = xcalloc(1, sizeof *s);
    check(config->reduces > 0 && config->attempts > 0 && config->losses > 0);
    s->config = *config;
    s->now = now;
    s->grace_end = UINT64_MAX;
    for (enum sched_phase p = SCHED_MAP; p <= SCHED_REDUCE; p++) {
        list_init(&s->idle[p]);
        s->tasks[p] = xcalloc(phase_size(s, p) + 1, sizeof *s->tasks[p]);
        for (uint32_t i = 0; i < phase_size(s, p); i++) {
            struct task *t = &s->tasks[p][i];
            t->run[0].worker = t->run[1].worker = NOBODY;
            t->next_attempt = config->first_attempt;
            t->weight = 1;
            list_push_back(&s->idle[p], &t->queued);
        }
    }
    return s;
}

void sched_free(struct sched *s)
{
    if (!s) return;
    free(s->tasks[SCHED_MAP]);
    free(s->tasks[SCHED_REDUCE]);
    free(s->workers);
    free(s->out);
    free(s);
}

static void await(struct sched *s, struct task *t)
{
    check(t->state == DONE);
    s->done[SCHED_MAP]--;
    s->awaited++;
    t->state = AWAITED;
    t->until = s->now + s->config.grace_ns;
    s->grace_end = min_u64(s->grace_end, t->until);
}

void sched_restore(struct sched *s, enum sched_phase phase, uint32_t task, uint32_t attempt)
{
    check(phase <= SCHED_REDUCE && task < phase_size(s, phase));
    struct task *t = &s->tasks[phase][task];
    check(t->state == IDLE);
    list_remove(&t->queued);
    t->done_by = NOBODY;
    t->done_attempt = attempt;
    t->state = DONE;
    s->done[phase]++;
    if (phase == SCHED_MAP) await(s, t);
}

void sched_weigh(struct sched *s, enum sched_phase phase, uint32_t task, uint64_t weight)
{
    check(phase <= SCHED_REDUCE && task < phase_size(s, phase));
    s->tasks[phase][task].weight = max_u64(weight, 1);
}

void sched_weigh_running(struct sched *s, uint32_t worker, uint64_t weight)
{
    for (size_t i = 0; i < s->workers_n; i++) {
        struct task *t = s->workers[i].id == worker ? s->workers[i].task : NULL;
        if (t && t >= s->tasks[SCHED_REDUCE] && t < s->tasks[SCHED_REDUCE] + s->config.reduces)
            t->weight = max_u64(weight, 1);
    }
}

const struct sched_effect *sched_effects(const struct sched *s) { return s->out; }

struct sched_facts sched_facts(const struct sched *s)
{
    struct sched_facts f = s->facts;
    f.workers = (uint32_t)s->workers_n;
    f.busy = 0;
    for (size_t i = 0; i < s->workers_n; i++) f.busy += s->workers[i].task != NULL;
    f.maps_done = s->done[SCHED_MAP];
    f.reduces_done = s->done[SCHED_REDUCE];
    f.awaited = s->awaited;
    return f;
}

struct sched_task_facts sched_task(const struct sched *s, enum sched_phase phase, uint32_t task)
{
    static const char *const words[] = {"idle", "running", "done", "awaited"};
    check(phase <= SCHED_REDUCE && task < phase_size(s, phase));
    const struct task *t = &s->tasks[phase][task];
    struct sched_task_facts f = {.state = words[t->state],
                                 .attempts = t->next_attempt - s->config.first_attempt,
                                 .failures = t->failures,
                                 .losses = t->losses,
                                 .attempt = t->done_attempt,
                                 .worker = t->done_by};
    for (int i = 0; i < 2 && t->state == RUNNING; i++) {
        const struct attempt *a = &t->run[i];
        if (a->worker == NOBODY || (f.ran_ns && a->no < f.attempt)) continue;
        f.attempt = a->no;
        f.worker = a->worker;
        f.ran_ns = s->now - a->began + 1;
    }
    return f;
}

static enum sched_phase phase_of(const struct sched *s, const struct task *t)
{
    return t >= s->tasks[SCHED_MAP] && t < s->tasks[SCHED_MAP] + s->config.maps ? SCHED_MAP : SCHED_REDUCE;
}

static uint32_t number_of(const struct sched *s, const struct task *t)
{
    return (uint32_t)(t - s->tasks[phase_of(s, t)]);
}

static void emit(struct sched *s, enum sched_effect_kind kind, uint32_t worker, const struct task *t, uint32_t attempt)
{
    check(!s->facts.over);
    if (s->out_n == s->out_cap) {
        s->out_cap = s->out_cap ? 2 * s->out_cap : 16;
        s->out = xrealloc(s->out, s->out_cap * sizeof *s->out);
    }
    struct sched_effect *e = &s->out[s->out_n++];
    *e = (struct sched_effect){.kind = kind, .worker = worker, .attempt = attempt};
    if (t) e->phase = phase_of(s, t), e->task = number_of(s, t);
    s->facts.over = kind == SCHED_FINISH || kind == SCHED_GIVE_UP;
}

static struct worker *find_worker(struct sched *s, uint32_t id)
{
    for (size_t i = 0; i < s->workers_n; i++)
        if (s->workers[i].id == id) return &s->workers[i];
    return NULL;
}

static struct attempt *attempt_of(struct task *t, uint32_t worker)
{
    for (int i = 0; i < 2; i++)
        if (t->run[i].worker == worker) return &t->run[i];
    return NULL;
}

/* ---- from state to state ---- */

static void to_idle(struct sched *s, struct task *t)
{
    t->state = IDLE;
    list_push_front(&s->idle[phase_of(s, t)], &t->queued);
}

/* The attempt is over, however it went; its worker, if it is still there, is free. */
static void end_attempt(struct sched *s, struct task *t, struct attempt *a)
{
    struct worker *w = find_worker(s, a->worker);
    if (w) w->task = NULL;
    a->worker = NOBODY;
    if (t->run[0].worker != NOBODY || t->run[1].worker != NOBODY) return;
    s->running--;
    if (t->state == RUNNING) to_idle(s, t);
}

static void give_up_if(struct sched *s, struct task *t, bool too_many, uint32_t worker, uint32_t attempt)
{
    if (too_many && t->state == IDLE && !s->facts.over) emit(s, SCHED_GIVE_UP, worker, t, attempt);
}

static void count_loss(struct sched *s, struct task *t, uint32_t worker, uint32_t attempt)
{
    s->facts.lost++;
    t->losses++;
    give_up_if(s, t, t->losses >= s->config.losses, worker, attempt);
}

/* A map task's output is gone, and a reduce task still has to read it: after the last one the job is over. */
static void revoke(struct sched *s, struct task *t)
{
    check((t->state == DONE || t->state == AWAITED) && phase_of(s, t) == SCHED_MAP);
    if (t->state == DONE)
        s->done[SCHED_MAP]--;
    else
        s->awaited--;
    to_idle(s, t);
    if (t->done_by == NOBODY) return; /* an earlier coordinator's */
    emit(s, SCHED_REVOKE, t->done_by, t, t->done_attempt);
    count_loss(s, t, t->done_by, t->done_attempt);
}

static void remove_worker(struct sched *s, struct worker *w)
{
    struct task *t = w->task;
    uint32_t id = w->id;

    *w = s->workers[--s->workers_n];
    if (t) {
        struct attempt *a = attempt_of(t, id);
        check(a);
        uint32_t no = a->no;
        end_attempt(s, t, a);
        count_loss(s, t, id, no);
    }
    for (uint32_t i = 0; i < s->config.maps && !s->config.shared; i++) {
        struct task *m = &s->tasks[SCHED_MAP][i];
        if (m->state == DONE && m->done_by == id) await(s, m);
    }
}

/* ---- events ---- */

static void joined(struct sched *s, uint32_t id)
{
    check(!find_worker(s, id) && id != NOBODY);
    if (s->workers_n == s->workers_cap) {
        s->workers_cap = s->workers_cap ? 2 * s->workers_cap : 8;
        s->workers = xrealloc(s->workers, s->workers_cap * sizeof *s->workers);
    }
    s->workers[s->workers_n++] = (struct worker){.id = id, .heard = s->now};
}

static void cancel_others(struct sched *s, struct task *t)
{
    for (int i = 0; i < 2; i++) {
        struct attempt *a = &t->run[i];
        if (a->worker == NOBODY) continue;
        emit(s, SCHED_CANCEL, a->worker, t, a->no);
        end_attempt(s, t, a);
    }
}

static void done(struct sched *s, struct task *t, struct attempt *a)
{
    enum sched_phase p = phase_of(s, t);
    t->state = DONE;
    t->done_by = a->worker;
    t->done_attempt = a->no;
    t->since = s->steps;
    s->done[p]++;
    s->spent_ns[p] += s->now - a->began;
    s->spent_weight[p] += t->weight;
    emit(s, SCHED_COMMIT, a->worker, t, a->no);
    end_attempt(s, t, a);
    cancel_others(s, t);
}

static struct task *task_of(const struct sched *s, const struct sched_event *e)
{
    return e->phase <= SCHED_REDUCE && e->task < phase_size(s, e->phase) ? &s->tasks[e->phase][e->task] : NULL;
}

bool sched_runs(const struct sched *s, const struct sched_event *e)
{
    struct task *t = task_of(s, e);
    struct attempt *a = t ? attempt_of(t, e->worker) : NULL;
    return a && a->no == e->attempt;
}

/* The three ways in which a worker says that an attempt is over. */
static void ended(struct sched *s, const struct sched_event *e)
{
    struct task *t = task_of(s, e);
    struct attempt *a = t ? attempt_of(t, e->worker) : NULL;

    if (!sched_runs(s, e)) {
        s->facts.dropped++;
    } else if (e->kind == SCHED_DONE) {
        done(s, t, a);
    } else if (e->kind == SCHED_FAILED) {
        s->facts.failed++;
        t->failures++;
        end_attempt(s, t, a);
        give_up_if(s, t, t->failures >= s->config.attempts, e->worker, e->attempt);
    } else {
        end_attempt(s, t, a);
        count_loss(s, t, e->worker, e->attempt);
    }
}

static void output_lost(struct sched *s, const struct sched_event *e)
{
    struct task *t = e->map < s->config.maps ? &s->tasks[SCHED_MAP][e->map] : NULL;
    const struct attempt *a = sched_runs(s, e) ? attempt_of(task_of(s, e), e->worker) : NULL;
    if (!a || !t || t->state != DONE || t->done_attempt != e->output || a->step < t->since)
        s->facts.dropped++;
    else if (e->kind == SCHED_LOST)
        revoke(s, t);
    else
        await(s, t);
}

static void unclaimed(struct sched *s, const struct sched_event *e)
{
    struct task *t = e->task < s->config.maps ? &s->tasks[SCHED_MAP][e->task] : NULL;
    if (t && t->state == AWAITED && t->done_attempt == e->attempt)
        revoke(s, t);
    else
        s->facts.dropped++;
}

/* A worker that has joined brings a map output: as good as any other, whoever made it, and whoever coordinated then. It
 * may have taken it over from a worker of which we do not know yet that it is dead. */
static void held(struct sched *s, const struct sched_event *e, bool joined_worker)
{
    struct task *t = e->task < s->config.maps ? &s->tasks[SCHED_MAP][e->task] : NULL;
    bool moved = t && t->state == DONE && t->done_attempt == e->attempt && t->done_by != e->worker;
    if (!t || !joined_worker || (t->state == DONE && !moved)) {
        s->facts.dropped++;
        return;
    }
    if (t->state == AWAITED) s->awaited--;
    if (t->state == IDLE) list_remove(&t->queued);
    if (!moved) s->done[SCHED_MAP]++;
    t->state = DONE;
    t->done_by = e->worker;
    t->done_attempt = e->attempt;
    t->since = s->steps;
    emit(s, SCHED_COMMIT, e->worker, t, e->attempt);
    cancel_others(s, t);
}

static void handle(struct sched *s, const struct sched_event *e)
{
    struct worker *w = e->kind == SCHED_JOINED || e->kind == SCHED_UNCLAIMED || e->kind == SCHED_TICK
                           ? NULL
                           : find_worker(s, e->worker);
    if (w) w->heard = s->now;
    switch (e->kind) {
    case SCHED_JOINED:
        joined(s, e->worker);
        break;
    case SCHED_LEFT:
        if (w)
            remove_worker(s, w);
        else
            s->facts.dropped++;
        break;
    case SCHED_DONE:
    case SCHED_FAILED:
    case SCHED_STARVED:
        ended(s, e);
        break;
    case SCHED_LOST:
    case SCHED_UNREACHED:
        output_lost(s, e);
        break;
    case SCHED_UNCLAIMED:
        unclaimed(s, e);
        break;
    case SCHED_HELD:
        held(s, e, w != NULL);
        break;
    case SCHED_HEARD:
    case SCHED_TICK:
        break;
    }
}

/* ---- what follows from the state and the time ---- */

static void evict_silent(struct sched *s)
{
    for (size_t i = 0; i < s->workers_n && !s->facts.over;) {
        struct worker *w = &s->workers[i];
        if (s->now - w->heard < s->config.silence_ns) {
            i++;
            continue;
        }
        emit(s, SCHED_EVICT, w->id, NULL, 0);
        remove_worker(s, w);
    }
}

/* The phase whose tasks may begin now. */
static enum sched_phase open_phase(const struct sched *s)
{
    return s->done[SCHED_MAP] == s->config.maps ? SCHED_REDUCE : SCHED_MAP;
}

/* So long the task may take for its weight. */
static uint64_t patience(const struct sched *s, enum sched_phase p, const struct task *t)
{
    double usual = (double)s->spent_ns[p] / (double)s->spent_weight[p];
    double ns = 3 * usual * (double)t->weight;
    return max_u64(s->config.backup_ns, ns < 1e18 ? (uint64_t)ns : (uint64_t)1e18);
}

/* The one attempt that is behind the most, if any: slow for its weight, not only heavy. */
static struct task *straggler(struct sched *s, enum sched_phase p)
{
    struct task *worst = NULL;
    uint64_t most = 0;

    if (!s->config.backup_ns || !s->spent_weight[p]) return NULL;
    for (size_t i = 0; i < s->workers_n; i++) {
        struct task *t = s->workers[i].task;
        if (!t || phase_of(s, t) != p || t->failures) continue; /* what fails is not slow, but wrong */
        if (t->run[0].worker != NOBODY && t->run[1].worker != NOBODY) continue;
        uint64_t ran = s->now - attempt_of(t, s->workers[i].id)->began, may = patience(s, p, t);
        if (ran < may || (worst && ran - may <= most)) continue;
        worst = t;
        most = ran - may;
    }
    return worst;
}

static void assign(struct sched *s, struct worker *w, struct task *t)
{
    struct attempt *a = attempt_of(t, NOBODY);
    check(a && !w->task);
    if (t->state == IDLE) {
        list_remove(&t->queued);
        t->state = RUNNING;
        s->running++;
    } else {
        s->facts.backups++;
    }
    *a = (struct attempt){.worker = w->id, .no = t->next_attempt++, .began = s->now, .step = s->steps};
    w->task = t;
    s->facts.assigned++;
    emit(s, SCHED_ASSIGN, w->id, t, a->no);
}

static void assign_all(struct sched *s)
{
    for (size_t i = 0; i < s->workers_n; i++) {
        struct worker *w = &s->workers[i];
        enum sched_phase p = open_phase(s);
        if (w->task) continue;
        struct task *t = list_empty(&s->idle[p]) ? straggler(s, p) : container_of(s->idle[p].next, struct task, queued);
        if (t) assign(s, w, t);
    }
}

static void end_grace(struct sched *s)
{
    if (s->now < s->grace_end) return;
    s->grace_end = UINT64_MAX;
    for (uint32_t i = s->config.maps; i-- > 0 && !s->facts.over;) {
        struct task *t = &s->tasks[SCHED_MAP][i];
        if (t->state != AWAITED) continue;
        if (s->now >= t->until)
            revoke(s, t);
        else
            s->grace_end = min_u64(s->grace_end, t->until);
    }
}

/* A driver that was frozen heard nobody meanwhile: that time is no silence of the workers'. */
static void forgive_own_sleep(struct sched *s, uint64_t now)
{
    uint64_t gap = now - s->now;
    if (gap < s->config.silence_ns / 2) return;
    for (size_t i = 0; i < s->workers_n; i++) s->workers[i].heard += gap;
}

uint64_t sched_deadline(const struct sched *s)
{
    uint64_t at = UINT64_MAX;
    if (s->facts.over) return at;
    for (size_t i = 0; i < s->workers_n; i++) at = min_u64(at, s->workers[i].heard + s->config.silence_ns);
    if (s->workers_n) at = min_u64(at, s->now + s->config.silence_ns / 4);
    if (s->awaited) at = min_u64(at, s->grace_end);
    if (s->config.backup_ns && s->running) at = min_u64(at, s->now + TICK_NS);
    return at;
}

size_t sched_step(struct sched *s, const struct sched_event *e, uint64_t now)
{
    s->out_n = 0;
    if (s->facts.over) return 0;
    s->steps++;
    if (now > s->now) {
        forgive_own_sleep(s, now);
        s->now = now;
    }
    handle(s, e);
    if (!s->facts.over) evict_silent(s);
    if (!s->facts.over) end_grace(s);
    if (!s->facts.over && s->done[SCHED_REDUCE] == s->config.reduces) emit(s, SCHED_FINISH, NOBODY, NULL, 0);
    if (!s->facts.over) assign_all(s);
    return s->out_n;
}
