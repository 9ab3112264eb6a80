/* raft_lab.c - see raft_lab.h; the behaviours are those of the labs' own harness. */
#include "tests/lab/raft_lab.h"

/* ---- servers and ways ---- */

static void ways(struct lab *l)
{
    for (unsigned i = 0; i < l->n; i++)
        for (unsigned j = 0; j < i; j++) host_way(l->h, i, j, l->connected[i] && l->connected[j]);
}

void lab_connect(struct lab *l, unsigned i)
{
    host_say(l->h, "connect %u", i);
    l->connected[i] = true;
    ways(l);
}

void lab_disconnect(struct lab *l, unsigned i)
{
    host_say(l->h, "disconnect %u", i);
    l->connected[i] = false;
    ways(l);
}

void lab_crash(struct lab *l, unsigned i)
{
    lab_disconnect(l, i);
    host_kill(l->h, i);
}

void lab_start_server(struct lab *l, unsigned i)
{
    lab_crash(l, i);
    host_start(l->h, i);
}

void lab_begin(struct lab *l, const struct lab_test *t, uint64_t seed, unsigned n, bool unreliable)
{
    struct host_options o = {
        .title = t->title, .seed = seed, .n = n, .integers = true, .unreliable = unreliable, .maxraftstate = -1};
    *l = (struct lab){.h = host_new(&o), .n = n};
    prng_seed(&l->rng, host_random(l->h));
    for (unsigned i = 0; i < n; i++) l->connected[i] = true;
}

void lab_end(struct lab *l) { host_free(l->h); }

/* ---- looking ---- */

uint64_t lab_term(struct lab *l, unsigned i)
{
    uint64_t term = 0;
    host_leads(l->h, i, &term);
    return term;
}

unsigned lab_check_one_leader(struct lab *l)
{
    for (unsigned round = 0; round < 10; round++) {
        uint64_t terms[LAB_SERVERS_MAX], best = 0;
        unsigned leader = 0, nterms = 0;
        host_sleep(l->h, 500);
        for (unsigned i = 0; i < l->n; i++) {
            if (!l->connected[i] || !host_leads(l->h, i, &terms[nterms])) continue;
            for (unsigned k = 0; k < nterms; k++)
                if (terms[k] == terms[nterms])
                    host_fail(l->h, "term %llu has two leaders", (unsigned long long)terms[k]);
            if (terms[nterms] > best) {
                best = terms[nterms];
                leader = i;
            }
            nterms++;
        }
        if (best) return leader;
    }
    host_fail(l->h, "expected one leader, got none");
}

uint64_t lab_check_terms(struct lab *l)
{
    uint64_t term = 0;
    for (unsigned i = 0; i < l->n; i++) {
        if (!l->connected[i]) continue;
        uint64_t t = lab_term(l, i);
        if (term && t != term) host_fail(l->h, "servers disagree on the term");
        term = t;
    }
    return term;
}

void lab_check_no_leader(struct lab *l)
{
    uint64_t term;
    for (unsigned i = 0; i < l->n; i++)
        if (l->connected[i] && host_leads(l->h, i, &term))
            host_fail(l->h, "expected no leader, but %u claims to be", i);
}

bool lab_wait(struct lab *l, uint64_t index, unsigned k, uint64_t term, uint64_t *value)
{
    uint64_t pause = 10;
    for (unsigned i = 0; i < 30; i++) {
        if (host_committed(l->h, index, value) >= k) return true;
        host_sleep(l->h, pause);
        if (pause < 1000) pause *= 2;
        for (unsigned s = 0; term && s < l->n; s++)
            if (lab_term(l, s) > term) return false;
    }
    host_fail(l->h, "only %u servers have index %llu, wanted %u", host_committed(l->h, index, value),
              (unsigned long long)index, k);
}

/* ---- agreement ---- */

static uint64_t offer(struct lab_one *o)
{
    struct lab *l = o->lab;
    uint64_t term;
    for (unsigned i = 0; i < l->n; i++) {
        unsigned s = o->cursor = (o->cursor + 1) % l->n;
        if (!l->connected[s] || !host_offer(l->h, s, o->command, &o->index, &term)) continue;
        o->waiting = true;
        o->offered = host_now(l->h);
        return 20 * NS_PER_MS;
    }
    return 50 * NS_PER_MS;
}

static uint64_t one_step(struct host_task *t)
{
    struct lab_one *o = t->arg;
    struct lab *l = o->lab;
    uint64_t now = host_now(l->h), value = 0;
    if (o->waiting && host_committed(l->h, o->index, &value) >= o->k && value == o->command) return HOST_DONE;
    if (now - o->begun >= 10 * NS_PER_S)
        host_fail(l->h, "one(%llu) failed to reach agreement", (unsigned long long)o->command);
    if (o->waiting && now - o->offered >= 2 * NS_PER_S) o->waiting = false;
    return o->waiting ? 20 * NS_PER_MS : offer(o);
}

void lab_one_begin(struct lab_one *o, struct lab *l, uint64_t command, unsigned k)
{
    *o = (struct lab_one){.lab = l, .command = command, .k = k, .begun = host_now(l->h)};
    o->task = (struct host_task){.step = one_step, .arg = o};
    host_begin(l->h, &o->task);
}

static bool one_done(void *arg) { return ((struct lab_one *)arg)->task.done; }

uint64_t lab_one(struct lab *l, uint64_t command, unsigned k)
{
    struct lab_one o;
    lab_one_begin(&o, l, command, k);
    if (!host_wait(l->h, one_done, &o, 11000)) host_fail(l->h, "one() takes more than 11 s");
    return o.index;
}
