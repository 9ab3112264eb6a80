/* standin.h - real mounts over the real store, without a cluster: one process, one loop thread, and kv_call() of
 * kv/kv.h made anew, so that a test can delay, hold and reorder answers, stop the "cluster" and lose sessions. The
 * test's own thread makes the system calls. */
#ifndef QFS_TEST_STANDIN_H
#define QFS_TEST_STANDIN_H

#include "kv/store.h"
#include "mount/mount.h"

struct standin;

/* NULL (with a message) where mounting is not possible: the caller skips. After 200 s the process ends, and the mounts
 * with it. */
struct standin *standin_new(uint64_t seed);
void standin_free(struct standin *s);                   /* unmounts all */

struct standin_options {
    bool readonly;
    uint64_t soft_timeout_ms;
};
/* Mounts on a new temporary directory; returns its number (0, 1, ...). */
unsigned standin_mount(struct standin *s, const struct standin_options *o);
const char *standin_point(struct standin *s, unsigned mount);
void standin_unmount(struct standin *s, unsigned mount);        /* cleanly, waits */
void standin_begin_unmount(struct standin *s, unsigned mount);
void standin_kill(struct standin *s, unsigned mount);           /* mount_free() as it is */
unsigned standin_pending(struct standin *s, unsigned mount);

/* Each call takes 0 .. us to arrive and 0 .. us to be answered; changes of one client keep their order. */
void standin_delay(struct standin *s, uint64_t us);
/* Stopped: nothing is executed or answered. */
void standin_stop(struct standin *s, bool stopped);
/* Calls of this code of one mount wait before they are executed (`hold`), or their answers wait (`hold_reply`), until
 * they are let go. */
void standin_hold(struct standin *s, unsigned mount, enum kv_code code, bool hold);
void standin_hold_reply(struct standin *s, unsigned mount, enum kv_code code, bool hold);
/* Ends all of that, after a test that may have failed half-way. */
void standin_calm(struct standin *s);
/* Waits until so many calls are held. */
void standin_await_held(struct standin *s, unsigned n);
/* Calls executed so far with this code, by this mount. */
uint64_t standin_count(struct standin *s, unsigned mount, enum kv_code code);
void standin_lose_session(struct standin *s, unsigned mount);
struct fs_usage standin_usage(struct standin *s);
/* 0, or the contradiction is printed. */
int standin_check(struct standin *s);
/* Executes a change of no mount: what a key/value client would do. */
int standin_change(struct standin *s, struct kv_op *op);

#endif
