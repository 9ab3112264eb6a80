/* executor.c - the process in which tasks run: a child of a worker, one task at a time (mr_executor()).
 *
 * A process of its own, so that a user's code that crashes, hangs or scribbles on memory ends a task and not a worker:
 * the worker sees it end, reports, and starts another. It is spoken to by pipes on stdin and stdout, which it moves out
 * of the way: to the user's code stdin is empty and stdout is stderr, which the worker reads.
 *
 * Failure modes: the worker is gone (end of input, or SIGKILL by PR_SET_PDEATHSIG): it exits. A message that makes no
 * sense: it exits with status 1. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "mr/msg.h"
#include "mr/task.h"
#include "mr/util.h"

#define TOUCH_NS (100 * NS_PER_MS)

struct executor {
    int in, out;
    struct job job;
    struct programs programs;
    struct buf broken; /* why the programs could not be opened */
    struct split_file input;
    char *dir;
    uint64_t touched, bytes;
};

int mr__exec_send(int fd, uint8_t type, struct slice payload)
{
    uint8_t head[5];
    struct buf b = {0};
    store_u32(head, (uint32_t)payload.n);
    head[4] = type;
    put_bytes(&b, slice_of(head, sizeof head));
    put_bytes(&b, payload);
    int rc = mr__write_all(fd, b.p, b.n);
    buf_free(&b);
    return rc;
}

static void touch(void *arg, uint64_t bytes)
{
    struct executor *x = arg;
    uint8_t payload[8];
    uint64_t now = mr__now();

    x->bytes += bytes;
    if (now - x->touched < TOUCH_NS) return;
    store_u64(payload, x->bytes);
    if (mr__exec_send(x->out, MR_EXEC_TOUCH, slice_of(payload, sizeof payload)) < 0) _exit(1);
    x->touched = now;
    x->bytes = 0;
}

static void weigh(void *arg, uint64_t bytes)
{
    struct executor *x = arg;
    uint8_t payload[8];
    store_u64(payload, bytes);
    if (mr__exec_send(x->out, MR_EXEC_WEIGHT, slice_of(payload, sizeof payload)) < 0) _exit(1);
}

static int take_job(struct executor *x, struct slice in)
{
    struct reader r = reader_of(in);
    struct slice dir = get_slice32(&r);
    if (r.bad || x->dir) return -EBADMSG;
    x->dir = mr__str(dir);
    int rc = mr__job_decode(get_bytes(&r, reader_left(&r)), &x->job);
    if (rc < 0) return rc;
    /* Commands are given relative to where the job was started. On a machine without that directory they fail by name.
     */
    (void)!chdir(x->job.cwd ? x->job.cwd : "/");
    mr__programs_open(&x->job, &x->programs, &x->broken);
    return 0;
}

static int take_task(struct executor *x, struct slice in)
{
    struct task_place at = {.dir = x->dir, .input = &x->input, .touch = touch, .weigh = weigh, .arg = x};
    struct task_result result;
    struct buf out = {0};
    struct task task;

    if (!x->dir) return -EBADMSG;
    int rc = mr__task_decode(in, &task);
    if (rc < 0) return rc;
    x->bytes = 0;
    x->touched = mr__now();
    if (x->broken.n) {
        result =
            (struct task_result){.phase = task.phase, .no = task.no, .attempt = task.attempt, .outcome = TASK_FAILED};
        put_bytes(&result.why, buf_slice(&x->broken));
    } else {
        mr__task_run(&x->job, &x->programs, &task, &at, &result);
    }
    mr__result_encode(&out, &result);
    rc = mr__exec_send(x->out, MR_EXEC_RESULT, buf_slice(&out));
    buf_free(&out);
    mr__result_free(&result);
    mr__task_free(&task);
    return rc;
}

static int take_one(struct executor *x, struct buf *payload)
{
    uint8_t head[5];
    int rc = mr__read_all(x->in, head, sizeof head);
    uint32_t n = load_u32(head);

    if (rc < 0) return rc;
    if (n > MR_EXEC_MAX) return -EBADMSG;
    buf_clear(payload);
    if ((rc = mr__read_all(x->in, buf_extend(payload, n), n)) < 0) return rc;
    if (head[4] == MR_EXEC_JOB) return take_job(x, buf_slice(payload));
    if (head[4] == MR_EXEC_TASK) return take_task(x, buf_slice(payload));
    return -EBADMSG;
}

int mr_executor(void)
{
    struct executor x = {.input.fd = -1};
    struct buf payload = {0};
    int rc = 0, null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    x.in = fcntl(0, F_DUPFD_CLOEXEC, 3);
    x.out = fcntl(1, F_DUPFD_CLOEXEC, 3);
    if (null < 0 || x.in < 0 || x.out < 0 || dup2(null, 0) < 0 || dup2(2, 1) < 0) return MR_EXIT_FAILED;
    close(null);
    while (rc == 0) rc = take_one(&x, &payload);
    buf_free(&payload);
    buf_free(&x.broken);
    mr__split_forget(&x.input);
    mr__programs_close(&x.programs);
    mr__job_free(&x.job);
    free(x.dir);
    return rc == QE_STOPPED ? MR_EXIT_OK : MR_EXIT_FAILED;
}
