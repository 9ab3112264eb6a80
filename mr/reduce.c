/* reduce.c - running a combine or reduce program over a sorted stream of pairs: an application key by key, a command as
 * a filter that reads "key TAB value" lines in key order.
 *
 * Failure modes: the program fails; the stream breaks (told by in->err, the caller knows why); a key or value that a
 * line cannot carry: keys with TAB or LF and values with LF, towards a command. */
#include <stdlib.h>

#include "mr/context.h"
#include "mr/environ.h"
#include "mr/reporter.h"
#include "mr/stream.h"
#include "mr/util.h"

#define FEED_BYTES  (64u * 1024)
#define TOUCH_PAIRS 1024u

/* ---- applications ---- */

struct group {
    struct mr_values pub;
    struct sorted *in;
    struct buf key;                    /* of this group */
    struct slice next_key, next_value; /* the pair that was read ahead */
    bool more;                         /* there is one */
    bool asked;                        /* its value was handed out: read on first */
    const struct program_context *c;
    uint64_t pairs, bytes;
};

static void read_ahead(struct group *g)
{
    g->more = g->in->next(g->in, &g->next_key, &g->next_value);
    g->asked = false;
    if (!g->more) return;
    g->bytes += g->next_key.n + g->next_value.n;
    if (++g->pairs % TOUCH_PAIRS == 0) {
        g->c->touch(g->c->arg, g->bytes);
        g->bytes = 0;
    }
}

static bool next_value(struct mr_values *v, struct mr_bytes *value)
{
    struct group *g = container_of(v, struct group, pub);
    if (g->asked) read_ahead(g);
    if (!g->more || !slice_eq(g->next_key, buf_slice(&g->key))) return false;
    *value = (struct mr_bytes){(const char *)g->next_value.p, g->next_value.n};
    g->asked = true;
    return true;
}

static void to_sink(void *arg, struct slice key, struct slice value)
{
    struct sink *s = arg;
    if (s->err == 0) s->pair(s, key, value);
}

/* A line of the output, without a LF where it is raw. */
static void emitted_line(void *arg, struct slice line)
{
    struct sink *s = arg;
    if (s->err) return;
    if (s->line)
        s->line(s, line);
    else
        s->pair(s, line, (struct slice){0});
}

typedef int group_function(struct mr_ctx *c, struct mr_bytes key, struct mr_values *values);

static int each_group(group_function *f, struct context *x, struct group *g, struct sink *out, enum program_role role)
{
    struct mr_bytes rest;
    int rc = 0;

    read_ahead(g);
    while (rc == 0 && g->more) {
        buf_clear(&g->key);
        put_bytes(&g->key, g->next_key);
        int result = f(&x->pub, (struct mr_bytes){(const char *)g->key.p, g->key.n}, &g->pub);
        rc = mr__context_result(x, result, mr__role_names[role]);
        if (rc == 0) rc = out->err;
        while (rc == 0 && next_value(&g->pub, &rest)) continue;
    }
    return rc < 0 ? rc : g->in->err;
}

static int reduce_app(const struct mr_app *app, enum program_role role, const struct program_context *c,
                      struct sorted *in, struct sink *out, struct buf *why)
{
    struct group g = {.pub.next = next_value, .in = in, .c = c};
    struct context x;
    bool whole = role == PROGRAM_REDUCE;
    int rc = 0;

    mr__context_init(&x, c, why);
    x.pair = to_sink;
    x.line = whole ? emitted_line : NULL;
    x.arg = out;
    if (whole && app->begin) rc = mr__context_result(&x, app->begin(&x.pub), "begin");
    if (rc == 0) rc = each_group(whole ? app->reduce : app->combine, &x, &g, out, role);
    if (rc == 0 && whole && app->end) rc = mr__context_result(&x, app->end(&x.pub), "end");
    buf_free(&g.key);
    return rc == 0 ? out->err : rc;
}

/* ---- commands ---- */

struct command_output {
    const struct format *format;
    struct sink *sink;
};

static void line_to_sink(void *arg, struct slice line)
{
    struct command_output *o = arg;
    struct slice key, value;

    if (o->sink->err) return;
    if (o->sink->command_line) {
        o->sink->command_line(o->sink, line);
        return;
    }
    mr__format_line(o->format, line, &key, &value);
    o->sink->pair(o->sink, key, value);
}

static void pair_to_sink(void *arg, struct slice key, struct slice value)
{
    struct command_output *o = arg;
    if (o->sink->err == 0) o->sink->pair(o->sink, key, value);
}

static int append_pair(const struct format *f, struct buf *b, struct slice key, struct slice value, struct buf *why)
{
    if (f->pipe == MR_PIPE_LINES) return mr__format_put_line(f, b, key, value, "a command's input line", why);
    mr__format_put_pair(b, key, value);
    return 0;
}

static int feed_all(struct stream *s, const struct program_context *c, struct sorted *in, struct sink *out,
                    struct buf *why)
{
    struct buf lines = {0};
    struct slice key, value;
    int rc = 0;

    while (rc == 0 && in->next(in, &key, &value)) {
        rc = append_pair(c->format, &lines, key, value, why);
        if (rc < 0 || lines.n < FEED_BYTES) continue;
        rc = mr__stream_feed(s, buf_slice(&lines), why);
        if (rc == 0) rc = out->err;
        c->touch(c->arg, lines.n);
        buf_clear(&lines);
    }
    if (rc == 0) rc = in->err;
    if (rc == 0) rc = mr__stream_feed(s, buf_slice(&lines), why);
    buf_free(&lines);
    return rc;
}

static int reduce_command(const struct program *p, const struct program_context *c, struct sorted *in, struct sink *out,
                          struct buf *why)
{
    struct environment env = {0};
    struct reporter reporter = {.c = c};
    struct command_output output = {c->format, out};
    struct stream *s = NULL;

    mr__environment(c, &env);
    struct stream_options o = {.command = p->command,
                               .cwd = c->cwd,
                               .env = env.v,
                               .line = line_to_sink,
                               .pair = c->format->pipe == MR_PIPE_PAIRS ? pair_to_sink : NULL,
                               .arg = &output,
                               .err_line = mr__reporter_line,
                               .err_arg = &reporter,
                               .touch = c->touch,
                               .touch_arg = c->arg,
                               .limit_ns = c->limit_ns,
                               .idle = c->idle,
                               .idle_arg = c->arg};
    int rc = mr__stream_open(&o, &s, why);
    if (rc == 0) {
        rc = feed_all(s, c, in, out, why);
        if (rc == 0)
            rc = mr__stream_close(s, why);
        else
            mr__stream_kill(s);
    }
    rc = mr__reporter_end(&reporter, rc, why);
    mr__environment_free(&env);
    return rc == 0 ? out->err : rc;
}

int mr__program_reduce(const struct program *p, enum program_role role, const struct program_context *c,
                       struct sorted *in, struct sink *out, struct buf *why)
{
    return p->app ? reduce_app(p->app, role, c, in, out, why) : reduce_command(p, c, in, out, why);
}
