/* lab_kv.c - the key/value titles, on kv servers and kv clients. A clerk is a process with a client that does one call
 * at a time; get of an absent key is "". Keys and values are those of the original, so the files have such names, too.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/lab/lab.h"

#define CLERKS_MAX 24u
#define PAUSE_MS   20u

struct kvlab;

struct clerk {
    struct kvlab *lab;
    struct kv_client *kv;
    unsigned at;
    struct kv_call call;
    bool busy;
    void (*then)(struct clerk *c);
    struct buf got; /* what the last get returned */
    /* the append workload */
    unsigned id;
    uint64_t j;
    bool running, reading;
    struct buf expect;
    struct timer pause; /* between its operations: a cluster that only has them to do would leave no time to others */
};

struct kvlab {
    struct host *h;
    unsigned n, nclerks;
    int maxraftstate;
    struct prng rng;
    struct clerk clerks[CLERKS_MAX];
    bool stop;
    struct host_task repartition;
    bool repartitioning;
};

/* ---- cluster ---- */

static void begin(struct kvlab *l, const struct lab_test *t, uint64_t seed, unsigned n)
{
    struct host_options o = {
        .title = t->title, .seed = seed, .n = n, .unreliable = t->unreliable, .maxraftstate = t->maxraftstate};
    *l = (struct kvlab){.h = host_new(&o), .n = n, .maxraftstate = t->maxraftstate};
    prng_seed(&l->rng, host_random(l->h));
}

/* Between servers only: a clerk's ways stay as they are. */
static void split(struct kvlab *l, const uint8_t *side)
{
    for (unsigned i = 0; i < l->n; i++)
        for (unsigned j = 0; j < i; j++) host_way(l->h, i, j, side[i] == side[j]);
}

static void connect_all(struct kvlab *l)
{
    uint8_t side[LAB_SERVERS_MAX] = {0};
    split(l, side);
}

/* ---- clerks ---- */

static struct clerk *clerk_new(struct kvlab *l)
{
    const char *addrs[LAB_SERVERS_MAX];
    check(l->nclerks < CLERKS_MAX);
    struct clerk *c = &l->clerks[l->nclerks];
    for (unsigned i = 0; i < l->n; i++) { /* in random order */
        unsigned at = (unsigned)prng_below(&l->rng, i + 1);
        addrs[i] = addrs[at];
        addrs[at] = host_addr(l->h, i);
    }
    struct kv_client_config cfg = {.addrs = addrs, .naddrs = l->n, .name = "clerk", .seed = prng_u64(&l->rng)};
    *c = (struct clerk){.lab = l, .at = l->nclerks++};
    c->kv = kv_client_new(host_clerk_net(l->h, c->at), host_clerk_clock(l->h, c->at), &cfg);
    return c;
}

/* The clerk reaches the servers with the bit set, no others. */
static void clerk_reaches(struct clerk *c, unsigned mask)
{
    for (unsigned i = 0; i < c->lab->n; i++) host_clerk_way(c->lab->h, c->at, i, mask >> i & 1);
}

static void clerk_free(struct clerk *c)
{
    host_clerk_end(c->lab->h, c->at);
    kv_client_free(c->kv);
    buf_free(&c->got);
    buf_free(&c->expect);
}

/* Clerks of an iteration end with it. */
static void drop_clerks(struct kvlab *l, unsigned keep)
{
    while (l->nclerks > keep) clerk_free(&l->clerks[--l->nclerks]);
}

static void end(struct kvlab *l)
{
    drop_clerks(l, 0);
    host_free(l->h);
}

static void answered(struct kv_call *call, const struct kv_reply *reply)
{
    struct clerk *c = call->arg;
    bool absent = call->op.code == KV_GET && reply->status == -ENOENT;
    if (reply->status < 0 && !absent)
        host_fail(c->lab->h, "%s answers %s", kv_code_name(call->op.code), err_text(reply->status));
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
    if (!host_wait(c->lab->h, is_idle, c, 60000)) host_fail(c->lab->h, "an operation takes more than a minute");
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
        host_fail(c->lab->h, "key %s is \"%.*s\", expected \"%s\"", key, (int)min_u64(v.n, 100), (const char *)v.p,
                  value);
}

/* ---- the append workload ---- */

static void append_step(struct clerk *c)
{
    struct clock *clock = host_clerk_clock(c->lab->h, c->at);
    struct kvlab *l = c->lab;
    if (c->reading && !slice_eq(buf_slice(&c->got), buf_slice(&c->expect)))
        host_fail(l->h, "client %u reads \"%.*s\", expected \"%.*s\"", c->id, (int)min_u64(c->got.n, 200),
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
        if (!at) host_fail(l->h, "append \"%s\" is missing", want);
        size_t pos = (size_t)(at - v.p);
        if (memmem(at + 1, v.n - pos - 1, want, (size_t)n)) host_fail(l->h, "append \"%s\" is there twice", want);
        if (k && pos <= last) host_fail(l->h, "append \"%s\" is out of order", want);
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

static uint64_t repartition(struct host_task *t)
{
    struct kvlab *l = t->arg;
    uint8_t side[LAB_SERVERS_MAX];
    if (!l->repartitioning) return HOST_DONE;
    for (unsigned i = 0; i < l->n; i++) side[i] = (uint8_t)prng_below(&l->rng, 2);
    split(l, side);
    return (ET + prng_below(&l->rng, 200)) * NS_PER_MS;
}

static bool repartitioned(void *arg) { return ((struct kvlab *)arg)->repartition.done; }

/* The first that claims to lead goes last into the minority. */
static unsigned make_partition(struct kvlab *l, uint8_t *side)
{
    unsigned leader = 0, minority = 0, count = 0;
    for (unsigned i = l->n; i-- > 0;) {
        struct host_figures f;
        host_figures(l->h, i, &f);
        if (f.leads) leader = i;
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

/* The largest of the first so many servers. */
static struct host_figures sizes(struct kvlab *l, unsigned servers)
{
    struct host_figures f, most = {0};
    for (unsigned i = 0; i < servers; i++) {
        host_figures(l->h, i, &f);
        most.log_bytes = max_u64(most.log_bytes, f.log_bytes);
        most.snapshot_bytes = max_u64(most.snapshot_bytes, f.snapshot_bytes);
    }
    return most;
}

/* At once in virtual time. On real disks the checkpoint that is under way when the last change has been answered is
 * waited for. */
static void check_log_size(struct kvlab *l, unsigned servers)
{
    uint64_t until = host_now(l->h) + host_settle_ms(l->h) * NS_PER_MS;
    struct host_figures f;
    while ((f = sizes(l, servers)).log_bytes > 2 * (uint64_t)l->maxraftstate) {
        if (host_now(l->h) >= until)
            host_fail(l->h, "logs were not trimmed: %llu bytes, snapshots of %llu", (unsigned long long)f.log_bytes,
                      (unsigned long long)f.snapshot_bytes);
        host_sleep(l->h, 10);
    }
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
    host_sleep(l->h, 1000);
    l->repartitioning = t->partitions;
    l->repartition = (struct host_task){.step = repartition, .arg = l};
    if (t->partitions) host_begin(l->h, &l->repartition);
    host_sleep(l->h, t->partitions ? 5000 : 4000);
    l->stop = true;
    l->repartitioning = false;
    if (t->partitions) {
        if (!host_wait(l->h, repartitioned, l, 5000)) host_fail(l->h, "the repartitioner does not end");
        connect_all(l);
        host_sleep(l->h, ET);
    }
    if (t->crash) {
        for (unsigned i = 0; i < l->n; i++) host_kill(l->h, i);
        host_sleep(l->h, ET);
        for (unsigned i = 0; i < l->n; i++) host_start(l->h, i);
    }
    if (!host_wait(l->h, all_stopped, l, 30000)) host_fail(l->h, "a client does not come to an end");
    for (int i = 0; i < t->clients; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        if (clients[i]->j < 10)
            host_say(l->h, "warning: client %d managed only %llu appends", i, (unsigned long long)clients[i]->j);
        check_appends(l, (unsigned)i, get(observer, key), clients[i]->j);
    }
}

static void generic(const struct lab_test *t, uint64_t seed)
{
    struct kvlab l;
    begin(&l, t, seed, (unsigned)t->servers);
    struct clerk *observer = clerk_new(&l);
    for (unsigned round = 0; round < 3; round++) {
        run_iteration(&l, t, observer);
        if (t->maxraftstate > 0)
            check_log_size(&l, l.n);
        else if (sizes(&l, l.n).snapshot_bytes)
            host_fail(l.h, "a snapshot was made although none is needed");
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
    struct clerk *observer = clerk_new(&l);
    put(observer, "k", "");
    for (unsigned i = 0; i < 5; i++) {
        struct clerk *c = clerk_new(&l);
        c->id = i;
        c->running = true;
        one_key_step(c);
    }
    if (!host_wait(l.h, all_stopped, &l, 60000)) host_fail(l.h, "the clients do not come to an end");
    struct slice v = get(observer, "k");
    for (unsigned i = 0; i < 5; i++) check_appends(&l, i, v, 10);
    end(&l);
}

static void one_partition(const struct lab_test *t, uint64_t seed)
{
    struct kvlab l;
    uint8_t side[LAB_SERVERS_MAX] = {0};
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
    host_sleep(l.h, 1000);
    if (!a->busy) host_fail(l.h, "a put has completed in the minority");
    if (!b->busy) host_fail(l.h, "a get has completed in the minority");
    expect(m, "1", "14");
    put(m, "1", "16");
    expect(m, "1", "16");
    connect_all(&l);
    clerk_reaches(a, 31);
    clerk_reaches(b, 31);
    host_sleep(l.h, ET);
    if (!host_wait(l.h, is_idle, a, 3000)) host_fail(l.h, "the put does not complete after the heal");
    if (!host_wait(l.h, is_idle, b, 3000)) host_fail(l.h, "the get does not complete after the heal");
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
            if (side[i] != side[j]) host_reset(l->h, i, j);
    split(l, side);
}

static void install_snapshot(const struct lab_test *t, uint64_t seed)
{
    struct kvlab l;
    struct host_figures f;
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
    host_sleep(l.h, ET);
    put(c, "b", "B");
    check_log_size(&l, l.n);
    camps(&l, 0, 1, 0);
    struct clerk *d = clerk_new(&l);
    clerk_reaches(d, 5);
    put(d, "c", "C");
    put(d, "d", "D");
    expect(d, "a", "A");
    expect(d, "b", "B");
    expect(d, "1", "1");
    expect(d, "49", "49");
    host_figures(l.h, 2, &f);
    if (f.installed == 0) host_fail(l.h, "server 2 has caught up without a snapshot");
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
    check_log_size(&l, l.n);
    struct host_figures f = sizes(&l, l.n);
    if (f.snapshot_bytes > 500)
        host_fail(l.h, "the snapshot is too large: %llu bytes", (unsigned long long)f.snapshot_bytes);
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
