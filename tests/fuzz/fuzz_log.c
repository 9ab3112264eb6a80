/* fuzz_log.c - opening a data directory whose files hold anything: segments, checkpoints, meta, spares; pages with
 * right checksums and arbitrary contents, wrong ones, unreadable ones. It opens or is refused with a reason. What opens
 * is lived in for a while: entries and payload are read, new entries appended, a checkpoint written, the state's
 * references reported, compaction runs; then the power fails, and the second opening finds everything that was reported
 * durable, undamaged.
 *
 * The script: the log's options, then files (kind, number, pages), each page as its first bytes, the rest zero. A
 * sealed page gets its checksum, with those of the records and checkpoint blocks in it. */
#include <stdio.h>

#include "raft/log_priv.h"
#include "tests/fuzz/fuzz.h"
#include "tests/sim/disk.h"
#include "tests/unit/kv/fake.h"

#define FILES_MAX 16u
#define PAGES_MAX 24u

enum { FILE_META, FILE_SEG, FILE_PAY, FILE_FREE, FILE_CKPT, FILE_END, FILE_KINDS };
enum { PAGE_ZERO, PAGE_SEALED, PAGE_RAW, PAGE_BAD, PAGE_MODES };

struct play {
    struct fake f;
    struct sim_disk *disk;
    struct log *log;
    struct log_config cfg;
    struct log_recovered rec;
    struct reader r;
    int failed;
    uint64_t durable, durable_term, live_from;
    unsigned pending; /* reads, fetches, stores under way */
    bool ckpt_done;
    int ckpt_err;
};

/* ---- files out of the script ---- */

static void on_made(struct disk_io *io, int64_t result) { check(result >= 0); }

static void write_file(struct play *y, const char *name, uint8_t *pages, uint32_t n)
{
    struct disk *door = sim_disk_door(y->disk);
    struct disk_io io[2] = {{.op = DISK_ALLOC, .off = n * PAGE_BYTES, .done = on_made},
                            {.op = DISK_WRITE, .durable = true, .p = pages, .n = n * PAGE_BYTES, .done = on_made}};
    for (unsigned i = 0; i < 2; i++) {
        snprintf(io[i].name, sizeof io[i].name, "%s", name);
        disk_submit(door, &io[i]);
        while (sim_disk_pending(y->disk)) check(fake_step(&y->f));
    }
}

/* The checksums of a batch's records, as far as they lie in these pages. */
static void fix_records(uint8_t *pages, uint32_t at, uint32_t npages)
{
    uint8_t *batch = pages + (size_t)at * PAGE_BYTES, head[RECORD_HEAD];
    uint64_t end = (uint64_t)(npages - at) * PAGE_DATA, pos = BATCH_HEAD;
    for (unsigned i = 0; i < 500 && pos + RECORD_HEAD <= end; i++) {
        raft__stream_get(batch, pos, head, RECORD_HEAD);
        if (load_u64(head + 8) == 0) return;
        store_u32(head, crc32c(0, head + 4, RECORD_HEAD - 4));
        raft__stream_put(batch, pos, head, 4);
        pos += RECORD_HEAD + (uint64_t)load_u32(head + 24);
    }
}

/* Those of a checkpoint's blocks, as its footer and index tell. */
static void fix_blocks(uint8_t *pages, uint32_t npages)
{
    const uint8_t *foot = pages + (size_t)(npages - 1) * PAGE_BYTES + 8;
    uint64_t table = load_u64(foot + 48), end = (uint64_t)npages * PAGE_DATA;
    uint32_t n = load_u32(foot + 40);
    for (uint32_t i = 0; i < n && i < 100 && table < end && table + 12ull * (i + 1) <= end; i++) {
        uint8_t row[12], head[8];
        raft__stream_get(pages, table + 12ull * i, row, 12);
        uint64_t pos = load_u64(row), len = load_u32(row + 8);
        if (pos >= end || len + 8 > end - pos) continue;
        uint8_t *bytes = xmalloc(len + 1);
        raft__stream_get(pages, pos + 8, bytes, len);
        store_u32(head, (uint32_t)len);
        store_u32(head + 4, crc32c(0, bytes, len));
        raft__stream_put(pages, pos, head, 8);
        free(bytes);
    }
}

static void seal_page(uint8_t *p, unsigned kind, uint64_t no, uint32_t at)
{
    static const enum page_kind kinds[] = {
        [FILE_SEG] = PAGE_LOG, [FILE_PAY] = PAGE_PAYLOAD, [FILE_FREE] = PAGE_LOG, [FILE_CKPT] = PAGE_CKPT};
    if (kind == FILE_META) {
        store_u32(p + 508, crc32c(0, p, 508));
        return;
    }
    uint64_t t = load_u64(p);
    struct page_tag tag = {.seq = t & ((1ull << 60) - 1), .kind = kinds[kind], .head = t >> 63};
    raft__page_seal(p, tag, no, at, PAGE_DATA);
}

static void file_name(char *out, unsigned kind, uint64_t no)
{
    if (kind == FILE_META)
        snprintf(out, DISK_NAME_MAX, META_NAME);
    else if (kind == FILE_CKPT)
        raft__image_name(out, no);
    else
        raft__seg_name(out, kind == FILE_SEG ? PAGE_LOG : kind == FILE_PAY ? PAGE_PAYLOAD : 0, no);
}

static bool make_file(struct play *y)
{
    unsigned kind = get_u8(&y->r) % FILE_KINDS;
    if (kind == FILE_END || y->r.bad) return false;
    uint64_t no = fuzz_number(&y->r);
    uint32_t n = 1 + get_u8(&y->r) % PAGES_MAX;
    uint8_t mode[PAGES_MAX];
    struct pages mem = {0};
    char name[DISK_NAME_MAX];
    file_name(name, kind, no);
    raft__pages_reserve(&mem, n);
    memset(mem.p, 0, (size_t)n * PAGE_BYTES);
    for (uint32_t i = 0; i < n; i++) {
        mode[i] = get_u8(&y->r) % PAGE_MODES;
        if (mode[i] == PAGE_ZERO) continue;
        struct slice s = fuzz_many(&y->r);
        if (s.n) memcpy(mem.p + (size_t)i * PAGE_BYTES, s.p, min_u64(s.n, PAGE_BYTES));
    }
    if (kind == FILE_CKPT) fix_blocks(mem.p, n);
    for (uint32_t i = 0; kind != FILE_CKPT && kind != FILE_META && i < n; i++)
        if (mode[i] == PAGE_SEALED && raft__batch_prev_seg(mem.p + (size_t)i * PAGE_BYTES) != UINT64_MAX)
            fix_records(mem.p, i, n);
    for (uint32_t i = 0; i < n; i++)
        if (mode[i] == PAGE_SEALED) seal_page(mem.p + (size_t)i * PAGE_BYTES, kind, no, i);
    write_file(y, name, mem.p, n);
    for (uint32_t i = 0; i < n; i++)
        if (mode[i] == PAGE_BAD) sim_disk_unreadable(y->disk, name, i);
    raft__pages_free(&mem);
    return true;
}

/* ---- living in it ---- */

static void on_persisted(void *arg, uint64_t index, uint64_t term)
{
    struct play *y = arg;
    check(index >= y->durable && index <= log_last(y->log));
    y->durable = index;
    y->durable_term = term;
}

static void on_line(void *arg, enum trace_level level, const char *text) { fprintf(stderr, "  %s\n", text); }
static const struct trace tracer = {TRACE_DEBUG, on_line, NULL};

static void on_hard(void *arg, const struct raft_hard *hard) {}
static void on_failed(void *arg, int err, const char *what) { ((struct play *)arg)->failed = err; }
static void on_trimmed(void *arg, uint64_t first) {}

/* The state refers to the first half of each entry's bytes. */
static void on_ranges(void *arg, uint64_t index, void (*emit)(void *ctx, uint32_t off, uint32_t len), void *ctx)
{
    emit(ctx, 0, 100);
}

static void on_read(struct log_read *r, int err) { ((struct play *)r->arg)->pending--; }
static void on_fetch(struct log_fetch *f, int err) { ((struct play *)f->arg)->pending--; }
static void on_store(struct log_store *s, int err) { ((struct play *)s->arg)->pending--; }

static void wait(struct play *y)
{
    for (unsigned i = 0; (y->pending || !log_idle(y->log)) && !y->failed; i++) {
        check(i < 100000);
        if (!fake_step(&y->f)) break;
    }
    check(y->failed || !y->pending);
}

static int ignore_block(void *arg, struct slice block)
{
    check(block.n <= LOG_BLOCK_MAX);
    return 0;
}

static void read_all(struct play *y)
{
    uint8_t bytes[300];
    uint64_t first = log_first(y->log), last = log_last(y->log);
    for (uint64_t i = first; i <= last && i < first + 8; i++) {
        struct log_entry e;
        struct log_fetch fetch = {.first = i, .last = i, .done = on_fetch, .arg = y};
        y->pending++;
        log_fetch(y->log, &fetch);
        wait(y);
        if (log_cached(y->log, i, &e)) check(!e.data || e.data->n <= LOG_ENTRY_MAX);
    }
    struct place_at it = {0};
    for (unsigned n = 0; n < 8 && raft__place_get(&y->log->places, &it); n++, raft__place_next(&y->log->places, &it)) {
        const struct piece *p = raft__place_get(&y->log->places, &it);
        struct log_read r = {.index = p->index,
                             .off = p->off,
                             .n = min_u64(p->len, 300) & 0xffff,
                             .p = bytes,
                             .done = on_read,
                             .arg = y};
        if (r.n == 0) continue;
        int err = log_try_read(y->log, r.index, r.off, r.n, bytes);
        check(err == 0 || err == -EAGAIN || err == QE_CORRUPT || err == QE_GONE);
        y->pending++;
        log_read(y->log, &r);
        wait(y);
        if (y->failed) return;
    }
}

static void report_refs(struct play *y)
{
    struct place_at it = {0};
    uint64_t before = 0;
    for (const struct piece *p; (p = raft__place_get(&y->log->places, &it)); raft__place_next(&y->log->places, &it)) {
        uint64_t index = p->index;
        if (index != before && index % 3 == 0 && index <= y->rec.raft.last) log_live_add(y->log, index, 100);
        before = index;
    }
}

static void append(struct play *y, uint32_t len)
{
    struct blob *b = len ? blob_new(len) : NULL;
    if (b) memset(b->p, 'e', len);
    struct log_entry e = {.index = log_last(y->log) + 1, .term = y->durable_term, .kind = RAFT_COMMAND, .data = b};
    log_append(y->log, &e);
    blob_unref(b);
}

static void on_ckpt(void *arg, int err)
{
    ((struct play *)arg)->ckpt_done = true;
    ((struct play *)arg)->ckpt_err = err;
}

static void checkpoint(struct play *y)
{
    struct log_ckpt *ck = log_ckpt_begin(y->log, y->durable, y->durable_term, false);
    if (!ck) return;
    for (unsigned i = 0; i < 3; i++) check(log_ckpt_write(ck, slice_str("a block of the state")) == 0);
    log_ckpt_commit(ck, true, on_ckpt, y);
    y->ckpt_done = false;
    wait(y);
    check(y->failed || y->ckpt_done);
}

static void live(struct play *y)
{
    uint64_t term = 1;
    raft__log_term_at(y->log, log_last(y->log), &term);
    y->durable = y->rec.raft.last;
    y->durable_term = term > 0 ? term : 1;
    read_all(y);
    report_refs(y);
    struct raft_hard hard = y->rec.raft.hard;
    hard.term++;
    if (hard.term == 0) return; /* no term comes after it */
    log_set_hard(y->log, &hard);
    log_applied(y->log, log_last(y->log));
    for (unsigned i = 0; i < 5; i++) append(y, i * 3000);
    wait(y);
    if (y->failed) return;
    struct log_store st = {.index = 1, .off = 5, .data = blob_new(200), .done = on_store, .arg = y};
    memset(st.data->p, 's', 200);
    y->pending++;
    log_store(y->log, &st);
    blob_unref(st.data);
    wait(y);
    checkpoint(y);
    log_applied(y->log, y->durable);
    fake_run(&y->f, 300 * NS_PER_MS);
    append(y, 10);
    wait(y);
    if (!y->failed) check(y->durable == log_last(y->log));
    const char *bad = raft__place_invariant(y->log);
    if (bad) fprintf(stderr, "%s\n", bad);
    check(!bad);
}

static int open_log(struct play *y)
{
    struct buf why = {0};
    int err = log_open(sim_disk_door(y->disk), &y->f.clock, &y->cfg, &y->log, &y->rec, &why);
    check(!err || why.n > 10);
    if (err) trace_debug(y->cfg.trace, "refused: %.*s", (int)why.n, (const char *)why.p);
    buf_free(&why);
    if (err) return err;
    check(y->rec.raft.first <= y->rec.raft.snapshot_index + 1 && y->rec.raft.last + 1 >= y->rec.raft.first);
    check(y->rec.raft.last >= y->rec.raft.snapshot_index);
    check(!y->rec.damaged || y->rec.raft.hard.standing == RAFT_FENCED);
    if (log_ckpt_load(y->log, ignore_block, y) == 0) return 0;
    sim_disk_kill(y->disk);
    log_close(y->log);
    y->log = NULL;
    return QE_CORRUPT;
}

static void close_log(struct play *y)
{
    sim_disk_crash(y->disk);
    log_close(y->log);
    y->log = NULL;
}

/* A forged number just below NUMBER_MAX passes it with a later write, and what was written then is taken for damage. No
 * log gets there. */
static bool near_the_end(const struct log *log)
{
    const uint64_t v[] = {log->next_no, log->w.seq, log->meta.seq, log->meta.hard.term, log_last(log)};
    bool near = false;
    for (unsigned i = 0; i < sizeof v / sizeof *v; i++) near |= v[i] > NUMBER_MAX - 1000;
    return near;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct play *y = xcalloc(1, sizeof *y);
    y->r = reader_of(slice_of(data, size));
    fake_init(&y->f, 1);
    struct sim_disk_config dc = {.seed = 1, .op_ns_min = 1000, .op_ns_max = 1000, .wait_percent = 50};
    y->disk = sim_disk_new(&y->f.clock, &dc);
    uint8_t opt = get_u8(&y->r);
    y->cfg = (struct log_config){.cluster_id = 0,
                                 .node_id = 3,
                                 .segment_bytes = (opt & 1 ? 4 : 8) * PAGE_BYTES,
                                 .spare_segments = opt >> 1 & 3,
                                 .cache_bytes = opt & 8 ? 1 : MIB,
                                 .trail_bytes = opt & 16 ? 1 : 20000,
                                 .compact_live_percent = opt & 32 ? 100 : 50,
                                 .cb = {y, on_persisted, on_hard, on_failed, on_trimmed, on_ranges}};
    if (getenv("QFS_TRACE")) y->cfg.trace = &tracer;
    for (unsigned i = 0; i < FILES_MAX && make_file(y); i++) {
    }
    if (open_log(y) == 0) {
        live(y);
        uint64_t durable = y->durable;
        bool failed = y->failed != 0 || near_the_end(y->log);
        close_log(y);
        int err = open_log(y);
        if (!failed) check(err == 0 && y->rec.raft.last >= durable && !y->rec.damaged);
        if (!err) close_log(y);
    }
    sim_disk_free(y->disk);
    fake_free(&y->f);
    free(y);
    return 0;
}

/* ---- seeds: a real directory, taken apart ---- */

struct listing {
    struct buf *out;
    struct sim_disk *disk;
};

static void put_page(struct buf *b, const uint8_t *p, bool meta)
{
    uint32_t n = meta ? 508 : PAGE_BYTES - 4;
    while (n && p[n - 1] == 0) n--;
    if (n == 0) {
        put_u8(b, PAGE_ZERO);
        return;
    }
    put_u8(b, PAGE_SEALED);
    put_slice16(b, slice_of(p, n));
}

static void put_file(void *arg, const char *name, uint64_t size)
{
    static const char *const prefix[] = {
        [FILE_META] = "meta", [FILE_SEG] = "seg-", [FILE_PAY] = "pay-", [FILE_FREE] = "free-", [FILE_CKPT] = "ckpt-"};
    const struct listing *ls = arg;
    for (unsigned k = 0; k < FILE_END; k++) {
        if (strncmp(name, prefix[k], strlen(prefix[k])) != 0 || size / PAGE_BYTES > PAGES_MAX) continue;
        uint8_t *bytes = xmalloc(size);
        check(disk_load(sim_disk_door(ls->disk), name, 0, bytes, size) == (int64_t)size);
        put_u8(ls->out, (uint8_t)k);
        put_fuzz_number(ls->out, k == FILE_META ? 0 : strtoull(name + strlen(prefix[k]), NULL, 16));
        put_u8(ls->out, (uint8_t)(size / PAGE_BYTES - 1));
        for (uint64_t i = 0; i < size / PAGE_BYTES; i++) put_page(ls->out, bytes + i * PAGE_BYTES, k == FILE_META);
        free(bytes);
    }
}

static void seed_lives(void (*emit)(struct slice seed), uint8_t opt, unsigned lives)
{
    struct play *y = xcalloc(1, sizeof *y);
    struct buf b = {0};
    fake_init(&y->f, 1);
    struct sim_disk_config dc = {.seed = 1, .op_ns_min = 1000, .op_ns_max = 1000};
    y->disk = sim_disk_new(&y->f.clock, &dc);
    y->cfg = (struct log_config){.cluster_id = 0,
                                 .node_id = 3,
                                 .segment_bytes = (opt & 1 ? 4 : 8) * PAGE_BYTES,
                                 .spare_segments = opt >> 1 & 3,
                                 .cache_bytes = 1,
                                 .trail_bytes = opt & 16 ? 1 : 20000,
                                 .compact_live_percent = 100,
                                 .cb = {y, on_persisted, on_hard, on_failed, on_trimmed, on_ranges}};
    for (unsigned i = 0; i < lives; i++) {
        check(open_log(y) == 0);
        live(y);
        close_log(y);
        buf_clear(&b);
        put_u8(&b, opt);
        struct listing ls = {&b, y->disk};
        disk_list(sim_disk_door(y->disk), put_file, &ls);
        put_u8(&b, FILE_END);
        emit(buf_slice(&b));
    }
    sim_disk_free(y->disk);
    fake_free(&y->f);
    buf_free(&b);
    free(y);
}

void fuzz_seeds(void (*emit)(struct slice seed))
{
    seed_lives(emit, 0, 1);
    seed_lives(emit, 1 | 2 | 16 | 32, 4);
    seed_lives(emit, 4 | 8, 3);
}
