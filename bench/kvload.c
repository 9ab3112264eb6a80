/* kvload.c - load on a cluster, for bench/run kv: closed loops of clients with one operation in flight each. They share
 * at most CONNS kv clients (connections with a session each), by default 16, which is what etcd's own tool does and what
 * etcd is measured with here; CONNS=0: each has its own.
 *
 *   kvload CLUSTER fill|put|get SIZE CLIENTS SECS
 *   kvload CLUSTER failover SIZE CLIENTS SECS PID     kills PID (SIGKILL) under load; the time to the first
 * acknowledged put that was issued after it Prints "RESULT ops= secs= rate= p50us= p99us= maxus= errs=" or "FAILOVER
 * ms=". */
#include "cli/cli.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define STEPS 64u /* histogram steps per power of two */

struct load {
    struct io_loop *loop;
    enum kv_code code;
    unsigned clients, running;
    uint64_t keys, begin, end, ops, errs, max, killed_at, first_after;
    size_t size;
    pid_t victim;
    struct timer kill_timer;
    struct prng rng;
    uint8_t *value;
    uint64_t hist[64 * STEPS];
};

struct worker {
    struct load *load;
    struct kv_client *kv;
    struct kv_call call;
    uint64_t sent;
    char key[32];
    uint64_t next_fill;
};

static unsigned slot(uint64_t v)
{
    if (v < STEPS) return (unsigned)v;
    unsigned e = 63u - (unsigned)__builtin_clzll(v);
    return (e - 5) * STEPS + (unsigned)((v >> (e - 6)) & (STEPS - 1));
}

static uint64_t slot_value(unsigned s) { return s < STEPS ? s : ((uint64_t)STEPS + s % STEPS) << (s / STEPS - 1); }

static double quantile_us(const struct load *l, double q)
{
    uint64_t want = (uint64_t)((double)l->ops * q), seen = 0;
    for (unsigned i = 0; i < 64 * STEPS; i++)
        if ((seen += l->hist[i]) > want) return (double)slot_value(i) / 1e3;
    return (double)l->max / 1e3;
}

/* clock_now is constant within a turn: take the time of day of the machine itself for latencies. */
static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static void send_next(struct worker *w);

static void answered(struct kv_call *call, const struct kv_reply *reply)
{
    struct worker *w = call->arg;
    struct load *l = w->load;
    uint64_t now = now_ns(), took = now - w->sent;
    if (reply->status < 0 && !(l->code == KV_GET && reply->status == -ENOENT)) l->errs++;
    l->ops++;
    l->hist[slot(took)]++;
    l->max = max_u64(l->max, took);
    if (l->killed_at && w->sent > l->killed_at && !l->first_after && reply->status >= 0) l->first_after = now;
    send_next(w);
}

static void send_next(struct worker *w)
{
    struct load *l = w->load;
    w->sent = now_ns();
    bool over = l->victim ? l->first_after != 0 : w->sent >= l->end;
    bool filling = l->code == KV_PUT && w->next_fill != UINT64_MAX;
    if (filling ? w->next_fill >= l->keys : over) {
        if (--l->running == 0) io_loop_stop(l->loop);
        return;
    }
    uint64_t k = filling ? w->next_fill : prng_below(&l->rng, l->keys);
    if (filling) w->next_fill += l->clients;
    int n = snprintf(w->key, sizeof w->key, "b%zu/%llu", l->size, (unsigned long long)k);
    w->call =
        (struct kv_call){.op = {.code = l->code, .name = slice_of(w->key, (size_t)n)}, .done = answered, .arg = w};
    if (l->code == KV_PUT) w->call.op.data = slice_of(l->value, l->size);
    kv_call(w->kv, &w->call);
}

static void kill_fired(struct timer *t)
{
    struct load *l = t->arg;
    kill(l->victim, SIGKILL);
    l->killed_at = now_ns();
}

int main(int argc, char **argv)
{
    struct cluster cluster;
    uint64_t size, clients, conns = 16, pid = 0;
    if (argc < 6 || !parse_u64(argv[3], &size) || !parse_u64(argv[4], &clients) || !clients || size > KV_DATA_MAX)
        return usage_error("kvload", "usage: kvload CLUSTER fill|put|get|failover SIZE CLIENTS SECS [PID]");
    if (getenv("CONNS") && !parse_u64(getenv("CONNS"), &conns)) return usage_error("kvload", "CONNS is no number");
    double secs = atof(argv[5]);
    if (argc > 6 && !parse_u64(argv[6], &pid)) return EXIT_USAGE;
    if (cluster_parse("kvload", argv[1], &cluster)) return EXIT_USAGE;
    static struct load l;
    bool fill = !strcmp(argv[2], "fill"), failover = !strcmp(argv[2], "failover");
    l.loop = io_loop_new();
    l.code = !strcmp(argv[2], "get") ? KV_GET : KV_PUT;
    l.clients = l.running = (unsigned)clients;
    l.size = size;
    l.keys = size >= 256 * 1024 ? 32 : 10000;
    l.victim = failover ? (pid_t)pid : 0;
    prng_seed(&l.rng, io_random());
    l.value = xmalloc(size + 1);
    for (size_t i = 0; i < size; i++) l.value[i] = (uint8_t)('a' + prng_below(&l.rng, 26));
    const char *addrs[RAFT_PEERS_MAX];
    for (unsigned i = 0; i < cluster.n; i++) addrs[i] = cluster.members[i].addr;
    struct worker *ws = xcalloc(clients, sizeof *ws);
    for (unsigned i = 0; i < clients; i++) {
        struct kv_client_config config = {.addrs = addrs, .naddrs = cluster.n, .name = "kvload", .seed = io_random()};
        bool own = conns == 0 || i < conns;
        ws[i] = (struct worker){.load = &l,
                                .kv = own ? kv_client_new(io_net(l.loop), io_clock(l.loop), &config) : ws[i % conns].kv,
                                .next_fill = fill ? i : UINT64_MAX};
    }
    l.begin = now_ns();
    l.end = l.begin + (uint64_t)(secs * 1e9);
    if (failover) {
        l.kill_timer = (struct timer){.fire = kill_fired, .arg = &l};
        clock_arm(io_clock(l.loop), &l.kill_timer, clock_now(io_clock(l.loop)) + (uint64_t)(secs / 2 * 1e9));
    }
    for (unsigned i = 0; i < clients; i++) send_next(&ws[i]);
    io_loop_run(l.loop);
    double took = (double)(now_ns() - l.begin) / 1e9;
    if (failover)
        printf("FAILOVER ms=%.1f\n", (double)(l.first_after - l.killed_at) / 1e6);
    else
        printf("RESULT ops=%llu secs=%.3f rate=%.1f p50us=%.1f p99us=%.1f maxus=%.1f errs=%llu\n",
               (unsigned long long)l.ops, took, (double)l.ops / took, quantile_us(&l, .5), quantile_us(&l, .99),
               (double)l.max / 1e3, (unsigned long long)l.errs);
    return EXIT_OK;
}
