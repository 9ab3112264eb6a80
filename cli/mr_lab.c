/* mr_lab.c - `quorumfs mr lab`: the lab's mode, with its command lines. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/mr_format.h"

static const char help[] =
    "usage: quorumfs mr lab sequential [OPTIONS] FILES...            one task after the other\n"
    "       quorumfs mr lab master ADDRESS [OPTIONS] FILES...        with workers that register at ADDRESS\n"
    "       quorumfs mr lab worker MASTER ADDRESS [--limit N]        one of them, which listens at ADDRESS\n"
    "       quorumfs mr lab clean [OPTIONS] FILES...                 removes a job's files, and FILES\n"
    "\n"
    "MapReduce as the lab of MIT 6.824 has it: each file is a map task; mrtmp.JOB-M-R, mrtmp.JOB-res-R and mrtmp.JOB\n"
    "(\"key: value\" lines) appear in one directory, which all share.\n"
    "\n"
    "  --app APP       map and reduce: wc, ii, or LIB.so (wc)\n"
    "  --job NAME      in the names of files (APPseq)\n"
    "  --reducers R    (3)\n"
    "  --dir DIR       where the files are (the current directory)\n"
    "  --limit N       connections that a worker accepts (100); -1: any number\n"
    "  --workdir DIR   for scratch files, on a local disk ($TMPDIR or /var/tmp)\n"
    "\n"
    "ADDRESS: HOST:PORT or unix:PATH. sequential prints the number of tasks, master how many each worker has begun.\n";

enum { LAB_APP = 256, LAB_JOB, LAB_REDUCERS, LAB_DIR, LAB_LIMIT, LAB_WORKDIR, LAB_HELP };

static const struct option options[] = {
    {"app", 1, 0, LAB_APP}, {"job", 1, 0, LAB_JOB},     {"reducers", 1, 0, LAB_REDUCERS}, {"dir", 1, 0, LAB_DIR},
    {"limit", 1, 0, LAB_LIMIT}, {"workdir", 1, 0, LAB_WORKDIR}, {"help", 0, 0, LAB_HELP}, {0},
};

static int take(struct mr_lab_options *o, int opt)
{
    uint64_t n;
    switch (opt) {
    case LAB_APP:
        o->app = optarg;
        return 0;
    case LAB_JOB:
        o->job = optarg;
        return 0;
    case LAB_DIR:
        o->dir = optarg;
        return 0;
    case LAB_WORKDIR:
        o->workdir = optarg;
        return 0;
    case LAB_REDUCERS:
        if (!parse_u64(optarg, &n) || n == 0 || n > 65536)
            return usage_error("mr", "--reducers wants a number from 1 to 65536, not '%s'", optarg);
        o->reducers = (uint32_t)n;
        return 0;
    default:
        if (strcmp(optarg, "-1") != 0 && (!parse_u64(optarg, &n) || n == 0 || n > INT32_MAX))
            return usage_error("mr", "--limit wants a number from 1, or -1, not '%s'", optarg);
        o->limit = strcmp(optarg, "-1") == 0 ? -1 : (int32_t)n;
        return 0;
    }
}

/* "wcseq"; what is no plain name has none. */
static void default_job(struct mr_lab_options *o, char *space, size_t n)
{
    if (o->job || strchr(o->app, '/')) return;
    snprintf(space, n, "%sseq", o->app);
    o->job = space;
}

static int run(const char *what, struct mr_lab_options *o, const char *const *args, size_t n)
{
    bool master = strcmp(what, "master") == 0;
    size_t own = strcmp(what, "worker") == 0 ? 2 : master ? 1 : 0;

    if (n < own || (own < 2 && n == own) || (own == 2 && n > own))
        return usage_error("mr", "lab %s wants %s", what,
                           own == 2 ? "the master's address and its own" : master ? "an address, then files" : "files");
    o->inputs = args + own;
    o->inputs_n = n - own;
    o->address = own ? args[own - 1] : NULL;
    o->master = own == 2 ? args[0] : NULL;
    if (own == 2) return mr_lab_worker(o);
    if (master) return mr_lab_master(o);
    return strcmp(what, "clean") == 0 ? mr_lab_clean(o) : mr_lab_sequential(o);
}

int mr_lab(int argc, char **argv)
{
    struct mr_lab_options o = {.app = "wc", .limit = 100};
    char job[300];
    int opt, code;

    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "--help") == 0 || strcmp(what, "-h") == 0) {
        fputs(help, stdout);
        return EXIT_OK;
    }
    if (strcmp(what, "sequential") && strcmp(what, "master") && strcmp(what, "worker") && strcmp(what, "clean"))
        return usage_error("mr", "lab: sequential, master, worker or clean?");
    opterr = 0;
    optind = 1;
    while ((opt = getopt_long(argc - 1, argv + 1, ":h", options, NULL)) != -1) {
        if (opt == '?' || opt == ':')
            return usage_error("mr", "lab: the option '%s' is none, or it wants a value", argv[optind]);
        if (opt == LAB_HELP || opt == 'h') {
            fputs(help, stdout);
            return EXIT_OK;
        }
        if ((code = take(&o, opt)) != 0) return code;
    }
    default_job(&o, job, sizeof job);
    return run(what, &o, (const char *const *)argv + 1 + optind, (size_t)(argc - 1 - optind));
}
