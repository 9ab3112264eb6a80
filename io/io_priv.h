/* io_priv.h - what the files of io/ share: the loop's parts and the steps of its turn. Private to io/. */
#ifndef QFS_IO_PRIV_H
#define QFS_IO_PRIV_H

#include <sys/resource.h>
#include <uv.h>

#include "io/io.h"
#include "io/spin.h"

/* A thing that lives until its owner closes it or io_loop_free() does. */
struct io__owned {
    struct list link;
    void (*close)(struct io__owned *o);
};

/* Timers in a heap of our own; a timerfd wakes the loop at the next deadline (nanoseconds, and it counts suspended
 * time, which epoll's timeout does not). */
struct io__clock {
    struct clock base;
    struct heap heap;
    uint64_t floor;      /* earliest time a timer can be armed for: that of the last round */
    uint64_t programmed; /* what the timerfd waits for; 0: nothing */
    int fd;
    uv_poll_t poll;
};

struct io__net {
    struct net base;
    struct io_loop *loop;
    struct list dirty; /* connections with gathered frames, written at the turn's end */
    struct list later; /* connections with a callback owed before the loop waits */
    size_t granted;    /* bytes of frames that guests may receive now (grant.c) */
    size_t grants_max; /* at most; less, and sooner, in tests */
    uint64_t stall_ns;
    struct list wanting, granting;
    struct timer grant_timer;
    uint8_t *scratch;  /* what is read lands here; no connection keeps a buffer while it is idle */
};

struct io_loop {
    uv_loop_t uv;
    uv_prepare_t turn;
    uv_idle_t busy; /* active: the next poll must not wait */
    struct io__spin spin;
    bool alone;      /* one processor: a spin would only keep others from it */
    uint64_t events; /* that came from outside, so far: bytes read, disk completions, timers, watched descriptors */
    struct io__clock clock;
    struct io__net net;
    struct list owned;   /* struct io__owned */
    struct list disks;   /* struct io_disk */
    struct rlimit files; /* RLIMIT_NOFILE as it was, for children */
    const struct trace *trace;
    bool closing;
};

/* ---- clock.c --- */
void io__clock_init(struct io__clock *k, uv_loop_t *uv);
void io__clock_close(struct io__clock *k);
bool io__clock_fire(struct io__clock *k); /* one round: what was due when it began. False: nothing was */
bool io__clock_due(struct io__clock *k);
void io__clock_program(struct io__clock *k); /* makes sure that the loop wakes up for the next deadline */

/* ---- disk.c, disk_files.c --- */
bool io__disk_drain(struct io_loop *l); /* hands out the completions at hand. False: there were none */

struct io__files;
/* The operations themselves, blocking, from any thread. 0 or -errno. */
int io__files_open(const char *dir, struct io__files **out, struct buf *why);
void io__files_close(struct io__files *f);
int64_t io__files_run(struct io__files *f, const struct disk_io *io);
int64_t io__files_read(struct io__files *f, const char *name, uint64_t off, void *p, size_t n);
int64_t io__files_try_read(struct io__files *f, const char *name, uint64_t off, void *p, uint32_t n);
int io__files_list(struct io__files *f, void (*each)(void *arg, const char *name, uint64_t size), void *arg);
int io__files_space(struct io__files *f, uint64_t *total, uint64_t *avail);

/* ---- net.c, conn.c, addr.c --- */
void io__net_init(struct io__net *n, struct io_loop *l);
bool io__net_later(struct io__net *n); /* owed callbacks. False: there were none */
void io__net_flush(struct io__net *n); /* writes what the turn has gathered */
bool io__net_idle(const struct io__net *n);

#define IO_UNIX_PREFIX "unix:"
struct addrinfo;
const char *io__addr_unix(const char *addr); /* the path, or NULL where it is no unix address */
/* Splits "host:port" and "[v6]:port". 0 or -EINVAL. An empty host or "*" is any address: host is then "". */
int io__addr_split(const char *addr, char host[256], char port[8]);
void io__addr_tune(int fd, int family);             /* our options, for an accepted one */
int io__addr_socket(int family);                    /* non-blocking stream socket with our options, or -errno */
void io__addr_name(int fd, char *out, size_t n);    /* the peer's name, for messages */
bool io__addr_self(int fd);                         /* TCP joined this socket with itself */
int io__addr_listen_tcp(const struct addrinfo *ai); /* descriptor or -errno */
int io__addr_listen_unix(const char *path);
int io__addr_connect_unix(int fd, const char *path); /* 0 or -errno */

enum io__conn_state { IO_CONN_DIALLING, IO_CONN_OPEN, IO_CONN_CLOSING };

/* When drained() is due: once a queue that was long is under the low mark, or, where the kernel was full but the queue
 * never long, once it is empty. */
enum io__owes { IO_OWES_NOTHING, IO_OWES_AT_EMPTY, IO_OWES_AT_LOW };

struct io__conn {
    struct conn base;
    struct io__owned owned;
    struct io__net *net;
    struct list dirty, later;
    enum io__conn_state state;
    int fd;         /* -1: none */
    int err;        /* what closed() will say */
    bool polling;   /* `poll` is initialised and not yet closed */
    bool resolving; /* `resolve` is under way */
    bool paused;
    bool blocked;       /* the kernel took no more: waiting until the socket is writable */
    enum io__owes owes; /* drained() */
    int broken;         /* writing failed: only what has arrived is still read */
    int events;         /* what `poll` waits for */
    uv_poll_t poll;
    struct buf out, in; /* in: the incomplete frame; more than that only while paused */
    size_t grant;       /* bytes of the incomplete frame that it may receive; 0: none */
    uint64_t granted_at;    /* when bytes of it came last */
    struct list granting;   /* net.granting, or net.wanting */
    size_t out_at;      /* out.p[out_at..n) is still to be written */
    /* dialling */
    char *addr;
    uv_getaddrinfo_t resolve;
    struct addrinfo *found, *next;
    struct timer retry;
    unsigned tries;
};

/* ---- grant.c --- */
void io__grant_init(struct io__net *n);
/* May the incomplete frame in `in`, whole bytes long, go on? False: it is told when (its reading has to stop). */
bool io__grant_get(struct io__conn *c, size_t whole);
void io__grant_end(struct io__conn *c); /* the frame is complete, or the connection ends */

extern const struct net_ops io__net_ops;
struct io__conn *io__conn_new(struct io__net *n);
void io__conn_up(struct io__conn *c);                              /* fd is connected: reads from now on */
void io__conn_fail(struct io__conn *c, int err);                   /* closed(err) will come; never calls back */
void io__conn_poll(struct io__conn *c, int events, uv_poll_cb cb); /* 0: stops */
void io__conn_resume(struct io__conn *c);                          /* reads again, if nothing else is against it */
void io__conn_unpoll(struct io__conn *c);                          /* closes `poll` and fd; on_unpolled goes on */
void io__conn_dial(struct io__conn *c);                            /* begins, or goes on with the next address */
void io__conn_end(struct io__conn *c);                             /* closed(), free */
int io__conn_send(struct conn *base, uint8_t type, const struct slice *v, unsigned nv);
size_t io__conn_queued(struct conn *base);
void io__conn_pause(struct conn *base, bool on);
void io__conn_close(struct conn *base);

#endif
