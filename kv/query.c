/* query.c - answers queries from the map. File bytes that are in the log are left as gaps, named by pieces, for the
 * server to fill in (it knows the node, this file does not); everything else is complete when kv__query() returns. */
#include "kv/query.h"

#include <stdio.h>
#include <stdlib.h>

void kv__result_free(struct kv__result *res)
{
    buf_free(&res->data);
    free(res->pieces);
    *res = (struct kv__result){0};
}

/* ---- file bytes ---- */

struct gather {
    struct kv__result *res;
    uint64_t begin;             /* in the file */
    size_t at;                  /* in res->data */
};

void kv__result_piece(struct kv__result *res, const struct kv__piece *p)
{
    if (res->npieces == res->cap) {
        res->cap = res->cap ? res->cap * 2 : 16;
        res->pieces = xrealloc(res->pieces, res->cap * sizeof *res->pieces);
    }
    res->pieces[res->npieces++] = *p;
}

static void add_piece(struct kv__result *res, const struct fs_piece *piece, uint32_t at)
{
    struct kv__piece p = {.index = piece->loc.index, .off = piece->loc.off, .len = piece->len, .at = at};
    kv__result_piece(res, &p);
}

static void gather_piece(void *ctx, const struct fs_piece *piece)
{
    struct gather *g = ctx;
    struct buf *data = &g->res->data;
    check(piece->file_off - g->begin == data->n - g->at);
    uint8_t *p = buf_extend(data, piece->len);
    if (piece->len == 0) return;
    switch (piece->kind) {
    case FS_PIECE_HOLE: memset(p, 0, piece->len); break;
    case FS_PIECE_INLINE: memcpy(p, piece->bytes.p, piece->len); break;
    case FS_PIECE_LOG: add_piece(g->res, piece, (uint32_t)(p - data->p)); break;
    }
}

static int read_bytes(const struct kv__store *st, uint64_t ino, uint64_t off, uint32_t len, struct kv__result *res)
{
    struct fs_attr attr;
    int err = fs_getattr(&st->fs, ino, &attr);
    if (err) return err;
    buf_reserve(&res->data, off < attr.size ? min_u64(len, attr.size - off) : 0);
    struct gather g = {.res = res, .begin = off, .at = res->data.n};
    int64_t n = fs_read(&st->fs, ino, off, len, gather_piece, &g);
    if (n < 0) return (int)n;
    check((uint64_t)n == res->data.n - g.at);
    res->reply.data = buf_slice(&res->data);
    return 0;
}

void kv__query_blank(const struct kv__store *st, struct kv__result *res)
{
    buf_clear(&res->data);
    res->npieces = 0;
    res->reply = (struct kv_reply){.index = st->applied};
}

int kv__query_contents(const struct kv__store *st, uint64_t ino, uint32_t len, struct kv__result *res)
{
    return read_bytes(st, ino, 0, len, res);
}

static int get(const struct kv__store *st, const struct kv_op *op, struct kv__result *res)
{
    int err = fs_walk(&st->fs, op->name, &res->reply.attr);
    if (err) return err;
    if ((res->reply.attr.mode & 0170000) == 0040000) return -EISDIR;
    if (res->reply.attr.size > KV_DATA_MAX) return -EFBIG;
    return read_bytes(st, res->reply.attr.ino, 0, (uint32_t)res->reply.attr.size, res);
}

/* ---- pages ---- */

struct page {
    struct buf *out;
    uint64_t bytes_max, rows_left;
    struct slice before;        /* names from here on are not wanted; empty: all are */
    bool stopped;
};

static bool emit_row(void *ctx, struct slice name, const struct fs_attr *attr)
{
    struct page *page = ctx;
    size_t before = page->out->n;
    if (page->before.n && slice_cmp(name, page->before) >= 0) return false;
    if (page->rows_left == 0) {
        page->stopped = true;
        return false;
    }
    kv__dirent_encode(name, attr, page->out);
    if (before && page->out->n > page->bytes_max) {
        page->out->n = before;
        page->stopped = true;
        return false;
    }
    page->rows_left--;
    return true;
}

static int page_done(const struct page *page, int err, struct kv__result *res)
{
    if (err < 0) return err;
    res->reply.off = !page->stopped;
    res->reply.data = buf_slice(page->out);
    return 0;
}

static int read_dir(const struct kv__store *st, const struct kv_op *op, struct kv__result *res)
{
    struct page page = {.out = &res->data, .bytes_max = min_u64(op->len, KV_PAGE_MAX), .rows_left = UINT64_MAX};
    return page_done(&page, fs_readdir(&st->fs, op->ino, op->name, emit_row, &page), res);
}

static int list(const struct kv__store *st, const struct kv_op *op, struct kv__result *res)
{
    struct page page = {.out = &res->data,
                        .bytes_max = KV_PAGE_MAX,
                        .rows_left = op->len ? op->len : KV_LIST_DEFAULT,
                        .before = op->data};
    return page_done(&page, fs_list(&st->fs, op->name, op->name2, emit_row, &page), res);
}

/* ---- the rest ---- */

static int owed(const struct kv__store *st, const struct kv_op *op, struct kv__result *res)
{
    uint64_t inos[512];
    uint32_t n = fs_owed(&st->fs, op->off, op->ino, inos, 512);
    for (uint32_t i = 0; i < n; i++) put_u64(&res->data, inos[i]);
    res->reply.data = buf_slice(&res->data);
    return 0;
}

static int statfs_numbers(const struct kv__store *st, const struct kv_statfs *disk, struct kv__result *res)
{
    struct kv_statfs s = *disk;
    fs_usage(&st->fs, &s.used);
    kv__statfs_encode(&s, &res->data);
    res->reply.data = buf_slice(&res->data);
    return 0;
}

static int sessions_text(const struct kv__store *st, struct kv__result *res)
{
    struct kv__session s = {0};
    while (kv__session_next(st->map, s.id, &s) && res->data.n < KV_PAGE_MAX) {
        char line[160];
        uint64_t idle = st->cluster > s.seen ? st->cluster - s.seen : 0;
        int n = snprintf(line, sizeof line, "%llx %s ttl_ms %u idle_ms %llu answered %llu ", (unsigned long long)s.id,
                         s.mount ? "mount" : "client", s.ttl_ms, (unsigned long long)(idle / NS_PER_MS),
                         (unsigned long long)s.high);
        buf_append(&res->data, line, (size_t)n);
        for (unsigned i = 0; i < s.name_n; i++) put_u8(&res->data, (uint8_t)(s.name[i] < ' ' ? '?' : s.name[i]));
        put_u8(&res->data, '\n');
    }
    res->reply.data = buf_slice(&res->data);
    return 0;
}

static int listxattr(const struct kv__store *st, const struct kv_op *op, struct kv__result *res)
{
    int err = fs_listxattr(&st->fs, op->ino, &res->data);
    if (err < 0) return err;
    res->reply.data = buf_slice(&res->data);
    return 0;
}

static int seek(const struct kv__store *st, const struct kv_op *op, struct kv_reply *r)
{
    int64_t n = fs_seek(&st->fs, op->ino, op->off, op->flags & 1);
    if (n < 0) return (int)n;
    r->off = (uint64_t)n;
    return 0;
}

void kv__query(const struct kv__store *st, const struct kv_op *op, const struct kv_statfs *disk, struct kv__result *res)
{
    const struct fs *fs = &st->fs;
    struct kv_reply *r = &res->reply;
    kv__query_blank(st, res);
    int err = -EINVAL;
    switch (op->code) {
    case KV_LOOKUP: err = fs_lookup(fs, op->ino, op->name, &r->attr); break;
    case KV_GETATTR: err = fs_getattr(fs, op->ino, &r->attr); break;
    case KV_READLINK: err = fs_readlink(fs, op->ino, &r->data); break;
    case KV_READDIR: err = read_dir(st, op, res); break;
    case KV_READ:
        err = op->len > KV_DATA_MAX ? -EINVAL : read_bytes(st, op->ino, op->off, (uint32_t)op->len, res);
        break;
    case KV_SEEK: err = seek(st, op, r); break;
    case KV_GETXATTR: err = fs_getxattr(fs, op->ino, op->name, &r->data); break;
    case KV_LISTXATTR: err = listxattr(st, op, res); break;
    case KV_STATFS: err = statfs_numbers(st, disk, res); break;
    case KV_OWED: err = owed(st, op, res); break;
    case KV_GET: err = get(st, op, res); break;
    case KV_LIST: err = list(st, op, res); break;
    case KV_SESSIONS: err = sessions_text(st, res); break;
    default: break;
    }
    r->status = err < 0 ? err : 0;
}
