/* fuzz_mr.c - what the processes of a MapReduce job read of each other: jobs, tasks, results, counters and run files. What
 * decodes is encoded again and must decode to the same bytes. A run file of any bytes, its checksums put right where the
 * script says so, is read to its end or refused. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mr/job.h"
#include "mr/shuffle.h"
#include "mr/task.h"
#include "mr/util.h"
#include "tests/fuzz/fuzz.h"

enum { JOB, TASK, RESULT, COUNTERS, RUN, KINDS };

static void again(struct buf *once, struct buf *twice)
{
    check(slice_eq(buf_slice(once), buf_slice(twice)));
    buf_free(once);
    buf_free(twice);
}

static void job(struct slice in)
{
    struct job a, b;
    struct buf once = {0}, twice = {0};
    if (mr__job_decode(in, &a)) return;
    mr__job_encode(&once, &a);
    check(mr__job_decode(buf_slice(&once), &b) == 0);
    mr__job_encode(&twice, &b);
    again(&once, &twice);
    mr__job_free(&a);
    mr__job_free(&b);
}

static void task(struct slice in)
{
    struct task a, b;
    struct buf once = {0}, twice = {0};
    if (mr__task_decode(in, &a)) return;
    mr__task_encode(&once, &a);
    check(mr__task_decode(buf_slice(&once), &b) == 0);
    mr__task_encode(&twice, &b);
    again(&once, &twice);
    mr__task_free(&a);
    mr__task_free(&b);
}

static void result(struct slice in)
{
    struct task_result a, b;
    struct buf once = {0}, twice = {0};
    if (mr__result_decode(in, &a)) return;
    mr__result_encode(&once, &a);
    check(mr__result_decode(buf_slice(&once), &b) == 0);
    mr__result_encode(&twice, &b);
    again(&once, &twice);
    mr__result_free(&a);
    mr__result_free(&b);
}

static void counters(struct slice in)
{
    struct counters a = {0}, b = {0};
    struct buf once = {0}, twice = {0}, json = {0};
    if (mr__counters_decode(in, &a)) {
        mr__counters_encode(&once, &a);
        check(mr__counters_decode(buf_slice(&once), &b));
        mr__counters_encode(&twice, &b);
        again(&once, &twice);
        mr__counters_merge(&b, &a);
        mr__counters_json(&json, &b);
    }
    buf_free(&json);
    mr__counters_free(&a);
    mr__counters_free(&b);
}

/* ---- run files ---- */

#define HEAD 16u
#define ROW 24u
#define TAIL 20u

/* Header, blocks and index get the checksums that belong to them. */
static void fix_run(uint8_t *p, size_t n)
{
    if (n < HEAD + TAIL) return;
    uint64_t index = load_u64(p + n - TAIL);
    uint32_t parts = load_u32(p + 12);
    if (index < HEAD || index > n - TAIL) return;
    for (uint64_t at = HEAD; at + 8 <= index;) {
        uint64_t len = load_u32(p + at);
        if (len > index - at - 8) break;
        store_u32(p + at + 4, crc32c(0, p + at + 8, len));
        at += 8 + len;
    }
    if ((uint64_t)parts * ROW == n - TAIL - index)
        store_u32(p + n - 12, crc32c(crc32c(0, p, HEAD), p + index, (size_t)parts * ROW));
}

static void read_run(const char *path, int fd, uint32_t parts)
{
    struct merge_options o = {.dir = "/nonexistent", .name = "fuzz", .memory = 64 * MIB};
    for (uint32_t part = 0; part < parts; part++) {
        struct run_range range;
        char *copy = mr__strf("%s", path);
        struct run_source src = {.path = copy, .parts = parts, .part = part};
        struct merge *m;
        size_t failed;
        (void)!mr__run_find(fd, parts, part, &range);
        if (mr__merge_open(&src, 1, &o, &m, &failed) == 0) {
            struct sorted *s = mr__merge_sorted(m);
            struct slice key, value;
            while (s->next(s, &key, &value)) check(key.n <= MR_KEY_MAX && key.n + value.n <= MR_PAIR_MAX);
            check(s->err <= 0);
            mr__merge_close(m);
        }
        free(copy);
    }
}

static void run(struct slice in)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("run", MFD_CLOEXEC);
        check(fd >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (in.n < 2) return;
    uint32_t parts = 1 + in.p[0] % 4;
    size_t n = in.n - 2;
    uint8_t *p = xmalloc(n + 1);
    memcpy(p, in.p + 2, n);
    if (in.p[1] & 1) fix_run(p, n);
    check(ftruncate(fd, 0) == 0 && pwrite(fd, p, n, 0) == (ssize_t)n);
    read_run(path, fd, parts);
    free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const kinds[KINDS])(struct slice in) = {
        [JOB] = job, [TASK] = task, [RESULT] = result, [COUNTERS] = counters, [RUN] = run};
    if (size) kinds[data[0] % KINDS](slice_of(data + 1, size - 1));
    return 0;
}

/* ---- seeds ---- */

static void emit_kind(void (*emit)(struct slice seed), uint8_t kind, struct buf *b)
{
    struct buf s = {0};
    put_u8(&s, kind);
    put_bytes(&s, buf_slice(b));
    emit(buf_slice(&s));
    buf_free(&s);
    buf_clear(b);
}

static void seed_run(void (*emit)(struct slice seed), struct buf *b)
{
    char path[] = "/tmp/fuzz-run-XXXXXX";
    int fd = mkstemp(path);
    struct run_writer *w;
    check(fd >= 0 && mr__run_create(path, 3, &w) == 0);
    for (uint32_t part = 0; part < 3; part += 2)
        for (unsigned i = 0; i < 5; i++) mr__run_add(w, part, slice_str("key"), slice_str(i % 2 ? "value" : ""));
    check(mr__run_finish(w, NULL, NULL) == 0);
    put_u8(b, 2);
    put_u8(b, 1);
    uint8_t *p = buf_extend(b, 4096);
    ssize_t n = pread(fd, p, 4096, 0);
    check(n > 0);
    b->n -= 4096 - (size_t)n;
    close(fd);
    unlink(path);
    emit_kind(emit, RUN, b);
}

void fuzz_seeds(void (*emit)(struct slice seed))
{
    struct buf b = {0};
    char text[] = "/some/path", id[] = "abc123";
    struct job j = {.id = id, .map = text, .reduce = text, .cwd = text, .attempts = text, .reducers = 3, .memory = 64 * MIB,
                    .task_timeout_ns = NS_PER_S, .beat_ns = NS_PER_S};
    mr__job_encode(&b, &j);
    emit_kind(emit, JOB, &b);
    struct task t = {.phase = SCHED_MAP, .no = 1, .attempt = 2, .path = text, .size = 1000, .off = 10, .len = 90};
    mr__task_encode(&b, &t);
    emit_kind(emit, TASK, &b);
    struct run_source src[2] = {{text, 3, 0, 1}, {text, 3, 2, 2}};
    struct task red = {.phase = SCHED_REDUCE, .no = 2, .sources = src, .sources_n = 2};
    mr__task_encode(&b, &red);
    emit_kind(emit, TASK, &b);
    struct task_result r = {.phase = SCHED_REDUCE, .no = 2, .outcome = TASK_STARVED};
    mr__result_lose(&r, 77);
    put_bytes(&r.why, slice_str("because"));
    mr__counters_add(&r.counters, slice_str("mine"), 5);
    mr__result_encode(&b, &r);
    emit_kind(emit, RESULT, &b);
    mr__counters_encode(&b, &r.counters);
    emit_kind(emit, COUNTERS, &b);
    mr__result_free(&r);
    seed_run(emit, &b);
    buf_free(&b);
}
