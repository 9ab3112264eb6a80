/* flags.h - parameters (--set) of the shipped applications that are switches. */
#ifndef QFS_MR_FLAGS_H
#define QFS_MR_FLAGS_H

#include <string.h>

#include "mr/mr.h"

/* Set, and to anything but "0" and "no". */
static inline bool flag_set(struct mr_ctx *c, const char *name)
{
    const char *v = c->param(c, name);
    return v && strcmp(v, "0") != 0 && strcmp(v, "no") != 0;
}

#endif
