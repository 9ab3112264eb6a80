/* msg.c - the wire form of a consensus message (without entry bytes).
 *
 *   0  u8   type
 *   1  u8   bits: 1 reject, 2 transfer, 4 fenced, 8 lease
 *   2  u64  from, to, term, index, log_term, commit, last, round
 *  66  u32  n
 *  70       APPEND: n times (u64 term, u8 kind, u32 length, bytes); SNAPSHOT: the chunk. Both are the driver's.
 *
 * Decoding refuses what no encoder writes: unknown types and bits, entries where none belong, more entries than the
 * rest could hold. */
#include "raft/core_priv.h"

enum { BIT_REJECT = 1, BIT_TRANSFER = 2, BIT_FENCED = 4, BIT_LEASE = 8, BITS = 15 };
#define ENTRY_BYTES_MIN 13u

void raft_msg_encode(const struct raft_msg *m, struct buf *out)
{
    check(m->type >= 1 && m->type <= RAFT_MSG_TYPE_MAX && (m->n == 0 || m->type == RAFT_MSG_APPEND));
    put_u8(out, m->type);
    put_u8(out, (uint8_t)((m->reject ? BIT_REJECT : 0) | (m->transfer ? BIT_TRANSFER : 0) |
                          (m->fenced ? BIT_FENCED : 0) | (m->lease ? BIT_LEASE : 0)));
    put_u64(out, m->from);
    put_u64(out, m->to);
    put_u64(out, m->term);
    put_u64(out, m->index);
    put_u64(out, m->log_term);
    put_u64(out, m->commit);
    put_u64(out, m->last);
    put_u64(out, m->round);
    put_u32(out, m->n);
}

int raft_msg_decode(struct slice in, struct raft_msg *out, struct slice *rest)
{
    struct reader r = reader_of(in);
    uint8_t type = get_u8(&r), bits = get_u8(&r);
    *out = (struct raft_msg){
        .type = type,
        .reject = bits & BIT_REJECT,
        .transfer = bits & BIT_TRANSFER,
        .fenced = bits & BIT_FENCED,
        .lease = bits & BIT_LEASE,
    };
    out->from = get_u64(&r);
    out->to = get_u64(&r);
    out->term = get_u64(&r);
    out->index = get_u64(&r);
    out->log_term = get_u64(&r);
    out->commit = get_u64(&r);
    out->last = get_u64(&r);
    out->round = get_u64(&r);
    out->n = get_u32(&r);
    if (r.bad || type < 1 || type > RAFT_MSG_TYPE_MAX || (bits & ~BITS)) return QE_FRAME;
    size_t left = reader_left(&r);
    if (type == RAFT_MSG_APPEND ? out->n > left / ENTRY_BYTES_MIN : out->n != 0) return QE_FRAME;
    if (type != RAFT_MSG_APPEND && type != RAFT_MSG_SNAPSHOT && left) return QE_FRAME;
    if (type == RAFT_MSG_APPEND && out->n == 0 && left) return QE_FRAME;
    *rest = slice_of(r.p, left);
    return 0;
}
