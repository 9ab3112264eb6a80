/* test_sim_linear.c - the search for an order: histories that have one and that have none, and random small ones
 * compared with trying out every order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/sim/linear.h"

#define NEVER UINT64_MAX

static struct sim_reg_op put(uint64_t from, uint64_t to, const char *v)
{
    return (struct sim_reg_op){.kind = SIM_REG_PUT, .invoked = from, .returned = to, .ok = true, .value = slice_str(v)};
}

static struct sim_reg_op append(uint64_t from, uint64_t to, const char *v)
{
    struct sim_reg_op op = put(from, to, v);
    op.kind = SIM_REG_APPEND;
    return op;
}

/* NULL: it read that there is none. */
static struct sim_reg_op get(uint64_t from, uint64_t to, const char *v)
{
    return (struct sim_reg_op){.kind = SIM_REG_GET,
                               .invoked = from,
                               .returned = to,
                               .ok = v != NULL,
                               .value = v ? slice_str(v) : (struct slice){0}};
}

static struct sim_reg_op cas(uint64_t from, uint64_t to, const char *old, const char *v, bool ok)
{
    struct sim_reg_op op = put(from, to, v);
    op.kind = SIM_REG_CAS;
    op.absent = old == NULL;
    op.expected = old ? slice_str(old) : (struct slice){0};
    op.ok = ok;
    return op;
}

static struct sim_reg_op delete(uint64_t from, uint64_t to, bool ok)
{
    return (struct sim_reg_op){.kind = SIM_REG_DELETE, .invoked = from, .returned = to, .ok = ok};
}

#define ASSERT_LINEAR(expected, ...)                                                                                   \
    do {                                                                                                               \
        const struct sim_reg_op ops[] = {__VA_ARGS__};                                                                 \
        assert_int_equal(sim_linear_search(ops, sizeof ops / sizeof *ops, 100000), expected);                          \
    } while (0)

static void test_orders(void **state)
{
    ASSERT_LINEAR(SIM_LINEAR, get(1, 2, NULL));
    ASSERT_LINEAR(SIM_NOT_LINEAR, get(1, 2, "a"));
    ASSERT_LINEAR(SIM_LINEAR, put(1, 2, "a"), get(3, 4, "a"));
    ASSERT_LINEAR(SIM_NOT_LINEAR, put(1, 2, "a"), get(3, 4, NULL));
    ASSERT_LINEAR(SIM_LINEAR, put(1, 5, "a"), get(2, 3, NULL), get(4, 6, "a"));
    /* Read, then unread. */
    ASSERT_LINEAR(SIM_NOT_LINEAR, put(1, 9, "a"), get(2, 3, "a"), get(4, 5, NULL));
    /* Two readers that saw two writers in different orders. */
    ASSERT_LINEAR(SIM_NOT_LINEAR, put(1, 9, "a"), put(1, 9, "b"), get(2, 3, "a"), get(4, 5, "b"), get(6, 7, "a"));
    ASSERT_LINEAR(SIM_LINEAR, append(1, 9, "a"), append(1, 9, "b"), get(4, 5, "b"), get(10, 11, "ba"));
    /* Twice. */
    ASSERT_LINEAR(SIM_NOT_LINEAR, append(1, 2, "a"), get(3, 4, "aa"));
    ASSERT_LINEAR(SIM_LINEAR, put(1, 2, "a"), delete (3, 4, true), delete (5, 6, false), get(7, 8, NULL));
    ASSERT_LINEAR(SIM_NOT_LINEAR, put(1, 2, "a"), delete (3, 4, false));
    ASSERT_LINEAR(SIM_LINEAR, cas(1, 2, NULL, "a", true), cas(3, 9, "a", "b", true), cas(3, 9, "b", "c", true));
    ASSERT_LINEAR(SIM_NOT_LINEAR, cas(1, 2, NULL, "a", true), cas(3, 9, "a", "b", true), cas(3, 9, "a", "c", true));
}

static void test_unanswered(void **state)
{
    ASSERT_LINEAR(SIM_LINEAR, put(1, NEVER, "a"), get(2, 3, NULL));
    ASSERT_LINEAR(SIM_LINEAR, put(1, NEVER, "a"), get(2, 3, NULL), get(100, 101, "a"));
    ASSERT_LINEAR(SIM_NOT_LINEAR, put(1, NEVER, "a"), get(2, 3, "a"), get(4, 5, NULL));
    ASSERT_LINEAR(SIM_NOT_LINEAR, put(5, NEVER, "a"), get(2, 3, "a"));
    ASSERT_LINEAR(SIM_NOT_LINEAR, append(1, NEVER, "a"), get(2, 3, "aa"));
}

static void test_gives_up(void **state)
{
    struct sim_reg_op ops[41];
    char names[40][2];
    for (unsigned i = 0; i < 40; i++) {
        names[i][0] = (char)('A' + i);
        names[i][1] = 0;
        ops[i] = append(1, 100, names[i]);
    }
    ops[40] = get(101, 102, "nobody");
    assert_int_equal(sim_linear_search(ops, 41, 5000), SIM_LINEAR_UNDECIDED);
}

/* ---- against all orders ---- */

#define OPS 6u

struct plain {
    bool there;
    char v[64];
};

static bool does(const struct sim_reg_op *op, struct plain *p)
{
    bool answered = op->returned != NEVER;
    char value[64], old[64];
    snprintf(value, sizeof value, "%.*s", (int)op->value.n, op->value.n ? (const char *)op->value.p : "");
    snprintf(old, sizeof old, "%.*s", (int)op->expected.n, op->expected.n ? (const char *)op->expected.p : "");
    bool match = op->absent ? !p->there : p->there && strcmp(p->v, old) == 0;
    switch (op->kind) {
    case SIM_REG_GET: return !answered || (op->ok ? p->there && !strcmp(p->v, value) : !p->there);
    case SIM_REG_PUT: snprintf(p->v, sizeof p->v, "%s", value); break;
    case SIM_REG_APPEND:
        if (!p->there) p->v[0] = 0;
        strncat(p->v, value, sizeof p->v - strlen(p->v) - 1);
        break;
    case SIM_REG_DELETE:
        if (answered && op->ok != p->there) return false;
        p->there = false;
        return true;
    case SIM_REG_CAS:
        if (answered && op->ok != match) return false;
        if (!match) return true;
        snprintf(p->v, sizeof p->v, "%s", value);
        break;
    }
    p->there = true;
    return true;
}

static bool any_order(const struct sim_reg_op *ops, unsigned taken, const struct plain *p)
{
    uint64_t first_return = NEVER;
    bool all = true;
    for (unsigned i = 0; i < OPS; i++) {
        if (taken >> i & 1 || ops[i].returned == NEVER) continue;
        all = false;
        if (ops[i].returned < first_return) first_return = ops[i].returned;
    }
    if (all) return true;
    for (unsigned i = 0; i < OPS; i++) {
        struct plain q = *p;
        if (taken >> i & 1 || ops[i].invoked > first_return || !does(&ops[i], &q)) continue;
        if (any_order(ops, taken | 1u << i, &q)) return true;
    }
    return false;
}

static struct sim_reg_op random_op(struct prng *r)
{
    static const char *const texts[] = {"a", "b", "ab", "ba", "aa", "abb"};
    uint64_t from = prng_below(r, 12), to = prng_chance(r, 15) ? NEVER : from + 1 + prng_below(r, 8);
    const char *v = texts[prng_below(r, 6)], *w = prng_chance(r, 30) ? NULL : texts[prng_below(r, 6)];
    switch (prng_below(r, 5)) {
    case 0: return put(from, to, v);
    case 1: return append(from, to, texts[prng_below(r, 2)]);
    case 2: return delete (from, to, prng_chance(r, 50));
    case 3: return cas(from, to, w, v, prng_chance(r, 50));
    default: return get(from, to, w);
    }
}

static void test_against_all_orders(void **state)
{
    struct prng r;
    unsigned linear = 0, runs = 20000;
    prng_seed(&r, 7);
    for (unsigned k = 0; k < runs; k++) {
        struct sim_reg_op ops[OPS];
        struct plain nothing = {0};
        for (unsigned i = 0; i < OPS; i++) ops[i] = random_op(&r);
        bool expected = any_order(ops, 0, &nothing);
        assert_int_equal(sim_linear_search(ops, OPS, 1000000), expected ? SIM_LINEAR : SIM_NOT_LINEAR);
        linear += expected;
    }
    assert_true(linear > runs / 50 && linear < runs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_orders),
        cmocka_unit_test(test_unanswered),
        cmocka_unit_test(test_gives_up),
        cmocka_unit_test(test_against_all_orders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
