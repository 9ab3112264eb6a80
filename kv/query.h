/* query.h - looking at the state: what a query answers. Private to kv/ and its tests. */
#ifndef QFS_KV_QUERY_H
#define QFS_KV_QUERY_H

#include "kv/store.h"

#define KV_PAGE_MAX (1024u * 1024)      /* bytes of one page of READDIR or LIST */
#define KV_LIST_DEFAULT 1000u

/* Bytes of the answer that are in the log: to be filled in at data.p + at. */
struct kv__piece {
    uint64_t index;
    uint32_t off, len, at;
};

/* An answer under construction. Zero-initialised it is empty; it may be used again for the next one. */
struct kv__result {
    struct kv_reply reply;              /* its data borrows from `data` or from the map (until its next change) */
    struct buf data;
    struct kv__piece *pieces;
    uint32_t npieces, cap;
};

/* Answers all queries; res->reply.status is an error where it fails. `disk` has the first two numbers of STATFS. */
void kv__query(const struct kv__store *st, const struct kv_op *op, const struct kv_statfs *disk,
               struct kv__result *res);
/* The first `len` bytes of a file, behind what res->data has already: for comparing it. 0 or an error. */
int kv__query_contents(const struct kv__store *st, uint64_t ino, uint32_t len, struct kv__result *res);
/* Empties res, for contents. */
void kv__query_blank(const struct kv__store *st, struct kv__result *res);
/* Leaves a gap of p->len bytes at p->at, which is within res->data. */
void kv__result_piece(struct kv__result *res, const struct kv__piece *p);
void kv__result_free(struct kv__result *res);

#endif
