/* ops_name.c - operations on names: lookup, forget, mknod and its kin, link, unlink, rmdir, rename, readlink. */
#include "mount/state.h"

#include <sys/stat.h>

#define OWED_DELAY (50 * NS_PER_MS)     /* gathers what a burst of unlinks leaves */

static void finish_entry(struct request *r, const struct kv_reply *reply)
{
    if (reply->status < 0) return mount__reply_err(r, reply->status);
    mount__node_tell(r->m, &reply->attr, TELL_ENTRY);
    mount__reply_entry(r, &reply->attr);
}

/* "." is asked for an inode of any type, when somebody comes with a file handle (NFS, open_by_handle_at). */
void mount__op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    bool itself = strcmp(name, ".") == 0;
    struct request *r = mount__begin(req, itself ? KV_GETATTR : KV_LOOKUP, parent, finish_entry);
    if (!r) return;
    r->call.op.name = slice_str(name);
    mount__send(r);
}

void mount__op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
    mount__node_forget(fuse_req_userdata(req), ino);
    mount__answer_none(req);
}

void mount__op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++) mount__node_forget(fuse_req_userdata(req), forgets[i].ino);
    mount__answer_none(req);
}

static void finish_readlink(struct request *r, const struct kv_reply *reply)
{
    if (reply->status < 0) return mount__reply_stale(r, reply->status);
    mount__reply_readlink(r, reply->data);
}

void mount__op_readlink(fuse_req_t req, fuse_ino_t ino)
{
    struct request *r = mount__begin(req, KV_READLINK, ino, finish_readlink);
    if (r) mount__send(r);
}

/* The kernel has applied the umask. */
static void make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev, const char *target)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    struct request *r = mount__begin(req, KV_MKNOD, parent, finish_entry);
    if (!r) return;
    r->call.op.name = slice_str(name);
    r->call.op.name2 = slice_str(target);
    r->call.op.mode = mode;
    r->call.op.rdev = rdev;
    r->call.op.uid = ctx->uid;
    r->call.op.gid = ctx->gid;
    mount__send(r);
}

void mount__op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    make(req, parent, name, mode, rdev, "");
}

void mount__op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    make(req, parent, name, S_IFDIR | mode, 0, "");
}

void mount__op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    make(req, parent, name, S_IFLNK | 0777, 0, target);
}

void mount__op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
    struct request *r = mount__begin(req, KV_LINK, ino, finish_entry);
    if (!r) return;
    r->call.op.ino2 = parent;
    r->call.op.name = slice_str(name);
    mount__send(r);
}

/* ---- names that go. r->flag: held (owed.c) ---- */

static void finish_removal(struct request *r, const struct kv_reply *reply)
{
    struct mount *m = r->m;
    bool held = r->flag;
    mount__reply_err(r, reply->status < 0 ? reply->status : 0);
    if (held) return mount__owed_soon(m, OWED_DELAY);
    check(m->unheld > 0);
    if (--m->unheld == 0) mount__opens_go_on(m);
}

static bool is_held(struct request *r)
{
    r->flag = r->m->opens != 0;
    if (!r->flag) r->m->unheld++;
    return r->flag;
}

void mount__op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct request *r = mount__begin(req, KV_UNLINK, parent, finish_removal);
    if (!r) return;
    r->call.op.name = slice_str(name);
    r->call.op.flags = is_held(r);
    mount__send(r);
}

void mount__op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to_parent, const char *to_name,
                      unsigned flags)
{
    struct request *r = mount__begin(req, KV_RENAME, parent, finish_removal);
    if (!r) return;
    r->call.op.name = slice_str(name);
    r->call.op.ino2 = to_parent;
    r->call.op.name2 = slice_str(to_name);
    r->call.op.flags = flags;
    r->call.op.mode = is_held(r);
    mount__send(r);
}

static void finish_plain(struct request *r, const struct kv_reply *reply)
{
    mount__reply_err(r, reply->status < 0 ? reply->status : 0);
}

void mount__op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct request *r = mount__begin(req, KV_RMDIR, parent, finish_plain);
    if (!r) return;
    r->call.op.name = slice_str(name);
    mount__send(r);
}
