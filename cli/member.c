/* member.c - `quorumfs member` and `quorumfs transfer`: who is in the cluster, and who leads.
 *
 * Every command finds the leader and asks it; the leader's node decides (raft/member.c), waits where waiting helps, and
 * says why not. If the leader changes meanwhile the next one is asked, so each command can be repeated after any
 * interruption and goes on where things stand. */
#include "cli/cli.h"

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static const char help[] =
    "usage: quorumfs member list [--json]\n"
    "       quorumfs member add ID=ADDR [--learner]\n"
    "       quorumfs member promote ID\n"
    "       quorumfs member remove ID\n"
    "       quorumfs member replace OLD NEW=ADDR\n"
    "\n"
    "  list      all members: voter, learner (gets all data, has no vote), and how far each is\n"
    "  add       the node must be running: quorumfs node --id ID --data DIR --listen ADDR --join ADDR,...\n"
    "            It is fed as a learner, and gets a vote when it has caught up (--learner: it stays one)\n"
    "  promote   a learner gets a vote as soon as it has caught up\n"
    "  remove    also of a dead one, and of the leader (which hands over)\n"
    "  replace   add NEW, let it catch up, give it a vote, remove OLD. Run it again after any interruption\n"
    "\n"
    "  -C CLUSTER      as everywhere; one living member's address will do\n"
    "  --timeout TIME  give up waiting then, default 60s; what was begun goes on or can be repeated\n"
    "Exit codes: 0 done (or it was so already), 1 refused (stderr says why), 2 usage, 3 no leader or not in time.\n";

static const char transfer_help[] =
    "usage: quorumfs transfer [-C CLUSTER] [--timeout TIME] [ID]\n"
    "\n"
    "Hands leadership over to member ID, or to the voter that has most. Writes wait a few milliseconds, none is lost.\n";

struct job {
    struct io_loop *loop;
    struct cluster cluster;
    uint64_t deadline, timeout_ms;
    bool learner, json;
    struct cluster_facts f;
};

static uint64_t now(struct job *j) { return clock_now(io_clock(j->loop)); }

/* ---- the leader ---- */

static void refresh(struct job *j)
{
    facts_free(&j->f);
    facts_ask(j->loop, &j->cluster, &j->f);
}

static int no_leader(const struct job *j)
{
    char missing[1024] = "";
    size_t at = 0;
    for (unsigned i = 0; i < j->f.n; i++) {
        const struct node_facts *n = &j->f.nodes[i];
        if (n->answered || (j->f.voters && !n->votes) || at + ADDR_MAX + 40 > sizeof missing) continue;
        at += (size_t)snprintf(missing + at, sizeof missing - at, "%snode %llu (%s)", at ? ", " : "",
                               (unsigned long long)n->member.id, n->member.addr);
    }
    if (j->f.voters == 0) return fail(EXIT_UNREACHABLE, "no member of the cluster answers: %s", at ? missing : "-");
    return fail(EXIT_UNREACHABLE,
                "there is no leader: %u of %u voters answer, %u are needed%s%s. Bring them back first; if that is "
                "impossible for good, see quorumfs recover --help",
                j->f.voters_answer, j->f.voters, j->f.voters / 2 + 1, at ? "; missing: " : "", missing);
}

/* An election may be under way. */
static int find_leader(struct job *j)
{
    for (;;) {
        refresh(j);
        if (j->f.leader >= 0) return EXIT_OK;
        bool soon = j->f.voters_answer > j->f.voters / 2;
        if (!soon || now(j) >= j->deadline) return no_leader(j);
        pause_ms(100);
    }
}

struct pending {
    struct io_loop *loop;
    struct buf text;
    int err;
    bool done;
};

static void answered(struct kv_admin_call *call, int err, struct slice text)
{
    struct pending *p = call->arg;
    p->err = err;
    p->done = true;
    buf_clear(&p->text);
    if (text.n) buf_append(&p->text, text.p, text.n);
    io_loop_stop(p->loop);
}

/* Asks the leader, whoever that is by now. 0, or a negative error with a text in *why. */
static int ask_leader(struct job *j, enum kv_admin_what what, uint64_t id, const char *addr, struct buf *why)
{
    struct pending p = {.loop = j->loop};
    char to[ADDR_MAX];
    memcpy(to, j->f.nodes[j->f.leader].member.addr, sizeof to);
    for (;;) {
        uint64_t left = j->deadline > now(j) ? (j->deadline - now(j)) / NS_PER_MS : 0;
        struct kv_admin_call call = {.what = what, .id = id, .wait_ms = (uint32_t)left, .done = answered, .arg = &p};
        memcpy(call.addr, to, sizeof to);
        if (addr) memcpy(call.member_addr, addr, strlen(addr) + 1);
        call.deadline = j->deadline + 2 * NS_PER_S;
        p.done = false;
        kv_admin(io_net(j->loop), io_clock(j->loop), &call);
        while (!p.done) io_loop_run(j->loop);
        bool moved = p.err == QE_NOT_LEADER || p.err == -ECONNRESET || p.err == -ECONNREFUSED || p.err == -EPIPE;
        if (!moved || now(j) >= j->deadline) break;
        pause_ms(50);
        if (call.leader && call.leader_addr[0]) {
            memcpy(to, call.leader_addr, sizeof to);
        } else {
            int code = find_leader(j);
            if (code) break;
            memcpy(to, j->f.nodes[j->f.leader].member.addr, sizeof to);
        }
    }
    buf_clear(why);
    if (p.text.n) buf_append(why, p.text.p, p.text.n);
    else buf_append(why, err_text(p.err), strlen(err_text(p.err)));
    buf_free(&p.text);
    return p.err;
}

/* Prints what came of it. */
static int ask(struct job *j, enum kv_admin_what what, uint64_t id, const char *addr, const char *done)
{
    static const char *const verbs[] = {"", "add", "promote", "remove", "hand over to"};
    struct buf why = {0};
    int err = ask_leader(j, what, id, addr, &why);
    int code = EXIT_OK;
    if (err == 0)
        printf("node %llu: %s\n", (unsigned long long)id, done);
    else if (err == -EALREADY)
        printf("node %llu: %.*s\n", (unsigned long long)id, (int)why.n, why.p);
    else {
        bool late = err == -EAGAIN || err == -ETIMEDOUT || err == QE_BUSY || err == QE_NOT_LEADER;
        code = fail(late ? EXIT_UNREACHABLE : EXIT_FAILED, "cannot %s node %llu: %.*s", verbs[what],
                    (unsigned long long)id, (int)why.n, (const char *)why.p);
    }
    fflush(stdout);
    buf_free(&why);
    return code;
}

/* ---- the commands ---- */

static bool is_voter(struct job *j, uint64_t id)
{
    const struct node_facts *n = facts_find(&j->f, id);
    return n && n->is_member && (strcmp(n->seat, "voter") == 0 || strcmp(n->seat, "joining") == 0);
}

static bool is_member(struct job *j, uint64_t id)
{
    const struct node_facts *n = facts_find(&j->f, id);
    return n && n->is_member;
}

/* Is the node that is to be added there, and is it the one that is meant? */
static int check_candidate(struct job *j, uint64_t id, const char *addr)
{
    struct buf text = {0};
    char v[64], ours[64];
    uint64_t got;
    int code = EXIT_OK;
    if (cli_node_status(j->loop, addr, 3000, &text)) {
        code = fail(EXIT_UNREACHABLE,
                    "node %llu does not answer at %s. Start it first:\n"
                    "  quorumfs node --id %llu --data DIR --listen %s --join %s",
                    (unsigned long long)id, addr, (unsigned long long)id, addr,
                    j->f.nodes[j->f.leader].member.addr);
    } else if (!status_value(buf_slice(&text), "id", v, sizeof v) || !parse_u64(v, &got) || got != id) {
        code = fail(EXIT_FAILED, "the node at %s is node %s, not node %llu", addr, v, (unsigned long long)id);
    } else if (status_value(buf_slice(&text), "cluster", v, sizeof v) && strspn(v, "0") != strlen(v) &&
               strcmp(v, facts_value(&j->f.nodes[j->f.leader], "cluster", ours, sizeof ours)) != 0) {
        code = fail(EXIT_FAILED,
                    "the node at %s belongs to another cluster (%s, this one is %s): start it with an empty data "
                    "directory",
                    addr, v, ours);
    }
    buf_free(&text);
    return code;
}

static bool parse_id(const char *text, uint64_t *id) { return parse_u64(text, id) && *id; }

static bool parse_new(const char *text, uint64_t *id, char addr[ADDR_MAX])
{
    const char *eq = strchr(text, '=');
    char digits[32];
    if (!eq || (size_t)(eq - text) >= sizeof digits || strlen(eq + 1) >= ADDR_MAX || !strchr(eq + 1, ':')) return false;
    memcpy(digits, text, (size_t)(eq - text));
    digits[eq - text] = 0;
    memcpy(addr, eq + 1, strlen(eq + 1) + 1);
    return parse_id(digits, id);
}

static int add(struct job *j, uint64_t id, const char *addr)
{
    int code = is_member(j, id) ? EXIT_OK : check_candidate(j, id, addr);
    if (!code) code = ask(j, KV_ADMIN_ADD, id, addr, "added as a learner");
    if (code || j->learner || is_voter(j, id)) return code;
    return ask(j, KV_ADMIN_PROMOTE, id, NULL, "has caught up and votes");
}

static int replace(struct job *j, uint64_t old, uint64_t id, const char *addr)
{
    if (old == id)
        return fail(EXIT_FAILED, "the new member needs another number than the old one: node %llu remembers what it "
                                 "was (a node that lost its disk needs no replacement: start it, it is refilled)",
                    (unsigned long long)old);
    if (!is_member(j, old) && !is_member(j, id))
        return fail(EXIT_FAILED, "there is no node %llu in the cluster", (unsigned long long)old);
    int code = add(j, id, addr);
    if (code) return code;
    if (!is_member(j, old)) {
        printf("node %llu: no member any more\n", (unsigned long long)old);
        return EXIT_OK;
    }
    return ask(j, KV_ADMIN_REMOVE, old, NULL, "removed");
}

static void print_list(const struct job *j)
{
    const struct node_facts *leader = &j->f.nodes[j->f.leader];
    char last[64];
    printf("%-6s %-8s %-10s %14s  %s\n", "node", "seat", "state", "entries", "address");
    for (unsigned i = 0; i < j->f.n; i++) {
        const struct node_facts *n = &j->f.nodes[i];
        if (!n->is_member) continue;
        bool leads = n == leader;
        printf("%-6llu %-8s %-10s %14llu  %s\n", (unsigned long long)n->member.id, n->seat,
               leads ? "leads" : !n->answered ? "no answer" : n->fenced ? "fenced" : "follows",
               (unsigned long long)n->match, n->member.addr);
    }
    printf("the log has %s entries\n", facts_value(leader, "last", last, sizeof last));
}

static void print_list_json(const struct job *j)
{
    json_t *root = json_object(), *members = json_array();
    for (unsigned i = 0; i < j->f.n; i++) {
        const struct node_facts *n = &j->f.nodes[i];
        if (!n->is_member) continue;
        json_t *m = json_object();
        json_object_set_new(m, "id", json_integer((json_int_t)n->member.id));
        json_object_set_new(m, "address", json_string(n->member.addr));
        json_object_set_new(m, "seat", json_string(n->seat));
        json_object_set_new(m, "leads", json_boolean((int)i == j->f.leader));
        json_object_set_new(m, "answered", json_boolean(n->answered));
        json_object_set_new(m, "fenced", json_boolean(n->fenced));
        json_object_set_new(m, "entries", json_integer((json_int_t)n->match));
        json_array_append_new(members, m);
    }
    json_object_set_new(root, "leader", json_integer((json_int_t)j->f.nodes[j->f.leader].member.id));
    json_object_set_new(root, "members", members);
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    puts(text);
    free(text);
    json_decref(root);
}

static int list(struct job *j)
{
    if (j->json) print_list_json(j);
    else print_list(j);
    return EXIT_OK;
}

static int transfer(struct job *j, uint64_t id)
{
    struct buf why = {0};
    int err = ask_leader(j, KV_ADMIN_TRANSFER, id, NULL, &why);
    int code = EXIT_OK;
    if (err == -EALREADY)
        printf("node %llu: leads already\n", (unsigned long long)id);
    else if (err)
        code = fail(err == -ETIMEDOUT || err == QE_NOT_LEADER ? EXIT_UNREACHABLE : EXIT_FAILED,
                    "leadership was not handed over: %.*s", (int)why.n, (const char *)why.p);
    else if (!(code = find_leader(j)))
        printf("node %llu: leads\n", (unsigned long long)j->f.nodes[j->f.leader].member.id);
    buf_free(&why);
    return code;
}

/* ---- the command line ---- */

static int run(struct job *j, const char *verb, int argc, char **argv)
{
    uint64_t id = 0, old = 0;
    char addr[ADDR_MAX];
    bool adds = !strcmp(verb, "add"), replaces = !strcmp(verb, "replace"), lists = !strcmp(verb, "list");
    bool promotes = !strcmp(verb, "promote"), removes = !strcmp(verb, "remove"), transfers = !strcmp(verb, "transfer");
    if (lists && argc) return usage_error("member", "list takes no member");
    if (adds && (argc != 1 || !parse_new(argv[0], &id, addr)))
        return usage_error("member", "add wants ID=ADDR, such as 4=host4:7100");
    if (replaces && (argc != 2 || !parse_id(argv[0], &old) || !parse_new(argv[1], &id, addr)))
        return usage_error("member", "replace wants OLD and NEW=ADDR, such as 3 4=host4:7100");
    if ((promotes || removes) && (argc != 1 || !parse_id(argv[0], &id)))
        return usage_error("member", "%s wants the number of a member", verb);
    if (transfers && (argc > 1 || (argc && !parse_id(argv[0], &id))))
        return usage_error("transfer", "'%s' is no member's number", argv[0]);
    int code = find_leader(j);
    if (code) return code;
    if (lists) return list(j);
    if (adds) return add(j, id, addr);
    if (replaces) return replace(j, old, id, addr);
    if (promotes) return ask(j, KV_ADMIN_PROMOTE, id, NULL, "has caught up and votes");
    if (removes) return ask(j, KV_ADMIN_REMOVE, id, NULL, "removed");
    return transfer(j, id);
}

static int parse(const char *command, const char *text, int argc, char **argv, struct job *j, const char **spec)
{
    static const struct option options[] = {{"dir", 1, 0, 'C'},     {"cluster", 1, 0, 'C'}, {"timeout", 1, 0, 't'},
                                            {"learner", 0, 0, 'l'}, {"json", 0, 0, 'j'},    {"help", 0, 0, 'h'},
                                            {0}};
    *j = (struct job){.timeout_ms = 60000};
    *spec = NULL;
    for (int c; (c = getopt_long(argc, argv, "C:", options, NULL)) != -1;) {
        switch (c) {
        case 'C': *spec = optarg; break;
        case 't':
            if (!parse_ms(optarg, &j->timeout_ms) || !j->timeout_ms || j->timeout_ms > KV_ADMIN_WAIT_MAX_MS)
                return usage_error(command, "--timeout wants a time of at most one hour, such as 60s");
            break;
        case 'l': j->learner = true; break;
        case 'j': j->json = true; break;
        case 'h': fputs(text, stdout); return EXIT_OK;
        default: return usage_error(command, "see the options below");
        }
    }
    return -1;
}

static int with_cluster(const char *command, const char *spec, struct job *j, const char *verb, int argc, char **argv)
{
    int code = cluster_parse(command, spec, &j->cluster);
    if (code) return code;
    j->loop = io_loop_new();
    j->deadline = now(j) + j->timeout_ms * NS_PER_MS;
    code = run(j, verb, argc, argv);
    facts_free(&j->f);
    io_loop_free(j->loop);
    return code;
}

int cmd_member(int argc, char **argv)
{
    static const char *const verbs[] = {"list", "add", "promote", "remove", "replace"};
    struct job j;
    const char *spec;
    int code = parse("member", help, argc, argv, &j, &spec);
    if (code >= 0) return code;
    if (optind == argc) return usage_error("member", "what is to be done? list, add, promote, remove or replace");
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (!strcmp(argv[optind], verbs[i]))
            return with_cluster("member", spec, &j, verbs[i], argc - optind - 1, argv + optind + 1);
    return usage_error("member", "there is no '%s'", argv[optind]);
}

int cmd_transfer(int argc, char **argv)
{
    struct job j;
    const char *spec;
    int code = parse("transfer", transfer_help, argc, argv, &j, &spec);
    if (code >= 0) return code;
    return with_cluster("transfer", spec, &j, "transfer", argc - optind, argv + optind);
}
