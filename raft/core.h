/* core.h - the consensus core: one pure step function (Ongaro, "Consensus: Bridging Theory and Practice", 2014, cited
 * below as "thesis"; Ongaro and Ousterhout 2014, "paper").
 *
 * Events go in, effects come out in a struct raft_update. raft_step() cannot fail, calls nothing but the log view of
 * the config, and owns no timer: each event carries `now`, each update the next deadline, and any event at or past it
 * is also a tick. Entries are (term, kind, length) here; their bytes belong to the log (raft/log.h).
 *
 * One ordering contract. The driver (raft/node.c) carries out an update at once and in this order: truncate, append,
 * hard state, messages, commit; and reports RAFT_EV_HARD_PERSISTED and RAFT_EV_PERSISTED when they are durable. Every
 * message whose promise needs durability (a granted vote, an append acknowledgement) is held back in the core until
 * that report, so the driver has no order to get wrong. A leader counts itself only up to what it has persisted, so it
 * sends to its followers while its own disk writes.
 *
 * What a peer sends that makes no sense is counted and dropped; a caller's mistake trips check(). */
#ifndef QFS_RAFT_CORE_H
#define QFS_RAFT_CORE_H

#include "base/base.h"

#define RAFT_PEERS_MAX 9            /* members, learners included */
#define ADDR_MAX 256
#define RAFT_MSGS_MAX 64            /* messages in one update */

enum raft_role { RAFT_FOLLOWER, RAFT_PRE_CANDIDATE, RAFT_CANDIDATE, RAFT_LEADER };
enum raft_kind { RAFT_NOOP = 1, RAFT_COMMAND = 2, RAFT_CONFIG = 3 };

/* May this node vote? An empty data directory is UNFORMED: the node neither votes nor campaigns. It becomes a VOTER if
 * every other member says that it is empty, too (a new cluster; needs all of them up once), and FENCED if one is not
 * (its disk was lost or replaced). A node that finds its log damaged starts FENCED, too. A fenced node stores and
 * acknowledges entries but counts for nothing, and neither votes nor campaigns, until its durable log has reached the
 * entry that a leader told it when asked (PROBE): one that is newer than the question, and on disk at so many others that
 * each majority has one of them (standing.c). */
enum raft_standing { RAFT_UNFORMED = 0, RAFT_FENCED = 1, RAFT_VOTER = 2 };

struct raft_hard {
    uint64_t term;
    uint64_t vote;                  /* node id, 0: none in this term */
    enum raft_standing standing;
};

struct raft_member {
    uint64_t id;                        /* > 0 */
    char addr[ADDR_MAX];                /* the driver's; the core does not look at it */
};

/* A configuration (thesis ch. 4; paper section 6). A learner is replicated to and counts for nothing. While `joint`,
 * elections and commits need a majority of the voters by `seat` (C_old) and one of those by `next` (C_new); otherwise
 * `seat` alone counts. The entry of kind CONFIG that carries it takes effect where it is appended. */
enum raft_seat { RAFT_NO_SEAT = 0, RAFT_LEARNER = 1, RAFT_VOTING = 2 };
struct raft_members {
    uint64_t index;                     /* of the entry that carries it; 0: none does, it is how the cluster was formed */
    bool joint;
    uint32_t n;
    struct raft_member m[RAFT_PEERS_MAX];
    uint8_t seat[RAFT_PEERS_MAX], next[RAFT_PEERS_MAX];     /* enum raft_seat */
    bool told[RAFT_PEERS_MAX];          /* the address was given by a change, not by the list the node was started with */
};

/* What the leader says to RAFT_EV_MEMBERS; verdict_id names the member it is about. */
enum raft_verdict {
    RAFT_CHANGE_TAKEN = 0,
    RAFT_CHANGE_NOT_LEADER,
    RAFT_CHANGE_TOO_EARLY,              /* nothing of the leader's own term is committed yet */
    RAFT_CHANGE_PENDING,                /* another change, or a transfer of leadership, is under way */
    RAFT_CHANGE_NONSENSE,               /* no voters, too many members, one twice */
    RAFT_CHANGE_NOTHING,                /* it is so already */
    RAFT_CHANGE_STRANGER,               /* a voter that was no learner before */
    RAFT_CHANGE_LAGS,                   /* a learner that has not caught up, or still repairs itself */
    RAFT_CHANGE_NO_QUORUM,              /* too few of the voters to be answer; verdict_id: one that does not */
};

/* A run of entries of one term: the run's first index and its term; it ends where the next run begins. */
struct raft_run {
    uint64_t first, term;
};

struct raft_entry_meta {
    uint64_t term;
    uint8_t kind;
    uint32_t len;                   /* bytes */
};

enum raft_msg_type {
    RAFT_MSG_PREVOTE = 1,           /* term: the term it would campaign in; index, log_term: its last entry */
    RAFT_MSG_PREVOTE_RESP,          /* granted: term of the request; rejected: the sender's own term */
    RAFT_MSG_VOTE,                  /* as PREVOTE; transfer: stickiness does not apply (thesis 4.2.3) */
    RAFT_MSG_VOTE_RESP,
    RAFT_MSG_APPEND,                /* index, log_term: the entry before; n entries; commit; last; round; heartbeat */
    RAFT_MSG_APPEND_RESP,           /* index: durable match, last: match in memory; or reject of the entry `last` with
                                     * hint (index, log_term); round echoed */
    RAFT_MSG_SNAPSHOT,              /* header of a snapshot chunk: index, log_term of the snapshot; round */
    RAFT_MSG_TIMEOUT_NOW,           /* leadership transfer (thesis 3.10) */
    RAFT_MSG_PROBE,                 /* are you empty? round: nonce. Of a fenced node to its leader: from where on may I vote? */
    RAFT_MSG_PROBE_RESP,            /* reject: not empty; term; round echoed; last, of a leader: that entry, 0: not yet */
    RAFT_MSG_TYPE_MAX = RAFT_MSG_PROBE_RESP
};

struct raft_msg {
    uint8_t type;
    bool reject, transfer, fenced;  /* fenced: the sender's standing is not VOTER */
    bool lease;                     /* APPEND: the leader serves reads under its lease */
    uint64_t from, to, term;
    uint64_t index, log_term;
    uint64_t commit;
    uint64_t last;                  /* APPEND: the leader's last index; APPEND_RESP: see there */
    uint64_t round;                 /* leader's strictly rising stamp in ns, opaque to others: ReadIndex and lease */
    uint32_t n;                     /* APPEND: entries index+1 .. index+n; their bytes are the driver's */
    const struct raft_entry_meta *entries;   /* of a received APPEND, n of them, borrowed during the step; else NULL */
    const struct raft_members *members;      /* the configurations among them, by rising index; borrowed, too */
    uint32_t nmembers;
};

enum raft_event_kind {
    RAFT_EV_START,                  /* first, once */
    RAFT_EV_TICK,
    RAFT_EV_MSG,                    /* msg */
    RAFT_EV_PROPOSE,                /* metas, n: all accepted (RAFT_UP_PROPOSED) or none; only the leader accepts */
    RAFT_EV_PERSISTED,              /* entries up to index are durable; term: that entry's. Stale reports are harmless,
                                     * but what was truncated after its write began must not be reported */
    RAFT_EV_HARD_PERSISTED,         /* hard: the one that is durable now */
    RAFT_EV_APPLIED,                /* index */
    RAFT_EV_LOG_TRIMMED,            /* index: first entry that can still be sent to followers */
    RAFT_EV_SNAPSHOT_SENT,          /* peer, index: it installed it; ok false: the transfer failed, try later */
    RAFT_EV_SNAPSHOT_RECEIVED,      /* index, term: complete on disk. Answer: RAFT_UP_INSTALL or _IGNORE_SNAPSHOT */
    RAFT_EV_SNAPSHOT_INSTALLED,     /* index, term: state and log start there, durably. Index 0: given up. members: the
                                     * configuration there; NULL: it is of a time before the first change */
    RAFT_EV_READ,                   /* read_id, rising: from when may I read my state? see RAFT_UP_READS */
    RAFT_EV_TRANSFER,               /* peer; 0: to the most caught-up voter */
    RAFT_EV_MEMBERS,                /* members: the configuration wanted (seats); ok: also if nothing changes. Answer:
                                     * verdict, and RAFT_UP_CONFIG if it is taken */
    RAFT_EV_PEER_DOWN,              /* peer: its connection broke, or a new one took its place */
    RAFT_EV_PEER_UP,
};

struct raft_event {
    enum raft_event_kind kind;
    uint64_t now;                   /* ns, never falling */
    uint64_t index, term, peer, read_id;
    bool ok;
    struct raft_hard hard;
    const struct raft_msg *msg;
    const struct raft_entry_meta *metas;
    uint32_t n;
    const struct raft_members *members;
};

enum {
    RAFT_UP_TRUNCATE = 1 << 0,      /* drop entries from truncate_from on */
    RAFT_UP_APPEND = 1 << 1,        /* append at append_first append_n entries of the message, behind its append_skip */
    RAFT_UP_PROPOSED = 1 << 2,      /* the proposed entries got indexes proposed_first ...; term */
    RAFT_UP_HARD = 1 << 3,          /* persist `hard` */
    RAFT_UP_COMMIT = 1 << 4,        /* entries up to `commit` may be applied */
    RAFT_UP_ROLE = 1 << 5,          /* role, term or leader changed */
    RAFT_UP_READS = 1 << 6,         /* reads with id <= reads_upto may run once applied >= reads_index */
    RAFT_UP_READS_FAILED = 1 << 7,  /* all reads not ready yet (after UP_READS) have failed: not leader */
    RAFT_UP_NOOP = 1 << 8,          /* leader: append one empty NOOP entry of `term` at noop_index */
    RAFT_UP_INSTALL = 1 << 9,       /* install the received snapshot; keep_suffix: entries behind it stay valid */
    RAFT_UP_IGNORE_SNAPSHOT = 1 << 10,
    RAFT_UP_SNAPSHOT_CHUNK = 1 << 11, /* the chunk whose header the message was is the rightful leader's: take it */
    RAFT_UP_MEMBERS = 1 << 12,      /* another configuration is in effect: `members` */
    RAFT_UP_CONFIG = 1 << 13,       /* leader: append one CONFIG entry of `term` with `members` at members->index, behind
                                     * the proposed ones */
};

/* Pointers in it are borrowed until the next step. */
struct raft_update {
    unsigned flags;
    uint64_t truncate_from;
    uint64_t append_first;
    uint32_t append_skip, append_n;
    uint64_t proposed_first, noop_index;
    struct raft_hard hard;
    uint64_t commit;
    enum raft_role role;
    uint64_t term, leader;          /* leader 0: unknown */
    uint64_t reads_upto, reads_index;
    bool keep_suffix;
    const struct raft_members *members;     /* the one in effect */
    enum raft_verdict verdict;      /* of RAFT_EV_MEMBERS */
    uint64_t verdict_id;
    struct raft_msg *msgs;          /* APPENDs name their entries by range: the driver adds the bytes from the log */
    uint32_t nmsgs;
    uint64_t snapshot_to[RAFT_PEERS_MAX];   /* start (or restart) sending the newest checkpoint to these peers */
    uint32_t nsnapshot_to;
    uint64_t deadline;              /* ns */
};

struct raft_config {
    uint64_t id;
    /* The configuration a new cluster is formed with; once the log has one, that holds. A node that is not among the
     * voters waits to be added. `members`, if given, says the same with addresses (read by raft_new only). */
    uint64_t voters[RAFT_PEERS_MAX];
    uint32_t nvoters;
    const struct raft_members *members;
    uint64_t election_ns;           /* minimum election timeout; drawn from [1, 2) of it */
    uint64_t heartbeat_ns;
    uint32_t drift_ppm;             /* bound on the difference of clock rates, for the leader lease */
    bool lease_reads;               /* false: every read by a ReadIndex round */
    uint32_t append_bytes_max;      /* payload of one APPEND (one entry is always sent, however large) */
    uint64_t window_bytes;          /* unacknowledged payload towards one follower */
    uint64_t seed;
    /* How many entries from `first` to at most `last` have together at most bytes_max bytes (at least 1); *bytes is
     * their sum. Asked only for entries of the log. */
    uint32_t (*span)(void *arg, uint64_t first, uint64_t last, uint64_t bytes_max, uint64_t *bytes);
    void *span_arg;
    const struct trace *trace;
};

/* What was recovered from disk: entries first..last with their term runs (runs[0].first <= first, ascending), the
 * snapshot before them (0, 0: none), the hard state. A checkpoint must not become the newest before the log is durable
 * up to its index: else a crash leaves it next to older entries that it contradicts. (Where the terms show that, the
 * entries behind it are dropped: the first update says RAFT_UP_TRUNCATE.) */
struct raft_recovered {
    struct raft_hard hard;
    uint64_t snapshot_index, snapshot_term;
    uint64_t first, last;           /* first = last + 1: empty; first <= snapshot_index + 1 */
    const struct raft_run *runs;
    uint32_t nruns;
    /* The snapshot's configuration, if it tells one, and the two newest in the log behind it, by rising index. */
    const struct raft_members *members;
    uint32_t nmembers;
};

struct raft;

struct raft *raft_new(const struct raft_config *config, const struct raft_recovered *from);
void raft_free(struct raft *r);
void raft_step(struct raft *r, const struct raft_event *event, struct raft_update *update);

/* What `status` shows; valid between steps. */
struct raft_peer_status {
    uint64_t id, match, next;
    const char *state;              /* "probe", "replicate", "snapshot" */
    bool recent;                    /* heard from within the election timeout */
    enum raft_seat seat, seat_next; /* by C_old, by C_new */
    bool fenced;
};
struct raft_status {
    uint64_t id, term, vote, leader, commit, applied, persisted, first, last;
    enum raft_role role;
    enum raft_standing standing;
    bool voter;                     /* this node has a vote by the configuration in effect */
    bool joint;
    bool disk_late;                 /* see slow.c */
    uint64_t members_index;
    uint64_t transferee;            /* leader: whom it is handing over to; 0: nobody */
    uint32_t npeers;                /* this node (also if it is no member), then members in any order */
    struct raft_peer_status peers[RAFT_PEERS_MAX + 1];
    uint64_t dropped;               /* nonsense messages dropped */
};
void raft_status(const struct raft *r, struct raft_status *out);
const struct raft_members *raft_members_now(const struct raft *r);      /* in effect */
/* True while a read of state applied up to the commit index is linearizable without asking anyone (leader lease,
 * thesis 6.4.1): to be asked again after the read. Always false with lease_reads off. */
bool raft_lease_valid(const struct raft *r, uint64_t now);
const char *raft_role_name(enum raft_role role);
/* Checks the core's own invariants; for tests and the simulator. NULL or what is broken. */
const char *raft_invariant(const struct raft *r);

/* Wire form of a message (without entry bytes): raft/msg.c. raft_msg_decode leaves `entries` NULL and returns what is
 * left in *rest; 0 or QE_FRAME. An APPEND is followed on the wire by n times (u64 term, u8 kind, u32 len, bytes). */
void raft_msg_encode(const struct raft_msg *m, struct buf *out);
int raft_msg_decode(struct slice in, struct raft_msg *out, struct slice *rest);


/* Configurations as bytes: the contents of a CONFIG entry (raft/members.c). decode: 0 or QE_FRAME; an entry that only
 * names the cluster, as the first version wrote them, gives n = 0. */
void raft_members_encode(const struct raft_members *ms, uint64_t cluster, struct buf *out);
int raft_members_decode(struct slice in, uint64_t *cluster, struct raft_members *out);
/* The place of a member; -1: none. */
int raft_members_find(const struct raft_members *ms, uint64_t id);
void raft_members_add(struct raft_members *ms, uint64_t id, const char *addr, enum raft_seat seat);
void raft_members_drop(struct raft_members *ms, uint64_t id);
/* NULL, or why it can be no configuration. */
const char *raft_members_nonsense(const struct raft_members *ms);
/* "voter", "learner", "joining" (a voter of C_new), "leaving" (a voter of C_old only), "-". */
const char *raft_seat_name(enum raft_seat seat, enum raft_seat next, bool joint);

#endif
