/* Chains of jobs that outlive their coordinator: killed or frozen at every step and gone on with; a stage that is done
 * is not run again. */
#include "tests/unit/mr/scene.h"

/* Words counted, then each line as it is; every task says in "ran" that it runs. */
static void two_stages(struct mr_options v[2])
{
    v[0] = v[1] = options();
    v[0].map = "echo first >> ran; " MAP;
    v[1].map = "echo second >> ran; " HOLD "cat";
    v[1].reduce = "echo third >> ran; cat";
}

static void killed_at_every_step(void **state)
{
    struct mr_options v[2];
    two_stages(v);
    kill_at_every_step(v, 2, at_step_point, stride(), 60);
}

static void frozen_at_every_step(void **state)
{
    struct mr_options v[2];
    two_stages(v);
    freeze_at_every_step(v, 2, at_step_point, stride(), 60);
}

/* A chain that waits in its second stage. */
static pid_t start_second(const char *dir, struct mr_options v[2])
{
    two_stages(v);
    shell_in(dir, "touch hold");
    pid_t job = start_chain(dir, v, 2, NULL);
    until(dir, "grep -q second ran");
    return job;
}

/* The coordinator dies in the second stage: nothing of the first runs again, and the second is the same job. */
static void killed_in_the_second_stage(void **state)
{
    const char *dir = arena(0);
    struct mr_options v[2], more = again();
    end_by(start_second(dir, v), SIGKILL);
    shell_in(dir, "test ! -e out && test -e .out.mr-*/stage-1/_SUCCESS && grep -c first ran | cmp - ../maps && "
                  "ls -d .out.mr-*/.stage-2.mr-* > job && rm hold");
    must_end(dir, start(dir, &more, NULL), 0);
    must_say(dir, "going on with the chain");
    must_say(dir, "1 of 2 jobs are done");
    right(dir);
    shell_in(dir, "grep -c first ran | cmp - ../maps && ls -d .out.mr-*/.stage-2.mr-* | cmp - job && "
                  "! ls -d .out.mr-*/stage-* 2>/dev/null");
    must_end(dir, start(dir, &more, NULL), 0); /* once more: it is done */
    must_say(dir, "is done; its output is");
    right(dir);
}

static void failed_and_mended(void **state)
{
    const char *dir = arena(0);
    struct mr_options v[2], more = again();
    two_stages(v);
    v[1].map = "test -e mended || exit 3; cat";
    v[1].attempts = 1;
    must_end(dir, start_chain(dir, v, 2, NULL), 1);
    must_say(dir, "job 2 of 2");
    must_say(dir, "mr run --resume ");
    shell_in(dir, "test ! -e out && grep -q 'exited with status 3' .out.mr-*/now/failed && touch mended");
    must_end(dir, start(dir, &more, NULL), 0);
    right(dir);
    shell_in(dir, "grep -c first ran | cmp - ../maps");
}

static void standby(void **state)
{
    const char *dir = arena(0);
    struct mr_options v[2], more = again();
    pid_t job = start_second(dir, v);
    must_end(dir, start(dir, &more, NULL), 1);
    must_say(dir, "somebody works on the job");
    more.standby = true;
    pid_t waiting = start(dir, &more, NULL);
    assert_int_equal(kill(job, SIGSTOP), 0);
    until(dir, "grep -q 'going on with the job' said");
    shell_in(dir, "rm hold");
    must_end(dir, waiting, 0);
    right(dir);
    shell_in(dir, "ls -lid --time-style=full-iso out out/* > print");
    assert_int_equal(kill(job, SIGCONT), 0);
    must_end(dir, job, 1);
    must_say(dir, "taken this job over");
    shell_in(dir, "ls -lid --time-style=full-iso out out/* | cmp - print && grep -c first ran | cmp - ../maps");
}

static int cancel(void) { return mr_cancel("out", "work"); }
static int status(void) { return mr_status((const char *const[]){"out"}, 1, false, false); }

static void seen_joined_and_cancelled(void **state)
{
    const char *dir = arena(0);
    struct mr_options v[2];
    pid_t job = start_second(dir, v), worker = start_worker(dir, "out");
    until(dir, "grep -q '^job 2 of 2, map.* 3 workers' .out.mr-*/now/progress");
    assert_int_equal(in(dir, status), 0);
    must_tell(dir, "running");
    must_tell(dir, "job 2 of 2");
    assert_int_equal(in(dir, cancel), 0);
    must_end(dir, job, 1);
    must_say(dir, "the job was cancelled");
    status_of(worker);
    shell_in(dir, "test ! -e out && ! ls -d .out.mr-* 2>/dev/null");
}

/* What is wrong with a later job is said before the first one runs. */
static void refused_at_once(void **state)
{
    const char *dir = arena(0);
    struct mr_options v[2];
    two_stages(v);
    v[1].map = "/no/such/mapper";
    must_end(dir, start_chain(dir, v, 2, NULL), 1);
    must_say(dir, "/no/such/mapper");
    shell_in(dir, "test ! -e ran && ! ls -d .out.mr-* 2>/dev/null && mkdir out");
    two_stages(v);
    must_end(dir, start_chain(dir, v, 2, NULL), 1);
    must_say(dir, "exists");
    shell_in(dir, "test ! -e ran");
}

static int make(void **state)
{
    int rc = make_inputs(state);
    if (rc == 0) shell("echo 4 > maps");
    return rc;
}

int main(int argc, char **argv)
{
    begin_scenes(argc, argv, 280);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_every_step),
        cmocka_unit_test(frozen_at_every_step),
        cmocka_unit_test(killed_in_the_second_stage),
        cmocka_unit_test(failed_and_mended),
        cmocka_unit_test(standby),
        cmocka_unit_test(seen_joined_and_cancelled),
        cmocka_unit_test(refused_at_once),
    };
    return cmocka_run_group_tests(tests, make, drop_inputs);
}
