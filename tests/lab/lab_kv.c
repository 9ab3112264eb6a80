/* lab_kv.c - the key/value titles, on kv servers and kv clients. A clerk is a process with a client that does one call
 * at a time; get of an absent key is "". Keys and values are those of the original, so the files have such names, too.
 */
#include <stdio.h>
#include <stdlib.h>

#include "raft/node_priv.h"
#include "tests/lab/lab.h"
#include "tests/sim/check_log.h"

#define CLERKS_MAX 24u
#define SETTLE_MS  500u
#define PAUSE_MS   20u

struct kvlab;

struct clerk {
    struct kvlab *lab;
    struct kv_client *kv;
    unsigned proc;
    struct kv_call call;
    bool busy;
    void (*then)(struct clerk *c);
    struct buf got; /* what the last get returned */
    /* the append workload */
    unsigned id;
    uint64_t j;
    bool running, reading;
    struct buf expect;
    struct timer pause; /* between its operations: virtual time makes them cheap, not this program's work */
};

struct kvlab {
    struct sim_cluster *c;
    unsigned n, nclerks;
    int maxraftstate;
    struct prng rng;
    struct clerk clerks[CLERKS_MAX];
    bool stop;
    struct sim_event repartition;
    bool repartitioning, unreliable;
};

/* ---- cluster ---- */

static void begin(struct kvlab *l, const struct lab_test *t, uint64_t seed, unsigned n)
{
    struct sim_options o;
    sim_options_default(&o, seed);
    o.n = n;
    o.title = t->title;
    snprintf(o.text, sizeof o.text, "%s", t->title);
    if (t->maxraftstate > 0) {
        o.node.checkpoint_bytes = (uint64_t)t->maxraftstate;
        o.node.log.trail_bytes = 1;
    }
    *l = (struct kvlab){.c = sim_cluster_new(&o), .n = n, .maxraftstate = t->maxraftstate, .unreliable = t->unreliable};
    prng_seed(&l->rng, prng_u64(&l->c->rng));
    lab_unreliable(l->c, t->unreliable);
    sim_start_all(l->c);
}

/* In an unreliable network the calls between clients and servers get lost, too: on connections that means that they
 * break. */
static void weather(struct kvlab *l)
{
    if (l->unreliable) sim_net_config(l->c->net)->reset_ppm = 10000;
}

static void split(struct kvlab *l, const uint8_t *side) { sim_split(l->c, side); }

static void connect_all(struct kvlab *l)
{
    uint8_t side[SIM_SERVERS_MAX] = {0};
    split(l, side);
}

/* ---- clerks ---- */

static struct clerk *clerk_new(struct kvlab *l)
{
    const char *addrs[SIM_SERVERS_MAX];
    check(l->nclerks < CLERKS_MAX);
    struct clerk *c = &l->clerks[l->nclerks];
    unsigned proc = SIM_CLIENT_PROC + l->nclerks++;
    for (unsigned i = 0; i < l->n; i++) addrs[i] = l->c->servers[i].addr;
    struct kv_client_config cfg = {.addrs = addrs, .naddrs = l->n, .name = "clerk", .seed = prng_u64(&l->rng)};
    *c = (struct clerk){.lab = l, .proc = proc};
    c->kv = kv_client_new(sim_net_door(l->c->net, proc), sim_clock(l->c->world, proc), &cfg);
    return c;
}

/* The clerk reaches the servers with the bit set, no others. */
static void clerk_reaches(struct clerk *c, unsigned mask)
{
    for (unsigned i = 0; i < c->lab->n; i++) {
        sim_cut(c->lab->c->net, c->proc, i, !(mask >> i & 1));
        sim_cut(c->lab->c->net, i, c->proc, !(mask >> i & 1));
    }
}

static void end(struct kvlab *l)
{
    if (sim_ms(l->c) > 120000) sim_fail(l->c, "the test took more than 120 s");
    for (unsigned i = 0; i < l->nclerks; i++) {
        sim_kill(l->c->world, l->clerks[i].proc);
        kv_client_free(l->clerks[i].kv);
        buf_free(&l->clerks[i].got);
        buf_free(&l->clerks[i].expect);
    }
    sim_cluster_free(l->c);
}

static void answered(struct kv_call *call, const struct kv_reply *reply)
{
    struct clerk *c = call->arg;
    bool absent = call->op.code == KV_GET && reply->status == -ENOENT;
    if (reply->status < 0 && !absent)
        sim_fail(c->lab->c, "%s answers %s", kv_code_name(call->op.code), err_text(reply->status));
    if (call->op.code == KV_GET) {
        buf_clear(&c->got);
        if (!absent) buf_append(&c->got, reply->data.p, reply->data.n);
    }
    c->busy = false;
    if (c->then) c->then(c);
}

static void ask(struct clerk *c, enum kv_code code, const char *key, struct slice value, void (*then)(struct clerk *c))
{
    check(!c->busy);
    c->busy = true;
    c->then = then;
    c->call = (struct kv_call){.op = {.code = code, .name = slice_str(key), .data = value}, .done = answered, .arg = c};
    kv_call(c->kv, &c->call);
}

static bool is_idle(void *arg) { return !((struct clerk *)arg)->busy; }

static void finish(struct clerk *c)
{
    if (!sim_wait(c->lab->c, is_idle, c, 60000)) sim_fail(c->lab->c, "an operation takes more than a minute");
}

static void put(struct clerk *c, const char *key, const char *value)
{
    ask(c, KV_PUT, key, slice_str(value), NULL);
    finish(c);
}

static struct slice get(struct clerk *c, const char *key)
{
    ask(c, KV_GET, key, (struct slice){0}, NULL);
    finish(c);
    return buf_slice(&c->got);
}

static void expect(struct clerk *c, const char *key, const char *value)
{
    struct slice v = get(c, key);
    if (!slice_eq(v, slice_str(value)))
        sim_fail(c->lab->c, "key %s is \"%.*s\", expected \"%s\"", key, (int)min_u64(v.n, 100), (const char *)v.p,
                 value);
}

/* ---- the append workload ---- */

static void append_step(struct clerk *c)
{
    struct clock *clock = sim_clock(c->lab->c->world, c->proc);
    struct kvlab *l = c->lab;
    if (c->reading && !slice_eq(buf_slice(&c->got), buf_slice(&c->expect)))
        sim_fail(l->c, "client %u reads \"%.*s\", expected \"%.*s\"", c->id, (int)min_u64(c->got.n, 200),
                 (const char *)c->got.p, (int)min_u64(c->expect.n, 200), (const char *)c->expect.p);
    c->reading = false;
    c->running = !l->stop;
    if (c->running)
        clock_arm(clock, &c->pause, clock_now(clock) + prng_below(&l->rng, (PAUSE_MS + 3 * l->nclerks) * NS_PER_MS));
}

static void append_next(struct timer *t)
{
    struct clerk *c = t->arg;
    struct kvlab *l = c->lab;
    char key[16], value[48];
    snprintf(key, sizeof key, "%u", c->id);
    if (prng_chance(&l->rng, 50)) {
        snprintf(value, sizeof value, "x %u %llu y", c->id, (unsigned long long)c->j++);
        buf_append(&c->expect, value, strlen(value));
        ask(c, KV_APPEND, key, slice_str(value), append_step);
    } else {
        c->reading = true;
        ask(c, KV_GET, key, (struct slice){0}, append_step);
    }
}

static void append_begin(struct clerk *c, unsigned id)
{
    char key[16];
    snprintf(key, sizeof key, "%u", id);
    c->id = id;
    c->running = true;
    c->pause = (struct timer){.fire = append_next, .arg = c};
    ask(c, KV_PUT, key, slice_str(""), append_step);
}

/* Client `id`'s first j appends are in the value, each once, in order. */
static void check_appends(struct kvlab *l, unsigned id, struct slice v, uint64_t j)
{
    size_t last = 0;
    for (uint64_t k = 0; k < j; k++) {
        char want[48];
        int n = snprintf(want, sizeof want, "x %u %llu y", id, (unsigned long long)k);
        const uint8_t *at = v.n ? memmem(v.p, v.n, want, (size_t)n) : NULL;
        if (!at) sim_fail(l->c, "append \"%s\" is missing", want);
        size_t pos = (size_t)(at - v.p);
        if (memmem(at + 1, v.n - pos - 1, want, (size_t)n)) sim_fail(l->c, "append \"%s\" is there twice", want);
        if (k && pos <= last) sim_fail(l->c, "append \"%s\" is out of order", want);
        last = pos;
    }
}

static bool all_stopped(void *arg)
{
    struct kvlab *l = arg;
    for (unsigned i = 0; i < l->nclerks; i++)
        if (l->clerks[i].running) return false;
    return true;
}

/* ---- partitions ---- */

static void on_repartition(struct sim_event *e)
{
    struct kvlab *l = e->arg;
    uint8_t side[SIM_SERVERS_MAX];
    if (!l->repartitioning) return;
    for (unsigned i = 0; i < l->n; i++) side[i] = (uint8_t)prng_below(&l->rng, 2);
    split(l, side);
    sim_at(l->c->world, e, sim_now(l->c->world) + (ET + prng_below(&l->rng, 200)) * NS_PER_MS);
}

/* The first that claims to lead goes last into the minority. */
static unsigned make_partition(struct kvlab *l, uint8_t *side)
{
    unsigned leader = 0, minority = 0, count = 0;
    for (unsigned i = l->n; i-- > 0;) {
        struct node_status st;
        sim_status(l->c, i, &st);
        if (st.raft.role == RAFT_LEADER) leader = i;
    }
    for (unsigned i = 0; i < l->n; i++) {
        if (i == leader) continue;
        side[i] = count++ >= l->n / 2 + 1;
        if (side[i]) minority |= 1u << i;
    }
    side[leader] = 1;
    return minority | 1u << leader;
}

/* ---- sizes ---- */

static uint64_t log_size(struct kvlab *l)
{
    uint64_t most = 0;
    for (unsigned i = 0; i < l->n; i++) {
        struct node_status st;
        sim_status(l->c, i, &st);
        most = max_u64(most, st.log.log_bytes);
    }
    return most;
}

static uint64_t snapshot_size(struct kvlab *l)
{
    uint64_t most = 0;
    for (unsigned i = 0; i < l->n; i++) most = max_u64(most, l->c->servers[i].node->ckpt_size);
    return most;
}

/* A checkpoint is due when the log behind the last one is longer than both the limit and that checkpoint, so that the
 * work stays in proportion: the bound is the labs' where the state is small. */
static void check_log_size(struct kvlab *l)
{
    uint64_t bound = 2 * max_u64((uint64_t)l->maxraftstate, snapshot_size(l)), size = log_size(l);
    if (size > bound)
        sim_fail(l->c, "logs were not trimmed: %llu bytes, snapshots of %llu", (unsigned long long)size,
                 (unsigned long long)snapshot_size(l));
}

/* ---- the generic test ---- */

static void run_iteration(struct kvlab *l, const struct lab_test *t, struct clerk *observer)
{
    struct clerk *clients[CLERKS_MAX];
    l->stop = false;
    for (int i = 0; i < t->clients; i++) {
        clients[i] = clerk_new(l);
        append_begin(clients[i], (unsigned)i);
    }
    sim_sleep(l->c, 1000);
    l->repartitioning = t->partitions;
    l->repartition = (struct sim_event){.run = on_repartition, .arg = l};
    if (t->partitions) sim_at(l->c->world, &l->repartition, 0);
    sim_sleep(l->c, t->partitions ? 5000 : 4000);
    l->stop = true;
    l->repartitioning = false;
    sim_cancel(l->c->world, &l->repartition);
    if (t->partitions) {
        connect_all(l);
        sim_sleep(l->c, ET);
    }
    if (t->crash) {
        for (unsigned i = 0; i < l->n; i++)
            sim_server_end(l->c, i, prng_chance(&l->rng, 50) ? SIM_KILLED : SIM_POWER_CUT);
        sim_sleep(l->c, ET);
        sim_start_all(l->c);
    }
    if (!sim_wait(l->c, all_stopped, l, 30000)) sim_fail(l->c, "a client does not come to an end");
    for (int i = 0; i < t->clients; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        if (clients[i]->j < 10)
            sim_say(l->c, "warning: client %d managed only %llu appends", i, (unsigned long long)clients[i]->j);
        check_appends(l, (unsigned)i, get(observer, key), clients[i]->j);
    }
}

/* Clerks of an iteration end with it. */
static void drop_clerks(struct kvlab *l, unsigned keep)
{
    while (l->nclerks > keep) {
        struct clerk *c = &l->clerks[--l->nclerks];
        sim_kill(l->c->world, c->proc);
        kv_client_free(c->kv);
        sim_start(l->c->world, c->proc);
        buf_free(&c->got);
        buf_free(&c->expect);
    }
}

static void generic(const struct lab_test *t, uint64_t seed)
{
    struct kvlab l;
    begin(&l, t, seed, (unsigned)t->servers);
    weather(&l);
    struct clerk *observer = clerk_new(&l);
    for (unsigned round = 0; round < 3; round++) {
        run_iteration(&l, t, observer);
        if (t->maxraftstate > 0) {
            sim_sleep(l.c, SETTLE_MS);
            check_log_size(&l);
        }
        drop_clerks(&l, 1);
    }
    end(&l);
}

/* ---- the others ---- */

static void one_key_step(struct clerk *c)
{
    char value[48];
    if (c->j == 10) {
        c->running = false;
        return;
    }
    snprintf(value, sizeof value, "x %u %llu y", c->id, (unsigned long long)c->j++);
    ask(c, KV_APPEND, "k", slice_str(value), one_key_step);
}

static void one_key(const struct lab_test *t, uint64_t seed)
{
    struct kvlab l;
    begin(&l, t, seed, 3);
    weather(&l);
    struct clerk *observer = clerk_new(&l);
    put(observer, "k", "");
    for (unsigned i = 0; i < 5; i++) {
        struct clerk *c = clerk_new(&l);
        c->id = i;
        c->running = true;
        one_key_step(c);
    }
    if (!sim_wait(l.c, all_stopped, &l, 60000)) sim_fail(l.c, "the clients do not come to an end");
    struct slice v = get(observer, "k");
    for (unsigned i = 0; i < 5; i++) check_appends(&l, i, v, 10);
    end(&l);
}

static void one_partition(const struct lab_test *t, uint64_t seed)
{
    struct kvlab l;
    uint8_t side[SIM_SERVERS_MAX] = {0};
    begin(&l, t, seed, 5);
    struct clerk *observer = clerk_new(&l), *m = clerk_new(&l), *a = clerk_new(&l), *b = clerk_new(&l);
    put(observer, "1", "13");
    unsigned minority = make_partition(&l, side);
    split(&l, side);
    clerk_reaches(m, 31 & ~minority);
    clerk_reaches(a, minority);
    clerk_reaches(b, minority);
    put(m, "1", "14");
    expect(m, "1", "14");
    ask(a, KV_PUT, "1", slice_str("15"), NULL);
    ask(b, KV_GET, "1", (struct slice){0}, NULL);
    sim_sleep(l.c, 1000);
    if (!a->busy) sim_fail(l.c, "a put has completed in the minority");
    if (!b->busy) sim_fail(l.c, "a get has completed in the minority");
    expect(m, "1", "14");
    put(m, "1", "16");
    expect(m, "1", "16");
    connect_all(&l);
    clerk_reaches(a, 31);
    clerk_reaches(b, 31);
    sim_sleep(l.c, ET);
    if (!sim_wait(l.c, is_idle, a, 3000)) sim_fail(l.c, "the put does not complete after the heal");
    if (!sim_wait(l.c, is_idle, b, 3000)) sim_fail(l.c, "the get does not complete after the heal");
    expect(observer, "1", "15");
    end(&l);
}

/* What was under way between them is lost, as in the labs: else a connection that outlives the partition would bring
 * it. */
static void camps(struct kvlab *l, unsigned a, unsigned b, unsigned c)
{
    uint8_t side[3] = {(uint8_t)a, (uint8_t)b, (uint8_t)c};
    for (unsigned i = 0; i < 3; i++)
        for (unsigned j = 0; j < 3; j++)
            if (side[i] != side[j]) sim_reset(l->c->net, i, j);
    split(l, side);
}

static void install_snapshot(const struct lab_test *t, uint64_t seed)
{
    struct kvlab l;
    struct node_status st;
    begin(&l, t, seed, 3);
    struct clerk *observer = clerk_new(&l);
    put(observer, "a", "A");
    expect(observer, "a", "A");
    camps(&l, 0, 0, 1);
    struct clerk *c = clerk_new(&l);
    clerk_reaches(c, 3);
    for (unsigned i = 0; i < 50; i++) {
        char key[8];
        snprintf(key, sizeof key, "%u", i);
        put(c, key, key);
    }
    sim_sleep(l.c, ET);
    put(c, "b", "B");
    sim_sleep(l.c, SETTLE_MS);
    for (unsigned i = 0; i < 2; i++) { /* the one that is cut off has nothing to trim by */
        sim_status(l.c, i, &st);
        if (st.log.log_bytes > 2 * max_u64(1000, snapshot_size(&l)))
            sim_fail(l.c, "the majority's logs were not trimmed: %llu bytes", (unsigned long long)st.log.log_bytes);
    }
    camps(&l, 0, 1, 0);
    struct clerk *d = clerk_new(&l);
    clerk_reaches(d, 5);
    put(d, "c", "C");
    put(d, "d", "D");
    expect(d, "a", "A");
    expect(d, "b", "B");
    expect(d, "1", "1");
    expect(d, "49", "49");
    sim_status(l.c, 2, &st);
    if (st.snapshots_installed == 0) sim_fail(l.c, "server 2 has caught up without a snapshot");
    camps(&l, 0, 0, 0);
    put(observer, "e", "E");
    expect(observer, "c", "C");
    expect(observer, "e", "E");
    expect(observer, "1", "1");
    end(&l);
}

static void snapshot_small(const struct lab_test *t, uint64_t seed)
{
    struct kvlab l;
    begin(&l, t, seed, 3);
    struct clerk *c = clerk_new(&l);
    for (unsigned i = 0; i < 200; i++) {
        put(c, "x", "0");
        expect(c, "x", "0");
        put(c, "x", "1");
        expect(c, "x", "1");
    }
    sim_sleep(l.c, SETTLE_MS);
    check_log_size(&l);
    if (log_size(&l) > 2000) sim_fail(l.c, "the log is too large: %llu bytes", (unsigned long long)log_size(&l));
    if (snapshot_size(&l) > 500)
        sim_fail(l.c, "the snapshot is too large: %llu bytes", (unsigned long long)snapshot_size(&l));
    end(&l);
}

static const char *const partition_titles[] = {"Test: No progress in minority", "Test: Completion after heal", NULL};

const struct lab_test lab_kv_tests[] = {
    {"Test: One client", NULL, generic, 5, 1, false, false, false, -1},
    {"Test: concurrent clients", NULL, generic, 5, 5, false, false, false, -1},
    {"Test: unreliable", NULL, generic, 5, 5, true, false, false, -1},
    {"Test: Concurrent Append to same key, unreliable", NULL, one_key, 3, 5, true, false, false, -1},
    {"Test: Progress in majority", partition_titles, one_partition, 5, 1, false, false, true, -1},
    {"Test: many partitions", NULL, generic, 5, 1, false, false, true, -1},
    {"Test: many partitions, many clients", NULL, generic, 5, 5, false, false, true, -1},
    {"Test: persistence with one client", NULL, generic, 5, 1, false, true, false, -1},
    {"Test: persistence with concurrent clients", NULL, generic, 5, 5, false, true, false, -1},
    {"Test: persistence with concurrent clients, unreliable", NULL, generic, 5, 5, true, true, false, -1},
    {"Test: persistence with concurrent clients and repartitioning servers", NULL, generic, 5, 5, false, true, true,
     -1},
    {"Test: persistence with concurrent clients and repartitioning servers, unreliable", NULL, generic, 5, 5, true,
     true, true, -1},
    {"Test: InstallSnapshot RPC", NULL, install_snapshot, 3, 1, false, false, true, 1000},
    {"Test: snapshot size is reasonable", NULL, snapshot_small, 3, 1, false, false, false, 1000},
    {"Test: persistence with one client and snapshots", NULL, generic, 5, 1, false, true, false, 1000},
    {"Test: persistence with several clients and snapshots", NULL, generic, 5, 20, false, true, false, 1000},
    {"Test: persistence with several clients, snapshots, unreliable", NULL, generic, 5, 5, true, false, false, 1000},
    {"Test: persistence with several clients, failures, and snapshots, unreliable", NULL, generic, 5, 5, true, true,
     false, 1000},
    {"Test: persistence with several clients, failures, and snapshots, unreliable and partitions", NULL, generic, 5, 5,
     true, true, true, 1000},
    {0},
};
