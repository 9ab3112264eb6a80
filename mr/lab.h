/* lab.h - the lab's mode (MIT 6.824, lab 1): the lab's files, the lab's calls, our scheduler and executor.
 *
 * Files, in the job's directory, which master and workers share:
 *
 *   mrtmp.JOB-M-R     what map task M has for reduce task R: all are made, empty ones, too
 *   mrtmp.JOB-res-R   the result of reduce task R
 *   mrtmp.JOB         all results, one line "key: value" a key, in byte order of the keys
 *
 * R of a key: FNV-1a, 32 bits, masked to 31, mod the number of reduce tasks. All but the last are streams of JSON
 * objects {"Key": ..., "Value": ...}, which carry UTF-8; other bytes are refused. Each appears by a rename when it is
 * whole. */
#ifndef QFS_MR_LAB_H
#define QFS_MR_LAB_H

#include "mr/task.h"

/* ---- objects (lab_json.c) ---- */

/* Appends an object and a LF. False: key or value is no UTF-8. */
bool mr__lab_put(struct buf *b, struct slice key, struct slice value);
/* Takes the next object off `in`. 1, 0 at the end, or -EBADMSG. `key` and `value` are overwritten. */
int mr__lab_get(struct slice *in, struct buf *key, struct buf *value);

/* ---- tasks (lab_task.c) ---- */

char *mr__lab_map_file(const struct job *j, uint32_t m, uint32_t r);   /* free() them */
char *mr__lab_result_file(const struct job *j, uint32_t r);
char *mr__lab_merged_file(const struct job *j);
/* From a map task's run file to its files of the lab. */
int mr__lab_spread(const struct job *j, uint32_t m, const char *run, const char *dir, struct buf *why);
int mr__lab_reduce(const struct job *j, const struct program *p, const struct program_context *c, uint32_t r,
                   const char *dir, struct buf *why);
int mr__lab_merge(const struct job *j, const char *dir, struct buf *why);

/* ---- a job of the lab (lab_run.c) ---- */

struct lab {
    const struct mr_lab_options *o;
    struct job job;
    char *dir;                         /* ours, for scratch files */
    int lock;
    struct buf why;
};
int mr__lab_begin(const struct mr_lab_options *o, struct lab *l);
void mr__lab_map_task(const struct lab *l, uint32_t m, struct task *out);      /* -errno's come when it runs */
/* Says `why` if rc is an error, frees, and returns an exit code. */
int mr__lab_end(struct lab *l, int rc);

#endif
