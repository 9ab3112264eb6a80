/* varint.h - numbers in rows: seven bits a byte, low bits first, the top bit says that more follow. Writers fill arrays
 * of a size that is known to suffice; the reader bounds itself by base/cursor.h. */
#ifndef QFS_FS_VARINT_H
#define QFS_FS_VARINT_H

#include "base/base.h"

#define VARINT_MAX 10u

/* Returns where the next byte goes. */
static inline uint8_t *varint_put(uint8_t *p, uint64_t v)
{
    for (; v >= 0x80; v >>= 7) *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

/* Zero with r->bad set at anything that is no number of 64 bits in its shortest form: equal rows have equal bytes. */
static inline uint64_t varint_get(struct reader *r)
{
    uint64_t v = 0;
    if (!r->bad && r->p < r->end && *r->p < 0x80) return *r->p++;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t c = get_u8(r);
        if (shift == 63 && c > 1) break;
        v |= (uint64_t)(c & 0x7f) << shift;
        if (c & 0x80) continue;
        if (c == 0 && shift != 0) break;
        return r->bad ? 0 : v;
    }
    r->bad = true;
    return 0;
}

/* Signed differences: small magnitudes become small numbers. */
static inline uint64_t zigzag(int64_t v) { return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63); }
static inline int64_t unzigzag(uint64_t v) { return (int64_t)((v >> 1) ^ (0 - (v & 1))); }

#endif
