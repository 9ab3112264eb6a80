/* log_read.c - payload and whole entries back from memory or disk.
 *
 * A job is a list of spans; it reads runs of pages, neighbouring spans together, verifies each page it uses and copies. The
 * segments it reads from are pinned. Damage, also a missing file, ends it with QE_CORRUPT; the caller gets the bytes from a
 * peer then (log_store). */
#include "raft/log_priv.h"

#define SPAN_PAGES_MAX (READ_BYTES_MAX / PAGE_BYTES)
#define GAP_PAGES 2u                    /* read through rather than twice */
#define TRY_PAGES 16u

struct job *raft__job_new(struct log *log, void (*done)(struct job *j), void *user)
{
    struct job *j = xcalloc(1, sizeof *j);
    j->log = log;
    j->done = done;
    j->user = user;
    j->bad_seg = SEG_NONE;
    list_push_back(&log->jobs, &j->link);
    return j;
}

void raft__job_span(struct job *j, struct span s)
{
    if (j->n == j->cap) {
        j->cap = j->cap ? j->cap * 2 : 4;
        j->v = xrealloc(j->v, j->cap * sizeof *j->v);
    }
    j->v[j->n++] = s;
    raft__seg_at(j->log, s.seg)->readers++;
}

void raft__job_free(struct job *j)
{
    for (size_t i = 0; i < j->n; i++) {
        struct seg *s = raft__seg_at(j->log, j->v[i].seg);
        if (--s->readers == 0 && s->npieces == 0) raft__gc_wake(j->log);
    }
    list_remove(&j->link);
    raft__pages_free(&j->mem);
    free(j->v);
    free(j);
}

static void drop_list(struct list *head)
{
    for (struct list *l; (l = list_pop_front(head));) {
        struct job *j = container_of(l, struct job, link);
        if (j->drop) j->drop(j);
        raft__pages_free(&j->mem);
        free(j->v);
        free(j);
    }
}

void raft__jobs_drop(struct log *log)
{
    drop_list(&log->jobs);
    drop_list(&log->late);
}

static void job_step(struct job *j);

/* Copies what [page0, page0 + npages) holds of the spans from j->at on; stops where more has to be read. */
static void job_copy(struct job *j, uint32_t npages)
{
    enum { UNKNOWN, GOOD } seen[SPAN_PAGES_MAX] = {UNKNOWN};
    const struct seg *s = raft__seg_at(j->log, j->v[j->at].seg);
    uint64_t begin = (uint64_t)j->page0 * PAGE_DATA, end = begin + (uint64_t)npages * PAGE_DATA;
    while (j->at < j->n) {
        struct span *sp = &j->v[j->at];
        uint64_t pos = (uint64_t)sp->pos + j->at_off;
        if (raft__seg_at(j->log, sp->seg) != s || pos < begin || pos >= end) return;
        uint64_t step = min_u64(sp->len - j->at_off, end - pos);
        for (uint64_t pg = pos / PAGE_DATA; pg <= (pos + step - 1) / PAGE_DATA; pg++) {
            uint32_t k = (uint32_t)(pg - j->page0);
            struct page_tag tag;
            if (seen[k] == GOOD) continue;
            if (!raft__page_check(j->mem.p + (size_t)k * PAGE_BYTES, s->kind, s->no, (uint32_t)pg, &tag)) {
                j->err = QE_CORRUPT;
                j->bad_seg = sp->seg;
                return;
            }
            seen[k] = GOOD;
        }
        raft__stream_get(j->mem.p, pos - begin, sp->to + j->at_off, step);
        j->at_off += (uint32_t)step;
        if (j->at_off < sp->len) return;
        j->at++;
        j->at_off = 0;
    }
}

static void job_got(struct disk_io *io, int64_t result)
{
    struct job *j = container_of(io, struct job, io);
    if (raft__submitted(j->log)) return;
    size_t at = j->at;
    uint32_t off = j->at_off;
    if (result >= 0) job_copy(j, (uint32_t)((uint64_t)result / PAGE_BYTES));
    if (!j->err && j->at == at && j->at_off == off) {      /* an error, or the file is shorter than it was */
        j->err = QE_CORRUPT;
        j->bad_seg = j->v[j->at].seg;
    }
    job_step(j);
}

static void job_step(struct job *j)
{
    if (j->err || j->at == j->n) {
        j->done(j);
        return;
    }
    const struct span *sp = &j->v[j->at];
    const struct seg *s = raft__seg_at(j->log, sp->seg);
    uint64_t page0 = (sp->pos + j->at_off) / PAGE_DATA, end = raft__stream_pages((uint64_t)sp->pos + sp->len);
    for (size_t i = j->at + 1; i < j->n && j->v[i].seg == sp->seg && end - page0 < SPAN_PAGES_MAX; i++) {
        uint64_t p = j->v[i].pos / PAGE_DATA;
        if (p < page0 || p > end + GAP_PAGES) break;
        end = max_u64(end, raft__stream_pages((uint64_t)j->v[i].pos + j->v[i].len));
    }
    j->page0 = (uint32_t)page0;
    uint32_t n = (uint32_t)min_u64(end - page0, SPAN_PAGES_MAX);
    raft__pages_reserve(&j->mem, n);
    j->io = (struct disk_io){.op = DISK_READ, .lane = DISK_LANE_READ, .off = page0 * PAGE_BYTES, .p = j->mem.p,
                             .n = n * PAGE_BYTES, .done = job_got};
    raft__seg_name(j->io.name, s->kind, s->no);
    raft__submit(j->log, &j->io);
}

void raft__job_start(struct job *j)
{
    if (!j->err && j->n) {
        job_step(j);
        return;
    }
    list_remove(&j->link);
    list_push_back(&j->log->late, &j->link);
    raft__log_wake(j->log);
}

/* ---- payload ---- */

static bool in_window(const struct log *log, uint64_t index) { return index >= log->first && index <= log->last; }

/* From memory: 1 copied, 0 not in memory, QE_GONE. */
static int from_memory(const struct log *log, uint64_t index, uint32_t off, uint32_t n, uint8_t *p)
{
    if (!in_window(log, index)) return 0;
    const struct ent *e = raft__ent(log, index);
    if ((uint64_t)off + n > e->len) return QE_GONE;
    if (!e->data) return 0;
    memcpy(p, e->data->p + off, n);
    return 1;
}

bool log_has(const struct log *log, uint64_t index, uint32_t off, uint32_t n)
{
    if (n == 0) return true;
    if (raft__installing(log))          /* what the switch would keep: durable, and the cluster's */
        return raft__place_covers(index > raft__trusted(log) ? &log->staged : &log->places, index, off, n);
    if (in_window(log, index) && raft__ent(log, index)->data) return (uint64_t)off + n <= raft__ent(log, index)->len;
    return raft__place_covers(&log->places, index, off, n);
}

static const struct places *places_of(const struct log *log, const struct log_read *r)
{
    return r->staged ? &log->staged : &log->places;
}

uint32_t log_run(const struct log *log, const struct log_read *r, uint32_t off, uint32_t n, bool *here)
{
    const struct places *m = places_of(log, r);
    uint64_t index = r->index;
    const struct ent *e = in_window(log, index) && !r->staged ? raft__ent(log, index) : NULL;
    const struct piece *p = raft__place_find(m, index, off);
    *here = e && e->data ? off < e->len : p != NULL;
    if (*here) return (uint32_t)min_u64(n, (e && e->data ? e->len : p->off + p->len) - off);
    if (e && e->data) return n;
    struct place_at it;
    bool more = raft__place_seek(m, index, off, &it);
    while (more && (p = raft__place_get(m, &it))->len == 0) more = raft__place_next(m, &it);
    return more && p->index == index ? (uint32_t)min_u64(n, p->off - off) : n;
}

static int try_span(struct log *log, const struct piece *pc, uint32_t off, uint32_t n, uint8_t *p)
{
    const struct seg *s = raft__seg_at(log, pc->seg);
    uint64_t pos = (uint64_t)pc->pos + (off - pc->off);
    char name[DISK_NAME_MAX];
    raft__seg_name(name, s->kind, s->no);
    raft__pages_reserve(&log->scratch, TRY_PAGES);
    while (n) {
        uint64_t page0 = pos / PAGE_DATA, end = min_u64(raft__stream_pages(pos + n), page0 + TRY_PAGES);
        uint32_t bytes = (uint32_t)(end - page0) * PAGE_BYTES;
        int64_t got = disk_try_read(log->disk, name, page0 * PAGE_BYTES, log->scratch.p, bytes);
        if (got == -EAGAIN) return -EAGAIN;
        if (got != (int64_t)bytes) return got >= 0 ? -EAGAIN : QE_CORRUPT;     /* short: the real read decides */
        for (uint64_t i = page0; i < end; i++) {
            struct page_tag tag;
            const uint8_t *page = log->scratch.p + (i - page0) * PAGE_BYTES;
            if (!raft__page_check(page, s->kind, s->no, (uint32_t)i, &tag)) return QE_CORRUPT;
        }
        uint32_t step = (uint32_t)min_u64(n, end * PAGE_DATA - pos);
        raft__stream_get(log->scratch.p, pos - page0 * PAGE_DATA, p, step);
        p += step;
        pos += step;
        n -= step;
    }
    return 0;
}

int log_try_read(struct log *log, uint64_t index, uint32_t off, uint32_t n, uint8_t *p)
{
    int got = from_memory(log, index, off, n, p);
    if (got) return got < 0 ? got : 0;
    uint64_t end = (uint64_t)off + n;
    while (off < end) {
        const struct piece *pc = raft__place_find(&log->places, index, off);
        if (!pc) return QE_GONE;
        uint32_t step = (uint32_t)min_u64(end, pc->off + pc->len) - off;
        int err = try_span(log, pc, off, step, p);
        if (err) return err;
        off += step;
        p += step;
    }
    return 0;
}

/* Adds the spans of a range of an entry; false: not all of it is here. */
static bool add_range(struct job *j, const struct places *m, uint64_t index, uint32_t off, uint32_t n, uint8_t *to)
{
    uint64_t end = (uint64_t)off + n;
    while (off < end) {
        const struct piece *pc = raft__place_find(m, index, off);
        if (!pc) return false;
        uint32_t step = (uint32_t)min_u64(end, pc->off + pc->len) - off;
        raft__job_span(j, (struct span){.seg = pc->seg, .pos = pc->pos + (off - pc->off), .len = step, .to = to});
        off += step;
        to += step;
    }
    return true;
}

static void read_done(struct job *j)
{
    struct log_read *r = j->user;
    int err = j->err;
    raft__job_free(j);
    r->done(r, err);
}

void log_read(struct log *log, struct log_read *r)
{
    struct job *j = raft__job_new(log, read_done, r);
    int got = r->staged ? 0 : from_memory(log, r->index, r->off, r->n, r->p);
    if (got < 0)
        j->err = got;
    else if (got == 0 && !add_range(j, places_of(log, r), r->index, r->off, r->n, r->p))
        j->err = QE_GONE;
    raft__job_start(j);
}

/* ---- whole entries ---- */

struct fetched {
    uint64_t index, term;
    struct blob *data;
};
struct fetch {
    size_t n;
    struct fetched v[];
};

static void fetch_done(struct job *j)
{
    struct log *log = j->log;
    struct log_fetch *f = j->user;
    struct fetch *list = j->priv;
    int err = j->err;
    for (size_t i = 0; i < list->n; i++) {
        struct fetched *x = &list->v[i];
        uint64_t term;
        bool there = in_window(log, x->index) && raft__log_term_at(log, x->index, &term) && term == x->term;
        struct ent *e = there ? raft__ent(log, x->index) : NULL;
        if (!there) err = err ? err : QE_GONE;      /* trimmed or replaced meanwhile */
        if (err || e->data) {
            blob_unref(x->data);
            continue;
        }
        e->data = x->data;
        log->cached += e->len;
        log->evict_next = min_u64(log->evict_next, x->index);
    }
    free(list);
    raft__job_free(j);
    raft__log_wake(log);
    f->done(f, err);
}

static void fetch_drop(struct job *j)
{
    struct fetch *list = j->priv;
    for (size_t i = 0; i < list->n; i++) blob_unref(list->v[i].data);
    free(list);
}

void log_fetch(struct log *log, struct log_fetch *f)
{
    struct job *j = raft__job_new(log, fetch_done, f);
    j->drop = fetch_drop;
    bool here = f->first <= f->last && in_window(log, f->first) && in_window(log, f->last);
    size_t n = here ? (size_t)(f->last - f->first + 1) : 0;
    struct fetch *list = xcalloc(1, sizeof *list + n * sizeof *list->v);
    j->priv = list;
    if (!here) j->err = QE_GONE;
    for (uint64_t i = f->first; here && i <= f->last; i++) {
        const struct ent *e = raft__ent(log, i);
        if (e->len == 0) continue;
        struct fetched *x = &list->v[list->n++];
        x->index = i;
        check(raft__log_term_at(log, i, &x->term));
        x->data = e->data ? blob_ref(e->data) : blob_new(e->len);
        if (!e->data && !add_range(j, &log->places, i, 0, e->len, x->data->p)) j->err = QE_CORRUPT;
    }
    raft__job_start(j);
}
