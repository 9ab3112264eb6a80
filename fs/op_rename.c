/* op_rename.c - rename: move, replace, exchange.
 *
 * Everything that takes part is loaded and judged before anything is changed, in the order in which Linux judges it, so
 * that the same error wins. Where both names are in one directory there is one struct for it (m->to == m->from). */
#include "fs/dirent.h"
#include "fs/session.h"

struct move {
    struct inode dirs[2], *from, *to;
    struct slice name, to_name;
    struct inode source, target;
    bool exchange, replaces;         /* replaces: there is a target */
};

static int check_names(struct slice name, struct slice to_name, uint32_t flags)
{
    if (flags & ~(FS_RENAME_NOREPLACE | FS_RENAME_EXCHANGE)) return -EINVAL;
    if (flags == (FS_RENAME_NOREPLACE | FS_RENAME_EXCHANGE)) return -EINVAL;
    int err = fs__name_check(name);
    if (!err) err = fs__name_check(to_name);
    if (err) return err;
    if (fs__is_dot(name) || fs__is_dotdot(name)) return -EBUSY;
    if (!fs__is_dot(to_name) && !fs__is_dotdot(to_name)) return 0;
    return flags & FS_RENAME_NOREPLACE ? -EEXIST : -EBUSY;
}

static int load(struct move *m, const struct omap *map, uint64_t parent, uint64_t to_parent, uint32_t flags)
{
    int err = fs__dir_get(map, parent, &m->dirs[0]);
    if (!err && to_parent != parent) err = fs__dir_get(map, to_parent, &m->dirs[1]);
    if (err) return err;
    m->from = &m->dirs[0];
    m->to = to_parent == parent ? m->from : &m->dirs[1];
    m->exchange = flags & FS_RENAME_EXCHANGE;
    err = fs__child_get(map, parent, m->name, &m->source);
    if (err) return err;
    err = fs__child_get(map, to_parent, m->to_name, &m->target);
    if (err && err != -ENOENT) return err;
    m->replaces = err == 0;
    if (m->replaces && (flags & FS_RENAME_NOREPLACE)) return -EEXIST;
    return !m->replaces && m->exchange ? -ENOENT : 0;
}

/* A directory must not come under itself, nor replace one that it is in. */
static int check_loops(const struct move *m, const struct omap *map)
{
    if (m->from == m->to) return 0;
    if (fs__is_dir(&m->source)) {
        int above = fs__is_above(map, m->source.a.ino, m->to);
        if (above) return above < 0 ? above : -EINVAL;
    }
    if (m->replaces && fs__is_dir(&m->target)) {
        int above = fs__is_above(map, m->target.a.ino, m->from);
        if (above) return above < 0 ? above : m->exchange ? -EINVAL : -ENOTEMPTY;
    }
    return 0;
}

static int check_types(const struct move *m)
{
    if (!m->replaces || m->exchange) return 0;
    if (!fs__is_dir(&m->source)) return fs__is_dir(&m->target) ? -EISDIR : 0;
    if (!fs__is_dir(&m->target)) return -ENOTDIR;
    return m->target.a.size ? -ENOTEMPTY : 0;
}

static int check_counts(const struct move *m)
{
    int err = fs__dir_may_lose(m->from, &m->source);
    if (!err && m->replaces) err = fs__dir_may_lose(m->to, &m->target);
    if (!err && m->from != m->to) err = fs__dir_may_gain(m->to, &m->source);
    if (!err && m->exchange && m->from != m->to) err = fs__dir_may_gain(m->from, &m->target);
    return err;
}

/* An object that has got another name. */
static void settle(struct fs *fs, const struct fs_ctx *ctx, struct inode *n, const struct inode *dir)
{
    if (fs__is_dir(n)) n->parent = dir->a.ino;
    n->implicit = false;
    fs__touch_attr(n, ctx->now);
    fs__inode_put(fs->map, n);
}

static void store_dirs(const struct move *m, struct fs *fs, const struct fs_ctx *ctx)
{
    fs__touch_data(m->from, ctx->now);
    if (m->to != m->from) fs__touch_data(m->to, ctx->now);
    fs__inode_put(fs->map, m->from);
    if (m->to != m->from) fs__inode_put(fs->map, m->to);
}

static void apply_exchange(struct move *m, struct fs *fs, const struct fs_ctx *ctx)
{
    fs__dirent_put(fs->map, m->from->a.ino, m->name, &m->target);
    fs__dirent_put(fs->map, m->to->a.ino, m->to_name, &m->source);
    if (m->from != m->to) {
        fs__dir_lose(m->from, &m->source);
        fs__dir_gain(m->from, &m->target);
        fs__dir_lose(m->to, &m->target);
        fs__dir_gain(m->to, &m->source);
    }
    settle(fs, ctx, &m->source, m->to);
    settle(fs, ctx, &m->target, m->from);
    store_dirs(m, fs, ctx);
}

static int apply_move(struct move *m, struct fs *fs, const struct fs_ctx *ctx, bool held)
{
    struct unname u;
    if (m->replaces) {
        int err = fs__unname_init(&u, fs, ctx, held, &m->target);
        if (err) {
            fs__unname_free(&u);
            return err;
        }
        fs__dir_lose(m->to, &m->target);
        fs__unname_apply(&u, fs, ctx, held);
        fs__unname_free(&u);
    }
    fs__dirent_del(fs->map, m->from->a.ino, m->name);
    fs__dirent_put(fs->map, m->to->a.ino, m->to_name, &m->source);
    if (m->from != m->to) {
        fs__dir_lose(m->from, &m->source);
        fs__dir_gain(m->to, &m->source);
    }
    settle(fs, ctx, &m->source, m->to);
    store_dirs(m, fs, ctx);
    return 0;
}

int fs_rename(struct fs *fs, const struct fs_ctx *ctx, uint64_t parent, struct slice name, uint64_t to_parent,
              struct slice to_name, uint32_t flags, bool held)
{
    struct move m = {.name = name, .to_name = to_name};
    int err = check_names(name, to_name, flags);
    if (!err) err = load(&m, fs->map, parent, to_parent, flags);
    if (!err) err = check_loops(&m, fs->map);
    if (err) return err;
    if (m.replaces && m.source.a.ino == m.target.a.ino) return 0;
    err = check_types(&m);
    if (!err) err = check_counts(&m);
    if (err) return err;
    if (!m.exchange) return apply_move(&m, fs, ctx, held);
    apply_exchange(&m, fs, ctx);
    return 0;
}
