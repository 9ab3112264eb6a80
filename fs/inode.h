/* inode.h - inodes and the counters of the filesystem, as rows and in memory. */
#ifndef QFS_FS_INODE_H
#define QFS_FS_INODE_H

#include <sys/stat.h>

#include "fs/key.h"

#define BLOCK_BYTES 512u

struct inode {
    struct fs_attr a;        /* a.size of a directory: its entries */
    uint64_t parent;         /* of a directory; the root is its own parent. Else 0 */
    bool implicit;           /* a directory that only a put has made */
    struct omap_spot spot;   /* of its row, if it was read */
};

struct counters {
    uint64_t next_ino, files, dirs, blocks;
};

/* 0, -ENOENT or -EUCLEAN. */
int fs__inode_get(const struct omap *map, uint64_t ino, struct inode *out);
void fs__inode_put(struct omap *map, const struct inode *n);
int fs__counters_get(const struct omap *map, struct counters *out);      /* 0 or -EUCLEAN */
void fs__counters_put(struct omap *map, const struct counters *c);

static inline bool fs__is_dir(const struct inode *n) { return S_ISDIR(n->a.mode); }
static inline bool fs__is_regular(const struct inode *n) { return S_ISREG(n->a.mode); }
/* As fs__inode_get, and -ENOTDIR. */
int fs__dir_get(const struct omap *map, uint64_t ino, struct inode *out);
/* As fs__inode_get, and -EISDIR or -EINVAL for what has no contents. */
int fs__regular_get(const struct omap *map, uint64_t ino, struct inode *out);

/* Marks a change: of the attributes (ctime), or of the contents (mtime, ctime, version). ctime always rises, if need be
 * ahead of the clock, and a contents change gives mtime the same value; so no two such changes leave the same mtime,
 * and a mtime set into the future by a user does not stay there. */
void fs__touch_attr(struct inode *n, int64_t now);
void fs__touch_data(struct inode *n, int64_t now);

/* A new inode in memory, with the next number; counts it. Regular files and the like get one link, directories two. */
void fs__inode_init(struct inode *n, struct counters *c, const struct fs_ctx *ctx, const struct inode *parent,
                    uint32_t mode, uint64_t rdev);

static inline uint64_t fs__blocks(uint64_t bytes) { return (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES; }
static inline void fs__attr_out(const struct inode *n, struct fs_attr *out)
{
    if (out) *out = n->a;
}

#endif
