/* process.c - child processes.
 *
 * Happy path: vfork, the child sets itself up and executes the program, a pidfd tells the loop when it has ended. An
 * own vfork rather than uv_spawn, because PR_SET_PDEATHSIG and the closing of stray descriptors must happen in the
 * child. The child reports a failed exec through a pipe that a successful one closes, so io_spawn() knows before it
 * returns.
 *
 * The child has default signal handlers, nothing blocked, the limit of open files that this process was started with,
 * and no descriptor but 0, 1 and 2. */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/io_priv.h"

struct io_child {
    struct io__owned owned;
    struct io_loop *loop;
    uv_poll_t poll;
    pid_t pid;                                             /* 0: reaped */
    int fd;                                                /* the pidfd */
    void (*exited)(void *arg, int64_t status, int signum); /* NULL: forgotten */
    void *arg;
};

static void on_closed(uv_handle_t *h) { free(container_of((uv_poll_t *)h, struct io_child, poll)); }

static void close_child(struct io__owned *o)
{
    struct io_child *c = container_of(o, struct io_child, owned);
    uv_close((uv_handle_t *)&c->poll, on_closed);
    close(c->fd);
}

static void on_exit_event(uv_poll_t *p, int status, int events)
{
    struct io_child *c = container_of(p, struct io_child, poll);
    siginfo_t info = {0};
    if (waitid(P_PIDFD, (id_t)c->fd, &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0) return;
    c->pid = 0;
    list_remove(&c->owned.link);
    close_child(&c->owned);
    if (!c->exited) return;
    bool normal = info.si_code == CLD_EXITED;
    c->exited(c->arg, normal ? info.si_status : 0, normal ? 0 : info.si_status);
}

/* ---- in the child: only async-signal-safe calls, and no writes to memory that the parent (whose memory this is until
 * the exec) relies on ---- */

static int move_up(int fd)
{
    if (fd < 0) fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    return fd < 0 || fd > 2 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

static bool set_fds(const struct io_child_options *o)
{
    int from[3] = {move_up(o->stdin_fd), move_up(o->stdout_fd), move_up(o->stderr_fd)};
    for (int i = 0; i < 3; i++) {
        if (from[i] < 0 || dup2(from[i], i) < 0) return false;
    }
    close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
    return true;
}

static void reset_signals(void)
{
    struct sigaction sa = {.sa_handler = SIG_DFL};
    sigset_t none;
    for (int i = 1; i < NSIG; i++) {
        if (i != SIGKILL && i != SIGSTOP) sigaction(i, &sa, NULL);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

__attribute__((noreturn)) static void child(const struct io_child_options *o, const struct rlimit *files, pid_t parent,
                                            int report)
{
    reset_signals();
    if (o->die_with_parent) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(127); /* it died before we asked */
    }
    if (o->detached) setsid();
    setrlimit(RLIMIT_NOFILE, files);
    if (report <= 2) report = fcntl(report, F_DUPFD_CLOEXEC, 3);
    if ((!o->cwd || chdir(o->cwd) == 0) && set_fds(o)) {
        if (o->env)
            execvpe(o->argv[0], o->argv, o->env);
        else
            execvp(o->argv[0], o->argv);
    }
    int err = errno;
    (void)!write(report, &err, sizeof(err));
    _exit(127);
}

/* ---- in the parent ---- */

/* Signals are blocked round the vfork: a handler must not run in the child, on our memory. */
static pid_t start(struct io_loop *l, const struct io_child_options *o, int report)
{
    sigset_t all, old;
    pid_t self = getpid();
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pid_t pid = vfork();
    if (pid == 0) child(o, &l->files, self, report);
    int err = errno;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return pid < 0 ? -err : pid;
}

/* The exec's error, 0 if it worked: then the pipe was closed by it. */
static int exec_error(int fd)
{
    int err = 0;
    ssize_t r;
    do r = read(fd, &err, sizeof(err));
    while (r < 0 && errno == EINTR);
    return r == sizeof(err) ? -err : 0;
}

int io_spawn(struct io_loop *l, const struct io_child_options *o, struct io_child **out)
{
    int report[2], err;
    struct io_child *c = NULL;
    check(o->argv && o->argv[0]);
    if (pipe2(report, O_CLOEXEC) < 0) return -errno;
    pid_t pid = start(l, o, report[1]);
    close(report[1]);
    err = pid < 0 ? pid : exec_error(report[0]);
    close(report[0]);
    if (pid < 0) return err;
    if (err) goto reap;
    c = xcalloc(1, sizeof(*c));
    *c = (struct io_child){.owned.close = close_child, .loop = l, .pid = pid, .exited = o->exited, .arg = o->arg};
    c->fd = pidfd_open(pid, 0);
    err = c->fd < 0 ? -errno : uv_poll_init(&l->uv, &c->poll, c->fd);
    if (err) goto kill;
    list_push_back(&l->owned, &c->owned.link);
    check(uv_poll_start(&c->poll, UV_READABLE, on_exit_event) == 0);
    *out = c;
    return 0;
kill:
    kill(pid, SIGKILL);
    if (c->fd >= 0) close(c->fd);
    free(c);
reap:
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
    return err;
}

pid_t io_child_pid(const struct io_child *c) { return c->pid; }

void io_child_kill(struct io_child *c, int signum)
{
    if (c->pid) kill(c->pid, signum);
}

/* It is still watched, so that it does not stay a zombie. */
void io_child_release(struct io_child *c) { c->exited = NULL; }
