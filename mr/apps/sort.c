/* sort.c - sorts lines, or records of a fixed size, in byte order; the parts together are in order (--partition range is
 * its default).
 *
 *   --set key=N              by the N-th field of a line, not by all of it; fields are cut at TABs
 *   --set key-bytes=N        by the first N bytes
 *   --set numeric=1          that as a decimal number ("-12.5"; what is none counts as 0)
 *   --set reverse=1          the last first
 *   --set unique=1           of equal ones only the first
 *
 * What is equal in its key stays in the order of the input, as with `sort -s`. Without parameters the whole line is the
 * key, and there is no value. */
#include <stdlib.h>
#include <string.h>

#include "mr/apps/apps.h"
#include "mr/apps/flags.h"

struct sorting {
    unsigned long field, bytes;
    bool numeric, reverse, unique;
    bool whole;                        /* the key is the line, the value nothing */
    bool head;                         /* the key is the line's beginning, the value its rest */
    char *space;
    size_t cap;
};

/* False: it is set, and no number from 1. */
static bool number_of(struct mr_ctx *c, const char *name, unsigned long *out)
{
    const char *v = c->param(c, name);
    char *end;
    if (!v) return true;
    *out = strtoul(v, &end, 10);
    if (*v >= '0' && *v <= '9' && *end == 0 && *out > 0 && *out < 1u << 30) return true;
    c->fail(c, "sort: --set %s= wants a number from 1, not '%s'", name, v);
    return false;
}

static int sort_begin(struct mr_ctx *c)
{
    struct sorting *s = c->user = calloc(1, sizeof *s);
    if (!s || !number_of(c, "key", &s->field) || !number_of(c, "key-bytes", &s->bytes)) return 1;
    s->numeric = flag_set(c, "numeric");
    s->reverse = flag_set(c, "reverse");
    s->unique = flag_set(c, "unique");
    s->whole = !s->field && !s->bytes && !s->numeric && !s->reverse;
    s->head = s->bytes && !s->field && !s->numeric && !s->reverse;
    return 0;
}

static int sort_end(struct mr_ctx *c)
{
    struct sorting *s = c->user;
    free(s->space);
    free(s);
    c->user = NULL;
    return 0;
}

static char *room(struct mr_ctx *c, struct sorting *s, size_t n)
{
    if (n > s->cap) {
        char *p = realloc(s->space, 2 * n);
        if (!p) {
            c->fail(c, "out of memory");
            return NULL;
        }
        s->space = p;
        s->cap = 2 * n;
    }
    return s->space;
}

static struct mr_bytes choose(const struct sorting *s, struct mr_bytes line)
{
    for (unsigned long i = 1; i < s->field && line.n; i++) {
        const char *tab = memchr(line.p, '\t', line.n);
        size_t used = tab ? (size_t)(tab - line.p) + 1 : line.n;
        line = (struct mr_bytes){line.p + used, line.n - used};
    }
    const char *tab = s->field && line.n ? memchr(line.p, '\t', line.n) : NULL;
    if (tab) line.n = (size_t)(tab - line.p);
    if (s->bytes && line.n > s->bytes) line.n = s->bytes;
    return line;
}

/* Eight bytes that compare as the numbers do. */
static struct mr_bytes number_key(struct mr_bytes text, char *to)
{
    char copy[64] = {0};
    double d;
    uint64_t v;

    memcpy(copy, text.p, text.n < sizeof copy ? text.n : sizeof copy - 1);
    size_t blank = strspn(copy, " "), sign = copy[blank] == '-';
    copy[blank + sign + strspn(copy + blank + sign, "0123456789.")] = 0; /* no exponents, no words */
    d = strtod(copy + blank, NULL);
    if (d == 0) d = 0; /* -0 */
    memcpy(&v, &d, 8);
    v = v >> 63 ? ~v : v | 1ull << 63;
    for (int i = 0; i < 8; i++) to[i] = (char)(v >> (56 - 8 * i));
    return (struct mr_bytes){to, 8};
}

/* Bytes that compare the other way round: each is taken from 255, and an end is marked that is above all of them. */
static struct mr_bytes reverse_key(struct mr_bytes key, char *to)
{
    size_t n = 0;
    for (size_t i = 0; i < key.n; i++) {
        to[n++] = (char)(255 - (unsigned char)key.p[i]);
        if (key.p[i] == 0) to[n++] = 0;
    }
    to[n++] = (char)255;
    to[n++] = (char)255;
    return (struct mr_bytes){to, n};
}

static int sort_map(struct mr_ctx *c, const struct mr_record *r)
{
    struct sorting *s = c->user;
    struct mr_bytes line = r->text, key = line;
    char number[8];

    if (s->whole) {
        c->emit(c, line, (struct mr_bytes){"", 0});
        return 0;
    }
    key = choose(s, line);
    if (s->head) {
        c->emit(c, key, (struct mr_bytes){line.p + key.n, line.n - key.n});
        return 0;
    }
    if (s->numeric) key = number_key(key, number);
    if (s->reverse) {
        char *to = room(c, s, 2 * key.n + 2);
        if (!to) return 1;
        key = reverse_key(key, to);
    }
    c->emit(c, key, line);
    return 0;
}

static int sort_reduce(struct mr_ctx *c, struct mr_bytes key, struct mr_values *values)
{
    struct sorting *s = c->user;
    struct mr_bytes v;

    while (values->next(values, &v)) {
        if (s->whole) {
            c->emit_line(c, key);
        } else if (s->head) {
            char *line = room(c, s, key.n + v.n + 1);
            if (!line) return 1;
            memcpy(line, key.p, key.n);
            memcpy(line + key.n, v.p, v.n);
            c->emit_line(c, (struct mr_bytes){line, key.n + v.n});
        } else {
            c->emit_line(c, v);
        }
        if (s->unique) break;
    }
    return 0;
}

const struct mr_app mr__app_sort = {.abi = MR_ABI,
                                    .unit = MR_LINE,
                                    .begin = sort_begin,
                                    .end = sort_end,
                                    .map = sort_map,
                                    .reduce = sort_reduce,
                                    .partition = MR_PARTITION_RANGE};
