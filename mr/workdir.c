/* workdir.c - a directory is alive while somebody holds the lock on the file "lock" in it (workdir.h).
 *
 * Between making the directory and locking it a sweeper may take it for dead; the maker notices, because the lock file
 * has lost its name by then, and makes another. */
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

static bool is_dead(int base, const char *name)
{
    struct stat st;
    bool dead = false;

    if (fstatat(base, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
        return false;
    int dir = openat(base, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0) return false;
    int fd = openat(dir, "lock", O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0) {
        dead = flock(fd, LOCK_EX | LOCK_NB) == 0;
        if (dead) unlinkat(dir, "lock", 0);
        close(fd);
    } else {
        dead = errno == ENOENT && st.st_mtim.tv_sec + GRACE_S < time(NULL);
    }
    close(dir);
    return dead;
}

static void sweep_in(const char *base)
{
    DIR *d = opendir(base);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d));) {
        if (strncmp(e->d_name, PREFIX, strlen(PREFIX)) != 0 || !is_dead(dirfd(d), e->d_name)) continue;
        char *path = mr__strf("%s/%s", base, e->d_name);
        mr__rmtree(path);
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
