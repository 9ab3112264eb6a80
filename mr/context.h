/* context.h - a running application's side of struct mr_ctx, for map.c and reduce.c. */
#ifndef QFS_MR_CONTEXT_H
#define QFS_MR_CONTEXT_H

#include "mr/program.h"

struct context {
    struct mr_ctx pub;
    const struct program_context *c;
    struct buf *why;
    bool failed;                       /* it said so itself */
    void (*pair)(void *arg, struct slice key, struct slice value);
    void (*line)(void *arg, struct slice line);                /* NULL: not here */
    void *arg;
};

void mr__context_init(struct context *x, const struct program_context *c, struct buf *why);
/* What the application's function returned, made into 0 or a negative error with `why`. */
int mr__context_result(struct context *x, int result, const char *function);

#endif
