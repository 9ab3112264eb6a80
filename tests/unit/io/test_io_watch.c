/* Watches, pool work, signals, the trace sink and randomness. */
#include "helper.h"

#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <signal.h>
#include <sys/socket.h>

static struct io_loop *loop;

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

struct reader_state {
    int fd, calls;
    bool eof;
    int ignore; /* so many calls */
    struct io_watch *w;
};

static void on_readable(void *arg)
{
    struct reader_state *s = arg;
    char c;
    io_loop_stop(loop);
    if (++s->calls <= s->ignore) return;
    ssize_t r = read(s->fd, &c, 1);
    if (r <= 0) {
        s->eof = true;
        io_watch_stop(s->w);
    }
}

static void test_watch_is_level_triggered(void **state)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    struct reader_state s = {.fd = fds[0]};
    s.w = io_watch_readable(loop, fds[0], on_readable, &s);
    assert_int_equal(write(fds[1], "abc", 3), 3);
    run_until(loop, s.calls == 3); /* one byte a call */
    close(fds[1]);
    run_until(loop, s.eof);
    assert_int_equal(s.calls, 4);
    close(fds[0]);
}

/* An error on the descriptor reaches the reader, too, again and again until it is looked at. */
static void test_watch_sees_errors(void **state)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(write(fds[0], "unread", 6), 6);
    struct reader_state s = {.fd = fds[0], .ignore = 3};
    s.w = io_watch_readable(loop, fds[0], on_readable, &s);
    close(fds[1]); /* with unread bytes: the other side gets ECONNRESET */
    run_until(loop, s.eof);
    close(fds[0]);
}

static void test_watch_refuses_regular_files(void **state)
{
    int fd = open("/proc/self/exe", O_RDONLY);
    assert_null(io_watch_readable(loop, fd, on_readable, NULL));
    close(fd);
}

static void test_free_with_a_watch(void **state)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    struct io_loop *l = io_loop_new();
    struct reader_state s = {.fd = fds[0]};
    s.w = io_watch_readable(l, fds[0], on_readable, &s);
    io_loop_free(l);
    close(fds[0]);
    close(fds[1]);
}

struct job {
    pthread_t worker;
    int done;
};

static void work(void *arg) { ((struct job *)arg)->worker = pthread_self(); }
static void work_done(void *arg)
{
    ((struct job *)arg)->done++;
    io_loop_stop(loop);
}

static void test_work(void **state)
{
    struct job jobs[50] = {0};
    int done = 0;
    for (int i = 0; i < 50; i++) io_work(loop, work, work_done, &jobs[i]);
    while (done < 50) {
        io_loop_run(loop);
        done = 0;
        for (int i = 0; i < 50; i++) done += jobs[i].done;
    }
    for (int i = 0; i < 50; i++) {
        assert_int_equal(jobs[i].done, 1);
        assert_false(pthread_equal(jobs[i].worker, pthread_self()));
    }
}

static int signals[2];
static void on_signal(void *arg, int signum)
{
    assert_int_equal(signum, SIGUSR1);
    signals[(intptr_t)arg]++;
    io_loop_stop(loop);
}

static void test_signals(void **state)
{
    signals[0] = signals[1] = 0;
    io_on_signal(loop, SIGUSR1, on_signal, (void *)0);
    io_on_signal(loop, SIGUSR1, on_signal, (void *)1);
    kill(getpid(), SIGUSR1);
    run_until(loop, signals[0] == 1 && signals[1] == 1);
}

static void test_trace(void **state)
{
    int fds[2];
    char text[2048], big[1500];
    struct trace t;
    regex_t re;
    assert_int_equal(pipe(fds), 0);
    io_trace_fd(&t, fds[1], TRACE_INFO);
    trace_debug(&t, "not shown");
    trace_warn(&t, "node %d is here", 7);
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    ssize_t n = read(fds[0], text, sizeof(text) - 1);
    assert_true(n > 0);
    text[n] = '\0';
    assert_int_equal(regcomp(&re, "^20[0-9-]{8}T[0-9:]{8}\\.[0-9]{6}Z warn  node 7 is here\n$", REG_EXTENDED), 0);
    assert_int_equal(regexec(&re, text, 0, NULL, 0), 0);
    regfree(&re);
    trace_error(&t, "%s", big); /* cut, but one whole line */
    n = read(fds[0], text, sizeof(text));
    assert_true(n > 500);
    assert_int_equal(text[n - 1], '\n');
    assert_ptr_equal(memchr(text, '\n', (size_t)n), text + n - 1);
    close(fds[0]);
    trace_warn(&t, "nobody reads"); /* EPIPE is nobody's problem */
    close(fds[1]);
}

static void test_random(void **state)
{
    uint64_t a = io_random(), b = io_random();
    assert_true(a != b && a && b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_watch_is_level_triggered, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watch_sees_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_watch_refuses_regular_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_free_with_a_watch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_work, setup, teardown),
        cmocka_unit_test_setup_teardown(test_signals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_trace, setup, teardown),
        cmocka_unit_test(test_random),
    };
    alarm(WATCHDOG_S);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
