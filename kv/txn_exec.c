/* txn_exec.c - executes a transaction, or leaves it undecided where only bytes of the log could tell whether a
 * condition holds (kv/txn_leader.c compares them then). Deterministic, like all of kv/exec.c.
 *
 * Where steps follow one that changes something, the map as it was before is retained and put back if one of them
 * fails; what would have been said about payload waits until the end. */
#include "kv/txn.h"

#include "kv/changes.h"

/* ---- conditions ---- */

int kv__txn_condition(const struct kv__store *st, const struct kv_cond *c, struct fs_attr *attr)
{
    int err = fs_walk(&st->fs, c->key, attr);
    bool same = !err && attr->ino == c->ino && attr->version == c->version;
    if (err && err != -ENOENT) return err;
    switch (c->kind) {
    case KV_IF_ABSENT: return err != 0;
    case KV_IF_PRESENT: return err == 0;
    case KV_IF_VALUE: return err ? 0 : kv__contents_are(st, attr, c->value);
    case KV_IF_VERSION: return same;
    case KV_IF_EQUAL_AT: return same ? 1 : KV__IN_LOG;
    default: return same ? 0 : KV__IN_LOG;
    }
}

/* ---- results ---- */

static void put_head(struct buf *out, enum kv_code code, int err, const struct fs_attr *attr)
{
    put_u8(out, (uint8_t)code);
    put_u32(out, (uint32_t)err);
    if (!err && code != KV_DELETE) kv__attr_encode(attr, out);
}

static void put_piece(void *ctx, const struct fs_piece *piece)
{
    struct buf *out = ctx;
    put_u8(out, (uint8_t)piece->kind);
    put_u32(out, piece->len);
    if (piece->kind == FS_PIECE_INLINE) put_bytes(out, slice_of(piece->bytes.p, piece->len));
    if (piece->kind != FS_PIECE_LOG) return;
    put_u64(out, piece->loc.index);
    put_u32(out, piece->loc.off);
}

static void count_piece(void *ctx, const struct fs_piece *piece) { ++*(uint32_t *)ctx; }

/* 0, or an error of the step, but -ENOENT is a result. */
static int get(struct kv__store *st, const struct kv_step *s, struct buf *out, uint64_t *bytes)
{
    struct fs_attr attr;
    uint32_t pieces = 0;
    int err = fs_walk(&st->fs, s->key, &attr);
    if (!err && (attr.mode & 0170000) == 0040000) err = -EISDIR;
    if (!err && attr.size > KV_DATA_MAX - *bytes) err = -EFBIG;
    if (err && err != -ENOENT) return err;
    put_head(out, KV_GET, err, &attr);
    if (err) return 0;
    *bytes += attr.size;
    int64_t n = fs_read(&st->fs, attr.ino, 0, (uint32_t)attr.size, count_piece, &pieces);
    if (n < 0) return (int)n;
    if (out->n + pieces * 5ull > KV_TXN_ANSWER_MAX) return -EFBIG;
    put_u32(out, (uint32_t)attr.size);
    put_u32(out, pieces);
    fs_read(&st->fs, attr.ino, 0, (uint32_t)attr.size, put_piece, out);
    return out->n > KV_TXN_ANSWER_MAX ? -EFBIG : 0;
}

static int change(struct kv__store *st, const struct fs_ctx *ctx, const struct kv_step *s, uint64_t index,
                  const uint8_t *entry, struct buf *out)
{
    struct fs_loc loc = {.index = index, .off = s->value.n ? (uint32_t)(s->value.p - entry) : 0};
    struct fs_attr attr;
    bool idle = s->code == KV_APPEND && s->value.n == 0 && fs_walk(&st->fs, s->key, &attr) == 0;
    if (out->n + KV_ATTR_BYTES_MAX + 5 > KV_TXN_ANSWER_MAX) return -EFBIG;
    int err = s->code == KV_DELETE ? fs_delete(&st->fs, ctx, s->key)
              : s->code == KV_PUT  ? fs_put(&st->fs, ctx, s->key, s->value, loc, &attr)
                                   : fs_append(&st->fs, ctx, s->key, s->value, loc, &attr);
    if (err && !(err == -ENOENT && s->code == KV_DELETE)) return err;
    put_head(out, s->code, err, &attr);
    if (!err && !idle) kv__changes_key(st, s->code == KV_DELETE ? KV_EVENT_DELETE : KV_EVENT_PUT, s->key, &attr);
    return 0;
}

/* ---- all of it ---- */

static void failed(struct kv__store *st, struct kv_reply *r, enum kv_txn_branch in, unsigned at, int err)
{
    buf_clear(&st->draft);
    put_u8(&st->draft, (uint8_t)in);
    put_u8(&st->draft, (uint8_t)at);
    put_u32(&st->draft, (uint32_t)err);
    r->off = KV_TXN_FAILED;
}

/* Can a step fail when an earlier one has changed something? */
static bool may_need_undo(const struct kv_txn *t, enum kv_txn_branch b)
{
    for (unsigned i = 0; i + 1 < t->nsteps[b]; i++)
        if (t->steps[b][i].code != KV_GET) return true;
    return false;
}

static void run(struct kv__store *st, const struct kv_txn *t, enum kv_txn_branch b, const struct fs_ctx *ctx,
                uint64_t index, const uint8_t *entry, struct kv_reply *r)
{
    struct omap *before = may_need_undo(t, b) ? omap_snapshot(st->map) : NULL;
    struct kv__history_mark mark = kv__history_mark(&st->history);
    uint64_t bytes = 0;
    r->off = b;
    if (before) kv__store_hold(st);
    for (unsigned i = 0; i < t->nsteps[b] && r->off == b; i++) {
        const struct kv_step *s = &t->steps[b][i];
        int err = s->code == KV_GET ? get(st, s, &st->draft, &bytes) : change(st, ctx, s, index, entry, &st->draft);
        if (err) failed(st, r, b, i, err);
    }
    if (!before) return;
    kv__store_release(st, r->off == b);
    if (r->off == b) {
        omap_free(before);
    } else {
        omap_rollback(st->map, before);
        kv__history_undo(&st->history, mark);
    }
}

bool kv__txn_exec(struct kv__store *st, const struct kv_op *op, const struct fs_ctx *ctx, uint64_t index,
                  const uint8_t *entry, struct kv_reply *r)
{
    struct kv_txn t;
    enum kv_txn_branch branch = KV_TXN_THEN;
    struct fs_attr attr;
    buf_clear(&st->draft);
    r->status = kv_txn_decode(op->data, &t) ? -EINVAL : 0;
    if (r->status) return true;
    for (unsigned i = 0; i < t.nconds && branch == KV_TXN_THEN; i++) {
        int holds = kv__txn_condition(st, &t.conds[i], &attr);
        if (holds == KV__IN_LOG) return false;
        if (holds == 0) branch = KV_TXN_OTHERWISE;
        if (holds < 0) {
            failed(st, r, KV_TXN_FAILED, i, holds);
            branch = KV_TXN_FAILED;
        }
    }
    if (branch != KV_TXN_FAILED) run(st, &t, branch, ctx, index, entry, r);
    r->data = buf_slice(&st->draft);
    return true;
}
