/* disk.h - a disk in memory behind struct disk (base/doors.h), which loses on a crash what a real one may lose.
 *
 * Each file has two images of 4 KiB blocks: what a reader sees now and what is safe. A completed write without `durable`
 * changes only the first, until DISK_SYNC. A power cut keeps of each unsafe block the old or the new bytes or a mix of
 * 512-byte sectors, of a file's growth any part; the operation at the head of each lane may have happened in part; files made
 * by DISK_WRITE alone may be gone and removed ones may be back, as doors.h promises no more. All chance comes from the seed. */
#ifndef QFS_TESTS_SIM_DISK_H
#define QFS_TESTS_SIM_DISK_H

#include "base/base.h"

struct sim_disk;

struct sim_disk_config {
    uint64_t seed;
    uint64_t capacity;                  /* bytes; 0: as good as endless */
    uint64_t op_ns_min, op_ns_max;      /* per operation */
    uint64_t mib_ns;                    /* and per MiB moved */
    uint32_t wait_percent;              /* of disk_try_read(): -EAGAIN */
};

/* With a clock, operations complete in its time; without, by sim_disk_step(). */
struct sim_disk *sim_disk_new(struct clock *clock, const struct sim_disk_config *config);
void sim_disk_free(struct sim_disk *d);
struct disk *sim_disk_door(struct sim_disk *d);
/* Completes one operation, of those that may be next one by chance. False: none is under way. */
bool sim_disk_step(struct sim_disk *d);
uint32_t sim_disk_pending(const struct sim_disk *d);

/* Power cut: operations under way are forgotten (their done() is never called). */
void sim_disk_crash(struct sim_disk *d);
/* The process dies, the machine lives: as a crash, but completed writes stay. */
void sim_disk_kill(struct sim_disk *d);
/* From now on what is asked for is not heard: a dying process's last wishes. */
void sim_disk_shut(struct sim_disk *d, bool on);
/* An independent disk with the same bytes, for trying out a crash: what has begun may have happened there in part, and
 * nothing is under way. */
struct sim_disk *sim_disk_clone(const struct sim_disk *d, struct clock *clock, uint64_t seed);
/* How many independent choices a power cut has now: each block written and not synced may be old or new, an operation that
 * has begun may have happened (a write: block by block), a name that is not safe may be there or not, a file may have grown. */
unsigned sim_disk_choices(const struct sim_disk *d);
/* An independent disk as it is after a power cut now, if choice i goes as how[i] says: 0 old or not, 1 new or yes, 2 (of a
 * block) torn: the first half of it new. */
struct sim_disk *sim_disk_cut(const struct sim_disk *d, struct clock *clock, const uint8_t *how);
/* A hash of all files, as a reader sees them. */
uint64_t sim_disk_digest(const struct sim_disk *d);
/* A disk replaced by an empty one. */
void sim_disk_wipe(struct sim_disk *d);

/* ---- faults ---- */

enum sim_disk_fault {
    SIM_DISK_ERROR,                     /* the operation fails with err, a write may have happened in part */
    SIM_DISK_SHORT,                     /* a write does half and says so */
    SIM_DISK_MISDIRECT,                 /* a write says it is done but went elsewhere in the same file */
    SIM_DISK_LOST,                      /* a write says it is done but never happened */
};
/* The nth (1: next) operation of those in the mask (1 << DISK_WRITE | ...) that completes from now on. One at a time. */
void sim_disk_fault(struct sim_disk *d, enum sim_disk_fault what, unsigned ops, uint64_t nth, int err);
/* The fault concerns only files whose names begin so (NULL: all). */
void sim_disk_fault_only(struct sim_disk *d, const char *prefix);
bool sim_disk_fault_due(const struct sim_disk *d);              /* it has not happened yet */
/* Changes bits of one byte, also what is safe. False: no such byte. */
bool sim_disk_flip(struct sim_disk *d, const char *name, uint64_t off, uint8_t bits);
/* The block cannot be read (EIO) until it is written. */
bool sim_disk_unreadable(struct sim_disk *d, const char *name, uint64_t block);
/* The block becomes what it is on another disk (zeros, where that has no such block). False: no such block here. */
bool sim_disk_replace(struct sim_disk *d, const char *name, uint64_t block, const struct sim_disk *from, const char *from_name);
/* Removes a file, also for good. */
bool sim_disk_delete(struct sim_disk *d, const char *name);
/* A block of a random file, weighed by size. False: the disk is empty. */
bool sim_disk_any_block(struct sim_disk *d, struct prng *r, char name[DISK_NAME_MAX], uint64_t *block);
void sim_disk_slow(struct sim_disk *d, uint32_t factor);        /* 1: as configured */
void sim_disk_hang(struct sim_disk *d, bool on);                /* nothing completes meanwhile */
/* It has just claimed a durable write that did not happen, or not there, and no later write to that file has been
 * durable: nothing on it gives the lie away yet. */
bool sim_disk_lies(const struct sim_disk *d);
void sim_disk_capacity(struct sim_disk *d, uint64_t bytes);

/* What has gone wrong so far. */
struct sim_disk_stats {
    uint64_t unsynced, torn;            /* blocks whose unsynced write a crash undid, or left in part */
    uint64_t write_errors, read_errors, sync_errors, misdirected, lost, rotten, nospace;
};
void sim_disk_stats(const struct sim_disk *d, struct sim_disk_stats *out);

uint64_t sim_disk_size(const struct sim_disk *d, const char *name);     /* 0: none */
uint64_t sim_disk_used(const struct sim_disk *d);
uint64_t sim_disk_ops(const struct sim_disk *d, enum disk_op op);       /* completed so far */

#endif
