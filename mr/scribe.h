/* scribe.h - the coordinator's writes to the job's directory, on a pool thread: a stalled filesystem must not stop the
 * loop. One batch is under way at a time; what is said meanwhile is the next. */
#ifndef QFS_MR_SCRIBE_H
#define QFS_MR_SCRIBE_H

#include "io/io.h"
#include "mr/jobdir.h"

struct scribe;
/* lost(): a batch failed, nothing is written any more. -ESTALE: the job is not ours any more. */
struct scribe *mr__scribe_new(struct io_loop *l, struct jobdir *d, void (*lost)(void *arg, int err), void *arg);
void mr__scribe_journal(struct scribe *s, struct slice records);
void mr__scribe_beat(struct scribe *s);
/* The file dir/name has these bytes; only the last word counts. Errors are ignored: such files are for people. All is
 * copied. */
void mr__scribe_file(struct scribe *s, const char *dir, const char *name, struct slice content);
/* Calls fn(arg) once, as soon as all that has been said is durable. */
void mr__scribe_then(struct scribe *s, void (*fn)(void *arg), void *arg);
/* After io_loop_free(): writes what is left, here and now, and frees. */
void mr__scribe_end(struct scribe *s);

#endif
