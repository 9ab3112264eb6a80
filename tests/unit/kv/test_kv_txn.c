/* Transactions: their bytes, what they do against a plain model, all or nothing, and what only the leader can decide
 * or fetch. */
#include <stdio.h>
#include <string.h>

#include "kv/txn.h"
#include "world.h"

#define KEYS 6u

static const char *const KEY[KEYS] = {"a", "b", "d/x", "d/y", "d/e/z", "f"};

static struct kv_op op_txn(const struct kv_txn *t, struct buf *bytes)
{
    buf_clear(bytes);
    assert_int_equal(kv_txn_encode(t, bytes), 0);
    return (struct kv_op){.code = KV_TXN, .data = buf_slice(bytes)};
}

static void add_cond(struct kv_txn *t, enum kv_cond_kind kind, const char *key, struct slice value)
{
    t->conds[t->nconds++] = (struct kv_cond){.kind = kind, .key = slice_str(key), .value = value};
}

static void add_step(struct kv_txn *t, enum kv_txn_branch b, enum kv_code code, const char *key, struct slice value)
{
    t->steps[b][t->nsteps[b]++] = (struct kv_step){.code = code, .key = slice_str(key), .value = value};
}

/* ---- bytes ---- */

static void wire(void **state)
{
    struct kv_txn *t = xcalloc(1, sizeof *t), *u = xcalloc(1, sizeof *u);
    struct buf b = {0};
    struct prng r;
    prng_seed(&r, 1);
    for (unsigned round = 0; round < 300; round++) {
        memset(t, 0, sizeof *t);
        unsigned n = (unsigned)prng_below(&r, 10);
        for (unsigned i = 0; i < n; i++) {
            struct kv_cond *c = &t->conds[t->nconds++];
            *c = (struct kv_cond){.kind = (enum kv_cond_kind)prng_between(&r, 1, 6), .key = slice_str(KEY[i % KEYS])};
            if (c->kind == KV_IF_VALUE) c->value = slice_str("expected");
            if (c->kind >= KV_IF_VERSION) c->ino = prng_u64(&r), c->version = prng_u64(&r);
        }
        for (unsigned k = 0; k < 2; k++)
            for (unsigned i = (unsigned)prng_below(&r, 8); i > 0; i--) {
                static const enum kv_code codes[] = {KV_GET, KV_PUT, KV_APPEND, KV_DELETE};
                enum kv_code code = codes[prng_below(&r, 4)];
                bool has = code == KV_PUT || code == KV_APPEND;
                add_step(t, k, code, KEY[i % KEYS], has ? slice_str("value") : (struct slice){0});
            }
        buf_clear(&b);
        assert_int_equal(kv_txn_encode(t, &b), 0);
        assert_int_equal(kv_txn_decode(buf_slice(&b), u), 0);
        assert_int_equal(u->nconds, t->nconds);
        for (unsigned i = 0; i < n; i++) {
            assert_int_equal(u->conds[i].kind, t->conds[i].kind);
            assert_true(slice_eq(u->conds[i].key, t->conds[i].key) && slice_eq(u->conds[i].value, t->conds[i].value));
            assert_true(u->conds[i].ino == t->conds[i].ino && u->conds[i].version == t->conds[i].version);
        }
        for (unsigned k = 0; k < 2; k++) {
            assert_int_equal(u->nsteps[k], t->nsteps[k]);
            for (unsigned i = 0; i < t->nsteps[k]; i++) {
                assert_int_equal(u->steps[k][i].code, t->steps[k][i].code);
                assert_true(slice_eq(u->steps[k][i].value, t->steps[k][i].value));
            }
        }
        for (size_t cut = 0; cut < b.n; cut++) {
            uint8_t *exact = xmalloc(cut + 1);
            memcpy(exact, b.p, cut);
            assert_int_equal(kv_txn_decode(slice_of(exact, cut), u), QE_FRAME);
            free(exact);
        }
        for (unsigned i = 0; i < 50; i++) {             /* nonsense: refused or a transaction, never out of bounds */
            size_t at = prng_below(&r, b.n);
            uint8_t was = b.p[at];
            b.p[at] ^= (uint8_t)(1 + prng_below(&r, 255));
            int err = kv_txn_decode(buf_slice(&b), u);
            assert_true(err == 0 || err == QE_FRAME);
            b.p[at] = was;
        }
    }
    buf_free(&b);
    free(t);
    free(u);
}

static void limits(void **state)
{
    struct kv_txn *t = xcalloc(1, sizeof *t);
    struct buf b = {0};
    t->nconds = KV_TXN_MAX + 1;
    assert_int_equal(kv_txn_encode(t, &b), -E2BIG);
    t->nconds = 0;
    t->nsteps[KV_TXN_OTHERWISE] = KV_TXN_MAX + 1;
    assert_int_equal(kv_txn_encode(t, &b), -E2BIG);
    t->nsteps[KV_TXN_OTHERWISE] = 0;
    uint8_t *big = xcalloc(1, KV_DATA_MAX);
    add_step(t, KV_TXN_THEN, KV_PUT, "k", slice_of(big, KV_DATA_MAX));
    assert_int_equal(kv_txn_encode(t, &b), -EFBIG);
    t->steps[KV_TXN_THEN][0].value.n = KV_DATA_MAX - 11;        /* 3 numbers, code, key, length: just fits */
    assert_int_equal(kv_txn_encode(t, &b), 0);
    assert_int_equal(b.n, KV_DATA_MAX);
    buf_clear(&b);
    t->steps[KV_TXN_THEN][0].code = KV_LIST;
    assert_int_equal(kv_txn_encode(t, &b), -EINVAL);
    assert_int_equal(b.n, 0);
    free(big);
    free(t);
    buf_free(&b);
}

/* ---- against a model ---- */

struct model {
    struct buf value[KEYS];
    bool there[KEYS];
};

static void model_set(struct model *m, unsigned k, struct slice v, bool append)
{
    if (!append || !m->there[k]) buf_clear(&m->value[k]);
    put_bytes(&m->value[k], v);
    m->there[k] = true;
}

static unsigned key_of(struct slice key)
{
    for (unsigned i = 0; i < KEYS; i++)
        if (slice_eq(key, slice_str(KEY[i]))) return i;
    fail_msg("no such key");
    return 0;
}

static bool model_holds(const struct model *m, const struct kv_cond *c)
{
    unsigned k = key_of(c->key);
    switch (c->kind) {
    case KV_IF_ABSENT: return !m->there[k];
    case KV_IF_PRESENT: return m->there[k];
    default: return m->there[k] && slice_eq(buf_slice(&m->value[k]), c->value);
    }
}

static struct slice random_value(struct prng *r, struct buf *b)
{
    size_t n = prng_chance(r, 50) ? prng_below(r, 20) : prng_below(r, 3000);
    uint8_t *p = buf_extend(b, n);
    random_bytes(r, p, n);
    return slice_of(p, n);
}

static void random_txn(struct prng *r, const struct model *m, struct kv_txn *t, struct buf values[16])
{
    unsigned used = 0;
    memset(t, 0, sizeof *t);
    for (unsigned i = 0; i < 16; i++) buf_clear(&values[i]);
    for (unsigned i = (unsigned)prng_below(r, 4); i > 0; i--) {
        unsigned k = (unsigned)prng_below(r, KEYS);
        struct slice v = {0};
        enum kv_cond_kind kind = (enum kv_cond_kind)prng_between(r, 1, 3);
        if (prng_chance(r, 60)) kind = m->there[k] ? KV_IF_PRESENT : KV_IF_ABSENT;
        if (kind == KV_IF_PRESENT && prng_chance(r, 60)) kind = KV_IF_VALUE;
        if (kind == KV_IF_VALUE) {
            struct buf *b = &values[used++];
            put_bytes(b, buf_slice(&m->value[k]));
            if (b->n && prng_chance(r, 20)) b->p[prng_below(r, b->n)] ^= 1;
            v = buf_slice(b);
        }
        add_cond(t, kind, KEY[k], v);
    }
    for (unsigned b = 0; b < 2; b++)
        for (unsigned i = (unsigned)prng_below(r, 5); i > 0; i--) {
            static const enum kv_code codes[] = {KV_GET, KV_GET, KV_PUT, KV_PUT, KV_APPEND, KV_DELETE};
            enum kv_code code = codes[prng_below(r, 6)];
            bool has = code == KV_PUT || code == KV_APPEND;
            add_step(t, b, code, KEY[prng_below(r, KEYS)], has ? random_value(r, &values[used++]) : (struct slice){0});
        }
}

/* Executes it on the model and compares each result. */
static void check_answer(struct model *m, const struct kv_txn *t, const struct kv_reply *reply)
{
    enum kv_txn_branch b = KV_TXN_THEN;
    for (unsigned i = 0; i < t->nconds; i++)
        if (!model_holds(m, &t->conds[i])) b = KV_TXN_OTHERWISE;
    assert_int_equal(reply->off, b);
    struct reader r = reader_of(reply->data);
    for (unsigned i = 0; i < t->nsteps[b]; i++) {
        const struct kv_step *s = &t->steps[b][i];
        struct kv_txn_result res;
        unsigned k = key_of(s->key);
        assert_true(kv_txn_next(&r, &res));
        assert_int_equal(res.code, s->code);
        bool absent = !m->there[k] && (s->code == KV_GET || s->code == KV_DELETE);
        assert_int_equal(res.status, absent ? -ENOENT : 0);
        if (s->code == KV_PUT || s->code == KV_APPEND) model_set(m, k, s->value, s->code == KV_APPEND);
        if (s->code == KV_DELETE) m->there[k] = false;
        if (absent || s->code == KV_DELETE) continue;
        assert_int_equal(res.attr.size, m->value[k].n);
        if (s->code == KV_GET) assert_true(slice_eq(res.value, buf_slice(&m->value[k])));
    }
    assert_true(reader_done(&r));
}

static void check_live(struct world *w);

static void against_a_model(void **state)
{
    for (unsigned late = 0; late <= 100; late += 50) {
        struct world *w = world_new(100 + late);
        struct kv_client *c = client(w, 5, false);
        struct model m = {0};
        struct kv_txn *t = xcalloc(1, sizeof *t);
        struct buf values[16] = {0}, bytes = {0};
        struct sync s = {0};
        struct prng r;
        unsigned branches[2] = {0};
        prng_seed(&r, 7 + late);
        w->c->payload_late = late;
        w->c->late_delay = 3 * MS;
        for (unsigned i = 0; i < 1500; i++) {
            random_txn(&r, &m, t, values);
            assert_int_equal(call(w, c, &s, op_txn(t, &bytes)), 0);
            check_answer(&m, t, &s.reply);
            branches[s.reply.off]++;
        }
        assert_true(branches[0] > 200 && branches[1] > 200);
        assert_replicas_equal(w);
        check_live(w);
        for (unsigned i = 0; i < KEYS; i++) buf_free(&m.value[i]);
        for (unsigned i = 0; i < 16; i++) buf_free(&values[i]);
        buf_free(&bytes);
        buf_free(&s.data);
        free(t);
        kv_client_free(c);
        world_free(w);
    }
}

/* ---- all or nothing ---- */

static void sum_range(void *ctx, uint64_t index, uint32_t off, uint32_t len) { *(int64_t *)ctx += len; }

/* What the nodes were told about live payload is what the files refer to. */
static void check_live(struct world *w)
{
    int64_t sum = 0;
    for (uint64_t id = 1; id <= 3; id++) fs_all_ranges(&w->servers[id]->store->fs, sum_range, &sum);
    assert_int_equal(w->c->live, sum);
}

static void all_or_nothing(void **state)
{
    struct world *w = world_new(4);
    struct kv_client *c = client(w, 5, false);
    struct kv_txn *t = xcalloc(1, sizeof *t);
    struct buf bytes = {0};
    struct sync s = {0};
    static uint8_t big[2000];
    struct slice value = slice_of(big, sizeof big);
    assert_int_equal(call(w, c, &s, op_put("file", "contents")), 0);
    assert_int_equal(call(w, c, &s, op_put("dir/k", "v")), 0);
    assert_int_equal(call(w, c, &s, op_put("dir/other", "v")), 0);
    struct {
        enum kv_code code;
        const char *key;
        int err;
    } bad[] = {{KV_PUT, "file/below", -ENOTDIR}, {KV_PUT, "dir", -EISDIR},      {KV_GET, "dir", -EISDIR},
               {KV_APPEND, "x//y", -EINVAL},     {KV_DELETE, "dir", -EISDIR},   {KV_GET, "", -EINVAL},
               {KV_DELETE, "file/x", -ENOTDIR}};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        memset(t, 0, sizeof *t);
        add_cond(t, KV_IF_PRESENT, "file", (struct slice){0});
        add_step(t, KV_TXN_THEN, KV_PUT, "new/deep/key", value);
        add_step(t, KV_TXN_THEN, KV_APPEND, "file", value);
        add_step(t, KV_TXN_THEN, KV_DELETE, "dir/k", (struct slice){0});
        add_step(t, KV_TXN_THEN, bad[i].code, bad[i].key, (struct slice){0});
        assert_int_equal(call(w, c, &s, op_txn(t, &bytes)), 0);
        assert_int_equal(s.reply.off, KV_TXN_FAILED);
        struct kv_txn_failure f;
        assert_int_equal(kv_txn_failure_decode(s.reply.data, &f), 0);
        assert_int_equal(f.in, KV_TXN_THEN);
        assert_int_equal(f.at, 3);
        assert_int_equal(f.err, bad[i].err);
        assert_int_equal(call(w, c, &s, op_get("new/deep/key")), -ENOENT);
        assert_int_equal(call(w, c, &s, op_get("dir/k")), 0);
        assert_int_equal(call(w, c, &s, op_get("file")), 0);
        assert_true(slice_eq(s.reply.data, slice_str("contents")));
        assert_replicas_equal(w);
        check_live(w);
    }
    /* A condition that makes no sense is no false one. */
    memset(t, 0, sizeof *t);
    add_cond(t, KV_IF_ABSENT, "file/below", (struct slice){0});
    add_step(t, KV_TXN_OTHERWISE, KV_DELETE, "file", (struct slice){0});
    assert_int_equal(call(w, c, &s, op_txn(t, &bytes)), 0);
    struct kv_txn_failure f;
    assert_int_equal(kv_txn_failure_decode(s.reply.data, &f), 0);
    assert_true(f.in == KV_TXN_FAILED && f.at == 0 && f.err == -ENOTDIR);
    assert_int_equal(call(w, c, &s, op_get("file")), 0);
    buf_free(&bytes);
    buf_free(&s.data);
    free(t);
    kv_client_free(c);
    world_free(w);
}

/* More than an answer may read: before anything has changed. */
static void too_much_to_read(void **state)
{
    struct world *w = world_new(5);
    struct kv_client *c = client(w, 5, false);
    struct kv_txn *t = xcalloc(1, sizeof *t);
    struct buf bytes = {0};
    struct sync s = {0};
    uint8_t *big = xcalloc(1, KV_DATA_MAX);
    struct kv_op put = {.code = KV_PUT, .name = slice_str("big"), .data = slice_of(big, KV_DATA_MAX)};
    assert_int_equal(call(w, c, &s, put), 0);
    for (unsigned twice = 0; twice < 2; twice++) {
        memset(t, 0, sizeof *t);
        add_step(t, KV_TXN_THEN, KV_PUT, "k", slice_str("v"));
        for (unsigned i = 0; i <= twice; i++) add_step(t, KV_TXN_THEN, KV_GET, "big", (struct slice){0});
        assert_int_equal(call(w, c, &s, op_txn(t, &bytes)), 0);
        assert_int_equal(s.reply.off, twice ? KV_TXN_FAILED : KV_TXN_THEN);
        if (!twice) {
            assert_true(s.reply.data.n > KV_DATA_MAX);
            assert_int_equal(call(w, c, &s, (struct kv_op){.code = KV_DELETE, .name = slice_str("k")}), 0);
            continue;
        }
        struct kv_txn_failure f;
        assert_int_equal(kv_txn_failure_decode(s.reply.data, &f), 0);
        assert_true(f.at == 2 && f.err == -EFBIG);
        assert_int_equal(call(w, c, &s, op_get("k")), -ENOENT);
    }
    /* A file of very many pieces. */
    for (unsigned i = 0; i < 4000; i++) {
        struct kv_op wr = {.code = KV_APPEND, .name = slice_str("pieces"), .data = slice_of(big, 300)};
        assert_int_equal(call(w, c, &s, wr), 0);
    }
    memset(t, 0, sizeof *t);
    add_step(t, KV_TXN_THEN, KV_GET, "pieces", (struct slice){0});
    assert_int_equal(call(w, c, &s, op_txn(t, &bytes)), 0);
    assert_int_equal(s.reply.off, KV_TXN_FAILED);
    assert_replicas_equal(w);
    free(big);
    buf_free(&bytes);
    buf_free(&s.data);
    free(t);
    kv_client_free(c);
    world_free(w);
}

/* ---- versions ---- */

static void versions(void **state)
{
    struct world *w = world_new(6);
    struct kv_client *c = client(w, 5, false);
    struct kv_txn *t = xcalloc(1, sizeof *t);
    struct buf bytes = {0};
    struct sync s = {0};
    assert_int_equal(call(w, c, &s, op_put("k", "one")), 0);
    uint64_t ino = s.reply.attr.ino, version = s.reply.attr.version;
    for (unsigned i = 0; i < 4; i++) {
        memset(t, 0, sizeof *t);
        add_cond(t, KV_IF_VERSION, "k", (struct slice){0});
        t->conds[0].ino = ino;
        t->conds[0].version = version;
        add_step(t, KV_TXN_THEN, KV_PUT, "k", slice_str("one"));
        assert_int_equal(call(w, c, &s, op_txn(t, &bytes)), 0);
        assert_int_equal(s.reply.off, i == 0);          /* then it is another version, be the bytes the same */
        if (i == 1) assert_int_equal(call(w, c, &s, (struct kv_op){.code = KV_DELETE, .name = slice_str("k")}), 0);
        if (i == 2) assert_int_equal(call(w, c, &s, op_put("k", "one")), 0);        /* made anew */
    }
    free(t);
    buf_free(&bytes);
    buf_free(&s.data);
    kv_client_free(c);
    world_free(w);
}

/* ---- what only the leader can tell ---- */

/* Somebody writes between the comparison and the change: it is compared again, be the outcome equal or different. */
static void compared_again(void **state)
{
    struct world *w = world_new(7);
    struct kv_client *c = client(w, 5, false), *d = client(w, 6, false);
    struct kv_txn *t = xcalloc(1, sizeof *t);
    struct buf bytes = {0};
    struct sync s = {0}, x = {0};
    char a[2001], b[2001];
    memset(a, 'a', 2000);
    memset(b, 'b', 2000);
    a[2000] = b[2000] = 0;
    w->c->payload_late = 100;
    w->c->late_delay = 20 * MS;
    /* what is there, what somebody puts meanwhile, the branch that must be taken for the expected `a` */
    static const struct { char is, becomes; enum kv_txn_branch must; } cases[] = {
        {'a', 'a', KV_TXN_THEN}, {'a', 'b', KV_TXN_OTHERWISE}, {'b', 'a', KV_TXN_THEN}, {'b', 'b', KV_TXN_OTHERWISE}};
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(call(w, c, &s, op_put("k", cases[i].is == 'a' ? a : b)), 0);
        memset(t, 0, sizeof *t);
        add_cond(t, KV_IF_VALUE, "k", slice_str(a));
        add_step(t, KV_TXN_THEN, KV_PUT, "won", slice_str("x"));
        add_step(t, KV_TXN_OTHERWISE, KV_GET, "k", (struct slice){0});
        start(d, &x, op_txn(t, &bytes));
        fake_run(&w->f, 6 * MS);
        assert_false(x.done);
        assert_int_equal(call(w, c, &s, op_put("k", cases[i].becomes == 'a' ? a : b)), 0);
        assert_true(fake_until(&w->f, sync_is_done, &x, 10 * S));
        assert_int_equal(x.reply.status, 0);
        assert_int_equal(x.reply.off, cases[i].must);
        if (cases[i].must == KV_TXN_THEN) continue;
        struct reader r = reader_of(x.reply.data);
        struct kv_txn_result res;
        assert_true(kv_txn_next(&r, &res) && slice_eq(res.value, slice_str(b)));
    }
    assert_replicas_equal(w);
    check_live(w);
    free(t);
    buf_free(&bytes);
    buf_free(&s.data);
    buf_free(&x.data);
    kv_client_free(c);
    kv_client_free(d);
    world_free(w);
}

/* The bytes of an answer are gone when it is given: the rest of it is true all the same. */
static void gone(void **state)
{
    struct world *w = world_new(8);
    struct kv_client *c = client(w, 5, false);
    struct kv_txn *t = xcalloc(1, sizeof *t);
    struct buf bytes = {0};
    struct sync s = {0};
    char a[2001];
    memset(a, 'a', 2000);
    a[2000] = 0;
    assert_int_equal(call(w, c, &s, op_put("long", a)), 0);
    assert_int_equal(call(w, c, &s, op_put("short", "inline")), 0);
    w->c->payload_late = w->c->payload_gone = 100;
    add_step(t, KV_TXN_THEN, KV_PUT, "k", slice_str("v"));
    add_step(t, KV_TXN_THEN, KV_GET, "long", (struct slice){0});
    add_step(t, KV_TXN_THEN, KV_GET, "short", (struct slice){0});
    assert_int_equal(call(w, c, &s, op_txn(t, &bytes)), 0);
    struct reader r = reader_of(s.reply.data);
    struct kv_txn_result res[3];
    for (unsigned i = 0; i < 3; i++) assert_true(kv_txn_next(&r, &res[i]));
    assert_int_equal(res[0].status, 0);
    assert_int_equal(res[1].status, QE_GONE);
    assert_true(res[2].status == 0 && slice_eq(res[2].value, slice_str("inline")));
    free(t);
    buf_free(&bytes);
    buf_free(&s.data);
    kv_client_free(c);
    world_free(w);
}

/* Counters moved between keys, with leaders changing at every moment: the sum never changes, each move happens once. */
#define MOVERS 4u
#define MOVES 60u

struct mover {
    struct world *w;
    struct kv_client *c;
    struct sync s;
    struct buf bytes;
    struct kv_txn t;
    char text[4][400];
    unsigned moved;
};

static unsigned value_of(struct slice v)
{
    unsigned n = 0;
    for (size_t i = 0; i < v.n && v.p[i] != ' '; i++) n = n * 10 + v.p[i] - '0';
    return n;
}

/* So long that the bytes are in the log. */
static struct slice number(char out[400], unsigned n)
{
    int len = snprintf(out, 400, "%u%-300s", n, " ");
    return slice_of(out, (size_t)len);
}

static void moves_under_faults(void **state)
{
    struct world *w = world_new(9);
    struct mover *m = xcalloc(MOVERS, sizeof *m);
    struct prng r;
    struct kv_client *c = client(w, 99, false);
    struct sync s = {0};
    char text[400];
    unsigned total = 0, left = MOVERS;
    prng_seed(&r, 5);
    for (unsigned k = 0; k < KEYS; k++) {
        struct kv_op put = {.code = KV_PUT, .name = slice_str(KEY[k]), .data = number(text, 1000)};
        assert_int_equal(call(w, c, &s, put), 0);
    }
    for (unsigned i = 0; i < MOVERS; i++) m[i].c = client(w, 10 + i, false), m[i].w = w, m[i].s.done = true;
    w->c->payload_late = 30;
    w->c->late_delay = 2 * MS;
    w->c->commit_delay = 500 * NS_PER_US;
    for (unsigned step = 0; left; step++) {
        assert_true(step < 200000);
        if (prng_chance(&r, 3)) fake_lead(w->c, 1 + prng_below(&r, 3), prng_below(&r, 4), prng_below(&r, 20 * MS));
        fake_run(&w->f, prng_below(&r, 3 * MS));
        for (unsigned i = 0; i < MOVERS; i++) {
            struct mover *v = &m[i];
            if (!v->s.done || v->moved == MOVES) continue;
            if (v->t.nconds) {                          /* a move has been answered */
                assert_int_equal(v->s.reply.status, 0);
                if (v->s.reply.off == KV_TXN_THEN && ++v->moved == MOVES) left--;
                if (v->moved == MOVES) continue;
                memset(&v->t, 0, sizeof v->t);
                add_step(&v->t, KV_TXN_THEN, KV_GET, KEY[prng_below(&r, 3)], (struct slice){0});
                add_step(&v->t, KV_TXN_THEN, KV_GET, KEY[3 + prng_below(&r, 3)], (struct slice){0});
            } else if (v->t.nsteps[KV_TXN_THEN]) {      /* both values have been read, of one moment */
                struct reader in = reader_of(v->s.reply.data);
                struct kv_txn_result a, b;
                const struct kv_step *get = v->t.steps[KV_TXN_THEN];
                const char *from = KEY[key_of(get[0].key)], *to = KEY[key_of(get[1].key)];
                assert_int_equal(v->s.reply.status, 0);
                assert_true(kv_txn_next(&in, &a) && kv_txn_next(&in, &b));
                unsigned x = value_of(a.value), y = value_of(b.value);
                memset(&v->t, 0, sizeof v->t);
                add_cond(&v->t, KV_IF_VALUE, from, number(v->text[0], x));
                add_cond(&v->t, KV_IF_VALUE, to, number(v->text[1], y));
                add_step(&v->t, KV_TXN_THEN, KV_PUT, from, number(v->text[2], x - 1));
                add_step(&v->t, KV_TXN_THEN, KV_PUT, to, number(v->text[3], y + 1));
            } else {
                add_step(&v->t, KV_TXN_THEN, KV_GET, KEY[prng_below(&r, 3)], (struct slice){0});
                add_step(&v->t, KV_TXN_THEN, KV_GET, KEY[3 + prng_below(&r, 3)], (struct slice){0});
            }
            start(v->c, &v->s, op_txn(&v->t, &v->bytes));
        }
    }
    fake_lead(w->c, 1, 5, 0);
    unsigned upper = 0;
    for (unsigned k = 0; k < KEYS; k++) {
        assert_int_equal(call(w, c, &s, op_get(KEY[k])), 0);
        total += value_of(s.reply.data);
        if (k >= 3) upper += value_of(s.reply.data);
    }
    assert_int_equal(total, KEYS * 1000);
    assert_int_equal(upper, 3000 + MOVERS * MOVES);     /* no move was lost or done twice */
    assert_replicas_equal(w);
    check_live(w);
    for (unsigned i = 0; i < MOVERS; i++) {
        kv_client_free(m[i].c);
        buf_free(&m[i].bytes);
        buf_free(&m[i].s.data);
    }
    kv_client_free(c);
    buf_free(&s.data);
    free(m);
    world_free(w);
}

/* What a client may not say. */
static void full_disk(void **state)
{
    struct world *w = world_new(10);
    struct kv_client *c = client(w, 5, false);
    struct kv_txn *t = xcalloc(1, sizeof *t);
    struct buf bytes = {0};
    struct sync s = {0};
    assert_int_equal(call(w, c, &s, op_put("k", "v")), 0);
    w->c->disk_full = true;
    add_step(t, KV_TXN_OTHERWISE, KV_PUT, "k", slice_str("v"));
    assert_int_equal(call(w, c, &s, op_txn(t, &bytes)), -ENOSPC);
    memset(t, 0, sizeof *t);
    add_cond(t, KV_IF_VALUE, "k", slice_str("v"));
    add_step(t, KV_TXN_THEN, KV_DELETE, "k", (struct slice){0});
    assert_int_equal(call(w, c, &s, op_txn(t, &bytes)), 0);
    assert_int_equal(s.reply.off, KV_TXN_THEN);
    free(t);
    buf_free(&bytes);
    buf_free(&s.data);
    kv_client_free(c);
    world_free(w);
}

/* What the leader found out may take more bytes than the expected contents: refused where there is no room for it. */
static void no_room_for_what_was_compared(void **state)
{
    struct world *w = world_new(11);
    struct kv_client *c = client(w, 5, false);
    struct kv_txn *t = xcalloc(1, sizeof *t);
    struct buf bytes = {0};
    struct sync s = {0};
    uint8_t *big = xcalloc(1, KV_DATA_MAX);
    assert_int_equal(call(w, c, &s, (struct kv_op){.code = KV_PUT, .name = slice_str("k"), .data = slice_of(big, 1000)}), 0);
    struct kv_op shorter = {.code = KV_SETATTR, .ino = s.reply.attr.ino, .flags = FS_SET_SIZE, .len = 5};
    assert_int_equal(call(w, c, &s, shorter), 0);
    for (unsigned room = 0; room <= 7; room += 7) {
        memset(t, 0, sizeof *t);
        add_cond(t, KV_IF_VALUE, "k", slice_of(big, 5));
        add_step(t, KV_TXN_THEN, KV_PUT, "new", slice_of(big, KV_DATA_MAX - 26 - room));
        assert_int_equal(call(w, c, &s, op_txn(t, &bytes)), room ? 0 : -EFBIG);
        assert_int_equal(bytes.n, KV_DATA_MAX - room);
        if (room) assert_int_equal(s.reply.off, KV_TXN_THEN);
        assert_int_equal(call(w, c, &s, op_get("new")), room ? 0 : -ENOENT);
    }
    assert_replicas_equal(w);
    check_live(w);
    free(big);
    free(t);
    buf_free(&bytes);
    buf_free(&s.data);
    kv_client_free(c);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wire),           cmocka_unit_test(limits),           cmocka_unit_test(against_a_model),
        cmocka_unit_test(all_or_nothing), cmocka_unit_test(too_much_to_read), cmocka_unit_test(versions),
        cmocka_unit_test(compared_again), cmocka_unit_test(gone),             cmocka_unit_test(moves_under_faults),
        cmocka_unit_test(full_disk),      cmocka_unit_test(no_room_for_what_was_compared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
