/* cursor.c - the bounded reader and writer. A reader never touches a byte past its end: what is asked beyond it yields
 * zeros and an empty slice, and sets the sticky error. A writer cannot fail (memory aside). */
#include "base/cursor.h"

#include "base/check.h"

/* The next n bytes, or NULL, and from then on always NULL. */
static const uint8_t *take(struct reader *r, size_t n)
{
    if (r->bad || n > reader_left(r)) {
        r->bad = true;
        return NULL;
    }
    const uint8_t *p = r->p;
    if (n) r->p += n;
    return p;
}

uint8_t get_u8(struct reader *r)
{
    const uint8_t *p = take(r, 1);
    return p ? *p : 0;
}

uint16_t get_u16(struct reader *r)
{
    const uint8_t *p = take(r, 2);
    return p ? load_u16(p) : 0;
}

uint32_t get_u32(struct reader *r)
{
    const uint8_t *p = take(r, 4);
    return p ? load_u32(p) : 0;
}

uint64_t get_u64(struct reader *r)
{
    const uint8_t *p = take(r, 8);
    return p ? load_u64(p) : 0;
}

struct slice get_bytes(struct reader *r, size_t n)
{
    const uint8_t *p = take(r, n);
    return (struct slice){p, p ? n : 0};
}

struct slice get_slice16(struct reader *r)
{
    size_t n = get_u16(r);
    return get_bytes(r, n);
}

struct slice get_slice32(struct reader *r)
{
    size_t n = get_u32(r);
    return get_bytes(r, n);
}

void put_u8(struct buf *b, uint8_t v) { *buf_extend(b, 1) = v; }
void put_u16(struct buf *b, uint16_t v) { store_u16(buf_extend(b, 2), v); }
void put_u32(struct buf *b, uint32_t v) { store_u32(buf_extend(b, 4), v); }
void put_u64(struct buf *b, uint64_t v) { store_u64(buf_extend(b, 8), v); }
void put_bytes(struct buf *b, struct slice s) { buf_append(b, s.p, s.n); }

void put_slice16(struct buf *b, struct slice s)
{
    check(s.n <= UINT16_MAX);
    put_u16(b, (uint16_t)s.n);
    put_bytes(b, s);
}

void put_slice32(struct buf *b, struct slice s)
{
    check(s.n <= UINT32_MAX);
    put_u32(b, (uint32_t)s.n);
    put_bytes(b, s);
}
