/* split.h - from the user's input arguments to the splits that map tasks read, and reading one. */
#ifndef QFS_MR_SPLIT_H
#define QFS_MR_SPLIT_H

#include <sys/stat.h>

#include "base/base.h"
#include "mr/format.h"

#define MR_RECORD_MAX (256u * MIB)     /* the longest line, and the largest file where files are taken whole */

struct input_file {
    char *path;                        /* absolute */
    uint64_t size;
    int64_t mtime_ns;
};

/* A line belongs to the split in which its first byte lies; so the splits of a file are any cut of its bytes. Records of
 * a fixed size are cut between them. Compressed files, files taken whole and files of pairs are one split. */
struct split {
    uint32_t file;
    uint64_t off, len;
};

struct plan {
    struct input_file *files;
    size_t files_n;
    struct split *splits;
    size_t splits_n;
    uint64_t bytes;
    size_t uncut_n;                    /* files that are larger than a split should be, but cannot be cut */
};

/* Files as they are, globs in byte order, directories with all below them in byte order (both without names that begin
 * with "." or "_"); a file that is named twice, in whatever spelling, counts once. A job's records (_SUCCESS ...) are
 * left out where something else of their directory is named with them: a shell's pattern did it. Empty files have a
 * split only where files are taken whole. 0, or a negative error and `why`. */
int mr__plan(const char *const *inputs, size_t n, uint64_t split_bytes, const struct format *f, struct plan *out,
             struct buf *why);
void mr__plan_free(struct plan *p);
int64_t mr__mtime(const struct stat *st);      /* nanoseconds */

/* Reads a split as chunks of whole records (the last line of a file may lack its LF). */
struct split_reader;
/* size and mtime_ns are the file's when the job was planned: another file by now is an error. `f` is borrowed. */
int mr__split_open(const char *path, uint64_t size, int64_t mtime_ns, uint64_t off, uint64_t len,
                   const struct format *f, struct split_reader **out, struct buf *why);
/* A file that stays open behind a split, for another one of it: in a mount, opening costs more than a short split. */
struct split_file {
    char *path;
    int fd; /* -1: none */
};
/* The same over kept->fd, if it is that file and unchanged; its file is kept when it is closed. */
int mr__split_reopen(struct split_file *kept, const char *path, uint64_t size, int64_t mtime_ns, uint64_t off,
                     uint64_t len, const struct format *f, struct split_reader **out, struct buf *why);
void mr__split_forget(struct split_file *kept); /* closes what is kept */
/* 1 with a chunk that lives until the next call, and where in the file (or in what comes out of a compressed one) it
 * begins; 0 at the end; or an error. */
int mr__split_next(struct split_reader *r, struct slice *chunk, uint64_t *off, struct buf *why);
/* Gives no more, once so many bytes were given: for a sample. Whole files stay whole. */
void mr__split_limit(struct split_reader *r, uint64_t bytes);
/* Bytes of the file that the last chunk stands for; of a compressed file: that were read for it. */
uint64_t mr__split_taken(const struct split_reader *r);
void mr__split_close(struct split_reader *r);

#endif
