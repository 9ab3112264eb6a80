/* helper.h - what the tests with mounts share: paths, assertions on system calls, child processes. */
#ifndef QFS_TEST_MOUNT_HELPER_H
#define QFS_TEST_MOUNT_HELPER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "standin.h"

static struct standin *s;

#define ok(x) assert_int_not_equal((x), -1)
#define fails(x, err)                                                                                                  \
    do {                                                                                                               \
        errno = 0;                                                                                                     \
        assert_int_equal((x), -1);                                                                                     \
        assert_int_equal(errno, (err));                                                                                \
    } while (0)

/* A path on mount number m; good until the fourth call after it. */
static inline const char *on(unsigned m, const char *name)
{
    static _Thread_local char paths[4][512];
    static _Thread_local unsigned i;
    char *p = paths[i++ % 4];
    snprintf(p, 512, "%s/%s", standin_point(s, m), name);
    return p;
}

static inline const char *at(const char *name) { return on(0, name); }

static inline uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Polls for what other threads bring about; false after 10 s. */
#define eventually(cond)                                                                                               \
    ({                                                                                                                 \
        uint64_t end_ = now_ms() + 10000;                                                                              \
        bool is_;                                                                                                      \
        while (!(is_ = (cond)) && now_ms() < end_) usleep(1000);                                                       \
        is_;                                                                                                           \
    })

/* Runs fn in a process of its own, as user uid; its result. */
static inline int as_user(uid_t uid, int (*fn)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        if (setgid(uid) || setuid(uid)) _exit(99);
        _exit(fn());
    }
    int status;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 200;
}

static inline int in_child(int (*fn)(void)) { return as_user(0, fn); }

static inline void put_file(unsigned m, const char *name, const void *data, size_t n)
{
    int fd = open(on(m, name), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    ok(fd);
    assert_int_equal(write(fd, data, n), n);
    ok(close(fd));
}

/* The file has exactly these bytes. */
static inline void expect_file(unsigned m, const char *name, const void *data, size_t n)
{
    char *got = malloc(n + 1);
    int fd = open(on(m, name), O_RDONLY);
    ok(fd);
    assert_int_equal(read(fd, got, n + 1), n);
    assert_memory_equal(got, data, n);
    close(fd);
    free(got);
}

static inline void put(const char *name, const void *data, size_t n) { put_file(0, name, data, n); }
static inline void expect(const char *name, const void *data, size_t n) { expect_file(0, name, data, n); }

static inline int setup_mounts(unsigned n)
{
    s = standin_new(1);
    if (!s) exit(77);
    for (unsigned i = 0; i < n; i++) standin_mount(s, NULL);
    return 0;
}

static inline int calm(void **state)
{
    standin_calm(s);
    return 0;
}

#define test_of(fn) cmocka_unit_test_teardown(fn, calm)

static inline int teardown_mounts(void **state)
{
    int err = standin_check(s);
    standin_free(s);
    return err;
}

#endif
