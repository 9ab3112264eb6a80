/* journal.c - see journal.h. A record: u32 length of the body, u32 CRC32C of the body, body. */
#include "mr/journal.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "mr/util.h"

#define JOURNAL_MAX (1024u * MIB)
#define HEAD        8u

void mr__journal_put(struct buf *b, const struct journal_entry *e)
{
    size_t head = b->n;
    buf_extend(b, HEAD);
    put_u8(b, (uint8_t)e->kind);
    if (e->kind == JOURNAL_DONE) {
        put_u8(b, (uint8_t)e->phase);
        put_u32(b, e->task);
        put_u32(b, e->attempt);
        put_slice16(b, e->holder);
        put_slice32(b, e->counters);
    } else {
        put_u64(b, e->inode);
    }
    size_t n = b->n - head - HEAD;
    store_u32(b->p + head, (uint32_t)n);
    store_u32(b->p + head + 4, crc32c(0, b->p + head + HEAD, n));
}

static bool parse(struct slice body, struct journal_entry *e)
{
    struct reader r = reader_of(body);
    *e = (struct journal_entry){.kind = (enum journal_kind)get_u8(&r)};
    if (e->kind == JOURNAL_DONE) {
        uint8_t phase = get_u8(&r);
        e->phase = phase == SCHED_MAP ? SCHED_MAP : SCHED_REDUCE;
        e->task = get_u32(&r);
        e->attempt = get_u32(&r);
        e->holder = get_slice16(&r);
        e->counters = get_slice32(&r);
        return reader_done(&r) && phase <= SCHED_REDUCE;
    }
    e->inode = get_u64(&r);
    return reader_done(&r) && (e->kind == JOURNAL_EPOCH || e->kind == JOURNAL_PUBLISH);
}

static void read_records(struct slice all, void (*each)(void *arg, const struct journal_entry *e), void *arg)
{
    struct journal_entry e;
    while (all.n >= HEAD) {
        uint32_t n = load_u32(all.p), crc = load_u32(all.p + 4);
        if (n > all.n - HEAD || crc32c(0, all.p + HEAD, n) != crc || !parse(slice_sub(all, HEAD, n), &e)) return;
        each(arg, &e);
        all = slice_sub(all, HEAD + n, all.n - HEAD - n);
    }
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static int list_epochs(const char *job, uint32_t **out, size_t *n)
{
    DIR *d = opendir(job);
    int rc = d ? 0 : -errno;
    *out = NULL;
    *n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        uint32_t no;
        char rest;
        if (sscanf(e->d_name, "epoch-%u%c", &no, &rest) != 1) continue;
        *out = xrealloc(*out, (*n + 1) * sizeof **out);
        (*out)[(*n)++] = no;
    }
    if (d) closedir(d);
    if (*n) qsort(*out, *n, sizeof **out, by_number);
    return rc;
}

int mr__journal_read(const char *job, void (*each)(void *arg, const struct journal_entry *e), void *arg,
                     uint32_t *epochs)
{
    uint32_t *v;
    size_t n;
    int rc = list_epochs(job, &v, &n);

    *epochs = 0;
    for (size_t i = 0; i < n && rc == 0; i++) {
        char *path = mr__strf("%s/epoch-%u/journal", job, v[i]);
        struct buf b = {0};
        rc = mr__read_file(path, JOURNAL_MAX, &b);
        if (rc == 0) ++*epochs;
        if (rc == -ENOENT) rc = 0; /* its coordinator died before it wrote a word */
        if (rc == 0) read_records(buf_slice(&b), each, arg);
        buf_free(&b);
        free(path);
    }
    free(v);
    return rc;
}
