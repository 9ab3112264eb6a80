/* The heap against a linear search over random insertions and removals, and first in, first out among equal keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/base.h"

enum { NODES = 300 };

static struct heap_node *smallest(struct heap_node *v)
{
    struct heap_node *best = NULL;
    for (int i = 0; i < NODES; i++) {
        if (!heap_contains(&v[i])) continue;
        if (!best || v[i].key < best->key || (v[i].key == best->key && v[i].seq < best->seq)) best = &v[i];
    }
    return best;
}

static void test_against_search(void **state)
{
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct prng r;
        prng_seed(&r, seed);
        struct heap h = {0};
        struct heap_node v[NODES] = {0};
        size_t in = 0;
        for (int i = 0; i < 3000; i++) {
            struct heap_node *n = &v[prng_below(&r, NODES)];
            /* Phases in which it fills and drains. */
            if (prng_chance(&r, i / 500 % 2 ? 30 : 70)) {
                if (heap_contains(n)) continue;
                heap_insert(&h, n, prng_below(&r, 50));
                in++;
            } else {
                if (prng_chance(&r, 50) && heap_min(&h)) n = heap_min(&h);
                in -= heap_contains(n);
                heap_remove(&h, n);
                assert_false(heap_contains(n));
            }
            assert_int_equal(h.n, in);
            assert_ptr_equal(heap_min(&h), smallest(v));
        }
        heap_free(&h);
        for (int i = 0; i < NODES; i++) assert_false(heap_contains(&v[i]));
    }
}

static void test_ties_in_order(void **state)
{
    struct heap h = {0};
    struct heap_node v[100] = {0};
    for (int i = 0; i < 100; i++) heap_insert(&h, &v[i], (uint64_t)(i % 3));
    for (int key = 0; key < 3; key++) {
        for (int i = key; i < 100; i += 3) {
            assert_ptr_equal(heap_min(&h), &v[i]);
            heap_remove(&h, &v[i]);
        }
    }
    assert_null(heap_min(&h));
    heap_remove(&h, &v[0]);
    heap_free(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_search),
        cmocka_unit_test(test_ties_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
