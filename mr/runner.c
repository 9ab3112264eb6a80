/* runner.c - a worker's executor process (worker.h, executor.c): started when there is a task, kept for the next.
 *
 * Happy path: job and task go in by its stdin; touches and the result come back by its stdout; the last 64 KiB of its
 * stderr, which the user's programs share, are kept for the case of failure.
 *
 * Failure modes: it cannot be started, it dies (its signal is the task's failure), it shows no progress for the job's
 * task timeout (it is killed, with all processes of its group, as is the executor of a cancelled task). */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "mr/msg.h"
#include "mr/util.h"
#include "mr/worker.h"

#define READ_BYTES (64u * 1024)
#define READS_MAX  64

struct process {
    struct runner *runner;
    struct io_child *child;
    pid_t pid; /* and its group's number */
    int in, out, err;
    struct io_watch *out_watch, *err_watch;
    struct buf inbox, tail;
};

struct runner {
    struct runner_options o;
    struct process *process; /* NULL: none */
    bool busy;
    enum sched_phase phase; /* of the task at hand */
    uint32_t no, attempt;
    struct timer timer; /* no progress */
};

static struct clock *clock_of(struct runner *x) { return io_clock(x->o.loop); }

struct runner *mr__runner_new(const struct runner_options *o)
{
    struct runner *x = xcalloc(1, sizeof *x);
    x->o = *o;
    x->timer.arg = x;
    return x;
}

bool mr__runner_busy(const struct runner *x) { return x->busy; }

bool mr__runner_runs(const struct runner *x, enum sched_phase phase, uint32_t no, uint32_t attempt)
{
    return x->busy && x->phase == phase && x->no == no && x->attempt == attempt;
}

static void arm(struct runner *x)
{
    clock_arm(clock_of(x), &x->timer, clock_now(clock_of(x)) + x->o.job->task_timeout_ns);
}

/* Reads what there is now, within reason: who writes without end must not stop the loop. False: the end, or an error.
 */
static bool read_now(int fd, struct buf *b, size_t keep)
{
    for (int i = 0; i < READS_MAX; i++) {
        buf_reserve(b, READ_BYTES);
        ssize_t n = read(fd, b->p + b->n, READ_BYTES);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 && errno == EAGAIN;
        b->n += (size_t)n;
        if (keep && b->n > 2 * keep) {
            memmove(b->p, b->p + b->n - keep, keep);
            b->n = keep;
        }
    }
    return true;
}

static void on_err(void *arg)
{
    struct process *p = arg;
    if (read_now(p->err, &p->tail, MR_STDERR_MAX)) return;
    io_watch_stop(p->err_watch);
    p->err_watch = NULL;
}

/* ---- the end of a process ---- */

static void process_free(struct process *p)
{
    if (p->out_watch) io_watch_stop(p->out_watch);
    if (p->err_watch) io_watch_stop(p->err_watch);
    if (p->in >= 0) close(p->in);
    if (p->out >= 0) close(p->out);
    if (p->err >= 0) close(p->err);
    buf_free(&p->inbox);
    buf_free(&p->tail);
    free(p);
}

/* Whatever the user's programs started and did not end. */
static void kill_group(const struct process *p)
{
    check(p->pid > 1);
    kill(-p->pid, SIGKILL);
}

static void let_go(struct runner *x)
{
    struct process *p = x->process;
    if (!p) return;
    x->process = NULL;
    kill_group(p);
    if (p->child) {
        io_child_kill(p->child, SIGKILL);
        io_child_release(p->child);
    }
    process_free(p);
}

/* ---- the end of a task ---- */

static void take_tail(struct runner *x, struct task_result *r)
{
    struct process *p = x->process;
    if (!p) return;
    if (p->err_watch) on_err(p); /* what was written before the result is there by now */
    size_t n = min_u64(p->tail.n, MR_STDERR_MAX);
    if (n) put_bytes(&r->err, slice_of(p->tail.p + p->tail.n - n, n));
}

static void tell(struct runner *x, struct task_result *r)
{
    x->busy = false;
    clock_disarm(clock_of(x), &x->timer);
    x->o.result(x->o.arg, r);
}

/* The process is gone, or of no use any more. */
static void tell_failed(struct runner *x, const char *why)
{
    struct task_result r = {.phase = x->phase, .no = x->no, .attempt = x->attempt, .outcome = TASK_FAILED};
    mr__fmt(&r.why, "%s", why);
    take_tail(x, &r);
    let_go(x);
    tell(x, &r);
}

/* ---- what comes from the process ---- */

static int take_message(struct runner *x, uint8_t type, struct slice payload)
{
    if (type == MR_EXEC_TOUCH && payload.n == 8) {
        if (!x->busy) return 0;
        arm(x);
        x->o.touch(x->o.arg, load_u64(payload.p));
        return 0;
    }
    if (type == MR_EXEC_WEIGHT && payload.n == 8) {
        if (x->busy && x->o.weigh) x->o.weigh(x->o.arg, load_u64(payload.p));
        return 0;
    }
    struct task_result r;
    if (type != MR_EXEC_RESULT || mr__result_decode(payload, &r) < 0) return -EBADMSG;
    if (!x->busy || r.phase != x->phase || r.no != x->no || r.attempt != x->attempt) {
        mr__result_free(&r);
        return -EBADMSG;
    }
    take_tail(x, &r);
    tell(x, &r);
    return 0;
}

static void take_inbox(struct process *p)
{
    size_t used = 0;
    int rc = 0;
    while (rc == 0 && p->inbox.n - used >= 5) {
        const uint8_t *at = p->inbox.p + used;
        uint32_t n = load_u32(at);
        if (n > MR_EXEC_MAX)
            rc = -EMSGSIZE;
        else if (p->inbox.n - used - 5 < n)
            break;
        else
            rc = take_message(p->runner, at[4], slice_of(at + 5, n));
        if (rc == 0) used += 5 + (size_t)n;
    }
    if (rc < 0) {
        io_child_kill(p->child, SIGKILL); /* on_exited() tells */
        used = p->inbox.n;
    }
    memmove(p->inbox.p, p->inbox.p + used, p->inbox.n - used);
    p->inbox.n -= used;
}

static void on_out(void *arg)
{
    struct process *p = arg;
    bool more = read_now(p->out, &p->inbox, 0);
    take_inbox(p);
    if (more || !p->out_watch) return;
    io_watch_stop(p->out_watch);
    p->out_watch = NULL;
}

/* ---- the process ---- */

static void on_exited(void *arg, int64_t status, int signum)
{
    struct process *p = arg;
    struct runner *x = p->runner;
    char *why;

    on_out(p); /* it may have told its result before it ended */
    if (signum)
        why = mr__strf("the process that ran the task was killed by signal %d (%s)", signum, strsignal(signum));
    else
        why = mr__strf("the process that ran the task exited with status %lld", (long long)status);
    p->child = NULL;
    if (x->busy)
        tell_failed(x, why);
    else
        let_go(x);
    free(why);
}

static int open_pipes(int to[2], int from[2], int err[2])
{
    return pipe2(to, O_CLOEXEC) < 0 || pipe2(from, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0 ? -errno : 0;
}

static int start_process(struct runner *x)
{
    static char *const argv[] = {(char *)"/proc/self/exe", (char *)"mr", (char *)"executor", NULL};
    int to[2] = {-1, -1}, from[2] = {-1, -1}, err[2] = {-1, -1};
    struct process *p = xcalloc(1, sizeof *p);
    int rc = open_pipes(to, from, err);

    *p = (struct process){.runner = x, .in = to[1], .out = from[0], .err = err[0]};
    struct io_child_options o = {.argv = argv,
                                 .stdin_fd = to[0],
                                 .stdout_fd = from[1],
                                 .stderr_fd = err[1],
                                 .detached = true,
                                 .die_with_parent = true,
                                 .exited = on_exited,
                                 .arg = p};
    if (rc == 0) rc = io_spawn(x->o.loop, &o, &p->child);
    if (to[0] >= 0) close(to[0]);
    if (from[1] >= 0) close(from[1]);
    if (err[1] >= 0) close(err[1]);
    if (rc < 0) {
        process_free(p);
        return rc;
    }
    p->pid = io_child_pid(p->child);
    fcntl(p->out, F_SETFL, O_NONBLOCK);
    fcntl(p->err, F_SETFL, O_NONBLOCK);
    p->out_watch = io_watch_readable(x->o.loop, p->out, on_out, p);
    p->err_watch = io_watch_readable(x->o.loop, p->err, on_err, p);
    x->process = p;
    return 0;
}

static int send_job(struct runner *x)
{
    struct buf b = {0};
    put_slice32(&b, slice_str(x->o.dir));
    mr__job_encode(&b, x->o.job);
    int rc = mr__exec_send(x->process->in, MR_EXEC_JOB, buf_slice(&b));
    buf_free(&b);
    return rc;
}

static void on_timeout(struct timer *t)
{
    struct runner *x = t->arg;
    char *why = mr__strf("it made no progress for %llu s and was killed (--task-timeout)",
                         (unsigned long long)(x->o.job->task_timeout_ns / NS_PER_S));
    tell_failed(x, why);
    free(why);
}

void mr__runner_start(struct runner *x, const struct task *t)
{
    struct buf b = {0};
    int rc = 0;

    check(!x->busy);
    x->busy = true;
    x->phase = t->phase;
    x->no = t->no;
    x->attempt = t->attempt;
    x->timer.fire = on_timeout;
    arm(x);
    if (!x->process && (rc = start_process(x)) == 0) rc = send_job(x);
    if (rc == 0) {
        buf_clear(&x->process->tail);
        mr__task_encode(&b, t);
        rc = mr__exec_send(x->process->in, MR_EXEC_TASK, buf_slice(&b));
        buf_free(&b);
    }
    if (rc == 0 || rc == -EPIPE) return; /* EPIPE: it has just died, on_exited() tells how */
    char *why = mr__strf("cannot start a process for the task: %s", err_text(rc));
    tell_failed(x, why);
    free(why);
}

void mr__runner_cancel(struct runner *x)
{
    if (!x->busy) return;
    x->busy = false;
    clock_disarm(clock_of(x), &x->timer);
    let_go(x);
}

void mr__runner_free(struct runner *x)
{
    if (!x) return;
    clock_disarm(clock_of(x), &x->timer);
    let_go(x);
    free(x);
}
