/* ops_dir.c - directory streams: opendir, readdir, releasedir.
 *
 * READDIR is answered from the stream's window (dir.h), which pages of KV_READDIR fill as it is needed, one at a time;
 * what else comes on the same stream waits for it. Offset 0 (also rewinddir) starts over with a fresh window. The inode
 * of ".." is asked for once a stream, at the same time as the first page.
 *
 * There is no READDIRPLUS: with timeouts of 0 the kernel asks again for all that it brings. Measured with 1,000
 * entries, listing got slower by half and `ls -l` no faster. */
#include "mount/state.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "mount/dir.h"

#define PAGE_BYTES (64u * 1024)

struct dir {
    struct list link;             /* mount.dirs */
    struct mount *m;
    uint64_t ino, parent;         /* parent 0: not known yet */
    struct kv_call up;            /* asks for the parent */
    bool asking_up, busy;         /* busy: a page is under way */
    unsigned refs;                /* the handle, and the requests */
    struct list waiters;          /* requests */
    struct dir_window window;
};

static void step(struct request *r);

static void dir_unref(struct dir *d)
{
    if (--d->refs) return;
    check(list_empty(&d->waiters) && !d->busy);
    list_remove(&d->link);
    if (d->asking_up) kv_cancel(d->m->client, &d->up);
    dir__window_free(&d->window);
    free(d);
}

static void wake(struct dir *d)
{
    struct list todo;
    list_init(&todo);
    d->refs++;
    for (struct list *l; (l = list_pop_front(&d->waiters));) list_push_back(&todo, l);
    for (struct list *l; (l = list_pop_front(&todo));) step(container_of(l, struct request, parked));
    dir_unref(d);
}

static void reply_err(struct request *r, int status)
{
    struct dir *d = r->dir;
    mount__reply_err(r, status);
    dir_unref(d);
}

/* ---- the parent ---- */

static void on_up(struct kv_call *call, const struct kv_reply *reply)
{
    struct dir *d = call->arg;
    d->asking_up = false;
    if (d->refs == 0) return;
    d->parent = reply->status < 0 ? d->ino : reply->attr.ino;      /* a removed directory: the listing will say so */
    wake(d);
}

/* True if the request has to wait for it. */
static bool needs_up(struct request *r)
{
    struct dir *d = r->dir;
    if (r->off >= 2 || d->parent) return false;
    if (d->asking_up) return true;
    d->asking_up = true;
    const struct kv_op op = {.code = KV_LOOKUP, .ino = d->ino, .name = slice_str("..")};
    d->up = (struct kv_call){.op = op, .done = on_up, .arg = d};
    kv_call(d->m->client, &d->up);
    return true;
}

/* ---- pages ---- */

static uint64_t next_of(const struct request *r) { return r->off > 2 ? r->off - 2 : 0; }

static struct slice last_name(const struct dir_window *w)
{
    const char *name;
    uint64_t end = dir__window_end(w);
    return end && dir__window_at(w, end - 1, &name) ? slice_str(name) : (struct slice){0};
}

static bool sane(struct slice name) { return name.n > 0 && name.n <= FS_NAME_MAX && !memchr(name.p, '\0', name.n); }

/* Not a request's own business: whatever becomes of the request that asked, the window gets the page. */
static int take_page(struct dir *d, const struct kv_reply *reply)
{
    struct dir_window *w = &d->window;
    struct reader in = reader_of(reply->data);
    struct slice name;
    struct fs_attr attr;
    uint64_t before = dir__window_end(w);
    while (kv_dirent_next(&in, &name, &attr)) {
        if (!sane(name)) return QE_FRAME;
        dir__window_add(w, name, attr.ino, attr.mode);
    }
    if (in.bad) return QE_FRAME;
    w->ended = reply->off == 1;
    return w->ended || dir__window_end(w) > before ? 0 : QE_FRAME;
}

static void finish_page(struct request *r, const struct kv_reply *reply)
{
    struct dir *d = r->dir;
    if (r->phase == REQUEST_PARKED) return reply_err(r, reply->status);      /* interrupted */
    d->busy = false;
    int err = reply->status < 0 ? reply->status : take_page(d, reply);
    d->refs++;
    if (err) {
        reply_err(r, err);
    } else {
        step(r);
    }
    wake(d);
    dir_unref(d);
}

static void ask_page(struct request *r)
{
    struct dir *d = r->dir;
    d->busy = true;
    r->call.op = (struct kv_op){.code = KV_READDIR, .ino = d->ino, .len = PAGE_BYTES, .name = last_name(&d->window)};
    mount__send(r);
}

/* ---- replies ---- */

static bool add(struct request *r, struct buf *out, const char *name, const struct stat *st, uint64_t next)
{
    size_t room = r->size - out->n;
    size_t n = fuse_add_direntry(r->req, (char *)out->p + out->n, room, name, st, (off_t)next);
    if (n > room) return false;
    out->n += n;
    return true;
}

/* "." and "..", as far as the request begins before them. */
static bool add_dots(struct request *r, struct buf *out)
{
    for (uint64_t at = r->off; at < 2; at++) {
        struct stat st = {.st_ino = at ? r->dir->parent : r->dir->ino, .st_mode = S_IFDIR};
        if (!add(r, out, at ? ".." : ".", &st, at + 1)) return false;
    }
    return true;
}

static void reply_from_window(struct request *r)
{
    struct dir *d = r->dir;
    struct buf *out = &r->m->scratch;
    buf_clear(out);
    buf_reserve(out, r->size);
    bool room = add_dots(r, out);
    for (uint64_t i = next_of(r); room; i++) {
        const char *name;
        const struct dir_entry *e = dir__window_at(&d->window, i, &name);
        if (!e) break;
        struct stat st = {.st_ino = e->ino, .st_mode = e->mode};
        room = add(r, out, name, &st, i + 3);
    }
    mount__reply_data(r, buf_slice(out));
    dir_unref(d);
}

/* ---- what to do next. r->flag: the window has to be emptied first ---- */

static void step(struct request *r)
{
    struct dir *d = r->dir;
    struct dir_window *w = &d->window;
    uint64_t next = next_of(r);
    if (d->busy) return mount__park(r, &d->waiters);
    if (r->flag || next < w->first) dir__window_reset(w);
    r->flag = false;
    bool up = needs_up(r);
    if (next >= dir__window_end(w) && !w->ended) return ask_page(r);
    if (up) return mount__park(r, &d->waiters);
    reply_from_window(r);
}

void mount__op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    struct request *r = mount__begin(req, KV_READDIR, ino, finish_page);
    if (!r) return;
    r->dir = (struct dir *)(uintptr_t)fi->fh;
    r->dir->refs++;
    r->size = min_u64(size, MOUNT_IO_MAX);
    r->off = (uint64_t)off;
    r->flag = off == 0;
    step(r);
}

/* The LOOKUP before it has confirmed the directory; there is nothing to ask. */
void mount__op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct mount *m = fuse_req_userdata(req);
    struct dir *d = xcalloc(1, sizeof(*d));
    d->m = m;
    d->ino = ino;
    d->refs = 1;
    list_init(&d->waiters);
    list_push_back(&m->dirs, &d->link);
    struct fuse_file_info out = *fi;
    out.fh = (uint64_t)(uintptr_t)d;
    if (!mount__answer_open(req, &out)) dir_unref(d);
}

void mount__op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    dir_unref((struct dir *)(uintptr_t)fi->fh);
    mount__answer_err(req, 0);
}

/* After all requests have been answered. */
void mount__dirs_free(struct mount *m)
{
    while (!list_empty(&m->dirs)) {
        struct dir *d = container_of(m->dirs.next, struct dir, link);
        check(d->refs == 1);
        dir_unref(d);
    }
}
