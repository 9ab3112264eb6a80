/* prng.c - xoshiro256** with splitmix64 seeding (Blackman and Vigna, public domain algorithms). Draws from a range are
 * unbiased: what would not divide evenly is drawn again. */
#include "base/prng.h"

#include "base/check.h"

static uint64_t rotl(uint64_t x, int k) { return x << k | x >> (64 - k); }

void prng_seed(struct prng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = seed += 0x9e3779b97f4a7c15ull;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
        z = (z ^ z >> 27) * 0x94d049bb133111ebull;
        r->s[i] = z ^ z >> 31;
    }
}

uint64_t prng_u64(struct prng *r)
{
    uint64_t *s = r->s;
    uint64_t result = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

/* Lemire's method: the high half of a 128-bit product; low halves under 2^64 mod n are the surplus. */
uint64_t prng_below(struct prng *r, uint64_t n)
{
    check(n > 0);
    unsigned __int128 m = (unsigned __int128)prng_u64(r) * n;
    if ((uint64_t)m < n) {
        uint64_t surplus = (0 - n) % n;
        while ((uint64_t)m < surplus) m = (unsigned __int128)prng_u64(r) * n;
    }
    return (uint64_t)(m >> 64);
}

uint64_t prng_between(struct prng *r, uint64_t lo, uint64_t hi)
{
    check(lo <= hi);
    uint64_t span = hi - lo;
    return span == UINT64_MAX ? prng_u64(r) : lo + prng_below(r, span + 1);
}
