/* run.c - a job from its options to its output (mr_run(), mr_task()); what coord.c and local.c share.
 *
 * Happy path: options checked, inputs planned, output and working directories made, tasks run, output published, all
 * else removed. Everything that can be said to be wrong before a task runs is said then. */
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "mr/coord.h"
#include "mr/shuffle.h"
#include "mr/util.h"
#include "mr/workdir.h"

#define SPLIT_DEFAULT (16ull * MIB)
#define LOSSES        10u /* for each attempt that a task has of its own */
#define BACKUP_NS     (15 * NS_PER_S)

static void run_free(struct run *r)
{
    for (size_t i = 0; r->of_maps && i < r->plan.splits_n; i++) mr__counters_free(&r->of_maps[i]);
    for (uint32_t i = 0; r->of_reduces && i < r->job.reducers; i++) mr__counters_free(&r->of_reduces[i]);
    free(r->of_maps);
    free(r->of_reduces);
    free(r->reduced_by);
    if (r->output.path) mr__output_end(&r->output);
    if (r->dir) mr__rmtree(r->dir);
    if (r->lock >= 0) close(r->lock);
    free(r->dir);
    mr__plan_free(&r->plan);
    mr__job_free(&r->job);
    buf_free(&r->why);
}

/* Job, plan and working directory. */
static int prepare(struct run *r, const struct mr_options *o)
{
    signal(SIGPIPE, SIG_IGN); /* programs may stop reading, and so may whoever reads our stdout */
    *r = (struct run){.o = o, .lock = -1};
    int rc = mr__job_make(o, &r->job, &r->whole, &r->why);
    if (rc == 0 && o->inputs_n == 0) {
        mr__fmt(&r->why, "a job needs --input");
        rc = -EINVAL;
    }
    if (rc == 0)
        rc = mr__plan(o->inputs, o->inputs_n, o->split_bytes ? o->split_bytes : SPLIT_DEFAULT, r->whole, &r->plan,
                      &r->why);
    if (rc == 0) rc = mr__workdir_make(o->workdir, &r->dir, &r->lock, &r->why);
    if (rc < 0) return rc;
    r->of_maps = xcalloc(r->plan.splits_n + 1, sizeof *r->of_maps);
    r->of_reduces = xcalloc(r->job.reducers, sizeof *r->of_reduces);
    r->reduced_by = xcalloc(r->job.reducers, sizeof *r->reduced_by);
    return 0;
}

struct sched *mr__run_sched(const struct run *r, uint64_t now)
{
    uint32_t attempts = r->o->attempts ? r->o->attempts : MR_ATTEMPTS_DEFAULT;
    struct sched_config c = {.maps = (uint32_t)r->plan.splits_n,
                             .reduces = r->job.reducers,
                             .attempts = attempts,
                             .losses = LOSSES * attempts,
                             .silence_ns = 8 * r->job.beat_ns,
                             .backup_ns = BACKUP_NS};
    return sched_new(&c, now);
}

void mr__run_map_task(const struct run *r, uint32_t no, uint32_t attempt, struct task *out)
{
    const struct split *s = &r->plan.splits[no];
    const struct input_file *f = &r->plan.files[s->file];
    *out = (struct task){.phase = SCHED_MAP,
                         .no = no,
                         .attempt = attempt,
                         .path = mr__strf("%s", f->path),
                         .size = f->size,
                         .mtime_ns = f->mtime_ns,
                         .off = s->off,
                         .len = s->len,
                         .whole = r->whole};
}

void mr__run_commit(struct run *r, enum sched_phase phase, uint32_t task, uint32_t attempt, struct counters *c)
{
    struct counters *at = phase == SCHED_MAP ? &r->of_maps[task] : &r->of_reduces[task];
    mr__counters_free(at);
    *at = *c;
    *c = (struct counters){0};
    if (phase == SCHED_REDUCE) r->reduced_by[task] = attempt;
}

void mr__run_sum(const struct run *r, struct counters *all)
{
    for (size_t i = 0; i < r->plan.splits_n; i++) mr__counters_merge(all, &r->of_maps[i]);
    for (uint32_t i = 0; i < r->job.reducers; i++) mr__counters_merge(all, &r->of_reduces[i]);
}

int mr__run_publish(struct run *r, struct buf *why)
{
    struct counters all = {0};
    mr__run_sum(r, &all);
    int rc = mr__output_publish(&r->output, r->reduced_by, r->job.reducers, &all, why);
    mr__counters_free(&all);
    return rc;
}

int mr_run(const struct mr_options *o)
{
    struct run r;
    int code = MR_EXIT_FAILED, rc = prepare(&r, o);

    if (rc == 0 && !o->output) {
        mr__fmt(&r.why, "a job needs --output");
        rc = -EINVAL;
    }
    if (rc == 0) rc = mr__output_begin(o->output, r.job.id, o->replace, &r.output, &r.why);
    if (rc < 0) {
        mr__say("%.*s", (int)r.why.n, r.why.p);
        run_free(&r);
        return MR_EXIT_FAILED;
    }
    r.job.attempts = mr__strf("%s", r.output.attempts);
    mr__progress_begin(&r.progress, &r.job, &r.plan, o);
    code = o->local ? mr__run_local(&r) : mr__coordinate(&r);
    if (code != MR_EXIT_OK) mr__progress_failed(&r.progress, buf_slice(&r.why));
    run_free(&r);
    return code;
}

/* ---- one task alone ---- */

static void no_touch(void *arg, uint64_t bytes) {}

static int parse_only(const struct run *r, const char *only, enum sched_phase *phase, uint32_t *no, struct buf *why)
{
    int64_t n = -1;
    const char *colon = only ? strchr(only, ':') : NULL;
    bool map = colon && strncmp(only, "map:", 4) == 0, reduce = colon && strncmp(only, "reduce:", 7) == 0;

    if ((!map && !reduce) || !mr__number(slice_str(colon + 1), &n) || n < 0) {
        mr__fmt(why, "--only is map:N or reduce:N, not '%s'", only ? only : "");
        return -EINVAL;
    }
    size_t tasks = map ? r->plan.splits_n : r->job.reducers;
    if ((uint64_t)n >= tasks) {
        mr__fmt(why, "this job has %zu %s tasks, so there is no '%s'", tasks, map ? "map" : "reduce", only);
        return -EINVAL;
    }
    *phase = map ? SCHED_MAP : SCHED_REDUCE;
    *no = (uint32_t)n;
    return 0;
}

/* Runs a task; a failure goes to r->why as a report. */
static int run_task(struct run *r, const struct programs *p, const struct task *t, const char *output)
{
    struct task_place at = {.dir = r->dir, .output = output, .touch = no_touch};
    struct task_result result;

    mr__task_run(&r->job, p, t, &at, &result);
    int rc = result.outcome == TASK_DONE ? 0 : -ECANCELED;
    if (rc < 0) mr__report(&r->why, r->o, &r->job, &r->plan, &result, 1);
    mr__result_free(&result);
    return rc;
}

static int run_map(struct run *r, const struct programs *p, uint32_t no)
{
    struct task t;
    mr__run_map_task(r, no, 0, &t);
    int rc = run_task(r, p, &t, NULL);
    mr__task_free(&t);
    return rc;
}

static void write_pair(struct buf *b, struct slice key, struct slice value)
{
    put_bytes(b, key);
    put_u8(b, '\t');
    put_bytes(b, value);
    put_u8(b, '\n');
    if (b->n < MIB) return;
    (void)!mr__write_all(1, b->p, b->n);
    buf_clear(b);
}

/* The pairs of a map output, partition by partition. */
static int print_pairs(struct run *r, uint32_t no)
{
    char *path = mr__map_output(r->dir, no, 0);
    struct merge_options o = {.dir = r->dir, .name = "print", .memory = r->job.memory};
    struct buf b = {0};
    int rc = 0;

    for (uint32_t part = 0; part < r->job.reducers && rc == 0; part++) {
        struct run_source s = {.path = path, .parts = r->job.reducers, .part = part};
        struct slice key, value;
        struct merge *m;
        size_t failed;
        if ((rc = mr__merge_open(&s, 1, &o, &m, &failed)) < 0) break;
        struct sorted *in = mr__merge_sorted(m);
        while (in->next(in, &key, &value)) write_pair(&b, key, value);
        rc = in->err;
        mr__merge_close(m);
    }
    if (rc == 0)
        rc = mr__write_all(1, b.p, b.n);
    else
        mr__fmt(&r->why, "cannot read the map output: %s", err_text(rc));
    buf_free(&b);
    free(path);
    return rc;
}

/* A reduce task needs what every map task has for it. */
static int run_reduce(struct run *r, const struct programs *p, uint32_t no)
{
    struct task t = {.phase = SCHED_REDUCE, .no = no};
    int rc = 0;

    t.sources = xcalloc(r->plan.splits_n + 1, sizeof *t.sources);
    for (uint32_t m = 0; m < r->plan.splits_n && rc == 0; m++) {
        rc = run_map(r, p, m);
        t.sources[t.sources_n++] =
            (struct run_source){mr__map_output(r->dir, m, 0), r->job.reducers, no, mr__output_tag(m, 0)};
    }
    if (rc == 0) rc = run_task(r, p, &t, "-");
    mr__task_free(&t);
    return rc;
}

int mr_task(const struct mr_options *o)
{
    struct mr_options alone = *o;
    struct programs p = {0};
    enum sched_phase phase;
    struct run r;
    uint32_t no;

    alone.local = true; /* its stderr goes where ours goes */
    alone.rerun = NULL;
    int rc = prepare(&r, &alone);
    if (rc == 0) rc = parse_only(&r, o->only, &phase, &no, &r.why);
    if (rc == 0) rc = mr__programs_open(&r.job, &p, &r.why);
    if (rc == 0 && phase == SCHED_MAP) {
        rc = run_map(&r, &p, no);
        if (rc == 0) rc = print_pairs(&r, no);
    } else if (rc == 0) {
        rc = run_reduce(&r, &p, no);
    }
    if (rc < 0) mr__say("%.*s", (int)r.why.n, r.why.p);
    mr__programs_close(&p);
    run_free(&r);
    return rc < 0 ? MR_EXIT_FAILED : MR_EXIT_OK;
}
