/* workdir.h - directories for intermediate data on a local disk, which do not stay behind when their owner is
 * killed. */
#ifndef QFS_MR_WORKDIR_H
#define QFS_MR_WORKDIR_H

#include "base/base.h"

/* Makes a directory of ours below `base` (NULL: $TMPDIR or /var/tmp), locked while this process lives, and removes
 * those whose owners are dead. *path is free()d by the caller, *lock closed when the directory is no longer used. */
int mr__workdir_make(const char *base, char **path, int *lock, struct buf *why);
/* Our own, at the end, before *lock is closed. */
void mr__workdir_remove(const char *path);
/* Removes the directories below `base` whose owners are dead. */
void mr__workdir_sweep(const char *base);

#endif
