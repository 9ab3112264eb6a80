/* replay.c - runs a fuzz target without the fuzzer: over its own seeds, and over the files and directories named, which
 * is where inputs that once found something are kept (tests/fuzz/regress). --seeds DIR writes the seeds there instead.
 */
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"

static const char *seed_dir;
static unsigned ran;

static void run(const char *name, struct slice in)
{
    uint8_t *exact = xmalloc(in.n); /* of its very size, so that a sanitizer sees a read beyond it */
    if (in.n) memcpy(exact, in.p, in.n);
    fprintf(stderr, "%s\n", name);
    LLVMFuzzerTestOneInput(exact, in.n);
    free(exact);
    ran++;
}

static void on_seed(struct slice in)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/seed-%03u", seed_dir ? seed_dir : "", ran);
    if (!seed_dir) {
        run(path + 1, in);
        return;
    }
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(in.p, 1, in.n, f) != in.n || fclose(f)) {
        perror(path);
        exit(1);
    }
    ran++;
}

static void run_file(const char *path)
{
    struct buf b = {0};
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        exit(1);
    }
    for (size_t n = 1; n;) {
        uint8_t *p = buf_extend(&b, 65536);
        n = fread(p, 1, 65536, f);
        b.n -= 65536 - n;
    }
    fclose(f);
    run(path, buf_slice(&b));
    buf_free(&b);
}

static void run_path(const char *path)
{
    struct dirent **v;
    struct stat st;
    if (stat(path, &st)) return; /* nothing was ever found */
    if (!S_ISDIR(st.st_mode)) {
        run_file(path);
        return;
    }
    int n = scandir(path, &v, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char full[4096];
        snprintf(full, sizeof full, "%s/%s", path, v[i]->d_name);
        if (v[i]->d_name[0] != '.') run_file(full);
        free(v[i]);
    }
    if (n >= 0) free(v);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0) seed_dir = argv[2];
    fuzz_seeds(on_seed);
    for (int i = 1; i < argc && !seed_dir; i++) run_path(argv[i]);
    fprintf(stderr, "%u inputs\n", ran);
    return ran ? 0 : 1;
}
