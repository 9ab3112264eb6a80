/* workdir.c - a directory is alive while somebody holds the lock on the file "lock" in it (workdir.h).
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

#include "mr/util.h"

#define PREFIX  "quorumfs-mr-"
#define GRACE_S 600 /* for a directory without a lock file */
#define TRIES   10

/* Of a dead one the lock is held, so that nobody else removes it; *lock is -1 where it has none. */
static bool is_dead(int base, const char *name, int *lock)
{
    struct stat st;

    *lock = -1;
    if (fstatat(base, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
        return false;
    int dir = openat(base, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0) return false;
    int fd = openat(dir, "lock", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    bool dead = fd < 0 && errno == ENOENT && st.st_mtim.tv_sec + GRACE_S < time(NULL);
    close(dir);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *lock = fd;
        return true;
    }
    if (fd >= 0) close(fd);
    return dead;
}

/* All but the lock. */
static void empty(const char *path)
{
    DIR *d = opendir(path);
    if (!d) return;
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

static void sweep_in(const char *base)
{
    DIR *d = opendir(base);
    int lock;
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));) {
        if (strncmp(e->d_name, PREFIX, strlen(PREFIX)) != 0 || !is_dead(dirfd(d), e->d_name, &lock)) continue;
        char *path = mr__strf("%s/%s", base, e->d_name);
        mr__workdir_remove(path);
        if (lock >= 0) close(lock);
        free(path);
    }
    closedir(d);
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

void mr__workdir_sweep(const char *base)
{
    char *dir = base_of(base);
    sweep_in(dir);
    free(dir);
}

int mr__workdir_make(const char *base, char **path, int *lock, struct buf *why)
{
    char *dir = base_of(base);
    int rc = -EAGAIN;

    sweep_in(dir);
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
