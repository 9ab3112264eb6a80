/* log_write.c - batches of entries to LOG segments.
 *
 * One durable write is under way at a time; what is appended meanwhile is the next batch. A batch is whole pages behind the
 * last one, so a durable page is never written again, and goes to one segment; an entry that does not fit into what is left
 * of it goes to the next, and one that is larger than a segment is cut into several records. When the write is done its
 * entries are durable (`persisted`) and their places known.
 *
 * No space for a segment: the entries wait, and so does the cluster for this node; deletions of others or compaction make
 * room. A failed write is fatal. */
#include "raft/log_priv.h"

/* Bytes of records that still fit into the current segment as one batch. */
static uint64_t room(const struct log *log)
{
    const struct writer *w = &log->w;
    if (w->seg == SEG_NONE) return 0;
    uint32_t at = w->page ? w->page : 1, pages = raft__seg_at(log, w->seg)->pages;
    return at >= pages ? 0 : (uint64_t)(pages - at) * PAGE_DATA - BATCH_HEAD;
}

static uint64_t room_fresh(const struct log *log)
{
    return (uint64_t)(log->cfg.segment_bytes / PAGE_BYTES - 1) * PAGE_DATA - BATCH_HEAD;
}

static void flight_add(struct writer *w, uint64_t index, uint32_t off, uint32_t len, uint32_t pos)
{
    if (w->n == w->cap) {
        w->cap = w->cap ? w->cap * 2 : 64;
        w->v = xrealloc(w->v, w->cap * sizeof *w->v);
    }
    w->v[w->n++] = (struct flight){index, off, len, pos};
}

static void add_record(struct log *log, uint32_t first, uint32_t len)
{
    struct writer *w = &log->w;
    const struct ent *e = raft__ent(log, w->next);
    struct record r = {.index = w->next, .kind = e->kind, .len = len, .off = w->next_off, .total = e->len};
    check(raft__log_term_at(log, w->next, &r.term));
    check(e->len == 0 || e->data);
    uint32_t pos = raft__batch_add(&w->batch, &r, e->len ? e->data->p + w->next_off : NULL);
    flight_add(w, w->next, w->next_off, len, first * PAGE_DATA + pos);
    w->next_off += len;
    if (w->next_off < e->len) return;
    w->next++;
    w->next_off = 0;
}

/* Gathers what fits; false: the first record belongs into a fresh segment. */
static bool build(struct log *log, uint32_t first)
{
    struct writer *w = &log->w;
    uint64_t left = room(log), limit = min_u64(left, BATCH_BYTES_MAX), used = 0;
    w->n = 0;
    raft__batch_begin(&w->batch, w->page == 0);
    while (w->next <= log->last) {
        uint64_t need = RECORD_HEAD + (uint64_t)(raft__ent(log, w->next)->len - w->next_off);
        if (used + need <= limit || (used == 0 && need <= left)) {
            add_record(log, first, (uint32_t)(need - RECORD_HEAD));
            used += need;
            continue;
        }
        if (used == 0 && need > room_fresh(log) && left >= PAGE_DATA) {
            add_record(log, first, (uint32_t)(left - RECORD_HEAD));
            used = left;
        }
        break;
    }
    return used > 0;
}

static void note(struct seg *s, uint64_t index)
{
    if (s->lo > s->hi) s->lo = s->hi = index;
    s->lo = min_u64(s->lo, index);
    s->hi = max_u64(s->hi, index);
}

static void place_batch(struct log *log)
{
    struct writer *w = &log->w;
    struct seg *s = raft__seg_at(log, w->seg);
    for (size_t i = 0; i < w->n; i++) {
        const struct flight *f = &w->v[i];
        if (f->index == 0) continue;
        struct piece p = {.off = f->off, .len = f->len, .seg = w->seg, .pos = f->pos};
        if (f->len) raft__place_put(log, &log->places, f->index, &p, 1, SEG_NONE);
        note(s, f->index);
        if (f->off + f->len < raft__ent(log, f->index)->len) continue;
        check(f->index == w->durable + 1);
        w->durable = f->index;
        log->entries++;
    }
}

static void written(struct disk_io *io, int64_t result)
{
    struct writer *w = container_of(io, struct writer, io);
    struct log *log = io->arg;
    if (raft__submitted(log)) return;
    if (result != (int64_t)io->n) {
        raft__log_fail(log, result < 0 ? (int)result : -EIO, "writing the log");
        return;
    }
    uint64_t before = w->durable, now = clock_now(log->clock);
    place_batch(log);
    w->dur_seg = raft__seg_at(log, w->seg)->no;
    w->dur_seq = w->head.seq;
    w->prev_seg = w->dur_seg;
    w->seq++;
    w->busy = false;
    log->sync_ns[log->syncs++ % SYNC_RING] = (uint32_t)min_u64(now - w->started, UINT32_MAX);
    log->batches++;
    log->bytes_written += io->n;
    if (w->batch.mem.cap > 2 * BATCH_BYTES_MAX / PAGE_BYTES) raft__pages_free(&w->batch.mem);
    raft__space_check(log);
    raft__log_wake(log);
    clock_arm(log->clock, &log->mark, now + MARK_IDLE_NS);
    uint64_t term;
    if (w->durable > before && raft__log_term_at(log, w->durable, &term))
        log->cfg.cb.persisted(log->cfg.cb.arg, w->durable, term);
}

static void write_batch(struct log *log, uint32_t first)
{
    struct writer *w = &log->w;
    struct seg *s = raft__seg_at(log, w->seg);
    uint64_t base = w->v[0].index - 1, term;
    check(raft__log_term_at(log, base, &term));
    w->head = (struct batch_head){.seq = w->seq, .base_index = base, .base_term = term, .prev_seg = w->prev_seg};
    w->head.committed = raft__sure_on_disk(log);
    raft__batch_seal(&w->batch, PAGE_LOG, s->no, first, &w->head);
    if (w->batch.lead) {
        s->begin = base + 1 + (w->v[0].off > 0);
        s->prev = w->prev_seg;
        struct seg_head h = {.cluster = log->meta.cluster, .node = log->meta.node, .number = s->no, .kind = PAGE_LOG,
                             .pages = s->pages, .first_seq = w->seq, .prev_seg = w->prev_seg, .hint = base + 1};
        raft__seg_head_put(w->batch.mem.p, &h);
    }
    w->io = (struct disk_io){.op = DISK_WRITE, .lane = DISK_LANE_LOG, .durable = true, .p = w->batch.mem.p,
                             .off = (uint64_t)(w->batch.lead ? 0 : first) * PAGE_BYTES, .n = w->batch.mem.n * PAGE_BYTES,
                             .done = written, .arg = log};
    raft__seg_name(w->io.name, PAGE_LOG, s->no);
    w->page = s->used = first + w->head.npages;
    check(w->page <= s->pages);
    w->busy = true;
    w->started = clock_now(log->clock);
    raft__submit(log, &w->io);
}

static void rolled(struct log *log, int err, uint32_t slot)
{
    struct writer *w = &log->w;
    w->busy = false;
    if (err == -ENOSPC) {
        trace_warn(log->trace, "log: no space for a new segment, %llu entries wait", (unsigned long long)(log->last - w->durable));
        w->nospace = true;
        clock_arm(log->clock, &log->retry, clock_now(log->clock) + RETRY_NS);
        return;
    }
    if (err) {
        raft__log_fail(log, err, "making a log segment");
        return;
    }
    w->seg = slot;
    w->page = 0;
    raft__log_wake(log);
}

void raft__write_turn(struct log *log)
{
    struct writer *w = &log->w;
    if (log->failed || !log->meta.exists || w->busy || w->hold || w->nospace || w->next > log->last) return;
    uint32_t first = w->page ? w->page : 1;
    if (w->seg != SEG_NONE && build(log, first)) {
        write_batch(log, first);
        return;
    }
    if (w->seg != SEG_NONE) raft__seg_at(log, w->seg)->sealed = true;
    w->seg = SEG_NONE;
    w->busy = true;
    raft__seg_take(log, &w->take, PAGE_LOG, DISK_LANE_LOG, rolled);
}

void raft__write_cut(struct log *log, uint64_t from)
{
    struct writer *w = &log->w;
    if (from <= w->next) {
        w->next = from;
        w->next_off = 0;
    }
    w->durable = min_u64(w->durable, from - 1);
    for (size_t i = 0; i < w->n; i++)
        if (w->v[i].index >= from) w->v[i].index = 0;
    for (uint32_t i = 0; i < log->nseg; i++) {
        struct seg *s = log->seg[i];
        if (!s || s->kind != PAGE_LOG || s->hi < from) continue;
        s->hi = from - 1;
        if (s->lo > s->hi) s->lo = 1, s->hi = 0;
    }
    raft__place_drop_from(log, &log->places, from);
}
