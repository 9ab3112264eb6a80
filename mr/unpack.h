/* unpack.h - gzip and zstd files as streams of what is in them. */
#ifndef QFS_MR_UNPACK_H
#define QFS_MR_UNPACK_H

#include "base/base.h"

enum packing { PACKING_NONE, PACKING_GZIP, PACKING_ZSTD };
/* By the name's end: ".gz", ".zst". */
enum packing mr__packing_of(const char *path);

/* A file may consist of several streams, one behind the other; what comes out is all of them. */
struct unpack;
struct unpack *mr__unpack_new(enum packing kind);
void mr__unpack_free(struct unpack *u);        /* NULL is allowed */
/* Takes from `in` (which moves on) and appends to `out` up to about `want` bytes. 0, or -EBADMSG and `why`. */
int mr__unpack(struct unpack *u, struct slice *in, struct buf *out, size_t want, struct buf *why);
/* The input is over: was that the end of a stream? Else it was cut off: -EBADMSG and `why`. */
int mr__unpack_end(const struct unpack *u, struct buf *why);

#endif
