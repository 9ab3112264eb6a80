/* control.h - what the harness and a raft_node say to each other, on a connection of their own: frames (base/frame.h),
 * numbers little-endian. */
#ifndef QFS_TESTS_LABREAL_CONTROL_H
#define QFS_TESTS_LABREAL_CONTROL_H

enum {
    CTL_WATCH = 200, /* from the harness, first: tell what you have applied, from the beginning on */
    CTL_OFFER,       /* u64 request, u64 command, u32 bytes that it is longer than these 8 */
    CTL_STATE,       /* u64 request */
    CTL_OFFER_RESP,  /* u64 request, u8 accepted, u64 visible index, u64 term */
    CTL_STATE_RESP,  /* u64 request, u8 it leads, u64 term */
    CTL_APPLIED,     /* u64 visible index of the first, then u64 for each command */
};

#endif
