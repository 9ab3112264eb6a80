/* wire.c - the frames of kv/ (their layout is the table in wire.h) and the batch of changes that makes a log entry.
 *
 * A batch grows in one blob while the changes of a loop turn arrive, so that an operation's bytes are copied once,
 * from the receive buffer to where the log, its followers and later readers take them. */
#include "kv/wire.h"

#include <stdlib.h>

#define BATCH_CAP_MIN 4096u

/* ---- frames ---- */

void kv__hello_encode(const struct kv__hello *h, struct buf *out)
{
    put_u32(out, h->version);
    put_u64(out, h->cluster);
    put_u64(out, h->session);
}

int kv__hello_decode(struct slice in, struct kv__hello *h)
{
    struct reader r = reader_of(in);
    h->version = get_u32(&r);
    h->cluster = get_u64(&r);
    h->session = get_u64(&r);
    return reader_done(&r) ? 0 : QE_FRAME;
}

void kv__ack_encode(const struct kv__ack *a, struct buf *out)
{
    check(a->n <= RAFT_PEERS_MAX);
    put_u32(out, a->version);
    put_u64(out, a->cluster);
    put_u64(out, a->node);
    put_u64(out, a->leader);
    put_u8(out, (uint8_t)a->n);
    for (uint32_t i = 0; i < a->n; i++) {
        put_u64(out, a->members[i].id);
        put_slice16(out, slice_str(a->members[i].addr));
    }
}

int kv__ack_decode(struct slice in, struct kv__ack *a)
{
    struct reader r = reader_of(in);
    *a = (struct kv__ack){.version = get_u32(&r)};
    a->cluster = get_u64(&r);
    a->node = get_u64(&r);
    a->leader = get_u64(&r);
    a->n = get_u8(&r);
    if (a->n > RAFT_PEERS_MAX) return QE_FRAME;
    for (uint32_t i = 0; i < a->n; i++) {
        a->members[i].id = get_u64(&r);
        struct slice addr = get_slice16(&r);
        if (r.bad || addr.n == 0 || addr.n >= ADDR_MAX || memchr(addr.p, 0, addr.n)) return QE_FRAME;
        memcpy(a->members[i].addr, addr.p, addr.n);
    }
    return reader_done(&r) ? 0 : QE_FRAME;
}

void kv__call_encode(const struct kv__call *c, uint8_t out[KV_CALL_HEAD])
{
    store_u64(out, c->id);
    out[8] = c->flags;
    store_u64(out + 9, c->session);
    store_u64(out + 17, c->seq);
    store_u64(out + 25, c->floor);
}

int kv__call_decode(struct slice in, struct kv__call *c, struct slice *op)
{
    struct reader r = reader_of(in);
    c->id = get_u64(&r);
    c->flags = get_u8(&r);
    c->session = get_u64(&r);
    c->seq = get_u64(&r);
    c->floor = get_u64(&r);
    *op = get_bytes(&r, reader_left(&r));
    return !r.bad && c->floor <= c->seq && op->n > 0 ? 0 : QE_FRAME;
}

void kv__redirect_encode(uint64_t id, uint64_t leader, struct slice addr, struct buf *out)
{
    put_u64(out, id);
    put_u64(out, leader);
    put_slice16(out, addr);
}

int kv__redirect_decode(struct slice in, uint64_t *id, uint64_t *leader, struct slice *addr)
{
    struct reader r = reader_of(in);
    *id = get_u64(&r);
    *leader = get_u64(&r);
    *addr = get_slice16(&r);
    bool fits = addr->n < ADDR_MAX && (addr->n == 0 || !memchr(addr->p, 0, addr->n));
    return reader_done(&r) && fits ? 0 : QE_FRAME;
}

void kv__refused_encode(int err, const char *text, struct buf *out)
{
    put_u32(out, (uint32_t)err);
    put_slice16(out, slice_str(text));
}

int kv__refused_decode(struct slice in, int *err, struct slice *text)
{
    struct reader r = reader_of(in);
    *err = (int32_t)get_u32(&r);
    *text = get_slice16(&r);
    return reader_done(&r) && *err < 0 ? 0 : QE_FRAME;
}

void kv__watch_encode(const struct kv__watching *w, struct buf *out)
{
    put_u64(out, w->id);
    put_u64(out, w->revision);
    put_u32(out, w->position);
    put_u8(out, w->flags);
    put_slice16(out, w->key);
}

int kv__watch_decode(struct slice in, struct kv__watching *w)
{
    struct reader r = reader_of(in);
    w->id = get_u64(&r);
    w->revision = get_u64(&r);
    w->position = get_u32(&r);
    w->flags = get_u8(&r);
    w->key = get_slice16(&r);
    return reader_done(&r) && w->key.n <= FS_KEY_MAX ? 0 : QE_FRAME;
}

void kv__events_encode(const struct kv__watching *w, uint8_t out[KV_EVENTS_HEAD])
{
    store_u64(out, w->id);
    store_u64(out + 8, w->revision);
    store_u32(out + 16, w->position);
}

int kv__events_decode(struct slice in, struct kv__watching *w, struct reader *events)
{
    *events = reader_of(in);
    *w = (struct kv__watching){.id = get_u64(events)};
    w->revision = get_u64(events);
    w->position = get_u32(events);
    return events->bad ? QE_FRAME : 0;
}

void kv__watch_end_encode(uint64_t id, int err, uint64_t revision, const char *text, struct buf *out)
{
    put_u64(out, id);
    put_u32(out, (uint32_t)err);
    put_u64(out, revision);
    put_slice16(out, slice_str(text));
}

int kv__watch_end_decode(struct slice in, uint64_t *id, int *err, uint64_t *revision, struct slice *text)
{
    struct reader r = reader_of(in);
    *id = get_u64(&r);
    *err = (int32_t)get_u32(&r);
    *revision = get_u64(&r);
    *text = get_slice16(&r);
    return reader_done(&r) && *err < 0 ? 0 : QE_FRAME;
}

static bool get_addr(struct reader *r, char out[ADDR_MAX])
{
    struct slice s = get_slice16(r);
    out[0] = 0;
    if (r->bad || s.n >= ADDR_MAX || (s.n && memchr(s.p, 0, s.n))) return false;
    if (s.n) memcpy(out, s.p, s.n);
    out[s.n] = 0;
    return true;
}

void kv__admin_encode(const struct kv__admin_ask *a, struct buf *out)
{
    put_u8(out, (uint8_t)a->what);
    put_u64(out, a->id);
    put_u32(out, a->wait_ms);
    put_slice16(out, slice_str(a->addr));
}

int kv__admin_decode(struct slice in, struct kv__admin_ask *a)
{
    struct reader r = reader_of(in);
    unsigned what = get_u8(&r);
    a->what = (enum kv_admin_what)what;
    a->id = get_u64(&r);
    a->wait_ms = get_u32(&r);
    if (!get_addr(&r, a->addr) || !reader_done(&r)) return QE_FRAME;
    if (what < KV_ADMIN_ADD || what > KV_ADMIN_TRANSFER || (a->id == 0 && what != KV_ADMIN_TRANSFER)) return QE_FRAME;
    return what != KV_ADMIN_ADD || a->addr[0] ? 0 : QE_FRAME;
}

void kv__admin_resp_encode(int status, uint64_t leader, const char *addr, const char *text, struct buf *out)
{
    put_u32(out, (uint32_t)status);
    put_u64(out, leader);
    put_slice16(out, slice_str(addr));
    put_slice16(out, slice_str(text));
}

int kv__admin_resp_decode(struct slice in, int *status, uint64_t *leader, char addr[ADDR_MAX], struct slice *text)
{
    struct reader r = reader_of(in);
    *status = (int32_t)get_u32(&r);
    *leader = get_u64(&r);
    bool ok = get_addr(&r, addr);
    *text = get_slice16(&r);
    return ok && reader_done(&r) && *status <= 0 ? 0 : QE_FRAME;
}

/* ---- batches ---- */

static uint8_t *extend(struct kv__batch *b, size_t more)
{
    size_t used = b->blob ? b->blob->n : KV_BATCH_HEAD;
    if (!b->blob || used + more > b->cap) {
        size_t cap = b->cap ? b->cap * 2 : BATCH_CAP_MIN;
        if (cap < used + more) cap = used + more;
        check(cap <= UINT32_MAX);
        if (b->blob) {
            check(b->blob->refs == 1);
            b->blob = xrealloc(b->blob, sizeof *b->blob + cap);
        } else {
            b->blob = blob_new(cap);
            memset(b->blob->p, 0, KV_BATCH_HEAD);
        }
        b->cap = cap;
    }
    b->blob->n = (uint32_t)(used + more);
    return b->blob->p + used;
}

static uint8_t *add_head(struct kv__batch *b, const struct kv__record *r, size_t op_bytes)
{
    uint8_t *p = extend(b, KV_RECORD_HEAD + op_bytes);
    store_u64(p, r->session);
    store_u64(p + 8, r->seq);
    store_u64(p + 16, r->floor);
    store_u32(p + 24, (uint32_t)op_bytes);
    b->n++;
    return p + KV_RECORD_HEAD;
}

void kv__batch_add(struct kv__batch *b, const struct kv__record *r)
{
    check(r->op.n > 0 && r->op.n <= UINT32_MAX);
    memcpy(add_head(b, r, r->op.n), r->op.p, r->op.n);
}

void kv__batch_refuse(struct kv__batch *b, const struct kv__record *r, int err)
{
    check(err < 0);
    uint8_t *p = add_head(b, r, KV_REFUSAL_BYTES);
    p[0] = 0;
    store_u32(p + 1, (uint32_t)err);
}

void kv__batch_stamp(struct kv__batch *b, int64_t wall, uint64_t cluster)
{
    check(b->blob && b->blob->refs == 1);
    uint8_t *p = b->blob->p;
    p[0] = KV_BATCH_VERSION;
    store_u64(p + 1, (uint64_t)wall);
    store_u64(p + 9, cluster);
    store_u32(p + 17, b->n);
}

void kv__batch_fit(struct kv__batch *b)
{
    if (!b->blob || b->cap == b->blob->n) return;
    b->cap = b->blob->n;
    b->blob = xrealloc(b->blob, sizeof *b->blob + b->cap);
}

void kv__batch_free(struct kv__batch *b)
{
    blob_unref(b->blob);
    *b = (struct kv__batch){0};
}

int kv__batch_open(struct slice entry, int64_t *wall, uint64_t *cluster, uint32_t *n, struct reader *r)
{
    *r = reader_of(entry);
    uint8_t version = get_u8(r);
    *wall = get_i64(r);
    *cluster = get_u64(r);
    *n = get_u32(r);
    if (r->bad) return QE_FRAME;
    return version == KV_BATCH_VERSION ? 0 : QE_VERSION;
}

int kv__batch_next(struct reader *r, struct kv__record *rec)
{
    rec->session = get_u64(r);
    rec->seq = get_u64(r);
    rec->floor = get_u64(r);
    rec->op = get_slice32(r);
    return r->bad ? QE_FRAME : 0;
}

bool kv__refusal(struct slice op, int *err)
{
    if (op.n != KV_REFUSAL_BYTES || op.p[0] != 0) return false;
    *err = (int32_t)load_u32(op.p + 1);
    return *err < 0;
}
