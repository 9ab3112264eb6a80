/* worker.h - the pieces of a worker: its executor (runner.c) and the map outputs it gathers (gather.c). */
#ifndef QFS_MR_WORKER_H
#define QFS_MR_WORKER_H

#include "io/io.h"
#include "mr/task.h"

/* ---- runner: the executor process and the one task in it ---- */

struct runner;
struct runner_options {
    struct io_loop *loop;
    const char *dir;
    const struct job *job;             /* borrowed for the runner's life */
    void (*touch)(void *arg, uint64_t bytes);
    void (*weigh)(void *arg, uint64_t bytes);          /* so much the reduce task has to read; may be NULL */
    void (*result)(void *arg, struct task_result *r);  /* the task is over; the callee owns what r holds,
                                                        * and does not call the runner from here */
    void *arg;
};
struct runner *mr__runner_new(const struct runner_options *o);
void mr__runner_start(struct runner *x, const struct task *t);     /* nothing is running */
bool mr__runner_busy(const struct runner *x);
bool mr__runner_runs(const struct runner *x, enum sched_phase phase, uint32_t no, uint32_t attempt);
/* Ends the task at hand, if any, without a result. */
void mr__runner_cancel(struct runner *x);
void mr__runner_free(struct runner *x);

/* ---- gather: from "who has what" to the sources of a reduce task ---- */

struct gather;
struct gather_options {
    struct io_loop *loop;
    const char *dir, *host;            /* own */
    const char *coordinator;           /* its address: that of workers on its machine, where they gave only a port */
    const char *job;
    uint32_t parts;
    uint64_t timeout_ns;
    /* The task is complete, or (t NULL) `failed` says why not; the callee owns what they hold. The gather is gone. */
    void (*done)(void *arg, struct task *t, struct task_result *failed);
    void *arg;
};
/* The payload of MR_TASK_REDUCE. NULL: it makes no sense. *no and *attempt are the task's. */
struct gather *mr__gather_start(const struct gather_options *o, struct slice payload, uint32_t *no, uint32_t *attempt);
void mr__gather_cancel(struct gather *g);
/* Removes the files that were fetched for a task. */
void mr__gather_clean(const char *dir, const struct task *t);

/* The host name under which workers share files. free() it. */
char *mr__this_host(void);

#endif
