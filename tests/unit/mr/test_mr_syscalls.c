/* Coordinators and workers that are killed, or frozen and replaced, in front of each of their system calls that changes
 * anything: files, names, sockets. They are traced (ptrace), so no place has to be chosen beforehand; a call that was
 * frozen is carried out when somebody else has long finished the job. */
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "tests/unit/mr/scene.h"

#define THREADS 16

struct traced {
    pid_t pid;
    struct {
        pid_t id;
        bool fresh; /* it has not begun: it will by a SIGSTOP */
        int signum; /* with which it stopped, and which it is still to get */
    } threads[THREADS];
    size_t n;
};

static bool changes(uint64_t nr, const uint64_t args[6])
{
    switch (nr) {
    case SYS_openat:
        return args[2] & (O_CREAT | O_TRUNC);
    case SYS_write:
    case SYS_pwrite64:
    case SYS_writev:
        return args[0] > 2;
    case SYS_sendmsg:
    case SYS_sendto:
    case SYS_renameat:
    case SYS_renameat2:
    case SYS_linkat:
    case SYS_unlinkat:
    case SYS_mkdirat:
    case SYS_symlinkat:
    case SYS_ftruncate:
    case SYS_copy_file_range:
    case SYS_fsync:
    case SYS_fdatasync:
        return true;
#ifdef SYS_rename /* where there are the older ones, too */
    case SYS_open:
        return args[1] & (O_CREAT | O_TRUNC);
    case SYS_rename:
    case SYS_link:
    case SYS_unlink:
    case SYS_mkdir:
    case SYS_rmdir:
    case SYS_symlink:
        return true;
#endif
    default:
        return false;
    }
}

static size_t thread_of(const struct traced *t, pid_t id)
{
    size_t i = 0;
    while (i < t->n && t->threads[i].id != id) i++;
    return i;
}

/* It may have been seen, or its maker, whichever is first. */
static size_t add_thread(struct traced *t, pid_t id)
{
    size_t i = thread_of(t, id);
    if (i < t->n) return i;
    if (i == THREADS) _exit(96);
    t->threads[t->n].id = id;
    t->threads[t->n].fresh = true;
    t->threads[t->n].signum = 0;
    return t->n++;
}

/* What it has stopped for, and the signal that it has to get. */
static int take_stop(struct traced *t, pid_t id, int status)
{
    size_t i = add_thread(t, id);
    int signum = WSTOPSIG(status);
    unsigned long made;
    if (status >> 8 == (SIGTRAP | PTRACE_EVENT_CLONE << 8) && ptrace(PTRACE_GETEVENTMSG, id, 0, &made) == 0)
        add_thread(t, (pid_t)made);
    bool ours = signum == (SIGTRAP | 0x80) || status >> 16 || (t->threads[i].fresh && signum == SIGSTOP);
    t->threads[i].fresh = false;
    return ours ? 0 : signum;
}

static bool at_change(pid_t id)
{
    struct __ptrace_syscall_info info;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, id, sizeof info, &info) <= 0) return false;
    return info.op == PTRACE_SYSCALL_INFO_ENTRY && changes(info.entry.nr, info.entry.args);
}

/* Lets it run until it is in front of its `step`-th change, which its thread `at` is then. False: it ended before. */
static bool run_to(struct traced *t, unsigned step, pid_t *at, int *status)
{
    for (;;) {
        pid_t id = waitpid(-1, status, __WALL);
        if (id < 0) _exit(91);
        if (WIFEXITED(*status) || WIFSIGNALED(*status)) {
            if (id == t->pid) return false;
            size_t i = thread_of(t, id);
            if (i < t->n) t->threads[i] = t->threads[--t->n];
            continue;
        }
        int signum = take_stop(t, id, *status);
        if (WSTOPSIG(*status) == (SIGTRAP | 0x80) && at_change(id) && --step == 0) {
            *at = id;
            return true;
        }
        ptrace(PTRACE_SYSCALL, id, 0, signum);
    }
}

/* The other threads, wherever they are, and those that they are just making. */
static void hold(struct traced *t, pid_t at)
{
    for (size_t i = 0; i < t->n; i++) {
        int status;
        pid_t id = t->threads[i].id;
        if (id == at || syscall(SYS_tgkill, t->pid, id, SIGSTOP) < 0) continue;
        if (waitpid(id, &status, __WALL) != id || !WIFSTOPPED(status)) continue;
        int signum = take_stop(t, id, status);
        t->threads[i].signum = signum == SIGSTOP ? 0 : signum;
    }
}

static void release(struct traced *t)
{
    for (size_t i = 0; i < t->n; i++) ptrace(PTRACE_DETACH, t->threads[i].id, 0, t->threads[i].signum);
    kill(t->pid, SIGCONT); /* a SIGSTOP that has not arrived */
}

typedef int body(const void *arg);

static void be_traced(const char *dir, body *what, const void *arg)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (chdir(dir) < 0) _exit(90);
    int fd = open("said", O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    close(fd);
    if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0) _exit(92);
    raise(SIGSTOP);
    _exit(what(arg)); /* (LeakSanitizer cannot look at what is traced) */
}

/* A process that ends, is killed and is frozen as what(arg) in a process of its own is, which it stops. */
static pid_t stop_at_call(const char *dir, body *what, const void *arg, unsigned step, bool freeze)
{
    pid_t tracer = fork(), at;
    if (tracer) return tracer;
    struct traced t = {.pid = fork()};
    int status;
    if (t.pid == 0) be_traced(dir, what, arg);
    if (waitpid(t.pid, &status, 0) != t.pid || !WIFSTOPPED(status)) _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 93);
    t.threads[add_thread(&t, t.pid)].fresh = false;
    ptrace(PTRACE_SETOPTIONS, t.pid, 0, PTRACE_O_TRACECLONE | PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    ptrace(PTRACE_SYSCALL, t.pid, 0, 0);
    if (run_to(&t, step, &at, &status)) {
        if (!freeze) {
            kill(t.pid, SIGKILL);
            while (waitpid(-1, &status, __WALL) > 0) continue;
            raise(SIGKILL);
        }
        hold(&t, at);
        raise(SIGSTOP);
        release(&t);
        /* Its first thread may end all of them before the others are released: these have to be waited for, too. */
        for (pid_t id = 0; id != t.pid || WIFSTOPPED(status);)
            if ((id = waitpid(-1, &status, __WALL)) < 0) _exit(94);
    }
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 95);
}

/* ---- coordinators ---- */

struct jobs {
    const struct mr_options *v;
    size_t n;
};

static int run_jobs(const void *arg)
{
    const struct jobs *j = arg;
    return mr_chain(j->v, j->n);
}

static pid_t at_system_call(const char *dir, const struct mr_options *v, size_t n, unsigned step, bool freeze)
{
    return stop_at_call(dir, run_jobs, &(struct jobs){v, n}, step, freeze);
}

/* Small, for it has hundreds of such calls. */
static struct mr_options small(void)
{
    struct mr_options o = options();
    o.split_bytes = 4000;
    o.workers = 1;
    o.map = "tr -cs A-Za-z '\\n' | sed '/^$/d; s/$/\\t1/'";
    return o;
}

static unsigned by(unsigned n) { return getenv("QFS_SLOW") ? 7 * n : n; }

/* In one thread, so that each step is the same call each time. */
static void alone(void **state)
{
    struct mr_options o = small();
    o.local = true;
    kill_at_every_step(&o, 1, at_system_call, by(1), 40);
    o.local = o.replace = true; /* it would, if it could, after its successor */
    freeze_at_every_step(&o, 1, at_system_call, by(1), 40);
}

static void coordinators_killed(void **state)
{
    struct mr_options o = small();
    kill_at_every_step(&o, 1, at_system_call, by(1), 60);
}

static void coordinators_frozen(void **state)
{
    struct mr_options o = small();
    o.replace = true;
    freeze_at_every_step(&o, 1, at_system_call, by(1), 60);
}

/* Every fifth call. */
static void chains(void **state)
{
    struct mr_options v[2] = {small(), small()};
    v[1].map = v[1].reduce = "cat";
    v[1].replace = true;
    kill_at_every_step(v, 2, at_system_call, by(5), 150);
    freeze_at_every_step(v, 2, at_system_call, by(5), 150);
}

/* ---- workers ---- */

static int run_worker(const void *arg)
{
    (void)arg;
    return mr_worker(&(struct mr_worker_options){.job = "out", .workdir = "work"});
}

/* The only worker is stopped in front of each of its calls; another one comes, and the job ends well. */
static void stop_workers(bool freeze)
{
    unsigned hit = 0;
    for (unsigned step = 1, last = 0; !last;) {
        pid_t jobs[JOBS], workers[JOBS], others[JOBS];
        const char *dirs[JOBS];
        struct mr_options o = small();
        o.workers = -1;
        for (int i = 0; i < JOBS; i++, step += by(1)) {
            dirs[i] = arena(i);
            char *listen = mr__strf("unix:%s/sock", dirs[i]);
            o.listen = listen;
            jobs[i] = start(dirs[i], &o, NULL);
            until(dirs[i], "test -s .out.mr-*/now/address");
            workers[i] = stop_at_call(dirs[i], run_worker, NULL, step, freeze);
            free(listen);
        }
        for (int i = 0; i < JOBS; i++) {
            int status = status_of(workers[i]);
            bool stopped = status == (freeze ? 2000 : 1000 + SIGKILL);
            if (!stopped && status != 0) must_say(dirs[i], "(the worker ended well, or was stopped)");
            last = last || !stopped;
            hit += stopped;
            if (!stopped) workers[i] = 0;
            others[i] = stopped ? start_worker(dirs[i], "out") : 0;
        }
        for (int i = 0; i < JOBS; i++) {
            must_end(dirs[i], jobs[i], 0);
            right(dirs[i]);
            if (others[i]) assert_int_equal(status_of(others[i]), 0);
            if (!workers[i] || !freeze) continue;
            shell_in(dirs[i], "ls -lid --time-style=full-iso out out/* > print");
            assert_int_equal(kill(workers[i], SIGCONT), 0);
            status_of(workers[i]);
            right(dirs[i]);
            shell_in(dirs[i], "ls -lid --time-style=full-iso out out/* | diff - print >&2");
        }
    }
    if (hit < 15 / by(1)) fail_msg("stopped %u times", hit);
}

static void workers_killed(void **state) { stop_workers(false); }
static void workers_frozen(void **state) { stop_workers(true); }

static bool may_trace(void)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) _exit(ptrace(PTRACE_TRACEME, 0, 0, 0) < 0);
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(int argc, char **argv)
{
    begin_scenes(argc, argv, 560);
    if (!may_trace()) {
        printf("skipped: processes may not be traced here\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alone),  cmocka_unit_test(coordinators_killed), cmocka_unit_test(coordinators_frozen),
        cmocka_unit_test(chains), cmocka_unit_test(workers_killed),      cmocka_unit_test(workers_frozen),
    };
    return cmocka_run_group_tests(tests, make_inputs, drop_inputs);
}
