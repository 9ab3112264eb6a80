/* cursor.h - bounded little-endian reader and writer; all bytes of wire and disk pass through them.
 *
 * The reader has a sticky error: after the first read past the end every get returns zero and `bad` stays true, so a
 * decoder reads all its fields and asks once, with reader_done(). */
#ifndef QFS_CURSOR_H
#define QFS_CURSOR_H

#include "base/buf.h"

/* Fixed places in memory, for headers and for keys (big-endian keeps byte order = number order). */
static inline uint16_t load_u16(const void *p) { uint16_t v; memcpy(&v, p, 2); return v; }
static inline uint32_t load_u32(const void *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static inline uint64_t load_u64(const void *p) { uint64_t v; memcpy(&v, p, 8); return v; }
static inline void store_u16(void *p, uint16_t v) { memcpy(p, &v, 2); }
static inline void store_u32(void *p, uint32_t v) { memcpy(p, &v, 4); }
static inline void store_u64(void *p, uint64_t v) { memcpy(p, &v, 8); }
static inline uint64_t load_be64(const void *p) { return __builtin_bswap64(load_u64(p)); }
static inline void store_be64(void *p, uint64_t v) { store_u64(p, __builtin_bswap64(v)); }

struct reader {
    const uint8_t *p, *end;
    bool bad;
};

static inline struct reader reader_of(struct slice s) { return (struct reader){s.p, s.n ? s.p + s.n : s.p, false}; }
static inline size_t reader_left(const struct reader *r) { return (size_t)(r->end - r->p); }
/* The next n bytes, or NULL, and from then on always NULL. */
static inline const uint8_t *reader_take(struct reader *r, size_t n)
{
    if (r->bad || n > reader_left(r)) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *p = r->p;
    if (n) r->p += n;
    return p;
}
static inline uint8_t get_u8(struct reader *r)
{
    const uint8_t *p = reader_take(r, 1);
    return p ? *p : 0;
}
static inline uint16_t get_u16(struct reader *r)
{
    const uint8_t *p = reader_take(r, 2);
    return p ? load_u16(p) : 0;
}
static inline uint32_t get_u32(struct reader *r)
{
    const uint8_t *p = reader_take(r, 4);
    return p ? load_u32(p) : 0;
}
static inline uint64_t get_u64(struct reader *r)
{
    const uint8_t *p = reader_take(r, 8);
    return p ? load_u64(p) : 0;
}
static inline int64_t get_i64(struct reader *r) { return (int64_t)get_u64(r); }
struct slice get_bytes(struct reader *r, size_t n);        /* borrows from the input */
struct slice get_slice16(struct reader *r);                /* u16 length, bytes */
struct slice get_slice32(struct reader *r);                /* u32 length, bytes */
/* True if nothing was read past the end and nothing is left over. */
static inline bool reader_done(const struct reader *r) { return !r->bad && r->p == r->end; }

static inline void put_u8(struct buf *b, uint8_t v) { *buf_extend(b, 1) = v; }
static inline void put_u16(struct buf *b, uint16_t v) { store_u16(buf_extend(b, 2), v); }
static inline void put_u32(struct buf *b, uint32_t v) { store_u32(buf_extend(b, 4), v); }
static inline void put_u64(struct buf *b, uint64_t v) { store_u64(buf_extend(b, 8), v); }
static inline void put_i64(struct buf *b, int64_t v) { put_u64(b, (uint64_t)v); }
void put_bytes(struct buf *b, struct slice s);
void put_slice16(struct buf *b, struct slice s);           /* check()s that it fits */
void put_slice32(struct buf *b, struct slice s);

/* Numbers in keys whose byte order is number order: a byte that counts the bytes behind it, then those of the number,
 * big-endian, without leading zeros. At most ORDERED_MAX bytes. */
#define ORDERED_MAX 9u
static inline unsigned store_ordered(uint8_t *p, uint64_t v)
{
    unsigned n = v ? (unsigned)(71 - __builtin_clzll(v)) / 8 : 0;
    p[0] = (uint8_t)n;
    for (unsigned i = n; i > 0; i--, v >>= 8) p[i] = (uint8_t)v;
    return n + 1;
}
/* How many bytes the number at the beginning took; 0: there is none in its one form. */
static inline unsigned load_ordered(struct slice in, uint64_t *v)
{
    unsigned n = in.n ? in.p[0] : ORDERED_MAX;
    if (n >= ORDERED_MAX || in.n < n + 1u || (n > 0 && in.p[1] == 0)) return 0;
    *v = 0;
    for (unsigned i = 1; i <= n; i++) *v = *v << 8 | in.p[i];
    return n + 1;
}
static inline uint32_t load_be32(const void *p) { return __builtin_bswap32(load_u32(p)); }
static inline void store_be32(void *p, uint32_t v) { store_u32(p, __builtin_bswap32(v)); }

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "formats and machines are little-endian");

#endif
