/* run.c - a job from its options to its output (mr_run(), mr_task()); what coord.c, local.c and chain.c share.
 *
 * Happy path: options checked, inputs planned, job's and working directories made, tasks run, output published, all
 * else removed. Everything that can be said to be wrong before a task runs is said then. A job that is gone on with
 * (resume.c) begins with what its directory says instead. */
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mr/chain.h"
#include "mr/coord.h"
#include "mr/journal.h"
#include "mr/resume.h"
#include "mr/sample.h"
#include "mr/shuffle.h"
#include "mr/util.h"
#include "mr/workdir.h"

#define SPLIT_DEFAULT (16ull * MIB)
#define LOSSES        10u /* for each attempt that a task has of its own */
#define BACKUP_NS     (15 * NS_PER_S)
#define RETURN_NS     (3 * NS_PER_S) /* for workers to find a new coordinator */

static void run_free(struct run *r)
{
    for (size_t i = 0; r->of_maps && i < r->plan.splits_n; i++) mr__counters_free(&r->of_maps[i]);
    for (uint32_t i = 0; r->of_reduces && i < r->job.reducers; i++) mr__counters_free(&r->of_reduces[i]);
    free(r->of_maps);
    free(r->of_reduces);
    free(r->reduced_by);
    free(r->restored[SCHED_MAP]);
    free(r->restored[SCHED_REDUCE]);
    free(r->rerun);
    mr__jobdir_close(&r->place);
    if (r->dir) mr__workdir_remove(r->dir);
    if (r->lock >= 0) close(r->lock);
    free(r->dir);
    mr__plan_free(&r->plan);
    mr__job_free(&r->job);
    buf_free(&r->why);
}

/* What depends on the plan, and the working directory. */
static int equip(struct run *r)
{
    int rc = mr__workdir_make(r->o->workdir, &r->dir, &r->lock, &r->why);
    if (rc < 0) return rc;
    r->of_maps = xcalloc(r->plan.splits_n + 1, sizeof *r->of_maps);
    r->of_reduces = xcalloc(r->job.reducers, sizeof *r->of_reduces);
    r->reduced_by = xcalloc(r->job.reducers, sizeof *r->reduced_by);
    return 0;
}

/* Job and plan. */
static int prepare(struct run *r, const struct mr_options *o, const struct in_chain *chain)
{
    signal(SIGPIPE, SIG_IGN); /* programs may stop reading, and so may whoever reads our stdout */
    *r = (struct run){.o = o, .chain = chain, .lock = -1, .place = {.journal = -1, .beat = -1}, .ours = true};
    if (o->resume) return 0;
    int rc = 0;
    if (chain) {
        r->job = *chain->job;
        *chain->job = (struct job){0};
    } else {
        rc = mr__job_make(o, &r->job, &r->why);
    }
    if (rc == 0 && o->inputs_n == 0) {
        mr__fmt(&r->why, "a job needs --input");
        rc = -EINVAL;
    }
    if (rc == 0)
        rc = mr__plan(o->inputs, o->inputs_n, o->split_bytes ? o->split_bytes : SPLIT_DEFAULT, &r->job.format, &r->plan,
                      &r->why);
    return rc;
}

static uint32_t attempts_of(const struct run *r) { return r->o->attempts ? r->o->attempts : MR_ATTEMPTS_DEFAULT; }

struct sched *mr__run_sched(const struct run *r, uint64_t now)
{
    struct sched_config c = {.maps = (uint32_t)r->plan.splits_n,
                             .reduces = r->job.reducers,
                             .attempts = attempts_of(r),
                             .losses = LOSSES * attempts_of(r),
                             .silence_ns = 8 * r->job.beat_ns,
                             .backup_ns = BACKUP_NS,
                             .first_attempt = r->place.epoch << 16,
                             .grace_ns = 4 * r->job.beat_ns + RETURN_NS};
    struct sched *s = sched_new(&c, now);
    for (uint32_t i = 0; i < c.maps; i++) {
        sched_weigh(s, SCHED_MAP, i, MR_TASK_WEIGHT + r->plan.splits[i].len);
        if (r->restored[SCHED_MAP] && r->restored[SCHED_MAP][i].done)
            sched_restore(s, SCHED_MAP, i, r->restored[SCHED_MAP][i].attempt);
    }
    for (uint32_t i = 0; i < c.reduces; i++)
        if (r->restored[SCHED_REDUCE] && r->restored[SCHED_REDUCE][i].done)
            sched_restore(s, SCHED_REDUCE, i, r->restored[SCHED_REDUCE][i].attempt);
    return s;
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
                         .len = s->len};
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

void mr__run_journal(struct buf *b, enum sched_phase phase, uint32_t task, uint32_t attempt, const char *holder,
                     const struct counters *c)
{
    struct buf counters = {0};
    mr__counters_encode(&counters, c);
    struct journal_entry e = {.kind = JOURNAL_DONE,
                              .phase = phase,
                              .task = task,
                              .attempt = attempt,
                              .holder = slice_str(holder),
                              .counters = buf_slice(&counters)};
    mr__journal_put(b, &e);
    buf_free(&counters);
}

bool mr__run_has_part(const struct run *r, uint32_t no, uint32_t attempt, uint64_t bytes)
{
    char *path = mr__reduce_output(r->place.attempts, no, attempt);
    struct stat st;
    bool there = stat(path, &st) == 0 && (uint64_t)st.st_size == bytes;
    free(path);
    return there;
}

/* No task has left out more than --skip-bad allows, but all together may have. */
static int check_skipped(const struct run *r, const struct counters *all, struct buf *why)
{
    uint64_t n = all->built_in[MR_SKIPPED];
    if (n <= r->job.format.skip_bad) return 0;
    mr__fmt(why, "%llu bad records were left out, and --skip-bad allows %u; they are (file, offset, bytes, why):\n%.*s",
            (unsigned long long)n, r->job.format.skip_bad, (int)min_u64(all->skipped.n, 2000), all->skipped.p);
    return -ECANCELED;
}

int mr__run_publish(struct run *r, struct buf *why)
{
    struct counters all = {0};
    mr__run_sum(r, &all);
    int rc = check_skipped(r, &all, why);
    if (rc == 0) rc = mr__output_publish(&r->place, r->o->replace, r->reduced_by, r->job.reducers, &all, why);
    mr__counters_free(&all);
    return rc;
}

bool mr__run_lost(struct run *r, int err)
{
    /* The chain's directory tells what happened to all of it. */
    const struct jobdir *above = r->place.above;
    const struct jobdir *d = above && mr__jobdir_mine(above) == -ESTALE ? above : &r->place;
    struct job_look look = {0};
    bool over = false;

    if (err != -ESTALE) {
        mr__fmt(&r->why, "cannot write to the job's directory %s: %s", r->place.path, err_text(err));
        return false;
    }
    r->ours = false;
    int rc = mr__jobdir_look(d->path, &look);
    if (rc == -ENOENT || (rc == 0 && look.state == JOB_CANCELLED)) {
        mr__fmt(&r->why, "the job was cancelled");
        r->cancelled = d->path;
        over = true;
    } else if (rc == 0 && look.state == JOB_DONE) {
        mr__fmt(&r->why, "another coordinator has taken this job over, and finished it");
        over = true;
    } else {
        mr__fmt(&r->why, "another coordinator has taken this job over (epoch %u; this one had %u)", look.epoch,
                d->epoch);
    }
    mr__look_free(&look);
    return over;
}

/* The job comes into being. */
static int begin(struct run *r, const struct mr_options *o)
{
    struct buf text = {0};
    char *output = mr__absolute(o->output), *path = mr__jobdir_path(o->output, r->job.id, &r->why);
    int rc = path ? 0 : -EINVAL;

    for (size_t n = strlen(output); n > 1 && output[n - 1] == '/';) output[--n] = 0;
    if (rc == 0) rc = mr__output_check(output, o->replace, &r->why);
    if (rc == 0) rc = equip(r);
    if (rc == 0) rc = mr__sample_cuts(&r->job, &r->plan, r->dir, &r->why);
    if (rc == 0) {
        free(r->job.attempts);
        r->job.attempts = mr__strf("%s/attempts", path);
        struct jobfile f = {.job = r->job,
                            .plan = r->plan,
                            .rerun = (char *)o->rerun,
                            .attempts = attempts_of(r),
                            .replace = o->replace};
        mr__jobfile_encode(&text, &f);
        rc = mr__jobdir_create(path, output, buf_slice(&text), o->workdir, &r->place, &r->why);
    }
    buf_free(&text);
    free(output);
    free(path);
    return rc;
}

static int dry_run(const struct run *r)
{
    struct buf b = {0};
    const struct plan *p = &r->plan;
    if (r->o->json) {
        mr__progress_plan(&r->job, r->chain, p, r->o->output);
        return MR_EXIT_OK;
    }
    mr__fmt(&b, "map:      %s\n", r->job.map);
    if (r->job.combine) mr__fmt(&b, "combine:  %s\n", r->job.combine);
    mr__fmt(&b, "reduce:   %s\ninput:    %zu files, %.1f MB\n", r->job.reduce, p->files_n, (double)p->bytes / 1e6);
    for (size_t i = 0; i < p->splits_n; i++)
        mr__fmt(&b, "map %zu:    %s, %llu bytes from byte %llu\n", i, p->files[p->splits[i].file].path,
                (unsigned long long)p->splits[i].len, (unsigned long long)p->splits[i].off);
    mr__fmt(&b, "%zu map tasks, %u reduce tasks; %llu MiB of memory a task; output: %s\n", p->splits_n, r->job.reducers,
            (unsigned long long)(r->job.memory / MIB), r->o->output);
    int rc = mr__write_all(1, b.p, b.n);
    buf_free(&b);
    return rc < 0 ? MR_EXIT_FAILED : MR_EXIT_OK;
}

/* The job is not done, and not given away: how it can be gone on with. */
static void say_how_to_go_on(const struct run *r)
{
    if (!r->place.path || !r->ours) return;
    const char *path = r->chain ? r->chain->place->path : r->place.path;
    struct buf b = {0};
    mr__fmt(&b, "what it has done is kept in %s\n  to go on:   ", path);
    mr__quote(&b, program_invocation_name);
    mr__fmt(&b, " mr run --resume ");
    mr__quote(&b, path);
    mr__fmt(&b, "\n  to drop it: ");
    mr__quote(&b, program_invocation_name);
    mr__fmt(&b, " mr cancel ");
    mr__quote(&b, path);
    if (r->o->workdir) {
        mr__fmt(&b, " --workdir ");
        mr__quote(&b, r->o->workdir);
    }
    mr__say("%.*s", (int)b.n, b.p);
    buf_free(&b);
}

/* For `mr status`; a coordinator does it by its scribe. */
static void keep_failure(const struct run *r)
{
    if (!r->o->local || !r->place.path || !r->ours) return;
    mr__write_file(r->place.own, "failed", buf_slice(&r->why));
    if (r->place.above) mr__write_file(r->place.above->own, "failed", buf_slice(&r->why));
}

void mr__run_leave(struct run *r)
{
    mr__progress_failed(&r->progress, buf_slice(&r->why));
    keep_failure(r);
    say_how_to_go_on(r);
    if (r->cancelled) mr__rmtree(r->cancelled);
    mr__workdir_remove(r->dir);
    _Exit(MR_EXIT_FAILED);
}

static int refused(struct run *r)
{
    mr__progress_refused(r->o->json, buf_slice(&r->why));
    run_free(r);
    return MR_EXIT_FAILED;
}

int mr__run(const struct mr_options *o, const struct in_chain *chain)
{
    struct run r;
    int code, rc = prepare(&r, o, chain);

    if (rc == 0 && !o->output && !o->resume) {
        mr__fmt(&r.why, "a job needs --output");
        rc = -EINVAL;
    }
    if (rc == 0 && o->dry_run) {
        code = mr__output_check(o->output, o->replace, &r.why) < 0 ? MR_EXIT_FAILED : dry_run(&r);
        if (code) return refused(&r);
        run_free(&r);
        return code;
    }
    if (rc == 0 && !o->resume) {
        rc = begin(&r, o);
    } else if (rc == 0) {
        rc = mr__resume_take(&r);
        if (rc == 0) rc = equip(&r);
        if (rc == 0) rc = mr__resume_replay(&r);
    }
    if (rc == MR_RESUME_DONE) {
        run_free(&r);
        return MR_EXIT_OK;
    }
    if (rc < 0) return refused(&r);
    if (chain) r.place.above = chain->place;
    mr__progress_begin(&r.progress, &r);
    if (r.plan.uncut_n)
        mr__progress_note(
            &r.progress,
            "%zu input files are larger than a split, but cannot be cut (compressed, or pairs): each is one "
            "task",
            r.plan.uncut_n);
    code = r.o->local ? mr__run_local(&r) : mr__coordinate(&r);
    if (code != MR_EXIT_OK) {
        mr__progress_failed(&r.progress, buf_slice(&r.why));
        keep_failure(&r);
        say_how_to_go_on(&r);
    }
    if (r.cancelled) mr__rmtree(r.cancelled); /* what we wrote while it was removed */
    run_free(&r);
    return code;
}

int mr_run(const struct mr_options *o)
{
    int code;
    return o->resume && mr__chain_resume(o, &code) ? code : mr__run(o, NULL);
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
    int rc = prepare(&r, &alone, NULL);
    if (rc == 0) rc = equip(&r);
    if (rc == 0) rc = mr__sample_cuts(&r.job, &r.plan, r.dir, &r.why);
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
