/* op.c - the wire form of operations and replies, after the table KV_OPS.
 *
 * An operation is its code (u8) and then the fields its table row names, in this order: u64 ino, ino2, off, off2,
 * len, rdev; u32 flags, mode; u32 uid, gid; i64 atime, mtime; u32 length + bytes of name, name2, data. A reply is i32
 * status, u64 index and, where status >= 0, the row's reply fields: attributes, u64 off, u32 length + bytes of data.
 *
 * Attributes are kept small (they are stored with every remembered answer and sent with every directory entry):
 * numbers as LEB128, times as differences to ctime.
 *
 * Decoders take bytes from anywhere: what does not fit exactly is QE_FRAME. */
#include "kv/wire.h"

static const struct kv_op_info OPS[] = {
#define X(name, num, kind, args, reply) [num] = {#name, kind, args, reply},
    KV_OPS(X)
#undef X
};

const struct kv_op_info *kv__op_info(unsigned code)
{
    if (code >= sizeof OPS / sizeof *OPS || !OPS[code].name) return NULL;
    return &OPS[code];
}

const char *kv_code_name(enum kv_code code)
{
    const struct kv_op_info *info = kv__op_info(code);
    return info ? info->name : NULL;
}

bool kv_is_change(enum kv_code code)
{
    const struct kv_op_info *info = kv__op_info(code);
    return info && info->kind == KV_CHANGE;
}

/* ---- operations ---- */

size_t kv__op_size(const struct kv_op *op)
{
    const struct kv_op_info *info = kv__op_info(op->code);
    check(info);
    unsigned a = info->args;
    size_t u64s = (size_t)__builtin_popcount(a & (A_INO | A_INO2 | A_OFF | A_OFF2 | A_LEN | A_RDEV | A_OWNER));
    size_t n = 1 + 8 * u64s + 4 * (size_t)__builtin_popcount(a & (A_FLAGS | A_MODE));
    if (a & A_TIMES) n += 16;
    if (a & A_NAME) n += 4 + op->name.n;
    if (a & A_NAME2) n += 4 + op->name2.n;
    if (a & A_DATA) n += 4 + op->data.n;
    return n;
}

void kv_op_encode(const struct kv_op *op, struct buf *out, size_t *data_at)
{
    const struct kv_op_info *info = kv__op_info(op->code);
    check(info);
    unsigned a = info->args;
    size_t begin = out->n;
    buf_reserve(out, kv__op_size(op));
    put_u8(out, (uint8_t)op->code);
    if (a & A_INO) put_u64(out, op->ino);
    if (a & A_INO2) put_u64(out, op->ino2);
    if (a & A_OFF) put_u64(out, op->off);
    if (a & A_OFF2) put_u64(out, op->off2);
    if (a & A_LEN) put_u64(out, op->len);
    if (a & A_RDEV) put_u64(out, op->rdev);
    if (a & A_FLAGS) put_u32(out, op->flags);
    if (a & A_MODE) put_u32(out, op->mode);
    if (a & A_OWNER) {
        put_u32(out, op->uid);
        put_u32(out, op->gid);
    }
    if (a & A_TIMES) {
        put_i64(out, op->atime);
        put_i64(out, op->mtime);
    }
    if (a & A_NAME) put_slice32(out, op->name);
    if (a & A_NAME2) put_slice32(out, op->name2);
    if (data_at) *data_at = out->n - begin + (a & A_DATA ? 4 : 0);
    if (a & A_DATA) put_slice32(out, op->data);
}

int kv_op_decode(struct slice in, struct kv_op *out)
{
    struct reader r = reader_of(in);
    unsigned code = get_u8(&r);
    const struct kv_op_info *info = kv__op_info(code);
    if (!info) return QE_FRAME;
    unsigned a = info->args;
    *out = (struct kv_op){.code = (enum kv_code)code};
    if (a & A_INO) out->ino = get_u64(&r);
    if (a & A_INO2) out->ino2 = get_u64(&r);
    if (a & A_OFF) out->off = get_u64(&r);
    if (a & A_OFF2) out->off2 = get_u64(&r);
    if (a & A_LEN) out->len = get_u64(&r);
    if (a & A_RDEV) out->rdev = get_u64(&r);
    if (a & A_FLAGS) out->flags = get_u32(&r);
    if (a & A_MODE) out->mode = get_u32(&r);
    if (a & A_OWNER) {
        out->uid = get_u32(&r);
        out->gid = get_u32(&r);
    }
    if (a & A_TIMES) {
        out->atime = get_i64(&r);
        out->mtime = get_i64(&r);
    }
    if (a & A_NAME) out->name = get_slice32(&r);
    if (a & A_NAME2) out->name2 = get_slice32(&r);
    if (a & A_DATA) out->data = get_slice32(&r);
    bool fits = out->name.n <= KV_DATA_MAX && out->name2.n <= KV_DATA_MAX && out->data.n <= KV_DATA_MAX;
    return reader_done(&r) && fits ? 0 : QE_FRAME;
}

/* ---- attributes ---- */

static uint8_t *store_varint(uint8_t *p, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

static uint64_t get_varint(struct reader *r)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64 && r->p < r->end; shift += 7) {
        uint8_t b = *r->p++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) return v;
    }
    r->bad = true;
    return 0;
}

/* The difference of two times, small for near ones of either order; wraps, so that every pair comes back. */
static uint64_t times_apart(int64_t a, int64_t b)
{
    uint64_t d = (uint64_t)a - (uint64_t)b;
    return d << 1 ^ (d >> 63 ? UINT64_MAX : 0);
}

static int64_t time_at(int64_t base, uint64_t apart)
{
    uint64_t d = apart >> 1 ^ (apart & 1 ? UINT64_MAX : 0);
    return (int64_t)((uint64_t)base + d);
}

void kv__attr_encode(const struct fs_attr *a, struct buf *out)
{
    buf_reserve(out, KV_ATTR_BYTES_MAX);
    uint8_t *begin = out->p + out->n, *p = begin;
    *p++ = a->has_xattr;
    store_u64(p, (uint64_t)a->ctime);
    p = store_varint(p + 8, a->ino);
    p = store_varint(p, a->mode);
    p = store_varint(p, a->nlink);
    p = store_varint(p, a->uid);
    p = store_varint(p, a->gid);
    p = store_varint(p, a->rdev);
    p = store_varint(p, a->size);
    p = store_varint(p, a->blocks);
    p = store_varint(p, a->version);
    p = store_varint(p, times_apart(a->atime, a->ctime));
    p = store_varint(p, times_apart(a->mtime, a->ctime));
    p = store_varint(p, times_apart(a->btime, a->ctime));
    out->n += (size_t)(p - begin);
}

void kv__attr_decode(struct reader *r, struct fs_attr *a)
{
    a->has_xattr = get_u8(r) != 0;
    a->ctime = get_i64(r);
    a->ino = get_varint(r);
    a->mode = (uint32_t)get_varint(r);
    a->nlink = (uint32_t)get_varint(r);
    a->uid = (uint32_t)get_varint(r);
    a->gid = (uint32_t)get_varint(r);
    a->rdev = get_varint(r);
    a->size = get_varint(r);
    a->blocks = get_varint(r);
    a->version = get_varint(r);
    a->atime = time_at(a->ctime, get_varint(r));
    a->mtime = time_at(a->ctime, get_varint(r));
    a->btime = time_at(a->ctime, get_varint(r));
}

/* ---- replies ---- */

void kv__reply_encode_head(enum kv_code code, const struct kv_reply *r, struct buf *out)
{
    const struct kv_op_info *info = kv__op_info(code);
    check(info);
    put_u32(out, (uint32_t)r->status);
    put_u64(out, r->index);
    if (r->status < 0) return;
    if (info->reply & R_ATTR) kv__attr_encode(&r->attr, out);
    if (info->reply & R_OFF) put_u64(out, r->off);
    if (info->reply & R_DATA) put_u32(out, (uint32_t)r->data.n);
}

void kv_reply_encode(enum kv_code code, const struct kv_reply *r, struct buf *out)
{
    kv__reply_encode_head(code, r, out);
    if (r->status >= 0 && kv__op_info(code)->reply & R_DATA) put_bytes(out, r->data);
}

int kv_reply_decode(enum kv_code code, struct slice in, struct kv_reply *out)
{
    const struct kv_op_info *info = kv__op_info(code);
    if (!info) return QE_FRAME;
    struct reader r = reader_of(in);
    *out = (struct kv_reply){.status = (int32_t)get_u32(&r)};
    out->index = get_u64(&r);
    if (out->status >= 0) {
        if (info->reply & R_ATTR) kv__attr_decode(&r, &out->attr);
        if (info->reply & R_OFF) out->off = get_u64(&r);
        if (info->reply & R_DATA) out->data = get_slice32(&r);
    }
    return reader_done(&r) ? 0 : QE_FRAME;
}

/* ---- what is inside a reply's data ---- */

void kv__statfs_encode(const struct kv_statfs *s, struct buf *out)
{
    put_u64(out, s->total);
    put_u64(out, s->avail);
    put_u64(out, s->used.files);
    put_u64(out, s->used.dirs);
    put_u64(out, s->used.bytes);
}

int kv_statfs_decode(struct slice in, struct kv_statfs *out)
{
    struct reader r = reader_of(in);
    out->total = get_u64(&r);
    out->avail = get_u64(&r);
    out->used.files = get_u64(&r);
    out->used.dirs = get_u64(&r);
    out->used.bytes = get_u64(&r);
    return reader_done(&r) ? 0 : QE_FRAME;
}

void kv__dirent_encode(struct slice name, const struct fs_attr *attr, struct buf *out)
{
    put_slice16(out, name);
    kv__attr_encode(attr, out);
}

bool kv_dirent_next(struct reader *r, struct slice *name, struct fs_attr *attr)
{
    if (r->bad || reader_left(r) == 0) return false;
    *name = get_slice16(r);
    kv__attr_decode(r, attr);
    return !r->bad;
}
