/* msg.h - what the processes of a job say to each other.
 *
 * Between coordinator and worker, and between workers, frames of base/frame.h with these types and payloads (text: u16
 * length, bytes). A peer that sends anything else is disconnected. Between a worker and its executor the pipes carry
 * messages of u32 length, u8 type, payload. */
#ifndef QFS_MR_MSG_H
#define QFS_MR_MSG_H

#include "base/base.h"

#define MR_PROTOCOL 3u

enum mr__msg {
    MR_HELLO = 128,      /* worker: u32 MR_PROTOCOL, u32 pid, text host, text directory, text address to fetch from
                          * (":port": at the address the connection comes from), text id of the job that it has
                          * worked on, or nothing (no text is longer than a path); then it says what it has, by */
    MR_WELCOME = 129,    /* coordinator: the job (job.c) */
    MR_REFUSED = 130,    /* coordinator: text; then it closes */
    MR_TASK_MAP = 131,   /* coordinator: a map task (taskmsg.c) */
    MR_TASK_REDUCE = 132,/* coordinator: u32 number, u32 attempt, u32 directories, each: text host, text path, text
                          * address of the worker that serves it; u32 map tasks, each: u32 index of the directory with
                          * its output, u32 attempt */
    MR_CANCEL = 133,     /* coordinator: u8 phase, u32 number, u32 attempt: end it, no result is wanted */
    MR_BYE = 134,        /* coordinator: the job is over */
    MR_BEAT = 135,       /* worker: u64 bytes of input read since the last, u64 bytes that the reduce task at hand has to
                          * read (0: not known); the coordinator answers with an empty one */
    MR_RESULT = 136,     /* worker: a result (taskmsg.c) */
    MR_HELD = 137,       /* worker: text directory, the result of a map task whose output it has there: one that it has
                          * done for an earlier coordinator, or taken over from a dead worker */
    MR_ADOPT = 138,      /* coordinator: text directory: its worker is gone, take it over if that is dead. The answer is
                          * what is there (MR_HELD), and then */
    MR_ADOPTED = 139,    /* worker: text directory: that was all, or nothing */
    MR_FETCH = 140,      /* worker to worker: text job, u32 map task, u32 attempt, u32 partitions, u32 partition */
    MR_DATA = 141,       /* the answer: blocks of the partition, in pieces, then */
    MR_DATA_END = 142,   /* u32 error (0: that was all), u64 bytes */
    /* The lab's calls (lab.h): one connection a call, whoever dials asks. */
    MR_LAB_REGISTER = 160,   /* worker to master: text, its address; answer: */
    MR_LAB_REGISTERED = 161, /* nothing */
    MR_LAB_TASK = 162,       /* master to worker: u32 length and job, then the task; answer: MR_RESULT or MR_REFUSED */
    MR_LAB_SHUTDOWN = 163,   /* master to worker; answer: */
    MR_LAB_TASKS = 164,      /* u32 tasks that it has begun */
};

enum mr__exec {
    MR_EXEC_JOB = 1,     /* to the executor: u32 length and directory, then the job */
    MR_EXEC_TASK = 2,    /* to it: a task */
    MR_EXEC_TOUCH = 3,   /* from it: u64 bytes of input read since the last: it makes progress */
    MR_EXEC_RESULT = 4,  /* from it: the result of the task */
    MR_EXEC_WEIGHT = 5,  /* from it: u64 bytes that the reduce task has to read */
};

#define MR_EXEC_MAX (64u * MIB)
int mr__exec_send(int fd, uint8_t type, struct slice payload);     /* blocks */

#endif
