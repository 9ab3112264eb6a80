/* The map of places against a plain model: for each byte of each entry, where it lies; counts of live bytes; chunks. */
#include "tests/unit/raft/log_rig.h"

#define ENTRIES 60u
#define BYTES 200u
#define SEGS 5u

struct model {
    struct {
        int64_t seg;                /* -1: nowhere */
        uint32_t pos;
    } at[ENTRIES][BYTES];
    uint64_t live[ENTRIES];
};

static struct log *bare(void)
{
    struct log *log = xcalloc(1, sizeof *log);
    log->trace = &rig_tracer;
    for (uint64_t i = 0; i < SEGS; i++) raft__seg_add(log, PAGE_PAYLOAD, i + 1, 100);
    return log;
}

static void bare_free(struct log *log)
{
    raft__place_free(log, &log->places);
    for (uint32_t i = 0; i < log->nseg; i++) {
        assert_int_equal(log->seg[i]->npieces, 0);
        assert_int_equal(log->seg[i]->live, 0);
        free(log->seg[i]);
    }
    assert_int_equal(log->live_total, 0);
    free(log->seg);
    free(log);
}

static void put_some(struct prng *p, struct log *log, struct model *m, uint64_t index, uint32_t drop)
{
    struct piece v[6];
    size_t n = 0, most = 1 + prng_below(p, 5);
    uint32_t off = (uint32_t)prng_below(p, 80);
    for (uint32_t b = 0; drop != SEG_NONE && b < BYTES; b++)
        if (m->at[index][b].seg == drop) m->at[index][b].seg = -1;
    for (; n < most && off < BYTES; n++) {
        uint32_t len = (uint32_t)prng_between(p, 1, min_u64(40, BYTES - off));
        v[n] = (struct piece){.index = index, .off = off, .len = len, .seg = (uint32_t)prng_below(p, SEGS),
                              .pos = (uint32_t)prng_between(p, PAGE_DATA, 90 * PAGE_DATA)};
        if (n && prng_chance(p, 50) && v[n - 1].off + v[n - 1].len == off) {        /* next to each other on disk, too */
            v[n].seg = v[n - 1].seg;
            v[n].pos = v[n - 1].pos + v[n - 1].len;
        }
        for (uint32_t b = 0; b < len; b++) {
            m->at[index][off + b].seg = v[n].seg;
            m->at[index][off + b].pos = v[n].pos + b;
        }
        off += len + (prng_chance(p, 50) ? 0 : (uint32_t)prng_below(p, 20));
    }
    if (drop != SEG_NONE && prng_chance(p, 30)) {       /* compaction that keeps nothing */
        for (size_t i = 0; i < n; i++)
            for (uint32_t b = 0; b < v[i].len; b++) m->at[index][v[i].off + b].seg = -1;
        for (size_t i = 0; i < n; i++) raft__place_put(log, &log->places, index, &v[i], 1, drop);
        for (uint32_t s = 0; s < SEGS; s++) raft__place_put(log, &log->places, index, NULL, 0, s);
        for (uint32_t b = 0; b < BYTES; b++) m->at[index][b].seg = -1;
        return;
    }
    raft__place_put(log, &log->places, index, v, n, drop);
}

static void compare(const struct log *log, const struct model *m)
{
    assert_null(raft__place_invariant(log));
    uint64_t total = 0;
    for (uint64_t i = 0; i < ENTRIES; i++) {
        assert_int_equal(raft__place_live_of(&log->places, i), m->live[i]);
        total += m->live[i];
        for (uint32_t b = 0; b < BYTES; b++) {
            const struct piece *p = raft__place_find(&log->places, i, b);
            assert_int_equal(p != NULL, m->at[i][b].seg >= 0);
            assert_int_equal(raft__place_covers(&log->places, i, b, 1), p != NULL);
            if (!p) continue;
            assert_int_equal(p->seg, m->at[i][b].seg);
            assert_int_equal(p->pos + (b - p->off), m->at[i][b].pos);
        }
    }
    assert_int_equal(total, log->live_total);
}

static void forget(struct model *m, uint64_t index)
{
    for (uint32_t b = 0; b < BYTES; b++) m->at[index][b].seg = -1;
    m->live[index] = 0;
}

static void test_against_model(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct prng p;
        struct log *log = bare();
        struct model *m = xmalloc(sizeof *m);
        prng_seed(&p, seed);
        for (uint64_t i = 0; i < ENTRIES; i++) forget(m, i);
        for (int step = 0; step < 3000; step++) {
            uint64_t i = prng_below(&p, ENTRIES), k = prng_below(&p, 100);
            if (k < 50) {
                put_some(&p, log, m, i, prng_chance(&p, 30) ? (uint32_t)prng_below(&p, SEGS) : SEG_NONE);
            } else if (k < 75) {
                uint64_t d = prng_below(&p, 300);
                raft__place_live(log, &log->places, i, (int64_t)d);
                m->live[i] += d;
            } else if (k < 93) {
                uint64_t d = prng_below(&p, m->live[i] + 1);
                raft__place_live(log, &log->places, i, -(int64_t)d);
                m->live[i] -= d;
            } else if (k < 99) {
                raft__place_drop(log, &log->places, i);
                forget(m, i);
            } else if (prng_chance(&p, 10)) {
                raft__place_drop_from(log, &log->places, i);
                for (uint64_t j = i; j < ENTRIES; j++) forget(m, j);
            }
            if (step % 50 == 0) compare(log, m);
        }
        compare(log, m);
        raft__place_zero_live(log, &log->places);
        for (uint64_t i = 0; i < ENTRIES; i++) m->live[i] = 0;
        compare(log, m);
        free(m);
        bare_free(log);
    }
}

/* New entries fill the chunks; the map gives its memory back; a count that was never given is refused, not wrapped. */
static void test_growth(void **state)
{
    struct log *log = bare();
    for (uint64_t i = 1; i <= 20000; i++) {
        struct piece p = {.off = 0, .len = 10, .seg = (uint32_t)(i % SEGS), .pos = (uint32_t)(PAGE_DATA + i)};
        raft__place_put(log, &log->places, i, &p, 1, SEG_NONE);
    }
    assert_int_equal(log->places.count, 20000);
    assert_true(log->places.n <= 20000 / PLACE_CHUNK + 2);
    for (uint64_t i = 1; i <= 20000; i++)
        if (i % 50) raft__place_drop(log, &log->places, i);
    assert_int_equal(log->places.count, 400);
    assert_true(log->places.n < 20);
    assert_null(raft__place_invariant(log));
    raft__place_live(log, &log->places, 50, 7);
    raft__place_live(log, &log->places, 50, -8);
    assert_int_equal(raft__place_live_of(&log->places, 50), 7);
    raft__place_live(log, &log->places, 51, -1);
    assert_int_equal(raft__place_live_of(&log->places, 51), 0);
    raft__place_live(log, &log->places, 51, 9);         /* not here: remembered until the bytes come */
    assert_null(raft__place_find(&log->places, 51, 0));
    struct piece late = {.off = 4, .len = 3, .seg = 1, .pos = 9000};
    raft__place_put(log, &log->places, 51, &late, 1, SEG_NONE);
    assert_int_equal(raft__place_live_of(&log->places, 51), 9);
    assert_non_null(raft__place_find(&log->places, 51, 6));
    assert_null(raft__place_invariant(log));
    bare_free(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_model), cmocka_unit_test(test_growth)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
