/* log_page.c - the only coder of segment bytes: pages, batches, records (docs/FORMATS.md).
 *
 * A page is a tag (batch number, kind, first-of-batch), data and a CRC32C seeded with (kind, file number, page number,
 * format): a torn page, one of the file's former life, one that belongs elsewhere and a rotten one all fail the same check.
 * Everything that is read is untrusted: it is validated and answered with QE_CORRUPT. */
#include "raft/log_priv.h"

#define PAGE_MAGIC 0x31475051u      /* "QPG1" */
#define HEAD_MAGIC 0x47455351u      /* "QSEG" */
#define BATCH_MAGIC 0x54414251u     /* "QBAT" */
#define TAG_SEQ ((1ull << 60) - 1)

void raft__pages_reserve(struct pages *b, uint32_t n)
{
    if (n <= b->cap) return;
    uint32_t cap = b->cap ? b->cap : 4;
    while (cap < n) cap *= 2;
    void *raw = xmalloc(((size_t)cap + 1) * PAGE_BYTES);
    uint8_t *p = (uint8_t *)(((uintptr_t)raw + PAGE_BYTES - 1) & ~(uintptr_t)(PAGE_BYTES - 1));
    if (b->n) memcpy(p, b->p, (size_t)b->n * PAGE_BYTES);
    free(b->raw);
    b->raw = raw;
    b->p = p;
    b->cap = cap;
}

void raft__pages_free(struct pages *b)
{
    free(b->raw);
    *b = (struct pages){0};
}

static uint32_t page_crc(const uint8_t *page, enum page_kind kind, uint64_t file, uint32_t page_no)
{
    uint8_t seed[24];
    store_u32(seed, PAGE_MAGIC);
    store_u32(seed + 4, LOG_FORMAT);
    store_u32(seed + 8, (uint32_t)kind);
    store_u32(seed + 12, page_no);
    store_u64(seed + 16, file);
    return crc32c(crc32c(0, seed, sizeof seed), page, PAGE_BYTES - 4);
}

void raft__page_seal(uint8_t *page, struct page_tag tag, uint64_t file, uint32_t page_no, uint32_t used)
{
    check(used <= PAGE_DATA && tag.seq <= TAG_SEQ);
    store_u64(page, tag.seq | (uint64_t)tag.kind << 60 | (uint64_t)tag.head << 63);
    memset(page + 8 + used, 0, PAGE_DATA - used);
    store_u32(page + PAGE_BYTES - 4, page_crc(page, tag.kind, file, page_no));
}

bool raft__page_check(const uint8_t *page, enum page_kind kind, uint64_t file, uint32_t page_no, struct page_tag *tag)
{
    uint64_t t = load_u64(page);
    *tag = (struct page_tag){.seq = t & TAG_SEQ, .kind = (enum page_kind)(t >> 60 & 7), .head = t >> 63};
    if (tag->kind != kind || tag->seq >= NUMBER_MAX) return false;
    return load_u32(page + PAGE_BYTES - 4) == page_crc(page, kind, file, page_no);
}

void raft__stream_put(uint8_t *pages, uint64_t pos, const void *from, size_t n)
{
    const uint8_t *f = from;
    while (n) {
        size_t at = pos % PAGE_DATA, step = min_u64(n, PAGE_DATA - at);
        memcpy(pages + pos / PAGE_DATA * PAGE_BYTES + 8 + at, f, step);
        f += step;
        pos += step;
        n -= step;
    }
}

void raft__stream_get(const uint8_t *pages, uint64_t pos, void *to, size_t n)
{
    uint8_t *t = to;
    while (n) {
        size_t at = pos % PAGE_DATA, step = min_u64(n, PAGE_DATA - at);
        memcpy(t, pages + pos / PAGE_DATA * PAGE_BYTES + 8 + at, step);
        t += step;
        pos += step;
        n -= step;
    }
}

/* ---- segment header: page 0 ---- */

void raft__seg_head_put(uint8_t *page, const struct seg_head *h)
{
    uint8_t *d = page + 8;
    store_u32(d, HEAD_MAGIC);
    store_u16(d + 4, LOG_FORMAT);
    store_u16(d + 6, 0);            /* group */
    store_u64(d + 8, h->cluster);
    store_u64(d + 16, h->node);
    store_u64(d + 24, h->number);
    store_u32(d + 32, (uint32_t)h->kind);
    store_u32(d + 36, h->pages);
    store_u64(d + 40, h->first_seq);
    store_u64(d + 48, h->prev_seg);
    store_u64(d + 56, h->hint);
    raft__page_seal(page, (struct page_tag){.kind = h->kind, .head = true}, h->number, 0, 64);
}

int raft__seg_head_get(const uint8_t *page, enum page_kind kind, uint64_t number, struct seg_head *h)
{
    struct page_tag tag;
    const uint8_t *d = page + 8;
    if (!raft__page_check(page, kind, number, 0, &tag)) return QE_CORRUPT;
    if (load_u32(d) != HEAD_MAGIC || load_u64(d + 24) != number || load_u32(d + 32) != (uint32_t)kind) return QE_CORRUPT;
    if (load_u16(d + 4) != LOG_FORMAT) return QE_VERSION;
    *h = (struct seg_head){.cluster = load_u64(d + 8), .node = load_u64(d + 16), .number = number, .kind = kind,
                           .pages = load_u32(d + 36), .first_seq = load_u64(d + 40), .prev_seg = load_u64(d + 48),
                           .hint = load_u64(d + 56)};
    return h->first_seq < NUMBER_MAX && h->prev_seg < NUMBER_MAX ? 0 : QE_CORRUPT;
}

/* ---- batches ---- */

static uint8_t *batch_pages(const struct batch *b) { return b->mem.p + (b->lead ? PAGE_BYTES : 0); }

static void batch_room(struct batch *b, uint64_t bytes)
{
    uint32_t n = raft__stream_pages(bytes) + (b->lead ? 1 : 0);
    raft__pages_reserve(&b->mem, n);
    b->mem.n = n;
}

void raft__batch_begin(struct batch *b, bool lead)
{
    b->mem.n = 0;
    b->lead = lead;
    b->bytes = BATCH_HEAD;
    b->records = 0;
    batch_room(b, BATCH_HEAD);
}

uint32_t raft__batch_add(struct batch *b, const struct record *r, const void *bytes)
{
    uint8_t head[RECORD_HEAD] = {0};
    check((uint64_t)r->off + r->len <= r->total || r->kind == KIND_PIECE);
    batch_room(b, (uint64_t)b->bytes + RECORD_HEAD + r->len);
    store_u16(head + 4, 0);         /* group */
    head[6] = r->kind;
    store_u64(head + 8, r->index);
    store_u64(head + 16, r->term);
    store_u32(head + 24, r->len);
    store_u32(head + 28, r->off);
    store_u32(head + 32, r->total);
    store_u32(head, crc32c(0, head + 4, RECORD_HEAD - 4));
    raft__stream_put(batch_pages(b), b->bytes, head, RECORD_HEAD);
    uint32_t pos = b->bytes + RECORD_HEAD;
    raft__stream_put(batch_pages(b), pos, bytes, r->len);
    b->bytes = pos + r->len;
    b->records++;
    return pos;
}

void raft__batch_seal(struct batch *b, enum page_kind kind, uint64_t number, uint32_t first, struct batch_head *h)
{
    uint8_t head[BATCH_HEAD] = {0};
    h->npages = raft__stream_pages(b->bytes);
    h->bytes = b->bytes;
    h->records = b->records;
    store_u32(head, BATCH_MAGIC);
    store_u32(head + 4, h->npages);
    store_u32(head + 8, h->bytes);
    store_u32(head + 12, h->records);
    store_u64(head + 16, h->base_index);
    store_u64(head + 24, h->base_term);
    store_u64(head + 32, h->prev_seg);
    store_u64(head + 40, h->committed);
    raft__stream_put(batch_pages(b), 0, head, BATCH_HEAD);
    for (uint32_t i = 0; i < h->npages; i++) {
        uint32_t used = i + 1 < h->npages ? PAGE_DATA : h->bytes - i * PAGE_DATA;
        struct page_tag tag = {.seq = h->seq, .kind = kind, .head = i == 0};
        raft__page_seal(batch_pages(b) + (size_t)i * PAGE_BYTES, tag, number, first + i, used);
    }
}

uint64_t raft__batch_prev_seg(const uint8_t *page)
{
    return load_u32(page + 8) == BATCH_MAGIC ? load_u64(page + 8 + 32) : UINT64_MAX;
}

int raft__batch_get(const uint8_t *seg, uint32_t npages, enum page_kind kind, uint64_t number, uint32_t at,
                    struct batch_head *h)
{
    struct page_tag tag;
    const uint8_t *page = seg + (size_t)at * PAGE_BYTES;
    check(at < npages);
    if (!raft__page_check(page, kind, number, at, &tag) || !tag.head) return QE_CORRUPT;
    const uint8_t *d = page + 8;
    if (load_u32(d) != BATCH_MAGIC) return QE_CORRUPT;
    *h = (struct batch_head){.seq = tag.seq, .npages = load_u32(d + 4), .bytes = load_u32(d + 8), .records = load_u32(d + 12),
                             .base_index = load_u64(d + 16), .base_term = load_u64(d + 24), .prev_seg = load_u64(d + 32),
                             .committed = load_u64(d + 40)};
    if (h->committed >= NUMBER_MAX) return QE_CORRUPT;
    if (h->npages == 0 || h->npages > npages - at || h->base_index >= NUMBER_MAX) return QE_CORRUPT;
    if (h->bytes < BATCH_HEAD || raft__stream_pages(h->bytes) != h->npages) return QE_CORRUPT;
    for (uint32_t i = 1; i < h->npages; i++) {
        page += PAGE_BYTES;
        if (!raft__page_check(page, kind, number, at + i, &tag) || tag.head || tag.seq != h->seq) return QE_CORRUPT;
    }
    return 0;
}

int raft__record_get(const uint8_t *batch, const struct batch_head *h, uint32_t *pos, struct record *r, uint32_t *data_pos)
{
    uint8_t head[RECORD_HEAD];
    if (h->bytes - *pos < RECORD_HEAD) return QE_CORRUPT;
    raft__stream_get(batch, *pos, head, RECORD_HEAD);
    if (load_u32(head) != crc32c(0, head + 4, RECORD_HEAD - 4)) return QE_CORRUPT;
    *r = (struct record){.kind = head[6], .index = load_u64(head + 8), .term = load_u64(head + 16), .len = load_u32(head + 24),
                         .off = load_u32(head + 28), .total = load_u32(head + 32)};
    *data_pos = *pos + RECORD_HEAD;
    if (r->index >= NUMBER_MAX || r->term >= NUMBER_MAX) return QE_CORRUPT;
    if (r->len > h->bytes - *data_pos || r->total > LOG_ENTRY_MAX || r->off > r->total || r->len > r->total - r->off)
        return QE_CORRUPT;
    *pos = *data_pos + r->len;
    return 0;
}
