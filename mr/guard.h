/* guard.h - running the user's code in a child process that may crash. */
#ifndef QFS_MR_GUARD_H
#define QFS_MR_GUARD_H

#include "base/base.h"

/* Calls fn(arg, answer) in a forked child and brings back what it returned and answered. Only for processes of one
 * thread. Where the child ended otherwise `answer` tells how: -ECHILD and *crashed, or -EINTR where it was killed from
 * outside (SIGKILL, SIGTERM). Other errors are the system's. */
int mr__guard(int (*fn)(void *arg, struct buf *answer), void *arg, struct buf *answer, bool *crashed);

#endif
