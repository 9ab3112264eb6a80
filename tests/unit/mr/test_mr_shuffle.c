/* Run files and their merge: what was written comes back; every damaged byte is noticed and never believed; merges of
 * many sources keep the order of equal keys, also in several passes. */
#include <sys/resource.h>

#include "mr/shuffle.h"
#include "tests/unit/mr/test_mr.h"

struct pair {
    struct buf key, value;
};

static struct merge_options options(uint64_t memory)
{
    return (struct merge_options){.dir = test_dir, .name = "m", .memory = memory};
}

static void write_pairs(const char *path, uint32_t parts, uint32_t part, const char *const *kv, size_t n)
{
    struct run_writer *w;
    uint64_t records;
    assert_int_equal(mr__run_create(path, parts, &w), 0);
    for (size_t i = 0; i < n; i += 2) mr__run_add(w, part, slice_str(kv[i]), slice_str(kv[i + 1]));
    assert_int_equal(mr__run_finish(w, NULL, &records), 0);
    assert_int_equal(records, n / 2);
}

static void write_and_read(void **state)
{
    static const char *const kv[] = {"a", "1", "a", "2", "b", "", "c", "3"};
    char *path = mr__strf("%s", in_dir("one"));
    write_pairs(path, 3, 1, kv, 8);
    for (uint32_t part = 0; part < 3; part++) {
        struct run_source s = {.path = path, .parts = 3, .part = part};
        struct merge_options o = options(MIB);
        struct merge *m;
        struct slice k, v;
        size_t failed, n = 0;
        assert_int_equal(mr__merge_open(&s, 1, &o, &m, &failed), 0);
        struct sorted *in = mr__merge_sorted(m);
        for (; in->next(in, &k, &v); n += 2) {
            assert_true(slice_eq(k, slice_str(kv[n])));
            assert_true(slice_eq(v, slice_str(kv[n + 1])));
        }
        assert_int_equal(in->err, 0);
        assert_int_equal(n, part == 1 ? 8 : 0);
        assert_int_equal(mr__merge_records(m), n / 2);
        assert_false(in->next(in, &k, &v));
        mr__merge_close(m);
    }
    free(path);
}

static void no_sources(void **state)
{
    struct merge_options o = options(MIB);
    struct merge *m;
    struct slice k, v;
    size_t failed;
    assert_int_equal(mr__merge_open(NULL, 0, &o, &m, &failed), 0);
    assert_false(mr__merge_sorted(m)->next(mr__merge_sorted(m), &k, &v));
    mr__merge_close(m);
}

/* ---- random merges ---- */

/* Each source i holds `(key, "i.n")`; the merge must be sorted by (key, i, n). */
static void check_merge(struct prng *r, size_t sources, uint64_t memory, size_t each)
{
    struct run_source *v = xcalloc(sources + 1, sizeof *v);
    struct merge_options o = options(memory);
    size_t total = 0, failed, got = 0;
    struct merge *m;
    struct slice k, val;

    for (size_t i = 0; i < sources; i++) {
        char name[32], key[32], text[64];
        struct run_writer *w;
        snprintf(name, sizeof name, "src%zu", i);
        v[i] = (struct run_source){.path = mr__strf("%s", in_dir(name)), .parts = 2, .part = 1, .tag = i};
        assert_int_equal(mr__run_create(v[i].path, 2, &w), 0);
        mr__run_add(w, 0, slice_str("not"), slice_str("ours"));
        size_t n = prng_below(r, each), key_no = 0;
        for (size_t j = 0; j < n; j++, total++) {
            key_no += prng_below(r, 3);
            snprintf(key, sizeof key, "key%06zu", key_no);
            int len = snprintf(text, sizeof text, "%06zu.%06zu", i, j);
            mr__run_add(w, 1, slice_str(key), slice_of(text, (size_t)len));
        }
        assert_int_equal(mr__run_finish(w, NULL, NULL), 0);
    }
    assert_int_equal(mr__merge_open(v, sources, &o, &m, &failed), 0);
    struct sorted *in = mr__merge_sorted(m);
    struct buf last = {0};
    for (; in->next(in, &k, &val); got++) {
        struct buf now = {0};
        put_bytes(&now, k);
        put_bytes(&now, val);
        assert_true(slice_cmp(buf_slice(&last), buf_slice(&now)) < 0);
        buf_free(&last);
        last = now;
    }
    assert_int_equal(in->err, 0);
    assert_int_equal(got, total);
    buf_free(&last);
    mr__merge_close(m);
    for (size_t i = 0; i < sources; i++) {
        unlink(v[i].path);
        free(v[i].path);
    }
    free(v);
}

static void random_merges(void **state)
{
    struct prng r;
    prng_seed(&r, 21);
    for (int i = 0; i < 60; i++) check_merge(&r, prng_below(&r, 30), 64 * MIB, 60);
    for (int i = 0; i < 40; i++) check_merge(&r, prng_below(&r, 40), MR_BLOCK_BYTES * 2 * prng_between(&r, 0, 6), 30);
    check_merge(&r, 600, 64 * MIB, 20); /* more than files may be open at once */
    check_merge(&r, 3, MIB, 30000);     /* many blocks */
    /* Nothing of the passes stays behind. */
    char *cmd = mr__strf("test -z \"$(ls '%s' | grep merge)\"", test_dir);
    assert_int_equal(system(cmd), 0);
    free(cmd);
}

static void few_descriptors(void **state)
{
    struct rlimit all, few;
    struct prng r;
    prng_seed(&r, 5);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &all), 0);
    few = (struct rlimit){32, all.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    check_merge(&r, 200, 256 * MIB, 20);
    /* If there are none at all, that is no source's fault. */
    struct run_source s = {.path = (char *)"/dev/null", .parts = 1};
    struct merge_options o = options(MIB);
    struct merge *m;
    size_t failed;
    few.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    assert_int_equal(mr__merge_open(&s, 1, &o, &m, &failed), -EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &all), 0);
    assert_true(failed == SIZE_MAX);
}

static void large_pairs(void **state)
{
    struct run_writer *w;
    struct merge *m;
    struct slice k, v;
    size_t failed;
    struct buf big = {0};
    struct merge_options o = options(MIB);
    char *path = mr__strf("%s", in_dir("big"));
    memset(buf_extend(&big, 3 * MIB), 'x', 3 * MIB);
    assert_int_equal(mr__run_create(path, 1, &w), 0);
    mr__run_add(w, 0, slice_str("a"), (struct slice){0});
    mr__run_add(w, 0, slice_str("b"), buf_slice(&big));
    mr__run_add(w, 0, buf_slice(&big), slice_str("z"));
    assert_int_equal(mr__run_finish(w, NULL, NULL), 0);
    struct run_source s = {.path = path, .parts = 1};
    assert_int_equal(mr__merge_open(&s, 1, &o, &m, &failed), 0);
    struct sorted *in = mr__merge_sorted(m);
    assert_true(in->next(in, &k, &v) && v.n == 0);
    assert_true(in->next(in, &k, &v) && slice_eq(v, buf_slice(&big)));
    assert_true(in->next(in, &k, &v) && slice_eq(k, buf_slice(&big)) && slice_eq(v, slice_str("z")));
    assert_false(in->next(in, &k, &v));
    assert_int_equal(in->err, 0);
    mr__merge_close(m);
    buf_free(&big);
    free(path);
}

/* ---- damage ---- */

/* Reads all of it. 0, or the error; what was handed out must be a beginning of the right pairs. */
static int read_back(char *path, size_t *failed)
{
    struct run_source v[2] = {{.path = (char *)(uintptr_t)in_dir("good"), .parts = 1},
                              {.path = path, .parts = 2, .part = 1}};
    struct merge_options o = options(MIB);
    struct merge *m;
    struct slice k, val;
    uint32_t n = 0;
    int rc = mr__merge_open(v, 2, &o, &m, failed);
    if (rc < 0) return rc;
    struct sorted *in = mr__merge_sorted(m);
    while (in->next(in, &k, &val)) {
        char want[16];
        if (k.n == 4 && memcmp(k.p, "good", 4) == 0) continue;
        snprintf(want, sizeof want, "k%05u", n++);
        assert_true(slice_eq(k, slice_str(want)));
        assert_true(slice_eq(val, slice_str("value")));
    }
    rc = in->err;
    *failed = mr__merge_failed(m);
    if (rc == 0) assert_int_equal(n, 40);
    mr__merge_close(m);
    return rc;
}

static void damaged_files(void **state)
{
    static const char *const good[] = {"good", ""};
    struct run_writer *w;
    char *path = mr__strf("%s", in_dir("damaged")), key[16];
    size_t failed;

    write_pairs(in_dir("good"), 1, 0, good, 2);
    assert_int_equal(mr__run_create(path, 2, &w), 0);
    for (uint32_t i = 0; i < 40; i++) {
        snprintf(key, sizeof key, "k%05u", i);
        mr__run_add(w, 1, slice_str(key), slice_str("value"));
    }
    assert_int_equal(mr__run_finish(w, NULL, NULL), 0);
    struct buf whole = read_file(path);
    assert_int_equal(read_back(path, &failed), 0);
    for (size_t at = 0; at < whole.n; at++) {
        whole.p[at] ^= (uint8_t)(1 << at % 8);
        write_file("damaged", buf_slice(&whole));
        assert_true(read_back(path, &failed) < 0);
        assert_int_equal(failed, 1);
        whole.p[at] ^= (uint8_t)(1 << at % 8);
    }
    for (size_t n = 0; n < whole.n; n++) {
        write_file("damaged", slice_of(whole.p, n));
        assert_true(read_back(path, &failed) < 0);
        assert_int_equal(failed, 1);
    }
    unlink(path);
    assert_int_equal(read_back(path, &failed), -ENOENT);
    assert_int_equal(failed, 1);
    buf_free(&whole);
    free(path);
}

/* In the first pass of several, too, the source at fault is named. */
static void damage_in_a_pass(void **state)
{
    static const char *const kv[] = {"a", "1"};
    struct run_source v[9];
    struct merge_options o = options(0); /* two at a time */
    struct merge *m;
    size_t failed;
    for (size_t i = 0; i < 9; i++) {
        char name[16];
        snprintf(name, sizeof name, "p%zu", i);
        v[i] = (struct run_source){.path = mr__strf("%s", in_dir(name)), .parts = 1};
        write_pairs(v[i].path, 1, 0, kv, 2);
    }
    unlink(v[5].path);
    assert_int_equal(mr__merge_open(v, 9, &o, &m, &failed), -ENOENT);
    assert_int_equal(failed, 5);
    for (size_t i = 0; i < 9; i++) free(v[i].path);
}

/* Blocks that are taken over as they are. */
static void blocks_of_another_file(void **state)
{
    static const char *const kv[] = {"a", "1", "b", "2"};
    struct run_range range;
    struct run_writer *w;
    char *from = mr__strf("%s", in_dir("from")), *to = mr__strf("%s", in_dir("to"));
    write_pairs(from, 4, 2, kv, 4);
    FILE *f = fopen(from, "r");
    assert_non_null(f);
    assert_int_equal(mr__run_find(fileno(f), 3, 2, &range), -EINVAL);
    assert_int_equal(mr__run_find(fileno(f), 4, 2, &range), 0);
    assert_int_equal(range.records, 2);
    uint8_t bytes[256];
    assert_true(range.bytes < sizeof bytes);
    assert_int_equal(mr__read_at(fileno(f), bytes, range.bytes, range.off), range.bytes);
    fclose(f);
    assert_int_equal(mr__run_create(to, 3, &w), 0);
    mr__run_add_blocks(w, 1, slice_of(bytes, 5)); /* pieces of any size */
    mr__run_add_blocks(w, 1, slice_of(bytes + 5, range.bytes - 5));
    assert_int_equal(mr__run_finish(w, NULL, NULL), 0);
    struct run_source s = {.path = to, .parts = 3, .part = 1};
    struct merge_options o = options(MIB);
    struct merge *m;
    struct slice k, v;
    size_t failed, n = 0;
    assert_int_equal(mr__merge_open(&s, 1, &o, &m, &failed), 0);
    while (mr__merge_sorted(m)->next(mr__merge_sorted(m), &k, &v)) assert_true(slice_eq(k, slice_str(kv[2 * n++])));
    assert_int_equal(n, 2);
    mr__merge_close(m);
    free(from);
    free(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write_and_read),   cmocka_unit_test(no_sources),
        cmocka_unit_test(random_merges),    cmocka_unit_test(large_pairs),
        cmocka_unit_test(few_descriptors),  cmocka_unit_test(damaged_files),
        cmocka_unit_test(damage_in_a_pass), cmocka_unit_test(blocks_of_another_file),
    };
    return cmocka_run_group_tests(tests, test_begin, test_end);
}
