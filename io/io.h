/* io.h - the one door of io/: the doors of base/doors.h on libuv and Linux, and what else of the outside world a
 * program needs: signals, child processes, file descriptors to watch. The only folder that includes uv.h.
 *
 * One loop, one thread: everything here is called from the loop's thread and calls back on it. Inside, the disk has
 * threads of its own (one for the log's lane, one for bulk, a few for reads). */
#ifndef QFS_IO_H
#define QFS_IO_H

#include <signal.h>
#include <sys/types.h>

#include "base/base.h"

struct io_loop;

/* Also prepares the process: SIGPIPE is ignored, the limit of open files is raised to 65,536 where we are allowed to,
 * else the soft one to the hard one (children get the old ones back). */
struct io_loop *io_loop_new(void);
/* How many files this process may have open. */
uint64_t io_files_max(void);
/* Runs until io_loop_stop(). */
void io_loop_run(struct io_loop *l);
void io_loop_stop(struct io_loop *l);
/* Closes what is left (connections: closed(QE_STOPPED); timers, watches, children: forgotten; io_work: waited for) and
 * frees. Disks must have been closed. */
void io_loop_free(struct io_loop *l);
/* Where connections say what is wrong with what they receive; NULL (the beginning) is silence. */
void io_loop_trace(struct io_loop *l, const struct trace *trace);
struct clock *io_clock(struct io_loop *l);
struct net *io_net(struct io_loop *l);

/* The files of one directory (made if it is missing, mode 0700), locked against a second process: QE_BUSY, `why` names
 * the holder's pid. Other failures: -errno with `why`. WRITEs with `durable` are O_DIRECT with RWF_DSYNC where the
 * filesystem can, else write and fdatasync. */
int io_disk_open(struct io_loop *l, const char *dir, struct disk **out, struct buf *why);
/* Waits until what was submitted has run; no done() is called any more, neither for that nor for what is submitted
 * afterwards. So close the disk first and free its users then: they may not free what a thread still works on. */
void io_disk_close(struct disk *d);

/* ---- signals, watches, processes ---- */
void io_on_signal(struct io_loop *l, int signum, void (*fired)(void *arg, int signum), void *arg);

struct io_watch;
/* Calls ready() whenever fd is readable (level-triggered). The descriptor is made non-blocking. NULL: it is of a kind
 * that cannot be watched (a regular file). */
struct io_watch *io_watch_readable(struct io_loop *l, int fd, void (*ready)(void *arg), void *arg);
void io_watch_stop(struct io_watch *w);

/* Runs fn(arg) on a pool thread, then done(arg) on the loop. */
void io_work(struct io_loop *l, void (*fn)(void *arg), void (*done)(void *arg), void *arg);

struct io_child_options {
    char *const *argv;                  /* argv[0] is looked up in PATH */
    char *const *env;                   /* NULL: inherit */
    const char *cwd;                    /* NULL: inherit */
    int stdin_fd, stdout_fd, stderr_fd; /* -1: /dev/null */
    bool detached;                      /* own session: survives this process */
    bool die_with_parent;               /* SIGKILL when this process dies */
    void (*exited)(void *arg, int64_t status, int signum);
    void *arg;
};
struct io_child;
/* 0 or -errno (ENOENT: no such program). exited() comes once; the struct is gone after it. */
int io_spawn(struct io_loop *l, const struct io_child_options *o, struct io_child **out);
pid_t io_child_pid(const struct io_child *c);
void io_child_kill(struct io_child *c, int signum);
/* Forget the child: no exited() any more. */
void io_child_release(struct io_child *c);

/* A trace sink that writes "time level text" lines to a file descriptor (stderr, a log file). */
void io_trace_fd(struct trace *t, int fd, enum trace_level level);
/* 64 random bits from the kernel: seeds, nonces, ids. */
uint64_t io_random(void);

#endif
