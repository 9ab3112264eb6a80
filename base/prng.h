/* prng.h - seeded pseudo-random numbers (xoshiro256**, seeded by splitmix64, after Blackman and Vigna). Every use of
 * chance in the program draws from one of these, given from outside, so that a seed replays a run. */
#ifndef QFS_PRNG_H
#define QFS_PRNG_H

#include <stdbool.h>
#include <stdint.h>

struct prng {
    uint64_t s[4];
};

void prng_seed(struct prng *r, uint64_t seed);
uint64_t prng_u64(struct prng *r);
uint64_t prng_below(struct prng *r, uint64_t n);                  /* 0 .. n-1, n > 0 */
uint64_t prng_between(struct prng *r, uint64_t lo, uint64_t hi);  /* lo .. hi, both included */
static inline bool prng_chance(struct prng *r, uint32_t percent) { return prng_below(r, 100) < percent; }

#endif
