/* standby.h - waiting until a job has nobody who works on it. */
#ifndef QFS_MR_STANDBY_H
#define QFS_MR_STANDBY_H

#include "mr/jobdir.h"

enum turn { TURN_TAKE, TURN_DONE };    /* *epoch may be taken over from; the job is done */

/* `wait`: as long as the job lives; else a living coordinator is -EBUSY. A coordinator counts as dead when its process
 * is known to be, or when it has shown no sign of life for eight looks, `beat_ns` apart: an outage in which nobody can
 * read or write the directory is nobody's silence. That may be wrong, and does no harm (jobdir.h). */
int mr__await_turn(const char *path, bool wait, uint64_t beat_ns, uint32_t *epoch, struct buf *why);

#endif
