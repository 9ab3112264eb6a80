/* conn.c - a connection that is up: frames out, frames in, the end.
 *
 * Out: small frames are gathered in `out` and written once, at the turn's end. A large one is written at once together
 * with what was gathered, straight from the caller's slices; only what the kernel does not take is copied. While the
 * kernel takes no more, frames queue up to QUEUE_MAX, then conn_send refuses.
 *
 * In: bytes are read into a buffer that all connections share and whole frames are delivered from there; only an
 * incomplete frame is kept, in `in`, which grows to that frame's size and goes away with it. Frames that arrive while
 * the user has paused stay in `in`, too.
 *
 * Failure: bytes that are no frame close the connection with QE_FRAME. A peer that closes is -ECONNRESET. When writing
 * fails, what the peer had sent before is still read and delivered. conn_close() writes what was gathered as far as the
 * kernel takes it at once; what it does not take is dropped. The struct lives until closed() has been called, from
 * libuv's close callback or from io__net_later(), so callbacks may close their own connection at any time. */
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "io/io_priv.h"

#define QUEUE_MAX  (64u * MIB)
#define QUEUE_LOW  (1u * MIB)   /* drained() */
#define GATHER_MAX (256u * KIB) /* that much is written without waiting for the turn's end */
#define LARGE      (64u * KIB)  /* a payload from here on is not copied if it can be helped */
#define KEEP_OUT   (16u * KIB) /* an empty send buffer larger than this is given back: there may be thousands */
#define SCRATCH    (64u * KIB)
#define READS_MAX  16 /* per turn and connection, so that one peer cannot starve the others */
#define SLICES_MAX 30

static struct io__conn *of(struct conn *c) { return container_of(c, struct io__conn, base); }
static size_t queued(const struct io__conn *c) { return c->out.n - c->out_at; }
static void on_event(uv_poll_t *p, int status, int events);

/* ---- life -------------------------------------------------------------------------------------------------------- */

static void close_owned(struct io__owned *o)
{
    struct io__conn *c = container_of(o, struct io__conn, owned);
    io__conn_fail(c, QE_STOPPED);
}

struct io__conn *io__conn_new(struct io__net *n)
{
    struct io__conn *c = xcalloc(1, sizeof(*c));
    c->base.ops = &io__net_ops;
    c->owned.close = close_owned;
    c->net = n;
    c->fd = -1;
    list_init(&c->dirty);
    list_init(&c->later);
    list_init(&c->granting);
    list_push_back(&n->loop->owned, &c->owned.link);
    return c;
}

void io__conn_poll(struct io__conn *c, int events, uv_poll_cb cb)
{
    if (!c->polling) {
        int err = uv_poll_init(&c->net->loop->uv, &c->poll, c->fd);
        if (err) {
            io__conn_fail(c, err);
            return;
        }
        c->polling = true;
    }
    c->events = events;
    if (events)
        check(uv_poll_start(&c->poll, events, cb) == 0);
    else
        uv_poll_stop(&c->poll);
}

static void on_unpolled(uv_handle_t *h)
{
    struct io__conn *c = container_of((uv_poll_t *)h, struct io__conn, poll);
    c->polling = false;
    if (c->state == IO_CONN_CLOSING)
        io__conn_end(c);
    else
        io__conn_dial(c);
}

void io__conn_unpoll(struct io__conn *c)
{
    uv_close((uv_handle_t *)&c->poll, on_unpolled);
    close(c->fd);
    c->fd = -1;
}

void io__conn_fail(struct io__conn *c, int err)
{
    if (c->state == IO_CONN_CLOSING) return;
    bool unpolling = c->polling && c->fd < 0;
    c->state = IO_CONN_CLOSING;
    c->err = err;
    list_remove(&c->dirty);
    list_remove(&c->later);
    io__grant_end(c);
    clock_disarm(&c->net->loop->clock.base, &c->retry);
    if (c->resolving) uv_cancel((uv_req_t *)&c->resolve); /* its callback comes in any case */
    if (unpolling || c->resolving) return;
    if (c->polling) {
        io__conn_unpoll(c);
        return;
    }
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    list_push_back(&c->net->later, &c->later);
}

void io__conn_end(struct io__conn *c)
{
    list_remove(&c->owned.link);
    if (c->base.cb) c->base.cb->closed(&c->base, c->err);
    if (c->found) uv_freeaddrinfo(c->found);
    free(c->addr);
    buf_free(&c->out);
    buf_free(&c->in);
    free(c);
}

/* ---- out --------------------------------------------------------------------------------------------------------- */

/* Waits for what the state asks for. Reading is stopped lazily (on_event): a pause that is over within the turn costs
 * nothing. */
static void watch(struct io__conn *c)
{
    int events = (c->events & UV_READABLE) | (c->blocked ? UV_WRITABLE : 0);
    if (events != c->events) io__conn_poll(c, events, on_event);
}

static void forget_out(struct io__conn *c)
{
    c->out_at = 0;
    if (c->out.cap > KEEP_OUT)
        buf_free(&c->out);
    else
        buf_clear(&c->out);
}

/* The peer's last words may still wait in the socket: reading goes on until it fails as well, which it will. */
static void write_failed(struct io__conn *c, int err)
{
    c->broken = err;
    c->blocked = false;
    forget_out(c);
    list_remove(&c->dirty);
    if (c->paused)
        io__conn_fail(c, err);
    else
        watch(c);
}

/* One system call. The bytes that the kernel took, at least 0; fewer than there are means that it is full. */
static size_t write_some(struct io__conn *c, struct iovec *v, int nv)
{
    struct msghdr m = {.msg_iov = v, .msg_iovlen = (size_t)nv};
    ssize_t r;
    do r = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (r < 0 && errno == EINTR);
    if (r >= 0) return (size_t)r;
    if (errno != EAGAIN) write_failed(c, -errno);
    return 0;
}

static void wrote(struct io__conn *c, size_t n)
{
    c->out_at += n;
    if (c->out_at == c->out.n) forget_out(c);
    c->blocked = queued(c) > 0;
    if (c->blocked && !c->owes) c->owes = IO_OWES_AT_EMPTY;
    watch(c);
}

static void push(struct io__conn *c)
{
    list_remove(&c->dirty);
    if (queued(c) == 0) return;
    struct iovec v = {c->out.p + c->out_at, queued(c)};
    size_t n = write_some(c, &v, 1);
    if (!c->broken) wrote(c, n);
}

static void maybe_drained(struct io__conn *c)
{
    size_t limit = c->owes == IO_OWES_AT_LOW ? QUEUE_LOW : 1;
    if (c->state != IO_CONN_OPEN || c->broken || !c->owes || queued(c) >= limit) return;
    c->owes = IO_OWES_NOTHING;
    if (c->base.cb->drained) c->base.cb->drained(&c->base);
}

static void gather(struct io__conn *c, const void *p, size_t n)
{
    if (c->out_at > c->out.n / 2) {
        memmove(c->out.p, c->out.p + c->out_at, queued(c));
        c->out.n -= c->out_at;
        c->out_at = 0;
    }
    buf_append(&c->out, p, n);
}

/* What was gathered, then v, in one system call; the rest of v is kept. */
static void write_through(struct io__conn *c, const struct slice *v, unsigned nv)
{
    struct iovec iov[SLICES_MAX + 2] = {{c->out.p + c->out_at, queued(c)}};
    for (unsigned i = 0; i < nv; i++) iov[i + 1] = (struct iovec){(void *)(uintptr_t)v[i].p, v[i].n};
    size_t old = queued(c), n = write_some(c, iov, (int)nv + 1);
    if (c->broken) return;
    size_t taken = n > old ? n - old : 0;
    c->out_at += n - taken;
    for (unsigned i = 0; i < nv; i++) {
        size_t skip = taken < v[i].n ? taken : v[i].n;
        taken -= skip;
        gather(c, v[i].p + skip, v[i].n - skip);
    }
    list_remove(&c->dirty);
    wrote(c, 0);
}

int io__conn_send(struct conn *base, uint8_t type, const struct slice *v, unsigned nv)
{
    struct io__conn *c = of(base);
    uint8_t header[FRAME_HEADER_BYTES];
    if (c->state != IO_CONN_OPEN || c->broken) return -ENOTCONN;
    int err = frame_header(header, type, 0, v, nv);
    if (err) return err;
    size_t n = 0;
    for (unsigned i = 0; i < nv; i++) n += v[i].n;
    if (queued(c) + FRAME_HEADER_BYTES + n > QUEUE_MAX) {
        c->owes = IO_OWES_AT_LOW;
        return -ENOBUFS;
    }
    if (n >= LARGE && !c->blocked && nv <= SLICES_MAX && c->polling) {
        struct slice all[SLICES_MAX + 1] = {slice_of(header, sizeof(header))};
        memcpy(all + 1, v, nv * sizeof(*v));
        write_through(c, all, nv + 1);
    } else {
        gather(c, header, sizeof(header));
        for (unsigned i = 0; i < nv; i++) gather(c, v[i].p, v[i].n);
    }
    if (queued(c) >= QUEUE_LOW) c->owes = IO_OWES_AT_LOW;
    if (c->blocked || queued(c) == 0) return 0;
    if (queued(c) >= GATHER_MAX && c->polling)
        push(c);
    else if (list_empty(&c->dirty))
        list_push_back(&c->net->dirty, &c->dirty);
    return 0;
}

size_t io__conn_queued(struct conn *base) { return queued(of(base)); }

/* drained() may send again; that waits for the next round of the loop, which then does not block. */
void io__net_flush(struct io__net *n)
{
    struct list now;
    list_init(&now);
    for (struct list *i; (i = list_pop_front(&n->dirty));) list_push_back(&now, i);
    for (struct list *i; (i = list_pop_front(&now));) {
        struct io__conn *c = container_of(i, struct io__conn, dirty);
        push(c);
        maybe_drained(c);
    }
}

/* ---- in ---------------------------------------------------------------------------------------------------------- */

static bool listening(const struct io__conn *c) { return c->state == IO_CONN_OPEN && !c->paused; }

static void bad_frame(struct io__conn *c, int err)
{
    trace_warn(c->net->loop->trace, "net: %s sent what is no frame: %s; connection closed", c->base.peer,
               err_text(err));
    io__conn_fail(c, QE_FRAME);
}

/* Delivers the whole frames at the beginning of the bytes. Returns the bytes that were used. */
static size_t deliver(struct io__conn *c, struct slice s)
{
    size_t used = 0;
    while (listening(c) && used < s.n) {
        struct frame f;
        struct slice rest = slice_sub(s, used, s.n - used);
        int64_t whole = frame_peek(rest);
        if (whole < 0) bad_frame(c, (int)whole);
        if (whole <= 0 || (uint64_t)whole > rest.n) break;
        int err = frame_decode(slice_sub(rest, 0, (size_t)whole), &f);
        if (err) {
            bad_frame(c, err);
            break;
        }
        used += (size_t)whole;
        c->base.cb->frame(&c->base, f.type, f.payload);
    }
    return used;
}

/* Delivers what `in` holds, and keeps the rest. */
static void deliver_kept(struct io__conn *c)
{
    size_t used = deliver(c, buf_slice(&c->in));
    if (c->state != IO_CONN_OPEN) return;
    if (used) io__grant_end(c);
    if (used == c->in.n) {
        buf_free(&c->in);
    } else if (used) {
        memmove(c->in.p, c->in.p + used, c->in.n - used);
        c->in.n -= used;
    }
}

/* How many bytes the incomplete frame in `in` lacks: to its end, or to its header's while that is incomplete. */
static size_t lacking(const struct io__conn *c)
{
    if (c->in.n == 0) return 0;
    int64_t whole = frame_peek(buf_slice(&c->in));
    if (whole < 0) return 0; /* deliver() will say so */
    size_t want = whole ? (size_t)whole : FRAME_HEADER_BYTES;
    return want > c->in.n ? want - c->in.n : 0;
}

/* Where a frame begins, room is made for all of it (of a guest's large one, once it may come). */
static void keep(struct io__conn *c, struct slice s)
{
    int64_t whole = c->in.n ? 0 : frame_peek(s);
    if (whole > 0 && !c->base.guest) buf_reserve(&c->in, (size_t)whole);
    buf_append(&c->in, s.p, s.n);
}

/* Takes the bytes that were read into the scratch buffer. Where `in` holds something it is an incomplete frame, or the
 * user has paused. */
static void feed(struct io__conn *c, struct slice s)
{
    while (s.n && c->in.n && listening(c)) {
        size_t n = lacking(c);
        if (n > s.n) n = s.n;
        keep(c, slice_sub(s, 0, n));
        s = slice_sub(s, n, s.n - n);
        if (lacking(c) == 0) deliver_kept(c);
    }
    size_t used = c->in.n ? 0 : deliver(c, s);
    if (used < s.n && c->state == IO_CONN_OPEN) keep(c, slice_sub(s, used, s.n - used));
}

/* May what is incomplete go on? If not, reading stops until io__conn_resume(). */
static bool may_go_on(struct io__conn *c)
{
    int64_t whole = c->in.n && c->base.guest ? frame_peek(buf_slice(&c->in)) : 0;
    if (whole <= 0 || io__grant_get(c, (size_t)whole)) return true;
    io__conn_poll(c, c->events & ~UV_READABLE, on_event);
    return false;
}

void io__conn_resume(struct io__conn *c)
{
    if (c->state != IO_CONN_OPEN || !c->polling || c->paused || (c->events & UV_READABLE)) return;
    io__conn_poll(c, c->events | UV_READABLE, on_event);
}

/* One system call: first what the incomplete frame lacks, into its place, then the rest. False: stop reading. */
static bool read_some(struct io__conn *c)
{
    struct io__net *n = c->net;
    if (!may_go_on(c)) return false;
    if (!n->scratch) n->scratch = xmalloc(SCRATCH);
    size_t lack = lacking(c);
    buf_reserve(&c->in, lack);
    struct iovec v[2] = {{lack ? c->in.p + c->in.n : NULL, lack}, {n->scratch, SCRATCH}};
    ssize_t r;
    do r = lack ? readv(c->fd, v, 2) : read(c->fd, n->scratch, SCRATCH);
    while (r < 0 && errno == EINTR);
    if (r < 0 && errno == EAGAIN) return false;
    if (r <= 0) {
        io__conn_fail(c, c->broken ? c->broken : r < 0 ? -errno : -ECONNRESET);
        return false;
    }
    n->loop->events++;
    size_t got = (size_t)r, first = got < lack ? got : lack;
    c->in.n += first;
    if (first && lacking(c) == 0) deliver_kept(c);
    if (c->state == IO_CONN_OPEN) feed(c, slice_of(n->scratch, got - first));
    return listening(c) && got == lack + SCRATCH;
}

static void on_event(uv_poll_t *p, int status, int events)
{
    struct io__conn *c = container_of(p, struct io__conn, poll);
    if (status < 0) c->events = 0; /* libuv has stopped the handle */
    if (c->paused && (events & UV_READABLE)) io__conn_poll(c, c->events & ~UV_READABLE, on_event);
    int reads = 0;
    if (!c->paused && (status < 0 || (events & UV_READABLE))) {
        while (reads < READS_MAX && read_some(c)) reads++;
    }
    if (status < 0 && reads == READS_MAX && listening(c)) {
        io__conn_poll(c, UV_READABLE, on_event); /* there is more before the error */
        return;
    }
    if (status < 0 && c->state == IO_CONN_OPEN) {
        int err = 0;
        socklen_t n = sizeof(err);
        if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &n) < 0 || err == 0) err = ECONNRESET;
        io__conn_fail(c, c->broken ? c->broken : -err);
    }
    if (c->state != IO_CONN_OPEN || !(events & UV_WRITABLE)) return;
    push(c);
    maybe_drained(c);
}

void io__conn_up(struct io__conn *c)
{
    if (c->state != IO_CONN_OPEN) return;
    io__conn_poll(c, UV_READABLE, on_event);
}

/* Goes on only from the turn's end: frame() is never called from inside conn_pause(). */
void io__conn_pause(struct conn *base, bool on)
{
    struct io__conn *c = of(base);
    if (c->state != IO_CONN_OPEN || c->paused == on) return;
    c->paused = on;
    list_remove(&c->later);
    if (!on) list_push_back(&c->net->later, &c->later);
}

static void resume(struct io__conn *c)
{
    deliver_kept(c);
    io__conn_resume(c);
}

void io__conn_close(struct conn *base)
{
    struct io__conn *c = of(base);
    if (c->state == IO_CONN_OPEN && !c->broken && !c->blocked && c->fd >= 0) push(c);
    io__conn_fail(c, 0);
}

bool io__net_later(struct io__net *n)
{
    struct list now;
    list_init(&now);
    for (struct list *i; (i = list_pop_front(&n->later));) list_push_back(&now, i);
    bool any = !list_empty(&now);
    for (struct list *i; (i = list_pop_front(&now));) {
        struct io__conn *c = container_of(i, struct io__conn, later);
        if (c->state == IO_CONN_CLOSING)
            io__conn_end(c);
        else
            resume(c);
    }
    return any;
}
