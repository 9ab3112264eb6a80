/* state.h - what the files of mount/ share: the mount, a request under way, an inode that the kernel knows, a directory
 * stream. Private to the folder.
 *
 * Life of a request: mount__begin() -> mount__send() -> finish() -> one mount__reply_*(), which ends it. finish() may
 * send a second operation instead of replying. It gets errors, too; an interrupted one has status -EINTR. */
#ifndef QFS_MOUNT_STATE_H
#define QFS_MOUNT_STATE_H

#define FUSE_USE_VERSION 35

#include <fuse3/fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>

#include "mount/mount.h"

#define MOUNT_IO_MAX (1u * 1024 * 1024)     /* of one READ or WRITE */

/* ---- inodes (node.c): regular files only ---- */

struct told {
    int64_t mtime;
    uint64_t size;
};
#define NODE_TOLD 4u

struct node {
    struct node *next;                /* in its bucket */
    struct list idle;                 /* in mount.idle while nothing holds it, oldest first */
    uint64_t ino;
    uint64_t version;                 /* the kernel's pages are not older than this; 0: nothing is known of them */
    struct told told[NODE_TOLD];      /* what attribute replies said, newest first */
    unsigned ntold;
    uint64_t opens;                   /* handles, and OPENs under way */
    uint64_t handles;
    bool owed;                        /* nameless: the last close gives an answer */
};

struct nodes {
    struct node **buckets;
    size_t nbuckets, count;
    struct list idle;
    size_t nidle;
};

/* Which reply tells attributes; they differ in what the kernel makes of them. */
enum tell { TELL_ENTRY, TELL_GETATTR, TELL_SETATTR };

/* ---- directory streams (dir.c) ---- */

struct dir;

/* ---- requests (request.c) ---- */

enum phase {
    REQUEST_CALL,                     /* at the cluster */
    REQUEST_PARKED,                   /* waits for other requests of this mount */
    REQUEST_NOTICE,                   /* with the notifier thread */
};

struct request {
    struct list link;                 /* mount.active or mount.free */
    struct list parked;               /* mount.parked, a dir's waiters, or the notifier's lists */
    struct list hurry;                /* mount.hurry: interrupted */
    struct list creating;             /* mount.creates */
    struct mount *m;
    fuse_req_t req;
    struct kv_call call;
    void (*finish)(struct request *r, const struct kv_reply *reply);
    enum phase phase;
    uint64_t hurry_at;                /* when an interrupted request is given up */
    uint64_t serial;                  /* of a CREATE */
    struct fuse_file_info fi;         /* of OPEN, CREATE */
    struct node *node;
    struct dir *dir;
    struct fs_attr attr;
    uint64_t off;
    size_t size;
    bool flag;                        /* the operation's own */
    atomic_bool claimed;              /* REQUEST_NOTICE: who sets it first replies */
    int noticed;                      /* what the notification returned */
};

/* ---- files without a name (owed.c) ---- */

struct owed {
    struct timer timer;
    bool armed, running, again, calling;
    struct kv_call call;
    uint64_t after, barrier;
    struct buf closed;                /* u64 inos whose last handle was closed since the last round */
    struct buf give;                  /* u64 inos this round gives an answer for */
};

/* ---- the notifier thread (notify.c) ---- */

struct notifier {
    pthread_t thread;
    bool started, stop;
    pthread_mutex_t lock;             /* guards stop, todo, done */
    pthread_cond_t wake;
    struct list todo, done;
    atomic_bool any_done;
};

struct mount {
    struct fuse_session *se;
    struct fuse_buf in;
    struct clock *clock;
    struct kv_client *client;
    const struct trace *trace;
    bool debug, dead, inited, tuned;
    uint64_t soft_timeout_ms;
    char *point;                      /* absolute */
    struct list active, free, parked, hurry, creates, dirs;
    size_t nactive, nfree;
    uint64_t create_serial;
    struct timer hurry_timer;
    uint64_t opens;                   /* handles of regular files, and OPENs and CREATEs under way */
    uint64_t unheld;                  /* UNLINKs and RENAMEs under way that said: no file is open here */
    struct nodes nodes;
    struct owed owed;
    struct notifier notifier;
    struct buf scratch;               /* directory replies are built here */
    pthread_t unmounter;
    bool unmounting;
};

/* place.c: the mount point */
int mount__place_prepare(const struct mount_options *o, char **point, struct buf *why);
void mount__place_explain(const struct mount_options *o, const char *log, struct buf *why);
void mount__place_unmount(const char *point, bool abort);
void mount__place_readahead(const char *point, unsigned kib);
void mount__say(struct buf *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ops.c and its parts: one function a FUSE operation */
extern const struct fuse_lowlevel_ops mount__ops;
void mount__op_init(void *mount, struct fuse_conn_info *conn);
void mount__op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void mount__op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void mount__op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void mount__op_readlink(fuse_req_t req, fuse_ino_t ino);
void mount__op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void mount__op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void mount__op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void mount__op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);
void mount__op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void mount__op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void mount__op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to_parent, const char *to_name,
                      unsigned flags);
void mount__op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void mount__op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi);
void mount__op_statfs(fuse_req_t req, fuse_ino_t ino);
void mount__op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags);
void mount__op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void mount__op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void mount__op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);
void mount__op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void mount__op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void mount__op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void mount__op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void mount__op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
                     struct fuse_file_info *fi);
void mount__op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi);
void mount__op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);
void mount__op_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_off, struct fuse_file_info *from_fi,
                               fuse_ino_t to, off_t to_off, struct fuse_file_info *to_fi, size_t len, int flags);
void mount__op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void mount__op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void mount__op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
/* ops_file.c: the OPENs that waited for an unheld UNLINK may go on. */
void mount__opens_go_on(struct mount *m);

/* ops_dir.c */
void mount__dirs_free(struct mount *m);

/* request.c. mount__begin() returns NULL where the caller is gone already (it has replied then). */
struct request *mount__begin(fuse_req_t req, enum kv_code code, uint64_t ino,
                             void (*finish)(struct request *r, const struct kv_reply *reply));
void mount__send(struct request *r);
void mount__park(struct request *r, struct list *where);
void mount__end(struct request *r);                     /* after the reply */
void mount__cancel(struct request *r);                  /* replies EINTR */
void mount__requests_init(struct mount *m);
void mount__requests_free(struct mount *m);

/* reply.c, the only caller of fuse_reply_*. Those that take a request end it. */
void mount__reply_err(struct request *r, int status);                    /* 0 or a negative error */
void mount__reply_stale(struct request *r, int status); /* of an operation on an inode: ENOENT is ESTALE */
void mount__reply_entry(struct request *r, const struct fs_attr *attr);
void mount__reply_attr(struct request *r, const struct fs_attr *attr);
void mount__reply_readlink(struct request *r, struct slice target);
bool mount__reply_open(struct request *r);                               /* false: nobody wants the handle any more */
bool mount__reply_create(struct request *r, const struct fs_attr *attr);
void mount__reply_data(struct request *r, struct slice data);
void mount__reply_count(struct request *r, size_t n);                    /* of WRITE, COPY_FILE_RANGE */
void mount__reply_xattr(struct request *r, struct slice value);          /* r->size: the caller's room, 0: a question */
void mount__reply_lseek(struct request *r, uint64_t off);
void mount__reply_statfs(struct request *r, const struct kv_statfs *s);
void mount__answer_err(fuse_req_t req, int status);
void mount__answer_none(fuse_req_t req);
bool mount__answer_open(fuse_req_t req, const struct fuse_file_info *fi);
void mount__answer_attr(fuse_req_t req, const struct fs_attr *attr);     /* from any thread */

/* node.c */
void mount__nodes_init(struct nodes *t);
void mount__nodes_free(struct nodes *t);
struct node *mount__node_find(struct mount *m, uint64_t ino);            /* NULL */
struct node *mount__node_get(struct mount *m, uint64_t ino);             /* made if it is not there */
void mount__node_settle(struct mount *m, struct node *n);                /* after opens or owed have changed */
void mount__node_forget(struct mount *m, uint64_t ino);
bool mount__node_tell(struct mount *m, const struct fs_attr *attr, enum tell how);
bool mount__node_opened(struct node *n, const struct fs_attr *attr);
void mount__node_dropped(struct mount *m, uint64_t ino, uint64_t version);

/* owed.c */
void mount__owed_init(struct mount *m);
void mount__owed_free(struct mount *m);
void mount__owed_soon(struct mount *m, uint64_t delay);                  /* ns */
void mount__owed_closed(struct mount *m, uint64_t ino);
void mount__owed_go_on(struct mount *m);                                 /* a CREATE has ended */

/* notify.c */
void mount__notify_init(struct mount *m);
void mount__notify_free(struct mount *m);
void mount__notify(struct request *r, const struct fs_attr *attr);       /* drops the pages, then replies attr */
void mount__notify_abandon(struct request *r);                           /* replies EINTR if it has not replied yet */
void mount__notify_collect(struct mount *m);

#endif
