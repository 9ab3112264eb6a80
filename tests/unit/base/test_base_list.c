/* The ring against an array, and removal while iterating. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/base.h"

struct item {
    int id;
    struct list link;
};

static void expect(struct list *head, const int *want, int n)
{
    int i = 0;
    list_for_each(it, head) {
        assert_true(i < n);
        assert_int_equal(container_of(it, struct item, link)->id, want[i++]);
        assert_ptr_equal(it->next->prev, it);
    }
    assert_int_equal(i, n);
    assert_int_equal(list_empty(head), n == 0);
}

static void test_order(void **state)
{
    struct list head;
    struct item v[6];
    list_init(&head);
    expect(&head, NULL, 0);
    assert_null(list_pop_front(&head));
    for (int i = 0; i < 6; i++) {
        v[i].id = i;
        i % 2 ? list_push_back(&head, &v[i].link) : list_push_front(&head, &v[i].link);
    }
    expect(&head, (int[]){4, 2, 0, 1, 3, 5}, 6);
    list_for_each_safe(it, tmp, &head) {
        if (container_of(it, struct item, link)->id % 3 == 0) list_remove(it);
    }
    expect(&head, (int[]){4, 2, 1, 5}, 4);
    assert_true(list_empty(&v[0].link));
    list_remove(&v[0].link);
    list_insert_after(&v[2].link, &v[3].link);
    expect(&head, (int[]){4, 2, 3, 1, 5}, 5);
    assert_ptr_equal(list_pop_front(&head), &v[4].link);
    assert_true(list_empty(&v[4].link));
    while (list_pop_front(&head)) continue;
    expect(&head, NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
