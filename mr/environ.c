/* environ.c - environ.h. */
#include "mr/environ.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "mr/util.h"

void mr__environment_add(struct environment *e, const char *format, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, format);
    int n = vasprintf(&text, format, args);
    va_end(args);
    check(n >= 0);
    e->v = xrealloc(e->v, (e->n + 2) * sizeof *e->v);
    e->v[e->n++] = text;
    e->v[e->n] = NULL;
}

void mr__environment(const struct program_context *c, struct environment *e)
{
    for (size_t i = 0; i < c->format->params_n; i++) mr__environment_add(e, "%s", c->format->params[i]);
    mr__environment_add(e, "MR_JOB=%s", c->job);
    mr__environment_add(e, "MR_TASK=%u", c->task);
    mr__environment_add(e, "MR_ATTEMPT=%u", c->attempt);
}

void mr__environment_free(struct environment *e)
{
    for (size_t i = 0; i < e->n; i++) free(e->v[i]);
    free(e->v);
    *e = (struct environment){0};
}
