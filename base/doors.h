/* doors.h - the three doors to the outside world: disk, net, clock. Everything that the pure folders do to the world
 * and everything they learn from it passes here. io/ implements them on libuv, tests/sim implements them in memory; a
 * component cannot tell which.
 *
 * Completions and callbacks arrive on the one loop that owns the component, never from inside the call that asked for
 * them, unless a function says otherwise. Times are nanoseconds. */
#ifndef QFS_DOORS_H
#define QFS_DOORS_H

#include "base/buf.h"
#include "base/heap.h"
#include "base/list.h"

/* ---- clock ------------------------------------------------------------------------------------------------------ */

struct timer {
    struct heap_node node;                 /* the door's */
    void (*fire)(struct timer *t);
    void *arg;
};

struct clock;
struct clock_ops {
    uint64_t (*now)(struct clock *c);
    int64_t (*wall)(struct clock *c);
    void (*arm)(struct clock *c, struct timer *t, uint64_t at);
    void (*disarm)(struct clock *c, struct timer *t);
};
struct clock {
    const struct clock_ops *ops;
};

/* Monotonic, counts while the machine is suspended. Read anew each time: also a process that was frozen in the middle of a
 * callback sees the time that has passed. */
static inline uint64_t clock_now(struct clock *c) { return c->ops->now(c); }
/* Nanoseconds since 1970 as this machine believes; may jump. */
static inline int64_t clock_wall(struct clock *c) { return c->ops->wall(c); }
/* Calls t->fire(t) once, at or after `at`; re-arming moves it. A time in the past (0, say) means: as soon as the
 * events at hand are handled, before the loop waits again - the place to send what one turn has gathered. */
static inline void clock_arm(struct clock *c, struct timer *t, uint64_t at) { c->ops->arm(c, t, at); }
static inline void clock_disarm(struct clock *c, struct timer *t) { c->ops->disarm(c, t); }

/* ---- disk: named files of one node's data directory -------------------------------------------------------------- */

#define DISK_NAME_MAX 48
#define DISK_BLOCK 4096u

enum disk_op {
    DISK_READ,       /* n bytes at off into p; the result is short at the end of the file; -ENOENT */
    DISK_WRITE,      /* n bytes at off from p; off, n and p's address are multiples of DISK_BLOCK; creates the file.
                      * With `durable` the bytes and the size are on stable storage when it completes */
    DISK_SYNC,       /* all completed writes of the file are on stable storage when it completes */
    DISK_ALLOC,      /* creates the file if need be and makes it n bytes long, durably, its name too, with space
                      * reserved (-ENOSPC if not). New bytes read as zeros. With `durable` they are written out as
                      * zeros, too, so that later writes in place change no file system metadata */
    DISK_RENAME,     /* name becomes to, replacing it; durable when it completes */
    DISK_REMOVE,     /* -ENOENT is no error */
};

/* Within LOG and within BULK operations run one after the other in the order they were submitted; READ and the lanes
 * among each other have no order. */
enum disk_lane { DISK_LANE_LOG, DISK_LANE_BULK, DISK_LANE_READ };

struct disk_io {
    enum disk_op op;
    enum disk_lane lane;
    bool durable;
    char name[DISK_NAME_MAX], to[DISK_NAME_MAX];
    uint64_t off;
    void *p;                               /* the caller's, untouched by it until done */
    uint32_t n;
    void (*done)(struct disk_io *io, int64_t result);    /* bytes (READ, WRITE), 0, or a negative error; may free io */
    void *arg;
    struct list link;                      /* the door's, while under way */
    uint64_t door;
};

struct disk;
struct disk_ops {
    void (*submit)(struct disk *d, struct disk_io *io);
    int64_t (*try_read)(struct disk *d, const char *name, uint64_t off, void *p, uint32_t n);
    int (*list)(struct disk *d, void (*each)(void *arg, const char *name, uint64_t size), void *arg);
    int64_t (*load)(struct disk *d, const char *name, uint64_t off, void *p, size_t n);
    int (*space)(struct disk *d, uint64_t *total, uint64_t *avail);
    int (*settle)(struct disk *d, const char *name);
};
struct disk {
    const struct disk_ops *ops;
};

/* The io struct is the caller's and must live until done; DISK_ALLOC takes its length in off. */
static inline void disk_submit(struct disk *d, struct disk_io *io) { d->ops->submit(d, io); }
/* Reads at once what needs no waiting for the device (-EAGAIN where it would). */
static inline int64_t disk_try_read(struct disk *d, const char *name, uint64_t off, void *p, uint32_t n)
{
    return d->ops->try_read(d, name, off, p, n);
}
/* The next three block; they are for recovery, before a node takes part. */
static inline int disk_list(struct disk *d, void (*each)(void *arg, const char *name, uint64_t size), void *arg)
{
    return d->ops->list(d, each, arg);
}
static inline int64_t disk_load(struct disk *d, const char *name, uint64_t off, void *p, size_t n)
{
    return d->ops->load(d, name, off, p, n);
}
/* What is read of the file now is durable when it returns 0, and its name. */
static inline int disk_settle(struct disk *d, const char *name) { return d->ops->settle(d, name); }
static inline int disk_space(struct disk *d, uint64_t *total, uint64_t *avail)
{
    return d->ops->space(d, total, avail);
}

/* ---- net: connections that carry frames (base/frame.h) ----------------------------------------------------------- */

struct conn;
struct conn_cb {
    void (*open)(struct conn *c);                          /* a dialled connection is up; NULL for accepted ones */
    void (*frame)(struct conn *c, uint8_t type, struct slice payload);   /* payload lives during the call */
    void (*drained)(struct conn *c);                       /* the send queue fell under its low mark; may be NULL */
    void (*closed)(struct conn *c, int err);               /* last call, once, also after conn_close() (err 0) or a
                                                            * failed dial; c is gone afterwards */
};

struct net;
struct net_ops {
    int (*listen)(struct net *n, const char *addr, void (*accept)(void *arg, struct conn *c), void *arg);
    struct conn *(*dial)(struct net *n, const char *addr, const struct conn_cb *cb, void *arg);
    int (*send)(struct conn *c, uint8_t type, const struct slice *v, unsigned nv);
    size_t (*queued)(struct conn *c);
    void (*pause)(struct conn *c, bool on);
    void (*close)(struct conn *c);
};
struct net {
    const struct net_ops *ops;
};
/* The doors' implementations embed this at the start of their own connection. */
struct conn {
    const struct net_ops *ops;
    const struct conn_cb *cb;
    void *arg;                             /* the user's */
    bool guest;                            /* set by the user: all guests together may have only so many bytes of frames
                                            * that have not come whole yet; the others wait their turn */
    char peer[64];                         /* for messages: the other end's address as far as known */
};

/* Addresses: "host:port" (TCP, TCP_NODELAY) or "unix:/path". accept() must set cb and arg of the connection it gets, or
 * close it. 0 or -EADDRINUSE, -EADDRNOTAVAIL, -EINVAL (no address), -EACCES. */
static inline int net_listen(struct net *n, const char *addr, void (*accept)(void *arg, struct conn *c), void *arg)
{
    return n->ops->listen(n, addr, accept, arg);
}
/* Never NULL: what goes wrong, also a bad address, comes as closed(err) later. */
static inline struct conn *net_dial(struct net *n, const char *addr, const struct conn_cb *cb, void *arg)
{
    return n->ops->dial(n, addr, cb, arg);
}
/* One frame, its payload the concatenation of the slices, borrowed during the call only. Small frames of one turn
 * leave in one system call. -ENOBUFS where the queue is over its limit (the frame is not sent), -ENOTCONN. */
static inline int conn_send(struct conn *c, uint8_t type, const struct slice *v, unsigned nv)
{
    return c->ops->send(c, type, v, nv);
}
static inline size_t conn_queued(struct conn *c) { return c->ops->queued(c); }    /* bytes not yet with the kernel */
static inline void conn_pause(struct conn *c, bool on) { c->ops->pause(c, on); }  /* stops reading: back-pressure */
static inline void conn_close(struct conn *c) { c->ops->close(c); }               /* closed() comes later */

#endif
