/* test_fs_inode.c - the rows of inodes and counters: what goes in comes out, equal inodes have equal bytes, and what
 * makes no sense is refused. */
#include "fs/inode.h"
#include "world.h"

static uint64_t any_u64(struct prng *r)
{
    static const uint64_t corners[] = {0, 1, 127, 128, 16383, 16384, UINT32_MAX, FS_SIZE_MAX, INT64_MAX, UINT64_MAX};
    return prng_chance(r, 50) ? corners[prng_below(r, 10)] : prng_u64(r) >> prng_below(r, 64);
}

static int64_t any_time(struct prng *r) { return prng_chance(r, 5) ? INT64_MIN : (int64_t)any_u64(r); }

static struct inode any_inode(struct prng *r)
{
    static const uint32_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
    struct inode n = {.a.ino = 1 + any_u64(r) % UINT32_MAX, .a.mode = types[prng_below(r, 7)]};
    n.a.mode |= (uint32_t)prng_below(r, 010000);
    n.a.nlink = (uint32_t)any_u64(r);
    n.a.uid = (uint32_t)any_u64(r);
    n.a.gid = (uint32_t)any_u64(r);
    n.a.size = any_u64(r) % (FS_SIZE_MAX + 1);
    n.a.blocks = any_u64(r);
    n.a.version = any_u64(r);
    n.a.btime = any_time(r);
    n.a.atime = any_time(r);
    n.a.mtime = any_time(r);
    n.a.ctime = any_time(r);
    n.a.rdev = any_u64(r);
    n.a.has_xattr = prng_chance(r, 50);
    if (S_ISDIR(n.a.mode)) {
        if (n.a.nlink < 2) n.a.nlink = 2;
        n.parent = 1 + any_u64(r) % UINT32_MAX;
        n.implicit = prng_chance(r, 50);
    }
    return n;
}

static void test_round_trip(void **state)
{
    (void)state;
    struct omap *map = omap_new();
    struct prng r;
    prng_seed(&r, 3);
    for (int i = 0; i < 20000; i++) {
        struct inode in = any_inode(&r), out;
        fs__inode_put(map, &in);
        assert_int_equal(fs__inode_get(map, in.a.ino, &out), 0);
        struct key k, k2;
        struct slice row, again;
        assert_true(omap_get(map, fs__key_id(&k, ROW_INODE, in.a.ino), &row));
        out.a.ino = UINT64_MAX;
        fs__inode_put(map, &out);
        assert_true(omap_get(map, fs__key_id(&k, ROW_INODE, in.a.ino), &row));
        assert_true(omap_get(map, fs__key_id(&k2, ROW_INODE, UINT64_MAX), &again));
        assert_true(slice_eq(row, again));
        out.a.ino = in.a.ino;
        assert_true(in.a.mode == out.a.mode && in.a.nlink == out.a.nlink && in.a.uid == out.a.uid &&
                    in.a.gid == out.a.gid && in.a.size == out.a.size && in.a.blocks == out.a.blocks);
        assert_true(in.a.version == out.a.version && in.a.btime == out.a.btime && in.a.atime == out.a.atime &&
                    in.a.mtime == out.a.mtime && in.a.ctime == out.a.ctime && in.a.rdev == out.a.rdev);
        assert_true(in.a.has_xattr == out.a.has_xattr && in.implicit == out.implicit && in.parent == out.parent);
    }
    omap_free(map);
}

/* Puts a row of these bytes as inode 7 and reads it. */
static int decode(struct omap *map, const uint8_t *row, size_t n)
{
    struct key k;
    struct inode out;
    omap_put(map, fs__key_id(&k, ROW_INODE, 7), slice_of(row, n));
    return fs__inode_get(map, 7, &out);
}

static void test_bad_rows(void **state)
{
    (void)state;
    struct omap *map = omap_new();
    /* flags, mode 0100644, nlink, uid, gid, size, blocks, version, btime, atime, mtime, ctime */
    static const uint8_t good[] = {0, 0xa4, 0x83, 2, 1, 0, 0, 5, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0};
    uint8_t row[sizeof(good) + 8];
    assert_int_equal(decode(map, good, sizeof(good)), 0);
    for (size_t n = 0; n < sizeof(good); n++) assert_int_equal(decode(map, good, n), -EUCLEAN);
    memcpy(row, good, sizeof(good));
    row[sizeof(good)] = 0;
    assert_int_equal(decode(map, row, sizeof(good) + 1), -EUCLEAN);
    static const struct {
        size_t at;
        uint8_t byte;
    } bad[] = {
        {0, 1},  /* an implicit file */
        {0, 16}, /* an unknown flag */
        {0, 4},  /* a device number that is not there */
        {3, 0},  /* no type */
        {3, 7},  /* more than a mode can have */
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memcpy(row, good, sizeof(good));
        row[bad[i].at] = bad[i].byte;
        assert_int_equal(decode(map, row, sizeof(good)), -EUCLEAN);
    }
    memcpy(row, good, sizeof(good));
    row[0] = 8;                                              /* a parent: of directories only */
    row[sizeof(good)] = 1;
    assert_int_equal(decode(map, row, sizeof(good) + 1), -EUCLEAN);
    row[3] = 1;                                              /* 0040644 */
    row[2] = 0x83;
    row[4] = 2;
    assert_int_equal(decode(map, row, sizeof(good) + 1), 0);
    row[4] = 1;                                              /* a directory has two links at least */
    assert_int_equal(decode(map, row, sizeof(good) + 1), -EUCLEAN);
    /* An owner of more than 32 bits. */
    memcpy(row, good, 5);
    memcpy(row + 5, "\x80\x80\x80\x80\x10", 5);
    memcpy(row + 10, good + 6, sizeof(good) - 6);
    assert_int_equal(decode(map, row, sizeof(good) + 4), -EUCLEAN);
    row[9] = 0x0f;
    assert_int_equal(decode(map, row, sizeof(good) + 4), 0);
    omap_free(map);
}

static void test_touch(void **state)
{
    (void)state;
    struct inode n = {.a = {.ctime = 10, .mtime = 10, .version = 1}};
    fs__touch_attr(&n, 50);
    assert_int_equal(n.a.ctime, 50);
    fs__touch_attr(&n, 20);
    assert_int_equal(n.a.ctime, 51);
    assert_int_equal(n.a.mtime, 10);
    fs__touch_data(&n, 60);
    assert_true(n.a.mtime == 60 && n.a.ctime == 60 && n.a.version == 2);
    n.a.mtime = 61;                                          /* set by somebody */
    fs__touch_data(&n, 60);
    assert_true(n.a.mtime == 62 && n.a.ctime == 62);
    n.a.ctime = INT64_MAX;
    fs__touch_data(&n, 60);
    assert_int_equal(n.a.ctime, INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_bad_rows), cmocka_unit_test(test_touch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
