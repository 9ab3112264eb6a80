/* Which system calls the disk makes for a promise of durability, and what it answers when the k-th of them fails. The
 * calls are interposed here: this program's pwrite, fsync, ... stand in for the C library's (with 64-bit offsets the
 * headers give them the right names). */
#include "helper.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char calls[400];         /* one letter a call, of the last operation */
static int fail_at, fail_errno; /* the call that fails; 0: none */
static int short_at;            /* the write that takes only short_n bytes */
static size_t short_n;
static bool direct_refused;
static bool recording;

/* False: this call fails, errno is set. */
static bool note(char what, int *ordinal)
{
    bool ok = true;
    pthread_mutex_lock(&mutex);
    if (recording) {
        size_t n = strlen(calls);
        if (n + 1 < sizeof(calls)) calls[n] = what;
        *ordinal = (int)n + 1;
        ok = *ordinal != fail_at;
    } else {
        *ordinal = 0;
    }
    pthread_mutex_unlock(&mutex);
    if (!ok) errno = fail_errno;
    return ok;
}

static size_t cut(int ordinal, size_t n) { return ordinal && ordinal == short_at && short_n < n ? short_n : n; }

static bool is_dir(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
}

/* D directory, f file */
int fsync(int fd)
{
    int i;
    return note(is_dir(fd) ? 'D' : 'f', &i) ? (int)syscall(SYS_fsync, fd) : -1;
}

int fdatasync(int fd)
{
    int i;
    return note('d', &i) ? (int)syscall(SYS_fdatasync, fd) : -1;
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t off)
{
    int i;
    return note('w', &i) ? syscall(SYS_pwrite64, fd, p, cut(i, n), off) : -1;
}

ssize_t pwritev2(int fd, const struct iovec *v, int nv, off_t off, int flags)
{
    int i;
    check(nv == 1 && flags == RWF_DSYNC && (fcntl(fd, F_GETFL) & O_DIRECT));
    struct iovec one = {v->iov_base, v->iov_len};
    if (!note('W', &i)) return -1;
    one.iov_len = cut(i, one.iov_len);
    return syscall(SYS_pwritev2, fd, &one, 1, off, 0, flags);
}

int fallocate(int fd, int mode, off_t off, off_t n)
{
    int i;
    return note('a', &i) ? (int)syscall(SYS_fallocate, fd, mode, off, n) : -1;
}

int renameat(int a, const char *from, int b, const char *to)
{
    int i;
    return note('r', &i) ? (int)syscall(SYS_renameat, a, from, b, to) : -1;
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    int mode = flags & O_CREAT ? va_arg(args, int) : 0;
    va_end(args);
    if (direct_refused && (flags & O_DIRECT)) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

/* ---- the tests --------------------------------------------------------------------------------------------------- */

static struct io_loop *loop;
static struct disk *disk;
static char dir[64];
static uint8_t *page;

static int setup(void **state)
{
    struct buf why = {0};
    fail_at = short_at = 0;
    direct_refused = recording = false;
    loop = io_loop_new();
    make_dir(dir);
    page = aligned_alloc(DISK_BLOCK, 64 * DISK_BLOCK);
    fill(page, 64 * DISK_BLOCK, 1);
    assert_int_equal(io_disk_open(loop, dir, &disk, &why), 0);
    return 0;
}

static int teardown(void **state)
{
    recording = false;
    io_disk_close(disk);
    io_loop_free(loop);
    remove_tree(dir);
    free(page);
    return 0;
}

struct op {
    struct disk_io io;
    bool done;
    int64_t result;
};

static void on_done(struct disk_io *io, int64_t result)
{
    struct op *o = io->arg;
    o->done = true;
    o->result = result;
    io_loop_stop(loop);
}

static int64_t run(enum disk_op op, const char *name, uint64_t off, uint32_t n, bool durable)
{
    struct op o = {
        .io = {.op = op, .lane = DISK_LANE_LOG, .off = off, .p = page, .n = n, .durable = durable, .done = on_done}};
    o.io.arg = &o;
    snprintf(o.io.name, sizeof(o.io.name), "%s", name);
    snprintf(o.io.to, sizeof(o.io.to), "renamed");
    memset(calls, 0, sizeof(calls));
    recording = true;
    disk_submit(disk, &o.io);
    run_until(loop, o.done);
    recording = false;
    return o.result;
}

static void test_calls_for_durability(void **state)
{
    if (run(DISK_WRITE, "probe", 0, DISK_BLOCK, true) == DISK_BLOCK && calls[0] != 'W') {
        print_message("no O_DIRECT here: skipped\n");
        return;
    }
    assert_int_equal(run(DISK_WRITE, "seg", 0, 4 * DISK_BLOCK, true), 4 * DISK_BLOCK);
    assert_string_equal(calls, "WD"); /* the new file's name, too */
    assert_int_equal(run(DISK_WRITE, "seg", 4 * DISK_BLOCK, DISK_BLOCK, true), DISK_BLOCK);
    assert_string_equal(calls, "W");
    assert_int_equal(run(DISK_WRITE, "ckpt", 0, DISK_BLOCK, false), DISK_BLOCK);
    assert_string_equal(calls, "w");
    assert_int_equal(run(DISK_SYNC, "ckpt", 0, 0, false), 0);
    assert_string_equal(calls, "dD");
    assert_int_equal(run(DISK_SYNC, "ckpt", 0, 0, false), 0);
    assert_string_equal(calls, "d");
    assert_int_equal(run(DISK_RENAME, "ckpt", 0, 0, false), 0);
    assert_string_equal(calls, "rD");
    assert_int_equal(run(DISK_ALLOC, "new", 2 * MIB, 0, false), 0);
    assert_string_equal(calls, "afD");
    assert_int_equal(run(DISK_ALLOC, "zeros", 2 * MIB, 0, true), 0);
    assert_string_equal(calls, "awwfD");
}

static void test_without_direct_io(void **state)
{
    direct_refused = true;
    assert_int_equal(run(DISK_WRITE, "seg", 0, DISK_BLOCK, true), DISK_BLOCK);
    assert_string_equal(calls, "wdD");
    assert_int_equal(run(DISK_WRITE, "seg", DISK_BLOCK, DISK_BLOCK, true), DISK_BLOCK);
    assert_string_equal(calls, "wd");
    assert_int_equal(run(DISK_ALLOC, "zeros", 2 * MIB + DISK_BLOCK, 0, true), 0);
    assert_string_equal(calls, "awwwfD");
    uint8_t q[DISK_BLOCK];
    assert_int_equal(disk_load(disk, "seg", DISK_BLOCK, q, DISK_BLOCK), DISK_BLOCK);
    assert_memory_equal(q, page, DISK_BLOCK);
}

/* RWF_DSYNC refused at the first write only; and fallocate refused, where zeros are the reservation. */
static void test_refused_features(void **state)
{
    fail_at = 1;
    fail_errno = EOPNOTSUPP;
    assert_int_equal(run(DISK_WRITE, "seg", 0, DISK_BLOCK, true), DISK_BLOCK);
    assert_true(strcmp(calls, "WwdD") == 0 || strcmp(calls, "w") == 0);
    assert_int_equal(run(DISK_ALLOC, "new", MIB, 0, false), 0);
    assert_string_equal(calls, "awfD");
}

/* Whatever fails, the operation fails: a promise is never made on the strength of a call that did not work. */
static void test_every_call_may_fail(void **state)
{
    static const struct {
        enum disk_op op;
        uint64_t off;
        uint32_t n;
        bool durable;
    } ops[] = {
        {DISK_WRITE, 0, DISK_BLOCK, true}, {DISK_WRITE, 0, DISK_BLOCK, false}, {DISK_ALLOC, 3 * MIB, 0, true},
        {DISK_ALLOC, 3 * MIB, 0, false},   {DISK_SYNC, 0, 0, false},           {DISK_RENAME, 0, 0, false},
    };
    static const int errors[] = {EIO, ENOSPC};
    for (int refuse = 0; refuse < 2; refuse++) {
        direct_refused = refuse;
        for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
            int injected = 0;
            for (int k = 1; k < 40; k++) {
                char name[20];
                snprintf(name, sizeof(name), "f%d-%zu-%d", refuse, i, k);
                fail_at = 0;
                if (ops[i].op == DISK_SYNC || ops[i].op == DISK_RENAME) run(DISK_WRITE, name, 0, DISK_BLOCK, false);
                fail_at = k;
                fail_errno = errors[k % 2];
                int64_t r = run(ops[i].op, name, ops[i].off, ops[i].n, ops[i].durable);
                if ((int)strlen(calls) < k) {
                    assert_true(r >= 0);
                    break;
                }
                assert_int_equal(r, -fail_errno);
                injected++;
            }
            assert_true(injected >= 1);
        }
    }
}

/* A name whose directory sync failed is not taken for durable by the next operation. */
static void test_failed_name_sync_is_repeated(void **state)
{
    direct_refused = true;
    fail_at = 3;
    fail_errno = EIO;
    assert_int_equal(run(DISK_WRITE, "seg", 0, DISK_BLOCK, true), -EIO);
    assert_string_equal(calls, "wdD");
    fail_at = 0;
    assert_int_equal(run(DISK_WRITE, "seg", 0, DISK_BLOCK, true), DISK_BLOCK);
    assert_string_equal(calls, "wdD");
}

static void test_short_writes(void **state)
{
    static const size_t lengths[] = {DISK_BLOCK, 3 * DISK_BLOCK, 512, DISK_BLOCK + 512};
    uint8_t *q = malloc(8 * DISK_BLOCK);
    for (int refuse = 0; refuse < 2; refuse++) {
        direct_refused = refuse;
        for (int durable = 0; durable < 2; durable++) {
            for (size_t i = 0; i < 4; i++) {
                short_at = 1;
                short_n = lengths[i];
                assert_int_equal(run(DISK_WRITE, "seg", 0, 8 * DISK_BLOCK, durable), 8 * DISK_BLOCK);
                assert_true(strlen(calls) >= 2);
                short_at = 0;
                assert_int_equal(disk_load(disk, "seg", 0, q, 8 * DISK_BLOCK), 8 * DISK_BLOCK);
                assert_memory_equal(q, page, 8 * DISK_BLOCK);
                run(DISK_REMOVE, "seg", 0, 0, false);
            }
        }
    }
    free(q);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_calls_for_durability),
        T(test_without_direct_io),
        T(test_refused_features),
        T(test_every_call_may_fail),
        T(test_failed_name_sync_is_repeated),
        T(test_short_writes),
    };
    alarm(WATCHDOG_S);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
