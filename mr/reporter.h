/* reporter.h - what a command says to us on its stderr, in the lines that Hadoop streaming knows:
 *
 *   reporter:counter:GROUP,COUNTER,N      adds N to the counter "GROUP:COUNTER"
 *   reporter:status:TEXT                  it makes progress; the last one is told if it fails
 *
 * In names, what no counter's name may have (mr.h) becomes "_". All other lines pass. */
#ifndef QFS_MR_REPORTER_H
#define QFS_MR_REPORTER_H

#include "mr/program.h"

struct reporter {
    const struct program_context *c;
    struct buf status;
    struct buf why;                    /* a counter that could not be kept */
};

bool mr__reporter_line(void *reporter, struct slice line);     /* an err_line() of stream.h */
/* The command ended with `rc`: adds what there is to add to `why`, returns the task's result, and frees. */
int mr__reporter_end(struct reporter *r, int rc, struct buf *why);

#endif
