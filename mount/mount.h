/* mount.h - the one door of mount/: FUSE requests become operations of a kv client, replies become FUSE replies.
 * Translation only: every operation runs where the data is. The only folder that includes libfuse headers.
 *
 * Coherence, stage 1 (DESIGN section 6): attributes and entries are never cached by time (timeouts 0), every lookup,
 * attribute and read is answered by the leader; the kernel's pages of a file are kept only while the leader confirms
 * that its version is unchanged. One loop, one thread: the caller watches mount_fd() and calls mount_ready(). */
#ifndef QFS_MOUNT_H
#define QFS_MOUNT_H

#include "kv/kv.h"

struct mount_options {
    const char *mountpoint;
    bool allow_other;                  /* the default as root */
    bool readonly;
    bool debug;                        /* trace every FUSE request */
    uint64_t soft_timeout_ms;          /* 0: hard, wait for ever (killable); else operations fail with ETIMEDOUT */
    const char *fsname;                /* what /proc/mounts shows as source, with type fuse.quorumfs */
    const struct trace *trace;
};

struct mount;

/* Mounts (a dead mount of ours at the same place is unmounted first). The client is the caller's and must have been
 * made with config.mount. 0, or a negative errno with a text in `why` that says what to do. */
int mount_new(struct clock *clock, const struct mount_options *options, struct mount **out, struct buf *why);
/* The client calls back into the mount: give these to its config (arg: the mount). Then hand the client over. */
void mount_session_lost(void *mount);
void mount_owed(void *mount);
void mount_start(struct mount *m, struct kv_client *client);

int mount_fd(const struct mount *m);
/* Reads and starts all requests that wait, without blocking. False once unmounted (or by an error). */
bool mount_ready(struct mount *m);
/* Begins to unmount; mount_ready() returns false when the kernel has let go. */
void mount_unmount(struct mount *m);
/* Unmounts if that has not happened; what is under way gets EINTR. Before the client is freed. */
void mount_free(struct mount *m);
/* Requests under way, for a clean stop. */
unsigned mount_pending(const struct mount *m);

#endif
