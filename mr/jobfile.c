/* jobfile.c - see jobfile.h. "QFSMRJOB", u32 version, u32 CRC32C of the rest, the rest. */
#include "mr/jobfile.h"

#include <stdlib.h>

#include "mr/util.h"

#define VERSION 1u

static const char magic[8] = {'Q', 'F', 'S', 'M', 'R', 'J', 'O', 'B'};

static void put_plan(struct buf *b, const struct plan *p)
{
    put_u32(b, (uint32_t)p->files_n);
    for (size_t i = 0; i < p->files_n; i++) {
        put_slice32(b, slice_str(p->files[i].path));
        put_u64(b, p->files[i].size);
        put_i64(b, p->files[i].mtime_ns);
    }
    put_u32(b, (uint32_t)p->splits_n);
    for (size_t i = 0; i < p->splits_n; i++) {
        put_u32(b, p->splits[i].file);
        put_u64(b, p->splits[i].off);
        put_u64(b, p->splits[i].len);
    }
    put_u64(b, p->bytes);
}

void mr__jobfile_encode(struct buf *b, const struct jobfile *f)
{
    struct buf job = {0};
    put_bytes(b, slice_of(magic, sizeof magic));
    put_u32(b, VERSION);
    size_t at = b->n;
    put_u32(b, 0);
    mr__job_encode(&job, &f->job);
    put_slice32(b, buf_slice(&job));
    put_plan(b, &f->plan);
    put_slice32(b, slice_str(f->rerun ? f->rerun : ""));
    put_u32(b, f->attempts);
    put_u8(b, f->replace);
    store_u32(b->p + at, crc32c(0, b->p + at + 4, b->n - at - 4));
    buf_free(&job);
}

static char *get_text(struct reader *r)
{
    struct slice s = get_slice32(r);
    if (s.n && memchr(s.p, 0, s.n)) r->bad = true;
    return mr__str(r->bad ? (struct slice){0} : s);
}

static void get_files(struct reader *r, struct plan *p)
{
    uint32_t n = get_u32(r);
    if (n > reader_left(r) / 20) r->bad = true;
    p->files = xcalloc(r->bad ? 1 : (size_t)n + 1, sizeof *p->files);
    while (!r->bad && p->files_n < n) {
        struct input_file *f = &p->files[p->files_n++];
        f->path = get_text(r);
        f->size = get_u64(r);
        f->mtime_ns = get_i64(r);
    }
}

static void get_splits(struct reader *r, struct plan *p)
{
    uint32_t n = get_u32(r);
    if (n > reader_left(r) / 20) r->bad = true;
    p->splits = xcalloc(r->bad ? 1 : (size_t)n + 1, sizeof *p->splits);
    while (!r->bad && p->splits_n < n) {
        struct split *s = &p->splits[p->splits_n++];
        s->file = get_u32(r);
        s->off = get_u64(r);
        s->len = get_u64(r);
        if (r->bad || s->file >= p->files_n || s->off > p->files[s->file].size ||
            s->len > p->files[s->file].size - s->off)
            r->bad = true;
    }
}

int mr__jobfile_decode(struct slice in, struct jobfile *out)
{
    struct reader r = reader_of(in);
    struct slice mark = get_bytes(&r, sizeof magic);
    uint32_t version = get_u32(&r), crc = get_u32(&r);

    *out = (struct jobfile){0};
    if (r.bad || memcmp(mark.p, magic, sizeof magic) != 0) return QE_CORRUPT;
    if (version != VERSION) return QE_VERSION;
    if (crc32c(0, r.p, reader_left(&r)) != crc) return QE_CORRUPT;
    if (mr__job_decode(get_slice32(&r), &out->job) < 0) r.bad = true;
    get_files(&r, &out->plan);
    get_splits(&r, &out->plan);
    out->plan.bytes = get_u64(&r);
    out->rerun = get_text(&r);
    out->attempts = get_u32(&r);
    out->replace = get_u8(&r) != 0;
    if (reader_done(&r) && out->attempts > 0) return 0;
    mr__jobfile_free(out);
    return QE_CORRUPT;
}

void mr__jobfile_free(struct jobfile *f)
{
    mr__job_free(&f->job);
    mr__plan_free(&f->plan);
    free(f->rerun);
    *f = (struct jobfile){0};
}

char *mr__job_home(const struct job *j)
{
    return mr__strf("%.*s", (int)(strlen(j->attempts) - strlen("/attempts")), j->attempts);
}

void mr__repath_in(char **path, const char *from, const char *to)
{
    char *now = *path ? mr__repath(*path, from, to) : NULL;
    free(*path);
    *path = now;
}

char *mr__repath(const char *path, const char *from, const char *to)
{
    size_t a = strlen(from), b = strlen(to);
    while (a && b && from[a - 1] == to[b - 1]) a--, b--;
    /* Whole names only. */
    while (from[a] && from[a] != '/') a++, b++;
    if (strncmp(path, from, a) != 0 || (path[a] && path[a] != '/')) return mr__strf("%s", path);
    return mr__strf("%.*s%s", (int)b, to, path + a);
}
