/* box.h - a server for the lab tests of Raft: the production node under a machine that keeps a list of integers.
 *
 * Indexes that the tests see count commands only, from 1, without holes, whatever else lies in the log. */
#ifndef QFS_TESTS_SIM_BOX_H
#define QFS_TESTS_SIM_BOX_H

#include "tests/sim/cluster.h"

struct sim_box;

int sim_box_new(struct sim_server *s, const struct node_config *config, struct sim_box **out, struct buf *why);
void sim_box_free(struct sim_box *b);
struct node *sim_box_node(struct sim_box *b);

/* Offers a command. True: accepted, at the visible index *index of *term. */
bool sim_box_start(struct sim_box *b, uint64_t command, uint64_t *index, uint64_t *term);
/* The same with a command of so many bytes, at least 8. */
bool sim_box_start_sized(struct sim_box *b, uint64_t command, uint32_t bytes, uint64_t *index, uint64_t *term);
uint64_t sim_box_applied(const struct sim_box *b);               /* visible */
uint64_t sim_box_value(const struct sim_box *b, uint64_t index); /* 1 .. applied */

#endif
