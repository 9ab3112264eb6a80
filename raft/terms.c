/* terms.c - the terms of the log's entries as runs of equal terms: all that the consensus core keeps of its log.
 *
 * A leader's term is one run, so the array stays tiny however long the log is. Terms never fall along the log. The
 * entry at `base` is the one before the first that can be sent: its term is known, its bytes need not be. */
#include "raft/core_priv.h"

#include <stdlib.h>

static void push(struct raft_terms *t, uint64_t first, uint64_t term)
{
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 16;
        t->runs = xrealloc(t->runs, t->cap * sizeof *t->runs);
    }
    t->runs[t->n++] = (struct raft_run){first, term};
}

/* The run that holds index; index lies in base+1 .. last. */
static uint32_t run_of(const struct raft_terms *t, uint64_t index)
{
    uint32_t lo = 0, hi = t->n;
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (t->runs[mid].first <= index)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/* Those that end at base or before. */
static void drop_runs(struct raft_terms *t)
{
    uint32_t gone = t->base == t->last ? t->n : run_of(t, t->base + 1);
    t->n -= gone;
    if (gone && t->n) memmove(t->runs, t->runs + gone, t->n * sizeof *t->runs);
}

/* The log is of another history than the snapshot. */
static bool contradicts(const struct raft_terms *t, const struct raft_recovered *from)
{
    if (from->first <= from->snapshot_index)
        return t->runs[run_of(t, from->snapshot_index)].term != from->snapshot_term;
    return t->n && t->runs[0].term < from->snapshot_term;
}

void raft__terms_init(struct raft_terms *t, const struct raft_recovered *from)
{
    *t = (struct raft_terms){
        .base = from->snapshot_index, .base_term = from->snapshot_term, .last = from->snapshot_index};
    check((from->snapshot_index == 0) == (from->snapshot_term == 0));
    if (from->nruns == 0 || from->last < from->snapshot_index || from->last < from->first) return;
    check(from->first >= 1 && from->first <= from->snapshot_index + 1 && from->runs[0].first <= from->first);
    for (uint32_t i = 0; i < from->nruns; i++) {
        check(i == 0 || (from->runs[i].first > from->runs[i - 1].first && from->runs[i].term > from->runs[i - 1].term));
        if (from->runs[i].first <= from->last) push(t, from->runs[i].first, from->runs[i].term);
    }
    t->last = from->last;
    if (contradicts(t, from)) {
        raft__terms_reset(t, from->snapshot_index, from->snapshot_term);
        return;
    }
    if (from->first == from->snapshot_index + 1) return;
    /* Entries before the snapshot are kept, too: those whose predecessor's term is known can be sent. */
    if (from->first == 1) {
        t->base = t->base_term = 0;
    } else {
        t->base = t->runs[0].first < from->first ? from->first - 1 : from->first;
        t->base_term = t->runs[0].term;
    }
    drop_runs(t);
}

void raft__terms_free(struct raft_terms *t)
{
    free(t->runs);
    *t = (struct raft_terms){0};
}

uint64_t raft__term_at(const struct raft_terms *t, uint64_t index)
{
    if (index == t->base) return t->base_term;
    if (index < t->base || index > t->last) return 0;
    return t->runs[run_of(t, index)].term;
}

void raft__terms_append(struct raft_terms *t, uint64_t term)
{
    check(term >= raft__last_term(t) && term > 0);
    t->last++;
    if (t->n == 0 || t->runs[t->n - 1].term != term) push(t, t->last, term);
}

void raft__terms_truncate(struct raft_terms *t, uint64_t from)
{
    check(from > t->base && from <= t->last);
    t->last = from - 1;
    while (t->n && t->runs[t->n - 1].first >= from) t->n--;
    if (t->last == t->base) t->n = 0;
}

void raft__terms_trim(struct raft_terms *t, uint64_t base)
{
    if (base <= t->base) return;
    check(base <= t->last);
    t->base_term = raft__term_at(t, base);
    t->base = base;
    drop_runs(t);
}

void raft__terms_reset(struct raft_terms *t, uint64_t base, uint64_t term)
{
    t->base = t->last = base;
    t->base_term = term;
    t->n = 0;
}

uint64_t raft__terms_find(const struct raft_terms *t, uint64_t index, uint64_t term)
{
    index = min_u64(index, t->last);
    if (index < t->base) return index;
    uint32_t i = index == t->base ? 0 : run_of(t, index) + 1;
    for (; i > 0; i--) {
        if (t->runs[i - 1].term <= term) return index;
        index = max_u64(t->runs[i - 1].first - 1, t->base);
    }
    if (t->base_term <= term) return t->base;
    return t->base ? t->base - 1 : 0;
}
