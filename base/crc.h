/* crc.h - CRC32C (Castagnoli), by SSE4.2 where the compiler target has it at run time, else by table. */
#ifndef QFS_CRC_H
#define QFS_CRC_H

#include <stddef.h>
#include <stdint.h>

/* crc is the value of the bytes before (0 at the start), so crc32c(crc32c(0, a), b) is the CRC of a and b together. */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);

#endif
