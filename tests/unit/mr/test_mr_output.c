/* The output: absent or complete whatever step fails, whoever is killed or frozen at whatever step; replaced in one
 * step; published only by who has the job's token. What dead jobs left is removed, what living ones have is not. The
 * same for working directories. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "mr/estate.h"
#include "mr/output.h"
#include "mr/owner.h"
#include "mr/workdir.h"
#include "tests/unit/mr/test_mr.h"

static struct buf why;

static void put_part(const char *attempts, uint32_t no, uint32_t attempt, const char *text)
{
    char *path = mr__strf("%s/reduce-%u-%u", attempts, no, attempt);
    FILE *f = fopen(path, "w"); /* none: the job is gone, which publishing will find */
    if (f) {
        fputs(text, f);
        fclose(f);
    }
    free(path);
}

static void has(const char *name, const char *text)
{
    struct buf b = read_file(in_dir(name));
    assert_true(slice_eq(buf_slice(&b), slice_str(text)));
    buf_free(&b);
}

static bool exists(const char *name) { return access(in_dir(name), F_OK) == 0; }

/* Everything in the test's directory, as `ls -A` says; jobs' directories as "." and their id. */
static void only(const char *want)
{
    char *cmd = mr__strf(
        "cd '%s' && got=$(ls -A | sed 's/^[.].*[.]mr-/./' | LC_ALL=C sort | tr '\\n' ' ') && test \"$got\" = '%s' || "
        "{ echo \"$got\"; exit 1; }",
        test_dir, want);
    assert_int_equal(system(cmd), 0);
    free(cmd);
}

static int begin(const char *output, const char *id, struct jobdir *d)
{
    buf_clear(&why);
    char *path = mr__jobdir_path(output, id, &why);
    int rc = path ? mr__jobdir_create(path, output, slice_str("what it is"), test_dir, d, &why) : -EINVAL;
    free(path);
    return rc;
}

static void end(struct jobdir *d)
{
    mr__output_clean(d->path);
    mr__rmtree(d->path);
    mr__jobdir_close(d);
}

static int publish(struct jobdir *d, bool replace, const uint32_t *attempts, uint32_t parts)
{
    struct counters c = {0};
    buf_clear(&why);
    return mr__output_publish(d, replace, attempts, parts, &c, &why);
}

static int start_over(void **state)
{
    char *cmd = mr__strf("rm -rf '%s'/* '%s'/.[a-z]*", test_dir, test_dir);
    int rc = system(cmd);
    free(cmd);
    return rc;
}

static void published(void **state)
{
    static const uint32_t attempts[] = {1, 0};
    struct jobdir d;
    assert_int_equal(begin(in_dir("out"), "job1", &d), 0);
    only(".job1 ");
    put_part(d.attempts, 0, 0, "wrong\n");
    put_part(d.attempts, 0, 1, "right\n");
    put_part(d.attempts, 1, 0, "also\n");
    assert_int_equal(publish(&d, false, attempts, 2), 0);
    only(".job1 out ");
    struct job_look look;
    assert_int_equal(mr__jobdir_look(d.path, &look), 0);
    assert_int_equal(look.state, JOB_DONE); /* also before somebody says so */
    mr__look_free(&look);
    mr__output_clean(d.path);
    assert_int_equal(mr__jobdir_look(d.path, &look), 0);
    assert_int_equal(look.state, JOB_DONE);
    mr__look_free(&look);
    has("out/part-00000", "right\n");
    has("out/part-00001", "also\n");
    has("out/_SUCCESS", "");
    assert_true(exists("out/_counters"));
    struct stat st;
    assert_int_equal(stat(in_dir("out/part-00000"), &st), 0);
    assert_int_equal(st.st_nlink, 1);
    end(&d);
    /* It exists now. */
    buf_clear(&why);
    assert_int_equal(mr__output_check(in_dir("out"), false, &why), -EEXIST);
    assert_true(has_text(&why, in_dir("out")) && has_text(&why, "--replace"));
    only("out ");
}

static void replaced(void **state)
{
    static const uint32_t attempts[] = {0};
    struct jobdir d;
    struct job_look look;
    mkdir(in_dir("out"), 0755);
    write_file("out/old", slice_str("old\n"));
    assert_int_equal(mr__output_check(in_dir("out"), true, &why), 0);
    assert_int_equal(begin(in_dir("out"), "job3", &d), 0);
    put_part(d.attempts, 0, 0, "new\n");
    has("out/old", "old\n"); /* until the last moment */
    assert_int_equal(publish(&d, true, attempts, 1), 0);
    /* The old output has the token's name now, and is none. */
    char *old = mr__strf("%s/out-0/old", d.path);
    assert_int_equal(access(old, F_OK), 0);
    free(old);
    assert_int_equal(mr__jobdir_look(d.path, &look), 0);
    assert_int_equal(look.state, JOB_DONE);
    mr__look_free(&look);
    struct jobdir next;
    assert_int_equal(mr__jobdir_take(d.path, 0, &next, &why), -EALREADY);
    assert_int_equal(mr__jobdir_abolish(d.path, 1), -EALREADY);
    end(&d);
    only("out ");
    has("out/part-00000", "new\n");
    assert_false(exists("out/old"));
    write_file("file", slice_str("x"));
    assert_int_equal(mr__output_check(in_dir("file"), true, &why), -ENOTDIR);
    /* Nothing to replace. */
    assert_int_equal(begin(in_dir("out2"), "job4", &d), 0);
    put_part(d.attempts, 0, 0, "new\n");
    assert_int_equal(publish(&d, true, attempts, 1), 0);
    has("out2/part-00000", "new\n");
    end(&d);
}

static void failing_steps(void **state)
{
    static const uint32_t attempts[] = {0, 0};
    struct jobdir d;
    /* A part is missing. */
    assert_int_equal(begin(in_dir("out"), "job5", &d), 0);
    put_part(d.attempts, 0, 0, "one\n");
    assert_int_equal(publish(&d, false, attempts, 2), -ENOENT);
    assert_false(exists("out"));
    /* It can be taken over and published again. */
    struct jobdir next;
    put_part(d.attempts, 1, 0, "two\n");
    assert_int_equal(mr__jobdir_take(d.path, 0, &next, &why), 0);
    assert_int_equal(publish(&next, false, attempts, 2), 0);
    has("out/part-00001", "two\n");
    mr__jobdir_close(&next);
    end(&d);
    start_over(NULL);
    /* Somebody else makes the output meanwhile, even an empty one. */
    assert_int_equal(begin(in_dir("out"), "job6", &d), 0);
    put_part(d.attempts, 0, 0, "one\n");
    assert_int_equal(mkdir(in_dir("out"), 0755), 0);
    assert_int_equal(publish(&d, false, attempts, 1), -EEXIST);
    assert_true(has_text(&why, "came into being"));
    assert_false(exists("out/part-00000"));
    assert_int_equal(rmdir(in_dir("out")), 0);
    end(&d);
    /* No such parent, no name. */
    assert_int_equal(begin(in_dir("none/out"), "job7", &d), -ENOENT);
    assert_true(has_text(&why, "none"));
    assert_null(mr__jobdir_path("/", "job7", &why));
    assert_null(mr__jobdir_path("", "job7", &why));
    assert_null(mr__jobdir_path(".", "job7", &why));
}

/* ---- one token ---- */

static void one_token(void **state)
{
    static const uint32_t attempts[] = {0};
    struct jobdir a, b, c;
    assert_int_equal(begin(in_dir("out"), "job", &a), 0);
    put_part(a.attempts, 0, 0, "x\n");
    assert_int_equal(mr__jobdir_beat(&a), 0);
    assert_int_equal(mr__jobdir_take(a.path, 0, &b, &why), 0);
    assert_int_equal(b.epoch, 1);
    assert_string_equal(b.output, in_dir("out"));
    assert_int_equal(mr__jobdir_take(a.path, 0, &c, &why), -ESTALE); /* the same moment, a little later */
    assert_int_equal(mr__jobdir_beat(&a), -ESTALE);
    assert_int_equal(mr__jobdir_mine(&a), -ESTALE);
    assert_int_equal(publish(&a, false, attempts, 1), -ESTALE);
    assert_int_equal(publish(&a, true, attempts, 1), -ESTALE);
    assert_int_equal(mr__jobdir_abolish(a.path, 0), -ESTALE);
    assert_false(exists("out"));
    assert_int_equal(mr__jobdir_beat(&b), 0);
    assert_int_equal(publish(&b, false, attempts, 1), 0);
    assert_int_equal(mr__jobdir_take(a.path, 1, &c, &why), -ESTALE);
    has("out/part-00000", "x\n");
    end(&b);
    mr__jobdir_close(&a);
    only("out ");
}

/* A name that is longer than a line has room for, with a newline in it. */
static void strange_name(void **state)
{
    static const uint32_t attempts[] = {0};
    struct jobdir a, b;
    struct buf deep = {0};
    mr__fmt(&deep, "%s", in_dir("deep"));
    for (int i = 0; i < 4; i++) {
        char *path = mr__str(buf_slice(&deep));
        assert_int_equal(mkdir(path, 0755), 0);
        free(path);
        mr__fmt(&deep, "/%0200d", i);
    }
    mr__fmt(&deep, "\nout");
    char *output = mr__str(buf_slice(&deep));
    assert_int_equal(begin(output, "job", &a), 0);
    put_part(a.attempts, 0, 0, "x\n");
    assert_int_equal(mr__jobdir_take(a.path, 0, &b, &why), 0);
    assert_string_equal(b.output, output);
    assert_int_equal(publish(&b, false, attempts, 1), 0);
    assert_int_equal(access(output, F_OK), 0);
    mr__jobdir_close(&a);
    end(&b);
    free(output);
    buf_free(&deep);
    only("deep ");
}

static void abolished(void **state)
{
    static const uint32_t attempts[] = {0};
    struct jobdir a;
    assert_int_equal(begin(in_dir("out"), "job", &a), 0);
    put_part(a.attempts, 0, 0, "x\n");
    assert_int_equal(mr__jobdir_abolish(a.path, 0), 0);
    assert_int_equal(mr__jobdir_beat(&a), -ESTALE);
    assert_int_equal(publish(&a, false, attempts, 1), -ESTALE);
    mr__jobdir_close(&a);
    only("");
}

/* What a coordinator does that has all parts. Its exit status: 0 published, 3 not its job any more. */
static pid_t start_publisher(const char *id, bool replace, unsigned step, bool freeze)
{
    static const uint32_t attempts[] = {0, 0};
    char *plan = mr__strf("coordinator:%u:%s%s", step, in_dir("stopped"), freeze ? ":freeze" : "");
    unlink(in_dir("stopped"));
    pid_t pid = fork();
    if (pid == 0) {
        struct jobdir d;
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* it may be frozen when a check fails */
        setenv("QFS_MR_STOP", plan, 1);
        if (begin(in_dir("out"), id, &d) < 0) _exit(1);
        put_part(d.attempts, 0, 0, "one\n");
        put_part(d.attempts, 1, 0, "two\n");
        int rc = publish(&d, replace, attempts, 2);
        if (rc == 0) mr__output_clean(d.path);
        _exit(rc == 0 ? 0 : rc == -ESTALE ? 3 : 2);
    }
    free(plan);
    return pid;
}

/* The output is as it was, or complete. */
static bool absent_or_complete(bool replace)
{
    if (exists("out/_SUCCESS") && !exists("out/old")) {
        has("out/part-00000", "one\n");
        has("out/part-00001", "two\n");
        assert_true(exists("out/_counters"));
        return true;
    }
    assert_int_equal(exists("out"), replace);
    if (replace) has("out/old", "old\n");
    return false;
}

/* Somebody finds the job, and does what is left to do. */
static void go_on(const char *id, bool replace)
{
    static const uint32_t attempts[] = {0, 0};
    char *path = mr__jobdir_path(in_dir("out"), id, &why);
    struct job_look look;
    struct jobdir d;

    if (mr__jobdir_look(path, &look) == 0) {
        if (look.state == JOB_LIVE) {
            bool was = absent_or_complete(replace);
            assert_false(was); /* once published it lives no more */
            int rc = mr__jobdir_take(path, look.epoch, &d, &why);
            assert_int_equal(rc, 0);
            put_part(d.attempts, 0, 0, "one\n"); /* where the first one died before */
            put_part(d.attempts, 1, 0, "two\n");
            assert_int_equal(publish(&d, replace, attempts, 2), 0);
            mr__jobdir_close(&d);
        }
        if (look.state == JOB_UNBORN) assert_false(absent_or_complete(replace));
        if (look.state == JOB_DONE) assert_true(absent_or_complete(replace));
        if (look.state != JOB_UNBORN) mr__output_clean(path);
        mr__look_free(&look);
    }
    free(path);
}

static void old_output(bool replace)
{
    start_over(NULL);
    if (!replace) return;
    mkdir(in_dir("out"), 0755);
    write_file("out/old", slice_str("old\n"));
}

/* Killed at every single step, of a new output and of a replaced one. */
static void killed_at_every_step(void **state)
{
    for (int replace = 0; replace < 2; replace++) {
        unsigned step = 1, killed = 0;
        for (;; step++) {
            int status;
            old_output(replace);
            pid_t pid = start_publisher("job", replace, step, false);
            assert_int_equal(waitpid(pid, &status, 0), pid);
            if (WIFEXITED(status)) break;
            killed++;
            absent_or_complete(replace);
            go_on("job", replace);
            go_on("job", replace); /* once more: nothing happens */
        }
        assert_true(absent_or_complete(replace));
        assert_true(killed >= 15);
    }
}

static uint64_t fingerprint(void)
{
    struct buf b = {0};
    char *cmd = mr__strf("cd '%s' && ls -lid --time-style=full-iso out out/* > '%s' && cat out/* >> '%s'", test_dir,
                         in_dir("print"), in_dir("print"));
    assert_int_equal(system(cmd), 0);
    free(cmd);
    b = read_file(in_dir("print"));
    uint64_t h = crc32c(0, b.p, b.n);
    buf_free(&b);
    return h;
}

/* Frozen at every single step; somebody else finishes the job; then it goes on as if nothing had happened. */
static void frozen_at_every_step(void **state)
{
    for (int replace = 0; replace < 2; replace++) {
        unsigned frozen = 0, fenced = 0;
        for (unsigned step = 1;; step++) {
            int status;
            old_output(replace);
            pid_t pid = start_publisher("job", replace, step, true);
            assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
            if (WIFEXITED(status)) break;
            frozen++;
            absent_or_complete(replace);
            go_on("job", replace);
            bool done = exists("out/_SUCCESS") && !exists("out/old");
            uint64_t before = done ? fingerprint() : 0;
            assert_int_equal(kill(pid, SIGCONT), 0);
            assert_int_equal(waitpid(pid, &status, 0), pid);
            assert_true(WIFEXITED(status));
            fenced += WEXITSTATUS(status) == 3;
            if (done) assert_true(fingerprint() == before); /* not one bit, inode or time is another */
            assert_true(absent_or_complete(replace));
        }
        if (frozen < 15 || fenced < 8) fail_msg("frozen %u times, fenced %u times", frozen, fenced);
    }
}

/* Several find the job at once: one has it, the output is there once. */
static void many_at_once(void **state)
{
    static const uint32_t attempts[] = {0};
    for (int round = 0; round < 20; round++) {
        struct jobdir d;
        pid_t pids[4];
        int won = 0;
        start_over(NULL);
        assert_int_equal(begin(in_dir("out"), "job", &d), 0);
        put_part(d.attempts, 0, 0, "x\n");
        for (int i = 0; i < 4; i++) {
            pids[i] = fork();
            if (pids[i]) continue;
            struct jobdir mine;
            int rc = mr__jobdir_take(d.path, 0, &mine, &why);
            if (rc == 0) rc = publish(&mine, false, attempts, 1);
            _exit(rc == 0 ? 0 : rc == -ESTALE ? 3 : 2);
        }
        for (int i = 0; i < 4; i++) {
            int status;
            assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
            assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3));
            won += WEXITSTATUS(status) == 0;
        }
        assert_int_equal(won, 1);
        has("out/part-00000", "x\n");
        mr__jobdir_close(&d);
    }
}

static void leftovers(void **state)
{
    struct jobdir d, alive, other;
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        struct jobdir dead;
        _exit(begin(in_dir("out"), "dead", &dead) == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    only(".dead ");
    mkdir(in_dir(".out.mr-unknown"), 0755); /* nobody knows whose it is */
    assert_int_equal(begin(in_dir("out"), "alive", &alive), 0);
    assert_int_equal(begin(in_dir("out.mr"), "other", &other), 0); /* of another output */
    assert_int_equal(begin(in_dir("out"), "next", &d), 0);
    only(".alive .next .other .unknown ");
    /* By directory, by output, by id. */
    char *found = mr__jobdir_find(in_dir(".out.mr-alive"), &why);
    assert_string_equal(found, alive.path);
    free(found);
    found = mr__jobdir_find(in_dir("out.mr"), &why);
    assert_string_equal(found, other.path);
    free(found);
    assert_null(mr__jobdir_find(in_dir("nothing"), &why));
    assert_true(has_text(&why, "nothing"));
    assert_string_equal(mr__jobdir_id(other.path), "other");
    end(&d);
    end(&alive);
    end(&other);
}

static void working_directories(void **state)
{
    char *base = mr__strf("%s", in_dir("work")), *a, *b, *c;
    int la, lb, lc, status;
    mkdir(base, 0755);
    assert_int_equal(mr__workdir_make(base, &a, &la, &why), 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (mr__workdir_make(base, &b, &lb, &why) < 0) _exit(1);
        char *file = mr__strf("%s/data", b);
        _exit(mkdir(file, 0755));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    char *count = mr__strf("test \"$(ls '%s' | wc -l)\" = 2", base);
    assert_int_equal(system(count), 0); /* the dead one's is still there */
    assert_int_equal(mr__workdir_make(base, &b, &lb, &why), 0);
    assert_int_equal(system(count), 0); /* and now it is not */
    assert_int_equal(access(a, F_OK), 0);
    assert_int_equal(access(b, F_OK), 0);
    close(la);
    assert_int_equal(mr__workdir_make(base, &c, &lc, &why), 0);
    assert_int_equal(access(a, F_OK), -1);
    close(lb);
    close(lc);
    assert_true(mr__workdir_make(in_dir("none"), &a, &la, &why) < 0);
    assert_true(has_text(&why, "none") && has_text(&why, "--workdir"));
    free(a);
    free(b);
    free(c);
    free(count);
    free(base);
}

static size_t entries_of(const char *dir)
{
    DIR *d = opendir(dir);
    size_t n = 0;
    if (!d) return 0;
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

/* The lock becomes the youngest name: some filesystems list that first. */
static void make_many(const char *dir)
{
    char *lock = mr__strf("%s/lock", dir), *other = mr__strf("%s/other", dir);
    for (int i = 0; i < 2000; i++) {
        char *file = mr__strf("%s/%d", dir, i);
        close(open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        free(file);
    }
    assert_int_equal(link(lock, other) | unlink(lock) | rename(other, lock), 0);
    free(lock);
    free(other);
}

/* Who is killed while it removes its directory, or that of a dead one, leaves what the next one knows to be dead. */
static void killed_while_removing(void **state)
{
    char *base = mr__strf("%s", in_dir("half")), *a;
    int lock, status;
    mkdir(base, 0755);
    for (int i = 0; i < 10; i++) {
        int ready[2];
        char c;
        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        assert_int_equal(mr__workdir_make(base, &a, &lock, &why), 0);
        make_many(a);
        if (i % 2) close(lock);
        pid_t pid = fork();
        if (pid == 0) {
            (void)!write(ready[1], "", 1);
            if (i % 2)
                mr__workdir_sweep(base, NULL);
            else
                mr__workdir_remove(a);
            _exit(0);
        }
        if (i % 2 == 0) close(lock);
        assert_int_equal(read(ready[0], &c, 1), 1);
        while (entries_of(a) > 1900) continue;
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        mr__workdir_sweep(base, NULL);
        assert_int_equal(access(a, F_OK), -1);
        close(ready[0]);
        close(ready[1]);
        free(a);
    }
    free(base);
}

static void finish_map(const char *dir, int list, uint32_t no, bool listed)
{
    struct task_result r = {.phase = SCHED_MAP, .no = no, .attempt = 7, .outcome = TASK_DONE};
    char *path = mr__map_output(dir, no, 7);
    struct run_writer *w;
    struct buf b = {0};
    assert_int_equal(mr__run_create(path, 2, &w), 0);
    mr__run_add(w, 1, slice_str("key"), slice_str("value"));
    assert_int_equal(mr__run_finish(w, NULL, NULL), 0);
    mr__result_encode(&b, &r);
    if (listed) assert_int_equal(mr__estate_add(list, &b), 0);
    buf_free(&b);
    free(path);
}

static void note(void *arg, const struct task_result *r)
{
    assert_int_equal(r->attempt, 7);
    mr__fmt(arg, "%u ", r->no);
}

static void expect_outputs(const char *dir, const char *job, const char *want)
{
    struct buf got = {0};
    mr__estate_read(dir, job, 2, note, &got);
    if (!slice_eq(buf_slice(&got), slice_str(want))) fail_msg("'%.*s', not '%s'", (int)got.n, got.p, want);
    buf_free(&got);
}

static void expect_not_taken(const char *base, const char *name)
{
    char *path = mr__strf("%s/%s", base, name);
    int lock;
    assert_true(mr__workdir_take(path, &lock) < 0);
    free(path);
}

/* Somebody tells a path that leads to what is dear to us, or to a FIFO. (All of the former was removed with the job.) */
static void expect_only_ours_taken(const char *base)
{
    char *precious = mr__strf("%s/precious", base), *lock = mr__strf("%s/lock", precious), *list = mr__strf("%s/outputs", precious);
    char *link = mr__strf("%s/quorumfs-mr-link", base);
    assert_int_equal(mkdir(precious, 0700), 0);
    fclose(fopen(lock, "w"));
    assert_int_equal(symlink(precious, link), 0);
    expect_not_taken(base, "precious");
    expect_not_taken(base, "quorumfs-mr-link");
    expect_not_taken(base, "quorumfs-mr-link/");
    expect_not_taken(base, "quorumfs-mr-link/.");
    assert_int_equal(mkfifo(list, 0600), 0);
    assert_false(mr__estate_is_of(precious, "job"));
    unlink(list);
    unlink(lock);
    unlink(link);
    assert_int_equal(rmdir(precious), 0);
    free(precious);
    free(lock);
    free(list);
    free(link);
}

/* What is listed and whole can be taken over, by one, when its owner is dead; it is removed when its job is over, or
 * when it is old. */
static void estates(void **state)
{
    char *base = mr__strf("%s", in_dir("work")), *dir, *other;
    struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
    int lock, lock2, list;

    mkdir(base, 0755);
    assert_int_equal(mr__workdir_make(base, &dir, &lock, &why), 0);
    assert_int_equal(mr__workdir_make(base, &other, &lock2, &why), 0);
    list = mr__estate_begin(dir, "job");
    assert_true(list >= 0);
    for (uint32_t i = 0; i < 6; i++) finish_map(dir, list, i, i != 3);
    char *path = mr__map_output(dir, 1, 7);
    assert_int_equal(unlink(path), 0);
    free(path);
    path = mr__map_output(dir, 2, 7);
    assert_int_equal(truncate(path, 50), 0);
    free(path);
    expect_outputs(dir, "job", "0 4 5 ");
    expect_outputs(dir, "jo", "");
    expect_outputs(dir, "jobs", "");
    expect_outputs(other, "job", "");
    /* A record that was being written. */
    struct stat st;
    assert_int_equal(fstat(list, &st), 0);
    assert_int_equal(ftruncate(list, st.st_size - 1), 0);
    expect_outputs(dir, "job", "0 4 ");
    close(list);
    /* And one that is damaged. */
    path = mr__strf("%s/outputs", dir);
    struct buf b = read_file(path);
    for (size_t i = 0; i < b.n; i++) {
        struct buf got = {0};
        FILE *f = fopen(path, "w");
        b.p[i] ^= 0x55;
        assert_int_equal(fwrite(b.p, 1, b.n, f), b.n);
        fclose(f);
        mr__estate_read(dir, "job", 2, note, &got);
        assert_true(got.n <= 4 && memcmp("0 4 ", got.n ? (char *)got.p : "", got.n) == 0);
        b.p[i] ^= 0x55;
        buf_free(&got);
    }
    FILE *f = fopen(path, "w");
    assert_int_equal(fwrite(b.p, 1, b.n, f), b.n);
    fclose(f);
    buf_free(&b);
    free(path);
    expect_only_ours_taken(base);
    /* Its owner lives. */
    assert_int_equal(mr__workdir_take(dir, &lock2), -EBUSY);
    mr__workdir_sweep(base, "job");
    expect_outputs(dir, "job", "0 4 ");
    /* It is dead, and not for long. */
    close(lock);
    mr__workdir_sweep(base, NULL);
    mr__workdir_sweep(base, "jobs");
    expect_outputs(dir, "job", "0 4 ");
    assert_int_equal(mr__workdir_take(dir, &lock), 0);
    assert_int_equal(mr__workdir_take(dir, &lock2), -EBUSY);
    path = mr__strf("%s/map-9-7-merge", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    mr__estate_tidy(dir);
    assert_int_equal(access(path, F_OK), -1);
    free(path);
    mr__workdir_sweep(base, "job");
    expect_outputs(dir, "job", "0 4 ");
    /* Who has taken it over is dead, too. */
    futimens(lock, old);
    mr__workdir_touch(lock);
    close(lock);
    mr__workdir_sweep(base, NULL);
    assert_int_equal(mr__workdir_take(dir, &lock), 0);
    futimens(lock, old);
    close(lock);
    mr__workdir_sweep(base, NULL);
    assert_int_equal(access(dir, F_OK), -1);
    assert_int_equal(mr__workdir_take(dir, &lock), -ENOENT);
    /* Nobody else's, nor by another name. */
    assert_int_equal(symlink(other, dir), 0);
    assert_true(mr__workdir_take(dir, &lock) < 0);
    unlink(dir);
    free(dir);
    assert_int_equal(mr__workdir_make(base, &dir, &lock, &why), 0);
    close(mr__estate_begin(dir, "job"));
    close(lock);
    mr__workdir_sweep(base, "job");
    assert_int_equal(access(dir, F_OK), -1);
    mr__rmtree(base);
    free(dir);
    free(other);
    free(base);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, start_over)
    const struct CMUnitTest tests[] = {
        T(published),    T(replaced),  T(failing_steps),        T(one_token),
        T(strange_name), T(abolished), T(killed_at_every_step), T(frozen_at_every_step),
        T(many_at_once), T(leftovers), T(working_directories),  T(killed_while_removing),
        T(estates),
    };
    /* Thousands of syncs, and nothing here is about power cuts. */
    if (access("/dev/shm", W_OK) == 0) setenv("TMPDIR", "/dev/shm", 1);
    return cmocka_run_group_tests(tests, test_begin, test_end);
}
