/* shuffle.c - run files (shuffle.h): writing them in large writes, finding a partition in one.
 *
 * No fsync: a file that a crash loses is made again by its map task, and every block has its checksum. */
#include "mr/shuffle.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "mr/util.h"

#define HEADER_BYTES  16u
#define INDEX_BYTES   24u /* a partition */
#define TRAILER_BYTES 20u
#define WRITE_BYTES   MIB
#define BLOCK_HEADER  8u

static const char magic[] = "QFSMRRUN", end_magic[] = "QFSRUNE1";

struct run_writer {
    int fd, err;
    char *path;
    uint32_t parts, part;
    struct run_range *index;
    uint64_t off, records; /* off: of the file, the buffers included */
    struct buf out;        /* whole blocks, not yet written */
    struct buf block;      /* the records of the block under way */
};

int mr__run_create(const char *path, uint32_t parts, struct run_writer **out)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return -errno;
    struct run_writer *w = xcalloc(1, sizeof *w);
    w->fd = fd;
    w->path = mr__strf("%s", path);
    w->parts = parts;
    w->index = xcalloc(parts, sizeof *w->index);
    w->index[0].off = w->off = HEADER_BYTES;
    put_bytes(&w->out, slice_of(magic, 8));
    put_u32(&w->out, 1);
    put_u32(&w->out, parts);
    *out = w;
    return 0;
}

static void flush(struct run_writer *w)
{
    if (w->err == 0 && w->out.n) w->err = mr__write_all(w->fd, w->out.p, w->out.n);
    buf_clear(&w->out);
}

static void append(struct run_writer *w, struct slice s)
{
    if (w->out.n + s.n > WRITE_BYTES) flush(w);
    put_bytes(&w->out, s);
    w->off += s.n;
    w->index[w->part].bytes += s.n;
}

static void end_block(struct run_writer *w)
{
    uint8_t head[BLOCK_HEADER];
    if (w->block.n == 0) return;
    store_u32(head, (uint32_t)w->block.n);
    store_u32(head + 4, crc32c(0, w->block.p, w->block.n));
    append(w, slice_of(head, sizeof head));
    append(w, buf_slice(&w->block));
    buf_clear(&w->block);
}

static void move_to(struct run_writer *w, uint32_t part)
{
    check(part >= w->part && part < w->parts);
    if (part == w->part) return;
    end_block(w);
    while (w->part < part) w->index[++w->part].off = w->off;
}

void mr__run_add(struct run_writer *w, uint32_t part, struct slice key, struct slice value)
{
    check(key.n <= MR_KEY_MAX && key.n + value.n <= MR_PAIR_MAX);
    move_to(w, part);
    size_t need = 8 + key.n + value.n;
    if (w->block.n && w->block.n + need > MR_BLOCK_BYTES) end_block(w);
    put_u32(&w->block, (uint32_t)key.n);
    put_u32(&w->block, (uint32_t)value.n);
    put_bytes(&w->block, key);
    put_bytes(&w->block, value);
    w->index[part].records++;
    w->records++;
}

void mr__run_add_blocks(struct run_writer *w, uint32_t part, struct slice blocks)
{
    move_to(w, part);
    check(w->block.n == 0);
    append(w, blocks);
}

static void writer_free(struct run_writer *w)
{
    close(w->fd);
    buf_free(&w->out);
    buf_free(&w->block);
    free(w->index);
    free(w->path);
    free(w);
}

int mr__run_finish(struct run_writer *w, uint64_t *bytes, uint64_t *records)
{
    uint8_t head[HEADER_BYTES];
    struct buf index = {0};

    move_to(w, w->parts - 1);
    end_block(w);
    memcpy(head, magic, 8);
    store_u32(head + 8, 1);
    store_u32(head + 12, w->parts);
    for (uint32_t i = 0; i < w->parts; i++) {
        put_u64(&index, w->index[i].off);
        put_u64(&index, w->index[i].bytes);
        put_u64(&index, w->index[i].records);
    }
    uint32_t crc = crc32c(crc32c(0, head, sizeof head), index.p, index.n);
    put_u64(&index, w->off);
    put_u32(&index, crc);
    put_bytes(&index, slice_of(end_magic, 8));
    put_bytes(&w->out, buf_slice(&index));
    flush(w);
    if (bytes) *bytes = w->off + index.n;
    if (records) *records = w->records;
    int err = w->err;
    if (err) unlink(w->path);
    buf_free(&index);
    writer_free(w);
    return err;
}

void mr__run_abandon(struct run_writer *w)
{
    if (!w) return;
    unlink(w->path);
    writer_free(w);
}

/* ---- finding ---- */

static int read_index(int fd, uint32_t parts, struct buf *index, uint64_t *index_off)
{
    uint8_t head[HEADER_BYTES], tail[TRAILER_BYTES];
    off_t size = lseek(fd, 0, SEEK_END);
    uint64_t want = (uint64_t)parts * INDEX_BYTES;
    int64_t n;

    if (size < 0) return -errno;
    if ((uint64_t)size < HEADER_BYTES + TRAILER_BYTES) return QE_CORRUPT;
    if ((n = mr__read_at(fd, head, sizeof head, 0)) < 0) return (int)n;
    if (n != sizeof head || memcmp(head, magic, 8) != 0) return QE_CORRUPT;
    if (load_u32(head + 8) != 1) return QE_VERSION;
    if (load_u32(head + 12) != parts) return -EINVAL;
    if ((uint64_t)size < HEADER_BYTES + want + TRAILER_BYTES) return QE_CORRUPT;
    if ((n = mr__read_at(fd, tail, sizeof tail, (uint64_t)size - TRAILER_BYTES)) < 0) return (int)n;
    *index_off = load_u64(tail);
    if (n != sizeof tail || memcmp(tail + 12, end_magic, 8) != 0) return QE_CORRUPT;
    if (*index_off != (uint64_t)size - TRAILER_BYTES - want) return QE_CORRUPT;
    if ((n = mr__read_at(fd, buf_extend(index, want), want, *index_off)) < 0) return (int)n;
    if ((uint64_t)n != want) return QE_CORRUPT;
    return crc32c(crc32c(0, head, sizeof head), index->p, want) == load_u32(tail + 8) ? 0 : QE_CORRUPT;
}

int mr__run_find(int fd, uint32_t parts, uint32_t part, struct run_range *out)
{
    struct buf index = {0};
    uint64_t end = 0;
    int rc;

    check(part < parts);
    rc = read_index(fd, parts, &index, &end);
    if (rc == 0) {
        const uint8_t *p = index.p + (size_t)part * INDEX_BYTES;
        *out = (struct run_range){load_u64(p), load_u64(p + 8), load_u64(p + 16)};
        if (out->off < HEADER_BYTES || out->off > end || out->bytes > end - out->off) rc = QE_CORRUPT;
    }
    buf_free(&index);
    return rc;
}
