/* fuzz_coord.c - a job's coordinator as it is (mr_run()) and what may come from workers: frames of any type and bytes
 * in any order, hellos, results and held outputs among them, of tasks that they were given, of others and of none;
 * connections that close, break and stand still; children that end; a token that somebody else takes, a job that is
 * cancelled, and the next coordinator's life over what the last one has left. What workers are told must make sense,
 * and the output is there exactly when the coordinator says so. */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mr/coord.h"
#include "mr/jobdir.h"
#include "mr/owner.h"
#include "tests/fuzz/fuzz_job.h"

#define WORKERS 3u
#define MAPS    3u
#define REDUCES 2u

enum {
    DO_DIAL,
    DO_HELLO,
    DO_RESULT,
    DO_HELD,
    DO_BEAT,
    DO_RAW,
    DO_FATE,
    DO_EXIT,
    DO_SIGNAL,
    DO_STEAL,
    DO_CANCEL,
    DO_ADOPTED,
    DOS
};

static struct play {
    struct io_loop *l;
    struct reader r;
    struct far far[WORKERS];
    char dirs[WORKERS][16]; /* that they are asked to take over */
    char *attempts;         /* where reduce tasks write */
    char id[16];            /* the job's */
    const char *top;
} y;

/* ---- the workers' ends ---- */

static void take_welcome(struct slice payload)
{
    struct job j;
    check(mr__job_decode(payload, &j) == 0 && j.reducers == REDUCES && strlen(j.id) < sizeof y.id);
    memcpy(y.id, j.id, strlen(j.id) + 1);
    free(y.attempts);
    y.attempts = mr__strf("%s", j.attempts);
    mr__job_free(&j);
}

static void take_map(struct far *p, struct slice payload)
{
    struct task t;
    check(mr__task_decode(payload, &t) == 0 && t.phase == SCHED_MAP && t.no < MAPS);
    p->task = (struct fuzz_task){SCHED_MAP, t.no, t.attempt};
    mr__task_free(&t);
}

static void take_reduce(struct far *p, struct slice payload)
{
    struct reader r = reader_of(payload);
    p->task.phase = SCHED_REDUCE;
    p->task.no = get_u32(&r);
    p->task.attempt = get_u32(&r);
    uint32_t homes = get_u32(&r);
    check(p->task.no < REDUCES && homes > 0 && homes <= MAPS);
    for (uint32_t i = 0; i < 3 * homes; i++) get_slice16(&r);
    check(get_u32(&r) == MAPS);
    for (uint32_t i = 0; i < MAPS; i++) {
        check(get_u32(&r) < homes);
        get_u32(&r);
    }
    check(reader_done(&r));
}

static void take_adopt(struct far *p, struct slice payload)
{
    struct reader r = reader_of(payload);
    struct slice dir = get_slice16(&r);
    char *to = y.dirs[p - y.far];
    check(reader_done(&r) && dir.n > 0 && dir.n < sizeof y.dirs[0] && dir.p[0] == '/');
    memcpy(to, dir.p, dir.n);
    to[dir.n] = 0;
}

static void far_frame(struct conn *c, uint8_t type, struct slice payload)
{
    struct far *p = c->arg;
    if (type == MR_WELCOME)
        take_welcome(payload);
    else if (type == MR_TASK_MAP)
        take_map(p, payload);
    else if (type == MR_TASK_REDUCE)
        take_reduce(p, payload);
    else if (type == MR_CANCEL)
        check(payload.n == 9);
    else if (type == MR_ADOPT)
        take_adopt(p, payload);
    else
        check(type > MR_HELLO && type < MR_FETCH);
}

static void dial(struct far *p)
{
    static const struct conn_cb cb = {.open = far_open, .frame = far_frame, .closed = far_closed};
    if (p->conn) return;
    p->conn = net_dial(io_net(y.l), "c:1", &cb, p);
    fake_io_run(y.l, NS_PER_MS);
}

/* ---- what they say ---- */

static void put_host(struct buf *b, bool here)
{
    char *host = here ? mr__this_host() : mr__strf("elsewhere");
    put_slice16(b, slice_str(host));
    free(host);
}

/* Bits: the version is another one, as is the job, this machine, as one of the coordinator's children. */
static void send_hello(struct far *p)
{
    uint8_t how = get_u8(&y.r);
    struct io_child *child = fake_io_child(y.l, how >> 4);
    struct buf b = {0};
    put_u32(&b, how & 1 ? how : MR_PROTOCOL);
    put_u32(&b, how & 8 && child ? (uint32_t)io_child_pid(child) : 1u << 30);
    put_host(&b, how & 4);
    put_slice16(&b, slice_str("/work"));
    put_slice16(&b, fuzz_bytes(&y.r));
    put_slice16(&b, how & 2 ? fuzz_bytes(&y.r) : slice_str(y.id));
    far_send(p, MR_HELLO, &b);
}

static void fuzz_counters(struct counters *c)
{
    for (uint8_t n = get_u8(&y.r) % 4; n; n--) {
        uint8_t which = get_u8(&y.r);
        c->built_in[which % MR_COUNTERS_BUILT_IN] = fuzz_number(&y.r);
    }
    mr__counters_add(c, fuzz_bytes(&y.r), (int64_t)fuzz_number(&y.r));
    if (get_u8(&y.r) & 1) put_bytes(&c->skipped, fuzz_bytes(&y.r));
}

static void fuzz_lost(struct task_result *r)
{
    for (uint8_t n = get_u8(&y.r) % 4; n; n--) {
        uint32_t map = (uint32_t)fuzz_number(&y.r);
        mr__result_lose(r, mr__output_tag(map, (uint32_t)fuzz_number(&y.r)));
    }
}

static void make_part(const struct task_result *r)
{
    char *path = y.attempts ? mr__reduce_output(y.attempts, r->no, r->attempt) : NULL;
    FILE *f = path ? fopen(path, "we") : NULL;
    if (f) fclose(f);
    free(path);
}

static struct slice dir_of(const struct far *p, const char *other)
{
    const char *dir = y.dirs[p - y.far];
    return slice_str(*dir ? dir : other);
}

static void send_result(struct far *p, uint8_t type)
{
    uint8_t how = get_u8(&y.r);
    struct task_result r = {.outcome = fuzz_outcome(how)};
    struct buf b = {0};
    r.phase = type == MR_HELD ? SCHED_MAP : how & 0x80 ? SCHED_REDUCE - p->task.phase : p->task.phase;
    r.no = fuzz_skewed(&y.r, type == MR_HELD ? get_u8(&y.r) % (MAPS + 1) : p->task.no);
    r.attempt = fuzz_skewed(&y.r, p->task.attempt);
    if (how & 0x10) {
        fuzz_lost(&r);
        put_bytes(&r.why, fuzz_bytes(&y.r));
        put_bytes(&r.err, fuzz_bytes(&y.r));
        fuzz_counters(&r.counters);
    }
    if (r.phase == SCHED_REDUCE && r.outcome == TASK_DONE && !(how & 0x20) && r.no < REDUCES) make_part(&r);
    if (type == MR_HELD) put_slice16(&b, how & 0x40 ? slice_str("/other") : dir_of(p, "/work"));
    mr__result_encode(&b, &r);
    far_send(p, type, &b);
    mr__result_free(&r);
}

static void send_adopted(struct far *p)
{
    struct buf b = {0};
    put_slice16(&b, dir_of(p, "/other"));
    far_send(p, MR_ADOPTED, &b);
}

static void send_beat(struct far *p)
{
    struct buf b = {0};
    put_u64(&b, fuzz_number(&y.r));
    put_u64(&b, fuzz_number(&y.r));
    far_send(p, MR_BEAT, &b);
}

/* ---- what else happens ---- */

static char *job_path(void) { return mr__strf("%s/.out.mr-%s", y.top, y.id); }

static void take_over(void)
{
    char *job = job_path();
    struct job_look look;
    struct jobdir other;
    struct buf why = {0};
    if (mr__jobdir_look(job, &look) == 0) {
        if (look.state == JOB_LIVE && mr__jobdir_take(job, look.epoch, &other, &why) == 0) mr__jobdir_close(&other);
        mr__look_free(&look);
    }
    buf_free(&why);
    free(job);
}

static void end_job(void)
{
    char *job = job_path();
    if (y.id[0]) mr_cancel(job, NULL);
    free(job);
}

static void step(void)
{
    uint8_t k = get_u8(&y.r);
    struct far *p = &y.far[k / 16 % WORKERS];
    switch (k % 16 % DOS) {
    case DO_DIAL:
        dial(p);
        break;
    case DO_HELLO:
        send_hello(p);
        break;
    case DO_RESULT:
    case DO_HELD:
        send_result(p, k % 16 % DOS == DO_HELD ? MR_HELD : MR_RESULT);
        break;
    case DO_BEAT:
        send_beat(p);
        break;
    case DO_RAW:
        far_raw(p, &y.r, SIZE_MAX);
        break;
    case DO_FATE:
        fuzz_fate(y.l, &y.r, p);
        break;
    case DO_EXIT:
        fuzz_exit(y.l, &y.r);
        break;
    case DO_SIGNAL:
        fake_io_signal(y.l, SIGTERM);
        break;
    case DO_STEAL:
        take_over();
        break;
    case DO_CANCEL:
        end_job();
        break;
    case DO_ADOPTED:
        send_adopted(p);
        break;
    }
}

/* ---- lives of coordinators ---- */

/* In the end everybody is told to go home, and goes. */
static void play(struct io_loop *l)
{
    y.l = l;
    while (!l->stopped && fuzz_more(&y.r)) step();
    if (!l->stopped) fake_io_signal(l, SIGTERM);
    fake_io_run(l, 60 * NS_PER_S);
    check(l->stopped);
    y.l = NULL;
}

static bool there(const char *dir, const char *name)
{
    char *path = mr__strf("%s/%s", dir, name);
    bool yes = access(path, F_OK) == 0;
    free(path);
    return yes;
}

static void check_output(const char *output, int code)
{
    check(there(output, "") == (code == MR_EXIT_OK));
    if (code == MR_EXIT_OK)
        check(there(output, "part-00000") && there(output, "part-00001") && there(output, "_SUCCESS"));
}

/* Nobody holds the job any more. */
static void bury_owner(void)
{
    char *job = job_path(), *text = mr__owner_text();
    char *dead = mr__strf("%.*s 999999999 1", (int)(strchr(text, ' ') - text), text);
    bool more = true;
    for (unsigned e = 0; more; e++) {
        char *own = mr__strf("%s/epoch-%u", job, e);
        more = there(own, "owner");
        if (more) mr__write_file(own, "owner", slice_str(dead));
        free(own);
    }
    free(dead);
    free(job);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *dir = fuzz_dir();
    char *top = mr__strf("%s/x", dir), *in = mr__strf("%s/in", dir), *out = mr__strf("%s/out", top);
    const char *inputs[] = {in};
    struct mr_options o = {.inputs = inputs,
                           .inputs_n = 1,
                           .output = out,
                           .map = "identity",
                           .reduce = "identity",
                           .reducers = REDUCES,
                           .workers = 1,
                           .attempts = 2,
                           .split_bytes = 2,
                           .workdir = dir,
                           .listen = "c:1"};

    fake_io_play = play;
    y = (struct play){.r = reader_of(slice_of(data, size)), .top = top};
    if (!there(dir, "in")) mr__write_file(dir, "in", slice_str("a\nb\nc\n"));
    check(mkdir(top, 0700) == 0);
    int code = mr_run(&o);
    check_output(out, code);
    while (code != MR_EXIT_OK && fuzz_more(&y.r) && y.id[0]) {
        struct mr_options again = {.resume = out, .workers = 1, .workdir = dir, .listen = "c:1"};
        size_t left = reader_left(&y.r);
        bury_owner();
        code = mr_run(&again);
        check_output(out, code);
        if (left == reader_left(&y.r)) break;
    }
    check(mr__rmtree(top) == 0);
    free(y.attempts);
    free(top);
    free(in);
    free(out);
    return 0;
}

/* ---- seeds ---- */

static void put_do(struct buf *b, unsigned worker, uint8_t what) { put_u8(b, (uint8_t)(worker * 16 + what)); }

static void put_pass(struct buf *b, uint8_t ms) { put_time(b, DO_FATE, ms); }

/* It joins and is given a task. */
static void put_join(struct buf *b, unsigned worker, uint8_t how)
{
    put_do(b, worker, DO_DIAL);
    put_do(b, worker, DO_HELLO);
    put_u8(b, how);
    put_fuzz_bytes(b, slice_str(":7"));
    if (how & 2) put_fuzz_bytes(b, slice_str("abc"));
    put_pass(b, 2);
}

/* `how` without 0x10: nothing but numbers. */
static void put_result(struct buf *b, unsigned worker, uint8_t how)
{
    put_do(b, worker, DO_RESULT);
    put_u8(b, how);
    put_u16(b, 0); /* number and attempt as they were */
    put_pass(b, 2);
}

static void put_failure(struct buf *b, unsigned worker)
{
    put_do(b, worker, DO_RESULT);
    put_u8(b, 0x10 + 13);
    put_u16(b, 0);
    put_u8(b, 1); /* lost */
    put_u16(b, 0);
    put_fuzz_bytes(b, slice_str("it failed"));
    put_fuzz_bytes(b, slice_str("some words\nmore"));
    put_u8(b, 1);
    put_u16(b, 0x0503);
    put_fuzz_bytes(b, slice_str("mine"));
    put_u8(b, 7);
    put_u8(b, 1);
    put_fuzz_bytes(b, slice_str("left out"));
    put_pass(b, 2);
}

void fuzz_seeds(void (*emit)(struct slice seed))
{
    struct buf b = {0};
    /* A job from its beginning to its end, beats between. */
    put_join(&b, 0, 4);
    put_join(&b, 1, 0);
    for (unsigned i = 0; i < 8; i++) {
        put_result(&b, i % 2, 0);
        put_do(&b, i % 2, DO_BEAT);
        put_u16(&b, 0x0905);
        put_pass(&b, 30);
    }
    put_pass(&b, 239);
    emit(buf_slice(&b));
    buf_clear(&b);
    /* Strangers, failures, a silent worker, children that end. */
    put_join(&b, 0, 1);
    put_join(&b, 0, 2);
    put_join(&b, 1, 12);
    put_failure(&b, 1);
    put_failure(&b, 1);
    put_join(&b, 2, 4);
    put_do(&b, 0, DO_EXIT);
    put_u8(&b, 9);
    put_fate(&b, 16 + DO_FATE, FATE_FREEZE);
    for (unsigned i = 0; i < 60; i++) put_pass(&b, 239);
    put_fate(&b, 32 + DO_FATE, FATE_CUT);
    put_pass(&b, 100);
    put_do(&b, 1, DO_RAW);
    put_u8(&b, MR_RESULT);
    put_u16(&b, 3);
    put_u32(&b, 1);
    emit(buf_slice(&b));
    buf_clear(&b);
    /* One dies who has a map output, another one of its machine takes it over, dies, too, and the next one does not. */
    put_join(&b, 0, 4);
    put_result(&b, 0, 0);
    put_join(&b, 1, 4);
    put_fate(&b, DO_FATE, FATE_CUT);
    put_pass(&b, 2);
    put_do(&b, 1, DO_HELD);
    put_u32(&b, 0);
    put_do(&b, 1, DO_ADOPTED);
    put_pass(&b, 2);
    put_join(&b, 2, 4);
    put_fate(&b, 16 + DO_FATE, FATE_CLOSE);
    put_pass(&b, 2);
    put_do(&b, 2, DO_ADOPTED);
    put_pass(&b, 2);
    for (unsigned i = 0; i < 6; i++) put_result(&b, 2, 0);
    put_pass(&b, 239);
    emit(buf_slice(&b));
    buf_clear(&b);
    /* Stopped half-way; another one goes on with what workers still have; taken over, or cancelled. */
    for (unsigned end = 0; end < 3; end++) {
        put_join(&b, 0, end == 1 ? 0 : 4); /* of another machine: it may still be there */
        put_result(&b, 0, 0);
        put_result(&b, 0, 0);
        put_pass(&b, 100);
        put_do(&b, 0, (uint8_t)(end == 0 ? DO_SIGNAL : end == 1 ? DO_STEAL : DO_CANCEL));
        for (unsigned i = 0; i < 30; i++) put_pass(&b, 239);
        put_join(&b, 1, 4);
        for (uint8_t map = 0; map < MAPS; map++) {
            put_do(&b, 1, DO_HELD);
            put_u8(&b, 0);
            put_u8(&b, map);
            put_u16(&b, 0);
        }
        for (unsigned i = 0; i < 5; i++) put_result(&b, 1, 0);
        put_pass(&b, 239);
        emit(buf_slice(&b));
        buf_clear(&b);
    }
    buf_free(&b);
}
