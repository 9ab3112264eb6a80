/* ops_attr.c - attributes: getattr, setattr, statfs, extended attributes.
 *
 * Extended attributes: user.*, trusted.* (root only, by the kernel) and security.* are stored. POSIX ACLs (system.*)
 * are refused, as nobody would enforce them. security.capability is refused, too: the kernel asks for it before each
 * write(2), to take privileges away, and the answer "there is none" is given here without a round trip. Mounts are
 * nosuid, so it would have no effect anyway. */
#include "mount/state.h"

#include <sys/stat.h>

static void finish_getattr(struct request *r, const struct kv_reply *reply)
{
    if (reply->status < 0) return mount__reply_stale(r, reply->status);
    if (mount__node_tell(r->m, &reply->attr, TELL_GETATTR)) return mount__notify(r, &reply->attr);
    mount__reply_attr(r, &reply->attr);
}

void mount__op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct request *r = mount__begin(req, KV_GETATTR, ino, finish_getattr);
    if (r) mount__send(r);
}

static void finish_setattr(struct request *r, const struct kv_reply *reply)
{
    if (reply->status < 0) return mount__reply_stale(r, reply->status);
    mount__node_tell(r->m, &reply->attr, TELL_SETATTR);
    mount__reply_attr(r, &reply->attr);
}

/* Times beyond what 64 bits of ns hold (the year 2262) are cut to that. */
static int64_t ns_of(struct timespec t)
{
    int64_t ns;
    if (__builtin_mul_overflow((int64_t)t.tv_sec, (int64_t)NS_PER_S, &ns) ||
        __builtin_add_overflow(ns, (int64_t)t.tv_nsec, &ns))
        return t.tv_sec < 0 ? INT64_MIN : INT64_MAX;
    return ns;
}

static uint32_t mask_of(int to_set)
{
    static const struct {
        int fuse;
        uint32_t fs;
    } map[] = {{FUSE_SET_ATTR_MODE, FS_SET_MODE},
               {FUSE_SET_ATTR_UID, FS_SET_UID},
               {FUSE_SET_ATTR_GID, FS_SET_GID},
               {FUSE_SET_ATTR_SIZE, FS_SET_SIZE},
               {FUSE_SET_ATTR_ATIME, FS_SET_ATIME},
               {FUSE_SET_ATTR_MTIME, FS_SET_MTIME},
               {FUSE_SET_ATTR_ATIME_NOW, FS_SET_ATIME_NOW},
               {FUSE_SET_ATTR_MTIME_NOW, FS_SET_MTIME_NOW},
               {FUSE_SET_ATTR_CTIME, FS_SET_CTIME}};
    uint32_t mask = 0;
    for (size_t i = 0; i < sizeof map / sizeof *map; i++)
        if (to_set & map[i].fuse) mask |= map[i].fs;
    if (mask & FS_SET_ATIME_NOW) mask &= ~(uint32_t)FS_SET_ATIME;
    if (mask & FS_SET_MTIME_NOW) mask &= ~(uint32_t)FS_SET_MTIME;
    return mask;
}

void mount__op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
{
    struct request *r = mount__begin(req, KV_SETATTR, ino, finish_setattr);
    if (!r) return;
    struct kv_op *op = &r->call.op;
    op->flags = mask_of(to_set);
    if (op->flags & FS_SET_MODE) op->mode = st->st_mode & 07777;
    if (op->flags & FS_SET_UID) op->uid = st->st_uid;
    if (op->flags & FS_SET_GID) op->gid = st->st_gid;
    if (op->flags & FS_SET_SIZE) op->len = (uint64_t)st->st_size;
    if (op->flags & FS_SET_ATIME) op->atime = ns_of(st->st_atim);
    if (op->flags & FS_SET_MTIME) op->mtime = ns_of(st->st_mtim);
    mount__send(r);
}

static void finish_statfs(struct request *r, const struct kv_reply *reply)
{
    struct kv_statfs s;
    int err = reply->status < 0 ? reply->status : kv_statfs_decode(reply->data, &s);
    if (err) return mount__reply_err(r, err);
    mount__reply_statfs(r, &s);
}

void mount__op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct request *r = mount__begin(req, KV_STATFS, 0, finish_statfs);
    if (r) mount__send(r);
}

/* ---- extended attributes ---- */

#define CAPABILITY "security.capability"

static bool is_stored(const char *name)
{
    return strncmp(name, "user.", 5) == 0 || strncmp(name, "trusted.", 8) == 0 ||
           (strncmp(name, "security.", 9) == 0 && strcmp(name, CAPABILITY) != 0);
}

static void finish_changed(struct request *r, const struct kv_reply *reply)
{
    if (reply->status < 0) return mount__reply_stale(r, reply->status);
    mount__reply_err(r, 0);
}

void mount__op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
    if (!is_stored(name)) return mount__answer_err(req, -EOPNOTSUPP);
    struct request *r = mount__begin(req, KV_SETXATTR, ino, finish_changed);
    if (!r) return;
    r->call.op.name = slice_str(name);
    r->call.op.data = slice_of(value, size);
    r->call.op.flags = (uint32_t)flags;
    mount__send(r);
}

void mount__op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    if (!is_stored(name)) return mount__answer_err(req, strcmp(name, CAPABILITY) ? -EOPNOTSUPP : -ENODATA);
    struct request *r = mount__begin(req, KV_REMOVEXATTR, ino, finish_changed);
    if (!r) return;
    r->call.op.name = slice_str(name);
    mount__send(r);
}

static void finish_getxattr(struct request *r, const struct kv_reply *reply)
{
    if (reply->status < 0) return mount__reply_stale(r, reply->status);
    mount__reply_xattr(r, reply->data);
}

void mount__op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    if (!is_stored(name)) return mount__answer_err(req, strcmp(name, CAPABILITY) ? -EOPNOTSUPP : -ENODATA);
    struct request *r = mount__begin(req, KV_GETXATTR, ino, finish_getxattr);
    if (!r) return;
    r->call.op.name = slice_str(name);
    r->size = size;
    mount__send(r);
}

/* trusted.* is not shown to ordinary users. r->flag: the caller is root. */
static void finish_listxattr(struct request *r, const struct kv_reply *reply)
{
    if (reply->status < 0) return mount__reply_stale(r, reply->status);
    if (r->flag) return mount__reply_xattr(r, reply->data);
    struct buf *out = &r->m->scratch;
    buf_clear(out);
    for (struct slice left = reply->data; left.n;) {
        const uint8_t *end = memchr(left.p, '\0', left.n);
        size_t n = end ? (size_t)(end - left.p) + 1 : left.n;
        if (n < 8 || memcmp(left.p, "trusted.", 8) != 0) buf_append(out, left.p, n);
        left = slice_sub(left, n, left.n - n);
    }
    mount__reply_xattr(r, buf_slice(out));
}

void mount__op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
    struct request *r = mount__begin(req, KV_LISTXATTR, ino, finish_listxattr);
    if (!r) return;
    r->size = size;
    r->flag = fuse_req_ctx(req)->uid == 0;
    mount__send(r);
}
