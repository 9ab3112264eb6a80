/* plain.c - sum and identity. */
#include "mr/apps/apps.h"
#include "mr/util.h"

static int sum_reduce(struct mr_ctx *c, struct mr_bytes key, struct mr_values *values)
{
    struct mr_bytes v;
    int64_t sum = 0, n;

    while (values->next(values, &v)) {
        if (!mr__number(slice_of(v.p, v.n), &n)) {
            c->fail(c, "the key '%.*s' has a value that cannot be summed: '%.*s'", (int)min_u64(key.n, 100), key.p,
                    (int)min_u64(v.n, 100), v.p);
            return 1;
        }
        if (__builtin_add_overflow(sum, n, &sum)) {
            c->fail(c, "the sum for the key '%.*s' does not fit into 64 bits", (int)min_u64(key.n, 100), key.p);
            return 1;
        }
    }
    c->emit_number(c, key, sum);
    return 0;
}

static int identity_map(struct mr_ctx *c, const struct mr_record *r)
{
    struct mr_bytes key = r->key, value = r->text;
    if (!key.p) { /* a line, as a command's */
        const char *tab = value.n ? memchr(value.p, '\t', value.n) : NULL;
        key = (struct mr_bytes){value.p, tab ? (size_t)(tab - value.p) : value.n};
        value = (struct mr_bytes){tab ? tab + 1 : "", tab ? value.n - key.n - 1 : 0};
    }
    c->emit(c, key, value);
    return 0;
}

static int identity_reduce(struct mr_ctx *c, struct mr_bytes key, struct mr_values *values)
{
    struct mr_bytes v;
    while (values->next(values, &v)) c->emit(c, key, v);
    return 0;
}

const struct mr_app mr__app_sum = {.abi = MR_ABI, .fold = MR_FOLD_SUM, .reduce = sum_reduce};
const struct mr_app mr__app_identity = {.abi = MR_ABI, .unit = MR_LINE, .map = identity_map, .reduce = identity_reduce};
