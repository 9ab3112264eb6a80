/* rig.c - see rig.h. Linked with --wrap for the allocators, so that each allocation passes here first. */
#include "tests/fault/rig.h"

#define DISK_PROC 8u /* the disks' own processes, so to speak, from here on */

static struct cluster *now; /* whose allocations are counted */

/* ---- the k-th allocation ---- */

void *__real_xmalloc(size_t n);
void *__real_xcalloc(size_t count, size_t size);
void *__real_xrealloc(void *p, size_t n);
void *__wrap_xmalloc(size_t n);
void *__wrap_xcalloc(size_t count, size_t size);
void *__wrap_xrealloc(void *p, size_t n);

/* xmalloc() ends the process where memory cannot be had. This one jumps out of it instead. */
static void count_alloc(void)
{
    struct cluster *c = now;
    if (!c || c->what != COUNT_ALLOC || !c->left || sim_running(c->world) != (int)c->victim) return;
    if (--c->left == 0) longjmp(c->death, 1);
}

void *__wrap_xmalloc(size_t n)
{
    count_alloc();
    return __real_xmalloc(n);
}

void *__wrap_xcalloc(size_t count, size_t size)
{
    count_alloc();
    return __real_xcalloc(count, size);
}

void *__wrap_xrealloc(void *p, size_t n)
{
    count_alloc();
    return __real_xrealloc(p, n);
}

/* ---- into the simulator and back: its own allocations do not count ---- */

static int inside(void)
{
    int was = sim_running(now->world);
    sim_set_running(now->world, -1);
    return was;
}

static void outside(int was) { sim_set_running(now->world, was); }

static struct clock *real_clock(struct clock *c) { return container_of(c, struct clock_gate, base)->real; }
static uint64_t clock_gate_now(struct clock *c) { return clock_now(real_clock(c)); }
static int64_t clock_gate_wall(struct clock *c) { return clock_wall(real_clock(c)); }

static void clock_gate_arm(struct clock *c, struct timer *t, uint64_t at)
{
    int was = inside();
    clock_arm(real_clock(c), t, at);
    outside(was);
}

static void clock_gate_disarm(struct clock *c, struct timer *t) { clock_disarm(real_clock(c), t); }
static const struct clock_ops clock_gate_ops = {clock_gate_now, clock_gate_wall, clock_gate_arm, clock_gate_disarm};

/* An operation on its way. The disk runs on a clock of its own; done() is the server's again. */
struct passing {
    struct disk_io io, *user;
    struct server *server;
};

static void passed(struct disk_io *io, int64_t result)
{
    struct passing *p = container_of(io, struct passing, io);
    struct disk_io *user = p->user;
    struct server *s = p->server;
    free(p);
    sim_set_running(s->cluster->world, (int)s->at);
    user->done(user, result);
    sim_set_running(s->cluster->world, -1);
}

static struct disk *real_disk(struct disk *d)
{
    return sim_disk_door(container_of(d, struct disk_gate, base)->server->disk);
}

static void disk_gate_submit(struct disk *d, struct disk_io *io)
{
    struct disk_gate *g = container_of(d, struct disk_gate, base);
    if (g->shut) return;
    int was = inside();
    struct passing *p = xcalloc(1, sizeof *p);
    p->io = *io;
    p->io.done = passed;
    p->user = io;
    p->server = g->server;
    disk_submit(real_disk(d), &p->io);
    outside(was);
}

/* Those that answer at once: recovery's, and reads from the page cache. */
static bool load_fails(struct disk *d)
{
    struct server *s = container_of(d, struct disk_gate, base)->server;
    struct cluster *c = s->cluster;
    return c->what == COUNT_LOAD && c->left && s->at == c->victim && --c->left == 0;
}

static int64_t disk_gate_try_read(struct disk *d, const char *name, uint64_t off, void *p, uint32_t n)
{
    return load_fails(d) ? -EIO : disk_try_read(real_disk(d), name, off, p, n);
}

static int disk_gate_list(struct disk *d, void (*each)(void *arg, const char *name, uint64_t size), void *arg)
{
    return load_fails(d) ? -EIO : disk_list(real_disk(d), each, arg);
}

static int64_t disk_gate_load(struct disk *d, const char *name, uint64_t off, void *p, size_t n)
{
    return load_fails(d) ? -EIO : disk_load(real_disk(d), name, off, p, n);
}

static int disk_gate_settle(struct disk *d, const char *name)
{
    return load_fails(d) ? -EIO : disk_settle(real_disk(d), name);
}

static int disk_gate_space(struct disk *d, uint64_t *total, uint64_t *avail)
{
    return load_fails(d) ? -EIO : disk_space(real_disk(d), total, avail);
}

static const struct disk_ops disk_gate_ops = {disk_gate_submit, disk_gate_try_read, disk_gate_list, disk_gate_load,
                                              disk_gate_space, disk_gate_settle};

/* ---- the k-th send ---- */

static const struct net_ops *real_ops;

static int gated_send(struct conn *conn, uint8_t type, const struct slice *v, unsigned nv)
{
    struct cluster *c = now;
    int was = inside();
    bool ours = c->what == COUNT_SEND && c->left && was == (int)c->victim;
    int err = ours && --c->left == 0 ? -ENOBUFS : real_ops->send(conn, type, v, nv);
    outside(was);
    return err;
}

static size_t gated_queued(struct conn *conn) { return real_ops->queued(conn); }

static void gated_pause(struct conn *conn, bool on)
{
    int was = inside();
    real_ops->pause(conn, on);
    outside(was);
}

static void gated_close(struct conn *conn)
{
    int was = inside();
    real_ops->close(conn);
    outside(was);
}

static const struct net_ops gated_ops = {
    .send = gated_send, .queued = gated_queued, .pause = gated_pause, .close = gated_close};

static void gate_conn(struct conn *conn)
{
    real_ops = conn->ops;
    conn->ops = &gated_ops;
}

static void on_accept(void *arg, struct conn *conn)
{
    struct gate *g = arg;
    gate_conn(conn);
    g->accept(g->accept_arg, conn);
}

static int gate_listen(struct net *n, const char *addr, void (*accept)(void *arg, struct conn *c), void *arg)
{
    struct gate *g = container_of(n, struct gate, base);
    g->accept = accept;
    g->accept_arg = arg;
    int was = inside();
    int err = net_listen(g->real, addr, on_accept, g);
    outside(was);
    return err;
}

static struct conn *gate_dial(struct net *n, const char *addr, const struct conn_cb *cb, void *arg)
{
    int was = inside();
    struct conn *conn = net_dial(container_of(n, struct gate, base)->real, addr, cb, arg);
    outside(was);
    gate_conn(conn);
    return conn;
}

static const struct net_ops gate_ops = {.listen = gate_listen, .dial = gate_dial};

void fail_nth(struct cluster *c, unsigned server, enum countdown what, uint64_t n)
{
    c->victim = server;
    c->what = what;
    c->left = n;
}

bool failed_already(const struct cluster *c) { return c->left == 0; }

/* ---- servers ---- */

static void address(char *out, unsigned i) { snprintf(out, ADDR_MAX, "server%u:1", i + 1); }

static void on_line(void *arg, enum trace_level level, const char *text)
{
    struct cluster *c = arg;
    fprintf(stderr, "%9.3f ms  %s\n", (double)sim_now(c->world) / 1e6, text);
}

static void on_fatal(void *arg, int err, const char *text)
{
    struct server *s = arg;
    s->ending = true;
    s->err = err;
    snprintf(s->why, sizeof s->why, "%s", text);
}

static struct node_config config_of(struct cluster *c, unsigned i)
{
    struct node_config nc = {.id = i + 1, .nmembers = SERVERS, .lease_reads = true, .checkpoint_bytes = 10 * KIB};
    for (unsigned k = 0; k < SERVERS; k++) {
        nc.members[k].id = k + 1;
        address(nc.members[k].addr, k);
    }
    nc.log = (struct log_config){.segment_bytes = 8 * DISK_BLOCK,
                                 .spare_segments = 1,
                                 .cache_bytes = 4 * KIB,
                                 .trail_bytes = 4 * KIB,
                                 .compact_live_percent = 90};
    nc.seed = 100 + i;
    nc.trace = nc.log.trace = &c->trace;
    return nc;
}

static void take_down(struct cluster *c, unsigned i, bool leave_memory)
{
    struct server *s = &c->servers[i];
    sim_kill(c->world, i);
    sim_disk_kill(s->disk);
    s->door.shut = true;
    if (!leave_memory) kv_server_free(s->kv);
    s->kv = NULL;
    s->ending = false;
}

static void out_of_memory(struct cluster *c)
{
    struct server *s = &c->servers[c->victim];
    sim_set_running(c->world, -1);
    s->ends++;
    snprintf(s->why, sizeof s->why, "out of memory");
    take_down(c, c->victim, true);
}

static int bring_up(struct cluster *c, struct server *s, struct buf *why)
{
    char addr[ADDR_MAX];
    address(addr, s->at);
    struct kv_server_config kc = {
        .listen = addr, .node = config_of(c, s->at), .trace = &c->trace, .fatal = on_fatal, .fatal_arg = s};
    if (setjmp(c->death)) {
        out_of_memory(c);
        return 0;
    }
    sim_set_running(c->world, (int)s->at);
    int err = kv_server_new(&s->door.base, &s->gate.base, &s->clock.base, &kc, &s->kv, why);
    sim_set_running(c->world, -1);
    return err;
}

int server_start(struct cluster *c, unsigned i)
{
    struct server *s = &c->servers[i];
    struct buf why = {0};
    assert_null(s->kv);
    if (!sim_alive(c->world, i)) sim_start(c->world, i);
    s->gate = (struct gate){.base = {&gate_ops}, .real = sim_net_door(c->net, i), .cluster = c};
    s->clock = (struct clock_gate){.base = {&clock_gate_ops}, .real = sim_clock(c->world, i)};
    s->door = (struct disk_gate){.base = {&disk_gate_ops}, .server = s};
    s->ending = false;
    s->why[0] = 0;
    int err = bring_up(c, s, &why);
    if (err) {
        assert_true(why.n > 20); /* it says why, and what to do */
        snprintf(s->why, sizeof s->why, "%.*s", (int)why.n, (const char *)why.p);
        assert_int_equal(sim_disk_pending(s->disk), 0);
        s->kv = NULL;
        s->err = err;
        sim_kill(c->world, i);
    }
    buf_free(&why);
    return err;
}

void server_kill(struct cluster *c, unsigned i)
{
    if (c->servers[i].kv) take_down(c, i, false);
}

void start_all(struct cluster *c)
{
    for (unsigned i = 0; i < SERVERS; i++) {
        if (c->servers[i].kv) continue;
        int err = server_start(c, i);
        if (err) fail_msg("server %u does not start: %s (%s)", i + 1, c->servers[i].why, err_text(err));
    }
}

/* One event. A server whose memory ran out is gone; one that has ended itself is taken down. */
static bool step(struct cluster *c)
{
    volatile bool more = true;
    if (setjmp(c->death)) {
        out_of_memory(c);
    } else {
        more = sim_step(c->world);
    }
    for (unsigned i = 0; i < SERVERS; i++) {
        if (!c->servers[i].ending) continue;
        c->servers[i].ends++;
        take_down(c, i, false);
    }
    return more;
}

bool pass_until(struct cluster *c, bool (*done)(struct cluster *c), uint64_t ms)
{
    uint64_t until = sim_now(c->world) + ms * NS_PER_MS;
    while (!done || !done(c)) {
        if (sim_now(c->world) >= until || !step(c)) return false;
    }
    return true;
}

void pass(struct cluster *c, uint64_t ms) { pass_until(c, NULL, ms); }

int leader(struct cluster *c)
{
    int best = -1;
    uint64_t term = 0;
    for (unsigned i = 0; i < SERVERS; i++) {
        struct node_status st;
        if (!c->servers[i].kv) continue;
        node_status(kv_server_node(c->servers[i].kv), &st);
        if (st.raft.role != RAFT_LEADER || st.raft.term <= term) continue;
        best = (int)i;
        term = st.raft.term;
    }
    return best;
}

bool alike(struct cluster *c)
{
    struct node_status a, b;
    for (unsigned i = 0; i < SERVERS; i++) {
        if (!c->servers[i].kv) return false;
        node_status(kv_server_node(c->servers[i].kv), i ? &b : &a);
        if (i == 0) b = a;
        if (b.raft.standing != RAFT_VOTER || b.raft.applied != a.raft.applied || b.raft.last != b.raft.applied)
            return false;
        if (b.digest != a.digest) return false;
    }
    return leader(c) >= 0;
}

static unsigned wanted;
static bool leads(struct cluster *c) { return leader(c) == (int)wanted; }

void lead(struct cluster *c, unsigned i)
{
    wanted = i;
    for (unsigned tries = 0; tries < 20 && !leads(c); tries++) {
        int l = leader(c);
        if (l >= 0) node_transfer(kv_server_node(c->servers[l].kv), i + 1);
        pass_until(c, leads, 1000);
    }
    assert_true(leads(c));
}

/* ---- the client ---- */

struct one {
    struct kv_call call;
    bool done;
    int32_t status;
    struct buf data;
};

static void on_done(struct kv_call *call, const struct kv_reply *reply)
{
    struct one *o = call->arg;
    o->done = true;
    o->status = reply->status;
    put_bytes(&o->data, reply->data);
}

static struct one *waited_for;
static bool is_done(struct cluster *c) { return waited_for->done; }

static int32_t ask(struct cluster *c, struct kv_op op, struct buf *data)
{
    struct one o = {0};
    o.call = (struct kv_call){
        .op = op, .done = on_done, .arg = &o, .deadline = clock_now(sim_clock(c->world, CLIENT)) + 30 * NS_PER_S};
    kv_call(c->client, &o.call);
    waited_for = &o;
    if (!pass_until(c, is_done, 40000)) fail_msg("a call is never answered");
    if (data)
        *data = o.data;
    else
        buf_free(&o.data);
    return o.status;
}

static void key_name(unsigned key, char out[16]) { snprintf(out, 16, "key/%02u", key); }

/* Some are inline in the map, some take a page, some several. */
static size_t value_of(unsigned key, uint32_t version, uint8_t *out)
{
    static const size_t sizes[] = {40, 900, 5000, 300};
    size_t n = sizes[(key + version) % 4];
    for (size_t i = 0; i < n; i += 8) store_u64(out + i, hash_mix(key * 1000003u + version * 31u + i));
    return n;
}

int32_t put(struct cluster *c, unsigned key)
{
    uint8_t bytes[5008];
    char name[16];
    uint32_t version = ++c->maybe[key];
    key_name(key, name);
    size_t n = value_of(key, version, bytes);
    int32_t status = ask(c, (struct kv_op){.code = KV_PUT, .name = slice_str(name), .data = slice_of(bytes, n)}, NULL);
    if (status >= 0) c->versions[key] = version;
    return status;
}

void put_all(struct cluster *c)
{
    for (unsigned k = 0; k < KEYS; k++) {
        int32_t status = put(c, k);
        if (status < 0) fail_msg("put of key %u: %s", k, err_text(status));
    }
}

void check_all(struct cluster *c)
{
    for (unsigned k = 0; k < KEYS; k++) {
        uint8_t bytes[5008];
        char name[16];
        struct buf data = {0};
        bool right = false;
        key_name(k, name);
        int32_t status = ask(c, (struct kv_op){.code = KV_GET, .name = slice_str(name)}, &data);
        if (status == -ENOENT && c->versions[k] == 0)
            right = true;
        else if (status < 0)
            fail_msg("get of key %u: %s", k, err_text(status));
        for (uint32_t v = max_u64(c->versions[k], 1) & UINT32_MAX; v <= c->maybe[k] && !right; v++)
            right = slice_eq(buf_slice(&data), slice_of(bytes, value_of(k, v, bytes)));
        if (!right) fail_msg("key %u is not what was acknowledged (version %u)", k, c->versions[k]);
        buf_free(&data);
    }
}

/* ---- life ---- */

struct cluster *cluster_new(uint64_t seed, struct sim_disk *const disks[SERVERS])
{
    struct cluster *c = xcalloc(1, sizeof *c);
    static char addrs[SERVERS][ADDR_MAX];
    static const char *list[SERVERS] = {addrs[0], addrs[1], addrs[2]};
    now = c;
    c->trace = (struct trace){.level = getenv("QFS_TRACE") ? TRACE_DEBUG : TRACE_ERROR, .line = on_line, .arg = c};
    if (!getenv("QFS_TRACE")) c->trace.line = NULL;
    c->world = sim_world_new(seed);
    struct sim_net_config nc = {.seed = seed + 1};
    c->net = sim_net_new(c->world, &nc);
    for (unsigned i = 0; i < SERVERS; i++) {
        struct sim_disk_config dc = {
            .seed = seed + 10 + i, .op_ns_min = 20 * NS_PER_US, .op_ns_max = 100 * NS_PER_US, .wait_percent = 30};
        struct server *s = &c->servers[i];
        *s = (struct server){.cluster = c, .at = i};
        s->disk = disks ? sim_disk_clone(disks[i], sim_clock(c->world, DISK_PROC + i), seed + 20 + i)
                        : sim_disk_new(sim_clock(c->world, DISK_PROC + i), &dc);
        address(addrs[i], i);
    }
    struct kv_client_config cc = {.addrs = list, .naddrs = SERVERS, .name = "fault", .seed = seed + 2};
    c->client = kv_client_new(sim_net_door(c->net, CLIENT), sim_clock(c->world, CLIENT), &cc);
    return c;
}

void cluster_free(struct cluster *c)
{
    c->what = COUNT_NONE;
    for (unsigned i = 0; i < SERVERS; i++) server_kill(c, i);
    sim_kill(c->world, CLIENT);
    kv_client_free(c->client);
    for (unsigned i = 0; i < SERVERS; i++) sim_disk_free(c->servers[i].disk);
    sim_net_free(c->net);
    sim_world_free(c->world);
    if (now == c) now = NULL;
    free(c);
}

/* What waits for the disk when its node is freed is left behind; so is all of a server whose memory ran out. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }
