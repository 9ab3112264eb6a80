/* flags.h - parameters (--set) of the shipped applications that are switches. */
#ifndef QFS_MR_FLAGS_H
#define QFS_MR_FLAGS_H

#include <string.h>

#include "mr/mr.h"

/* False: it is set, but neither to 1 (yes, true) nor to 0 (no, false); that is told. */
static inline bool flag_of(struct mr_ctx *c, const char *app, const char *name, bool *out)
{
    const char *v = c->param(c, name);
    *out = v && (strcmp(v, "1") == 0 || strcmp(v, "yes") == 0 || strcmp(v, "true") == 0);
    if (!v || *out || strcmp(v, "0") == 0 || strcmp(v, "no") == 0 || strcmp(v, "false") == 0) return true;
    c->fail(c, "%s: --set %s= wants 1 or 0, not '%s'", app, name, v);
    return false;
}

#endif
