/* output.c - how a job's output appears (output.h).
 *
 *   OUT.tmp-JOB/owner              who writes it: host, boot, pid, start time of the process
 *   OUT.tmp-JOB/attempts/          reduce-N-ATTEMPT, written by workers
 *   OUT.tmp-JOB/out/               part-00000 ..., _counters, _SUCCESS: made from the attempts that won
 *   OUT                            that directory, renamed
 *
 * All steps before the last touch only names of this job, so a process killed anywhere leaves OUT absent (or, with
 * replace, as it was) or complete. An attempt that still runs somewhere writes to a name that is never taken. With
 * replace the two directories change places in one step, and the old one is removed after that.
 *
 * Failure modes: OUT exists or comes into being meanwhile; the filesystem cannot exchange names; disk full. */
#include "mr/output.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mr/task.h"
#include "mr/util.h"

/* ---- owners ---- */

static char *read_line(const char *path)
{
    char text[512] = {0};
    FILE *f = fopen(path, "re");
    if (!f) return NULL;
    char *got = fgets(text, sizeof text, f);
    fclose(f);
    if (got) text[strcspn(text, "\n")] = 0;
    return got ? mr__strf("%s", text) : NULL;
}

/* When the process began, in ticks since the boot; 0: there is no such process. */
static unsigned long long start_of(pid_t pid)
{
    char *path = mr__strf("/proc/%d/stat", (int)pid), *line = read_line(path);
    const char *p = line ? strrchr(line, ')') : NULL;
    unsigned long long start = 0;

    for (int field = 2; p && field < 22; field++) p = strchr(p + 1, ' ');
    if (p) start = strtoull(p + 1, NULL, 10);
    free(line);
    free(path);
    return start;
}

static char *this_boot(void)
{
    char *boot = read_line("/proc/sys/kernel/random/boot_id");
    return boot ? boot : mr__strf("unknown");
}

static char *owner_text(void)
{
    char *boot = this_boot(), *text = mr__strf("%s %d %llu\n", boot, (int)getpid(), start_of(getpid()));
    free(boot);
    return text;
}

/* Only a process of this very boot can be known to be dead. */
static bool owner_is_dead(const char *temp)
{
    char *path = mr__strf("%s/owner", temp), *line = read_line(path), *boot = this_boot();
    char its_boot[128] = "";
    int pid = 0;
    unsigned long long start = 0;
    bool dead = line && sscanf(line, "%127s %d %llu", its_boot, &pid, &start) == 3 && strcmp(boot, its_boot) == 0 &&
                start_of(pid) != start;
    free(boot);
    free(line);
    free(path);
    return dead;
}

static void sweep(const char *output)
{
    const char *slash = strrchr(output, '/');
    char *parent = mr__strf("%.*s", slash == output ? 1 : (int)(slash - output), output);
    char *prefix = mr__strf("%s.tmp-", slash + 1);
    DIR *d = opendir(parent);

    for (struct dirent *e; d && (e = readdir(d));) {
        if (strncmp(e->d_name, prefix, strlen(prefix)) != 0) continue;
        char *path = mr__strf("%s/%s", parent, e->d_name);
        if (owner_is_dead(path)) mr__rmtree(path);
        free(path);
    }
    if (d) closedir(d);
    free(prefix);
    free(parent);
}

/* ---- begin ---- */

static int write_file(const char *dir, const char *name, struct slice text)
{
    char *path = mr__strf("%s/%s", dir, name);
    int rc = 0, fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) rc = -errno;
    if (rc == 0) rc = mr__write_all(fd, text.p, text.n);
    if (rc == 0 && fsync(fd) < 0 && errno != EINVAL) rc = -errno;
    if (fd >= 0) close(fd);
    free(path);
    return rc;
}

static int check_absent(const struct output_dir *o, struct buf *why)
{
    struct stat st;
    if (lstat(o->path, &st) < 0) return errno == ENOENT ? 0 : -errno;
    if (!o->replace) {
        mr__fmt(why, "the output %s exists: choose another, remove it, or say --replace", o->path);
        return -EEXIST;
    }
    if (S_ISDIR(st.st_mode)) return 0;
    mr__fmt(why, "the output %s exists and is no directory", o->path);
    return -ENOTDIR;
}

int mr__output_begin(const char *path, const char *job, bool replace, struct output_dir *out, struct buf *why)
{
    char *owner = owner_text();
    int rc;

    *out = (struct output_dir){.path = mr__absolute(path), .replace = replace};
    for (size_t n = strlen(out->path); n > 1 && out->path[n - 1] == '/';) out->path[--n] = 0;
    const char *name = strrchr(out->path, '/') + 1;
    if (!*path || !*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0) {
        mr__fmt(why, "the output '%s' is no name of a directory to make", path);
        rc = -EINVAL;
        goto out;
    }
    if ((rc = check_absent(out, why)) < 0) goto out;
    sweep(out->path);
    out->temp = mr__strf("%s.tmp-%s", out->path, job);
    out->attempts = mr__strf("%s/attempts", out->temp);
    if (mkdir(out->temp, 0777) < 0 || mkdir(out->attempts, 0777) < 0) rc = -errno;
    if (rc == 0) rc = write_file(out->temp, "owner", slice_str(owner));
out:
    free(owner);
    if (rc < 0 && why->n == 0) mr__fmt(why, "cannot make the output %s: %s", out->path, err_text(rc));
    if (rc < 0) mr__output_end(out);
    return rc;
}

/* ---- publish ---- */

static int collect_parts(const struct output_dir *o, const char *out, const uint32_t *attempts, uint32_t parts)
{
    int rc = 0;
    for (uint32_t r = 0; r < parts && rc == 0; r++) {
        char *from = mr__reduce_output(o->attempts, r, attempts[r]), *to = mr__strf("%s/part-%05u", out, r);
        if (rename(from, to) < 0) rc = -errno;
        free(from);
        free(to);
    }
    return rc;
}

/* Another process may make or remove the output at any moment; each step is right or fails. */
static int swap_in(const struct output_dir *o, const char *out, struct buf *why)
{
    for (int i = 0; i < 10; i++) {
        if (renameat2(AT_FDCWD, out, AT_FDCWD, o->path, RENAME_NOREPLACE) == 0) return 0;
        if (errno == EINVAL && access(o->path, F_OK) < 0) return rename(out, o->path) < 0 ? -errno : 0;
        if (errno != EEXIST && errno != EINVAL) return -errno;
        if (!o->replace) {
            mr__fmt(why, "the output %s came into being while the job ran", o->path);
            return -EEXIST;
        }
        if (renameat2(AT_FDCWD, out, AT_FDCWD, o->path, RENAME_EXCHANGE) == 0) return 0;
        if (errno == EINVAL) {
            mr__fmt(why, "the filesystem of %s cannot exchange directories: remove the output first, without --replace",
                    o->path);
            return -EINVAL;
        }
        if (errno != ENOENT) return -errno;
    }
    return -EBUSY;
}

int mr__output_publish(const struct output_dir *o, const uint32_t *attempts, uint32_t parts,
                       const struct counters *counters, struct buf *why)
{
    char *out = mr__strf("%s/out", o->temp),
         *parent = mr__strf("%.*s/", (int)(strrchr(o->path, '/') - o->path), o->path);
    struct buf text = {0};
    int rc = mkdir(out, 0777) < 0 ? -errno : 0;

    if (rc == 0) rc = collect_parts(o, out, attempts, parts);
    mr__counters_json(&text, counters);
    if (rc == 0) rc = write_file(out, "_counters", buf_slice(&text));
    if (rc == 0) rc = write_file(out, "_SUCCESS", (struct slice){0});
    if (rc == 0) rc = mr__sync_dir(out);
    if (rc == 0) rc = swap_in(o, out, why);
    if (rc == 0) rc = mr__sync_dir(parent);
    if (rc < 0 && why->n == 0) mr__fmt(why, "cannot publish the output %s: %s", o->path, err_text(rc));
    buf_free(&text);
    free(parent);
    free(out);
    return rc;
}

void mr__output_end(struct output_dir *o)
{
    if (o->temp) mr__rmtree(o->temp);
    free(o->path);
    free(o->temp);
    free(o->attempts);
    *o = (struct output_dir){0};
}
