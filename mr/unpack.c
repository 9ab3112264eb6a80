/* unpack.c - decompression by zlib and libzstd (unpack.h).
 *
 * Failure modes: bytes that are no such stream, a stream that is damaged or cut off, a zstd window of more than 128 MiB
 * (the library's limit; it says so). Zeros behind a gzip stream are padding and no error, as for gzip itself. */
#include "mr/unpack.h"

#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "mr/util.h"

struct unpack {
    enum packing kind;
    bool within;                       /* a stream has begun and not ended */
    bool padding;                      /* zeros behind a gzip stream */
    z_stream z;
    ZSTD_DStream *zstd;
};

enum packing mr__packing_of(const char *path)
{
    size_t n = strlen(path);
    if (n > 3 && strcmp(path + n - 3, ".gz") == 0) return PACKING_GZIP;
    if (n > 4 && strcmp(path + n - 4, ".zst") == 0) return PACKING_ZSTD;
    return PACKING_NONE;
}

struct unpack *mr__unpack_new(enum packing kind)
{
    struct unpack *u = xcalloc(1, sizeof *u);
    u->kind = kind;
    if (kind == PACKING_GZIP) {
        check(inflateInit2(&u->z, 15 + 16) == Z_OK);
    } else {
        u->zstd = ZSTD_createDStream();
        check(u->zstd);
    }
    return u;
}

void mr__unpack_free(struct unpack *u)
{
    if (!u) return;
    if (u->kind == PACKING_GZIP)
        inflateEnd(&u->z);
    else
        ZSTD_freeDStream(u->zstd);
    free(u);
}

static void skip_padding(struct unpack *u, struct slice *in)
{
    while (in->n && in->p[0] == 0) *in = slice_sub(*in, 1, in->n - 1);
    if (in->n) u->padding = false;
}

static int gunzip(struct unpack *u, struct slice *in, uint8_t *to, size_t *to_n, struct buf *why)
{
    u->z.next_in = (Bytef *)(uintptr_t)in->p;
    u->z.avail_in = (uInt)min_u64(in->n, 1u << 30);
    u->z.next_out = to;
    u->z.avail_out = (uInt)*to_n;
    size_t given = u->z.avail_in;
    u->within = true;
    int rc = inflate(&u->z, Z_NO_FLUSH);
    size_t used = given - u->z.avail_in;
    *in = slice_sub(*in, used, in->n - used);
    *to_n -= u->z.avail_out;
    if (rc == Z_STREAM_END) {
        u->within = false;
        u->padding = true;
        check(inflateReset(&u->z) == Z_OK);
        return 0;
    }
    if (rc == Z_OK || rc == Z_BUF_ERROR) return 0;
    mr__fmt(why, "%s", u->z.msg ? u->z.msg : "bad data");
    return -EBADMSG;
}

static int unzstd(struct unpack *u, struct slice *in, uint8_t *to, size_t *to_n, struct buf *why)
{
    ZSTD_inBuffer from = {in->p, in->n, 0};
    ZSTD_outBuffer out = {to, *to_n, 0};
    size_t rc = ZSTD_decompressStream(u->zstd, &out, &from);

    *in = slice_sub(*in, from.pos, in->n - from.pos);
    *to_n = out.pos;
    if (ZSTD_isError(rc)) {
        mr__fmt(why, "%s", ZSTD_getErrorName(rc));
        return -EBADMSG;
    }
    u->within = rc != 0;
    return 0;
}

int mr__unpack(struct unpack *u, struct slice *in, struct buf *out, size_t want, struct buf *why)
{
    size_t enough = out->n + want;
    int rc = 0;

    while (rc == 0 && out->n < enough) {
        if (u->padding) skip_padding(u, in);
        size_t room = enough - out->n, before = in->n;
        if (in->n == 0 && !u->within) break;
        uint8_t *to = buf_extend(out, room);
        out->n -= room;
        rc = u->kind == PACKING_GZIP ? gunzip(u, in, to, &room, why) : unzstd(u, in, to, &room, why);
        out->n += room;
        if (room == 0 && in->n == before) break;   /* it wants more */
    }
    return rc;
}

int mr__unpack_end(const struct unpack *u, struct buf *why)
{
    if (!u->within) return 0;
    mr__fmt(why, "it ends in the middle of its compressed data");
    return -EBADMSG;
}
