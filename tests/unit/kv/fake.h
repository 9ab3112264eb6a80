/* fake.h - a clock and a network in memory, for the tests of kv/. Time moves only from event to event; nothing
 * depends on the machine's speed. Connections deliver in order after a delay; ends can stand still (frozen),
 * addresses can refuse. */
#ifndef QFS_TESTS_KV_FAKE_H
#define QFS_TESTS_KV_FAKE_H

#include "base/base.h"

struct fake_listener {
    char addr[64];
    bool up;                    /* false: dialling is refused */
    bool silent;                /* dialling gets no answer at all */
    void (*accept)(void *arg, struct conn *c);
    void *arg;
};

struct fake_event {
    struct heap_node node;
    void (*fire)(void *arg);
    void *arg;
};

struct fake {
    struct clock clock;
    struct net net;
    uint64_t now;
    int64_t wall_skew;          /* wall = now + skew */
    struct heap timers, events;
    struct prng rng;
    uint64_t delay_min, delay_max;
    struct fake_listener listeners[8];
    unsigned nlisteners;
    struct list conns;
    uint64_t frames, dials;
};

void fake_init(struct fake *f, uint64_t seed);
void fake_free(struct fake *f);                     /* open connections must have been closed by their users */
struct fake_listener *fake_listener(struct fake *f, const char *addr);      /* NULL: none */
/* Calls fire(arg) after `delay`. */
void fake_later(struct fake *f, uint64_t delay, void (*fire)(void *arg), void *arg);
bool fake_step(struct fake *f);                     /* the next event or timer; false: there is none */
void fake_run(struct fake *f, uint64_t ns);         /* all that happens within ns from now */
bool fake_until(struct fake *f, bool (*cond)(void *arg), void *arg, uint64_t ns);

/* The far end of c does not take frames (they pile up, as with a stopped process) until thawed. */
void fake_freeze(struct conn *c, bool on);
void fake_freeze_addr(struct fake *f, const char *addr, bool on);   /* all connections accepted at addr, and new ones */
void fake_cut(struct conn *c);                      /* both ends learn that it broke; what is under way is lost */
void fake_cut_addr(struct fake *f, const char *addr);
void fake_close_all(struct fake *f, int err);        /* each end learns of err */
void fake_cut_some(struct fake *f, const char *addr, unsigned percent);
unsigned fake_conns_at(struct fake *f, const char *addr);           /* open ones */

#endif
