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

/* A number as it was, or one beside it, or any. */
static inline uint32_t fuzz_skewed(struct reader *r, uint32_t v)
{
    uint8_t k = get_u8(r);
    return k < 200 ? v : k < 240 ? v + k - 220 : (uint32_t)fuzz_number(r);
}

/* Mostly that it is done. */
static inline enum task_outcome fuzz_outcome(uint8_t how)
{
    return (enum task_outcome)(how % 16 < 10 ? TASK_DONE : how % 3);
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

static inline void fuzz_exit(struct io_loop *l, struct reader *r)
{
    uint8_t how = get_u8(r);
    struct io_child *child = fake_io_child(l, how >> 4);
    if (child) fake_io_exit(child, how & 7, how & 8);
}

#endif
