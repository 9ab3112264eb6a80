/* lab_task.c - map, reduce and merge in the lab's files (lab.h). What is larger than memory goes through the same
 * sorted runs as in any other job.
 *
 * Failure modes: a file that is missing or no stream of objects (named), bytes that JSON cannot carry, disk full. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mr/collect.h"
#include "mr/lab.h"
#include "mr/util.h"

#define WRITE_BYTES MIB

char *mr__lab_map_file(const struct job *j, uint32_t m, uint32_t r)
{
    return mr__strf("%s/mrtmp.%s-%u-%u", j->attempts, j->lab, m, r);
}

char *mr__lab_result_file(const struct job *j, uint32_t r)
{
    return mr__strf("%s/mrtmp.%s-res-%u", j->attempts, j->lab, r);
}

char *mr__lab_merged_file(const struct job *j) { return mr__strf("%s/mrtmp.%s", j->attempts, j->lab); }

/* ---- writing a file that appears whole ---- */

struct writer {
    struct sink sink;
    char *path, *temp;
    int fd;
    struct buf buf;
    struct buf *why;
};

static int cannot(struct buf *why, int rc, const char *what, const char *path)
{
    if (why->n == 0) mr__fmt(why, "cannot %s %s: %s", what, path, err_text(rc));
    return rc;
}

static void flush(struct writer *w)
{
    if (w->sink.err == 0) w->sink.err = mr__write_all(w->fd, w->buf.p, w->buf.n);
    if (w->sink.err) cannot(w->why, w->sink.err, "write", w->path);
    buf_clear(&w->buf);
}

static void write_object(struct sink *s, struct slice key, struct slice value)
{
    struct writer *w = container_of(s, struct writer, sink);
    if (s->err) return;
    if (!mr__lab_put(&w->buf, key, value)) {
        mr__fmt(w->why, "the key '%.*s' or its value is no UTF-8, and the lab's files can carry nothing else",
                (int)min_u64(key.n, 100), key.p);
        s->err = -EILSEQ;
    }
    if (w->buf.n >= WRITE_BYTES) flush(w);
}

static void write_line(struct sink *s, struct slice key, struct slice value)
{
    struct writer *w = container_of(s, struct writer, sink);
    put_bytes(&w->buf, key);
    mr__fmt(&w->buf, ": ");
    put_bytes(&w->buf, value);
    put_u8(&w->buf, '\n');
    if (w->buf.n >= WRITE_BYTES) flush(w);
}

/* Takes over `path`. */
static int writer_open(struct writer *w, char *path, struct buf *why)
{
    *w = (struct writer){.sink.pair = write_object, .path = path, .why = why};
    w->temp = mr__strf("%s.tmp-%d", path, (int)getpid());
    w->fd = open(w->temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (w->fd >= 0) return 0;
    w->sink.err = -errno;
    return cannot(why, w->sink.err, "create", w->temp);
}

static int writer_close(struct writer *w, int rc)
{
    if (rc == 0) flush(w);
    if (rc == 0) rc = w->sink.err;
    if (w->fd >= 0) close(w->fd);
    if (rc == 0 && rename(w->temp, w->path) < 0) rc = cannot(w->why, -errno, "create", w->path);
    if (rc < 0 && w->fd >= 0) unlink(w->temp);
    buf_free(&w->buf);
    free(w->temp);
    free(w->path);
    return rc;
}

/* ---- map ---- */

static int spread_part(const struct job *j, uint32_t m, uint32_t r, const char *run, const char *dir, struct buf *why)
{
    struct run_source source = {.path = (char *)(uintptr_t)run, .parts = j->reducers, .part = r};
    struct merge_options o = {.dir = dir, .name = "lab", .memory = j->memory};
    struct slice key, value;
    struct merge *in = NULL;
    struct writer w;
    size_t failed;

    int rc = mr__merge_open(&source, 1, &o, &in, &failed);
    if (rc < 0) return cannot(why, rc, "read", run);
    rc = writer_open(&w, mr__lab_map_file(j, m, r), why);
    struct sorted *s = mr__merge_sorted(in);
    while (rc == 0 && w.sink.err == 0 && s->next(s, &key, &value)) write_object(&w.sink, key, value);
    if (rc == 0 && s->err) rc = cannot(why, s->err, "read", run);
    rc = writer_close(&w, rc);
    mr__merge_close(in);
    return rc;
}

int mr__lab_spread(const struct job *j, uint32_t m, const char *run, const char *dir, struct buf *why)
{
    int rc = 0;
    for (uint32_t r = 0; r < j->reducers && rc == 0; r++) rc = spread_part(j, m, r, run, dir, why);
    return rc;
}

/* ---- reading ---- */

static int read_whole(const char *path, struct buf *out, struct buf *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int64_t n = fd < 0 ? -errno : 1;
    buf_clear(out);
    while (n > 0) {
        buf_reserve(out, WRITE_BYTES);
        n = mr__read_at(fd, out->p + out->n, WRITE_BYTES, out->n);
        if (n > 0) out->n += (size_t)n;
    }
    if (fd >= 0) close(fd);
    return n < 0 ? cannot(why, (int)n, "read", path) : 0;
}

/* Takes over `path`. */
static int collect_file(struct collect *to, char *path, struct buf *text, struct buf *why)
{
    struct buf key = {0}, value = {0};
    int rc = read_whole(path, text, why), got = 0;
    struct slice rest = buf_slice(text), what;

    while (rc == 0 && (got = mr__lab_get(&rest, &key, &value)) > 0)
        mr__collect_pair(to, buf_slice(&key), buf_slice(&value));
    if (rc == 0 && got < 0) {
        mr__fmt(why, "%s is no stream of JSON objects with Key and Value", path);
        rc = got;
    }
    if (rc == 0) rc = mr__collect_error(to, &what);
    buf_free(&key);
    buf_free(&value);
    free(path);
    return rc;
}

/* All pairs of the files by key. The callback's `arg` is what it likes. */
struct gathering {
    const struct job *job;
    const char *dir;
    struct buf *why;
    char *(*file)(const struct gathering *g, uint32_t i);
    uint32_t n, r;
    int (*use)(struct gathering *g, struct sorted *in);
    void *arg;
};

static int gather(struct gathering *g)
{
    char *run = mr__strf("%s/lab-%d", g->dir, (int)getpid());
    struct collect_options co = {
        .parts = 1, .format = &mr__format_default, .memory = g->job->memory, .dir = g->dir, .name = "lab"};
    struct merge_options mo = {.dir = g->dir, .name = "lab", .memory = g->job->memory};
    struct run_source source = {.path = run, .parts = 1};
    struct collect *all = mr__collect_new(&co);
    struct merge *in = NULL;
    struct buf text = {0};
    size_t failed;
    int rc = 0;

    for (uint32_t i = 0; i < g->n && rc == 0; i++) rc = collect_file(all, g->file(g, i), &text, g->why);
    buf_free(&text);
    if (rc == 0) rc = mr__collect_finish(all, run, NULL, NULL);
    mr__collect_free(all);
    if (rc == 0) rc = mr__merge_open(&source, 1, &mo, &in, &failed);
    if (rc == 0) rc = g->use(g, mr__merge_sorted(in));
    if (rc < 0) cannot(g->why, rc, "sort in", g->dir);
    mr__merge_close(in);
    unlink(run);
    free(run);
    return rc;
}

/* ---- reduce and merge ---- */

static char *map_file(const struct gathering *g, uint32_t i) { return mr__lab_map_file(g->job, i, g->r); }
static char *result_file(const struct gathering *g, uint32_t i) { return mr__lab_result_file(g->job, i); }

struct reducing {
    const struct program *program;
    const struct program_context *c;
};

static int reduce(struct gathering *g, struct sorted *in)
{
    const struct reducing *r = g->arg;
    struct writer w;
    int rc = writer_open(&w, mr__lab_result_file(g->job, g->r), g->why);
    if (rc == 0) rc = mr__program_reduce(r->program, PROGRAM_REDUCE, r->c, in, &w.sink, g->why);
    return writer_close(&w, rc);
}

int mr__lab_reduce(const struct job *j, const struct program *p, const struct program_context *c, uint32_t r,
                   const char *dir, struct buf *why)
{
    struct reducing what = {p, c};
    struct gathering g = {.job = j,
                          .dir = dir,
                          .why = why,
                          .file = map_file,
                          .n = j->lab_maps,
                          .r = r,
                          .use = reduce,
                          .arg = &what};
    return gather(&g);
}

static int merge(struct gathering *g, struct sorted *in)
{
    struct slice key, value;
    struct writer w;
    int rc = writer_open(&w, mr__lab_merged_file(g->job), g->why);
    while (rc == 0 && w.sink.err == 0 && in->next(in, &key, &value)) write_line(&w.sink, key, value);
    return writer_close(&w, rc == 0 ? in->err : rc);
}

int mr__lab_merge(const struct job *j, const char *dir, struct buf *why)
{
    struct gathering g = {
        .job = j, .dir = dir, .why = why, .file = result_file, .n = j->reducers, .use = merge};
    return gather(&g);
}
