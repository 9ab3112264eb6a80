/* log_rig.h - a log on a simulated disk under a manual clock, and a model of what it must hold.
 *
 * An entry's bytes follow from (index, term), as in Raft the pair names one entry and all before it: the model keeps for each
 * index the versions there ever were and the term of the entry before each. The state machine of the rig is a deterministic
 * function of the applied entries: which ranges of which entries are referred to. */
#ifndef QFS_TESTS_LOG_RIG_H
#define QFS_TESTS_LOG_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "raft/log_priv.h"
#include "tests/sim/disk.h"

#ifndef RIG_INDEX_MAX
#define RIG_INDEX_MAX 20000u
#endif
#define RIG_REFS 3

/* ---- clock ---- */

struct rig_clock {
    struct clock c;
    struct heap heap;
    uint64_t now;
};

static inline uint64_t rig_now(struct clock *c) { return container_of(c, struct rig_clock, c)->now; }
static int64_t rig_wall(struct clock *c) { return (int64_t)rig_now(c); }
static inline void rig_arm(struct clock *c, struct timer *t, uint64_t at)
{
    struct rig_clock *rc = container_of(c, struct rig_clock, c);
    heap_remove(&rc->heap, &t->node);
    heap_insert(&rc->heap, &t->node, at < rc->now ? rc->now : at);
}
static inline void rig_disarm(struct clock *c, struct timer *t) { heap_remove(&container_of(c, struct rig_clock, c)->heap, &t->node); }
static const struct clock_ops rig_clock_ops = {rig_now, rig_wall, rig_arm, rig_disarm};

/* ---- the model ---- */

struct version {
    uint64_t term, parent;
    uint32_t len;
    uint8_t kind;
};
struct versions {
    struct version *v;
    size_t n;
};
struct ref {
    uint32_t off, len;
};
struct state {                                  /* the rig's state machine */
    uint64_t index, term;
    struct ref (*refs)[RIG_REFS];               /* by entry index */
};

struct rig {
    struct rig_clock clock;
    struct sim_disk *disk;
    struct prng rng;
    uint64_t seed;
    struct log_config cfg;
    struct log *log;
    struct log_recovered rec;
    struct versions v[RIG_INDEX_MAX];
    uint64_t terms[RIG_INDEX_MAX];              /* of the log as it stands; [0] = 0 */
    uint64_t cterms[RIG_INDEX_MAX];             /* of what is committed, also where this log lacks it */
    uint64_t last, term;
    uint64_t durable, durable_term;             /* reported */
    uint64_t applied_most;                      /* the furthest any life applied; nothing up to it is ever truncated */
    struct state sm, snap;
    struct raft_hard hard, hard_durable;
    struct log_ckpt *ckpt;
    bool ckpt_committing, ckpt_failed;
    uint64_t ckpt_index;                        /* of the newest reported */
    uint64_t install_index;                     /* of a snapshot being installed: it may hold after a crash */
    uint32_t whatif_permille;                   /* how often a step tries out a crash on a copy of the disk */
    uint64_t whatifs;
    void (*each_step)(struct rig *r);           /* before a timer fires; may be NULL */
    void (*installing)(struct rig *r);          /* while an install is being committed, between two steps; may be NULL */
    int failed;                                 /* cb.failed */
    bool no_kills;                              /* the state machine forgets nothing */
    bool strict;                                /* no damage was done: recovery must be whole */
    uint64_t reads, gone, stores, installs;
    uint64_t sure;                      /* entries behind a checkpoint that a recovered log was sure of */
};

static inline uint64_t version_seed(uint64_t index, uint64_t term) { return hash_mix(index * 1000003 + term) | 1; }

static inline struct version *version_of(struct rig *r, uint64_t index, uint64_t term)
{
    for (size_t i = 0; i < r->v[index].n; i++)
        if (r->v[index].v[i].term == term) return &r->v[index].v[i];
    return NULL;
}

static inline void content(uint64_t index, uint64_t term, uint32_t off, uint32_t n, uint8_t *p)
{
    uint64_t s = version_seed(index, term);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t w = (off + i) / 8;
        p[i] = (uint8_t)(hash_mix(s + w * 0x9e3779b97f4a7c15ull) >> (8 * ((off + i) % 8)));
    }
}

static inline bool content_is(uint64_t index, uint64_t term, uint32_t off, uint32_t n, const uint8_t *p)
{
    uint8_t *want = xmalloc(n + 1u);
    content(index, term, off, n, want);
    bool same = memcmp(want, p, n) == 0;
    free(want);
    return same;
}

/* ---- state machine ---- */

static inline void state_init(struct state *s)
{
    s->index = s->term = 0;
    s->refs = xcalloc(RIG_INDEX_MAX, sizeof *s->refs);
}

static inline void state_copy(struct state *to, const struct state *from)
{
    to->index = from->index;
    to->term = from->term;
    memcpy(to->refs, from->refs, RIG_INDEX_MAX * sizeof *to->refs);
}

static inline void ref_set(struct rig *r, struct state *s, uint64_t index, int k, struct ref ref)
{
    int64_t delta = (int64_t)ref.len - s->refs[index][k].len;
    s->refs[index][k] = ref;
    if (s == &r->sm && delta) log_live_add(r->log, index, delta);
}

static inline void state_apply(struct rig *r, struct state *s, uint64_t index, uint64_t term)
{
    const struct version *v = version_of(r, index, term);
    struct prng p;
    prng_seed(&p, version_seed(index, term));
    s->index = index;
    s->term = term;
    assert_non_null(v);
    if (v->len && prng_chance(&p, 70)) {
        for (int k = 0; k < RIG_REFS; k++) {
            uint32_t off = (uint32_t)prng_below(&p, v->len), len = (uint32_t)prng_between(&p, 1, v->len - off);
            if (k == 0 || prng_chance(&p, 40)) ref_set(r, s, index, k, (struct ref){off, len});
        }
    }
    for (int k = 0; k < 3 && !r->no_kills; k++) {
        uint64_t back = 1 + prng_below(&p, prng_chance(&p, 50) ? 20 : 400);
        if (back < index) ref_set(r, s, index - back, (int)prng_below(&p, RIG_REFS), (struct ref){0, 0});
        if (back < index && prng_chance(&p, 60))
            for (int j = 0; j < RIG_REFS; j++) ref_set(r, s, index - back, j, (struct ref){0, 0});
    }
}

/* ---- callbacks ---- */

static inline void rig_persisted(void *arg, uint64_t index, uint64_t term)
{
    struct rig *r = arg;
    assert_true(index <= r->last);
    assert_int_equal(r->terms[index], term);
    assert_true(index >= r->durable);
    r->durable = index;
    r->durable_term = term;
}

static inline void rig_hard_persisted(void *arg, const struct raft_hard *hard) { ((struct rig *)arg)->hard_durable = *hard; }
static inline void rig_failed(void *arg, int err, const char *what) { ((struct rig *)arg)->failed = err; }
static inline void rig_trimmed(void *arg, uint64_t first) { assert_int_equal(first, log_first(((struct rig *)arg)->log)); }

static inline void rig_live_ranges(void *arg, uint64_t index, void (*emit)(void *ctx, uint32_t off, uint32_t len), void *ctx)
{
    struct rig *r = arg;
    struct ref v[RIG_REFS];
    int n = 0;
    for (int k = 0; k < RIG_REFS; k++)
        if (r->sm.refs[index][k].len) v[n++] = r->sm.refs[index][k];
    uint64_t at = 0;
    for (bool more = true; more;) {             /* the union, ascending */
        int best = -1;
        more = false;
        for (int k = 0; k < n; k++)
            if (v[k].off + v[k].len > at && (best < 0 || v[k].off < v[best].off)) best = k;
        if (best < 0) break;
        uint64_t from = max_u64(at, v[best].off), to = v[best].off + v[best].len;
        emit(ctx, (uint32_t)from, (uint32_t)(to - from));
        at = to;
        more = true;
    }
}

/* ---- life ---- */

static inline void rig_trace(void *arg, enum trace_level level, const char *text)
{
    if (getenv("QFS_TRACE")) fprintf(stderr, "  %s\n", text);
}
static const struct trace rig_tracer = {TRACE_DEBUG, rig_trace, NULL};

static inline struct rig *rig_new(uint64_t seed)
{
    struct rig *r = xcalloc(1, sizeof *r);
    r->seed = seed;
    r->strict = true;
    prng_seed(&r->rng, seed);
    r->clock.c.ops = &rig_clock_ops;
    r->clock.now = 1000;
    struct sim_disk_config dc = {.seed = seed + 1, .op_ns_min = 20 * NS_PER_US, .op_ns_max = 400 * NS_PER_US, .mib_ns = NS_PER_MS,
                                 .wait_percent = 30};
    r->disk = sim_disk_new(&r->clock.c, &dc);
    r->cfg = (struct log_config){.cluster_id = 77, .node_id = 3, .segment_bytes = 64 * KIB,
                                 .spare_segments = (uint32_t)prng_below(&r->rng, 3), .cache_bytes = prng_between(&r->rng, 1, 300000),
                                 .trail_bytes = prng_between(&r->rng, 1, 300000),
                                 .compact_live_percent = (uint32_t)prng_between(&r->rng, 10, 70),
                                 .cb = {r, rig_persisted, rig_hard_persisted, rig_failed, rig_trimmed, rig_live_ranges},
                                 .trace = &rig_tracer};
    state_init(&r->sm);
    state_init(&r->snap);
    r->term = 1;
    return r;
}

static inline void rig_free(struct rig *r)
{
    sim_disk_kill(r->disk);
    if (r->log) log_close(r->log);
    sim_disk_free(r->disk);
    heap_free(&r->clock.heap);
    for (size_t i = 0; i < RIG_INDEX_MAX; i++) free(r->v[i].v);
    free(r->sm.refs);
    free(r->snap.refs);
    free(r);
}

static inline void rig_whatif(struct rig *r);

/* Lets the next timer fire. False: there is none. */
static inline bool rig_step(struct rig *r)
{
    struct heap_node *n = heap_min(&r->clock.heap);
    if (!n) return false;
    if (r->log && prng_below(&r->rng, 1000) < r->whatif_permille) rig_whatif(r);
    if (r->log && r->each_step) r->each_step(r);
    r->clock.now = max_u64(r->clock.now, n->key);
    heap_remove(&r->clock.heap, n);
    struct timer *t = container_of(n, struct timer, node);
    t->fire(t);
    return true;
}

static inline void rig_run(struct rig *r, uint64_t ns)
{
    uint64_t until = r->clock.now + ns;
    for (struct heap_node *n; (n = heap_min(&r->clock.heap)) && n->key <= until;) rig_step(r);
    r->clock.now = until;
}

static inline void rig_settle(struct rig *r)
{
    for (int i = 0; i < 1000 && !r->failed; i++) {
        rig_run(r, 20 * NS_PER_MS);
        if (log_idle(r->log) && i > 10) return;
    }
    fprintf(stderr, "seed %llu: not idle: %u operations, next %llu of %llu, queue %d, ckpt %d, jobs %d\n", (unsigned long long)r->seed,
            r->log->inflight, (unsigned long long)r->log->w.next, (unsigned long long)r->log->last, !list_empty(&r->log->pay.queue),
            r->log->ckpt != NULL, !list_empty(&r->log->jobs));
    assert_true(r->failed != 0);
}

/* ---- what was recovered ---- */

struct bytes_got {
    bool done;
    int err;
};
static inline void rig_read_done(struct log_read *rd, int err) { *(struct bytes_got *)rd->arg = (struct bytes_got){true, err}; }
static inline void rig_fetch_done(struct log_fetch *f, int err) { *(struct bytes_got *)f->arg = (struct bytes_got){true, err}; }
static inline void rig_store_done(struct log_store *s, int err) { *(struct bytes_got *)s->arg = (struct bytes_got){true, err}; }

static inline int rig_read_log(struct rig *r, struct log *log, uint64_t index, uint32_t off, uint32_t n, uint8_t *p)
{
    struct bytes_got got = {0};
    int err = log_try_read(log, index, off, n, p);
    if (err != -EAGAIN) return err;
    struct log_read rd = {.index = index, .off = off, .n = n, .p = p, .done = rig_read_done, .arg = &got};
    log_read(log, &rd);
    assert_false(got.done);
    while (!got.done) assert_true(rig_step(r));
    return got.err;
}

static inline int rig_fetch(struct rig *r, struct log *log, uint64_t first, uint64_t last)
{
    struct bytes_got got = {0};
    struct log_fetch f = {.first = first, .last = last, .done = rig_fetch_done, .arg = &got};
    log_fetch(log, &f);
    assert_false(got.done);
    while (!got.done) assert_true(rig_step(r));
    return got.err;
}

static inline void rig_dump(struct rig *r, const char *what, uint64_t index)
{
    fprintf(stderr, "seed %llu: %s (index %llu; first %llu last %llu durable %llu applied %llu)\n", (unsigned long long)r->seed, what,
            (unsigned long long)index, (unsigned long long)log_first(r->log), (unsigned long long)r->last,
            (unsigned long long)r->durable, (unsigned long long)r->applied_most);
}
#define RIG_CHECK(r, index, cond)                                                                                                \
    do {                                                                                                                         \
        if (!(cond)) {                                                                                                           \
            rig_dump(r, #cond, index);                                                                                           \
            fail_msg("%s", #cond);                                                                                               \
        }                                                                                                                        \
    } while (0)

/* Every recovered entry is a version there was, on top of the one before it there was; with bytes, if asked. */
static inline void rig_check_entries(struct rig *r, struct log *log, const struct log_recovered *rec, bool bytes)
{
    uint64_t before = rec->raft.first == rec->raft.snapshot_index + 1 ? rec->raft.snapshot_term : UINT64_MAX;
    RIG_CHECK(r, rec->raft.first, rec->raft.first <= rec->raft.snapshot_index + 1);
    RIG_CHECK(r, rec->raft.last, rec->raft.last + 1 >= rec->raft.first && rec->raft.last >= rec->raft.snapshot_index);
    for (uint64_t i = rec->raft.first; i <= rec->raft.last; i++) {
        uint64_t term;
        RIG_CHECK(r, i, raft__log_term_at(log, i, &term));
        const struct version *v = version_of(r, i, term);
        RIG_CHECK(r, i, v != NULL);
        if (before != UINT64_MAX) RIG_CHECK(r, i, v->parent == before);
        const struct ent *e = raft__ent(log, i);
        RIG_CHECK(r, i, e->len == v->len && e->kind == v->kind);
        before = term;
        if (!bytes || v->len == 0) continue;
        uint8_t *p = xmalloc(v->len);
        int err = rig_read_log(r, log, i, 0, v->len, p);
        if (r->strict) RIG_CHECK(r, i, err == 0);
        if (err == 0) RIG_CHECK(r, i, content_is(i, term, 0, v->len, p));
        free(p);
    }
}

/* What the log is sure of is what was committed. */
static inline void rig_check_sure(struct rig *r, struct log *log, const struct log_recovered *rec)
{
    uint64_t sure = log_sure(log), term;
    RIG_CHECK(r, sure, sure <= max_u64(r->applied_most, rec->raft.snapshot_index));
    for (uint64_t i = max_u64(rec->raft.first, 1); i <= min_u64(sure, rec->raft.last); i++)
        RIG_CHECK(r, i, raft__log_term_at(log, i, &term) && term == r->cterms[i]);
    r->sure += sure > rec->raft.snapshot_index ? sure - rec->raft.snapshot_index : 0;
}

static inline void rig_check_recovered(struct rig *r, struct log *log, const struct log_recovered *rec, bool bytes)
{
    rig_check_entries(r, log, rec, bytes);
    rig_check_sure(r, log, rec);
    const char *bad = raft__place_invariant(log);
    RIG_CHECK(r, 0, bad == NULL);
    if (!r->strict) return;
    RIG_CHECK(r, 0, !rec->damaged);
    RIG_CHECK(r, 0, rec->raft.hard.term >= r->hard_durable.term);
    if (rec->raft.hard.term == r->hard_durable.term && r->hard_durable.vote) RIG_CHECK(r, 0, rec->raft.hard.vote == r->hard_durable.vote);
    RIG_CHECK(r, r->ckpt_index, rec->raft.snapshot_index >= r->ckpt_index);
    if (rec->raft.snapshot_index == r->install_index && r->install_index > r->ckpt_index) return;
    RIG_CHECK(r, r->durable, rec->raft.last >= r->durable);
    for (uint64_t i = max_u64(rec->raft.first, 1); i <= r->durable; i++) {
        uint64_t term;
        RIG_CHECK(r, i, raft__log_term_at(log, i, &term) && term == r->terms[i]);
    }
}

/* Cuts the power on a copy of the disk and looks at what would be recovered. */
static inline void rig_whatif(struct rig *r)
{
    struct rig_clock clock = {.c.ops = &rig_clock_ops, .now = r->clock.now};
    struct sim_disk *d = sim_disk_clone(r->disk, &clock.c, prng_u64(&r->rng));
    struct log *log;
    struct log_recovered rec;
    struct buf why = {0};
    if (prng_chance(&r->rng, 80)) sim_disk_crash(d);
    int err = log_open(sim_disk_door(d), &clock.c, &r->cfg, &log, &rec, &why);
    if (err) fprintf(stderr, "%.*s\n", (int)why.n, (const char *)why.p);
    RIG_CHECK(r, 0, err == 0);
    rig_check_recovered(r, log, &rec, false);
    sim_disk_kill(d);
    log_close(log);
    sim_disk_free(d);
    heap_free(&clock.heap);
    buf_free(&why);
    r->whatifs++;
}

/* ---- the state machine over the log ---- */

static inline int rig_restore_block(void *arg, struct slice block)
{
    struct rig *r = arg;
    struct reader rd = reader_of(block);
    while (reader_left(&rd)) {
        uint64_t i = get_u64(&rd);
        uint32_t k = get_u32(&rd);
        struct ref ref = {get_u32(&rd), 0};
        ref.len = get_u32(&rd);
        if (rd.bad || i >= RIG_INDEX_MAX || k > RIG_REFS) return QE_CORRUPT;
        if (k == RIG_REFS) continue;            /* padding */
        r->sm.refs[i][k] = ref;
    }
    return 0;
}

static inline void rig_report_refs(struct rig *r)
{
    for (uint64_t i = 0; i < RIG_INDEX_MAX; i++)
        for (int k = 0; k < RIG_REFS; k++)
            if (r->sm.refs[i][k].len) log_live_add(r->log, i, r->sm.refs[i][k].len);
}

static inline void rig_apply_to(struct rig *r, uint64_t index)
{
    while (r->sm.index < index) {
        uint64_t i = r->sm.index + 1;
        r->cterms[i] = r->terms[i];
        state_apply(r, &r->sm, i, r->terms[i]);
    }
    r->applied_most = max_u64(r->applied_most, r->sm.index);
    log_committed(r->log, r->sm.index);
    log_applied(r->log, r->sm.index);
}

static inline void rig_append_version(struct rig *r, uint64_t term, uint32_t len, uint8_t kind)
{
    uint64_t i = r->last + 1;
    assert_true(i < RIG_INDEX_MAX);
    if (!version_of(r, i, term)) {
        struct versions *vs = &r->v[i];
        vs->v = xrealloc(vs->v, (vs->n + 1) * sizeof *vs->v);
        vs->v[vs->n++] = (struct version){term, r->terms[i - 1], len, kind};
    }
    struct blob *b = len ? blob_new(len) : NULL;
    if (b) content(i, term, 0, len, b->p);
    struct log_entry e = {.index = i, .term = term, .kind = kind, .data = b};
    log_append(r->log, &e);
    blob_unref(b);
    r->last = i;
    r->terms[i] = term;
}

/* Opens what is on the disk; the model follows what was recovered. Returns log_open's error. */
static inline int rig_open(struct rig *r)
{
    struct buf why = {0};
    r->failed = 0;
    r->ckpt = NULL;
    r->ckpt_committing = false;
    int err = log_open(sim_disk_door(r->disk), &r->clock.c, &r->cfg, &r->log, &r->rec, &why);
    if (err) {
        assert_true(why.n > 10);
        r->log = NULL;
        buf_free(&why);
        return err;
    }
    buf_free(&why);
    rig_check_recovered(r, r->log, &r->rec, false);
    r->last = r->rec.raft.last;
    r->applied_most = max_u64(r->applied_most, r->rec.raft.snapshot_index);
    for (uint64_t i = 1; i <= r->applied_most; i++) r->terms[i] = r->cterms[i];
    for (uint64_t i = r->rec.raft.first; i <= r->last; i++) {
        uint64_t term;
        assert_true(raft__log_term_at(r->log, i, &term));
        if (i > r->applied_most)
            r->terms[i] = term;
        else if (term != r->terms[i]) {         /* a leader would cut it off */
            log_truncate(r->log, i);
            r->last = i - 1;
        }
    }
    r->install_index = 0;
    r->durable = r->last;
    r->durable_term = r->terms[r->last];
    r->hard = r->hard_durable = r->rec.raft.hard;
    r->ckpt_index = r->rec.raft.snapshot_index;
    memset(r->sm.refs, 0, RIG_INDEX_MAX * sizeof *r->sm.refs);
    int loaded = log_ckpt_load(r->log, rig_restore_block, r);
    if (r->strict) assert_int_equal(loaded, 0);
    if (loaded) {
        sim_disk_kill(r->disk);
        log_close(r->log);
        r->log = NULL;
        return loaded;
    }
    r->sm.index = r->rec.raft.snapshot_index;
    r->sm.term = r->rec.raft.snapshot_term;
    rig_report_refs(r);
    log_applied(r->log, r->sm.index);
    for (uint64_t i = r->last + 1; i <= r->applied_most; i++) {     /* committed elsewhere: a leader sends it again */
        struct version *v = version_of(r, i, r->terms[i]);
        rig_append_version(r, r->terms[i], v->len, v->kind);
    }
    for (uint64_t i = 0; i <= r->last; i++) r->term = max_u64(r->term, r->terms[i]);
    r->term++;
    rig_apply_to(r, r->applied_most);
    return 0;
}

/* All bytes that the state machine refers to are there and right. */
/* log_run() goes through the bytes of an entry up to `end` and says of each what log_has() says. */
static inline void rig_check_runs(struct rig *r, uint64_t index, uint32_t end)
{
    bool here;
    for (uint32_t off = 0, k; off < end; off += k) {
        k = log_run(r->log, &(struct log_read){.index = index}, off, end - off, &here);
        RIG_CHECK(r, index, k > 0 && k <= end - off);
        RIG_CHECK(r, index, log_has(r->log, index, off, here ? k : 1) == here);
        RIG_CHECK(r, index, log_has(r->log, index, off + k - 1, 1) == here);
    }
}

static inline void rig_check_refs(struct rig *r)
{
    for (uint64_t i = 1; i <= r->sm.index && !r->failed; i++) {
        for (int k = 0; k < RIG_REFS; k++) {
            struct ref ref = r->sm.refs[i][k];
            if (ref.len == 0) continue;
            uint8_t *p = xmalloc(ref.len);
            int err = rig_read_log(r, r->log, i, ref.off, ref.len, p);
            if (r->strict && err) {
                struct place_at it;
                fprintf(stderr, "entry %llu range %u+%u: %s; live %llu\n", (unsigned long long)i, ref.off, ref.len, err_name(err),
                        (unsigned long long)raft__place_live_of(&r->log->places, i));
                raft__place_seek(&r->log->places, i, 0, &it);
                for (const struct piece *pc; (pc = raft__place_get(&r->log->places, &it)) && pc->index == i;
                     raft__place_next(&r->log->places, &it))
                    fprintf(stderr, "  piece %u+%u live %llu in %lld\n", pc->off, pc->len, (unsigned long long)pc->live,
                            pc->seg == SEG_NONE ? -1ll : (long long)r->log->seg[pc->seg]->no);
            }
            rig_check_runs(r, i, ref.off + ref.len);
            if (r->strict) RIG_CHECK(r, i, err == 0);
            if (err == 0) RIG_CHECK(r, i, content_is(i, r->terms[i], ref.off, ref.len, p));
            r->reads++;
            r->gone += err != 0;
            free(p);
        }
    }
    const char *bad = raft__place_invariant(r->log);
    if (bad) fail_msg("seed %llu: %s", (unsigned long long)r->seed, bad);
}

/* ---- checkpoints ---- */

static inline void rig_ckpt_done(void *arg, int err)
{
    struct rig *r = arg;
    uint64_t index, term;
    uint32_t blocks;
    r->ckpt = NULL;
    r->ckpt_committing = false;
    r->ckpt_failed = err != 0;
    if (err) return;
    assert_true(log_ckpt_newest(r->log, &index, &term, &blocks));
    assert_true(index > r->ckpt_index);
    r->ckpt_index = index;
}

static inline void rig_snapshot_blocks(struct rig *r, const struct state *s, struct log_ckpt *ck)
{
    struct buf b = {0};
    for (uint64_t i = 1; i <= s->index; i++) {
        for (uint32_t k = 0; k < RIG_REFS; k++) {
            if (s->refs[i][k].len == 0) continue;
            put_u64(&b, i);
            put_u32(&b, k);
            put_u32(&b, s->refs[i][k].off);
            put_u32(&b, s->refs[i][k].len);
        }
        if (b.n < 3000 && i < s->index) continue;
        while (prng_chance(&r->rng, 90) && b.n < 30000) {       /* blocks of many sizes */
            put_u64(&b, 0);
            put_u32(&b, RIG_REFS);
            put_u64(&b, 0);
        }
        while (log_ckpt_write(ck, buf_slice(&b)) == -EAGAIN) assert_true(rig_step(r));
        buf_clear(&b);
    }
    buf_free(&b);
}

static inline bool rig_ckpt_start(struct rig *r)
{
    if (r->ckpt || r->sm.index <= r->ckpt_index) return false;
    r->ckpt = log_ckpt_begin(r->log, r->sm.index, r->terms[r->sm.index], false);
    if (!r->ckpt) return false;
    state_copy(&r->snap, &r->sm);
    rig_snapshot_blocks(r, &r->snap, r->ckpt);
    return true;
}

static inline void rig_ckpt_commit(struct rig *r)
{
    r->ckpt_committing = true;
    log_ckpt_commit(r->ckpt, true, rig_ckpt_done, r);
}

#endif
