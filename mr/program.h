/* program.h - what runs as map, combine or reduce: a shipped application, one from a shared object, or a command. */
#ifndef QFS_MR_PROGRAM_H
#define QFS_MR_PROGRAM_H

#include "mr/counters.h"
#include "mr/format.h"
#include "mr/mr.h"
#include "mr/sorted.h"

enum program_role { PROGRAM_MAP, PROGRAM_COMBINE, PROGRAM_REDUCE };
extern const char *const mr__role_names[3];

struct program {
    const struct mr_app *app;          /* NULL: a command, or only a fold */
    const char *command;               /* NULL: an application */
    enum mr_fold fold;                 /* of a combiner */
    void *shared;                      /* dlopen's */
};

/* `text` is as the user gave it (mr.h, struct mr_options); it must outlive the program. 0 or a negative error and
 * `why`: no such program, not a shared object of this ABI, without the function that the role needs. */
int mr__program_open(const char *text, enum program_role role, struct program *out, struct buf *why);
void mr__program_close(struct program *p);
/* The parameters (--set) that a shipped program knows, with blanks between them; NULL: it is none of ours, which may know
 * any. */
const char *mr__program_params(const struct program *p);
/* What stands for `text` wherever it is run: a shared object gets its absolute path. free() it. */
char *mr__program_absolute(const char *text);

/* Everything about the task that a program is told. */
struct program_context {
    const char *job, *cwd;
    uint32_t task, attempt;
    const char *path;                  /* map: the input file, and the split */
    uint64_t off, len;
    const struct format *format;
    struct counters *counters;
    struct skip *skip;                 /* map: records to leave out; NULL: none (skip.h) */
    void (*touch)(void *arg, uint64_t bytes);      /* there is progress */
    uint64_t limit_ns;                 /* a command without progress for so long is killed; 0: not here (stream.h) */
    void (*idle)(void *arg);           /* while a command is waited for; may be NULL */
    void *arg;
};

struct split_reader;
struct collect;
/* Runs a map program over a split. 0 or a negative error and `why`. */
int mr__program_map(const struct program *p, const struct program_context *c, struct split_reader *in,
                    struct collect *out, struct buf *why);
/* Runs a combine or reduce program over sorted pairs. */
int mr__program_reduce(const struct program *p, enum program_role role, const struct program_context *c,
                       struct sorted *in, struct sink *out, struct buf *why);

#endif
