/* The lab's JSON: what is written is read back, what Go writes is read, everything else is refused. */
#include "mr/lab.h"
#include "tests/unit/mr/test_mr.h"

static struct buf key, value;

static int get(struct slice *in) { return mr__lab_get(in, &key, &value); }

static bool is(const char *k, const char *v)
{
    return slice_eq(buf_slice(&key), slice_str(k)) && slice_eq(buf_slice(&value), slice_str(v));
}

static void round_trips(void **state)
{
    static const char *const texts[] = {
        "", "a", " b ", "\"quoted\" \\ / \b\f\n\r\t\x01\x1f", "\xc3\xa4\xe4\xb8\x96\xf0\x9f\x98\x80", "<&>"};
    struct buf b = {0};
    size_t n = sizeof texts / sizeof *texts;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++) assert_true(mr__lab_put(&b, slice_str(texts[i]), slice_str(texts[k])));
    struct slice in = buf_slice(&b);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < n; k++) {
            assert_int_equal(get(&in), 1);
            assert_true(is(texts[i], texts[k]));
        }
    }
    assert_int_equal(get(&in), 0);
    assert_true(mr__lab_put(&b, slice_of("a\0b", 3), slice_of("", 0)));
    in = slice_sub(buf_slice(&b), b.n - strlen("{\"Key\":\"a\\u0000b\",\"Value\":\"\"}\n"), 31);
    assert_int_equal(get(&in), 1);
    assert_true(slice_eq(buf_slice(&key), slice_of("a\0b", 3)));
    static const char *const bad[] = {"\xff", "a\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(mr__lab_put(&b, slice_str(bad[i]), slice_str("")));
        assert_false(mr__lab_put(&b, slice_str(""), slice_str(bad[i])));
    }
    buf_free(&b);
}

static void what_go_writes(void **state)
{
    struct slice in = slice_str("{\"Key\":\"\\u003ca\\u003e\",\"Value\":\"\\ud83d\\ude00\"}\n"
                                " { \"Value\" : \"v\" , \"Other\":\"x\", \"Key\" : \"k\\/\" }\r\n{}\n{\"Key\":\"\\ud83d\"}");
    assert_int_equal(get(&in), 1);
    assert_true(is("<a>", "\xf0\x9f\x98\x80"));
    assert_int_equal(get(&in), 1);
    assert_true(is("k/", "v"));
    assert_int_equal(get(&in), 1);
    assert_true(is("", ""));
    assert_int_equal(get(&in), 1);
    assert_true(is("\xef\xbf\xbd", ""));
    assert_int_equal(get(&in), 0);
}

static void refused(void **state)
{
    static const char *const bad[] = {"x", "{", "{\"Key\"}", "{\"Key\":1}", "{\"Key\":\"a\"", "{\"Key\":\"a\",}", "{\"Key\":\"\\x\"}",
                                      "{\"Key\":\"\\u12\"}", "{\"Key\":\"a\nb\"}", "{\"Key\":\"a\" \"Value\":\"b\"}", "[]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint8_t *copy = xmalloc(strlen(bad[i])); /* of its exact size, for the sanitizers */
        memcpy(copy, bad[i], strlen(bad[i]));
        struct slice in = slice_of(copy, strlen(bad[i]));
        assert_int_equal(get(&in), -EBADMSG);
        free(copy);
    }
    struct prng r;
    prng_seed(&r, 3);
    for (int i = 0; i < 20000; i++) {
        static const char *const bits[] = {"{", "}", "\"Key\"", "\"Value\"", ":", ",", "\"", "\\u", "00e4", "\\", " ", "a", "\xff"};
        struct buf b = {0};
        for (uint64_t n = prng_below(&r, 12); n > 0; n--) put_bytes(&b, slice_str(bits[prng_below(&r, 13)]));
        uint8_t *copy = xmalloc(b.n + 1);
        if (b.n) memcpy(copy, b.p, b.n);
        struct slice in = slice_of(copy, b.n);
        while (get(&in) > 0) continue;
        free(copy);
        buf_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trips), cmocka_unit_test(what_go_writes), cmocka_unit_test(refused)};
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    buf_free(&key);
    buf_free(&value);
    return rc;
}
