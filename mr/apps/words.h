/* words.h - words of a text: maximal runs of letters. ASCII goes by a table of bytes; what is not ASCII is decoded as
 * UTF-8 and looked up among the ranges of letters.h. Bytes that are no UTF-8 are no letters. */
#ifndef QFS_MR_WORDS_H
#define QFS_MR_WORDS_H

#include "mr/mr.h"

#include "mr/apps/letters.h"

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

#endif
