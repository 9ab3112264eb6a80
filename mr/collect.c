/* collect.c - a map task's pairs on their way to its run file (collect.h).
 *
 * Pairs go into an arena with an entry each, or, under a fold, into the hash table and from there into the arena when
 * it is time to sort. At the budget, and at the end, the entries are sorted by (partition, key, emission), combined if
 * the job says so, and written: straight to the task's file if nothing was spilled before, else to a spill of its own;
 * the spills are then merged partition by partition. What a combiner emits is gathered and sorted again by a second
 * collector, so a combiner may emit any keys in any order.
 *
 * Failure modes: the disk is full, a bad value under a fold, an oversize pair, the combiner fails: kept in err, and
 * told by mr__collect_error() and mr__collect_finish(). */
#include "mr/collect.h"

#include <stdlib.h>
#include <unistd.h>

#include "mr/arena.h"
#include "mr/shuffle.h"
#include "mr/sort.h"
#include "mr/table.h"
#include "mr/util.h"

#define LOOK_EACH 256u
#define AHEAD     8u

struct collect {
    struct collect_options o;
    int err;
    struct buf what;
    uint64_t pairs;
    struct arena arena;
    struct sort_entry *entries;
    size_t entries_n, entries_cap;
    struct table *table;  /* under a fold */
    struct table *tags;   /* under MR_FOLD_DISTINCT: a number for each value, */
    struct slice *values; /* and the value for each number less 1 */
    size_t values_n, values_cap, last;
    char **spills;
    size_t spills_n;
};

struct collect *mr__collect_new(const struct collect_options *o)
{
    struct collect *c = xcalloc(1, sizeof *c);
    check(o->parts > 0);
    c->o = *o;
    if (o->combine) c->o.memory /= 2; /* what it makes is gathered beside what it takes */
    if (o->fold != MR_FOLD_NONE) c->table = mr__table_new(&c->arena);
    if (o->fold == MR_FOLD_DISTINCT) c->tags = mr__table_new(&c->arena);
    return c;
}

void mr__collect_free(struct collect *c)
{
    if (!c) return;
    for (size_t i = 0; i < c->spills_n; i++) {
        unlink(c->spills[i]);
        free(c->spills[i]);
    }
    free(c->spills);
    mr__table_free(c->table);
    mr__table_free(c->tags);
    free(c->values);
    free(c->entries);
    mr__arena_clear(&c->arena);
    buf_free(&c->what);
    free(c);
}

uint64_t mr__collect_pairs(const struct collect *c) { return c->pairs; }

int mr__collect_error(const struct collect *c, struct slice *what)
{
    *what = buf_slice(&c->what);
    return c->err;
}

/* ---- taking in ---- */

static void add_entry(struct collect *c, struct slice key, struct slice value)
{
    uint8_t *p = arena_take(&c->arena, 8 + key.n + value.n);
    store_u32(p, (uint32_t)key.n);
    store_u32(p + 4, (uint32_t)value.n);
    if (key.n) memcpy(p + 8, key.p, key.n);
    if (value.n) memcpy(p + 8 + key.n, value.p, value.n);
    if (c->entries_n == c->entries_cap) {
        c->entries_cap = c->entries_cap ? 2 * c->entries_cap : 1024;
        c->entries = xrealloc(c->entries, c->entries_cap * sizeof *c->entries);
    }
    uint32_t part = mr__format_part(c->o.format, c->o.parts, key);
    c->entries[c->entries_n] = (struct sort_entry){key_prefix(key), p, part, (uint32_t)c->entries_n};
    c->entries_n++;
}

static uint64_t used(const struct collect *c)
{
    /* A table's rows become entries before they are written: it may fill half of the memory. */
    uint64_t tables = c->table ? 2 * mr__table_bytes(c->table) : 0;
    if (c->tags) tables += mr__table_bytes(c->tags) + c->values_cap * sizeof *c->values;
    return c->arena.bytes + c->entries_cap * sizeof *c->entries + tables;
}

static void spill(struct collect *c);

static void spill_if_full(struct collect *c)
{
    if (used(c) >= c->o.memory || c->entries_n == UINT32_MAX) spill(c);
}

static bool too_large(struct collect *c, struct slice key, size_t value_n)
{
    if (c->err) return true;
    if (key.n <= MR_KEY_MAX && value_n <= MR_PAIR_MAX - key.n) return false;
    mr__fmt(&c->what, "a pair with a key of %zu and a value of %zu bytes is too large (key: %u MiB, both: %u MiB)",
            key.n, value_n, MR_KEY_MAX / MIB, MR_PAIR_MAX / MIB);
    c->err = -EMSGSIZE;
    return true;
}

/* The number that stands for this value until the next spill. */
static uint32_t tag_of(struct collect *c, struct slice value)
{
    if (c->values_n && slice_eq(c->values[c->last], value)) return (uint32_t)c->last + 1;
    struct table_slot *s = mr__table_get(c->tags, value, 1);
    if (s->sum == 0) {
        if (c->values_n == c->values_cap) {
            c->values_cap = c->values_cap ? 2 * c->values_cap : 16;
            c->values = xrealloc(c->values, c->values_cap * sizeof *c->values);
        }
        uint8_t *p = arena_take(&c->arena, value.n);
        if (value.n) memcpy(p, value.p, value.n);
        c->values[c->values_n++] = slice_of(p, value.n);
        s->sum = (int64_t)c->values_n;
    }
    c->last = (size_t)s->sum - 1;
    return (uint32_t)s->sum;
}

/* Sums that do not fit show when the table settles. */
static int settle(struct collect *c)
{
    uint8_t space[16];
    if (!c->table) return c->err;
    mr__table_settle(c->table);
    if (c->table->overflowed.tag && c->err == 0) {
        struct slice key = mr__table_key(&c->table->overflowed, space);
        mr__fmt(&c->what, "the sum for the key '%.*s' does not fit into 64 bits", (int)min_u64(key.n, 100), key.p);
        c->err = -EOVERFLOW;
    }
    return c->err;
}

static __attribute__((noinline)) void add_number(struct collect *c, struct slice key, int64_t n)
{
    char text[MR_DECIMAL_MAX];
    if (c->o.fold != MR_FOLD_SUM) {
        mr__collect_pair(c, key, mr__decimal(text, n));
    } else if (!too_large(c, key, sizeof text)) {
        c->pairs++;
        spill_if_full(c);
        mr__table_add(c->table, key, 1, n);
    }
}

/* Short keys take 32 bytes each at most: the budget needs no look at every one. */
void mr__collect_number(struct collect *c, struct slice key, int64_t n)
{
    if (c->o.fold != MR_FOLD_SUM || key.n > 16 || c->err || c->pairs % LOOK_EACH == 0) {
        add_number(c, key, n);
    } else {
        c->pairs++;
        mr__table_add(c->table, key, 1, n);
    }
}

void mr__collect_pair(struct collect *c, struct slice key, struct slice value)
{
    int64_t n;
    if (too_large(c, key, value.n)) return;
    if (c->o.fold == MR_FOLD_SUM) {
        if (mr__number(value, &n)) {
            mr__collect_number(c, key, n);
            return;
        }
        mr__fmt(&c->what, "values are summed, but '%.*s' (for the key '%.*s') is no number of 64 bits",
                (int)min_u64(value.n, 100), value.p, (int)min_u64(key.n, 100), key.p);
        c->err = -EINVAL;
        return;
    }
    c->pairs++;
    if (c->o.fold == MR_FOLD_DISTINCT)
        mr__table_add(c->table, key, tag_of(c, value), 0);
    else
        add_entry(c, key, value);
    spill_if_full(c);
}

/* ---- sorting and writing ---- */

static void table_to_entries(struct collect *c)
{
    uint8_t space[16];
    char text[MR_DECIMAL_MAX];

    for (size_t i = 0; c->table && i < c->table->cap; i++) {
        const struct table_slot *s = &c->table->v[i];
        if (!s->tag) continue;
        struct slice value;
        if (c->o.fold == MR_FOLD_SUM)
            value = mr__decimal(text, s->sum);
        else
            value = c->values[s->tag - 1];
        add_entry(c, mr__table_key(s, space), value);
    }
}

static void forget_all(struct collect *c)
{
    free(c->entries);
    free(c->values);
    c->entries = NULL;
    c->values = NULL;
    c->entries_n = c->entries_cap = c->values_n = c->values_cap = c->last = 0;
    mr__arena_clear(&c->arena);
    if (c->table) mr__table_clear(c->table);
    if (c->tags) mr__table_clear(c->tags);
}

static int by_value(const void *a, const void *b)
{
    const struct sort_entry *x = a, *y = b;
    struct slice key, u, v;
    sort_record(x, &key, &u);
    sort_record(y, &key, &v);
    int c = slice_cmp(u, v);
    return c ? c : x->seq < y->seq ? -1 : x->seq > y->seq;
}

static bool same_key(const struct sort_entry *x, const struct sort_entry *y)
{
    struct slice a, b, value;
    if (x->part != y->part || x->prefix != y->prefix) return false;
    sort_record(x, &a, &value);
    sort_record(y, &b, &value);
    return slice_eq(a, b);
}

/* By key they are sorted already. */
static void sort_values(struct sort_entry *v, size_t n)
{
    for (size_t at = 0, end; at < n; at = end) {
        for (end = at + 1; end < n && same_key(&v[at], &v[end]);) end++;
        if (end - at > 1) qsort(v + at, end - at, sizeof *v, by_value);
    }
}

/* The entries of all partitions as one stream for the combiner. */
struct entries_stream {
    struct sorted sorted;
    const struct collect *c;
    size_t at;
};

static bool entries_next(struct sorted *s, struct slice *key, struct slice *value)
{
    struct entries_stream *e = container_of(s, struct entries_stream, sorted);
    if (e->at == e->c->entries_n) return false;
    sort_record(&e->c->entries[e->at++], key, value);
    return true;
}

struct collect_sink {
    struct sink sink;
    struct collect *c;
};

static void into_collect(struct sink *s, struct slice key, struct slice value)
{
    struct collect_sink *k = container_of(s, struct collect_sink, sink);
    mr__collect_pair(k->c, key, value);
    s->err = k->c->err;
}

static int write_combined(struct collect *c, const char *path, uint64_t *bytes, uint64_t *pairs)
{
    struct collect_options o = c->o;
    struct entries_stream in = {.sorted.next = entries_next, .c = c};
    char *name = mr__strf("%s-combined-%zu", c->o.name, c->spills_n);
    struct slice what;

    o.combine = NULL;
    o.fold = MR_FOLD_NONE;
    o.name = name;
    struct collect_sink out = {.sink.pair = into_collect, .c = mr__collect_new(&o)};
    int rc = c->o.combine(c->o.arg, &in.sorted, &out.sink);
    if (rc == 0) rc = mr__collect_finish(out.c, path, bytes, pairs);
    if (mr__collect_error(out.c, &what) < 0 && c->what.n == 0) put_bytes(&c->what, what);
    mr__collect_free(out.c);
    free(name);
    return rc;
}

static int write_entries(struct collect *c, const char *path, uint64_t *bytes, uint64_t *pairs)
{
    struct run_writer *w;
    struct slice key, value;
    int rc;

    if ((rc = settle(c)) < 0) return rc;
    table_to_entries(c);
    mr__sort(c->entries, c->entries_n);
    if (c->o.format->sort_values) sort_values(c->entries, c->entries_n);
    if (c->o.combine && c->entries_n) return write_combined(c, path, bytes, pairs);
    if ((rc = mr__run_create(path, c->o.parts, &w)) < 0) return rc;
    for (size_t i = 0; i < c->entries_n; i++) {
        /* In this order the records lie all over the memory. */
        if (i + AHEAD < c->entries_n) __builtin_prefetch(c->entries[i + AHEAD].record);
        sort_record(&c->entries[i], &key, &value);
        mr__run_add(w, c->entries[i].part, key, value);
    }
    return mr__run_finish(w, bytes, pairs);
}

static void spill(struct collect *c)
{
    char *path = mr__strf("%s/%s-spill-%zu", c->o.dir, c->o.name, c->spills_n);
    int rc = write_entries(c, path, NULL, NULL);

    c->spills = xrealloc(c->spills, (c->spills_n + 1) * sizeof *c->spills);
    c->spills[c->spills_n++] = path;
    if (rc < 0 && c->err == 0) c->err = rc;
    settle(c); /* an earlier error may have kept it from that */
    forget_all(c);
    if (c->o.touch) c->o.touch(c->o.arg);
}

static int merge_partition(struct collect *c, uint32_t part, struct run_writer *w)
{
    struct run_source *v = xcalloc(c->spills_n, sizeof *v);
    struct merge_options o = {.dir = c->o.dir,
                              .name = c->o.name,
                              .memory = c->o.memory / 2,
                              .by_value = c->o.format->sort_values,
                              .touch = c->o.touch,
                              .arg = c->o.arg};
    struct merge *m;
    struct slice key, value;
    size_t failed;

    for (size_t i = 0; i < c->spills_n; i++)
        v[i] = (struct run_source){.path = c->spills[i], .parts = c->o.parts, .part = part};
    int rc = mr__merge_open(v, c->spills_n, &o, &m, &failed);
    free(v);
    if (rc < 0) return rc;
    struct sorted *s = mr__merge_sorted(m);
    while (s->next(s, &key, &value)) mr__run_add(w, part, key, value);
    rc = s->err;
    mr__merge_close(m);
    if (c->o.touch) c->o.touch(c->o.arg);
    return rc;
}

int mr__collect_finish(struct collect *c, const char *path, uint64_t *bytes, uint64_t *pairs)
{
    struct run_writer *w = NULL;

    if (c->err) return c->err;
    if (c->spills_n == 0) {
        c->err = write_entries(c, path, bytes, pairs);
        return c->err;
    }
    spill(c);
    if (c->err == 0) c->err = mr__run_create(path, c->o.parts, &w);
    for (uint32_t part = 0; c->err == 0 && part < c->o.parts; part++) c->err = merge_partition(c, part, w);
    if (c->err)
        mr__run_abandon(w);
    else
        c->err = mr__run_finish(w, bytes, pairs);
    return c->err;
}
