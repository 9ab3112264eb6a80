/* log_seg.c - segment files: where fresh ones come from and where spent ones go.
 *
 * A fresh segment is a spare renamed (pre-written, so that writes in place change no file system metadata) or, with no
 * spare ready, a file allocated on the spot. A spent one becomes a spare under its old number, or is removed where
 * there are spares enough: a checkpoint sets several free at once, and what is removed then has to be made, and written
 * twice, soon after. Numbers only rise and a spare's number is that of its former life, so the next number is above all
 * that any stale page was sealed with. Where the disk is full the spares are the reserve from which deletions can still
 * be logged.
 */
#include <stdio.h>

#include "raft/log_priv.h"

struct seg_op {
    struct disk_io io;
    struct list link;
    struct log *log;
    uint64_t no, bytes;
    void (*end)(struct seg_op *op, int64_t result);
};

void raft__seg_name(char *out, enum page_kind kind, uint64_t no)
{
    const char *prefix = kind == PAGE_LOG ? "seg" : kind == PAGE_PAYLOAD ? "pay" : "free";
    snprintf(out, DISK_NAME_MAX, "%s-%016llx", prefix, (unsigned long long)no);
}

struct seg *raft__seg_add(struct log *log, enum page_kind kind, uint64_t no, uint32_t pages)
{
    uint32_t slot = 0;
    while (slot < log->nseg && log->seg[slot]) slot++;
    if (slot == log->nseg) {
        if (log->nseg == log->seg_cap) {
            log->seg_cap = log->seg_cap ? log->seg_cap * 2 : 16;
            log->seg = xrealloc(log->seg, log->seg_cap * sizeof(struct seg *));
        }
        log->nseg++;
    }
    struct seg *s = xcalloc(1, sizeof *s);
    *s = (struct seg){.no = no, .kind = kind, .slot = slot, .pages = pages, .lo = 1, .hi = 0};
    log->seg[slot] = s;
    return s;
}

struct seg *raft__seg_by_no(const struct log *log, enum page_kind kind, uint64_t no)
{
    for (uint32_t i = 0; i < log->nseg; i++)
        if (log->seg[i] && log->seg[i]->no == no && log->seg[i]->kind == kind) return log->seg[i];
    return NULL;
}

void raft__segs_drop(struct log *log)
{
    for (struct list *l; (l = list_pop_front(&log->ops));) free(container_of(l, struct seg_op, link));
    for (uint32_t i = 0; i < log->nseg; i++) free(log->seg[i]);
    free(log->seg);
    free(log->spares);
}

/* ---- operations in the background ---- */

static void op_done(struct disk_io *io, int64_t result)
{
    struct seg_op *op = container_of(io, struct seg_op, io);
    struct log *log = op->log;
    list_remove(&op->link);
    if (!raft__submitted(log)) {
        op->end(op, result);
        raft__space_check(log);
        raft__gc_wake(log);
        raft__log_wake(log);
    }
    free(op);
}

static struct seg_op *op_new(struct log *log, enum disk_op what, void (*end)(struct seg_op *op, int64_t result))
{
    struct seg_op *op = xcalloc(1, sizeof *op);
    op->log = log;
    op->end = end;
    op->io = (struct disk_io){.op = what, .lane = DISK_LANE_BULK, .done = op_done};
    list_push_back(&log->ops, &op->link);
    return op;
}

/* log_open() leaves its operations to the loop's first turn: a start that fails has nothing under way. */
static void op_submit(struct seg_op *op)
{
    if (op->log->started) raft__submit(op->log, &op->io);
}

void raft__log_start(struct log *log)
{
    if (log->started) return;
    log->started = true;
    list_for_each(l, &log->ops) op_submit(container_of(l, struct seg_op, link));
}

static void removed(struct seg_op *op, int64_t result)
{
    if (result < 0 && result != -ENOENT)
        trace_warn(op->log->trace, "log: cannot remove %s: %s", op->io.name, err_text((int)result));
    op->log->file_bytes -= op->bytes;
}

void raft__remove_file(struct log *log, const char *name)
{
    struct seg_op *op = op_new(log, DISK_REMOVE, removed);
    snprintf(op->io.name, sizeof op->io.name, "%s", name);
    op_submit(op);
}

static void synced(struct seg_op *op, int64_t result)
{
    if (result < 0) raft__log_fail(op->log, (int)result, "syncing what was recovered");
}

void raft__sync_file(struct log *log, const char *name)
{
    struct seg_op *op = op_new(log, DISK_SYNC, synced);
    snprintf(op->io.name, sizeof op->io.name, "%s", name);
    op_submit(op);
}

/* ---- spares ---- */

void raft__spare_add(struct log *log, uint64_t no, uint32_t pages, bool ready)
{
    if (log->nspares == log->spares_cap) {
        log->spares_cap = log->spares_cap ? log->spares_cap * 2 : 8;
        log->spares = xrealloc(log->spares, log->spares_cap * sizeof *log->spares);
    }
    log->spares[log->nspares++] = (struct spare){.no = no, .pages = pages, .ready = ready};
}

static struct spare *spare_by_no(struct log *log, uint64_t no)
{
    for (size_t i = 0; i < log->nspares; i++)
        if (log->spares[i].no == no) return &log->spares[i];
    return NULL;
}

static void spare_forget(struct log *log, struct spare *s) { *s = log->spares[--log->nspares]; }

uint32_t raft__spares_ready(const struct log *log)
{
    uint32_t n = 0;
    for (size_t i = 0; i < log->nspares; i++) n += log->spares[i].ready;
    return n;
}

static void spare_ready(struct seg_op *op, int64_t result)
{
    struct log *log = op->log;
    struct spare *s = spare_by_no(log, op->no);
    check(s && !s->ready);
    if (op->io.op == DISK_ALLOC) log->making_spare = false;
    if (result == 0) {
        s->ready = true;
        return;
    }
    spare_forget(log, s);
    if (op->io.op == DISK_ALLOC) {      /* what was made of it goes again */
        trace_warn(log->trace, "log: no space for a spare segment: %s", err_text((int)result));
        log->spare_retry_at = clock_now(log->clock) + 10 * RETRY_NS;
        log->file_bytes -= op->bytes;
        raft__remove_file(log, op->io.name);
        return;
    }
    raft__log_fail(log, (int)result, "renaming a spent log segment");
}

static void spare_make(struct log *log)
{
    struct seg_op *op = op_new(log, DISK_ALLOC, spare_ready);
    op->no = log->next_no++;
    op->bytes = log->cfg.segment_bytes;
    op->io.durable = true;
    op->io.off = op->bytes;
    raft__seg_name(op->io.name, 0, op->no);
    raft__spare_add(log, op->no, log->cfg.segment_bytes / PAGE_BYTES, false);
    log->making_spare = true;
    log->file_bytes += op->bytes;
    op_submit(op);
}

/* ---- taking ---- */

static void take_submit(struct seg_take *t, enum disk_lane lane)
{
    struct log *log = t->log;
    struct spare *spare = NULL;
    for (size_t i = 0; i < log->nspares && !spare; i++)
        if (log->spares[i].ready) spare = &log->spares[i];
    t->spare = t->spare && spare;
    t->io = (struct disk_io){.op = t->spare ? DISK_RENAME : DISK_ALLOC, .lane = lane, .done = t->io.done};
    t->no = log->next_no++;
    t->pages = log->cfg.segment_bytes / PAGE_BYTES;
    if (t->spare) {
        t->pages = spare->pages;
        raft__seg_name(t->io.name, 0, spare->no);
        raft__seg_name(t->io.to, t->kind, t->no);
        spare_forget(log, spare);
    } else {
        raft__seg_name(t->io.name, t->kind, t->no);
        t->io.off = (uint64_t)t->pages * PAGE_BYTES;
        log->file_bytes += t->io.off;
    }
    raft__submit(log, &t->io);
}

static void taken(struct disk_io *io, int64_t result)
{
    struct seg_take *t = container_of(io, struct seg_take, io);
    struct log *log = t->log;
    if (raft__submitted(log)) return;
    if (result < 0 && t->spare) {
        raft__log_fail(log, (int)result, "renaming a spare log segment");
        return;
    }
    raft__space_check(log);
    if (result < 0) {
        log->file_bytes -= io->off;
        raft__remove_file(log, io->name);
        if (result == -ENOSPC && t->kind == PAGE_PAYLOAD && raft__spares_ready(log) > 1) {
            t->spare = true;            /* moving live bytes together is what makes space */
            take_submit(t, io->lane);
            return;
        }
        t->busy = false;
        t->done(log, (int)result, SEG_NONE);
        return;
    }
    t->busy = false;
    struct seg *s = raft__seg_add(log, t->kind, t->no, t->pages);
    raft__gc_wake(log);                 /* to top up the spares */
    t->done(log, 0, s->slot);
}

void raft__seg_take(struct log *log, struct seg_take *t, enum page_kind kind, enum disk_lane lane,
                    void (*done)(struct log *log, int err, uint32_t slot))
{
    check(!t->busy);
    t->log = log;
    t->kind = kind;
    t->done = done;
    t->busy = true;
    t->io.done = taken;
    t->spare = kind == PAGE_LOG || raft__spares_ready(log) > log->cfg.spare_segments;
    take_submit(t, lane);
}

/* ---- freeing ---- */

static bool needed(const struct log *log, const struct seg *s)
{
    const struct image *im = raft__image_newest(log);
    if (!log->gc.ready || !s->sealed || s->npieces || s->readers || s->pins || s->slot == log->gc.victim) return true;
    if (s->kind == PAGE_PAYLOAD) return false;
    if (s->orphan) return !log->meta.exists || log->meta.rewrites > 0;     /* the finding is on disk first */
    return !im || s->no >= im->scan_seg;
}

void raft__seg_maybe_free(struct log *log, struct seg *s)
{
    if (log->failed || needed(log, s)) return;
    uint32_t enough = log->full ? log->cfg.spare_segments : (uint32_t)max_u64(log->cfg.spare_segments, log->cfg.spare_keep);
    bool keep = s->pages == log->cfg.segment_bytes / PAGE_BYTES && log->nspares < enough;
    struct seg_op *op = op_new(log, keep ? DISK_RENAME : DISK_REMOVE, keep ? spare_ready : removed);
    raft__seg_name(op->io.name, s->kind, s->no);
    if (keep) {
        op->no = s->no;
        raft__seg_name(op->io.to, 0, s->no);
        raft__spare_add(log, s->no, s->pages, false);
    } else {
        op->bytes = (uint64_t)s->pages * PAGE_BYTES;
    }
    log->seg[s->slot] = NULL;           /* nothing refers to it; its number is never used again */
    free(s);
    op_submit(op);
}

void raft__seg_housekeep(struct log *log)
{
    for (uint32_t i = 0; i < log->nseg; i++)
        if (log->seg[i]) raft__seg_maybe_free(log, log->seg[i]);
    if (!log->meta.exists || log->making_spare || log->failed) return;
    if (log->nspares >= log->cfg.spare_segments || clock_now(log->clock) < log->spare_retry_at) return;
    spare_make(log);
}

void raft__space_check(struct log *log)
{
    uint64_t total, avail;
    const struct image *im = raft__image_newest(log);
    if (disk_space(log->disk, &total, &avail)) return;
    /* Room for two segments and for the next checkpoint beside the present one. */
    uint64_t need = 2ull * log->cfg.segment_bytes + (im ? im->pages * PAGE_BYTES / 4 * 5 : 0);
    if (log->full) need += log->cfg.segment_bytes;
    if (avail < need && !log->full) raft__gc_wake(log);
    log->full = avail < need;
}

bool log_disk_full(const struct log *log) { return log->full; }
