/* chain.c - jobs one after the other (mr_chain()).
 *
 *   .OUT.chain-ID/owner            this process (owner.h)
 *   .OUT.chain-ID/stage-1 ...      the outputs of all jobs but the last, as whole as any output
 *
 * A job reads its predecessor's directory, which goes when it is done. If a job fails, what it has read stays, so that it
 * can be looked at and the job gone on with, until the next chain with that output. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "io/io.h"
#include "mr/mr.h"
#include "mr/output.h"
#include "mr/owner.h"
#include "mr/util.h"

#define OWNER_MAX 4096u

static char *stage_path(const char *dir, size_t i) { return mr__strf("%s/stage-%zu", dir, i + 1); }

/* Removes what a chain whose process is dead has left, if `dir` is such. */
static void sweep_one(const char *dir)
{
    char *path = mr__strf("%s/owner", dir);
    struct buf owner = {0};
    if (mr__read_file(path, OWNER_MAX, &owner) == 0) {
        put_u8(&owner, 0);
        if (mr__owner_dead((const char *)owner.p)) mr__rmtree(dir);
    }
    buf_free(&owner);
    free(path);
}

static void sweep(const char *parent, const char *prefix)
{
    DIR *d = opendir(parent);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strncmp(e->d_name, prefix, strlen(prefix)) != 0) continue;
        char *dir = mr__strf("%s/%s", parent, e->d_name);
        sweep_one(dir);
        free(dir);
    }
    if (d) closedir(d);
}

/* The directory for what lies between, beside the output. NULL: it is told why. */
static char *make_dir(const char *output)
{
    char *path = mr__absolute(output);
    for (size_t n = strlen(path); n > 1 && path[n - 1] == '/';) path[--n] = 0;
    char *slash = strrchr(path, '/'), *parent = mr__strf("%.*s/", (int)(slash - path), path);
    char *prefix = mr__strf(".%s.chain-", slash + 1);
    char *dir = mr__strf("%s%s%08x", parent, prefix, (unsigned)io_random());
    char *owner = mr__owner_text();

    sweep(parent, prefix);
    int rc = mkdir(dir, 0777) < 0 ? -errno : mr__write_file(dir, "owner", slice_str(owner), false);
    if (rc < 0) {
        mr__say("cannot make the directory %s: %s", dir, err_text(rc));
        free(dir);
        dir = NULL;
    }
    free(owner);
    free(prefix);
    free(parent);
    free(path);
    return dir;
}

static int run_stage(const struct mr_options *v, size_t i, size_t n, const char *dir)
{
    char *in = i ? stage_path(dir, i - 1) : NULL, *out = i + 1 < n ? stage_path(dir, i) : NULL, *rerun = NULL;
    const char *inputs[] = {in};
    struct mr_options o = v[i];
    struct buf words = {0};

    if (in) {
        o.inputs = inputs;
        o.inputs_n = 1;
        mr__fmt(&words, "%s --input ", o.rerun ? o.rerun : "");
        mr__quote(&words, in);
        rerun = mr__str(buf_slice(&words));
        o.rerun = rerun;
    }
    if (out) {
        o.output = out;
        o.replace = false;
    }
    int code = mr_run(&o);
    if (code == MR_EXIT_OK && in) mr__rmtree(in);
    if (code != MR_EXIT_OK && in)
        mr__say("that was job %zu of %zu; its input is kept in %s until the next chain with this output", i + 1, n, in);
    buf_free(&words);
    free(rerun);
    free(in);
    free(out);
    return code;
}

int mr_chain(const struct mr_options *v, size_t n)
{
    struct buf why = {0};
    int code = MR_EXIT_FAILED;
    size_t i = 0;

    if (n == 1) return mr_run(v);
    check(n > 1);
    /* Before hours of work, not after them. */
    if (mr__output_check(v[n - 1].output, v[n - 1].replace, &why) < 0) {
        mr__say("%.*s", (int)why.n, why.p);
        buf_free(&why);
        return MR_EXIT_FAILED;
    }
    char *dir = make_dir(v[n - 1].output);
    if (dir)
        for (code = MR_EXIT_OK; i < n && code == MR_EXIT_OK; i++) code = run_stage(v, i, n, dir);
    if (dir && code == MR_EXIT_OK) mr__rmtree(dir);
    free(dir);
    return code;
}
