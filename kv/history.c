/* history.c - the ring of events (history.h has the rules).
 *
 * An event: u64 revision, u32 position, u8 type, text16 key; of a put also u64 ino, u64 version, u64 size. */
#include "kv/history.h"

#include <stdlib.h>

/* ---- one event ---- */

bool kv_event_next(struct reader *r, struct kv_event *out)
{
    if (r->bad || reader_left(r) == 0) return false;
    *out = (struct kv_event){.revision = get_u64(r)};
    out->position = get_u32(r);
    out->type = (enum kv_event_type)get_u8(r);
    out->key = get_slice16(r);
    if (out->type == KV_EVENT_PUT) {
        out->ino = get_u64(r);
        out->version = get_u64(r);
        out->size = get_u64(r);
    } else if (out->type != KV_EVENT_DELETE) {
        r->bad = true;
    }
    return !r->bad;
}

void kv__history_add(struct kv__history *h, enum kv_event_type type, struct slice key, const struct fs_attr *attr)
{
    struct buf *b = &h->entry;
    if (h->cut) return;
    put_u64(b, h->open);
    put_u32(b, h->nentry++);
    put_u8(b, (uint8_t)type);
    put_slice16(b, key);
    if (type != KV_EVENT_PUT) return;
    put_u64(b, attr->ino);
    put_u64(b, attr->version);
    put_u64(b, attr->size);
}

/* ---- life ---- */

void kv__history_init(struct kv__history *h) { *h = (struct kv__history){.chunks_max = KV_CHUNKS_MAX}; }

static void drop_first(struct kv__history *h)
{
    struct kv__chunk **at = &h->ring[h->first++ % KV_CHUNKS_MAX];
    h->begin = (*at)->last;
    free(*at);
    *at = NULL;
}

void kv__history_restart(struct kv__history *h, uint64_t revision)
{
    while (h->first < h->next) drop_first(h);
    h->begin = h->end = revision;
}

void kv__history_free(struct kv__history *h)
{
    kv__history_restart(h, 0);
    buf_free(&h->entry);
}

/* ---- an entry ---- */

void kv__history_open(struct kv__history *h, uint64_t revision)
{
    h->open = revision;
    h->nentry = 0;
    h->cut = false;
    buf_clear(&h->entry);
}

void kv__history_cut(struct kv__history *h) { h->cut = true; }

struct kv__history_mark kv__history_mark(const struct kv__history *h)
{
    return (struct kv__history_mark){h->entry.n, h->nentry, h->cut};
}

void kv__history_undo(struct kv__history *h, struct kv__history_mark mark)
{
    h->entry.n = mark.bytes;
    h->nentry = mark.n;
    h->cut = mark.cut;
}

static struct kv__chunk *chunk_with_room(struct kv__history *h, size_t n)
{
    if (h->first < h->next) {
        struct kv__chunk *last = h->ring[(h->next - 1) % KV_CHUNKS_MAX];
        if (last->n + n <= KV_CHUNK_BYTES) return last;
    }
    if (h->next - h->first == h->chunks_max) drop_first(h);
    struct kv__chunk *c = xmalloc(sizeof *c);
    c->n = 0;
    h->ring[h->next++ % KV_CHUNKS_MAX] = c;
    return c;
}

void kv__history_close(struct kv__history *h)
{
    struct reader r = reader_of(buf_slice(&h->entry));
    struct kv_event ev;
    if (h->cut) {
        kv__history_restart(h, h->open);
        return;
    }
    for (const uint8_t *from = r.p; kv_event_next(&r, &ev); from = r.p) {
        size_t n = (size_t)(r.p - from);
        struct kv__chunk *c = chunk_with_room(h, n);
        memcpy(c->p + c->n, from, n);
        c->n += (uint32_t)n;
        c->last = h->open;
    }
    check(!r.bad);
    h->end = h->open;
    if (h->entry.cap > 4 * KV_CHUNK_BYTES) buf_free(&h->entry);
}

/* ---- reading ---- */

int kv__history_next(const struct kv__history *h, struct kv__cursor *c, struct kv_event *ev, struct slice *raw)
{
    if (c->chunk < h->first) return QE_GONE;
    if (c->chunk == h->next) return 0;
    const struct kv__chunk *chunk = h->ring[c->chunk % KV_CHUNKS_MAX];
    if (c->at == chunk->n) {
        if (c->chunk + 1 == h->next) return 0;
        c->chunk++;
        c->at = 0;
        chunk = h->ring[c->chunk % KV_CHUNKS_MAX];
    }
    struct reader r = reader_of(slice_of(chunk->p + c->at, chunk->n - c->at));
    check(kv_event_next(&r, ev));
    *raw = slice_of(chunk->p + c->at, (size_t)(r.p - (chunk->p + c->at)));
    c->at += (uint32_t)raw->n;
    return 1;
}

int kv__history_seek(const struct kv__history *h, uint64_t revision, uint32_t position, struct kv__cursor *c)
{
    struct kv_event ev;
    struct slice raw;
    if (revision <= h->begin) return QE_GONE;
    *c = (struct kv__cursor){.chunk = h->first};
    while (c->chunk + 1 < h->next && h->ring[c->chunk % KV_CHUNKS_MAX]->last < revision) c->chunk++;
    for (;;) {
        struct kv__cursor before = *c;
        if (kv__history_next(h, c, &ev, &raw) <= 0) return 0;
        if (ev.revision < revision || (ev.revision == revision && ev.position < position)) continue;
        *c = before;
        return 0;
    }
}
