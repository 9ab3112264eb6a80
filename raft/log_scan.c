/* log_scan.c - recovery: entries and places from the segments.
 *
 * LOG segments form a chain: each names the segment that held the batch before its first. The chain is followed back from
 * the newest segment to the one the checkpoint tells, then replayed forward, batch by batch; batch numbers rise by one.
 * Segments off the chain are left over from a cut and void.
 *
 * At most one batch was being written when the node stopped, so behind the last good batch t only pages of t + 1 may lie:
 * a torn write, cut off. Proof that t + 1 was durable (a good page of a later batch, a later segment's header, the durable
 * position that `meta` or the checkpoint tells) means damage instead. The scan then looks for the next good batch and goes on
 * where nothing that matters was lost: at a batch whose base (index, term) is in the log as it stands, or a record with all
 * entries before it in the checkpoint. Else the intact prefix is kept and the rest is void: `damaged`.
 *
 * PAYLOAD segments are read as far as the checkpoint's local section does not cover them; a bad batch there is passed over,
 * its bytes are found missing or come from a peer. */
#include "raft/log_priv.h"

struct chain_seg {
    struct seg *s;
    bool info, in;                      /* a header or first batch tells the next two; on the chain */
    uint64_t first_seq, prev_seg;
    uint64_t limit;                     /* its last batch that is part of the chain; 0: open */
};

struct scan {
    struct log *log;
    struct image *im;                   /* the checkpoint below, or NULL */
    struct chain_seg *v;                /* LOG segments to scan, ascending */
    size_t n, head;                     /* head: the newest on the chain; n: there is none */
    uint64_t base, scan_seg;            /* the checkpoint's index; older segments are not scanned */
    struct pages mem;

    uint64_t want;                      /* the number behind the last batch that counts; 0: any */
    uint64_t next;                      /* the number behind the last good one */
    uint64_t proven;                    /* batches up to here were durable */
    bool gap;                           /* batches are missing before the next record */
    bool stop;                          /* records that make no sense */
    bool skipped;                       /* records behind a gap that did not fit */
    bool missing;                       /* the segment of a known durable batch is gone */
    uint64_t torn;
    size_t tail;                        /* where the last good batch lies */
    uint32_t tail_page;
    bool tail_clean;
    uint64_t committed;                 /* as the batches that count tell it */

    struct record part;                 /* an entry whose records have not all come; index 0: none */
    struct blob *part_data;
    struct piece *rec;                  /* the records of the entries so far, ascending (len 0 possible) */
    size_t nrec, rec_cap;
};

/* ---- the chain ---- */

static int load(struct scan *sc, const struct seg *s, uint32_t page0, uint32_t n)
{
    char name[DISK_NAME_MAX];
    raft__seg_name(name, s->kind, s->no);
    raft__pages_reserve(&sc->mem, n);
    memset(sc->mem.p, 0, (size_t)n * PAGE_BYTES);
    int64_t got = disk_load(sc->log->disk, name, (uint64_t)page0 * PAGE_BYTES, sc->mem.p, (size_t)n * PAGE_BYTES);
    if (got >= 0 || got == -ENOENT) return 0;
    if (got != -EIO) return (int)got;
    for (uint32_t i = 0; i < n; i++) {          /* unreadable blocks count as damaged ones */
        uint8_t *p = sc->mem.p + (size_t)i * PAGE_BYTES;
        got = disk_load(sc->log->disk, name, (uint64_t)(page0 + i) * PAGE_BYTES, p, PAGE_BYTES);
        if (got < 0) memset(p, 0, PAGE_BYTES);
    }
    return 0;
}

static int read_info(struct scan *sc, struct chain_seg *c)
{
    struct seg_head h;
    struct page_tag tag;
    int err = load(sc, c->s, 0, 2);
    if (err) return err;
    err = raft__seg_head_get(sc->mem.p, PAGE_LOG, c->s->no, &h);
    if (err == QE_VERSION) return err;
    if (err == 0 && h.node != sc->log->meta.node) return QE_CLUSTER;
    const uint8_t *page1 = sc->mem.p + PAGE_BYTES;
    if (err == 0) {
        c->first_seq = h.first_seq;
        c->prev_seg = h.prev_seg;
    } else if (raft__page_check(page1, PAGE_LOG, c->s->no, 1, &tag) && tag.head) {
        c->first_seq = tag.seq;
        c->prev_seg = raft__batch_prev_seg(page1);
    } else {
        return 0;
    }
    c->info = c->prev_seg < c->s->no && c->first_seq > 0;
    return 0;
}

static int cmp_no(const void *a, const void *b)
{
    const struct chain_seg *x = a, *y = b;
    return x->s->no < y->s->no ? -1 : x->s->no > y->s->no;
}

static int list_segs(struct scan *sc)
{
    struct log *log = sc->log;
    sc->v = xcalloc(log->nseg + 1u, sizeof *sc->v);
    for (uint32_t i = 0; i < log->nseg; i++) {
        struct seg *s = log->seg[i];
        if (s->kind == PAGE_LOG && s->no >= sc->scan_seg) sc->v[sc->n++].s = s;
    }
    qsort(sc->v, sc->n, sizeof *sc->v, cmp_no);
    for (size_t i = 0; i < sc->n; i++) {
        int err = read_info(sc, &sc->v[i]);
        if (err) return err;
    }
    return 0;
}

/* The newest with info below segment number `no`; n: none. */
static size_t newest_below(const struct scan *sc, uint64_t no)
{
    for (size_t i = sc->n; i-- > 0;)
        if (sc->v[i].info && sc->v[i].s->no < no) return i;
    return sc->n;
}

static void mark_chain(struct scan *sc)
{
    sc->head = newest_below(sc, UINT64_MAX);
    for (size_t i = sc->head; i < sc->n;) {
        struct chain_seg *c = &sc->v[i];
        uint64_t prev = c->prev_seg;
        c->in = true;
        if (prev < sc->scan_seg || prev == 0) return;
        size_t p = 0;
        while (p < sc->n && sc->v[p].s->no != prev) p++;
        if (p < sc->n) {
            sc->v[p].in = true;
            sc->v[p].limit = c->first_seq - 1;
        }
        i = p < sc->n && sc->v[p].info ? p : newest_below(sc, prev);
    }
}

/* ---- entries ---- */

static void cut(struct scan *sc, uint64_t from)
{
    struct log *log = sc->log;
    while (sc->nrec && sc->rec[sc->nrec - 1].index >= from) sc->nrec--;
    if (from <= log->first)
        raft__log_reset(log, from - 1);
    else if (from <= log->last)
        raft__log_cut(log, from);
}

static void wipe(struct scan *sc, uint64_t index)
{
    sc->nrec = 0;
    raft__log_reset(sc->log, index);
}

static void part_drop(struct scan *sc)
{
    blob_unref(sc->part_data);
    sc->part_data = NULL;
    sc->part = (struct record){0};
}

static void rec_push(struct scan *sc, const struct record *r, uint32_t seg, uint32_t pos)
{
    if (sc->nrec == sc->rec_cap) {
        sc->rec_cap = sc->rec_cap ? sc->rec_cap * 2 : 1024;
        sc->rec = xrealloc(sc->rec, sc->rec_cap * sizeof *sc->rec);
    }
    sc->rec[sc->nrec++] = (struct piece){.index = r->index, .off = r->off, .len = r->len, .seg = seg, .pos = pos};
}

/* May the log go on with this record though batches before it are missing? */
static bool resume(struct scan *sc, const struct batch_head *h, const struct record *r, bool first)
{
    struct log *log = sc->log;
    uint64_t term;
    bool known = h->base_index >= log->first && h->base_index <= log->last;
    part_drop(sc);
    if (first && r->off == 0 && known && raft__log_term_at(log, h->base_index, &term) && term == h->base_term) return true;
    if (r->index > sc->base + (r->off == 0)) return false;
    wipe(sc, r->off == 0 ? r->index - 1 : sc->base);       /* all before it is the checkpoint's */
    return true;
}

/* An entry's first record: where the log stands must allow it. */
static bool begin_entry(struct scan *sc, const struct record *r)
{
    struct log *log = sc->log;
    uint64_t term;
    part_drop(sc);
    if (r->index == 0 || r->kind < RAFT_NOOP || r->kind > RAFT_CONFIG || r->index > log->last + 1) return false;
    if (r->index <= log->last) cut(sc, r->index);
    if (log->first <= log->last && (!raft__log_term_at(log, log->last, &term) || r->term < term)) return false;
    sc->part = *r;
    sc->part.len = 0;
    bool room = log->cached + r->total <= log->cfg.cache_bytes || r->kind == RAFT_CONFIG; /* the node reads those first */
    bool keep = r->total && r->index > sc->base && room;
    if (keep) sc->part_data = blob_new(r->total);
    return true;
}

static void end_entry(struct scan *sc)
{
    struct log_entry e = {.index = sc->part.index, .term = sc->part.term, .kind = sc->part.kind, .data = sc->part_data};
    raft__log_put(sc->log, &e, sc->part.total);
    sc->part_data = NULL;       /* the log has it now */
    part_drop(sc);
}

static bool take_record(struct scan *sc, const struct record *r, uint32_t seg, uint32_t pos, const uint8_t *batch, uint32_t at)
{
    if (r->off == 0 && !begin_entry(sc, r)) return false;
    struct record *p = &sc->part;
    if (p->index != r->index || p->term != r->term || p->kind != r->kind || p->total != r->total || p->len != r->off) return false;
    if (r->len == 0 && r->total) return false;
    if (sc->part_data) raft__stream_get(batch, at, sc->part_data->p + r->off, r->len);
    p->len += r->len;
    rec_push(sc, r, seg, pos);
    if (p->len == p->total) end_entry(sc);
    return true;
}

/* ---- replay ---- */

static bool records_sane(const uint8_t *batch, const struct batch_head *h)
{
    uint32_t pos = BATCH_HEAD, at;
    struct record r;
    for (uint32_t i = 0; i < h->records; i++)
        if (raft__record_get(batch, h, &pos, &r, &at)) return false;
    return pos == h->bytes;
}

static void replay_batch(struct scan *sc, const struct chain_seg *c, uint32_t page, const struct batch_head *h)
{
    const uint8_t *batch = sc->mem.p + (size_t)page * PAGE_BYTES;
    uint32_t pos = BATCH_HEAD, at;
    struct record r;
    if (h->seq != sc->next) sc->gap = true;
    for (uint32_t i = 0; i < h->records && !sc->stop; i++) {
        raft__record_get(batch, h, &pos, &r, &at);
        if (c->s->begin == 0) c->s->begin = r.index + (r.off > 0);
        if (r.index > sc->log->last + 1) sc->gap = true;        /* what the checkpoint covers was given up once */
        if (sc->gap) {
            bool fits = resume(sc, h, &r, i == 0);
            sc->skipped |= !fits;
            if (!fits || r.off) continue;   /* r.off: the rest of an entry that the checkpoint covers */
            sc->gap = sc->skipped = false;
        }
        if (!take_record(sc, &r, c->s->slot, page * PAGE_DATA + at, batch, at)) sc->stop = true;
    }
}

/* A page that no good batch explains: what does it prove? */
static void stray_page(struct scan *sc, const struct seg *s, uint32_t page, uint64_t limit)
{
    struct page_tag tag;
    if (!raft__page_check(sc->mem.p + (size_t)page * PAGE_BYTES, PAGE_LOG, s->no, page, &tag) || tag.seq == 0) return;
    if (limit && tag.seq > limit) return;
    sc->proven = max_u64(sc->proven, tag.seq - 1);
    if (limit) return;
    sc->tail_clean = false;
    sc->torn += PAGE_BYTES;
}

static int replay_seg(struct scan *sc, size_t i)
{
    const struct chain_seg *c = &sc->v[i];
    struct batch_head h;
    int err = load(sc, c->s, 0, c->s->pages);
    if (err) return err;
    if (c->info) sc->proven = max_u64(sc->proven, c->first_seq - 1);
    if (sc->want == 0 && c->info) sc->want = sc->next = c->first_seq;
    sc->tail_clean = true;
    for (uint32_t page = 1; page < c->s->pages && !sc->stop;) {
        bool good = raft__batch_get(sc->mem.p, c->s->pages, PAGE_LOG, c->s->no, page, &h) == 0;
        if (good && c->limit && h.seq > c->limit) break;
        good = good && h.seq >= sc->next && records_sane(sc->mem.p + (size_t)page * PAGE_BYTES, &h);
        if (!good) {
            stray_page(sc, c->s, page++, c->limit);
            continue;
        }
        sc->proven = max_u64(sc->proven, h.seq - 1);
        replay_batch(sc, c, page, &h);
        if (sc->stop) break;
        page += h.npages;
        sc->next = h.seq + 1;
        if (sc->skipped) continue;
        sc->want = h.seq + 1;
        sc->committed = max_u64(sc->committed, h.committed);
        sc->tail = i;
        sc->tail_page = page;
        sc->tail_clean = true;
        sc->torn = 0;
    }
    return 0;
}

/* A durable position told by `meta` or the checkpoint. */
static void told(struct scan *sc, uint64_t seg, uint64_t seq)
{
    if (seg == 0 || seg < sc->scan_seg) return;
    for (size_t i = 0; i < sc->n; i++) {
        if (sc->v[i].s->no != seg) continue;
        bool part = (sc->v[i].in && (sc->v[i].limit == 0 || seq <= sc->v[i].limit)) || sc->head == sc->n || i > sc->head;
        if (part) sc->proven = max_u64(sc->proven, seq);
        return;
    }
    if (sc->head == sc->n || seg > sc->v[sc->head].s->no) sc->missing = true;
}

static int replay(struct scan *sc)
{
    for (size_t i = 0; i < sc->n && !sc->stop; i++) {
        if (!sc->v[i].in) continue;
        int err = replay_seg(sc, i);
        if (err) return err;
    }
    for (size_t i = sc->head < sc->n ? sc->head + 1 : 0; i < sc->n; i++) {      /* neither header nor first batch is good */
        int err = load(sc, sc->v[i].s, 0, sc->v[i].s->pages);
        if (err) return err;
        for (uint32_t page = 1; page < sc->v[i].s->pages; page++) stray_page(sc, sc->v[i].s, page, 0);
    }
    told(sc, sc->log->meta.dur_seg, sc->log->meta.dur_seq);
    if (sc->im) told(sc, sc->im->dur_seg, sc->im->dur_seq);
    part_drop(sc);
    return 0;
}

/* ---- places ---- */

static void note(struct seg *s, uint64_t index)
{
    if (s->lo > s->hi) s->lo = s->hi = index;
    s->lo = min_u64(s->lo, index);
    s->hi = max_u64(s->hi, index);
}

struct table {
    struct scan *sc;
    struct seg **by_no;                 /* LOG and PAYLOAD segments, ascending */
    size_t n;
};

static int cmp_seg(const void *a, const void *b)
{
    const struct seg *x = *(struct seg *const *)a, *y = *(struct seg *const *)b;
    return x->no < y->no ? -1 : x->no > y->no;
}

static struct seg *find(const struct table *t, uint64_t no)
{
    size_t lo = 0, hi = t->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (t->by_no[mid]->no < no)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < t->n && t->by_no[lo]->no == no ? t->by_no[lo] : NULL;
}

static void table_covered(void *arg, uint64_t seg, uint32_t pages)
{
    struct seg *s = find(arg, seg);
    if (s && s->kind == PAGE_PAYLOAD) s->used = pages;
}

static void table_piece(void *arg, uint64_t seg, const struct piece *p)
{
    struct table *t = arg;
    struct seg *s = find(t, seg);
    if (!s || p->len == 0 || p->index > t->sc->base) return;        /* freed since */
    if ((uint64_t)p->pos + p->len > (uint64_t)s->pages * PAGE_DATA || p->pos < PAGE_DATA) return;
    struct piece x = *p;
    x.seg = s->slot;
    raft__place_put(t->sc->log, &t->sc->log->places, p->index, &x, 1, SEG_NONE);
    note(s, p->index);
}

static int load_places(struct scan *sc)
{
    struct log *log = sc->log;
    struct table t = {.sc = sc, .by_no = xcalloc(log->nseg + 1u, sizeof(struct seg *))};
    for (uint32_t i = 0; i < log->nseg; i++) t.by_no[t.n++] = log->seg[i];
    qsort(t.by_no, t.n, sizeof *t.by_no, cmp_seg);
    struct image_local cb = {.covered = table_covered, .piece = table_piece, .arg = &t};
    int err = sc->im ? raft__image_local(log, sc->im, &cb) : 0;
    free(t.by_no);
    return err;
}

static void place_records(struct scan *sc)
{
    struct log *log = sc->log;
    for (size_t i = 0; i < sc->nrec; i++) {
        const struct piece *p = &sc->rec[i];
        if (p->index < log->first || p->index > log->last) continue;
        if (p->len) raft__place_put(log, &log->places, p->index, p, 1, SEG_NONE);
        note(raft__seg_at(log, p->seg), p->index);
    }
}

static void payload_batch(struct scan *sc, struct seg *s, uint32_t page, const struct batch_head *h)
{
    struct log *log = sc->log;
    const uint8_t *batch = sc->mem.p + (size_t)page * PAGE_BYTES;
    uint32_t pos = BATCH_HEAD, at;
    struct record r;
    for (uint32_t i = 0; i < h->records; i++) {
        if (raft__record_get(batch, h, &pos, &r, &at)) return;
        if (r.kind != KIND_PIECE || r.len == 0 || r.index > sc->base) continue;
        if (r.index >= log->first && r.index <= log->last) continue;     /* the log has it, checked */
        struct piece p = {.off = r.off, .len = r.len, .seg = s->slot, .pos = page * PAGE_DATA + at};
        raft__place_put(log, &log->places, r.index, &p, 1, SEG_NONE);
        note(s, r.index);
        s->unsynced = true;
    }
}

static int scan_payload(struct scan *sc, struct seg *s)
{
    struct batch_head h;
    if (s->used >= s->pages) return 0;
    int err = load(sc, s, 0, s->pages);
    for (uint32_t page = s->used ? s->used : 1; page < s->pages && !err;) {
        if (raft__batch_get(sc->mem.p, s->pages, PAGE_PAYLOAD, s->no, page, &h)) {
            page++;
            continue;
        }
        payload_batch(sc, s, page, &h);
        page += h.npages;
    }
    return err;
}

/* ---- all of it ---- */

/* Does the checkpoint say that what was found is not the log, but something that lost records replaced? */
static bool contradicts(const struct scan *sc)
{
    const struct log *log = sc->log;
    uint64_t term;
    if (!sc->im || log->first > log->last) return false;
    if (log->first == sc->base + 1) return log->runs[log->run0].term < sc->im->term;
    return log->last >= sc->base && raft__log_term_at(log, sc->base, &term) && term != sc->im->term;
}

static void conclude(struct scan *sc, struct scan_result *out)
{
    struct log *log = sc->log;
    bool any = sc->tail < sc->n;
    uint64_t tail_seq = sc->want ? sc->want - 1 : sc->im ? sc->im->dur_seq : 0;
    out->damaged = sc->stop || sc->skipped || sc->missing || sc->proven > tail_seq;
    out->damaged |= sc->im && !sc->im->reset && log->last < sc->base;
    out->damaged |= contradicts(sc);
    bool wiped = log->first > log->last || log->last < sc->base || contradicts(sc);
    trace_debug(log->trace, "log: scan: %s%sbatch %llu in segment %llu is the last, %llu are proven durable, entries %llu to %llu",
                sc->stop || sc->skipped ? "loss, " : "", sc->missing ? "a segment is missing, " : "", (unsigned long long)tail_seq,
                (unsigned long long)(any ? sc->v[sc->tail].s->no : 0), (unsigned long long)sc->proven,
                (unsigned long long)log->first, (unsigned long long)log->last);
    /* After damage an entry that was replaced may stand where its successor was. */
    out->committed = out->damaged ? 0 : max_u64(sc->committed, log->meta.committed);
    if (wiped) wipe(sc, sc->base);
    any = any && !(wiped && out->damaged);      /* what is left over must not be found again */
    out->torn_bytes = out->damaged ? 0 : sc->torn;
    out->tail_seq = tail_seq;
    out->tail_no = any ? sc->v[sc->tail].s->no : 0;        /* 0 ends the chain */
    out->tail_seg = SEG_NONE;
    if (any && sc->tail == sc->head && sc->tail_clean && !out->damaged && sc->torn == 0) {
        out->tail_seg = sc->v[sc->tail].s->slot;
        out->tail_page = sc->tail_page;
    }
    for (size_t i = 0; i < sc->n; i++) {
        struct chain_seg *c = &sc->v[i];
        c->s->prev = c->prev_seg;
        c->s->sealed = c->s->slot != out->tail_seg;
        c->s->orphan = !c->in || (any ? i > sc->tail : true);
    }
}

int raft__scan(struct log *log, struct image *im, struct scan_result *out)
{
    struct scan sc = {.log = log, .im = im, .gap = true, .base = im ? im->index : 0, .scan_seg = im ? im->scan_seg : 0};
    *out = (struct scan_result){.tail_seg = SEG_NONE};
    raft__log_reset(log, sc.base);
    int err = list_segs(&sc);
    sc.tail = sc.n;
    if (err) goto out;
    mark_chain(&sc);
    err = replay(&sc);
    if (err) goto out;
    conclude(&sc, out);
    err = load_places(&sc);
    if (err) goto out;
    place_records(&sc);
    for (uint32_t i = 0; i < log->nseg && !err; i++) {
        struct seg *s = log->seg[i];
        if (s->kind == PAGE_PAYLOAD) err = scan_payload(&sc, s);
        s->used = s->pages;
        if (s->slot != out->tail_seg) s->sealed = true;
    }
out:
    raft__pages_free(&sc.mem);
    free(sc.rec);
    free(sc.v);
    return err;
}
