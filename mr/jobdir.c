/* jobdir.c - see jobdir.h.
 *
 * Making a job: everything is written and synced, the token's inode is journalled, and then the token gets its name;
 * that is the moment in which the job comes into being. Taking over: one rename.
 *
 * With --replace the token's last rename is an exchange, which leaves the *old output* under the token's name. So a
 * token counts only if its inode is one that the journal knows; else the job has been published. Inodes of directories
 * that exist at the same time differ, hence that is no guess.
 *
 * Failure modes: the process dies anywhere (whoever comes next finds a token or none); the disk is full; the
 * directory is removed under us, which is as if the job had been cancelled. */
#include "mr/jobdir.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mr/journal.h"
#include "mr/owner.h"
#include "mr/util.h"
#include "mr/workdir.h"

#define GRACE_S    600 /* for a directory whose maker is not known */
#define TRIES      5
#define REMOVALS   200 /* 10 s: more than a beat */
#define OUTPUT_MAX (64u * 1024)

/* ---- names ---- */

char *mr__jobdir_path(const char *output, const char *id, struct buf *why)
{
    char *path = mr__absolute(output);
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/';) path[--n] = 0;
    char *slash = strrchr(path, '/'), *name = slash + 1, *r = NULL;
    if (!*output || !*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        mr__fmt(why, "the output '%s' is no name of a directory to make", output);
    else
        *slash = 0, r = mr__strf("%s/.%s.mr-%s", path, name, id);
    free(path);
    return r;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* With the slash. */
static char *parent_of(const char *path) { return mr__str(slice_of(path, (size_t)(base_name(path) - path))); }

static bool is_jobdir_name(const char *name)
{
    const char *mark = name[0] == '.' ? strstr(name + 1, ".mr-") : NULL;
    for (const char *next = mark; next; next = strstr(next + 1, ".mr-")) mark = next;
    return mark && mark > name + 1 && mark[4] &&
           strspn(mark + 4, "abcdefghijklmnopqrstuvwxyz0123456789") == strlen(mark + 4);
}

const char *mr__jobdir_id(const char *path)
{
    const char *name = base_name(path);
    return is_jobdir_name(name) ? strrchr(name, '-') + 1 : name;
}

uint64_t mr__jobdir_inode(const char *dir, const char *name)
{
    struct stat st;
    char *path = mr__strf("%s/%s", dir, name);
    uint64_t ino = lstat(path, &st) == 0 ? st.st_ino : 0;
    free(path);
    return ino;
}

static int rename_in(const char *dir, const char *from, const char *to)
{
    char *a = mr__strf("%s/%s", dir, from), *b = mr__strf("%s/%s", dir, to);
    int rc = rename(a, b) < 0 ? -errno : 0;
    free(a);
    free(b);
    return rc;
}

static int mkdir_in(const char *dir, const char *name)
{
    char *path = mr__strf("%s/%s", dir, name);
    int rc = mkdir(path, 0777) < 0 ? -errno : 0;
    free(path);
    return rc;
}

/* ---- looking ---- */

struct known {
    uint64_t inodes[2]; /* of the token, so far as the last coordinator's journal says */
    bool any;
};

static void learn(void *arg, const struct journal_entry *e)
{
    struct known *k = arg;
    if (e->kind == JOURNAL_DONE) return;
    if (e->kind == JOURNAL_EPOCH) k->inodes[0] = e->inode;
    k->inodes[1] = e->kind == JOURNAL_PUBLISH ? e->inode : 0;
    k->any = k->any || e->kind == JOURNAL_PUBLISH;
}

static bool is_token(const struct known *k, uint64_t inode) { return inode == k->inodes[0] || inode == k->inodes[1]; }

struct names {
    bool token, over, result;
    uint32_t epoch;
};

static int list_names(const char *path, struct names *out)
{
    DIR *d = opendir(path);
    *out = (struct names){0};
    if (!d) return -errno;
    for (struct dirent *e; (e = readdir(d));) {
        uint32_t no;
        char rest;
        if (sscanf(e->d_name, "out-%u%c", &no, &rest) == 1) {
            if (!out->token || no > out->epoch) out->epoch = no;
            out->token = true;
        }
        if (strncmp(e->d_name, "over-", 5) == 0) out->over = true;
        if (strcmp(e->d_name, "result") == 0) out->result = true;
    }
    closedir(d);
    return 0;
}

static enum job_state state_of(const char *path, const struct names *n)
{
    struct known k = {0};
    uint32_t epochs;
    if (n->result) return JOB_DONE;
    if (n->over) return JOB_CANCELLED;
    if (mr__journal_read(path, learn, &k, &epochs) < 0) return n->token ? JOB_LIVE : JOB_UNBORN;
    if (!n->token) return k.any ? JOB_DONE : JOB_UNBORN;
    char *name = mr__strf("out-%u", n->epoch);
    uint64_t ino = mr__jobdir_inode(path, name);
    free(name);
    return ino == 0 || is_token(&k, ino) ? JOB_LIVE : JOB_DONE;
}

static char *line_of(const char *path, uint32_t epoch, const char *name)
{
    char *file = mr__strf("%s/epoch-%u/%s", path, epoch, name), *line = mr__first_line(file);
    free(file);
    return line;
}

int mr__jobdir_look(const char *path, struct job_look *out)
{
    struct names n;
    int rc = 0;

    *out = (struct job_look){0};
    /* A rename of the token while we list may hide it: look again. */
    for (int i = 0; i < TRIES && (rc = list_names(path, &n)) == 0 && !n.token && !n.over && !n.result; i++) {
    }
    if (rc < 0) return rc;
    out->state = state_of(path, &n);
    out->epoch = n.epoch;
    if (out->state != JOB_LIVE && out->state != JOB_UNBORN) return 0;
    out->owner = line_of(path, n.epoch, "owner");
    out->address = line_of(path, n.epoch, "address");
    out->beat = line_of(path, n.epoch, "beat");
    return 0;
}

void mr__look_free(struct job_look *l)
{
    free(l->owner);
    free(l->address);
    free(l->beat);
    *l = (struct job_look){0};
}

int mr__jobdir_each(const char *dir, void (*each)(void *arg, const char *path), void *arg)
{
    DIR *d = opendir(dir);
    if (!d) return -errno;
    for (struct dirent *e; (e = readdir(d));) {
        if (!is_jobdir_name(e->d_name)) continue;
        char *path = mr__strf("%s%s%s", dir, dir[0] && dir[strlen(dir) - 1] == '/' ? "" : "/", e->d_name);
        each(arg, path);
        free(path);
    }
    closedir(d);
    return 0;
}

char *mr__jobdir_output(const char *path)
{
    char *file = mr__strf("%s/output", path), *output = NULL;
    struct buf b = {0};
    if (mr__read_file(file, OUTPUT_MAX, &b) == 0 && b.n) output = mr__str(buf_slice(&b));
    buf_free(&b);
    free(file);
    return output;
}

/* ---- the one that is meant ---- */

struct search {
    const char *prefix, *id; /* of the name; one of them */
    char *best;
    bool lives;
    int64_t mtime;
};

static void consider(void *arg, const char *path)
{
    struct search *s = arg;
    struct job_look look;
    struct stat st;

    if (s->prefix && strncmp(base_name(path), s->prefix, strlen(s->prefix)) != 0) return;
    if (s->prefix && strcmp(base_name(path) + strlen(s->prefix), mr__jobdir_id(path)) != 0) return;
    if (s->id && strcmp(mr__jobdir_id(path), s->id) != 0) return;
    if (stat(path, &st) < 0 || mr__jobdir_look(path, &look) < 0) return;
    bool lives = look.state == JOB_LIVE;
    mr__look_free(&look);
    if (s->best && (s->lives > lives || (s->lives == lives && s->mtime > st.st_mtim.tv_sec))) return;
    free(s->best);
    s->best = mr__strf("%s", path);
    s->lives = lives;
    s->mtime = st.st_mtim.tv_sec;
}

char *mr__jobdir_find(const char *job, struct buf *why)
{
    struct buf no_name = {0};
    char *path = mr__absolute(job);
    struct search s = {0};

    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/';) path[--n] = 0;
    if (is_jobdir_name(base_name(path)) && access(path, F_OK) == 0) return path;
    char *any = mr__jobdir_path(job, "", &no_name);
    if (any) {
        char *parent = parent_of(any);
        s.prefix = base_name(any);
        mr__jobdir_each(parent, consider, &s);
        free(parent);
    }
    if (!s.best && !strchr(job, '/')) {
        s.prefix = NULL;
        s.id = job;
        mr__jobdir_each(".", consider, &s);
        if (s.best) {
            char *full = mr__absolute(s.best);
            free(s.best);
            s.best = full;
        }
    }
    if (!s.best)
        mr__fmt(why,
                "there is no job '%s': name its directory (.NAME.mr-ID), its output, or its id where its output is",
                job);
    buf_free(&no_name);
    free(any);
    free(path);
    return s.best;
}

/* ---- the end of a job without output ---- */

/* Its coordinator may still be writing there, until it finds that the job is gone; then it removes what is left, too, and
 * a directory that is being read here vanishes (ESTALE on another mount). */
static int remove_tree(const char *path)
{
    int rc = mr__rmtree(path);
    for (int i = 0; i < REMOVALS && (rc == -ENOTEMPTY || rc == -ESTALE); i++) {
        usleep(50000);
        rc = mr__rmtree(path);
    }
    return rc;
}

int mr__jobdir_abolish(const char *path, uint32_t epoch)
{
    char *from = mr__strf("out-%u", epoch), *to = mr__strf("over-%u", epoch);
    struct known k = {0};
    uint32_t epochs;
    int rc = rename_in(path, from, to);
    if (rc == -ENOENT) rc = -ESTALE;
    if (rc == 0 && mr__journal_read(path, learn, &k, &epochs) == 0 && !is_token(&k, mr__jobdir_inode(path, to)))
        rc = -EALREADY;
    free(from);
    free(to);
    if (rc < 0 && rc != -EALREADY) return rc;
    int removed = remove_tree(path);
    return rc ? rc : removed;
}

static bool is_old(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && st.st_mtim.tv_sec + GRACE_S < time(NULL);
}

static void drop_outputs(void *workdir, const char *path) { mr__workdir_sweep(workdir, mr__jobdir_id(path)); }

void mr__jobdir_drop_outputs(const char *path, const char *workdir)
{
    char *base = workdir ? mr__strf("%s", workdir) : NULL;
    mr__jobdir_each(path, drop_outputs, base);
    drop_outputs(base, path);
    free(base);
}

struct sweep {
    const char *prefix, *workdir;
};

/* What a new job of the same output removes: records of jobs that are over, and jobs whose coordinator is known to be
 * dead. Others are named. */
static void sweep_one(void *arg, const char *path)
{
    struct job_look look;
    const struct sweep *s = arg;

    if (strncmp(base_name(path), s->prefix, strlen(s->prefix)) != 0) return;
    if (strcmp(base_name(path) + strlen(s->prefix), mr__jobdir_id(path)) != 0) return;
    if (mr__jobdir_look(path, &look) < 0) return;
    if (look.state == JOB_LIVE && mr__owner_dead(look.owner)) {
        mr__jobdir_drop_outputs(path, s->workdir);
        mr__jobdir_abolish(path, look.epoch);
    } else if (look.state == JOB_LIVE) {
        mr__say("another job makes the same output, and the first to be done has it: %s (mr status, mr cancel)", path);
    } else if (look.state != JOB_UNBORN || mr__owner_dead(look.owner) || (!look.owner && is_old(path))) {
        mr__rmtree(path);
    }
    mr__look_free(&look);
}

static void sweep(const char *path, const char *workdir)
{
    char *parent = parent_of(path);
    const char *name = base_name(path);
    char *prefix = mr__str(slice_of(name, strlen(name) - strlen(mr__jobdir_id(path))));
    mr__jobdir_each(parent, sweep_one, &(struct sweep){prefix, workdir});
    free(prefix);
    free(parent);
}

/* ---- making and taking ---- */

static int open_own(struct jobdir *d, uint64_t token)
{
    struct journal_entry first = {.kind = JOURNAL_EPOCH, .inode = token};
    char *journal = mr__strf("%s/journal", d->own), *beat = mr__strf("%s/beat", d->own), *owner = mr__owner_text();
    struct buf b = {0};
    int rc = mkdir(d->own, 0777) < 0 ? -errno : 0;

    if (rc == 0) rc = mr__write_new(d->own, "owner", slice_str(owner));
    if (rc == 0 && (d->beat = open(beat, O_WRONLY | O_CREAT | O_CLOEXEC, 0666)) < 0) rc = -errno;
    if (rc == 0 && (d->journal = open(journal, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) < 0) rc = -errno;
    mr__journal_put(&b, &first);
    if (rc == 0) rc = mr__jobdir_append(d, buf_slice(&b));
    if (rc == 0) rc = mr__sync_dir(d->own);
    buf_free(&b);
    free(journal);
    free(beat);
    free(owner);
    return rc;
}

/* "now" is for people, it points to the last one that took the job. */
static void point_now(const struct jobdir *d)
{
    char *temp = mr__strf("%s/now-%u", d->path, d->epoch), *now = mr__strf("%s/now", d->path);
    bool first = d->epoch == 0 && symlink(base_name(d->own), now) == 0;
    if (!first && symlink(base_name(d->own), temp) == 0 && rename(temp, now) < 0) unlink(temp);
    free(temp);
    free(now);
}

static struct jobdir jobdir_of(const char *path, const char *output, uint32_t epoch)
{
    return (struct jobdir){.path = mr__strf("%s", path),
                           .output = mr__strf("%s", output),
                           .attempts = mr__strf("%s/attempts", path),
                           .own = mr__strf("%s/epoch-%u", path, epoch),
                           .epoch = epoch,
                           .journal = -1,
                           .beat = -1};
}

void mr__jobdir_close(struct jobdir *d)
{
    if (!d->path) return;
    if (d->journal >= 0) close(d->journal);
    if (d->beat >= 0) close(d->beat);
    free(d->path);
    free(d->output);
    free(d->attempts);
    free(d->own);
    *d = (struct jobdir){.journal = -1, .beat = -1};
}

int mr__jobdir_create(const char *path, const char *output, struct slice description, const char *workdir,
                      struct jobdir *out, struct buf *why)
{
    static const char *const parts[] = {"attempts", "stderr", "unborn"};
    int rc;

    sweep(path, workdir);
    *out = jobdir_of(path, output, 0);
    rc = mkdir(path, 0777) < 0 ? -errno : 0;
    bool made = rc == 0;
    mr__step_point("coordinator");
    for (size_t i = 0; i < sizeof parts / sizeof *parts && rc == 0; i++) rc = mkdir_in(path, parts[i]);
    if (rc == 0) rc = mr__write_new(path, "job", description);
    if (rc == 0) rc = mr__write_new(path, "output", slice_str(output));
    mr__step_point("coordinator");
    if (rc == 0) rc = open_own(out, mr__jobdir_inode(path, "unborn"));
    if (rc == 0) rc = mr__sync_dir(path);
    mr__step_point("coordinator");
    if (rc == 0) rc = rename_in(path, "unborn", "out-0");
    if (rc == 0) rc = mr__sync_dir(path);
    mr__step_point("coordinator");
    if (rc == 0) {
        point_now(out);
        return 0;
    }
    mr__fmt(why, "cannot make the job's directory %s: %s", path, err_text(rc));
    if (made) mr__rmtree(path);
    mr__jobdir_close(out);
    return rc;
}

int mr__jobdir_take(const char *path, uint32_t epoch, struct jobdir *out, struct buf *why)
{
    char *from = mr__strf("out-%u", epoch), *to = mr__strf("out-%u", epoch + 1);
    char *name = mr__jobdir_output(path);
    int rc = epoch + 1 >= MR_EPOCHS_MAX ? -EOVERFLOW : name ? 0 : QE_CORRUPT;

    *out = (struct jobdir){.journal = -1, .beat = -1};
    mr__step_point("coordinator");
    if (rc == 0) rc = rename_in(path, from, to);
    mr__step_point("coordinator");
    if (rc == -ENOENT) rc = -ESTALE;
    if (rc == 0 && state_of(path, &(struct names){.token = true, .epoch = epoch + 1}) == JOB_DONE) rc = -EALREADY;
    if (rc == 0) {
        *out = jobdir_of(path, name, epoch + 1);
        rc = open_own(out, mr__jobdir_inode(path, to));
    }
    if (rc == 0) rc = mr__sync_dir(path);
    mr__step_point("coordinator");
    if (rc == 0)
        point_now(out);
    else if (rc != -EALREADY)
        mr__fmt(why, "cannot take over the job %s: %s", path, rc == -ESTALE ? "somebody else just did" : err_text(rc));
    if (rc < 0) mr__jobdir_close(out);
    free(from);
    free(to);
    free(name);
    return rc;
}

/* ---- the holder's ---- */

int mr__jobdir_append(struct jobdir *d, struct slice records)
{
    mr__step_point("coordinator");
    int rc = mr__write_all(d->journal, records.p, records.n);
    mr__step_point("coordinator");
    if (rc == 0 && fsync(d->journal) < 0 && errno != EINVAL) rc = -errno;
    mr__step_point("coordinator");
    return rc;
}

int mr__jobdir_mine(const struct jobdir *d)
{
    struct stat st;
    int rc = d->above ? mr__jobdir_mine(d->above) : 0;
    if (rc < 0) return rc;
    char *token = mr__strf("%s/out-%u", d->path, d->epoch);
    if (lstat(token, &st) < 0) rc = -errno;
    free(token);
    return rc == -ENOENT || rc == -ENOTDIR ? -ESTALE : rc;
}

int mr__jobdir_beat(struct jobdir *d)
{
    char text[32];
    int n = snprintf(text, sizeof text, "%020llu\n", (unsigned long long)++d->beats);
    if (pwrite(d->beat, text, (size_t)n, 0) != n) return errno ? -errno : -EIO;
    int rc = d->above ? mr__jobdir_beat(d->above) : 0;
    return rc < 0 ? rc : mr__jobdir_mine(d);
}
