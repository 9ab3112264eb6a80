/* split.c - reading a split (split.h).
 *
 * Bytes come from the file as they are or through a decompressor; from there on both are one stream. Line borders are
 * found by the reader: it begins behind the first LF at or after the byte before the split (so a line that begins
 * exactly at the border is its own) and goes on to the end of the line that its last byte belongs to.
 *
 * Failure modes: an input that cannot be read or that changed since planning (a job over moving inputs has no right
 * answer), damaged compressed data, a line longer than MR_RECORD_MAX, a last record or pair that is cut off. */
#include "mr/split.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "mr/shuffle.h"
#include "mr/unpack.h"
#include "mr/util.h"

#define CHUNK      MIB          /* given at once, about: progress is told behind each */
#define READ_BYTES (4 * MIB)    /* read at once: in a mount each read is a word with the leader */
#define LINE_BYTES (64u * 1024) /* read beyond the split's end: there its last line should end */

struct split_reader {
    const struct format *format;
    struct split_file file;
    struct split_file *kept; /* where it goes in the end; NULL: nowhere */
    uint64_t size;        /* of the file */
    uint64_t end;         /* of the split, in the stream; UINT64_MAX: the stream's end */
    struct buf buf;
    size_t pos;           /* of buf: what is before it was given */
    uint64_t at;          /* where pos is in the stream */
    size_t given;         /* from pos on, to the caller */
    bool eof;             /* buf ends where the stream ends */
    bool begun;           /* something was given */
    uint64_t taken;       /* mr__split_taken() */
    uint64_t left;        /* mr__split_limit() */
    struct unpack *unpack;
    struct buf packed;    /* read from the file, not yet unpacked from packed_at on */
    size_t packed_at;
    uint64_t packed_off;  /* where in the file it goes on */
};

static int fail(struct buf *why, int err, const char *path)
{
    mr__fmt(why, "cannot read the input %s: %s", path, err_text(err));
    return err;
}

static int changed(struct buf *why, const char *path)
{
    mr__fmt(why, "the input %s changed while the job ran", path);
    return -ESTALE;
}

/* ---- the stream ---- */

static struct slice rest_of(const struct split_reader *r)
{
    return slice_sub(buf_slice(&r->buf), r->pos, r->buf.n - r->pos);
}

/* To the beginning with what has not been given: there shall be room behind it. */
static void compact(struct split_reader *r)
{
    if (r->pos) memmove(r->buf.p, r->buf.p + r->pos, r->buf.n - r->pos);
    r->buf.n -= r->pos;
    r->pos = 0;
}

static int read_file(struct split_reader *r, struct buf *to, uint64_t from, uint64_t want, struct buf *why)
{
    int64_t got = mr__read_at(r->file.fd, buf_extend(to, want), want, from);
    if (got < 0) return fail(why, (int)got, r->file.path);
    return (uint64_t)got < want ? changed(why, r->file.path) : 0;
}

static int fill_packed(struct split_reader *r, size_t n, struct buf *why)
{
    struct slice in = {r->packed.p + r->packed_at, r->packed.n - r->packed_at};
    struct buf what = {0};
    size_t had = r->buf.n;
    int rc = mr__unpack(r->unpack, &in, &r->buf, n, &what);

    r->packed_at = r->packed.n - in.n;
    if (rc == 0 && r->buf.n == had) {
        uint64_t want = min_u64(CHUNK, r->size - r->packed_off);
        if (want == 0) {
            r->eof = true;
            rc = in.n ? -EBADMSG : mr__unpack_end(r->unpack, &what);
            if (in.n) mr__fmt(&what, "bad data at its end");
        } else {
            if (in.n) memmove(r->packed.p, r->packed.p + r->packed_at, in.n);
            r->packed.n = in.n;
            r->packed_at = 0;
            rc = read_file(r, &r->packed, r->packed_off, want, why);
            r->packed_off += want;
            r->taken += want;
        }
    }
    if (what.n) mr__fmt(why, "the compressed input %s is damaged: %.*s", r->file.path, (int)what.n, what.p);
    buf_free(&what);
    return rc;
}

/* Appends up to about n bytes of the stream, or sets eof. */
static int fill(struct split_reader *r, uint64_t n, struct buf *why)
{
    compact(r);
    size_t had = r->buf.n;
    int rc = 0;

    if (!r->unpack) {
        uint64_t from = r->at + r->buf.n, left = r->end > from ? r->end - from + LINE_BYTES : n;
        uint64_t want = min_u64(min_u64(n, left), r->size - from);
        rc = want ? read_file(r, &r->buf, from, want, why) : 0;
        r->eof = from + want == r->size;
        return rc;
    }
    while (rc == 0 && r->buf.n == had && !r->eof) rc = fill_packed(r, (size_t)n, why);
    return rc;
}

/* Moves to the first line that begins in the split. */
static int skip_to_line(struct split_reader *r, struct buf *why)
{
    if (r->format->input != MR_IN_LINES || r->at == 0) return 0;
    for (r->at--; r->at < r->size;) {
        int rc = fill(r, READ_BYTES, why);
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

void mr__split_forget(struct split_file *kept)
{
    if (kept->fd >= 0) close(kept->fd);
    free(kept->path);
    *kept = (struct split_file){.fd = -1};
}

/* 0, or a negative error: -ESTALE, it is another one than was planned with. */
static int check_file(int fd, uint64_t size, int64_t mtime_ns)
{
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) return -errno;
    return (uint64_t)st.st_size == size && mr__mtime(&st) == mtime_ns ? 0 : -ESTALE;
}

static int open_file(struct split_reader *r, const char *path, int64_t mtime_ns, struct buf *why)
{
    struct split_file *k = r->kept;
    if (k && k->fd >= 0 && strcmp(k->path, path) == 0 && check_file(k->fd, r->size, mtime_ns) == 0) {
        r->file = *k;
        *k = (struct split_file){.fd = -1};
        return 0;
    }
    r->file.path = mr__str(slice_str(path));
    r->file.fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = check_file(r->file.fd, r->size, mtime_ns);
    return rc == 0 ? 0 : rc == -ESTALE ? changed(why, path) : fail(why, rc, path);
}

int mr__split_reopen(struct split_file *kept, const char *path, uint64_t size, int64_t mtime_ns, uint64_t off,
                     uint64_t len, const struct format *f, struct split_reader **out, struct buf *why)
{
    enum packing packing = f->raw ? PACKING_NONE : mr__packing_of(path);
    struct split_reader *r = xcalloc(1, sizeof *r);

    *r = (struct split_reader){.format = f, .kept = kept, .size = size, .end = off + len, .at = off};
    r->left = UINT64_MAX;
    if (packing != PACKING_NONE) {
        r->unpack = mr__unpack_new(packing);
        r->at = 0;
        r->end = UINT64_MAX;
    }
    int rc = open_file(r, path, mtime_ns, why);
    if (rc == 0) rc = skip_to_line(r, why);
    if (rc < 0) {
        mr__split_close(r);
        return rc;
    }
    *out = r;
    return 0;
}

int mr__split_open(const char *path, uint64_t size, int64_t mtime_ns, uint64_t off, uint64_t len,
                   const struct format *f, struct split_reader **out, struct buf *why)
{
    return mr__split_reopen(NULL, path, size, mtime_ns, off, len, f, out, why);
}

/* ---- chunks ---- */

/* What a chunk is looked for in: what has not been given, or its beginning. */
struct window {
    struct slice bytes;
    size_t searched; /* of them, before */
    bool at_end;     /* they end where the stream ends */
};

/* Bytes that end with a line, given that lines may begin before the split's end only; 0: not known yet. */
static size_t whole_lines(const struct split_reader *r, const struct window *w)
{
    const uint8_t *p = w->bytes.p, *lf;
    size_t n = w->bytes.n;

    if (r->at + n < r->end) {
        lf = memrchr(p + w->searched, '\n', n - w->searched);
    } else {
        /* The line of the split's last byte is the last one. */
        size_t last = max_u64(r->end - r->at - 1, w->searched);
        lf = memchr(p + last, '\n', n - last);
    }
    if (lf) return (size_t)(lf - p) + 1;
    return w->at_end ? n : 0;
}

/* Bytes that are whole pairs; 0: not one. *bad: what stands there is none. */
static size_t whole_pairs(const struct window *w, bool *bad)
{
    struct slice rest = w->bytes, key, value;
    int64_t n;
    while ((n = mr__format_get_pair(rest, &key, &value)) > 0) rest = slice_sub(rest, (size_t)n, rest.n - (size_t)n);
    if (n < 0 || (w->at_end && rest.n)) *bad = true;
    return w->bytes.n - rest.n;
}

/* How many bytes can be given; 0: more must be looked at. */
static size_t find_records(const struct split_reader *r, const struct window *w, bool *bad)
{
    size_t size = r->format->record_bytes, n = (size_t)min_u64(w->bytes.n, r->end - r->at);

    switch (r->format->input) {
    case MR_IN_FILES:
        return w->at_end ? w->bytes.n : 0;
    case MR_IN_PAIRS:
        return whole_pairs(w, bad);
    case MR_IN_RECORDS:
        *bad = w->at_end && n % size;
        return n / size * size;
    case MR_IN_LINES:
        break;
    }
    return w->bytes.n > w->searched || w->at_end ? whole_lines(r, w) : 0;
}

static size_t record_max(const struct format *f)
{
    return f->input == MR_IN_PAIRS ? MR_PAIR_MAX + 8 : MR_RECORD_MAX;
}

static int too_large(const struct split_reader *r, struct buf *why)
{
    static const char *const names[] = {
        [MR_IN_LINES] = "a line", [MR_IN_RECORDS] = "a record", [MR_IN_FILES] = "a record", [MR_IN_PAIRS] = "a pair"};
    mr__fmt(why, "%s has %s of more than %zu MiB at byte %llu", r->file.path, names[r->format->input],
            record_max(r->format) / MIB, (unsigned long long)r->at);
    return -EMSGSIZE;
}

static int cut_off(const struct split_reader *r, struct buf *why)
{
    mr__fmt(why, "%s: what begins at byte %llu is no %s, or it is cut off", r->file.path,
            (unsigned long long)(r->at + r->given),
            r->format->input == MR_IN_PAIRS ? "key/value pair" : "record of its size");
    return -EBADMSG;
}

static void forget_given(struct split_reader *r)
{
    r->pos += r->given;
    r->at += r->given;
    r->given = 0;
}

/* Is there nothing more to give? An empty file that is taken whole is given once. */
static bool over(const struct split_reader *r)
{
    if (r->format->input == MR_IN_FILES) return r->begun;
    if (r->left == 0) return true;
    return r->at >= r->end || (r->eof && r->buf.n == r->pos);
}

int mr__split_next(struct split_reader *r, struct slice *chunk, uint64_t *off, struct buf *why)
{
    bool whole = r->format->input == MR_IN_FILES, bad = false;
    size_t want = whole && !r->unpack ? (size_t)r->size : READ_BYTES, look = whole ? SIZE_MAX : CHUNK;
    struct window w = {0};
    int rc;

    forget_given(r);
    r->taken = 0;
    while (!over(r)) {
        struct slice rest = rest_of(r);
        w.bytes = slice_sub(rest, 0, min_u64(rest.n, look));
        w.at_end = r->eof && w.bytes.n == rest.n;
        r->given = find_records(r, &w, &bad);
        if (r->given || bad || (whole && w.at_end)) break;
        w.searched = w.bytes.n;
        if (w.bytes.n > record_max(r->format)) return too_large(r, why);
        if (w.bytes.n < rest.n) {
            look *= 2;
            continue;
        }
        if ((rc = fill(r, want, why)) < 0) return rc;
        want = max_u64(want, r->buf.n);
    }
    if (bad) return cut_off(r, why);
    if (over(r)) return 0;
    r->begun = true;
    r->left -= min_u64(r->left, r->given);
    *chunk = slice_sub(rest_of(r), 0, r->given);
    *off = r->at;
    if (!r->unpack) r->taken = r->given;
    return 1;
}

void mr__split_limit(struct split_reader *r, uint64_t bytes) { r->left = bytes; }
uint64_t mr__split_taken(const struct split_reader *r) { return r->taken; }

void mr__split_close(struct split_reader *r)
{
    if (!r) return;
    if (r->kept) {
        mr__split_forget(r->kept);
        *r->kept = r->file;
    } else {
        mr__split_forget(&r->file);
    }
    mr__unpack_free(r->unpack);
    buf_free(&r->buf);
    buf_free(&r->packed);
    free(r);
}
