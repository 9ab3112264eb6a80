/* lab_master.c - the lab's master (mr_lab_master()): workers register with it whenever they like; the scheduler of
 * sched.c gives each one task at a time, a call each; then every worker is told to shut down and asked how many tasks it
 * has begun; then the results are merged.
 *
 * Failure modes: a call that fails means that its worker is gone, and its task goes to another; the map outputs it has
 * made stay, the files are shared. A task that fails by itself goes to another worker, too, but not for ever. A worker
 * that says it was given two tasks at once ends the job. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "mr/lab.h"
#include "mr/msg.h"
#include "mr/util.h"
#include "mr/worker.h"

#define ATTEMPTS 4u
#define LOSSES   1000000u

struct lab_peer {
    struct list link;
    struct master *m;
    uint32_t id;
    char *addr;
    bool gone;                         /* a call to it failed */
    struct conn *call;                 /* under way */
    struct sched_effect task;          /* what it is about, while there are tasks */
    bool answered;
    bool counted;                      /* it told `tasks` */
    uint32_t tasks;
};

struct master {
    struct lab *lab;
    struct io_loop *loop;
    struct sched *sched;
    struct list peers;                 /* in the order in which they registered */
    uint32_t next_id, open;            /* open: shutdown calls under way */
    bool leaving, over;
    int rc;
};

static void step(struct master *m, struct sched_event e);

static void leave(struct master *m, int rc);

static void fail(struct master *m, struct slice why)
{
    if (m->lab->why.n == 0) put_bytes(&m->lab->why, why);
    leave(m, -ECANCELED);
}

/* ---- tasks ---- */

static void on_task_open(struct conn *c)
{
    struct lab_peer *p = c->arg;
    struct task t = {.phase = p->task.phase, .no = p->task.task};
    struct buf job = {0}, b = {0};

    if (t.phase == SCHED_MAP) mr__lab_map_task(p->m->lab, t.no, &t);
    t.attempt = p->task.attempt;
    mr__job_encode(&job, &p->m->lab->job);
    put_slice32(&b, buf_slice(&job));
    mr__task_encode(&b, &t);
    struct slice s = buf_slice(&b);
    if (conn_send(c, MR_LAB_TASK, &s, 1) < 0) conn_close(c);
    mr__task_free(&t);
    buf_free(&job);
    buf_free(&b);
}

static void take_result(struct lab_peer *p, const struct task_result *r)
{
    struct master *m = p->m;
    struct sched_event e = {.kind = r->outcome == TASK_DONE ? SCHED_DONE : SCHED_FAILED,
                            .phase = r->phase,
                            .worker = p->id,
                            .task = r->no,
                            .attempt = r->attempt};
    if (r->outcome != TASK_DONE) {
        buf_clear(&m->lab->why);
        mr__fmt(&m->lab->why, "%s task %u failed: %.*s\n%.*s", r->phase == SCHED_MAP ? "map" : "reduce", r->no,
                (int)r->why.n, r->why.p, (int)r->err.n, r->err.p);
    }
    step(m, e);
}

static void on_task_frame(struct conn *c, uint8_t type, struct slice payload)
{
    struct lab_peer *p = c->arg;
    struct task_result r;

    if (p->answered) return;
    if (type == MR_REFUSED) {
        fail(p->m, payload);
    } else if (type == MR_RESULT && mr__result_decode(payload, &r) == 0) {
        if (r.phase != p->task.phase || r.no != p->task.task || r.attempt != p->task.attempt) {
            mr__result_free(&r); /* no answer to what it was asked: the call has failed */
            conn_close(c);
            return;
        }
        p->answered = true;
        p->call = NULL; /* it is free for the next call, while this connection closes */
        c->arg = NULL;
        conn_close(c);
        take_result(p, &r);
        mr__result_free(&r);
        return;
    }
    conn_close(c);
}

static void on_task_closed(struct conn *c, int err)
{
    struct lab_peer *p = c->arg;
    if (!p) return;
    p->call = NULL;
    p->gone = true;
    if (!p->m->leaving) step(p->m, (struct sched_event){.kind = SCHED_LEFT, .worker = p->id});
}

static struct lab_peer *find_peer(struct master *m, uint32_t id)
{
    list_for_each(it, &m->peers) {
        struct lab_peer *p = container_of(it, struct lab_peer, link);
        if (p->id == id) return p;
    }
    check(false);
    return NULL;
}

static void assign(struct master *m, const struct sched_effect *e)
{
    static const struct conn_cb cb = {.open = on_task_open, .frame = on_task_frame, .closed = on_task_closed};
    struct lab_peer *p = find_peer(m, e->worker);
    check(!p->call);
    p->task = *e;
    p->answered = false;
    p->call = net_dial(io_net(m->loop), p->addr, &cb, p);
}

static void step(struct master *m, struct sched_event e)
{
    struct sched_effect *v;
    if (m->leaving) return;
    size_t n = sched_step(m->sched, &e, clock_now(io_clock(m->loop)));
    v = xmalloc((n + 1) * sizeof *v);
    if (n) memcpy(v, sched_effects(m->sched), n * sizeof *v);
    for (size_t i = 0; i < n; i++) {
        if (v[i].kind == SCHED_ASSIGN) assign(m, &v[i]);
        if (v[i].kind == SCHED_FINISH) leave(m, 0);
        if (v[i].kind == SCHED_GIVE_UP) fail(m, slice_str("a task was lost with its workers again and again"));
    }
    free(v);
}

/* ---- shutdown ---- */

static void on_shutdown_open(struct conn *c)
{
    if (conn_send(c, MR_LAB_SHUTDOWN, NULL, 0) < 0) conn_close(c);
}

static void on_shutdown_frame(struct conn *c, uint8_t type, struct slice payload)
{
    struct lab_peer *p = c->arg;
    if (type == MR_LAB_TASKS && payload.n == 4) {
        p->counted = true;
        p->tasks = load_u32(payload.p);
    }
    conn_close(c);
}

static void on_shutdown_closed(struct conn *c, int err)
{
    struct lab_peer *p = c->arg;
    if (--p->m->open == 0 && !p->m->over) io_loop_stop(p->m->loop);
}

/* Every worker that ever registered is called, also those that are gone: some of them may be reached after all. */
static void leave(struct master *m, int rc)
{
    static const struct conn_cb cb = {
        .open = on_shutdown_open, .frame = on_shutdown_frame, .closed = on_shutdown_closed};
    if (m->leaving) return;
    m->leaving = true;
    m->rc = rc;
    list_for_each(it, &m->peers) {
        m->open++;
        net_dial(io_net(m->loop), container_of(it, struct lab_peer, link)->addr, &cb,
                 container_of(it, struct lab_peer, link));
    }
    if (m->open == 0) io_loop_stop(m->loop);
}

/* ---- registering ---- */

static void on_register(struct conn *c, uint8_t type, struct slice payload)
{
    struct master *m = c->arg;
    struct reader r = reader_of(payload);
    struct slice addr = get_slice16(&r);

    if (type != MR_LAB_REGISTER || !reader_done(&r) || addr.n == 0 || memchr(addr.p, 0, addr.n) || m->leaving) {
        conn_close(c);
        return;
    }
    struct lab_peer *p = xcalloc(1, sizeof *p);
    *p = (struct lab_peer){.m = m, .id = m->next_id++, .addr = mr__str(addr)};
    list_push_back(&m->peers, &p->link);
    if (conn_send(c, MR_LAB_REGISTERED, NULL, 0) < 0) conn_close(c);
    step(m, (struct sched_event){.kind = SCHED_JOINED, .worker = p->id});
}

static void on_register_closed(struct conn *c, int err) {}

static void on_accept(void *arg, struct conn *c)
{
    static const struct conn_cb cb = {.frame = on_register, .closed = on_register_closed};
    c->cb = &cb;
    c->arg = arg;
}

/* ---- life ---- */

/* Who is already leaving waits for nobody's answer any more. */
static void on_signal(void *arg, int signum)
{
    struct master *m = arg;
    if (m->leaving) io_loop_stop(m->loop);
    fail(m, slice_str(signum == SIGINT ? "stopped by Ctrl-C" : "stopped by SIGTERM"));
}

static void free_peers(struct master *m)
{
    while (!list_empty(&m->peers)) {
        struct lab_peer *p = container_of(list_pop_front(&m->peers), struct lab_peer, link);
        if (m->rc == 0 && p->counted) printf("worker %s tasks %u\n", p->addr, p->tasks);
        free(p->addr);
        free(p);
    }
}

static int run(struct master *m)
{
    struct sched_config config = {.maps = m->lab->job.lab_maps,
                                  .reduces = m->lab->job.reducers,
                                  .attempts = ATTEMPTS,
                                  .losses = LOSSES,
                                  .silence_ns = UINT64_MAX / 4, /* a call is answered or it fails */
                                  .shared = true};
    const struct mr_lab_options *o = m->lab->o;

    m->sched = sched_new(&config, clock_now(io_clock(m->loop)));
    int rc = net_listen(io_net(m->loop), o->address, on_accept, m);
    if (rc < 0) {
        mr__fmt(&m->lab->why, "cannot listen on %s: %s", o->address, err_text(rc));
        return rc;
    }
    io_on_signal(m->loop, SIGINT, on_signal, m);
    io_on_signal(m->loop, SIGTERM, on_signal, m);
    io_loop_run(m->loop);
    return m->rc;
}

int mr_lab_master(const struct mr_lab_options *o)
{
    struct lab lab;
    struct master m = {.lab = &lab, .next_id = 1};
    int rc = mr__lab_begin(o, &lab);

    if (rc == 0) {
        list_init(&m.peers);
        m.loop = io_loop_new();
        rc = m.rc = run(&m);
        m.leaving = m.over = true;
        io_loop_free(m.loop);
        free_peers(&m);
        sched_free(m.sched);
    }
    if (rc == 0) rc = mr__lab_merge(&lab.job, lab.dir, &lab.why);
    return mr__lab_end(&lab, rc);
}
