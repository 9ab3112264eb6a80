/* sim.c - `quorumfs sim`: whole clusters of this very code in virtual time, under faults drawn from a seed, or the lab
 * tests by their titles. The simulator is part of the tests (tests/sim, tests/lab); a build without tests has none. */
#include "cli/cli.h"

#ifndef QFS_SIM

int cmd_sim(int argc, char **argv)
{
    return fail(EXIT_FAILED, "this program was built without its simulator (meson option tests=false); build it with "
                             "-Dtests=true to have `quorumfs sim`");
}

#else

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/lab/run.h"
#include "tests/sim/swarm.h"

#define CAMPAIGN 100u /* runs from which on each kind of fault has to have happened */

static const char help[] =
    "usage: quorumfs sim [--seed N] [--runs K] [--faults LIST] [--trace[=LEVEL]]\n"
    "       quorumfs sim --lab raft|kv|all|more [--test TITLE] [--seed N] [--runs K] [--trace[=LEVEL]]\n"
    "       quorumfs sim --list\n"
    "\n"
    "Runs clusters of this very code in one process and virtual time, over simulated disks, networks and clocks.\n"
    "Everything in a run follows from its seed: a cluster, clients, and faults of about ten kinds; what must hold is\n"
    "checked at every step, then everything heals and has to come back. A failure prints the command that replays it.\n"
    "\n"
    "  --seed N        the first seed (default 1)\n"
    "  --runs K        so many seeds, from the first on (default 1)\n"
    "  --faults LIST   each run has just these kinds of faults: \"kill,split\", \"all,-rot\", \"none\"; see --list.\n"
    "                  \"+churn\": these besides the drawn ones\n"
    "  --lab LAB       the titles of the Raft or the key/value lab, of both, or what goes beyond them, instead of random\n"
    "                  runs\n"
    "  --test TITLE    only this title\n"
    "  --trace         tells what happens: elections, commits, faults, operations; =debug and =frames tell more\n"
    "  --figures       a line for each run\n"
    "  --list          the titles and the kinds of faults\n"
    "\n"
    "Exit code 0: all passed; 1: a run failed, stderr says how.\n";

struct sim_args {
    uint64_t seed, runs;
    const char *lab, *title, *faults;
    sim_fault_set only;
    bool figures;
};

static int list(void)
{
    lab_list();
    printf("faults:\n");
    for (unsigned i = 0; i < SIM_FAULT_KINDS; i++) printf("  %-12s %s\n", sim_fault_name(i), sim_fault_what(i));
    return EXIT_OK;
}

static bool set_trace(const char *level)
{
    static const char *const names[] = {"story", "debug", "frames"};
    for (unsigned i = 0; i < 3; i++) {
        if (level && strcmp(level, names[i]) != 0) continue;
        sim_set_loudness((enum sim_loudness)(SIM_STORY + i));
        return true;
    }
    return false;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- random runs ---- */

static void print_run(uint64_t seed, const struct sim_swarm *w, const struct sim_sums *a, const struct sim_sums *b)
{
    char faults[400];
    sim_faults_text(w->faults, faults, sizeof faults);
    printf("seed %llu: %llu ms, %llu operations, %llu log entries, %llu terms, %llu crashes, %llu snapshots; %s\n",
           (unsigned long long)seed, (unsigned long long)(b->virtual_ms - a->virtual_ms),
           (unsigned long long)(b->operations - a->operations), (unsigned long long)(b->entries - a->entries),
           (unsigned long long)(b->terms - a->terms), (unsigned long long)(b->crashes - a->crashes),
           (unsigned long long)(b->snapshots - a->snapshots), faults);
    fflush(stdout);
}

static void print_sums(const struct sim_args *a, const struct sim_sums *s, double took)
{
    printf("%llu runs passed (seeds %llu to %llu, commit %s): %llu s of virtual time in %.1f s; %llu operations, %llu "
           "log entries, %llu terms, %llu crashes, %llu snapshots installed, %llu pieces of data repaired\n",
           (unsigned long long)s->runs, (unsigned long long)a->seed, (unsigned long long)(a->seed + a->runs - 1),
           sim_commit, (unsigned long long)(s->virtual_ms / 1000), took, (unsigned long long)s->operations,
           (unsigned long long)s->entries, (unsigned long long)s->terms, (unsigned long long)s->crashes,
           (unsigned long long)s->snapshots, (unsigned long long)s->repairs);
    printf("keys searched for an order: %llu, with %llu operations (%llu undecided)\n",
           (unsigned long long)s->linear.keys, (unsigned long long)s->linear.operations,
           (unsigned long long)s->linear.undecided);
    printf("faults that happened:");
    for (unsigned i = 0; i < SIM_FAULT_KINDS; i++)
        if (s->faults.n[i]) printf(" %s %llu", sim_fault_name(i), (unsigned long long)s->faults.n[i]);
    printf("\n");
}

static int run_swarms(const struct sim_args *a)
{
    struct sim_sums sums = {0};
    double began = seconds();
    for (uint64_t seed = a->seed; seed < a->seed + a->runs; seed++) {
        struct sim_swarm w;
        struct sim_sums before = sums;
        sim_report_begin(seed, NULL, "%s sim --seed %llu%s%s --trace", self_path(), (unsigned long long)seed,
                         a->faults ? " --faults " : "", a->faults ? a->faults : "");
        bool draw = !a->faults || a->faults[0] == '+';
        sim_swarm_draw(seed, draw ? NULL : &a->only, draw ? a->only : 0, &w);
        sim_swarm_run(&w, &sums);
        if (a->figures) print_run(seed, &w, &before, &sums);
    }
    print_sums(a, &sums, seconds() - began);
    sim_fault_set missing = sim_sums_missing(&sums) & (a->faults && a->faults[0] != '+' ? a->only : SIM_FAULT_ALL);
    if (a->runs < CAMPAIGN || !missing) return EXIT_OK;
    char text[400];
    sim_faults_text(missing, text, sizeof text);
    return fail(EXIT_FAILED, "in all these runs these faults never happened, so nothing is shown about them: %s", text);
}

/* ---- titles ---- */

static int run_titles(const struct sim_args *a)
{
    double began = seconds();
    struct lab_done done;
    const char *lab = a->lab && strcmp(a->lab, "all") == 0 ? NULL : a->lab;
    if (!lab_run(lab, a->title, a->seed, (unsigned)a->runs, self_path(), &done))
        return usage_error("sim", "no such test: '%s'; --list shows the titles", a->title ? a->title : a->lab);
    printf("%u tests passed, %u runs in %.1f s (%.1f s of CPU)\n", done.titles, done.runs, seconds() - began,
           (double)clock() / CLOCKS_PER_SEC);
    return EXIT_OK;
}

int cmd_sim(int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", 1, 0, 's'},  {"runs", 1, 0, 'r'},  {"faults", 1, 0, 'f'}, {"lab", 1, 0, 'l'}, {"test", 1, 0, 't'},
        {"trace", 2, 0, 'v'}, {"figures", 0, 0, 'g'}, {"list", 0, 0, 'L'},   {"help", 0, 0, 'h'}, {0}};
    struct sim_args a = {.seed = 1, .runs = 1};
    char bad[64];
    bool lists = false;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 's':
            if (!parse_u64(optarg, &a.seed)) return usage_error("sim", "--seed wants a number");
            break;
        case 'r':
            if (!parse_u64(optarg, &a.runs) || !a.runs || a.runs > 1000000000)
                return usage_error("sim", "--runs wants a number from 1 to 1000000000");
            break;
        case 'f':
            a.faults = optarg;
            if (!sim_faults_parse(optarg + (optarg[0] == '+'), &a.only, bad, sizeof bad))
                return usage_error("sim", "there is no kind of fault '%s'; --list shows them", bad);
            break;
        case 'l':
            a.lab = optarg;
            break;
        case 't':
            a.title = optarg;
            break;
        case 'v':
            if (!set_trace(optarg)) return usage_error("sim", "--trace takes =story, =debug or =frames");
            break;
        case 'g':
            a.figures = true;
            break;
        case 'L':
            lists = true;
            break;
        case 'h':
            fputs(help, stdout);
            return EXIT_OK;
        default:
            return usage_error("sim", "see the options below");
        }
    }
    if (optind < argc) return usage_error("sim", "what is '%s'?", argv[optind]);
    if (a.faults && (a.lab || a.title)) return usage_error("sim", "--faults is for random runs, not for titles");
    if (lists) return list();
    return a.lab || a.title ? run_titles(&a) : run_swarms(&a);
}

#endif
