/* chain.h - jobs one after the other; mr_chain() is in mr.h. */
#ifndef QFS_MR_CHAIN_H
#define QFS_MR_CHAIN_H

#include "mr/mr.h"

/* Goes on with the chain that o->resume means. False: it means none, but maybe a job. */
bool mr__chain_resume(const struct mr_options *o, int *code);
/* Where the job at hand of the chain in `path` is. NULL: `path` is no chain's, or there is none now. free() it. */
char *mr__chain_job(const char *path);

#endif
