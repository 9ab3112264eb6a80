/* test_fs_keys.c - the key/value view: paths as keys, directories that come and go with them, and listings in the byte
 * order of whole keys. */
#include <stdlib.h>

#include "world.h"

static int put(struct world *w, const char *key, const char *value) { return world_put(w, key, value, strlen(value)); }

static int del(struct world *w, const char *key)
{
    w->ctx.now += 10;
    return fs_delete(&w->fs, &w->ctx, S(key));
}

static int append(struct world *w, const char *key, const char *value)
{
    w->ctx.now += 10;
    struct slice data = S(value);
    return fs_append(&w->fs, &w->ctx, S(key), data, world_log(w, data), NULL);
}

static int walk(struct world *w, const char *key)
{
    struct fs_attr a;
    return fs_walk(&w->fs, S(key), &a);
}

static void holds(struct world *w, const char *key, const char *value)
{
    struct fs_attr a;
    assert_int_equal(fs_walk(&w->fs, S(key), &a), 0);
    world_expect(w, a.ino, value, strlen(value));
}

static void test_put_get(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct fs_attr a, b;
    assert_int_equal(walk(w, "k"), -ENOENT);
    assert_int_equal(put(w, "k", "one"), 0);
    holds(w, "k", "one");
    assert_int_equal(fs_walk(&w->fs, S("k"), &a), 0);
    assert_int_equal(a.mode, S_IFREG | 0644);
    assert_int_equal(a.uid, 10);
    b.mode = 0600;
    assert_int_equal(fs_setattr(&w->fs, &w->ctx, a.ino, FS_SET_MODE, &b, NULL), 0);
    assert_int_equal(put(w, "k", "2"), 0);
    holds(w, "k", "2");
    assert_int_equal(fs_walk(&w->fs, S("k"), &b), 0);
    assert_int_equal(b.ino, a.ino);                      /* the same file: its other names see it, too */
    assert_int_equal(b.mode, S_IFREG | 0600);
    assert_true(b.version > a.version && b.mtime > a.mtime);
    assert_int_equal(put(w, "k", ""), 0);
    holds(w, "k", "");
    assert_int_equal(append(w, "k", "abc"), 0);
    assert_int_equal(append(w, "k", "def"), 0);
    holds(w, "k", "abcdef");
    assert_int_equal(append(w, "new/log", "line"), 0);
    holds(w, "new/log", "line");
    world_check(w);
    assert_int_equal(del(w, "k"), 0);
    assert_int_equal(del(w, "k"), -ENOENT);
    world_check(w);
    world_free(w);
}

/* Large over small over large: nothing of the old value stays. */
static void test_replace_sizes(void **state)
{
    (void)state;
    struct world *w = world_new();
    const size_t sizes[] = {300, 10, 256, 257, 5000, 0, 5000, 256, 100000, 1};
    uint8_t *data = xmalloc(100000);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct fs_attr a;
        memset(data, (int)(i + 1), 100000);
        assert_int_equal(world_put(w, "dir/key", data, sizes[i]), 0);
        assert_int_equal(fs_walk(&w->fs, S("dir/key"), &a), 0);
        world_expect(w, a.ino, data, sizes[i]);
        assert_int_equal(w->live_bytes, sizes[i] > FS_INLINE_MAX ? sizes[i] : 0);
        world_check(w);
    }
    free(data);
    world_free(w);
}

static void test_errors(void **state)
{
    (void)state;
    struct world *w = world_new();
    static char longest[FS_KEY_MAX + 2];
    memset(longest, 'a', sizeof(longest) - 1);
    for (size_t i = 100; i < sizeof(longest) - 1; i += 100) longest[i] = '/';
    assert_int_equal(put(w, "dir/file", "x"), 0);
    assert_int_equal(fs_mknod(&w->fs, &w->ctx, FS_ROOT_INO, S("link"), S_IFLNK, 0, S("dir"), NULL), 0);
    assert_int_equal(fs_mknod(&w->fs, &w->ctx, FS_ROOT_INO, S("pipe"), S_IFIFO | 0600, 0, S(""), NULL), 0);
    const char *const bad[] = {"", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "./a"};
    struct slice data = S("v");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(put(w, bad[i], "x"), -EINVAL);
        assert_int_equal(append(w, bad[i], "x"), -EINVAL);
        assert_int_equal(del(w, bad[i]), -EINVAL);
        assert_int_equal(walk(w, bad[i]), -EINVAL);
    }
    assert_int_equal(fs_put(&w->fs, &w->ctx, slice_of("a\0b", 3), data, (struct fs_loc){0}, NULL), -EINVAL);
    assert_int_equal(fs_put(&w->fs, &w->ctx, slice_of(longest, 101 + 256), data, (struct fs_loc){0}, NULL), 0);
    assert_int_equal(fs_put(&w->fs, &w->ctx, S(longest), data, (struct fs_loc){0}, NULL), -ENAMETOOLONG);
    longest[FS_KEY_MAX] = 0;
    assert_int_equal(fs_put(&w->fs, &w->ctx, S(longest), data, (struct fs_loc){0}, NULL), 0);
    longest[300] = 'a';
    assert_int_equal(walk(w, longest), -ENOENT);
    memset(longest, 'b', 256);
    assert_int_equal(walk(w, longest), -ENAMETOOLONG);
    const struct {
        const char *key;
        int err, walk_err;
    } cases[] = {{"dir", -EISDIR, 0}, {"dir/file/x", -ENOTDIR, -ENOTDIR}, {"dir/file/x/y", -ENOTDIR, -ENOTDIR},
                 {"link", -ELOOP, 0}, {"link/file", -ENOTDIR, -ENOTDIR}, {"pipe", -EINVAL, 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(put(w, cases[i].key, "x"), cases[i].err);
        assert_int_equal(append(w, cases[i].key, "x"), cases[i].err);
        assert_int_equal(del(w, cases[i].key), cases[i].err);
        assert_int_equal(walk(w, cases[i].key), cases[i].walk_err);
    }
    uint64_t digest = omap_digest(w->fs.map);
    static uint8_t big[300];
    assert_int_equal(fs_put(&w->fs, &w->ctx, S("n/e/w"), slice_of(big, 300), (struct fs_loc){0, UINT32_MAX - 5}, NULL),
                     -EINVAL);
    assert_true(omap_digest(w->fs.map) == digest);       /* no directory either */
    world_check(w);
    world_free(w);
}

static void test_prune(void **state)
{
    (void)state;
    struct world *w = world_new();
    assert_int_equal(put(w, "a/b/c/d", "x"), 0);
    assert_int_equal(put(w, "a/b/e", "x"), 0);
    assert_int_equal(del(w, "a/b/c/d"), 0);
    assert_int_equal(walk(w, "a/b/c"), -ENOENT);
    assert_int_equal(walk(w, "a/b"), 0);
    world_check(w);
    assert_int_equal(del(w, "a/b/e"), 0);
    assert_int_equal(walk(w, "a"), -ENOENT);
    assert_int_equal(omap_count(w->fs.map), 2);
    /* What somebody has made, or has changed since, stays. */
    world_dir(w, FS_ROOT_INO, "made");
    assert_int_equal(put(w, "made/x/y", "x"), 0);
    assert_int_equal(del(w, "made/x/y"), 0);
    assert_int_equal(walk(w, "made"), 0);
    assert_int_equal(walk(w, "made/x"), -ENOENT);
    struct fs_attr a;
    for (int how = 0; how < 3; how++) {
        assert_int_equal(put(w, "p/q/r", "x"), 0);
        assert_int_equal(fs_walk(&w->fs, S("p/q"), &a), 0);
        uint64_t q = a.ino;
        assert_int_equal(fs_walk(&w->fs, S("p"), &a), 0);
        if (how == 0) {
            a.mode = 0700;
            assert_int_equal(fs_setattr(&w->fs, &w->ctx, q, FS_SET_MODE, &a, NULL), 0);
        } else if (how == 1) {
            assert_int_equal(fs_setxattr(&w->fs, &w->ctx, q, S("user.x"), S("1"), 0), 0);
        } else {
            assert_int_equal(fs_rename(&w->fs, &w->ctx, a.ino, S("q"), a.ino, S("s"), 0, false), 0);
        }
        assert_int_equal(del(w, how == 2 ? "p/s/r" : "p/q/r"), 0);
        assert_int_equal(walk(w, how == 2 ? "p/s" : "p/q"), 0);
        assert_int_equal(fs_rmdir(&w->fs, &w->ctx, a.ino, S(how == 2 ? "s" : "q")), 0);
        assert_int_equal(fs_rmdir(&w->fs, &w->ctx, FS_ROOT_INO, S("p")), 0);
    }
    world_check(w);
    world_free(w);
}

/* ---- listing ----------------------------------------------------------------------------------------------------- */

struct listing {
    char text[4096];
    size_t n, most;
};

static bool add_key(void *ctx, struct slice key, const struct fs_attr *attr)
{
    struct listing *l = ctx;
    assert_true(S_ISREG(attr->mode) && l->n + key.n + 2 < sizeof(l->text));
    memcpy(l->text + l->n, key.p, key.n);
    l->n += key.n;
    l->text[l->n++] = ' ';
    l->text[l->n] = 0;
    return --l->most > 0;
}

static void expect_list(struct world *w, const char *prefix, const char *from, const char *must)
{
    struct listing l = {.most = 1000};
    assert_int_equal(fs_list(&w->fs, S(prefix), S(from), add_key, &l), 0);
    assert_string_equal(l.text, must);
}

static void test_list_order(void **state)
{
    (void)state;
    struct world *w = world_new();
    const char *const keys[] = {"a/b",  "a.b", "a-/x", "a-b",    "a0",   "a-/+/y",
                                "a-.z", "b",   "a/+",  "a/b+/c", "a/b.", "a/b0"};
    assert_int_equal(put(w, "a-/+/y", "x"), 0);
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) assert_int_equal(put(w, keys[i], "x"), 0);
    const char *const all = "a-.z a-/+/y a-/x a-b a.b a/+ a/b a/b+/c a/b. a/b0 a0 b ";
    expect_list(w, "", "", all);
    /* From every key on, and from just behind it. */
    for (const char *at = all; *at; at = strchr(at, ' ') + 1) {
        char key[32] = {0};
        size_t n = (size_t)(strchr(at, ' ') - at);
        memcpy(key, at, n);
        expect_list(w, "", key, at);
        key[n] = 1;
        expect_list(w, "", key, strchr(at, ' ') + 1);
    }
    expect_list(w, "a/", "", "a/+ a/b a/b+/c a/b. a/b0 ");
    expect_list(w, "a/b", "", "a/b a/b+/c a/b. a/b0 ");
    expect_list(w, "a/b", "a/b+", "a/b+/c a/b. a/b0 ");
    expect_list(w, "a-", "", "a-.z a-/+/y a-/x a-b ");
    expect_list(w, "a-/", "a-/+/z", "a-/x ");
    expect_list(w, "a-/", "a/", "");
    expect_list(w, "a", "a/b0x", "a0 ");
    expect_list(w, "c", "", "");
    expect_list(w, "", "c", "");
    expect_list(w, "a/b/", "", "");                      /* a file is no prefix of that kind */
    expect_list(w, "", "a-/+", "a-/+/y a-/x a-b a.b a/+ a/b a/b+/c a/b. a/b0 a0 b ");
    expect_list(w, "", "a-/+/y/z", "a-/x a-b a.b a/+ a/b a/b+/c a/b. a/b0 a0 b ");
    world_free(w);
}

static void test_list_stops_and_types(void **state)
{
    (void)state;
    struct world *w = world_new();
    assert_int_equal(put(w, "a", "x"), 0);
    assert_int_equal(put(w, "c", "x"), 0);
    assert_int_equal(put(w, "d/e", "x"), 0);
    assert_int_equal(fs_mknod(&w->fs, &w->ctx, FS_ROOT_INO, S("b"), S_IFLNK, 0, S("a"), NULL), 0);
    world_dir(w, FS_ROOT_INO, "empty");
    expect_list(w, "", "", "a c d/e ");
    for (size_t most = 1; most <= 3; most++) {
        struct listing l = {.most = most};
        assert_int_equal(fs_list(&w->fs, S(""), S(""), add_key, &l), 0);
        assert_int_equal(l.most, 0);
        assert_int_equal(l.n, most == 1 ? 2 : most == 2 ? 4 : 8);
    }
    world_free(w);
}

static bool count_key(void *ctx, struct slice key, const struct fs_attr *attr)
{
    (void)attr;
    uint64_t *n = ctx;
    assert_int_equal(key.n, FS_KEY_MAX);
    ++*n;
    return true;
}

/* A path that is longer than any key is no key; one that is just as long is. */
static void test_list_deep(void **state)
{
    (void)state;
    struct world *w = world_new();
    static char key[FS_KEY_MAX + 1];
    uint64_t dir = FS_ROOT_INO;
    for (size_t i = 0; i < FS_KEY_MAX; i++) key[i] = i % 2 ? '/' : 'k';
    assert_int_equal(put(w, key, "x"), 0);
    for (size_t i = 0; i + 2 < FS_KEY_MAX; i += 2) {
        struct fs_attr a;
        assert_int_equal(fs_lookup(&w->fs, dir, S("k"), &a), 0);
        dir = a.ino;
    }
    uint64_t sub = world_dir(w, dir, "l");
    world_file(w, dir, "two");
    world_file(w, sub, "f");
    uint64_t count = 0;
    assert_int_equal(fs_list(&w->fs, slice_of(key, 4000), S(""), count_key, &count), 0);
    assert_int_equal(count, 1);
    world_check(w);
    assert_int_equal(fs_unlink(&w->fs, &w->ctx, sub, S("f"), false), 0);
    assert_int_equal(fs_rmdir(&w->fs, &w->ctx, dir, S("l")), 0);
    assert_int_equal(fs_unlink(&w->fs, &w->ctx, dir, S("two"), false), 0);
    assert_int_equal(del(w, key), 0);
    assert_int_equal(omap_count(w->fs.map), 2);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_get), cmocka_unit_test(test_replace_sizes), cmocka_unit_test(test_errors),
        cmocka_unit_test(test_prune), cmocka_unit_test(test_list_order), cmocka_unit_test(test_list_stops_and_types),
        cmocka_unit_test(test_list_deep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
