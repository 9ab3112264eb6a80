/* nemesis_members.c - members come and go while everything else goes wrong. Any server may be removed and come back as a
 * learner that is promoted later; two voters stay at least. In the end all are voters again.
 *
 * The budget: a disk is lost or damaged only while all servers are voters by all that is known, and members change only
 * while no disk is: the two together could leave too few that know what was committed. */
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

/* What brings server i nearer to a vote, or takes it away. */
static bool ask(struct sim_nemesis *m, unsigned l, unsigned i, bool remove)
{
    struct sim_cluster *c = m->cluster;
    const struct raft_members *ms = members_of(c, l);
    struct node_change change = {.id = i + 1, .what = NODE_CHANGE_ADD};
    struct buf why = {0};
    int at = raft_members_find(ms, i + 1);
    if (at >= 0) change.what = ms->seat[at] == RAFT_VOTING ? NODE_CHANGE_REMOVE : NODE_CHANGE_PROMOTE;
    if (change.what == NODE_CHANGE_REMOVE && (!remove || voters_of(ms) <= 2)) return false;
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

bool sim__change_members(struct sim_nemesis *m, unsigned i)
{
    struct sim_cluster *c = m->cluster;
    int l = sim_leader(c);
    for (unsigned j = 0; j < c->opt.n; j++)
        if (c->servers[j].lost || c->servers[j].suspect || !sim_durable_voter(c->checks, j)) return false;
    if (l < 0) return false;
    unsigned none = without_vote(c, (unsigned)l);
    if (none < c->opt.n && prng_chance(&m->rng, 60)) i = none;
    return ask(m, (unsigned)l, i, true);
}

void sim__mend_members(struct sim_event *e)
{
    struct sim_nemesis *m = e->arg;
    struct sim_cluster *c = m->cluster;
    int l = sim_leader(c);
    unsigned none = l < 0 ? c->opt.n : without_vote(c, (unsigned)l);
    if (none < c->opt.n) ask(m, (unsigned)l, none, false);
    if (!sim__members_whole(m)) sim_at(c->world, e, sim_now(c->world) + MEND_MS * NS_PER_MS);
}
