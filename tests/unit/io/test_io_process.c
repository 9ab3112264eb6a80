/* Children: exit codes, signals, descriptors, missing programs, dying with the parent. */
#include "helper.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static struct io_loop *loop;

struct end {
    int count, signum;
    int64_t status;
};

static void on_exit_of(void *arg, int64_t status, int signum)
{
    struct end *e = arg;
    e->count++;
    e->status = status;
    e->signum = signum;
    io_loop_stop(loop);
}

static int setup(void **state)
{
    loop = io_loop_new();
    return 0;
}

static int teardown(void **state)
{
    io_loop_free(loop);
    return 0;
}

static struct io_child_options shell(char *script, struct end *e)
{
    static char *argv[4];
    argv[0] = "sh";
    argv[1] = "-c";
    argv[2] = script;
    argv[3] = NULL;
    return (struct io_child_options){
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .exited = on_exit_of, .arg = e};
}

static struct end run(struct io_child_options o)
{
    struct end *e = o.arg;
    struct io_child *c;
    *e = (struct end){0};
    assert_int_equal(io_spawn(loop, &o, &c), 0);
    assert_true(io_child_pid(c) > 0);
    run_until(loop, e->count);
    assert_int_equal(e->count, 1);
    return *e;
}

static void test_exit_codes(void **state)
{
    struct end e;
    assert_int_equal(run(shell("exit 0", &e)).status, 0);
    assert_int_equal(run(shell("exit 7", &e)).status, 7);
    assert_int_equal(run(shell("exit 255", &e)).status, 255);
    struct end k = run(shell("kill -9 $$", &e));
    assert_int_equal(k.signum, SIGKILL);
    assert_int_equal(k.status, 0);
}

static void test_no_such_program(void **state)
{
    struct end e = {0};
    char *none[] = {"/no/such/program", NULL}, *path[] = {"no-such-program-in-path", NULL}, *dir[] = {"/tmp", NULL};
    struct io_child_options o = shell("", &e);
    struct io_child *c;
    o.argv = none;
    assert_int_equal(io_spawn(loop, &o, &c), -ENOENT);
    o.argv = path;
    assert_int_equal(io_spawn(loop, &o, &c), -ENOENT);
    o.argv = dir;
    assert_int_equal(io_spawn(loop, &o, &c), -EACCES);
    o = shell("exit 0", &e);
    o.cwd = "/no/such/dir";
    assert_int_equal(io_spawn(loop, &o, &c), -ENOENT);
    assert_int_equal(e.count, 0);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nothing is left to reap */
}

static void read_all(int fd, char *out, size_t n)
{
    size_t at = 0;
    for (ssize_t r; (r = read(fd, out + at, n - 1 - at)) > 0;) at += (size_t)r;
    out[at] = '\0';
}

static void test_descriptors_env_cwd(void **state)
{
    struct end e;
    int in[2], out[2], err[2];
    char text[400];
    char *env[] = {"ONE=eins", "PATH=/usr/bin:/bin", NULL};
    assert_int_equal(pipe(in) | pipe(out) | pipe(err), 0);
    struct io_child_options o = shell("cat; echo $ONE$HOME; pwd; echo problem >&2; ls /proc/self/fd", &e);
    o.stdin_fd = in[0];
    o.stdout_fd = out[1];
    o.stderr_fd = err[1];
    o.env = env;
    o.cwd = "/usr";
    assert_int_equal(write(in[1], "hello\n", 6), 6);
    struct io_child *c;
    memset(&e, 0, sizeof(e));
    fcntl(in[1], F_SETFD, FD_CLOEXEC); /* the others are not: the child must close them all the same */
    assert_int_equal(io_spawn(loop, &o, &c), 0);
    close(in[1]);
    close(out[1]);
    close(err[1]);
    run_until(loop, e.count);
    read_all(out[0], text, sizeof(text));
    assert_string_equal(text, "hello\neins\n/usr\n0\n1\n2\n3\n"); /* 3 is ls's own */
    read_all(err[0], text, sizeof(text));
    assert_string_equal(text, "problem\n");
    close(in[0]);
    close(out[0]);
    close(err[0]);
}

/* The three descriptors may be each other's numbers. */
static void test_swapped_descriptors(void **state)
{
    struct end e;
    int out[2], err[2];
    char text[100];
    assert_int_equal(pipe(out) | pipe(err), 0);
    int old1 = dup(1), old2 = dup(2);
    fflush(stdout);
    fflush(stderr);
    dup2(out[1], 2);
    dup2(err[1], 1);
    struct io_child_options o = shell("echo out; echo err >&2", &e);
    o.stdout_fd = 2;
    o.stderr_fd = 1;
    struct io_child *c;
    memset(&e, 0, sizeof(e));
    int r = io_spawn(loop, &o, &c);
    dup2(old1, 1);
    dup2(old2, 2);
    close(old1);
    close(old2);
    close(out[1]);
    close(err[1]);
    assert_int_equal(r, 0);
    run_until(loop, e.count);
    read_all(out[0], text, sizeof(text));
    assert_string_equal(text, "out\n");
    read_all(err[0], text, sizeof(text));
    assert_string_equal(text, "err\n");
    close(out[0]);
    close(err[0]);
}

static void test_kill_and_release(void **state)
{
    struct end e = {0}, gone = {0};
    struct io_child *c, *d;
    struct io_child_options o = shell("exec sleep 1000", &e), p = shell("exec sleep 1000", &gone);
    assert_int_equal(io_spawn(loop, &o, &c), 0);
    assert_int_equal(io_spawn(loop, &p, &d), 0);
    pid_t forgotten = io_child_pid(d);
    io_child_kill(d, SIGKILL);
    io_child_release(d);
    io_child_kill(c, SIGTERM);
    run_until(loop, e.count);
    assert_int_equal(e.signum, SIGTERM);
    while (kill(forgotten, 0) == 0) assert_int_equal(run(shell("exit 0", &e)).status, 0); /* it gets reaped, too */
    assert_int_equal(gone.count, 0);
}

/* Signals that we ignore or block are as they should be in the child; so is the limit of open files. */
static void test_clean_signals_and_limits(void **state)
{
    struct end e;
    assert_int_equal(run(shell("kill -PIPE $$; exit 3", &e)).signum, SIGPIPE);
    struct rlimit before = {.rlim_cur = 100, .rlim_max = 4096}, now;
    getrlimit(RLIMIT_NOFILE, &now);
    before.rlim_max = now.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    struct io_loop *other = io_loop_new(), *mine = loop;
    getrlimit(RLIMIT_NOFILE, &now);
    assert_true(now.rlim_cur == now.rlim_max);
    loop = other;
    assert_int_equal(run(shell("exit $(ulimit -n)", &e)).status, 100);
    loop = mine;
    io_loop_free(other);
}

static void test_many_children(void **state)
{
    enum { N = 60 };
    static struct end e[N];
    static char script[N][20];
    memset(e, 0, sizeof(e));
    int ended = 0;
    for (int i = 0; i < N; i++) {
        struct io_child *c;
        snprintf(script[i], sizeof(script[i]), "exit %d", i);
        struct io_child_options o = shell(script[i], &e[i]);
        assert_int_equal(io_spawn(loop, &o, &c), 0);
    }
    while (ended < N) {
        io_loop_run(loop);
        ended = 0;
        for (int i = 0; i < N; i++) ended += e[i].count;
    }
    for (int i = 0; i < N; i++) {
        assert_int_equal(e[i].count, 1);
        assert_int_equal(e[i].status, i);
    }
}

/* A process in between spawns a grandchild and is killed: the grandchild's end of the pipe closes or not. */
static bool pipe_closes(bool die_with_parent)
{
    int fds[2], pids[2];
    pid_t grandchild;
    assert_int_equal(pipe(fds) | pipe(pids), 0);
    pid_t between = fork();
    assert_true(between >= 0);
    if (between == 0) {
        struct io_child *c;
        struct end e;
        loop = io_loop_new();
        struct io_child_options o = shell("exec sleep 1000", &e);
        o.stdout_fd = fds[1];
        o.die_with_parent = die_with_parent;
        o.detached = !die_with_parent;
        if (io_spawn(loop, &o, &c) != 0) _exit(1);
        grandchild = io_child_pid(c);
        if (write(pids[1], &grandchild, sizeof(grandchild)) != sizeof(grandchild)) _exit(1);
        pause();
    }
    assert_int_equal(read(pids[0], &grandchild, sizeof(grandchild)), sizeof(grandchild));
    kill(between, SIGKILL);
    waitpid(between, NULL, 0);
    close(fds[1]);
    bool closes;
    if (die_with_parent) {
        char c;
        closes = read(fds[0], &c, 1) == 0;
    } else {
        closes = kill(grandchild, 0) != 0;
        kill(grandchild, SIGKILL);
    }
    close(fds[0]);
    close(pids[0]);
    close(pids[1]);
    return closes;
}

static void test_die_with_parent(void **state)
{
    assert_true(pipe_closes(true));
    assert_false(pipe_closes(false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_exit_codes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_such_program, setup, teardown),
        cmocka_unit_test_setup_teardown(test_descriptors_env_cwd, setup, teardown),
        cmocka_unit_test_setup_teardown(test_swapped_descriptors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kill_and_release, setup, teardown),
        cmocka_unit_test_setup_teardown(test_clean_signals_and_limits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_children, setup, teardown),
        cmocka_unit_test_setup_teardown(test_die_with_parent, setup, teardown),
    };
    alarm(WATCHDOG_S);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
