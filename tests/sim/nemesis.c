/* nemesis.c - see nemesis.h. Each fault that lasts has an event that ends it. */
#include "tests/sim/nemesis.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/check_log.h"

static const char *const names[] = {"kill",  "power",     "power-all", "pause", "isolate", "split",  "one-way",
                                    "reset", "slow-disk", "lost-disk", "wall",  "drift",   "client", "transfer"};
#define KINDS (sizeof names / sizeof *names)

struct lasting {
    struct sim_nemesis *nemesis;
    unsigned server;
    struct sim_event start, resume, quick;
};

struct sim_nemesis {
    struct sim_cluster *cluster;
    struct sim_load *load;
    unsigned kinds;
    uint64_t pause_ms;
    struct prng rng;
    struct sim_event next, heal;
    struct lasting servers[SIM_SERVERS_MAX];
};

static uint64_t after(struct sim_nemesis *m, uint64_t ms_max)
{
    return sim_now(m->cluster->world) + prng_below(&m->rng, ms_max * 1000) * NS_PER_US;
}

static uint64_t while_cut(struct sim_nemesis *m) { return after(m, prng_chance(&m->rng, 60) ? 1000 : 6000); }
static unsigned any(struct sim_nemesis *m) { return (unsigned)prng_below(&m->rng, m->cluster->opt.n); }

/* ---- ends of faults ---- */

static void start_again(struct sim_event *e)
{
    struct lasting *l = e->arg;
    if (!sim_server_up(l->nemesis->cluster, l->server)) sim_server_start(l->nemesis->cluster, l->server);
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
    sim_disk_slow(l->nemesis->cluster->servers[l->server].disk, 1);
}

static void join_again(struct sim_event *e) { sim_join(((struct sim_nemesis *)e->arg)->cluster); }

/* ---- faults ---- */

/* A paused leader dies now and then, too: whoever ends it, its pause is over. */
static void end_server(struct sim_nemesis *m, unsigned i, enum sim_death how)
{
    if (!sim_server_up(m->cluster, i)) return;
    sim_cancel(m->cluster->world, &m->servers[i].resume);
    sim_server_end(m->cluster, i, how);
    sim_at(m->cluster->world, &m->servers[i].start, after(m, prng_chance(&m->rng, 70) ? 300 : 4000));
}

/* Would the others be enough to go on, if this one lost all it knows? */
static bool can_spare(const struct sim_nemesis *m, unsigned i)
{
    const struct sim_cluster *c = m->cluster;
    unsigned voters = 0;
    for (unsigned j = 0; j < c->opt.n; j++) voters += j != i && !c->servers[j].lost && sim_durable_voter(c->checks, j);
    return voters >= sim_majority(c);
}

static void lose_disk(struct sim_nemesis *m, unsigned i)
{
    if (!can_spare(m, i)) return;
    end_server(m, i, SIM_POWER_CUT);
    if (sim_server_up(m->cluster, i)) return;
    sim_server_wipe(m->cluster, i);
}

static void one_way(struct sim_nemesis *m)
{
    unsigned n = m->cluster->opt.n;
    for (unsigned i = 0; i < n; i++) {
        for (unsigned j = 0; j < n; j++) {
            if (i == j || !prng_chance(&m->rng, 25)) continue;
            sim_say(m->cluster, "nothing comes from server %u to server %u", i + 1, j + 1);
            sim_cut(m->cluster->net, i, j, true);
        }
    }
}

static void split(struct sim_nemesis *m)
{
    uint8_t side[SIM_SERVERS_MAX];
    for (unsigned i = 0; i < m->cluster->opt.n; i++) side[i] = (uint8_t)prng_below(&m->rng, 2);
    sim_split(m->cluster, side);
}

/* An operation takes up to half a second; what was begun slowly ends slowly. */
static void slow_disk(struct sim_nemesis *m, unsigned i)
{
    struct sim_cluster *c = m->cluster;
    uint64_t most = 500 * NS_PER_MS / max_u64(c->opt.disk.op_ns_max, NS_PER_US);
    sim_say(c, "server %u has a slow disk", i + 1);
    sim_disk_slow(c->servers[i].disk, (uint32_t)prng_between(&m->rng, 2, most));
    sim_at(c->world, &m->servers[i].quick, after(m, 3000));
}

static unsigned victim(struct sim_nemesis *m)
{
    int l = sim_leader(m->cluster);
    return l >= 0 && prng_chance(&m->rng, 40) ? (unsigned)l : any(m);
}

static void do_fault(struct sim_nemesis *m, unsigned kind)
{
    struct sim_cluster *c = m->cluster;
    unsigned s = victim(m);
    struct lasting *l = &m->servers[s];
    switch (kind) {
    case SIM_FAULT_KILL:
        end_server(m, s, SIM_KILLED);
        break;
    case SIM_FAULT_POWER:
        end_server(m, s, SIM_POWER_CUT);
        break;
    case SIM_FAULT_POWER_ALL:
        for (unsigned i = 0; i < c->opt.n; i++) end_server(m, i, SIM_POWER_CUT);
        break;
    case SIM_FAULT_PAUSE:
        if (!sim_runs(c->world, s)) break;
        sim_say(c, "server %u stands still", s + 1);
        sim_pause(c->world, s, true);
        sim_at(c->world, &l->resume, after(m, prng_chance(&m->rng, 70) ? 800 : 5000));
        break;
    case SIM_FAULT_ISOLATE:
        sim_isolate(c, s, true);
        sim_at(c->world, &m->heal, while_cut(m));
        break;
    case SIM_FAULT_SPLIT:
        split(m);
        sim_at(c->world, &m->heal, while_cut(m));
        break;
    case SIM_FAULT_ONE_WAY:
        one_way(m);
        sim_at(c->world, &m->heal, while_cut(m));
        break;
    case SIM_FAULT_RESET:
        sim_reset(c->net, s, any(m));
        break;
    case SIM_FAULT_SLOW_DISK:
        slow_disk(m, s);
        break;
    case SIM_FAULT_LOST_DISK:
        lose_disk(m, s);
        break;
    case SIM_FAULT_WALL:
        sim_wall_offset(c->world, s, (int64_t)prng_below(&m->rng, 7200) * 1000000000 - 3600000000000);
        break;
    case SIM_FAULT_DRIFT:
        sim_drift(c->world, s, (int32_t)prng_below(&m->rng, 800) - 400);
        break;
    case SIM_FAULT_CLIENT:
        sim_load_kill(m->load, (unsigned)prng_below(&m->rng, sim_load_clients(m->load)));
        break;
    case SIM_FAULT_TRANSFER:
        if (sim_server_up(c, s) && sim_runs(c->world, s)) node_transfer(c->servers[s].node, 0);
        break;
    default:
        check(false);
    }
}

static void go_on(struct sim_event *e)
{
    struct sim_nemesis *m = e->arg;
    unsigned kind;
    do kind = 1u << prng_below(&m->rng, KINDS);
    while (!(kind & m->kinds));
    do_fault(m, kind);
    sim_at(m->cluster->world, &m->next, after(m, m->pause_ms));
}

/* ---- life ---- */

struct sim_nemesis *sim_nemesis_new(struct sim_cluster *c, struct sim_load *l, unsigned kinds, uint64_t pause_ms)
{
    struct sim_nemesis *m = xcalloc(1, sizeof *m);
    m->cluster = c;
    m->load = l;
    m->kinds = kinds & SIM_FAULT_ALL;
    m->pause_ms = pause_ms;
    prng_seed(&m->rng, prng_u64(&c->rng));
    m->next = (struct sim_event){.run = go_on, .arg = m};
    m->heal = (struct sim_event){.run = join_again, .arg = m};
    for (unsigned i = 0; i < c->opt.n; i++) {
        struct lasting *s = &m->servers[i];
        s->nemesis = m;
        s->server = i;
        s->start = (struct sim_event){.run = start_again, .arg = s};
        s->resume = (struct sim_event){.run = run_again, .arg = s};
        s->quick = (struct sim_event){.run = quick_again, .arg = s};
    }
    if (m->kinds) sim_at(c->world, &m->next, after(m, pause_ms));
    return m;
}

static void cancel_all(struct sim_nemesis *m)
{
    struct sim_world *w = m->cluster->world;
    sim_cancel(w, &m->next);
    sim_cancel(w, &m->heal);
    for (unsigned i = 0; i < m->cluster->opt.n; i++) {
        sim_cancel(w, &m->servers[i].start);
        sim_cancel(w, &m->servers[i].resume);
        sim_cancel(w, &m->servers[i].quick);
    }
}

void sim_nemesis_stop(struct sim_nemesis *m)
{
    struct sim_cluster *c = m->cluster;
    struct sim_net_config *w = sim_net_config(c->net);
    sim_say(c, "no more faults");
    cancel_all(m);
    sim_join(c);
    w->loss_percent = w->double_percent = w->reorder_percent = w->reset_ppm = w->slow_percent = 0;
    w->delay_max = min_u64(w->delay_max, NS_PER_MS);
    w->delay_min = min_u64(w->delay_min, w->delay_max);
    for (unsigned i = 0; i < c->opt.n; i++) {
        if (!sim_server_up(c, i)) sim_server_start(c, i);
        sim_pause(c->world, i, false);
        sim_disk_slow(c->servers[i].disk, 1);
        sim_drift(c->world, i, 0);
    }
}

void sim_nemesis_free(struct sim_nemesis *m)
{
    cancel_all(m);
    free(m);
}

void sim_faults_text(unsigned kinds, char *out, size_t n)
{
    size_t at = 0;
    out[0] = 0;
    for (unsigned i = 0; i < KINDS && at < n; i++)
        if (kinds & (1u << i)) at += (size_t)snprintf(out + at, n - at, "%s%s", at ? " " : "", names[i]);
}
