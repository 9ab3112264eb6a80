/* request.c - a FUSE request from its arrival to its reply, and what becomes of it when its caller gets a signal.
 *
 * The kernel reports any signal that reaches a waiting thread (INTERRUPT), also those that a program handles and
 * expects to be harmless for file operations (timers, SIGCHLD, a runtime's own). So: a thread that is about to die is
 * let go at once; for any other the operation gets HURRY_NS to complete, which it does unless the cluster is out of
 * reach, and only then fails with EINTR. That a given-up change may still happen is the contract of kv_cancel(). */
#include "mount/state.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define HURRY_NS (2 * NS_PER_S)
#define FREE_MAX 256u

/* Whether the thread is being killed: a fatal signal is pending as SIGKILL in each thread of a process. */
static bool is_dying(pid_t tid)
{
    char path[48], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", (int)tid);
    int fd = tid > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return false;
    text[n] = '\0';
    const char *at = strstr(text, "\nSigPnd:");
    return at && strtoull(at + sizeof("\nSigPnd:") - 1, NULL, 16) >> (SIGKILL - 1) & 1;
}

static void arm_hurry(struct mount *m)
{
    if (list_empty(&m->hurry)) return;
    clock_arm(m->clock, &m->hurry_timer, container_of(m->hurry.next, struct request, hurry)->hurry_at);
}

static void on_interrupt(fuse_req_t req, void *data)
{
    struct request *r = data;
    struct mount *m = r->m;
    if (!list_empty(&r->hurry)) return;
    if (is_dying(fuse_req_ctx(req)->pid)) {
        mount__cancel(r);
        return;
    }
    r->hurry_at = clock_now(m->clock) + HURRY_NS;
    list_push_back(&m->hurry, &r->hurry);
    arm_hurry(m);
}

static void on_done(struct kv_call *call, const struct kv_reply *reply)
{
    struct request *r = call->arg;
    r->finish(r, reply);
}

struct request *mount__begin(fuse_req_t req, enum kv_code code, uint64_t ino,
                             void (*finish)(struct request *r, const struct kv_reply *reply))
{
    struct mount *m = fuse_req_userdata(req);
    if (m->debug) trace_debug(m->trace, "fuse: %s of %llu", kv_code_name(code), (unsigned long long)ino);
    if (fuse_req_interrupted(req)) {
        mount__answer_err(req, -EINTR);
        return NULL;
    }
    struct list *l = list_pop_front(&m->free);
    struct request *r = l ? container_of(l, struct request, link) : xmalloc(sizeof(*r));
    if (l) m->nfree--;
    *r = (struct request){.m = m, .req = req, .finish = finish, .call.op = {.code = code, .ino = ino}};
    list_push_back(&m->active, &r->link);
    list_init(&r->parked);
    list_init(&r->hurry);
    list_init(&r->creating);
    m->nactive++;
    fuse_req_interrupt_func(req, on_interrupt, r);
    return r;
}

void mount__end(struct request *r)
{
    struct mount *m = r->m;
    check(list_empty(&r->parked) && list_empty(&r->creating));
    list_remove(&r->link);
    list_remove(&r->hurry);
    m->nactive--;
    if (m->nfree >= FREE_MAX) {
        free(r);
        return;
    }
    list_push_front(&m->free, &r->link);
    m->nfree++;
}

static void on_hurry(struct timer *t)
{
    struct mount *m = t->arg;
    uint64_t now = clock_now(m->clock);
    while (!list_empty(&m->hurry)) {
        struct request *r = container_of(m->hurry.next, struct request, hurry);
        if (r->hurry_at > now) break;
        list_remove(&r->hurry);
        mount__cancel(r);
    }
    arm_hurry(m);
}

void mount__send(struct request *r)
{
    struct mount *m = r->m;
    r->phase = REQUEST_CALL;
    r->call.done = on_done;
    r->call.arg = r;
    r->call.deadline = m->soft_timeout_ms ? clock_now(m->clock) + m->soft_timeout_ms * NS_PER_MS : 0;
    kv_call(m->client, &r->call);
}

void mount__park(struct request *r, struct list *where)
{
    r->phase = REQUEST_PARKED;
    list_push_back(where, &r->parked);
}

void mount__cancel(struct request *r)
{
    const struct kv_reply gone = {.status = -EINTR};
    switch (r->phase) {
    case REQUEST_CALL: kv_cancel(r->m->client, &r->call); break;
    case REQUEST_PARKED:
        list_remove(&r->parked);
        r->finish(r, &gone);
        break;
    case REQUEST_NOTICE: mount__notify_abandon(r); break;
    }
}

void mount__requests_init(struct mount *m)
{
    list_init(&m->active);
    list_init(&m->free);
    list_init(&m->parked);
    list_init(&m->hurry);
    list_init(&m->creates);
    list_init(&m->dirs);
    m->hurry_timer = (struct timer){.fire = on_hurry, .arg = m};
}

void mount__requests_free(struct mount *m)
{
    check(m->nactive == 0);
    clock_disarm(m->clock, &m->hurry_timer);
    for (struct list *l; (l = list_pop_front(&m->free));) free(container_of(l, struct request, link));
}
