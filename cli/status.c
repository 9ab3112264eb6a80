/* status.c - `quorumfs status`: asks every member and prints a table, or JSON. */
#include "cli/cli.h"

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static const char help[] =
    "usage: quorumfs status [-C CLUSTER | --dir DIR] [--json]\n"
    "\n"
    "Members (role, term, commit and applied index, log on disk, time of a durable write), mounts and space.\n"
    "Exit code 0: there is a leader and a majority answers; 3: not.\n";

static void human_bytes(const char *digits, char *out, size_t size)
{
    uint64_t v;
    if (!parse_u64(digits, &v)) {
        snprintf(out, size, "%s", digits);
        return;
    }
    static const char units[] = " KMGTP";
    double d = (double)v;
    int u = 0;
    while (d >= 1024 && u < 5) {
        d /= 1024;
        u++;
    }
    if (u == 0)
        snprintf(out, size, "%llu", (unsigned long long)v);
    else
        snprintf(out, size, "%.1f%c", d, units[u]);
}

static const char *role_of(const struct node_facts *n, char *buf, size_t size)
{
    bool votes = n->votes || !n->is_member || strcmp(n->seat, "learner") != 0;
    return votes ? facts_value(n, "role", buf, size) : "learner";
}

void status_table(FILE *to, const struct cluster_facts *f)
{
    fprintf(to, "%-4s %-10s %-8s %6s %12s %12s %9s %9s %10s  %s\n", "node", "role", "standing", "term", "commit", "applied",
           "log", "live", "fsync p99", "address");
    for (unsigned i = 0; i < f->n; i++) {
        const struct node_facts *n = &f->nodes[i];
        char b[8][64], log[32], live[32], sync[80];
        if (!n->answered) {
            fprintf(to, "%-4llu %-10s %-8s %6s %12s %12s %9s %9s %10s  %s\n", (unsigned long long)n->member.id, "no answer",
                   "-", "-", "-", "-", "-", "-", "-", n->member.addr);
            continue;
        }
        human_bytes(facts_value(n, "log_disk_bytes", b[0], 64), log, sizeof log);
        human_bytes(facts_value(n, "log_live_bytes", b[0], 64), live, sizeof live);
        snprintf(sync, sizeof sync, "%s us", facts_value(n, "sync_us_p99", b[0], 64));
        fprintf(to, "%-4llu %-10s %-8s %6s %12s %12s %9s %9s %10s  %s%s\n", (unsigned long long)n->member.id,
               role_of(n, b[1], 64), facts_value(n, "standing", b[2], 64), facts_value(n, "term", b[3], 64),
               facts_value(n, "commit", b[4], 64), facts_value(n, "applied", b[5], 64), log, live, sync,
               n->member.addr, n->is_member ? "" : "  (no member)");
    }
}

static void each_line(struct slice text, void (*line)(void *ctx, const char *key, const char *val), void *ctx)
{
    char *copy = xmalloc(text.n + 1), *save = NULL;
    memcpy(copy, text.p, text.n);
    copy[text.n] = 0;
    for (char *l = strtok_r(copy, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
        char *sp = strchr(l, ' ');
        if (!sp) continue;
        *sp = 0;
        line(ctx, l, sp + 1);
    }
    free(copy);
}

static void print_mount(void *ctx, const char *key, const char *val)
{
    if (strncmp(key, "mount.", 6) == 0) printf("  %s\n", val);
}

static void print_rest(const struct node_facts *leader)
{
    char a[64], b[64], total[32], avail[32], used[32];
    human_bytes(facts_value(leader, "disk_total", a, sizeof a), total, sizeof total);
    human_bytes(facts_value(leader, "disk_avail", a, sizeof a), avail, sizeof avail);
    human_bytes(facts_value(leader, "bytes", a, sizeof a), used, sizeof used);
    printf("\nspace: %s of file data in %s files and %s directories; the leader's disk has %s free of %s\n", used,
           facts_value(leader, "files", a, sizeof a), facts_value(leader, "dirs", b, sizeof b), avail, total);
    printf("mounts: %s\n", facts_value(leader, "mounts", a, sizeof a));
    each_line(buf_slice(&leader->text), print_mount, NULL);
}

/* lost.K OFFSET LENGTH NAME */
static void print_lost(void *ctx, const char *key, const char *val)
{
    const struct node_facts *n = ctx;
    unsigned long long off, len;
    int at = 0;
    if (strncmp(key, "lost.", 5) != 0 || sscanf(val, "%llu %llu %n", &off, &len, &at) != 2 || !at) return;
    printf("node %llu: lost, at least in part: bytes %llu to %llu of %s\n", (unsigned long long)n->member.id, off, off + len - 1,
           val + at);
}

/* What needs somebody: members that are waited for, files that have lost bytes. */
static void print_needs(const struct cluster_facts *f)
{
    bool lost = false;
    for (unsigned i = 0; i < f->n; i++) {
        const struct node_facts *n = &f->nodes[i];
        char who[200], bytes[32], parts[32], more[32];
        const char *waits = facts_value(n, "snapshot_waits_for", who, sizeof who);
        if (waits[0] >= '0' && waits[0] <= '9')
            printf("\nnode %llu is not installed yet, it waits for node %s, which may have %s bytes of files that the others have "
                   "lost.\nStart that node; if it is gone for good, remove it (quorumfs member remove).\n",
                   (unsigned long long)n->member.id, who, facts_value(n, "snapshot_waits_bytes", bytes, sizeof bytes));
        uint64_t k;
        if (!parse_u64(facts_value(n, "lost_parts", parts, sizeof parts), &k) || !k) continue;
        if (!lost) printf("\n");
        lost = true;
        each_line(buf_slice(&n->text), print_lost, (void *)n);
        if (facts_value(n, "lost_more", more, sizeof more)[0] == '1')
            printf("node %llu: ... and more; these are listed when there is room and they are read\n",
                   (unsigned long long)n->member.id);
    }
    if (lost) printf("No member has these bytes any more: reading them is EIO. Put the files again from a copy, or delete them.\n");
}

static void add_json(void *ctx, const char *key, const char *val)
{
    uint64_t v;
    bool number = parse_u64(val, &v) && v <= INT64_MAX && strcmp(key, "digest") != 0 && strcmp(key, "cluster") != 0;
    json_object_set_new(ctx, key, number ? json_integer((json_int_t)v) : json_string(val));
}

static void print_json(const struct cluster_facts *f)
{
    json_t *root = json_object(), *members = json_array();
    for (unsigned i = 0; i < f->n; i++) {
        const struct node_facts *n = &f->nodes[i];
        json_t *m = json_object();
        json_object_set_new(m, "id", json_integer((json_int_t)n->member.id));
        json_object_set_new(m, "address", json_string(n->member.addr));
        json_object_set_new(m, "seat", json_string(n->seat));
        json_object_set_new(m, "answered", json_boolean(n->answered));
        if (n->answered) each_line(buf_slice(&n->text), add_json, m);
        json_array_append_new(members, m);
    }
    bool led = f->leader >= 0;
    json_object_set_new(root, "leader",
                        led ? json_integer((json_int_t)f->nodes[f->leader].member.id) : json_null());
    json_object_set_new(root, "quorum", json_boolean(led));
    json_object_set_new(root, "members", members);
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    puts(text);
    free(text);
    json_decref(root);
}

static void print_without_leader(const struct cluster_facts *f)
{
    if (f->voters == 0) {
        printf("\nnone of the nodes that were asked is a member of a cluster, or none answers\n");
        return;
    }
    printf("\nno leader with a majority: %u of %u members answer; writes wait until more are back\n", f->voters_answer,
           f->voters);
}

int cmd_status(int argc, char **argv)
{
    static const struct option options[] = {
        {"dir", 1, 0, 'C'}, {"cluster", 1, 0, 'C'}, {"json", 0, 0, 'j'}, {"help", 0, 0, 'h'}, {0}};
    const char *spec = NULL;
    bool json = false;
    for (int c; (c = getopt_long(argc, argv, "C:", options, NULL)) != -1;) {
        if (c == 'C')
            spec = optarg;
        else if (c == 'j')
            json = true;
        else if (c == 'h') {
            fputs(help, stdout);
            return EXIT_OK;
        } else
            return usage_error("status", "see the options below");
    }
    if (optind < argc) return usage_error("status", "what is '%s'?", argv[optind]);
    struct cluster cluster;
    int code = cluster_parse("status", spec, &cluster);
    if (code) return code;
    struct cluster_facts f;
    struct io_loop *loop = io_loop_new();
    facts_ask(loop, &cluster, &f);
    io_loop_free(loop);
    bool healthy = f.leader >= 0;
    if (json) {
        print_json(&f);
    } else {
        status_table(stdout, &f);
        if (healthy) print_rest(&f.nodes[f.leader]);
        else print_without_leader(&f);
        print_needs(&f);
    }
    facts_free(&f);
    return healthy ? EXIT_OK : EXIT_UNREACHABLE;
}
