/* log_meta.c - the hard state and the node's identity: file `meta`, two slots written in turn, each in two copies.
 *
 * A copy is 512 bytes with a CRC32C at the start of a 4 KiB block of its own, and a write puts both copies of one slot, so
 * the other slot keeps the state before. What the damage of a copy means follows from that:
 * - A sector is written whole or not at all. A power cut during a write therefore leaves each copy old or new, never
 *   unreadable: a write that nobody was told of is never mistaken for damage, and a power cut of all nodes fences none.
 * - One unreadable copy is rot, and its twin still tells the state. It is rewritten.
 * - Both copies of a slot unreadable: the slot may have held the newest acknowledged state, a term or vote beyond what the
 *   other slot tells, and nothing bounds how far. The node keeps the older state and comes up FENCED: it casts no vote
 *   until a leader has brought it up to date.
 * - No readable copy at all beside other files: QE_CORRUPT, the directory is of no use.
 *
 * A slot also tells the newest durable batch, so that a log that ends before it is known to be damaged rather than torn;
 * while the log rests, one write brings it up to date. And up to where entries are known to be committed. */
#include "raft/log_priv.h"

#define META_MAGIC 0x54454d51u      /* "QMET" */
#define COPY_BYTES 512u
#define COPIES 4u                   /* slot 0: blocks 0 and 1, slot 1: blocks 2 and 3 */

enum copy_state { COPY_ZERO, COPY_BAD, COPY_GOOD, COPY_VERSION };

struct copy {
    enum copy_state state;
    uint64_t seq, cluster, node, dur_seg, dur_seq, committed;
    struct raft_hard hard;
};

static void copy_put(uint8_t *p, const struct meta *m, uint64_t seq, uint32_t block, uint64_t committed)
{
    memset(p, 0, PAGE_BYTES);
    store_u32(p, META_MAGIC);
    store_u32(p + 4, LOG_FORMAT);
    store_u64(p + 8, seq);
    store_u32(p + 16, block);
    store_u32(p + 20, (uint32_t)m->hard.standing);
    store_u64(p + 24, m->cluster);
    store_u64(p + 32, m->node);
    store_u64(p + 40, m->hard.term);
    store_u64(p + 48, m->hard.vote);
    store_u64(p + 56, m->dur_seg);
    store_u64(p + 64, m->dur_seq);
    store_u64(p + 72, committed);
    store_u32(p + COPY_BYTES - 4, crc32c(0, p, COPY_BYTES - 4));
}

static struct copy copy_get(const uint8_t *p, uint32_t block)
{
    static const uint8_t zero[COPY_BYTES];
    struct copy c = {.state = COPY_BAD};
    if (memcmp(p, zero, COPY_BYTES) == 0) c.state = COPY_ZERO;
    if (load_u32(p) != META_MAGIC || load_u32(p + COPY_BYTES - 4) != crc32c(0, p, COPY_BYTES - 4)) return c;
    if (load_u32(p + 4) != LOG_FORMAT) {
        c.state = COPY_VERSION;
        return c;
    }
    c.seq = load_u64(p + 8);
    uint32_t standing = load_u32(p + 20);
    if (load_u32(p + 16) != block || block / 2 != (c.seq & 1) || standing > RAFT_VOTER) return c;
    c.hard = (struct raft_hard){load_u64(p + 40), load_u64(p + 48), (enum raft_standing)standing};
    c.cluster = load_u64(p + 24);
    c.node = load_u64(p + 32);
    c.dur_seg = load_u64(p + 56);
    c.dur_seq = load_u64(p + 64);
    c.committed = load_u64(p + 72);
    if (c.seq >= NUMBER_MAX || c.hard.term >= NUMBER_MAX || c.dur_seg >= NUMBER_MAX || c.dur_seq >= NUMBER_MAX) return c;
    if (c.committed >= NUMBER_MAX) return c;
    c.state = COPY_GOOD;
    return c;
}

int raft__meta_load(struct log *log, bool data_files, bool *lost)
{
    struct meta *m = &log->meta;
    struct copy c[COPIES];
    const struct copy *best = NULL;
    unsigned zeros = 0;
    raft__pages_reserve(&m->mem, COPIES);
    memset(m->mem.p, 0, COPIES * PAGE_BYTES);
    *lost = false;
    for (uint32_t i = 0; i < COPIES; i++) {
        uint8_t *p = m->mem.p + (size_t)i * PAGE_BYTES;
        int64_t n = disk_load(log->disk, META_NAME, (uint64_t)i * PAGE_BYTES, p, PAGE_BYTES);
        if (n < 0 && n != -ENOENT && n != -EIO) return (int)n;
        if (n == -EIO) memset(p, 0xff, PAGE_BYTES);     /* cannot be read: damaged */
        c[i] = copy_get(p, i);
        if (c[i].state == COPY_VERSION) return QE_VERSION;
        if (c[i].state == COPY_GOOD && (!best || c[i].seq > best->seq)) best = &c[i];
        zeros += c[i].state == COPY_ZERO;
    }
    if (!best) return zeros == COPIES && !data_files ? 0 : QE_CORRUPT;
    const struct copy *other = &c[best->seq & 1 ? 0 : 2];
    bool other_good = other[0].state == COPY_GOOD || other[1].state == COPY_GOOD;
    bool other_new = other[0].state == COPY_ZERO && other[1].state == COPY_ZERO && best->seq <= 2;
    *lost = !other_good && !other_new;
    for (uint32_t i = 0; i < COPIES; i++)
        if (c[i].state != COPY_GOOD) m->rewrites = 2;
    m->exists = true;
    m->seq = best->seq;
    m->hard = best->hard;
    m->cluster = best->cluster;
    m->node = best->node;
    m->dur_seg = best->dur_seg;
    m->dur_seq = m->marked_seq = best->dur_seq;
    m->committed = best->committed;
    return 0;
}

int log_owner(struct disk *disk, uint64_t *node_id)
{
    struct log *log = xcalloc(1, sizeof *log);
    bool lost;
    log->disk = disk;
    int err = raft__meta_load(log, true, &lost);
    if (!err && !log->meta.exists) err = -ENOENT;
    *node_id = log->meta.node;
    raft__pages_free(&log->meta.mem);
    free(log);
    return err;
}

/* ---- writing ---- */

static void meta_written(struct disk_io *io, int64_t result)
{
    struct meta *m = container_of(io, struct meta, io);
    struct log *log = io->arg;
    if (raft__submitted(log)) return;
    if (result != (int64_t)io->n) {
        raft__log_fail(log, result < 0 ? (int)result : -EIO, "writing the node's hard state (meta)");
        return;
    }
    m->busy = false;
    m->exists = true;
    m->seq = m->writing_seq;
    m->marked_seq = m->dur_seq;
    if (m->rewrites) m->rewrites--;
    raft__log_wake(log);
    raft__gc_wake(log);
    if (!m->told) return;
    struct raft_hard hard = m->writing;
    log->cfg.cb.hard_persisted(log->cfg.cb.arg, &hard);
}

static void meta_write(struct log *log, uint64_t seq, uint32_t first, uint32_t blocks)
{
    struct meta *m = &log->meta;
    m->dur_seg = log->w.dur_seg;
    m->dur_seq = log->w.dur_seq;
    for (uint32_t i = 0; i < blocks; i++) {
        uint64_t s = blocks == COPIES ? 2 - (first + i) / 2 % 2 : seq;     /* a new file: 2 in slot 0, 1 in slot 1 */
        copy_put(m->mem.p + (size_t)i * PAGE_BYTES, m, s, first + i, raft__sure_on_disk(log));
    }
    m->busy = true;
    m->want = false;
    m->told = m->ask;
    m->ask = false;
    m->writing = m->hard;
    m->writing_seq = seq;
    m->io = (struct disk_io){.op = DISK_WRITE, .lane = DISK_LANE_LOG, .durable = true, .name = META_NAME,
                             .off = (uint64_t)first * PAGE_BYTES, .p = m->mem.p, .n = blocks * PAGE_BYTES,
                             .done = meta_written, .arg = log};
    raft__submit(log, &m->io);
}

static void meta_made(struct disk_io *io, int64_t result)
{
    struct log *log = io->arg;
    if (raft__submitted(log)) return;
    if (result < 0) {
        raft__log_fail(log, (int)result, "making the file of the node's hard state (meta)");
        return;
    }
    meta_write(log, 2, 0, COPIES);
}

void raft__meta_turn(struct log *log)
{
    struct meta *m = &log->meta;
    if (m->busy || log->failed) return;
    if (!m->exists) {
        m->busy = true;
        m->io = (struct disk_io){.op = DISK_ALLOC, .lane = DISK_LANE_LOG, .durable = true, .name = META_NAME,
                                 .off = COPIES * PAGE_BYTES, .done = meta_made, .arg = log};
        raft__submit(log, &m->io);
        return;
    }
    if (m->want || m->rewrites) meta_write(log, m->seq + 1, (m->seq + 1) % 2 * 2, 2);
}

void log_set_hard(struct log *log, const struct raft_hard *hard)
{
    log->meta.hard = *hard;
    log->meta.want = log->meta.ask = true;
    raft__log_wake(log);
}

void log_set_identity(struct log *log, uint64_t cluster_id)
{
    if (log->meta.cluster == cluster_id) return;
    log->meta.cluster = cluster_id;
    log->meta.want = true;
    raft__log_wake(log);
}
