/* standin.c - the loop, the clock and the client of standin.h. Everything of the mounts runs on the loop's thread under
 * one lock. */
#include "standin.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include "kv/query.h"

#define PARTIES 8
#define CODES 80
#define WATCHDOG_NS (200 * NS_PER_S)

struct kv_client {
    struct standin *s;
    uint64_t session, next_seq;
    uint64_t last_exec;                   /* when the change before it is executed */
    uint64_t counts[CODES];
    bool hold[CODES], hold_reply[CODES];
    struct list changes;                  /* unanswered, in order */
    struct mount *mount;
};

struct party {
    char point[64];
    struct mount *mount;
    struct kv_client client;
    bool gone;
};

struct pending {
    struct list link, in_order;
    struct timer timer;
    struct kv_client *client;
    struct kv_call *call;                 /* NULL: cancelled */
    enum kv_code code;
    struct buf op, reply;
    uint64_t seq;
    bool executed;
};

struct standin {
    struct clock clock;
    struct heap timers;
    uint64_t now;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    int wake;
    bool stop, stopped;
    struct prng rng;
    uint64_t delay_us;
    struct kv__store *store;
    struct slice *log;
    uint64_t nlog, log_cap;
    struct buf outcome_bytes;
    struct party parties[PARTIES];
    unsigned nparties;
    struct list held;
    unsigned nheld;
    struct timer owed, watchdog;
    bool owed_armed;
};

/* ---- clock ---- */

static struct standin *of_clock(struct clock *c) { return container_of(c, struct standin, clock); }

static uint64_t real_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static int64_t wall_now(struct clock *c)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * (int64_t)NS_PER_S + t.tv_nsec;
}

static uint64_t now_of(struct clock *c) { return of_clock(c)->now; }

static void disarm(struct clock *c, struct timer *t) { heap_remove(&of_clock(c)->timers, &t->node); }

static void arm(struct clock *c, struct timer *t, uint64_t at)
{
    disarm(c, t);
    heap_insert(&of_clock(c)->timers, &t->node, at);
}

static const struct clock_ops clock_ops = {.now = now_of, .wall = wall_now, .arm = arm, .disarm = disarm};

/* ---- the store ---- */

static void on_outcome(void *arg, uint32_t pos, enum kv__outcome what, enum kv_code code, const struct kv_reply *reply)
{
    struct standin *s = arg;
    buf_clear(&s->outcome_bytes);
    check(what == KV__ANSWER);
    put_u32(&s->outcome_bytes, (uint32_t)reply->status);
    kv_reply_encode(code ? code : KV_UNLINK, reply, &s->outcome_bytes);
}

/* The encoded answer is in outcome_bytes behind four bytes. */
static void apply(struct standin *s, uint64_t session, uint64_t seq, uint64_t floor, struct slice op)
{
    struct kv__batch b = {0};
    kv__batch_add(&b, &(struct kv__record){.session = session, .seq = seq, .floor = floor, .op = op});
    kv__batch_stamp(&b, wall_now(NULL), s->now);
    uint8_t *copy = xmalloc(b.blob->n);
    memcpy(copy, b.blob->p, b.blob->n);
    if (s->nlog == s->log_cap) s->log = xrealloc(s->log, (s->log_cap = 2 * s->log_cap + 64) * sizeof *s->log);
    s->log[s->nlog++] = slice_of(copy, b.blob->n);
    check(kv__store_apply(s->store, s->nlog, s->log[s->nlog - 1]) == 0);
    kv__batch_free(&b);
}

static void query(struct standin *s, const struct kv_op *op, struct buf *out)
{
    struct kv__result res = {0};
    struct kv_statfs disk = {.total = 1u << 30, .avail = 1u << 29};
    kv__query(s->store, op, &disk, &res);
    for (uint32_t i = 0; i < res.npieces; i++) {
        const struct kv__piece *p = &res.pieces[i];
        memcpy(res.data.p + p->at, s->log[p->index - 1].p + p->off, p->len);
    }
    kv_reply_encode(op->code, &res.reply, out);
    kv__result_free(&res);
}

static uint64_t open_session(struct standin *s, uint64_t nonce)
{
    struct buf b = {0};
    struct kv_reply r;
    kv_op_encode(
        &(struct kv_op){.code = KV_SESSION_OPEN, .name = slice_str("test"), .flags = 1, .len = 3600000, .off2 = nonce},
        &b, NULL);
    apply(s, 0, 0, 0, buf_slice(&b));
    check(kv_reply_decode(KV_SESSION_OPEN, slice_sub(buf_slice(&s->outcome_bytes), 4, s->outcome_bytes.n - 4), &r) ==
              0 &&
          r.status >= 0);
    buf_free(&b);
    return r.off;
}

/* Nameless files are heard of a little later, as with SESSION_KEEP. */
static void on_owed(struct timer *t)
{
    struct standin *s = t->arg;
    s->owed_armed = false;
    for (unsigned i = 0; i < s->nparties; i++) {
        uint64_t ino;
        struct party *p = &s->parties[i];
        if (p->mount && fs_owed(&s->store->fs, p->client.session, 0, &ino, 1)) mount_owed(p->mount);
    }
}

/* A test that hangs in a system call on a mount could not even be killed. */
static void on_watchdog(struct timer *t)
{
    struct standin *s = t->arg;
    fprintf(stderr, "the test hangs\n");
    for (unsigned i = 0; i < s->nparties; i++) umount2(s->parties[i].point, MNT_FORCE | MNT_DETACH);
    _exit(1);
}

/* ---- calls ---- */

static uint64_t some_delay(struct standin *s) { return s->delay_us ? prng_below(&s->rng, s->delay_us + 1) * 1000 : 0; }

static void pending_free(struct pending *p)
{
    clock_disarm(&p->client->s->clock, &p->timer);
    list_remove(&p->link);
    list_remove(&p->in_order);
    if (p->call) p->call->priv = NULL;
    buf_free(&p->op);
    buf_free(&p->reply);
    free(p);
}

static void execute(struct pending *p)
{
    struct kv_client *c = p->client;
    struct standin *s = c->s;
    c->counts[p->code]++;
    p->executed = true;
    if (kv_is_change(p->code)) {
        uint64_t floor = container_of(c->changes.next, struct pending, in_order)->seq;
        apply(s, c->session, p->seq, floor, buf_slice(&p->op));
        buf_append(&p->reply, s->outcome_bytes.p + 4, s->outcome_bytes.n - 4);
    } else {
        struct kv_op op;
        check(kv_op_decode(buf_slice(&p->op), &op) == 0);
        query(s, &op, &p->reply);
    }
    if ((p->code == KV_UNLINK || p->code == KV_RENAME) && !s->owed_armed) {
        s->owed_armed = true;
        clock_arm(&s->clock, &s->owed, s->now + 5 * NS_PER_MS);
    }
}

static void answer(struct pending *p)
{
    struct kv_reply r;
    struct kv_call *call = p->call;
    check(kv_reply_decode(p->code, buf_slice(&p->reply), &r) == 0);
    p->call = NULL;
    if (call) {
        call->priv = NULL;
        call->done(call, &r);
    }
    pending_free(p);
}

static void hold(struct standin *s, struct pending *p)
{
    list_push_back(&s->held, &p->link);
    s->nheld++;
    pthread_cond_broadcast(&s->changed);
}

static void on_pending(struct timer *t)
{
    struct pending *p = t->arg;
    struct kv_client *c = p->client;
    struct standin *s = c->s;
    if (!p->executed) {
        if (s->stopped || c->hold[p->code]) return hold(s, p);
        execute(p);
        uint64_t at = s->now + some_delay(s);
        if (p->call && p->call->deadline && p->call->deadline < at) at = p->call->deadline;
        if (at > s->now) return clock_arm(&s->clock, &p->timer, at);
    }
    if (s->stopped || c->hold_reply[p->code]) return hold(s, p);
    answer(p);
}

void kv_call(struct kv_client *c, struct kv_call *call)
{
    struct standin *s = c->s;
    struct pending *p = xcalloc(1, sizeof(*p));
    p->client = c;
    p->call = call;
    p->code = call->op.code;
    list_init(&p->link);
    list_init(&p->in_order);
    kv_op_encode(&call->op, &p->op, NULL);
    p->timer = (struct timer){.fire = on_pending, .arg = p};
    call->priv = p;
    uint64_t at = s->now + some_delay(s);
    if (kv_is_change(p->code)) {
        at = c->last_exec = max_u64(at, c->last_exec);
        p->seq = c->next_seq++;
        list_push_back(&c->changes, &p->in_order);
    }
    clock_arm(&s->clock, &p->timer, at);
}

static void finish_with(struct kv_call *call, int status)
{
    struct kv_reply r = {.status = status};
    struct pending *p = call->priv;
    if (!p) return;
    p->call = NULL;
    call->priv = NULL;
    call->done(call, &r);
}

void kv_cancel(struct kv_client *c, struct kv_call *call) { finish_with(call, -EINTR); }

uint64_t kv_client_session(const struct kv_client *c) { return c->session; }

/* ---- the loop ---- */

/* Deadlines of held calls: a stopped cluster answers nothing, the client does. */
static void expire_held(struct standin *s)
{
    list_for_each_safe(l, tmp, &s->held) {
        struct pending *p = container_of(l, struct pending, link);
        if (p->call && p->call->deadline && p->call->deadline <= s->now) finish_with(p->call, -ETIMEDOUT);
    }
}

static void run_timers(struct standin *s)
{
    s->now = real_now();
    expire_held(s);
    for (struct heap_node *n; (n = heap_min(&s->timers)) && n->key <= s->now;) {
        struct timer *t = container_of(n, struct timer, node);
        heap_remove(&s->timers, n);
        t->fire(t);
    }
}

static struct timespec timeout_of(const struct standin *s)
{
    struct heap_node *n = heap_min(&s->timers);
    uint64_t now = real_now(), ns = list_empty(&s->held) ? NS_PER_S : 20 * NS_PER_MS;
    if (n) ns = n->key <= now ? 0 : min_u64(n->key - now, ns);
    return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
}

static void *loop(void *arg)
{
    struct standin *s = arg;
    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        struct pollfd fds[PARTIES + 1] = {{.fd = s->wake, .events = POLLIN}};
        unsigned who[PARTIES + 1], n = 1;
        run_timers(s);
        for (unsigned i = 0; i < s->nparties; i++) {
            if (!s->parties[i].mount || s->parties[i].gone) continue;
            who[n] = i;
            fds[n++] = (struct pollfd){.fd = mount_fd(s->parties[i].mount), .events = POLLIN};
        }
        struct timespec timeout = timeout_of(s);
        pthread_mutex_unlock(&s->lock);
        ppoll(fds, n, &timeout, NULL);
        pthread_mutex_lock(&s->lock);
        uint64_t count;
        if (fds[0].revents && read(s->wake, &count, sizeof count) < 0) check(errno == EAGAIN);
        s->now = real_now();
        for (unsigned i = 1; i < n; i++) {
            struct party *p = &s->parties[who[i]];
            if (fds[i].revents && p->mount && !mount_ready(p->mount)) p->gone = true;
        }
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static void lock(struct standin *s) { pthread_mutex_lock(&s->lock); }

static void unlock(struct standin *s)
{
    uint64_t one = 1;
    check(write(s->wake, &one, sizeof one) == sizeof one);
    pthread_mutex_unlock(&s->lock);
}

/* ---- for tests ---- */

struct standin *standin_new(uint64_t seed)
{
    if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) != 0) {
        printf("skipped: mounting needs root and /dev/fuse\n");
        return NULL;
    }
    struct standin *s = xcalloc(1, sizeof(*s));
    s->clock.ops = &clock_ops;
    s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    prng_seed(&s->rng, seed);
    list_init(&s->held);
    s->owed = (struct timer){.fire = on_owed, .arg = s};
    s->store = kv__store_new(&(struct kv__store_cb){.arg = s, .outcome = on_outcome});
    s->now = real_now();
    s->watchdog = (struct timer){.fire = on_watchdog, .arg = s};
    clock_arm(&s->clock, &s->watchdog, s->now + WATCHDOG_NS);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    check(pthread_create(&s->thread, NULL, loop, s) == 0);
    return s;
}

unsigned standin_mount(struct standin *s, const struct standin_options *o)
{
    static const struct standin_options plain;
    if (!o) o = &plain;
    lock(s);
    unsigned i = s->nparties;
    check(i < PARTIES);
    struct party *p = &s->parties[i];
    snprintf(p->point, sizeof p->point, "/tmp/qfs-standin-XXXXXX");
    check(mkdtemp(p->point) != NULL);
    p->client = (struct kv_client){.s = s, .next_seq = 1};
    list_init(&p->client.changes);
    p->client.session = open_session(s, prng_u64(&s->rng));
    struct buf why = {0};
    struct mount_options mo = {.mountpoint = p->point,
                               .allow_other = true,
                               .readonly = o->readonly,
                               .soft_timeout_ms = o->soft_timeout_ms,
                               .fsname = "a,test"};
    int err = mount_new(&s->clock, &mo, &p->mount, &why);
    if (err) fprintf(stderr, "mount: %s: %.*s\n", err_text(err), (int)why.n, why.p);
    check(err == 0);
    buf_free(&why);
    p->client.mount = p->mount;
    mount_start(p->mount, &p->client);
    s->nparties++;
    unlock(s);
    return i;
}

const char *standin_point(struct standin *s, unsigned mount) { return s->parties[mount].point; }

static void discard(struct standin *s, struct party *p)
{
    mount_free(p->mount);
    p->mount = NULL;
    unlock(s);
    rmdir(p->point);
}

void standin_begin_unmount(struct standin *s, unsigned mount)
{
    lock(s);
    mount_unmount(s->parties[mount].mount);
    unlock(s);
}

void standin_unmount(struct standin *s, unsigned mount)
{
    struct party *p = &s->parties[mount];
    standin_begin_unmount(s, mount);
    lock(s);
    while (!p->gone) pthread_cond_wait(&s->changed, &s->lock);
    discard(s, p);
}

void standin_kill(struct standin *s, unsigned mount)
{
    lock(s);
    discard(s, &s->parties[mount]);
}

unsigned standin_pending(struct standin *s, unsigned mount)
{
    lock(s);
    unsigned n = mount_pending(s->parties[mount].mount);
    unlock(s);
    return n;
}

void standin_delay(struct standin *s, uint64_t us)
{
    lock(s);
    s->delay_us = us;
    unlock(s);
}

static void let_go(struct standin *s)
{
    for (struct list *l; (l = list_pop_front(&s->held));) {
        struct pending *p = container_of(l, struct pending, link);
        clock_arm(&s->clock, &p->timer, 0);
    }
    s->nheld = 0;
}

void standin_stop(struct standin *s, bool stopped)
{
    lock(s);
    s->stopped = stopped;
    let_go(s);
    unlock(s);
}

void standin_hold(struct standin *s, unsigned mount, enum kv_code code, bool on)
{
    lock(s);
    s->parties[mount].client.hold[code] = on;
    if (!on) let_go(s);
    unlock(s);
}

void standin_hold_reply(struct standin *s, unsigned mount, enum kv_code code, bool on)
{
    lock(s);
    s->parties[mount].client.hold_reply[code] = on;
    if (!on) let_go(s);
    unlock(s);
}

void standin_calm(struct standin *s)
{
    lock(s);
    s->stopped = false;
    s->delay_us = 0;
    for (unsigned i = 0; i < s->nparties; i++) {
        memset(s->parties[i].client.hold, 0, sizeof s->parties[i].client.hold);
        memset(s->parties[i].client.hold_reply, 0, sizeof s->parties[i].client.hold_reply);
    }
    let_go(s);
    unlock(s);
}

void standin_await_held(struct standin *s, unsigned n)
{
    lock(s);
    while (s->nheld < n) pthread_cond_wait(&s->changed, &s->lock);
    unlock(s);
}

uint64_t standin_count(struct standin *s, unsigned mount, enum kv_code code)
{
    lock(s);
    uint64_t n = s->parties[mount].client.counts[code];
    unlock(s);
    return n;
}

void standin_lose_session(struct standin *s, unsigned mount)
{
    lock(s);
    struct kv_client *c = &s->parties[mount].client;
    struct buf b = {0};
    kv_op_encode(&(struct kv_op){.code = KV_SESSION_CLOSE}, &b, NULL);
    apply(s, c->session, c->next_seq, c->next_seq, buf_slice(&b));
    buf_free(&b);
    list_for_each_safe(l, tmp, &c->changes) {
        struct pending *p = container_of(l, struct pending, in_order);
        if (p->call) finish_with(p->call, QE_SESSION);
        pending_free(p);
    }
    c->session = open_session(s, prng_u64(&s->rng));
    c->next_seq = 1;
    mount_session_lost(c->mount);
    unlock(s);
}

struct fs_usage standin_usage(struct standin *s)
{
    struct fs_usage u;
    lock(s);
    fs_usage(&s->store->fs, &u);
    unlock(s);
    return u;
}

int standin_check(struct standin *s)
{
    struct buf why = {0};
    lock(s);
    int err = fs_check(&s->store->fs, &why);
    unlock(s);
    if (err) fprintf(stderr, "fs_check: %.*s\n", (int)why.n, why.p);
    buf_free(&why);
    return err;
}

int standin_change(struct standin *s, struct kv_op *op)
{
    struct buf b = {0};
    struct kv_reply r;
    lock(s);
    uint64_t session = open_session(s, prng_u64(&s->rng));
    kv_op_encode(op, &b, NULL);
    apply(s, session, 1, 1, buf_slice(&b));
    check(kv_reply_decode(op->code, slice_sub(buf_slice(&s->outcome_bytes), 4, s->outcome_bytes.n - 4), &r) == 0);
    buf_clear(&b);
    kv_op_encode(&(struct kv_op){.code = KV_SESSION_CLOSE}, &b, NULL);
    apply(s, session, 2, 2, buf_slice(&b));
    unlock(s);
    buf_free(&b);
    return r.status;
}

void standin_free(struct standin *s)
{
    for (unsigned i = 0; i < s->nparties; i++)
        if (s->parties[i].mount) standin_unmount(s, i);
    lock(s);
    s->stop = true;
    unlock(s);
    pthread_join(s->thread, NULL);
    clock_disarm(&s->clock, &s->owed);
    clock_disarm(&s->clock, &s->watchdog);
    for (struct heap_node *n; (n = heap_min(&s->timers));) pending_free(container_of(n, struct pending, timer.node));
    for (struct list *l; (l = s->held.next) != &s->held;) pending_free(container_of(l, struct pending, link));
    heap_free(&s->timers);
    for (uint64_t i = 0; i < s->nlog; i++) free((void *)(uintptr_t)s->log[i].p);
    free(s->log);
    kv__store_free(s->store);
    buf_free(&s->outcome_bytes);
    close(s->wake);
    free(s);
}
