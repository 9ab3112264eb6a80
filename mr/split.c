/* split.c - input files, their splits, and the reader of a split (split.h).
 *
 * Planning opens nothing but directories: it is a stat a file. Line borders are found by the reader: it begins behind
 * the first LF at or after the byte before the split (so a line that begins exactly at the border is its own) and goes
 * on to the end of the line that its last byte belongs to.
 *
 * Failure modes: no such file, an input that cannot be read, that is neither file nor directory, or that changed since
 * planning (a job over moving inputs has no right answer), a line longer than MR_RECORD_MAX. */
#include "mr/split.h"

#include <dirent.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mr/util.h"

#define CHUNK MIB

/* ---- planning ---- */

struct planner {
    struct plan *plan;
    size_t cap;
    struct buf *why;
};

static int64_t mtime_of(const struct stat *st) { return st->st_mtim.tv_sec * (int64_t)NS_PER_S + st->st_mtim.tv_nsec; }

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
        (struct input_file){.path = mr__absolute(path), .size = (uint64_t)st.st_size, .mtime_ns = mtime_of(&st)};
    return 0;
}

static int add_input(struct planner *pl, const char *pattern)
{
    struct stat st;
    glob_t g;
    int rc = 0;

    if (stat(pattern, &st) == 0) return add_path(pl, pattern, false);
    switch (glob(pattern, GLOB_ERR | GLOB_BRACE, NULL, &g)) {
    case 0:
        break;
    case GLOB_NOMATCH:
        mr__fmt(pl->why, "no input matches %s", pattern);
        return -ENOENT;
    default:
        return fail(pl->why, errno ? -errno : -EIO, "cannot search for the input", pattern);
    }
    for (size_t i = 0; i < g.gl_pathc && rc == 0; i++) rc = add_path(pl, g.gl_pathv[i], false);
    globfree(&g);
    return rc;
}

struct named {
    const char *path;
    size_t at;
};

static int by_path(const void *a, const void *b)
{
    const struct named *x = a, *y = b;
    int c = strcmp(x->path, y->path);
    return c ? c : x->at < y->at ? -1 : x->at > y->at;
}

/* Keeps the first of each path, in order. */
static void drop_repeated(struct plan *p)
{
    struct named *v = xmalloc((p->files_n + 1) * sizeof *v);
    bool *repeated = xcalloc(p->files_n + 1, sizeof *repeated);
    size_t kept = 0;

    for (size_t i = 0; i < p->files_n; i++) v[i] = (struct named){p->files[i].path, i};
    qsort(v, p->files_n, sizeof *v, by_path);
    for (size_t i = 1; i < p->files_n; i++) repeated[v[i].at] = strcmp(v[i].path, v[i - 1].path) == 0;
    for (size_t i = 0; i < p->files_n; i++) {
        if (repeated[i])
            free(p->files[i].path);
        else
            p->files[kept++] = p->files[i];
    }
    p->files_n = kept;
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

static int cut(struct plan *p, uint64_t split_bytes, bool whole, struct buf *why)
{
    size_t cap = 0;
    for (uint32_t i = 0; i < p->files_n; i++) {
        uint64_t size = p->files[i].size, off = 0;
        p->bytes += size;
        if (whole && size > MR_RECORD_MAX) {
            mr__fmt(why, "the application takes whole files of at most %u MiB, and %s has %llu bytes",
                    MR_RECORD_MAX / MIB, p->files[i].path, (unsigned long long)size);
            return -EFBIG;
        }
        /* A last piece of less than a tenth joins the one before. */
        while (!whole && size - off > split_bytes + split_bytes / 10) {
            add_split(p, &cap, i, off, split_bytes);
            off += split_bytes;
        }
        if (whole || size > off) add_split(p, &cap, i, off, size - off);
        if (p->splits_n > UINT32_MAX / 2) {
            mr__fmt(why, "the input makes too many tasks: set a larger --split-size");
            return -E2BIG;
        }
    }
    return 0;
}

int mr__plan(const char *const *inputs, size_t n, uint64_t split_bytes, bool whole, struct plan *out, struct buf *why)
{
    struct planner pl = {.plan = out, .why = why};
    int rc = 0;

    check(split_bytes > 0);
    *out = (struct plan){0};
    for (size_t i = 0; i < n && rc == 0; i++) rc = add_input(&pl, inputs[i]);
    if (rc == 0) {
        drop_repeated(out);
        rc = cut(out, split_bytes, whole, why);
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

/* ---- reading ---- */

struct split_reader {
    int fd;
    char *path;
    uint64_t size, end; /* of the file; of the split */
    uint64_t at;        /* where in the file buf begins */
    struct buf buf;
    size_t given; /* of buf, to the caller */
    bool whole, over;
};

static int changed(struct buf *why, const char *path)
{
    mr__fmt(why, "the input %s changed while the job ran", path);
    return -ESTALE;
}

/* Appends up to n bytes of the file; fewer than there should be: it was cut short. */
static int fill(struct split_reader *r, uint64_t n, struct buf *why)
{
    uint64_t from = r->at + r->buf.n, want = min_u64(n, r->size - from);
    int64_t got = mr__read_at(r->fd, buf_extend(&r->buf, want), want, from);

    if (got < 0) return fail(why, (int)got, "cannot read the input", r->path);
    if ((uint64_t)got < want) return changed(why, r->path);
    return 0;
}

/* Moves to the first line that begins in the split. */
static int skip_to_line(struct split_reader *r, struct buf *why)
{
    if (r->whole || r->at == 0) return 0;
    for (r->at--; r->at < r->size;) {
        int rc = fill(r, CHUNK, why);
        if (rc < 0) return rc;
        uint8_t *lf = memchr(r->buf.p, '\n', r->buf.n);
        if (lf) {
            r->given = (size_t)(lf - r->buf.p) + 1;
            return 0;
        }
        r->at += r->buf.n;
        buf_clear(&r->buf);
        if (r->at >= r->end) break; /* no line begins here */
    }
    r->at = r->size;
    return 0;
}

int mr__split_open(const char *path, uint64_t size, int64_t mtime_ns, uint64_t off, uint64_t len, bool whole,
                   struct split_reader **out, struct buf *why)
{
    struct split_reader *r = xcalloc(1, sizeof *r);
    struct stat st;
    int rc = 0;

    *r = (struct split_reader){.size = size, .end = off + len, .at = off, .whole = whole, .path = mr__strf("%s", path)};
    r->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (r->fd < 0 || fstat(r->fd, &st) < 0)
        rc = fail(why, -errno, "cannot read the input", path);
    else if ((uint64_t)st.st_size != size || mtime_of(&st) != mtime_ns)
        rc = changed(why, path);
    if (rc == 0) rc = skip_to_line(r, why);
    if (rc < 0) {
        mr__split_close(r);
        return rc;
    }
    *out = r;
    return 0;
}

/* Bytes of buf that end with a line, given that lines may begin before the split's end only; 0: not known yet. */
static size_t whole_lines(const struct split_reader *r, size_t searched)
{
    const uint8_t *p = r->buf.p;
    uint64_t buf_end = r->at + r->buf.n;
    const uint8_t *lf;

    if (r->whole) return buf_end == r->size ? r->buf.n : 0;
    if (buf_end < r->end) {
        lf = memrchr(p + searched, '\n', r->buf.n - searched);
    } else {
        /* The line of the split's last byte is the last one. */
        size_t last = r->end - r->at - 1;
        if (last < searched) last = searched;
        lf = memchr(p + last, '\n', r->buf.n - last);
    }
    if (lf) return (size_t)(lf - p) + 1;
    return buf_end == r->size ? r->buf.n : 0;
}

int mr__split_next(struct split_reader *r, struct slice *chunk, uint64_t *off, struct buf *why)
{
    size_t searched = 0, want = CHUNK;
    int rc;

    if (r->given) {
        memmove(r->buf.p, r->buf.p + r->given, r->buf.n - r->given);
        r->buf.n -= r->given;
        r->at += r->given;
        r->given = 0;
    }
    if (r->over || (r->at >= r->end && !(r->whole && r->size == 0))) return 0;
    if (r->whole) want = (size_t)r->size;
    while ((r->given = r->buf.n > searched || r->whole ? whole_lines(r, searched) : 0) == 0) {
        searched = r->buf.n;
        if (r->whole && r->size == 0) {
            r->over = true;
            break;
        }
        if (r->buf.n > MR_RECORD_MAX) {
            mr__fmt(why, "%s has a line of more than %u MiB at byte %llu", r->path, MR_RECORD_MAX / MIB,
                    (unsigned long long)r->at);
            return -EMSGSIZE;
        }
        if ((rc = fill(r, want, why)) < 0) return rc;
        want = want < r->buf.n ? r->buf.n : want;
    }
    *chunk = (struct slice){r->buf.p, r->given};
    *off = r->at;
    return 1;
}

void mr__split_close(struct split_reader *r)
{
    if (!r) return;
    if (r->fd >= 0) close(r->fd);
    buf_free(&r->buf);
    free(r->path);
    free(r);
}
