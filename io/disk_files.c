/* disk_files.c - the disk's operations as plain blocking system calls, callable from any thread, and the cache of open
 * files behind them.
 *
 * A durable write is one pwritev2(RWF_DSYNC) on an O_DIRECT descriptor: on a pre-written file that is one command to
 * the device and no journal commit. Where the filesystem cannot do that it is a buffered write and fdatasync.
 * Everything else is buffered; the kernel keeps the two coherent as long as nobody reads what is being written.
 *
 * A file's name is durable as soon as anything of the file is claimed to be: whoever made a file counts up `made`, and
 * whoever promises durability first syncs the directory if it has not been since.
 *
 * Descriptors are cached by name. An entry is looked up, used without the lock and given back; rename and remove
 * drop the entries after the fact and count up `names`, so that a file opened at the same moment under a name that is
 * not its own any more is used once and not kept. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "io/io_priv.h"

#define FILES_MAX 256u
#define BUCKETS   256u
#define ZERO_STEP (1u * MIB)
#define LOCK_NAME "lock"

struct file {
    struct list hash, recent; /* both unlinked: not in the cache */
    char name[DISK_NAME_MAX];
    int fd;
    int direct;    /* O_DIRECT, opened when first needed; -1: not yet */
    unsigned refs; /* one while it is in the cache */
};

struct io__files {
    int dir, lock;
    uv_mutex_t mutex; /* the cache and the counters; never held across a system call */
    struct list buckets[BUCKETS];
    struct list recent; /* the one used last at the front */
    unsigned cached;
    uint64_t names;
    uint64_t made, made_synced;
    atomic_bool no_direct;
};

/* ---- the cache --------------------------------------------------------------------------------------------------- */

static struct list *bucket(struct io__files *f, const char *name)
{
    return &f->buckets[hash64(0, name, strlen(name)) % BUCKETS];
}

static struct file *lookup(struct io__files *f, const char *name)
{
    list_for_each(i, bucket(f, name))
    {
        struct file *file = container_of(i, struct file, hash);
        if (strcmp(file->name, name) == 0) return file;
    }
    return NULL;
}

/* True where that was the last reference: the caller frees it outside the lock. */
static bool unref(struct file *file) { return --file->refs == 0; }

static void file_free(struct file *file)
{
    if (!file) return;
    close(file->fd);
    if (file->direct >= 0) close(file->direct);
    free(file);
}

/* Takes it out of the cache; returns it if nobody uses it any more. */
static struct file *uncache(struct io__files *f, struct file *file)
{
    list_remove(&file->hash);
    list_remove(&file->recent);
    f->cached--;
    return unref(file) ? file : NULL;
}

static void put(struct io__files *f, struct file *file)
{
    uv_mutex_lock(&f->mutex);
    bool last = unref(file);
    uv_mutex_unlock(&f->mutex);
    if (last) file_free(file);
}

static struct file *get_cached(struct io__files *f, const char *name)
{
    uv_mutex_lock(&f->mutex);
    struct file *file = lookup(f, name);
    if (file) {
        file->refs++;
        list_remove(&file->recent);
        list_push_front(&f->recent, &file->recent);
    }
    uv_mutex_unlock(&f->mutex);
    return file;
}

static int open_fd(struct io__files *f, const char *name, bool create, bool *created)
{
    int fd;
    *created = false;
    do {
        fd = openat(f->dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0 || errno != ENOENT || !create) break;
        fd = openat(f->dir, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_CREAT | O_EXCL, 0600);
        *created = fd >= 0;
    } while (fd < 0 && errno == EEXIST);
    return fd < 0 ? -errno : fd;
}

/* Puts a new file into the cache unless names have changed or somebody was faster. */
static void cache(struct io__files *f, struct file *file, uint64_t names, bool created)
{
    struct file *old = NULL;
    uv_mutex_lock(&f->mutex);
    if (created) f->made++;
    if (f->names == names && !lookup(f, file->name)) {
        file->refs++;
        list_push_front(bucket(f, file->name), &file->hash);
        list_push_front(&f->recent, &file->recent);
        if (++f->cached > FILES_MAX) old = uncache(f, container_of(f->recent.prev, struct file, recent));
    }
    uv_mutex_unlock(&f->mutex);
    file_free(old);
}

static int get(struct io__files *f, const char *name, bool create, struct file **out)
{
    bool created;
    if ((*out = get_cached(f, name))) return 0;
    uv_mutex_lock(&f->mutex);
    uint64_t names = f->names;
    uv_mutex_unlock(&f->mutex);
    int fd = open_fd(f, name, create, &created);
    if (fd < 0) return fd;
    struct file *file = xcalloc(1, sizeof(*file));
    *file = (struct file){.fd = fd, .direct = -1, .refs = 1};
    list_init(&file->hash);
    list_init(&file->recent);
    memcpy(file->name, name, strlen(name) + 1);
    cache(f, file, names, created);
    *out = file;
    return 0;
}

static void forget(struct io__files *f, const char *name)
{
    uv_mutex_lock(&f->mutex);
    struct file *file = lookup(f, name);
    struct file *dead = file ? uncache(f, file) : NULL;
    f->names++;
    uv_mutex_unlock(&f->mutex);
    file_free(dead);
}

/* The O_DIRECT descriptor, or -1. Two threads may open it at once: the second one's is closed again. */
static int direct_fd(struct io__files *f, struct file *file)
{
    uv_mutex_lock(&f->mutex);
    int fd = file->direct;
    uv_mutex_unlock(&f->mutex);
    if (fd >= 0 || atomic_load(&f->no_direct)) return fd;
    char proc[32];
    snprintf(proc, sizeof(proc), "/proc/self/fd/%d", file->fd);
    int mine = open(proc, O_RDWR | O_CLOEXEC | O_DIRECT);
    if (mine < 0) {
        if (errno == EINVAL) atomic_store(&f->no_direct, true);
        return -1;
    }
    uv_mutex_lock(&f->mutex);
    if (file->direct < 0) {
        file->direct = mine;
        mine = -1;
    }
    fd = file->direct;
    uv_mutex_unlock(&f->mutex);
    if (mine >= 0) close(mine);
    return fd;
}

/* ---- operations -------------------------------------------------------------------------------------------------- */

/* All names made so far are durable when it returns 0. Somebody else's sync under way does not count: it may have begun
 * before our file was made. */
static int sync_names(struct io__files *f)
{
    uv_mutex_lock(&f->mutex);
    uint64_t made = f->made;
    bool clean = f->made_synced >= made;
    uv_mutex_unlock(&f->mutex);
    if (clean) return 0;
    if (fsync(f->dir) < 0) return -errno;
    uv_mutex_lock(&f->mutex);
    f->made_synced = max_u64(f->made_synced, made);
    uv_mutex_unlock(&f->mutex);
    return 0;
}

static int64_t read_all(int fd, void *p, size_t n, uint64_t off)
{
    size_t at = 0;
    while (at < n) {
        ssize_t r = pread(fd, (uint8_t *)p + at, n - at, (off_t)(off + at));
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return -errno;
        if (r == 0) break;
        at += (size_t)r;
    }
    return (int64_t)at;
}

static int write_all(int fd, const void *p, size_t n, uint64_t off)
{
    while (n) {
        ssize_t r = pwrite(fd, p, n, (off_t)off);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return -errno;
        if (r == 0) return -EIO;
        p = (const uint8_t *)p + r;
        n -= (size_t)r;
        off += (size_t)r;
    }
    return 0;
}

/* 0, -errno, or 1: this filesystem cannot (or an odd rest remains), write *all of it* the other way. */
static int write_direct(struct io__files *f, struct file *file, const struct disk_io *io)
{
    int fd = direct_fd(f, file);
    size_t at = 0;
    if (fd < 0) return 1;
    while (at < io->n) {
        struct iovec v = {(uint8_t *)io->p + at, io->n - at};
        ssize_t r = pwritev2(fd, &v, 1, (off_t)(io->off + at), RWF_DSYNC);
        if (r < 0 && errno == EINTR) continue;
        if (r < 0 && (errno == EINVAL || errno == EOPNOTSUPP)) atomic_store(&f->no_direct, true);
        if (r < 0) return errno == EINVAL || errno == EOPNOTSUPP ? 1 : -errno;
        if (r == 0) return -EIO;
        at += (size_t)r;
        if (at < io->n && at % DISK_BLOCK) return 1;
    }
    return 0;
}

static int64_t do_write(struct io__files *f, const struct disk_io *io)
{
    struct file *file;
    check((io->off | io->n | (uintptr_t)io->p) % DISK_BLOCK == 0);
    int err = get(f, io->name, true, &file);
    if (err) return err;
    err = io->durable ? write_direct(f, file, io) : 1;
    if (err == 1) {
        err = write_all(file->fd, io->p, io->n, io->off);
        if (!err && io->durable && fdatasync(file->fd) < 0) err = -errno;
        /* Let the device begin at once: a later sync then has little to wait for, and holds up no one else's. */
        if (!err && !io->durable) (void)!sync_file_range(file->fd, (off_t)io->off, io->n, SYNC_FILE_RANGE_WRITE);
    }
    if (!err && io->durable) err = sync_names(f);
    put(f, file);
    return err ? err : (int64_t)io->n;
}

static int64_t do_read(struct io__files *f, const struct disk_io *io)
{
    return io__files_read(f, io->name, io->off, io->p, io->n);
}

static int64_t do_sync(struct io__files *f, const struct disk_io *io)
{
    struct file *file;
    int err = get(f, io->name, false, &file);
    if (err) return err;
    if (fdatasync(file->fd) < 0) err = -errno;
    put(f, file);
    return err ? err : sync_names(f);
}

/* Zeros over [from, to), past the page cache where possible. */
static int write_zeros(struct io__files *f, struct file *file, uint64_t from, uint64_t to)
{
    uint64_t start = (from + DISK_BLOCK - 1) / DISK_BLOCK * DISK_BLOCK; /* up to there the filesystem has zeros */
    void *zeros = aligned_alloc(DISK_BLOCK, ZERO_STEP);
    int err = 0, fd = direct_fd(f, file);
    check(zeros);
    memset(zeros, 0, ZERO_STEP);
    for (uint64_t at = start; at < to && !err;) {
        size_t n = (size_t)min_u64(ZERO_STEP, to - at);
        err = write_all(fd >= 0 && n % DISK_BLOCK == 0 ? fd : file->fd, zeros, n, at);
        if (err == -EINVAL && fd >= 0) {
            atomic_store(&f->no_direct, true);
            fd = -1;
            err = 0;
            continue;
        }
        at += n;
    }
    free(zeros);
    return err;
}

static int set_length(struct io__files *f, struct file *file, uint64_t n, bool zeros)
{
    struct stat st;
    if (fstat(file->fd, &st) < 0) return -errno;
    uint64_t old = (uint64_t)st.st_size;
    int err = 0, r = 0;
    struct statfs fs;
    /* What cannot fit is refused before the attempt: fallocate would first take all the space there is from everyone. */
    if (old < n && fstatfs(file->fd, &fs) == 0 && (n - old) / (uint64_t)fs.f_bsize > fs.f_bavail) return -ENOSPC;
    if (old > n) r = ftruncate(file->fd, (off_t)n);
    if (r == 0 && n) {
        do r = fallocate(file->fd, 0, 0, (off_t)n);
        while (r < 0 && errno == EINTR);
    }
    if (r < 0) err = -errno;
    if (err == -EOPNOTSUPP) {
        zeros = true; /* the only reservation this filesystem knows */
        err = 0;
    }
    if (!err && zeros && old < n) err = write_zeros(f, file, old, n);
    if (!err && fsync(file->fd) < 0) err = -errno;
    if (err == -ENOSPC) (void)!ftruncate(file->fd, (off_t)min_u64(old, n)); /* give back what we got of it */
    return err;
}

static int64_t do_alloc(struct io__files *f, const struct disk_io *io)
{
    struct file *file;
    int err = get(f, io->name, true, &file);
    if (err) return err;
    err = set_length(f, file, io->off, io->durable);
    put(f, file);
    return err ? err : sync_names(f);
}

static int64_t do_rename(struct io__files *f, const struct disk_io *io)
{
    int err = renameat(f->dir, io->name, f->dir, io->to) < 0 ? -errno : 0;
    forget(f, io->name);
    forget(f, io->to);
    if (!err && fsync(f->dir) < 0) err = -errno;
    return err;
}

static int64_t do_remove(struct io__files *f, const struct disk_io *io)
{
    int err = unlinkat(f->dir, io->name, 0) < 0 && errno != ENOENT ? -errno : 0;
    forget(f, io->name);
    return err;
}

static bool good_name(const char *name)
{
    size_t n = strnlen(name, DISK_NAME_MAX);
    return n > 0 && n < DISK_NAME_MAX && !strchr(name, '/') && name[0] != '.' && strcmp(name, LOCK_NAME) != 0;
}

int64_t io__files_run(struct io__files *f, const struct disk_io *io)
{
    check(good_name(io->name));
    switch (io->op) {
    case DISK_READ:
        return do_read(f, io);
    case DISK_WRITE:
        return do_write(f, io);
    case DISK_SYNC:
        return do_sync(f, io);
    case DISK_ALLOC:
        return do_alloc(f, io);
    case DISK_RENAME:
        check(good_name(io->to));
        return do_rename(f, io);
    case DISK_REMOVE:
        return do_remove(f, io);
    }
    return -EINVAL;
}

int64_t io__files_read(struct io__files *f, const char *name, uint64_t off, void *p, size_t n)
{
    struct file *file;
    int err = get(f, name, false, &file);
    if (err) return err;
    int64_t r = read_all(file->fd, p, n, off);
    put(f, file);
    return r;
}

/* Never opens a file: looking up a name may wait for the device. */
int64_t io__files_try_read(struct io__files *f, const char *name, uint64_t off, void *p, uint32_t n)
{
    struct file *file = get_cached(f, name);
    if (!file) return -EAGAIN;
    struct iovec v = {p, n};
    ssize_t r = preadv2(file->fd, &v, 1, (off_t)off, RWF_NOWAIT);
    put(f, file);
    return r == (ssize_t)n ? r : -EAGAIN;
}

int io__files_list(struct io__files *f, void (*each)(void *arg, const char *name, uint64_t size), void *arg)
{
    int fd = openat(f->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;
    if (fd < 0) return -errno;
    DIR *d = fdopendir(fd);
    check(d);
    for (struct dirent *e; (errno = 0, e = readdir(d));) {
        struct stat st;
        if (!good_name(e->d_name)) continue;
        if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode)) continue;
        each(arg, e->d_name, (uint64_t)st.st_size);
    }
    if (errno) err = -errno;
    closedir(d);
    return err;
}

int io__files_space(struct io__files *f, uint64_t *total, uint64_t *avail)
{
    struct statvfs v;
    if (fstatvfs(f->dir, &v) < 0) return -errno;
    *total = (uint64_t)v.f_blocks * v.f_frsize;
    *avail = (uint64_t)v.f_bavail * v.f_frsize;
    return 0;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 3, 4))) static int explain(struct buf *why, int err, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (why && n > 0) buf_append(why, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
    return err;
}

/* A new directory's own name is made durable as well. */
static int open_dir(const char *dir, struct buf *why)
{
    bool made = mkdir(dir, 0700) == 0;
    if (!made && errno != EEXIST)
        return explain(why, -errno, "cannot make the directory %s: %s", dir, err_text(-errno));
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return explain(why, -errno, "cannot open the directory %s: %s", dir, err_text(-errno));
    if (!made) return fd;
    int parent = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int err = parent < 0 || fsync(parent) < 0 ? -errno : 0;
    if (parent >= 0) close(parent);
    if (!err || err == -EACCES) return fd; /* a parent we may not read: its owner's matter */
    close(fd);
    return explain(why, err, "cannot sync the directory above %s: %s", dir, err_text(err));
}

static int held_by(int fd, const char *dir, struct buf *why)
{
    char pid[16] = "";
    ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);
    if (n > 0) pid[strcspn(pid, "\n")] = '\0';
    return explain(why, QE_BUSY, "the directory %s is in use by process %s", dir, *pid ? pid : "(unknown)");
}

static int take_lock(int dirfd, const char *dir, struct buf *why)
{
    int fd = openat(dirfd, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), err;
    if (fd < 0) return explain(why, -errno, "cannot open %s/" LOCK_NAME ": %s", dir, err_text(-errno));
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        err = errno == EWOULDBLOCK ? held_by(fd, dir, why)
                                   : explain(why, -errno, "cannot lock %s/" LOCK_NAME ": %s", dir, err_text(-errno));
        close(fd);
        return err;
    }
    char pid[16];
    int n = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
    if (ftruncate(fd, 0) == 0 && pwrite(fd, pid, (size_t)n, 0) == n) return fd;
    err = explain(why, errno ? -errno : -EIO, "cannot write %s/" LOCK_NAME ": %s", dir, err_text(-errno));
    close(fd);
    return err;
}

int io__files_open(const char *dir, struct io__files **out, struct buf *why)
{
    int fd = open_dir(dir, why);
    if (fd < 0) return fd;
    int lock = take_lock(fd, dir, why);
    if (lock < 0) {
        close(fd);
        return lock;
    }
    struct io__files *f = xcalloc(1, sizeof(*f));
    f->dir = fd;
    f->lock = lock;
    f->made = 1; /* who knows what a process before us left unsynced */
    check(uv_mutex_init(&f->mutex) == 0);
    for (unsigned i = 0; i < BUCKETS; i++) list_init(&f->buckets[i]);
    list_init(&f->recent);
    *out = f;
    return 0;
}

void io__files_close(struct io__files *f)
{
    for (struct list *i; (i = f->recent.next) != &f->recent;) {
        struct file *dead = uncache(f, container_of(i, struct file, recent));
        check(dead);
        file_free(dead);
    }
    uv_mutex_destroy(&f->mutex);
    close(f->lock);
    close(f->dir);
    free(f);
}
