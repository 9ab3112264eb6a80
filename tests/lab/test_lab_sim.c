/* test_lab_sim.c [--lab raft|kv] [--test TITLE] [--seed N] [--runs K] - the lab tests in the simulator, by their
 * titles, each over several seeds. QFS_SEED, QFS_SEEDS and QFS_SLOW work as in all programs of the simulator. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/lab/lab.h"
#include "tests/sim/cluster.h"

#define RAFT_RUNS 30u
#define KV_RUNS   6u

static const struct lab_test *now;
static unsigned titles, runs;

static void run_one(uint64_t seed)
{
    now->run(now, seed);
    runs++;
}

static void run_test(const struct lab_test *t, unsigned usual)
{
    now = t;
    printf("%s ...\n", t->title);
    fflush(stdout);
    sim_seeds(1, usual, run_one);
    printf("  ... Passed\n");
    titles++;
    for (const char *const *also = t->also; also && *also; also++, titles++) printf("%s ...\n  ... Passed\n", *also);
    fflush(stdout);
}

static bool wanted(const struct lab_test *t, const char *title)
{
    if (!title || strcmp(t->title, title) == 0) return true;
    for (const char *const *also = t->also; also && *also; also++)
        if (strcmp(*also, title) == 0) return true;
    return false;
}

static int usage(const char *program)
{
    fprintf(stderr, "usage: %s [--lab raft|kv] [--test TITLE] [--seed N] [--runs K]\n", program);
    return 2;
}

int main(int argc, char **argv)
{
    const char *lab = NULL, *title = NULL;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) return usage(argv[0]);
        if (strcmp(argv[i], "--lab") == 0)
            lab = argv[i + 1];
        else if (strcmp(argv[i], "--test") == 0)
            title = argv[i + 1];
        else if (strcmp(argv[i], "--seed") == 0)
            setenv("QFS_SEED", argv[i + 1], 1);
        else if (strcmp(argv[i], "--runs") == 0)
            setenv("QFS_SEEDS", argv[i + 1], 1);
        else
            return usage(argv[0]);
    }
    for (const struct lab_test *t = lab_raft_tests; t->title; t++)
        if ((!lab || strcmp(lab, "raft") == 0) && wanted(t, title)) run_test(t, RAFT_RUNS);
    for (const struct lab_test *t = lab_kv_tests; t->title; t++)
        if ((!lab || strcmp(lab, "kv") == 0) && wanted(t, title)) run_test(t, KV_RUNS);
    if (titles == 0) {
        fprintf(stderr, "%s: no such test\n", argv[0]);
        return 2;
    }
    printf("%u titles passed, %u runs\n", titles, runs);
    return 0;
}
