/* log_priv.h - what the files of the log share. raft/log.h is the contract, docs/FORMATS.md the bytes.
 *
 *   log.c       open, close, append, truncate, memory, the loop's turn      log_read.c   payload and entries from disk
 *   log_page.c  pages, batches, records: the only coder of segment bytes    log_pay.c    payload segments: store, moved bytes
 *   log_write.c batches of entries to LOG segments                          log_gc.c     trail, sweep, compaction
 *   log_place.c where payload lies, and how much of it is live              log_ckpt.c   writing checkpoints
 *   log_seg.c   segment files: take, free, spares                           log_image.c  reading checkpoints
 *   log_meta.c  hard state and identity, two slots                          log_scan.c   recovery */
#ifndef QFS_RAFT_LOG_PRIV_H
#define QFS_RAFT_LOG_PRIV_H

#include <stdlib.h>

#include "raft/log.h"

#define LOG_FORMAT 1u
#define PAGE_BYTES DISK_BLOCK
#define PAGE_DATA 4084u                 /* of a page, between its tag (8) and its CRC (4) */
#define BATCH_HEAD 48u
#define RECORD_HEAD 40u
#define BATCH_BYTES_MAX (4u * MIB)      /* one write, unless a single entry is larger */
#define READ_BYTES_MAX (1u * MIB)
#define CKPT_UNWRITTEN_MAX (4u * MIB)
#define SYNC_RING 1024u
#define SEG_NONE UINT32_MAX
#define KIND_PIECE 0x40                 /* record kind of PAYLOAD segments */
#define NUMBER_MAX (1ull << 46)         /* of an index, a term, a batch, a segment. None gets there; what says so is damage */

#define MARK_IDLE_NS (50 * NS_PER_MS)   /* after so long without a write the durable position goes to `meta` */
#define RETRY_NS (100 * NS_PER_MS)      /* no space: try again */
#define STEP_NS (1 * NS_PER_MS)         /* background work: between two steps */
#define STEP_ITEMS 4096u                /* ... and how much a step looks at */

enum page_kind { PAGE_LOG = 1, PAGE_PAYLOAD = 2, PAGE_CKPT = 3 };

/* ---- log_page.c ---- */

struct page_tag {
    uint64_t seq;                       /* of the batch */
    enum page_kind kind;
    bool head;                          /* the first of its batch */
};

/* Whole pages, aligned for the disk. Zero-initialised it is empty. */
struct pages {
    uint8_t *p;
    uint32_t n, cap;
    void *raw;
};
void raft__pages_reserve(struct pages *b, uint32_t n);      /* keeps what is there */
void raft__pages_free(struct pages *b);

/* Fills tag, padding and CRC of one page whose first `used` data bytes are set. `file` is the segment's number or the
 * checkpoint's index. */
void raft__page_seal(uint8_t *page, struct page_tag tag, uint64_t file, uint32_t page_no, uint32_t used);
/* False: torn, stale, misdirected or rotten. */
bool raft__page_check(const uint8_t *page, enum page_kind kind, uint64_t file, uint32_t page_no, struct page_tag *tag);

/* Bytes of a stream that lies in the data parts of consecutive pages; pos counts from the first of `pages`. */
void raft__stream_put(uint8_t *pages, uint64_t pos, const void *from, size_t n);
void raft__stream_get(const uint8_t *pages, uint64_t pos, void *to, size_t n);
static inline uint32_t raft__stream_pages(uint64_t bytes) { return (uint32_t)((bytes + PAGE_DATA - 1) / PAGE_DATA); }

struct seg_head {
    uint64_t cluster, node, number, first_seq, prev_seg, hint;
    enum page_kind kind;
    uint32_t pages;
};
void raft__seg_head_put(uint8_t *page, const struct seg_head *h);
/* 0, QE_CORRUPT, QE_VERSION. */
int raft__seg_head_get(const uint8_t *page, enum page_kind kind, uint64_t number, struct seg_head *h);

struct record {
    uint64_t index, term;
    uint8_t kind;
    uint32_t len, off, total;           /* bytes here, where they begin in the entry, bytes of the whole entry */
};

/* A batch being built: pages that are written at once, from page `first` of segment `number`; with `lead` there is a page
 * before them (the segment's header) in the same write. */
struct batch {
    struct pages mem;
    bool lead;
    uint32_t bytes, records;            /* of the stream so far, its head included */
};
void raft__batch_begin(struct batch *b, bool lead);
/* Returns the stream position (from the batch's first page) of the record's bytes. */
uint32_t raft__batch_add(struct batch *b, const struct record *r, const void *bytes);
struct batch_head {
    uint64_t seq, base_index, base_term, prev_seg;
    uint64_t committed;                 /* LOG: entries up to it were known to be, and durable, when it was begun */
    uint32_t npages, bytes, records;
};
/* Closes it; h->npages, bytes and records are filled in. */
void raft__batch_seal(struct batch *b, enum page_kind kind, uint64_t number, uint32_t first, struct batch_head *h);

/* The batch at page `at` of a segment of npages pages in memory: 0 or QE_CORRUPT. */
int raft__batch_get(const uint8_t *seg, uint32_t npages, enum page_kind kind, uint64_t number, uint32_t at,
                    struct batch_head *h);
/* Of a checked page that begins a batch; UINT64_MAX: it does not. */
uint64_t raft__batch_prev_seg(const uint8_t *page);
/* The next record of a batch's stream (`pos` from the batch's first page; begins at BATCH_HEAD): 0 or QE_CORRUPT. */
int raft__record_get(const uint8_t *batch, const struct batch_head *h, uint32_t *pos, struct record *r, uint32_t *data_pos);

/* ---- segments: log_seg.c ---- */

struct seg {
    uint64_t no;
    enum page_kind kind;
    uint32_t slot, pages, used;         /* its place in log->seg; pages of the file; pages handed out */
    uint64_t begin, prev;               /* LOG: a scan that knows entries below begin may start here; the segment before */
    uint64_t lo, hi;                    /* LOG: entries of the log as it stands; PAYLOAD: indexes put here. lo > hi: none */
    uint64_t npieces, live;
    uint32_t readers;                   /* jobs that read it */
    uint32_t pins;                      /* pieces written here that the places do not tell yet */
    bool sealed, orphan;
    bool unsynced;                      /* recovered from bytes that no sync is known to have made durable */
    bool rotten;                        /* compaction found damage: left alone */
    bool keep;                          /* compaction found it worth keeping while half of keep_live is live */
    uint64_t keep_live;
};

struct spare {
    uint64_t no;
    uint32_t pages;
    bool ready;
};

void raft__seg_name(char *out, enum page_kind kind, uint64_t no);
struct seg *raft__seg_add(struct log *log, enum page_kind kind, uint64_t no, uint32_t pages);
struct seg *raft__seg_by_no(const struct log *log, enum page_kind kind, uint64_t no);
static inline struct seg *raft__seg_at(const struct log *log, uint32_t slot);
/* Gives done() a fresh segment (slot) on the given lane, or a negative error (-ENOSPC: for now). */
struct seg_take {
    struct disk_io io;
    struct log *log;
    enum page_kind kind;
    uint64_t no;
    uint32_t pages;
    bool busy, spare;
    void (*done)(struct log *log, int err, uint32_t slot);
};
void raft__seg_take(struct log *log, struct seg_take *t, enum page_kind kind, enum disk_lane lane,
                    void (*done)(struct log *log, int err, uint32_t slot));
/* Frees the segment if nothing needs it any more. */
void raft__seg_maybe_free(struct log *log, struct seg *s);
void raft__seg_housekeep(struct log *log);      /* frees what is due, tops up the spares */
uint32_t raft__spares_ready(const struct log *log);
void raft__spare_add(struct log *log, uint64_t no, uint32_t pages, bool ready);
/* Removes a file that is of no more use; nobody waits for it. */
void raft__remove_file(struct log *log, const char *name);
void raft__sync_file(struct log *log, const char *name);
void raft__segs_drop(struct log *log);
void raft__log_start(struct log *log);          /* what was asked for before the loop ran; once */
void raft__space_check(struct log *log);

/* ---- places: log_place.c ---- */

struct piece {
    uint64_t index;
    uint64_t live;                      /* references in bytes, this piece's share of its entry's */
    uint32_t off, len;
    uint32_t seg;                       /* slot; SEG_NONE: only carries live (len 0) */
    uint32_t pos;                       /* stream position in the segment, page 0 included */
};

#define PLACE_CHUNK 127u
struct place_chunk {
    uint32_t n;
    struct piece v[PLACE_CHUNK];
};
struct places {
    struct place_chunk **v;
    size_t n, cap;
    uint64_t count;
};
struct place_at {
    size_t chunk;
    uint32_t at;
};
/* The first piece with (index, off) >= the given one; false: none. */
bool raft__place_seek(const struct places *m, uint64_t index, uint32_t off, struct place_at *it);
static inline struct piece *raft__place_get(const struct places *m, const struct place_at *it)
{
    return it->chunk < m->n ? &m->v[it->chunk]->v[it->at] : NULL;
}
bool raft__place_next(const struct places *m, struct place_at *it);
/* The piece that holds byte off of the entry, or NULL. */
const struct piece *raft__place_find(const struct places *m, uint64_t index, uint32_t off);
bool raft__place_covers(const struct places *m, uint64_t index, uint32_t off, uint32_t n);
/* Puts n pieces (ascending) of one entry in, in place of what they overlap and of the entry's pieces in segment `drop`. */
void raft__place_put(struct log *log, struct places *m, uint64_t index, const struct piece *v, size_t n, uint32_t drop);
void raft__place_drop(struct log *log, struct places *m, uint64_t index);
void raft__place_drop_from(struct log *log, struct places *m, uint64_t from);
void raft__place_free(struct log *log, struct places *m);
void raft__place_live(struct log *log, struct places *m, uint64_t index, int64_t delta);
uint64_t raft__place_live_of(const struct places *m, uint64_t index);
void raft__place_zero_live(struct log *log, struct places *m);
const char *raft__place_invariant(const struct log *log);   /* for tests */

/* ---- reading: log_read.c ---- */

struct span {                           /* bytes of one segment to bring into memory */
    uint32_t seg, pos, len;
    uint8_t *to;
};
struct job {                            /* reads spans, one disk operation at a time; also carries late answers */
    struct disk_io io;
    struct list link;                   /* in log->jobs or log->late */
    struct log *log;
    struct span *v;
    size_t n, cap, at;
    uint32_t at_off, page0;             /* progress in v[at]; first page being read */
    struct pages mem;
    int err;
    uint32_t bad_seg;
    void (*done)(struct job *j);        /* frees it by raft__job_free */
    void (*drop)(struct job *j);        /* the log is closed: frees priv; may be NULL */
    void *user;
    void *priv;
};
struct job *raft__job_new(struct log *log, void (*done)(struct job *j), void *user);
void raft__job_span(struct job *j, struct span s);
void raft__job_start(struct job *j);    /* done() comes later, also of an empty job or one with err set */
void raft__job_free(struct job *j);
void raft__jobs_drop(struct log *log);

/* ---- payload writer: log_pay.c ---- */

struct pay_item {
    struct list link;
    uint64_t index;
    uint32_t off, at;                   /* of the first byte; bytes written out so far */
    struct blob *data;
    bool sync;                          /* wants to be durable soon */
    struct piece *v;                    /* where it lies now */
    size_t n;
    void (*done)(struct log *log, struct pay_item *it, int err);    /* durable; frees it by raft__pay_free */
    void *arg;
};
void raft__pay_put(struct log *log, struct pay_item *it);
void raft__pay_sync(struct log *log);   /* all that was put becomes durable soon */
void raft__pay_free(struct log *log, struct pay_item *it);
void raft__pay_drop(struct log *log);

/* ---- checkpoints: log_ckpt.c, log_image.c ---- */

struct image_block {
    uint64_t pos;
    uint32_t len;
};
struct image {                          /* a checkpoint on disk */
    struct list link;                   /* log->images, the newest first */
    uint64_t index, term;
    uint64_t scan_seg;                  /* LOG segments with a smaller number are not scanned */
    uint64_t next_seg;
    uint64_t dur_seg, dur_seq;          /* batches known to be durable when it was made */
    uint64_t pages;                     /* of the file */
    bool reset;                         /* the log begins behind index, whatever older segments hold */
    uint64_t cluster;
    uint64_t local_pos, local_len, table_pos;
    struct image_block *blocks;
    uint32_t nblocks;
    uint64_t payload_bytes;             /* of the blocks */
    uint32_t holds, readers;
};
void raft__image_name(char *out, uint64_t index);
/* Blocking. QE_CORRUPT, QE_VERSION, QE_CLUSTER, -errno. */
int raft__image_open(struct log *log, uint64_t index, uint64_t size, struct image **out);
int raft__image_verify(struct log *log, const struct image *im);     /* reads every page */
/* Blocking: hands out the local section's parts. */
struct image_local {
    void (*covered)(void *arg, uint64_t seg, uint32_t pages);
    void (*piece)(void *arg, uint64_t seg, const struct piece *p);
    void *arg;
};
int raft__image_local(struct log *log, const struct image *im, const struct image_local *cb);
void raft__image_foot_put(uint8_t *page, const struct image *im, uint64_t node);
void raft__image_piece_put(uint8_t *to, const struct piece *p, uint64_t seg);
void raft__image_reads_drop(struct log *log);
void raft__image_free(struct image *im);
void raft__image_maybe_remove(struct log *log, struct image *im);
static inline struct image *raft__image_newest(const struct log *log);
#define CKPT_HEAD_MAGIC 0x504b4351u     /* "QCKP" */
#define CKPT_FOOT_MAGIC 0x464b4351u     /* "QCKF" */
#define CKPT_TMP "tmp-ckpt"
#define META_NAME "meta"
void raft__ckpt_turn(struct log *log);  /* goes on with a commit that waits for the log */
void raft__ckpt_drop(struct log *log);

/* ---- meta: log_meta.c ---- */

struct meta {
    uint64_t seq;                       /* of the newest write */
    bool exists, busy, want, told;      /* told: the write under way was asked for by log_set_hard */
    bool ask;
    uint32_t rewrites;                  /* writes still due to repair damaged copies */
    uint64_t cluster, node;
    struct raft_hard hard, writing;
    uint64_t dur_seg, dur_seq;          /* as read at open */
    uint64_t committed;                 /* as read at open: entries up to it were known to be */
    uint64_t marked_seq;                /* the durable position that the newest slot tells */
    uint64_t writing_seq;
    struct pages mem;
    struct disk_io io;
};
/* Blocking. Sets *lost where the newest hard state may be gone. 0 (exists is false for an empty directory), QE_CORRUPT,
 * QE_VERSION, -errno. */
int raft__meta_load(struct log *log, bool data_files, bool *lost);
void raft__meta_turn(struct log *log);

/* ---- the log ---- */

struct ent {
    struct blob *data;                  /* NULL: not in memory, or no bytes */
    uint32_t len;
    uint8_t kind;
};

struct flight {                         /* a record of the batch being written; index 0: void, truncated meanwhile */
    uint64_t index;
    uint32_t off, len, pos;
};

struct writer {
    uint32_t seg, page;                 /* the current segment, its next page */
    uint64_t seq, prev_seg;             /* the next batch's number; the number of the segment that holds the one before */
    uint64_t next;                      /* next entry to write, and from which byte */
    uint32_t next_off;
    bool busy, hold;                    /* hold: a snapshot is being switched to */
    bool nospace;                       /* no segment was to be had: waits for space or for `retry` */
    uint64_t durable;                   /* entries up to it are on disk */
    uint64_t dur_seg, dur_seq;          /* the newest durable batch */
    uint64_t started;
    struct batch batch;
    struct batch_head head;
    struct flight *v;
    size_t n, cap;
    struct disk_io io;
    struct seg_take take;
};

struct pay {
    uint32_t seg, page;
    uint64_t seq;
    bool busy, want_sync;
    uint64_t unsynced;                  /* bytes written since the last sync */
    uint64_t queued;                    /* bytes of the items in the queue */
    struct list queue, writing, written;    /* items: waiting, in the write under way, written but not synced */
    struct batch batch;
    struct disk_io io;
    struct seg_take take;
};

struct gc {
    bool ready;                         /* the state machine has reported its references */
    bool armed;
    uint64_t trim_to;                   /* log_first is to become this */
    bool sweeping;
    uint64_t sweep_index;
    uint64_t retry_at;                  /* no compaction before: there was no space */
    struct timer timer;

    /* compaction of one segment */
    uint32_t victim;                    /* slot or SEG_NONE */
    enum { GC_WALK, GC_SYNC, GC_SWITCH } phase;
    uint64_t at_index;                  /* how far the walk has come */
    uint32_t at_off;
    bool bad;                           /* damage, no space or a new state: what was copied is dropped */
    bool reading;
    uint64_t out;                       /* items put and not yet durable */
    uint64_t live_seen;
    struct piece *moved;                /* where the copies lie, ascending, their segments pinned */
    size_t nmoved, moved_cap, moved_at;
};

struct held {                           /* blobs to let go at the end of the turn */
    struct blob **v;
    size_t n, cap;
};

struct log {
    struct disk *disk;
    struct clock *clock;
    struct log_config cfg;
    const struct trace *trace;
    bool failed;
    bool started;                       /* what recovery left to be done (`ops`) has been given to the disk */
    uint32_t inflight;                  /* disk operations under way */

    /* entries first .. last, in a ring */
    uint64_t first, last;
    struct ent *ring;
    uint64_t ring_cap;                  /* a power of two */
    struct raft_run *runs;
    uint32_t run0, nruns, runs_cap;     /* runs[run0 .. nruns) */
    uint64_t cached, evict_next, applied, committed;
    uint64_t window_bytes;              /* of entries first .. last, with their record heads */
    uint64_t behind_bytes;              /* of those behind the newest checkpoint */

    struct seg **seg;                   /* by slot; NULL: free slot */
    uint32_t nseg, seg_cap;
    uint64_t next_no;
    struct spare *spares;
    size_t nspares, spares_cap;
    bool making_spare;
    struct list ops;                    /* struct seg_op of log_seg.c: under way, or, before `started`, to be done first */
    bool full;
    uint64_t spare_retry_at, space_at;
    uint64_t file_bytes;                /* of segments and spares */

    struct places places, staged;       /* staged: bytes of a snapshot being received, not yet part of this log */
    uint64_t live_total;

    struct meta meta;
    struct writer w;
    struct pay pay;
    struct gc gc;
    struct log_ckpt *ckpt;              /* being written */
    struct list zombies;                /* aborted ones with writes under way */
    struct list images;
    struct list jobs, late, block_reads;
    struct pages scratch;

    struct timer turn, mark, retry, local;
    struct held held;

    uint64_t batches, entries, bytes_written, compactions, moved_bytes;
    uint32_t sync_ns[SYNC_RING];
    uint64_t syncs;
};

static inline struct seg *raft__seg_at(const struct log *log, uint32_t slot)
{
    check(slot < log->nseg && log->seg[slot]);
    return log->seg[slot];
}
static inline struct image *raft__image_newest(const struct log *log)
{
    return list_empty(&log->images) ? NULL : container_of(log->images.next, struct image, link);
}
static inline struct ent *raft__ent(const struct log *log, uint64_t index)
{
    check(index >= log->first && index <= log->last);
    return &log->ring[index & (log->ring_cap - 1)];
}
/* Index and term of the newest checkpoint, 0 if there is none. */
static inline uint64_t raft__ckpt_index(const struct log *log)
{
    struct image *im = raft__image_newest(log);
    return im ? im->index : 0;
}
/* Entries up to here are known to be committed: their local bytes are the cluster's. */
static inline uint64_t raft__trusted(const struct log *log)
{
    return max_u64(max_u64(log->applied, log->committed), raft__ckpt_index(log));
}
uint64_t raft__sure_on_disk(const struct log *log);

void raft__log_fail(struct log *log, int err, const char *what);
void raft__submit(struct log *log, struct disk_io *io);
/* First call of every completion. True: the log has failed, do nothing more. */
bool raft__submitted(struct log *log);
void raft__log_wake(struct log *log);   /* a turn's end is wanted */
void raft__log_timers(struct log *log);
bool raft__log_term_at(const struct log *log, uint64_t index, uint64_t *term);
void raft__log_put(struct log *log, const struct log_entry *e, uint32_t len);   /* appends to memory only */
void raft__log_release(struct log *log, struct blob *b);
void raft__log_trim(struct log *log, uint64_t first);       /* memory only, as are these two */
void raft__log_cut(struct log *log, uint64_t from);
void raft__log_reset(struct log *log, uint64_t index);      /* entries: none, the next is index + 1 */
void raft__write_turn(struct log *log);
void raft__write_cut(struct log *log, uint64_t from);
void raft__pay_turn(struct log *log);
void raft__gc_turn(struct log *log);
void raft__gc_wake(struct log *log);
void raft__gc_cancel(struct log *log);
void raft__gc_fired(struct timer *t);
bool raft__installing(const struct log *log);

/* ---- recovery: log_scan.c ---- */

struct scan_result {
    bool damaged;
    uint64_t torn_bytes;
    uint32_t tail_seg;                  /* slot of the newest chain segment, SEG_NONE: none */
    uint32_t tail_page;
    bool tail_clean;                    /* nothing valid lies behind the tail: it may be continued */
    uint64_t tail_seq;                  /* the last good batch, 0: none */
    uint64_t tail_no;                   /* the segment it lies in */
    uint64_t committed;                 /* entries up to it are, for certain */
};
/* Blocking: rebuilds entries and places from the LOG and PAYLOAD segments in log->seg, with `im` (or NULL) below. */
int raft__scan(struct log *log, struct image *im, struct scan_result *out);

#endif
