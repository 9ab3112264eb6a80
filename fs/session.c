/* session.c - mount sessions, and regular files that live on without a name.
 *
 * The last name of a file goes: every registered mount session may have the file open (the asking one says whether it
 * has), so each is owed for: rows o (by file) and q (by session). A session answers with fs_release when it does not,
 * or not any longer, have the file open; when the last answer is in, the file goes. A session that ends answers for
 * all. If there is nobody to ask, the file goes at once. Files of other types hold nothing that an open descriptor
 * could read, and go at once, too. */
#include "fs/session.h"

int fs__funeral_init(struct funeral *f, const struct omap *map, const struct inode *n, const struct counters *c)
{
    *f = (struct funeral){0};
    if (fs__is_dir(n) ? c->dirs < 2 : c->files == 0) return -EUCLEAN;
    int err = fs__plan_init(&f->plan, map, n->a.ino, 0, fs__is_regular(n) ? FS_SIZE_MAX : 0);
    if (err) return err;
    return fs__plan_check(&f->plan, n, c);
}

static void drop_xattrs(struct omap *map, uint64_t ino)
{
    struct omap_iter it;
    while (fs__seek_rows(&it, map, ROW_XATTR, ino)) omap_del(map, omap_iter_key(&it));
}

void fs__funeral_apply(struct funeral *f, struct fs *fs, struct inode *n, struct counters *c)
{
    fs__plan_apply(&f->plan, fs, n, c);
    if (n->a.has_xattr) drop_xattrs(fs->map, n->a.ino);
    struct key k;
    if (S_ISLNK(n->a.mode)) omap_del(fs->map, fs__key_id(&k, ROW_TARGET, n->a.ino));
    omap_del(fs->map, fs__key_id(&k, ROW_INODE, n->a.ino));
    if (fs__is_dir(n)) {
        c->dirs--;
    } else {
        c->files--;
    }
}

void fs__funeral_free(struct funeral *f) { fs__plan_free(&f->plan); }

static bool next_mount(struct omap_iter *it, const struct omap *map, bool first, uint64_t *session)
{
    const uint8_t kind = ROW_MOUNT;
    bool ok = first ? omap_seek(it, map, slice_of(&kind, 1)) : omap_next(it);
    for (; ok; ok = omap_next(it)) {
        struct slice key = omap_iter_key(it);
        if (key.p[0] != ROW_MOUNT) return false;
        if (!fs__key_is_id(key)) continue;
        *session = fs__key_get_id(key);
        return true;
    }
    return false;
}

/* Those who may have the file open; of the asking session we know it. */
static bool must_ask(uint64_t session, const struct fs_ctx *ctx, bool held) { return session != ctx->session || held; }

static bool anyone_to_ask(const struct omap *map, const struct fs_ctx *ctx, bool held)
{
    struct omap_iter it;
    uint64_t s;
    for (bool ok = next_mount(&it, map, true, &s); ok; ok = next_mount(&it, map, false, &s))
        if (must_ask(s, ctx, held)) return true;
    return false;
}

static void owe_all(struct omap *map, const struct fs_ctx *ctx, bool held, uint64_t ino)
{
    struct omap_iter it;
    struct key k;
    uint64_t s;
    bool ok = next_mount(&it, map, true, &s);
    while (ok) {
        if (must_ask(s, ctx, held)) {
            omap_put(map, fs__key_pair(&k, ROW_OWED, ino, s), (struct slice){0});
            omap_put(map, fs__key_pair(&k, ROW_OWING, s, ino), (struct slice){0});
        }
        /* The map has changed: find the place again. */
        ok = s < UINT64_MAX && omap_seek(&it, map, fs__key_id(&k, ROW_MOUNT, s)) && next_mount(&it, map, false, &s);
    }
}

int fs__unname_init(struct unname *u, const struct fs *fs, const struct fs_ctx *ctx, bool held, struct inode *inode)
{
    *u = (struct unname){.inode = inode};
    int err = fs__counters_get(fs->map, &u->counters);
    if (err) return err;
    if (!fs__is_dir(inode) && inode->a.nlink > 1) return 0;
    u->nameless = fs__is_regular(inode) && anyone_to_ask(fs->map, ctx, held);
    u->dies = !u->nameless;
    return u->dies ? fs__funeral_init(&u->funeral, fs->map, inode, &u->counters) : 0;
}

void fs__unname_apply(struct unname *u, struct fs *fs, const struct fs_ctx *ctx, bool held)
{
    if (u->dies) {
        fs__funeral_apply(&u->funeral, fs, u->inode, &u->counters);
        fs__counters_put(fs->map, &u->counters);
        return;
    }
    check(u->inode->a.nlink > 0);
    u->inode->a.nlink--;
    fs__touch_attr(u->inode, ctx->now);
    fs__inode_put(fs->map, u->inode);
    if (u->nameless) owe_all(fs->map, ctx, held, u->inode->a.ino);
}

void fs__unname_free(struct unname *u) { fs__funeral_free(&u->funeral); }

/* The last answer about a nameless file is in. Damage leaves it where it is, for fs_check to find. */
static void bury(struct fs *fs, uint64_t ino)
{
    struct inode n;
    struct counters c;
    if (fs__inode_get(fs->map, ino, &n) != 0 || n.a.nlink != 0 || fs__counters_get(fs->map, &c) != 0) return;
    struct funeral f;
    if (fs__funeral_init(&f, fs->map, &n, &c) == 0) {
        fs__funeral_apply(&f, fs, &n, &c);
        fs__counters_put(fs->map, &c);
    }
    fs__funeral_free(&f);
}

static void answer(struct fs *fs, uint64_t session, uint64_t ino)
{
    struct key k;
    struct omap_iter it;
    omap_del(fs->map, fs__key_pair(&k, ROW_OWING, session, ino));
    if (!omap_del(fs->map, fs__key_pair(&k, ROW_OWED, ino, session))) return;
    if (!fs__seek_rows(&it, fs->map, ROW_OWED, ino)) bury(fs, ino);
}

void fs_session_add(struct fs *fs, uint64_t session)
{
    struct key k;
    check(session != 0);
    omap_put(fs->map, fs__key_id(&k, ROW_MOUNT, session), (struct slice){0});
}

void fs_session_del(struct fs *fs, uint64_t session)
{
    struct key k;
    struct omap_iter it;
    while (fs__seek_rows(&it, fs->map, ROW_OWING, session)) {
        uint64_t ino;
        if (fs__key_second(omap_iter_key(&it), &ino)) {
            answer(fs, session, ino);
        } else {
            omap_del(fs->map, omap_iter_key(&it));
        }
    }
    omap_del(fs->map, fs__key_id(&k, ROW_MOUNT, session));
}

void fs_release(struct fs *fs, const struct fs_ctx *ctx, uint64_t ino) { answer(fs, ctx->session, ino); }

uint32_t fs_owed(const struct fs *fs, uint64_t session, uint64_t after, uint64_t *inos, uint32_t max)
{
    struct omap_iter it;
    struct key k;
    uint32_t n = 0;
    bool ok = omap_seek(&it, fs->map, fs__key_pair(&k, ROW_OWING, session, after));
    for (; ok && n < max && fs__key_of(omap_iter_key(&it), ROW_OWING, session); ok = omap_next(&it)) {
        uint64_t ino;
        if (fs__key_second(omap_iter_key(&it), &ino) && ino > after) inos[n++] = ino;
    }
    return n;
}
