/* nemesis_disk.c - faults of disks. Errors that are told (EIO, a failed sync, no space) may hit any disk: they end the
 * server at worst. Damage that nobody tells of (rot, writes that went elsewhere or nowhere, blocks that cannot be read)
 * makes the server a suspect, and these are a minority.
 *
 * A durable write that never happened, the last one before a crash, leaves no trace at all: no protocol survives a disk
 * that forgets what it promised. So a suspect whose latest lie nothing gives away yet gets a new disk when it ends. */
#include <stdio.h>

#include "tests/sim/nemesis_priv.h"

static struct sim_server *server_of(struct sim_nemesis *m, unsigned i) { return &m->cluster->servers[i]; }

static bool make_suspect(struct sim_nemesis *m, unsigned i)
{
    struct sim_server *s = server_of(m, i);
    if (!s->suspect && !sim__can_spare(m, i)) return false;
    s->suspect = true;
    return true;
}

/* ---- slow, hanging, full ---- */

/* An operation takes up to half a second; what was begun slowly ends slowly. */
static bool slow_disk(struct sim_nemesis *m, unsigned i)
{
    struct sim_cluster *c = m->cluster;
    uint64_t most = 500 * NS_PER_MS / max_u64(c->opt.disk.op_ns_max, NS_PER_US);
    sim_say(c, "server %u has a slow disk", i + 1);
    sim_disk_slow(c->servers[i].disk, (uint32_t)prng_between(&m->rng, 2, most));
    sim_at(c->world, &m->servers[i].quick, sim__after(m, 3000));
    return true;
}

static bool hang_disk(struct sim_nemesis *m, unsigned i)
{
    if (!sim_server_up(m->cluster, i)) return false;
    sim_say(m->cluster, "server %u has a disk that does not answer", i + 1);
    sim_disk_hang(server_of(m, i)->disk, true);
    sim_at(m->cluster->world, &m->servers[i].quick, sim__after(m, prng_chance(&m->rng, 70) ? 1500 : 8000));
    return true;
}

static bool full_disk(struct sim_nemesis *m, unsigned i)
{
    struct sim_server *s = server_of(m, i);
    uint64_t left = prng_below(&m->rng, 3 * m->cluster->opt.node.log.segment_bytes);
    sim_say(m->cluster, "server %u has %llu bytes left on its disk", i + 1, (unsigned long long)left);
    sim_disk_capacity(s->disk, sim_disk_used(s->disk) + left);
    s->may_end = true; /* it may be unable to start */
    sim_at(m->cluster->world, &m->servers[i].quick, sim__after(m, 6000));
    return true;
}

void sim__disk_mend(struct sim_nemesis *m, unsigned i)
{
    struct sim_server *s = server_of(m, i);
    sim_disk_slow(s->disk, 1);
    sim_disk_hang(s->disk, false);
    sim_disk_capacity(s->disk, m->cluster->opt.disk.capacity);
}

/* ---- errors ---- */

static bool error(struct sim_nemesis *m, unsigned i, unsigned ops, uint64_t within, const char *what)
{
    struct sim_server *s = server_of(m, i);
    if (!sim_server_up(m->cluster, i) || sim_disk_fault_due(s->disk)) return false;
    sim_say(m->cluster, "server %u will have %s", i + 1, what);
    s->may_end = true;
    sim_disk_fault(s->disk, SIM_DISK_ERROR, ops, prng_between(&m->rng, 1, within), -EIO);
    return true;
}

static bool write_error(struct sim_nemesis *m, unsigned i)
{
    return error(m, i, 1u << DISK_WRITE, 30, "a write that fails");
}

static bool sync_error(struct sim_nemesis *m, unsigned i)
{
    return error(m, i, 1u << DISK_SYNC, 3, "a sync that fails");
}

static bool read_error(struct sim_nemesis *m, unsigned i) { return error(m, i, 1u << DISK_READ, 4, "a read that fails"); }

/* ---- damage ---- */

static bool lie(struct sim_nemesis *m, unsigned i, enum sim_disk_fault what, const char *text)
{
    struct sim_server *s = server_of(m, i);
    if (!sim_server_up(m->cluster, i) || sim_disk_fault_due(s->disk) || !make_suspect(m, i)) return false;
    sim_say(m->cluster, "server %u will have a write that %s", i + 1, text);
    sim_disk_fault(s->disk, what, 1u << DISK_WRITE, prng_between(&m->rng, 1, 20), 0);
    return true;
}

static bool misdirect(struct sim_nemesis *m, unsigned i) { return lie(m, i, SIM_DISK_MISDIRECT, "goes elsewhere"); }
static bool stale(struct sim_nemesis *m, unsigned i) { return lie(m, i, SIM_DISK_LOST, "never happens"); }

static bool rot(struct sim_nemesis *m, unsigned i)
{
    struct sim_server *s = server_of(m, i);
    char name[DISK_NAME_MAX];
    uint64_t block;
    if (!make_suspect(m, i)) return false;
    bool any = false;
    for (uint64_t n = prng_between(&m->rng, 1, 8); n; n--) {
        if (!sim_disk_any_block(s->disk, &m->rng, name, &block)) break;
        sim_say(m->cluster, "server %u: bits of %s, block %llu, change", i + 1, name, (unsigned long long)block);
        any |= sim_disk_flip(s->disk, name, block * DISK_BLOCK + prng_below(&m->rng, DISK_BLOCK),
                             (uint8_t)prng_between(&m->rng, 1, 255));
    }
    return any;
}

static bool bad_block(struct sim_nemesis *m, unsigned i)
{
    struct sim_server *s = server_of(m, i);
    char name[DISK_NAME_MAX];
    uint64_t block;
    if (!make_suspect(m, i) || !sim_disk_any_block(s->disk, &m->rng, name, &block)) return false;
    sim_say(m->cluster, "server %u: %s, block %llu, becomes unreadable", i + 1, name, (unsigned long long)block);
    return sim_disk_unreadable(s->disk, name, block);
}

static bool lose_disk(struct sim_nemesis *m, unsigned i)
{
    struct sim_server *s = server_of(m, i);
    if (!s->suspect && !sim__can_spare(m, i)) return false;
    sim__end_server(m, i, SIM_POWER_CUT);
    if (sim_server_up(m->cluster, i)) return false;
    sim_server_wipe(m->cluster, i);
    return true;
}

const sim_strike sim__disk_strikes[SIM_FAULT_KINDS] = {
    [SIM_FAULT_SLOW_DISK] = slow_disk,     [SIM_FAULT_HANG_DISK] = hang_disk,   [SIM_FAULT_FULL_DISK] = full_disk,
    [SIM_FAULT_WRITE_ERROR] = write_error, [SIM_FAULT_SYNC_ERROR] = sync_error, [SIM_FAULT_READ_ERROR] = read_error,
    [SIM_FAULT_BAD_BLOCK] = bad_block,     [SIM_FAULT_ROT] = rot,               [SIM_FAULT_MISDIRECT] = misdirect,
    [SIM_FAULT_STALE] = stale,             [SIM_FAULT_LOST_DISK] = lose_disk,
};
