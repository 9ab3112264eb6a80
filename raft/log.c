/* log.c - the log in memory: entries first .. last with their lengths, kinds and term runs, the bytes of those that are
 * cached, and the turn's end, where what one turn of the loop has gathered goes to disk.
 *
 * Bytes stay in memory until they are durable and applied, then the oldest go when the cache is over its limit. Blobs let
 * go are released at the turn's end only, so that what log_cached() lent stays valid during the turn. */
#include "raft/log_priv.h"

void raft__log_fail(struct log *log, int err, const char *what)
{
    if (log->failed) return;
    log->failed = true;
    trace_error(log->trace, "log: %s failed: %s; nothing is written any more", what, err_text(err));
    log->cfg.cb.failed(log->cfg.cb.arg, err, what);
}

void raft__submit(struct log *log, struct disk_io *io)
{
    check(!log->failed || io->op == DISK_READ);
    if (io->op != DISK_READ) raft__log_start(log);
    log->inflight++;
    disk_submit(log->disk, io);
}

bool raft__submitted(struct log *log)
{
    check(log->inflight > 0);
    log->inflight--;
    return log->failed;
}

void raft__log_wake(struct log *log) { clock_arm(log->clock, &log->turn, 0); }

/* ---- term runs ---- */

static void runs_push(struct log *log, uint64_t index, uint64_t term)
{
    if (log->nruns > log->run0 && log->runs[log->nruns - 1].term == term) return;
    if (log->run0 > 64 && log->run0 > log->nruns / 2) {
        memmove(log->runs, log->runs + log->run0, (log->nruns - log->run0) * sizeof *log->runs);
        log->nruns -= log->run0;
        log->run0 = 0;
    }
    if (log->nruns == log->runs_cap) {
        log->runs_cap = log->runs_cap ? log->runs_cap * 2 : 16;
        log->runs = xrealloc(log->runs, log->runs_cap * sizeof *log->runs);
    }
    log->runs[log->nruns++] = (struct raft_run){index, term};
}

static void runs_fit(struct log *log)
{
    while (log->nruns > log->run0 && log->runs[log->nruns - 1].first > log->last) log->nruns--;
    while (log->nruns > log->run0 + 1 && log->runs[log->run0 + 1].first <= log->first) log->run0++;
    if (log->first > log->last) log->run0 = log->nruns = 0;
}

bool raft__log_term_at(const struct log *log, uint64_t index, uint64_t *term)
{
    const struct image *im = raft__image_newest(log);
    *term = 0;
    if (index == 0) return true;
    if (index >= log->first && index <= log->last) {
        uint32_t lo = log->run0, hi = log->nruns;       /* the last run that begins at or before index */
        while (hi - lo > 1) {
            uint32_t mid = (lo + hi) / 2;
            if (log->runs[mid].first <= index)
                lo = mid;
            else
                hi = mid;
        }
        *term = log->runs[lo].term;
        return true;
    }
    if (!im || im->index != index) return false;
    *term = im->term;
    return true;
}

/* ---- entries ---- */

void raft__log_release(struct log *log, struct blob *b)
{
    struct held *h = &log->held;
    if (!b) return;
    if (h->n == h->cap) {
        h->cap = h->cap ? h->cap * 2 : 64;
        h->v = xrealloc(h->v, h->cap * sizeof(struct blob *));
    }
    h->v[h->n++] = b;
}

static void ring_grow(struct log *log)
{
    uint64_t cap = log->ring_cap ? log->ring_cap * 2 : 256;
    struct ent *ring = xcalloc(cap, sizeof *ring);
    for (uint64_t i = log->first; i <= log->last; i++) ring[i & (cap - 1)] = *raft__ent(log, i);
    free(log->ring);
    log->ring = ring;
    log->ring_cap = cap;
}

void raft__log_put(struct log *log, const struct log_entry *e, uint32_t len)
{
    check(e->index == log->last + 1 && len <= LOG_ENTRY_MAX);
    check(log->nruns == log->run0 || e->term >= log->runs[log->nruns - 1].term);
    if (log->last + 1 - log->first == log->ring_cap) ring_grow(log);
    log->last = e->index;
    *raft__ent(log, e->index) = (struct ent){.data = len ? e->data : NULL, .len = len, .kind = e->kind};
    runs_push(log, e->index, e->term);
    log->window_bytes += RECORD_HEAD + len;
    if (e->index > raft__ckpt_index(log)) log->behind_bytes += RECORD_HEAD + len;
    if (len && e->data) log->cached += len;
}

static void ent_drop(struct log *log, uint64_t index)
{
    struct ent *e = raft__ent(log, index);
    log->window_bytes -= RECORD_HEAD + e->len;
    if (index > raft__ckpt_index(log)) log->behind_bytes -= RECORD_HEAD + e->len;
    if (e->data) log->cached -= e->len;
    raft__log_release(log, e->data);
    *e = (struct ent){0};
}

void log_append(struct log *log, const struct log_entry *e)
{
    uint32_t len = e->data ? e->data->n : 0;
    check(e->index > 0 && e->term > 0);
    raft__log_put(log, e, len);
    if (len) blob_ref(e->data);
    raft__log_wake(log);
}

void raft__log_cut(struct log *log, uint64_t from)
{
    for (uint64_t i = log->last; i >= from; i--) {
        ent_drop(log, i);
        log->last = i - 1;
    }
    log->evict_next = min_u64(log->evict_next, from);
    runs_fit(log);
}

void log_truncate(struct log *log, uint64_t from)
{
    check(from >= log->first && from > raft__ckpt_index(log));
    if (from > log->last) return;
    raft__write_cut(log, from);
    raft__log_cut(log, from);
}

void raft__log_trim(struct log *log, uint64_t first)
{
    check(first <= log->last + 1);
    while (log->first < first) {
        ent_drop(log, log->first);
        log->first++;
    }
    log->evict_next = max_u64(log->evict_next, log->first);
    runs_fit(log);
}

void raft__log_reset(struct log *log, uint64_t index)
{
    while (log->first <= log->last) {
        ent_drop(log, log->first);
        log->first++;
    }
    log->first = index + 1;
    log->last = index;
    log->evict_next = log->first;
    runs_fit(log);
}

uint64_t log_first(const struct log *log) { return log->first; }
uint64_t log_last(const struct log *log) { return log->last; }

uint32_t log_span(void *arg, uint64_t first, uint64_t last, uint64_t bytes_max, uint64_t *bytes)
{
    const struct log *log = arg;
    uint32_t n = 0;
    *bytes = 0;
    for (uint64_t i = first; i <= last; i++, n++) {
        uint32_t len = raft__ent(log, i)->len;
        if (n && *bytes + len > bytes_max) break;
        *bytes += len;
    }
    return n;
}

bool log_cached(struct log *log, uint64_t index, struct log_entry *e)
{
    if (index < log->first || index > log->last) return false;
    const struct ent *x = raft__ent(log, index);
    if (x->len && !x->data) return false;
    *e = (struct log_entry){.index = index, .kind = x->kind, .data = x->data};
    return raft__log_term_at(log, index, &e->term);
}

void log_committed(struct log *log, uint64_t index) { log->committed = max_u64(log->committed, index); }
uint64_t log_sure(const struct log *log) { return raft__trusted(log); }

/* What a power cut now would leave to be trusted: of what is not durable an older entry may still be on disk. */
uint64_t raft__sure_on_disk(const struct log *log) { return min_u64(log->committed, log->w.durable); }

void log_applied(struct log *log, uint64_t index)
{
    log->applied = max_u64(log->applied, index);
    if (!log->gc.ready && index >= raft__ckpt_index(log)) {
        log->gc.ready = log->gc.sweeping = true;
        log->gc.sweep_index = 0;
        raft__gc_wake(log);
    }
    if (log->cached > log->cfg.cache_bytes) raft__log_wake(log);
}

static void evict(struct log *log)
{
    uint64_t upto = min_u64(log->w.durable, log->applied);
    while (log->cached > log->cfg.cache_bytes && log->evict_next <= upto && log->evict_next <= log->last) {
        struct ent *e = raft__ent(log, log->evict_next++);
        if (!e->data) continue;
        log->cached -= e->len;
        raft__log_release(log, e->data);
        e->data = NULL;
    }
}

/* ---- the turn's end ---- */

static void answer_late(struct log *log)
{
    struct list now;
    list_init(&now);
    for (struct list *l; (l = list_pop_front(&log->late));) list_push_back(&now, l);
    for (struct list *l; (l = list_pop_front(&now));) {
        struct job *j = container_of(l, struct job, link);
        list_push_back(&log->jobs, &j->link);
        j->done(j);
    }
}

static void turn_fired(struct timer *t)
{
    struct log *log = t->arg;
    raft__log_start(log);
    raft__meta_turn(log);
    raft__write_turn(log);
    raft__pay_turn(log);
    raft__ckpt_turn(log);
    evict(log);
    for (size_t i = 0; i < log->held.n; i++) blob_unref(log->held.v[i]);
    log->held.n = 0;
    answer_late(log);
}

static void mark_fired(struct timer *t)
{
    struct log *log = t->arg;
    if (log->failed || log->w.busy || log->meta.marked_seq == log->w.dur_seq) return;
    log->meta.want = true;
    raft__log_wake(log);
}

static void retry_fired(struct timer *t)
{
    struct log *log = t->arg;
    log->w.nospace = false;
    raft__log_wake(log);
}

void raft__log_timers(struct log *log)
{
    log->turn = (struct timer){.fire = turn_fired, .arg = log};
    log->mark = (struct timer){.fire = mark_fired, .arg = log};
    log->local = (struct timer){.fire = turn_fired, .arg = log};
    log->retry = (struct timer){.fire = retry_fired, .arg = log};
    log->gc.timer = (struct timer){.fire = raft__gc_fired, .arg = log};
}

bool log_idle(const struct log *log)
{
    bool entries = log->w.next <= log->last && !log->w.nospace && !log->failed;
    bool begun = log->started || list_empty(&log->ops);
    return begun && log->inflight == 0 && !entries && !log->meta.want && !log->ckpt && list_empty(&log->late) &&
           list_empty(&log->jobs) && list_empty(&log->block_reads) && list_empty(&log->pay.queue) && list_empty(&log->pay.written);
}

/* ---- figures ---- */

static int cmp_u32(const void *a, const void *b)
{
    uint32_t x = load_u32(a), y = load_u32(b);
    return x < y ? -1 : x > y;
}

void log_stats(const struct log *log, struct log_stats *out)
{
    uint32_t ns[SYNC_RING], n = (uint32_t)min_u64(log->syncs, SYNC_RING);
    *out = (struct log_stats){.disk_bytes = log->file_bytes, .live_bytes = log->live_total, .log_bytes = log->behind_bytes,
                              .batches = log->batches, .entries = log->entries, .bytes_written = log->bytes_written,
                              .compactions = log->compactions, .moved_bytes = log->moved_bytes};
    const struct image *newest = raft__image_newest(log);
    if (newest) out->checkpoint_bytes = newest->payload_bytes;
    list_for_each(l, &log->images) out->disk_bytes += container_of(l, struct image, link)->pages * PAGE_BYTES;
    for (uint32_t i = 0; i < log->nseg; i++) out->segments += log->seg[i] != NULL;
    out->spares = raft__spares_ready(log);
    if (n == 0) return;
    memcpy(ns, log->sync_ns, n * sizeof *ns);
    qsort(ns, n, sizeof *ns, cmp_u32);
    out->sync_ns_p50 = ns[n / 2];
    out->sync_ns_p99 = ns[n - 1 - n / 100];
    out->sync_ns_max = ns[n - 1];
}
