/* fuzz_mr.c - what the processes of a MapReduce job read of each other: jobs, tasks, results, counters, run files, job
 * files and journals. What decodes is encoded again and must decode to the same bytes. A run file of any bytes, its
 * checksums put right where the script says so, is read to its end or refused. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mr/chainfile.h"
#include "mr/job.h"
#include "mr/jobfile.h"
#include "mr/journal.h"
#include "mr/shuffle.h"
#include "mr/task.h"
#include "mr/util.h"
#include "mr/worker.h"
#include "tests/fuzz/fuzz.h"

enum { JOB, TASK, RESULT, COUNTERS, RUN, JOBFILE, JOURNAL, GATHER, CHAINFILE, KINDS };

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
#define ROW  24u
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

/* A file in memory that holds these bytes. */
static int file_of(const uint8_t *p, size_t n, char path[64])
{
    static int fd = -1;
    if (fd < 0) fd = memfd_create("fuzz", MFD_CLOEXEC);
    check(fd >= 0 && ftruncate(fd, 0) == 0 && pwrite(fd, p, n, 0) == (ssize_t)n);
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

static void run(struct slice in)
{
    char path[64];
    if (in.n < 2) return;
    uint32_t parts = 1 + in.p[0] % 4;
    size_t n = in.n - 2;
    uint8_t *p = xmalloc(n + 1);
    memcpy(p, in.p + 2, n);
    if (in.p[1] & 1) fix_run(p, n);
    int fd = file_of(p, n, path);
    read_run(path, fd, parts);
    free(p);
}

/* ---- what is in a job's directory ---- */

static void jobfile(struct slice in)
{
    struct jobfile a, b;
    struct buf raw = {0}, once = {0}, twice = {0};
    put_bytes(&raw, in);
    if (raw.n >= 16) store_u32(raw.p + 12, crc32c(0, raw.p + 16, raw.n - 16));
    if (mr__jobfile_decode(buf_slice(&raw), &a) == 0) {
        mr__jobfile_encode(&once, &a);
        check(mr__jobfile_decode(buf_slice(&once), &b) == 0);
        mr__jobfile_encode(&twice, &b);
        again(&once, &twice);
        mr__jobfile_free(&a);
        mr__jobfile_free(&b);
    }
    buf_free(&raw);
}

static void chainfile(struct slice in)
{
    struct chainfile a, b;
    struct buf raw = {0}, once = {0}, twice = {0};
    put_bytes(&raw, in);
    if (raw.n >= 16) store_u32(raw.p + 12, crc32c(0, raw.p + 16, raw.n - 16));
    if (mr__chainfile_decode(buf_slice(&raw), &a) == 0) {
        mr__chainfile_encode(&once, &a);
        check(mr__chainfile_decode(buf_slice(&once), &b) == 0);
        mr__chainfile_encode(&twice, &b);
        again(&once, &twice);
        mr__chainfile_free(&a);
        mr__chainfile_free(&b);
    }
    buf_free(&raw);
}

/* A job's directory with one journal, whose file is the one in memory. */
static const char *job_dir(const char *file)
{
    static char *dir;
    if (dir) return dir;
    dir = mr__strf("%s/job", fuzz_dir());
    char *epoch = mr__strf("%s/epoch-0", dir), *journal = mr__strf("%s/journal", epoch);
    check(mr__mkdirs(epoch) == 0 && symlink(file, journal) == 0);
    free(epoch);
    free(journal);
    return dir;
}

static void put_again(void *arg, const struct journal_entry *e) { mr__journal_put(arg, e); }

/* Records get their checksums; what is read, put again, is the beginning of the file. */
static void journal(struct slice in)
{
    struct buf raw = {0}, once = {0};
    char path[64];
    uint32_t epochs;
    put_bytes(&raw, in);
    for (size_t at = 0; at + 8 <= raw.n;) {
        uint32_t n = load_u32(raw.p + at);
        if (n > raw.n - at - 8) break;
        store_u32(raw.p + at + 4, crc32c(0, raw.p + at + 8, n));
        at += 8 + n;
    }
    if (raw.n == 0) return;
    file_of(raw.p, raw.n, path);
    check(mr__journal_read(job_dir(path), put_again, &once, &epochs) == 0 && epochs == 1);
    check(once.n <= raw.n && memcmp(once.p ? once.p : raw.p, raw.p, once.n) == 0);
    buf_free(&once);
    buf_free(&raw);
}

/* Who has what a reduce task needs. There is no partition for it here, so it is read to its end and refused. */
static void gather(struct slice in)
{
    static struct io_loop *loop;
    uint32_t no, attempt;
    if (!loop) loop = io_loop_new();
    struct gather_options o = {.loop = loop, .coordinator = "host:1"};
    check(!mr__gather_start(&o, in, &no, &attempt));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const kinds[KINDS])(struct slice in) = {
        [JOB] = job,         [TASK] = task,       [RESULT] = result, [COUNTERS] = counters,  [RUN] = run,
        [JOBFILE] = jobfile, [JOURNAL] = journal, [GATHER] = gather, [CHAINFILE] = chainfile};
    if (size) kinds[data[0] % KINDS](slice_of(data + 1, size - 1));
    return 0;
}

/* ---- seeds ---- */

static void seed_run(void (*emit)(struct slice seed), struct buf *b)
{
    char *path = mr__strf("%s/run", fuzz_dir());
    struct run_writer *w;
    check(mr__run_create(path, 3, &w) == 0);
    for (uint32_t part = 0; part < 3; part += 2)
        for (unsigned i = 0; i < 5; i++) mr__run_add(w, part, slice_str("key"), slice_str(i % 2 ? "value" : ""));
    check(mr__run_finish(w, NULL, NULL) == 0);
    put_u8(b, 2);
    put_u8(b, 1);
    check(mr__read_file(path, 4096, b) == 0);
    free(path);
    fuzz_emit_buf(emit, RUN, b);
}

void fuzz_seeds(void (*emit)(struct slice seed))
{
    struct buf b = {0};
    char text[] = "/some/path", id[] = "abc123";
    struct job j = {.id = id,
                    .map = text,
                    .reduce = text,
                    .cwd = text,
                    .attempts = text,
                    .reducers = 3,
                    .memory = 64 * MIB,
                    .task_timeout_ns = NS_PER_S,
                    .beat_ns = NS_PER_S,
                    .format = {.partition = MR_PARTITION_HASH, .key_fields = 1, .partition_fields = 1}};
    mr__job_encode(&b, &j);
    fuzz_emit_buf(emit, JOB, &b);
    struct task t = {.phase = SCHED_MAP, .no = 1, .attempt = 2, .path = text, .size = 1000, .off = 10, .len = 90};
    mr__task_encode(&b, &t);
    fuzz_emit_buf(emit, TASK, &b);
    struct run_source src[2] = {{text, 3, 0, 1}, {text, 3, 2, 2}};
    struct task red = {.phase = SCHED_REDUCE, .no = 2, .sources = src, .sources_n = 2};
    mr__task_encode(&b, &red);
    fuzz_emit_buf(emit, TASK, &b);
    struct task_result r = {.phase = SCHED_REDUCE, .no = 2, .outcome = TASK_STARVED};
    mr__result_lose(&r, 77);
    put_bytes(&r.why, slice_str("because"));
    mr__counters_add(&r.counters, slice_str("mine"), 5);
    mr__result_encode(&b, &r);
    fuzz_emit_buf(emit, RESULT, &b);
    mr__counters_encode(&b, &r.counters);
    fuzz_emit_buf(emit, COUNTERS, &b);
    mr__result_free(&r);
    seed_run(emit, &b);
    struct input_file file = {.path = text, .size = 1000, .mtime_ns = 5};
    struct split splits[2] = {{0, 0, 500}, {0, 500, 500}};
    struct jobfile jf = {.job = j, .plan = {&file, 1, splits, 2, 1000}, .rerun = text, .attempts = 4};
    mr__jobfile_encode(&b, &jf);
    fuzz_emit_buf(emit, JOBFILE, &b);
    struct journal_entry e[3] = {{.kind = JOURNAL_EPOCH, .inode = 77},
                                 {.kind = JOURNAL_DONE,
                                  .phase = SCHED_MAP,
                                  .task = 1,
                                  .attempt = 65536,
                                  .holder = slice_str("host 5"),
                                  .counters = slice_str("xx")},
                                 {.kind = JOURNAL_PUBLISH, .inode = 78}};
    for (unsigned i = 0; i < 3; i++) mr__journal_put(&b, &e[i]);
    fuzz_emit_buf(emit, JOURNAL, &b);
    for (unsigned i = 0; i < 3; i++) put_u32(&b, i < 2 ? i : 2); /* number, attempt, workers */
    for (unsigned i = 0; i < 2; i++) {
        put_slice16(&b, slice_str("host"));
        put_slice16(&b, slice_str("/work"));
        put_slice16(&b, slice_str(i ? ":7000" : "unix:/sock"));
    }
    put_u32(&b, 3);
    for (uint32_t i = 0; i < 3; i++) {
        put_u32(&b, i % 2);
        put_u32(&b, i);
    }
    fuzz_emit_buf(emit, GATHER, &b);
    char *input = text;
    struct stage stages[2] = {{.job = j, .inputs = &input, .inputs_n = 1, .attempts = 4}, {.job = j, .rerun = text}};
    struct chainfile cf = {.v = stages, .n = 2, .replace = true};
    mr__chainfile_encode(&b, &cf);
    fuzz_emit_buf(emit, CHAINFILE, &b);
    buf_free(&b);
}
