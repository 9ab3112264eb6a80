/* A cluster that does not answer, signals, soft mounts, unmounting in every state, dead mounts, and what the user is
 * told. */
#include "helper.h"

#include <signal.h>
#include <sys/mount.h>

/* ---- signals ---- */

static volatile sig_atomic_t alarms;
static void on_alarm(int signum) { alarms++; }

static int stat_with_alarm(unsigned ms)
{
    struct stat st;
    struct sigaction act = {.sa_handler = on_alarm};
    const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    timer_t timer;
    sigaction(SIGALRM, &act, NULL);
    if (timer_create(CLOCK_MONOTONIC, NULL, &timer) ||
        timer_settime(timer, 0, &(struct itimerspec){.it_value = t}, NULL))
        return 250;
    int err = stat(at("f"), &st) ? errno : 0;
    return alarms == 1 ? err : 251;
}

static int stat_early_alarm(void) { return stat_with_alarm(50); }

static int kill_child_after(int (*fn)(void), useconds_t wait_us, int signum)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        signal(signum, SIG_DFL); /* a shell's background jobs ignore SIGINT, and so do their children */
        _exit(fn());
    }
    usleep(wait_us);
    kill(pid, signum);
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : -1;
}

static int write_it(void)
{
    int fd = open(at("f"), O_WRONLY);
    return fd < 0 || write(fd, "x", 1) != 1;
}

static void test_killed_while_waiting(void **state)
{
    put("f", "x", 1);
    standin_stop(s, true);
    uint64_t begin = now_ms();
    assert_int_equal(kill_child_after(write_it, 100000, SIGKILL), SIGKILL);
    assert_int_equal(kill_child_after(write_it, 100000, SIGINT), SIGINT);
    assert_int_equal(kill_child_after(write_it, 100000, SIGTERM), SIGTERM);
    assert_true(now_ms() - begin < 4500);      /* with the grace of other signals it were 6 s */
    assert_int_equal(standin_pending(s, 0), 0);
    standin_stop(s, false);
    expect("f", "x", 1);
}

/* A signal that the program handles disturbs nothing as long as answers come. */
static void test_handled_signal(void **state)
{
    put("f", "x", 1);
    standin_delay(s, 400000);      /* LOOKUP takes up to 0.8 s; the alarm comes in between */
    for (int i = 0; i < 3; i++) assert_int_equal(in_child(stat_early_alarm), 0);
    standin_delay(s, 0);
    standin_stop(s, true);
    uint64_t begin = now_ms();
    assert_int_equal(in_child(stat_early_alarm), EINTR);
    assert_in_range(now_ms() - begin, 1900, 8000);
    standin_stop(s, false);
}

/* ---- soft mounts ---- */

static void test_soft(void **state)
{
    struct stat st;
    struct standin_options o = {.soft_timeout_ms = 300};
    unsigned m = standin_mount(s, &o);
    put_file(m, "soft", "x", 1);
    int fd = open(on(m, "soft"), O_RDWR);
    standin_stop(s, true);
    uint64_t begin = now_ms();
    fails(stat(on(m, "soft"), &st), ETIMEDOUT);
    fails(write(fd, "y", 1), ETIMEDOUT);
    assert_in_range(now_ms() - begin, 600, 5000);
    standin_stop(s, false);
    ok(stat(on(m, "soft"), &st));
    close(fd);
    standin_unmount(s, m);
}

/* ---- a lost session fails the change whose fate is not known ---- */

static void *write_job(void *arg)
{
    int fd = open(at("f"), O_WRONLY);
    *(int *)arg = write(fd, "z", 1) < 0 ? errno : 0;
    close(fd);
    return NULL;
}

static void test_unknown_fate(void **state)
{
    pthread_t t;
    int err = -1;
    put("f", "x", 1);
    standin_hold(s, 0, KV_WRITE, true);
    pthread_create(&t, NULL, write_job, &err);
    standin_await_held(s, 1);
    standin_lose_session(s, 0);
    pthread_join(t, NULL);
    assert_int_equal(err, EIO);
    standin_hold(s, 0, KV_WRITE, false);
    put("f", "y", 1);
}

/* ---- pages that must go while a READ holds them: the loop goes on ---- */

static void *read_job(void *arg)
{
    char c[4096];
    int fd = *(int *)arg;
    *(int *)arg = (int)pread(fd, c, sizeof c, 0);
    return NULL;
}

static void test_notification_waits_for_a_read(void **state)
{
    struct stat st;
    pthread_t reader, second;
    unsigned m = standin_mount(s, NULL);
    put("slow", "aaaa", 4);
    ok(stat(at("slow"), &st));
    int a = open(at("slow"), O_RDONLY), b = open(at("slow"), O_RDONLY), arg_a = a, arg_b = b;
    standin_hold_reply(s, 0, KV_READ, true);
    pthread_create(&reader, NULL, read_job, &arg_a);
    standin_await_held(s, 1);
    put_file(m, "slow", "bbbb", 4);
    struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, st.st_mtim};
    ok(utimensat(AT_FDCWD, on(m, "slow"), t, 0));
    pthread_create(&second, NULL, read_job, &arg_b);      /* its GETATTR has to drop the page that the READ holds */
    usleep(100000);
    put("other", "goes on", 7);
    struct stat other;
    ok(stat(at("other"), &other));
    standin_hold_reply(s, 0, KV_READ, false);
    pthread_join(reader, NULL);
    pthread_join(second, NULL);
    assert_int_equal(arg_a, 4);
    assert_int_equal(arg_b, 4);
    char c[4];
    assert_int_equal(pread(b, c, 4, 0), 4);
    assert_memory_equal(c, "bbbb", 4);
    close(a);
    close(b);
    standin_unmount(s, m);
}

/* ---- unmounting ---- */

static void test_unmount_while_waiting(void **state)
{
    unsigned m = standin_mount(s, NULL);
    put_file(m, "u", "x", 1);
    char path[512];
    snprintf(path, sizeof path, "%s", on(m, "u"));
    standin_stop(s, true);
    pid_t pid = fork();
    if (pid == 0) {
        struct stat st;
        _exit(stat(path, &st) == 0 ? 1 : 0);
    }
    assert_true(eventually(standin_pending(s, m) > 0));
    standin_kill(s, m);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    standin_stop(s, false);
}

/* In use when it is unmounted: it is gone from the tree at once, and what is open works on to the end. */
static void test_unmount_while_open(void **state)
{
    char c;
    unsigned m = standin_mount(s, NULL);
    put_file(m, "u", "x", 1);
    int fd = open(on(m, "u"), O_RDWR);
    standin_begin_unmount(s, m);
    assert_true(eventually(access(on(m, "u"), F_OK) != 0));
    assert_int_equal(pread(fd, &c, 1, 0), 1);
    assert_int_equal(pwrite(fd, "y", 1, 0), 1);
    close(fd);
    standin_unmount(s, m);
    expect("u", "y", 1);
}

/* ---- the mount point ---- */

static int try_mount(const char *point, struct mount **m, const char *want)
{
    struct buf why = {0};
    struct mount_options o = {.mountpoint = point, .fsname = "x"};
    int err = mount_new(NULL, &o, m, &why);
    put_u8(&why, 0);
    if (want) {
        assert_non_null(strstr((const char *)why.p, want));
        assert_null(*m);
    }
    buf_free(&why);
    return err;
}

static void test_bad_points(void **state)
{
    struct mount *m;
    assert_int_equal(try_mount("/nowhere/at/all", &m, "mkdir"), -ENOENT);
    assert_int_equal(try_mount("/etc/passwd", &m, "not a directory"), -ENOTDIR);
    assert_int_equal(try_mount(standin_point(s, 0), &m, "already"), -EBUSY);
}

static void test_dead_mount_is_repaired(void **state)
{
    char point[] = "/tmp/qfs-standin-XXXXXX";
    struct stat st;
    int status;
    assert_non_null(mkdtemp(point));
    for (int stacked = 0; stacked < 2; stacked++) {
        pid_t pid = fork();
        if (pid == 0) {
            struct mount *m;
            _exit(try_mount(point, &m, NULL) ? 1 : 0);      /* dies with its mount */
        }
        waitpid(pid, &status, 0);
        assert_int_equal(status, 0);
        fails(stat(point, &st), ENOTCONN);
    }
    pid_t pid = fork();
    if (pid == 0) {
        struct mount *m;
        if (try_mount(point, &m, NULL)) _exit(1);
        kill(getpid(), SIGKILL);
    }
    waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status));
    fails(stat(point, &st), ENOTCONN);
    ok(umount2(point, MNT_DETACH));
    ok(stat(point, &st));
    ok(rmdir(point));
}

static int setup(void **state) { return setup_mounts(1); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_of(test_killed_while_waiting), test_of(test_handled_signal), test_of(test_soft),
        test_of(test_unknown_fate), test_of(test_notification_waits_for_a_read), test_of(test_unmount_while_waiting),
        test_of(test_unmount_while_open), test_of(test_bad_points), test_of(test_dead_mount_is_repaired),
    };
    return cmocka_run_group_tests(tests, setup, teardown_mounts);
}
