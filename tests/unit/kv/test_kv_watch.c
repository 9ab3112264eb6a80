/* Watching: the history of events, which operations make which events, and watches over leaders that come and go,
 * connections that break, and clients that do not read. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "kv/client.h"
#include "world.h"

/* ---- the history ---- */

static void add_events(struct kv__history *h, uint64_t revision, unsigned n, size_t key_bytes)
{
    uint8_t key[FS_KEY_MAX];
    struct fs_attr attr = {.ino = revision, .version = 3, .size = 4};
    memset(key, 'k', sizeof key);
    kv__history_open(h, revision);
    for (unsigned i = 0; i < n; i++)
        kv__history_add(h, i % 3 == 2 ? KV_EVENT_DELETE : KV_EVENT_PUT, slice_of(key, key_bytes), &attr);
    kv__history_close(h);
}

/* All events from there on: the numbers of the first and the last, and how many. */
static int walk(const struct kv__history *h, uint64_t revision, uint32_t position, uint64_t *first, uint64_t *last)
{
    struct kv__cursor c;
    struct kv_event ev, before = {0};
    struct slice raw;
    int n = 0, got = kv__history_seek(h, revision, position, &c);
    if (got) return got;
    while ((got = kv__history_next(h, &c, &ev, &raw)) == 1) {
        if (n++ == 0) *first = ev.revision * 100 + ev.position;
        else assert_true(ev.revision > before.revision ||
                         (ev.revision == before.revision && ev.position == before.position + 1));
        *last = ev.revision * 100 + ev.position;
        before = ev;
    }
    assert_int_equal(got, 0);
    return n;
}

static void history_basics(void **state)
{
    struct kv__history h;
    uint64_t first, last;
    kv__history_init(&h);
    assert_int_equal(walk(&h, 1, 0, &first, &last), 0);
    assert_int_equal(walk(&h, 0, 0, &first, &last), QE_GONE);
    add_events(&h, 5, 3, 10);
    add_events(&h, 6, 0, 10);
    add_events(&h, 9, 2, 10);
    assert_int_equal(h.end, 9);
    assert_int_equal(walk(&h, 1, 0, &first, &last), 5);
    assert_true(first == 500 && last == 901);
    assert_int_equal(walk(&h, 5, 1, &first, &last), 4);
    assert_int_equal(first, 501);
    assert_int_equal(walk(&h, 5, 3, &first, &last), 2);
    assert_int_equal(walk(&h, 9, 1, &first, &last), 1);
    assert_int_equal(walk(&h, 10, 0, &first, &last), 0);
    assert_int_equal(walk(&h, 1000, 0, &first, &last), 0);
    /* Part of an entry is undone. */
    kv__history_open(&h, 11);
    kv__history_add(&h, KV_EVENT_DELETE, slice_str("a"), NULL);
    struct kv__history_mark mark = kv__history_mark(&h);
    kv__history_add(&h, KV_EVENT_DELETE, slice_str("b"), NULL);
    kv__history_cut(&h);
    kv__history_undo(&h, mark);
    kv__history_add(&h, KV_EVENT_DELETE, slice_str("c"), NULL);
    kv__history_close(&h);
    assert_int_equal(walk(&h, 10, 0, &first, &last), 2);
    assert_int_equal(last, 1101);
    /* An entry that did too much. */
    kv__history_open(&h, 12);
    kv__history_add(&h, KV_EVENT_DELETE, slice_str("a"), NULL);
    kv__history_cut(&h);
    kv__history_close(&h);
    assert_int_equal(walk(&h, 12, 0, &first, &last), QE_GONE);
    assert_int_equal(walk(&h, 13, 0, &first, &last), 0);
    add_events(&h, 13, 1, 10);
    assert_int_equal(walk(&h, 13, 0, &first, &last), 1);
    kv__history_restart(&h, 20);
    assert_int_equal(walk(&h, 20, 0, &first, &last), QE_GONE);
    assert_int_equal(walk(&h, 21, 0, &first, &last), 0);
    kv__history_free(&h);
}

/* It holds as many chunks as it may, what it has is whole, and cursors notice what they have missed. */
static void history_is_bounded(void **state)
{
    struct kv__history h;
    struct kv__cursor c, old;
    struct kv_event ev;
    struct slice raw;
    uint64_t first, last;
    kv__history_init(&h);
    h.chunks_max = 4;
    add_events(&h, 1, 1, 100);
    assert_int_equal(kv__history_seek(&h, 1, 0, &old), 0);
    assert_int_equal(kv__history_seek(&h, 1, 0, &c), 0);
    assert_int_equal(kv__history_next(&h, &c, &ev, &raw), 1);
    for (uint64_t rev = 2; rev < 3000; rev++) {
        add_events(&h, rev, (unsigned)(rev % 5), rev % 7 ? 200 : FS_KEY_MAX);
        assert_true(h.next - h.first <= 4);
        while (kv__history_next(&h, &c, &ev, &raw) == 1) assert_int_equal(ev.revision, rev);
    }
    assert_true(h.begin > 2000);
    assert_int_equal(kv__history_next(&h, &old, &ev, &raw), QE_GONE);
    assert_int_equal(walk(&h, h.begin, 0, &first, &last), QE_GONE);
    assert_true(walk(&h, h.begin + 1, 0, &first, &last) > 100);
    assert_int_equal(first / 100, h.begin + 1 + ((h.begin + 1) % 5 == 0));
    add_events(&h, 3000, 4096, FS_KEY_MAX);             /* one entry that is more than all of it */
    assert_int_equal(h.begin, 3000);
    assert_int_equal(walk(&h, 3000, 0, &first, &last), QE_GONE);
    assert_int_equal(walk(&h, 3001, 0, &first, &last), 0);
    add_events(&h, 3001, 2, 5);
    assert_int_equal(walk(&h, 3001, 0, &first, &last), 2);
    kv__history_free(&h);
}

/* ---- which operations make which events ---- */

#define DIRS 6u
#define NAMES 5u

struct entry {
    uint8_t key[FS_KEY_MAX];
    size_t n;
    uint64_t ino, version, size;
};

struct keys {
    struct entry *v;
    size_t n, cap;
};

static struct entry *find(struct keys *k, struct slice key)
{
    for (size_t i = 0; i < k->n; i++)
        if (slice_eq(slice_of(k->v[i].key, k->v[i].n), key)) return &k->v[i];
    return NULL;
}

static void set(struct keys *k, struct slice key, uint64_t ino, uint64_t version, uint64_t size)
{
    struct entry *e = find(k, key);
    if (!e) {
        if (k->n == k->cap) {
            k->cap = k->cap ? 2 * k->cap : 64;
            k->v = xrealloc(k->v, k->cap * sizeof *k->v);
        }
        e = &k->v[k->n++];
        memcpy(e->key, key.p, key.n);
        e->n = key.n;
    }
    e->ino = ino;
    e->version = version;
    e->size = size;
}

/* A delete names a key that was there, a put says something new: no event is without cause. */
static void apply_event(struct keys *k, const struct kv_event *ev)
{
    struct entry *e = find(k, ev->key);
    if (ev->type == KV_EVENT_DELETE) {
        assert_non_null(e);
        *e = k->v[--k->n];
        return;
    }
    assert_true(!e || e->ino != ev->ino || e->version != ev->version);
    set(k, ev->key, ev->ino, ev->version, ev->size);
}

struct comparing {
    struct keys *k;
    size_t seen;
};

static bool compare_key(void *ctx, struct slice key, const struct fs_attr *attr)
{
    struct comparing *c = ctx;
    struct entry *e = find(c->k, key);
    if (!e) print_error("no event told of key %.*s\n", (int)key.n, (const char *)key.p);
    assert_non_null(e);
    assert_int_equal(e->ino, attr->ino);
    assert_int_equal(e->version, attr->version);
    assert_int_equal(e->size, attr->size);
    c->seen++;
    return true;
}

static void assert_same_keys(struct keys *k, const struct fs *fs)
{
    struct comparing c = {.k = k};
    assert_int_equal(fs_list(fs, (struct slice){0}, (struct slice){0}, compare_key, &c), 0);
    assert_int_equal(c.seen, k->n);
}

struct storm {
    struct prng r;
    uint64_t inos[32];          /* seen lately */
    char name[16], name2[16], key[64];
    uint8_t data[700];
};

static uint64_t some_ino(struct storm *s)
{
    uint64_t ino = s->inos[prng_below(&s->r, 32)];
    return ino ? ino : FS_ROOT_INO;
}

static struct slice some_name(struct storm *s, char out[16])
{
    return slice_of(out, (size_t)snprintf(out, 16, "n%u", (unsigned)prng_below(&s->r, NAMES)));
}

static struct kv_op some_op(struct storm *s)
{
    static const enum kv_code codes[] = {KV_MKNOD, KV_MKNOD,   KV_CREATE,     KV_LINK,    KV_UNLINK, KV_RMDIR, KV_RENAME,
                                         KV_RENAME, KV_SETATTR, KV_WRITE,     KV_WRITE,   KV_FALLOCATE, KV_COPY_RANGE,
                                         KV_SETXATTR, KV_PUT,   KV_PUT,       KV_APPEND,  KV_DELETE, KV_CAS,  KV_RELEASE};
    struct prng *r = &s->r;
    static const uint32_t types[] = {S_IFREG, S_IFDIR, S_IFDIR, S_IFIFO};
    struct kv_op op = {.code = codes[prng_below(r, sizeof codes / sizeof *codes)]};
    bool keyed = op.code >= KV_PUT;
    op.ino = prng_chance(r, 20) ? FS_ROOT_INO : some_ino(s);
    op.ino2 = prng_chance(r, 20) ? FS_ROOT_INO : some_ino(s);
    op.name = some_name(s, s->name);
    op.name2 = some_name(s, s->name2);
    if (keyed) {
        int n = snprintf(s->key, sizeof s->key, "n%u", (unsigned)prng_below(r, NAMES));
        for (unsigned i = (unsigned)prng_below(r, 3); i > 0; i--)
            n += snprintf(s->key + n, sizeof s->key - (size_t)n, "/n%u", (unsigned)prng_below(r, NAMES));
        op.name = slice_of(s->key, (size_t)n);
        op.name2 = (struct slice){0};
        op.flags = op.code == KV_CAS;
    }
    op.data = slice_of(s->data, prng_chance(r, 20) ? 0 : prng_below(r, sizeof s->data));
    op.mode = types[prng_below(r, 4)] | 0755;
    op.off = prng_below(r, 1000) * prng_below(r, 2);
    op.off2 = prng_below(r, 1000);
    op.len = prng_below(r, 1500);
    if (op.code == KV_RENAME) op.flags = (uint32_t)prng_below(r, 3);
    if (op.code == KV_SETATTR) op.flags = prng_chance(r, 50) ? FS_SET_SIZE : FS_SET_MODE;
    if (op.code == KV_WRITE) op.flags = (uint32_t)prng_below(r, 2);
    if (op.code == KV_FALLOCATE) op.flags = prng_chance(r, 50) ? 3 : (uint32_t)prng_below(r, 2);
    if (op.code == KV_RELEASE) op.data.n = 0;
    if (op.code == KV_SETXATTR) op.name = slice_str("user.x");
    return op;
}

static struct storm *storm;

static void on_outcome(void *arg, uint32_t pos, enum kv__outcome what, enum kv_code code, const struct kv_reply *r)
{
    if (code == KV_SESSION_OPEN) *(uint64_t *)arg = r->off;
    else if (what == KV__ANSWER && r->status >= 0 && r->attr.ino && storm)
        storm->inos[prng_below(&storm->r, 32)] = r->attr.ino;
}

static void add(struct kv__batch *b, uint64_t session, uint64_t seq, const struct kv_op *op)
{
    struct buf bytes = {0};
    kv_op_encode(op, &bytes, NULL);
    kv__batch_add(b, &(struct kv__record){session, seq, seq, buf_slice(&bytes)});
    buf_free(&bytes);
}

static void apply(struct kv__store *st, struct kv__batch *b)
{
    kv__batch_stamp(b, (int64_t)st->applied * 1000, st->applied);
    assert_int_equal(kv__store_apply(st, st->applied + 1, blob_slice(b->blob)), 0);
    kv__batch_free(b);
}

/* Random operations of all kinds: after each entry the events tell exactly how the set of keys, their versions and
 * sizes have changed. */
static void events_of_everything(void **state)
{
    for (unsigned seed = 1; seed <= 12; seed++) {
        struct storm s = {0};
        uint64_t session = 0, seq = 0;
        struct kv__store *st = kv__store_new(&(struct kv__store_cb){.arg = &session, .outcome = on_outcome});
        struct kv__batch b = {0};
        struct keys k = {0};
        struct kv_op open = {.code = KV_SESSION_OPEN, .off2 = 1, .flags = seed % 2};
        prng_seed(&s.r, seed);
        random_bytes(&s.r, s.data, sizeof s.data);
        storm = NULL;
        add(&b, 0, 0, &open);
        apply(st, &b);
        storm = &s;
        unsigned events = 0;
        for (unsigned i = 0; i < 3000; i++) {
            uint64_t revision = st->applied + 1;
            for (uint64_t n = prng_between(&s.r, 1, 3); n > 0; n--) {
                struct kv_op op = some_op(&s);
                add(&b, session, ++seq, &op);
            }
            apply(st, &b);
            struct kv__cursor c;
            struct kv_event ev;
            struct slice raw;
            assert_int_equal(kv__history_seek(&st->history, revision, 0, &c), 0);
            while (kv__history_next(&st->history, &c, &ev, &raw) == 1) {
                assert_int_equal(ev.revision, revision);
                apply_event(&k, &ev);
                events++;
            }
            assert_same_keys(&k, &st->fs);
        }
        struct buf why = {0};
        assert_int_equal(fs_check(&st->fs, &why), 0);
        buf_free(&why);
        assert_true(events > 500);
        free(k.v);
        storm = NULL;
        kv__store_free(st);
    }
}

/* A rename of a directory tells of each key below it, unless there are too many: then history is cut, on purpose. */
static void a_large_rename(void **state)
{
    uint64_t session = 0, seq = 0;
    struct kv__store *st = kv__store_new(&(struct kv__store_cb){.arg = &session, .outcome = on_outcome});
    struct kv__batch b = {0};
    struct kv_op open = {.code = KV_SESSION_OPEN, .off2 = 1};
    struct kv_op mv = {.code = KV_RENAME, .ino = 1, .name = slice_str("d"), .ino2 = 1, .name2 = slice_str("e")};
    struct kv_op back = {.code = KV_RENAME, .ino = 1, .name = slice_str("e"), .ino2 = 1, .name2 = slice_str("d")};
    unsigned keys = 0, deletes = 0, puts = 0;
    char key[32];
    add(&b, 0, 0, &open);
    apply(st, &b);
    for (; keys < 4097; keys++) {
        if (keys == 4096) {             /* just as many as can be told */
            add(&b, session, ++seq, &mv);
            apply(st, &b);
            struct kv__cursor c;
            struct kv_event ev;
            struct slice raw;
            assert_int_equal(kv__history_seek(&st->history, st->applied, 0, &c), 0);
            while (kv__history_next(&st->history, &c, &ev, &raw) == 1) {
                if (ev.type == KV_EVENT_DELETE) deletes++;
                else puts++;
                assert_true(puts == 0 || ev.type == KV_EVENT_PUT);
            }
            assert_true(deletes == 4096 && puts == 4096);
            add(&b, session, ++seq, &back);
            apply(st, &b);
        }
        snprintf(key, sizeof key, "d/%u", keys);
        struct kv_op put = op_put(key, "v");
        add(&b, session, ++seq, &put);
        apply(st, &b);
    }
    assert_int_equal(st->history.begin, 0);
    add(&b, session, ++seq, &mv);
    apply(st, &b);
    assert_int_equal(st->history.begin, st->applied);
    kv__store_free(st);
}

/* ---- watches ---- */

struct told {
    struct kv_watch w;
    struct kv_event ev[20000];  /* keys are in `text` */
    unsigned n, moves, ends;
    int err;
    uint64_t from;
    struct buf text;
    struct kv_client *cancel_in;        /* cancels itself at the nth event */
    unsigned cancel_at;
};

static void on_event(struct kv_watch *w, const struct kv_event *ev)
{
    struct told *t = w->arg;
    assert_true(t->n < 20000);
    assert_true(w->revision == ev->revision && w->position == ev->position + 1);
    t->ev[t->n] = *ev;
    t->ev[t->n].key = slice_of(NULL, ev->key.n);
    put_bytes(&t->text, ev->key);
    if (++t->n == t->cancel_at) kv_watch_cancel(t->cancel_in, w);
}

static void on_moved(struct kv_watch *w) { ((struct told *)w->arg)->moves++; }

static void on_ended(struct kv_watch *w, int err, uint64_t from, struct slice why)
{
    struct told *t = w->arg;
    t->ends++;
    t->err = err;
    t->from = from;
    assert_true(why.n > 0);
}

static struct told *told_new(const char *key, bool prefix, uint64_t revision)
{
    struct told *t = xcalloc(1, sizeof *t);
    t->w = (struct kv_watch){.key = slice_str(key), .prefix = prefix, .revision = revision, .event = on_event,
                             .moved = on_moved, .ended = on_ended, .arg = t};
    return t;
}

static void told_free(struct told *t)
{
    buf_free(&t->text);
    free(t);
}

/* Exactly what the history of that server says, of the keys that were asked for. */
static void assert_told(struct told *t, struct kv_server *s, const char *key, bool prefix, uint64_t revision)
{
    struct kv__cursor c;
    struct kv_event ev;
    struct slice raw, want = slice_str(key);
    unsigned n = 0;
    size_t at = 0;
    assert_int_equal(kv__history_seek(&s->store->history, revision, 0, &c), 0);
    while (kv__history_next(&s->store->history, &c, &ev, &raw) == 1) {
        bool hit = ev.key.n >= want.n && memcmp(ev.key.p, want.p, want.n) == 0 && (prefix || ev.key.n == want.n);
        if (!hit) continue;
        assert_true(n < t->n);
        const struct kv_event *is = &t->ev[n++];
        assert_int_equal(is->revision, ev.revision);
        assert_int_equal(is->position, ev.position);
        assert_true(is->type == ev.type && is->ino == ev.ino && is->version == ev.version && is->size == ev.size);
        assert_true(slice_eq(slice_of(t->text.p + at, is->key.n), ev.key));
        at += is->key.n;
    }
    assert_int_equal(n, t->n);
}

static void watching(void **state)
{
    struct world *w = world_new(1);
    struct kv_client *c = client(w, 5, false), *d = client(w, 6, false);
    struct sync s = {0};
    assert_int_equal(call(w, c, &s, op_put("a/1", "x")), 0);
    uint64_t first = s.reply.index;
    struct told *all = told_new("", true, first), *now = told_new("", true, 0), *a = told_new("a/", true, 1),
                *one = told_new("a/1", false, 1), *later = told_new("", true, first + 3);
    struct told *v[] = {all, now, a, one, later};
    for (unsigned i = 0; i < 5; i++) kv_watch(d, &v[i]->w);
    fake_run(&w->f, 50 * MS);
    assert_true(all->n == 1 && now->n == 0 && a->n == 1 && one->n == 1 && later->n == 0);
    for (unsigned i = 0; i < 5; i++) assert_true(v[i]->moves >= 1);
    assert_int_equal(now->w.revision, first + 1);
    assert_int_equal(call(w, c, &s, op_put("b", "x")), 0);
    assert_int_equal(call(w, c, &s, op_append("a/1", "x")), 0);
    assert_int_equal(call(w, c, &s, (struct kv_op){.code = KV_DELETE, .name = slice_str("a/1")}), 0);
    fake_run(&w->f, 50 * MS);
    assert_true(all->n == 4 && now->n == 3 && a->n == 3 && one->n == 3 && later->n == 1);
    assert_told(all, w->servers[1], "", true, first);
    assert_told(one, w->servers[2], "a/1", false, 1);
    /* Where nothing was for it, it is told all the same how far things are. */
    fake_run(&w->f, 2 * S);
    assert_true(a->w.revision > a->ev[2].revision);
    kv_watch_cancel(d, &a->w);
    assert_int_equal(call(w, c, &s, op_put("a/2", "x")), 0);
    fake_run(&w->f, 50 * MS);
    assert_true(a->n == 3 && all->n == 5);
    assert_int_equal(w->servers[1]->nwatches, 4);
    /* In the middle of a frame. */
    all->cancel_in = d;
    all->cancel_at = 7;
    static struct sync many[6];
    for (unsigned i = 0; i < 6; i++) start(c, &many[i], op_put("c", "x"));
    fake_run(&w->f, 50 * MS);
    assert_int_equal(all->n, 7);
    assert_int_equal(now->n, 10);
    kv_client_free(d);
    fake_run(&w->f, 50 * MS);
    assert_int_equal(w->servers[1]->nwatches, 0);
    assert_true(now->ends == 0 && list_empty(&w->servers[1]->watching));
    kv_client_free(c);
    for (unsigned i = 0; i < 5; i++) told_free(v[i]);
    for (unsigned i = 0; i < 6; i++) buf_free(&many[i].data);
    buf_free(&s.data);
    world_free(w);
}

static void closed(void *arg) { *(bool *)arg = true; }

static void the_end(void **state)
{
    struct world *w = world_new(2);
    struct kv_client *c = client(w, 5, false), *d = client(w, 6, false);
    struct sync s = {0};
    struct told *t = told_new("", true, 0), *late = told_new("", true, 0), *old = told_new("", true, 1);
    struct told *busy[KV_CONN_WATCHES + 1];
    bool done = false;
    w->servers[1]->store->history.chunks_max = 1;
    for (unsigned i = 0; i < 700; i++) {
        char key[201];
        memset(key, 'k', 200);
        key[200] = 0;
        assert_int_equal(call(w, c, &s, op_put(key, "v")), 0);
    }
    kv_watch(d, &old->w);
    fake_run(&w->f, 50 * MS);
    assert_true(old->ends == 1 && old->err == QE_GONE && old->n == 0);
    assert_int_equal(old->from, w->servers[1]->store->history.begin + 1);
    old->w.revision = old->from;                /* as it was told */
    kv_watch(d, &old->w);
    fake_run(&w->f, 50 * MS);
    assert_true(old->ends == 1 && old->n > 100);
    for (unsigned i = 0; i <= KV_CONN_WATCHES; i++) {
        busy[i] = told_new("", true, 0);
        kv_watch(d, &busy[i]->w);
    }
    fake_run(&w->f, 50 * MS);
    unsigned refused = 0;
    for (unsigned i = 0; i <= KV_CONN_WATCHES; i++) refused += busy[i]->err == QE_BUSY;
    assert_int_equal(refused, 2);               /* with `old` there are two too many */
    kv_watch(d, &t->w);
    kv_client_close(d, w->f.now + 5 * S, closed, &done);
    kv_watch(d, &late->w);
    fake_run(&w->f, 1 * S);
    assert_true(done && t->ends == 1 && late->ends == 1 && late->err == QE_STOPPED);
    for (unsigned i = 0; i <= KV_CONN_WATCHES; i++) {
        assert_int_equal(busy[i]->ends, 1);
        told_free(busy[i]);
    }
    kv_client_free(d);
    kv_client_free(c);
    told_free(t);
    told_free(late);
    told_free(old);
    buf_free(&s.data);
    world_free(w);
}

/* ---- leaders come and go ---- */

static void under_faults(void **state)
{
    for (unsigned seed = 1; seed <= 8; seed++) {
        struct world *w = world_new(100 + seed);
        struct kv_client *c = client(w, 5, false), *watchers[3];
        struct told *t[3];
        static const char *const what[3] = {"", "k/", "k/3"};
        static struct sync s[8];
        struct prng r;
        unsigned puts = 0;
        prng_seed(&r, seed);
        for (unsigned i = 0; i < 8; i++) s[i].done = true;
        for (unsigned i = 0; i < 3; i++) {
            watchers[i] = client(w, 20 + i, false);
            t[i] = told_new(what[i], i < 2, 1);
            kv_watch(watchers[i], &t[i]->w);
        }
        for (unsigned round = 0; puts < 2500; round++) {
            assert_true(round < 100000);
            unsigned fate = (unsigned)prng_below(&r, 100);
            uint64_t id = 1 + prng_below(&r, 3);
            if (fate < 3) fake_lead(w->c, id, prng_below(&r, 6), prng_below(&r, 50 * MS));
            else if (fate < 6) fake_cut_some(&w->f, ADDR[id], 60);
            else if (fate < 7) fake_freeze_addr(&w->f, ADDR[id], true);
            else if (fate < 12) fake_freeze_addr(&w->f, ADDR[id], false);
            if (w->c->leader == 0) fake_lead(w->c, id, 3, 0);
            for (unsigned i = 0; i < 8; i++) {
                char key[16];
                if (!s[i].done) continue;
                snprintf(key, sizeof key, "%s/%u", prng_chance(&r, 70) ? "k" : "o", (unsigned)prng_below(&r, 6));
                puts++;
                if (prng_chance(&r, 25)) start(c, &s[i], (struct kv_op){.code = KV_DELETE, .name = slice_str(key)});
                else start(c, &s[i], op_put(key, "v"));
            }
            fake_run(&w->f, prng_below(&r, 10 * MS));
        }
        for (uint64_t id = 1; id <= 3; id++) fake_freeze_addr(&w->f, ADDR[id], false);
        fake_lead(w->c, 2, 5, 0);
        for (unsigned i = 0; i < 8; i++) assert_true(fake_until(&w->f, sync_is_done, &s[i], 30 * S));
        fake_run(&w->f, 30 * S);
        assert_replicas_equal(w);
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(t[i]->ends, 0);
            for (uint64_t id = 1; id <= 3; id++) assert_told(t[i], w->servers[id], what[i], i < 2, 1);
            kv_client_free(watchers[i]);
            told_free(t[i]);
        }
        kv_client_free(c);
        for (unsigned i = 0; i < 8; i++) {
            buf_free(&s[i].data);
            s[i] = (struct sync){0};
        }
        world_free(w);
    }
}

/* The leader stands still and nobody asks it anything: the watcher notices by itself. */
static void a_silent_leader(void **state)
{
    struct world *w = world_new(3);
    struct kv_client *c = client(w, 5, false), *d = client(w, 6, false);
    struct told *t = told_new("", true, 1);
    struct sync s = {0};
    kv_watch(d, &t->w);
    assert_int_equal(call(w, c, &s, op_put("k", "v")), 0);
    fake_run(&w->f, 20 * S);
    assert_int_equal(t->n, 1);
    fake_freeze_addr(&w->f, "n1", true);
    fake_lead(w->c, 2, 5, 3600 * S);            /* the old one is not told for an hour */
    assert_int_equal(call(w, c, &s, op_put("k", "w")), 0);
    fake_run(&w->f, 15 * S);
    assert_int_equal(t->n, 2);
    fake_freeze_addr(&w->f, "n1", false);
    fake_run(&w->f, 1 * S);
    kv_client_free(c);
    kv_client_free(d);
    told_free(t);
    buf_free(&s.data);
    world_free(w);
}

/* ---- a watcher that does not read ---- */

static void raw_frame(struct conn *c, uint8_t type, struct slice p) {}
static void raw_closed(struct conn *c, int err) { *(bool *)c->arg = true; }
static const struct conn_cb raw_cb = {.frame = raw_frame, .closed = raw_closed};

static void does_not_read(void **state)
{
    struct world *w = world_new(4);
    struct kv_client *c = client(w, 5, false);
    struct sync s = {0};
    bool gone = false;
    struct conn *raw = net_dial(&w->f.net, "n1", &raw_cb, &gone);
    struct buf b = {0};
    struct kv__hello h = {.version = KV_VERSION};
    fake_run(&w->f, 1 * MS);
    kv__hello_encode(&h, &b);
    struct slice v = buf_slice(&b);
    conn_send(raw, KV_FRAME_HELLO, &v, 1);
    for (unsigned i = 1; i <= 20; i++) {
        struct kv__watching ask = {.id = i, .revision = 1, .flags = KV_WATCH_PREFIX};
        buf_clear(&b);
        kv__watch_encode(&ask, &b);
        v = buf_slice(&b);
        conn_send(raw, KV_FRAME_WATCH, &v, 1);
    }
    fake_run(&w->f, 1 * MS);
    assert_int_equal(w->servers[1]->nwatches, 20);
    conn_pause(raw, true);
    struct kv__conn *conn = container_of(w->servers[1]->watching.next, struct kv__conn, watch_link);
    char key[251];
    memset(key, 'k', 250);
    key[250] = 0;
    size_t high = 0;
    uint64_t begin = w->f.now;
    for (unsigned i = 0; i < 2000; i++) {
        assert_int_equal(call(w, c, &s, op_put(key, "v")), 0);
        if (gone || !conn->conn) break;
        high = max_u64(high, conn_queued(conn->conn));
    }
    assert_true(high > KV_WATCH_SEND_HIGH / 2 && high < KV_WATCH_SEND_HIGH + 40 * KIB);
    while (!gone && w->f.now < begin + 60 * S) fake_run(&w->f, 1 * S);
    assert_true(gone);                          /* it takes nothing: closed */
    assert_int_equal(w->servers[1]->nwatches, 0);
    assert_int_equal(call(w, c, &s, op_put(key, "v")), 0);
    kv_client_free(c);
    buf_free(&b);
    buf_free(&s.data);
    world_free(w);
}

/* One that is frozen for less than that: with enough history it goes on, with too little it is told so. */
static void frozen_for_a_while(void **state)
{
    for (unsigned little = 0; little < 2; little++) {
        struct world *w = world_new(5 + little);
        struct kv_client *c = client(w, 5, false), *d = client(w, 6, false);
        struct told *t = told_new("", true, 1);
        struct sync s = {0};
        if (little)
            for (uint64_t id = 1; id <= 3; id++) w->servers[id]->store->history.chunks_max = 1;
        kv_watch(d, &t->w);
        fake_run(&w->f, 10 * MS);
        assert_int_equal(t->moves, 1);
        conn_pause(d->conn, true);
        char key[251];
        memset(key, 'k', 250);
        key[250] = 0;
        for (unsigned i = 0; i < 1500; i++) assert_int_equal(call(w, c, &s, op_put(key, "v")), 0);
        conn_pause(d->conn, false);
        fake_run(&w->f, 10 * S);
        if (little) {
            assert_true(t->ends == 1 && t->err == QE_GONE && t->n < 1500);
            assert_true(t->from > t->w.revision);
        } else {
            assert_true(t->ends == 0 && t->n == 1500);
            assert_told(t, w->servers[3], "", true, 1);
        }
        kv_client_free(c);
        kv_client_free(d);
        told_free(t);
        buf_free(&s.data);
        world_free(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(history_basics), cmocka_unit_test(history_is_bounded), cmocka_unit_test(events_of_everything),
        cmocka_unit_test(a_large_rename), cmocka_unit_test(watching),           cmocka_unit_test(the_end),
        cmocka_unit_test(under_faults),   cmocka_unit_test(a_silent_leader),    cmocka_unit_test(does_not_read),
        cmocka_unit_test(frozen_for_a_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
