/* Jobs that outlive their coordinator: killed or frozen at every step and gone on with by another one, by hand or by a
 * standby; workers that join by the job's directory, leave, and die at every step; status, cancel. Coordinator, workers
 * and executors are this very program, started again. */
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "mr/mr.h"
#include "mr/owner.h"
#include "tests/unit/mr/test_mr.h"

#define MAP  "echo $MR_TASK >> ran; tr -cs A-Za-z '\\n' | sed '/^$/d; s/$/\\t1/'"
#define JOBS 8 /* at a time */

static struct buf said;

/* The sanitizers' run takes every third step. */
static unsigned stride(void) { return getenv("QFS_SLOW") ? 3 : 1; }

static void shell_in(const char *dir, const char *command)
{
    char *cmd = mr__strf("cd '%s' && export LC_ALL=C && { %s\n}", dir, command);
    int rc = system(cmd);
    if (rc) fprintf(stderr, "failed in %s: %s\n", dir, command);
    assert_int_equal(rc, 0);
    free(cmd);
}

static void shell(const char *command) { shell_in(test_dir, command); }

/* A directory of its own: the input, and room for the output; the current directory of the job. */
static const char *arena(int i)
{
    static char dirs[JOBS][512];
    snprintf(dirs[i], sizeof dirs[i], "%s", in_dir("x"));
    snprintf(dirs[i] + strlen(dirs[i]), 16, "%d", i);
    char *cmd = mr__strf("rm -rf '%s' && mkdir -p '%s/work' && cp -r in '%s/in'", dirs[i], dirs[i], dirs[i]);
    shell(cmd);
    free(cmd);
    return dirs[i];
}

static struct mr_options options(void)
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

static struct mr_options again(void) { return (struct mr_options){.resume = "out", .workdir = "work", .workers = 2}; }

/* Runs the job in the directory; `plan` is for QFS_MR_STOP. */
static pid_t start(const char *dir, const struct mr_options *o, const char *plan)
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
    exit(mr_run(o));
}

static int status_of(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    if (WIFSTOPPED(status)) return 2000;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static bool file_says(const char *dir, const char *file, const char *text)
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
static bool says(const char *dir, const char *text) { return file_says(dir, "said", text); }

static void must_tell(const char *dir, const char *text)
{
    if (!file_says(dir, "told", text)) fail_msg("'%s' is missing in:\n%s", text, (char *)said.p);
}

static void must_say(const char *dir, const char *text)
{
    if (!says(dir, text)) fail_msg("'%s' is missing in:\n%s", text, (char *)said.p);
}

static void must_end(const char *dir, pid_t pid, int want)
{
    int status = status_of(pid);
    says(dir, "");
    if (status != want) fail_msg("%d, not %d:\n%s", status, want, (char *)said.p);
}

static void right(const char *dir)
{
    shell_in(dir, "cat out/part-* | sort | cmp - ../want && test -e out/_SUCCESS && test $(ls out | wc -l) = 4");
}

static bool there(const char *dir, const char *name)
{
    char *path = mr__strf("%s/%s", dir, name);
    bool is = access(path, F_OK) == 0;
    free(path);
    return is;
}

/* Waits for the shell's yes; the alarm of main() is the limit. */
static void until(const char *dir, const char *condition)
{
    char *cmd = mr__strf("cd '%s' && { %s\n} >/dev/null 2>&1", dir, condition);
    while (system(cmd) != 0) usleep(10000);
    free(cmd);
}

static int make_inputs(void **state)
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

static int drop_inputs(void **state)
{
    buf_free(&said);
    return test_end(state);
}

/* ---- the coordinator ---- */

/* Killed at every step: the output is absent or complete, and after --resume it is right. */
static void killed_at_every_step(void **state)
{
    unsigned killed = 0, resumed = 0;
    for (unsigned step = 1, last = 0; !last;) {
        pid_t jobs[JOBS];
        const char *dirs[JOBS];
        struct mr_options o = options(), more = again();
        for (int i = 0; i < JOBS; i++, step += stride()) {
            char *plan = mr__strf("coordinator:%u:stopped", step);
            dirs[i] = arena(i);
            o.local = step % 5 == 0; /* now and then */
            jobs[i] = start(dirs[i], &o, plan);
            free(plan);
        }
        for (int i = 0; i < JOBS; i++) {
            int status = status_of(jobs[i]);
            jobs[i] = 0;
            if (status == 0) {
                last = 1;
                right(dirs[i]);
                continue;
            }
            if (status != 1000 + SIGKILL) must_say(dirs[i], "(nothing of that kind)");
            killed++;
            if (there(dirs[i], "out")) right(dirs[i]);
            jobs[i] = start(dirs[i], &more, NULL);
        }
        for (int i = 0; i < JOBS; i++) {
            if (!jobs[i]) continue;
            int status = status_of(jobs[i]);
            if (status == 1 && !there(dirs[i], "out") && says(dirs[i], "never began")) {
                jobs[i] = start(dirs[i], &o, NULL);
                status = status_of(jobs[i]);
            } else {
                resumed++;
            }
            if (status) must_say(dirs[i], "(all is well)");
            right(dirs[i]);
        }
    }
    assert_true(killed >= 20 / stride() && resumed >= 15 / stride());
}

/* Killed again and again, at any step, also while it goes on with what another one left. */
static void killed_again_and_again(void **state)
{
    struct prng r;
    prng_seed(&r, 5);
    for (int round = 0; round < 6; round++) {
        const char *dir = arena(0);
        struct mr_options o = options(), more = again();
        int deaths = 0, code;
        o.replace = round % 2;
        if (o.replace) shell_in(dir, "mkdir out && touch out/old");
        for (bool born = false;; deaths++) {
            char *plan =
                mr__strf("coordinator:%u:stopped%d", 1 + (unsigned)prng_below(&r, deaths < 8 ? 20 : 60), deaths);
            code = status_of(start(dir, born ? &more : &o, deaths < 20 ? plan : NULL));
            free(plan);
            assert_true(code == 0 || code == 1000 + SIGKILL || code == 1);
            if (code == 0) break;
            if (code == 1) {
                must_say(dir, "never began");
                born = false;
            } else {
                born = true;
            }
            if (there(dir, "out") && !there(dir, "out/old")) right(dir);
        }
        right(dir);
    }
}

/* Frozen at every step, replaced by another one, thawed: nothing changes any more. */
static void frozen_at_every_step(void **state)
{
    unsigned frozen = 0;
    for (unsigned step = 1, last = 0; !last;) {
        pid_t old[JOBS], next[JOBS];
        const char *dirs[JOBS];
        struct mr_options o = options(), more = again();
        for (int i = 0; i < JOBS; i++, step += stride()) {
            char *plan = mr__strf("coordinator:%u:stopped:freeze", step);
            dirs[i] = arena(i);
            o.local = step % 5 == 0;
            old[i] = start(dirs[i], &o, plan);
            free(plan);
        }
        for (int i = 0; i < JOBS; i++) {
            int status = status_of(old[i]);
            assert_true(status == 0 || status == 2000);
            if (status == 0) last = 1, old[i] = 0;
            frozen += status == 2000;
            next[i] = status ? start(dirs[i], &more, NULL) : 0;
        }
        for (int i = 0; i < JOBS; i++) {
            if (!next[i]) continue;
            int status = status_of(next[i]);
            bool born = status == 0;
            if (!born && !says(dirs[i], "never began") && !says(dirs[i], "there is no job"))
                must_say(dirs[i], "(nothing else)");
            if (born) {
                right(dirs[i]);
                shell_in(dirs[i], "ls -lid --time-style=full-iso out out/* > print");
            }
            assert_int_equal(kill(old[i], SIGCONT), 0);
            status = status_of(old[i]);
            if (!born && status != 0) must_say(dirs[i], "(it was never replaced)");
            if (status != 0 && !says(dirs[i], "taken this job over")) must_say(dirs[i], "(so it says)");
            right(dirs[i]);
            if (born) shell_in(dirs[i], "ls -lid --time-style=full-iso out out/* | cmp - print");
        }
    }
    assert_true(frozen >= 20 / stride());
}

/* All maps are done when the coordinator dies: none of them runs again. */
static void finished_tasks_stay(void **state)
{
    const char *dir = arena(0);
    struct mr_options o = options(), more = again();
    o.worker_timeout_s = 60; /* so long workers have to come back, however slow this machine is */
    o.reduce = "echo reduce $MR_TASK >> ran; while test -e hold; do sleep 0.01; done; cat";
    shell_in(dir, "touch hold");
    pid_t job = start(dir, &o, NULL);
    /* What is in "tasks" is in the journal. */
    until(dir, "test $(grep -c reduce ran) = 2 && test $(grep -c '^map [0-9]* done' .out.mr-*/now/tasks) = 4");
    assert_int_equal(kill(job, SIGKILL), 0);
    assert_int_equal(status_of(job), 1000 + SIGKILL);
    shell_in(dir, "sed -i /reduce/d ran; rm hold");
    must_end(dir, start(dir, &more, NULL), 0);
    must_say(dir, "going on with the job");
    shell_in(dir, "grep -v reduce ran | sort | uniq -d | cmp - /dev/null && test $(grep -c reduce ran) = 2 || { cat "
                  "ran said; false; }");
    /* And reduces that are done. */
    dir = arena(1);
    o.reduce = "echo reduce $MR_TASK >> ran; test $MR_TASK = 0 || while test -e hold; do sleep 0.01; done; cat";
    shell_in(dir, "touch hold");
    job = start(dir, &o, NULL);
    until(dir, "test $(grep -c reduce ran) = 2 && grep -q '^reduce 0 done' .out.mr-*/now/tasks");
    assert_int_equal(kill(job, SIGKILL), 0);
    assert_int_equal(status_of(job), 1000 + SIGKILL);
    shell_in(dir, "rm hold");
    must_end(dir, start(dir, &more, NULL), 0);
    must_say(dir, "1 of 2 reduce tasks are done");
    shell_in(dir, "test $(grep -c 'reduce 0' ran) = 1");
}

static void standby(void **state)
{
    const char *dir = arena(0);
    struct mr_options o = options(), more = again();
    o.map = "while test -e hold; do sleep 0.01; done; " MAP;
    shell_in(dir, "touch hold");
    pid_t job = start(dir, &o, NULL);
    until(dir, "ls -d .out.mr-*/out-0 2>/dev/null");
    more.standby = true;
    pid_t waiting[2] = {start(dir, &more, NULL), start(dir, &more, NULL)};
    /* While it lives nobody else has it. */
    struct mr_options rude = again();
    must_end(dir, start(dir, &rude, NULL), 1);
    must_say(dir, "somebody works on the job");
    assert_int_equal(kill(job, SIGKILL), 0);
    assert_int_equal(status_of(job), 1000 + SIGKILL);
    until(dir, "grep -q 'going on with the job' said");
    shell_in(dir, "rm hold");
    must_end(dir, waiting[0], 0);
    must_end(dir, waiting[1], 0);
    must_say(dir, "is done; its output is");
    right(dir);
    shell_in(dir, "test $(grep -c 'going on with' said) = 1");
}

static void interrupted(void **state)
{
    const char *dir = arena(0);
    struct mr_options o = options(), more = again();
    o.map = "while test -e hold; do sleep 0.01; done; " MAP;
    shell_in(dir, "touch hold");
    pid_t job = start(dir, &o, NULL);
    until(dir, "ls -d work/*/ 2>/dev/null | grep -c . | grep -q 3");
    assert_int_equal(kill(job, SIGINT), 0);
    must_end(dir, job, 1);
    must_say(dir, "stopped by Ctrl-C");
    must_say(dir, "mr run --resume ");
    must_say(dir, "mr cancel ");
    shell_in(dir, "rm hold; test ! -e out; ! ls work/* 2>/dev/null");
    more.workers = 1;
    must_end(dir, start(dir, &more, NULL), 0);
    right(dir);
    must_end(dir, start(dir, &more, NULL), 0); /* once more: it is done */
    /* A new job of the same output takes its place, with all that is left of it. */
    shell_in(dir, "rm -r out");
    must_end(dir, start(dir, &o, NULL), 0);
    right(dir);
    shell_in(dir, "test $(ls -d .out.mr-* | wc -l) = 1");
}

static void failed_and_mended(void **state)
{
    const char *dir = arena(0);
    struct mr_options o = options(), more = again();
    o.map = "test -e mended || { echo \"task $MR_TASK is not mended\" >&2; exit 3; }; " MAP;
    o.attempts = 2;
    must_end(dir, start(dir, &o, NULL), 1);
    must_say(dir, "is not mended");
    shell_in(dir,
             "grep -q 'is not mended' .out.mr-*/stderr/map-*-1 && grep -q 'exited with status 3' .out.mr-*/now/failed "
             "&& grep -q ' failures=2' .out.mr-*/now/tasks && touch mended");
    must_end(dir, start(dir, &more, NULL), 0);
    right(dir);
}

/* ---- workers ---- */

static pid_t start_worker(const char *dir, const char *job)
{
    pid_t pid = fork();
    if (pid) return pid;
    if (chdir(dir) < 0) _exit(90);
    execl("/proc/self/exe", "self", "mr", "worker", "--job", job, "--workdir", "work", (char *)NULL);
    _exit(99);
}

static void workers_killed_at_every_step(void **state)
{
    unsigned died = 0;
    for (unsigned step = 1, last = 0; !last;) {
        pid_t jobs[JOBS];
        const char *dirs[JOBS];
        struct mr_options o = options();
        for (int i = 0; i < JOBS; i++, step += stride()) {
            char *plan = mr__strf("worker:%u:%s/x%d/stopped%s", step, test_dir, i, step % 4 == 3 ? ":freeze" : "");
            dirs[i] = arena(i);
            jobs[i] = start(dirs[i], &o, plan);
            free(plan);
        }
        for (int i = 0; i < JOBS; i++) {
            must_end(dirs[i], jobs[i], 0);
            right(dirs[i]);
            died += there(dirs[i], "stopped");
            if (!there(dirs[i], "stopped")) last = 1;
        }
    }
    assert_true(died >= 6 / stride());
}

static void join_and_leave(void **state)
{
    const char *dir = arena(0);
    struct mr_options o = options();
    char *listen = mr__strf("unix:%s/sock", dir);
    o.listen = listen;
    o.workers = -1;
    o.map = "while test -e hold; do sleep 0.01; done; " MAP;
    shell_in(dir, "touch hold");
    pid_t job = start(dir, &o, NULL);
    until(dir, "ls -d .out.mr-*/out-0 2>/dev/null");
    pid_t a = start_worker(dir, "out"), b = start_worker(dir, "out");
    until(dir, "grep -q ' 2 workers' .out.mr-*/now/progress");
    assert_int_equal(kill(a, SIGTERM), 0);
    assert_int_equal(status_of(a), 1);
    until(dir, "grep -q ' 1 workers' .out.mr-*/now/progress");
    shell_in(dir, "rm hold");
    must_end(dir, job, 0);
    assert_int_equal(status_of(b), 0);
    right(dir);
    /* A job that is over has no place for workers. */
    assert_int_equal(status_of(start_worker(dir, "out")), 0);
    assert_int_equal(status_of(start_worker(dir, "nothing")), 1);
    free(listen);
}

/* ---- looking and ending ---- */

static int in(const char *dir, int (*what)(void))
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

static int all(void) { return mr_status(NULL, 0, true, false); }
static int all_json(void) { return mr_status(NULL, 0, true, true); }
static int one(void) { return mr_status((const char *const[]){"out"}, 1, false, false); }
static int nothing(void) { return mr_status((const char *const[]){"nothing"}, 1, false, false); }
static int cancel(void) { return mr_cancel("out"); }

static void status_and_cancel(void **state)
{
    for (int local = 0; local < 2; local++) {
        const char *dir = arena(0);
        struct mr_options o = options();
        o.map =
            local ? "while test -e hold; do echo x; sleep 0.01; done" : "while test -e hold; do sleep 0.01; done; cat";
        o.local = local;
        shell_in(dir, "touch hold");
        pid_t job = start(dir, &o, NULL);
        until(dir, "test -s .out.mr-*/now/beat");
        if (!local) until(dir, "test -s .out.mr-*/now/progress");
        assert_int_equal(in(dir, all), 0);
        must_tell(dir, "running");
        if (!local) must_tell(dir, "map 0/");
        assert_int_equal(in(dir, one), 0);
        must_tell(dir, "/out");
        assert_int_equal(in(dir, all_json), 0);
        shell_in(dir, "python3 -c 'import json, sys\nj = [json.loads(l) for l in open(\"told\")]\n"
                      "assert len(j) == 1 and j[0][\"state\"] == \"running\", j'");
        assert_int_equal(in(dir, nothing), 1);
        must_tell(dir, "there is no job 'nothing'");
        assert_int_equal(in(dir, cancel), 0);
        must_tell(dir, "is cancelled");
        assert_int_equal(status_of(job), 1);
        shell_in(dir, "rm -f hold; test ! -e out; ! ls -d .out.mr-* 2>/dev/null");
        assert_int_equal(in(dir, cancel), 1);
        until(dir, "! ls -d work/*/ 2>/dev/null");
    }
    /* What is done cannot be cancelled; what was interrupted can. */
    const char *dir = arena(0);
    struct mr_options o = options();
    must_end(dir, start(dir, &o, NULL), 0);
    /* Its face stays: the heaviest word of "want", with so many ones. */
    shell_in(dir, "test \"$(sed 's/ values.*: / /; s/\"//g' .out.mr-*/now/heaviest | head -1)\" = "
                  "\"$(sort -k2nr -k1,1 ../want | awk '{print $2, $1; exit}')\" && test $(cat .out.mr-*/now/heaviest | "
                  "wc -l) = 10 "
                  "&& grep -q '\"output_lines\": 26' .out.mr-*/now/counters && grep -c ' done ' .out.mr-*/now/tasks | "
                  "grep -qx 6");
    assert_int_equal(in(dir, cancel), 1);
    must_tell(dir, "is done");
    assert_int_equal(in(dir, one), 0);
    must_tell(dir, "done");
    shell_in(dir, "rm -r out");
    pid_t job = start(dir, &o, "coordinator:9:stopped");
    assert_int_equal(status_of(job), 1000 + SIGKILL);
    assert_int_equal(in(dir, one), 0);
    must_tell(dir, "interrupted");
    assert_int_equal(in(dir, cancel), 0);
    shell_in(dir, "! ls -d .out.mr-* 2>/dev/null");
}

static void dry_run(void **state)
{
    const char *dir = arena(0);
    struct mr_options o = options();
    o.dry_run = true;
    must_end(dir, start(dir, &o, NULL), 0);
    must_say(dir, "map tasks, 2 reduce tasks");
    must_say(dir, "in/f1.txt, ");
    shell_in(dir, "test ! -e out && ! ls -d .out.mr-* 2>/dev/null && mkdir out");
    must_end(dir, start(dir, &o, NULL), 1);
    must_say(dir, "exists");
}

/* ---- */

static int subcommand(int argc, char **argv)
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

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "mr") == 0) return subcommand(argc, argv);
    setenv("LC_ALL", "C", 1);
    alarm(280); /* rather an end than a riddle */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_every_step),
        cmocka_unit_test(killed_again_and_again),
        cmocka_unit_test(frozen_at_every_step),
        cmocka_unit_test(finished_tasks_stay),
        cmocka_unit_test(standby),
        cmocka_unit_test(interrupted),
        cmocka_unit_test(failed_and_mended),
        cmocka_unit_test(workers_killed_at_every_step),
        cmocka_unit_test(join_and_leave),
        cmocka_unit_test(status_and_cancel),
        cmocka_unit_test(dry_run),
    };
    cmocka_set_test_filter(getenv("QFS_ONLY"));
    return cmocka_run_group_tests(tests, make_inputs, drop_inputs);
}
