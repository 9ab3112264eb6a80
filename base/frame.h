/* frame.h - the frame that every connection carries: a 20-byte header and a payload.
 *
 *   0  u32  magic "QFS1"
 *   4  u8   type (see the users: raft/ takes 1..63, kv/ 64..127, mr/ 128..191)
 *   5  u8   reserved, zero
 *   6  u16  group: the Raft group, 0 today
 *   8  u32  payload length, at most FRAME_PAYLOAD_MAX
 *  12  u32  CRC32C of the payload
 *  16  u32  CRC32C of the 16 header bytes before
 */
#ifndef QFS_FRAME_H
#define QFS_FRAME_H

#include "base/buf.h"

#define FRAME_HEADER_BYTES 20u
#define FRAME_PAYLOAD_MAX (16u * 1024 * 1024)

struct frame {
    uint8_t type;
    uint16_t group;
    struct slice payload;
};

/* Writes the header of a frame whose payload is the concatenation of the nv slices. -EMSGSIZE above the limit. */
int frame_header(uint8_t out[FRAME_HEADER_BYTES], uint8_t type, uint16_t group, const struct slice *v, unsigned nv);

/* Looks at the start of a byte stream. Returns the bytes a whole frame takes (header and payload) once the header is
 * there, 0 while more header bytes are needed, QE_FRAME if these bytes are no frame header. */
int64_t frame_peek(struct slice in);

/* Decodes one whole frame of exactly in.n bytes (as frame_peek said). QE_FRAME, or QE_CORRUPT where the payload's CRC
 * does not match. The payload borrows from `in`. */
int frame_decode(struct slice in, struct frame *out);

#endif
