/* worker.c - a worker: a process that runs one task at a time for a coordinator and keeps map outputs for the others
 * (mr_worker()).
 *
 * Happy path: it makes its directory, listens for workers of other machines, dials the coordinator, says hello, is
 * welcomed with the job, then runs what it is given, beating all the while, until it is told that the job is over.
 *
 * Failure modes: the coordinator cannot be reached or is lost: it ends with status 1. The task's process crashes or
 * hangs: runner.c. The worker itself dies or is frozen: the coordinator does without it; when it wakes up its
 * connection is closed, and it ends. Its directory is removed when it ends, or by the next worker in the same place. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mr/fetch.h"
#include "mr/msg.h"
#include "mr/util.h"
#include "mr/workdir.h"
#include "mr/worker.h"

#define PORT_TRIES 64

struct worker {
    const struct mr_worker_options *o;
    struct io_loop *loop;
    struct conn *conn; /* to the coordinator; NULL: gone */
    char *host, *dir, *addr;
    int lock, code;
    bool welcome, stopped;
    struct job job;
    struct fetch_server server;
    struct runner *runner;
    struct gather *gather; /* of the reduce task at hand, before it runs */
    struct task *reduce;   /* while it runs: its fetched files are to be removed */
    uint32_t no, attempt;  /* of the gather */
    struct timer beat;
    uint64_t bytes; /* read since the last beat */
};

static void stop(struct worker *w, int code)
{
    if (w->stopped) return;
    w->stopped = true;
    w->code = code;
    io_loop_stop(w->loop);
}

static void send(struct worker *w, uint8_t type, const struct buf *payload)
{
    struct slice s = buf_slice(payload);
    if (w->conn && conn_send(w->conn, type, &s, 1) < 0) conn_close(w->conn);
}

static void on_beat(struct timer *t)
{
    struct worker *w = t->arg;
    struct buf b = {0};
    put_u64(&b, w->bytes);
    send(w, MR_BEAT, &b);
    buf_free(&b);
    w->bytes = 0;
    clock_arm(io_clock(w->loop), t, clock_now(io_clock(w->loop)) + w->job.beat_ns);
}

/* ---- tasks ---- */

static void on_touch(void *arg, uint64_t bytes) { ((struct worker *)arg)->bytes += bytes; }

static void forget_reduce(struct worker *w)
{
    if (!w->reduce) return;
    mr__gather_clean(w->dir, w->reduce);
    mr__task_free(w->reduce);
    free(w->reduce);
    w->reduce = NULL;
}

static void on_result(void *arg, struct task_result *r)
{
    struct worker *w = arg;
    struct buf b = {0};
    forget_reduce(w);
    mr__result_encode(&b, r);
    send(w, MR_RESULT, &b);
    buf_free(&b);
    mr__result_free(r);
}

static void on_gathered(void *arg, struct task *t, struct task_result *failed)
{
    struct worker *w = arg;
    w->gather = NULL;
    if (!t) {
        on_result(w, failed);
        return;
    }
    w->reduce = t;
    mr__runner_start(w->runner, t);
}

static bool busy(const struct worker *w) { return w->gather || mr__runner_busy(w->runner); }

static int take_map(struct worker *w, struct slice payload)
{
    struct task t;
    int rc = busy(w) ? -EBADMSG : mr__task_decode(payload, &t);
    if (rc < 0) return rc;
    if (t.phase != SCHED_MAP)
        rc = -EBADMSG;
    else
        mr__runner_start(w->runner, &t);
    mr__task_free(&t);
    return rc;
}

static int take_reduce(struct worker *w, struct slice payload)
{
    struct gather_options o = {.loop = w->loop,
                               .dir = w->dir,
                               .host = w->host,
                               .coordinator = w->o->coordinator,
                               .job = w->job.id,
                               .parts = w->job.reducers,
                               .timeout_ns = 8 * w->job.beat_ns,
                               .done = on_gathered,
                               .arg = w};
    if (busy(w)) return -EBADMSG;
    w->gather = mr__gather_start(&o, payload, &w->no, &w->attempt);
    return w->gather ? 0 : -EBADMSG;
}

/* The task may be over by now; what else runs is another attempt. */
static int take_cancel(struct worker *w, struct slice payload)
{
    struct reader r = reader_of(payload);
    uint8_t phase = get_u8(&r);
    uint32_t no = get_u32(&r), attempt = get_u32(&r);

    if (!reader_done(&r)) return -EBADMSG;
    if (w->gather && phase == SCHED_REDUCE && w->no == no && w->attempt == attempt) {
        mr__gather_cancel(w->gather);
        w->gather = NULL;
    } else if (mr__runner_runs(w->runner, (enum sched_phase)phase, no, attempt)) {
        mr__runner_cancel(w->runner);
        forget_reduce(w);
    }
    return 0;
}

/* ---- the coordinator ---- */

static int take_welcome(struct worker *w, struct slice payload)
{
    int rc = w->welcome ? -EBADMSG : mr__job_decode(payload, &w->job);
    if (rc < 0) return rc;
    w->welcome = true;
    w->server.job = w->job.id;
    struct runner_options o = {
        .loop = w->loop, .dir = w->dir, .job = &w->job, .touch = on_touch, .result = on_result, .arg = w};
    w->runner = mr__runner_new(&o);
    w->beat = (struct timer){.fire = on_beat, .arg = w};
    on_beat(&w->beat);
    return 0;
}

static void on_frame(struct conn *c, uint8_t type, struct slice payload)
{
    struct worker *w = c->arg;
    int rc = 0;

    if (type == MR_BYE) {
        stop(w, MR_EXIT_OK);
    } else if (type == MR_REFUSED) {
        mr__say("the coordinator refuses this worker: %.*s", (int)payload.n, payload.p);
        stop(w, MR_EXIT_FAILED);
    } else if (type == MR_WELCOME) {
        rc = take_welcome(w, payload);
    } else if (!w->welcome) {
        rc = -EBADMSG;
    } else if (type == MR_TASK_MAP) {
        rc = take_map(w, payload);
    } else if (type == MR_TASK_REDUCE) {
        rc = take_reduce(w, payload);
    } else if (type == MR_CANCEL) {
        rc = take_cancel(w, payload);
    } else {
        rc = -EBADMSG;
    }
    if (rc == 0) return;
    mr__say("the coordinator at %s sent what this worker does not understand (message %u)", c->peer, type);
    conn_close(c);
}

static void on_open(struct conn *c)
{
    struct worker *w = c->arg;
    struct buf b = {0};
    put_u32(&b, MR_PROTOCOL);
    put_u32(&b, (uint32_t)getpid());
    put_slice16(&b, slice_str(w->host));
    put_slice16(&b, slice_str(w->dir));
    put_slice16(&b, slice_str(w->addr));
    send(w, MR_HELLO, &b);
    buf_free(&b);
}

static void on_closed(struct conn *c, int err)
{
    struct worker *w = c->arg;
    w->conn = NULL;
    if (!w->welcome && !w->stopped)
        mr__say("cannot reach the coordinator at %s: %s", w->o->coordinator, err_text(err ? err : -ECONNRESET));
    stop(w, MR_EXIT_FAILED);
}

/* ---- life ---- */

static char *first_line(const char *path)
{
    char text[256] = {0};
    FILE *f = fopen(path, "re");
    char *got = f ? fgets(text, sizeof text, f) : NULL;
    if (f) fclose(f);
    text[strcspn(text, "\n")] = 0;
    return got ? mr__strf("%s", text) : NULL;
}

/* The same files under the same names: this boot, this user, this mount namespace. */
char *mr__this_host(void)
{
    char *boot = first_line("/proc/sys/kernel/random/boot_id");
    struct stat st = {0};
    (void)!stat("/proc/self/ns/mnt", &st);
    char *host = mr__strf("%s-%u-%llx", boot ? boot : "unknown", (unsigned)geteuid(), (unsigned long long)st.st_ino);
    free(boot);
    return host;
}

/* Where other machines fetch from. A coordinator at a unix socket is on this machine, and so are all its workers. */
static int listen_for_fetches(struct worker *w, struct buf *why)
{
    struct net *n = io_net(w->loop);
    int rc = -EADDRINUSE;

    if (w->o->listen) {
        w->addr = mr__strf("%s", w->o->listen);
        rc = net_listen(n, w->addr, mr__fetch_accept, &w->server);
        if (rc < 0) mr__fmt(why, "cannot listen on %s: %s", w->addr, err_text(rc));
        return rc;
    }
    if (strncmp(w->o->coordinator, "unix:", 5) == 0) {
        w->addr = mr__strf("unix:%s/fetch", w->dir);
        return net_listen(n, w->addr, mr__fetch_accept, &w->server);
    }
    for (int i = 0; i < PORT_TRIES && rc == -EADDRINUSE; i++) {
        unsigned port = 20000 + (unsigned)(io_random() % 40000);
        char *any = mr__strf("*:%u", port);
        rc = net_listen(n, any, mr__fetch_accept, &w->server);
        free(any);
        if (rc == 0) w->addr = mr__strf(":%u", port);
    }
    if (rc < 0) mr__fmt(why, "cannot listen on any port: %s", err_text(rc));
    return rc;
}

static void on_signal(void *arg, int signum) { stop(arg, MR_EXIT_FAILED); }

static void worker_free(struct worker *w)
{
    if (w->gather) mr__gather_cancel(w->gather);
    mr__runner_free(w->runner);
    if (w->welcome) clock_disarm(io_clock(w->loop), &w->beat);
    io_loop_free(w->loop);
    forget_reduce(w);
    if (w->dir) mr__rmtree(w->dir);
    if (w->lock >= 0) close(w->lock);
    mr__job_free(&w->job);
    free(w->dir);
    free(w->host);
    free(w->addr);
}

int mr_worker(const struct mr_worker_options *o)
{
    static const struct conn_cb cb = {.open = on_open, .frame = on_frame, .closed = on_closed};
    struct worker w = {.o = o, .lock = -1, .code = MR_EXIT_FAILED};
    struct buf why = {0};

    w.loop = io_loop_new();
    w.host = o->host ? mr__strf("%s", o->host) : mr__this_host();
    int rc = mr__workdir_make(o->workdir, &w.dir, &w.lock, &why);
    if (rc == 0) {
        w.server.dir = w.dir;
        rc = listen_for_fetches(&w, &why);
    }
    if (rc < 0) {
        mr__say("%.*s", (int)why.n, why.p);
    } else {
        io_on_signal(w.loop, SIGINT, on_signal, &w);
        io_on_signal(w.loop, SIGTERM, on_signal, &w);
        w.conn = net_dial(io_net(w.loop), o->coordinator, &cb, &w);
        io_loop_run(w.loop);
    }
    buf_free(&why);
    worker_free(&w);
    return w.code;
}
