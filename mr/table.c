/* table.c - the folding hash table (table.h) and the arena's end.
 *
 * A key of at most 16 bytes is two numbers of 8 bytes, which with its length are the key itself, so that a hit is three
 * compares in one cache line and follows no pointer. Hashes are not seeded: hostile input can make it slow. */
#include "mr/table.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "mr/arena.h"

#define FIRST_CAP 4096u

void mr__arena_clear(struct arena *a)
{
    for (size_t i = 0; i < a->blocks_n; i++) free(a->blocks[i]);
    free(a->blocks);
    *a = (struct arena){0};
}

static inline uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned __int128 m = (unsigned __int128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

#if defined(__SANITIZE_ADDRESS__)
#define READ_BEYOND 0
#else
#define READ_BEYOND 1
#endif

/* May 16 bytes be read where the key's few lie? Whatever stands behind them, if that touches no other page. */
static inline bool can_load(struct slice key) { return READ_BEYOND && key.n && ((uintptr_t)key.p & 4095) <= 4096 - 16; }

/* The key's bytes, at most 16, as two numbers, zeros behind them; 16 are read. No branch depends on its length. */
static inline __attribute__((no_sanitize("undefined"))) void load_key(uint64_t *a, uint64_t *b, const uint8_t *p,
                                                                      size_t n)
{
    uint64_t first = n < 8 ? n : 8, second = n - first;
    /* (x << 8k) - 1 for k = 8 in two shifts: one by 64 is none. */
    *a = load_u64(p) & ((1ull << 4 * first << 4 * first) - 1);
    *b = load_u64(p + 8) & ((1ull << 4 * second << 4 * second) - 1);
}

/* Fills a, b and n; returns the hash. */
static inline uint64_t load_short(struct table_slot *s, const uint8_t *p, size_t n, uint32_t tag)
{
    load_key(&s->a, &s->b, p, n);
    s->n = (uint32_t)n;
    s->tag = tag;
    return mix(s->a ^ 0x9e3779b97f4a7c15ull, s->b ^ ((uint64_t)tag << 32 | n) ^ 0xd1b54a32d192ed03ull);
}

static uint64_t hash_of(const struct table_slot *s)
{
    if (s->n > 16) return mix(s->b, s->tag ^ 0x9e3779b97f4a7c15ull);
    return mix(s->a ^ 0x9e3779b97f4a7c15ull, s->b ^ ((uint64_t)s->tag << 32 | s->n) ^ 0xd1b54a32d192ed03ull);
}

struct slice mr__table_key(const struct table_slot *s, uint8_t space[16])
{
    if (s->n > 16) return slice_of((const uint8_t *)(uintptr_t)s->a, s->n);
    store_u64(space, s->a);
    store_u64(space + 8, s->b);
    return slice_of(space, s->n);
}

/* In large pages where there are some: with small ones each word that is not frequent costs a walk of page tables. */
static void take_slots(struct table *t, size_t cap)
{
    t->cap = cap;
    t->v = mmap(NULL, cap * sizeof *t->v, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(t->v != MAP_FAILED);
    (void)madvise(t->v, cap * sizeof *t->v, MADV_HUGEPAGE);
}

static void give_slots(struct table_slot *v, size_t cap) { check(munmap(v, cap * sizeof *v) == 0); }

struct table *mr__table_new(struct arena *keys)
{
    struct table *t = xcalloc(1, sizeof *t);
    t->keys = keys;
    take_slots(t, FIRST_CAP);
    return t;
}

void mr__table_free(struct table *t)
{
    if (!t) return;
    give_slots(t->v, t->cap);
    free(t);
}

void mr__table_clear(struct table *t)
{
    check(t->waiting_n == 0);
    give_slots(t->v, t->cap);
    take_slots(t, FIRST_CAP);
    t->used = 0;
}

static void grow(struct table *t)
{
    struct table_slot *old = t->v;
    size_t n = t->cap;

    take_slots(t, 2 * n);
    for (size_t i = 0; i < n; i++) {
        if (!old[i].tag) continue;
        size_t at = hash_of(&old[i]) & (t->cap - 1);
        while (t->v[at].tag) at = (at + 1) & (t->cap - 1);
        t->v[at] = old[i];
    }
    give_slots(old, n);
}

static struct table_slot *insert(struct table *t, struct table_slot *at, const struct table_slot *s)
{
    *at = *s;
    t->used++;
    return at;
}

static struct table_slot *get_long(struct table *t, struct slice key, uint32_t tag)
{
    struct table_slot s = {.b = hash64(0, key.p, key.n), .n = (uint32_t)key.n, .tag = tag};
    size_t at = hash_of(&s) & (t->cap - 1);

    for (; t->v[at].tag; at = (at + 1) & (t->cap - 1)) {
        struct table_slot *x = &t->v[at];
        if (x->b != s.b || x->n != s.n || x->tag != tag) continue;
        if (memcmp((const void *)(uintptr_t)x->a, key.p, key.n) == 0) return x;
    }
    uint8_t *p = arena_take(t->keys, key.n);
    memcpy(p, key.p, key.n);
    s.a = (uintptr_t)p;
    return insert(t, &t->v[at], &s);
}

static inline uint64_t tail_of(const struct table_slot *s) { return (uint64_t)s->tag << 32 | s->n; }

/* There is room for one more. */
static inline struct table_slot *get_short(struct table *t, const struct table_slot *s, uint64_t hash)
{
    for (size_t at = hash;; at++) {
        struct table_slot *x = &t->v[at & (t->cap - 1)];
        if (((x->a ^ s->a) | (x->b ^ s->b) | (tail_of(x) ^ tail_of(s))) == 0) return x;
        if (x->tag) continue;
        insert(t, x, s);
        x->sum = 0;
        return x;
    }
}

struct table_slot *mr__table_get(struct table *t, struct slice key, uint32_t tag)
{
    struct table_slot s;

    if (t->used > t->cap / 2) grow(t);
    if (key.n > 16) return get_long(t, key, tag);
    uint8_t copy[16] = {0};
    if (key.n) memcpy(copy, key.p, key.n);
    uint64_t hash = load_short(&s, copy, key.n, tag);
    return get_short(t, &s, hash);
}

static inline void add_to(struct table *t, struct table_slot *x, int64_t n)
{
    if (__builtin_add_overflow(x->sum, n, &x->sum) && !t->overflowed.tag) t->overflowed = *x;
}

void mr__table_settle(struct table *t)
{
    while (t->used + t->waiting_n > t->cap / 2) grow(t);
    for (uint32_t i = 0; i < t->waiting_n; i++) {
        const struct table_slot *s = &t->waiting[i].slot;
        add_to(t, get_short(t, s, t->waiting[i].hash), s->sum);
    }
    t->waiting_n = 0;
}

/* 16 bytes can be read at p. */
static inline void push(struct table *t, const uint8_t *p, size_t n, uint32_t tag, int64_t sum)
{
    struct table_slot *s = &t->waiting[t->waiting_n].slot;
    uint64_t hash = load_short(s, p, n, tag);
    s->sum = sum;
    t->waiting[t->waiting_n++].hash = hash;
    __builtin_prefetch(&t->v[hash & (t->cap - 1)], 1);
    if (t->waiting_n == TABLE_WAITING) mr__table_settle(t);
}

static __attribute__((noinline)) void add_slowly(struct table *t, struct slice key, uint32_t tag, int64_t n)
{
    uint8_t copy[16] = {0};
    if (key.n > 16) {
        add_to(t, mr__table_get(t, key, tag), n);
        return;
    }
    if (key.n) memcpy(copy, key.p, key.n);
    push(t, copy, key.n, tag, n);
}

/* Calls nothing but as its last act: so it saves no registers. */
void mr__table_add(struct table *t, struct slice key, uint32_t tag, int64_t n)
{
    if (key.n <= 16 && can_load(key))
        push(t, key.p, key.n, tag, n);
    else
        add_slowly(t, key, tag, n);
}
