/* rig.h - small helpers that the tests of kv/ share. */
#ifndef QFS_TESTS_KV_RIG_H
#define QFS_TESTS_KV_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "kv/kv.h"

static inline void random_bytes(struct prng *r, uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)prng_u64(r);
}

/* A number of random magnitude, so that short and long encodings are met. */
static inline uint64_t random_number(struct prng *r) { return prng_u64(r) >> prng_below(r, 64); }

static inline struct fs_attr random_attr(struct prng *r)
{
    return (struct fs_attr){.ino = random_number(r), .mode = (uint32_t)random_number(r),
                            .nlink = (uint32_t)random_number(r), .uid = (uint32_t)random_number(r),
                            .gid = (uint32_t)random_number(r), .rdev = random_number(r), .size = random_number(r),
                            .blocks = random_number(r), .atime = (int64_t)random_number(r),
                            .mtime = -(int64_t)(random_number(r) >> 1), .ctime = (int64_t)random_number(r),
                            .btime = (int64_t)random_number(r), .version = random_number(r),
                            .has_xattr = prng_chance(r, 50)};
}

static inline void assert_attr_equal(const struct fs_attr *a, const struct fs_attr *b)
{
    assert_int_equal(a->ino, b->ino);
    assert_int_equal(a->mode, b->mode);
    assert_int_equal(a->nlink, b->nlink);
    assert_int_equal(a->uid, b->uid);
    assert_int_equal(a->gid, b->gid);
    assert_int_equal(a->rdev, b->rdev);
    assert_int_equal(a->size, b->size);
    assert_int_equal(a->blocks, b->blocks);
    assert_true(a->atime == b->atime && a->mtime == b->mtime && a->ctime == b->ctime && a->btime == b->btime);
    assert_int_equal(a->version, b->version);
    assert_int_equal(a->has_xattr, b->has_xattr);
}

#endif
