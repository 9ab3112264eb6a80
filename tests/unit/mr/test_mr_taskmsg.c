/* What is sent between processes: every field survives, and no bytes whatever crash a decoder. */
#include "mr/task.h"
#include "tests/unit/mr/test_mr.h"

/* ---- decoders, so that the garbage test can go through all ---- */

static void try_task(struct slice in)
{
    struct task t;
    if (mr__task_decode(in, &t) == 0) mr__task_free(&t);
}

static void try_result(struct slice in)
{
    struct task_result r;
    if (mr__result_decode(in, &r) == 0) mr__result_free(&r);
}

static void try_job(struct slice in)
{
    struct job j;
    if (mr__job_decode(in, &j) == 0) mr__job_free(&j);
}

static void try_counters(struct slice in)
{
    struct counters c = {0};
    if (mr__counters_decode(in, &c)) mr__counters_free(&c);
}

/* Cut, changed, and random bytes: answered, never believed beyond their end (the sanitizers watch). */
static void torment(const struct buf *good, void (*decode)(struct slice in), uint64_t seed)
{
    struct prng r;
    prng_seed(&r, seed);
    size_t step = good->n / 300 + 1;
    for (size_t n = 0; n <= good->n; n += step) {
        uint8_t *copy = xmalloc(n + 1); /* of its exact size */
        memcpy(copy, good->p, n);
        decode(slice_of(copy, n));
        free(copy);
    }
    for (size_t i = 0; i < 20000 / step; i++) {
        uint8_t *copy = xmalloc(good->n + 1);
        memcpy(copy, good->p, good->n);
        for (uint64_t k = prng_between(&r, 1, 4); k > 0; k--)
            copy[prng_below(&r, good->n)] = prng_chance(&r, 30) ? 0xff : (uint8_t)prng_below(&r, 256);
        decode(slice_of(copy, good->n));
        free(copy);
    }
}

static void map_tasks(void **state)
{
    struct task t = {.phase = SCHED_MAP,
                     .no = 7,
                     .attempt = 3,
                     .path = (char *)(uintptr_t) "/a b/c",
                     .size = 1ull << 40,
                     .off = 1 << 20,
                     .len = 99,
                     .mtime_ns = -5},
                got;
    struct buf b = {0};
    mr__task_encode(&b, &t);
    assert_int_equal(mr__task_decode(buf_slice(&b), &got), 0);
    assert_string_equal(got.path, t.path);
    assert_true(got.phase == t.phase && got.no == 7 && got.attempt == 3 && got.size == t.size && got.off == t.off &&
                got.len == 99 && got.mtime_ns == -5);
    mr__task_free(&got);
    torment(&b, try_task, 1);
    buf_clear(&b);
    t.len = t.size; /* a split beyond the end of its file */
    mr__task_encode(&b, &t);
    assert_int_equal(mr__task_decode(buf_slice(&b), &got), -EBADMSG);
    buf_free(&b);
}

static void reduce_tasks(void **state)
{
    struct run_source v[3] = {{(char *)(uintptr_t) "/x/1", 5, 4, mr__output_tag(0, 9)},
                              {(char *)(uintptr_t) "/x/2", 5, 4, mr__output_tag(1, 0)},
                              {(char *)(uintptr_t) "/x/3", 1, 0, UINT64_MAX}};
    struct task t = {.phase = SCHED_REDUCE, .no = 4, .attempt = 1, .sources = v, .sources_n = 3}, got;
    struct buf b = {0};
    mr__task_encode(&b, &t);
    assert_int_equal(mr__task_decode(buf_slice(&b), &got), 0);
    assert_int_equal(got.sources_n, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(got.sources[i].path, v[i].path);
        assert_true(got.sources[i].parts == v[i].parts && got.sources[i].part == v[i].part &&
                    got.sources[i].tag == v[i].tag);
    }
    mr__task_free(&got);
    torment(&b, try_task, 2);
    v[1].part = 5; /* no such partition */
    buf_clear(&b);
    mr__task_encode(&b, &t);
    assert_int_equal(mr__task_decode(buf_slice(&b), &got), -EBADMSG);
    t.sources_n = 0;
    buf_clear(&b);
    mr__task_encode(&b, &t);
    assert_int_equal(mr__task_decode(buf_slice(&b), &got), 0);
    mr__task_free(&got);
    buf_free(&b);
}

static void results(void **state)
{
    struct task_result r = {.phase = SCHED_REDUCE, .no = 2, .attempt = 5, .outcome = TASK_STARVED}, got;
    struct buf b = {0};
    mr__result_lose(&r, mr__output_tag(3, 4));
    mr__result_lose(&r, mr__output_tag(9, 0));
    mr__fmt(&r.why, "because");
    mr__fmt(&r.err, "stderr\nof it");
    r.counters.built_in[MR_OUTPUT_LINES] = 77;
    assert_true(mr__counters_add(&r.counters, slice_str("b"), 2));
    assert_true(mr__counters_add(&r.counters, slice_str("a"), -1));
    mr__result_encode(&b, &r);
    assert_int_equal(mr__result_decode(buf_slice(&b), &got), 0);
    assert_true(got.phase == r.phase && got.no == 2 && got.attempt == 5 && got.outcome == TASK_STARVED &&
                got.lost_n == 2 && got.lost[0] == r.lost[0] && got.lost[1] == r.lost[1]);
    assert_true(slice_eq(buf_slice(&got.why), buf_slice(&r.why)) && slice_eq(buf_slice(&got.err), buf_slice(&r.err)));
    assert_int_equal(got.counters.built_in[MR_OUTPUT_LINES], 77);
    assert_string_equal(got.counters.user[0].name, "a");
    mr__result_free(&got);
    torment(&b, try_result, 3);
    buf_free(&b);
    mr__result_free(&r);
}

static void jobs(void **state)
{
    struct mr_options o = {.map = "cat", .reduce = "./x.so", .combine = "none", .reducers = 3};
    struct buf b = {0}, why = {0};
    struct job j, got;
    assert_true(mr__job_make(&o, &j, &why) < 0); /* no ./x.so */
    o.reduce = "sort";
    assert_int_equal(mr__job_make(&o, &j, &why), 0);
    assert_null(j.combine);
    j.attempts = mr__strf("/out.tmp/attempts");
    mr__job_encode(&b, &j);
    assert_int_equal(mr__job_decode(buf_slice(&b), &got), 0);
    assert_string_equal(got.id, j.id);
    assert_string_equal(got.map, "cat");
    assert_null(got.combine);
    assert_string_equal(got.cwd, j.cwd);
    assert_true(got.reducers == 3 && got.memory == j.memory && got.task_timeout_ns == j.task_timeout_ns &&
                got.beat_ns == j.beat_ns);
    mr__job_free(&got);
    torment(&b, try_job, 4);
    /* Times that keep a worker busy with nothing else, or whose sums overflow. */
    static const uint64_t times[] = {0, 1, NS_PER_MS - 1, UINT64_MAX / 2, UINT64_MAX};
    for (size_t i = 0; i < 2 * sizeof times / sizeof *times; i++) {
        struct job odd = j;
        *(i % 2 ? &odd.beat_ns : &odd.task_timeout_ns) = times[i / 2];
        buf_clear(&b);
        mr__job_encode(&b, &odd);
        assert_int_equal(mr__job_decode(buf_slice(&b), &got), -EBADMSG);
    }
    /* An id that does not fit into the messages that name it. */
    struct job named = j;
    struct buf id = {0};
    while (id.n < 70000) put_u8(&id, 'a');
    put_u8(&id, 0);
    named.id = (char *)id.p;
    buf_clear(&b);
    mr__job_encode(&b, &named);
    assert_int_equal(mr__job_decode(buf_slice(&b), &got), -EBADMSG);
    buf_free(&id);
    mr__job_free(&j);
    /* The combiner that an application brings, and when not. */
    o = (struct mr_options){.map = "wc", .reduce = "wc"};
    assert_int_equal(mr__job_make(&o, &j, &why), 0);
    assert_string_equal(j.combine, "wc");
    mr__job_free(&j);
    o.reduce = "cat";
    assert_int_equal(mr__job_make(&o, &j, &why), 0);
    assert_null(j.combine);
    mr__job_free(&j);
    buf_clear(&why);
    o.memory_bytes = 1000;
    assert_true(mr__job_make(&o, &j, &why) < 0);
    assert_true(has_text(&why, "--memory"));
    buf_free(&b);
    buf_free(&why);
}

static void counters_add_up(void **state)
{
    struct counters a = {0}, b = {0};
    struct buf text = {0};
    char name[80];
    assert_false(mr__counters_add(&a, slice_str(""), 1));
    assert_false(mr__counters_add(&a, slice_str("a b"), 1));
    assert_false(mr__counters_add(&a, slice_of("a\0b", 3), 1));
    memset(name, 'n', sizeof name);
    assert_false(mr__counters_add(&a, slice_of(name, 65), 1));
    assert_true(mr__counters_add(&a, slice_of(name, 64), 1));
    mr__counters_free(&a);
    for (unsigned i = 0; i < MR_COUNTERS_MAX; i++) {
        snprintf(name, sizeof name, "c%u", i * 7919 % MR_COUNTERS_MAX);
        assert_true(mr__counters_add(&a, slice_str(name), i));
    }
    assert_false(mr__counters_add(&a, slice_str("one-more"), 1));
    assert_true(mr__counters_add(&a, slice_str("c0"), 1));
    for (size_t i = 1; i < a.user_n; i++) assert_true(strcmp(a.user[i - 1].name, a.user[i].name) < 0);
    mr__counters_encode(&text, &a);
    torment(&text, try_counters, 5);
    assert_true(mr__counters_decode(buf_slice(&text), &b));
    mr__counters_merge(&b, &a);
    for (size_t i = 0; i < a.user_n; i++) assert_int_equal(b.user[i].n, 2 * a.user[i].n);
    mr__counters_free(&a);
    a.built_in[MR_INPUT_BYTES] = 5;
    assert_true(mr__counters_add(&a, slice_str("x.y"), -3));
    buf_clear(&text);
    mr__counters_json(&text, &a);
    put_u8(&text, 0);
    assert_non_null(strstr((char *)text.p, "{\n  \"input_bytes\": 5,\n"));
    assert_non_null(strstr((char *)text.p, "\"x.y\": -3\n}\n"));
    mr__counters_free(&a);
    mr__counters_free(&b);
    buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(map_tasks), cmocka_unit_test(reduce_tasks),
                                       cmocka_unit_test(results), cmocka_unit_test(jobs),
                                       cmocka_unit_test(counters_add_up)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
