/* exec.c - executes one change: translates its arguments into a call of fs/ and the result into a reply.
 * Deterministic: the map, the operation and the batch's time are all it looks at.
 *
 * Compare-and-set of contents that are not inline is the one change that cannot be decided from the map alone,
 * because the bytes are in the log. It comes back undecided; the leader compares (kv/cas.c) and proposes again with
 * the version of the inode it found equal; here it then only matters whether that version is still the current one. */
#include "kv/changes.h"
#include "kv/txn.h"

#include <stdlib.h>

static struct fs_ctx context(const struct kv__store *st, const struct kv_op *op)
{
    return (struct fs_ctx){.now = st->wall, .session = st->cur.mount ? st->cur.id : 0, .uid = op->uid, .gid = op->gid};
}

static struct fs_loc place(uint64_t index, const uint8_t *entry, struct slice data)
{
    return (struct fs_loc){.index = index, .off = data.n ? (uint32_t)(data.p - entry) : 0};
}

/* ---- compare-and-set ---- */

struct compare {
    struct slice expected;
    bool equal, in_log;
};

static void compare_piece(void *ctx, const struct fs_piece *piece)
{
    struct compare *c = ctx;
    const uint8_t *want = c->expected.p + piece->file_off;
    if (piece->kind == FS_PIECE_INLINE) {
        if (memcmp(want, piece->bytes.p, piece->len) != 0) c->equal = false;
    } else if (piece->kind == FS_PIECE_HOLE) {
        for (uint32_t i = 0; i < piece->len; i++)
            if (want[i]) c->equal = false;
    } else {
        c->in_log = true;
    }
}

int kv__contents_are(const struct kv__store *st, const struct fs_attr *attr, struct slice value)
{
    if ((attr->mode & 0170000) == 0040000) return -EISDIR;
    if (attr->size != value.n) return 0;
    struct compare c = {.expected = value, .equal = true};
    int64_t n = fs_read(&st->fs, attr->ino, 0, (uint32_t)value.n, compare_piece, &c);
    if (n < 0) return (int)n;
    return !c.equal ? 0 : c.in_log ? KV__IN_LOG : 1;
}

/* 0, QE_MISMATCH or an error of the path; *undecided where the leader has to compare (again). */
static int compare(const struct kv__store *st, const struct kv_op *op, bool *undecided)
{
    struct fs_attr attr;
    int err = fs_walk(&st->fs, op->name, &attr);
    *undecided = false;
    if (op->flags & 2) {
        *undecided = err || attr.ino != op->ino || attr.version != op->off;
        return 0;
    }
    if (op->flags & 1) return err == -ENOENT ? 0 : err ? err : QE_MISMATCH;
    if (err == -ENOENT) return QE_MISMATCH;
    if (err) return err;
    int is = kv__contents_are(st, &attr, op->name2);
    *undecided = is == KV__IN_LOG;
    return is < 0 ? is : is ? 0 : QE_MISMATCH;
}

/* ---- the others ---- */

static int release(struct kv__store *st, const struct fs_ctx *ctx, struct slice inos)
{
    if (inos.n % 8) return -EINVAL;
    for (size_t i = 0; i < inos.n; i += 8) fs_release(&st->fs, ctx, load_u64(inos.p + i));
    return 0;
}

static int set_attr(struct kv__store *st, const struct fs_ctx *ctx, const struct kv_op *op, struct fs_attr *out)
{
    struct fs_attr in = {
        .mode = op->mode, .uid = op->uid, .gid = op->gid, .size = op->len, .atime = op->atime, .mtime = op->mtime};
    return fs_setattr(&st->fs, ctx, op->ino, op->flags, &in, out);
}

static int create(struct kv__store *st, const struct fs_ctx *ctx, const struct kv_op *op, struct kv_reply *r)
{
    bool created = false;
    int err = fs_create(&st->fs, ctx, op->ino, op->name, op->mode, op->flags & 1, &r->attr, &created);
    r->off = created;
    return err;
}

static int copy_range(struct kv__store *st, const struct fs_ctx *ctx, const struct kv_op *op, struct kv_reply *r)
{
    int64_t n = fs_copy_range(&st->fs, ctx, op->ino, op->off, op->ino2, op->off2, op->len, &r->attr);
    if (n < 0) return (int)n;
    r->off = (uint64_t)n;
    return 0;
}

static int keep(const struct kv__store *st, struct kv_reply *r)
{
    uint64_t inos[64];
    r->off = st->cur.mount ? fs_owed(&st->fs, st->cur.id, 0, inos, 64) : 0;
    return 0;
}

static bool execute(struct kv__store *st, const struct kv_op *op, uint64_t index, const uint8_t *entry,
                    struct kv_reply *r)
{
    struct fs *fs = &st->fs;
    struct fs_ctx ctx = context(st, op);
    struct fs_loc loc = place(index, entry, op->data);
    bool held = st->cur.mount && (op->code == KV_RENAME ? op->mode & 1 : op->flags & 1);
    bool undecided = false;
    int err = -EINVAL;
    switch (op->code) {
    case KV_MKNOD: err = fs_mknod(fs, &ctx, op->ino, op->name, op->mode, op->rdev, op->name2, &r->attr); break;
    case KV_CREATE: err = create(st, &ctx, op, r); break;
    case KV_LINK: err = fs_link(fs, &ctx, op->ino, op->ino2, op->name, &r->attr); break;
    case KV_UNLINK: err = fs_unlink(fs, &ctx, op->ino, op->name, held); break;
    case KV_RMDIR: err = fs_rmdir(fs, &ctx, op->ino, op->name); break;
    case KV_RENAME: err = fs_rename(fs, &ctx, op->ino, op->name, op->ino2, op->name2, op->flags, held); break;
    case KV_SETATTR: err = set_attr(st, &ctx, op, &r->attr); break;
    case KV_WRITE: err = fs_write(fs, &ctx, op->ino, op->off, op->flags & 1, op->data, loc, &r->attr, &r->off); break;
    case KV_FALLOCATE: err = fs_fallocate(fs, &ctx, op->ino, op->flags, op->off, op->len, &r->attr); break;
    case KV_COPY_RANGE: err = copy_range(st, &ctx, op, r); break;
    case KV_SETXATTR: err = fs_setxattr(fs, &ctx, op->ino, op->name, op->data, op->flags); break;
    case KV_REMOVEXATTR: err = fs_removexattr(fs, &ctx, op->ino, op->name); break;
    case KV_RELEASE: err = release(st, &ctx, op->data); break;
    case KV_PUT: err = fs_put(fs, &ctx, op->name, op->data, loc, &r->attr); break;
    case KV_APPEND: err = fs_append(fs, &ctx, op->name, op->data, loc, &r->attr); break;
    case KV_DELETE: err = fs_delete(fs, &ctx, op->name); break;
    case KV_CAS:
        err = compare(st, op, &undecided);
        if (!err && !undecided) err = fs_put(fs, &ctx, op->name, op->data, loc, &r->attr);
        break;
    case KV_TXN: return kv__txn_exec(st, op, &ctx, index, entry, r);
    case KV_SESSION_KEEP: err = keep(st, r); break;
    default: break;
    }
    r->status = err;
    return !undecided;
}

bool kv__exec(struct kv__store *st, const struct kv_op *op, uint64_t index, const uint8_t *entry, struct kv_reply *r)
{
    struct kv__before before;
    kv__changes_before(st, op, &before);
    bool decided = execute(st, op, index, entry, r);
    if (decided && r->status >= 0) kv__changes_after(st, op, r, &before);
    buf_free(&before.keys);
    return decided;
}

/* Either branch may be taken. */
static int txn_full_disk_error(struct slice request)
{
    struct kv_txn t;
    if (kv_txn_decode(request, &t)) return 0;
    for (unsigned b = 0; b < 2; b++)
        for (unsigned i = 0; i < t.nsteps[b]; i++)
            if (t.steps[b][i].code == KV_PUT || t.steps[b][i].code == KV_APPEND) return -ENOSPC;
    return 0;
}

int kv__full_disk_error(const struct kv__store *st, const struct kv_op *op)
{
    struct fs_attr attr;
    switch (op->code) {
    case KV_MKNOD:
    case KV_LINK:
    case KV_WRITE:
    case KV_COPY_RANGE:
    case KV_SETXATTR:
    case KV_PUT:
    case KV_APPEND:
    case KV_CAS:
        return -ENOSPC;
    case KV_CREATE:         /* opening what exists needs no space */
        return fs_lookup(&st->fs, op->ino, op->name, &attr) ? -ENOSPC : 0;
    case KV_TXN: return txn_full_disk_error(op->data);
    case KV_FALLOCATE:      /* punching a hole is a way to make room: FALLOC_FL_PUNCH_HOLE */
        return op->flags & 2 ? 0 : -ENOSPC;
    case KV_SETATTR:
        if (!(op->flags & FS_SET_SIZE) || fs_getattr(&st->fs, op->ino, &attr)) return 0;
        return op->len > attr.size ? -ENOSPC : 0;
    default:
        return 0;
    }
}
