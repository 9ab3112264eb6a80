/* What each call does, through a real mount of the real store. */
#include "helper.h"

#include <dirent.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

static void test_write_read(void **state)
{
    put("a", "hello", 5);
    expect("a", "hello", 5);
    size_t n = 5 * MIB + 123;
    char *big = malloc(n);
    for (size_t i = 0; i < n; i++) big[i] = (char)(i * 31 >> 3);
    put("big", big, n);
    expect("big", big, n);
    int fd = open(at("big"), O_RDWR);
    ok(fd);
    assert_int_equal(pwrite(fd, "XYZ", 3, 1000), 3);
    memcpy(big + 1000, "XYZ", 3);
    expect("big", big, n);
    ok(ftruncate(fd, 2000));
    expect("big", big, 2000);
    ok(fsync(fd));
    ok(close(fd));
    fd = open(at("big"), O_WRONLY | O_TRUNC);
    ok(close(fd));
    expect("big", "", 0);
    free(big);
}

static void test_attributes(void **state)
{
    struct stat st;
    put("attr", "12345", 5);
    ok(chmod(at("attr"), 04751));
    ok(chown(at("attr"), 12, 34));      /* takes set-user-id away: the kernel's doing */
    ok(stat(at("attr"), &st));
    assert_int_equal(st.st_mode, S_IFREG | 0751);
    assert_int_equal(st.st_uid, 12);
    assert_int_equal(st.st_gid, 34);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(st.st_size, 5);
    struct timespec t[2] = {{.tv_sec = 1000, .tv_nsec = 123456789}, {.tv_sec = -5, .tv_nsec = 999999999}};
    ok(utimensat(AT_FDCWD, at("attr"), t, 0));
    ok(stat(at("attr"), &st));
    assert_memory_equal(&st.st_atim, &t[0], sizeof t[0]);
    assert_memory_equal(&st.st_mtim, &t[1], sizeof t[1]);
    t[0].tv_nsec = UTIME_OMIT;
    t[1].tv_nsec = UTIME_NOW;
    ok(utimensat(AT_FDCWD, at("attr"), t, 0));
    ok(stat(at("attr"), &st));
    assert_int_equal(st.st_atim.tv_sec, 1000);
    assert_true(st.st_mtim.tv_sec > 1500000000);
    mode_t old = umask(027);
    int fd = open(at("masked"), O_CREAT | O_WRONLY, 0666);
    ok(close(fd));
    ok(mkdir(at("maskeddir"), 0777));
    umask(old);
    ok(stat(at("masked"), &st));
    assert_int_equal(st.st_mode, S_IFREG | 0640);
    ok(stat(at("maskeddir"), &st));
    assert_int_equal(st.st_mode, S_IFDIR | 0750);
    fails(truncate(at("attr"), -1), EINVAL);
}

static void test_names(void **state)
{
    struct stat a, b;
    char text[300];
    put("n1", "1", 1);
    ok(link(at("n1"), at("n2")));
    ok(stat(at("n1"), &a));
    ok(stat(at("n2"), &b));
    assert_int_equal(a.st_ino, b.st_ino);
    assert_int_equal(b.st_nlink, 2);
    fails(link(at("n1"), at("n2")), EEXIST);
    ok(symlink("n1", at("sym")));
    assert_int_equal(readlink(at("sym"), text, sizeof text), 2);
    assert_memory_equal(text, "n1", 2);
    expect("sym", "1", 1);
    ok(rename(at("n1"), at("n3")));
    fails(stat(at("n1"), &a), ENOENT);
    fails(open(at("sym"), O_RDONLY), ENOENT);
    put("n4", "4", 1);
    ok(rename(at("n4"), at("n3")));
    expect("n3", "4", 1);
    expect("n2", "1", 1);
    fails(renameat2(AT_FDCWD, at("n2"), AT_FDCWD, at("n3"), RENAME_NOREPLACE), EEXIST);
    ok(renameat2(AT_FDCWD, at("n2"), AT_FDCWD, at("n3"), RENAME_EXCHANGE));
    expect("n3", "1", 1);
    fails(renameat2(AT_FDCWD, at("n2"), AT_FDCWD, at("n9"), RENAME_WHITEOUT), EINVAL);
    ok(mkdir(at("dir"), 0755));
    fails(mkdir(at("dir"), 0755), EEXIST);
    fails(unlink(at("dir")), EISDIR);
    fails(rmdir(at("n2")), ENOTDIR);
    put("dir/in", "", 0);
    fails(rmdir(at("dir")), ENOTEMPTY);
    fails(rename(at("dir"), at("dir/sub")), EINVAL);
    ok(unlink(at("dir/in")));
    ok(rmdir(at("dir")));
    fails(unlink(at("nothing")), ENOENT);
    memset(text, 'x', sizeof text);
    text[256] = '\0';
    fails(open(at(text), O_CREAT | O_WRONLY, 0644), ENAMETOOLONG);
    text[255] = '\0';
    put(text, "long", 4);
    expect(text, "long", 4);
    ok(unlink(at(text)));
    ok(mknod(at("fifo"), S_IFIFO | 0600, 0));
    ok(stat(at("fifo"), &a));
    assert_true(S_ISFIFO(a.st_mode));
    ok(mknod(at("dev"), S_IFCHR | 0600, makedev(1, 300)));
    ok(stat(at("dev"), &a));
    assert_int_equal(a.st_rdev, makedev(1, 300));
    fails(open(at("n2"), O_CREAT | O_EXCL | O_WRONLY, 0600), EEXIST);
    fails(open(at("n2/x"), O_RDONLY), ENOTDIR);
}

static void test_xattr(void **state)
{
    char buf[256];
    put("x", "", 0);
    const char *p = at("x");
    ok(setxattr(p, "user.one", "value", 5, 0));
    ok(setxattr(p, "trusted.two", "secret", 6, 0));
    fails(setxattr(p, "user.one", "v", 1, XATTR_CREATE), EEXIST);
    fails(setxattr(p, "user.none", "v", 1, XATTR_REPLACE), ENODATA);
    assert_int_equal(getxattr(p, "user.one", NULL, 0), 5);
    assert_int_equal(getxattr(p, "user.one", buf, 5), 5);
    assert_memory_equal(buf, "value", 5);
    fails(getxattr(p, "user.one", buf, 4), ERANGE);
    fails(getxattr(p, "user.none", buf, 4), ENODATA);
    ssize_t n = listxattr(p, NULL, 0);
    assert_int_equal(n, sizeof("user.one") + sizeof("trusted.two"));
    assert_int_equal(listxattr(p, buf, sizeof buf), n);
    fails(listxattr(p, buf, 3), ERANGE);
    fails(setxattr(p, "system.posix_acl_access", "\2\0\0\0", 4, 0), EOPNOTSUPP);
    fails(setxattr(p, "security.capability", "\1\0\0\2", 4, 0), EINVAL);      /* the kernel: malformed */
    fails(getxattr(p, "security.capability", buf, sizeof buf), ENODATA);
    ok(removexattr(p, "user.one"));
    fails(removexattr(p, "user.one"), ENODATA);
    ok(setxattr(p, "user.empty", "", 0, 0));
    assert_int_equal(getxattr(p, "user.empty", buf, sizeof buf), 0);
    char *big = calloc(1, 65536);
    ok(setxattr(p, "user.big", big, 60000, 0));
    assert_int_equal(getxattr(p, "user.big", big, 65536), 60000);
    ok(removexattr(p, "user.big"));
    free(big);
    uint64_t before = standin_count(s, 0, KV_GETXATTR);
    put("x", "no round trip for security.capability", 37);
    assert_int_equal(standin_count(s, 0, KV_GETXATTR), before);
}

static void test_space(void **state)
{
    struct stat st;
    struct statvfs v;
    int fd = open(at("sparse"), O_RDWR | O_CREAT, 0644);
    assert_int_equal(pwrite(fd, "end", 3, 10 * MIB), 3);
    assert_int_equal(lseek(fd, 0, SEEK_DATA), 10 * MIB);
    assert_int_equal(lseek(fd, 0, SEEK_HOLE), 0);
    assert_int_equal(lseek(fd, 10 * MIB, SEEK_HOLE), 10 * MIB + 3);
    fails(lseek(fd, 20 * MIB, SEEK_DATA), ENXIO);
    assert_int_equal(lseek(fd, 0, SEEK_END), 10 * MIB + 3);
    ok(fstat(fd, &st));
    assert_true(st.st_blocks < 100);
    ok(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 10 * MIB, 2));
    char c[3];
    assert_int_equal(pread(fd, c, 3, 10 * MIB), 3);
    assert_memory_equal(c, "\0\0d", 3);
    ok(fallocate(fd, 0, 0, 12 * MIB));
    ok(fstat(fd, &st));
    assert_int_equal(st.st_size, 12 * MIB);
    fails(fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), EOPNOTSUPP);
    int to = open(at("copy"), O_RDWR | O_CREAT, 0644);
    off_t from_off = 10 * MIB - 1, to_off = 5;
    assert_int_equal(copy_file_range(fd, &from_off, to, &to_off, 4, 0), 4);
    expect("copy", "\0\0\0\0\0\0\0\0d", 9);
    close(fd);
    close(to);
    ok(statvfs(at(""), &v));
    assert_int_equal(v.f_namemax, 255);
    assert_int_equal(v.f_blocks * v.f_frsize, 1u << 30);
}

static void test_append(void **state)
{
    int a = open(at("log"), O_WRONLY | O_CREAT | O_APPEND, 0644), b = open(at("log"), O_RDWR | O_APPEND);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(write(a, "aa\n", 3), 3);
        assert_int_equal(write(b, "bb\n", 3), 3);
    }
    struct stat st;
    ok(fstat(a, &st));
    assert_int_equal(st.st_size, 300);
    char c[6];
    assert_int_equal(pread(b, c, 6, 6), 6);
    assert_memory_equal(c, "aa\nbb\n", 6);
    /* appending switched on later */
    int d = open(at("log"), O_RDWR);
    ok(fcntl(d, F_SETFL, O_APPEND));
    assert_int_equal(write(d, "dd\n", 3), 3);
    assert_int_equal(pread(d, c, 6, 297), 6);
    assert_memory_equal(c, "bb\ndd\n", 6);
    close(a);
    close(b);
    close(d);
}

/* munmap(2) waits for WRITE with the process's memory locked, which the loop needs: so in a process of its own. */
static int write_by_mapping(void)
{
    int fd = open(at("map"), O_RDWR);
    if (fd < 0 || ftruncate(fd, 10000)) return 1;
    char *p = mmap(NULL, 10000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) return 2;
    for (int i = 0; i < 10000; i++) p[i] = (char)i;
    if (msync(p, 10000, MS_SYNC)) return 3;
    char c;
    int other = open(at("map"), O_RDONLY);
    if (pread(other, &c, 1, 9999) != 1 || c != (char)9999) return 4;
    p[0] = 'Z';
    return munmap(p, 10000) || close(fd) || close(other) ? 5 : 0;
}

static void test_mapping(void **state)
{
    char copy[10000];
    put("map", "", 0);
    assert_int_equal(in_child(write_by_mapping), 0);
    for (int i = 0; i < 10000; i++) copy[i] = (char)i;
    copy[0] = 'Z';
    expect("map", copy, 10000);
}

/* ---- directories ---- */

static int compare(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static unsigned list(DIR *d, char **names)
{
    unsigned n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) names[n++] = strdup(e->d_name);
    }
    qsort(names, n, sizeof *names, compare);
    return n;
}

static void expect_listing(char **names, unsigned n, unsigned from, unsigned to)
{
    assert_int_equal(n, to - from);
    for (unsigned i = 0; i < n; i++) {
        char want[32];
        snprintf(want, sizeof want, "file-%05u", from + i);
        assert_string_equal(names[i], want);
        free(names[i]);
    }
}

static void test_directories(void **state)
{
    enum { N = 3000 };
    char name[64], *names[N + 10];
    struct stat st, up;
    ok(mkdir(at("many"), 0755));
    for (unsigned i = 0; i < N; i++) {
        snprintf(name, sizeof name, "many/file-%05u", i);
        ok(mknod(at(name), S_IFREG | 0644, 0));
    }
    DIR *d = opendir(at("many"));
    struct dirent *e = readdir(d);
    ok(stat(at("many"), &st));
    ok(stat(at(""), &up));
    assert_string_equal(e->d_name, ".");
    assert_int_equal(e->d_ino, st.st_ino);
    assert_int_equal(e->d_type, DT_DIR);
    e = readdir(d);
    assert_string_equal(e->d_name, "..");
    assert_int_equal(e->d_ino, up.st_ino);
    expect_listing(names, list(d, names), 0, N);
    rewinddir(d);
    expect_listing(names, list(d, names), 0, N);
    /* seekdir to where telldir was, near and far */
    rewinddir(d);
    long place[N + 2];
    char *after[N + 2];
    for (unsigned i = 0; i < N + 2; i++) {
        e = readdir(d);
        after[i] = strdup(e->d_name);
        place[i] = telldir(d);
    }
    assert_null(readdir(d));
    struct prng r;
    prng_seed(&r, 5);
    for (int i = 0; i < 200; i++) {
        uint64_t k = prng_below(&r, N + 1);
        seekdir(d, place[k]);
        e = readdir(d);
        assert_non_null(e);
        assert_string_equal(e->d_name, after[k + 1]);
    }
    for (unsigned i = 0; i < N + 2; i++) free(after[i]);
    closedir(d);
}

/* What rm -r does, and harder: everything that has been listed goes, while the listing goes on. */
static void test_deletion_while_listing(void **state)
{
    DIR *d = opendir(at("many"));
    unsigned n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        char name[300];
        if (e->d_name[0] == '.') continue;
        snprintf(name, sizeof name, "many/%s", e->d_name);
        ok(unlink(at(name)));
        n++;
    }
    assert_int_equal(n, 3000);
    rewinddir(d);
    char *names[4];
    assert_int_equal(list(d, names), 0);
    put("many/new", "", 0);
    rewinddir(d);
    assert_int_equal(list(d, names), 1);
    assert_string_equal(names[0], "new");
    free(names[0]);
    ok(unlink(at("many/new")));
    ok(rmdir(at("many")));
    rewinddir(d);
    assert_null(readdir(d));      /* ENOENT, which readdir(3) takes for the end */
    closedir(d);
}

static void test_big_directory(void **state)
{
    enum { N = 30000 };      /* more than a stream keeps */
    char name[64];
    struct stat st;
    ok(mkdir(at("huge"), 0755));
    ok(stat(at("huge"), &st));
    for (unsigned i = 0; i < N; i++) {
        snprintf(name, sizeof name, "file-%05u", i);
        struct kv_op op = {.code = KV_MKNOD, .ino = st.st_ino, .name = slice_str(name), .mode = S_IFREG | 0600};
        assert_int_equal(standin_change(s, &op), 0);
    }
    DIR *d = opendir(at("huge"));
    for (int i = 0; i < 102; i++) assert_non_null(readdir(d));
    long early = telldir(d);
    unsigned n = 0;
    while (readdir(d)) n++;
    assert_int_equal(n, N - 100);
    seekdir(d, early);
    assert_string_equal(readdir(d)->d_name, "file-00100");
    closedir(d);
}

/* ---- others than root ---- */

static int truncate_setuid(void)
{
    int fd = open(at("shared"), O_WRONLY | O_TRUNC);
    return fd < 0 ? errno : 0;
}

static int open_private(void) { return open(at("private"), O_RDWR | O_CREAT, 0666) < 0 ? errno : 0; }
static int open_readable(void) { return open(at("readable"), O_RDONLY | O_CREAT, 0666) < 0 ? errno : 0; }

static int make_own(void)
{
    struct stat st;
    int fd = open(at("tmp/own"), O_RDWR | O_CREAT | O_EXCL, 0644);
    if (fd < 0) return 1;
    if (fstat(fd, &st) || st.st_uid != 1234 || st.st_gid != 1234) return 2;
    if (mkdir(at("tmp/owndir"), 0700) || stat(at("tmp/owndir"), &st) || st.st_uid != 1234) return 3;
    char list[100];
    if (listxattr(at("x"), list, sizeof list) < 0 || strcmp(list, "user.empty") != 0)
        return 4; /* trusted.two is hidden */
    return 0;
}

static void test_other_users(void **state)
{
    struct stat st;
    ok(chmod(at(""), 0755));
    ok(mkdir(at("tmp"), 0755));
    ok(chmod(at("tmp"), 01777));
    assert_int_equal(as_user(1234, make_own), 0);
    put("shared", "text", 4);
    ok(chmod(at("shared"), 06777));
    assert_int_equal(as_user(1234, truncate_setuid), 0);
    ok(stat(at("shared"), &st));
    assert_int_equal(st.st_mode, S_IFREG | 0777);
    assert_int_equal(st.st_size, 0);
}

struct create_race {
    int (*fn)(void);
    int result;
};

static void *create_thread(void *arg)
{
    struct create_race *r = arg;
    r->result = as_user(1234, r->fn);
    return NULL;
}

/* CREATE meets a file that another client has made after the kernel's lookup: permissions count all the same. */
static int race_with(const char *name, uint32_t mode, int (*fn)(void))
{
    pthread_t t;
    struct create_race race = {.fn = fn};
    struct stat st;
    ok(chmod(at(""), 0777));
    ok(stat(at(""), &st));
    standin_hold(s, 0, KV_CREATE, true);
    pthread_create(&t, NULL, create_thread, &race);
    standin_await_held(s, 1);
    struct kv_op op = {.code = KV_MKNOD, .ino = st.st_ino, .name = slice_str(name), .mode = S_IFREG | mode};
    assert_int_equal(standin_change(s, &op), 0);
    standin_hold(s, 0, KV_CREATE, false);
    pthread_join(t, NULL);
    return race.result;
}

static void test_create_races(void **state)
{
    assert_int_equal(race_with("private", 0600, open_private), EACCES);
    assert_int_equal(race_with("readable", 0644, open_readable), 0);
}

/* A handle is good also when the kernel has forgotten the inode, and stale when the file is gone. */
static void test_handles(void **state)
{
    union {
        struct file_handle h;
        char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
    } u = {.h.handle_bytes = MAX_HANDLE_SZ};
    int id, dir = open(at(""), O_RDONLY | O_DIRECTORY);
    char c[4];
    put("handle", "text", 4);
    ok(name_to_handle_at(AT_FDCWD, at("handle"), &u.h, &id, 0));
    int drop = open("/proc/sys/vm/drop_caches", O_WRONLY);
    if (drop >= 0) ok(write(drop, "2", 1));
    close(drop);
    int fd = open_by_handle_at(dir, &u.h, O_RDONLY);
    ok(fd);
    assert_int_equal(read(fd, c, 4), 4);
    close(fd);
    ok(unlink(at("handle")));
    if (drop >= 0) {
        fails(open_by_handle_at(dir, &u.h, O_RDONLY), ESTALE);
    }
    close(dir);
}

static void test_readonly(void **state)
{
    struct standin_options o = {.readonly = true};
    unsigned i = standin_mount(s, &o);
    char path[128];
    put("ro", "x", 1);
    snprintf(path, sizeof path, "%s/ro", standin_point(s, i));
    fails(open(path, O_RDWR), EROFS);
    fails(unlink(path), EROFS);
    int fd = open(path, O_RDONLY);
    ok(fd);
    close(fd);
    standin_unmount(s, i);
}

static int setup(void **state) { return setup_mounts(1); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        test_of(test_write_read), test_of(test_attributes), test_of(test_names),
        test_of(test_xattr), test_of(test_space), test_of(test_append),
        test_of(test_mapping), test_of(test_directories), test_of(test_deletion_while_listing),
        test_of(test_big_directory), test_of(test_other_users), test_of(test_create_races),
        test_of(test_handles), test_of(test_readonly),
    };
    return cmocka_run_group_tests(tests, setup, teardown_mounts);
}
