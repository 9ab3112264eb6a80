/* status.c - mr_status() and mr_cancel(): jobs by their directories, whoever works on them, also nobody. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mr/jobdir.h"
#include "mr/mr.h"
#include "mr/owner.h"
#include "mr/util.h"

#define FILE_MAX MIB
#define SILENT_S 60 /* without a sign of life: said, with no other consequence */

struct report {
    struct buf text;
    bool json;
    uint32_t jobs;
};

static char *own_file(const char *path, uint32_t epoch, const char *name)
{
    char *file = mr__strf("%s/epoch-%u/%s", path, epoch, name);
    struct buf b = {0};
    int rc = mr__read_file(file, FILE_MAX, &b);
    while (b.n && b.p[b.n - 1] == '\n') b.n--;
    put_u8(&b, 0);
    free(file);
    if (rc == 0 && b.n > 1) return (char *)b.p;
    buf_free(&b);
    return NULL;
}

static bool is_silent(const char *path, uint32_t epoch)
{
    struct stat st;
    char *file = mr__strf("%s/epoch-%u/beat", path, epoch);
    bool silent = stat(file, &st) == 0 && st.st_mtim.tv_sec + SILENT_S < time(NULL);
    free(file);
    return silent;
}

static const char *state_word(const char *path, const struct job_look *l, const char *failed)
{
    switch (l->state) {
    case JOB_UNBORN:
        return mr__owner_dead(l->owner) ? "never began" : "starting";
    case JOB_DONE:
        return "done";
    case JOB_CANCELLED:
        return "cancelled";
    case JOB_LIVE:
        break;
    }
    if (failed) return "failed";
    if (mr__owner_dead(l->owner)) return "interrupted";
    return is_silent(path, l->epoch) ? "silent" : "running";
}

static void put_member(struct buf *b, const char *name, const char *value)
{
    mr__fmt(b, ", \"%s\": ", name);
    mr__json_str(b, slice_str(value ? value : ""));
}

/* The epoch whose files tell of the job: where it is over, the last one. */
static uint32_t telling_epoch(const char *path, const struct job_look *l)
{
    char *link = mr__strf("%s/now", path), target[64] = "";
    uint32_t epoch = l->epoch;
    if (l->state != JOB_LIVE && readlink(link, target, sizeof target - 1) > 0) sscanf(target, "epoch-%u", &epoch);
    free(link);
    return epoch;
}

static void report_one(void *arg, const char *path)
{
    struct report *r = arg;
    struct job_look l;
    struct buf *b = &r->text;
    if (mr__jobdir_look(path, &l) < 0) return;
    uint32_t epoch = telling_epoch(path, &l);
    char *output = mr__jobdir_output(path);
    char *progress = own_file(path, epoch, r->json ? "progress.json" : "progress"),
         *failed = own_file(path, epoch, "failed");
    const char *state = state_word(path, &l, failed);

    if (l.address) l.address[strcspn(l.address, "\t")] = 0; /* what is behind it is for workers */
    if (r->json) {
        mr__fmt(b, "{\"job\": \"%s\", \"state\": \"%s\", \"epoch\": %u", mr__jobdir_id(path), state, epoch);
        put_member(b, "output", output);
        put_member(b, "directory", path);
        put_member(b, "coordinator", l.address);
        put_member(b, "why", failed);
        mr__fmt(b, ", \"progress\": %s}\n", progress ? progress : "null");
    } else {
        char *lf = progress ? strchr(progress, '\n') : NULL;
        if (lf) *lf = 0;
        for (char *p = output; p && *p; p++)
            if ((unsigned char)*p < ' ') *p = '?'; /* a line a job */
        mr__fmt(b, "%-12s %-11s %s  %s\n", mr__jobdir_id(path), state, output ? output : "?", progress ? progress : "");
        if (failed) mr__fmt(b, "             %.*s\n", (int)strcspn(failed, "\n"), failed);
    }
    r->jobs++;
    free(output);
    free(progress);
    free(failed);
    mr__look_free(&l);
}

static int report_all(struct report *r, const char *const *dirs, size_t n)
{
    static const char *const here[] = {"."};
    int code = MR_EXIT_OK;
    if (n == 0) dirs = here, n = 1;
    for (size_t i = 0; i < n; i++) {
        char *dir = mr__absolute(dirs[i]);
        if (strcmp(dirs[i], ".") == 0) dir[strlen(dir) - 2] = 0;
        int rc = mr__jobdir_each(*dir ? dir : "/", report_one, r);
        if (rc < 0) mr__say("cannot look for jobs in %s: %s", dir, err_text(rc));
        if (rc < 0) code = MR_EXIT_FAILED;
        free(dir);
    }
    return code;
}

int mr_status(const char *const *jobs, size_t n, bool all, bool json)
{
    struct report r = {.json = json};
    struct buf why = {0};
    int code = all ? report_all(&r, jobs, n) : MR_EXIT_OK;

    for (size_t i = 0; i < n && !all; i++) {
        buf_clear(&why);
        char *path = mr__jobdir_find(jobs[i], &why);
        if (path) report_one(&r, path);
        if (!path) mr__say("%.*s", (int)why.n, why.p);
        if (!path) code = MR_EXIT_FAILED;
        free(path);
    }
    if (all && !json && r.jobs == 0 && code == MR_EXIT_OK) mr__say("there are no jobs");
    if (!json && r.jobs) {
        static const char head[] = "JOB          STATE       OUTPUT  PROGRESS\n";
        (void)!mr__write_all(1, head, sizeof head - 1);
    }
    (void)!mr__write_all(1, r.text.p, r.text.n);
    buf_free(&r.text);
    buf_free(&why);
    return code;
}

/* ---- cancelling ---- */

static int cancel(const char *path)
{
    struct job_look l;
    int rc;
    do {
        if ((rc = mr__jobdir_look(path, &l)) < 0) return rc;
        if (l.state == JOB_LIVE) rc = mr__jobdir_abolish(path, l.epoch);
        if (l.state == JOB_DONE) rc = -EALREADY;
        if (l.state == JOB_CANCELLED) rc = mr__rmtree(path);
        if (l.state == JOB_UNBORN) rc = mr__owner_dead(l.owner) ? mr__rmtree(path) : -EBUSY;
        mr__look_free(&l);
    } while (rc == -ESTALE); /* it has got another coordinator, or is being published */
    return rc;
}

int mr_cancel(const char *job, const char *workdir)
{
    struct buf why = {0};
    char *path = mr__jobdir_find(job, &why);
    if (path) mr__jobdir_drop_outputs(path, workdir);
    int rc = path ? cancel(path) : -ENOENT;

    if (!path)
        mr__say("%.*s", (int)why.n, why.p);
    else if (rc == -EALREADY)
        mr__say("the job %s is done, there is nothing to cancel", mr__jobdir_id(path));
    else if (rc == -EBUSY)
        mr__say("the job %s is just being made: try again", mr__jobdir_id(path));
    else if (rc < 0)
        mr__say("cannot cancel the job %s: %s", path, err_text(rc));
    else
        mr__say("the job %s is cancelled", mr__jobdir_id(path));
    buf_free(&why);
    free(path);
    return rc < 0 ? MR_EXIT_FAILED : MR_EXIT_OK;
}
