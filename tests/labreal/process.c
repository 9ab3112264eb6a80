/* process.c - servers as processes: started on their data directories, ended by SIGKILL. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/labreal/real.h"

#define TAIL_BYTES 3000

static void exited(void *arg, int64_t status, int signum)
{
    struct server *s = arg;
    s->child = NULL;
    if (s->killing) return;
    host_fail(s->host, "server %u ended by itself (exit code %lld, signal %d)", s->at, (long long)status, signum);
}

static void append_member(struct host *h, unsigned i, char *list, size_t size)
{
    char addr[40];
    size_t n = strlen(list);
    proxy_addr(0, i, addr, sizeof addr);
    snprintf(list + n, size - n, "%s%u=%s", n ? "," : "", i + 1, addr);
}

static int open_log(struct server *s)
{
    int fd = open(s->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) host_fail(s->host, "cannot write %s: %s", s->log, err_text(-errno));
    return fd;
}

void process_start(struct server *s)
{
    struct host *h = s->host;
    char id[8], list[512] = "", limit[16];
    for (unsigned i = 0; i < h->opt.n; i++) append_member(h, i, list, sizeof list);
    snprintf(id, sizeof id, "%u", s->at + 1);
    snprintf(limit, sizeof limit, "%d", h->opt.maxraftstate);
    const char *raft[] = {real_setup.raft_node, "--id",  id,          "--data", s->data,
                          "--listen",           s->addr, "--cluster", list,     NULL};
    const char *kv[] = {
        real_setup.quorumfs, "node", "--id", id,    "--data",  s->data,   "--listen", s->addr, "--cluster", list,
        "--segment",         "256k", NULL,   limit, "--eager", "--trail", "0",        NULL};
    if (h->opt.maxraftstate > 0) kv[12] = "--checkpoint";
    int log = open_log(s);
    struct io_child_options o = {.argv = (char *const *)(uintptr_t)(h->opt.integers ? raft : kv),
                                 .stdin_fd = -1,
                                 .stdout_fd = log,
                                 .stderr_fd = log,
                                 .die_with_parent = true,
                                 .exited = exited,
                                 .arg = s};
    check(!s->child);
    s->killing = false;
    int err = io_spawn(h->loop, &o, &s->child);
    close(log);
    if (err) host_fail(h, "cannot run %s: %s", o.argv[0], err_text(err));
    control_begin(s);
}

/* And all that it has said has been heard. */
static bool is_down(void *arg)
{
    const struct server *s = arg;
    return !s->child && !s->control;
}

void process_kill(struct server *s)
{
    if (!s->child) return;
    s->killing = true;
    s->host->kills++;
    control_end(s);
    io_child_kill(s->child, SIGKILL);
    if (!host_wait(s->host, is_down, s, 30000)) host_fail(s->host, "server %u does not die", s->at);
}

/* ---- for a failure's report ---- */

void process_show_logs(struct host *h)
{
    char text[TAIL_BYTES];
    for (unsigned i = 0; i < h->opt.n; i++) {
        int fd = open(h->servers[i].log, O_RDONLY | O_CLOEXEC);
        if (fd < 0) continue;
        off_t end = lseek(fd, 0, SEEK_END);
        ssize_t n = pread(fd, text, sizeof text, end > TAIL_BYTES ? end - TAIL_BYTES : 0);
        close(fd);
        printf("## the end of %s\n%.*s", h->servers[i].log, n > 0 ? (int)n : 0, text);
    }
}
