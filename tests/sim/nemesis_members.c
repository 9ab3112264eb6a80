/* nemesis_members.c - members come and go while everything else goes wrong. Any server may be removed and come back as a
 * learner that is promoted later; two voters stay at least. In the end all are voters again.
 *
 * The budget: a disk is lost or damaged only while all servers are voters by all that is known, and members change only
 * while no disk is: the two together could leave too few that know what was committed. The disk of a server that has
 * been removed is nobody's loss: it may be emptied, and the server be added again without a memory. */
#include "raft/node_priv.h"
#include "tests/sim/nemesis_priv.h"

#define MEND_MS 100u

static const struct raft_members *members_of(const struct sim_cluster *c, unsigned i)
{
    return raft_members_now(c->servers[i].node->core);
}

static unsigned voters_of(const struct raft_members *ms)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < ms->n; i++) n += ms->seat[i] == RAFT_VOTING;
    return n;
}

bool sim__members_whole(const struct sim_nemesis *m)
{
    const struct sim_cluster *c = m->cluster;
    for (unsigned i = 0; i < c->opt.n; i++) {
        if (!sim_server_up(c, i)) return false;
        const struct raft_members *ms = members_of(c, i);
        if (ms->joint || voters_of(ms) != c->opt.n) return false;
    }
    return true;
}

/* What brings server i nearer to a vote or, as long as more than `keep` vote, takes it away. */
static bool ask(struct sim_nemesis *m, unsigned l, unsigned i, unsigned keep)
{
    struct sim_cluster *c = m->cluster;
    const struct raft_members *ms = members_of(c, l);
    struct node_change change = {.id = i + 1, .what = NODE_CHANGE_ADD};
    struct buf why = {0};
    int at = raft_members_find(ms, i + 1);
    if (at >= 0) change.what = ms->seat[at] == RAFT_VOTING ? NODE_CHANGE_REMOVE : NODE_CHANGE_PROMOTE;
    if (change.what == NODE_CHANGE_REMOVE && voters_of(ms) <= keep) return false;
    memcpy(change.addr, c->servers[i].addr, sizeof c->servers[i].addr);
    static const char *const verbs[] = {"", "added", "promoted", "removed"};
    bool taken = node_change(c->servers[l].node, &change, &why) > 0;
    if (taken) sim_say(c, "server %u is being %s", i + 1, verbs[change.what]);
    buf_free(&why);
    return taken;
}

/* The first that has no vote; n: all have one. */
static unsigned without_vote(const struct sim_cluster *c, unsigned l)
{
    const struct raft_members *ms = members_of(c, l);
    unsigned i = 0;
    for (; i < c->opt.n; i++) {
        int at = raft_members_find(ms, i + 1);
        if (at < 0 || ms->seat[at] != RAFT_VOTING) break;
    }
    return i;
}

static bool disks_whole(const struct sim_nemesis *m)
{
    const struct sim_cluster *c = m->cluster;
    for (unsigned j = 0; j < c->opt.n; j++)
        if (c->servers[j].lost || c->servers[j].suspect || !sim_durable_voter(c->checks, j)) return false;
    return true;
}

bool sim__change_members(struct sim_nemesis *m, unsigned i)
{
    struct sim_cluster *c = m->cluster;
    int l = sim_leader(c);
    if (l < 0 || !disks_whole(m)) return false;
    unsigned none = without_vote(c, (unsigned)l);
    if (none < c->opt.n && prng_chance(&m->rng, 60)) i = none;
    return ask(m, (unsigned)l, i, 2);
}

static void mend_seat(struct sim_nemesis *m, unsigned l)
{
    unsigned none = without_vote(m->cluster, l);
    if (none < m->cluster->opt.n) ask(m, l, none, SIM_SERVERS_MAX);
}

void sim__mend_members(struct sim_event *e)
{
    struct sim_nemesis *m = e->arg;
    struct sim_cluster *c = m->cluster;
    int l = sim_leader(c);
    if (l >= 0) mend_seat(m, (unsigned)l);
    if (!sim__members_whole(m)) sim_at(c->world, e, sim_now(c->world) + MEND_MS * NS_PER_MS);
}

/* ---- bouts ---- */

static bool no_member(const struct sim_cluster *c, unsigned l, unsigned i)
{
    const struct node *n = c->servers[l].node;
    const struct raft_members *ms = raft_members_now(n->core);
    return !ms->joint && n->members_applied.index == ms->index && raft_members_find(ms, i + 1) < 0;
}

static void empty(struct sim_nemesis *m, unsigned i)
{
    sim__end_server(m, i, SIM_POWER_CUT);
    sim_server_wipe(m->cluster, i);
    sim_at(m->cluster->world, &m->servers[i].start, sim__after(m, 300));
}

/* One voter is enough: what was committed is durable there. */
static bool change_one(struct sim_nemesis *m, unsigned l)
{
    struct sim_cluster *c = m->cluster;
    unsigned i = prng_chance(&m->rng, 30) ? l : (unsigned)prng_below(&m->rng, c->opt.n), none = without_vote(c, l);
    if (prng_chance(&m->rng, 15)) {
        sim_say(c, "server %u is asked to hand over to server %u", l + 1, i + 1);
        node_transfer(c->servers[l].node, i + 1);
        return true;
    }
    if (none < c->opt.n && prng_chance(&m->rng, 40)) i = none;
    if (!no_member(c, l, i) || !prng_chance(&m->rng, 20)) return ask(m, l, i, 1);
    empty(m, i);
    return true;
}

/* What an operator does about a disk: a doubtful one is replaced; who has lost it is a member again. */
static void mend_one(struct sim_nemesis *m, unsigned l)
{
    struct sim_cluster *c = m->cluster;
    for (unsigned i = 0; i < c->opt.n; i++) {
        const struct sim_server *s = &c->servers[i];
        if (s->lost && ask(m, l, i, SIM_SERVERS_MAX)) return;
        if (!s->suspect || !prng_chance(&m->rng, 5)) continue;
        empty(m, i);
        return;
    }
}

/* Between two bouts all are voters for a while, so that disks may be lost and damaged, too. */
void sim__churn(struct sim_event *e)
{
    struct sim_nemesis *m = e->arg;
    struct sim_cluster *c = m->cluster;
    int l = sim_leader(c);
    uint64_t next = sim__after(m, 150);
    if (l >= 0 && !disks_whole(m)) {
        mend_one(m, (unsigned)l);
    } else if (l >= 0 && sim_now(c->world) < m->bout_ends) {
        m->counts.n[SIM_FAULT_CHURN] += change_one(m, (unsigned)l);
    } else if (l >= 0 && !sim__members_whole(m)) {
        mend_seat(m, (unsigned)l);
    } else if (l >= 0) {
        next = sim__after(m, 1500);
        m->bout_ends = next + prng_between(&m->rng, 1000, 6000) * NS_PER_MS;
    }
    sim_at(c->world, e, next);
}
