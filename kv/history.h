/* history.h - what happened to keys lately: a bounded ring of events, the same on every replica that has applied the
 * same entries, whatever part of them each still has. In memory only: it begins anew where the state comes from an
 * image (a restart, an installed snapshot). Private to kv/ and its tests.
 *
 * Events lie in their wire form in chunks of KV_CHUNK_BYTES; when there are too many chunks, the oldest goes, and with
 * it all that is known of the revisions up to its last one. */
#ifndef QFS_KV_HISTORY_H
#define QFS_KV_HISTORY_H

#include "kv/kv.h"

#define KV_CHUNK_BYTES (64u * 1024)
#define KV_CHUNKS_MAX 256u                  /* 16 MiB: some 250,000 events of short keys */

struct kv__chunk {
    uint64_t last;                          /* the last event's revision */
    uint32_t n;                             /* bytes */
    uint8_t p[KV_CHUNK_BYTES];
};

struct kv__history {
    struct kv__chunk *ring[KV_CHUNKS_MAX];  /* chunk number k is at k % KV_CHUNKS_MAX; from first to before next */
    uint64_t first, next;
    uint32_t chunks_max;                    /* fewer in tests */
    uint64_t begin;                         /* the events of all revisions behind it are here */
    uint64_t end;                           /* and of none behind this one */
    uint64_t open;                          /* the entry that is being applied */
    struct buf entry;                       /* its events so far */
    uint32_t nentry;
    bool cut;                               /* it did more than can be told */
};

void kv__history_init(struct kv__history *h);
void kv__history_free(struct kv__history *h);
/* Nothing is known up to this revision. */
void kv__history_restart(struct kv__history *h, uint64_t revision);

/* An entry is applied: open, events, close. */
void kv__history_open(struct kv__history *h, uint64_t revision);
void kv__history_add(struct kv__history *h, enum kv_event_type type, struct slice key, const struct fs_attr *attr);
void kv__history_cut(struct kv__history *h);            /* the open entry did too much: history ends with it */
void kv__history_close(struct kv__history *h);
struct kv__history_mark {
    size_t bytes;
    uint32_t n;
    bool cut;
};
struct kv__history_mark kv__history_mark(const struct kv__history *h);
void kv__history_undo(struct kv__history *h, struct kv__history_mark mark);

/* A place between two events. */
struct kv__cursor {
    uint64_t chunk;
    uint32_t at;
};
/* In front of the first event with (revision, position) at or behind the given one; QE_GONE: some of them are not here
 * any more. */
int kv__history_seek(const struct kv__history *h, uint64_t revision, uint32_t position, struct kv__cursor *c);
/* 1: the next event, and `raw`, its wire form; 0: there is none yet; QE_GONE. Borrows until the next change. */
int kv__history_next(const struct kv__history *h, struct kv__cursor *c, struct kv_event *ev, struct slice *raw);

#endif
