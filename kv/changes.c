/* changes.c - which keys an operation has changed.
 *
 * Operations by inode change all keys of the file (its hard links), and so do those by key where there are several;
 * those by directory and name change one key; a rename of a directory all keys below it, of which there may be too
 * many to tell: then history is cut at this entry, and whoever watches has to list again. Objects that are no regular
 * files are no keys; what is not below the root (an open file without a name) or too deep for a key has none.
 *
 * Damaged rows cannot stop an operation that has been executed: the keys they hide are left out, and history is cut,
 * too. */
#include "kv/changes.h"

#include <sys/stat.h>

/* ---- by directory and name ---- */

static void told(struct kv__store *st, int err)
{
    if (err && err != -ENAMETOOLONG) kv__history_cut(&st->history);
}

static void name_changed(struct kv__store *st, enum kv_event_type type, uint64_t dir, struct slice name,
                         const struct fs_attr *attr)
{
    struct buf key = {0};
    int err = fs_path(&st->fs, dir, name, &key);
    if (!err) kv__history_add(&st->history, type, buf_slice(&key), attr);
    told(st, err);
    buf_free(&key);
}

/* ---- by inode ---- */

struct putting {
    struct kv__store *st;
    const struct fs_attr *attr;
    uint32_t left;
};

static bool put_key(void *ctx, struct slice key)
{
    struct putting *p = ctx;
    if (p->left-- == 0) {
        kv__history_cut(&p->st->history);
        return false;
    }
    kv__history_add(&p->st->history, KV_EVENT_PUT, key, p->attr);
    return true;
}

static void file_changed(struct kv__store *st, uint64_t ino, const struct fs_attr *attr)
{
    struct putting p = {st, attr, KV_CHANGES_MAX};
    told(st, fs_keys(&st->fs, ino, put_key, &p));
}

/* ---- by key: which may be one of several of its file ---- */

void kv__changes_key(struct kv__store *st, enum kv_event_type type, struct slice key, const struct fs_attr *attr)
{
    if (type == KV_EVENT_PUT && attr->nlink > 1) file_changed(st, attr->ino, attr);
    else kv__history_add(&st->history, type, key, attr);
}

/* ---- renames: all keys at a place ---- */

/* Calls emit for the key there, or for all keys below. */
static int keys_at(const struct kv__store *st, uint64_t dir, struct slice name, const struct fs_attr *attr,
                   bool (*emit)(void *ctx, struct slice key, const struct fs_attr *attr), void *ctx)
{
    struct buf path = {0};
    int err = S_ISREG(attr->mode) || S_ISDIR(attr->mode) ? fs_path(&st->fs, dir, name, &path) : -ENAMETOOLONG;
    if (!err && S_ISREG(attr->mode)) {
        emit(ctx, buf_slice(&path), attr);
    } else if (!err) {
        put_u8(&path, '/');
        err = fs_list(&st->fs, buf_slice(&path), (struct slice){0}, emit, ctx);
    }
    buf_free(&path);
    return err == -ENAMETOOLONG ? 0 : err;
}

static bool remember_key(void *ctx, struct slice key, const struct fs_attr *attr)
{
    struct kv__before *b = ctx;
    if (b->n++ == KV_CHANGES_MAX) b->too_many = true;
    else put_slice16(&b->keys, key);
    return !b->too_many;
}

static void before_rename(const struct kv__store *st, const struct kv_op *op, struct kv__before *b)
{
    struct fs_attr source, target;
    if (fs_lookup(&st->fs, op->ino, op->name, &source)) return;
    bool replaces = fs_lookup(&st->fs, op->ino2, op->name2, &target) == 0;
    b->same = replaces && source.ino == target.ino;
    if (b->same) return;
    int err = keys_at(st, op->ino, op->name, &source, remember_key, b);
    if (!err && replaces) err = keys_at(st, op->ino2, op->name2, &target, remember_key, b);
    if (err) b->too_many = true;
}

static bool put_listed(void *ctx, struct slice key, const struct fs_attr *attr)
{
    struct putting now = {.st = ((struct putting *)ctx)->st, .attr = attr, .left = ((struct putting *)ctx)->left};
    bool more = put_key(&now, key);
    ((struct putting *)ctx)->left = now.left;
    return more;
}

static void keys_appear(struct kv__store *st, uint64_t dir, struct slice name, struct putting *p)
{
    struct fs_attr attr;
    int err = fs_lookup(&st->fs, dir, name, &attr);
    if (!err) err = keys_at(st, dir, name, &attr, put_listed, p);
    told(st, err);
}

static void after_rename(struct kv__store *st, const struct kv_op *op, const struct kv__before *b)
{
    struct reader r = reader_of(buf_slice(&b->keys));
    struct putting p = {.st = st, .left = 2 * KV_CHANGES_MAX};
    if (b->same) return;
    if (b->too_many) {
        kv__history_cut(&st->history);
        return;
    }
    while (reader_left(&r)) {
        struct slice key = get_slice16(&r);
        struct fs_attr attr;
        bool there = fs_walk(&st->fs, key, &attr) == 0 && S_ISREG(attr.mode);
        if (!there) kv__history_add(&st->history, KV_EVENT_DELETE, key, NULL);
    }
    keys_appear(st, op->ino2, op->name2, &p);
    if (op->flags & FS_RENAME_EXCHANGE) keys_appear(st, op->ino, op->name, &p);
}

/* ---- every operation ---- */

void kv__changes_before(const struct kv__store *st, const struct kv_op *op, struct kv__before *b)
{
    struct fs_attr attr = {0};
    *b = (struct kv__before){0};
    switch (op->code) {
    case KV_UNLINK: b->file = fs_lookup(&st->fs, op->ino, op->name, &attr) == 0 && S_ISREG(attr.mode); break;
    case KV_RENAME: before_rename(st, op, b); break;
    case KV_APPEND: b->file = op->data.n == 0 && fs_walk(&st->fs, op->name, &attr) == 0; break;
    case KV_FALLOCATE: fs_getattr(&st->fs, op->ino, &attr); break;
    default: break;
    }
    b->version = attr.version;
}

void kv__changes_after(struct kv__store *st, const struct kv_op *op, const struct kv_reply *r, struct kv__before *b)
{
    const struct fs_attr *attr = &r->attr;
    switch (op->code) {
    case KV_MKNOD:
        if (S_ISREG(attr->mode)) name_changed(st, KV_EVENT_PUT, op->ino, op->name, attr);
        break;
    case KV_CREATE:
        if (r->off) name_changed(st, KV_EVENT_PUT, op->ino, op->name, attr);
        break;
    case KV_LINK:
        if (S_ISREG(attr->mode)) name_changed(st, KV_EVENT_PUT, op->ino2, op->name, attr);
        break;
    case KV_UNLINK:
        if (b->file) name_changed(st, KV_EVENT_DELETE, op->ino, op->name, NULL);
        break;
    case KV_RENAME: after_rename(st, op, b); break;
    case KV_SETATTR:
        if (op->flags & FS_SET_SIZE) file_changed(st, op->ino, attr);
        break;
    case KV_WRITE:
        if (op->data.n) file_changed(st, op->ino, attr);
        break;
    case KV_FALLOCATE:
        if (attr->version != b->version) file_changed(st, op->ino, attr);
        break;
    case KV_COPY_RANGE:
        if (r->off) file_changed(st, op->ino2, attr);
        break;
    case KV_PUT:
    case KV_CAS: kv__changes_key(st, KV_EVENT_PUT, op->name, attr); break;
    case KV_APPEND:
        if (!b->file || attr->version != b->version) kv__changes_key(st, KV_EVENT_PUT, op->name, attr);
        break;
    case KV_DELETE: kv__changes_key(st, KV_EVENT_DELETE, op->name, NULL); break;
    default: break;
    }
}
