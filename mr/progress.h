/* progress.h - what a running job shows: a bar on a terminal, a line now and then elsewhere, JSON lines on request. */
#ifndef QFS_MR_PROGRESS_H
#define QFS_MR_PROGRESS_H

#include "mr/counters.h"
#include "mr/job.h"
#include "mr/sched.h"
#include "mr/split.h"
#include "mr/task.h"

struct progress {
    bool json, terminal, shown;
    const char *output, *directory;    /* of the job; borrowed */
    uint32_t stage, stages;            /* of a chain, from 1; 0: none */
    uint32_t maps, reduces;
    uint64_t total;                    /* bytes of input */
    uint64_t began, printed;           /* mr__now() */
    uint64_t bytes;                    /* of input read, repeated attempts included */
    uint32_t last_done;                /* tasks, when it was printed */
    /* where the phase at hand began */
    const char *phase;
    uint64_t phase_began, phase_bytes;
    uint32_t phase_done;
};

struct run;
struct in_chain;
void mr__progress_begin(struct progress *p, const struct run *r);
void mr__progress_bytes(struct progress *p, uint64_t bytes);
/* Call it often; it prints when it is time. */
void mr__progress_show(struct progress *p, const struct sched_facts *f);
uint64_t mr__progress_next(const struct progress *p);      /* mr__now() of the next look at the earliest */
/* The same as text, for files: one line, with a LF. */
void mr__progress_text(struct progress *p, const struct sched_facts *f, bool json, struct buf *b);
/* An attempt failed or a worker was lost, and the job goes on; one line. */
__attribute__((format(printf, 2, 3))) void mr__progress_note(struct progress *p, const char *format, ...);
void mr__progress_done(struct progress *p, const struct counters *c, const struct sched_facts *f);
void mr__progress_failed(struct progress *p, struct slice why);
/* --dry-run as JSON; the plan of a chain's later jobs is not known (NULL). */
void mr__progress_plan(const struct job *j, const struct in_chain *chain, const struct plan *plan, const char *output);
/* As failed(), of a job that did not begin. */
void mr__progress_refused(bool json, struct slice why);

/* What a user has to know of a task that failed for good: the program, how it ended, its stderr, its input, and how to
 * run it again alone. `plan` is for the input; NULL: a reduce task. */
void mr__report(struct buf *b, const struct mr_options *o, const struct job *j, const struct plan *plan,
                const struct task_result *r, uint32_t attempts);

#endif
