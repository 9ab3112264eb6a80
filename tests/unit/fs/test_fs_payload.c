/* test_fs_payload.c - the interval map of live payload against a counter for every byte, and the rows it is allowed to
 * have: ascending, joined wherever counts are equal, nothing with a count of zero. */
#include <stdlib.h>

#include "fs/payload.h"
#include "world.h"

#define BYTES 300u
#define INDEXES 3u

struct counts {
    struct fs fs;
    uint64_t n[INDEXES][BYTES];
    bool live[INDEXES][BYTES];
    uint64_t at;
};

static void on_live(void *arg, struct fs_loc loc, uint32_t len, int sign)
{
    struct counts *c = arg;
    for (uint32_t i = loc.off; i < loc.off + len; i++) {
        assert_int_equal(c->live[loc.index][i], sign < 0);
        c->live[loc.index][i] = sign > 0;
    }
}

static void check_rows(struct counts *c)
{
    uint64_t rows = 0;
    for (uint64_t index = 0; index < INDEXES; index++) {
        struct omap_iter it;
        struct run last = {0}, x;
        uint64_t pos = 0;
        bool ok = fs__seek_rows(&it, c->fs.map, ROW_PAYLOAD, index);
        for (; ok; ok = fs__next_row(&it, ROW_PAYLOAD, index), rows++) {
            assert_int_equal(fs__run_decode(omap_iter_key(&it), omap_iter_value(&it), &x), 0);
            assert_true(x.lo >= last.hi && x.hi <= BYTES);
            assert_false(last.hi && last.hi == x.lo && last.refs == x.refs);
            for (; pos < x.lo; pos++) assert_int_equal(c->n[index][pos], 0);
            for (; pos < x.hi; pos++) assert_int_equal(c->n[index][pos], x.refs);
            last = x;
        }
        for (; pos < BYTES; pos++) assert_int_equal(c->n[index][pos], 0);
        for (uint64_t i = 0; i < BYTES; i++) assert_int_equal(c->live[index][i], c->n[index][i] > 0);
    }
    assert_int_equal(rows, omap_count(c->fs.map));
}

static void test_random(void **state)
{
    (void)state;
    struct prng r;
    prng_seed(&r, 11);
    for (int round = 0; round < 30; round++) {
        struct counts *c = xcalloc(1, sizeof(*c));
        c->fs = (struct fs){.map = omap_new(), .on_live = on_live, .on_live_arg = c};
        /* Many references in some rounds, few in others. */
        uint32_t up = round % 3 == 0 ? 70 : 50;
        for (int i = 0; i < 300; i++) {
            uint64_t index = prng_below(&r, INDEXES), lo = prng_below(&r, BYTES),
                     most = prng_chance(&r, 50) ? 20 : BYTES;
            uint32_t len = (uint32_t)min_u64(1 + prng_below(&r, most), BYTES - lo);
            struct fs_loc loc = {index, (uint32_t)lo};
            int sign = prng_chance(&r, up) ? 1 : -1;
            bool live = true;
            for (uint64_t b = lo; b < lo + len; b++) live = live && c->n[index][b] > 0;
            assert_int_equal(fs__payload_check(c->fs.map, loc, len, false), 0);
            assert_int_equal(fs__payload_check(c->fs.map, loc, len, true), live ? 0 : -EUCLEAN);
            if (sign < 0 && !live) continue;
            fs__payload_adjust(&c->fs, loc, len, sign);
            for (uint64_t b = lo; b < lo + len; b++) c->n[index][b] += sign > 0 ? 1 : (uint64_t)-1;
            check_rows(c);
        }
        omap_free(c->fs.map);
        free(c);
    }
}

static void test_limits(void **state)
{
    (void)state;
    struct fs fs = {.map = omap_new()};
    struct fs_loc last = {.index = UINT64_MAX, .off = UINT32_MAX - 5};
    assert_int_equal(fs__payload_check(fs.map, last, 0, false), -EINVAL);
    assert_int_equal(fs__payload_check(fs.map, last, 6, false), -EINVAL);
    assert_int_equal(fs__payload_check(fs.map, last, 5, false), 0);
    fs__payload_adjust(&fs, last, 5, 1);
    fs__payload_adjust(&fs, (struct fs_loc){UINT64_MAX, 0}, UINT32_MAX - 5, 1);
    assert_int_equal(omap_count(fs.map), 1);                 /* joined */
    assert_int_equal(fs__payload_check(fs.map, (struct fs_loc){UINT64_MAX, 0}, UINT32_MAX, true), 0);
    fs__payload_adjust(&fs, (struct fs_loc){UINT64_MAX, 0}, UINT32_MAX, -1);
    assert_int_equal(omap_count(fs.map), 0);
    omap_free(fs.map);
}

/* Entries do not touch each other, though their rows are neighbours. */
static void test_neighbours(void **state)
{
    (void)state;
    struct fs fs = {.map = omap_new()};
    fs__payload_adjust(&fs, (struct fs_loc){1, UINT32_MAX - 10}, 10, 1);
    fs__payload_adjust(&fs, (struct fs_loc){2, 0}, 10, 1);
    fs__payload_adjust(&fs, (struct fs_loc){3, 0}, 10, 1);
    fs__payload_adjust(&fs, (struct fs_loc){2, 0}, 10, -1);
    assert_int_equal(fs__payload_check(fs.map, (struct fs_loc){1, UINT32_MAX - 10}, 10, true), 0);
    assert_int_equal(fs__payload_check(fs.map, (struct fs_loc){2, 0}, 1, true), -EUCLEAN);
    assert_int_equal(fs__payload_check(fs.map, (struct fs_loc){3, 0}, 10, true), 0);
    assert_int_equal(omap_count(fs.map), 2);
    omap_free(fs.map);
}

static void test_decode(void **state)
{
    (void)state;
    static const uint8_t key[9] = {'p', 1, 1, 4, 0xff, 0xff, 0xff, 0x00};
    const struct {
        size_t key_n, n;
        uint8_t row[16];
        int err;
    } cases[] = {
        {8, 2, {5, 1}, 0},
        {8, 3, {0xff, 1, 1}, 0},                                        /* 255 bytes, to the last one */
        {8, 3, {0x80, 2, 1}, -EUCLEAN},                                 /* one too many */
        {8, 2, {0, 1}, -EUCLEAN},
        {8, 2, {5, 0}, -EUCLEAN},
        {8, 3, {5, 1, 0}, -EUCLEAN},
        {8, 1, {5}, -EUCLEAN},
        {8, 0, {0}, -EUCLEAN},
        {8, 3, {0x85, 0, 1}, -EUCLEAN},                                 /* not the shortest form */
        {8, 11, {5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, -EUCLEAN},
        {8, 11, {5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2}, -EUCLEAN},
        {8, 11, {0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1, 1}, -EUCLEAN},
        {7, 2, {5, 1}, -EUCLEAN},
        {9, 2, {5, 1}, -EUCLEAN},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct run x;
        assert_int_equal(fs__run_decode(slice_of(key, cases[i].key_n), slice_of(cases[i].row, cases[i].n), &x),
                         cases[i].err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random), cmocka_unit_test(test_limits), cmocka_unit_test(test_neighbours),
        cmocka_unit_test(test_decode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
