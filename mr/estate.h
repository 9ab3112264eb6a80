/* estate.h - the list of finished map outputs in a worker's directory, by which another worker of the job can take over
 * what is there when its maker has died. What is not in the list, or is not whole, does not count.
 *
 * A file "outputs": records as in the journal (u32 length, u32 CRC32C, body); the first body is the job's id, each other
 * one the result of a map task (taskmsg.c). Its end may be torn. Nothing is synced: it has to survive processes only. */
#ifndef QFS_MR_ESTATE_H
#define QFS_MR_ESTATE_H

#include "mr/task.h"

#define MR_ESTATE_NAME "outputs"

int mr__estate_begin(const char *dir, const char *job);            /* a descriptor, or -errno */
int mr__estate_add(int fd, const struct buf *result);
bool mr__estate_is_of(const char *dir, const char *job);           /* there is a list, and it is of that job */
bool mr__estate_is_empty(const char *dir);                         /* it names no output, or there is none */
/* Hands out the results whose outputs, of `parts` partitions, are there and not cut. */
void mr__estate_read(const char *dir, const char *job, uint32_t parts, void (*each)(void *arg, const struct task_result *r),
                     void *arg);
/* Removes its maker's scratch files. */
void mr__estate_tidy(const char *dir);

#endif
