/* model.h - a filesystem as a plain tree of structs with byte arrays, written without a look at how fs/ does it: the
 * oracle of test_fs_model. Functions take and return what their namesakes in fs.h do. */
#ifndef QFS_TEST_FS_MODEL_H
#define QFS_TEST_FS_MODEL_H

#include <sys/stat.h>

#include "fs/fs.h"

struct mnode;

struct mentry {
    char name[FS_NAME_MAX + 1];
    struct mnode *node;
};

struct mxattr {
    char name[32];
    struct buf value;
};

struct mnode {
    struct fs_attr a;            /* blocks and has_xattr are not kept */
    struct mnode *parent;        /* of a directory */
    bool implicit, gone;
    struct mentry *entries;      /* ascending */
    size_t nentries;
    struct mxattr xattrs[4];
    size_t nxattrs;
    struct buf bytes;            /* contents or target */
    uint64_t owed[8];
    size_t nowed;
};

struct model {
    struct mnode **nodes;        /* nodes[ino], NULL where there never was one */
    size_t nnodes;
    uint64_t mounts[8];
    size_t nmounts;
};

struct model *model_new(int64_t now);
void model_free(struct model *m);
struct mnode *model_node(const struct model *m, uint64_t ino);          /* NULL if there is none (any longer) */

int model_lookup(struct model *m, uint64_t parent, struct slice name, struct mnode **out);
int model_mknod(struct model *m, const struct fs_ctx *c, uint64_t parent, struct slice name, uint32_t mode,
                uint64_t rdev, struct slice target, struct mnode **out);
int model_create(struct model *m, const struct fs_ctx *c, uint64_t parent, struct slice name, uint32_t mode, bool excl,
                 struct mnode **out, bool *created);
int model_link(struct model *m, const struct fs_ctx *c, uint64_t ino, uint64_t parent, struct slice name);
int model_unlink(struct model *m, const struct fs_ctx *c, uint64_t parent, struct slice name, bool held);
int model_rmdir(struct model *m, const struct fs_ctx *c, uint64_t parent, struct slice name);
int model_rename(struct model *m, const struct fs_ctx *c, uint64_t parent, struct slice name, uint64_t to_parent,
                 struct slice to_name, uint32_t flags, bool held);
int model_setattr(struct model *m, const struct fs_ctx *c, uint64_t ino, uint32_t mask, const struct fs_attr *in);
int model_write(struct model *m, const struct fs_ctx *c, uint64_t ino, uint64_t off, bool append, struct slice data,
                uint64_t *at);
int model_fallocate(struct model *m, const struct fs_ctx *c, uint64_t ino, uint32_t mode, uint64_t off, uint64_t len);
int64_t model_copy_range(struct model *m, const struct fs_ctx *c, uint64_t ino, uint64_t off, uint64_t to_ino,
                         uint64_t to_off, uint64_t len);
int model_setxattr(struct model *m, const struct fs_ctx *c, uint64_t ino, struct slice name, struct slice value,
                   uint32_t flags);
int model_removexattr(struct model *m, const struct fs_ctx *c, uint64_t ino, struct slice name);
void model_session_add(struct model *m, uint64_t session);
void model_session_del(struct model *m, uint64_t session);
void model_release(struct model *m, const struct fs_ctx *c, uint64_t ino);
int model_walk(struct model *m, struct slice key, struct mnode **out);
int model_put(struct model *m, const struct fs_ctx *c, struct slice key, struct slice data, bool append,
              struct mnode **out);
int model_delete(struct model *m, const struct fs_ctx *c, struct slice key);

#endif
