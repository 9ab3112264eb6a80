/* scribe.h - the coordinator's writes to the job's directory, on pool threads: a stalled filesystem must not stop the
 * loop. One batch of the journal is under way at a time; what is said meanwhile, and for some milliseconds after it, is
 * the next. Files for people are written beside it. */
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
/* Before io_loop_free(), which waits for the files: the journal's next batch is left to the end. */
void mr__scribe_stop(struct scribe *s);
/* After io_loop_free(): writes that batch, here and now, and frees. */
void mr__scribe_end(struct scribe *s);

#endif
