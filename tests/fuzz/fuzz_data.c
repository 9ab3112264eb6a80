/* fuzz_data.c - what MapReduce jobs read of users: compressed streams, the lab's JSON, records of every format, words. Nothing
 * is read beyond its end; records of a chunk are the chunk; words by 64 bytes are words byte by byte. */
#include <zlib.h>
#include <zstd.h>

#include "mr/apps/words.h"
#include "mr/lab.h"
#include "mr/unpack.h"
#include "mr/util.h"
#include "tests/fuzz/fuzz.h"

enum { GZIP, ZSTD, JSON, PAIRS, LINES, WORDS, KINDS };

#define OUT_MAX (4u * MIB) /* small inputs may be large ones packed */

static void unpack(enum packing kind, struct slice in)
{
    struct unpack *u = mr__unpack_new(kind);
    struct buf out = {0}, why = {0};
    size_t had, left;
    int rc;
    do {
        had = out.n;
        left = in.n;
        rc = mr__unpack(u, &in, &out, 1000, &why);
        check(in.n <= left && out.n <= had + 1000);
    } while (rc == 0 && out.n < OUT_MAX && (out.n > had || in.n < left));
    check(rc == 0 || why.n);
    if (rc == 0) (void)!mr__unpack_end(u, &why);
    buf_free(&out);
    buf_free(&why);
    mr__unpack_free(u);
}

/* What is read and can be written is read again. */
static void json(struct slice in)
{
    struct buf key = {0}, value = {0}, text = {0}, key2 = {0}, value2 = {0};
    while (mr__lab_get(&in, &key, &value) > 0) {
        buf_clear(&text);
        if (!mr__lab_put(&text, buf_slice(&key), buf_slice(&value))) continue;
        struct slice again = buf_slice(&text);
        check(mr__lab_get(&again, &key2, &value2) == 1);
        check(slice_eq(buf_slice(&key), buf_slice(&key2)) && slice_eq(buf_slice(&value), buf_slice(&value2)));
    }
    buf_free(&key);
    buf_free(&value);
    buf_free(&text);
    buf_free(&key2);
    buf_free(&value2);
}

static void pairs(struct slice in)
{
    struct slice key, value;
    struct buf again = {0};
    size_t all = in.n;
    const uint8_t *begin = in.p;
    for (int64_t n; (n = mr__format_get_pair(in, &key, &value)) > 0;) {
        check((size_t)n <= in.n);
        mr__format_put_pair(&again, key, value);
        in = slice_sub(in, (size_t)n, in.n - (size_t)n);
    }
    check(again.n == all - in.n && (again.n == 0 || memcmp(again.p, begin, again.n) == 0));
    buf_free(&again);
}

static void lines(struct slice in)
{
    struct format f = mr__format_default;
    struct format_record r;
    struct slice rest = in, key, value;
    size_t n = 0;
    if (in.n) f.key_fields = 1 + in.p[0] % 4;
    while (mr__format_record(&f, &rest, &r)) {
        check(r.raw.p == in.p + n && r.text.n <= r.raw.n);
        mr__format_line(&f, r.text, &key, &value);
        check(key.n + value.n + (key.n < r.text.n) == r.text.n);
        n += r.raw.n;
    }
    check(n == in.n);
}

static void words(struct slice in)
{
    const unsigned char *p = in.p;
    struct words w = words_of_text((const char *)in.p, in.n);
    struct mr_bytes one, other;
    while (next_word(&p, in.p + in.n, &one)) check(words_next(&w, &other) && one.p == other.p && one.n == other.n);
    check(!words_next(&w, &other));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    struct slice in = slice_of(data + 1, size - 1);
    switch (data[0] % KINDS) {
    case GZIP:
        unpack(PACKING_GZIP, in);
        break;
    case ZSTD:
        unpack(PACKING_ZSTD, in);
        break;
    case JSON:
        json(in);
        break;
    case PAIRS:
        pairs(in);
        break;
    case LINES:
        lines(in);
        break;
    default:
        words(in);
    }
    return 0;
}

/* ---- seeds ---- */

static void seed_packed(void (*emit)(struct slice seed), struct slice text)
{
    uint8_t space[1000];
    z_stream z = {.next_in = (Bytef *)(uintptr_t)text.p, .avail_in = (uInt)text.n, .next_out = space, .avail_out = sizeof space};
    check(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK && deflate(&z, Z_FINISH) == Z_STREAM_END);
    fuzz_emit(emit, GZIP, slice_of(space, sizeof space - z.avail_out));
    deflateEnd(&z);
    fuzz_emit(emit, ZSTD, slice_of(space, ZSTD_compress(space, sizeof space, text.p, text.n, 3)));
}

void fuzz_seeds(void (*emit)(struct slice seed))
{
    struct buf b = {0};
    struct slice text = slice_str("some lines\tof text\r\n\nwith \xc3\xa4 and \xf0\x9d\x92\x9c, one that is longer than all of the others "
                                  "together\nand no end");
    seed_packed(emit, text);
    fuzz_emit(emit, LINES, text);
    fuzz_emit(emit, WORDS, text);
    mr__lab_put(&b, slice_str("k \"\xc3\xa4\"\n"), slice_str(""));
    mr__lab_put(&b, slice_str("\xf0\x9f\x98\x80"), slice_str("\\"));
    fuzz_emit(emit, JSON, buf_slice(&b));
    fuzz_emit(emit, JSON, slice_str(" {\"Other\" : \"\\ud83d\\ude00\\u00e4\\n\", \"Key\":\"a\"}{}"));
    buf_clear(&b);
    mr__format_put_pair(&b, text, slice_str(""));
    mr__format_put_pair(&b, slice_str(""), text);
    fuzz_emit(emit, PAIRS, buf_slice(&b));
    buf_free(&b);
}
