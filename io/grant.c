/* grant.c - how many bytes of incomplete frames guests may have here. A frame is delivered whole, so what has come of it
 * waits in memory; thousands of clients that each begin a large frame would need more of it than there is.
 *
 * A guest's frame that is large needs a grant of its size before more of it is read than one buffer. While those given
 * out are many bytes, the next waits, in order, and is not read from. A grant whose frame makes no progress while others
 * wait ends with its connection. Small frames need none. */
#include "io/io_priv.h"

#define GRANT_LARGE (64u * KIB)
#define GRANTS_MAX  (128u * MIB)
#define STALL_NS    (10 * NS_PER_S)
#define LOOK_NS     (1 * NS_PER_S)

static struct clock *clock_of(struct io__net *n) { return &n->loop->clock.base; }

static bool fits(const struct io__net *n, size_t whole) { return n->granted == 0 || n->granted + whole <= n->grants_max; }

static void give(struct io__conn *c, size_t whole)
{
    struct io__net *n = c->net;
    list_remove(&c->granting);
    list_push_back(&n->granting, &c->granting);
    c->grant = whole;
    c->granted_at = clock_now(clock_of(n));
    n->granted += whole;
    buf_reserve(&c->in, whole - c->in.n);
}

bool io__grant_get(struct io__conn *c, size_t whole)
{
    struct io__net *n = c->net;
    if (!c->base.guest || whole <= GRANT_LARGE) return true;
    if (c->grant) {
        c->granted_at = clock_now(clock_of(n));
        return true;
    }
    if (!list_empty(&c->granting)) return false;
    if (list_empty(&n->wanting) && fits(n, whole)) {
        give(c, whole);
        return true;
    }
    list_push_back(&n->wanting, &c->granting);
    clock_arm(clock_of(n), &n->grant_timer, clock_now(clock_of(n)) + min_u64(LOOK_NS, n->stall_ns));
    return false;
}

/* The next in turn go on; the kernel has kept what they sent. */
static void next(struct io__net *n)
{
    while (!list_empty(&n->wanting)) {
        struct io__conn *c = container_of(n->wanting.next, struct io__conn, granting);
        int64_t whole = frame_peek(buf_slice(&c->in));
        check(whole > 0);
        if (!fits(n, (size_t)whole)) return;
        give(c, (size_t)whole);
        io__conn_resume(c);
    }
}

void io__grant_end(struct io__conn *c)
{
    struct io__net *n = c->net;
    bool waited = !list_empty(&c->granting) && !c->grant;
    list_remove(&c->granting);
    n->granted -= c->grant;
    if (c->grant || waited) next(n);
    c->grant = 0;
}

static void look(struct timer *t)
{
    struct io__net *n = t->arg;
    uint64_t now = clock_now(clock_of(n));
    if (list_empty(&n->wanting)) return;
    clock_arm(clock_of(n), t, now + min_u64(LOOK_NS, n->stall_ns));
    list_for_each_safe(l, tmp, &n->granting)
    {
        struct io__conn *c = container_of(l, struct io__conn, granting);
        if (c->paused || now < c->granted_at + n->stall_ns) continue;
        trace_warn(n->loop->trace, "net: %s does not finish a large frame while others wait: closed", c->base.peer);
        io__conn_fail(c, -ETIMEDOUT);
        return;     /* the list may have changed; the others are looked at next time */
    }
}

void io__grant_init(struct io__net *n)
{
    list_init(&n->wanting);
    list_init(&n->granting);
    n->grants_max = GRANTS_MAX;
    n->stall_ns = STALL_NS;
    n->grant_timer = (struct timer){.fire = look, .arg = n};
}
