/* frame.c - the wire frame: header written and checked, payload checked.
 *
 * Happy path of a receiver: frame_peek() until it tells a size, wait for that many bytes, frame_decode(). Failure:
 * bytes that are no header (QE_FRAME) leave no way to find the next frame, so the connection is closed; the same goes
 * for a damaged payload (QE_CORRUPT). */
#include "base/frame.h"

#include "base/crc.h"
#include "base/cursor.h"
#include "base/err.h"

static const uint8_t magic[4] = {'Q', 'F', 'S', '1'};

enum { AT_TYPE = 4, AT_RESERVED = 5, AT_GROUP = 6, AT_LENGTH = 8, AT_PAYLOAD_CRC = 12, AT_HEADER_CRC = 16 };
_Static_assert(AT_HEADER_CRC + 4 == FRAME_HEADER_BYTES, "the header's CRC is its last field");

int frame_header(uint8_t out[FRAME_HEADER_BYTES], uint8_t type, uint16_t group, const struct slice *v, unsigned nv)
{
    size_t n = 0;
    for (unsigned i = 0; i < nv; i++) {
        if (v[i].n > FRAME_PAYLOAD_MAX - n) return -EMSGSIZE;
        n += v[i].n;
    }
    uint32_t crc = 0;
    for (unsigned i = 0; i < nv; i++) crc = crc32c(crc, v[i].p, v[i].n);
    memcpy(out, magic, sizeof(magic));
    out[AT_TYPE] = type;
    out[AT_RESERVED] = 0;
    store_u16(out + AT_GROUP, group);
    store_u32(out + AT_LENGTH, (uint32_t)n);
    store_u32(out + AT_PAYLOAD_CRC, crc);
    store_u32(out + AT_HEADER_CRC, crc32c(0, out, AT_HEADER_CRC));
    return 0;
}

int64_t frame_peek(struct slice in)
{
    /* A foreign protocol shows in its first bytes; it may never send 20. */
    size_t seen = in.n < sizeof(magic) ? in.n : sizeof(magic);
    if (seen && memcmp(in.p, magic, seen) != 0) return QE_FRAME;
    if (in.n < FRAME_HEADER_BYTES) return 0;
    if (load_u32(in.p + AT_HEADER_CRC) != crc32c(0, in.p, AT_HEADER_CRC)) return QE_FRAME;
    if (in.p[AT_RESERVED] != 0) return QE_FRAME;
    uint32_t n = load_u32(in.p + AT_LENGTH);
    if (n > FRAME_PAYLOAD_MAX) return QE_FRAME;
    return (int64_t)FRAME_HEADER_BYTES + n;
}

int frame_decode(struct slice in, struct frame *out)
{
    int64_t whole = frame_peek(in);
    if (whole <= 0 || (uint64_t)whole != in.n) return QE_FRAME;
    struct slice payload = slice_sub(in, FRAME_HEADER_BYTES, in.n - FRAME_HEADER_BYTES);
    if (crc32c(0, payload.p, payload.n) != load_u32(in.p + AT_PAYLOAD_CRC)) return QE_CORRUPT;
    *out = (struct frame){.type = in.p[AT_TYPE], .group = load_u16(in.p + AT_GROUP), .payload = payload};
    return 0;
}
