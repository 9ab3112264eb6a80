/* reporter.c - reporter.h. */
#include "mr/reporter.h"

#include "mr/util.h"

#define COUNTER "reporter:counter:"
#define STATUS  "reporter:status:"

static bool begins(struct slice *line, const char *word)
{
    size_t n = strlen(word);
    if (line->n < n || memcmp(line->p, word, n) != 0) return false;
    *line = slice_sub(*line, n, line->n - n);
    return true;
}

static void put_name(struct buf *b, struct slice s)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    for (size_t i = 0; i < s.n; i++) put_u8(b, s.p[i] && strchr(good, s.p[i]) ? s.p[i] : '_');
}

/* "GROUP,COUNTER,N"; the group may hold no comma, the counter may. */
static bool take_counter(struct reporter *r, struct slice s)
{
    const uint8_t *first = memchr(s.p, ',', s.n), *last = memrchr(s.p, ',', s.n);
    struct buf name = {0};
    int64_t n;

    if (!first || last == first || !mr__number(slice_of(last + 1, (size_t)(s.p + s.n - last) - 1), &n)) return false;
    put_name(&name, slice_of(s.p, (size_t)(first - s.p)));
    put_u8(&name, ':');
    put_name(&name, slice_of(first + 1, (size_t)(last - first) - 1));
    if (!mr__counters_add(r->c->counters, buf_slice(&name), n) && r->why.n == 0)
        mr__fmt(&r->why, "the counter '%.*s' cannot be kept: names have up to %u characters, and a job %u counters",
                (int)min_u64(name.n, 100), name.p, MR_COUNTER_NAME_MAX, MR_COUNTERS_MAX);
    buf_free(&name);
    return true;
}

bool mr__reporter_line(void *reporter, struct slice line)
{
    struct reporter *r = reporter;

    if (line.n && line.p[line.n - 1] == '\r') line.n--;
    if (begins(&line, COUNTER)) {
        if (!take_counter(r, line)) return false;
    } else if (begins(&line, STATUS)) {
        buf_clear(&r->status);
        put_bytes(&r->status, slice_sub(line, 0, min_u64(line.n, 200)));
    } else {
        return false;
    }
    r->c->touch(r->c->arg, 0);
    return true;
}

int mr__reporter_end(struct reporter *r, int rc, struct buf *why)
{
    if (rc == 0 && r->why.n) {
        put_bytes(why, buf_slice(&r->why));
        rc = -ENOBUFS;
    } else if (rc < 0 && r->status.n) {
        mr__fmt(why, "; its last status: %.*s", (int)r->status.n, r->status.p);
    }
    buf_free(&r->status);
    buf_free(&r->why);
    return rc;
}
