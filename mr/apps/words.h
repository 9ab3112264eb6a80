/* words.h - words of a text: maximal runs of letters. ASCII goes by a table of bytes; what is not ASCII is decoded as
 * UTF-8 and looked up among the ranges of letters.h. Bytes that are no UTF-8 are no letters.
 *
 * next_word() says it byte by byte. words_next() gives the same words three times as fast: it makes a mask of 64 bytes
 * at once, a bit for each that is part of a letter, and finds the borders of runs by counting zeros. */
#ifndef QFS_MR_WORDS_H
#define QFS_MR_WORDS_H

#include "mr/mr.h"

#include "mr/apps/letters.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum { WORDS_NO, WORDS_LETTER, WORDS_UTF8 };

#define WORDS_8(x)  x, x, x, x, x, x, x, x
#define WORDS_26(x) WORDS_8(x), WORDS_8(x), WORDS_8(x), x, x
/* clang-format off */
static const unsigned char words_class[256] = {
    WORDS_8(0), WORDS_8(0), WORDS_8(0), WORDS_8(0), WORDS_8(0), WORDS_8(0), WORDS_8(0), WORDS_8(0),
    0, WORDS_26(WORDS_LETTER), 0, 0, 0, 0, 0, 0, WORDS_26(WORDS_LETTER), 0, 0, 0, 0, 0,
    WORDS_8(2), WORDS_8(2), WORDS_8(2), WORDS_8(2), WORDS_8(2), WORDS_8(2), WORDS_8(2), WORDS_8(2),
    WORDS_8(2), WORDS_8(2), WORDS_8(2), WORDS_8(2), WORDS_8(2), WORDS_8(2), WORDS_8(2), WORDS_8(2),
};
/* clang-format on */

static inline bool words_is_letter(uint32_t ch)
{
    size_t lo = 0, hi = sizeof letters / sizeof *letters;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (letters[mid].last < ch) lo = mid + 1;
        else hi = mid;
    }
    return lo < sizeof letters / sizeof *letters && letters[lo].first <= ch;
}

/* The bytes of the letter at p, which is not ASCII; 0: it is none. */
static inline size_t words_utf8(const unsigned char *p, const unsigned char *end)
{
    size_t left = (size_t)(end - p);
    uint32_t ch;

    if (p[0] < 0xc2 || left < 2 || (p[1] & 0xc0) != 0x80) return 0;
    ch = (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
    if (p[0] < 0xe0) return words_is_letter(ch) ? 2 : 0;
    if (left < 3 || (p[2] & 0xc0) != 0x80) return 0;
    ch = (p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    if (p[0] < 0xf0) return ch >= 0x800 && words_is_letter(ch) ? 3 : 0;
    if (p[0] > 0xf4 || left < 4 || (p[3] & 0xc0) != 0x80) return 0;
    ch = (p[0] & 0x07u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
    return ch >= 0x10000 && words_is_letter(ch) ? 4 : 0;
}

/* The next word at or after *p, which then stands behind it. */
static inline bool next_word(const unsigned char **at, const unsigned char *end, struct mr_bytes *word)
{
    const unsigned char *p = *at, *begin;
    size_t n = 0;

    for (; p < end; p++) {
        if (words_class[*p] == WORDS_NO) continue;
        if (words_class[*p] == WORDS_LETTER || (n = words_utf8(p, end))) break;
    }
    begin = p;
    p += n;
    for (; p < end; p += n) {
        n = 1;
        if (words_class[*p] == WORDS_LETTER) continue;
        if (words_class[*p] == WORDS_NO || !(n = words_utf8(p, end))) break;
    }
    *word = (struct mr_bytes){(const char *)begin, (size_t)(p - begin)};
    *at = p;
    return p > begin;
}

struct words {
    const unsigned char *base, *end;   /* of the 64 bytes at hand; of the text */
    uint64_t left;                     /* their letters that have not been given yet */
    unsigned carry;                    /* bytes of the next 64 that end a letter of these */
};

/* The same for bytes of any kind, of which the first `carry` are known to be a letter's. */
static inline uint64_t words_mask_slowly(struct words *w, const unsigned char *p, size_t n)
{
    uint64_t mask = w->carry ? (1ull << w->carry) - 1 : 0;
    size_t i = w->carry;

    w->carry = 0;
    while (i < n) {
        size_t k = words_class[p[i]] == WORDS_LETTER ? 1 : words_class[p[i]] == WORDS_NO ? 0 : words_utf8(p + i, w->end);
        for (size_t j = 0; j < k && i + j < 64; j++) mask |= 1ull << (i + j);
        if (i + k > 64) w->carry = (unsigned)(i + k - 64);
        i += k ? k : 1;
    }
    return mask;
}

#ifdef __SSE2__
/* 16 bytes; adds to *high those that are not ASCII. */
static inline uint64_t words_mask_16(const unsigned char *p, unsigned *high)
{
    __m128i v = _mm_loadu_si128((const __m128i *)p);
    __m128i low = _mm_sub_epi8(_mm_or_si128(v, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));
    __m128i letters_of = _mm_cmpeq_epi8(_mm_min_epu8(low, _mm_set1_epi8(25)), low);
    *high |= (unsigned)_mm_movemask_epi8(v);
    return (unsigned)_mm_movemask_epi8(letters_of);
}
#endif

static inline void words_load(struct words *w)
{
    size_t n = (size_t)(w->end - w->base);
#ifdef __SSE2__
    if (n >= 64 && !w->carry) {
        unsigned high = 0;
        const unsigned char *p = w->base;
        w->left = words_mask_16(p, &high) | words_mask_16(p + 16, &high) << 16 | words_mask_16(p + 32, &high) << 32 |
                  words_mask_16(p + 48, &high) << 48;
        if (!high) return;
    }
#endif
    w->left = words_mask_slowly(w, w->base, n < 64 ? n : 64);
}

static inline struct words words_of_text(const char *p, size_t n)
{
    struct words w = {.base = (const unsigned char *)p, .end = (const unsigned char *)p + n};
    if (n) words_load(&w);
    return w;
}

/* On to the next 64 bytes. False: there are none. */
static inline bool words_more(struct words *w)
{
    if (w->end - w->base <= 64) return false;
    w->base += 64;
    words_load(w);
    return true;
}

static inline bool words_next(struct words *w, struct mr_bytes *word)
{
    while (w->left == 0)
        if (!words_more(w)) return false;
    unsigned from = (unsigned)__builtin_ctzll(w->left);
    uint64_t behind = ~w->left & ~0ull << from; /* what is no letter, after the first that is one */
    const char *p = (const char *)w->base + from;
    if (behind) {
        unsigned to = (unsigned)__builtin_ctzll(behind);
        w->left &= ~0ull << to;
        *word = (struct mr_bytes){p, to - from};
        return true;
    }
    size_t n = 64 - from;
    for (w->left = 0; words_more(w); n += 64) {
        unsigned run = ~w->left ? (unsigned)__builtin_ctzll(~w->left) : 64;
        if (run == 64) {
            w->left = 0;
            continue;
        }
        n += run;
        w->left &= ~0ull << run;
        break;
    }
    *word = (struct mr_bytes){p, n};
    return true;
}

#endif
