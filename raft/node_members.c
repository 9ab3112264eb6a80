/* node_members.c - the node's side of the configuration: who is dialled, what checkpoints and CONFIG entries say, and
 * the changes that a user asks for. The rules are the core's (member.c).
 *
 * Three configurations: the one in effect (raft_members_now), by which peers are dialled; the one as of the entry
 * applied last, which checkpoints carry; and the list the node was started with, which holds until the log has one and
 * whose addresses take precedence over those in the log unless these came with a change: so a directory of `up` can be
 * moved, and a replaced member is found where it was put.
 *
 * A checkpoint's first block is ours if it begins with "QFSM": u32 magic, u32 version 1, u64 index of the CONFIG
 * entry, then its contents (members.c). One without it was written before there was any change. */
#include "raft/node_priv.h"

#include <stdarg.h>
#include <stdio.h>

#define BLOCK_MAGIC   0x4d534651u /* "QFSM" */
#define BLOCK_VERSION 1u

/* ---- addresses ------------------------------------------------------------------------------------------- */

static const char *listed_addr(const struct node *n, uint64_t id)
{
    for (uint32_t i = 0; i < n->cfg.nmembers; i++)
        if (n->cfg.members[i].id == id) return n->cfg.members[i].addr;
    return NULL;
}

static struct raft_member resolve(const struct node *n, const struct raft_members *ms, uint32_t i)
{
    struct raft_member m = ms->m[i];
    const char *listed = ms->told[i] ? NULL : listed_addr(n, m.id);
    if (listed) memcpy(m.addr, listed, strlen(listed) + 1);
    return m;
}

/* Where others reach this node. */
const char *node__own_addr(const struct node *n)
{
    const struct raft_members *ms = raft_members_now(n->core);
    int at = raft_members_find(ms, n->cfg.id);
    if (at >= 0 && ms->told[at]) return ms->m[at].addr;
    const char *listed = listed_addr(n, n->cfg.id);
    return listed ? listed : at >= 0 && ms->m[at].addr[0] ? ms->m[at].addr : n->cfg.addr;
}

struct raft_members node__first_members(const struct node *n)
{
    struct raft_members ms = {0};
    bool me = listed_addr(n, n->cfg.id) != NULL;
    if (n->cfg.join) return ms;
    for (uint32_t i = 0; i < n->cfg.nmembers; i++)
        raft_members_add(&ms, n->cfg.members[i].id, n->cfg.members[i].addr, RAFT_VOTING);
    check(!ms.n || !raft_members_nonsense(&ms));
    return me ? ms : (struct raft_members){0};
}

uint32_t node_members(const struct node *n, struct raft_member out[RAFT_PEERS_MAX])
{
    const struct raft_members *ms = raft_members_now(n->core);
    for (uint32_t i = 0; i < ms->n; i++) out[i] = resolve(n, ms, i);
    return ms->n;
}

uint64_t node_members_index(const struct node *n) { return n->members_applied.index; }

/* ---- peers ----------------------------------------------------------------------------------------------- */

void node__peers_fit(struct node *n)
{
    const struct raft_members *ms = raft_members_now(n->core);
    for (uint32_t i = 0; i < n->npeers; i++) {
        struct peer *p = &n->peers[i];
        if (p->used && p->is_member && raft_members_find(ms, p->member.id) < 0) node__peer_leave(p);
    }
    for (uint32_t i = 0; i < ms->n; i++) {
        struct raft_member m = resolve(n, ms, i);
        if (m.id != n->cfg.id) node__peer_join(n, &m);
    }
}

/* ---- the log and checkpoints ----------------------------------------------------------------------------- */

struct blob *node__members_entry(const struct raft_members *ms, uint64_t cluster)
{
    struct buf b = {0};
    raft_members_encode(ms, cluster, &b);
    struct blob *data = blob_new(b.n);
    memcpy(data->p, b.p, b.n);
    buf_free(&b);
    return data;
}

/* The name counts that the newest configuration carries: `recover` gives a new one, and who then gets the log from its
 * beginning must not stop at the old one. A node without a name takes that of the leader it follows. */
static void adopt_name(struct node *n, uint64_t index, uint64_t cluster)
{
    const struct peer *leader = node__peer(n, n->leader);
    bool newest = index >= raft_members_now(n->core)->index;
    if (n->cluster_id && !newest) return;
    if (!n->cluster_id && leader && leader->in_cluster) cluster = leader->in_cluster;
    if (!cluster || cluster == n->cluster_id) return;
    n->cluster_id = cluster;
    log_set_identity(n->log, cluster);
}

void node__members_applied(struct node *n, uint64_t index, struct slice data)
{
    struct raft_members ms;
    uint64_t cluster;
    if (raft_members_decode(data, &cluster, &ms)) {
        node__fatal(n, QE_CORRUPT, "a committed configuration cannot be decoded");
        return;
    }
    adopt_name(n, index, cluster);
    if (ms.n == 0) return;
    ms.index = index;
    n->members_applied = ms;
}

void node__members_block(const struct node *n, struct buf *block)
{
    put_u32(block, BLOCK_MAGIC);
    put_u32(block, BLOCK_VERSION);
    put_u64(block, n->members_applied.index);
    raft_members_encode(&n->members_applied, n->cluster_id, block);
}

/* 1: it is ours, 0: the state machine's, or QE_CORRUPT, QE_VERSION. */
int node__members_from_block(struct slice block, struct raft_members *out)
{
    struct reader r = reader_of(block);
    uint64_t cluster;
    *out = (struct raft_members){0};
    if (get_u32(&r) != BLOCK_MAGIC || r.bad) return 0;
    if (get_u32(&r) != BLOCK_VERSION) return QE_VERSION;
    uint64_t index = get_u64(&r);
    if (r.bad || raft_members_decode(slice_of(r.p, reader_left(&r)), &cluster, out)) return QE_CORRUPT;
    out->index = index;
    return 1;
}

/* What the core is to know of the past: the checkpoint's configuration and the two newest of the log behind it. Right
 * after log_open, while the log has all of them in memory. */
uint32_t node__members_recovered(struct node *n, uint64_t checkpoint, struct raft_members out[3])
{
    struct raft_members newest[2];
    uint32_t found = 0, k = 0;
    for (uint64_t i = log_last(n->log); i > checkpoint && i >= log_first(n->log) && found < 2; i--) {
        struct log_entry e;
        uint64_t cluster;
        if (!log_cached(n->log, i, &e) || e.kind != RAFT_CONFIG || !e.data) continue;
        if (raft_members_decode(blob_slice(e.data), &cluster, &newest[found]) || newest[found].n == 0) continue;
        newest[found++].index = i;
    }
    if (n->members_applied.n && n->members_applied.index) out[k++] = n->members_applied;
    while (found) out[k++] = newest[--found];
    return k;
}

/* ---- changes --------------------------------------------------------------------------------------------- */

/* Of a proposal that the core has taken. */
void node__members_append(struct node *n, const struct raft_update *up)
{
    uint64_t cluster = n->cluster_id ? n->cluster_id : prng_u64(&n->rng) | 1;
    struct log_entry e = {.index = up->members->index,
                          .term = up->term,
                          .kind = RAFT_CONFIG,
                          .data = node__members_entry(up->members, cluster)};
    node__append(n, &e);
    blob_unref(e.data);
}

static enum raft_verdict propose(struct node *n, const struct raft_members *want, bool even_same, uint64_t *who,
                                 uint64_t *index)
{
    struct raft_event ev = {.kind = RAFT_EV_MEMBERS, .now = clock_now(n->clock), .members = want, .ok = even_same};
    struct raft_update up;
    node__core(n, &ev, &up);
    enum raft_verdict v = up.verdict;
    *who = up.verdict_id;
    *index = up.members->index;
    node__carry_out(n, &up);
    return v;
}

/* A leader's entry that changes nothing. */
void node__members_again(struct node *n)
{
    uint64_t who, index;
    struct raft_members same = *raft_members_now(n->core);
    if (n->role == RAFT_LEADER && !same.joint) propose(n, &same, true, &who, &index);
}

/* The first leader of a new cluster names it: an entry with a random id, adopted where it is applied. Nothing of an
 * earlier leader's is open any more by then: two configurations must not be uncommitted in one log. */
void node__name_cluster(struct node *n)
{
    if (n->cluster_id || n->named_term == n->term || n->applied < n->noop_index) return;
    if (n->role == RAFT_LEADER) n->named_term = n->term;
    node__members_again(n);
}

__attribute__((format(printf, 3, 4))) static int64_t refuse(struct buf *why, int err, const char *fmt, ...)
{
    char text[ADDR_MAX + 300];
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    buf_append(why, text, len < 0 ? 0 : min_u64((uint64_t)len, sizeof text - 1));
    return err;
}

static int64_t explain(const struct node *n, enum raft_verdict v, uint64_t who, struct buf *why)
{
    unsigned long long id = who;
    struct raft_status st;
    raft_status(n->core, &st);
    uint64_t match = 0;
    for (uint32_t i = 0; i < st.npeers; i++)
        if (st.peers[i].id == who) match = st.peers[i].match;
    switch (v) {
    case RAFT_CHANGE_NOT_LEADER: return refuse(why, QE_NOT_LEADER, "this node does not lead");
    case RAFT_CHANGE_TOO_EARLY: return refuse(why, QE_BUSY, "the leader is new and has not committed anything yet");
    case RAFT_CHANGE_PENDING: return refuse(why, QE_BUSY, "another change is under way");
    case RAFT_CHANGE_NONSENSE:
        return refuse(why, -EINVAL, "a cluster has at least one voter and at most %d members, also during a change",
                      RAFT_PEERS_MAX);
    case RAFT_CHANGE_NOTHING: return refuse(why, -EALREADY, "it is so already");
    case RAFT_CHANGE_STRANGER: return refuse(why, -EINVAL, "node %llu is not a learner yet: add it first", id);
    case RAFT_CHANGE_LAGS:
        return refuse(why, -EAGAIN,
                      "node %llu has not caught up: it has %llu of %llu entries, or does not answer, or is still "
                      "repairing itself",
                      id, (unsigned long long)match, (unsigned long long)st.last);
    case RAFT_CHANGE_NO_QUORUM:
        return refuse(why, -EPERM,
                      "too few of the remaining voters would be there to go on: node %llu does not answer or may not "
                      "vote; bring it back first, or remove it first",
                      id);
    case RAFT_CHANGE_TAKEN: break;
    }
    return 0;
}

static int64_t edit(struct raft_members *want, const struct node_change *c, struct buf *why)
{
    unsigned long long id = c->id;
    int at = raft_members_find(want, c->id);
    if (c->what != NODE_CHANGE_ADD && at < 0) return refuse(why, -ENOENT, "there is no node %llu in the cluster", id);
    switch (c->what) {
    case NODE_CHANGE_ADD:
        if (at >= 0 && strcmp(want->m[at].addr, c->addr) == 0) return refuse(why, -EALREADY, "it is a member already");
        if (at >= 0)
            return refuse(why, -EEXIST, "node %llu is a member already, at %s: remove it first, or take another number",
                          id, want->m[at].addr);
        for (uint32_t i = 0; i < want->n; i++)
            if (strcmp(want->m[i].addr, c->addr) == 0)
                return refuse(why, -EEXIST, "%s is the address of node %llu", c->addr,
                              (unsigned long long)want->m[i].id);
        if (want->n == RAFT_PEERS_MAX) return refuse(why, -EINVAL, "a cluster has at most %d members", RAFT_PEERS_MAX);
        raft_members_add(want, c->id, c->addr, RAFT_LEARNER);
        want->told[want->n - 1] = true;
        break;
    case NODE_CHANGE_PROMOTE:
        want->seat[at] = want->next[at] = RAFT_VOTING;
        break;
    case NODE_CHANGE_REMOVE:
        raft_members_drop(want, c->id);
        break;
    }
    return 0;
}

int64_t node_change(struct node *n, const struct node_change *change, struct buf *why)
{
    struct raft_members want = *raft_members_now(n->core);
    uint64_t who, index;
    if (n->dead || n->role != RAFT_LEADER) return refuse(why, QE_NOT_LEADER, "this node does not lead");
    if (!n->cluster_id || want.joint) return refuse(why, QE_BUSY, "another change is under way");
    for (uint32_t i = 0; i < want.n; i++) want.m[i] = resolve(n, &want, i);
    int64_t err = edit(&want, change, why);
    if (err) return err;
    enum raft_verdict v = propose(n, &want, false, &who, &index);
    return v == RAFT_CHANGE_TAKEN ? (int64_t)index : explain(n, v, who, why);
}

bool node_change_done(const struct node *n, int64_t index)
{
    return !n->members_applied.joint && n->members_applied.index >= (uint64_t)index;
}
