/* stream.h - a user's command as a filter: bytes in on its stdin, lines or pairs out of its stdout; its stderr goes
 * where ours goes, but for the lines that are meant for us. */
#ifndef QFS_MR_STREAM_H
#define QFS_MR_STREAM_H

#include <sys/types.h>

#include "base/base.h"

struct stream_options {
    const char *command;               /* for /bin/sh -c */
    const char *cwd;                   /* NULL: as it is */
    char *const *env;                  /* added to the environment: "NAME=value", NULL at the end; may be NULL */
    void (*line)(void *arg, struct slice line);    /* without LF */
    /* Instead, if it is set: u32 key length, u32 value length, key, value. */
    void (*pair)(void *arg, struct slice key, struct slice value);
    void *arg;
    /* A line of its stderr: taken (true), or to be passed on; may be NULL: its stderr is ours. */
    bool (*err_line)(void *arg, struct slice line);
    void *err_arg;
    void (*touch)(void *arg, uint64_t bytes);      /* it printed something: there is progress; may be NULL */
    void *touch_arg;
    /* If it neither reads nor prints nor says a line that is taken for so long it is killed: -ETIME; 0: for ever. */
    uint64_t limit_ns;
    void (*idle)(void *arg);           /* while we wait for it, several times a second; may be NULL */
    void *idle_arg;
};

struct stream;
int mr__stream_open(const struct stream_options *o, struct stream **out, struct buf *why);
/* Blocks until the command took it; its output arrives meanwhile. A command that closes its stdin early (head) gets the
 * rest thrown away: 0. Errors are the system's. */
int mr__stream_feed(struct stream *s, struct slice bytes, struct buf *why);
/* Ends its input, hands out the rest of its output, waits for its end, frees. 0 if it exited with 0, else -ECHILD and
 * `why` names the command and how it ended; -EBADMSG: its last pair is cut off. */
int mr__stream_close(struct stream *s, struct buf *why);
void mr__stream_kill(struct stream *s);            /* SIGKILL, wait, free; NULL is allowed */
/* "exited with status 1", "was killed by signal 9 (Killed)"; 127 and 126 are explained. */
void mr__wait_text(struct buf *b, const char *command, int wait_status);

#endif
