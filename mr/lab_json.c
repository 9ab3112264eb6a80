/* lab_json.c - the lab's key/value objects as JSON text (lab.h): what Go's encoder writes can be read, with its fields
 * in any order, unknown ones left out; what we write any JSON reader can read.
 *
 * Failure modes: bytes that are no UTF-8 when writing; text that is no such object when reading. */
#include "mr/lab.h"

#include "mr/util.h"

/* ---- writing ---- */

/* Bytes of the UTF-8 character at p; 0: it is none. */
static size_t utf8(const uint8_t *p, size_t left)
{
    uint32_t ch = p[0] & (p[0] < 0xe0 ? 0x1fu : p[0] < 0xf0 ? 0x0fu : 0x07u);
    size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;

    if (n < 2) return n;
    if (n > left) return 0;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
        ch = ch << 6 | (p[i] & 0x3fu);
    }
    if ((n == 3 && (ch < 0x800 || (ch >= 0xd800 && ch < 0xe000))) || (n == 4 && (ch < 0x10000 || ch > 0x10ffff)))
        return 0;
    return n;
}

static bool put_string(struct buf *b, struct slice s)
{
    put_u8(b, '"');
    for (size_t i = 0; i < s.n;) {
        size_t n = utf8(s.p + i, s.n - i);
        if (n == 0) return false;
        if (s.p[i] == '"' || s.p[i] == '\\') put_u8(b, '\\');
        if (s.p[i] < 0x20)
            mr__fmt(b, "\\u%04x", s.p[i]);
        else
            put_bytes(b, slice_sub(s, i, n));
        i += n;
    }
    put_u8(b, '"');
    return true;
}

bool mr__lab_put(struct buf *b, struct slice key, struct slice value)
{
    mr__fmt(b, "{\"Key\":");
    if (!put_string(b, key)) return false;
    mr__fmt(b, ",\"Value\":");
    if (!put_string(b, value)) return false;
    mr__fmt(b, "}\n");
    return true;
}

/* ---- reading ---- */

static void blanks(struct slice *in)
{
    while (in->n && memchr(" \t\r\n", in->p[0], 4)) *in = slice_sub(*in, 1, in->n - 1);
}

static bool take(struct slice *in, char ch)
{
    blanks(in);
    if (in->n == 0 || in->p[0] != (uint8_t)ch) return false;
    *in = slice_sub(*in, 1, in->n - 1);
    return true;
}

static bool hex4(struct slice *in, uint32_t *out)
{
    if (in->n < 4) return false;
    *out = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t ch = in->p[i];
        uint32_t digit = ch >= '0' && ch <= '9'   ? ch - '0' + 0u
                         : ch >= 'a' && ch <= 'f' ? ch - 'a' + 10u
                         : ch >= 'A' && ch <= 'F' ? ch - 'A' + 10u
                                                  : 16;
        if (digit == 16) return false;
        *out = *out << 4 | digit;
    }
    *in = slice_sub(*in, 4, in->n - 4);
    return true;
}

static void put_utf8(struct buf *b, uint32_t ch)
{
    if (ch < 0x80) {
        put_u8(b, (uint8_t)ch);
        return;
    }
    if (ch < 0x800) {
        put_u8(b, (uint8_t)(0xc0 | ch >> 6));
    } else {
        if (ch < 0x10000) {
            put_u8(b, (uint8_t)(0xe0 | ch >> 12));
        } else {
            put_u8(b, (uint8_t)(0xf0 | ch >> 18));
            put_u8(b, (uint8_t)(0x80 | (ch >> 12 & 0x3f)));
        }
        put_u8(b, (uint8_t)(0x80 | (ch >> 6 & 0x3f)));
    }
    put_u8(b, (uint8_t)(0x80 | (ch & 0x3f)));
}

/* Behind "\u": one code unit, or two that make a pair. A lone half becomes U+FFFD, as in Go. */
static bool take_unicode(struct slice *in, struct buf *out)
{
    uint32_t a, b;
    if (!hex4(in, &a)) return false;
    if (a >= 0xd800 && a < 0xdc00 && in->n >= 6 && in->p[0] == '\\' && in->p[1] == 'u') {
        struct slice next = slice_sub(*in, 2, in->n - 2);
        if (hex4(&next, &b) && b >= 0xdc00 && b < 0xe000) {
            *in = next;
            a = 0x10000 + ((a - 0xd800) << 10) + (b - 0xdc00);
        }
    }
    put_utf8(out, a >= 0xd800 && a < 0xe000 ? 0xfffd : a);
    return true;
}

static bool take_escape(struct slice *in, struct buf *out)
{
    static const char names[] = "\"\\/bfnrt", bytes[] = "\"\\/\b\f\n\r\t";
    if (in->n == 0) return false;
    uint8_t ch = in->p[0];
    const char *at = ch ? strchr(names, ch) : NULL;
    *in = slice_sub(*in, 1, in->n - 1);
    if (ch == 'u') return take_unicode(in, out);
    if (at) put_u8(out, (uint8_t)bytes[at - names]);
    return at != NULL;
}

static bool take_string(struct slice *in, struct buf *out)
{
    buf_clear(out);
    if (!take(in, '"')) return false;
    while (in->n) {
        size_t n = 0;
        while (n < in->n && in->p[n] != '"' && in->p[n] != '\\' && in->p[n] >= 0x20) n++;
        put_bytes(out, slice_sub(*in, 0, n));
        *in = slice_sub(*in, n, in->n - n);
        if (in->n == 0) return false;
        uint8_t ch = in->p[0];
        *in = slice_sub(*in, 1, in->n - 1);
        if (ch == '"') return true;
        if (ch != '\\' || !take_escape(in, out)) return false;
    }
    return false;
}

int mr__lab_get(struct slice *in, struct buf *key, struct buf *value)
{
    struct buf name = {0}, other = {0};
    bool ok;

    blanks(in);
    if (in->n == 0) return 0;
    buf_clear(key);
    buf_clear(value);
    ok = take(in, '{');
    if (ok && take(in, '}')) return 1;
    while (ok) {
        ok = take_string(in, &name) && take(in, ':');
        struct buf *to = slice_eq(buf_slice(&name), slice_str("Key"))     ? key
                         : slice_eq(buf_slice(&name), slice_str("Value")) ? value
                                                                          : &other;
        ok = ok && take_string(in, to);
        if (ok && !take(in, ',')) {
            ok = take(in, '}');
            break;
        }
    }
    buf_free(&name);
    buf_free(&other);
    return ok ? 1 : -EBADMSG;
}
