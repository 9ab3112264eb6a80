/* The term runs against a plain array, with random appends, truncations, trims, resets and recoveries. */
#include "core_rig.h"

#include "raft/core_priv.h"

#define MAX 2000

struct model {
    uint64_t base, last, term[MAX]; /* term[i] of entry i; term[base] is known */
};

static uint64_t model_find(const struct model *m, uint64_t index, uint64_t term)
{
    if (index > m->last) index = m->last;
    if (index < m->base) return index;
    for (uint64_t i = index;; i--) {
        if (m->term[i] <= term) return i;
        if (i == m->base) return m->base ? m->base - 1 : 0;
    }
}

static void compare(const struct model *m, const struct raft_terms *t, struct prng *p)
{
    assert_int_equal(t->base, m->base);
    assert_int_equal(t->last, m->last);
    assert_int_equal(raft__last_term(t), m->term[m->last]);
    for (int i = 0; i < 20; i++) {
        uint64_t index = prng_below(p, m->last + 5), term = prng_below(p, m->term[m->last] + 3);
        bool known = index >= m->base && index <= m->last;
        assert_int_equal(raft__term_at(t, index), known ? m->term[index] : 0);
        assert_int_equal(raft__terms_find(t, index, term), model_find(m, index, term));
    }
    for (uint32_t i = 1; i < t->n; i++) assert_true(t->runs[i].term > t->runs[i - 1].term);
}

/* As a log would report it after a restart; the snapshot lies anywhere in what is kept. */
static void recover(struct model *m, struct raft_terms *t, struct prng *p)
{
    struct raft_run runs[MAX];
    uint32_t n = 0;
    uint64_t first = m->base + 1, snapshot = prng_between(p, m->base, m->last);
    for (uint64_t i = first; i <= m->last; i++)
        if (n == 0 || runs[n - 1].term != m->term[i]) runs[n++] = (struct raft_run){i, m->term[i]};
    bool early = n && m->base > 0 && m->term[m->base] == runs[0].term && prng_chance(p, 50);
    if (early) runs[0].first = m->base;
    struct raft_recovered from = {.snapshot_index = snapshot,
                                  .snapshot_term = snapshot ? m->term[snapshot] : 0,
                                  .first = first,
                                  .last = m->last,
                                  .runs = runs,
                                  .nruns = n};
    raft__terms_free(t);
    raft__terms_init(t, &from);
    /* Where the predecessor's term is not known, sending begins one entry later. */
    if (first != snapshot + 1 && first > 1 && !early) m->base = first;
}

static void test_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct prng p;
        struct model *m = calloc(1, sizeof *m);
        struct raft_terms t;
        prng_seed(&p, seed);
        raft__terms_init(&t, &(struct raft_recovered){.first = 1});
        for (int op = 0; op < 1500; op++) {
            uint64_t what = prng_below(&p, 100), term = m->term[m->last];
            if (what < 70 && m->last + 1 < MAX) {
                term += term == 0 || prng_chance(&p, 10) ? prng_between(&p, 1, 3) : 0;
                raft__terms_append(&t, term);
                m->term[++m->last] = term;
            } else if (what < 85 && m->last > m->base) {
                m->last = prng_between(&p, max_u64(m->base, m->last > 20 ? m->last - 20 : 0), m->last - 1);
                raft__terms_truncate(&t, m->last + 1);
            } else if (what < 95) {
                uint64_t base = prng_between(&p, m->base > 3 ? m->base - 3 : 0, min_u64(m->last, m->base + 30));
                raft__terms_trim(&t, base);
                m->base = max_u64(m->base, base);
            } else if (what < 98) {
                recover(m, &t, &p);
            } else if (m->last + 10 < MAX) {
                m->base = m->last = m->last + prng_below(&p, 10) + 1;
                m->term[m->base] = term + 1;
                raft__terms_reset(&t, m->base, m->term[m->base]);
            }
            compare(m, &t, &p);
        }
        raft__terms_free(&t);
        free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
