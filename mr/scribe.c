/* scribe.c - see scribe.h. The batch belongs to the pool thread while it is under way, all else to the loop. */
#include "mr/scribe.h"

#include <stdlib.h>

#include "mr/util.h"

struct file {
    struct list link;
    char *dir, *name;
    struct buf content;
};

struct batch {
    struct buf journal;
    struct list files;
    bool beat;
    int rc;
};

struct scribe {
    struct io_loop *loop;
    struct jobdir *dir;
    void (*lost)(void *arg, int err);
    void *arg;
    bool busy, dead;
    struct batch next, now;
    void (*then)(void *arg);
    void *then_arg;
};

static void batch_init(struct batch *b)
{
    *b = (struct batch){0};
    list_init(&b->files);
}

struct scribe *mr__scribe_new(struct io_loop *l, struct jobdir *d, void (*lost)(void *arg, int err), void *arg)
{
    struct scribe *s = xcalloc(1, sizeof *s);
    *s = (struct scribe){.loop = l, .dir = d, .lost = lost, .arg = arg};
    batch_init(&s->next);
    batch_init(&s->now);
    return s;
}

static void file_free(struct file *f)
{
    list_remove(&f->link);
    free(f->dir);
    free(f->name);
    buf_free(&f->content);
    free(f);
}

static void write_batch(struct jobdir *d, struct batch *b)
{
    if (b->journal.n) b->rc = mr__jobdir_append(d, buf_slice(&b->journal));
    if (b->rc == 0 && b->beat) b->rc = mr__jobdir_beat(d);
    list_for_each_safe(it, next, &b->files)
    {
        struct file *f = container_of(it, struct file, link);
        mr__write_file(f->dir, f->name, buf_slice(&f->content), false);
        file_free(f);
    }
    buf_free(&b->journal);
    b->beat = false;
}

static void on_pool(void *arg)
{
    struct scribe *s = arg;
    write_batch(s->dir, &s->now);
}

static bool anything(const struct batch *b) { return b->journal.n || b->beat || !list_empty(&b->files); }

static void start(struct scribe *s);

static void on_written(void *arg)
{
    struct scribe *s = arg;
    s->busy = false;
    if (s->now.rc < 0) {
        s->dead = true;
        s->lost(s->arg, s->now.rc);
        return;
    }
    if (anything(&s->next)) {
        start(s);
    } else if (s->then) {
        void (*then)(void *) = s->then;
        s->then = NULL;
        then(s->then_arg);
    }
}

static void start(struct scribe *s)
{
    if (s->busy || s->dead) return;
    s->busy = true;
    s->now = s->next;
    /* The ring of files moves with its head. */
    list_init(&s->now.files);
    while (!list_empty(&s->next.files)) list_push_back(&s->now.files, list_pop_front(&s->next.files));
    batch_init(&s->next);
    io_work(s->loop, on_pool, on_written, s);
}

void mr__scribe_journal(struct scribe *s, struct slice records)
{
    put_bytes(&s->next.journal, records);
    start(s);
}

void mr__scribe_beat(struct scribe *s)
{
    s->next.beat = true;
    start(s);
}

void mr__scribe_file(struct scribe *s, const char *dir, const char *name, struct slice content)
{
    list_for_each_safe(it, next, &s->next.files)
    {
        struct file *f = container_of(it, struct file, link);
        if (strcmp(f->name, name) == 0 && strcmp(f->dir, dir) == 0) file_free(f);
    }
    struct file *f = xcalloc(1, sizeof *f);
    list_init(&f->link);
    f->dir = mr__strf("%s", dir);
    f->name = mr__strf("%s", name);
    put_bytes(&f->content, content);
    list_push_back(&s->next.files, &f->link);
    start(s);
}

void mr__scribe_then(struct scribe *s, void (*fn)(void *arg), void *arg)
{
    check(!s->then);
    s->then = fn;
    s->then_arg = arg;
    s->next.beat = true; /* something to be done after all the rest */
    start(s);
}

void mr__scribe_end(struct scribe *s)
{
    if (!s) return;
    if (s->now.rc < 0) s->dead = true;
    if (s->dead) buf_clear(&s->next.journal);
    s->next.beat = false;
    write_batch(s->dir, &s->next);
    free(s);
}
