/* log_place.c - where the payload of entries lies: a sorted map (index, offset) -> (segment, position), 32 bytes a piece.
 *
 * An entry is one piece (more where it was larger than a segment) until compaction keeps its live ranges alone. Each piece
 * has a share of the entry's live count, which the state machine reports per entry; the shares add up exactly, how they are
 * spread over an entry's pieces only steers the choice of segments to compact. References to bytes that are not here are
 * kept in an empty piece (SEG_NONE), so that no count is lost until a peer's copy comes.
 *
 * The map is an array of chunks of sorted pieces; new entries come at the end and fill chunks fully. */
#include "raft/log_priv.h"

static int key_cmp(const struct piece *p, uint64_t index, uint32_t off)
{
    if (p->index != index) return p->index < index ? -1 : 1;
    return p->off < off ? -1 : p->off > off;
}

static uint64_t share(const struct piece *p) { return min_u64(p->live, p->len); }

static void count_in(struct log *log, const struct piece *p, bool in)
{
    if (p->seg == SEG_NONE) return;
    struct seg *s = raft__seg_at(log, p->seg);
    if (in) {
        s->npieces++;
        s->live += share(p);
        return;
    }
    check(s->npieces > 0 && s->live >= share(p));
    s->npieces--;
    s->live -= share(p);
}

/* ---- the array of chunks ---- */

static void chunk_insert(struct places *m, size_t at, struct place_chunk *c)
{
    if (m->n == m->cap) {
        m->cap = m->cap ? m->cap * 2 : 16;
        m->v = xrealloc(m->v, m->cap * sizeof *m->v);
    }
    memmove(m->v + at + 1, m->v + at, (m->n - at) * sizeof *m->v);
    m->v[at] = c;
    m->n++;
}

static void chunk_remove(struct places *m, size_t at)
{
    free(m->v[at]);
    m->n--;
    memmove(m->v + at, m->v + at + 1, (m->n - at) * sizeof *m->v);
}

bool raft__place_seek(const struct places *m, uint64_t index, uint32_t off, struct place_at *it)
{
    size_t lo = 0, hi = m->n;       /* the first chunk whose last piece is >= the key */
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        const struct place_chunk *c = m->v[mid];
        if (key_cmp(&c->v[c->n - 1], index, off) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *it = (struct place_at){.chunk = lo};
    if (lo == m->n) return false;
    const struct place_chunk *c = m->v[lo];
    uint32_t a = 0, b = c->n;
    while (a < b) {
        uint32_t mid = (a + b) / 2;
        if (key_cmp(&c->v[mid], index, off) < 0)
            a = mid + 1;
        else
            b = mid;
    }
    it->at = a;
    return true;
}

bool raft__place_next(const struct places *m, struct place_at *it)
{
    if (++it->at < m->v[it->chunk]->n) return true;
    it->at = 0;
    return ++it->chunk < m->n;
}

/* Inserts before `it`, which then points to the new piece. */
static void piece_insert(struct log *log, struct places *m, struct place_at *it, const struct piece *p)
{
    if (it->chunk == m->n && m->n > 0 && m->v[m->n - 1]->n < PLACE_CHUNK)
        *it = (struct place_at){.chunk = m->n - 1, .at = m->v[m->n - 1]->n};
    if (it->chunk == m->n) {
        struct place_chunk *fresh = xmalloc(sizeof *fresh);
        fresh->n = 0;
        chunk_insert(m, m->n, fresh);
        *it = (struct place_at){.chunk = m->n - 1};
    }
    struct place_chunk *c = m->v[it->chunk];
    if (c->n == PLACE_CHUNK) {
        struct place_chunk *right = xmalloc(sizeof *right);
        right->n = PLACE_CHUNK / 2;
        c->n = PLACE_CHUNK - right->n;
        memcpy(right->v, c->v + c->n, right->n * sizeof *c->v);
        chunk_insert(m, it->chunk + 1, right);
        if (it->at > c->n) {
            it->at -= c->n;
            it->chunk++;
            c = right;
        }
    }
    memmove(c->v + it->at + 1, c->v + it->at, (c->n - it->at) * sizeof *c->v);
    c->v[it->at] = *p;
    c->n++;
    m->count++;
    count_in(log, p, true);
}

/* Removes n pieces from `it` on; `it` then points to the one behind them. */
static void pieces_remove(struct log *log, struct places *m, struct place_at *it, size_t n)
{
    while (n) {
        struct place_chunk *c = m->v[it->chunk];
        uint32_t step = (uint32_t)min_u64(n, c->n - it->at);
        for (uint32_t i = 0; i < step; i++) count_in(log, &c->v[it->at + i], false);
        memmove(c->v + it->at, c->v + it->at + step, (c->n - it->at - step) * sizeof *c->v);
        c->n -= step;
        m->count -= step;
        n -= step;
        if (c->n == 0)
            chunk_remove(m, it->chunk);
        else if (it->at == c->n)
            it->chunk++;
        else
            continue;
        it->at = 0;
    }
    size_t at = it->chunk;          /* a sparse chunk joins the one before it */
    if (at == 0 || at >= m->n || m->v[at]->n + m->v[at - 1]->n > PLACE_CHUNK / 2) return;
    struct place_chunk *left = m->v[at - 1], *right = m->v[at];
    it->chunk--;
    it->at += left->n;
    memcpy(left->v + left->n, right->v, right->n * sizeof *right->v);
    left->n += right->n;
    chunk_remove(m, at);
}

/* ---- one entry's group of pieces ---- */

/* Where the group begins and how many pieces it has; *live is its sum. */
static size_t group_at(const struct places *m, uint64_t index, struct place_at *it, uint64_t *live)
{
    size_t n = 0;
    *live = 0;
    if (!raft__place_seek(m, index, 0, it)) return 0;
    struct place_at at = *it;
    for (const struct piece *p; (p = raft__place_get(m, &at)) && p->index == index; n++) {
        *live += p->live;
        raft__place_next(m, &at);
    }
    return n;
}

/* Spreads an entry's live count: each piece its length, what is over to the first. */
static void spread(struct piece *v, size_t n, uint64_t live)
{
    for (size_t i = 0; i < n; i++) {
        v[i].live = min_u64(live, v[i].len);
        live -= v[i].live;
    }
    v[0].live += live;
}

/* Puts what is left of piece p outside the ranges of add[] (ascending) into out; returns how many parts. */
static size_t subtract(const struct piece *p, const struct piece *add, size_t nadd, struct piece *out)
{
    size_t n = 0;
    uint32_t from = p->off, end = p->off + p->len;
    for (size_t i = 0; i < nadd && from < end; i++) {
        if (add[i].off + add[i].len <= from) continue;
        if (add[i].off >= end) break;
        if (add[i].off > from) {
            out[n] = *p;
            out[n].off = from;
            out[n].len = add[i].off - from;
            out[n++].pos = p->pos + (from - p->off);
        }
        from = add[i].off + add[i].len;
    }
    if (from < end) {
        out[n] = *p;
        out[n].off = from;
        out[n].len = end - from;
        out[n++].pos = p->pos + (from - p->off);
    }
    return n;
}

/* Joins neighbours that lie next to each other on disk, too. */
static size_t coalesce(struct piece *v, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        struct piece *l = k ? &v[k - 1] : NULL;
        if (l && l->seg == v[i].seg && l->off + l->len == v[i].off && l->pos + l->len == v[i].pos)
            l->len += v[i].len;
        else
            v[k++] = v[i];
    }
    return k;
}

/* Sorted merge of two runs of pieces at v[0..a) and w[0..b) into out. */
static void merge(const struct piece *v, size_t a, const struct piece *w, size_t b, struct piece *out)
{
    size_t i = 0, j = 0;
    while (i < a || j < b) *out++ = j == b || (i < a && v[i].off < w[j].off) ? v[i++] : w[j++];
}

void raft__place_put(struct log *log, struct places *m, uint64_t index, const struct piece *v, size_t n, uint32_t drop)
{
    struct place_at it;
    uint64_t live;
    size_t old = group_at(m, index, &it, &live);
    if (old == 0 && n == 1) {
        struct piece p = v[0];
        p.index = index;
        p.live = 0;
        if (p.len) piece_insert(log, m, &it, &p);
        return;
    }
    size_t most = old + 2 * n + 1, kept = 0;
    struct piece *rest = xmalloc(2 * most * sizeof *rest), *all = rest + most;
    struct place_at at = it;
    for (size_t i = 0; i < old; i++) {
        const struct piece *p = raft__place_get(m, &at);
        if (p->seg != SEG_NONE && p->seg != drop) kept += subtract(p, v, n, rest + kept);
        raft__place_next(m, &at);
    }
    merge(rest, kept, v, n, all);
    size_t total = coalesce(all, kept + n);
    if (total == 0 && live) all[total++] = (struct piece){.seg = SEG_NONE};
    if (total) spread(all, total, live);
    pieces_remove(log, m, &it, old);
    for (size_t i = total; i-- > 0;) {
        all[i].index = index;
        piece_insert(log, m, &it, &all[i]);
    }
    free(rest);
}

void raft__place_drop(struct log *log, struct places *m, uint64_t index)
{
    struct place_at it;
    uint64_t live;
    size_t n = group_at(m, index, &it, &live);
    log->live_total -= m == &log->places ? live : 0;
    if (n) pieces_remove(log, m, &it, n);
}

void raft__place_drop_from(struct log *log, struct places *m, uint64_t from)
{
    struct place_at it;
    while (raft__place_seek(m, from, 0, &it)) {
        struct place_chunk *c = m->v[it.chunk];
        for (uint32_t i = it.at; i < c->n; i++) log->live_total -= m == &log->places ? c->v[i].live : 0;
        pieces_remove(log, m, &it, c->n - it.at);
    }
}

void raft__place_free(struct log *log, struct places *m)
{
    raft__place_drop_from(log, m, 0);
    free(m->v);
    *m = (struct places){0};
}

const struct piece *raft__place_find(const struct places *m, uint64_t index, uint32_t off)
{
    struct place_at it;
    raft__place_seek(m, index, off, &it);
    const struct piece *p = raft__place_get(m, &it);
    if (p && p->index == index && p->off == off && p->len) return p;
    if (it.at > 0)
        it.at--;
    else if (it.chunk > 0)
        it = (struct place_at){.chunk = it.chunk - 1, .at = m->v[it.chunk - 1]->n - 1};
    else
        return NULL;
    p = raft__place_get(m, &it);
    return p->index == index && off < p->off + p->len ? p : NULL;
}

bool raft__place_covers(const struct places *m, uint64_t index, uint32_t off, uint32_t n)
{
    uint64_t end = (uint64_t)off + n;
    while (off < end) {
        const struct piece *p = raft__place_find(m, index, off);
        if (!p) return false;
        off = p->off + p->len;
    }
    return true;
}

/* ---- live counts ---- */

static uint64_t give(struct piece *p, uint64_t n)
{
    uint64_t t = min_u64(n, p->len - share(p));
    p->live += t;
    return t;
}

static uint64_t take(struct piece *p, uint64_t n, uint64_t floor)
{
    uint64_t t = min_u64(n, p->live > floor ? p->live - floor : 0);
    p->live -= t;
    return t;
}

void raft__place_live(struct log *log, struct places *m, uint64_t index, int64_t delta)
{
    struct place_at first, it;
    uint64_t live, n = delta < 0 ? (uint64_t)-delta : (uint64_t)delta;
    size_t group = group_at(m, index, &first, &live);
    if (delta < 0 && n > live) {    /* a reference that was never reported: keep the bytes rather than lose them */
        trace_error(log->trace, "log: entry %llu has %llu live bytes, cannot lose %llu", (unsigned long long)index,
                    (unsigned long long)live, (unsigned long long)n);
        return;
    }
    if (group == 0 && n) {
        struct piece p = {.index = index, .live = n, .seg = SEG_NONE};
        piece_insert(log, m, &first, &p);
        log->live_total += n;
        return;
    }
    log->live_total = delta < 0 ? log->live_total - n : log->live_total + n;
    for (int pass = 0; pass < 2 && n; pass++) {
        it = first;
        for (size_t i = 0; i < group && n; i++, raft__place_next(m, &it)) {
            struct piece *p = raft__place_get(m, &it);
            uint64_t before = share(p);
            if (delta < 0)
                n -= take(p, n, pass == 0 ? p->len : 0);
            else if (pass == 0)
                n -= give(p, n);
            else
                p->live += n, n = 0;
            if (p->seg != SEG_NONE) raft__seg_at(log, p->seg)->live += share(p) - before;
        }
    }
    check(n == 0);
}

uint64_t raft__place_live_of(const struct places *m, uint64_t index)
{
    struct place_at it;
    uint64_t live;
    group_at(m, index, &it, &live);
    return live;
}

void raft__place_zero_live(struct log *log, struct places *m)
{
    for (size_t c = 0; c < m->n; c++)
        for (uint32_t i = 0; i < m->v[c]->n; i++) m->v[c]->v[i].live = 0;
    for (uint32_t i = 0; i < log->nseg; i++)
        if (log->seg[i]) log->seg[i]->live = 0;
    log->live_total = 0;
}

/* ---- for tests ---- */

static const char *check_map(const struct log *log, const struct places *m, uint64_t *npieces, uint64_t *live)
{
    const struct piece *last = NULL;
    uint64_t count = 0;
    for (size_t c = 0; c < m->n; c++) {
        if (m->v[c]->n == 0 || m->v[c]->n > PLACE_CHUNK) return "a chunk is empty or overfull";
        for (uint32_t i = 0; i < m->v[c]->n; i++, count++) {
            const struct piece *p = &m->v[c]->v[i];
            if (last && (key_cmp(last, p->index, p->off) >= 0 || (last->index == p->index && last->off + last->len > p->off)))
                return "pieces are out of order or overlap";
            if ((p->seg == SEG_NONE) != (p->len == 0)) return "an empty piece in a segment";
            if (p->seg != SEG_NONE) {
                npieces[p->seg]++;
                live[p->seg] += share(p);
            }
            last = p;
        }
    }
    return count == m->count ? NULL : "the count of pieces is off";
}

const char *raft__place_invariant(const struct log *log)
{
    uint64_t *npieces = xcalloc(2 * (size_t)log->nseg + 1, sizeof *npieces), *live = npieces + log->nseg;
    const char *bad = check_map(log, &log->places, npieces, live);
    if (!bad) bad = check_map(log, &log->staged, npieces, live);
    for (uint32_t i = 0; i < log->nseg && !bad; i++)
        if (log->seg[i] && (log->seg[i]->npieces != npieces[i] || log->seg[i]->live != live[i]))
            bad = "a segment's counts are off";
    free(npieces);
    return bad;
}
