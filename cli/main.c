/* main.c - the one program: picks the subcommand. Started as mount.quorumfs (by mount(8) and fstab) it is `quorumfs
 * mount`. */
#include "cli/cli.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *what;
};

static const struct command commands[] = {
    {"up", cmd_up, "start a local cluster and its mount: up --dir DIR [--nodes 3]"},
    {"down", cmd_down, "stop what `up` started: down --dir DIR"},
    {"status", cmd_status, "members, log, disk, mounts and space"},
    {"member", cmd_member, "add, promote, remove, replace, list members"},
    {"transfer", cmd_transfer, "hand leadership over: transfer [ID]"},
    {"recover", cmd_recover, "a majority is lost for good: go on from a copy that is left"},
    {"mount", cmd_mount, "mount a cluster at a directory"},
    {"node", cmd_node, "run one member of a cluster"},
    {"kv", cmd_kv, "get, put, append, delete, cas, list, txn, watch"},
    {"mr", cmd_mr, "run MapReduce jobs on files"},
    {"sim", cmd_sim, "run clusters in virtual time under faults, by seed"},
};

static void print_help(FILE *to)
{
    fprintf(to, "quorumfs " QFS_VERSION ": a replicated filesystem for three to five machines\n\n"
                "usage: quorumfs COMMAND [OPTIONS]     (quorumfs COMMAND --help says more)\n\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].what);
    fprintf(to, "\nbegin with:  quorumfs up --dir ~/qfs  &&  cd ~/qfs/mnt\n");
}

/* Who started us may have closed them; no file of ours may get their numbers and be written to as if it were stderr. */
static void keep_standard_descriptors(void)
{
    int fd;
    do fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= 2);
    if (fd > 2) close(fd);
}

int main(int argc, char **argv)
{
    keep_standard_descriptors();
    signal(SIGPIPE, SIG_IGN);
    const char *base = strrchr(argv[0], '/');
    base = base ? base + 1 : argv[0];
    if (strcmp(base, "mount.quorumfs") == 0) return cmd_mount(argc, argv);
    if (argc < 2) {
        print_help(stderr);
        return EXIT_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        print_help(stdout);
        return EXIT_OK;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("quorumfs " QFS_VERSION "\n");
        return EXIT_OK;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(argv[1], commands[i].name)) return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "quorumfs: there is no command '%s'\n\n", argv[1]);
    print_help(stderr);
    return EXIT_USAGE;
}
