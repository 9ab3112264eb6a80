/* scene.h - jobs in processes of their own that are killed and frozen, each in a directory of its own: what the tests
 * of coordinators that die share. Coordinator, workers and executors are the test's own program, started again. */
#ifndef SCENE_H
#define SCENE_H

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "mr/mr.h"
#include "mr/owner.h"
#include "tests/unit/mr/test_mr.h"

#define MAP  "echo $MR_TASK >> ran; tr -cs A-Za-z '\\n' | sed '/^$/d; s/$/\\t1/'"
#define HOLD "while test -e hold; do sleep 0.01; done; " /* before a task goes on */
#define JOBS 8                                           /* at a time */

static struct buf said;

/* The sanitizers' run takes every third step. */
static inline unsigned stride(void) { return getenv("QFS_SLOW") ? 3 : 1; }

static inline void shell_in(const char *dir, const char *command)
{
    char *cmd = mr__strf("cd '%s' && export LC_ALL=C && { %s\n}", dir, command);
    int rc = system(cmd);
    if (rc) fprintf(stderr, "failed in %s: %s\n", dir, command);
    assert_int_equal(rc, 0);
    free(cmd);
}

static inline void shell(const char *command) { shell_in(test_dir, command); }

/* A directory of its own: the input, and room for the output; the current directory of the job. */
static inline const char *arena(int i)
{
    static char dirs[JOBS][512];
    snprintf(dirs[i], sizeof dirs[i], "%s", in_dir("x"));
    snprintf(dirs[i] + strlen(dirs[i]), 16, "%d", i);
    char *cmd = mr__strf("rm -rf '%s' && mkdir -p '%s/work' && cp -r in '%s/in'", dirs[i], dirs[i], dirs[i]);
    shell(cmd);
    free(cmd);
    return dirs[i];
}

static inline struct mr_options options(void)
{
    static const char *const inputs[] = {"in/*"};
    return (struct mr_options){.inputs = inputs,
                               .inputs_n = 1,
                               .output = "out",
                               .workdir = "work",
                               .map = MAP,
                               .reduce = "sum",
                               .workers = 2,
                               .reducers = 2,
                               .split_bytes = 1500,
                               .worker_timeout_s = 1};
}

static inline struct mr_options again(void)
{
    return (struct mr_options){.resume = "out", .workdir = "work", .workers = 2};
}

/* Waits for the shell's yes; the alarm of main() is the limit. */
static inline void until(const char *dir, const char *condition)
{
    char *cmd = mr__strf("cd '%s' && { %s\n} >/dev/null 2>&1", dir, condition);
    while (system(cmd) != 0) usleep(10000);
    free(cmd);
}

/* Runs these jobs, a chain if they are several, in the directory; `plan` is for QFS_MR_STOP. */
static inline pid_t start_chain(const char *dir, const struct mr_options *v, size_t n, const char *plan)
{
    pid_t pid = fork();
    if (pid) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* it may be frozen when a check fails */
    if (chdir(dir) < 0) _exit(90);
    int fd = open("said", O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    close(fd);
    if (plan) setenv("QFS_MR_STOP", plan, 1);
    exit(mr_chain(v, n));
}

static inline pid_t start(const char *dir, const struct mr_options *o, const char *plan)
{
    return start_chain(dir, o, 1, plan);
}

/* One whose map tasks wait until the file "hold" goes; it is on its way when the shell says yes to `when`. */
static inline pid_t start_held(const char *dir, struct mr_options *o, const char *when)
{
    o->map = HOLD MAP;
    shell_in(dir, "touch hold");
    pid_t job = start(dir, o, NULL);
    until(dir, when);
    return job;
}

static inline int status_of(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    if (WIFSTOPPED(status)) return 2000;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static inline void end_by(pid_t pid, int signum)
{
    assert_int_equal(kill(pid, signum), 0);
    assert_int_equal(status_of(pid), 1000 + signum);
}

static inline bool file_says(const char *dir, const char *file, const char *text)
{
    char *path = mr__strf("%s/%s", dir, file);
    buf_free(&said);
    said = access(path, F_OK) == 0 ? read_file(path) : (struct buf){0};
    put_u8(&said, 0);
    free(path);
    if (has_text(&said, "LeakSanitizer") || has_text(&said, "runtime error")) fail_msg("%s", (char *)said.p);
    return has_text(&said, text);
}

/* What a job has said, and what was told about it. */
static inline bool says(const char *dir, const char *text) { return file_says(dir, "said", text); }

static inline void must_tell(const char *dir, const char *text)
{
    if (!file_says(dir, "told", text)) fail_msg("'%s' is missing in:\n%s", text, (char *)said.p);
}

static inline void must_say(const char *dir, const char *text)
{
    if (!says(dir, text)) fail_msg("'%s' is missing in:\n%s", text, (char *)said.p);
}

static inline void must_end(const char *dir, pid_t pid, int want)
{
    int status = status_of(pid);
    says(dir, "");
    if (status != want) fail_msg("%d, not %d:\n%s", status, want, (char *)said.p);
}

static inline void right(const char *dir)
{
    shell_in(dir, "cat out/part-* | sort | cmp - ../want && test -e out/_SUCCESS && test $(ls out | wc -l) = 4");
}

static inline bool there(const char *dir, const char *name)
{
    char *path = mr__strf("%s/%s", dir, name);
    bool is = access(path, F_OK) == 0;
    free(path);
    return is;
}

static inline pid_t start_worker(const char *dir, const char *job)
{
    pid_t pid = fork();
    if (pid) return pid;
    if (chdir(dir) < 0) _exit(90);
    execl("/proc/self/exe", "self", "mr", "worker", "--job", job, "--workdir", "work", (char *)NULL);
    _exit(99);
}

/* The exit code of what(), in a process of its own; what it says is in "told". */
static inline int in(const char *dir, int (*what)(void))
{
    pid_t pid = fork();
    if (pid == 0) {
        if (chdir(dir) < 0) _exit(90);
        int fd = open("told", O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
        dup2(fd, 1);
        dup2(fd, 2);
        close(fd);
        exit(what());
    }
    return status_of(pid);
}

static inline int make_inputs(void **state)
{
    struct prng r;
    if (access("/dev/shm", W_OK) == 0) setenv("TMPDIR", "/dev/shm", 1);
    if (test_begin(state)) return -1;
    mkdir(in_dir("in"), 0755);
    prng_seed(&r, 99);
    for (int f = 0; f < 2; f++) {
        char name[16];
        struct buf b = {0};
        snprintf(name, sizeof name, "in/f%d.txt", f);
        for (int i = 0; i < 600; i++) mr__fmt(&b, "w%c\n", 'a' + (int)prng_below(&r, 26));
        write_file(name, buf_slice(&b));
        buf_free(&b);
    }
    shell("cat in/* | sort | uniq -c | awk '{print $2 \"\\t\" $1}' > want");
    return 0;
}

static inline int drop_inputs(void **state)
{
    buf_free(&said);
    return test_end(state);
}

/* Starts a chain that is killed, or frozen, when it comes to its step number `step`. */
typedef pid_t stop_at(const char *dir, const struct mr_options *v, size_t n, unsigned step, bool freeze);

static inline pid_t at_step_point(const char *dir, const struct mr_options *v, size_t n, unsigned step, bool freeze)
{
    char plan[64];
    snprintf(plan, sizeof plan, "coordinator:%u:stopped%s", step, freeze ? ":freeze" : "");
    return start_chain(dir, v, n, plan);
}

/* Every fifth job is --local, which has fewer steps; the others tell when there are no more. (If all are to be, so be
 * it.) */
static inline bool is_local(bool all, unsigned step) { return all || step % 5 == 0; }

/* Jobs that run at once, each stopped at a step of its own. */
struct batch {
    unsigned step, by;      /* of the first of the next ones; from one to the next */
    bool all_local;
    const char *dirs[JOBS];
    bool local[JOBS];
    pid_t jobs[JOBS];       /* 0: over */
};

static inline void start_batch(struct batch *b, struct mr_options *v, size_t n, stop_at *stopped, bool freeze)
{
    for (int i = 0; i < JOBS; i++, b->step += b->by) {
        b->dirs[i] = arena(i);
        b->local[i] = v->local = is_local(b->all_local, b->step);
        b->jobs[i] = stopped(b->dirs[i], v, n, b->step, freeze);
    }
}

/* It has come to its end before it came to its step, and is not one of those with fewer steps. */
static inline bool is_last(const struct batch *b, int i) { return b->all_local || !b->local[i]; }

/* Killed at every `by`-th step, of which there are `steps` at least: the output is absent or complete, and after
 * --resume it is right. */
static inline void kill_at_every_step(struct mr_options *v, size_t n, stop_at *stopped, unsigned by, unsigned steps)
{
    unsigned killed = 0, resumed = 0;
    struct batch b = {.step = 1, .by = by, .all_local = v->local};
    struct mr_options more = again();
    for (bool last = false; !last;) {
        start_batch(&b, v, n, stopped, false);
        for (int i = 0; i < JOBS; i++) {
            const char *dir = b.dirs[i];
            int status = status_of(b.jobs[i]);
            b.jobs[i] = 0;
            if (status == 0) {
                last = last || is_last(&b, i);
                right(dir);
                continue;
            }
            if (status != 1000 + SIGKILL) must_say(dir, "(nothing of that kind)");
            killed++;
            if (there(dir, "out")) right(dir);
            b.jobs[i] = start(dir, &more, NULL);
        }
        for (int i = 0; i < JOBS; i++) {
            const char *dir = b.dirs[i];
            if (!b.jobs[i]) continue;
            int status = status_of(b.jobs[i]);
            bool unborn = says(dir, "never began") || says(dir, "there is no job");
            if (status == 1 && !there(dir, "out") && unborn) {
                b.jobs[i] = start_chain(dir, v, n, NULL);
                status = status_of(b.jobs[i]);
            } else {
                resumed++;
            }
            if (status) must_say(dir, "(all is well)");
            right(dir);
        }
    }
    if (killed < steps / by || resumed < steps / 2 / by) fail_msg("killed %u times, resumed %u times", killed, resumed);
}

/* Frozen at every step, replaced by another one, thawed: nothing changes any more. */
static inline void freeze_at_every_step(struct mr_options *v, size_t n, stop_at *stopped, unsigned by, unsigned steps)
{
    unsigned frozen = 0;
    struct batch b = {.step = 1, .by = by, .all_local = v->local};
    struct mr_options more = again();
    for (bool last = false; !last;) {
        pid_t next[JOBS];
        start_batch(&b, v, n, stopped, true);
        for (int i = 0; i < JOBS; i++) {
            int status = status_of(b.jobs[i]);
            if (status != 0 && status != 2000) must_say(b.dirs[i], "(it ended well, or was stopped)");
            if (status == 0) last = last || is_last(&b, i), b.jobs[i] = 0;
            frozen += status == 2000;
            next[i] = status ? start(b.dirs[i], &more, NULL) : 0;
        }
        for (int i = 0; i < JOBS; i++) {
            const char *dir = b.dirs[i];
            if (!next[i]) continue;
            int status = status_of(next[i]);
            bool born = status == 0;
            if (!born && !says(dir, "never began") && !says(dir, "there is no job")) must_say(dir, "(nothing else)");
            if (born) {
                right(dir);
                shell_in(dir, "ls -lid --time-style=full-iso out out/* > print");
            }
            assert_int_equal(kill(b.jobs[i], SIGCONT), 0);
            status = status_of(b.jobs[i]);
            if (!born && status != 0) must_say(dir, "(it was never replaced)");
            if (status != 0 && !says(dir, "taken this job over")) must_say(dir, "(so it says)");
            right(dir);
            if (born) shell_in(dir, "ls -lid --time-style=full-iso out out/* | diff - print >&2");
        }
    }
    if (frozen < steps / by) fail_msg("frozen %u times", frozen);
}

static inline int subcommand(int argc, char **argv)
{
    struct mr_worker_options w = {0};
    if (strcmp(argv[2], "executor") == 0) return mr_executor();
    for (int i = 3; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--coordinator") == 0) w.coordinator = argv[i + 1];
        if (strcmp(argv[i], "--job") == 0) w.job = argv[i + 1];
        if (strcmp(argv[i], "--workdir") == 0) w.workdir = argv[i + 1];
    }
    return mr_worker(&w);
}

/* What main() of each begins with; it does not return where this process is a worker or an executor. */
static inline void begin_scenes(int argc, char **argv, unsigned seconds)
{
    if (argc > 2 && strcmp(argv[1], "mr") == 0) exit(subcommand(argc, argv));
    setenv("LC_ALL", "C", 1);
    alarm(seconds); /* rather an end than a riddle */
    cmocka_set_test_filter(getenv("QFS_ONLY"));
}

#endif
