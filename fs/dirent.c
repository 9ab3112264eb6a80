/* dirent.c - directory entries: names, rows, the counts that a directory keeps of them, and the way up to the root.
 *
 * Each entry has a second row under its inode's number, by which all names of an inode are found (fs/paths.c).
 * An entry names its child's type, too, so that listings of keys need no inode for directories; the two are compared
 * wherever both are read. */
#include "fs/dirent.h"

#include "fs/varint.h"

int fs__name_check(struct slice name)
{
    if (name.n == 0) return -EINVAL;
    if (name.n > FS_NAME_MAX) return -ENAMETOOLONG;
    return memchr(name.p, '/', name.n) || memchr(name.p, 0, name.n) ? -EINVAL : 0;
}

int fs__dirent_decode(struct slice row, struct dirent *out)
{
    struct reader r = reader_of(row);
    out->type = (uint32_t)get_u8(&r) << 12;
    out->ino = varint_get(&r);
    return reader_done(&r) && out->ino != 0 ? 0 : -EUCLEAN;
}

int fs__dirent_get(const struct omap *map, uint64_t dir, struct slice name, struct dirent *out)
{
    struct key k;
    struct slice row;
    if (!omap_get(map, fs__key_name(&k, ROW_ENTRY, dir, name), &row)) return -ENOENT;
    return fs__dirent_decode(row, out);
}

void fs__dirent_put(struct omap *map, uint64_t dir, struct slice name, const struct inode *child)
{
    check(name.n > 0 && child->a.ino != 0);
    uint8_t row[1 + VARINT_MAX];
    row[0] = (uint8_t)((child->a.mode & S_IFMT) >> 12);
    uint8_t *p = varint_put(row + 1, child->a.ino);
    struct key k;
    struct dirent old;
    if (fs__dirent_get(map, dir, name, &old) == 0) omap_del(map, fs__key_link(&k, old.ino, dir, name));
    omap_put(map, fs__key_name(&k, ROW_ENTRY, dir, name), slice_of(row, (size_t)(p - row)));
    omap_put(map, fs__key_link(&k, child->a.ino, dir, name), (struct slice){0});
}

void fs__dirent_del(struct omap *map, uint64_t dir, struct slice name)
{
    struct key k;
    struct dirent e;
    if (fs__dirent_get(map, dir, name, &e) == 0) omap_del(map, fs__key_link(&k, e.ino, dir, name));
    check(omap_del(map, fs__key_name(&k, ROW_ENTRY, dir, name)));
}

int fs__dirent_inode(const struct omap *map, uint64_t dir, const struct dirent *e, struct inode *out)
{
    int err = fs__inode_get(map, e->ino, out);
    if (err) return -EUCLEAN;
    if ((out->a.mode & S_IFMT) != e->type || out->a.nlink == 0) return -EUCLEAN;
    return fs__is_dir(out) && (out->parent != dir || out->a.ino == FS_ROOT_INO) ? -EUCLEAN : 0;
}

int fs__child_get(const struct omap *map, uint64_t dir, struct slice name, struct inode *out)
{
    struct dirent e;
    int err = fs__dirent_get(map, dir, name, &e);
    return err ? err : fs__dirent_inode(map, dir, &e, out);
}

int fs__dir_may_gain(const struct inode *dir, const struct inode *child)
{
    if (dir->a.size >= FS_SIZE_MAX) return -EUCLEAN;
    return fs__is_dir(child) && dir->a.nlink == UINT32_MAX ? -EMLINK : 0;
}

int fs__dir_may_lose(const struct inode *dir, const struct inode *child)
{
    if (dir->a.size == 0) return -EUCLEAN;
    return fs__is_dir(child) && dir->a.nlink <= 2 ? -EUCLEAN : 0;
}

void fs__dir_gain(struct inode *dir, const struct inode *child)
{
    dir->a.size++;
    if (fs__is_dir(child)) dir->a.nlink++;
}

void fs__dir_lose(struct inode *dir, const struct inode *child)
{
    check(fs__dir_may_lose(dir, child) == 0);
    dir->a.size--;
    if (fs__is_dir(child)) dir->a.nlink--;
}

int fs__is_above(const struct omap *map, uint64_t ino, const struct inode *dir)
{
    struct counters c;
    int err = fs__counters_get(map, &c);
    if (err) return err;
    struct inode at = *dir;
    for (uint64_t steps = 0; steps <= c.dirs; steps++) {
        if (at.a.ino == ino) return 1;
        if (at.a.ino == FS_ROOT_INO) return 0;
        if (fs__dir_get(map, at.parent, &at) != 0) return -EUCLEAN;
    }
    return -EUCLEAN;                   /* a loop */
}
