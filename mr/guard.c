/* guard.c - guard.h: fork, a pipe for the answer, wait. The child dies with its parent. */
#include "mr/guard.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mr/util.h"

static __attribute__((noreturn)) void run(int (*fn)(void *arg, struct buf *answer), void *arg, int to, pid_t parent)
{
    struct buf answer = {0}, message = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(125);
    put_u32(&message, (uint32_t)fn(arg, &answer));
    put_bytes(&message, buf_slice(&answer));
    _exit(mr__write_all(to, message.p, message.n) < 0 ? 125 : 0);
}

static int read_answer(int from, struct buf *to)
{
    for (;;) {
        buf_reserve(to, 64u * KIB);
        ssize_t n = read(from, to->p + to->n, 64u * KIB);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 ? -errno : 0;
        to->n += (size_t)n;
    }
}

static int wait_for(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    return status;
}

int mr__guard(int (*fn)(void *arg, struct buf *answer), void *arg, struct buf *answer, bool *crashed)
{
    int fds[2], rc;
    struct buf message = {0};
    pid_t parent = getpid(), pid;

    *crashed = false;
    if (pipe2(fds, O_CLOEXEC) < 0) return -errno;
    if ((pid = fork()) == 0) run(fn, arg, fds[1], parent);
    rc = pid < 0 ? -errno : 0;
    close(fds[1]);
    if (rc == 0) rc = read_answer(fds[0], &message);
    close(fds[0]);
    int status = pid > 0 ? wait_for(pid) : 0;
    if (rc == 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || message.n < 4)) {
        *crashed = !WIFSIGNALED(status) || (WTERMSIG(status) != SIGKILL && WTERMSIG(status) != SIGTERM);
        rc = *crashed ? -ECHILD : -EINTR;
        if (WIFSIGNALED(status))
            mr__fmt(answer, "it was killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
        else
            mr__fmt(answer, "it ended the process with status %d", WEXITSTATUS(status));
    } else if (rc == 0) {
        rc = (int)load_u32(message.p);
        put_bytes(answer, slice_sub(buf_slice(&message), 4, message.n - 4));
    }
    buf_free(&message);
    return rc;
}
