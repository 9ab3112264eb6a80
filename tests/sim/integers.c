/* integers.c - see integers.h. */
#include "tests/sim/integers.h"

#include <stdlib.h>

static void add(struct numbers *l, uint64_t value)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 256;
        l->v = xrealloc(l->v, l->cap * sizeof *l->v);
    }
    l->v[l->n++] = value;
}

static void numbers_free(struct numbers *l)
{
    free(l->v);
    *l = (struct numbers){0};
}

/* ---- the state machine ---- */

static void sm_apply(void *arg, uint64_t index, uint64_t term, struct slice data)
{
    struct integers *m = arg;
    check(data.n >= 8 && index > m->raft_index);
    add(&m->now, load_u64(data.p));
    m->digest = hash_mix(m->digest + load_u64(data.p) + 1);
    m->raft_index = index;
}

static void sm_applied(void *arg, uint64_t index)
{
    struct integers *m = arg;
    if (m->applied) m->applied(m->owner, m->now.n);
}

struct image {
    struct numbers l;
    size_t at;
};

static void *sm_snap_begin(void *arg)
{
    struct integers *m = arg;
    struct image *im = xcalloc(1, sizeof *im);
    for (size_t i = 0; i < m->now.n; i++) add(&im->l, m->now.v[i]);
    return im;
}

static int sm_snap_next(void *snap, struct buf *block)
{
    struct image *im = snap;
    if (im->at > im->l.n || (im->at == im->l.n && im->at)) return 0;
    size_t n = min_u64(im->l.n - im->at, 500);
    put_u32(block, (uint32_t)n);
    for (size_t i = 0; i < n; i++) put_u64(block, im->l.v[im->at + i]);
    im->at += n ? n : 1;
    return 1;
}

static void sm_snap_end(void *snap)
{
    struct image *im = snap;
    numbers_free(&im->l);
    free(im);
}

static void sm_restore_begin(void *arg) { numbers_free(&((struct integers *)arg)->image); }
static void sm_restore_cancel(void *arg) { numbers_free(&((struct integers *)arg)->image); }

static int sm_restore_block(void *arg, struct slice block)
{
    struct integers *m = arg;
    struct reader r = reader_of(block);
    for (uint32_t n = get_u32(&r); n && !r.bad; n--) add(&m->image, get_u64(&r));
    return reader_done(&r) ? 0 : QE_CORRUPT;
}

static int sm_restore_end(void *arg, uint64_t index)
{
    struct integers *m = arg;
    numbers_free(&m->now);
    m->now = m->image;
    m->image = (struct numbers){0};
    m->raft_index = index;
    m->digest = 0;
    for (size_t i = 0; i < m->now.n; i++) m->digest = hash_mix(m->digest + m->now.v[i] + 1);
    return 0;
}

static void sm_restore_ranges(void *arg, void (*emit)(void *ctx, uint64_t index, uint32_t off, uint32_t len), void *ctx)
{
}
static void sm_live_ranges(void *arg, uint64_t index, void (*emit)(void *ctx, uint32_t off, uint32_t len), void *ctx) {}
static void sm_role(void *arg, enum raft_role role, uint64_t term, uint64_t leader) {}

static uint64_t sm_digest(void *arg)
{
    return ((struct integers *)arg)->digest;
}

static void sm_fatal(void *arg, int err, const char *text)
{
    struct integers *m = arg;
    if (m->fatal) m->fatal(m->owner, err, text);
}

/* ---- life ---- */

struct node_sm integers_sm(struct integers *m)
{
    return (struct node_sm){.arg = m,
                            .apply = sm_apply,
                            .applied = sm_applied,
                            .snap_begin = sm_snap_begin,
                            .snap_next = sm_snap_next,
                            .snap_end = sm_snap_end,
                            .restore_begin = sm_restore_begin,
                            .restore_block = sm_restore_block,
                            .restore_end = sm_restore_end,
                            .restore_cancel = sm_restore_cancel,
                            .restore_ranges = sm_restore_ranges,
                            .live_ranges = sm_live_ranges,
                            .role = sm_role,
                            .digest = sm_digest,
                            .fatal = sm_fatal};
}

void integers_free(struct integers *m)
{
    numbers_free(&m->now);
    numbers_free(&m->image);
}
