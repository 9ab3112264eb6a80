/* output.h - the output directory: absent until it is complete, then there by one rename. */
#ifndef QFS_MR_OUTPUT_H
#define QFS_MR_OUTPUT_H

#include "mr/counters.h"

struct output_dir {
    char *path;                        /* the output, absolute */
    char *temp;                        /* "<path>.tmp-<job>": everything until then */
    char *attempts;                    /* in it: outputs of reduce attempts */
    bool replace;
};

/* Refuses an output that exists (unless `replace`), removes what dead jobs left beside it, and makes the temporary
 * directories. 0 or a negative error and `why`. */
int mr__output_begin(const char *path, const char *job, bool replace, struct output_dir *out, struct buf *why);
/* Takes attempt attempts[r] as part r, for all parts, adds _counters and _SUCCESS, and renames. */
int mr__output_publish(const struct output_dir *o, const uint32_t *attempts, uint32_t parts,
                       const struct counters *counters, struct buf *why);
/* Removes what is left of the temporary directory, and frees. */
void mr__output_end(struct output_dir *o);

#endif
