/* sim_host.c - the titles' world in the simulator: virtual time, everything follows from the seed. A crash is a power
 * cut or a kill by chance, so that a server must not rely on what it has not made durable. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/lab/host.h"
#include "tests/sim/box.h"
#include "tests/sim/check_log.h"

_Static_assert(LAB_SERVERS_MAX <= SIM_SERVERS_MAX, "the titles' clusters fit");

struct host {
    struct sim_cluster *c;
    struct host_options opt;
    uint64_t ever[LAB_SERVERS_MAX]; /* visible index applied by any life of the server */
};

/* Messages between servers are lost; of the calls between clients and servers, which are on connections, as many break
 * their connection. */
void host_unreliable(struct host *h, bool on)
{
    struct sim_net_config *w = sim_net_config(h->c->net);
    w->delay_min = on ? 0 : 20 * NS_PER_US;
    w->delay_max = on ? 27 * NS_PER_MS : 200 * NS_PER_US;
    w->lossy_first = w->lossy_last = RAFT_FRAME_MSG;
    w->loss_percent = on ? 10 : 0;
    w->reset_first = 64; /* kv's frames */
    w->reset_last = 127;
    w->reset_ppm = on ? 100000 : 0;
    if (!on) w->late_percent = 0;
}

static bool is_reply(uint8_t type, struct slice payload)
{
    unsigned m = type == RAFT_FRAME_MSG && payload.n ? payload.p[0] : 0;
    return m == RAFT_MSG_APPEND_RESP || m == RAFT_MSG_VOTE_RESP || m == RAFT_MSG_PREVOTE_RESP;
}

/* Two of three replies are 0.2 to 2.2 s late, also where the way has been cut meanwhile. */
void host_reorder(struct host *h)
{
    struct sim_net_config *w = sim_net_config(h->c->net);
    w->late = is_reply;
    w->late_percent = 67;
}

struct host *host_new(const struct host_options *opt)
{
    struct host *h = xcalloc(1, sizeof *h);
    struct sim_options o;
    sim_options_default(&o, opt->seed);
    h->opt = *opt;
    o.integers = opt->integers;
    o.n = opt->n;
    o.title = opt->title;
    snprintf(o.text, sizeof o.text, "%s", opt->title);
    bool snapshots = opt->maxraftstate > 0;
    o.node.checkpoint_bytes = snapshots ? (uint64_t)opt->maxraftstate : 0; /* 0: more than a title ever logs */
    o.node.checkpoint_eager = snapshots;
    o.node.log.trail_bytes = snapshots;
    h->c = sim_cluster_new(&o);
    host_unreliable(h, opt->unreliable);
    sim_start_all(h->c);
    return h;
}

void host_free(struct host *h)
{
    if (sim_ms(h->c) > 120000) host_fail(h, "the test took more than 120 s");
    sim_cluster_free(h->c);
    free(h);
}

uint64_t host_random(struct host *h) { return prng_u64(&h->c->rng); }

/* ---- time and words ---- */

uint64_t host_now(struct host *h) { return sim_now(h->c->world); }
void host_sleep(struct host *h, uint64_t ms) { sim_sleep(h->c, ms); }
bool host_wait(struct host *h, bool (*done)(void *arg), void *arg, uint64_t ms)
{
    return sim_wait(h->c, done, arg, ms);
}

#define FORMAT(text, fmt)                                                                                              \
    char text[512];                                                                                                    \
    va_list ap;                                                                                                        \
    va_start(ap, fmt);                                                                                                 \
    vsnprintf(text, sizeof text, fmt, ap);                                                                             \
    va_end(ap)

void host_fail(struct host *h, const char *fmt, ...)
{
    FORMAT(text, fmt);
    sim_fail(h->c, "%s", text);
}

void host_say(struct host *h, const char *fmt, ...)
{
    FORMAT(text, fmt);
    sim_say(h->c, "%s", text);
}

struct task {
    struct sim_event ev;
    struct host *host;
    struct host_task *user;
};

/* A step takes at least 10 us, so that time goes on. */
static void run_step(struct sim_event *ev)
{
    struct task *t = ev->arg;
    uint64_t pause = t->user->step(t->user);
    if (pause == HOST_DONE) {
        t->user->done = true;
        free(t);
        return;
    }
    sim_at(t->host->c->world, &t->ev, host_now(t->host) + max_u64(pause, 10 * NS_PER_US));
}

void host_begin(struct host *h, struct host_task *user)
{
    struct task *t = xcalloc(1, sizeof *t);
    *t = (struct task){.ev = {.run = run_step, .arg = t}, .host = h, .user = user};
    user->done = false;
    sim_at(h->c->world, &t->ev, host_now(h));
}

/* ---- network ---- */

void host_way(struct host *h, unsigned i, unsigned j, bool open)
{
    sim_cut(h->c->net, i, j, !open);
    sim_cut(h->c->net, j, i, !open);
}

void host_reset(struct host *h, unsigned i, unsigned j) { sim_reset(h->c->net, i, j); }

/* ---- servers ---- */

bool host_up(struct host *h, unsigned i) { return sim_server_up(h->c, i); }

static void note_applied(struct host *h, unsigned i)
{
    if (h->opt.integers && host_up(h, i)) h->ever[i] = max_u64(h->ever[i], sim_box_applied(h->c->servers[i].box));
}

void host_kill(struct host *h, unsigned i)
{
    note_applied(h, i);
    sim_server_end(h->c, i, prng_chance(&h->c->rng, 50) ? SIM_KILLED : SIM_POWER_CUT);
}

void host_start(struct host *h, unsigned i) { sim_server_start(h->c, i); }

/* ---- of the Raft suite ---- */

bool host_offer(struct host *h, unsigned i, uint64_t command, uint64_t *index, uint64_t *term)
{
    return host_up(h, i) && sim_box_start(h->c->servers[i].box, command, index, term);
}

bool host_leads(struct host *h, unsigned i, uint64_t *term)
{
    struct node_status st;
    *term = 0;
    if (!host_up(h, i)) return false;
    sim_status(h->c, i, &st);
    *term = st.raft.term;
    return st.raft.role == RAFT_LEADER;
}

/* That no two servers differ is check_log's. */
unsigned host_committed(struct host *h, uint64_t index, uint64_t *value)
{
    unsigned n = 0;
    for (unsigned i = 0; i < h->opt.n; i++) {
        note_applied(h, i);
        if (h->ever[i] < index) continue;
        n++;
        if (host_up(h, i) && sim_box_applied(h->c->servers[i].box) >= index)
            *value = sim_box_value(h->c->servers[i].box, index);
    }
    return n;
}

uint64_t host_rpcs(struct host *h)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < h->opt.n; i++) n += h->c->servers[i].last_received;
    return n;
}

/* ---- of the key/value suite ---- */

struct net *host_clerk_net(struct host *h, unsigned k)
{
    if (!sim_alive(h->c->world, SIM_CLIENT_PROC + k)) sim_start(h->c->world, SIM_CLIENT_PROC + k);
    return sim_net_door(h->c->net, SIM_CLIENT_PROC + k);
}

struct clock *host_clerk_clock(struct host *h, unsigned k) { return sim_clock(h->c->world, SIM_CLIENT_PROC + k); }
const char *host_addr(struct host *h, unsigned i) { return h->c->servers[i].addr; }

void host_clerk_way(struct host *h, unsigned k, unsigned i, bool open)
{
    sim_cut(h->c->net, SIM_CLIENT_PROC + k, i, !open);
    sim_cut(h->c->net, i, SIM_CLIENT_PROC + k, !open);
}

void host_clerk_end(struct host *h, unsigned k) { sim_kill(h->c->world, SIM_CLIENT_PROC + k); }

uint64_t host_settle_ms(struct host *h) { return 0; }

void host_figures(struct host *h, unsigned i, struct host_figures *out)
{
    struct node_status st;
    *out = (struct host_figures){0};
    if (!host_up(h, i)) return;
    sim_status(h->c, i, &st);
    *out = (struct host_figures){.leads = st.raft.role == RAFT_LEADER,
                                 .log_bytes = st.log.log_bytes,
                                 .snapshot_bytes = st.log.checkpoint_bytes,
                                 .installed = st.snapshots_installed};
}
