/* check_history.h - at the end of a run: was what the clients saw the work of one store that did one thing after the
 * other?
 *
 * Every answer names the log index at which it took effect, so the log itself is the witness of the order. The commands
 * that were applied (check_log.h) are executed once more, one after the other, by a store of its own without any
 * faults, and each answer must be the one that this store gives at that index: linearizability, with the order known.
 * On top of that: the order agrees with real time; every acknowledged change is in the log, once, as it was asked for;
 * and, without looking at sessions and numbers at all, every token appended to the append-only keys is there exactly
 * once if its append was acknowledged, at most once if not. */
#ifndef QFS_TESTS_SIM_CHECK_HISTORY_H
#define QFS_TESTS_SIM_CHECK_HISTORY_H

#include "tests/sim/check_log.h"
#include "tests/sim/history.h"

/* Keys that begin so take only appends of the form " token ", the token "client.life.number" in decimal. */
#define SIM_APPEND_ONLY "log/"

struct sim_watches;
/* `ws`, what was told to watchers, may be NULL. */
void sim_check_history(struct sim_cluster *c, const struct sim_history *h, const struct sim_watches *ws);

#endif
