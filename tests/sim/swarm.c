/* swarm.c - see swarm.h. */
#include "tests/sim/swarm.h"

#include <stdio.h>

#include "raft/node_priv.h"
#include "tests/sim/check_history.h"

#define OPERATIONS 8000u
#define HEAL_MS    40000u
#define ALIKE_MS   30000u
#define TOLD_MS    10000u /* until watchers know the last of it: a ping, a new connection, a tick */

#define ULL(x) ((unsigned long long)(x))

/* ---- what a seed means ---- */

static uint64_t one_of(struct prng *r, const uint64_t *v, size_t n) { return v[prng_below(r, n)]; }
#define ONE_OF(r, ...)                                                                                                 \
    one_of(r, (const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static sim_fault_set draw_faults(struct prng *r)
{
    sim_fault_set faults = 0;
    for (unsigned k = 0; k < SIM_FAULT_CHURN; k++)
        if (prng_chance(r, 30)) faults |= 1ull << k;
    return prng_chance(r, 5) ? 0 : faults;
}

static void draw_net(struct prng *r, sim_fault_set faults, struct sim_net_config *net)
{
    struct sim_net_config d = {
        .lossy_first = RAFT_FRAME_MSG,
        .lossy_last = prng_chance(r, 50) ? RAFT_FRAME_MSG : RAFT_FRAME_DIGEST,
        .loss_percent = (uint32_t)ONE_OF(r, 1, 5, 20),
        .double_percent = (uint32_t)ONE_OF(r, 1, 10, 30),
        .reorder_percent = (uint32_t)ONE_OF(r, 1, 10, 30),
        .slow_percent = (uint32_t)ONE_OF(r, 1, 5),
        .reset_ppm = (uint32_t)ONE_OF(r, 0, 100, 2000),
        .corrupt_ppm = (uint32_t)ONE_OF(r, 50, 500, 3000),
        .timeout = ONE_OF(r, 1, 5, 20) * NS_PER_S,
        .delay_max = ONE_OF(r, 100, 200, 1000, 5000, 30000) * NS_PER_US,
    };
    d.delay_min = prng_below(r, d.delay_max / 2 + 1);
    if (!(faults & SIM_FAULT(LOSS))) d.loss_percent = 0;
    if (!(faults & SIM_FAULT(DOUBLE))) d.double_percent = 0;
    if (!(faults & SIM_FAULT(REORDER))) d.reorder_percent = 0;
    if (!(faults & SIM_FAULT(DELAY))) d.slow_percent = 0;
    if (!(faults & SIM_FAULT(RESET))) d.reset_ppm = 0;
    if (!(faults & SIM_FAULT(CORRUPT))) d.corrupt_ppm = 0;
    *net = d;
}

static void draw_disk(struct prng *r, struct sim_disk_config *disk, struct node_config *node)
{
    disk->op_ns_min = 10 * NS_PER_US;
    disk->op_ns_max = ONE_OF(r, 50, 200, 2000, 20000) * NS_PER_US;
    disk->mib_ns = ONE_OF(r, 0, 500, 5000) * NS_PER_US;
    disk->wait_percent = (uint32_t)ONE_OF(r, 0, 20, 100);
    node->log.segment_bytes = (uint32_t)ONE_OF(r, 32, 64, 256, 1024) * KIB;
    node->log.spare_segments = (uint32_t)ONE_OF(r, 1, 2);
    node->log.cache_bytes = ONE_OF(r, 8, 64, 1024) * KIB;
    node->log.trail_bytes = ONE_OF(r, 4, 32, 256) * KIB;
    node->log.compact_live_percent = (uint32_t)ONE_OF(r, 10, 50, 90);
    node->log.compact_slack_bytes = 1;
    node->checkpoint_bytes = ONE_OF(r, 8, 32, 128, 1024) * KIB;
    node->lease_reads = prng_chance(r, 60);
    if (prng_chance(r, 30)) node->heartbeat_ms = 50, node->election_ms = 200;
}

static void draw_load(struct prng *r, struct sim_load_options *load)
{
    load->clients = (unsigned)prng_between(r, 1, 6);
    load->width = (unsigned)ONE_OF(r, 1, 1, 2, 6);
    load->think_ms = ONE_OF(r, 2, 10, 20);
    load->fs_percent = (uint32_t)ONE_OF(r, 0, 40, 80);
    load->read_percent = (uint32_t)ONE_OF(r, 20, 50);
    load->big_percent = (uint32_t)ONE_OF(r, 0, 5, 30);
    load->ttl_ms = (uint32_t)ONE_OF(r, 2000, 10000, 60000);
    load->mounts = prng_chance(r, 30);
    load->single_keys = prng_chance(r, 50);
}

static void describe(struct sim_swarm *w)
{
    char faults[400];
    sim_faults_text(w->faults, faults, sizeof faults);
    const struct sim_net_config *net = &w->cluster.net;
    const struct log_config *log = &w->cluster.node.log;
    snprintf(w->cluster.text, sizeof w->cluster.text,
             "%u servers; %u clients, %u at once, think %u ms, ttl %u ms%s; faults (%u ms): %s; net %u us, slow %u%%, "
             "reset %u ppm, corrupt %u ppm, loss %u%%, double %u%%, reorder %u%% of frames %u-%u; disk %u us; segments "
             "%u KiB, cache %u KiB, trail %u KiB, checkpoint %u KiB; %s reads",
             w->cluster.n, w->load.clients, w->load.width, (unsigned)w->load.think_ms, w->load.ttl_ms,
             w->load.mounts ? ", mounts" : "", (unsigned)w->pause_ms, faults, (unsigned)(net->delay_max / NS_PER_US),
             net->slow_percent, net->reset_ppm, net->corrupt_ppm, net->loss_percent, net->double_percent,
             net->reorder_percent, net->lossy_first, net->lossy_last,
             (unsigned)(w->cluster.disk.op_ns_max / NS_PER_US), log->segment_bytes / KIB,
             (unsigned)(log->cache_bytes / KIB), (unsigned)(log->trail_bytes / KIB),
             (unsigned)(w->cluster.node.checkpoint_bytes / KIB), w->cluster.node.lease_reads ? "lease" : "round");
}

void sim_swarm_draw(uint64_t seed, const sim_fault_set *only, sim_fault_set also, struct sim_swarm *out)
{
    struct prng r;
    *out = (struct sim_swarm){0};
    prng_seed(&r, seed * 2654435761u + 17);
    sim_options_default(&out->cluster, seed);
    out->cluster.n = (unsigned)ONE_OF(&r, 3, 3, 3, 3, 5, 5, 1, 2, 4);
    out->faults = draw_faults(&r);
    if (only) out->faults = *only;
    out->faults |= also;
    draw_net(&r, out->faults, &out->cluster.net);
    draw_disk(&r, &out->cluster.disk, &out->cluster.node);
    draw_load(&r, &out->load);
    out->pause_ms = ONE_OF(&r, 200, 1000, 1000, 3000);
    out->run_ms = ONE_OF(&r, 5000, 10000, 20000);
    out->quiet_ms = prng_chance(&r, 80) ? 1500 : 0;
    if (!only && prng_chance(&r, 15)) out->faults |= SIM_FAULT(CHURN);
    describe(out);
}

/* ---- afterwards ---- */

static bool idle(void *arg) { return sim_load_idle(arg); }

static bool alike(void *arg)
{
    const struct sim_cluster *c = arg;
    struct node_status a, b;
    for (unsigned i = 0; i < c->opt.n; i++) {
        if (!sim_server_up(c, i)) return false;
        sim_status(c, i, &b);
        if (i == 0) a = b;
        if (b.raft.applied != a.raft.applied || b.raft.last != a.raft.applied || b.raft.standing != RAFT_VOTER)
            return false;
    }
    return true;
}

static void say_peers(struct sim_cluster *c, const struct node_status *s)
{
    for (unsigned j = 0; s->raft.role == RAFT_LEADER && j < s->raft.npeers; j++)
        sim_say(c, "    its peer %llu: %s, match %llu, next %llu", ULL(s->raft.peers[j].id), s->raft.peers[j].state,
                ULL(s->raft.peers[j].match), ULL(s->raft.peers[j].next));
}

static void say_states(struct sim_cluster *c)
{
    for (unsigned i = 0; i < c->opt.n; i++) {
        struct node_status s;
        if (!sim_server_up(c, i)) {
            sim_say(c, "server %u is down: %s", i + 1, c->servers[i].last_words);
            continue;
        }
        sim_status(c, i, &s);
        sim_say(c, "server %u: %s, %s, term %llu, first %llu, last %llu, commit %llu, applied %llu, checkpoint %llu",
                i + 1, raft_role_name(s.raft.role), raft_standing_name(s.raft.standing), ULL(s.raft.term),
                ULL(s.raft.first), ULL(s.raft.last), ULL(s.raft.commit), ULL(s.raft.applied), ULL(s.checkpoint_index));
        say_peers(c, &s);
    }
}

static void check_range(void *ctx, uint64_t index, uint32_t off, uint32_t len)
{
    struct sim_server *s = ctx;
    if (!log_has(s->node->log, index, off, len))
        sim_fail(s->cluster, "server %u lacks bytes %u+%u of entry %llu, which belong to a file", s->at + 1, off, len,
                 ULL(index));
}

/* The bytes of files are on every server, not only there where reads look first. Damage is repaired when it is met. */
static void check_bytes(struct sim_server *s, const struct fs *fs)
{
    if (!s->suspect && !s->may_end) fs_all_ranges(fs, check_range, s);
}

static void check_states(struct sim_cluster *c)
{
    struct node_status a, b;
    sim_status(c, 0, &a);
    for (unsigned i = 0; i < c->opt.n; i++) {
        struct fs fs = {.map = kv_server_map(c->servers[i].kv)};
        struct buf why = {0};
        sim_status(c, i, &b);
        if (a.digest != b.digest) sim_fail(c, "servers 1 and %u differ", i + 1);
        if (fs_check(&fs, &why))
            sim_fail(c, "server %u: the filesystem contradicts itself: %.*s", i + 1, (int)why.n, (const char *)why.p);
        buf_free(&why);
        check_bytes(&c->servers[i], &fs);
    }
}

void sim_swarm_heal(struct sim_cluster *c, struct sim_load *load)
{
    uint64_t before = sim_load_answered(load);
    sim_load_finish(load, 10);
    if (!sim_wait(c, idle, load, HEAL_MS)) {
        say_states(c);
        sim_fail(c, "no progress: operations are without an answer %u ms after the last fault", HEAL_MS);
    }
    if (sim_load_answered(load) < before + sim_load_clients(load) * 10) sim_fail(c, "too few operations were answered");
    sim_sleep(c, TOLD_MS);
    if (!sim_wait(c, alike, c, ALIKE_MS)) {
        say_states(c);
        sim_fail(c, "the servers do not become alike within %u ms", ALIKE_MS);
    }
    check_states(c);
    sim_check_history(c, sim_load_history(load), sim_load_watches(load));
}

/* ---- a run ---- */

static bool enough(void *arg) { return sim_load_asked(arg) >= OPERATIONS; }

static void add_up(struct sim_cluster *c, struct sim_load *load, const struct sim_nemesis *m, struct sim_sums *sums)
{
    sums->runs++;
    sums->operations += sim_load_asked(load);
    sums->entries += sim_applied_last(c->checks);
    sums->terms += sim_leaders_seen(c->checks);
    sums->crashes += c->crashes;
    sums->snapshots += c->snapshots;
    sums->repairs += c->repairs;
    for (unsigned i = 0; i < c->opt.n; i++) {
        struct node_status st;
        sim_status(c, i, &st);
        sums->snapshots += st.snapshots_installed;
        sums->repairs += st.repairs;
    }
    sums->virtual_ms += sim_ms(c);
    sums->steps += sim_steps(c->world);
    sim_nemesis_count(m, &sums->faults);
}

void sim_swarm_run(const struct sim_swarm *w, struct sim_sums *sums)
{
    struct sim_cluster *c = sim_cluster_new(&w->cluster);
    sim_start_all(c);
    struct sim_load *load = sim_load_new(c, &w->load);
    sim_wait(c, enough, load, w->quiet_ms);
    struct sim_nemesis *nemesis = sim_nemesis_new(c, load, w->faults, w->pause_ms);
    sim_wait(c, enough, load, w->run_ms);
    sim_nemesis_stop(nemesis);
    sim_swarm_heal(c, load);
    /* The append-only keys are changed by appends alone; the others also by files and transactions, if there are any. */
    bool all_keys = w->load.fs_percent == 0 && w->load.single_keys;
    sim_check_linear(c, sim_load_history(load), all_keys ? "" : SIM_APPEND_ONLY, &sums->linear);
    add_up(c, load, nemesis, sums);
    sim_nemesis_free(nemesis);
    sim_load_free(load);
    sim_cluster_free(c);
}

sim_fault_set sim_sums_missing(const struct sim_sums *s)
{
    sim_fault_set missing = 0;
    for (unsigned i = 0; i < SIM_FAULT_KINDS; i++)
        if (!s->faults.n[i]) missing |= 1ull << i;
    return missing;
}
