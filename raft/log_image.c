/* log_image.c - checkpoints on disk: opening, loading, reading single blocks, and letting old ones go.
 *
 * A checkpoint is a file of checked pages: a header, a stream (the blocks, each with its length and CRC32C; the local section,
 * which tells where live payload lies on this node; the index of blocks) and a footer in the last page. It came to its name
 * by a rename after it was whole and durable, so a bad page in it is damage. */
#include <stdio.h>

#include "raft/log_priv.h"

#define FOOT_BYTES 120u
#define PIECE_BYTES 28u
#define LOAD_PAGES 256u

void raft__image_name(char *out, uint64_t index) { snprintf(out, DISK_NAME_MAX, "ckpt-%016llx", (unsigned long long)index); }

void raft__image_free(struct image *im)
{
    if (!im) return;
    free(im->blocks);
    free(im);
}

void raft__image_maybe_remove(struct log *log, struct image *im)
{
    char name[DISK_NAME_MAX];
    if (im == raft__image_newest(log) || im->holds || im->readers || log->failed) return;
    raft__image_name(name, im->index);
    raft__remove_file(log, name);
    list_remove(&im->link);
    raft__image_free(im);
}

void log_ckpt_hold(struct log *log, uint64_t index, bool on)
{
    list_for_each(l, &log->images) {
        struct image *im = container_of(l, struct image, link);
        if (im->index != index) continue;
        check(on || im->holds > 0);
        im->holds = on ? im->holds + 1 : im->holds - 1;
        raft__image_maybe_remove(log, im);
        return;
    }
}

bool log_ckpt_newest(const struct log *log, uint64_t *index, uint64_t *term, uint32_t *blocks)
{
    const struct image *im = raft__image_newest(log);
    if (!im) return false;
    *index = im->index;
    *term = im->term;
    *blocks = im->nblocks;
    return true;
}

/* ---- footer ---- */

void raft__image_foot_put(uint8_t *page, const struct image *im, uint64_t node)
{
    uint8_t *d = page + 8;
    store_u32(d, CKPT_FOOT_MAGIC);
    store_u16(d + 4, LOG_FORMAT);
    store_u16(d + 6, 0);            /* group */
    store_u64(d + 8, im->cluster);
    store_u64(d + 16, node);
    store_u64(d + 24, im->index);
    store_u64(d + 32, im->term);
    store_u32(d + 40, im->nblocks);
    store_u32(d + 44, im->reset);
    store_u64(d + 48, im->table_pos);
    store_u64(d + 56, im->local_pos);
    store_u64(d + 64, im->local_len);
    store_u64(d + 72, im->scan_seg);
    store_u64(d + 80, im->next_seg);
    store_u64(d + 88, im->dur_seg);
    store_u64(d + 96, im->dur_seq);
    store_u64(d + 104, im->pages);
    store_u64(d + 112, im->payload_bytes);
    raft__page_seal(page, (struct page_tag){.kind = PAGE_CKPT, .head = true}, im->index, (uint32_t)(im->pages - 1), FOOT_BYTES);
}

static int foot_get(const uint8_t *page, uint64_t index, uint64_t pages, struct image *im)
{
    struct page_tag tag;
    const uint8_t *d = page + 8;
    if (!raft__page_check(page, PAGE_CKPT, index, (uint32_t)(pages - 1), &tag) || load_u32(d) != CKPT_FOOT_MAGIC) return QE_CORRUPT;
    if (load_u16(d + 4) != LOG_FORMAT) return QE_VERSION;
    *im = (struct image){.cluster = load_u64(d + 8), .index = load_u64(d + 24), .term = load_u64(d + 32), .nblocks = load_u32(d + 40),
                         .reset = load_u32(d + 44) != 0, .table_pos = load_u64(d + 48), .local_pos = load_u64(d + 56),
                         .local_len = load_u64(d + 64), .scan_seg = load_u64(d + 72), .next_seg = load_u64(d + 80),
                         .dur_seg = load_u64(d + 88), .dur_seq = load_u64(d + 96), .pages = load_u64(d + 104),
                         .payload_bytes = load_u64(d + 112)};
    uint64_t end = (pages - 1) * PAGE_DATA;
    bool sane = im->index == index && im->pages == pages && im->local_pos >= PAGE_DATA && im->local_pos <= end &&
                im->local_len <= end - im->local_pos && im->table_pos == im->local_pos + im->local_len &&
                im->nblocks <= (end - im->table_pos) / 12;
    uint64_t most = max_u64(max_u64(im->index, im->term), max_u64(im->next_seg, im->dur_seq));
    bool ordered = im->scan_seg <= im->next_seg && im->dur_seg <= im->next_seg;
    return sane && ordered && most < NUMBER_MAX ? 0 : QE_CORRUPT;
}

/* ---- blocking reads, for recovery ---- */

static int load_pages(struct log *log, uint64_t index, uint64_t page0, uint32_t n)
{
    char name[DISK_NAME_MAX];
    raft__image_name(name, index);
    raft__pages_reserve(&log->scratch, LOAD_PAGES);
    int64_t got = disk_load(log->disk, name, page0 * PAGE_BYTES, log->scratch.p, (size_t)n * PAGE_BYTES);
    if (got < 0 && got != -EIO) return (int)got;
    if (got != (int64_t)n * PAGE_BYTES) return QE_CORRUPT;
    for (uint32_t i = 0; i < n; i++) {
        struct page_tag tag;
        if (!raft__page_check(log->scratch.p + (size_t)i * PAGE_BYTES, PAGE_CKPT, index, (uint32_t)page0 + i, &tag)) return QE_CORRUPT;
    }
    return 0;
}

static int load_stream(struct log *log, uint64_t index, uint64_t pos, uint8_t *to, size_t n)
{
    while (n) {
        uint64_t page0 = pos / PAGE_DATA;
        uint32_t pages = (uint32_t)min_u64(raft__stream_pages(pos + n) - page0, LOAD_PAGES);
        int err = load_pages(log, index, page0, pages);
        if (err) return err;
        size_t step = min_u64(n, (page0 + pages) * PAGE_DATA - pos);
        raft__stream_get(log->scratch.p, pos - page0 * PAGE_DATA, to, step);
        to += step;
        pos += step;
        n -= step;
    }
    return 0;
}

static int load_table(struct log *log, struct image *im)
{
    size_t n = (size_t)im->nblocks * 12;
    uint8_t *raw = xmalloc(n + 1);
    int err = load_stream(log, im->index, im->table_pos, raw, n);
    im->blocks = xcalloc(im->nblocks + 1u, sizeof *im->blocks);
    for (uint32_t i = 0; i < im->nblocks && !err; i++) {
        im->blocks[i] = (struct image_block){load_u64(raw + (size_t)i * 12), load_u32(raw + (size_t)i * 12 + 8)};
        if (im->blocks[i].len > LOG_BLOCK_MAX || im->blocks[i].pos < PAGE_DATA || im->blocks[i].pos > im->local_pos ||
            im->blocks[i].len + 8 > im->local_pos - im->blocks[i].pos)
            err = QE_CORRUPT;
    }
    free(raw);
    return err;
}

int raft__image_open(struct log *log, uint64_t index, uint64_t size, struct image **out)
{
    uint64_t pages = size / PAGE_BYTES;
    if (pages < 2 || size % PAGE_BYTES || pages > UINT32_MAX) return QE_CORRUPT;
    int err = load_pages(log, index, pages - 1, 1);
    if (err) return err;
    struct image *im = xcalloc(1, sizeof *im);
    err = foot_get(log->scratch.p, index, pages, im);
    list_init(&im->link);
    if (!err) err = load_table(log, im);
    if (err)
        raft__image_free(im);
    else
        *out = im;
    return err;
}

int raft__image_verify(struct log *log, const struct image *im)
{
    for (uint64_t at = 0; at < im->pages; at += LOAD_PAGES) {
        int err = load_pages(log, im->index, at, (uint32_t)min_u64(LOAD_PAGES, im->pages - at));
        if (err) return err;
    }
    return 0;
}

int raft__image_local(struct log *log, const struct image *im, const struct image_local *cb)
{
    enum { ROOM = PIECE_BYTES * 2048 };
    uint8_t *buf = xmalloc(ROOM), count[4];
    uint64_t pos = im->local_pos + 4, end = im->local_pos + im->local_len;
    int err = im->local_len < 4 ? QE_CORRUPT : load_stream(log, im->index, im->local_pos, count, 4);
    uint32_t n = err ? 0 : load_u32(count);
    if (!err && n > (im->local_len - 4) / 12) err = QE_CORRUPT;
    for (uint32_t i = 0; i < n && !err; i++, pos += 12) {
        err = load_stream(log, im->index, pos, buf, 12);
        if (!err) cb->covered(cb->arg, load_u64(buf), load_u32(buf + 8));
    }
    if (!err && (end - pos) % PIECE_BYTES) err = QE_CORRUPT;
    while (pos < end && !err) {
        size_t step = min_u64(end - pos, ROOM);
        err = load_stream(log, im->index, pos, buf, step);
        for (size_t at = 0; at < step && !err; at += PIECE_BYTES) {
            struct piece p = {.index = load_u64(buf + at), .off = load_u32(buf + at + 16), .len = load_u32(buf + at + 20),
                              .pos = load_u32(buf + at + 24)};
            cb->piece(cb->arg, load_u64(buf + at + 8), &p);
        }
        pos += step;
    }
    free(buf);
    return err;
}

void raft__image_piece_put(uint8_t *to, const struct piece *p, uint64_t seg)
{
    store_u64(to, p->index);
    store_u64(to + 8, seg);
    store_u32(to + 16, p->off);
    store_u32(to + 20, p->len);
    store_u32(to + 24, p->pos);
}

int log_ckpt_load(struct log *log, int (*each)(void *arg, struct slice block), void *arg)
{
    const struct image *im = raft__image_newest(log);
    if (!im) return 0;
    uint8_t *buf = xmalloc(LOG_BLOCK_MAX + 8);
    int err = 0;
    for (uint32_t i = 0; i < im->nblocks && !err; i++) {
        const struct image_block *b = &im->blocks[i];
        err = load_stream(log, im->index, b->pos, buf, b->len + 8);
        if (!err && (load_u32(buf) != b->len || load_u32(buf + 4) != crc32c(0, buf + 8, b->len))) err = QE_CORRUPT;
        if (!err) err = each(arg, slice_of(buf + 8, b->len));
    }
    free(buf);
    return err;
}

/* ---- one block, for sending ---- */

struct block_read {
    struct disk_io io;
    struct list link;
    struct log *log;
    struct image *im;                   /* NULL: gone */
    struct log_ckpt_read *user;
    struct pages mem;
    uint64_t page0;
    int err;
};

void raft__image_reads_drop(struct log *log)
{
    for (struct list *l; (l = list_pop_front(&log->block_reads));) {
        struct block_read *br = container_of(l, struct block_read, link);
        raft__pages_free(&br->mem);
        free(br);
    }
}

static void block_answer(struct block_read *br, struct slice block)
{
    struct log_ckpt_read *user = br->user;
    int err = br->err;
    list_remove(&br->link);
    if (br->im) {
        br->im->readers--;
        raft__image_maybe_remove(br->log, br->im);
    }
    user->done(user, err, block);
    raft__pages_free(&br->mem);
    free(br);
}

static void block_late(struct job *j)
{
    struct block_read *br = j->user;
    raft__job_free(j);
    block_answer(br, slice_of(NULL, 0));
}

static void block_got(struct disk_io *io, int64_t result)
{
    struct block_read *br = container_of(io, struct block_read, io);
    struct buf block = {0};
    if (raft__submitted(br->log)) return;
    const struct image_block *b = &br->im->blocks[br->user->block];
    if (result != (int64_t)io->n) br->err = QE_CORRUPT;
    for (uint32_t i = 0; i < io->n / PAGE_BYTES && !br->err; i++) {
        struct page_tag tag;
        if (!raft__page_check(br->mem.p + (size_t)i * PAGE_BYTES, PAGE_CKPT, br->im->index, (uint32_t)br->page0 + i, &tag))
            br->err = QE_CORRUPT;
    }
    if (!br->err) {
        uint8_t *p = buf_extend(&block, b->len + 8);
        raft__stream_get(br->mem.p, b->pos - br->page0 * PAGE_DATA, p, b->len + 8);
        if (load_u32(p) != b->len || load_u32(p + 4) != crc32c(0, p + 8, b->len)) br->err = QE_CORRUPT;
    }
    block_answer(br, br->err ? slice_of(NULL, 0) : slice_sub(buf_slice(&block), 8, b->len));
    buf_free(&block);
}

void log_ckpt_read(struct log *log, struct log_ckpt_read *r)
{
    struct block_read *br = xcalloc(1, sizeof *br);
    br->log = log;
    br->user = r;
    list_push_back(&log->block_reads, &br->link);
    list_for_each(l, &log->images) {
        struct image *im = container_of(l, struct image, link);
        if (im->index == r->index && !br->im) br->im = im;
    }
    if (!br->im || r->block >= br->im->nblocks) {
        br->im = NULL;
        br->err = QE_GONE;
        raft__job_start(raft__job_new(log, block_late, br));
        return;
    }
    const struct image_block *b = &br->im->blocks[r->block];
    br->im->readers++;
    br->page0 = b->pos / PAGE_DATA;
    uint32_t n = (uint32_t)(raft__stream_pages(b->pos + b->len + 8) - br->page0);
    raft__pages_reserve(&br->mem, n);
    br->io = (struct disk_io){.op = DISK_READ, .lane = DISK_LANE_READ, .off = br->page0 * PAGE_BYTES, .p = br->mem.p,
                              .n = n * PAGE_BYTES, .done = block_got};
    raft__image_name(br->io.name, br->im->index);
    raft__submit(log, &br->io);
}
