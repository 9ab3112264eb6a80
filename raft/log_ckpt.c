/* log_ckpt.c - writing a checkpoint, one at a time: our own or a snapshot from the leader (install).
 *
 * The pages go to a temporary file while the blocks come. The commit waits until all entries the checkpoint stands for are
 * durable here, adds the local section (where live payload lies, a bounded step at a time), the index and the footer, syncs
 * and renames. The rename is the switch: before it the old state holds, after it the new. An install that replaces the log
 * keeps back new batches from its commit on; its footer says that LOG segments made before are void.
 *
 * What compaction moves while the local section is written is found again at a restart: the section says how far each payload
 * segment was covered when it was begun, and recovery scans what lies behind.
 *
 * No space: the commit fails with -ENOSPC and nothing has changed. Other write errors are fatal. */
#include "raft/log_priv.h"

#define CHUNK_PAGES 64u
#define PIECE_BYTES 28u

enum phase { OPEN, WAIT, LOCAL, STAGED, SYNCING, RENAMING };

struct log_ckpt {
    struct list link;                   /* log->zombies, once aborted */
    struct log *log;
    struct image im;                    /* as it will be */
    uint32_t blocks_cap;
    bool install, reset, aborted;
    enum phase phase;
    int err;
    uint64_t pos;                       /* of the stream's end */
    uint64_t page0;                     /* page number of buf's first */
    struct pages buf;
    struct list ios;
    uint32_t nios, unwritten;
    uint64_t trim_to;
    uint64_t at_index;                  /* local section: how far it is */
    uint32_t at_off;
    struct disk_io io;
    void (*room)(void *arg);
    void *room_arg;
    bool want_room;
    void (*done)(void *arg, int err);
    void *done_arg;
};

struct ckpt_io {
    struct disk_io io;
    struct list link;
    struct log_ckpt *ck;
    struct pages mem;
};

bool raft__installing(const struct log *log) { return log->ckpt && log->ckpt->install; }

static void ckpt_free(struct log_ckpt *ck)
{
    while (!list_empty(&ck->ios)) {
        struct ckpt_io *w = container_of(list_pop_front(&ck->ios), struct ckpt_io, link);
        raft__pages_free(&w->mem);
        free(w);
    }
    raft__pages_free(&ck->buf);
    free(ck->im.blocks);
    list_remove(&ck->link);
    free(ck);
}

void raft__ckpt_drop(struct log *log)
{
    if (log->ckpt) ckpt_free(log->ckpt);
    while (!list_empty(&log->zombies)) ckpt_free(container_of(log->zombies.next, struct log_ckpt, link));
}

/* ---- the stream ---- */

static void page_written(struct disk_io *io, int64_t result)
{
    struct ckpt_io *w = container_of(io, struct ckpt_io, io);
    struct log_ckpt *ck = w->ck;
    struct log *log = ck->log;
    if (raft__submitted(log)) return;
    if (result != (int64_t)io->n && result != -ENOSPC) {
        raft__log_fail(log, result < 0 ? (int)result : -EIO, "writing a checkpoint");
        return;
    }
    if (result == -ENOSPC) ck->err = -ENOSPC;
    ck->nios--;
    ck->unwritten -= io->n;
    list_remove(&w->link);
    raft__pages_free(&w->mem);
    free(w);
    if (ck->aborted) {
        if (ck->nios == 0) ckpt_free(ck);
        return;
    }
    raft__log_wake(log);
    if (!ck->want_room || ck->unwritten > CKPT_UNWRITTEN_MAX / 2 || ck->phase != OPEN) return;
    ck->want_room = false;
    if (ck->room) ck->room(ck->room_arg);
}

/* Writes the pages of buf; they are full but the last. */
static void emit(struct log_ckpt *ck)
{
    struct log *log = ck->log;
    uint32_t n = ck->buf.n;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t begin = (ck->page0 + i) * PAGE_DATA;
        uint32_t used = (uint32_t)min_u64(PAGE_DATA, ck->pos - begin);
        struct page_tag tag = {.kind = PAGE_CKPT};
        raft__page_seal(ck->buf.p + (size_t)i * PAGE_BYTES, tag, ck->im.index, (uint32_t)(ck->page0 + i), used);
    }
    struct ckpt_io *w = xcalloc(1, sizeof *w);
    w->ck = ck;
    w->mem = ck->buf;
    w->io = (struct disk_io){.op = DISK_WRITE, .lane = DISK_LANE_BULK, .name = CKPT_TMP, .off = ck->page0 * PAGE_BYTES, .p = w->mem.p,
                             .n = n * PAGE_BYTES, .done = page_written};
    list_push_back(&ck->ios, &w->link);
    ck->nios++;
    ck->unwritten += n * PAGE_BYTES;
    ck->buf = (struct pages){0};
    ck->page0 += n;
    raft__submit(log, &w->io);
}

static void put(struct log_ckpt *ck, const void *p, size_t n)
{
    const uint8_t *from = p;
    while (n) {
        uint64_t at = ck->pos - ck->page0 * PAGE_DATA;
        if (at == CHUNK_PAGES * PAGE_DATA) {
            emit(ck);
            at = 0;
        }
        size_t step = min_u64(n, CHUNK_PAGES * PAGE_DATA - at);
        raft__pages_reserve(&ck->buf, raft__stream_pages(at + step));
        ck->buf.n = raft__stream_pages(at + step);
        raft__stream_put(ck->buf.p, at, from, step);
        ck->pos += step;
        from += step;
        n -= step;
    }
}

static void put_head(struct log_ckpt *ck)
{
    static const uint8_t zeros[PAGE_DATA];
    uint8_t head[48] = {0};
    store_u32(head, CKPT_HEAD_MAGIC);
    store_u16(head + 4, LOG_FORMAT);
    store_u64(head + 8, ck->log->meta.cluster);
    store_u64(head + 16, ck->log->meta.node);
    store_u64(head + 24, ck->im.index);
    store_u64(head + 32, ck->im.term);
    put(ck, head, sizeof head);
    put(ck, zeros, PAGE_DATA - sizeof head);
}

bool log_ckpt_ready(const struct log *log) { return !log->ckpt && !log->failed && log->meta.exists; }

struct log_ckpt *log_ckpt_begin(struct log *log, uint64_t index, uint64_t term, bool install)
{
    if (!log_ckpt_ready(log) || index == raft__ckpt_index(log)) return NULL;
    check(index > raft__ckpt_index(log));
    struct log_ckpt *ck = xcalloc(1, sizeof *ck);
    ck->log = log;
    ck->install = install;
    ck->im.index = index;
    ck->im.term = term;
    list_init(&ck->link);
    list_init(&ck->ios);
    log->ckpt = ck;
    raft__remove_file(log, CKPT_TMP);
    put_head(ck);
    return ck;
}

void log_ckpt_on_room(struct log_ckpt *ck, void (*room)(void *arg), void *arg)
{
    ck->room = room;
    ck->room_arg = arg;
}

int log_ckpt_write(struct log_ckpt *ck, struct slice block)
{
    struct image *im = &ck->im;
    uint8_t head[8];
    check(ck->phase == OPEN && block.n <= LOG_BLOCK_MAX);
    if (ck->err || ck->log->failed) return ck->err;
    if (ck->unwritten > CKPT_UNWRITTEN_MAX) {
        ck->want_room = true;
        return -EAGAIN;
    }
    if (im->nblocks == ck->blocks_cap) {
        ck->blocks_cap = ck->blocks_cap ? ck->blocks_cap * 2 : 64;
        im->blocks = xrealloc(im->blocks, ck->blocks_cap * sizeof *im->blocks);
    }
    im->blocks[im->nblocks++] = (struct image_block){ck->pos, (uint32_t)block.n};
    store_u32(head, (uint32_t)block.n);
    store_u32(head + 4, crc32c(0, block.p, block.n));
    put(ck, head, sizeof head);
    put(ck, block.p, block.n);
    im->payload_bytes += block.n;
    return 0;
}

void log_ckpt_abort(struct log_ckpt *ck)
{
    struct log *log = ck->log;
    check(ck->phase == OPEN && log->ckpt == ck);
    log->ckpt = NULL;
    ck->aborted = true;
    raft__place_free(log, &log->staged);
    if (ck->nios)
        list_push_back(&log->zombies, &ck->link);
    else
        ckpt_free(ck);
    if (!log->failed) raft__remove_file(log, CKPT_TMP);     /* after its writes: the lane keeps the order */
    raft__gc_wake(log);
}

/* ---- commit ---- */

void log_ckpt_commit(struct log_ckpt *ck, bool keep_suffix, void (*done)(void *arg, int err), void *arg)
{
    struct log *log = ck->log;
    uint64_t term;
    check(ck->phase == OPEN);
    ck->phase = WAIT;
    ck->done = done;
    ck->done_arg = arg;
    bool ours = raft__log_term_at(log, ck->im.index, &term) && term == ck->im.term && ck->im.index <= log->last;
    check(ck->install || ours);
    ck->reset = ck->install && !(keep_suffix && ours);
    if (ck->reset) log->w.hold = true;
    raft__log_wake(log);
}

static void fail(struct log_ckpt *ck)
{
    struct log *log = ck->log;
    void (*done)(void *arg, int err) = ck->done;
    void *arg = ck->done_arg;
    int err = ck->err;
    log->ckpt = NULL;
    if (ck->reset) log->w.hold = false;
    raft__place_free(log, &log->staged);
    ckpt_free(ck);
    raft__remove_file(log, CKPT_TMP);
    raft__log_wake(log);
    done(arg, err);
}

/* How far a payload segment holds nothing but what the places tell. */
static uint32_t covered(const struct seg *s) { return s->pins ? 0 : s->sealed ? UINT32_MAX : s->used; }

static void local_begin(struct log_ckpt *ck)
{
    struct log *log = ck->log;
    uint8_t row[12];
    uint32_t n = 0;
    ck->im.local_pos = ck->pos;
    for (uint32_t i = 0; i < log->nseg; i++) n += log->seg[i] && log->seg[i]->kind == PAGE_PAYLOAD;
    store_u32(row, n);
    put(ck, row, 4);
    for (uint32_t i = 0; i < log->nseg; i++) {
        const struct seg *s = log->seg[i];
        if (!s || s->kind != PAGE_PAYLOAD) continue;
        store_u64(row, s->no);
        store_u32(row + 8, covered(s));
        put(ck, row, 12);
    }
    ck->at_index = 0;
    ck->at_off = 0;
}

/* Writes some pieces of entries up to `last`; true: that was all. An install keeps all, its references are yet to come. */
static bool local_step(struct log_ckpt *ck, const struct places *m, uint64_t last)
{
    struct log *log = ck->log;
    struct place_at it;
    uint64_t asked = 0, live = 0;
    bool more = raft__place_seek(m, ck->at_index, ck->at_off, &it);
    for (uint32_t n = 0; n < STEP_ITEMS && more; n++, more = raft__place_next(m, &it)) {
        const struct piece *p = raft__place_get(m, &it);
        uint8_t row[PIECE_BYTES];
        if (p->index > last) return true;
        ck->at_index = p->index;
        ck->at_off = p->off + 1;
        if (p->seg == SEG_NONE) continue;
        if (asked != p->index) live = raft__place_live_of(m, p->index);
        asked = p->index;
        if (live == 0 && !ck->install && log->gc.ready && !log->gc.sweeping) continue;
        raft__image_piece_put(row, p, raft__seg_at(log, p->seg)->no);
        put(ck, row, sizeof row);
    }
    return !more;
}

/* A batch takes whole pages, so the entries of a lone client cost several times their bytes on disk. */
static uint64_t padding_per_entry(const struct log *log)
{
    uint64_t disk = 0, n = log->last + 1 - log->first;
    for (uint32_t i = 0; i < log->nseg; i++) {
        const struct seg *s = log->seg[i];
        if (s && s->kind == PAGE_LOG && s->lo <= s->hi && s->hi >= log->first) disk += (uint64_t)s->used * PAGE_BYTES;
    }
    return n && disk > log->window_bytes ? (disk - log->window_bytes) / n : 0;
}

/* Where the trail behind this checkpoint is to begin. */
static uint64_t trail_first(const struct log *log, uint64_t index)
{
    uint64_t bytes = 0, first = index + 1, padding = padding_per_entry(log);
    while (first > log->first) {
        bytes += RECORD_HEAD + raft__ent(log, first - 1)->len + padding;
        if (bytes > log->cfg.trail_bytes) break;
        first--;
    }
    return first;
}

/* The segment to scan from: the oldest that holds an entry from `first` on, or the one that will; further back while it
 * begins with a stale suffix, entries beyond index + 1 that were truncated later. */
static uint64_t scan_from(const struct log *log, uint64_t first, uint64_t index)
{
    const struct seg *from = NULL;
    for (uint32_t i = 0; i < log->nseg; i++) {
        const struct seg *s = log->seg[i];
        if (!s || s->kind != PAGE_LOG || (s->slot != log->w.seg && !(s->lo <= s->hi && s->hi >= first))) continue;
        if (!from || s->no < from->no) from = s;
    }
    if (!from) from = raft__seg_by_no(log, PAGE_LOG, log->w.prev_seg);
    while (from && from->begin > index + 1) {
        from = raft__seg_by_no(log, PAGE_LOG, from->prev);
        check(from);        /* the newest checkpoint's own scan begins no later */
    }
    return from ? from->no : log->w.take.busy ? log->w.take.no : log->next_no;
}

static void ckpt_synced(struct disk_io *io, int64_t result);

static void finish_stream(struct log_ckpt *ck)
{
    struct log *log = ck->log;
    struct image *im = &ck->im;
    uint8_t row[12];
    im->local_len = ck->pos - im->local_pos;
    im->table_pos = ck->pos;
    for (uint32_t i = 0; i < im->nblocks; i++) {
        store_u64(row, im->blocks[i].pos);
        store_u32(row + 8, im->blocks[i].len);
        put(ck, row, 12);
    }
    ck->trim_to = ck->reset ? im->index + 1 : trail_first(log, im->index);
    im->scan_seg = ck->reset ? log->next_no : scan_from(log, ck->trim_to, im->index);
    im->next_seg = log->next_no;
    im->dur_seg = log->w.dur_seg;
    im->dur_seq = log->w.dur_seq;
    im->reset = ck->reset;
    im->cluster = log->meta.cluster;
    emit(ck);
    im->pages = ck->page0 + 1;
    raft__pages_reserve(&ck->buf, 1);
    ck->buf.n = 1;
    raft__image_foot_put(ck->buf.p, im, log->meta.node);
    struct ckpt_io *w = xcalloc(1, sizeof *w);
    w->ck = ck;
    w->mem = ck->buf;
    ck->buf = (struct pages){0};
    w->io = (struct disk_io){.op = DISK_WRITE, .lane = DISK_LANE_BULK, .name = CKPT_TMP, .off = ck->page0 * PAGE_BYTES, .p = w->mem.p,
                             .n = PAGE_BYTES, .done = page_written};
    list_push_back(&ck->ios, &w->link);
    ck->nios++;
    ck->unwritten += PAGE_BYTES;
    raft__submit(log, &w->io);
    ck->phase = SYNCING;
}

static void sync_now(struct log_ckpt *ck)
{
    ck->io = (struct disk_io){.op = DISK_SYNC, .lane = DISK_LANE_BULK, .name = CKPT_TMP, .done = ckpt_synced, .arg = ck};
    raft__submit(ck->log, &ck->io);
}

/* ---- the switch ---- */

static void merge_staged(struct log *log)
{
    struct place_at it = {0};
    for (const struct piece *p; (p = raft__place_get(&log->staged, &it)); raft__place_next(&log->staged, &it))
        raft__place_put(log, &log->places, p->index, p, 1, SEG_NONE);
    raft__place_free(log, &log->staged);
}

static void void_log(struct log *log, uint64_t index, uint64_t trusted)
{
    struct writer *w = &log->w;
    raft__place_drop_from(log, &log->places, trusted + 1);
    raft__log_reset(log, index);
    for (uint32_t i = 0; i < log->nseg; i++) {
        struct seg *s = log->seg[i];
        if (!s || s->kind != PAGE_LOG) continue;
        s->sealed = true;
        s->hi = min_u64(s->hi, trusted);        /* payload of committed entries stays readable */
        if (s->lo > s->hi) s->lo = 1, s->hi = 0;
    }
    w->seg = SEG_NONE;
    w->next = index + 1;
    w->next_off = 0;
    w->durable = index;
    w->n = 0;
    w->hold = false;
}

static void recount_behind(struct log *log)
{
    log->behind_bytes = 0;
    for (uint64_t i = max_u64(log->first, raft__ckpt_index(log) + 1); i <= log->last; i++)
        log->behind_bytes += RECORD_HEAD + raft__ent(log, i)->len;
}

static void switch_over(struct log_ckpt *ck)
{
    struct log *log = ck->log;
    struct image *im = xmalloc(sizeof *im), *old = raft__image_newest(log);
    uint64_t trusted = min_u64(raft__trusted(log), ck->im.index);
    *im = ck->im;
    list_init(&im->link);
    ck->im.blocks = NULL;
    if (ck->reset) void_log(log, im->index, trusted);
    list_push_front(&log->images, &im->link);
    recount_behind(log);
    if (ck->install) {
        merge_staged(log);
        raft__place_zero_live(log, &log->places);
        raft__gc_cancel(log);
    }
    log->gc.trim_to = max_u64(log->gc.trim_to, ck->trim_to);
    trace_debug(log->trace, "log: checkpoint %llu: trail from %llu, scan from segment %llu", (unsigned long long)im->index,
                (unsigned long long)ck->trim_to, (unsigned long long)im->scan_seg);
    if (old) raft__image_maybe_remove(log, old);
    raft__space_check(log);
    raft__gc_wake(log);
    raft__log_wake(log);
}

static void ckpt_renamed(struct disk_io *io, int64_t result)
{
    struct log_ckpt *ck = io->arg;
    struct log *log = ck->log;
    if (raft__submitted(log)) return;
    if (result < 0) {
        raft__log_fail(log, (int)result, "renaming a checkpoint");
        return;
    }
    void (*done)(void *arg, int err) = ck->done;
    void *arg = ck->done_arg;
    switch_over(ck);
    log->ckpt = NULL;
    ckpt_free(ck);
    done(arg, 0);
}

static void ckpt_synced(struct disk_io *io, int64_t result)
{
    struct log_ckpt *ck = io->arg;
    struct log *log = ck->log;
    if (raft__submitted(log)) return;
    if (result < 0) {
        raft__log_fail(log, (int)result, "syncing a checkpoint");
        return;
    }
    ck->io = (struct disk_io){.op = DISK_RENAME, .lane = DISK_LANE_BULK, .name = CKPT_TMP, .done = ckpt_renamed, .arg = ck};
    raft__image_name(ck->io.to, ck->im.index);
    ck->phase = RENAMING;
    raft__submit(log, &ck->io);
}

void raft__ckpt_turn(struct log *log)
{
    struct log_ckpt *ck = log->ckpt;
    if (!ck || ck->phase == OPEN || ck->phase == RENAMING || log->failed) return;
    if (ck->err) {
        if (ck->nios == 0) fail(ck);
        return;
    }
    if (ck->phase == WAIT) {
        if (ck->reset ? log->w.busy : log->w.durable < ck->im.index) return;
        local_begin(ck);
        ck->phase = LOCAL;
    }
    if (ck->phase == SYNCING) {
        if (ck->nios == 0 && !ck->io.done) sync_now(ck);
        return;
    }
    if (ck->unwritten > CKPT_UNWRITTEN_MAX) return;
    uint64_t last = ck->reset ? min_u64(raft__trusted(log), ck->im.index) : ck->im.index;
    bool all = ck->phase == LOCAL ? local_step(ck, &log->places, last) : local_step(ck, &log->staged, ck->im.index);
    if (!all) {
        clock_arm(log->clock, &log->local, clock_now(log->clock) + STEP_NS / 4);
    } else if (ck->phase == LOCAL && ck->install) {
        ck->phase = STAGED;
        ck->at_index = 0;
        ck->at_off = 0;
        raft__log_wake(log);
    } else {
        finish_stream(ck);
    }
}
