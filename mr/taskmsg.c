/* taskmsg.c - tasks and results as bytes (task.h). A decoder takes all of its input or answers -EBADMSG. */
#include <stdlib.h>

#include "mr/task.h"
#include "mr/util.h"

void mr__task_free(struct task *t)
{
    free(t->path);
    for (size_t i = 0; i < t->sources_n; i++) free(t->sources[i].path);
    free(t->sources);
    *t = (struct task){0};
}

void mr__task_encode(struct buf *b, const struct task *t)
{
    put_u8(b, (uint8_t)t->phase);
    put_u32(b, t->no);
    put_u32(b, t->attempt);
    if (t->phase == SCHED_MAP) {
        put_slice32(b, slice_str(t->path));
        put_u64(b, t->size);
        put_u64(b, t->off);
        put_u64(b, t->len);
        put_i64(b, t->mtime_ns);
        return;
    }
    put_u32(b, (uint32_t)t->sources_n);
    for (size_t i = 0; i < t->sources_n; i++) {
        const struct run_source *s = &t->sources[i];
        put_slice32(b, slice_str(s->path));
        put_u32(b, s->parts);
        put_u32(b, s->part);
        put_u64(b, s->tag);
    }
}

static char *get_path(struct reader *r)
{
    struct slice s = get_slice32(r);
    if (s.n == 0 || memchr(s.p, 0, s.n)) r->bad = true;
    return r->bad ? NULL : mr__str(s);
}

static void get_sources(struct reader *r, struct task *t)
{
    size_t n = get_u32(r);
    if (n > reader_left(r) / 20) r->bad = true;
    t->sources = r->bad ? NULL : xcalloc(n + 1, sizeof *t->sources);
    while (!r->bad && t->sources_n < n) {
        struct run_source *s = &t->sources[t->sources_n];
        s->path = get_path(r);
        s->parts = get_u32(r);
        s->part = get_u32(r);
        s->tag = get_u64(r);
        if (s->part >= s->parts) r->bad = true;
        t->sources_n++;
    }
}

int mr__task_decode(struct slice in, struct task *out)
{
    struct reader r = reader_of(in);

    *out = (struct task){0};
    uint8_t phase = get_u8(&r);
    out->phase = phase == SCHED_MAP ? SCHED_MAP : SCHED_REDUCE;
    out->no = get_u32(&r);
    out->attempt = get_u32(&r);
    if (phase > SCHED_REDUCE) {
        r.bad = true;
    } else if (phase == SCHED_MAP) {
        out->path = get_path(&r);
        out->size = get_u64(&r);
        out->off = get_u64(&r);
        out->len = get_u64(&r);
        out->mtime_ns = get_i64(&r);
        if (out->off > out->size || out->len > out->size - out->off) r.bad = true;
    } else {
        get_sources(&r, out);
    }
    if (reader_done(&r)) return 0;
    mr__task_free(out);
    return -EBADMSG;
}

void mr__result_lose(struct task_result *r, uint64_t tag)
{
    r->lost = xrealloc(r->lost, (r->lost_n + 1) * sizeof *r->lost);
    r->lost[r->lost_n++] = tag;
}

void mr__result_free(struct task_result *r)
{
    free(r->lost);
    buf_free(&r->why);
    buf_free(&r->err);
    mr__counters_free(&r->counters);
    *r = (struct task_result){0};
}

void mr__result_encode(struct buf *b, const struct task_result *r)
{
    struct buf counters = {0};
    mr__counters_encode(&counters, &r->counters);
    put_u8(b, (uint8_t)r->phase);
    put_u32(b, r->no);
    put_u32(b, r->attempt);
    put_u8(b, (uint8_t)r->outcome);
    put_u32(b, (uint32_t)r->lost_n);
    for (size_t i = 0; i < r->lost_n; i++) put_u64(b, r->lost[i]);
    put_slice32(b, buf_slice(&r->why));
    put_slice32(b, buf_slice(&r->err));
    put_slice32(b, buf_slice(&counters));
    buf_free(&counters);
}

int mr__result_decode(struct slice in, struct task_result *out)
{
    struct reader r = reader_of(in);

    *out = (struct task_result){0};
    uint8_t phase = get_u8(&r);
    out->no = get_u32(&r);
    out->attempt = get_u32(&r);
    uint8_t outcome = get_u8(&r);
    uint32_t lost_n = get_u32(&r);
    for (uint32_t i = 0; i < lost_n && !r.bad; i++) {
        uint64_t tag = get_u64(&r);
        if (!r.bad) mr__result_lose(out, tag);
    }
    put_bytes(&out->why, get_slice32(&r));
    put_bytes(&out->err, get_slice32(&r));
    struct slice counters = get_slice32(&r);
    out->phase = phase == SCHED_MAP ? SCHED_MAP : SCHED_REDUCE;
    out->outcome = (enum task_outcome)outcome;
    if (reader_done(&r) && phase <= SCHED_REDUCE && outcome <= TASK_UNREACHED && out->err.n <= MR_STDERR_MAX &&
        mr__counters_decode(counters, &out->counters))
        return 0;
    mr__result_free(out);
    return -EBADMSG;
}
