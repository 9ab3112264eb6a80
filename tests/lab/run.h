/* run.h - runs the lab titles in the simulator and prints what the labs print. */
#ifndef QFS_TESTS_LAB_RUN_H
#define QFS_TESTS_LAB_RUN_H

#include "base/base.h"

struct lab_done {
    unsigned titles, runs;
};

/* lab: "raft", "kv", "more" (what goes beyond the labs) or NULL: raft and kv, or all where a title is given. Each wanted
 * title with `runs` seeds from `first` on; `program` is for the command that replays. False: there is no such title. */
bool lab_run(const char *lab, const char *title, uint64_t first, unsigned runs, const char *program,
             struct lab_done *done);
void lab_list(void);

#endif
