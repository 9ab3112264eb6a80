/* The collector: whatever the budget, the fold and the combiner, the run file holds the right pairs in the right order.
 */
#include "mr/collect.h"
#include "mr/shuffle.h"
#include "tests/unit/mr/test_mr.h"

#define PARTS 4

/* Reads the whole run file as "part key TAB value LF". */
static struct buf read_run(const char *path, uint32_t parts)
{
    struct buf out = {0};
    for (uint32_t part = 0; part < parts; part++) {
        struct run_source s = {.path = (char *)(uintptr_t)path, .parts = parts, .part = part};
        struct merge_options o = {.dir = test_dir, .name = "r", .memory = MIB};
        struct merge *m;
        struct slice k, v;
        size_t failed;
        assert_int_equal(mr__merge_open(&s, 1, &o, &m, &failed), 0);
        while (mr__merge_sorted(m)->next(mr__merge_sorted(m), &k, &v)) {
            assert_int_equal(key_fnv(k) % parts, part);
            mr__fmt(&out, "%u %.*s\t%.*s\n", part, (int)k.n, k.p, (int)v.n, v.p);
        }
        assert_int_equal(mr__merge_sorted(m)->err, 0);
        mr__merge_close(m);
    }
    put_u8(&out, 0);
    return out;
}

struct item {
    char key[32], value[16];
    uint32_t part;
    size_t seq;
};

static int by_place(const void *x, const void *y)
{
    const struct item *a = x, *b = y;
    if (a->part != b->part) return a->part < b->part ? -1 : 1;
    int c = strcmp(a->key, b->key);
    return c ? c : a->seq < b->seq ? -1 : a->seq > b->seq;
}

static struct item *make_items(struct prng *r, size_t n, uint64_t keys)
{
    struct item *v = xcalloc(n + 1, sizeof *v);
    for (size_t i = 0; i < n; i++) {
        snprintf(v[i].key, sizeof v[i].key, prng_chance(r, 30) ? "a-rather-long-key%u" : "k%u",
                 (unsigned)prng_below(r, keys));
        snprintf(v[i].value, sizeof v[i].value, "%d", (int)prng_below(r, 20) - 5);
        v[i].part = key_fnv(slice_str(v[i].key)) % PARTS;
        v[i].seq = i;
    }
    return v;
}

static struct buf collect_all(const struct item *v, size_t n, const struct collect_options *o, uint64_t *pairs)
{
    struct collect *c = mr__collect_new(o);
    char *path = mr__strf("%s", in_dir("run"));
    uint64_t bytes;
    struct stat st;

    for (size_t i = 0; i < n; i++) mr__collect_pair(c, slice_str(v[i].key), slice_str(v[i].value));
    assert_int_equal(mr__collect_pairs(c), n);
    assert_int_equal(mr__collect_finish(c, path, &bytes, pairs), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, bytes);
    mr__collect_free(c);
    struct buf out = read_run(path, o->parts);
    unlink(path);
    free(path);
    /* Spills and passes are gone. */
    char *cmd = mr__strf("test -z \"$(ls '%s')\"", test_dir);
    assert_int_equal(system(cmd), 0);
    free(cmd);
    return out;
}

static struct buf expected(struct item *v, size_t n, enum mr_fold fold)
{
    struct buf out = {0};
    qsort(v, n, sizeof *v, by_place);
    for (size_t i = 0; i < n;) {
        size_t end = i;
        int64_t sum = 0;
        while (end < n && strcmp(v[end].key, v[i].key) == 0) sum += atoi(v[end++].value);
        for (size_t k = i; k < end; k++) {
            bool again = false;
            for (size_t e = i; e < k; e++) again |= strcmp(v[e].value, v[k].value) == 0;
            if (fold == MR_FOLD_SUM && k == i)
                mr__fmt(&out, "%u %s\t%lld\n", v[i].part, v[i].key, (long long)sum);
            else if (fold == MR_FOLD_NONE || (fold == MR_FOLD_DISTINCT && !again))
                mr__fmt(&out, "%u %s\t%s\n", v[k].part, v[k].key, v[k].value);
        }
        i = end;
    }
    put_u8(&out, 0);
    return out;
}

static void same(struct buf *got, struct buf *want)
{
    assert_string_equal((char *)got->p, (char *)want->p);
    buf_free(got);
    buf_free(want);
}

static void unfolded(void **state)
{
    struct prng r;
    prng_seed(&r, 1);
    for (int i = 0; i < 20; i++) {
        size_t n = prng_below(&r, 3000);
        struct item *v = make_items(&r, n, prng_between(&r, 1, 1000));
        struct collect_options o = {.parts = PARTS, .format = &mr__format_default, .memory = 64 * MIB, .dir = test_dir, .name = "c"};
        uint64_t pairs;
        struct buf got = collect_all(v, n, &o, &pairs), want;
        assert_int_equal(pairs, n);
        want = expected(v, n, MR_FOLD_NONE);
        same(&got, &want);
        free(v);
    }
}

/* An order of values that survives spilling: a value is "source order" here. */
static void spilled_in_order(void **state)
{
    struct collect_options o = {.parts = PARTS, .format = &mr__format_default, .memory = 3 * MIB, .dir = test_dir, .name = "c"};
    struct prng r;
    prng_seed(&r, 2);
    size_t n = 300000;
    struct item *v = make_items(&r, n, 5000);
    uint64_t pairs;
    struct buf got = collect_all(v, n, &o, &pairs), want = expected(v, n, MR_FOLD_NONE);
    same(&got, &want);
    free(v);
}

/* After a spill a fold is only per run; folding what comes out gives the same as folding at once. */
static void check_fold(enum mr_fold fold, uint64_t memory, uint64_t keys)
{
    struct collect_options o = {
        .parts = PARTS, .format = &mr__format_default, .memory = memory, .fold = fold, .dir = test_dir, .name = "c"};
    struct prng r;
    prng_seed(&r, memory + keys);
    size_t n = 60000, lines = 0, kept = 0;
    struct item *v = make_items(&r, n, keys);
    uint64_t pairs;
    struct buf got = collect_all(v, n, &o, &pairs), want;
    struct item *again = xcalloc(n + 1, sizeof *again);

    assert_true(pairs <= n);
    for (char *line = (char *)got.p; *line; line += strcspn(line, "\n") + 1, lines++) {
        struct item *t = &again[kept++];
        assert_int_equal(sscanf(line, "%u %31[^\t]\t%15[^\n]", &t->part, t->key, t->value), 3);
        t->seq = kept;
    }
    assert_int_equal(lines, pairs);
    buf_free(&got);
    /* Which of two equal pairs comes first is the same in both. */
    got = expected(again, kept, fold);
    want = expected(v, n, fold);
    if (fold == MR_FOLD_DISTINCT) assert_int_equal(got.n, want.n); /* runs may order values otherwise */
    if (fold == MR_FOLD_SUM) assert_string_equal((char *)got.p, (char *)want.p);
    buf_free(&got);
    buf_free(&want);
    free(again);
    free(v);
}

static void folds(void **state)
{
    check_fold(MR_FOLD_SUM, 64 * MIB, 100);
    check_fold(MR_FOLD_SUM, 64 * MIB, 30000);
    check_fold(MR_FOLD_SUM, 2 * MIB, 30000);
    check_fold(MR_FOLD_DISTINCT, 64 * MIB, 100);
    check_fold(MR_FOLD_DISTINCT, 2 * MIB, 30000);
}

/* Joins the values of a key with "+", under the key in upper case: the keys a combiner emits are its own affair. */
static int join(void *arg, struct sorted *in, struct sink *out)
{
    struct buf key = {0}, all = {0};
    struct slice k, v;
    bool more = in->next(in, &k, &v);
    (*(int *)arg)++;
    while (more) {
        buf_clear(&key);
        buf_clear(&all);
        put_bytes(&key, k);
        for (; more && slice_eq(k, buf_slice(&key)); more = in->next(in, &k, &v)) {
            if (all.n) put_u8(&all, '+');
            put_bytes(&all, v);
        }
        key.p[0] = (uint8_t)(key.p[0] - 'a' + 'A');
        out->pair(out, buf_slice(&key), buf_slice(&all));
    }
    buf_free(&key);
    buf_free(&all);
    return in->err ? in->err : out->err;
}

static void combined(void **state)
{
    static const struct item items[] = {{"b", "1", 0, 0}, {"a", "2", 0, 0}, {"b", "3", 0, 0}};
    int calls = 0;
    struct collect_options o = {
        .parts = PARTS, .format = &mr__format_default, .memory = 8 * MIB, .dir = test_dir, .name = "c", .combine = join, .arg = &calls};
    uint64_t pairs;
    struct buf got = collect_all(items, 3, &o, &pairs);
    assert_int_equal(calls, 1);
    assert_int_equal(pairs, 2);
    assert_non_null(strstr((char *)got.p, " B\t1+3\n"));
    assert_non_null(strstr((char *)got.p, " A\t2\n"));
    buf_free(&got);
    got = collect_all(items, 0, &o, &pairs);
    assert_int_equal(pairs, 0);
    buf_free(&got);
}

static int refuse(void *arg, struct sorted *in, struct sink *out) { return -EDOM; }

static void errors(void **state)
{
    struct collect_options o = {
        .parts = 1, .format = &mr__format_default, .memory = 8 * MIB, .fold = MR_FOLD_SUM, .dir = test_dir, .name = "c"};
    struct slice what;
    struct collect *c = mr__collect_new(&o);
    mr__collect_pair(c, slice_str("word"), slice_str("12a"));
    assert_int_equal(mr__collect_error(c, &what), -EINVAL);
    assert_non_null(memmem(what.p, what.n, "12a", 3));
    assert_int_equal(mr__collect_finish(c, in_dir("run"), NULL, NULL), -EINVAL);
    mr__collect_free(c);

    c = mr__collect_new(&o);
    for (int i = 0; i < 3; i++) mr__collect_number(c, slice_str("word"), INT64_MAX);
    assert_int_equal(mr__collect_finish(c, in_dir("run"), NULL, NULL), -EOVERFLOW);
    assert_int_equal(mr__collect_error(c, &what), -EOVERFLOW);
    mr__collect_free(c);

    o.fold = MR_FOLD_NONE;
    o.combine = refuse;
    c = mr__collect_new(&o);
    mr__collect_number(c, slice_str("n"), -5);
    assert_int_equal(mr__collect_finish(c, in_dir("run"), NULL, NULL), -EDOM);
    mr__collect_free(c);

    o.combine = NULL;
    o.dir = "/nonexistent";
    o.memory = 2 * MIB;
    c = mr__collect_new(&o);
    struct buf big = {0};
    memset(buf_extend(&big, MIB), 'x', MIB);
    for (int i = 0; i < 4; i++) mr__collect_pair(c, slice_str("k"), buf_slice(&big));
    assert_int_equal(mr__collect_error(c, &what), -ENOENT);
    mr__collect_free(c);
    buf_free(&big);
    assert_true(access(in_dir("run"), F_OK) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unfolded), cmocka_unit_test(spilled_in_order), cmocka_unit_test(folds),
        cmocka_unit_test(combined), cmocka_unit_test(errors),
    };
    return cmocka_run_group_tests(tests, test_begin, test_end);
}
