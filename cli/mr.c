/* mr.c - `quorumfs mr`: MapReduce jobs. Options here, everything else in mr/. */
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/mr_format.h"
#include "mr/mr.h"

static const char help[] =
    "usage: quorumfs mr run --input FILES... --output DIR (--app APP | --map PROGRAM --reduce PROGRAM) [OPTIONS]\n"
    "                       [--then (--app APP | --map PROGRAM --reduce PROGRAM) [OPTIONS]]...   jobs in a chain\n"
    "       quorumfs mr coordinator --listen ADDR (options of run)     without workers of its own\n"
    "       quorumfs mr run --resume JOB [--standby]                   goes on with a job whose coordinator is dead\n"
    "       quorumfs mr worker JOB|ADDR [--workdir DIR] [--listen ADDR] [--host NAME]    joins a running job\n"
    "       quorumfs mr status JOB...|--all [DIR...] [--json]\n"
    "       quorumfs mr cancel JOB [--workdir DIR]                     ends it without output\n"
    "       quorumfs mr task --only map:N|reduce:N (options of run)    one task alone, its pairs to stdout\n"
    "       quorumfs mr lab ...                                        as in MIT's lab: quorumfs mr lab --help\n"
    "\n"
    "A JOB is its directory (.NAME.mr-ID beside its output), its output, or its id in the current directory.\n"
    "A PROGRAM is a command line (stdin to stdout; lines, key TAB value), an application LIB.so (mr.h), or a shipped "
    "one:\n"
    "wc (word count), ii (inverted index), grep, sort, identity; for --reduce also sum; for --combine also sum, distinct,\n"
    "none.\n"
    "\n"
    "  --input FILES...       files, globs, directories\n"
    "  --output DIR           made by this job; it appears when it is complete\n"
    "  --app APP              --map APP --reduce APP, and APP's combiner\n"
    "  --combine PROGRAM      shrinks what a map task gives away\n"
    "  --reducers N           parts of the output (1)\n"
    "  --workers N            worker processes to start (one a processor)\n"
    "  --local                no worker processes, everything in this one\n"
    "  --replace              put the output in the place of an older one, in one step\n"
    "  --attempts N           failures of a task that end the job (4)\n"
    "  --split-size BYTES     input of one map task (16M)\n"
    "  --memory BYTES         of a task, before it uses the disk (256M)\n"
    "  --task-timeout SECS    a task without progress is killed and run again (300)\n"
    "  --worker-timeout SECS  a worker that is silent is given up (10)\n"
    "  --workdir DIR          for intermediate data, on a local disk ($TMPDIR or /var/tmp)\n"
    "  --listen ADDR          where workers may join: HOST:PORT or unix:PATH\n"
    "  --resume JOB           go on with this job instead of a new one; what it has finished is kept\n"
    "  --standby              with --resume: wait, and take over when its coordinator dies\n"
    "  --dry-run              only say what would be done\n"
    "  --json                 progress and result as JSON lines on stdout\n"
    "\n"
    "The data:\n" MR_FORMAT_HELP
    "\n"
    "Exit codes: 0 done, 1 the job failed (and there is no output), 2 usage.\n";

enum {
    OPT_INPUT = 256,
    OPT_OUTPUT,
    OPT_APP,
    OPT_MAP,
    OPT_COMBINE,
    OPT_REDUCE,
    OPT_REDUCERS,
    OPT_WORKERS,
    OPT_LOCAL,
    OPT_REPLACE,
    OPT_ATTEMPTS,
    OPT_SPLIT,
    OPT_MEMORY,
    OPT_TASK_TIMEOUT,
    OPT_WORKER_TIMEOUT,
    OPT_WORKDIR,
    OPT_LISTEN,
    OPT_JSON,
    OPT_RESUME,
    OPT_STANDBY,
    OPT_DRY_RUN,
    OPT_ALL,
    OPT_ONLY,
    OPT_COORDINATOR,
    OPT_HOST,
    OPT_HELP,
};

static const struct option options[] = {
    {"input", 1, 0, OPT_INPUT},
    {"output", 1, 0, OPT_OUTPUT},
    {"app", 1, 0, OPT_APP},
    {"map", 1, 0, OPT_MAP},
    {"combine", 1, 0, OPT_COMBINE},
    {"reduce", 1, 0, OPT_REDUCE},
    {"reducers", 1, 0, OPT_REDUCERS},
    {"workers", 1, 0, OPT_WORKERS},
    {"local", 0, 0, OPT_LOCAL},
    {"replace", 0, 0, OPT_REPLACE},
    {"attempts", 1, 0, OPT_ATTEMPTS},
    {"split-size", 1, 0, OPT_SPLIT},
    {"memory", 1, 0, OPT_MEMORY},
    {"task-timeout", 1, 0, OPT_TASK_TIMEOUT},
    {"worker-timeout", 1, 0, OPT_WORKER_TIMEOUT},
    {"workdir", 1, 0, OPT_WORKDIR},
    {"listen", 1, 0, OPT_LISTEN},
    {"json", 0, 0, OPT_JSON},
    {"resume", 1, 0, OPT_RESUME},
    {"standby", 0, 0, OPT_STANDBY},
    {"dry-run", 0, 0, OPT_DRY_RUN},
    {"all", 0, 0, OPT_ALL},
    {"only", 1, 0, OPT_ONLY},
    {"coordinator", 1, 0, OPT_COORDINATOR},
    {"host", 1, 0, OPT_HOST},
    {"help", 0, 0, OPT_HELP},
    MR_FORMAT_OPTIONS,
    {0},
};

/* Which options each subcommand takes. */
enum { OF_RUN = 1, OF_COORDINATOR = 2, OF_TASK = 4, OF_WORKER = 8, OF_STATUS = 16, OF_CANCEL = 32 };
static unsigned takers(int opt)
{
    switch (opt) {
    case OPT_COORDINATOR:
    case OPT_HOST:
        return OF_WORKER;
    case OPT_WORKDIR:
        return OF_RUN | OF_COORDINATOR | OF_TASK | OF_WORKER | OF_CANCEL;
    case OPT_LISTEN:
        return OF_RUN | OF_COORDINATOR | OF_TASK | OF_WORKER;
    case OPT_ONLY:
        return OF_TASK;
    case OPT_RESUME:
    case OPT_STANDBY:
    case OPT_DRY_RUN:
        return OF_RUN | OF_COORDINATOR;
    case OPT_ALL:
        return OF_STATUS;
    case OPT_JSON:
        return OF_RUN | OF_COORDINATOR | OF_TASK | OF_STATUS;
    default:
        return OF_RUN | OF_COORDINATOR | OF_TASK;
    }
}

struct mr_args {
    struct mr_options o;
    struct mr_worker_options w;
    const char **inputs, **params;
    bool has_workers;
    bool all;
    bool help;
};

static bool small_number(const char *s, uint64_t max, uint32_t *out)
{
    uint64_t n;
    if (!parse_u64(s, &n) || n == 0 || n > max) return false;
    *out = (uint32_t)n;
    return true;
}

/* Seconds, or a time with its unit. */
static bool parse_seconds(const char *s, uint32_t *out)
{
    uint64_t n, ms;
    if (parse_u64(s, &n))
        ms = n > UINT32_MAX ? 0 : n * 1000;
    else if (!parse_ms(s, &ms))
        return false;
    if (ms < 1000 || ms / 1000 > 30 * 86400) return false;
    *out = (uint32_t)(ms / 1000);
    return true;
}

static int bad_value(int opt, const char *what)
{
    for (const struct option *x = options; x->name; x++)
        if (x->val == opt) return usage_error("mr", "--%s wants %s, not '%s'", x->name, what, optarg);
    return EXIT_USAGE;
}

static int take_number(struct mr_args *a, int opt)
{
    struct mr_options *o = &a->o;
    uint32_t n;
    switch (opt) {
    case OPT_REDUCERS:
        return small_number(optarg, 65536, &o->reducers) ? 0 : bad_value(opt, "a number from 1 to 65536");
    case OPT_ATTEMPTS:
        return small_number(optarg, 1000, &o->attempts) ? 0 : bad_value(opt, "a number from 1 to 1000");
    case OPT_WORKERS:
        if (!small_number(optarg, 1000, &n)) return bad_value(opt, "a number from 1 to 1000");
        o->workers = (int32_t)n;
        a->has_workers = true;
        return 0;
    case OPT_SPLIT:
        return parse_bytes(optarg, &o->split_bytes) && o->split_bytes ? 0 : bad_value(opt, "a size (like 64M)");
    case OPT_MEMORY:
        return parse_bytes(optarg, &o->memory_bytes) && o->memory_bytes ? 0 : bad_value(opt, "a size (like 512M)");
    case OPT_TASK_TIMEOUT:
        return parse_seconds(optarg, &o->task_timeout_s) ? 0 : bad_value(opt, "seconds");
    default:
        return parse_seconds(optarg, &o->worker_timeout_s) ? 0 : bad_value(opt, "seconds");
    }
}

static int take_format(struct mr_args *a, int opt)
{
    const char *wants = mr_format_take(&a->o, a->params, opt, optarg);
    return wants ? bad_value(opt, wants) : 0;
}

static int take_option(struct mr_args *a, int opt)
{
    struct mr_options *o = &a->o;
    if (opt >= OPT_INPUT_FORMAT) return take_format(a, opt);
    switch (opt) {
    case OPT_INPUT:
        a->inputs[o->inputs_n++] = optarg;
        return 0;
    case OPT_OUTPUT:
        o->output = optarg;
        return 0;
    case OPT_APP:
        o->map = o->reduce = optarg;
        return 0;
    case OPT_MAP:
        o->map = optarg;
        return 0;
    case OPT_COMBINE:
        o->combine = optarg;
        return 0;
    case OPT_REDUCE:
        o->reduce = optarg;
        return 0;
    case OPT_LOCAL:
        o->local = true;
        return 0;
    case OPT_REPLACE:
        o->replace = true;
        return 0;
    case OPT_WORKDIR:
        o->workdir = a->w.workdir = optarg;
        return 0;
    case OPT_LISTEN:
        o->listen = a->w.listen = optarg;
        return 0;
    case OPT_JSON:
        o->json = true;
        return 0;
    case OPT_ONLY:
        o->only = optarg;
        return 0;
    case OPT_RESUME:
        o->resume = optarg;
        return 0;
    case OPT_STANDBY:
        o->standby = true;
        return 0;
    case OPT_DRY_RUN:
        o->dry_run = true;
        return 0;
    case OPT_ALL:
        a->all = true;
        return 0;
    case OPT_COORDINATOR:
        a->w.coordinator = optarg;
        return 0;
    case OPT_HOST:
        a->w.host = optarg;
        return 0;
    case OPT_HELP:
        a->help = true;
        return 0;
    default:
        return take_number(a, opt);
    }
}

static int parse(int argc, char **argv, unsigned of, const char *name, struct mr_args *a)
{
    int opt, code, index = 0;

    a->inputs = xcalloc((size_t)argc + 1, sizeof *a->inputs);
    a->params = xcalloc((size_t)argc + 1, sizeof *a->params);
    a->o.inputs = a->inputs;
    opterr = 0;
    optind = 0; /* from the start: it may have been used before */
    while ((opt = getopt_long(argc, argv, ":h", options, &index)) != -1) {
        if (opt == 'h') opt = OPT_HELP;
        if (opt == '?') return usage_error("mr", "%s: there is no option '%s'", name, argv[optind - 1]);
        if (opt == ':') return usage_error("mr", "%s: the option '%s' wants a value", name, argv[optind - 1]);
        if (opt != OPT_HELP && !(takers(opt) & of))
            return usage_error("mr", "%s takes no --%s", name, options[index].name);
        if ((code = take_option(a, opt)) != 0) return code;
    }
    /* --input *.txt, expanded by the shell: the rest of the names come as arguments. */
    while (optind < argc) a->inputs[a->o.inputs_n++] = argv[optind++];
    return 0;
}

/* HOST:PORT and unix:PATH are addresses; everything else is a job. */
static bool is_address(const char *s)
{
    const char *colon = strrchr(s, ':');
    if (strncmp(s, "unix:", 5) == 0) return true;
    return colon && colon > s && colon[1] && strspn(colon + 1, "0123456789") == strlen(colon + 1) && !strchr(s, '/');
}

/* What every run wants, a new one and one that is gone on with. */
static int check_ways(const struct mr_args *a, unsigned of)
{
    const struct mr_options *o = &a->o;
    if (o->listen && !is_address(o->listen))
        return usage_error("mr", "--listen wants HOST:PORT, *:PORT or unix:PATH, not '%s'", o->listen);
    if (o->local && (o->listen || a->has_workers))
        return usage_error("mr", "--local goes without --workers and --listen");
    if (of == OF_COORDINATOR && (o->local || a->has_workers || !o->listen))
        return usage_error("mr",
                           "coordinator wants --listen ADDR, and neither --local nor --workers: use run for those");
    return 0;
}

static int check_resume(const struct mr_args *a, const char *name, unsigned of)
{
    const struct mr_options *o = &a->o;
    if (o->inputs_n || o->output || o->map || o->reduce || o->combine)
        return usage_error("mr", "with --resume the job says itself what it maps, reduces, reads and makes");
    if (o->dry_run) return usage_error("mr", "--dry-run is for new jobs");
    return check_ways(a, of);
}

static int check_job(const struct mr_args *a, const char *name, unsigned of)
{
    const struct mr_options *o = &a->o;
    if (o->resume) return check_resume(a, name, of);
    if (o->standby) return usage_error("mr", "--standby needs --resume JOB: which job is it to take over?");
    if (o->inputs_n == 0) return usage_error("mr", "%s needs --input FILES", name);
    if (!o->output && of != OF_TASK) return usage_error("mr", "%s needs --output DIR", name);
    if (!o->map) return usage_error("mr", "%s needs --map PROGRAM (or --app)", name);
    if (!o->reduce) return usage_error("mr", "%s needs --reduce PROGRAM (or --app)", name);
    int code = check_ways(a, of);
    if (code) return code;
    if (of == OF_TASK && !o->only) return usage_error("mr", "task needs --only map:N or --only reduce:N");
    return 0;
}

/* ---- the command line that reruns one task ---- */

static void add_word(struct buf *b, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,%@";
    if (b->n) put_u8(b, ' ');
    if (*word && strspn(word, plain) == strlen(word)) {
        buf_append(b, word, strlen(word));
        return;
    }
    put_u8(b, '\'');
    for (; *word; word++) {
        if (*word == '\'')
            buf_append(b, "'\\''", 4);
        else
            put_u8(b, (uint8_t)*word);
    }
    put_u8(b, '\'');
}

static void add_option(struct buf *b, const char *name, const char *value)
{
    if (!value) return;
    add_word(b, name);
    add_word(b, value);
}

static void add_number(struct buf *b, const char *name, uint64_t n)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)n);
    add_option(b, name, n ? text : NULL);
}

static char *rerun_text(const struct mr_options *o)
{
    struct buf b = {0};
    add_option(&b, "--map", o->map);
    add_option(&b, "--combine", o->combine);
    add_option(&b, "--reduce", o->reduce);
    add_number(&b, "--reducers", o->reducers);
    add_number(&b, "--split-size", o->split_bytes);
    add_number(&b, "--memory", o->memory_bytes);
    add_option(&b, "--workdir", o->workdir);
    mr_format_words(o, add_word, &b);
    for (size_t i = 0; i < o->inputs_n; i++) add_option(&b, "--input", o->inputs[i]);
    put_u8(&b, 0);
    return (char *)b.p;
}

static int run_job(struct mr_args *a, const char *name, unsigned of)
{
    int code = check_job(a, name, of);
    if (code) return code;
    if (of == OF_COORDINATOR) a->o.workers = -1;
    if (of == OF_TASK) return mr_task(&a->o);
    char *rerun = rerun_text(&a->o);
    a->o.rerun = rerun;
    code = mr_run(&a->o);
    free(rerun);
    return code;
}

static int run_worker(struct mr_args *a)
{
    if (a->o.inputs_n + (a->w.coordinator != NULL) != 1) return usage_error("mr", "worker wants one JOB or ADDR");
    if (a->o.inputs_n && is_address(a->inputs[0]))
        a->w.coordinator = a->inputs[0];
    else if (a->o.inputs_n)
        a->w.job = a->inputs[0];
    return mr_worker(&a->w);
}

static int run_status(const struct mr_args *a)
{
    if (!a->all && a->o.inputs_n == 0) return usage_error("mr", "status wants JOBs, or --all [DIR...]");
    return mr_status(a->inputs, a->o.inputs_n, a->all, a->o.json);
}

/* ---- chains ---- */

/* How a chain is run is said once; what a job does, for each. */
static struct mr_args next_stage(const struct mr_args *first)
{
    const struct mr_options *o = &first->o;
    return (struct mr_args){.o = {.workers = o->workers,
                                  .attempts = o->attempts,
                                  .memory_bytes = o->memory_bytes,
                                  .task_timeout_s = o->task_timeout_s,
                                  .worker_timeout_s = o->worker_timeout_s,
                                  .workdir = o->workdir,
                                  .listen = o->listen,
                                  .local = o->local,
                                  .replace = o->replace,
                                  .json = o->json},
                            .has_workers = first->has_workers};
}

static int check_stage(struct mr_args *a, size_t i)
{
    if (i && a->o.inputs_n)
        return usage_error("mr", "what follows --then reads the output of the job before it, and takes no --input");
    if (i) a->o.inputs_n = 1; /* only for the check */
    int code = check_job(a, "run", OF_RUN);
    if (i) a->o.inputs_n = 0;
    return code;
}

/* How the chain runs may be said anywhere, and the last word counts; of what may differ between jobs, what was not said
 * before. */
static void share_ways(struct mr_args *v, size_t n)
{
    const struct mr_options *last = &v[n - 1].o;
    for (size_t i = 0; i < n; i++) {
        struct mr_options *o = &v[i].o;
        o->output = last->output;
        o->workdir = last->workdir;
        o->listen = last->listen;
        o->workers = last->workers;
        o->local = last->local;
        o->replace = last->replace;
        o->json = last->json;
        if (!o->attempts) o->attempts = last->attempts;
        if (!o->memory_bytes) o->memory_bytes = last->memory_bytes;
        if (!o->task_timeout_s) o->task_timeout_s = last->task_timeout_s;
        if (!o->worker_timeout_s) o->worker_timeout_s = last->worker_timeout_s;
        v[i].has_workers = v[n - 1].has_workers;
    }
}

static int check_stages(struct mr_args *v, size_t n)
{
    int code = 0;
    for (size_t i = 0; i < n; i++)
        if (v[i].o.resume) return usage_error("mr", "--resume goes on with all jobs of a chain, and takes no --then");
    if (n > MR_STAGES_MAX) return usage_error("mr", "a chain has at most %u jobs", MR_STAGES_MAX);
    for (size_t i = 1; i < n; i++)
        if (!v[i].o.output) v[i].o.output = v[i - 1].o.output;
    share_ways(v, n);
    for (size_t i = 0; i < n && code == 0; i++) code = check_stage(&v[i], i);
    return code;
}

static int run_stages(struct mr_args *v, size_t n)
{
    struct mr_options *o = xcalloc(n, sizeof *o);
    char **rerun = xcalloc(n, sizeof *rerun);

    for (size_t i = 0; i < n; i++) {
        o[i] = v[i].o;
        o[i].rerun = rerun[i] = rerun_text(&o[i]);
    }
    int code = mr_chain(o, n);
    for (size_t i = 0; i < n; i++) free(rerun[i]);
    free(rerun);
    free(o);
    return code;
}

/* Behind `run`: jobs with "--then" between them. */
static int run_chain(int argc, char **argv)
{
    struct mr_args *v = xcalloc((size_t)argc + 1, sizeof *v);
    bool help_wanted = false;
    size_t n = 0;
    int code = 0;

    for (int at = 0, end; at < argc && code == 0; at = end, n++) {
        for (end = at + 1; end < argc && strcmp(argv[end], "--then") != 0;) end++;
        if (n) v[n] = next_stage(&v[n - 1]);
        code = parse(end - at, argv + at, OF_RUN, "run", &v[n]);
        help_wanted |= v[n].help;
    }
    if (code == 0 && help_wanted)
        fputs(help, stdout);
    else if (code == 0 && (code = check_stages(v, n)) == 0)
        code = run_stages(v, n);
    for (size_t i = 0; i < n; i++) {
        free(v[i].inputs);
        free(v[i].params);
    }
    free(v);
    return code;
}

static bool is_chain(int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--then") == 0) return true;
    return false;
}

int cmd_mr(int argc, char **argv)
{
    static const struct {
        const char *name;
        unsigned of;
    } subs[] = {{"run", OF_RUN},       {"coordinator", OF_COORDINATOR}, {"task", OF_TASK},
                {"worker", OF_WORKER}, {"status", OF_STATUS},           {"cancel", OF_CANCEL}};
    struct mr_args a = {0};
    unsigned of = 0;

    if (argc < 2) return usage_error("mr", "run, coordinator, worker, task, status or cancel?");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        fputs(help, stdout);
        return EXIT_OK;
    }
    if (strcmp(argv[1], "lab") == 0) return mr_lab(argc - 1, argv + 1);
    if (strcmp(argv[1], "executor") == 0 && argc == 2) return mr_executor();
    for (size_t i = 0; i < sizeof subs / sizeof *subs; i++)
        if (strcmp(argv[1], subs[i].name) == 0) of = subs[i].of;
    if (of == OF_RUN && is_chain(argc, argv)) return run_chain(argc - 1, argv + 1);
    if (!of) return usage_error("mr", "there is no '%s': run, coordinator, worker, task, status or cancel?", argv[1]);
    int code = parse(argc - 1, argv + 1, of, argv[1], &a);
    if (code == 0 && a.help)
        fputs(help, stdout);
    else if (code == 0 && of == OF_WORKER)
        code = run_worker(&a);
    else if (code == 0 && of == OF_STATUS)
        code = run_status(&a);
    else if (code == 0 && of == OF_CANCEL)
        code = a.o.inputs_n == 1 ? mr_cancel(a.inputs[0], a.o.workdir) : usage_error("mr", "cancel wants one JOB");
    else if (code == 0)
        code = run_job(&a, argv[1], of);
    free(a.inputs);
    free(a.params);
    return code;
}
