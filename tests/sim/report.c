/* report.c - see report.h. */
#include "tests/sim/report.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/cluster.h"

#define LINES       512u
#define LINES_SHOWN 80u
#define LINE_BYTES  240u

/* The run that is under way, also for messages when the program ends by a failed check() or a sanitizer's finding. */
static struct {
    struct sim_cluster *cluster;
    const char *title;
    char replay[512];
    uint64_t seed, runs; /* runs: how many were begun in this program */
    enum sim_loudness loud;
    uint64_t lines;
    char line[LINES][LINE_BYTES];
} run;

enum sim_loudness sim_loudness(void) { return run.loud; }
void sim_set_loudness(enum sim_loudness l) { run.loud = l; }

/* ---- what is said ---- */

void sim_report_line(const char *text)
{
    uint64_t now = run.cluster && run.cluster->world ? sim_now(run.cluster->world) : 0;
    char *line = run.line[run.lines++ % LINES];
    snprintf(line, LINE_BYTES, "%10.3f ms  %s", (double)now / (double)NS_PER_MS, text);
    if (run.loud) printf("%s\n", line);
}

void sim_say(struct sim_cluster *c, const char *fmt, ...)
{
    char text[LINE_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    sim_report_line(text);
}

/* ---- the end of a run that failed ---- */

static void report(void)
{
    uint64_t from = run.lines > LINES_SHOWN ? run.lines - LINES_SHOWN : 0;
    if (!run.runs) return;
    fflush(stdout);
    fprintf(stderr, "\n--- the last of %llu lines\n", (unsigned long long)run.lines);
    for (uint64_t i = from; i < run.lines; i++) fprintf(stderr, "%s\n", run.line[i % LINES]);
    fprintf(stderr, "--- seed %llu%s%s, commit %s\n", (unsigned long long)run.seed, run.title ? " of " : "",
            run.title ? run.title : "", sim_commit);
    fprintf(stderr, "--- run %llu\n", (unsigned long long)run.runs);
    if (run.cluster) fprintf(stderr, "--- options: %s\n", run.cluster->opt.text);
    fprintf(stderr, "--- again, with all that happens: %s\n", run.replay);
    fflush(stderr);
}

void sim_fail(struct sim_cluster *c, const char *fmt, ...)
{
    va_list ap;
    char text[1024];
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    report();
    fprintf(stderr, "--- FAILED at %llu ms: %s\n", (unsigned long long)(c && c->world ? sim_ms(c) : 0), text);
    fflush(stderr);
    _Exit(1);
}

static void on_abort(int sig)
{
    signal(SIGABRT, SIG_DFL);
    report();
}

void __asan_on_error(void);
void __asan_on_error(void) { report(); }

void sim_report_begin(uint64_t seed, const char *title, const char *replay, ...)
{
    va_list ap;
    va_start(ap, replay);
    vsnprintf(run.replay, sizeof run.replay, replay, ap);
    va_end(ap);
    if (!run.runs++) signal(SIGABRT, on_abort);
    run.seed = seed;
    run.title = title;
    run.lines = 0;
}

void sim_report_cluster(struct sim_cluster *c)
{
    run.cluster = c;
    if (!c) return;
    run.lines = 0;
    if (c->opt.title) run.title = c->opt.title;
}

/* ---- seeds ---- */

unsigned sim_seed_count(unsigned usual)
{
    const char *seeds = getenv("QFS_SEEDS"), *slow = getenv("QFS_SLOW");
    if (getenv("QFS_SEED")) return 1;
    if (seeds) return (unsigned)strtoul(seeds, NULL, 10);
    return slow && slow[0] && slow[0] != '0' ? (usual + 9) / 10 : usual;
}

void sim_seeds(uint64_t first, unsigned usual, void (*one)(uint64_t seed))
{
    const char *seed = getenv("QFS_SEED"), *loud = getenv("QFS_TRACE");
    if (loud) run.loud = (enum sim_loudness)min_u64(strtoul(loud, NULL, 10), SIM_FRAMES);
    if (seed) first = strtoull(seed, NULL, 10);
    for (unsigned i = 0; i < sim_seed_count(usual); i++) {
        sim_report_begin(first + i, NULL, "QFS_SEED=%llu QFS_TRACE=1 %s", (unsigned long long)(first + i),
                         program_invocation_name);
        one(first + i);
    }
}
