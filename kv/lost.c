/* lost.c - which files have lost bytes: those that no member of the cluster has any more (raft/node_fetch.c).
 *
 * For people only: the log says once which parts of which files, the status as long as it is so. Nothing depends on it; who
 * reads such a part asks all members anew. Known here are reads that failed and what a snapshot was installed without: up to
 * KV_LOST_MAX parts, those of a file that touch being one, and that there are more. A restart forgets them. Once a minute
 * all are read again, one a second: a copy that has turned up is taken, and what can be read is lost no longer. */
#include "kv/server.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define ASK_NS     (60 * NS_PER_S)
#define SAID_MAX   16u  /* parts that are logged by name, of one snapshot */
#define LOOK_BYTES (4u * MIB)

/* ---- names ---- */

static bool first_name(void *ctx, struct slice key)
{
    buf_append(ctx, key.p, key.n);
    return false;
}

/* Behind what is there: the file's first name, on one line. */
static void put_name(const struct kv_server *s, uint64_t ino, struct buf *out)
{
    size_t begin = out->n;
    char text[32];
    if (fs_keys(&s->store->fs, ino, first_name, out) || out->n == begin) {
        int n = snprintf(text, sizeof text, "(inode %" PRIu64 ")", ino);
        buf_append(out, text, (size_t)n);
    }
    for (size_t i = begin; i < out->n; i++)
        if (out->p[i] < ' ') out->p[i] = '?';
}

static void say(const struct kv_server *s, const struct kv__lost_part *p, const char *what)
{
    struct buf name = {0};
    put_name(s, p->ino, &name);
    trace_error(s->trace, "%.*s: bytes %" PRIu64 "+%" PRIu64 " %s", (int)min_u64(name.n, 400), (const char *)name.p, p->off,
                p->end - p->off, what);
    buf_free(&name);
}

/* ---- what is known ---- */

struct wanted {
    uint64_t index;
    bool found;
    struct fs_piece piece;
};

static void look(void *ctx, const struct fs_piece *p)
{
    struct wanted *w = ctx;
    if (w->found || p->kind != FS_PIECE_LOG || p->loc.index > w->index) return;
    w->found = true;
    w->piece = *p;
}

/* What the file still has of such a part at `at` or next behind it. It may have been overwritten or deleted: then false. */
static bool next_piece(const struct kv_server *s, const struct kv__lost_part *p, uint64_t at, struct fs_piece *out)
{
    struct wanted w = {.index = p->index};
    for (int64_t n = 1; at < p->end && n > 0 && !w.found; at += (uint64_t)n) {
        n = fs_read(&s->store->fs, p->ino, at, (uint32_t)min_u64(p->end - at, LOOK_BYTES), look, &w);
        if (n < 0) return false;
    }
    *out = w.piece;
    return w.found;
}

static void forget(struct kv__lost *l, uint32_t i)
{
    l->v[i] = l->v[--l->n];
    l->more = false; /* they are found where they are read */
}

static void sort_out(struct kv_server *s)
{
    struct fs_piece piece;
    for (uint32_t i = s->lost.n; i-- > 0;)
        if (!next_piece(s, &s->lost.v[i], s->lost.v[i].off, &piece)) forget(&s->lost, i);
}

/* The one of that file that it touches. */
static struct kv__lost_part *touching(struct kv__lost *l, const struct kv__lost_part *p)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (l->v[i].ino == p->ino && l->v[i].off <= p->end && l->v[i].end >= p->off) return &l->v[i];
    return NULL;
}

static void add(struct kv_server *s, const struct kv__lost_part *p, bool aloud)
{
    struct kv__lost *l = &s->lost;
    struct kv__lost_part *with = touching(l, p);
    if (with && with->off <= p->off && with->end >= p->end && with->index >= p->index) return;
    if (aloud) say(s, p, "are lost, in part at least: no member of the cluster has them; reading them gives EIO");
    if (with) {
        with->off = min_u64(with->off, p->off);
        with->end = max_u64(with->end, p->end);
        with->index = max_u64(with->index, p->index);
    } else if (l->n < KV_LOST_MAX) {
        l->v[l->n++] = *p;
    } else {
        l->more = true;
    }
    if (!l->ask_at) l->ask_at = clock_now(s->clock) + ASK_NS;
}

void kv__lost_read(struct kv_server *s, uint64_t ino, uint64_t off, const struct kv__piece *p)
{
    struct kv__lost_part part = {.ino = ino, .off = off, .end = off + p->len, .index = p->index};
    if (s->lost.n == KV_LOST_MAX) sort_out(s);
    add(s, &part, !s->lost.more);
}

/* ---- a snapshot was installed without some ---- */

struct owners {
    struct kv_server *s;
    const struct node_range *v;
    size_t n;
    uint32_t said;
};

/* The parts of an extent that are among the ranges. */
static void look_at_extent(void *ctx, uint64_t ino, uint64_t off, struct fs_loc loc, uint32_t len)
{
    struct owners *o = ctx;
    uint64_t end = (uint64_t)loc.off + len;
    size_t lo = 0, hi = o->n;
    while (lo < hi) { /* the first range that ends behind the extent's beginning */
        size_t mid = (lo + hi) / 2;
        const struct node_range *r = &o->v[mid];
        if (r->index < loc.index || (r->index == loc.index && (uint64_t)r->off + r->n <= loc.off))
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < o->n && o->v[lo].index == loc.index && o->v[lo].off < end; lo++) {
        uint64_t from = max_u64(o->v[lo].off, loc.off), to = min_u64((uint64_t)o->v[lo].off + o->v[lo].n, end);
        struct kv__lost_part p = {.ino = ino, .off = off + (from - loc.off), .end = off + (to - loc.off), .index = loc.index};
        add(o->s, &p, o->said++ < SAID_MAX);
    }
}

void kv__lost_ranges(void *arg, const struct node_range *v, size_t n)
{
    struct owners o = {.s = arg, .v = v, .n = n};
    o.s->lost.n = 0; /* of the state before */
    o.s->lost.more = false;
    fs_all_extents(&o.s->store->fs, look_at_extent, &o);
}

/* ---- asking again ---- */

static void ask_at(struct kv_server *s, uint64_t at);

/* The part that was asked for, unless it is another by now. */
static bool still(const struct kv__lost *l, uint32_t *i)
{
    const struct kv__lost_part *p = &l->asked;
    for (*i = 0; *i < l->n; (*i)++)
        if (l->v[*i].ino == p->ino && l->v[*i].off == p->off && l->v[*i].end == p->end) return true;
    return false;
}

static void asked(struct log_read *r, int err)
{
    struct kv_server *s = r->arg;
    struct kv__lost *l = &s->lost;
    uint32_t i;
    free(l->bytes);
    l->bytes = NULL;
    if (!err)
        ask_at(s, l->at + r->n);
    else if (still(l, &i))
        l->v[i].off = l->at; /* all before it can be read */
}

/* Reads the part piece by piece, up to the first that is lost. */
static void ask_at(struct kv_server *s, uint64_t at)
{
    struct kv__lost *l = &s->lost;
    struct fs_piece piece;
    uint32_t i;
    if (!next_piece(s, &l->asked, at, &piece)) {
        if (!still(l, &i)) return;
        say(s, &l->v[i], "can be read again");
        forget(l, i);
        return;
    }
    l->at = piece.file_off;
    l->bytes = xmalloc(piece.len);
    l->read = (struct log_read){
        .index = piece.loc.index, .off = piece.loc.off, .n = piece.len, .p = l->bytes, .done = asked, .arg = s};
    node_payload(s->node, &l->read);
}

void kv__lost_tick(struct kv_server *s)
{
    struct kv__lost *l = &s->lost;
    uint64_t now = clock_now(s->clock);
    if (!l->n || l->bytes || now < l->ask_at) return;
    sort_out(s);
    if (l->next < l->n) {
        l->asked = l->v[l->next++];
        ask_at(s, l->asked.off);
    } else {
        l->next = 0;
        l->ask_at = now + ASK_NS;
    }
}

void kv__lost_free(struct kv_server *s) { free(s->lost.bytes); }

/* ---- status ---- */

void kv__lost_status(struct kv_server *s, struct buf *out)
{
    char text[96];
    sort_out(s);
    const struct kv__lost *l = &s->lost;
    int n = snprintf(text, sizeof text, "lost_parts %" PRIu32 "\n", l->n);
    buf_append(out, text, (size_t)n);
    for (uint32_t i = 0; i < l->n; i++) {
        n = snprintf(text, sizeof text, "lost.%" PRIu32 " %" PRIu64 " %" PRIu64 " ", i, l->v[i].off, l->v[i].end - l->v[i].off);
        buf_append(out, text, (size_t)n);
        put_name(s, l->v[i].ino, out);
        buf_append(out, "\n", 1);
    }
    n = snprintf(text, sizeof text, "lost_more %d\n", l->more);
    buf_append(out, text, (size_t)n);
}
