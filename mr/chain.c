/* chain.c - jobs one after the other (mr_chain(), chain.h). To everybody else a chain is a job: it has a job's
 * directory with a token (jobdir.h), is taken over, published and cancelled like one, and its tasks are jobs.
 *
 *   .OUT.mr-ID/job             what the jobs are (chainfile.h)
 *   .OUT.mr-ID/stage-1 ...     their outputs, each as whole as any output; it goes when the next one is there
 *   .OUT.mr-ID/.stage-1.mr-ID  their directories
 *
 * Happy path: for each job look whether the token is still ours, run the job, remove what it has read; then the last
 * one's output becomes the chain's.
 *
 * A coordinator that takes the chain over begins behind the last stage-I that is there, with the job for stage-(I+1)
 * that lives in the directory, or with a new one. One that was frozen between two looks at the token may still bring
 * one job to its end when it wakes up. That job's output appears under a name that is free only if its successor has
 * not come so far, and then it is what it would have made, or has gone past it, and then nobody looks at it: never
 * beyond the last stage that is there.
 *
 * Failure modes: those of jobs. */
#include "mr/chain.h"

#include <stdlib.h>
#include <unistd.h>

#include "mr/chainfile.h"
#include "mr/coord.h"
#include "mr/resume.h"
#include "mr/util.h"

#define JOBFILE_MAX (1024u * MIB)

struct chain {
    const struct mr_options *how; /* it is run: workers, addresses, --local, --json */
    struct chainfile file;
    struct jobdir place;
    uint64_t began;
    struct buf why;
};

static char *stage_path(const char *dir, size_t i) { return mr__strf("%s/stage-%zu", dir, i + 1); }

static void chain_free(struct chain *c)
{
    mr__chainfile_free(&c->file);
    mr__jobdir_close(&c->place);
    buf_free(&c->why);
}

static int failed(struct chain *c)
{
    mr__progress_refused(c->how->json, buf_slice(&c->why));
    return MR_EXIT_FAILED;
}

/* ---- one job of it ---- */

/* The stages whose output is there, or was. */
static uint32_t stages_done(const char *dir, uint32_t n)
{
    bool there = false;
    for (; n > 0 && !there; n -= !there) {
        char *path = stage_path(dir, n - 1);
        there = access(path, F_OK) == 0;
        free(path);
    }
    return n;
}

/* The job that an earlier coordinator has begun, if it lives. */
static char *living_job(const char *output)
{
    struct buf why = {0};
    struct job_look look = {0};
    char *path = mr__jobdir_find(output, &why);
    if (path && (mr__jobdir_look(path, &look) < 0 || look.state != JOB_LIVE)) {
        free(path);
        path = NULL;
    }
    mr__look_free(&look);
    buf_free(&why);
    return path;
}

static int run_stage(struct chain *c, uint32_t i)
{
    struct stage *s = &c->file.v[i];
    char *in = i ? stage_path(c->place.path, i - 1) : NULL, *out = stage_path(c->place.path, i);
    char *begun = living_job(out);
    struct buf rerun = {0};
    struct mr_options o = *c->how;
    struct in_chain chain = {begun ? NULL : &s->job, &c->place, i + 1, c->file.n};

    mr__fmt(&rerun, "%s", s->rerun ? s->rerun : "");
    if (in) {
        mr__fmt(&rerun, " --input ");
        mr__quote(&rerun, in);
    }
    put_u8(&rerun, 0);
    o.resume = begun;
    o.standby = o.replace = false;
    o.inputs = in ? (const char *const *)&in : (const char *const *)s->inputs;
    o.inputs_n = in ? 1 : s->inputs_n;
    o.output = out;
    o.rerun = (const char *)rerun.p;
    o.split_bytes = s->split_bytes;
    if (!c->how->resume || !o.attempts) o.attempts = s->attempts;
    /* Its own each time: an earlier coordinator may be frozen while it makes one. */
    free(s->job.id);
    s->job.id = mr__job_id();
    int code = mr__run(&o, &chain);
    if (code == MR_EXIT_OK && in) mr__rmtree(in);
    buf_free(&rerun);
    free(begun);
    free(in);
    free(out);
    return code;
}

/* ---- all of it ---- */

static void say_published(const struct chain *c)
{
    struct buf b = {0};
    if (c->how->json) {
        mr__fmt(&b, "{\"event\": \"done\", \"seconds\": %.3f, \"stages\": %u, \"output\": ",
                (double)(mr__now() - c->began) / (double)NS_PER_S, c->file.n);
        mr__json_str(&b, slice_str(c->place.output));
        mr__fmt(&b, "}\n");
    } else {
        mr__fmt(&b, "%s: made by %u jobs\n", c->place.output, c->file.n);
    }
    (void)!mr__write_all(1, b.p, b.n);
    buf_free(&b);
}

static int publish(struct chain *c)
{
    char *last = stage_path(c->place.path, c->file.n - 1);
    int rc = mr__output_publish_all(&c->place, c->file.replace, last, &c->why);
    free(last);
    if (rc == -ESTALE) mr__fmt(&c->why, "another coordinator has taken this job over, or it was cancelled");
    if (rc < 0) return failed(c);
    mr__output_clean(c->place.path);
    say_published(c);
    return MR_EXIT_OK;
}

static int run_stages(struct chain *c)
{
    int code = MR_EXIT_OK;
    for (uint32_t i = stages_done(c->place.path, c->file.n); i < c->file.n && code == MR_EXIT_OK; i++) {
        int rc = mr__jobdir_beat(&c->place);
        if (rc < 0) {
            mr__fmt(&c->why,
                    rc == -ESTALE ? "another coordinator has taken this job over, or it was cancelled: %s"
                                  : "cannot write to the chain's directory %s",
                    c->place.path);
            return failed(c);
        }
        code = run_stage(c, i);
    }
    return code == MR_EXIT_OK ? publish(c) : code;
}

/* ---- how it begins ---- */

static int make_stage(const struct mr_options *o, bool first, struct stage *s, struct buf *why)
{
    if (first && o->inputs_n == 0) {
        mr__fmt(why, "a job needs --input");
        return -EINVAL;
    }
    s->split_bytes = o->split_bytes;
    s->attempts = o->attempts;
    s->rerun = o->rerun ? mr__strf("%s", o->rerun) : NULL;
    s->inputs = xcalloc(o->inputs_n + 1, sizeof *s->inputs);
    for (size_t i = 0; first && i < o->inputs_n; i++) s->inputs[s->inputs_n++] = mr__absolute(o->inputs[i]);
    return mr__job_make(o, &s->job, why);
}

/* Everything that can be said to be wrong before hours of work is said then. */
static int make_stages(struct chain *c, const struct mr_options *v, size_t n)
{
    int rc = mr__output_check(v[n - 1].output, v[n - 1].replace, &c->why);
    c->file = (struct chainfile){.v = xcalloc(n, sizeof *c->file.v), .n = (uint32_t)n, .replace = v[n - 1].replace};
    for (size_t i = 0; i < n && rc == 0; i++) rc = make_stage(&v[i], i == 0, &c->file.v[i], &c->why);
    return rc;
}

/* The first job as a job of its own; of the others only the programs are known. */
static int dry_run(struct chain *c, const struct mr_options *v, size_t n)
{
    struct mr_options first = v[0];
    struct in_chain at = {.job = &c->file.v[0].job, .place = &c->place, .no = 1, .of = (uint32_t)n};
    first.dry_run = true;
    int code = mr__run(&first, &at);
    for (size_t i = 1; i < n && code == MR_EXIT_OK; i++) {
        struct buf b = {0};
        at.no++;
        if (v[0].json) {
            mr__progress_plan(&c->file.v[i].job, &at, NULL, i + 1 == n ? v[i].output : NULL);
            continue;
        }
        mr__fmt(&b, "then:\nmap:      %s\n", v[i].map);
        if (v[i].combine) mr__fmt(&b, "combine:  %s\n", v[i].combine);
        mr__fmt(&b, "reduce:   %s, %u reduce tasks\n", v[i].reduce, v[i].reducers ? v[i].reducers : 1);
        if (mr__write_all(1, b.p, b.n) < 0) code = MR_EXIT_FAILED;
        buf_free(&b);
    }
    return code;
}

static int begin(struct chain *c, const struct mr_options *v, size_t n)
{
    struct buf text = {0};
    const struct mr_options *last = &v[n - 1];
    char *id = mr__job_id(), *output = mr__absolute(last->output), *path = mr__jobdir_path(last->output, id, &c->why);
    int rc = path ? 0 : -EINVAL;

    for (size_t i = strlen(output); i > 1 && output[i - 1] == '/';) output[--i] = 0;
    if (rc == 0) rc = make_stages(c, v, n);
    if (rc == 0) {
        for (size_t i = 0; i < n; i++) c->file.v[i].job.attempts = mr__strf("%s/attempts", path);
        mr__chainfile_encode(&text, &c->file);
        rc = mr__jobdir_create(path, output, buf_slice(&text), last->workdir, &c->place, &c->why);
    }
    buf_free(&text);
    free(output);
    free(path);
    free(id);
    return rc;
}

/* If its first job was refused before it began, there is nothing to go on with. */
static void drop_if_unbegun(const struct chain *c)
{
    struct buf why = {0};
    char *out = stage_path(c->place.path, 0), *job = mr__jobdir_find(out, &why);
    if (!job) mr__jobdir_abolish(c->place.path, c->place.epoch);
    buf_free(&why);
    free(job);
    free(out);
}

int mr_chain(const struct mr_options *v, size_t n)
{
    if (n == 1) return mr_run(v);
    check(n > 1 && n <= MR_STAGES_MAX);
    struct chain c = {.how = v, .place = {.journal = -1, .beat = -1}, .began = mr__now()};
    bool dry = false;
    for (size_t i = 0; i < n; i++) dry = dry || v[i].dry_run;
    int code, rc = dry ? make_stages(&c, v, n) : begin(&c, v, n);
    if (rc < 0)
        code = failed(&c);
    else
        code = dry ? dry_run(&c, v, n) : run_stages(&c);
    if (rc == 0 && !dry && code != MR_EXIT_OK) drop_if_unbegun(&c);
    chain_free(&c);
    return code;
}

/* ---- how it is gone on with ---- */

/* The directory may have another name here than where the chain began. */
static void adopt(struct chain *c, const char *path)
{
    char *from = mr__job_home(&c->file.v[0].job);
    mr__repath_in(&c->place.output, from, path);
    for (uint32_t i = 0; i < c->file.n; i++) {
        struct stage *s = &c->file.v[i];
        mr__repath_in(&s->job.cwd, from, path);
        for (uint32_t k = 0; k < s->inputs_n; k++) mr__repath_in(&s->inputs[k], from, path);
    }
    free(from);
}

/* What an earlier coordinator was about to remove when it died. */
static void clean_job(void *arg, const char *path)
{
    struct job_look look;
    if (mr__jobdir_look(path, &look) < 0) return;
    if (look.state == JOB_DONE) mr__output_clean(path);
    mr__look_free(&look);
}

static int take_and_run(struct chain *c, const char *path)
{
    int rc = mr__resume_turn(path, c->how->standby, c->file.v[0].job.beat_ns, &c->place, &c->why);
    if (rc == -EALREADY) {
        mr__resume_say_done(path);
        return MR_EXIT_OK;
    }
    if (rc < 0) return failed(c);
    adopt(c, path);
    c->file.replace |= c->how->replace;
    mr__jobdir_each(path, clean_job, NULL);
    mr__say("going on with the chain %s in epoch %u: %u of %u jobs are done", mr__jobdir_id(path), c->place.epoch,
            stages_done(path, c->file.n), c->file.n);
    return run_stages(c);
}

/* False also where it cannot be read: what is wrong is said as of a job's. */
static bool read_description(const char *path, struct chainfile *f)
{
    char *name = mr__strf("%s/job", path);
    struct buf b = {0};
    bool is = mr__read_file(name, JOBFILE_MAX, &b) == 0 && mr__chainfile_decode(buf_slice(&b), f) == 0;
    buf_free(&b);
    free(name);
    return is;
}

bool mr__chain_resume(const struct mr_options *o, int *code)
{
    struct chain c = {.how = o, .place = {.journal = -1, .beat = -1}, .began = mr__now()};
    char *path = mr__jobdir_find(o->resume, &c.why);
    bool is = path && read_description(path, &c.file);
    if (is) *code = take_and_run(&c, path);
    chain_free(&c);
    free(path);
    return is;
}

char *mr__chain_job(const char *path)
{
    struct chainfile f = {0};
    char *job = NULL;
    if (read_description(path, &f)) {
        char *output = stage_path(path, stages_done(path, f.n));
        job = living_job(output);
        free(output);
    }
    mr__chainfile_free(&f);
    return job;
}
