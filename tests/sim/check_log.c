/* check_log.c - see check_log.h for what is checked. One run at a time in a program. */
#include "tests/sim/check_log.h"

#include <stdlib.h>

#define TERMS_MAX 100000u

/* Between the node and its state machine, for one life of one server. */
struct shim {
    struct node_sm inner;
    struct sim_server *server;
    uint64_t applied;
};

struct seen {
    struct shim *shim;
    uint64_t term, commit, vote; /* of this life */
    struct raft_hard durable;
};

struct sim_checks {
    struct sim_cluster *cluster;
    struct sim_server *starting;
    struct seen seen[SIM_SERVERS_MAX];
    uint8_t *leader_of;          /* by term: id, 0: none yet */
    uint64_t leaders, top_term;  /* the highest that had one */
    struct sim_applied *applied; /* by index */
    uint64_t last, cap;
};

static struct sim_checks *on; /* whom the wrapped functions tell */

/* ---- what was applied ---- */

static struct sim_applied *slot(struct sim_checks *k, uint64_t index)
{
    if (index >= k->cap) {
        uint64_t cap = max_u64(index + 1, k->cap ? k->cap * 2 : 1024);
        k->applied = xrealloc(k->applied, cap * sizeof *k->applied);
        memset(k->applied + k->cap, 0, (cap - k->cap) * sizeof *k->applied);
        k->cap = cap;
    }
    return &k->applied[index];
}

static void check_command(struct shim *m, uint64_t index, uint64_t term, struct slice data)
{
    struct sim_cluster *c = m->server->cluster;
    unsigned id = m->server->at + 1;
    struct sim_applied *a = slot(c->checks, index);
    if (index <= m->applied)
        sim_fail(c, "server %u applies index %llu after %llu", id, (unsigned long long)index,
                 (unsigned long long)m->applied);
    if (a->data && (a->term != term || !slice_eq(blob_slice(a->data), data)))
        sim_fail(c, "server %u applies another command at index %llu (term %llu, before %llu)", id,
                 (unsigned long long)index, (unsigned long long)term, (unsigned long long)a->term);
    if (!a->data && a->digested)
        sim_fail(c, "server %u applies a command at index %llu, another server had none there", id,
                 (unsigned long long)index);
    m->applied = index;
    if (a->data) return;
    a->data = blob_new(data.n);
    if (data.n) memcpy(a->data->p, data.p, data.n);
    a->term = term;
}

/* All up to index has been applied: the state there is known. */
static void check_digest(struct shim *m, uint64_t index)
{
    struct sim_cluster *c = m->server->cluster;
    uint64_t digest = m->inner.digest(m->inner.arg);
    struct sim_applied *a = slot(c->checks, index);
    if (a->digested && a->digest != digest)
        sim_fail(c, "server %u has another state at index %llu than others had: %016llx, not %016llx",
                 m->server->at + 1, (unsigned long long)index, (unsigned long long)digest,
                 (unsigned long long)a->digest);
    a->digest = digest;
    a->digested = true;
    m->applied = index;
    c->checks->last = max_u64(c->checks->last, index);
}

/* ---- the shim ---- */

static void shim_apply(void *arg, uint64_t index, uint64_t term, struct slice data)
{
    struct shim *m = arg;
    check_command(m, index, term, data);
    m->inner.apply(m->inner.arg, index, term, data);
}

static void shim_applied(void *arg, uint64_t index)
{
    struct shim *m = arg;
    check_digest(m, index);
    m->inner.applied(m->inner.arg, index);
}

static void *shim_snap_begin(void *arg)
{
    return ((struct shim *)arg)->inner.snap_begin(((struct shim *)arg)->inner.arg);
}
static void shim_restore_begin(void *arg)
{
    ((struct shim *)arg)->inner.restore_begin(((struct shim *)arg)->inner.arg);
}
static void shim_restore_cancel(void *arg)
{
    ((struct shim *)arg)->inner.restore_cancel(((struct shim *)arg)->inner.arg);
}

static int shim_restore_block(void *arg, struct slice block)
{
    return ((struct shim *)arg)->inner.restore_block(((struct shim *)arg)->inner.arg, block);
}

static int shim_restore_end(void *arg, uint64_t index)
{
    struct shim *m = arg;
    int err = m->inner.restore_end(m->inner.arg, index);
    if (!err && index < m->applied)
        sim_fail(m->server->cluster, "server %u goes back from index %llu to a snapshot of %llu", m->server->at + 1,
                 (unsigned long long)m->applied, (unsigned long long)index);
    if (!err) check_digest(m, index);
    return err;
}

static void shim_restore_ranges(void *arg, void (*emit)(void *ctx, uint64_t index, uint32_t off, uint32_t len),
                                void *ctx)
{
    struct shim *m = arg;
    m->inner.restore_ranges(m->inner.arg, emit, ctx);
}

static void shim_live_ranges(void *arg, uint64_t index, void (*emit)(void *ctx, uint32_t off, uint32_t len), void *ctx)
{
    struct shim *m = arg;
    m->inner.live_ranges(m->inner.arg, index, emit, ctx);
}

static void shim_role(void *arg, enum raft_role role, uint64_t term, uint64_t leader)
{
    struct shim *m = arg;
    m->inner.role(m->inner.arg, role, term, leader);
}

static uint64_t shim_digest(void *arg) { return ((struct shim *)arg)->inner.digest(((struct shim *)arg)->inner.arg); }

static void shim_fatal(void *arg, int err, const char *text)
{
    struct shim *m = arg;
    m->inner.fatal(m->inner.arg, err, text);
}

int __real_node_new(struct disk *disk, struct net *net, struct clock *clock, const struct node_config *config,
                    const struct node_sm *sm, struct node **out, struct buf *why);
int __wrap_node_new(struct disk *disk, struct net *net, struct clock *clock, const struct node_config *config,
                    const struct node_sm *sm, struct node **out, struct buf *why);
int __wrap_node_new(struct disk *disk, struct net *net, struct clock *clock, const struct node_config *config,
                    const struct node_sm *sm, struct node **out, struct buf *why)
{
    static const struct node_sm shim_sm = {NULL,
                                           shim_apply,
                                           shim_applied,
                                           shim_snap_begin,
                                           NULL,
                                           NULL,
                                           shim_restore_begin,
                                           shim_restore_block,
                                           shim_restore_end,
                                           shim_restore_cancel,
                                           shim_restore_ranges,
                                           shim_live_ranges,
                                           shim_role,
                                           shim_digest,
                                           shim_fatal};
    struct sim_server *s = on ? on->starting : NULL;
    if (!s) return __real_node_new(disk, net, clock, config, sm, out, why);
    struct shim *m = xcalloc(1, sizeof *m);
    struct node_sm outer = shim_sm;
    m->inner = *sm;
    m->server = s;
    outer.arg = m;
    outer.snap_next = sm->snap_next;
    outer.snap_end = sm->snap_end;
    check(!on->seen[s->at].shim);
    on->seen[s->at].shim = m;
    return __real_node_new(disk, net, clock, config, &outer, out, why);
}

/* ---- every step of every core ---- */

static void check_leader(struct sim_checks *k, const struct raft_status *st)
{
    struct sim_cluster *c = k->cluster;
    if (st->term >= TERMS_MAX) sim_fail(c, "term %llu: something runs wild", (unsigned long long)st->term);
    uint8_t *who = &k->leader_of[st->term];
    if (*who == st->id) return;
    if (*who)
        sim_fail(c, "two leaders of term %llu: %u and %llu", (unsigned long long)st->term, *who,
                 (unsigned long long)st->id);
    *who = (uint8_t)st->id;
    k->leaders++;
    sim_say(c, "server %llu leads in term %llu, its log ends at %llu", (unsigned long long)st->id,
            (unsigned long long)st->term, (unsigned long long)st->last);
    /* One that was elected in an older term and wakes up late need not have what later leaders committed. */
    if (st->term < k->top_term) return;
    k->top_term = st->term;
    if (st->last < k->last)
        sim_fail(c, "leader %llu of term %llu lacks what was applied: its log ends at %llu, %llu was applied",
                 (unsigned long long)st->id, (unsigned long long)st->term, (unsigned long long)st->last,
                 (unsigned long long)k->last);
}

static void check_step(struct sim_checks *k, struct raft *r, const struct raft_event *ev)
{
    struct sim_cluster *c = k->cluster;
    struct raft_status st;
    const char *bad = raft_invariant(r);
    raft_status(r, &st);
    check(st.id >= 1 && st.id <= c->opt.n);
    struct seen *s = &k->seen[st.id - 1];
    unsigned id = (unsigned)st.id;
    if (bad) sim_fail(c, "server %u: the core is broken: %s", id, bad);
    if (ev->kind == RAFT_EV_HARD_PERSISTED) s->durable = ev->hard;
    if (ev->kind == RAFT_EV_START &&
        (st.term < s->durable.term || (st.term == s->durable.term && s->durable.vote && st.vote != s->durable.vote)))
        sim_fail(c, "server %u forgot its term or vote: it starts with %llu/%llu, durable were %llu/%llu", id,
                 (unsigned long long)st.term, (unsigned long long)st.vote, (unsigned long long)s->durable.term,
                 (unsigned long long)s->durable.vote);
    if (st.term < s->term)
        sim_fail(c, "server %u: the term falls from %llu to %llu", id, (unsigned long long)s->term,
                 (unsigned long long)st.term);
    if (st.term == s->term && s->vote && st.vote != s->vote)
        sim_fail(c, "server %u changes its vote in term %llu", id, (unsigned long long)st.term);
    if (st.commit < s->commit)
        sim_fail(c, "server %u: the commit index falls from %llu to %llu", id, (unsigned long long)s->commit,
                 (unsigned long long)st.commit);
    s->term = st.term;
    s->vote = st.vote;
    s->commit = st.commit;
    if (st.role == RAFT_LEADER) check_leader(k, &st);
    if (st.standing == RAFT_VOTER && s->durable.standing == RAFT_VOTER) c->servers[id - 1].lost = false;
    if (ev->kind == RAFT_EV_MSG && (ev->msg->type == RAFT_MSG_APPEND || ev->msg->type == RAFT_MSG_VOTE ||
                                    ev->msg->type == RAFT_MSG_PREVOTE || ev->msg->type == RAFT_MSG_PROBE))
        c->servers[id - 1].last_received++;
}

void __real_raft_step(struct raft *r, const struct raft_event *event, struct raft_update *update);
void __wrap_raft_step(struct raft *r, const struct raft_event *event, struct raft_update *update);
void __wrap_raft_step(struct raft *r, const struct raft_event *event, struct raft_update *update)
{
    __real_raft_step(r, event, update);
    if (on) check_step(on, r, event);
}

/* ---- life ---- */

struct sim_checks *sim_checks_new(struct sim_cluster *c)
{
    struct sim_checks *k = xcalloc(1, sizeof *k);
    check(!on);
    k->cluster = c;
    k->leader_of = xcalloc(TERMS_MAX, 1);
    on = k;
    return k;
}

void sim_checks_free(struct sim_checks *k)
{
    for (uint64_t i = 0; i < k->cap; i++) blob_unref(k->applied[i].data);
    free(k->applied);
    free(k->leader_of);
    if (on == k) on = NULL;
    free(k);
}

void sim_checks_starting(struct sim_checks *k, struct sim_server *s) { k->starting = s; }

void sim_checks_ended(struct sim_checks *k, struct sim_server *s)
{
    struct seen *seen = &k->seen[s->at];
    free(seen->shim);
    *seen = (struct seen){.durable = seen->durable};
}

void sim_checks_wiped(struct sim_checks *k, struct sim_server *s) { k->seen[s->at].durable = (struct raft_hard){0}; }

uint64_t sim_applied_last(const struct sim_checks *k) { return k->last; }

const struct sim_applied *sim_applied_at(const struct sim_checks *k, uint64_t index)
{
    static const struct sim_applied none;
    return index < k->cap ? &k->applied[index] : &none;
}

bool sim_durable_voter(const struct sim_checks *k, unsigned server)
{
    return k->seen[server].durable.standing == RAFT_VOTER;
}
uint64_t sim_leaders_seen(const struct sim_checks *k) { return k->leaders; }
