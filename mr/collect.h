/* collect.h - where a map task's pairs gather: in memory up to a budget, folded where that is allowed, spilled in
 * sorted runs beyond it; at the end one run file (shuffle.h) with all partitions. */
#ifndef QFS_MR_COLLECT_H
#define QFS_MR_COLLECT_H

#include "mr/format.h"
#include "mr/sorted.h"

struct collect_options {
    uint32_t parts;                    /* partitions, by mr__format_part() */
    const struct format *format;
    uint64_t memory;
    enum mr_fold fold;
    const char *dir, *name;            /* spill files: DIR/NAME-spill-N */
    /* Combines a sorted stream into `out`; NULL: none. Returns 0 or a negative error. */
    int (*combine)(void *arg, struct sorted *in, struct sink *out);
    void (*touch)(void *arg);          /* called now and then while files are merged */
    void *arg;
};

struct collect;
struct collect *mr__collect_new(const struct collect_options *o);
void mr__collect_free(struct collect *c);      /* and removes what was spilled */
/* Errors (disk full, a value that is no number under MR_FOLD_SUM, an oversize pair) are kept: mr__collect_error(). */
void mr__collect_pair(struct collect *c, struct slice key, struct slice value);
void mr__collect_number(struct collect *c, struct slice key, int64_t n);
int mr__collect_error(const struct collect *c, struct slice *what);    /* what: a text, or empty */
/* Writes everything to `path`; *bytes is its size, *pairs how many pairs it holds. */
int mr__collect_finish(struct collect *c, const char *path, uint64_t *bytes, uint64_t *pairs);
uint64_t mr__collect_pairs(const struct collect *c);   /* taken in */

#endif
