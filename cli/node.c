/* node.c - `quorumfs node`: one member process. */
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char help[] =
    "usage: quorumfs node --id N --data DIR --listen ADDR [--cluster ID=ADDR,ID=ADDR,... | --join ADDR,...]\n"
    "\n"
    "Runs one member of a cluster in the foreground until SIGTERM or SIGINT.\n"
    "  --id N            this member's number, one of those in --cluster\n"
    "  --data DIR        its data directory (made if missing; one process at a time)\n"
    "  --listen ADDR     where peers and clients connect: HOST:PORT or unix:/PATH\n"
    "  --cluster LIST    all members, the same list everywhere: 1=host1:7100,2=host2:7100,...\n"
    "                    It forms a new cluster. Later the data directory knows the members, and what `quorumfs member`\n"
    "                    changed holds; the list is then not needed\n"
    "  --join LIST       members of a running cluster: this node waits to be added (quorumfs member add N=ADDR)\n"
    "  --heartbeat TIME  default 100ms           --election TIME  default 300ms\n"
    "  --no-lease-reads  confirm every read with a majority (clocks that drift by more than 0.1 %)\n"
    "  --checkpoint SIZE log behind the last checkpoint that makes a new one, default 64M: it is replayed after a restart\n"
    "  --eager           makes it at that size even where the checkpoint is the larger of the two\n"
    "  --trail SIZE      log kept behind a checkpoint for followers that lag, default 32M\n"
    "  --segment SIZE    size of a log segment, default 16M\n"
    "  --trace           log every step to stderr\n";

struct process {
    struct io_loop *loop;
    struct kv_server *server;
    struct trace trace;
    int code;
    bool stopping;
};

static void stopped(void *arg)
{
    struct process *p = arg;
    io_loop_stop(p->loop);
}

static void on_signal(void *arg, int signum)
{
    struct process *p = arg;
    if (p->stopping) { /* asked twice: at once */
        stopped(p);
        return;
    }
    p->stopping = true;
    kv_server_stop(p->server, stopped, p);
}

static void on_fatal(void *arg, int err, const char *text)
{
    struct process *p = arg;
    fail(EXIT_FAILED, "this node stops: %s (%s)", text, err_text(err));
    p->code = EXIT_FAILED;
    io_loop_stop(p->loop);
}

/* Each client is an open file; some are kept back for the disk, the peers and what libraries open. */
static void bound_clients(struct process *p, struct kv_server_config *config)
{
    const uint64_t files = io_files_max(), reserve = 512, left = files > reserve + 64 ? files - reserve : 64;
    config->strangers_max = (uint32_t)min_u64(KV_STRANGERS_MAX, left / 8);
    config->clients_max = (uint32_t)min_u64(KV_CLIENTS_MAX, left - left / 8);
    if (config->clients_max < KV_CLIENTS_MAX)
        trace_warn(&p->trace, "at most %u clients: this process may open %llu files only (ulimit -n)", config->clients_max,
                   (unsigned long long)files);
}

static int serve(struct process *p, const char *data, struct kv_server_config *config)
{
    struct disk *disk;
    struct buf why = {0};
    p->loop = io_loop_new();
    bound_clients(p, config);
    int code = EXIT_FAILED;
    int err = io_disk_open(p->loop, data, &disk, &why);
    if (err) {
        fail(code, "data directory %s: %.*s", data, (int)why.n, why.p);
        goto out_loop;
    }
    err = kv_server_new(disk, io_net(p->loop), io_clock(p->loop), config, &p->server, &why);
    if (err) {
        fail(code, "node %llu (%s): %.*s", (unsigned long long)config->node.id, data, (int)why.n, why.p);
        goto out_disk;
    }
    io_on_signal(p->loop, SIGTERM, on_signal, p);
    io_on_signal(p->loop, SIGINT, on_signal, p);
    io_loop_run(p->loop);
    code = p->code;
    io_disk_close(disk); /* first: its threads may still write from the server's buffers */
    kv_server_free(p->server);
    goto out_loop;
out_disk:
    io_disk_close(disk);
out_loop:
    io_loop_free(p->loop);
    buf_free(&why);
    return code;
}

static bool is_member(const struct cluster *c, uint64_t id)
{
    for (unsigned i = 0; i < c->n; i++)
        if (c->members[i].id == id) return true;
    return false;
}

int cmd_node(int argc, char **argv)
{
    static const struct option options[] = {
        {"id", 1, 0, 'i'},        {"data", 1, 0, 'd'},     {"listen", 1, 0, 'l'},         {"cluster", 1, 0, 'c'},
        {"heartbeat", 1, 0, 'b'}, {"election", 1, 0, 'e'}, {"no-lease-reads", 0, 0, 'n'}, {"checkpoint", 1, 0, 'k'},
        {"eager", 0, 0, 'E'},     {"trail", 1, 0, 'r'},    {"join", 1, 0, 'j'},
        {"segment", 1, 0, 's'},   {"trace", 0, 0, 't'},    {"help", 0, 0, 'h'},           {0}};
    struct process p = {0};
    struct kv_server_config config = {.node = {.lease_reads = true}, .fatal = on_fatal, .fatal_arg = &p};
    const char *data = NULL, *members = NULL, *join = NULL;
    enum trace_level level = TRACE_INFO;
    uint64_t v;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 'i':
            if (!parse_u64(optarg, &config.node.id) || !config.node.id)
                return usage_error("node", "--id wants a number greater than 0");
            break;
        case 'd':
            data = optarg;
            break;
        case 'l':
            config.listen = optarg;
            break;
        case 'c':
            members = optarg;
            break;
        case 'j':
            join = optarg;
            break;
        case 'b':
        case 'e':
            if (!parse_ms(optarg, &v) || v < 5 || v > 60000)
                return usage_error("node", "'%s' is no time between 5ms and 60s", optarg);
            *(c == 'b' ? &config.node.heartbeat_ms : &config.node.election_ms) = (uint32_t)v;
            break;
        case 'n':
            config.node.lease_reads = false;
            break;
        case 'k':
            if (!parse_bytes(optarg, &config.node.checkpoint_bytes) || config.node.checkpoint_bytes < 1000)
                return usage_error("node", "--checkpoint wants a size of at least 1000 bytes");
            break;
        case 'E':
            config.node.checkpoint_eager = true;
            break;
        case 'r':
            if (!parse_bytes(optarg, &v)) return usage_error("node", "--trail wants a size");
            config.node.log.trail_bytes = max_u64(v, 1); /* 0 means the default there */
            break;
        case 's':
            if (!parse_bytes(optarg, &v) || v % 4096 || v < 64 * KIB || v > LOG_SEGMENT_MAX)
                return usage_error("node", "--segment wants a multiple of 4k from 64k to 256M");
            config.node.log.segment_bytes = (uint32_t)v;
            break;
        case 't':
            level = TRACE_DEBUG;
            break;
        case 'h':
            fputs(help, stdout);
            return EXIT_OK;
        default:
            return usage_error("node", "see the options below");
        }
    }
    if (optind < argc) return usage_error("node", "what is '%s'?", argv[optind]);
    if (!config.node.id || !data || !config.listen)
        return usage_error("node", "--id, --data and --listen are needed, and --cluster or --join the first time");
    if (members && join) return usage_error("node", "--cluster forms a cluster, --join waits to be added to one: not both");
    if (strlen(config.listen) >= ADDR_MAX) return usage_error("node", "the address given to --listen is too long");
    uint32_t heartbeat = config.node.heartbeat_ms ? config.node.heartbeat_ms : 100,
             election = config.node.election_ms ? config.node.election_ms : 300;
    if (election < 2 * heartbeat)
        return usage_error("node", "--election must be at least twice --heartbeat (now %u ms and %u ms)", election,
                           heartbeat);
    struct cluster cluster = {0};
    int code = members || join ? cluster_parse("node", members ? members : join, &cluster) : EXIT_OK;
    if (code) return code;
    config.node.join = join != NULL;
    if (members && !is_member(&cluster, config.node.id)) {
        fprintf(stderr,
                "quorumfs: node %llu is not a member in --cluster %s; to have it added to that cluster, start it with "
                "--join instead and say: quorumfs member add %llu=ADDR -C ...\n",
                (unsigned long long)config.node.id, members, (unsigned long long)config.node.id);
        return EXIT_FAILED;
    }
    if (members) {
        memcpy(config.node.members, cluster.members, sizeof cluster.members);
        config.node.nmembers = cluster.n;
    }
    config.node.seed = io_random();
    io_trace_fd(&p.trace, STDERR_FILENO, level);
    config.trace = config.node.trace = &p.trace;
    return serve(&p, data, &config);
}
