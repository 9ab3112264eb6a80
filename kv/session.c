/* session.c - the rows of sessions and of remembered answers (the table is in session.h). Everything here is a
 * deterministic function of the map. A row that cannot be decoded is treated as absent: the map's bytes are checked
 * where they enter (log and checkpoint checksums, digest), not here. */
#include "kv/session.h"

struct row_key {
    uint8_t p[17];
};

static struct slice key1(struct row_key *k, char kind, uint64_t a)
{
    k->p[0] = (uint8_t)kind;
    store_be64(k->p + 1, a);
    return slice_of(k->p, 9);
}

static struct slice key2(struct row_key *k, char kind, uint64_t a, uint64_t b)
{
    key1(k, kind, a);
    store_be64(k->p + 9, b);
    return slice_of(k->p, 17);
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
    struct slice name = get_bytes(&r, reader_left(&r));
    if (r.bad || name.n > KV_SESSION_NAME_MAX) return false;
    s->name_n = (uint8_t)name.n;
    if (name.n) memcpy(s->name, name.p, name.n);
    return true;
}

bool kv__session_load(const struct omap *map, uint64_t id, struct kv__session *s)
{
    struct row_key k;
    struct slice value;
    return omap_get(map, key1(&k, 's', id), &value) && decode(id, value, s);
}

void kv__session_save(struct omap *map, const struct kv__session *s)
{
    uint8_t row[37 + KV_SESSION_NAME_MAX];
    store_u64(row, s->seen);
    store_u64(row + 8, s->floor);
    store_u64(row + 16, s->high);
    store_u64(row + 24, s->nonce);
    store_u32(row + 32, s->ttl_ms);
    row[36] = s->mount;
    memcpy(row + 37, s->name, s->name_n);
    struct row_key k;
    omap_put(map, key1(&k, 's', s->id), slice_of(row, 37u + s->name_n));
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
        if (key.n != 9 || key.p[0] != 's') return false;
        if (decode(load_be64(key.p + 1), omap_iter_value(&it), s)) return true;
    }
    return false;
}

void kv__session_raise(struct omap *map, struct kv__session *s, uint64_t floor)
{
    struct row_key k;
    for (uint64_t seq = s->floor; seq < floor && seq <= s->high; seq++) omap_del(map, key2(&k, 'r', s->id, seq));
    if (floor > s->floor) s->floor = floor;
}

void kv__session_drop(struct omap *map, const struct kv__session *s)
{
    struct kv__session gone = *s;
    kv__session_raise(map, &gone, s->high + 1);
    struct row_key k;
    omap_del(map, key1(&k, 'n', s->nonce));
    omap_del(map, key1(&k, 's', s->id));
}

bool kv__answer_get(const struct omap *map, uint64_t session, uint64_t seq, struct slice *value)
{
    struct row_key k;
    return omap_get(map, key2(&k, 'r', session, seq), value);
}

void kv__answer_put(struct omap *map, uint64_t session, uint64_t seq, struct slice value)
{
    struct row_key k;
    omap_put(map, key2(&k, 'r', session, seq), value);
}
