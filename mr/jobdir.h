/* jobdir.h - the directory of a job, beside its output: ".NAME.mr-ID". It is all that the job is, so any coordinator
 * that finds it can go on with the job; and it is what people look at (docs/MAPREDUCE.md lists its files).
 *
 * Who may act for the job is decided by one name in it, the *token*: the directory "out-E", E being the epoch. It is
 * only ever renamed: to "out-<E + 1>" by a coordinator that takes over, to the output by one that publishes, to "over-E"
 * by whoever ends the job without output. Each of these names "out-E" as the last part of its source, so the filesystem
 * itself lets exactly one of them succeed, on any mount, however late the others are carried out; no clock and no lock
 * is asked. A coordinator writes only below "epoch-E", which no other one writes to. */
#ifndef QFS_MR_JOBDIR_H
#define QFS_MR_JOBDIR_H

#include "base/base.h"

#define MR_EPOCHS_MAX 32768u           /* attempts of epoch E are numbered from E << 16 */

struct jobdir {
    char *path;                        /* the directory */
    char *output, *attempts;           /* absolute; "<path>/attempts": outputs of reduce attempts, made by workers */
    char *own;                         /* "<path>/epoch-<epoch>": written by this coordinator alone */
    uint32_t epoch;
    int journal, beat;                 /* descriptors; -1: not open */
    uint64_t beats;
    struct jobdir *above;              /* of the chain that this job is of: beats with it. Borrowed; may be NULL */
};

/* The path that a job with this output and id has; NULL and `why` if `output` is no name to make. free() it. */
char *mr__jobdir_path(const char *output, const char *id, struct buf *why);
/* Makes it, with the job's description (jobfile.h), in epoch 0, and removes what is left of dead jobs of this
 * output, also in `workdir` (NULL: the default). 0, or a negative error and `why`. */
int mr__jobdir_create(const char *path, const char *output, struct slice description, const char *workdir,
                      struct jobdir *out, struct buf *why);
/* What dead workers of the job, or of the chain's jobs, have left in `workdir`: before the job's directory goes. */
void mr__jobdir_drop_outputs(const char *path, const char *workdir);
/* Takes the job over from `epoch`. -ESTALE: somebody was faster, or the job is over; -EALREADY: its output has been
 * published, all that is missing is mr__output_clean(). */
int mr__jobdir_take(const char *path, uint32_t epoch, struct jobdir *out, struct buf *why);
void mr__jobdir_close(struct jobdir *d);           /* frees; on disk everything stays */

/* ---- the holder's; they block ---- */
int mr__jobdir_append(struct jobdir *d, struct slice records);     /* to the journal, and synced */
int mr__jobdir_beat(struct jobdir *d);             /* shows that we live. -ESTALE: it, or its chain, is ours no more */
int mr__jobdir_mine(const struct jobdir *d);       /* 0 or -ESTALE (also of its chain), or another error */
uint64_t mr__jobdir_inode(const char *dir, const char *name);      /* 0: there is no such thing */
/* Ends the job without output: nobody can act for it any more, its directory goes. -ESTALE: not in this epoch;
 * -EALREADY: it had just been published. */
int mr__jobdir_abolish(const char *path, uint32_t epoch);

/* ---- anybody's ---- */
enum job_state {
    JOB_UNBORN,                        /* its directory is being made, or its maker died over it */
    JOB_LIVE,                          /* it has a token: somebody works on it, or could */
    JOB_DONE,                          /* the output has been published */
    JOB_CANCELLED,                     /* ended without output, not yet removed */
};
struct job_look {
    enum job_state state;
    uint32_t epoch;                    /* while it is live */
    char *owner, *address, *beat;      /* of that epoch's coordinator; NULL where there is none */
};
int mr__jobdir_look(const char *path, struct job_look *out);       /* -ENOENT: there is no such job */
void mr__look_free(struct job_look *l);

/* The directory of the job that a user means: a job's directory, an output, or an id in the current directory. Of
 * several for one output the one that lives, else the latest. NULL and `why`. free() it. */
char *mr__jobdir_find(const char *job, struct buf *why);
/* Calls each() for every job's directory in `dir`. */
int mr__jobdir_each(const char *dir, void (*each)(void *arg, const char *path), void *arg);
const char *mr__jobdir_id(const char *path);       /* the ID in its name */
char *mr__jobdir_output(const char *path);         /* where its output is to be; NULL: not known. free() it */

#endif
