/* control.c - talking to servers directly, as the labs' harness does: offers, states and applied commands of the Raft
 * suite over a control connection (control.h), the status text of a quorumfs node. What servers apply is checked as it
 * is heard: in order, without holes, the same everywhere. */
#include "tests/labreal/control.h"

#include <stdio.h>

#include "tests/labreal/real.h"

#define REDIAL_NS (5 * NS_PER_MS)
#define START_NS  (60 * NS_PER_S) /* a process that does not listen by then never will */
#define ANSWER_NS (10 * NS_PER_S) /* start() and get state never block */

struct request {
    struct list link;
    struct server *server;
    struct flow *flow;
    uint64_t id, index, term;
    bool done, yes;
};

/* ---- what was applied ---- */

static void note_applied(struct server *s, uint64_t index, uint64_t command)
{
    struct host *h = s->host;
    struct applied *a = &h->applied;
    if (index != s->told + 1)
        host_fail(h, "server %u applies index %llu after %llu", s->at, (unsigned long long)index,
                  (unsigned long long)s->told);
    if (index > a->n) {
        check(index == a->n + 1);
        if (a->n == a->cap) {
            a->cap = a->cap ? a->cap * 2 : 256;
            a->v = xrealloc(a->v, a->cap * sizeof *a->v);
        }
        a->v[a->n++] = command;
    }
    if (a->v[index - 1] != command)
        host_fail(h, "server %u applies %llu at index %llu, another one had %llu there", s->at,
                  (unsigned long long)command, (unsigned long long)index, (unsigned long long)a->v[index - 1]);
    s->told = index;
    s->ever = max_u64(s->ever, index);
}

unsigned host_committed(struct host *h, uint64_t index, uint64_t *value)
{
    unsigned n = 0;
    for (unsigned i = 0; i < h->opt.n; i++) n += h->servers[i].ever >= index;
    if (n) *value = h->applied.v[index - 1];
    return n;
}

/* ---- the control connection ---- */

static void answered(struct host *h, struct reader *r, bool offer)
{
    uint64_t id = get_u64(r);
    list_for_each(l, &h->requests)
    {
        struct request *q = container_of(l, struct request, link);
        if (q->id != id) continue;
        q->yes = get_u8(r);
        if (offer) q->index = get_u64(r);
        q->term = get_u64(r);
        q->done = true;
        list_remove(&q->link);
        flow_wake(q->flow);
        return;
    }
}

static void on_open(struct conn *c)
{
    struct server *s = c->arg;
    conn_send(c, CTL_WATCH, NULL, 0);
    s->control_up = true;
}

static void on_frame(struct conn *c, uint8_t type, struct slice payload)
{
    struct server *s = c->arg;
    struct reader r = reader_of(payload);
    if (type == CTL_APPLIED) {
        for (uint64_t index = get_u64(&r); !reader_done(&r) && !r.bad; index++) note_applied(s, index, get_u64(&r));
    } else {
        answered(s->host, &r, type == CTL_OFFER_RESP);
    }
}

/* Its process is dead, or not there yet. */
static void on_closed(struct conn *c, int err)
{
    struct server *s = c->arg;
    if (!s) return;
    s->control = NULL;
    s->control_up = false;
    list_for_each_safe(l, next, &s->host->requests)
    {
        struct request *q = container_of(l, struct request, link);
        if (q->server != s) continue;
        q->done = true;
        list_remove(&q->link);
        flow_wake(q->flow);
    }
    if (s->child && !s->killing) clock_arm(s->host->clock, &s->redial, host_now(s->host) + REDIAL_NS);
}

static const struct conn_cb control_cb = {.open = on_open, .frame = on_frame, .closed = on_closed};

static void dial(struct timer *t)
{
    struct server *s = t->arg;
    s->control = net_dial(s->host->net, s->addr, &control_cb, s);
}

static bool is_up(void *arg) { return ((struct server *)arg)->control_up; }

/* ---- the status of a quorumfs node ---- */

struct asking {
    struct kv_status_call call;
    struct flow *flow;
    struct buf text;
    int err;
    bool done;
};

static void told_status(struct kv_status_call *call, int err, struct slice text)
{
    struct asking *a = call->arg;
    a->err = err;
    a->done = true;
    if (!err) buf_append(&a->text, text.p, text.n);
    flow_wake(a->flow);
}

/* Again and again until it answers: it may just have been started. */
static void ask_status(struct server *s, struct buf *text)
{
    struct host *h = s->host;
    uint64_t until = host_now(h) + START_NS;
    struct asking a;
    do {
        a = (struct asking){.flow = flow_current(h)};
        a.call = (struct kv_status_call){.deadline = until, .done = told_status, .arg = &a};
        snprintf(a.call.addr, sizeof a.call.addr, "%s", s->addr);
        kv_status(h->net, h->clock, &a.call);
        while (!a.done) flow_wait(h, 0);
        if (a.err) flow_wait(h, host_now(h) + REDIAL_NS);
    } while (a.err && host_now(h) < until);
    if (a.err) host_fail(h, "server %u does not tell its status: %s", s->at, err_text(a.err));
    *text = a.text;
}

/* ---- life ---- */

void control_begin(struct server *s)
{
    s->told = s->rpcs = 0;
    if (!s->host->opt.integers) return;
    s->redial = (struct timer){.fire = dial, .arg = s};
    clock_arm(s->host->clock, &s->redial, 0);
}

void control_end(struct server *s) { clock_disarm(s->host->clock, &s->redial); }

void control_wait(struct server *s)
{
    struct host *h = s->host;
    if (h->opt.integers) {
        if (!host_wait(h, is_up, s, START_NS / NS_PER_MS)) host_fail(h, "server %u does not listen", s->at);
        return;
    }
    struct buf text = {0};
    ask_status(s, &text);
    buf_free(&text);
}

/* ---- asking ---- */

static bool ask(struct server *s, uint8_t type, const uint64_t *command, uint64_t *index, uint64_t *term)
{
    struct host *h = s->host;
    struct request q = {.server = s, .flow = flow_current(h), .id = ++h->request_id};
    uint64_t until = host_now(h) + ANSWER_NS;
    struct buf b = {0};
    put_u64(&b, q.id);
    if (command) put_u64(&b, *command);
    if (command) put_u32(&b, h->padding);
    struct slice v = buf_slice(&b);
    list_push_back(&h->requests, &q.link);
    conn_send(s->control, type, &v, 1);
    buf_free(&b);
    while (!q.done) {
        flow_wait(h, until);
        if (!q.done && host_now(h) >= until) host_fail(h, "server %u does not answer within 10 s", s->at);
    }
    if (q.yes) *index = q.index;
    if (q.yes || type == CTL_STATE) *term = q.term;
    return q.yes;
}

/* One that does not listen yet has just been started and leads nothing. */
bool host_offer(struct host *h, unsigned i, uint64_t command, uint64_t *index, uint64_t *term)
{
    struct server *s = &h->servers[i];
    return s->control_up && ask(s, CTL_OFFER, &command, index, term);
}

bool host_leads(struct host *h, unsigned i, uint64_t *term)
{
    struct server *s = &h->servers[i];
    uint64_t index;
    *term = 0;
    if (!s->child) return false;
    control_wait(s);
    return ask(s, CTL_STATE, NULL, &index, term);
}

/* The value behind "key " at the start of a line. */
static const char *field(const char *text, const char *key)
{
    size_t n = strlen(key);
    for (const char *p = text; p; p = strchr(p, '\n')) {
        if (*p == '\n') p++;
        if (strncmp(p, key, n) == 0 && p[n] == ' ') return p + n + 1;
    }
    return NULL;
}

static uint64_t number(struct host *h, const char *text, const char *key)
{
    const char *v = field(text, key);
    if (!v) host_fail(h, "the status of a node has no line '%s'", key);
    return strtoull(v, NULL, 10);
}

uint64_t host_settle_ms(struct host *h) { return 10000; }

void host_figures(struct host *h, unsigned i, struct host_figures *out)
{
    struct buf text = {0};
    *out = (struct host_figures){0};
    if (!h->servers[i].child) return;
    ask_status(&h->servers[i], &text);
    put_u8(&text, 0);
    const char *t = (const char *)text.p, *role = field(t, "role");
    *out = (struct host_figures){.leads = role && strncmp(role, "leader\n", 7) == 0,
                                 .log_bytes = number(h, t, "log_replay_bytes"),
                                 .snapshot_bytes = number(h, t, "checkpoint_bytes"),
                                 .installed = number(h, t, "snapshots_installed")};
    buf_free(&text);
}
