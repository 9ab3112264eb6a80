/* grep.c - the lines that match a regular expression, as "FILE:OFFSET:LINE", in the order of files and offsets.
 *
 *   --set pattern=ERE        what to look for (extended regular expression, POSIX)
 *   --set ignore-case=1      --set invert=1 (the lines that do not match)
 *
 * The parts together are in order (--partition range is its default). The key is the file's path, a NUL, and the offset
 * in eight bytes, the highest first. */
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mr/apps/apps.h"
#include "mr/apps/flags.h"

struct grep {
    regex_t regex;
    bool compiled, invert;
    const char *literal;               /* the pattern, where it is no more than a text */
    size_t literal_n;
    char *key;                         /* made anew for each file */
    size_t key_n;
    const char *path;
    char *line;
    size_t line_cap;
};

static bool compile(struct mr_ctx *c, struct grep *g, const char *pattern, bool ignore_case)
{
    char text[200];
    if (*pattern && !ignore_case && strcspn(pattern, "\\[](){}.*+?^$|\n") == strlen(pattern)) {
        g->literal = pattern;
        g->literal_n = strlen(pattern);
        return true;
    }
    int rc = regcomp(&g->regex, pattern, REG_EXTENDED | (ignore_case ? REG_ICASE : 0));
    g->compiled = rc == 0;
    if (rc == 0) return true;
    regerror(rc, &g->regex, text, sizeof text);
    c->fail(c, "grep: the pattern '%s' is no regular expression: %s", pattern, text);
    return false;
}

static int grep_begin(struct mr_ctx *c)
{
    const char *pattern = c->param(c, "pattern");
    struct grep *g = calloc(1, sizeof *g);
    bool ignore_case;

    if (!pattern) c->fail(c, "grep wants --set pattern=REGEX");
    if (!g || !pattern || !flag_of(c, "grep", "ignore-case", &ignore_case) ||
        !flag_of(c, "grep", "invert", &g->invert) || !compile(c, g, pattern, ignore_case)) {
        free(g);
        return 1;
    }
    c->user = g;
    return 0;
}

static int grep_end(struct mr_ctx *c)
{
    struct grep *g = c->user;
    if (g->compiled) regfree(&g->regex);
    free(g->key);
    free(g->line);
    free(g);
    c->user = NULL;
    return 0;
}

static bool matches(const struct grep *g, const char *p, size_t n)
{
    regmatch_t m = {.rm_so = 0, .rm_eo = (regoff_t)n};
    if (g->literal) return n >= g->literal_n && memmem(p, n, g->literal, g->literal_n);
    return regexec(&g->regex, p, 1, &m, REG_STARTEND) == 0;
}

static int begin_file(struct grep *g, const char *path)
{
    size_t n = strlen(path);
    char *key = realloc(g->key, n + 9);
    if (!key) return 1;
    memcpy(key, path, n + 1);
    g->key = key;
    g->key_n = n + 9;
    g->path = path;
    return 0;
}

static void found(struct mr_ctx *c, struct grep *g, uint64_t offset, const char *p, size_t n)
{
    for (int i = 0; i < 8; i++) g->key[g->key_n - 8 + (size_t)i] = (char)(offset >> (56 - 8 * i));
    c->emit(c, (struct mr_bytes){g->key, g->key_n}, (struct mr_bytes){p, n});
}

static int grep_map(struct mr_ctx *c, const struct mr_record *r)
{
    struct grep *g = c->user;
    const char *begin = r->text.p, *end = begin + r->text.n, *p = begin;

    if (g->path != r->path && begin_file(g, r->path)) {
        c->fail(c, "out of memory");
        return 1;
    }
    while (p < end) {
        if (g->literal && !g->invert) { /* on to the line that has it */
            const char *hit = memmem(p, (size_t)(end - p), g->literal, g->literal_n);
            if (!hit) break;
            const char *before = memrchr(p, '\n', (size_t)(hit - p));
            if (before) p = before + 1;
        }
        const char *lf = memchr(p, '\n', (size_t)(end - p));
        const char *stop = lf ? lf : end, *next = stop + 1;
        if (stop > p && stop[-1] == '\r') stop--;
        size_t n = (size_t)(stop - p);
        if (matches(g, p, n) != g->invert) found(c, g, r->offset + (uint64_t)(p - begin), p, n);
        p = next;
    }
    return 0;
}

static int grep_reduce(struct mr_ctx *c, struct mr_bytes key, struct mr_values *values)
{
    struct grep *g = c->user;
    struct mr_bytes v;
    uint64_t offset = 0;

    if (key.n < 9) {
        c->fail(c, "grep's reducer takes what grep's mapper gives");
        return 1;
    }
    for (size_t i = key.n - 8; i < key.n; i++) offset = offset << 8 | (unsigned char)key.p[i];
    while (values->next(values, &v)) {
        size_t need = key.n + 32 + v.n;
        if (need > g->line_cap) {
            char *line = realloc(g->line, 2 * need);
            if (!line) {
                c->fail(c, "out of memory");
                return 1;
            }
            g->line = line;
            g->line_cap = 2 * need;
        }
        int n = snprintf(g->line, g->line_cap, "%.*s:%llu:", (int)(key.n - 9), key.p, (unsigned long long)offset);
        memcpy(g->line + n, v.p, v.n);
        c->emit_line(c, (struct mr_bytes){g->line, (size_t)n + v.n});
    }
    return 0;
}

const struct mr_app mr__app_grep = {.abi = MR_ABI,
                                    .unit = MR_BLOCK,
                                    .begin = grep_begin,
                                    .end = grep_end,
                                    .map = grep_map,
                                    .reduce = grep_reduce,
                                    .partition = MR_PARTITION_RANGE};
