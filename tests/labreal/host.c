/* host.c - a title's world from its beginning to its end. */
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/labreal/real.h"

#define LIMIT_NS (120 * NS_PER_S)

struct real_setup real_setup;

static void limit_fired(struct timer *t) { host_fail(t->arg, "the test takes more than 120 s"); }

static void server_init(struct host *h, unsigned i)
{
    struct server *s = &h->servers[i];
    *s = (struct server){.host = h, .at = i};
    snprintf(s->data, sizeof s->data, "%s/n%u", real_setup.dir, i + 1);
    snprintf(s->log, sizeof s->log, "%s/n%u.log", real_setup.dir, i + 1);
    proxy_addr(NOBODY, i, s->addr, sizeof s->addr);
    proxy_listen(h, 0, i);
}

struct host *host_new(const struct host_options *o)
{
    struct host *h = xcalloc(1, sizeof *h);
    h->opt = *o;
    h->loop = io_loop_new();
    h->net = io_net(h->loop);
    h->clock = io_clock(h->loop);
    h->begun = host_now(h);
    prng_seed(&h->rng, o->seed);
    list_init(&h->requests);
    flow_init(h);
    proxy_init(h);
    for (unsigned i = 0; i < o->n; i++) server_init(h, i);
    for (unsigned i = 0; i < o->n; i++) process_start(&h->servers[i]);
    for (unsigned i = 0; i < o->n; i++) control_wait(&h->servers[i]);
    host_unreliable(h, o->unreliable);
    for (unsigned i = 0; i < o->n; i++) h->servers[i].rpcs = 0; /* of processes that waited for the others to come up */
    h->begun = host_now(h);
    h->limit = (struct timer){.fire = limit_fired, .arg = h};
    clock_arm(h->clock, &h->limit, h->begun + LIMIT_NS);
    return h;
}

static void tell_faults(struct host *h)
{
    host_say(h, "%llu kills, %llu messages cut off, %llu lost, %llu delayed, %llu held back",
             (unsigned long long)h->kills, (unsigned long long)h->cut, (unsigned long long)h->lost,
             (unsigned long long)h->delayed, (unsigned long long)h->held);
    if (h->was_shut && !h->cut) host_fail(h, "nothing has met a way that was shut");
    if (h->was_unreliable && (!h->lost || !h->delayed))
        host_fail(h, "the unreliable network has lost or delayed nothing");
    if (h->was_reordering && !h->held) host_fail(h, "the reordering network has held back nothing");
}

void host_free(struct host *h)
{
    clock_disarm(h->clock, &h->limit);
    tell_faults(h);
    for (unsigned i = 0; i < h->opt.n; i++) process_kill(&h->servers[i]);
    io_loop_free(h->loop);
    free(h->applied.v);
    free(h);
}

uint64_t host_random(struct host *h) { return prng_u64(&h->rng); }

/* ---- words ---- */

static void print(struct host *h, const char *what, const char *fmt, va_list ap)
{
    printf("%9.3f s  %s", (double)(host_now(h) - h->begun) / (double)NS_PER_S, what);
    vprintf(fmt, ap);
    printf("\n");
    fflush(stdout);
}

void host_say(struct host *h, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print(h, "", fmt, ap);
    va_end(ap);
}

/* The servers die with this process. */
void host_fail(struct host *h, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print(h, "FAILED: ", fmt, ap);
    va_end(ap);
    process_show_logs(h);
    fflush(stdout);
    _exit(1);
}

/* ---- servers ---- */

bool host_up(struct host *h, unsigned i) { return h->servers[i].child != NULL; }

void host_kill(struct host *h, unsigned i)
{
    if (!host_up(h, i)) return;
    host_say(h, "kill %u", i);
    process_kill(&h->servers[i]);
}

void host_start(struct host *h, unsigned i)
{
    host_say(h, "start %u", i);
    process_start(&h->servers[i]);
}

uint64_t host_rpcs(struct host *h)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < h->opt.n; i++) n += h->servers[i].rpcs;
    return n;
}

const char *host_addr(struct host *h, unsigned i)
{
    static char addr[LAB_SERVERS_MAX][40];
    proxy_addr(0, i, addr[i], sizeof addr[i]);
    return addr[i];
}
