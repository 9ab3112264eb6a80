/* world.c - see world.h. */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>

static void on_live(void *arg, struct fs_loc loc, uint32_t len, int sign)
{
    struct world *w = arg;
    assert_true(loc.index < w->entries);
    struct entry *e = &w->log[loc.index];
    assert_true(len > 0 && loc.off + (uint64_t)len <= e->n);
    for (uint32_t i = loc.off; i < loc.off + len; i++) {
        assert_int_equal(e->live[i], sign < 0);
        e->live[i] = sign > 0;
    }
    w->live_bytes += sign > 0 ? len : -(uint64_t)len;
}

struct world *world_new(void)
{
    struct world *w = xcalloc(1, sizeof(*w));
    w->fs = (struct fs){.map = omap_new(), .on_live = on_live, .on_live_arg = w};
    w->ctx = (struct fs_ctx){.now = 1000, .uid = 10, .gid = 20};
    fs_format(&w->fs, w->ctx.now);
    return w;
}

void world_free(struct world *w)
{
    for (size_t i = 0; i < w->entries; i++) {
        free(w->log[i].bytes);
        free(w->log[i].live);
    }
    free(w->log);
    omap_free(w->fs.map);
    free(w);
}

struct fs_loc world_log(struct world *w, struct slice data)
{
    /* The payload is not at the start of its entry, and bytes follow it. */
    uint32_t lead = (uint32_t)(w->entries % 7);
    struct entry e = {.n = data.n + lead + 3};
    e.bytes = xmalloc(e.n);
    e.live = xcalloc(e.n, sizeof(bool));
    memset(e.bytes, 0xee, e.n);
    if (data.n) memcpy(e.bytes + lead, data.p, data.n);
    w->log = xrealloc(w->log, (w->entries + 1) * sizeof(*w->log));
    w->log[w->entries] = e;
    return (struct fs_loc){.index = w->entries++, .off = lead};
}

struct tally {
    const struct world *w;
    uint64_t bytes, index, last_index;
    uint64_t end;
    bool **seen;
};

static void count_range(void *ctx, uint64_t index, uint32_t off, uint32_t len)
{
    struct tally *t = ctx;
    assert_true(index < t->w->entries && index >= t->last_index && len > 0);
    if (index == t->last_index && t->bytes) assert_true(off > t->end);         /* ascending, and joined */
    for (uint32_t i = off; i < off + len; i++) assert_true(t->w->log[index].live[i]);
    t->bytes += len;
    t->last_index = index;
    t->end = (uint64_t)off + len;
}

static void count_one(void *ctx, uint32_t off, uint32_t len)
{
    struct tally *t = ctx;
    count_range(t, t->index, off, len);
}

static void mark_extent(void *ctx, uint64_t ino, uint64_t off, struct fs_loc loc, uint32_t len)
{
    struct tally *t = ctx;
    struct fs_attr attr;
    assert_int_equal(fs_getattr(&t->w->fs, ino, &attr), 0);
    assert_true(loc.index < t->w->entries && len > 0 && off + len <= attr.size);
    for (uint32_t i = loc.off; i < loc.off + len; i++) {
        assert_true(t->w->log[loc.index].live[i]);
        t->bytes += !t->seen[loc.index][i];
        t->seen[loc.index][i] = true;
    }
}

/* Extents name what is live, all of it. */
static void check_extents(const struct world *w)
{
    struct tally t = {.w = w, .seen = xcalloc(w->entries + 1, sizeof *t.seen)};
    for (uint64_t i = 0; i < w->entries; i++) t.seen[i] = xcalloc(w->log[i].n + 1, sizeof **t.seen);
    fs_all_extents(&w->fs, mark_extent, &t);
    assert_int_equal(t.bytes, w->live_bytes);
    for (uint64_t i = 0; i < w->entries; i++) free(t.seen[i]);
    free(t.seen);
}

void world_check(struct world *w)
{
    struct buf why = {0};
    int err = fs_check(&w->fs, &why);
    if (err) print_error("fs_check: %.*s\n", (int)why.n, (const char *)why.p);
    buf_free(&why);
    assert_int_equal(err, 0);
    struct tally all = {.w = w}, sum = {.w = w};
    fs_all_ranges(&w->fs, count_range, &all);
    assert_int_equal(all.bytes, w->live_bytes);
    for (uint64_t i = 0; i < w->entries; i++) {
        struct tally one = {.w = w, .index = i};
        fs_live_ranges(&w->fs, i, count_one, &one);
        sum.bytes += one.bytes;
    }
    assert_int_equal(sum.bytes, w->live_bytes);
    check_extents(w);
}

bool world_damaged(struct world *w)
{
    struct buf why = {0};
    int err = fs_check(&w->fs, &why);
    assert_true(err == 0 || err == -EUCLEAN);
    assert_int_equal(err != 0, why.n != 0);
    buf_free(&why);
    return err != 0;
}

struct assembly {
    const struct world *w;
    struct buf *out;
    uint64_t pos;
};

static void assemble(void *ctx, const struct fs_piece *p)
{
    struct assembly *a = ctx;
    assert_int_equal(p->file_off, a->pos);
    assert_true(p->len > 0);
    a->pos += p->len;
    uint8_t *to = buf_extend(a->out, p->len);
    switch (p->kind) {
    case FS_PIECE_HOLE:
        memset(to, 0, p->len);
        break;
    case FS_PIECE_INLINE:
        assert_int_equal(p->bytes.n, p->len);
        memcpy(to, p->bytes.p, p->len);
        break;
    case FS_PIECE_LOG:
        assert_true(p->loc.index < a->w->entries && p->loc.off + (uint64_t)p->len <= a->w->log[p->loc.index].n);
        memcpy(to, a->w->log[p->loc.index].bytes + p->loc.off, p->len);
        break;
    }
}

int64_t world_read(const struct world *w, const struct fs *fs, uint64_t ino, uint64_t off, uint32_t len,
                   struct buf *out)
{
    struct assembly a = {.w = w, .out = out, .pos = off};
    size_t before = out->n;
    int64_t n = fs_read(fs, ino, off, len, assemble, &a);
    if (n >= 0) assert_true((size_t)n == out->n - before);
    return n;
}

uint64_t world_file(struct world *w, uint64_t dir, const char *name)
{
    struct fs_attr a;
    w->ctx.now += 10;
    assert_int_equal(fs_create(&w->fs, &w->ctx, dir, S(name), 0644, true, &a, NULL), 0);
    return a.ino;
}

uint64_t world_dir(struct world *w, uint64_t dir, const char *name)
{
    struct fs_attr a;
    w->ctx.now += 10;
    assert_int_equal(fs_mknod(&w->fs, &w->ctx, dir, S(name), S_IFDIR | 0755, 0, (struct slice){0}, &a), 0);
    return a.ino;
}

int world_write(struct world *w, uint64_t ino, uint64_t off, const void *p, size_t n)
{
    w->ctx.now += 10;
    struct slice data = slice_of(p, n);
    return fs_write(&w->fs, &w->ctx, ino, off, false, data, world_log(w, data), NULL, NULL);
}

int world_put(struct world *w, const char *key, const void *p, size_t n)
{
    w->ctx.now += 10;
    struct slice data = slice_of(p, n);
    return fs_put(&w->fs, &w->ctx, S(key), data, world_log(w, data), NULL);
}

struct fs_attr world_attr(const struct world *w, uint64_t ino)
{
    struct fs_attr a;
    assert_int_equal(fs_getattr(&w->fs, ino, &a), 0);
    return a;
}

void world_expect(const struct world *w, uint64_t ino, const void *p, size_t n)
{
    struct buf got = {0};
    assert_int_equal(world_attr(w, ino).size, n);
    assert_int_equal(world_read(w, &w->fs, ino, 0, (uint32_t)n + 100, &got), n);
    if (n) assert_memory_equal(got.p, p, n);
    buf_free(&got);
}

/* ---- dump -------------------------------------------------------------------------------------------------------- */

struct dump {
    const struct world *w;
    const struct fs *fs;
    struct buf *out;
};

static void dump_node(struct dump *d, const struct fs_attr *a);

static bool dump_entry(void *ctx, struct slice name, const struct fs_attr *a)
{
    struct dump *d = ctx;
    buf_append(d->out, name.p, name.n);
    dump_node(d, a);
    return true;
}

static void dump_node(struct dump *d, const struct fs_attr *a)
{
    char line[300];
    int n = snprintf(line, sizeof(line), " %llu %o %u %u:%u %llu %llu %lld %lld %lld %lld v%llu\n",
                     (unsigned long long)a->ino, a->mode, a->nlink, a->uid, a->gid, (unsigned long long)a->size,
                     (unsigned long long)a->blocks, (long long)a->atime, (long long)a->mtime, (long long)a->ctime,
                     (long long)a->btime, (unsigned long long)a->version);
    buf_append(d->out, line, (size_t)n);
    assert_int_equal(fs_listxattr(d->fs, a->ino, d->out), 0);
    if (S_ISREG(a->mode)) world_read(d->w, d->fs, a->ino, 0, UINT32_MAX, d->out);
    if (S_ISDIR(a->mode)) {
        assert_int_equal(fs_readdir(d->fs, a->ino, (struct slice){0}, dump_entry, d), 1);
        buf_append(d->out, "..\n", 3);
    }
}

void world_dump(const struct world *w, const struct fs *fs, struct buf *out)
{
    struct dump d = {.w = w, .fs = fs, .out = out};
    struct fs_attr root;
    assert_int_equal(fs_getattr(fs, FS_ROOT_INO, &root), 0);
    dump_node(&d, &root);
}
