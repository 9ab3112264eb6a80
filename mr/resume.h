/* resume.h - going on with a job whose coordinator is dead, from its directory. */
#ifndef QFS_MR_RESUME_H
#define QFS_MR_RESUME_H

#include "mr/coord.h"

#define MR_RESUME_DONE 1               /* there is nothing left to do: it has been said */

/* Finds the job of r->o->resume, waits for its turn, takes it over, and fills r's job, plan, options and place. 0,
 * MR_RESUME_DONE, or a negative error and r->why. */
int mr__resume_take(struct run *r);
/* Then: what the journals say is done. */
int mr__resume_replay(struct run *r);

#endif
