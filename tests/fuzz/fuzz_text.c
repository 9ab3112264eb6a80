/* fuzz_text.c - what commands read as text: the file that tells who is in a cluster, lists of members, addresses, sizes
 * and times, a node's status, scripts of `kv txn`, to which any answer comes. What is taken is what was written. */
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/kv.h"
#include "io/io_priv.h"
#include "kv/wire.h"
#include "tests/fuzz/fuzz.h"

enum { CLUSTER, LIST, ADDRESS, NUMBERS, STATUS, TXN, KINDS };

static void check_cluster(const struct cluster *c)
{
    check(c->n > 0 && c->n <= RAFT_PEERS_MAX);
    for (unsigned i = 0; i < c->n; i++) {
        check(c->members[i].id != 0 && strlen(c->members[i].addr) < ADDR_MAX && strchr(c->members[i].addr, ':'));
        for (unsigned k = 0; k < i; k++) check(c->members[i].id != c->members[k].id);
    }
}

/* The cluster's directory, whose file `cluster` is one in memory. */
static int cluster_file(void)
{
    static int fd = -1;
    char target[64], file[256];
    if (fd >= 0) return fd;
    fd = memfd_create("fuzz", MFD_CLOEXEC);
    check(fd >= 0);
    snprintf(target, sizeof target, "/proc/self/fd/%d", fd);
    snprintf(file, sizeof file, "%s/cluster", fuzz_dir());
    check(symlink(target, file) == 0);
    return fd;
}

static void cluster(struct slice in)
{
    struct cluster c;
    int fd = cluster_file();
    check(ftruncate(fd, 0) == 0 && pwrite(fd, in.p, in.n, 0) == (ssize_t)in.n);
    if (cluster_load(fuzz_dir(), &c) == 0) check_cluster(&c);
}

static void list(const char *text)
{
    struct cluster c = {0};
    if (cluster_list(text, &c) == 0) check_cluster(&c);
}

static void address(const char *text)
{
    char host[256], port[8];
    if (io__addr_split(text, host, port)) return;
    check(strlen(host) <= strlen(text) && port[0] && strlen(port) <= 5);
}

/* What is read is not less than its digits say: nothing wrapped around. */
static void numbers(const char *text)
{
    uint64_t v, digits;
    char *copy = strdup(text);
    copy[strspn(copy, "0123456789")] = 0;
    bool fits = parse_u64(copy, &digits);
    if (parse_u64(text, &v)) check(fits && v == digits);
    if (parse_bytes(text, &v)) check(fits && v >= digits);
    if (parse_ms(text, &v)) check(fits && v >= digits);
    free(copy);
}

static void status(const char *text)
{
    char value[16];
    const char *at = strchr(text, ' ');
    if (!at || at == text) return;
    char *key = strndup(text, (size_t)(at - text));
    if (status_value(slice_str(at + 1), key, value, sizeof value)) check(strlen(value) < sizeof value);
    free(key);
}

/* ---- scripts of transactions ----
 *
 * kv_txn() as it is, with what it calls of cli/kv.c and the cluster played here. */

static struct {
    struct slice script, answer;
    struct buf again;           /* the transaction as a script of ours; */
    struct buf sent;            /* must be the same transaction */
} txn_play;

int kv_read_all(int fd, const char *what, size_t max, struct buf *out)
{
    put_bytes(out, txn_play.script);
    return 0;
}

int kv_read_value(const char *arg, bool may_stdin, struct buf *out)
{
    check(!may_stdin && arg[0] == '@');
    if (arg[1] == 0) return fail(EXIT_FAILED, "there is no such file");
    put_bytes(out, slice_str(arg[1] == '@' ? arg + 1 : "a file"));
    return 0;
}

int kv_explain(struct slice key, int status, bool changed) { return EXIT_FAILED; }
int kv_flush(void) { return 0; }

static void put_quoted(struct buf *b, struct slice s)
{
    static const char digits[] = "0123456789abcdef";
    buf_append(b, " \"", 2);
    for (size_t i = 0; i < s.n; i++) {
        buf_append(b, "\\x", 2);
        put_u8(b, (uint8_t)digits[s.p[i] >> 4]);
        put_u8(b, (uint8_t)digits[s.p[i] & 15]);
    }
    put_u8(b, '"');
}

static void put_script(struct buf *b, const struct kv_txn *t)
{
    static const char *const conds[] = {
        [KV_IF_ABSENT] = "if absent", [KV_IF_PRESENT] = "if present", [KV_IF_VALUE] = "if value", [KV_IF_VERSION] = "if version"};
    static const char *const codes[] = {[KV_GET] = "get", [KV_PUT] = "put", [KV_APPEND] = "append", [KV_DELETE] = "delete"};
    char version[64];
    for (unsigned i = 0; i < t->nconds; i++) {
        const struct kv_cond *c = &t->conds[i];
        put_bytes(b, slice_str(conds[c->kind]));
        put_quoted(b, c->key);
        if (c->kind == KV_IF_VALUE) put_quoted(b, c->value);
        snprintf(version, sizeof version, " %llu.%llu", (unsigned long long)c->ino, (unsigned long long)c->version);
        if (c->kind == KV_IF_VERSION) put_bytes(b, slice_str(version));
        put_u8(b, '\n');
    }
    for (int branch = 0; branch < 2; branch++) {
        for (unsigned i = 0; i < t->nsteps[branch]; i++) {
            const struct kv_step *s = &t->steps[branch][i];
            put_bytes(b, slice_str(branch == KV_TXN_THEN ? "then " : "else "));
            put_bytes(b, slice_str(codes[s->code]));
            put_quoted(b, s->key);
            if (s->code == KV_PUT || s->code == KV_APPEND) put_quoted(b, s->value);
            put_u8(b, '\n');
        }
    }
}

int __wrap_cli_call(struct cli_client *c, const struct kv_op *op, uint64_t timeout_ms, struct kv_reply *reply, struct buf *data);

/* The first time it is answered with any bytes, the second time it is compared. */
int __wrap_cli_call(struct cli_client *c, const struct kv_op *op, uint64_t timeout_ms, struct kv_reply *reply, struct buf *data)
{
    static struct kv_txn t;
    struct reader r = reader_of(txn_play.answer);
    check(op->code == KV_TXN && kv_txn_decode(op->data, &t) == 0);
    *reply = (struct kv_reply){0};
    if (txn_play.sent.n) {
        check(slice_eq(op->data, buf_slice(&txn_play.sent)));
        return -EIO;
    }
    put_bytes(&txn_play.sent, op->data);
    put_script(&txn_play.again, &t);
    reply->off = get_u8(&r) % 4;
    reply->index = get_u8(&r);
    put_bytes(data, get_bytes(&r, reader_left(&r)));
    return 0;
}

/* A script, and behind a zero byte the answer to it. */
static void txn(struct slice in)
{
    struct kv_args args = {.json = in.n % 2};
    const uint8_t *end = in.n ? memchr(in.p, 0, in.n) : NULL;
    size_t n = end ? (size_t)(end - in.p) : in.n;
    txn_play.script = slice_sub(in, 0, n);
    txn_play.answer = end ? slice_sub(in, n + 1, in.n - n - 1) : (struct slice){0};
    kv_txn(NULL, &args, 0, NULL);
    if (txn_play.sent.n) {
        txn_play.script = buf_slice(&txn_play.again);
        check(kv_txn(NULL, &args, 0, NULL) == EXIT_FAILED);
    }
    buf_free(&txn_play.again);
    buf_free(&txn_play.sent);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const kinds[KINDS])(const char *text) = {
        [LIST] = list, [ADDRESS] = address, [NUMBERS] = numbers, [STATUS] = status};
    if (size == 0) return 0;
    unsigned kind = data[0] % KINDS;
    char *text = strndup((const char *)data + 1, size - 1);
    if (kind == CLUSTER) cluster(slice_of(data + 1, size - 1));
    else if (kind == TXN) txn(slice_of(data + 1, size - 1));
    else kinds[kind](text);
    free(text);
    return 0;
}

/* ---- seeds ---- */

static void seed(void (*emit)(struct slice seed), uint8_t kind, const char *text)
{
    fuzz_emit(emit, kind, slice_str(text));
}

/* A script, and what a server answers to it. */
static void seed_answer(void (*emit)(struct slice seed))
{
    struct buf b = {0};
    struct fs_attr attr = {.ino = 3, .version = 4, .size = 1};
    put_bytes(&b, slice_str("then get a\nthen get b\nthen delete c\n"));
    put_u8(&b, 0);
    put_u8(&b, KV_TXN_THEN);
    put_u8(&b, 7); /* revision */
    put_u8(&b, KV_GET);
    put_u32(&b, 0);
    kv__attr_encode(&attr, &b);
    put_slice32(&b, slice_str("v"));
    put_u8(&b, KV_GET);
    put_u32(&b, (uint32_t)-ENOENT);
    put_u8(&b, KV_DELETE);
    put_u32(&b, 0);
    fuzz_emit_buf(emit, TXN, &b);
    buf_free(&b);
}

void fuzz_seeds(void (*emit)(struct slice seed))
{
    seed(emit, CLUSTER, "quorumfs cluster 1\n1 unix:node-1/sock\n2 127.0.0.1:7002\n3 unix:/abs/sock\n");
    seed(emit, CLUSTER, "quorumfs cluster 1\n1 host:1");
    seed(emit, CLUSTER, "quorumfs cluster 1\n1 host:1\n1 host:2\n");
    seed(emit, LIST, "host:7001,[::1]:7002,unix:/some/path");
    seed(emit, LIST, "1=host:7001,2=host:7002,3=host:7003");
    seed(emit, LIST, "1=host:7001,host:7002,2=host:7003");
    static const char *const addresses[] = {"host:7001", "[fe80::1]:65535", "*:1", ":80", "::1:5"};
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) seed(emit, ADDRESS, addresses[i]);
    static const char *const sizes[] = {"10", "64M", "18446744073709551615", "16777216T", "500ms", "2h"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) seed(emit, NUMBERS, sizes[i]);
    seed(emit, TXN,
         "# comment\nif absent a\nif present \"b c\"\nif value a/b \"x\\n\\\\\"\nif version a 5.77\n"
         "then put a 1\n then append a @f\nthen put \"\\x41\" @@f\nelse get a\nelse delete b\r\n");
    seed(emit, TXN, "if value a \"not ended\nif nothing\n");
    seed_answer(emit);
    seed(emit, STATUS, "role id 1\nrole leader\nterm 7\n");
}
