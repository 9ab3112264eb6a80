/* workdir.h - directories for intermediate data on a local disk, which do not stay behind when their owner is
 * killed. */
#ifndef QFS_MR_WORKDIR_H
#define QFS_MR_WORKDIR_H

#include "base/base.h"

/* Makes a directory of ours below `base` (NULL: $TMPDIR or /var/tmp), locked while this process lives, and removes
 * what mr__workdir_sweep() does. *path is free()d by the caller, *lock closed when the directory is no longer used. */
int mr__workdir_make(const char *base, char **path, int *lock, struct buf *why);
/* One that is ours, at the end, before its lock is closed. */
void mr__workdir_remove(const char *path);
/* The same where the job may be gone on with: outputs stay for who takes the directory over, as if we were dead. */
void mr__workdir_leave(const char *path);
/* Removes the directories below `base` whose owners are dead; those with outputs (estate.h) only some minutes after the
 * last mr__workdir_touch(), or if they are of `job` (NULL: none), which is over. */
void mr__workdir_sweep(const char *base, const char *job);
/* All of them of this user. */
void mr__workdir_each(const char *base, void (*each)(void *arg, const char *path), void *arg);
/* The directory of a dead owner becomes ours, as if we had made it. -EBUSY: its owner lives, or somebody else has taken
 * it; other errors: it cannot be had. The path may come from others: what is not named as mr__workdir_make() does, also what
 * a link or "." at its end leads to, is -EPERM, for all in the directory is removed one day. */
int mr__workdir_take(const char *path, int *lock);
void mr__workdir_touch(int lock);      /* its owner lives: to be said so often: */
#define MR_WORKDIR_TOUCH_NS (30 * NS_PER_S)

#endif
