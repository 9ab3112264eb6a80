/* owed.c - files whose last name is gone and that this mount may have open.
 *
 * The store keeps such a file until each mount session has said that it does not have it open (KV_RELEASE). UNLINK and
 * RENAME of this mount say `held` whenever any file is open here, as the kernel does not tell which inode loses its
 * name. Rounds set that right: ask what the session owes (KV_OWED), note what is open, give an answer for the rest, all
 * in one operation. A round runs shortly after such an unlink, after the last close of a file that is owed, and when
 * the client says that something is owed (another mount has unlinked it). A failed round is repeated by the next such
 * occasion.
 *
 * A file counts as open from the arrival of its OPEN. For a CREATE, which may open what exists, the inode is not known
 * before its reply, so an answer is given only when the CREATEs have ended that were under way when the question was
 * answered. After the answer, or after an unlink that was not `held`, nothing keeps the file for this mount: an OPEN
 * that finds a nameless file is refused (ops_file.c), unless another handle of this mount keeps it. */
#include "mount/state.h"

#define GIVE_MAX 4096u      /* inos of one RELEASE */

static void ask(struct mount *m);

static void round_end(struct mount *m)
{
    struct owed *o = &m->owed;
    o->running = false;
    buf_clear(&o->give);
    if (o->again) mount__owed_soon(m, 0);
    o->again = false;
}

static void on_given(struct kv_call *call, const struct kv_reply *reply)
{
    struct mount *m = call->arg;
    m->owed.calling = false;
    if (reply->status < 0 && reply->status != -EINTR)
        trace_warn(m->trace, "mount: could not give up %zu nameless files: %s", m->owed.give.n / 8,
                   err_text(reply->status));
    round_end(m);
}

/* Keeps in `give` what is not open (any longer: time has passed since it was asked for). */
static void filter(struct mount *m)
{
    struct owed *o = &m->owed;
    size_t kept = 0;
    for (size_t at = 0; at < o->give.n; at += 8) {
        uint64_t ino = load_u64(o->give.p + at);
        struct node *n = mount__node_find(m, ino);
        if (n && n->opens) {
            n->owed = true;
        } else if (kept < GIVE_MAX) {
            store_u64(o->give.p + 8 * kept++, ino);
        } else {
            o->again = true;
        }
    }
    o->give.n = 8 * kept;
}

static bool must_wait_for_creates(const struct mount *m)
{
    if (list_empty(&m->creates)) return false;
    return container_of(m->creates.next, struct request, creating)->serial < m->owed.barrier;
}

void mount__owed_go_on(struct mount *m)
{
    struct owed *o = &m->owed;
    if (!o->running || o->calling || must_wait_for_creates(m)) return;
    filter(m);
    if (o->give.n == 0) return round_end(m);
    o->call = (struct kv_call){.op = {.code = KV_RELEASE, .data = buf_slice(&o->give)}, .done = on_given, .arg = m};
    o->calling = true;
    kv_call(m->client, &o->call);
}

static void on_answer(struct kv_call *call, const struct kv_reply *reply)
{
    struct mount *m = call->arg;
    struct owed *o = &m->owed;
    struct reader r = reader_of(reply->data);
    o->calling = false;
    if (reply->status < 0) return round_end(m);
    if (reader_left(&r) < 8) {
        o->barrier = m->create_serial;
        return mount__owed_go_on(m);
    }
    while (reader_left(&r) >= 8) {
        o->after = get_u64(&r);
        struct node *n = mount__node_find(m, o->after);
        if (n && n->opens) {
            n->owed = true;
        } else {
            put_u64(&o->give, o->after);
        }
    }
    ask(m);
}

static void ask(struct mount *m)
{
    struct owed *o = &m->owed;
    o->call = (struct kv_call){.op = {.code = KV_OWED, .ino = o->after, .off = kv_client_session(m->client)},
                               .done = on_answer, .arg = m};
    o->calling = true;
    kv_call(m->client, &o->call);
}

static void on_timer(struct timer *t)
{
    struct mount *m = t->arg;
    struct owed *o = &m->owed;
    o->armed = false;
    if (m->dead || !m->client || kv_client_session(m->client) == 0) return;
    o->running = true;
    o->after = 0;
    check(o->give.n == 0);
    put_bytes(&o->give, buf_slice(&o->closed));
    buf_clear(&o->closed);
    ask(m);
}

void mount__owed_soon(struct mount *m, uint64_t delay)
{
    struct owed *o = &m->owed;
    if (o->running) {
        o->again = true;
    } else if (!o->armed) {
        o->armed = true;
        clock_arm(m->clock, &o->timer, clock_now(m->clock) + delay);
    }
}

void mount__owed_closed(struct mount *m, uint64_t ino)
{
    put_u64(&m->owed.closed, ino);
    mount__owed_soon(m, 0);
}

void mount_owed(void *mount)
{
    struct mount *m = mount;
    if (m->client) mount__owed_soon(m, 0);
}

/* The new session owes nothing: what had no name is gone, and its handles give ESTALE. */
void mount_session_lost(void *mount)
{
    struct mount *m = mount;
    uint64_t gone = 0;
    for (size_t i = 0; i < m->nodes.nbuckets; i++) {
        for (struct node *n = m->nodes.buckets[i]; n; n = n->next) {
            gone += n->owed;
            n->owed = false;
            mount__node_settle(m, n);
        }
    }
    buf_clear(&m->owed.closed);
    trace_warn(m->trace, "mount: the session was lost; of %llu handles, those of %llu nameless files are stale",
               (unsigned long long)m->opens, (unsigned long long)gone);
}

void mount__owed_init(struct mount *m) { m->owed.timer = (struct timer){.fire = on_timer, .arg = m}; }

void mount__owed_free(struct mount *m)
{
    struct owed *o = &m->owed;
    clock_disarm(m->clock, &o->timer);
    if (o->calling) kv_cancel(m->client, &o->call);
    clock_disarm(m->clock, &o->timer);
    buf_free(&o->closed);
    buf_free(&o->give);
}
