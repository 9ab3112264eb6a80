/* log_pay.c - PAYLOAD segments: bytes of entries apart from the log, those that compaction moves and those that a peer gave.
 *
 * Items wait in a queue until they are many or one of them is urgent; one write is under way at a time, not durable
 * by itself; one sync makes all that was written
 * durable, and only then an item's new place counts. A record tells (index, offset, length), and any valid copy of these is
 * right, so a crash at any step leaves at worst a copy too many. Items are cut where a segment ends. No space: the items
 * fail with -ENOSPC. A failed write or sync is fatal: what the file holds then is not known (ATC'20). */
#include "raft/log_priv.h"

#define SYNC_BYTES (4u * MIB)

void raft__pay_free(struct log *log, struct pay_item *it)
{
    for (size_t i = 0; i < it->n; i++) raft__seg_at(log, it->v[i].seg)->pins--;
    list_remove(&it->link);
    blob_unref(it->data);
    free(it->v);
    free(it);
}

void raft__pay_drop(struct log *log)
{
    struct list *lists[] = {&log->pay.queue, &log->pay.writing, &log->pay.written};
    for (int i = 0; i < 3; i++)
        while (!list_empty(lists[i])) raft__pay_free(log, container_of(lists[i]->next, struct pay_item, link));
    raft__pages_free(&log->pay.batch.mem);
}

void raft__pay_put(struct log *log, struct pay_item *it)
{
    check(it->data && it->data->n > 0);
    list_push_back(&log->pay.queue, &it->link);
    log->pay.queued += it->data->n;
    log->pay.want_sync |= it->sync;
    raft__log_wake(log);
}

void raft__pay_sync(struct log *log)
{
    log->pay.want_sync = true;
    raft__log_wake(log);
}

static void move_all(struct list *from, struct list *to)
{
    for (struct list *l; (l = list_pop_front(from));) list_push_back(to, l);
}

/* ---- writing ---- */

static uint64_t room(const struct log *log)
{
    const struct pay *p = &log->pay;
    if (p->seg == SEG_NONE) return 0;
    uint32_t at = p->page ? p->page : 1, pages = raft__seg_at(log, p->seg)->pages;
    return at >= pages ? 0 : (uint64_t)(pages - at) * PAGE_DATA - BATCH_HEAD;
}

/* The segment stays pinned while the item lives. */
static void item_place(struct log *log, struct pay_item *it, uint32_t seg, uint32_t pos, uint32_t len)
{
    raft__seg_at(log, seg)->pins++;
    it->v = xrealloc(it->v, (it->n + 1) * sizeof *it->v);
    it->v[it->n++] = (struct piece){.index = it->index, .off = it->off + it->at, .len = len, .seg = seg, .pos = pos};
    it->at += len;
}

static void note(struct seg *s, uint64_t index)
{
    if (s->lo > s->hi) s->lo = s->hi = index;
    s->lo = min_u64(s->lo, index);
    s->hi = max_u64(s->hi, index);
}

/* Gathers items; returns the bytes of records. */
static uint64_t build(struct log *log, uint32_t first)
{
    struct pay *p = &log->pay;
    struct seg *s = raft__seg_at(log, p->seg);
    uint64_t left = room(log), used = 0;
    raft__batch_begin(&p->batch, p->page == 0);
    while (!list_empty(&p->queue) && used < READ_BYTES_MAX) {
        struct pay_item *it = container_of(p->queue.next, struct pay_item, link);
        uint32_t rest = it->data->n - it->at;
        if (left - used < RECORD_HEAD + min_u64(rest, PAGE_DATA)) break;
        uint32_t len = (uint32_t)min_u64(rest, left - used - RECORD_HEAD);
        struct record r = {.index = it->index, .kind = KIND_PIECE, .len = len, .off = it->off + it->at,
                           .total = it->off + it->data->n};
        uint32_t pos = raft__batch_add(&p->batch, &r, it->data->p + it->at);
        item_place(log, it, p->seg, first * PAGE_DATA + pos, len);
        note(s, it->index);
        used += RECORD_HEAD + len;
        p->queued -= len;
        if (it->at < it->data->n) break;
        list_remove(&it->link);
        list_push_back(&p->writing, &it->link);
    }
    return used;
}

static void written(struct disk_io *io, int64_t result)
{
    struct log *log = io->arg;
    struct pay *p = &log->pay;
    if (raft__submitted(log)) return;
    if (result != (int64_t)io->n) {
        raft__log_fail(log, result < 0 ? (int)result : -EIO, "writing payload");
        return;
    }
    p->busy = false;
    p->unsynced += io->n;
    log->bytes_written += io->n;
    move_all(&p->writing, &p->written);
    raft__log_wake(log);
}

static void write_items(struct log *log, uint32_t first)
{
    struct pay *p = &log->pay;
    struct seg *s = raft__seg_at(log, p->seg);
    struct batch_head h = {.seq = ++p->seq, .prev_seg = s->no};
    raft__batch_seal(&p->batch, PAGE_PAYLOAD, s->no, first, &h);
    if (p->batch.lead) {
        struct seg_head sh = {.cluster = log->meta.cluster, .node = log->meta.node, .number = s->no, .kind = PAGE_PAYLOAD,
                              .pages = s->pages, .first_seq = h.seq, .prev_seg = s->no};
        raft__seg_head_put(p->batch.mem.p, &sh);
    }
    p->io = (struct disk_io){.op = DISK_WRITE, .lane = DISK_LANE_BULK, .p = p->batch.mem.p,
                             .off = (uint64_t)(p->batch.lead ? 0 : first) * PAGE_BYTES, .n = p->batch.mem.n * PAGE_BYTES,
                             .done = written, .arg = log};
    raft__seg_name(p->io.name, PAGE_PAYLOAD, s->no);
    p->page = first + h.npages;
    check(p->page <= s->pages);
    p->busy = true;
    raft__submit(log, &p->io);
}

/* ---- becoming durable ---- */

static void synced(struct disk_io *io, int64_t result)
{
    struct log *log = io->arg;
    struct pay *p = &log->pay;
    if (raft__submitted(log)) return;
    if (result < 0) {
        raft__log_fail(log, (int)result, "syncing payload");
        return;
    }
    struct list done;
    list_init(&done);
    move_all(&p->written, &done);
    raft__seg_at(log, p->seg)->used = p->page;
    p->busy = false;
    p->unsynced = 0;
    raft__log_wake(log);
    while (!list_empty(&done)) {
        struct pay_item *it = container_of(done.next, struct pay_item, link);
        it->done(log, it, 0);
    }
}

static void sync_now(struct log *log)
{
    struct pay *p = &log->pay;
    p->want_sync &= !list_empty(&p->queue);     /* for those that are yet to be written */
    p->io = (struct disk_io){.op = DISK_SYNC, .lane = DISK_LANE_BULK, .done = synced, .arg = log};
    raft__seg_name(p->io.name, PAGE_PAYLOAD, raft__seg_at(log, p->seg)->no);
    p->busy = true;
    raft__submit(log, &p->io);
}

static void rolled(struct log *log, int err, uint32_t slot)
{
    struct pay *p = &log->pay;
    p->busy = false;
    raft__log_wake(log);
    if (err == -ENOSPC) {
        struct list failed;
        list_init(&failed);
        move_all(&p->queue, &failed);
        p->queued = 0;
        while (!list_empty(&failed)) {
            struct pay_item *it = container_of(failed.next, struct pay_item, link);
            it->done(log, it, err);
        }
        return;
    }
    if (err) {
        raft__log_fail(log, err, "making a payload segment");
        return;
    }
    p->seg = slot;
    p->page = 0;
}

void raft__pay_turn(struct log *log)
{
    struct pay *p = &log->pay;
    if (log->failed || p->busy || !log->meta.exists) return;
    bool queued = !list_empty(&p->queue);
    if (p->unsynced && p->want_sync && (!queued || p->unsynced >= SYNC_BYTES)) {
        sync_now(log);
        return;
    }
    if (!queued) p->want_sync = false;
    if (!queued || (!p->want_sync && p->queued < READ_BYTES_MAX)) return;       /* a batch begins a page: wait for more */
    uint32_t first = p->page ? p->page : 1;
    if (p->seg != SEG_NONE && build(log, first)) {
        write_items(log, first);
        return;
    }
    if (p->seg != SEG_NONE && p->unsynced) {        /* the old segment is closed durable */
        sync_now(log);
        return;
    }
    if (p->seg != SEG_NONE) raft__seg_at(log, p->seg)->sealed = true;
    p->seg = SEG_NONE;
    p->busy = true;
    raft__seg_take(log, &p->take, PAGE_PAYLOAD, DISK_LANE_BULK, rolled);
}

/* ---- bytes that a peer gave ---- */

static void store_done(struct log *log, struct pay_item *it, int err)
{
    struct log_store *s = it->arg;
    bool staged = raft__installing(log) && it->index > raft__trusted(log);
    if (!err) raft__place_put(log, staged ? &log->staged : &log->places, it->index, it->v, it->n, SEG_NONE);
    raft__pay_free(log, it);
    s->done(s, err);
}

void log_store(struct log *log, struct log_store *s)
{
    struct pay_item *it = xcalloc(1, sizeof *it);
    check(s->data->n > 0 && (uint64_t)s->off + s->data->n <= LOG_ENTRY_MAX);
    *it = (struct pay_item){.index = s->index, .off = s->off, .data = blob_ref(s->data), .sync = true, .done = store_done, .arg = s};
    list_init(&it->link);
    raft__pay_put(log, it);
}
