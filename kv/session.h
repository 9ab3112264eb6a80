/* session.h - client sessions and the answers remembered for them, as rows of the replicated map. Private to kv/.
 *
 *   key                      value
 *   k                        u64 wall, u64 cluster time, u64 sessions, u64 mounts: the store's own state (kv/store.c)
 *   n | nonce                u64 session: which session a SESSION_OPEN made, so that repeating it finds it again
 *   r | session | seq        u8 code, kv_reply_encode: the answer to a change
 *   s | session              u64 seen, floor, high, nonce, u32 ttl ms, u8 mount, u8 n, name; and, if there is one and
 *                            it is small, the answer given last: u64 seq, then as in a row `r`
 *
 * Numbers in keys are store_ordered()'s. A client with one change under way at a time has no rows `r`: the answer given
 * last lies in the session's own row, which each change writes anyway; it moves out when another one comes while it is
 * still wanted.
 *
 * Exactly once: a change executes if its number lies in [floor, floor + KV_WINDOW) and no answer is stored for it.
 * The client raises the floor over what it has got answers for, which drops those rows. */
#ifndef QFS_KV_SESSION_H
#define QFS_KV_SESSION_H

#include "kv/kv.h"

#define KV_SESSION_NAME_MAX 255u
#define KV_SESSIONS_MAX 65536u
#define KV_LAST_MAX 128u        /* a larger answer has a row of its own at once */
#define KV_TTL_MS_DEFAULT 60000u
#define KV_TTL_MS_MIN 1000u
#define KV_TTL_MS_MAX (24u * 3600 * 1000)

struct kv__session {
    uint64_t id;
    uint64_t seen;              /* cluster time of the last sign of life */
    uint64_t floor;             /* every number below it has been answered, and the answer received */
    uint64_t high;              /* highest number that has been answered */
    uint64_t nonce;
    uint32_t ttl_ms;
    bool mount;
    uint8_t name_n;
    char name[KV_SESSION_NAME_MAX];
    uint64_t last_seq;          /* whose answer `last` is; 0: none */
    uint8_t last_n;
    uint8_t last[KV_LAST_MAX];
    struct omap_spot spot;      /* of its row, if it was read */
};

bool kv__session_load(const struct omap *map, uint64_t id, struct kv__session *s);
void kv__session_add(struct omap *map, const struct kv__session *s);        /* a new one, with its nonce */
void kv__session_save(struct omap *map, const struct kv__session *s);
void kv__session_drop(struct omap *map, const struct kv__session *s);       /* with its answers */
uint64_t kv__session_by_nonce(const struct omap *map, uint64_t nonce);      /* 0: none */
/* The first session with an id > after. */
bool kv__session_next(const struct omap *map, uint64_t after, struct kv__session *s);
/* The last cluster time at which it has not expired, unless it is seen again. */
static inline uint64_t kv__session_due(const struct kv__session *s)
{
    uint64_t ttl = (uint64_t)s->ttl_ms * 1000000u;
    return s->seen > UINT64_MAX - ttl ? UINT64_MAX : s->seen + ttl;
}
static inline bool kv__session_expired(const struct kv__session *s, uint64_t cluster)
{
    return cluster > kv__session_due(s);
}
/* Drops the answers below floor; s is not saved. */
void kv__session_raise(struct omap *map, struct kv__session *s, uint64_t floor);

/* The value is borrowed from s or the map until either changes. */
bool kv__answer_get(const struct omap *map, const struct kv__session *s, uint64_t seq, struct slice *value);
/* s is not saved. */
void kv__answer_put(struct omap *map, struct kv__session *s, uint64_t seq, struct slice value);

#endif
