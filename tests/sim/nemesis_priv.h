/* nemesis_priv.h - what the files of the nemesis share: nemesis.c (when, processes, network, clocks), nemesis_disk.c,
 * nemesis_members.c.
 *
 * A kind of fault is a row of a table: what strikes. It returns false where that is not possible now (the budget, a
 * server that is down); then it does not count. */
#ifndef QFS_TESTS_SIM_NEMESIS_PRIV_H
#define QFS_TESTS_SIM_NEMESIS_PRIV_H

#include "tests/sim/check_log.h"
#include "tests/sim/nemesis.h"

struct lasting {
    struct sim_nemesis *nemesis;
    unsigned server;
    unsigned storm; /* deaths left of a restart storm */
    struct sim_event start, resume, quick, die;
};

struct sim_nemesis {
    struct sim_cluster *cluster;
    struct sim_load *load;
    sim_fault_set kinds;
    uint64_t pause_ms;
    bool changes; /* of members */
    struct prng rng;
    struct sim_event next, heal, watch, mend, churn;
    uint64_t bout_ends; /* of the changes of members under way */
    struct lasting servers[SIM_SERVERS_MAX];
    struct sim_fault_counts counts;
};

typedef bool (*sim_strike)(struct sim_nemesis *m, unsigned server);
extern const sim_strike sim__disk_strikes[SIM_FAULT_KINDS]; /* nemesis_disk.c: NULL where the kind is none of its */

/* A random moment within so many ms. */
uint64_t sim__after(struct sim_nemesis *m, uint64_t ms_max);
/* Would the others be enough to go on, if this one lost all it knows, now or later? */
bool sim__can_spare(const struct sim_nemesis *m, unsigned server);
/* Down, and up again later. False: it was down. */
bool sim__end_server(struct sim_nemesis *m, unsigned server, enum sim_death how);
/* The disk is as good as new, but for what it holds. */
void sim__disk_mend(struct sim_nemesis *m, unsigned server);

/* nemesis_members.c */
bool sim__change_members(struct sim_nemesis *m, unsigned server);
bool sim__members_whole(const struct sim_nemesis *m); /* all servers run and vote, by what each of them knows */
void sim__mend_members(struct sim_event *e);          /* until all servers are voters again */
void sim__churn(struct sim_event *e);                 /* bouts of changes, one after the other */

#endif
