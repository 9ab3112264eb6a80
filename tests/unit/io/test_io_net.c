/* Net door over TCP and unix sockets: frames of all sizes, addresses, failures, closing from everywhere, back-pressure,
 * many connections, and a random mix of it all. */
#include "helper.h"

#include "io/io_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static struct io_loop *loop;
static struct net *net;
static struct clock *clk;
static char dir[64];

static int setup(void **state)
{
    loop = io_loop_new();
    net = io_net(loop);
    clk = io_clock(loop);
    make_dir(dir);
    return 0;
}

static int teardown(void **state)
{
    if (loop) io_loop_free(loop);
    remove_tree(dir);
    return 0;
}

static uint16_t free_port(void)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(sa);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, n), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &n), 0);
    close(fd);
    return ntohs(sa.sin_port);
}

static const char *tcp_addr(void)
{
    static char addr[64];
    snprintf(addr, sizeof(addr), "127.0.0.1:%u", free_port());
    return addr;
}

static const char *unix_addr(void)
{
    static char addr[128];
    static int n;
    snprintf(addr, sizeof(addr), "unix:%s/s%d", dir, n++);
    return addr;
}

/* Every test that says each_transport runs for both. */
typedef const char *(*addr_fn)(void);
static const addr_fn transports[] = {tcp_addr, unix_addr};
#define each_transport(addr)                                                                                           \
    for (int tr_ = 0; tr_ < 2; tr_++)                                                                                  \
        for (const char *addr = transports[tr_](); addr; addr = NULL)

/* One end of a connection, which notes all that happens to it. */
struct end {
    struct conn *c;
    int opens, frames, drains, closes, err;
    uint8_t type;
    size_t queued_at_drain;
    struct buf last;
    void (*hook)(struct end *e); /* after each frame */
    bool close_in_open, close_in_frame, pause_in_frame, echo, quiet;
};

static void on_open(struct conn *c)
{
    struct end *e = c->arg;
    assert_int_equal(e->closes, 0);
    e->opens++;
    if (e->close_in_open) conn_close(c);
    io_loop_stop(loop);
}

static void on_frame(struct conn *c, uint8_t type, struct slice payload)
{
    struct end *e = c->arg;
    assert_int_equal(e->closes, 0);
    e->frames++;
    e->type = type;
    buf_clear(&e->last);
    buf_append(&e->last, payload.p, payload.n);
    if (e->echo) assert_int_equal(conn_send(c, type, &payload, 1), 0);
    if (e->pause_in_frame) conn_pause(c, true);
    if (e->close_in_frame) conn_close(c);
    if (e->hook) e->hook(e);
    if (!e->quiet) io_loop_stop(loop);
}

static void on_drained(struct conn *c)
{
    struct end *e = c->arg;
    e->drains++;
    e->queued_at_drain = conn_queued(c);
    io_loop_stop(loop);
}

static void on_closed(struct conn *c, int err)
{
    struct end *e = c->arg;
    e->closes++;
    e->err = err;
    e->c = NULL;
    buf_free(&e->last);
    io_loop_stop(loop);
}

static const struct conn_cb cb = {.open = on_open, .frame = on_frame, .drained = on_drained, .closed = on_closed};

static void on_accept(void *arg, struct conn *c)
{
    struct end *e = arg;
    assert_null(e->c);
    c->cb = &cb;
    c->arg = e;
    e->c = c;
    assert_true(c->peer[0] != '\0');
    io_loop_stop(loop);
}

static void dial(struct end *e, const char *addr) { e->c = net_dial(net, addr, &cb, e); }

/* a has dialled b. */
static void join(struct end *a, struct end *b, const char *addr)
{
    assert_int_equal(net_listen(net, addr, on_accept, b), 0);
    dial(a, addr);
    assert_int_equal(a->opens, 0);
    run_until(loop, a->opens && b->c);
}

static int send_one(struct end *e, uint8_t type, const void *p, size_t n)
{
    struct slice s = slice_of(p, n);
    return conn_send(e->c, type, &s, 1);
}

static void part(struct end *a, struct end *b)
{
    if (a->c) conn_close(a->c);
    run_until(loop, a->closes && b->closes);
    assert_int_equal(a->closes, 1);
    assert_int_equal(b->closes, 1);
}

/* ---- frames ------------------------------------------------------------------------------------------------------ */

static void test_frames_of_all_sizes(void **state)
{
    static const size_t sizes[] = {0,
                                   1,
                                   19,
                                   20,
                                   21,
                                   4095,
                                   65515,
                                   65516,
                                   65535,
                                   65536,
                                   65537,
                                   131072,
                                   1u << 20,
                                   3000001,
                                   FRAME_PAYLOAD_MAX - 1,
                                   FRAME_PAYLOAD_MAX};
    uint8_t *p = malloc(FRAME_PAYLOAD_MAX);
    fill(p, FRAME_PAYLOAD_MAX, 1);
    each_transport(addr)
    {
        struct end a = {0}, b = {.echo = true};
        join(&a, &b, addr);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            int before = a.frames;
            /* Odd slices, an empty one among them. */
            size_t x = sizes[i] / 3;
            struct slice v[4] = {slice_of(p, x), slice_of(NULL, 0), slice_of(p + x, x),
                                 slice_of(p + 2 * x, sizes[i] - 2 * x)};
            assert_int_equal(conn_send(a.c, (uint8_t)(i + 1), v, 4), 0);
            run_until(loop, a.frames > before);
            assert_int_equal(a.type, i + 1);
            assert_true(slice_eq(buf_slice(&a.last), slice_of(p, sizes[i])));
        }
        struct slice two[2] = {slice_of(p, FRAME_PAYLOAD_MAX), slice_of(p, 1)};
        assert_int_equal(conn_send(a.c, 1, two, 2), -EMSGSIZE);
        assert_int_equal(conn_send(a.c, 1, NULL, 0), 0);
        run_until(loop, a.frames == (int)(sizeof(sizes) / sizeof(sizes[0])) + 1);
        part(&a, &b);
    }
    free(p);
}

/* Many frames of one turn, small and large mixed, keep their order. */
static int expected, order_errors;
static void check_order(struct end *e)
{
    if (load_u32(e->last.p) != (uint32_t)expected++) order_errors++;
}

static void test_order_of_a_turns_frames(void **state)
{
    uint8_t *p = calloc(1, 200000);
    each_transport(addr)
    {
        struct end a = {0}, b = {.hook = check_order};
        struct prng r;
        prng_seed(&r, 7);
        join(&a, &b, addr);
        expected = order_errors = 0;
        for (uint32_t i = 0; i < 3000; i++) {
            store_u32(p, i);
            assert_int_equal(
                send_one(&a, 1, p, prng_chance(&r, 3) ? 70000 + prng_below(&r, 130000) : 4 + prng_below(&r, 200)), 0);
        }
        run_until(loop, b.frames == 3000);
        assert_int_equal(order_errors, 0);
        part(&a, &b);
    }
    free(p);
}

/* More slices than one system call is given. */
static void test_many_slices(void **state)
{
    uint8_t *p = malloc(200000);
    struct slice v[200];
    fill(p, 200000, 3);
    for (size_t i = 0; i < 200; i++) v[i] = slice_of(p + i * 1000, 1000);
    each_transport(addr)
    {
        struct end a = {0}, b = {0};
        join(&a, &b, addr);
        assert_int_equal(conn_send(a.c, 1, v, 200), 0);
        run_until(loop, b.frames == 1);
        assert_true(slice_eq(buf_slice(&b.last), slice_of(p, 200000)));
        part(&a, &b);
    }
    free(p);
}

/* ---- raw peers: bytes as they come ------------------------------------------------------------------------------- */

static int raw_connect(const char *addr)
{
    int fd;
    if (strncmp(addr, "unix:", 5) == 0) {
        struct sockaddr_un sa = {.sun_family = AF_UNIX};
        memcpy(sa.sun_path, addr + 5, strlen(addr + 5) + 1);
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    } else {
        struct sockaddr_in sa = {.sin_family = AF_INET,
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                 .sin_port = htons((uint16_t)atoi(strrchr(addr, ':') + 1))};
        fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    }
    return fd;
}

static int raw_peer(struct end *b, const char *addr)
{
    assert_int_equal(net_listen(net, addr, on_accept, b), 0);
    int fd = raw_connect(addr);
    run_until(loop, b->c);
    return fd;
}

static size_t raw_frame(uint8_t *out, uint8_t type, const char *text)
{
    struct slice s = slice_str(text);
    assert_int_equal(frame_header(out, type, 0, &s, 1), 0);
    memcpy(out + FRAME_HEADER_BYTES, s.p, s.n);
    return FRAME_HEADER_BYTES + s.n;
}

/* Byte by byte: each write is a turn of its own. */
struct drip {
    struct timer t;
    int fd;
    uint8_t bytes[400];
    size_t n, at;
};

static void drip_one(struct timer *t)
{
    struct drip *d = t->arg;
    if (d->at == d->n) return;
    assert_int_equal(write(d->fd, d->bytes + d->at++, 1), 1);
    clock_arm(clk, t, 0);
}

static void test_bytes_one_by_one(void **state)
{
    each_transport(addr)
    {
        struct end b = {0};
        struct drip d = {.fd = raw_peer(&b, addr)};
        d.t = (struct timer){.fire = drip_one, .arg = &d};
        d.n = raw_frame(d.bytes, 1, "first");
        d.n += raw_frame(d.bytes + d.n, 2, "");
        d.n += raw_frame(d.bytes + d.n, 3, "the third frame is the last one");
        clock_arm(clk, &d.t, 0);
        run_until(loop, b.frames == 3);
        assert_int_equal(b.type, 3);
        assert_true(slice_eq(buf_slice(&b.last), slice_str("the third frame is the last one")));
        close(d.fd);
        run_until(loop, b.closes);
        assert_int_equal(b.err, -ECONNRESET);
    }
}

static struct trace trace;
static int warnings;
static void count_warning(void *arg, enum trace_level level, const char *text) { warnings++; }

/* Garbage at the start, behind a good frame, a damaged header, a damaged payload, an unknown magic of one byte. */
static void test_garbage_closes_the_connection(void **state)
{
    trace = (struct trace){.level = TRACE_WARN, .line = count_warning};
    io_loop_trace(loop, &trace);
    each_transport(addr)
    {
        struct end all[6] = {0};
        const char *list[6];
        for (int i = 0; i < 6; i++) {
            uint8_t bytes[200];
            struct end *b = &all[i];
            list[i] = tr_ ? unix_addr() : tcp_addr();
            int fd = raw_peer(b, list[i]);
            size_t n = raw_frame(bytes, 9, "good");
            size_t m = n + raw_frame(bytes + n, 9, "bad payload");
            if (i == 0) memset(bytes, 0xee, n);
            if (i == 1) bytes[n + 2] ^= 1;    /* magic of the second */
            if (i == 2) bytes[n + 17] ^= 1;   /* header CRC */
            if (i == 3) bytes[m - 1] ^= 1;    /* payload */
            if (i == 4) bytes[n + 8] ^= 0x80; /* length */
            if (i == 5) m = n + 1, bytes[n] = 'G';
            warnings = 0;
            assert_int_equal(write(fd, bytes, m), (ssize_t)m);
            run_until(loop, b->closes);
            assert_int_equal(b->frames, i == 0 ? 0 : 1);
            assert_int_equal(b->err, QE_FRAME);
            assert_int_equal(warnings, 1);
            close(fd);
        }
    }
}

static void test_half_open_peers(void **state)
{
    each_transport(addr)
    {
        /* The peer ends in the middle of a frame. */
        struct end b = {0};
        uint8_t bytes[100];
        int fd = raw_peer(&b, addr);
        size_t n = raw_frame(bytes, 1, "whole");
        size_t m = n + raw_frame(bytes + n, 1, "never whole");
        assert_int_equal(write(fd, bytes, m - 3), (ssize_t)m - 3);
        shutdown(fd, SHUT_WR);
        run_until(loop, b.closes);
        assert_int_equal(b.frames, 1);
        assert_int_equal(b.err, -ECONNRESET);
        close(fd);
    }
}

/* The peer's last words arrive although it is gone and did not read ours. */
static void test_last_words(void **state)
{
    uint8_t *big = calloc(1, 4 * MIB);
    each_transport(addr)
    {
        struct end b = {0};
        uint8_t bytes[100];
        int fd = raw_peer(&b, addr);
        assert_int_equal(send_one(&b, 1, "will not be read", 16), 0);
        assert_int_equal(send_one(&b, 1, big, 100 * KIB), 0);
        size_t n = raw_frame(bytes, 5, "last words");
        assert_int_equal(write(fd, bytes, n), (ssize_t)n);
        if (tr_)
            close(fd); /* with unread bytes: a reset, for TCP it may eat the last words */
        else
            shutdown(fd, SHUT_WR);
        assert_int_equal(send_one(&b, 1, big, 4 * MIB), 0);
        run_until(loop, b.closes);
        assert_int_equal(b.frames, 1);
        assert_int_equal(b.type, 5);
        assert_true(b.err < 0);
        if (!tr_) close(fd);
    }
    free(big);
}

/* ---- closing from everywhere ------------------------------------------------------------------------------------- */

static void test_close_is_never_immediate(void **state)
{
    each_transport(addr)
    {
        struct end a = {0}, b = {0};
        join(&a, &b, addr);
        conn_close(a.c);
        conn_close(a.c); /* twice is once */
        assert_int_equal(a.closes, 0);
        assert_int_equal(send_one(&a, 1, "x", 1), -ENOTCONN);
        run_until(loop, a.closes && b.closes);
        assert_int_equal(a.err, 0);
        assert_int_equal(b.err, -ECONNRESET);
        assert_int_equal(a.closes + b.closes, 2);
    }
}

/* What was sent before the close arrives. */
static void test_close_flushes(void **state)
{
    each_transport(addr)
    {
        struct end a = {0}, b = {0};
        join(&a, &b, addr);
        assert_int_equal(send_one(&a, 4, "goodbye", 7), 0);
        conn_close(a.c);
        run_until(loop, a.closes && b.closes);
        assert_int_equal(b.frames, 1);
        assert_int_equal(b.type, 4);
    }
}

/* What was sent in the turn that stops the loop leaves, too. */
static void test_stop_flushes(void **state)
{
    each_transport(addr)
    {
        struct end b = {.echo = true};
        uint8_t bytes[100], back[100];
        int fd = raw_peer(&b, addr);
        size_t n = raw_frame(bytes, 7, "echo");
        assert_int_equal(write(fd, bytes, n), (ssize_t)n);
        run_until(loop, b.frames == 1);
        assert_int_equal(recv(fd, back, sizeof(back), MSG_DONTWAIT), (ssize_t)n);
        assert_memory_equal(bytes, back, n);
        close(fd);
        run_until(loop, b.closes);
    }
}

static void test_close_inside_callbacks(void **state)
{
    each_transport(addr)
    {
        struct end a = {.close_in_open = true}, b = {0};
        join(&a, &b, addr);
        run_until(loop, a.closes && b.closes);
        assert_int_equal(a.err, 0);

        const char *second = tr_ ? unix_addr() : tcp_addr();
        struct end c = {0}, d = {.close_in_frame = true};
        join(&c, &d, second);
        for (int i = 0; i < 10; i++) assert_int_equal(send_one(&c, 1, "x", 1), 0);
        run_until(loop, c.closes && d.closes);
        assert_int_equal(d.frames, 1); /* none after the close */
        assert_int_equal(d.err, 0);

        /* In the middle of a frame that had to be collected. */
        const char *third = tr_ ? unix_addr() : tcp_addr();
        struct end f = {0}, g = {.close_in_frame = true};
        uint8_t *p = calloc(1, 5 * MIB);
        join(&f, &g, third);
        assert_int_equal(send_one(&f, 1, p, 5 * MIB), 0);
        assert_int_equal(send_one(&f, 1, p, 5 * MIB), 0);
        run_until(loop, f.closes && g.closes);
        assert_int_equal(g.frames, 1);
        free(p);
    }
}

static void accept_and_close(void *arg, struct conn *c)
{
    on_accept(arg, c);
    assert_int_equal(send_one(arg, 3, "no", 2), 0);
    conn_close(c);
}
static void accept_and_ignore(void *arg, struct conn *c) {}
static void accept_and_drop(void *arg, struct conn *c) { conn_close(c); }

static void test_close_inside_accept(void **state)
{
    each_transport(addr)
    {
        struct end a = {0}, b = {0}, c = {0}, d = {0};
        assert_int_equal(net_listen(net, addr, accept_and_close, &b), 0);
        dial(&a, addr);
        run_until(loop, a.closes && b.closes);
        assert_int_equal(a.frames, 1);
        const char *second = tr_ ? unix_addr() : tcp_addr();
        assert_int_equal(net_listen(net, second, accept_and_ignore, NULL), 0);
        dial(&c, second);
        run_until(loop, c.closes);
        const char *third = tr_ ? unix_addr() : tcp_addr();
        assert_int_equal(net_listen(net, third, accept_and_drop, NULL), 0);
        dial(&d, third);
        run_until(loop, d.closes);
    }
}

static void test_close_while_dialling(void **state)
{
    each_transport(addr)
    {
        struct end a = {0}, b = {0};
        assert_int_equal(net_listen(net, addr, accept_and_drop, &b), 0);
        dial(&a, addr);
        assert_int_equal(send_one(&a, 1, "x", 1), -ENOTCONN); /* not up yet */
        conn_close(a.c);
        assert_int_equal(a.closes, 0);
        run_until(loop, a.closes);
        assert_int_equal(a.opens, 0);
        assert_int_equal(a.err, 0);
    }
    struct end named = {0};
    dial(&named, "localhost:1");
    conn_close(named.c); /* while its name is being looked up */
    run_until(loop, named.closes);
    assert_int_equal(named.err, 0);
}

static struct end *victim;
static void close_the_other(struct end *e)
{
    if (victim->c) conn_close(victim->c);
}

/* One callback closes another connection of which events wait in the same turn. */
static void test_close_another_connection(void **state)
{
    each_transport(addr)
    {
        struct end a1 = {0}, b1 = {.hook = close_the_other}, a2 = {0}, b2 = {.hook = close_the_other};
        join(&a1, &b1, addr);
        join(&a2, &b2, tr_ ? unix_addr() : tcp_addr());
        victim = &b2;
        assert_int_equal(send_one(&a1, 1, "x", 1), 0);
        assert_int_equal(send_one(&a2, 1, "x", 1), 0);
        run_until(loop, b2.closes && a2.closes && b1.frames == 1);
        assert_int_equal(b2.closes, 1);
        part(&a1, &b1);
    }
}

static void test_loop_free_closes_what_is_left(void **state)
{
    struct end a[2] = {0}, b[2] = {0}, none = {0}, named = {0};
    join(&a[0], &b[0], tcp_addr());
    join(&a[1], &b[1], unix_addr());
    dial(&none, tcp_addr());
    dial(&named, "localhost:1");
    conn_close(a[0].c);
    conn_pause(b[1].c, true);
    io_loop_free(loop);
    loop = NULL;
    assert_int_equal(a[0].closes, 1);
    assert_int_equal(a[0].err, 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(b[i].closes, 1);
        assert_int_equal(a[i].closes, 1);
        assert_int_equal(b[i].err, QE_STOPPED);
    }
    assert_int_equal(none.closes, 1);
    assert_int_equal(named.closes, 1);
    char path[160];
    snprintf(path, sizeof(path), "%s", dir);
    assert_int_equal(rmdir(path), 0); /* the listener has taken its socket file along */
    assert_int_equal(mkdir(path, 0700), 0);
}

/* ---- addresses --------------------------------------------------------------------------------------------------- */

static int dial_error(const char *addr)
{
    struct end a = {0};
    dial(&a, addr);
    assert_int_equal(a.closes, 0);
    run_until(loop, a.closes);
    assert_int_equal(a.opens, 0);
    return a.err;
}

static void test_bad_addresses(void **state)
{
    static const char *const bad[] = {"",         "nonsense", "host:",  ":1",  "host:99999",
                                      "host:12x", "::1:5",    "[::1:5", "*:5", "host:-1"};
    char path[200];
    struct end b = {0};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) assert_int_equal(dial_error(bad[i]), -EINVAL);
    assert_int_equal(dial_error("unix:"), -EINVAL);
    assert_int_equal(dial_error("unix:/no/such/socket"), -ENOENT);
    assert_int_equal(dial_error(tcp_addr()), -ECONNREFUSED);
    assert_int_equal(net_listen(net, "nonsense", on_accept, &b), -EINVAL);
    assert_int_equal(net_listen(net, "host:", on_accept, &b), -EINVAL);
    assert_int_equal(net_listen(net, "unix:", on_accept, &b), -EINVAL);
    assert_int_equal(net_listen(net, "unix:/no/such/dir/socket", on_accept, &b), -ENOENT);
    assert_int_equal(net_listen(net, "192.0.2.1:7000", on_accept, &b), -EADDRNOTAVAIL); /* TEST-NET: nobody's */
    /* A file that is no socket is left alone. */
    snprintf(path, sizeof(path), "unix:%s/file", dir);
    close(open(path + 5, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(net_listen(net, path, on_accept, &b), -EADDRINUSE);
    assert_int_equal(access(path + 5, F_OK), 0);
    assert_int_equal(dial_error(path), -ECONNREFUSED);
}

static void test_names_and_wildcards(void **state)
{
    uint16_t port = free_port();
    char addr[64];
    struct end a = {0}, b = {0}, c = {0}, d = {0};
    snprintf(addr, sizeof(addr), "*:%u", port);
    assert_int_equal(net_listen(net, addr, on_accept, &b), 0);
    snprintf(addr, sizeof(addr), "localhost:%u", port);
    dial(&a, addr); /* ::1 first, maybe, then 127.0.0.1 */
    run_until(loop, a.opens && b.c);
    assert_int_equal(strncmp(b.c->peer, "127.0.0.1:", 10), 0);
    part(&a, &b);
    snprintf(addr, sizeof(addr), "localhost:%u", free_port());
    join(&c, &d, addr);
    part(&c, &d);
}

static void test_ipv6(void **state)
{
    char addr[64];
    struct end a = {0}, b = {0};
    snprintf(addr, sizeof(addr), "[::1]:%u", free_port());
    int err = net_listen(net, addr, on_accept, &b);
    if (err == -EADDRNOTAVAIL || err == -EAFNOSUPPORT) {
        print_message("no IPv6 on this machine\n");
        return;
    }
    assert_int_equal(err, 0);
    dial(&a, addr);
    run_until(loop, a.opens && b.c);
    assert_int_equal(strncmp(b.c->peer, "[::1]:", 6), 0);
    part(&a, &b);
}

/* For unix sockets the probe for a listener is a connection of its own. */
static void accept_one(void *arg, struct conn *c)
{
    if (((struct end *)arg)->c)
        conn_close(c);
    else
        on_accept(arg, c);
}

/* Dialling a free port can join a socket with itself; here it is forced. */
static void test_self_connection_is_noticed(void **state)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(sa);
    struct end b = {0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, n), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &n), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, n), 0);
    assert_true(io__addr_self(fd));
    close(fd);
    fd = raw_peer(&b, tcp_addr());
    assert_false(io__addr_self(fd));
    close(fd);
    run_until(loop, b.closes);
    memset(&b, 0, sizeof(b));
    fd = raw_peer(&b, unix_addr());
    assert_false(io__addr_self(fd));
    close(fd);
    run_until(loop, b.closes);
}

static void test_address_in_use(void **state)
{
    each_transport(addr)
    {
        struct end a = {0}, b = {0}, other = {0};
        assert_int_equal(net_listen(net, addr, accept_one, &b), 0);
        dial(&a, addr);
        run_until(loop, a.opens && b.c);
        assert_int_equal(net_listen(net, addr, on_accept, &other), -EADDRINUSE);
        assert_int_equal(send_one(&a, 1, "still there", 11), 0);
        run_until(loop, b.frames == 1);
        part(&a, &b);
    }
}

static void test_stale_unix_socket(void **state)
{
    struct end a = {0}, b = {0};
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    const char *addr = unix_addr();
    memcpy(sa.sun_path, addr + 5, strlen(addr + 5) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(fd, 5), 0);
    close(fd); /* its file stays behind, as after a crash */
    assert_int_equal(access(addr + 5, F_OK), 0);
    assert_int_equal(dial_error(addr), -ECONNREFUSED);
    join(&a, &b, addr);
    struct stat st;
    assert_int_equal(stat(addr + 5, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    part(&a, &b);
}

static void test_long_unix_paths(void **state)
{
    char path[600];
    struct end a = {0}, b = {0};
    int n = snprintf(path, sizeof(path), "unix:%s", dir);
    for (int i = 0; i < 4; i++) {
        n += snprintf(path + n, sizeof(path) - (size_t)n, "/%0*d", 100, i);
        assert_int_equal(mkdir(path + 5, 0700), 0);
    }
    snprintf(path + n, sizeof(path) - (size_t)n, "/socket");
    join(&a, &b, path);
    assert_int_equal(send_one(&a, 1, "hello", 5), 0);
    run_until(loop, b.frames == 1);
    part(&a, &b);
    snprintf(path + n, sizeof(path) - (size_t)n, "/%0*d", 100, 7);
    assert_int_equal(net_listen(net, path, on_accept, &b), -ENAMETOOLONG); /* said, not cut off */
}

/* ---- flow -------------------------------------------------------------------------------------------------------- */

static void test_a_peer_that_does_not_read(void **state)
{
    size_t size = 300 * KIB;
    uint8_t *p = calloc(1, size);
    each_transport(addr)
    {
        struct end a = {0}, b = {.hook = check_order, .quiet = true};
        join(&a, &b, addr);
        expected = order_errors = 0;
        conn_pause(b.c, true);
        int sent = 0, err;
        for (;; sent++) {
            store_u32(p, (uint32_t)sent);
            err = send_one(&a, 1, p, sent % 2 ? size : 1000);
            if (err) break;
        }
        assert_int_equal(err, -ENOBUFS);
        assert_in_range(conn_queued(a.c), 63 * MIB, 64 * MIB);
        /* Some turns later the kernel is full and nothing has moved on our side. */
        struct end x = {0}, y = {0};
        join(&x, &y, tr_ ? unix_addr() : tcp_addr());
        assert_in_range(conn_queued(a.c), 32 * MIB, 64 * MIB);
        assert_int_equal(b.frames, 0);
        assert_int_equal(a.drains, 0);
        conn_pause(b.c, false);
        run_until(loop, a.drains);
        assert_int_equal(a.drains, 1);
        assert_true(conn_queued(a.c) < MIB);
        b.quiet = false;
        run_until(loop, b.frames == sent);
        assert_int_equal(order_errors, 0);
        assert_int_equal(conn_queued(a.c), 0);
        part(&a, &b);
        part(&x, &y);
    }
    free(p);
}

/* drained() also comes where the queue was high within one turn only. */
static void test_drained_after_a_burst(void **state)
{
    uint8_t *p = calloc(1, 3000);
    each_transport(addr)
    {
        struct end a = {0}, b = {.quiet = true};
        join(&a, &b, addr);
        for (int i = 0; i < 6000; i++) assert_int_equal(send_one(&a, 1, p, 3000), 0);
        run_until(loop, a.drains);
        assert_true(a.queued_at_drain < MIB);
        b.quiet = false;
        run_until(loop, b.frames == 6000);
        part(&a, &b);
    }
    free(p);
}

/* Pausing inside frame(): nothing more comes until it goes on, and nothing is lost or doubled. */
static void test_pause_inside_frame(void **state)
{
    each_transport(addr)
    {
        struct end a = {0}, b = {.pause_in_frame = true, .hook = check_order};
        uint8_t p[400] = {0};
        join(&a, &b, addr);
        expected = order_errors = 0;
        for (uint32_t i = 0; i < 500; i++) {
            store_u32(p, i);
            assert_int_equal(send_one(&a, 1, p, sizeof(p)), 0);
        }
        for (int i = 1; i <= 500; i++) {
            run_until(loop, b.frames == i);
            conn_pause(b.c, false);
            assert_int_equal(b.frames, i); /* not from inside */
            if (i % 3 == 0) {              /* on and off and on again within a turn */
                conn_pause(b.c, true);
                conn_pause(b.c, false);
            }
        }
        assert_int_equal(order_errors, 0);
        part(&a, &b);
    }
}

/* A paused connection whose peer goes away says so once it goes on, after the frames that had come. */
static void test_peer_leaves_while_paused(void **state)
{
    each_transport(addr)
    {
        struct end a = {0}, b = {0};
        join(&a, &b, addr);
        conn_pause(b.c, true);
        for (int i = 0; i < 20; i++) assert_int_equal(send_one(&a, 1, "x", 1), 0);
        conn_close(a.c);
        run_until(loop, a.closes);
        assert_int_equal(b.frames + b.closes, 0);
        conn_pause(b.c, false);
        run_until(loop, b.closes);
        assert_int_equal(b.frames, 20);
    }
}

enum { MANY = 2000 };
static struct end clients[MANY], servers[MANY];
static int naccepted;
static void accept_next(void *arg, struct conn *c) { on_accept(&servers[naccepted++], c); }

static void test_thousands_of_connections(void **state)
{
    each_transport(addr)
    {
        int up = 0, frames = 0, closed = 0;
        memset(clients, 0, sizeof(clients));
        memset(servers, 0, sizeof(servers));
        naccepted = 0;
        assert_int_equal(net_listen(net, addr, accept_next, NULL), 0);
        for (int i = 0; i < MANY; i++) {
            servers[i].echo = servers[i].quiet = true;
            dial(&clients[i], addr);
        }
        while (up < MANY || naccepted < MANY) {
            io_loop_run(loop);
            up = 0;
            for (int i = 0; i < MANY; i++) up += clients[i].opens;
        }
        for (int i = 0; i < MANY; i++) assert_int_equal(send_one(&clients[i], 1, &i, sizeof(i)), 0);
        while (frames < MANY) {
            io_loop_run(loop);
            frames = 0;
            for (int i = 0; i < MANY; i++) frames += clients[i].frames;
        }
        for (int i = 0; i < MANY; i++) {
            assert_true(slice_eq(buf_slice(&clients[i].last), slice_of(&i, sizeof(i))));
            conn_close(i % 2 ? clients[i].c : servers[i].c);
        }
        while (closed < 2 * MANY) {
            io_loop_run(loop);
            closed = 0;
            for (int i = 0; i < MANY; i++) closed += clients[i].closes + servers[i].closes;
        }
        assert_int_equal(closed, 2 * MANY);
    }
}

/* Out of descriptors: the listener rests, says so, and goes on when there are some again. */
static void stop_on_warning(void *arg, enum trace_level level, const char *text)
{
    warnings++;
    io_loop_stop(loop);
}

static void test_out_of_descriptors(void **state)
{
    struct rlimit old, low;
    trace = (struct trace){.level = TRACE_WARN, .line = stop_on_warning};
    io_loop_trace(loop, &trace);
    each_transport(addr)
    {
        struct end b = {0};
        uint8_t bytes[100];
        warnings = 0;
        assert_int_equal(net_listen(net, addr, on_accept, &b), 0);
        int fd = raw_connect(addr);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
        low = (struct rlimit){.rlim_cur = (rlim_t)fd + 1, .rlim_max = old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
        run_until(loop, warnings);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        assert_null(b.c);
        run_until(loop, b.c);
        size_t n = raw_frame(bytes, 1, "late but here");
        assert_int_equal(write(fd, bytes, n), (ssize_t)n);
        run_until(loop, b.frames == 1);
        close(fd);
        run_until(loop, b.closes);
    }
}

/* ---- a random mix ------------------------------------------------------------------------------------------------ */

/* Peers send numbered frames whose content follows from (pair, direction, number); each end verifies what it gets is
 * the next one. Pauses, bursts, large frames and closes come at random. */
enum { PAIRS = 24, STEPS = 1000 };
struct mix {
    struct end e;
    struct mix *other;
    uint64_t id, sent, got;
    bool listens;
};
static struct mix mixes[2 * PAIRS];
static struct prng rnd;
static const char *mix_addr[2];
static int mix_errors, mix_total;

static size_t mix_size(uint64_t id, uint64_t k)
{
    uint64_t h = hash_mix(id * 1000003 + k);
    if (h % 50 == 0) return 8 + (h >> 8) % 400000;
    return 8 + (h >> 8) % 3000;
}

static void mix_fill(uint8_t *p, uint64_t id, uint64_t k)
{
    size_t n = mix_size(id, k);
    uint8_t byte = (uint8_t)hash_mix(id ^ (k << 20));
    memset(p, byte, n);
    store_u64(p, k);
}

static void mix_frame(struct conn *c, uint8_t type, struct slice s)
{
    static uint8_t want[500000];
    struct mix *m = c->arg;
    uint64_t from = m->other->id;
    mix_fill(want, from, m->got);
    if (s.n != mix_size(from, m->got) || memcmp(want, s.p, s.n) != 0) mix_errors++;
    m->got++;
    mix_total++;
    if (prng_chance(&rnd, 2)) conn_pause(c, true);
    if (prng_below(&rnd, 400) == 0) conn_close(c);
}

static void mix_closed(struct conn *c, int err)
{
    struct mix *m = c->arg;
    m->e.c = NULL;
    m->e.closes++;
}
static void mix_open(struct conn *c) { ((struct mix *)c->arg)->e.opens++; }
static const struct conn_cb mix_cb = {.open = mix_open, .frame = mix_frame, .closed = mix_closed};

/* Which dialler it is, its first frame tells. */
static void mix_hello(struct conn *c, uint8_t type, struct slice s)
{
    struct mix *m = &mixes[load_u32(s.p)];
    assert_null(m->e.c);
    c->cb = &mix_cb;
    c->arg = m;
    m->e.c = c;
    m->sent = m->got = 0;
}
static void hello_closed(struct conn *c, int err) {}
static const struct conn_cb hello_cb = {.frame = mix_hello, .closed = hello_closed};
static void mix_accept(void *arg, struct conn *c) { c->cb = &hello_cb; }

static void mix_step(struct mix *m, uint32_t i)
{
    static uint8_t p[500000];
    if (!m->e.c) {
        if (m->listens || m->other->e.c) return; /* both ends must have ended before the next round */
        m->sent = m->got = 0;
        m->e.opens = 0;
        m->e.c = net_dial(net, mix_addr[i % 2], &mix_cb, m);
        return;
    }
    if (!m->listens && m->sent == 0 && m->e.opens) {
        uint32_t peer = i + 1;
        struct slice s = slice_of(&peer, sizeof(peer));
        if (conn_send(m->e.c, 1, &s, 1) == 0) m->e.opens = 0, m->sent = 0, m->e.drains = 1;
        return;
    }
    if (!m->listens && m->e.drains == 0) return; /* not introduced yet */
    for (uint64_t n = prng_below(&rnd, 20); n && m->e.c; n--) {
        mix_fill(p, m->id, m->sent);
        struct slice s[2] = {slice_of(p, 5), slice_of(p + 5, mix_size(m->id, m->sent) - 5)};
        if (conn_send(m->e.c, 2, s, 2) < 0) break;
        m->sent++;
    }
    if (prng_chance(&rnd, 30)) conn_pause(m->e.c, prng_chance(&rnd, 20));
    if (prng_below(&rnd, 300) == 0) conn_close(m->e.c);
}

static int mix_steps;
static void mix_turn(struct timer *t)
{
    if (++mix_steps > STEPS) {
        io_loop_stop(loop);
        return;
    }
    for (uint32_t i = 0; i < 2 * PAIRS; i++) {
        if (!mixes[i].listens && !mixes[i].e.c) mixes[i].e.drains = 0;
        if (prng_chance(&rnd, 25)) mix_step(&mixes[i], i);
    }
    clock_arm(clk, t, 0);
}

static void test_random_mix(void **state)
{
    static char addrs[2][128];
    struct timer t = {.fire = mix_turn};
    prng_seed(&rnd, 20240601);
    memset(mixes, 0, sizeof(mixes));
    mix_errors = mix_total = mix_steps = 0;
    for (int i = 0; i < 2; i++) {
        snprintf(addrs[i], sizeof(addrs[i]), "%s", transports[i]());
        mix_addr[i] = addrs[i];
        assert_int_equal(net_listen(net, addrs[i], mix_accept, NULL), 0);
    }
    for (uint32_t i = 0; i < 2 * PAIRS; i++) {
        mixes[i].id = i + 1;
        mixes[i].listens = i % 2 == 1;
        mixes[i].other = &mixes[i ^ 1];
    }
    clock_arm(clk, &t, 0);
    run_until(loop, mix_steps > STEPS);
    int closes = 0;
    for (int i = 0; i < 2 * PAIRS; i++) closes += mixes[i].e.closes;
    assert_int_equal(mix_errors, 0);
    assert_true(mix_total > 5000);
    assert_true(closes > 20);
}

/* ---- guests that begin large frames ---- */

enum { GUESTS = 12, GUEST_BYTES = 200 * 1024 };
static struct end guests[GUESTS];
static int nguests;

static void on_guest(void *arg, struct conn *c)
{
    guests[nguests] = (struct end){.c = c};
    c->cb = &cb;
    c->guest = true;
    c->arg = &guests[nguests++];
    io_loop_stop(loop);
}

static void on_stop(struct timer *t) { io_loop_stop(t->arg); }
static void on_time(struct timer *t) { *(bool *)t->arg = true; }

static void run_for(struct io_loop *l, uint64_t ms)
{
    bool over = false;
    struct timer t = {.fire = on_time, .arg = &over};
    clock_arm(clk, &t, clock_now(clk) + ms * NS_PER_MS);
    while (!over) {
        struct timer stop = {.fire = on_stop, .arg = l};
        clock_arm(clk, &stop, clock_now(clk) + NS_PER_MS);
        io_loop_run(l);
        clock_disarm(clk, &stop);
    }
}

static int raw_unix(const char *addr)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    size_t n = strlen(addr + 5);
    assert_true(n < sizeof(sa.sun_path));
    memcpy(sa.sun_path, addr + 5, n);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
    return fd;
}

static size_t kept(void)
{
    size_t sum = 0;
    for (int i = 0; i < nguests; i++)
        if (guests[i].c) sum += container_of(guests[i].c, struct io__conn, base)->in.n;
    return sum;
}

/* Each sends half a large frame: only as many as there is room for get on, the others are not read from; when they
 * have their turn, every frame arrives whole. One that never goes on loses its connection, but only as others wait. */
static void test_guests_take_turns(void **state)
{
    struct io__net *n = container_of(net, struct io__net, base);
    static uint8_t frame[FRAME_HEADER_BYTES + GUEST_BYTES], payload[GUEST_BYTES];
    struct slice v = slice_of(payload, sizeof(payload));
    const char *addr = unix_addr();
    int fds[GUESTS], frames = 0, closes = 0;
    nguests = 0;
    n->grants_max = 3 * sizeof(frame);
    n->stall_ns = 3600 * NS_PER_S;
    memset(payload, 7, sizeof(payload));
    assert_int_equal(frame_header(frame, 5, 0, &v, 1), 0);
    memcpy(frame + FRAME_HEADER_BYTES, payload, sizeof(payload));
    assert_int_equal(net_listen(net, addr, on_guest, NULL), 0);
    for (int i = 0; i < GUESTS; i++) {
        fds[i] = raw_unix(addr);
        assert_int_equal(send(fds[i], frame, sizeof(frame) / 2, MSG_DONTWAIT), sizeof(frame) / 2);
    }
    run_until(loop, nguests == GUESTS);
    for (int tries = 0; tries < 10000 && n->granted < 3 * sizeof(frame); tries++) run_for(loop, 1);
    for (int i = 0; i < 20; i++) run_for(loop, 5);          /* and no more than that */
    assert_int_equal(n->granted, 3 * sizeof(frame));
    assert_true(kept() <= 3 * sizeof(frame) + (GUESTS - 3) * 2 * 64 * 1024);
    /* The rest of all but one of those that have a grant, and of all others. */
    int silent = -1;
    for (int i = 0; i < GUESTS; i++) {
        if (silent < 0 && container_of(guests[i].c, struct io__conn, base)->grant) {
            silent = i;
            continue;
        }
        size_t from = sizeof(frame) / 2;
        fcntl(fds[i], F_SETFL, O_NONBLOCK);
        while (from < sizeof(frame)) {
            ssize_t r = send(fds[i], frame + from, sizeof(frame) - from, MSG_DONTWAIT);
            if (r > 0) from += (size_t)r;
            else run_for(loop, 1);
        }
    }
    for (int tries = 0; tries < 10000 && frames < GUESTS - 1; tries++) {
        run_for(loop, 1);
        frames = 0;
        for (int i = 0; i < GUESTS; i++) frames += guests[i].frames;
    }
    assert_int_equal(frames, GUESTS - 1);
    assert_int_equal(n->granted, sizeof(frame));
    assert_int_equal(guests[silent].closes, 0);             /* nobody waits for its grant */
    n->stall_ns = 20 * NS_PER_MS;
    n->grants_max = sizeof(frame);
    int other = silent == 0 ? 1 : 0;
    assert_int_equal(send(fds[other], frame, sizeof(frame) / 2, MSG_DONTWAIT), sizeof(frame) / 2);
    run_until(loop, guests[silent].closes);
    assert_int_equal(guests[silent].err, -ETIMEDOUT);
    for (int i = 0; i < GUESTS; i++) close(fds[i]);
    for (int tries = 0; tries < 10000 && closes < GUESTS; tries++) {
        run_for(loop, 1);
        closes = 0;
        for (int i = 0; i < GUESTS; i++) closes += guests[i].closes;
    }
    assert_int_equal(closes, GUESTS);
    assert_int_equal(n->granted, 0);
    assert_true(list_empty(&n->wanting) && list_empty(&n->granting));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_frames_of_all_sizes),
        T(test_guests_take_turns),
        T(test_order_of_a_turns_frames),
        T(test_many_slices),
        T(test_bytes_one_by_one),
        T(test_garbage_closes_the_connection),
        T(test_half_open_peers),
        T(test_last_words),
        T(test_close_is_never_immediate),
        T(test_close_flushes),
        T(test_stop_flushes),
        T(test_close_inside_callbacks),
        T(test_close_inside_accept),
        T(test_close_while_dialling),
        T(test_close_another_connection),
        T(test_loop_free_closes_what_is_left),
        T(test_bad_addresses),
        T(test_names_and_wildcards),
        T(test_ipv6),
        T(test_self_connection_is_noticed),
        T(test_address_in_use),
        T(test_stale_unix_socket),
        T(test_long_unix_paths),
        T(test_a_peer_that_does_not_read),
        T(test_drained_after_a_burst),
        T(test_pause_inside_frame),
        T(test_peer_leaves_while_paused),
        T(test_thousands_of_connections),
        T(test_out_of_descriptors),
        T(test_random_mix),
    };
    alarm(WATCHDOG_S);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
