/* Formats of data: records and fields by the byte, partitions, pairs, what is sent; compressed streams of any shape, cut and
 * damaged; splits of every format. */
#include <zlib.h>
#include <zstd.h>

#include "mr/shuffle.h"
#include "mr/split.h"
#include "mr/unpack.h"
#include "tests/unit/mr/test_mr.h"

static struct slice str(const char *s) { return slice_str(s); }

static void lines_and_fields(void **state)
{
    struct format f = mr__format_default;
    static const struct {
        const char *line, *key, *value;
        uint32_t fields;
    } cases[] = {{"", "", "", 1},          {"a", "a", "", 1},         {"a\tb", "a", "b", 1},      {"\tb", "", "b", 1},
                 {"a\t", "a", "", 1},      {"a\tb\tc", "a", "b\tc", 1}, {"a\tb\tc", "a\tb", "c", 2}, {"a\tb", "a\tb", "", 2},
                 {"a\tb", "a\tb", "", 3}, {"a\t\tc", "a\t", "c", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct slice key, value;
        f.key_fields = cases[i].fields;
        mr__format_line(&f, str(cases[i].line), &key, &value);
        assert_true(slice_eq(key, str(cases[i].key)) && slice_eq(value, str(cases[i].value)));
    }
    struct buf b = {0}, why = {0};
    f.key_fields = 1;
    assert_int_equal(mr__format_put_line(&f, &b, str("k"), str("v\tw"), "a line", &why), 0);
    assert_true(slice_eq(buf_slice(&b), str("k\tv\tw\n")));
    assert_int_equal(mr__format_put_line(&f, &b, str("k\tl"), str(""), "a line", &why), -EBADMSG);
    assert_true(has_text(&why, "TAB"));
    f.key_fields = 2;
    assert_int_equal(mr__format_put_line(&f, &b, str("k\tl"), str(""), "a line", &why), 0);
    assert_int_equal(mr__format_put_line(&f, &b, str("k"), str("a\nb"), "a line", &why), -EBADMSG);
    buf_free(&b);
    buf_free(&why);
}

static void partitions(void **state)
{
    struct format f = mr__format_default;
    struct slice cuts[] = {str("b"), str("bb"), str("d")};
    assert_int_equal(key_fnv(str("")), 18652613);
    assert_int_equal(key_fnv(str("a")), 1678518572);
    assert_int_equal(mr__format_part(&f, 7, str("a")), 1678518572 % 7);
    f.partition = MR_PARTITION_FIELD;
    f.separator = ',';
    for (uint32_t parts = 2; parts < 9; parts++) {
        f.partition_fields = 1;
        assert_int_equal(mr__format_part(&f, parts, str("a,x,y")), key_fnv(str("a")) % parts);
        assert_int_equal(mr__format_part(&f, parts, str("a")), key_fnv(str("a")) % parts);
        f.partition_fields = 2;
        assert_int_equal(mr__format_part(&f, parts, str("a,x,y")), key_fnv(str("a,x")) % parts);
    }
    f.partition = MR_PARTITION_RANGE;
    f.cuts = cuts;
    f.cuts_n = 3;
    static const char *const keys[] = {"", "a", "az", "b", "ba", "bb", "c", "d", "\xff"};
    static const uint32_t want[] = {0, 0, 0, 1, 1, 2, 2, 3, 3};
    for (size_t i = 0; i < 9; i++) assert_int_equal(mr__format_part(&f, 4, str(keys[i])), want[i]);
}

static void sent(void **state)
{
    char *params[] = {(char *)(uintptr_t) "a=1", (char *)(uintptr_t) "b.c=", (char *)(uintptr_t) "a=2=3"};
    struct slice cuts[] = {slice_of("\0x", 2), str("y")};
    struct format f = {.input = MR_IN_RECORDS, .pipe = MR_PIPE_PAIRS, .output = MR_OUT_RAW, .partition = MR_PARTITION_RANGE,
                       .record_bytes = 100, .key_fields = 2, .partition_fields = 3, .separator = ';', .sort_values = true,
                       .raw = true, .skip_bad = 9, .params = params, .params_n = 3, .cuts = cuts, .cuts_n = 2},
                  got;
    struct buf b = {0};
    mr__format_encode(&b, &f);
    for (size_t n = 0; n <= b.n; n++) {
        struct reader r = reader_of(slice_of(b.p, n));
        bool ok = mr__format_decode(&r, &got) && reader_done(&r);
        assert_int_equal(ok, n == b.n);
        if (ok) break;
        mr__format_free(&got);
    }
    assert_true(got.input == f.input && got.pipe == f.pipe && got.output == f.output && got.partition == f.partition &&
                got.record_bytes == 100 && got.key_fields == 2 && got.partition_fields == 3 && got.separator == ';' &&
                got.sort_values && !got.flat && got.raw && got.skip_bad == 9 && got.cuts_n == 2 &&
                slice_eq(got.cuts[0], cuts[0]));
    assert_string_equal(mr__format_param(&got, "a"), "2=3"); /* the last one counts */
    assert_string_equal(mr__format_param(&got, "b.c"), "");
    assert_null(mr__format_param(&got, "b"));
    mr__format_free(&got);
    buf_free(&b);
}

/* ---- compressed ---- */

static void gzip_to(struct buf *out, struct slice in)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    size_t room = deflateBound(&z, in.n) + 64;
    z.next_in = (Bytef *)(uintptr_t)in.p;
    z.avail_in = (uInt)in.n;
    z.next_out = buf_extend(out, room);
    z.avail_out = (uInt)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    out->n -= z.avail_out;
    deflateEnd(&z);
}

static void zstd_to(struct buf *out, struct slice in)
{
    size_t room = ZSTD_compressBound(in.n), n = ZSTD_compress(buf_extend(out, room), room, in.p, in.n, 3);
    assert_false(ZSTD_isError(n));
    out->n -= room - n;
}

/* Gives it `step` bytes at a time. */
static int unpack_all(enum packing kind, struct slice in, size_t step, size_t want, struct buf *out)
{
    struct unpack *u = mr__unpack_new(kind);
    struct buf why = {0};
    int rc = 0;
    while (rc == 0 && in.n) {
        struct slice piece = slice_sub(in, 0, min_u64(step, in.n));
        size_t had = piece.n, before;
        do {
            before = out->n;
            rc = mr__unpack(u, &piece, out, want, &why);
        } while (rc == 0 && (piece.n || out->n > before));
        in = slice_sub(in, had, in.n - had);
    }
    if (rc == 0) rc = mr__unpack_end(u, &why);
    assert_true(rc == 0 || why.n > 0);
    buf_free(&why);
    mr__unpack_free(u);
    return rc;
}

static void compressed(void **state)
{
    struct prng r;
    prng_seed(&r, 11);
    for (int i = 0; i < 200; i++) {
        struct buf all = {0}, packed = {0}, out = {0};
        enum packing kind = prng_chance(&r, 50) ? PACKING_GZIP : PACKING_ZSTD;
        for (uint64_t k = prng_between(&r, 1, 4); k > 0; k--) {
            struct buf text = {0};
            size_t n = prng_below(&r, prng_chance(&r, 10) ? 300000 : 300);
            for (size_t j = 0; j < n; j++) put_u8(&text, (uint8_t)(prng_below(&r, 4) + 'a'));
            (kind == PACKING_GZIP ? gzip_to : zstd_to)(&packed, buf_slice(&text));
            put_bytes(&all, buf_slice(&text));
            buf_free(&text);
        }
        if (kind == PACKING_GZIP && prng_chance(&r, 30)) memset(buf_extend(&packed, 20), 0, 20); /* padding */
        size_t step = prng_between(&r, 1, 5000), want = prng_between(&r, 1, 5000);
        assert_int_equal(unpack_all(kind, buf_slice(&packed), step, want, &out), 0);
        assert_true(slice_eq(buf_slice(&out), buf_slice(&all)));
        buf_clear(&out);
        size_t cut = prng_between(&r, 1, 15);
        if (packed.n > 100 && packed.p[packed.n - 1]) /* cut off, which is no end of a stream */
            assert_int_equal(unpack_all(kind, slice_of(packed.p, packed.n - cut % 4 - 1), step, want, &out), -EBADMSG);
        buf_clear(&out);
        if (packed.n) packed.p[0] ^= 1;
        assert_int_equal(unpack_all(kind, buf_slice(&packed), step, want, &out), -EBADMSG);
        buf_free(&all);
        buf_free(&packed);
        buf_free(&out);
    }
    assert_int_equal(mr__packing_of("a.gz"), PACKING_GZIP);
    assert_int_equal(mr__packing_of("a.zst"), PACKING_ZSTD);
    assert_int_equal(mr__packing_of(".gz"), PACKING_NONE);
    assert_int_equal(mr__packing_of("gz"), PACKING_NONE);
}

/* ---- splits ---- */

static size_t read_splits(const char *path, const struct format *f, uint64_t split, struct buf *all, int *result)
{
    const char *inputs[] = {path};
    struct plan p;
    struct buf why = {0};
    size_t chunks = 0;
    bool planned = (*result = mr__plan(inputs, 1, split, f, &p, &why)) == 0;
    for (size_t i = 0; *result == 0 && i < p.splits_n; i++) {
        const struct input_file *file = &p.files[p.splits[i].file];
        struct split_reader *r;
        struct slice chunk;
        uint64_t at;
        assert_int_equal(mr__split_open(file->path, file->size, file->mtime_ns, p.splits[i].off, p.splits[i].len, f, &r, &why), 0);
        while ((*result = mr__split_next(r, &chunk, &at, &why)) > 0) {
            put_bytes(all, chunk);
            chunks++;
            if (f->input == MR_IN_RECORDS) assert_int_equal(at % f->record_bytes + chunk.n % f->record_bytes, 0);
        }
        mr__split_close(r);
    }
    assert_true(*result == 0 || why.n > 0);
    if (planned) mr__plan_free(&p);
    buf_free(&why);
    return chunks;
}

static void splits_of_records(void **state)
{
    struct format f = mr__format_default;
    struct prng r;
    int rc;
    prng_seed(&r, 12);
    f.input = MR_IN_RECORDS;
    for (int i = 0; i < 100; i++) {
        struct buf b = {0}, all = {0};
        f.record_bytes = (uint32_t)prng_between(&r, 1, 60);
        for (uint64_t n = prng_below(&r, 80) * f.record_bytes; n > 0; n--) put_u8(&b, (uint8_t)prng_below(&r, 256));
        read_splits(write_file("rec", buf_slice(&b)), &f, prng_between(&r, 1, 400), &all, &rc);
        assert_int_equal(rc, 0);
        assert_true(slice_eq(buf_slice(&all), buf_slice(&b)));
        put_u8(&b, 0);
        if (f.record_bytes > 1) {
            read_splits(write_file("rec", buf_slice(&b)), &f, 100, &all, &rc);
            assert_int_equal(rc, -EINVAL);
        }
        buf_free(&b);
        buf_free(&all);
    }
}

static void splits_of_pairs(void **state)
{
    struct format f = mr__format_default;
    struct buf b = {0}, all = {0};
    int rc;
    f.input = MR_IN_PAIRS;
    for (int i = 0; i < 1000; i++) mr__format_put_pair(&b, slice_of("key", (size_t)i % 4), slice_of("value", (size_t)i % 6));
    assert_int_equal(read_splits(write_file("pairs", buf_slice(&b)), &f, 10, &all, &rc), 1); /* not cut */
    assert_int_equal(rc, 0);
    assert_true(slice_eq(buf_slice(&all), buf_slice(&b)));
    read_splits(write_file("pairs", slice_of(b.p, b.n - 1)), &f, 10, &all, &rc);
    assert_int_equal(rc, -EBADMSG);
    memset(b.p, 0xff, 4);
    read_splits(write_file("pairs", buf_slice(&b)), &f, 10, &all, &rc);
    assert_int_equal(rc, -EBADMSG);
    buf_free(&b);
    buf_free(&all);
}

static void splits_of_compressed(void **state)
{
    struct format f = mr__format_default;
    struct buf text = {0}, packed = {0}, all = {0};
    int rc;
    for (int i = 0; i < 400000; i++) mr__fmt(&text, "line %d\n", i);
    gzip_to(&packed, buf_slice(&text));
    const char *path = write_file("text.gz", buf_slice(&packed));
    assert_true(read_splits(path, &f, 1000, &all, &rc) > 1);
    assert_int_equal(rc, 0);
    assert_true(slice_eq(buf_slice(&all), buf_slice(&text)));
    buf_clear(&all);
    f.input = MR_IN_FILES;
    assert_int_equal(read_splits(path, &f, 1000, &all, &rc), 1);
    assert_true(slice_eq(buf_slice(&all), buf_slice(&text)));
    buf_clear(&all);
    f.raw = true; /* as it is */
    read_splits(path, &f, 1000, &all, &rc);
    assert_true(slice_eq(buf_slice(&all), buf_slice(&packed)));
    buf_clear(&all);
    f = mr__format_default;
    read_splits(write_file("cut.gz", slice_of(packed.p, packed.n / 2)), &f, 1000, &all, &rc);
    assert_int_equal(rc, -EBADMSG);
    buf_free(&text);
    buf_free(&packed);
    buf_free(&all);
}

/* gzip and zstd say so, too: nothing is no stream of nothing. */
static void empty_files_of_compressed(void **state)
{
    static const char *const names[] = {"empty.gz", "empty.zst"};
    for (int i = 0; i < 4; i++) {
        struct format f = mr__format_default;
        const char *path = write_file(names[i % 2], (struct slice){0});
        struct buf why = {0};
        struct plan p;
        f.input = i < 2 ? MR_IN_LINES : MR_IN_FILES;
        assert_int_equal(mr__plan(&path, 1, 1000, &f, &p, &why), -EBADMSG);
        assert_true(has_text(&why, names[i % 2]) && has_text(&why, "is damaged: it is empty"));
        f.raw = true;
        assert_int_equal(mr__plan(&path, 1, 1000, &f, &p, &why), 0);
        mr__plan_free(&p);
        buf_free(&why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_and_fields), cmocka_unit_test(partitions),      cmocka_unit_test(sent),
        cmocka_unit_test(compressed),       cmocka_unit_test(splits_of_records), cmocka_unit_test(splits_of_pairs),
        cmocka_unit_test(splits_of_compressed), cmocka_unit_test(empty_files_of_compressed),
    };
    return cmocka_run_group_tests(tests, test_begin, test_end);
}
