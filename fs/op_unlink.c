/* op_unlink.c - names that go: unlink and rmdir. */
#include "fs/dirent.h"
#include "fs/remove.h"

int fs__remove(struct fs *fs, const struct fs_ctx *ctx, struct inode *dir, struct slice name, struct inode *child,
               bool held)
{
    struct unname u;
    int err = fs__dir_may_lose(dir, child);
    if (err) return err;
    err = fs__unname_init(&u, fs, ctx, held, child);
    if (!err) {
        fs__dirent_del(fs->map, dir->a.ino, name);
        fs__dir_lose(dir, child);
        fs__touch_data(dir, ctx->now);
        fs__unname_apply(&u, fs, ctx, held);
        fs__inode_put(fs->map, dir);
    }
    fs__unname_free(&u);
    return err;
}

int fs_unlink(struct fs *fs, const struct fs_ctx *ctx, uint64_t parent, struct slice name, bool held)
{
    struct inode dir, child;
    int err = fs__name_check(name);
    if (!err && (fs__is_dot(name) || fs__is_dotdot(name))) err = -EISDIR;
    if (!err) err = fs__dir_get(fs->map, parent, &dir);
    if (!err) err = fs__child_get(fs->map, parent, name, &child);
    if (err) return err;
    if (fs__is_dir(&child)) return -EISDIR;
    return fs__remove(fs, ctx, &dir, name, &child, held);
}

int fs_rmdir(struct fs *fs, const struct fs_ctx *ctx, uint64_t parent, struct slice name)
{
    struct inode dir, child;
    int err = fs__name_check(name);
    if (!err && fs__is_dot(name)) err = -EINVAL;
    if (!err && fs__is_dotdot(name)) err = -ENOTEMPTY;
    if (!err) err = fs__dir_get(fs->map, parent, &dir);
    if (!err) err = fs__child_get(fs->map, parent, name, &child);
    if (err) return err;
    if (!fs__is_dir(&child)) return -ENOTDIR;
    if (child.a.size != 0) return -ENOTEMPTY;
    return fs__remove(fs, ctx, &dir, name, &child, false);
}
