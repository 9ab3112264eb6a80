/* test_fs_model.c - thousands of random operations against the plain tree of model.c: results, attributes, contents and
 * listings must agree; a failed operation changes nothing; fs_check and the live record hold; maps that were retained
 * on the way still read as they did. */
#include <stdio.h>
#include <stdlib.h>

#include "model.h"
#include "world.h"

#define SEEDS 10
#define STEPS 2500
#define SNAPSHOTS 4

struct run {
    struct world *w;
    struct model *m;
    struct prng r;
    uint64_t seed;
    uint64_t step;
    uint8_t data[8192];
    char name[2][300];
    char key[64];
    struct fs snaps[SNAPSHOTS];
    struct buf dumps[SNAPSHOTS];
};

/* ---- choices ----------------------------------------------------------------------------------------------------- */

static uint64_t below(struct run *t, uint64_t n) { return prng_below(&t->r, n); }
static bool chance(struct run *t, uint32_t percent) { return prng_chance(&t->r, percent); }

static struct slice pick_name(struct run *t, int which)
{
    static const char *const plain[] = {"a", "b", "c", "a.b", "a-", "ab", "dir", "x y", "\xc3\xa4"};
    char *to = t->name[which];
    if (chance(t, 95)) {
        snprintf(to, 300, "%s", plain[below(t, sizeof(plain) / sizeof(plain[0]))]);
    } else {
        static const char *const odd[] = {"", ".", "..", "a/b", "/"};
        uint64_t i = below(t, 7);
        if (i < 5) snprintf(to, 300, "%s", odd[i]);
        if (i >= 5) {
            memset(to, 'n', 300);
            to[i == 5 ? 255 : 256] = 0;
        }
    }
    return slice_str(to);
}

static struct slice pick_key(struct run *t)
{
    static const char *const parts[] = {"a", "b", "k", "a.b", "a-", "ab", "dir"};
    size_t n = 0;
    for (uint64_t left = 1 + below(t, 4); left; left--)
        n += (size_t)snprintf(t->key + n, sizeof(t->key) - n, "%s%s", n ? "/" : "", parts[below(t, 7)]);
    if (chance(t, 3)) snprintf(t->key, sizeof(t->key), "%s", chance(t, 50) ? "a//b" : chance(t, 50) ? "/a" : "a/");
    return slice_str(t->key);
}

/* Mostly one that is there, of that type (0: any). */
static uint64_t pick_ino(struct run *t, uint32_t type)
{
    for (int tries = 0; tries < 40; tries++) {
        uint64_t ino = 1 + below(t, t->m->nnodes);
        /* Prefer the young: the old ones are mostly gone. */
        if (chance(t, 70) && t->m->nnodes > 20) ino = t->m->nnodes - 1 - below(t, 20);
        struct mnode *n = model_node(t->m, ino);
        if (n && (type == 0 || (n->a.mode & S_IFMT) == type)) return ino;
        if (chance(t, 1)) return ino;
    }
    return FS_ROOT_INO;
}

static uint64_t pick_dir(struct run *t) { return chance(t, 25) ? FS_ROOT_INO : pick_ino(t, S_IFDIR); }
static uint64_t pick_file(struct run *t) { return pick_ino(t, chance(t, 97) ? S_IFREG : 0); }

/* Small and round numbers, near the border of inline files and of blocks. */
static uint64_t pick_off(struct run *t)
{
    static const uint64_t corner[] = {0, 1, 255, 256, 257, 511, 512, 513, 4096};
    if (chance(t, 30)) return corner[below(t, sizeof(corner) / sizeof(corner[0]))];
    return below(t, chance(t, 50) ? 300 : 6000);
}

static struct slice pick_data(struct run *t)
{
    size_t n = chance(t, 50) ? below(t, 100) : below(t, chance(t, 80) ? 600 : sizeof(t->data));
    for (size_t i = 0; i < n; i++) t->data[i] = (uint8_t)(1 + below(t, 255));
    return slice_of(t->data, n);
}

static void pass_time(struct run *t)
{
    /* The clock may stand still, and jump back. */
    if (chance(t, 80)) t->w->ctx.now += (int64_t)below(t, 1000);
    if (chance(t, 1)) t->w->ctx.now -= 500;
    t->w->ctx.session = below(t, 5);
    t->w->ctx.uid = (uint32_t)below(t, 3);
    t->w->ctx.gid = (uint32_t)below(t, 3);
}

/* ---- comparing --------------------------------------------------------------------------------------------------- */

static void same_attr(const struct fs_attr *is, const struct mnode *n)
{
    struct fs_attr must = n->a;
    must.blocks = is->blocks;
    must.has_xattr = n->nxattrs > 0;
    assert_int_equal(is->ino, must.ino);
    assert_int_equal(is->mode, must.mode);
    assert_int_equal(is->nlink, must.nlink);
    assert_int_equal(is->uid, must.uid);
    assert_int_equal(is->gid, must.gid);
    assert_int_equal(is->rdev, must.rdev);
    assert_int_equal(is->size, must.size);
    assert_int_equal(is->atime, must.atime);
    assert_int_equal(is->mtime, must.mtime);
    assert_int_equal(is->ctime, must.ctime);
    assert_int_equal(is->btime, must.btime);
    assert_int_equal(is->version, must.version);
    assert_int_equal(is->has_xattr, must.has_xattr);
}

struct listing {
    const struct mnode *dir;
    size_t at, most;
};

static bool compare_entry(void *ctx, struct slice name, const struct fs_attr *attr)
{
    struct listing *l = ctx;
    assert_true(l->at < l->dir->nentries);
    const struct mentry *e = &l->dir->entries[l->at++];
    assert_true(slice_eq(name, slice_str(e->name)));
    same_attr(attr, e->node);
    return --l->most > 0;
}

/* The listing in pieces of random lengths, each going on behind the last name. */
static void compare_dir(struct run *t, const struct mnode *n)
{
    struct listing l = {.dir = n};
    struct slice after = {0};
    int ended = 0;
    while (!ended) {
        l.most = 1 + below(t, 5);
        ended = fs_readdir(&t->w->fs, n->a.ino, after, compare_entry, &l);
        assert_true(ended == 0 || ended == 1);
        if (l.at) after = slice_str(n->entries[l.at - 1].name);
    }
    assert_int_equal(l.at, n->nentries);
}

static void compare_contents(struct run *t, const struct mnode *n)
{
    struct buf got = {0};
    uint64_t off = pick_off(t);
    uint32_t len = (uint32_t)below(t, 8000);
    uint64_t must = off < n->bytes.n ? min_u64(len, n->bytes.n - off) : 0;
    assert_int_equal(world_read(t->w, &t->w->fs, n->a.ino, off, len, &got), must);
    if (must) assert_memory_equal(got.p, n->bytes.p + off, must);
    buf_clear(&got);
    assert_int_equal(world_read(t->w, &t->w->fs, n->a.ino, 0, UINT32_MAX, &got), n->bytes.n);
    if (n->bytes.n) assert_memory_equal(got.p, n->bytes.p, n->bytes.n);
    buf_free(&got);
}

static void compare_xattrs(struct run *t, const struct mnode *n)
{
    struct buf names = {0};
    size_t bytes = 0;
    for (size_t i = 0; i < n->nxattrs; i++) {
        struct slice value;
        assert_int_equal(fs_getxattr(&t->w->fs, n->a.ino, S(n->xattrs[i].name), &value), 0);
        assert_true(slice_eq(value, buf_slice(&n->xattrs[i].value)));
        bytes += strlen(n->xattrs[i].name) + 1;
    }
    assert_int_equal(fs_listxattr(&t->w->fs, n->a.ino, &names), 0);
    assert_int_equal(names.n, bytes);
    buf_free(&names);
}

/* SEEK_DATA and SEEK_HOLE against the bytes: what lies in a hole is zero, and the end is one. */
static void compare_seek(struct run *t, const struct mnode *n)
{
    uint64_t off = pick_off(t);
    int64_t data = fs_seek(&t->w->fs, n->a.ino, off, false), hole = fs_seek(&t->w->fs, n->a.ino, off, true);
    if (off >= n->bytes.n) {
        assert_int_equal(data, -ENXIO);
        assert_int_equal(hole, -ENXIO);
        return;
    }
    assert_true(hole >= (int64_t)off && hole <= (int64_t)n->bytes.n);
    assert_true(data == -ENXIO || (data >= (int64_t)off && data < (int64_t)n->bytes.n));
    uint64_t zeros_to = data < 0 ? n->bytes.n : (uint64_t)data;
    for (uint64_t i = off; i < zeros_to; i++) assert_int_equal(n->bytes.p[i], 0);
    assert_true((hole == (int64_t)off) != (data == (int64_t)off));
}

static void compare_node(struct run *t, const struct mnode *n)
{
    struct fs_attr a;
    struct slice target;
    assert_int_equal(fs_getattr(&t->w->fs, n->a.ino, &a), 0);
    same_attr(&a, n);
    compare_xattrs(t, n);
    if (S_ISDIR(a.mode)) {
        compare_dir(t, n);
        assert_int_equal(fs_lookup(&t->w->fs, a.ino, S(".."), &a), 0);
        assert_int_equal(a.ino, n->parent->a.ino);
    } else if (S_ISREG(a.mode)) {
        compare_contents(t, n);
        compare_seek(t, n);
    } else if (S_ISLNK(a.mode)) {
        assert_int_equal(fs_readlink(&t->w->fs, a.ino, &target), 0);
        assert_true(slice_eq(target, buf_slice(&n->bytes)));
    }
}

/* ---- listing of keys --------------------------------------------------------------------------------------------- */

struct keys {
    struct buf *v;
    size_t n, at;
    uint64_t *ino;
};

static void add_keys(struct keys *k, const struct mnode *dir, const char *path)
{
    for (size_t i = 0; i < dir->nentries; i++) {
        char sub[4200];
        const struct mnode *n = dir->entries[i].node;
        int len = snprintf(sub, sizeof(sub), "%s%s", path, dir->entries[i].name);
        if (S_ISDIR(n->a.mode)) {
            snprintf(sub + len, sizeof(sub) - (size_t)len, "/");
            add_keys(k, n, sub);
        } else if (S_ISREG(n->a.mode)) {
            k->v = xrealloc(k->v, (k->n + 1) * sizeof(struct buf));
            k->v[k->n] = (struct buf){0};
            buf_append(&k->v[k->n++], sub, (size_t)len);
        }
    }
}

static int compare_bufs(const void *a, const void *b)
{
    const struct buf *x = a, *y = b;
    return slice_cmp(buf_slice(x), buf_slice(y));
}

struct wanted {
    struct run *t;
    struct keys *keys;
    struct slice prefix, from;
    size_t most;
};

static bool wanted(const struct wanted *x, struct slice key)
{
    bool begins = key.n >= x->prefix.n && (x->prefix.n == 0 || memcmp(key.p, x->prefix.p, x->prefix.n) == 0);
    return begins && slice_cmp(key, x->from) >= 0;
}

static bool compare_key(void *ctx, struct slice key, const struct fs_attr *attr)
{
    struct wanted *x = ctx;
    struct mnode *n;
    while (x->keys->at < x->keys->n && !wanted(x, buf_slice(&x->keys->v[x->keys->at]))) x->keys->at++;
    assert_true(x->keys->at < x->keys->n);
    assert_true(slice_eq(key, buf_slice(&x->keys->v[x->keys->at])));
    x->keys->at++;
    assert_int_equal(model_walk(x->t->m, key, &n), 0);
    same_attr(attr, n);
    return --x->most > 0;
}

static void compare_list(struct run *t)
{
    struct keys k = {0};
    add_keys(&k, model_node(t->m, FS_ROOT_INO), "");
    if (k.n) qsort(k.v, k.n, sizeof(struct buf), compare_bufs);
    for (int round = 0; round < 8; round++) {
        struct slice from = {0}, prefix = {0};
        char other[64];
        if (round && k.n && chance(t, 50)) {
            /* A key that is there, or a part of one. */
            from = buf_slice(&k.v[below(t, k.n)]);
            if (chance(t, 50)) from.n = below(t, from.n + 1);
        } else if (round) {
            from = pick_key(t);
        }
        if (round && chance(t, 50)) {
            snprintf(other, sizeof(other), "%s", t->key);
            prefix = S(other);
            prefix.n = below(t, prefix.n + 1);
        }
        struct wanted x = {.t = t, .keys = &k, .prefix = prefix, .from = from, .most = 1 + below(t, 2 * k.n + 1)};
        k.at = 0;
        assert_int_equal(fs_list(&t->w->fs, prefix, from, compare_key, &x), 0);
        for (; x.most && k.at < k.n; k.at++) assert_false(wanted(&x, buf_slice(&k.v[k.at])));
    }
    for (size_t i = 0; i < k.n; i++) buf_free(&k.v[i]);
    free(k.v);
}

static void compare_all(struct run *t)
{
    uint64_t files = 0, dirs = 0;
    for (size_t i = 1; i < t->m->nnodes; i++) {
        struct fs_attr a;
        const struct mnode *n = model_node(t->m, i);
        if (!n) {
            assert_int_equal(fs_getattr(&t->w->fs, i, &a), -ENOENT);
            continue;
        }
        compare_node(t, n);
        if (S_ISDIR(n->a.mode)) {
            dirs++;
        } else {
            files++;
        }
    }
    struct fs_usage u;
    fs_usage(&t->w->fs, &u);
    assert_int_equal(u.files, files);
    assert_int_equal(u.dirs, dirs);
    compare_list(t);
    for (uint64_t s = 1; s < 5; s++) {
        uint64_t owed[64];
        uint32_t n = fs_owed(&t->w->fs, s, 0, owed, 64), must = 0;
        for (size_t i = 1; i < t->m->nnodes; i++) {
            const struct mnode *node = model_node(t->m, i);
            for (size_t j = 0; node && j < node->nowed; j++)
                if (node->owed[j] == s && must++ < 64) assert_int_equal(owed[must - 1], i);
        }
        assert_int_equal(n, min_u64(must, 64));
    }
    world_check(t->w);
}

/* ---- operations -------------------------------------------------------------------------------------------------- */

static int64_t step_names(struct run *t, uint64_t what, int64_t *must)
{
    static const uint32_t types[] = {S_IFREG, 0,       S_IFIFO, S_IFSOCK, S_IFCHR,
                                     S_IFBLK, S_IFLNK, S_IFLNK, S_IFLNK,  S_IFDIR};
    struct fs *fs = &t->w->fs;
    const struct fs_ctx *c = &t->w->ctx;
    struct fs_attr a;
    struct mnode *n;
    uint64_t dir = pick_dir(t), dir2 = pick_dir(t), ino = pick_ino(t, 0);
    struct slice name = pick_name(t, 0), name2 = pick_name(t, 1);
    uint32_t mode = (uint32_t)below(t, 010000), type = types[below(t, 10)];
    bool flag = chance(t, 30), made[2];
    int64_t err;
    switch (what) {
    case 0:
        if (chance(t, 40)) type = S_IFDIR;
        *must = model_mknod(t->m, c, dir, name, type | mode, 77, name2, &n);
        err = fs_mknod(fs, c, dir, name, type | mode, 77, name2, &a);
        break;
    case 1:
        *must = model_create(t->m, c, dir, name, mode, flag, &n, &made[0]);
        err = fs_create(fs, c, dir, name, mode, flag, &a, &made[1]);
        assert_int_equal(made[0], made[1]);
        break;
    case 2:
        *must = model_link(t->m, c, ino, dir, name);
        err = fs_link(fs, c, ino, dir, name, &a);
        n = model_node(t->m, ino);
        break;
    case 3:
        *must = model_unlink(t->m, c, dir, name, flag);
        return fs_unlink(fs, c, dir, name, flag);
    case 4:
        *must = model_rmdir(t->m, c, dir, name);
        return fs_rmdir(fs, c, dir, name);
    case 5: {
        uint32_t how = chance(t, 60) ? 0 : (uint32_t)below(t, 4);
        if (chance(t, 30)) dir2 = dir;
        *must = model_rename(t->m, c, dir, name, dir2, name2, how, flag);
        return fs_rename(fs, c, dir, name, dir2, name2, how, flag);
    }
    default:
        *must = model_lookup(t->m, dir, name, &n);
        err = fs_lookup(fs, dir, name, &a);
        break;
    }
    if (err == 0 && *must == 0) same_attr(&a, n);
    return err;
}

static int64_t step_data(struct run *t, uint64_t what, int64_t *must)
{
    static const uint32_t modes[] = {0, 1, 3, 3, 16, 17, 2, 8};
    struct fs *fs = &t->w->fs;
    const struct fs_ctx *c = &t->w->ctx;
    struct fs_attr a;
    uint64_t ino = pick_file(t), ino2 = chance(t, 30) ? ino : pick_file(t), at[2] = {0};
    uint64_t off = pick_off(t), off2 = pick_off(t), len = chance(t, 5) ? 0 : pick_off(t);
    if (chance(t, 1)) off = FS_SIZE_MAX - below(t, 3) + 1;
    struct slice data = pick_data(t);
    uint32_t mode = modes[below(t, 8)];
    bool append = chance(t, 30);
    int64_t err;
    if (off > 10000 && what != 0) off = 9999;
    switch (what) {
    case 0:
        if (off > 10000 && off + data.n <= FS_SIZE_MAX) off = FS_SIZE_MAX + 1;
        *must = model_write(t->m, c, ino, off, append, data, &at[0]);
        err = fs_write(fs, c, ino, off, append, data, world_log(t->w, data), &a, &at[1]);
        assert_int_equal(at[0], at[1]);
        break;
    case 1:
        *must = model_fallocate(t->m, c, ino, mode, off, len);
        err = fs_fallocate(fs, c, ino, mode, off, len, &a);
        break;
    case 2:
        *must = model_copy_range(t->m, c, ino2, off2, ino, off, len);
        err = fs_copy_range(fs, c, ino2, off2, ino, off, len, &a);
        break;
    default: {
        struct fs_attr in = {.mode = (uint32_t)below(t, 010000),
                             .uid = (uint32_t)below(t, 9),
                             .gid = (uint32_t)below(t, 9),
                             .size = chance(t, 1) ? FS_SIZE_MAX + 1 : off,
                             .atime = (int64_t)below(t, 5000) - 2500,
                             .mtime = chance(t, 20) ? INT64_MAX - 5 : (int64_t)below(t, 5000)};
        uint32_t mask = (uint32_t)below(t, 256);
        if (chance(t, 50)) mask = FS_SET_SIZE;
        if (chance(t, 30)) ino = pick_ino(t, 0);
        *must = model_setattr(t->m, c, ino, mask, &in);
        err = fs_setattr(fs, c, ino, mask, &in, &a);
        break;
    }
    }
    if (err >= 0 && *must >= 0) same_attr(&a, model_node(t->m, ino));
    return err;
}

static int64_t step_other(struct run *t, uint64_t what, int64_t *must)
{
    static const char *const xattrs[] = {"user.a", "user.b", "trusted.c"};
    struct fs *fs = &t->w->fs;
    const struct fs_ctx *c = &t->w->ctx;
    struct fs_attr a;
    struct mnode *n;
    uint64_t ino = pick_ino(t, 0), session = 1 + below(t, 4);
    struct slice data = pick_data(t), x = S(xattrs[below(t, 3)]), key = pick_key(t);
    uint32_t flags = (uint32_t)below(t, 4);
    bool append = chance(t, 30);
    int64_t err;
    switch (what) {
    case 0:
        *must = model_setxattr(t->m, c, ino, x, data, flags);
        return fs_setxattr(fs, c, ino, x, data, flags);
    case 1:
        *must = model_removexattr(t->m, c, ino, x);
        return fs_removexattr(fs, c, ino, x);
    case 2:
        model_session_add(t->m, session);
        fs_session_add(fs, session);
        return *must = 0;
    case 3:
        if (chance(t, 70)) return *must = 0;
        model_session_del(t->m, session);
        fs_session_del(fs, session);
        return *must = 0;
    case 4:
        for (uint64_t i = 1; i < t->m->nnodes; i++) {
            if (!chance(t, 20)) continue;
            model_release(t->m, c, i);
            fs_release(fs, c, i);
        }
        return *must = 0;
    case 5:
        *must = model_put(t->m, c, key, data, append, &n);
        err = append ? fs_append(fs, c, key, data, world_log(t->w, data), &a)
                     : fs_put(fs, c, key, data, world_log(t->w, data), &a);
        break;
    case 6:
        *must = model_delete(t->m, c, key);
        return fs_delete(fs, c, key);
    default:
        *must = model_walk(t->m, key, &n);
        err = fs_walk(fs, key, &a);
        break;
    }
    if (err == 0 && *must == 0) same_attr(&a, n);
    return err;
}

static void step(struct run *t)
{
    int64_t must = 0, err;
    uint64_t before = omap_digest(t->w->fs.map), kind = below(t, 100);
    pass_time(t);
    if (kind < 45) {
        err = step_names(t, below(t, 7), &must);
    } else if (kind < 75) {
        err = step_data(t, chance(t, 50) ? 0 : below(t, 4), &must);
    } else {
        err = step_other(t, below(t, 8), &must);
    }
    if (err != must) print_error("step of kind %llu gives %lld, not %lld\n", (unsigned long long)kind, (long long)err,
                                 (long long)must);
    assert_int_equal(err, must);
    if (err < 0) assert_true(omap_digest(t->w->fs.map) == before);
}

/* Goes on with a map made from the rows, as after a snapshot was loaded. */
static void reload(struct run *t)
{
    struct omap *copy = omap_new();
    struct omap_iter it;
    for (bool ok = omap_seek(&it, t->w->fs.map, S("\1")); ok; ok = omap_next(&it))
        omap_put(copy, omap_iter_key(&it), omap_iter_value(&it));
    assert_true(omap_digest(copy) == omap_digest(t->w->fs.map));
    omap_free(t->w->fs.map);
    t->w->fs.map = copy;
}

static void snapshot(struct run *t)
{
    size_t i = below(t, SNAPSHOTS);
    if (t->snaps[i].map) {
        struct buf now = {0};
        world_dump(t->w, &t->snaps[i], &now);
        assert_true(slice_eq(buf_slice(&now), buf_slice(&t->dumps[i])));
        assert_int_equal(fs_check(&t->snaps[i], NULL), 0);
        buf_free(&now);
        buf_free(&t->dumps[i]);
        omap_free(t->snaps[i].map);
    }
    t->snaps[i] = (struct fs){.map = omap_snapshot(t->w->fs.map)};
    world_dump(t->w, &t->snaps[i], &t->dumps[i]);
}

/* With all sessions gone and everything deleted, nothing is left: no row but the root's and the counters, no live byte.
 */
static void delete_all(struct run *t, uint64_t dir)
{
    const struct mnode *n = model_node(t->m, dir);
    while (n->nentries) {
        const struct mentry *e = &n->entries[n->nentries - 1];
        struct slice name = S(e->name);
        t->w->ctx.now++;
        if (S_ISDIR(e->node->a.mode)) {
            delete_all(t, e->node->a.ino);
            assert_int_equal(fs_rmdir(&t->w->fs, &t->w->ctx, dir, name), 0);
            assert_int_equal(model_rmdir(t->m, &t->w->ctx, dir, name), 0);
        } else {
            assert_int_equal(fs_unlink(&t->w->fs, &t->w->ctx, dir, name, false), 0);
            assert_int_equal(model_unlink(t->m, &t->w->ctx, dir, name, false), 0);
        }
    }
}

static void end(struct run *t)
{
    struct fs_usage u;
    for (uint64_t s = 1; s < 5; s++) {
        fs_session_del(&t->w->fs, s);
        model_session_del(t->m, s);
    }
    compare_all(t);
    delete_all(t, FS_ROOT_INO);
    while (model_node(t->m, FS_ROOT_INO)->nxattrs) {
        char name[32];
        memcpy(name, model_node(t->m, FS_ROOT_INO)->xattrs[0].name, sizeof(name));
        assert_int_equal(fs_removexattr(&t->w->fs, &t->w->ctx, FS_ROOT_INO, S(name)), 0);
        assert_int_equal(model_removexattr(t->m, &t->w->ctx, FS_ROOT_INO, S(name)), 0);
    }
    compare_all(t);
    fs_usage(&t->w->fs, &u);
    assert_int_equal(u.files, 0);
    assert_int_equal(u.dirs, 1);
    assert_int_equal(u.bytes, 0);
    assert_int_equal(t->w->live_bytes, 0);
    assert_int_equal(omap_count(t->w->fs.map), 2);
}

/* The digest before everything was deleted. */
static uint64_t run_seed(uint64_t seed)
{
    struct run *t = xcalloc(1, sizeof(*t));
    t->seed = seed;
    prng_seed(&t->r, seed);
    t->w = world_new();
    t->m = model_new(t->w->ctx.now);
    for (t->step = 0; t->step < STEPS; t->step++) {
        step(t);
        if (t->step % 50 == 0) compare_all(t);
        if (t->step % 97 == 0) snapshot(t);
        if (t->step % 811 == 0) reload(t);
    }
    uint64_t digest = omap_digest(t->w->fs.map);
    end(t);
    for (size_t i = 0; i < SNAPSHOTS; i++) {
        buf_free(&t->dumps[i]);
        if (t->snaps[i].map) omap_free(t->snaps[i].map);
    }
    model_free(t->m);
    world_free(t->w);
    free(t);
    return digest;
}

static void test_model(void **state)
{
    (void)state;
    const char *one = getenv("QFS_SEED");
    uint64_t from = one ? strtoull(one, NULL, 0) : 1, to = one ? from + 1 : from + SEEDS;
    for (uint64_t seed = from; seed < to; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        run_seed(seed);
    }
}

/* The same operations give the same rows. */
static void test_deterministic(void **state)
{
    (void)state;
    assert_true(run_seed(99) == run_seed(99));
    assert_false(run_seed(99) == run_seed(98));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_model), cmocka_unit_test(test_deterministic)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
