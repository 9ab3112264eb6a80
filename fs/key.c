/* key.c - the whole key layout.
 *
 * A key begins with a byte for its kind. Numbers in keys are big-endian, so that byte order is number order; numbers in
 * values are varints (fs/varint.h) unless a width is given. Names are raw bytes and always last.
 *
 *   key                      value                                             what it is
 *   ----------------------------------------------------------------------------------------------------------------
 *   a | ino8 | name          bytes                                             extended attribute
 *   b | ino8 | dir8 | name   empty                                             the entry `e`, found by inode
 *   e | dir8 | name          u8 type (S_IFMT >> 12), ino                       directory entry
 *   g                        next ino, files, dirs, blocks                     counters of the whole filesystem
 *   i | ino8                 see fs/inode.c                                    inode
 *   l | ino8                 bytes                                             target of a symbolic link
 *   m | session8             empty                                             a mount session: it may have files open
 *   o | ino8 | session8      empty                                             the session owes an answer about a
 *                                                                              nameless file
 *   p | index8 | off4        len, refs                                         live payload: bytes [off, off + len) of
 *                                                                              log entry `index` and how many extents
 *                                                                              refer to each of them
 *   q | session8 | ino8      empty                                             the row `o`, found by session
 *   x | ino8 | offset8       u8 0, bytes; or u8 1, len, index, off             extent of a file: bytes held right here,
 *                                                                              or where the log holds them
 *
 * Rows of other kinds belong to kv/ ('s', 'r' and what it may add) and are not looked at.
 *
 * A row that does not have the form above, or contradicts another one, is damage: functions answer -EUCLEAN. */
#include "fs/key.h"

static uint8_t *put_head(struct key *k, int kind, uint64_t id)
{
    k->p[0] = (uint8_t)kind;
    store_be64(k->p + 1, id);
    return k->p + 9;
}

struct slice fs__key_counters(struct key *k)
{
    k->p[0] = ROW_COUNTERS;
    return slice_of(k->p, 1);
}

struct slice fs__key_id(struct key *k, int kind, uint64_t id)
{
    put_head(k, kind, id);
    return slice_of(k->p, 9);
}

struct slice fs__key_pair(struct key *k, int kind, uint64_t id, uint64_t second)
{
    store_be64(put_head(k, kind, id), second);
    return slice_of(k->p, 17);
}

struct slice fs__key_name(struct key *k, int kind, uint64_t id, struct slice name)
{
    check(name.n <= KEY_MAX - 17);
    uint8_t *p = put_head(k, kind, id);
    if (name.n) memcpy(p, name.p, name.n);
    return slice_of(k->p, 9 + name.n);
}

struct slice fs__key_link(struct key *k, uint64_t ino, uint64_t dir, struct slice name)
{
    check(name.n > 0 && name.n <= KEY_MAX - 17);
    uint8_t *p = put_head(k, ROW_NAME, ino);
    store_be64(p, dir);
    memcpy(p + 8, name.p, name.n);
    return slice_of(k->p, 17 + name.n);
}

struct slice fs__key_payload(struct key *k, uint64_t index, uint32_t off)
{
    store_be32(put_head(k, ROW_PAYLOAD, index), off);
    return slice_of(k->p, 13);
}

bool fs__key_of_kind(struct slice key, int kind) { return key.n >= 9 && key.p[0] == kind; }

bool fs__key_of(struct slice key, int kind, uint64_t id)
{
    return fs__key_of_kind(key, kind) && fs__key_get_id(key) == id;
}

bool fs__key_second(struct slice key, uint64_t *second)
{
    if (key.n != 17) return false;
    *second = load_be64(key.p + 9);
    return true;
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
