/* sorted.h - the two ends that pairs flow between: a stream of pairs in key order, and a sink for pairs. */
#ifndef QFS_MR_SORTED_H
#define QFS_MR_SORTED_H

#include "base/base.h"

/* Equal keys stand together, in the order they were emitted. The slices live until the next call. */
struct sorted {
    bool (*next)(struct sorted *s, struct slice *key, struct slice *value);    /* false: the end, or err */
    int err;                           /* 0, or a negative error */
};

struct sink {
    void (*pair)(struct sink *s, struct slice key, struct slice value);
    /* A line of the output as an application gives it and as a command prints it, both without LF. NULL: a pair is
     * made of it. */
    void (*line)(struct sink *s, struct slice line);
    void (*command_line)(struct sink *s, struct slice line);
    int err;                           /* 0, or the first error; what comes after it is dropped */
};

/* The first eight bytes of a key as a number that compares as they do; equal prefixes say nothing. */
static inline uint64_t key_prefix(struct slice key)
{
    uint64_t v = 0;
    if (key.n >= 8) return load_be64(key.p);
    for (size_t i = 0; i < key.n; i++) v |= (uint64_t)key.p[i] << (56 - 8 * i);
    return v;
}

/* The reducer that a key belongs to: 32-bit FNV-1a, masked to 31 bits, mod the number of reducers. */
static inline uint32_t key_fnv(struct slice key)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < key.n; i++) h = (h ^ key.p[i]) * 16777619u;
    return h & 0x7fffffffu;
}

#endif
