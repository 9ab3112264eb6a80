/* coord.c - the coordinator: connections, worker processes and the clock around the scheduler (sched.h).
 *
 * Happy path: it starts its workers, each says hello and joins; the scheduler's assignments go out, results come in;
 * what is done is journalled (scribe.c); when every task is done and the journal is durable the output is published (on
 * a pool thread, a stalled filesystem must not make workers look silent), the workers are told goodbye, and the loop
 * ends.
 *
 * Failure modes: a worker dies, hangs or sends nonsense: it is let go, and killed if it is our child; children that end
 * are replaced, unless so many end in a row without one finished task that it is hopeless. Another worker of the same
 * machine, which may be the replacement, is asked to take over the map outputs. A task that fails too often, a failing
 * publish, SIGINT and SIGTERM end the run; the job stays as its directory says, for who wants to go on with it. When
 * the job's token is gone, this process has been frozen and replaced, or the job cancelled: it touches nothing more and
 * ends; its workers find their way to the successor (worker.c). */
#include "mr/coord.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "io/io.h"
#include "mr/face.h"
#include "mr/msg.h"
#include "mr/output.h"
#include "mr/owner.h"
#include "mr/scribe.h"
#include "mr/util.h"
#include "mr/workdir.h"

#define GOODBYE_NS (2 * NS_PER_S)
#define RETURN_NS  (2 * NS_PER_S) /* for workers of the last coordinator to come back in, before others are started */
#define TEXT_MAX   4096u          /* of what a worker says of itself: a path */
#define DEATHS_MAX 10u            /* in a row, and as many again for each worker that is wanted */

/* A directory with map outputs: a worker's own, or what one has left. */
struct home {
    struct list link;
    char *host, *dir;
    struct peer *keeper; /* who serves it; NULL: nobody */
    struct peer *asked;  /* whether it can */
    bool ask_again;      /* somebody has had it since, so that a no means nothing */
    uint32_t index;      /* in the message at hand */
};

struct peer {
    struct list link;
    struct coord *c;
    struct conn *conn;
    bool joined;
    uint32_t id; /* while joined, for the scheduler; never used again */
    pid_t pid;
    char *host, *addr;
    struct home *own;
    struct timer stranger; /* until it has joined */
    bool claims;           /* to be done with a reduce task; the last one: */
    uint32_t claimed_no, claimed_attempt;
};

struct child {
    struct list link;
    struct coord *c;
    struct io_child *process;
};

enum coord_state { WORKING, PUBLISHING, LEAVING };
enum face { FACE_PROGRESS, FACE_PROGRESS_JSON, FACE_TASKS, FACE_COUNTERS, FACE_HEAVIEST, FACES };

struct coord {
    struct run *run;
    struct io_loop *loop;
    struct sched *sched;
    enum coord_state state;
    int code;
    struct list peers, homes, children;
    uint32_t next_id, children_n, wanted, deaths;
    char *addr, *host;     /* where our children find us; what they call this machine */
    struct home **held_in; /* by map task: where its output is, or was */
    uint32_t *held_attempt;
    struct task_result *result; /* while a step is about it */
    struct home *result_in;
    struct timer tick, spawn, goodbye, beat;
    struct scribe *scribe;
    uint64_t shown[FACES]; /* hashes of what people see in the job's directory */
    struct buf publish_why;
    int publish_rc;
    bool publish_runs, given_away;
    bool over; /* the job: done or cancelled, for everybody */
};

static void step(struct coord *c, struct sched_event e);

static uint64_t now(const struct coord *c) { return clock_now(io_clock(c->loop)); }
static void arm(struct coord *c, struct timer *t, uint64_t at) { clock_arm(io_clock(c->loop), t, at); }

static void send(struct peer *p, uint8_t type, const struct buf *payload)
{
    struct slice s = buf_slice(payload);
    int rc = conn_send(p->conn, type, &s, 1);
    if (rc == 0 || rc == -ENOTCONN) return;
    mr__progress_note(&p->c->run->progress, "a message for worker %u could not be sent: %s", p->id, err_text(rc));
    conn_close(p->conn);
}

/* Empties b. A chain shows the progress of its job as its own. */
static void show(struct coord *c, enum face which, const char *name, struct buf *b)
{
    const struct jobdir *above = which <= FACE_PROGRESS_JSON ? c->run->place.above : NULL;
    uint64_t hash = hash64(1, b->p, b->n);
    if (hash != c->shown[which]) {
        mr__scribe_file(c->scribe, c->run->place.own, name, buf_slice(b));
        if (above) mr__scribe_file(c->scribe, above->own, name, buf_slice(b));
    }
    c->shown[which] = hash;
    buf_clear(b);
}

/* What people see in the job's directory. */
static void show_face(struct coord *c)
{
    struct sched_facts f = sched_facts(c->sched);
    struct buf b = {0};

    mr__progress_text(&c->run->progress, &f, false, &b);
    show(c, FACE_PROGRESS, "progress", &b);
    mr__progress_text(&c->run->progress, &f, true, &b);
    show(c, FACE_PROGRESS_JSON, "progress.json", &b);
    mr__face_tasks(c->run, c->sched, &b);
    show(c, FACE_TASKS, "tasks", &b);
    mr__face_counters(c->run, &b);
    show(c, FACE_COUNTERS, "counters", &b);
    mr__face_heaviest(c->run, &b);
    show(c, FACE_HEAVIEST, "heaviest", &b);
    buf_free(&b);
}

/* ---- the end ---- */

static void end_loop(struct coord *c)
{
    if (c->state == LEAVING && list_empty(&c->children)) io_loop_stop(c->loop);
}

static void on_goodbye_over(struct timer *t)
{
    struct coord *c = t->arg;
    list_for_each(it, &c->children) io_child_kill(container_of(it, struct child, link)->process, SIGKILL);
}

/* Somebody else has the job now: our workers are theirs. */
static void leave_it_to_others(struct coord *c)
{
    while (!list_empty(&c->children)) {
        struct child *ch = container_of(list_pop_front(&c->children), struct child, link);
        io_child_release(ch->process);
        free(ch);
    }
    c->state = LEAVING;
    c->code = MR_EXIT_FAILED;
    c->given_away = true;
    end_loop(c);
}

/* Everything but our children's end is behind us. */
static void leave(struct coord *c, int code)
{
    const struct jobdir *above = c->run->place.above;
    struct buf nothing = {0};
    if (c->state == LEAVING) return;
    c->state = LEAVING;
    c->code = code;
    if (code != MR_EXIT_OK && c->run->ours) {
        show_face(c);
        mr__scribe_file(c->scribe, c->run->place.own, "failed", buf_slice(&c->run->why));
        if (above) mr__scribe_file(c->scribe, above->own, "failed", buf_slice(&c->run->why));
    }
    list_for_each(it, &c->peers)
    {
        struct peer *p = container_of(it, struct peer, link);
        if (p->joined) send(p, MR_BYE, &nothing);
    }
    arm(c, &c->goodbye, now(c) + GOODBYE_NS);
    end_loop(c);
}

static void on_lost(void *arg, int err)
{
    struct coord *c = arg;
    if (c->state == LEAVING || c->publish_runs) return; /* publishing finds out by itself */
    c->state = WORKING;
    c->over = mr__run_lost(c->run, err);
    if (c->run->ours || c->over)
        leave(c, MR_EXIT_FAILED);
    else
        leave_it_to_others(c);
}

static void on_beat(struct timer *t)
{
    struct coord *c = t->arg;
    mr__scribe_beat(c->scribe);
    if (c->state == WORKING) show_face(c);
    arm(c, t, now(c) + c->run->job.beat_ns);
}

static void publish(void *arg)
{
    struct coord *c = arg;
    c->publish_rc = mr__run_publish(c->run, &c->publish_why);
}

/* Nobody waits for it but our own end: io_loop_free(). */
static void clean(void *arg) { mr__output_clean(((struct coord *)arg)->run->place.path); }
static void on_cleaned(void *arg) {}

static void on_published(void *arg)
{
    struct coord *c = arg;
    struct sched_facts f = sched_facts(c->sched);
    struct counters all = {0};

    c->state = WORKING;
    c->publish_runs = false;
    if (c->publish_rc == -ESTALE) {
        on_lost(c, -ESTALE);
        return;
    }
    if (c->publish_rc < 0) {
        put_bytes(&c->run->why, buf_slice(&c->publish_why));
    } else {
        show_face(c);
        mr__run_sum(c->run, &all);
        mr__progress_done(&c->run->progress, &all, &f);
        mr__counters_free(&all);
        c->over = true;
        io_work(c->loop, clean, on_cleaned, c);
    }
    leave(c, c->publish_rc < 0 ? MR_EXIT_FAILED : MR_EXIT_OK);
}

/* All that the output depends on is in the journal. */
static void on_journalled(void *arg)
{
    struct coord *c = arg;
    c->publish_runs = true;
    io_work(c->loop, publish, on_published, c);
}

static void give_up(struct coord *c, const struct sched_effect *e)
{
    struct buf *why = &c->run->why;
    bool map = e->phase == SCHED_MAP;
    uint32_t attempts = c->run->o->attempts ? c->run->o->attempts : MR_ATTEMPTS_DEFAULT;
    /* What is said at the moment may be about another task. */
    const struct task_result *r = c->result;
    if (r && (r->phase != e->phase || r->no != e->task)) r = NULL;

    if (mr__jobdir_mine(&c->run->place) == -ESTALE) { /* no wonder: somebody else has it, or has ended it */
        on_lost(c, -ESTALE);
        return;
    }
    if (r && r->outcome == TASK_FAILED)
        mr__report(why, c->run->o, &c->run->job, &c->run->plan, r, attempts);
    else if (r && r->outcome != TASK_DONE)
        mr__fmt(why, "%s task %u found its input missing again and again: %.*s", map ? "map" : "reduce", e->task,
                (int)r->why.n, r->why.p);
    else
        mr__fmt(why, "%s task %u was lost with its worker too often; program: %s", map ? "map" : "reduce", e->task,
                map ? c->run->job.map : c->run->job.reduce);
    leave(c, MR_EXIT_FAILED);
}

/* ---- children ---- */

static void on_child_exited(void *arg, int64_t status, int signum)
{
    struct child *ch = arg;
    struct coord *c = ch->c;

    list_remove(&ch->link);
    free(ch);
    c->children_n--;
    if (c->state == LEAVING) {
        end_loop(c);
        return;
    }
    if (signum)
        mr__progress_note(&c->run->progress, "a worker was killed by signal %d (%s)", signum, strsignal(signum));
    else
        mr__progress_note(&c->run->progress, "a worker exited with status %lld", (long long)status);
    if (c->state == PUBLISHING) return;
    if (++c->deaths > DEATHS_MAX * (1 + c->wanted)) {
        mr__fmt(&c->run->why, "workers keep dying: %u in a row, and no task was finished meanwhile", c->deaths);
        leave(c, MR_EXIT_FAILED);
        return;
    }
    /* The first to die are replaced at once; if that does not help, more slowly. */
    arm(c, &c->spawn, c->deaths <= c->wanted ? 0 : now(c) + NS_PER_S / 4);
}

static int spawn_one(struct coord *c)
{
    /* Detached: Ctrl-C on a terminal is for us alone, we end them. They survive our death, for a coordinator that takes
     * over; if none does they end by themselves. */
    char *base = mr__strf("%.*s", (int)(strrchr(c->run->dir, '/') - c->run->dir), c->run->dir);
    char *argv[] = {"/proc/self/exe", "mr", "worker", "--coordinator", c->addr, "--workdir", base, NULL};
    struct child *ch = xcalloc(1, sizeof *ch);
    struct io_child_options o = {.argv = argv,
                                 .stdin_fd = -1,
                                 .stdout_fd = 2,
                                 .stderr_fd = 2,
                                 .detached = true,
                                 .exited = on_child_exited,
                                 .arg = ch};

    ch->c = c;
    int rc = io_spawn(c->loop, &o, &ch->process);
    free(base);
    if (rc < 0) {
        free(ch);
        return rc;
    }
    list_push_back(&c->children, &ch->link);
    c->children_n++;
    return 0;
}

/* Workers of this machine that somebody else started. */
static uint32_t adopted(const struct coord *c)
{
    uint32_t n = 0;
    list_for_each(it, &c->peers)
    {
        struct peer *p = container_of(it, struct peer, link);
        bool own = !p->joined || strcmp(p->host, c->host) != 0;
        list_for_each(at, &c->children) own =
            own || io_child_pid(container_of(at, struct child, link)->process) == p->pid;
        n += !own;
    }
    return n;
}

static void on_spawn(struct timer *t)
{
    struct coord *c = t->arg;
    uint32_t others = c->run->restored[SCHED_MAP] ? adopted(c) : 0;
    while (c->state == WORKING && c->children_n + others < c->wanted) {
        int rc = spawn_one(c);
        if (rc == 0) continue;
        if (c->children_n) return; /* the others will have to do */
        mr__fmt(&c->run->why, "cannot start a worker process: %s", err_text(rc));
        leave(c, MR_EXIT_FAILED);
    }
}

static void kill_child(struct coord *c, const struct peer *p)
{
    if (strcmp(p->host, c->host) != 0) return;
    list_for_each(it, &c->children)
    {
        struct child *ch = container_of(it, struct child, link);
        if (io_child_pid(ch->process) == p->pid) io_child_kill(ch->process, SIGKILL);
    }
}

/* ---- effects ---- */

static struct peer *find_peer(struct coord *c, uint32_t id)
{
    list_for_each(it, &c->peers)
    {
        struct peer *p = container_of(it, struct peer, link);
        if (p->joined && p->id == id) return p;
    }
    return NULL;
}

static void assign_map(struct coord *c, struct peer *p, const struct sched_effect *e)
{
    struct buf b = {0};
    struct task t;
    mr__run_map_task(c->run, e->task, e->attempt, &t);
    mr__task_encode(&b, &t);
    send(p, MR_TASK_MAP, &b);
    mr__task_free(&t);
    buf_free(&b);
}

static void assign_reduce(struct coord *c, struct peer *to, const struct sched_effect *e)
{
    uint32_t maps = (uint32_t)c->run->plan.splits_n, homes_n = 0;
    struct buf b = {0}, homes = {0}, outputs = {0};

    list_for_each(it, &c->homes) container_of(it, struct home, link)->index = UINT32_MAX;
    for (uint32_t m = 0; m < maps; m++) {
        struct home *h = c->held_in[m];
        check(h && h->keeper);
        if (h->index == UINT32_MAX) {
            h->index = homes_n++;
            put_slice16(&homes, slice_str(h->host));
            put_slice16(&homes, slice_str(h->dir));
            put_slice16(&homes, slice_str(h->keeper->addr));
        }
        put_u32(&outputs, h->index);
        put_u32(&outputs, c->held_attempt[m]);
    }
    put_u32(&b, e->task);
    put_u32(&b, e->attempt);
    put_u32(&b, homes_n);
    put_bytes(&b, buf_slice(&homes));
    put_u32(&b, maps);
    put_bytes(&b, buf_slice(&outputs));
    send(to, MR_TASK_REDUCE, &b);
    buf_free(&b);
    buf_free(&homes);
    buf_free(&outputs);
}

static void cancel(struct peer *p, const struct sched_effect *e)
{
    struct buf b = {0};
    put_u8(&b, (uint8_t)e->phase);
    put_u32(&b, e->task);
    put_u32(&b, e->attempt);
    send(p, MR_CANCEL, &b);
    buf_free(&b);
}

static void commit(struct coord *c, const struct sched_effect *e)
{
    struct peer *by = c->result ? c->result_in->keeper : NULL;
    check(by && by->id == e->worker);
    if (e->phase == SCHED_MAP) {
        c->held_in[e->task] = c->result_in;
        c->held_attempt[e->task] = e->attempt;
    }
    struct buf b = {0};
    char *holder = mr__strf("%s %d", by->host, (int)by->pid);
    mr__run_journal(&b, e->phase, e->task, e->attempt, e->phase == SCHED_MAP ? holder : "", &c->result->counters);
    mr__scribe_journal(c->scribe, buf_slice(&b));
    free(holder);
    buf_free(&b);
    mr__run_commit(c->run, e->phase, e->task, e->attempt, &c->result->counters);
}

static void evict(struct coord *c, struct peer *p)
{
    mr__progress_note(&c->run->progress, "worker %u (process %d) has been silent for too long and is given up", p->id,
                      (int)p->pid);
    kill_child(c, p);
    conn_close(p->conn);
}

static void carry_out(struct coord *c, const struct sched_effect *e)
{
    struct peer *p =
        e->kind == SCHED_ASSIGN || e->kind == SCHED_CANCEL || e->kind == SCHED_EVICT ? find_peer(c, e->worker) : NULL;
    switch (e->kind) {
    case SCHED_ASSIGN:
        if (e->phase == SCHED_MAP)
            assign_map(c, p, e);
        else
            assign_reduce(c, p, e);
        break;
    case SCHED_CANCEL:
        cancel(p, e);
        break;
    case SCHED_EVICT:
        evict(c, p);
        break;
    case SCHED_COMMIT:
        commit(c, e);
        break;
    case SCHED_REVOKE:
        c->held_in[e->task] = NULL;
        break;
    case SCHED_FINISH:
        c->state = PUBLISHING;
        mr__scribe_then(c->scribe, on_journalled, c);
        break;
    case SCHED_GIVE_UP:
        give_up(c, e);
        break;
    }
}

static void step(struct coord *c, struct sched_event e)
{
    if (c->state != WORKING) return;
    size_t n = sched_step(c->sched, &e, now(c));
    const struct sched_effect *v = sched_effects(c->sched);
    for (size_t i = 0; i < n; i++) carry_out(c, &v[i]);
    if (c->state != WORKING) return;
    struct sched_facts f = sched_facts(c->sched);
    mr__progress_show(&c->run->progress, &f);
    uint64_t shown = mr__progress_next(&c->run->progress), t = mr__now();
    arm(c, &c->tick, min_u64(sched_deadline(c->sched), now(c) + (shown > t ? shown - t : 0)));
}

static void on_tick(struct timer *t) { step(t->arg, (struct sched_event){.kind = SCHED_TICK}); }

/* ---- map outputs whose worker is gone ---- */

/* Where p says that it has outputs. */
static struct home *home_of(struct coord *c, struct peer *p, char *dir)
{
    list_for_each(it, &c->homes)
    {
        struct home *h = container_of(it, struct home, link);
        if (strcmp(h->dir, dir) != 0 || (h->keeper && h->keeper != p) || strcmp(h->host, p->host) != 0) continue;
        free(dir);
        h->keeper = p;
        return h;
    }
    struct home *h = xcalloc(1, sizeof *h);
    *h = (struct home){.host = mr__strf("%s", p->host), .dir = dir, .keeper = p};
    list_push_back(&c->homes, &h->link);
    return h;
}

static bool needed(const struct coord *c, const struct home *h)
{
    size_t m = 0;
    while (m < c->run->plan.splits_n && c->held_in[m] != h) m++;
    return m < c->run->plan.splits_n;
}

/* Whoever could have it has been asked. What is awaited of it still is made again. */
static void await_no_more(struct coord *c, const struct home *h)
{
    for (uint32_t m = 0; m < c->run->plan.splits_n; m++)
        if (c->held_in[m] == h)
            step(c, (struct sched_event){.kind = SCHED_UNCLAIMED, .task = m, .attempt = c->held_attempt[m]});
}

static void ask(struct home *h, struct peer *p)
{
    struct buf b = {0};
    h->asked = p;
    h->ask_again = false;
    put_slice16(&b, slice_str(h->dir));
    send(p, MR_ADOPT, &b);
    buf_free(&b);
}

/* A worker with the same host may reach it; it will see for itself. On our own there will be a new one. */
static void find_keeper(struct coord *c, struct home *h)
{
    if (h->keeper || h->asked || !needed(c, h)) return;
    list_for_each(it, &c->peers)
    {
        struct peer *p = container_of(it, struct peer, link);
        if (!p->joined || strcmp(p->host, h->host) != 0) continue;
        ask(h, p);
        return;
    }
    if (!c->wanted || strcmp(h->host, c->host) != 0) await_no_more(c, h);
}

static void find_keepers(struct coord *c)
{
    list_for_each(it, &c->homes)
    {
        if (c->state == WORKING) find_keeper(c, container_of(it, struct home, link));
    }
}

static void free_home(struct home *h)
{
    list_remove(&h->link);
    free(h->host);
    free(h->dir);
    free(h);
}

static void free_homes(struct coord *c, bool all)
{
    list_for_each_safe(it, next, &c->homes)
    {
        struct home *h = container_of(it, struct home, link);
        if (all || (!h->keeper && !h->asked && !needed(c, h))) free_home(h);
    }
}

/* Before it is told to the scheduler. */
static void forget_keeper(struct coord *c, const struct peer *p)
{
    list_for_each(it, &c->homes)
    {
        struct home *h = container_of(it, struct home, link);
        if (h->asked == p) h->asked = NULL;
        if (h->keeper != p) continue;
        h->keeper = NULL;
        h->ask_again = h->asked != NULL;
    }
}

/* ---- what workers say ---- */

/* All workers' texts go into one frame for each reduce task, so none may be as long as it likes. */
static char *get_text(struct reader *r)
{
    struct slice s = get_slice16(r);
    if (s.n > TEXT_MAX || (s.n && memchr(s.p, 0, s.n))) r->bad = true;
    return mr__str(r->bad ? (struct slice){0} : s);
}

static char *get_dir(struct reader *r)
{
    char *dir = get_text(r);
    if (dir[0] != '/') r->bad = true;
    return dir;
}

/* ":port" becomes an address that other machines can dial: where the worker's connection came from. One from this
 * machine stays as it is: a worker elsewhere knows this machine's address by itself, by having dialled us. */
static char *complete_addr(const struct conn *conn, char *addr)
{
    const char *colon = strrchr(conn->peer, ':');
    if (addr[0] != ':' || !colon || strncmp(conn->peer, "127.", 4) == 0 || strncmp(conn->peer, "[::1]", 5) == 0)
        return addr;
    char *full = mr__strf("%.*s%s", (int)(colon - conn->peer), conn->peer, addr);
    free(addr);
    return full;
}

static void refuse(struct peer *p, const char *why)
{
    struct buf b = {0};
    mr__fmt(&b, "%s", why);
    send(p, MR_REFUSED, &b);
    buf_free(&b);
    conn_close(p->conn);
}

static int take_hello(struct peer *p, struct slice payload)
{
    struct coord *c = p->c;
    struct reader r = reader_of(payload);
    uint32_t version = get_u32(&r);
    struct buf b = {0};

    if (p->joined || p->host) return -EBADMSG;
    if (version != MR_PROTOCOL) {
        refuse(p, "it speaks another version of the protocol");
        return 0;
    }
    p->pid = (pid_t)get_u32(&r);
    p->host = get_text(&r);
    char *dir = get_dir(&r);
    p->addr = complete_addr(p->conn, get_text(&r));
    struct slice job = get_slice16(&r);
    bool ours = job.n == 0 || slice_eq(job, slice_str(c->run->job.id));
    int rc = reader_done(&r) ? 0 : -EBADMSG;
    if (rc < 0 || c->state != WORKING || !ours) {
        free(dir);
        if (rc == 0) refuse(p, ours ? "the job is over" : "it is of another job");
        return rc;
    }
    p->id = c->next_id++;
    p->joined = true;
    p->own = home_of(c, p, dir);
    p->conn->guest = false;
    clock_disarm(io_clock(c->loop), &p->stranger);
    mr__job_encode(&b, &c->run->job);
    send(p, MR_WELCOME, &b);
    buf_free(&b);
    step(c, (struct sched_event){.kind = SCHED_JOINED, .worker = p->id});
    find_keepers(c);
    return 0;
}

/* Of a task that there is, and no more outputs than there are can be lost. */
static bool makes_sense(const struct coord *c, const struct task_result *r)
{
    size_t maps = c->run->plan.splits_n;
    return r->no < (r->phase == SCHED_MAP ? maps : c->run->job.reducers) && r->lost_n <= maps;
}

/* Of an attempt that its worker was given; else anybody could make any number of files. */
static void keep_stderr(struct coord *c, const struct sched_event *e, const struct task_result *r)
{
    char name[64];
    if (r->err.n == 0 || c->state != WORKING || !sched_runs(c->sched, e)) return;
    snprintf(name, sizeof name, "%s-%u-%u", r->phase == SCHED_MAP ? "map" : "reduce", r->no, r->attempt);
    char *dir = mr__strf("%s/stderr", c->run->place.path);
    mr__scribe_file(c->scribe, dir, name, buf_slice(&r->err));
    free(dir);
}

static struct sched_event event_of(const struct peer *p, const struct task_result *r)
{
    return (struct sched_event){.phase = r->phase, .worker = p->id, .task = r->no, .attempt = r->attempt};
}

static void conclude(struct peer *p, struct task_result *r)
{
    struct coord *c = p->c;
    static const enum sched_event_kind kinds[] = {SCHED_DONE, SCHED_FAILED, SCHED_STARVED, SCHED_STARVED};
    struct sched_event e = event_of(p, r);

    c->result = r;
    c->result_in = p->own;
    if (r->outcome == TASK_DONE) c->deaths = 0;
    if (r->outcome != TASK_DONE && c->state == WORKING)
        mr__progress_note(&c->run->progress, "%s task %u, attempt %u at worker %u: %.*s",
                          r->phase == SCHED_MAP ? "map" : "reduce", r->no, (r->attempt & 0xffff) + 1, p->id,
                          (int)min_u64(r->why.n, 500), r->why.p);
    keep_stderr(c, &e, r);
    if (r->phase == SCHED_REDUCE && r->outcome == TASK_DONE)
        sched_weigh_running(c->sched, p->id, MR_TASK_WEIGHT + r->counters.built_in[MR_SHUFFLE_BYTES]);
    for (size_t i = 0; i < r->lost_n; i++) {
        e.kind = r->outcome == TASK_UNREACHED ? SCHED_UNREACHED : SCHED_LOST;
        e.map = (uint32_t)(r->lost[i] >> 32);
        e.output = (uint32_t)r->lost[i];
        step(c, e);
    }
    e.kind = kinds[r->outcome];
    step(c, e);
    c->result = NULL;
}

/* A reduce task's file, by which its worker's word is checked: what is missing at the end would fail the whole job. On
 * a pool thread, as publishing; the worker may be gone, or the attempt over, before the answer is there. */
struct claim {
    struct coord *c;
    uint32_t worker;
    struct task_result r;
    bool there;
};

static void look_for_part(void *arg)
{
    struct claim *l = arg;
    l->there = mr__run_has_part(l->c->run, l->r.no, l->r.attempt, l->r.counters.built_in[MR_OUTPUT_BYTES]);
}

static void on_looked(void *arg)
{
    struct claim *l = arg;
    struct peer *p = find_peer(l->c, l->worker);
    if (!l->there) {
        l->r.outcome = TASK_FAILED;
        buf_clear(&l->r.why);
        mr__fmt(&l->r.why, "its worker says that it is done, and its output of %llu bytes is not there",
                (unsigned long long)l->r.counters.built_in[MR_OUTPUT_BYTES]);
    }
    if (p && l->c->state == WORKING) conclude(p, &l->r);
    mr__result_free(&l->r);
    free(l);
}

static bool is_claim(const struct peer *p, const struct task_result *r)
{
    struct sched_event e = event_of(p, r);
    return r->phase == SCHED_REDUCE && r->outcome == TASK_DONE && p->c->state == WORKING && sched_runs(p->c->sched, &e);
}

static int take_result(struct peer *p, struct slice payload)
{
    struct coord *c = p->c;
    struct task_result r;

    if (mr__result_decode(payload, &r) < 0) return -EBADMSG;
    if (!makes_sense(c, &r)) {
        mr__result_free(&r);
        return -EBADMSG;
    }
    if (!is_claim(p, &r)) {
        conclude(p, &r);
    } else if (!p->claims || p->claimed_no != r.no || p->claimed_attempt != r.attempt) {
        struct claim *l = xcalloc(1, sizeof *l);
        *l = (struct claim){.c = c, .worker = p->id, .r = r};
        p->claims = true;
        p->claimed_no = r.no;
        p->claimed_attempt = r.attempt;
        io_work(c->loop, look_for_part, on_looked, l);
        return 0;
    }
    mr__result_free(&r);
    return 0;
}

/* What a worker has done for an earlier coordinator, or for us before its connection broke, or taken over. */
static int take_held(struct peer *p, struct slice payload)
{
    struct coord *c = p->c;
    struct task_result r;
    struct reader in = reader_of(payload);
    char *dir = get_dir(&in);

    if (in.bad || mr__result_decode(get_bytes(&in, reader_left(&in)), &r) < 0) {
        free(dir);
        return -EBADMSG;
    }
    c->result = &r;
    struct home *h = c->result_in = home_of(c, p, dir);
    int rc = r.phase == SCHED_MAP && r.outcome == TASK_DONE && makes_sense(c, &r) ? 0 : -EBADMSG;
    if (rc == 0) step(c, (struct sched_event){.kind = SCHED_HELD, .worker = p->id, .task = r.no, .attempt = r.attempt});
    if (h != p->own && !needed(c, h)) free_home(h); /* of no use, and anybody could name any number */
    c->result = NULL;
    mr__result_free(&r);
    return rc;
}

static int take_adopted(struct peer *p, struct slice payload)
{
    struct coord *c = p->c;
    struct reader in = reader_of(payload);
    char *dir = get_dir(&in);
    int rc = reader_done(&in) ? 0 : -EBADMSG;

    list_for_each(it, &c->homes)
    {
        struct home *h = container_of(it, struct home, link);
        if (rc < 0 || h->asked != p || strcmp(h->dir, dir) != 0) continue;
        h->asked = NULL;
        if (h->ask_again)
            find_keeper(c, h);
        else if (!h->keeper || h->keeper == p)
            await_no_more(c, h);
        break;
    }
    free(dir);
    return rc;
}

static void take_beat(struct peer *p, uint64_t bytes, uint64_t weight)
{
    struct buf nothing = {0};
    if (weight) sched_weigh_running(p->c->sched, p->id, MR_TASK_WEIGHT + weight);
    mr__progress_bytes(&p->c->run->progress, bytes);
    step(p->c, (struct sched_event){.kind = SCHED_HEARD, .worker = p->id});
    if (p->c->state != LEAVING) send(p, MR_BEAT, &nothing);
}

static void on_frame(struct conn *conn, uint8_t type, struct slice payload)
{
    struct peer *p = conn->arg;
    int rc = -EBADMSG;

    if (type == MR_HELLO) {
        rc = take_hello(p, payload);
    } else if (p->joined && type == MR_BEAT && payload.n == 16) {
        take_beat(p, load_u64(payload.p), load_u64(payload.p + 8));
        rc = 0;
    } else if (p->joined && type == MR_HELD) {
        rc = take_held(p, payload);
    } else if (p->joined && type == MR_ADOPTED) {
        rc = take_adopted(p, payload);
    } else if (p->joined && type == MR_RESULT) {
        rc = take_result(p, payload);
    }
    if (rc == 0) return;
    mr__progress_note(&p->c->run->progress, "%s sent what is no message of a worker; it is disconnected", conn->peer);
    conn_close(conn);
}

static void on_closed(struct conn *conn, int err)
{
    struct peer *p = conn->arg;
    struct coord *c = p->c;

    list_remove(&p->link);
    clock_disarm(io_clock(c->loop), &p->stranger);
    forget_keeper(c, p);
    if (p->joined) {
        step(c, (struct sched_event){.kind = SCHED_LEFT, .worker = p->id});
        find_keepers(c);
    }
    free_homes(c, false);
    if (p->joined && c->state == WORKING && c->run->restored[SCHED_MAP]) arm(c, &c->spawn, now(c) + NS_PER_S / 4);
    free(p->host);
    free(p->addr);
    free(p);
}

/* The scheduler misses only those that have joined. */
static void on_stranger(struct timer *t) { conn_close(((struct peer *)t->arg)->conn); }

static void on_accept(void *arg, struct conn *conn)
{
    static const struct conn_cb cb = {.frame = on_frame, .closed = on_closed};
    struct coord *c = arg;
    struct peer *p = xcalloc(1, sizeof *p);

    p->c = c;
    p->conn = conn;
    conn->cb = &cb;
    conn->arg = p;
    conn->guest = true;
    list_push_back(&c->peers, &p->link);
    p->stranger = (struct timer){.fire = on_stranger, .arg = p};
    arm(c, &p->stranger, now(c) + 8 * c->run->job.beat_ns);
}

/* ---- life ---- */

static void on_signal(void *arg, int signum)
{
    struct coord *c = arg;
    if (c->state != WORKING) return; /* publishing is one step: it is done or not done */
    mr__fmt(&c->run->why, "stopped by %s", signum == SIGINT ? "Ctrl-C" : "SIGTERM");
    leave(c, MR_EXIT_FAILED);
    on_goodbye_over(&c->goodbye);
}

/* Where our own children dial. */
static char *own_address(const char *listen)
{
    const char *colon = strrchr(listen, ':');
    if (strncmp(listen, "*:", 2) == 0 || strncmp(listen, "0.0.0.0:", 8) == 0) return mr__strf("127.0.0.1%s", colon);
    if (strncmp(listen, "[::]:", 5) == 0) return mr__strf("[::1]%s", colon);
    return mr__strf("%s", listen);
}

static int start_listening(struct coord *c)
{
    const struct mr_options *o = c->run->o;
    char *listen = o->listen ? mr__strf("%s", o->listen) : mr__strf("unix:%s/coordinator", c->run->dir);
    int rc = net_listen(io_net(c->loop), listen, on_accept, c);

    if (rc < 0)
        mr__fmt(&c->run->why, "cannot listen on %s: %s", listen, err_text(rc));
    else
        c->addr = own_address(listen);
    if (rc == 0 && o->workers < 0)
        mr__progress_note(&c->run->progress, "waiting for workers: quorumfs mr worker --coordinator %s", listen);
    free(listen);
    return rc;
}

/* Where workers find us: "ADDRESS", a TAB, what this machine is called by its workers, a TAB, the address for others.
 */
static void say_address(struct coord *c)
{
    const char *listen = c->run->o->listen, *colon = listen ? strrchr(listen, ':') : NULL;
    char name[256] = "";
    bool any = listen && (listen[0] == '*' || strncmp(listen, "0.0.0.0:", 8) == 0 || strncmp(listen, "[::]:", 5) == 0);
    if (any && gethostname(name, sizeof name - 1) < 0) any = false;
    char *text = mr__strf("%s\t%s\t%s%s\n", c->addr, c->host, any ? name : "", any ? colon : listen ? listen : "");
    mr__scribe_file(c->scribe, c->run->place.own, "address", slice_str(text));
    free(text);
}

static uint32_t workers_wanted(const struct mr_options *o)
{
    long n = o->workers;
    if (n == 0) n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 0 ? 0 : n == 0 ? 1 : (uint32_t)n;
}

static void coord_free(struct coord *c)
{
    clock_disarm(io_clock(c->loop), &c->tick);
    clock_disarm(io_clock(c->loop), &c->spawn);
    clock_disarm(io_clock(c->loop), &c->goodbye);
    clock_disarm(io_clock(c->loop), &c->beat);
    c->state = LEAVING;
    mr__scribe_stop(c->scribe);
    io_loop_free(c->loop);
    mr__scribe_end(c->scribe);
    mr__workdir_sweep(c->run->o->workdir, c->over ? c->run->job.id : NULL); /* of workers that were killed */
    while (!list_empty(&c->children)) free(container_of(list_pop_front(&c->children), struct child, link));
    free_homes(c, true);
    sched_free(c->sched);
    free(c->held_in);
    free(c->held_attempt);
    free(c->addr);
    free(c->host);
    buf_free(&c->publish_why);
}

int mr__coordinate(struct run *r)
{
    struct coord c = {.run = r, .code = MR_EXIT_FAILED, .wanted = workers_wanted(r->o), .next_id = 1};

    c.loop = io_loop_new();
    list_init(&c.peers);
    list_init(&c.homes);
    list_init(&c.children);
    c.tick = (struct timer){.fire = on_tick, .arg = &c};
    c.spawn = (struct timer){.fire = on_spawn, .arg = &c};
    c.goodbye = (struct timer){.fire = on_goodbye_over, .arg = &c};
    c.beat = (struct timer){.fire = on_beat, .arg = &c};
    c.scribe = mr__scribe_new(c.loop, &r->place, on_lost, &c);
    c.host = mr__this_host();
    c.held_in = xcalloc(r->plan.splits_n + 1, sizeof(struct home *));
    c.held_attempt = xcalloc(r->plan.splits_n + 1, sizeof *c.held_attempt);
    c.sched = mr__run_sched(r, now(&c));
    if (start_listening(&c) == 0) {
        io_on_signal(c.loop, SIGINT, on_signal, &c);
        io_on_signal(c.loop, SIGTERM, on_signal, &c);
        say_address(&c);
        mr__scribe_beat(c.scribe);
        arm(&c, &c.beat, now(&c) + r->job.beat_ns);
        arm(&c, &c.spawn, r->waits ? now(&c) + RETURN_NS : 0);
        on_tick(&c.tick);
        io_loop_run(c.loop);
    }
    coord_free(&c);
    return c.code;
}
