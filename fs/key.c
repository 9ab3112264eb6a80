/* key.c - the whole key layout.
 *
 * A key begins with a byte for its kind. Numbers in keys are store_ordered()'s (base/cursor.h): byte order is number
 * order, and small numbers are short, so that a search sees where keys differ in their first few bytes. Numbers in
 * values are varints (fs/varint.h) unless a width is given. Names are raw bytes and always last.
 *
 *   key                      value                                             what it is
 *   ----------------------------------------------------------------------------------------------------------------
 *   a | ino | name           bytes                                             extended attribute
 *   b | ino | dir | name     empty                                             the entry `e`, found by inode
 *   e | dir | name           u8 type (S_IFMT >> 12), ino                       directory entry
 *   g                        next ino, files, dirs, blocks                     counters of the whole filesystem
 *   i | ino                  see fs/inode.c                                    inode
 *   l | ino                  bytes                                             target of a symbolic link
 *   m | session              empty                                             a mount session: it may have files open
 *   o | ino | session        empty                                             the session owes an answer about a
 *                                                                              nameless file
 *   p | index | off          len, refs                                         live payload: bytes [off, off + len) of
 *                                                                              log entry `index` and how many extents
 *                                                                              refer to each of them
 *   q | session | ino        empty                                             the row `o`, found by session
 *   x | ino | offset         u8 0, bytes; or u8 1, len, index, off             extent of a file: bytes held right here,
 *                                                                              or where the log holds them
 *
 * Rows of other kinds belong to kv/ ('s', 'r' and what it may add) and are not looked at.
 *
 * A row that does not have the form above, or contradicts another one, is damage: functions answer -EUCLEAN. */
#include "fs/key.h"

static uint8_t *put_head(struct key *k, int kind, uint64_t id)
{
    k->p[0] = (uint8_t)kind;
    return k->p + 1 + store_ordered(k->p + 1, id);
}

static struct slice ends_at(const struct key *k, const uint8_t *end) { return slice_of(k->p, (size_t)(end - k->p)); }

struct slice fs__key_counters(struct key *k)
{
    k->p[0] = ROW_COUNTERS;
    return slice_of(k->p, 1);
}

struct slice fs__key_id(struct key *k, int kind, uint64_t id) { return ends_at(k, put_head(k, kind, id)); }

struct slice fs__key_pair(struct key *k, int kind, uint64_t id, uint64_t second)
{
    uint8_t *p = put_head(k, kind, id);
    return ends_at(k, p + store_ordered(p, second));
}

struct slice fs__key_name(struct key *k, int kind, uint64_t id, struct slice name)
{
    check(name.n <= KEY_MAX - 1 - 2 * ORDERED_MAX);
    uint8_t *p = put_head(k, kind, id);
    if (name.n) memcpy(p, name.p, name.n);
    return ends_at(k, p + name.n);
}

struct slice fs__key_link(struct key *k, uint64_t ino, uint64_t dir, struct slice name)
{
    check(name.n > 0 && name.n <= KEY_MAX - 1 - 2 * ORDERED_MAX);
    uint8_t *p = put_head(k, ROW_NAME, ino);
    p += store_ordered(p, dir);
    memcpy(p, name.p, name.n);
    return ends_at(k, p + name.n);
}

struct slice fs__key_payload(struct key *k, uint64_t index, uint32_t off)
{
    return fs__key_pair(k, ROW_PAYLOAD, index, off);
}

static unsigned take_id(struct slice key, uint64_t *id)
{
    return key.n ? load_ordered(slice_sub(key, 1, key.n - 1), id) : 0;
}

bool fs__key_has_id(struct slice key)
{
    uint64_t id;
    return take_id(key, &id) > 0;
}

bool fs__key_is_id(struct slice key)
{
    uint64_t id;
    return take_id(key, &id) == key.n - 1 && key.n > 1;
}

uint64_t fs__key_get_id(struct slice key)
{
    uint64_t id = 0;
    check(take_id(key, &id) > 0);
    return id;
}

bool fs__key_of_kind(struct slice key, int kind) { return key.n > 1 && key.p[0] == kind && fs__key_has_id(key); }

bool fs__key_of(struct slice key, int kind, uint64_t id)
{
    struct key k;
    struct slice head = fs__key_id(&k, kind, id);
    return key.n >= head.n && memcmp(key.p, head.p, head.n) == 0;
}

bool fs__key_second(struct slice key, uint64_t *second)
{
    uint64_t id;
    unsigned n = take_id(key, &id);
    if (n == 0) return false;
    struct slice rest = slice_sub(key, 1 + n, key.n - 1 - n);
    return rest.n > 0 && load_ordered(rest, second) == rest.n;
}

bool fs__key_link_parts(struct slice key, uint64_t *dir, struct slice *name)
{
    if (!fs__key_has_id(key)) return false;
    struct slice rest = fs__key_tail(key);
    unsigned n = load_ordered(rest, dir);
    *name = slice_sub(rest, n, rest.n - n);
    return n > 0 && name->n > 0 && name->n <= 255;
}

bool fs__seek_rows(struct omap_iter *it, const struct omap *map, int kind, uint64_t id)
{
    struct key k;
    return omap_seek(it, map, fs__key_id(&k, kind, id)) && fs__key_of(omap_iter_key(it), kind, id);
}

bool fs__next_row(struct omap_iter *it, int kind, uint64_t id)
{
    return omap_next(it) && fs__key_of(omap_iter_key(it), kind, id);
}
