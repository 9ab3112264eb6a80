/* Sorting entries: against qsort() on keys of few letters (long common beginnings, zeros), on sorted, reversed and
 * adversarial orders; and the two functions that place a key. */
#include "mr/sort.h"
#include "mr/sorted.h"
#include "tests/unit/mr/test_mr.h"

static int by_all(const void *x, const void *y)
{
    const struct sort_entry *a = x, *b = y;
    struct slice ak, av, bk, bv;
    if (a->part != b->part) return a->part < b->part ? -1 : 1;
    sort_record(a, &ak, &av);
    sort_record(b, &bk, &bv);
    int c = slice_cmp(ak, bk);
    return c ? c : a->seq < b->seq ? -1 : a->seq > b->seq;
}

static struct sort_entry entry(const char *key, size_t n, uint32_t part, uint32_t seq)
{
    uint8_t *p = xmalloc(8 + n);
    store_u32(p, (uint32_t)n);
    store_u32(p + 4, 0);
    memcpy(p + 8, key, n);
    return (struct sort_entry){key_prefix(slice_of(key, n)), p, part, seq};
}

static void check_sorted(struct sort_entry *v, size_t n)
{
    struct sort_entry *want = xmalloc((n + 1) * sizeof *want);
    memcpy(want, v, n * sizeof *v);
    if (n) qsort(want, n, sizeof *want, by_all);
    mr__sort(v, n);
    assert_memory_equal(v, want, n * sizeof *v);
    free(want);
}

static void random_keys(void **state)
{
    struct prng r;
    prng_seed(&r, 3);
    for (int round = 0; round < 300; round++) {
        size_t n = prng_below(&r, round < 100 ? 40 : 2000);
        struct sort_entry *v = xmalloc((n + 1) * sizeof *v);
        for (size_t i = 0; i < n; i++) {
            char key[24];
            size_t len = prng_below(&r, sizeof key);
            for (size_t k = 0; k < len; k++) key[k] = "a\0b\xff"[prng_below(&r, round % 2 ? 2 : 4)];
            v[i] = entry(key, len, (uint32_t)prng_below(&r, 3), (uint32_t)i);
        }
        check_sorted(v, n);
        check_sorted(v, n); /* sorted already */
        for (size_t i = 0; i < n / 2; i++) {
            struct sort_entry t = v[i];
            v[i] = v[n - 1 - i];
            v[n - 1 - i] = t;
        }
        check_sorted(v, n);
        for (size_t i = 0; i < n; i++) free((void *)(uintptr_t)v[i].record);
        free(v);
    }
}

/* Orders that are bad for pivots: the heap takes over, it stays fast and right. */
static void organ_pipes(void **state)
{
    size_t n = 200000;
    struct sort_entry *v = xmalloc(n * sizeof *v);
    static const uint8_t record[8];
    for (size_t i = 0; i < n; i++) v[i] = (struct sort_entry){i < n / 2 ? i : n - i, record, 0, (uint32_t)i};
    mr__sort(v, n);
    for (size_t i = 1; i < n; i++)
        assert_true(v[i - 1].prefix < v[i].prefix || (v[i - 1].prefix == v[i].prefix && v[i - 1].seq < v[i].seq));
    free(v);
}

static void places(void **state)
{
    assert_int_equal(key_fnv(slice_str("")), 18652613);
    assert_int_equal(key_fnv(slice_str("a")), 1678518572);
    assert_true(key_prefix(slice_str("a")) < key_prefix(slice_str("ab")));
    assert_true(key_prefix(slice_str("abcdefgh")) == key_prefix(slice_str("abcdefghi")));
    assert_true(key_prefix(slice_str("\xff")) > key_prefix(slice_str("zzzzzzzzz")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_keys), cmocka_unit_test(organ_pipes),
                                       cmocka_unit_test(places)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
