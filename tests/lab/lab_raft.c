/* lab_raft.c - the Raft titles. */
#include <stdlib.h>

#include "tests/lab/raft_lab.h"

/* ---- 2A ---- */

static void initial_election(const struct lab_test *t, uint64_t seed)
{
    struct lab l;
    lab_begin(&l, t, seed, 3, false);
    lab_check_one_leader(&l);
    uint64_t before = lab_check_terms(&l);
    host_sleep(l.h, 2 * ET);
    if (lab_check_terms(&l) != before) host_say(l.h, "warning: the term changed although nothing failed");
    lab_end(&l);
}

static void reelection(const struct lab_test *t, uint64_t seed)
{
    struct lab l;
    lab_begin(&l, t, seed, 3, false);
    unsigned l1 = lab_check_one_leader(&l);
    lab_disconnect(&l, l1);
    lab_check_one_leader(&l);
    lab_connect(&l, l1);
    unsigned l2 = lab_check_one_leader(&l);
    lab_disconnect(&l, l2);
    lab_disconnect(&l, (l2 + 1) % 3);
    host_sleep(l.h, 2 * ET);
    lab_check_no_leader(&l);
    lab_connect(&l, (l2 + 1) % 3);
    lab_check_one_leader(&l);
    lab_connect(&l, l2);
    lab_check_one_leader(&l);
    lab_end(&l);
}

/* ---- 2B ---- */

static void basic_agreement(const struct lab_test *t, uint64_t seed)
{
    struct lab l;
    uint64_t value;
    lab_begin(&l, t, seed, 5, false);
    for (uint64_t i = 1; i <= 3; i++) {
        if (host_committed(l.h, i, &value))
            host_fail(l.h, "index %llu is committed before it was started", (unsigned long long)i);
        uint64_t index = lab_one(&l, 100 * i, 5);
        if (index != i)
            host_fail(l.h, "got index %llu, expected %llu", (unsigned long long)index, (unsigned long long)i);
    }
    lab_end(&l);
}

static void fail_agree(const struct lab_test *t, uint64_t seed)
{
    struct lab l;
    lab_begin(&l, t, seed, 3, false);
    lab_one(&l, 101, 3);
    unsigned leader = lab_check_one_leader(&l);
    lab_disconnect(&l, (leader + 1) % 3);
    lab_one(&l, 102, 2);
    lab_one(&l, 103, 2);
    host_sleep(l.h, ET);
    lab_one(&l, 104, 2);
    lab_one(&l, 105, 2);
    lab_connect(&l, (leader + 1) % 3);
    lab_one(&l, 106, 3);
    host_sleep(l.h, ET);
    lab_one(&l, 107, 3);
    lab_end(&l);
}

static void fail_no_agree(const struct lab_test *t, uint64_t seed)
{
    struct lab l;
    uint64_t index = 0, term, value;
    lab_begin(&l, t, seed, 5, false);
    lab_one(&l, 10, 5);
    unsigned leader = lab_check_one_leader(&l);
    for (unsigned k = 1; k <= 3; k++) lab_disconnect(&l, (leader + k) % 5);
    if (!host_offer(l.h, leader, 20, &index, &term)) host_fail(l.h, "the leader rejects a command");
    if (index != 2) host_fail(l.h, "expected index 2, got %llu", (unsigned long long)index);
    host_sleep(l.h, 2 * ET);
    if (host_committed(l.h, index, &value)) host_fail(l.h, "committed without a majority");
    for (unsigned k = 1; k <= 3; k++) lab_connect(&l, (leader + k) % 5);
    leader = lab_check_one_leader(&l);
    if (!host_offer(l.h, leader, 30, &index, &term)) host_fail(l.h, "the leader rejects a command");
    if (index < 2 || index > 3) host_fail(l.h, "unexpected index %llu", (unsigned long long)index);
    lab_one(&l, 1000, 5);
    lab_end(&l);
}

struct starter {
    struct host_task task;
    struct lab *lab;
    unsigned leader;
    uint64_t command, index, term;
    bool accepted;
};

static uint64_t starter_step(struct host_task *t)
{
    struct starter *s = t->arg;
    s->accepted = host_offer(s->lab->h, s->leader, s->command, &s->index, &s->term);
    return HOST_DONE;
}

static bool starters_done(void *arg)
{
    const struct starter *s = arg;
    for (unsigned i = 0; i < 5; i++)
        if (!s[i].task.done) return false;
    return true;
}

static bool concurrent_try(struct lab *l)
{
    struct starter s[5];
    uint64_t index, term, value;
    unsigned leader = lab_check_one_leader(l), seen = 0;
    if (!host_offer(l->h, leader, 1, &index, &term)) return false;
    for (unsigned i = 0; i < 5; i++) {
        s[i] = (struct starter){.lab = l, .leader = leader, .command = 100 + i};
        s[i].task = (struct host_task){.step = starter_step, .arg = &s[i]};
        host_begin(l->h, &s[i].task);
    }
    if (!host_wait(l->h, starters_done, s, 30000)) host_fail(l->h, "a server does not answer start()");
    for (unsigned i = 0; i < 3; i++)
        if (lab_term(l, i) != term) return false;
    for (unsigned i = 0; i < 5; i++) {
        if (!s[i].accepted || s[i].term != term) continue;
        if (!lab_wait(l, s[i].index, 3, term, &value)) return false;
        if (value >= 100 && value < 105) seen |= 1u << (value - 100);
    }
    if (seen != 31) host_fail(l->h, "some of the concurrent commands are missing");
    return true;
}

static void concurrent_starts(const struct lab_test *t, uint64_t seed)
{
    struct lab l;
    lab_begin(&l, t, seed, 3, false);
    for (unsigned i = 0; i < 5; i++) {
        if (i) host_sleep(l.h, 3000);
        if (!concurrent_try(&l)) continue;
        lab_end(&l);
        return;
    }
    host_fail(l.h, "the term changed too often");
}

static void rejoin(const struct lab_test *t, uint64_t seed)
{
    struct lab l;
    uint64_t index, term;
    lab_begin(&l, t, seed, 3, false);
    lab_one(&l, 101, 3);
    unsigned l1 = lab_check_one_leader(&l);
    lab_disconnect(&l, l1);
    for (uint64_t v = 102; v <= 104; v++) host_offer(l.h, l1, v, &index, &term);
    lab_one(&l, 103, 2);
    unsigned l2 = lab_check_one_leader(&l);
    lab_disconnect(&l, l2);
    lab_connect(&l, l1);
    lab_one(&l, 104, 2);
    lab_connect(&l, l2);
    lab_one(&l, 105, 3);
    lab_end(&l);
}

static void start_many(struct lab *l, unsigned i, unsigned n)
{
    uint64_t index, term;
    for (unsigned k = 0; k < n; k++) host_offer(l->h, i, lab_random(l), &index, &term);
}

static void backup(const struct lab_test *t, uint64_t seed)
{
    struct lab l;
    lab_begin(&l, t, seed, 5, false);
    lab_one(&l, lab_random(&l), 5);
    unsigned l1 = lab_check_one_leader(&l);
    for (unsigned k = 2; k <= 4; k++) lab_disconnect(&l, (l1 + k) % 5);
    start_many(&l, l1, 50);
    host_sleep(l.h, ET / 2);
    lab_disconnect(&l, l1);
    lab_disconnect(&l, (l1 + 1) % 5);
    for (unsigned k = 2; k <= 4; k++) lab_connect(&l, (l1 + k) % 5);
    for (unsigned k = 0; k < 50; k++) lab_one(&l, lab_random(&l), 3);
    unsigned l2 = lab_check_one_leader(&l), other = (l1 + 2) % 5;
    if (l2 == other) other = (l2 + 1) % 5;
    lab_disconnect(&l, other);
    start_many(&l, l2, 50);
    host_sleep(l.h, ET / 2);
    for (unsigned i = 0; i < 5; i++) lab_disconnect(&l, i);
    lab_connect(&l, l1);
    lab_connect(&l, (l1 + 1) % 5);
    lab_connect(&l, other);
    for (unsigned k = 0; k < 50; k++) lab_one(&l, lab_random(&l), 3);
    for (unsigned i = 0; i < 5; i++) lab_connect(&l, i);
    lab_one(&l, lab_random(&l), 5);
    lab_end(&l);
}

static bool count_try(struct lab *l)
{
    unsigned leader = lab_check_one_leader(l);
    uint64_t t1 = host_rpcs(l->h), first, term, now, index, value, commands[12] = {0};
    if (!host_offer(l->h, leader, 1, &first, &term)) return false;
    for (unsigned i = 1; i <= 11; i++) {
        commands[i] = lab_random(l);
        if (!host_offer(l->h, leader, commands[i], &index, &now) || now != term) return false;
        if (index != first + i)
            host_fail(l->h, "start() returned index %llu, expected %llu", (unsigned long long)index,
                      (unsigned long long)(first + i));
    }
    for (unsigned i = 1; i <= 10; i++) {
        if (!lab_wait(l, first + i, 3, term, &value)) return false;
        if (value != commands[i]) host_fail(l->h, "wrong value at index %llu", (unsigned long long)(first + i));
    }
    uint64_t t2 = host_rpcs(l->h);
    for (unsigned i = 0; i < 3; i++)
        if (lab_term(l, i) != term) return false;
    uint64_t busy = t2 - t1;
    if (busy > (10 + 1 + 3) * 3) host_fail(l->h, "too many RPCs for 10 entries: %llu", (unsigned long long)busy);
    host_sleep(l->h, ET);
    uint64_t idle = host_rpcs(l->h) - t2;
    host_say(l->h, "%llu RPCs for 12 entries, %llu in a second of idleness", (unsigned long long)busy,
             (unsigned long long)idle);
    if (idle > 3 * 20) host_fail(l->h, "too many RPCs in a second of idleness: %llu", (unsigned long long)idle);
    return true;
}

static void rpc_counts(const struct lab_test *t, uint64_t seed)
{
    struct lab l;
    lab_begin(&l, t, seed, 3, false);
    lab_check_one_leader(&l);
    uint64_t n = host_rpcs(l.h);
    if (n < 1 || n > 30)
        host_fail(l.h, "too many or too few RPCs to elect the first leader: %llu", (unsigned long long)n);
    for (unsigned i = 0; i < 5; i++) {
        if (i) host_sleep(l.h, 3000);
        if (!count_try(&l)) continue;
        lab_end(&l);
        return;
    }
    host_fail(l.h, "the term changed too often");
}

/* ---- 2C ---- */

static void restart(struct lab *l, unsigned i)
{
    lab_start_server(l, i);
    lab_connect(l, i);
}

static void persist1(const struct lab_test *t, uint64_t seed)
{
    struct lab l;
    uint64_t value;
    lab_begin(&l, t, seed, 3, false);
    lab_one(&l, 11, 3);
    for (unsigned i = 0; i < 3; i++) lab_start_server(&l, i);
    for (unsigned i = 0; i < 3; i++) {
        lab_disconnect(&l, i);
        lab_connect(&l, i);
    }
    lab_one(&l, 12, 3);
    unsigned l1 = lab_check_one_leader(&l);
    lab_disconnect(&l, l1);
    restart(&l, l1);
    lab_one(&l, 13, 3);
    unsigned l2 = lab_check_one_leader(&l);
    lab_disconnect(&l, l2);
    lab_one(&l, 14, 2);
    restart(&l, l2);
    lab_wait(&l, 4, 3, 0, &value);
    unsigned i3 = (lab_check_one_leader(&l) + 1) % 3;
    lab_disconnect(&l, i3);
    lab_one(&l, 15, 2);
    restart(&l, i3);
    lab_one(&l, 16, 3);
    lab_end(&l);
}

static void persist2(const struct lab_test *t, uint64_t seed)
{
    struct lab l;
    uint64_t v = 10;
    lab_begin(&l, t, seed, 5, false);
    for (unsigned round = 0; round < 5; round++) {
        lab_one(&l, ++v, 5);
        unsigned a = lab_check_one_leader(&l);
        lab_disconnect(&l, (a + 1) % 5);
        lab_disconnect(&l, (a + 2) % 5);
        lab_one(&l, ++v, 3);
        lab_disconnect(&l, a);
        lab_disconnect(&l, (a + 3) % 5);
        lab_disconnect(&l, (a + 4) % 5);
        restart(&l, (a + 1) % 5);
        restart(&l, (a + 2) % 5);
        host_sleep(l.h, ET);
        restart(&l, (a + 3) % 5);
        lab_one(&l, ++v, 3);
        lab_connect(&l, (a + 4) % 5);
        lab_connect(&l, a);
    }
    lab_one(&l, 1000, 5);
    lab_end(&l);
}

static void persist3(const struct lab_test *t, uint64_t seed)
{
    struct lab l;
    lab_begin(&l, t, seed, 3, false);
    lab_one(&l, 101, 3);
    unsigned a = lab_check_one_leader(&l);
    lab_disconnect(&l, (a + 2) % 3);
    lab_one(&l, 102, 2);
    lab_crash(&l, a);
    lab_crash(&l, (a + 1) % 3);
    lab_connect(&l, (a + 2) % 3);
    restart(&l, a);
    lab_one(&l, 103, 2);
    restart(&l, (a + 1) % 3);
    lab_one(&l, 104, 3);
    lab_end(&l);
}

static void short_sleep(struct lab *l)
{
    host_sleep(l->h, prng_chance(&l->rng, 10) ? prng_below(&l->rng, 500) : prng_below(&l->rng, 13));
}

static void figure8(const struct lab_test *t, uint64_t seed)
{
    struct lab l;
    unsigned up = 5;
    lab_begin(&l, t, seed, 5, false);
    lab_one(&l, lab_random(&l), 1);
    for (unsigned k = 0; k < 1000; k++) {
        int leader = -1;
        uint64_t index, term;
        for (unsigned i = 0; i < 5; i++)
            if (host_offer(l.h, i, lab_random(&l), &index, &term)) leader = (int)i;
        short_sleep(&l);
        if (leader >= 0) {
            lab_crash(&l, (unsigned)leader);
            up--;
        }
        unsigned s = (unsigned)prng_below(&l.rng, 5);
        if (up >= 3 || lab_up(&l, s)) continue;
        restart(&l, s);
        up++;
    }
    for (unsigned i = 0; i < 5; i++)
        if (!lab_up(&l, i)) restart(&l, i);
    lab_one(&l, lab_random(&l), 5);
    lab_end(&l);
}

struct ones {
    struct lab_one v[49 * 4];
    unsigned n;
};

static bool all_done(void *arg)
{
    const struct ones *o = arg;
    for (unsigned i = 0; i < o->n; i++)
        if (!o->v[i].task.done) return false;
    return true;
}

static void unreliable_agree(const struct lab_test *t, uint64_t seed)
{
    struct lab l;
    struct ones *o = xcalloc(1, sizeof *o);
    lab_begin(&l, t, seed, 5, true);
    for (uint64_t i = 1; i < 50; i++) {
        for (unsigned j = 0; j < 4; j++) lab_one_begin(&o->v[o->n++], &l, 100 * i + j, 1);
        lab_one(&l, i, 1);
    }
    host_unreliable(l.h, false);
    if (!host_wait(l.h, all_done, o, 11000)) host_fail(l.h, "a command does not come to agreement");
    lab_one(&l, 100, 5);
    lab_end(&l);
    free(o);
}

static void figure8_unreliable(const struct lab_test *t, uint64_t seed)
{
    struct lab l;
    unsigned up = 5;
    lab_begin(&l, t, seed, 5, true);
    lab_one(&l, prng_below(&l.rng, 10000), 1);
    for (unsigned k = 0; k < 1000; k++) {
        int leader = -1;
        uint64_t index, term;
        if (k == 200) host_reorder(l.h);
        for (unsigned i = 0; i < 5; i++)
            if (host_offer(l.h, i, prng_below(&l.rng, 10000), &index, &term) && l.connected[i]) leader = (int)i;
        short_sleep(&l);
        if (leader >= 0 && prng_chance(&l.rng, 50)) {
            lab_disconnect(&l, (unsigned)leader);
            up--;
        }
        unsigned s = (unsigned)prng_below(&l.rng, 5);
        if (up >= 3 || l.connected[s]) continue;
        lab_connect(&l, s);
        up++;
    }
    for (unsigned i = 0; i < 5; i++)
        if (!l.connected[i]) lab_connect(&l, i);
    lab_one(&l, prng_below(&l.rng, 10000), 5);
    lab_end(&l);
}

/* ---- churn ---- */

struct churner {
    struct host_task task;
    struct lab *lab;
    struct prng rng;
    unsigned at, polls;
    bool stop, waiting;
    uint64_t x, index;
    uint64_t *kept;
    size_t nkept, cap;
};

static void keep(struct churner *c)
{
    if (c->nkept == c->cap) {
        c->cap = c->cap ? c->cap * 2 : 256;
        c->kept = xrealloc(c->kept, c->cap * sizeof *c->kept);
    }
    c->kept[c->nkept++] = c->x;
}

/* Offers the next command to every server; the last that accepts it tells its index. */
static uint64_t churn_offer(struct churner *c)
{
    struct lab *l = c->lab;
    uint64_t term;
    c->x = prng_u64(&c->rng) >> 1;
    c->polls = 0;
    for (unsigned i = 0; i < l->n; i++) c->waiting |= host_offer(l->h, i, c->x, &c->index, &term);
    return c->waiting ? 0 : (79 + 17 * c->at) * NS_PER_MS;
}

static uint64_t churn_step(struct host_task *t)
{
    static const uint64_t pauses[] = {10, 20, 50, 100, 200};
    struct churner *c = t->arg;
    uint64_t value = 0;
    if (!c->waiting) return c->stop ? HOST_DONE : churn_offer(c);
    bool committed = host_committed(c->lab->h, c->index, &value) > 0;
    if (committed && value == c->x) keep(c);
    c->waiting = !committed && c->polls < 5;
    return c->waiting ? pauses[c->polls++] * NS_PER_MS : 0;
}

static void churn_round(struct lab *l)
{
    if (prng_chance(&l->rng, 20)) lab_disconnect(l, (unsigned)prng_below(&l->rng, 5));
    if (prng_chance(&l->rng, 50)) {
        unsigned i = (unsigned)prng_below(&l->rng, 5);
        if (!lab_up(l, i)) lab_start_server(l, i);
        lab_connect(l, i);
    }
    if (prng_chance(&l->rng, 20)) {
        unsigned i = (unsigned)prng_below(&l->rng, 5);
        if (lab_up(l, i)) lab_crash(l, i);
    }
    host_sleep(l->h, 700);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void churn_check(struct lab *l, struct churner *c, uint64_t last)
{
    uint64_t *values = xcalloc(last, sizeof *values);
    for (uint64_t i = 1; i <= last; i++) lab_wait(l, i, 5, 0, &values[i - 1]);
    qsort(values, last, sizeof *values, by_value);
    for (unsigned k = 0; k < 3; k++)
        for (size_t i = 0; i < c[k].nkept; i++)
            if (!bsearch(&c[k].kept[i], values, last, sizeof *values, by_value))
                host_fail(l->h, "a committed value is missing");
    free(values);
}

static void churn(const struct lab_test *t, uint64_t seed)
{
    struct lab l;
    struct churner c[3];
    lab_begin(&l, t, seed, 5, t->unreliable);
    for (unsigned i = 0; i < 3; i++) {
        c[i] = (struct churner){.lab = &l, .at = i};
        c[i].task = (struct host_task){.step = churn_step, .arg = &c[i]};
        prng_seed(&c[i].rng, prng_u64(&l.rng));
        host_begin(l.h, &c[i].task);
    }
    for (unsigned round = 0; round < 20; round++) churn_round(&l);
    host_sleep(l.h, ET);
    host_unreliable(l.h, false);
    for (unsigned i = 0; i < 5; i++) {
        if (!lab_up(&l, i)) lab_start_server(&l, i);
        lab_connect(&l, i);
    }
    for (unsigned i = 0; i < 3; i++) c[i].stop = true;
    host_sleep(l.h, ET);
    for (unsigned i = 0; i < 3; i++)
        if (!c[i].task.done) host_fail(l.h, "a client does not stop");
    uint64_t last = lab_one(&l, lab_random(&l), 5);
    churn_check(&l, c, last);
    for (unsigned i = 0; i < 3; i++) free(c[i].kept);
    lab_end(&l);
}

const struct lab_test lab_raft_tests[] = {
    {.title = "Test (2A): initial election", .run = initial_election},
    {.title = "Test (2A): election after network failure", .run = reelection},
    {.title = "Test (2B): basic agreement", .run = basic_agreement},
    {.title = "Test (2B): agreement despite follower disconnection", .run = fail_agree},
    {.title = "Test (2B): no agreement if too many followers disconnect", .run = fail_no_agree},
    {.title = "Test (2B): concurrent Start()s", .run = concurrent_starts},
    {.title = "Test (2B): rejoin of partitioned leader", .run = rejoin},
    {.title = "Test (2B): leader backs up quickly over incorrect follower logs", .run = backup},
    {.title = "Test (2B): RPC counts aren't too high", .run = rpc_counts},
    {.title = "Test (2C): basic persistence", .run = persist1},
    {.title = "Test (2C): more persistence", .run = persist2},
    {.title = "Test (2C): partitioned leader and one follower crash, leader restarts", .run = persist3},
    {.title = "Test (2C): Figure 8", .run = figure8},
    {.title = "Test (2C): unreliable agreement", .run = unreliable_agree},
    {.title = "Test (2C): Figure 8 (unreliable)", .run = figure8_unreliable},
    {.title = "Test (2C): churn", .run = churn},
    {.title = "Test (2C): unreliable churn", .run = churn, .unreliable = true},
    {0},
};
