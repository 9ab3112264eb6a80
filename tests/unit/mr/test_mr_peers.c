/* Coordinator, worker and the lab's master as they are, and peers that lie: over a network in memory, frame by frame.
 */
#include "mr/jobdir.h"
#include "mr/msg.h"
#include "mr/scribe.h"
#include "mr/task.h"
#include "tests/unit/mr/fake_io.h"
#include "tests/unit/mr/test_mr.h"

#define STEP (5 * NS_PER_MS)
#define MAPS 14u

static struct io_loop *loop;

struct far {
    struct conn *conn;
    bool open, closed, has;  /* has: a task: */
    struct task_result task; /* its numbers */
    struct task_result reduce;
    unsigned tasks;
    char adopt[64]; /* the directory that it is asked to take over */
};

static void far_open(struct conn *c) { ((struct far *)c->arg)->open = true; }

static void far_frame(struct conn *c, uint8_t type, struct slice payload)
{
    struct far *f = c->arg;
    struct task t;
    if (type == MR_LAB_TASK) payload = slice_sub(payload, 4 + load_u32(payload.p), payload.n - 4 - load_u32(payload.p));
    if (type == MR_ADOPT) snprintf(f->adopt, sizeof f->adopt, "%.*s", (int)payload.n - 2, payload.p + 2);
    if (type == MR_TASK_REDUCE)
        f->reduce =
            (struct task_result){.phase = SCHED_REDUCE, .no = load_u32(payload.p), .attempt = load_u32(payload.p + 4)};
    if (type != MR_TASK_MAP && type != MR_LAB_TASK) return;
    assert_int_equal(mr__task_decode(payload, &t), 0);
    f->task = (struct task_result){.phase = t.phase, .no = t.no, .attempt = t.attempt};
    f->has = true;
    f->tasks++;
    mr__task_free(&t);
}

static void far_closed(struct conn *c, int err)
{
    struct far *f = c->arg;
    f->conn = NULL;
    f->closed = true;
}

static const struct conn_cb far_cb = {.open = far_open, .frame = far_frame, .closed = far_closed};

static void send(struct far *f, uint8_t type, const struct buf *b)
{
    struct slice s = buf_slice(b);
    assert_int_equal(conn_send(f->conn, type, &s, 1), 0);
    fake_io_run(loop, STEP);
}

static void send_result(struct far *f, uint8_t type, const struct task_result *r)
{
    struct buf b = {0};
    if (type == MR_HELD) put_slice16(&b, slice_str(f->adopt[0] ? f->adopt : "/work"));
    mr__result_encode(&b, r);
    send(f, type, &b);
    buf_free(&b);
}

static void done(struct far *f)
{
    struct task_result r = f->task;
    assert_true(f->has);
    f->has = false;
    send_result(f, MR_RESULT, &r);
}

static void join_in(struct far *f, const char *host, const char *dir)
{
    struct buf b = {0};
    *f = (struct far){0};
    f->conn = net_dial(io_net(loop), "c:1", &far_cb, f);
    fake_io_run(loop, STEP);
    put_u32(&b, MR_PROTOCOL);
    put_u32(&b, 1);
    put_slice16(&b, slice_str(host));
    put_slice16(&b, slice_str(dir));
    put_slice16(&b, slice_str(":1"));
    put_slice16(&b, slice_str(""));
    send(f, MR_HELLO, &b);
    buf_free(&b);
}

static void join(struct far *f) { join_in(f, "elsewhere", "/work"); }

/* ---- the coordinator ---- */

static uint32_t attempts = 1;

static int coordinate(void (*play)(struct io_loop *l))
{
    struct buf lines = {0};
    for (unsigned i = 0; i < MAPS; i++) put_bytes(&lines, slice_str("a\n"));
    const char *in = write_file("in", buf_slice(&lines)), *out = in_dir("out");
    struct mr_options o = {.inputs = &in,
                           .inputs_n = 1,
                           .output = out,
                           .map = "identity",
                           .reduce = "identity",
                           .workers = -1,
                           .attempts = attempts,
                           .split_bytes = 2,
                           .workdir = test_dir,
                           .listen = "c:1"};
    fake_io_play = play;
    buf_free(&lines);
    return mr_run(&o);
}

/* What the job's directory has, in all; the job is gone then. */
static struct buf job_says(const char *what)
{
    char *cmd = mr__strf("cat '%s'/.out.mr-*/%s >'%s/said'; rm -rf '%s'/.out.mr-*", test_dir, what, test_dir, test_dir);
    assert_int_equal(system(cmd), 0);
    free(cmd);
    return read_file(in_dir("said"));
}

static void end(struct io_loop *l)
{
    if (!l->stopped) fake_io_signal(l, SIGTERM);
    fake_io_run(l, 10 * NS_PER_S);
    assert_true(l->stopped);
}

/* Task 0's output is lost again and again, as a reduce task says. */
static void lie_about_another(struct io_loop *l)
{
    struct far f;
    uint64_t tag = 0;
    loop = l;
    join(&f);
    for (unsigned lies = 0; lies < 10;) {
        if (f.has) {
            if (f.task.no == 0) tag = mr__output_tag(0, f.task.attempt);
            done(&f);
            continue;
        }
        struct task_result lie = f.reduce;
        lie.outcome = TASK_STARVED;
        lie.lost = &tag;
        lie.lost_n = 1;
        put_bytes(&lie.why, slice_str("a lie"));
        send_result(&f, MR_RESULT, &lie);
        buf_free(&lie.why);
        lies++;
    }
    end(l);
}

static void the_task_that_is_given_up_is_named(void **state)
{
    assert_int_equal(coordinate(lie_about_another), MR_EXIT_FAILED);
    struct buf b = job_says("now/failed");
    if (!has_text(&b, "map task 0 ") || has_text(&b, "a lie")) fail_msg("%.*s", (int)b.n, b.p);
    buf_free(&b);
}

static void say_numbers(struct io_loop *l)
{
    struct far f;
    loop = l;
    for (unsigned i = 0; i < 4; i++) {
        join(&f);
        struct task_result r = f.task;
        r.phase = i == 1 ? SCHED_REDUCE : SCHED_MAP;
        r.no = i == 1 ? 1 : i == 3 ? UINT32_MAX : MAPS;
        send_result(&f, i < 2 ? MR_RESULT : MR_HELD, &r);
        assert_true(f.closed);
    }
    end(l);
}

static void tasks_that_do_not_exist(void **state)
{
    assert_int_equal(coordinate(say_numbers), MR_EXIT_FAILED);
    struct buf b = job_says("now/failed");
    assert_true(has_text(&b, "stopped by SIGTERM"));
    buf_free(&b);
}

/* Of its own attempt, of others of that task, of another task; then too much. */
static void say_much(struct io_loop *l)
{
    struct far f;
    loop = l;
    join(&f);
    struct task_result r = f.task;
    put_bytes(&r.err, slice_str("mine"));
    buf_clear(&r.err);
    put_bytes(&r.err, slice_str("not mine"));
    for (uint32_t i = 1; i < 4; i++) {
        r.attempt = f.task.attempt + i;
        send_result(&f, MR_RESULT, &r);
    }
    r.no = f.task.no + 1;
    r.attempt = f.task.attempt;
    send_result(&f, MR_RESULT, &r);
    r.no = f.task.no;
    buf_clear(&r.err);
    put_bytes(&r.err, slice_str("mine"));
    send_result(&f, MR_RESULT, &r);
    assert_false(f.closed);
    while (r.err.n <= MR_STDERR_MAX) put_bytes(&r.err, slice_str("too much"));
    send_result(&f, MR_RESULT, &r);
    assert_true(f.closed);
    buf_free(&r.err);
    end(l);
}

static void stderr_of_what_somebody_runs(void **state)
{
    assert_int_equal(coordinate(say_much), MR_EXIT_FAILED);
    struct buf b = job_says("stderr/*");
    if (b.n != 4 || !has_text(&b, "mine")) fail_msg("%.*s", (int)b.n, b.p);
    buf_free(&b);
}

static void say_hello(struct io_loop *l)
{
    struct buf b = {0}, text = {0};
    struct far f = {0};
    loop = l;
    while (text.n < 5000) put_u8(&text, '/');
    f.conn = net_dial(io_net(l), "c:1", &far_cb, &f);
    fake_io_run(l, STEP);
    put_u32(&b, MR_PROTOCOL);
    put_u32(&b, 1);
    for (unsigned i = 0; i < 4; i++) put_slice16(&b, i < 3 ? buf_slice(&text) : (struct slice){0});
    send(&f, MR_HELLO, &b);
    assert_true(f.closed);
    buf_free(&b);
    buf_free(&text);
    end(l);
}

/* All that others are told of it goes into one frame for each reduce task. */
static void long_names(void **state)
{
    assert_int_equal(coordinate(say_hello), MR_EXIT_FAILED);
    struct buf b = job_says("now/failed");
    buf_free(&b);
}

/* More lost outputs than there are; each would be a step of the scheduler. */
static void say_all_lost(struct io_loop *l)
{
    struct far f;
    loop = l;
    join(&f);
    struct task_result r = f.task;
    r.outcome = TASK_STARVED;
    for (uint32_t i = 0; i < MAPS; i++) mr__result_lose(&r, mr__output_tag(i, 9));
    send_result(&f, MR_RESULT, &r);
    assert_false(f.closed);
    mr__result_lose(&r, 0);
    send_result(&f, MR_RESULT, &r);
    assert_true(f.closed);
    mr__result_free(&r);
    end(l);
}

static void more_lost_than_there_are(void **state)
{
    assert_int_equal(coordinate(say_all_lost), MR_EXIT_FAILED);
    struct buf b = job_says("now/failed");
    buf_free(&b);
}

/* Who does not join is no worker that is missed. */
static void say_nothing(struct io_loop *l)
{
    struct far f = {0};
    loop = l;
    f.conn = net_dial(io_net(l), "c:1", &far_cb, &f);
    fake_io_run(l, STEP);
    assert_true(f.open);
    fake_io_run(l, 20 * NS_PER_S);
    assert_true(f.closed);
    end(l);
}

static void nobody_who_never_joins(void **state)
{
    assert_int_equal(coordinate(say_nothing), MR_EXIT_FAILED);
    struct buf b = job_says("now/failed");
    buf_free(&b);
}

static void leave(struct far *f)
{
    conn_close(f->conn);
    fake_io_run(loop, STEP);
}

static void adopted(struct far *f)
{
    struct buf b = {0};
    put_slice16(&b, slice_str(f->adopt));
    send(f, MR_ADOPTED, &b);
    buf_free(&b);
    f->adopt[0] = 0;
}

/* Of four outputs of a dead worker's another one of its host has two, and dies; the next one has one of them. */
static void die_one_after_the_other(struct io_loop *l)
{
    struct far first, second, third, other;
    struct task_result r[4];
    loop = l;
    join_in(&first, "host", "/1");
    for (unsigned i = 0; i < 4; i++) {
        r[i] = first.task;
        done(&first);
    }
    join_in(&other, "other", "/1");
    join_in(&second, "host", "/2");
    leave(&first);
    assert_string_equal(second.adopt, "/1");
    assert_string_equal(other.adopt, "");
    send_result(&second, MR_HELD, &r[0]);
    send_result(&second, MR_HELD, &r[1]);
    adopted(&second);
    /* The question to the third one is about what the second one had taken over, and about nothing of its own. */
    leave(&second);
    join_in(&third, "host", "/3");
    assert_string_equal(third.adopt, "");
    unsigned given[MAPS] = {0};
    for (unsigned i = 0; i < 40 && (other.has || third.has); i++) {
        struct far *f = other.has ? &other : &third;
        given[f->task.no]++;
        done(f);
    }
    for (unsigned i = 0; i < 4; i++) assert_int_equal(given[r[i].no], 1); /* nobody was there to ask */
    end(l);
}

static void taken_over_in_parts(struct io_loop *l)
{
    struct far first, second, other;
    struct task_result r[4];
    unsigned given[MAPS] = {0};
    loop = l;
    join_in(&first, "host", "/1");
    for (unsigned i = 0; i < 4; i++) {
        r[i] = first.task;
        done(&first);
    }
    join_in(&second, "host", "/2");
    join_in(&other, "other", "/1");
    leave(&first);
    assert_string_equal(second.adopt, "/1");
    send_result(&second, MR_HELD, &r[0]);
    send_result(&second, MR_HELD, &r[3]);
    for (unsigned i = 0; i < 40 && (other.has || second.has); i++) {
        struct far *f = other.has ? &other : &second;
        given[f->task.no]++;
        done(f);
        if (i == 5) adopted(&second);
    }
    for (unsigned i = 0; i < 4; i++) assert_int_equal(given[r[i].no], i == 1 || i == 2);
    end(l);
}

static void outputs_of_the_dead(void **state)
{
    assert_int_equal(coordinate(die_one_after_the_other), MR_EXIT_FAILED);
    struct buf b = job_says("now/failed");
    buf_free(&b);
    assert_int_equal(coordinate(taken_over_in_parts), MR_EXIT_FAILED);
    b = job_says("now/failed");
    buf_free(&b);
}

/* Accepts whoever calls, in arg. */
static void on_call(void *arg, struct conn *c)
{
    c->cb = &far_cb;
    c->arg = arg;
    *(struct far *)arg = (struct far){.conn = c, .open = true, .tasks = ((struct far *)arg)->tasks};
}

/* ---- the worker ---- */

static struct far boss;
static struct jobdir place;

/* The worker has dialled; it is told the job. */
static void welcome(uint64_t beat_ns)
{
    struct job j = {.id = "j",
                    .map = "identity",
                    .reduce = "identity",
                    .attempts = place.attempts,
                    .reducers = 1,
                    .memory = 64 * MIB,
                    .task_timeout_ns = NS_PER_S,
                    .beat_ns = beat_ns,
                    .format = {.partition = MR_PARTITION_HASH, .key_fields = 1, .partition_fields = 1}};
    struct buf b = {0};
    assert_true(boss.conn != NULL);
    mr__job_encode(&b, &j);
    send(&boss, MR_WELCOME, &b);
    buf_free(&b);
    assert_false(boss.closed);
}

static void listen_to_workers(struct io_loop *l)
{
    loop = l;
    assert_int_equal(net_listen(io_net(l), "c:1", on_call, &boss), 0);
}

static int work(void (*play)(struct io_loop *l))
{
    struct mr_worker_options o = {.coordinator = "c:1", .workdir = test_dir};
    struct buf why = {0};
    char *path = mr__strf("%s/.out.mr-j", test_dir);
    assert_int_equal(mr__jobdir_create(path, in_dir("out"), slice_str("a job"), test_dir, &place, &why), 0);
    assert_int_equal(mr__write_file(place.own, "address", slice_str("c:1\tnobody\tc:1\n")), 0);
    fake_io_begin = listen_to_workers;
    fake_io_play = play;
    int code = mr_worker(&o);
    fake_io_begin = NULL;
    mr__rmtree(path);
    mr__jobdir_close(&place);
    free(path);
    return code;
}

/* A coordinator that publishes refuses everybody; it may yet fail, and what the worker has be of use. */
static void refuse_while_it_publishes(struct io_loop *l)
{
    fake_io_run(l, STEP);
    welcome(NS_PER_S);
    conn_close(boss.conn);
    for (int i = 0; i < 2; i++) {
        struct buf b = {0};
        fake_io_run(l, NS_PER_S / 3);
        assert_true(boss.conn != NULL);
        put_bytes(&b, slice_str("the job is over"));
        send(&boss, MR_REFUSED, &b);
        buf_free(&b);
        assert_false(l->stopped);
    }
    assert_int_equal(mr__jobdir_abolish(place.path, 0), 0);
    fake_io_run(l, NS_PER_S);
    assert_true(l->stopped);
}

static void a_worker_that_is_refused(void **state) { assert_int_equal(work(refuse_while_it_publishes), MR_EXIT_OK); }

/* It takes longer than a beat until the connection to the next coordinator is open. */
static void come_back_slowly(struct io_loop *l)
{
    fake_io_run(l, STEP);
    welcome(NS_PER_S / 10);
    conn_close(boss.conn);
    fake_io_run(l, STEP);
    l->f.delay_min = l->f.delay_max = NS_PER_S / 4;
    boss = (struct far){0};
    fake_io_run(l, NS_PER_S);
    assert_true(boss.conn && !boss.closed);
    welcome(NS_PER_S / 10);
    fake_io_signal(l, SIGTERM);
}

static void a_worker_that_comes_back_slowly(void **state) { assert_int_equal(work(come_back_slowly), MR_EXIT_FAILED); }

/* Sweepers take a lock that was not touched for ten minutes for one that nobody takes over any more. */
static void beat_once_a_day(struct io_loop *l)
{
    char *old = mr__strf("touch -d @1000 '%s'/quorumfs-mr-*/lock", test_dir);
    char *young = mr__strf("test $(stat -c %%Y '%s'/quorumfs-mr-*/lock) -gt 1000", test_dir);
    fake_io_run(l, STEP);
    welcome(24 * 3600 * NS_PER_S);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(system(old), 0);
        fake_io_run(l, 60 * NS_PER_S);
        assert_int_equal(system(young), 0);
    }
    fake_io_signal(l, SIGTERM);
    free(old);
    free(young);
}

static void a_worker_with_long_timeouts(void **state) { assert_int_equal(work(beat_once_a_day), MR_EXIT_FAILED); }

/* ---- the coordinator, of reduce tasks ---- */

/* The file of that reduce attempt, as it may be. */
static void make_part(const struct task_result *r, const char *text)
{
    char *cmd =
        mr__strf("printf '%s' > \"$(echo '%s'/.out.mr-*/attempts)\"/reduce-%u-%u", text, test_dir, r->no, r->attempt);
    assert_int_equal(system(cmd), 0);
    free(cmd);
}

/* Nothing is there; half of it is there; it is there. */
static void say_done_and_have_nothing(struct io_loop *l)
{
    struct far f;
    loop = l;
    join(&f);
    while (f.has) done(&f);
    for (int i = 0; i < 3; i++) {
        struct task_result r = f.reduce;
        assert_int_equal(r.attempt & 0xffff, i);
        r.counters.built_in[MR_OUTPUT_BYTES] = 4;
        if (i) make_part(&r, i == 1 ? "a" : "a\tb\n");
        send_result(&f, MR_RESULT, &r);
        if (i == 0) send_result(&f, MR_RESULT, &r);
        fake_io_run(l, STEP);
        if (i == 0 && attempts == 1) break;
    }
    fake_io_run(l, 10 * NS_PER_S);
    assert_true(l->stopped);
}

static void a_part_that_is_not_there(void **state)
{
    assert_int_equal(coordinate(say_done_and_have_nothing), MR_EXIT_FAILED);
    struct buf b = job_says("now/failed");
    if (!has_text(&b, "reduce task 0 failed") || !has_text(&b, "is not there")) fail_msg("%.*s", (int)b.n, b.p);
    buf_free(&b);
    attempts = 3;
    assert_int_equal(coordinate(say_done_and_have_nothing), MR_EXIT_OK);
    attempts = 1;
    b = read_file(in_dir("out/part-00000"));
    assert_true(slice_eq(buf_slice(&b), slice_str("a\tb\n")));
    buf_free(&b);
    b = job_says("now/tasks");
    assert_true(has_text(&b, "reduce 0 done attempt=2 failures=2"));
    buf_free(&b);
}

/* ---- the files that people look at ---- */

/* Two are under way at a time, and each is said anew before it is its turn. */
static void files_keep_their_place(void **state)
{
    static const char *const names[] = {"x", "y", "first", "second", "third", "third", "second", "first"};
    struct jobdir d = {.journal = -1, .beat = -1};
    struct io_loop *l = io_loop_new();
    struct scribe *s = mr__scribe_new(l, &d, NULL, NULL);
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        mr__scribe_file(s, test_dir, names[i], slice_str(i < 5 ? "old" : "new"));
    fake_io_run(l, 60 * NS_PER_US);
    assert_int_equal(access(in_dir("first"), F_OK), 0);
    assert_int_equal(access(in_dir("second"), F_OK), 0);
    assert_int_equal(access(in_dir("third"), F_OK), -1);
    mr__scribe_stop(s);
    io_loop_free(l);
    mr__scribe_end(s);
    struct buf b = read_file(in_dir("third"));
    assert_true(slice_eq(buf_slice(&b), slice_str("new")));
    buf_free(&b);
}

/* ---- the lab's master ---- */

static struct far callee[2];

static void sign_up(const char *addr)
{
    struct far f = {0};
    struct buf b = {0};
    f.conn = net_dial(io_net(loop), "m:1", &far_cb, &f);
    fake_io_run(loop, STEP);
    put_slice16(&b, slice_str(addr));
    send(&f, MR_LAB_REGISTER, &b);
    buf_free(&b);
    conn_close(f.conn);
    fake_io_run(loop, STEP);
}

static void answer_for_another(struct io_loop *l)
{
    loop = l;
    assert_int_equal(net_listen(io_net(l), "w:1", on_call, &callee[0]), 0);
    assert_int_equal(net_listen(io_net(l), "w:2", on_call, &callee[1]), 0);
    sign_up("w:1");
    assert_true(callee[0].has && callee[0].task.no == 0);
    callee[0].task.no = 1;
    done(&callee[0]);
    sign_up("w:2");
    assert_true(callee[1].has && callee[1].task.no == 0);
    fake_io_signal(l, SIGTERM);
    fake_io_run(l, NS_PER_S);
    if (callee[1].conn) conn_close(callee[1].conn);
    fake_io_run(l, NS_PER_S);
}

/* Its worker would be thought busy for ever. */
static void an_answer_about_another_task(void **state)
{
    const char *in[2] = {write_file("a", slice_str("a\n")), write_file("b", slice_str("b\n"))};
    struct mr_lab_options o = {
        .job = "lab", .app = "wc", .inputs = in, .inputs_n = 2, .dir = test_dir, .address = "m:1", .workdir = test_dir};
    fake_io_play = answer_for_another;
    assert_int_equal(mr_lab_master(&o), MR_EXIT_FAILED);
}

/* It has the task, and says nothing to the end, not even that it shuts down. */
static void say_nothing_at_the_end(struct io_loop *l)
{
    loop = l;
    assert_int_equal(net_listen(io_net(l), "w:1", on_call, &callee[0]), 0);
    sign_up("w:1");
    fake_io_signal(l, SIGTERM);
    fake_io_run(l, 100 * NS_PER_S);
    assert_false(l->stopped); /* it may still answer how many tasks it has begun */
    fake_io_signal(l, SIGINT);
    assert_true(l->stopped);
}

static void a_master_that_waits_can_be_stopped(void **state)
{
    const char *in = write_file("a", slice_str("a\n"));
    struct mr_lab_options o = {.job = "lab",
                               .app = "wc",
                               .inputs = &in,
                               .inputs_n = 1,
                               .dir = test_dir,
                               .address = "m:1",
                               .workdir = test_dir};
    fake_io_play = say_nothing_at_the_end;
    assert_int_equal(mr_lab_master(&o), MR_EXIT_FAILED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_task_that_is_given_up_is_named),
        cmocka_unit_test(tasks_that_do_not_exist),
        cmocka_unit_test(stderr_of_what_somebody_runs),
        cmocka_unit_test(long_names),
        cmocka_unit_test(more_lost_than_there_are),
        cmocka_unit_test(nobody_who_never_joins),
        cmocka_unit_test(an_answer_about_another_task),
        cmocka_unit_test(a_master_that_waits_can_be_stopped),
        cmocka_unit_test(outputs_of_the_dead),
        cmocka_unit_test(a_part_that_is_not_there),
        cmocka_unit_test(files_keep_their_place),
        cmocka_unit_test(a_worker_that_is_refused),
        cmocka_unit_test(a_worker_that_comes_back_slowly),
        cmocka_unit_test(a_worker_with_long_timeouts),
    };
    return cmocka_run_group_tests(tests, test_begin, test_end);
}
