/* face.h - the files in a job's directory that people look at: texts of what the coordinator knows. */
#ifndef QFS_MR_FACE_H
#define QFS_MR_FACE_H

#include "mr/coord.h"

/* A line a task: phase, number, state, attempts, and what it reads. Of a phase with very many, only those that run or
 * have failed, and how many others there are in which state: it is written with each heartbeat. */
void mr__face_tasks(const struct run *r, const struct sched *s, struct buf *b);
/* The keys with the most values, of the reduce tasks that are done. */
void mr__face_heaviest(const struct run *r, struct buf *b);
/* Of the tasks that are done, as in the output's _counters. */
void mr__face_counters(const struct run *r, struct buf *b);

#endif
