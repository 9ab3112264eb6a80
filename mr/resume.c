/* resume.c - see resume.h.
 *
 * Happy path: the job's directory is found, its coordinator is dead, the token is renamed, description and journals are
 * read. Reduce tasks whose file is there are done. Map outputs are on their workers' disks: those that workers bring
 * when they join are kept; what belonged to a worker that is known to be dead is waited for only if its directory is
 * still there, for one of ours to take over.
 *
 * A chain (chain.c) is taken over in the same way.
 *
 * Failure modes: somebody else is faster, the job is over meanwhile, the description is damaged or of another version:
 * said, and nothing is changed but the epoch. */
#include "mr/resume.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "mr/chainfile.h"
#include "mr/estate.h"
#include "mr/journal.h"
#include "mr/standby.h"
#include "mr/util.h"
#include "mr/workdir.h"

#define JOBFILE_MAX (1024u * MIB)

/* ---- the description ---- */

static int read_description(struct run *r, const char *path, struct jobfile *f)
{
    char *name = mr__strf("%s/job", path);
    struct chainfile chain = {0};
    struct job_look look;
    struct buf b = {0};
    int rc = mr__read_file(name, JOBFILE_MAX, &b);

    if (rc == 0 && mr__chainfile_is(buf_slice(&b)))
        rc = mr__chainfile_decode(buf_slice(&b), &chain); /* it was none that could be read */
    else if (rc == 0)
        rc = mr__jobfile_decode(buf_slice(&b), f);
    if (rc == QE_CORRUPT && mr__jobdir_look(path, &look) == 0) {
        if (look.state == JOB_UNBORN) rc = -ENOENT; /* its maker died over it */
        mr__look_free(&look);
    }
    if (rc == -ENOENT)
        mr__fmt(&r->why, "the job %s never began: start it anew", path);
    else if (rc < 0)
        mr__fmt(&r->why, "cannot read the job's description %s: %s", name, err_text(rc));
    mr__chainfile_free(&chain);
    buf_free(&b);
    free(name);
    return rc;
}

/* The job's directory may have another name here than where the job was started: another mount point. */
static void adopt(struct run *r, const char *path, struct jobfile *f)
{
    char *from = mr__job_home(&f->job);

    mr__repath_in(&f->job.attempts, from, path);
    mr__repath_in(&f->job.cwd, from, path);
    for (size_t i = 0; i < f->plan.files_n; i++) mr__repath_in(&f->plan.files[i].path, from, path);
    r->job = f->job;
    r->plan = f->plan;
    r->rerun = f->rerun;
    r->own = *r->o;
    r->own.rerun = *f->rerun ? f->rerun : NULL;
    r->own.replace = r->o->replace || f->replace;
    if (!r->own.attempts) r->own.attempts = f->attempts;
    r->o = &r->own;
    free(from);
}

int mr__resume_turn(const char *path, bool standby, uint64_t beat_ns, struct jobdir *out, struct buf *why)
{
    uint32_t epoch = 0;
    int rc;
    do {
        rc = mr__await_turn(path, standby, beat_ns, &epoch, why);
        if (rc != TURN_TAKE) return rc == TURN_DONE ? -EALREADY : rc;
        buf_clear(why);
        rc = mr__jobdir_take(path, epoch, out, why);
    } while (rc == -ESTALE && standby);
    return rc;
}

/* Who holds the chain's token need not wait for who held it before. */
static int take_of_chain(struct run *r, const char *path)
{
    struct job_look look;
    int rc;
    do {
        if ((rc = mr__jobdir_look(path, &look)) < 0) return rc;
        buf_clear(&r->why);
        rc = look.state == JOB_DONE ? -EALREADY : mr__jobdir_take(path, look.epoch, &r->place, &r->why);
        mr__look_free(&look);
    } while (rc == -ESTALE);
    return rc;
}

int mr__resume_say_done(const char *path)
{
    char *output = mr__jobdir_output(path);
    mr__output_clean(path);
    mr__say("the job %s is done; its output is %s", mr__jobdir_id(path), output ? output : "where it was to be");
    free(output);
    return MR_RESUME_DONE;
}

int mr__resume_take(struct run *r)
{
    char *path = mr__jobdir_find(r->o->resume, &r->why);
    struct jobfile f = {0};
    int rc = path ? read_description(r, path, &f) : -ENOENT;

    if (rc == 0)
        rc =
            r->chain ? take_of_chain(r, path) : mr__resume_turn(path, r->o->standby, f.job.beat_ns, &r->place, &r->why);
    if (rc == -EALREADY) rc = mr__resume_say_done(path);
    if (rc == 0) {
        char *from = mr__job_home(&f.job);
        mr__repath_in(&r->place.output, from, path);
        free(from);
        adopt(r, path, &f);
        r->own.output = r->place.output;
    } else {
        mr__jobfile_free(&f);
    }
    free(path);
    return rc;
}

/* ---- the journals ---- */

/* Of this machine, and gone. "HOST PID". */
static bool is_gone(struct slice holder)
{
    char *text = mr__str(holder), *host = mr__this_host();
    const char *space = strrchr(text, ' ');
    bool here = space && strlen(host) == (size_t)(space - text) && strncmp(text, host, strlen(host)) == 0;
    int pid = here ? atoi(space + 1) : 0;
    bool gone = pid > 1 && kill(pid, 0) < 0 && errno == ESRCH;
    free(host);
    free(text);
    return gone;
}

struct replay {
    struct run *run;
    bool *lies_here; /* by map task: its output is in a directory where our workers will look */
};

static void note_output(void *arg, const struct task_result *result)
{
    struct replay *p = arg;
    if (result->no < p->run->plan.splits_n) p->lies_here[result->no] = true;
}

static void note_outputs(void *arg, const char *path)
{
    struct replay *p = arg;
    mr__estate_read(path, p->run->job.id, p->run->job.reducers, note_output, p);
}

static void replay(void *arg, const struct journal_entry *e)
{
    struct replay *p = arg;
    struct run *r = p->run;
    struct counters c = {0};

    if (e->kind != JOURNAL_DONE || e->task >= (e->phase == SCHED_MAP ? r->plan.splits_n : r->job.reducers)) return;
    if (!mr__counters_decode(e->counters, &c)) return;
    struct restored *t = &r->restored[e->phase][e->task];
    *t = (struct restored){.done = true, .attempt = e->attempt};
    if (e->phase == SCHED_MAP) {
        bool gone = is_gone(e->holder);
        t->done = !r->o->local && (!gone || p->lies_here[e->task]);
        r->waits = r->waits || (t->done && !gone);
    }
    mr__run_commit(r, e->phase, e->task, e->attempt, &c);
}

/* The file is what was counted. (A coordinator on a filesystem without links may have taken it away.) */
static bool is_there(const struct run *r, uint32_t no)
{
    return mr__run_has_part(r, no, r->restored[SCHED_REDUCE][no].attempt, r->of_reduces[no].built_in[MR_OUTPUT_BYTES]);
}

int mr__resume_replay(struct run *r)
{
    struct replay p = {r, xcalloc(r->plan.splits_n + 1, sizeof *p.lies_here)};
    uint32_t epochs, maps = 0, reduces = 0;
    char *base = mr__strf("%.*s", (int)(strrchr(r->dir, '/') - r->dir), r->dir);

    mr__workdir_each(base, note_outputs, &p);
    free(base);
    r->restored[SCHED_MAP] = xcalloc(r->plan.splits_n + 1, sizeof(struct restored));
    r->restored[SCHED_REDUCE] = xcalloc(r->job.reducers, sizeof(struct restored));
    int rc = mr__journal_read(r->place.path, replay, &p, &epochs);
    free(p.lies_here);
    if (rc < 0) {
        mr__fmt(&r->why, "cannot read the journals in %s: %s", r->place.path, err_text(rc));
        return rc;
    }
    for (uint32_t i = 0; i < r->job.reducers; i++) {
        struct restored *t = &r->restored[SCHED_REDUCE][i];
        t->done = t->done && is_there(r, i);
        reduces += t->done;
    }
    for (size_t i = 0; i < r->plan.splits_n; i++) maps += r->restored[SCHED_MAP][i].done;
    mr__say("going on with the job %s in epoch %u: %u of %u reduce tasks are done, and %u of %zu map outputs may still "
            "be with their workers",
            r->job.id, r->place.epoch, reduces, r->job.reducers, maps, r->plan.splits_n);
    return 0;
}
