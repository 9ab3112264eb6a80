/* payload.h - which bytes of the log the files refer to, and how often. */
#ifndef QFS_FS_PAYLOAD_H
#define QFS_FS_PAYLOAD_H

#include "fs/key.h"

/* A run of payload bytes of one log entry, [lo, hi), each referred to by `refs` extents. */
struct run {
    uint64_t lo, hi, refs;
};

/* 0 or -EUCLEAN. */
int fs__run_decode(struct slice key, struct slice row, struct run *out);

/* Can the references to these bytes be changed? -EINVAL if an entry cannot have them, -EUCLEAN if the rows around them
 * are damaged or, with must_live, there is a byte among them that nobody refers to. */
int fs__payload_check(const struct omap *map, struct fs_loc loc, uint32_t len, bool must_live);
/* One reference more (+1) or less (-1) to each of these bytes, after a successful fs__payload_check. */
void fs__payload_adjust(struct fs *fs, struct fs_loc loc, uint32_t len, int sign);

#endif
