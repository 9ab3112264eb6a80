/* trace.c - formats one trace line. Lines under the sink's level cost a comparison; a line that does not fit is cut.
 * Control bytes, which user-given names may carry, become '?': one call is one line, and no name can forge another. */
#include "base/trace.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#define TRACE_LINE_MAX 1024

void trace_line(const struct trace *t, enum trace_level level, const char *fmt, ...)
{
    if (!t || !t->line || level < t->level) return;
    char text[TRACE_LINE_MAX];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (n < 0) text[0] = '\0';
    for (char *c = text; *c; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f) *c = '?';
    }
    t->line(t->arg, level, text);
}
