/* reply.c - replies to the kernel: the only caller of fuse_reply_*. Errors of our own table become EIO (with a trace
 * line), so does what the kernel would misread: ENOSYS switches an operation off for good, codes from 512 on are its
 * own.
 *
 * Everything is told with timeout 0: the kernel asks again each time (DESIGN section 6, stage 1). A reply can fail only
 * because nobody waits any more; for OPEN and CREATE that matters, as no RELEASE will come. */
#include "mount/state.h"

#include <sys/statvfs.h>

#define BLOCK 4096u
#define IO_SIZE (128u * 1024)     /* st_blksize: programs that buffer write this much at a time */

static int errno_of(const struct mount *m, int status)
{
    int err = -status;
    if (err >= 0 && err < 512 && err != ENOSYS) return err;
    if (err == ENOSYS) return EOPNOTSUPP;
    trace_warn(m->trace, "mount: EIO, because: %s (%s)", err_text(status), err_name(status));
    return EIO;
}

static struct timespec time_of(int64_t ns)
{
    int64_t s = ns / (int64_t)NS_PER_S, rest = ns % (int64_t)NS_PER_S;
    if (rest < 0) s--, rest += (int64_t)NS_PER_S;
    return (struct timespec){.tv_sec = s, .tv_nsec = rest};
}

static struct stat stat_of(const struct fs_attr *a)
{
    return (struct stat){.st_ino = a->ino, .st_mode = a->mode, .st_nlink = a->nlink, .st_uid = a->uid, .st_gid = a->gid,
                         .st_rdev = a->rdev, .st_size = (off_t)a->size, .st_blocks = (blkcnt_t)a->blocks,
                         .st_blksize = IO_SIZE, .st_atim = time_of(a->atime), .st_mtim = time_of(a->mtime),
                         .st_ctim = time_of(a->ctime)};
}

static struct fuse_entry_param entry_of(const struct fs_attr *a)
{
    return (struct fuse_entry_param){.ino = a->ino, .attr = stat_of(a)};
}

/* ---- of requests ---- */

void mount__reply_err(struct request *r, int status)
{
    mount__answer_err(r->req, status);
    mount__end(r);
}

void mount__reply_stale(struct request *r, int status) { mount__reply_err(r, status == -ENOENT ? -ESTALE : status); }

void mount__reply_entry(struct request *r, const struct fs_attr *attr)
{
    struct fuse_entry_param e = entry_of(attr);
    fuse_reply_entry(r->req, &e);
    mount__end(r);
}

void mount__reply_attr(struct request *r, const struct fs_attr *attr)
{
    mount__answer_attr(r->req, attr);
    mount__end(r);
}

void mount__reply_readlink(struct request *r, struct slice target)
{
    char text[FS_SYMLINK_MAX + 1];
    if (target.n > FS_SYMLINK_MAX) return mount__reply_err(r, QE_FRAME);
    memcpy(text, target.p, target.n);
    text[target.n] = '\0';
    fuse_reply_readlink(r->req, text);
    mount__end(r);
}

bool mount__reply_open(struct request *r)
{
    bool wanted = mount__answer_open(r->req, &r->fi);
    mount__end(r);
    return wanted;
}

bool mount__reply_create(struct request *r, const struct fs_attr *attr)
{
    struct fuse_entry_param e = entry_of(attr);
    bool wanted = fuse_reply_create(r->req, &e, &r->fi) == 0;
    mount__end(r);
    return wanted;
}

void mount__reply_data(struct request *r, struct slice data)
{
    fuse_reply_buf(r->req, (const char *)data.p, data.n);
    mount__end(r);
}

void mount__reply_count(struct request *r, size_t n)
{
    fuse_reply_write(r->req, n);
    mount__end(r);
}

void mount__reply_xattr(struct request *r, struct slice value)
{
    if (r->size == 0) {
        fuse_reply_xattr(r->req, value.n);
    } else if (value.n > r->size) {
        fuse_reply_err(r->req, ERANGE);
    } else {
        fuse_reply_buf(r->req, (const char *)value.p, value.n);
    }
    mount__end(r);
}

void mount__reply_lseek(struct request *r, uint64_t off)
{
    fuse_reply_lseek(r->req, (off_t)off);
    mount__end(r);
}

void mount__reply_statfs(struct request *r, const struct kv_statfs *s)
{
    uint64_t inodes = s->used.files + s->used.dirs, room = s->avail / BLOCK;
    struct statvfs v = {.f_bsize = BLOCK,
                        .f_frsize = BLOCK,
                        .f_blocks = s->total / BLOCK,
                        .f_bfree = room,
                        .f_bavail = room,
                        .f_files = inodes + room,
                        .f_ffree = room,
                        .f_favail = room,
                        .f_namemax = FS_NAME_MAX};
    fuse_reply_statfs(r->req, &v);
    mount__end(r);
}

/* ---- without a request ---- */

void mount__answer_err(fuse_req_t req, int status) { fuse_reply_err(req, errno_of(fuse_req_userdata(req), status)); }

void mount__answer_none(fuse_req_t req) { fuse_reply_none(req); }

bool mount__answer_open(fuse_req_t req, const struct fuse_file_info *fi) { return fuse_reply_open(req, fi) == 0; }

void mount__answer_attr(fuse_req_t req, const struct fs_attr *attr)
{
    struct stat st = stat_of(attr);
    fuse_reply_attr(req, &st, 0);
}
