/* net.c - the net door: listening, dialling, and the turn's steps for all connections. conn.c has a connection's life
 * once it is up.
 *
 * Happy path of a dial: resolve the name (at once if it is a number, else on libuv's pool), connect to its addresses in
 * turn, open(). Failures come as closed() before the loop waits again, never from inside net_dial(). A listener that
 * runs out of descriptors rests for a moment instead of spinning. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/io_priv.h"

#define ACCEPT_BURST   64
#define ACCEPT_REST_NS (50 * NS_PER_MS)
#define RETRY_NS       (1 * NS_PER_MS)
#define RETRY_NS_MAX   (64 * NS_PER_MS)
#define RETRIES_MAX    80 /* about 5 s */

static struct io__net *of(struct net *n) { return container_of(n, struct io__net, base); }
static struct clock *clock_of(struct io__net *n) { return &n->loop->clock.base; }

/* ---- listening --------------------------------------------------------------------------------------------------- */

struct listener {
    struct io__owned owned;
    struct io__net *net;
    int fd;
    uv_poll_t poll;
    void (*accept)(void *arg, struct conn *c);
    void *arg;
    struct timer rest;
    char *path; /* a unix socket's file, and which one it was when we made it */
    dev_t dev;
    ino_t ino;
};

static void accepted(struct listener *l, int fd, int family)
{
    struct io__conn *c = io__conn_new(l->net);
    c->fd = fd;
    c->state = IO_CONN_OPEN;
    io__addr_tune(fd, family);
    io__addr_name(fd, c->base.peer, sizeof(c->base.peer));
    l->accept(l->arg, &c->base);
    if (c->state != IO_CONN_OPEN) return;
    if (c->base.cb)
        io__conn_up(c);
    else
        io__conn_fail(c, 0);
}

static void on_connection(uv_poll_t *p, int status, int events)
{
    struct listener *l = container_of(p, struct listener, poll);
    for (int i = 0; i < ACCEPT_BURST; i++) {
        struct sockaddr_storage sa;
        socklen_t n = sizeof(sa);
        int fd = accept4(l->fd, (struct sockaddr *)&sa, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            accepted(l, fd, sa.ss_family);
        else if (errno == EAGAIN)
            return;
        else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            break;
    }
    if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM) return;
    trace_warn(l->net->loop->trace, "net: cannot accept a connection: %s", err_text(-errno));
    uv_poll_stop(&l->poll);
    clock_arm(clock_of(l->net), &l->rest, clock_now(clock_of(l->net)) + ACCEPT_REST_NS);
}

static void on_rested(struct timer *t)
{
    struct listener *l = t->arg;
    uv_poll_start(&l->poll, UV_READABLE, on_connection);
}

static void on_listener_closed(uv_handle_t *h)
{
    struct listener *l = container_of((uv_poll_t *)h, struct listener, poll);
    free(l->path);
    free(l);
}

static void close_listener(struct io__owned *o)
{
    struct listener *l = container_of(o, struct listener, owned);
    struct stat st;
    if (l->path && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino) unlink(l->path);
    clock_disarm(clock_of(l->net), &l->rest);
    uv_close((uv_handle_t *)&l->poll, on_listener_closed);
    close(l->fd);
}

static int listen_on(struct io__net *n, int fd, const char *path, void (*accept)(void *arg, struct conn *c), void *arg)
{
    struct listener *l = xcalloc(1, sizeof(*l));
    *l = (struct listener){.owned.close = close_listener, .net = n, .fd = fd, .accept = accept, .arg = arg};
    l->rest = (struct timer){.fire = on_rested, .arg = l};
    int err = uv_poll_init(&n->loop->uv, &l->poll, fd);
    if (err < 0) {
        close(fd);
        free(l);
        return err;
    }
    struct stat st;
    if (path && lstat(path, &st) == 0) {
        l->path = strdup(path);
        l->dev = st.st_dev;
        l->ino = st.st_ino;
    }
    list_push_back(&n->loop->owned, &l->owned.link);
    check(uv_poll_start(&l->poll, UV_READABLE, on_connection) == 0);
    return 0;
}

/* A name may stand for several addresses (localhost: ::1 and 127.0.0.1). It is enough that one of them is ours, but one
 * that is in use is an error: half a listener would be a riddle. */
static int listen_tcp(struct io__net *n, const char *host, const char *port, void (*accept)(void *arg, struct conn *c),
                      void *arg)
{
    struct addrinfo *found, hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    if (!*host) hints.ai_family = AF_INET; /* "any": IPv4; say [::] for IPv6 */
    if (getaddrinfo(*host ? host : NULL, port, &hints, &found) != 0) return -EADDRNOTAVAIL;
    int err = -EADDRNOTAVAIL, got = 0;
    for (struct addrinfo *ai = found; ai; ai = ai->ai_next) {
        int r = io__addr_listen_tcp(ai);
        if (r >= 0) r = listen_on(n, r, NULL, accept, arg);
        if (r == 0)
            got++;
        else if (err == -EADDRNOTAVAIL)
            err = r;
    }
    freeaddrinfo(found);
    return got && (err == -EADDRNOTAVAIL || err == -EAFNOSUPPORT) ? 0 : err;
}

static int op_listen(struct net *base, const char *addr, void (*accept)(void *arg, struct conn *c), void *arg)
{
    struct io__net *n = of(base);
    const char *path = io__addr_unix(addr);
    char host[256], port[8];
    if (path) {
        int fd = io__addr_listen_unix(path);
        return fd < 0 ? fd : listen_on(n, fd, path, accept, arg);
    }
    int err = io__addr_split(addr, host, port);
    return err ? err : listen_tcp(n, host, port, accept, arg);
}

/* ---- dialling ---------------------------------------------------------------------------------------------------- */

static void on_writable(uv_poll_t *p, int status, int events)
{
    struct io__conn *c = container_of(p, struct io__conn, poll);
    int err = 0;
    socklen_t n = sizeof(err);
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &n) < 0) err = errno;
    if (!err && status < 0) err = ECONNREFUSED;
    if (!err && io__addr_self(c->fd)) err = ECONNREFUSED;
    if (err) {
        c->err = -err;
        io__conn_unpoll(c); /* then the next address */
        return;
    }
    c->state = IO_CONN_OPEN;
    io__conn_up(c);
    if (c->state == IO_CONN_OPEN && c->base.cb->open) c->base.cb->open(&c->base);
}

static int connect_to(struct io__conn *c, const struct addrinfo *ai)
{
    int fd = io__addr_socket(ai ? ai->ai_family : AF_UNIX);
    if (fd < 0) return fd;
    int err;
    if (ai)
        err = connect(fd, ai->ai_addr, ai->ai_addrlen) < 0 ? -errno : 0;
    else
        err = io__addr_connect_unix(fd, io__addr_unix(c->addr));
    if (err && err != -EINPROGRESS) {
        close(fd);
        return err;
    }
    c->fd = fd;
    io__conn_poll(c, UV_WRITABLE, on_writable);
    return 0;
}

/* A unix socket whose backlog is full refuses a non-blocking connect; there is nothing to poll for. */
static bool retry_later(struct io__conn *c)
{
    if (c->err != -EAGAIN || c->tries >= RETRIES_MAX) return false;
    uint64_t wait = min_u64(RETRY_NS << (c->tries < 16 ? c->tries : 16), RETRY_NS_MAX);
    c->tries++;
    clock_arm(clock_of(c->net), &c->retry, clock_now(clock_of(c->net)) + wait);
    return true;
}

void io__conn_dial(struct io__conn *c)
{
    if (io__addr_unix(c->addr)) {
        if (!c->err || c->err == -EAGAIN) {
            c->err = connect_to(c, NULL);
            if (c->err == 0 || retry_later(c)) return;
        }
    } else {
        while (c->next) {
            struct addrinfo *ai = c->next;
            c->next = ai->ai_next;
            c->err = connect_to(c, ai);
            if (c->err == 0) return;
        }
    }
    io__conn_fail(c, c->err == -EAGAIN ? -ETIMEDOUT : c->err);
}

static void on_retry(struct timer *t) { io__conn_dial(t->arg); }

static void on_resolved(uv_getaddrinfo_t *req, int status, struct addrinfo *found)
{
    struct io__conn *c = container_of(req, struct io__conn, resolve);
    c->resolving = false;
    c->found = c->next = found;
    if (c->state == IO_CONN_CLOSING) {
        io__conn_end(c);
    } else if (status < 0) {
        trace_warn(c->net->loop->trace, "net: cannot find the address of %s: %s", c->addr, uv_strerror(status));
        io__conn_fail(c, -EHOSTUNREACH);
    } else {
        io__conn_dial(c);
    }
}

static void resolve(struct io__conn *c)
{
    char host[256], port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    if (io__addr_split(c->addr, host, port) < 0 || !*host) {
        io__conn_fail(c, -EINVAL);
        return;
    }
    if (getaddrinfo(host, port, &hints, &c->found) == 0) {
        c->next = c->found;
        io__conn_dial(c);
        return;
    }
    c->found = NULL;
    hints.ai_flags = AI_NUMERICSERV | AI_ADDRCONFIG;
    int err = uv_getaddrinfo(&c->net->loop->uv, &c->resolve, on_resolved, host, port, &hints);
    c->resolving = err == 0;
    if (err) io__conn_fail(c, -EINVAL); /* a name that cannot be a host name */
}

static struct conn *op_dial(struct net *base, const char *addr, const struct conn_cb *cb, void *arg)
{
    struct io__net *n = of(base);
    struct io__conn *c = io__conn_new(n);
    c->base.cb = cb;
    c->base.arg = arg;
    snprintf(c->base.peer, sizeof(c->base.peer), "%s", addr);
    c->addr = strdup(addr);
    check(c->addr);
    c->retry = (struct timer){.fire = on_retry, .arg = c};
    if (n->loop->closing) {
        c->base.cb = NULL; /* nobody is left to hear of it */
        io__conn_fail(c, QE_STOPPED);
    } else if (io__addr_unix(addr)) {
        io__conn_dial(c);
    } else {
        resolve(c);
    }
    return &c->base;
}

/* ---- the turn's steps -------------------------------------------------------------------------------------------- */

const struct net_ops io__net_ops = {
    .listen = op_listen,
    .dial = op_dial,
    .send = io__conn_send,
    .queued = io__conn_queued,
    .pause = io__conn_pause,
    .close = io__conn_close,
};

void io__net_init(struct io__net *n, struct io_loop *l)
{
    n->base.ops = &io__net_ops;
    n->loop = l;
    list_init(&n->dirty);
    list_init(&n->later);
    io__grant_init(n);
}

bool io__net_idle(const struct io__net *n) { return list_empty(&n->dirty) && list_empty(&n->later); }
