/* cluster.c - which cluster a command talks to, and one client or status call to it. */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int add_member(struct cluster *c, uint64_t id, const char *addr)
{
    if (c->n == RAFT_PEERS_MAX || id == 0 || strlen(addr) >= ADDR_MAX || !strchr(addr, ':')) return -EINVAL;
    for (unsigned i = 0; i < c->n; i++)
        if (c->members[i].id == id) return -EINVAL;
    struct raft_member *m = &c->members[c->n++];
    m->id = id;
    memcpy(m->addr, addr, strlen(addr) + 1);
    return 0;
}

/* The file that `up` writes: a line "quorumfs cluster 1", then "ID ADDR" lines; a unix socket's path is relative to the
 * directory, so that the directory can be moved. */
int cluster_load(const char *dir, struct cluster *out)
{
    char path[4200], line[ADDR_MAX + 64];
    *out = (struct cluster){0};
    if (!realpath(dir, out->dir)) return -errno;
    snprintf(path, sizeof path, "%s/cluster", out->dir);
    FILE *f = fopen(path, "re");
    if (!f) return -errno;
    int err = -EINVAL;
    if (!fgets(line, sizeof line, f) || strcmp(line, "quorumfs cluster 1\n") != 0) goto out;
    while (fgets(line, sizeof line, f)) {
        uint64_t id;
        char *addr = strchr(line, ' '), full[4096 + sizeof line];
        if (!addr) goto out;
        *addr++ = 0;
        addr[strcspn(addr, "\n")] = 0;
        if (!parse_u64(line, &id)) goto out;
        if (strncmp(addr, "unix:", 5) == 0 && addr[5] != '/')
            snprintf(full, sizeof full, "unix:%s/%s", out->dir, addr + 5);
        else
            snprintf(full, sizeof full, "%s", addr);
        if (add_member(out, id, full)) goto out;
    }
    err = out->n ? 0 : -EINVAL;
out:
    fclose(f);
    return err;
}

int cluster_list(const char *spec, struct cluster *out)
{
    char copy[RAFT_PEERS_MAX * (ADDR_MAX + 8)], *save = NULL;
    if (strlen(spec) >= sizeof copy) return -EINVAL;
    memcpy(copy, spec, strlen(spec) + 1);
    for (char *item = strtok_r(copy, ",", &save); item; item = strtok_r(NULL, ",", &save)) {
        char *eq = strchr(item, '=');
        uint64_t id = out->n + 1;
        if (eq) {
            *eq = 0;
            if (!parse_u64(item, &id)) return -EINVAL;
            item = eq + 1;
        }
        if (add_member(out, id, item)) return -EINVAL;
    }
    return out->n ? 0 : -EINVAL;
}

/* The nearest directory upwards from here that `up` made (its mount lies below it). */
static bool find_around(char *dir, size_t size)
{
    if (!getcwd(dir, size)) return false;
    for (;;) {
        char path[4200];
        snprintf(path, sizeof path, "%s/cluster", dir);
        struct stat st;
        if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) return true;
        char *slash = strrchr(dir, '/');
        if (!slash || slash == dir) return false;
        *slash = 0;
    }
}

int cluster_parse(const char *command, const char *spec, struct cluster *out)
{
    char around[4096];
    *out = (struct cluster){0};
    if (!spec) spec = getenv("QUORUMFS_CLUSTER");
    if (!spec && find_around(around, sizeof around)) spec = around;
    if (!spec) return usage_error(command, "which cluster? Give -C DIR (made by `quorumfs up`) or -C HOST:PORT,...");
    struct stat st;
    if (!strchr(spec, ':') || (stat(spec, &st) == 0 && S_ISDIR(st.st_mode))) {
        int err = cluster_load(spec, out);
        if (err == -ENOENT) return usage_error(command, "'%s' is no directory made by `quorumfs up`", spec);
        if (err) return usage_error(command, "cannot read the cluster in '%s': %s", spec, err_text(err));
        return 0;
    }
    if (cluster_list(spec, out))
        return usage_error(command, "'%s' is no list of addresses (HOST:PORT or unix:/PATH, comma-separated)", spec);
    return 0;
}

/* ---- one client ---- */

void cli_client_open(struct cli_client *c, const struct cluster *cluster, const char *name)
{
    const char *addrs[RAFT_PEERS_MAX];
    for (unsigned i = 0; i < cluster->n; i++) addrs[i] = cluster->members[i].addr;
    *c = (struct cli_client){.loop = io_loop_new()};
    io_trace_fd(&c->trace, STDERR_FILENO, TRACE_ERROR);
    struct kv_client_config config = {
        .addrs = addrs, .naddrs = cluster->n, .name = name, .seed = io_random(), .trace = &c->trace};
    c->kv = kv_client_new(io_net(c->loop), io_clock(c->loop), &config);
}

static void closed(void *arg)
{
    struct cli_client *c = arg;
    c->finished = true;
    io_loop_stop(c->loop);
}

void cli_client_close(struct cli_client *c)
{
    c->finished = false;
    struct clock *clock = io_clock(c->loop);
    kv_client_close(c->kv, clock_now(clock) + NS_PER_S, closed, c);
    while (!c->finished) io_loop_run(c->loop);
    kv_client_free(c->kv);
    io_loop_free(c->loop);
}

struct pending {
    struct cli_client *client;
    struct kv_reply *reply;
    struct buf *data;
    int status;
    bool done;
};

static void answered(struct kv_call *call, const struct kv_reply *reply)
{
    struct pending *p = call->arg;
    p->status = reply->status;
    p->done = true;
    if (p->reply) *p->reply = *reply;
    if (p->data) buf_append(p->data, reply->data.p, reply->data.n);
    io_loop_stop(p->client->loop);
}

int cli_call(struct cli_client *c, const struct kv_op *op, uint64_t timeout_ms, struct kv_reply *reply,
             struct buf *data)
{
    struct pending p = {.client = c, .reply = reply, .data = data};
    struct kv_call call = {.op = *op, .done = answered, .arg = &p};
    if (timeout_ms) call.deadline = clock_now(io_clock(c->loop)) + timeout_ms * NS_PER_MS;
    kv_call(c->kv, &call);
    while (!p.done) io_loop_run(c->loop);
    const char *refusal = kv_client_refusal(c->kv);
    if (p.status == -ETIMEDOUT && refusal[0]) fprintf(stderr, "quorumfs: refused by %s\n", refusal);
    return p.status;
}

/* ---- status of one node ---- */

struct status_pending {
    struct io_loop *loop;
    struct buf *text;
    int err;
    bool done;
};

static void status_answered(struct kv_status_call *call, int err, struct slice text)
{
    struct status_pending *p = call->arg;
    p->err = err;
    p->done = true;
    if (!err) buf_append(p->text, text.p, text.n);
    io_loop_stop(p->loop);
}

int cli_node_status(struct io_loop *loop, const char *addr, uint64_t timeout_ms, struct buf *text)
{
    struct status_pending p = {.loop = loop, .text = text};
    struct kv_status_call call = {.done = status_answered, .arg = &p};
    check(strlen(addr) < sizeof call.addr);
    memcpy(call.addr, addr, strlen(addr) + 1);
    call.deadline = clock_now(io_clock(loop)) + timeout_ms * NS_PER_MS;
    kv_status(io_net(loop), io_clock(loop), &call);
    while (!p.done) io_loop_run(loop);
    return p.err;
}

bool status_value(struct slice text, const char *key, char *out, size_t size)
{
    size_t klen = strlen(key);
    const char *p = (const char *)text.p, *end = p + text.n;
    while (p < end) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        if (!eol) eol = end;
        if ((size_t)(eol - p) > klen && memcmp(p, key, klen) == 0 && p[klen] == ' ') {
            size_t n = (size_t)(eol - p) - klen - 1;
            if (n >= size) n = size - 1;
            memcpy(out, p + klen + 1, n);
            out[n] = 0;
            return true;
        }
        p = eol + 1;
    }
    return false;
}
