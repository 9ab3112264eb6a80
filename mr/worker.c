/* worker.c - a worker: a process that runs one task at a time for a coordinator and keeps map outputs for the others
 * (mr_worker()).
 *
 * Happy path: it makes its directory, listens for workers of other machines, dials the coordinator, says hello, is
 * welcomed with the job, then runs what it is given, beating all the while, until it is told that the job is over.
 *
 * Failure modes: the coordinator is lost or silent: the worker looks into the job's directory for who coordinates now,
 * joins, and says which map outputs it has; if nobody does for a while, or the job is over, it ends. The task's process
 * crashes or hangs: runner.c. The worker itself is frozen: the coordinator does without it; when it wakes up its
 * connection is closed, and it joins anew. It dies: another worker that can lock its directory, which proves both, takes
 * it over, serves what the list there names (estate.h), and removes it in the end; a worker looks for such directories
 * beside its own when it joins, and where the coordinator says. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mr/chain.h"
#include "mr/estate.h"
#include "mr/fetch.h"
#include "mr/jobdir.h"
#include "mr/jobfile.h"
#include "mr/msg.h"
#include "mr/owner.h"
#include "mr/util.h"
#include "mr/workdir.h"
#include "mr/worker.h"

#define PORT_TRIES 64
#define SEEK_NS    (NS_PER_S / 4)
#define SILENCE_NS (10 * NS_PER_S) /* until a job says otherwise */
#define ORPHAN     6u              /* so many times the silence of a lost one a new coordinator is looked for */
#define DYING_NS   (1 * NS_PER_S)  /* so long the kernel may take to end a process whose connection is broken already */
#define RETRY_NS   (20 * NS_PER_MS)

/* A map task that is done: its result, as it was sent, and which of our directories has the output. */
struct held {
    size_t dir;
    struct buf result;
};

/* A directory that is to be taken over, as soon as its worker is dead. */
struct adoption {
    char *dir;
    uint64_t until;
};

struct worker {
    const struct mr_worker_options *o;
    struct io_loop *loop;
    struct conn *conn; /* to the coordinator; NULL: none */
    char *coordinator; /* its address */
    char *host, *dir, *addr;
    int code;
    char **dirs; /* our own, and those taken over */
    int *locks;
    size_t dirs_n;
    int list; /* of what is finished in our own; -1: none */
    struct adoption *adoptions;
    size_t adoptions_n;
    bool welcome, known, stopped; /* on this connection; there is a job; the end */
    bool told_to_end;             /* by a signal */
    struct job job;
    char *place, *theirs; /* the job's directory; what the coordinator calls it. NULL: not known yet */
    struct held *held;
    size_t held_n, held_cap;
    struct fetch_server server;
    struct runner *runner;
    struct gather *gather; /* of the reduce task at hand, before it runs */
    struct task *reduce;   /* while it runs: its fetched files are to be removed */
    uint32_t no, attempt;  /* of the gather */
    struct timer beat, touch, seek, silence, retry;
    uint64_t seek_until; /* 0: not looking */
    uint64_t bytes;      /* read since the last beat */
    uint64_t weight; /* of the reduce task at hand, once it is known */
};

static uint64_t now(const struct worker *w) { return clock_now(io_clock(w->loop)); }
static void arm(struct worker *w, struct timer *t, uint64_t at) { clock_arm(io_clock(w->loop), t, at); }
static uint64_t silence_ns(const struct worker *w) { return w->known ? 8 * w->job.beat_ns : SILENCE_NS; }

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
    put_u64(&b, w->reduce ? w->weight : 0);
    if (w->welcome) send(w, MR_BEAT, &b); /* before that it could only break a connection that is being made */
    buf_free(&b);
    w->bytes = 0;
    arm(w, t, now(w) + w->job.beat_ns);
}

static void on_touch_dirs(struct timer *t)
{
    struct worker *w = t->arg;
    for (size_t i = 0; i < w->dirs_n; i++) mr__workdir_touch(w->locks[i]);
    arm(w, t, now(w) + MR_WORKDIR_TOUCH_NS);
}

/* ---- tasks ---- */

static void on_touch(void *arg, uint64_t bytes) { ((struct worker *)arg)->bytes += bytes; }

static void on_weigh(void *arg, uint64_t bytes) { ((struct worker *)arg)->weight = bytes; }

static void forget_reduce(struct worker *w)
{
    w->weight = 0;
    if (!w->reduce) return;
    mr__gather_clean(w->dir, w->reduce);
    mr__task_free(w->reduce);
    free(w->reduce);
    w->reduce = NULL;
}

/* For a coordinator that does not know it yet; without the task's stderr. */
static void keep(struct worker *w, const struct task_result *r, size_t dir)
{
    struct task_result quiet = *r;
    if (w->held_n == w->held_cap) {
        w->held_cap = w->held_cap ? 2 * w->held_cap : 16;
        w->held = xrealloc(w->held, w->held_cap * sizeof *w->held);
    }
    struct held *h = &w->held[w->held_n++];
    *h = (struct held){.dir = dir};
    quiet.err = (struct buf){0};
    mr__result_encode(&h->result, &quiet);
    if (dir || w->list < 0 || mr__estate_add(w->list, &h->result) == 0) return;
    close(w->list); /* a full disk: it ends here */
    w->list = -1;
}

static void on_result(void *arg, struct task_result *r)
{
    struct worker *w = arg;
    struct buf b = {0};
    forget_reduce(w);
    mr__result_encode(&b, r);
    if (r->phase == SCHED_MAP && r->outcome == TASK_DONE) keep(w, r, 0);
    mr__step_point("worker");
    if (w->welcome) send(w, MR_RESULT, &b);
    mr__step_point("worker");
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
    mr__step_point("worker");
    mr__runner_start(w->runner, t);
}

static bool busy(const struct worker *w) { return w->gather || mr__runner_busy(w->runner); }

static int take_map(struct worker *w, struct slice payload)
{
    struct task t;
    int rc = busy(w) ? -EBADMSG : mr__task_decode(payload, &t);
    if (rc < 0) return rc;
    if (t.phase != SCHED_MAP) {
        rc = -EBADMSG;
    } else {
        char *path = mr__repath(t.path, w->theirs, w->place);
        free(t.path);
        t.path = path;
        mr__step_point("worker");
        mr__runner_start(w->runner, &t);
    }
    mr__task_free(&t);
    return rc;
}

static int take_reduce(struct worker *w, struct slice payload)
{
    struct gather_options o = {.loop = w->loop,
                               .dir = w->dir,
                               .host = w->host,
                               .coordinator = w->coordinator,
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

/* ---- what dead workers leave ---- */

static void add_dir(struct worker *w, char *path, int lock)
{
    w->dirs = xrealloc(w->dirs, (w->dirs_n + 1) * sizeof *w->dirs);
    w->locks = xrealloc(w->locks, (w->dirs_n + 1) * sizeof *w->locks);
    w->dirs[w->dirs_n] = path;
    w->locks[w->dirs_n++] = lock;
    w->server.dirs = w->dirs;
    w->server.dirs_n = w->dirs_n;
}

static void take_output(void *arg, const struct task_result *r)
{
    struct worker *w = arg;
    keep(w, r, w->dirs_n - 1);
}

/* -EBUSY: its worker, or who has taken it over, lives. */
static int adopt(struct worker *w, const char *dir)
{
    int lock;
    for (size_t i = 0; i < w->dirs_n; i++)
        if (strcmp(w->dirs[i], dir) == 0) return 0;
    if (!mr__estate_is_of(dir, w->job.id)) return -ENOENT;
    int rc = mr__workdir_take(dir, &lock);
    if (rc < 0) return rc;
    if (!mr__estate_is_of(dir, w->job.id)) { /* another one by now */
        close(lock);
        return -ENOENT;
    }
    add_dir(w, mr__strf("%s", dir), lock);
    mr__estate_tidy(dir);
    mr__estate_read(dir, w->job.id, w->job.reducers, take_output, w);
    return 0;
}

static void adopt_if_dead(void *arg, const char *path) { (void)!adopt(arg, path); }

static void adopt_all(struct worker *w)
{
    char *base = mr__strf("%.*s", (int)(strrchr(w->dir, '/') - w->dir), w->dir);
    mr__workdir_each(base, adopt_if_dead, w);
    free(base);
}

/* Of one directory, or of all. */
static void say_what_is_held(struct worker *w, const char *dir)
{
    struct buf b = {0};
    for (size_t i = 0; i < w->held_n; i++) {
        const char *at = w->dirs[w->held[i].dir];
        if (dir && strcmp(at, dir) != 0) continue;
        buf_clear(&b);
        put_slice16(&b, slice_str(at));
        put_bytes(&b, buf_slice(&w->held[i].result));
        send(w, MR_HELD, &b);
    }
    buf_free(&b);
}

static void forget_adoptions(struct worker *w)
{
    while (w->adoptions_n) free(w->adoptions[--w->adoptions_n].dir);
    free(w->adoptions);
    w->adoptions = NULL;
}

static void on_retry(struct timer *t)
{
    struct worker *w = t->arg;
    for (size_t i = 0; i < w->adoptions_n;) {
        struct adoption *a = &w->adoptions[i];
        struct buf b = {0};
        if (adopt(w, a->dir) == -EBUSY && now(w) < a->until) {
            i++;
            continue;
        }
        say_what_is_held(w, a->dir);
        put_slice16(&b, slice_str(a->dir));
        send(w, MR_ADOPTED, &b);
        buf_free(&b);
        free(a->dir);
        *a = w->adoptions[--w->adoptions_n];
    }
    if (w->adoptions_n) arm(w, t, now(w) + RETRY_NS);
}

static int take_adopt(struct worker *w, struct slice payload)
{
    struct reader r = reader_of(payload);
    struct slice dir = get_slice16(&r);
    if (!reader_done(&r) || dir.n == 0 || memchr(dir.p, 0, dir.n)) return -EBADMSG;
    w->adoptions = xrealloc(w->adoptions, (w->adoptions_n + 1) * sizeof *w->adoptions);
    w->adoptions[w->adoptions_n++] = (struct adoption){mr__str(dir), now(w) + DYING_NS};
    on_retry(&w->retry);
    return 0;
}

/* ---- the coordinator ---- */

static void end_task(struct worker *w, bool map_too)
{
    if (w->gather) mr__gather_cancel(w->gather);
    w->gather = NULL;
    if (!w->runner || (!map_too && !w->reduce)) return;
    mr__runner_cancel(w->runner);
    forget_reduce(w);
}

static void set_text(char **at, char *text)
{
    free(*at);
    *at = text;
}

static void take_job(struct worker *w, struct job *j)
{
    w->job = *j;
    w->known = true;
    if (!w->place) w->place = mr__strf("%s", w->theirs);
    set_text(&w->job.attempts, mr__strf("%s/attempts", w->place));
    if (w->job.cwd) set_text(&w->job.cwd, mr__repath(w->job.cwd, w->theirs, w->place));
    w->server.job = w->job.id;
    struct runner_options o = {
        .loop = w->loop, .dir = w->dir, .job = &w->job, .touch = on_touch, .weigh = on_weigh, .result = on_result, .arg = w};
    w->runner = mr__runner_new(&o);
    w->beat = (struct timer){.fire = on_beat, .arg = w};
    w->touch = (struct timer){.fire = on_touch_dirs, .arg = w};
    on_touch_dirs(&w->touch);
    w->list = mr__estate_begin(w->dir, w->job.id);
}

static int take_welcome(struct worker *w, struct slice payload)
{
    struct job j;
    int rc = w->welcome ? -EBADMSG : mr__job_decode(payload, &j);
    if (rc < 0) return rc;
    size_t n = strlen(j.attempts), tail = strlen("/attempts");
    if (n <= tail || strcmp(j.attempts + n - tail, "/attempts") != 0 || (w->known && strcmp(j.id, w->job.id) != 0)) {
        mr__job_free(&j);
        return -EBADMSG;
    }
    set_text(&w->theirs, mr__strf("%.*s", (int)(n - tail), j.attempts));
    w->welcome = true;
    w->seek_until = 0;
    if (w->known) {
        mr__job_free(&j);
        end_task(w, true); /* nobody waits for it any more */
    } else {
        take_job(w, &j);
    }
    on_beat(&w->beat);
    adopt_all(w);
    say_what_is_held(w, NULL);
    return 0;
}

static int take_task(struct worker *w, uint8_t type, struct slice payload)
{
    switch (type) {
    case MR_TASK_MAP:
        return take_map(w, payload);
    case MR_TASK_REDUCE:
        return take_reduce(w, payload);
    case MR_CANCEL:
        return take_cancel(w, payload);
    case MR_ADOPT:
        return take_adopt(w, payload);
    case MR_BEAT:
        return payload.n == 0 ? 0 : -EBADMSG;
    default:
        return -EBADMSG;
    }
}

static void on_frame(struct conn *c, uint8_t type, struct slice payload)
{
    struct worker *w = c->arg;
    int rc = 0;

    arm(w, &w->silence, now(w) + silence_ns(w));
    if (type == MR_BYE) {
        stop(w, MR_EXIT_OK);
    } else if (type == MR_REFUSED && w->known) {
        conn_close(c); /* it publishes, or has another job now: the job's directory will say */
    } else if (type == MR_REFUSED) {
        mr__say("the coordinator refuses this worker: %.*s", (int)payload.n, payload.p);
        stop(w, MR_EXIT_FAILED);
    } else if (type == MR_WELCOME) {
        rc = take_welcome(w, payload);
    } else {
        rc = w->welcome ? take_task(w, type, payload) : -EBADMSG;
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
    put_slice16(&b, slice_str(w->known ? w->job.id : ""));
    send(w, MR_HELLO, &b);
    buf_free(&b);
}

/* A frozen coordinator keeps its connections. */
static void on_silence(struct timer *t)
{
    struct worker *w = t->arg;
    if (w->conn) conn_close(w->conn);
}

static void on_closed(struct conn *c, int err)
{
    struct worker *w = c->arg;
    w->conn = NULL;
    w->welcome = false;
    forget_adoptions(w);
    clock_disarm(io_clock(w->loop), &w->silence);
    if (w->stopped) return;
    if (!w->place) {
        mr__say("cannot reach the coordinator at %s: %s", w->coordinator, err_text(err ? err : -ECONNRESET));
        stop(w, MR_EXIT_FAILED);
        return;
    }
    end_task(w, false); /* a map task goes on: its output is as good for the next coordinator */
    if (w->seek_until == 0) w->seek_until = now(w) + ORPHAN * silence_ns(w);
    arm(w, &w->seek, now(w) + SEEK_NS);
}

static void dial(struct worker *w)
{
    static const struct conn_cb cb = {.open = on_open, .frame = on_frame, .closed = on_closed};
    arm(w, &w->silence, now(w) + silence_ns(w));
    w->conn = net_dial(io_net(w->loop), w->coordinator, &cb, w);
}

/* "ADDRESS TAB HOST TAB ADDRESS FOR OTHERS" (coord.c). NULL: no way for us. */
static char *address_for(const struct worker *w, const char *line)
{
    const char *host = line ? strchr(line, '\t') : NULL, *other = host ? strchr(host + 1, '\t') : NULL;
    if (!other) return NULL;
    size_t n = (size_t)(other - host - 1);
    char *this_host = mr__this_host();
    bool here = strlen(this_host) == n && strncmp(host + 1, this_host, n) == 0;
    free(this_host);
    if (here) return mr__strf("%.*s", (int)(host - line), line);
    return other[1] ? mr__strf("%s", other + 1) : NULL;
}

/* What the job's directory says. */
static bool is_over(int rc, const struct job_look *l)
{
    return rc == -ENOENT || (rc == 0 && (l->state == JOB_DONE || l->state == JOB_CANCELLED));
}

/* Who coordinates the job now? */
static void on_seek(struct timer *t)
{
    struct worker *w = t->arg;
    struct job_look look;

    int rc = mr__jobdir_look(w->place, &look);
    if (is_over(rc, &look)) {
        mr__look_free(&look);
        stop(w, MR_EXIT_OK);
        return;
    }
    char *address = rc == 0 ? address_for(w, look.address) : NULL;
    bool far = rc == 0 && look.address && !address;
    if (rc == 0) mr__look_free(&look);
    if (address) {
        set_text(&w->coordinator, address);
        dial(w);
    } else if (now(w) >= w->seek_until) {
        mr__say(far ? "the coordinator of the job %s cannot be reached from this machine: it runs without --listen"
                    : "nobody coordinates the job %s",
                w->place);
        stop(w, MR_EXIT_FAILED);
    } else {
        arm(w, t, now(w) + SEEK_NS);
    }
}

/* ---- life ---- */

/* The same files under the same names: this boot, this user, this mount namespace. */
char *mr__this_host(void)
{
    char *boot = mr__first_line("/proc/sys/kernel/random/boot_id");
    struct stat st = {0};
    (void)!stat("/proc/self/ns/mnt", &st);
    char *host = mr__strf("%s-%u-%llx", boot ? boot : "unknown", (unsigned)geteuid(), (unsigned long long)st.st_ino);
    free(boot);
    return host;
}

/* Where other machines fetch from. A coordinator at a unix socket is on this machine, and so are all its workers. */
static int listen_for_fetches(struct worker *w, struct buf *why)
{
    bool local = w->coordinator && strncmp(w->coordinator, "unix:", 5) == 0;
    struct net *n = io_net(w->loop);
    int rc = -EADDRINUSE;

    if (w->o->listen) {
        w->addr = mr__strf("%s", w->o->listen);
        rc = net_listen(n, w->addr, mr__fetch_accept, &w->server);
        if (rc < 0) mr__fmt(why, "cannot listen on %s: %s", w->addr, err_text(rc));
        return rc;
    }
    if (local) {
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

static void on_signal(void *arg, int signum)
{
    struct worker *w = arg;
    w->told_to_end = true;
    stop(w, MR_EXIT_FAILED);
}

/* Nobody will ask for what we have. Who is told to end does so at once, whatever ails the job's directory. */
static bool job_is_over(const struct worker *w)
{
    struct job_look look;
    if (w->told_to_end || !w->known) return false;
    bool over = is_over(mr__jobdir_look(w->place, &look), &look);
    mr__look_free(&look);
    return over;
}

static void worker_free(struct worker *w)
{
    if (w->gather) mr__gather_cancel(w->gather);
    mr__runner_free(w->runner);
    if (w->known) clock_disarm(io_clock(w->loop), &w->beat);
    if (w->known) clock_disarm(io_clock(w->loop), &w->touch);
    clock_disarm(io_clock(w->loop), &w->seek);
    clock_disarm(io_clock(w->loop), &w->silence);
    clock_disarm(io_clock(w->loop), &w->retry);
    io_loop_free(w->loop);
    forget_reduce(w);
    forget_adoptions(w);
    if (w->list >= 0) close(w->list);
    bool over = job_is_over(w);
    for (size_t i = 0; i < w->dirs_n; i++) {
        if (over)
            mr__workdir_remove(w->dirs[i]);
        else
            mr__workdir_leave(w->dirs[i]);
        close(w->locks[i]);
        free(w->dirs[i]);
    }
    free(w->dirs);
    free(w->locks);
    if (over) mr__workdir_sweep(w->o->workdir, w->job.id);
    mr__job_free(&w->job);
    for (size_t i = 0; i < w->held_n; i++) buf_free(&w->held[i].result);
    free(w->held);
    free(w->place);
    free(w->theirs);
    free(w->coordinator);
    free(w->host);
    free(w->addr);
}

/* By the job's directory, or by an address. */
static int find_job(struct worker *w, struct buf *why)
{
    if (!w->o->job) {
        w->coordinator = mr__strf("%s", w->o->coordinator);
        return 0;
    }
    struct job_look look;
    w->place = mr__jobdir_find(w->o->job, why);
    if (!w->place) return -ENOENT;
    char *of_chain = mr__chain_job(w->place);
    if (of_chain) {
        free(w->place);
        w->place = of_chain;
    }
    /* A first look, to know whether the job is of this machine alone. */
    if (mr__jobdir_look(w->place, &look) == 0) {
        w->coordinator = address_for(w, look.address);
        mr__look_free(&look);
    }
    return 0;
}

int mr_worker(const struct mr_worker_options *o)
{
    struct worker w = {.o = o, .list = -1, .code = MR_EXIT_FAILED};
    struct buf why = {0};
    int lock;

    w.loop = io_loop_new();
    w.seek = (struct timer){.fire = on_seek, .arg = &w};
    w.silence = (struct timer){.fire = on_silence, .arg = &w};
    w.retry = (struct timer){.fire = on_retry, .arg = &w};
    w.host = o->host ? mr__strf("%s", o->host) : mr__this_host();
    int rc = find_job(&w, &why);
    if (rc == 0) rc = mr__workdir_make(o->workdir, &w.dir, &lock, &why);
    if (rc == 0) {
        add_dir(&w, w.dir, lock);
        rc = listen_for_fetches(&w, &why);
    }
    if (rc < 0) {
        mr__say("%.*s", (int)why.n, why.p);
    } else {
        io_on_signal(w.loop, SIGINT, on_signal, &w);
        io_on_signal(w.loop, SIGTERM, on_signal, &w);
        w.seek_until = now(&w) + ORPHAN * SILENCE_NS;
        if (w.coordinator)
            dial(&w);
        else
            on_seek(&w.seek);
        if (!w.stopped) io_loop_run(w.loop);
    }
    buf_free(&why);
    worker_free(&w);
    return w.code;
}
