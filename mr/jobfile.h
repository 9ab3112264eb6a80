/* jobfile.h - "job" in a job's directory: all that a coordinator has to know to go on with it, written once. */
#ifndef QFS_MR_JOBFILE_H
#define QFS_MR_JOBFILE_H

#include "mr/job.h"
#include "mr/split.h"

struct jobfile {
    struct job job;
    struct plan plan;
    char *rerun;                       /* see struct mr_options */
    uint32_t attempts;                 /* that a task has */
    bool replace;
};

void mr__jobfile_encode(struct buf *b, const struct jobfile *f);
/* QE_CORRUPT, or QE_VERSION: made by another version of this program. The caller frees what is in it. */
int mr__jobfile_decode(struct slice in, struct jobfile *out);
void mr__jobfile_free(struct jobfile *f);

/* The job's directory, as it was called where the job began. free() it. */
char *mr__job_home(const struct job *j);

/* The path as it is called where `from` is called `to`: the two are one directory under two mount points, so what they
 * end with alike is the same directory's. A path elsewhere stays. free() it. */
char *mr__repath(const char *path, const char *from, const char *to);
void mr__repath_in(char **path, const char *from, const char *to); /* the same, in its place; NULL stays */

#endif
