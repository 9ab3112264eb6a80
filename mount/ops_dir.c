/* ops_dir.c - directory streams: opendir, readdir, readdirplus, releasedir.
 *
 * READDIR is answered from the stream's window (dir.h), which pages of KV_READDIR fill as it is needed, one at a time; what else
 * comes on the same stream waits for it. READDIRPLUS carries attributes, which the kernel believes, so each one asks the
 * leader anew, behind the last name consumed. Offset 0 (also rewinddir) starts over with a fresh window. The inode of
 * ".." is asked for once a stream, at the same time as the first page. */
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
    d->up = (struct kv_call){.op = {.code = KV_LOOKUP, .ino = d->ino, .name = slice_str("..")}, .done = on_up, .arg = d};
    kv_call(d->m->client, &d->up);
    return true;
}

/* ---- pages ---- */

static uint64_t next_of(const struct request *r) { return r->off > 2 ? r->off - 2 : 0; }

static struct slice last_name(const struct dir_window *w, uint64_t before)
{
    const char *name;
    return before && dir__window_at(w, before - 1, &name) ? slice_str(name) : (struct slice){0};
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
    r->call.op = (struct kv_op){.code = KV_READDIR, .ino = d->ino, .len = PAGE_BYTES,
                                .name = last_name(&d->window, dir__window_end(&d->window))};
    r->finish = finish_page;
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

static bool add_plus(struct request *r, struct buf *out, const char *name, const struct fuse_entry_param *e, uint64_t next)
{
    size_t room = r->size - out->n;
    size_t n = fuse_add_direntry_plus(r->req, (char *)out->p + out->n, room, name, e, (off_t)next);
    if (n > room) return false;
    out->n += n;
    return true;
}

/* "." and "..", as far as the request begins before them. An entry without ino makes the kernel look at no attributes. */
static bool add_dots(struct request *r, struct buf *out, bool plus)
{
    for (uint64_t at = r->off; at < 2; at++) {
        const char *name = at ? ".." : ".";
        struct fuse_entry_param e = {.attr = {.st_ino = at ? r->dir->parent : r->dir->ino, .st_mode = S_IFDIR}};
        if (plus ? !add_plus(r, out, name, &e, at + 1) : !add(r, out, name, &e.attr, at + 1)) return false;
    }
    return true;
}

static struct buf *begin_reply(struct request *r)
{
    struct buf *out = &r->m->scratch;
    buf_clear(out);
    buf_reserve(out, r->size);
    return out;
}

static void send_reply(struct request *r, const struct buf *out)
{
    struct dir *d = r->dir;
    mount__reply_data(r, buf_slice(out));
    dir_unref(d);
}

static void reply_from_window(struct request *r)
{
    struct dir *d = r->dir;
    struct buf *out = begin_reply(r);
    bool room = add_dots(r, out, false);
    for (uint64_t i = next_of(r); room; i++) {
        const char *name;
        const struct dir_entry *e = dir__window_at(&d->window, i, &name);
        if (!e) break;
        struct stat st = {.st_ino = e->ino, .st_mode = e->mode};
        room = add(r, out, name, &st, i + 3);
    }
    send_reply(r, out);
}

static void reply_plus(struct request *r, const struct kv_reply *reply)
{
    struct dir *d = r->dir;
    struct buf *out = begin_reply(r);
    struct reader in = reader_of(reply->data);
    struct slice name;
    struct fs_attr attr;
    bool room = add_dots(r, out, true);
    uint64_t i = next_of(r);
    dir__window_cut(&d->window, i);
    while (room && kv_dirent_next(&in, &name, &attr)) {
        if (!sane(name)) return reply_err(r, QE_FRAME);
        char text[FS_NAME_MAX + 1];
        memcpy(text, name.p, name.n);
        text[name.n] = '\0';
        struct fuse_entry_param e = mount__entry_of(&attr);
        room = add_plus(r, out, text, &e, i + 3);
        if (!room) break;
        mount__node_tell(r->m, &attr, TELL_ENTRY);
        dir__window_add(&d->window, name, attr.ino, attr.mode);
        i++;
    }
    if (in.bad) return reply_err(r, QE_FRAME);
    d->window.ended = room && reply->off == 1;
    send_reply(r, out);
}

static void finish_plus(struct request *r, const struct kv_reply *reply)
{
    struct dir *d = r->dir;
    if (r->phase == REQUEST_PARKED) return reply_err(r, reply->status);
    d->busy = false;
    d->refs++;
    if (reply->status < 0) {
        reply_err(r, reply->status);
    } else {
        reply_plus(r, reply);
    }
    wake(d);
    dir_unref(d);
}

static void ask_plus(struct request *r)
{
    struct dir *d = r->dir;
    d->busy = true;
    r->call.op = (struct kv_op){.code = KV_READDIR, .ino = d->ino, .len = r->size, .name = last_name(&d->window, next_of(r))};
    r->finish = finish_plus;
    mount__send(r);
}

/* ---- what to do next ----
 * r->serial: 1 for READDIRPLUS. r->flag: the window has to be emptied first. */

static void step(struct request *r)
{
    struct dir *d = r->dir;
    struct dir_window *w = &d->window;
    uint64_t next = next_of(r);
    bool plus = r->serial;
    if (d->busy) return mount__park(r, &d->waiters);
    if (r->flag || next < w->first || (plus && next == w->first && next)) dir__window_reset(w);
    r->flag = false;
    bool up = needs_up(r);
    bool reached = next <= dir__window_end(w) || w->ended;
    if (plus && reached) {
        if (up) return mount__park(r, &d->waiters);
        if (next > dir__window_end(w) || (w->ended && next == dir__window_end(w) && r->off >= 2)) return send_reply(r, begin_reply(r));
        return ask_plus(r);
    }
    if (!plus && reached && (next < dir__window_end(w) || w->ended)) {
        if (up) return mount__park(r, &d->waiters);
        return reply_from_window(r);
    }
    ask_page(r);
}

static void read_dir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
    struct request *r = mount__begin(req, KV_READDIR, ino, finish_page);
    if (!r) return;
    r->dir = (struct dir *)(uintptr_t)fi->fh;
    r->dir->refs++;
    r->size = min_u64(size, MOUNT_IO_MAX);
    r->off = (uint64_t)off;
    r->serial = plus;
    r->flag = off == 0;
    step(r);
}

void mount__op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    read_dir(req, ino, size, off, fi, false);
}

void mount__op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    read_dir(req, ino, size, off, fi, true);
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
