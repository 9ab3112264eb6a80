/* coord.h - running a job that has been planned; both return an exit code of mr.h. */
#ifndef QFS_MR_COORD_H
#define QFS_MR_COORD_H

#include "mr/job.h"
#include "mr/output.h"
#include "mr/progress.h"
#include "mr/split.h"

#define MR_ATTEMPTS_DEFAULT 4u

struct run {
    const struct mr_options *o;
    struct job job;
    struct plan plan;
    bool whole;                        /* splits are whole files */
    struct output_dir output;
    char *dir;                         /* our directory for intermediate data */
    int lock;                          /* its lock */
    struct progress progress;
    struct counters *of_maps, *of_reduces;     /* by task, of the attempts that count */
    uint32_t *reduced_by;              /* by part: the attempt that counts */
    struct buf why;                    /* why it failed */
};

struct sched *mr__run_sched(const struct run *r, uint64_t now);
void mr__run_map_task(const struct run *r, uint32_t no, uint32_t attempt, struct task *out);
/* A task's attempt became the one that counts: takes what it counted. */
void mr__run_commit(struct run *r, enum sched_phase phase, uint32_t task, uint32_t attempt, struct counters *c);
void mr__run_sum(const struct run *r, struct counters *all);
int mr__run_publish(struct run *r, struct buf *why);

char *mr__this_host(void);              /* worker.c */
int mr__coordinate(struct run *r);     /* with workers */
int mr__run_local(struct run *r);      /* in this process */

#endif
