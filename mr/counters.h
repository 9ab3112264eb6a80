/* counters.h - what a task counted: the built-in numbers and the user's own by name, and which records it left out. */
#ifndef QFS_MR_COUNTERS_H
#define QFS_MR_COUNTERS_H

#include "base/base.h"
#include "mr/heavy.h"

#define MR_COUNTERS_MAX     256u
#define MR_COUNTER_NAME_MAX 64u

#define MR_COUNTERS(X)                                                                                                 \
    X(MR_INPUT_BYTES, "input_bytes")                                                                                   \
    X(MR_SKIPPED, "skipped_records")                                                                                   \
    X(MR_MAP_PAIRS, "map_output_pairs")                                                                                \
    X(MR_SPILLED_PAIRS, "map_written_pairs")                                                                           \
    X(MR_SHUFFLE_BYTES, "shuffle_bytes")                                                                               \
    X(MR_REDUCE_PAIRS, "reduce_input_pairs")                                                                           \
    X(MR_OUTPUT_LINES, "output_lines")                                                                                 \
    X(MR_OUTPUT_BYTES, "output_bytes")

enum mr__counter {
#define X(name, text) name,
    MR_COUNTERS(X)
#undef X
        MR_COUNTERS_BUILT_IN
};

struct counters {
    uint64_t built_in[MR_COUNTERS_BUILT_IN];
    struct {
        char *name;
        int64_t n;
    } *user;                           /* in the order of their names */
    size_t user_n;
    struct heavy *heavy;               /* of a reduce task; NULL: none */
    struct buf skipped;                /* a line for each record that was left out: file, offset, bytes, why; by TABs */
};

void mr__counters_free(struct counters *c);
/* False if the name is no good or there are too many. */
bool mr__counters_add(struct counters *c, struct slice name, int64_t n);
void mr__counters_merge(struct counters *into, const struct counters *from);
void mr__counters_encode(struct buf *b, const struct counters *c);
bool mr__counters_decode(struct slice in, struct counters *c);     /* c is empty before; all or nothing */
void mr__counters_json(struct buf *b, const struct counters *c);   /* one object, one line a counter */

#endif
