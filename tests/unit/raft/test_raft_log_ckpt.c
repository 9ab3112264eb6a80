/* Checkpoints, compaction and the log's figures: blocks read back while they are held, disk space follows the live bytes,
 * spares come and are used, stale records of a recycled segment never come back. */
#include "tests/unit/raft/log_life.h"

struct block_got {
    bool done;
    int err;
    struct buf bytes;
};

static void got_block(struct log_ckpt_read *rd, int err, struct slice block)
{
    struct block_got *g = rd->arg;
    g->done = true;
    g->err = err;
    buf_append(&g->bytes, block.p, block.n);
}

static int read_block(struct rig *r, uint64_t index, uint32_t block, struct buf *out)
{
    struct block_got g = {0};
    struct log_ckpt_read rd = {.index = index, .block = block, .done = got_block, .arg = &g};
    log_ckpt_read(r->log, &rd);
    assert_false(g.done);
    while (!g.done) assert_true(rig_step(r));
    buf_append(out, g.bytes.p, g.bytes.n);
    buf_free(&g.bytes);
    return g.err;
}

static int append_block(void *arg, struct slice block)
{
    buf_append(arg, block.p, block.n);
    return 0;
}

static void checkpoint_now(struct rig *r)
{
    assert_true(rig_ckpt_start(r));
    rig_ckpt_commit(r);
    while (r->ckpt) assert_true(rig_step(r));
    assert_false(r->ckpt_failed);
}

static void grow(struct rig *r, int n)
{
    for (int i = 0; i < n; i++) {
        append_some(r);
        rig_run(r, NS_PER_MS);
    }
    rig_settle(r);
    rig_apply_to(r, r->last);
}

static void test_blocks(void **state)
{
    struct rig *r = rig_new(21);
    assert_int_equal(rig_open(r), 0);
    grow(r, 200);
    checkpoint_now(r);
    uint64_t index, term;
    uint32_t blocks;
    struct buf whole = {0}, parts = {0}, none = {0};
    assert_true(log_ckpt_newest(r->log, &index, &term, &blocks));
    assert_int_equal(term, r->terms[index]);
    assert_true(blocks > 1);
    assert_int_equal(log_ckpt_load(r->log, append_block, &whole), 0);
    log_ckpt_hold(r->log, index, true);
    log_ckpt_hold(r->log, index, true);
    grow(r, 10);
    checkpoint_now(r);
    rig_settle(r);
    for (uint32_t b = 0; b < blocks; b++) assert_int_equal(read_block(r, index, b, &parts), 0);
    assert_true(slice_eq(buf_slice(&whole), buf_slice(&parts)));
    assert_int_equal(read_block(r, index, blocks, &none), QE_GONE);
    assert_int_equal(read_block(r, index + 1, 0, &none), QE_GONE);
    char name[DISK_NAME_MAX];
    raft__image_name(name, index);
    log_ckpt_hold(r->log, index, false);
    rig_settle(r);
    assert_true(sim_disk_size(r->disk, name) > 0);
    log_ckpt_hold(r->log, index, false);
    rig_settle(r);
    assert_int_equal(sim_disk_size(r->disk, name), 0);
    assert_int_equal(read_block(r, index, 0, &none), QE_GONE);
    buf_free(&whole);
    buf_free(&parts);
    rig_free(r);
}

/* A rotten block is not handed out, also not at a restart. */
static void test_rotten_block(void **state)
{
    struct rig *r = rig_new(22);
    assert_int_equal(rig_open(r), 0);
    grow(r, 30);
    checkpoint_now(r);
    uint64_t index, term;
    uint32_t blocks;
    struct buf out = {0};
    char name[DISK_NAME_MAX];
    log_ckpt_newest(r->log, &index, &term, &blocks);
    raft__image_name(name, index);
    assert_true(sim_disk_flip(r->disk, name, PAGE_BYTES + 700, 1));
    assert_int_equal(read_block(r, index, 0, &out), QE_CORRUPT);
    assert_int_equal(out.n, 0);
    assert_int_equal(log_ckpt_load(r->log, append_block, &out), QE_CORRUPT);
    buf_free(&out);
    rig_free(r);
}

/* A start that fails after the log was opened frees it at once, while a disk thread might be at work for it: until the loop
 * runs nothing was asked of the disk. Then it is. */
static void test_failed_start(void **state)
{
    static uint8_t part[LOG_BLOCK_MAX];
    for (int runs = 0; runs < 2; runs++) {
        struct rig *r = rig_new(28);
        struct buf why = {0};
        assert_int_equal(rig_open(r), 0);
        grow(r, 30);
        checkpoint_now(r);
        grow(r, 10);
        struct log_ckpt *ck = log_ckpt_begin(r->log, r->applied_most, r->terms[r->applied_most], false);
        assert_non_null(ck);
        for (unsigned i = 0; i < 4; i++) log_ckpt_write(ck, slice_of(part, sizeof part)); /* there is a file to remove */
        rig_run(r, NS_PER_MS);
        sim_disk_kill(r->disk);
        log_close(r->log);
        r->log = NULL;
        assert_int_equal(log_open(sim_disk_door(r->disk), &r->clock.c, &r->cfg, &r->log, &r->rec, &why), 0);
        assert_int_equal(sim_disk_pending(r->disk), 0);
        assert_false(log_idle(r->log));
        if (runs) {
            assert_true(rig_step(r));
            assert_true(sim_disk_pending(r->disk) > 0);
            rig_settle(r);
        }
        log_close(r->log);
        r->log = NULL;
        assert_int_equal(sim_disk_pending(r->disk), 0);
        buf_free(&why);
        rig_free(r);
    }
}

/* With an older checkpoint still there and the log whole behind it, a damaged newest one is passed over. */
static void test_older_checkpoint(void **state)
{
    struct rig *r = rig_new(23);
    r->cfg.trail_bytes = 100 * MIB;
    assert_int_equal(rig_open(r), 0);
    grow(r, 20);
    checkpoint_now(r);
    uint64_t older = r->ckpt_index;
    log_ckpt_hold(r->log, older, true);         /* a transfer that a crash cuts short */
    grow(r, 10);
    checkpoint_now(r);
    uint64_t newest = r->ckpt_index;
    rig_settle(r);
    sim_disk_kill(r->disk);
    log_close(r->log);
    char name[DISK_NAME_MAX];
    raft__image_name(name, newest);
    assert_true(sim_disk_flip(r->disk, name, PAGE_BYTES + 1, 1));
    r->ckpt_index = older;
    assert_int_equal(rig_open(r), 0);
    assert_int_equal(r->rec.raft.snapshot_index, older);
    assert_false(r->rec.damaged);
    rig_check_refs(r);
    rig_settle(r);
    assert_int_equal(sim_disk_size(r->disk, name), 0);
    rig_free(r);
}

/* Space on disk follows what is live: dead payload goes, sparse segments are compacted, across restarts. */
static void test_space_follows_live(void **state)
{
    struct rig *r = rig_new(24);
    r->cfg.trail_bytes = 50000;
    r->cfg.spare_segments = 1;
    r->cfg.compact_live_percent = 50;
    assert_int_equal(rig_open(r), 0);
    struct log_stats st;
    for (int i = 0; i < 12; i++) {
        grow(r, 25);
        checkpoint_now(r);
        if (i % 4 != 3) continue;
        sim_disk_crash(r->disk);
        log_close(r->log);
        assert_int_equal(rig_open(r), 0);
    }
    rig_settle(r);
    append_some(r);
    for (int i = 0; i < 50; i++) rig_run(r, 100 * NS_PER_MS);
    log_stats(r->log, &st);
    rig_check_refs(r);
    assert_true(st.compactions > 0 && st.moved_bytes > 0);
    uint64_t files = sim_disk_used(r->disk);
    print_message("%llu live bytes in %llu on disk, %u segments, %u spares, %llu compactions\n", (unsigned long long)st.live_bytes,
                  (unsigned long long)files, st.segments, st.spares, (unsigned long long)st.compactions);
    assert_true(files < 2 * st.live_bytes + 100000 + 10 * 64 * KIB + 200000);
    assert_in_range(st.disk_bytes, files - 64 * KIB, files + 64 * KIB);
    assert_int_equal(st.spares, 1);
    assert_true(st.batches > 0 && st.sync_ns_p50 > 0 && st.sync_ns_p50 <= st.sync_ns_p99 && st.sync_ns_p99 <= st.sync_ns_max);
    rig_free(r);
}

static void figures(struct rig *r, struct log_stats *st)
{
    append_some(r);
    for (int i = 0; i < 50; i++) rig_run(r, 100 * NS_PER_MS);
    log_stats(r->log, st);
    rig_check_refs(r);
}

/* What is sparse waits until there is enough of it, and less has to be copied; on a full disk nothing waits. */
static void test_compaction_waits(void **state)
{
    struct log_stats st[2], full;
    const uint64_t slack = 300 * KIB;
    for (unsigned i = 0; i < 2; i++) {
        struct rig *r = rig_new(24);
        r->cfg.trail_bytes = 50000;
        r->cfg.spare_segments = 1;
        r->cfg.compact_live_percent = 50;
        r->cfg.compact_slack_bytes = i * slack;
        assert_int_equal(rig_open(r), 0);
        for (int k = 0; k < 12; k++) {
            grow(r, 25);
            checkpoint_now(r);
        }
        figures(r, &st[i]);
        if (i) {
            sim_disk_capacity(r->disk, sim_disk_used(r->disk) + 2 * 64 * KIB);
            figures(r, &full);
        }
        rig_free(r);
    }
    print_message("without: %llu bytes moved, %llu on disk; with: %llu, %llu, and %llu on a full disk\n",
                  (unsigned long long)st[0].moved_bytes, (unsigned long long)st[0].disk_bytes,
                  (unsigned long long)st[1].moved_bytes, (unsigned long long)st[1].disk_bytes,
                  (unsigned long long)full.disk_bytes);
    assert_true(st[0].compactions > 0 && st[1].moved_bytes < st[0].moved_bytes);
    assert_true(st[1].disk_bytes > st[0].disk_bytes && st[1].disk_bytes <= st[0].disk_bytes + 2 * slack);
    assert_true(full.compactions > st[1].compactions && full.disk_bytes < st[1].disk_bytes);
}

/* Compaction comes to an end, whatever the limit and however small the pieces. */
static void test_compaction_ends(void **state)
{
    for (uint64_t seed = 30; seed < 42; seed++) {
        struct rig *r = rig_new(seed);
        struct log_stats before, after;
        r->cfg.segment_bytes = (seed % 2 ? 32 : 64) * KIB;
        r->cfg.trail_bytes = 1;
        r->cfg.compact_live_percent = seed % 3 == 0 ? 100 : seed % 3 == 1 ? 90 : 40;
        assert_int_equal(rig_open(r), 0);
        for (int i = 0; i < 6; i++) {
            for (int k = 0; k < 300; k++)
                rig_append_version(r, r->term, (uint32_t)prng_between(&r->rng, 1, seed % 4 ? 60 : 3000), RAFT_COMMAND);
            grow(r, 1);
            checkpoint_now(r);
        }
        sim_disk_crash(r->disk);
        log_close(r->log);
        assert_int_equal(rig_open(r), 0);
        for (int i = 0; i < 100; i++) rig_run(r, 100 * NS_PER_MS);
        log_stats(r->log, &before);
        rig_run(r, 20 * NS_PER_S);
        log_stats(r->log, &after);
        assert_int_equal(before.compactions, after.compactions);
        assert_int_equal(before.bytes_written, after.bytes_written);
        rig_check_refs(r);
        rig_free(r);
    }
}

/* A damaged segment is left alone by compaction; its other bytes stay readable and a peer's copy heals it. */
static void test_rot_and_repair(void **state)
{
    struct rig *r = rig_new(25);
    r->cfg.trail_bytes = 1;
    r->cfg.cache_bytes = 1;
    r->cfg.compact_live_percent = 70;
    assert_int_equal(rig_open(r), 0);
    grow(r, 40);
    checkpoint_now(r);
    rig_settle(r);
    unsigned flipped = 0;
    for (uint32_t i = 0; i < r->log->nseg; i++) {
        const struct seg *s = r->log->seg[i];
        char name[DISK_NAME_MAX];
        if (!s || !s->sealed || s->npieces == 0) continue;
        raft__seg_name(name, s->kind, s->no);
        for (uint64_t page = 1; page < s->pages; page += 4) flipped += sim_disk_flip(r->disk, name, page * PAGE_BYTES + 999, 2);
    }
    assert_true(flipped > 5);
    r->strict = false;
    rig_check_refs(r);
    assert_true(r->gone > 0);
    unsigned healed = 0;
    for (uint64_t i = 1; i <= r->sm.index; i++) {
        for (int k = 0; k < RIG_REFS; k++) {
            struct ref ref = r->sm.refs[i][k];
            uint8_t *p = xmalloc(ref.len + 1u);
            if (ref.len && rig_read_log(r, r->log, i, ref.off, ref.len, p)) {
                struct bytes_got got = {0};
                struct log_store s = {.index = i, .off = ref.off, .data = blob_new(ref.len), .done = rig_store_done, .arg = &got};
                content(i, r->terms[i], ref.off, ref.len, s.data->p);
                log_store(r->log, &s);
                blob_unref(s.data);
                while (!got.done) assert_true(rig_step(r));
                healed++;
            }
            free(p);
        }
    }
    assert_true(healed > 0);
    r->strict = true;
    rig_check_refs(r);
    grow(r, 2);
    checkpoint_now(r);
    rig_settle(r);
    sim_disk_crash(r->disk);
    log_close(r->log);
    assert_int_equal(rig_open(r), 0);
    rig_check_refs(r);
    rig_free(r);
}

/* Segments are recycled; a crash in the first write to one never shows what it held before. */
static void test_recycled(void **state)
{
    struct rig *r = rig_new(26);
    r->cfg.trail_bytes = 1;
    r->cfg.spare_segments = 4;
    r->cfg.compact_live_percent = 100;
    r->whatif_permille = 150;
    assert_int_equal(rig_open(r), 0);
    uint64_t renames = 0;
    for (int i = 0; i < 15; i++) {
        grow(r, 8);
        checkpoint_now(r);
        renames = sim_disk_ops(r->disk, DISK_RENAME);
        sim_disk_crash(r->disk);
        log_close(r->log);
        assert_int_equal(rig_open(r), 0);
        rig_check_refs(r);
    }
    assert_true(renames > 30);
    rig_free(r);
}

/* Only one at a time; an aborted one leaves nothing; the writer is held back by unwritten bytes. */
static void test_one_at_a_time(void **state)
{
    struct rig *r = rig_new(27);
    assert_int_equal(rig_open(r), 0);
    grow(r, 10);
    struct log_ckpt *ck = log_ckpt_begin(r->log, r->sm.index, r->terms[r->sm.index], false);
    assert_non_null(ck);
    assert_null(log_ckpt_begin(r->log, r->sm.index, r->terms[r->sm.index], false));
    struct buf block = {0};
    memset(buf_extend(&block, LOG_BLOCK_MAX), 7, LOG_BLOCK_MAX);
    unsigned n = 0;
    while (log_ckpt_write(ck, buf_slice(&block)) == 0 && n < 100) n++;
    assert_in_range(n, 4, 99);
    log_ckpt_abort(ck);
    ck = log_ckpt_begin(r->log, r->sm.index, r->terms[r->sm.index], false);     /* while writes of the aborted one are under way */
    assert_non_null(ck);
    assert_int_equal(log_ckpt_write(ck, slice_str("hello")), 0);
    r->ckpt = ck;
    rig_ckpt_commit(r);
    while (r->ckpt) assert_true(rig_step(r));
    struct buf whole = {0};
    assert_int_equal(log_ckpt_load(r->log, append_block, &whole), 0);
    assert_true(slice_eq(buf_slice(&whole), slice_str("hello")));
    rig_settle(r);
    assert_int_equal(sim_disk_size(r->disk, CKPT_TMP), 0);
    buf_free(&whole);
    buf_free(&block);
    rig_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks),         cmocka_unit_test(test_rotten_block), cmocka_unit_test(test_older_checkpoint),
        cmocka_unit_test(test_space_follows_live), cmocka_unit_test(test_compaction_waits), cmocka_unit_test(test_rot_and_repair),
        cmocka_unit_test(test_recycled),
        cmocka_unit_test(test_one_at_a_time),  cmocka_unit_test(test_compaction_ends),
        cmocka_unit_test(test_failed_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
