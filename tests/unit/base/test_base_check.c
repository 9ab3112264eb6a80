/* check(): aborts with a message that names the condition; allocation of zero bytes yields a pointer that frees. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"

static void fails(void) { check(1 + 1 == 3); }
static void allocates_too_much(void) { free(xcalloc(SIZE_MAX / 2, 4)); }

/* Runs f in a child; returns its wait status, and what it wrote to stderr in text. */
static int in_child(void (*f)(void), char *text, size_t cap)
{
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(fd[1], 2);
        close(fd[0]);
        close(fd[1]);
        f();
        _exit(0);
    }
    close(fd[1]);
    size_t n = 0;
    for (ssize_t got; n + 1 < cap && (got = read(fd[0], text + n, cap - 1 - n)) > 0;) n += (size_t)got;
    text[n] = '\0';
    close(fd[0]);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void test_check_aborts(void **state)
{
    char text[4096];
    check(true);
    int status = in_child(fails, text, sizeof(text));
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    assert_non_null(strstr(text, "1 + 1 == 3"));
    assert_non_null(strstr(text, "test_base_check.c:"));
}

static void test_out_of_memory_stops(void **state)
{
    char text[4096];
    int status = in_child(allocates_too_much, text, sizeof(text));
    /* A sanitizer's allocator ends the process in its own way. */
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_zero_sizes(void **state)
{
    free(xmalloc(0));
    free(xcalloc(0, 8));
    free(xcalloc(8, 0));
    free(xrealloc(NULL, 0));
    void *p = xrealloc(xmalloc(8), 0);
    assert_non_null(p);
    free(p);
    uint8_t *z = xcalloc(100, 3);
    for (int i = 0; i < 300; i++) assert_int_equal(z[i], 0);
    free(z);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_check_aborts),
        cmocka_unit_test(test_out_of_memory_stops),
        cmocka_unit_test(test_zero_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
