/* session.c - the FUSE session: mounting, what is agreed with the kernel, reading requests, unmounting.
 *
 * Happy path: mount_new() mounts; mount_ready() reads requests until there are none and starts each (ops.c), which
 * replies when the store has answered; the kernel's end of the connection (ENODEV) is the end. Nothing here waits:
 * unmounting, which can need answers from this very mount, runs on a thread of its own. */
#include "mount/state.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define READAHEAD_KIB 1024u
#define TURN_MAX 128              /* requests read in one turn of the loop */

/* ---- what libfuse has to say: during mount_new() it explains a failure, later it is traced. One place for the
 * process, as libfuse's own. ---- */

static struct {
    struct buf *text;
    const struct trace *trace;
} fuse_says;

__attribute__((format(printf, 2, 0))) static void on_fuse_log(enum fuse_log_level level, const char *fmt, va_list args)
{
    char line[512];
    int n = vsnprintf(line, sizeof line, fmt, args);
    if (n < 0) return;
    if (fuse_says.text) {
        buf_append(fuse_says.text, line, strlen(line));
    } else {
        trace_warn(fuse_says.trace, "mount: libfuse: %s", line);
    }
}

/* ---- mounting ---- */

void mount__op_init(void *mount, struct fuse_conn_info *conn)
{
    struct mount *m = mount;
    /* Not among them: POSIX_LOCKS and FLOCK_LOCKS (ops.c), WRITEBACK_CACHE (the kernel's write buffer cannot be
     * revoked), HANDLE_KILLPRIV (the kernel takes set-id bits away by SETATTR), SPLICE (data is in memory here as it
     * is), POSIX_ACL, READDIRPLUS (ops_dir.c). */
    const unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_EXPORT_SUPPORT |
                            FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS;
    conn->want = wanted & conn->capable;
    conn->max_write = MOUNT_IO_MAX;
    conn->max_read = MOUNT_IO_MAX;
    conn->max_readahead = MOUNT_IO_MAX;
    conn->max_background = 128;
    conn->congestion_threshold = 96;
    conn->time_gran = 1;
    m->inited = true;
    if (!(conn->capable & FUSE_CAP_AUTO_INVAL_DATA)) {
        trace_error(m->trace, "mount: this kernel's FUSE is too old (no AUTO_INVAL_DATA): changes would not be seen");
        fuse_session_exit(m->se);
    }
}

static int make_args(const struct mount_options *o, struct fuse_args *args)
{
    char *opts = NULL, max_read[32], fsname[1024];
    snprintf(max_read, sizeof max_read, "max_read=%u", MOUNT_IO_MAX);
    snprintf(fsname, sizeof fsname, "fsname=%s", o->fsname ? o->fsname : "quorumfs");
    int bad = fuse_opt_add_opt(&opts, "default_permissions,subtype=quorumfs");
    bad |= fuse_opt_add_opt(&opts, max_read) | fuse_opt_add_opt_escaped(&opts, fsname);
    if (o->allow_other) bad |= fuse_opt_add_opt(&opts, "allow_other");
    if (o->readonly) bad |= fuse_opt_add_opt(&opts, "ro");
    bad |= fuse_opt_add_arg(args, "quorumfs") | fuse_opt_add_arg(args, "-o") | fuse_opt_add_arg(args, opts);
    free(opts);
    return bad ? -ENOMEM : 0;
}

static int open_session(struct mount *m, const struct mount_options *o, struct buf *why)
{
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    int err = make_args(o, &args);
    if (err) goto out;
    m->se = fuse_session_new(&args, &mount__ops, sizeof mount__ops, m);
    err = -EINVAL;
    if (!m->se) goto out;
    errno = 0;
    if (fuse_session_mount(m->se, m->point) != 0) {
        err = errno ? -errno : -EPERM;
        fuse_session_destroy(m->se);
        m->se = NULL;
        goto out;
    }
    int fd = fuse_session_fd(m->se), flags = fcntl(fd, F_GETFL);
    check(flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0);
    err = 0;
out:
    fuse_opt_free_args(&args);
    return err;
}

int mount_new(struct clock *clock, const struct mount_options *o, struct mount **out, struct buf *why)
{
    struct buf said = {0};
    struct mount *m = xcalloc(1, sizeof(*m));
    int err = mount__place_prepare(o, &m->point, why);
    if (err) goto out;
    fuse_says.text = &said;
    fuse_says.trace = o->trace;
    fuse_set_log_func(on_fuse_log);
    err = open_session(m, o, why);
    fuse_says.text = NULL;
    if (err) {
        put_u8(&said, 0);
        mount__place_explain(o, (const char *)said.p, why);
        goto out;
    }
    m->clock = clock;
    m->trace = o->trace;
    m->debug = o->debug;
    m->soft_timeout_ms = o->soft_timeout_ms;
    mount__requests_init(m);
    mount__nodes_init(&m->nodes);
    mount__owed_init(m);
    mount__notify_init(m);
out:
    buf_free(&said);
    if (err) {
        free(m->point);
        free(m);
        m = NULL;
    }
    *out = m;
    return err;
}

void mount_start(struct mount *m, struct kv_client *client) { m->client = client; }

/* ---- running ---- */

int mount_fd(const struct mount *m) { return fuse_session_fd(m->se); }

unsigned mount_pending(const struct mount *m) { return (unsigned)m->nactive; }

static void on_inited(struct mount *m)
{
    m->tuned = true;
    mount__place_readahead(m->point, READAHEAD_KIB);
}

bool mount_ready(struct mount *m)
{
    check(m->client);
    for (int i = 0; i < TURN_MAX && !m->dead; i++) {
        mount__notify_collect(m);
        int n = fuse_session_receive_buf(m->se, &m->in);
        if (n == -EAGAIN || n == -EINTR) break;
        if (n < 0) trace_error(m->trace, "mount: reading requests: %s", err_text(n));
        if (n > 0) fuse_session_process_buf(m->se, &m->in);
        m->dead = n <= 0 || fuse_session_exited(m->se);
        if (m->inited && !m->tuned) on_inited(m);
    }
    return !m->dead;
}

/* ---- the end ---- */

static void *unmount(void *arg)
{
    struct mount *m = arg;
    mount__place_unmount(m->point, false);
    return NULL;
}

void mount_unmount(struct mount *m)
{
    if (m->dead || m->unmounting) return;
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    m->unmounting = pthread_create(&m->unmounter, NULL, unmount, m) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* All get EINTR; those with the notifier come back by themselves. One that ends may start another, behind it. */
static void cancel_all(struct mount *m)
{
    struct list *l = m->active.next;
    while (l != &m->active) {
        struct request *r = container_of(l, struct request, link);
        bool noticed = r->phase == REQUEST_NOTICE;
        mount__cancel(r);
        l = noticed ? l->next : m->active.next;
    }
}

void mount_free(struct mount *m)
{
    cancel_all(m);
    mount__owed_free(m);
    if (!m->dead) mount__place_unmount(m->point, true);
    if (m->unmounting) pthread_join(m->unmounter, NULL);
    mount__notify_free(m);
    mount__dirs_free(m);
    mount__requests_free(m);
    mount__nodes_free(&m->nodes);
    fuse_session_unmount(m->se);
    fuse_session_destroy(m->se);
    free(m->in.mem);
    buf_free(&m->scratch);
    free(m->point);
    free(m);
}
