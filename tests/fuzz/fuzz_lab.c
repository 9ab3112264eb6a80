/* fuzz_lab.c - the lab's mode as it is (lab.h): a master (mr_lab_master()) and all that workers may answer, or a worker
 * (mr_lab_worker()) and all that masters may call and its executor may say; the first byte says which. Calls in any
 * order, of any type and bytes, jobs, tasks and results that make sense among them; connections that close and break.
 * Tasks that are given must exist, and a master that says so has the merged result. */
#include <sys/stat.h>

#include "mr/lab.h"
#include "tests/fuzz/fuzz_job.h"

#define INPUTS  2u
#define REDUCES 2u
#define CALLS   3u

enum { DO_SIGN_UP, DO_ANSWER, DO_TASK, DO_SHUTDOWN, DO_RAW, DO_EXEC, DO_EXIT, DO_FATE, DO_DIAL, DOS };

static struct play {
    struct io_loop *l;
    struct reader r;
    bool master, over;
    struct far call[CALLS]; /* calls of the master, or to the worker */
    struct far sign;        /* a worker that registers, or the master where ours does */
    struct far old;         /* a call before, that has not ended yet */
    char *dir;
} y;

/* ---- the other ends ---- */

static void take_task(struct far *f, struct slice payload)
{
    struct reader r = reader_of(payload);
    struct job j;
    struct task t;
    check(mr__job_decode(get_slice32(&r), &j) == 0 && j.lab && j.lab_maps == INPUTS && j.reducers == REDUCES);
    check(mr__task_decode(get_bytes(&r, reader_left(&r)), &t) == 0);
    check(t.no < (t.phase == SCHED_MAP ? INPUTS : REDUCES));
    f->task = (struct fuzz_task){t.phase, t.no, t.attempt};
    mr__task_free(&t);
    mr__job_free(&j);
}

static void take_result(struct slice payload)
{
    struct task_result r;
    check(mr__result_decode(payload, &r) == 0);
    mr__result_free(&r);
}

static void far_frame(struct conn *c, uint8_t type, struct slice payload)
{
    struct far *f = c->arg;
    if (f == &y.old) return;
    if (f == &y.sign)
        check(type == (y.master ? MR_LAB_REGISTERED : MR_LAB_REGISTER));
    else if (y.master && type == MR_LAB_TASK)
        take_task(f, payload);
    else if (y.master)
        check(type == MR_LAB_SHUTDOWN && payload.n == 0);
    else if (type == MR_RESULT)
        take_result(payload);
    else
        check(type == MR_REFUSED || (type == MR_LAB_TASKS && payload.n == 4));
}

static void no_closed(struct conn *c, int err) {}

static const struct conn_cb far_cb = {.open = far_open, .frame = far_frame, .closed = far_closed};

static void on_accept(void *arg, struct conn *c)
{
    static const struct conn_cb nobody = {.closed = no_closed};
    struct far *f = arg;
    c->cb = y.over ? &nobody : &far_cb;
    c->arg = f;
    if (y.over) {
        conn_close(c);
        return;
    }
    if (f->conn) f->conn->arg = &y.old;
    *f = (struct far){.conn = c, .open = true};
}

static void dial(struct far *f, const char *addr)
{
    if (f->conn) return;
    f->conn = net_dial(io_net(y.l), addr, &far_cb, f);
    fake_io_run(y.l, NS_PER_MS);
}

/* ---- what they say ---- */

/* To the master: an address; to the worker: that it is registered. */
static void sign_up(void)
{
    static const char *const addrs[] = {"w:0", "w:1", "w:2", "w:9"};
    uint8_t how = get_u8(&y.r);
    struct buf b = {0};
    if (y.master) {
        dial(&y.sign, "m:1");
        put_slice16(&b, how < 240 ? slice_str(addrs[how % 4]) : fuzz_bytes(&y.r));
    }
    far_send(&y.sign, y.master ? MR_LAB_REGISTER : MR_LAB_REGISTERED, &b);
}

/* The result of a reduce task is there. */
static void make_result(const struct task_result *r)
{
    char *name = mr__strf("mrtmp.lab-res-%u", r->no);
    if (y.dir && r->phase == SCHED_REDUCE && r->no < REDUCES)
        mr__write_file(y.dir, name, slice_str("{\"Key\":\"a\",\"Value\":\"1\"}\n"));
    free(name);
}

static void answer(struct far *f)
{
    uint8_t how = get_u8(&y.r);
    struct task_result r = fuzz_result(&y.r, &f->task, how);
    struct buf b = {0};
    if (r.outcome == TASK_DONE) make_result(&r);
    mr__result_encode(&b, &r);
    mr__result_free(&r);
    far_send(f, MR_RESULT, &b);
}

static void give_task(struct far *f)
{
    uint8_t how = get_u8(&y.r);
    char id[] = "abc0", map[] = "wc", lab[] = "lab", path[] = "/some/file", attempts[] = "/some";
    struct job j = fuzz_job(id, map, attempts);
    j.lab = how & 2 ? NULL : lab;
    j.lab_maps = INPUTS;
    struct task t = {.phase = how & 4 ? SCHED_REDUCE : SCHED_MAP, .path = path, .size = 9, .len = 9};
    struct buf job = {0}, b = {0};
    t.no = how >> 4;
    if (how & 1) id[3] = '1'; /* another job */
    y.call[0].task = (struct fuzz_task){t.phase, t.no, 0};
    mr__job_encode(&job, &j);
    put_slice32(&b, buf_slice(&job));
    mr__task_encode(&b, &t);
    buf_free(&job);
    far_send(f, MR_LAB_TASK, &b);
}

static void step(void)
{
    uint8_t k = get_u8(&y.r);
    struct far *f = &y.call[k / 16 % CALLS], *any = k / 16 % 4 ? f : &y.sign;
    struct buf b = {0};
    switch (k % 16 % DOS) {
    case DO_SIGN_UP:
        sign_up();
        break;
    case DO_ANSWER:
        answer(f);
        break;
    case DO_TASK:
        give_task(f);
        break;
    case DO_SHUTDOWN:
        if (y.master) put_u32(&b, get_u8(&y.r));
        far_send(f, y.master ? MR_LAB_TASKS : MR_LAB_SHUTDOWN, &b);
        break;
    case DO_RAW:
        far_raw(any, &y.r, SIZE_MAX);
        break;
    case DO_EXEC:
        fuzz_executor(y.l, &y.r, &y.call[0].task, NULL);
        break;
    case DO_EXIT:
        fuzz_exit(y.l, &y.r);
        break;
    case DO_FATE:
        fuzz_fate(y.l, &y.r, any);
        break;
    case DO_DIAL:
        if (!y.master) dial(f, "w:1");
        break;
    }
}

/* ---- */

static void play(struct io_loop *l)
{
    y.l = l;
    fake_io_run(l, NS_PER_MS);
    while (!l->stopped && fuzz_more(&y.r)) step();
    y.over = true; /* who calls now is not answered */
    if (!l->stopped) fake_io_signal(l, SIGTERM);
    for (unsigned i = 0; i < CALLS; i++)
        if (y.call[i].conn) conn_close(y.call[i].conn);
    fake_io_run(l, 10 * NS_PER_S);
    if (!l->stopped) fake_io_signal(l, SIGTERM); /* some may never answer */
    check(l->stopped);
    y.l = NULL;
}

static void begin(struct io_loop *l)
{
    static const char *const addrs[CALLS] = {"w:0", "w:1", "w:2"};
    if (!y.master) check(net_listen(io_net(l), "m:1", on_accept, &y.sign) == 0);
    for (unsigned i = 0; y.master && i < CALLS; i++) check(net_listen(io_net(l), addrs[i], on_accept, &y.call[i]) == 0);
}

static void run_master(void)
{
    char *a = mr__strf("%s/a", y.dir), *b = mr__strf("%s/b", y.dir), *merged = mr__strf("%s/mrtmp.lab", y.dir);
    const char *const inputs[INPUTS] = {a, b};
    struct mr_lab_options o = {.job = "lab",
                               .app = "wc",
                               .inputs = inputs,
                               .inputs_n = INPUTS,
                               .reducers = REDUCES,
                               .dir = y.dir,
                               .address = "m:1",
                               .workdir = y.dir};
    check(mr_lab_master(&o) != MR_EXIT_OK || access(merged, F_OK) == 0);
    free(a);
    free(b);
    free(merged);
}

static void run_worker(void)
{
    struct mr_lab_options o = {.address = "w:1", .master = "m:1", .limit = -1, .workdir = y.dir};
    uint8_t limit = get_u8(&y.r);
    if (limit & 0x80) o.limit = limit & 7;
    mr_lab_worker(&o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    y = (struct play){.r = reader_of(slice_of(data, size)), .dir = mr__strf("%s/lab", fuzz_dir())};
    y.master = get_u8(&y.r) & 1;
    check(mkdir(y.dir, 0700) == 0);
    fake_io_begin = begin;
    fake_io_play = play;
    if (y.master)
        run_master();
    else
        run_worker();
    check(mr__rmtree(y.dir) == 0);
    free(y.dir);
    return 0;
}

/* ---- seeds ---- */

static void put_pass(struct buf *b, uint8_t ms) { put_time(b, DO_FATE, ms); }

static void put_answer(struct buf *b, uint8_t who, uint8_t how)
{
    put_u8(b, (uint8_t)(who * 16 + DO_ANSWER));
    put_u8(b, how);
    put_u16(b, 0);
    put_fuzz_bytes(b, slice_str("why"));
    put_pass(b, 2);
}

static void put_raw(struct buf *b, uint8_t who, uint8_t type)
{
    put_u8(b, (uint8_t)(who * 16 + DO_RAW));
    put_u8(b, type);
    put_u16(b, 0);
}

static void seed_masters(void (*emit)(struct slice seed))
{
    struct buf b = {0};
    /* All is well; or a task fails, a worker goes, one is refused. */
    for (uint8_t bad = 0; bad < 3; bad++) {
        put_u8(&b, 1);
        for (uint8_t who = 0; who < 2; who++) {
            put_u8(&b, DO_SIGN_UP);
            put_u8(&b, who);
            put_pass(&b, 2);
        }
        if (bad == 1) put_answer(&b, 0, 10);
        if (bad == 1) put_fate(&b, 16 + DO_FATE, FATE_CUT);
        if (bad == 2) put_raw(&b, 1, MR_REFUSED);
        put_pass(&b, 5);
        for (uint8_t i = 0; i < INPUTS + REDUCES; i++) put_answer(&b, i % 2, 0);
        for (uint8_t who = 0; who < 2; who++) {
            put_u8(&b, (uint8_t)(who * 16 + DO_SHUTDOWN));
            put_u8(&b, 3);
        }
        put_pass(&b, 50);
        emit(buf_slice(&b));
        buf_clear(&b);
    }
    buf_free(&b);
}

static void put_call(struct buf *b, uint8_t who, uint8_t how)
{
    put_u8(b, (uint8_t)(who * 16 + DO_DIAL));
    put_u8(b, (uint8_t)(who * 16 + DO_TASK));
    put_u8(b, how);
    put_pass(b, 2);
}

static void put_over(struct buf *b, uint8_t how)
{
    put_executed(b, DO_EXEC, how);
    put_pass(b, 2);
}

static void seed_workers(void (*emit)(struct slice seed))
{
    struct buf b = {0};
    /* Tasks, one that fails, another job, the end; or a second task at once, or an executor that dies. */
    for (uint8_t bad = 0; bad < 3; bad++) {
        put_u16(&b, bad == 2 ? 0x8400 : 0);
        put_u8(&b, DO_SIGN_UP);
        put_u8(&b, 0);
        put_pass(&b, 2);
        put_call(&b, 0, 0);
        if (bad == 1) put_call(&b, 1, 0x10);
        if (bad == 2) put_u8(&b, DO_EXIT);
        if (bad == 2) put_u8(&b, 9);
        put_pass(&b, 5);
        put_over(&b, 0);
        put_call(&b, 1, 5);
        put_over(&b, 10);
        put_call(&b, 2, 2);
        put_u8(&b, DO_DIAL);
        put_u8(&b, DO_SHUTDOWN);
        put_pass(&b, 20);
        emit(buf_slice(&b));
        buf_clear(&b);
    }
    buf_free(&b);
}

void fuzz_seeds(void (*emit)(struct slice seed))
{
    seed_masters(emit);
    seed_workers(emit);
}
