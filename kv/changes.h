/* changes.h - which keys an operation has changed, for the history of events. Private to kv/. */
#ifndef QFS_KV_CHANGES_H
#define QFS_KV_CHANGES_H

#include "kv/store.h"

/* Keys that one operation may change before history is cut there: a rename of a directory with more keys below it. */
#define KV_CHANGES_MAX 4096u

/* What has to be known from before the operation. */
struct kv__before {
    bool file;                  /* UNLINK, APPEND: there was one */
    uint64_t version;           /* FALLOCATE, APPEND: of the contents */
    bool same;                  /* RENAME: both names are one file's */
    bool too_many;
    uint32_t n;
    struct buf keys;            /* RENAME: text16 each, at the old and at the new place; the caller frees it */
};
void kv__changes_before(const struct kv__store *st, const struct kv_op *op, struct kv__before *b);
/* It has succeeded: tells the history what it has changed. */
void kv__changes_after(struct kv__store *st, const struct kv_op *op, const struct kv_reply *r, struct kv__before *b);
/* The same for a step of a transaction. */
void kv__changes_key(struct kv__store *st, enum kv_event_type type, struct slice key, const struct fs_attr *attr);

#endif
