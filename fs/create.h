/* create.h - making a new object under a new name, in steps that path.c shares. */
#ifndef QFS_FS_CREATE_H
#define QFS_FS_CREATE_H

#include "fs/inode.h"

struct creation {
    struct inode dir, child;
    struct counters counters;
};

/* Can the directory get a child of that mode? 0, -EMLINK, -EUCLEAN. That the name is good and free is the caller's. */
int fs__creation_init(struct creation *c, const struct fs *fs, const struct inode *dir, uint32_t mode);
/* Makes the entry, and the two inodes in memory, where they can be changed further. */
void fs__creation_apply(struct creation *c, struct fs *fs, const struct fs_ctx *ctx, struct slice name, uint32_t mode,
                        uint64_t rdev);
void fs__creation_store(const struct creation *c, struct fs *fs);

#endif
