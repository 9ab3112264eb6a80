/* check_log.c - see check_log.h for what is checked. */
#include "tests/sim/check_log.h"

#include <stdlib.h>

#include "raft/core_priv.h"
#include "raft/node_priv.h"
#include "tests/sim/story.h"

#define TERMS_MAX 100000u

/* What lies in some log at an index: most indexes see one term, some a few. */
struct version {
    struct version *next;
    uint64_t term, before, hash; /* before: the term of the entry before it */
};

struct slot {
    struct sim_applied applied;
    uint64_t committed; /* its term; 0: not committed as far as known */
    struct version first;
};

/* One server, as this life of it has been seen. */
struct seen {
    struct sim_server *server;
    struct node_watch watch;
    struct raft *core;
    struct sim_told told;
    uint64_t term, commit, vote, applied;
    struct raft_hard durable; /* outlives it */
};

struct sim_checks {
    struct sim_cluster *cluster;
    struct seen seen[SIM_SERVERS_MAX];
    uint8_t *leader_of;         /* by term: id, 0: none yet */
    uint64_t leaders, top_term; /* the highest that had one */
    struct slot *slots;         /* by index */
    uint64_t last, committed, cap;
};

#define ULL(x) ((unsigned long long)(x))

static struct sim_cluster *cluster_of(const struct seen *s) { return s->server->cluster; }
static unsigned id_of(const struct seen *s) { return s->server->at + 1; }

static struct slot *slot(struct sim_checks *k, uint64_t index)
{
    if (index >= k->cap) {
        uint64_t cap = max_u64(index + 1, k->cap ? k->cap * 2 : 1024);
        k->slots = xrealloc(k->slots, cap * sizeof *k->slots);
        memset(k->slots + k->cap, 0, (cap - k->cap) * sizeof *k->slots);
        k->cap = cap;
    }
    return &k->slots[index];
}

/* ---- logs ---- */

static struct version *version_of(struct slot *at, uint64_t term)
{
    struct version *v = &at->first;
    while (v->term != term && v->next) v = v->next;
    if (v->term == term || v->term == 0) return v;
    return v->next = xcalloc(1, sizeof *v);
}

static void on_appended(void *arg, const struct log_entry *e)
{
    struct seen *s = arg;
    struct sim_cluster *c = cluster_of(s);
    if (s->server->gate.shut) return;
    uint64_t hash = e->data ? hash64(e->kind, e->data->p, e->data->n) : e->kind;
    uint64_t before = raft__term_at(&s->core->terms, e->index - 1);
    struct slot *at = slot(c->checks, e->index);
    struct version *v = version_of(at, e->term);
    if (v->term == 0) {
        *v = (struct version){.term = e->term, .before = before, .hash = hash};
        return;
    }
    if (v->hash != hash)
        sim_fail(c, "log matching: server %u has another entry %llu of term %llu than others", id_of(s), ULL(e->index),
                 ULL(e->term));
    if (v->before && before && v->before != before)
        sim_fail(c, "log matching: before entry %llu of term %llu server %u has one of term %llu, others one of %llu",
                 ULL(e->index), ULL(e->term), id_of(s), ULL(before), ULL(v->before));
}

/* ---- what was applied ---- */

static void on_applying(void *arg, uint64_t index, uint64_t term, struct slice data)
{
    struct seen *s = arg;
    struct sim_cluster *c = cluster_of(s);
    if (s->server->gate.shut) return;
    struct sim_applied *a = &slot(c->checks, index)->applied;
    if (index <= s->applied)
        sim_fail(c, "server %u applies index %llu after %llu", id_of(s), ULL(index), ULL(s->applied));
    if (a->data && (a->term != term || !slice_eq(blob_slice(a->data), data)))
        sim_fail(c, "server %u applies another command at index %llu (term %llu, before %llu)", id_of(s), ULL(index),
                 ULL(term), ULL(a->term));
    if (!a->data && a->digested)
        sim_fail(c, "server %u applies a command at index %llu, another server had none there", id_of(s), ULL(index));
    s->applied = index;
    if (a->data) return;
    a->data = blob_new(data.n);
    if (data.n) memcpy(a->data->p, data.p, data.n);
    a->term = term;
}

/* All up to index has been applied: the state there is known. */
static void on_applied(void *arg, uint64_t index, uint64_t digest)
{
    struct seen *s = arg;
    struct sim_cluster *c = cluster_of(s);
    if (s->server->gate.shut || s->server->astray) return;
    struct sim_applied *a = &slot(c->checks, index)->applied;
    if (a->digested && a->digest != digest)
        sim_fail(c, "server %u has another state at index %llu than others had: %016llx, not %016llx", id_of(s),
                 ULL(index), ULL(digest), ULL(a->digest));
    if (index < s->applied)
        sim_fail(c, "server %u goes back from index %llu to %llu", id_of(s), ULL(s->applied), ULL(index));
    a->digest = digest;
    a->digested = true;
    s->applied = index;
    c->checks->last = max_u64(c->checks->last, index);
}

/* ---- every step of every core ---- */

/* Its log has, up to its end, what was committed; and it does not end before that. */
static void check_complete(struct sim_checks *k, const struct raft *r)
{
    uint64_t id = r->config.id;
    if (r->terms.last < k->committed)
        sim_fail(k->cluster, "leader %llu of term %llu lacks what was committed: its log ends at %llu, not at %llu",
                 ULL(id), ULL(r->hard.term), ULL(r->terms.last), ULL(k->committed));
    for (uint64_t i = r->terms.base + 1; i <= k->committed; i++) {
        uint64_t term = raft__term_at(&r->terms, i), committed = slot(k, i)->committed;
        if (committed && term && term != committed)
            sim_fail(k->cluster, "leader %llu of term %llu has an entry of term %llu at %llu, committed was one of %llu",
                     ULL(id), ULL(r->hard.term), ULL(term), ULL(i), ULL(committed));
    }
}

static void check_leader(struct sim_checks *k, const struct raft *r)
{
    struct sim_cluster *c = k->cluster;
    uint64_t term = r->hard.term, id = r->config.id;
    if (term >= TERMS_MAX) sim_fail(c, "term %llu: something runs wild", ULL(term));
    uint8_t *who = &k->leader_of[term];
    if (*who == id) return;
    if (*who) sim_fail(c, "two leaders of term %llu: %u and %llu", ULL(term), *who, ULL(id));
    *who = (uint8_t)id;
    k->leaders++;
    /* One that was elected in an older term and wakes up late need not have what later leaders committed. */
    if (term < k->top_term) return;
    k->top_term = term;
    check_complete(k, r);
}

static void check_commit(struct sim_checks *k, struct seen *s, const struct raft *r)
{
    struct sim_cluster *c = k->cluster;
    if (r->commit < s->commit)
        sim_fail(c, "server %u: the commit index falls from %llu to %llu", id_of(s), ULL(s->commit), ULL(r->commit));
    for (uint64_t i = max_u64(s->commit, r->terms.base) + 1; i <= r->commit; i++) {
        struct slot *at = slot(k, i);
        uint64_t term = raft__term_at(&r->terms, i);
        if (at->committed && term && at->committed != term)
            sim_fail(c, "server %u commits entry %llu of term %llu, committed was one of term %llu", id_of(s), ULL(i),
                     ULL(term), ULL(at->committed));
        if (term) at->committed = term;
    }
    k->committed = max_u64(k->committed, r->commit);
}

/* A damaged disk may have lost them, but then the server must not vote. */
static void check_memory(struct seen *s, const struct raft *r)
{
    const struct raft_hard *d = &s->durable;
    bool forgot = r->hard.term < d->term || (r->hard.term == d->term && d->vote && r->hard.vote != d->vote);
    if (forgot && (!s->server->suspect || r->hard.standing == RAFT_VOTER))
        sim_fail(cluster_of(s), "server %u forgot its term or vote: it starts with %llu/%llu, durable were %llu/%llu",
                 id_of(s), ULL(r->hard.term), ULL(r->hard.vote), ULL(d->term), ULL(d->vote));
    if (forgot) s->durable = r->hard;
}

static void check_terms(struct seen *s, const struct raft *r)
{
    if (r->hard.term < s->term)
        sim_fail(cluster_of(s), "server %u: the term falls from %llu to %llu", id_of(s), ULL(s->term),
                 ULL(r->hard.term));
    if (r->hard.term == s->term && s->vote && r->hard.vote != s->vote)
        sim_fail(cluster_of(s), "server %u changes its vote in term %llu", id_of(s), ULL(r->hard.term));
}

static bool is_request(const struct raft_msg *m)
{
    return m->type == RAFT_MSG_APPEND || m->type == RAFT_MSG_VOTE || m->type == RAFT_MSG_PREVOTE ||
           m->type == RAFT_MSG_PROBE || m->type == RAFT_MSG_SNAPSHOT || m->type == RAFT_MSG_TIMEOUT_NOW;
}

static void on_stepped(void *arg, struct raft *r, const struct raft_event *ev)
{
    struct seen *s = arg;
    struct sim_cluster *c = cluster_of(s);
    struct sim_checks *k = c->checks;
    if (s->server->gate.shut) return;
    const char *bad = raft_invariant(r);
    if (bad) sim_fail(c, "server %u: the core is broken: %s", id_of(s), bad);
    check(r->config.id == id_of(s));
    s->core = r;
    if (ev->kind == RAFT_EV_HARD_PERSISTED) s->durable = ev->hard;
    if (ev->kind == RAFT_EV_START) check_memory(s, r);
    check_terms(s, r);
    sim_story_step(s->server, &s->told, r, ev);
    if (r->commit != s->commit) check_commit(k, s, r);
    s->term = r->hard.term;
    s->vote = r->hard.vote;
    s->commit = r->commit;
    if (r->role == RAFT_LEADER) check_leader(k, r);
    if (r->hard.standing == RAFT_VOTER && s->durable.standing == RAFT_VOTER) s->server->lost = false;
    if (ev->kind == RAFT_EV_MSG && is_request(ev->msg)) s->server->last_received++;
}

/* ---- life ---- */

struct sim_checks *sim_checks_new(struct sim_cluster *c)
{
    struct sim_checks *k = xcalloc(1, sizeof *k);
    k->cluster = c;
    k->leader_of = xcalloc(TERMS_MAX, 1);
    return k;
}

static void slot_free(struct slot *at)
{
    blob_unref(at->applied.data);
    for (struct version *v = at->first.next, *next; v; v = next) {
        next = v->next;
        free(v);
    }
}

void sim_checks_free(struct sim_checks *k)
{
    for (uint64_t i = 0; i < k->cap; i++) slot_free(&k->slots[i]);
    free(k->slots);
    free(k->leader_of);
    free(k);
}

const struct node_watch *sim_checks_watch(struct sim_checks *k, struct sim_server *s)
{
    struct seen *seen = &k->seen[s->at];
    seen->server = s;
    seen->watch = (struct node_watch){.arg = seen,
                                      .stepped = on_stepped,
                                      .appended = on_appended,
                                      .applying = on_applying,
                                      .applied = on_applied,
                                      .restored = on_applied};
    return &seen->watch;
}

void sim_checks_recovered(struct sim_checks *k, const struct sim_server *s)
{
    const struct raft_terms *terms = &s->node->core->terms;
    uint64_t sure = log_sure(s->node->log);
    if (sure > k->committed)
        sim_fail(k->cluster, "server %u is sure of entries up to %llu, committed are %llu", s->at + 1, ULL(sure), ULL(k->committed));
    for (uint64_t i = terms->base + 1; i <= sure && i <= terms->last; i++) {
        uint64_t term = raft__term_at(terms, i), committed = slot(k, i)->committed;
        if (committed && term != committed)
            sim_fail(k->cluster, "server %u is sure of entry %llu of term %llu, committed was one of term %llu", s->at + 1, ULL(i),
                     ULL(term), ULL(committed));
    }
}

void sim_checks_ended(struct sim_checks *k, struct sim_server *s)
{
    struct seen *seen = &k->seen[s->at];
    *seen = (struct seen){.durable = seen->durable};
}

void sim_checks_wiped(struct sim_checks *k, struct sim_server *s) { k->seen[s->at].durable = (struct raft_hard){0}; }

uint64_t sim_applied_last(const struct sim_checks *k) { return k->last; }
uint64_t sim_committed_last(const struct sim_checks *k) { return k->committed; }

const struct sim_applied *sim_applied_at(const struct sim_checks *k, uint64_t index)
{
    static const struct sim_applied none;
    return index < k->cap ? &k->slots[index].applied : &none;
}

bool sim_durable_voter(const struct sim_checks *k, unsigned server)
{
    return k->seen[server].durable.standing == RAFT_VOTER;
}

uint64_t sim_leaders_seen(const struct sim_checks *k) { return k->leaders; }
