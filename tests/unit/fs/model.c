/* model.c - see model.h. */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>

static bool is_dir(const struct mnode *n) { return S_ISDIR(n->a.mode); }
static bool is_file(const struct mnode *n) { return S_ISREG(n->a.mode); }

static void change_attr(struct mnode *n, int64_t now) { n->a.ctime = now > n->a.ctime ? now : n->a.ctime + 1; }

static void change_data(struct mnode *n, int64_t now)
{
    change_attr(n, now);
    if (n->a.ctime == n->a.mtime) n->a.ctime++;
    n->a.mtime = n->a.ctime;
    n->a.version++;
}

static struct mnode *add_node(struct model *m, const struct fs_ctx *c, const struct mnode *parent, uint32_t mode)
{
    struct mnode *n = xcalloc(1, sizeof(*n));
    n->a = (struct fs_attr){.ino = m->nnodes, .mode = mode, .uid = c->uid, .gid = c->gid, .version = 1};
    n->a.atime = n->a.mtime = n->a.ctime = n->a.btime = c->now;
    n->a.nlink = S_ISDIR(mode) ? 2 : 1;
    if (parent && parent->a.mode & S_ISGID) {
        n->a.gid = parent->a.gid;
        if (S_ISDIR(mode)) n->a.mode |= S_ISGID;
    }
    m->nodes = xrealloc(m->nodes, (m->nnodes + 1) * sizeof(struct mnode *));
    m->nodes[m->nnodes++] = n;
    return n;
}

struct model *model_new(int64_t now)
{
    struct model *m = xcalloc(1, sizeof(*m));
    struct fs_ctx c = {.now = now};
    m->nodes = xcalloc(1, sizeof(struct mnode *));
    m->nnodes = 1;
    struct mnode *root = add_node(m, &c, NULL, S_IFDIR | 0755);
    root->parent = root;
    return m;
}

static void bury(struct mnode *n)
{
    n->gone = true;
    free(n->entries);
    n->entries = NULL;
    n->nentries = 0;
    buf_free(&n->bytes);
    for (size_t i = 0; i < n->nxattrs; i++) buf_free(&n->xattrs[i].value);
    n->nxattrs = 0;
}

void model_free(struct model *m)
{
    for (size_t i = 0; i < m->nnodes; i++) {
        if (!m->nodes[i]) continue;
        bury(m->nodes[i]);
        free(m->nodes[i]);
    }
    free(m->nodes);
    free(m);
}

struct mnode *model_node(const struct model *m, uint64_t ino)
{
    struct mnode *n = ino < m->nnodes ? m->nodes[ino] : NULL;
    return n && !n->gone ? n : NULL;
}

/* ---- entries ----------------------------------------------------------------------------------------------------- */

static struct mentry *find(struct mnode *dir, struct slice name)
{
    for (size_t i = 0; i < dir->nentries; i++)
        if (slice_eq(slice_str(dir->entries[i].name), name)) return &dir->entries[i];
    return NULL;
}

static void add_entry(struct mnode *dir, struct slice name, struct mnode *n)
{
    dir->entries = xrealloc(dir->entries, (dir->nentries + 1) * sizeof(struct mentry));
    size_t at = dir->nentries++;
    for (; at > 0 && slice_cmp(slice_str(dir->entries[at - 1].name), name) > 0; at--)
        dir->entries[at] = dir->entries[at - 1];
    memcpy(dir->entries[at].name, name.p, name.n);
    dir->entries[at].name[name.n] = 0;
    dir->entries[at].node = n;
    dir->a.size = dir->nentries;
    if (is_dir(n)) {
        dir->a.nlink++;
        n->parent = dir;
    }
}

static struct mnode *del_entry(struct mnode *dir, struct slice name)
{
    struct mentry *e = find(dir, name);
    struct mnode *n = e->node;
    memmove(e, e + 1, (size_t)(dir->entries + --dir->nentries - e) * sizeof(*e));
    dir->a.size = dir->nentries;
    if (is_dir(n)) dir->a.nlink--;
    return n;
}

static int name_error(struct slice name)
{
    if (name.n == 0) return -EINVAL;
    if (name.n > 255) return -ENAMETOOLONG;
    for (size_t i = 0; i < name.n; i++)
        if (name.p[i] == '/' || name.p[i] == 0) return -EINVAL;
    return 0;
}

static bool dot(struct slice n) { return slice_eq(n, slice_str(".")); }
static bool dotdot(struct slice n) { return slice_eq(n, slice_str("..")); }

static int get_dir(struct model *m, uint64_t ino, struct mnode **out)
{
    *out = model_node(m, ino);
    if (!*out) return -ENOENT;
    return is_dir(*out) ? 0 : -ENOTDIR;
}

static int get_file(struct model *m, uint64_t ino, struct mnode **out)
{
    *out = model_node(m, ino);
    if (!*out) return -ENOENT;
    return is_file(*out) ? 0 : is_dir(*out) ? -EISDIR : -EINVAL;
}

int model_lookup(struct model *m, uint64_t parent, struct slice name, struct mnode **out)
{
    struct mnode *dir;
    int err = name_error(name);
    if (!err) err = get_dir(m, parent, &dir);
    if (err) return err;
    if (dot(name)) {
        *out = dir;
    } else if (dotdot(name)) {
        *out = dir->parent;
    } else {
        struct mentry *e = find(dir, name);
        if (!e) return -ENOENT;
        *out = e->node;
    }
    return 0;
}

/* A name that is not there yet, in a directory. */
static int new_place(struct model *m, uint64_t parent, struct slice name, struct mnode **dir)
{
    int err = name_error(name);
    if (err) return err;
    if (dot(name) || dotdot(name)) return -EEXIST;
    err = get_dir(m, parent, dir);
    if (err) return err;
    return find(*dir, name) ? -EEXIST : 0;
}

int model_mknod(struct model *m, const struct fs_ctx *c, uint64_t parent, struct slice name, uint32_t mode,
                uint64_t rdev, struct slice target, struct mnode **out)
{
    struct mnode *dir;
    if ((mode & S_IFMT) == 0) mode |= S_IFREG;
    if (S_ISLNK(mode)) {
        if (target.n == 0) return -ENOENT;
        if (target.n > 4095) return -ENAMETOOLONG;
        mode = S_IFLNK | 0777;
    }
    int err = new_place(m, parent, name, &dir);
    if (err) return err;
    struct mnode *n = add_node(m, c, dir, mode);
    if (S_ISCHR(mode) || S_ISBLK(mode)) n->a.rdev = rdev;
    if (S_ISLNK(mode)) {
        buf_append(&n->bytes, target.p, target.n);
        n->a.size = target.n;
    }
    add_entry(dir, name, n);
    change_data(dir, c->now);
    *out = n;
    return 0;
}

int model_create(struct model *m, const struct fs_ctx *c, uint64_t parent, struct slice name, uint32_t mode, bool excl,
                 struct mnode **out, bool *created)
{
    struct mnode *dir;
    *created = false;
    int err = name_error(name);
    if (err) return err;
    if (dot(name) || dotdot(name)) return excl ? -EEXIST : -EISDIR;
    err = get_dir(m, parent, &dir);
    if (err) return err;
    struct mentry *e = find(dir, name);
    if (e) {
        if (excl) return -EEXIST;
        *out = e->node;
        return is_file(e->node) ? 0 : is_dir(e->node) ? -EISDIR : -ESTALE;
    }
    *created = true;
    return model_mknod(m, c, parent, name, S_IFREG | (mode & 07777), 0, (struct slice){0}, out);
}

int model_link(struct model *m, const struct fs_ctx *c, uint64_t ino, uint64_t parent, struct slice name)
{
    struct mnode *dir, *n = model_node(m, ino);
    int err = name_error(name);
    if (err) return err;
    if (dot(name) || dotdot(name)) return -EEXIST;
    if (!n) return -ENOENT;
    err = new_place(m, parent, name, &dir);
    if (err) return err;
    if (is_dir(n)) return -EPERM;
    if (n->a.nlink == 0) return -ENOENT;
    if (n->a.nlink == 65000) return -EMLINK;
    add_entry(dir, name, n);
    change_data(dir, c->now);
    n->a.nlink++;
    change_attr(n, c->now);
    return 0;
}

static void unname(struct model *m, const struct fs_ctx *c, struct mnode *n, bool held)
{
    if (is_dir(n)) {
        bury(n);
        return;
    }
    n->a.nlink--;
    change_attr(n, c->now);
    if (n->a.nlink) return;
    for (size_t i = 0; is_file(n) && i < m->nmounts; i++)
        if (m->mounts[i] != c->session || held) n->owed[n->nowed++] = m->mounts[i];
    if (n->nowed == 0) bury(n);
}

int model_unlink(struct model *m, const struct fs_ctx *c, uint64_t parent, struct slice name, bool held)
{
    struct mnode *dir, *n;
    int err = name_error(name);
    if (err) return err;
    if (dot(name) || dotdot(name)) return -EISDIR;
    err = model_lookup(m, parent, name, &n);
    if (err) return err;
    if (is_dir(n)) return -EISDIR;
    get_dir(m, parent, &dir);
    del_entry(dir, name);
    change_data(dir, c->now);
    unname(m, c, n, held);
    return 0;
}

int model_rmdir(struct model *m, const struct fs_ctx *c, uint64_t parent, struct slice name)
{
    struct mnode *dir, *n;
    int err = name_error(name);
    if (err) return err;
    if (dot(name)) return -EINVAL;
    if (dotdot(name)) return -ENOTEMPTY;
    err = model_lookup(m, parent, name, &n);
    if (err) return err;
    if (!is_dir(n)) return -ENOTDIR;
    if (n->nentries) return -ENOTEMPTY;
    get_dir(m, parent, &dir);
    del_entry(dir, name);
    change_data(dir, c->now);
    bury(n);
    return 0;
}

/* ---- rename ------------------------------------------------------------------------------------------------------ */

static bool inside(const struct mnode *dir, const struct mnode *above)
{
    for (;; dir = dir->parent) {
        if (dir == above) return true;
        if (dir->parent == dir) return false;
    }
}

static int rename_error(struct mnode *from, struct mnode *to, struct mnode *n, struct mnode *there, uint32_t flags)
{
    bool swap = flags & FS_RENAME_EXCHANGE;
    if (there && (flags & FS_RENAME_NOREPLACE)) return -EEXIST;
    if (!there && swap) return -ENOENT;
    if (is_dir(n) && inside(to, n)) return -EINVAL;
    if (there && is_dir(there) && inside(from, there)) return swap ? -EINVAL : -ENOTEMPTY;
    if (!there || swap || n == there) return 0;
    if (is_dir(n) && !is_dir(there)) return -ENOTDIR;
    if (!is_dir(n) && is_dir(there)) return -EISDIR;
    return is_dir(there) && there->nentries ? -ENOTEMPTY : 0;
}

int model_rename(struct model *m, const struct fs_ctx *c, uint64_t parent, struct slice name, uint64_t to_parent,
                 struct slice to_name, uint32_t flags, bool held)
{
    struct mnode *from, *to, *n, *there = NULL;
    if (flags > 2) return -EINVAL;
    int err = name_error(name);
    if (!err) err = name_error(to_name);
    if (err) return err;
    if (dot(name) || dotdot(name)) return -EBUSY;
    if (dot(to_name) || dotdot(to_name)) return flags & FS_RENAME_NOREPLACE ? -EEXIST : -EBUSY;
    err = get_dir(m, parent, &from);
    if (!err) err = get_dir(m, to_parent, &to);
    if (!err) err = model_lookup(m, parent, name, &n);
    if (err) return err;
    model_lookup(m, to_parent, to_name, &there);
    err = rename_error(from, to, n, there, flags);
    if (err || n == there) return err;
    del_entry(from, name);
    if (there) del_entry(to, to_name);
    add_entry(to, to_name, n);
    change_attr(n, c->now);
    n->implicit = false;
    if (flags & FS_RENAME_EXCHANGE) {
        add_entry(from, name, there);
        change_attr(there, c->now);
        there->implicit = false;
    } else if (there) {
        unname(m, c, there, held);
    }
    change_data(from, c->now);
    if (to != from) change_data(to, c->now);
    return 0;
}

/* ---- contents ---------------------------------------------------------------------------------------------------- */

static void resize(struct mnode *n, uint64_t size)
{
    if (size > n->bytes.n) {
        size_t more = size - n->bytes.n;
        memset(buf_extend(&n->bytes, more), 0, more);
    }
    n->bytes.n = size;
    n->a.size = size;
}

static void overwrite(struct mnode *n, uint64_t off, struct slice data)
{
    if (off + data.n > n->bytes.n) resize(n, off + data.n);
    if (data.n) memcpy(n->bytes.p + off, data.p, data.n);
}

int model_setattr(struct model *m, const struct fs_ctx *c, uint64_t ino, uint32_t mask, const struct fs_attr *in)
{
    struct mnode *n = model_node(m, ino);
    if (!n) return -ENOENT;
    if (mask & FS_SET_SIZE) {
        int err = get_file(m, ino, &n);
        if (err) return err;
        if (in->size > FS_SIZE_MAX) return -EFBIG;
        resize(n, in->size);
        change_data(n, c->now);
    } else if (mask) {
        change_attr(n, c->now);
    }
    if (mask & FS_SET_MODE) n->a.mode = (n->a.mode & S_IFMT) | (in->mode & 07777);
    if (mask & FS_SET_UID) n->a.uid = in->uid;
    if (mask & FS_SET_GID) n->a.gid = in->gid;
    if (mask & FS_SET_ATIME) n->a.atime = in->atime;
    if (mask & FS_SET_MTIME) n->a.mtime = in->mtime;
    if (mask & FS_SET_ATIME_NOW) n->a.atime = n->a.ctime;
    if (mask & FS_SET_MTIME_NOW) n->a.mtime = n->a.ctime;
    if (mask) n->implicit = false;
    return 0;
}

int model_write(struct model *m, const struct fs_ctx *c, uint64_t ino, uint64_t off, bool append, struct slice data,
                uint64_t *at)
{
    struct mnode *n;
    int err = get_file(m, ino, &n);
    if (err) return err;
    if (append) off = n->bytes.n;
    if (off > FS_SIZE_MAX || off + data.n > FS_SIZE_MAX) return -EFBIG;
    if (data.n) {
        overwrite(n, off, data);
        change_data(n, c->now);
    }
    *at = off;
    return 0;
}

int model_fallocate(struct model *m, const struct fs_ctx *c, uint64_t ino, uint32_t mode, uint64_t off, uint64_t len)
{
    struct mnode *n;
    bool keep = mode & 1, clear = mode & (2 | 16);
    if (len == 0) return -EINVAL;
    if (mode != 0 && mode != 1 && mode != 3 && mode != 16 && mode != 17) return -EOPNOTSUPP;
    int err = get_file(m, ino, &n);
    if (err) return err;
    if (off + len > FS_SIZE_MAX) return -EFBIG;
    if (!clear && (keep || off + len <= n->bytes.n)) return 0;
    if (clear && off < n->bytes.n) memset(n->bytes.p + off, 0, min_u64(len, n->bytes.n - off));
    if (!keep && off + len > n->bytes.n) resize(n, off + len);
    change_data(n, c->now);
    return 0;
}

int64_t model_copy_range(struct model *m, const struct fs_ctx *c, uint64_t ino, uint64_t off, uint64_t to_ino,
                         uint64_t to_off, uint64_t len)
{
    struct mnode *n, *to;
    int err = get_file(m, ino, &n);
    if (!err) err = get_file(m, to_ino, &to);
    if (err) return err;
    if (off >= n->bytes.n) return 0;
    len = min_u64(len, n->bytes.n - off);
    if (len == 0) return 0;
    if (n == to && off < to_off + len && to_off < off + len) return -EINVAL;
    struct buf copy = {0};
    buf_append(&copy, n->bytes.p + off, len);
    overwrite(to, to_off, buf_slice(&copy));
    change_data(to, c->now);
    buf_free(&copy);
    return (int64_t)len;
}

/* ---- extended attributes ----------------------------------------------------------------------------------------- */

static struct mxattr *find_xattr(struct mnode *n, struct slice name)
{
    for (size_t i = 0; i < n->nxattrs; i++)
        if (slice_eq(slice_str(n->xattrs[i].name), name)) return &n->xattrs[i];
    return NULL;
}

int model_setxattr(struct model *m, const struct fs_ctx *c, uint64_t ino, struct slice name, struct slice value,
                   uint32_t flags)
{
    struct mnode *n = model_node(m, ino);
    if (!n) return -ENOENT;
    struct mxattr *x = find_xattr(n, name);
    if (x && (flags & 1)) return -EEXIST;
    if (!x && (flags & 2)) return -ENODATA;
    if (!x) {
        x = &n->xattrs[n->nxattrs++];
        *x = (struct mxattr){0};
        memcpy(x->name, name.p, name.n);
    }
    buf_clear(&x->value);
    buf_append(&x->value, value.p, value.n);
    n->implicit = false;
    change_attr(n, c->now);
    return 0;
}

int model_removexattr(struct model *m, const struct fs_ctx *c, uint64_t ino, struct slice name)
{
    struct mnode *n = model_node(m, ino);
    if (!n) return -ENOENT;
    struct mxattr *x = find_xattr(n, name);
    if (!x) return -ENODATA;
    buf_free(&x->value);
    *x = n->xattrs[--n->nxattrs];
    change_attr(n, c->now);
    return 0;
}

/* ---- sessions ---------------------------------------------------------------------------------------------------- */

void model_session_add(struct model *m, uint64_t session)
{
    for (size_t i = 0; i < m->nmounts; i++)
        if (m->mounts[i] == session) return;
    m->mounts[m->nmounts++] = session;
}

static void answer(struct mnode *n, uint64_t session)
{
    for (size_t i = 0; i < n->nowed; i++) {
        if (n->owed[i] != session) continue;
        n->owed[i] = n->owed[--n->nowed];
        if (n->nowed == 0) bury(n);
    }
}

void model_session_del(struct model *m, uint64_t session)
{
    for (size_t i = 0; i < m->nnodes; i++)
        if (model_node(m, i)) answer(m->nodes[i], session);
    for (size_t i = 0; i < m->nmounts; i++)
        if (m->mounts[i] == session) m->mounts[i--] = m->mounts[--m->nmounts];
}

void model_release(struct model *m, const struct fs_ctx *c, uint64_t ino)
{
    struct mnode *n = model_node(m, ino);
    if (n) answer(n, c->session);
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

static struct slice first_name(struct slice key)
{
    size_t n = 0;
    while (n < key.n && key.p[n] != '/') n++;
    return slice_of(key.p, n);
}

static int key_error(struct slice key)
{
    if (key.n > FS_KEY_MAX) return -ENAMETOOLONG;
    for (size_t at = 0; at <= key.n;) {
        struct slice name = first_name(slice_sub(key, at, key.n - at));
        int err = name_error(name);
        if (err) return err;
        if (dot(name) || dotdot(name)) return -EINVAL;
        at += name.n + 1;
    }
    return 0;
}

int model_walk(struct model *m, struct slice key, struct mnode **out)
{
    int err = key_error(key);
    struct mnode *at = model_node(m, FS_ROOT_INO);
    while (!err) {
        struct slice name = first_name(key);
        if (!is_dir(at)) return -ENOTDIR;
        struct mentry *e = find(at, name);
        if (!e) return -ENOENT;
        at = e->node;
        if (name.n == key.n) break;
        key = slice_sub(key, name.n + 1, key.n - name.n - 1);
    }
    *out = at;
    return err;
}

static int file_error(const struct mnode *n)
{
    return is_file(n) ? 0 : is_dir(n) ? -EISDIR : S_ISLNK(n->a.mode) ? -ELOOP : -EINVAL;
}

int model_put(struct model *m, const struct fs_ctx *c, struct slice key, struct slice data, bool append,
              struct mnode **out)
{
    uint64_t at;
    int err = model_walk(m, key, out);
    if (err == 0) {
        err = file_error(*out);
        if (err) return err;
        if (append) return model_write(m, c, (*out)->a.ino, 0, true, data, &at);
        resize(*out, 0);
        overwrite(*out, 0, data);
        change_data(*out, c->now);
        return 0;
    }
    if (err != -ENOENT) return err;
    struct mnode *dir = model_node(m, FS_ROOT_INO);
    for (;;) {
        struct slice name = first_name(key);
        struct mentry *e = find(dir, name);
        bool last = name.n == key.n;
        if (!e) {
            model_mknod(m, c, dir->a.ino, name, last ? S_IFREG | 0644 : S_IFDIR | 0755, 0, (struct slice){0}, out);
            (*out)->implicit = !last;
        }
        if (last) break;
        dir = e ? e->node : *out;
        key = slice_sub(key, name.n + 1, key.n - name.n - 1);
    }
    overwrite(*out, 0, data);
    return 0;
}

int model_delete(struct model *m, const struct fs_ctx *c, struct slice key)
{
    struct mnode *n, *dir;
    int err = model_walk(m, key, &n);
    if (!err) err = file_error(n);
    if (err) return err;
    for (bool first = true;; first = false) {
        size_t end = key.n;
        while (end > 0 && key.p[end - 1] != '/') end--;
        struct slice name = slice_sub(key, end, key.n - end);
        if (end == 0) {
            dir = model_node(m, FS_ROOT_INO);
        } else {
            model_walk(m, slice_of(key.p, end - 1), &dir);
        }
        if (first) {
            model_unlink(m, c, dir->a.ino, name, false);
        } else {
            model_rmdir(m, c, dir->a.ino, name);
        }
        if (end == 0 || dir->nentries || !dir->implicit) return 0;
        key.n = end - 1;
    }
}
