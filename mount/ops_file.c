/* ops_file.c - open files: open, create, release, read, write, fallocate, lseek, copy_file_range.
 *
 * An OPEN asks the leader for the inode, which confirms that it is there and says whether the kernel's pages are
 * current (node.c); with O_TRUNC the question is the truncation itself. Writers with O_APPEND go around the page cache,
 * because the offset is chosen where the write is applied. A handle is its node: nothing else belongs to an open file.
 *
 * CREATE may find a file that another mount has made since the kernel looked. The kernel takes any file that CREATE
 * returns for its own and checks no permissions, so they are checked here; a refusal is ESTALE, which makes the kernel
 * look the name up again and judge by itself. */
#include "mount/state.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_MAX ((size_t)1 << 30)      /* of one COPY_FILE_RANGE: its reply has 32 bits */

static void node_open(struct mount *m, struct node *n)
{
    n->opens++;
    m->opens++;
    mount__node_settle(m, n);
}

static void node_close(struct mount *m, struct node *n)
{
    check(n->opens > 0 && m->opens > 0);
    n->opens--;
    m->opens--;
    if (n->opens == 0 && n->owed) {
        n->owed = false;
        mount__owed_closed(m, n->ino);
    }
    mount__node_settle(m, n);
}

static void handle_close(struct mount *m, struct node *n)
{
    check(n->handles > 0);
    n->handles--;
    node_close(m, n);
}

/* ---- open ---- */

static bool writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY; }

static void send_truncation(struct request *r)
{
    r->call.op = (struct kv_op){.code = KV_SETATTR, .ino = r->node->ino, .flags = FS_SET_SIZE, .len = 0};
    mount__send(r);
}

/* Truncation by others than root takes the set-id bits away; where the kernel leaves truncation to us, so does it that.
 * True if an operation is under way for it. */
static bool drop_privileges(struct request *r, const struct fs_attr *attr)
{
    uint32_t bits = attr->mode & S_ISUID;
    if (attr->mode & S_IXGRP) bits |= attr->mode & S_ISGID;
    if (!(r->fi.flags & O_TRUNC) || !bits || fuse_req_ctx(r->req)->uid == 0 || r->flag) return false;
    r->flag = true;
    r->call.op = (struct kv_op){
        .code = KV_SETATTR, .ino = r->node->ino, .flags = FS_SET_MODE, .mode = (attr->mode & 07777) & ~bits};
    mount__send(r);
    return true;
}

static void hand_out(struct request *r, const struct fs_attr *attr)
{
    r->node->handles++;
    r->fi.fh = (uint64_t)(uintptr_t)r->node;
    r->fi.keep_cache = mount__node_opened(r->node, attr);
    r->fi.direct_io = (r->fi.flags & O_APPEND) && writes(r->fi.flags);
}

static void finish_open(struct request *r, const struct kv_reply *reply)
{
    struct mount *m = r->m;
    struct node *n = r->node;
    if (reply->status < 0) {
        node_close(m, n);
        return mount__reply_stale(r, reply->status);
    }
    /* Nameless and not open here: the kernel has found the name before it went, and nothing keeps the file for us
     * (owed.c). */
    if (reply->attr.nlink == 0 && n->handles == 0) {
        node_close(m, n);
        return mount__reply_err(r, -ESTALE);
    }
    if (drop_privileges(r, &reply->attr)) return;
    hand_out(r, &reply->attr);
    if (!mount__reply_open(r)) handle_close(m, n);
}

static void send_open(struct request *r)
{
    if (r->fi.flags & O_TRUNC) return send_truncation(r);
    mount__send(r);
}

void mount__op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct mount *m = fuse_req_userdata(req);
    struct node *n = mount__node_get(m, ino);
    struct request *r = mount__begin(req, KV_GETATTR, ino, finish_open);
    if (!r) return;
    r->fi = *fi;
    r->node = n;
    node_open(m, n);
    /* An UNLINK that said "nothing is open here" may be about to take this very file: first see how that ends. */
    if (m->unheld) return mount__park(r, &m->parked);
    send_open(r);
}

void mount__opens_go_on(struct mount *m)
{
    for (struct list *l; !m->unheld && (l = list_pop_front(&m->parked));)
        send_open(container_of(l, struct request, parked));
}

void mount__op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    handle_close(fuse_req_userdata(req), (struct node *)(uintptr_t)fi->fh);
    mount__answer_err(req, 0);
}

/* ---- create ---- */

static bool is_member(fuse_req_t req, uint32_t gid)
{
    gid_t groups[256];
    if (fuse_req_ctx(req)->gid == gid) return true;
    int n = fuse_req_getgroups(req, 256, groups);
    for (int i = 0; i < n && i < 256; i++)
        if (groups[i] == gid) return true;
    return false;
}

static bool may_open(struct request *r, const struct fs_attr *attr)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(r->req);
    int flags = r->fi.flags;
    uint32_t want = (flags & O_ACCMODE) != O_WRONLY ? 4 : 0;
    if (writes(flags) || flags & O_TRUNC) want |= 2;
    unsigned shift = ctx->uid == attr->uid ? 6 : is_member(r->req, attr->gid) ? 3 : 0;
    return ctx->uid == 0 || (attr->mode >> shift & want) == want;
}

static void finish_created(struct request *r, const struct kv_reply *reply)
{
    struct mount *m = r->m;
    struct node *n = r->node;
    if (reply->status < 0) {
        node_close(m, n);
        return mount__reply_stale(r, reply->status);
    }
    if (drop_privileges(r, &reply->attr)) return;
    mount__node_tell(m, &reply->attr, TELL_ENTRY);
    hand_out(r, &reply->attr);
    if (!mount__reply_create(r, &reply->attr)) handle_close(m, n);
}

static void finish_create(struct request *r, const struct kv_reply *reply)
{
    struct mount *m = r->m;
    bool is_new = reply->off == 1;
    list_remove(&r->creating);
    m->opens--;
    if (reply->status < 0) {
        mount__reply_err(r, reply->status);
        return mount__owed_go_on(m);
    }
    r->node = mount__node_get(m, reply->attr.ino);
    node_open(m, r->node);
    r->finish = finish_created;
    if (!is_new && !may_open(r, &reply->attr)) {
        node_close(m, r->node);
        mount__reply_err(r, -ESTALE);
    } else if (!is_new && r->fi.flags & O_TRUNC) {
        send_truncation(r);
    } else {
        r->flag = true;      /* nothing was truncated */
        finish_created(r, reply);
    }
    mount__owed_go_on(m);
}

void mount__op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    struct request *r = mount__begin(req, KV_CREATE, parent, finish_create);
    if (!r) return;
    struct mount *m = r->m;
    r->fi = *fi;
    r->call.op.name = slice_str(name);
    r->call.op.mode = S_IFREG | (mode & 07777);
    r->call.op.uid = ctx->uid;
    r->call.op.gid = ctx->gid;
    r->call.op.flags = fi->flags & O_EXCL ? 1 : 0;
    r->serial = m->create_serial++;
    list_push_back(&m->creates, &r->creating);
    m->opens++;
    mount__send(r);
}

/* ---- contents ---- */

static void finish_read(struct request *r, const struct kv_reply *reply)
{
    if (reply->status < 0) return mount__reply_stale(r, reply->status);
    if (reply->data.n > r->size) return mount__reply_err(r, QE_FRAME);
    mount__reply_data(r, reply->data);
}

void mount__op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct request *r = mount__begin(req, KV_READ, ino, finish_read);
    if (!r) return;
    r->size = min_u64(size, KV_DATA_MAX);
    r->call.op.off = (uint64_t)off;
    r->call.op.len = r->size;
    mount__send(r);
}

static void finish_write(struct request *r, const struct kv_reply *reply)
{
    if (reply->status < 0) return mount__reply_stale(r, reply->status);
    mount__reply_count(r, r->size);
}

/* A page of a mapping has its place, whatever flags its handle has. */
void mount__op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct request *r = mount__begin(req, KV_WRITE, ino, finish_write);
    if (!r) return;
    r->size = min_u64(size, KV_DATA_MAX);
    r->call.op.off = (uint64_t)off;
    r->call.op.flags = fi->flags & O_APPEND && !fi->writepage ? 1 : 0;
    r->call.op.data = slice_of(buf, r->size);
    mount__send(r);
}

static void finish_fallocate(struct request *r, const struct kv_reply *reply)
{
    if (reply->status < 0) return mount__reply_stale(r, reply->status);
    mount__reply_err(r, 0);
}

void mount__op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
    struct request *r = mount__begin(req, KV_FALLOCATE, ino, finish_fallocate);
    if (!r) return;
    r->call.op.flags = (uint32_t)mode;
    r->call.op.off = (uint64_t)off;
    r->call.op.len = (uint64_t)len;
    mount__send(r);
}

static void finish_lseek(struct request *r, const struct kv_reply *reply)
{
    if (reply->status < 0) return mount__reply_stale(r, reply->status);
    mount__reply_lseek(r, reply->off);
}

void mount__op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
    if (whence != SEEK_DATA && whence != SEEK_HOLE) return mount__answer_err(req, -EINVAL);
    struct request *r = mount__begin(req, KV_SEEK, ino, finish_lseek);
    if (!r) return;
    r->call.op.off = (uint64_t)off;
    r->call.op.flags = whence == SEEK_HOLE;
    mount__send(r);
}

static void finish_copy(struct request *r, const struct kv_reply *reply)
{
    if (reply->status < 0) return mount__reply_stale(r, reply->status);
    mount__reply_count(r, reply->off);
}

void mount__op_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_off, struct fuse_file_info *from_fi,
                               fuse_ino_t to, off_t to_off, struct fuse_file_info *to_fi, size_t len, int flags)
{
    if (flags) return mount__answer_err(req, -EINVAL);
    struct request *r = mount__begin(req, KV_COPY_RANGE, from, finish_copy);
    if (!r) return;
    r->call.op.off = (uint64_t)from_off;
    r->call.op.ino2 = to;
    r->call.op.off2 = (uint64_t)to_off;
    r->call.op.len = min_u64(len, COPY_MAX);
    mount__send(r);
}
