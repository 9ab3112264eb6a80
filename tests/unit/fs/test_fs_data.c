/* test_fs_data.c - contents of files: inline and in the log, overlaps at every alignment, holes, sizes, blocks, times,
 * sharing. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "world.h"

static uint8_t bytes[16384];

static void fill(void)
{
    for (size_t i = 0; i < sizeof(bytes); i++) bytes[i] = (uint8_t)(1 + i % 251);
}

static uint64_t blocks_of(struct world *w, uint64_t ino) { return world_attr(w, ino).blocks; }

/* How a range is held: one letter a piece (h, i, l). */
struct shape {
    char text[64];
    size_t n;
};

static void add_shape(void *ctx, const struct fs_piece *p)
{
    struct shape *s = ctx;
    if (s->n + 1 < sizeof(s->text)) s->text[s->n++] = "hil"[p->kind];
    s->text[s->n] = 0;
}

static void expect_shape(struct world *w, uint64_t ino, const char *must)
{
    struct shape s = {0};
    fs_read(&w->fs, ino, 0, UINT32_MAX, add_shape, &s);
    assert_string_equal(s.text, must);
}

static void test_inline_border(void **state)
{
    (void)state;
    struct world *w = world_new();
    uint64_t ino = world_file(w, FS_ROOT_INO, "f");
    expect_shape(w, ino, "");
    assert_int_equal(world_write(w, ino, 0, bytes, 100), 0);
    expect_shape(w, ino, "i");
    assert_int_equal(world_write(w, ino, 150, bytes, 106), 0);           /* to 256, a gap becomes zeros */
    expect_shape(w, ino, "i");
    assert_int_equal(w->live_bytes, 0);
    assert_int_equal(blocks_of(w, ino), 1);
    assert_int_equal(world_write(w, ino, 256, bytes, 1), 0);             /* one more: the head stays where it is */
    expect_shape(w, ino, "il");
    assert_int_equal(w->live_bytes, 1);
    assert_int_equal(world_write(w, ino, 10, bytes, 5), 0);
    expect_shape(w, ino, "ilil");
    world_check(w);
    uint64_t two = world_file(w, FS_ROOT_INO, "g");
    assert_int_equal(world_write(w, two, 0, bytes, 257), 0);
    expect_shape(w, two, "l");
    struct fs_attr a = {.size = 200};
    assert_int_equal(fs_setattr(&w->fs, &w->ctx, two, FS_SET_SIZE, &a, NULL), 0);
    assert_int_equal(world_write(w, two, 100, bytes, 20), 0);            /* small again, but bytes are in the log */
    expect_shape(w, two, "lll");
    assert_int_equal(world_write(w, two, 0, bytes, 200), 0);             /* all of them replaced */
    expect_shape(w, two, "i");
    world_expect(w, two, bytes, 200);
    world_check(w);
    world_free(w);
}

static void test_empty_write(void **state)
{
    (void)state;
    struct world *w = world_new();
    uint64_t ino = world_file(w, FS_ROOT_INO, "f"), at = 1;
    uint64_t digest = omap_digest(w->fs.map);
    struct fs_attr a;
    assert_int_equal(fs_write(&w->fs, &w->ctx, ino, 77, false, (struct slice){0}, (struct fs_loc){0}, &a, &at), 0);
    assert_int_equal(at, 77);
    assert_int_equal(a.size, 0);
    assert_true(omap_digest(w->fs.map) == digest);
    world_free(w);
}

/* Three writes whose borders take all positions relative to each other, over small and large scales. */
static void test_every_overlap(void **state)
{
    (void)state;
    for (uint64_t unit = 1; unit <= 300; unit *= 17) {
        for (uint64_t lo = 0; lo <= 6; lo++) {
            for (uint64_t hi = lo + 1; hi <= 7; hi++) {
                struct world *w = world_new();
                uint8_t must[7 * 300] = {0};
                uint64_t ino = world_file(w, FS_ROOT_INO, "f");
                const uint64_t first[3][2] = {{1, 3}, {3, 4}, {5, 6}};
                for (int i = 0; i < 3; i++) {
                    uint64_t off = first[i][0] * unit, n = (first[i][1] - first[i][0]) * unit;
                    assert_int_equal(world_write(w, ino, off, bytes + 1000 * i, n), 0);
                    memcpy(must + off, bytes + 1000 * i, n);
                }
                assert_int_equal(world_write(w, ino, lo * unit, bytes + 7000, (hi - lo) * unit), 0);
                memcpy(must + lo * unit, bytes + 7000, (hi - lo) * unit);
                world_expect(w, ino, must, (hi > 6 ? hi : 6) * unit);
                world_check(w);
                assert_int_equal(fs_unlink(&w->fs, &w->ctx, FS_ROOT_INO, S("f"), false), 0);
                assert_int_equal(w->live_bytes, 0);
                world_free(w);
            }
        }
    }
}

static void test_truncate(void **state)
{
    (void)state;
    struct world *w = world_new();
    uint64_t ino = world_file(w, FS_ROOT_INO, "f");
    uint8_t must[9000] = {0};
    struct fs_attr a = {.size = 3000};
    assert_int_equal(world_write(w, ino, 0, bytes, 5000), 0);
    assert_int_equal(blocks_of(w, ino), 10);
    assert_int_equal(fs_setattr(&w->fs, &w->ctx, ino, FS_SET_SIZE, &a, &a), 0);
    assert_int_equal(a.blocks, 6);
    assert_int_equal(w->live_bytes, 3000);
    a.size = 9000;
    assert_int_equal(fs_setattr(&w->fs, &w->ctx, ino, FS_SET_SIZE, &a, &a), 0);
    assert_int_equal(a.blocks, 6);
    memcpy(must, bytes, 3000);                                           /* what was cut does not come back */
    world_expect(w, ino, must, 9000);
    a.size = 0;
    assert_int_equal(fs_setattr(&w->fs, &w->ctx, ino, FS_SET_SIZE, &a, &a), 0);
    assert_int_equal(a.blocks, 0);
    assert_int_equal(w->live_bytes, 0);
    assert_int_equal(world_write(w, ino, 0, bytes, 200), 0);
    a.size = 100;
    assert_int_equal(fs_setattr(&w->fs, &w->ctx, ino, FS_SET_SIZE, &a, &a), 0);
    a.size = 200;
    assert_int_equal(fs_setattr(&w->fs, &w->ctx, ino, FS_SET_SIZE, &a, &a), 0);
    memset(must, 0, 200);
    memcpy(must, bytes, 100);
    world_expect(w, ino, must, 200);                                     /* the same with inline bytes */
    a.size = FS_SIZE_MAX;
    assert_int_equal(fs_setattr(&w->fs, &w->ctx, ino, FS_SET_SIZE, &a, &a), 0);
    a.size = FS_SIZE_MAX + 1;
    assert_int_equal(fs_setattr(&w->fs, &w->ctx, ino, FS_SET_SIZE, &a, NULL), -EFBIG);
    assert_int_equal(fs_setattr(&w->fs, &w->ctx, FS_ROOT_INO, FS_SET_SIZE, &a, NULL), -EISDIR);
    world_check(w);
    world_free(w);
}

static void test_size_limit(void **state)
{
    (void)state;
    struct world *w = world_new();
    uint64_t ino = world_file(w, FS_ROOT_INO, "f");
    assert_int_equal(world_write(w, ino, FS_SIZE_MAX - 3, bytes, 3), 0);
    assert_int_equal(world_attr(w, ino).size, FS_SIZE_MAX);
    assert_int_equal(world_write(w, ino, FS_SIZE_MAX - 3, bytes, 4), -EFBIG);
    assert_int_equal(world_write(w, ino, FS_SIZE_MAX + 1, bytes, 1), -EFBIG);
    assert_int_equal(world_write(w, ino, UINT64_MAX, bytes, 1), -EFBIG);
    assert_int_equal(fs_write(&w->fs, &w->ctx, ino, 0, true, slice_of(bytes, 1), (struct fs_loc){0}, NULL, NULL),
                     -EFBIG);
    assert_int_equal(fs_write(&w->fs, &w->ctx, ino, 0, false, slice_of(bytes, 300), (struct fs_loc){0, UINT32_MAX - 9},
                              NULL, NULL), -EINVAL);
    assert_int_equal(fs_seek(&w->fs, ino, 0, false), FS_SIZE_MAX - 3);
    assert_int_equal(fs_seek(&w->fs, ino, 0, true), 0);
    assert_int_equal(fs_seek(&w->fs, ino, FS_SIZE_MAX - 2, true), FS_SIZE_MAX);
    world_check(w);
    world_free(w);
}

static void test_append(void **state)
{
    (void)state;
    struct world *w = world_new();
    uint64_t ino = world_file(w, FS_ROOT_INO, "f"), at;
    uint8_t must[4000];
    size_t n = 0;
    for (size_t step = 1; n + step < sizeof(must); step += 13) {
        struct slice data = slice_of(bytes + n, step);
        struct fs_attr a;
        assert_int_equal(fs_write(&w->fs, &w->ctx, ino, 12345, true, data, world_log(w, data), &a, &at), 0);
        assert_int_equal(at, n);
        memcpy(must + n, data.p, step);
        n += step;
        assert_int_equal(a.size, n);
    }
    world_expect(w, ino, must, n);
    world_check(w);
    world_free(w);
}

static void test_fallocate(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct fs *fs = &w->fs;
    uint64_t ino = world_file(w, FS_ROOT_INO, "f"), small = world_file(w, FS_ROOT_INO, "s");
    struct fs_attr a;
    uint8_t must[9000] = {0};
    const uint32_t keep = FALLOC_FL_KEEP_SIZE, punch = FALLOC_FL_PUNCH_HOLE | keep, zero = FALLOC_FL_ZERO_RANGE;
    assert_int_equal(world_write(w, ino, 0, bytes, 4000), 0);
    uint64_t version = world_attr(w, ino).version;
    memcpy(must, bytes, 4000);
    assert_int_equal(fs_fallocate(fs, &w->ctx, ino, 0, 100, 100, &a), 0);
    assert_int_equal(a.version, version);                                /* nothing has changed */
    assert_int_equal(fs_fallocate(fs, &w->ctx, ino, keep, 0, 9000, &a), 0);
    assert_int_equal(a.size, 4000);
    assert_int_equal(fs_fallocate(fs, &w->ctx, ino, 0, 0, 6000, &a), 0);
    assert_int_equal(a.size, 6000);
    assert_true(a.version > version);
    assert_int_equal(fs_fallocate(fs, &w->ctx, ino, punch, 1000, 2000, &a), 0);
    memset(must + 1000, 0, 2000);
    assert_int_equal(a.size, 6000);
    assert_int_equal(w->live_bytes, 2000);
    expect_shape(w, ino, "lhlh");
    assert_int_equal(fs_fallocate(fs, &w->ctx, ino, punch, 5900, 5000, &a), 0);
    assert_int_equal(a.size, 6000);
    assert_int_equal(fs_fallocate(fs, &w->ctx, ino, zero | keep, 3500, 9000, &a), 0);
    memset(must + 3500, 0, 500);
    assert_int_equal(a.size, 6000);
    assert_int_equal(fs_fallocate(fs, &w->ctx, ino, zero, 6500, 500, &a), 0);
    assert_int_equal(a.size, 7000);
    world_expect(w, ino, must, 7000);
    assert_int_equal(world_write(w, small, 0, bytes, 100), 0);
    assert_int_equal(fs_fallocate(fs, &w->ctx, small, punch, 20, 30, &a), 0);
    expect_shape(w, small, "ihi");
    assert_int_equal(world_write(w, small, 90, bytes, 1), 0);            /* one piece again */
    expect_shape(w, small, "i");
    const uint32_t refused[] = {FALLOC_FL_PUNCH_HOLE, FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE, 0x40, 0x80};
    for (size_t i = 0; i < 5; i++) assert_int_equal(fs_fallocate(fs, &w->ctx, ino, refused[i], 0, 1, &a), -EOPNOTSUPP);
    assert_int_equal(fs_fallocate(fs, &w->ctx, ino, 0, 0, 0, &a), -EINVAL);
    assert_int_equal(fs_fallocate(fs, &w->ctx, ino, 0, FS_SIZE_MAX, 1, &a), -EFBIG);
    assert_int_equal(fs_fallocate(fs, &w->ctx, ino, punch, UINT64_MAX, UINT64_MAX, &a), -EFBIG);
    assert_int_equal(fs_fallocate(fs, &w->ctx, FS_ROOT_INO, 0, 0, 1, &a), -EISDIR);
    assert_int_equal(fs_fallocate(fs, &w->ctx, 999, 0, 0, 1, &a), -ENOENT);
    world_check(w);
    world_free(w);
}

static void test_seek(void **state)
{
    (void)state;
    struct world *w = world_new();
    uint64_t ino = world_file(w, FS_ROOT_INO, "f");
    struct fs_attr a = {.size = 10000};
    assert_int_equal(fs_seek(&w->fs, ino, 0, false), -ENXIO);
    assert_int_equal(world_write(w, ino, 1000, bytes, 1000), 0);
    assert_int_equal(world_write(w, ino, 2000, bytes, 500), 0);          /* another extent, no hole between */
    assert_int_equal(world_write(w, ino, 5000, bytes, 100), 0);
    assert_int_equal(fs_setattr(&w->fs, &w->ctx, ino, FS_SET_SIZE, &a, NULL), 0);
    const int64_t cases[][3] = {
        /* from, data, hole */
        {0, 1000, 0}, {999, 1000, 999}, {1000, 1000, 2500}, {1999, 1999, 2500}, {2499, 2499, 2500}, {2500, 5000, 2500},
        {5000, 5000, 5100}, {5099, 5099, 5100}, {5100, -ENXIO, 5100}, {9999, -ENXIO, 9999}, {10000, -ENXIO, -ENXIO},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(fs_seek(&w->fs, ino, (uint64_t)cases[i][0], false), cases[i][1]);
        assert_int_equal(fs_seek(&w->fs, ino, (uint64_t)cases[i][0], true), cases[i][2]);
    }
    assert_int_equal(fs_seek(&w->fs, FS_ROOT_INO, 0, false), -EISDIR);
    world_free(w);
}

static void no_piece(void *ctx, const struct fs_piece *p)
{
    (void)ctx;
    (void)p;
    fail();
}

static void test_read_edges(void **state)
{
    (void)state;
    struct world *w = world_new();
    uint64_t ino = world_file(w, FS_ROOT_INO, "f");
    struct buf got = {0};
    assert_int_equal(world_write(w, ino, 0, bytes, 1000), 0);
    assert_int_equal(fs_read(&w->fs, ino, 1000, 10, no_piece, NULL), 0);
    assert_int_equal(fs_read(&w->fs, ino, UINT64_MAX, 10, no_piece, NULL), 0);
    assert_int_equal(fs_read(&w->fs, ino, 0, 0, no_piece, NULL), 0);
    assert_int_equal(world_read(w, &w->fs, ino, 999, UINT32_MAX, &got), 1);
    assert_int_equal(got.p[0], bytes[999]);
    buf_free(&got);
    assert_int_equal(fs_read(&w->fs, FS_ROOT_INO, 0, 1, no_piece, NULL), -EISDIR);
    assert_int_equal(fs_read(&w->fs, 77, 0, 1, no_piece, NULL), -ENOENT);
    world_free(w);
}

static void test_copy_range(void **state)
{
    (void)state;
    struct world *w = world_new();
    struct fs *fs = &w->fs;
    uint64_t a = world_file(w, FS_ROOT_INO, "a"), b = world_file(w, FS_ROOT_INO, "b");
    struct fs_attr attr;
    uint8_t must[9000] = {0};
    assert_int_equal(world_write(w, a, 0, bytes, 4000), 0);
    assert_int_equal(fs_copy_range(fs, &w->ctx, a, 1000, b, 500, 99999, &attr), 3000);
    memcpy(must + 500, bytes + 1000, 3000);
    assert_int_equal(attr.ino, b);
    world_expect(w, b, must, 3500);
    assert_int_equal(w->live_bytes, 4000);                               /* shared */
    assert_int_equal(fs_copy_range(fs, &w->ctx, b, 600, b, 4000, 1000, &attr), 1000);
    memcpy(must + 4000, must + 600, 1000);
    world_expect(w, b, must, 5000);
    world_check(w);
    assert_int_equal(fs_unlink(fs, &w->ctx, FS_ROOT_INO, S("a"), false), 0);
    assert_int_equal(w->live_bytes, 3000);
    world_expect(w, b, must, 5000);
    /* Within one file: next to each other is fine, overlap is not; the length is cut to the file before that. */
    assert_int_equal(fs_copy_range(fs, &w->ctx, b, 0, b, 1000, 1001, NULL), -EINVAL);
    assert_int_equal(fs_copy_range(fs, &w->ctx, b, 1000, b, 0, 1001, NULL), -EINVAL);
    assert_int_equal(fs_copy_range(fs, &w->ctx, b, 10, b, 10, 1, NULL), -EINVAL);
    assert_int_equal(fs_copy_range(fs, &w->ctx, b, 4000, b, 5000, 5000, NULL), 1000);
    assert_int_equal(fs_copy_range(fs, &w->ctx, b, 1000, b, 0, 1000, NULL), 1000);
    memcpy(must + 5000, must + 4000, 1000);
    memmove(must, must + 1000, 1000);
    world_expect(w, b, must, 6000);
    uint64_t digest = omap_digest(fs->map);
    assert_int_equal(fs_copy_range(fs, &w->ctx, b, 6000, b, 0, 10, &attr), 0);
    assert_int_equal(fs_copy_range(fs, &w->ctx, b, 0, b, 10, 0, &attr), 0);
    assert_int_equal(fs_copy_range(fs, &w->ctx, b, 0, b, FS_SIZE_MAX, 1, NULL), -EFBIG);
    assert_int_equal(fs_copy_range(fs, &w->ctx, b, 0, FS_ROOT_INO, 0, 1, NULL), -EISDIR);
    assert_int_equal(fs_copy_range(fs, &w->ctx, FS_ROOT_INO, 0, b, 0, 1, NULL), -EISDIR);
    assert_int_equal(fs_copy_range(fs, &w->ctx, 99, 0, b, 0, 1, NULL), -ENOENT);
    assert_true(omap_digest(fs->map) == digest);
    world_check(w);
    world_free(w);
}

/* A hole is copied as a hole, over data, too; inline bytes go where no inline file begins. */
static void test_copy_holes_and_inline(void **state)
{
    (void)state;
    struct world *w = world_new();
    uint64_t a = world_file(w, FS_ROOT_INO, "a"), b = world_file(w, FS_ROOT_INO, "b"),
             c = world_file(w, FS_ROOT_INO, "c");
    struct fs_attr attr = {.size = 5000};
    uint8_t must[9000] = {0};
    assert_int_equal(fs_setattr(&w->fs, &w->ctx, a, FS_SET_SIZE, &attr, NULL), 0);
    assert_int_equal(world_write(w, b, 0, bytes, 3000), 0);
    assert_int_equal(fs_copy_range(&w->fs, &w->ctx, a, 0, b, 1000, 1000, &attr), 1000);
    memcpy(must, bytes, 3000);
    memset(must + 1000, 0, 1000);
    world_expect(w, b, must, 3000);
    expect_shape(w, b, "lhl");
    assert_int_equal(world_write(w, c, 0, bytes, 50), 0);
    assert_int_equal(fs_copy_range(&w->fs, &w->ctx, c, 10, b, 2000, 40, &attr), 40);
    memcpy(must + 2000, bytes + 10, 40);
    expect_shape(w, b, "lhil");
    world_expect(w, b, must, 3000);
    assert_int_equal(fs_copy_range(&w->fs, &w->ctx, b, 1990, c, 40, 30, &attr), 30);
    uint8_t small[70];
    memcpy(small, bytes, 40);
    memcpy(small + 40, must + 1990, 30);
    world_expect(w, c, small, 70);
    world_check(w);
    world_free(w);
}

static void test_times(void **state)
{
    (void)state;
    struct world *w = world_new();
    uint64_t ino = world_file(w, FS_ROOT_INO, "f");
    struct fs_attr was = world_attr(w, ino), is, in = {.mtime = 50, .atime = -7};
    int64_t now = w->ctx.now;
    assert_int_equal(was.mtime, now);
    assert_int_equal(was.version, 1);
    for (int i = 1; i < 20; i++) {                                       /* the clock stands still */
        assert_int_equal(fs_write(&w->fs, &w->ctx, ino, 0, false, slice_of(bytes, 10), (struct fs_loc){0}, &is, NULL),
                         0);
        assert_true(is.mtime > was.mtime && is.ctime > was.ctime && is.mtime == is.ctime);
        assert_int_equal(is.version, was.version + 1);
        assert_int_equal(is.atime, now);
        was = is;
    }
    w->ctx.now = now - 500;                                              /* it goes back */
    assert_int_equal(fs_setattr(&w->fs, &w->ctx, ino, FS_SET_MODE, &in, &is), 0);
    assert_true(is.ctime > was.ctime && is.mtime == was.mtime && is.version == was.version);
    assert_int_equal(fs_setattr(&w->fs, &w->ctx, ino, FS_SET_MTIME | FS_SET_ATIME, &in, &is), 0);
    assert_int_equal(is.mtime, 50);
    assert_int_equal(is.atime, -7);
    in.mtime = INT64_MAX;
    assert_int_equal(fs_setattr(&w->fs, &w->ctx, ino, FS_SET_MTIME, &in, &is), 0);
    w->ctx.now = now + 5000;                                             /* a time far ahead does not stay */
    assert_int_equal(fs_write(&w->fs, &w->ctx, ino, 0, false, slice_of(bytes, 10), (struct fs_loc){0}, &is, NULL), 0);
    assert_int_equal(is.mtime, now + 5000);
    in.mtime = is.mtime + 1;                                             /* nor does the next stamp repeat one set */
    assert_int_equal(fs_setattr(&w->fs, &w->ctx, ino, FS_SET_MTIME, &in, NULL), 0);
    assert_int_equal(fs_write(&w->fs, &w->ctx, ino, 0, false, slice_of(bytes, 10), (struct fs_loc){0}, &is, NULL), 0);
    assert_int_not_equal(is.mtime, in.mtime);
    in.size = 5;
    in.mtime = 99;
    assert_int_equal(fs_setattr(&w->fs, &w->ctx, ino, FS_SET_SIZE | FS_SET_MTIME, &in, &is), 0);
    assert_int_equal(is.mtime, 99);
    assert_int_equal(is.size, 5);
    w->ctx.now += 100;
    assert_int_equal(fs_setattr(&w->fs, &w->ctx, ino, FS_SET_ATIME | FS_SET_ATIME_NOW | FS_SET_MTIME_NOW, &in, &is), 0);
    assert_int_equal(is.atime, w->ctx.now);
    assert_int_equal(is.mtime, w->ctx.now);
    assert_int_equal(fs_setattr(&w->fs, &w->ctx, ino, 1u << 20, &in, &is), -EINVAL);
    world_check(w);
    world_free(w);
}

/* A small value over whatever a file of one block, or of several extents, may hold: all of that is gone. */
static void test_put_over(void **state)
{
    (void)state;
    static const struct {
        size_t first, second;   /* bytes written at 0, and at 300 */
        uint64_t cut;           /* to this size, if not 0 */
    } was[] = {{100, 0, 0}, {256, 0, 0}, {257, 0, 0}, {257, 0, 200}, {100, 1, 0}, {100, 200, 350}, {0, 1, 200}, {0, 1, 0}};
    struct world *w = world_new();
    uint64_t ino = world_file(w, FS_ROOT_INO, "f"), version = 0;
    for (size_t i = 0; i < 2 * sizeof was / sizeof *was; i++) {
        size_t n = i % 2 ? 1 : 256;
        assert_int_equal(world_put(w, "f", NULL, 0), 0);
        assert_int_equal(world_write(w, ino, 0, bytes, was[i / 2].first), 0);
        assert_int_equal(world_write(w, ino, 300, bytes, was[i / 2].second), 0);
        struct fs_attr a = {.size = was[i / 2].cut};
        if (a.size) assert_int_equal(fs_setattr(&w->fs, &w->ctx, ino, FS_SET_SIZE, &a, NULL), 0);
        struct fs_attr before = world_attr(w, ino);
        assert_int_equal(world_put(w, "f", bytes + 1, n), 0);
        expect_shape(w, ino, "i");
        world_expect(w, ino, bytes + 1, n);
        struct fs_attr now = world_attr(w, ino);
        assert_int_equal(now.blocks, 1);
        assert_int_equal(now.version, before.version + 1);
        assert_true(now.mtime > before.mtime && now.mtime == now.ctime && now.version > version);
        version = now.version;
        assert_int_equal(w->live_bytes, 0);
        world_check(w);
    }
    world_free(w);
}

/* What a small file costs, all its rows together. */
static void test_memory(void **state)
{
    (void)state;
    struct world *w = world_new();
    const uint64_t files = 20000;
    w->ctx.now = 1700000000000000000;
    uint64_t dir = world_dir(w, FS_ROOT_INO, "dir"), before = omap_bytes(w->fs.map);
    struct fs_ctx c = w->ctx;
    c.uid = c.gid = 1000;
    for (uint64_t i = 0; i < files; i++) {
        char name[32];
        struct fs_attr a;
        snprintf(name, sizeof(name), "file-%08u.txt", (unsigned)i);
        c.now += 1000000;
        assert_int_equal(fs_create(&w->fs, &c, dir, S(name), 0644, true, &a, NULL), 0);
        c.now += 1000000;
        assert_int_equal(fs_write(&w->fs, &c, a.ino, 0, false, slice_of(bytes, 100), (struct fs_loc){0}, NULL, NULL),
                         0);
    }
    assert_true((omap_bytes(w->fs.map) - before) / files <= 400);
    world_free(w);
}

int main(void)
{
    fill();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inline_border), cmocka_unit_test(test_empty_write), cmocka_unit_test(test_every_overlap),
        cmocka_unit_test(test_truncate), cmocka_unit_test(test_size_limit), cmocka_unit_test(test_append),
        cmocka_unit_test(test_fallocate), cmocka_unit_test(test_seek), cmocka_unit_test(test_read_edges),
        cmocka_unit_test(test_copy_range), cmocka_unit_test(test_copy_holes_and_inline), cmocka_unit_test(test_times),
        cmocka_unit_test(test_put_over), cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
