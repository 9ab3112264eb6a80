/* fuzz.h - what a fuzz target is: a function that takes any bytes and never crashes, and the inputs it begins with,
 * made by the real encoders. libFuzzer calls the first (scripts/fuzz); replay.c runs both kinds of inputs, as a unit
 * test and to write the seeds into files.
 *
 * A target reads its input as a script: bytes say what happens next and with which fields. So that the fuzzer meets the
 * code behind a checksum and not only the checksum, a target puts the right one where the script says so. */
#ifndef QFS_TESTS_FUZZ_H
#define QFS_TESTS_FUZZ_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void fuzz_seeds(void (*emit)(struct slice seed));

/* A directory for a target's files, in $TMPDIR. It is empty, and this process's for all its life; at the end
 * fuzz_dir_gone() takes it away, and scripts/fuzz does where the fuzzer has ended without. */
static char fuzz__dir[200];
static inline void fuzz_dir_gone(void)
{
    char command[sizeof fuzz__dir + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", fuzz__dir);
    (void)!system(command);
}

static inline const char *fuzz_dir(void)
{
    const char *base = getenv("TMPDIR");
    if (fuzz__dir[0]) return fuzz__dir;
    int n = snprintf(fuzz__dir, sizeof fuzz__dir, "%s/fuzz-XXXXXX", base && *base ? base : "/tmp");
    check(n < (int)sizeof fuzz__dir && mkdtemp(fuzz__dir));
    atexit(fuzz_dir_gone);
    return fuzz__dir;
}

/* Bytes of the script: a length in one byte, then so many of them, as many as there are. */
static inline struct slice fuzz_bytes(struct reader *r)
{
    size_t n = get_u8(r);
    return get_bytes(r, min_u64(n, reader_left(r)));
}

/* The same with a length in two bytes. */
static inline struct slice fuzz_many(struct reader *r)
{
    size_t n = get_u16(r);
    return get_bytes(r, min_u64(n, reader_left(r)));
}

/* Small numbers often, any number sometimes. */
static inline uint64_t fuzz_number(struct reader *r)
{
    uint8_t k = get_u8(r);
    return k < 240 ? k : k < 248 ? get_u16(r) : get_u64(r);
}

static inline void put_fuzz_number(struct buf *b, uint64_t v)
{
    if (v < 240) {
        put_u8(b, (uint8_t)v);
        return;
    }
    put_u8(b, 255);
    put_u64(b, v);
}

static inline void put_fuzz_bytes(struct buf *b, struct slice s)
{
    put_u8(b, (uint8_t)s.n);
    put_bytes(b, s);
}

/* A seed of a target whose inputs begin with a byte that says what they are. */
static inline void fuzz_emit(void (*emit)(struct slice seed), uint8_t kind, struct slice bytes)
{
    struct buf s = {0};
    put_u8(&s, kind);
    put_bytes(&s, bytes);
    emit(buf_slice(&s));
    buf_free(&s);
}

/* The same of what was gathered; *b is empty then. */
static inline void fuzz_emit_buf(void (*emit)(struct slice seed), uint8_t kind, struct buf *b)
{
    fuzz_emit(emit, kind, buf_slice(b));
    buf_clear(b);
}

/* fuzz_number() never answers these by one byte, so a script can be told from its end. */
static inline bool fuzz_more(const struct reader *r) { return !r->bad && reader_left(r) > 0; }

#endif
