/* What has returned on one mount is seen by what starts afterwards on any other, pages and all. */
#include "helper.h"

#include <sys/mman.h>

/* ---- times that are set back ---- */

static void set_mtime(const char *path, const struct stat *st)
{
    struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, st->st_mtim};
    ok(utimensat(AT_FDCWD, path, t, 0));
}

static void expect_fd(int fd, const char *text)
{
    char got[100] = "";
    assert_int_equal(pread(fd, got, sizeof got, 0), strlen(text));
    assert_memory_equal(got, text, strlen(text));
}

static void test_same_size_same_mtime(void **state)
{
    struct stat st;
    put_file(0, "f", "aaaa", 4);
    int fd = open(on(0, "f"), O_RDONLY);
    expect_fd(fd, "aaaa");
    ok(fstat(fd, &st));
    for (int i = 0; i < 50; i++) {
        char text[12];
        snprintf(text, sizeof text, "%04d", i);
        put_file(1, "f", text, 4);
        set_mtime(on(1, "f"), &st);
        expect_fd(fd, text);
        expect_fd(fd, text);
        expect_file(0, "f", text, 4);
    }
    close(fd);
}

/* The reply to SETATTR brings a new mtime without the kernel looking at its pages. */
static void test_chmod_after_a_change_elsewhere(void **state)
{
    put_file(0, "f", "aaaa", 4);
    int fd = open(on(0, "f"), O_RDONLY);
    expect_fd(fd, "aaaa");
    for (int i = 0; i < 50; i++) {
        char text[12];
        snprintf(text, sizeof text, "%04d", i);
        put_file(1, "f", text, 4);
        ok(fchmod(fd, i % 2 ? 0644 : 0600));
        expect_fd(fd, text);
    }
    close(fd);
}

/* ---- the page cache is worth its name: what is unchanged is not read again ---- */

static void test_unchanged_pages_stay(void **state)
{
    char *big = calloc(1, 300000), *got = malloc(300000);
    put_file(0, "cached", big, 300000);
    expect_file(0, "cached", big, 300000);
    uint64_t before = standin_count(s, 0, KV_READ);
    for (int i = 0; i < 10; i++) {
        struct stat st;
        expect_file(0, "cached", big, 300000);
        ok(stat(on(1, "cached"), &st));
        ok(chmod(on(1, "cached"), 0600));
    }
    assert_int_equal(standin_count(s, 0, KV_READ), before);
    put_file(1, "cached", big, 300000);
    expect_file(0, "cached", big, 300000);
    assert_true(standin_count(s, 0, KV_READ) > before);
    free(big);
    free(got);
}

/* ---- mappings: what the last open or read saw ---- */

static int map_elsewhere(void)
{
    int fd = open(on(1, "mapped"), O_RDWR);
    char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED || memcmp(p, "before", 6) != 0) return 1;
    memcpy(p, "after!", 6);
    return msync(p, 4096, MS_SYNC) ? 2 : 0;
}

static int map_here(const char *want)
{
    int fd = open(on(0, "mapped"), O_RDONLY);
    char *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    return p == MAP_FAILED || memcmp(p, want, 6) != 0;
}

static int map_here_after(void) { return map_here("after!"); }
static int map_here_again(void) { return map_here("again!"); }

static void test_mappings(void **state)
{
    struct stat st;
    put_file(0, "mapped", "before", 6);
    expect_file(0, "mapped", "before", 6);
    assert_int_equal(in_child(map_elsewhere), 0);
    assert_int_equal(in_child(map_here_after), 0);
    expect_file(0, "mapped", "after!", 6);
    /* no read asks for attributes here: it is open(2) that has to notice */
    ok(stat(on(0, "mapped"), &st));
    put_file(1, "mapped", "again!", 6);
    set_mtime(on(1, "mapped"), &st);
    assert_int_equal(in_child(map_here_again), 0);
}

/* ---- appending from everywhere ---- */

enum { LINES = 200 };

static void *append_lines(void *arg)
{
    unsigned who = (unsigned)(uintptr_t)arg;
    int fd = open(on(who % 2, "lines"), O_WRONLY | O_APPEND | O_CREAT, 0644);
    for (int i = 0; i < LINES; i++) {
        char line[32];
        int n = snprintf(line, sizeof line, "%u %d\n", who, i);
        if (write(fd, line, (size_t)n) != n) return (void *)1;
    }
    close(fd);
    return NULL;
}

static void test_appends(void **state)
{
    pthread_t t[4];
    standin_delay(s, 300);
    for (uintptr_t i = 0; i < 4; i++) pthread_create(&t[i], NULL, append_lines, (void *)i);
    for (int i = 0; i < 4; i++) {
        void *bad;
        pthread_join(t[i], &bad);
        assert_null(bad);
    }
    standin_delay(s, 0);
    for (unsigned m = 0; m < 2; m++) {
        FILE *f = fopen(on(m, "lines"), "r");
        int next[4] = {0}, who, i;
        while (fscanf(f, "%d %d\n", &who, &i) == 2) assert_int_equal(next[who]++, i);
        assert_true(feof(f));
        fclose(f);
        for (int k = 0; k < 4; k++) assert_int_equal(next[k], LINES);
    }
}

/* ---- random operations on a few files through two mounts, against bytes in memory ---- */

enum { FILES = 4, FDS = 6, SIZE_MAX_ = 20000 };

struct model {
    bool exists;
    size_t n;
    char bytes[SIZE_MAX_];
    struct stat seen;           /* an mtime to set back to */
    unsigned id;                /* of the inode: a name that was removed and made again is another file */
};

struct held {
    int fd;                     /* -1: none */
    unsigned file, id;
};

static struct model files[FILES];
static struct held fds[FDS];
static unsigned ids;

static const char *file_on(unsigned m, unsigned f)
{
    char name[8];
    snprintf(name, sizeof name, "r%u", f);
    return on(m, name);
}

static void model_write(struct model *f, const char *data, size_t off, size_t n)
{
    if (off > f->n) memset(f->bytes + f->n, 0, off - f->n);
    memcpy(f->bytes + off, data, n);
    if (off + n > f->n) f->n = off + n;
}

static void compare(const struct model *f, int fd, struct prng *r)
{
    static char got[SIZE_MAX_ + 10];
    size_t off = prng_chance(r, 70) ? 0 : prng_below(r, f->n + 1);
    assert_int_equal(pread(fd, got, sizeof got, (off_t)off), f->n - off);
    assert_memory_equal(got, f->bytes + off, f->n - off);
}

static void random_write(struct model *f, int fd, struct prng *r, bool append)
{
    static char data[4000];
    size_t n = 1 + prng_below(r, prng_chance(r, 50) ? 16 : sizeof data);
    size_t off = append ? f->n : prng_below(r, f->n + 100);
    if (off + n > SIZE_MAX_) return;
    memset(data, (int)prng_between(r, 'a', 'z'), n);
    assert_int_equal(append ? write(fd, data, n) : pwrite(fd, data, n, (off_t)off), n);
    model_write(f, data, off, n);
}

static void step_missing(struct model *f, unsigned m, unsigned i)
{
    struct stat st;
    fails(stat(file_on(m, i), &st), ENOENT);
    int fd = open(file_on(1 - m, i), O_CREAT | O_RDWR | O_EXCL, 0644);
    ok(fd);
    close(fd);
    *f = (struct model){.exists = true, .id = ++ids};
    ok(stat(file_on(m, i), &f->seen));
}

static void step_path(struct model *f, unsigned m, unsigned i, struct prng *r)
{
    struct stat st;
    int fd;
    switch (prng_below(r, 9)) {
    case 0:
    case 1:
        ok(fd = open(file_on(m, i), O_RDWR));
        random_write(f, fd, r, false);
        close(fd);
        break;
    case 2:
        ok(fd = open(file_on(m, i), O_WRONLY | O_APPEND));
        random_write(f, fd, r, true);
        close(fd);
        break;
    case 3:
    case 4:
        ok(fd = open(file_on(m, i), O_RDONLY));
        compare(f, fd, r);
        close(fd);
        break;
    case 5: {
        size_t n = prng_below(r, SIZE_MAX_ / 4);
        ok(truncate(file_on(m, i), (off_t)n));
        if (n > f->n) memset(f->bytes + f->n, 0, n - f->n);
        f->n = n;
        break;
    }
    case 6:
        if (prng_chance(r, 30)) ok(stat(file_on(m, i), &f->seen));
        set_mtime(file_on(m, i), &f->seen);
        break;
    case 7:
        ok(chmod(file_on(m, i), prng_chance(r, 50) ? 0644 : 0600));
        ok(stat(file_on(1 - m, i), &st));
        assert_int_equal(st.st_size, f->n);
        break;
    case 8:
        if (prng_chance(r, 80)) break;
        ok(unlink(file_on(m, i)));
        f->exists = false;
        f->id = 0;
        break;
    }
}

static void step_held(unsigned m, struct prng *r)
{
    struct held *h = &fds[prng_below(r, FDS)];
    struct model *f = &files[h->file];
    if (h->fd < 0) {
        h->file = (unsigned)prng_below(r, FILES);
        f = &files[h->file];
        if (!f->exists) return;
        ok(h->fd = open(file_on(m, h->file), O_RDWR));
        h->id = f->id;
    } else if (h->id != f->id || prng_chance(r, 10)) {
        close(h->fd);
        h->fd = -1;
    } else if (prng_chance(r, 60)) {
        compare(f, h->fd, r);
    } else {
        random_write(f, h->fd, r, false);
    }
}

static void random_run(uint64_t seed, int steps, uint64_t delay)
{
    struct prng r;
    prng_seed(&r, seed);
    standin_delay(s, delay);
    for (int i = 0; i < FDS; i++) fds[i].fd = -1;
    for (int k = 0; k < steps; k++) {
        unsigned i = (unsigned)prng_below(&r, FILES), m = (unsigned)prng_below(&r, 2);
        struct model *f = &files[i];
        if (!f->exists) step_missing(f, m, i);
        else if (prng_chance(&r, 50)) step_held(m, &r);
        else step_path(f, m, i, &r);
    }
    for (int i = 0; i < FDS; i++)
        if (fds[i].fd >= 0) close(fds[i].fd);
    standin_delay(s, 0);
}

static void test_random_operations(void **state) { random_run(7, 15000, 0); }

static void test_random_operations_slowly(void **state) { random_run(8, 1500, 400); }

static int setup(void **state) { return setup_mounts(2); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_of(test_same_size_same_mtime),
        test_of(test_chmod_after_a_change_elsewhere),
        test_of(test_unchanged_pages_stay),
        test_of(test_mappings),
        test_of(test_appends),
        test_of(test_random_operations),
        test_of(test_random_operations_slowly),
    };
    return cmocka_run_group_tests(tests, setup, teardown_mounts);
}
