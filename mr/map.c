/* map.c - running a map program over a split: an application call by call, or a command as a filter.
 *
 * Failure modes: the application or command fails (its own words), the input cannot be read, the pairs cannot be kept.
 */
#include <stdlib.h>

#include "mr/collect.h"
#include "mr/context.h"
#include "mr/split.h"
#include "mr/stream.h"
#include "mr/util.h"

static int collect_result(const struct collect *out, struct buf *why)
{
    struct slice what;
    int rc = mr__collect_error(out, &what);
    if (rc == 0 || why->n) return rc; /* why: a combiner's own words */
    if (what.n)
        put_bytes(why, what);
    else
        mr__fmt(why, "cannot write the map output: %s", err_text(rc));
    return rc;
}

/* ---- applications ---- */

static void to_collect(void *arg, struct slice key, struct slice value) { mr__collect_pair(arg, key, value); }
static void number_to_collect(void *arg, struct slice key, int64_t n) { mr__collect_number(arg, key, n); }

static int map_lines(const struct mr_app *app, struct context *x, struct mr_record *r, struct slice chunk)
{
    const uint8_t *p = chunk.p, *end = p + chunk.n;
    uint64_t base = r->offset;
    int result = 0;

    while (p < end && result == 0 && !x->failed) {
        const uint8_t *lf = memchr(p, '\n', (size_t)(end - p)), *stop = lf ? lf : end;
        r->offset = base + (uint64_t)(p - chunk.p);
        r->text = (struct mr_bytes){(const char *)p, (size_t)(stop - p)};
        if (r->text.n && stop[-1] == '\r') r->text.n--;
        result = app->map(&x->pub, r);
        p = lf ? lf + 1 : end;
    }
    return result;
}

static int map_app(const struct mr_app *app, const struct program_context *c, struct split_reader *in,
                   struct collect *out, struct buf *why)
{
    const char *slash = strrchr(c->path, '/');
    struct mr_record r = {.document = slash ? slash + 1 : c->path, .path = c->path};
    struct slice chunk;
    struct context x;
    int rc;

    mr__context_init(&x, c, why);
    x.pair = to_collect;
    x.number = number_to_collect;
    x.arg = out;
    rc = app->begin ? mr__context_result(&x, app->begin(&x.pub), "begin") : 0;
    while (rc == 0 && (rc = mr__split_next(in, &chunk, &r.offset, why)) > 0) {
        r.text = (struct mr_bytes){(const char *)chunk.p, chunk.n};
        int result = app->unit == MR_LINE ? map_lines(app, &x, &r, chunk) : app->map(&x.pub, &r);
        rc = mr__context_result(&x, result, "map");
        if (rc == 0) rc = collect_result(out, why);
        c->counters->built_in[MR_INPUT_BYTES] += chunk.n;
        c->touch(c->arg, chunk.n);
    }
    if (rc == 0 && app->end) rc = mr__context_result(&x, app->end(&x.pub), "end");
    return rc == 0 ? collect_result(out, why) : rc;
}

/* ---- commands ---- */

static void line_to_collect(void *arg, struct slice line)
{
    const uint8_t *tab = line.n ? memchr(line.p, '\t', line.n) : NULL;
    size_t n = tab ? (size_t)(tab - line.p) : line.n;
    mr__collect_pair(arg, slice_sub(line, 0, n), tab ? slice_sub(line, n + 1, line.n - n - 1) : (struct slice){0});
}

/* What the command finds in its environment; the second half are the names that Hadoop's users know. */
#define MAP_ENV 9
static void make_env(const struct program_context *c, char *env[MAP_ENV])
{
    env[0] = mr__strf("MR_JOB=%s", c->job);
    env[1] = mr__strf("MR_TASK=%u", c->task);
    env[2] = mr__strf("MR_ATTEMPT=%u", c->attempt);
    env[3] = mr__strf("MR_INPUT_FILE=%s", c->path);
    env[4] = mr__strf("MR_INPUT_OFFSET=%llu", (unsigned long long)c->off);
    env[5] = mr__strf("MR_INPUT_BYTES=%llu", (unsigned long long)c->len);
    env[6] = mr__strf("mapreduce_map_input_file=%s", c->path);
    env[7] = mr__strf("mapreduce_map_input_start=%llu", (unsigned long long)c->off);
    env[8] = NULL;
}

static int map_command(const struct program *p, const struct program_context *c, struct split_reader *in,
                       struct collect *out, struct buf *why)
{
    char *env[MAP_ENV];
    struct stream *s = NULL;
    struct slice chunk;
    uint64_t off;

    make_env(c, env);
    struct stream_options o = {.command = p->command,
                               .cwd = c->cwd,
                               .env = env,
                               .line = line_to_collect,
                               .arg = out,
                               .touch = c->touch,
                               .touch_arg = c->arg};
    int rc = mr__stream_open(&o, &s, why);
    while (rc == 0 && (rc = mr__split_next(in, &chunk, &off, why)) > 0) {
        rc = mr__stream_feed(s, chunk, why);
        if (rc == 0) rc = collect_result(out, why);
        c->counters->built_in[MR_INPUT_BYTES] += chunk.n;
        c->touch(c->arg, chunk.n);
    }
    if (rc == 0)
        rc = mr__stream_close(s, why);
    else
        mr__stream_kill(s);
    for (int i = 0; i < MAP_ENV; i++) free(env[i]);
    return rc == 0 ? collect_result(out, why) : rc;
}

int mr__program_map(const struct program *p, const struct program_context *c, struct split_reader *in,
                    struct collect *out, struct buf *why)
{
    return p->app ? map_app(p->app, c, in, out, why) : map_command(p, c, in, out, why);
}
