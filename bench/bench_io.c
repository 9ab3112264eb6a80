/* bench_io - what the doors cost: round trips of a small frame, frames a second, megabytes a second, and a durable page
 * write through the disk door against the bare system call. Prints one line a measurement. Usage: bench_io DIR */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "io/io.h"

#define PINGS  20000
#define SMALL  500000
#define LARGE  2000
#define WINDOW 512
#define WRITES 2000

static struct io_loop *loop;
static uint64_t count, limit, window_left;
static uint32_t size;
static struct conn *client, *server;
static uint8_t *bytes;

static uint64_t now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void send_frame(struct conn *c, uint32_t n)
{
    struct slice s = slice_of(bytes, n);
    check(conn_send(c, 1, &s, 1) == 0);
}

/* Server: answers every frame with 8 bytes. Client: counts answers and keeps the window full. */
static void serve(struct conn *c, uint8_t type, struct slice p) { send_frame(c, 8); }
static void answered(struct conn *c, uint8_t type, struct slice p)
{
    if (++count == limit) {
        io_loop_stop(loop);
    } else if (window_left) {
        window_left--;
        send_frame(c, size);
    }
}
static void opened(struct conn *c) { io_loop_stop(loop); }
static void closed(struct conn *c, int err) {}
static const struct conn_cb server_cb = {.frame = serve, .closed = closed};
static const struct conn_cb client_cb = {.open = opened, .frame = answered, .closed = closed};

static void accepted(void *arg, struct conn *c)
{
    c->cb = &server_cb;
    server = c;
}

static double run(uint64_t frames, uint64_t window, uint32_t n)
{
    count = 0;
    limit = frames;
    size = n;
    window_left = frames - window;
    uint64_t start = now();
    for (uint64_t i = 0; i < window; i++) send_frame(client, n);
    io_loop_run(loop);
    return (double)(now() - start);
}

static void bench_net(const char *name, const char *addr)
{
    check(net_listen(io_net(loop), addr, accepted, NULL) == 0);
    client = net_dial(io_net(loop), addr, &client_cb, NULL);
    io_loop_run(loop);
    printf("%-5s round trip, one frame at a time, both ends in one loop: %.1f us\n", name,
           run(PINGS, 1, 100) / PINGS / 1000);
    printf("%-5s 100-byte frames, %d outstanding: %.0f/s\n", name, WINDOW, SMALL / (run(SMALL, WINDOW, 100) / 1e9));
    double t = run(LARGE, 8, 1u << 20);
    printf("%-5s 1 MiB frames, 8 outstanding: %.0f MiB/s\n", name, LARGE / (t / 1e9));
}

static uint64_t left;
static void written(struct disk_io *io, int64_t r)
{
    check(r == (int64_t)io->n);
    io->off += io->n;
    if (--left)
        disk_submit(io->arg, io);
    else
        io_loop_stop(loop);
}

static void bench_disk(const char *dir)
{
    struct disk *d;
    struct buf why = {0};
    char path[4096];
    check(io_disk_open(loop, dir, &d, &why) == 0);
    uint8_t *page = aligned_alloc(DISK_BLOCK, DISK_BLOCK);
    memset(page, 1, DISK_BLOCK);
    uint8_t *zeros = aligned_alloc(DISK_BLOCK, WRITES * DISK_BLOCK);
    memset(zeros, 0, WRITES * DISK_BLOCK);
    struct disk_io io = {
        .op = DISK_WRITE, .lane = DISK_LANE_LOG, .name = "bench", .p = zeros, .n = WRITES * DISK_BLOCK};
    snprintf(path, sizeof(path), "%s/bench", dir);
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    check(pwrite(fd, zeros, WRITES * DISK_BLOCK, 0) == WRITES * DISK_BLOCK && fsync(fd) == 0);
    close(fd);
    fd = open(path, O_RDWR | O_DIRECT);
    struct iovec v = {page, DISK_BLOCK};
    for (int round = 0; round < 3; round++) {
        uint64_t start = now();
        for (int i = 0; i < WRITES; i++) check(pwritev2(fd, &v, 1, i * (off_t)DISK_BLOCK, RWF_DSYNC) == DISK_BLOCK);
        double bare = (double)(now() - start) / WRITES / 1000;
        left = WRITES;
        io = (struct disk_io){.op = DISK_WRITE,
                              .lane = DISK_LANE_LOG,
                              .durable = true,
                              .name = "bench",
                              .p = page,
                              .n = DISK_BLOCK,
                              .done = written,
                              .arg = d};
        start = now();
        disk_submit(d, &io);
        io_loop_run(loop);
        printf("disk  durable 4 KiB write, one at a time: %.1f us; bare system call: %.1f us\n",
               (double)(now() - start) / WRITES / 1000, bare);
    }
    close(fd);
    left = WRITES;
    io = (struct disk_io){.op = DISK_REMOVE, .lane = DISK_LANE_LOG, .name = "none", .done = written, .arg = d};
    uint64_t start = now();
    disk_submit(d, &io);
    io_loop_run(loop);
    printf("disk  to the thread and back, an operation that does nothing: %.1f us\n",
           (double)(now() - start) / WRITES / 1000);
    unlink(path);
    free(page);
    free(zeros);
    io_disk_close(d);
}

int main(int argc, char **argv)
{
    char addr[4096];
    if (argc != 2) {
        fprintf(stderr, "usage: bench_io DIR\n");
        return 2;
    }
    loop = io_loop_new();
    bytes = calloc(1, 1u << 20);
    bench_disk(argv[1]);
    snprintf(addr, sizeof(addr), "unix:%s/bench.sock", argv[1]);
    bench_net("unix", addr);
    bench_net("tcp", "127.0.0.1:28173");
    io_loop_free(loop);
    free(bytes);
    return 0;
}
