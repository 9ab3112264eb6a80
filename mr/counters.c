/* counters.c - see counters.h. Sums wrap; names are validated where they come in, so that they print anywhere. */
#include "mr/counters.h"

#include <stdlib.h>

#include "mr/util.h"

void mr__counters_free(struct counters *c)
{
    for (size_t i = 0; i < c->user_n; i++) free(c->user[i].name);
    free(c->user);
    free(c->heavy);
    buf_free(&c->skipped);
    *c = (struct counters){0};
}

static bool good_name(struct slice name)
{
    if (name.n == 0 || name.n > MR_COUNTER_NAME_MAX) return false;
    for (size_t i = 0; i < name.n; i++) {
        uint8_t ch = name.p[i];
        bool alnum = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9');
        if (!alnum && (ch == 0 || !strchr("._:-", ch))) return false;
    }
    return true;
}

bool mr__counters_add(struct counters *c, struct slice name, int64_t n)
{
    size_t at = 0;
    int cmp = 1;

    if (!good_name(name)) return false;
    while (at < c->user_n && (cmp = slice_cmp(slice_str(c->user[at].name), name)) < 0) at++;
    if (at == c->user_n || cmp != 0) {
        if (c->user_n == MR_COUNTERS_MAX) return false;
        c->user = xrealloc(c->user, (c->user_n + 1) * sizeof *c->user);
        memmove(c->user + at + 1, c->user + at, (c->user_n - at) * sizeof *c->user);
        c->user[at].name = mr__str(name);
        c->user[at].n = 0;
        c->user_n++;
    }
    c->user[at].n = (int64_t)((uint64_t)c->user[at].n + (uint64_t)n);
    return true;
}

void mr__counters_merge(struct counters *into, const struct counters *from)
{
    for (int i = 0; i < MR_COUNTERS_BUILT_IN; i++) into->built_in[i] += from->built_in[i];
    for (size_t i = 0; i < from->user_n; i++) mr__counters_add(into, slice_str(from->user[i].name), from->user[i].n);
    if (from->heavy && !into->heavy) into->heavy = xcalloc(1, sizeof *into->heavy);
    for (uint32_t i = 0; from->heavy && i < from->heavy->n; i++) mr__heavy_offer(into->heavy, &from->heavy->top[i]);
    put_bytes(&into->skipped, buf_slice(&from->skipped));
}

void mr__counters_encode(struct buf *b, const struct counters *c)
{
    for (int i = 0; i < MR_COUNTERS_BUILT_IN; i++) put_u64(b, c->built_in[i]);
    mr__heavy_encode(b, c->heavy);
    put_slice32(b, buf_slice(&c->skipped));
    for (size_t i = 0; i < c->user_n; i++) {
        put_slice16(b, slice_str(c->user[i].name));
        put_i64(b, c->user[i].n);
    }
}

bool mr__counters_decode(struct slice in, struct counters *c)
{
    struct reader r = reader_of(in);
    bool ok = true;

    for (int i = 0; i < MR_COUNTERS_BUILT_IN; i++) c->built_in[i] = get_u64(&r);
    ok = mr__heavy_decode(&r, &c->heavy);
    put_bytes(&c->skipped, get_slice32(&r));
    while (ok && !r.bad && reader_left(&r)) {
        struct slice name = get_slice16(&r);
        int64_t n = get_i64(&r);
        ok = !r.bad && mr__counters_add(c, name, n);
    }
    if (ok && reader_done(&r)) return true;
    mr__counters_free(c);
    return false;
}

void mr__counters_json(struct buf *b, const struct counters *c)
{
    static const char *const names[] = {
#define X(name, text) text,
        MR_COUNTERS(X)
#undef X
    };
    for (int i = 0; i < MR_COUNTERS_BUILT_IN; i++)
        mr__fmt(b, "%s\"%s\": %llu", i ? ",\n  " : "{\n  ", names[i], (unsigned long long)c->built_in[i]);
    for (size_t i = 0; i < c->user_n; i++) {
        mr__fmt(b, ",\n  ");
        mr__json_str(b, slice_str(c->user[i].name));
        mr__fmt(b, ": %lld", (long long)c->user[i].n);
    }
    mr__fmt(b, "\n}\n");
}
