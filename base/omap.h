/* omap.h - copy-on-write ordered map from byte strings to byte strings: a B+tree with reference-counted nodes.
 *
 * omap_snapshot() is O(1): it retains the root; afterwards a change copies the nodes on its path that are shared.
 * The map keeps a digest of its contents (a sum over hash(key, value)), so two maps with equal digests hold, but for
 * a collision of a 64-bit hash, the same rows. One loop owns a map and its snapshots: nothing here is thread-safe.
 *
 * Limits: keys of 1 .. OMAP_KEY_MAX bytes, values of 0 .. OMAP_VALUE_MAX bytes; beyond is a caller's mistake. */
#ifndef QFS_OMAP_H
#define QFS_OMAP_H

#include "base/buf.h"

#define OMAP_KEY_MAX 512u
#define OMAP_VALUE_MAX (128u * 1024)

struct omap;

struct omap *omap_new(void);
/* Releases a map or a snapshot; in either order, they do not depend on each other. NULL is allowed. */
void omap_free(struct omap *m);
/* An immutable map that shares the nodes of m; every reading function and omap_snapshot() work on it, a change of it is
 * a caller's mistake. */
struct omap *omap_snapshot(const struct omap *m);
/* m becomes again what it was when this snapshot of it was taken; releases the snapshot. */
void omap_rollback(struct omap *m, struct omap *snapshot);

uint64_t omap_count(const struct omap *m);     /* rows */
uint64_t omap_digest(const struct omap *m);
uint64_t omap_bytes(const struct omap *m);     /* memory of the nodes and large values this map reaches, about */

/* The value lives until the next change of m. */
bool omap_get(const struct omap *m, struct slice key, struct slice *value);
/* Inserts or replaces. `key` and `value` may point into m itself. */
void omap_put(struct omap *m, struct slice key, struct slice value);
/* Where a row of a map was found. It may be kept and used over any changes, as long as the map lives: a put that finds
 * the row still there replaces it without a search, if the value has the same size. Zero: nowhere. */
struct omap_spot {
    void *page;
    uint64_t shape;
    unsigned at;
};
bool omap_get_at(const struct omap *m, struct slice key, struct slice *value, struct omap_spot *spot);
void omap_put_at(struct omap *m, struct slice key, struct slice value, const struct omap_spot *spot);
/* False if there was none. `key` may point into m itself. */
bool omap_del(struct omap *m, struct slice key);

/* An iterator is a plain value; it is valid until the next change of its map. */
#define OMAP_DEPTH_MAX 16
struct omap_iter {
    const struct omap *m;
    struct {
        const void *node;
        unsigned at;
    } path[OMAP_DEPTH_MAX];
    unsigned depth;
    bool valid;
};

/* To the first row with a key >= key. Returns it->valid. */
bool omap_seek(struct omap_iter *it, const struct omap *m, struct slice key);
/* To the last row with a key <= key. Returns it->valid. */
bool omap_seek_le(struct omap_iter *it, const struct omap *m, struct slice key);
bool omap_next(struct omap_iter *it);          /* returns it->valid; once invalid it stays so */
bool omap_prev(struct omap_iter *it);
struct slice omap_iter_key(const struct omap_iter *it);     /* it->valid must hold; lives as long as the iterator */
struct slice omap_iter_value(const struct omap_iter *it);

#endif
