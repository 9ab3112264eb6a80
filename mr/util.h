/* util.h - what several files of mr/ need of strings, files and directories. */
#ifndef QFS_MR_UTIL_H
#define QFS_MR_UTIL_H

#include <sys/types.h>

#include "base/base.h"

__attribute__((format(printf, 2, 3))) void mr__fmt(struct buf *b, const char *format, ...);      /* appends */
__attribute__((format(printf, 1, 2), malloc)) char *mr__strf(const char *format, ...);          /* free() it */
char *mr__str(struct slice s);                                   /* a copy with a NUL behind it; free() it */
__attribute__((format(printf, 1, 2))) void mr__say(const char *format, ...);   /* "quorumfs mr: ...\n" to stderr */

void mr__quote(struct buf *b, const char *word);                 /* one word of a shell command line */
void mr__json_str(struct buf *b, struct slice s);     /* with the quotes; bytes that are no UTF-8 become "?" */
bool mr__number(struct slice s, int64_t *out);                   /* the whole of s is a decimal number that fits */
#define MR_DECIMAL_MAX 20u                                       /* "-9223372036854775808" */
struct slice mr__decimal(char space[MR_DECIMAL_MAX], int64_t n); /* what mr__number() reads; it lies in `space` */

int mr__write_all(int fd, const void *p, size_t n);
int64_t mr__read_at(int fd, void *p, size_t n, uint64_t off);    /* less than n only at the end of the file */
int mr__read_all(int fd, void *p, size_t n);                     /* from a pipe; QE_STOPPED at its end */

char *mr__absolute(const char *path);                            /* against the current directory; free() it */
int mr__mkdirs(const char *path);                                /* with its parents; there already: 0 */
int mr__rmtree(const char *path);                                /* not there: 0 */
int mr__sync_dir(const char *path);
char *mr__first_line(const char *path);                          /* without its LF; NULL: none. free() it */
/* The whole file, which may have `max` bytes; appends. */
int mr__read_file(const char *path, size_t max, struct buf *b);
/* dir/name with these bytes: the whole old file or the whole new one, whenever somebody looks. */
int mr__write_file(const char *dir, const char *name, struct slice text);
/* The same where nobody looks yet, in fewer steps; it stays after a power cut. */
int mr__write_new(const char *dir, const char *name, struct slice text);
uint64_t mr__now(void);                                          /* monotonic nanoseconds */

#endif
