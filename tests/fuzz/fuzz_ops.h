/* fuzz_ops.h - operations out of a script: small inode numbers, few names, offsets around blocks, so that operations
 * meet each other's files; and any value at all now and then. And the other way round, for seeds. */
#ifndef QFS_TESTS_FUZZ_OPS_H
#define QFS_TESTS_FUZZ_OPS_H

#include "kv/wire.h"
#include "tests/fuzz/fuzz.h"

static const char *const fuzz_names[] = {"a", "b", "dir", "a/b", "dir/a", "dir/sub/deep", "user.x", ""};
#define FUZZ_NAMES (sizeof fuzz_names / sizeof *fuzz_names)

/* One of the few, or any bytes. */
static inline struct slice fuzz_name(struct reader *r)
{
    uint8_t k = get_u8(r);
    return k < 250 ? slice_str(fuzz_names[k % FUZZ_NAMES]) : fuzz_bytes(r);
}

/* Small, around a multiple of 4 KiB or of 1 MiB, or anything. */
static inline uint64_t fuzz_offset(struct reader *r)
{
    uint8_t k = get_u8(r);
    if (k < 128) return k;
    if (k < 192) return (uint64_t)(k - 128) * 4096 + get_u8(r) - 128;
    if (k < 224) return (uint64_t)(k - 192) * MIB + get_u8(r) - 128;
    return get_u64(r);
}

static inline void put_fuzz_offset(struct buf *b, uint64_t v)
{
    if (v < 128) {
        put_u8(b, (uint8_t)v);
        return;
    }
    put_u8(b, 255);
    put_u64(b, v);
}

/* Bytes of the script, or one byte many times (then *owned is to be freed). */
static inline struct slice fuzz_data(struct reader *r, uint8_t **owned)
{
    uint8_t k = get_u8(r);
    *owned = NULL;
    if (k < 200) return get_bytes(r, min_u64(k, reader_left(r)));
    size_t n = k < 250 ? get_u16(r) : (size_t)get_u16(r) * 16;
    *owned = xmalloc(n + 1);
    memset(*owned, get_u8(r), n);
    return slice_of(*owned, n);
}

/* A transaction of a few conditions and steps, now and then bytes that are none. */
static inline struct slice fuzz_txn(struct reader *r, uint8_t **owned)
{
    static const enum kv_code codes[] = {KV_PUT, KV_GET, KV_APPEND, KV_DELETE};
    static struct kv_txn t;
    struct buf b = {0};
    uint8_t k = get_u8(r);
    if (k >= 250) return fuzz_data(r, owned);
    t.nconds = k & 3;
    t.nsteps[KV_TXN_THEN] = k >> 2 & 3;
    t.nsteps[KV_TXN_OTHERWISE] = k >> 4 & 3;
    for (unsigned i = 0; i < t.nconds; i++) {
        t.conds[i] = (struct kv_cond){.kind = (enum kv_cond_kind)(KV_IF_ABSENT + get_u8(r) % 6), .key = fuzz_name(r)};
        t.conds[i].value = fuzz_bytes(r);
        t.conds[i].ino = fuzz_number(r);
        t.conds[i].version = fuzz_number(r);
    }
    for (unsigned branch = 0; branch < 2; branch++)
        for (unsigned i = 0; i < t.nsteps[branch]; i++) {
            struct kv_step *s = &t.steps[branch][i];
            *s = (struct kv_step){.code = codes[get_u8(r) % 4], .key = fuzz_name(r)};
            s->value = fuzz_bytes(r);
        }
    *owned = NULL;
    if (kv_txn_encode(&t, &b)) buf_clear(&b);
    *owned = b.p;
    return buf_slice(&b);
}

/* The fields that the code's row names, in its order. False: no such code. data's bytes are *owned's or the script's.
 */
static inline bool fuzz_op(struct reader *r, struct kv_op *op, uint8_t **owned)
{
    unsigned code = get_u8(r);
    const struct kv_op_info *info = kv__op_info(code);
    *owned = NULL;
    if (!info) return false;
    unsigned a = info->args;
    *op = (struct kv_op){.code = (enum kv_code)code};
    if (a & A_INO) op->ino = fuzz_number(r);
    if (a & A_INO2) op->ino2 = fuzz_number(r);
    if (a & A_OFF) op->off = fuzz_offset(r);
    if (a & A_OFF2) op->off2 = fuzz_offset(r);
    if (a & A_LEN) op->len = fuzz_offset(r);
    if (a & A_RDEV) op->rdev = fuzz_number(r);
    if (a & A_FLAGS) op->flags = (uint32_t)fuzz_number(r);
    if (a & A_MODE) op->mode = get_u16(r);
    if (a & A_OWNER) op->uid = op->gid = (uint32_t)fuzz_number(r);
    if (a & A_TIMES) op->atime = op->mtime = (int64_t)fuzz_number(r);
    if (a & A_NAME) op->name = fuzz_name(r);
    if (a & A_NAME2) op->name2 = fuzz_name(r);
    if (a & A_DATA) op->data = code == KV_TXN ? fuzz_txn(r, owned) : fuzz_data(r, owned);
    return true;
}

static inline void put_fuzz_name(struct buf *b, struct slice s)
{
    for (uint8_t i = 0; i < FUZZ_NAMES; i++) {
        if (!slice_eq(s, slice_str(fuzz_names[i]))) continue;
        put_u8(b, i);
        return;
    }
    put_u8(b, 255);
    put_fuzz_bytes(b, s);
}

/* What fuzz_op() reads as this operation; its data has less than 200 bytes. */
static inline void put_fuzz_op(struct buf *b, const struct kv_op *op)
{
    unsigned a = kv__op_info(op->code)->args;
    put_u8(b, (uint8_t)op->code);
    if (a & A_INO) put_fuzz_number(b, op->ino);
    if (a & A_INO2) put_fuzz_number(b, op->ino2);
    if (a & A_OFF) put_fuzz_offset(b, op->off);
    if (a & A_OFF2) put_fuzz_offset(b, op->off2);
    if (a & A_LEN) put_fuzz_offset(b, op->len);
    if (a & A_RDEV) put_fuzz_number(b, op->rdev);
    if (a & A_FLAGS) put_fuzz_number(b, op->flags);
    if (a & A_MODE) put_u16(b, (uint16_t)op->mode);
    if (a & A_OWNER) put_fuzz_number(b, op->uid);
    if (a & A_TIMES) put_fuzz_number(b, (uint64_t)op->atime);
    if (a & A_NAME) put_fuzz_name(b, op->name);
    if (a & A_NAME2) put_fuzz_name(b, op->name2);
    if (op->code == KV_TXN) put_u8(b, 250); /* its bytes as they are */
    if (a & A_DATA) put_fuzz_bytes(b, op->data);
}

/* A little life that makes something of every kind: files, directories, links, holes, shared extents, attributes. */
static inline const struct kv_op *fuzz_life(size_t *n)
{
    static struct kv_op v[32];
    static uint8_t big[190];
    static struct buf txn;
    static struct kv_txn t;
    size_t k = 0;
    memset(big, 'x', sizeof big);
    struct slice a = slice_str("a"), b = slice_str("b"), dir = slice_str("dir"), text = slice_str("text"),
                 much = slice_of(big, sizeof big);
    v[k++] = (struct kv_op){.code = KV_CREATE, .ino = 1, .mode = 0644, .name = a};
    v[k++] = (struct kv_op){.code = KV_WRITE, .ino = 2, .off = 4000, .data = much};
    v[k++] = (struct kv_op){.code = KV_WRITE, .ino = 2, .flags = 1, .data = much};
    v[k++] = (struct kv_op){.code = KV_MKNOD, .ino = 1, .mode = 040755, .name = dir};
    v[k++] = (struct kv_op){.code = KV_LINK, .ino = 2, .ino2 = 3, .name = a};
    v[k++] = (struct kv_op){.code = KV_PUT, .name = slice_str("dir/sub/deep"), .data = text};
    v[k++] = (struct kv_op){.code = KV_APPEND, .name = b, .data = much};
    v[k++] = (struct kv_op){.code = KV_APPEND, .name = b, .data = much};
    v[k++] = (struct kv_op){.code = KV_COPY_RANGE, .ino = 2, .ino2 = 6, .off = 4000, .off2 = 100000, .len = 190};
    v[k++] = (struct kv_op){.code = KV_FALLOCATE, .ino = 2, .flags = 3, .off = 4010, .len = 50};
    v[k++] = (struct kv_op){.code = KV_SETXATTR, .ino = 2, .name = slice_str("user.x"), .data = text};
    v[k++] = (struct kv_op){.code = KV_SETATTR, .ino = 2, .flags = FS_SET_SIZE, .len = 4100};
    v[k++] = (struct kv_op){.code = KV_RENAME, .ino = 1, .ino2 = 3, .name = b, .name2 = b};
    v[k++] = (struct kv_op){.code = KV_CAS, .name = a, .name2 = text, .data = text};
    t.nconds = t.nsteps[KV_TXN_THEN] = t.nsteps[KV_TXN_OTHERWISE] = 2;
    t.conds[0] = (struct kv_cond){.kind = KV_IF_ABSENT, .key = slice_str("new")};
    t.conds[1] = (struct kv_cond){.kind = KV_IF_VALUE, .key = a, .value = text};
    t.steps[KV_TXN_THEN][0] = (struct kv_step){.code = KV_PUT, .key = slice_str("new"), .value = text};
    t.steps[KV_TXN_THEN][1] = t.steps[KV_TXN_OTHERWISE][0] = (struct kv_step){.code = KV_GET, .key = a};
    t.steps[KV_TXN_OTHERWISE][1] = (struct kv_step){.code = KV_DELETE, .key = b};
    buf_clear(&txn);
    kv_txn_encode(&t, &txn);
    v[k++] = (struct kv_op){.code = KV_TXN, .data = buf_slice(&txn)};
    v[k++] = (struct kv_op){.code = KV_UNLINK, .ino = 1, .flags = 1, .name = a};
    v[k++] = (struct kv_op){.code = KV_UNLINK, .ino = 3, .flags = 1, .name = a};
    v[k++] = (struct kv_op){.code = KV_RELEASE, .data = slice_of("\2\0\0\0\0\0\0\0", 8)};
    v[k++] = (struct kv_op){.code = KV_DELETE, .name = slice_str("dir/sub/deep")};
    v[k++] = (struct kv_op){.code = KV_REMOVEXATTR, .ino = 2, .name = slice_str("user.x")};
    v[k++] = (struct kv_op){.code = KV_RMDIR, .ino = 1, .name = dir};
    *n = k;
    return v;
}

#endif
