/* disk.c - the simulated disk. Blocks are shared and copied on write, so an image is an array of references, a block is unsafe
 * where its two references differ, and a clone costs next to nothing. */
#include "tests/sim/disk.h"

#include <stdio.h>
#include <stdlib.h>

#define BLOCK DISK_BLOCK
#define SECTOR 512u
#define OPS (DISK_REMOVE + 1)
#define ENDLESS (1ull << 44)

struct block {
    uint32_t refs;
    uint8_t p[BLOCK];
};

struct image {
    struct block **v;                   /* NULL: zeros */
    size_t n, cap;
};

struct file {
    struct list link;
    char name[DISK_NAME_MAX];
    struct image now, safe;
    bool removed;                       /* may come back by a crash */
    bool known;                         /* its name is safe */
    uint64_t *bad;                      /* unreadable blocks */
    size_t nbad;
};

struct sim_disk {
    struct disk door;
    struct clock *clock;
    struct sim_disk_config cfg;
    struct prng rng;
    struct list files;
    struct list lane[3];                /* operations, by enum disk_lane, in order */
    uint64_t lane_free[3];
    uint32_t pending, slow;
    bool shut;
    struct timer timer;
    struct {
        enum sim_disk_fault what;
        unsigned ops;
        uint64_t nth;                   /* 0: none */
        int err;
        const char *prefix;
    } fault;
    bool hangs;
    char lie[DISK_NAME_MAX];            /* the file of sim_disk_lies(); "": none */
    uint64_t done[OPS];
    struct sim_disk_stats stats;
};

/* ---- blocks and images ---- */

static void block_unref(struct block *b)
{
    if (b && --b->refs == 0) free(b);
}

static struct block *block_ref(struct block *b)
{
    if (b) b->refs++;
    return b;
}

static struct block *block_copy(const struct block *b)
{
    struct block *c = xcalloc(1, sizeof *c);
    if (b) memcpy(c->p, b->p, BLOCK);
    c->refs = 1;
    return c;
}

static void image_resize(struct image *im, size_t n)
{
    while (im->n > n) block_unref(im->v[--im->n]);
    if (n > im->cap) {
        im->cap = n > 2 * im->cap ? n : 2 * im->cap;
        im->v = xrealloc(im->v, im->cap * sizeof(struct block *));
    }
    while (im->n < n) im->v[im->n++] = NULL;
}

static void image_set(struct image *im, size_t i, struct block *b)
{
    block_unref(im->v[i]);
    im->v[i] = b;
}

static void image_assign(struct image *to, const struct image *from)
{
    image_resize(to, from->n);
    for (size_t i = 0; i < from->n; i++)
        if (to->v[i] != from->v[i]) image_set(to, i, block_ref(from->v[i]));
}

static void image_free(struct image *im)
{
    image_resize(im, 0);
    free(im->v);
    *im = (struct image){0};
}

/* ---- files ---- */

static struct file *file_find(const struct sim_disk *d, const char *name)
{
    list_for_each(l, &d->files) {
        struct file *f = container_of(l, struct file, link);
        if (!f->removed && strcmp(f->name, name) == 0) return f;
    }
    return NULL;
}

static struct file *file_new(struct sim_disk *d, const char *name)
{
    struct file *f = xcalloc(1, sizeof *f);
    snprintf(f->name, sizeof f->name, "%s", name);
    list_push_back(&d->files, &f->link);
    return f;
}

static void file_free(struct file *f)
{
    list_remove(&f->link);
    image_free(&f->now);
    image_free(&f->safe);
    free(f->bad);
    free(f);
}

static bool is_bad(const struct file *f, uint64_t block)
{
    for (size_t i = 0; i < f->nbad; i++)
        if (f->bad[i] == block) return true;
    return false;
}

static void heal(struct file *f, uint64_t block)
{
    for (size_t i = 0; i < f->nbad; i++)
        if (f->bad[i] == block) f->bad[i--] = f->bad[--f->nbad];
}

uint64_t sim_disk_used(const struct sim_disk *d)
{
    uint64_t n = 0;
    list_for_each(l, &d->files)
    {
        const struct file *f = container_of(l, struct file, link);
        if (!f->removed) n += f->now.n;
    }
    return n * BLOCK;
}

static bool fits(const struct sim_disk *d, const struct file *f, uint64_t blocks)
{
    uint64_t have = f ? f->now.n : 0;
    if (d->cfg.capacity == 0 || blocks <= have) return true;
    return sim_disk_used(d) + (blocks - have) * BLOCK <= d->cfg.capacity;
}

/* ---- what operations do ---- */

static int64_t do_read(const struct sim_disk *d, const char *name, uint64_t off, uint8_t *p, uint64_t n)
{
    const struct file *f = file_find(d, name);
    uint64_t done = 0;
    if (!f) return -ENOENT;
    while (done < n && off + done < (uint64_t)f->now.n * BLOCK) {
        uint64_t at = off + done, in = at % BLOCK, step = min_u64(n - done, BLOCK - in);
        const struct block *b = f->now.v[at / BLOCK];
        if (f->nbad && is_bad(f, at / BLOCK)) return -EIO;
        if (b)
            memcpy(p + done, b->p + in, step);
        else
            memset(p + done, 0, step);
        done += step;
    }
    return (int64_t)done;
}

static int64_t do_write(struct sim_disk *d, const struct disk_io *io, uint64_t off, uint32_t n)
{
    struct file *f = file_find(d, io->name);
    size_t blocks = (size_t)((off + n) / BLOCK);
    check(off % BLOCK == 0 && n % BLOCK == 0 && (uintptr_t)io->p % BLOCK == 0);
    if (!fits(d, f, blocks)) return -ENOSPC;
    if (!f) f = file_new(d, io->name);
    if (f->now.n < blocks) image_resize(&f->now, blocks);
    if (io->durable && f->safe.n < blocks) image_resize(&f->safe, blocks);
    for (uint32_t i = 0; i < n / BLOCK; i++) {
        struct block *b = block_copy(NULL);
        size_t at = (size_t)(off / BLOCK) + i;
        memcpy(b->p, (const uint8_t *)io->p + (size_t)i * BLOCK, BLOCK);
        image_set(&f->now, at, b);
        heal(f, at);
        if (io->durable) image_set(&f->safe, at, block_ref(b));
    }
    return n;
}

/* Some sectors of a write come to be safe, the others do not. */
static struct block *torn(struct sim_disk *d, const struct block *old, const uint8_t *bytes)
{
    struct block *b = block_copy(old);
    uint64_t mode = prng_below(&d->rng, 4), mask = prng_u64(&d->rng);
    unsigned cut = (unsigned)prng_below(&d->rng, BLOCK / SECTOR + 1);
    unsigned taken = 0;
    for (unsigned s = 0; s < BLOCK / SECTOR; s++) {
        bool take = mode == 0 ? true : mode == 1 ? false : mode == 2 ? s < cut : (mask >> s & 1) != 0;
        if (take) memcpy(b->p + s * SECTOR, bytes + s * SECTOR, SECTOR);
        taken += take;
    }
    d->stats.unsynced += taken == 0;
    d->stats.torn += taken > 0 && taken < BLOCK / SECTOR;
    return b;
}

static void partial_write(struct sim_disk *d, const struct disk_io *io)
{
    struct file *f = file_find(d, io->name);
    size_t blocks = (size_t)((io->off + io->n) / BLOCK);
    uint64_t mode = prng_below(&d->rng, 3);
    if (!f && prng_chance(&d->rng, 50)) return;
    if (!f) f = file_new(d, io->name);
    if (f->now.n < blocks) {                /* it may have grown in part */
        if (!fits(d, f, blocks)) return;
        size_t first = (size_t)(io->off / BLOCK);
        if (f->now.n < first) image_resize(&f->now, first);
        blocks = f->now.n + (size_t)prng_below(&d->rng, blocks - f->now.n + 1);
        image_resize(&f->now, blocks);
    }
    if (f->safe.n < blocks) image_resize(&f->safe, blocks);
    for (uint32_t i = 0; i < io->n / BLOCK; i++) {
        size_t at = (size_t)(io->off / BLOCK) + i;
        if (at >= f->now.n) break;
        if (mode == 1 && prng_chance(&d->rng, 80)) continue;        /* few blocks */
        const uint8_t *bytes = (const uint8_t *)io->p + (size_t)i * BLOCK;
        struct block *b = torn(d, f->safe.v[at], bytes);
        if (mode == 2 && prng_chance(&d->rng, 90)) memcpy(b->p, bytes, BLOCK);  /* nearly all */
        image_set(&f->now, at, b);
        image_set(&f->safe, at, block_ref(b));
    }
}

static void forget_removed(struct sim_disk *d, const char *name)
{
    list_for_each_safe(l, tmp, &d->files) {
        struct file *f = container_of(l, struct file, link);
        if (f->removed && (strcmp(f->name, name) == 0 || prng_chance(&d->rng, 50))) file_free(f);
    }
}

static int64_t do_alloc(struct sim_disk *d, const struct disk_io *io)
{
    struct file *f = file_find(d, io->name);
    size_t blocks = (size_t)((io->off + BLOCK - 1) / BLOCK);
    if (!fits(d, f, blocks)) return -ENOSPC;
    if (!f) f = file_new(d, io->name);
    f->known = true;
    if (f->now.n < blocks) image_resize(&f->now, blocks);
    if (f->safe.n < blocks) image_resize(&f->safe, blocks);
    forget_removed(d, io->name);
    return 0;
}

static int64_t do_rename(struct sim_disk *d, const struct disk_io *io)
{
    struct file *f = file_find(d, io->name), *old = file_find(d, io->to);
    if (!f) return -ENOENT;
    if (old && old != f) file_free(old);
    forget_removed(d, io->to);
    snprintf(f->name, sizeof f->name, "%s", io->to);
    f->known = true;
    return 0;
}

static int64_t perform(struct sim_disk *d, struct disk_io *io)
{
    struct file *f = file_find(d, io->name);
    switch (io->op) {
    case DISK_READ: return do_read(d, io->name, io->off, io->p, io->n);
    case DISK_WRITE: return do_write(d, io, io->off, io->n);
    case DISK_SYNC:
        if (!f) return -ENOENT;
        image_assign(&f->safe, &f->now);
        return 0;
    case DISK_ALLOC: return do_alloc(d, io);
    case DISK_RENAME: return do_rename(d, io);
    case DISK_REMOVE:
        if (f) f->removed = true;
        if (f && !f->known) file_free(f);
        return 0;
    }
    return -EINVAL;
}

static int64_t fail(struct sim_disk *d, struct disk_io *io)
{
    d->stats.write_errors += io->op == DISK_WRITE;
    d->stats.read_errors += io->op == DISK_READ;
    d->stats.sync_errors += io->op == DISK_SYNC || (io->op == DISK_WRITE && io->durable);
    if (io->op == DISK_WRITE) partial_write(d, io);
    return d->fault.err;
}

/* The file tells the next durable write that it has no right to this one. */
static void lied(struct sim_disk *d, const struct disk_io *io, uint64_t *count)
{
    (*count)++;
    if (io->durable) snprintf(d->lie, sizeof d->lie, "%s", io->name);
}

static int64_t perform_faulty(struct sim_disk *d, struct disk_io *io)
{
    int64_t result;
    switch (d->fault.what) {
    case SIM_DISK_ERROR:
        return fail(d, io);
    case SIM_DISK_SHORT:
        if (io->op != DISK_WRITE) return perform(d, io);
        result = do_write(d, io, io->off, io->n / BLOCK / 2 * BLOCK);
        return result;
    case SIM_DISK_MISDIRECT: {
        struct file *f = file_find(d, io->name);
        if (io->op != DISK_WRITE || !f || f->now.n * BLOCK <= io->n) return perform(d, io);
        uint64_t off = prng_below(&d->rng, f->now.n - io->n / BLOCK + 1) * BLOCK;
        if (off == io->off) off = off ? 0 : io->n;
        lied(d, io, &d->stats.misdirected);
        return do_write(d, io, off, io->n);
    }
    case SIM_DISK_LOST:
        if (io->op != DISK_WRITE) return perform(d, io);
        lied(d, io, &d->stats.lost);
        return (int64_t)io->n;
    }
    return -EINVAL;
}

/* ---- lanes and time ---- */

static struct disk_io *head_of(const struct sim_disk *d, int lane)
{
    return list_empty(&d->lane[lane]) ? NULL : container_of(d->lane[lane].next, struct disk_io, link);
}

static int64_t happen(struct sim_disk *d, struct disk_io *io)
{
    d->done[io->op]++;
    bool meant = (d->fault.ops >> io->op & 1) && (!d->fault.prefix || strncmp(io->name, d->fault.prefix, strlen(d->fault.prefix)) == 0);
    bool faulty = d->fault.nth && meant && --d->fault.nth == 0;
    int64_t result = faulty ? perform_faulty(d, io) : perform(d, io);
    if (d->lie[0] && !faulty && io->durable && result > 0 && strcmp(d->lie, io->name) == 0) d->lie[0] = 0;
    d->stats.nospace += result == -ENOSPC;
    return result;
}

static void complete(struct sim_disk *d, struct disk_io *io)
{
    list_remove(&io->link);
    d->pending--;
    io->done(io, happen(d, io));
}

/* The operation that completes next, by its time. */
static struct disk_io *earliest(const struct sim_disk *d)
{
    struct disk_io *best = NULL;
    for (int lane = 0; lane < 3; lane++) {
        struct disk_io *io = head_of(d, lane);
        if (io && (!best || io->door < best->door)) best = io;
    }
    return best;
}

static void rearm(struct sim_disk *d)
{
    struct disk_io *io = d->hangs ? NULL : earliest(d);
    if (d->clock && io) clock_arm(d->clock, &d->timer, io->door);
}

static void fired(struct timer *t)
{
    struct sim_disk *d = t->arg;
    struct disk_io *io = d->hangs ? NULL : earliest(d);
    if (!io) return;
    if (io->door <= clock_now(d->clock)) complete(d, io);
    rearm(d);
}

bool sim_disk_step(struct sim_disk *d)
{
    struct disk_io *may[2 + 64];
    size_t n = 0;
    for (int lane = 0; lane < 2; lane++)
        if (head_of(d, lane)) may[n++] = head_of(d, lane);
    list_for_each(l, &d->lane[DISK_LANE_READ])
        if (n < sizeof may / sizeof *may) may[n++] = container_of(l, struct disk_io, link);
    if (n == 0) return false;
    complete(d, may[prng_below(&d->rng, n)]);
    return true;
}

uint32_t sim_disk_pending(const struct sim_disk *d) { return d->pending; }

/* Reads are independent of each other: their lane is in the order of completion. */
static void enqueue(struct sim_disk *d, struct disk_io *io)
{
    struct list *before = d->lane[io->lane].prev;
    while (before != &d->lane[io->lane] && container_of(before, struct disk_io, link)->door > io->door) before = before->prev;
    list_insert_after(before, &io->link);
}

static void op_submit(struct disk *door, struct disk_io *io)
{
    struct sim_disk *d = container_of(door, struct sim_disk, door);
    if (d->shut) return;
    d->pending++;
    if (!d->clock) {
        list_push_back(&d->lane[io->lane], &io->link);
        return;
    }
    uint64_t now = clock_now(d->clock), begin = now, bytes = io->op == DISK_ALLOC ? (io->durable ? io->off : 0) : io->n;
    uint64_t cost = prng_between(&d->rng, d->cfg.op_ns_min, max_u64(d->cfg.op_ns_min, d->cfg.op_ns_max));
    cost = (cost + bytes * d->cfg.mib_ns / MIB) * d->slow;
    if (io->lane != DISK_LANE_READ) begin = max_u64(now, d->lane_free[io->lane]);
    io->door = begin + cost;
    d->lane_free[io->lane] = io->door;
    enqueue(d, io);
    rearm(d);
}

static int64_t op_try_read(struct disk *door, const char *name, uint64_t off, void *p, uint32_t n)
{
    struct sim_disk *d = container_of(door, struct sim_disk, door);
    if (prng_chance(&d->rng, d->cfg.wait_percent)) return -EAGAIN;
    return do_read(d, name, off, p, n);
}

static int op_list(struct disk *door, void (*each)(void *arg, const char *name, uint64_t size), void *arg)
{
    struct sim_disk *d = container_of(door, struct sim_disk, door);
    list_for_each(l, &d->files) {
        struct file *f = container_of(l, struct file, link);
        if (!f->removed) each(arg, f->name, (uint64_t)f->now.n * BLOCK);
    }
    return 0;
}

static int64_t op_load(struct disk *door, const char *name, uint64_t off, void *p, size_t n)
{
    return do_read(container_of(door, struct sim_disk, door), name, off, p, n);
}

static int op_settle(struct disk *door, const char *name)
{
    struct disk_io io = {.op = DISK_SYNC};
    snprintf(io.name, sizeof io.name, "%s", name);
    return (int)happen(container_of(door, struct sim_disk, door), &io);
}

static int op_space(struct disk *door, uint64_t *total, uint64_t *avail)
{
    struct sim_disk *d = container_of(door, struct sim_disk, door);
    uint64_t used = sim_disk_used(d);
    *total = d->cfg.capacity ? d->cfg.capacity : ENDLESS;
    *avail = *total > used ? *total - used : 0;
    return 0;
}

static const struct disk_ops ops = {op_submit, op_try_read, op_list, op_load, op_space, op_settle};

/* ---- making, crashing ---- */

struct sim_disk *sim_disk_new(struct clock *clock, const struct sim_disk_config *config)
{
    struct sim_disk *d = xcalloc(1, sizeof *d);
    d->door.ops = &ops;
    d->clock = clock;
    d->cfg = *config;
    d->slow = 1;
    prng_seed(&d->rng, config->seed);
    list_init(&d->files);
    for (int i = 0; i < 3; i++) list_init(&d->lane[i]);
    d->timer = (struct timer){.fire = fired, .arg = d};
    return d;
}

struct disk *sim_disk_door(struct sim_disk *d) { return &d->door; }

static void forget_ops(struct sim_disk *d)
{
    for (int lane = 0; lane < 3; lane++) {
        while (list_pop_front(&d->lane[lane])) d->pending--;
        d->lane_free[lane] = 0;
    }
    if (d->clock) clock_disarm(d->clock, &d->timer);
}

void sim_disk_wipe(struct sim_disk *d)
{
    forget_ops(d);
    d->fault.nth = 0;
    d->lie[0] = 0;
    while (!list_empty(&d->files)) file_free(container_of(d->files.next, struct file, link));
}

void sim_disk_free(struct sim_disk *d)
{
    sim_disk_wipe(d);
    free(d);
}

/* A durable write of a process that dies in the midst of it: not at all, durable, or seen by readers and yet to be made
 * durable, as between a write and its sync. */
static void killed_write(struct sim_disk *d, const struct disk_io *io)
{
    struct disk_io seen = *io;
    seen.durable = prng_chance(&d->rng, 50);
    if (prng_chance(&d->rng, 70)) perform(d, &seen);
}

/* The operations that had begun happen in part. */
static void begun_ops(struct sim_disk *d, bool power)
{
    for (int lane = 0; lane < 2; lane++) {
        struct disk_io *io = head_of(d, lane);
        if (!io) continue;
        if (io->op == DISK_WRITE && power)
            partial_write(d, io);
        else if (io->op == DISK_WRITE && io->durable)
            killed_write(d, io);
        else if (io->op != DISK_SYNC && prng_chance(&d->rng, 50))
            perform(d, io);
    }
}

static void file_crash(struct sim_disk *d, struct file *f)
{
    if (f->removed ? !prng_chance(&d->rng, 40) : !f->known && prng_chance(&d->rng, 50)) {
        file_free(f);
        return;
    }
    f->removed = false;
    if (f->now.n > f->safe.n) image_resize(&f->safe, f->safe.n + (size_t)prng_below(&d->rng, f->now.n - f->safe.n + 1));
    for (size_t i = 0; i < f->safe.n && i < f->now.n; i++) {
        static const uint8_t zeros[BLOCK];
        if (f->safe.v[i] == f->now.v[i]) continue;
        image_set(&f->safe, i, torn(d, f->safe.v[i], f->now.v[i] ? f->now.v[i]->p : zeros));
    }
    image_assign(&f->now, &f->safe);
    f->known = true;
}

void sim_disk_crash(struct sim_disk *d)
{
    begun_ops(d, true);
    forget_ops(d);
    list_for_each_safe(l, tmp, &d->files) file_crash(d, container_of(l, struct file, link));
}

void sim_disk_shut(struct sim_disk *d, bool on) { d->shut = on; }

void sim_disk_kill(struct sim_disk *d)
{
    begun_ops(d, false);
    forget_ops(d);
}

/* The same files, nothing under way. */
static struct sim_disk *copy_of(const struct sim_disk *from, struct clock *clock)
{
    struct sim_disk *d = sim_disk_new(clock, &from->cfg);
    list_for_each(l, &from->files) {
        const struct file *f = container_of(l, struct file, link);
        struct file *c = file_new(d, f->name);
        c->removed = f->removed;
        c->known = f->known;
        image_assign(&c->now, &f->now);
        image_assign(&c->safe, &f->safe);
        for (size_t i = 0; i < f->nbad; i++) {
            c->bad = xrealloc(c->bad, (i + 1) * sizeof *c->bad);
            c->bad[c->nbad++] = f->bad[i];
        }
    }
    return d;
}

struct sim_disk *sim_disk_clone(const struct sim_disk *from, struct clock *clock, uint64_t seed)
{
    struct sim_disk *d = copy_of(from, clock);
    prng_seed(&d->rng, seed);
    for (int lane = 0; lane < 2; lane++)        /* what has begun may happen to the clone, too */
        if (head_of(from, lane) && head_of(from, lane)->op == DISK_WRITE && prng_chance(&d->rng, 40))
            killed_write(d, head_of(from, lane));
        else if (head_of(from, lane) && head_of(from, lane)->op == DISK_WRITE && prng_chance(&d->rng, 70))
            partial_write(d, head_of(from, lane));
        else if (head_of(from, lane) && head_of(from, lane)->op != DISK_WRITE && head_of(from, lane)->op != DISK_SYNC &&
                 prng_chance(&d->rng, 50))
            perform(d, head_of(from, lane));
    return d;
}

/* ---- power cuts, choice by choice: first those about files, in their order, then those about operations ---- */

struct cut {
    const uint8_t *how;                 /* NULL: all 0 */
    unsigned n;
};

static unsigned choose(struct cut *c)
{
    unsigned how = c->how ? c->how[c->n] : 0;
    c->n++;
    return how;
}

static struct block *chosen(struct cut *c, const struct block *old, const uint8_t *bytes)
{
    unsigned how = choose(c);
    struct block *b = block_copy(old);
    if (how) memcpy(b->p, bytes, how == 1 ? BLOCK : BLOCK / 2);
    return b;
}

static void file_cut(struct file *f, struct cut *c)
{
    static const uint8_t zeros[BLOCK];
    bool gone = f->removed ? !choose(c) : !f->known && !choose(c);
    bool grown = f->now.n > f->safe.n && choose(c);
    size_t n = f->safe.n;
    image_resize(&f->safe, max_u64(n, f->now.n));
    for (size_t i = 0; i < f->now.n; i++) {
        if (f->safe.v[i] == f->now.v[i]) continue;
        image_set(&f->safe, i, chosen(c, f->safe.v[i], f->now.v[i] ? f->now.v[i]->p : zeros));
    }
    if (!grown) image_resize(&f->safe, n);
    image_assign(&f->now, &f->safe);
    f->removed = false;
    f->known = true;
    if (gone) file_free(f);
}

static void write_cut(struct sim_disk *d, const struct disk_io *io, struct cut *c)
{
    struct file *f = file_find(d, io->name);
    for (uint32_t i = 0; i < io->n / BLOCK; i++) {
        size_t at = (size_t)(io->off / BLOCK) + i;
        struct block *old = f && at < f->safe.n ? f->safe.v[at] : NULL;
        unsigned before = c->n;
        struct block *b = chosen(c, old, (const uint8_t *)io->p + (size_t)i * BLOCK);
        if (!c->how || !c->how[before]) {
            block_unref(b);
            continue;
        }
        if (!f) f = file_new(d, io->name);
        f->known = true;
        if (f->now.n <= at) image_resize(&f->now, at + 1);
        if (f->safe.n <= at) image_resize(&f->safe, at + 1);
        image_set(&f->now, at, b);
        image_set(&f->safe, at, block_ref(b));
    }
}

static void op_cut(struct sim_disk *d, struct disk_io *io, struct cut *c)
{
    if (io->op == DISK_WRITE) {
        write_cut(d, io, c);
    } else if (io->op != DISK_SYNC && choose(c)) {
        struct file *f = file_find(d, io->name);
        if (io->op == DISK_REMOVE && f) file_free(f);
        if (io->op != DISK_REMOVE) perform(d, io);
    }
}

static struct sim_disk *cut(const struct sim_disk *from, struct clock *clock, struct cut *c)
{
    struct sim_disk *d = copy_of(from, clock);
    list_for_each_safe(l, tmp, &d->files) file_cut(container_of(l, struct file, link), c);
    for (int lane = 0; lane < 2; lane++)
        if (head_of(from, lane)) op_cut(d, head_of(from, lane), c);
    return d;
}

unsigned sim_disk_choices(const struct sim_disk *d)
{
    struct cut c = {0};
    sim_disk_free(cut(d, NULL, &c));
    return c.n;
}

struct sim_disk *sim_disk_cut(const struct sim_disk *from, struct clock *clock, const uint8_t *how)
{
    struct cut c = {.how = how};
    return cut(from, clock, &c);
}

uint64_t sim_disk_digest(const struct sim_disk *d)
{
    uint64_t sum = 0;
    list_for_each(l, &d->files) {
        const struct file *f = container_of(l, struct file, link);
        uint64_t h = hash64(f->now.n, f->name, strlen(f->name));
        if (f->removed) continue;
        for (size_t i = 0; i < f->now.n; i++)
            if (f->now.v[i]) h = hash64(h + i, f->now.v[i]->p, BLOCK);
        sum += hash_mix(h);
    }
    return sum;
}

/* ---- faults ---- */

void sim_disk_fault(struct sim_disk *d, enum sim_disk_fault what, unsigned mask, uint64_t nth, int err)
{
    d->fault.what = what;
    d->fault.ops = mask;
    d->fault.nth = nth;
    d->fault.err = err;
}

void sim_disk_fault_only(struct sim_disk *d, const char *prefix) { d->fault.prefix = prefix; }
bool sim_disk_fault_due(const struct sim_disk *d) { return d->fault.nth > 0; }

bool sim_disk_flip(struct sim_disk *d, const char *name, uint64_t off, uint8_t bits)
{
    struct file *f = file_find(d, name);
    size_t i = (size_t)(off / BLOCK);
    if (!f || i >= f->now.n) return false;
    struct block *b = block_copy(f->now.v[i]);
    b->p[off % BLOCK] ^= bits;
    image_set(&f->now, i, b);
    if (i < f->safe.n) image_set(&f->safe, i, block_ref(b));
    d->stats.rotten++;
    return true;
}

bool sim_disk_any_block(struct sim_disk *d, struct prng *r, char name[DISK_NAME_MAX], uint64_t *block)
{
    uint64_t blocks = sim_disk_used(d) / BLOCK;
    if (!blocks) return false;
    uint64_t at = prng_below(r, blocks);
    list_for_each(l, &d->files) {
        const struct file *f = container_of(l, struct file, link);
        if (f->removed) continue;
        if (at < f->now.n) {
            snprintf(name, DISK_NAME_MAX, "%s", f->name);
            *block = at;
            return true;
        }
        at -= f->now.n;
    }
    return false;
}

bool sim_disk_unreadable(struct sim_disk *d, const char *name, uint64_t block)
{
    struct file *f = file_find(d, name);
    if (!f || block >= f->now.n || is_bad(f, block)) return false;
    f->bad = xrealloc(f->bad, (f->nbad + 1) * sizeof *f->bad);
    f->bad[f->nbad++] = block;
    return true;
}

bool sim_disk_replace(struct sim_disk *d, const char *name, uint64_t block, const struct sim_disk *from, const char *from_name)
{
    struct file *f = file_find(d, name);
    const struct file *g = file_find(from, from_name);
    if (!f || block >= f->now.n) return false;
    struct block *b = block_copy(g && block < g->now.n ? g->now.v[block] : NULL);
    image_set(&f->now, (size_t)block, b);
    if (block < f->safe.n) image_set(&f->safe, (size_t)block, block_ref(b));
    return true;
}

bool sim_disk_delete(struct sim_disk *d, const char *name)
{
    struct file *f = file_find(d, name);
    if (f) file_free(f);
    return f != NULL;
}

void sim_disk_slow(struct sim_disk *d, uint32_t factor) { d->slow = factor ? factor : 1; }
void sim_disk_capacity(struct sim_disk *d, uint64_t bytes) { d->cfg.capacity = bytes; }
void sim_disk_stats(const struct sim_disk *d, struct sim_disk_stats *out) { *out = d->stats; }
bool sim_disk_lies(const struct sim_disk *d) { return d->lie[0] != 0; }

void sim_disk_hang(struct sim_disk *d, bool on)
{
    d->hangs = on;
    if (!on) rearm(d);
}

uint64_t sim_disk_size(const struct sim_disk *d, const char *name)
{
    const struct file *f = file_find(d, name);
    return f ? (uint64_t)f->now.n * BLOCK : 0;
}

uint64_t sim_disk_ops(const struct sim_disk *d, enum disk_op op) { return d->done[op]; }
