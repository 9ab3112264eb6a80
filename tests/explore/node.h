/* node.h - one node of the search: the production core with its log, its disk and what it has under way to the disk, in
 * a form that can be kept, compared and gone back to.
 *
 * A node's state is an image of `struct raft` (through its private header) and of its driver's few bytes, interned: two
 * states are the same exactly if they have the same number. A step is a function of state and input, so it is computed
 * once and remembered; the search itself mostly looks up numbers.
 *
 * Time stands still. What time would bring is an input of its own (an election timeout, a heartbeat, a leader who hears
 * nobody), and whatever in the core only counts time is set to one value after each step. Nobody is ever bound by
 * having heard a leader lately: that is the case in which time has passed. Stamps of messages (ReadIndex) are reduced
 * to what they tell: sent before or since this leader's newest read. */
#ifndef QFS_TESTS_EXPLORE_NODE_H
#define QFS_TESTS_EXPLORE_NODE_H

#include "raft/core_priv.h"

#define EX_NODES 3u
#define EX_LOG   5u /* entries of the longest log */
#define EX_QUEUE 6u /* writes under way to a disk */
#define EX_TERMS 7u

/* An entry is known by its term, its kind, who led when it was made, and the configuration it carries (number + 1).
 * term 0: none. */
struct ex_entry {
    uint8_t term, kind, owner, config;
};
static inline bool ex_same(struct ex_entry a, struct ex_entry b)
{
    return a.term == b.term && a.kind == b.kind && a.owner == b.owner && a.config == b.config;
}

struct ex_msg {
    struct raft_msg m;         /* entries NULL */
    struct ex_entry e[EX_LOG]; /* of an APPEND */
};

enum ex_act {
    EX_DELIVER = 1, /* arg: number of the message */
    EX_TIMEOUT,     /* its election timeout is over */
    EX_BEAT,        /* leader: heartbeats are due */
    EX_STEP_DOWN,   /* leader: nobody has answered for an election timeout */
    EX_PROPOSE,
    EX_PERSIST,  /* the oldest write under way is done, and reported */
    EX_CRASH,    /* arg: so many of the writes under way reach the disk; then it starts again */
    EX_READ,     /* arg: what is committed by now: the read must see it */
    EX_TRANSFER, /* arg: to this id */
    EX_MEMBERS,  /* arg: a bit for each node that is to vote; the others are to be learners */
    EX_ELECT,    /* of the search: timeout, pre-vote of node arg, its answer, in one go */
};

/* What the checks of the whole look at. */
struct ex_view {
    uint8_t role, term, vote, commit, last, dlast, hard_term, hard_vote, nwrites, reading;
    struct ex_entry log[EX_LOG + 1], disk[EX_LOG + 1]; /* from 1 */
};

struct ex_result {
    uint32_t node;     /* the state after it; EX_NONE: not possible here, or beyond the bounds */
    uint32_t msgs, n;  /* ex_sent()[msgs ..]: numbers of the messages it sent */
    const char *error; /* a promise that is broken, an invariant of the core, a read that is too old */
};
#define EX_NONE UINT32_MAX

struct ex_bounds {
    unsigned terms, entries, crashes, reads, transfers, changes;
    unsigned late; /* so many messages are held back, to come at any later time, once or often or never */
    unsigned slow; /* so many steps leave their writes under way; after the others all are done at once */
    bool swift;    /* an election that is won is one move; what is lost on the way has no part in it */
    bool singly;   /* one entry an APPEND */
    bool prevote;  /* every message of the pre-vote on its own, not in one go */
};

void ex_nodes_open(const struct ex_bounds *bounds);
void ex_nodes_close(void);
uint32_t ex_node_first(unsigned id); /* a new node of a new cluster */
struct ex_result ex_node_step(uint32_t node, enum ex_act act, uint32_t arg);
const struct ex_view *ex_node_view(uint32_t node);
/* The configuration by this log up to index `upto`. */
const struct raft_members *ex_members(const struct ex_entry *log, unsigned upto);
const uint32_t *ex_sent(uint32_t at);
const struct ex_msg *ex_msg(uint32_t number);
uint32_t ex_node_count(void);
uint32_t ex_msg_count(void);
uint64_t ex_step_count(void); /* steps that were computed */

/* ---- byte strings, numbered ---- */

struct ex_pool {
    uint8_t *bytes;
    uint64_t used, cap;
    uint64_t *at; /* of each, and of the end */
    uint32_t n, room;
    uint32_t *slot, nslot; /* by hash: number + 1 */
};
/* n is a multiple of 8. The number of this string; *added says whether it is new. */
uint32_t ex_pool_put(struct ex_pool *p, const void *bytes, size_t n, bool *added);
static inline const void *ex_pool_get(const struct ex_pool *p, uint32_t number) { return p->bytes + p->at[number]; }
static inline size_t ex_pool_len(const struct ex_pool *p, uint32_t number) { return p->at[number + 1] - p->at[number]; }
void ex_pool_free(struct ex_pool *p);

#endif
