/* test_lab_sim.c LAB RUNS - one lab's titles in the simulator, each over so many seeds. QFS_SEED, QFS_SEEDS and QFS_SLOW
 * work as in all programs of the simulator. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/lab/run.h"
#include "tests/sim/report.h"

int main(int argc, char **argv)
{
    struct lab_done done;
    const char *seed = getenv("QFS_SEED");
    if (argc != 3) {
        fprintf(stderr, "usage: %s raft|kv|more RUNS\n", argv[0]);
        return 2;
    }
    unsigned runs = sim_seed_count((unsigned)strtoul(argv[2], NULL, 10));
    if (!lab_run(argv[1], NULL, seed ? strtoull(seed, NULL, 10) : 1, runs, "quorumfs", &done)) return 2;
    printf("%u tests passed, %u runs\n", done.titles, done.runs);
    return 0;
}
