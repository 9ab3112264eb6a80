/* lab_worker.c - the lab's worker (mr_lab_worker()): registers with the master, then answers calls, one connection each,
 * until it is told to shut down or has accepted as many as it may. Tasks run in the executor process of runner.c.
 *
 * Failure modes: the master cannot be reached, or the own address cannot be listened on: status 1. A second task while
 * one runs: the master's mistake, which ends everything: it is refused, and the worker ends with status 1. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mr/lab.h"
#include "mr/msg.h"
#include "mr/util.h"
#include "mr/workdir.h"
#include "mr/worker.h"

struct lab_worker {
    const struct mr_lab_options *o;
    struct io_loop *loop;
    struct conn *master;               /* while it registers */
    struct conn *caller;               /* who waits for the task's result; NULL: gone */
    char *dir;
    int lock, code;
    struct buf job_text;               /* as it was sent, */
    struct job job;                    /* and what it says */
    struct runner *runner;
    uint32_t tasks, accepted, open;
    bool registered, ending;
};

static void end_if_idle(struct lab_worker *w)
{
    bool full = w->o->limit >= 0 && w->accepted >= (uint32_t)w->o->limit;
    bool busy = w->runner && mr__runner_busy(w->runner);
    if (w->open == 0 && !busy && (w->ending || (full && w->registered))) io_loop_stop(w->loop);
}

static void answer(struct conn *c, uint8_t type, const struct buf *payload)
{
    struct slice s = buf_slice(payload);
    if (conn_send(c, type, &s, 1) < 0) conn_close(c);
}

/* ---- tasks ---- */

static void on_touch(void *arg, uint64_t bytes) {}

static void on_result(void *arg, struct task_result *r)
{
    struct lab_worker *w = arg;
    struct buf b = {0};
    mr__result_encode(&b, r);
    mr__result_free(r);
    if (w->caller) answer(w->caller, MR_RESULT, &b);
    w->caller = NULL;
    buf_free(&b);
    end_if_idle(w);
}

/* The runner for this job: the one there is, or a new one. */
static int take_job(struct lab_worker *w, struct slice text)
{
    if (w->runner && slice_eq(text, buf_slice(&w->job_text))) return 0;
    mr__runner_free(w->runner);
    w->runner = NULL;
    mr__job_free(&w->job);
    int rc = mr__job_decode(text, &w->job);
    if (rc < 0) return rc;
    if (!w->job.lab) return -EBADMSG;
    buf_clear(&w->job_text);
    put_bytes(&w->job_text, text);
    struct runner_options o = {
        .loop = w->loop, .dir = w->dir, .job = &w->job, .touch = on_touch, .result = on_result, .arg = w};
    w->runner = mr__runner_new(&o);
    return 0;
}

static int take_task(struct lab_worker *w, struct conn *c, struct slice payload)
{
    struct reader r = reader_of(payload);
    struct slice job = get_slice32(&r);
    struct task t;

    if (w->runner && mr__runner_busy(w->runner)) {
        struct buf why = {0};
        mr__fmt(&why, "the worker at %s was given a second task while one was running", w->o->address);
        mr__say("%.*s", (int)why.n, why.p);
        answer(c, MR_REFUSED, &why);
        buf_free(&why);
        w->code = MR_EXIT_FAILED;
        w->ending = true;
        return 0;
    }
    if (r.bad || take_job(w, job) < 0 || mr__task_decode(get_bytes(&r, reader_left(&r)), &t) < 0) return -EBADMSG;
    w->tasks++;
    w->caller = c;
    mr__runner_start(w->runner, &t);
    mr__task_free(&t);
    return 0;
}

/* ---- calls ---- */

static void on_call(struct conn *c, uint8_t type, struct slice payload)
{
    struct lab_worker *w = c->arg;
    struct buf b = {0};
    int rc = 0;

    if (type == MR_LAB_TASK) {
        rc = take_task(w, c, payload);
    } else if (type == MR_LAB_SHUTDOWN) {
        put_u32(&b, w->tasks);
        answer(c, MR_LAB_TASKS, &b);
        w->ending = true;
    } else {
        rc = -EBADMSG;
    }
    if (rc < 0) conn_close(c);
    buf_free(&b);
}

static void on_call_closed(struct conn *c, int err)
{
    struct lab_worker *w = c->arg;
    if (w->caller == c) w->caller = NULL;
    w->open--;
    end_if_idle(w);
}

static void on_accept(void *arg, struct conn *c)
{
    static const struct conn_cb cb = {.frame = on_call, .closed = on_call_closed};
    struct lab_worker *w = arg;

    if (w->o->limit >= 0 && w->accepted >= (uint32_t)w->o->limit) {
        conn_close(c);
        return;
    }
    w->accepted++;
    w->open++;
    c->cb = &cb;
    c->arg = w;
}

/* ---- registering ---- */

static void on_open(struct conn *c)
{
    struct lab_worker *w = c->arg;
    struct buf b = {0};
    put_slice16(&b, slice_str(w->o->address));
    answer(c, MR_LAB_REGISTER, &b);
    buf_free(&b);
}

static void on_registered(struct conn *c, uint8_t type, struct slice payload)
{
    struct lab_worker *w = c->arg;
    w->registered = type == MR_LAB_REGISTERED;
    conn_close(c);
}

static void on_master_closed(struct conn *c, int err)
{
    struct lab_worker *w = c->arg;
    w->master = NULL;
    if (!w->registered) {
        mr__say("cannot register with the master at %s: %s", w->o->master, err_text(err ? err : -EPROTO));
        w->code = MR_EXIT_FAILED;
        w->ending = true;
    }
    end_if_idle(w);
}

static void on_signal(void *arg, int signum)
{
    struct lab_worker *w = arg;
    w->code = MR_EXIT_FAILED;
    io_loop_stop(w->loop);
}

static void run(struct lab_worker *w)
{
    static const struct conn_cb cb = {.open = on_open, .frame = on_registered, .closed = on_master_closed};
    int rc = net_listen(io_net(w->loop), w->o->address, on_accept, w);

    if (rc < 0) {
        mr__say("cannot listen on %s: %s", w->o->address, err_text(rc));
        w->code = MR_EXIT_FAILED;
        return;
    }
    io_on_signal(w->loop, SIGINT, on_signal, w);
    io_on_signal(w->loop, SIGTERM, on_signal, w);
    w->master = net_dial(io_net(w->loop), w->o->master, &cb, w);
    io_loop_run(w->loop);
}

int mr_lab_worker(const struct mr_lab_options *o)
{
    struct lab_worker w = {.o = o, .lock = -1, .code = MR_EXIT_OK};
    struct buf why = {0};

    w.loop = io_loop_new();
    if (mr__workdir_make(o->workdir, &w.dir, &w.lock, &why) == 0) {
        run(&w);
    } else {
        mr__say("%.*s", (int)why.n, why.p);
        w.code = MR_EXIT_FAILED;
    }
    mr__runner_free(w.runner);
    w.runner = NULL;
    io_loop_free(w.loop);
    if (w.dir) mr__workdir_remove(w.dir);
    if (w.lock >= 0) close(w.lock);
    mr__job_free(&w.job);
    buf_free(&w.job_text);
    buf_free(&why);
    free(w.dir);
    return w.code;
}
