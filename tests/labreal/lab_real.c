/* lab_real.c --lab raft|kv|later [--test TITLE] [--jobs N] [--dir DIR] [--seed N] [--verbose] - the lab tests by their
 * titles, on real processes in real time. Each title runs in a process and a directory of its own, N of them at a time,
 * as they mostly wait; what they print comes in the order of the titles. A failed title shows the end of its log and of
 * its servers' logs, and keeps its directory. --verbose shows the log of every title. */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/labreal/real.h"

#define TITLES_MAX  64u
#define TITLE_LIMIT 200u /* seconds; a title fails by itself after 120 */
#define SUITE_LIMIT 600u
#define TAIL_BYTES  20000

struct job {
    const struct lab_test *test;
    char *dir, *log;
    pid_t pid; /* 0: not begun, -1: ended */
    int status;
};

static struct job jobs[TITLES_MAX];
static unsigned njobs, passed, failed;
static const char *lab, *title;
static unsigned at_once = 6;
static bool verbose;
static uint64_t seed;
static char dir[2048], programs[4096];

/* ---- one title ---- */

__attribute__((noreturn)) static void run_job(struct job *j)
{
    static char raft_node[4200], quorumfs[4200];
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(TITLE_LIMIT);
    int fd = open(j->log, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0) _exit(1);
    snprintf(raft_node, sizeof raft_node, "%s/raft_node", programs);
    snprintf(quorumfs, sizeof quorumfs, "%s/../../quorumfs", programs);
    real_setup = (struct real_setup){.dir = j->dir, .raft_node = raft_node, .quorumfs = quorumfs};
    j->test->run(j->test, seed + (uint64_t)(j - jobs));
    fflush(stdout);
    _exit(0);
}

static void begin(struct job *j)
{
    check(asprintf(&j->dir, "%s/%02u", dir, (unsigned)(j - jobs)) > 0);
    check(asprintf(&j->log, "%s/log", j->dir) > 0);
    if (mkdir(j->dir, 0755) && errno != EEXIST) {
        fprintf(stderr, "cannot make %s: %s\n", j->dir, err_text(-errno));
        exit(2);
    }
    j->pid = fork();
    if (j->pid == 0) run_job(j);
    if (j->pid < 0) {
        perror("fork");
        exit(2);
    }
}

/* ---- what is printed ---- */

static void show_log(const char *path)
{
    static char text[TAIL_BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    off_t size = lseek(fd, 0, SEEK_END);
    ssize_t n = pread(fd, text, sizeof text, size > TAIL_BYTES ? size - TAIL_BYTES : 0);
    close(fd);
    if (n > 0) printf("%.*s", (int)n, text);
}

static void print_one(const char *name, const struct job *j)
{
    bool good = WIFEXITED(j->status) && WEXITSTATUS(j->status) == 0;
    printf("%s ...\n", name);
    if (good) {
        printf("  ... Passed\n");
        passed++;
        return;
    }
    failed++;
    printf("  ... FAILED");
    if (WIFSIGNALED(j->status)) printf(" (ended by signal %d)", WTERMSIG(j->status));
    printf(", seed %llu, kept in %s\n", (unsigned long long)seed + (uint64_t)(j - jobs), j->dir);
    show_log(j->log);
}

/* The warnings of one that passed are worth to be seen; data is not worth to be kept. */
static void finish(const struct job *j)
{
    char *command;
    print_one(j->test->title, j);
    for (const char *const *also = j->test->also; also && *also; also++) {
        printf("%s ...\n", *also);
        printf(j->status ? "  ... FAILED, see above\n" : "  ... Passed\n");
        *(j->status ? &failed : &passed) += 1;
    }
    if (verbose && !j->status) show_log(j->log);
    fflush(stdout);
    if (j->status) return;
    check(asprintf(&command, "grep -h warning: '%s'; rm -rf '%s'", j->log, j->dir) > 0);
    if (system(command) < 0) perror("rm");
    free(command);
}

/* ---- all of them ---- */

static void add(const struct lab_test *t)
{
    bool wanted = !title || strcmp(t->title, title) == 0;
    for (const char *const *also = t->also; also && *also; also++) wanted |= title && strcmp(*also, title) == 0;
    if (!wanted) return;
    check(njobs < TITLES_MAX);
    jobs[njobs++].test = t;
}

static void run_all(void)
{
    unsigned next = 0, running = 0, shown = 0;
    while (shown < njobs) {
        while (next < njobs && running < at_once) {
            begin(&jobs[next++]);
            running++;
        }
        int status;
        pid_t pid = waitpid(-1, &status, 0);
        for (unsigned i = 0; i < next; i++) {
            if (jobs[i].pid != pid) continue;
            jobs[i].pid = -1;
            jobs[i].status = status;
            running--;
        }
        for (; shown < next && jobs[shown].pid == -1; shown++) finish(&jobs[shown]);
    }
}

static void usage(void)
{
    fprintf(stderr,
            "usage: lab_real --lab raft|kv|later [--test TITLE] [--jobs N] [--dir DIR] [--seed N] [--verbose]\n");
    exit(2);
}

static void find_programs(void)
{
    ssize_t n = readlink("/proc/self/exe", programs, sizeof programs - 1);
    char *slash = n > 0 ? strrchr(programs, '/') : NULL;
    if (slash) *slash = 0;
}

static void read_options(int argc, char **argv)
{
    static const struct option options[] = {{"lab", 1, 0, 'l'},
                                            {"test", 1, 0, 't'},
                                            {"jobs", 1, 0, 'j'},
                                            {"dir", 1, 0, 'd'},
                                            {"seed", 1, 0, 's'},
                                            {"verbose", 0, 0, 'v'},
                                            {0}};
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/lab-real-%d", tmp ? tmp : "/tmp", (int)getpid());
    seed = io_random() % 1000000000;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'l':
            lab = optarg;
            break;
        case 't':
            title = optarg;
            break;
        case 'j':
            at_once = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'd':
            snprintf(dir, sizeof dir, "%s", optarg);
            break;
        case 's':
            seed = strtoull(optarg, NULL, 10);
            break;
        case 'v':
            verbose = true;
            break;
        default:
            usage();
        }
    }
    if (optind < argc || !lab || at_once == 0) usage();
}

static const struct lab_test *suite(void)
{
    if (strcmp(lab, "raft") == 0) return lab_raft_tests;
    if (strcmp(lab, "kv") == 0) return lab_kv_tests;
    return strcmp(lab, "later") == 0 ? lab_later_tests : NULL;
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    find_programs();
    if (mkdir(dir, 0755) && errno != EEXIST) {
        fprintf(stderr, "cannot make %s: %s\n", dir, err_text(-errno));
        return 2;
    }
    const struct lab_test *t = suite();
    if (!t) usage();
    for (; t->title; t++) add(t);
    if (njobs == 0) {
        fprintf(stderr, "there is no test '%s'\n", title);
        return 2;
    }
    alarm(SUITE_LIMIT);
    run_all();
    rmdir(dir);
    printf("%u passed, %u failed\n", passed, failed);
    return failed ? 1 : 0;
}
