/* snap.c - images of the store: written from a retained root of the map, in blocks; read back into a second map that
 * takes the first one's place when it is complete.
 *
 * Block 0 is a header: u32 magic, u32 version, u64 rows, u64 digest. The others hold rows in key order, u16 key
 * length, u32 value length, key, value. An image is accepted only if its rows ascend, their number and their digest
 * are the header's; everything else is QE_CORRUPT and leaves the old state in use. */
#include "kv/store.h"

#include <stdlib.h>

#define SNAP_MAGIC 0x53534651u      /* "QFSS" */
#define SNAP_VERSION 2u
#define SNAP_HEADER_BYTES 24u
#define ROW_HEAD 6u

/* ---- writing ---- */

struct snap {
    struct omap *map;
    struct omap_iter it;
    bool begun;
};

void *kv__snap_begin(struct kv__store *st)
{
    struct snap *sn = xcalloc(1, sizeof *sn);
    sn->map = omap_snapshot(st->map);
    return sn;
}

static void put_row(struct buf *block, struct slice key, struct slice value)
{
    put_u16(block, (uint16_t)key.n);
    put_u32(block, (uint32_t)value.n);
    put_bytes(block, key);
    put_bytes(block, value);
}

int kv__snap_next(void *snap, struct buf *block)
{
    struct snap *sn = snap;
    if (!sn->begun) {
        sn->begun = true;
        omap_seek(&sn->it, sn->map, slice_of("", 1));     /* one zero byte: the lowest key there can be */
        put_u32(block, SNAP_MAGIC);
        put_u32(block, SNAP_VERSION);
        put_u64(block, omap_count(sn->map));
        put_u64(block, omap_digest(sn->map));
        return 1;
    }
    size_t begin = block->n;
    while (sn->it.valid) {
        struct slice key = omap_iter_key(&sn->it), value = omap_iter_value(&sn->it);
        size_t used = block->n - begin;
        if (used && used + ROW_HEAD + key.n + value.n > KV_SNAP_BLOCK) break;
        put_row(block, key, value);
        omap_next(&sn->it);
    }
    return block->n > begin;
}

void kv__snap_end(void *snap)
{
    struct snap *sn = snap;
    omap_free(sn->map);
    free(sn);
}

/* ---- reading ---- */

struct kv__restore {
    struct omap *map;
    bool header;
    uint64_t rows, digest;
    size_t last_n;              /* the key read last: they must ascend */
    uint8_t last[OMAP_KEY_MAX];
};

void kv__restore_cancel(struct kv__store *st)
{
    if (!st->restore) return;
    omap_free(st->restore->map);
    free(st->restore);
    st->restore = NULL;
}

void kv__restore_begin(struct kv__store *st)
{
    kv__restore_cancel(st);
    st->restore = xcalloc(1, sizeof *st->restore);
    st->restore->map = omap_new();
}

static int read_header(struct kv__restore *re, struct slice block)
{
    struct reader r = reader_of(block);
    uint32_t magic = get_u32(&r), version = get_u32(&r);
    re->rows = get_u64(&r);
    re->digest = get_u64(&r);
    if (!reader_done(&r) || magic != SNAP_MAGIC) return QE_CORRUPT;
    if (version != SNAP_VERSION) return QE_VERSION;
    re->header = true;
    return 0;
}

int kv__restore_block(struct kv__store *st, struct slice block)
{
    struct kv__restore *re = st->restore;
    check(re);
    if (!re->header) return read_header(re, block);
    struct reader r = reader_of(block);
    while (reader_left(&r)) {
        size_t key_n = get_u16(&r), value_n = get_u32(&r);
        struct slice key = get_bytes(&r, key_n), value = get_bytes(&r, value_n);
        if (r.bad || key.n == 0 || key.n > OMAP_KEY_MAX || value.n > OMAP_VALUE_MAX) return QE_CORRUPT;
        if (slice_cmp(slice_of(re->last, re->last_n), key) >= 0) return QE_CORRUPT;
        memcpy(re->last, key.p, key.n);
        re->last_n = key.n;
        omap_put(re->map, key, value);
    }
    return 0;
}


static void report_live(void *ctx, uint64_t index, uint32_t off, uint32_t len)
{
    struct kv__store *st = ctx;
    if (st->cb.live) st->cb.live(st->cb.arg, index, len);
}

int kv__restore_end(struct kv__store *st, uint64_t index)
{
    struct kv__restore *re = st->restore;
    check(re);
    if (!re->header || omap_count(re->map) != re->rows || omap_digest(re->map) != re->digest) return QE_CORRUPT;
    omap_free(st->map);
    st->map = re->map;
    re->map = NULL;
    st->fs.map = st->map;
    st->applied = index;
    st->due = 0;
    kv__history_restart(&st->history, index);
    kv__store_load_state(st);
    fs_all_ranges(&st->fs, report_live, st);
    free(re);
    st->restore = NULL;
    return 0;
}

void kv__restore_ranges(struct kv__store *st, void (*emit)(void *ctx, uint64_t index, uint32_t off, uint32_t len),
                        void *ctx)
{
    check(st->restore);
    struct fs image = kv__store_fs_of(st->restore->map);
    fs_all_ranges(&image, emit, ctx);
}
