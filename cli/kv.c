/* kv.c - `quorumfs kv`: single operations on keys. A key is the path of a file in the mount. */
#include "cli/cli.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char help[] =
    "usage: quorumfs kv get|put|append|delete|list|cas ... [-C CLUSTER | --dir DIR] [--timeout TIME]\n"
    "\n"
    "  get KEY                    prints the value, byte for byte\n"
    "  put KEY VALUE              sets it, atomically and durably\n"
    "  append KEY VALUE           adds to its end (atomic among all clients)\n"
    "  delete KEY\n"
    "  list [PREFIX]              keys in byte order   [--from KEY] [--limit N] [-l: with sizes]\n"
    "  cas KEY OLD NEW            sets NEW if the value is OLD (--absent instead of OLD: if there is no such key)\n"
    "\n"
    "A VALUE is taken literally, '-' reads it from stdin, '@FILE' from a file ('@@x' is the literal '@x').\n"
    "Keys are paths in the mount: `kv put a/b` makes the file a/b. Values of up to 4 MiB; larger ones go through the "
    "mount.\n"
    "Exit codes: 0 done, 1 failed, 2 usage, 3 no answer from the cluster (a change may or may not have happened), 4 no "
    "such\n"
    "key, 5 cas: another value.\n";

struct kv_args {
    const char *spec, *from;
    uint64_t timeout_ms, limit;
    bool absent, sizes;
};

static int read_all(int fd, const char *what, struct buf *out)
{
    for (;;) {
        buf_reserve(out, 64 * KIB);
        ssize_t n = read(fd, out->p + out->n, 64 * KIB);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail(EXIT_FAILED, "cannot read %s: %s", what, err_text(-errno));
        if (n == 0) return 0;
        out->n += (size_t)n;
        if (out->n > KV_DATA_MAX)
            return fail(EXIT_FAILED, "%s is larger than 4 MiB, the limit of a value: write it through a mount instead",
                        what);
    }
}

static int read_value(const char *arg, struct buf *out)
{
    if (strcmp(arg, "-") == 0) return read_all(STDIN_FILENO, "stdin", out);
    if (arg[0] == '@' && arg[1] != '@') {
        int fd = open(arg + 1, O_RDONLY | O_CLOEXEC);
        if (fd < 0) return fail(EXIT_FAILED, "cannot open %s: %s", arg + 1, err_text(-errno));
        int code = read_all(fd, arg + 1, out);
        close(fd);
        return code;
    }
    if (arg[0] == '@') arg++;
    buf_append(out, arg, strlen(arg));
    return out->n > KV_DATA_MAX ? fail(EXIT_FAILED, "the value is larger than 4 MiB") : 0;
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

static int explain(const char *key, int status, bool changed)
{
    switch (status) {
    case -ENOENT:
        return fail(EXIT_ABSENT, "%s: no such key", key);
    case QE_MISMATCH:
        return fail(EXIT_CONFLICT, "%s: %s", key, err_text(status));
    case -EISDIR:
        return fail(EXIT_FAILED, "%s is a directory: its keys are below it", key);
    case -ENOTDIR:
        return fail(EXIT_FAILED, "%s: a part of this path is a file, not a directory", key);
    case -EINVAL:
        return fail(EXIT_FAILED, "'%s' is no key: it must be a path without empty, '.' or '..' parts", key);
    case -ENAMETOOLONG:
        return fail(EXIT_FAILED, "this key is too long (at most %u bytes, %u a part)", FS_KEY_MAX, FS_NAME_MAX);
    case -EFBIG:
        return fail(EXIT_FAILED, "%s is larger than 4 MiB: read it through a mount", key);
    case -ETIMEDOUT:
        return fail(EXIT_UNREACHABLE, "no answer from the cluster in time%s (quorumfs status shows its members)",
                    changed ? "; the change may or may not have happened" : "");
    default:
        return fail(EXIT_FAILED, "%s: %s", key, err_text(status));
    }
}

static int simple(struct cli_client *c, const struct kv_args *a, enum kv_code code, int argc, char **argv)
{
    bool has_value = code == KV_PUT || code == KV_APPEND;
    if (argc != (has_value ? 2 : 1))
        return usage_error("kv", has_value ? "KEY and VALUE are needed" : "one KEY is needed");
    struct buf value = {0}, data = {0};
    int result = has_value ? read_value(argv[1], &value) : 0;
    if (!result) {
        struct kv_op op = {.code = code, .name = slice_str(argv[0]), .data = buf_slice(&value)};
        int status = cli_call(c, &op, a->timeout_ms, NULL, &data);
        result = status < 0 ? explain(argv[0], status, code != KV_GET) : write_all(buf_slice(&data));
    }
    buf_free(&value);
    buf_free(&data);
    return result;
}

static int cas(struct cli_client *c, const struct kv_args *a, int argc, char **argv)
{
    if (argc != (a->absent ? 2 : 3)) return usage_error("kv", "cas wants KEY OLD NEW, or --absent KEY NEW");
    struct buf old = {0}, value = {0};
    int result = a->absent ? 0 : read_value(argv[1], &old);
    if (!result) result = read_value(argv[argc - 1], &value);
    if (!result) {
        struct kv_op op = {.code = KV_CAS,
                           .name = slice_str(argv[0]),
                           .name2 = buf_slice(&old),
                           .data = buf_slice(&value),
                           .flags = a->absent};
        int status = cli_call(c, &op, a->timeout_ms, NULL, NULL);
        if (status < 0) result = explain(argv[0], status, true);
    }
    buf_free(&old);
    buf_free(&value);
    return result;
}

/* Lists page by page: each is one consistent view, and the next begins behind the last key. */
static int list(struct cli_client *c, const struct kv_args *a, int argc, char **argv)
{
    if (argc > 1) return usage_error("kv", "list takes one PREFIX at most");
    const char *prefix = argc ? argv[0] : "";
    struct buf from = {0}, page = {0};
    uint64_t left = a->limit;
    int result = 0;
    if (a->from) buf_append(&from, a->from, strlen(a->from));
    for (bool more = left > 0; more && !result;) {
        struct kv_op op = {
            .code = KV_LIST, .name = slice_str(prefix), .name2 = buf_slice(&from), .len = min_u64(left, 1000)};
        struct kv_reply reply;
        buf_clear(&page);
        int status = cli_call(c, &op, a->timeout_ms, &reply, &page);
        if (status < 0) {
            result = explain(prefix, status, false);
            break;
        }
        struct reader r = reader_of(buf_slice(&page));
        struct slice key;
        struct fs_attr attr;
        uint64_t got = 0;
        while (kv_dirent_next(&r, &key, &attr)) {
            if (a->sizes) printf("%12llu  ", (unsigned long long)attr.size);
            fwrite(key.p, 1, key.n, stdout);
            putchar('\n');
            buf_clear(&from);
            buf_append(&from, key.p, key.n);
            put_u8(&from, 0); /* the smallest key behind it */
            got++;
        }
        left -= min_u64(left, got);
        more = got > 0 && left > 0 && reply.off != 1;
    }
    if (fflush(stdout)) result = fail(EXIT_FAILED, "cannot write to stdout: %s", err_text(-errno));
    buf_free(&from);
    buf_free(&page);
    return result;
}

int cmd_kv(int argc, char **argv)
{
    static const struct option options[] = {
        {"dir", 1, 0, 'C'},   {"cluster", 1, 0, 'C'}, {"timeout", 1, 0, 't'}, {"from", 1, 0, 'f'},
        {"limit", 1, 0, 'n'}, {"absent", 0, 0, 'a'},  {"help", 0, 0, 'h'},    {0}};
    static const struct {
        const char *name;
        enum kv_code code;
    } verbs[] = {{"get", KV_GET},       {"put", KV_PUT},   {"append", KV_APPEND},
                 {"delete", KV_DELETE}, {"list", KV_LIST}, {"cas", KV_CAS}};
    struct kv_args a = {.timeout_ms = 30000, .limit = UINT64_MAX};
    for (int c; (c = getopt_long(argc, argv, "C:l", options, NULL)) != -1;) {
        switch (c) {
        case 'C':
            a.spec = optarg;
            break;
        case 't':
            if (!parse_ms(optarg, &a.timeout_ms))
                return usage_error("kv", "--timeout wants a time such as 10s (0: wait for ever)");
            break;
        case 'f':
            a.from = optarg;
            break;
        case 'n':
            if (!parse_u64(optarg, &a.limit)) return usage_error("kv", "--limit wants a number");
            break;
        case 'a':
            a.absent = true;
            break;
        case 'l':
            a.sizes = true;
            break;
        case 'h':
            fputs(help, stdout);
            return EXIT_OK;
        default:
            return usage_error("kv", "see the options below");
        }
    }
    if (optind == argc) return usage_error("kv", "what is to be done? get, put, append, delete, list or cas");
    const char *verb = argv[optind++];
    enum kv_code code = 0;
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (!strcmp(verb, verbs[i].name)) code = verbs[i].code;
    if (!code) return usage_error("kv", "there is no '%s'", verb);
    struct cluster cluster;
    int result = cluster_parse("kv", a.spec, &cluster);
    if (result) return result;
    struct cli_client client;
    cli_client_open(&client, &cluster, "kv");
    argc -= optind;
    argv += optind;
    if (code == KV_LIST)
        result = list(&client, &a, argc, argv);
    else if (code == KV_CAS)
        result = cas(&client, &a, argc, argv);
    else
        result = simple(&client, &a, code, argc, argv);
    cli_client_close(&client);
    return result;
}
