/* lab_later.c - what later editions of the labs ask for, on real processes: bytes of RPCs, speed, and linearizability
 * of keys that clients share while the network is bad, all servers crash and partitions come and go.
 *
 * Every answer names the log index at which its operation took effect. That is the witness: if the operations on a key,
 * in the order of these indexes, explain every value that was read, and the order agrees with real time, the history is
 * linearizable. Changes that went through the log in one entry have one index; any order of theirs will do. */
#include <stdio.h>

#include "tests/lab/raft_lab.h"
#include "tests/labreal/real.h"

#define CLIENTS_MAX 15u
#define PAUSE_MS    60u
#define BATCH_MAX   6u /* changes of one key in one entry */

/* ---- clients ---- */

struct op {
    enum kv_code code;
    unsigned key;
    uint64_t called, returned, index;
    struct buf value; /* what was written, or read */
};

struct history {
    struct op *v;
    size_t n, cap;
};

struct later;

struct client {
    struct later *l;
    struct kv_client *kv;
    unsigned at;
    uint64_t j;
    struct kv_call call;
    struct op now;
    bool busy, running;
    struct timer pause;
};

struct later {
    struct host *h;
    unsigned n, nclients;
    struct prng rng;
    struct client clients[CLIENTS_MAX];
    struct history history;
    bool stop;
    struct host_task repartition;
};

static void begin(struct later *l, const struct lab_test *t, uint64_t seed)
{
    struct host_options o = {.title = t->title,
                             .seed = seed,
                             .n = (unsigned)t->servers,
                             .unreliable = t->unreliable,
                             .maxraftstate = t->maxraftstate};
    *l = (struct later){.h = host_new(&o), .n = o.n};
    prng_seed(&l->rng, host_random(l->h));
}

static void client_new(struct later *l)
{
    const char *addrs[LAB_SERVERS_MAX];
    struct client *c = &l->clients[l->nclients];
    for (unsigned i = 0; i < l->n; i++) addrs[i] = host_addr(l->h, i);
    struct kv_client_config cfg = {.addrs = addrs, .naddrs = l->n, .name = "client", .seed = prng_u64(&l->rng)};
    *c = (struct client){.l = l, .at = l->nclients++};
    c->kv = kv_client_new(host_clerk_net(l->h, c->at), host_clerk_clock(l->h, c->at), &cfg);
}

static void clients_free(struct later *l)
{
    while (l->nclients) {
        struct client *c = &l->clients[--l->nclients];
        host_clerk_end(l->h, c->at);
        kv_client_free(c->kv);
    }
}

static void end(struct later *l)
{
    clients_free(l);
    for (size_t i = 0; i < l->history.n; i++) buf_free(&l->history.v[i].value);
    free(l->history.v);
    host_free(l->h);
}

static void record(struct history *h, const struct op *op)
{
    if (h->n == h->cap) {
        h->cap = h->cap ? h->cap * 2 : 1024;
        h->v = xrealloc(h->v, h->cap * sizeof *h->v);
    }
    h->v[h->n++] = *op;
}

static void next_later(struct client *c);

static void answered(struct kv_call *call, const struct kv_reply *reply)
{
    struct client *c = call->arg;
    struct host *h = c->l->h;
    bool absent = c->now.code == KV_GET && reply->status == -ENOENT;
    if (reply->status < 0 && !absent) host_fail(h, "%s answers %s", kv_code_name(c->now.code), err_text(reply->status));
    if (c->now.code == KV_GET && !absent) buf_append(&c->now.value, reply->data.p, reply->data.n);
    c->now.returned = host_now(h);
    c->now.index = reply->index;
    record(&c->l->history, &c->now);
    c->busy = false;
    if (c->running) next_later(c);
}

static void call(struct client *c, enum kv_code code, unsigned key, const char *value)
{
    char name[16];
    snprintf(name, sizeof name, "%u", key);
    c->busy = true;
    c->now = (struct op){.code = code, .key = key, .called = host_now(c->l->h)};
    buf_append(&c->now.value, value, strlen(value));
    c->call = (struct kv_call){
        .op = {.code = code, .name = slice_str(name), .data = slice_str(value)}, .done = answered, .arg = c};
    kv_call(c->kv, &c->call);
}

static bool is_idle(void *arg) { return !((struct client *)arg)->busy; }

/* ---- linearizability ---- */

static int by_index(const void *a, const void *b)
{
    const struct op *x = *(const struct op *const *)a, *y = *(const struct op *const *)b;
    if (x->index != y->index) return x->index < y->index ? -1 : 1;
    return (x->code == KV_GET) - (y->code == KV_GET);
}

struct order {
    struct host *h;
    const struct op **v; /* the operations of one key by index, in an entry changes before reads */
    size_t n;
};

/* Applies v[at] to the state; false: it read something else. */
static bool explains(const struct op *op, struct buf *state)
{
    if (op->code == KV_GET) return slice_eq(buf_slice(&op->value), buf_slice(state));
    if (op->code == KV_PUT) buf_clear(state);
    buf_append(state, op->value.p, op->value.n);
    return true;
}

static void swap(struct order *o, size_t a, size_t b)
{
    const struct op *t = o->v[a];
    o->v[a] = o->v[b];
    o->v[b] = t;
}

/* Is there an order of the changes within their entries so that all from `at` on is explained? `longest`: how far the
 * best try came. */
static bool search(struct order *o, size_t at, struct slice before, size_t *longest)
{
    struct buf state = {0};
    buf_append(&state, before.p, before.n);
    bool good = true;
    for (; good && at < o->n; at++) {
        size_t last = at;
        while (last + 1 < o->n && o->v[last + 1]->index == o->v[at]->index && o->v[last + 1]->code != KV_GET) last++;
        *longest = at > *longest ? at : *longest;
        if (o->v[at]->code == KV_GET || last == at) {
            good = explains(o->v[at], &state);
            continue;
        }
        if (last - at >= BATCH_MAX) host_fail(o->h, "%zu changes of one key in one entry are too many", last - at + 1);
        good = false;
        for (size_t first = at; !good && first <= last; first++) {
            struct buf then = {0};
            swap(o, at, first);
            buf_append(&then, state.p, state.n);
            explains(o->v[at], &then);
            good = search(o, at + 1, buf_slice(&then), longest);
            buf_free(&then);
            if (!good) swap(o, at, first);
        }
        break;
    }
    buf_free(&state);
    return good;
}

/* Nothing took effect before what had returned when it was called. */
static void check_real_time(struct order *o)
{
    for (size_t b = 0; b < o->n; b++) {
        for (size_t a = b + 1; a < o->n; a++) {
            const struct op *x = o->v[b], *y = o->v[a];
            bool same_read = x->index == y->index && x->code == KV_GET && y->code == KV_GET;
            if (y->returned < x->called && !same_read)
                host_fail(o->h, "key %u: an operation of index %llu had returned before one of index %llu was called",
                          x->key, (unsigned long long)y->index, (unsigned long long)x->index);
        }
    }
}

static void check_key(struct later *l, unsigned key)
{
    const struct history *h = &l->history;
    struct order o = {.h = l->h, .v = xcalloc(h->n ? h->n : 1, sizeof(struct op *))};
    size_t longest = 0;
    for (size_t i = 0; i < h->n; i++)
        if (h->v[i].key == key) o.v[o.n++] = &h->v[i];
    qsort(o.v, o.n, sizeof *o.v, by_index);
    check_real_time(&o);
    if (!search(&o, 0, (struct slice){0}, &longest)) {
        const struct op *op = o.v[longest];
        host_fail(l->h, "key %u: what a read of index %llu gave cannot be explained: \"%.*s\"", key,
                  (unsigned long long)op->index, (int)min_u64(op->value.n, 300), (const char *)op->value.p);
    }
    free(o.v);
}

/* ---- titles ---- */

static void rpc_bytes(const struct lab_test *t, uint64_t seed)
{
    struct lab l;
    lab_begin(&l, t, seed, 3, false);
    lab_one(&l, 99, 3);
    l.h->padding = 5000 - 8;
    uint64_t before = l.h->peer_bytes;
    for (unsigned i = 0; i < 10; i++) {
        uint64_t index = lab_one(&l, 100 + i, 3);
        if (index != 2 + i) host_fail(l.h, "a command of 5000 bytes took index %llu", (unsigned long long)index);
    }
    uint64_t sent = l.h->peer_bytes - before;
    host_say(l.h, "%llu bytes for 10 commands of 5000", (unsigned long long)sent);
    if (sent > 3 * 50000 + 50000) host_fail(l.h, "too many RPC bytes: %llu", (unsigned long long)sent);
    lab_end(&l);
}

static void speed(const struct lab_test *t, uint64_t seed)
{
    struct later l;
    char value[32];
    begin(&l, t, seed);
    client_new(&l);
    struct client *c = &l.clients[0];
    call(c, KV_PUT, 0, "");
    host_wait(l.h, is_idle, c, 60000);
    uint64_t began = host_now(l.h);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(value, sizeof value, "x 0 %u y", i);
        call(c, KV_APPEND, 0, value);
        if (!host_wait(l.h, is_idle, c, 60000)) host_fail(l.h, "an append takes more than a minute");
    }
    uint64_t each = (host_now(l.h) - began) / 1000;
    host_say(l.h, "%llu us an append", (unsigned long long)(each / NS_PER_US));
    if (each > 33300 * NS_PER_US) host_fail(l.h, "appends take %llu us", (unsigned long long)(each / NS_PER_US));
    call(c, KV_GET, 0, "");
    if (!host_wait(l.h, is_idle, c, 60000)) host_fail(l.h, "a get takes more than a minute");
    check_key(&l, 0);
    end(&l);
}

static void next_fired(struct timer *t)
{
    struct client *c = t->arg;
    struct later *l = c->l;
    char value[32];
    unsigned key = (unsigned)prng_below(&l->rng, l->nclients);
    uint64_t what = prng_below(&l->rng, 1000);
    snprintf(value, sizeof value, "x %u %llu y", c->at, (unsigned long long)c->j);
    c->j += what < 600;
    call(c, what < 500 ? KV_APPEND : what < 600 ? KV_PUT : KV_GET, key, what < 600 ? value : "");
}

static void next_later(struct client *c)
{
    struct host *h = c->l->h;
    c->running = !c->l->stop;
    c->pause = (struct timer){.fire = next_fired, .arg = c};
    if (c->running) clock_arm(h->clock, &c->pause, host_now(h) + prng_below(&c->l->rng, PAUSE_MS * NS_PER_MS));
}

static bool all_stopped(void *arg)
{
    const struct later *l = arg;
    for (unsigned i = 0; i < l->nclients; i++)
        if (l->clients[i].running || l->clients[i].busy) return false;
    return true;
}

static void split(struct later *l, unsigned side)
{
    for (unsigned i = 0; i < l->n; i++)
        for (unsigned j = 0; j < i; j++) host_way(l->h, i, j, (side >> i & 1) == (side >> j & 1));
}

static uint64_t repartition(struct host_task *t)
{
    struct later *l = t->arg;
    if (l->stop) return HOST_DONE;
    split(l, (unsigned)prng_below(&l->rng, 1u << l->n));
    return (ET + prng_below(&l->rng, 200)) * NS_PER_MS;
}

static bool repartitioned(void *arg) { return ((struct later *)arg)->repartition.done; }

/* A client that was used before goes on counting, so that no value is written twice. */
static void run_iteration(struct later *l, const struct lab_test *t, unsigned round)
{
    l->stop = false;
    for (int i = 0; i < t->clients; i++) {
        client_new(l);
        l->clients[i].j = round * 100000u;
    }
    for (int i = 0; i < t->clients; i++) next_later(&l->clients[i]);
    host_sleep(l->h, 1000);
    l->repartition = (struct host_task){.step = repartition, .arg = l};
    host_begin(l->h, &l->repartition);
    host_sleep(l->h, 5000);
    l->stop = true;
    if (!host_wait(l->h, repartitioned, l, 5000)) host_fail(l->h, "the repartitioner does not end");
    split(l, 0);
    host_sleep(l->h, ET);
    for (unsigned i = 0; i < l->n; i++) host_kill(l->h, i);
    host_sleep(l->h, ET);
    for (unsigned i = 0; i < l->n; i++) host_start(l->h, i);
    if (!host_wait(l->h, all_stopped, l, 30000)) host_fail(l->h, "a client does not come to an end");
    clients_free(l);
}

static void linearizable(const struct lab_test *t, uint64_t seed)
{
    struct later l;
    begin(&l, t, seed);
    for (unsigned round = 0; round < 3; round++) run_iteration(&l, t, round);
    for (int key = 0; key < t->clients; key++) check_key(&l, (unsigned)key);
    host_say(l.h, "%zu operations", l.history.n);
    if (l.history.n < 500) host_say(l.h, "warning: only %zu operations", l.history.n);
    end(&l);
}

const struct lab_test lab_later_tests[] = {
    {.title = "Test (2B): RPC byte count", .run = rpc_bytes},
    {.title = "Test: ops complete fast enough", .run = speed, .servers = 3, .clients = 1, .maxraftstate = -1},
    {"Test: unreliable net, restarts, partitions, linearizability checks", NULL, linearizable, 7, 15, true, true, true,
     -1},
    {"Test: unreliable net, restarts, partitions, snapshots, linearizability checks", NULL, linearizable, 7, 15, true,
     true, true, 1000},
    {0},
};
