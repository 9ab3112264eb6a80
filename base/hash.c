/* hash.c - hash64(): 64x64->128 multiplications whose halves are folded together (the idea of wyhash and its kin; this
 * function is our own and stays as it is, for digests are compared between nodes of different versions).
 *
 * Up to 16 bytes are two words, long input runs in three lanes of 16 bytes; the length enters at the end, so that
 * zero-padded inputs differ. */
#include "base/hash.h"

#include <string.h>

/* The fractions of the square roots of 2, 3, 5 and 7, the last bit set. */
#define K0 0x6a09e667f3bcc909ull
#define K1 0xbb67ae8584caa73bull
#define K2 0x3c6ef372fe94f82bull
#define K3 0xa54ff53a5f1d36f1ull

static uint64_t load8(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

static uint64_t load4(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

static uint64_t fold(uint64_t a, uint64_t b)
{
    unsigned __int128 r = (unsigned __int128)a * b;
    return (uint64_t)r ^ (uint64_t)(r >> 64);
}

/* Everything but the last 1 .. 16 bytes of more than 16. */
static uint64_t body(uint64_t h, const uint8_t **pp, size_t *n)
{
    const uint8_t *p = *pp;
    if (*n > 48) {
        uint64_t h1 = h, h2 = h;
        for (; *n > 48; p += 48, *n -= 48) {
            h = fold(load8(p) ^ K1, load8(p + 8) ^ h);
            h1 = fold(load8(p + 16) ^ K2, load8(p + 24) ^ h1);
            h2 = fold(load8(p + 32) ^ K3, load8(p + 40) ^ h2);
        }
        h ^= h1 ^ h2;
    }
    for (; *n > 16; p += 16, *n -= 16) h = fold(load8(p) ^ K1, load8(p + 8) ^ h);
    *pp = p;
    return h;
}

uint64_t hash64(uint64_t seed, const void *data, size_t n)
{
    const uint8_t *p = data;
    const size_t len = n;
    uint64_t h = fold(seed ^ K0, K1), a, b;
    if (n > 16) {
        h = body(h, &p, &n);
        /* May reach back into bytes that were taken already: there are more than 16 of them. */
        a = load8(p + n - 16);
        b = load8(p + n - 8);
    } else if (n >= 8) {
        a = load8(p);
        b = load8(p + n - 8);
    } else if (n >= 4) {
        a = load4(p);
        b = load4(p + n - 4);
    } else if (n > 0) {
        a = (uint64_t)p[0] << 16 | (uint64_t)p[n >> 1] << 8 | p[n - 1];
        b = 0;
    } else {
        a = b = 0;
    }
    return fold(fold(a ^ K2, b ^ h) ^ K3, h ^ len ^ K0);
}
