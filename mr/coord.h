/* coord.h - running a job that has been planned; both return an exit code of mr.h. */
#ifndef QFS_MR_COORD_H
#define QFS_MR_COORD_H

#include "mr/jobfile.h"
#include "mr/output.h"
#include "mr/progress.h"

#define MR_ATTEMPTS_DEFAULT 4u

/* A task that an earlier coordinator's journal says is done. */
struct restored {
    bool done;
    uint32_t attempt;
};

/* What a job has from the chain that it is of. */
struct in_chain {
    struct job *job;                   /* taken; NULL: it is gone on with */
    struct jobdir *place;              /* the chain's: who holds its token may take the job over at once */
    uint32_t no, of;                   /* from 1 */
};

struct run {
    const struct mr_options *o;
    const struct in_chain *chain;      /* NULL: a job on its own */
    struct mr_options own;             /* what o points to, where a job is gone on with */
    struct job job;
    struct plan plan;
    char *rerun;                       /* o->rerun, where it is ours */
    struct jobdir place;
    struct restored *restored[2];      /* by phase and task; NULL: a new job */
    bool waits;                        /* some map outputs may still be with workers that live */
    bool ours;                         /* false: somebody else has the job now, or ended it */
    const char *cancelled;             /* its directory, or its chain's, if that was ended */
    char *dir;                         /* our directory for intermediate data */
    int lock;                          /* its lock */
    struct progress progress;
    struct counters *of_maps, *of_reduces;     /* by task, of the attempts that count */
    uint32_t *reduced_by;              /* by part: the attempt that counts */
    struct buf why;                    /* why it failed */
};

#define MR_TASK_WEIGHT MIB /* what a task costs beside its bytes */

struct sched *mr__run_sched(const struct run *r, uint64_t now);
void mr__run_map_task(const struct run *r, uint32_t no, uint32_t attempt, struct task *out);
/* A task's attempt became the one that counts: takes what it counted. */
void mr__run_commit(struct run *r, enum sched_phase phase, uint32_t task, uint32_t attempt, struct counters *c);
void mr__run_sum(const struct run *r, struct counters *all);
/* The file of a reduce task's attempt is there, with so many bytes. Asks the shared filesystem; on any thread. */
bool mr__run_has_part(const struct run *r, uint32_t no, uint32_t attempt, uint64_t bytes);
/* The output appears; after it, mr__output_clean(). */
int mr__run_publish(struct run *r, struct buf *why);
/* The journal's words for mr__run_commit(); `holder` has a map output. */
void mr__run_journal(struct buf *b, enum sched_phase phase, uint32_t task, uint32_t attempt, const char *holder,
                     const struct counters *c);
/* The job is not ours any more: says what happened to it. True: it is over, for everybody. */
bool mr__run_lost(struct run *r, int err);

/* Says r->why and ends this process in the middle of a job, which stays as its directory says. */
__attribute__((noreturn)) void mr__run_leave(struct run *r);

char *mr__this_host(void);              /* worker.c */
int mr__run(const struct mr_options *o, const struct in_chain *chain); /* mr_run(); chain may be NULL */
int mr__coordinate(struct run *r);     /* with workers */
int mr__run_local(struct run *r);      /* in this process */

#endif
