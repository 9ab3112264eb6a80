/* Files that are open and have no name any more: they live as long as some mount has them open, and no longer. */
#include "helper.h"

static bool files_are(uint64_t n) { return standin_usage(s).files == n; }

static void expect_read(int fd, const char *text)
{
    char got[100];
    assert_int_equal(pread(fd, got, sizeof got, 0), strlen(text));
    assert_memory_equal(got, text, strlen(text));
}

static int open_rw(unsigned m, const char *name)
{
    int fd = open(on(m, name), O_RDWR);
    ok(fd);
    return fd;
}

static void lives_until_closed(int fd)
{
    struct stat st;
    assert_true(files_are(1));
    expect_read(fd, "text");
    assert_int_equal(pwrite(fd, "more", 4, 4), 4);
    expect_read(fd, "textmore");
    ok(fstat(fd, &st));
    assert_int_equal(st.st_nlink, 0);
    usleep(120000);      /* a few rounds */
    expect_read(fd, "textmore");
    close(fd);
    assert_true(eventually(files_are(0)));
}

static void test_unlinked_here(void **state)
{
    put_file(0, "f", "text", 4);
    int fd = open_rw(0, "f");
    ok(unlink(on(0, "f")));
    fails(open(on(0, "f"), O_RDONLY), ENOENT);
    lives_until_closed(fd);
}

static void test_unlinked_elsewhere(void **state)
{
    put_file(0, "f", "text", 4);
    int fd = open_rw(0, "f");
    ok(unlink(on(1, "f")));
    lives_until_closed(fd);
}

static void test_replaced(void **state)
{
    for (unsigned m = 0; m < 2; m++) {
        put_file(0, "f", "text", 4);
        int fd = open_rw(0, "f");
        put_file(0, "g", "other", 5);
        ok(rename(on(m, "g"), on(m, "f")));
        expect_file(0, "f", "other", 5);
        ok(unlink(on(m, "f")));
        assert_true(eventually(files_are(1)));
        lives_until_closed(fd);
    }
}

/* Others are open, so the unlink has to say "held"; the round gives the file up soon. */
static void test_others_are_open(void **state)
{
    put_file(0, "keep", "x", 1);
    int keep = open_rw(0, "keep");
    for (int i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof name, "f%d", i);
        put_file(0, name, "y", 1);
        ok(unlink(on(0, name)));
    }
    assert_true(eventually(files_are(1)));
    expect_read(keep, "x");
    assert_true(standin_count(s, 0, KV_RELEASE) < 50);
    ok(unlink(on(0, "keep")));
    close(keep);
    assert_true(eventually(files_are(0)));
}

/* Open on both; one closes early, one late. */
static void test_open_on_both(void **state)
{
    put_file(0, "f", "text", 4);
    int a = open_rw(0, "f"), b = open_rw(1, "f"), a2 = open_rw(0, "f");
    ok(unlink(on(0, "f")));
    close(b);
    usleep(100000);
    expect_read(a, "text");
    close(a);
    usleep(100000);
    lives_until_closed(a2);
}

static void test_reopened_by_descriptor(void **state)
{
    char path[64];
    put_file(0, "f", "text", 4);
    int fd = open_rw(0, "f");
    ok(unlink(on(0, "f")));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = open(path, O_RDWR);
    ok(again);
    close(fd);
    usleep(100000);
    lives_until_closed(again);
}

/* ---- races, by holding calls ---- */

struct job {
    const char *path;
    int flags, fd, err;
};

static void *open_it(void *arg)
{
    struct job *j = arg;
    j->fd = open(j->path, j->flags, 0644);
    j->err = errno;
    return NULL;
}

static void *unlink_it(void *arg)
{
    struct job *j = arg;
    j->fd = unlink(j->path);
    j->err = errno;
    return NULL;
}

/* Nothing is open, so UNLINK says so; before it is executed an OPEN arrives. It may only open a file that lives. */
static void test_open_meets_unlink(void **state)
{
    char path[512];
    pthread_t t, u;
    put_file(0, "f", "text", 4);
    ok(link(on(0, "f"), on(0, "g")));
    snprintf(path, sizeof path, "%s", on(0, "g"));
    ok(unlink(on(0, "f")));
    standin_hold(s, 0, KV_UNLINK, true);
    struct job gone = {.path = path}, opened = {.path = path, .flags = O_RDWR};
    pthread_create(&u, NULL, unlink_it, &gone);
    standin_await_held(s, 1);
    pthread_create(&t, NULL, open_it, &opened);
    usleep(50000);      /* its LOOKUP is through (unless the kernel's directory lock stops it) and the OPEN waits */
    standin_hold(s, 0, KV_UNLINK, false);
    pthread_join(t, NULL);
    pthread_join(u, NULL);
    assert_int_equal(gone.fd, 0);
    assert_int_equal(opened.fd, -1);
    assert_int_equal(opened.err, ENOENT);
    assert_true(eventually(files_are(0)));
}

/* The answer to a CREATE is late; meanwhile the file has been unlinked elsewhere and this mount is asked about it. */
static void test_create_is_under_way(void **state)
{
    char path[512];
    pthread_t t;
    snprintf(path, sizeof path, "%s", on(0, "f"));
    standin_hold_reply(s, 0, KV_CREATE, true);
    struct job j = {.path = path, .flags = O_RDWR | O_CREAT};
    uint64_t releases = standin_count(s, 0, KV_RELEASE);
    pthread_create(&t, NULL, open_it, &j);
    standin_await_held(s, 1);
    ok(unlink(on(1, "f")));
    usleep(150000);
    assert_int_equal(standin_count(s, 0, KV_RELEASE), releases);
    standin_hold_reply(s, 0, KV_CREATE, false);
    pthread_join(t, NULL);
    ok(j.fd);
    assert_int_equal(write(j.fd, "text", 4), 4);
    lives_until_closed(j.fd);
}

/* The answer "not open here" is under way, or given: an OPEN of the inode is too late, although another mount keeps the
 * file. */
static void test_open_meets_release(void **state)
{
    char link[64];
    put_file(0, "f", "text", 4);
    int keeper = open_rw(1, "f");
    int inode = open(on(0, "f"), O_PATH);      /* keeps the inode in the kernel without an OPEN */
    ok(inode);
    snprintf(link, sizeof link, "/proc/self/fd/%d", inode);
    standin_hold(s, 0, KV_RELEASE, true);
    ok(unlink(on(1, "f")));
    standin_await_held(s, 1);
    fails(open(link, O_RDONLY), ESTALE);
    uint64_t releases = standin_count(s, 0, KV_RELEASE);
    standin_hold(s, 0, KV_RELEASE, false);
    assert_true(eventually(standin_count(s, 0, KV_RELEASE) > releases));
    fails(open(link, O_RDONLY), ESTALE);
    expect_read(keeper, "text");
    close(inode);
    lives_until_closed(keeper);
}

static void test_session_lost(void **state)
{
    char c;
    put_file(0, "stays", "s", 1);
    put_file(0, "goes", "g", 1);
    int stays = open_rw(0, "stays"), goes = open_rw(0, "goes");
    uint64_t releases = standin_count(s, 1, KV_RELEASE);
    ok(unlink(on(0, "goes")));
    assert_true(eventually(standin_count(s, 1, KV_RELEASE) > releases));      /* only this mount keeps it now */
    assert_int_equal(pread(goes, &c, 1, 0), 1);
    standin_lose_session(s, 0);
    assert_int_equal(pread(stays, &c, 1, 0), 1);
    assert_int_equal(pwrite(stays, "t", 1, 0), 1);
    fails(pread(goes, &c, 1, 0), ESTALE);
    fails(pwrite(goes, "t", 1, 0), ESTALE);
    close(goes);
    close(stays);
    ok(unlink(on(0, "stays")));
    assert_true(eventually(files_are(0)));
}

/* ---- at random: names come and go on both mounts, descriptors stay; each reads what was written to it ---- */

enum { NAMES = 6, FDS = 12 };

static void test_random(void **state)
{
    struct prng r;
    struct {
        int fd;
        uint64_t mark;
    } fds[FDS];
    prng_seed(&r, 99);
    standin_delay(s, 200);
    for (int i = 0; i < FDS; i++) fds[i].fd = -1;
    for (int k = 0; k < 1500; k++) {
        char name[8], other[8];
        unsigned m = (unsigned)prng_below(&r, 2), i = (unsigned)prng_below(&r, FDS);
        snprintf(name, sizeof name, "n%u", (unsigned)prng_below(&r, NAMES));
        snprintf(other, sizeof other, "n%u", (unsigned)prng_below(&r, NAMES));
        if (fds[i].fd >= 0 && prng_chance(&r, 60)) {
            uint64_t mark = 0;
            assert_int_equal(pread(fds[i].fd, &mark, 8, 0), 8);
            assert_int_equal(mark, fds[i].mark);
            if (prng_chance(&r, 50)) continue;
            close(fds[i].fd);
            fds[i].fd = -1;
        } else if (fds[i].fd < 0 && prng_chance(&r, 60)) {
            unlink(on(m, name));
            fds[i].fd = open(on(m, name), O_RDWR | O_CREAT | O_EXCL, 0600);
            ok(fds[i].fd);
            fds[i].mark = prng_u64(&r);
            assert_int_equal(write(fds[i].fd, &fds[i].mark, 8), 8);
        } else if (prng_chance(&r, 50)) {
            unlink(on(m, name));
        } else {
            rename(on(m, name), on(m, other));
        }
    }
    for (int i = 0; i < FDS; i++)
        if (fds[i].fd >= 0) close(fds[i].fd);
    for (unsigned i = 0; i < NAMES; i++) {
        char name[8];
        snprintf(name, sizeof name, "n%u", i);
        unlink(on(i % 2, name));
    }
    standin_delay(s, 0);
    assert_true(eventually(files_are(0)));
}

static int setup(void **state) { return setup_mounts(2); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_of(test_unlinked_here), test_of(test_unlinked_elsewhere), test_of(test_replaced),
        test_of(test_others_are_open), test_of(test_open_on_both), test_of(test_reopened_by_descriptor),
        test_of(test_open_meets_unlink), test_of(test_create_is_under_way), test_of(test_open_meets_release),
        test_of(test_session_lost), test_of(test_random),
    };
    return cmocka_run_group_tests(tests, setup, teardown_mounts);
}
