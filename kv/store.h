/* store.h - the state machine: one ordered map, changed by nothing but the batches of the log. It needs no node, no
 * network and no clock; the server (kv/server.c) and the tests drive it alike. Private to kv/ and its tests. */
#ifndef QFS_KV_STORE_H
#define QFS_KV_STORE_H

#include "kv/history.h"
#include "kv/session.h"
#include "kv/wire.h"

enum kv__outcome {
    KV__ANSWER,                 /* the reply */
    KV__SILENT,                 /* nobody waits: the number is below the session's floor */
    KV__UNDECIDED,              /* a compare-and-set that needs bytes of the log, or that the leader had compared, but
                                 * the file has changed since: not executed, not remembered; to be compared (again) */
};

struct kv__store_cb {
    void *arg;
    /* Payload references of an entry change by delta bytes (also for all of them, at the end of a restore). */
    void (*live)(void *arg, uint64_t index, int64_t delta);
    /* The outcome of record `pos` of the batch being applied; the reply's slices live during the call. `code` says
     * how to encode it; 0 only where the status is an error. */
    void (*outcome)(void *arg, uint32_t pos, enum kv__outcome what, enum kv_code code, const struct kv_reply *reply);
};

struct kv__store {
    struct omap *map;
    struct fs fs;
    struct kv__store_cb cb;
    uint64_t applied;           /* index of the batch applied last */
    int64_t wall;               /* its time; strictly rising */
    uint64_t cluster;           /* ns during which some leader led, as the log tells it; never falling */
    uint64_t sessions, mounts;
    uint64_t due;               /* no session expires up to this cluster time; not part of the state. 0: not known */
    bool born;                  /* a batch has been applied: the root directory has its date */
    struct kv__session cur;     /* the session of the last record; id 0: none. Written back at the batch's end */
    struct buf scratch;
    struct buf draft;           /* the answer of a transaction (kv/txn.h) */
    bool holding;
    struct buf held;            /* what was not yet said to cb.live: u64 index, i64 delta each */
    struct kv__history history; /* what happened to keys lately; not part of the state */
    struct kv__restore *restore;
};

struct kv__store *kv__store_new(const struct kv__store_cb *cb);
void kv__store_free(struct kv__store *st);
/* Executes one entry of the log. QE_FRAME or QE_VERSION: this program does not understand it, so it cannot go on; the
 * state is then not to be used any more. */
int kv__store_apply(struct kv__store *st, uint64_t index, struct slice entry);
uint64_t kv__store_digest(const struct kv__store *st);

/* ---- images of the state (kv/snap.c): see struct node_sm in raft/raft.h for the order of calls ---- */
#define KV_SNAP_BLOCK (64u * 1024)
void *kv__snap_begin(struct kv__store *st);
int kv__snap_next(void *snap, struct buf *block);
void kv__snap_end(void *snap);
void kv__restore_begin(struct kv__store *st);
int kv__restore_block(struct kv__store *st, struct slice block);
int kv__restore_end(struct kv__store *st, uint64_t index);
void kv__restore_cancel(struct kv__store *st);
void kv__restore_ranges(struct kv__store *st, void (*emit)(void *ctx, uint64_t index, uint32_t off, uint32_t len),
                        void *ctx);

/* ---- shared by the files of the store ---- */
/* Executes one change that is neither a session's opening nor its end (kv/exec.c). `entry` begins where the entry
 * does, so that payload can be named by its place. False: undecided. */
bool kv__exec(struct kv__store *st, const struct kv_op *op, uint64_t index, const uint8_t *entry,
              struct kv_reply *reply);
/* From here on cb.live hears nothing, until it hears all of it (keep) or nothing of it. */
void kv__store_hold(struct kv__store *st);
void kv__store_release(struct kv__store *st, bool keep);
/* Are the contents of that file `value`? 1, 0, KV__IN_LOG: only bytes in the log can tell, or an error. */
#define KV__IN_LOG 2
int kv__contents_are(const struct kv__store *st, const struct fs_attr *attr, struct slice value);
void kv__store_load_state(struct kv__store *st);    /* takes the row `k` over into the struct */
/* A filesystem over another map, for looking at an image that is being restored. */
struct fs kv__store_fs_of(struct omap *map);
/* The refusal a change gets on a full disk: -ENOSPC for what needs new space, 0 for the rest. */
int kv__full_disk_error(const struct kv__store *st, const struct kv_op *op);

#define KV_ROW_STATE ((struct slice){(const uint8_t *)"k", 1})

#endif
