/* search.h - breadth-first search of what a cluster of three cores can come to.
 *
 * A state of the whole: three nodes, the messages under way, those that are late, and what has happened (who led in
 * which term, what was committed by whom, who voted for whom). Messages come in the order in which they were sent, and
 * before anything else happens, unless they are lost or late; both may befall each of them. A late one comes at any
 * time after that, once or often or never: so a bound on how many are late bounds delay, duplication and reordering
 * (delay-bounded scheduling, Emmi, Qadeer and Rakamaric 2011), while losses and partitions are not bounded. A disk is
 * quick unless the move says otherwise. The three nodes are alike, so that the first to stand for election may be node
 * 1, with the pre-vote of node 2.
 *
 * Checked in each state: one leader a term; equal (index, term) means equal logs up to
 * there; whoever leads has all that was committed in earlier terms; nobody commits anything else than what was
 * committed there before, nor what no majority has on disk; nobody votes twice; and in each step what node.h says. */
#ifndef QFS_TESTS_EXPLORE_SEARCH_H
#define QFS_TESTS_EXPLORE_SEARCH_H

#include "tests/explore/node.h"

struct ex_outcome {
    uint64_t states, transitions, steps, pruned;
    uint32_t node_states, messages, depth, leaders, commits;
    bool complete;         /* there is nothing more within the bounds */
    const char *violation; /* NULL: none; else it was printed, with the way to it */
};

/* At most max_states distinct states. */
struct ex_outcome ex_search(const struct ex_bounds *bounds, uint64_t max_states);

#endif
