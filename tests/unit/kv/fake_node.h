/* fake_node.h - stands in for raft/: nodes that share one log, whose leader the test names. What a real cluster does
 * to the layer above happens here on demand: uncommitted entries are lost or kept when the leader changes, a deposed
 * leader does not know it for a while, reads wait for a confirmation, payload comes late or not at all. */
#ifndef QFS_TESTS_KV_FAKE_NODE_H
#define QFS_TESTS_KV_FAKE_NODE_H

#include "fake.h"
#include "raft/raft.h"

#define FAKE_NODES 5

struct fake_entry {
    uint64_t term;
    struct blob *data;              /* NULL: a no-op */
};

struct fake_cluster {
    struct fake *f;
    struct fake_entry log[20000];   /* by index */
    uint64_t last, commit, term, leader;
    struct node *nodes[FAKE_NODES + 1];     /* by id; NULL: down */
    uint64_t commit_delay;
    bool stalled;                   /* nothing commits */
    bool busy, disk_full;
    int refuse_changes;             /* of members: with this error; 0: they are taken, and are entries like no-ops */
    bool lease;                     /* the leader has one */
    unsigned lease_breaks;          /* per cent of the looks after a read at which it has just ended */
    unsigned payload_late;          /* per cent of the payload that has to be waited for */
    unsigned payload_gone;          /* per cent of that which does not come (QE_GONE) */
    uint64_t late_delay;
    uint64_t reads, entries;
    int64_t live;                   /* sum over all nodes */
};

/* There is one, for the functions of raft.h find it here. */
extern struct fake_cluster *fake_cluster;

struct fake_cluster *fake_cluster_new(struct fake *f);
void fake_cluster_free(struct fake_cluster *c);
/* Node id leads from now on, 0: nobody. Of the uncommitted entries the first `keep` survive. The old leader is told
 * after `told_after`; until then it believes to lead. */
void fake_lead(struct fake_cluster *c, uint64_t id, uint64_t keep, uint64_t told_after);
uint64_t fake_applied(struct fake_cluster *c, uint64_t id);

#endif
