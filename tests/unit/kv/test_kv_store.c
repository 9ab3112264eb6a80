/* The state machine without a node: equal batches make equal states and answers, images carry everything over, every
 * number is executed once, sessions end at the right moment of cluster time. */
#include "rig.h"

#include <stdio.h>
#include <string.h>

#include "kv/query.h"
#include "kv/store.h"

/* ---- a store, and a log of what it said ---- */

struct said {
    uint32_t pos;
    enum kv__outcome what;
    enum kv_code code;
    int32_t status;
    uint64_t off, index;
    struct fs_attr attr;
};

struct rig {
    struct kv__store *st;
    struct said said[4096];
    uint32_t nsaid;
    int64_t live[4096];         /* by index */
    uint64_t hash;              /* over everything said */
};

static void on_outcome(void *arg, uint32_t pos, enum kv__outcome what, enum kv_code code, const struct kv_reply *r)
{
    struct rig *g = arg;
    assert_true(g->nsaid < 4096);
    struct said *s = &g->said[g->nsaid++];
    memset(s, 0, sizeof *s);
    s->pos = pos;
    s->what = what;
    s->code = code;
    s->status = r->status;
    if (what != KV__ANSWER) return;
    s->off = r->off;
    s->index = r->index;
    struct buf b = {0};
    if (code) kv_reply_encode(code, r, &b);
    put_u32(&b, (uint32_t)what);
    put_u32(&b, (uint32_t)r->status);
    g->hash = hash64(g->hash, b.p, b.n);
    buf_free(&b);
    s->attr = r->attr;
}

static void on_live(void *arg, uint64_t index, int64_t delta)
{
    struct rig *g = arg;
    assert_true(index < 4096);
    g->live[index] += delta;
    assert_true(g->live[index] >= 0);
}

static struct rig *rig_new(void)
{
    struct rig *g = xcalloc(1, sizeof *g);
    g->st = kv__store_new(&(struct kv__store_cb){g, on_live, on_outcome});
    return g;
}

static void rig_free(struct rig *g)
{
    kv__store_free(g->st);
    free(g);
}

/* The live counts must be those of a walk over all references, and the filesystem must be sound. */
static void sum_range(void *ctx, uint64_t index, uint32_t off, uint32_t len) { ((int64_t *)ctx)[index] += len; }

static void assert_sound(struct rig *g)
{
    int64_t sums[4096] = {0};
    fs_all_ranges(&g->st->fs, sum_range, sums);
    for (unsigned i = 0; i < 4096; i++) assert_int_equal(sums[i], g->live[i]);
    struct buf why = {0};
    int err = fs_check(&g->st->fs, &why);
    if (err) print_error("%.*s\n", (int)why.n, (char *)why.p);
    assert_int_equal(err, 0);
    buf_free(&why);
}

/* ---- batches by hand ---- */

struct maker {
    struct kv__batch b;
    struct buf op;
};

static void add(struct maker *m, uint64_t session, uint64_t seq, uint64_t floor, const struct kv_op *op)
{
    buf_clear(&m->op);
    kv_op_encode(op, &m->op, NULL);
    kv__batch_add(&m->b, &(struct kv__record){session, seq, floor, buf_slice(&m->op)});
}

static int apply(struct maker *m, struct rig *g, uint64_t index, int64_t wall, uint64_t cluster)
{
    g->nsaid = 0;
    if (!m->b.blob) add(m, 0, 0, 0, &(struct kv_op){.code = KV_SESSION_EXPIRE});
    kv__batch_stamp(&m->b, wall, cluster);
    return kv__store_apply(g->st, index, blob_slice(m->b.blob));
}

static void clear(struct maker *m) { kv__batch_free(&m->b); }

static void maker_free(struct maker *m)
{
    clear(m);
    buf_free(&m->op);
}

/* One change in a batch of its own. */
static struct said one(struct rig *g, uint64_t index, uint64_t cluster, uint64_t session, uint64_t seq, uint64_t floor,
                       const struct kv_op *op)
{
    struct maker m = {0};
    add(&m, session, seq, floor, op);
    assert_int_equal(apply(&m, g, index, (int64_t)index * 1000, cluster), 0);
    assert_int_equal(g->nsaid, 1);
    maker_free(&m);
    return g->said[0];
}

static struct kv_op op_open(uint64_t nonce, bool mount, uint64_t ttl_ms)
{
    return (struct kv_op){
        .code = KV_SESSION_OPEN, .name = slice_str("test"), .flags = mount, .len = ttl_ms, .off2 = nonce};
}

static struct kv_op op_append(const char *key, const char *text)
{
    return (struct kv_op){.code = KV_APPEND, .name = slice_str(key), .data = slice_str(text)};
}

static struct kv_op op_put(const char *key, const char *text)
{
    return (struct kv_op){.code = KV_PUT, .name = slice_str(key), .data = slice_str(text)};
}

static void assert_contents(struct rig *g, const char *key, const char *text)
{
    struct kv__result res = {0};
    struct kv_op op = {.code = KV_GET, .name = slice_str(key)};
    kv__query(g->st, &op, &(struct kv_statfs){0}, &res);
    if (!text) {
        assert_int_equal(res.reply.status, -ENOENT);
    } else {
        assert_int_equal(res.reply.status, 0);
        assert_int_equal(res.npieces, 0);
        assert_int_equal(res.reply.data.n, strlen(text));
        assert_memory_equal(res.reply.data.p, text, strlen(text));
    }
    kv__result_free(&res);
}

#define S NS_PER_S

/* ---- exactly once ---- */

static void executes_once(void **state)
{
    struct rig *g = rig_new();
    struct kv_op open = op_open(77, false, 10000), a = op_append("k", "a"), b = op_append("k", "b"),
                 c = op_append("k", "c");
    struct said s = one(g, 1, 0, 0, 0, 0, &open);
    uint64_t id = s.off;
    assert_int_equal(s.status, 0);
    assert_true(id != 0);
    assert_int_equal(one(g, 2, 0, id, 1, 1, &a).status, 0);
    struct said first = one(g, 3, 0, id, 3, 1, &c);     /* ahead of 2: executed when it comes */
    assert_int_equal(one(g, 4, 0, id, 2, 1, &b).status, 0);
    assert_contents(g, "k", "acb");
    struct said again =
        one(g, 5, 0, id, 3, 1, &c); /* a repetition gets the stored answer, with the first one's index */
    assert_int_equal(again.what, KV__ANSWER);
    assert_int_equal(again.index, 3);
    assert_int_equal(again.code, KV_APPEND);
    assert_attr_equal(&again.attr, &first.attr);
    assert_contents(g, "k", "acb");
    struct kv_op keep = {.code = KV_SESSION_KEEP};
    one(g, 6, 0, id, 4, 4, &keep);                      /* 1 to 3 are answered and received */
    assert_int_equal(one(g, 7, 0, id, 2, 1, &b).what, KV__SILENT);
    assert_int_equal(one(g, 8, 0, id, 3, 3, &b).what, KV__SILENT);
    assert_contents(g, "k", "acb");
    struct kv_op fails = {.code = KV_DELETE, .name = slice_str("none")}, put = op_put("none", "x");
    assert_int_equal(one(g, 9, 0, id, 5, 4, &fails).status, -ENOENT);
    assert_int_equal(one(g, 10, 0, id, 6, 4, &put).status, 0);
    assert_int_equal(one(g, 11, 0, id, 5, 4, &fails).status, -ENOENT);      /* failures are remembered, too */
    assert_contents(g, "none", "x");
    assert_int_equal(one(g, 12, 0, id, 0, 0, &a).what, KV__SILENT);
    assert_int_equal(one(g, 13, 0, id + 1, 1, 1, &a).status, QE_SESSION);
    assert_int_equal(one(g, 14, 0, 0, 1, 1, &a).status, QE_SESSION);
    rig_free(g);
}

static void window(void **state)
{
    struct rig *g = rig_new();
    struct kv_op open = op_open(1, false, 0), a = op_append("k", "a");
    uint64_t id = one(g, 1, 0, 0, 0, 0, &open).off;
    assert_int_equal(one(g, 2, 0, id, KV_WINDOW, 1, &a).status, 0);
    assert_int_equal(one(g, 3, 0, id, KV_WINDOW + 1, 1, &a).status, QE_BUSY);
    assert_int_equal(one(g, 4, 0, id, KV_WINDOW + 1, 2, &a).status, 0); /* not remembered: it executes when it fits */
    assert_contents(g, "k", "aa");
    uint64_t rows = omap_count(g->st->map);
    assert_int_equal(one(g, 5, 0, id, KV_WINDOW + 2, KV_WINDOW + 2, &a).status, 0);
    assert_int_equal(omap_count(g->st->map), rows - 1);     /* two answers went, one came */
    rig_free(g);
}

static void several_in_a_batch(void **state)
{
    struct rig *g = rig_new();
    struct maker m = {0};
    struct kv_op open = op_open(1, false, 0), open2 = op_open(2, true, 0);
    add(&m, 0, 0, 0, &open);
    add(&m, 0, 0, 0, &open2);
    add(&m, 0, 0, 0, &open);
    assert_int_equal(apply(&m, g, 1, 5, 5), 0);
    uint64_t a = g->said[0].off, b = g->said[1].off;
    assert_true(a != b && a && b);
    assert_int_equal(g->said[2].off, a);        /* the same nonce finds the same session */
    assert_int_equal(g->st->sessions, 2);
    assert_int_equal(g->st->mounts, 1);
    clear(&m);
    struct kv_op x = op_append("k", "x"), y = op_append("k", "y");
    add(&m, a, 1, 1, &x);
    add(&m, a, 1, 1, &x);
    add(&m, b, 1, 1, &y);
    add(&m, a, 2, 1, &x);
    add(&m, b, 1, 1, &y);
    add(&m, a, 1, 1, &x);
    assert_int_equal(apply(&m, g, 2, 6, 6), 0);
    assert_int_equal(g->nsaid, 6);
    for (unsigned i = 0; i < 6; i++)
        assert_true(g->said[i].what == KV__ANSWER && g->said[i].status == 0 && g->said[i].pos == i);
    assert_contents(g, "k", "xyx");
    maker_free(&m);
    rig_free(g);
}

/* ---- sessions in time ---- */

static void expiry(void **state)
{
    struct rig *g = rig_new();
    struct kv_op open = op_open(9, true, 5000), a = op_append("k", "a");
    uint64_t id = one(g, 1, 100 * S, 0, 0, 0, &open).off;
    struct kv_op expire = {.code = KV_SESSION_EXPIRE, .ino = id};
    one(g, 2, 105 * S, 0, 0, 0, &expire);               /* to the nanosecond: not yet */
    assert_int_equal(g->st->sessions, 1);
    assert_int_equal(one(g, 3, 105 * S, id, 1, 1, &a).status, 0);      /* a sign of life */
    one(g, 4, 110 * S, 0, 0, 0, &expire);
    assert_int_equal(g->st->sessions, 1);
    one(g, 5, 90 * S, 0, 0, 0, &expire);                /* cluster time never falls */
    assert_int_equal(g->st->cluster, 110 * S);
    one(g, 6, 110 * S + 1, 0, 0, 0, &expire);
    assert_int_equal(g->st->sessions, 0);
    assert_int_equal(g->st->mounts, 0);
    assert_int_equal(one(g, 7, 111 * S, id, 2, 1, &a).status, QE_SESSION);
    assert_int_equal(one(g, 8, 111 * S, id, 1, 1, &a).status, QE_SESSION);
    one(g, 9, 111 * S, 0, 0, 0, &expire);               /* of a session that is gone: nothing */
    uint64_t other = one(g, 10, 111 * S, 0, 0, 0, &open).off;
    assert_true(other != id && other != 0);             /* the nonce went with its session */
    rig_free(g);
}

static void closing(void **state)
{
    struct rig *g = rig_new();
    struct kv_op put = op_put("f", "x"), close = {.code = KV_SESSION_CLOSE};
    struct kv_op open = op_open(1, true, 0), open2 = op_open(2, true, 0);
    uint64_t rows = 0, id = one(g, 1, 0, 0, 0, 0, &open).off, id2 = one(g, 2, 0, 0, 0, 0, &open2).off;
    struct said f = one(g, 3, 0, id, 1, 1, &put);
    rows = omap_count(g->st->map);
    /* 2 unlinks what 1 may have open: the file lives on until 1 has answered, or is gone. */
    struct kv_op un = {.code = KV_UNLINK, .ino = 1, .name = slice_str("f")};
    assert_int_equal(one(g, 4, 0, id2, 1, 1, &un).status, 0);
    struct fs_attr attr;
    assert_int_equal(fs_getattr(&g->st->fs, f.attr.ino, &attr), 0);
    struct kv_op keep = {.code = KV_SESSION_KEEP};
    assert_int_equal(one(g, 5, 0, id, 2, 1, &keep).off, 1);
    assert_int_equal(one(g, 6, 0, id2, 2, 1, &keep).off, 0);
    struct kv__result res = {0};
    struct kv_op owed = {.code = KV_OWED, .off = id};
    kv__query(g->st, &owed, &(struct kv_statfs){0}, &res);
    assert_int_equal(res.reply.data.n, 8);
    assert_int_equal(load_u64(res.reply.data.p), f.attr.ino);
    kv__result_free(&res);
    assert_int_equal(one(g, 7, 0, id, 3, 1, &close).status, 0);
    assert_int_equal(fs_getattr(&g->st->fs, f.attr.ino, &attr), -ENOENT);
    assert_int_equal(one(g, 8, 0, id, 3, 1, &close).status, QE_SESSION);
    assert_int_equal(one(g, 9, 0, id2, 3, 3, &close).status, 0);
    assert_true(omap_count(g->st->map) < rows);
    struct kv__session s;
    assert_false(kv__session_next(g->st->map, 0, &s));
    assert_sound(g);
    rig_free(g);
}

static void released(void **state)
{
    struct rig *g = rig_new();
    struct kv_op open = op_open(1, true, 0), open2 = op_open(2, true, 0), put = op_put("f", "x");
    uint64_t id = one(g, 1, 0, 0, 0, 0, &open).off, id2 = one(g, 2, 0, 0, 0, 0, &open2).off;
    uint64_t ino = one(g, 3, 0, id, 1, 1, &put).attr.ino;
    struct kv_op un = {.code = KV_UNLINK, .ino = 1, .name = slice_str("f"), .flags = 1};
    assert_int_equal(one(g, 4, 0, id, 2, 1, &un).status, 0);
    uint8_t inos[8];
    store_u64(inos, ino);
    struct kv_op rel = {.code = KV_RELEASE, .data = slice_of(inos, 8)};
    struct fs_attr attr;
    one(g, 5, 0, id2, 1, 1, &rel);
    assert_int_equal(fs_getattr(&g->st->fs, ino, &attr), 0);
    one(g, 6, 0, id, 3, 1, &rel);
    assert_int_equal(fs_getattr(&g->st->fs, ino, &attr), -ENOENT);
    rel.data.n = 7;
    assert_int_equal(one(g, 7, 0, id, 4, 1, &rel).status, -EINVAL);
    rig_free(g);
}

static void too_many_sessions(void **state)
{
    struct rig *g = rig_new();
    g->st->sessions = KV_SESSIONS_MAX;
    struct kv_op open = op_open(1, false, 0);
    assert_int_equal(one(g, 1, 0, 0, 0, 0, &open).status, QE_BUSY);
    rig_free(g);
}

/* ---- compare-and-set, refusals ---- */

static struct said cas(struct rig *g, uint64_t index, uint64_t id, uint64_t seq, const char *key, const char *expected,
                       const char *to, uint32_t flags, uint64_t ino, uint64_t version)
{
    struct kv_op op = {.code = KV_CAS,
                       .name = slice_str(key),
                       .name2 = slice_str(expected),
                       .data = slice_str(to),
                       .flags = flags,
                       .ino = ino,
                       .off = version};
    return one(g, index, 0, id, seq, 1, &op);
}

static void compare_and_set(void **state)
{
    struct rig *g = rig_new();
    struct kv_op open = op_open(1, false, 0);
    uint64_t id = one(g, 1, 0, 0, 0, 0, &open).off;
    assert_int_equal(cas(g, 2, id, 1, "k", "x", "y", 0, 0, 0).status, QE_MISMATCH);
    assert_int_equal(cas(g, 3, id, 2, "k", "", "one", 1, 0, 0).status, 0);
    assert_int_equal(cas(g, 4, id, 3, "k", "", "two", 1, 0, 0).status, QE_MISMATCH);
    assert_int_equal(cas(g, 5, id, 4, "k", "onE", "two", 0, 0, 0).status, QE_MISMATCH);
    assert_int_equal(cas(g, 6, id, 5, "k", "on", "two", 0, 0, 0).status, QE_MISMATCH);
    assert_int_equal(cas(g, 7, id, 6, "k", "one", "two", 0, 0, 0).status, 0);
    assert_int_equal(cas(g, 8, id, 6, "k", "one", "two", 0, 0, 0).status, 0);     /* the repetition of a success */
    assert_contents(g, "k", "two");
    char big[FS_INLINE_MAX + 100];
    memset(big, 'b', sizeof big);
    big[sizeof big - 1] = 0;
    struct kv_op put = op_put("big", big);
    struct said p = one(g, 9, 0, id, 7, 1, &put);
    struct said u = cas(g, 10, id, 8, "big", big, "small", 0, 0, 0);
    assert_int_equal(u.what, KV__UNDECIDED);
    u = cas(g, 11, id, 8, "big", "", "small", 2, p.attr.ino, p.attr.version + 1);
    assert_int_equal(u.what, KV__UNDECIDED);
    u = cas(g, 12, id, 8, "big", "", "small", 2, p.attr.ino, p.attr.version);
    assert_int_equal(u.what, KV__ANSWER);
    assert_int_equal(u.status, 0);
    assert_contents(g, "big", "small");
    u = cas(g, 13, id, 9, "gone", "", "small", 2, p.attr.ino, p.attr.version);
    assert_int_equal(u.what, KV__UNDECIDED);
    rig_free(g);
}

static void refusals(void **state)
{
    struct rig *g = rig_new();
    struct kv_op open = op_open(1, false, 0), a = op_append("k", "a");
    uint64_t id = one(g, 1, 0, 0, 0, 0, &open).off;
    assert_int_equal(one(g, 2, 0, id, 1, 1, &a).status, 0);
    struct maker m = {0};
    kv__batch_refuse(&m.b, &(struct kv__record){id, 1, 1, {0}}, -ENOSPC);       /* it had succeeded before */
    kv__batch_refuse(&m.b, &(struct kv__record){id, 2, 1, {0}}, -ENOSPC);
    assert_int_equal(apply(&m, g, 3, 5, 5), 0);
    assert_int_equal(g->said[0].status, 0);
    assert_int_equal(g->said[0].code, KV_APPEND);
    assert_int_equal(g->said[1].status, -ENOSPC);
    assert_int_equal(one(g, 4, 0, id, 2, 1, &a).status, -ENOSPC);               /* and now it never will */
    assert_contents(g, "k", "a");
    maker_free(&m);
    rig_free(g);
}

static void bad_entries(void **state)
{
    struct kv_op a = op_append("k", "a"), get = {.code = KV_GET, .name = slice_str("k")};
    struct maker m = {0};
    struct rig *g = rig_new();
    add(&m, 1, 1, 1, &get);
    assert_int_equal(apply(&m, g, 1, 5, 5), QE_FRAME);      /* a query does not belong there */
    rig_free(g);
    clear(&m);
    add(&m, 1, 1, 1, &a);
    kv__batch_stamp(&m.b, 1, 1);
    for (uint32_t n = 0; n < m.b.blob->n; n++) {
        uint8_t *exact = malloc(n + 1);
        memcpy(exact, m.b.blob->p, n);
        g = rig_new();
        assert_int_equal(kv__store_apply(g->st, 1, slice_of(exact, n)), QE_FRAME);
        rig_free(g);
        free(exact);
    }
    maker_free(&m);
}

/* ---- time ---- */

static void wall_time_rises(void **state)
{
    struct rig *g = rig_new();
    struct fs_attr root;
    assert_int_equal(fs_getattr(&g->st->fs, 1, &root), 0);      /* there before anything was applied */
    struct maker m = {0};
    apply(&m, g, 1, 1000, 0);
    assert_int_equal(g->st->wall, 1000);
    assert_int_equal(fs_getattr(&g->st->fs, 1, &root), 0);
    assert_int_equal(root.mtime, 1000);
    apply(&m, g, 2, 500, 0);
    assert_int_equal(g->st->wall, 1001);
    apply(&m, g, 3, 2000, 0);
    assert_int_equal(g->st->wall, 2000);
    maker_free(&m);
    rig_free(g);
}

/* ---- random batches: twins, images ---- */

struct ids {
    uint64_t session[6], seq[6], floor[6];
    uint64_t nonce;
};

static struct slice random_name(struct prng *r)
{
    static const char *const names[] = {"a", "b", "c", "d", "dir", "dir2", "f"};
    return slice_str(names[prng_below(r, 7)]);
}

static struct slice random_key(struct prng *r)
{
    static const char *const keys[] = {"a", "b", "dir/a", "dir/b", "dir2/x/y", "dir2/x/z", "f", "a/b"};
    return slice_str(keys[prng_below(r, 8)]);
}

static uint8_t bytes[20000];

static struct slice random_data(struct prng *r)
{
    size_t n = prng_chance(r, 50) ? prng_below(r, 300) : prng_below(r, sizeof bytes);
    random_bytes(r, bytes, min_u64(n, 64));
    return slice_of(bytes, n);
}

static struct kv_op random_change(struct prng *r)
{
    static const enum kv_code codes[] = {
        KV_MKNOD, KV_CREATE, KV_LINK,      KV_UNLINK,     KV_RMDIR,    KV_RENAME,      KV_SETATTR,
        KV_WRITE, KV_WRITE,  KV_FALLOCATE, KV_COPY_RANGE, KV_SETXATTR, KV_REMOVEXATTR, KV_RELEASE,
        KV_PUT,   KV_PUT,    KV_APPEND,    KV_APPEND,     KV_DELETE,   KV_CAS,         KV_SESSION_KEEP};
    struct kv_op op = {.code = codes[prng_below(r, sizeof codes / sizeof *codes)]};
    static const uint32_t modes[] = {0040755, 0100644, 0120777, 0010600};
    op.ino = prng_between(r, 1, 20);
    op.ino2 = prng_between(r, 1, 20);
    op.off = prng_below(r, 50000);
    op.off2 = prng_below(r, 50000);
    op.len = prng_below(r, 50000);
    op.uid = (uint32_t)prng_below(r, 3);
    op.mode = modes[prng_below(r, 4)];
    bool view = op.code >= KV_GET && op.code <= KV_CAS;
    op.name = view ? random_key(r) : random_name(r);
    op.name2 = random_name(r);
    op.flags = (uint32_t)prng_below(r, op.code == KV_SETATTR ? 512 : op.code == KV_CAS ? 2 : 4);
    op.atime = (int64_t)random_number(r) >> 8;
    op.mtime = (int64_t)random_number(r) >> 8;
    op.data = random_data(r);
    if (op.code == KV_SETXATTR) op.data.n = min_u64(op.data.n, 200);
    if (op.code == KV_RELEASE) op.data = slice_of(bytes, 8);
    if (op.code == KV_MKNOD && op.mode != 0120777) op.name2.n = 0;
    return op;
}

static void random_record(struct prng *r, struct ids *ids, struct maker *m)
{
    unsigned k = (unsigned)prng_below(r, 6);
    if (!ids->session[k] || prng_chance(r, 2)) {
        struct kv_op open =
            op_open(prng_chance(r, 80) ? ++ids->nonce : ids->nonce, prng_chance(r, 50), prng_between(r, 1, 20) * 1000);
        add(m, 0, 0, 0, &open);
        return;
    }
    struct kv_op op = random_change(r);
    if (prng_chance(r, 1)) op = (struct kv_op){.code = KV_SESSION_CLOSE};
    if (prng_chance(r, 3)) op = (struct kv_op){.code = KV_SESSION_EXPIRE, .ino = ids->session[k]};
    uint64_t seq = prng_chance(r, 80) ? ++ids->seq[k] : prng_below(r, ids->seq[k] + 3);
    if (prng_chance(r, 30)) ids->floor[k] = prng_between(r, ids->floor[k], ids->seq[k] + 1);
    uint64_t floor = min_u64(ids->floor[k], seq);
    if (prng_chance(r, 3)) kv__batch_refuse(&m->b, &(struct kv__record){ids->session[k], seq, floor, {0}}, -ENOSPC);
    else add(m, ids->session[k], seq, floor, &op);
}

static void learn_sessions(struct prng *r, const struct rig *g, struct ids *ids)
{
    for (uint32_t i = 0; i < g->nsaid; i++) {
        if (g->said[i].code != KV_SESSION_OPEN || g->said[i].status) continue;
        unsigned k = (unsigned)prng_below(r, 6);
        if (ids->session[k] == g->said[i].off) continue;
        ids->session[k] = g->said[i].off;
        ids->seq[k] = ids->floor[k] = 1;
    }
}

static void copy_image(struct rig *from, struct rig *to, uint64_t index)
{
    struct buf block = {0};
    void *snap = kv__snap_begin(from->st);
    kv__restore_begin(to->st);
    memset(to->live, 0, sizeof to->live);
    while (kv__snap_next(snap, &block) == 1) {
        assert_true(block.n > 0 && block.n <= LOG_BLOCK_MAX);
        assert_int_equal(kv__restore_block(to->st, buf_slice(&block)), 0);
        buf_clear(&block);
    }
    kv__snap_end(snap);
    int64_t sums[4096] = {0};
    kv__restore_ranges(to->st, sum_range, sums);
    assert_memory_equal(sums, from->live, sizeof sums);
    assert_int_equal(kv__restore_end(to->st, index), 0);
    assert_memory_equal(to->live, from->live, sizeof to->live);
    buf_free(&block);
}

static void assert_same_said(const struct rig *a, const struct rig *b)
{
    assert_int_equal(a->nsaid, b->nsaid);
    assert_memory_equal(a->said, b->said, a->nsaid * sizeof *a->said);
}

static void twins(uint64_t seed)
{
    struct prng r;
    prng_seed(&r, seed);
    struct rig *a = rig_new(), *b = rig_new(), *c = rig_new();
    struct ids ids = {0};
    uint64_t cluster = 0, answered = 0;
    for (uint64_t index = 1; index < 400; index++) {
        struct maker m = {0};
        for (unsigned n = (unsigned)prng_between(&r, 1, 12); n > 0; n--) random_record(&r, &ids, &m);
        cluster += prng_below(&r, 2 * S);
        int64_t wall = (int64_t)prng_below(&r, 1000 * index);
        assert_int_equal(apply(&m, a, index, wall, cluster), 0);
        assert_int_equal(apply(&m, b, index, wall, cluster), 0);
        assert_same_said(a, b);
        assert_int_equal(kv__store_digest(a->st), kv__store_digest(b->st));
        if (c->st->applied == index - 1) {
            assert_int_equal(apply(&m, c, index, wall, cluster), 0);
            assert_same_said(a, c);
        }
        if (prng_chance(&r, 5)) {           /* the third falls behind and catches up by an image */
            rig_free(c);
            c = rig_new();
        }
        if (c->st->applied < index && prng_chance(&r, 10)) copy_image(a, c, index);
        if (c->st->applied == index) assert_int_equal(kv__store_digest(a->st), kv__store_digest(c->st));
        learn_sessions(&r, a, &ids);
        for (uint32_t i = 0; i < a->nsaid; i++) answered += a->said[i].what == KV__ANSWER && a->said[i].status == 0;
        if (index % 50 == 0) assert_sound(a);
        maker_free(&m);
    }
    assert_true(answered > 300);            /* the generator makes sense */
    assert_int_equal(a->hash, b->hash);
    rig_free(a);
    rig_free(b);
    rig_free(c);
}

static void random_twins(void **state)
{
    for (uint64_t seed = 1; seed <= 12; seed++) twins(seed);
}

/* ---- images ---- */

static void damaged_images(void **state)
{
    struct rig *g = rig_new(), *to = rig_new();
    struct kv_op open = op_open(1, true, 0);
    uint64_t id = one(g, 1, 0, 0, 0, 0, &open).off;
    char key[16];
    for (uint64_t i = 1; i <= 300; i++) {
        snprintf(key, sizeof key, "k%llu", (unsigned long long)i);
        struct kv_op put = op_put(key, "some contents that take a little room");
        one(g, i + 1, 0, id, i, i, &put);
    }
    struct buf blocks[64] = {{0}};
    unsigned n = 0;
    void *snap = kv__snap_begin(g->st);
    struct kv_op more = op_put("later", "x");
    one(g, 400, 0, id, 301, 301, &more);            /* not in the image */
    while (kv__snap_next(snap, &blocks[n]) == 1) n++;
    kv__snap_end(snap);
    assert_true(n >= 2);
    uint64_t before = kv__store_digest(to->st);
    struct prng r;
    prng_seed(&r, 3);
    for (unsigned round = 0; round < 400; round++) {
        unsigned which = (unsigned)prng_below(&r, n);
        size_t at = prng_below(&r, blocks[which].n);
        uint8_t bit = (uint8_t)(1u << prng_below(&r, 8));
        blocks[which].p[at] ^= bit;
        kv__restore_begin(to->st);
        int err = 0;
        for (unsigned i = 0; i < n && !err; i++) err = kv__restore_block(to->st, buf_slice(&blocks[i]));
        if (!err) err = kv__restore_end(to->st, 301);
        assert_true(err == QE_CORRUPT || err == QE_VERSION);
        assert_int_equal(kv__store_digest(to->st), before);     /* the old state stays in use */
        kv__restore_cancel(to->st);
        blocks[which].p[at] ^= bit;
    }
    kv__restore_begin(to->st);                      /* a missing block */
    for (unsigned i = 0; i + 1 < n; i++) assert_int_equal(kv__restore_block(to->st, buf_slice(&blocks[i])), 0);
    assert_int_equal(kv__restore_end(to->st, 301), QE_CORRUPT);
    kv__restore_begin(to->st);                      /* begun anew, whole */
    for (unsigned i = 0; i < n; i++) assert_int_equal(kv__restore_block(to->st, buf_slice(&blocks[i])), 0);
    assert_int_equal(kv__restore_end(to->st, 301), 0);
    assert_contents(to, "k300", "some contents that take a little room");
    assert_contents(to, "later", NULL);
    assert_int_equal(to->st->applied, 301);
    assert_int_equal(to->st->sessions, 1);
    assert_int_equal(one(to, 302, 0, id, 300, 300, &more).index, 301);  /* answers are in it, too */
    for (unsigned i = 0; i < n; i++) buf_free(&blocks[i]);
    rig_free(g);
    rig_free(to);
}

/* ---- queries ---- */

static void pages(void **state)
{
    struct rig *g = rig_new();
    struct kv_op open = op_open(1, false, 0);
    uint64_t id = one(g, 1, 0, 0, 0, 0, &open).off;
    char key[16];
    for (uint64_t i = 1; i <= 200; i++) {
        snprintf(key, sizeof key, "d/k%03llu", (unsigned long long)i);
        struct kv_op put = op_put(key, "x");
        one(g, i + 1, 0, id, i, i, &put);
    }
    struct fs_attr dir, attr;
    assert_int_equal(fs_walk(&g->st->fs, slice_str("d"), &dir), 0);
    struct kv__result res = {0};
    char after[16] = "";
    unsigned n = 0, rounds = 0;
    for (bool end = false; !end; rounds++) {
        struct kv_op rd = {.code = KV_READDIR, .ino = dir.ino, .name = slice_str(after), .len = 600};
        kv__query(g->st, &rd, &(struct kv_statfs){0}, &res);
        assert_int_equal(res.reply.status, 0);
        assert_true(res.reply.data.n <= 600);
        struct reader r = reader_of(res.reply.data);
        for (struct slice name; kv_dirent_next(&r, &name, &attr);) {
            snprintf(after, sizeof after, "k%03u", ++n);
            assert_true(slice_eq(name, slice_str(after)));
        }
        end = res.reply.off == 1;
    }
    assert_int_equal(n, 200);
    assert_true(rounds > 5);
    struct kv_op ls = {.code = KV_LIST, .name = slice_str("d/k1"), .name2 = slice_str("d/k150"), .len = 20};
    kv__query(g->st, &ls, &(struct kv_statfs){0}, &res);
    struct reader r = reader_of(res.reply.data);
    struct slice name;
    for (n = 150; kv_dirent_next(&r, &name, &attr); n++) {
        snprintf(key, sizeof key, "d/k%u", n);
        assert_true(slice_eq(name, slice_str(key)));
    }
    assert_int_equal(n, 170);
    assert_int_equal(res.reply.off, 0);
    ls.len = 50;
    kv__query(g->st, &ls, &(struct kv_statfs){0}, &res);
    assert_int_equal(res.reply.off, 1);             /* exactly 50 are left: that is the end */
    kv__result_free(&res);
    rig_free(g);
}

static void reading_pieces(void **state)
{
    struct rig *g = rig_new();
    struct kv_op open = op_open(1, false, 0);
    uint64_t id = one(g, 1, 0, 0, 0, 0, &open).off;
    char big[1000];
    memset(big, 'q', sizeof big - 1);
    big[999] = 0;
    struct kv_op put = op_put("f", big);
    uint64_t ino = one(g, 2, 0, id, 1, 1, &put).attr.ino;
    struct kv_op write = {.code = KV_WRITE, .ino = ino, .off = 5000, .data = slice_of(big, 400)};
    struct said w = one(g, 3, 0, id, 2, 1, &write);
    assert_int_equal(w.off, 5000);
    assert_int_equal(w.attr.size, 5400);
    struct kv__result res = {0};
    struct kv_op rd = {.code = KV_READ, .ino = ino, .off = 990, .len = 100000};
    kv__query(g->st, &rd, &(struct kv_statfs){0}, &res);
    assert_int_equal(res.reply.status, 0);
    assert_int_equal(res.reply.data.n, 4410);
    assert_int_equal(res.npieces, 2);
    assert_true(res.pieces[0].index == 2 && res.pieces[0].len == 9 && res.pieces[0].at == 0);
    assert_true(res.pieces[1].index == 3 && res.pieces[1].len == 400 && res.pieces[1].at == 4010);
    for (size_t i = 9; i < 4010; i++) assert_int_equal(res.data.p[i], 0);
    /* The place named is where the bytes are in the entry. */
    struct maker m = {0};
    add(&m, id, 1, 1, &put);
    assert_int_equal(m.b.blob->p[res.pieces[0].off - 990], 'q');
    assert_memory_equal(m.b.blob->p + res.pieces[0].off - 990, big, 999);
    maker_free(&m);
    rd.len = KV_DATA_MAX + 1;
    kv__query(g->st, &rd, &(struct kv_statfs){0}, &res);
    assert_int_equal(res.reply.status, -EINVAL);
    rd = (struct kv_op){.code = KV_READ, .ino = ino, .off = 6000, .len = 10};
    kv__query(g->st, &rd, &(struct kv_statfs){0}, &res);
    assert_true(res.reply.status == 0 && res.reply.data.n == 0);
    rd.ino = 999;
    kv__query(g->st, &rd, &(struct kv_statfs){0}, &res);
    assert_int_equal(res.reply.status, -ENOENT);
    struct kv_op sf = {.code = KV_STATFS}, ss = {.code = KV_SESSIONS};
    kv__query(g->st, &sf, &(struct kv_statfs){.total = 10, .avail = 4}, &res);
    struct kv_statfs s;
    assert_int_equal(kv_statfs_decode(res.reply.data, &s), 0);
    assert_true(s.total == 10 && s.avail == 4 && s.used.files == 1 && s.used.dirs == 1);
    kv__query(g->st, &ss, &(struct kv_statfs){0}, &res);
    put_u8(&res.data, 0);
    assert_non_null(strstr((char *)res.data.p, " client ttl_ms 60000 "));
    kv__result_free(&res);
    rig_free(g);
}

static void full_disk(void **state)
{
    struct rig *g = rig_new();
    struct kv_op open = op_open(1, false, 0), put = op_put("f", "0123456789");
    uint64_t id = one(g, 1, 0, 0, 0, 0, &open).off;
    uint64_t ino = one(g, 2, 0, id, 1, 1, &put).attr.ino;
    struct kv_op refused[] = {put,
                              op_append("f", "x"),
                              {.code = KV_WRITE, .ino = ino},
                              {.code = KV_MKNOD, .ino = 1},
                              {.code = KV_CREATE, .ino = 1, .name = slice_str("new")},
                              {.code = KV_LINK},
                              {.code = KV_SETXATTR},
                              {.code = KV_FALLOCATE, .ino = ino},
                              {.code = KV_COPY_RANGE},
                              {.code = KV_CAS},
                              {.code = KV_SETATTR, .ino = ino, .flags = FS_SET_SIZE, .len = 11}};
    for (unsigned i = 0; i < sizeof refused / sizeof *refused; i++)
        assert_int_equal(kv__full_disk_error(g->st, &refused[i]), -ENOSPC);
    struct kv_op fine[] = {{.code = KV_UNLINK},
                           {.code = KV_RMDIR},
                           {.code = KV_DELETE},
                           {.code = KV_RENAME},
                           {.code = KV_RELEASE},
                           {.code = KV_SESSION_OPEN},
                           {.code = KV_SESSION_KEEP},
                           {.code = KV_SESSION_CLOSE},
                           {.code = KV_REMOVEXATTR},
                           {.code = KV_CREATE, .ino = 1, .name = slice_str("f")},
                           {.code = KV_FALLOCATE, .ino = ino, .flags = 3},
                           {.code = KV_SETATTR, .ino = ino, .flags = FS_SET_SIZE, .len = 10},
                           {.code = KV_SETATTR, .flags = FS_SET_MODE}};
    for (unsigned i = 0; i < sizeof fine / sizeof *fine; i++) assert_int_equal(kv__full_disk_error(g->st, &fine[i]), 0);
    rig_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(executes_once),
        cmocka_unit_test(window),
        cmocka_unit_test(several_in_a_batch),
        cmocka_unit_test(expiry),
        cmocka_unit_test(closing),
        cmocka_unit_test(released),
        cmocka_unit_test(too_many_sessions),
        cmocka_unit_test(compare_and_set),
        cmocka_unit_test(refusals),
        cmocka_unit_test(bad_entries),
        cmocka_unit_test(wall_time_rises),
        cmocka_unit_test(random_twins),
        cmocka_unit_test(damaged_images),
        cmocka_unit_test(pages),
        cmocka_unit_test(reading_pieces),
        cmocka_unit_test(full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
