/* dir.h - a directory stream: what READDIR has listed of late, by position. Private to mount/.
 *
 * A position is the count of entries before it, "." and ".." among them; it is the offset that the kernel gives back to
 * go on. The stream keeps the names around the reader's place, so a listing goes on behind the very name it stopped at,
 * whatever has been deleted or made meanwhile. Far behind that (seekdir to an old position) the names are gone, and the
 * place is found by counting from the start. */
#ifndef QFS_MOUNT_DIR_H
#define QFS_MOUNT_DIR_H

#include "base/base.h"

#define DIR_KEEP 8192u        /* entries kept, about */

struct dir_entry {
    uint64_t ino;
    uint32_t name_at;         /* in names */
    uint32_t mode;
};

struct dir_window {
    uint64_t first; /* the number of entries[0] in the directory's order, from 0 ("." and ".." do not count) */
    struct dir_entry *entries;
    size_t n, cap;
    struct buf names;         /* NUL-terminated */
    bool ended;               /* there is nothing behind the last entry */
};

void dir__window_reset(struct dir_window *w);
void dir__window_free(struct dir_window *w);
static inline uint64_t dir__window_end(const struct dir_window *w) { return w->first + w->n; }
/* Adds at the end; may drop the oldest. */
void dir__window_add(struct dir_window *w, struct slice name, uint64_t ino, uint32_t mode);
/* Entry `number`, or NULL where it is not among those kept. The name lives until the next change. */
const struct dir_entry *dir__window_at(const struct dir_window *w, uint64_t number, const char **name);

#endif
