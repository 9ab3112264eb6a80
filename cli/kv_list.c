/* kv_list.c - `quorumfs kv list`: page by page. Each page is one consistent view, and the next begins behind the last
 * key, so a listing of any length needs no more memory than a page. */
#include "cli/kv.h"

#include <stdio.h>

#define PAGE_KEYS 1000u

static void print_key(const struct kv_args *a, struct slice key, const struct fs_attr *attr, uint64_t nth)
{
    if (a->json) {
        fputs(nth ? ",\n  " : "\n  ", stdout);
        kv_json_begin();
        kv_json_bytes("key", key);
        kv_json_u64("size", attr->size);
        kv_json_version(attr->ino, attr->version);
        kv_json_end("");
        return;
    }
    if (a->sizes) printf("%12llu  ", (unsigned long long)attr->size);
    fwrite(key.p, 1, key.n, stdout);
    putchar(a->zero ? 0 : '\n');
}

/* The keys of a page; `from` becomes the smallest key behind them. */
static uint64_t print_page(const struct kv_args *a, struct slice page, struct buf *from, uint64_t before)
{
    struct reader r = reader_of(page);
    struct slice key;
    struct fs_attr attr;
    uint64_t n = 0;
    while (kv_dirent_next(&r, &key, &attr)) {
        print_key(a, key, &attr, before + n++);
        buf_clear(from);
        buf_append(from, key.p, key.n);
        put_u8(from, 0);
    }
    return n;
}

static void print_begin(const struct kv_args *a, uint64_t revision)
{
    if (!a->json) return;
    kv_json_begin();
    kv_json_u64("revision", revision);  /* of the first page */
    kv_json_array("keys");
}

int kv_list(struct cli_client *c, const struct kv_args *a, int argc, char **argv)
{
    if (argc > 1) return usage_error("kv", "list takes one PREFIX at most");
    const char *prefix = argc ? argv[0] : "";
    struct buf from = {0}, page = {0};
    uint64_t total = 0, got = 1;
    bool more = true, begun = false;
    int result = 0;
    if (a->from) buf_append(&from, a->from, strlen(a->from));
    while (more && got && (total < a->limit || !begun) && !result) {
        struct kv_op op = {.code = KV_LIST,
                           .name = slice_str(prefix),
                           .name2 = buf_slice(&from),
                           .data = slice_str(a->to ? a->to : ""),
                           .len = min_u64(a->limit - total, PAGE_KEYS)};
        struct kv_reply reply;
        buf_clear(&page);
        if (op.len == 0) op.len = 1;    /* --limit 0: only the revision */
        int status = cli_call(c, &op, a->timeout_ms, &reply, &page);
        if (status < 0) {
            result = kv_explain(slice_str(prefix), status, false);
            break;
        }
        if (!begun) print_begin(a, reply.index);
        begun = true;
        if (a->limit == 0) break;
        got = print_page(a, buf_slice(&page), &from, total);
        total += got;
        more = reply.off != 1;
    }
    if (a->json && begun) {
        kv_json_array_end(total ? "\n" : "");
        if (!result) kv_json_raw("more", more && a->limit ? "true" : "false");
        kv_json_end("\n");
    }
    buf_free(&from);
    buf_free(&page);
    return result ? result : kv_flush();
}
