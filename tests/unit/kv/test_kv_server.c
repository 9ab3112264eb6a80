/* Servers and clients together, over a shared fake log: what is promised to clients holds whatever happens to
 * leaders. */
#include "rig.h"

#include <stdio.h>

#include "world.h"

static void all_kinds_of_calls(void **state)
{
    struct world *w = world_new(1);
    struct kv_client *c = client(w, 5, false);
    struct sync s = {0};
    assert_int_equal(call(w, c, &s, op_get("none")), -ENOENT);
    assert_int_equal(kv_client_session(c), 0);          /* a query needs no session */
    assert_int_equal(call(w, c, &s, op_put("dir/k", "hello")), 0);
    assert_true(kv_client_session(c) != 0);
    assert_int_equal(s.reply.attr.size, 5);
    assert_int_equal(call(w, c, &s, op_append("dir/k", " world")), 0);
    uint64_t index = s.reply.index;
    assert_true(index > 0);
    assert_int_equal(call(w, c, &s, op_get("dir/k")), 0);
    assert_true(slice_eq(s.reply.data, slice_str("hello world")));
    assert_true(s.reply.index >= index);
    assert_int_equal(call(w, c, &s, (struct kv_op){.code = KV_LOOKUP, .ino = 1, .name = slice_str("dir")}), 0);
    assert_int_equal(call(w, c, &s, (struct kv_op){.code = KV_STATFS}), 0);
    struct kv_statfs sf;
    assert_int_equal(kv_statfs_decode(s.reply.data, &sf), 0);
    assert_true(sf.total == 1000000 && sf.avail == 400000 && sf.used.files == 1 && sf.used.dirs == 2);
    assert_int_equal(call(w, c, &s, (struct kv_op){.code = KV_SESSIONS}), 0);
    assert_true(s.reply.data.n > 20);
    struct kv_op huge = op_put("huge", "");
    huge.data = slice_of("x", KV_DATA_MAX + 1);
    assert_int_equal(call(w, c, &s, huge), -EFBIG);
    assert_replicas_equal(w);
    kv_client_free(c);
    buf_free(&s.data);
    world_free(w);
}

/* Large values; payload from memory, late, or gone for a while. */
static void large_values(void **state)
{
    struct world *w = world_new(2);
    struct kv_client *c = client(w, 5, false);
    struct sync s = {0};
    struct prng r;
    prng_seed(&r, 4);
    uint8_t *big = malloc(KV_DATA_MAX);
    random_bytes(&r, big, KV_DATA_MAX);
    struct kv_op put = {.code = KV_PUT, .name = slice_str("big"), .data = slice_of(big, KV_DATA_MAX)};
    assert_int_equal(call(w, c, &s, put), 0);
    uint64_t ino = s.reply.attr.ino;
    for (unsigned late = 0; late <= 100; late += 50) {
        w->c->payload_late = late;
        w->c->payload_gone = late / 2;
        assert_int_equal(call(w, c, &s, op_get("big")), 0);
        assert_int_equal(s.reply.data.n, KV_DATA_MAX);
        assert_memory_equal(s.reply.data.p, big, KV_DATA_MAX);
        for (unsigned i = 0; i < 10; i++) {
            uint64_t off = prng_below(&r, KV_DATA_MAX), len = prng_below(&r, 100000);
            assert_int_equal(call(w, c, &s, (struct kv_op){.code = KV_READ, .ino = ino, .off = off, .len = len}), 0);
            assert_int_equal(s.reply.data.n, min_u64(len, KV_DATA_MAX - off));
            assert_memory_equal(s.reply.data.p, big + off, s.reply.data.n);
        }
        if (late == 50) w->c->payload_gone = 0;
    }
    w->c->payload_gone = 100;
    assert_int_equal(call(w, c, &s, op_get("big")), -EIO);
    kv_client_free(c);
    free(big);
    buf_free(&s.data);
    world_free(w);
}

static void compare_and_set_of_long_contents(void **state)
{
    struct world *w = world_new(3);
    struct kv_client *c = client(w, 5, false), *d = client(w, 6, false);
    struct sync s = {0}, t = {0};
    char x[5001], y[5001];
    memset(x, 'x', 5000);
    memset(y, 'y', 5000);
    x[5000] = y[5000] = 0;
    struct kv_op cas = {.code = KV_CAS, .name = slice_str("k"), .name2 = slice_str(x), .data = slice_str(y)};
    assert_int_equal(call(w, c, &s, cas), QE_MISMATCH);
    assert_int_equal(call(w, c, &s, op_put("k", x)), 0);
    assert_int_equal(call(w, c, &s, cas), 0);
    assert_int_equal(call(w, c, &s, cas), QE_MISMATCH);
    assert_int_equal(call(w, c, &s, op_get("k")), 0);
    assert_true(slice_eq(s.reply.data, slice_str(y)));
    /* Somebody writes between the comparison and the change: it is compared again. */
    w->c->payload_late = 100;
    w->c->late_delay = 20 * MS;
    struct kv_op back = {.code = KV_CAS, .name = slice_str("k"), .name2 = slice_str(y), .data = slice_str(x)};
    for (unsigned i = 0; i < 2; i++) {
        start(d, &t, back);
        fake_run(&w->f, 6 * MS);
        assert_false(t.done);
        assert_int_equal(call(w, c, &s, op_put("k", i ? x : y)), 0);       /* first the same bytes, then others */
        assert_true(fake_until(&w->f, sync_is_done, &t, 10 * S));
        assert_int_equal(t.reply.status, i ? QE_MISMATCH : 0);
        assert_int_equal(call(w, c, &s, op_put("k", y)), 0);
    }
    assert_int_equal(call(w, c, &s, (struct kv_op){.code = KV_CAS, .name = slice_str(""), .name2 = slice_str(x)}),
                     -EINVAL);
    assert_replicas_equal(w);
    kv_client_free(c);
    kv_client_free(d);
    buf_free(&s.data);
    buf_free(&t.data);
    world_free(w);
}

/* ---- chaos: every acknowledged append is there once, in its client's order ---- */

#define CLIENTS 6
#define KEYS 3

struct writer {
    struct world *w;
    struct kv_client *c;
    unsigned id, next, ends;
    unsigned seen[KEYS];            /* last acknowledged token of each key */
    struct prng r;
    bool stop;
    unsigned timeouts, cancelled;
    uint8_t fate[20000];            /* by token: 0 not tried, 1 acknowledged, 2 unknown, 3 refused, 4 under way */
    unsigned busy;
    uint64_t last_index;            /* of acknowledged changes and reads: never falls for calls one after the other */
    unsigned changes;               /* under way; at least one place is kept for reads */
};

struct token {
    struct kv_call call;
    struct writer *wr;
    unsigned n, key, before[CLIENTS];       /* query: each client's last acknowledged token of the key when it began */
    char text[32];
    uint64_t index_before;
    bool query, alone;
};

static void next_op(struct writer *wr);

static unsigned count_tokens(struct slice data, unsigned id, struct writer *wr, unsigned *last)
{
    unsigned n = 0;
    *last = 0;
    for (size_t i = 0; i < data.n;) {
        unsigned who = 0, num = 0;
        char text[32] = {0};
        size_t end = i;
        while (end < data.n && data.p[end] != ';') end++;
        assert_true(end < data.n && end - i < sizeof text);     /* whole tokens only: appends are atomic */
        memcpy(text, data.p + i, end - i);
        assert_int_equal(sscanf(text, "%u.%u", &who, &num), 2);
        if (who == id) {
            assert_true(num > *last);           /* each once, in the order of the calls */
            *last = num;
            n++;
            assert_true(wr->fate[num] != 0 && wr->fate[num] != 3);
        }
        i = end + 1;
    }
    return n;
}

static void token_done(struct kv_call *call, const struct kv_reply *reply)
{
    struct token *t = call->arg;
    struct writer *wr = t->wr;
    wr->busy--;
    if (t->query) {
        if (reply->status == 0) {
            struct writer *all = wr - wr->id;
            for (unsigned i = 0; i < CLIENTS; i++) {
                unsigned last;
                count_tokens(reply->data, i, &all[i], &last);
                assert_true(last >= t->before[i]);      /* all that was acknowledged before the read began is in it */
            }
            assert_true(reply->index >= t->index_before);
        } else {
            assert_true(reply->status == -ENOENT ? t->before[wr->id] == 0
                                                 : reply->status == -ETIMEDOUT || reply->status == -EINTR);
        }
        wr->last_index = max_u64(wr->last_index, reply->index);
    } else {
        wr->changes--;
        if (reply->status == 0) {
            wr->fate[t->n] = 1;
            wr->seen[t->key] = t->n > wr->seen[t->key] ? t->n : wr->seen[t->key];
            wr->last_index = max_u64(wr->last_index, reply->index);
        } else {
            assert_true(reply->status == -ETIMEDOUT || reply->status == -EINTR);
            wr->timeouts++;
            wr->fate[t->n] = 2;
        }
    }
    free(t);
    next_op(wr);
}

static void next_op(struct writer *wr)
{
    static const char *const keys[KEYS] = {"k0", "k1", "dir/k2"};
    while (!wr->stop && wr->busy < 4) {
        struct token *t = xcalloc(1, sizeof *t);
        t->wr = wr;
        t->key = (unsigned)prng_below(&wr->r, KEYS);
        t->query = wr->changes == 3 || prng_chance(&wr->r, 20);
        t->call = (struct kv_call){.done = token_done, .arg = t};
        t->index_before = wr->last_index;
        if (t->query) {
            for (unsigned i = 0; i < CLIENTS; i++) t->before[i] = (wr - wr->id)[i].seen[t->key];
            t->call.op = op_get(keys[t->key]);
        } else {
            wr->changes++;
            t->n = ++wr->next;
            wr->fate[t->n] = 4;
            snprintf(t->text, sizeof t->text, "%u.%u;", wr->id, t->n);
            t->call.op = op_append(keys[t->key], t->text);
        }
        if (prng_chance(&wr->r, 5)) t->call.deadline = wr->w->f.now + prng_below(&wr->r, 300) * MS;
        wr->busy++;
        kv_call(wr->c, &t->call);
        if (prng_chance(&wr->r, 1)) kv_cancel(wr->c, &t->call);
    }
}

static bool writers_idle(void *arg)
{
    struct writer *wr = arg;
    for (unsigned i = 0; i < CLIENTS; i++)
        if (wr[i].busy) return false;
    return true;
}

static void disturb(struct world *w, struct prng *r)
{
    uint64_t id = prng_between(r, 1, 3);
    if (w->servers[id]) fake_listener(&w->f, ADDR[id])->up = true;
    switch (prng_below(r, 9)) {
    case 0: if (w->servers[id]) fake_lead(w->c, id, prng_below(r, 4), prng_below(r, 100) * MS); break;
    case 1:             /* a deposed leader that does not know it, and still has some of the clients */
        if (!w->servers[id] || w->c->leader == id || !w->c->leader) break;
        fake_listener(&w->f, ADDR[w->c->leader])->up = false;
        fake_cut_some(&w->f, ADDR[w->c->leader], 50);
        fake_lead(w->c, id, prng_below(r, 4), 500 * MS);
        break;
    case 2: fake_lead(w->c, 0, prng_below(r, 3), prng_below(r, 50) * MS); break;
    case 3: fake_cut_addr(&w->f, ADDR[id]); break;
    case 4:
        if (!w->servers[id]) up(w, id);
        else if (w->servers[id % 3 + 1] && w->servers[(id + 1) % 3 + 1]) {
            if (w->c->leader == id) fake_lead(w->c, id % 3 + 1, prng_below(r, 3), 0);
            down(w, id);
        }
        break;
    case 5: fake_freeze_addr(&w->f, ADDR[id], prng_chance(r, 50)); break;
    case 6: w->c->busy = prng_chance(r, 30); break;
    case 7: w->c->stalled = prng_chance(r, 30); break;
    default: w->c->lease = prng_chance(r, 50); break;
    }
}

static void calm(struct world *w)
{
    w->c->busy = w->c->stalled = false;
    for (uint64_t id = 1; id <= 3; id++) {
        if (!w->servers[id]) up(w, id);
        fake_freeze_addr(&w->f, ADDR[id], false);
        fake_listener(&w->f, ADDR[id])->up = true;
    }
    fake_run(&w->f, 10 * MS);
    fake_lead(w->c, prng_between(&w->f.rng, 1, 3), 1, 10 * MS);
}

static void check_end(struct world *w, struct writer *wr)
{
    struct sync s = {0};
    static const char *const keys[KEYS] = {"k0", "k1", "dir/k2"};
    struct kv_client *c = client(w, 99, false);
    unsigned found[CLIENTS] = {0};
    for (unsigned k = 0; k < KEYS; k++) {
        if (call(w, c, &s, op_get(keys[k])) == -ENOENT) continue;
        assert_int_equal(s.reply.status, 0);
        for (unsigned i = 0; i < CLIENTS; i++) {
            unsigned last;
            found[i] += count_tokens(s.reply.data, i, &wr[i], &last);
        }
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        unsigned acked = 0, unknown = 0;
        for (unsigned n = 1; n <= wr[i].next; n++) {
            acked += wr[i].fate[n] == 1;
            unknown += wr[i].fate[n] == 2;
        }
        assert_true(found[i] >= acked && found[i] <= acked + unknown);
    }
    kv_client_free(c);
    buf_free(&s.data);
}

static unsigned chaos(uint64_t seed)
{
    struct world *w = world_new(seed);
    struct prng r;
    prng_seed(&r, seed * 31);
    w->c->lease_breaks = 20;
    w->c->payload_late = 30;
    w->c->commit_delay = 8 * MS;
    w->f.delay_min = 200 * NS_PER_US;
    w->f.delay_max = 2 * MS;
    struct writer *wr = xcalloc(CLIENTS, sizeof *wr);
    for (unsigned i = 0; i < CLIENTS; i++) {
        wr[i].w = w;
        wr[i].id = i;
        wr[i].c = client(w, seed * 100 + i, false);
        prng_seed(&wr[i].r, seed + i);
        next_op(&wr[i]);
    }
    for (unsigned i = 0; i < 30; i++) {
        fake_run(&w->f, prng_below(&r, 100) * MS);
        disturb(w, &r);
        if (prng_chance(&r, 30)) calm(w);
        if (w->c->last > 15000) break;
        for (unsigned k = 0; k < CLIENTS; k++)
            if (wr[k].next > 15000) i = 1000;
    }
    for (unsigned i = 0; i < CLIENTS; i++) wr[i].stop = true;
    calm(w);
    assert_true(fake_until(&w->f, writers_idle, wr, 30 * S));
    check_end(w, wr);
    unsigned done = 0;
    for (unsigned i = 0; i < CLIENTS; i++) {
        for (unsigned n = 1; n <= wr[i].next; n++) done += wr[i].fate[n] == 1;
        kv_client_free(wr[i].c);
    }
    assert_replicas_equal(w);
    world_free(w);
    free(wr);
    return done;
}

static void random_faults(void **state)
{
    unsigned done = 0;
    const char *more = getenv("KV_SEEDS");      /* for a longer search: how many, from 1 on */
    uint64_t seeds = more ? strtoull(more, NULL, 10) : 5;
    for (uint64_t seed = 1; seed <= seeds; seed++) done += chaos(seed);
    assert_true(done > 200 * seeds);
}

/* All machines sleep for an hour, and wake up with the same leader: nobody was away for the time of a session. */
static void asleep(void **state)
{
    struct world *w = world_new(6);
    struct kv_client *c = client(w, 5, false);
    struct sync s = {0};
    assert_int_equal(call(w, c, &s, op_put("k", "1")), 0);
    uint64_t session = kv_client_session(c);
    for (unsigned i = 0; i < 3; i++) {
        w->f.now += 3600 * S;
        fake_run(&w->f, 5 * S);
        assert_int_equal(call(w, c, &s, op_append("k", "1")), 0);
        assert_int_equal(kv_client_session(c), session);
    }
    assert_true(kv_server_map(w->servers[1]) && w->servers[1]->store->cluster < 120 * S);
    assert_replicas_equal(w);
    buf_free(&s.data);
    kv_client_free(c);
    world_free(w);
}

static bool one_session(void *arg) { return ((struct kv__store *)arg)->sessions == 1; }

/* Sessions are looked at when the first of them may be due, not at each tick, and end no later for that. */
static void sessions_end_when_due(void **state)
{
    struct world *w = world_new(7);
    struct kv_client_config cfg = {.addrs = ADDR + 1, .naddrs = 3, .name = "short", .seed = 6, .ttl_ms = 5000};
    struct kv_client *c = client(w, 5, false), *shorter = kv_client_new(&w->f.net, &w->f.clock, &cfg);
    struct kv_server *leader = w->servers[1];
    struct kv__store *st = leader->store;
    struct sync s = {0};
    assert_int_equal(call(w, c, &s, op_put("k", "1")), 0);
    fake_run(&w->f, 2 * S);
    assert_true(st->due > kv__cluster_now(leader) + 30 * S);
    assert_int_equal(call(w, shorter, &s, op_put("l", "1")), 0);
    uint64_t due = st->due;
    assert_true(due <= kv__cluster_now(leader) + 5 * S);
    kv_client_free(shorter);
    assert_int_equal(st->sessions, 2);
    assert_true(fake_until(&w->f, one_session, st, 20 * S));
    assert_true(st->cluster > due && st->cluster <= due + 2 * KV_TICK_NS);
    fake_run(&w->f, 2 * S);
    assert_true(st->due > kv__cluster_now(leader) + 30 * S);
    kv_client_free(c);
    st->due = UINT64_MAX;
    fake_run(&w->f, 90 * S);
    assert_int_equal(st->sessions, 1); /* nobody has looked */
    st->due = 0;
    fake_run(&w->f, 2 * S);
    assert_int_equal(st->sessions, 0);
    assert_replicas_equal(w);
    buf_free(&s.data);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_kinds_of_calls),
        cmocka_unit_test(large_values),
        cmocka_unit_test(compare_and_set_of_long_contents),
        cmocka_unit_test(random_faults),
        cmocka_unit_test(asleep),
        cmocka_unit_test(sessions_end_when_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
