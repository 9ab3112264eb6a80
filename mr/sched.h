/* sched.h - which worker does what: a pure step function, events and the time in, effects out.
 *
 * A job is M map tasks, then R reduce tasks. A map task's output stays with the worker that made it; when that leaves,
 * another worker may be able to serve it, so it is awaited for a while before the task runs again. A reduce task's output
 * is on the shared filesystem under a name of its attempt and stays. The driver owns connections and processes, hands in
 * what happens to them in any order, late or twice, and carries out the effects.
 *
 * A job may be taken over by another coordinator: sched_restore() says what is known to be done, and SCHED_HELD what a
 * worker says that it has. */
#ifndef QFS_MR_SCHED_H
#define QFS_MR_SCHED_H

#include "base/base.h"

enum sched_phase { SCHED_MAP, SCHED_REDUCE };

struct sched_config {
    uint32_t maps, reduces;
    uint32_t attempts;             /* a task's own failures until the job is given up */
    uint32_t losses;               /* the same for attempts that ended by no fault of its own (dead workers ...) */
    uint64_t silence_ns;           /* a worker not heard of for so long is evicted */
    uint64_t backup_ns;            /* an attempt that runs so long, and for its weight thrice the mean, gets a second
                                    * one; 0: never */
    uint32_t first_attempt;        /* attempts are numbered from here: no number of an earlier coordinator's */
    uint64_t grace_ns;             /* so long map outputs are awaited, restored ones and those of workers that have left,
                                    * before their tasks run again */
    bool shared;                   /* map outputs lie where all can reach them: they stay when their worker leaves */
};

enum sched_event_kind {
    SCHED_JOINED,                  /* worker: a new number, never used before */
    SCHED_LEFT,                    /* worker */
    SCHED_HEARD,                   /* worker: it lives */
    SCHED_DONE,                    /* worker, phase, task, attempt */
    SCHED_FAILED,                  /* the same: the task's own fault */
    SCHED_STARVED,                 /* the same: map outputs could not be read (each was told before) */
    SCHED_LOST,                    /* the same, of a reduce task: it cannot read the output `output` of map task `map` */
    SCHED_UNREACHED,               /* the same, because it cannot reach who has it */
    SCHED_HELD,                    /* worker, task, attempt: it has this map output, whoever made it */
    SCHED_UNCLAIMED,               /* task, attempt: nobody can say so of this one, it is awaited in vain */
    SCHED_TICK,                    /* only the time */
};

struct sched_event {
    enum sched_event_kind kind;
    enum sched_phase phase;
    uint32_t worker, task, attempt;
    uint32_t map, output;          /* a map task, and its attempt */
};

enum sched_effect_kind {
    SCHED_ASSIGN,                  /* worker begins attempt `attempt` of the task */
    SCHED_CANCEL,                  /* worker ends that attempt: another one was faster */
    SCHED_EVICT,                   /* worker is given up; it is gone for the scheduler, close its connection */
    SCHED_COMMIT,                  /* this attempt's output (at `worker`) is the task's, in place of any named before */
    SCHED_REVOKE,                  /* the map task has no output any more */
    SCHED_FINISH,                  /* every task is done: publish. Last effect ever */
    SCHED_GIVE_UP,                 /* the task failed too often. Last effect ever */
};

struct sched_effect {
    enum sched_effect_kind kind;
    enum sched_phase phase;
    uint32_t worker, task, attempt;
};

struct sched;
struct sched *sched_new(const struct sched_config *config, uint64_t now);
void sched_free(struct sched *s);
/* Before the first step: that task is done, by an attempt of an earlier coordinator's. A map task is so only if a
 * worker says in time that it has the output. */
void sched_restore(struct sched *s, enum sched_phase phase, uint32_t task, uint32_t attempt);
/* How much work a task is beside the others of its phase (bytes, say); 1 if nothing is said. */
void sched_weigh(struct sched *s, enum sched_phase phase, uint32_t task, uint64_t weight);
void sched_weigh_running(struct sched *s, uint32_t worker, uint64_t weight);   /* the reduce task that it runs, if any */

bool sched_runs(const struct sched *s, const struct sched_event *e);       /* its worker runs that attempt */

/* The effects are sched_effects()[0 .. n-1] until the next step; returns n. Cannot fail; what does not fit (unknown
 * workers, attempts that are over) is counted and dropped. */
size_t sched_step(struct sched *s, const struct sched_event *e, uint64_t now);
const struct sched_effect *sched_effects(const struct sched *s);
uint64_t sched_deadline(const struct sched *s);    /* when to step with SCHED_TICK at the latest */

struct sched_facts {
    uint32_t workers, busy;
    uint32_t maps_done, reduces_done;
    uint32_t awaited;                              /* map tasks that were done, and whose output nobody has now */
    uint32_t assigned, failed, lost, backups;      /* attempts, over the job's life */
    uint32_t dropped;                              /* events */
    bool over;
};
struct sched_facts sched_facts(const struct sched *s);

struct sched_task_facts {
    const char *state;                             /* "idle", "running", "done", "awaited" */
    uint32_t attempts, failures, losses;           /* begun; its own failures; lost with workers */
    uint32_t attempt, worker;                      /* running: the latest; done: the one that counts */
    uint64_t ran_ns;                               /* running: for so long */
};
struct sched_task_facts sched_task(const struct sched *s, enum sched_phase phase, uint32_t task);

#endif
