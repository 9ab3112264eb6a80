/* op_create.c - new names: mknod and its kin, open(O_CREAT), link. */
#include "fs/dirent.h"

#include "fs/create.h"

/* A name that is to be made. "." and ".." are always there. */
static int check_new_name(struct slice name)
{
    int err = fs__name_check(name);
    if (err) return err;
    return fs__is_dot(name) || fs__is_dotdot(name) ? -EEXIST : 0;
}

int fs__creation_init(struct creation *c, const struct fs *fs, const struct inode *dir, uint32_t mode)
{
    const struct inode child = {.a.mode = mode};
    *c = (struct creation){.dir = *dir};
    int err = fs__counters_get(fs->map, &c->counters);
    return err ? err : fs__dir_may_gain(dir, &child);
}

void fs__creation_apply(struct creation *c, struct fs *fs, const struct fs_ctx *ctx, struct slice name, uint32_t mode,
                        uint64_t rdev)
{
    fs__inode_init(&c->child, &c->counters, ctx, &c->dir, mode, rdev);
    fs__dirent_put(fs->map, c->dir.a.ino, name, &c->child);
    fs__dir_gain(&c->dir, &c->child);
    fs__touch_data(&c->dir, ctx->now);
}

void fs__creation_store(const struct creation *c, struct fs *fs)
{
    fs__inode_put(fs->map, &c->dir);
    fs__inode_put(fs->map, &c->child);
    fs__counters_put(fs->map, &c->counters);
}

static int check_target(struct slice target)
{
    if (target.n == 0) return -ENOENT;
    if (target.n > FS_SYMLINK_MAX) return -ENAMETOOLONG;
    return memchr(target.p, 0, target.n) ? -EINVAL : 0;
}

/* The mode of the new object, or an error. */
static int64_t mknod_mode(uint32_t mode, struct slice target)
{
    if (mode & ~(uint32_t)(S_IFMT | 07777)) return -EINVAL;
    switch (mode & S_IFMT) {
    case 0: return S_IFREG | mode;
    case S_IFREG: case S_IFDIR: case S_IFIFO: case S_IFSOCK: case S_IFCHR: case S_IFBLK: return mode;
    case S_IFLNK: {
        int err = check_target(target);
        return err ? err : S_IFLNK | 0777;
    }
    default: return -EINVAL;
    }
}

int fs_mknod(struct fs *fs, const struct fs_ctx *ctx, uint64_t parent, struct slice name, uint32_t mode, uint64_t rdev,
             struct slice target, struct fs_attr *out)
{
    struct inode dir;
    struct dirent e;
    struct creation c;
    int64_t full = mknod_mode(mode, target);
    if (full < 0) return (int)full;
    int err = check_new_name(name);
    if (!err) err = fs__dir_get(fs->map, parent, &dir);
    if (err) return err;
    err = fs__dirent_get(fs->map, parent, name, &e);
    if (err != -ENOENT) return err ? err : -EEXIST;
    err = fs__creation_init(&c, fs, &dir, (uint32_t)full);
    if (err) return err;
    fs__creation_apply(&c, fs, ctx, name, (uint32_t)full, rdev);
    if (S_ISLNK(full)) {
        struct key k;
        c.child.a.size = target.n;
        omap_put(fs->map, fs__key_id(&k, ROW_TARGET, c.child.a.ino), target);
    }
    fs__creation_store(&c, fs);
    fs__attr_out(&c.child, out);
    return 0;
}

/* open(O_CREAT) found something there. What is neither file nor directory has come up since the caller looked (it would
 * have followed a link and not asked for a file): ESTALE makes the kernel look again. */
static int create_found(const struct inode *n, bool excl)
{
    if (excl) return -EEXIST;
    if (fs__is_regular(n)) return 0;
    return fs__is_dir(n) ? -EISDIR : -ESTALE;
}

int fs_create(struct fs *fs, const struct fs_ctx *ctx, uint64_t parent, struct slice name, uint32_t mode, bool excl,
              struct fs_attr *out, bool *created)
{
    struct inode dir, child;
    struct creation c;
    if (created) *created = false;
    int err = fs__name_check(name);
    if (!err && (fs__is_dot(name) || fs__is_dotdot(name))) err = excl ? -EEXIST : -EISDIR;
    if (!err) err = fs__dir_get(fs->map, parent, &dir);
    if (err) return err;
    err = fs__child_get(fs->map, parent, name, &child);
    if (err == 0) {
        err = create_found(&child, excl);
        if (!err) fs__attr_out(&child, out);
        return err;
    }
    if (err != -ENOENT) return err;
    mode = S_IFREG | (mode & 07777);
    err = fs__creation_init(&c, fs, &dir, mode);
    if (err) return err;
    fs__creation_apply(&c, fs, ctx, name, mode, 0);
    fs__creation_store(&c, fs);
    fs__attr_out(&c.child, out);
    if (created) *created = true;
    return 0;
}

int fs_link(struct fs *fs, const struct fs_ctx *ctx, uint64_t ino, uint64_t parent, struct slice name,
            struct fs_attr *out)
{
    struct inode dir, n;
    struct dirent e;
    int err = check_new_name(name);
    if (!err) err = fs__inode_get(fs->map, ino, &n);
    if (!err) err = fs__dir_get(fs->map, parent, &dir);
    if (err) return err;
    err = fs__dirent_get(fs->map, parent, name, &e);
    if (err != -ENOENT) return err ? err : -EEXIST;
    if (fs__is_dir(&n)) return -EPERM;
    if (n.a.nlink == 0) return -ENOENT;
    if (n.a.nlink >= FS_LINK_MAX) return -EMLINK;
    err = fs__dir_may_gain(&dir, &n);
    if (err) return err;
    fs__dirent_put(fs->map, parent, name, &n);
    fs__dir_gain(&dir, &n);
    fs__touch_data(&dir, ctx->now);
    n.a.nlink++;
    fs__touch_attr(&n, ctx->now);
    fs__inode_put(fs->map, &dir);
    fs__inode_put(fs->map, &n);
    fs__attr_out(&n, out);
    return 0;
}
