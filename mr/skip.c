/* skip.c - the search for bad records (skip.h).
 *
 * Each run of the map task is a child process (guard.h). One that fails by itself at no record, or on an empty
 * beginning of its input, is no matter of records: the task fails as it would have without this. */
#include "mr/skip.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "mr/guard.h"
#include "mr/task.h"
#include "mr/util.h"

bool mr__skipped(const struct skip *s, uint64_t off)
{
    for (size_t i = 0; i < s->n; i++)
        if (s->v[i].off == off) return true;
    return false;
}

#define LIST_BYTES     MIB /* of a task's records that are listed */
#define DONE_AFTER_ALL 2 /* it did not happen again, and the map output is there */

struct attempt {
    const struct skip_options *o;
    const struct task_result *task;
    bool keep;
};

/* In the child. What it found out goes before the result. */
static int in_child(void *arg, struct buf *answer)
{
    struct attempt *a = arg;
    struct task_result r = {.phase = a->task->phase, .no = a->task->no, .attempt = a->task->attempt};
    a->o->skip->records = 0;
    int rc = a->o->run(a->o->arg, &r, a->keep);
    put_u64(answer, a->o->skip->records);
    put_u64(answer, a->o->skip->last.off);
    put_u64(answer, a->o->skip->last.len);
    mr__result_encode(answer, &r);
    return rc;
}

/* One run; *crashed: it ended otherwise than by returning. */
static int run_once(const struct skip_options *o, struct task_result *r, bool keep, bool *crashed)
{
    struct attempt a = {o, r, keep};
    struct buf answer = {0};
    struct task_result got;

    if (o->skip->mark) *o->skip->mark = (struct skip_mark){0};
    int rc = mr__guard(in_child, &a, &answer, crashed);
    o->touch(o->arg);
    buf_clear(&r->why);
    if (*crashed || answer.n < 24) {
        put_bytes(&r->why, buf_slice(&answer));
    } else if (mr__result_decode(slice_sub(buf_slice(&answer), 24, answer.n - 24), &got) == 0) {
        o->skip->records = load_u64(answer.p);
        o->skip->last = (struct skip_range){load_u64(answer.p + 8), load_u64(answer.p + 16)};
        put_bytes(&r->why, buf_slice(&got.why));
        mr__counters_free(&r->counters);
        r->counters = got.counters;
        got.counters = (struct counters){0};
        mr__result_free(&got);
    } else {
        rc = -EBADMSG;
    }
    buf_free(&answer);
    return rc;
}

/* Did the program itself fail, rather than its surroundings? Who was killed from outside did not (guard.h). */
static bool is_programs(int rc, bool crashed) { return crashed || rc == -ECHILD || rc == -ECANCELED; }

/* The record at which the application was when it failed. 1: found, 0: there is none. */
static int find_marked(const struct skip_options *o, struct task_result *r, struct skip_range *bad)
{
    bool crashed;
    int rc;

    if (!o->skip->one_by_one) {
        o->skip->one_by_one = true;
        rc = run_once(o, r, true, &crashed);
        if (!is_programs(rc, crashed)) return rc < 0 ? rc : DONE_AFTER_ALL;
    }
    if (!o->skip->mark->within) return 0;
    *bad = o->skip->mark->at;
    return 1;
}

/* 1: it fails on the first n records, 0: it does not, or an error. */
static int fails_on(const struct skip_options *o, struct task_result *r, uint64_t n)
{
    bool crashed;
    o->skip->limit = n;
    int rc = run_once(o, r, false, &crashed);
    o->skip->limit = UINT64_MAX;
    return is_programs(rc, crashed) ? 1 : rc;
}

/* Halves between a beginning of the input that works and one that fails: the last record of the shortest that fails is
 * the bad one. It is tried once more, so that a failure by chance costs no record. */
static int find_by_halving(const struct skip_options *o, struct task_result *r, struct skip_range *bad)
{
    uint64_t good = 0, fails = o->skip->records;
    int rc = fails_on(o, r, 0);

    if (rc != 0 || fails == 0) return rc == 1 ? 0 : rc;
    while (fails - good > 1) {
        uint64_t n = good + (fails - good) / 2;
        if ((rc = fails_on(o, r, n)) < 0) return rc;
        if (rc)
            fails = n;
        else
            good = n;
    }
    rc = fails_on(o, r, fails);
    *bad = o->skip->last;
    return rc;
}

static void add(const struct skip_options *o, struct buf *lines, struct skip_range bad, struct slice why)
{
    const uint8_t *lf = why.n ? memchr(why.p, '\n', why.n) : NULL;
    o->skip->v = xrealloc(o->skip->v, (o->skip->n + 1) * sizeof *o->skip->v);
    o->skip->v[o->skip->n++] = bad;
    if (lines->n > LIST_BYTES) return;
    mr__fmt(lines, "%s\t%llu\t%llu\t%.*s\n", o->path, (unsigned long long)bad.off, (unsigned long long)bad.len,
            (int)min_u64(lf ? (size_t)(lf - why.p) : why.n, 300), why.p);
    if (lines->n > LIST_BYTES) mr__fmt(lines, "%s\t\t\tothers of this task are not listed\n", o->path);
}

static int search(const struct skip_options *o, struct task_result *r, struct buf *lines)
{
    struct skip_range bad = {0};
    bool crashed;
    int rc;

    while (is_programs(rc = run_once(o, r, true, &crashed), crashed)) {
        struct buf why = {0};
        put_bytes(&why, buf_slice(&r->why));
        int found = o->command ? find_by_halving(o, r, &bad) : find_marked(o, r, &bad);
        if (found == 1 && o->skip->n < o->max) {
            add(o, lines, bad, buf_slice(&why));
            buf_free(&why);
            continue;
        }
        if (found >= 0 && found != DONE_AFTER_ALL) {
            buf_clear(&r->why);
            if (found == 1)
                mr__fmt(&r->why, "%u bad records were left out, and there is another at byte %llu of %s: ", o->max,
                        (unsigned long long)bad.off, o->path);
            put_bytes(&r->why, buf_slice(&why));
        }
        buf_free(&why);
        return found == DONE_AFTER_ALL ? 0 : found < 0 ? found : rc;
    }
    return rc;
}

int mr__skip_run(const struct skip_options *o, struct task_result *r)
{
    struct buf lines = {0};
    size_t size = sizeof *o->skip->mark;

    o->skip->limit = UINT64_MAX;
    o->skip->mark = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (o->skip->mark == MAP_FAILED) return -errno;
    int rc = search(o, r, &lines);
    munmap(o->skip->mark, size);
    if (rc == 0) {
        buf_clear(&r->why);
        r->counters.built_in[MR_SKIPPED] = o->skip->n;
        put_bytes(&r->counters.skipped, buf_slice(&lines));
    }
    buf_free(&lines);
    free(o->skip->v);
    return rc;
}
