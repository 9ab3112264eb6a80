/* client_watch.c - watches: asked for on each new connection from the place that has been told, so that neither a lost
 * connection nor a new leader leaves a gap, and what comes twice all the same is dropped here.
 *
 * The user's callbacks may end any watch or free the client: after each of them the watch is looked up again. */
#include "kv/client.h"

#include <stdlib.h>

static struct kv__cwatch *first_of(const struct list *l) { return container_of(l->next, struct kv__cwatch, link); }

static struct kv__cwatch *find(struct kv_client *c, uint64_t id)
{
    list_for_each(l, &c->watches)
    {
        struct kv__cwatch *w = container_of(l, struct kv__cwatch, link);
        if (w->id == id) return w;
    }
    return NULL;
}

static void destroy(struct kv__cwatch *w)
{
    list_remove(&w->link);
    w->user->priv = NULL;
    buf_free(&w->key);
    free(w);
}

/* ---- to the server ---- */

void kv__watch_send(struct kv_client *c)
{
    list_for_each(l, &c->watches)
    {
        struct kv__cwatch *w = container_of(l, struct kv__cwatch, link);
        if (w->sent || conn_queued(c->conn) > KV_CLIENT_SEND_HIGH) continue;
        struct kv__watching ask = {.id = w->id,
                                   .revision = w->user->revision,
                                   .position = w->user->position,
                                   .flags = w->user->prefix ? KV_WATCH_PREFIX : 0,
                                   .key = buf_slice(&w->key)};
        buf_clear(&c->out);
        kv__watch_encode(&ask, &c->out);
        struct slice v = buf_slice(&c->out);
        if (conn_send(c->conn, KV_FRAME_WATCH, &v, 1)) return;
        w->sent = true;
        kv__link_sent(c);
    }
}

void kv__watch_unsent(struct kv_client *c)
{
    list_for_each(l, &c->watches) container_of(l, struct kv__cwatch, link)->sent = false;
}

void kv_watch(struct kv_client *c, struct kv_watch *user)
{
    check(!c->dead && user->event && user->ended);
    struct kv__cwatch *w = xcalloc(1, sizeof *w);
    *w = (struct kv__cwatch){.client = c, .user = user, .id = ++c->next_watch};
    put_bytes(&w->key, user->key);
    user->priv = w;
    w->err = c->closing ? QE_STOPPED : user->key.n > FS_KEY_MAX ? -ENAMETOOLONG : 0;
    list_push_back(w->err ? &c->ending : &c->watches, &w->link);
    if (w->err) clock_arm(c->clock, &c->turn, 0);
    else kv__client_pump(c);
}

void kv_watch_cancel(struct kv_client *c, struct kv_watch *user)
{
    struct kv__cwatch *w = user->priv;
    if (!w) return;
    if (w->sent && c->state == LINK_READY) {
        uint8_t id[8];
        store_u64(id, w->id);
        struct slice v = slice_of(id, sizeof id);
        conn_send(c->conn, KV_FRAME_WATCH_STOP, &v, 1);
    }
    destroy(w);
}

/* ---- from the server ---- */

static bool before(const struct kv_watch *u, uint64_t revision, uint32_t position)
{
    return u->revision < revision || (u->revision == revision && u->position < position);
}

/* Tells the events one by one. False: the watch or the client is no more, or the bytes are no events. */
static bool tell(struct kv_client *c, uint64_t id, struct reader *events)
{
    struct kv_event ev;
    while (kv_event_next(events, &ev)) {
        struct kv_watch *u = find(c, id)->user;
        if (before(u, ev.revision, ev.position + 1)) {
            u->revision = ev.revision;
            u->position = ev.position + 1;
            u->event(u, &ev);
        }
        if (c->dead || !find(c, id)) return false;
    }
    if (!events->bad) return true;
    trace_warn(c->trace, "client: events from %s cannot be decoded", c->target);
    kv__link_retry_later(c);
    return false;
}

void kv__watch_events(struct kv_client *c, struct slice payload)
{
    struct kv__watching at;
    struct reader events;
    if (c->state != LINK_READY) return;
    if (kv__events_decode(payload, &at, &events)) {
        kv__link_retry_later(c);
        return;
    }
    struct kv__cwatch *w = find(c, at.id);
    if (!w || !w->sent) return;         /* cancelled */
    c->tries = c->waits = c->hops = 0;
    c->unreached[0] = 0;
    if (!tell(c, at.id, &events)) return;
    struct kv_watch *u = w->user;
    if (before(u, at.revision, at.position)) {
        u->revision = at.revision;
        u->position = at.position;
    }
    if (u->moved) u->moved(u);
}

void kv__watch_ended(struct kv_client *c, struct slice payload)
{
    uint64_t id, revision;
    int err;
    struct slice text;
    if (c->state != LINK_READY) return;
    if (kv__watch_end_decode(payload, &id, &err, &revision, &text)) {
        kv__link_retry_later(c);
        return;
    }
    struct kv__cwatch *w = find(c, id);
    if (!w) return;
    struct kv_watch *u = w->user;
    destroy(w);
    u->ended(u, err, revision, text);
}

/* ---- the end ---- */

void kv__watch_end_all(struct kv_client *c, int err)
{
    for (struct list *l; (l = list_pop_front(&c->watches));) {
        container_of(l, struct kv__cwatch, link)->err = err;
        list_push_back(&c->ending, l);
    }
    clock_arm(c->clock, &c->turn, 0);
}

void kv__watch_end_some(struct kv_client *c)
{
    while (!c->dead && !list_empty(&c->ending)) {
        struct kv__cwatch *w = first_of(&c->ending);
        struct kv_watch *u = w->user;
        int err = w->err;
        destroy(w);
        u->ended(u, err, 0, slice_str(err_text(err)));
    }
}

void kv__watch_free_all(struct kv_client *c)
{
    while (!list_empty(&c->watches)) destroy(first_of(&c->watches));
    while (!list_empty(&c->ending)) destroy(first_of(&c->ending));
}
