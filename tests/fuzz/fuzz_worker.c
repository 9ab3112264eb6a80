/* fuzz_worker.c - a worker as it is (mr_worker()) and what may come from all that it speaks to: its coordinator,
 * workers from which it fetches map outputs, workers that fetch from it, and its executor, which is two pipes here.
 * Frames of any type and bytes in any order, jobs, tasks and answers that make sense among them; connections that
 * close, break, stand still; a job's directory that names another coordinator, or none, or is gone. What it sends must
 * make sense, and nothing of it is left over. */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mr/estate.h"
#include "mr/shuffle.h"
#include "tests/fuzz/fuzz_job.h"

#define PARTS   3u
#define RAW_MAX 4096u /* a reduce task of so many bytes fits into its executor's pipe, each path in it repeated */

/* Who is at the other end of a connection. */
enum { BOSS, HOLDER_1, HOLDER_2, GUEST_1, GUEST_2, FARS };

enum {
    DO_WELCOME,
    DO_MAP,
    DO_REDUCE,
    DO_CANCEL,
    DO_RAW,
    DO_DATA,
    DO_END,
    DO_FETCH,
    DO_EXEC,
    DO_EXIT,
    DO_FATE,
    DO_JOB,
    DO_DIAL,
    DOS
};

static struct play {
    struct io_loop *l;
    struct reader r;
    struct far far[FARS];
    char *job, *dir;       /* the job's directory, the worker's */
    char *dead;            /* another worker's, who is dead */
    struct fuzz_task task; /* that it was given last */
} y;

/* ---- the other ends ---- */

static void check_hello(struct slice payload)
{
    struct reader r = reader_of(payload);
    check(get_u32(&r) == MR_PROTOCOL && get_u32(&r) == (uint32_t)getpid());
    check(get_slice16(&r).n > 0);
    struct slice dir = get_slice16(&r);
    check(dir.n > 0);
    free(y.dir);
    y.dir = mr__str(dir);
    check(slice_eq(get_slice16(&r), slice_str("me:1")));
    get_slice16(&r);
    check(reader_done(&r));
}

static void check_result(struct slice payload, bool held)
{
    struct task_result t;
    check(mr__result_decode(payload, &t) == 0);
    check(!held || (t.phase == SCHED_MAP && t.outcome == TASK_DONE));
    mr__result_free(&t);
}

static struct slice check_dir(struct slice payload, bool alone)
{
    struct reader r = reader_of(payload);
    struct slice dir = get_slice16(&r);
    check(dir.n > 0 && dir.p[0] == '/' && (!alone || reader_done(&r)));
    return get_bytes(&r, reader_left(&r));
}

static void check_fetch(struct slice payload)
{
    struct reader r = reader_of(payload);
    get_slice16(&r);
    get_u32(&r);
    get_u32(&r);
    uint32_t parts = get_u32(&r), part = get_u32(&r);
    check(reader_done(&r) && part < parts);
}

static void far_frame(struct conn *c, uint8_t type, struct slice payload)
{
    struct far *p = c->arg;
    long who = p - y.far;
    if (who == BOSS) {
        if (type == MR_HELLO)
            check_hello(payload);
        else if (type == MR_RESULT || type == MR_HELD)
            check_result(type == MR_HELD ? check_dir(payload, false) : payload, type == MR_HELD);
        else if (type == MR_ADOPTED)
            check_dir(payload, true);
        else
            check(type == MR_BEAT && payload.n == 16);
    } else if (who == HOLDER_1 || who == HOLDER_2) {
        check(type == MR_FETCH);
        check_fetch(payload);
    } else {
        check(type == MR_DATA || (type == MR_DATA_END && payload.n == 12));
    }
}

static const struct conn_cb far_cb = {.open = far_open, .frame = far_frame, .closed = far_closed};

static void no_frame(struct conn *c, uint8_t type, struct slice payload) {}
static void no_closed(struct conn *c, int err) {}

static void on_accept(void *arg, struct conn *c)
{
    static const struct conn_cb nobody = {.frame = no_frame, .closed = no_closed};
    struct far *p = arg;
    if (p->conn) {
        c->cb = &nobody;
        conn_close(c);
        return;
    }
    c->cb = &far_cb;
    c->arg = p;
    *p = (struct far){.conn = c, .open = true};
}

/* ---- what the coordinator says ---- */

static void make_job(void)
{
    char *epoch = mr__strf("%s/epoch-0", y.job), *token = mr__strf("%s/out-0", y.job);
    if (mkdir(y.job, 0700) == 0) {
        mkdir(epoch, 0700);
        mkdir(token, 0700);
        mr__write_file(epoch, "address", slice_str("c:1\tnobody\tc:1\n"));
    }
    free(epoch);
    free(token);
}

static void send_welcome(void)
{
    uint8_t how = get_u8(&y.r);
    char id[] = "abc0", map[] = "cat", *attempts = mr__strf("%s/attempts", how & 1 ? "/nonexistent/.o.mr-abc0" : y.job);
    struct buf b = {0};
    struct job j = fuzz_job(id, map, attempts);
    check(j.reducers == PARTS);
    make_job();
    if (how & 2) id[3] = '1';
    if (how & 4) j.beat_ns = fuzz_number(&y.r);
    if (how & 8) j.task_timeout_ns = fuzz_number(&y.r);
    mr__job_encode(&b, &j);
    far_send(&y.far[BOSS], MR_WELCOME, &b);
    free(attempts);
}

static void send_map(void)
{
    char path[] = "/some/file";
    struct task t = {.phase = SCHED_MAP, .no = get_u8(&y.r) % 4, .path = path, .size = 100, .len = 100};
    struct buf b = {0};
    t.attempt = get_u8(&y.r) % 4;
    y.task = (struct fuzz_task){SCHED_MAP, t.no, t.attempt};
    mr__task_encode(&b, &t);
    far_send(&y.far[BOSS], MR_TASK_MAP, &b);
}

/* Outputs of this worker's machine and of two others. */
static void send_reduce(void)
{
    static const char *const hosts[] = {"here", "there", "there"}, *const addrs[] = {"me:1", "w:1", ":2"};
    struct buf b = {0};
    y.task.phase = SCHED_REDUCE;
    y.task.no = get_u8(&y.r) % (PARTS + 1);
    y.task.attempt = get_u8(&y.r) % 4;
    put_u32(&b, y.task.no);
    put_u32(&b, y.task.attempt);
    uint8_t maps = get_u8(&y.r) % 8;
    put_u32(&b, 3);
    for (unsigned i = 0; i < 3; i++) {
        put_slice16(&b, slice_str(hosts[i]));
        put_slice16(&b, slice_str("/work"));
        put_slice16(&b, slice_str(addrs[i]));
    }
    put_u32(&b, maps);
    for (unsigned i = 0; i < maps; i++) {
        put_u32(&b, get_u8(&y.r) % 4); /* there is no fourth */
        put_u32(&b, i);
    }
    far_send(&y.far[BOSS], MR_TASK_REDUCE, &b);
}

static void send_cancel(void)
{
    struct buf b = {0};
    put_u8(&b, (uint8_t)fuzz_skewed(&y.r, y.task.phase));
    put_u32(&b, fuzz_skewed(&y.r, y.task.no));
    put_u32(&b, fuzz_skewed(&y.r, y.task.attempt));
    far_send(&y.far[BOSS], MR_CANCEL, &b);
}

/* ---- what other workers say ---- */

static void send_data(struct far *p)
{
    struct buf b = {0}, block = {0};
    uint8_t how = get_u8(&y.r);
    struct slice bytes = fuzz_bytes(&y.r);
    if (how & 1) {
        put_bytes(&b, bytes);
    } else {
        put_u32(&block, 1);
        put_u32(&block, (uint32_t)bytes.n);
        put_u8(&block, 'k');
        put_bytes(&block, bytes);
        put_u32(&b, (uint32_t)block.n);
        put_u32(&b, crc32c(0, block.p, block.n));
        put_bytes(&b, buf_slice(&block));
    }
    buf_free(&block);
    far_send(p, MR_DATA, &b);
}

static void send_end(struct far *p)
{
    struct buf b = {0};
    put_u32(&b, (uint32_t)fuzz_number(&y.r));
    put_u64(&b, fuzz_number(&y.r));
    far_send(p, MR_DATA_END, &b);
}

static void send_fetch(struct far *p)
{
    struct buf b = {0};
    uint8_t how = get_u8(&y.r);
    put_slice16(&b, how & 1 ? fuzz_bytes(&y.r) : slice_str("abc0"));
    put_u32(&b, fuzz_skewed(&y.r, y.task.no));
    put_u32(&b, fuzz_skewed(&y.r, y.task.attempt));
    put_u32(&b, fuzz_skewed(&y.r, PARTS));
    put_u32(&b, (uint32_t)fuzz_number(&y.r));
    far_send(p, MR_FETCH, &b);
}

static void dial(struct far *p)
{
    if (p->conn) return;
    p->conn = net_dial(io_net(y.l), "me:1", &far_cb, p);
    fake_io_run(y.l, NS_PER_MS);
}

/* ---- what the executor says ---- */

/* What it says to have made is there. */
static void make_output(const struct task_result *r)
{
    char *path = mr__map_output(y.dir ? y.dir : "", r->no, r->attempt);
    struct run_writer *w;
    if (y.dir && r->phase == SCHED_MAP && mr__run_create(path, PARTS, &w) == 0) {
        for (uint32_t part = 0; part < PARTS; part++) mr__run_add(w, part, slice_str("key"), slice_str("value"));
        mr__run_finish(w, NULL, NULL);
    }
    free(path);
}

/* ---- what else happens ---- */

/* With a list of one output, or of any bytes, which may be there. */
static void make_estate(void)
{
    uint8_t how = get_u8(&y.r);
    struct task_result r = {.phase = SCHED_MAP, .no = how % 4, .attempt = 9, .outcome = fuzz_outcome(how)};
    char *lock = mr__strf("%s/lock", y.dead);
    struct buf b = {0};
    FILE *f = mkdir(y.dead, 0700) == 0 ? fopen(lock, "we") : NULL;
    if (f) {
        fclose(f);
        int list = mr__estate_begin(y.dead, how & 0x80 ? "abc1" : "abc0");
        if (!(how & 0x40)) mr__result_encode(&b, &r);
        put_bytes(&b, fuzz_bytes(&y.r));
        mr__estate_add(list, &b);
        close(list);
        char *own = y.dir;
        y.dir = y.dead;
        if (!(how & 0x20)) make_output(&r);
        y.dir = own;
    }
    buf_free(&b);
    free(lock);
}

static void send_adopt(void)
{
    struct buf b = {0};
    put_slice16(&b, slice_str(y.dead));
    far_send(&y.far[BOSS], MR_ADOPT, &b);
}

static void change_job(uint8_t how)
{
    char *epoch = mr__strf("%s/epoch-0", y.job);
    static const char *const lines[] = {"c:1\tnobody\tc:1\n", "c:1\tnobody\t\n", "nonsense\n", "w:2\tx\tnowhere:1\n"};
    if (how == 5)
        make_estate();
    else if (how == 6)
        send_adopt();
    else if (how == 0)
        mr__rmtree(y.job);
    else if (how == 1)
        mr__write_file(y.job, "result", slice_str("done\n"));
    else
        mr__write_file(epoch, "address", slice_str(lines[how % 4]));
    free(epoch);
}

static void step(void)
{
    uint8_t k = get_u8(&y.r);
    struct far *any = &y.far[k / 16 % FARS], *holder = &y.far[HOLDER_1 + k / 16 % 2],
               *guest = &y.far[GUEST_1 + k / 16 % 2];
    switch (k % 16 % DOS) {
    case DO_WELCOME:
        send_welcome();
        break;
    case DO_MAP:
        send_map();
        break;
    case DO_REDUCE:
        send_reduce();
        break;
    case DO_CANCEL:
        send_cancel();
        break;
    case DO_RAW:
        far_raw(any, &y.r, RAW_MAX);
        break;
    case DO_DATA:
        send_data(holder);
        break;
    case DO_END:
        send_end(holder);
        break;
    case DO_FETCH:
        send_fetch(guest);
        break;
    case DO_EXEC:
        fuzz_executor(y.l, &y.r, &y.task, make_output);
        break;
    case DO_EXIT:
        fuzz_exit(y.l, &y.r);
        break;
    case DO_FATE:
        fuzz_fate(y.l, &y.r, any);
        break;
    case DO_JOB:
        change_job(get_u8(&y.r) % 8);
        break;
    case DO_DIAL:
        dial(guest);
        break;
    }
}

/* ---- */

static void play(struct io_loop *l)
{
    y.l = l;
    check(net_listen(io_net(l), "w:1", on_accept, &y.far[HOLDER_1]) == 0);
    check(net_listen(io_net(l), "c:2", on_accept, &y.far[HOLDER_2]) == 0); /* ":2", at the coordinator's machine */
    fake_io_run(l, NS_PER_MS);
    while (!l->stopped && fuzz_more(&y.r)) step();
    fake_io_run(l, NS_PER_S);
    if (!l->stopped) fake_io_signal(l, SIGTERM);
    check(l->stopped);
    y.l = NULL;
}

/* The worker dials before its loop runs; who listens there must do so before. */
static void begin(struct io_loop *l) { check(net_listen(io_net(l), "c:1", on_accept, &y.far[BOSS]) == 0); }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *dir = fuzz_dir();
    struct mr_worker_options o = {.coordinator = "c:1", .workdir = dir, .listen = "me:1", .host = "here"};

    y = (struct play){.r = reader_of(slice_of(data, size)), .job = mr__strf("%s/.out.mr-abc0", dir)};
    y.dead = mr__strf("%s/quorumfs-mr-dead", dir);
    fake_io_begin = begin;
    fake_io_play = play;
    mr_worker(&o);
    check(!y.dir || access(y.dir, F_OK) < 0 || !mr__estate_is_empty(y.dir)); /* outputs stay while the job is not over */
    check((!y.dir || mr__rmtree(y.dir) == 0) && mr__rmtree(y.job) == 0 && mr__rmtree(y.dead) == 0);
    free(y.dead);
    free(y.dir);
    free(y.job);
    return 0;
}

/* ---- seeds ---- */

static void put_pass(struct buf *b, uint8_t ms) { put_time(b, DO_FATE, ms); }

static void put_welcome(struct buf *b)
{
    put_u16(b, DO_WELCOME);
    put_pass(b, 2);
}

static void put_map(struct buf *b, uint8_t no)
{
    put_u8(b, DO_MAP);
    put_u16(b, no);
    put_pass(b, 2);
}

static void put_over(struct buf *b, uint8_t how)
{
    put_executed(b, DO_EXEC, how);
    put_pass(b, 2);
}

static void put_reduce(struct buf *b, uint8_t maps)
{
    put_u8(b, DO_REDUCE);
    put_u16(b, 1);
    put_u8(b, maps);
    for (uint8_t i = 0; i < maps; i++) put_u8(b, i % 3);
    put_pass(b, 2);
}

/* All outputs that holders are asked for; each is one block. */
static void put_fetched(struct buf *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        for (uint8_t holder = 0; holder < 2; holder++) {
            put_u8(b, (uint8_t)(holder * 16 + DO_DATA));
            put_u8(b, 0);
            put_fuzz_bytes(b, slice_str("value"));
            put_u8(b, (uint8_t)(holder * 16 + DO_END));
            put_u16(b, 0);
        }
        put_pass(b, 2);
    }
}

static void put_ask(struct buf *b)
{
    put_u8(b, DO_DIAL);
    put_u8(b, DO_FETCH);
    put_u32(b, 0);
    put_u8(b, 1);
    put_pass(b, 5);
}

static void put_raw(struct buf *b, unsigned who, uint8_t type)
{
    put_u8(b, (uint8_t)(who * 16 + DO_RAW));
    put_u8(b, type);
    put_u16(b, 0);
}

void fuzz_seeds(void (*emit)(struct slice seed))
{
    struct buf b = {0};
    /* Map tasks, one that fails; somebody fetches; a reduce task, its inputs fetched; the end. */
    put_welcome(&b);
    put_map(&b, 0);
    put_over(&b, 0);
    put_map(&b, 1);
    put_over(&b, 10);
    put_ask(&b);
    put_raw(&b, BOSS, MR_BEAT);
    put_reduce(&b, 7);
    put_fetched(&b, 3);
    put_over(&b, 0);
    put_raw(&b, BOSS, MR_BYE);
    emit(buf_slice(&b));
    buf_clear(&b);
    /* A dead worker's output is taken over, when it is asked to and when it joins; somebody fetches it. */
    for (unsigned when = 0; when < 2; when++) {
        if (when) put_welcome(&b);
        put_u8(&b, DO_JOB);
        put_u8(&b, 5);
        put_u16(&b, 0);
        if (!when) put_welcome(&b);
        put_u8(&b, DO_JOB);
        put_u8(&b, 6);
        put_pass(&b, 30);
        put_u8(&b, DO_DIAL);
        put_u8(&b, DO_FETCH);
        put_u8(&b, 0);
        put_u8(&b, 0);
        put_u8(&b, 229); /* attempt 9 */
        put_u16(&b, 1);
        put_pass(&b, 5);
        put_raw(&b, BOSS, MR_BYE);
        emit(buf_slice(&b));
        buf_clear(&b);
    }
    /* Cancelled at each stage; an executor that dies; outputs that are not there. */
    put_welcome(&b);
    put_map(&b, 2);
    put_u32(&b, DO_CANCEL);
    put_map(&b, 3);
    put_u8(&b, DO_EXIT);
    put_u8(&b, 9);
    put_pass(&b, 5);
    put_reduce(&b, 6);
    put_u32(&b, DO_CANCEL);
    put_reduce(&b, 6);
    put_u8(&b, DO_END);
    put_u16(&b, 2);
    put_pass(&b, 5);
    put_raw(&b, BOSS, MR_REFUSED);
    emit(buf_slice(&b));
    buf_clear(&b);
    /* A coordinator that is lost, and found again by the job's directory, and lost for good. */
    for (uint8_t how = 0; how < 3; how++) {
        put_welcome(&b);
        put_map(&b, 0);
        put_over(&b, 0);
        put_map(&b, 1);
        put_fate(&b, DO_FATE, FATE_CUT);
        for (unsigned i = 0; i < 3; i++) put_pass(&b, 239);
        put_over(&b, 0);
        put_welcome(&b);
        put_u8(&b, DO_JOB);
        put_u8(&b, how);
        put_fate(&b, DO_FATE, FATE_FREEZE);
        for (unsigned i = 0; i < 60; i++) put_pass(&b, 239);
        emit(buf_slice(&b));
        buf_clear(&b);
    }
    buf_free(&b);
}
