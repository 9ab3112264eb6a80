/* sort.h - sorting pairs in memory by (partition, key, order of emission). */
#ifndef QFS_MR_SORT_H
#define QFS_MR_SORT_H

#include "base/base.h"

struct sort_entry {
    uint64_t prefix;                   /* key_prefix() of the key */
    const uint8_t *record;             /* u32 key length, u32 value length, key, value */
    uint32_t part, seq;
};

static inline void sort_record(const struct sort_entry *e, struct slice *key, struct slice *value)
{
    uint32_t key_n = load_u32(e->record), value_n = load_u32(e->record + 4);
    *key = slice_of(e->record + 8, key_n);
    *value = slice_of(e->record + 8 + key_n, value_n);
}

void mr__sort(struct sort_entry *v, size_t n);

#endif
