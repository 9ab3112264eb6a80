/* Whole jobs on real processes: coordinator, workers and executors are this very program, started again. The books'
 * expected results, the same bytes whatever dies, freezes or is damaged on the way, and a clear word where a job cannot
 * end well. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "mr/mr.h"
#include "tests/unit/mr/test_mr.h"

/* A reducer that adds. */
#define SUM                                                                                                            \
    "awk -F'\\t' '$1 != k {if (NR > 1) print k \"\\t\" n; k = $1; n = 0} {n += $2} END {if (NR) print k \"\\t\" n}'"

static char *books, *source; /* NULL: not here */
static struct buf said;      /* what the last job wrote */

/* ---- running jobs ---- */

static pid_t start_job(const struct mr_options *o)
{
    unlink(in_dir("said"));
    pid_t pid = fork();
    if (pid) return pid;
    int fd = open(in_dir("said"), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
    dup2(fd, 1);
    dup2(fd, 2);
    close(fd);
    exit(o->only ? mr_task(o) : mr_run(o));
}

static int end_job(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    buf_free(&said);
    said = read_file(in_dir("said"));
    put_u8(&said, 0);
    if (has_text(&said, "LeakSanitizer") || has_text(&said, "runtime error")) fail_msg("%s", (char *)said.p);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static int run_job(const struct mr_options *o) { return end_job(start_job(o)); }

static void must_run(const struct mr_options *o)
{
    int code = run_job(o);
    if (code) fprintf(stderr, "%s\n", (char *)said.p);
    assert_int_equal(code, 0);
}

/* The job fails, says each of the words (NULL at the end), and leaves nothing behind but finished map outputs, for
 * --resume.
 */
static void must_fail(const struct mr_options *o, const char *const *words)
{
    assert_int_equal(run_job(o), 1);
    for (; *words; words++) {
        if (has_text(&said, *words)) continue;
        fprintf(stderr, "'%s' is missing in:\n%s\n", *words, (char *)said.p);
        fail();
    }
    char *cmd = mr__strf(
        "cd '%s' && ! ls -d out* work/*/* 2>/dev/null | grep -v '/lock$\\|/outputs$\\|/map-[0-9]*-[0-9]*$' >&2",
        test_dir);
    assert_int_equal(system(cmd), 0);
    free(cmd);
}

static void shell(const char *command)
{
    char *cmd = mr__strf("cd '%s' && export LC_ALL=C && { %s\n}", test_dir, command);
    int rc = system(cmd);
    if (rc) fprintf(stderr, "failed: %s\n", command);
    assert_int_equal(rc, 0);
    free(cmd);
}

static struct mr_options options(const char *const *inputs, const char *out)
{
    static char work[512], paths[2][512];
    static int turn;
    char *path = paths[turn = !turn];
    snprintf(work, sizeof work, "%s", in_dir("work"));
    snprintf(path, sizeof paths[0], "%s", in_dir(out));
    return (struct mr_options){
        .inputs = inputs, .inputs_n = 1, .output = path, .workdir = work, .workers = 2, .reducers = 3};
}

static void same_dirs(const char *a, const char *b)
{
    char *cmd = mr__strf("diff -r '%s' '%s'", a, b);
    shell(cmd);
    free(cmd);
}

static const char *in_glob(void)
{
    static char glob[512];
    snprintf(glob, sizeof glob, "%s", in_dir("in/*"));
    return glob;
}

/* Lines of words, in five files; the right answer by other tools in "want". */
static int make_inputs(void **state)
{
    struct prng r;
    if (test_begin(state)) return -1;
    mkdir(in_dir("work"), 0755);
    mkdir(in_dir("in"), 0755);
    prng_seed(&r, 77);
    for (int f = 0; f < 5; f++) {
        char name[16];
        struct buf b = {0};
        snprintf(name, sizeof name, "in/f%d.txt", f);
        for (int i = 0; i < 4000; i++)
            mr__fmt(&b, "w%c%c %c\n", 'a' + (int)prng_below(&r, 26), 'a' + (int)prng_below(&r, 9),
                    'A' + (int)prng_below(&r, 7));
        if (f == 3) b.n--; /* no final newline */
        write_file(name, buf_slice(&b));
        buf_free(&b);
    }
    shell("for f in in/*; do cat $f; echo; done | tr -cs A-Za-z '\\n' | grep . | sort | uniq -c | awk '{print $2 "
          "\"\\t\" $1}' > want");
    return 0;
}

/* What a failed test left must not fail the next. */
static int clear(void **state)
{
    char *cmd = mr__strf("cd '%s' && rm -rf out* work/*", test_dir);
    int rc = system(cmd);
    free(cmd);
    return rc ? -1 : 0;
}

static int drop_inputs(void **state)
{
    buf_free(&said);
    return test_end(state);
}

/* The directory of a worker that is killed at the very end is left to the next job. */
static void right_words(const char *out)
{
    char *cmd =
        mr__strf("cat %s/part-* | sort | cmp - want && test -e %s/_SUCCESS && rm -r %s && ! ls -d out* 2>/dev/null",
                 out, out, out);
    shell(cmd);
    free(cmd);
}

/* ---- the books ---- */

static void check_books(const char *app, const char *const *inputs, const char *command)
{
    struct mr_options o = options(inputs, "out1"), local = options(inputs, "out2");
    o.map = o.reduce = local.map = local.reduce = app;
    local.local = true;
    must_run(&o);
    must_run(&local);
    same_dirs("out1", "out2");
    shell(command);
    shell("rm -r out1 out2");
}

static void the_books(void **state)
{
    if (!books) {
        print_message("skipped: the_books: the books (../shared/data/books) are not here\n");
        skip();
    }
    char *glob = mr__strf("%s/pg-*.txt", books);
    const char *inputs[] = {glob};
    check_books("wc", inputs,
                "test \"$(cat out1/part-* | sort -k2n | tail -10 | tr '\\t\\n' ': ')\" = 'he:34077 was:37044 "
                "that:37495 I:44502 in:46092 a:60558 "
                "to:74357 of:79727 and:93990 the:154024 ' && test $(cat out1/part-* | wc -l) = 65824");
    check_books("ii", inputs,
                "cat out1/part-* | tr '\\t' ' ' | sort -k1,1 | sort -snk2,2 | grep -v 16 | tail -10 > got && test "
                "\"$(cut -d' ' -f1,2 got | tr '\\n' ' ')\" = "
                "'women 15 won 15 wonderful 15 words 15 worked 15 worse 15 wounded 15 yes 15 younger 15 yours 15 '"
                " && grep -q '^words 15 pg-dorian_gray.txt,pg-dracula.txt,pg-emma.txt,.*,pg-war_and_peace.txt$' got");
    char *cmd = mr__strf(
        "cat '%s'/pg-*.txt | tr -cs A-Za-z '\\n' | grep . | sort | uniq -c | awk '{print $2 \"\\t\" $1}' > want-books",
        books);
    shell(cmd);
    struct mr_options o = options(inputs, "out");
    o.map = o.reduce = "wc";
    o.split_bytes = 300000;
    o.reducers = 7;
    o.combine = "none"; /* three million pairs in 8 MiB: they spill */
    o.memory_bytes = 8 * MIB;
    must_run(&o);
    shell("cat out/part-* | sort | cmp - want-books && for p in out/part-*; do sort -c -t '\t' -k1,1 $p || exit 1; "
          "done && rm -r out");
    free(cmd);
    free(glob);
}

/* ---- what a job is made of ---- */

static void any_executable(void **state)
{
    const char *inputs[] = {in_glob()};
    static const char *const combines[] = {NULL, "sum",
                                           "awk -F'\\t' '{n[$1]+=$2} END {for (k in n) print k \"\\t\" n[k]}'"};
    for (int i = 0; i < 3; i++) {
        for (int local = 0; local < 2; local++) {
            struct mr_options o = options(inputs, local ? "out2" : "out1");
            o.map = "tr -cs A-Za-z '\\n' | sed '/^$/d; s/$/\\t1/'";
            o.combine = combines[i];
            o.reduce = SUM;
            o.split_bytes = 5000;
            o.local = local;
            must_run(&o);
        }
        same_dirs("out1", "out2");
        shell("rm -r out2");
        right_words("out1");
    }
}

static void empty_inputs(void **state)
{
    const char *inputs[] = {write_file("empty", (struct slice){0})};
    struct mr_options o = options(inputs, "out");
    o.map = o.reduce = "wc";
    must_run(&o);
    shell("test \"$(ls out)\" = \"$(printf '_SUCCESS\\n_counters\\npart-00000\\npart-00001\\npart-00002')\" && ! grep "
          ". out/part-* && rm -r out");
}

static void shared_object(void **state)
{
    if (!source || system("command -v cc >/dev/null 2>&1")) {
        print_message("skipped: shared_object: there is no cc, or no QFS_SOURCE\n");
        skip();
    }
    char *cmd = mr__strf("cc -O1 -shared -fPIC -I '%s' -o app.so '%s/mr/apps/wc.c'", source, source);
    shell(cmd);
    char *app = mr__strf("%s", in_dir("app.so"));
    const char *inputs[] = {in_glob()};
    struct mr_options o = options(inputs, "out");
    o.map = o.reduce = app;
    o.split_bytes = 20000;
    must_run(&o);
    right_words("out");
    /* One that crashes when a task is run for the first time, the header alone being at hand. */
    shell("mkdir -p alone");
    free(cmd);
    cmd = mr__strf("cp '%s/mr/mr.h' alone/", source);
    shell(cmd);
    write_file("crash.c",
               slice_str("#include \"mr.h\"\n"
                         "static int map(struct mr_ctx *c, const struct mr_record *r)\n"
                         "{\n"
                         "    if (c->attempt == 0 && c->task % 2) *(volatile int *)0 = 1;\n"
                         "    struct mr_bytes k = {r->text.p, 1};\n"
                         "    if (r->text.n) c->emit_number(c, k, 1);\n"
                         "    c->count(c, \"lines\", 1);\n"
                         "    return 0;\n"
                         "}\n"
                         "const struct mr_app mr_application = {.abi = MR_ABI, .unit = MR_LINE, .map = map};\n"));
    shell("cc -shared -fPIC -I alone -o crash.so crash.c");
    char *crash = mr__strf("%s", in_dir("crash.so"));
    o.map = crash;
    o.reduce = "sum";
    must_run(&o);
    /* (AddressSanitizer turns the signal into an exit.) */
    assert_true(has_text(&said, "killed by signal 11") ||
                has_text(&said, "the process that ran the task exited with status 1"));
    shell("test \"$(cat out/part-*)\" = \"$(printf 'w\\t20000')\" && grep -q '\"lines\": 20000' out/_counters && rm -r "
          "out");
    free(cmd);
    free(crash);
    free(app);
}

/* It shows no progress, at which the first Ctrl-C would be seen. */
static void an_application_that_loops_for_ever(void **state)
{
    const char *inputs[] = {in_glob()};
    struct mr_options o = options(inputs, "out");
    siginfo_t info = {0};
    if (!source || system("command -v cc >/dev/null 2>&1")) {
        print_message("skipped: an_application_that_loops_for_ever: there is no cc, or no QFS_SOURCE\n");
        skip();
    }
    write_file("loop.c",
               slice_str("#include \"mr.h\"\n"
                         "#include <fcntl.h>\n"
                         "static int map(struct mr_ctx *c, const struct mr_record *r)\n"
                         "{\n"
                         "    open(c->param(c, \"mark\"), O_CREAT | O_WRONLY, 0600);\n"
                         "    for (volatile int i = 0;;) i = 1;\n"
                         "}\n"
                         "const struct mr_app mr_application = {.abi = MR_ABI, .unit = MR_LINE, .map = map};\n"));
    char *cmd = mr__strf("cc -shared -fPIC -I '%s/mr' -o loop.so loop.c", source);
    shell(cmd);
    free(cmd);
    char *mark = mr__strf("mark=%s", in_dir("mark")), *map = mr__strf("%s", in_dir("loop.so"));
    const char *params[] = {mark};
    o.map = map;
    o.reduce = "sum";
    o.local = true;
    o.params = params;
    o.params_n = 1;
    pid_t job = start_job(&o);
    while (access(strchr(mark, '/'), F_OK) < 0) usleep(2000);
    while (info.si_pid == 0) {
        kill(job, SIGTERM);
        usleep(2000);
        assert_int_equal(waitid(P_PID, (id_t)job, &info, WEXITED | WNOHANG | WNOWAIT), 0);
    }
    assert_int_equal(end_job(job), 1000 + SIGTERM);
    free(map);
    free(mark);
}

static void one_task_alone(void **state)
{
    const char *inputs[] = {in_glob()};
    struct mr_options o = options(inputs, "out");
    o.map = o.reduce = "wc";
    o.reducers = 2;
    o.split_bytes = 7000;
    must_run(&o);
    for (int i = 0; i < 2; i++) {
        o.only = i ? "reduce:1" : "reduce:0";
        must_run(&o);
        said.n--;
        write_file("alone-part", buf_slice(&said));
        shell(i ? "cmp alone-part out/part-00001" : "cmp alone-part out/part-00000");
    }
    o.only = "map:0";
    must_run(&o);
    assert_true(has_text(&said, "A\t"));
    o.only = "map:99999";
    assert_int_equal(run_job(&o), 1);
    assert_true(has_text(&said, "map:99999"));
    right_words("out");
}

/* ---- deaths ---- */

/* Commands that do harm the first time they run: to their worker (the parent of their executor), or by themselves. */
#define WORKER "$(ps -o ppid= $PPID)"
#define ONCE   "test $MR_ATTEMPT != 0 || "

static void harm(const char *map, const char *reduce, uint32_t workers)
{
    const char *inputs[] = {in_glob()};
    struct mr_options o = options(inputs, "out");
    char *m = mr__strf("%s tr -cs A-Za-z '\\n' | sed '/^$/d; s/$/\\t1/'", map);
    char *r = mr__strf("%s " SUM, reduce);
    o.map = m;
    o.reduce = r;
    o.split_bytes = 9000;
    o.workers = (int32_t)workers;
    o.task_timeout_s = 1;
    o.worker_timeout_s = 1;
    must_run(&o);
    right_words("out");
    free(m);
    free(r);
}

static void killed_workers(void **state)
{
    harm("test $((MR_TASK % 3)) != 1 || " ONCE "kill -9 " WORKER ";", "", 2);
    harm("", "test $MR_TASK != 1 || " ONCE "kill -9 " WORKER ";", 2);
    harm("test $((MR_TASK % 4)) != 1 || " ONCE "kill -9 " WORKER ";", ONCE "kill -9 " WORKER ";", 3);
    harm("test $MR_TASK != 0 || " ONCE "kill -9 " WORKER ";", ONCE "kill -9 " WORKER ";", 1);
}

static void killed_executors(void **state)
{
    harm("test $((MR_TASK % 3)) != 1 || " ONCE "kill -9 $PPID;", ONCE "kill -9 $PPID;", 2);
}

static void failing_attempts(void **state)
{
    harm("test $((MR_TASK % 2)) != 1 || test $MR_ATTEMPT -gt 2 || exit 1;", "test $MR_ATTEMPT -gt 2 || exit 1;", 2);
}

static void frozen(void **state)
{
    harm("test $MR_TASK != 1 || " ONCE "exec sleep 1000;", "", 2);
    assert_true(has_text(&said, "no progress for 1 s"));
    harm("test $MR_TASK != 1 || " ONCE "kill -STOP " WORKER ";", "", 2);
    assert_true(has_text(&said, "silent for too long"));
    harm("", "test $MR_TASK != 1 || " ONCE "kill -STOP " WORKER ";", 2);
}

static void damaged_map_outputs(void **state)
{
    static const char *const harms[] = {
        "rm -f", "truncate -s 100",
        "printf 'xxxxxxxx' | dd status=none conv=notrunc bs=1 seek=$(($(stat -c %s \"$f\") - 60)) of="};
    for (int i = 0; i < 3; i++) {
        char *reduce = mr__strf(
            ONCE "test -e '%s' || { touch '%s'; for f in '%s'/*/map-[13]-0; do %s%s\"$f\"; done; } 2>/dev/null;",
            in_dir("done"), in_dir("done"), in_dir("work"), harms[i], i < 2 ? " " : "");
        harm("", reduce, 1); /* the first reduce task does it: the others starve */
        if (!has_text(&said, "cannot read the output of map task"))
            fail_msg("harm %d went unnoticed:\n%s", i, (char *)said.p);
        shell("rm done");
        free(reduce);
    }
}

static pid_t some_child(pid_t of, struct prng *r)
{
    pid_t found = 0;
    uint64_t n = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *e; (e = readdir(d));) {
        char path[300], text[512] = {0};
        int ppid;
        if (e->d_name[0] < '1' || e->d_name[0] > '9') continue;
        snprintf(path, sizeof path, "/proc/%s/stat", e->d_name);
        FILE *f = fopen(path, "r");
        if (!f) continue;
        if (fgets(text, sizeof text, f) && strrchr(text, ')') && sscanf(strrchr(text, ')'), ") %*c %d", &ppid) == 1 &&
            ppid == of && prng_below(r, ++n) == 0)
            found = atoi(e->d_name);
        fclose(f);
    }
    closedir(d);
    return found;
}

/* At any moment: whatever is hit, the bytes are the same. */
static void random_deaths(void **state)
{
    const char *inputs[] = {in_glob()};
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct mr_options o = options(inputs, "out");
        struct prng r;
        int status;
        prng_seed(&r, seed);
        o.map = o.reduce = "wc";
        o.split_bytes = 1000;
        o.workers = 3;
        pid_t job = start_job(&o);
        for (int kills = 0; waitid(P_PID, (id_t)job, &(siginfo_t){0}, WEXITED | WNOHANG | WNOWAIT) == 0 && kills < 8;
             kills++) {
            usleep((useconds_t)prng_below(&r, 40000));
            pid_t worker = some_child(job, &r);
            if (worker && prng_chance(&r, 30)) worker = some_child(worker, &r);
            if (worker > 1) kill(worker, SIGKILL);
        }
        status = end_job(job);
        if (status) fprintf(stderr, "%s", (char *)said.p);
        assert_int_equal(status, 0);
        right_words("out");
    }
}

static void killed_job(void **state)
{
    const char *inputs[] = {in_glob()};
    struct mr_options o = options(inputs, "out");
    for (int i = 0; i < 3; i++) {
        char *go = mr__strf("%s%d", in_dir("go"), i),
             *map = mr__strf("touch '%s'; while test -e '%s'; do sleep 0.01; done", go, go);
        o.map = map;
        o.reduce = "sum";
        o.local = i == 2;
        pid_t job = start_job(&o);
        while (access(go, F_OK) < 0) usleep(2000);
        assert_int_equal(kill(job, i ? SIGTERM : SIGKILL), 0);
        assert_int_equal(end_job(job), i ? 1 : 1000 + SIGKILL);
        assert_true(i == 0 || has_text(&said, "stopped by SIGTERM"));
        shell("test -z \"$(ls -d out* 2>/dev/null)\"");
        unlink(go);
        free(go);
        free(map);
    }
    /* The next job of this output removes what is left of the killed one, but for its workers: they may still wait for
     * another coordinator. */
    o.local = false;
    o.map = o.reduce = "wc";
    must_run(&o);
    shell("cat out/part-* | sort | cmp - want && test -e out/_SUCCESS && test $(ls -d .out.mr-* | wc -l) = 1 && rm -r "
          "out");
}

/* ---- workers that join ---- */

static pid_t start_worker(const char *addr, const char *host)
{
    pid_t pid = fork();
    if (pid) return pid;
    execl("/proc/self/exe", "self", "mr", "worker", "--coordinator", addr, "--workdir", in_dir("work"), "--host", host,
          (char *)NULL);
    _exit(99);
}

/* Bytes that are no worker's: the coordinator closes, and goes on. */
static void bother(const char *path)
{
    static const char *const lines[] = {"GET / HTTP/1.0\r\n\r\n",
                                        "QFS1\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", ""};
    for (int i = 0; i < 3; i++) {
        struct sockaddr_un sa = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        snprintf(sa.sun_path, sizeof sa.sun_path, "%s", path);
        while (connect(fd, (struct sockaddr *)&sa, sizeof sa) < 0) usleep(2000);
        (void)!write(fd, lines[i], strlen(lines[i]));
        if (i < 2) {
            char byte;
            assert_true(read(fd, &byte, 1) <= 0);
        }
        close(fd);
    }
}

/* Three workers of "different machines": map outputs go over the network; in the third round one of them dies while it
 * reduces, and its map outputs with it. In the fourth another one is on its machine and takes them over. */
static void fetched_map_outputs(void **state)
{
    const char *inputs[] = {in_glob()};
    for (int round = 0; round < 4; round++) {
        struct mr_options o = options(inputs, "out");
        char *path = mr__strf("%s", in_dir("sock")), *addr = mr__strf("unix:%s", path);
        int status;
        if (round == 1) {
            free(addr);
            addr = mr__strf("127.0.0.1:%u", 20000 + (unsigned)getpid() % 20000);
        }
        /* No map task ends before all workers are there (with the coordinator's there are four directories). */
        char *map = mr__strf("echo $MR_TASK >> '%s'; "
                             "while [ $(ls -d '%s'/quorumfs-mr-* | wc -l) -lt 4 ]; do sleep 0.01; done; "
                             "tr -cs A-Za-z '\\n' | sed '/^$/d; s/$/\\t1/'",
                             in_dir("ran"), in_dir("work"));
        char *kill_a_third = mr__strf("! grep -aq three /proc/$(echo " WORKER
                                      ")/cmdline || ! mkdir '%s' 2>/dev/null || kill -9 " WORKER "; " SUM,
                                      in_dir("killed"));
        o.map = map;
        o.reduce = round == 2   ? "test $MR_TASK != 1 || " ONCE "kill -9 " WORKER "; " SUM
                   : round == 3 ? kill_a_third
                                : "wc";
        o.split_bytes = 2000;
        o.listen = addr;
        o.workers = -1;
        pid_t job = start_job(&o);
        if (round == 0) bother(path);
        /* A worker cannot wait for a coordinator that does not listen yet. */
        struct buf text = {0};
        while (!has_text(&text, "waiting for workers")) {
            usleep(2000);
            if (access(in_dir("said"), F_OK) < 0) continue;
            buf_free(&text);
            text = read_file(in_dir("said"));
        }
        buf_free(&text);
        pid_t workers[3];
        for (int i = 0; i < 3; i++)
            workers[i] = start_worker(addr, i == 0 ? "one" : i == 1 ? round == 3 ? "three" : "two" : "three");
        status = end_job(job);
        if (status) fprintf(stderr, "%s", (char *)said.p);
        assert_int_equal(status, 0);
        for (int i = 0; i < 3; i++) assert_int_equal(waitpid(workers[i], &status, 0), workers[i]);
        shell("! ls -d work/* 2>/dev/null");
        right_words("out");
        if (round == 3) shell("rmdir killed; test \"$(sort ran | uniq -d)\" = ''");
        shell("rm ran");
        free(map);
        free(kill_a_third);
        free(addr);
        free(path);
    }
}

/* ---- jobs that cannot end well ---- */

static void bad_jobs(void **state)
{
    const char *inputs[] = {in_glob()};
    struct mr_options o = options(inputs, "out");
    o.reduce = "sum";
    o.map = "/no/such/mapper";
    must_fail(&o, (const char *const[]){"/no/such/mapper", NULL});
    o.map = "A=1 no-such-mapper"; /* found out only when it runs */
    o.attempts = 1;
    must_fail(&o, (const char *const[]){"no-such-mapper", "127 (no such program)", ".txt", NULL});
    o.map = "echo 'I cannot go on' >&2; exit 7";
    o.rerun = "--map 'x y' --input z";
    o.attempts = 2;
    must_fail(&o, (const char *const[]){"I cannot go on", "exited with status 7", "failed 2 times", "bytes from byte 0",
                                        "mr task --only map:", " --map 'x y' --input z", NULL});
    o.map = "kill -9 $$";
    must_fail(&o, (const char *const[]){"killed by signal 9", NULL});
    o.local = true;
    must_fail(&o, (const char *const[]){"killed by signal 9", ".txt", NULL});
    o.map = "cat";
    o.reduce = "echo reducer down >&2; exit 3";
    must_fail(&o, (const char *const[]){"reduce task 0 failed", "reducer down", "exited with status 3", NULL});
    o.local = false;
    must_fail(&o, (const char *const[]){"reduce task ", "reducer down", "exited with status 3", "partition ", NULL});
    o.reduce = "sum";
    must_fail(&o, (const char *const[]){"cannot be summed", NULL});
    o.combine = "sum";
    must_fail(&o, (const char *const[]){"values are summed", "is no number", NULL});
    o.combine = "exit 5";
    must_fail(&o, (const char *const[]){"'exit 5' exited with status 5", NULL});
    o.combine = NULL;
    const char *none[] = {in_dir("nothing-*")};
    o.inputs = none;
    must_fail(&o, (const char *const[]){"no input matches", "nothing-*", NULL});
    o.inputs = inputs;
    o.workdir = "/no/such/dir";
    must_fail(&o, (const char *const[]){"/no/such/dir", NULL});
}

static void hopeless_worker_deaths(void **state)
{
    const char *inputs[] = {in_glob()};
    struct mr_options o = options(inputs, "out");
    o.map = "kill -9 " WORKER;
    o.reduce = "sum";
    o.attempts = 1;
    o.workers = 1;
    assert_int_equal(run_job(&o), 1);
    assert_true(has_text(&said, "lost with its worker too often") || has_text(&said, "workers keep dying"));
    shell("test ! -e out");
}

static void json(void **state)
{
    const char *inputs[] = {in_glob()};
    struct mr_options o = options(inputs, "out");
    o.map = o.reduce = "wc";
    o.json = true;
    must_run(&o);
    assert_true(has_text(&said, "{\"event\": \"start\"") && has_text(&said, "\"event\": \"done\""));
    shell("! grep -v '^{.*}$' said");
    assert_int_equal(run_job(&o), 1);
    assert_true(has_text(&said, "exists"));
    o.replace = true;
    must_run(&o);
    right_words("out");
}

/* ---- */

static int subcommand(int argc, char **argv)
{
    struct mr_worker_options w = {0};
    if (strcmp(argv[2], "executor") == 0) return mr_executor();
    for (int i = 3; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--coordinator") == 0) w.coordinator = argv[i + 1];
        if (strcmp(argv[i], "--workdir") == 0) w.workdir = argv[i + 1];
        if (strcmp(argv[i], "--host") == 0) w.host = argv[i + 1];
    }
    return mr_worker(&w);
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "mr") == 0) return subcommand(argc, argv);
    source = getenv("QFS_SOURCE");
    if (source) books = mr__strf("%s/../shared/data/books", source);
    if (books && access(books, F_OK) < 0) books = NULL;
    setenv("LC_ALL", "C", 1);
    alarm(280); /* rather an end than a riddle */
#define T(f) cmocka_unit_test_setup(f, clear)
    const struct CMUnitTest tests[] = {
        T(the_books),
        T(any_executable),
        T(empty_inputs),
        T(shared_object),
        T(an_application_that_loops_for_ever),
        T(one_task_alone),
        T(killed_workers),
        T(killed_executors),
        T(failing_attempts),
        T(frozen),
        T(damaged_map_outputs),
        T(random_deaths),
        T(fetched_map_outputs),
        T(bad_jobs),
        T(hopeless_worker_deaths),
        T(json),
        T(killed_job),
    };
    return cmocka_run_group_tests(tests, make_inputs, drop_inputs);
}
