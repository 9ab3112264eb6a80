/* core_priv.h - what the files of the consensus core share. Private to raft/: step.c (dispatch, one update), election.c
 * (roles and votes), standing.c (may this node vote at all), replicate.c (leader), follow.c (follower), progress.c
 * (what a leader knows of each peer; quorums), member.c (changes of the configuration), members.c (configurations as
 * values), slow.c (a disk that hangs), read.c (ReadIndex, lease), snapshot.c, transfer.c, terms.c ((index, term) runs). */
#ifndef QFS_RAFT_CORE_PRIV_H
#define QFS_RAFT_CORE_PRIV_H

#include "raft/core.h"

#include <inttypes.h>

#define RAFT__PEERS        (RAFT_PEERS_MAX + 1) /* the members, and this node where it is none */
#define RAFT__INFLIGHT_MAX 128          /* unacknowledged APPENDs with entries towards one follower */
#define RAFT__READS_MAX    32           /* ReadIndex rounds under way */
#define RAFT__ENTRIES_MAX  8192u        /* entries in one APPEND that we send */
#define RAFT__NUMBER_MAX   (1ull << 45) /* terms and indexes beyond are nonsense; the log on disk takes twice that */
/* Messages of one update kept for answers, heartbeats and elections; the pump of entries stays below. */
#define RAFT__PUMP_MAX (RAFT_MSGS_MAX - 3 * RAFT_PEERS_MAX)

/* ---- terms.c: the terms of entries base .. last, as runs ------------------------------------------------- */

struct raft_terms {
    uint64_t base, base_term; /* the entry before the first that can be sent; (0, 0) at the log's beginning */
    uint64_t last;
    struct raft_run *runs; /* of entries base+1 .. last; runs[0].first may lie before */
    uint32_t n, cap;
};

void raft__terms_init(struct raft_terms *t, const struct raft_recovered *from);
void raft__terms_free(struct raft_terms *t);
/* 0: not known (before base or behind last), or the term of index 0. */
uint64_t raft__term_at(const struct raft_terms *t, uint64_t index);
static inline uint64_t raft__last_term(const struct raft_terms *t)
{
    return t->n ? t->runs[t->n - 1].term : t->base_term;
}
void raft__terms_append(struct raft_terms *t, uint64_t term);
void raft__terms_truncate(struct raft_terms *t, uint64_t from); /* from > base */
void raft__terms_trim(struct raft_terms *t, uint64_t base);     /* base <= last; a no-op if it lies before base */
void raft__terms_reset(struct raft_terms *t, uint64_t base, uint64_t term);
/* The highest entry <= index whose term is <= term; a number below base if there is none. */
uint64_t raft__terms_find(const struct raft_terms *t, uint64_t index, uint64_t term);

/* ---- the core -------------------------------------------------------------------------------------------- */

enum raft__state { RAFT__PROBE, RAFT__REPLICATE, RAFT__SNAPSHOT };

struct raft__inflight {
    uint64_t last, bytes;
};

struct raft_peer {
    uint64_t id;
    bool votes[2];             /* in C_old, in C_new; the same while there is only one configuration */
    uint64_t parting_until;    /* leader: it was removed and is yet to learn it; 0: a member */
    bool down;                 /* its connection is broken */
    bool fenced;               /* as its last message said */
    bool pre_granted, granted; /* towards the pre-vote under way; in `term` */
    bool probed_empty;         /* it answered our PROBE so */
    /* leader: */
    enum raft__state state;
    uint64_t match, next;
    uint64_t acked_round;
    uint64_t since;    /* answers to earlier rounds are of its former membership */
    uint64_t heard_at; /* of an answer in this term */
    uint64_t nonce, witness; /* its PROBE asked under this nonce; the no-op appended for that (standing.c) */
    uint64_t sent_at;  /* last APPEND */
    uint64_t commit_sent;
    uint64_t snapshot_retry_at;
    bool probe_sent; /* PROBE: wait for the answer or the next heartbeat */
    bool beat;       /* owes it an APPEND in this step */
    struct raft__inflight inflight[RAFT__INFLIGHT_MAX];
    uint32_t inflight_at, ninflight;
    uint64_t inflight_bytes;
};

struct raft__read {
    uint64_t round, id, index;
};

struct raft {
    struct raft_config config;
    uint64_t hold_ns; /* see read.c: how long a leader's word binds a follower that lost sight of it */
    struct prng prng;
    struct raft_peer peers[RAFT__PEERS];
    uint32_t npeers, self;               /* peers[self] is this node: match = persisted */
    struct raft_members members, before; /* in effect; the one before it, committed */
    uint64_t now;
    bool started;
    uint64_t void_from; /* recovered entries from here on are void; 0: none */

    enum raft_role role;
    uint64_t leader;
    struct raft_hard hard, durable; /* wanted; reported durable */
    struct raft_hard told;          /* what the driver was told to persist last */
    struct raft_terms terms;
    uint64_t persisted, commit, applied;
    uint64_t dropped;
    uint64_t late_index, late_at; /* committed by the others then, not durable here yet; 0: nothing is late */

    /* elections */
    uint64_t election_at; /* follower, candidate: campaign; else look again */
    uint64_t resend_at;
    bool heard, heard_lease; /* a leader was heard, at heard_at, from heard_from (0: before a restart) */
    uint64_t heard_at, heard_from;
    uint64_t vote_reply;        /* candidate that waits for its granted vote to be durable */
    bool asked, asked_transfer; /* candidate: vote requests are out; they carry the transfer mark */

    /* standing */
    uint64_t nonce, probe_at;
    uint64_t fence_goal; /* 0: no leader has told one yet */

    /* follower */
    uint64_t matched; /* entries up to it are the leader's of this term */
    uint64_t acked, ack_round;
    bool ack_now;
    uint64_t ack_at; /* 0: nothing is held back */
    bool installing;
    uint64_t install_index, install_term;

    /* leader */
    uint64_t term_start; /* index of the no-op of this term */
    uint64_t round;
    bool stamped;        /* `round` belongs to this step */
    uint64_t commit_due; /* 0: none; when followers are told the commit index without new entries */
    bool pump_more;
    uint64_t transferee, transfer_at;
    bool timeout_sent, lease_off;
    struct raft__read reads[RAFT__READS_MAX];
    uint32_t nreads;
    uint64_t read_waiting, read_last;

    /* the step under way */
    uint64_t stored_last; /* what lies behind it is not in the log yet, but in metas (or the no-op) */
    const struct raft_entry_meta *metas;
    uint32_t nmetas;
    struct raft_update *up;
    struct raft_msg out[RAFT_MSGS_MAX];
};

/* step.c */
struct raft_msg *raft__emit(struct raft *r, enum raft_msg_type type, uint64_t to);
void raft__drop(struct raft *r, const struct raft_msg *m, const char *why);
struct raft_peer *raft__peer(struct raft *r, uint64_t id); /* NULL: no member */
static inline bool raft__votes(const struct raft_peer *p) { return p->votes[0] || p->votes[1]; }
/* The only member, and a voter. */
static inline bool raft__alone(const struct raft *r) { return r->npeers == 1 && raft__votes(&r->peers[r->self]); }
static inline bool raft__is_self(const struct raft *r, const struct raft_peer *p) { return p == &r->peers[r->self]; }

/* progress.c */
uint64_t raft__quorum(const struct raft *r, uint64_t (*value)(const struct raft *r, const struct raft_peer *p));
void raft__progress_reset(struct raft *r, struct raft_peer *p, uint64_t next); /* to PROBE */
void raft__progress_sent(struct raft_peer *p, uint64_t last, uint64_t bytes);
bool raft__progress_full(const struct raft *r, const struct raft_peer *p);
void raft__progress_accept(struct raft *r, struct raft_peer *p, const struct raft_msg *m);
void raft__progress_reject(struct raft *r, struct raft_peer *p, const struct raft_msg *m);
const char *raft__state_name(enum raft__state state);

/* election.c */
void raft__arm_election(struct raft *r);
void raft__become_follower(struct raft *r, uint64_t term, uint64_t leader);
void raft__campaign(struct raft *r, bool transfer); /* a real vote, without a pre-vote */
void raft__heard(struct raft *r, const struct raft_msg *m);
void raft__on_prevote(struct raft *r, const struct raft_msg *m);
void raft__on_prevote_resp(struct raft *r, const struct raft_msg *m);
void raft__on_vote(struct raft *r, const struct raft_msg *m);
void raft__on_vote_resp(struct raft *r, const struct raft_msg *m);
void raft__election_advance(struct raft *r); /* does what waited for the hard state */
void raft__election_tick(struct raft *r);
uint64_t raft__election_deadline(const struct raft *r);
void raft__election_peer(struct raft *r, struct raft_peer *p); /* p->down has changed */

/* standing.c */
bool raft__may_vote(const struct raft *r);
void raft__standing_start(struct raft *r);
void raft__standing_tick(struct raft *r);
void raft__standing_peer(struct raft *r, const struct raft_peer *p);  /* p->down has changed */
void raft__standing_leader(struct raft *r); /* one sent an APPEND or SNAPSHOT */
void raft__standing_advance(struct raft *r);
void raft__standing_members(struct raft *r); /* another configuration is in effect */
void raft__on_probe(struct raft *r, const struct raft_msg *m);
void raft__on_probe_resp(struct raft *r, const struct raft_msg *m);

/* follow.c */
bool raft__follow(struct raft *r, const struct raft_msg *m); /* m is of the rightful leader: follow it */
void raft__on_append(struct raft *r, const struct raft_msg *m);
void raft__flush_ack(struct raft *r);

/* replicate.c */
void raft__lead(struct raft *r);
uint64_t raft__append_noop(struct raft *r); /* leader; its index. One a step, with nothing else proposed */
uint64_t raft__durable_match(const struct raft *r, const struct raft_peer *p);
void raft__on_append_resp(struct raft *r, const struct raft_msg *m);
void raft__on_propose(struct raft *r, const struct raft_event *ev);
void raft__commit_advance(struct raft *r);
void raft__check_quorum(struct raft *r);
void raft__pump(struct raft *r);
uint64_t raft__stamp(struct raft *r);                        /* this step's round */
void raft__leader_peer(struct raft *r, struct raft_peer *p); /* p->down has changed */
uint64_t raft__leader_deadline(const struct raft *r);

/* read.c */
void raft__on_read(struct raft *r, uint64_t id);
void raft__reads_advance(struct raft *r);
void raft__reads_fail(struct raft *r);

/* snapshot.c */
void raft__snapshot_need(struct raft *r, struct raft_peer *p);
void raft__on_snapshot(struct raft *r, const struct raft_msg *m);
void raft__on_snapshot_sent(struct raft *r, const struct raft_event *ev);
void raft__on_snapshot_received(struct raft *r, const struct raft_event *ev);
void raft__on_snapshot_installed(struct raft *r, const struct raft_event *ev);
void raft__on_trimmed(struct raft *r, uint64_t first);

/* member.c */
void raft__members_init(struct raft *r, const struct raft_recovered *from);
void raft__members_take(struct raft *r, const struct raft_members *ms); /* its entry is appended */
void raft__members_truncate(struct raft *r, uint64_t from);
void raft__members_installed(struct raft *r, uint64_t index, const struct raft_members *ms);
void raft__members_part(struct raft *r); /* a leader no more: who parts is no concern */
void raft__members_advance(struct raft *r);
void raft__on_members(struct raft *r, const struct raft_event *ev);
bool raft__voter(const struct raft *r);    /* by the configuration in effect */
bool raft__may_lead(const struct raft *r); /* or as long as that may not be committed */
void raft__resign(struct raft *r);         /* hands over without waiting, and steps down */

/* slow.c */
void raft__disk_watch(struct raft *r);
bool raft__disk_late(const struct raft *r);
uint64_t raft__disk_late_at(const struct raft *r); /* UINT64_MAX: nothing waits */

/* transfer.c */
const struct raft_peer *raft__heir(const struct raft *r, uint64_t id); /* 0: the fittest; NULL: nobody is fit */
void raft__on_transfer(struct raft *r, uint64_t to);
void raft__transfer_advance(struct raft *r);
void raft__on_timeout_now(struct raft *r, const struct raft_msg *m);

#endif
