/* Jobs that outlive their coordinator: killed or frozen at every step and gone on with by another one, by hand or by a
 * standby; workers that join by the job's directory, leave, and die at every step; status, cancel. Coordinator, workers
 * and executors are this very program, started again. */
#include "tests/unit/mr/scene.h"

/* ---- the coordinator ---- */

static void killed_at_every_step(void **state)
{
    struct mr_options o = options();
    kill_at_every_step(&o, 1, at_step_point, stride(), 20);
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

static void frozen_at_every_step(void **state)
{
    struct mr_options o = options();
    freeze_at_every_step(&o, 1, at_step_point, stride(), 20);
}

/* All maps are done when the coordinator dies: none of them runs again. */
static void finished_tasks_stay(void **state)
{
    const char *dir = arena(0);
    struct mr_options o = options(), more = again();
    o.worker_timeout_s = 60; /* so long workers have to come back, however slow this machine is */
    o.reduce = "echo reduce $MR_TASK >> ran; " HOLD "cat";
    shell_in(dir, "touch hold");
    pid_t job = start(dir, &o, NULL);
    /* What is in "tasks" is in the journal. */
    until(dir, "test $(grep -c reduce ran) = 2 && test $(grep -c '^map [0-9]* done' .out.mr-*/now/tasks) = 4");
    end_by(job, SIGKILL);
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
    end_by(job, SIGKILL);
    shell_in(dir, "rm hold");
    must_end(dir, start(dir, &more, NULL), 0);
    must_say(dir, "1 of 2 reduce tasks are done");
    shell_in(dir, "test $(grep -c 'reduce 0' ran) = 1");
}

/* And nobody is alive who has the map outputs: they lie there. */
static void everybody_dies(void **state)
{
    const char *dir = arena(0);
    struct mr_options o = options(), more = again();
    o.reduce = HOLD "cat";
    shell_in(dir, "touch hold");
    pid_t job = start(dir, &o, NULL);
    until(dir, "test $(grep -c '^map [0-9]* done' .out.mr-*/now/tasks) = 4");
    char *kill_workers = mr__strf("kill -STOP %d && kill -KILL $(ps -o pid= --ppid %d)", (int)job, (int)job);
    shell_in(dir, kill_workers);
    free(kill_workers);
    assert_int_equal(status_of(job), 2000);
    end_by(job, SIGKILL);
    shell_in(dir, "rm hold");
    must_end(dir, start(dir, &more, NULL), 0);
    must_say(dir, "4 of 4 map outputs may still be");
    shell_in(dir, "test $(cat out/part-* | wc -l) = 1200");
    shell_in(dir, "test $(wc -l < ran) = 4 && ! ls -d work/*/ 2>/dev/null || { cat ran said; false; }");
}

/* A job whose reduce tasks wait for "hold" to go. With an address it has no workers of its own. */
static struct mr_options half_done(const char *dir, const char *listen)
{
    struct mr_options o = options();
    o.worker_timeout_s = 60;
    o.reduce = HOLD "cat";
    o.listen = listen;
    if (listen) o.workers = -1;
    shell_in(dir, "touch hold");
    return o;
}

#define MAPS_DONE "test $(grep -c '^map [0-9]* done' .out.mr-*/now/tasks) = 4"

/* Goes on to the end, and no map runs again; nothing stays in the workers' directory. */
static void maps_stay(const char *dir)
{
    struct mr_options more = again();
    shell_in(dir, "rm -f hold");
    must_end(dir, start(dir, &more, NULL), 0);
    shell_in(dir, "test $(wc -l < ran) = 4 && test $(cat out/part-* | wc -l) = 1200 || { cat ran said; false; }");
    until(dir, "! ls -d work/*/");
}

static int cancel(void) { return mr_cancel("out", "work"); }

/* What is not done and not cancelled is gone on with one day, however it ended. */
static void jobs_that_end_early(void **state)
{
    /* Stopped; then nobody can go on at a port that is taken. */
    const char *dir = arena(0);
    struct mr_options o = half_done(dir, NULL), more = again();
    pid_t job = start(dir, &o, NULL);
    until(dir, MAPS_DONE);
    assert_int_equal(kill(job, SIGTERM), 0);
    must_end(dir, job, 1);
    char *taken = mr__strf("unix:%s/nowhere/sock", dir);
    more.listen = taken;
    must_end(dir, start(dir, &more, NULL), 1);
    must_say(dir, "cannot listen");
    maps_stay(dir);
    free(taken);
    /* Failed. */
    dir = arena(1);
    o = half_done(dir, NULL);
    o.reduce = "test -e mended && exec cat; exit 3";
    o.attempts = 1;
    must_end(dir, start(dir, &o, NULL), 1);
    shell_in(dir, "touch mended");
    maps_stay(dir);
    /* Failed, and dropped; by a new job of the same output, which fails again. A chain, too. */
    for (size_t n = 1; n <= 2; n++) {
        struct mr_options v[2] = {o, o};
        dir = arena(2);
        must_end(dir, start_chain(dir, v, n, NULL), 1);
        shell_in(dir, "ls -d work/*/ >first");
        must_end(dir, start_chain(dir, v, n, NULL), 1);
        shell_in(dir, "ls -d work/*/ >second; test $(cat first second | sort | uniq -d | wc -l) = 0");
        assert_int_equal(in(dir, cancel), 0);
        shell_in(dir, "! ls -d work/*/ .out.mr-* 2>/dev/null");
    }
}

static void standby(void **state)
{
    const char *dir = arena(0);
    struct mr_options o = options(), more = again();
    pid_t job = start_held(dir, &o, "ls -d .out.mr-*/out-0 2>/dev/null");
    more.standby = true;
    pid_t waiting[2] = {start(dir, &more, NULL), start(dir, &more, NULL)};
    /* While it lives nobody else has it. */
    struct mr_options rude = again();
    must_end(dir, start(dir, &rude, NULL), 1);
    must_say(dir, "somebody works on the job");
    end_by(job, SIGKILL);
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
    pid_t job = start_held(dir, &o, "ls -d work/*/ 2>/dev/null | grep -c . | grep -q 3");
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

/* One that is told to end leaves what it has, and what it had taken over, to the next. */
static void workers_that_are_ended(void **state)
{
    const char *dir = arena(0);
    char *listen = mr__strf("unix:%s/sock", dir);
    struct mr_options o = half_done(dir, listen);
    pid_t job = start(dir, &o, NULL);
    until(dir, "ls -d .out.mr-*/out-0");
    pid_t a = start_worker(dir, "out");
    until(dir, MAPS_DONE);
    shell_in(dir, "ls -d work/quorumfs-mr-*/outputs | sed 's/outputs$//' > first && test $(wc -l < first) = 1");
    pid_t b = start_worker(dir, "out");
    until(dir, "grep -q ' 2 workers' .out.mr-*/now/progress");
    end_by(a, SIGKILL);
    until(dir, "! flock -n $(cat first)lock true"); /* b has it */
    assert_int_equal(kill(b, SIGTERM), 0);
    assert_int_equal(status_of(b), 1);
    pid_t c = start_worker(dir, "out");
    shell_in(dir, "rm hold");
    must_end(dir, job, 0);
    assert_int_equal(status_of(c), 0);
    shell_in(dir, "test $(wc -l < ran) = 4 || { cat ran said; false; }");
    shell_in(dir, "test $(cat out/part-* | wc -l) = 1200 && ! ls -d work/*/ 2>/dev/null");
    free(listen);
}

static void join_and_leave(void **state)
{
    const char *dir = arena(0);
    struct mr_options o = options();
    char *listen = mr__strf("unix:%s/sock", dir);
    o.listen = listen;
    o.workers = -1;
    pid_t job = start_held(dir, &o, "ls -d .out.mr-*/out-0 2>/dev/null");
    pid_t a = start_worker(dir, "out"), b = start_worker(dir, "out");
    until(dir, "grep -q ' 2 workers' .out.mr-*/now/progress");
    assert_int_equal(kill(a, SIGTERM), 0);
    assert_int_equal(status_of(a), 1);
    until(dir, "grep -q ' 1 worker,' .out.mr-*/now/progress");
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

static int all(void) { return mr_status(NULL, 0, true, false); }
static int all_json(void) { return mr_status(NULL, 0, true, true); }
static int one(void) { return mr_status((const char *const[]){"out"}, 1, false, false); }
static int nothing(void) { return mr_status((const char *const[]){"nothing"}, 1, false, false); }

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
    o.json = true;
    shell_in(dir, "rm said");
    must_end(dir, start(dir, &o, NULL), 0);
    struct mr_options jobs[2] = {o, {.map = "tr a b", .combine = "sum", .reduce = "sum", .output = "out"}};
    must_end(dir, start_chain(dir, jobs, 2, NULL), 0);
    shell_in(dir, "python3 -c 'import json\nj = [json.loads(l) for l in open(\"said\")]\n"
                  "assert [x[\"event\"] for x in j] == [\"plan\"] * 3, j\n"
                  "assert [x.get(\"stage\") for x in j] == [None, 1, 2], j\n"
                  "assert j[0][\"map_tasks\"] == len(j[0][\"splits\"]) == 4 and j[0][\"reduce_tasks\"] == 2, j\n"
                  "assert sum(s[\"bytes\"] for s in j[1][\"splits\"]) == j[1][\"bytes\"] == 3600, j\n"
                  "assert j[0][\"output\"] == \"out\" and j[2][\"map\"] == \"tr a b\" and j[2][\"combine\"] == "
                  "\"sum\", j'");
    o.json = false;
    shell_in(dir, "test ! -e out && ! ls -d .out.mr-* 2>/dev/null && mkdir out");
    must_end(dir, start(dir, &o, NULL), 1);
    must_say(dir, "exists");
}

/* ---- */

int main(int argc, char **argv)
{
    begin_scenes(argc, argv, 280);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_every_step),
        cmocka_unit_test(killed_again_and_again),
        cmocka_unit_test(frozen_at_every_step),
        cmocka_unit_test(finished_tasks_stay),
        cmocka_unit_test(everybody_dies),
        cmocka_unit_test(jobs_that_end_early),
        cmocka_unit_test(standby),
        cmocka_unit_test(interrupted),
        cmocka_unit_test(failed_and_mended),
        cmocka_unit_test(workers_killed_at_every_step),
        cmocka_unit_test(workers_that_are_ended),
        cmocka_unit_test(join_and_leave),
        cmocka_unit_test(status_and_cancel),
        cmocka_unit_test(dry_run),
    };
    return cmocka_run_group_tests(tests, make_inputs, drop_inputs);
}
