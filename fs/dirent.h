/* dirent.h - directory entries. */
#ifndef QFS_FS_DIRENT_H
#define QFS_FS_DIRENT_H

#include "fs/inode.h"

/* 0; -EINVAL for an empty name or one with '/' or NUL, -ENAMETOOLONG. */
int fs__name_check(struct slice name);
static inline bool fs__is_dot(struct slice name) { return name.n == 1 && name.p[0] == '.'; }
static inline bool fs__is_dotdot(struct slice name) { return name.n == 2 && name.p[0] == '.' && name.p[1] == '.'; }

struct dirent {
    uint64_t ino;
    uint32_t type;           /* S_IFREG and so on */
};
int fs__dirent_decode(struct slice row, struct dirent *out);                 /* 0 or -EUCLEAN */
/* 0, -ENOENT or -EUCLEAN; the name must have passed fs__name_check or be known to be short. */
int fs__dirent_get(const struct omap *map, uint64_t dir, struct slice name, struct dirent *out);
void fs__dirent_put(struct omap *map, uint64_t dir, struct slice name, const struct inode *child);
void fs__dirent_del(struct omap *map, uint64_t dir, struct slice name);

/* The inode behind an entry; an entry and an inode that contradict each other are -EUCLEAN. */
int fs__dirent_inode(const struct omap *map, uint64_t dir, const struct dirent *e, struct inode *out);
/* Both steps: the child of that name. 0, -ENOENT, -EUCLEAN. */
int fs__child_get(const struct omap *map, uint64_t dir, struct slice name, struct inode *out);

/* May the directory get (lose) such a child? 0, -EMLINK, or -EUCLEAN where its counts cannot be right. */
int fs__dir_may_gain(const struct inode *dir, const struct inode *child);
int fs__dir_may_lose(const struct inode *dir, const struct inode *child);
/* The counts in the directory's inode, in memory. */
void fs__dir_gain(struct inode *dir, const struct inode *child);
void fs__dir_lose(struct inode *dir, const struct inode *child);

/* 1 if `ino` is the directory `dir` or one above it, 0 if not, or an error. */
int fs__is_above(const struct omap *map, uint64_t ino, const struct inode *dir);

#endif
