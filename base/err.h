/* err.h - one table of errors. Every function that can fail returns 0 (or a count) or a negative int: -errno where
 * POSIX has a name for it, else one of the codes below. */
#ifndef QFS_ERR_H
#define QFS_ERR_H

#include <errno.h>

#define QE_MAP(X)                                                                                                      \
    X(QE_NOT_LEADER, 2001, "this node is not the leader")                                                              \
    X(QE_SESSION, 2002, "the session has expired or was fenced; its unanswered operations may or may not have run")    \
    X(QE_CORRUPT, 2003, "damaged data: a checksum does not match")                                                     \
    X(QE_FENCED, 2004, "this node is fenced: it lost part of its log and must catch up from its peers first")          \
    X(QE_FRAME, 2005, "bytes that are no frame of this protocol")                                                      \
    X(QE_VERSION, 2006, "a format version this program does not know")                                                 \
    X(QE_CLUSTER, 2007, "it belongs to another cluster")                                                               \
    X(QE_BUSY, 2008, "too many operations are under way")                                                              \
    X(QE_GONE, 2009, "that part of the log is no longer kept")                                                         \
    X(QE_STOPPED, 2010, "the process is stopping")                                                                     \
    X(QE_MISMATCH, 2011, "the current value is not the expected one")

enum {
#define X(name, num, text) name = -(num),
    QE_MAP(X)
#undef X
};

/* A sentence for any code of the table or any negative errno; never NULL, static storage. */
const char *err_text(int err);
/* The symbolic name ("QE_CORRUPT", "ENOENT"), for logs and JSON. */
const char *err_name(int err);

#endif
