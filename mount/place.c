/* place.c - the mount point: is it fit, a dead mount of ours there, why mounting failed, unmounting, readahead.
 *
 * A mount whose process has died answers ENOTCONN to everything; it is taken away (up to a few, stacked) before a new
 * one comes. The texts are for the user and say what to do. Blocking, short, at a mount's start and end only. */
#include "mount/state.h"

#include <limits.h>
#include <mntent.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEVICE "/dev/fuse"
#define HELPER "fusermount3"
#define CONFIG "/etc/fuse.conf"
#define OUR_TYPE "fuse.quorumfs"
#define STACK_MAX 16

extern char **environ;

void mount__say(struct buf *why, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n > 0) buf_append(why, text, strlen(text));
}

/* ---- what is there ---- */

/* The type of the uppermost mount exactly at `point`: "" if there is none. */
static void type_at(const char *point, char *type, size_t n)
{
    struct mntent e;
    char line[8192];
    type[0] = '\0';
    FILE *f = setmntent("/proc/self/mounts", "re");
    if (!f) return;
    while (getmntent_r(f, &e, line, sizeof line))
        if (strcmp(e.mnt_dir, point) == 0) snprintf(type, n, "%s", e.mnt_type);
    endmntent(f);
}

static bool run_helper(const char *point)
{
    char *argv[] = {HELPER, "-u", "-q", "-z", "--", (char *)(uintptr_t)point, NULL};
    pid_t pid;
    int status;
    if (posix_spawnp(&pid, HELPER, NULL, NULL, argv, environ) != 0) return false;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return false;
    return status == 0;
}

/* abort: end the connection first, whoever uses it. */
void mount__place_unmount(const char *point, bool abort)
{
    char type[64];
    type_at(point, type, sizeof type);
    if (strcmp(type, OUR_TYPE) != 0) return;
    if (umount2(point, MNT_DETACH | UMOUNT_NOFOLLOW | (abort ? MNT_FORCE : 0)) == 0) return;
    if (errno == EPERM) run_helper(point);
}

static bool is_dead(int err) { return err == ENOTCONN || err == ECONNABORTED; }

static int repair(const char *point, struct buf *why)
{
    struct stat st;
    for (int i = 0; i < STACK_MAX; i++) {
        if (stat(point, &st) == 0 || !is_dead(errno)) return 0;
        char type[64];
        type_at(point, type, sizeof type);
        if (strcmp(type, OUR_TYPE) != 0) {
            mount__say(why, "a dead mount of type '%s' is there, which is not ours to remove: umount -l %s", type,
                       point);
            return -EBUSY;
        }
        if (umount2(point, MNT_DETACH | UMOUNT_NOFOLLOW) == 0 || run_helper(point)) continue;
        break;
    }
    mount__say(why, "a dead mount is there and could not be removed; as its owner or root: fusermount3 -u -z %s",
               point);
    return -EBUSY;
}

static int check_point(const char *point, struct buf *why)
{
    struct stat st;
    char type[64];
    int err = repair(point, why);
    if (err) return err;
    if (stat(point, &st) != 0) {
        err = -errno;
        mount__say(why, "%s", err == -ENOENT ? "there is no such directory; make it first (mkdir)" : err_text(err));
        return err;
    }
    if (!S_ISDIR(st.st_mode)) {
        mount__say(why, "it is not a directory");
        return -ENOTDIR;
    }
    type_at(point, type, sizeof type);
    if (strcmp(type, OUR_TYPE) == 0) {
        mount__say(why, "a quorumfs is mounted there already; unmount it first: %s %s",
                   geteuid() ? "fusermount3 -u" : "umount", point);
        return -EBUSY;
    }
    return 0;
}

static int check_device(struct buf *why)
{
    if (access(DEVICE, R_OK | W_OK) == 0) return 0;
    int err = -errno;
    if (err == -ENOENT || err == -ENODEV || err == -ENXIO) {
        mount__say(why, "%s is missing: load the kernel's FUSE (modprobe fuse), or give the container the device "
                   "(--device %s --cap-add SYS_ADMIN)", DEVICE, DEVICE);
    } else {
        mount__say(why, DEVICE ": %s; its permissions should be 0666", err_text(err));
    }
    return err;
}

/* ---- what an ordinary user needs in addition ---- */

static bool in_path(const char *program)
{
    const char *path = getenv("PATH");
    for (const char *at = path ? path : "/usr/bin:/bin"; *at;) {
        char file[PATH_MAX];
        size_t n = strcspn(at, ":");
        snprintf(file, sizeof file, "%.*s/%s", (int)n, at, program);
        if (access(file, X_OK) == 0) return true;
        at += n + (at[n] == ':');
    }
    return false;
}

static bool others_allowed(void)
{
    char line[256];
    bool found = false;
    FILE *f = fopen(CONFIG, "re");
    if (!f) return false;
    while (!found && fgets(line, sizeof line, f)) {
        char *word = line + strspn(line, " \t");
        word[strcspn(word, " \t\r\n")] = '\0';
        found = strcmp(word, "user_allow_other") == 0;
    }
    fclose(f);
    return found;
}

static int check_user(const struct mount_options *o, struct buf *why)
{
    if (geteuid() == 0) return 0;
    if (!in_path(HELPER)) {
        mount__say(why, "%s is missing, which mounts for ordinary users: install the package fuse3, or mount as root",
                   HELPER);
        return -ENOENT;
    }
    if (o->allow_other && !others_allowed()) {
        mount__say(why, "allow_other needs the line user_allow_other in " CONFIG " (or leave the option away)");
        return -EPERM;
    }
    return 0;
}

int mount__place_prepare(const struct mount_options *o, char **point, struct buf *why)
{
    *point = realpath(o->mountpoint, NULL);
    if (!*point) {
        int err = -errno;
        if (is_dead(-err)) *point = strdup(o->mountpoint);
        if (!*point) {
            mount__say(why, "%s", err == -ENOENT ? "there is no such directory; make it first (mkdir)" : err_text(err));
            return err;
        }
    }
    int err = check_point(*point, why);
    if (!err) err = check_device(why);
    if (!err) err = check_user(o, why);
    return err;
}

/* Mounting has failed and libfuse said `log`. */
void mount__place_explain(const struct mount_options *o, const char *log, struct buf *why)
{
    size_t n = strcspn(log, "\n");
    if (n == 0) {
        mount__say(why, "the mount was refused");
    } else {
        mount__say(why, "%.*s", (int)n, log);
    }
    if (geteuid() == 0) {
        mount__say(why, " (in a container it needs --device " DEVICE " --cap-add SYS_ADMIN)");
    } else {
        mount__say(why, " (" HELPER " must be set-user-id root, and the mount point yours)");
    }
}

/* ---- readahead ---- */

/* The kernel reads 128 KiB ahead unless the administrator says otherwise for the mount's device. Only root can; if it
 * does not work it is only slower. */
void mount__place_readahead(const char *point, unsigned kib)
{
    char line[8192], device[32] = "", dir[PATH_MAX], path[96];
    FILE *f = geteuid() == 0 ? fopen("/proc/self/mountinfo", "re") : NULL;
    if (!f) return;
    while (fgets(line, sizeof line, f)) {
        char dev[32];
        if (sscanf(line, "%*d %*d %31s %*s %4095s", dev, dir) == 2 && strcmp(dir, point) == 0)
            memcpy(device, dev, sizeof device);
    }
    fclose(f);
    if (!device[0]) return;
    snprintf(path, sizeof path, "/sys/class/bdi/%s/read_ahead_kb", device);
    f = fopen(path, "we");
    if (!f) return;
    fprintf(f, "%u\n", kib);
    fclose(f);
}
