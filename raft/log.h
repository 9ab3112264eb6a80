/* log.h - the log on disk, which is also the store of all file bytes.
 *
 * Entries are appended to segments, a batch at a time: all that arrived while one durable write ran is the next batch
 * (group commit without a timer). An entry's bytes are written once and stay where they are: a file's extent is (log
 * index, offset, length), and this module maps an index to a segment and a place in it. What lies before the newest
 * checkpoint (and a trail kept for slow followers) need not be replayed any more; of it only payload that is still
 * referenced ("live") is kept, and compaction moves live payload out of sparse segments into fresh ones.
 *
 * Files (docs/FORMATS.md has the bytes): `meta` two checksummed slots with hard state and identity; `seg-N` segments of
 * 4 KiB pages, each with a CRC32C seeded by (segment number, page number), so that a torn, stale or misdirected page
 * is told from a good one; `ckpt-INDEX` checkpoints.
 *
 * Recovery: scan behind the newest checkpoint; a damaged tail of the last batch is a torn write and cut off; damage
 * before that (a later valid page or segment exists) is never guessed at: the intact prefix is kept and the node comes up
 * FENCED. An I/O error of a durable write is fatal (`failed`): the process stops and never retries (ATC'20, "Can
 * Applications Recover from fsync Failures?"). */
#ifndef QFS_RAFT_LOG_H
#define QFS_RAFT_LOG_H

#include "raft/core.h"

/* Bytes of one entry. Two values of the largest kind fit in, and an entry fits in a frame. */
#define LOG_ENTRY_MAX (12u * 1024 * 1024)
#define LOG_SEGMENT_MAX (256u * 1024 * 1024)

struct log;

struct log_entry {
    uint64_t index, term;
    uint8_t kind;                       /* enum raft_kind */
    struct blob *data;                  /* may be NULL: no bytes */
};

struct log_callbacks {
    void *arg;
    void (*persisted)(void *arg, uint64_t index, uint64_t term);        /* all up to index are durable */
    void (*hard_persisted)(void *arg, const struct raft_hard *hard);
    void (*failed)(void *arg, int err, const char *what);               /* stop the process; nothing is written any more */
    void (*trimmed)(void *arg, uint64_t first);                         /* entries before first can no longer be sent */
    /* Compaction asks which bytes of an entry are live: call emit for each range, ascending. */
    void (*live_ranges)(void *arg, uint64_t index, void (*emit)(void *ctx, uint32_t off, uint32_t len), void *ctx);
};

struct log_config {
    uint64_t cluster_id;                /* 0 while not known; see log_set_identity */
    uint64_t node_id;
    uint32_t segment_bytes;             /* multiple of 4096; 16 MiB by default */
    uint32_t spare_segments;            /* pre-written ones kept ready */
    uint32_t spare_keep;                /* so many spent ones are kept to be written again, if that is more */
    uint64_t cache_bytes;               /* entries kept in memory for followers, apply and reads */
    uint64_t trail_bytes;               /* log kept behind the newest checkpoint for slow followers */
    uint32_t compact_live_percent;      /* segments with less live payload are compacted, */
    uint64_t compact_slack_bytes;       /* once so many dead bytes lie in them, or the disk is full: what waits dies */
    struct log_callbacks cb;
    const struct trace *trace;
};

struct log_recovered {
    struct raft_recovered raft;         /* runs are owned by the log, valid until the next call */
    uint64_t cluster_id, node_id;       /* 0: an empty directory */
    bool damaged;                       /* standing was set to FENCED because of damage */
    uint64_t torn_bytes;                /* cut off at the tail, for the report */
};

/* Blocking. 0, QE_CORRUPT (no usable meta slot or checkpoint; `why` says which file and what to do), QE_VERSION,
 * QE_CLUSTER (another node's or cluster's directory), or -errno. `why` is a text for the user, set on every failure. */
int log_open(struct disk *disk, struct clock *clock, const struct log_config *config, struct log **out,
             struct log_recovered *recovered, struct buf *why);
/* Blocking: whose data directory it is. 0, -ENOENT (nobody's yet), QE_CORRUPT, QE_VERSION, or -errno. */
int log_owner(struct disk *disk, uint64_t *node_id);
/* Operations under way must have completed (log_idle), else they are abandoned: a crash. log_open() itself leaves what it
 * has to ask of the disk to the loop's next turn, so a start that fails before may close the log at once. */
void log_close(struct log *log);
bool log_idle(const struct log *log);

/* ---- the log proper --- */
void log_append(struct log *log, const struct log_entry *e);    /* index = last + 1; takes a reference to e->data */
void log_truncate(struct log *log, uint64_t from);              /* implicit on disk: a later record of an index wins */
void log_set_hard(struct log *log, const struct raft_hard *hard);
void log_set_identity(struct log *log, uint64_t cluster_id);    /* written with the next hard state */
uint64_t log_first(const struct log *log);                      /* first entry still whole */
uint64_t log_last(const struct log *log);
uint32_t log_span(void *log, uint64_t first, uint64_t last, uint64_t bytes_max, uint64_t *bytes);
/* The entry if it is in memory; e->data is borrowed until the loop's next turn (take a reference to keep it). */
bool log_cached(struct log *log, uint64_t index, struct log_entry *e);
/* Brings whole entries first..last back into memory, where they stay at least until done() has returned. */
struct log_fetch {
    uint64_t first, last;
    void (*done)(struct log_fetch *f, int err);     /* 0, QE_GONE, QE_CORRUPT */
    void *arg;
    void *priv;
};
void log_fetch(struct log *log, struct log_fetch *f);
void log_applied(struct log *log, uint64_t index);              /* the cache may let go what is persisted and applied */
/* Entries up to index are committed. It is written down with what is written anyway, so after a restart nearly as much is
 * known: log_sure(), up to where what the log has is the cluster's. */
void log_committed(struct log *log, uint64_t index);
uint64_t log_sure(const struct log *log);

/* ---- payload: bytes of entries at (index, offset), also long after the entry itself is compacted --- */
struct log_read {
    uint64_t index;
    uint32_t off, n;
    uint8_t *p;                                     /* n bytes, the caller's until done */
    bool staged;                                    /* of what a snapshot that is being received has brought so far */
    void (*done)(struct log_read *r, int err);      /* 0; QE_CORRUPT: rotten here; QE_GONE: not here */
    void *arg;
    void *priv;
};
/* 0: done at once (from memory or the page cache), -EAGAIN: would wait, QE_CORRUPT, QE_GONE. */
int log_try_read(struct log *log, uint64_t index, uint32_t off, uint32_t n, uint8_t *p);
void log_read(struct log *log, struct log_read *r);
bool log_has(const struct log *log, uint64_t index, uint32_t off, uint32_t n);
/* Of a read's n > 0 bytes from off on: so many at the beginning are all here (*here), or all not. At least 1; there may be
 * more. */
uint32_t log_run(const struct log *log, const struct log_read *r, uint32_t off, uint32_t n, bool *here);
/* Stores bytes of an entry that a peer gave (repair, snapshot install); done(0) once they are durable. */
struct log_store {
    uint64_t index;
    uint32_t off;
    struct blob *data;                              /* a reference is taken */
    void (*done)(struct log_store *s, int err);
    void *arg;
    void *priv;
};
void log_store(struct log *log, struct log_store *s);
/* live bytes of entry `index` change by delta. After log_open (or a snapshot install) all counts are 0: the state machine
 * reports all its references again while it is restored. */
void log_live_add(struct log *log, uint64_t index, int64_t delta);

/* ---- checkpoints: opaque blocks of at most LOG_BLOCK_MAX bytes, written in order --- */
#define LOG_BLOCK_MAX (256u * 1024)
struct log_ckpt;
/* One at a time (NULL if one is being written). install: the blocks come from the leader; on commit the log is reset to
 * start behind index (keep_suffix: entries behind index stay). */
bool log_ckpt_ready(const struct log *log);     /* one could be begun; of a new directory: once its identity is durable */
struct log_ckpt *log_ckpt_begin(struct log *log, uint64_t index, uint64_t term, bool install);
/* 0, or -EAGAIN while too much is unwritten: `room` is called when to go on. */
int log_ckpt_write(struct log_ckpt *ck, struct slice block);
void log_ckpt_on_room(struct log_ckpt *ck, void (*room)(void *arg), void *arg);
/* done(0): durable, it is the newest checkpoint now. The struct is gone after done() or abort. */
void log_ckpt_commit(struct log_ckpt *ck, bool keep_suffix, void (*done)(void *arg, int err), void *arg);
void log_ckpt_abort(struct log_ckpt *ck);
bool log_ckpt_newest(const struct log *log, uint64_t *index, uint64_t *term, uint32_t *blocks);
/* Blocking, for recovery: each block of the newest checkpoint in order; stops at a non-zero return of each(). */
int log_ckpt_load(struct log *log, int (*each)(void *arg, struct slice block), void *arg);
/* One block of the newest checkpoint (for sending it to a follower). done(QE_GONE) if index is not the newest any more;
 * log_ckpt_hold keeps one from being removed while it is sent. */
struct log_ckpt_read {
    uint64_t index;
    uint32_t block;
    void (*done)(struct log_ckpt_read *r, int err, struct slice block);
    void *arg;
    void *priv;
};
void log_ckpt_read(struct log *log, struct log_ckpt_read *r);
void log_ckpt_hold(struct log *log, uint64_t index, bool on);

/* ---- figures --- */
struct log_stats {
    uint64_t disk_bytes;                /* of all files */
    uint64_t live_bytes;                /* payload referenced by the state machine */
    uint64_t log_bytes;                 /* records behind the newest checkpoint: what a restart replays */
    uint64_t checkpoint_bytes;          /* of its blocks; 0: there is none */
    uint64_t batches, entries, bytes_written, compactions, moved_bytes;
    uint64_t sync_ns_p50, sync_ns_p99, sync_ns_max;     /* of the last 1,024 durable writes, by clock_now */
    uint32_t segments, spares;
};
void log_stats(const struct log *log, struct log_stats *out);
/* True when so little space is left that only what frees space should be accepted. */
bool log_disk_full(const struct log *log);

#endif
