/* spin.h - whether a loop without work looks again or sleeps. Private to io/.
 *
 * To wake a sleeping processor takes 30-40 us, longer than a small request. So after an event the loop polls without
 * waiting until IO_SPIN_NS have passed without another, and yields the processor each time round. A spin in vain is paid
 * back: the next 1, 2, 4 ... IO_SPIN_SKIP_MAX waits sleep at once; one that meets an event pays for all. So a loop whose
 * events are far apart sleeps. The idea is that of KVM's halt polling (the kernel's Documentation/virt/kvm/halt-polling.rst),
 * which makes the spin longer and shorter, where here the waits without one become more and fewer. */
#ifndef QFS_IO_SPIN_H
#define QFS_IO_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#define IO_SPIN_NS 200000u
#define IO_SPIN_SKIP_MAX 256u

/* All zero: at rest. */
struct io__spin {
    uint64_t events; /* as many had come when it was asked last */
    uint64_t until;  /* while on: when it is in vain */
    bool on;
    unsigned skip;   /* waits to sleep through at once before the next spin */
    unsigned skipped;
};

/* Asked whenever the loop would wait, with the number of events that have come to it so far, and the time (ns, any
 * clock that does not go back). True: poll without waiting, and ask again. False: sleep. */
bool io__spin(struct io__spin *s, uint64_t events, uint64_t now);

#endif
