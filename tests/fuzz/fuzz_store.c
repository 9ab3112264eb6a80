/* fuzz_store.c - the store under batches and images of any bytes.
 *
 * Batches: entries as they come from the log, whole ones made of operations of the script and any bytes at all. After
 * those that make sense the filesystem must not contradict itself; the store's image must restore to an equal store
 * whose payload references are the very ones that were counted on the way. Images: rows of any bytes, in a well-formed
 * image. They restore or are refused; operations over what was restored give errors where rows make no sense, and never
 * crash. Any blocks at all: the same. */
#include <stdio.h>

#include "kv/query.h"
#include "kv/store.h"
#include "tests/fuzz/fuzz_ops.h"

#define ENTRIES_MAX 200u
#define SESSIONS    4u

enum { MODE_BATCHES, MODE_ROWS, MODE_BLOCKS, MODES };
enum { DO_RECORD, DO_END, DO_RAW_ENTRY, DO_QUERY, DO_REFUSE, DOS };

struct life {
    struct kv__store *st;
    struct reader r;
    struct kv__batch batch;
    uint64_t index;
    int64_t wall;
    uint64_t cluster;
    uint64_t session[SESSIONS], seq[SESSIONS];
    unsigned nsessions;
    bool broken;                   /* an entry made no sense: the store is of no use any more */
    int64_t live[ENTRIES_MAX + 2]; /* by index, as told */
};

static void on_live(void *arg, uint64_t index, int64_t delta)
{
    int64_t *live = arg;
    if (index < ENTRIES_MAX + 2) live[index] += delta;
}

static void on_life_live(void *arg, uint64_t index, int64_t delta)
{
    on_live(((struct life *)arg)->live, index, delta);
}

static void on_outcome(void *arg, uint32_t pos, enum kv__outcome what, enum kv_code code, const struct kv_reply *reply)
{
    struct life *l = arg;
    if (what != KV__ANSWER || code != KV_SESSION_OPEN || reply->status < 0) return;
    unsigned k = l->nsessions++ % SESSIONS;
    l->session[k] = reply->off;
    l->seq[k] = 0;
}

static void end_batch(struct life *l)
{
    if (!l->batch.blob || l->broken || l->index >= ENTRIES_MAX) return;
    l->wall += get_u8(&l->r);
    l->cluster += (uint64_t)get_u8(&l->r) * 1000000000u;
    kv__batch_stamp(&l->batch, l->wall, l->cluster);
    check(kv__store_apply(l->st, ++l->index, blob_slice(l->batch.blob)) == 0);
    kv__batch_free(&l->batch);
}

static void add_record(struct life *l, bool refuse)
{
    uint8_t who = get_u8(&l->r), step = get_u8(&l->r);
    struct kv_op op;
    uint8_t *owned;
    struct buf bytes = {0};
    if (!fuzz_op(&l->r, &op, &owned)) return;
    struct kv__record rec = {.session = who < 240 ? l->session[who % SESSIONS] : fuzz_number(&l->r)};
    uint64_t *seq = &l->seq[who % SESSIONS];
    rec.seq = step < 200 ? ++*seq : step < 240 ? *seq : fuzz_number(&l->r); /* the next; again; any */
    rec.floor = step % 4 ? (*seq ? *seq - 1 : 0) : fuzz_number(&l->r);
    if (op.code == KV_SESSION_OPEN) op.off2 = step;
    kv_op_encode(&op, &bytes, NULL);
    rec.op = buf_slice(&bytes);
    if (refuse)
        kv__batch_refuse(&l->batch, &rec, -ENOSPC);
    else if (kv_is_change(op.code))
        kv__batch_add(&l->batch, &rec);
    buf_free(&bytes);
    free(owned);
}

static void raw_entry(struct life *l)
{
    struct slice entry = fuzz_many(&l->r);
    if (l->broken || l->index >= ENTRIES_MAX) return;
    int err = kv__store_apply(l->st, ++l->index, entry);
    check(err == 0 || err == QE_FRAME || err == QE_VERSION);
    l->broken = err != 0;
}

static void ask(struct life *l)
{
    struct kv_op op;
    uint8_t *owned;
    struct kv__result res = {0};
    struct kv_statfs disk = {.total = 1000, .avail = 10};
    if (fuzz_op(&l->r, &op, &owned) && !kv_is_change(op.code)) {
        kv__query(l->st, &op, &disk, &res);
        check(res.reply.status < 0 || res.reply.data.n <= KV_DATA_MAX + KV_PAGE_MAX);
    }
    kv__result_free(&res);
    free(owned);
}

static void live(struct life *l)
{
    while (fuzz_more(&l->r)) {
        switch (get_u8(&l->r) % DOS) {
        case DO_RECORD:
            add_record(l, false);
            break;
        case DO_REFUSE:
            add_record(l, true);
            break;
        case DO_END:
            end_batch(l);
            break;
        case DO_RAW_ENTRY:
            raw_entry(l);
            break;
        case DO_QUERY:
            ask(l);
            break;
        }
    }
    end_batch(l);
    kv__batch_free(&l->batch);
}

/* ---- images ---- */

static int restore(struct kv__store *to, struct kv__store *from, uint64_t index)
{
    struct buf block = {0};
    void *snap = kv__snap_begin(from);
    int err = 0;
    kv__restore_begin(to);
    for (; !err && kv__snap_next(snap, &block); buf_clear(&block)) err = kv__restore_block(to, buf_slice(&block));
    if (!err) err = kv__restore_end(to, index);
    if (err) kv__restore_cancel(to);
    kv__snap_end(snap);
    buf_free(&block);
    return err;
}

static void check_consistent(struct life *l)
{
    struct buf why = {0};
    if (fs_check(&l->st->fs, &why)) {
        fprintf(stderr, "%.*s\n", (int)why.n, (const char *)why.p);
        check(false);
    }
    buf_free(&why);
    int64_t again[ENTRIES_MAX + 2] = {0};
    struct kv__store_cb cb = {.arg = again, .live = on_live};
    struct kv__store *copy = kv__store_new(&cb);
    check(restore(copy, l->st, l->index) == 0);
    check(kv__store_digest(copy) == kv__store_digest(l->st));
    for (uint64_t i = 0; i <= l->index; i++) check(again[i] == l->live[i] && again[i] >= 0);
    kv__store_free(copy);
}

static struct kv__store *store_of(struct life *l)
{
    struct kv__store_cb cb = {.arg = l, .live = on_life_live, .outcome = on_outcome};
    return kv__store_new(&cb);
}

static void no_range(void *ctx, uint64_t index, uint32_t off, uint32_t len) {}

/* A store whose map is made of the script's rows. */
static void put_rows(struct life *l, struct kv__store *odd)
{
    omap_free(odd->map);
    odd->map = omap_new();
    while (fuzz_more(&l->r)) {
        struct slice key = fuzz_bytes(&l->r), value = fuzz_bytes(&l->r);
        if (key.n == 0) return; /* ends the rows */
        omap_put(odd->map, key, value);
    }
}

static void odd_image(struct life *l)
{
    struct kv__store *odd = store_of(l);
    put_rows(l, odd);
    int err = restore(l->st, odd, 1);
    check(err == 0 || err == QE_CORRUPT);
    kv__store_free(odd);
    if (err) return;
    l->index = 1;
    fs_all_ranges(&l->st->fs, no_range, NULL);
    live(l);
    struct buf why = {0};
    fs_check(&l->st->fs, &why);
    buf_free(&why);
}

static void odd_blocks(struct life *l)
{
    int err = 0;
    kv__restore_begin(l->st);
    while (!err && fuzz_more(&l->r)) err = kv__restore_block(l->st, fuzz_many(&l->r));
    kv__restore_ranges(l->st, no_range, NULL);
    if (!err) err = kv__restore_end(l->st, 1);
    check(err == 0 || err == QE_CORRUPT || err == QE_VERSION);
    if (err) kv__restore_cancel(l->st);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    struct life *l = xcalloc(1, sizeof *l);
    l->r = reader_of(slice_of(data + 1, size - 1));
    l->wall = 1000;
    l->st = store_of(l);
    switch (data[0] % MODES) {
    case MODE_BATCHES:
        live(l);
        if (!l->broken) check_consistent(l);
        break;
    case MODE_ROWS:
        odd_image(l);
        break;
    case MODE_BLOCKS:
        odd_blocks(l);
        break;
    }
    kv__store_free(l->st);
    free(l);
    return 0;
}

/* ---- seeds ---- */

static void put_open(struct buf *b, uint8_t nonce, uint32_t flags)
{
    struct kv_op open = {.code = KV_SESSION_OPEN, .flags = flags, .len = 100, .name = slice_str("a")};
    put_u8(b, DO_RECORD);
    put_u8(b, 0);
    put_u8(b, nonce);
    put_fuzz_op(b, &open);
    put_u8(b, DO_END);
    put_u16(b, 0);
}

static void put_life(struct buf *b, unsigned a_batch)
{
    size_t n;
    const struct kv_op *v = fuzz_life(&n);
    put_open(b, 1, 1);
    for (size_t i = 0; i < n; i++) {
        put_u8(b, DO_RECORD);
        put_u8(b, 0);
        put_u8(b, 1);
        put_fuzz_op(b, &v[i]);
        if (i % a_batch != a_batch - 1) continue;
        put_u8(b, DO_END);
        put_u16(b, 0x0101);
    }
    for (unsigned code = 1; code < 65; code++) {
        struct kv_op q = {.code = (enum kv_code)code, .ino = 2, .len = 100, .name = slice_str("a")};
        if (!kv__op_info(code) || kv_is_change(q.code)) continue;
        put_u8(b, DO_QUERY);
        put_fuzz_op(b, &q);
    }
}

/* The rows and blocks of a store that has lived. */
static void seed_image(void (*emit)(struct slice seed), struct slice script)
{
    struct life l = {.r = reader_of(script), .wall = 1000};
    struct buf rows = {0}, blocks = {0}, block = {0};
    struct omap_iter it;
    l.st = store_of(&l);
    live(&l);
    put_u8(&rows, MODE_ROWS);
    omap_seek(&it, l.st->map, slice_of("", 1));
    for (; it.valid; omap_next(&it)) {
        if (omap_iter_key(&it).n > 255 || omap_iter_value(&it).n > 255) continue;
        put_fuzz_bytes(&rows, omap_iter_key(&it));
        put_fuzz_bytes(&rows, omap_iter_value(&it));
    }
    put_u16(&rows, 0);
    put_bytes(&rows, script);
    emit(buf_slice(&rows));
    void *snap = kv__snap_begin(l.st);
    put_u8(&blocks, MODE_BLOCKS);
    for (; kv__snap_next(snap, &block); buf_clear(&block)) put_slice16(&blocks, buf_slice(&block));
    kv__snap_end(snap);
    emit(buf_slice(&blocks));
    kv__store_free(l.st);
    buf_free(&rows);
    buf_free(&blocks);
    buf_free(&block);
}

void fuzz_seeds(void (*emit)(struct slice seed))
{
    for (unsigned a_batch = 1; a_batch <= 7; a_batch += 3) {
        struct buf b = {0};
        put_u8(&b, MODE_BATCHES);
        put_life(&b, a_batch);
        emit(buf_slice(&b));
        seed_image(emit, slice_sub(buf_slice(&b), 1, b.n - 1));
        buf_free(&b);
    }
}
