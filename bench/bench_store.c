/* bench_store.c [OPS [FILES]] - what one change costs where it is applied: the store alone, without disk or network.
 * Prints nanoseconds an operation; under `valgrind --tool=callgrind` its instruction counts are the same each time. */
#include "kv/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define SESSIONS 64u
#define BATCH    32u
#define BURST    4u /* so many changes of a session stand next to each other where it pipelines */

struct bench {
    struct kv__store *store;
    uint64_t index, sessions[SESSIONS], seq[SESSIONS];
    struct kv__batch batch;
    struct buf op;
    struct prng rng;
    uint64_t created;
    unsigned opened;
};

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void outcome(void *arg, uint32_t pos, enum kv__outcome what, enum kv_code code, const struct kv_reply *reply)
{
    struct bench *b = arg;
    if (what != KV__ANSWER || reply->status < 0) {
        fprintf(stderr, "bench_store: %s failed: %d\n", code ? kv_code_name(code) : "an operation", reply->status);
        exit(1);
    }
    if (code == KV_SESSION_OPEN) b->sessions[b->opened++] = reply->off;
    if (code == KV_CREATE || code == KV_MKNOD) b->created = reply->attr.ino;
}

static void flush(struct bench *b)
{
    if (!b->batch.n) return;
    kv__batch_stamp(&b->batch, (int64_t)b->index * 1000000, b->index * 1000);
    if (kv__store_apply(b->store, ++b->index, blob_slice(b->batch.blob))) exit(1);
    kv__batch_free(&b->batch);
    b->batch = (struct kv__batch){0};
}

/* floor: the lowest number that is still unanswered; 0: this one. */
static void add_above(struct bench *b, const struct kv_op *op, unsigned client, uint64_t floor)
{
    buf_clear(&b->op);
    kv_op_encode(op, &b->op, NULL);
    struct kv__record rec = {.op = buf_slice(&b->op)};
    if (op->code != KV_SESSION_OPEN) {
        rec.session = b->sessions[client];
        rec.seq = ++b->seq[client];
        rec.floor = floor ? floor : rec.seq;
    }
    kv__batch_add(&b->batch, &rec);
    if (b->batch.n == BATCH) flush(b);
}

static void add(struct bench *b, const struct kv_op *op, unsigned client) { add_above(b, op, client, 0); }

static void measure(struct bench *b, const char *what, uint64_t ops, void (*one)(struct bench *b, uint64_t i))
{
    double begin = now_ns();
    for (uint64_t i = 0; i < ops; i++) one(b, i);
    flush(b);
    printf("%-24s %8.0f ns\n", what, (now_ns() - begin) / (double)ops);
}

static uint64_t files = 10000;
static uint8_t bytes[4096];

static struct slice key_of(char *key, const char *dir, uint64_t i)
{
    return slice_of(key, (size_t)snprintf(key, 64, "%s/%llu", dir, (unsigned long long)i));
}

static void put(struct bench *b, const char *dir, uint64_t i, size_t n)
{
    char key[64];
    struct kv_op op = {.code = KV_PUT, .name = key_of(key, dir, i), .data = slice_of(bytes, n)};
    add(b, &op, (unsigned)(i % SESSIONS));
}

static void put_new(struct bench *b, uint64_t i) { put(b, "small", i, 256); }
static void put_over(struct bench *b, uint64_t i) { put(b, "small", prng_below(&b->rng, files), 256); }
static void put_large(struct bench *b, uint64_t i) { put(b, "large", prng_below(&b->rng, files), 4096); }

static void put_piped(struct bench *b, uint64_t i)
{
    char key[64];
    unsigned client = (unsigned)(i / BURST % SESSIONS);
    struct kv_op op = {.code = KV_PUT, .name = key_of(key, "small", prng_below(&b->rng, files)),
                       .data = slice_of(bytes, 256)};
    add_above(b, &op, client, b->seq[client] / BURST * BURST + 1);
}

static void create(struct bench *b, uint64_t i)
{
    char name[64];
    struct kv_op op = {.code = KV_CREATE, .ino = FS_ROOT_INO, .mode = 0100644, .name = key_of(name, "f", i)};
    op.name = slice_sub(op.name, 2, op.name.n - 2);
    add(b, &op, (unsigned)(i % SESSIONS));
}

static void unlink_one(struct bench *b, uint64_t i)
{
    char name[64];
    struct kv_op op = {.code = KV_UNLINK, .ino = FS_ROOT_INO, .name = key_of(name, "f", i)};
    op.name = slice_sub(op.name, 2, op.name.n - 2);
    add(b, &op, (unsigned)(i % SESSIONS));
}

static void append(struct bench *b, uint64_t i)
{
    struct kv_op op = {.code = KV_WRITE, .ino = b->created, .flags = 1, .data = slice_of(bytes, sizeof bytes)};
    add(b, &op, 0);
}

int main(int argc, char **argv)
{
    uint64_t ops = argc > 1 ? strtoull(argv[1], NULL, 10) : 200000;
    if (argc > 2) files = strtoull(argv[2], NULL, 10);
    if (!ops || !files) {
        fprintf(stderr, "usage: bench_store [OPS [FILES]]\n");
        return 2;
    }
    static struct bench b;
    struct kv__store_cb cb = {.arg = &b, .outcome = outcome};
    b.store = kv__store_new(&cb);
    prng_seed(&b.rng, 1);
    for (uint64_t i = 0; i < SESSIONS; i++) {
        struct kv_op op = {.code = KV_SESSION_OPEN, .off2 = i + 1};
        add(&b, &op, 0);
    }
    measure(&b, "put 256 B, new", files, put_new);
    measure(&b, "put 256 B, over", ops, put_over);
    for (unsigned i = 0; i < SESSIONS; i++) b.seq[i] += BURST - b.seq[i] % BURST;
    measure(&b, "put 256 B, pipelined", ops / BURST * BURST, put_piped);
    measure(&b, "put 4 KiB", ops, put_large);
    measure(&b, "create", ops, create);
    measure(&b, "append 4 KiB", ops, append);
    measure(&b, "unlink", ops, unlink_one);
    kv__store_free(b.store);
    buf_free(&b.op);
    return 0;
}
