/* fetch.c - map outputs over the network (fetch.h).
 *
 * The client asks for one output after the other and appends what comes to one run file; blocks carry their checksums,
 * so they are validated where they are used. The server reads pieces while the send queue is short and goes on when it
 * has drained.
 *
 * Failure modes: the server's machine is gone or silent (timeout), the output is not there, the own disk is full: the
 * fetch ends with an error and the output it was at; nothing is retried here, the scheduler knows better. */
#include "mr/fetch.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "mr/msg.h"
#include "mr/shuffle.h"
#include "mr/task.h"
#include "mr/util.h"

#define PIECE     (256u * 1024)
#define QUEUE_MAX (2u * MIB)

/* ---- server ---- */

struct serving {
    struct fetch_server *server;
    int fd; /* -1: idle */
    uint64_t at, end;
    uint8_t *space;
};

static void send_end(struct conn *c, int err, uint64_t bytes)
{
    uint8_t payload[12];
    store_u32(payload, (uint32_t)-err);
    store_u64(payload + 4, bytes);
    struct slice s = slice_of(payload, sizeof payload);
    if (conn_send(c, MR_DATA_END, &s, 1) < 0) conn_close(c);
}

static void finish(struct conn *c, struct serving *s, int err)
{
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
    send_end(c, err, s->end);
}

static void send_more(struct conn *c)
{
    struct serving *s = c->arg;
    while (s->fd >= 0 && conn_queued(c) < QUEUE_MAX) {
        if (s->at == s->end) {
            finish(c, s, 0);
            return;
        }
        size_t n = min_u64(PIECE, s->end - s->at);
        int64_t got = mr__read_at(s->fd, s->space, n, s->at);
        if (got != (int64_t)n) {
            finish(c, s, got < 0 ? (int)got : QE_CORRUPT);
            return;
        }
        struct slice piece = slice_of(s->space, n);
        int rc = conn_send(c, MR_DATA, &piece, 1);
        if (rc == -ENOBUFS) return;
        if (rc < 0) {
            conn_close(c);
            return;
        }
        s->at += n;
    }
}

static int open_output(struct serving *s, struct slice payload)
{
    struct reader r = reader_of(payload);
    struct slice job = get_slice16(&r);
    uint32_t map = get_u32(&r), attempt = get_u32(&r), parts = get_u32(&r), part = get_u32(&r);
    struct run_range range;

    if (!reader_done(&r) || part >= parts || s->fd >= 0) return -EBADMSG;
    if (!s->server->job || !slice_eq(job, slice_str(s->server->job))) return -ENOENT;
    int rc = -ENOENT;
    for (size_t i = 0; i < s->server->dirs_n && rc == -ENOENT; i++) {
        char *path = mr__map_output(s->server->dirs[i], map, attempt);
        s->fd = open(path, O_RDONLY | O_CLOEXEC);
        rc = s->fd < 0 ? -errno : 0;
        free(path);
    }
    if (rc == 0) rc = mr__run_find(s->fd, parts, part, &range);
    if (rc < 0) return rc;
    s->at = range.off;
    s->end = range.off + range.bytes;
    return 0;
}

static void on_request(struct conn *c, uint8_t type, struct slice payload)
{
    struct serving *s = c->arg;
    int rc = type == MR_FETCH ? open_output(s, payload) : -EBADMSG;
    if (rc == -EBADMSG)
        conn_close(c);
    else if (rc < 0)
        finish(c, s, rc);
    else
        send_more(c);
}

static void on_server_closed(struct conn *c, int err)
{
    struct serving *s = c->arg;
    if (s->fd >= 0) close(s->fd);
    free(s->space);
    free(s);
}

void mr__fetch_accept(void *server, struct conn *c)
{
    static const struct conn_cb cb = {.frame = on_request, .drained = send_more, .closed = on_server_closed};
    struct serving *s = xcalloc(1, sizeof *s);
    *s = (struct serving){.server = server, .fd = -1, .space = xmalloc(PIECE)};
    c->cb = &cb;
    c->arg = s;
}

/* ---- client ---- */

struct fetch {
    struct fetch_options o;
    struct io_loop *loop;
    struct conn *conn;
    struct timer timer;
    struct run_writer *w;
    char *job;
    uint32_t at; /* the output that is coming */
    int err;
    enum fetch_fault fault;
    bool over, cancelled;
};

static void arm(struct fetch *f)
{
    struct clock *c = io_clock(f->loop);
    clock_arm(c, &f->timer, clock_now(c) + f->o.timeout_ns);
}

/* closed() tells. */
static void end(struct fetch *f, int err, enum fetch_fault fault)
{
    if (f->over) return;
    f->over = true;
    f->err = err;
    f->fault = fault;
    conn_close(f->conn);
}

static void ask(struct fetch *f)
{
    struct buf b = {0};
    if (f->at == f->o.n) {
        end(f, 0, FETCH_PEER);
        return;
    }
    put_slice16(&b, slice_str(f->job));
    put_u32(&b, f->o.v[f->at].map);
    put_u32(&b, f->o.v[f->at].attempt);
    put_u32(&b, f->o.parts);
    put_u32(&b, f->o.part);
    struct slice s = buf_slice(&b);
    int rc = conn_send(f->conn, MR_FETCH, &s, 1);
    buf_free(&b);
    if (rc < 0) end(f, rc, FETCH_PEER);
}

static void on_open(struct conn *c)
{
    struct fetch *f = c->arg;
    arm(f);
    ask(f);
}

static void on_answer(struct conn *c, uint8_t type, struct slice payload)
{
    struct fetch *f = c->arg;
    if (f->over) return;
    arm(f);
    if (type == MR_DATA) {
        mr__run_add_blocks(f->w, f->at, payload);
    } else if (type == MR_DATA_END && payload.n == 12) {
        uint32_t err = load_u32(payload.p);
        if (err) {
            end(f, err < INT32_MAX ? -(int)err : QE_CORRUPT, FETCH_OUTPUT);
            return;
        }
        f->at++;
        ask(f);
    } else {
        end(f, QE_FRAME, FETCH_PEER);
    }
}

static void on_closed(struct conn *c, int err)
{
    struct fetch *f = c->arg;
    if (!f->over) {
        f->err = err ? err : -ECONNRESET;
        f->fault = FETCH_PEER;
    }
    clock_disarm(io_clock(f->loop), &f->timer);
    if (f->err || f->cancelled) {
        mr__run_abandon(f->w);
    } else {
        f->err = mr__run_finish(f->w, NULL, NULL);
        f->fault = FETCH_OWN;
    }
    if (!f->cancelled) f->o.done(f->o.arg, f->err, f->fault, f->at);
    free(f->job);
    free(f);
}

static void on_timeout(struct timer *t)
{
    struct fetch *f = t->arg;
    end(f, -ETIMEDOUT, FETCH_PEER);
}

struct fetch *mr__fetch_start(struct io_loop *l, const struct fetch_options *o)
{
    static const struct conn_cb cb = {.open = on_open, .frame = on_answer, .closed = on_closed};
    struct fetch *f = xcalloc(1, sizeof *f);

    *f = (struct fetch){.o = *o, .loop = l, .timer = {.fire = on_timeout, .arg = f}, .job = mr__strf("%s", o->job)};
    f->conn = net_dial(io_net(l), o->addr, &cb, f);
    arm(f);
    int rc = mr__run_create(o->path, o->n, &f->w);
    if (rc < 0) end(f, rc, FETCH_OWN);
    return f;
}

void mr__fetch_cancel(struct fetch *f)
{
    f->cancelled = true;
    end(f, -ECANCELED, FETCH_OWN);
}
