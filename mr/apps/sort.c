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

struct space {
    char *p;
    size_t cap;
};

struct sorting {
    unsigned long field, bytes;
    bool numeric, reverse, unique;
    bool whole;                        /* the key is the line, the value nothing */
    bool head;                         /* the key is the line's beginning, the value its rest */
    struct space made, number;
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
    struct sorting *s = calloc(1, sizeof *s);
    if (!s || !number_of(c, "key", &s->field) || !number_of(c, "key-bytes", &s->bytes) ||
        !flag_of(c, "sort", "numeric", &s->numeric) || !flag_of(c, "sort", "reverse", &s->reverse) ||
        !flag_of(c, "sort", "unique", &s->unique)) {
        free(s);
        return 1;
    }
    c->user = s;
    s->whole = !s->field && !s->bytes && !s->numeric && !s->reverse;
    s->head = s->bytes && !s->field && !s->numeric && !s->reverse;
    return 0;
}

static int sort_end(struct mr_ctx *c)
{
    struct sorting *s = c->user;
    free(s->made.p);
    free(s->number.p);
    free(s);
    c->user = NULL;
    return 0;
}

/* NULL: there is no memory; it is told. */
static char *room(struct mr_ctx *c, struct space *s, size_t n)
{
    if (n > s->cap) {
        char *p = realloc(s->p, 2 * n);
        if (!p) {
            c->fail(c, "out of memory");
            return NULL;
        }
        s->p = p;
        s->cap = 2 * n;
    }
    return s->p;
}

static bool is_digit(char ch) { return ch >= '0' && ch <= '9'; }

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

/* Bytes that compare as the decimal numbers do, however long these are: the sign, how many digits the whole part has,
 * its digits, those of the fraction. Of negative ones all but the sign is turned round, and the end is above all
 * digits. No exponents, no words. */
static struct mr_bytes number_key(struct mr_ctx *c, struct sorting *s, struct mr_bytes text)
{
    const char *p = text.p, *end = text.p + text.n;
    size_t n = 0;

    while (p < end && (*p == ' ' || *p == '\t')) p++;
    bool negative = p < end && *p == '-';
    p += negative;
    while (p < end && *p == '0') p++;
    const char *whole = p;
    while (p < end && is_digit(*p)) p++;
    size_t whole_n = (size_t)(p - whole), fraction_n = 0;
    const char *fraction = p < end && *p == '.' ? p + 1 : end;
    while (fraction + fraction_n < end && is_digit(fraction[fraction_n])) fraction_n++;
    while (fraction_n && fraction[fraction_n - 1] == '0') fraction_n--;

    char *to = room(c, &s->number, 6 + whole_n + fraction_n);
    if (!to) return (struct mr_bytes){0};
    bool zero = whole_n + fraction_n == 0;
    to[n++] = (char)(zero ? 0x80 : negative ? 0x7f : 0x81);
    for (int i = 3; i >= 0 && !zero; i--) to[n++] = (char)(whole_n >> 8 * i);
    if (whole_n) memcpy(to + n, whole, whole_n);
    if (fraction_n) memcpy(to + n + whole_n, fraction, fraction_n);
    n += whole_n + fraction_n;
    for (size_t i = 1; negative && i < n; i++) to[i] = (char)~to[i];
    if (negative && !zero) to[n++] = (char)255;
    return (struct mr_bytes){to, n};
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

    if (s->whole) {
        c->emit(c, line, (struct mr_bytes){"", 0});
        return 0;
    }
    key = choose(s, line);
    if (s->head) {
        c->emit(c, key, (struct mr_bytes){line.p + key.n, line.n - key.n});
        return 0;
    }
    if (s->numeric) {
        key = number_key(c, s, key);
        if (!key.p) return 1;
    }
    if (s->reverse) {
        char *to = room(c, &s->made, 2 * key.n + 2);
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
            char *line = room(c, &s->made, key.n + v.n + 1);
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
