/* watchers.c - see watchers.h. Every node has the same history of events; the witness's is whole, as it was never
 * restarted. */
#include "tests/sim/watchers.h"

#include <stdlib.h>

#include "kv/store.h"
#include "tests/sim/cluster.h"

static const struct {
    const char *key;
    bool prefix;
} CHOICES[] = {{"", true}, {"", true}, {"d/", true}, {"log/", true}, {"k1", false}, {"n", true}};

/* ---- what it is told ---- */

static void on_event(struct kv_watch *kw, const struct kv_event *ev)
{
    struct sim_watch *w = kw->arg;
    if (!w->begin) sim_fail(w->cluster, "client %u is told of events before its watch has begun", w->client);
    if (w->n == w->cap) {
        w->cap = w->cap ? 2 * w->cap : 256;
        w->v = xrealloc(w->v, w->cap * sizeof *w->v);
    }
    w->v[w->n++] = (struct sim_watch_event){.revision = ev->revision,
                                            .position = ev->position,
                                            .type = ev->type,
                                            .key_hash = hash64(0, ev->key.p, ev->key.n)};
}

static void on_moved(struct kv_watch *kw)
{
    struct sim_watch *w = kw->arg;
    if (w->begin) return;
    w->begin = kw->revision;
    w->begun_at = sim_now(w->cluster->world);
}

static struct sim_watches *lists;

static void on_ended(struct kv_watch *kw, int err, uint64_t from, struct slice why)
{
    struct sim_watch *w = kw->arg;
    w->gone = true;
    if (err != QE_GONE)
        sim_fail(w->cluster, "client %u: its watch ends: %.*s", w->client, (int)why.n, (const char *)why.p);
    if (from <= kw->revision)
        sim_fail(w->cluster, "client %u: history is said to be gone up to %llu, but it was to be told from %llu on",
                 w->client, (unsigned long long)from - 1, (unsigned long long)kw->revision);
    sim_say(w->cluster, "client %u: history is gone, watches on from %llu", w->client, (unsigned long long)from);
    struct sim_watch *more = xcalloc(1, sizeof *more);
    *more = (struct sim_watch){.next = lists->all, .cluster = w->cluster, .kv = w->kv, .client = w->client,
                               .watch = w->watch};
    lists->all = more;
    more->watch.arg = more;
    more->watch.key = slice_str(CHOICES[w->client % 6].key);
    more->watch.revision = from;
    more->watch.position = 0;
    kv_watch(more->kv, &more->watch);
}

void sim_watch_start(struct sim_watches *ws, struct sim_cluster *c, struct kv_client *kv, unsigned client,
                     uint64_t choice)
{
    struct sim_watch *w = xcalloc(1, sizeof *w);
    lists = ws;
    *w = (struct sim_watch){.next = ws->all, .cluster = c, .kv = kv, .client = client};
    ws->all = w;
    w->watch = (struct kv_watch){.key = slice_str(CHOICES[client % 6].key), .prefix = CHOICES[client % 6].prefix,
                                 .revision = choice % 2, .event = on_event, .moved = on_moved, .ended = on_ended, .arg = w};
    kv_watch(kv, &w->watch);
}

void sim_watch_dead(struct sim_watches *ws, unsigned client)
{
    for (struct sim_watch *w = ws->all; w; w = w->next)
        if (w->client == client) w->dead = true;
}

void sim_watches_free(struct sim_watches *ws)
{
    for (struct sim_watch *w; (w = ws->all);) {
        ws->all = w->next;
        free(w->v);
        free(w);
    }
}

/* ---- the verdict ---- */

static bool is_before(const struct kv_event *ev, const struct kv_watch *place)
{
    return ev->revision < place->revision || (ev->revision == place->revision && ev->position < place->position);
}

static void check_events(struct sim_cluster *c, const struct sim_watch *w, const struct kv__history *h)
{
    const struct slice want = slice_str(CHOICES[w->client % 6].key);
    struct kv__cursor at;
    struct kv_event ev;
    struct slice raw;
    size_t n = 0;
    if (kv__history_seek(h, w->begin, 0, &at)) sim_fail(c, "the witness does not remember all events");
    bool alive = !w->dead && !w->gone;  /* it must have been told of everything */
    while (kv__history_next(h, &at, &ev, &raw) == 1 && (alive || is_before(&ev, &w->watch))) {
        bool hit = ev.key.n >= want.n && memcmp(ev.key.p, want.p, want.n) == 0;
        if (!hit || (!w->watch.prefix && ev.key.n != want.n)) continue;
        const struct sim_watch_event *is = n < w->n ? &w->v[n++] : NULL;
        if (!is || is->revision != ev.revision || is->position != ev.position || is->type != ev.type ||
            is->key_hash != hash64(0, ev.key.p, ev.key.n))
            sim_fail(c, "client %u, watching '%s' from %llu: its event number %zu should be %s of %.*s at %llu.%u, but %s",
                     w->client, CHOICES[w->client % 6].key, (unsigned long long)w->begin, n,
                     ev.type == KV_EVENT_PUT ? "put" : "delete", (int)ev.key.n, (const char *)ev.key.p,
                     (unsigned long long)ev.revision, ev.position, is ? "it was told of another" : "there was none");
    }
    if (n < w->n)
        sim_fail(c, "client %u was told of %zu events, but there were %zu", w->client, w->n, n);
}

/* What was asked for after it had begun it must be told. */
static void check_begin(struct sim_cluster *c, const struct sim_watch *w, const struct sim_history *h)
{
    for (size_t i = 0; i < h->n; i++) {
        const struct sim_record *r = &h->v[i];
        if (r->change && r->returned && r->known && r->status >= 0 && r->invoked > w->begun_at && r->index < w->begin)
            sim_fail(c, "client %u watches from %llu on, but a change at %llu was asked for later", w->client,
                     (unsigned long long)w->begin, (unsigned long long)r->index);
    }
}

void sim_check_watches(struct sim_cluster *c, const struct sim_watches *ws, const struct sim_history *h,
                       const struct kv__store *witness)
{
    for (const struct sim_watch *w = ws->all; w; w = w->next) {
        if (!w->begin && (w->dead || w->gone)) continue;
        if (!w->begin) sim_fail(c, "client %u: its watch never began", w->client);
        check_events(c, w, &witness->history);
        check_begin(c, w, h);
    }
}
