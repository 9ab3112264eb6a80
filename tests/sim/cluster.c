/* cluster.c - servers come and go.
 *
 * A death happens between two events, or between two calls of the doors within one: the process's timers and
 * connections end first, then its disk decides what stays of the writes under way (it reads the dying process's memory
 * for that). What the process still does until the event is over reaches neither disk nor network; then its memory is
 * freed. A start is the production's: recovery from that disk, listening, dialling.
 *
 * Failures: a server that cannot start, that says of itself that it cannot go on, or that finds damage where nothing
 * but power cuts happened, fails the run - unless its disk was told to misbehave (may_end, suspect). */
#include "tests/sim/cluster.h"

#include <stdio.h>
#include <stdlib.h>

#include "raft/node_priv.h"
#include "tests/sim/box.h"
#include "tests/sim/check_log.h"
#include "tests/sim/story.h"

/* ---- what servers say ---- */

/* Lines begin with the number of whoever speaks; here the server is named anyway. */
static void server_line(void *arg, enum trace_level level, const char *text)
{
    struct sim_server *s = arg;
    char line[240];
    const char *rest = strncmp(text, "node ", 5) && strncmp(text, "raft ", 5) ? NULL : strstr(text, ": ");
    if (rest && sim_story_tells(rest + 2)) return;
    snprintf(line, sizeof line, "server %u%s: %s", s->at + 1, level >= TRACE_WARN ? " !" : "", rest ? rest + 2 : text);
    sim_report_line(line);
}

static void cluster_line(void *arg, enum trace_level level, const char *text) { sim_report_line(text); }

/* What waits for the disk when its node is freed is left behind: a node is freed when its process ends. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:snap_pump\nleak:node__send\nleak:pull_more\nleak:range_push\nleak:node_payload\n";
}

/* ---- options ---- */

void sim_options_default(struct sim_options *opt, uint64_t seed)
{
    *opt = (struct sim_options){.seed = seed, .n = 3};
    opt->disk = (struct sim_disk_config){
        .op_ns_min = 20 * NS_PER_US, .op_ns_max = 200 * NS_PER_US, .mib_ns = 500 * NS_PER_US, .wait_percent = 30};
    opt->node.lease_reads = true;
    opt->node.checkpoint_bytes = 256 * KIB;
    opt->node.log.segment_bytes = 128 * KIB;
    opt->node.log.spare_segments = 1;
    opt->node.log.cache_bytes = 256 * KIB;
    opt->node.log.trail_bytes = 64 * KIB;
}

/* ---- the way to the disk ---- */

static struct sim_gate *gate_of(struct disk *d) { return container_of(d, struct sim_gate, door); }

static void stop_effects(struct sim_server *s, enum sim_death how)
{
    sim_say(s->cluster, "server %u %s", s->at + 1, how == SIM_KILLED ? "is killed" : "loses its power");
    if (how == SIM_KILLED) {
        sim_kill(s->cluster->world, s->at);
        sim_disk_kill(s->disk);
    } else {
        sim_power_off(s->cluster->world, s->at);
        sim_disk_crash(s->disk);
    }
    s->gate.shut = true;
}

/* The server is about to do something to the world. */
static void door_call(struct sim_server *s)
{
    if (!s->crash_in || --s->crash_in || s->gate.shut) return;
    stop_effects(s, s->crash_how);
    s->cluster->crashes_inside++;
    sim_at(s->cluster->world, &s->ending, sim_now(s->cluster->world));
}

static void on_sending(void *arg, unsigned proc)
{
    struct sim_cluster *c = arg;
    if (proc < c->opt.n) door_call(&c->servers[proc]);
}

static void gate_submit(struct disk *d, struct disk_io *io)
{
    struct sim_gate *g = gate_of(d);
    door_call(container_of(g, struct sim_server, gate));
    if (!g->shut) disk_submit(g->disk, io);
}

static int64_t gate_try_read(struct disk *d, const char *name, uint64_t off, void *p, uint32_t n)
{
    return gate_of(d)->shut ? -EAGAIN : disk_try_read(gate_of(d)->disk, name, off, p, n);
}

static int gate_list(struct disk *d, void (*each)(void *arg, const char *name, uint64_t size), void *arg)
{
    return disk_list(gate_of(d)->disk, each, arg);
}

static int64_t gate_load(struct disk *d, const char *name, uint64_t off, void *p, size_t n)
{
    return disk_load(gate_of(d)->disk, name, off, p, n);
}

static int gate_settle(struct disk *d, const char *name) { return disk_settle(gate_of(d)->disk, name); }

static int gate_space(struct disk *d, uint64_t *total, uint64_t *avail)
{
    return disk_space(gate_of(d)->disk, total, avail);
}

static const struct disk_ops gate_ops = {gate_submit, gate_try_read, gate_list, gate_load, gate_space,
                                         gate_settle};

/* ---- life of the cluster ---- */

static void server_init(struct sim_cluster *c, unsigned i)
{
    struct sim_server *s = &c->servers[i];
    struct sim_disk_config d = c->opt.disk;
    *s = (struct sim_server){.cluster = c, .at = i};
    snprintf(s->addr, sizeof s->addr, "server%u:1", i + 1);
    d.seed = prng_u64(&c->rng);
    s->disk = sim_disk_new(sim_clock(c->world, i), &d);
    s->gate = (struct sim_gate){.door = {&gate_ops}, .disk = sim_disk_door(s->disk)};
    s->trace = (struct trace){.level = sim_loudness() >= SIM_DEBUG ? TRACE_DEBUG : TRACE_INFO, .line = server_line, .arg = s};
}

struct sim_cluster *sim_cluster_new(const struct sim_options *opt)
{
    struct sim_cluster *c = xcalloc(1, sizeof *c);
    c->opt = *opt;
    check(opt->n > 0 && opt->n <= SIM_SERVERS_MAX);
    prng_seed(&c->rng, opt->seed);
    sim_report_cluster(c);
    c->world = sim_world_new(prng_u64(&c->rng));
    struct sim_net_config net = opt->net;
    c->trace = (struct trace){.level = sim_loudness() == SIM_FRAMES ? TRACE_DEBUG : TRACE_INFO, .line = cluster_line, .arg = c};
    net.seed = prng_u64(&c->rng);
    if (sim_loudness() == SIM_FRAMES) net.trace = &c->trace;
    net.sending = on_sending;
    net.sending_arg = c;
    c->net = sim_net_new(c->world, &net);
    c->checks = sim_checks_new(c);
    for (unsigned i = 0; i < opt->n; i++) server_init(c, i);
    return c;
}

void sim_cluster_free(struct sim_cluster *c)
{
    sim_end_all(c, SIM_KILLED);
    for (unsigned i = 0; i < c->opt.n; i++) sim_disk_free(c->servers[i].disk);
    sim_checks_free(c->checks);
    sim_net_free(c->net);
    sim_world_free(c->world);
    sim_report_cluster(NULL);
    free(c);
}

/* ---- life of a server ---- */

static void on_ending(struct sim_event *e)
{
    struct sim_server *s = e->arg;
    sim_server_end(s->cluster, s->at, SIM_KILLED);
}

/* From inside of it: the process exits as soon as this event is over. A different state is no disk's fault. */
void sim_server_fatal(struct sim_server *s, int err, const char *text)
{
    if (s->gate.shut) return;
    sim_say(s->cluster, "server %u ends: %s (%s)", s->at + 1, text, err_text(err));
    bool disk = (s->may_end || s->suspect) && !strstr(text, "digest");
    if (!disk && !s->astray)
        sim_fail(s->cluster, "server %u ends itself: %s (%s)", s->at + 1, text, err_text(err));
    snprintf(s->last_words, sizeof s->last_words, "%s", text);
    s->cluster->fatal_ends++;
    sim_at(s->cluster->world, &s->ending, sim_now(s->cluster->world));
}

static void on_fatal(void *arg, int err, const char *text) { sim_server_fatal(arg, err, text); }

static struct node_config config_of(struct sim_server *s)
{
    struct sim_cluster *c = s->cluster;
    struct node_config nc = c->opt.node;
    nc.id = s->at + 1;
    unsigned members = c->opt.members ? c->opt.members : c->opt.n;
    memcpy(nc.addr, s->addr, sizeof s->addr);
    nc.join = s->at >= members;
    nc.nmembers = nc.join ? 0 : members;
    for (unsigned i = 0; i < nc.nmembers; i++) {
        nc.members[i].id = i + 1;
        memcpy(nc.members[i].addr, c->servers[i].addr, sizeof c->servers[i].addr);
    }
    nc.seed = prng_u64(&c->rng);
    nc.trace = nc.log.trace = &s->trace;
    nc.watch = sim_checks_watch(c->checks, s);
    return nc;
}

static int bring_up(struct sim_server *s, struct buf *why)
{
    struct sim_cluster *c = s->cluster;
    struct node_config nc = config_of(s);
    int err;
    if (c->opt.integers) {
        err = sim_box_new(s, &nc, &s->box, why);
        if (!err) s->node = sim_box_node(s->box);
        return err;
    }
    struct kv_server_config kc = {.listen = s->addr, .node = nc, .trace = &s->trace, .fatal = on_fatal, .fatal_arg = s};
    err = kv_server_new(&s->gate.door, sim_net_door(c->net, s->at), sim_clock(c->world, s->at), &kc, &s->kv, why);
    if (!err) s->node = kv_server_node(s->kv);
    return err;
}

/* It says why; then it is as if it had never run. */
static void start_failed(struct sim_server *s, int err, struct slice why)
{
    struct sim_cluster *c = s->cluster;
    snprintf(s->last_words, sizeof s->last_words, "%.*s", (int)why.n, why.n ? (const char *)why.p : "");
    if ((!s->may_end && !s->suspect) || !why.n)
        sim_fail(c, "server %u cannot start: %s (%s)", s->at + 1, s->last_words, err_text(err));
    sim_say(c, "server %u cannot start: %s (%s)", s->at + 1, s->last_words, err_text(err));
    stop_effects(s, SIM_KILLED);
    sim_checks_ended(c->checks, s);
}

int sim_server_try_start(struct sim_cluster *c, unsigned i)
{
    struct sim_server *s = &c->servers[i];
    struct node_status st;
    struct buf why = {0};
    check(!s->node);
    if (!sim_alive(c->world, i)) sim_start(c->world, i);
    s->incarnation++;
    s->gate.shut = false;
    s->crash_in = 0;
    s->last_received = 0;
    s->ending = (struct sim_event){.run = on_ending, .arg = s};
    c->starts++;
    sim_say(c, "server %u starts (life %u)", i + 1, s->incarnation);
    int err = bring_up(s, &why);
    if (err) {
        start_failed(s, err, buf_slice(&why));
        buf_free(&why);
        return err;
    }
    sim_checks_recovered(c->checks, s);
    sim_status(c, i, &st);
    if (st.damaged && !s->suspect) sim_fail(c, "server %u finds damage, but there were only crashes", i + 1);
    return 0;
}

void sim_server_start(struct sim_cluster *c, unsigned i)
{
    int err = sim_server_try_start(c, i);
    if (err) sim_fail(c, "server %u cannot start: %s (%s)", i + 1, c->servers[i].last_words, err_text(err));
}

void sim_server_crash_in(struct sim_cluster *c, unsigned i, uint64_t calls, enum sim_death how)
{
    c->servers[i].crash_in = calls;
    c->servers[i].crash_how = how;
}

void sim_server_end(struct sim_cluster *c, unsigned i, enum sim_death how)
{
    struct sim_server *s = &c->servers[i];
    struct node_status st;
    if (!s->node) return;
    sim_status(c, i, &st);
    c->snapshots += st.snapshots_installed;
    c->repairs += st.repairs;
    sim_cancel(c->world, &s->ending);
    if (!s->gate.shut) stop_effects(s, how);
    if (s->kv) kv_server_free(s->kv);
    if (s->box) sim_box_free(s->box);
    check(sim_disk_pending(s->disk) == 0);
    s->kv = NULL;
    s->box = NULL;
    s->node = NULL;
    sim_checks_ended(c->checks, s);
    sim_disk_slow(s->disk, 1);
    c->crashes++;
}

void sim_server_wipe(struct sim_cluster *c, unsigned i)
{
    struct sim_server *s = &c->servers[i];
    check(!s->node);
    sim_say(c, "server %u gets an empty disk", i + 1);
    sim_disk_wipe(s->disk);
    s->lost = true;
    s->suspect = s->may_end = s->astray = false;
    s->last_words[0] = 0;
    sim_checks_wiped(c->checks, s);
}

void sim_start_all(struct sim_cluster *c)
{
    for (unsigned i = 0; i < c->opt.n; i++)
        if (!sim_server_up(c, i)) sim_server_start(c, i);
}

void sim_end_all(struct sim_cluster *c, enum sim_death how)
{
    for (unsigned i = 0; i < c->opt.n; i++) sim_server_end(c, i, how);
}

/* ---- ways ---- */

void sim_isolate(struct sim_cluster *c, unsigned i, bool on)
{
    sim_say(c, "server %u is %s", i + 1, on ? "cut off" : "connected");
    for (unsigned j = 0; j < SIM_PROCS_MAX; j++) {
        if (j == i) continue;
        sim_cut(c->net, i, j, on);
        sim_cut(c->net, j, i, on);
    }
}

void sim_split(struct sim_cluster *c, const uint8_t *side)
{
    char text[SIM_SERVERS_MAX + 1] = {0};
    for (unsigned i = 0; i < c->opt.n; i++) text[i] = (char)('A' + side[i]);
    sim_say(c, "the servers are split: %s", text);
    for (unsigned i = 0; i < c->opt.n; i++)
        for (unsigned j = 0; j < c->opt.n; j++)
            if (i != j) sim_cut(c->net, i, j, side[i] != side[j]);
}

void sim_join(struct sim_cluster *c)
{
    sim_say(c, "all ways are open");
    sim_heal(c->net);
}

/* ---- looking ---- */

void sim_status(const struct sim_cluster *c, unsigned i, struct node_status *out)
{
    check(c->servers[i].node);
    node_status(c->servers[i].node, out);
}

int sim_leader(const struct sim_cluster *c)
{
    int best = -1;
    uint64_t term = 0;
    for (unsigned i = 0; i < c->opt.n; i++) {
        struct node_status st;
        if (!sim_server_up(c, i) || !sim_runs(c->world, i)) continue;
        sim_status(c, i, &st);
        if (st.raft.role != RAFT_LEADER || st.raft.term <= term) continue;
        best = (int)i;
        term = st.raft.term;
    }
    return best;
}

unsigned sim_majority(const struct sim_cluster *c) { return c->opt.n / 2 + 1; }

void sim_sleep(struct sim_cluster *c, uint64_t ms) { sim_run_until(c->world, sim_now(c->world) + ms * NS_PER_MS); }

bool sim_wait(struct sim_cluster *c, bool (*done)(void *arg), void *arg, uint64_t ms)
{
    return sim_run_while_not(c->world, done, arg, sim_now(c->world) + ms * NS_PER_MS);
}
