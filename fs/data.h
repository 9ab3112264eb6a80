/* data.h - the frame of every operation that changes a regular file's contents: load, plan, check, apply, store. */
#ifndef QFS_FS_DATA_H
#define QFS_FS_DATA_H

#include "fs/extent.h"

struct data {
    struct inode inode;
    struct counters counters;
    struct plan plan;                /* the caller's to fill; fs__plan_free in any case */
    uint64_t blocks_before;
};

/* The file and the counters, with an empty plan. As fs__regular_get. */
int fs__data_init(struct data *d, const struct fs *fs, uint64_t ino);
/* The same for a regular file whose inode is at hand. */
int fs__data_init_at(struct data *d, const struct fs *fs, const struct inode *n);
/* Plans that data, which the log has at loc, replace [off, off + data.n) of a file whose size will be `size`: inline
 * where the whole file is small and has no bytes in the log. data.n > 0. */
int fs__data_plan_write(struct data *d, const struct fs *fs, uint64_t off, struct slice data, struct fs_loc loc,
                        uint64_t size);
/* Plans that data is all there is. */
int fs__data_plan_replace(struct data *d, const struct fs *fs, struct slice data, struct fs_loc loc);
/* Replaces the contents in the most frequent case, without a plan: the old ones are one inline extent, and so are the
 * new ones. False: it is another case, and nothing has happened. */
bool fs__data_swap(struct fs *fs, const struct fs_ctx *ctx, struct inode *n, struct slice data);
/* Carries the (checked) plan out; size, times and version change in memory. */
void fs__data_apply(struct data *d, struct fs *fs, const struct fs_ctx *ctx, uint64_t size);
void fs__data_store(struct data *d, struct fs *fs);

#endif
