/* raft.h - the one door of raft/: a node, which runs the consensus core, its log and its peers over the doors of
 * base/doors.h, and applies committed commands to a state machine. Production and simulator run this same code. */
#ifndef QFS_RAFT_H
#define QFS_RAFT_H

#include "raft/core.h"
#include "raft/log.h"

/* Frame types of raft/ (base/frame.h). */
enum {
    RAFT_FRAME_HELLO = 1,               /* u32 version, u64 cluster id (0: none yet), u64 from, u64 to, text16 address
                                         * of the sender */
    RAFT_FRAME_HELLO_ACK,
    RAFT_FRAME_MSG,                     /* raft_msg_encode + entries */
    RAFT_FRAME_SNAPSHOT,                /* raft_msg (SNAPSHOT) + chunk */
    RAFT_FRAME_SNAPSHOT_ACK,
    RAFT_FRAME_FETCH,                   /* payload repair: give me (index, off, n) */
    RAFT_FRAME_FETCH_RESP,
    RAFT_FRAME_DIGEST,                  /* u64 index, u64 state digest there: who differs from most stops itself */
};

/* Payload, by its place in the log. */
struct node_range {
    uint64_t index;
    uint32_t off, n;
};

/* The state machine above the node. All calls come from the node's loop. */
struct node_sm {
    void *arg;
    /* A committed command, in log order, each index once (NOOPs are not shown). `data` lives during the call. */
    void (*apply)(void *arg, uint64_t index, uint64_t term, struct slice data);
    /* All that the last commits allowed has been applied (a turn's end): send replies, run reads. */
    void (*applied)(void *arg, uint64_t index);
    /* A consistent image of the state at the index applied last, in O(1); read out in blocks of at most LOG_BLOCK_MAX.
     * snap_next: 1: a block was appended to *block (cleared by the caller), 0: there are no more. */
    void *(*snap_begin)(void *arg);
    int (*snap_next)(void *snap, struct buf *block);
    void (*snap_end)(void *snap);
    /* Replaces the whole state by an image. restore_block/restore_end: 0 or QE_CORRUPT. Until restore_end returns 0 the old
     * state must stay usable; restore_cancel drops what was begun. In restore_end the state machine reports all its payload
     * references with node_live_add. missing(): see node_restore_missing below. */
    void (*restore_begin)(void *arg);
    int (*restore_block)(void *arg, struct slice block);
    int (*restore_end)(void *arg, uint64_t index);
    void (*restore_cancel)(void *arg);
    /* Payload ranges that the image being restored refers to, all of them: before restore_end, so that the node can pull what
     * it lacks from a peer first. */
    void (*restore_ranges)(void *arg, void (*emit)(void *ctx, uint64_t index, uint32_t off, uint32_t len), void *ctx);
    /* Live payload ranges of one entry, for compaction (log.h). */
    void (*live_ranges)(void *arg, uint64_t index, void (*emit)(void *ctx, uint32_t off, uint32_t len), void *ctx);
    void (*role)(void *arg, enum raft_role role, uint64_t term, uint64_t leader);
    /* Content digest of the state at the index applied last. */
    uint64_t (*digest)(void *arg);
    /* The node cannot go on (disk error, digest differs): text for the user. The process should stop. */
    void (*fatal)(void *arg, int err, const char *text);
    /* A snapshot was installed without these bytes, ascending: no member has them any more. Comes after restore_end; v lives
     * during the call. May be NULL. */
    void (*lost)(void *arg, const struct node_range *v, size_t n);
};

/* What checkers see of a node, as it happens; they must not call back into it. Production has none. */
struct node_watch {
    void *arg;
    void (*stepped)(void *arg, struct raft *core, const struct raft_event *event);      /* the update is carried out next */
    void (*appended)(void *arg, const struct log_entry *e);     /* to the log, in memory so far */
    void (*applying)(void *arg, uint64_t index, uint64_t term, struct slice command);
    void (*applied)(void *arg, uint64_t index, uint64_t digest);        /* a turn's end */
    void (*restored)(void *arg, uint64_t index, uint64_t digest);       /* the state is that of a checkpoint or snapshot */
};

struct node_config {
    uint64_t id;
    /* The members a new cluster is formed with, or some of the existing ones (this node not among them: it waits to be
     * added). Once the log tells a configuration, only their addresses matter. May be empty then, or with `join`.
     * Numbers differ and are not 0. */
    struct raft_member members[RAFT_PEERS_MAX];
    uint32_t nmembers;
    bool join;                                  /* forms no cluster: waits to be added to one */
    char addr[ADDR_MAX];                        /* where others reach this node, if no list or configuration says so */
    uint32_t heartbeat_ms, election_ms;         /* 0: 100 and 300 */
    bool lease_reads;
    uint64_t checkpoint_bytes;                  /* log behind the checkpoint that makes a new one; 0: 64 MiB */
    bool checkpoint_eager;                      /* then, even where the new one is larger than that log */
    struct log_config log;                      /* cb is filled in by the node; zero fields get defaults */
    uint64_t seed;
    const struct trace *trace;
    const struct node_watch *watch;             /* NULL: nobody */
};

struct node;

/* Recovers from disk (blocking), restores and starts. On failure returns a negative error and a text in `why`. */
int node_new(struct disk *disk, struct net *net, struct clock *clock, const struct node_config *config,
             const struct node_sm *sm, struct node **out, struct buf *why);
/* Stops at once; what is under way is abandoned (crash-only). Connections are closed. */
void node_free(struct node *n);
/* A connection whose first frame was RAFT_FRAME_HELLO: the node takes it over. */
void node_accept(struct node *n, struct conn *c, struct slice hello);

/* Leader only. Takes the reference to `data`. The command's index, or QE_NOT_LEADER, QE_BUSY (window full: try again after
 * the next applied()), -EMSGSIZE (above LOG_ENTRY_MAX), -ENOSPC is the caller's matter (node_disk_full). */
int64_t node_propose(struct node *n, struct blob *data);
/* Asks when reads of the state are linearizable: done(0) is called from within the node's loop once the state holds
 * everything committed before the call; QE_NOT_LEADER otherwise. Many reads of one turn share one round. The caller calls
 * node_read_valid() after it has read and before it replies where `lease` was true. */
struct node_read {
    struct list link;
    void (*done)(struct node_read *r, int err, bool lease);
    void *arg;
    uint64_t id;
};
void node_read(struct node *n, struct node_read *r);
bool node_read_valid(struct node *n);
/* Payload at (index, off), repaired from peers if it is rotten or missing here. See log.h for the fields; done(err): 0,
 * QE_GONE (no peer has it), QE_CORRUPT. node_try_payload: 0 or -EAGAIN (use node_payload). */
int node_try_payload(struct node *n, uint64_t index, uint32_t off, uint32_t len, uint8_t *p);
void node_payload(struct node *n, struct log_read *r);
void node_live_add(struct node *n, uint64_t index, int64_t delta);
bool node_disk_full(const struct node *n);
void node_transfer(struct node *n, uint64_t to);    /* 0: anyone */

/* Changes of the configuration, by the leader, one at a time. node_change: the log index of its (first) entry, or a
 * negative error with a text in `why`: QE_NOT_LEADER; QE_BUSY and -EAGAIN (a learner lags): try again later; -EALREADY:
 * it is so; else it will not do. It is complete when node_change_done(index), asked from applied() on. */
enum node_change_what { NODE_CHANGE_ADD = 1, NODE_CHANGE_PROMOTE = 2, NODE_CHANGE_REMOVE = 3 };
struct node_change {
    enum node_change_what what;
    uint64_t id;
    char addr[ADDR_MAX];                /* ADD: as a learner */
};
int64_t node_change(struct node *n, const struct node_change *change, struct buf *why);
bool node_change_done(const struct node *n, int64_t index);
/* Rises with each configuration that has been applied: when it does, clients want to know. */
uint64_t node_members_index(const struct node *n);
/* The configuration in effect, with the addresses in use. */
uint32_t node_members(const struct node *n, struct raft_member out[RAFT_PEERS_MAX]);

struct node_status {
    struct raft_status raft;
    struct log_stats log;
    uint64_t cluster_id;
    uint64_t digest_index, digest;      /* state digest at a recent index */
    uint64_t checkpoint_index;
    uint64_t disk_total, disk_avail;
    uint64_t snapshots_sent, snapshots_installed, repairs;
    bool damaged;
    uint64_t peers_connected;
    /* A snapshot that is being installed waits for these members: they may have bytes that the others have lost, and do not
     * say so. */
    uint32_t nwaits;
    uint64_t waits_for[RAFT_PEERS_MAX], waits_bytes;
};
void node_status(struct node *n, struct node_status *out);
/* Fills in where node id is reached; false: not known. */
bool node_member(const struct node *n, uint64_t id, struct raft_member *out);
const char *raft_standing_name(enum raft_standing s);

#endif
