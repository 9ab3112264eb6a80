/* The journal and a job's description: what is written is read, a torn or damaged end is as if it had not been written,
 * garbage is refused; paths under another mount point. */
#include "mr/chainfile.h"
#include "mr/heavy.h"
#include "mr/jobfile.h"
#include "mr/journal.h"
#include "tests/unit/mr/test_mr.h"

struct got {
    struct journal_entry v[16];
    char holders[16][32];
    size_t n;
};

static void take(void *arg, const struct journal_entry *e)
{
    struct got *g = arg;
    assert_true(g->n < 16);
    snprintf(g->holders[g->n], sizeof g->holders[0], "%.*s", (int)e->holder.n, (const char *)e->holder.p);
    g->v[g->n++] = *e;
}

static void put_journal(uint32_t epoch, struct slice s)
{
    char name[64];
    snprintf(name, sizeof name, "job/epoch-%u", epoch);
    mkdir(in_dir("job"), 0755);
    mkdir(in_dir(name), 0755);
    snprintf(name, sizeof name, "job/epoch-%u/journal", epoch);
    write_file(name, s);
}

static struct got read_all(void)
{
    struct got g = {0};
    uint32_t epochs;
    assert_int_equal(mr__journal_read(in_dir("job"), take, &g, &epochs), 0);
    return g;
}

static struct buf three_records(size_t ends[3])
{
    struct buf b = {0};
    mr__journal_put(&b, &(struct journal_entry){.kind = JOURNAL_EPOCH, .inode = 77});
    ends[0] = b.n;
    mr__journal_put(&b, &(struct journal_entry){.kind = JOURNAL_DONE,
                                                .phase = SCHED_REDUCE,
                                                .task = 5,
                                                .attempt = 65536,
                                                .holder = slice_str("host 12"),
                                                .counters = slice_str("xyz")});
    ends[1] = b.n;
    mr__journal_put(&b, &(struct journal_entry){.kind = JOURNAL_PUBLISH, .inode = UINT64_MAX});
    ends[2] = b.n;
    return b;
}

static void history(void **state)
{
    size_t ends[3];
    struct buf b = three_records(ends), late = {0};
    put_journal(10, buf_slice(&b)); /* epochs are numbers, not words: 2 comes before 10 */
    mr__journal_put(&late, &(struct journal_entry){.kind = JOURNAL_EPOCH, .inode = 1});
    put_journal(2, buf_slice(&late));
    mkdir(in_dir("job/epoch-11"), 0755); /* its coordinator died before it wrote a word */
    mkdir(in_dir("job/epoch-1x"), 0755);
    struct got g = read_all();
    assert_int_equal(g.n, 4);
    assert_int_equal(g.v[0].inode, 1);
    assert_int_equal(g.v[1].inode, 77);
    assert_int_equal(g.v[2].phase, SCHED_REDUCE);
    assert_int_equal(g.v[2].task, 5);
    assert_int_equal(g.v[2].attempt, 65536);
    assert_string_equal(g.holders[2], "host 12");
    assert_int_equal(g.v[2].counters.n, 3);
    assert_int_equal(g.v[3].kind, JOURNAL_PUBLISH);
    assert_true(g.v[3].inode == UINT64_MAX);
    uint32_t epochs;
    assert_int_equal(mr__journal_read(in_dir("nothing"), take, &g, &epochs), -ENOENT);
    mr__rmtree(in_dir("job"));
    buf_free(&b);
    buf_free(&late);
}

/* Cut at every byte, and every byte damaged: what was whole before counts, nothing else. */
static void torn_and_damaged(void **state)
{
    size_t ends[3];
    struct buf b = three_records(ends);
    for (size_t cut = 0; cut <= b.n; cut++) {
        put_journal(0, slice_of(b.p, cut));
        struct got g = read_all();
        assert_int_equal(g.n, (cut >= ends[0]) + (cut >= ends[1]) + (cut >= ends[2]));
    }
    for (size_t at = 0; at < b.n; at++) {
        b.p[at] ^= 0x10;
        put_journal(0, buf_slice(&b));
        struct got g = read_all();
        assert_int_equal(g.n, (at >= ends[0]) + (at >= ends[1]));
        b.p[at] ^= 0x10;
    }
    mr__rmtree(in_dir("job"));
    buf_free(&b);
}

/* ---- the description ---- */

static char *text(const char *s) { return mr__strf("%s", s); }

static struct jobfile some_job(void)
{
    struct jobfile f = {.rerun = text("--map 'a b'"), .attempts = 7, .replace = true};
    f.job = (struct job){.id = text("abc123"),
                         .map = text("m"),
                         .reduce = text("r"),
                         .cwd = text("/here"),
                         .attempts = text("/m1/x/.out.mr-abc123/attempts"),
                         .reducers = 3,
                         .memory = 64 * MIB,
                         .task_timeout_ns = NS_PER_S,
                         .beat_ns = 2 * NS_PER_S,
                         .format = {.partition = MR_PARTITION_HASH, .key_fields = 1, .partition_fields = 1}};
    f.plan = (struct plan){.files_n = 2, .splits_n = 2, .bytes = 30};
    f.plan.files = xcalloc(2, sizeof *f.plan.files);
    f.plan.files[0] = (struct input_file){text("/m1/in/a"), 10, 5};
    f.plan.files[1] = (struct input_file){text("/m1/in/b"), 20, 6};
    f.plan.splits = xcalloc(2, sizeof *f.plan.splits);
    f.plan.splits[0] = (struct split){0, 0, 10};
    f.plan.splits[1] = (struct split){1, 5, 15};
    return f;
}

static void description(void **state)
{
    struct jobfile f = some_job(), g;
    struct buf b = {0};
    mr__jobfile_encode(&b, &f);
    assert_int_equal(mr__jobfile_decode(buf_slice(&b), &g), 0);
    assert_string_equal(g.job.id, "abc123");
    assert_string_equal(g.rerun, "--map 'a b'");
    assert_int_equal(g.attempts, 7);
    assert_true(g.replace);
    assert_int_equal(g.plan.files_n, 2);
    assert_string_equal(g.plan.files[1].path, "/m1/in/b");
    assert_int_equal(g.plan.files[1].mtime_ns, 6);
    assert_int_equal(g.plan.splits[1].off, 5);
    assert_int_equal(g.plan.bytes, 30);
    mr__jobfile_free(&g);
    for (size_t cut = 0; cut < b.n; cut++) assert_true(mr__jobfile_decode(slice_of(b.p, cut), &g) < 0);
    for (size_t at = 0; at < b.n; at++) {
        b.p[at] ^= 1;
        assert_true(mr__jobfile_decode(buf_slice(&b), &g) < 0);
        b.p[at] ^= 1;
    }
    b.p[8] = 99;
    assert_int_equal(mr__jobfile_decode(buf_slice(&b), &g), QE_VERSION);
    buf_free(&b);
    /* Splits that are not in their file, with a right checksum. */
    f.plan.splits[1].len = 16;
    mr__jobfile_encode(&b, &f);
    assert_int_equal(mr__jobfile_decode(buf_slice(&b), &g), QE_CORRUPT);
    buf_free(&b);
    mr__jobfile_free(&f);
}

static void chain_description(void **state)
{
    struct jobfile f = some_job(), second = some_job();
    char *inputs[] = {text("/m1/in/a*"), text("/m1/b")};
    struct stage v[2] = {
        {.job = f.job, .inputs = inputs, .inputs_n = 2, .split_bytes = 99, .attempts = 3, .rerun = f.rerun},
        {.job = second.job}};
    struct chainfile c = {.v = v, .n = 2, .replace = true}, g;
    struct buf b = {0};
    mr__chainfile_encode(&b, &c);
    assert_true(mr__chainfile_is(buf_slice(&b)));
    assert_int_equal(mr__chainfile_decode(buf_slice(&b), &g), 0);
    assert_int_equal(g.n, 2);
    assert_true(g.replace);
    assert_string_equal(g.v[0].inputs[1], "/m1/b");
    assert_int_equal(g.v[0].split_bytes, 99);
    assert_int_equal(g.v[0].attempts, 3);
    assert_string_equal(g.v[0].rerun, "--map 'a b'");
    assert_int_equal(g.v[1].inputs_n, 0);
    assert_string_equal(g.v[1].job.reduce, "r");
    assert_null(g.v[1].rerun);
    mr__chainfile_free(&g);
    for (size_t cut = 0; cut < b.n; cut++) assert_true(mr__chainfile_decode(slice_of(b.p, cut), &g) < 0);
    for (size_t at = 0; at < b.n; at++) {
        b.p[at] ^= 1;
        assert_true(mr__chainfile_decode(buf_slice(&b), &g) < 0);
        b.p[at] ^= 1;
    }
    b.p[8] = 99;
    assert_int_equal(mr__chainfile_decode(buf_slice(&b), &g), QE_VERSION);
    /* Only the first job has inputs, and it has some; one job is no chain. */
    for (int i = 0; i < 3; i++) {
        v[0].inputs_n = i == 0 ? 0 : 2;
        v[1].inputs_n = i == 1;
        v[1].inputs = inputs;
        c.n = i == 2 ? 1 : 2;
        buf_clear(&b);
        mr__chainfile_encode(&b, &c);
        assert_int_equal(mr__chainfile_decode(buf_slice(&b), &g), QE_CORRUPT);
    }
    buf_free(&b);
    buf_clear(&b);
    mr__jobfile_encode(&b, &f);
    assert_false(mr__chainfile_is(buf_slice(&b)));
    buf_free(&b);
    free(inputs[0]);
    free(inputs[1]);
    mr__jobfile_free(&f);
    mr__jobfile_free(&second);
}

static void repath(const char *path, const char *from, const char *to, const char *want)
{
    char *got = mr__repath(path, from, to);
    assert_string_equal(got, want);
    free(got);
}

static void other_mount_points(void **state)
{
    repath("/m1/in/a", "/m1/x/.o.mr-1", "/m2/x/.o.mr-1", "/m2/in/a");
    repath("/m1", "/m1/x/.o.mr-1", "/m2/x/.o.mr-1", "/m2");
    repath("/m10/in/a", "/m1/x/.o.mr-1", "/m2/x/.o.mr-1", "/m10/in/a");
    repath("/home/u/in", "/m1/x/.o.mr-1", "/m2/x/.o.mr-1", "/home/u/in");
    repath("/m1/in", "/m1/.o.mr-1", "/m1/.o.mr-1", "/m1/in");
    repath("/mnt/q/a/b", "/mnt/q/a/.o.mr-1", "/srv/deep/q/a/.o.mr-1", "/srv/deep/q/a/b");
    repath("/mnt1/in", "/mnt1/.o.mr-1", "/t1/.o.mr-1", "/t1/in"); /* alike at their end, but not by whole names */
}

/* ---- heavy keys ---- */

struct list_of_pairs {
    struct sorted sorted;
    const char *const *v; /* key, value, ..., NULL */
};

static bool next_pair(struct sorted *s, struct slice *key, struct slice *value)
{
    struct list_of_pairs *l = container_of(s, struct list_of_pairs, sorted);
    if (!*l->v) return false;
    *key = slice_str(*l->v++);
    *value = slice_str(*l->v++);
    return true;
}

static void heavy_keys(void **state)
{
    static const char *const pairs[] = {"", "x", "", "yy", "a", "1", "b\n", "1", "b\n", "2", "b\n", "3", NULL};
    struct list_of_pairs l = {.sorted = {.next = next_pair}, .v = pairs};
    struct heavy h = {0}, *again;
    struct heavy_watch w;
    struct slice key, value;
    struct buf b = {0}, shown = {0};
    int n = 0;
    mr__heavy_begin(&w, &l.sorted, &h);
    while (w.sorted.next(&w.sorted, &key, &value)) n++;
    mr__heavy_end(&w);
    assert_int_equal(n, 6);
    mr__heavy_text(&shown, &h);
    assert_true(slice_eq(buf_slice(&shown), slice_str("3 values, 3 bytes: \"b\\u000a\"\n2 values, 3 bytes: \"\"\n"
                                                      "1 values, 1 bytes: \"a\"\n")));
    /* Only the heaviest stay; a long key is cut. */
    for (uint32_t i = 0; i < 30; i++) {
        struct heavy_key k = {.n = MR_HEAVY_KEY, .whole = MR_HEAVY_KEY + (i == 29), .values = 100 + i};
        memset(k.key, 'k', sizeof k.key);
        mr__heavy_offer(&h, &k);
    }
    assert_int_equal(h.n, MR_HEAVY_KEYS);
    buf_clear(&shown);
    mr__heavy_text(&shown, &h);
    assert_true(has_text(&shown, "129 values") && has_text(&shown, "120 values") && !has_text(&shown, "119 values"));
    assert_true(has_text(&shown, "\"...\n"));
    mr__heavy_encode(&b, &h);
    struct reader r = reader_of(buf_slice(&b));
    assert_true(mr__heavy_decode(&r, &again) && reader_done(&r));
    assert_memory_equal(again, &h, sizeof h);
    free(again);
    for (size_t cut = 0; cut < b.n; cut++) {
        r = reader_of(slice_of(b.p, cut));
        assert_false(mr__heavy_decode(&r, &again));
        free(again);
    }
    buf_free(&b);
    buf_free(&shown);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(history),           cmocka_unit_test(torn_and_damaged),   cmocka_unit_test(description),
        cmocka_unit_test(chain_description), cmocka_unit_test(other_mount_points), cmocka_unit_test(heavy_keys),
    };
    return cmocka_run_group_tests(tests, test_begin, test_end);
}
