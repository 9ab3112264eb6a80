/* map.c - running a map program over a split: an application call by call, or a command as a filter.
 *
 * Failure modes: the application or command fails (its own words), the input cannot be read, the pairs cannot be kept.
 */
#include <stdlib.h>

#include "mr/collect.h"
#include "mr/context.h"
#include "mr/environ.h"
#include "mr/reporter.h"
#include "mr/skip.h"
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

/* What a mapper emits takes no way around: a word is counted in some 25 ns, all in all. */
static void emit(struct mr_ctx *c, struct mr_bytes key, struct mr_bytes value)
{
    const struct context *x = container_of(c, struct context, pub);
    mr__collect_pair(x->arg, slice_of(key.p, key.n), slice_of(value.p, value.n));
}

static void emit_number(struct mr_ctx *c, struct mr_bytes key, int64_t n)
{
    const struct context *x = container_of(c, struct context, pub);
    mr__collect_number(x->arg, slice_of(key.p, key.n), n);
}

/* Is this record to be handed out? Marks that it is. */
static bool admit(struct skip *s, uint64_t off, uint64_t len)
{
    if (!s) return true;
    if (s->records >= s->limit || mr__skipped(s, off)) return false;
    s->records++;
    s->last = (struct skip_range){off, len};
    return true;
}

static int map_record(const struct mr_app *app, struct context *x, struct mr_record *r,
                      const struct format_record *record)
{
    struct skip *s = x->c->skip;

    if (!admit(s, r->offset, record->raw.n)) return 0;
    r->text = (struct mr_bytes){(const char *)record->text.p, record->text.n};
    r->key = (struct mr_bytes){(const char *)record->key.p, record->key.n};
    if (s && s->one_by_one) *s->mark = (struct skip_mark){s->last, true};
    int result = app->map(&x->pub, r);
    if (s && s->one_by_one && result == 0 && !x->failed) s->mark->within = false;
    return result;
}

static int map_records(const struct mr_app *app, struct context *x, struct mr_record *r, struct slice chunk)
{
    const struct format *f = x->c->format;
    struct format_record record = {.text = chunk, .raw = chunk};
    uint64_t base = r->offset;
    struct slice rest = chunk;
    int result = 0;

    if (f->input == MR_IN_FILES) return map_record(app, x, r, &record); /* an empty one, too */
    while (result == 0 && !x->failed && mr__format_record(f, &rest, &record)) {
        r->offset = base + (uint64_t)(record.raw.p - chunk.p);
        result = map_record(app, x, r, &record);
    }
    return result;
}

/* The common case, kept apart for its speed. */
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

static int map_chunk(const struct mr_app *app, struct context *x, struct mr_record *r, struct slice chunk)
{
    const struct format *f = x->c->format;
    bool block = app->unit == MR_BLOCK && (f->input == MR_IN_LINES || f->input == MR_IN_RECORDS);

    r->text = (struct mr_bytes){(const char *)chunk.p, chunk.n};
    if (block && !(x->c->skip && x->c->skip->one_by_one)) return app->map(&x->pub, r);
    if (f->input == MR_IN_LINES && !x->c->skip) return map_lines(app, x, r, chunk);
    return map_records(app, x, r, chunk);
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
    x.pub.emit = emit;
    x.pub.emit_number = emit_number;
    x.arg = out;
    rc = app->begin ? mr__context_result(&x, app->begin(&x.pub), "begin") : 0;
    while (rc == 0 && (rc = mr__split_next(in, &chunk, &r.offset, why)) > 0) {
        uint64_t taken = mr__split_taken(in);
        rc = mr__context_result(&x, map_chunk(app, &x, &r, chunk), "map");
        if (rc == 0) rc = collect_result(out, why);
        c->counters->built_in[MR_INPUT_BYTES] += taken;
        c->touch(c->arg, taken);
    }
    if (rc == 0 && app->end) rc = mr__context_result(&x, app->end(&x.pub), "end");
    return rc == 0 ? collect_result(out, why) : rc;
}

/* ---- commands ---- */

struct command_output {
    const struct format *format;
    struct collect *out;
};

static void line_to_collect(void *arg, struct slice line)
{
    struct command_output *o = arg;
    struct slice key, value;
    mr__format_line(o->format, line, &key, &value);
    mr__collect_pair(o->out, key, value);
}

static void pair_to_collect(void *arg, struct slice key, struct slice value)
{
    struct command_output *o = arg;
    mr__collect_pair(o->out, key, value);
}

/* What the command finds in its environment, but for the job's parameters. */
static void make_env(const struct program_context *c, struct environment *e)
{
    mr__environment(c, e);
    mr__environment_add(e, "MR_INPUT_FILE=%s", c->path);
    mr__environment_add(e, "MR_INPUT_OFFSET=%llu", (unsigned long long)c->off);
    mr__environment_add(e, "MR_INPUT_BYTES=%llu", (unsigned long long)c->len);
    /* The names that Hadoop's users know. */
    mr__environment_add(e, "mapreduce_map_input_file=%s", c->path);
    mr__environment_add(e, "mapreduce_map_input_start=%llu", (unsigned long long)c->off);
}

static int put_record(const struct format *f, struct buf *b, const struct format_record *r, struct buf *why)
{
    if (f->pipe == MR_PIPE_PAIRS)
        mr__format_put_pair(b, r->key, r->text);
    else if (f->input == MR_IN_PAIRS)
        return mr__format_put_line(f, b, r->key, r->text, "a command's input line", why);
    else
        put_bytes(b, r->raw);
    return 0;
}

/* What goes to the command for this chunk: as it is, if that will do. */
static int make_feed(const struct program_context *c, struct slice *chunk, uint64_t off, struct buf *space,
                     struct buf *why)
{
    const struct format *f = c->format;
    struct format_record record = {.text = *chunk, .raw = *chunk};
    struct slice rest = *chunk;
    int rc = 0;

    if (!c->skip && f->pipe == MR_PIPE_LINES && f->input != MR_IN_PAIRS) return 0;
    buf_clear(space);
    if (f->input == MR_IN_FILES) {
        if (admit(c->skip, off, chunk->n)) rc = put_record(f, space, &record, why);
    } else {
        while (rc == 0 && mr__format_record(f, &rest, &record))
            if (admit(c->skip, off + (uint64_t)(record.raw.p - chunk->p), record.raw.n))
                rc = put_record(f, space, &record, why);
    }
    *chunk = buf_slice(space);
    return rc;
}

static int map_command(const struct program *p, const struct program_context *c, struct split_reader *in,
                       struct collect *out, struct buf *why)
{
    struct environment env = {0};
    struct reporter reporter = {.c = c};
    struct command_output output = {c->format, out};
    struct stream *s = NULL;
    struct slice chunk;
    struct buf space = {0};
    uint64_t off;

    make_env(c, &env);
    struct stream_options o = {.command = p->command,
                               .cwd = c->cwd,
                               .env = env.v,
                               .line = line_to_collect,
                               .pair = c->format->pipe == MR_PIPE_PAIRS ? pair_to_collect : NULL,
                               .arg = &output,
                               .err_line = mr__reporter_line,
                               .err_arg = &reporter,
                               .touch = c->touch,
                               .touch_arg = c->arg,
                               .limit_ns = c->limit_ns,
                               .idle = c->idle,
                               .idle_arg = c->arg};
    int rc = mr__stream_open(&o, &s, why);
    while (rc == 0 && (rc = mr__split_next(in, &chunk, &off, why)) > 0) {
        rc = make_feed(c, &chunk, off, &space, why);
        if (rc == 0) rc = mr__stream_feed(s, chunk, why);
        if (rc == 0) rc = collect_result(out, why);
        c->counters->built_in[MR_INPUT_BYTES] += mr__split_taken(in);
        c->touch(c->arg, mr__split_taken(in));
    }
    if (rc == 0)
        rc = mr__stream_close(s, why);
    else
        mr__stream_kill(s);
    rc = mr__reporter_end(&reporter, rc, why);
    mr__environment_free(&env);
    buf_free(&space);
    return rc == 0 ? collect_result(out, why) : rc;
}

int mr__program_map(const struct program *p, const struct program_context *c, struct split_reader *in,
                    struct collect *out, struct buf *why)
{
    return p->app ? map_app(p->app, c, in, out, why) : map_command(p, c, in, out, why);
}
