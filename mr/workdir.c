/* workdir.c - a directory is alive while somebody holds the lock on the file "lock" in it (workdir.h): the kernel gives
 * it back when that process dies, and not before. Nobody else's directory is changed without its lock.
 *
 * Between making the directory and locking it a sweeper may take it for dead; the maker notices, because the lock file
 * has lost its name by the time the sweeper lets go of it, and makes another. The lock file is the last to be removed:
 * who is killed meanwhile leaves a directory that is known to be dead. */
#include "mr/workdir.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mr/estate.h"
#include "mr/util.h"

#define PREFIX  "quorumfs-mr-"
#define GRACE_S 600 /* for a directory without a lock file, and for outputs that somebody may still take over */
#define TRIES   10

static bool is_ours(const char *name) { return strncmp(name, PREFIX, strlen(PREFIX)) == 0; }

/* Ours, whatever others may have put in its place. */
static int open_dir(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return -errno;
    if (fstat(fd, &st) == 0 && st.st_uid == geteuid()) return fd;
    close(fd);
    return -EPERM;
}

/* -EBUSY: somebody has it. -ENOENT: there is none, or somebody has just removed all. */
static int lock_in(int dir)
{
    struct stat st;
    int fd = openat(dir, "lock", O_RDWR | O_NOFOLLOW | O_CLOEXEC), rc = 0;
    if (fd < 0) return -errno;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
    if (rc == 0 && fstat(fd, &st) < 0) rc = -errno;
    if (rc == 0 && st.st_nlink == 0) rc = -ENOENT;
    if (rc == 0) return fd;
    close(fd);
    return rc;
}

static bool is_old(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_mtim.tv_sec + GRACE_S < time(NULL);
}

/* Nobody will use it any more. Its lock is held then, so that nobody else removes it; *lock is negative where it has
 * none. */
static bool is_dead(const char *path, const char *job, int *lock)
{
    int dir = open_dir(path);
    if (dir < 0) return false;
    *lock = lock_in(dir);
    bool dead = *lock == -ENOENT && is_old(dir);
    if (*lock >= 0) {
        bool kept = !mr__estate_is_empty(path) && !is_old(*lock);
        dead = !kept || (job && mr__estate_is_of(path, job));
        if (!dead) close(*lock);
    }
    close(dir);
    return dead;
}

/* All but the lock. */
static void empty(const char *path)
{
    DIR *d = opendir(path);
    if (!d) return;
    unlinkat(dirfd(d), MR_ESTATE_NAME, 0); /* first: half of it is of no use to anybody */
    for (struct dirent *e; (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || strcmp(e->d_name, "lock") == 0) continue;
        if (unlinkat(dirfd(d), e->d_name, 0) == 0) continue;
        char *below = mr__strf("%s/%s", path, e->d_name);
        mr__rmtree(below);
        free(below);
    }
    closedir(d);
}

void mr__workdir_remove(const char *path)
{
    empty(path);
    mr__rmtree(path);
}

void mr__workdir_leave(const char *path)
{
    if (mr__estate_is_empty(path))
        mr__workdir_remove(path);
    else
        mr__estate_tidy(path);
}

void mr__workdir_each(const char *base, void (*each)(void *arg, const char *path), void *arg)
{
    DIR *d = opendir(base);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));) {
        struct stat st;
        if (!is_ours(e->d_name)) continue;
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) continue;
        if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid()) continue; /* nothing in it is to be trusted */
        char *path = mr__strf("%s/%s", base, e->d_name);
        each(arg, path);
        free(path);
    }
    closedir(d);
}

static void sweep_one(void *job, const char *path)
{
    int lock;
    if (!is_dead(path, job, &lock)) return;
    mr__workdir_remove(path);
    if (lock >= 0) close(lock);
}

void mr__workdir_touch(int lock) { (void)!futimens(lock, NULL); }

int mr__workdir_take(const char *path, int *lock)
{
    const char *name = strrchr(path, '/');
    if (!name || !is_ours(name + 1)) return -EPERM;
    int dir = open_dir(path);
    if (dir < 0) return dir;
    *lock = lock_in(dir);
    close(dir);
    if (*lock < 0) return *lock;
    mr__workdir_touch(*lock);
    return 0;
}

static int make_one(const char *base, char **path, int *lock)
{
    struct stat st;
    char *dir = mr__strf("%s/" PREFIX "XXXXXX", base);
    int rc = 0;

    *lock = -1;
    if (!mkdtemp(dir)) rc = -errno;
    char *file = mr__strf("%s/lock", dir);
    if (rc == 0 && (*lock = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) < 0) rc = -errno;
    if (rc == 0 && (flock(*lock, LOCK_EX) < 0 || fstat(*lock, &st) < 0)) rc = -errno;
    if (rc == 0 && st.st_nlink == 0) rc = -EAGAIN;
    free(file);
    if (rc == 0) {
        *path = dir;
        return 0;
    }
    if (*lock >= 0) close(*lock);
    free(dir);
    return rc;
}

static char *base_of(const char *base)
{
    if (!base) base = getenv("TMPDIR");
    return mr__absolute(base && *base ? base : "/var/tmp");
}

void mr__workdir_sweep(const char *base, const char *job)
{
    char *dir = base_of(base), *of = job ? mr__strf("%s", job) : NULL;
    mr__workdir_each(dir, sweep_one, of);
    free(dir);
    free(of);
}

int mr__workdir_make(const char *base, char **path, int *lock, struct buf *why)
{
    char *dir = base_of(base);
    int rc = -EAGAIN;

    mr__workdir_sweep(base, NULL);
    for (int i = 0; i < TRIES && (rc == -EAGAIN || rc == -ENOENT); i++) {
        rc = make_one(dir, path, lock);
        if (rc == -ENOENT && access(dir, F_OK) < 0) break;
    }
    if (rc < 0)
        mr__fmt(why, "cannot make a directory for intermediate data in %s: %s (--workdir names another)", dir,
                err_text(rc));
    free(dir);
    return rc;
}
