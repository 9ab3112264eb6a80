/* heavy.h - the heaviest keys of a reduce task or a job: those with the most values that reached the reducer. */
#ifndef QFS_MR_HEAVY_H
#define QFS_MR_HEAVY_H

#include "mr/sorted.h"

#define MR_HEAVY_KEYS 10u
#define MR_HEAVY_KEY  64u              /* so much of a key is kept */

struct heavy_key {
    uint8_t key[MR_HEAVY_KEY];
    uint32_t n;                        /* bytes of it, and of the whole key */
    uint32_t whole;
    uint64_t values, bytes;            /* bytes: of the values */
};

struct heavy {
    struct heavy_key top[MR_HEAVY_KEYS];       /* in no order */
    uint32_t n;
};

/* Passes on what `in` has, and counts. */
struct heavy_watch {
    struct sorted sorted;
    struct sorted *in;
    struct heavy *out;
    struct buf key;
    uint64_t values, bytes;
};
void mr__heavy_begin(struct heavy_watch *w, struct sorted *in, struct heavy *out);
void mr__heavy_end(struct heavy_watch *w);

void mr__heavy_offer(struct heavy *h, const struct heavy_key *k);
void mr__heavy_encode(struct buf *b, const struct heavy *h);       /* NULL: none */
bool mr__heavy_decode(struct reader *r, struct heavy **out);       /* NULL where there is none; free() it */
/* A line a key, the heaviest first: values, bytes, key; bytes that are no text are "?". */
void mr__heavy_text(struct buf *b, const struct heavy *h);

#endif
