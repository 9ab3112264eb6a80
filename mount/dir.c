/* dir.c - the window of names that a directory stream keeps. */
#include "mount/dir.h"

#include <stdlib.h>

void dir__window_reset(struct dir_window *w)
{
    w->first = 0;
    w->n = 0;
    w->ended = false;
    buf_clear(&w->names);
}

void dir__window_free(struct dir_window *w)
{
    free(w->entries);
    buf_free(&w->names);
    *w = (struct dir_window){0};
}

static void drop_oldest(struct dir_window *w, size_t n)
{
    check(n < w->n);
    uint32_t bytes = w->entries[n].name_at;
    memmove(w->names.p, w->names.p + bytes, w->names.n - bytes);
    w->names.n -= bytes;
    memmove(w->entries, w->entries + n, (w->n - n) * sizeof *w->entries);
    w->n -= n;
    w->first += n;
    for (size_t i = 0; i < w->n; i++) w->entries[i].name_at -= bytes;
}

void dir__window_add(struct dir_window *w, struct slice name, uint64_t ino, uint32_t mode)
{
    if (w->n >= 2 * DIR_KEEP) drop_oldest(w, w->n - DIR_KEEP);
    if (w->n == w->cap) {
        w->cap = w->cap ? 2 * w->cap : 64;
        w->entries = xrealloc(w->entries, w->cap * sizeof *w->entries);
    }
    w->entries[w->n++] = (struct dir_entry){.ino = ino, .name_at = (uint32_t)w->names.n, .mode = mode};
    put_bytes(&w->names, name);
    put_u8(&w->names, 0);
}

const struct dir_entry *dir__window_at(const struct dir_window *w, uint64_t number, const char **name)
{
    if (number < w->first || number >= dir__window_end(w)) return NULL;
    const struct dir_entry *e = &w->entries[number - w->first];
    *name = (const char *)w->names.p + e->name_at;
    return e;
}
