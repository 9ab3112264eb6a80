/* test_fs_session.c - files without a name: who is asked, when they go, and what works with them until then. */
#include "world.h"

static const uint8_t bytes[1000] = {1, 2, 3};

static uint64_t open_file(struct world *w, const char *name)
{
    uint64_t ino = world_file(w, FS_ROOT_INO, name);
    assert_int_equal(world_write(w, ino, 0, bytes, sizeof(bytes)), 0);
    return ino;
}

static bool exists(struct world *w, uint64_t ino)
{
    struct fs_attr a;
    int err = fs_getattr(&w->fs, ino, &a);
    assert_true(err == 0 || err == -ENOENT);
    if (!err) assert_int_equal(a.nlink, 0);
    return err == 0;
}

static void unlink_by(struct world *w, uint64_t session, const char *name, bool held)
{
    w->ctx.session = session;
    assert_int_equal(fs_unlink(&w->fs, &w->ctx, FS_ROOT_INO, S(name), held), 0);
}

static void release_by(struct world *w, uint64_t session, uint64_t ino)
{
    w->ctx.session = session;
    fs_release(&w->fs, &w->ctx, ino);
}

static uint32_t owed(struct world *w, uint64_t session)
{
    uint64_t inos[100];
    return fs_owed(&w->fs, session, 0, inos, 100);
}

static void test_nobody(void **state)
{
    (void)state;
    struct world *w = world_new();
    uint64_t ino = open_file(w, "f");
    unlink_by(w, 7, "f", true);                  /* session 7 is not a mount: its word does not count */
    assert_false(exists(w, ino));
    fs_session_add(&w->fs, 7);
    ino = open_file(w, "f");
    unlink_by(w, 7, "f", false);                 /* the only mount says that it has it not open */
    assert_false(exists(w, ino));
    assert_int_equal(w->live_bytes, 0);
    world_check(w);
    world_free(w);
}

static void test_held(void **state)
{
    (void)state;
    struct world *w = world_new();
    fs_session_add(&w->fs, 7);
    uint64_t ino = open_file(w, "f");
    unlink_by(w, 7, "f", true);
    assert_true(exists(w, ino));
    assert_int_equal(owed(w, 7), 1);
    world_expect(w, ino, bytes, sizeof(bytes));
    world_check(w);
    /* It can be read, written, changed - and not be named again. */
    assert_int_equal(world_write(w, ino, 10, "x", 1), 0);
    struct fs_attr a = {.size = 100, .mode = 0600};
    assert_int_equal(fs_setattr(&w->fs, &w->ctx, ino, FS_SET_SIZE | FS_SET_MODE, &a, &a), 0);
    assert_int_equal(a.nlink, 0);
    assert_int_equal(fs_setxattr(&w->fs, &w->ctx, ino, S("user.x"), S("1"), 0), 0);
    assert_int_equal(fs_link(&w->fs, &w->ctx, ino, FS_ROOT_INO, S("again"), NULL), -ENOENT);
    world_check(w);
    release_by(w, 8, ino);                       /* not his business */
    assert_true(exists(w, ino));
    release_by(w, 7, ino);
    assert_false(exists(w, ino));
    assert_int_equal(w->live_bytes, 0);
    release_by(w, 7, ino);                       /* twice does no harm */
    release_by(w, 7, FS_ROOT_INO);
    world_check(w);
    world_free(w);
}

static void test_several(void **state)
{
    (void)state;
    struct world *w = world_new();
    for (uint64_t s = 1; s <= 4; s++) fs_session_add(&w->fs, s);
    uint64_t ino = open_file(w, "f");
    unlink_by(w, 2, "f", false);
    for (uint64_t s = 1; s <= 5; s++) assert_int_equal(owed(w, s), s != 2 && s != 5);
    world_check(w);
    release_by(w, 1, ino);
    release_by(w, 2, ino);
    assert_true(exists(w, ino));
    fs_session_del(&w->fs, 3);
    assert_true(exists(w, ino));
    world_check(w);
    fs_session_add(&w->fs, 3);                   /* comes back, and knows nothing of it */
    assert_int_equal(owed(w, 3), 0);
    release_by(w, 4, ino);
    assert_false(exists(w, ino));
    world_check(w);
    world_free(w);
}

static void test_last_name_only(void **state)
{
    (void)state;
    struct world *w = world_new();
    fs_session_add(&w->fs, 1);
    uint64_t ino = open_file(w, "f");
    assert_int_equal(fs_link(&w->fs, &w->ctx, ino, FS_ROOT_INO, S("g"), NULL), 0);
    unlink_by(w, 1, "f", true);
    assert_int_equal(owed(w, 1), 0);
    release_by(w, 1, ino);
    assert_int_equal(world_attr(w, ino).nlink, 1);
    unlink_by(w, 1, "g", true);
    assert_int_equal(owed(w, 1), 1);
    release_by(w, 1, ino);
    assert_false(exists(w, ino));
    world_check(w);
    world_free(w);
}

static void test_by_rename(void **state)
{
    (void)state;
    struct world *w = world_new();
    fs_session_add(&w->fs, 1);
    fs_session_add(&w->fs, 2);
    uint64_t old = open_file(w, "old"), fresh = open_file(w, "fresh");
    w->ctx.session = 1;
    assert_int_equal(fs_rename(&w->fs, &w->ctx, FS_ROOT_INO, S("fresh"), FS_ROOT_INO, S("old"), 0, true), 0);
    assert_true(exists(w, old));
    assert_int_equal(world_attr(w, fresh).nlink, 1);
    world_check(w);
    release_by(w, 2, old);
    assert_true(exists(w, old));
    release_by(w, 1, old);
    assert_false(exists(w, old));
    world_check(w);
    world_free(w);
}

/* Only regular files wait; and a delete by key asks the mounts, too. */
static void test_types_and_keys(void **state)
{
    (void)state;
    struct world *w = world_new();
    fs_session_add(&w->fs, 1);
    const uint32_t types[] = {S_IFIFO, S_IFSOCK, S_IFCHR, S_IFLNK};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(fs_mknod(&w->fs, &w->ctx, FS_ROOT_INO, S("n"), types[i] | 0644, 0, S("t"), NULL), 0);
        unlink_by(w, 2, "n", true);
        assert_int_equal(owed(w, 1), 0);
    }
    assert_int_equal(world_put(w, "k", bytes, sizeof(bytes)), 0);
    w->ctx.session = 9;
    assert_int_equal(fs_delete(&w->fs, &w->ctx, S("k")), 0);
    assert_int_equal(owed(w, 1), 1);
    world_check(w);
    fs_session_del(&w->fs, 1);
    world_check(w);
    assert_int_equal(w->live_bytes, 0);
    world_free(w);
}

static void test_owed_pages(void **state)
{
    (void)state;
    struct world *w = world_new();
    uint64_t inos[50], got[50];
    fs_session_add(&w->fs, 1);
    fs_session_add(&w->fs, UINT64_MAX);
    for (size_t i = 0; i < 50; i++) {
        inos[i] = open_file(w, "f");
        unlink_by(w, 0, "f", false);
    }
    uint64_t after = 0;
    uint32_t n = 0;
    for (uint32_t step = 1; step > 0 && n < 50; n += step) {
        step = fs_owed(&w->fs, 1, after, got + n, n < 49 ? 7 : 1);
        if (step) after = got[n + step - 1];
    }
    assert_int_equal(n, 50);
    assert_memory_equal(got, inos, sizeof(inos));
    assert_int_equal(fs_owed(&w->fs, 1, after, got, 50), 0);
    assert_int_equal(fs_owed(&w->fs, UINT64_MAX, inos[48], got, 50), 1);
    assert_int_equal(fs_owed(&w->fs, 1, UINT64_MAX, got, 50), 0);
    world_check(w);
    fs_session_del(&w->fs, 1);
    assert_int_equal(w->live_bytes, 50 * sizeof(bytes));
    fs_session_del(&w->fs, UINT64_MAX);
    assert_int_equal(w->live_bytes, 0);
    world_check(w);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody), cmocka_unit_test(test_held), cmocka_unit_test(test_several),
        cmocka_unit_test(test_last_name_only), cmocka_unit_test(test_by_rename), cmocka_unit_test(test_types_and_keys),
        cmocka_unit_test(test_owed_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
