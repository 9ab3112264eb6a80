/* raft_lab.c - see raft_lab.h; the behaviours are those of the labs' own harness. A crash is a power cut or a kill by
 * chance, so that a server must not rely on what it has not made durable. */
#include "tests/lab/raft_lab.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/check_log.h"

void lab_unreliable(struct sim_cluster *c, bool on)
{
    struct sim_net_config *w = sim_net_config(c->net);
    w->delay_min = on ? 0 : 20 * NS_PER_US;
    w->delay_max = on ? 27 * NS_PER_MS : 200 * NS_PER_US;
    w->lossy_first = w->lossy_last = RAFT_FRAME_MSG;
    w->loss_percent = on ? 10 : 0;
    if (!on) w->reorder_percent = w->slow_percent = 0;
}

/* The labs hold two of three replies back for 0.2 to 2.2 s. On connections that keep their order that would hold back
 * all that follows, too; here two of three messages overtake the one before them, and one of ten is ten times slower.
 */
void lab_reorder(struct sim_cluster *c)
{
    struct sim_net_config *w = sim_net_config(c->net);
    w->reorder_percent = 66;
    w->slow_percent = 10;
}

/* ---- servers and ways ---- */

static void ways(struct lab *l)
{
    for (unsigned i = 0; i < l->n; i++)
        for (unsigned j = 0; j < l->n; j++)
            if (i != j) sim_cut(l->c->net, i, j, !l->connected[i] || !l->connected[j]);
}

void lab_connect(struct lab *l, unsigned i)
{
    sim_say(l->c, "connect %u", i);
    l->connected[i] = true;
    ways(l);
}

void lab_disconnect(struct lab *l, unsigned i)
{
    sim_say(l->c, "disconnect %u", i);
    l->connected[i] = false;
    ways(l);
}

static void note_applied(struct lab *l, unsigned i)
{
    if (lab_up(l, i)) l->ever[i] = max_u64(l->ever[i], sim_box_applied(l->c->servers[i].box));
}

void lab_crash(struct lab *l, unsigned i)
{
    lab_disconnect(l, i);
    note_applied(l, i);
    sim_server_end(l->c, i, prng_chance(&l->rng, 50) ? SIM_KILLED : SIM_POWER_CUT);
}

void lab_start_server(struct lab *l, unsigned i)
{
    lab_crash(l, i);
    sim_server_start(l->c, i);
}

void lab_begin(struct lab *l, const struct lab_test *t, uint64_t seed, unsigned n, bool unreliable)
{
    struct sim_options o;
    sim_options_default(&o, seed);
    o.integers = true;
    o.n = n;
    o.title = t->title;
    snprintf(o.text, sizeof o.text, "%s", t->title);
    *l = (struct lab){.c = sim_cluster_new(&o), .n = n};
    prng_seed(&l->rng, prng_u64(&l->c->rng));
    lab_unreliable(l->c, unreliable);
    for (unsigned i = 0; i < n; i++) l->connected[i] = true;
    sim_start_all(l->c);
}

void lab_end(struct lab *l)
{
    if (sim_ms(l->c) > 120000) sim_fail(l->c, "the test took more than 120 s");
    sim_cluster_free(l->c);
}

/* ---- looking ---- */

static bool leads(struct lab *l, unsigned i, uint64_t *term)
{
    struct node_status st;
    if (!lab_up(l, i)) return false;
    sim_status(l->c, i, &st);
    *term = st.raft.term;
    return st.raft.role == RAFT_LEADER;
}

uint64_t lab_term(struct lab *l, unsigned i)
{
    uint64_t term = 0;
    leads(l, i, &term);
    return term;
}

unsigned lab_check_one_leader(struct lab *l)
{
    for (unsigned round = 0; round < 10; round++) {
        uint64_t best = 0, term;
        unsigned leader = 0;
        sim_sleep(l->c, 500);
        for (unsigned i = 0; i < l->n; i++) {
            if (!l->connected[i] || !leads(l, i, &term) || term < best) continue;
            if (term == best) sim_fail(l->c, "term %llu has two leaders", (unsigned long long)term);
            best = term;
            leader = i;
        }
        if (best) return leader;
    }
    sim_fail(l->c, "expected one leader, got none");
}

uint64_t lab_check_terms(struct lab *l)
{
    uint64_t term = 0;
    for (unsigned i = 0; i < l->n; i++) {
        if (!l->connected[i]) continue;
        uint64_t t = lab_term(l, i);
        if (term && t != term) sim_fail(l->c, "servers disagree on the term");
        term = t;
    }
    return term;
}

void lab_check_no_leader(struct lab *l)
{
    uint64_t term;
    for (unsigned i = 0; i < l->n; i++)
        if (l->connected[i] && leads(l, i, &term)) sim_fail(l->c, "expected no leader, but %u claims to be", i);
}

unsigned lab_committed(struct lab *l, uint64_t index, uint64_t *value)
{
    unsigned n = 0;
    for (unsigned i = 0; i < l->n; i++) {
        note_applied(l, i);
        if (l->ever[i] < index) continue;
        n++;
        if (lab_up(l, i) && sim_box_applied(l->c->servers[i].box) >= index)
            *value = sim_box_value(l->c->servers[i].box, index);
    }
    return n;
}

bool lab_wait(struct lab *l, uint64_t index, unsigned k, uint64_t term, uint64_t *value)
{
    uint64_t pause = 10;
    for (unsigned i = 0; i < 30; i++) {
        if (lab_committed(l, index, value) >= k) return true;
        sim_sleep(l->c, pause);
        if (pause < 1000) pause *= 2;
        for (unsigned s = 0; term && s < l->n; s++)
            if (lab_term(l, s) > term) return false;
    }
    sim_fail(l->c, "only %u servers have index %llu, wanted %u", lab_committed(l, index, value),
             (unsigned long long)index, k);
}

uint64_t lab_rpcs(struct lab *l)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < l->n; i++) n += l->c->servers[i].last_received;
    return n;
}

/* ---- agreement ---- */

bool lab_start(struct lab *l, unsigned i, uint64_t command, uint64_t *index, uint64_t *term)
{
    return lab_up(l, i) && sim_box_start(l->c->servers[i].box, command, index, term);
}

static uint64_t offer(struct lab_one *o)
{
    struct lab *l = o->lab;
    uint64_t term;
    for (unsigned i = 0; i < l->n; i++) {
        l->cursor = (l->cursor + 1) % l->n;
        if (!l->connected[l->cursor] || !lab_start(l, l->cursor, o->command, &o->index, &term)) continue;
        o->waiting = true;
        o->offered = sim_now(l->c->world);
        return 20;
    }
    return 50;
}

static void one_step(struct sim_event *ev)
{
    struct lab_one *o = ev->arg;
    struct lab *l = o->lab;
    uint64_t now = sim_now(l->c->world), value = 0, pause = 20;
    if (now - o->begun >= 10 * NS_PER_S)
        sim_fail(l->c, "one(%llu) failed to reach agreement", (unsigned long long)o->command);
    if (o->waiting && lab_committed(l, o->index, &value) >= o->k && value == o->command) {
        o->done = true;
        return;
    }
    if (o->waiting && now - o->offered >= 2 * NS_PER_S) o->waiting = false;
    if (!o->waiting) pause = offer(o);
    sim_at(l->c->world, &o->ev, now + pause * NS_PER_MS);
}

void lab_one_begin(struct lab_one *o, struct lab *l, uint64_t command, unsigned k)
{
    *o = (struct lab_one){.lab = l, .command = command, .k = k, .begun = sim_now(l->c->world)};
    o->ev = (struct sim_event){.run = one_step, .arg = o};
    sim_at(l->c->world, &o->ev, o->begun);
}

static bool one_done(void *arg) { return ((struct lab_one *)arg)->done; }

uint64_t lab_one(struct lab *l, uint64_t command, unsigned k)
{
    struct lab_one o;
    lab_one_begin(&o, l, command, k);
    sim_wait(l->c, one_done, &o, 11000);
    return o.index;
}
