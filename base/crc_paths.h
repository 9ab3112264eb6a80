/* crc_paths.h - the two implementations behind crc32c(), for crc.c and for the test that compares them. */
#ifndef QFS_CRC_PATHS_H
#define QFS_CRC_PATHS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint32_t crc__by_table(uint32_t crc, const void *p, size_t n);
bool crc__has_sse(void);                                         /* SSE4.2 and PCLMUL, on this machine */
uint32_t crc__by_sse(uint32_t crc, const void *p, size_t n);     /* only where crc__has_sse() */

#endif
