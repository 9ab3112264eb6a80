/* The log under a crash after every single step of its work: appending, rolling, truncating, checkpoints, compaction, the
 * install of a snapshot.
 *
 * A scene does one of these, slowly. Before each step all that a power cut can leave is tried out on copies of the disk: the
 * blocks that no sync has made safe, and those of the operations under way, in every subset where there are few, else each
 * alone, all but each, and many at random, torn ones among them. From each the log must open: undamaged, with all that was
 * reported durable, every byte of what it has as it was written; it must go on, and lose nothing when the power fails again.
 * A process that is killed leaves what was written but not synced; that must survive a later power cut, too, once it was
 * built upon. */
#define RIG_INDEX_MAX 600u
#include "tests/unit/raft/log_life.h"

#define SUBSETS_BITS 6u         /* all subsets of so many choices */
#define SAMPLES 40u
#define CHOICES_MAX 256u
#define SEEN_MAX (1u << 17)

static struct {
    uint64_t ops;               /* of the disk, when it was looked at last */
    uint64_t *seen;             /* what was tried already: a hash set */
    uint64_t points, tried, second, kills;
    bool quick;
} watch;

/* ---- a copy of the rig over another disk ---- */

static void copy_state(struct state *to, const struct state *from)
{
    to->refs = xcalloc(RIG_INDEX_MAX, sizeof *to->refs);
    state_copy(to, from);
}

static struct rig *twin(const struct rig *r)
{
    struct rig *q = xmalloc(sizeof *q);
    memcpy(q, r, sizeof *q);
    q->clock.heap = (struct heap){0};
    q->cfg.cb.arg = q;
    q->each_step = NULL;
    q->log = NULL;
    q->disk = NULL;
    for (size_t i = 0; i < RIG_INDEX_MAX; i++) {
        if (!r->v[i].n) continue;
        q->v[i].v = xmalloc(r->v[i].n * sizeof *q->v[i].v);
        memcpy(q->v[i].v, r->v[i].v, r->v[i].n * sizeof *q->v[i].v);
    }
    copy_state(&q->sm, &r->sm);
    copy_state(&q->snap, &r->snap);
    return q;
}

static void open_whole(struct rig *q)
{
    RIG_CHECK(q, 0, rig_open(q) == 0);      /* strict: undamaged, with all that was durable */
    rig_check_entries(q, q->log, &q->rec, true);
    rig_check_refs(q);
}

/* ---- trying ---- */

static bool seen_before(uint64_t h)
{
    h |= 1;
    for (uint64_t i = hash_mix(h);; i++) {
        uint64_t *slot = &watch.seen[i % SEEN_MAX];
        if (*slot == h) return true;
        if (*slot) continue;
        *slot = h;
        return false;
    }
}

/* What recovery has to give back depends on the disk and on what was reported. */
static uint64_t expectation(const struct rig *r)
{
    uint64_t h = hash64(r->durable * 31 + r->ckpt_index, &r->hard_durable.term, sizeof r->hard_durable.term);
    return hash64(h + r->install_index, r->terms, (r->durable + 1) * sizeof *r->terms);
}

/* Goes on after what may be a torn tail: the same batch again, torn again. Pages of the two must never make one batch. */
static void torn_twice(struct rig *q)
{
    uint64_t before = sim_disk_ops(q->disk, DISK_WRITE);
    struct rig *p;
    uint8_t how[CHOICES_MAX];
    if (q->rec.torn_bytes == 0 || watch.tried % (watch.quick ? 16 : 4)) return;
    rig_append_version(q, q->term, 9000, RAFT_COMMAND);
    while (q->log->w.busy || q->log->w.next <= q->log->last) {
        unsigned n = sim_disk_choices(q->disk);
        if (q->log->w.busy && q->log->w.io.op == DISK_WRITE && n > 0 && n <= 5) {
            for (unsigned mask = 0; mask < 1u << n; mask++) {
                for (unsigned i = 0; i < n; i++) how[i] = mask >> i & 1;
                p = twin(q);
                p->disk = sim_disk_cut(q->disk, &p->clock.c, how);
                open_whole(p);
                rig_free(p);
                watch.second++;
            }
        }
        if (!rig_step(q) || sim_disk_ops(q->disk, DISK_WRITE) > before + 20) return;
    }
}

static void after_power_cut(struct rig *r, const uint8_t *how)
{
    struct rig *q = twin(r);
    q->disk = sim_disk_cut(r->disk, &q->clock.c, how);
    if (seen_before(sim_disk_digest(q->disk) + expectation(r))) {
        sim_disk_free(q->disk);
        q->disk = sim_disk_new(&q->clock.c, &(struct sim_disk_config){0});
        rig_free(q);
        return;
    }
    watch.tried++;
    open_whole(q);
    torn_twice(q);
    if (watch.tried % 4 == 0) {
        append_some(q);
        rig_settle(q);
        assert_int_equal(q->durable, q->last);
        sim_disk_crash(q->disk);
        log_close(q->log);
        open_whole(q);
    }
    rig_free(q);
}

/* The process dies, the next one tells of what it finds, and builds on it; then the power fails, at once or a while later,
 * and takes all that was never synced. */
static void after_kill(struct rig *r)
{
    static const uint8_t none[4096];
    struct rig *q = twin(r);
    q->disk = sim_disk_clone(r->disk, &q->clock.c, prng_u64(&r->rng));
    open_whole(q);
    if (prng_chance(&r->rng, 50)) rig_run(q, prng_between(&r->rng, 1, 60) * NS_PER_MS);
    struct sim_disk *cut = sim_disk_cut(q->disk, &q->clock.c, none);
    sim_disk_kill(q->disk);
    log_close(q->log);
    sim_disk_free(q->disk);
    q->disk = cut;
    open_whole(q);
    rig_free(q);
    watch.kills++;
}

static void try_subsets(struct rig *r, unsigned n)
{
    uint8_t how[CHOICES_MAX];
    for (unsigned mask = 0; mask < 1u << n; mask++) {
        for (unsigned i = 0; i < n; i++) how[i] = mask >> i & 1;
        after_power_cut(r, how);
    }
    for (unsigned i = 0; i < n; i++) {      /* one torn, the others there */
        memset(how, 1, sizeof how);
        how[i] = 2;
        after_power_cut(r, how);
    }
}

static void try_samples(struct rig *r, unsigned n)
{
    uint8_t how[CHOICES_MAX];
    for (unsigned all = 0; all < 2; all++) {
        for (unsigned i = 0; i <= n; i++) {
            memset(how, (int)all, sizeof how);
            if (i < n) how[i] = !all;
            after_power_cut(r, how);
        }
    }
    for (unsigned k = 0; k < SAMPLES; k++) {
        uint64_t share = prng_below(&r->rng, 100);
        for (unsigned i = 0; i < n; i++) how[i] = prng_chance(&r->rng, 10) ? 2 : prng_chance(&r->rng, (unsigned)share);
        after_power_cut(r, how);
    }
}

static void each_step(struct rig *r)
{
    uint64_t ops = sim_disk_pending(r->disk);
    for (unsigned op = 0; op <= DISK_REMOVE; op++) ops = ops * 1009 + sim_disk_ops(r->disk, op);
    if (ops == watch.ops) return;
    watch.ops = ops;
    watch.points++;
    unsigned n = sim_disk_choices(r->disk);
    assert_in_range(n, 0, CHOICES_MAX);
    if (n <= (watch.quick ? 3 : SUBSETS_BITS)) try_subsets(r, n);
    else if (!watch.quick || watch.points % 5 == 0) try_samples(r, n);
    after_kill(r);
}

/* ---- scenes ---- */

static struct rig *begin(uint64_t seed, uint32_t pages, uint32_t spares, uint64_t trail)
{
    struct rig *r = rig_new(seed);
    r->cfg.segment_bytes = pages * PAGE_BYTES;
    r->cfg.spare_segments = spares;
    r->cfg.cache_bytes = seed % 2 ? 1 : MIB;
    r->cfg.trail_bytes = trail;
    r->cfg.compact_live_percent = 100;
    assert_int_equal(rig_open(r), 0);
    rig_run(r, 10 * NS_PER_MS);
    watch.ops = 0;
    return r;
}

static void end(struct rig *r)
{
    rig_settle(r);
    r->each_step = NULL;
    assert_int_equal(r->durable, r->last);
    rig_check_refs(r);
    rig_free(r);
}

static void append(struct rig *r, uint32_t len) { rig_append_version(r, r->term, len, RAFT_COMMAND); }

static void cut_log(struct rig *r, uint64_t from)
{
    log_truncate(r->log, from);
    r->last = from - 1;
    r->durable = min_u64(r->durable, r->last);
    r->term++;
}

/* Batches of one entry and of many, entries larger than a segment, the hard state in between. */
static void scene_append(uint64_t seed)
{
    struct rig *r = begin(seed, 8, (uint32_t)(seed % 3), 30000);
    r->each_step = each_step;
    for (unsigned i = 0; i < 3; i++) {
        append(r, 10);
        append(r, 0);
        rig_run(r, 300 * NS_PER_US);
        append(r, 9000);
        change_hard(r);
        rig_run(r, NS_PER_MS);
        append(r, i == 1 ? 60000 : 3000);
        rig_run(r, 2 * NS_PER_MS);
    }
    end(r);
}

/* Suffixes are cut off, also while they are being written, and others take their place. */
static void scene_truncate(uint64_t seed)
{
    struct rig *r = begin(seed, 6, (uint32_t)(seed % 2), 30000);
    r->each_step = each_step;
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned k = 0; k < 4; k++) append(r, 2000 + 3000 * (k % 2));
        rig_run(r, (200 + 500 * i) * NS_PER_US);
        if (r->last > r->applied_most + 3) cut_log(r, r->last - 2);
        append(r, 5000);
        rig_run(r, 300 * NS_PER_US);
        if (i == 1) rig_apply_to(r, r->durable);
    }
    end(r);
}

/* A checkpoint is written while entries come; the trail goes, segments are freed and used again. */
static void scene_checkpoint(uint64_t seed)
{
    struct rig *r = begin(seed, 6, (uint32_t)(seed % 3), 1);
    for (unsigned i = 0; i < 3; i++) {
        for (unsigned k = 0; k < 6; k++) append(r, 3000);
        rig_run(r, 2 * NS_PER_MS);
        rig_apply_to(r, r->last);
        if (i > 0) r->each_step = each_step;
        assert_true(rig_ckpt_start(r));
        append(r, 6000);
        rig_ckpt_commit(r);
        append(r, 100);
        for (unsigned k = 0; r->ckpt; k++) assert_true(k < 10000 && rig_step(r));
    }
    end(r);
}

/* Live payload is moved out of sparse segments, a peer's bytes are stored meanwhile. */
static void scene_compact(uint64_t seed)
{
    struct rig *r = begin(seed, 6, 1, 1);
    for (unsigned i = 0; i < 40; i++) append(r, (uint32_t)prng_between(&r->rng, 1, 2500));
    rig_settle(r);
    rig_apply_to(r, r->last);
    assert_true(rig_ckpt_start(r));
    rig_ckpt_commit(r);
    while (r->ckpt) assert_true(rig_step(r));
    r->each_step = each_step;
    rig_run(r, 5 * NS_PER_MS);
    store_some(r);
    rig_run(r, 20 * NS_PER_MS);
    append(r, 100);
    rig_run(r, 10 * NS_PER_MS);
    struct log_stats st;
    log_stats(r->log, &st);
    assert_true(st.compactions > 0);
    end(r);
}

/* Entries come in the middle of the switch, which had waited until the writer was idle: they belong to a log that is given up
 * and must not be written any more. */
static void append_more(struct rig *r)
{
    bool idle = !r->log->w.busy && r->log->w.next > r->log->last;
    if (idle && sim_disk_pending(r->disk) && r->last < 60) append(r, 9000);
}

/* The blocks and the payload of a snapshot come while the log is still writing; then the log is switched. */
static void scene_install(uint64_t seed, bool keep)
{
    struct rig *r = begin(seed, 6, (uint32_t)(seed % 2), 30000);
    for (unsigned i = 0; i < 8; i++) append(r, 2500);
    rig_settle(r);
    rig_apply_to(r, r->last - 3);
    for (unsigned i = 0; i < 6; i++) append(r, 4000);
    uint64_t target = keep ? r->last - 2 : r->applied_most + 5;
    struct log_ckpt *ck = install_begin(r, keep, target);
    r->each_step = each_step;
    if (!keep) r->term = max_u64(r->term, r->terms[r->last]);
    for (unsigned i = 0; i < 6; i++) append(r, 9000);       /* most of them still unwritten when the commit begins */
    r->installing = append_more;
    install_end(r, ck, keep, target);
    append(r, 3000);
    rig_run(r, 20 * NS_PER_MS);
    end(r);
}

static void scene_install_reset(uint64_t seed) { scene_install(seed, false); }
static void scene_install_keep(uint64_t seed) { scene_install(seed, true); }

/* A segment that begins with entries which were cut off, and a checkpoint before the ones that took their place are
 * durable: the scan has to begin further back. */
static void scene_stale_suffix(uint64_t seed)
{
    struct rig *r = begin(seed, 6, 1, 1);
    while (r->log->nseg < 2 || r->log->w.page < 3) {
        append(r, 3000);
        while (r->durable < r->last) assert_true(rig_step(r));
    }
    uint64_t begins = raft__seg_at(r->log, r->log->w.seg)->begin;
    assert_true(begins > 2);
    cut_log(r, begins - 1);
    rig_apply_to(r, r->last);
    r->each_step = each_step;
    assert_true(rig_ckpt_start(r));
    rig_ckpt_commit(r);
    while (r->ckpt) assert_true(rig_step(r));
    rig_run(r, 5 * NS_PER_MS);
    append(r, 3000);
    rig_run(r, 5 * NS_PER_MS);
    end(r);
}

/* ---- one that no crash shows: a sealed payload segment is the victim while an item that began there is not durable ---- */

static void store(struct rig *r, uint64_t index, struct bytes_got *got, struct log_store *s)
{
    uint32_t len = version_of(r, index, r->terms[index])->len;
    *s = (struct log_store){.index = index, .data = blob_new(len), .done = rig_store_done, .arg = got};
    content(index, r->terms[index], 0, len, s->data->p);
    log_store(r->log, s);
    blob_unref(s->data);
}

static void check_stored(struct rig *r, uint64_t index)
{
    uint32_t len = version_of(r, index, r->terms[index])->len;
    uint8_t *p = xmalloc(len);
    RIG_CHECK(r, index, rig_read_log(r, r->log, index, 0, len, p) == 0);
    RIG_CHECK(r, index, content_is(index, r->terms[index], 0, len, p));
    free(p);
}

static void test_pinned_segment(void **state)
{
    struct rig *r = begin(51, 8, 0, 1);
    struct bytes_got got[2] = {0};
    struct log_store s[2];
    r->no_kills = true;
    append(r, 1000);
    append(r, 60000);           /* takes more than one segment */
    append(r, 10);
    rig_settle(r);
    rig_apply_to(r, r->last);
    for (uint64_t i = 1; i <= 3; i++)       /* all of both is referred to */
        for (int k = 0; k < RIG_REFS; k++)
            ref_set(r, &r->sm, i, k, k ? (struct ref){0, 0} : (struct ref){0, version_of(r, i, r->terms[i])->len});
    assert_true(rig_ckpt_start(r));
    rig_ckpt_commit(r);
    while (r->ckpt) assert_true(rig_step(r));
    rig_settle(r);
    store(r, 1, &got[0], &s[0]);
    while (!got[0].done) assert_true(rig_step(r));
    sim_disk_slow(r->disk, 50);             /* background work has its chance between any two operations */
    store(r, 2, &got[1], &s[1]);
    while (!got[1].done) assert_true(rig_step(r));
    sim_disk_slow(r->disk, 1);
    check_stored(r, 1);
    check_stored(r, 2);
    rig_settle(r);
    check_stored(r, 2);
    rig_check_refs(r);
    sim_disk_crash(r->disk);
    log_close(r->log);
    assert_int_equal(rig_open(r), 0);
    rig_check_refs(r);
    rig_free(r);
}

/* ---- */

static void scenes(void (*scene)(uint64_t seed))
{
    const char *one = getenv("QFS_SEED"), *slow = getenv("QFS_SLOW");
    uint64_t first = one ? strtoull(one, NULL, 10) : 1, n = one || slow ? 1 : 3;
    watch.quick = slow && !one;
    watch.points = watch.tried = watch.second = watch.kills = 0;
    watch.seen = xcalloc(SEEN_MAX, sizeof *watch.seen);
    for (uint64_t seed = first; seed < first + n; seed++) scene(seed);
    free(watch.seen);
    print_message("    %llu steps, %llu states after a power cut, %llu after two, %llu kills\n", (unsigned long long)watch.points,
                  (unsigned long long)watch.tried, (unsigned long long)watch.second, (unsigned long long)watch.kills);
    assert_true(watch.tried > 100 || watch.quick);
}

#define SCENE(name)                                                                                                    \
    static void test_##name(void **state) { scenes(scene_##name); }
SCENE(append)
SCENE(truncate)
SCENE(checkpoint)
SCENE(compact)
SCENE(install_reset)
SCENE(install_keep)
SCENE(stale_suffix)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append),        cmocka_unit_test(test_truncate),     cmocka_unit_test(test_checkpoint),
        cmocka_unit_test(test_compact),       cmocka_unit_test(test_install_reset), cmocka_unit_test(test_install_keep),
        cmocka_unit_test(test_stale_suffix),  cmocka_unit_test(test_pinned_segment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
