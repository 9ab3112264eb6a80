/* Commands as filters: no deadlock however input and output interleave, lines whole, every way to end told apart. */
#include <signal.h>

#include "mr/stream.h"
#include "tests/unit/mr/test_mr.h"

static struct buf got;
static uint64_t lines;

static void on_line(void *arg, struct slice line)
{
    put_bytes(&got, line);
    put_u8(&got, '|');
    lines++;
}

static int run(const char *command, struct slice in, size_t step, struct buf *why)
{
    struct stream_options o = {.command = command, .line = on_line};
    struct stream *s;
    int rc = 0;
    buf_clear(&got);
    buf_clear(why);
    lines = 0;
    assert_int_equal(mr__stream_open(&o, &s, why), 0);
    while (rc == 0 && in.n) {
        size_t n = step && step < in.n ? step : in.n;
        rc = mr__stream_feed(s, slice_sub(in, 0, n), why);
        in = slice_sub(in, n, in.n - n);
    }
    assert_int_equal(rc, 0);
    rc = mr__stream_close(s, why);
    put_u8(&got, 0);
    return rc;
}

static void filters(void **state)
{
    struct buf why = {0};
    assert_int_equal(run("cat", slice_str("a\n\nb"), 1, &why), 0);
    assert_string_equal((char *)got.p, "a||b|");
    assert_int_equal(run("tr a-z A-Z | rev", slice_str("abc\ndef\n"), 0, &why), 0);
    assert_string_equal((char *)got.p, "CBA|FED|");
    assert_int_equal(run("true", (struct slice){0}, 0, &why), 0);
    assert_int_equal(lines, 0);
    assert_int_equal(run("printf 'x\\n'", slice_str("not read\n"), 0, &why), 0);
    assert_string_equal((char *)got.p, "x|");
    assert_int_equal(run("echo $MR_NOPE-$MR_NONE", (struct slice){0}, 0, &why), 0);
    assert_string_equal((char *)got.p, "-|");
    buf_free(&why);
}

/* Much more than pipes hold, both ways, in several rhythms. */
static void large(void **state)
{
    struct buf in = {0}, why = {0};
    for (int i = 0; i < 300000; i++) mr__fmt(&in, "line %d\n", i);
    static const char *const commands[] = {"cat", "sort -n -k2", "sed p"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(run(commands[i], buf_slice(&in), 100000, &why), 0);
        assert_int_equal(lines, i == 2 ? 600000 : 300000);
        if (i < 2) assert_int_equal(got.n, in.n + 1);
    }
    buf_free(&in);
    buf_free(&why);
}

static void stops_reading(void **state)
{
    struct buf in = {0}, why = {0};
    memset(buf_extend(&in, 4 * MIB), '\n', 4 * MIB);
    assert_int_equal(run("head -n 1; exit 0", buf_slice(&in), 5000, &why), 0);
    assert_int_equal(lines, 1);
    buf_free(&in);
    buf_free(&why);
}

static void ends(void **state)
{
    struct buf why = {0};
    assert_int_equal(run("exit 3", (struct slice){0}, 0, &why), -ECHILD);
    assert_true(has_text(&why, "'exit 3' exited with status 3"));
    assert_int_equal(run("kill -9 $$", (struct slice){0}, 0, &why), -ECHILD);
    assert_true(has_text(&why, "killed by signal 9 (Killed)"));
    assert_int_equal(run("no-such-program-here 2>/dev/null", (struct slice){0}, 0, &why), -ECHILD);
    assert_true(has_text(&why, "status 127 (no such program)"));
    assert_int_equal(run("echo partial; exit 1", (struct slice){0}, 0, &why), -ECHILD);
    assert_string_equal((char *)got.p, "partial|");
    buf_free(&why);
}

static void environment_and_place(void **state)
{
    char *env[] = {(char *)(uintptr_t) "MR_TEST=some value", NULL};
    struct stream_options o = {.command = "echo \"$MR_TEST\"; pwd", .cwd = "/", .env = env, .line = on_line};
    struct stream *s;
    struct buf why = {0};
    buf_clear(&got);
    assert_int_equal(mr__stream_open(&o, &s, &why), 0);
    assert_int_equal(mr__stream_close(s, &why), 0);
    put_u8(&got, 0);
    assert_string_equal((char *)got.p, "some value|/|");
    assert_null(getenv("MR_TEST"));
}

static void plain_words(void **state)
{
    struct buf why = {0};
    write_file("script", slice_str("echo without an interpreter $1\n")); /* no "#!": the shell's */
    chmod(in_dir("script"), 0755);
    char *command = mr__strf("%s one", in_dir("script"));
    assert_int_equal(run(command, (struct slice){0}, 0, &why), 0);
    assert_string_equal((char *)got.p, "without an interpreter one|");
    free(command);
    write_file("dies", slice_str("#!/bin/sh\nkill -SEGV $$\n"));
    chmod(in_dir("dies"), 0755);
    assert_int_equal(run(in_dir("dies"), (struct slice){0}, 0, &why), -ECHILD);
    assert_true(has_text(&why, "killed by signal 11"));
    buf_free(&why);
}

static void killed(void **state)
{
    struct stream_options o = {.command = "exec sleep 1000", .line = on_line};
    struct stream *s;
    struct buf why = {0};
    assert_int_equal(mr__stream_open(&o, &s, &why), 0);
    mr__stream_kill(s);
    mr__stream_kill(NULL);
}

static bool no_err_line(void *arg, struct slice line) { return false; }
static void on_idle(void *arg) { ++*(int *)arg; }

/* However it hangs: reading nothing, saying nothing, with what it does not need closed, or only grumbling. */
static void hangs(void **state)
{
    static const char *const commands[] = {"exec sleep 1000", "exec >&-; exec sleep 1000", "exec sleep 1000 >&- 2>&-",
                                           "cat > /dev/null; exec sleep 1000",
                                           "while echo busy; do sleep 0.01; done >&2 2>/dev/null"};
    struct buf in = {0}, why = {0};
    memset(buf_extend(&in, MIB), '\n', MIB);
    for (size_t i = 0; i < 2 * sizeof commands / sizeof *commands; i++) {
        int idle = 0;
        struct stream_options o = {.command = commands[i / 2],
                                   .line = on_line,
                                   .limit_ns = 400 * NS_PER_MS,
                                   .idle = on_idle,
                                   .idle_arg = &idle,
                                   .err_line = i % 2 ? no_err_line : NULL};
        struct stream *s;
        buf_clear(&why);
        assert_int_equal(mr__stream_open(&o, &s, &why), 0);
        int rc = mr__stream_feed(s, buf_slice(&in), &why);
        if (rc == 0)
            rc = mr__stream_close(s, &why);
        else
            mr__stream_kill(s);
        assert_int_equal(rc, -ETIME);
        assert_true(has_text(&why, "made no progress for 0.4 s"));
        assert_true(idle > 0);
    }
    buf_free(&in);
    buf_free(&why);
}

static void slow(void **state)
{
    struct stream_options o = {
        .command = "for i in $(seq 60); do echo $i; sleep 0.1; done", .line = on_line, .limit_ns = 5 * NS_PER_S};
    struct stream *s;
    struct buf why = {0};
    lines = 0;
    assert_int_equal(mr__stream_open(&o, &s, &why), 0);
    assert_int_equal(mr__stream_close(s, &why), 0);
    assert_int_equal(lines, 60);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filters),
        cmocka_unit_test(large),
        cmocka_unit_test(stops_reading),
        cmocka_unit_test(ends),
        cmocka_unit_test(environment_and_place),
        cmocka_unit_test(plain_words),
        cmocka_unit_test(killed),
        cmocka_unit_test(hangs),
        cmocka_unit_test(slow),
    };
    int rc = cmocka_run_group_tests(tests, test_begin, test_end);
    buf_free(&got);
    return rc;
}
