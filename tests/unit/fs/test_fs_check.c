/* test_fs_check.c - damaged rows: fs_check finds what contradicts, and no operation crashes, hangs or reads out of
 * bounds whatever the rows say. */
#include <stdio.h>
#include <stdlib.h>

#include "fs/inode.h"
#include "fs/payload.h"
#include "world.h"

#define FUZZ_ROUNDS 1500
#define FUZZ_CALLS 60

struct row {
    struct slice key, value;
};

/* The rows of a map, to build others from. */
struct rows {
    struct row *v;
    size_t n;
    struct omap *owner;
};

static struct rows rows_of(struct omap *map)
{
    struct rows r = {.owner = omap_snapshot(map)};
    struct omap_iter it;
    for (bool ok = omap_seek(&it, r.owner, S("\0")); ok; ok = omap_next(&it)) {
        r.v = xrealloc(r.v, (r.n + 1) * sizeof(*r.v));
        struct slice key = omap_iter_key(&it), value = omap_iter_value(&it);
        uint8_t *copy = xmalloc(key.n + value.n + 1);
        memcpy(copy, key.p, key.n);
        if (value.n) memcpy(copy + key.n, value.p, value.n);
        r.v[r.n++] = (struct row){slice_of(copy, key.n), slice_of(copy + key.n, value.n)};
    }
    return r;
}

static void rows_free(struct rows *r)
{
    for (size_t i = 0; i < r->n; i++) free((void *)(uintptr_t)r->v[i].key.p);
    free(r->v);
    omap_free(r->owner);
}

/* A filesystem with something of everything. */
static struct world *rich(void)
{
    struct world *w = world_new();
    struct fs *fs = &w->fs;
    struct fs_ctx *c = &w->ctx;
    uint8_t big[5000];
    struct fs_attr a;
    memset(big, 'x', sizeof(big));
    uint64_t d = world_dir(w, FS_ROOT_INO, "d"), e = world_dir(w, d, "e");
    world_dir(w, e, "empty");
    uint64_t small = world_file(w, d, "small"), large = world_file(w, e, "large"), copy = world_file(w, d, "copy");
    assert_int_equal(world_write(w, small, 0, "hello", 5), 0);
    assert_int_equal(world_write(w, large, 0, big, 5000), 0);
    assert_int_equal(world_write(w, large, 1000, big, 700), 0);
    assert_int_equal(world_write(w, large, 9000, big, 1), 0);
    assert_int_equal(fs_copy_range(fs, c, large, 500, copy, 0, 3000, NULL), 3000);
    assert_int_equal(fs_copy_range(fs, c, small, 1, copy, 7000, 3, NULL), 3);
    assert_int_equal(fs_link(fs, c, small, e, S("hard"), NULL), 0);
    assert_int_equal(fs_mknod(fs, c, d, S("link"), S_IFLNK, 0, S("e/large"), NULL), 0);
    assert_int_equal(fs_mknod(fs, c, d, S("dev"), S_IFCHR | 0600, 0x105, (struct slice){0}, NULL), 0);
    assert_int_equal(fs_setxattr(fs, c, small, S("user.one"), S("1"), 0), 0);
    assert_int_equal(fs_setxattr(fs, c, e, S("user.dir"), S("2"), 0), 0);
    assert_int_equal(world_put(w, "made/by/put", big, 300), 0);
    fs_session_add(fs, 5);
    fs_session_add(fs, 6);
    assert_int_equal(fs_create(fs, c, d, S("gone"), 0644, true, &a, NULL), 0);
    assert_int_equal(world_write(w, a.ino, 0, big, 2000), 0);
    assert_int_equal(fs_unlink(fs, c, d, S("gone"), false), 0);
    assert_int_equal(fs_getattr(fs, a.ino, &a), 0);
    omap_put(w->fs.map, S("s........"), S("kv's own row"));
    omap_put(w->fs.map, S("r"), S("kv's own row"));
    world_check(w);
    return w;
}

static void test_missing_rows(void **state)
{
    (void)state;
    struct world *w = rich();
    struct rows r = rows_of(w->fs.map);
    for (size_t i = 0; i < r.n; i++) {
        bool ours = !strchr("sr", r.v[i].key.p[0]);
        assert_true(omap_del(w->fs.map, r.v[i].key));
        if (world_damaged(w) != ours) print_error("row of kind %c\n", r.v[i].key.p[0]);
        assert_int_equal(world_damaged(w), ours);
        omap_put(w->fs.map, r.v[i].key, r.v[i].value);
    }
    world_check(w);
    rows_free(&r);
    world_free(w);
}

/* A row more than there should be, a copy of another one under a neighbouring key. */
static void test_surplus_rows(void **state)
{
    (void)state;
    struct world *w = rich();
    struct rows r = rows_of(w->fs.map);
    for (size_t i = 0; i < r.n; i++) {
        uint8_t key[OMAP_KEY_MAX];
        size_t n = r.v[i].key.n;
        struct slice old;
        if (strchr("srm", r.v[i].key.p[0])) continue;
        memcpy(key, r.v[i].key.p, n);
        key[n] = 'z';                                                    /* longer */
        bool named = strchr("ea", key[0]);
        omap_put(w->fs.map, slice_of(key, n + 1), r.v[i].value);
        if (key[0] != 'a') assert_true(world_damaged(w) || (key[0] == 'g' && n == 0));
        assert_true(omap_del(w->fs.map, slice_of(key, n + 1)));
        if (n < 3) continue;
        key[named ? 1u + key[1] : n - 1] ^= 0x40;                        /* of another object */
        assert_false(omap_get(w->fs.map, slice_of(key, n), &old));
        omap_put(w->fs.map, slice_of(key, n), r.v[i].value);
        assert_true(world_damaged(w));
        assert_true(omap_del(w->fs.map, slice_of(key, n)));
    }
    world_check(w);
    rows_free(&r);
    world_free(w);
}

/* Rows whose every bit says something that another row says, too. */
static bool every_bit_counts(const struct row *r)
{
    switch (r->key.p[0]) {
    case 'e': case 'p': return true;
    case 'x': return r->value.p[0] == 1;
    default: return false;
    }
}

static void test_flipped_bits(void **state)
{
    (void)state;
    struct world *w = rich();
    struct rows r = rows_of(w->fs.map);
    size_t found = 0, all = 0;
    for (size_t i = 0; i < r.n; i++) {
        uint8_t value[4096];
        size_t n = r.v[i].value.n;
        if (strchr("sral", r.v[i].key.p[0])) continue;
        for (size_t bit = 0; bit < 8 * n; bit++) {
            memcpy(value, r.v[i].value.p, n);
            value[bit / 8] ^= (uint8_t)(1u << bit % 8);
            omap_put(w->fs.map, r.v[i].key, slice_of(value, n));
            bool seen = world_damaged(w);
            if (every_bit_counts(&r.v[i])) assert_true(seen);
            found += seen;
            all++;
        }
        for (size_t cut = 0; cut < n; cut++) {
            omap_put(w->fs.map, r.v[i].key, slice_of(r.v[i].value.p, cut));
            assert_true(world_damaged(w) || r.v[i].value.p[0] == 0);     /* inline bytes fewer: only the blocks tell */
        }
        omap_put(w->fs.map, r.v[i].key, r.v[i].value);
    }
    assert_true(found * 3 > all);                                        /* the others: times, owners, modes */
    world_check(w);
    rows_free(&r);
    world_free(w);
}

static void expect_text(struct world *w, const char *part)
{
    struct buf why = {0};
    assert_int_equal(fs_check(&w->fs, &why), -EUCLEAN);
    buf_append(&why, "", 1);
    if (!strstr((const char *)why.p, part)) print_error("text: %s\n", (const char *)why.p);
    assert_non_null(strstr((const char *)why.p, part));
    buf_free(&why);
}

static void test_texts(void **state)
{
    (void)state;
    struct world *w = rich();
    struct rows r = rows_of(w->fs.map);
    for (size_t i = 0; i < r.n; i++) {
        const char *must = NULL;
        switch (r.v[i].key.p[0]) {
        case 'g': must = "no counters"; break;
        case 'l': must = "no target"; break;
        case 'p': must = "payload rows differ"; break;
        case 'q': must = "one of two rows is missing"; break;
        case 'm': must = "not registered"; break;
        case 'a': must = "extended attributes"; break;
        default: break;
        }
        if (!must) continue;
        omap_del(w->fs.map, r.v[i].key);
        expect_text(w, must);
        omap_put(w->fs.map, r.v[i].key, r.v[i].value);
    }
    assert_int_equal(fs_check(&w->fs, NULL), 0);
    rows_free(&r);
    world_free(w);
}

/* ---- certain damage, certain answers --------------------------------------------------------------------------- */

static struct inode inode_at(struct world *w, const char *key)
{
    struct fs_attr a;
    struct inode n;
    assert_int_equal(fs_walk(&w->fs, S(key), &a), 0);
    assert_int_equal(fs__inode_get(w->fs.map, a.ino, &n), 0);
    return n;
}

static void put_row(struct world *w, struct slice key, const char *bytes, size_t n)
{
    omap_put(w->fs.map, key, slice_of(bytes, n));
}

/* A call that must meet the damage, and change nothing. */
#define UNCLEAN(w, call)                                                                                               \
    do {                                                                                                               \
        uint64_t before_ = omap_digest((w)->fs.map);                                                                   \
        assert_int_equal(call, -EUCLEAN);                                                                              \
        assert_true(omap_digest((w)->fs.map) == before_);                                                              \
        assert_true(world_damaged(w));                                                                                 \
    } while (0)

static void no_piece(void *ctx, const struct fs_piece *p)
{
    (void)ctx;
    (void)p;
}

static bool no_key(void *ctx, struct slice key, const struct fs_attr *attr)
{
    (void)ctx;
    (void)key;
    (void)attr;
    return true;
}

static int rename_in(struct world *w, uint64_t dir, const char *name, const char *to)
{
    return fs_rename(&w->fs, &w->ctx, dir, S(name), dir, S(to), 0, false);
}

static void test_payload_missing(void **state)
{
    (void)state;
    struct world *w = rich();
    struct fs_attr a = {.size = 100};
    static const uint8_t big[300];
    uint64_t d = inode_at(w, "d").a.ino, copy = inode_at(w, "d/copy").a.ino, large = inode_at(w, "d/e/large").a.ino;
    w->fs.on_live = NULL;
    fs_session_del(&w->fs, 5);
    fs_session_del(&w->fs, 6);
    struct omap_iter it;
    const uint8_t kind = ROW_PAYLOAD;
    while (omap_seek(&it, w->fs.map, slice_of(&kind, 1)) && omap_iter_key(&it).p[0] == kind)
        omap_del(w->fs.map, omap_iter_key(&it));
    UNCLEAN(w, world_write(w, large, 100, big, 300));
    UNCLEAN(w, fs_setattr(&w->fs, &w->ctx, large, FS_SET_SIZE, &a, NULL));
    UNCLEAN(w, fs_fallocate(&w->fs, &w->ctx, large, 3, 0, 500, NULL));
    UNCLEAN(w, fs_copy_range(&w->fs, &w->ctx, large, 0, inode_at(w, "d/small").a.ino, 0, 3000, NULL));
    UNCLEAN(w, fs_copy_range(&w->fs, &w->ctx, inode_at(w, "d/small").a.ino, 0, large, 0, 3, NULL));
    UNCLEAN(w, world_put(w, "d/copy", big, 300));
    UNCLEAN(w, fs_unlink(&w->fs, &w->ctx, d, S("copy"), false));
    UNCLEAN(w, fs_delete(&w->fs, &w->ctx, S("made/by/put")));
    UNCLEAN(w, rename_in(w, d, "small", "copy"));
    assert_int_equal(fs_read(&w->fs, copy, 0, 100, no_piece, NULL), 100);        /* reading needs no counts */
    world_free(w);
}

/* Two rows that say something about the same bytes. */
static void test_overlaps(void **state)
{
    (void)state;
    struct world *w = rich();
    struct key k;
    uint64_t large = inode_at(w, "d/e/large").a.ino;
    w->fs.on_live = NULL;
    put_row(w, fs__key_pair(&k, ROW_EXTENT, large, 1010), "\1\12\2\3", 4);
    UNCLEAN(w, world_write(w, large, 1005, "x", 1));
    UNCLEAN(w, fs_read(&w->fs, large, 0, 5000, no_piece, NULL));
    UNCLEAN(w, fs_seek(&w->fs, large, 1000, true));
    assert_true(omap_del(w->fs.map, fs__key_pair(&k, ROW_EXTENT, large, 1010)));
    assert_false(world_damaged(w));
    struct omap_iter it;
    struct run x;
    const uint8_t kind = ROW_PAYLOAD;
    assert_true(omap_seek(&it, w->fs.map, slice_of(&kind, 1)));
    uint64_t index = fs__key_get_id(omap_iter_key(&it));
    assert_int_equal(fs__run_decode(omap_iter_key(&it), omap_iter_value(&it), &x), 0);
    put_row(w, fs__key_payload(&k, index, (uint32_t)x.lo + 1), "\1\1", 2);
    assert_int_equal(fs__payload_check(w->fs.map, (struct fs_loc){index, (uint32_t)x.lo}, 1, false), -EUCLEAN);
    assert_int_equal(fs__payload_check(w->fs.map, (struct fs_loc){index, (uint32_t)x.lo + 3}, 1, false), 0);
    assert_true(world_damaged(w));
    world_free(w);
}

static void test_counters_wrong(void **state)
{
    (void)state;
    struct world *w = rich();
    struct fs *fs = &w->fs;
    struct key k;
    struct counters c, bad;
    uint64_t d = inode_at(w, "d").a.ino, small = inode_at(w, "d/small").a.ino, e = inode_at(w, "d/e").a.ino;
    static const uint8_t big[300];
    w->fs.on_live = NULL;
    assert_int_equal(fs__counters_get(fs->map, &c), 0);
    for (int i = 0; i < 3; i++) {
        if (i == 0) omap_del(fs->map, fs__key_counters(&k));
        if (i == 1) put_row(w, fs__key_counters(&k), "\5\5", 2);
        if (i == 2) put_row(w, fs__key_counters(&k), "\1\5\5\5", 4);
        UNCLEAN(w, fs_mknod(fs, &w->ctx, d, S("n"), S_IFREG, 0, (struct slice){0}, NULL));
        UNCLEAN(w, fs_create(fs, &w->ctx, d, S("n"), 0644, false, NULL, NULL));
        UNCLEAN(w, world_write(w, small, 0, "x", 1));
        UNCLEAN(w, fs_unlink(fs, &w->ctx, d, S("small"), false));
        UNCLEAN(w, fs_rmdir(fs, &w->ctx, e, S("empty")));
        UNCLEAN(w, world_put(w, "n/e/w", "x", 1));
        UNCLEAN(w, world_put(w, "d/small", big, 300));
        UNCLEAN(w, rename_in(w, d, "copy", "small"));
        UNCLEAN(w, fs_rename(fs, &w->ctx, FS_ROOT_INO, S("made"), e, S("x"), 0, false));
        struct fs_usage u;
        fs_usage(fs, &u);
        assert_int_equal(u.files, 0);
    }
    bad = c;
    bad.files = 0;
    fs__counters_put(fs->map, &bad);
    UNCLEAN(w, fs_unlink(fs, &w->ctx, d, S("dev"), false));
    bad = c;
    bad.dirs = 1;
    fs__counters_put(fs->map, &bad);
    UNCLEAN(w, fs_rmdir(fs, &w->ctx, e, S("empty")));
    bad = c;
    bad.blocks = 0;
    fs__counters_put(fs->map, &bad);
    UNCLEAN(w, world_put(w, "made/by/put", big, 300));
    bad = c;
    bad.next_ino = ((uint64_t)1 << 62) - 3;
    fs__counters_put(fs->map, &bad);
    assert_int_equal(world_put(w, "a/b/c/d/e/f/g", "x", 1), -EUCLEAN);
    bad = c;
    bad.next_ino = c.next_ino - 1;
    fs__counters_put(fs->map, &bad);
    assert_true(world_damaged(w));
    fs__counters_put(fs->map, &c);
    assert_false(world_damaged(w));
    world_free(w);
}

static void test_entries_wrong(void **state)
{
    (void)state;
    struct world *w = rich();
    struct fs *fs = &w->fs;
    struct key k;
    struct fs_attr a;
    uint64_t d = inode_at(w, "d").a.ino;
    static const struct {
        const char *row;
        size_t n;
    } rows[] = {{"\10\x7f", 2}, {"\10", 1}, {"", 0}, {"\10\0", 2}, {"\4\4", 2}, {"\4\1", 2}, {"\10\2", 2}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        put_row(w, fs__key_name(&k, ROW_ENTRY, d, S("small")), rows[i].row, rows[i].n);
        UNCLEAN(w, fs_lookup(fs, d, S("small"), &a));
        UNCLEAN(w, fs_readdir(fs, d, (struct slice){0}, no_key, NULL));
        UNCLEAN(w, fs_create(fs, &w->ctx, d, S("small"), 0644, false, &a, NULL));
        UNCLEAN(w, fs_unlink(fs, &w->ctx, d, S("small"), false));
        UNCLEAN(w, fs_rmdir(fs, &w->ctx, d, S("small")));
        UNCLEAN(w, rename_in(w, d, "small", "n"));
        UNCLEAN(w, rename_in(w, d, "copy", "small"));
        UNCLEAN(w, fs_walk(fs, S("d/small"), &a));
        UNCLEAN(w, world_put(w, "d/small", "x", 1));
        UNCLEAN(w, fs_list(fs, S("d/"), S(""), no_key, NULL));
        if (i >= 1 && i <= 3) {                                          /* unreadable, not only contradicting */
            UNCLEAN(w, fs_mknod(fs, &w->ctx, d, S("small"), S_IFREG, 0, (struct slice){0}, &a));
            UNCLEAN(w, fs_link(fs, &w->ctx, inode_at(w, "d/copy").a.ino, d, S("small"), &a));
            UNCLEAN(w, fs_list(fs, S(""), S("d/small.x"), no_key, NULL));
        }
    }
    world_free(w);
}

static void test_directories_wrong(void **state)
{
    (void)state;
    struct world *w = rich();
    struct fs *fs = &w->fs;
    struct fs_attr a;
    struct inode d = inode_at(w, "d"), e = inode_at(w, "d/e"), bad = d;
    bad.a.size = 0;
    fs__inode_put(fs->map, &bad);
    UNCLEAN(w, fs_unlink(fs, &w->ctx, d.a.ino, S("dev"), false));
    UNCLEAN(w, rename_in(w, d.a.ino, "dev", "n"));
    bad.a.size = FS_SIZE_MAX;
    fs__inode_put(fs->map, &bad);
    UNCLEAN(w, fs_mknod(fs, &w->ctx, d.a.ino, S("n"), S_IFREG, 0, (struct slice){0}, &a));
    UNCLEAN(w, fs_link(fs, &w->ctx, inode_at(w, "d/copy").a.ino, d.a.ino, S("n"), &a));
    bad = e;
    bad.a.nlink = 2;
    fs__inode_put(fs->map, &d);
    fs__inode_put(fs->map, &bad);
    UNCLEAN(w, fs_rmdir(fs, &w->ctx, e.a.ino, S("empty")));
    /* Two directories, each in the other one. */
    bad = d;
    bad.parent = e.a.ino;
    fs__inode_put(fs->map, &e);
    fs__inode_put(fs->map, &bad);
    UNCLEAN(w, fs_rename(fs, &w->ctx, FS_ROOT_INO, S("made"), e.a.ino, S("x"), 0, false));
    bad.parent = 4711;
    fs__inode_put(fs->map, &bad);
    UNCLEAN(w, fs_lookup(fs, d.a.ino, S(".."), &a));
    UNCLEAN(w, fs_rename(fs, &w->ctx, FS_ROOT_INO, S("made"), e.a.ino, S("x"), 0, false));
    fs__inode_put(fs->map, &d);
    assert_false(world_damaged(w));
    world_free(w);
}

static void test_links_and_blocks_wrong(void **state)
{
    (void)state;
    struct world *w = rich();
    struct fs *fs = &w->fs;
    struct key k;
    struct slice s;
    struct fs_attr a;
    struct inode n = inode_at(w, "made/by/put"), bad = n;
    static const uint8_t big[400];
    w->fs.on_live = NULL;
    assert_int_equal(fs_walk(fs, S("d/link"), &a), 0);
    put_row(w, fs__key_id(&k, ROW_TARGET, a.ino), "longer than it says", 19);
    UNCLEAN(w, fs_readlink(fs, a.ino, &s));
    omap_del(fs->map, fs__key_id(&k, ROW_TARGET, a.ino));
    UNCLEAN(w, fs_readlink(fs, a.ino, &s));
    put_row(w, fs__key_id(&k, ROW_TARGET, a.ino), "e/large", 7);
    assert_false(world_damaged(w));
    bad.a.blocks = 0;
    fs__inode_put(fs->map, &bad);
    UNCLEAN(w, world_write(w, n.a.ino, 0, big, 400));
    UNCLEAN(w, world_put(w, "made/by/put", big, 400));
    assert_int_equal(fs_delete(fs, &w->ctx, S("made/by/put")), 0);       /* the mounts are asked: a name less */
    fs_session_del(fs, 5);
    fs_session_del(fs, 6);
    assert_int_equal(fs_getattr(fs, n.a.ino, &a), 0);                    /* and it cannot go */
    assert_true(world_damaged(w));
    /* Data behind the end of a small file. */
    struct inode small = inode_at(w, "d/small");
    put_row(w, fs__key_pair(&k, ROW_EXTENT, small.a.ino, 200), "\1\144\2\3", 4);
    UNCLEAN(w, world_write(w, small.a.ino, 0, "x", 1));
    world_free(w);
}

/* ---- fuzzing ----------------------------------------------------------------------------------------------------- */

static struct omap *damaged(const struct rows *r, struct prng *p)
{
    struct omap *map = omap_new();
    for (size_t i = 0; i < r->n; i++) omap_put(map, r->v[i].key, r->v[i].value);
    for (uint64_t left = 1 + prng_below(p, 4); left; left--) {
        const struct row *x = &r->v[prng_below(p, r->n)], *y = &r->v[prng_below(p, r->n)];
        uint8_t bytes[4096], key[OMAP_KEY_MAX];
        size_t n = x->value.n, k = x->key.n;
        memcpy(key, x->key.p, k);
        if (n) memcpy(bytes, x->value.p, n);
        switch (prng_below(p, 6)) {
        case 0: omap_del(map, x->key); break;
        case 1: omap_put(map, x->key, y->value); break;
        case 2:
            if (n) bytes[prng_below(p, n)] ^= (uint8_t)(1u << prng_below(p, 8));
            omap_put(map, x->key, slice_of(bytes, n));
            break;
        case 3:
            if (n) omap_put(map, x->key, slice_of(bytes, prng_below(p, n)));
            break;
        case 4:
            if (n) bytes[prng_below(p, n)] = (uint8_t)prng_u64(p);
            omap_put(map, x->key, slice_of(bytes, n));
            break;
        default:
            key[prng_below(p, k)] = (uint8_t)prng_below(p, 20);
            omap_put(map, slice_of(key, 1 + prng_below(p, k)), y->value);
            break;
        }
    }
    return map;
}

static bool any_name(void *ctx, struct slice name, const struct fs_attr *attr)
{
    (void)attr;
    uint64_t *left = ctx;
    assert_true(name.n > 0);
    return --*left > 0;
}

static void any_piece(void *ctx, const struct fs_piece *p)
{
    uint64_t *sum = ctx;
    *sum += p->len;
    for (size_t i = 0; i < p->bytes.n; i++) *sum += p->bytes.p[i] & 1;      /* readable */
}

static void any_range(void *ctx, uint64_t index, uint32_t off, uint32_t len)
{
    (void)index;
    uint64_t *sum = ctx;
    *sum += off + (uint64_t)len;
}

static void any_part(void *ctx, uint32_t off, uint32_t len) { any_range(ctx, 0, off, len); }

static int64_t fuzz_look(const struct fs *fs, struct prng *p, uint64_t ino, struct slice name, struct slice key)
{
    struct fs_attr a;
    struct slice s;
    struct buf names = {0};
    struct fs_usage u;
    uint64_t left = 1000, inos[4];
    int64_t err;
    switch (prng_below(p, 14)) {
    case 0: return fs_lookup(fs, ino, name, &a);
    case 1: return fs_getattr(fs, ino, &a);
    case 2: return fs_readlink(fs, ino, &s);
    case 3: return fs_readdir(fs, ino, name, any_name, &left);
    case 4: return fs_read(fs, ino, prng_below(p, 9000), (uint32_t)prng_u64(p), any_piece, &left);
    case 5: return fs_seek(fs, ino, prng_below(p, 9000), prng_chance(p, 50));
    case 6: return fs_getxattr(fs, ino, S("user.one"), &s);
    case 7:
        err = fs_listxattr(fs, ino, &names);
        buf_free(&names);
        return err;
    case 8: fs_usage(fs, &u); return 0;
    case 9: return fs_owed(fs, 5, 0, inos, 4);
    case 10: return fs_walk(fs, key, &a);
    case 11: return fs_list(fs, slice_of(key.p, prng_below(p, key.n)), name, any_name, &left);
    case 12: fs_live_ranges(fs, prng_below(p, 20), any_part, &left); return 0;
    default: fs_all_ranges(fs, any_range, &left); return 0;
    }
}

static int64_t fuzz_change(struct fs *fs, struct prng *p, uint64_t ino, struct slice name, struct slice key)
{
    static uint8_t bytes[3000];
    struct fs_ctx c = {.now = (int64_t)prng_u64(p), .session = 4 + prng_below(p, 4)};
    struct fs_attr a = {.size = prng_below(p, 9000), .mode = (uint32_t)prng_below(p, 010000), .mtime = c.now};
    struct slice data = slice_of(bytes, prng_below(p, prng_chance(p, 50) ? 50 : sizeof(bytes)));
    struct fs_loc loc = {.index = prng_below(p, 30), .off = (uint32_t)prng_below(p, 3000)};
    uint64_t off = prng_below(p, 9000), len = prng_below(p, 9000), other = prng_below(p, 20);
    bool flag = prng_chance(p, 50);
    switch (prng_below(p, 20)) {
    case 0: return fs_mknod(fs, &c, ino, name, flag ? S_IFDIR : S_IFLNK, 0, key, &a);
    case 1: return fs_create(fs, &c, ino, name, 0644, flag, &a, NULL);
    case 2: return fs_link(fs, &c, other, ino, name, &a);
    case 3: return fs_unlink(fs, &c, ino, name, flag);
    case 4: return fs_rmdir(fs, &c, ino, name);
    case 5: case 6: case 7: return fs_rename(fs, &c, ino, name, flag ? ino : other, flag ? S("e") : name,
                                             (uint32_t)prng_below(p, 3), flag);
    case 8: return fs_setattr(fs, &c, ino, (uint32_t)prng_below(p, 512), &a, &a);
    case 9: case 10: return fs_write(fs, &c, ino, off, flag, data, loc, &a, NULL);
    case 11: return fs_fallocate(fs, &c, ino, flag ? 3 : 16, off, len, &a);
    case 12: return fs_copy_range(fs, &c, other, off, ino, len, 4000, &a);
    case 13: return fs_setxattr(fs, &c, ino, flag ? S("user.one") : name, data, 0);
    case 14: return fs_removexattr(fs, &c, ino, S("user.one"));
    case 15: return fs_put(fs, &c, key, data, loc, &a);
    case 16: return fs_append(fs, &c, key, data, loc, &a);
    case 17: return fs_delete(fs, &c, key);
    case 18: fs_release(fs, &c, ino); return 0;
    default:
        if (flag) fs_session_del(fs, c.session);
        if (!flag) fs_session_add(fs, c.session);
        return 0;
    }
}

static void test_fuzz(void **state)
{
    (void)state;
    static const char *const names[] = {"d",    "e",   "small", "large", "copy", "hard",
                                        "link", "dev", "empty", "made",  "new"};
    static const char *const keys[] = {"d/small",     "d/e/large", "made/by/put", "d/copy",
                                       "made/by/two", "d/link/x",  "n/e/w"};
    struct world *w = rich();
    struct rows r = rows_of(w->fs.map);
    struct prng p;
    const char *seed = getenv("QFS_SEED");
    prng_seed(&p, seed ? strtoull(seed, NULL, 0) : 7);
    uint64_t unclean = 0, refused = 0;
    for (int round = 0; round < FUZZ_ROUNDS; round++) {
        struct fs fs = {.map = damaged(&r, &p)};
        for (int i = 0; i < FUZZ_CALLS; i++) {
            uint64_t ino = prng_below(&p, 20), before = omap_digest(fs.map);
            struct slice name = S(names[prng_below(&p, 11)]), key = S(keys[prng_below(&p, 7)]);
            int64_t err =
                prng_chance(&p, 40) ? fuzz_look(&fs, &p, ino, name, key) : fuzz_change(&fs, &p, ino, name, key);
            unclean += err == -EUCLEAN;
            if (err < 0) {
                refused++;
                assert_true(omap_digest(fs.map) == before);
            }
        }
        struct buf why = {0};
        fs_check(&fs, &why);
        buf_free(&why);
        omap_free(fs.map);
    }
    assert_true(unclean > 100 && refused > unclean);
    rows_free(&r);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_missing_rows),      cmocka_unit_test(test_surplus_rows),
        cmocka_unit_test(test_flipped_bits),      cmocka_unit_test(test_texts),
        cmocka_unit_test(test_payload_missing),   cmocka_unit_test(test_overlaps),
        cmocka_unit_test(test_counters_wrong),    cmocka_unit_test(test_entries_wrong),
        cmocka_unit_test(test_directories_wrong), cmocka_unit_test(test_links_and_blocks_wrong),
        cmocka_unit_test(test_fuzz),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
