/* test_fs_ops.c - names and attributes: every operation with every error, and what it changes besides its object. */
#include <stdio.h>
#include <stdlib.h>

#include "fs/inode.h"
#include "world.h"

#define NONE (struct slice){0}

static char long_name[FS_NAME_MAX + 2];

static int make(struct world *w, uint64_t dir, const char *name, uint32_t mode)
{
    return fs_mknod(&w->fs, &w->ctx, dir, S(name), mode, 0, S("target"), NULL);
}

static int move(struct world *w, uint64_t from, const char *name, uint64_t to, const char *to_name, uint32_t flags)
{
    w->ctx.now += 10;
    return fs_rename(&w->fs, &w->ctx, from, S(name), to, S(to_name), flags, false);
}

static uint64_t ino_of(struct world *w, uint64_t dir, const char *name)
{
    struct fs_attr a;
    return fs_lookup(&w->fs, dir, S(name), &a) == 0 ? a.ino : 0;
}

/* A directory with a file, an empty and a full directory, a link, and a file elsewhere. */
struct tree {
    struct world *w;
    uint64_t dir, file, empty, full, inner;
};

static struct tree tree_new(void)
{
    struct tree t = {.w = world_new()};
    t.dir = world_dir(t.w, FS_ROOT_INO, "dir");
    t.file = world_file(t.w, t.dir, "file");
    t.empty = world_dir(t.w, t.dir, "empty");
    t.full = world_dir(t.w, t.dir, "full");
    t.inner = world_file(t.w, t.full, "inner");
    assert_int_equal(make(t.w, t.dir, "link", S_IFLNK), 0);
    return t;
}

static void tree_free(struct tree *t)
{
    world_check(t->w);
    world_free(t->w);
}

/* The names that nothing can be called. */
static void test_bad_names(void **state)
{
    (void)state;
    struct tree t = tree_new();
    struct fs *fs = &t.w->fs;
    const struct fs_ctx *c = &t.w->ctx;
    struct fs_attr a;
    const struct {
        struct slice name;
        int err;
    } bad[] = {{NONE, -EINVAL}, {S("a/b"), -EINVAL}, {S("/"), -EINVAL}, {slice_of("a\0b", 3), -EINVAL},
               {slice_of(long_name, 256), -ENAMETOOLONG}};
    for (size_t i = 0; i < 5; i++) {
        struct slice n = bad[i].name, ok = S("file");
        int err = bad[i].err;
        assert_int_equal(fs_lookup(fs, t.dir, n, &a), err);
        assert_int_equal(fs_mknod(fs, c, t.dir, n, S_IFREG, 0, NONE, &a), err);
        assert_int_equal(fs_create(fs, c, t.dir, n, 0644, false, &a, NULL), err);
        assert_int_equal(fs_link(fs, c, t.file, t.dir, n, &a), err);
        assert_int_equal(fs_unlink(fs, c, t.dir, n, false), err);
        assert_int_equal(fs_rmdir(fs, c, t.dir, n), err);
        assert_int_equal(fs_rename(fs, c, t.dir, n, t.dir, ok, 0, false), err);
        assert_int_equal(fs_rename(fs, c, t.dir, ok, t.dir, n, 0, false), err);
    }
    long_name[255] = 0;
    assert_int_equal(make(t.w, t.dir, long_name, S_IFREG), 0);                   /* the longest one */
    assert_int_equal(fs_unlink(fs, c, t.dir, S(long_name), false), 0);
    long_name[255] = 'n';
    tree_free(&t);
}

static void test_dots(void **state)
{
    (void)state;
    struct tree t = tree_new();
    struct fs *fs = &t.w->fs;
    const struct fs_ctx *c = &t.w->ctx;
    struct fs_attr a;
    assert_int_equal(ino_of(t.w, t.full, "."), t.full);
    assert_int_equal(ino_of(t.w, t.full, ".."), t.dir);
    assert_int_equal(ino_of(t.w, FS_ROOT_INO, ".."), FS_ROOT_INO);
    for (int i = 0; i < 2; i++) {
        struct slice n = S(i ? ".." : "."), ok = S("file"), fresh = S("fresh");
        assert_int_equal(fs_mknod(fs, c, t.dir, n, S_IFDIR, 0, NONE, &a), -EEXIST);
        assert_int_equal(fs_create(fs, c, t.dir, n, 0644, true, &a, NULL), -EEXIST);
        assert_int_equal(fs_create(fs, c, t.dir, n, 0644, false, &a, NULL), -EISDIR);
        assert_int_equal(fs_link(fs, c, t.file, t.dir, n, &a), -EEXIST);
        assert_int_equal(fs_unlink(fs, c, t.dir, n, false), -EISDIR);
        assert_int_equal(fs_rmdir(fs, c, t.dir, n), i ? -ENOTEMPTY : -EINVAL);
        assert_int_equal(fs_rename(fs, c, t.dir, n, t.dir, fresh, 0, false), -EBUSY);
        assert_int_equal(fs_rename(fs, c, t.dir, ok, t.dir, n, 0, false), -EBUSY);
        assert_int_equal(fs_rename(fs, c, t.dir, ok, t.dir, n, FS_RENAME_NOREPLACE, false), -EEXIST);
    }
    tree_free(&t);
}

/* Things that are not there, or no directories. */
static void test_bad_parents(void **state)
{
    (void)state;
    struct tree t = tree_new();
    struct fs *fs = &t.w->fs;
    const struct fs_ctx *c = &t.w->ctx;
    struct fs_attr a;
    struct slice s, n = S("x"), ok = S("file");
    struct buf b = {0};
    const uint64_t parents[2] = {12345, t.file};
    for (int i = 0; i < 2; i++) {
        int err = i ? -ENOTDIR : -ENOENT;
        uint64_t p = parents[i];
        assert_int_equal(fs_lookup(fs, p, n, &a), err);
        assert_int_equal(fs_readdir(fs, p, NONE, NULL, NULL), err);
        assert_int_equal(fs_mknod(fs, c, p, n, S_IFREG, 0, NONE, &a), err);
        assert_int_equal(fs_create(fs, c, p, n, 0644, false, &a, NULL), err);
        assert_int_equal(fs_link(fs, c, t.file, p, n, &a), err);
        assert_int_equal(fs_unlink(fs, c, p, n, false), err);
        assert_int_equal(fs_rmdir(fs, c, p, n), err);
        assert_int_equal(fs_rename(fs, c, p, n, t.dir, n, 0, false), err);
        assert_int_equal(fs_rename(fs, c, t.dir, ok, p, n, 0, false), err);
    }
    assert_int_equal(fs_getattr(fs, 12345, &a), -ENOENT);
    assert_int_equal(fs_getattr(fs, 0, &a), -ENOENT);
    assert_int_equal(fs_readlink(fs, 12345, &s), -ENOENT);
    assert_int_equal(fs_readlink(fs, t.file, &s), -EINVAL);
    assert_int_equal(fs_setattr(fs, c, 12345, FS_SET_MODE, &a, &a), -ENOENT);
    assert_int_equal(fs_link(fs, c, 12345, t.dir, n, &a), -ENOENT);
    assert_int_equal(fs_listxattr(fs, 12345, &b), -ENOENT);
    assert_int_equal(fs_lookup(fs, t.dir, n, &a), -ENOENT);
    assert_int_equal(fs_unlink(fs, c, t.dir, n, false), -ENOENT);
    assert_int_equal(fs_rmdir(fs, c, t.dir, n), -ENOENT);
    assert_int_equal(fs_rmdir(fs, c, t.dir, S("empty")), 0);
    assert_int_equal(fs_mknod(fs, c, t.empty, n, S_IFREG, 0, NONE, &a), -ENOENT);    /* a directory that is gone */
    assert_int_equal(fs_readdir(fs, t.full, slice_of(long_name, 256), NULL, NULL), -ENAMETOOLONG);
    tree_free(&t);
}

static void test_mknod(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct fs_attr a;
    struct slice target;
    const uint32_t types[] = {S_IFREG, S_IFDIR, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
    for (size_t i = 0; i < 6; i++) {
        char name[2] = {(char)('a' + i), 0};
        uint32_t mode = types[i] | (uint32_t)(04750 + i);
        assert_int_equal(fs_mknod(&w->fs, &w->ctx, FS_ROOT_INO, S(name), mode, 0x1234, NONE, &a), 0);
        assert_int_equal(a.mode, mode);
        assert_int_equal(a.nlink, types[i] == S_IFDIR ? 2 : 1);
        assert_int_equal(a.uid, 10);
        assert_int_equal(a.gid, 20);
        assert_int_equal(a.rdev, types[i] == S_IFCHR || types[i] == S_IFBLK ? 0x1234 : 0);
        assert_int_equal(a.size, 0);
        assert_int_equal(a.blocks, 0);
        assert_int_equal(a.atime, w->ctx.now);
        assert_int_equal(a.btime, w->ctx.now);
        assert_int_equal(make(w, FS_ROOT_INO, name, mode), -EEXIST);
    }
    assert_int_equal(fs_mknod(&w->fs, &w->ctx, FS_ROOT_INO, S("typeless"), 0600, 0, NONE, &a), 0);
    assert_int_equal(a.mode, S_IFREG | 0600);
    assert_int_equal(make(w, FS_ROOT_INO, "n", 0070000 | 0644), -EINVAL);
    assert_int_equal(make(w, FS_ROOT_INO, "n", 0x80000000u | S_IFREG), -EINVAL);
    char *longest = xmalloc(FS_SYMLINK_MAX + 1);
    memset(longest, 't', FS_SYMLINK_MAX + 1);
    const struct slice bad[] = {NONE, slice_of(longest, FS_SYMLINK_MAX + 1), slice_of("a\0b", 3)};
    const int errs[] = {-ENOENT, -ENAMETOOLONG, -EINVAL};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(fs_mknod(&w->fs, &w->ctx, FS_ROOT_INO, S("l"), S_IFLNK, 0, bad[i], &a), errs[i]);
    assert_int_equal(fs_mknod(&w->fs, &w->ctx, FS_ROOT_INO, S("l"), S_IFLNK, 0, slice_of(longest, FS_SYMLINK_MAX), &a),
                     0);
    assert_int_equal(a.mode, S_IFLNK | 0777);
    assert_int_equal(a.size, FS_SYMLINK_MAX);
    assert_int_equal(fs_readlink(&w->fs, a.ino, &target), 0);
    assert_true(slice_eq(target, slice_of(longest, FS_SYMLINK_MAX)));
    free(longest);
    world_check(w);
    world_free(w);
}

static void test_create(void **state)
{
    (void)state;
    struct tree t = tree_new();
    struct fs *fs = &t.w->fs;
    struct fs_attr a;
    bool made;
    assert_int_equal(fs_create(fs, &t.w->ctx, t.dir, S("file"), 0600, false, &a, &made), 0);
    assert_int_equal(a.ino, t.file);
    assert_int_equal(a.mode, S_IFREG | 0644);
    assert_false(made);
    assert_int_equal(fs_create(fs, &t.w->ctx, t.dir, S("file"), 0600, true, &a, &made), -EEXIST);
    assert_int_equal(fs_create(fs, &t.w->ctx, t.dir, S("empty"), 0600, true, &a, &made), -EEXIST);
    assert_int_equal(fs_create(fs, &t.w->ctx, t.dir, S("empty"), 0600, false, &a, &made), -EISDIR);
    assert_int_equal(fs_create(fs, &t.w->ctx, t.dir, S("link"), 0600, true, &a, &made), -EEXIST);
    assert_int_equal(fs_create(fs, &t.w->ctx, t.dir, S("link"), 0600, false, &a, &made), -ESTALE);
    assert_int_equal(fs_create(fs, &t.w->ctx, t.dir, S("new"), S_IFDIR | 06611, false, &a, &made), 0);
    assert_int_equal(a.mode, S_IFREG | 06611);
    assert_true(made);
    tree_free(&t);
}

/* The group, and for directories the bit, come from a directory with S_ISGID. */
static void test_setgid(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct fs_attr in = {.mode = 02755, .gid = 555}, a;
    uint64_t dir = world_dir(w, FS_ROOT_INO, "d");
    assert_int_equal(fs_setattr(&w->fs, &w->ctx, dir, FS_SET_MODE | FS_SET_GID, &in, &a), 0);
    assert_int_equal(a.mode, S_IFDIR | 02755);
    assert_int_equal(fs_create(&w->fs, &w->ctx, dir, S("f"), 0644, true, &a, NULL), 0);
    assert_int_equal(a.gid, 555);
    assert_int_equal(a.mode, S_IFREG | 0644);
    assert_int_equal(fs_mknod(&w->fs, &w->ctx, dir, S("s"), S_IFDIR | 0700, 0, NONE, &a), 0);
    assert_int_equal(a.gid, 555);
    assert_int_equal(a.mode, S_IFDIR | 02700);
    assert_int_equal(world_put(w, "d/s/t/u", "x", 1), 0);
    assert_int_equal(fs_walk(&w->fs, S("d/s/t"), &a), 0);
    assert_int_equal(a.gid, 555);
    assert_int_equal(a.mode, S_IFDIR | 02755);
    world_check(w);
    world_free(w);
}

static void test_link(void **state)
{
    (void)state;
    struct tree t = tree_new();
    struct fs *fs = &t.w->fs;
    struct fs_attr a, was = world_attr(t.w, t.file);
    assert_int_equal(fs_link(fs, &t.w->ctx, t.file, t.full, S("second"), &a), 0);
    assert_int_equal(a.ino, t.file);
    assert_int_equal(a.nlink, 2);
    assert_true(a.ctime > was.ctime && a.mtime == was.mtime && a.version == was.version);
    assert_int_equal(fs_link(fs, &t.w->ctx, t.file, t.full, S("second"), &a), -EEXIST);
    assert_int_equal(fs_link(fs, &t.w->ctx, t.empty, t.full, S("dir"), &a), -EPERM);
    assert_int_equal(fs_link(fs, &t.w->ctx, t.empty, t.full, S("second"), &a), -EEXIST);
    assert_int_equal(fs_link(fs, &t.w->ctx, ino_of(t.w, t.dir, "link"), t.full, S("lnk"), &a), 0);
    assert_int_equal(fs_unlink(fs, &t.w->ctx, t.dir, S("file"), false), 0);
    assert_int_equal(world_attr(t.w, t.file).nlink, 1);
    assert_int_equal(fs_unlink(fs, &t.w->ctx, t.full, S("second"), false), 0);
    assert_int_equal(fs_getattr(fs, t.file, &a), -ENOENT);
    tree_free(&t);
}

static void test_link_limit(void **state)
{
    (void)state;
    struct world *w = world_new();
    uint64_t ino = world_file(w, FS_ROOT_INO, "0");
    struct fs_attr a;
    char name[16];
    for (unsigned i = 1; i < FS_LINK_MAX; i++) {
        snprintf(name, sizeof(name), "%u", i);
        assert_int_equal(fs_link(&w->fs, &w->ctx, ino, FS_ROOT_INO, S(name), &a), 0);
    }
    assert_int_equal(a.nlink, FS_LINK_MAX);
    assert_int_equal(fs_link(&w->fs, &w->ctx, ino, FS_ROOT_INO, S("more"), &a), -EMLINK);
    assert_int_equal(fs_unlink(&w->fs, &w->ctx, FS_ROOT_INO, S("0"), false), 0);
    assert_int_equal(fs_link(&w->fs, &w->ctx, ino, FS_ROOT_INO, S("more"), &a), 0);
    world_check(w);
    world_free(w);
}

/* Directories are not limited by FS_LINK_MAX, only by the width of the count. */
static void test_subdir_limit(void **state)
{
    (void)state;
    struct tree t = tree_new();
    struct inode n;
    assert_int_equal(fs__inode_get(t.w->fs.map, t.full, &n), 0);
    n.a.nlink = UINT32_MAX;
    fs__inode_put(t.w->fs.map, &n);
    uint64_t digest = omap_digest(t.w->fs.map);
    assert_int_equal(make(t.w, t.full, "sub", S_IFDIR), -EMLINK);
    assert_int_equal(move(t.w, t.dir, "empty", t.full, "sub", 0), -EMLINK);
    assert_int_equal(move(t.w, t.dir, "empty", t.full, "inner", FS_RENAME_EXCHANGE), -EMLINK);
    assert_int_equal(world_put(t.w, "dir/full/a/b", "x", 1), -EMLINK);
    assert_true(omap_digest(t.w->fs.map) == digest);
    assert_int_equal(make(t.w, t.full, "file", S_IFREG), 0);
    world_free(t.w);
}

static void test_unlink_rmdir(void **state)
{
    (void)state;
    struct tree t = tree_new();
    struct fs *fs = &t.w->fs;
    struct fs_usage u;
    assert_int_equal(fs_unlink(fs, &t.w->ctx, t.dir, S("empty"), false), -EISDIR);
    assert_int_equal(fs_rmdir(fs, &t.w->ctx, t.dir, S("file")), -ENOTDIR);
    assert_int_equal(fs_rmdir(fs, &t.w->ctx, t.dir, S("link")), -ENOTDIR);
    assert_int_equal(fs_rmdir(fs, &t.w->ctx, t.dir, S("full")), -ENOTEMPTY);
    struct fs_attr was = world_attr(t.w, t.dir), is;
    assert_int_equal(was.nlink, 4);
    assert_int_equal(fs_rmdir(fs, &t.w->ctx, t.dir, S("empty")), 0);
    is = world_attr(t.w, t.dir);
    assert_int_equal(is.nlink, 3);
    assert_int_equal(is.size, was.size - 1);
    assert_true(is.mtime > was.mtime && is.ctime > was.ctime && is.version > was.version && is.atime == was.atime);
    assert_int_equal(fs_unlink(fs, &t.w->ctx, t.full, S("inner"), false), 0);
    assert_int_equal(fs_rmdir(fs, &t.w->ctx, t.dir, S("full")), 0);
    assert_int_equal(fs_unlink(fs, &t.w->ctx, t.dir, S("link"), false), 0);
    assert_int_equal(fs_unlink(fs, &t.w->ctx, t.dir, S("file"), false), 0);
    fs_usage(fs, &u);
    assert_int_equal(u.files, 0);
    assert_int_equal(u.dirs, 2);
    tree_free(&t);
}

static void test_rename_plain(void **state)
{
    (void)state;
    struct tree t = tree_new();
    struct fs_attr was = world_attr(t.w, t.file), is;
    assert_int_equal(move(t.w, t.dir, "file", t.full, "moved", 0), 0);
    assert_int_equal(ino_of(t.w, t.dir, "file"), 0);
    assert_int_equal(ino_of(t.w, t.full, "moved"), t.file);
    is = world_attr(t.w, t.file);
    assert_true(is.ctime > was.ctime && is.mtime == was.mtime && is.version == was.version);
    assert_int_equal(move(t.w, t.dir, "empty", t.full, "sub", 0), 0);
    assert_int_equal(world_attr(t.w, t.dir).nlink, 3);
    assert_int_equal(world_attr(t.w, t.full).nlink, 3);
    assert_int_equal(ino_of(t.w, t.empty, ".."), t.full);
    assert_int_equal(move(t.w, t.dir, "none", t.full, "x", 0), -ENOENT);
    assert_int_equal(move(t.w, t.full, "moved", t.full, "moved", 0), 0);         /* onto itself */
    assert_int_equal(move(t.w, t.full, "sub", t.full, "sub", 0), 0);
    assert_int_equal(move(t.w, t.full, "moved", t.full, "again", FS_RENAME_NOREPLACE), 0);
    assert_int_equal(move(t.w, t.full, "again", t.full, "inner", FS_RENAME_NOREPLACE), -EEXIST);
    assert_int_equal(move(t.w, t.full, "again", t.full, "again", FS_RENAME_NOREPLACE), -EEXIST);
    assert_int_equal(move(t.w, t.full, "again", t.full, "inner", 3), -EINVAL);
    assert_int_equal(move(t.w, t.full, "again", t.full, "inner", 4), -EINVAL);
    tree_free(&t);
}

static void test_rename_over(void **state)
{
    (void)state;
    struct tree t = tree_new();
    struct fs *fs = &t.w->fs;
    struct fs_attr a;
    assert_int_equal(move(t.w, t.dir, "file", t.dir, "full", 0), -EISDIR);
    assert_int_equal(move(t.w, t.dir, "full", t.dir, "file", 0), -ENOTDIR);
    assert_int_equal(move(t.w, t.dir, "empty", t.dir, "full", 0), -ENOTEMPTY);
    assert_int_equal(move(t.w, t.dir, "empty", t.dir, "link", 0), -ENOTDIR);
    assert_int_equal(move(t.w, t.dir, "full", t.dir, "empty", 0), 0);
    assert_int_equal(fs_getattr(fs, t.empty, &a), -ENOENT);
    assert_int_equal(ino_of(t.w, t.dir, "empty"), t.full);
    assert_int_equal(world_attr(t.w, t.dir).nlink, 3);
    assert_int_equal(world_write(t.w, t.inner, 0, long_name, 256), 0);
    assert_int_equal(world_write(t.w, t.inner, 256, long_name, 100), 0);
    assert_int_equal(t.w->live_bytes, 100);
    assert_int_equal(fs_link(fs, &t.w->ctx, t.inner, t.dir, S("other"), NULL), 0);
    assert_int_equal(move(t.w, t.dir, "file", t.full, "inner", 0), 0);           /* one of two names */
    assert_int_equal(world_attr(t.w, t.inner).nlink, 1);
    assert_int_equal(move(t.w, t.dir, "link", t.dir, "other", 0), 0);            /* the last one */
    assert_int_equal(fs_getattr(fs, t.inner, &a), -ENOENT);
    assert_int_equal(t.w->live_bytes, 0);
    tree_free(&t);
}

/* Two names of one file: POSIX wants both to stay. */
static void test_rename_hard_links(void **state)
{
    (void)state;
    struct tree t = tree_new();
    assert_int_equal(fs_link(&t.w->fs, &t.w->ctx, t.file, t.full, S("second"), NULL), 0);
    uint64_t digest = omap_digest(t.w->fs.map);
    assert_int_equal(move(t.w, t.dir, "file", t.full, "second", 0), 0);
    assert_int_equal(move(t.w, t.dir, "file", t.full, "second", FS_RENAME_EXCHANGE), 0);
    assert_int_equal(move(t.w, t.dir, "file", t.full, "second", FS_RENAME_NOREPLACE), -EEXIST);
    assert_true(omap_digest(t.w->fs.map) == digest);
    assert_int_equal(move(t.w, t.dir, "file", t.dir, "third", 0), 0);
    tree_free(&t);
}

static void test_rename_loops(void **state)
{
    (void)state;
    struct tree t = tree_new();
    uint64_t sub = world_dir(t.w, t.full, "sub"), deep = world_dir(t.w, sub, "deep");
    assert_int_equal(move(t.w, t.dir, "full", t.full, "x", 0), -EINVAL);
    assert_int_equal(move(t.w, t.dir, "full", deep, "x", 0), -EINVAL);
    assert_int_equal(move(t.w, FS_ROOT_INO, "dir", deep, "x", 0), -EINVAL);
    assert_int_equal(move(t.w, t.dir, "full", deep, "x", FS_RENAME_NOREPLACE), -EINVAL);
    assert_int_equal(move(t.w, sub, "deep", t.full, "sub", 0), -ENOTEMPTY);
    assert_int_equal(move(t.w, sub, "deep", t.dir, "full", 0), -ENOTEMPTY);
    assert_int_equal(move(t.w, t.full, "inner", t.dir, "full", 0), -ENOTEMPTY);  /* before EISDIR, as Linux has it */
    assert_int_equal(move(t.w, sub, "deep", t.dir, "full", FS_RENAME_EXCHANGE), -EINVAL);
    assert_int_equal(move(t.w, t.dir, "full", sub, "deep", FS_RENAME_EXCHANGE), -EINVAL);
    assert_int_equal(move(t.w, sub, "deep", t.dir, "up", 0), 0);
    assert_int_equal(ino_of(t.w, deep, ".."), t.dir);
    assert_int_equal(move(t.w, t.dir, "full", deep, "x", 0), 0);
    tree_free(&t);
}

static void test_rename_exchange(void **state)
{
    (void)state;
    struct tree t = tree_new();
    uint64_t other = world_dir(t.w, FS_ROOT_INO, "other"), file2 = world_file(t.w, other, "file2");
    struct fs_attr was = world_attr(t.w, t.file);
    assert_int_equal(move(t.w, t.dir, "file", other, "none", FS_RENAME_EXCHANGE), -ENOENT);
    assert_int_equal(move(t.w, t.dir, "none", other, "file2", FS_RENAME_EXCHANGE), -ENOENT);
    assert_int_equal(move(t.w, t.dir, "file", other, "file2", FS_RENAME_EXCHANGE), 0);
    assert_int_equal(ino_of(t.w, t.dir, "file"), file2);
    assert_int_equal(ino_of(t.w, other, "file2"), t.file);
    assert_true(world_attr(t.w, t.file).ctime > was.ctime);
    /* A full directory for a file, across directories: links and parents follow. */
    assert_int_equal(move(t.w, t.dir, "full", other, "file2", FS_RENAME_EXCHANGE), 0);
    assert_int_equal(world_attr(t.w, t.dir).nlink, 3);
    assert_int_equal(world_attr(t.w, other).nlink, 3);
    assert_int_equal(ino_of(t.w, t.full, ".."), other);
    /* Directory for directory. */
    assert_int_equal(move(t.w, t.dir, "empty", other, "file2", FS_RENAME_EXCHANGE), 0);
    assert_int_equal(ino_of(t.w, t.full, ".."), t.dir);
    assert_int_equal(ino_of(t.w, t.empty, ".."), other);
    assert_int_equal(move(t.w, t.dir, "empty", t.dir, "link", FS_RENAME_EXCHANGE), 0);
    assert_int_equal(ino_of(t.w, t.dir, "link"), t.full);
    tree_free(&t);
}

/* Directory and file times of one operation after the other; the clock stands still. */
static void test_parent_times(void **state)
{
    (void)state;
    struct tree t = tree_new();
    struct fs_attr was = world_attr(t.w, t.dir);
    for (int i = 0; i < 6; i++) {
        int err = 0;
        switch (i) {
        case 0: err = make(t.w, t.dir, "n", S_IFREG); break;
        case 1: err = fs_link(&t.w->fs, &t.w->ctx, t.file, t.dir, S("l"), NULL); break;
        case 2: err = fs_rename(&t.w->fs, &t.w->ctx, t.dir, S("n"), t.dir, S("m"), 0, false); break;
        case 3: err = fs_rename(&t.w->fs, &t.w->ctx, t.dir, S("l"), t.full, S("l"), 0, false); break;
        case 4: err = fs_unlink(&t.w->fs, &t.w->ctx, t.dir, S("m"), false); break;
        default: err = fs_rmdir(&t.w->fs, &t.w->ctx, t.dir, S("empty")); break;
        }
        assert_int_equal(err, 0);
        struct fs_attr is = world_attr(t.w, t.dir);
        assert_true(is.mtime > was.mtime && is.ctime > was.ctime && is.version == was.version + 1);
        was = is;
    }
    tree_free(&t);
}

static void test_setattr(void **state)
{
    (void)state;
    struct tree t = tree_new();
    struct fs_attr in = {.mode = 07123, .uid = 1, .gid = 2, .size = 9, .atime = 3, .mtime = 4, .ctime = 5}, a;
    uint64_t digest = omap_digest(t.w->fs.map);
    assert_int_equal(fs_setattr(&t.w->fs, &t.w->ctx, t.file, 0, &in, &a), 0);
    assert_true(omap_digest(t.w->fs.map) == digest);
    assert_int_equal(a.mode, S_IFREG | 0644);
    assert_int_equal(fs_setattr(&t.w->fs, &t.w->ctx, t.file, FS_SET_UID, &in, &a), 0);
    assert_int_equal(a.uid, 1);
    assert_int_equal(a.gid, 20);
    assert_int_equal(fs_setattr(&t.w->fs, &t.w->ctx, t.file, FS_SET_MODE | FS_SET_GID | FS_SET_SIZE, &in, &a), 0);
    assert_int_equal(a.mode, S_IFREG | 07123);
    assert_int_equal(a.gid, 2);
    assert_int_equal(a.size, 9);
    in.ctime = a.ctime + 1000;
    assert_int_equal(fs_setattr(&t.w->fs, &t.w->ctx, t.file, FS_SET_CTIME, &in, &a), 0);
    assert_int_equal(a.ctime, in.ctime);
    in.ctime = 5;
    assert_int_equal(fs_setattr(&t.w->fs, &t.w->ctx, t.file, FS_SET_CTIME, &in, &a), 0);
    assert_true(a.ctime > 1000);
    assert_int_equal(fs_setattr(&t.w->fs, &t.w->ctx, ino_of(t.w, t.dir, "link"), FS_SET_SIZE, &in, &a), -EINVAL);
    tree_free(&t);
}

static void test_xattr(void **state)
{
    (void)state;
    struct tree t = tree_new();
    struct fs *fs = &t.w->fs;
    const struct fs_ctx *c = &t.w->ctx;
    struct slice v, n = S("user.a");
    struct buf names = {0};
    uint8_t *big = xcalloc(1, FS_XATTR_VALUE_MAX + 1);
    struct fs_attr was = world_attr(t.w, t.file);
    assert_int_equal(fs_getxattr(fs, t.file, n, &v), -ENODATA);
    assert_int_equal(fs_removexattr(fs, c, t.file, n), -ENODATA);
    assert_int_equal(fs_setxattr(fs, c, t.file, n, S("1"), 2), -ENODATA);
    assert_int_equal(fs_setxattr(fs, c, t.file, n, S("1"), 1), 0);
    assert_int_equal(fs_setxattr(fs, c, t.file, n, S("2"), 1), -EEXIST);
    assert_int_equal(fs_setxattr(fs, c, t.file, n, S("3"), 2), 0);
    assert_int_equal(fs_setxattr(fs, c, t.file, S("user"), slice_of(big, FS_XATTR_VALUE_MAX), 0), 0);
    assert_int_equal(fs_setxattr(fs, c, t.file, S("user.b"), slice_of(big, FS_XATTR_VALUE_MAX + 1), 0), -E2BIG);
    assert_int_equal(fs_setxattr(fs, c, t.file, n, S("3"), 4), -EINVAL);
    assert_int_equal(fs_setxattr(fs, c, t.file, NONE, S("3"), 0), -ERANGE);
    assert_int_equal(fs_setxattr(fs, c, t.file, slice_of(long_name, 256), S("3"), 0), -ERANGE);
    assert_int_equal(fs_setxattr(fs, c, t.file, slice_of("a\0b", 3), S("3"), 0), -EINVAL);
    assert_int_equal(fs_setxattr(fs, c, 999, n, S("3"), 0), -ENOENT);
    assert_int_equal(fs_setxattr(fs, c, t.file, S("user.empty"), NONE, 0), 0);
    assert_int_equal(fs_getxattr(fs, t.file, n, &v), 0);
    assert_true(slice_eq(v, S("3")));
    assert_int_equal(fs_getxattr(fs, t.file, S("user.empty"), &v), 0);
    assert_int_equal(v.n, 0);
    assert_int_equal(fs_listxattr(fs, t.file, &names), 0);
    assert_true(slice_eq(buf_slice(&names), slice_of("user\0user.a\0user.empty\0", 23)));
    struct fs_attr is = world_attr(t.w, t.file);
    assert_true(is.has_xattr && is.ctime > was.ctime && is.mtime == was.mtime && is.version == was.version);
    assert_int_equal(fs_removexattr(fs, c, t.file, S("user")), 0);
    assert_int_equal(fs_removexattr(fs, c, t.file, n), 0);
    assert_true(world_attr(t.w, t.file).has_xattr);
    assert_int_equal(fs_removexattr(fs, c, t.file, S("user.empty")), 0);
    assert_false(world_attr(t.w, t.file).has_xattr);
    assert_int_equal(fs_setxattr(fs, c, t.empty, n, S("4"), 0), 0);
    assert_int_equal(fs_rmdir(fs, c, t.dir, S("empty")), 0);                     /* they go with their owner */
    buf_free(&names);
    free(big);
    tree_free(&t);
}

int main(void)
{
    memset(long_name, 'n', sizeof(long_name) - 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_names),       cmocka_unit_test(test_dots),
        cmocka_unit_test(test_bad_parents),     cmocka_unit_test(test_mknod),
        cmocka_unit_test(test_create),          cmocka_unit_test(test_setgid),
        cmocka_unit_test(test_link),            cmocka_unit_test(test_link_limit),
        cmocka_unit_test(test_subdir_limit),    cmocka_unit_test(test_unlink_rmdir),
        cmocka_unit_test(test_rename_plain),    cmocka_unit_test(test_rename_over),
        cmocka_unit_test(test_rename_hard_links), cmocka_unit_test(test_rename_loops),
        cmocka_unit_test(test_rename_exchange), cmocka_unit_test(test_parent_times),
        cmocka_unit_test(test_setattr),         cmocka_unit_test(test_xattr),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
