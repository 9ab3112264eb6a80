/* environ.h - what a command finds in its environment about the job and the task. */
#ifndef QFS_MR_ENVIRON_H
#define QFS_MR_ENVIRON_H

#include "mr/program.h"

struct environment {
    char **v;                          /* "NAME=value", NULL at the end */
    size_t n;
};

/* The job's parameters, MR_JOB, MR_TASK, MR_ATTEMPT. */
void mr__environment(const struct program_context *c, struct environment *e);
__attribute__((format(printf, 2, 3))) void mr__environment_add(struct environment *e, const char *format, ...);
void mr__environment_free(struct environment *e);

#endif
