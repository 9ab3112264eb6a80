/* mount.c - `quorumfs mount` and mount.quorumfs: one mount process. It goes into the background once the mount serves.
 */
#include "cli/cli.h"
#include "mount/mount.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char help[] =
    "usage: quorumfs mount [OPTIONS] CLUSTER MOUNTPOINT\n"
    "\n"
    "Mounts a cluster. CLUSTER is HOST:PORT,HOST:PORT,... or a directory made by `quorumfs up`. Returns when the mount "
    "serves;\n"
    "unmount with `umount MOUNTPOINT` (or fusermount3 -u). Also works as `mount -t quorumfs CLUSTER MOUNTPOINT`.\n"
    "  -o OPTIONS       comma-separated: ro, rw, soft (fail with ETIMEDOUT instead of waiting for ever), timeout=TIME "
    "(for\n"
    "                   soft, default 30s), allow_other (default as root), private (not allow_other), wait=TIME (how "
    "long to\n"
    "                   wait for the cluster at the start, default 60s); what mount(8) and fstab add is accepted\n"
    "  -f               stay in the foreground\n"
    "  --log FILE       where warnings go (default: nowhere in the background, stderr with -f)\n"
    "  --pidfile FILE   locked by the mount process as long as it lives\n"
    "  --trace          log every request\n";

struct args {
    const char *cluster_spec, *mountpoint, *log, *pidfile;
    bool foreground, trace, readonly, soft, private_mount, allow_other;
    uint64_t timeout_ms, wait_ms;
};

struct process {
    struct io_loop *loop;
    struct kv_client *client;
    struct mount *mount;
    struct io_watch *watch;
    struct trace trace;
    struct kv_call probe;
    bool serving, closing;
    int code;
    const struct args *args;
};

static int parse_mount_options(struct args *a, char *list)
{
    static const char *const ignored[] = {"rw",    "nofail", "_netdev",  "auto",     "noauto",     "user",
                                          "users", "nouser", "defaults", "nosuid",   "suid",       "nodev",
                                          "dev",   "exec",   "noatime",  "relatime", "nodiratime", "async"};
    char *save = NULL;
    for (char *o = strtok_r(list, ",", &save); o; o = strtok_r(NULL, ",", &save)) {
        bool known = strncmp(o, "x-", 2) == 0 || strncmp(o, "comment=", 8) == 0;
        for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) known |= !strcmp(o, ignored[i]);
        if (known) continue;
        if (!strcmp(o, "ro"))
            a->readonly = true;
        else if (!strcmp(o, "soft"))
            a->soft = true;
        else if (!strcmp(o, "hard"))
            a->soft = false;
        else if (!strcmp(o, "allow_other"))
            a->allow_other = true;
        else if (!strcmp(o, "private"))
            a->private_mount = true;
        else if (!strncmp(o, "timeout=", 8) && parse_ms(o + 8, &a->timeout_ms) && a->timeout_ms)
            continue;
        else if (!strncmp(o, "wait=", 5) && parse_ms(o + 5, &a->wait_ms))
            continue;
        else
            return usage_error("mount", "-o %s: there is no such option", o);
    }
    return 0;
}

static int parse_args(struct args *a, int argc, char **argv)
{
    static const struct option options[] = {
        {"log", 1, 0, 'l'}, {"pidfile", 1, 0, 'p'}, {"trace", 0, 0, 't'}, {"help", 0, 0, 'h'}, {0}};
    *a = (struct args){.timeout_ms = 30000, .wait_ms = 60000};
    for (int c; (c = getopt_long(argc, argv, "o:fnvs", options, NULL)) != -1;) {
        int err = 0;
        switch (c) {
        case 'o':
            err = parse_mount_options(a, optarg);
            break;
        case 'f':
            a->foreground = true;
            break;
        case 'n':
        case 'v':
        case 's':
            break; /* mount(8) may pass them on */
        case 'l':
            a->log = optarg;
            break;
        case 'p':
            a->pidfile = optarg;
            break;
        case 't':
            a->trace = true;
            break;
        case 'h':
            fputs(help, stdout);
            exit(EXIT_OK);
        default:
            return usage_error("mount", "see the options below");
        }
        if (err) return err;
    }
    if (argc - optind != 2) return usage_error("mount", "CLUSTER and MOUNTPOINT are needed");
    a->cluster_spec = argv[optind];
    a->mountpoint = argv[optind + 1];
    return 0;
}

/* ---- the running process ---- */

static void client_closed(void *arg)
{
    struct process *p = arg;
    io_loop_stop(p->loop);
}

static void finish(struct process *p)
{
    if (p->closing) return;
    p->closing = true;
    if (p->watch) io_watch_stop(p->watch);
    p->watch = NULL;
    struct clock *clock = io_clock(p->loop);
    kv_client_close(p->client, clock_now(clock) + 2 * NS_PER_S, client_closed, p);
}

static void fuse_readable(void *arg)
{
    struct process *p = arg;
    if (!mount_ready(p->mount)) finish(p);
}

static void on_signal(void *arg, int signum)
{
    struct process *p = arg;
    if (!p->serving)
        io_loop_stop(p->loop);
    else
        mount_unmount(p->mount);
}

/* The cluster has answered: from here on the mount serves. */
static void cluster_answered(struct kv_call *call, const struct kv_reply *reply)
{
    struct process *p = call->arg;
    if (reply->status < 0) {
        char text[512];
        snprintf(text, sizeof text,
                 "quorumfs: no answer from the cluster %s within %llu s (%s): are its nodes running? (quorumfs status "
                 "-C %s)\n",
                 p->args->cluster_spec, (unsigned long long)(p->args->wait_ms / 1000), err_text(reply->status),
                 p->args->cluster_spec);
        daemon_ready(EXIT_UNREACHABLE, text);
        p->code = EXIT_UNREACHABLE;
        io_loop_stop(p->loop);
        return;
    }
    struct buf why = {0};
    struct mount_options o = {.mountpoint = p->args->mountpoint,
                              .allow_other = p->args->allow_other || (geteuid() == 0 && !p->args->private_mount),
                              .readonly = p->args->readonly,
                              .debug = p->args->trace,
                              .soft_timeout_ms = p->args->soft ? p->args->timeout_ms : 0,
                              .fsname = p->args->cluster_spec,
                              .trace = &p->trace};
    int err = mount_new(io_clock(p->loop), &o, &p->mount, &why);
    if (err) {
        char text[1024];
        snprintf(text, sizeof text, "quorumfs: cannot mount at %s: %.*s\n", p->args->mountpoint, (int)why.n, why.p);
        daemon_ready(EXIT_FAILED, text);
        p->code = EXIT_FAILED;
        buf_free(&why);
        io_loop_stop(p->loop);
        return;
    }
    mount_start(p->mount, p->client);
    p->watch = io_watch_readable(p->loop, mount_fd(p->mount), fuse_readable, p);
    p->serving = true;
    daemon_ready(EXIT_OK, NULL);
}

static void lost(void *arg)
{
    struct process *p = arg;
    if (p->mount) mount_session_lost(p->mount);
}

static void owed(void *arg)
{
    struct process *p = arg;
    if (p->mount) mount_owed(p->mount);
}

static int serve(const struct args *a, const struct cluster *cluster)
{
    struct process p = {.args = a, .loop = io_loop_new()};
    char name[512], host[128] = "?";
    const char *addrs[RAFT_PEERS_MAX];
    io_trace_fd(&p.trace, STDERR_FILENO, a->trace ? TRACE_DEBUG : TRACE_INFO);
    gethostname(host, sizeof host - 1);
    snprintf(name, sizeof name, "%s:%s", host, a->mountpoint);
    for (unsigned i = 0; i < cluster->n; i++) addrs[i] = cluster->members[i].addr;
    struct kv_client_config config = {.addrs = addrs,
                                      .naddrs = cluster->n,
                                      .name = name,
                                      .mount = true,
                                      .seed = io_random(),
                                      .trace = &p.trace,
                                      .session_lost = lost,
                                      .owed = owed,
                                      .arg = &p};
    p.client = kv_client_new(io_net(p.loop), io_clock(p.loop), &config);
    p.probe = (struct kv_call){.op = {.code = KV_GETATTR, .ino = FS_ROOT_INO}, .done = cluster_answered, .arg = &p};
    p.probe.deadline = clock_now(io_clock(p.loop)) + a->wait_ms * NS_PER_MS;
    kv_call(p.client, &p.probe);
    io_on_signal(p.loop, SIGTERM, on_signal, &p);
    io_on_signal(p.loop, SIGINT, on_signal, &p);
    io_loop_run(p.loop);
    if (p.watch) io_watch_stop(p.watch);
    if (p.mount) mount_free(p.mount);
    kv_client_free(p.client);
    io_loop_free(p.loop);
    return p.code;
}

int cmd_mount(int argc, char **argv)
{
    struct args a;
    struct cluster cluster;
    char mountpoint[4096];
    int code = parse_args(&a, argc, argv);
    if (code) return code;
    code = cluster_parse("mount", a.cluster_spec, &cluster);
    if (code) return code;
    /* A dead mount answers ENOTCONN here; mount_new repairs it. */
    struct stat st;
    if (stat(a.mountpoint, &st) && errno != ENOTCONN)
        return fail(EXIT_FAILED, "mount point %s: %s", a.mountpoint, err_text(-errno));
    if (realpath(a.mountpoint, mountpoint)) a.mountpoint = mountpoint;
    int lock = -1;
    if (!a.foreground) {
        int err = daemonize(a.log);
        if (err) return fail(EXIT_FAILED, "cannot go into the background: %s", err_text(err));
    }
    if (a.pidfile) {
        pid_t holder = 0;
        lock = pidfile_lock(a.pidfile, &holder);
        if (lock < 0) {
            char text[4400];
            if (lock == QE_BUSY)
                snprintf(text, sizeof text, "quorumfs: a mount process with pid file %s runs already (pid %d)\n",
                         a.pidfile, (int)holder);
            else
                snprintf(text, sizeof text, "quorumfs: pid file %s: %s\n", a.pidfile, err_text(lock));
            daemon_ready(EXIT_FAILED, text);
            return EXIT_FAILED;
        }
    }
    code = serve(&a, &cluster);
    if (lock >= 0) close(lock);
    return code;
}
