/* The bookkeeping of what the kernel knows, against a model of the kernel: its pages, mtime and size of one file, with
 * replies that it ignores, random changes elsewhere and times that are set back. After each read the pages must be
 * current. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sys/stat.h>

#include "mount/state.h"

static struct fs_attr attr_of(uint64_t ino, int64_t mtime, uint64_t size, uint64_t version)
{
    return (struct fs_attr){.ino = ino, .mode = S_IFREG | 0644, .mtime = mtime, .size = size, .version = version};
}

static void begin(struct mount *m)
{
    *m = (struct mount){0};
    mount__nodes_init(&m->nodes);
}

static void open_node(struct mount *m, uint64_t ino)
{
    struct node *n = mount__node_get(m, ino);
    n->opens++;
    mount__node_settle(m, n);
}

static void test_table(void **state)
{
    struct mount m;
    begin(&m);
    for (uint64_t i = 1; i <= 40000; i++) mount__node_get(&m, i)->version = i;
    assert_int_equal(m.nodes.count, 16384);      /* the oldest that nobody has open are dropped */
    assert_null(mount__node_find(&m, 1));
    assert_int_equal(mount__node_find(&m, 40000)->version, 40000);
    open_node(&m, 30000);
    open_node(&m, 1);
    for (uint64_t i = 50000; i <= 90000; i++) mount__node_get(&m, i);
    assert_int_equal(mount__node_find(&m, 30000)->version, 30000);
    assert_non_null(mount__node_find(&m, 1));
    mount__node_forget(&m, 1);                   /* open: stays */
    assert_non_null(mount__node_find(&m, 1));
    mount__node_forget(&m, 90000);
    assert_null(mount__node_find(&m, 90000));
    mount__node_forget(&m, 12345678);
    mount__nodes_free(&m.nodes);
}

static void test_open_keeps_only_what_is_current(void **state)
{
    struct mount m;
    begin(&m);
    struct fs_attr a = attr_of(7, 100, 10, 3), b = attr_of(7, 100, 10, 4);
    struct node *n = mount__node_get(&m, 7);
    assert_false(mount__node_opened(n, &a));
    assert_true(mount__node_opened(n, &a));
    assert_false(mount__node_opened(n, &b));
    assert_true(mount__node_opened(n, &b));
    mount__nodes_free(&m.nodes);
}

static void test_setattr_takes_mtime_silently(void **state)
{
    struct mount m;
    begin(&m);
    struct fs_attr v1 = attr_of(7, 100, 10, 1), v2 = attr_of(7, 200, 10, 2);
    open_node(&m, 7);
    mount__node_tell(&m, &v1, TELL_ENTRY);
    mount__node_opened(mount__node_find(&m, 7), &v1);
    assert_false(mount__node_tell(&m, &v1, TELL_GETATTR));
    assert_false(mount__node_tell(&m, &v2, TELL_SETATTR));      /* the kernel has mtime 200 now, and old pages */
    assert_true(mount__node_tell(&m, &v2, TELL_GETATTR));
    mount__node_dropped(&m, 7, 2);
    assert_false(mount__node_tell(&m, &v2, TELL_GETATTR));
    mount__nodes_free(&m.nodes);
}

/* ---- the model ---- */

struct kernel {
    int64_t mtime;
    uint64_t size, pages;            /* pages: the version they are of at the oldest; 0: there are none */
};

static void kernel_told(struct kernel *k, const struct fs_attr *a, enum tell how)
{
    if (k->size != a->size || (how != TELL_SETATTR && k->mtime != a->mtime)) k->pages = 0;
    k->mtime = a->mtime;
    k->size = a->size;
}

/* Somebody else changes the file. Sizes and times come from few values, so that they repeat. */
static void change(struct prng *r, struct fs_attr *a, int64_t *clock)
{
    int64_t old = a->mtime;
    if (prng_chance(r, 70)) {
        a->version++;
        a->mtime = ++*clock;
        if (prng_chance(r, 30)) a->size = 1 + prng_below(r, 3);
        if (prng_chance(r, 40)) a->mtime = old;                          /* with the time set back */
    } else if (prng_chance(r, 50)) {
        a->mtime = (int64_t)prng_between(r, 1, (uint64_t)*clock);        /* touch */
    }
}

static uint64_t run_model(uint64_t seed, bool ignores)
{
    struct mount m;
    struct prng r;
    struct kernel k = {0};
    int64_t clock = 100;
    uint64_t stale = 0;
    struct fs_attr a = attr_of(9, 100, 2, 1);
    prng_seed(&r, seed);
    begin(&m);
    open_node(&m, 9);
    mount__node_tell(&m, &a, TELL_ENTRY);
    kernel_told(&k, &a, TELL_ENTRY);
    mount__node_opened(mount__node_find(&m, 9), &a);
    for (int i = 0; i < 2000; i++) {
        if (prng_chance(&r, 60)) change(&r, &a, &clock);
        bool ignored = ignores && prng_chance(&r, 10);
        enum tell how = prng_chance(&r, 50) ? TELL_GETATTR : prng_chance(&r, 50) ? TELL_ENTRY : TELL_SETATTR;
        bool drop = mount__node_tell(&m, &a, how);
        assert_true(!drop || how == TELL_GETATTR);
        if (drop) {
            k.pages = 0;
            mount__node_dropped(&m, 9, a.version);
        } else if (!ignored) {
            kernel_told(&k, &a, how);
        }
        if (prng_chance(&r, 10)) {
            bool keep = mount__node_opened(mount__node_find(&m, 9), &a);
            if (!keep) k.pages = 0;
        } else if (how != TELL_GETATTR) {
            continue;
        }
        /* read(2), or open(2) and mmap(2), comes now */
        if (!ignored && k.pages && k.pages != a.version) stale++;
        if (!k.pages) k.pages = a.version;
    }
    mount__nodes_free(&m.nodes);
    return stale;
}

static void test_pages_are_current_at_each_read(void **state)
{
    for (uint64_t seed = 1; seed <= 300; seed++) assert_int_equal(run_model(seed, false), 0);
}

/* A reply that the kernel ignores because it crosses with a change: rare, and the times set back on top, rarer. */
static void test_ignored_replies_hide_almost_nothing(void **state)
{
    uint64_t stale = 0;
    for (uint64_t seed = 1; seed <= 300; seed++) stale += run_model(seed, true);
    print_message("%llu of 600000 steps\n", (unsigned long long)stale);
    assert_in_range(stale, 0, 600000 / 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_open_keeps_only_what_is_current),
        cmocka_unit_test(test_setattr_takes_mtime_silently),
        cmocka_unit_test(test_pages_are_current_at_each_read),
        cmocka_unit_test(test_ignored_replies_hide_almost_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
