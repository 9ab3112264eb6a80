/* report.h - what a run says: lines in virtual time, kept for the end and printed as they happen where that is wanted;
 * and how a run that fails ends: with the last lines, seed, commit, options and the one command that replays it.
 *
 * One run at a time in a program. */
#ifndef QFS_TESTS_SIM_REPORT_H
#define QFS_TESTS_SIM_REPORT_H

#include "base/base.h"

struct sim_cluster;

enum sim_loudness {
    SIM_QUIET,
    SIM_STORY, /* what happens, in words: elections, commits, faults, operations */
    SIM_DEBUG, /* and what the parts say of themselves */
    SIM_FRAMES /* and every frame */
};

extern const char sim_commit[]; /* of the sources this program was built from */

enum sim_loudness sim_loudness(void);
void sim_set_loudness(enum sim_loudness l);
/* The run that begins: what it is, and the command that does it again (the flag for the trace included). */
__attribute__((format(printf, 3, 4))) void sim_report_begin(uint64_t seed, const char *title, const char *replay, ...);
/* Whose time and options the lines belong to; NULL: nobody's. */
void sim_report_cluster(struct sim_cluster *c);
void sim_report_line(const char *text);

__attribute__((noreturn, format(printf, 2, 3))) void sim_fail(struct sim_cluster *c, const char *fmt, ...);
__attribute__((format(printf, 2, 3))) void sim_say(struct sim_cluster *c, const char *fmt, ...); /* a line */

/* ---- seeds of a test program --- */

/* QFS_SEED=n: that one; QFS_SEEDS=k: k of them; else `usual`, a tenth of it where QFS_SLOW is set. Calls run with each.
 */
void sim_seeds(uint64_t first, unsigned usual, void (*run)(uint64_t seed));
/* How many that are. */
unsigned sim_seed_count(unsigned usual);

#endif
