/* The folding table against a list that is searched: keys of all lengths, tags, growth, clearing, overflow. */
#include "mr/arena.h"
#include "mr/table.h"
#include "tests/unit/mr/test_mr.h"

#define KEYS 600

struct row {
    struct buf key;
    uint32_t tag;
    int64_t sum;
    bool there;
};

static struct row rows[KEYS];

static struct row *find(struct slice key, uint32_t tag)
{
    for (size_t i = 0; i < KEYS; i++)
        if (rows[i].tag == tag && slice_eq(buf_slice(&rows[i].key), key)) return &rows[i];
    return NULL;
}

/* Keys that share beginnings and ends, of 0 to 40 bytes. */
static void make_rows(struct prng *r)
{
    for (size_t i = 0; i < KEYS; i++) {
        do {
            buf_clear(&rows[i].key);
            size_t n = prng_chance(r, 80) ? prng_below(r, 20) : prng_below(r, 41);
            for (size_t k = 0; k < n; k++) put_u8(&rows[i].key, (uint8_t) "ab\0"[prng_below(r, 3)]);
            rows[i].tag = 0;
        } while (find(buf_slice(&rows[i].key), 1) && find(buf_slice(&rows[i].key), 2));
        rows[i].tag = find(buf_slice(&rows[i].key), 1) ? 2 : 1;
        rows[i].sum = 0;
        rows[i].there = false;
    }
}

static void compare(struct table *t)
{
    uint8_t space[16];
    size_t seen = 0, want = 0;
    mr__table_settle(t);
    for (size_t i = 0; i < t->cap; i++) {
        if (!t->v[i].tag) continue;
        struct row *row = find(mr__table_key(&t->v[i], space), t->v[i].tag);
        assert_non_null(row);
        assert_true(row->there);
        assert_true(row->sum == t->v[i].sum);
        seen++;
    }
    for (size_t i = 0; i < KEYS; i++) want += rows[i].there;
    assert_int_equal(seen, want);
    assert_int_equal(t->used, want);
}

static void against_a_list(void **state)
{
    struct arena a = {0};
    struct prng r;
    prng_seed(&r, 11);
    struct table *t = mr__table_new(&a);
    for (int round = 0; round < 20; round++) {
        make_rows(&r);
        for (int i = 0; i < 4000; i++) {
            struct row *row = &rows[prng_below(&r, KEYS)];
            int64_t n = (int64_t)prng_below(&r, 1000) - 300;
            if (prng_chance(&r, 10)) {
                mr__table_settle(t);
                assert_true(mr__table_get(t, buf_slice(&row->key), row->tag)->sum == row->sum);
            } else {
                mr__table_add(t, buf_slice(&row->key), row->tag, n);
                row->sum += n;
            }
            row->there = true;
            if (prng_chance(&r, 1)) compare(t);
        }
        compare(t);
        mr__table_clear(t);
        mr__arena_clear(&a);
    }
    mr__table_free(t);
    mr__arena_clear(&a);
    for (size_t i = 0; i < KEYS; i++) buf_free(&rows[i].key);
}

static void grows(void **state)
{
    struct arena a = {0};
    struct table *t = mr__table_new(&a);
    char key[32];
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 50000; i++) {
            int n = snprintf(key, sizeof key, i % 7 ? "%d" : "a-much-longer-key-%d", i);
            mr__table_add(t, slice_of(key, (size_t)n), 1, 1);
        }
    mr__table_settle(t);
    assert_int_equal(t->used, 50000);
    for (size_t i = 0; i < t->cap; i++) assert_true(t->v[i].tag == 0 || t->v[i].sum == 2);
    mr__table_free(t);
    mr__arena_clear(&a);
}

static void sums_that_do_not_fit(void **state)
{
    struct arena a = {0};
    struct table *t = mr__table_new(&a);
    uint8_t space[16];
    mr__table_add(t, slice_str("k"), 1, INT64_MAX);
    mr__table_settle(t);
    assert_int_equal(t->overflowed.tag, 0);
    mr__table_add(t, slice_str("k"), 1, 1);
    mr__table_settle(t);
    assert_int_equal(t->overflowed.tag, 1);
    assert_true(slice_eq(mr__table_key(&t->overflowed, space), slice_str("k")));
    mr__table_free(t);
    mr__arena_clear(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(against_a_list), cmocka_unit_test(grows),
                                       cmocka_unit_test(sums_that_do_not_fit)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
