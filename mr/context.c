/* context.c - what an application calls through the pointers of struct mr_ctx. */
#include "mr/context.h"

#include <stdarg.h>
#include <stdio.h>

#include "mr/util.h"

static struct context *of(struct mr_ctx *c) { return container_of(c, struct context, pub); }

static void emit(struct mr_ctx *c, struct mr_bytes key, struct mr_bytes value)
{
    struct context *x = of(c);
    x->pair(x->arg, slice_of(key.p, key.n), slice_of(value.p, value.n));
}

static void emit_number(struct mr_ctx *c, struct mr_bytes key, int64_t n)
{
    struct context *x = of(c);
    char text[MR_DECIMAL_MAX];
    x->pair(x->arg, slice_of(key.p, key.n), mr__decimal(text, n));
}

static void fail(struct mr_ctx *c, const char *format, ...)
{
    struct context *x = of(c);
    char text[1000];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!x->failed) mr__fmt(x->why, "%s", text);
    x->failed = true;
}

static void count(struct mr_ctx *c, const char *name, int64_t n)
{
    if (mr__counters_add(of(c)->c->counters, slice_str(name), n)) return;
    fail(c, "the counter '%.100s' cannot be kept: names have 1 to %u letters, digits and ._:-, and a job %u counters",
         name, MR_COUNTER_NAME_MAX, MR_COUNTERS_MAX);
}

static void emit_line(struct mr_ctx *c, struct mr_bytes line)
{
    struct context *x = of(c);
    if (x->line)
        x->line(x->arg, slice_of(line.p, line.n));
    else
        fail(c, "emit_line() is for reduce functions only");
}

static const char *param(struct mr_ctx *c, const char *name) { return mr__format_param(of(c)->c->format, name); }

void mr__context_init(struct context *x, const struct program_context *c, struct buf *why)
{
    *x = (struct context){.c = c, .why = why};
    x->pub = (struct mr_ctx){.emit = emit,
                             .emit_number = emit_number,
                             .count = count,
                             .fail = fail,
                             .job = c->job,
                             .task = c->task,
                             .attempt = c->attempt,
                             .emit_line = emit_line,
                             .param = param};
}

int mr__context_result(struct context *x, int result, const char *function)
{
    if (x->failed) return -ECANCELED;
    if (result == 0) return 0;
    mr__fmt(x->why, "%s() returned %d", function, result);
    return -ECANCELED;
}
