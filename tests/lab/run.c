/* run.c - see run.h. */
#include "tests/lab/run.h"

#include <stdio.h>

#include "tests/lab/lab.h"
#include "tests/sim/report.h"

static const struct {
    const char *name;
    const struct lab_test *tests;
    bool usual;
} suites[] = {{"raft", lab_raft_tests, true}, {"kv", lab_kv_tests, true}, {"more", lab_more_tests, false}};
#define SUITES (sizeof suites / sizeof *suites)

static void run_test(const char *lab, const struct lab_test *t, uint64_t first, unsigned runs, const char *program)
{
    printf("%s ...\n", t->title);
    for (unsigned i = 0; i < runs; i++) {
        uint64_t seed = first + i;
        sim_report_begin(seed, t->title, "%s sim --lab %s --test \"%s\" --seed %llu --trace", program, lab, t->title,
                         (unsigned long long)seed);
        fflush(stdout);
        t->run(t, seed);
    }
    printf("  ... Passed\n");
    for (const char *const *also = t->also; also && *also; also++) printf("%s ...\n  ... Passed\n", *also);
    fflush(stdout);
}

static unsigned titles_of(const struct lab_test *t)
{
    unsigned n = 1;
    for (const char *const *also = t->also; also && *also; also++) n++;
    return n;
}

static bool wanted(const struct lab_test *t, const char *title)
{
    if (!title || strcmp(t->title, title) == 0) return true;
    for (const char *const *also = t->also; also && *also; also++)
        if (strcmp(*also, title) == 0) return true;
    return false;
}

bool lab_run(const char *lab, const char *title, uint64_t first, unsigned runs, const char *program,
             struct lab_done *done)
{
    *done = (struct lab_done){0};
    for (unsigned i = 0; i < SUITES; i++) {
        if (lab ? strcmp(lab, suites[i].name) != 0 : !suites[i].usual && !title) continue;
        for (const struct lab_test *t = suites[i].tests; t->title; t++) {
            if (!wanted(t, title)) continue;
            run_test(suites[i].name, t, first, runs, program);
            done->titles += titles_of(t);
            done->runs += runs;
        }
    }
    return done->titles > 0;
}

void lab_list(void)
{
    for (unsigned i = 0; i < SUITES; i++) {
        printf("--lab %s:\n", suites[i].name);
        for (const struct lab_test *t = suites[i].tests; t->title; t++) {
            printf("  %s\n", t->title);
            for (const char *const *also = t->also; also && *also; also++) printf("  %s\n", *also);
        }
    }
}
