/* cursor.c - the bounded reader and writer: what is not inline. A reader never touches a byte past its end: what is asked beyond it yields
 * zeros and an empty slice, and sets the sticky error. A writer cannot fail (memory aside). */
#include "base/cursor.h"

#include "base/check.h"

struct slice get_bytes(struct reader *r, size_t n)
{
    const uint8_t *p = reader_take(r, n);
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
