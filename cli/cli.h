/* cli.h - what the subcommands share: exit codes, the cluster a command talks to, a client to run one operation with. */
#ifndef QFS_CLI_H
#define QFS_CLI_H

#include <stdio.h>

#include "io/io.h"
#include "kv/kv.h"

/* Exit codes of every subcommand. */
enum {
    EXIT_OK = 0,
    EXIT_FAILED = 1,        /* the operation failed; stderr says what and why */
    EXIT_USAGE = 2,         /* the command line makes no sense */
    EXIT_UNREACHABLE = 3,   /* no answer from the cluster within the time allowed */
    EXIT_ABSENT = 4,        /* no such key */
    EXIT_CONFLICT = 5,      /* cas: the value was another one; txn: a condition did not hold */
    EXIT_GONE = 6,          /* watch: events of that revision are no longer kept */
};

int cmd_up(int argc, char **argv);
int cmd_down(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_node(int argc, char **argv);
int cmd_mount(int argc, char **argv);
int cmd_kv(int argc, char **argv);
int cmd_mr(int argc, char **argv);
int cmd_member(int argc, char **argv);
int cmd_transfer(int argc, char **argv);
int cmd_recover(int argc, char **argv);
int cmd_sim(int argc, char **argv);

/* Prints "quorumfs: text" to stderr and returns `code`. */
__attribute__((format(printf, 2, 3))) int fail(int code, const char *fmt, ...);
/* The same, with a hint at --help. Returns EXIT_USAGE. */
__attribute__((format(printf, 2, 3))) int usage_error(const char *command, const char *fmt, ...);
/* "10", "10k", "64M", "1G" to bytes; "500ms", "10s", "2m" to ms. False if it is neither. */
bool parse_bytes(const char *s, uint64_t *out);
bool parse_ms(const char *s, uint64_t *out);
bool parse_u64(const char *s, uint64_t *out);

/* ---- clusters ---- */

struct cluster {
    struct raft_member members[RAFT_PEERS_MAX];
    unsigned n;
    char dir[4096];         /* of a cluster made by `up`: its directory, absolute; else "" */
};

/* SPEC: "ADDR,ADDR,...", "ID=ADDR,ID=ADDR,..." or a directory made by `up`. NULL: $QUORUMFS_CLUSTER, else the cluster that the
 * current directory lies in. Prints what is wrong; 0 or EXIT_USAGE. */
int cluster_parse(const char *command, const char *spec, struct cluster *out);
/* An "ADDR,ADDR,..." or "ID=ADDR,ID=ADDR,..." of different ids into an empty *out. 0 or -EINVAL. */
int cluster_list(const char *spec, struct cluster *out);
/* Reads DIR/cluster. 0 or a negative errno. */
int cluster_load(const char *dir, struct cluster *out);

/* ---- a client for one command ---- */

struct cli_client {
    struct io_loop *loop;
    struct kv_client *kv;
    struct trace trace;
    bool finished;
};
void cli_client_open(struct cli_client *c, const struct cluster *cluster, const char *name);
void cli_client_close(struct cli_client *c);
/* Runs one operation to its end and returns its status (-ETIMEDOUT after timeout_ms). The reply's data is kept in *data (may be
 * NULL), the caller frees it. */
int cli_call(struct cli_client *c, const struct kv_op *op, uint64_t timeout_ms, struct kv_reply *reply, struct buf *data);

/* The text of one node's status (kv_status), or a negative error. */
int cli_node_status(struct io_loop *loop, const char *addr, uint64_t timeout_ms, struct buf *text);
/* The value behind "key " in such a text; false if there is none. */
bool status_value(struct slice text, const char *key, char *out, size_t size);

/* ---- who is in the cluster: cli/facts.c ---- */

/* One node, as it answers and as the leader sees it. */
struct node_facts {
    struct raft_member member;
    bool answered;
    struct buf text;                        /* its status */
    bool is_member, votes, fenced, silent;  /* by the leader's words; is_member: by anybody's who answers */
    char seat[16];                          /* "voter", "learner", "joining", "leaving", "-": no member */
    uint64_t match;                         /* entries it has, by the leader's words */
};
struct cluster_facts {
    struct node_facts nodes[2 * RAFT_PEERS_MAX];
    unsigned n, voters, voters_answer;
    int leader;                             /* place in nodes; -1: none that a majority of the voters could follow */
};
/* Asks the nodes of `cluster` and, through them, all members. */
void facts_ask(struct io_loop *loop, const struct cluster *cluster, struct cluster_facts *out);
void facts_free(struct cluster_facts *f);
/* A line for each node: role, term, commit and applied index, disk. */
void status_table(FILE *to, const struct cluster_facts *f);
struct node_facts *facts_find(struct cluster_facts *f, uint64_t id);    /* NULL: no member, and not asked */
const char *facts_value(const struct node_facts *n, const char *key, char *buf, size_t size);  /* "-": it does not say */

/* ---- files and processes of `up` ---- */

/* Takes the exclusive lock of a pid file and writes our pid: the fd (keep it open), or QE_BUSY with *holder set, or -errno. */
int pidfile_lock(const char *path, pid_t *holder);
/* Between two looks at what other processes do and gives no event to wait for. */
void pause_ms(unsigned ms);
/* The pid of the process that holds the lock of this file; 0: nobody. */
pid_t pidfile_holder(const char *path);
/* SIGTERM, and after `grace_ms` SIGKILL; waits until the lock is free. False if even that did not help. */
bool pidfile_stop(const char *path, uint64_t grace_ms);
/* Turns this process into a background one. The parent waits until the child calls daemon_ready() and exits with its
 * code, passing on `text` to stderr. */
int daemonize(const char *logfile);
void daemon_ready(int code, const char *text);
/* Path of this very program. */
const char *self_path(void);

#endif
