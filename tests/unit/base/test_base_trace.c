/* Levels filter, long lines are cut, one call is one line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/base.h"

static char last[4096];
static int lines;
static enum trace_level last_level;

static void keep(void *arg, enum trace_level level, const char *text)
{
    assert_ptr_equal(arg, &lines);
    assert_true(strlen(text) < sizeof(last));
    memcpy(last, text, strlen(text) + 1);
    last_level = level;
    lines++;
}

static void test_levels(void **state)
{
    struct trace t = {TRACE_WARN, keep, &lines};
    lines = 0;
    trace_debug(&t, "no %d", 1);
    trace_info(&t, "no %d", 2);
    assert_int_equal(lines, 0);
    trace_warn(&t, "yes %d", 3);
    assert_string_equal(last, "yes 3");
    assert_int_equal(last_level, TRACE_WARN);
    trace_error(&t, "%s", "error");
    assert_string_equal(last, "error");
    assert_int_equal(lines, 2);
}

static void test_silence(void **state)
{
    struct trace t = {TRACE_DEBUG, NULL, NULL};
    trace_error(NULL, "nobody hears %s", "this");
    trace_error(&t, "nobody hears %s", "this");
}

static void test_long_lines_are_cut(void **state)
{
    struct trace t = {TRACE_DEBUG, keep, &lines};
    char text[3000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    trace_info(&t, "%s", text);
    assert_true(strlen(last) >= 200 && strlen(last) < 2000);
    assert_memory_equal(last, text, strlen(last));
}

static void test_one_line_each(void **state)
{
    struct trace t = {TRACE_DEBUG, keep, &lines};
    trace_info(&t, "name %s.", "a\nforged\x1b\x7f h\xc3\xa9");
    assert_string_equal(last, "name a?forged?? h\xc3\xa9.");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_long_lines_are_cut),
        cmocka_unit_test(test_one_line_each),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
