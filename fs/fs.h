/* fs.h - the one door of fs/: filesystem semantics. Every operation is a deterministic function over the ordered map:
 * same map, same arguments, same result, on every replica. It knows no FUSE, no network and no disk: file bytes are
 * named by where the log holds them (struct fs_loc), and small files sit inline in the map.
 *
 * Results are 0 (or a count) or a negative errno; an operation that fails has changed nothing. Rows that are damaged or
 * contradict each other are -EUCLEAN. Permissions are checked by the kernel (default_permissions), not here; what POSIX
 * says about the objects themselves (EEXIST, ENOTEMPTY, EISDIR, loops, link limits, name lengths, sizes) is checked
 * here.
 *
 * The whole key layout is the table in fs/key.c. */
#ifndef QFS_FS_H
#define QFS_FS_H

#include "base/base.h"

#define FS_ROOT_INO 1u
#define FS_NAME_MAX 255u
#define FS_SYMLINK_MAX 4095u
#define FS_XATTR_NAME_MAX 255u
#define FS_XATTR_VALUE_MAX (64u * 1024)
#define FS_SIZE_MAX ((uint64_t)1 << 62)
#define FS_INLINE_MAX 256u            /* a file of at most this many bytes has no payload in the log */
#define FS_LINK_MAX 65000u
#define FS_KEY_MAX 4095u              /* a key/value key, that is a path without the leading slash */

struct fs_attr {
    uint64_t ino;
    uint32_t mode;                    /* type and permissions, as in struct stat */
    uint32_t nlink, uid, gid;
    uint64_t rdev;
    uint64_t size, blocks;            /* bytes (of a directory: entries); 512-byte units of data really held */
    int64_t atime, mtime, ctime, btime;    /* ns since 1970 */
    uint64_t version;                 /* rises with every change of the contents (for a directory: of its entries) */
    bool has_xattr;
};

/* Where a payload's first byte lies: entry `index` of the log, byte `off` of it. */
struct fs_loc {
    uint64_t index;
    uint32_t off;
};

/* What every change needs to know about its circumstances, all of it from the log. */
struct fs_ctx {
    int64_t now;                      /* wall time of the entry, ns. ctime of an object strictly rises, ahead of it if
                                       * need be; a change of contents sets mtime to the new ctime */
    uint64_t session;                 /* who asks; 0: nobody (a tool without open files) */
    uint32_t uid, gid;                /* owner of what is created */
};

struct fs {
    struct omap *map;                 /* shared with kv/'s own rows, which fs does not touch; the caller's */
    /* References to log payload change: `len` bytes at loc come to life (+1) or die (-1). May be NULL. */
    void (*on_live)(void *arg, struct fs_loc loc, uint32_t len, int sign);
    void *on_live_arg;
};

/* An empty filesystem: the root directory (mode 0755, owned by 0:0) and the counters. For a map without rows. */
void fs_format(struct fs *fs, int64_t now);

/* ---- looking ---- */
int fs_lookup(const struct fs *fs, uint64_t parent, struct slice name, struct fs_attr *out); /* "." and ".." too */
int fs_getattr(const struct fs *fs, uint64_t ino, struct fs_attr *out);                      /* ENOENT: no such inode */
int fs_readlink(const struct fs *fs, uint64_t ino, struct slice *target);                    /* borrows from the map */
/* Entries with names behind `after` (empty: from the start; "." and ".." are not among them), in byte order, until emit
 * returns false or the directory ends. Returns 1 if it ended, 0 if emit stopped it, or an error. */
int fs_readdir(const struct fs *fs, uint64_t dir, struct slice after,
               bool (*emit)(void *ctx, struct slice name, const struct fs_attr *attr), void *ctx);
/* The bytes [off, off + len) cut to the file's size, as pieces in ascending order; returns their sum. */
enum fs_piece_kind { FS_PIECE_HOLE, FS_PIECE_INLINE, FS_PIECE_LOG };
struct fs_piece {
    enum fs_piece_kind kind;
    uint64_t file_off;
    uint32_t len;
    struct slice bytes;               /* INLINE: borrows from the map */
    struct fs_loc loc;                /* LOG */
};
int64_t fs_read(const struct fs *fs, uint64_t ino, uint64_t off, uint32_t len,
                void (*emit)(void *ctx, const struct fs_piece *piece), void *ctx);
/* SEEK_DATA/SEEK_HOLE: the offset, or ENXIO. */
int64_t fs_seek(const struct fs *fs, uint64_t ino, uint64_t off, bool hole);
int fs_getxattr(const struct fs *fs, uint64_t ino, struct slice name, struct slice *value); /* ENODATA */
int fs_listxattr(const struct fs *fs, uint64_t ino, struct buf *names);                     /* NUL-terminated names */
struct fs_usage {
    uint64_t files, dirs, bytes;      /* inodes of each kind (files: all that are no directory); sum of blocks * 512 */
};
void fs_usage(const struct fs *fs, struct fs_usage *out);

/* ---- changing: *out (where given, may be NULL) is the object's attributes afterwards ---- */
/* Regular files, directories, FIFOs, sockets, devices; symlinks with `target`. */
int fs_mknod(struct fs *fs, const struct fs_ctx *ctx, uint64_t parent, struct slice name, uint32_t mode, uint64_t rdev,
             struct slice target, struct fs_attr *out);
/* open(O_CREAT): an existing regular file is returned as it is (EEXIST with excl). EISDIR; ESTALE for other types: an
 * open that has looked before does not get here with them, and looks again. */
int fs_create(struct fs *fs, const struct fs_ctx *ctx, uint64_t parent, struct slice name, uint32_t mode, bool excl,
              struct fs_attr *out, bool *created);
int fs_link(struct fs *fs, const struct fs_ctx *ctx, uint64_t ino, uint64_t parent, struct slice name,
            struct fs_attr *out);
/* held: the asking session has the file open. A regular file whose last name goes lives on, nameless, while a mount
 * session may have it open: those that are registered owe an answer (fs_release) each, the asking one only if held. */
int fs_unlink(struct fs *fs, const struct fs_ctx *ctx, uint64_t parent, struct slice name, bool held);
int fs_rmdir(struct fs *fs, const struct fs_ctx *ctx, uint64_t parent, struct slice name);
#define FS_RENAME_NOREPLACE 1u
#define FS_RENAME_EXCHANGE 2u
/* held: as in fs_unlink, for the file that is replaced. */
int fs_rename(struct fs *fs, const struct fs_ctx *ctx, uint64_t parent, struct slice name, uint64_t to_parent,
              struct slice to_name, uint32_t flags, bool held);
enum {
    FS_SET_MODE = 1, FS_SET_UID = 2, FS_SET_GID = 4, FS_SET_SIZE = 8, FS_SET_ATIME = 16, FS_SET_MTIME = 32,
    FS_SET_ATIME_NOW = 64, FS_SET_MTIME_NOW = 128, FS_SET_CTIME = 256,
};
int fs_setattr(struct fs *fs, const struct fs_ctx *ctx, uint64_t ino, uint32_t mask, const struct fs_attr *in,
               struct fs_attr *out);
/* Writes data at off, or, with append, at the file's end; *at (may be NULL) is where. The bytes are in the log at loc
 * (index and offset; -EINVAL if they reach beyond 4 GiB of the entry). */
int fs_write(struct fs *fs, const struct fs_ctx *ctx, uint64_t ino, uint64_t off, bool append, struct slice data,
             struct fs_loc loc, struct fs_attr *out, uint64_t *at);
/* fallocate(2): mode as there (0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE); EOPNOTSUPP for others. */
int fs_fallocate(struct fs *fs, const struct fs_ctx *ctx, uint64_t ino, uint32_t mode, uint64_t off, uint64_t len,
                 struct fs_attr *out);
/* Shares the extents of [off, off + len) of one file with another; returns the bytes "copied". */
int64_t fs_copy_range(struct fs *fs, const struct fs_ctx *ctx, uint64_t ino, uint64_t off, uint64_t to_ino,
                      uint64_t to_off, uint64_t len, struct fs_attr *out);
/* flags: XATTR_CREATE 1, XATTR_REPLACE 2. */
int fs_setxattr(struct fs *fs, const struct fs_ctx *ctx, uint64_t ino, struct slice name, struct slice value,
                uint32_t flags);
int fs_removexattr(struct fs *fs, const struct fs_ctx *ctx, uint64_t ino, struct slice name);

/* ---- mount sessions and files that are open without a name ---- */
void fs_session_add(struct fs *fs, uint64_t session);
void fs_session_del(struct fs *fs, uint64_t session);       /* all it was owed is released */
/* The session does not (any longer) have ino open. Harmless where nothing was owed. Frees the file at the last one. */
void fs_release(struct fs *fs, const struct fs_ctx *ctx, uint64_t ino);
/* Nameless files about which this session still owes an answer, ascending, behind `after`, at most max: how many. */
uint32_t fs_owed(const struct fs *fs, uint64_t session, uint64_t after, uint64_t *inos, uint32_t max);

/* ---- key/value view ----
 * A key is a path without leading slash: ENOENT, EISDIR, ENOTDIR, ENAMETOOLONG, EINVAL ("", "a//b", "a/", ".").
 * Symbolic links are not followed: ENOTDIR on the way, ELOOP at the end; EINVAL for devices and the like. */
/* What is at the key, of any type. */
int fs_walk(const struct fs *fs, struct slice key, struct fs_attr *out);
/* Whole-file replacement, of the contents of the same inode; a new file has mode 0644. Parent directories are made, and
 * marked as made so. */
int fs_put(struct fs *fs, const struct fs_ctx *ctx, struct slice key, struct slice data, struct fs_loc loc,
           struct fs_attr *out);
int fs_append(struct fs *fs, const struct fs_ctx *ctx, struct slice key, struct slice data, struct fs_loc loc,
              struct fs_attr *out);
/* Unlinks the file and prunes empty parents that only a put had made and nobody has renamed or changed since. */
int fs_delete(struct fs *fs, const struct fs_ctx *ctx, struct slice key);
/* All regular files with keys >= from and starting with prefix, in byte order of the key, until emit returns false.
 * Returns 0 or an error. */
int fs_list(const struct fs *fs, struct slice prefix, struct slice from,
            bool (*emit)(void *ctx, struct slice key, const struct fs_attr *attr), void *ctx);

/* The key of the entry `name` of a directory, put behind what *out holds. -ENAMETOOLONG: longer than a key can be;
 * ENOENT: no such directory; EUCLEAN. */
int fs_path(const struct fs *fs, uint64_t dir, struct slice name, struct buf *out);
/* All keys of a regular file (several where it has hard links), until emit returns false; those that are longer than
 * a key can be are left out. 0 or an error. */
int fs_keys(const struct fs *fs, uint64_t ino, bool (*emit)(void *ctx, struct slice key), void *ctx);

/* ---- payload of the log that files refer to: ascending, joined, each byte once ---- */
void fs_live_ranges(const struct fs *fs, uint64_t index, void (*emit)(void *ctx, uint32_t off, uint32_t len),
                    void *ctx);
void fs_all_ranges(const struct fs *fs, void (*emit)(void *ctx, uint64_t index, uint32_t off, uint32_t len), void *ctx);
/* Whose it is: all extents of all files that are in the log, `off` in the file. */
void fs_all_extents(const struct fs *fs,
                    void (*emit)(void *ctx, uint64_t ino, uint64_t off, struct fs_loc loc, uint32_t len), void *ctx);

/* Walks everything and checks what must hold between the rows (link counts, parents, extents against payload
 * references, counters). 0, or -EUCLEAN with a text of the first contradiction. For tests and `quorumfs check`. */
int fs_check(const struct fs *fs, struct buf *why);

#endif
