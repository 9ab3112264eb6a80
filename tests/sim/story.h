/* story.h - what happens in a run, told so that a newcomer can follow: who stands for election, who votes for whom, who
 * leads, what is committed, what clients ask and are answered. */
#ifndef QFS_TESTS_SIM_STORY_H
#define QFS_TESTS_SIM_STORY_H

#include "tests/sim/history.h"

struct raft;
struct raft_event;
struct sim_server;
struct sim_cluster;

/* What has been told of a server so far. */
struct sim_told {
    uint64_t term, vote, leader, commit;
    uint8_t role, standing;
};

void sim_story_step(struct sim_server *s, struct sim_told *told, const struct raft *r, const struct raft_event *ev);
/* The core says this of itself, and the story has it already. */
bool sim_story_tells(const char *line);

/* "append log/1 \" 2.1.7 \"" */
void sim_op_text(const struct kv_op *op, char *out, size_t n);
void sim_story_asked(struct sim_cluster *c, const struct sim_record *r, const struct kv_op *op);
void sim_story_answered(struct sim_cluster *c, const struct sim_record *r, const struct kv_reply *reply);

#endif
