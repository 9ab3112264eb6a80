/* session.h - files that lose their last name: who may still have them open, and when they go. */
#ifndef QFS_FS_SESSION_H
#define QFS_FS_SESSION_H

#include "fs/extent.h"

/* Frees an inode whose last reference goes: contents, attributes, counters. */
struct funeral {
    struct plan plan;
};
/* 0 or -EUCLEAN, for a regular file with unsound extents. funeral_free in any case. */
int fs__funeral_init(struct funeral *f, const struct omap *map, const struct inode *n, const struct counters *c);
void fs__funeral_apply(struct funeral *f, struct fs *fs, struct inode *n, struct counters *c);
void fs__funeral_free(struct funeral *f);

/* One name of a file or directory goes. Prepared before anything is changed; a directory must be empty. */
struct unname {
    struct inode *inode;
    struct counters counters;
    bool dies, nameless;
    struct funeral funeral;
};
int fs__unname_init(struct unname *u, const struct fs *fs, const struct fs_ctx *ctx, bool held, struct inode *inode);
/* Writes all that is to change but for the entry and its directory. */
void fs__unname_apply(struct unname *u, struct fs *fs, const struct fs_ctx *ctx, bool held);
void fs__unname_free(struct unname *u);

#endif
