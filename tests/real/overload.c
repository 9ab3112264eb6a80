/* overload.c MODE unix:PATH CONNECTIONS [CALLS [BYTES]] - a crowd of clients that overdoes it, for cases/overload.sh.
 *
 *   hello     greets and stays
 *   get       gets the key "big" once, reads the answer, stays
 *   unread    asks for "big" CALLS times and reads nothing
 *   put       puts BYTES to a key of its own CALLS times, as fast as it is let
 *   partial   begins a frame of BYTES, sends a quarter of it and stays
 *
 * Prints "ready" when all have greeted and done what they can do (put: when one in ten is answered), goes on until
 * stdin ends, then prints what it saw: "acks A replies R refused F closed C". */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "kv/wire.h"

enum mode { HELLO, GET, UNREAD, PUT, PARTIAL };

struct client {
    int fd;                     /* -1: closed */
    bool acked, blocked;
    uint64_t session;
    unsigned sent, calls;       /* frames behind the greeting: sent, to be sent */
    size_t off;                 /* of the frame being sent */
    struct buf in;
    size_t skip;                /* bytes of a reply that are not looked at */
};

static enum mode mode;
static unsigned total, calls_each, acks, replies, refused, closed, left_to_ack;
static size_t bytes_each;
static struct client *clients;
static struct buf frame;
static int epfd;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* ---- frames ---- */

static void make_frame(uint8_t type, const struct slice *v, unsigned nv)
{
    buf_clear(&frame);
    check(frame_header(buf_extend(&frame, FRAME_HEADER_BYTES), type, 0, v, nv) == 0);
    for (unsigned i = 0; i < nv; i++) put_bytes(&frame, v[i]);
}

static void make_hello(void)
{
    struct buf b = {0};
    struct kv__hello h = {.version = KV_VERSION};
    kv__hello_encode(&h, &b);
    struct slice v = buf_slice(&b);
    make_frame(KV_FRAME_HELLO, &v, 1);
    buf_free(&b);
}

static void make_call(struct client *c, const struct kv_op *op, uint64_t seq)
{
    uint8_t head[KV_CALL_HEAD];
    struct buf b = {0};
    struct kv__call call = {.id = c->sent + 1, .session = seq ? c->session : 0, .seq = seq, .floor = seq ? 1 : 0};
    kv__call_encode(&call, head);
    kv_op_encode(op, &b, NULL);
    struct slice v[2] = {slice_of(head, sizeof head), buf_slice(&b)};
    make_frame(KV_FRAME_CALL, v, 2);
    buf_free(&b);
}

/* The frame number `sent` of this client. */
static void make_next(struct client *c)
{
    static uint8_t *bytes;
    char key[32];
    struct kv_op op = {.code = KV_GET, .name = slice_str("big")};
    if (!bytes) bytes = xcalloc(1, bytes_each + 1);
    if (mode == PUT && c->sent == 0) {
        op = (struct kv_op){.code = KV_SESSION_OPEN, .off2 = (uint64_t)getpid() << 32 | (uint64_t)(c - clients) | 1u << 31};
        make_call(c, &op, 0);
        return;
    }
    if (mode == PUT || mode == PARTIAL) {
        snprintf(key, sizeof key, "load/%u", (unsigned)(c - clients) % 50);
        op = (struct kv_op){.code = KV_PUT, .name = slice_str(key), .data = slice_of(bytes, bytes_each)};
    }
    make_call(c, &op, mode == PUT ? c->sent : 0);
    if (mode == PARTIAL) frame.n /= 4;
}

/* ---- one client ---- */

static void end(struct client *c)
{
    close(c->fd);
    c->fd = -1;
    closed++;
    if (!c->acked) left_to_ack--;
}

static void watch(struct client *c, bool writing)
{
    bool reading = mode != UNREAD || !c->acked;
    struct epoll_event ev = {.events = (reading ? EPOLLIN : EPOLLRDHUP) | (writing ? EPOLLOUT : 0), .data.ptr = c};
    c->blocked = writing;
    if (epoll_ctl(epfd, EPOLL_CTL_MOD, c->fd, &ev)) die("epoll_ctl");
}

static bool may_send(const struct client *c)
{
    return c->acked && c->sent < c->calls && (mode != PUT || c->sent == 0 || c->session);
}

static void send_some(struct client *c)
{
    while (c->fd >= 0 && may_send(c)) {
        make_next(c);
        ssize_t n = send(c->fd, frame.p + c->off, frame.n - c->off, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            watch(c, true);
            return;
        }
        if (n < 0) {
            end(c);
            return;
        }
        c->off += (size_t)n;
        if (c->off < frame.n) continue;
        c->off = 0;
        c->sent++;
    }
    if (c->fd >= 0) watch(c, false);
}

static void take(struct client *c, uint8_t type, struct slice payload)
{
    struct kv_reply r;
    if (type == KV_FRAME_HELLO_ACK && !c->acked) {
        c->acked = true;
        left_to_ack--;
        acks++;
        send_some(c);
    } else if (type == KV_FRAME_REFUSED) {
        refused++;
    } else if (type == KV_FRAME_REPLY && mode == PUT && !c->session) {
        if (kv_reply_decode(KV_SESSION_OPEN, slice_sub(payload, 9, payload.n - 9), &r) == 0) c->session = r.off;
        send_some(c);
    } else if (type == KV_FRAME_REPLY) {
        replies++;
    }
}

static void receive(struct client *c)
{
    static uint8_t bytes[256 * 1024];
    ssize_t n = recv(c->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        end(c);
        return;
    }
    buf_append(&c->in, bytes, (size_t)n);
    size_t at = 0;
    for (struct frame f; c->fd >= 0; ) {
        struct slice rest = slice_sub(buf_slice(&c->in), at, c->in.n - at);
        int64_t whole = frame_peek(rest);
        if (whole <= 0 || (uint64_t)whole > rest.n) break;
        if (frame_decode(slice_sub(rest, 0, (size_t)whole), &f)) break;
        take(c, f.type, f.payload);
        at += (size_t)whole;
    }
    memmove(c->in.p, c->in.p + at, c->in.n - at);
    c->in.n -= at;
    if (c->in.n == 0) buf_free(&c->in);
}

/* ---- all of them ---- */

static void connect_one(struct client *c, const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    snprintf(sa.sun_path, sizeof sa.sun_path, "%s", path);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    if (connect(c->fd, (struct sockaddr *)&sa, sizeof sa)) die("connect");      /* waits where the backlog is full */
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    make_hello();
    if (send(c->fd, frame.p, frame.n, MSG_NOSIGNAL) < 0 && errno != EPIPE) die("send");
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(epfd, EPOLL_CTL_ADD, c->fd, &ev)) die("epoll_ctl");
    c->calls = calls_each + (mode == PUT);
}

static bool ready(void)
{
    if (left_to_ack) return false;
    if (mode == PUT) return replies >= total / 10 || closed == total;
    if (mode == GET) return replies + closed >= total;
    for (unsigned i = 0; i < total; i++)
        if (clients[i].fd >= 0 && !clients[i].blocked && may_send(&clients[i])) return false;
    return true;
}

static bool step(int timeout_ms)
{
    struct epoll_event ev[256];
    int n = epoll_wait(epfd, ev, 256, timeout_ms);
    for (int i = 0; i < n; i++) {
        struct client *c = ev[i].data.ptr;
        if (!c) return false;           /* stdin has ended */
        if (c->fd >= 0 && ev[i].events & EPOLLIN) receive(c);
        else if (c->fd >= 0 && ev[i].events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) end(c);
        if (c->fd >= 0 && ev[i].events & EPOLLOUT) send_some(c);
    }
    return true;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"hello", "get", "unread", "put", "partial"};
    if (argc < 4 || strncmp(argv[2], "unix:", 5) != 0) return 2;
    for (unsigned i = 0; i < 5; i++)
        if (!strcmp(argv[1], names[i])) mode = (enum mode)i;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    total = left_to_ack = (unsigned)atoi(argv[3]);
    calls_each = mode == HELLO ? 0 : argc > 4 ? (unsigned)atoi(argv[4]) : 1;
    bytes_each = argc > 5 ? (size_t)atol(argv[5]) : 0;
    clients = xcalloc(total, sizeof *clients);
    epfd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event in = {.events = EPOLLIN | EPOLLHUP};
    epoll_ctl(epfd, EPOLL_CTL_ADD, STDIN_FILENO, &in);
    bool going = true, said = false;
    for (unsigned i = 0; i < total && going; i++) {
        connect_one(&clients[i], argv[2] + 5);
        going = step(0);
    }
    while (going) {
        going = step(said ? -1 : 50);
        if (said || !ready()) continue;
        said = true;
        puts("ready");
        fflush(stdout);
    }
    printf("acks %u replies %u refused %u closed %u\n", acks, replies, refused, closed);
    return 0;
}
