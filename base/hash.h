/* hash.h - a fast 64-bit hash for tables and state digests. Not cryptographic. Stable: digests are compared between
 * nodes, so the function is part of the format. */
#ifndef QFS_HASH_H
#define QFS_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash64(uint64_t seed, const void *p, size_t n);
static inline uint64_t hash_mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93ull;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93ull;
    x ^= x >> 32;
    return x;
}

#endif
