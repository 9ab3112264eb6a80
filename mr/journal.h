/* journal.h - what a coordinator writes down before it counts: "epoch-N/journal" in the job's directory, one file a
 * coordinator, records with checksums, only appended to. All of them in the order of their epochs are the job's
 * history; a torn record at the end of one is as if it had never been written. Format: docs/MAPREDUCE.md. */
#ifndef QFS_MR_JOURNAL_H
#define QFS_MR_JOURNAL_H

#include "mr/counters.h"
#include "mr/sched.h"

enum journal_kind {
    JOURNAL_EPOCH = 1,                 /* first in each file: the token's inode, as this coordinator found it */
    JOURNAL_DONE = 2,                  /* a task is done */
    JOURNAL_PUBLISH = 3,               /* the inode of the directory that will be the output */
};

struct journal_entry {
    enum journal_kind kind;
    uint64_t inode;                    /* EPOCH, PUBLISH */
    /* DONE */
    enum sched_phase phase;
    uint32_t task, attempt;
    struct slice holder;               /* of a map output: "HOST PID" */
    struct slice counters;             /* encoded */
};

void mr__journal_put(struct buf *b, const struct journal_entry *e);
/* Hands out the entries of all journals of a job's directory; what is damaged ends its file. 0, or the error of a file
 * that could not be read. *epochs: how many journals there were. */
int mr__journal_read(const char *job, void (*each)(void *arg, const struct journal_entry *e), void *arg,
                     uint32_t *epochs);

#endif
