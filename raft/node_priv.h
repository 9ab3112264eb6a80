/* node_priv.h - what the files of the node (node*.c) share. Private to raft/. */
#ifndef QFS_RAFT_NODE_PRIV_H
#define QFS_RAFT_NODE_PRIV_H

#include <stdlib.h>

#include "raft/raft.h"

#define NODE_WIRE_VERSION 3u
#define NODE_PEERS (2 * RAFT_PEERS_MAX)  /* members, and guests: nodes whose configuration this node does not share */
#define NODE_DEFERRED_MAX 64            /* messages that wait for entries from disk, per peer */
#define NODE_INFLIGHT_BYTES (32u * MIB) /* proposed and not applied, at the leader */
#define NODE_INFLIGHT_ENTRIES 1024u
#define NODE_APPLY_BYTES (8u * MIB)     /* applied in one turn before the loop gets its turn again */
#define NODE_DIGEST_EVERY 1024u         /* state digests are compared at indexes divisible by this */
#define NODE_DIGESTS 16u
#define SNAP_WINDOW 4u                  /* blocks under way to one follower */
#define SNAP_RETRY_NS (1 * NS_PER_S)
#define PULL_WINDOW 64u                 /* payload ranges under way from the leader while a snapshot is installed */
#define PULL_BYTES  (4u * MIB)          /* and their bytes, unless it is one range */
#define PULL_RETRY_NS (1 * NS_PER_S)    /* ranges that a silent member may have are asked for again; twice as late each time, */
#define PULL_RETRY_NS_MAX (16 * NS_PER_S)   /* up to this, or as soon as somebody connects */
#define FETCH_TIMEOUT_NS (2 * NS_PER_S)
#define FETCH_BYTES_MAX (8u * MIB)
#define FETCH_HALVES_MIN 256u           /* ranges that nobody has as a whole are halved down to this */

struct peer;

/* Of a state: what it is at an index. */
struct node_digest {
    uint64_t index, value;
};

/* A message whose entries had to come back from disk first; those behind it wait so that their order stays. */
struct deferred {
    struct list link;
    struct peer *peer;
    struct raft_msg msg;
    struct log_fetch fetch;
    bool fetching, ready;
};

/* The newest checkpoint on its way to a follower that lags behind the log. */
struct snap_out {
    bool active;
    uint64_t index, term;
    uint32_t blocks, acked, next;       /* next block to read; acked: the follower has all before it */
    bool reading;                       /* a block is being read: one at a time keeps them in order */
    uint64_t progress_at;               /* when the follower last asked for something new */
};

struct peer {
    struct node *node;
    bool used, is_member;               /* a guest is no member: kept while its connection to us lasts */
    struct raft_member member;
    struct conn *out, *in;              /* we dial `out` and send on it; the peer's own messages come on `in` */
    bool up;                            /* out: HELLO was answered */
    uint64_t backoff_ns;
    struct timer redial;
    struct list deferred;
    uint32_t ndeferred;
    struct snap_out snap;
    uint64_t in_cluster;                /* the cluster id its HELLO named */
    struct node_digest told;            /* its state's, the latest it told */
};

/* Payload asked from a peer: for a repair, or while a snapshot is installed. */
struct fetch {
    struct list link;                   /* node.fetches */
    struct node *node;
    uint64_t id, index;
    uint32_t off, n;
    uint32_t tried;                     /* bit per peer place */
    uint64_t lacks[NODE_PEERS];         /* who has answered that it has not all of it */
    uint32_t nlacks;
    bool partly;                        /* one that answered may have a part: to be asked for in halves */
    uint64_t first;                     /* asked first, and what it calls dead is; 0: nobody is preferred */
    uint64_t holders[RAFT_PEERS_MAX];   /* of `first`, a leader that has lost it: who else is a member */
    uint32_t nholders;
    bool holders_told;
    uint64_t at_peer;
    uint64_t deadline;
    void (*done)(struct fetch *f, int err, struct slice bytes);
    void *arg;
};

/* Zero-initialised there are none. */
struct ranges {
    struct node_range *v;
    size_t n, cap;
};

/* A snapshot that is coming in: blocks, then the payload it refers to, then the switch. */
struct snap_in {
    bool active;
    uint64_t from, index, term, cluster;
    uint32_t blocks, next;              /* next block expected */
    struct log_ckpt *ckpt;
    bool blocked;                       /* the checkpoint writer has no room: the ack waits */
    bool pulling, installing;
    struct ranges ranges;               /* to be pulled; those before range_at were asked for */
    size_t range_at;
    struct ranges halves;               /* of those that nobody had as a whole; asked for first, lest there are very many */
    uint32_t pulls, pull_bytes;         /* fetches and stores under way, of so many bytes */
    uint64_t gone;
    struct ranges later, lost;          /* nobody who answered has them, and some did not; or all did */
    uint64_t retry_at, retry_ns;        /* when `later` is asked for again, 0: not yet; how long that was put off */
    uint64_t silent[RAFT_PEERS_MAX];    /* who did not answer */
    uint32_t nsilent;
    bool told_silent, asking;           /* the log says so; inside pull_more() */
    struct raft_members members;        /* n 0: it tells none */
};

struct node {
    struct disk *disk;
    struct net *net;
    struct clock *clock;
    struct node_config cfg;
    struct node_sm sm;
    const struct trace *trace;
    struct prng rng;
    struct raft *core;
    struct log *log;
    bool dead;                          /* a fatal error was reported: nothing is done any more */

    struct timer tick, turn, slow;      /* core deadline; end of turn; once in a while: timeouts of transfers and fetches */
    uint64_t slow_at;                   /* when slow fires; 0: it is not armed */
    struct peer peers[NODE_PEERS];
    uint32_t npeers;                    /* places that were ever used */
    struct raft_members members_applied;    /* as of `applied` */
    uint64_t noop_index, named_term;    /* leader: its newest; the term in which it proposed the cluster's name */

    uint64_t cluster_id;
    enum raft_role role;
    uint64_t term, leader;
    bool role_told;
    uint64_t commit, applied, applied_term;
    bool fetching_apply;
    struct log_fetch apply_fetch;
    uint64_t inflight_bytes, inflight_first;    /* leader: proposals of this term, the first one's index */

    struct list reads_new, reads_asked, reads_ready;
    uint64_t read_id, reads_index;

    /* the entries of the APPEND that is being stepped */
    struct raft_entry_meta *metas;
    struct slice *bodies;
    uint32_t metas_cap;
    struct raft_members *configs;
    uint32_t configs_cap;
    struct buf out;
    struct slice *iov;
    uint32_t iov_cap;

    struct log_ckpt *ckpt;              /* a checkpoint of our own that is being written */
    void *ckpt_snap;
    struct timer ckpt_timer;
    struct buf ckpt_block, ckpt_first;
    bool ckpt_pending, ckpt_wanted;     /* block waits for room; a follower needs one soon */
    bool ckpt_head;                     /* its first block, ours, is to be written */
    uint64_t ckpt_index, ckpt_size, since_ckpt;
    uint64_t ckpt_begun_at;
    uint64_t ckpt_behind, ckpt_retry_at;    /* since_ckpt when the one under way was begun; none is begun before */

    struct snap_in in;
    uint64_t in_pause_until;            /* none is begun before */
    uint64_t in_wanted, in_wanted_from; /* index of one that came when none could be begun, 0: none; and its sender */
    struct list fetches;
    uint64_t fetch_id;

    struct node_digest digests[NODE_DIGESTS];   /* our own, of the last indexes */
    struct node_digest doubt;           /* the leader's, which is not ours; index 0: there is none */
    uint64_t snapshots_sent, snapshots_installed, repairs;
    bool damaged;
};

/* node.c */
void node__core(struct node *n, const struct raft_event *ev, struct raft_update *up);  /* a step, not carried out */
void node__restored(struct node *n, uint64_t index);
void node__append(struct node *n, const struct log_entry *e);
void node__step(struct node *n, struct raft_event *ev);
void node__carry_out(struct node *n, const struct raft_update *up);
void node__msg(struct node *n, struct raft_msg *m, struct slice rest);  /* a decoded message; APPEND: rest has the entries */
void node__wake(struct node *n);                                        /* run the turn's end soon */
void node__slow_at(struct node *n, uint64_t at);                        /* look at the timeouts then at the latest */
void node__fatal(struct node *n, int err, const char *text);
/* node_digest.c */
void node__digest_note(struct node *n);                 /* `applied` is an index at which digests are compared */
void node__digest_told(struct peer *p, struct slice payload);
void node__digest_doubt(struct node *n);                /* fatal if the leader's differs and nobody else has told */
/* node_peer.c */
void node__peers_stop(struct node *n);
struct peer *node__peer(struct node *n, uint64_t id);
void node__peer_join(struct node *n, const struct raft_member *m);
void node__peer_leave(struct peer *p);
void node__send(struct node *n, const struct raft_msg *m);
/* node_members.c */
struct raft_members node__first_members(const struct node *n);
const char *node__own_addr(const struct node *n);
void node__peers_fit(struct node *n);
struct blob *node__members_entry(const struct raft_members *ms, uint64_t cluster);
void node__members_append(struct node *n, const struct raft_update *up);
void node__members_applied(struct node *n, uint64_t index, struct slice data);
void node__members_block(const struct node *n, struct buf *block);
int node__members_from_block(struct slice block, struct raft_members *out);
uint32_t node__members_recovered(struct node *n, uint64_t checkpoint, struct raft_members out[3]);
void node__name_cluster(struct node *n);
void node__members_again(struct node *n);
/* node_snap.c */
void node__ckpt_maybe(struct node *n);
void node__ckpt_abort(struct node *n);
void node__snap_start(struct node *n, struct peer *p);
void node__snap_stop(struct node *n, struct peer *p, bool failed);
void node__snap_acked(struct node *n, struct peer *p, struct slice payload);
void node__snap_frame(struct node *n, struct peer *p, struct slice payload);
void node__snap_in_abort(struct node *n);
void node__snap_in_wanted(struct node *n);
void node__snap_install(struct node *n, bool keep_suffix);      /* the core's answers to SNAPSHOT_RECEIVED */
void node__snap_ignore(struct node *n);
void node__snap_peer_up(struct node *n);
void node__snap_status(const struct node *n, struct node_status *out);
void node__snap_timeouts(struct node *n, uint64_t now);
/* node_fetch.c */
void node__fetch(struct node *n, uint64_t first, uint64_t index, uint32_t off, uint32_t len,
                 void (*done)(struct fetch *f, int err, struct slice bytes), void *arg);
void node__fetch_frame(struct node *n, struct conn *c, struct slice payload);
void node__fetch_resp(struct node *n, struct peer *p, struct slice payload);
void node__fetch_peer_down(struct node *n, uint64_t id);
void node__fetch_timeouts(struct node *n, uint64_t now);
void node__fetch_stop(struct node *n);
/* Who may have the range of a fetch that ended with -ENOTCONN and has not said; no more than max of them. */
uint32_t node__fetch_silent(const struct fetch *f, uint64_t *ids, uint32_t max);

#endif
