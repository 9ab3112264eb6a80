/* Disk door on real files: every operation, the order within lanes, durability calls, coherence of direct writes and
 * buffered reads, the lock, and random operations against a model. */
#include "helper.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

static struct io_loop *loop;
static struct disk *disk;
static char dir[64], data[80];

static int setup(void **state)
{
    struct buf why = {0};
    loop = io_loop_new();
    make_dir(dir);
    snprintf(data, sizeof(data), "%s/data", dir);
    assert_int_equal(io_disk_open(loop, data, &disk, &why), 0);
    return 0;
}

static int teardown(void **state)
{
    if (disk) io_disk_close(disk);
    io_loop_free(loop);
    remove_tree(dir);
    return 0;
}

struct op {
    struct disk_io io;
    bool done;
    int64_t result;
    int order;
};
static int finished;

static void on_done(struct disk_io *io, int64_t result)
{
    struct op *o = io->arg;
    assert_false(o->done);
    o->done = true;
    o->result = result;
    o->order = finished++;
    io_loop_stop(loop);
}

static void submit(struct op *o, enum disk_op op, enum disk_lane lane, const char *name, uint64_t off, void *p,
                   uint32_t n, bool durable)
{
    *o = (struct op){.io = {.op = op, .lane = lane, .off = off, .p = p, .n = n, .durable = durable, .done = on_done}};
    o->io.arg = o;
    snprintf(o->io.name, sizeof(o->io.name), "%s", name);
    disk_submit(disk, &o->io);
    assert_false(o->done);
}

static int64_t finish(struct op *o)
{
    run_until(loop, o->done);
    return o->result;
}

static int64_t run(enum disk_op op, enum disk_lane lane, const char *name, uint64_t off, void *p, uint32_t n,
                   bool durable)
{
    struct op o;
    submit(&o, op, lane, name, off, p, n, durable);
    return finish(&o);
}

static int64_t rename_to(const char *from, const char *to)
{
    struct op o = {.io = {.op = DISK_RENAME, .lane = DISK_LANE_LOG, .done = on_done}};
    o.io.arg = &o;
    snprintf(o.io.name, sizeof(o.io.name), "%s", from);
    snprintf(o.io.to, sizeof(o.io.to), "%s", to);
    disk_submit(disk, &o.io);
    return finish(&o);
}

static uint8_t *pages(size_t n)
{
    uint8_t *p = aligned_alloc(DISK_BLOCK, n * DISK_BLOCK);
    assert_non_null(p);
    return p;
}

static bool all_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i]) return false;
    }
    return true;
}

/* ---- operations -------------------------------------------------------------------------------------------------- */

static void test_write_and_read(void **state)
{
    uint8_t *p = pages(16), *q = pages(17);
    for (int durable = 0; durable < 2; durable++) {
        const char *name = durable ? "durable" : "plain";
        fill(p, 16 * DISK_BLOCK, 5 + (uint64_t)durable);
        assert_int_equal(run(DISK_WRITE, DISK_LANE_LOG, name, 0, p, 16 * DISK_BLOCK, durable), 16 * DISK_BLOCK);
        assert_int_equal(run(DISK_READ, DISK_LANE_READ, name, 0, q, 16 * DISK_BLOCK, false), 16 * DISK_BLOCK);
        assert_memory_equal(p, q, 16 * DISK_BLOCK);
        /* Short at the end, nothing behind it. */
        assert_int_equal(run(DISK_READ, DISK_LANE_READ, name, 15 * DISK_BLOCK + 100, q, 8192, false), DISK_BLOCK - 100);
        assert_memory_equal(q, p + 15 * DISK_BLOCK + 100, DISK_BLOCK - 100);
        assert_int_equal(run(DISK_READ, DISK_LANE_READ, name, 16 * DISK_BLOCK, q, 1, false), 0);
        assert_int_equal(run(DISK_READ, DISK_LANE_BULK, name, 7, q, 13, false), 13);
        assert_memory_equal(q, p + 7, 13);
        assert_int_equal(run(DISK_SYNC, DISK_LANE_BULK, name, 0, NULL, 0, false), 0);
        assert_int_equal(disk_load(disk, name, 3, q, 100), 100);
        assert_memory_equal(q, p + 3, 100);
        assert_int_equal(disk_load(disk, name, 15 * DISK_BLOCK, q, 2 * DISK_BLOCK), DISK_BLOCK);
        /* A hole in front reads as zeros. */
        assert_int_equal(
            run(DISK_WRITE, DISK_LANE_LOG, durable ? "hole1" : "hole0", DISK_BLOCK, p, DISK_BLOCK, durable),
            DISK_BLOCK);
        assert_int_equal(run(DISK_READ, DISK_LANE_READ, durable ? "hole1" : "hole0", 0, q, 2 * DISK_BLOCK, false),
                         2 * DISK_BLOCK);
        assert_true(all_zero(q, DISK_BLOCK));
        assert_memory_equal(q + DISK_BLOCK, p, DISK_BLOCK);
    }
    free(p);
    free(q);
}

static void test_what_is_missing(void **state)
{
    uint8_t b[10];
    assert_int_equal(run(DISK_READ, DISK_LANE_READ, "none", 0, b, 10, false), -ENOENT);
    assert_int_equal(run(DISK_SYNC, DISK_LANE_BULK, "none", 0, NULL, 0, false), -ENOENT);
    assert_int_equal(run(DISK_REMOVE, DISK_LANE_BULK, "none", 0, NULL, 0, false), 0);
    assert_int_equal(rename_to("none", "other"), -ENOENT);
    assert_int_equal(disk_load(disk, "none", 0, b, 10), -ENOENT);
    assert_int_equal(disk_try_read(disk, "none", 0, b, 10), -EAGAIN);
}

static void test_try_read(void **state)
{
    uint8_t *p = pages(4), q[5000];
    fill(p, 4 * DISK_BLOCK, 9);
    assert_int_equal(run(DISK_WRITE, DISK_LANE_BULK, "f", 0, p, 4 * DISK_BLOCK, false), 4 * DISK_BLOCK);
    assert_int_equal(disk_try_read(disk, "f", 100, q, sizeof(q)), sizeof(q)); /* just written: in the page cache */
    assert_memory_equal(q, p + 100, sizeof(q));
    assert_int_equal(disk_try_read(disk, "f", 4 * DISK_BLOCK - 10, q, 20), -EAGAIN); /* short */
    free(p);
}

static void test_alloc(void **state)
{
    struct stat st;
    char path[160];
    uint8_t *p = pages(2), *q = pages(400);
    snprintf(path, sizeof(path), "%s/seg", data);
    fill(p, 2 * DISK_BLOCK, 1);
    for (int durable = 0; durable < 2; durable++) {
        assert_int_equal(run(DISK_ALLOC, DISK_LANE_BULK, "seg", 300 * DISK_BLOCK, NULL, 0, durable), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, 300 * DISK_BLOCK);
        assert_true(st.st_blocks * 512 >= 300 * DISK_BLOCK); /* the space is reserved */
        assert_int_equal(run(DISK_READ, DISK_LANE_READ, "seg", 0, q, 301 * DISK_BLOCK, false), 300 * DISK_BLOCK);
        assert_true(all_zero(q, 300 * DISK_BLOCK));
        /* Growing keeps what is there; what comes behind reads as zeros. */
        assert_int_equal(run(DISK_WRITE, DISK_LANE_LOG, "seg", 299 * DISK_BLOCK, p, DISK_BLOCK, true), DISK_BLOCK);
        assert_int_equal(run(DISK_ALLOC, DISK_LANE_BULK, "seg", 400 * DISK_BLOCK, NULL, 0, durable), 0);
        assert_int_equal(run(DISK_READ, DISK_LANE_READ, "seg", 0, q, 400 * DISK_BLOCK, false), 400 * DISK_BLOCK);
        assert_true(all_zero(q, 299 * DISK_BLOCK));
        assert_memory_equal(q + 299 * DISK_BLOCK, p, DISK_BLOCK);
        assert_true(all_zero(q + 300 * DISK_BLOCK, 100 * DISK_BLOCK));
        /* Shrinking, then growing again: no old bytes come back. */
        assert_int_equal(run(DISK_ALLOC, DISK_LANE_BULK, "seg", 10 * DISK_BLOCK, NULL, 0, durable), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_size, 10 * DISK_BLOCK);
        assert_int_equal(run(DISK_ALLOC, DISK_LANE_BULK, "seg", 300 * DISK_BLOCK, NULL, 0, durable), 0);
        assert_int_equal(run(DISK_READ, DISK_LANE_READ, "seg", 0, q, 300 * DISK_BLOCK, false), 300 * DISK_BLOCK);
        assert_true(all_zero(q, 300 * DISK_BLOCK));
        assert_int_equal(run(DISK_REMOVE, DISK_LANE_BULK, "seg", 0, NULL, 0, false), 0);
    }
    free(p);
    free(q);
}

static void test_no_space(void **state)
{
    uint64_t total, avail;
    struct stat st;
    char path[160];
    assert_int_equal(disk_space(disk, &total, &avail), 0);
    assert_true(avail > 0 && avail <= total);
    assert_int_equal(run(DISK_ALLOC, DISK_LANE_BULK, "huge", 2 * total / DISK_BLOCK * DISK_BLOCK, NULL, 0, false),
                     -ENOSPC);
    snprintf(path, sizeof(path), "%s/huge", data);
    if (stat(path, &st) == 0) {
        assert_int_equal(st.st_size, 0); /* nothing of it is kept */
        assert_int_equal(st.st_blocks, 0);
    }
}

static void test_rename_and_remove(void **state)
{
    uint8_t *p = pages(1), *q = pages(1);
    for (int round = 0; round < 3; round++) {
        fill(p, DISK_BLOCK, 100 + (uint64_t)round);
        assert_int_equal(run(DISK_WRITE, DISK_LANE_LOG, "new", 0, p, DISK_BLOCK, true), DISK_BLOCK);
        /* Both names are open in the cache by now. */
        assert_int_equal(run(DISK_READ, DISK_LANE_READ, "new", 0, q, 10, false), 10);
        assert_int_equal(rename_to("new", "cur"), 0);
        assert_int_equal(run(DISK_READ, DISK_LANE_READ, "cur", 0, q, DISK_BLOCK, false), DISK_BLOCK);
        assert_memory_equal(p, q, DISK_BLOCK);
        assert_int_equal(run(DISK_READ, DISK_LANE_READ, "new", 0, q, 10, false), -ENOENT);
    }
    assert_int_equal(run(DISK_REMOVE, DISK_LANE_LOG, "cur", 0, NULL, 0, false), 0);
    assert_int_equal(run(DISK_READ, DISK_LANE_READ, "cur", 0, q, 10, false), -ENOENT);
    assert_int_equal(disk_try_read(disk, "cur", 0, q, 10), -EAGAIN);
    free(p);
    free(q);
}

static void collect(void *arg, const char *name, uint64_t size)
{
    struct buf *b = arg;
    char line[100];
    int n = snprintf(line, sizeof(line), "%s:%llu ", name, (unsigned long long)size);
    buf_append(b, line, (size_t)n);
}

static void test_list(void **state)
{
    struct buf names = {0};
    char path[160];
    uint8_t *p = pages(2);
    memset(p, 1, 2 * DISK_BLOCK);
    assert_int_equal(disk_list(disk, collect, &names), 0);
    assert_int_equal(names.n, 0); /* the lock is ours and not listed */
    assert_int_equal(run(DISK_WRITE, DISK_LANE_LOG, "seg-01", DISK_BLOCK, p, DISK_BLOCK, true), DISK_BLOCK);
    snprintf(path, sizeof(path), "%s/lost+found", data);
    assert_int_equal(mkdir(path, 0700), 0);
    snprintf(path, sizeof(path), "%s/%060d", data, 1); /* too long to be ours */
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(disk_list(disk, collect, &names), 0);
    assert_true(slice_eq(buf_slice(&names), slice_str("seg-01:8192 ")));
    buf_free(&names);
    free(p);
}

/* ---- order ------------------------------------------------------------------------------------------------------- */

static void test_lanes_keep_order(void **state)
{
    enum { N = 200 };
    static struct op log[N], bulk[N], read[N];
    uint8_t *p = pages(N), *q = malloc(N * 100);
    for (uint32_t i = 0; i < N; i++) memset(p + i * DISK_BLOCK, (int)i, DISK_BLOCK);
    assert_int_equal(run(DISK_WRITE, DISK_LANE_BULK, "c", 0, p, N * DISK_BLOCK, false), N * DISK_BLOCK);
    finished = 0;
    for (uint32_t i = 0; i < N; i++) {
        /* All overwrite one page: the last one must win. */
        submit(&log[i], DISK_WRITE, DISK_LANE_LOG, "a", 0, p + i * DISK_BLOCK, DISK_BLOCK, i % 10 == 0);
        submit(&bulk[i], i % 3 ? DISK_WRITE : DISK_SYNC, DISK_LANE_BULK, i % 3 || i == 0 ? "b" : "b", 0,
               p + i * DISK_BLOCK, i % 3 ? DISK_BLOCK : 0, false);
        submit(&read[i], DISK_READ, DISK_LANE_READ, "c", i * DISK_BLOCK, q + i * 100, 100, false);
    }
    run_until(loop, finished == 3 * N);
    for (uint32_t i = 0; i < N; i++) {
        assert_int_equal(log[i].result, DISK_BLOCK);
        if (i) assert_true(log[i].order > log[i - 1].order && bulk[i].order > bulk[i - 1].order);
        if (i) assert_int_equal(bulk[i].result, i % 3 ? DISK_BLOCK : 0);
        assert_int_equal(read[i].result, 100);
        assert_int_equal(q[i * 100 + 99], (uint8_t)i);
    }
    assert_int_equal(disk_load(disk, "a", 0, q, 100), 100);
    assert_int_equal(q[50], N - 1);
    assert_int_equal(disk_load(disk, "b", 0, q, 100), 100);
    assert_int_equal(q[50], N - 1);
    free(p);
    free(q);
}

/* The last done() may submit the next operation. */
static int chained;
static uint8_t *chain_page;
static void next_link(struct disk_io *io, int64_t result)
{
    assert_int_equal(result, DISK_BLOCK);
    if (++chained == 100) {
        io_loop_stop(loop);
        free(io);
        return;
    }
    struct disk_io *next = malloc(sizeof(*next));
    *next = *io;
    next->off += DISK_BLOCK;
    free(io); /* done() may free it */
    disk_submit(disk, next);
}

static void test_submit_from_done(void **state)
{
    struct disk_io *io = calloc(1, sizeof(*io));
    uint64_t size = 0;
    chained = 0;
    chain_page = pages(1);
    memset(chain_page, 1, DISK_BLOCK);
    *io = (struct disk_io){
        .op = DISK_WRITE, .lane = DISK_LANE_LOG, .name = "chain", .p = chain_page, .n = DISK_BLOCK, .done = next_link};
    disk_submit(disk, io);
    run_until(loop, chained == 100);
    size = (uint64_t)disk_load(disk, "chain", 99 * DISK_BLOCK, chain_page, DISK_BLOCK);
    assert_int_equal(size, DISK_BLOCK);
    free(chain_page);
}

/* Durable (direct) writes at the end of a file while its earlier part is read (buffered), as the log is. */
static void test_reading_while_writing_elsewhere(void **state)
{
    enum { N = 300 };
    struct prng r;
    uint8_t *p = pages(N), *q = malloc(3 * DISK_BLOCK);
    struct op w, rd;
    prng_seed(&r, 11);
    fill(p, N * DISK_BLOCK, 77);
    assert_int_equal(run(DISK_ALLOC, DISK_LANE_BULK, "seg", N * DISK_BLOCK, NULL, 0, true), 0);
    for (uint32_t at = 0; at < N;) {
        uint32_t n = 1 + (uint32_t)prng_below(&r, 5);
        if (n > N - at) n = N - at;
        submit(&w, DISK_WRITE, DISK_LANE_LOG, "seg", at * DISK_BLOCK, p + at * DISK_BLOCK, n * DISK_BLOCK, true);
        for (int i = 0; i < 4 && at > 0; i++) {
            uint64_t off = prng_below(&r, at * DISK_BLOCK);
            uint32_t len = (uint32_t)min_u64(1 + prng_below(&r, 2 * DISK_BLOCK), at * DISK_BLOCK - off);
            submit(&rd, DISK_READ, DISK_LANE_READ, "seg", off, q, len, false);
            assert_int_equal(finish(&rd), len);
            assert_memory_equal(q, p + off, len);
            int64_t t = disk_try_read(disk, "seg", off, q, len);
            assert_true(t == -EAGAIN || t == len);
            if (t == len) assert_memory_equal(q, p + off, len);
        }
        assert_int_equal(finish(&w), n * DISK_BLOCK);
        at += n;
        /* What has just been written is there for every kind of read. */
        assert_int_equal(disk_load(disk, "seg", (at - 1) * DISK_BLOCK, q, DISK_BLOCK), DISK_BLOCK);
        assert_memory_equal(q, p + (at - 1) * DISK_BLOCK, DISK_BLOCK);
    }
    free(p);
    free(q);
}

/* More files than are kept open. */
static void test_many_files(void **state)
{
    enum { N = 400 };
    uint8_t *p = pages(1), q[64];
    char name[20];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < N; i++) {
            snprintf(name, sizeof(name), "f%d", i);
            memset(p, i + round, DISK_BLOCK);
            assert_int_equal(run(DISK_WRITE, DISK_LANE_BULK, name, 0, p, DISK_BLOCK, false), DISK_BLOCK);
        }
        for (int i = 0; i < N; i++) {
            snprintf(name, sizeof(name), "f%d", i);
            assert_int_equal(run(DISK_READ, DISK_LANE_READ, name, 5, q, sizeof(q), false), sizeof(q));
            assert_int_equal(q[10], (uint8_t)(i + round));
        }
    }
    int fds = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d)) fds++;
    closedir(d);
    assert_in_range(fds, 256, 300);
    free(p);
}

/* ---- a model ----------------------------------------------------------------------------------------------------- */

/* One lane, so that the order is known; reads go between. */
enum { FILES = 6, BLOCKS = 40 };
static struct {
    bool exists;
    uint32_t blocks;
    uint8_t byte[BLOCKS];
} model[FILES];

static void verify(int f)
{
    static uint8_t q[(BLOCKS + 1) * DISK_BLOCK];
    char name[8];
    snprintf(name, sizeof(name), "m%d", f);
    int64_t want = model[f].exists ? (int64_t)model[f].blocks * DISK_BLOCK : -ENOENT;
    assert_int_equal(run(DISK_READ, DISK_LANE_READ, name, 0, q, sizeof(q), false), want);
    for (int64_t i = 0; i < want; i += 512) assert_int_equal(q[i], model[f].byte[i / DISK_BLOCK]);
}

static void test_random_operations(void **state)
{
    struct prng r;
    uint8_t *p = pages(8);
    prng_seed(&r, 4711);
    memset(model, 0, sizeof(model));
    for (int i = 0; i < 1500; i++) {
        int f = (int)prng_below(&r, FILES), g = (int)prng_below(&r, FILES);
        char a[8], b[8];
        snprintf(a, sizeof(a), "m%d", f);
        snprintf(b, sizeof(b), "m%d", g);
        bool durable = prng_chance(&r, 20);
        uint64_t what = prng_below(&r, 10);
        if (what < 6) {
            uint32_t at = (uint32_t)prng_below(&r, BLOCKS - 8), n = 1 + (uint32_t)prng_below(&r, 8);
            memset(p, (int)(i & 0xff) | 1, 8 * DISK_BLOCK);
            assert_int_equal(run(DISK_WRITE, DISK_LANE_LOG, a, at * DISK_BLOCK, p, n * DISK_BLOCK, durable),
                             n * DISK_BLOCK);
            memset(model[f].byte + at, p[0], n);
            model[f].exists = true;
            if (model[f].blocks < at + n) model[f].blocks = at + n;
        } else if (what == 6) {
            uint32_t n = 1 + (uint32_t)prng_below(&r, BLOCKS);
            assert_int_equal(run(DISK_ALLOC, DISK_LANE_LOG, a, n * DISK_BLOCK, NULL, 0, durable), 0);
            memset(model[f].byte + n, 0, BLOCKS - n);
            model[f].exists = true;
            model[f].blocks = n;
        } else if (what == 7 && f != g) {
            assert_int_equal(rename_to(a, b), model[f].exists ? 0 : -ENOENT);
            if (model[f].exists) {
                model[g] = model[f];
                memset(&model[f], 0, sizeof(model[f]));
            }
            verify(g);
        } else if (what == 8) {
            assert_int_equal(run(DISK_REMOVE, DISK_LANE_LOG, a, 0, NULL, 0, false), 0);
            memset(&model[f], 0, sizeof(model[f]));
        } else {
            assert_int_equal(run(DISK_SYNC, DISK_LANE_LOG, a, 0, NULL, 0, false), model[f].exists ? 0 : -ENOENT);
        }
        verify(f);
    }
    free(p);
}

/* ---- opening and closing ----------------------------------------------------------------------------------------- */

static void test_lock(void **state)
{
    struct disk *second;
    struct buf why = {0};
    char pid[32];
    assert_int_equal(io_disk_open(loop, data, &second, &why), QE_BUSY);
    buf_append(&why, "", 1);
    snprintf(pid, sizeof(pid), "process %d", (int)getpid());
    assert_non_null(strstr((char *)why.p, pid));
    assert_non_null(strstr((char *)why.p, data));
    buf_free(&why);
    io_disk_close(disk);
    assert_int_equal(io_disk_open(loop, data, &disk, &why), 0); /* free again */
    buf_free(&why);
}

static void test_open_failures(void **state)
{
    struct disk *d;
    struct buf why = {0};
    char path[160];
    snprintf(path, sizeof(path), "%s/no/such", dir);
    assert_int_equal(io_disk_open(loop, path, &d, &why), -ENOENT);
    assert_true(why.n > 10);
    buf_clear(&why);
    snprintf(path, sizeof(path), "%s/file", dir);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(io_disk_open(loop, path, &d, &why), -ENOTDIR);
    assert_true(why.n > 10);
    buf_free(&why);
    struct stat st;
    assert_int_equal(stat(data, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
}

/* Closing waits for the threads and drops the answers. */
static void test_close_with_operations_under_way(void **state)
{
    enum { N = 50 };
    static struct op ops[N];
    uint8_t *p = pages(N);
    memset(p, 3, N * DISK_BLOCK);
    for (uint32_t i = 0; i < N; i++)
        submit(&ops[i], DISK_WRITE, DISK_LANE_LOG, "f", i * DISK_BLOCK, p, DISK_BLOCK, i % 10 == 0);
    io_disk_close(disk);
    for (int i = 0; i < N; i++) assert_false(ops[i].done);
    submit(&ops[0], DISK_WRITE, DISK_LANE_LOG, "f", 0, p, DISK_BLOCK, false); /* no more than ignored */
    uint64_t total, avail;
    assert_int_equal(disk_space(disk, &total, &avail), -EBADF);
    assert_int_equal(disk_try_read(disk, "f", 0, p, 1), -EAGAIN);
    struct buf why = {0};
    assert_int_equal(io_disk_open(loop, data, &disk, &why), 0);
    assert_int_equal(disk_load(disk, "f", 0, p, N * DISK_BLOCK), N * DISK_BLOCK);
    free(p);
}

static void test_two_disks(void **state)
{
    struct disk *first = disk, *second;
    struct buf why = {0};
    char path[160];
    uint8_t *p = pages(1), q[10];
    snprintf(path, sizeof(path), "%s/other", dir);
    assert_int_equal(io_disk_open(loop, path, &second, &why), 0);
    memset(p, 1, DISK_BLOCK);
    assert_int_equal(run(DISK_WRITE, DISK_LANE_LOG, "f", 0, p, DISK_BLOCK, true), DISK_BLOCK);
    disk = second;
    assert_int_equal(run(DISK_READ, DISK_LANE_READ, "f", 0, q, 10, false), -ENOENT);
    memset(p, 2, DISK_BLOCK);
    assert_int_equal(run(DISK_WRITE, DISK_LANE_LOG, "f", 0, p, DISK_BLOCK, true), DISK_BLOCK);
    disk = first;
    assert_int_equal(run(DISK_READ, DISK_LANE_READ, "f", 0, q, 10, false), 10);
    assert_int_equal(q[0], 1);
    io_disk_close(second);
    free(p);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_write_and_read),
        T(test_what_is_missing),
        T(test_try_read),
        T(test_alloc),
        T(test_no_space),
        T(test_rename_and_remove),
        T(test_list),
        T(test_lanes_keep_order),
        T(test_submit_from_done),
        T(test_reading_while_writing_elsewhere),
        T(test_many_files),
        T(test_random_operations),
        T(test_lock),
        T(test_open_failures),
        T(test_close_with_operations_under_way),
        T(test_two_disks),
    };
    alarm(WATCHDOG_S);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
