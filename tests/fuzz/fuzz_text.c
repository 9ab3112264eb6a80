/* fuzz_text.c - what commands read as text: the file that tells who is in a cluster, lists of members, addresses, sizes
 * and times, a node's status. What is taken is what was written. */
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "io/io_priv.h"
#include "tests/fuzz/fuzz.h"

enum { CLUSTER, LIST, ADDRESS, NUMBERS, STATUS, KINDS };

static void check_cluster(const struct cluster *c)
{
    check(c->n > 0 && c->n <= RAFT_PEERS_MAX);
    for (unsigned i = 0; i < c->n; i++) {
        check(c->members[i].id != 0 && strlen(c->members[i].addr) < ADDR_MAX && strchr(c->members[i].addr, ':'));
        for (unsigned k = 0; k < i; k++) check(c->members[i].id != c->members[k].id);
    }
}

static char dir[] = "/tmp/fuzz-cluster-XXXXXX";
static char file[sizeof dir + 8];

static void remove_dir(void)
{
    unlink(file);
    rmdir(dir);
}

/* A directory whose file `cluster` is one in memory. */
static int cluster_file(void)
{
    static int fd = -1;
    char target[64];
    if (fd >= 0) return fd;
    fd = memfd_create("fuzz", MFD_CLOEXEC);
    check(fd >= 0 && mkdtemp(dir));
    atexit(remove_dir);
    snprintf(target, sizeof target, "/proc/self/fd/%d", fd);
    snprintf(file, sizeof file, "%s/cluster", dir);
    check(symlink(target, file) == 0);
    return fd;
}

static void cluster(struct slice in)
{
    struct cluster c;
    int fd = cluster_file();
    check(ftruncate(fd, 0) == 0 && pwrite(fd, in.p, in.n, 0) == (ssize_t)in.n);
    if (cluster_load(dir, &c) == 0) check_cluster(&c);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const kinds[KINDS])(const char *text) = {
        [LIST] = list, [ADDRESS] = address, [NUMBERS] = numbers, [STATUS] = status};
    if (size == 0) return 0;
    unsigned kind = data[0] % KINDS;
    char *text = strndup((const char *)data + 1, size - 1);
    if (kind == CLUSTER) cluster(slice_of(data + 1, size - 1));
    else kinds[kind](text);
    free(text);
    return 0;
}

/* ---- seeds ---- */

static void seed(void (*emit)(struct slice seed), uint8_t kind, const char *text)
{
    fuzz_emit(emit, kind, slice_str(text));
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
    seed(emit, STATUS, "role id 1\nrole leader\nterm 7\n");
}
