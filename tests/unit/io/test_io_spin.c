/* When a loop without work looks again, and when it sleeps. */
#include "helper.h"

#include "io/spin.h"

#define US 1000u
#define S 1000000000u

/* Polls each microsecond without an event until the answer is: sleep. How long that took. */
static uint64_t spin_in_vain(struct io__spin *s, uint64_t events, uint64_t *now)
{
    uint64_t start = *now;
    while (io__spin(s, events, *now)) *now += US;
    return *now - start;
}

static void test_it_lasts_its_time(void **state)
{
    struct io__spin s = {0};
    uint64_t now = 5 * S;
    assert_true(spin_in_vain(&s, 1, &now) == IO_SPIN_NS);
}

static void test_each_event_begins_it_anew(void **state)
{
    struct io__spin s = {0};
    uint64_t now = 5 * S, events = 1;
    for (; events < 1000; events++, now += IO_SPIN_NS - US) assert_true(io__spin(&s, events, now));
    assert_true(spin_in_vain(&s, events, &now) == IO_SPIN_NS);
}

/* Events a second apart, as the heartbeats of an idle cluster: hardly a spin among them. */
static void test_in_vain_is_paid_back(void **state)
{
    struct io__spin s = {0};
    uint64_t now = 5 * S;
    unsigned spins = 0, last = 0, gaps[32] = {0};
    for (unsigned wait = 1; wait <= 3000; wait++, now += S) {
        if (spin_in_vain(&s, wait, &now) == 0) continue;
        assert_true(spins < 32);
        gaps[spins++] = wait - last - 1;
        last = wait;
    }
    for (unsigned i = 0; i < spins; i++) assert_int_equal(gaps[i], i == 0 ? 0 : i < 9 ? 1u << (i - 1) : IO_SPIN_SKIP_MAX);
    assert_int_equal(spins, 9 + (3000 - 9 - 255) / (IO_SPIN_SKIP_MAX + 1));
}

static void test_one_hit_pays_for_all(void **state)
{
    struct io__spin s = {0};
    uint64_t now = 5 * S, events = 0;
    for (unsigned wait = 0; wait < 1000; wait++, now += S) spin_in_vain(&s, ++events, &now);
    while (!io__spin(&s, ++events, now)) now += S;
    assert_true(io__spin(&s, ++events, now + US)); /* the hit */
    now += S;
    assert_false(io__spin(&s, events, now)); /* it ends: one wait is slept through, as after the very first */
    assert_false(io__spin(&s, ++events, now += S));
    assert_true(io__spin(&s, ++events, now += S));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_lasts_its_time),
        cmocka_unit_test(test_each_event_begins_it_anew),
        cmocka_unit_test(test_in_vain_is_paid_back),
        cmocka_unit_test(test_one_hit_pays_for_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
