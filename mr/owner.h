/* owner.h - a process as others can know it: whether it is dead, and a place where tests end or freeze it. */
#ifndef QFS_MR_OWNER_H
#define QFS_MR_OWNER_H

#include "base/base.h"

/* "BOOT PID START", of this process. free() it. */
char *mr__owner_text(void);
/* True only if it is certain: a process of this very boot that is gone. NULL and nonsense: false. */
bool mr__owner_dead(const char *text);

/* The coordinator and workers call this before each step that others can see the effect of. It does nothing, unless
 * the environment says QFS_MR_STOP=WHO:K:FILE[:freeze]: the first process of that kind to come to its K-th step makes
 * FILE and is killed by SIGKILL (freeze: SIGSTOP) there. For tests of "killed at any step". */
void mr__step_point(const char *who);

#endif
