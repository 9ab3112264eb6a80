/* key.h - row keys of the ordered map; the table of all rows is in key.c. */
#ifndef QFS_FS_KEY_H
#define QFS_FS_KEY_H

#include "fs/fs.h"

enum {
    ROW_XATTR = 'a',
    ROW_NAME = 'b',
    ROW_ENTRY = 'e',
    ROW_COUNTERS = 'g',
    ROW_INODE = 'i',
    ROW_TARGET = 'l',
    ROW_MOUNT = 'm',
    ROW_OWED = 'o',
    ROW_PAYLOAD = 'p',
    ROW_OWING = 'q',
    ROW_EXTENT = 'x',
};

#define KEY_MAX (1u + 2 * ORDERED_MAX + 255u)

/* Room for a key; the functions below build it there and return it as a slice into it. */
struct key {
    uint8_t p[KEY_MAX];
};

struct slice fs__key_counters(struct key *k);
struct slice fs__key_id(struct key *k, int kind, uint64_t id);                      /* kinds with one number; also the
                                                                                     * start of all rows of that id */
struct slice fs__key_pair(struct key *k, int kind, uint64_t id, uint64_t second);   /* extent, owed, owing */
/* Entry, xattr; the name has at most 255 bytes. */
struct slice fs__key_name(struct key *k, int kind, uint64_t id, struct slice name);
/* A name of an inode: which directory it is in, and what it is there. */
struct slice fs__key_link(struct key *k, uint64_t ino, uint64_t dir, struct slice name);
struct slice fs__key_payload(struct key *k, uint64_t index, uint32_t off);

/* Is it a row of that kind (and id)? What lies behind the id is fs__key_tail's, of any length. */
bool fs__key_of_kind(struct slice key, int kind);
bool fs__key_of(struct slice key, int kind, uint64_t id);
/* Of a key of some kind that has an id: the id, and what lies behind it. */
uint64_t fs__key_get_id(struct slice key);
static inline struct slice fs__key_tail(struct slice key)
{
    return slice_sub(key, 2u + key.p[1], key.n - 2 - key.p[1]);
}
/* Has it an id? Is that all? */
bool fs__key_has_id(struct slice key);
bool fs__key_is_id(struct slice key);
/* Directory and name of a row of kind `b`. False if the key has not that form. */
bool fs__key_link_parts(struct slice key, uint64_t *dir, struct slice *name);
/* The second number of a pair. False if the key has not that form. */
bool fs__key_second(struct slice key, uint64_t *second);

/* To the first row of kind and id; false if there is none. */
bool fs__seek_rows(struct omap_iter *it, const struct omap *map, int kind, uint64_t id);
/* To the next row while it is of the same kind and id. */
bool fs__next_row(struct omap_iter *it, int kind, uint64_t id);

#endif
