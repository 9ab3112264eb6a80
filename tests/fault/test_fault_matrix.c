/* Every block of every file of a node's data directory x what may happen to it x each node (the CORDS study, FAST'17,
 * systematically): one bit flipped, zeros, an older version of the block, an unreadable one (EIO).
 *
 * A cluster lives for a while and stops; for each such case three servers start on copies of its disks, one block of
 * one of them damaged. At no time is there a wrong answer, a missing one while the two others are clean, or a loss; the
 * damaged one repairs itself, or refuses to start and says why and what to do - done, it comes back. Then it has to
 * lead and to answer from its own disk, and to start again undamaged. The second half damages the block while the
 * server runs. The table at the end says what happened. QFS_SEED=n: only case n, QFS_FIGURES=1: a line for each. */
#include "tests/fault/rig.h"

enum fault { FLIP, ZEROS, OLD, UNREADABLE, FAULTS };
enum kind { META, SEG, PAY, SPARE, CKPT, KINDS };
enum outcome { UNNOTICED, REPAIRED, FENCED, REFUSED, STOPPED, OUTCOMES };

static const char *const fault_names[] = {"bit flip", "zeros", "old version", "EIO"};
static const char *const prefixes[] = {"meta", "seg-", "pay-", "free-", "ckpt-"};
static const char *const outcome_names[] = {"no effect", "repaired", "fenced, caught up", "refused, emptied",
                                            "stopped itself"};

#define BASES 3u /* pasts, by seed */

static struct sim_disk *base[SERVERS], *before[SERVERS], *long_before[SERVERS]; /* the same disks at three times */
static unsigned table[2][KINDS][FAULTS][OUTCOMES];
static uint64_t cases;

/* ---- the directories ---- */

struct file {
    char name[DISK_NAME_MAX];
    uint64_t blocks;
    enum kind kind;
};
struct files {
    struct file v[100];
    unsigned n;
};

static void add_file(void *arg, const char *name, uint64_t size)
{
    struct files *fs = arg;
    for (unsigned k = 0; k < KINDS; k++) {
        if (strncmp(name, prefixes[k], strlen(prefixes[k])) != 0) continue;
        assert_true(fs->n < 100);
        struct file *f = &fs->v[fs->n++];
        snprintf(f->name, sizeof f->name, "%s", name);
        f->blocks = size / DISK_BLOCK;
        f->kind = (enum kind)k;
    }
}

static bool has_payload(struct sim_disk *d)
{
    struct files fs = {0};
    disk_list(sim_disk_door(d), add_file, &fs);
    for (unsigned i = 0; i < fs.n; i++)
        if (fs.v[i].kind == PAY) return true;
    return false;
}

static struct cluster *origin;

static void keep(struct cluster *c, struct sim_disk **copies)
{
    for (unsigned i = 0; i < SERVERS; i++) {
        if (copies[i]) sim_disk_free(copies[i]);
        copies[i] = sim_disk_clone(c->servers[i].disk, NULL, 1);
    }
}

/* A past with checkpoints, compaction and moved payload on each, at rest in the end. */
static void make_base(uint64_t seed)
{
    struct cluster *c = origin = cluster_new(seed, NULL);
    bool all = false;
    start_all(c);
    pass_until(c, alike, 5000);
    for (unsigned round = 0; round < 40 && !all; round++) {
        put_all(c);
        assert_true(pass_until(c, alike, 10000));
        if (round == 2) keep(c, long_before);
        if (round < 3) continue;
        keep(c, before);
        for (unsigned k = 0; k < KEYS; k += 3) assert_true(put(c, k) >= 0);
        assert_true(pass_until(c, alike, 10000));
        pass(c, 500);
        all = true;
        for (unsigned i = 0; i < SERVERS; i++) all &= has_payload(c->servers[i].disk);
    }
    for (unsigned i = 0; i < SERVERS; i++) {
        server_kill(c, i);
        assert_true(has_payload(c->servers[i].disk));
        base[i] = c->servers[i].disk;
    }
}

static void drop_base(void)
{
    for (unsigned i = 0; i < SERVERS; i++) {
        sim_disk_free(before[i]);
        sim_disk_free(long_before[i]);
        before[i] = long_before[i] = NULL;
    }
    cluster_free(origin);
}

/* ---- one case ---- */

struct where {
    unsigned node;
    const struct file *file;
    uint64_t block;
    enum fault fault;
};

/* The file of that name, or, of a younger one, another of its kind: what such a block may have held in a former life.
 */
static void old_name(struct sim_disk *from, const struct where *w, char *name)
{
    struct files fs = {0};
    disk_list(sim_disk_door(from), add_file, &fs);
    for (unsigned i = 0; i < fs.n; i++)
        if (fs.v[i].kind == w->file->kind) snprintf(name, DISK_NAME_MAX, "%s", fs.v[i].name);
    for (unsigned i = 0; i < fs.n; i++)
        if (strcmp(fs.v[i].name, w->file->name) == 0) snprintf(name, DISK_NAME_MAX, "%s", fs.v[i].name);
}

/* The newest version that differs from the present one. */
static bool make_old(struct sim_disk *d, const struct where *w)
{
    static uint8_t now[DISK_BLOCK], then[DISK_BLOCK];
    struct sim_disk *times[] = {before[w->node], long_before[w->node]};
    disk_load(sim_disk_door(d), w->file->name, w->block * DISK_BLOCK, now, DISK_BLOCK);
    for (unsigned i = 0; i < 2; i++) {
        char name[DISK_NAME_MAX] = "none";
        old_name(times[i], w, name);
        memset(then, 0, sizeof then);
        disk_load(sim_disk_door(times[i]), name, w->block * DISK_BLOCK, then, DISK_BLOCK);
        if (memcmp(now, then, DISK_BLOCK) == 0) continue;
        return sim_disk_replace(d, w->file->name, w->block, times[i], name);
    }
    return true; /* it never was anything else */
}

/* False: there is no such block any more. */
static bool damage(struct cluster *c, const struct where *w)
{
    struct sim_disk *d = c->servers[w->node].disk;
    uint64_t h = hash_mix(w->block * 31 + w->node);
    switch (w->fault) {
    case FLIP:
        return sim_disk_flip(d, w->file->name, w->block * DISK_BLOCK + h % DISK_BLOCK, (uint8_t)(1u << (h >> 32) % 8));
    case ZEROS:
        return sim_disk_replace(d, w->file->name, w->block, d, "no such file");
    case OLD:
        return make_old(d, w);
    case UNREADABLE:
        return sim_disk_unreadable(d, w->file->name, w->block);
    case FAULTS:
        break;
    }
    return false;
}

static struct cluster *revive(uint64_t seed)
{
    struct cluster *c = cluster_new(seed, base);
    memcpy(c->versions, origin->versions, sizeof c->versions);
    memcpy(c->maybe, origin->maybe, sizeof c->maybe);
    return c;
}

/* What the operator does whom the text tells to empty the directory. */
static void empty_and_start(struct cluster *c, unsigned i)
{
    sim_disk_wipe(c->servers[i].disk);
    assert_int_equal(server_start(c, i), 0);
}

static enum outcome start_damaged(struct cluster *c, unsigned i)
{
    struct node_status st;
    if (server_start(c, i)) {
        assert_non_null(strstr(c->servers[i].why, "mpty")); /* Empty the data directory ... */
        return REFUSED;
    }
    node_status(kv_server_node(c->servers[i].kv), &st);
    return st.damaged ? FENCED : UNNOTICED;
}

static void must_be_alike(struct cluster *c, const char *when)
{
    if (!pass_until(c, alike, 30000)) fail_msg("not alike %s", when);
}

/* It leads, and answers from its own disk. */
static enum outcome made_to_answer(struct cluster *c, unsigned i, enum outcome so_far)
{
    struct node_status st;
    lead(c, i);
    check_all(c);
    if (!c->servers[i].kv) return STOPPED;
    node_status(kv_server_node(c->servers[i].kv), &st);
    return so_far == UNNOTICED && st.repairs ? REPAIRED : so_far;
}

static void check_undamaged(struct cluster *c, unsigned i)
{
    struct node_status st;
    server_kill(c, i);
    assert_int_equal(server_start(c, i), 0);
    node_status(kv_server_node(c->servers[i].kv), &st);
    assert_false(st.damaged);
    must_be_alike(c, "after one more start");
    for (unsigned k = 0; k < SERVERS; k++) {
        struct fs fs = {.map = kv_server_map(c->servers[k].kv)};
        struct buf why = {0};
        assert_int_equal(fs_check(&fs, &why), 0);
        buf_free(&why);
    }
}

static enum outcome at_rest(const struct where *w)
{
    struct cluster *c = revive(cases);
    assert_true(damage(c, w));
    for (unsigned i = 0; i < SERVERS; i++)
        if (i != w->node) assert_int_equal(server_start(c, i), 0);
    enum outcome o = start_damaged(c, w->node);
    check_all(c); /* no outage: two are clean */
    assert_true(put(c, 0) >= 0);
    if (o == REFUSED) empty_and_start(c, w->node);
    must_be_alike(c, "with the damaged one");
    o = made_to_answer(c, w->node, o);
    assert_int_not_equal(o, STOPPED);
    check_undamaged(c, w->node);
    cluster_free(c);
    return o;
}

static enum outcome while_it_runs(const struct where *w)
{
    struct cluster *c = revive(cases);
    start_all(c);
    must_be_alike(c, "undamaged");
    if (!damage(c, w)) {
        cluster_free(c);
        return UNNOTICED;
    }
    enum outcome o = made_to_answer(c, w->node, UNNOTICED);
    for (unsigned k = 0; k < KEYS; k += 2) assert_true(put(c, k) >= 0);
    pass(c, 300);
    if (!c->servers[w->node].kv) o = STOPPED;
    server_kill(c, w->node);
    enum outcome again = start_damaged(c, w->node);
    check_all(c);
    if (again == REFUSED) empty_and_start(c, w->node);
    must_be_alike(c, "after a restart of the damaged one");
    lead(c, w->node);
    check_all(c);
    check_undamaged(c, w->node);
    cluster_free(c);
    return again > o ? again : o;
}

/* ---- all of them ---- */

static void case_of(const struct where *w, bool running, unsigned stride)
{
    const char *seed = getenv("QFS_SEED");
    cases++;
    if (seed ? strtoull(seed, NULL, 10) != cases : cases % stride) return;
    if (getenv("QFS_FIGURES"))
        fprintf(stderr, "case %llu%s: node %u, %s, block %llu, %s\n", (unsigned long long)cases,
                running ? " (running)" : "", w->node + 1, w->file->name, (unsigned long long)w->block,
                fault_names[w->fault]);
    table[running][w->file->kind][w->fault][running ? while_it_runs(w) : at_rest(w)]++;
}

static void each_case(bool running, unsigned stride)
{
    for (unsigned node = 0; node < SERVERS; node++) {
        struct files fs = {0};
        disk_list(sim_disk_door(base[node]), add_file, &fs);
        for (unsigned i = 0; i < fs.n; i++)
            for (uint64_t b = 0; b < fs.v[i].blocks; b++)
                for (unsigned f = 0; f < FAULTS; f++) {
                    struct where w = {node, &fs.v[i], b, (enum fault)f};
                    case_of(&w, running, stride);
                }
    }
}

static void every_base(bool running)
{
    bool slow = getenv("QFS_SLOW") != NULL;
    cases = running ? 1000000 : 0;
    for (unsigned b = 0; b < (slow ? 1 : BASES); b++) {
        make_base(70 + b);
        each_case(running, slow ? 17 : 1);
        drop_base();
    }
}

static void print_table(bool running)
{
    printf("%-7s %-12s", running ? "running" : "at rest", "");
    for (unsigned o = 0; o < OUTCOMES; o++) printf(" %18s", outcome_names[o]);
    printf("\n");
    for (unsigned k = 0; k < KINDS; k++) {
        for (unsigned f = 0; f < FAULTS; f++) {
            printf("%-7s %-12s", prefixes[k], fault_names[f]);
            for (unsigned o = 0; o < OUTCOMES; o++) printf(" %18u", table[running][k][f][o]);
            printf("\n");
        }
    }
}

static unsigned sum(bool running, enum kind k, enum outcome o)
{
    unsigned n = 0;
    for (unsigned f = 0; f < FAULTS; f++) n += table[running][k][f][o];
    return n;
}

static void test_at_rest(void **state)
{
    every_base(false);
    print_table(false);
    if (getenv("QFS_SEED") || getenv("QFS_SLOW")) return;
    assert_int_equal(sum(false, META, REFUSED) + sum(false, SEG, REFUSED) + sum(false, PAY, REFUSED) +
                         sum(false, SPARE, REFUSED),
                     0);
    assert_int_equal(sum(false, PAY, FENCED) + sum(false, SPARE, FENCED) + sum(false, META, FENCED), 0);
    assert_true(sum(false, SEG, FENCED) > 0 && sum(false, PAY, REPAIRED) > 0 && sum(false, CKPT, REFUSED) > 0);
}

static void test_while_it_runs(void **state)
{
    every_base(true);
    print_table(true);
    if (getenv("QFS_SEED") || getenv("QFS_SLOW")) return;
    assert_true(sum(true, PAY, REPAIRED) > 0 && sum(true, SEG, REPAIRED) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_at_rest), cmocka_unit_test(test_while_it_runs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
