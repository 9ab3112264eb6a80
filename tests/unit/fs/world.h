/* world.h - what the tests of fs/ stand on: a map with a filesystem in it, a log in memory that holds what is written,
 * and a byte-exact record of what is live in it, kept from fs->on_live. */
#ifndef QFS_TEST_FS_WORLD_H
#define QFS_TEST_FS_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/stat.h>

#include "fs/fs.h"

struct entry {
    uint8_t *bytes;
    bool *live;
    size_t n;
};

struct world {
    struct fs fs;
    struct fs_ctx ctx;
    struct entry *log;
    size_t entries;
    uint64_t live_bytes;
};

struct world *world_new(void);
void world_free(struct world *w);

/* A new log entry with this payload somewhere inside. */
struct fs_loc world_log(struct world *w, struct slice data);

/* Everything must hold: fs_check, and the live record equal to fs_all_ranges and fs_live_ranges. */
void world_check(struct world *w);
/* The same for a map that a test has damaged: true if fs_check finds something. */
bool world_damaged(struct world *w);

/* [off, off + len) of a file as fs_read tells it, from any map that shares the log; the result as of fs_read. */
int64_t world_read(const struct world *w, const struct fs *fs, uint64_t ino, uint64_t off, uint32_t len,
                   struct buf *out);

/* Short forms, over the root or by number, that must succeed. */
uint64_t world_file(struct world *w, uint64_t dir, const char *name);
uint64_t world_dir(struct world *w, uint64_t dir, const char *name);
int world_write(struct world *w, uint64_t ino, uint64_t off, const void *p, size_t n);
int world_put(struct world *w, const char *key, const void *p, size_t n);
struct fs_attr world_attr(const struct world *w, uint64_t ino);
void world_expect(const struct world *w, uint64_t ino, const void *p, size_t n);        /* the whole contents */

/* All names, attributes, contents and extended attributes as text, for comparisons. */
void world_dump(const struct world *w, const struct fs *fs, struct buf *out);

#define S(text) slice_str(text)

#endif
