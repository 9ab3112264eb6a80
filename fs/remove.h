/* remove.h - taking a name away, for unlink, rmdir and the key/value view. */
#ifndef QFS_FS_REMOVE_H
#define QFS_FS_REMOVE_H

#include "fs/session.h"

/* `child` is what `name` in `dir` names; if a directory, it is empty. 0 or -EUCLEAN. *dir is as stored afterwards. */
int fs__remove(struct fs *fs, const struct fs_ctx *ctx, struct inode *dir, struct slice name, struct inode *child,
               bool held);

#endif
