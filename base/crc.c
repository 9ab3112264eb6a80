/* crc.c - CRC32C, reflected, polynomial 0x1edc6f41.
 *
 * By SSE4.2, the crc32 instruction takes 8 bytes a cycle but has a latency of 3, so long input is cut in three blocks
 * whose CRCs run side by side and are then joined: to append n bytes to a CRC is to multiply it by x^(8n) modulo the
 * polynomial, one carry-less multiplication by a constant. Elsewhere by eight tables (slicing-by-8), which the compiler
 * computes from the eight one-bit rows of each: a CRC is linear. */
#include "base/crc.h"

#include <string.h>

#include "base/crc_paths.h"

#define ROW(i, a, b, c, d, e, f, g, h)                                                                                 \
    (((i) & 1 ? (a) : 0u) ^ ((i) & 2 ? (b) : 0u) ^ ((i) & 4 ? (c) : 0u) ^ ((i) & 8 ? (d) : 0u) ^                       \
     ((i) & 16 ? (e) : 0u) ^ ((i) & 32 ? (f) : 0u) ^ ((i) & 64 ? (g) : 0u) ^ ((i) & 128 ? (h) : 0u))
#define ROW2(i, ...) ROW(i, __VA_ARGS__), ROW((i) + 1, __VA_ARGS__)
#define ROW4(i, ...) ROW2(i, __VA_ARGS__), ROW2((i) + 2, __VA_ARGS__)
#define ROW16(i, ...)                                                                                                  \
    ROW4(i, __VA_ARGS__), ROW4((i) + 4, __VA_ARGS__), ROW4((i) + 8, __VA_ARGS__), ROW4((i) + 12, __VA_ARGS__)
#define ROW64(i, ...)                                                                                                  \
    ROW16(i, __VA_ARGS__), ROW16((i) + 16, __VA_ARGS__), ROW16((i) + 32, __VA_ARGS__), ROW16((i) + 48, __VA_ARGS__)
#define TABLE(...) {ROW64(0, __VA_ARGS__), ROW64(64, __VA_ARGS__), ROW64(128, __VA_ARGS__), ROW64(192, __VA_ARGS__)}

/* table[k][b]: the CRC of byte b followed by k zero bytes. */
static const uint32_t table[8][256] = {
    TABLE(0xf26b8303, 0xe13b70f7, 0xc79a971f, 0x8ad958cf, 0x105ec76f, 0x20bd8ede, 0x417b1dbc, 0x82f63b78),
    TABLE(0x13a29877, 0x274530ee, 0x4e8a61dc, 0x9d14c3b8, 0x3fc5f181, 0x7f8be302, 0xff17c604, 0xfbc3faf9),
    TABLE(0xa541927e, 0x4f6f520d, 0x9edea41a, 0x38513ec5, 0x70a27d8a, 0xe144fb14, 0xc76580d9, 0x8b277743),
    TABLE(0xdd45aab8, 0xbf672381, 0x7b2231f3, 0xf64463e6, 0xe964b13d, 0xd725148b, 0xaba65fe7, 0x52a0c93f),
    TABLE(0x38116fac, 0x7022df58, 0xe045beb0, 0xc5670b91, 0x8f2261d3, 0x1ba8b557, 0x37516aae, 0x6ea2d55c),
    TABLE(0xef306b19, 0xdb8ca0c3, 0xb2f53777, 0x6006181f, 0xc00c303e, 0x85f4168d, 0x0e045beb, 0x1c08b7d6),
    TABLE(0x68032cc8, 0xd0065990, 0xa5e0c5d1, 0x4e2dfd53, 0x9c5bfaa6, 0x3d5b83bd, 0x7ab7077a, 0xf56e0ef4),
    TABLE(0x493c7d27, 0x9278fa4e, 0x211d826d, 0x423b04da, 0x847609b4, 0x0d006599, 0x1a00cb32, 0x34019664),
};

static uint64_t load64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

uint32_t crc__by_table(uint32_t crc, const void *data, size_t n)
{
    const uint8_t *p = data;
    crc = ~crc;
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t v = load64(p) ^ crc;
        crc = table[7][v & 255] ^ table[6][v >> 8 & 255] ^ table[5][v >> 16 & 255] ^ table[4][v >> 24 & 255] ^
              table[3][v >> 32 & 255] ^ table[2][v >> 40 & 255] ^ table[1][v >> 48 & 255] ^ table[0][v >> 56];
    }
    for (; n; p++, n--) crc = crc >> 8 ^ table[0][(crc ^ *p) & 255];
    return ~crc;
}

#if defined(__x86_64__)
#include <immintrin.h>

#define SSE __attribute__((target("sse4.2,pclmul")))

bool crc__has_sse(void) { return __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul"); }

/* crc * x^(k + 33) modulo the polynomial, where factor is x^k: the product of two reflected numbers comes out shifted
 * by one, and the crc32 instruction that reduces it multiplies by x^32. */
SSE static inline uint64_t multiply(uint64_t crc, uint32_t factor)
{
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)crc), _mm_cvtsi32_si128((int)factor), 0);
    return _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

/* Takes whole triples of `block` bytes (a multiple of 8) off the input; by1 and by2 are x^(8 block - 33) and
 * x^(16 block - 33). */
SSE static inline uint64_t triples(uint64_t a, const uint8_t **pp, size_t *n, size_t block, uint32_t by1, uint32_t by2)
{
    const uint8_t *p = *pp;
    for (; *n >= 3 * block; p += 3 * block, *n -= 3 * block) {
        uint64_t b = 0, c = 0;
        for (size_t i = 0; i < block; i += 8) {
            a = _mm_crc32_u64(a, load64(p + i));
            b = _mm_crc32_u64(b, load64(p + block + i));
            c = _mm_crc32_u64(c, load64(p + 2 * block + i));
        }
        a = multiply(a, by2) ^ multiply(b, by1) ^ c;
    }
    *pp = p;
    return a;
}

SSE uint32_t crc__by_sse(uint32_t crc, const void *data, size_t n)
{
    const uint8_t *p = data;
    uint64_t a = (uint32_t)~crc;
    a = triples(a, &p, &n, 1024, 0x170076fa, 0xa51b6135);
    a = triples(a, &p, &n, 128, 0x0d3b6092, 0xb9e02b86);
    for (; n >= 8; p += 8, n -= 8) a = _mm_crc32_u64(a, load64(p));
    for (; n; p++, n--) a = _mm_crc32_u8((uint32_t)a, *p);
    return ~(uint32_t)a;
}

#else

bool crc__has_sse(void) { return false; }
uint32_t crc__by_sse(uint32_t crc, const void *p, size_t n) { return crc__by_table(crc, p, n); }

#endif

uint32_t crc32c(uint32_t crc, const void *p, size_t n)
{
    return crc__has_sse() ? crc__by_sse(crc, p, n) : crc__by_table(crc, p, n);
}
