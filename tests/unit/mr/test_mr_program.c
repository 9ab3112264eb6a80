/* Programs: found or refused with a reason; applications are called as mr.h says; what they and commands emit arrives.
 */
#include <signal.h>

#include "mr/collect.h"
#include "mr/program.h"
#include "mr/shuffle.h"
#include "mr/split.h"
#include "tests/unit/mr/test_mr.h"

static struct counters counters;
static void touch(void *arg, uint64_t bytes) {}

static void refused(void **state)
{
    static const struct {
        const char *text;
        enum program_role role;
        const char *says;
    } cases[] = {
        {"", PROGRAM_MAP, "empty"},
        {"/no/such/mapper --flag", PROGRAM_MAP, "/no/such/mapper"},
        {"no-such-program-at-all", PROGRAM_REDUCE, "no-such-program-at-all"},
        {"/etc/passwd", PROGRAM_MAP, "chmod +x"},
        {"/etc", PROGRAM_MAP, "/etc"},
        {"/no/such/app.so", PROGRAM_MAP, "/no/such/app.so"},
        {"sum", PROGRAM_MAP, "no map function"},
        {"identity", PROGRAM_COMBINE, "no combine function"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct program p;
        struct buf why = {0};
        assert_true(mr__program_open(cases[i].text, cases[i].role, &p, &why) < 0);
        assert_true(has_text(&why, cases[i].says));
        buf_free(&why);
    }
    struct program p;
    struct buf why = {0};
    char *so = mr__strf("%s", write_file("bad.so", slice_str("this is no library")));
    assert_true(mr__program_open(so, PROGRAM_MAP, &p, &why) < 0);
    assert_true(has_text(&why, "cannot load"));
    buf_free(&why);
    free(so);
}

static void accepted(void **state)
{
    static const char *const maps[] = {"wc",         "ii",           "cat",     "/bin/cat -n",
                                       "cat | sort", "A=1 anything", "$HOME/x", "while read x; do echo $x; done",
                                       "exec cat"};
    for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
        struct program p;
        struct buf why = {0};
        assert_int_equal(mr__program_open(maps[i], PROGRAM_MAP, &p, &why), 0);
        assert_true((p.app != NULL) == (i < 2) && (p.command != NULL) == (i >= 2));
        mr__program_close(&p);
    }
    struct program p;
    struct buf why = {0};
    assert_int_equal(mr__program_open("wc", PROGRAM_COMBINE, &p, &why), 0);
    assert_int_equal(p.fold, MR_FOLD_SUM);
    assert_int_equal(mr__program_open("distinct", PROGRAM_COMBINE, &p, &why), 0);
    assert_int_equal(p.fold, MR_FOLD_DISTINCT);
}

/* ---- map ---- */

/* Runs a map program over a text and returns its pairs as lines, sorted by key. */
static int map_text(const struct program *p, const char *text, struct buf *out, struct buf *why)
{
    struct collect_options o = {.parts = 1, .format = &mr__format_default, .memory = 8 * MIB, .dir = test_dir, .name = "m"};
    struct collect *c = mr__collect_new(&o);
    char *path = mr__strf("%s", write_file("doc.txt", slice_str(text))), *run = mr__strf("%s", in_dir("run"));
    struct stat st;
    struct split_reader *in;
    struct format format = mr__format_default;
    if (p->app && p->app->unit == MR_FILE) format.input = MR_IN_FILES;
    assert_int_equal(stat(path, &st), 0);
    struct program_context x = {.job = "job",
                                .format = &format,
                                .task = 3,
                                .attempt = 1,
                                .path = path,
                                .len = strlen(text),
                                .counters = &counters,
                                .touch = touch};
    assert_int_equal(mr__split_open(path, strlen(text), st.st_mtim.tv_sec * (int64_t)NS_PER_S + st.st_mtim.tv_nsec, 0,
                                    strlen(text), &format, &in, why),
                     0);
    int rc = mr__program_map(p, &x, in, c, why);
    if (rc == 0) {
        struct run_source s = {.path = run, .parts = 1};
        struct merge_options mo = {.dir = test_dir, .name = "r", .memory = MIB};
        struct merge *m;
        struct slice k, v;
        size_t failed;
        assert_int_equal(mr__collect_finish(c, run, NULL, NULL), 0);
        assert_int_equal(mr__merge_open(&s, 1, &mo, &m, &failed), 0);
        while (mr__merge_sorted(m)->next(mr__merge_sorted(m), &k, &v))
            mr__fmt(out, "%.*s=%.*s;", (int)k.n, k.p, (int)v.n, v.p);
        mr__merge_close(m);
    }
    put_u8(out, 0);
    mr__split_close(in);
    mr__collect_free(c);
    free(path);
    free(run);
    return rc;
}

static int line_map(struct mr_ctx *c, const struct mr_record *r)
{
    char where[32];
    int n = snprintf(where, sizeof where, "%llu", (unsigned long long)r->offset);
    assert_string_equal(r->document, "doc.txt");
    (*(int *)c->user)++;
    c->emit(c, r->text, (struct mr_bytes){where, (size_t)n});
    return 0;
}

static int begin(struct mr_ctx *c)
{
    assert_null(c->user);
    assert_string_equal(c->job, "job");
    assert_int_equal(c->task, 3);
    assert_int_equal(c->attempt, 1);
    c->user = calloc(1, sizeof(int));
    return 0;
}

static int end(struct mr_ctx *c)
{
    c->emit_number(c, (struct mr_bytes){"~lines", 6}, *(int *)c->user);
    c->count(c, "my.lines", *(int *)c->user);
    free(c->user);
    return 0;
}

static int block_map(struct mr_ctx *c, const struct mr_record *r)
{
    c->emit_number(c, (struct mr_bytes){"bytes", 5}, (int64_t)r->text.n);
    return 0;
}

static int failing_map(struct mr_ctx *c, const struct mr_record *r)
{
    (c->fail)(c, "line '%.*s' is bad", (int)r->text.n, r->text.p);
    return 0;
}

static int returning_map(struct mr_ctx *c, const struct mr_record *r) { return 17; }

static int counting_map(struct mr_ctx *c, const struct mr_record *r)
{
    c->count(c, "not a name", 1);
    return 0;
}

static void map_functions(void **state)
{
    struct buf out = {0}, why = {0};
    struct mr_app app = {.abi = MR_ABI, .unit = MR_LINE, .map = line_map, .begin = begin, .end = end};
    struct program p = {.app = &app};
    assert_int_equal(map_text(&p, "b\r\na\n\nc", &out, &why), 0);
    assert_string_equal((char *)out.p, "=5;a=3;b=0;c=6;~lines=4;");
    assert_int_equal(counters.user_n, 1);
    assert_int_equal(counters.user[0].n, 4);

    app = (struct mr_app){.abi = MR_ABI, .unit = MR_FILE, .map = block_map};
    buf_clear(&out);
    assert_int_equal(map_text(&p, "", &out, &why), 0);
    assert_string_equal((char *)out.p, "bytes=0;");

    app = (struct mr_app){.abi = MR_ABI, .unit = MR_LINE, .map = failing_map};
    assert_true(map_text(&p, "one\ntwo\n", &out, &why) < 0);
    put_u8(&why, 0);
    assert_string_equal((char *)why.p, "line 'one' is bad");

    app.map = returning_map;
    buf_clear(&why);
    assert_true(map_text(&p, "one\n", &out, &why) < 0);
    assert_true(has_text(&why, "map() returned 17"));

    app.map = counting_map;
    buf_clear(&why);
    assert_true(map_text(&p, "one\n", &out, &why) < 0);
    assert_true(has_text(&why, "not a name"));
    buf_free(&out);
    buf_free(&why);
}

static void map_commands(void **state)
{
    struct buf out = {0}, why = {0};
    struct program p = {.command = "sed 's/ /\\t/'"};
    assert_int_equal(map_text(&p, "b 2\na 1 x\nkey\n x\n", &out, &why), 0);
    assert_string_equal((char *)out.p, "=x;a=1 x;b=2;key=;");
    buf_clear(&out);
    p.command =
        "cat > /dev/null; echo ${MR_INPUT_FILE##*/} $MR_TASK $MR_ATTEMPT $MR_INPUT_OFFSET $MR_INPUT_BYTES $MR_JOB";
    assert_int_equal(map_text(&p, "b 2\n", &out, &why), 0);
    assert_string_equal((char *)out.p, "doc.txt 3 1 0 4 job=;");
    p.command = "cat; exit 9";
    assert_int_equal(map_text(&p, "b 2\n", &out, &why), -ECHILD);
    assert_true(has_text(&why, "exited with status 9"));
    buf_free(&out);
    buf_free(&why);
}

/* ---- reduce ---- */

struct list_in {
    struct sorted sorted;
    const char *const *kv;
    size_t at, n;
    int err;
};

static bool list_next(struct sorted *s, struct slice *key, struct slice *value)
{
    struct list_in *l = container_of(s, struct list_in, sorted);
    if (l->at == l->n) {
        s->err = l->err;
        return false;
    }
    *key = slice_str(l->kv[l->at]);
    *value = slice_str(l->kv[l->at + 1]);
    l->at += 2;
    return true;
}

struct list_out {
    struct sink sink;
    struct buf text;
};

static void list_pair(struct sink *s, struct slice key, struct slice value)
{
    mr__fmt(&container_of(s, struct list_out, sink)->text, "%.*s=%.*s;", (int)key.n, key.p, (int)value.n, value.p);
}

static void list_line(struct sink *s, struct slice line)
{
    mr__fmt(&container_of(s, struct list_out, sink)->text, "%.*s|", (int)line.n, line.p);
}

static int reduce_list(const struct program *p, enum program_role role, const char *const *kv, size_t n, int in_err,
                       struct list_out *out, struct buf *why)
{
    struct list_in in = {.sorted.next = list_next, .kv = kv, .n = n, .err = in_err};
    struct program_context x = {.job = "job", .format = &mr__format_default, .counters = &counters, .touch = touch};
    int rc = mr__program_reduce(p, role, &x, &in.sorted, &out->sink, why);
    put_u8(&out->text, 0);
    return rc;
}

/* Looks at the first value only: the rest must not leak into the next key. */
static int first_reduce(struct mr_ctx *c, struct mr_bytes key, struct mr_values *values)
{
    struct mr_bytes v;
    assert_true(values->next(values, &v));
    c->emit(c, key, v);
    return 0;
}

static int none_reduce(struct mr_ctx *c, struct mr_bytes key, struct mr_values *values)
{
    c->emit_number(c, key, (int64_t)key.n);
    return 0;
}

static int all_reduce(struct mr_ctx *c, struct mr_bytes key, struct mr_values *values)
{
    struct mr_bytes v;
    int64_t n = 0;
    while (values->next(values, &v)) n++;
    assert_false(values->next(values, &v));
    c->emit_number(c, key, n);
    return 0;
}

static const char *const kv[] = {"", "0", "a", "1", "a", "2", "a", "3", "b", "4", "ba", "5"};

static void reduce_functions(void **state)
{
    struct buf why = {0};
    struct mr_app app = {.abi = MR_ABI, .reduce = first_reduce};
    struct program p = {.app = &app};
    struct list_out out = {.sink = {.pair = list_pair, .line = list_line, .command_line = list_line}};
    static const struct {
        int (*f)(struct mr_ctx *, struct mr_bytes, struct mr_values *);
        const char *want;
    } cases[] = {
        {first_reduce, "=0;a=1;b=4;ba=5;"}, {none_reduce, "=0;a=1;b=1;ba=2;"}, {all_reduce, "=1;a=3;b=1;ba=1;"}};
    for (size_t i = 0; i < 3; i++) {
        app.reduce = cases[i].f;
        buf_clear(&out.text);
        assert_int_equal(reduce_list(&p, PROGRAM_REDUCE, kv, 12, 0, &out, &why), 0);
        assert_string_equal((char *)out.text.p, cases[i].want);
    }
    app.combine = all_reduce;
    app.begin = begin; /* not called for a combiner */
    buf_clear(&out.text);
    assert_int_equal(reduce_list(&p, PROGRAM_COMBINE, kv, 12, 0, &out, &why), 0);
    assert_string_equal((char *)out.text.p, "=1;a=3;b=1;ba=1;");
    assert_int_equal(reduce_list(&p, PROGRAM_COMBINE, kv, 12, QE_CORRUPT, &out, &why), QE_CORRUPT);
    buf_free(&out.text);
    buf_free(&why);
}

static void shipped_reducers(void **state)
{
    static const char *const bad[] = {"k", "1", "k", "x"}, *const big[] = {"k", "9223372036854775807", "k", "1"};
    struct list_out out = {.sink = {.pair = list_pair, .line = list_line, .command_line = list_line}};
    struct buf why = {0};
    struct program p;
    static const struct {
        const char *name, *want;
    } cases[] = {{"sum", "=0;a=6;b=4;ba=5;"},
                 {"wc", "=0;a=6;b=4;ba=5;"},
                 {"identity", "=0;a=1;a=2;a=3;b=4;ba=5;"},
                 {"ii", "=1 0;a=3 1,2,3;b=1 4;ba=1 5;"}};
    for (size_t i = 0; i < 4; i++) {
        buf_clear(&out.text);
        assert_int_equal(mr__program_open(cases[i].name, PROGRAM_REDUCE, &p, &why), 0);
        assert_int_equal(reduce_list(&p, PROGRAM_REDUCE, kv, 12, 0, &out, &why), 0);
        assert_string_equal((char *)out.text.p, cases[i].want);
        if (i > 1) continue;
        assert_true(reduce_list(&p, PROGRAM_REDUCE, bad, 4, 0, &out, &why) < 0);
        assert_true(has_text(&why, "'x'"));
        assert_true(reduce_list(&p, PROGRAM_REDUCE, big, 4, 0, &out, &why) < 0);
    }
    buf_free(&out.text);
    buf_free(&why);
}

static void reduce_commands(void **state)
{
    static const char *const tab[] = {"k\tk", "1"}, *const lf[] = {"k", "1\n2"};
    struct list_out out = {.sink = {.pair = list_pair, .line = list_line, .command_line = list_line}};
    struct buf why = {0};
    struct program p = {.command = "cut -f1 | uniq -c | awk '{print $2 \"\\t\" $1}'"};
    assert_int_equal(reduce_list(&p, PROGRAM_REDUCE, kv + 2, 10, 0, &out, &why), 0);
    assert_string_equal((char *)out.text.p, "a\t3|b\t1|ba\t1|");
    out.sink.command_line = NULL; /* a combiner's: split at the TAB */
    buf_clear(&out.text);
    assert_int_equal(reduce_list(&p, PROGRAM_COMBINE, kv + 2, 10, 0, &out, &why), 0);
    assert_string_equal((char *)out.text.p, "a=3;b=1;ba=1;");
    assert_int_equal(reduce_list(&p, PROGRAM_REDUCE, tab, 2, 0, &out, &why), -EBADMSG);
    assert_int_equal(reduce_list(&p, PROGRAM_REDUCE, lf, 2, 0, &out, &why), -EBADMSG);
    assert_int_equal(reduce_list(&p, PROGRAM_REDUCE, kv, 12, QE_CORRUPT, &out, &why), QE_CORRUPT);
    buf_free(&out.text);
    buf_free(&why);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused),         cmocka_unit_test(accepted),         cmocka_unit_test(map_functions),
        cmocka_unit_test(map_commands),    cmocka_unit_test(reduce_functions), cmocka_unit_test(shipped_reducers),
        cmocka_unit_test(reduce_commands),
    };
    int rc = cmocka_run_group_tests(tests, test_begin, test_end);
    mr__counters_free(&counters);
    return rc;
}
