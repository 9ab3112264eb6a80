/* agree.c - see agree.h. */
#include "tests/sim/agree.h"

static bool has_leader(void *arg) { return sim_leader(arg) >= 0; }

unsigned sim_leader_within(struct sim_cluster *c, uint64_t ms)
{
    if (!sim_wait(c, has_leader, c, ms)) sim_fail(c, "no leader within %llu ms", (unsigned long long)ms);
    return (unsigned)sim_leader(c);
}

struct goal {
    struct sim_cluster *c;
    uint64_t value, index;
    unsigned k;
};

/* How many running servers have applied the goal's value at its index. */
static unsigned have(const struct goal *g)
{
    unsigned n = 0;
    for (unsigned i = 0; i < g->c->opt.n; i++) {
        const struct sim_box *b = g->c->servers[i].box;
        if (!b || sim_box_applied(b) < g->index) continue;
        n += sim_box_value(b, g->index) == g->value;
    }
    return n;
}

static bool reached(void *arg) { return have(arg) >= ((struct goal *)arg)->k; }

uint64_t sim_agree(struct sim_cluster *c, uint64_t value, unsigned k, uint64_t ms)
{
    uint64_t until = sim_now(c->world) + ms * NS_PER_MS, term;
    while (sim_now(c->world) < until) {
        struct goal g = {.c = c, .value = value, .k = k};
        int l = sim_leader(c);
        if (l >= 0 && sim_box_start(c->servers[l].box, value, &g.index, &term) && sim_wait(c, reached, &g, 2000))
            return g.index;
        sim_sleep(c, 20);
    }
    sim_fail(c, "no agreement on %llu by %u servers within %llu ms", (unsigned long long)value, k,
             (unsigned long long)ms);
}
