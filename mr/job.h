/* job.h - a job as everybody who works on it has to know it, and as it is sent to them. */
#ifndef QFS_MR_JOB_H
#define QFS_MR_JOB_H

#include "mr/format.h"
#include "mr/mr.h"
#include "mr/program.h"

#define MR_REDUCERS_MAX 65536u

struct job {
    char *id;                          /* of lower-case letters and digits */
    char *map, *combine, *reduce;      /* programs; combine may be NULL */
    char *cwd;                         /* where commands run */
    char *attempts;                    /* directory for the outputs of reduce attempts, shared by all */
    uint32_t reducers;
    uint64_t memory;
    uint64_t task_timeout_ns, beat_ns; /* see worker.c */
    struct format format;
    char *lab;                         /* in the lab's mode (lab.h): the job's name, and */
    uint32_t lab_maps;                 /* how many map tasks it has */
};

/* Checks the options that concern every task and opens the programs once to see that they are there. 0 or a negative
 * error and `why`. */
int mr__job_make(const struct mr_options *o, struct job *out, struct buf *why);
char *mr__job_id(void);                                            /* a new one, by chance. free() it */
void mr__job_free(struct job *j);
void mr__job_encode(struct buf *b, const struct job *j);
int mr__job_decode(struct slice in, struct job *out);              /* -EBADMSG */

struct programs {
    struct program map, combine, reduce;
    bool combines;
};
int mr__programs_open(const struct job *j, struct programs *out, struct buf *why);
void mr__programs_close(struct programs *p);

#endif
