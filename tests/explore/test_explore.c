/* test_explore.c [--terms N] [--entries N] [--crashes N] [--reads N] [--transfers N] [--changes N] [--slow N] [--late
 * N] [--swift]
 * [--singly] [--prevote] [--states N] - searches all that three cores can do within bounds (search.h). Without
 * arguments: the bounds of scripts/test, each complete (only the first where QFS_SLOW is set). */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/explore/search.h"

static const struct ex_bounds usual[] = {
    {.terms = 2, .entries = 2, .swift = true, .late = 1},
    {.terms = 4, .entries = 2, .swift = true, .singly = true}, /* paper, figure 8 */
    {.terms = 2, .entries = 2, .swift = true, .crashes = 2, .slow = 2},
    {.terms = 2, .entries = 2, .swift = true, .reads = 1},
    {.terms = 2, .entries = 2},
    {.terms = 2, .entries = 3, .swift = true, .changes = 1},
};

static bool search(const struct ex_bounds *b, uint64_t max)
{
    printf("3 nodes, terms up to %u, entries up to %u, crashes %u, late messages %u, slow writes %u, reads %u, "
           "transfers %u, changes %u%s%s%s ...\n",
           b->terms, b->entries, b->crashes, b->late, b->slow, b->reads, b->transfers, b->changes,
           b->swift ? ", swift elections" : "", b->singly ? ", one entry a message" : "",
           b->prevote ? ", pre-votes message by message" : "");
    fflush(stdout);
    clock_t begun = clock();
    struct ex_outcome o = ex_search(b, max);
    printf("  %llu distinct states, %llu moves, depth %u, %s; %u states of a node, %u messages, %llu steps computed; "
           "%.1f s\n",
           (unsigned long long)o.states, (unsigned long long)o.transitions, o.depth,
           o.violation  ? "ended by a violation"
           : o.complete ? "complete"
                        : "not complete",
           o.node_states, o.messages, (unsigned long long)o.steps, (double)(clock() - begun) / CLOCKS_PER_SEC);
    /* A search that elects and commits nothing proves nothing. */
    if (!o.violation && (o.leaders == 0 || o.commits == 0)) {
        printf("VIOLATION: nobody was elected, or nothing committed: the search does not work\n");
        return false;
    }
    return !o.violation;
}

static int usage(const char *program)
{
    fprintf(stderr,
            "usage: %s [--terms N] [--entries N] [--crashes N] [--reads N] [--transfers N] [--changes N] [--slow N] "
            "[--late N] "
            "[--swift] [--singly] [--prevote] [--states N]\n",
            program);
    return 2;
}

int main(int argc, char **argv)
{
    struct ex_bounds b = {.terms = 2, .entries = 2};
    uint64_t max = 400000000;
    bool ok = true;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (strcmp(a, "--prevote") == 0) {
            b.prevote = true;
            continue;
        }
        if (strcmp(a, "--swift") == 0) {
            b.swift = true;
            continue;
        }
        if (strcmp(a, "--singly") == 0) {
            b.singly = true;
            continue;
        }
        if (i + 1 == argc) return usage(argv[0]);
        unsigned long long n = strtoull(argv[++i], NULL, 10);
        if (strcmp(a, "--terms") == 0)
            b.terms = (unsigned)n;
        else if (strcmp(a, "--entries") == 0)
            b.entries = (unsigned)n;
        else if (strcmp(a, "--crashes") == 0)
            b.crashes = (unsigned)n;
        else if (strcmp(a, "--reads") == 0)
            b.reads = (unsigned)n;
        else if (strcmp(a, "--transfers") == 0)
            b.transfers = (unsigned)n;
        else if (strcmp(a, "--changes") == 0)
            b.changes = (unsigned)n;
        else if (strcmp(a, "--slow") == 0)
            b.slow = (unsigned)n;
        else if (strcmp(a, "--late") == 0)
            b.late = (unsigned)n;
        else if (strcmp(a, "--states") == 0)
            max = n;
        else
            return usage(argv[0]);
    }
    if (argc > 1) {
        if (b.terms > EX_TERMS || b.entries > EX_LOG) return usage(argv[0]);
        ok = search(&b, max);
    }
    const char *slow = getenv("QFS_SLOW");
    size_t n = slow && slow[0] && slow[0] != '0' ? 1 : sizeof usual / sizeof *usual;
    for (size_t i = 0; argc == 1 && i < n && ok; i++) ok = search(&usual[i], max);
    printf(ok ? "nothing is violated\n" : "FAILED\n");
    return ok ? 0 : 1;
}
