/* output.c - how a job's output appears (output.h).
 *
 *   JOB/attempts/          reduce-N-ATTEMPT, written by workers
 *   JOB/parts-E/           made by the coordinator of epoch E: links to the attempts that won, _counters, _SUCCESS,
 * _skipped JOB/out-E              the token: parts-E changes places with it, and then it is renamed to OUT the output
 *
 * A chain's (chain.c) appears in the same way, out of its last job's.
 *
 * 1. parts-E is made and synced. Its inode is new; no other coordinator has ever had it in hand.
 * 2. The journal says its inode (PUBLISH).
 * 3. parts-E and out-E change places: that fails if the token has another name by now.
 * 4. out-E becomes OUT (or changes places with it): that fails if the token has another name by now. This is the step.
 *
 * A coordinator that was frozen, or whose request was on its way for an hour, names out-E in steps 3 and 4; its
 * successor has renamed that first and never makes the name again, so both fail, and they name things only below its
 * own directories before that. Parts are links, so it cannot take an attempt's file away from its successor either.
 * Steps 1 to 3 change nothing that anybody reads; after step 4 the job is over. So OUT is absent (as it was) or
 * complete.
 *
 * Failure modes: OUT exists or comes into being meanwhile; the filesystem has no links (parts are moved then: a
 * successor finds some missing and makes them again) or cannot exchange names (step 3 is a rename over the empty token
 * then, which a successor that takes the token in the same moment does not stop); disk full. */
#include "mr/output.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mr/journal.h"
#include "mr/owner.h"
#include "mr/task.h"
#include "mr/util.h"

static int check_parent(const char *path)
{
    char *full = mr__absolute(path);
    struct stat st;
    for (size_t n = strlen(full); n > 1 && full[n - 1] == '/';) full[--n] = 0;
    strrchr(full, '/')[1] = 0;
    int rc = stat(full, &st) < 0 ? -errno : S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
    free(full);
    return rc;
}

int mr__output_check(const char *path, bool replace, struct buf *why)
{
    struct stat st;
    if (lstat(path, &st) < 0) {
        int rc = errno == ENOENT ? check_parent(path) : -errno;
        if (rc < 0)
            mr__fmt(why, "cannot make the output %s: %s", path,
                    rc == -ENOENT ? "its directory does not exist" : err_text(rc));
        return rc;
    }
    if (!replace) {
        mr__fmt(why, "the output %s exists: choose another, remove it, or say --replace", path);
        return -EEXIST;
    }
    if (S_ISDIR(st.st_mode)) return 0;
    mr__fmt(why, "the output %s exists and is no directory", path);
    return -ENOTDIR;
}

/* ---- the parts ---- */

static bool no_links(int err) { return err == EPERM || err == EOPNOTSUPP || err == ENOSYS || err == EMLINK; }

static int collect_parts(const struct jobdir *d, const char *to, const uint32_t *attempts, uint32_t parts)
{
    int rc = 0;
    for (uint32_t r = 0; r < parts && rc == 0; r++) {
        char *from = mr__reduce_output(d->attempts, r, attempts[r]), *part = mr__strf("%s/part-%05u", to, r);
        if (link(from, part) < 0) rc = -errno;
        if (rc < 0 && no_links(-rc)) rc = rename(from, part) < 0 ? -errno : 0;
        free(from);
        free(part);
    }
    return rc;
}

static int make_parts(const struct jobdir *d, const char *dir, const uint32_t *attempts, uint32_t parts,
                      const struct counters *counters)
{
    struct buf text = {0};
    int rc = mkdir(dir, 0777) < 0 ? -errno : 0;

    mr__step_point("coordinator");
    if (rc == 0) rc = collect_parts(d, dir, attempts, parts);
    mr__step_point("coordinator");
    mr__counters_json(&text, counters);
    if (rc == 0) rc = mr__write_new(dir, "_counters", buf_slice(&text));
    if (rc == 0 && counters->skipped.n) rc = mr__write_new(dir, "_skipped", buf_slice(&counters->skipped));
    if (rc == 0) rc = mr__write_new(dir, "_SUCCESS", (struct slice){0});
    if (rc == 0) rc = mr__sync_dir(dir);
    mr__step_point("coordinator");
    buf_free(&text);
    return rc;
}

/* ---- the steps that need the token ---- */

static int say_inode(struct jobdir *d, const char *dir)
{
    struct journal_entry e = {.kind = JOURNAL_PUBLISH};
    struct stat st;
    struct buf b = {0};
    if (lstat(dir, &st) < 0) return -errno;
    e.inode = st.st_ino;
    mr__journal_put(&b, &e);
    int rc = mr__jobdir_append(d, buf_slice(&b));
    buf_free(&b);
    return rc;
}

/* Both names exist, or it fails with ENOENT. */
static int into_token(const struct jobdir *d, const char *parts, const char *token)
{
    if (renameat2(AT_FDCWD, parts, AT_FDCWD, token, RENAME_EXCHANGE) == 0) return 0;
    if (errno != EINVAL && errno != ENOSYS) return errno == ENOENT ? -ESTALE : -errno;
    int rc = mr__jobdir_mine(d);
    if (rc == 0 && rename(parts, token) < 0) rc = -errno;
    return rc;
}

/* -EEXIST, and `why`: it came into being meanwhile. */
static int token_to_output(const struct jobdir *d, const char *token, bool replace, struct buf *why)
{
    for (int i = 0; i < 10; i++) {
        if (renameat2(AT_FDCWD, token, AT_FDCWD, d->output, RENAME_NOREPLACE) == 0) return 0;
        if ((errno == EINVAL || errno == ENOSYS) && access(d->output, F_OK) < 0)
            return rename(token, d->output) == 0 ? 0 : errno == ENOENT ? mr__jobdir_mine(d) : -errno;
        if (errno == ENOENT) return mr__jobdir_mine(d) == -ESTALE ? -ESTALE : -ENOENT;
        if (errno != EEXIST && errno != EINVAL) return -errno;
        if (!replace) {
            mr__fmt(why, "the output %s came into being while the job ran", d->output);
            return -EEXIST;
        }
        if (renameat2(AT_FDCWD, token, AT_FDCWD, d->output, RENAME_EXCHANGE) == 0) return 0;
        if (errno == EINVAL || errno == ENOSYS) {
            mr__fmt(why, "the filesystem of %s cannot exchange directories: remove the output first, without --replace",
                    d->output);
            return -EINVAL;
        }
        if (errno != ENOENT) return -errno;
        if (mr__jobdir_mine(d) == -ESTALE) return -ESTALE; /* or the output is gone: it need not be replaced */
    }
    return -EBUSY;
}

static char *parts_path(const struct jobdir *d) { return mr__strf("%s/parts-%u", d->path, d->epoch); }

/* `rc`: of making parts-E. */
static int show_parts(struct jobdir *d, int rc, bool replace, struct buf *why)
{
    char *dir = parts_path(d), *token = mr__strf("%s/out-%u", d->path, d->epoch);
    char *parent = mr__strf("%.*s/", (int)(strrchr(d->output, '/') - d->output), d->output);

    if (rc == 0) rc = say_inode(d, dir);
    if (rc == 0) rc = into_token(d, dir, token);
    mr__step_point("coordinator");
    if (rc == 0) rc = token_to_output(d, token, replace, why);
    mr__step_point("coordinator");
    /* What looks like a fault may be a successor that clears up, or the job's end. */
    if (rc < 0 && why->n == 0 && mr__jobdir_mine(d) == -ESTALE)
        rc = -ESTALE;
    else if (rc == 0)
        rc = mr__sync_dir(parent);
    if (rc < 0 && why->n == 0 && rc != -ESTALE)
        mr__fmt(why, "cannot publish the output %s: %s", d->output, err_text(rc));
    free(dir);
    free(token);
    free(parent);
    return rc;
}

int mr__output_publish(struct jobdir *d, bool replace, const uint32_t *attempts, uint32_t parts,
                       const struct counters *counters, struct buf *why)
{
    char *dir = parts_path(d);
    int rc = make_parts(d, dir, attempts, parts, counters);
    free(dir);
    return show_parts(d, rc, replace, why);
}

static int copy(const char *from, const char *to)
{
    int in = open(from, O_RDONLY | O_CLOEXEC), out = in < 0 ? -1 : open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    int rc = out < 0 ? -errno : 0;
    ssize_t n = 1;
    while (rc == 0 && n > 0)
        if ((n = copy_file_range(in, NULL, out, NULL, 1u << 30, 0)) < 0) rc = -errno;
    if (rc == 0 && fsync(out) < 0) rc = -errno;
    if (out >= 0 && close(out) < 0 && rc == 0) rc = -errno;
    if (in >= 0) close(in);
    return rc;
}

/* `from` stays whole: a successor would have no other way to its files. */
static int link_all(const char *from, const char *to)
{
    DIR *d = opendir(from);
    int rc = d ? 0 : -errno;
    for (struct dirent *e; rc == 0 && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        char *a = mr__strf("%s/%s", from, e->d_name), *b = mr__strf("%s/%s", to, e->d_name);
        if (link(a, b) < 0) rc = no_links(errno) ? copy(a, b) : -errno;
        free(a);
        free(b);
    }
    if (d) closedir(d);
    return rc;
}

int mr__output_publish_all(struct jobdir *d, bool replace, const char *from, struct buf *why)
{
    char *dir = parts_path(d);
    int rc = mkdir(dir, 0777) < 0 ? -errno : 0;
    mr__step_point("coordinator");
    if (rc == 0) rc = link_all(from, dir);
    mr__step_point("coordinator");
    if (rc == 0) rc = mr__sync_dir(dir);
    free(dir);
    return show_parts(d, rc, replace, why);
}

/* ---- after it ---- */

static bool is_needless(const char *name)
{
    return strcmp(name, "attempts") == 0 || strncmp(name, "parts-", 6) == 0 || strncmp(name, "out-", 4) == 0 ||
           strncmp(name, "stage-", 6) == 0;
}

void mr__output_clean(const char *job)
{
    mr__step_point("coordinator");
    if (mr__write_new(job, "result", slice_str("done\n")) < 0) return;
    mr__step_point("coordinator");
    DIR *d = opendir(job);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (!is_needless(e->d_name)) continue;
        char *path = mr__strf("%s/%s", job, e->d_name);
        mr__rmtree(path);
        free(path);
    }
    if (d) closedir(d);
    mr__step_point("coordinator");
}
