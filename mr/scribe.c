/* scribe.c - see scribe.h. What is under way belongs to its pool thread, all else to the loop. */
#include "mr/scribe.h"

#include <stdlib.h>

#include "mr/util.h"

#define FILES_MAX 2u               /* under way at once: pool threads are few, and publishing needs one */
#define PAUSE_NS  (20 * NS_PER_MS) /* between two batches of the journal */

struct file {
    struct list link;
    struct scribe *scribe;
    char *dir, *name;
    struct buf content;
};

struct batch {
    struct buf journal;
    bool beat;
    int rc;
};

struct scribe {
    struct io_loop *loop;
    struct jobdir *dir;
    void (*lost)(void *arg, int err);
    void *arg;
    bool busy, dead, stopped;
    struct batch next, now;
    struct timer pause;
    uint64_t not_before;            /* the journal's next batch */
    struct list waiting, under_way; /* files */
    uint32_t under_way_n;
    void (*then)(void *arg);
    void *then_arg;
};

static void start(struct scribe *s);

static void on_pause_over(struct timer *t) { start(t->arg); }

struct scribe *mr__scribe_new(struct io_loop *l, struct jobdir *d, void (*lost)(void *arg, int err), void *arg)
{
    struct scribe *s = xcalloc(1, sizeof *s);
    *s = (struct scribe){.loop = l, .dir = d, .lost = lost, .arg = arg};
    s->pause = (struct timer){.fire = on_pause_over, .arg = s};
    list_init(&s->waiting);
    list_init(&s->under_way);
    return s;
}

/* ---- the journal and the beat ---- */

static void write_batch(struct jobdir *d, struct batch *b)
{
    if (b->journal.n) b->rc = mr__jobdir_append(d, buf_slice(&b->journal));
    if (b->rc == 0 && b->beat) b->rc = mr__jobdir_beat(d);
    buf_free(&b->journal);
    b->beat = false;
}

static void on_pool(void *arg)
{
    struct scribe *s = arg;
    write_batch(s->dir, &s->now);
}

static bool anything(const struct batch *b) { return b->journal.n || b->beat; }

static void on_written(void *arg)
{
    struct scribe *s = arg;
    s->busy = false;
    s->not_before = clock_now(io_clock(s->loop)) + PAUSE_NS;
    if (s->now.rc < 0) {
        s->dead = true;
        s->lost(s->arg, s->now.rc);
    } else if (anything(&s->next)) {
        start(s);
    } else if (s->then && !s->stopped) {
        void (*then)(void *) = s->then;
        s->then = NULL;
        then(s->then_arg);
    }
}

/* Many short tasks shall not mean as many durable writes: what comes within the pause goes together. Nobody waits for
 * it but `then`. */
static void start(struct scribe *s)
{
    if (s->busy || s->dead || s->stopped || !anything(&s->next)) return;
    if (!s->then && clock_now(io_clock(s->loop)) < s->not_before) {
        clock_arm(io_clock(s->loop), &s->pause, s->not_before);
        return;
    }
    s->busy = true;
    s->now = s->next;
    s->next = (struct batch){0};
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

void mr__scribe_then(struct scribe *s, void (*fn)(void *arg), void *arg)
{
    check(!s->then);
    s->then = fn;
    s->then_arg = arg;
    s->next.beat = true; /* something to be done after all the rest */
    start(s);
}

/* ---- files ---- */

static void write_file(void *arg)
{
    struct file *f = arg;
    mr__write_file(f->dir, f->name, buf_slice(&f->content));
}

static void file_free(struct file *f)
{
    list_remove(&f->link);
    free(f->dir);
    free(f->name);
    buf_free(&f->content);
    free(f);
}

static struct file *find_file(struct list *in, const char *dir, const char *name)
{
    list_for_each(it, in)
    {
        struct file *f = container_of(it, struct file, link);
        if (strcmp(f->name, name) == 0 && strcmp(f->dir, dir) == 0) return f;
    }
    return NULL;
}

static void start_files(struct scribe *s);

static void on_file(void *arg)
{
    struct file *f = arg;
    struct scribe *s = f->scribe;
    file_free(f);
    s->under_way_n--;
    start_files(s);
}

/* Never two of one name at once: the last word has to be the last. */
static void start_files(struct scribe *s)
{
    list_for_each_safe(it, next, &s->waiting)
    {
        struct file *f = container_of(it, struct file, link);
        if (s->under_way_n == FILES_MAX) return;
        if (find_file(&s->under_way, f->dir, f->name)) continue;
        list_remove(&f->link);
        list_push_back(&s->under_way, &f->link);
        s->under_way_n++;
        io_work(s->loop, write_file, on_file, f);
    }
}

void mr__scribe_file(struct scribe *s, const char *dir, const char *name, struct slice content)
{
    struct file *old = find_file(&s->waiting, dir, name);
    if (old) { /* it keeps its place: the last ones would never have their turn on a slow filesystem */
        buf_clear(&old->content);
        put_bytes(&old->content, content);
        return;
    }
    struct file *f = xcalloc(1, sizeof *f);
    list_init(&f->link);
    f->scribe = s;
    f->dir = mr__strf("%s", dir);
    f->name = mr__strf("%s", name);
    put_bytes(&f->content, content);
    list_push_back(&s->waiting, &f->link);
    start_files(s);
}

/* ---- the end ---- */

void mr__scribe_stop(struct scribe *s)
{
    s->stopped = true;
    clock_disarm(io_clock(s->loop), &s->pause);
}

void mr__scribe_end(struct scribe *s)
{
    check(s->stopped && list_empty(&s->waiting) && list_empty(&s->under_way));
    if (s->dead) buf_clear(&s->next.journal);
    s->next.beat = false;
    write_batch(s->dir, &s->next);
    free(s);
}
