/* format.c - format.h. What comes over the wire is validated field by field. */
#include "mr/format.h"

#include <stdlib.h>

#include "mr/shuffle.h"
#include "mr/util.h"

const struct format mr__format_default = {.key_fields = 1, .partition_fields = 1, .separator = '\t'};

/* ---- options ---- */

static bool good_param(const char *s)
{
    size_t n = strcspn(s, "=");
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    return n > 0 && s[n] == '=' && strspn(s, letters) == n;
}

static int check_params(const struct mr_options *o, struct buf *why)
{
    if (o->params_n > MR_PARAMS_MAX) {
        mr__fmt(why, "a job has at most %u parameters (--set)", MR_PARAMS_MAX);
        return -EINVAL;
    }
    for (size_t i = 0; i < o->params_n; i++) {
        if (good_param(o->params[i])) continue;
        mr__fmt(why, "--set wants NAME=VALUE (a name of letters, digits and _-.), not '%s'", o->params[i]);
        return -EINVAL;
    }
    return 0;
}

int mr__format_make(const struct mr_options *o, struct format *out, struct buf *why)
{
    *out = mr__format_default;
    if (o->key_fields > MR_FIELDS_MAX || o->partition_fields > MR_FIELDS_MAX) {
        mr__fmt(why, "a key has at most %u fields", MR_FIELDS_MAX);
        return -EINVAL;
    }
    if ((o->input_format == MR_IN_RECORDS) != (o->record_bytes != 0) || o->record_bytes > 256u * MIB) {
        mr__fmt(why, "records of a fixed size want that size (--record-size), at most 256 MiB");
        return -EINVAL;
    }
    int rc = check_params(o, why);
    if (rc < 0) return rc;
    out->input = (enum mr_input_format)o->input_format;
    out->pipe = (enum mr_pipe_format)o->pipe_format;
    out->output = (enum mr_output_format)o->output_format;
    out->partition = o->partition == MR_PARTITION_DEFAULT ? MR_PARTITION_HASH : (enum mr_partition)o->partition;
    out->record_bytes = o->record_bytes;
    out->key_fields = o->key_fields ? o->key_fields : 1;
    out->partition_fields = o->partition_fields ? o->partition_fields : 1;
    out->separator = o->separator ? (uint8_t)o->separator : '\t';
    out->sort_values = o->sort_values;
    out->flat = o->flat;
    out->raw = o->no_decompress;
    out->skip_bad = o->skip_bad;
    out->params = xcalloc(o->params_n + 1, sizeof *out->params);
    for (; out->params_n < o->params_n; out->params_n++)
        out->params[out->params_n] = mr__strf("%s", o->params[out->params_n]);
    return 0;
}

void mr__format_free(struct format *f)
{
    for (size_t i = 0; i < f->params_n; i++) free(f->params[i]);
    for (size_t i = 0; i < f->cuts_n; i++) free((void *)(uintptr_t)f->cuts[i].p);
    free(f->params);
    free(f->cuts);
    *f = (struct format){0};
}

const char *mr__format_param(const struct format *f, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = f->params_n; i-- > 0;)
        if (strncmp(f->params[i], name, n) == 0 && f->params[i][n] == '=') return f->params[i] + n + 1;
    return NULL;
}

/* ---- as bytes ---- */

void mr__format_encode(struct buf *b, const struct format *f)
{
    put_u8(b, (uint8_t)f->input);
    put_u8(b, (uint8_t)f->pipe);
    put_u8(b, (uint8_t)f->output);
    put_u8(b, (uint8_t)f->partition);
    put_u32(b, f->record_bytes);
    put_u32(b, f->key_fields);
    put_u32(b, f->partition_fields);
    put_u8(b, f->separator);
    put_u8(b, (uint8_t)(f->sort_values | f->flat << 1 | f->raw << 2));
    put_u32(b, f->skip_bad);
    put_u32(b, (uint32_t)f->params_n);
    for (size_t i = 0; i < f->params_n; i++) put_slice32(b, slice_str(f->params[i]));
    put_u32(b, (uint32_t)f->cuts_n);
    for (size_t i = 0; i < f->cuts_n; i++) put_slice32(b, f->cuts[i]);
}

static void get_params(struct reader *r, struct format *f)
{
    uint32_t n = get_u32(r);
    if (n > MR_PARAMS_MAX) r->bad = true;
    f->params = r->bad ? NULL : xcalloc(n + 1, sizeof *f->params);
    while (!r->bad && f->params_n < n) {
        struct slice s = get_slice32(r);
        if (s.n && memchr(s.p, 0, s.n)) r->bad = true;
        f->params[f->params_n] = mr__str(r->bad ? (struct slice){0} : s);
        if (!good_param(f->params[f->params_n++])) r->bad = true;
    }
}

static void get_cuts(struct reader *r, struct format *f)
{
    uint32_t n = get_u32(r);
    if (n > reader_left(r) / 4) r->bad = true;
    f->cuts = r->bad ? NULL : xcalloc(n + 1, sizeof *f->cuts);
    while (!r->bad && f->cuts_n < n) {
        struct slice s = get_slice32(r);
        f->cuts[f->cuts_n] = slice_of(mr__str(s), s.n);
        if (f->cuts_n && slice_cmp(f->cuts[f->cuts_n - 1], f->cuts[f->cuts_n]) >= 0) r->bad = true;
        f->cuts_n++;
    }
}

bool mr__format_decode(struct reader *r, struct format *out)
{
    *out = (struct format){0};
    uint8_t input = get_u8(r), pipe = get_u8(r), output = get_u8(r), partition = get_u8(r);
    out->record_bytes = get_u32(r);
    out->key_fields = get_u32(r);
    out->partition_fields = get_u32(r);
    out->separator = get_u8(r);
    uint8_t flags = get_u8(r);
    out->skip_bad = get_u32(r);
    get_params(r, out);
    get_cuts(r, out);
    if (input > MR_IN_PAIRS || pipe > MR_PIPE_PAIRS || output > MR_OUT_RAW || partition > MR_PARTITION_FIELD ||
        partition == MR_PARTITION_DEFAULT || (input == MR_IN_RECORDS) != (out->record_bytes != 0) ||
        out->record_bytes > 256u * MIB || out->key_fields == 0 || out->key_fields > MR_FIELDS_MAX ||
        out->partition_fields == 0 || out->partition_fields > MR_FIELDS_MAX || flags > 7)
        r->bad = true;
    if (r->bad) {
        mr__format_free(out);
        return false;
    }
    out->input = (enum mr_input_format)input;
    out->pipe = (enum mr_pipe_format)pipe;
    out->output = (enum mr_output_format)output;
    out->partition = (enum mr_partition)partition;
    out->sort_values = flags & 1;
    out->flat = flags & 2;
    out->raw = flags & 4;
    return true;
}

/* ---- partitions, lines, pairs ---- */

/* The end of the first n fields. */
static size_t fields_end(struct slice s, uint32_t n, uint8_t separator)
{
    size_t at = 0;
    for (; n > 0; n--) {
        const uint8_t *p = at < s.n ? memchr(s.p + at, separator, s.n - at) : NULL;
        if (!p) return s.n;
        at = (size_t)(p - s.p) + 1;
    }
    return at - 1;
}

uint32_t mr__format_part(const struct format *f, uint32_t parts, struct slice key)
{
    size_t lo = 0, hi = f->cuts_n;

    if (parts == 1) return 0;
    if (f->partition == MR_PARTITION_FIELD) key.n = fields_end(key, f->partition_fields, f->separator);
    if (f->partition != MR_PARTITION_RANGE) return key_fnv(key) % parts;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (slice_cmp(f->cuts[mid], key) <= 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return (uint32_t)min_u64(lo, parts - 1);
}

void mr__format_line(const struct format *f, struct slice line, struct slice *key, struct slice *value)
{
    size_t n = fields_end(line, f->key_fields, '\t');
    *key = slice_sub(line, 0, n);
    *value = n < line.n ? slice_sub(line, n + 1, line.n - n - 1) : (struct slice){0};
}

static bool has_tab(const struct format *f, struct slice key)
{
    size_t n = fields_end(key, f->key_fields, '\t');
    return n < key.n;
}

int mr__format_put_line(const struct format *f, struct buf *b, struct slice key, struct slice value, const char *where,
                        struct buf *why)
{
    bool bad_key = key.n && (has_tab(f, key) || memchr(key.p, '\n', key.n));
    if (bad_key || (value.n && memchr(value.p, '\n', value.n))) {
        mr__fmt(why, "the %s of '%.*s' has a %s in it, which %s cannot carry (--pipe pairs and --output-format can)",
                bad_key ? "key" : "value", (int)min_u64(key.n, 100), key.p, bad_key ? "TAB or newline" : "newline",
                where);
        return -EBADMSG;
    }
    put_bytes(b, key);
    put_u8(b, '\t');
    put_bytes(b, value);
    put_u8(b, '\n');
    return 0;
}

void mr__format_put_pair(struct buf *b, struct slice key, struct slice value)
{
    put_u32(b, (uint32_t)key.n);
    put_u32(b, (uint32_t)value.n);
    put_bytes(b, key);
    put_bytes(b, value);
}

int64_t mr__format_get_pair(struct slice in, struct slice *key, struct slice *value)
{
    if (in.n < 8) return 0;
    uint64_t key_n = load_u32(in.p), value_n = load_u32(in.p + 4);
    if (key_n > MR_KEY_MAX || key_n + value_n > MR_PAIR_MAX) return -EMSGSIZE;
    if (in.n - 8 < key_n + value_n) return 0;
    *key = slice_sub(in, 8, key_n);
    *value = slice_sub(in, 8 + key_n, value_n);
    return (int64_t)(8 + key_n + value_n);
}

static size_t line_end(struct slice in, struct slice *text)
{
    const uint8_t *lf = memchr(in.p, '\n', in.n);
    size_t n = lf ? (size_t)(lf - in.p) : in.n;
    *text = slice_sub(in, 0, n && in.p[n - 1] == '\r' ? n - 1 : n);
    return n + (lf != NULL);
}

bool mr__format_record(const struct format *f, struct slice *rest, struct format_record *out)
{
    size_t n = rest->n;

    *out = (struct format_record){0};
    if (n == 0) return false;
    switch (f->input) {
    case MR_IN_LINES:
        n = line_end(*rest, &out->text);
        break;
    case MR_IN_RECORDS:
        n = min_u64(n, f->record_bytes);
        out->text = slice_sub(*rest, 0, n);
        break;
    case MR_IN_FILES:
        out->text = *rest;
        break;
    case MR_IN_PAIRS:
        n = (size_t)mr__format_get_pair(*rest, &out->key, &out->text); /* the reader has seen that it is one */
        check(n > 0 && n <= rest->n);
        break;
    }
    out->raw = slice_sub(*rest, 0, n);
    *rest = slice_sub(*rest, n, rest->n - n);
    return true;
}
