/* sample.c - sampling the keys of a job (sample.h).
 *
 * Pieces that lie evenly in the input are mapped, each in a child process (guard.h), into a run file each; merged, they
 * are the sample in the order of its keys, and each part begins at the key that its share of the pairs has before it. A
 * key is never cut in two: a heavy one makes its part larger, and others empty. Of what cannot be cut the beginning has
 * to do: to map all of it here would be the job itself, with one process.
 *
 * Failure modes: the map program fails on a piece. With --skip-bad that piece is left out. */
#include "mr/sample.h"

#include <stdlib.h>
#include <unistd.h>

#include "mr/collect.h"
#include "mr/guard.h"
#include "mr/shuffle.h"
#include "mr/unpack.h"
#include "mr/util.h"

#define PIECES      24u
#define PIECE_BYTES (128u * KIB)
#define UNCUT_BYTES (64u * MIB) /* of all that cannot be cut: beginnings, in equal shares */
#define MEMORY      (64ull * MIB)
#define CUTS_BYTES  (8u * MIB) /* all of them go to each worker in one message */
#define CUT_BYTES   4096u

struct piece {
    const struct job *job;
    const struct plan *plan;
    struct split split;
    char *path;
    char *name;
    const char *dir;
};

static void no_touch(void *arg, uint64_t bytes) {}

static int map_piece(const struct piece *p, const struct program *map, struct collect *out, struct counters *counters,
                     struct buf *why)
{
    const struct input_file *f = &p->plan->files[p->split.file];
    struct program_context c = {.job = p->job->id,
                                .cwd = p->job->cwd,
                                .path = f->path,
                                .off = p->split.off,
                                .len = p->split.len,
                                .format = &p->job->format,
                                .counters = counters,
                                .touch = no_touch,
                                .limit_ns = p->job->task_timeout_ns};
    struct split_reader *in = NULL;
    int rc = mr__split_open(f->path, f->size, f->mtime_ns, p->split.off, p->split.len, &p->job->format, &in, why);
    if (rc == 0) mr__split_limit(in, UNCUT_BYTES / min_u64(PIECES, p->plan->splits_n));
    if (rc == 0) rc = mr__program_map(map, &c, in, out, why);
    mr__split_close(in);
    return rc;
}

/* In a child process. */
static int run_piece(void *arg, struct buf *why)
{
    const struct piece *p = arg;
    struct format unsorted = mr__format_default;
    struct collect_options o = {
        .parts = 1, .format = &unsorted, .memory = MEMORY, .dir = p->dir, .name = p->name};
    struct collect *out = mr__collect_new(&o);
    struct counters counters = {0};
    struct program map;
    struct slice what;

    int rc = mr__program_open(p->job->map, PROGRAM_MAP, &map, why);
    if (rc == 0) rc = map_piece(p, &map, out, &counters, why);
    if (rc == 0) rc = mr__collect_finish(out, p->path, NULL, NULL);
    if (rc < 0 && why->n == 0 && mr__collect_error(out, &what) < 0) put_bytes(why, what);
    if (rc < 0 && why->n == 0) mr__fmt(why, "%s", err_text(rc));
    mr__collect_free(out);
    mr__counters_free(&counters);
    return rc;
}

/* The piece that begins near `at`, a place in all input laid end to end. */
static struct split piece_at(const struct plan *plan, const struct format *f, uint64_t at)
{
    size_t i = 0;
    for (; i + 1 < plan->splits_n && at >= plan->splits[i].len; i++) at -= plan->splits[i].len;
    struct split s = plan->splits[i];
    const char *path = plan->files[s.file].path;
    bool packed = !f->raw && mr__packing_of(path) != PACKING_NONE;

    if (packed || f->input == MR_IN_FILES || f->input == MR_IN_PAIRS) return s;
    uint64_t unit = f->input == MR_IN_RECORDS ? f->record_bytes : 1, end = s.off + s.len;
    if (at > s.len - 1) at = s.len - 1;
    s.off += at / unit * unit;
    s.len = min_u64(max_u64(unit, PIECE_BYTES / unit * unit), end - s.off);
    return s;
}

static int run_pieces(const struct job *j, const struct plan *plan, const char *dir, struct run_source *v, size_t *n,
                      struct buf *why)
{
    uint64_t step = max_u64(plan->bytes / PIECES, PIECE_BYTES), last_end = 0;
    uint32_t last_file = UINT32_MAX;
    int rc = 0;

    for (uint64_t at = 0; at < plan->bytes && *n < PIECES && rc == 0; at += step) {
        struct piece p = {.job = j, .plan = plan, .split = piece_at(plan, &j->format, at), .dir = dir};
        struct buf answer = {0};
        bool crashed;
        if (p.split.file == last_file && p.split.off < last_end) continue; /* a file in one piece */
        last_file = p.split.file;
        last_end = p.split.off + p.split.len;
        p.name = mr__strf("sample-%zu", *n);
        p.path = mr__strf("%s/%s", dir, p.name);
        rc = mr__guard(run_piece, &p, &answer, &crashed);
        if (rc == 0) {
            v[(*n)++] = (struct run_source){.path = mr__strf("%s", p.path), .parts = 1};
        } else if (j->format.skip_bad && (crashed || rc == -ECHILD || rc == -ECANCELED)) {
            rc = 0;
        } else {
            mr__fmt(why, "'%s' failed on a sample of the input (%s, %llu bytes from byte %llu): %.*s", j->map,
                    plan->files[p.split.file].path, (unsigned long long)p.split.len, (unsigned long long)p.split.off,
                    (int)answer.n, answer.p);
        }
        buf_free(&answer);
        free(p.name);
        free(p.path);
    }
    return rc;
}

/* Takes the keys before which 1/parts, 2/parts ... of all pairs lie. */
static int choose_cuts(struct job *j, struct sorted *in, uint64_t pairs)
{
    struct format *f = &j->format;
    struct slice key, value;
    size_t longest = min_u64(CUT_BYTES, CUTS_BYTES / j->reducers);
    uint64_t seen = 0;

    f->cuts = xcalloc(j->reducers, sizeof *f->cuts);
    for (uint32_t part = 1; part < j->reducers && in->next(in, &key, &value); seen++) {
        if (seen < pairs * part / j->reducers) continue;
        while (part < j->reducers && seen >= pairs * part / j->reducers) part++;
        key.n = min_u64(key.n, longest); /* its beginning parts the keys as well */
        if (f->cuts_n && slice_eq(f->cuts[f->cuts_n - 1], key)) continue;
        f->cuts[f->cuts_n++] = slice_of(mr__str(key), key.n);
    }
    return in->err;
}

static int open_merge(const struct run_source *v, size_t n, const char *dir, struct merge **m)
{
    struct merge_options o = {.dir = dir, .name = "sample", .memory = MEMORY};
    size_t failed;
    return mr__merge_open(v, n, &o, m, &failed);
}

static int merge_pieces(struct job *j, const struct run_source *v, size_t n, const char *dir)
{
    struct slice key, value;
    struct merge *m;
    int rc = open_merge(v, n, dir, &m);

    if (rc < 0) return rc;
    struct sorted *all = mr__merge_sorted(m);
    while (all->next(all, &key, &value)) continue;
    rc = all->err;
    uint64_t pairs = mr__merge_records(m);
    mr__merge_close(m);
    if (rc == 0) rc = open_merge(v, n, dir, &m);
    if (rc < 0) return rc;
    rc = choose_cuts(j, mr__merge_sorted(m), pairs);
    mr__merge_close(m);
    return rc;
}

int mr__sample_cuts(struct job *j, const struct plan *plan, const char *dir, struct buf *why)
{
    struct run_source v[PIECES];
    size_t n = 0;

    if (j->format.partition != MR_PARTITION_RANGE || j->reducers == 1 || plan->splits_n == 0) return 0;
    int rc = run_pieces(j, plan, dir, v, &n, why);
    if (rc == 0 && (rc = merge_pieces(j, v, n, dir)) < 0)
        mr__fmt(why, "cannot sample the keys of the job in %s: %s", dir, err_text(rc));
    for (size_t i = 0; i < n; i++) {
        unlink(v[i].path);
        free(v[i].path);
    }
    return rc;
}
