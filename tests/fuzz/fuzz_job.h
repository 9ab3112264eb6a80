/* fuzz_job.h - what the targets of a job's programs share: tasks, numbers beside theirs, and the executor at the other
 * end of its pipes. */
#ifndef QFS_TESTS_FUZZ_JOB_H
#define QFS_TESTS_FUZZ_JOB_H

#include "mr/msg.h"
#include "mr/task.h"
#include "mr/util.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/mr/fake_io.h"

/* What somebody was given last. */
struct fuzz_task {
    enum sched_phase phase;
    uint32_t no, attempt;
};

/* Somebody at the other end of a connection. */
struct far {
    struct conn *conn;
    bool open;
    struct fuzz_task task;
};

static inline void far_open(struct conn *c) { ((struct far *)c->arg)->open = true; }
static inline void far_closed(struct conn *c, int err) { *(struct far *)c->arg = (struct far){0}; }

/* Takes what b has. */
static inline void far_send(struct far *f, uint8_t type, struct buf *b)
{
    struct slice s = buf_slice(b);
    if (f->conn && f->open) conn_send(f->conn, type, &s, 1);
    buf_free(b);
}

/* A frame of any type and bytes. */
static inline void far_raw(struct far *f, struct reader *r, size_t max)
{
    struct buf b = {0};
    uint8_t type = get_u8(r);
    struct slice bytes = fuzz_many(r);
    bytes.n = min_u64(bytes.n, max);
    put_bytes(&b, bytes);
    far_send(f, type, &b);
}

/* What happens to anybody. */
enum fate { FATE_PASS, FATE_CLOSE, FATE_CUT, FATE_FREEZE, FATE_THAW, FATES };

static inline void fuzz_fate(struct io_loop *l, struct reader *r, struct far *f)
{
    uint8_t k = get_u8(r), fate = k % FATES;
    if (fate == FATE_PASS)
        fake_io_run(l, fuzz_number(r) % 40000 * NS_PER_MS);
    else if (!f->conn)
        return;
    else if (fate == FATE_CLOSE)
        conn_close(f->conn);
    else if (fate == FATE_CUT)
        fake_cut(f->conn);
    else
        fake_freeze(f->conn, fate == FATE_FREEZE);
}

/* In seeds: the byte that says FATE, a fate, and for one that is time so many ms. */
static inline void put_fate(struct buf *b, uint8_t step, enum fate fate)
{
    put_u8(b, step);
    put_u8(b, (uint8_t)fate);
}

static inline void put_time(struct buf *b, uint8_t step, uint8_t ms)
{
    put_fate(b, step, FATE_PASS);
    put_u8(b, ms);
}

/* A number as it was, or one beside it, or any. */
static inline uint32_t fuzz_skewed(struct reader *r, uint32_t v)
{
    uint8_t k = get_u8(r);
    return k < 200 ? v : k < 240 ? v + k - 220 : (uint32_t)fuzz_number(r);
}

/* Mostly that it is done. */
static inline enum task_outcome fuzz_outcome(uint8_t how)
{
    return (enum task_outcome)(how % 16 < 10 ? TASK_DONE : how % 4);
}

/* The task's result, or one beside it. */
static inline struct task_result fuzz_result(struct reader *r, const struct fuzz_task *t, uint8_t how)
{
    struct task_result out = {.phase = t->phase, .outcome = fuzz_outcome(how)};
    out.no = fuzz_skewed(r, t->no);
    out.attempt = fuzz_skewed(r, t->attempt);
    if (how & 0x20) mr__result_lose(&out, fuzz_number(r));
    put_bytes(&out.why, fuzz_bytes(r));
    return out;
}

/* One message of the executor, if it lives: with a result (`done` is told before), or any bytes; or words on stderr. */
static inline void fuzz_executor(struct io_loop *l, struct reader *r, const struct fuzz_task *t,
                                 void (*done)(const struct task_result *result))
{
    struct io_child *child = fake_io_child(l, 0);
    uint8_t type = get_u8(r), how = get_u8(r);
    struct buf b = {0}, message = {0};
    if (type == MR_EXEC_RESULT) {
        struct task_result result = fuzz_result(r, t, how);
        if (done && result.outcome == TASK_DONE) done(&result);
        mr__result_encode(&b, &result);
        mr__result_free(&result);
    } else if (type == MR_EXEC_TOUCH || type == MR_EXEC_WEIGHT) {
        put_u64(&b, fuzz_number(r));
    } else {
        put_bytes(&b, fuzz_bytes(r));
    }
    if (type < 250) {
        put_u32(&message, how == 255 ? UINT32_MAX : (uint32_t)b.n);
        put_u8(&message, type);
    }
    put_bytes(&message, buf_slice(&b));
    int to = !child ? -1 : type == 255 ? child->err : child->out;
    if (to >= 0) (void)!mr__write_all(to, message.p, message.n);
    buf_free(&b);
    buf_free(&message);
}

/* A job that makes sense. */
static inline struct job fuzz_job(char *id, char *program, char *attempts)
{
    return (struct job){.id = id,
                        .map = program,
                        .reduce = program,
                        .attempts = attempts,
                        .reducers = 3,
                        .memory = 64 * MIB,
                        .task_timeout_ns = 300 * NS_PER_S,
                        .beat_ns = NS_PER_S,
                        .format = {.partition = MR_PARTITION_HASH, .key_fields = 1, .partition_fields = 1}};
}

/* In seeds: the executor says that the task is over. */
static inline void put_executed(struct buf *b, uint8_t step, uint8_t how)
{
    put_u8(b, step);
    put_u8(b, MR_EXEC_TOUCH);
    put_u16(b, 100 << 8);
    put_u8(b, step);
    put_u8(b, MR_EXEC_RESULT);
    put_u8(b, how);
    put_u16(b, 0);
    put_fuzz_bytes(b, slice_str("why"));
}

static inline void fuzz_exit(struct io_loop *l, struct reader *r)
{
    uint8_t how = get_u8(r);
    struct io_child *child = fake_io_child(l, how >> 4);
    if (child) fake_io_exit(child, how & 7, how & 8);
}

#endif
