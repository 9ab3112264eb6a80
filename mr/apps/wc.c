/* wc.c - word count. A word is a maximal run of letters (Unicode's, in UTF-8); the result is how often each occurs.
 *
 * It is also an example of an application: `cc -O2 -shared -fPIC -I. -o wc.so mr/apps/wc.c` in the source's root, then
 * `quorumfs mr run --app ./wc.so ...`. */
#include "mr/mr.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mr/apps/words.h"

static int wc_map(struct mr_ctx *c, const struct mr_record *r)
{
    struct words words = words_of_text(r->text.p, r->text.n);
    struct mr_bytes word;

    while (words_next(&words, &word)) c->emit_number(c, word, 1);
    return 0;
}

static int wc_reduce(struct mr_ctx *c, struct mr_bytes key, struct mr_values *values)
{
    struct mr_bytes v;
    int64_t sum = 0;

    while (values->next(values, &v)) {
        char text[24] = {0}, *end;
        if (v.n > 0 && v.n < sizeof text) memcpy(text, v.p, v.n);
        int64_t n = strtoll(text, &end, 10);
        if (end == text || *end || __builtin_add_overflow(sum, n, &sum)) {
            c->fail(c, "the key '%.*s' has a value that cannot be summed: '%.*s'", (int)key.n, key.p, (int)v.n, v.p);
            return 1;
        }
    }
    c->emit_number(c, key, sum);
    return 0;
}

const struct mr_app mr_application = {
    .abi = MR_ABI, .unit = MR_BLOCK, .fold = MR_FOLD_SUM, .map = wc_map, .reduce = wc_reduce};
