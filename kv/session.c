/* session.c - the rows of sessions and of remembered answers (the table is in session.h). Everything here is a
 * deterministic function of the map. A row that cannot be decoded is treated as absent: the map's bytes are checked
 * where they enter (log and checkpoint checksums, digest), not here. */
#include "kv/session.h"

#define ROW_FIXED 38u /* bytes of a session's row before its name */

struct row_key {
    uint8_t p[1 + 2 * ORDERED_MAX];
};

static struct slice key1(struct row_key *k, char kind, uint64_t a)
{
    k->p[0] = (uint8_t)kind;
    return slice_of(k->p, 1 + store_ordered(k->p + 1, a));
}

static struct slice key2(struct row_key *k, char kind, uint64_t a, uint64_t b)
{
    size_t n = key1(k, kind, a).n;
    return slice_of(k->p, n + store_ordered(k->p + n, b));
}

static bool decode(uint64_t id, struct slice value, struct kv__session *s)
{
    struct reader r = reader_of(value);
    s->id = id;
    s->seen = get_u64(&r);
    s->floor = get_u64(&r);
    s->high = get_u64(&r);
    s->nonce = get_u64(&r);
    s->ttl_ms = get_u32(&r);
    s->mount = get_u8(&r) != 0;
    s->name_n = get_u8(&r);
    struct slice name = get_bytes(&r, s->name_n);
    bool answer = reader_left(&r) > 0;
    s->last_seq = answer ? get_u64(&r) : 0;
    struct slice last = get_bytes(&r, reader_left(&r));
    if (r.bad || last.n > KV_LAST_MAX) return false;
    if (name.n) memcpy(s->name, name.p, name.n);
    s->last_n = (uint8_t)last.n;
    if (last.n) memcpy(s->last, last.p, last.n);
    return true;
}

bool kv__session_load(const struct omap *map, uint64_t id, struct kv__session *s)
{
    struct row_key k;
    struct slice value;
    return omap_get_at(map, key1(&k, 's', id), &value, &s->spot) && decode(id, value, s);
}

void kv__session_save(struct omap *map, const struct kv__session *s)
{
    uint8_t row[ROW_FIXED + KV_SESSION_NAME_MAX + 8 + KV_LAST_MAX];
    size_t n = ROW_FIXED + s->name_n;
    store_u64(row, s->seen);
    store_u64(row + 8, s->floor);
    store_u64(row + 16, s->high);
    store_u64(row + 24, s->nonce);
    store_u32(row + 32, s->ttl_ms);
    row[36] = s->mount;
    row[37] = s->name_n;
    memcpy(row + ROW_FIXED, s->name, s->name_n);
    if (s->last_seq) {
        store_u64(row + n, s->last_seq);
        memcpy(row + n + 8, s->last, s->last_n);
        n += 8u + s->last_n;
    }
    struct row_key k;
    omap_put_at(map, key1(&k, 's', s->id), slice_of(row, n), &s->spot);
}

void kv__session_add(struct omap *map, const struct kv__session *s)
{
    kv__session_save(map, s);
    uint8_t id[8];
    store_u64(id, s->id);
    struct row_key k;
    omap_put(map, key1(&k, 'n', s->nonce), slice_of(id, 8));
}

uint64_t kv__session_by_nonce(const struct omap *map, uint64_t nonce)
{
    struct row_key k;
    struct slice value;
    if (!omap_get(map, key1(&k, 'n', nonce), &value) || value.n != 8) return 0;
    return load_u64(value.p);
}

bool kv__session_next(const struct omap *map, uint64_t after, struct kv__session *s)
{
    struct row_key k;
    struct omap_iter it;
    if (after == UINT64_MAX) return false;
    for (omap_seek(&it, map, key1(&k, 's', after + 1)); it.valid; omap_next(&it)) {
        struct slice key = omap_iter_key(&it);
        uint64_t id;
        if (key.p[0] != 's' || load_ordered(slice_sub(key, 1, key.n - 1), &id) != key.n - 1 || key.n == 1) return false;
        if (decode(id, omap_iter_value(&it), s)) return true;
    }
    return false;
}

void kv__session_raise(struct omap *map, struct kv__session *s, uint64_t floor)
{
    struct row_key k;
    for (uint64_t seq = s->floor; seq < floor && seq <= s->high; seq++)
        if (seq != s->last_seq) omap_del(map, key2(&k, 'r', s->id, seq));
    if (floor > s->floor) s->floor = floor;
    if (s->last_seq < s->floor) s->last_seq = s->last_n = 0;
}

void kv__session_drop(struct omap *map, const struct kv__session *s)
{
    struct kv__session gone = *s;
    kv__session_raise(map, &gone, s->high + 1);
    struct row_key k;
    omap_del(map, key1(&k, 'n', s->nonce));
    omap_del(map, key1(&k, 's', s->id));
}

bool kv__answer_get(const struct omap *map, const struct kv__session *s, uint64_t seq, struct slice *value)
{
    struct row_key k;
    if (seq != s->last_seq) return omap_get(map, key2(&k, 'r', s->id, seq), value);
    *value = slice_of(s->last, s->last_n);
    return seq > 0;
}

void kv__answer_put(struct omap *map, struct kv__session *s, uint64_t seq, struct slice value)
{
    struct row_key k;
    bool small = value.n <= KV_LAST_MAX;
    if (small && s->last_seq) omap_put(map, key2(&k, 'r', s->id, s->last_seq), slice_of(s->last, s->last_n));
    if (!small) {
        omap_put(map, key2(&k, 'r', s->id, seq), value);
        return;
    }
    s->last_seq = seq;
    s->last_n = (uint8_t)value.n;
    memcpy(s->last, value.p, value.n);
}
