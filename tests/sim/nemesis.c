/* nemesis.c - when faults strike; those of processes, ways and clocks. Each fault that lasts has an event that ends it.
 * See nemesis_priv.h for how to add a kind. */
#include <stdlib.h>

#include "tests/sim/nemesis_priv.h"

#define WATCH_MS 500u

uint64_t sim__after(struct sim_nemesis *m, uint64_t ms_max)
{
    return sim_now(m->cluster->world) + prng_below(&m->rng, ms_max * 1000) * NS_PER_US;
}

static uint64_t while_cut(struct sim_nemesis *m) { return sim__after(m, prng_chance(&m->rng, 60) ? 1000 : 6000); }
static unsigned any(struct sim_nemesis *m) { return (unsigned)prng_below(&m->rng, m->cluster->opt.n); }

/* ---- ends of faults ---- */

/* As a supervisor and an operator would: what the server says has to be done is done. */
static void start_again(struct sim_event *e)
{
    struct lasting *l = e->arg;
    struct sim_cluster *c = l->nemesis->cluster;
    struct sim_server *s = &c->servers[l->server];
    if (sim_server_up(c, l->server)) return;
    if (s->suspect && (sim_disk_lies(s->disk) || strcasestr(s->last_words, "empty this node's data directory")))
        sim_server_wipe(c, l->server);
    s->last_words[0] = 0;
    if (sim_server_try_start(c, l->server))
        sim_at(c->world, &l->start, sim_now(c->world) + NS_PER_S);
    else if (!sim_disk_fault_due(s->disk) && !heap_contains(&l->quick.node))
        s->may_end = false;
}

static void run_again(struct sim_event *e)
{
    struct lasting *l = e->arg;
    sim_say(l->nemesis->cluster, "server %u runs again", l->server + 1);
    sim_pause(l->nemesis->cluster->world, l->server, false);
}

static void quick_again(struct sim_event *e)
{
    struct lasting *l = e->arg;
    sim_say(l->nemesis->cluster, "server %u's disk is well again", l->server + 1);
    sim__disk_mend(l->nemesis, l->server);
}

static void join_again(struct sim_event *e) { sim_join(((struct sim_nemesis *)e->arg)->cluster); }

/* Those that ended themselves are started again. */
static void on_watch(struct sim_event *e)
{
    struct sim_nemesis *m = e->arg;
    struct sim_world *w = m->cluster->world;
    for (unsigned i = 0; i < m->cluster->opt.n; i++) {
        struct lasting *l = &m->servers[i];
        bool starts = heap_contains(&l->start.node) || heap_contains(&l->die.node);
        if (!sim_server_up(m->cluster, i) && !starts) sim_at(w, &l->start, sim__after(m, WATCH_MS));
    }
    sim_at(w, &m->watch, sim_now(w) + WATCH_MS * NS_PER_MS);
}

/* ---- processes ---- */

/* A paused leader dies now and then, too: whoever ends it, its pause is over. */
bool sim__end_server(struct sim_nemesis *m, unsigned i, enum sim_death how)
{
    if (!sim_server_up(m->cluster, i)) return false;
    sim_cancel(m->cluster->world, &m->servers[i].resume);
    sim_server_end(m->cluster, i, how);
    sim_at(m->cluster->world, &m->servers[i].start, sim__after(m, prng_chance(&m->rng, 70) ? 300 : 4000));
    return true;
}

bool sim__can_spare(const struct sim_nemesis *m, unsigned i)
{
    const struct sim_cluster *c = m->cluster;
    unsigned voters = 0;
    if (m->changes && !sim__members_whole(m)) return false;
    for (unsigned j = 0; j < c->opt.n; j++) {
        const struct sim_server *s = &c->servers[j];
        voters += j != i && !s->lost && !s->suspect && sim_durable_voter(c->checks, j);
    }
    return voters >= sim_majority(c);
}

static bool kill_server(struct sim_nemesis *m, unsigned i) { return sim__end_server(m, i, SIM_KILLED); }
static bool power(struct sim_nemesis *m, unsigned i) { return sim__end_server(m, i, SIM_POWER_CUT); }

static bool power_all(struct sim_nemesis *m, unsigned i)
{
    bool any_up = false;
    for (unsigned j = 0; j < m->cluster->opt.n; j++) any_up |= sim__end_server(m, j, SIM_POWER_CUT);
    return any_up;
}

static bool inside(struct sim_nemesis *m, unsigned i)
{
    if (!sim_server_up(m->cluster, i)) return false;
    sim_server_crash_in(m->cluster, i, prng_between(&m->rng, 1, prng_chance(&m->rng, 50) ? 20 : 300),
                        prng_chance(&m->rng, 50) ? SIM_KILLED : SIM_POWER_CUT);
    return true;
}

static void die_again(struct sim_event *e)
{
    struct lasting *l = e->arg;
    struct sim_nemesis *m = l->nemesis;
    if (sim_server_up(m->cluster, l->server)) {
        sim_cancel(m->cluster->world, &l->resume);
        sim_server_end(m->cluster, l->server, prng_chance(&m->rng, 50) ? SIM_KILLED : SIM_POWER_CUT);
    }
    sim_at(m->cluster->world, &l->start, sim__after(m, 60));
    if (l->storm && --l->storm) sim_at(m->cluster->world, &l->die, sim__after(m, 500));
}

/* Some of the servers, or all, come up and die many times. */
static bool storm(struct sim_nemesis *m, unsigned i)
{
    bool all = prng_chance(&m->rng, 30);
    sim_say(m->cluster, "a restart storm begins: %s", all ? "all servers" : "one server");
    for (unsigned j = 0; j < m->cluster->opt.n; j++) {
        struct lasting *l = &m->servers[j];
        if (!all && j != i) continue;
        l->storm = (unsigned)prng_between(&m->rng, 3, 12);
        sim_at(m->cluster->world, &l->die, sim__after(m, 300));
    }
    return true;
}

static bool stand_still(struct sim_nemesis *m, unsigned i)
{
    struct sim_cluster *c = m->cluster;
    if (!sim_runs(c->world, i)) return false;
    sim_say(c, "server %u stands still", i + 1);
    sim_pause(c->world, i, true);
    sim_at(c->world, &m->servers[i].resume, sim__after(m, prng_chance(&m->rng, 70) ? 800 : 5000));
    return true;
}

static bool client(struct sim_nemesis *m, unsigned i)
{
    sim_load_kill(m->load, (unsigned)prng_below(&m->rng, sim_load_clients(m->load)));
    return true;
}

static bool transfer(struct sim_nemesis *m, unsigned i)
{
    struct sim_cluster *c = m->cluster;
    int l = sim_leader(c);
    if (l < 0) return false;
    uint64_t to = prng_chance(&m->rng, 50) ? 0 : any(m) + 1;
    sim_say(c, "server %d is asked to hand over to %s%llu", l + 1, to ? "server " : "anyone: ", (unsigned long long)to);
    node_transfer(c->servers[l].node, to);
    return true;
}

/* ---- ways ---- */

static bool isolate(struct sim_nemesis *m, unsigned i)
{
    sim_isolate(m->cluster, i, true);
    sim_at(m->cluster->world, &m->heal, while_cut(m));
    return true;
}

static bool split(struct sim_nemesis *m, unsigned i)
{
    uint8_t side[SIM_SERVERS_MAX];
    for (unsigned j = 0; j < m->cluster->opt.n; j++) side[j] = (uint8_t)prng_below(&m->rng, 2);
    sim_split(m->cluster, side);
    sim_at(m->cluster->world, &m->heal, while_cut(m));
    return true;
}

/* Some ways between servers: in one direction, or in both. */
static bool some_ways(struct sim_nemesis *m, bool both)
{
    struct sim_cluster *c = m->cluster;
    bool cut = false;
    for (unsigned i = 0; i < c->opt.n; i++) {
        for (unsigned j = 0; j < c->opt.n; j++) {
            if (i == j || (both && j < i) || !prng_chance(&m->rng, 25)) continue;
            sim_say(c, "server %u %s server %u", i + 1, both ? "and the other do not reach each other:" : "is not heard by",
                    j + 1);
            sim_cut(c->net, i, j, true);
            if (both) sim_cut(c->net, j, i, true);
            cut = true;
        }
    }
    if (cut) sim_at(c->world, &m->heal, while_cut(m));
    return cut;
}

static bool pairs(struct sim_nemesis *m, unsigned i) { return some_ways(m, true); }
static bool one_way(struct sim_nemesis *m, unsigned i) { return some_ways(m, false); }

static bool client_cut(struct sim_nemesis *m, unsigned i)
{
    struct sim_cluster *c = m->cluster;
    unsigned who = (unsigned)prng_below(&m->rng, sim_load_clients(m->load)), proc = SIM_CLIENT_PROC + who;
    bool cut = false;
    for (unsigned j = 0; j < c->opt.n; j++) {
        if (!prng_chance(&m->rng, 50)) continue;
        sim_say(c, "client %u does not reach server %u", who, j + 1);
        sim_cut(c->net, proc, j, true);
        if (prng_chance(&m->rng, 70)) sim_cut(c->net, j, proc, true);
        cut = true;
    }
    if (cut) sim_at(c->world, &m->heal, while_cut(m));
    return cut;
}

static bool slow_link(struct sim_nemesis *m, unsigned i)
{
    struct sim_cluster *c = m->cluster;
    uint64_t ms = prng_between(&m->rng, 5, prng_chance(&m->rng, 70) ? 80 : 600);
    for (unsigned j = 0; j < c->opt.n; j++) {
        if (j == i || !prng_chance(&m->rng, 60)) continue;
        sim_say(c, "from server %u to server %u it takes %llu ms", i + 1, j + 1, (unsigned long long)ms);
        sim_slow_way(c->net, i, j, ms * NS_PER_MS);
        if (prng_chance(&m->rng, 50)) sim_slow_way(c->net, j, i, ms * NS_PER_MS);
    }
    sim_at(c->world, &m->heal, while_cut(m));
    return true;
}

static bool reset(struct sim_nemesis *m, unsigned i)
{
    sim_reset(m->cluster->net, i, any(m));
    return true;
}

/* ---- clocks ---- */

static bool wall(struct sim_nemesis *m, unsigned i)
{
    int64_t by = (int64_t)prng_below(&m->rng, 7200) * 1000000000 - 3600000000000;
    sim_say(m->cluster, "server %u's wall clock is wrong by %lld s", i + 1, (long long)(by / 1000000000));
    sim_wall_offset(m->cluster->world, i, by);
    return true;
}

/* Leases rest on a bound of drift; without them there is none. */
static bool drift(struct sim_nemesis *m, unsigned i)
{
    uint64_t most = m->cluster->opt.node.lease_reads ? 400 : 200000;
    int32_t ppm = (int32_t)prng_below(&m->rng, 2 * most) - (int32_t)most;
    sim_say(m->cluster, "server %u's clock is off by %d ppm", i + 1, ppm);
    sim_drift(m->cluster->world, i, ppm);
    return true;
}

/* ---- which and when ---- */

static const sim_strike strikes[SIM_FAULT_KINDS] = {
    [SIM_FAULT_KILL] = kill_server, [SIM_FAULT_POWER] = power,           [SIM_FAULT_POWER_ALL] = power_all,
    [SIM_FAULT_INSIDE] = inside,    [SIM_FAULT_STORM] = storm,           [SIM_FAULT_PAUSE] = stand_still,
    [SIM_FAULT_ISOLATE] = isolate,  [SIM_FAULT_SPLIT] = split,           [SIM_FAULT_PAIRS] = pairs,
    [SIM_FAULT_ONE_WAY] = one_way,  [SIM_FAULT_CLIENT_CUT] = client_cut, [SIM_FAULT_SLOW_LINK] = slow_link,
    [SIM_FAULT_RESET] = reset,      [SIM_FAULT_WALL] = wall,             [SIM_FAULT_DRIFT] = drift,
    [SIM_FAULT_CLIENT] = client,    [SIM_FAULT_TRANSFER] = transfer,
    [SIM_FAULT_MEMBERS] = sim__change_members,
};

static sim_strike strike_of(unsigned kind) { return strikes[kind] ? strikes[kind] : sim__disk_strikes[kind]; }

static unsigned victim(struct sim_nemesis *m)
{
    int l = sim_leader(m->cluster);
    return l >= 0 && prng_chance(&m->rng, 40) ? (unsigned)l : any(m);
}

/* The weather's kinds have no strike: they are there all the time. */
static void go_on(struct sim_event *e)
{
    struct sim_nemesis *m = e->arg;
    unsigned kind;
    do kind = (unsigned)prng_below(&m->rng, SIM_FAULT_KINDS);
    while (!(m->kinds >> kind & 1));
    m->counts.n[kind] += strike_of(kind)(m, victim(m));
    sim_at(m->cluster->world, &m->next, sim__after(m, m->pause_ms));
}

static void count_disks(const struct sim_nemesis *m, struct sim_fault_counts *out)
{
    struct sim_disk_stats d;
    for (unsigned i = 0; i < m->cluster->opt.n; i++) {
        sim_disk_stats(m->cluster->servers[i].disk, &d);
        out->n[SIM_FAULT_WRITE_ERROR] += d.write_errors;
        out->n[SIM_FAULT_SYNC_ERROR] += d.sync_errors;
        out->n[SIM_FAULT_READ_ERROR] += d.read_errors;
        out->n[SIM_FAULT_MISDIRECT] += d.misdirected;
        out->n[SIM_FAULT_STALE] += d.lost;
        out->n[SIM_FAULT_FULL_DISK] += d.nospace;
    }
}

/* What was only prepared when it struck is counted where it happened. */
void sim_nemesis_count(const struct sim_nemesis *m, struct sim_fault_counts *out)
{
    static const sim_fault_set elsewhere = SIM_FAULT(WRITE_ERROR) | SIM_FAULT(SYNC_ERROR) | SIM_FAULT(READ_ERROR) |
                                           SIM_FAULT(MISDIRECT) | SIM_FAULT(STALE) | SIM_FAULT(FULL_DISK) |
                                           SIM_FAULT(INSIDE);
    struct sim_net_stats net;
    sim_net_stats(m->cluster->net, &net);
    for (unsigned i = 0; i < SIM_FAULT_KINDS; i++)
        if (!(elsewhere >> i & 1)) out->n[i] += m->counts.n[i];
    count_disks(m, out);
    out->n[SIM_FAULT_INSIDE] += m->cluster->crashes_inside;
    out->n[SIM_FAULT_RESET] += net.resets;
    out->n[SIM_FAULT_LOSS] += net.lost;
    out->n[SIM_FAULT_DOUBLE] += net.doubled;
    out->n[SIM_FAULT_REORDER] += net.reordered;
    out->n[SIM_FAULT_DELAY] += net.delayed;
    out->n[SIM_FAULT_CORRUPT] += net.corrupted;
}

/* ---- life ---- */

struct sim_nemesis *sim_nemesis_new(struct sim_cluster *c, struct sim_load *l, sim_fault_set kinds, uint64_t pause_ms)
{
    struct sim_nemesis *m = xcalloc(1, sizeof *m);
    m->cluster = c;
    m->load = l;
    m->pause_ms = pause_ms;
    for (unsigned i = 0; i < SIM_FAULT_KINDS; i++)
        if (kinds >> i & 1 && strike_of(i)) m->kinds |= 1ull << i;
    prng_seed(&m->rng, prng_u64(&c->rng));
    m->next = (struct sim_event){.run = go_on, .arg = m};
    m->heal = (struct sim_event){.run = join_again, .arg = m};
    m->watch = (struct sim_event){.run = on_watch, .arg = m};
    m->mend = (struct sim_event){.run = sim__mend_members, .arg = m};
    m->churn = (struct sim_event){.run = sim__churn, .arg = m};
    m->changes = kinds & (SIM_FAULT(MEMBERS) | SIM_FAULT(CHURN));
    for (unsigned i = 0; i < c->opt.n; i++) {
        struct lasting *s = &m->servers[i];
        s->nemesis = m;
        s->server = i;
        s->start = (struct sim_event){.run = start_again, .arg = s};
        s->resume = (struct sim_event){.run = run_again, .arg = s};
        s->quick = (struct sim_event){.run = quick_again, .arg = s};
        s->die = (struct sim_event){.run = die_again, .arg = s};
    }
    sim_at(c->world, &m->watch, sim_now(c->world) + WATCH_MS * NS_PER_MS);
    if (m->kinds) sim_at(c->world, &m->next, sim__after(m, pause_ms));
    if (kinds & SIM_FAULT(CHURN)) sim_at(c->world, &m->churn, sim__after(m, pause_ms));
    return m;
}

static void cancel_all(struct sim_nemesis *m)
{
    struct sim_world *w = m->cluster->world;
    sim_cancel(w, &m->next);
    sim_cancel(w, &m->heal);
    sim_cancel(w, &m->churn);
    for (unsigned i = 0; i < m->cluster->opt.n; i++) {
        sim_cancel(w, &m->servers[i].start);
        sim_cancel(w, &m->servers[i].resume);
        sim_cancel(w, &m->servers[i].quick);
        sim_cancel(w, &m->servers[i].die);
    }
}

void sim_nemesis_stop(struct sim_nemesis *m)
{
    struct sim_cluster *c = m->cluster;
    struct sim_net_config *w = sim_net_config(c->net);
    sim_say(c, "no more faults");
    cancel_all(m);
    sim_join(c);
    w->loss_percent = w->double_percent = w->reorder_percent = w->reset_ppm = w->slow_percent = w->corrupt_ppm = 0;
    w->delay_max = min_u64(w->delay_max, NS_PER_MS);
    w->delay_min = min_u64(w->delay_min, w->delay_max);
    for (unsigned i = 0; i < c->opt.n; i++) {
        struct sim_server *s = &c->servers[i];
        sim__disk_mend(m, i);
        sim_disk_fault(s->disk, SIM_DISK_ERROR, 0, 0, 0);
        s->crash_in = 0;
        sim_drift(c->world, i, 0);
        sim_pause(c->world, i, false);
        if (!sim_server_up(c, i)) start_again(&m->servers[i].start);
    }
    if (m->changes) sim_at(c->world, &m->mend, sim_now(c->world));
}

void sim_nemesis_free(struct sim_nemesis *m)
{
    cancel_all(m);
    sim_cancel(m->cluster->world, &m->watch);
    sim_cancel(m->cluster->world, &m->mend);
    free(m);
}
