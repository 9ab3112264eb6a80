/* The output directory: absent or complete whatever step fails; replaced in one step; what dead jobs left is removed,
 * what living ones have is not. The same for working directories. */
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "mr/output.h"
#include "mr/workdir.h"
#include "tests/unit/mr/test_mr.h"

static void put_part(const struct output_dir *o, uint32_t no, uint32_t attempt, const char *text)
{
    char *path = mr__strf("%s/reduce-%u-%u", o->attempts, no, attempt);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    free(path);
}

static void has(const char *name, const char *text)
{
    struct buf b = read_file(in_dir(name));
    assert_true(slice_eq(buf_slice(&b), slice_str(text)));
    buf_free(&b);
}

static bool exists(const char *name) { return access(in_dir(name), F_OK) == 0; }

/* Everything in the test's directory, as ls says. */
static void only(const char *want)
{
    char *cmd = mr__strf("cd '%s' && test \"$(echo *)\" = '%s'", test_dir, want);
    assert_int_equal(system(cmd), 0);
    free(cmd);
}

static void published(void **state)
{
    struct output_dir o;
    struct counters c = {0};
    struct buf why = {0};
    uint32_t attempts[] = {1, 0};
    assert_int_equal(mr__output_begin(in_dir("out//"), "job1", false, &o, &why), 0);
    only("out.tmp-job1");
    put_part(&o, 0, 0, "wrong\n");
    put_part(&o, 0, 1, "right\n");
    put_part(&o, 1, 0, "also\n");
    assert_int_equal(mr__output_publish(&o, attempts, 2, &c, &why), 0);
    mr__output_end(&o);
    only("out");
    has("out/part-00000", "right\n");
    has("out/part-00001", "also\n");
    has("out/_SUCCESS", "");
    assert_true(exists("out/_counters"));
    /* It exists now. */
    assert_int_equal(mr__output_begin(in_dir("out"), "job2", false, &o, &why), -EEXIST);
    assert_true(has_text(&why, in_dir("out")) && has_text(&why, "--replace"));
    only("out");
    buf_free(&why);
}

static void replaced(void **state)
{
    struct output_dir o;
    struct counters c = {0};
    struct buf why = {0};
    uint32_t attempts[] = {0};
    assert_int_equal(mr__output_begin(in_dir("out"), "job3", true, &o, &why), 0);
    put_part(&o, 0, 0, "new\n");
    has("out/part-00000", "right\n"); /* until the last moment */
    assert_int_equal(mr__output_publish(&o, attempts, 1, &c, &why), 0);
    mr__output_end(&o);
    only("out");
    has("out/part-00000", "new\n");
    assert_false(exists("out/part-00001"));
    write_file("file", slice_str("x"));
    assert_int_equal(mr__output_begin(in_dir("file"), "job4", true, &o, &why), -ENOTDIR);
    unlink(in_dir("file"));
    buf_free(&why);
}

static void failing_steps(void **state)
{
    struct output_dir o;
    struct counters c = {0};
    struct buf why = {0};
    uint32_t attempts[] = {0, 0};
    mr__rmtree(in_dir("out"));
    /* A part is missing. */
    assert_int_equal(mr__output_begin(in_dir("out"), "job5", false, &o, &why), 0);
    put_part(&o, 0, 0, "one\n");
    assert_int_equal(mr__output_publish(&o, attempts, 2, &c, &why), -ENOENT);
    mr__output_end(&o);
    only("*");
    /* Somebody else makes the output meanwhile, even an empty one. */
    buf_clear(&why);
    assert_int_equal(mr__output_begin(in_dir("out"), "job6", false, &o, &why), 0);
    put_part(&o, 0, 0, "one\n");
    assert_int_equal(mkdir(in_dir("out"), 0755), 0);
    assert_int_equal(mr__output_publish(&o, attempts, 1, &c, &why), -EEXIST);
    assert_true(has_text(&why, "came into being"));
    mr__output_end(&o);
    only("out");
    assert_false(exists("out/part-00000"));
    assert_int_equal(rmdir(in_dir("out")), 0);
    /* No such parent, no name. */
    buf_clear(&why);
    assert_int_equal(mr__output_begin(in_dir("none/out"), "job7", false, &o, &why), -ENOENT);
    assert_int_equal(mr__output_begin("/", "job7", false, &o, &why), -EINVAL);
    assert_int_equal(mr__output_begin("", "job7", false, &o, &why), -EINVAL);
    assert_int_equal(mr__output_begin(".", "job7", false, &o, &why), -EINVAL);
    buf_free(&why);
}

static void leftovers(void **state)
{
    struct output_dir o, alive;
    struct buf why = {0};
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        struct output_dir dead;
        _exit(mr__output_begin(in_dir("out"), "dead", false, &dead, &why) == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    only("out.tmp-dead");
    mkdir(in_dir("out.tmp-unknown"), 0755); /* nobody knows whose it is */
    assert_int_equal(mr__output_begin(in_dir("out"), "alive", false, &alive, &why), 0);
    assert_int_equal(mr__output_begin(in_dir("out"), "next", false, &o, &why), 0);
    only("out.tmp-alive out.tmp-next out.tmp-unknown");
    mr__output_end(&o);
    mr__output_end(&alive);
    rmdir(in_dir("out.tmp-unknown"));
    only("*");
}

static void working_directories(void **state)
{
    char *base = mr__strf("%s", in_dir("work")), *a, *b, *c;
    struct buf why = {0};
    int la, lb, lc, status;
    mkdir(base, 0755);
    assert_int_equal(mr__workdir_make(base, &a, &la, &why), 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (mr__workdir_make(base, &b, &lb, &why) < 0) _exit(1);
        char *file = mr__strf("%s/data", b);
        _exit(mkdir(file, 0755));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    char *count = mr__strf("test \"$(ls '%s' | wc -l)\" = 2", base);
    assert_int_equal(system(count), 0); /* the dead one's is still there */
    assert_int_equal(mr__workdir_make(base, &b, &lb, &why), 0);
    assert_int_equal(system(count), 0); /* and now it is not */
    assert_int_equal(access(a, F_OK), 0);
    assert_int_equal(access(b, F_OK), 0);
    close(la);
    assert_int_equal(mr__workdir_make(base, &c, &lc, &why), 0);
    assert_int_equal(access(a, F_OK), -1);
    close(lb);
    close(lc);
    assert_true(mr__workdir_make(in_dir("none"), &a, &la, &why) < 0);
    assert_true(has_text(&why, "none") && has_text(&why, "--workdir"));
    free(a);
    free(b);
    free(c);
    free(count);
    free(base);
    buf_free(&why);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(published), cmocka_unit_test(replaced),
                                       cmocka_unit_test(failing_steps), cmocka_unit_test(leftovers),
                                       cmocka_unit_test(working_directories)};
    return cmocka_run_group_tests(tests, test_begin, test_end);
}
