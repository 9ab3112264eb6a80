/* chainfile.h - "job" in the directory of a chain: its jobs, written once. */
#ifndef QFS_MR_CHAINFILE_H
#define QFS_MR_CHAINFILE_H

#include "mr/job.h"

struct stage {
    struct job job; /* gets its id and its directory when it begins */
    char **inputs;  /* absolute; none: the output of the job before */
    uint32_t inputs_n;
    uint64_t split_bytes;
    uint32_t attempts; /* of a task; 0: the default */
    char *rerun;       /* see struct mr_options; NULL: none */
};

struct chainfile {
    struct stage *v;
    uint32_t n;
    bool replace;
};

bool mr__chainfile_is(struct slice in); /* of a chain, not of one job (jobfile.h) */
void mr__chainfile_encode(struct buf *b, const struct chainfile *f);
/* QE_CORRUPT, or QE_VERSION: made by another version of this program. The caller frees what is in it. */
int mr__chainfile_decode(struct slice in, struct chainfile *out);
void mr__chainfile_free(struct chainfile *f);

#endif
