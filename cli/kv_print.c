/* kv_print.c - keys and values on stdout: as JSON, and as words that a transaction's script understands. Written as it
 * comes, so that a listing of any length takes no memory. */
#include "cli/kv.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static bool first;

static void name_of(const char *name, const char *more)
{
    printf("%s\"%s%s\": ", first ? "" : ", ", name, more);
    first = false;
}

void kv_json_begin(void)
{
    putchar('{');
    first = true;
}

void kv_json_end(const char *tail) { printf("}%s", tail); }

void kv_json_u64(const char *name, uint64_t value)
{
    name_of(name, "");
    printf("%llu", (unsigned long long)value);
}

void kv_json_raw(const char *name, const char *text)
{
    name_of(name, "");
    fputs(text, stdout);
}

void kv_json_array(const char *name) { kv_json_raw(name, "["); }

void kv_json_array_end(const char *head)
{
    printf("%s]", head);
    first = false;
}

void kv_json_text(const char *name, const char *value) { kv_json_bytes(name, slice_str(value)); }

void kv_json_version(uint64_t ino, uint64_t version)
{
    name_of("version", "");
    printf("\"%llu.%llu\"", (unsigned long long)ino, (unsigned long long)version);
}

static void print_base64(struct slice s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    putchar('"');
    for (size_t i = 0; i < s.n; i += 3) {
        size_t left = s.n - i;
        unsigned v = (unsigned)s.p[i] << 16 | (left > 1 ? (unsigned)s.p[i + 1] << 8 : 0) | (left > 2 ? s.p[i + 2] : 0);
        putchar(digits[v >> 18]);
        putchar(digits[v >> 12 & 63]);
        putchar(left > 1 ? digits[v >> 6 & 63] : '=');
        putchar(left > 2 ? digits[v & 63] : '=');
    }
    putchar('"');
}

void kv_json_bytes(const char *name, struct slice value)
{
    json_t *text = json_stringn(value.n ? (const char *)value.p : "", value.n);
    if (!text) {                        /* it is no UTF-8 */
        name_of(name, "_base64");
        print_base64(value);
        return;
    }
    char *dump = json_dumps(text, JSON_ENCODE_ANY);
    name_of(name, "");
    fputs(dump, stdout);
    free(dump);
    json_decref(text);
}

void kv_print_word(struct slice s, bool quote)
{
    if (s.n == 0 || s.p[0] == '@' || s.p[0] == '#') quote = true;
    for (size_t i = 0; i < s.n && !quote; i++) quote = s.p[i] <= ' ' || s.p[i] >= 0x7f || s.p[i] == '"' || s.p[i] == '\\';
    if (!quote) {
        fwrite(s.p, 1, s.n, stdout);
        return;
    }
    putchar('"');
    for (size_t i = 0; i < s.n; i++) {
        uint8_t b = s.p[i];
        if (b == '"' || b == '\\') printf("\\%c", b);
        else if (b == '\n') fputs("\\n", stdout);
        else if (b < ' ' || b >= 0x7f) printf("\\x%02x", b);
        else putchar(b);
    }
    putchar('"');
}
