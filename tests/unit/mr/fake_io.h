/* fake_io.h - io.h over a clock and a network in memory (tests/unit/kv/fake.h), for tests and fuzz targets that run whole
 * programs of mr/ as they are, in one process: io_loop_run() plays a script. Child processes are two pipes and a number;
 * work of pool threads is done at once and answered later. It takes the place of the library of io/. */
#ifndef QFS_TESTS_MR_FAKE_IO_H
#define QFS_TESTS_MR_FAKE_IO_H

#include "io/io.h"
#include "tests/unit/kv/fake.h"

struct io_child {
    struct list link;
    struct io_loop *loop;
    struct io_child_options o;
    pid_t pid;                          /* of no process */
    int in, out, err;                   /* the child's ends; -1: none */
    bool ending, released;
    int signum;
    int64_t status;
};

struct io_loop {
    struct fake f;
    bool stopped;
    struct list children, watches;
    unsigned children_n;                /* that there ever were */
    unsigned works;                     /* under way */
    struct {
        int signum;
        void (*fired)(void *arg, int signum);
        void *arg;
    } signals[2];
};

/* What happens once there is a loop; may be NULL. */
extern void (*fake_io_begin)(struct io_loop *l);
/* What happens while the loop runs; fake_io_run() lets time pass. */
extern void (*fake_io_play)(struct io_loop *l);
/* All that happens within ns from now, or until the loop is stopped. */
void fake_io_run(struct io_loop *l, uint64_t ns);
void fake_io_signal(struct io_loop *l, int signum);
struct io_child *fake_io_child(struct io_loop *l, unsigned n);     /* of those that live the n-th, around; NULL: none */
void fake_io_exit(struct io_child *c, int64_t status, int signum); /* soon */

#endif
