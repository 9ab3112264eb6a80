/* Damage of a log at rest: every page of every file in turn is changed, made unreadable or zeroed, files vanish. It is found,
 * repaired or kept out of sight; wrong bytes never come back, nothing durable is missing unnoticed, and no single damaged page
 * of `meta` costs anything. */
#include "tests/unit/raft/log_life.h"

struct name {
    char s[DISK_NAME_MAX];
    uint64_t size;
};
struct names {
    struct name v[400];
    size_t n;
};

static void add_name(void *arg, const char *name, uint64_t size)
{
    struct names *ns = arg;
    assert_true(ns->n < 400);
    snprintf(ns->v[ns->n].s, DISK_NAME_MAX, "%s", name);
    ns->v[ns->n++].size = size;
}

static bool is(const struct name *n, const char *prefix) { return strncmp(n->s, prefix, strlen(prefix)) == 0; }

/* A log with a past: checkpoints, compaction, payload segments, spares; at rest, all of it marked durable. */
static struct rig *grown(uint64_t seed, uint32_t steps)
{
    struct rig *r = rig_new(seed);
    r->cfg.trail_bytes = 100000;
    r->cfg.cache_bytes = 1;
    assert_int_equal(rig_open(r), 0);
    rig_run(r, 10 * NS_PER_MS);
    for (uint32_t i = 0; i < steps; i++) act(r);
    if (r->ckpt && !r->ckpt_committing) rig_ckpt_commit(r);
    change_hard(r);
    rig_settle(r);
    if (rig_ckpt_start(r)) rig_ckpt_commit(r);
    rig_settle(r);
    for (int i = 0; i < 5; i++) append_some(r);
    rig_settle(r);
    sim_disk_kill(r->disk);
    log_close(r->log);
    r->log = NULL;
    return r;
}

/* What the rig's model knows, to go back to after a try; its term only rises, so that no (index, term) comes twice. */
struct memory {
    uint64_t last, durable, ckpt_index, applied_most;
    uint64_t terms[RIG_INDEX_MAX];
    struct raft_hard hard;
    struct sim_disk *disk;
};

static void remember(const struct rig *r, struct memory *m)
{
    m->last = r->last;
    m->durable = r->durable;
    m->ckpt_index = r->ckpt_index;
    m->applied_most = r->applied_most;
    m->hard = r->hard_durable;
    m->disk = r->disk;
    memcpy(m->terms, r->terms, sizeof m->terms);
}

static void go_back(struct rig *r, const struct memory *m)
{
    if (r->disk != m->disk) sim_disk_free(r->disk);
    r->disk = m->disk;
    r->last = m->last;
    r->durable = m->durable;
    r->ckpt_index = m->ckpt_index;
    r->applied_most = m->applied_most;
    r->hard = r->hard_durable = m->hard;
    memcpy(r->terms, m->terms, sizeof m->terms);
    r->strict = true;
}

enum outcome { WHOLE, FENCED, REFUSED };

/* Opens the damaged copy that is r->disk; with `on`, life goes on for a while and after a restart all is well. */
static enum outcome try_open(struct rig *r, const struct memory *m, bool on)
{
    r->strict = false;
    int err = rig_open(r);
    if (err) {
        assert_int_equal(err, QE_CORRUPT);
        assert_null(r->log);
        return REFUSED;
    }
    enum outcome got = r->rec.damaged ? FENCED : WHOLE;
    if (r->rec.damaged) {
        assert_int_equal(r->rec.raft.hard.standing, RAFT_FENCED);
    } else {
        RIG_CHECK(r, m->durable, r->rec.raft.last >= m->durable && r->rec.raft.snapshot_index == m->ckpt_index);
        assert_int_equal(r->rec.raft.hard.term, m->hard.term);
        assert_int_equal(r->rec.raft.hard.vote, m->hard.vote);
        assert_int_equal(r->rec.raft.hard.standing, m->hard.standing);
    }
    rig_check_entries(r, r->log, &r->rec, true);
    rig_check_refs(r);
    if (on) {
        for (int i = 0; i < 3; i++) append_some(r);
        rig_settle(r);
        assert_int_equal(r->durable, r->last);
        sim_disk_crash(r->disk);
        log_close(r->log);
        assert_int_equal(rig_open(r), 0);
        assert_false(r->rec.damaged);       /* the finding was written down and the hole is closed */
        assert_int_equal(r->rec.raft.hard.standing, got == FENCED ? RAFT_FENCED : m->hard.standing);
        RIG_CHECK(r, 0, r->rec.raft.last >= r->durable);
        rig_check_refs(r);
    }
    sim_disk_kill(r->disk);
    log_close(r->log);
    r->log = NULL;
    return got;
}

static enum outcome with_damage(struct rig *r, struct memory *m, const struct name *n, uint64_t page, int kind, bool on)
{
    r->disk = sim_disk_clone(m->disk, &r->clock.c, page + 17);
    if (kind == 0)
        assert_true(sim_disk_flip(r->disk, n->s, page * PAGE_BYTES + prng_below(&r->rng, PAGE_BYTES),
                                  (uint8_t)prng_between(&r->rng, 1, 255)));
    else if (kind == 1)
        assert_true(sim_disk_unreadable(r->disk, n->s, page));
    else
        for (uint64_t i = 0; i < PAGE_BYTES; i += 509) sim_disk_flip(r->disk, n->s, page * PAGE_BYTES + i, 0x5a);
    enum outcome got = try_open(r, m, on);
    go_back(r, m);
    return got;
}

static unsigned outcomes[3];

static void every_page(uint64_t seed)
{
    struct names ns = {0};
    struct rig *r = grown(seed, 500);
    struct memory *m = xmalloc(sizeof *m);
    unsigned tried = 0;
    disk_list(sim_disk_door(r->disk), add_name, &ns);
    remember(r, m);
    for (size_t i = 0; i < ns.n; i++) {
        for (uint64_t page = 0; page < ns.v[i].size / PAGE_BYTES; page++, tried++) {
            enum outcome o = with_damage(r, m, &ns.v[i], page, (int)(tried % 3), tried % 5 == 0);
            outcomes[o]++;
            if (is(&ns.v[i], "meta") || is(&ns.v[i], "free-") || is(&ns.v[i], "pay-")) assert_int_equal(o, WHOLE);
            if (is(&ns.v[i], "seg-")) assert_int_not_equal(o, REFUSED);
            if (is(&ns.v[i], "seg-") && page == 0) assert_int_equal(o, WHOLE);     /* its first batch tells as much */
        }
    }
    free(m);
    rig_free(r);
}

static void test_every_page(void **state)
{
    const char *one = getenv("QFS_SEED");
    uint64_t seed = one ? strtoull(one, NULL, 10) : 1, n = one ? 1 : 6;
    for (uint64_t i = 0; i < n; i++) every_page(seed + i);
    print_message("%u pages: %u harmless, %u fenced, %u refused\n", outcomes[0] + outcomes[1] + outcomes[2], outcomes[WHOLE],
                  outcomes[FENCED], outcomes[REFUSED]);
    if (!one) assert_true(outcomes[WHOLE] > 0 && outcomes[FENCED] > 0 && outcomes[REFUSED] > 0);
}

static void test_lost_files(void **state)
{
    struct names ns = {0};
    struct rig *r = grown(6, 400);
    struct memory *m = xmalloc(sizeof *m);
    unsigned seen[3] = {0};
    disk_list(sim_disk_door(r->disk), add_name, &ns);
    remember(r, m);
    for (size_t i = 0; i < ns.n; i++) {
        r->disk = sim_disk_clone(m->disk, &r->clock.c, i);
        sim_disk_delete(r->disk, ns.v[i].s);
        enum outcome o = try_open(r, m, i % 3 == 0);
        go_back(r, m);
        seen[o]++;
        if (is(&ns.v[i], "meta")) assert_int_equal(o, REFUSED);
        if (is(&ns.v[i], "ckpt-")) assert_int_not_equal(o, WHOLE);
        if (is(&ns.v[i], "seg-")) assert_int_not_equal(o, REFUSED);
    }
    assert_true(seen[WHOLE] > 0 && seen[FENCED] > 0 && seen[REFUSED] > 0);
    free(m);
    rig_free(r);
}

/* ---- meta ---- */

static void damage_meta(struct rig *r, unsigned blocks)
{
    for (unsigned b = 0; b < 4; b++)
        if (blocks >> b & 1) assert_true(sim_disk_flip(r->disk, "meta", b * PAGE_BYTES + 40, 1));
}

static void test_meta_copies(void **state)
{
    struct rig *r = grown(7, 60);
    struct memory *m = xmalloc(sizeof *m);
    remember(r, m);
    for (unsigned blocks = 0; blocks < 16; blocks++) {
        r->disk = sim_disk_clone(m->disk, &r->clock.c, blocks);
        damage_meta(r, blocks);
        bool slot0 = (blocks & 3) == 3, slot1 = (blocks & 12) == 12;
        enum outcome o = try_open(r, m, true);
        assert_int_equal(o, slot0 && slot1 ? REFUSED : slot0 || slot1 ? FENCED : WHOLE);
        go_back(r, m);
    }
    free(m);
    rig_free(r);
}

/* A power cut in the middle of a write of the hard state: old or new, never fenced, never less than what was told. */
static void test_meta_torn(void **state)
{
    struct rig *r = rig_new(8);
    assert_int_equal(rig_open(r), 0);
    for (int i = 0; i < 300; i++) {
        change_hard(r);
        rig_run(r, prng_below(&r->rng, 900 * NS_PER_US));
        struct raft_hard told = r->hard_durable, asked = r->hard;
        sim_disk_crash(r->disk);
        log_close(r->log);
        assert_int_equal(rig_open(r), 0);       /* strict: not damaged, not older than what was told */
        struct raft_hard got = r->rec.raft.hard;
        bool old = memcmp(&got, &told, sizeof got) == 0, new = memcmp(&got, &asked, sizeof got) == 0;
        assert_true(old || new);
    }
    rig_free(r);
}

static void test_another_nodes_directory(void **state)
{
    struct rig *r = grown(9, 30);
    r->cfg.node_id = 4;
    assert_int_equal(rig_open(r), QE_CLUSTER);
    r->cfg.node_id = 3;
    r->cfg.cluster_id = 78;
    assert_int_equal(rig_open(r), QE_CLUSTER);
    r->cfg.cluster_id = 0;
    assert_int_equal(rig_open(r), 0);
    assert_int_equal(r->rec.cluster_id, 77);
    assert_int_equal(r->rec.node_id, 3);
    rig_free(r);
}

/* ---- the last batch ---- */

/* Rot in the newest batch looks like a torn write; the mark that an idle log makes tells them apart. */
static void test_last_batch(void **state)
{
    for (int marked = 0; marked < 2; marked++) {
        struct rig *r = rig_new(10);
        assert_int_equal(rig_open(r), 0);
        for (int i = 0; i < 3; i++) {
            rig_append_version(r, 1, 1000, RAFT_COMMAND);
            while (r->durable < r->last) assert_true(rig_step(r));
        }
        if (marked) rig_settle(r);
        sim_disk_kill(r->disk);
        uint32_t page = r->log->w.page - 1;
        char name[DISK_NAME_MAX];
        raft__seg_name(name, PAGE_LOG, r->log->w.dur_seg);
        log_close(r->log);
        assert_true(sim_disk_flip(r->disk, name, (uint64_t)page * PAGE_BYTES + 100, 4));
        r->strict = false;
        assert_int_equal(rig_open(r), 0);
        assert_int_equal(r->rec.raft.last, 2);
        assert_int_equal(r->rec.damaged, marked != 0);
        rig_free(r);
    }
}

/* An entry was replaced, its successor committed, and that one's batch is damaged: the first stands there again. That entries
 * up to there are committed is known, but no longer that these are. (rig_check_sure() looks.) */
static void test_replaced_stands_again(void **state)
{
    struct rig *r = rig_new(11);
    assert_int_equal(rig_open(r), 0);
    for (int i = 0; i < 4; i++) {
        if (i == 3) {
            log_truncate(r->log, 3);
            r->last = r->durable = 2;
        }
        rig_append_version(r, i == 3 ? 2 : 1, 1000, RAFT_COMMAND);
        while (r->durable < r->last) assert_true(rig_step(r));
    }
    rig_apply_to(r, 3);
    rig_settle(r);
    sim_disk_kill(r->disk);
    uint32_t page = r->log->w.page - 1;
    char name[DISK_NAME_MAX];
    raft__seg_name(name, PAGE_LOG, r->log->w.dur_seg);
    log_close(r->log);
    assert_int_equal(rig_open(r), 0);
    assert_int_equal(log_sure(r->log), 3);
    sim_disk_kill(r->disk);
    log_close(r->log);
    assert_true(sim_disk_flip(r->disk, name, (uint64_t)page * PAGE_BYTES + 100, 4));
    r->strict = false;
    assert_int_equal(rig_open(r), 0);
    assert_true(r->rec.damaged && r->rec.raft.last == 3);
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_page), cmocka_unit_test(test_lost_files),           cmocka_unit_test(test_meta_copies),
        cmocka_unit_test(test_meta_torn),  cmocka_unit_test(test_another_nodes_directory), cmocka_unit_test(test_last_batch),
        cmocka_unit_test(test_replaced_stands_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
