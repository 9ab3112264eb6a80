/* local.c - a job in this one process: the same scheduler with one worker, which is a function call; the same bytes
 * come out.
 *
 * What the programs write to stderr goes straight to ours. SIGINT and SIGTERM wait until the next sign of progress, or
 * until we wait for a command, so that nothing is left behind; a program of the user's in the foreground gets them
 * itself, at once. Commands that hang are killed; an application that does hangs us, too: the second signal ends us as
 * it would have without us. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "mr/coord.h"
#include "mr/output.h"
#include "mr/util.h"

struct local {
    struct run *run;
    struct programs programs;
    struct sched *sched;
    uint32_t *held_attempt;   /* by map task */
    struct sched_effect next; /* the assignment to carry out */
    bool assigned, over;
    int code;
    uint64_t beaten;
    struct task_result *result; /* while a step is about it */
};

static volatile sig_atomic_t asked; /* to stop, by this signal */

static void on_stop(int signum)
{
    asked = signum;
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
}

static void stop_if_asked(struct run *r)
{
    if (!asked) return;
    mr__fmt(&r->why, "stopped by %s", asked == SIGINT ? "Ctrl-C" : "SIGTERM");
    mr__run_leave(r);
}

/* Shows that this job has a coordinator, now and then; if it has another one now, this one ends. */
static void beat(struct local *l)
{
    uint64_t now = mr__now();
    if (now - l->beaten < l->run->job.beat_ns) return;
    l->beaten = now;
    int rc = mr__jobdir_beat(&l->run->place);
    if (rc == 0) return;
    mr__run_lost(l->run, rc);
    mr__run_leave(l->run);
}

static void idle(void *arg)
{
    struct local *l = arg;
    struct sched_facts f = sched_facts(l->sched);
    stop_if_asked(l->run);
    beat(l);
    mr__progress_show(&l->run->progress, &f);
}

static void touch(void *arg, uint64_t bytes)
{
    struct local *l = arg;
    mr__progress_bytes(&l->run->progress, bytes);
    idle(arg);
}

static void finish(struct local *l)
{
    struct sched_facts f = sched_facts(l->sched);
    struct counters all = {0};

    l->over = true;
    int rc = mr__run_publish(l->run, &l->run->why);
    if (rc == -ESTALE) mr__run_lost(l->run, rc);
    if (rc < 0) return;
    l->code = MR_EXIT_OK;
    mr__run_sum(l->run, &all);
    mr__progress_done(&l->run->progress, &all, &f);
    mr__counters_free(&all);
    mr__output_clean(l->run->place.path);
}

static void give_up(struct local *l, const struct sched_effect *e)
{
    uint32_t attempts = l->run->o->attempts ? l->run->o->attempts : MR_ATTEMPTS_DEFAULT;
    l->over = true;
    check(l->result);
    if (mr__jobdir_mine(&l->run->place) == -ESTALE) {
        mr__run_lost(l->run, -ESTALE);
        return;
    }
    mr__report(&l->run->why, l->run->o, &l->run->job, &l->run->plan, l->result, attempts);
}

/* Map outputs are in our own directory and end with us: only reduce tasks are worth a word in the journal. */
static void commit(struct local *l, const struct sched_effect *e)
{
    struct buf b = {0};
    int rc = 0;
    if (e->phase == SCHED_REDUCE) {
        mr__run_journal(&b, e->phase, e->task, e->attempt, "", &l->result->counters);
        rc = mr__jobdir_append(&l->run->place, buf_slice(&b));
        buf_free(&b);
    }
    mr__run_commit(l->run, e->phase, e->task, e->attempt, &l->result->counters);
    if (rc == 0) return;
    mr__run_lost(l->run, rc);
    l->over = true;
}

static void step(struct local *l, struct sched_event e)
{
    size_t n = sched_step(l->sched, &e, mr__now());
    for (size_t i = 0; i < n; i++) {
        const struct sched_effect *f = &sched_effects(l->sched)[i];
        switch (f->kind) {
        case SCHED_ASSIGN:
            l->next = *f;
            l->assigned = true;
            break;
        case SCHED_COMMIT:
            if (f->phase == SCHED_MAP) l->held_attempt[f->task] = f->attempt;
            commit(l, f);
            break;
        case SCHED_FINISH:
            if (!l->over) finish(l);
            break;
        case SCHED_GIVE_UP:
            give_up(l, f);
            break;
        case SCHED_CANCEL:
        case SCHED_EVICT:
        case SCHED_REVOKE:
            break;
        }
    }
}

static void make_task(struct local *l, const struct sched_effect *e, struct task *t)
{
    struct run *r = l->run;
    if (e->phase == SCHED_MAP) {
        mr__run_map_task(r, e->task, e->attempt, t);
        return;
    }
    *t = (struct task){.phase = SCHED_REDUCE, .no = e->task, .attempt = e->attempt, .sources_n = r->plan.splits_n};
    t->sources = xcalloc(t->sources_n + 1, sizeof *t->sources);
    for (uint32_t m = 0; m < t->sources_n; m++)
        t->sources[m] = (struct run_source){mr__map_output(r->dir, m, l->held_attempt[m]), r->job.reducers, e->task,
                                            mr__output_tag(m, l->held_attempt[m])};
}

static void run_assigned(struct local *l)
{
    static const enum sched_event_kind kinds[] = {SCHED_DONE, SCHED_FAILED, SCHED_STARVED, SCHED_STARVED};
    struct task_place at = {.dir = l->run->dir, .touch = touch, .idle = idle, .arg = l};
    struct sched_effect e = l->next;
    struct task_result result;
    struct task t;

    l->assigned = false;
    make_task(l, &e, &t);
    mr__task_run(&l->run->job, &l->programs, &t, &at, &result);
    stop_if_asked(l->run);
    beat(l);
    l->result = &result;
    if (result.outcome != TASK_DONE)
        mr__progress_note(&l->run->progress, "%s task %u, attempt %u: %.*s", e.phase == SCHED_MAP ? "map" : "reduce",
                          e.task, (e.attempt & 0xffff) + 1, (int)min_u64(result.why.n, 500), result.why.p);
    for (size_t i = 0; i < result.lost_n; i++)
        step(l, (struct sched_event){.kind = SCHED_LOST,
                                     .phase = e.phase,
                                     .worker = 1,
                                     .task = e.task,
                                     .attempt = e.attempt,
                                     .map = (uint32_t)(result.lost[i] >> 32),
                                     .output = (uint32_t)result.lost[i]});
    step(l, (struct sched_event){
                .kind = kinds[result.outcome], .phase = e.phase, .worker = 1, .task = e.task, .attempt = e.attempt});
    l->result = NULL;
    mr__result_free(&result);
    mr__task_free(&t);
}

/* They are looked for where the job was started: it may be gone on with from elsewhere. */
static int open_programs(struct run *r, struct programs *out)
{
    int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    (void)!chdir(r->job.cwd ? r->job.cwd : "/");
    int rc = mr__programs_open(&r->job, out, &r->why);
    if (here >= 0) (void)!fchdir(here);
    if (here >= 0) close(here);
    return rc;
}

int mr__run_local(struct run *r)
{
    struct local l = {.run = r, .code = MR_EXIT_FAILED};
    struct sigaction stop = {.sa_handler = on_stop, .sa_flags = SA_RESTART}, old_int, old_term;

    if (open_programs(r, &l.programs) == 0) {
        sigemptyset(&stop.sa_mask);
        sigaction(SIGINT, &stop, &old_int);
        sigaction(SIGTERM, &stop, &old_term);
        l.held_attempt = xcalloc(r->plan.splits_n + 1, sizeof *l.held_attempt);
        l.sched = mr__run_sched(r, mr__now());
        step(&l, (struct sched_event){.kind = SCHED_JOINED, .worker = 1});
        while (!l.over) {
            check(l.assigned);
            run_assigned(&l);
        }
        sigaction(SIGINT, &old_int, NULL);
        sigaction(SIGTERM, &old_term, NULL);
        if (asked) raise(asked); /* too late for this job, but perhaps not for the next of its chain */
    }
    mr__programs_close(&l.programs);
    sched_free(l.sched);
    free(l.held_attempt);
    return l.code;
}
