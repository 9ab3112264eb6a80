/* output.h - the output of a job: absent until it is complete, then there by one rename, for which only the
 * coordinator that holds the job's token can be the cause. */
#ifndef QFS_MR_OUTPUT_H
#define QFS_MR_OUTPUT_H

#include "mr/counters.h"
#include "mr/jobdir.h"

/* Refuses an output that exists, unless `replace`. 0 or a negative error and `why`. */
int mr__output_check(const char *path, bool replace, struct buf *why);
/* Takes attempt attempts[r] as part r, for all parts, adds _counters and _SUCCESS, and publishes. -ESTALE: the job is
 * not ours any more, and nothing has changed. Other errors: the job can be taken over and published again. */
int mr__output_publish(struct jobdir *d, bool replace, const uint32_t *attempts, uint32_t parts,
                       const struct counters *counters, struct buf *why);
/* The same for a chain: its output are the files in the directory `from`. */
int mr__output_publish_all(struct jobdir *d, bool replace, const char *from, struct buf *why);
/* After that, by anybody and any number of times: says so in the job's directory, and removes what nobody needs. */
void mr__output_clean(const char *job);

#endif
