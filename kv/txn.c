/* txn.c - the bytes of transactions.
 *
 * Request: u8 conditions, u8 then, u8 otherwise; conditions: u8 kind, text16 key, and bytes32 value (IF_VALUE) or u64
 * ino, u64 version (IF_VERSION and the leader's); steps: u8 code, text16 key, and bytes32 value (PUT, APPEND).
 *
 * Results, one a step: u8 code, i32 status; where that is 0, of GET, PUT and APPEND: attr; of GET: bytes32 value. In a
 * draft (txn.h) a GET has instead: u32 size, u32 pieces, pieces: u8 kind (0 hole, 1 inline, 2 log), u32 length, and
 * bytes (inline) or u64 index, u32 offset (log). Of a failed one: u8 where (0 otherwise, 1 then, 2 conditions), u8
 * which, i32 error. */
#include "kv/txn.h"

#define COND_KINDS (KV_IF_OTHER_AT + 1u)

static bool names_version(enum kv_cond_kind k)
{
    return k == KV_IF_VERSION || k == KV_IF_EQUAL_AT || k == KV_IF_OTHER_AT;
}

static bool is_step(unsigned code)
{
    return code == KV_GET || code == KV_PUT || code == KV_APPEND || code == KV_DELETE;
}
static bool has_value(enum kv_code code) { return code == KV_PUT || code == KV_APPEND; }

/* ---- requests ---- */

static int put_cond(struct buf *out, const struct kv_cond *c)
{
    if (c->kind < KV_IF_ABSENT || c->kind >= COND_KINDS || c->key.n > UINT16_MAX) return -EINVAL;
    if (c->value.n > KV_DATA_MAX) return -EFBIG;
    put_u8(out, (uint8_t)c->kind);
    put_slice16(out, c->key);
    if (c->kind == KV_IF_VALUE) put_slice32(out, c->value);
    if (!names_version(c->kind)) return 0;
    put_u64(out, c->ino);
    put_u64(out, c->version);
    return 0;
}

static int put_step(struct buf *out, const struct kv_step *s)
{
    if (!is_step(s->code) || s->key.n > UINT16_MAX) return -EINVAL;
    if (s->value.n > KV_DATA_MAX) return -EFBIG;
    put_u8(out, (uint8_t)s->code);
    put_slice16(out, s->key);
    if (has_value(s->code)) put_slice32(out, s->value);
    return 0;
}

int kv_txn_encode(const struct kv_txn *t, struct buf *out)
{
    size_t begin = out->n;
    int err = 0;
    if (t->nconds > KV_TXN_MAX || t->nsteps[0] > KV_TXN_MAX || t->nsteps[1] > KV_TXN_MAX) return -E2BIG;
    put_u8(out, (uint8_t)t->nconds);
    put_u8(out, (uint8_t)t->nsteps[KV_TXN_THEN]);
    put_u8(out, (uint8_t)t->nsteps[KV_TXN_OTHERWISE]);
    for (unsigned i = 0; i < t->nconds && !err; i++) err = put_cond(out, &t->conds[i]);
    for (int b = KV_TXN_THEN; b >= KV_TXN_OTHERWISE; b--)
        for (unsigned i = 0; i < t->nsteps[b] && !err; i++) err = put_step(out, &t->steps[b][i]);
    if (!err && out->n - begin > KV_DATA_MAX) err = -EFBIG;
    if (err) out->n = begin;
    return err;
}

static void get_cond(struct reader *r, struct kv_cond *c)
{
    *c = (struct kv_cond){.kind = (enum kv_cond_kind)get_u8(r)};
    c->key = get_slice16(r);
    if (c->kind < KV_IF_ABSENT || c->kind >= COND_KINDS) r->bad = true;
    if (c->kind == KV_IF_VALUE) c->value = get_slice32(r);
    if (!names_version(c->kind)) return;
    c->ino = get_u64(r);
    c->version = get_u64(r);
}

static void get_step(struct reader *r, struct kv_step *s)
{
    unsigned code = get_u8(r);
    *s = (struct kv_step){.code = (enum kv_code)code};
    s->key = get_slice16(r);
    if (!is_step(code)) r->bad = true;
    else if (has_value(s->code)) s->value = get_slice32(r);
}

int kv_txn_decode(struct slice in, struct kv_txn *t)
{
    struct reader r = reader_of(in);
    t->nconds = get_u8(&r);
    t->nsteps[KV_TXN_THEN] = get_u8(&r);
    t->nsteps[KV_TXN_OTHERWISE] = get_u8(&r);
    if (t->nconds > KV_TXN_MAX || t->nsteps[0] > KV_TXN_MAX || t->nsteps[1] > KV_TXN_MAX) return QE_FRAME;
    for (unsigned i = 0; i < t->nconds && !r.bad; i++) get_cond(&r, &t->conds[i]);
    for (int b = KV_TXN_THEN; b >= KV_TXN_OTHERWISE; b--)
        for (unsigned i = 0; i < t->nsteps[b] && !r.bad; i++) get_step(&r, &t->steps[b][i]);
    return reader_done(&r) ? 0 : QE_FRAME;
}

bool kv__txn_plain(const struct kv_txn *t)
{
    for (unsigned i = 0; i < t->nconds; i++)
        if (t->conds[i].kind >= KV_IF_EQUAL_AT) return false;
    return true;
}

/* ---- results ---- */

bool kv_txn_next(struct reader *r, struct kv_txn_result *out)
{
    if (r->bad || reader_left(r) == 0) return false;
    *out = (struct kv_txn_result){.code = (enum kv_code)get_u8(r)};
    out->status = (int32_t)get_u32(r);
    if (!is_step(out->code)) r->bad = true;
    if (r->bad || out->status < 0 || out->code == KV_DELETE) return !r->bad;
    kv__attr_decode(r, &out->attr);
    if (out->code == KV_GET) out->value = get_slice32(r);
    return !r->bad;
}

int kv_txn_failure_decode(struct slice data, struct kv_txn_failure *out)
{
    struct reader r = reader_of(data);
    unsigned in = get_u8(&r);
    out->in = (enum kv_txn_branch)in;
    out->at = get_u8(&r);
    out->err = (int32_t)get_u32(&r);
    return reader_done(&r) && in <= KV_TXN_FAILED && out->err < 0 ? 0 : QE_FRAME;
}

/* Copies the value of a GET, piece by piece. */
static void fill(struct reader *r, struct kv__result *res, uint32_t size, uint32_t n)
{
    put_u32(&res->data, size);
    size_t begin = res->data.n;
    for (uint32_t i = 0; i < n && !r->bad; i++) {
        unsigned kind = get_u8(r);
        uint32_t len = get_u32(r);
        struct kv__piece p = {.len = len, .at = (uint32_t)res->data.n};
        if (len > size - (res->data.n - begin)) r->bad = true;
        if (r->bad) return;
        uint8_t *to = buf_extend(&res->data, len);
        if (kind == FS_PIECE_HOLE) {
            memset(to, 0, len);
        } else if (kind == FS_PIECE_INLINE) {
            struct slice bytes = get_bytes(r, len);
            if (!r->bad && len) memcpy(to, bytes.p, len);
        } else {
            p.index = get_u64(r);
            p.off = get_u32(r);
            kv__result_piece(res, &p);
        }
    }
    if (res->data.n - begin != size) r->bad = true;
}

static void skip(struct reader *r, uint32_t n, bool *in_log)
{
    for (uint32_t i = 0; i < n && !r->bad; i++) {
        unsigned kind = get_u8(r);
        uint32_t len = get_u32(r);
        if (kind == FS_PIECE_INLINE) get_bytes(r, len);
        if (kind != FS_PIECE_LOG) continue;
        get_bytes(r, 12);
        *in_log = true;
    }
}

static void one_result(struct reader *r, struct kv__result *res, bool gone)
{
    unsigned code = get_u8(r);
    int32_t status = (int32_t)get_u32(r);
    struct fs_attr attr;
    size_t begin = res->data.n;
    put_u8(&res->data, (uint8_t)code);
    put_u32(&res->data, (uint32_t)status);
    if (status < 0 || code == KV_DELETE) return;
    kv__attr_decode(r, &attr);
    kv__attr_encode(&attr, &res->data);
    if (code != KV_GET) return;
    uint32_t size = get_u32(r), n = get_u32(r);
    struct reader ahead = *r;
    bool in_log = false;
    if (gone) skip(&ahead, n, &in_log);
    if (!in_log) {
        fill(r, res, size, n);
        return;
    }
    *r = ahead;
    res->data.n = begin + 1;
    put_u32(&res->data, (uint32_t)QE_GONE);
}

static int build(const struct kv_reply *draft, struct kv__result *res, bool gone)
{
    struct reader r = reader_of(draft->data);
    buf_clear(&res->data);
    res->npieces = 0;
    if (draft->status < 0 || draft->off == KV_TXN_FAILED) put_bytes(&res->data, get_bytes(&r, reader_left(&r)));
    while (!r.bad && reader_left(&r)) one_result(&r, res, gone);
    res->reply = *draft;
    res->reply.data = buf_slice(&res->data);
    return r.bad ? QE_FRAME : 0;
}

int kv__txn_reply(const struct kv_reply *draft, struct kv__result *res) { return build(draft, res, false); }
int kv__txn_reply_gone(const struct kv_reply *draft, struct kv__result *res) { return build(draft, res, true); }
