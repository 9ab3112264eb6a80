/* log_life.h - what happens to a log in a random life: each act is one thing that its users, a leader or fate may do. */
#ifndef QFS_TESTS_LOG_LIFE_H
#define QFS_TESTS_LOG_LIFE_H

#include "tests/unit/raft/log_rig.h"

static inline uint32_t some_len(struct rig *r)
{
    uint64_t k = prng_below(&r->rng, 100);
    if (k < 10) return 0;
    if (k < 60) return (uint32_t)prng_between(&r->rng, 1, 300);
    if (k < 85) return (uint32_t)prng_between(&r->rng, 300, 9000);
    if (k < 97) return (uint32_t)prng_between(&r->rng, 9000, 40000);
    return (uint32_t)prng_between(&r->rng, 40000, 160000);        /* larger than a segment */
}

static inline void append_some(struct rig *r)
{
    uint64_t n = prng_between(&r->rng, 1, 12);
    while (n-- && r->last + 200 < RIG_INDEX_MAX)
        rig_append_version(r, r->term, some_len(r), (uint8_t)prng_between(&r->rng, RAFT_NOOP, RAFT_CONFIG));
}

static inline void truncate_some(struct rig *r)
{
    if (r->last <= r->applied_most || r->ckpt_committing) return;
    uint64_t from = prng_between(&r->rng, max_u64(r->applied_most, r->ckpt_index) + 1, r->last);
    log_truncate(r->log, from);
    r->last = from - 1;
    r->durable = min_u64(r->durable, r->last);
    r->term++;
    assert_int_equal(log_last(r->log), r->last);
}

static inline void apply_some(struct rig *r)
{
    if (r->last > r->sm.index) rig_apply_to(r, prng_between(&r->rng, r->sm.index, r->last));
}

static inline void change_hard(struct rig *r)
{
    if (prng_chance(&r->rng, 50)) r->hard.term++, r->hard.vote = 0;
    if (prng_chance(&r->rng, 70)) r->hard.vote = r->hard.vote ? r->hard.vote : prng_between(&r->rng, 1, 5);
    r->hard.standing = RAFT_VOTER;
    log_set_hard(r->log, &r->hard);
}

static inline void fetch_some(struct rig *r)
{
    uint64_t first = log_first(r->log), last = log_last(r->log);
    if (first > last) return;
    uint64_t a = prng_between(&r->rng, first, last), b = prng_between(&r->rng, a, min_u64(last, a + 30));
    int err = rig_fetch(r, r->log, a, b);
    if (err == QE_GONE && log_first(r->log) > a) return;        /* trimmed meanwhile */
    if (err) fprintf(stderr, "fetch %llu to %llu: %s\n", (unsigned long long)a, (unsigned long long)b, err_name(err));
    RIG_CHECK(r, a, err == 0);
    for (uint64_t i = a; i <= b; i++) {
        struct log_entry e;
        RIG_CHECK(r, i, log_cached(r->log, i, &e));
        const struct version *v = version_of(r, i, e.term);
        RIG_CHECK(r, i, e.term == r->terms[i] && v->kind == e.kind && (e.data ? e.data->n : 0) == v->len);
        if (e.data) RIG_CHECK(r, i, content_is(i, e.term, 0, v->len, e.data->p));
    }
    rig_step(r);                    /* a later turn may evict again */
    assert_int_equal(rig_fetch(r, r->log, log_last(r->log), log_last(r->log) + 1), QE_GONE);
}

static inline void store_some(struct rig *r)
{
    if (r->sm.index == 0) return;
    uint64_t i = prng_between(&r->rng, 1, r->sm.index);
    struct ref ref = r->sm.refs[i][0];
    if (ref.len == 0) return;
    struct bytes_got got = {0};
    struct log_store s = {.index = i, .off = ref.off, .data = blob_new(ref.len), .done = rig_store_done, .arg = &got};
    content(i, r->terms[i], ref.off, ref.len, s.data->p);
    log_store(r->log, &s);
    blob_unref(s.data);
    while (!got.done) assert_true(rig_step(r));
    assert_int_equal(got.err, 0);
    r->stores++;
}

/* ---- a snapshot from a leader ---- */

static inline void leader_goes_on(struct rig *r, uint64_t target)
{
    uint64_t term = ++r->term;
    for (uint64_t i = r->applied_most + 1; i <= target; i++) {
        struct versions *vs = &r->v[i];
        vs->v = xrealloc(vs->v, (vs->n + 1) * sizeof *vs->v);
        vs->v[vs->n++] = (struct version){term, r->cterms[i - 1], some_len(r), RAFT_COMMAND};
        r->cterms[i] = term;
    }
    r->term++;
}

static inline void pull(struct rig *r, uint64_t index, struct ref ref)
{
    if (log_has(r->log, index, ref.off, ref.len)) return;
    struct bytes_got got = {0};
    struct log_store s = {.index = index, .off = ref.off, .data = blob_new(ref.len), .done = rig_store_done, .arg = &got};
    content(index, r->cterms[index], ref.off, ref.len, s.data->p);
    log_store(r->log, &s);
    blob_unref(s.data);
    while (!got.done) assert_true(rig_step(r));
    assert_int_equal(got.err, 0);
    RIG_CHECK(r, index, log_has(r->log, index, ref.off, ref.len));
}

/* The blocks and the payload of a snapshot come; keep: it is of this log, else of one that goes on otherwise. */
static inline struct log_ckpt *install_begin(struct rig *r, bool keep, uint64_t target)
{
    if (!keep) leader_goes_on(r, target);
    for (uint64_t i = r->applied_most + 1; keep && i <= target; i++) r->cterms[i] = r->terms[i];
    struct log_ckpt *ck = log_ckpt_begin(r->log, target, r->cterms[target], true);
    assert_non_null(ck);
    state_copy(&r->snap, &r->sm);
    for (uint64_t i = r->sm.index + 1; i <= target; i++) state_apply(r, &r->snap, i, r->cterms[i]);
    r->install_index = target;
    rig_snapshot_blocks(r, &r->snap, ck);
    for (uint64_t i = 1; i <= target; i++)
        for (int k = 0; k < RIG_REFS; k++)
            if (r->snap.refs[i][k].len) pull(r, i, r->snap.refs[i][k]);
    return ck;
}

static inline void install_end(struct rig *r, struct log_ckpt *ck, bool keep, uint64_t target)
{
    r->ckpt_committing = true;
    log_ckpt_commit(ck, keep, rig_ckpt_done, r);
    while (r->ckpt_committing) {
        if (r->installing) r->installing(r);
        assert_true(rig_step(r));
    }
    RIG_CHECK(r, target, !r->ckpt_failed && r->ckpt_index == target);
    r->install_index = 0;
    for (uint64_t i = 1; i <= target; i++) r->terms[i] = r->cterms[i];
    if (!keep) r->last = r->durable = target;
    assert_int_equal(log_last(r->log), r->last);
    if (!keep) assert_int_equal(log_first(r->log), target + 1);
    state_copy(&r->sm, &r->snap);
    rig_report_refs(r);
    r->applied_most = target;
    log_applied(r->log, target);
    r->installs++;
    rig_check_refs(r);
}

static inline void install_abort(struct rig *r, struct log_ckpt *ck, bool keep, uint64_t target)
{
    log_ckpt_abort(ck);
    r->install_index = 0;
    if (keep) return;           /* else the leader's entries come by appends then */
    if (r->last > r->applied_most) truncate_some(r);
    while (r->last > r->applied_most) truncate_some(r);
    for (uint64_t i = r->applied_most + 1; i <= target; i++) {
        struct version *v = version_of(r, i, r->cterms[i]);
        rig_append_version(r, r->cterms[i], v->len, v->kind);
    }
}

static inline void install(struct rig *r)
{
    bool keep = r->last > r->applied_most && prng_chance(&r->rng, 40);
    if (r->ckpt || r->last + 300 > RIG_INDEX_MAX || !r->log->meta.exists) return;
    uint64_t target = keep ? prng_between(&r->rng, r->applied_most + 1, r->last) : r->applied_most + prng_between(&r->rng, 1, 60);
    struct log_ckpt *ck = install_begin(r, keep, target);
    if (prng_chance(&r->rng, 15)) install_abort(r, ck, keep, target);
    else install_end(r, ck, keep, target);
}

/* ---- life ---- */

static inline void crash(struct rig *r)
{
    if (prng_chance(&r->rng, 75))
        sim_disk_crash(r->disk);
    else
        sim_disk_kill(r->disk);
    log_close(r->log);
    r->log = NULL;
    assert_int_equal(rig_open(r), 0);
}

static inline void checkpoint(struct rig *r)
{
    if (!r->ckpt && rig_ckpt_start(r)) {
        if (prng_chance(&r->rng, 10)) {
            log_ckpt_abort(r->ckpt);
            r->ckpt = NULL;
        } else if (prng_chance(&r->rng, 70)) {
            rig_ckpt_commit(r);
        }
        return;
    }
    if (r->ckpt && !r->ckpt_committing) rig_ckpt_commit(r);
}

static inline void act(struct rig *r)
{
    uint64_t k = prng_below(&r->rng, 1000);
    if (k < 400) append_some(r);
    else if (k < 430) truncate_some(r);
    else if (k < 550) apply_some(r);
    else if (k < 590) change_hard(r);
    else if (k < 650) fetch_some(r);
    else if (k < 670) store_some(r);
    else if (k < 750) checkpoint(r);
    else if (k < 760) install(r);
    else if (k < 770) crash(r);
    else if (k < 780) rig_check_refs(r);
    else rig_run(r, prng_between(&r->rng, 0, 3 * NS_PER_MS));
    if (prng_chance(&r->rng, 3)) rig_run(r, 100 * NS_PER_MS);
}

#endif
