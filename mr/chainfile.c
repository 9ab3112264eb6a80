/* chainfile.c - see chainfile.h. "QFSMRCHN", u32 version, u32 CRC32C of the rest, the rest. */
#include "mr/chainfile.h"

#include <stdlib.h>

#include "mr/util.h"

#define VERSION 1u

static const char magic[8] = {'Q', 'F', 'S', 'M', 'R', 'C', 'H', 'N'};

bool mr__chainfile_is(struct slice in) { return in.n >= sizeof magic && memcmp(in.p, magic, sizeof magic) == 0; }

static void put_stage(struct buf *b, const struct stage *s)
{
    struct buf job = {0};
    mr__job_encode(&job, &s->job);
    put_slice32(b, buf_slice(&job));
    buf_free(&job);
    put_u32(b, s->inputs_n);
    for (uint32_t i = 0; i < s->inputs_n; i++) put_slice32(b, slice_str(s->inputs[i]));
    put_u64(b, s->split_bytes);
    put_u32(b, s->attempts);
    put_slice32(b, slice_str(s->rerun ? s->rerun : ""));
}

void mr__chainfile_encode(struct buf *b, const struct chainfile *f)
{
    put_bytes(b, slice_of(magic, sizeof magic));
    put_u32(b, VERSION);
    size_t at = b->n;
    put_u32(b, 0);
    put_u8(b, f->replace);
    put_u32(b, f->n);
    for (uint32_t i = 0; i < f->n; i++) put_stage(b, &f->v[i]);
    store_u32(b->p + at, crc32c(0, b->p + at + 4, b->n - at - 4));
}

/* NULL where it is empty. */
static char *get_text(struct reader *r)
{
    struct slice s = get_slice32(r);
    if (s.n && memchr(s.p, 0, s.n)) r->bad = true;
    return s.n && !r->bad ? mr__str(s) : NULL;
}

/* Only the first job may have inputs, and it must have some. */
static void get_stage(struct reader *r, bool first, struct stage *s)
{
    if (mr__job_decode(get_slice32(r), &s->job) < 0) r->bad = true;
    uint32_t n = get_u32(r);
    if (n > reader_left(r) / 4 || (n > 0) != first) r->bad = true;
    s->inputs = xcalloc(r->bad ? 1 : (size_t)n + 1, sizeof *s->inputs);
    while (!r->bad && s->inputs_n < n) {
        char *path = get_text(r);
        if (path)
            s->inputs[s->inputs_n++] = path;
        else
            r->bad = true;
    }
    s->split_bytes = get_u64(r);
    s->attempts = get_u32(r);
    s->rerun = get_text(r);
}

int mr__chainfile_decode(struct slice in, struct chainfile *out)
{
    struct reader r = reader_of(in);
    bool is = mr__chainfile_is(in);
    (void)get_bytes(&r, sizeof magic);
    uint32_t version = get_u32(&r), crc = get_u32(&r);

    *out = (struct chainfile){0};
    if (r.bad || !is) return QE_CORRUPT;
    if (version != VERSION) return QE_VERSION;
    if (crc32c(0, r.p, reader_left(&r)) != crc) return QE_CORRUPT;
    out->replace = get_u8(&r) != 0;
    uint32_t n = get_u32(&r);
    if (n < 2 || n > MR_STAGES_MAX) r.bad = true;
    out->v = xcalloc(r.bad ? 1 : n, sizeof *out->v);
    while (!r.bad && out->n < n) {
        get_stage(&r, out->n == 0, &out->v[out->n]);
        out->n++;
    }
    if (reader_done(&r)) return 0;
    mr__chainfile_free(out);
    return QE_CORRUPT;
}

static void stage_free(struct stage *s)
{
    mr__job_free(&s->job);
    for (uint32_t i = 0; i < s->inputs_n; i++) free(s->inputs[i]);
    free(s->inputs);
    free(s->rerun);
}

void mr__chainfile_free(struct chainfile *f)
{
    for (uint32_t i = 0; i < f->n; i++) stage_free(&f->v[i]);
    free(f->v);
    *f = (struct chainfile){0};
}
