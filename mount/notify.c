/* notify.c - the notifier thread: drops the kernel's pages of a file, then sends the GETATTR reply that waits for it.
 *
 * The kernel takes each page's lock for that, which a READ under way holds, so a notification can block as long as the
 * cluster is out of reach; the loop must not. The thread holds no lock during it, and no other reply waits for it. The
 * one request it has in hand has two possible repliers, the thread and an interrupt on the loop: `claimed` decides.
 * Requests come back on the done list, which the loop empties before it looks at a node. */
#include "mount/state.h"

#include <signal.h>

static void handle(struct request *r)
{
    r->noticed = fuse_lowlevel_notify_inval_inode(r->m->se, r->attr.ino, 0, 0);
    if (!atomic_exchange(&r->claimed, true)) mount__answer_attr(r->req, &r->attr);
}

static void *run(void *arg)
{
    struct mount *m = arg;
    struct notifier *t = &m->notifier;
    pthread_mutex_lock(&t->lock);
    while (!t->stop) {
        struct list *l = list_pop_front(&t->todo);
        if (!l) {
            pthread_cond_wait(&t->wake, &t->lock);
            continue;
        }
        pthread_mutex_unlock(&t->lock);
        handle(container_of(l, struct request, parked));
        pthread_mutex_lock(&t->lock);
        list_push_back(&t->done, l);
        atomic_store(&t->any_done, true);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* Signals are for the loop's thread. */
static int start(struct mount *m)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int err = pthread_create(&m->notifier.thread, NULL, run, m);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    m->notifier.started = err == 0;
    return -err;
}

void mount__notify(struct request *r, const struct fs_attr *attr)
{
    struct notifier *t = &r->m->notifier;
    int err = t->started ? 0 : start(r->m);
    if (err) return mount__reply_err(r, err);
    r->phase = REQUEST_NOTICE;
    r->attr = *attr;
    atomic_store(&r->claimed, false);
    pthread_mutex_lock(&t->lock);
    list_push_back(&t->todo, &r->parked);
    pthread_cond_signal(&t->wake);
    pthread_mutex_unlock(&t->lock);
}

void mount__notify_abandon(struct request *r)
{
    if (!atomic_exchange(&r->claimed, true)) mount__answer_err(r->req, -EINTR);
}

void mount__notify_collect(struct mount *m)
{
    struct notifier *t = &m->notifier;
    if (!atomic_load(&t->any_done)) return;
    pthread_mutex_lock(&t->lock);
    atomic_store(&t->any_done, false);
    for (struct list *l; (l = list_pop_front(&t->done));) {
        struct request *r = container_of(l, struct request, parked);
        /* ENOENT: the kernel does not know the inode any more, so it has no pages of it. */
        if (r->noticed == 0 || r->noticed == -ENOENT) mount__node_dropped(m, r->attr.ino, r->attr.version);
        mount__end(r);
    }
    pthread_mutex_unlock(&t->lock);
}

void mount__notify_init(struct mount *m)
{
    struct notifier *t = &m->notifier;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->wake, NULL);
    list_init(&t->todo);
    list_init(&t->done);
}

/* After the connection has ended, so that nothing blocks it. What it had not begun gets no reply: nobody waits. */
void mount__notify_free(struct mount *m)
{
    struct notifier *t = &m->notifier;
    if (t->started) {
        pthread_mutex_lock(&t->lock);
        t->stop = true;
        pthread_cond_signal(&t->wake);
        pthread_mutex_unlock(&t->lock);
        pthread_join(t->thread, NULL);
    }
    mount__notify_collect(m);
    for (struct list *l; (l = list_pop_front(&t->todo));) {
        struct request *r = container_of(l, struct request, parked);
        mount__notify_abandon(r);
        mount__end(r);
    }
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->wake);
}
