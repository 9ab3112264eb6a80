/* helper.h - what the tests of io/ share: a watchdog, a temporary directory, running the loop until something holds. */
#ifndef QFS_TEST_IO_HELPER_H
#define QFS_TEST_IO_HELPER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "io/io.h"

/* A test that hangs ends here rather than with the whole suite's time limit. */
#define WATCHDOG_S 120

__attribute__((unused)) static void make_dir(char out[64])
{
    snprintf(out, 64, "/tmp/qfs-io-XXXXXX");
    assert_non_null(mkdtemp(out));
}

__attribute__((unused)) static void remove_tree(const char *dir)
{
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (e->d_type == DT_DIR) {
            char sub[600];
            snprintf(sub, sizeof(sub), "%s/%s", dir, e->d_name);
            remove_tree(sub);
        } else {
            assert_int_equal(unlinkat(dirfd(d), e->d_name, 0), 0);
        }
    }
    closedir(d);
    assert_int_equal(rmdir(dir), 0);
}

__attribute__((unused)) static void fill(uint8_t *p, size_t n, uint64_t seed)
{
    struct prng r;
    prng_seed(&r, seed);
    for (size_t i = 0; i < n; i += 8) {
        uint64_t v = prng_u64(&r);
        memcpy(p + i, &v, n - i < 8 ? n - i : 8);
    }
}

/* Callbacks that change what a test waits for stop the loop; the test looks and runs on. */
#define run_until(loop, cond)                                                                                          \
    do {                                                                                                               \
        while (!(cond)) io_loop_run(loop);                                                                             \
    } while (0)

#endif
