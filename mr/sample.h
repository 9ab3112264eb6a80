/* sample.h - where the parts of a job with --partition range begin. */
#ifndef QFS_MR_SAMPLE_H
#define QFS_MR_SAMPLE_H

#include "mr/job.h"
#include "mr/split.h"

/* Runs the map program on pieces of the input and sets job->format.cuts so that the parts are about equally large. The
 * same input and program give the same cuts. Does nothing for other partitioners. Scratch files go to `dir`. 0 or a
 * negative error and `why`: the program fails on the sample. */
int mr__sample_cuts(struct job *j, const struct plan *plan, const char *dir, struct buf *why);

#endif
