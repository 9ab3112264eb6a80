/* lab_run.c - a job of the lab: from its options to a struct job, in one process, and its clean-up (lab.h). */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mr/lab.h"
#include "mr/split.h"
#include "mr/util.h"
#include "mr/workdir.h"

#define REDUCERS 3u

static int check_name(const char *job, struct buf *why)
{
    if (job && *job && !strchr(job, '/')) return 0;
    mr__fmt(why, "a job of the lab wants a name without '/' (--job)");
    return -EINVAL;
}

static int check_directory(const char *dir, struct buf *why)
{
    struct stat st;
    int rc = stat(dir, &st) < 0 ? -errno : S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
    if (rc < 0) mr__fmt(why, "cannot use the directory %s: %s", dir, err_text(rc));
    return rc;
}

/* What names files: enough for the clean-up. */
static int name_job(const struct mr_lab_options *o, struct job *j, struct buf *why)
{
    int rc = check_name(o->job, why);
    if (rc < 0) return rc;
    j->lab = mr__strf("%s", o->job);
    j->lab_maps = (uint32_t)o->inputs_n;
    j->attempts = mr__absolute(o->dir ? o->dir : ".");
    j->reducers = o->reducers ? o->reducers : REDUCERS;
    return check_directory(j->attempts, why);
}

int mr__lab_begin(const struct mr_lab_options *o, struct lab *l)
{
    struct mr_options job = {
        .map = o->app, .reduce = o->app, .combine = "none", .input_format = MR_IN_FILES, .partition = MR_PARTITION_HASH,
        .reducers = o->reducers ? o->reducers : REDUCERS};

    signal(SIGPIPE, SIG_IGN);
    *l = (struct lab){.o = o, .lock = -1};
    int rc = mr__job_make(&job, &l->job, &l->why);
    if (rc == 0) rc = name_job(o, &l->job, &l->why);
    if (rc == 0 && o->inputs_n == 0) {
        mr__fmt(&l->why, "a job of the lab wants input files");
        rc = -EINVAL;
    }
    if (rc == 0) rc = mr__workdir_make(o->workdir, &l->dir, &l->lock, &l->why);
    return rc;
}

void mr__lab_map_task(const struct lab *l, uint32_t m, struct task *out)
{
    struct stat st = {0};
    *out = (struct task){.phase = SCHED_MAP, .no = m, .path = mr__absolute(l->o->inputs[m])};
    if (stat(out->path, &st) < 0) return; /* reading it will say so */
    out->size = out->len = (uint64_t)st.st_size;
    out->mtime_ns = mr__mtime(&st);
}

int mr__lab_end(struct lab *l, int rc)
{
    if (rc < 0) mr__say("%.*s", (int)l->why.n, l->why.p);
    if (l->dir) mr__workdir_remove(l->dir);
    if (l->lock >= 0) close(l->lock);
    free(l->dir);
    mr__job_free(&l->job);
    buf_free(&l->why);
    return rc < 0 ? MR_EXIT_FAILED : MR_EXIT_OK;
}

/* ---- one task after the other ---- */

static void no_touch(void *arg, uint64_t bytes) {}

/* Takes over what the task holds. */
static int run_task(struct lab *l, const struct programs *p, struct task *t)
{
    struct task_place at = {.dir = l->dir, .touch = no_touch};
    struct task_result result;

    mr__task_run(&l->job, p, t, &at, &result);
    int rc = result.outcome == TASK_DONE ? 0 : -ECANCELED;
    if (rc < 0)
        mr__fmt(&l->why, "%s task %u failed: %.*s", t->phase == SCHED_MAP ? "map" : "reduce", t->no,
                (int)result.why.n, result.why.p);
    mr__result_free(&result);
    mr__task_free(t);
    return rc;
}

int mr_lab_sequential(const struct mr_lab_options *o)
{
    struct programs p = {0};
    struct task t;
    struct lab l;
    int rc = mr__lab_begin(o, &l);

    if (rc == 0) rc = mr__programs_open(&l.job, &p, &l.why);
    for (uint32_t m = 0; m < o->inputs_n && rc == 0; m++) {
        mr__lab_map_task(&l, m, &t);
        rc = run_task(&l, &p, &t);
    }
    for (uint32_t r = 0; r < l.job.reducers && rc == 0; r++) {
        t = (struct task){.phase = SCHED_REDUCE, .no = r};
        rc = run_task(&l, &p, &t);
    }
    if (rc == 0) rc = mr__lab_merge(&l.job, l.dir, &l.why);
    if (rc == 0) printf("tasks %zu\n", o->inputs_n + l.job.reducers);
    mr__programs_close(&p);
    return mr__lab_end(&l, rc);
}

/* ---- clean-up ---- */

/* Takes over `path`. */
static int drop(char *path, struct buf *why)
{
    int rc = unlink(path) < 0 ? -errno : 0;
    if (rc < 0) mr__fmt(why, "cannot remove %s: %s", path, err_text(rc));
    free(path);
    return rc;
}

int mr_lab_clean(const struct mr_lab_options *o)
{
    struct lab l = {.o = o, .lock = -1};
    int rc = name_job(o, &l.job, &l.why);

    for (uint32_t m = 0; rc == 0 && m < l.job.lab_maps; m++)
        for (uint32_t r = 0; rc == 0 && r < l.job.reducers; r++) rc = drop(mr__lab_map_file(&l.job, m, r), &l.why);
    for (uint32_t r = 0; rc == 0 && r < l.job.reducers; r++) rc = drop(mr__lab_result_file(&l.job, r), &l.why);
    if (rc == 0) rc = drop(mr__lab_merged_file(&l.job), &l.why);
    for (size_t i = 0; rc == 0 && i < o->inputs_n; i++) rc = drop(mr__strf("%s", o->inputs[i]), &l.why);
    return mr__lab_end(&l, rc);
}
