/* lost.c - which files have lost bytes: those that no member of the cluster has any more (raft/node_fetch.c).
 *
 * For people only: the log says once which parts of which files, the status as long as it is so. Nothing depends on it; who
 * reads such a part asks all members anew. Known here are reads that failed and what a snapshot was installed without, up to
 * KV_LOST_MAX parts; a restart forgets them. Once a minute one is asked for again: a copy that has turned up is taken. */
#include "kv/server.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define ASK_NS   (60 * NS_PER_S)
#define SAID_MAX 16u /* parts that are logged by name, of one snapshot */

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
    trace_error(s->trace, "%.*s: bytes %" PRIu64 "+%" PRIu32 " %s", (int)min_u64(name.n, 400), (const char *)name.p, p->off,
                p->len, what);
    buf_free(&name);
}

/* ---- what is known ---- */

static bool known(const struct kv__lost *l, const struct kv__lost_part *p)
{
    uint32_t i = 0;
    while (i < l->n && (l->v[i].ino != p->ino || l->v[i].index != p->index || l->v[i].off > p->off ||
                        l->v[i].off + l->v[i].len < p->off + p->len))
        i++;
    return i < l->n;
}

static void add(struct kv_server *s, const struct kv__lost_part *p, bool aloud)
{
    struct kv__lost *l = &s->lost;
    if (known(l, p)) return;
    if (aloud) say(s, p, "are lost, in part at least: no member of the cluster has them; reading them gives EIO");
    if (l->n < KV_LOST_MAX)
        l->v[l->n++] = *p;
    else
        l->more++;
    if (!l->ask_at) l->ask_at = clock_now(s->clock) + ASK_NS;
}

struct wanted {
    const struct kv__lost_part *part;
    bool refers;
};

static void look(void *ctx, const struct fs_piece *p)
{
    struct wanted *w = ctx;
    w->refers |= p->kind == FS_PIECE_LOG && p->loc.index == w->part->index;
}

/* Is it still a part of that file? It may have been overwritten or deleted. */
static bool counts(const struct kv_server *s, const struct kv__lost_part *p)
{
    struct wanted w = {.part = p};
    return fs_read(&s->store->fs, p->ino, p->off, p->len, look, &w) > 0 && w.refers;
}

static void forget(struct kv__lost *l, uint32_t i) { l->v[i] = l->v[--l->n]; }

static void sort_out(struct kv_server *s)
{
    for (uint32_t i = s->lost.n; i-- > 0;)
        if (!counts(s, &s->lost.v[i])) forget(&s->lost, i);
}

void kv__lost_read(struct kv_server *s, uint64_t ino, uint64_t off, const struct kv__piece *p)
{
    struct kv__lost_part part = {.ino = ino, .off = off, .len = p->len, .index = p->index, .at = p->off};
    add(s, &part, true);
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
        struct kv__lost_part p = {.ino = ino, .off = off + (from - loc.off), .len = (uint32_t)(to - from), .index = loc.index,
                                  .at = (uint32_t)from};
        add(o->s, &p, o->said++ < SAID_MAX);
    }
}

void kv__lost_ranges(void *arg, const struct node_range *v, size_t n)
{
    struct owners o = {.s = arg, .v = v, .n = n};
    o.s->lost.n = 0; /* of the state before */
    o.s->lost.more = 0;
    fs_all_extents(&o.s->store->fs, look_at_extent, &o);
}

/* ---- asking again ---- */

static void asked(struct log_read *r, int err)
{
    struct kv_server *s = r->arg;
    struct kv__lost *l = &s->lost;
    l->asking = false;
    for (uint32_t i = l->n; i-- > 0 && !err;)
        if (l->v[i].index == r->index && l->v[i].at >= r->off && l->v[i].at + l->v[i].len <= r->off + r->n) {
            say(s, &l->v[i], "are found again");
            forget(l, i);
        }
    free(l->bytes);
    l->bytes = NULL;
}

void kv__lost_tick(struct kv_server *s)
{
    struct kv__lost *l = &s->lost;
    uint64_t now = clock_now(s->clock);
    if (!l->n || l->asking || now < l->ask_at) return;
    l->ask_at = now + ASK_NS;
    sort_out(s);
    if (!l->n) return;
    const struct kv__lost_part *p = &l->v[l->next++ % l->n];
    l->bytes = xmalloc(p->len);
    l->asking = true;
    l->read = (struct log_read){.index = p->index, .off = p->at, .n = p->len, .p = l->bytes, .done = asked, .arg = s};
    node_payload(s->node, &l->read);
}

void kv__lost_free(struct kv_server *s) { free(s->lost.bytes); }

/* ---- status ---- */

void kv__lost_status(struct kv_server *s, struct buf *out)
{
    char text[96];
    sort_out(s);
    const struct kv__lost *l = &s->lost;
    int n = snprintf(text, sizeof text, "lost_parts %" PRIu64 "\n", l->n + l->more);
    buf_append(out, text, (size_t)n);
    for (uint32_t i = 0; i < l->n; i++) {
        n = snprintf(text, sizeof text, "lost.%" PRIu32 " %" PRIu64 " %" PRIu32 " ", i, l->v[i].off, l->v[i].len);
        buf_append(out, text, (size_t)n);
        put_name(s, l->v[i].ino, out);
        buf_append(out, "\n", 1);
    }
}
