/* buf.h - bytes: `slice` borrows (the pointer lives as long as its owner says), `buf` owns, `blob` is shared. */
#ifndef QFS_BUF_H
#define QFS_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *p;
    size_t n;
};

static inline struct slice slice_of(const void *p, size_t n) { return (struct slice){p, n}; }
static inline struct slice slice_str(const char *s) { return (struct slice){(const uint8_t *)s, strlen(s)}; }
static inline struct slice slice_sub(struct slice s, size_t off, size_t n) { return (struct slice){s.p + off, n}; }
static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
/* Byte order, the shorter first where one is a prefix of the other: <0, 0, >0. */
int slice_cmp(struct slice a, struct slice b);

/* A growing byte array. Zero-initialised it is empty and valid; buf_free() releases it and leaves it empty. */
struct buf {
    uint8_t *p;
    size_t n, cap;
};

void buf_free(struct buf *b);
void buf_grow(struct buf *b, size_t more);                 /* buf_reserve() where there is no room */
/* Room for `more` bytes behind n. */
static inline void buf_reserve(struct buf *b, size_t more)
{
    if (more > b->cap - b->n) buf_grow(b, more);
}
/* n grows by `more`; returns where the new bytes begin, which are uninitialised. */
static inline uint8_t *buf_extend(struct buf *b, size_t more)
{
    buf_reserve(b, more);
    uint8_t *p = b->n ? b->p + b->n : b->p;
    b->n += more;
    return p;
}
void buf_append(struct buf *b, const void *p, size_t n);   /* p must not point into b */
static inline void buf_clear(struct buf *b) { b->n = 0; }
static inline struct slice buf_slice(const struct buf *b) { return (struct slice){b->p, b->n}; }

/* Immutable shared bytes with a reference count (not thread-safe: one loop owns it). */
struct blob {
    uint32_t refs;
    uint32_t n;
    uint8_t p[];
};

struct blob *blob_new(size_t n);                           /* uninitialised bytes, one reference */
static inline struct blob *blob_ref(struct blob *b) { b->refs++; return b; }
void blob_unref(struct blob *b);                           /* NULL is allowed */
static inline struct slice blob_slice(const struct blob *b) { return (struct slice){b->p, b->n}; }

#endif
