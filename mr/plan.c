/* plan.c - input files and their splits (split.h). Planning opens nothing but directories: it is a stat a file.
 *
 * Failure modes: no such file, an input that cannot be read, that is neither file nor directory, whose size is no
 * multiple of its records', that makes too many splits. */
#include "mr/split.h"

#include <dirent.h>
#include <glob.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mr/unpack.h"
#include "mr/util.h"

#define TASKS_MAX (1024u * 1024) /* the coordinator needs some half a KiB for each */

struct planner {
    struct plan *plan;
    const struct format *format;
    size_t cap;
    struct buf *why;
};

int64_t mr__mtime(const struct stat *st) { return st->st_mtim.tv_sec * (int64_t)NS_PER_S + st->st_mtim.tv_nsec; }

static int fail(struct buf *why, int err, const char *what, const char *path)
{
    mr__fmt(why, "%s %s: %s", what, path, err_text(err));
    return err;
}

static int add_path(struct planner *pl, const char *path, bool below);

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }
static int visible(const struct dirent *e) { return e->d_name[0] != '.' && e->d_name[0] != '_'; }

static int add_directory(struct planner *pl, const char *path)
{
    struct dirent **names;
    int n = scandir(path, &names, visible, by_name), rc = 0;

    if (n < 0) return fail(pl->why, -errno, "cannot list the input directory", path);
    for (int i = 0; i < n; i++) {
        if (rc == 0) {
            char *p = mr__strf("%s/%s", path, names[i]->d_name);
            rc = add_path(pl, p, true);
            free(p);
        }
        free(names[i]);
    }
    free(names);
    return rc;
}

static int add_path(struct planner *pl, const char *path, bool below)
{
    struct stat st;

    if (stat(path, &st) < 0) return fail(pl->why, -errno, "cannot read the input", path);
    if (S_ISDIR(st.st_mode)) {
        struct stat link;
        if (below && pl->format->flat) return 0;
        /* Symbolic links below an input directory may lead in circles. */
        if (below && lstat(path, &link) == 0 && S_ISLNK(link.st_mode)) return 0;
        return add_directory(pl, path);
    }
    if (!S_ISREG(st.st_mode)) {
        mr__fmt(pl->why, "the input %s is neither a file nor a directory", path);
        return -EINVAL;
    }
    if (access(path, R_OK) < 0) return fail(pl->why, -errno, "cannot read the input", path);
    if (pl->plan->files_n == pl->cap) {
        pl->cap = pl->cap ? 2 * pl->cap : 64;
        pl->plan->files = xrealloc(pl->plan->files, pl->cap * sizeof *pl->plan->files);
    }
    pl->plan->files[pl->plan->files_n++] =
        (struct input_file){.path = mr__absolute(path), .size = (uint64_t)st.st_size, .mtime_ns = mr__mtime(&st)};
    return 0;
}

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* A pattern finds what begins with "_" only where it says so. */
static bool asks_for_hidden(const char *pattern)
{
    const char *base = base_of(pattern);
    return *base == '_' || strstr(base, "{_") || strstr(base, ",_");
}

static int add_pattern(struct planner *pl, const char *pattern)
{
    bool hidden = asks_for_hidden(pattern);
    size_t found = 0;
    glob_t g;
    int rc = glob(pattern, GLOB_ERR | GLOB_BRACE, NULL, &g);

    if (rc && rc != GLOB_NOMATCH) return fail(pl->why, errno ? -errno : -EIO, "cannot search for the input", pattern);
    for (size_t i = 0; rc == 0 && i < g.gl_pathc; i++) {
        if (*base_of(g.gl_pathv[i]) == '_' && !hidden) continue;
        rc = add_path(pl, g.gl_pathv[i], false);
        found++;
    }
    globfree(&g);
    if (found) return rc;
    mr__fmt(pl->why, "no input matches %s", pattern);
    return -ENOENT;
}

/* What a job keeps beside its parts. */
static bool is_record(const char *path)
{
    const char *base = base_of(path);
    return strcmp(base, "_SUCCESS") == 0 || strcmp(base, "_counters") == 0 || strcmp(base, "_skipped") == 0;
}

/* Does inputs[i], or one on that side of it, name something else in the same directory? */
static bool beside_data(const char *const *inputs, size_t n, size_t i, ptrdiff_t side)
{
    size_t dir = (size_t)(base_of(inputs[i]) - inputs[i]);
    for (size_t k = i + (size_t)side; k < n; k += (size_t)side) {
        if ((size_t)(base_of(inputs[k]) - inputs[k]) != dir || memcmp(inputs[k], inputs[i], dir) != 0) return false;
        if (!is_record(inputs[k])) return true;
    }
    return false;
}

/* A shell's pattern for everything in an earlier job's output names its records with its parts. */
static bool is_named_by_chance(const char *const *inputs, size_t n, size_t i)
{
    return is_record(inputs[i]) && (beside_data(inputs, n, i, 1) || beside_data(inputs, n, i, -1));
}

static int add_input(struct planner *pl, const char *const *inputs, size_t n, size_t i)
{
    struct stat st;
    if (stat(inputs[i], &st) < 0) return add_pattern(pl, inputs[i]);
    return is_named_by_chance(inputs, n, i) ? 0 : add_path(pl, inputs[i], false);
}

/* Real paths of directories; files of one directory come together. */
struct real_dir {
    char *path, *real;
};

/* The same for every way to write a path: where its directory really is, and its name in there. */
static char *real_name(const char *path, struct real_dir *d)
{
    size_t n = (size_t)(base_of(path) - path);
    if (!d->path || strlen(d->path) != n || memcmp(d->path, path, n) != 0) {
        free(d->path);
        free(d->real);
        d->path = mr__str(slice_of(path, n));
        d->real = realpath(d->path, NULL);
    }
    return mr__strf("%s/%s", d->real ? d->real : d->path, path + n);
}

struct named {
    char *name;
    size_t at;
};

static int by_name_and_place(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    int c = strcmp(x->name, y->name);
    return c ? c : x->at < y->at ? -1 : x->at > y->at;
}

/* Keeps the first of each file, in order. */
static void drop_repeated(struct plan *p)
{
    struct named *v = xmalloc((p->files_n + 1) * sizeof *v);
    bool *repeated = xcalloc(p->files_n + 1, sizeof *repeated);
    struct real_dir dir = {0};
    size_t kept = 0;

    for (size_t i = 0; i < p->files_n; i++) v[i] = (struct named){real_name(p->files[i].path, &dir), i};
    qsort(v, p->files_n, sizeof *v, by_name_and_place);
    for (size_t i = 1; i < p->files_n; i++) repeated[v[i].at] = strcmp(v[i].name, v[i - 1].name) == 0;
    for (size_t i = 0; i < p->files_n; i++) {
        if (repeated[i])
            free(p->files[i].path);
        else
            p->files[kept++] = p->files[i];
    }
    for (size_t i = 0; i < p->files_n; i++) free(v[i].name);
    p->files_n = kept;
    free(dir.path);
    free(dir.real);
    free(v);
    free(repeated);
}

static void add_split(struct plan *p, size_t *cap, uint32_t file, uint64_t off, uint64_t len)
{
    if (p->splits_n == *cap) {
        *cap = *cap ? 2 * *cap : 64;
        p->splits = xrealloc(p->splits, *cap * sizeof *p->splits);
    }
    p->splits[p->splits_n++] = (struct split){.file = file, .off = off, .len = len};
}

/* How many bytes a split of this file has; 0: all of them, it cannot be cut. */
static uint64_t split_size(const struct format *f, const char *path, uint64_t split_bytes)
{
    if (f->input == MR_IN_FILES || f->input == MR_IN_PAIRS) return 0;
    if (!f->raw && mr__packing_of(path) != PACKING_NONE) return 0;
    if (f->input == MR_IN_RECORDS) return max_u64(1, split_bytes / f->record_bytes) * f->record_bytes;
    return split_bytes;
}

static int check_size(const struct format *f, const struct input_file *file, struct buf *why)
{
    bool packed = !f->raw && mr__packing_of(file->path) != PACKING_NONE;

    if (packed && file->size == 0) {
        mr__fmt(why, "the compressed input %s is damaged: it is empty", file->path);
        return -EBADMSG;
    }
    if (f->input == MR_IN_FILES && file->size > MR_RECORD_MAX) {
        mr__fmt(why, "whole files are taken up to %u MiB, and %s has %llu bytes", MR_RECORD_MAX / MIB, file->path,
                (unsigned long long)file->size);
        return -EFBIG;
    }
    if (f->input == MR_IN_RECORDS && !packed && file->size % f->record_bytes) {
        mr__fmt(why, "the input %s has %llu bytes, which is no multiple of its records' %u", file->path,
                (unsigned long long)file->size, f->record_bytes);
        return -EINVAL;
    }
    return 0;
}

static int cut(struct plan *p, uint64_t split_bytes, const struct format *f, struct buf *why)
{
    bool whole = f->input == MR_IN_FILES;
    size_t cap = 0;

    for (uint32_t i = 0; i < p->files_n; i++) {
        uint64_t size = p->files[i].size, off = 0, step = split_size(f, p->files[i].path, split_bytes);
        int rc = check_size(f, &p->files[i], why);
        if (rc < 0) return rc;
        p->bytes += size;
        if (step == 0 && !whole && size > split_bytes) p->uncut_n++;
        /* A last piece of less than a tenth joins the one before. */
        while (step && size - off > step + step / 10 && p->splits_n <= TASKS_MAX) {
            add_split(p, &cap, i, off, step);
            off += step;
        }
        if (whole || size > off) add_split(p, &cap, i, off, size - off);
        if (p->splits_n > TASKS_MAX) {
            mr__fmt(why, "the input makes more than %u tasks: set a larger --split-size", TASKS_MAX);
            return -E2BIG;
        }
    }
    return 0;
}

int mr__plan(const char *const *inputs, size_t n, uint64_t split_bytes, const struct format *f, struct plan *out,
             struct buf *why)
{
    struct planner pl = {.plan = out, .format = f, .why = why};
    int rc = 0;

    check(split_bytes > 0);
    *out = (struct plan){0};
    for (size_t i = 0; i < n && rc == 0; i++) rc = add_input(&pl, inputs, n, i);
    if (rc == 0) {
        drop_repeated(out);
        rc = cut(out, split_bytes, f, why);
    }
    if (rc < 0) mr__plan_free(out);
    return rc;
}

void mr__plan_free(struct plan *p)
{
    for (size_t i = 0; i < p->files_n; i++) free(p->files[i].path);
    free(p->files);
    free(p->splits);
    *p = (struct plan){0};
}
