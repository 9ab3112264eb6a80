/* The k-th failure, for every k: a short life of three servers, in which exactly one thing fails - an allocation, a
 * disk operation, a blocking read, a send of one of them - and with the next k again from the beginning, until it no
 * longer comes. A server may end itself, it is started again then; nothing else may happen: no wrong answer, nothing
 * acknowledged that is missing, and at the end all three are alike and voting. QFS_SEED=k: only that ordinal,
 * QFS_SERVER=i: of that server. */
#include "tests/fault/rig.h"

enum what { ALLOC, SEND, LOAD, DISK_EIO, DISK_SHORT, DISK_ENOSPC };

static const char *const names[] = {"allocation",           "send",          "read of recovery or cache",
                                    "disk operation (EIO)", "write (short)", "disk operation (ENOSPC)"};

static void arm(struct cluster *c, unsigned i, enum what what, uint64_t k)
{
    struct sim_disk *d = c->servers[i].disk;
    switch (what) {
    case ALLOC:
        fail_nth(c, i, COUNT_ALLOC, k);
        break;
    case SEND:
        fail_nth(c, i, COUNT_SEND, k);
        break;
    case LOAD:
        fail_nth(c, i, COUNT_LOAD, k);
        break;
    case DISK_EIO:
        sim_disk_fault(d, SIM_DISK_ERROR, (1u << (DISK_REMOVE + 1)) - 1, k, -EIO);
        break;
    case DISK_SHORT:
        sim_disk_fault(d, SIM_DISK_SHORT, 1u << DISK_WRITE, k, 0);
        break;
    case DISK_ENOSPC:
        sim_disk_fault(d, SIM_DISK_ERROR, 1u << DISK_WRITE | 1u << DISK_ALLOC, k, -ENOSPC);
        break;
    }
}

static bool came(struct cluster *c, unsigned i, enum what what)
{
    return what <= LOAD ? failed_already(c) : !sim_disk_fault_due(c->servers[i].disk);
}

/* A start that reads in vain, or cannot make durable what it has read, may refuse, with a reason, and comes up the next
 * time. */
static void start(struct cluster *c, unsigned i)
{
    if (server_start(c, i) == 0) return;
    bool sync = strstr(c->servers[i].why, "cannot be made durable") && !sim_disk_fault_due(c->servers[i].disk);
    assert_true(sync || (c->what == COUNT_LOAD && i == c->victim && failed_already(c)));
    if (server_start(c, i)) fail_msg("server %u does not start again: %s", i + 1, c->servers[i].why);
}

/* Those that have ended themselves come back. */
static void bring_back(struct cluster *c)
{
    pass(c, 50);
    for (unsigned i = 0; i < SERVERS; i++)
        if (!c->servers[i].kv) start(c, i);
}

/* Changes small and large, checkpoints and compaction, a follower that needs a snapshot, each one started again. */
static void live(struct cluster *c)
{
    for (unsigned k = 0; k < 6; k++) (void)!put(c, k);
    bring_back(c);
    int l = leader(c);
    unsigned behind = l == 0 ? 1 : 0;
    server_kill(c, behind);
    for (unsigned round = 0; round < 2; round++)
        for (unsigned k = 0; k < 10; k++) (void)!put(c, k);
    bring_back(c);
    pass(c, 300);
    bring_back(c);
    for (unsigned i = 0; i < SERVERS; i++) {
        server_kill(c, i);
        (void)!put(c, i);
        bring_back(c);
    }
    pass(c, 300);
    bring_back(c);
}

/* False: it did not come any more. */
static bool one(unsigned server, enum what what, uint64_t k)
{
    struct cluster *c = cluster_new(1, NULL);
    arm(c, server, what, k);
    for (unsigned i = 0; i < SERVERS; i++) start(c, i);
    pass(c, 700);
    bring_back(c);
    live(c);
    bool was = came(c, server, what);
    fail_nth(c, server, COUNT_NONE, 0);
    sim_disk_fault(c->servers[server].disk, SIM_DISK_ERROR, 0, 0, 0);
    bring_back(c);
    if (!pass_until(c, alike, 30000))
        fail_msg("%s %llu of server %u: they do not become alike", names[what], (unsigned long long)k, server + 1);
    check_all(c);
    put_all(c);
    check_all(c);
    for (unsigned i = 0; i < SERVERS; i++) {
        bool may = i == server && what != SEND && what != LOAD;
        if (what == ALLOC && was && may) assert_int_equal(c->servers[i].ends, 1);
        if (c->servers[i].ends > may) fail_msg("server %u ended itself: %s", i + 1, c->servers[i].why);
    }
    cluster_free(c);
    return was;
}

/* Ordinals one by one, with QFS_SLOW every seventh. */
static void every(enum what what)
{
    const char *seed = getenv("QFS_SEED"), *which = getenv("QFS_SERVER"), *slow = getenv("QFS_SLOW");
    uint64_t tried = 0, last = 0;
    for (unsigned s = 0; s < SERVERS; s++) {
        if (which && strtoul(which, NULL, 10) != s + 1) continue;
        if (seed) {
            one(s, what, strtoull(seed, NULL, 10));
            continue;
        }
        for (uint64_t k = 1;; k += slow ? 7 : 1, tried++) {
            if (getenv("QFS_FIGURES"))
                fprintf(stderr, "%s %llu of server %u\n", names[what], (unsigned long long)k, s + 1);
            last = k;
            if (!one(s, what, k)) break;
        }
    }
    print_message("    %s: %llu tried, the last is number %llu\n", names[what], (unsigned long long)tried,
                  (unsigned long long)last);
    assert_true(seed || tried > 10);
}

static void test_send(void **state) { every(SEND); }
static void test_load(void **state) { every(LOAD); }
static void test_disk(void **state) { every(DISK_EIO); }
static void test_short_write(void **state) { every(DISK_SHORT); }
static void test_no_space(void **state) { every(DISK_ENOSPC); }
static void test_alloc(void **state) { every(ALLOC); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_send),        cmocka_unit_test(test_load),     cmocka_unit_test(test_disk),
        cmocka_unit_test(test_short_write), cmocka_unit_test(test_no_space), cmocka_unit_test(test_alloc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
