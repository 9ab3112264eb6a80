/* check.h - assertions that stay on in release. check() is for what this program controls; bytes from the wire, the
 * disk or a user are never checked this way, they are validated and answered with an error. */
#ifndef QFS_CHECK_H
#define QFS_CHECK_H

#include <stddef.h>

/* Says what failed and where, then aborts: a crash is recoverable here, a wrong commit is not. */
__attribute__((noreturn, cold)) void check_failed(const char *what, const char *file, int line);

#define check(cond) ((cond) ? (void)0 : check_failed(#cond, __FILE__, __LINE__))

/* Allocation that cannot fail: out of memory stops the process (crash-only, the peers go on). The caller frees with
 * free(). xcalloc gives zeroed memory. */
__attribute__((malloc, returns_nonnull)) void *xmalloc(size_t n);
__attribute__((malloc, returns_nonnull)) void *xcalloc(size_t count, size_t size);
__attribute__((returns_nonnull)) void *xrealloc(void *p, size_t n);

#endif
