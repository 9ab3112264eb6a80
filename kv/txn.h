/* txn.h - transactions: what their files share. Private to kv/ and its tests.
 *
 * The answer to a transaction is remembered like every other one, in a row of the map, but the contents that its GETs
 * found may be too many bytes for a row, and are in the log anyway. So the row holds a *draft*: results whose values
 * are lists of pieces. Whoever answers turns it into the reply by fetching the bytes. */
#ifndef QFS_KV_TXN_H
#define QFS_KV_TXN_H

#include "kv/query.h"

/* kv/txn.c */
/* A draft's reply, with gaps where bytes of the log belong: they are res->pieces. 0 or QE_FRAME. */
int kv__txn_reply(const struct kv_reply *draft, struct kv__result *res);
/* The same, but those GETs say QE_GONE. */
int kv__txn_reply_gone(const struct kv_reply *draft, struct kv__result *res);
/* Do all conditions come from a client: none is the leader's? */
bool kv__txn_plain(const struct kv_txn *t);

/* kv/txn_exec.c: executes or leaves undecided; r->data lives until the next one. False: undecided. */
bool kv__txn_exec(struct kv__store *st, const struct kv_op *op, const struct fs_ctx *ctx, uint64_t index,
                  const uint8_t *entry, struct kv_reply *r);
/* How a condition stands on the map: 1 it holds, 0 it does not, an error of the key, or KV__IN_LOG: only the bytes in
 * the log can tell. *attr is set where the key exists. */
int kv__txn_condition(const struct kv__store *st, const struct kv_cond *c, struct fs_attr *attr);

#endif
