/* skip.h - leaving out the input records on which a map program fails (--skip-bad).
 *
 * An application marks in memory shared with its parent which record it is at; a command, which reads ahead as it
 * likes, is found out by running it on ever smaller beginnings of the split. */
#ifndef QFS_MR_SKIP_H
#define QFS_MR_SKIP_H

#include "base/base.h"

struct skip_range {
    uint64_t off, len;
};

struct skip {
    struct skip_range *v;              /* to leave out */
    size_t n;
    uint64_t limit;                    /* only so many of the split's other records */
    bool one_by_one;                   /* an application gets single records, also where it would take many */
    /* What the map side tells: */
    uint64_t records;                  /* were handed out */
    struct skip_range last;            /* the last of them */
    struct skip_mark {
        struct skip_range at;
        bool within;                   /* an application is at that record */
    } *mark;                           /* in shared memory */
};

struct task_result;
/* Runs `map`, a map task that puts its outcome into its argument, again and again in child processes, until it is
 * through without at most `max` records, which are told in r->counters. r->why says what went wrong. */
struct skip_options {
    struct skip *skip;
    bool command;
    uint32_t max;
    const char *path;
    int (*run)(void *arg, struct task_result *r, bool keep);       /* keep: the map output is wanted */
    void (*touch)(void *arg);
    void *arg;
};
int mr__skip_run(const struct skip_options *o, struct task_result *r);
/* Is the record that begins here to be left out? */
bool mr__skipped(const struct skip *s, uint64_t off);

#endif
