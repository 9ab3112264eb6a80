/* task.c - running a task (task.h).
 *
 * A map task reads its split, and leaves one run file in the worker's directory. A reduce task merges its partition of
 * every map task's run file, and leaves one text file under a name of its attempt, synced, which counts for nothing
 * until the coordinator takes it.
 *
 * Failure modes: what map.c, reduce.c, collect.c and merge.c can meet, all told in the result; files of a failed
 * attempt are removed. */
#include "mr/task.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "mr/collect.h"
#include "mr/lab.h"
#include "mr/skip.h"
#include "mr/split.h"
#include "mr/util.h"

#define OUTPUT_BYTES MIB

char *mr__map_output(const char *dir, uint32_t no, uint32_t attempt)
{
    return mr__strf("%s/map-%u-%u", dir, no, attempt);
}

char *mr__reduce_output(const char *attempts, uint32_t no, uint32_t attempt)
{
    return mr__strf("%s/reduce-%u-%u", attempts, no, attempt);
}

struct running {
    const struct job *job;
    const struct programs *programs;
    const struct task *task;
    const struct task_place *at;
    struct task_result *result;
};

static void touch(void *arg)
{
    const struct running *r = arg;
    r->at->touch(r->at->arg, 0);
}

static struct program_context context_of(const struct running *r)
{
    const struct task *t = r->task;
    return (struct program_context){.job = r->job->id,
                                    .cwd = r->job->cwd,
                                    .task = t->no,
                                    .attempt = t->attempt & 0xffff, /* the rest is the epoch */
                                    .format = &r->job->format,
                                    .path = t->path,
                                    .off = t->off,
                                    .len = t->len,
                                    .counters = &r->result->counters,
                                    .touch = r->at->touch,
                                    .limit_ns = r->at->idle ? r->job->task_timeout_ns : 0,
                                    .idle = r->at->idle,
                                    .arg = r->at->arg};
}

/* ---- map ---- */

static int combine(void *arg, struct sorted *in, struct sink *out)
{
    struct running *r = arg;
    struct program_context c = context_of(r);
    return mr__program_reduce(&r->programs->combine, PROGRAM_COMBINE, &c, in, out, &r->result->why);
}

static int map_split(struct running *r, struct collect *out, struct skip *skip)
{
    const struct task *t = r->task;
    struct program_context c = context_of(r);
    struct split_reader *in = NULL;

    c.skip = skip;
    int rc = mr__split_reopen(r->at->input, t->path, t->size, t->mtime_ns, t->off, t->len, &r->job->format, &in,
                              &r->result->why);
    if (rc == 0) rc = mr__program_map(&r->programs->map, &c, in, out, &r->result->why);
    mr__split_close(in);
    return rc;
}

/* One run over the split; without `keep` only to see whether it works. */
static int map_once(struct running *r, struct skip *skip, bool keep)
{
    const struct task *t = r->task;
    const struct program *comb = &r->programs->combine;
    char *path = mr__map_output(r->at->dir, t->no, t->attempt), *name = mr__strf("map-%u-%u", t->no, t->attempt);
    struct collect_options o = {.parts = r->job->reducers,
                                .format = &r->job->format,
                                .memory = r->job->memory,
                                .dir = r->at->dir,
                                .name = name,
                                .fold = comb->fold,
                                .touch = touch,
                                .arg = r};
    uint64_t pairs = 0, bytes = 0;

    if (r->programs->combines && (comb->command || (comb->app && comb->app->combine))) o.combine = combine;
    struct collect *out = mr__collect_new(&o);
    int rc = map_split(r, out, skip);
    if (rc == 0 && keep) {
        rc = mr__collect_finish(out, path, &bytes, &pairs);
        struct slice what;
        mr__collect_error(out, &what);
        if (rc < 0 && r->result->why.n == 0) put_bytes(&r->result->why, what);
        if (rc < 0 && r->result->why.n == 0)
            mr__fmt(&r->result->why, "cannot write the map output in %s: %s", r->at->dir, err_text(rc));
    }
    r->result->counters.built_in[MR_MAP_PAIRS] = mr__collect_pairs(out);
    r->result->counters.built_in[MR_SPILLED_PAIRS] = pairs;
    if (rc < 0) unlink(path);
    mr__collect_free(out);
    free(name);
    free(path);
    return rc;
}

struct skipping {
    struct running *r;
    struct skip skip;
};

static int map_skipping(void *arg, struct task_result *result, bool keep)
{
    struct skipping *s = arg;
    struct running r = *s->r;
    r.result = result;
    return map_once(&r, &s->skip, keep);
}

static void touch_skipping(void *arg) { touch(((struct skipping *)arg)->r); }

/* In the lab's mode the run file is only a step on the way. */
static int run_lab_map(struct running *r)
{
    char *path = mr__map_output(r->at->dir, r->task->no, r->task->attempt);
    int rc = map_once(r, NULL, true);
    if (rc == 0) rc = mr__lab_spread(r->job, r->task->no, path, r->at->dir, &r->result->why);
    unlink(path);
    free(path);
    return rc;
}

static int run_map(struct running *r)
{
    struct skipping s = {.r = r};
    struct skip_options o = {.skip = &s.skip,
                             .command = r->programs->map.command != NULL,
                             .max = r->job->format.skip_bad,
                             .path = r->task->path,
                             .run = map_skipping,
                             .touch = touch_skipping,
                             .arg = &s};
    if (r->job->lab) return run_lab_map(r);
    return o.max ? mr__skip_run(&o, r->result) : map_once(r, NULL, true);
}

/* ---- reduce ---- */

struct output {
    struct sink sink;
    const struct format *format;
    int fd;
    struct buf buf;
    struct buf *why;
    uint64_t lines, bytes;
};

static void write_out(struct output *o)
{
    if (o->sink.err == 0) o->sink.err = mr__write_all(o->fd, o->buf.p, o->buf.n);
    if (o->sink.err && o->why->n == 0) mr__fmt(o->why, "cannot write the output: %s", err_text(o->sink.err));
    o->bytes += o->buf.n;
    buf_clear(&o->buf);
}

static void end_line(struct output *o)
{
    put_u8(&o->buf, '\n');
    o->lines++;
    if (o->buf.n >= OUTPUT_BYTES) write_out(o);
}

static void output_line(struct sink *s, struct slice line)
{
    struct output *o = container_of(s, struct output, sink);
    put_bytes(&o->buf, line);
    end_line(o);
}

static void output_pair(struct sink *s, struct slice key, struct slice value)
{
    struct output *o = container_of(s, struct output, sink);
    s->err = mr__format_put_line(o->format, &o->buf, key, value, "an output line \"key TAB value\"", o->why);
    if (s->err) return;
    o->buf.n--; /* the LF */
    end_line(o);
}

static void end_record(struct output *o)
{
    o->lines++;
    if (o->buf.n >= OUTPUT_BYTES) write_out(o);
}

static void output_framed(struct sink *s, struct slice key, struct slice value)
{
    struct output *o = container_of(s, struct output, sink);
    mr__format_put_pair(&o->buf, key, value);
    end_record(o);
}

static void output_raw(struct sink *s, struct slice key, struct slice value)
{
    struct output *o = container_of(s, struct output, sink);
    put_bytes(&o->buf, key);
    put_bytes(&o->buf, value);
    end_record(o);
}

static int open_output(struct running *r, const char *path, struct output *out)
{
    static void (*const pairs[])(struct sink *, struct slice, struct slice) = {
        [MR_OUT_LINES] = output_pair, [MR_OUT_PAIRS] = output_framed, [MR_OUT_RAW] = output_raw};
    const struct format *f = &r->job->format;

    *out = (struct output){.sink.pair = pairs[f->output], .format = f, .why = &r->result->why};
    if (f->output == MR_OUT_LINES) out->sink.line = output_line;
    if (f->output != MR_OUT_PAIRS) out->sink.command_line = output_line;
    out->fd = r->at->output ? dup(1) : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (out->fd >= 0) return 0;
    int rc = -errno;
    mr__fmt(&r->result->why, "cannot create the output %s: %s", path, err_text(rc));
    return rc;
}

static int close_output(struct running *r, struct output *o, int rc)
{
    if (rc == 0) write_out(o);
    if (rc == 0) rc = o->sink.err;
    if (rc == 0 && fsync(o->fd) < 0 && errno != EINVAL && errno != EROFS) {
        rc = -errno;
        mr__fmt(o->why, "cannot write the output: %s", err_text(rc));
    }
    close(o->fd);
    buf_free(&o->buf);
    r->result->counters.built_in[MR_OUTPUT_LINES] = o->lines;
    r->result->counters.built_in[MR_OUTPUT_BYTES] = o->bytes;
    return rc;
}

/* The merge broke off: whose fault is it? */
static int merge_error(struct running *r, int rc, size_t failed)
{
    if (failed == SIZE_MAX) {
        mr__fmt(&r->result->why, "cannot merge the map outputs in %s: %s", r->at->dir, err_text(rc));
        return rc;
    }
    const struct run_source *s = &r->task->sources[failed];
    buf_clear(&r->result->why);
    mr__fmt(&r->result->why, "cannot read the output of map task %u (%s): %s", (uint32_t)(s->tag >> 32), s->path,
            err_text(rc));
    r->result->outcome = TASK_STARVED;
    mr__result_lose(r->result, s->tag);
    return rc;
}

static int run_reduce(struct running *r)
{
    const struct task *t = r->task;
    struct program_context c = context_of(r);
    if (r->job->lab)
        return mr__lab_reduce(r->job, &r->programs->reduce, &c, t->no, r->at->dir, &r->result->why);
    char *path = mr__reduce_output(r->job->attempts ? r->job->attempts : "", t->no, t->attempt),
         *name = mr__strf("reduce-%u-%u", t->no, t->attempt);
    struct merge_options o = {.dir = r->at->dir,
                              .name = name,
                              .memory = r->job->memory,
                              .by_value = r->job->format.sort_values,
                              .touch = touch,
                              .arg = r};
    struct merge *in = NULL;
    struct output out;
    size_t failed;

    int rc = mr__merge_open(t->sources, t->sources_n, &o, &in, &failed);
    if (rc < 0)
        rc = merge_error(r, rc, failed);
    else if ((rc = open_output(r, path, &out)) == 0) {
        struct sorted *s = mr__merge_sorted(in);
        if (r->at->weigh) r->at->weigh(r->at->arg, mr__merge_bytes(in));
        struct heavy_watch watch;
        r->result->counters.heavy = xcalloc(1, sizeof *r->result->counters.heavy);
        mr__heavy_begin(&watch, s, r->result->counters.heavy);
        rc = mr__program_reduce(&r->programs->reduce, PROGRAM_REDUCE, &c, &watch.sorted, &out.sink, &r->result->why);
        mr__heavy_end(&watch);
        rc = close_output(r, &out, rc);
        if (s->err) rc = merge_error(r, s->err, mr__merge_failed(in));
        if (rc < 0 && !r->at->output) unlink(path);
    }
    if (in) {
        r->result->counters.built_in[MR_SHUFFLE_BYTES] = mr__merge_bytes(in);
        r->result->counters.built_in[MR_REDUCE_PAIRS] = mr__merge_records(in);
    }
    mr__merge_close(in);
    free(path);
    free(name);
    return rc;
}

void mr__task_run(const struct job *j, const struct programs *p, const struct task *t, const struct task_place *at,
                  struct task_result *out)
{
    struct running r = {j, p, t, at, out};
    *out = (struct task_result){.phase = t->phase, .no = t->no, .attempt = t->attempt};
    int rc = t->phase == SCHED_MAP ? run_map(&r) : run_reduce(&r);
    if (rc == 0) return;
    if (out->outcome == TASK_DONE) out->outcome = TASK_FAILED;
    if (out->why.n == 0) mr__fmt(&out->why, "%s", err_text(rc));
    mr__counters_free(&out->counters);
}
