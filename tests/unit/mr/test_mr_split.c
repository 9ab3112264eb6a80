/* Splits: whatever the cut and the text, the chunks of all splits are the file's lines, each once, in order. */
#include <fcntl.h>

#include "mr/split.h"
#include "tests/unit/mr/test_mr.h"

static int64_t mtime_of(const char *path, uint64_t *size)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    *size = (uint64_t)st.st_size;
    return st.st_mtim.tv_sec * (int64_t)NS_PER_S + st.st_mtim.tv_nsec;
}

/* Appends what the split gives, and checks that chunks are whole lines at the right places. */
static void read_split(const char *path, uint64_t off, uint64_t len, struct slice text, struct buf *out)
{
    struct split_reader *r;
    struct slice chunk;
    struct buf why = {0};
    uint64_t size, at;
    int64_t mtime = mtime_of(path, &size);

    assert_int_equal(mr__split_open(path, size, mtime, off, len, &mr__format_default, &r, &why), 0);
    int rc;
    while ((rc = mr__split_next(r, &chunk, &at, &why)) > 0) {
        assert_true(chunk.n > 0);
        assert_true(chunk.p[chunk.n - 1] == '\n' || at + chunk.n == size);
        assert_true(at + chunk.n <= text.n && memcmp(chunk.p, text.p + at, chunk.n) == 0);
        assert_true(at == 0 || text.p[at - 1] == '\n');
        assert_true(at >= off);
        put_bytes(out, chunk);
    }
    assert_int_equal(rc, 0);
    assert_int_equal(mr__split_next(r, &chunk, &at, &why), 0);
    mr__split_close(r);
}

static void check_text(struct slice text, uint64_t split)
{
    const char *path = write_file("text", text);
    const char *inputs[] = {path};
    struct plan p;
    struct buf why = {0}, all = {0};
    uint64_t end = 0;

    assert_int_equal(mr__plan(inputs, 1, split, &mr__format_default, &p, &why), 0);
    assert_int_equal(p.bytes, text.n);
    assert_true(text.n > 0 || p.splits_n == 0);
    for (size_t i = 0; i < p.splits_n; i++) {
        assert_int_equal(p.splits[i].off, end);
        assert_true(p.splits[i].len > 0);
        end += p.splits[i].len;
        read_split(path, p.splits[i].off, p.splits[i].len, text, &all);
    }
    assert_int_equal(end, text.n);
    assert_true(slice_eq(buf_slice(&all), text));
    buf_free(&all);
    mr__plan_free(&p);
}

static void borders(void **state)
{
    static const char *const texts[] = {
        "", "\n", "a", "a\n", "\n\n\n\n", "ab\ncd\nef", "ab\r\ncd\r\n", "abcdefghijklmnop\n", "x\nabcdefghijklmnop"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (uint64_t split = 1; split < 20; split++) check_text(slice_str(texts[i]), split);
}

static void random_texts(void **state)
{
    struct prng r;
    prng_seed(&r, 4);
    for (int i = 0; i < 400; i++) {
        struct buf b = {0};
        size_t n = prng_below(&r, 3000);
        uint32_t percent = (uint32_t)prng_between(&r, 0, 30);
        for (size_t k = 0; k < n; k++) put_u8(&b, prng_chance(&r, percent) ? '\n' : (uint8_t)prng_below(&r, 256));
        check_text(buf_slice(&b), prng_between(&r, 1, 700));
        buf_free(&b);
    }
}

/* Lines longer than the reader's chunk, and than several splits. */
static void long_lines(void **state)
{
    struct buf b = {0};
    struct prng r;
    prng_seed(&r, 5);
    for (int i = 0; i < 9; i++) {
        size_t n = (size_t)prng_below(&r, 3 * MIB);
        memset(buf_extend(&b, n), 'a' + i, n);
        put_u8(&b, '\n');
    }
    check_text(buf_slice(&b), 300 * 1024);
    check_text(buf_slice(&b), 5 * MIB);
    b.n--;
    check_text(buf_slice(&b), MIB);
    buf_free(&b);
}

static void whole_files(void **state)
{
    struct format files = mr__format_default;
    files.input = MR_IN_FILES;
    struct buf why = {0};
    const char *full = write_file("full", slice_str("one\ntwo\nthree")),
               *empty = write_file("empty", (struct slice){0});
    const char *inputs[] = {full, empty};
    struct plan p;
    assert_int_equal(mr__plan(inputs, 2, 3, &files, &p, &why), 0);
    assert_int_equal(p.splits_n, 2);
    for (int i = 0; i < 2; i++) {
        struct split_reader *r;
        struct slice chunk;
        uint64_t off;
        const struct input_file *f = &p.files[i];
        assert_int_equal(mr__split_open(f->path, f->size, f->mtime_ns, 0, f->size, &files, &r, &why), 0);
        assert_int_equal(mr__split_next(r, &chunk, &off, &why), 1);
        assert_true(slice_eq(chunk, slice_str(i ? "" : "one\ntwo\nthree")));
        assert_int_equal(mr__split_next(r, &chunk, &off, &why), 0);
        mr__split_close(r);
    }
    mr__plan_free(&p);
}

static void a_small_rest_joins(void **state)
{
    struct plan p;
    struct buf why = {0}, b = {0};
    memset(buf_extend(&b, 105), '\n', 105);
    const char *inputs[] = {write_file("rest", buf_slice(&b))};
    assert_int_equal(mr__plan(inputs, 1, 50, &mr__format_default, &p, &why), 0);
    assert_int_equal(p.splits_n, 2);
    assert_int_equal(p.splits[1].len, 55);
    mr__plan_free(&p);
    buf_free(&b);
}

static void inputs_of_all_kinds(void **state)
{
    struct plan p;
    struct buf why = {0};
    mkdir(in_dir("d"), 0755);
    mkdir(in_dir("d/sub"), 0755);
    mkdir(in_dir("d/.hidden"), 0755);
    write_file("d/b", slice_str("b\n"));
    write_file("d/a", slice_str("a\n"));
    write_file("d/sub/c", slice_str("c\n"));
    write_file("d/_SUCCESS", slice_str("no\n"));
    write_file("d/.dot", slice_str("no\n"));
    write_file("d/.hidden/x", slice_str("no\n"));
    assert_int_equal(symlink("..", in_dir("d/sub/up")), 0);
    char *glob = mr__strf("%s/d/[ab]", test_dir), *dir = mr__strf("%s/d", test_dir), *b = mr__strf("%s/d/b", test_dir);
    const char *inputs[] = {b, glob, dir};
    static const char *const want[] = {"d/b", "d/a", "d/sub/c"};
    assert_int_equal(mr__plan(inputs, 3, 100, &mr__format_default, &p, &why), 0);
    assert_int_equal(p.files_n, 3);
    for (size_t i = 0; i < 3; i++) assert_string_equal(p.files[i].path, in_dir(want[i]));
    mr__plan_free(&p);
    /* A name with the letters of a pattern in it is that file. */
    const char *odd[] = {write_file("[ab]", slice_str("odd\n"))};
    assert_int_equal(mr__plan(odd, 1, 100, &mr__format_default, &p, &why), 0);
    assert_string_equal(p.files[0].path, odd[0]);
    mr__plan_free(&p);
    free(glob);
    free(dir);
    free(b);
}

/* One file, however its path is written; a link to it is another one, as its directory has both names. */
static void one_file_of_many_spellings(void **state)
{
    struct plan p;
    struct buf why = {0};
    mkdir(in_dir("spell"), 0755);
    mkdir(in_dir("spell/sub"), 0755);
    write_file("spell/a", slice_str("a\n"));
    assert_int_equal(symlink("spell", in_dir("spelt")), 0);
    assert_int_equal(symlink("a", in_dir("spell/b")), 0);
    static const char *const spelt[] = {"spell/a", "spell//a", "./spell/./a", "spell/sub/../a",
                                        "spelt/a", "spell",    "spell/"};
    char *inputs[sizeof spelt / sizeof *spelt];
    size_t n = sizeof spelt / sizeof *spelt;
    for (size_t i = 0; i < n; i++) inputs[i] = mr__strf("%s/%s", test_dir, spelt[i]);
    assert_int_equal(mr__plan((const char *const *)inputs, n, 100, &mr__format_default, &p, &why), 0);
    assert_int_equal(p.files_n, 2);
    assert_string_equal(p.files[0].path, in_dir("spell/a"));
    assert_string_equal(p.files[1].path, in_dir("spell/b"));
    mr__plan_free(&p);
    for (size_t i = 0; i < n; i++) free(inputs[i]);
}

static void check_plan(const char *const *inputs, size_t n, const char *const *want, size_t want_n)
{
    struct plan p;
    struct buf why = {0};
    char **paths = xcalloc(n, sizeof *paths);
    for (size_t i = 0; i < n; i++) paths[i] = mr__strf("%s/%s", test_dir, inputs[i]);
    assert_int_equal(mr__plan((const char *const *)paths, n, 100, &mr__format_default, &p, &why), 0);
    assert_int_equal(p.files_n, want_n);
    for (size_t i = 0; i < want_n; i++) assert_string_equal(p.files[i].path, in_dir(want[i]));
    mr__plan_free(&p);
    for (size_t i = 0; i < n; i++) free(paths[i]);
    free(paths);
}

/* What a job keeps in its output beside the parts is no data, also where a pattern finds it, ours or the shell's. */
static void output_of_an_earlier_job(void **state)
{
    struct plan p;
    struct buf why = {0};
    static const char *const names[] = {"done/_SUCCESS", "done/_counters", "done/_skipped", "done/part-00000",
                                        "done/part-00001"};
    mkdir(in_dir("done"), 0755);
    for (size_t i = 0; i < 5; i++) write_file(names[i], slice_str("x\n"));
    check_plan((const char *const[]){"done/*"}, 1, names + 3, 2);
    check_plan(names, 5, names + 3, 2);
    check_plan((const char *const[]){names[4], names[1], names[3]}, 3, (const char *const[]){names[4], names[3]}, 2);
    /* Who asks for it gets it. */
    check_plan(names + 2, 1, names + 2, 1);
    check_plan((const char *const[]){"done/_s*"}, 1, names + 2, 1);
    check_plan((const char *const[]){"done/{_c,part-00001}*"}, 1, (const char *const[]){names[1], names[4]}, 2);
    mkdir(in_dir("records"), 0755);
    write_file("records/_counters", slice_str("x\n"));
    check_plan((const char *const[]){names[1], "records/_counters"}, 2,
               (const char *const[]){names[1], "records/_counters"}, 2);
    char *only[] = {mr__strf("%s/records/*", test_dir)};
    assert_int_equal(mr__plan((const char *const *)only, 1, 100, &mr__format_default, &p, &why), -ENOENT);
    assert_true(has_text(&why, "records/*"));
    free(only[0]);
    buf_free(&why);
}

/* "--split-size 64", and 64M was meant. */
static void too_many_tasks(void **state)
{
    struct plan p;
    struct buf why = {0};
    const char *inputs[] = {write_file("sparse", (struct slice){0})};
    assert_int_equal(truncate(inputs[0], 4ll * 1024 * MIB), 0);
    assert_int_equal(mr__plan(inputs, 1, 1000, &mr__format_default, &p, &why), -E2BIG);
    assert_true(has_text(&why, "--split-size"));
    assert_int_equal(mr__plan(inputs, 1, 10000, &mr__format_default, &p, &why), 0);
    mr__plan_free(&p);
    unlink(inputs[0]);
    buf_free(&why);
}

static void what_cannot_be_read(void **state)
{
    struct plan p;
    struct buf why = {0};
    const char *none[] = {in_dir("none*")}, *fifo[] = {in_dir("fifo")};
    assert_int_equal(mr__plan(none, 1, 100, &mr__format_default, &p, &why), -ENOENT);
    assert_true(has_text(&why, "none*"));
    buf_clear(&why);
    assert_int_equal(mkfifo(fifo[0], 0600), 0);
    assert_int_equal(mr__plan(fifo, 1, 100, &mr__format_default, &p, &why), -EINVAL);
    assert_true(has_text(&why, "neither a file nor a directory"));
    buf_free(&why);
}

static void changed_input(void **state)
{
    struct split_reader *r;
    struct buf why = {0};
    uint64_t size;
    const char *path = write_file("moving", slice_str("one\ntwo\n"));
    int64_t mtime = mtime_of(path, &size);
    assert_int_equal(mr__split_open(path, size, mtime - 1, 0, 8, &mr__format_default, &r, &why), -ESTALE);
    assert_int_equal(mr__split_open(path, size + 1, mtime, 0, 8, &mr__format_default, &r, &why), -ESTALE);
    assert_true(has_text(&why, "changed while the job ran"));
    /* Cut short after it was opened. */
    struct slice chunk;
    uint64_t off;
    assert_int_equal(mr__split_open(path, size, mtime, 0, 8, &mr__format_default, &r, &why), 0);
    assert_int_equal(truncate(path, 3), 0);
    assert_int_equal(mr__split_next(r, &chunk, &off, &why), -ESTALE);
    mr__split_close(r);
    assert_int_equal(mr__split_open(in_dir("absent"), 1, 1, 0, 1, &mr__format_default, &r, &why), -ENOENT);
    buf_free(&why);
}

/* A file that is kept open is read again, until it changes. */
static void kept_open(void **state)
{
    struct split_file kept = {.fd = -1};
    struct split_reader *r;
    struct slice chunk;
    struct buf why = {0};
    uint64_t size, off;
    const char *path = write_file("kept", slice_str("one\ntwo\n"));
    int64_t mtime = mtime_of(path, &size);
    int fd = -1;

    for (uint64_t i = 0; i < 2; i++) {
        assert_int_equal(mr__split_reopen(&kept, path, size, mtime, 4 * i, 4, &mr__format_default, &r, &why), 0);
        assert_int_equal(mr__split_next(r, &chunk, &off, &why), 1);
        assert_true(slice_eq(chunk, slice_str(i ? "two\n" : "one\n")));
        if (i) assert_int_equal(kept.fd, -1);
        mr__split_close(r);
        if (i) assert_int_equal(kept.fd, fd);
        fd = kept.fd;
    }
    int other = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(write(other, "x", 1), 1);
    close(other);
    assert_int_equal(mr__split_reopen(&kept, path, size, mtime, 0, 4, &mr__format_default, &r, &why), -ESTALE);
    mtime = mtime_of(path, &size);
    assert_int_equal(mr__split_reopen(&kept, path, size, mtime, 8, 1, &mr__format_default, &r, &why), 0);
    assert_int_equal(mr__split_next(r, &chunk, &off, &why), 1);
    assert_true(slice_eq(chunk, slice_str("x")));
    mr__split_close(r);
    mr__split_forget(&kept);
    assert_int_equal(kept.fd, -1);
    buf_free(&why);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(borders),
        cmocka_unit_test(random_texts),
        cmocka_unit_test(long_lines),
        cmocka_unit_test(whole_files),
        cmocka_unit_test(a_small_rest_joins),
        cmocka_unit_test(inputs_of_all_kinds),
        cmocka_unit_test(one_file_of_many_spellings),
        cmocka_unit_test(output_of_an_earlier_job),
        cmocka_unit_test(too_many_tasks),
        cmocka_unit_test(what_cannot_be_read),
        cmocka_unit_test(changed_input),
        cmocka_unit_test(kept_open),
    };
    return cmocka_run_group_tests(tests, test_begin, test_end);
}
