/* up.c - `quorumfs up` and `quorumfs down`: a local cluster in one directory.
 *
 *   DIR/cluster       the members (cluster.c)         DIR/n1 ..      data directories (each with a locked pid file
 * `lock`) DIR/n1.sock ..    where they listen               DIR/log/       what the processes print DIR/mnt the mount
 * DIR/mnt.pid    locked by the mount process
 *
 * `up` starts what does not run, so it also continues after `down`, a crash or a power cut; `down` stops what these
 * locks name and nothing else. */
#include "cli/cli.h"

#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const char help_up[] = "usage: quorumfs up --dir DIR [--nodes N] [--no-mount] [--wait TIME]\n"
                              "\n"
                              "Starts a cluster of N node processes (default 3) that keep their data in DIR and listen "
                              "on unix sockets there, and mounts\n"
                              "it at DIR/mnt. Returns when the mount serves. Starts only what does not run yet: run it "
                              "again after `down`, a crash or a\n"
                              "power cut; all data is there.\n";
static const char help_down[] =
    "usage: quorumfs down --dir DIR\n"
    "\n"
    "Unmounts DIR/mnt and stops the node processes that `quorumfs up` started there. The data stays.\n";

#define ASK_MOUNT_MS 15000u /* the nodes have answered already */

struct up_args {
    const char *dir;
    uint64_t nodes, wait_ms;
    bool no_mount;
};

static int parse_up(const char *command, const char *help, struct up_args *a, int argc, char **argv)
{
    static const struct option options[] = {{"dir", 1, 0, 'd'},  {"nodes", 1, 0, 'n'}, {"no-mount", 0, 0, 'm'},
                                            {"wait", 1, 0, 'w'}, {"help", 0, 0, 'h'},  {0}};
    *a = (struct up_args){.wait_ms = 60000};
    bool up = strcmp(command, "up") == 0;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'd')
            a->dir = optarg;
        else if (c == 'h') {
            fputs(help, stdout);
            exit(EXIT_OK);
        } else if (c == 'n' && up) {
            if (!parse_u64(optarg, &a->nodes) || a->nodes < 1 || a->nodes > RAFT_PEERS_MAX)
                return usage_error(command, "--nodes wants a number from 1 to 9");
        } else if (c == 'm' && up)
            a->no_mount = true;
        else if (c == 'w' && up) {
            if (!parse_ms(optarg, &a->wait_ms)) return usage_error(command, "--wait wants a time such as 60s");
        } else
            return usage_error(command, "see the options below");
    }
    if (optind < argc) return usage_error(command, "what is '%s'?", argv[optind]);
    if (!a->dir) return usage_error(command, "--dir is needed");
    return 0;
}

/* ---- up ---- */

static int make_dir(const char *path)
{
    if (mkdir(path, 0755) == 0 || errno == EEXIST) return 0;
    return fail(EXIT_FAILED, "cannot make the directory %s: %s", path, err_text(-errno));
}

static int write_cluster(const char *dir, uint64_t nodes)
{
    char path[4200], temp[4300];
    snprintf(path, sizeof path, "%s/cluster", dir);
    snprintf(temp, sizeof temp, "%s.new", path);
    FILE *f = fopen(temp, "we");
    if (!f) return fail(EXIT_FAILED, "cannot write %s: %s", temp, err_text(-errno));
    fprintf(f, "quorumfs cluster 1\n");
    for (uint64_t i = 1; i <= nodes; i++)
        fprintf(f, "%llu unix:n%llu.sock\n", (unsigned long long)i, (unsigned long long)i);
    bool bad = fflush(f) || fsync(fileno(f));
    if (fclose(f) || bad || rename(temp, path)) return fail(EXIT_FAILED, "cannot write %s: %s", path, err_text(-errno));
    return 0;
}

static void unescape(char *s) /* the table writes blanks and backslashes in octal */
{
    char *to = s;
    for (; *s; s++) {
        if (s[0] == '\\' && s[1] && s[2] && s[3]) {
            *to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + s[3] - '0');
            s += 3;
        } else {
            *to++ = *s;
        }
    }
    *to = 0;
}

/* Asked of the kernel's table, not of the path: a call on a mount that has no quorum would wait for one. */
static bool is_mounted(const char *path)
{
    char line[8300], point[4200];
    bool found = false;
    FILE *f = fopen("/proc/self/mounts", "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%*s %4199s", point) != 1) continue;
        unescape(point);
        found = strcmp(point, path) == 0;
    }
    if (f) fclose(f);
    return found;
}

static int prepare(struct up_args *a, char *dir, struct cluster *cluster)
{
    int code = make_dir(a->dir);
    if (code) return code;
    if (!realpath(a->dir, dir)) return fail(EXIT_FAILED, "%s: %s", a->dir, err_text(-errno));
    int err = cluster_load(dir, cluster);
    if (err == -ENOENT) {
        code = write_cluster(dir, a->nodes ? a->nodes : 3);
        if (code) return code;
        err = cluster_load(dir, cluster);
    }
    if (err) return fail(EXIT_FAILED, "%s/cluster is damaged (%s)", dir, err_text(err));
    if (a->nodes && a->nodes != cluster->n)
        return fail(EXIT_USAGE,
                    "the cluster in %s has %u nodes, not %llu: leave --nodes away or take another directory", dir,
                    cluster->n, (unsigned long long)a->nodes);
    static const char *const subs[] = {"log", "mnt"};
    for (size_t i = 0; i < 2; i++) {
        char path[4200];
        snprintf(path, sizeof path, "%s/%s", dir, subs[i]);
        if (is_mounted(path)) continue;
        code = make_dir(path);
        if (code) return code;
    }
    return 0;
}

static pid_t start_process(const char *const *argv, const char *log)
{
    pid_t pid = fork();
    if (pid) return pid;
    setsid();
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC),
        out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (null < 0 || out < 0) _exit(EXIT_FAILED);
    dup2(null, 0);
    dup2(out, 1);
    dup2(out, 2);
    execv(argv[0], (char *const *)argv);
    _exit(127);
}

static pid_t start_node(const char *dir, const struct cluster *cluster, unsigned i)
{
    char id[24], data[4200], log[4200], members[RAFT_PEERS_MAX * (ADDR_MAX + 24)];
    size_t n = 0;
    for (unsigned k = 0; k < cluster->n; k++)
        n += (size_t)snprintf(members + n, sizeof members - n, "%s%llu=%s", k ? "," : "",
                              (unsigned long long)cluster->members[k].id, cluster->members[k].addr);
    snprintf(id, sizeof id, "%llu", (unsigned long long)cluster->members[i].id);
    snprintf(data, sizeof data, "%s/n%s", dir, id);
    snprintf(log, sizeof log, "%s/log/n%s.log", dir, id);
    const char *argv[] = {self_path(), "node",  "--id", id, "--data", data, "--listen", cluster->members[i].addr,
                          "--cluster", members, NULL};
    return start_process(argv, log);
}

/* Starts the nodes that neither run nor were started by us before. */
static int start_missing(const char *dir, const struct cluster *cluster, pid_t *started)
{
    for (unsigned i = 0; i < cluster->n; i++) {
        char path[4200];
        snprintf(path, sizeof path, "%s/n%llu/lock", dir, (unsigned long long)cluster->members[i].id);
        if (started[i] > 0 || pidfile_holder(path)) continue;
        started[i] = start_node(dir, cluster, i);
        if (started[i] < 0) return fail(EXIT_FAILED, "cannot start a process: %s", err_text(-errno));
    }
    return 0;
}

static void print_tail(const char *log)
{
    FILE *f = fopen(log, "re");
    char text[2048];
    if (!f) return;
    if (fseek(f, -(long)(sizeof text - 1), SEEK_END)) rewind(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    text[n] = 0;
    char *from = text; /* the last few lines */
    int lines = 0;
    for (char *p = text + n; p > text; p--)
        if (p[-1] == '\n' && ++lines == 7) {
            from = p;
            break;
        }
    fputs(from, stderr);
    fclose(f);
}

/* True, with the end of its log on stderr, if this process of ours has ended. */
static bool has_ended(const char *dir, const struct cluster *cluster, unsigned i, pid_t pid)
{
    int status;
    char log[4200];
    if (pid <= 0 || waitpid(pid, &status, WNOHANG) != pid) return false;
    snprintf(log, sizeof log, "%s/log/n%llu.log", dir, (unsigned long long)cluster->members[i].id);
    fail(EXIT_FAILED, "node %llu stopped at its start; the end of %s:", (unsigned long long)cluster->members[i].id,
         log);
    print_tail(log);
    return true;
}

/* The cluster works; do the other nodes, too? Each that we started has to; one that ran before and is silent (frozen, or
 * its disk hangs) is only told of. */
static int wait_for_nodes(const char *dir, const struct cluster *cluster, pid_t *started)
{
    struct io_loop *loop = io_loop_new();
    int code = EXIT_OK;
    for (unsigned i = 0; i < cluster->n && !code; i++) {
        struct buf text = {0};
        bool answers = false;
        for (int tries = 0; !code && tries < (started[i] > 0 ? 200 : 3); tries++) {
            answers = cli_node_status(loop, cluster->members[i].addr, 1000, &text) == 0;
            if (answers) break;
            if (has_ended(dir, cluster, i, started[i])) code = EXIT_FAILED;
            else code = start_missing(dir, cluster, started); /* one that was dying when we looked */
            pause_ms(50);
        }
        if (!code && !answers)
            fail(EXIT_FAILED, "node %llu runs but does not answer; its log is in %s/log",
                 (unsigned long long)cluster->members[i].id, dir);
        buf_free(&text);
    }
    io_loop_free(loop);
    return code;
}

/* Nothing served in time: says whether nobody leads or who leads does not answer, and what each node says of itself. */
static int tell_unserved(const char *dir, const struct cluster *cluster, uint64_t wait_ms, int err)
{
    unsigned long long s = (unsigned long long)(wait_ms / 1000);
    struct cluster_facts f;
    struct io_loop *loop = io_loop_new();
    facts_ask(loop, cluster, &f);
    io_loop_free(loop);
    if (f.leader >= 0)
        fail(EXIT_UNREACHABLE,
             "node %llu leads, but within %llu s it has served nothing (%s); the logs are in %s/log (more time: --wait)",
             (unsigned long long)f.nodes[f.leader].member.id, s, err_text(err), dir);
    else
        fail(EXIT_UNREACHABLE,
             "the nodes have elected no leader within %llu s; their logs are in %s/log (more time: --wait)", s, dir);
    status_table(stderr, &f);
    facts_free(&f);
    return EXIT_UNREACHABLE;
}

/* Waits until the cluster has a leader that answers; fails early when a process that we started has ended. A node that
 * was killed a moment ago may hold its lock until its last write is through, so more may be missing than at first. */
static int wait_for_leader(const char *dir, const struct cluster *cluster, pid_t *started, uint64_t wait_ms)
{
    struct cli_client c;
    cli_client_open(&c, cluster, "up");
    struct clock *clock = io_clock(c.loop);
    uint64_t end = clock_now(clock) + wait_ms * NS_PER_MS;
    int code = EXIT_UNREACHABLE, err = 0;
    do {
        struct kv_op op = {.code = KV_GETATTR, .ino = FS_ROOT_INO};
        err = cli_call(&c, &op, 500, NULL, NULL);
        if (err >= 0) code = EXIT_OK;
        else if (err != -ETIMEDOUT) pause_ms(50);
        for (unsigned i = 0; i < cluster->n && code == EXIT_UNREACHABLE; i++)
            if (has_ended(dir, cluster, i, started[i])) code = EXIT_FAILED;
        if (code == EXIT_UNREACHABLE && start_missing(dir, cluster, started)) code = EXIT_FAILED;
    } while (code == EXIT_UNREACHABLE && clock_now(clock) < end);
    cli_client_close(&c);
    return code == EXIT_UNREACHABLE ? tell_unserved(dir, cluster, wait_ms, err) : code;
}

/* Asked by a child: a mount whose process is frozen answers never. 0; -ETIMEDOUT; else what a dead or dying one says. */
static int ask_mount(const char *point)
{
    pid_t child = fork();
    if (child < 0) return -errno;
    if (child == 0) {
        struct stat st;
        _exit(stat(point, &st) == 0 ? 0 : 1);
    }
    int status;
    for (unsigned waited = 0; waited < ASK_MOUNT_MS; waited += 10) {
        if (waitpid(child, &status, WNOHANG) == child) return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ENOTCONN;
        pause_ms(10);
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return -ETIMEDOUT;
}

static int start_mount(const char *dir)
{
    char point[4200], log[4200], pid[4200];
    snprintf(point, sizeof point, "%s/mnt", dir);
    snprintf(log, sizeof log, "%s/log/mnt.log", dir);
    snprintf(pid, sizeof pid, "%s/mnt.pid", dir);
    pid_t holder = pidfile_holder(pid);
    int err = holder && is_mounted(point) ? ask_mount(point) : -ENOTCONN;
    if (!err) return EXIT_OK;
    if (err == -ETIMEDOUT)
        return fail(EXIT_FAILED, "the mount process (pid %d) of %s does not answer: end it (kill -9 %d) and run this again",
                    (int)holder, point, (int)holder);
    if (holder) pidfile_stop(pid, 3000); /* it lives, but unmounted, or it is dying */
    pid_t child = fork();
    if (child < 0) return fail(EXIT_FAILED, "cannot start a process: %s", err_text(-errno));
    if (child == 0) {
        execl(self_path(), self_path(), "mount", "--log", log, "--pidfile", pid, dir, point, (char *)NULL);
        _exit(127);
    }
    int status;
    if (waitpid(child, &status, 0) < 0 || !WIFEXITED(status))
        return fail(EXIT_FAILED, "the mount process died; see %s", log);
    return WEXITSTATUS(status);
}

int cmd_up(int argc, char **argv)
{
    struct up_args a;
    struct cluster cluster;
    char dir[4096], lock_path[4200];
    pid_t started[RAFT_PEERS_MAX] = {0};
    int code = parse_up("up", help_up, &a, argc, argv);
    if (!code) code = prepare(&a, dir, &cluster);
    if (code) return code;
    snprintf(lock_path, sizeof lock_path, "%s/up.pid", dir);
    pid_t holder = 0;
    int lock = pidfile_lock(lock_path, &holder);
    if (lock < 0)
        return fail(EXIT_FAILED, "another `quorumfs up` or `down` (pid %d) is working in %s", (int)holder, dir);
    code = start_missing(dir, &cluster, started);
    if (!code) code = wait_for_leader(dir, &cluster, started, a.wait_ms);
    if (!code) code = wait_for_nodes(dir, &cluster, started);
    if (!code && !a.no_mount) code = start_mount(dir);
    close(lock);
    if (code) return code;
    unsigned now = 0;
    for (unsigned i = 0; i < cluster.n; i++) now += started[i] > 0;
    printf("%u nodes are running (%u of them started now)", cluster.n, now);
    if (!a.no_mount) printf("; mounted at %s/mnt", dir);
    printf("\n");
    return EXIT_OK;
}

/* ---- down ---- */

int cmd_down(int argc, char **argv)
{
    struct up_args a;
    struct cluster cluster;
    char path[4200];
    int code = parse_up("down", help_down, &a, argc, argv);
    if (code) return code;
    int err = cluster_load(a.dir, &cluster);
    if (err) return fail(EXIT_FAILED, "%s is no directory made by `quorumfs up`: %s", a.dir, err_text(err));
    pid_t holder = 0;
    snprintf(path, sizeof path, "%s/up.pid", cluster.dir);
    int lock = pidfile_lock(path, &holder);
    if (lock < 0)
        return fail(EXIT_FAILED, "another `quorumfs up` or `down` (pid %d) is working in %s", (int)holder, cluster.dir);

    snprintf(path, sizeof path, "%s/mnt.pid", cluster.dir);
    /* A file that is still open keeps it from ending by itself; nothing is lost with it, all that it answered is stored. */
    bool ok = pidfile_stop(path, 3000);
    if (!ok) code = fail(EXIT_FAILED, "the mount process (pid %d) does not stop", (int)pidfile_holder(path));
    snprintf(path, sizeof path, "%s/mnt", cluster.dir);
    if (is_mounted(path) && umount2(path, MNT_DETACH) && geteuid() != 0)
        code = fail(EXIT_FAILED, "a dead mount is left at %s: fusermount3 -u %s", path, path);

    unsigned stopped = 0;
    for (unsigned i = 0; i < cluster.n; i++) { /* all of them begin to stop before the first is waited for */
        snprintf(path, sizeof path, "%s/n%llu/lock", cluster.dir, (unsigned long long)cluster.members[i].id);
        pid_t pid = pidfile_holder(path);
        if (pid > 1) {
            kill(pid, SIGTERM);
            stopped++;
        }
    }
    for (unsigned i = 0; i < cluster.n; i++) {
        snprintf(path, sizeof path, "%s/n%llu/lock", cluster.dir, (unsigned long long)cluster.members[i].id);
        if (!pidfile_stop(path, 10000))
            code = fail(EXIT_FAILED, "node %llu does not stop (pid %d)", (unsigned long long)cluster.members[i].id,
                        (int)pidfile_holder(path));
    }
    close(lock);
    if (!code) printf("stopped %u nodes; the data stays in %s\n", stopped, cluster.dir);
    return code;
}
