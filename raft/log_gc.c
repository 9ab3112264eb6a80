/* log_gc.c - background work: the trail's end, dead payload, compaction. A bounded step at a time, none before the state
 * machine has reported its references (the first log_applied() after log_open or an install).
 *
 * Trim: behind a new checkpoint whole entries are let go up to the trail; payload nobody refers to goes with them.
 * Sweep: once after a restart, the same for all that lies before the trail.
 * Compaction of one segment, the one with the least live payload below the limit: walk its pieces, ask which ranges are
 * live, read and verify them, put them into the payload segment, sync, and only then switch the places and free the victim.
 * Pieces are immutable and named by (index, offset, length), so a crash at any step leaves a valid copy somewhere.
 * Damage on the way: the victim stays as it is and is not tried again. No space: later. */
#include "raft/log_priv.h"

#define CHUNK_BYTES (1u * MIB)

void raft__gc_wake(struct log *log)
{
    if (log->gc.armed || log->failed) return;
    log->gc.armed = true;
    clock_arm(log->clock, &log->gc.timer, clock_now(log->clock) + STEP_NS);
}

/* ---- trim and sweep ---- */

static bool trim_step(struct log *log)
{
    struct gc *g = &log->gc;
    if (log->first >= g->trim_to || raft__installing(log)) return false;
    uint64_t to = min_u64(g->trim_to, log->first + STEP_ITEMS);
    for (uint64_t i = log->first; i < to; i++)
        if (raft__ent(log, i)->len && raft__place_live_of(&log->places, i) == 0) raft__place_drop(log, &log->places, i);
    raft__log_trim(log, to);
    log->cfg.cb.trimmed(log->cfg.cb.arg, to);
    return log->first < g->trim_to;
}

static bool sweep_step(struct log *log)
{
    struct gc *g = &log->gc;
    struct place_at it;
    uint32_t n = 0;
    if (!g->sweeping) return false;
    while (n++ < STEP_ITEMS && raft__place_seek(&log->places, g->sweep_index, 0, &it)) {
        uint64_t index = raft__place_get(&log->places, &it)->index;
        if (index >= log->first) break;
        g->sweep_index = index + 1;
        if (raft__place_live_of(&log->places, index) == 0) raft__place_drop(log, &log->places, index);
    }
    g->sweeping = n > STEP_ITEMS;
    return g->sweeping;
}

void log_live_add(struct log *log, uint64_t index, int64_t delta)
{
    raft__place_live(log, &log->places, index, delta);
    if (delta >= 0 || !log->gc.ready) return;
    if (index < log->first && raft__place_live_of(&log->places, index) == 0) {
        raft__place_drop(log, &log->places, index);
        raft__gc_wake(log);
    }
}

/* ---- choosing ---- */

/* Is it worth while to copy so many bytes of records out of the segment? They are below the limit, and their pages, with what
 * two batches pad, fewer than those it has used: so each compaction leaves less on disk, and there is an end to them. */
static bool worth(const struct log *log, const struct seg *s, uint64_t bytes)
{
    uint64_t data = (uint64_t)(s->pages - 1) * PAGE_DATA;
    return bytes < data / 100 * log->cfg.compact_live_percent && raft__stream_pages(bytes) + 3u < s->used;
}

/* What the live bytes of a segment would take elsewhere. Each piece is a record of its own, so pieces of a few bytes cost more
 * than themselves; dead ones are taken to be as long as live ones. */
static uint64_t cost_of(const struct seg *s)
{
    uint64_t heads = s->npieces * RECORD_HEAD, all = (uint64_t)s->used * PAGE_DATA;
    return s->live + (all > heads ? min_u64(heads, heads * s->live / (all - heads)) : heads);
}

static bool eligible(const struct log *log, const struct seg *s)
{
    const struct image *im = raft__image_newest(log);
    if (!s->sealed || s->rotten || s->pins || s->npieces == 0 || !worth(log, s, cost_of(s))) return false;
    if (s->keep && s->live >= s->keep_live / 2) return false;
    return s->kind == PAGE_PAYLOAD || (im && s->no < im->scan_seg && s->hi < log->first);
}

static void choose(struct log *log)
{
    struct gc *g = &log->gc;
    const struct seg *best = NULL;
    uint64_t dead = 0;
    if (raft__installing(log) || g->sweeping || clock_now(log->clock) < g->retry_at) return;
    for (uint32_t i = 0; i < log->nseg; i++) {
        const struct seg *s = log->seg[i];
        if (!s || !eligible(log, s)) continue;
        if (!best || s->live < best->live) best = s;
        dead += (uint64_t)s->pages * PAGE_BYTES - s->live;
    }
    if (!best || (dead <= log->cfg.compact_slack_bytes && !log->full)) return;
    g->victim = best->slot;
    g->phase = GC_WALK;
    g->at_index = best->lo;
    g->at_off = 0;
    g->bad = false;
    g->live_seen = 0;
}

/* ---- copying ---- */

struct range {
    uint32_t off, len;
};
struct ranges {
    uint64_t index;
    struct range *v;
    size_t n, cap;
};

static void emit(void *ctx, uint32_t off, uint32_t len)
{
    struct ranges *r = ctx;
    if (len == 0) return;
    if (r->n == r->cap) {
        r->cap = r->cap ? r->cap * 2 : 64;
        r->v = xrealloc(r->v, r->cap * sizeof *r->v);
    }
    r->v[r->n++] = (struct range){off, len};
}

static void ask(struct log *log, struct ranges *r, uint64_t index)
{
    if (r->index == index) return;
    r->index = index;
    r->n = 0;
    if (index >= log->first) {          /* followers may want it whole */
        emit(r, 0, LOG_ENTRY_MAX);
        return;
    }
    log->cfg.cb.live_ranges(log->cfg.cb.arg, index, emit, r);
    if (r->n || raft__place_live_of(&log->places, index) == 0) return;
    trace_error(log->trace, "log: entry %llu has live bytes but the state machine names none; all are kept",
                (unsigned long long)index);
    emit(r, 0, LOG_ENTRY_MAX);
}

/* The copies of one chunk on their way: read, then put. */
struct chunk {
    size_t n, cap;
    struct pay_item **v;
};

static void chunk_free(struct log *log, struct chunk *c)
{
    for (size_t i = 0; i < c->n; i++) raft__pay_free(log, c->v[i]);
    free(c->v);
    free(c);
}

static void moved_item(struct log *log, struct pay_item *it, int err)
{
    struct gc *g = &log->gc;
    check(g->out > 0);
    g->out--;
    if (err) {
        g->bad = true;
        g->retry_at = clock_now(log->clock) + 10 * RETRY_NS;
    }
    for (size_t i = 0; i < it->n && !err; i++) {
        if (g->nmoved == g->moved_cap) {
            g->moved_cap = g->moved_cap ? g->moved_cap * 2 : 64;
            g->moved = xrealloc(g->moved, g->moved_cap * sizeof *g->moved);
        }
        g->moved[g->nmoved++] = it->v[i];
        raft__seg_at(log, it->v[i].seg)->pins++;
    }
    raft__pay_free(log, it);
    raft__gc_wake(log);
}

static void chunk_add(struct log *log, struct chunk *c, struct job *j, const struct piece *p, uint32_t off, uint32_t len)
{
    struct pay_item *it = xcalloc(1, sizeof *it);
    *it = (struct pay_item){.index = p->index, .off = off, .data = blob_new(len), .done = moved_item};
    list_init(&it->link);
    if (c->n == c->cap) {
        c->cap = c->cap ? c->cap * 2 : 64;
        c->v = xrealloc(c->v, c->cap * sizeof *c->v);
    }
    c->v[c->n++] = it;
    raft__job_span(j, (struct span){.seg = p->seg, .pos = p->pos + (off - p->off), .len = len, .to = it->data->p});
}

static void chunk_read(struct job *j)
{
    struct log *log = j->log;
    struct gc *g = &log->gc;
    struct chunk *c = j->priv;
    g->reading = false;
    if (j->err && g->victim != SEG_NONE) {
        g->bad = true;
        raft__seg_at(log, g->victim)->rotten = true;
        trace_warn(log->trace, "log: segment %llu is damaged; it is left alone", (unsigned long long)raft__seg_at(log, g->victim)->no);
    }
    if (!g->bad) {
        for (size_t i = 0; i < c->n; i++) {
            log->moved_bytes += c->v[i]->data->n;
            g->out++;
            raft__pay_put(log, c->v[i]);
        }
        c->n = 0;
    }
    chunk_free(log, c);
    raft__job_free(j);
    raft__gc_wake(log);
}

static void chunk_drop(struct job *j) { chunk_free(j->log, j->priv); }

/* The live parts of one piece of the victim. Returns what they will take. */
static uint64_t add_live(struct log *log, struct chunk *c, struct job *j, const struct piece *p, const struct ranges *r)
{
    uint64_t bytes = 0, end = (uint64_t)p->off + p->len, at = p->off;
    for (size_t i = 0; i < r->n && at < end; i++) {
        uint64_t from = max_u64(r->v[i].off, at), to = min_u64((uint64_t)r->v[i].off + r->v[i].len, end);
        if (from >= to) continue;
        chunk_add(log, c, j, p, (uint32_t)from, (uint32_t)(to - from));
        bytes += RECORD_HEAD + to - from;
        at = to;
    }
    return bytes;
}

static void walk_step(struct log *log)
{
    struct gc *g = &log->gc;
    struct seg *s = raft__seg_at(log, g->victim);
    struct ranges r = {0};
    struct place_at it;
    uint64_t bytes = 0;
    uint32_t looked = 0;
    struct chunk *c = xcalloc(1, sizeof *c);
    struct job *j = raft__job_new(log, chunk_read, NULL);
    j->priv = c;
    j->drop = chunk_drop;
    bool more = raft__place_seek(&log->places, g->at_index, g->at_off, &it);
    for (; more && looked < STEP_ITEMS && bytes < CHUNK_BYTES; more = raft__place_next(&log->places, &it), looked++) {
        const struct piece *p = raft__place_get(&log->places, &it);
        if (p->index > s->hi) break;
        g->at_index = p->index;
        g->at_off = p->off + 1;
        if (p->seg != g->victim) continue;
        ask(log, &r, p->index);
        bytes += add_live(log, c, j, p, &r);
    }
    free(r.v);
    g->live_seen += bytes;
    if (looked < STEP_ITEMS && bytes < CHUNK_BYTES) g->phase = GC_SYNC;
    if (!worth(log, s, g->live_seen)) {
        s->keep = true;
        s->keep_live = s->live;
        g->bad = true;
    }
    g->reading = true;
    raft__job_start(j);
}

/* ---- switching ---- */

static void finish(struct log *log)
{
    struct gc *g = &log->gc;
    uint32_t slot = g->victim;
    for (size_t i = 0; i < g->nmoved; i++) raft__seg_at(log, g->moved[i].seg)->pins--;
    g->nmoved = g->moved_at = 0;
    g->victim = SEG_NONE;
    if (!g->bad) log->compactions++;
    if (slot != SEG_NONE && log->seg[slot]) raft__seg_maybe_free(log, log->seg[slot]);
}

/* Puts the copies in place of the victim's pieces, entry by entry; what has no copy is dead. */
static bool switch_step(struct log *log)
{
    struct gc *g = &log->gc;
    const struct seg *s = raft__seg_at(log, g->victim);
    struct place_at it;
    for (uint32_t n = 0; n < STEP_ITEMS; n++) {
        bool more = raft__place_seek(&log->places, g->at_index, g->at_off, &it);
        const struct piece *p = more ? raft__place_get(&log->places, &it) : NULL;
        if (!p || p->index > s->hi) return true;
        g->at_index = p->index;
        g->at_off = p->off + 1;
        if (p->seg != g->victim) continue;
        while (g->moved_at < g->nmoved && g->moved[g->moved_at].index < p->index) g->moved_at++;
        size_t first = g->moved_at, k = 0;
        while (first + k < g->nmoved && g->moved[first + k].index == p->index) k++;
        g->at_index = p->index + 1;
        g->at_off = 0;
        raft__place_put(log, &log->places, p->index, k ? g->moved + first : NULL, k, g->victim);
        g->moved_at += k;
    }
    return false;
}

static bool compact_step(struct log *log)
{
    struct gc *g = &log->gc;
    if (g->victim == SEG_NONE) choose(log);
    if (g->victim == SEG_NONE || g->reading) return false;
    if (g->bad) {
        if (g->out == 0) {
            finish(log);
            return true;
        }
        raft__pay_sync(log);
        return false;
    }
    if (g->phase == GC_WALK) {
        if (log->pay.queued >= CHUNK_BYTES) return true;        /* the disk is behind */
        walk_step(log);
        return false;
    }
    if (g->phase == GC_SYNC) {
        if (g->out) {
            raft__pay_sync(log);
            return false;
        }
        g->phase = GC_SWITCH;
        g->at_index = raft__seg_at(log, g->victim)->lo;
        g->at_off = 0;
    }
    if (switch_step(log)) finish(log);
    return true;
}

/* The state is replaced: what was found live no longer counts. */
void raft__gc_cancel(struct log *log)
{
    struct gc *g = &log->gc;
    g->ready = g->sweeping = false;
    if (g->victim != SEG_NONE) g->bad = true;
}

void raft__gc_fired(struct timer *t)
{
    struct log *log = t->arg;
    struct gc *g = &log->gc;
    g->armed = false;
    if (log->failed) return;
    bool more = false;
    if (g->ready) {
        more |= trim_step(log);
        more |= sweep_step(log);
    }
    if (g->ready || g->victim != SEG_NONE) more |= compact_step(log);
    raft__seg_housekeep(log);
    uint64_t now = clock_now(log->clock);
    if (more) {
        raft__gc_wake(log);
    } else if (!g->armed && max_u64(log->spare_retry_at, g->retry_at) > now) {
        g->armed = true;
        clock_arm(log->clock, &g->timer, max_u64(log->spare_retry_at, g->retry_at));
    }
}
