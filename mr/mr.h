/* mr.h - the one door of mr/: (1) what an application in a shared object is written against, (2) running jobs.
 *
 * This header needs nothing else of the project: an application is built with
 *
 *     cc -O2 -shared -fPIC -I DIRECTORY_OF_MR_H -o app.so app.c
 *
 * and run with `quorumfs mr run --app ./app.so --input ... --output ...`. It links against nothing: all it calls are
 * pointers that it is handed. docs/MAPREDUCE.md has a worked example; mr/apps/wc.c and mr/apps/ii.c are two more. */
#ifndef QFS_MR_H
#define QFS_MR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- part 1: applications ---- */

#define MR_ABI 2u

/* Borrowed bytes: they live until the function that was given them returns or asks for the next. Any byte may occur. */
struct mr_bytes {
    const char *p;
    size_t n;
};

/* What the functions of an application are handed. One task is one thread; tasks may run one after the other in one
 * process, so an application keeps its state in `user`, not in globals. */
struct mr_ctx {
    /* Map: a pair for the reducers. Reduce and combine: a pair of the result. */
    void (*emit)(struct mr_ctx *c, struct mr_bytes key, struct mr_bytes value);
    /* The same with the decimal number n as the value; with MR_FOLD_SUM much faster. */
    void (*emit_number)(struct mr_ctx *c, struct mr_bytes key, int64_t n);
    /* Adds to a counter of the job: letters, digits and "._:-", at most 64 bytes; at most 256 counters a job. */
    void (*count)(struct mr_ctx *c, const char *name, int64_t n);
    /* Makes the task fail with this message (printf style), which the user sees. The function should then return. */
    void (*fail)(struct mr_ctx *c, const char *format, ...);
    void *user;                        /* the application's; NULL when a task begins */
    const char *job;                   /* the job's id */
    uint32_t task, attempt;            /* which task of its phase this is, and the how manieth try */
    /* Reduce: a line of the output, as it is (with MR_OUT_RAW without a LF behind it). */
    void (*emit_line)(struct mr_ctx *c, struct mr_bytes line);
    /* The value that the user gave to a parameter (--set NAME=VALUE); NULL: none. Lives as long as the task. */
    const char *(*param)(struct mr_ctx *c, const char *name);
};

/* One call's worth of input. */
struct mr_record {
    const char *document;              /* the base name of the file */
    const char *path;                  /* the file */
    uint64_t offset;                   /* of `text` in the file; of a compressed one, in what comes out of it */
    struct mr_bytes text;
    struct mr_bytes key;               /* with MR_IN_PAIRS: `text` is the pair's value; else key.p is NULL */
};

/* The values of one key, in the order of (map task, emission), or with --sort-values in byte order. */
struct mr_values {
    bool (*next)(struct mr_values *v, struct mr_bytes *value);   /* false: no more */
};

enum mr_unit {
    MR_LINE,                           /* map() is called once a record: a line, without its LF or CRLF */
    MR_BLOCK,                          /* map() is called with any number of whole lines at once (fastest); records of
                                        * a fixed size likewise; files and pairs one by one */
    MR_FILE,                           /* map() is called once a file, which is not split */
};

enum mr_input_format { MR_IN_LINES, MR_IN_RECORDS, MR_IN_FILES, MR_IN_PAIRS };
enum mr_pipe_format { MR_PIPE_LINES, MR_PIPE_PAIRS };
enum mr_output_format { MR_OUT_LINES, MR_OUT_PAIRS, MR_OUT_RAW };
/* Which reducer a key goes to: by the hash of it, by its place in the order of all keys, by the hash of its first
 * fields. */
enum mr_partition { MR_PARTITION_DEFAULT, MR_PARTITION_HASH, MR_PARTITION_RANGE, MR_PARTITION_FIELD };

/* How equal keys are put together in the mapper before anything is sorted. */
enum mr_fold {
    MR_FOLD_NONE,
    MR_FOLD_SUM,                       /* values are decimal numbers and only their sum a key matters */
    MR_FOLD_DISTINCT,                  /* a pair that occurs twice counts once */
};

/* Functions return 0, or anything else for failure (say why with fail()). A task that fails is run again. */
struct mr_app {
    uint32_t abi;                      /* MR_ABI */
    uint32_t unit;                     /* enum mr_unit */
    uint32_t fold;                     /* enum mr_fold */
    int (*begin)(struct mr_ctx *c);    /* before the first record or key of a task; may be NULL */
    int (*end)(struct mr_ctx *c);      /* after the last one, may emit; not called after a failure; may be NULL */
    int (*map)(struct mr_ctx *c, const struct mr_record *r);
    int (*reduce)(struct mr_ctx *c, struct mr_bytes key, struct mr_values *values);
    /* May be NULL. Runs any number of times, also none, over some of the values of a key in a mapper; what it emits
     * takes their place. Neither begin() nor end() are called for it. */
    int (*combine)(struct mr_ctx *c, struct mr_bytes key, struct mr_values *values);
    uint32_t partition;                /* enum mr_partition: where the user does not say which */
};

/* A shared object exports one application under this name: `const struct mr_app mr_application = {...};` */
extern const struct mr_app mr_application;

/* ---- part 2: jobs ---- */

#define MR_EXIT_OK     0
#define MR_EXIT_FAILED 1
#define MR_EXIT_USAGE  2

/* Zero and NULL stand for the default everywhere. Programs (`map`, `combine`, `reduce`) are: the name of a shipped
 * application (wc, ii, grep, sort; identity; combine also: sum, distinct, none; reduce also: sum), a path that ends in
 * ".so", or a command line for the shell. The strings are borrowed. */
struct mr_options {
    const char *const *inputs;         /* files, globs, directories */
    size_t inputs_n;
    const char *output;
    const char *map, *combine, *reduce;
    uint32_t reducers;                 /* 1 */
    int32_t workers;                   /* processes to start; 0: one a processor; -1: none, they join from elsewhere */
    uint32_t attempts;                 /* 4 */
    uint64_t split_bytes;              /* 16 MiB */
    uint64_t memory_bytes;             /* of a task; 256 MiB */
    uint32_t task_timeout_s;           /* a task without progress is killed; 300 */
    uint32_t worker_timeout_s;         /* a worker not heard of is given up; 10 */
    const char *workdir;               /* for intermediate data, on a local disk; $TMPDIR or /var/tmp */
    const char *listen;                /* the coordinator's address; a socket in the workdir */
    const char *only;                  /* mr_task(): "map:3", "reduce:0" */
    const char *rerun;                 /* the command line that makes these options, after `mr run`; for messages */
    const char *resume;                /* go on with this job (its directory, output or id) instead of a new one */
    bool standby;                      /* with resume: wait until its coordinator is dead, or the job over */
    bool dry_run;                      /* only say what would be done */
    bool local, replace, json;
    uint32_t input_format, pipe_format, output_format, partition;      /* the enums above */
    uint32_t record_bytes;             /* with MR_IN_RECORDS */
    uint32_t key_fields;               /* of a command's line, cut at TABs, that are its key; 1 */
    uint32_t partition_fields;         /* of the key, with MR_PARTITION_FIELD; 1 */
    char separator;                    /* between those; TAB */
    bool sort_values;                  /* the values of a key in byte order */
    bool flat;                         /* of an input directory only the files in it */
    bool no_decompress;                /* .gz and .zst are read as they are */
    uint32_t skip_bad;                 /* input records that may be left out because the map program fails on them */
    const char *const *params;         /* "NAME=VALUE" */
    size_t params_n;
};

struct mr_worker_options {
    const char *coordinator;           /* its address */
    const char *job;                   /* or the job's directory or output, whoever coordinates it */
    const char *workdir;
    const char *listen;                /* where other machines fetch from; default: any free port */
    const char *host;                  /* workers of one name share files directly; default: this machine */
};

/* Each runs to its end, says what there is to say on stdout and stderr, and returns an exit code from above. */
int mr_run(const struct mr_options *o);            /* coordinator and workers, or `local`: all in this process */
/* Jobs one after the other, each over the output of the one before; the last one's `output` appears when all are done.
 * What lies between is in the chain's directory beside that output, by which mr_run() with `resume` goes on with it: what is
 * done is not run again. */
#define MR_STAGES_MAX 1000u
int mr_chain(const struct mr_options *v, size_t n);
int mr_task(const struct mr_options *o);           /* one task alone, its pairs to stdout (o->only) */
int mr_worker(const struct mr_worker_options *o);
int mr_status(const char *const *jobs, size_t n, bool all, bool json);     /* all: in the directories `jobs`, or here */
/* Ends it without output, whoever works on it; what dead workers have left in `workdir` (NULL: as above) goes, too. */
int mr_cancel(const char *job, const char *workdir);
int mr_executor(void);                             /* a worker's child: runs the tasks, spoken to by stdin and stdout */

/* The lab's mode (lab.h): every input file is one map task; combiners and other options of jobs do not exist there. */
struct mr_lab_options {
    const char *job;                   /* its name, as it is in the names of files */
    const char *app;                   /* map and reduce, as in mr_options */
    const char *const *inputs;         /* files */
    size_t inputs_n;
    uint32_t reducers;                 /* 3 */
    const char *dir;                   /* for the lab's files; the current directory */
    const char *address;               /* master and worker: where it listens */
    const char *master;                /* worker: the master's address */
    int32_t limit;                     /* worker: connections it accepts; -1: any number */
    const char *workdir;               /* for scratch files */
};
int mr_lab_sequential(const struct mr_lab_options *o);     /* one task after the other, in this process */
int mr_lab_master(const struct mr_lab_options *o);
int mr_lab_worker(const struct mr_lab_options *o);
int mr_lab_clean(const struct mr_lab_options *o);          /* removes all files of a job; fails if one is missing */

#ifdef __cplusplus
}
#endif
#endif
