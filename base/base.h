/* base.h - the one door of base/: bytes, checksums, containers, errors and the three doors to the outside world.
 * Everything in base/ is pure: no clock, no system call, no global mutable state. */
#ifndef QFS_BASE_H
#define QFS_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"
#include "base/err.h"
#include "base/list.h"
#include "base/buf.h"
#include "base/cursor.h"
#include "base/crc.h"
#include "base/hash.h"
#include "base/prng.h"
#include "base/heap.h"
#include "base/omap.h"
#include "base/frame.h"
#include "base/trace.h"
#include "base/doors.h"

#define KIB 1024u
#define MIB (1024u * 1024u)
#define NS_PER_US 1000ull
#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }

#endif
