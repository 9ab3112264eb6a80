/* fake_node.c - see fake_node.h. Defines all of raft.h's node_*, so that the real node is not linked. */
#include "fake_node.h"

#include <stdlib.h>

struct fake_cluster *fake_cluster;

struct node {
    struct fake_cluster *c;
    struct node_config cfg;
    struct node_sm sm;
    uint64_t applied, lost;         /* lost: proposals that went nowhere, for their indexes */
    bool believes;
    uint64_t believed_term;
    struct list reads;
    unsigned refs;
    bool dead, poked;
};

struct fake_cluster *fake_cluster_new(struct fake *f)
{
    struct fake_cluster *c = xcalloc(1, sizeof *c);
    c->f = f;
    c->commit_delay = 200 * NS_PER_US;
    c->late_delay = 300 * NS_PER_US;
    c->lease = true;
    fake_cluster = c;
    return c;
}

void fake_cluster_free(struct fake_cluster *c)
{
    for (uint64_t i = 1; i <= c->last; i++) blob_unref(c->log[i].data);
    free(c);
    fake_cluster = NULL;
}

uint64_t fake_applied(struct fake_cluster *c, uint64_t id) { return c->nodes[id] ? c->nodes[id]->applied : 0; }

/* ---- events that outlive their node ---- */

static void unref(struct node *n)
{
    if (--n->refs == 0) free(n);
}

struct late {
    struct node *n;
    void (*fire)(struct node *n, uint64_t a, uint64_t b);
    uint64_t a, b;
};

static void late_fired(void *arg)
{
    struct late l = *(struct late *)arg;
    free(arg);
    if (!l.n->dead) l.fire(l.n, l.a, l.b);
    unref(l.n);
}

static void later(struct node *n, uint64_t delay, void (*fire)(struct node *n, uint64_t a, uint64_t b), uint64_t a,
                  uint64_t b)
{
    struct late *l = xcalloc(1, sizeof *l);
    *l = (struct late){n, fire, a, b};
    n->refs++;
    fake_later(n->c->f, delay, late_fired, l);
}

/* ---- applying and reading ---- */

static void run_reads(struct node *n)
{
    struct fake_cluster *c = n->c;
    if (!n->believes) {
        for (struct list *l; (l = list_pop_front(&n->reads));) {
            struct node_read *r = container_of(l, struct node_read, link);
            r->done(r, QE_NOT_LEADER, false);
        }
        return;
    }
    bool leads = c->leader == n->cfg.id && c->log[c->commit].term == c->term;
    if (!leads && !c->lease) return;        /* nobody confirms */
    struct list run;
    list_init(&run);
    for (struct list *l; (l = list_pop_front(&n->reads));) list_push_back(&run, l);
    for (struct list *l; (l = list_pop_front(&run));) {
        struct node_read *r = container_of(l, struct node_read, link);
        /* A deposed leader's lease had not ended when it looked, and ends before the answer (node_read_valid). */
        if (n->applied < r->id && leads) {
            list_push_back(&n->reads, &r->link);
            continue;
        }
        c->reads++;
        r->done(r, 0, c->lease);
        if (n->dead) return;
    }
}

static void apply(struct node *n, uint64_t upto, uint64_t unused)
{
    struct fake_cluster *c = n->c;
    n->poked = false;
    uint64_t before = n->applied;
    while (!n->dead && n->applied < c->commit) {
        uint64_t i = n->applied + 1;
        if (n->believes && c->log[i].term > n->believed_term) break;    /* it is cut off from the new leader */
        if (c->log[i].data) {
            struct blob *keep = blob_ref(c->log[i].data);
            n->sm.apply(n->sm.arg, i, c->log[i].term, blob_slice(keep));
            blob_unref(keep);
        }
        n->applied = i;
    }
    if (n->applied > before && !n->dead) n->sm.applied(n->sm.arg, n->applied);
    if (!n->dead) run_reads(n);
}

static void poke(struct node *n, uint64_t delay)
{
    if (n->poked) return;
    n->poked = true;
    later(n, delay, apply, 0, 0);
}

struct commit {
    struct fake_cluster *c;
    uint64_t index, term;
};

static void commit_fired(void *arg)
{
    struct commit k = *(struct commit *)arg;
    struct fake_cluster *c = k.c;
    if (c->stalled && c->term == k.term) {
        fake_later(c->f, NS_PER_MS, commit_fired, arg);
        return;
    }
    free(arg);
    if (c->term != k.term) return;
    c->commit = max_u64(c->commit, k.index);
    for (uint64_t id = 1; id <= FAKE_NODES; id++)
        if (c->nodes[id]) poke(c->nodes[id], id == c->leader ? 0 : prng_below(&c->f->rng, 2 * NS_PER_MS));
}

static void append(struct fake_cluster *c, struct blob *data)
{
    check(c->last + 1 < sizeof c->log / sizeof *c->log);
    c->log[++c->last] = (struct fake_entry){c->term, data};
    struct commit *k = xcalloc(1, sizeof *k);
    *k = (struct commit){c, c->last, c->term};
    fake_later(c->f, c->commit_delay, commit_fired, k);
}

/* ---- who leads ---- */

static void tell(struct node *n, uint64_t term, uint64_t leader)
{
    if (term < n->believed_term) return;
    n->believed_term = term;
    n->believes = leader == n->cfg.id;
    n->sm.role(n->sm.arg, n->believes ? RAFT_LEADER : RAFT_FOLLOWER, term, leader);
    if (!n->believes) run_reads(n);
    poke(n, 0);
}

void fake_lead(struct fake_cluster *c, uint64_t id, uint64_t keep, uint64_t told_after)
{
    uint64_t old = c->leader;
    while (c->last > c->commit + keep) blob_unref(c->log[c->last--].data);
    c->leader = id;
    c->term++;
    if (id) append(c, NULL);
    for (uint64_t i = 1; i <= FAKE_NODES; i++) {
        struct node *n = c->nodes[i];
        if (!n) continue;
        if (i == id) tell(n, c->term, id);
        else later(n, i == old ? told_after : prng_below(&c->f->rng, NS_PER_MS), tell, c->term, id);
    }
}

/* ---- raft.h ---- */

static void start(struct node *n, uint64_t a, uint64_t b)
{
    tell(n, n->c->term, n->c->leader);
    apply(n, 0, 0);
}

int node_new(struct disk *disk, struct net *net, struct clock *clock, const struct node_config *config,
             const struct node_sm *sm, struct node **out, struct buf *why)
{
    struct node *n = xcalloc(1, sizeof *n);
    n->c = fake_cluster;
    n->cfg = *config;
    n->sm = *sm;
    n->refs = 1;
    list_init(&n->reads);
    *out = n;
    n->c->nodes[config->id] = n;
    if (n->c->leader == config->id) n->c->leader = 0;       /* it comes back as a follower */
    later(n, 0, start, 0, 0);
    return 0;
}

void node_free(struct node *n)
{
    if (!n) return;
    n->dead = true;
    n->c->nodes[n->cfg.id] = NULL;
    unref(n);
}

void node_accept(struct node *n, struct conn *c, struct slice hello) { conn_close(c); }

int64_t node_propose(struct node *n, struct blob *data)
{
    struct fake_cluster *c = n->c;
    int64_t result = QE_NOT_LEADER;
    if (!n->believes) goto out;
    result = QE_BUSY;
    if (c->busy || c->last - c->commit > 100) goto out;
    c->entries++;
    if (c->leader != n->cfg.id) {
        result = (int64_t)(c->last + ++n->lost);    /* it goes nowhere, under an index that will hold something else */
        goto out;
    }
    append(c, blob_ref(data));
    result = (int64_t)c->last;
out:
    blob_unref(data);
    return result;
}

void node_read(struct node *n, struct node_read *r)
{
    r->id = n->c->commit;
    list_push_back(&n->reads, &r->link);
    poke(n, n->c->lease && n->c->leader == n->cfg.id ? 0 : 100 * NS_PER_US);
}

bool node_read_valid(struct node *n)
{
    return n->c->leader == n->cfg.id && !prng_chance(&n->c->f->rng, n->c->lease_breaks);
}

static int read_payload(struct fake_cluster *c, uint64_t index, uint32_t off, uint32_t len, uint8_t *p)
{
    check(index <= c->last && c->log[index].data && off + len <= c->log[index].data->n);
    memcpy(p, c->log[index].data->p + off, len);
    return 0;
}

int node_try_payload(struct node *n, uint64_t index, uint32_t off, uint32_t len, uint8_t *p)
{
    if (prng_chance(&n->c->f->rng, n->c->payload_late)) return -EAGAIN;
    return read_payload(n->c, index, off, len, p);
}

static void payload_fired(struct node *n, uint64_t a, uint64_t b)
{
    struct log_read *r = (struct log_read *)(uintptr_t)a;
    int err =
        prng_chance(&n->c->f->rng, n->c->payload_gone) ? QE_GONE : read_payload(n->c, r->index, r->off, r->n, r->p);
    r->done(r, err);
}

void node_payload(struct node *n, struct log_read *r)
{
    later(n, prng_between(&n->c->f->rng, n->c->late_delay / 2, n->c->late_delay), payload_fired, (uint64_t)(uintptr_t)r,
          0);
}

void node_live_add(struct node *n, uint64_t index, int64_t delta) { n->c->live += delta; }
bool node_disk_full(const struct node *n) { return n->c->disk_full; }

void node_transfer(struct node *n, uint64_t to)
{
    struct fake_cluster *c = n->c;
    for (uint64_t id = 1; id <= FAKE_NODES; id++)
        if (c->nodes[id] && id != n->cfg.id) {
            fake_lead(c, id, UINT32_MAX, 0);
            return;
        }
}

void node_status(struct node *n, struct node_status *out)
{
    *out = (struct node_status){
        .cluster_id = 4711, .disk_total = 1000000, .disk_avail = 400000, .digest = n->sm.digest(n->sm.arg)};
    out->raft = (struct raft_status){.id = n->cfg.id,
                                     .term = n->believed_term,
                                     .leader = n->c->leader,
                                     .commit = n->c->commit,
                                     .applied = n->applied,
                                     .role = n->believes ? RAFT_LEADER : RAFT_FOLLOWER,
                                     .standing = RAFT_VOTER};
}

bool node_member(const struct node *n, uint64_t id, struct raft_member *out)
{
    for (uint32_t i = 0; i < n->cfg.nmembers; i++) {
        if (n->cfg.members[i].id != id) continue;
        *out = n->cfg.members[i];
        return true;
    }
    return false;
}

uint32_t node_members(const struct node *n, struct raft_member out[RAFT_PEERS_MAX])
{
    memcpy(out, n->cfg.members, sizeof n->cfg.members);
    return n->cfg.nmembers;
}

uint64_t node_members_index(const struct node *n) { return 0; }

/* What a change does to the members is tested on the real node. */
int64_t node_change(struct node *n, const struct node_change *change, struct buf *why)
{
    struct fake_cluster *c = n->c;
    int err = c->leader != n->cfg.id ? QE_NOT_LEADER : c->refuse_changes;
    if (err) {
        put_bytes(why, slice_str(err == QE_NOT_LEADER ? "this node does not lead" : "the test says so"));
        return err;
    }
    append(c, NULL);
    return (int64_t)c->last;
}

bool node_change_done(const struct node *n, int64_t index) { return n->c->commit >= (uint64_t)index; }

const char *raft_standing_name(enum raft_standing s) { return s == RAFT_VOTER ? "voter" : "?"; }
