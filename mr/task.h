/* task.h - one task: its description, running it in this process, and its result; both as they are sent. */
#ifndef QFS_MR_TASK_H
#define QFS_MR_TASK_H

#include "mr/job.h"
#include "mr/sched.h"
#include "mr/shuffle.h"
#include "mr/split.h"

#define MR_STDERR_MAX (64u * 1024)     /* of a failed attempt's stderr, its end is kept */

struct task {
    enum sched_phase phase;
    uint32_t no, attempt;
    /* map: a split */
    char *path;
    uint64_t size, off, len;
    int64_t mtime_ns;
    /* reduce: the map outputs in the order of their tasks; their tag is mr__output_tag() */
    struct run_source *sources;
    size_t sources_n;
};

static inline uint64_t mr__output_tag(uint32_t map, uint32_t attempt) { return (uint64_t)map << 32 | attempt; }
/* The file of a map attempt's output in the worker's directory, or of a reduce attempt's in job->attempts. free()
 * it. */
char *mr__map_output(const char *dir, uint32_t no, uint32_t attempt);
char *mr__reduce_output(const char *attempts, uint32_t no, uint32_t attempt);

void mr__task_free(struct task *t);
void mr__task_encode(struct buf *b, const struct task *t);
int mr__task_decode(struct slice in, struct task *out);            /* -EBADMSG */

enum task_outcome {
    TASK_DONE,
    TASK_FAILED,                       /* its own fault, or nobody's: run it again, but not for ever */
    TASK_STARVED,                      /* map outputs could not be read: `lost` */
    TASK_UNREACHED,                    /* the same, because who has them could not be reached */
};

struct task_result {
    enum sched_phase phase;
    uint32_t no, attempt;
    enum task_outcome outcome;
    uint64_t *lost;                    /* mr__output_tag()s */
    size_t lost_n;
    struct buf why, err;               /* why it failed; the end of what it wrote to stderr (whoever has it) */
    struct counters counters;
};
void mr__result_lose(struct task_result *r, uint64_t tag);
void mr__result_free(struct task_result *r);
void mr__result_encode(struct buf *b, const struct task_result *r);
int mr__result_decode(struct slice in, struct task_result *out);   /* -EBADMSG */

struct task_place {
    const char *dir;                   /* for the map output and for scratch files */
    struct split_file *input;          /* kept from map task to map task; may be NULL */
    const char *output;                /* of a reduce task: NULL is a file in job->attempts, "-" is stdout */
    void (*touch)(void *arg, uint64_t bytes);
    void (*weigh)(void *arg, uint64_t bytes);  /* so much a reduce task has to read; may be NULL */
    /* While a command is waited for; who sets it wants those that hang to be killed, too. NULL: somebody else does. */
    void (*idle)(void *arg);
    void *arg;
};
/* Runs it; never fails but by its result. */
void mr__task_run(const struct job *j, const struct programs *p, const struct task *t, const struct task_place *at,
                  struct task_result *out);

#endif
