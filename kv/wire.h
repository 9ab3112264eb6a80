/* wire.h - bytes that clients, servers and log entries exchange: the frames of kv/ and the batch of changes that is
 * one entry of the log. The forms of single operations and replies are kv/op.c's. Private to kv/ and its tests.
 *
 * Every decoder returns 0 or QE_FRAME and borrows from its input. Numbers are little-endian, text is u16 length +
 * bytes. */
#ifndef QFS_KV_WIRE_H
#define QFS_KV_WIRE_H

#include "kv/kv.h"

enum {
    KV_FRAME_HELLO = 64,        /* u32 version, u64 cluster (0: not known), u64 session (0: none). Also a ping */
    KV_FRAME_HELLO_ACK,         /* also at any time, when the members have changed: u32 version, u64 cluster, u64 node,
                                 * u64 leader (0: unknown), u8 n, n x (u64 id, text address) */
    KV_FRAME_REFUSED,           /* i32 error, text: the server will not serve this connection and closes it */
    KV_FRAME_CALL,              /* u64 call, u8 flags, u64 session, u64 seq, u64 floor, op */
    KV_FRAME_REPLY,             /* u64 call, u8 code, reply */
    KV_FRAME_REDIRECT,          /* u64 call, u64 leader (0: unknown), text address: ask there. The call was not
                                 * answered, and no later one of this connection will be */
    KV_FRAME_STATUS,            /* nothing */
    KV_FRAME_STATUS_RESP,       /* the text */
    KV_FRAME_WATCH,             /* u64 watch, u64 revision (0: from now on), u32 position, u8 flags, text key */
    KV_FRAME_EVENTS,            /* u64 watch, u64 revision, u32 position, events: all before that place are told now */
    KV_FRAME_WATCH_END,         /* u64 watch, i32 error, u64 revision, text: the server is done with it. QE_GONE: from
                                 * `revision` on events are there */
    KV_FRAME_WATCH_STOP,        /* u64 watch: the client is done with it */
    KV_FRAME_ADMIN = 80,        /* u8 what, u64 id, u32 wait in ms, text address; no HELLO needed */
    KV_FRAME_ADMIN_RESP,        /* i32 status, u64 leader (0: unknown), text its address, text for people */
};

#define KV_CALL_HEAD 33u
#define KV_CALL_RESENT 1u       /* flags: it may have been sent before */
#define KV_WIRE_SLACK (64u * 1024)      /* an operation's bytes beside its data and NAME2, at most */
#define KV_OP_BYTES_MAX (2 * KV_DATA_MAX + KV_WIRE_SLACK)

struct kv__hello {
    uint32_t version;
    uint64_t cluster, session;
};

struct kv__ack {
    uint32_t version;
    uint64_t cluster, node, leader;
    uint32_t n;
    struct raft_member members[RAFT_PEERS_MAX];
};

struct kv__call {
    uint64_t id, session, seq, floor;
    uint8_t flags;
};

#define KV_WATCH_PREFIX 1u      /* flags: all keys that begin so, not only this one */
#define KV_EVENTS_HEAD 20u

struct kv__watching {
    uint64_t id, revision;
    uint32_t position;
    uint8_t flags;
    struct slice key;
};

void kv__watch_encode(const struct kv__watching *w, struct buf *out);
int kv__watch_decode(struct slice in, struct kv__watching *w);
/* The head of an EVENTS frame; flags and key are not used. */
void kv__events_encode(const struct kv__watching *w, uint8_t out[KV_EVENTS_HEAD]);
int kv__events_decode(struct slice in, struct kv__watching *w, struct reader *events);
void kv__watch_end_encode(uint64_t id, int err, uint64_t revision, const char *text, struct buf *out);
int kv__watch_end_decode(struct slice in, uint64_t *id, int *err, uint64_t *revision, struct slice *text);
void kv__hello_encode(const struct kv__hello *h, struct buf *out);
int kv__hello_decode(struct slice in, struct kv__hello *h);
void kv__ack_encode(const struct kv__ack *a, struct buf *out);
int kv__ack_decode(struct slice in, struct kv__ack *a);
void kv__call_encode(const struct kv__call *c, uint8_t out[KV_CALL_HEAD]);      /* the op follows */
int kv__call_decode(struct slice in, struct kv__call *c, struct slice *op);
void kv__redirect_encode(uint64_t id, uint64_t leader, struct slice addr, struct buf *out);
int kv__redirect_decode(struct slice in, uint64_t *id, uint64_t *leader, struct slice *addr);
struct kv__admin_ask {
    enum kv_admin_what what;
    uint64_t id;
    uint32_t wait_ms;
    char addr[ADDR_MAX];
};
void kv__admin_encode(const struct kv__admin_ask *a, struct buf *out);
int kv__admin_decode(struct slice in, struct kv__admin_ask *a);
void kv__admin_resp_encode(int status, uint64_t leader, const char *addr, const char *text, struct buf *out);
int kv__admin_resp_decode(struct slice in, int *status, uint64_t *leader, char addr[ADDR_MAX], struct slice *text);
void kv__refused_encode(int err, const char *text, struct buf *out);
int kv__refused_decode(struct slice in, int *err, struct slice *text);

/* ---- one entry of the log: a batch of changes ---------------------------------------------------------------------
 *
 *   u8 version, i64 wall ns, u64 cluster time ns, u32 n, n x (u64 session, u64 seq, u64 floor, u32 length, op)
 *
 * An op whose first byte is 0 is a refusal (u8 0, i32 error): the leader would not execute the change (disk full, a
 * large compare that failed) but says so through the log, where an earlier try of the same number is known for
 * certain. */
#define KV_BATCH_VERSION 1u
#define KV_BATCH_HEAD 21u
#define KV_RECORD_HEAD 28u
#define KV_REFUSAL_BYTES 5u

struct kv__record {
    uint64_t session, seq, floor;
    struct slice op;
};

/* A batch under construction: one blob that grows in place. Zero-initialised it is empty. */
struct kv__batch {
    struct blob *blob;          /* n: bytes so far */
    size_t cap;
    uint32_t n;
};

void kv__batch_add(struct kv__batch *b, const struct kv__record *r);
void kv__batch_refuse(struct kv__batch *b, const struct kv__record *r, int err);      /* r->op is not used */
void kv__batch_stamp(struct kv__batch *b, int64_t wall, uint64_t cluster);  /* while the blob is not shared */
void kv__batch_fit(struct kv__batch *b);                    /* gives back memory that growing took too much */
void kv__batch_free(struct kv__batch *b);
int kv__batch_open(struct slice entry, int64_t *wall, uint64_t *cluster, uint32_t *n, struct reader *r);
int kv__batch_next(struct reader *r, struct kv__record *rec);
bool kv__refusal(struct slice op, int *err);                /* is it one, and which error */

/* ---- kv/op.c, private part ---- */
struct kv_op_info {
    const char *name;           /* NULL: no such code */
    enum kv_kind kind;
    unsigned args, reply;
};
const struct kv_op_info *kv__op_info(unsigned code);        /* NULL: no such code */
size_t kv__op_size(const struct kv_op *op);
/* All of a reply but the bytes of its data, which follow on the wire. */
void kv__reply_encode_head(enum kv_code code, const struct kv_reply *r, struct buf *out);
#define KV_ATTR_BYTES_MAX 128u
void kv__attr_encode(const struct fs_attr *a, struct buf *out);
void kv__attr_decode(struct reader *r, struct fs_attr *a);  /* sets r->bad */
void kv__dirent_encode(struct slice name, const struct fs_attr *attr, struct buf *out);
void kv__statfs_encode(const struct kv_statfs *s, struct buf *out);

#endif
