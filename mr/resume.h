/* resume.h - going on with a job whose coordinator is dead, from its directory. */
#ifndef QFS_MR_RESUME_H
#define QFS_MR_RESUME_H

#include "mr/coord.h"

#define MR_RESUME_DONE 1               /* there is nothing left to do: it has been said */

/* Finds the job of r->o->resume, waits for its turn, takes it over, and fills r's job, plan, options and place. 0,
 * MR_RESUME_DONE, or a negative error and r->why. */
int mr__resume_take(struct run *r);
/* What a chain has in common with a job: waits for its turn and takes over what is in the directory. -EALREADY: the output
 * has been published. Then there is only this to do: */
int mr__resume_turn(const char *path, bool standby, uint64_t beat_ns, struct jobdir *out, struct buf *why);
int mr__resume_say_done(const char *path);         /* MR_RESUME_DONE */
/* Then: what the journals say is done. */
int mr__resume_replay(struct run *r);

#endif
