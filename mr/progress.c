/* progress.c - progress.h. Everything a person reads goes to stderr; JSON events, one object a line, and the last line
 * of a job go to stdout. */
#include "mr/progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "mr/coord.h"
#include "mr/util.h"

#define TERMINAL_NS  (100 * NS_PER_MS)
#define LINES_NS     (2 * NS_PER_S)
#define BAR          24u
#define BAR_MIN      4u
#define COLUMNS      80u   /* of a terminal that does not say */
#define STDERR_SHOWN 8192u /* of a failed task's stderr, its end */

static double seconds(const struct progress *p) { return (double)(mr__now() - p->began) / (double)NS_PER_S; }

static double rate(const struct progress *p)
{
    double s = seconds(p);
    return s > 0 ? (double)p->bytes / s / 1e6 : 0;
}

static const char *s_of(uint64_t n) { return n == 1 ? "" : "s"; }

static void put_event(struct buf *b, const struct progress *p, const char *event)
{
    mr__fmt(b, "{\"event\": \"%s\", \"seconds\": %.3f", event, seconds(p));
    if (p->stages) mr__fmt(b, ", \"stage\": %u, \"stages\": %u", p->stage, p->stages);
}

static void print(int fd, struct buf *b)
{
    (void)!mr__write_all(fd, b->p, b->n);
    buf_free(b);
}

/* "job 2 of 3", in a chain. */
static void put_stage(struct buf *b, const struct progress *p, const char *behind)
{
    if (p->stages) mr__fmt(b, "job %u of %u%s", p->stage, p->stages, behind);
}

/* It cannot clear a line. */
static bool is_dumb(void)
{
    const char *term = getenv("TERM");
    return term && strcmp(term, "dumb") == 0;
}

void mr__progress_begin(struct progress *p, const struct run *r)
{
    const struct plan *plan = &r->plan;
    struct buf b = {0};
    *p = (struct progress){.json = r->o->json,
                           .terminal = !r->o->json && isatty(2) && !is_dumb(),
                           .output = r->o->output,
                           .directory = r->place.path,
                           .phase = "",
                           .stage = r->chain ? r->chain->no : 0,
                           .stages = r->chain ? r->chain->of : 0,
                           .maps = (uint32_t)plan->splits_n,
                           .reduces = r->job.reducers,
                           .total = plan->bytes,
                           .began = mr__now()};
    p->printed = p->began;
    if (p->json) {
        put_event(&b, p, "start");
        mr__fmt(&b, ", \"job\": \"%s\", \"files\": %zu, \"bytes\": %llu, \"map_tasks\": %u, \"reduce_tasks\": %u",
                r->job.id, plan->files_n, (unsigned long long)plan->bytes, p->maps, p->reduces);
        mr__fmt(&b, ", \"directory\": ");
        mr__json_str(&b, slice_str(p->directory));
        mr__fmt(&b, "}\n");
        print(1, &b);
    } else {
        put_stage(&b, p, ", ");
        mr__fmt(&b, "job %s: %zu file%s, %.1f MB, %u map and %u reduce task%s; %s\n", r->job.id, plan->files_n,
                s_of(plan->files_n), (double)plan->bytes / 1e6, p->maps, p->reduces, s_of(p->reduces), p->directory);
        print(2, &b);
    }
}

void mr__progress_bytes(struct progress *p, uint64_t bytes) { p->bytes += bytes; }

uint64_t mr__progress_next(const struct progress *p) { return p->printed + (p->terminal ? TERMINAL_NS : LINES_NS); }

/* ---- how far, how fast, how long ---- */

static void look_at_phase(struct progress *p, const struct sched_facts *f)
{
    const char *phase = f->maps_done + f->awaited < p->maps || (f->maps_done < p->maps && f->reduces_done < p->reduces)
                            ? "map"
                        : f->reduces_done < p->reduces ? "reduce"
                                                       : "publish";
    if (strcmp(phase, p->phase) == 0) return;
    p->phase = phase;
    p->phase_began = mr__now();
    p->phase_bytes = p->bytes;
    p->phase_done = strcmp(phase, "map") == 0 ? f->maps_done : f->reduces_done;
}

/* Of what this phase had to do when it began; 0 to 1. */
static double fraction(const struct progress *p, const struct sched_facts *f)
{
    bool map = strcmp(p->phase, "map") == 0;
    uint32_t done = map ? f->maps_done : f->reduces_done, all = map ? p->maps : p->reduces;
    double by_tasks = all > p->phase_done && done > p->phase_done
                          ? (double)(done - p->phase_done) / (double)(all - p->phase_done)
                          : 0;
    /* Bytes are the finer measure, where all of them are still to be read. */
    double by_bytes =
        map && p->total && p->phase_done == 0 ? (double)(p->bytes - p->phase_bytes) / (double)p->total : 0;
    double x = by_bytes > by_tasks && by_bytes < 1 ? by_bytes : by_tasks;
    return x;
}

/* Of this phase; negative: not known. */
static double seconds_left(const struct progress *p, const struct sched_facts *f)
{
    double x = fraction(p, f), s = (double)(mr__now() - p->phase_began) / (double)NS_PER_S;
    return x > 0 ? s * (1 - x) / x : -1;
}

static void put_left(struct buf *b, const struct progress *p, const struct sched_facts *f)
{
    double left = seconds_left(p, f);
    if (left < 0) return;
    mr__fmt(b, left < 90 ? ", %.0f s left of %s" : ", %.0f min left of %s", left < 90 ? left : left / 60, p->phase);
}

void mr__progress_text(struct progress *p, const struct sched_facts *f, bool json, struct buf *b)
{
    look_at_phase(p, f);
    if (!json) {
        put_stage(b, p, ", ");
        mr__fmt(b, "%s: map %u/%u, reduce %u/%u, %u worker%s, %.1f MB/s, %.1f s", p->phase, f->maps_done, p->maps,
                f->reduces_done, p->reduces, f->workers, s_of(f->workers), rate(p), seconds(p));
        put_left(b, p, f);
        mr__fmt(b, "\n");
        return;
    }
    put_event(b, p, "progress");
    mr__fmt(b,
            ", \"phase\": \"%s\", \"maps_done\": %u, \"map_tasks\": %u, \"reduces_done\": %u, \"reduce_tasks\": %u, "
            "\"workers\": %u, \"running\": %u, \"bytes\": %llu, \"total_bytes\": %llu, \"bytes_per_second\": %.0f, "
            "\"failed_attempts\": %u, \"lost_attempts\": %u, \"backup_attempts\": %u, \"seconds_left\": ",
            p->phase, f->maps_done, p->maps, f->reduces_done, p->reduces, f->workers, f->busy,
            (unsigned long long)p->bytes, (unsigned long long)p->total, rate(p) * 1e6, f->failed, f->lost, f->backups);
    double left = seconds_left(p, f);
    if (left < 0)
        mr__fmt(b, "null}\n");
    else
        mr__fmt(b, "%.1f}\n", left);
}

/* Asked each time: windows change. */
static uint32_t columns(void)
{
    struct winsize w = {0};
    return ioctl(2, TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : COLUMNS;
}

/* Of all tasks, 0 to 1. */
static double tasks_done(const struct progress *p, const struct sched_facts *f)
{
    double all = p->maps + p->reduces, done = f->maps_done + f->reduces_done;
    if (strcmp(p->phase, "map") == 0 && p->total && fraction(p, f) > (double)f->maps_done / (double)p->maps)
        done = fraction(p, f) * p->maps;
    return done / all;
}

/* One line that does not touch the last column, where terminals differ: words as far as they fit, and a bar if there is
 * room. */
static void put_bar(struct buf *b, const struct progress *p, const struct sched_facts *f)
{
    struct buf words = {0};
    put_stage(&words, p, "  ");
    mr__fmt(&words, "map %u/%u  reduce %u/%u  %u worker%s  %.0f MB/s", f->maps_done, p->maps, f->reduces_done,
            p->reduces, f->workers, s_of(f->workers), rate(p));
    put_left(&words, p, f);

    uint32_t room = columns() - 1, n = (uint32_t)min_u64(words.n, room);
    uint32_t bar = room >= n + 3 + BAR_MIN ? (uint32_t)min_u64(BAR, room - n - 3) : 0;
    uint32_t filled = (uint32_t)(tasks_done(p, f) * bar);
    mr__fmt(b, "\r");
    if (bar) put_u8(b, '[');
    for (uint32_t i = 0; i < bar; i++) put_u8(b, i < filled ? '#' : '.');
    if (bar) mr__fmt(b, "] ");
    put_bytes(b, slice_of(words.p, n));
    mr__fmt(b, "\033[K");
    buf_free(&words);
}

void mr__progress_show(struct progress *p, const struct sched_facts *f)
{
    struct buf b = {0};
    uint32_t done = f->maps_done + f->reduces_done;

    if (mr__now() < mr__progress_next(p)) return;
    p->printed = mr__now();
    if (!p->terminal && done == p->last_done && p->shown) return;
    p->shown = true;
    p->last_done = done;
    look_at_phase(p, f);
    if (p->terminal)
        put_bar(&b, p, f);
    else
        mr__progress_text(p, f, p->json, &b);

    print(p->json ? 1 : 2, &b);
}

static void clear_bar(struct progress *p)
{
    if (p->terminal && p->shown) (void)!mr__write_all(2, "\r\033[K", 4);
}

void mr__progress_note(struct progress *p, const char *format, ...)
{
    struct buf text = {0}, b = {0};
    char line[1000];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (p->json) {
        put_event(&b, p, "note");
        mr__fmt(&b, ", \"text\": ");
        mr__json_str(&b, slice_str(line));
        mr__fmt(&b, "}\n");
        print(1, &b);
    } else {
        clear_bar(p);
        mr__fmt(&text, "%s\n", line);
        print(2, &text);
    }
}

void mr__progress_done(struct progress *p, const struct counters *c, const struct sched_facts *f)
{
    struct buf b = {0};
    const uint64_t *n = c->built_in;

    clear_bar(p);
    p->bytes = n[MR_INPUT_BYTES];
    if (p->json) {
        put_event(&b, p, p->stages ? "stage_done" : "done");
        mr__fmt(&b, ", \"output\": ");
        mr__json_str(&b, slice_str(p->output));
        mr__fmt(&b,
                ", \"parts\": %u, \"lines\": %llu, \"bytes\": %llu, \"skipped_records\": %llu, \"failed_attempts\": "
                "%u, \"lost_attempts\": %u}\n",
                p->reduces, (unsigned long long)n[MR_OUTPUT_LINES], (unsigned long long)n[MR_OUTPUT_BYTES],
                (unsigned long long)n[MR_SKIPPED], f->failed, f->lost);
    } else {
        put_stage(&b, p, "");
        mr__fmt(&b, "%s: %u part%s, %llu line%s, %.1f MB; %.1f MB read in %.2f s (%.1f MB/s)",
                p->stages ? "" : p->output, p->reduces, s_of(p->reduces), (unsigned long long)n[MR_OUTPUT_LINES],
                s_of(n[MR_OUTPUT_LINES]), (double)n[MR_OUTPUT_BYTES] / 1e6, (double)n[MR_INPUT_BYTES] / 1e6, seconds(p),
                rate(p));
        if (n[MR_SKIPPED]) /* of a chain only the last job's list stays */
            mr__fmt(&b, "; %llu bad record%s left out%s", (unsigned long long)n[MR_SKIPPED], s_of(n[MR_SKIPPED]),
                    p->stage == p->stages ? ", see _skipped" : "");
        if (f->failed || f->lost)
            mr__fmt(&b, "; %u attempt%s failed, %u %s lost with workers", f->failed, s_of(f->failed), f->lost,
                    f->lost == 1 ? "was" : "were");
        mr__fmt(&b, "\n");
    }
    print(1, &b);
}

void mr__progress_failed(struct progress *p, struct slice why)
{
    struct buf b = {0};
    clear_bar(p);
    if (p->json) {
        put_event(&b, p, "failed");
        mr__fmt(&b, ", \"why\": ");
        mr__json_str(&b, why);
        mr__fmt(&b, ", \"directory\": ");
        mr__json_str(&b, slice_str(p->directory));
        mr__fmt(&b, "}\n");
        print(1, &b);
    }
    mr__say("%.*s", (int)why.n, why.p);
}

static void put_member(struct buf *b, const char *name, const char *value)
{
    if (!value) return;
    mr__fmt(b, ", \"%s\": ", name);
    mr__json_str(b, slice_str(value));
}

void mr__progress_plan(const struct job *j, const struct in_chain *chain, const struct plan *plan, const char *output)
{
    struct progress p = {.stage = chain ? chain->no : 0, .stages = chain ? chain->of : 0, .began = mr__now()};
    struct buf b = {0};

    put_event(&b, &p, "plan");
    put_member(&b, "map", j->map);
    put_member(&b, "combine", j->combine);
    put_member(&b, "reduce", j->reduce);
    put_member(&b, "output", output);
    mr__fmt(&b, ", \"reduce_tasks\": %u, \"memory\": %llu", j->reducers, (unsigned long long)j->memory);
    if (plan)
        mr__fmt(&b, ", \"files\": %zu, \"bytes\": %llu, \"map_tasks\": %zu, \"splits\": [", plan->files_n,
                (unsigned long long)plan->bytes, plan->splits_n);
    for (size_t i = 0; plan && i < plan->splits_n; i++) {
        const struct split *s = &plan->splits[i];
        mr__fmt(&b, "%s{\"file\": ", i ? ", " : "");
        mr__json_str(&b, slice_str(plan->files[s->file].path));
        mr__fmt(&b, ", \"offset\": %llu, \"bytes\": %llu}", (unsigned long long)s->off, (unsigned long long)s->len);
    }
    mr__fmt(&b, "%s}\n", plan ? "]" : "");
    print(1, &b);
}

void mr__progress_refused(bool json, struct slice why)
{
    struct buf b = {0};
    if (json) {
        mr__fmt(&b, "{\"event\": \"failed\", \"seconds\": 0.000, \"why\": ");
        mr__json_str(&b, why);
        mr__fmt(&b, "}\n");
        print(1, &b);
    }
    mr__say("%.*s", (int)why.n, why.p);
}

/* ---- the report of a failed task ---- */

static void put_stderr(struct buf *b, struct slice err)
{
    if (err.n > STDERR_SHOWN) err = slice_sub(err, err.n - STDERR_SHOWN, STDERR_SHOWN);
    if (err.n == 0) {
        mr__fmt(b, "\n  it wrote nothing to stderr");
        return;
    }
    mr__fmt(b, "\n  its stderr ends with:");
    while (err.n) {
        const uint8_t *lf = memchr(err.p, '\n', err.n);
        size_t n = lf ? (size_t)(lf - err.p) : err.n;
        mr__fmt(b, "\n    | ");
        put_bytes(b, slice_sub(err, 0, n));
        n += lf != NULL;
        err = slice_sub(err, n, err.n - n);
    }
}

/* Names in the job's command line are of where it was started. */
static void put_way(struct buf *b, const char *cwd)
{
    char *here = getcwd(NULL, 0);
    if (cwd && (!here || strcmp(here, cwd) != 0)) {
        mr__fmt(b, "cd ");
        mr__quote(b, cwd);
        mr__fmt(b, " && ");
    }
    free(here);
}

void mr__report(struct buf *b, const struct mr_options *o, const struct job *j, const struct plan *plan,
                const struct task_result *r, uint32_t attempts)
{
    bool map = r->phase == SCHED_MAP;
    mr__fmt(b, "%s task %u failed", map ? "map" : "reduce", r->no);
    if (attempts > 1) mr__fmt(b, " %u times, the last time", attempts);
    mr__fmt(b, ": %.*s", (int)r->why.n, r->why.p);
    mr__fmt(b, "\n  program: %s", map ? j->map : j->reduce);
    if (map && r->no < plan->splits_n) {
        const struct split *s = &plan->splits[r->no];
        mr__fmt(b, "\n  input:   %s, %llu bytes from byte %llu", plan->files[s->file].path, (unsigned long long)s->len,
                (unsigned long long)s->off);
    } else {
        mr__fmt(b, "\n  input:   partition %u of %u of the map output", r->no, j->reducers);
    }
    if (!o->local) put_stderr(b, buf_slice(&r->err));
    if (!o->rerun) return;
    mr__fmt(b, "\n  to run just this task, here and now:\n    ");
    put_way(b, j->cwd);
    mr__quote(b, program_invocation_name);
    mr__fmt(b, " mr task --only %s:%u %s", map ? "map" : "reduce", r->no, o->rerun);
}
