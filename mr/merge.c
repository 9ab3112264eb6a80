/* merge.c - many sorted runs into one stream (shuffle.h): a cursor a source, a tree of losers over them.
 *
 * A cursor reads a block at a time, verifies it before a record of it is used, and checks every length against the
 * block; the end of a partition is known by its bytes, so a missing block is noticed. Ties go to the source with the
 * lower number, which keeps the order of emission. With more sources than fit into memory (or open files), neighbours
 * are merged into intermediate files first, pass by pass.
 *
 * Failure modes: a source that is missing or damaged is named by its index, so that its map task can run again; other
 * errors (disk full) name none. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "mr/shuffle.h"
#include "mr/util.h"

#define FAN_IN_MAX 256u
#define BLOCK_MAX  (MR_PAIR_MAX + 64u)

struct cursor {
    int fd;
    uint64_t at, end; /* of the next block, of the partition */
    struct buf block;
    size_t pos;
    struct slice key, value;
    uint64_t prefix;
    size_t source; /* the first of the caller's sources in it */
    bool inner;    /* an intermediate file: nobody's fault */
    bool over;
};

struct merge {
    struct sorted sorted;
    struct cursor *v;
    uint32_t n, *tree; /* tree[0] the winner, tree[1 .. n-1] the losers; n is 0 at the end */
    uint32_t open;     /* cursors in v */
    bool begun, by_value;
    size_t failed;
    uint64_t records, bytes;
    char **temps; /* intermediate files, removed at the end */
    size_t temps_n;
};

/* ---- cursors ---- */

static int cursor_open(struct cursor *c, const char *path, uint32_t parts, uint32_t part, uint64_t *bytes)
{
    struct run_range range;
    c->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (c->fd < 0) return -errno;
    int rc = mr__run_find(c->fd, parts, part, &range);
    if (rc < 0) return rc;
    c->at = range.off;
    c->end = range.off + range.bytes;
    *bytes += range.bytes;
    return 0;
}

static int next_block(struct cursor *c)
{
    uint8_t head[8];
    int64_t got;

    if (c->end - c->at < sizeof head) return QE_CORRUPT;
    if ((got = mr__read_at(c->fd, head, sizeof head, c->at)) < 0) return (int)got;
    uint32_t n = load_u32(head);
    if (got != sizeof head || n == 0 || n > BLOCK_MAX || n > c->end - c->at - sizeof head) return QE_CORRUPT;
    buf_clear(&c->block);
    c->pos = 0;
    if ((got = mr__read_at(c->fd, buf_extend(&c->block, n), n, c->at + sizeof head)) < 0) return (int)got;
    if (got != n || crc32c(0, c->block.p, n) != load_u32(head + 4)) return QE_CORRUPT;
    c->at += sizeof head + n;
    return 0;
}

static int cursor_next(struct cursor *c)
{
    if (c->pos == c->block.n) {
        if (c->at == c->end) {
            c->over = true;
            return 0;
        }
        int rc = next_block(c);
        if (rc < 0) return rc;
    }
    size_t left = c->block.n - c->pos;
    const uint8_t *p = c->block.p + c->pos;
    if (left < 8) return QE_CORRUPT;
    uint32_t key_n = load_u32(p), value_n = load_u32(p + 4);
    if (key_n > left - 8 || value_n > left - 8 - key_n) return QE_CORRUPT;
    c->key = slice_of(p + 8, key_n);
    c->value = slice_of(p + 8 + key_n, value_n);
    c->prefix = key_prefix(c->key);
    c->pos += 8 + (size_t)key_n + value_n;
    return 0;
}

static void cursor_close(struct cursor *c)
{
    if (c->fd >= 0) close(c->fd);
    buf_free(&c->block);
}

/* ---- the tree ---- */

static bool before(const struct merge *m, uint32_t a, uint32_t b)
{
    const struct cursor *x = &m->v[a], *y = &m->v[b];
    if (x->over || y->over) return !x->over || (y->over && a < b);
    if (x->prefix != y->prefix) return x->prefix < y->prefix;
    int c = slice_cmp(x->key, y->key);
    if (c == 0 && m->by_value) c = slice_cmp(x->value, y->value);
    return c ? c < 0 : a < b;
}

/* Plays all games below node i; leaves are n .. 2n-1. */
static uint32_t play(struct merge *m, uint32_t i)
{
    if (i >= m->n) return i - m->n;
    uint32_t a = play(m, 2 * i), b = play(m, 2 * i + 1);
    bool first = before(m, a, b);
    m->tree[i] = first ? b : a;
    return first ? a : b;
}

/* The winner has a new record: it plays its way up again. */
static void replay(struct merge *m)
{
    uint32_t w = m->tree[0];
    for (uint32_t i = (w + m->n) / 2; i > 0; i /= 2) {
        if (before(m, w, m->tree[i])) continue;
        uint32_t loser = w;
        w = m->tree[i];
        m->tree[i] = loser;
    }
    m->tree[0] = w;
}

static bool fail(struct merge *m, const struct cursor *c, int err)
{
    bool ours = err == -EMFILE || err == -ENFILE || err == -ENOMEM;
    m->sorted.err = err;
    if (!c->inner && !ours) m->failed = c->source;
    return false;
}

static bool merge_next(struct sorted *s, struct slice *key, struct slice *value)
{
    struct merge *m = container_of(s, struct merge, sorted);
    struct cursor *c;
    int rc;

    if (s->err || m->n == 0) return false;
    c = &m->v[m->tree[0]];
    if (m->begun) {
        if ((rc = cursor_next(c)) < 0) return fail(m, c, rc);
        replay(m);
        c = &m->v[m->tree[0]];
    }
    m->begun = true;
    if (c->over) {
        m->n = 0;
        return false;
    }
    *key = c->key;
    *value = c->value;
    m->records++;
    return true;
}

/* ---- opening ---- */

/* One of the things merged: a source, or an intermediate file over several. */
struct input {
    const char *path;
    uint32_t parts, part;
    size_t source;
    bool inner;
};

static void close_cursors(struct merge *m)
{
    for (uint32_t i = 0; i < m->open; i++) cursor_close(&m->v[i]);
    free(m->v);
    free(m->tree);
    m->v = NULL;
    m->tree = NULL;
    m->open = m->n = 0;
}

static int open_level(struct merge *m, const struct input *in, uint32_t n, bool count)
{
    uint64_t bytes = 0;
    m->v = xcalloc(n + 1, sizeof *m->v);
    m->tree = xcalloc(n + 1, sizeof *m->tree);
    m->n = m->open = n;
    m->begun = false;
    for (uint32_t i = 0; i < n; i++) m->v[i].fd = -1;
    for (uint32_t i = 0; i < n; i++) {
        struct cursor *c = &m->v[i];
        c->source = in[i].source;
        c->inner = in[i].inner;
        int rc = cursor_open(c, in[i].path, in[i].parts, in[i].part, count && !c->inner ? &m->bytes : &bytes);
        if (rc == 0) rc = cursor_next(c);
        if (rc < 0) {
            fail(m, c, rc);
            close_cursors(m);
            return rc;
        }
    }
    if (n) m->tree[0] = play(m, 1);
    return 0;
}

static int merge_into_file(struct merge *m, const struct input *in, uint32_t n, const struct merge_options *o,
                           struct input *out)
{
    struct run_writer *w = NULL;
    struct slice key, value;
    int rc = open_level(m, in, n, true);

    if (rc < 0) return rc;
    m->temps = xrealloc(m->temps, (m->temps_n + 1) * sizeof *m->temps);
    char *path = m->temps[m->temps_n] = mr__strf("%s/%s-merge-%zu", o->dir, o->name, m->temps_n);
    m->temps_n++;
    rc = mr__run_create(path, 1, &w);
    while (rc == 0 && merge_next(&m->sorted, &key, &value)) {
        mr__run_add(w, 0, key, value);
        if (o->touch && m->records % 4096 == 0) o->touch(o->arg);
    }
    if (rc == 0) rc = m->sorted.err;
    if (rc == 0)
        rc = mr__run_finish(w, NULL, NULL);
    else
        mr__run_abandon(w);
    close_cursors(m);
    *out = (struct input){.path = path, .parts = 1, .source = in[0].source, .inner = true};
    return rc;
}

/* Merges neighbours until at most fan_in inputs are left. */
static int reduce_inputs(struct merge *m, struct input *in, size_t *n, uint32_t fan_in, const struct merge_options *o)
{
    while (*n > fan_in) {
        size_t kept = 0;
        for (size_t at = 0; at < *n;) {
            /* Only as many as needed in the last pass: what is merged twice is written twice. */
            size_t excess = kept + (*n - at) - fan_in;
            size_t take = kept + (*n - at) > fan_in ? min_u64(min_u64(excess + 1, fan_in), *n - at) : 1;
            struct input out = in[at];
            int rc = take > 1 ? merge_into_file(m, in + at, (uint32_t)take, o, &out) : 0;
            if (rc < 0) return rc;
            for (size_t i = 0; take > 1 && i < take; i++)
                if (in[at + i].inner) unlink(in[at + i].path);
            in[kept++] = out;
            at += take;
        }
        *n = kept;
    }
    return 0;
}

/* How many sources are read at once. A third of the descriptors leaves some for pipes and what else is open. */
static uint32_t width(uint64_t memory)
{
    struct rlimit files;
    uint64_t n = min_u64(FAN_IN_MAX, memory / (2 * MR_BLOCK_BYTES));
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) n = min_u64(n, files.rlim_cur / 3);
    return (uint32_t)max_u64(2, n);
}

int mr__merge_open(const struct run_source *v, size_t n, const struct merge_options *o, struct merge **out,
                   size_t *failed)
{
    struct merge *m = xcalloc(1, sizeof *m);
    struct input *in = xcalloc(n + 1, sizeof *in);
    uint32_t fan_in = width(o->memory);

    m->sorted.next = merge_next;
    m->failed = SIZE_MAX;
    m->by_value = o->by_value;
    for (size_t i = 0; i < n; i++)
        in[i] = (struct input){.path = v[i].path, .parts = v[i].parts, .part = v[i].part, .source = i};
    int rc = reduce_inputs(m, in, &n, fan_in, o);
    if (rc == 0) rc = open_level(m, in, (uint32_t)n, true);
    free(in);
    m->records = 0;
    *failed = m->failed;
    if (rc < 0) {
        mr__merge_close(m);
        return rc;
    }
    *out = m;
    return 0;
}

struct sorted *mr__merge_sorted(struct merge *m) { return &m->sorted; }
size_t mr__merge_failed(const struct merge *m) { return m->failed; }
uint64_t mr__merge_records(const struct merge *m) { return m->records; }
uint64_t mr__merge_bytes(const struct merge *m) { return m->bytes; }

void mr__merge_close(struct merge *m)
{
    if (!m) return;
    close_cursors(m);
    for (size_t i = 0; i < m->temps_n; i++) {
        unlink(m->temps[i]);
        free(m->temps[i]);
    }
    free(m->temps);
    free(m);
}
