/* test_sim_damage.c - disks that have rotted in many places, so that no server, or no server at all, has a value as a
 * whole: what is good anywhere is found, what is good nowhere is lost and nothing more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kv/server.h"
#include "raft/node_priv.h"
#include "tests/sim/swarm.h"

#define VALUES 3u
#define EVERY  24u /* blocks from one bad one to the next */

static struct sim_options options(uint64_t seed, const char *title)
{
    struct sim_options o;
    sim_options_default(&o, seed);
    o.title = title;
    return o;
}

static void call_done(struct kv_call *call, const struct kv_reply *reply) { *(int *)call->arg = reply->status < 0 ? reply->status : 0; }
static bool answered(void *arg) { return *(int *)arg != 1; }

/* One call of a client of its own: its status. */
static int ask(struct sim_cluster *c, const struct kv_op *op)
{
    const char *addrs[3] = {c->servers[0].addr, c->servers[1].addr, c->servers[2].addr};
    struct kv_client_config cfg = {.addrs = addrs, .naddrs = 3, .name = "asker", .seed = prng_u64(&c->rng)};
    if (!sim_alive(c->world, SIM_CLIENT_PROC)) sim_start(c->world, SIM_CLIENT_PROC);
    struct kv_client *kv = kv_client_new(sim_net_door(c->net, SIM_CLIENT_PROC), sim_clock(c->world, SIM_CLIENT_PROC), &cfg);
    int status = 1;
    struct kv_call call = {.op = *op, .done = call_done, .arg = &status};
    kv_call(kv, &call);
    if (!sim_wait(c, answered, &status, 10000)) sim_fail(c, "no answer");
    sim_kill(c->world, SIM_CLIENT_PROC);
    kv_client_free(kv);
    return status;
}

static void put(struct sim_cluster *c, const char *key, const uint8_t *bytes, uint32_t n)
{
    struct kv_op op = {.code = KV_PUT, .name = slice_str(key), .data = slice_of(bytes, n)};
    int status = ask(c, &op);
    if (status < 0) sim_fail(c, "put: %s", err_text(status));
}

static void put_values(struct sim_cluster *c, const uint8_t *bytes, uint32_t n)
{
    static const char *const keys[VALUES] = {"a", "b", "c"};
    for (unsigned i = 0; i < VALUES; i++) put(c, keys[i], bytes, n);
}

struct wanted {
    struct sim_server *s;
    const uint8_t *bytes;
    uint64_t ranges;
};

static void read_done(struct log_read *r, int err) { *(int *)r->arg = err; }

/* What came of it; 1: nothing within 30 s. */
static int read_payload(const struct wanted *w, uint64_t index, uint32_t off, uint32_t len, uint8_t *p)
{
    int err = 1;
    struct log_read r = {.index = index, .off = off, .n = len, .p = p, .done = read_done, .arg = &err};
    node_payload(w->s->node, &r);
    sim_wait(w->s->cluster, answered, &err, 30000);
    return err;
}

static void read_range(void *ctx, uint64_t index, uint32_t off, uint32_t len)
{
    struct wanted *w = ctx;
    uint8_t *p = xmalloc(len);
    int err = read_payload(w, index, off, len, p);
    if (err) sim_fail(w->s->cluster, "server %u cannot read a value: %s", w->s->at + 1, err_text(err));
    if (memcmp(p, w->bytes, len) != 0) sim_fail(w->s->cluster, "server %u reads wrong bytes", w->s->at + 1);
    free(p);
    w->ranges++;
}

static void scatter(struct sim_server *s, bool unreadable)
{
    char name[DISK_NAME_MAX];
    s->suspect = true;
    for (uint64_t no = 1; no < 20; no++) {
        snprintf(name, sizeof name, "seg-%016llx", (unsigned long long)no);
        for (uint64_t block = 1 + s->at * (EVERY / 3); block < MIB / DISK_BLOCK; block += EVERY) {
            if (unreadable)
                sim_disk_unreadable(s->disk, name, block);
            else
                sim_disk_flip(s->disk, name, block * DISK_BLOCK + 99, 1);
        }
    }
}

static void read_all(struct sim_server *s, const uint8_t *bytes)
{
    struct wanted w = {.s = s, .bytes = bytes};
    struct fs fs = {.map = kv_server_map(s->kv)};
    fs_all_ranges(&fs, read_range, &w);
    if (w.ranges < VALUES) sim_fail(s->cluster, "server %u has no values", s->at + 1);
}

static bool installed(void *arg)
{
    struct sim_server *s = arg;
    struct node_status st;
    sim_status(s->cluster, s->at, &st);
    return st.snapshots_installed > 0 && st.raft.standing == RAFT_VOTER;
}

/* Blocks of every disk are rotten, on each of them others, so no server has a whole value, but each byte is good on one
 * or two. Every server can read all of it, also while another is down, and one with an emptied disk gets all of it.
 * (Whole ranges were asked for only, and nobody had one.) */
static void scattered(uint64_t seed)
{
    static uint8_t bytes[300000];
    struct sim_options o = options(seed, "scattered");
    o.node.log.segment_bytes = MIB;
    o.node.log.cache_bytes = 8 * KIB;
    o.node.checkpoint_bytes = 16 * MIB;
    struct sim_cluster *c = sim_cluster_new(&o);
    for (uint32_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)prng_u64(&c->rng);
    sim_start_all(c);
    put_values(c, bytes, sizeof bytes);
    sim_sleep(c, 2000);
    for (unsigned i = 0; i < 3; i++) scatter(&c->servers[i], seed % 2);
    unsigned other = ((unsigned)sim_leader(c) + 1) % 3;
    if (seed % 3 == 0) {
        for (unsigned i = 0; i < 3; i++) read_all(&c->servers[i], bytes);
    } else {
        sim_server_end(c, other, SIM_KILLED);
        if (seed % 3 == 1) {
            read_all(&c->servers[(other + 1) % 3], bytes);
        } else {
            sim_server_wipe(c, other);
            sim_server_start(c, other);
            if (!sim_wait(c, installed, &c->servers[other], 30000)) sim_fail(c, "the emptied server gets no snapshot");
            read_all(&c->servers[other], bytes);
        }
    }
    sim_cluster_free(c);
}

/* ---- lost for good ---- */

/* Blocks of the first value, where every server has it. */
#define BAD_FROM 20u
#define BAD_TO   40u
#define CHUNK    4000u

/* What the servers can read: a bit for each chunk of the values. */
struct reading {
    struct sim_server *s;
    const uint8_t *bytes;
    uint32_t at, lost;
    uint8_t got[VALUES * 200];
};

/* In the segment of the k-th value; a second time: they are good again. */
static void turn_bad(struct sim_server *s, unsigned k)
{
    char name[DISK_NAME_MAX];
    unsigned found = 0;
    s->suspect = true;
    for (uint64_t no = 1; no < 20 && found <= k; no++) {
        snprintf(name, sizeof name, "seg-%016llx", (unsigned long long)no);
        found += sim_disk_size(s->disk, name) > 0;
    }
    for (uint64_t block = BAD_FROM; block < BAD_TO; block++)
        if (!sim_disk_flip(s->disk, name, block * DISK_BLOCK + 99, 1)) sim_fail(s->cluster, "no such block");
}

/* All of all segments. */
static void all_bad(struct sim_server *s)
{
    char name[DISK_NAME_MAX];
    s->suspect = true;
    for (uint64_t no = 1; no < 40; no++) {
        snprintf(name, sizeof name, "seg-%016llx", (unsigned long long)no);
        for (uint64_t block = 1; block < sim_disk_size(s->disk, name) / DISK_BLOCK; block++)
            sim_disk_flip(s->disk, name, block * DISK_BLOCK + 99, 1);
    }
}

static void read_chunks(void *ctx, uint64_t index, uint32_t off, uint32_t len)
{
    struct reading *rd = ctx;
    uint8_t p[CHUNK];
    for (uint32_t at = 0; at < len; at += CHUNK) {
        int err = 1;
        struct log_read r = {.index = index, .off = off + at, .n = (uint32_t)min_u64(CHUNK, len - at), .p = p};
        r.done = read_done;
        r.arg = &err;
        node_payload(rd->s->node, &r);
        if (!sim_wait(rd->s->cluster, answered, &err, 30000)) sim_fail(rd->s->cluster, "a read does not end");
        if (err && err != QE_GONE && err != QE_CORRUPT)
            sim_fail(rd->s->cluster, "server %u reads: %s", rd->s->at + 1, err_text(err));
        if (!err && memcmp(p, rd->bytes + at, r.n) != 0) sim_fail(rd->s->cluster, "server %u reads wrong bytes", rd->s->at + 1);
        rd->lost += err != 0;
        check(rd->at < sizeof rd->got);
        rd->got[rd->at++] = err == 0;
    }
}

/* Every server that runs has the same answer for each part of each value, and the same state. How many parts are lost. */
static uint32_t alike(struct sim_cluster *c, const uint8_t *bytes)
{
    static struct reading rd[2];
    struct node_status st[2];
    unsigned k = 0;
    for (unsigned i = 0; i < c->opt.n; i++) {
        if (!sim_server_up(c, i)) continue;
        rd[k] = (struct reading){.s = &c->servers[i], .bytes = bytes};
        struct fs fs = {.map = kv_server_map(c->servers[i].kv)};
        fs_all_ranges(&fs, read_chunks, &rd[k]);
        sim_status(c, i, &st[k]);
        if (rd[k].at < VALUES) sim_fail(c, "server %u has no values", i + 1);
        if (rd[k].at != rd[0].at || memcmp(rd[k].got, rd[0].got, rd[0].at) != 0)
            sim_fail(c, "server %u lacks %u parts, another %u", i + 1, rd[k].lost, rd[0].lost);
        if (st[k].digest != st[0].digest || st[k].digest_index != st[0].digest_index)
            sim_fail(c, "server %u has another state", i + 1);
        k = 1;
    }
    return rd[0].lost;
}

/* Each value lies in a segment of its own, and the first, by now, in none that a start has to read. */
static struct sim_options short_log(uint64_t seed, const char *title, unsigned n, unsigned members)
{
    struct sim_options o = options(seed, title);
    o.n = n;
    o.members = members;
    o.node.log.segment_bytes = 384 * KIB;
    o.node.log.cache_bytes = 8 * KIB;
    o.node.log.trail_bytes = 4 * KIB;
    o.node.checkpoint_bytes = 64 * KIB;
    return o;
}

static struct sim_cluster *with_values(const struct sim_options *o, uint8_t *bytes, uint32_t nbytes)
{
    struct sim_cluster *c = sim_cluster_new(o);
    for (uint32_t i = 0; i < nbytes; i++) bytes[i] = (uint8_t)prng_u64(&c->rng);
    sim_start_all(c);
    put_values(c, bytes, nbytes);
    sim_sleep(c, 2000);
    return c;
}

/* A server that a replica is missing of: with an emptied disk, or a new one that is added. */
static struct sim_server *wipe(struct sim_cluster *c, unsigned i)
{
    sim_server_end(c, i, SIM_KILLED);
    sim_server_wipe(c, i);
    sim_server_start(c, i);
    return &c->servers[i];
}

static void change(struct sim_cluster *c, enum node_change_what what, const struct sim_server *s)
{
    struct node_change ch = {.what = what, .id = s->at + 1};
    struct buf why = {0};
    memcpy(ch.addr, s->addr, sizeof s->addr);
    if (node_change(c->servers[sim_leader(c)].node, &ch, &why) < 0)
        sim_fail(c, "change of server %u: %.*s", s->at + 1, (int)why.n, (const char *)why.p);
    buf_free(&why);
}

static bool waits(void *arg)
{
    const struct snap_in *in = &((struct sim_server *)arg)->node->in;
    return in->active && in->retry_at && in->nsilent;
}

static void must_install(struct sim_server *s)
{
    if (!sim_wait(s->cluster, installed, s, 30000)) sim_fail(s->cluster, "server %u gets no snapshot", s->at + 1);
}

/* Its status has these two, one after the other. */
static void must_say(struct sim_server *s, const char *first, const char *second)
{
    struct buf text = {0};
    kv_server_status(s->kv, &text);
    buf_append(&text, "", 1);
    const char *at = strstr((const char *)text.p, first);
    if (!at || !strstr(at, second)) sim_fail(s->cluster, "server %u says: %s", s->at + 1, (const char *)text.p);
    buf_free(&text);
}

/* It goes on waiting for that server, and for no other, however long. */
static void must_wait_for(struct sim_server *s, unsigned other)
{
    if (!sim_wait(s->cluster, waits, s, 10000)) sim_fail(s->cluster, "server %u does not wait", s->at + 1);
    if (sim_wait(s->cluster, installed, s, 20000)) sim_fail(s->cluster, "server %u waits for nobody", s->at + 1);
    if (!sim_wait(s->cluster, waits, s, 10000)) sim_fail(s->cluster, "server %u does not wait any more", s->at + 1);
    char who[40];
    snprintf(who, sizeof who, "\nsnapshot_waits_for %u\n", other + 1);
    must_say(s, who, "");
}

/* The same bytes of a value are rotten on all disks, in the log behind the checkpoint or before it, and another server's disk
 * is replaced by an empty one, or a new server is added: it gets all the rest, and no server has these. (It began anew for
 * ever.) Then one of the disks can be read again: all have all. */
static void nowhere(uint64_t seed)
{
    static uint8_t bytes[300000];
    unsigned n = seed % 3 ? 3 : 4;
    struct sim_options o = short_log(seed, "nowhere", n, 3);
    if (seed & 4) o.node.checkpoint_bytes = 16 * MIB;
    struct sim_cluster *c = with_values(&o, bytes, sizeof bytes);
    for (unsigned i = 0; i < 3; i++) turn_bad(&c->servers[i], 0);
    unsigned l = (unsigned)sim_leader(c), other = (l + 1 + (unsigned)(seed % 2)) % 3;
    if (n == 4) change(c, NODE_CHANGE_ADD, &c->servers[3]);
    must_install(n == 4 ? &c->servers[3] : wipe(c, other));
    struct sim_server *s = n == 4 ? &c->servers[3] : &c->servers[other];
    must_say(s, "\nlost_parts 1\nlost.0 ", " a\n");
    if (!alike(c, bytes)) sim_fail(c, "nothing is lost");
    struct kv_op get = {.code = KV_GET, .name = slice_str("a")};
    if (ask(c, &get) != -EIO) sim_fail(c, "a value of which bytes are lost is answered");
    must_say(&c->servers[sim_leader(c)], "\nlost_parts 1\nlost.0 0 300000 a\n", "");
    turn_bad(&c->servers[seed % 2 ? l : 3 - l - other], 0);
    sim_sleep(c, 90000);
    for (unsigned i = 0; i < n; i++) must_say(&c->servers[i], "\nlost_parts 0\n", "");
    if (ask(c, &get)) sim_fail(c, "a value that is whole again is not answered");
    if (alike(c, bytes)) sim_fail(c, "a copy that can be read again is not found");
    sim_cluster_free(c);
}

#define MANY (KV_LOST_MAX + 6u)

static void many_lost(struct sim_cluster *c, const uint8_t *bytes)
{
    char key[16];
    struct kv_op op = {.code = KV_GET};
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(key, sizeof key, "m%u", i);
        put(c, key, bytes, 20000);
    }
    sim_sleep(c, 2000);
    for (unsigned i = 0; i < 3; i++) all_bad(&c->servers[i]);
    for (unsigned i = 0; i < 3 * MANY; i++) {
        snprintf(key, sizeof key, "m%u", i % MANY);
        op.name = slice_str(key);
        op.code = i < 2 * MANY ? KV_GET : KV_DELETE;
        if (ask(c, &op) != (op.code == KV_GET ? -EIO : 0)) sim_fail(c, "%s is not lost, or not deleted", key);
        if (i + 1 == 2 * MANY) must_say(&c->servers[sim_leader(c)], "\nlost_parts 64\n", "\nlost_more 1\n");
    }
}

static void written_anew(struct sim_cluster *c, const uint8_t *bytes)
{
    struct kv_op get = {.code = KV_GET, .name = slice_str("a")};
    struct fs fs = {.map = kv_server_map(c->servers[sim_leader(c)].kv)};
    struct fs_attr a;
    for (unsigned i = 0; i < 3; i++) turn_bad(&c->servers[i], 0);
    if (ask(c, &get) != -EIO) sim_fail(c, "nothing is lost");
    must_say(&c->servers[sim_leader(c)], "\nlost_parts 1\n", "");
    if (fs_lookup(&fs, FS_ROOT_INO, get.name, &a)) sim_fail(c, "no such file");
    struct kv_op write = {.code = KV_WRITE, .ino = a.ino, .off = 60000, .data = slice_of(bytes + 60000, 120000)};
    if (ask(c, &write) < 0) sim_fail(c, "it cannot be written");
    if (ask(c, &get)) sim_fail(c, "a value whose lost bytes were written anew cannot be read");
    sim_sleep(c, 70000);
}

/* What is lost is listed for people as long as it is so, and no longer. Of more values than are listed each has lost something,
 * and all are deleted; or of one the lost bytes alone are written anew. (The count of what had found no room stayed for ever,
 * and so did a part of which anything was left.) */
static void healed(uint64_t seed)
{
    static uint8_t bytes[300000];
    struct sim_options o = short_log(seed, "healed", 3, 3);
    struct sim_cluster *c = with_values(&o, bytes, sizeof bytes);
    if (seed % 2)
        many_lost(c, bytes);
    else
        written_anew(c, bytes);
    must_say(&c->servers[sim_leader(c)], "\nlost_parts 0\n", "\nlost_more 0\n");
    sim_cluster_free(c);
}

struct hoard {
    struct sim_server *s;
    size_t peak;
};

static bool installed_hoarding(void *arg)
{
    struct hoard *h = arg;
    const struct snap_in *in = &h->s->node->in;
    h->peak = max_u64(h->peak, in->ranges.cap + in->halves.cap + in->later.cap + in->lost.cap);
    return installed(h->s);
}

/* All of large values is lost everywhere, and found so in the smallest parts: that takes no memory in proportion. (It took a
 * quarter of what was lost.) */
static void all_lost(uint64_t seed)
{
    static uint8_t bytes[1000000];
    struct sim_options o = short_log(seed, "all lost", 3, 3);
    o.node.log.segment_bytes = 2 * MIB;
    struct sim_cluster *c = with_values(&o, bytes, sizeof bytes);
    for (unsigned i = 0; i < 3; i++) all_bad(&c->servers[i]);
    struct hoard h = {.s = wipe(c, ((unsigned)sim_leader(c) + 1) % 3)};
    if (!sim_wait(c, installed_hoarding, &h, 60000)) sim_fail(c, "no snapshot");
    if (h.peak > 2048) sim_fail(c, "%zu ranges are kept", h.peak);
    must_say(h.s, "\nlost_parts 3\n", "");
    sim_cluster_free(c);
}

/* A server that is added gets from the others what the leader has lost. (It only asked the leader: the others are no members as
 * far as it knows.) */
static void newcomer(uint64_t seed)
{
    static uint8_t bytes[300000];
    struct sim_options o = short_log(seed, "newcomer", 4, 3);
    struct sim_cluster *c = with_values(&o, bytes, sizeof bytes);
    turn_bad(&c->servers[sim_leader(c)], 0);
    change(c, NODE_CHANGE_ADD, &c->servers[3]);
    must_install(&c->servers[3]);
    read_all(&c->servers[3], bytes);
    sim_cluster_free(c);
}

/* The one that has the last good copy, for all that the others know, is down: what it may have is not given up until it has
 * been asked, or is no member any more. */
static void away(uint64_t seed)
{
    static uint8_t bytes[300000];
    bool has = seed % 3 == 0, removed = seed % 3 == 2;
    unsigned n = removed ? 4 : 3;
    struct sim_options o = short_log(seed, "away", n, n);
    struct sim_cluster *c = with_values(&o, bytes, sizeof bytes);
    unsigned l = (unsigned)sim_leader(c), wiped = (l + 1) % n, gone = (l + 2) % n;
    for (unsigned i = 0; i < n; i++)
        if (i != gone || !has) turn_bad(&c->servers[i], 0);
    sim_server_end(c, gone, SIM_KILLED);
    struct sim_server *s = wipe(c, wiped);
    must_wait_for(s, gone);
    if (removed)
        change(c, NODE_CHANGE_REMOVE, &c->servers[gone]);
    else
        sim_server_start(c, gone);
    must_install(s);
    sim_sleep(c, 3000);
    if (has)
        read_all(s, bytes);
    else if (!alike(c, bytes))
        sim_fail(c, "nothing is lost");
    sim_cluster_free(c);
}

/* Of five servers, two with emptied disks are installed side by side: neither waits for the other. */
static void two_at_once(uint64_t seed)
{
    static uint8_t bytes[300000];
    struct sim_options o = short_log(seed, "two at once", 5, 5);
    struct sim_cluster *c = with_values(&o, bytes, sizeof bytes);
    for (unsigned i = 0; i < 5; i++) turn_bad(&c->servers[i], 0);
    unsigned l = (unsigned)sim_leader(c);
    struct sim_server *a = wipe(c, (l + 1) % 5), *b = wipe(c, (l + 2) % 5);
    must_install(a);
    must_install(b);
    if (!alike(c, bytes)) sim_fail(c, "nothing is lost");
    sim_cluster_free(c);
}

struct nth {
    struct wanted w;
    unsigned k, n;
};

static void read_nth(void *ctx, uint64_t index, uint32_t off, uint32_t len)
{
    struct nth *x = ctx;
    if (x->n++ == x->k) read_range(&x->w, index, off, len);
}

/* What a server that waits has got so far is there for the others. */
static void half_way(uint64_t seed)
{
    static uint8_t bytes[300000];
    struct sim_options o = short_log(seed, "half way", 3, 3);
    struct sim_cluster *c = with_values(&o, bytes, sizeof bytes);
    unsigned l = (unsigned)sim_leader(c), gone = (l + 2) % 3;
    turn_bad(&c->servers[l], 0);
    sim_server_end(c, gone, SIM_KILLED);
    must_wait_for(wipe(c, (l + 1) % 3), gone);
    turn_bad(&c->servers[l], 1);
    struct nth second = {.w = {.s = &c->servers[l], .bytes = bytes}, .k = 1};
    struct fs fs = {.map = kv_server_map(c->servers[l].kv)};
    fs_all_ranges(&fs, read_nth, &second);
    if (!second.w.ranges) sim_fail(c, "no second value");
    sim_cluster_free(c);
}

/* A server that was away has the last good copy of a value in its log, but needs a snapshot, for the others' logs begin
 * later by now: its copy stays, and is found by the others. */
static void returns(uint64_t seed)
{
    static uint8_t bytes[300000];
    struct sim_options o = short_log(seed, "returns", 3, 3);
    o.node.checkpoint_bytes = MIB;
    struct sim_cluster *c = with_values(&o, bytes, sizeof bytes);
    unsigned l = (unsigned)sim_leader(c), away = (l + 1 + (unsigned)(seed % 2)) % 3;
    sim_server_end(c, away, seed % 3 ? SIM_KILLED : SIM_POWER_CUT);
    static const char *const keys[] = {"d", "e", "f"};
    for (unsigned i = 0; i < 3; i++) put(c, keys[i], bytes, sizeof bytes);
    sim_sleep(c, 2000);
    for (unsigned i = 0; i < 3; i++)
        if (i != away) turn_bad(&c->servers[i], 0);
    sim_server_start(c, away);
    must_install(&c->servers[away]);
    sim_sleep(c, 3000);
    if (alike(c, bytes)) sim_fail(c, "the last good copy is gone");
    sim_cluster_free(c);
}

/* The leader's checkpoint has rotten, and nobody writes: a follower with an emptied disk gets its snapshot all the same. (A
 * fresh one was to replace it, but of an index that has a checkpoint none was made.) */
static void rotten_image(uint64_t seed)
{
    static uint8_t bytes[300000];
    struct sim_options o = short_log(seed, "rotten image", 3, 3);
    struct sim_cluster *c = with_values(&o, bytes, sizeof bytes);
    unsigned l = (unsigned)sim_leader(c);
    struct sim_server *s = &c->servers[l];
    struct node_status st;
    char name[DISK_NAME_MAX];
    sim_status(c, l, &st);
    if (st.checkpoint_index != st.raft.applied) sim_fail(c, "the checkpoint is not the newest state");
    snprintf(name, sizeof name, "ckpt-%016llx", (unsigned long long)st.checkpoint_index);
    s->suspect = true;
    for (uint64_t block = 0; block < sim_disk_size(s->disk, name) / DISK_BLOCK; block++)
        sim_disk_flip(s->disk, name, block * DISK_BLOCK + 99, 1);
    struct sim_server *w = wipe(c, (l + 1) % 3);
    must_install(w);
    read_all(w, bytes);
    sim_cluster_free(c);
}

/* ---- bytes that are nobody's ---- */

static bool another_leads(void *arg)
{
    const struct sim_server *s = arg;
    int l = sim_leader(s->cluster);
    return l >= 0 && l != (int)s->at;
}

/* A deposed leader has entries that were never committed, at indexes of others that were, and has not heard of these: its
 * way to the new leader is cut. Who has lost the true ones does not get its. (It did, and took them for repaired.) */
static void never_committed(uint64_t seed)
{
    static uint8_t bytes[300000];
    struct sim_options o = short_log(seed, "never committed", 3, 3);
    struct sim_cluster *c = with_values(&o, bytes, sizeof bytes);
    unsigned old = (unsigned)sim_leader(c);
    sim_isolate(c, old, true);
    for (unsigned i = 0; i < 8; i++) {
        struct blob *b = blob_new(sizeof bytes + KIB);
        memset(b->p, 0xee, b->n);
        if (node_propose(c->servers[old].node, b) < 0) sim_fail(c, "no leader");
    }
    if (!sim_wait(c, another_leads, &c->servers[old], 10000)) sim_fail(c, "no new leader");
    put_values(c, bytes, sizeof bytes);
    sim_sleep(c, 2000);
    unsigned l = (unsigned)sim_leader(c), f = 3 - old - l;
    scatter(&c->servers[f], seed % 2);
    sim_cut(c->net, old, f, false);
    sim_cut(c->net, f, old, false);
    sim_sleep(c, 3000);
    read_all(&c->servers[f], bytes);
    sim_isolate(c, old, false);
    sim_sleep(c, 3000);
    read_all(&c->servers[old], bytes);
    sim_cluster_free(c);
}

static void read_nowhere(void *ctx, uint64_t index, uint32_t off, uint32_t len)
{
    struct wanted *w = ctx;
    uint8_t *p = xmalloc(len);
    int err = read_payload(w, index, off, len, p);
    if (err == QE_GONE || err == QE_CORRUPT) sim_fail(w->s->cluster, "it is taken for lost");
    w->ranges += err != 0;
    free(p);
}

/* The last good copy is in the log of a server that was killed before it heard that it is committed, has been started again
 * and is cut off from the leader: it is neither used nor taken for lost before it hears. */
static void not_yet_known(uint64_t seed)
{
    static uint8_t bytes[300000];
    struct sim_options o = short_log(seed, "not yet known", 3, 3);
    o.node.checkpoint_bytes = 16 * MIB;
    struct sim_cluster *c = with_values(&o, bytes, sizeof bytes);
    unsigned l = (unsigned)sim_leader(c), f = (l + 1 + (unsigned)(seed % 2)) % 3, has = 3 - l - f;
    sim_server_end(c, f, SIM_KILLED);
    put(c, "d", bytes, sizeof bytes);
    sim_server_end(c, has, SIM_KILLED);
    sim_server_start(c, f);
    sim_cut(c->net, l, has, true);
    sim_cut(c->net, has, l, true);
    sim_server_start(c, has);
    sim_sleep(c, 2000);
    turn_bad(&c->servers[l], 3);
    turn_bad(&c->servers[f], 3);
    struct wanted w = {.s = &c->servers[f], .bytes = bytes};
    struct fs fs = {.map = kv_server_map(w.s->kv)};
    fs_all_ranges(&fs, read_nowhere, &w);
    if (w.ranges != 1) sim_fail(c, "%llu values cannot be read", (unsigned long long)w.ranges);
    sim_join(c);
    sim_sleep(c, 6000);
    read_all(&c->servers[f], bytes);
    sim_cluster_free(c);
}

static void test_scattered(void **state) { sim_seeds(1, 12, scattered); }
static void test_not_yet_known(void **state) { sim_seeds(1, 6, not_yet_known); }
static void test_nowhere(void **state) { sim_seeds(1, 12, nowhere); }
static void test_healed(void **state) { sim_seeds(1, 4, healed); }
static void test_all_lost(void **state) { sim_seeds(1, 2, all_lost); }
static void test_newcomer(void **state) { sim_seeds(1, 6, newcomer); }
static void test_away(void **state) { sim_seeds(1, 12, away); }
static void test_two_at_once(void **state) { sim_seeds(1, 6, two_at_once); }
static void test_half_way(void **state) { sim_seeds(1, 6, half_way); }
static void test_returns(void **state) { sim_seeds(1, 6, returns); }
static void test_rotten_image(void **state) { sim_seeds(1, 6, rotten_image); }
static void test_never_committed(void **state) { sim_seeds(1, 8, never_committed); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scattered),
        cmocka_unit_test(test_never_committed),
        cmocka_unit_test(test_not_yet_known),
        cmocka_unit_test(test_nowhere),
        cmocka_unit_test(test_healed),
        cmocka_unit_test(test_all_lost),
        cmocka_unit_test(test_newcomer),
        cmocka_unit_test(test_away),
        cmocka_unit_test(test_two_at_once),
        cmocka_unit_test(test_half_way),
        cmocka_unit_test(test_returns),
        cmocka_unit_test(test_rotten_image),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
