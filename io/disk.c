/* disk.c - the disk door: lanes of threads that run the operations of disk_files.c, and the way of their results back.
 *
 * Happy path: submit() puts the operation into its lane's queue and wakes a thread if one sleeps; the thread runs it
 * and puts it on the list of finished ones, which the loop drains before it would block, or, if it sleeps, when the
 * uv_async wakes it. LOG and BULK have one thread each, which makes their order; READ has several and no order. */
#include <stdatomic.h>
#include <stdlib.h>

#include "io/io_priv.h"

#define READERS 4

struct io_disk;

struct lane {
    struct io_disk *disk;
    uv_mutex_t mutex;
    uv_cond_t cond;
    struct list queue; /* disk_io.link */
    unsigned idle;     /* threads that wait */
    bool stop;
    unsigned nthreads;
    uv_thread_t threads[READERS];
};

struct io_disk {
    struct disk base;
    struct io_loop *loop;
    struct list link;
    bool closed;
    struct io__files *files;
    struct lane lanes[3]; /* by enum disk_lane */
    uv_async_t wake;
    uv_mutex_t mutex; /* of `finished` */
    struct list finished;
    atomic_bool any; /* `finished` is not empty, as a hint for the loop */
};

static struct io_disk *of(struct disk *d) { return container_of(d, struct io_disk, base); }

static void finish(struct io_disk *d, struct disk_io *io)
{
    uv_mutex_lock(&d->mutex);
    bool first = list_empty(&d->finished);
    list_push_back(&d->finished, &io->link);
    atomic_store(&d->any, true);
    uv_mutex_unlock(&d->mutex);
    if (first) check(uv_async_send(&d->wake) == 0);
}

static void run_lane(void *arg)
{
    struct lane *l = arg;
    uv_mutex_lock(&l->mutex);
    for (;;) {
        while (list_empty(&l->queue) && !l->stop) {
            l->idle++;
            uv_cond_wait(&l->cond, &l->mutex);
            l->idle--;
        }
        struct list *i = list_pop_front(&l->queue);
        if (!i) break;
        uv_mutex_unlock(&l->mutex);
        struct disk_io *io = container_of(i, struct disk_io, link);
        io->door = (uint64_t)io__files_run(l->disk->files, io);
        finish(l->disk, io);
        uv_mutex_lock(&l->mutex);
    }
    uv_mutex_unlock(&l->mutex);
}

static void op_submit(struct disk *base, struct disk_io *io)
{
    struct io_disk *d = of(base);
    check(io->lane <= DISK_LANE_READ && (io->lane != DISK_LANE_READ || io->op == DISK_READ) && io->done);
    struct lane *l = &d->lanes[io->lane];
    if (d->closed) return;
    uv_mutex_lock(&l->mutex);
    list_push_back(&l->queue, &io->link);
    bool sleeps = l->idle > 0;
    uv_mutex_unlock(&l->mutex);
    if (sleeps) uv_cond_signal(&l->cond);
}

static bool drain(struct io_disk *d)
{
    struct list now;
    if (!atomic_load(&d->any)) return false;
    list_init(&now);
    uv_mutex_lock(&d->mutex);
    for (struct list *i; (i = list_pop_front(&d->finished));) list_push_back(&now, i);
    atomic_store(&d->any, false);
    uv_mutex_unlock(&d->mutex);
    bool any = !list_empty(&now);
    d->loop->events += any;
    for (struct list *i; (i = list_pop_front(&now));) {
        struct disk_io *io = container_of(i, struct disk_io, link);
        io->done(io, (int64_t)io->door);
    }
    return any;
}

bool io__disk_drain(struct io_loop *l)
{
    bool any = false;
    list_for_each_safe(i, next, &l->disks) any |= drain(container_of(i, struct io_disk, link));
    return any;
}

static void on_wake(uv_async_t *h) { drain(container_of(h, struct io_disk, wake)); }

static int64_t op_try_read(struct disk *base, const char *name, uint64_t off, void *p, uint32_t n)
{
    return of(base)->closed ? -EAGAIN : io__files_try_read(of(base)->files, name, off, p, n);
}

static int op_list(struct disk *base, void (*each)(void *arg, const char *name, uint64_t size), void *arg)
{
    return of(base)->closed ? -EBADF : io__files_list(of(base)->files, each, arg);
}

static int64_t op_load(struct disk *base, const char *name, uint64_t off, void *p, size_t n)
{
    return of(base)->closed ? -EBADF : io__files_read(of(base)->files, name, off, p, n);
}

static int op_settle(struct disk *base, const char *name)
{
    struct disk_io io = {.op = DISK_SYNC};
    check(strlen(name) < sizeof io.name);
    memcpy(io.name, name, strlen(name) + 1);
    return of(base)->closed ? -EBADF : (int)io__files_run(of(base)->files, &io);
}

static int op_space(struct disk *base, uint64_t *total, uint64_t *avail)
{
    return of(base)->closed ? -EBADF : io__files_space(of(base)->files, total, avail);
}

static const struct disk_ops ops = {
    .submit = op_submit, .try_read = op_try_read, .list = op_list, .load = op_load, .space = op_space, .settle = op_settle};

/* Signals are for the loop's thread. */
static void start_lane(struct lane *l, struct io_disk *d, unsigned nthreads)
{
    sigset_t all, old;
    l->disk = d;
    list_init(&l->queue);
    check(uv_mutex_init(&l->mutex) == 0 && uv_cond_init(&l->cond) == 0);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (l->nthreads = 0; l->nthreads < nthreads; l->nthreads++) {
        check(uv_thread_create(&l->threads[l->nthreads], run_lane, l) == 0);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* What is queued is still done. */
static void stop_lane(struct lane *l)
{
    uv_mutex_lock(&l->mutex);
    l->stop = true;
    uv_cond_broadcast(&l->cond);
    uv_mutex_unlock(&l->mutex);
    for (unsigned i = 0; i < l->nthreads; i++) uv_thread_join(&l->threads[i]);
    uv_cond_destroy(&l->cond);
    uv_mutex_destroy(&l->mutex);
}

int io_disk_open(struct io_loop *l, const char *dir, struct disk **out, struct buf *why)
{
    struct io__files *files;
    int err = io__files_open(dir, &files, why);
    if (err) return err;
    struct io_disk *d = xcalloc(1, sizeof(*d));
    d->base.ops = &ops;
    d->loop = l;
    d->files = files;
    list_init(&d->finished);
    check(uv_mutex_init(&d->mutex) == 0 && uv_async_init(&l->uv, &d->wake, on_wake) == 0);
    start_lane(&d->lanes[DISK_LANE_LOG], d, 1);
    start_lane(&d->lanes[DISK_LANE_BULK], d, 1);
    start_lane(&d->lanes[DISK_LANE_READ], d, READERS);
    list_push_back(&l->disks, &d->link);
    *out = &d->base;
    return 0;
}

static void on_closed(uv_handle_t *h) { free(container_of((uv_async_t *)h, struct io_disk, wake)); }

void io_disk_close(struct disk *base)
{
    struct io_disk *d = of(base);
    for (int i = 0; i < 3; i++) stop_lane(&d->lanes[i]);
    list_remove(&d->link);
    d->closed = true;
    io__files_close(d->files);
    uv_mutex_destroy(&d->mutex);
    uv_close((uv_handle_t *)&d->wake, on_closed);
}
