/* kv.c - `quorumfs kv`: single operations on keys. A key is the path of a file in the mount. */
#include "cli/kv.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char help[] =
    "usage: quorumfs kv VERB ... [-C CLUSTER | --dir DIR] [--timeout TIME] [--json]\n"
    "\n"
    "  get KEY                    prints the value, byte for byte\n"
    "  put KEY VALUE              sets it, atomically and durably\n"
    "  append KEY VALUE           adds to its end (atomic among all clients)\n"
    "  delete KEY\n"
    "  cas KEY OLD NEW            sets NEW if the value is OLD (--absent instead of OLD: if there is no such key)\n"
    "  list [PREFIX]              keys in byte order; -l: with sizes; -0: each ends with a NUL instead of a newline\n"
    "       [--from KEY] [--to KEY] [--limit N]     from KEY (included) to KEY (not included)\n"
    "  txn [FILE]                 compare and set over several keys, all or nothing; see below\n"
    "  watch [PREFIX]             prints changes as they happen: REVISION put|delete KEY   (--exact: of this key only)\n"
    "       [--from REVISION] [--limit N] [-0]      from that revision on; without: from now on\n"
    "\n"
    "A VALUE is taken literally, '-' reads it from stdin, '@FILE' from a file ('@@x' is the literal '@x').\n"
    "Keys are paths in the mount: `kv put a/b` makes the file a/b. A key has at most 4095 bytes (255 a part), a value at\n"
    "most 4 MiB; larger ones go through the mount.\n"
    "\n"
    "txn reads a script (from stdin without FILE), a line each:\n"
    "  if absent KEY | if present KEY | if value KEY VALUE | if version KEY VERSION\n"
    "  then|else get KEY | put KEY VALUE | append KEY VALUE | delete KEY\n"
    "If all conditions hold, the steps of `then` are done, else those of `else`: all of them or none. Words with blanks go\n"
    "into double quotes (\\n \\t \\r \\\" \\\\ \\xHH inside); a VALUE may be @FILE; # begins a comment. At most 128\n"
    "conditions and 128 steps of each kind, 4 MiB of keys and values. A VERSION is what --json prints: it names one state of\n"
    "the contents for ever. Prints `then` or `else` and a line for each step.\n"
    "\n"
    "watch can be resumed with --from the revision behind the last one that was seen whole (--json: \"revision\"). The nodes\n"
    "keep some 250,000 events in memory, since they were started; of older ones it says so (exit code 6).\n"
    "\n"
    "--json prints one object (watch: one a line); bytes that are no UTF-8 appear as NAME_base64.\n"
    "Exit codes: 0 done, 1 failed, 2 usage, 3 no answer from the cluster (a change may or may not have happened), 4 no such\n"
    "key, 5 cas: another value, txn: a condition did not hold, 6 watch: history is gone.\n";

int kv_read_all(int fd, const char *what, size_t max, struct buf *out)
{
    for (;;) {
        buf_reserve(out, 64 * KIB);
        ssize_t n = read(fd, out->p + out->n, 64 * KIB);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail(EXIT_FAILED, "cannot read %s: %s", what, err_text(-errno));
        if (n == 0) return 0;
        out->n += (size_t)n;
        if (out->n > max)
            return fail(EXIT_FAILED, "%s has more than %zu bytes, the limit%s", what, max,
                        max == KV_DATA_MAX ? " of a value: write it through a mount instead" : "");
    }
}

int kv_read_value(const char *arg, bool may_stdin, struct buf *out)
{
    if (may_stdin && strcmp(arg, "-") == 0) return kv_read_all(STDIN_FILENO, "stdin", KV_DATA_MAX, out);
    if (arg[0] == '@' && arg[1] != '@') {
        int fd = open(arg + 1, O_RDONLY | O_CLOEXEC);
        if (fd < 0) return fail(EXIT_FAILED, "cannot open %s: %s", arg + 1, err_text(-errno));
        int code = kv_read_all(fd, arg + 1, KV_DATA_MAX, out);
        close(fd);
        return code;
    }
    if (arg[0] == '@') arg++;
    buf_append(out, arg, strlen(arg));
    return out->n > KV_DATA_MAX ? fail(EXIT_FAILED, "the value has %zu bytes; at most %u", out->n, KV_DATA_MAX) : 0;
}

int kv_flush(void)
{
    return fflush(stdout) || ferror(stdout) ? fail(EXIT_FAILED, "cannot write to stdout: %s", err_text(-errno)) : 0;
}

static int write_all(struct slice s)
{
    while (s.n) {
        ssize_t n = write(STDOUT_FILENO, s.p, s.n);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail(EXIT_FAILED, "cannot write to stdout: %s", err_text(-errno));
        s = slice_sub(s, (size_t)n, s.n - (size_t)n);
    }
    return 0;
}

static size_t longest_part(struct slice key)
{
    size_t longest = 0, n = 0;
    for (size_t i = 0; i < key.n; i++) {
        n = key.p[i] == '/' ? 0 : n + 1;
        if (n > longest) longest = n;
    }
    return longest;
}

int kv_explain(struct slice key, int status, bool changed)
{
    int n = (int)min_u64(key.n, 200);
    const char *k = (const char *)key.p;
    switch (status) {
    case -ENOENT:
        return fail(EXIT_ABSENT, "%.*s: no such key", n, k);
    case QE_MISMATCH:
        return fail(EXIT_CONFLICT, "%.*s: %s", n, k, err_text(status));
    case -EISDIR:
        return fail(EXIT_FAILED, "%.*s is a directory: its keys are below it", n, k);
    case -ENOTDIR:
        return fail(EXIT_FAILED, "%.*s: a part of this path is a file, not a directory", n, k);
    case -EINVAL:
        return fail(EXIT_FAILED, "'%.*s' is no key: it must be a path without empty, '.' or '..' parts", n, k);
    case -ENAMETOOLONG:
        return fail(EXIT_FAILED, "this key is too long: %zu bytes, the longest part %zu; at most %u, %u a part", key.n,
                    longest_part(key), FS_KEY_MAX, FS_NAME_MAX);
    case -EFBIG:
        return fail(EXIT_FAILED, "%.*s is larger than 4 MiB: read it through a mount", n, k);
    case -ENOSPC:
        return fail(EXIT_FAILED, "%.*s: the leader's disk is nearly full: delete something, or give it more space", n, k);
    case QE_SESSION:
        return fail(EXIT_UNREACHABLE, "%.*s: %s", n, k, err_text(status));
    case -ETIMEDOUT:
        return fail(EXIT_UNREACHABLE, "no answer from the cluster in time%s (quorumfs status shows its members)",
                    changed ? "; the change may or may not have happened" : "");
    default:
        return fail(EXIT_FAILED, "%.*s: %s", n, k, err_text(status));
    }
}

/* What was done to a key, or found there; value NULL: it was not asked for. */
static int print_facts(const char *key, const struct kv_reply *reply, bool attr, const struct slice *value)
{
    kv_json_begin();
    kv_json_bytes("key", slice_str(key));
    kv_json_u64("revision", reply->index);
    if (attr) {
        kv_json_u64("size", reply->attr.size);
        kv_json_version(reply->attr.ino, reply->attr.version);
    }
    if (value) kv_json_bytes("value", *value);
    kv_json_end("\n");
    return kv_flush();
}

static int simple(struct cli_client *c, const struct kv_args *a, enum kv_code code, int argc, char **argv)
{
    bool has_value = code == KV_PUT || code == KV_APPEND;
    if (argc != (has_value ? 2 : 1))
        return usage_error("kv", has_value ? "KEY and VALUE are needed" : "one KEY is needed");
    struct buf value = {0}, data = {0};
    struct kv_reply reply = {0};
    int result = has_value ? kv_read_value(argv[1], true, &value) : 0;
    if (!result) {
        struct kv_op op = {.code = code, .name = slice_str(argv[0]), .data = buf_slice(&value)};
        int status = cli_call(c, &op, a->timeout_ms, &reply, &data);
        struct slice got = buf_slice(&data);
        if (status < 0) result = kv_explain(op.name, status, code != KV_GET);
        else if (a->json) result = print_facts(argv[0], &reply, code != KV_DELETE, code == KV_GET ? &got : NULL);
        else result = write_all(got);
    }
    buf_free(&value);
    buf_free(&data);
    return result;
}

static int cas(struct cli_client *c, const struct kv_args *a, int argc, char **argv)
{
    if (argc != (a->absent ? 2 : 3)) return usage_error("kv", "cas wants KEY OLD NEW, or --absent KEY NEW");
    struct buf old = {0}, value = {0};
    struct kv_reply reply = {0};
    int result = a->absent ? 0 : kv_read_value(argv[1], true, &old);
    if (!result) result = kv_read_value(argv[argc - 1], true, &value);
    if (!result) {
        struct kv_op op = {.code = KV_CAS,
                           .name = slice_str(argv[0]),
                           .name2 = buf_slice(&old),
                           .data = buf_slice(&value),
                           .flags = a->absent};
        int status = cli_call(c, &op, a->timeout_ms, &reply, NULL);
        if (status < 0) result = kv_explain(op.name, status, true);
        else if (a->json) result = print_facts(argv[0], &reply, true, NULL);
    }
    buf_free(&old);
    buf_free(&value);
    return result;
}

/* ---- the command line ---- */

static int run_get(struct cli_client *c, const struct kv_args *a, int argc, char **argv)
{
    return simple(c, a, KV_GET, argc, argv);
}
static int run_put(struct cli_client *c, const struct kv_args *a, int argc, char **argv)
{
    return simple(c, a, KV_PUT, argc, argv);
}
static int run_append(struct cli_client *c, const struct kv_args *a, int argc, char **argv)
{
    return simple(c, a, KV_APPEND, argc, argv);
}
static int run_delete(struct cli_client *c, const struct kv_args *a, int argc, char **argv)
{
    return simple(c, a, KV_DELETE, argc, argv);
}

static const struct verb {
    const char *name;
    int (*run)(struct cli_client *c, const struct kv_args *a, int argc, char **argv);
} verbs[] = {{"get", run_get}, {"put", run_put}, {"append", run_append}, {"delete", run_delete},
             {"cas", cas},     {"list", kv_list}, {"txn", kv_txn},       {"watch", kv_watch_keys}};

/* 0, an exit code, or -1: --help was printed. */
static int parse_options(int argc, char **argv, struct kv_args *a)
{
    static const struct option options[] = {
        {"dir", 1, 0, 'C'},    {"cluster", 1, 0, 'C'}, {"timeout", 1, 0, 't'}, {"from", 1, 0, 'f'},
        {"to", 1, 0, 'o'},     {"limit", 1, 0, 'n'},   {"absent", 0, 0, 'a'},  {"json", 0, 0, 'j'},
        {"exact", 0, 0, 'e'},  {"null", 0, 0, '0'},    {"help", 0, 0, 'h'},    {0}};
    for (int c; (c = getopt_long(argc, argv, "C:l0", options, NULL)) != -1;) {
        switch (c) {
        case 'C': a->spec = optarg; break;
        case 't':
            if (!parse_ms(optarg, &a->timeout_ms))
                return usage_error("kv", "--timeout wants a time such as 10s (0: wait for ever)");
            break;
        case 'f': a->from = optarg; break;
        case 'o': a->to = optarg; break;
        case 'n':
            if (!parse_u64(optarg, &a->limit)) return usage_error("kv", "--limit wants a number");
            break;
        case 'a': a->absent = true; break;
        case 'l': a->sizes = true; break;
        case 'j': a->json = true; break;
        case 'e': a->exact = true; break;
        case '0': a->zero = true; break;
        case 'h': fputs(help, stdout); return -1;
        default: return usage_error("kv", "see the options below");
        }
    }
    return 0;
}

int cmd_kv(int argc, char **argv)
{
    struct kv_args a = {.timeout_ms = 30000, .limit = UINT64_MAX};
    int result = parse_options(argc, argv, &a);
    if (result) return result < 0 ? EXIT_OK : result;
    if (optind == argc) return usage_error("kv", "what is to be done? get, put, append, delete, cas, list, txn or watch");
    const struct verb *verb = NULL;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (!strcmp(argv[optind], verbs[i].name)) verb = &verbs[i];
    if (!verb) return usage_error("kv", "there is no '%s'", argv[optind]);
    struct cluster cluster;
    struct cli_client client;
    result = cluster_parse("kv", a.spec, &cluster);
    if (result) return result;
    cli_client_open(&client, &cluster, "kv");
    result = verb->run(&client, &a, argc - optind - 1, argv + optind + 1);
    cli_client_close(&client);
    return result;
}
