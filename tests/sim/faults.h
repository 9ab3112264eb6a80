/* faults.h - the kinds of faults a run may have, by name, and how often each happened. */
#ifndef QFS_TESTS_SIM_FAULTS_H
#define QFS_TESTS_SIM_FAULTS_H

#include "base/base.h"

/*  kind, name, what it is */
#define SIM_FAULTS(X)                                                                                                  \
    X(KILL, "kill", "a server's process is killed")                                                                    \
    X(POWER, "power", "a server's machine loses its power: unsynced writes are lost in any subset")                    \
    X(POWER_ALL, "power-all", "all machines lose their power at once")                                                 \
    X(INSIDE, "inside", "a server dies between two effects, in the middle of its work")                                \
    X(STORM, "storm", "a server is killed and started again and again")                                                \
    X(PAUSE, "pause", "a server stands still for a while")                                                             \
    X(ISOLATE, "isolate", "a server is cut off from all others and from clients")                                      \
    X(SPLIT, "split", "the servers fall into two camps")                                                               \
    X(PAIRS, "pairs", "some pairs of servers do not reach each other, though both reach a third")                      \
    X(ONE_WAY, "one-way", "some servers are not heard by some others")                                                 \
    X(CLIENT_CUT, "client-cut", "a client reaches some servers only")                                                  \
    X(SLOW_LINK, "slow-link", "some ways take much longer")                                                            \
    X(RESET, "reset", "connections break")                                                                             \
    X(LOSS, "loss", "messages between servers are lost")                                                               \
    X(DOUBLE, "double", "messages between servers arrive twice")                                                       \
    X(REORDER, "reorder", "messages between servers overtake each other")                                              \
    X(DELAY, "delay", "some frames take ten times as long")                                                            \
    X(CORRUPT, "corrupt", "bits of frames change on the way")                                                          \
    X(SLOW_DISK, "slow-disk", "a disk takes up to half a second for each operation")                                   \
    X(HANG_DISK, "hang-disk", "a disk does not answer at all for a while")                                             \
    X(FULL_DISK, "full-disk", "a disk has no space left for a while")                                                  \
    X(WRITE_ERROR, "write-error", "a write fails, done in part")                                                       \
    X(SYNC_ERROR, "sync-error", "a durable write or a sync fails")                                                     \
    X(READ_ERROR, "read-error", "a read fails, once")                                                                  \
    X(BAD_BLOCK, "bad-block", "a block cannot be read until it is written again (a minority's disks)")                 \
    X(ROT, "rot", "bits on a disk change (a minority's disks)")                                                        \
    X(MISDIRECT, "misdirect", "a write goes elsewhere in its file and claims to be done (a minority's disks)")         \
    X(STALE, "stale", "a write claims to be done and never happened (a minority's disks)")                             \
    X(LOST_DISK, "lost-disk", "a disk is replaced by an empty one (a minority's)")                                     \
    X(WALL, "wall", "a wall clock jumps by up to an hour")                                                             \
    X(DRIFT, "drift", "a clock runs too fast or too slow: within the bound of leases, or far beyond without leases")   \
    X(CLIENT, "client", "a client's process dies")                                                                     \
    X(TRANSFER, "transfer", "the leader is asked to hand over")                                                        \
    X(MEMBERS, "members", "a server is removed, added again as a learner, or promoted")                                \
    X(CHURN, "churn", "members come, go and hand over all the time, now and then with an emptied disk")

enum sim_fault_kind {
#define X(id, name, what) SIM_FAULT_##id,
    SIM_FAULTS(X)
#undef X
    SIM_FAULT_KINDS
};

typedef uint64_t sim_fault_set; /* 1 << kind */
#define SIM_FAULT(id) (1ull << SIM_FAULT_##id)
#define SIM_FAULT_ALL ((1ull << SIM_FAULT_KINDS) - 1)

struct sim_fault_counts {
    uint64_t n[SIM_FAULT_KINDS];
};

const char *sim_fault_name(unsigned kind);
const char *sim_fault_what(unsigned kind);
/* Names of a set, with blanks between. */
void sim_faults_text(sim_fault_set set, char *out, size_t n);
/* "a,b" or "all,-a" or "none": false with the name that does not exist. */
bool sim_faults_parse(const char *text, sim_fault_set *out, char *bad, size_t n);

#endif
