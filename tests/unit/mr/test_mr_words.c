/* Words: maximal runs of letters, ASCII and beyond; never past the end of the text, whatever the bytes. Small helpers,
 * too. */
#include "mr/apps/words.h"
#include "tests/unit/mr/test_mr.h"

static char *words_of(const char *text, size_t n)
{
    unsigned char *copy = xmalloc(n + 1); /* of its exact size, for the sanitizers */
    memcpy(copy, text, n);
    const unsigned char *p = copy;
    struct mr_bytes w;
    struct buf b = {0};
    while (next_word(&p, copy + n, &w)) mr__fmt(&b, "%.*s|", (int)w.n, w.p);
    put_u8(&b, 0);
    free(copy);
    return (char *)b.p;
}

static void check_words(const char *text, const char *want)
{
    char *got = words_of(text, strlen(text));
    assert_string_equal(got, want);
    free(got);
}

static void texts(void **state)
{
    check_words("", "");
    check_words("one", "one|");
    check_words("  Don't panic, 42 times!", "Don|t|panic|times|");
    check_words("a1b_c-d", "a|b|c|d|");
    check_words("caf\xc3\xa9 \xc3\x9c"
                "ber",
                "caf\xc3\xa9|\xc3\x9c"
                "ber|");
    check_words("\xe2\x80\x9cquoted\xe2\x80\x9d", "quoted|"); /* typographic quotes are no letters */
    check_words("\xd0\xbc\xd0\xb8\xd1\x80,\xe4\xb8\x96\xe7\x95\x8c",
                "\xd0\xbc\xd0\xb8\xd1\x80|\xe4\xb8\x96\xe7\x95\x8c|");
    check_words("a\xf0\x9f\x98\x80"
                "b",
                "a|b|"); /* an emoji */
    check_words("x\xf0\x9d\x92\x9c"
                "y",
                "x\xf0\x9d\x92\x9c"
                "y|"); /* a letter beyond the basic plane */
    check_words("a\xff"
                "b\xc3",
                "a|b|");                                  /* no UTF-8 */
    check_words("\xc1\x81", "");                          /* overlong */
    check_words("\xc2\xaa\xc3\x97\xc3\xb7", "\xc2\xaa|"); /* ordinal indicator; times, divided by */
}

static void any_bytes(void **state)
{
    struct prng r;
    prng_seed(&r, 8);
    for (int i = 0; i < 20000; i++) {
        char text[12];
        size_t n = prng_below(&r, sizeof text + 1);
        for (size_t k = 0; k < n; k++)
            text[k] = (char)(prng_chance(&r, 70) ? 0x80 + prng_below(&r, 128) : prng_below(&r, 128));
        free(words_of(text, n));
    }
}

/* 64 bytes at once or one by one: the same words, wherever the borders fall. */
static void both_ways(void **state)
{
    static const char *const pieces[] = {"a", "bcd", "\xc3\xa9", "\xe4\xb8\x96", "\xf0\x9d\x92\x9c", "\xff", "\xc3", " ", ".",
                                         "antidisestablishmentarianism", "\xe2\x80\x9c", "@[`{", "AZaz"};
    struct prng r;
    prng_seed(&r, 9);
    for (int i = 0; i < 20000; i++) {
        struct buf b = {0};
        size_t n = prng_below(&r, 60), kinds = prng_chance(&r, 40) ? 2 : sizeof pieces / sizeof *pieces;
        bool ascii = prng_chance(&r, 30);
        for (size_t k = 0; k < n; k++) {
            const char *piece = pieces[prng_below(&r, kinds)];
            if (!ascii || (unsigned char)piece[0] < 0x80) put_bytes(&b, slice_str(piece));
        }
        unsigned char *copy = xmalloc(b.n + 1); /* of its exact size */
        if (b.n) memcpy(copy, b.p, b.n);
        const unsigned char *p = copy;
        struct words w = words_of_text((const char *)copy, b.n);
        struct mr_bytes one, other = {0};
        while (next_word(&p, copy + b.n, &one)) {
            assert_true(words_next(&w, &other));
            assert_true(one.p == other.p && one.n == other.n);
        }
        assert_false(words_next(&w, &other));
        free(copy);
        buf_free(&b);
    }
}

static void numbers(void **state)
{
    int64_t n;
    assert_true(mr__number(slice_str("9223372036854775807"), &n) && n == INT64_MAX);
    assert_true(mr__number(slice_str("-9223372036854775808"), &n) && n == INT64_MIN);
    assert_true(mr__number(slice_str("+5"), &n) && n == 5);
    static const char *const texts[] = {"0", "7", "-7", "10", "9223372036854775807", "-9223372036854775808"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char space[MR_DECIMAL_MAX];
        assert_true(mr__number(slice_str(texts[i]), &n));
        assert_true(slice_eq(mr__decimal(space, n), slice_str(texts[i])));
    }
    static const char *const bad[] = {"",   "-",   "+",  "9223372036854775808", "-9223372036854775809", "1 ",
                                      " 1", "1.0", "0x1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(mr__number(slice_str(bad[i]), &n));
}

static void texts_for_others(void **state)
{
    static const char *const words[] = {"plain/word-1.txt", "", "two words", "it's", "$HOME", "a\nb", "*"};
    struct buf b = {0};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        buf_clear(&b);
        mr__fmt(&b, "printf %%s ");
        mr__quote(&b, words[i]);
        put_u8(&b, 0);
        FILE *f = popen((char *)b.p, "r");
        char got[64] = {0};
        assert_non_null(f);
        size_t n = fread(got, 1, sizeof got - 1, f);
        pclose(f);
        assert_int_equal(n, strlen(words[i]));
        assert_string_equal(got, words[i]);
    }
    buf_clear(&b);
    mr__json_str(&b, slice_str("a\"\\\n\xc3\xa9\xff\xc0\x80\xed\xa0\x80z"));
    put_u8(&b, 0);
    assert_string_equal((char *)b.p, "\"a\\\"\\\\\\u000a\xc3\xa9??"
                                     "?"
                                     "??"
                                     "?z\"");
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(texts), cmocka_unit_test(any_bytes), cmocka_unit_test(both_ways),
                                       cmocka_unit_test(numbers), cmocka_unit_test(texts_for_others)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
