/* shuffle.h - the file of sorted pairs that a map task leaves for the reduce tasks, and the merge of many.
 *
 *   file:    header, the blocks of partition 0, of partition 1, ..., index, trailer; all little-endian
 *   header   "QFSMRRUN", u32 version 1, u32 partitions
 *   block    u32 bytes, u32 CRC32C of them, then whole records: u32 key length, u32 value length, key, value
 *   index    a partition: u64 offset, u64 bytes (of its blocks, with their headers), u64 records
 *   trailer  u64 offset of the index, u32 CRC32C of header and index, "QFSRUNE1"
 *
 * A partition's records are in byte order of their keys, equal keys in the order they were emitted. */
#ifndef QFS_MR_SHUFFLE_H
#define QFS_MR_SHUFFLE_H

#include "mr/sorted.h"

#define MR_BLOCK_BYTES  (64u * 1024)
#define MR_PAIR_MAX     (512u * MIB)   /* key and value together */
#define MR_KEY_MAX      (64u * MIB)

struct run_range {
    uint64_t off, bytes, records;
};

/* ---- writing ---- */

struct run_writer;
int mr__run_create(const char *path, uint32_t parts, struct run_writer **out);
/* `part` never falls. Errors are kept and told by finish. */
void mr__run_add(struct run_writer *w, uint32_t part, struct slice key, struct slice value);
/* Takes whole blocks of a partition as they are (fetched from another machine); they are validated when read. */
void mr__run_add_blocks(struct run_writer *w, uint32_t part, struct slice blocks);
int mr__run_finish(struct run_writer *w, uint64_t *bytes, uint64_t *records);  /* closes; 0 or a negative error */
void mr__run_abandon(struct run_writer *w);            /* closes and removes the file; NULL is allowed */

/* ---- reading ---- */

/* Where partition `part` lies. QE_CORRUPT for anything that is no such file, -EINVAL if `parts` is not its number. */
int mr__run_find(int fd, uint32_t parts, uint32_t part, struct run_range *out);

/* What a merge reads: one partition of one file. `tag` is the caller's. */
struct run_source {
    char *path;
    uint32_t parts, part;
    uint64_t tag;
};

/* Merges the sources into one stream; equal keys come in the order of the sources. More sources than `memory` has room
 * for are first merged into files in `dir` that begin with `name`. On error *failed is the index of the source whose
 * file is missing or damaged, or SIZE_MAX. `touch` is called now and then while files are merged: there is progress. */
struct merge_options {
    const char *dir, *name;
    uint64_t memory;
    bool by_value;                     /* the sources have the values of a key in byte order, and so has the stream */
    void (*touch)(void *arg);
    void *arg;
};
struct merge;
int mr__merge_open(const struct run_source *v, size_t n, const struct merge_options *o, struct merge **out,
                   size_t *failed);
struct sorted *mr__merge_sorted(struct merge *m);
size_t mr__merge_failed(const struct merge *m);        /* after the stream ended with an error: as *failed above */
uint64_t mr__merge_records(const struct merge *m);     /* handed out so far */
uint64_t mr__merge_bytes(const struct merge *m);       /* of the sources as stored */
void mr__merge_close(struct merge *m);

#endif
